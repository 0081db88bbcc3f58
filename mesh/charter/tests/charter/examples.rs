//! Examples of what a charter does. The rules in full are tested against a second model.

use hark_charter::{
    CHAIN_MAX, CertificateChain, ChainError, Charter, Decision, Denial, EditError, IssueError,
    Piece, PieceError, RootDocument, SnapshotError,
    content::{
        Capabilities, Change, Channel, ChannelName, Grant, Place, Policy, Preset, Rank, Role, Rule,
        Subject,
    },
    device_consent,
};
use hark_keys::{
    ChannelId, Cosigned, DeviceKey, List, MemberId, PresetId, RoleId, SeededRandom, decode, encode,
};

use crate::world::role;

/// An organisation with a founder and members of various ranks, all holding the same charter.
struct World {
    founder: Person,
    random: SeededRandom,
    charter: Charter,
}

struct Person {
    key: DeviceKey,
    member: MemberId,
}

impl World {
    fn new() -> Self {
        let random = SeededRandom::new(4);
        let key = DeviceKey::generate(&random);
        let charter = Charter::found("Night shift", "Bridge", &key, None, &random);
        let member = charter.member_of(key.id());
        Self { founder: Person { key, member }, random, charter }
    }

    /// A new member whom the founder has admitted.
    fn join(&mut self) -> Person {
        let key = DeviceKey::generate(&self.random);
        let by = &self.founder;
        let certificate = self.charter.issue(&by.key, by.member, key.id(), None).unwrap();
        assert_eq!(self.charter.take(Piece::Certificate(certificate)), Ok(true));
        let member = self.charter.member_of(key.id());
        assert!(self.charter.is_member(member));
        Person { key, member }
    }

    fn officer(&mut self, rank: u8, capabilities: Capabilities) -> Person {
        let person = self.join();
        let role = Role {
            id: RoleId::from_bytes([rank; 16]),
            name: format!("rank {rank}"),
            rank: Rank(rank),
            capabilities,
        };
        let grant = grant(role.id, Place::Organisation, &[person.member]);
        self.by_founder(vec![Change::Role(role), Change::Grant(grant)]);
        assert_eq!(self.charter.state().rank(person.member, Place::Organisation), Rank(rank));
        person
    }

    fn by_founder(&mut self, changes: Vec<Change>) {
        let by = &self.founder;
        let operation = self.charter.edit(&by.key, by.member, changes).unwrap();
        assert_eq!(self.charter.take(Piece::Operation(operation)), Ok(true));
    }

    fn by(&mut self, person: &Person, changes: Vec<Change>) -> Result<(), EditError> {
        let operation = self.charter.edit(&person.key, person.member, changes)?;
        assert_eq!(self.charter.take(Piece::Operation(operation)), Ok(true));
        Ok(())
    }

    fn bridge(&self) -> ChannelId {
        self.charter.state().channels().next().unwrap().id
    }

    fn allows(&self, person: &Person, right: Capabilities, at: Place) -> bool {
        self.charter.allows(person.member, right, at)
    }
}

fn grant(role: RoleId, at: Place, members: &[MemberId]) -> Grant {
    Grant { role, at, members: List::truncated(members.iter().copied()) }
}

fn channel(number: u8, parent: Place, name: &str) -> Channel {
    Channel { parent, ..Channel::open(ChannelId::from_bytes([number; 16]), name) }
}

/// [PROTO-4.1] [CHARTER-2.1]
#[test]
fn the_organisation_is_the_hash_of_its_founding_document() {
    let world = World::new();
    let document = world.charter.roots().next().unwrap();
    assert_eq!(world.charter.organisation().as_bytes(), document.hash().as_bytes());
    assert_eq!(world.charter.name(), "Night shift");
    let again = Charter::found("Night shift", "Bridge", &world.founder.key, None, &world.random);
    assert_ne!(again.organisation(), world.charter.organisation());
}

