//! A second, slow model of the charter. It computes everything from the whole set of pieces, as
//! `docs/charter.md` says, without regard to time. It knows no checkpoints.

mod view;

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Cut, MemberCertificate, Operation, Piece, RootDocument,
    content::{
        Capabilities, Change, Channel, MEMBER_ROLE, Place, Policy, RevokedTicket, SanctionKind,
    },
    member_of,
};
use hark_keys::{Cosigned, DeviceId, List, MemberId, ObjectHash, OrganisationId, RoleId, Signed};

use view::{CutFact, SanctionFact};
pub(crate) use view::{Device, RuleFact, View};

/// The result of an operation: void, or its level and which of its changes were made.
pub(crate) type Verdict = Option<(i32, Vec<bool>)>;

/// Everything that pieces say.
pub(crate) struct Outcome {
    pub(crate) view: View,
    /// The verdicts in the order in which the operations count.
    pub(crate) verdicts: Vec<(ObjectHash, Verdict)>,
    pub(crate) members: BTreeSet<MemberId>,
}

/// A change or cut that takes something from somebody.
#[derive(Clone)]
struct Act {
    source: ObjectHash,
    level: i32,
    author: MemberId,
    target: Target,
    cut: Option<Cut>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Member(MemberId),
    Role(RoleId),
}

struct Model {
    organisation: OrganisationId,
    /// Chosen documents, the first being version 1.
    chosen: Vec<RootDocument>,
    certificates: BTreeMap<ObjectHash, MemberCertificate>,
    operations: BTreeMap<ObjectHash, Cosigned<Operation>>,
    ancestors: BTreeMap<ObjectHash, BTreeSet<ObjectHash>>,
    frozen: BTreeMap<(DeviceId, u32), u64>,
    shield: BTreeSet<(ObjectHash, Target)>,
}

/// The results of a run through all operations, besides the state.
#[derive(Default)]
struct Notes {
    verdicts: Vec<(ObjectHash, Verdict)>,
    acts: Vec<Act>,
    given: Vec<(MemberId, RoleId, ObjectHash)>,
}

const NONE: [u8; 32] = [0; 32];
const EVERYWHERE: Place = Place::Organisation;

/// Computes the state from the set of pieces.
pub(crate) fn evaluate(pieces: &[Piece]) -> Outcome {
    let mut model = Model::of(pieces);
    let mut start = View { roots: model.root_members(), ..View::default() };
    start.devices = model.devices();
    for root in &model.chosen {
        for cut in root.cuts.iter() {
            let root = root.version;
            start.cuts.push(CutFact {
                cut: cut.clone(),
                level: -1,
                lamport: 0,
                root,
                source: None,
            });
        }
    }
    let mut floor = 0;
    loop {
        let (view, notes) = model.run(&start);
        let levels: BTreeSet<i32> = notes.acts.iter().map(|act| act.level).collect();
        let mut changed = false;
        for level in levels.into_iter().filter(|level| *level >= floor) {
            for act in notes.acts.iter().filter(|act| act.level == level) {
                let key = (act.source, act.target);
                if model.shield.contains(&key) {
                    continue;
                }
                let shielded = level > 0
                    && match act.target {
                        Target::Member(member) => model.stands_apart(&view, member, act),
                        Target::Role(role) => {
                            view.holders(role).into_iter().any(|member| {
                                member != act.author && model.stands_apart(&view, member, act)
                            }) || notes.given.iter().any(|(member, given, by)| {
                                *given == role
                                    && *member != act.author
                                    && !model.knew(*by, act.source)
                                    && i32::from(view.rank(*member, EVERYWHERE)) <= level
                            })
                        }
                    };
                if shielded {
                    model.shield.insert(key);
                    changed = true;
                } else if let Some(cut) = &act.cut {
                    let lamport = model.operations[&act.source].unverified().lamport;
                    let source = Some(act.source);
                    let fact = CutFact { cut: cut.clone(), level, lamport, root: 0, source };
                    if !start.cuts.contains(&fact) {
                        start.cuts.push(fact);
                        changed = true;
                    }
                }
            }
            if changed {
                floor = level;
                break;
            }
        }
        if !changed {
            let members = model
                .certificates
                .values()
                .filter(|certificate| model.is_good(&view, certificate, 8))
                .map(MemberCertificate::member);
            let members = members.collect();
            return Outcome { view, verdicts: notes.verdicts, members };
        }
    }
}

