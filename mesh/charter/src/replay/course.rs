//! Computes the new outcome from the one before: only operations that may have another effect are
//! applied again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use hark_keys::{DeviceId, List, MemberId, ObjectHash, RoleId};

use super::{Author, Level, Pieces, Position, Run, Taken, Verdict};
use crate::{
    certificate::member_of,
    content::{Change, Grant},
    devices,
    operation::Cut,
    root::Roots,
    shared::Shared,
    state::{EndedTerm, State},
};

/// Operations in the order in which they were applied, and their outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    /// The state after all of them.
    pub(crate) state: State,
    pub(crate) order: Shared<Vec<usize>>,
    /// The verdict on each, in their order.
    pub(crate) verdicts: Shared<Vec<Verdict>>,
    pub(super) shield: Shared<Shield>,
    /// The acts by which they take something from others.
    pub(super) acts: Shared<Vec<Act>>,
    /// The terms that their cuts end, with the smallest lamport of such a cut.
    pub(super) ended: Shared<BTreeMap<(MemberId, u32), u64>>,
    /// Roles that were given everywhere, even if the role was gone.
    pub(super) given: Shared<Vec<(MemberId, RoleId, usize)>>,
    /// Snapshots along the way.
    saved: Shared<Vec<Saved>>,
    /// The passes before this one.
    passes: Vec<Pass>,
}

/// The outcome with the cuts and shields that were settled before.
#[derive(Clone, Debug)]
struct Pass {
    settled: Settled,
    course: Course,
}

/// A course after its first operations, from which the others can be applied again.
#[derive(Clone, Debug)]
struct Saved {
    applied: usize,
    state: State,
    acts: usize,
    ended: Shared<BTreeMap<(MemberId, u32), u64>>,
    given: usize,
}

/// A change or cut that takes something from somebody, and must not reach those who stand as high.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    pub(super) index: usize,
    pub(super) level: Level,
    pub(super) against: Target,
    /// The index of the cut in the operation, if the act is a cut.
    pub(super) cut: Option<usize>,
}

/// The target of an act: a member, or all who hold a role everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Member(MemberId),
    Role(RoleId),
}

/// Operations that have no effect on some target: a member who stands as high by an operation that
/// did not know of them keeps what it has. [CHARTER-5.20]
pub(super) type Shield = BTreeSet<(usize, Target)>;

type EndedTerms = BTreeMap<(MemberId, u32), EndedTerm>;

/// The cuts and shields with which operations are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settled {
    ended: Shared<EndedTerms>,
    shield: Shared<Shield>,
}

impl Course {
    /// The operations have other indices than before: all must be applied again.
    pub(crate) fn displace(&mut self) {
        let state = std::mem::take(&mut self.state);
        *self = Self { state, ..Self::default() };
    }

    /// Whether all that was applied comes before `since`.
    fn ends(&self, pieces: &Pieces<'_>, since: Position) -> bool {
        let last = self.order.last();
        last.is_some_and(|last| pieces.operations[*last].position() < since)
    }
}

/// Applies all operations in their order. Cuts and shields are settled from above, one level after
/// the other, each by a pass with those that were settled before. `former` is the outcome before,
/// of the same operations; after `since` it lacks only those that are new. If there is no `since`,
/// everything may be different. Each pass applies only what may be different. [CHARTER-5.4]
/// [CHARTER-5.5]
pub(crate) fn replay(pieces: &Pieces<'_>, mut former: Course, since: Option<Position>) -> Course {
    let start = start(pieces, since.map(|_| &former.state));
    let mut known = Vec::new();
    if since.is_some() {
        known = std::mem::take(&mut former.passes);
        let settled = Settled { ended: former.state.ended.clone(), shield: former.shield.clone() };
        known.push(Pass { settled, course: former });
    }
    let mut known = known.into_iter();
    let mut passes: Vec<Pass> = Vec::new();
    let mut settled = Settled { ended: start.ended.clone(), shield: Shared::default() };
    let mut floor = Level(0);
    loop {
        let mut run = Run { pieces, course: Course::default() };
        let same = known.next().filter(|pass| pass.settled == settled);
        let same = since.and_then(|since| Some((since, same?.course)));
        let at_the_end = same.as_ref().is_some_and(|(since, course)| course.ends(pieces, *since));
        let before = passes.last().filter(|_| !at_the_end);
        let before = before.map(|pass| (run.touched(&pass.settled, &settled), &pass.course));
        // Most cuts concern nobody who acts after them, so that two passes hardly differ. What the
        // one before has just applied need not be applied again.
        let from = match (same, before) {
            (Some((since, _)), Some((touched, course))) if touched > since => {
                Some((touched, course.clone()))
            }
            (Some(same), _) => Some(same),
            (None, before) => before.map(|(touched, course)| (touched, course.clone())),
        };
        let rewound = from.is_some_and(|(from, course)| {
            run.course = course;
            run.rewind(from)
        });
        if !rewound {
            run.begin(&start);
        }
        run.course.state.ended.clone_from(&settled.ended);
        run.course.shield.clone_from(&settled.shield);
        run.everything();
        let Some((level, next)) = run.next_settled(&settled, floor) else {
            passes.truncate(PASSES_KEPT);
            run.course.passes = passes;
            return run.course;
        };
        floor = level;
        passes.push(Pass { settled: std::mem::replace(&mut settled, next), course: run.course });
    }
}

