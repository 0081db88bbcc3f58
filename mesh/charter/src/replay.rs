//! Computes the state from the set of pieces. [section 5 of docs/charter.md]

mod course;
mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_keys::{Cosigned, DeviceId, MemberId, ObjectHash};

pub(super) use course::{Course, replay};
pub use judge::Denial;

use self::course::{Act, Target};
use super::{
    certificates::Certificates,
    content::{Capabilities, Change, Place, Rank},
    operation::{Cut, Operation},
    room::Room,
    root::{RootDocument, Roots},
    state::{DeviceEntry, State},
};

/// Everything on which the outcome depends.
pub(super) struct Pieces<'a> {
    pub(super) roots: &'a Roots,
    pub(super) certificates: &'a Certificates,
    /// What the checkpoint before the newest has settled.
    pub(super) base: &'a State,
    pub(super) operations: &'a [Arc<Taken>],
    /// The index of each operation in `operations`.
    pub(super) index: &'a BTreeMap<ObjectHash, usize>,
}

/// An operation whose dependencies are all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) signed: Cosigned<Operation>,
    pub(super) hash: ObjectHash,
    pub(super) member: MemberId,
    /// Whether its author is the member's recovery key.
    pub(super) recovers: bool,
    /// The indices of the parents and of the author's previous operation; those that a checkpoint
    /// has settled are left out.
    pub(super) parents: Vec<usize>,
    /// 0 if the newest checkpoint covers it, 1 if none does.
    pub(super) segment: u8,
    /// Bytes of its encoding.
    pub(super) length: u32,
    /// The units that its author has left.
    pub(super) room: Room,
}

impl Taken {
    pub(super) fn operation(&self) -> &Operation {
        self.signed.unverified()
    }

    /// Whether it adds or retires devices. [CHARTER-3.5]
    pub(super) fn is_about_devices(&self) -> bool {
        let mut changes = self.operation().changes.iter();
        changes.any(|it| matches!(it, Change::AddDevice { .. } | Change::RetireDevice { .. }))
    }

    pub(super) fn position(&self) -> Position {
        (self.segment, self.operation().lamport)
    }
}

/// The place of operations in the order; several at one position are ordered by level and hash.
/// [CHARTER-5.4]
pub(super) type Position = (u8, u64);

/// The level of an operation: 0 for the root keys, otherwise the rank of its author. [CHARTER-5.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub u16);

impl Level {
    pub(super) fn of(rank: Rank) -> Self {
        Self(rank.0.into())
    }
}

/// What has become of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is void, for this reason.
    Void(VoidReason),
    /// It stands, at this level; each of its changes was done or denied.
    Judged(Level, Arc<[Result<(), Denial>]>),
}

/// Why an operation is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VoidReason {
    /// Its author has made two operations of one number. [CHARTER-4.4]
    Equivocation,
    /// Somebody of higher rank, or its own member, has cut it off. [CHARTER-5.2] [CHARTER-3.21]
    Cut,
    /// It is of a term that has not begun. [CHARTER-5.3]
    Term,
    /// Its author is not a device of the member. [CHARTER-4.7]
    NotDevice,
    /// The author's certificate is not good. [CHARTER-3.2]
    NotMember,
}

impl VoidReason {
    /// The reason in words, for users.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Equivocation => "its author signed two operations of one number",
            Self::Cut => "made after what the author was cut off at",
            Self::Term => "of a term that has not begun",
            Self::NotDevice => "its author is no device of the member",
            Self::NotMember => "its author does not belong",
        }
    }
}

/// The author of a change, the level, and the source.
#[derive(Clone, Copy, Debug)]
struct Author {
    level: Level,
    member: MemberId,
    /// The operation or the first root document.
    source: ObjectHash,
    /// The operation's index; `None` for the root document.
    index: Option<usize>,
}

/// One pass over the operations in order, in which the later wins. [CHARTER-5.9]
struct Run<'a> {
    pieces: &'a Pieces<'a>,
    course: Course,
}

