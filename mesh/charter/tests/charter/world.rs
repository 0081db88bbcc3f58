//! An organisation for tests: its people, and ways to make operations that no honest device would
//! make.

use std::collections::BTreeSet;

use hark_charter::{
    Charter, MemberCertificate, Operation, Piece, PieceError, Recovery, RootDocument, RootKeys,
    Verdict,
    content::{Capabilities, Change, Channel, Grant, Place, Preset, Rank, Role, Rule, Subject},
    device_consent,
};
use hark_keys::{
    ChannelId, Cosigned, DeviceKey, List, MemberId, ObjectHash, PresetId, RoleId, SeededRandom,
    UnixTime,
};

use crate::model;

pub(crate) const EVERYWHERE: Place = Place::Organisation;
pub(crate) const NONE: ObjectHash = ObjectHash::from_bytes([0; 32]);

/// A person with a first device, a second one, and a recovery key.
pub(crate) struct Person {
    pub(crate) keys: [DeviceKey; 3],
    pub(crate) member: MemberId,
}

impl Person {
    pub(crate) fn key(&self) -> &DeviceKey {
        &self.keys[0]
    }
}

/// Indices in [`World::people`].
pub(crate) const FOUNDER: usize = 0;
/// An officer of rank 5.
pub(crate) const CHIEF: usize = 1;
/// An officer of rank 10.
pub(crate) const ANN: usize = 2;
/// An officer of rank 10.
pub(crate) const BOB: usize = 3;
/// An officer of rank 10.
pub(crate) const CID: usize = 4;
/// An officer of rank 50.
pub(crate) const DAN: usize = 5;
/// A member without a role.
pub(crate) const EVE: usize = 6;
/// A member without a role.
pub(crate) const FAY: usize = 7;

pub(crate) struct World {
    pub(crate) people: Vec<Person>,
    pub(crate) charter: Charter,
}

impl World {
    /// An organisation of people with roles of rank 5, 10 and 50, all of which have all rights.
    /// With `quorum`, there are three root keys, of which two must sign.
    pub(crate) fn new(quorum: bool) -> Self {
        let random = SeededRandom::new(4);
        let founding = DeviceKey::generate(&random);
        let recovery = DeviceKey::generate(&random);
        let charter =
            Charter::found("Night shift", "Bridge", &founding, Some(recovery.id()), &random);
        let member = charter.member_of(founding.id());
        let keys = [founding, DeviceKey::generate(&random), recovery];
        let people = vec![Person { keys, member }];
        let mut world = Self { people, charter };
        for _ in 1..=FAY {
            world.join(&random);
        }
        let made = [
            role(1, 5, Capabilities::ALL),
            role(2, 10, Capabilities::ALL),
            role(3, 50, Capabilities::ALL),
        ];
        let mut changes: Vec<_> = made.into_iter().map(Change::Role).collect();
        for (number, who) in [(1, CHIEF), (2, ANN), (2, BOB), (2, CID), (3, DAN)] {
            changes.push(world.grant(number, &[who]));
        }
        changes.push(Change::Channel(channel(1, EVERYWHERE)));
        changes.push(Change::Channel(channel(2, Place::Channel(channel_id(1)))));
        world.by(FOUNDER, changes);
        let listed = world.charter.unlisted(world.people[FOUNDER].member);
        world.by(FOUNDER, vec![Change::Admitted(List::truncated(listed))]);
        if quorum {
            let keys = [FOUNDER, CHIEF, ANN].map(|who| world.people[who].key().id());
            let document = world.next_root(&keys, 2);
            let signed = Cosigned::unsigned(document)
                .signed(world.people[FOUNDER].key())
                .signed(&world.people[FOUNDER].keys[2])
                .signed(world.people[CHIEF].key());
            assert_eq!(world.charter.take(Piece::Root(signed)), Ok(true));
        }
        world
    }

    /// A new member whom the founder admits.
    pub(crate) fn join(&mut self, random: &SeededRandom) -> usize {
        let keys = [(); 3].map(|()| DeviceKey::generate(random));
        let founder = &self.people[FOUNDER];
        let recovery = Recovery::of(self.charter.organisation(), keys[2].id(), &keys[0]);
        let certificate = self
            .charter
            .issue(founder.key(), founder.member, keys[0].id(), Some(recovery))
            .unwrap();
        assert_eq!(self.charter.take(Piece::Certificate(certificate)), Ok(true));
        let member = self.charter.member_of(keys[0].id());
        self.people.push(Person { keys, member });
        self.people.len() - 1
    }