/// The state before any operation. If the `former` state came from the same roots, and from
/// operations that said the same of devices and numbers, that part need not be computed again.
fn start(pieces: &Pieces<'_>, former: Option<&State>) -> State {
    let mut start = pieces.base.clone();
    start.roots = Shared::new(root_members(pieces.roots));
    if let Some(former) = former {
        start.frozen.clone_from(&former.frozen);
        start.devices.clone_from(&former.devices);
    } else {
        freeze(&mut start.frozen, pieces.operations);
        devices::settle(&mut start.devices, &start.frozen, pieces);
    }
    for root in pieces.roots.chosen() {
        for cut in root.cuts.iter() {
            end_term(&mut start.ended, cut, Ender::Root(root.version));
        }
    }
    start
}

impl Run<'_> {
    /// Undoes everything, and applies only the founding content.
    fn begin(&mut self, start: &State) {
        self.course = Course { state: start.clone(), ..Course::default() };
        // The base of a checkpoint contains the founding content already.
        if self.pieces.base == &State::default() {
            let root = self.pieces.roots.first();
            let source = ObjectHash::from_bytes(*self.pieces.roots.organisation().as_bytes());
            let founder = member_of(self.pieces.roots.organisation(), root.keys.first());
            let by = Author { level: Level(0), member: founder, source, index: None };
            for change in root.content.iter() {
                let change = of_founder(change, founder);
                // A change that is wrong in the founder's own document has no effect, and there is
                // nobody to report it to.
                let _ = self.judge(by, &change);
            }
        }
    }

    /// Undoes what comes at `since` or after it, and as much before it as was not saved. Returns
    /// whether anything is left.
    fn rewind(&mut self, since: Position) -> bool {
        let operations = self.pieces.operations;
        let course = &mut self.course;
        let reaches = |applied: usize| {
            let last = course.order[..applied].last();
            last.is_some_and(|last| operations[*last].position() < since)
        };
        if reaches(course.order.len()) {
            return true;
        }
        let kept = course.saved.iter().rposition(|saved| reaches(saved.applied));
        let Some(kept) = kept else { return false };
        course.saved.truncate(kept + 1);
        let saved = course.saved[kept].clone();
        course.order.truncate(saved.applied);
        course.verdicts.truncate(saved.applied);
        course.acts.truncate(saved.acts);
        course.given.truncate(saved.given);
        course.ended = saved.ended;
        course.state = saved.state;
        true
    }

    /// Applies what has not been applied, all of which comes after what has.
    fn everything(&mut self) {
        let operations = self.pieces.operations;
        let mut applied = vec![false; operations.len()];
        for index in &self.course.order {
            applied[*index] = true;
        }
        let rest = (0..operations.len()).filter(|index| !applied[*index]);
        let mut rest: Vec<_> = rest.map(|index| (operations[index].position(), index)).collect();
        rest.sort_unstable();
        for group in rest.chunk_by(|a, b| a.0 == b.0) {
            if let [(_, index)] = group {
                self.apply(*index, self.standing(*index));
            } else {
                let standings = group.iter().map(|(_, index)| (self.standing(*index), *index));
                let mut levels: Vec<_> = standings.collect();
                levels.sort_by_key(|(standing, index)| {
                    (standing.unwrap_or(Level(u16::MAX)), operations[*index].hash)
                });
                for (standing, index) in levels {
                    self.apply(index, standing);
                }
            }
            self.save();
        }
    }

    /// Saves the course as it is, if it is some way beyond what was saved last.
    fn save(&mut self) {
        let course = &mut self.course;
        let applied = course.order.len();
        let last = course.saved.last().map_or(0, |saved| saved.applied);
        if applied - last <= self.pieces.operations.len() / SAVED_PARTS {
            return;
        }
        let saved = Saved {
            applied,
            state: course.state.clone(),
            acts: course.acts.len(),
            ended: course.ended.clone(),
            given: course.given.len(),
        };
        course.saved.push(saved);
        if course.saved.len() > 2 * SAVED_PARTS {
            let mut every_other = false;
            course.saved.retain(|_| {
                every_other = !every_other;
                !every_other
            });
        }
    }

    /// What is settled next: the cuts and shields of the lowest level, from `floor` on, that has
    /// any new ones. `None` if there are none.
    fn next_settled(&self, settled: &Settled, floor: Level) -> Option<(Level, Settled)> {
        let acts = self.course.acts.iter().filter(|act| act.level >= floor);
        let mut acts: Vec<_> = acts.copied().collect();
        acts.sort_by_key(|act| act.level);
        for acts in acts.chunk_by(|a, b| a.level == b.level) {
            let mut next = settled.clone();
            for act in acts {
                if settled.shield.contains(&(act.index, act.against)) {
                    continue;
                }
                if self.is_shielded(act) {
                    next.shield.insert((act.index, act.against));
                } else if let Some(cut) = self.cut(act) {
                    end_term(&mut next.ended, cut, self.ender(act));
                }
            }
            if next != *settled {
                return Some((acts[0].level, next));
            }
        }
        None
    }

    /// The position of the first operation for which the difference between the two matters.
    fn touched(&self, one: &Settled, other: &Settled) -> Position {
        let differs = |term: &&(MemberId, u32)| one.ended.get(term) != other.ended.get(term);
        let terms = one.ended.keys().chain(other.ended.keys()).filter(differs);
        let terms: BTreeSet<_> = terms.copied().collect();
        // A term begins with the end of the one before.
        let begins = |member, term: u32| {
            term.checked_sub(1).is_some_and(|before| terms.contains(&(member, before)))
        };
        let concerns = |taken: &Taken| {
            let operation = taken.operation();
            terms.contains(&(taken.member, operation.term))
                || begins(taken.member, operation.term)
                || operation.cuts.iter().any(|cut| begins(cut.member, cut.term))
        };
        let operations = self.pieces.operations;
        let concerned = operations.iter().filter(|taken| concerns(taken));
        let shielded = one.shield.symmetric_difference(&other.shield);
        let shielded = shielded.map(|(index, _)| &operations[*index]);
        let positions = concerned.chain(shielded).map(|taken| taken.position());
        positions.min().unwrap_or((u8::MAX, u64::MAX))
    }

    fn cut(&self, act: &Act) -> Option<&Cut> {
        act.cut.map(|at| &self.pieces.operations[act.index].operation().cuts[at])
    }

    fn ender(&self, act: &Act) -> Ender {
        let taken = &self.pieces.operations[act.index];
        Ender::Operation(act.level, taken.operation().lamport)
    }
}