impl Model {
    fn of(pieces: &[Piece]) -> Self {
        let mut documents = Vec::<Cosigned<RootDocument>>::new();
        let mut certificates = BTreeMap::new();
        let mut operations = BTreeMap::new();
        for piece in pieces {
            match piece {
                Piece::Root(document) => {
                    match documents.iter_mut().find(|known| known.hash() == document.hash()) {
                        Some(known) => {
                            known.merge(document);
                        }
                        None => documents.push(document.clone()),
                    }
                }
                Piece::Certificate(certificate) => {
                    let hash = ObjectHash::from_bytes(Signed::hash(certificate));
                    certificates.insert(hash, certificate.unverified().clone());
                }
                Piece::Operation(operation) => {
                    operations.insert(operation.hash(), operation.clone());
                }
                Piece::Checkpoint(_) => unreachable!("the model knows no checkpoints"),
            }
        }
        let first = documents.iter().find(|it| it.unverified().version == 1).expect("founded");
        let organisation = OrganisationId::from_bytes(*first.hash().as_bytes());
        // [CHARTER-2.3]
        let mut chosen = vec![first.clone()];
        loop {
            let last = chosen.last().expect("one at least");
            let keys = &last.unverified().keys;
            let mut next: Vec<_> =
                documents.iter().filter(|it| it.unverified().previous == last.hash()).collect();
            // [CHARTER-2.3] The most senior signer decides first, then the next, and so on.
            next.sort_by_key(|it| {
                let signed = |key| it.signers().any(|signer| signer == key);
                let signed: Vec<_> = keys.iter().rev().map(signed).collect();
                (std::cmp::Reverse(signed), it.hash())
            });
            let Some(next) = next.first() else { break };
            chosen.push((*next).clone());
        }
        let mut model = Self {
            organisation,
            chosen: chosen.iter().map(|it| it.unverified().clone()).collect(),
            certificates,
            operations,
            ancestors: BTreeMap::new(),
            frozen: BTreeMap::new(),
            shield: BTreeSet::new(),
        };
        model.find_ancestors();
        // [CHARTER-4.4]
        for (hash, one) in &model.operations {
            for (other, two) in &model.operations {
                let (one, two) = (one.unverified(), two.unverified());
                let same =
                    (one.author, one.term, one.sequence) == (two.author, two.term, two.sequence);
                if same && hash != other {
                    let from = model.frozen.entry((one.author, one.term)).or_insert(one.sequence);
                    *from = one.sequence.min(*from);
                }
            }
        }
        model
    }

    fn find_ancestors(&mut self) {
        let mut left: Vec<_> = self.operations.keys().copied().collect();
        left.sort_by_key(|hash| self.operations[hash].unverified().lamport);
        for hash in left {
            let operation = self.operations[&hash].unverified();
            let named = operation.parents.iter().chain([&operation.previous]);
            let mut all = BTreeSet::new();
            for parent in named.filter(|it| *it.as_bytes() != NONE) {
                all.insert(*parent);
                all.extend(self.ancestors[parent].iter().copied());
            }
            self.ancestors.insert(hash, all);
        }
    }

    /// Whether `later` knew `earlier`. What is not an operation was known to everybody.
    fn knew(&self, later: ObjectHash, earlier: ObjectHash) -> bool {
        !self.operations.contains_key(&earlier)
            || later == earlier
            || self.ancestors.get(&later).is_none_or(|all| all.contains(&earlier))
    }

    /// [CHARTER-6.1]
    fn root_members(&self) -> BTreeSet<MemberId> {
        let root = self.chosen.last().expect("one at least");
        let keys = root.keys.iter().filter(|_| root.threshold == 1);
        keys.map(|key| member_of(self.organisation, key)).collect()
    }