/// [CHARTER-6.2]
#[test]
fn a_squad_is_a_charter_in_which_all_may_talk_and_admit() {
    let mut world = World::new();
    let [ann, bob] = [world.join(), world.join()];
    let bridge = Place::Channel(world.bridge());
    assert!(world.allows(&ann, Capabilities::SPEAK, bridge));
    assert!(!world.allows(&ann, Capabilities::MANAGE_CHANNELS, bridge));
    assert!(world.allows(&world.founder, Capabilities::MANAGE_CHANNELS, bridge));
    let change = Change::Channel(channel(7, Place::Organisation, "Own"));
    let right = Denial::Right(Capabilities::MANAGE_CHANNELS, Place::Organisation);
    assert_eq!(world.by(&ann, vec![change]), Err(EditError::Denied(0, right)));
    // [CHARTER-6.6] The right to admit does not include the right to remove.
    let remove = Change::Remove { member: bob.member, admission: 1 };
    let right = Denial::Right(Capabilities::BAN, Place::Organisation);
    assert_eq!(world.by(&ann, vec![remove.clone()]), Err(EditError::Denied(0, right)));
    // Even with the right, nobody removes an equal.
    let rule = Rule {
        at: Place::Organisation,
        subject: Subject::Member(ann.member),
        allow: Capabilities::BAN,
        deny: Capabilities::NONE,
    };
    world.by_founder(vec![Change::Rule(rule)]);
    assert_eq!(world.by(&ann, vec![remove.clone()]), Err(EditError::Denied(0, Denial::Rank)));
    world.by_founder(vec![remove]);
    assert!(!world.charter.is_member(bob.member));
    assert!(!world.allows(&bob, Capabilities::LISTEN, bridge));
}

/// [CHARTER-3.1]
#[test]
fn a_chain_grows_to_eight_certificates_and_no_further() {
    let mut world = World::new();
    let mut last = world.join();
    for length in 2..=CHAIN_MAX + 1 {
        let key = DeviceKey::generate(&world.random);
        let issued = world.charter.issue(&last.key, last.member, key.id(), None);
        if length > CHAIN_MAX {
            assert_eq!(issued, Err(IssueError::TooFar));
            break;
        }
        assert_eq!(world.charter.take(Piece::Certificate(issued.unwrap())), Ok(true));
        let member = world.charter.member_of(key.id());
        let chain = world.charter.chain_of(member);
        assert_eq!(chain.len(), length);
        assert_eq!(world.charter.verify_chain(&chain, key.id()), Ok(member));
        assert_eq!(world.charter.verify_chain(&chain, last.key.id()), Err(ChainError::Device));
        last = Person { key, member };
    }
}

/// Others, who know less, would refuse a chain that is accepted and passed on here.
#[test]
fn a_known_certificate_does_not_vouch_for_a_chain_with_a_bad_signature() {
    let mut world = World::new();
    let ann = world.join();
    let chain = world.charter.chain_of(ann.member);
    assert_eq!(world.charter.verify_chain(&chain, ann.key.id()), Ok(ann.member));
    let mut forged = encode(&chain);
    *forged.last_mut().unwrap() ^= 1;
    let forged: CertificateChain = decode(&forged, 4096).unwrap();
    let verified = world.charter.verify_chain(&forged, ann.key.id());
    assert_eq!(verified, Err(ChainError::Signature));
    let twice = chain.iter().chain(chain.iter()).cloned();
    let verified = world.charter.verify_chain(&CertificateChain::of(twice), ann.key.id());
    assert_eq!(verified, Err(ChainError::Broken));
}

/// [CHARTER-6.3] [CHARTER-6.4]
#[test]
fn the_nearest_rule_decides() {
    let mut world = World::new();
    let [ann, bob] = [world.join(), world.join()];
    let flight = channel(1, Place::Organisation, "Flight");
    let alpha = channel(2, Place::Channel(flight.id), "Alpha");
    let (at_flight, at_alpha) = (Place::Channel(flight.id), Place::Channel(alpha.id));
    let pilot = Role {
        id: RoleId::from_bytes([9; 16]),
        name: "pilot".to_owned(),
        rank: Rank(100),
        capabilities: Capabilities::NONE,
    };
    let rule = |at, subject, allow, deny| Change::Rule(Rule { at, subject, allow, deny });
    let (speak, none) = (Capabilities::SPEAK, Capabilities::NONE);
    world.by_founder(vec![
        Change::Channel(flight),
        Change::Channel(alpha),
        Change::Role(pilot.clone()),
        Change::Grant(grant(pilot.id, at_flight, &[ann.member])),
        rule(at_flight, Subject::Everyone, none, speak),
        rule(at_alpha, Subject::Role(pilot.id), speak, none),
    ]);
    assert!(!world.allows(&ann, speak, at_flight));
    assert!(world.allows(&ann, speak, at_alpha));
    assert!(!world.allows(&bob, speak, at_alpha));
    world.by_founder(vec![rule(at_alpha, Subject::Member(ann.member), none, speak)]);
    assert!(!world.allows(&ann, speak, at_alpha));
    let why = world.charter.why(ann.member, speak, at_alpha).unwrap();
    let Decision::Rule { allows: false, at, subject, .. } = why else { panic!("{why:?}") };
    assert_eq!((at, subject), (at_alpha, Subject::Member(ann.member)));
    // A rule without any rights is removed.
    world.by_founder(vec![rule(at_alpha, Subject::Member(ann.member), none, none)]);
    assert!(world.allows(&ann, speak, at_alpha));
}