    pub(crate) fn next_root(&self, keys: &[hark_keys::DeviceId], threshold: u8) -> RootDocument {
        let newest =
            self.charter.roots().find(|it| it.unverified() == self.charter.root()).unwrap();
        RootDocument {
            version: newest.unverified().version + 1,
            previous: newest.hash(),
            name: "Night shift".to_owned(),
            keys: RootKeys::try_from(List::truncated(keys.iter().copied())).unwrap(),
            threshold,
            merges: List::default(),
            cuts: List::default(),
            content: List::default(),
        }
    }

    pub(crate) fn member(&self, who: usize) -> MemberId {
        self.people[who].member
    }

    pub(crate) fn grant(&self, number: u8, to: &[usize]) -> Change {
        Change::Grant(self.grant_of(number, EVERYWHERE, to))
    }

    pub(crate) fn ungrant(&self, number: u8, to: &[usize]) -> Change {
        Change::Ungrant(self.grant_of(number, EVERYWHERE, to))
    }

    pub(crate) fn grant_of(&self, number: u8, at: Place, to: &[usize]) -> Grant {
        let members: BTreeSet<_> = to.iter().map(|who| self.member(*who)).collect();
        Grant { role: role_id(number), at, members: List::truncated(members) }
    }

    pub(crate) fn remove(&self, who: usize) -> Change {
        let member = self.member(who);
        Change::Remove { member, admission: self.charter.state().removals(member) + 1 }
    }

    /// The operation that an honest device makes of these changes, taken at once.
    pub(crate) fn by(&mut self, who: usize, changes: Vec<Change>) -> Cosigned<Operation> {
        let person = &self.people[who];
        let operation = self.charter.edit(person.key(), person.member, changes).unwrap();
        assert_eq!(self.charter.take(Piece::Operation(operation.clone())), Ok(true));
        operation
    }

    /// The draft of these changes by somebody's device, whether it is allowed or not.
    pub(crate) fn draft(&self, who: usize, changes: Vec<Change>) -> Operation {
        self.draft_from(&self.charter, who, changes)
    }

    /// The same by what `charter` says, with no cuts.
    pub(crate) fn draft_from(
        &self,
        charter: &Charter,
        who: usize,
        changes: Vec<Change>,
    ) -> Operation {
        let person = &self.people[who];
        let mut draft = charter.draft(person.key().id(), person.member, vec![], vec![]).unwrap();
        draft.changes = List::truncated(changes);
        draft
    }

    /// The same, cosigned by the first devices of others.
    pub(crate) fn draft_with(
        &self,
        charter: &Charter,
        who: usize,
        with: &[usize],
        changes: Vec<Change>,
    ) -> Operation {
        let mut draft = self.draft_from(charter, who, changes);
        let mut cosigners: Vec<_> = with.iter().map(|who| self.people[*who].key().id()).collect();
        cosigners.sort_unstable();
        draft.cosigners = List::truncated(cosigners);
        draft
    }

    /// The operation, signed by its author and all cosigners.
    pub(crate) fn sign(&self, operation: Operation) -> Cosigned<Operation> {
        let signers: Vec<_> =
            std::iter::once(operation.author).chain(operation.cosigners.iter().copied()).collect();
        let keys = || self.people.iter().flat_map(|person| &person.keys);
        signers.iter().fold(Cosigned::unsigned(operation), |signed, signer| {
            signed.signed(keys().find(|key| key.id() == *signer).expect("somebody's"))
        })
    }

    pub(crate) fn take(&mut self, operation: Operation) -> Result<bool, PieceError> {
        let piece = Piece::Operation(self.sign(operation));
        self.charter.take_all([piece]).remove(0)
    }

    pub(crate) fn add_device(&self, who: usize, device: &DeviceKey) -> Change {
        let consent = device_consent(self.charter.organisation(), self.member(who), device);
        Change::AddDevice { device: device.id(), consent }
    }

    pub(crate) fn rank(&self, who: usize) -> u8 {
        self.charter.state().rank(self.member(who), EVERYWHERE).0
    }