    fn member(&self, operation: &Operation) -> MemberId {
        match self.certificates.get(&operation.certificate) {
            Some(certificate) => certificate.member(),
            None => member_of(self.organisation, operation.author),
        }
    }

    /// [CHARTER-3.4] [CHARTER-3.21] [CHARTER-3.5]
    fn devices(&self) -> BTreeMap<MemberId, Vec<Device>> {
        let mut all = BTreeMap::new();
        let members: BTreeSet<_> =
            self.certificates.values().map(MemberCertificate::member).collect();
        for member in members {
            let mut operations: Vec<(&ObjectHash, &Operation)> =
                self.operations.iter().map(|(hash, it)| (hash, it.unverified())).collect();
            operations.retain(|(_, it)| {
                let frozen = self.frozen.get(&(it.author, it.term));
                self.certificates.contains_key(&it.certificate)
                    && self.member(it) == member
                    && frozen.is_none_or(|from| it.sequence < *from)
            });
            operations.sort_by_key(|(hash, it)| (it.lamport, **hash));
            let mut keys = Vec::<Device>::new();
            for certificate in self.certificates.values().filter(|it| it.member() == member) {
                let first = Device { key: certificate.device, kind: 1, lamport: 0, retired: None };
                let recovery = certificate.recovery.map(|it| Device {
                    key: it.key,
                    kind: 0,
                    lamport: 0,
                    retired: None,
                });
                for device in std::iter::once(first).chain(recovery) {
                    if !keys.contains(&device) {
                        keys.push(device);
                    }
                }
            }
            let mut judged = Vec::<Device>::new();
            let mut claims = Vec::<(DeviceId, (u32, u64), ObjectHash)>::new();
            while !keys.is_empty() {
                keys.sort_by_key(|it| (it.kind, it.lamport, it.key));
                let mut device = keys.remove(0);
                let own = |claims: &[(DeviceId, (u32, u64), ObjectHash)], key| {
                    let own = claims.iter().filter(|(of, ..)| *of == key);
                    own.map(|(_, last, by)| (*last, *by)).min()
                };
                device.retired = own(&claims, device.key);
                for (hash, operation) in &operations {
                    let number = (operation.term, operation.sequence);
                    let void = operation.author != device.key
                        || (device.kind == 2 && operation.lamport <= device.lamport)
                        || device.retired.is_some_and(|(last, _)| number > last);
                    if void {
                        continue;
                    }
                    for change in operation.changes.iter() {
                        match change {
                            Change::AddDevice { device: new, .. } => {
                                let known = || keys.iter().chain(&judged);
                                let there = known()
                                    .filter(|it| {
                                        it.kind == 2
                                            && it.retired.is_none()
                                            && own(&claims, it.key)
                                                .is_none_or(|_| keys.contains(it))
                                    })
                                    .count();
                                let fresh = *new != device.key && known().all(|it| it.key != *new);
                                if fresh && there + 1 < 16 {
                                    keys.push(Device {
                                        key: *new,
                                        kind: 2,
                                        lamport: operation.lamport,
                                        retired: None,
                                    });
                                }
                            }
                            Change::RetireDevice { device: old, term, last } => {
                                claims.push((*old, (*term, *last), **hash));
                                device.retired = own(&claims, device.key);
                            }
                            _ => {}
                        }
                    }
                }
                judged.push(device);
            }
            all.insert(member, judged);
        }
        all
    }