/// [CHARTER-6.8] A role that was allowed into a closed channel lost against everyone's denial.
#[test]
fn a_role_was_kept_out_of_a_channel_that_is_closed_to_everyone_else() {
    let mut world = World::new();
    let [ann, bob, cid] = [world.join(), world.join(), world.join()];
    let room = channel(1, Place::Organisation, "Command");
    let at = Place::Channel(room.id);
    let (speak, none) = (Capabilities::SPEAK, Capabilities::NONE);
    let pilot = role(9, 100, none);
    let recruit = role(8, 200, none);
    let rule = |subject, allow, deny| Change::Rule(Rule { at, subject, allow, deny });
    world.by_founder(vec![
        Change::Channel(room),
        Change::Role(pilot.clone()),
        Change::Role(recruit.clone()),
        Change::Grant(grant(pilot.id, Place::Organisation, &[ann.member])),
        Change::Grant(grant(pilot.id, Place::Organisation, &[bob.member])),
        Change::Grant(grant(recruit.id, at, &[bob.member])),
        rule(Subject::Everyone, none, speak),
        rule(Subject::Role(pilot.id), speak, none),
    ]);
    let may = |world: &World| [&ann, &bob, &cid].map(|who| world.allows(who, speak, at));
    assert_eq!(may(&world), [true, true, false]);
    // Of two roles the denial decides. A person's own rule comes before both.
    world.by_founder(vec![rule(Subject::Role(recruit.id), none, speak)]);
    assert_eq!(may(&world), [true, false, false]);
    world.by_founder(vec![
        rule(Subject::Member(ann.member), none, speak),
        rule(Subject::Member(bob.member), speak, none),
    ]);
    assert_eq!(may(&world), [false, true, false]);
    // Everybody has the role `member`, so a rule for it is one for everyone.
    let everybody = Subject::Role(hark_charter::content::MEMBER_ROLE);
    world.by_founder(vec![
        rule(Subject::Everyone, speak, none),
        rule(everybody, none, speak),
        rule(Subject::Member(ann.member), none, none),
    ]);
    assert_eq!(may(&world), [true, true, false]);
}

/// [CHARTER-6.8] An officer left allowances behind for itself, a friend and a role. By these it
/// kept open what somebody higher had denied everyone, and what it lost with its rank.
#[test]
fn an_officers_earlier_allowances_opened_what_a_higher_one_had_closed() {
    let mut world = World::new();
    let chief = world.officer(10, Capabilities::ALL);
    let officer = world.officer(50, Capabilities::ALL);
    let friend = world.join();
    let room = channel(1, Place::Organisation, "Command");
    let at = Place::Channel(room.id);
    let (speak, none) = (Capabilities::SPEAK, Capabilities::NONE);
    let pilot = role(9, 100, none);
    let rule = |subject, allow, deny| Change::Rule(Rule { at, subject, allow, deny });
    let allow = |subject| rule(subject, speak, none);
    world.by(&chief, vec![Change::Channel(room), Change::Role(pilot.clone())]).unwrap();
    let friends = Change::Grant(grant(pilot.id, Place::Organisation, &[friend.member]));
    let back_doors = [officer.member, friend.member].map(Subject::Member);
    let back_doors = back_doors.into_iter().chain([Subject::Role(pilot.id)]).map(allow);
    world.by(&officer, [friends].into_iter().chain(back_doors).collect()).unwrap();
    assert!(world.allows(&friend, speak, at));
    world.by(&chief, vec![rule(Subject::Everyone, none, speak)]).unwrap();
    assert!(!world.allows(&friend, speak, at));
    // The officer lacks the right as well. It cannot give it to anybody, nor to itself by a preset.
    assert!(!world.allows(&officer, speak, at));
    let refused = world.by(&officer, vec![allow(Subject::Role(pilot.id))]);
    let excess = Denial::Excess(speak);
    assert!(matches!(refused, Err(EditError::Denied(_, it)) if it == excess), "{refused:?}");
    let opens = Rule { at, subject: Subject::Role(pilot.id), allow: speak, deny: none };
    let id = PresetId::from_bytes([3; 16]);
    let preset = Preset { rules: List::truncated([opens]), ..Preset::empty(id, "escort") };
    let load = vec![Change::Preset(Box::new(preset)), Change::LoadPreset(id)];
    world.by(&officer, load).unwrap();
    assert!(!world.allows(&friend, speak, at));
    // Nor does it get in by its own rule when it stands low enough for that to bind.
    let demoted = grant(RoleId::from_bytes([50; 16]), Place::Organisation, &[officer.member]);
    world.by_founder(vec![Change::Ungrant(demoted)]);
    assert!(!world.allows(&officer, speak, at));
    // The one who closed it may open it to some.
    world.by(&chief, vec![allow(Subject::Member(friend.member))]).unwrap();
    assert!(world.allows(&friend, speak, at));
}