    pub(crate) fn verdict(&self, operation: &Cosigned<Operation>) -> Verdict {
        verdict(&self.charter, operation)
    }
}

pub(crate) fn verdict(charter: &Charter, operation: &Cosigned<Operation>) -> Verdict {
    let mut log = charter.log();
    let (_, verdict) = log.find(|(it, _)| it.hash() == operation.hash()).expect("it was taken");
    verdict.clone()
}

/// A certificate that `issuer` signs, whether it may or not.
pub(crate) fn certificate(
    charter: &Charter,
    issuer: &Person,
    device: &DeviceKey,
    admission: u32,
) -> MemberCertificate {
    let own = charter.certificate_of(issuer.member);
    MemberCertificate {
        organisation: charter.organisation(),
        device: device.id(),
        recovery: None,
        admission,
        issuer: issuer.key().id(),
        issuer_certificate: own.map_or(NONE, |it| ObjectHash::from_bytes(it.hash())),
    }
}

pub(crate) fn role_id(number: u8) -> RoleId {
    RoleId::from_bytes([number; 16])
}

pub(crate) fn channel_id(number: u8) -> ChannelId {
    ChannelId::from_bytes([number; 16])
}

pub(crate) fn preset_id(number: u8) -> PresetId {
    PresetId::from_bytes([number; 16])
}

pub(crate) fn role(number: u8, rank: u8, capabilities: Capabilities) -> Role {
    Role { id: role_id(number), name: format!("role {number}"), rank: Rank(rank), capabilities }
}

pub(crate) fn channel(number: u8, parent: Place) -> Channel {
    Channel { parent, ..Channel::open(channel_id(number), &format!("channel {number}")) }
}

pub(crate) fn rule(at: Place, subject: Subject, allow: Capabilities, deny: Capabilities) -> Change {
    Change::Rule(Rule { at, subject, allow, deny })
}

pub(crate) fn preset(number: u8, rules: &[Rule], grants: Vec<Grant>) -> Preset {
    Preset {
        rules: List::truncated(rules.iter().copied()),
        grants: List::truncated(grants),
        ..Preset::empty(preset_id(number), &format!("preset {number}"))
    }
}

/// Offers pieces one by one until nothing more is taken. Pieces that wait for others are offered
/// again.
pub(crate) fn take_until_done(charter: &mut Charter, mut pieces: Vec<Piece>) {
    loop {
        let before = pieces.len();
        pieces.retain(|piece| match charter.take_all([piece.clone()]).remove(0) {
            Ok(_) => false,
            Err(PieceError::Missing(missing)) => {
                assert!(!missing.is_empty());
                assert!(missing.iter().any(|hash| !charter.contains(hash)));
                true
            }
            // It is of a root key whose document is still to come, or comes before what gives the
            // right to it.
            Err(PieceError::Rootless | PieceError::Stranger) => true,
            Err(error) => panic!("{error:?}: {piece:?}"),
        });
        if pieces.is_empty() || pieces.len() == before {
            // The rest are certificates that nobody lists, of issuers who may no longer admit.
            pieces.retain(|piece| !matches!(piece, Piece::Certificate(_)));
            assert_eq!(pieces, [], "these wait for ever");
            return;
        }
    }
}

/// An empty charter of the same organisation.
pub(crate) fn blank(charter: &Charter) -> Charter {
    Charter::of(charter.roots().next().unwrap().clone()).unwrap()
}

/// Checks that two charters say the same, in everything that is visible from outside.
#[track_caller]
pub(crate) fn assert_same(one: &Charter, other: &Charter) {
    assert_eq!(one.state(), other.state());
    assert_eq!(one.digest(), other.digest());
    let log = |charter: &Charter| -> Vec<_> {
        charter.log().map(|(it, verdict)| (it.hash(), verdict.clone())).collect()
    };
    assert_eq!(log(one), log(other));
    assert_eq!(one.heads().collect::<Vec<_>>(), other.heads().collect::<Vec<_>>());
}

/// Checks that a charter says what the naive model makes of its pieces, whatever the calendar says.
#[track_caller]
pub(crate) fn assert_as_model(charter: &Charter) {
    let pieces: Vec<_> = charter.pieces_in_order().collect();
    let outcome = model::evaluate(&pieces);
    for now in [0, 499, 500, 650, 10_000].map(UnixTime::from_secs) {
        let mut charter = charter.clone();
        charter.set_calendar(now);
        assert_as_model_at(now, &charter, &outcome);
    }
}