impl Run<'_> {
    fn apply(&mut self, index: usize, standing: Result<Level, VoidReason>) {
        let pieces = self.pieces;
        let taken = &pieces.operations[index];
        self.course.order.push(index);
        let level = match standing {
            Ok(level) => level,
            Err(reason) => {
                self.course.verdicts.push(Verdict::Void(reason));
                return;
            }
        };
        let operation = taken.operation();
        let recovers = taken.recovers;
        let cuts = operation.cuts.iter().enumerate();
        for (at, cut) in cuts.filter(|_| !recovers || level == Level(0)) {
            let rank = self.course.state.rank(cut.member, Place::Organisation);
            let against = Target::Member(cut.member);
            if level < Level::of(rank) && self.earlier_terms_ended(cut, operation.lamport) {
                self.course.acts.push(Act { index, level, against, cut: Some(at) });
                if self.course.shield.contains(&(index, against)) {
                    continue;
                }
                let here = self.course.ended.entry((cut.member, cut.term)).or_insert(u64::MAX);
                *here = operation.lamport.min(*here);
            }
        }
        let (member, source) = (taken.member, taken.hash);
        let by = Author { level, member, source, index: Some(index) };
        let judged = operation.changes.iter().map(|change| {
            let devices = matches!(change, Change::AddDevice { .. } | Change::RetireDevice { .. });
            // [CHARTER-3.4] A recovery key makes only device changes.
            if recovers && level != Level(0) && !devices {
                return Err(Denial::Recovery);
            }
            self.judge(by, change)
        });
        let judged = judged.collect();
        self.course.verdicts.push(Verdict::Judged(level, judged));
    }

    /// [CHARTER-5.21] Terms are ended one after the other.
    fn earlier_terms_ended(&self, cut: &Cut, lamport: u64) -> bool {
        let Some(before) = cut.term.checked_sub(1) else { return true };
        let before = (cut.member, before);
        self.course.state.ended.get(&before).is_some_and(|ended| ended.lamport < lamport)
            || self.course.ended.get(&before).is_some_and(|ended| *ended < lamport)
    }

    /// The level of an operation, by what holds before it, or why it is void. [CHARTER-4.7]
    /// [CHARTER-5.1]
    fn standing(&self, index: usize) -> Result<Level, VoidReason> {
        let taken = &self.pieces.operations[index];
        let operation = taken.operation();
        let (author, term) = (operation.author, operation.term);
        if self
            .course
            .state
            .frozen
            .get(&(author, term))
            .is_some_and(|from| *from <= operation.sequence)
        {
            return Err(VoidReason::Equivocation);
        }
        self.author(index)?;
        let level = self.level(index);
        if let Some(ended) = self.course.state.ended.get(&(taken.member, term))
            && ended.voids(author, operation.sequence, level.0)
        {
            return Err(VoidReason::Cut);
        }
        if let Some(before) = term.checked_sub(1) {
            let begun = self.course.state.ended.get(&(taken.member, before)).is_some_and(|ended| {
                ended.lamport < operation.lamport && ended.root <= operation.root
            });
            if !begun {
                return Err(VoidReason::Term);
            }
        }
        Ok(level)
    }

    /// Checks that the author may sign for the member whose certificate it names.
    fn author(&self, index: usize) -> Result<(), VoidReason> {
        let taken = &self.pieces.operations[index];
        let operation = taken.operation();
        let author = operation.author;
        let Some(known) = self.pieces.certificates.known(&operation.certificate) else {
            // A root key that acts by itself.
            return if self.acts_as_root(taken, author) {
                Ok(())
            } else {
                Err(VoidReason::NotMember)
            };
        };
        match self.device(taken.member, author) {
            None if known.certificate().names(author) => {}
            None => return Err(VoidReason::NotDevice),
            Some(entry) => {
                if entry.seniority.lamport() >= operation.lamport {
                    return Err(VoidReason::NotDevice);
                }
                let number = (operation.term, operation.sequence);
                if entry.retired.is_some_and(|retired| number > retired.last) {
                    return Err(VoidReason::Cut);
                }
            }
        }
        let (certificates, roots) = (self.pieces.certificates, self.pieces.roots);
        if certificates.is_known_good(&operation.certificate, known, &self.course.state, roots) {
            Ok(())
        } else {
            Err(VoidReason::NotMember)
        }
    }

    fn device(&self, member: MemberId, key: DeviceId) -> Option<&DeviceEntry> {
        self.course.state.devices.get(&member)?.get(&key)
    }

    /// [CHARTER-2.5] [CHARTER-4.5]
    fn acts_as_root(&self, taken: &Taken, key: DeviceId) -> bool {
        let root = taken.operation().root;
        self.pieces.roots.acts(root, key, |document| listed_by(document, taken))
    }

    fn level(&self, index: usize) -> Level {
        let taken = &self.pieces.operations[index];
        let operation = taken.operation();
        if let Some(root) = self.pieces.roots.version(operation.root)
            && root.keys.contains(operation.author)
        {
            let signers = taken.signed.signers().filter(|key| self.acts_as_root(taken, *key));
            if self.acts_as_root(taken, operation.author)
                && signers.count() >= usize::from(root.threshold)
            {
                return Level(0);
            }
        }
        Level::of(self.course.state.rank(taken.member, Place::Organisation))
    }

    /// Whether an act meets somebody who stands as high by an operation that did not know the act.
    /// [CHARTER-5.11] [CHARTER-5.20]
    fn is_shielded(&self, act: &Act) -> bool {
        if act.level == Level(0) {
            return false;
        }
        let author = self.pieces.operations[act.index].member;
        match act.against {
            Target::Member(member) => self.stands_apart(member, act),
            Target::Role(role) => {
                let holders =
                    self.course.state.holders_everywhere(role).filter(|member| *member != author);
                let mut given = self.course.given.iter().filter(|(member, given, by)| {
                    let apart = *by != act.index && !self.knows(*by, act.index);
                    *given == role && *member != author && apart
                });
                holders.into_iter().any(|member| self.stands_apart(member, act))
                    || given.any(|(member, ..)| self.stands_as_high(*member, act.level))
            }
        }
    }

    fn stands_as_high(&self, member: MemberId, level: Level) -> bool {
        Level::of(self.course.state.rank(member, Place::Organisation)) <= level
    }

    /// Whether `member` has a role everywhere that lifts it as high as `act`, by an operation that
    /// did not know the act.
    fn stands_apart(&self, member: MemberId, act: &Act) -> bool {
        if !self.stands_as_high(member, act.level) {
            return false;
        }
        let grants = self.course.state.grants.get(&member).into_iter().flatten();
        let held = grants.filter(|((at, role), entries)| {
            *at == Place::Organisation && self.course.state.is_granted(*role, entries)
        });
        held.into_iter().any(|((_, role), entries)| {
            let Some(definition) = self.course.state.roles.get(role) else { return false };
            let defined = self.course.state.defined.get(role);
            let high = Level::of(definition.rank) <= act.level;
            high && entries.iter().any(|entry| {
                let later = defined.into_iter().chain([&entry.source]);
                let later = later.filter_map(|source| self.pieces.index.get(source));
                let place = |at: &&usize| {
                    let taken = &self.pieces.operations[**at];
                    (taken.segment, taken.operation().lamport, taken.hash)
                };
                later
                    .max_by_key(place)
                    .is_some_and(|later| *later != act.index && !self.knows(*later, act.index))
            })
        })
    }

    /// Whether an act at `level` may take something from `member`.
    fn may_meet(
        &self,
        index: Option<usize>,
        level: Level,
        author: MemberId,
        member: MemberId,
    ) -> bool {
        level == Level(0)
            || member == author
            || (!self.stands_as_high(member, level)
                && index
                    .is_none_or(|at| !self.course.shield.contains(&(at, Target::Member(member)))))
    }

    /// Whether the operation at `index` knew what `source` has set. [CHARTER-5.8]
    fn knew(&self, index: Option<usize>, source: &ObjectHash) -> bool {
        // What is settled, or in the founding document, is known to all.
        let (Some(index), Some(wanted)) = (index, self.pieces.index.get(source)) else {
            return true;
        };
        *wanted == index || self.knows(index, *wanted)
    }

    /// Whether the operation at `index` is a descendant of that at `wanted`.
    fn knows(&self, index: usize, wanted: usize) -> bool {
        let operations = self.pieces.operations;
        if operations[wanted].segment < operations[index].segment {
            return true;
        }
        let lamport = operations[wanted].operation().lamport;
        let mut seen = BTreeSet::new();
        let mut open = vec![index];
        while let Some(at) = open.pop() {
            for parent in &operations[at].parents {
                if *parent == wanted {
                    return true;
                }
                if operations[*parent].operation().lamport > lamport && seen.insert(*parent) {
                    open.push(*parent);
                }
            }
        }
        false
    }

    fn judge(&mut self, by: Author, change: &Change) -> Result<(), Denial> {
        self.permit(by, change)?;
        self.perform(by, change);
        Ok(())
    }
}

/// Whether the cuts of a root document let an operation stand.
fn listed_by(document: &RootDocument, taken: &Taken) -> bool {
    let operation = taken.operation();
    document.cuts.iter().any(|cut| {
        (cut.member, cut.term) == (taken.member, operation.term)
            && cut.last_of(operation.author) >= operation.sequence
    })
}

/// Whether the author has a right at the place; at level 0 always.
pub(super) fn may(
    state: &State,
    level: Level,
    author: MemberId,
    rights: Capabilities,
    at: Place,
) -> bool {
    level == Level(0) || state.allows(author, rights, at)
}