/// [CHARTER-5.6] [CHARTER-5.2]
#[test]
fn a_demoted_officer_cannot_act_in_the_name_of_what_he_was() {
    let mut world = World::new();
    let officer = world.officer(10, Capabilities::ALL);
    let before = world.charter.clone();
    world.by(&officer, vec![Change::Channel(channel(1, Place::Organisation, "First"))]).unwrap();
    let known = world.charter.clone();
    let role = RoleId::from_bytes([10; 16]);
    let taken = grant(role, Place::Organisation, &[officer.member]);
    world.by_founder(vec![Change::Ungrant(taken)]);
    // He continues where he was, as if he did not know of it.
    let late = Change::Channel(channel(2, Place::Organisation, "Late"));
    let late = known.edit(&officer.key, officer.member, vec![late]).unwrap();
    assert_eq!(world.charter.take(Piece::Operation(late)), Ok(true));
    let backdated = Change::Channel(channel(3, Place::Organisation, "Backdated"));
    let backdated = before.edit(&officer.key, officer.member, vec![backdated]).unwrap();
    assert_eq!(world.charter.take(Piece::Operation(backdated)), Ok(true));
    let names: Vec<_> = world.charter.state().channels().map(|it| it.name.clone()).collect();
    assert_eq!(names.len(), 1, "two operations of one number: neither counts: {names:?}");
    assert_eq!(world.charter.state().term(officer.member), 1);
}

/// Regression: a rule that allowed a right could be withdrawn without a cut, and what its member
/// made afterwards, as if without knowing of it, still counted. [CHARTER-5.6]
#[test]
fn an_allowance_that_is_withdrawn_cannot_be_used_by_backdating() {
    for withdrawn in [Capabilities::default(), Capabilities::SPEAK] {
        let mut world = World::new();
        let friend = world.join();
        let at = Place::Organisation;
        let rule = |allow| {
            Change::Rule(Rule {
                at,
                subject: Subject::Member(friend.member),
                allow,
                deny: Capabilities::default(),
            })
        };
        let all = Capabilities::ALL;
        world.by_founder(vec![rule(all)]);
        let known = world.charter.clone();
        world.by_founder(vec![rule(withdrawn)]);
        let late = Change::Channel(channel(2, at, "Late"));
        let late = known.edit(&friend.key, friend.member, vec![late]).unwrap();
        assert_eq!(world.charter.take(Piece::Operation(late)), Ok(true));
        assert!(world.charter.state().channels().all(|it| it.id != ChannelId::from_bytes([2; 16])));
    }
}

/// A member who has chosen nothing stays on the same channel, whatever the ids of a preset's
/// channels are.
#[test]
fn a_preset_does_not_bring_the_first_channel() {
    for byte in [0, 0xff] {
        let mut world = World::new();
        let ann = world.join();
        let first = world.charter.first_channel(ann.member).unwrap().id;
        let id = PresetId::from_bytes([5; 16]);
        let channels = List::truncated([channel(byte, Place::Organisation, "Command")]);
        let preset = Preset { channels, ..Preset::empty(id, "Night raid") };
        world.by_founder(vec![Change::Preset(Box::new(preset)), Change::LoadPreset(id)]);
        assert_eq!(world.charter.first_channel(ann.member).unwrap().id, first);
        // If there is no other, the preset's channel is heard.
        world.by_founder(vec![Change::RemoveChannel(first)]);
        assert_eq!(
            world.charter.first_channel(ann.member).unwrap().id,
            ChannelId::from_bytes([byte; 16])
        );
    }
}