/// [CHARTER-2.8] The founding document cannot name the founder, whose id comes from its hash. So a
/// grant to nobody is the founder's.
fn of_founder(change: &Change, founder: MemberId) -> Change {
    match change {
        Change::Grant(grant) if grant.members.is_empty() => {
            Change::Grant(Grant { members: List::truncated([founder]), ..grant.clone() })
        }
        change => change.clone(),
    }
}

/// [CHARTER-6.1]
fn root_members(roots: &Roots) -> BTreeSet<MemberId> {
    let root = roots.newest();
    let organisation = roots.organisation();
    if root.threshold == 1 {
        root.keys.iter().map(|key| member_of(organisation, key)).collect()
    } else {
        BTreeSet::new()
    }
}

/// [CHARTER-4.4]
fn freeze(frozen: &mut BTreeMap<(DeviceId, u32), u64>, operations: &[Arc<Taken>]) {
    // The set is only queried, so its order does not matter.
    let mut seen = HashSet::with_capacity(operations.len());
    for operation in operations.iter().map(|taken| taken.operation()) {
        let chain = (operation.author, operation.term);
        if !seen.insert((chain, operation.sequence)) {
            let from = frozen.entry(chain).or_insert(operation.sequence);
            *from = operation.sequence.min(*from);
        }
    }
}

/// What ends a term.
enum Ender {
    /// The root document of this version.
    Root(u32),
    /// An operation of this level and lamport.
    Operation(Level, u64),
}

/// [CHARTER-5.2] [CHARTER-5.21]
fn end_term(ended: &mut BTreeMap<(MemberId, u32), EndedTerm>, cut: &Cut, ender: Ender) {
    let (from, lamport, root) = match ender {
        Ender::Root(version) => (0, 0, version),
        Ender::Operation(level, lamport) => (level.0 + 1, lamport, 0),
    };
    let last: BTreeMap<_, _> = cut.last.iter().copied().collect();
    let term = ended.entry((cut.member, cut.term)).or_insert_with(|| EndedTerm {
        lamport,
        root,
        from: BTreeMap::new(),
    });
    term.lamport = term.lamport.min(lamport);
    term.root = term.root.max(root);
    let stands = term.from.entry(from).or_insert_with(|| last.clone());
    stands.retain(|key, number| {
        *number = last.get(key).map_or(0, |other| (*number).min(*other));
        *number > 0
    });
}

/// The number of parts into which saving divides the operations; there are at most twice as many.
/// More parts cost memory, and time when all is applied again. Fewer cost time when something comes
/// in between.
const SAVED_PARTS: usize = 4;

/// The most passes that are kept to continue from: more than organisations have levels. Later ones
/// are computed again.
const PASSES_KEPT: usize = 16;