#[track_caller]
fn assert_as_model_at(now: UnixTime, charter: &Charter, outcome: &model::Outcome) {
    let (state, view) = (charter.state(), &outcome.view);

    let verdicts: Vec<_> = charter
        .log()
        .map(|(operation, verdict)| {
            let verdict = match verdict {
                Verdict::Void(_) => None,
                Verdict::Judged(level, judged) => {
                    Some((i32::from(level.0), judged.iter().map(Result::is_ok).collect()))
                }
            };
            (operation.hash(), verdict)
        })
        .collect();
    assert_eq!(verdicts, outcome.verdicts);
    let held = charter.members().filter(|member| {
        let certificate = charter.certificate_of(*member).unwrap();
        charter.contains(&ObjectHash::from_bytes(certificate.hash()))
    });
    let members = outcome.members.iter().copied();
    let here: BTreeSet<_> = members.filter(|member| !view.is_banned(now, *member)).collect();
    assert_eq!(held.collect::<BTreeSet<_>>(), here);

    let channels: Vec<_> = state.channels().cloned().collect();
    let there = view.channels.iter().filter(|(id, _)| view.is_there(**id));
    assert_eq!(channels, there.map(|(_, (channel, _))| channel.clone()).collect::<Vec<_>>());
    for (id, (_, preset)) in &view.channels {
        assert_eq!(state.preset_of(*id), *preset);
        let linked = view.links.iter().filter_map(|(a, b)| match (a == id, b == id) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        });
        assert_eq!(state.linked(*id).collect::<Vec<_>>(), linked.collect::<Vec<_>>());
    }
    let roles: Vec<_> = view.roles.values().map(|(role, _)| role).collect();
    assert_eq!(state.roles().collect::<Vec<_>>(), roles);
    let mut rules: Vec<_> = state.rules().collect();
    let mut expected: Vec<_> = view
        .rules
        .iter()
        .map(|it| (it.rule.at, it.rule.subject, it.rule.allow, it.rule.deny))
        .collect();
    rules.sort_unstable();
    expected.sort_unstable();
    assert_eq!(rules, expected);
    let presets = view.preset_list();
    assert_eq!(state.presets().collect::<Vec<_>>(), presets.values().collect::<Vec<_>>());
    let loads: Vec<_> = view.loads.values().map(|(preset, _)| preset).collect();
    assert_eq!(state.loaded().collect::<Vec<_>>(), loads);
    assert_eq!(state.relays().collect::<Vec<_>>(), view.relays.values().collect::<Vec<_>>());
    assert_eq!(*state.policies(), view.policies);

    let mut members: BTreeSet<_> = outcome.members.clone();
    members.extend(view.devices.keys());
    members.extend(charter.root().keys.iter().map(|key| charter.member_of(key)));
    let places = std::iter::once(EVERYWHERE)
        .chain(view.channels.keys().map(|id| Place::Channel(*id)))
        .collect::<Vec<_>>();
    for member in members {
        let grants: BTreeSet<_> = state.grants(member).collect();
        assert_eq!(grants, view.all_held(member));
        assert_eq!(state.removals(member), view.removals.get(&member).copied().unwrap_or(0));
        assert_eq!(state.series(member), view.series(member));
        let revoked = state.revoked_tickets().filter(|it| it.issuer == member).map(|it| it.key);
        assert_eq!(revoked.collect::<BTreeSet<_>>(), view.revoked_of(member));
        let added = view.devices.get(&member).into_iter().flatten();
        let added: BTreeSet<_> = added
            .filter(|device| device.kind == 2 && device.retired.is_none())
            .map(|device| device.key)
            .collect();
        assert_eq!(state.added_devices(member).collect::<BTreeSet<_>>(), added);
        for at in &places {
            assert_eq!(state.rank(member, *at).0, view.rank(member, *at));
            for right in Capabilities::ALL.iter() {
                let decision = state.decide(member, right, *at);
                let allowed = view.permits(now, member, right, *at);
                assert_eq!(decision.allows(), allowed, "{right} at {at:?}: {decision:?}");
            }
        }
    }
}