/// [CHARTER-5.9] A device that learns of both has the later one, whichever arrived first.
#[test]
fn of_two_names_given_apart_the_later_in_order_stays() {
    let mut world = World::new();
    let officer = world.officer(5, Capabilities::ALL);
    world.by_founder(vec![Change::Channel(channel(7, Place::Organisation, "Seven"))]);
    let name = |name| vec![Change::Channel(channel(7, Place::Organisation, name))];
    let by = &world.founder;
    let early = world.charter.edit(&by.key, by.member, name("North")).unwrap();
    let mut apart = world.charter.clone();
    // One more operation before it makes the officer's the later.
    let other = vec![Change::Channel(channel(8, Place::Organisation, "Eight"))];
    let between = apart.edit(&officer.key, officer.member, other).unwrap();
    assert_eq!(apart.take(Piece::Operation(between.clone())), Ok(true));
    let late = apart.edit(&officer.key, officer.member, name("South")).unwrap();
    for order in [[&early, &between, &late], [&between, &late, &early]] {
        let mut charter = world.charter.clone();
        for operation in order {
            assert_eq!(charter.take(Piece::Operation(operation.clone())), Ok(true));
        }
        let named = charter.state().channel(ChannelId::from_bytes([7; 16])).unwrap();
        assert_eq!(named.name, ChannelName::Listed("South".to_owned()));
    }
}

/// [CHARTER-5.4]
#[test]
fn presets_come_and_go_as_one() {
    let mut world = World::new();
    let ann = world.join();
    let id = PresetId::from_bytes([5; 16]);
    let command = channel(1, Place::Organisation, "Command");
    let strike = channel(2, Place::Channel(command.id), "Strike");
    let at_command = Place::Channel(command.id);
    let deny = Rule {
        at: at_command,
        subject: Subject::Everyone,
        allow: Capabilities::NONE,
        deny: Capabilities::LISTEN,
    };
    let preset = Preset {
        channels: List::truncated([command, strike]),
        rules: List::truncated([deny]),
        ..Preset::empty(id, "Night raid")
    };
    world.by_founder(vec![Change::Preset(Box::new(preset))]);
    let before = world.charter.state().channels().count();
    world.by_founder(vec![Change::LoadPreset(id)]);
    assert_eq!(world.charter.state().channels().count(), before + 2);
    assert!(!world.allows(&ann, Capabilities::LISTEN, at_command));
    world.by_founder(vec![Change::UnloadPreset(id)]);
    assert_eq!(world.charter.state().channels().count(), before);
    assert_eq!(world.charter.state().rules().count(), 0);
}

/// [CHARTER-8.1]
#[test]
fn a_snapshot_brings_everything_back() {
    let mut world = World::new();
    let officer = world.officer(10, Capabilities::ALL);
    world.by(&officer, vec![Change::Channel(channel(1, Place::Organisation, "First"))]).unwrap();
    world.by_founder(vec![Change::Policy(Policy::InviteHoursMax(48))]);
    let restored = Charter::restore(&world.charter.snapshot()).unwrap();
    assert_eq!(restored, world.charter);
    assert_eq!(restored.state(), world.charter.state());
    let mut damaged = world.charter.snapshot();
    damaged.truncate(damaged.len() - 1);
    assert_eq!(Charter::restore(&damaged).err(), Some(SnapshotError::Damaged));
}

/// The checkpoint came after the operations that name it, and what it had forgotten was missing.
#[test]
fn a_charter_with_checkpoints_comes_back_from_the_disk() {
    let mut world = World::new();
    let officer = world.officer(10, Capabilities::ALL);
    for number in 1..=3 {
        let before = world.charter.clone();
        for place in [2 * number, 2 * number + 1] {
            let change = Change::Channel(channel(place, Place::Organisation, "Net"));
            world.by(&officer, vec![change]).unwrap();
        }
        let checkpoint = world.charter.draft_checkpoint().unwrap();
        let checkpoint = Cosigned::unsigned(checkpoint).signed(&world.founder.key);
        assert_eq!(world.charter.take(Piece::Checkpoint(checkpoint)), Ok(true));
        // Made by a device that did not know of it yet.
        let late = Change::Channel(channel(100 + number, Place::Organisation, "Late"));
        let late = before.edit(&world.founder.key, world.founder.member, vec![late]).unwrap();
        assert_eq!(world.charter.take(Piece::Operation(late)), Ok(true));
        let again = Change::Channel(channel(50 + number, Place::Organisation, "Net"));
        world.by(&officer, vec![again]).unwrap();
        let restored = Charter::restore(&world.charter.snapshot()).unwrap();
        assert_eq!(restored, world.charter);
        assert_eq!(restored.state(), world.charter.state());
        assert_eq!(restored.checkpoint(), u32::from(number));
    }
}