    /// Applies all operations in order, once.
    fn run(&self, start: &View) -> (View, Notes) {
        let mut view = start.clone();
        let mut notes = Notes::default();
        let first = &self.chosen[0];
        let founder = member_of(self.organisation, first.keys.first());
        let source = ObjectHash::from_bytes(*self.organisation.as_bytes());
        for change in first.content.iter() {
            let mut change = change.clone();
            // [CHARTER-2.8]
            if let Change::Grant(grant) = &mut change
                && grant.members.is_empty()
            {
                grant.members = List::truncated([founder]);
            }
            self.change(&mut view, &mut notes, 0, founder, &change, source);
        }
        // [CHARTER-5.4]
        let lamports: BTreeSet<u64> =
            self.operations.values().map(|it| it.unverified().lamport).collect();
        for lamport in lamports {
            let together =
                self.operations.iter().filter(|(_, it)| it.unverified().lamport == lamport);
            let mut group: Vec<_> =
                together.map(|(hash, _)| (self.level(&view, *hash), *hash)).collect();
            group.sort_by_key(|(level, hash)| (level.unwrap_or(i32::MAX), *hash));
            for (level, hash) in group {
                let verdict =
                    level.map(|level| (level, self.apply(&mut view, &mut notes, hash, level)));
                notes.verdicts.push((hash, verdict));
            }
        }
        (view, notes)
    }

    fn apply(&self, view: &mut View, notes: &mut Notes, hash: ObjectHash, level: i32) -> Vec<bool> {
        let operation = self.operations[&hash].unverified();
        let author = self.member(operation);
        let recovers = level > 0
            && self
                .certificates
                .get(&operation.certificate)
                .is_some_and(|it| it.recovers(operation.author) && it.device != operation.author);
        if !recovers {
            for cut in operation.cuts.iter() {
                let target = Target::Member(cut.member);
                let counts = level < i32::from(view.rank(cut.member, EVERYWHERE))
                    && !self.shield.contains(&(hash, target))
                    && (cut.term == 0 || self.ended_before(view, notes, cut, operation.lamport));
                if counts {
                    let cut = Some(cut.clone());
                    notes.acts.push(Act { source: hash, level, author, target, cut });
                }
            }
        }
        let mut done = Vec::new();
        for change in operation.changes.iter() {
            let devices = matches!(change, Change::AddDevice { .. } | Change::RetireDevice { .. });
            let allowed = !recovers || devices;
            done.push(allowed && self.change(view, notes, level, author, change, hash));
        }
        done
    }

    fn ended_before(&self, view: &View, notes: &Notes, cut: &Cut, lamport: u64) -> bool {
        let before = |other: &Cut| (other.member, other.term + 1) == (cut.member, cut.term);
        let kept = view.cuts.iter().any(|fact| before(&fact.cut) && fact.lamport < lamport);
        kept || notes.acts.iter().any(|act| {
            act.cut.as_ref().is_some_and(before)
                && self.operations[&act.source].unverified().lamport < lamport
        })
    }

    fn acts_as_root(&self, operation: &Operation, key: DeviceId) -> bool {
        let Some(root) = self.chosen.iter().find(|it| it.version == operation.root) else {
            return false;
        };
        let later = self.chosen.iter().filter(|it| it.version > operation.root);
        let dropped = later.into_iter().find(|it| !it.keys.contains(key));
        root.keys.contains(key) && dropped.is_none_or(|it| self.lets_stand(it, operation))
    }

    fn lets_stand(&self, root: &RootDocument, operation: &Operation) -> bool {
        root.cuts.iter().any(|cut| {
            cut.member == self.member(operation)
                && cut.term == operation.term
                && cut.last_of(operation.author) >= operation.sequence
        })
    }