/// Each side took the other's operation for its own, as their numbers are the same. [CHARTER-4.4]
/// [PROTO-12.6] [PROTO-12.8]
#[test]
fn two_operations_of_one_number_are_found_where_each_side_has_one() {
    let mut world = World::new();
    let officer = world.officer(10, Capabilities::ALL);
    let mut other = world.charter.clone();
    for (charter, numbers) in [(&mut world.charter, 1..=2_u8), (&mut other, 3..=3)] {
        for number in numbers {
            let change = Change::Channel(channel(number, Place::Organisation, "Net"));
            let operation = charter.edit(&officer.key, officer.member, vec![change]).unwrap();
            assert_eq!(charter.take(Piece::Operation(operation)), Ok(true));
        }
    }
    let own = &mut world.charter;
    assert!(own.lacks_of(&other.have()));
    other.take_all(own.lacking(&other.have()));
    own.take_all(other.lacking(&own.have()));
    assert_eq!(*own, other);
    assert_eq!(own.operations(), 4, "the officer's role, and three operations");
    assert!(!own.lacks_of(&other.have()) && !other.lacks_of(&own.have()));
}

/// A newcomer admitted by a further device of a member could not read its own disk: it did not yet
/// know what makes that device one of the member's. [CHARTER-3.7]
#[test]
fn what_a_newcomer_was_shown_comes_back_from_its_disk() {
    let mut world = World::new();
    let officer = world.officer(10, Capabilities::ALL);
    let random = SeededRandom::new(77);
    let [further, newcomer] = [(); 2].map(|()| DeviceKey::generate(&random));
    let consent = device_consent(world.charter.organisation(), officer.member, &further);
    world.by(&officer, vec![Change::AddDevice { device: further.id(), consent }]).unwrap();
    let made = world.charter.issue(&further, officer.member, newcomer.id(), None).unwrap();
    let chain = world.charter.chain_with(made);
    let mut own = Charter::of_roots(world.charter.roots().cloned()).unwrap();
    let member = own.rooted_chain(&chain, newcomer.id(), &[], true).unwrap();
    assert_eq!(own.rooted_chain(&chain, newcomer.id(), &[], false), Err(ChainError::Issuer));
    own.show_chain(&chain);
    assert!(own.is_known(member));
    assert!(Charter::restore(&own.snapshot()).unwrap().is_known(member));
}

/// [CHARTER-2.6] Another document of a version that a checkpoint had settled was still chosen if
/// its hash was lower. So the holder of a former key could make everything since void.
#[test]
fn a_root_document_that_a_checkpoint_has_settled_is_chosen_for_good() {
    let mut world = World::new();
    let officer = world.officer(10, Capabilities::ALL);
    let founding = world.charter.roots().next().unwrap().clone();
    let second = RootDocument {
        version: 2,
        previous: founding.hash(),
        content: List::default(),
        ..founding.unverified().clone()
    };
    let key = &world.founder.key;
    let first = Cosigned::unsigned(second.clone()).signed(key);
    let cuts = List::truncated([world.charter.cut(officer.member)]);
    let lower = (0..).find_map(|number| {
        let name = format!("Shift {number}");
        let document = RootDocument { name, cuts: cuts.clone(), ..second.clone() };
        let document = Cosigned::unsigned(document).signed(key);
        (document.hash() < first.hash()).then_some(document)
    });
    assert_eq!(world.charter.take(Piece::Root(first.clone())), Ok(true));
    let mut forked = world.charter.clone();
    let checkpoint = world.charter.draft_checkpoint().unwrap();
    let checkpoint = Piece::Checkpoint(Cosigned::unsigned(checkpoint).signed(key));
    assert_eq!(world.charter.take(checkpoint.clone()), Ok(true));
    let lower = Piece::Root(lower.unwrap());
    assert_eq!(world.charter.take(lower.clone()), Err(PieceError::Late));
    assert!(!world.charter.is_forked());
    assert_eq!(world.charter.root(), first.unverified());
    let mut restored = Charter::restore(&world.charter.snapshot()).unwrap();
    assert_eq!(restored, world.charter);
    assert_eq!(restored.take(lower.clone()), Err(PieceError::Late));
    // Before a checkpoint it is chosen, and the fork is shown.
    assert_eq!(forked.take(lower), Ok(true));
    assert!(forked.is_forked());
    assert_ne!(forked.root(), first.unverified());
}