    /// [CHARTER-4.7] [CHARTER-5.1] The level of an operation that stands.
    fn level(&self, view: &View, hash: ObjectHash) -> Option<i32> {
        let signed = &self.operations[&hash];
        let operation = signed.unverified();
        let (member, author) = (self.member(operation), operation.author);
        let number = (operation.term, operation.sequence);
        if self
            .frozen
            .get(&(author, operation.term))
            .is_some_and(|from| *from <= operation.sequence)
        {
            return None;
        }
        match self.certificates.get(&operation.certificate) {
            None if !self.acts_as_root(operation, author) => return None,
            None => {}
            Some(certificate) => {
                let device = view.device(member, author)?;
                let late = device.kind == 2 && device.lamport >= operation.lamport;
                let retired = device.retired.is_some_and(|(last, _)| number > last);
                let other = device.kind < 2 && !certificate.names(author);
                if late || retired || other || !self.is_good(view, certificate, 8) {
                    return None;
                }
            }
        }
        let level = self.level_of_author(view, hash);
        let own = |fact: &&CutFact| fact.cut.member == member;
        let cut_off = view.cuts.iter().filter(own).any(|fact| {
            fact.cut.term == operation.term
                && fact.level < level
                && fact.cut.last_of(author) < operation.sequence
        });
        let begins = || view.cuts.iter().filter(own).filter(|it| it.cut.term + 1 == operation.term);
        let begun = operation.term == 0
            || (begins().any(|fact| fact.lamport < operation.lamport)
                && begins().all(|fact| fact.root <= operation.root));
        (!cut_off && begun).then_some(level)
    }

    fn level_of_author(&self, view: &View, hash: ObjectHash) -> i32 {
        let signed = &self.operations[&hash];
        let operation = signed.unverified();
        if self.acts_as_root(operation, operation.author) {
            let root = self.chosen.iter().find(|it| it.version == operation.root).expect("acts");
            let signers = signed.signers().filter(|key| self.acts_as_root(operation, *key));
            if signers.count() >= usize::from(root.threshold) {
                return 0;
            }
        }
        i32::from(view.rank(self.member(operation), EVERYWHERE))
    }

    /// [CHARTER-3.2]
    fn is_good(&self, view: &View, certificate: &MemberCertificate, depth: usize) -> bool {
        let member = certificate.member();
        let removals = view.removals.get(&member).copied().unwrap_or(0);
        if depth == 0 || certificate.admission != removals {
            return false;
        }
        let newest = self.chosen.last().expect("one at least");
        let by_root = *certificate.issuer_certificate.as_bytes() == NONE;
        let founder = self.chosen[0].keys.first();
        let itself = [certificate.issuer, certificate.device] == [founder; 2];
        if by_root && (newest.keys.contains(certificate.issuer) || itself) {
            return true;
        }
        if view.held(member, EVERYWHERE).iter().any(|(_, at)| *at == EVERYWHERE) {
            return true;
        }
        let hash = ObjectHash::from_bytes(blake3::hash(&hark_keys::encode(certificate)).into());
        let issuer = self.certificates.get(&certificate.issuer_certificate);
        let issuing = issuer.map_or_else(
            || member_of(self.organisation, certificate.issuer),
            MemberCertificate::member,
        );
        let removed = view.removed.iter().rposition(|it| *it == member).map_or(0, |at| at + 1);
        if view.listed.get(&(hash, issuing)).is_some_and(|listed| *listed >= removed) {
            return true;
        }
        issuer.is_some_and(|issuer| {
            let device = view.device(issuing, certificate.issuer);
            device.is_some_and(|it| it.kind != 0 && it.retired.is_none())
                && self.is_good(view, issuer, depth - 1)
                && view.allows(issuing, Capabilities::ADMIT, EVERYWHERE)
        })
    }

    /// [CHARTER-5.11]
    fn stands_apart(&self, view: &View, member: MemberId, act: &Act) -> bool {
        if i32::from(view.rank(member, EVERYWHERE)) > act.level {
            return false;
        }
        let place = |hash: &ObjectHash| {
            self.operations.get(hash).map(|it| (it.unverified().lamport, *hash))
        };
        view.grants.iter().any(|fact| {
            let Some((role, defined)) = view.roles.get(&fact.role) else { return false };
            let lifts = fact.member == member
                && fact.at == EVERYWHERE
                && view.is_granted(member, EVERYWHERE, fact.role)
                && i32::from(role.rank.0) <= act.level;
            let later = [fact.source, *defined].into_iter().filter_map(|it| place(&it)).max();
            lifts && later.is_some_and(|(_, later)| !self.knew(later, act.source))
        })
    }

    /// Makes a change if it is allowed; returns whether it was.
    fn change(
        &self,
        view: &mut View,
        notes: &mut Notes,
        level: i32,
        author: MemberId,
        change: &Change,
        source: ObjectHash,
    ) -> bool {
        let operation = self.operations.contains_key(&source);
        let knew = |what: &ObjectHash| !operation || self.knew(source, *what);
        let now = view.clone();
        let may = |right, at| level == 0 || now.allows(author, right, at);
        let rank = |at| if level == 0 { 0 } else { now.rank(author, at) };
        let exists = |at| match at {
            Place::Organisation => true,
            Place::Channel(id) => now.is_there(id),
        };
        // [CHARTER-5.11]
        let meets = |member: MemberId| {
            level == 0
                || member == author
                || (level < i32::from(now.rank(member, EVERYWHERE))
                    && !self.shield.contains(&(source, Target::Member(member))))
        };
        let mut act = |target| {
            if operation && target != Target::Member(author) {
                notes.acts.push(Act { source, level, author, target, cut: None });
            }
        };
        let mut lowers = |role: RoleId| {
            if level == 0 {
                return true;
            }
            if role == MEMBER_ROLE {
                return false;
            }
            act(Target::Role(role));
            !self.shield.contains(&(source, Target::Role(role)))
                && now.holders(role).into_iter().all(|member| {
                    member == author || level < i32::from(now.rank(member, EVERYWHERE))
                })
        };
        match change {
            Change::Role(role) => {
                let before = now.roles.get(&role.id).map(|(role, _)| role);
                let gone = now
                    .gone_roles
                    .get(&role.id)
                    .is_some_and(|(by, removal)| level > *by || knew(removal));
                let lowered = before.is_some_and(|before| {
                    before.rank < role.rank || !role.capabilities.contains(before.capabilities)
                });
                let allowed = may(Capabilities::MANAGE_ROLES, EVERYWHERE)
                    && rank(EVERYWHERE) < role.rank.0
                    && before.is_none_or(|before| rank(EVERYWHERE) < before.rank.0)
                    && role.capabilities.iter().all(|right| may(right, EVERYWHERE))
                    && !gone
                    && (!lowered || lowers(role.id));
                if allowed {
                    view.gone_roles.remove(&role.id);
                    view.roles.insert(role.id, (role.clone(), source));
                }
                allowed
            }
            Change::RemoveRole(id) => {
                let allowed = may(Capabilities::MANAGE_ROLES, EVERYWHERE)
                    && now.roles.get(id).is_some_and(|(role, _)| rank(EVERYWHERE) < role.rank.0)
                    && lowers(*id);
                if allowed {
                    view.roles.remove(id);
                    view.gone_roles.insert(*id, (level, source));
                }
                allowed
            }
            Change::Grant(grant) | Change::Ungrant(grant) => {
                let granted = matches!(change, Change::Grant(_));
                let everywhere = grant.at == EVERYWHERE;
                let may = may(Capabilities::MANAGE_ROLES, grant.at);
                if granted && everywhere && may && operation {
                    let given = grant.members.iter().map(|member| (*member, grant.role, source));
                    notes.given.extend(given);
                }
                let role = now.roles.get(&grant.role);
                let mut allowed = may
                    && exists(grant.at)
                    && role.is_some_and(|(role, _)| rank(grant.at) < role.rank.0);
                if allowed && everywhere && !granted {
                    for member in grant.members.iter() {
                        act(Target::Member(*member));
                    }
                    allowed = grant.members.iter().all(|member| meets(*member));
                }
                if allowed {
                    view.grant(grant, granted, rank(grant.at), source, knew);
                }
                allowed
            }
            Change::Rule(rule) => {
                let manages = may(Capabilities::MANAGE_ROLES, rule.at)
                    && rule.allow.iter().all(|right| may(right, rule.at));
                let allowed = exists(rule.at) && manages;
                if allowed {
                    let rank = rank(rule.at);
                    view.rules.retain(|fact| {
                        (fact.rule.at, fact.rule.subject) != (rule.at, rule.subject)
                            || fact.preset.is_some()
                            || fact.rank < rank
                            || !knew(&fact.source)
                    });
                    if !(rule.allow | rule.deny).is_empty() {
                        view.rules.push(RuleFact { rule: *rule, rank, preset: None, source });
                    }
                }
                allowed
            }
            Change::Channel(channel) => {
                let known = now.channels.contains_key(&channel.id);
                let at = if known { Place::Channel(channel.id) } else { channel.parent };
                let allowed = !now.gone_channels.contains(&channel.id)
                    && exists(at)
                    && may(Capabilities::MANAGE_CHANNELS, at);
                if allowed {
                    let entry =
                        view.channels.entry(channel.id).or_insert_with(|| (channel.clone(), None));
                    entry.0 = Channel { parent: entry.0.parent, ..channel.clone() };
                }
                allowed
            }
            Change::MoveChannel { channel, parent } => {
                let at = Place::Channel(*channel);
                let allowed = exists(at)
                    && exists(*parent)
                    && may(Capabilities::MANAGE_CHANNELS, at)
                    && may(Capabilities::MANAGE_CHANNELS, *parent)
                    && !now.path(*parent).contains(&at);
                if allowed {
                    view.channels.get_mut(channel).expect("it is there").0.parent = *parent;
                }
                allowed
            }
            Change::RemoveChannel(channel) => {
                let at = Place::Channel(*channel);
                let allowed = exists(at) && may(Capabilities::MANAGE_CHANNELS, at);
                if allowed {
                    for id in now
                        .channels
                        .keys()
                        .filter(|id| now.path(Place::Channel(**id)).contains(&at))
                    {
                        view.channels.remove(id);
                        view.gone_channels.insert(*id);
                        view.links.retain(|(a, b)| a != id && b != id);
                    }
                }
                allowed
            }
            Change::Link { a, b, linked } => {
                let places = [Place::Channel(*a), Place::Channel(*b)];
                let manages = places.map(|at| may(Capabilities::MANAGE_CHANNELS, at));
                let enough = if *linked { manages == [true; 2] } else { manages != [false; 2] };
                let allowed = places.into_iter().all(exists) && enough;
                if allowed && *linked {
                    view.links.insert((*a, *b));
                } else if allowed {
                    view.links.remove(&(*a, *b));
                }
                allowed
            }
            Change::Preset(preset) => {
                let allowed = may(Capabilities::EDIT_PRESETS, EVERYWHERE)
                    && !now.gone_presets.contains_key(&preset.id);
                if allowed {
                    view.presets.push(((**preset).clone(), source));
                }
                allowed
            }
            Change::RemovePreset(id) => {
                let allowed = may(Capabilities::EDIT_PRESETS, EVERYWHERE)
                    && now.presets.iter().any(|(preset, _)| preset.id == *id)
                    && !now.gone_presets.contains_key(id);
                if allowed {
                    view.gone_presets.insert(*id, source);
                }
                allowed
            }
            Change::LoadPreset(id) | Change::UnloadPreset(id) => {
                let loads = matches!(change, Change::LoadPreset(_));
                let known = now.presets.iter().rev().find(|(it, by)| it.id == *id && knew(by));
                let known = known.map(|(preset, _)| preset.clone());
                let known = known.filter(|_| !now.gone_presets.get(id).is_some_and(knew));
                let before = now.loads.get(id);
                let there = if loads { known.is_some() } else { before.is_some() };
                let mut allowed = may(Capabilities::EDIT_PRESETS, EVERYWHERE)
                    && there
                    && before.is_none_or(|(_, loader)| rank(EVERYWHERE) <= *loader);
                if allowed && let Some((before, _)) = before {
                    let grants = before.grants.iter().filter(|grant| grant.at == EVERYWHERE);
                    for member in grants.flat_map(|grant| grant.members.iter()) {
                        act(Target::Member(*member));
                        allowed &= meets(*member);
                    }
                }
                if allowed {
                    view.unload(*id);
                }
                if allowed
                    && loads
                    && let Some(preset) = known
                {
                    let rights = |view: &View, rights: Capabilities| {
                        rights
                            .iter()
                            .all(|right| level == 0 || view.allows(author, right, EVERYWHERE))
                    };
                    view.load(preset, rank(EVERYWHERE), rights, source);
                }
                allowed
            }
            Change::Relay(relay) => {
                let allowed = may(Capabilities::APPOINT_RELAYS, EVERYWHERE);
                if allowed {
                    view.relays.insert(relay.device, relay.clone());
                }
                allowed
            }
            Change::RemoveRelay(device) => {
                let allowed = may(Capabilities::APPOINT_RELAYS, EVERYWHERE);
                if allowed {
                    view.relays.remove(device);
                }
                allowed
            }
            Change::Policy(policy) => {
                match policy {
                    _ if level > 0 => {}
                    Policy::InviteHoursMax(hours) => view.policies.invite_hours_max = *hours,
                    Policy::OperationsPerDay(count) => view.policies.operations_per_day = *count,
                }
                level == 0
            }
            Change::Remove { member, admission } => {
                let allowed = may(Capabilities::BAN, EVERYWHERE)
                    && u64::from(now.removals.get(member).copied().unwrap_or(0)) + 1
                        == u64::from(*admission);
                if allowed {
                    act(Target::Member(*member));
                }
                let above = level < i32::from(now.rank(*member, EVERYWHERE));
                let allowed = allowed && meets(*member) && above;
                if allowed {
                    view.removals.insert(*member, *admission);
                    view.removed.push(*member);
                    view.grants.retain(|fact| fact.member != *member);
                }
                allowed
            }
            Change::Admitted(certificates) => {
                let allowed = may(Capabilities::ADMIT, EVERYWHERE);
                if allowed {
                    let listed = certificates.iter().map(|it| ((*it, author), now.removed.len()));
                    view.listed.extend(listed);
                }
                allowed
            }
            Change::Sanction(it) => {
                let allowed = exists(it.at)
                    && may(needed(it.kind, it.at), it.at)
                    && rank(it.at) < now.rank(it.member, it.at);
                if allowed {
                    let rank = rank(it.at);
                    view.lift(it.member, it.kind, it.at, rank, knew);
                    view.sanctions.push(SanctionFact { sanction: it.clone(), rank, source });
                }
                allowed
            }
            Change::Lift { member, kind, at } => {
                let mut set = now.sanctions.iter().filter(|fact| {
                    let it = &fact.sanction;
                    (it.member, it.kind, it.at) == (*member, *kind, *at)
                });
                let allowed = may(needed(*kind, *at), *at)
                    && set.clone().next().is_some()
                    && set.all(|fact| rank(*at) <= fact.rank);
                if allowed {
                    view.lift(*member, *kind, *at, rank(*at), knew);
                }
                allowed
            }
            Change::RevokeTicket(RevokedTicket { issuer, .. })
            | Change::RevokeTickets(Some(issuer)) => {
                let allowed = *issuer == author
                    || (may(Capabilities::ADMIT, EVERYWHERE)
                        && rank(EVERYWHERE) < now.rank(*issuer, EVERYWHERE));
                if allowed {
                    let key = match change {
                        Change::RevokeTicket(ticket) => Some(ticket.key),
                        _ => None,
                    };
                    view.revoke(*issuer, key, source);
                }
                allowed
            }
            Change::RevokeTickets(None) => {
                if level == 0 {
                    view.revoked.clear();
                    view.revoked_everyone = Some(source);
                }
                level == 0
            }
            Change::AddDevice { .. } | Change::RetireDevice { .. } => true,
        }
    }
}

/// [CHARTER-6.6]
fn needed(kind: SanctionKind, at: Place) -> Capabilities {
    match (kind, at) {
        (SanctionKind::Mute, _) => Capabilities::MUTE,
        (SanctionKind::Ban, EVERYWHERE) => Capabilities::BAN,
        (SanctionKind::Ban, _) => Capabilities::MOVE,
    }
}
