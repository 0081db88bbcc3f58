//! A device without the right makes others hold nothing, and one with the right makes them hold no
//! more than its own room. [CHARTER-8.5]

use std::collections::BTreeSet;

use hark_charter::{
    Charter, EditError, FORKS_MAX, MemberCertificate, Operation, Piece, PieceError, RootDocument,
    RootKeys,
    content::{
        Capabilities, Change, MEMBER_ROLE, Place, Policy, Relay, RevokedTicket, Sanction,
        SanctionKind, Subject,
    },
};
use hark_keys::{Cosigned, DeviceId, DeviceKey, List, ObjectHash, SeededRandom, Signed, UnixTime};

use crate::checkpoints::catch_up;
use crate::world::{
    ANN, BOB, CHIEF, DAN, EVE, EVERYWHERE, FAY, FOUNDER, NONE, World, assert_same, blank, channel,
    channel_id, preset, preset_id, role, role_id, rule,
};

fn hidden(number: u8) -> Vec<Change> {
    vec![Change::Channel(channel(number, EVERYWHERE))]
}

fn settle(world: &mut World, key: usize) {
    let checkpoint = world.charter.draft_checkpoint().unwrap();
    let key = &world.people[FOUNDER].keys[key];
    let signed = Cosigned::unsigned(checkpoint).signed(key);
    assert_eq!(world.charter.take(Piece::Checkpoint(signed)), Ok(true));
}

/// A world in which the role `member` may change nothing.
fn strict() -> World {
    where_all_may(Capabilities::NONE)
}

/// A world in which every member has these rights, and those of speech.
fn where_all_may(rights: Capabilities) -> World {
    let mut world = World::new(false);
    let mut all = role(0, 251, Capabilities::ALL_OF_SPEECH | rights);
    all.id = MEMBER_ROLE;
    world.by(FOUNDER, vec![Change::Role(all)]);
    settle(&mut world, 0);
    world
}

fn forged(charter: &Charter, above: ObjectHash, key: &DeviceKey, number: u32) -> Piece {
    let made = MemberCertificate {
        organisation: charter.organisation(),
        device: key.id(),
        recovery: None,
        admission: number,
        issuer: key.id(),
        issuer_certificate: above,
    };
    Piece::Certificate(Signed::sign(made, key))
}

/// [CHARTER-3.7] [CHARTER-3.20] A certificate was held if the one that it named as its issuer's was
/// known, whatever key had signed it. So a stranger could fill the room for good.
#[test]
fn who_is_no_device_of_the_issuer_fills_nothing_with_certificates() {
    let mut world = World::new(false);
    let key = DeviceKey::generate(&SeededRandom::new(11));
    let known: Vec<_> = [ANN, EVE]
        .map(|who| world.charter.certificate_of(world.member(who)).unwrap().hash())
        .to_vec();
    let before = world.charter.clone();
    for number in 0..40_000 {
        let above = ObjectHash::from_bytes(known[number as usize % 2]);
        let piece = forged(&before, above, &key, number);
        assert_eq!(world.charter.take_all([piece]), [Err(PieceError::Stranger)]);
    }
    assert_same(&before, &world.charter);
    assert_eq!(before.snapshot(), world.charter.snapshot());
    world.join(&SeededRandom::new(12));
    world.by(CHIEF, vec![world.remove(BOB)]);
}

/// [CHARTER-4.1] [CHARTER-4.20] An operation was held if the certificate that it named was known,
/// whoever had signed it.
#[test]
fn who_is_no_device_of_the_member_fills_nothing_with_operations() {
    let mut world = World::new(false);
    let before = world.charter.clone();
    let key = DeviceKey::generate(&SeededRandom::new(11));
    let template = world.draft(CHIEF, hidden(9));
    for number in 0..5_000 {
        let draft = Operation {
            author: key.id(),
            term: number % 7,
            sequence: 1,
            previous: NONE,
            root: number,
            ..template.clone()
        };
        let piece = Piece::Operation(Cosigned::unsigned(draft).signed(&key));
        assert_eq!(world.charter.take_all([piece]), [Err(PieceError::Stranger)]);
    }
    // Not even a root key acts for another member.
    let own = world.draft(FOUNDER, hidden(9));
    let borrowed = Operation { certificate: template.certificate, ..own };
    assert_eq!(world.take(borrowed), Err(PieceError::Stranger));
    assert_same(&before, &world.charter);
    world.by(CHIEF, hidden(9));
}

/// [CHARTER-8.5] [CHARTER-8.20] A member's void operations were held, up to 4096 of each key and
/// term, and anybody could name any term.
#[test]
fn a_member_without_rights_makes_nobody_hold_what_is_void() {
    let mut world = strict();
    let before = world.charter.clone();
    let draft = world.draft(EVE, vec![]);
    for number in 0..200_u32 {
        let empty = Change::Admitted(List::default());
        for (term, change) in [(0, &hidden(9)[0]), (number, &world.grant(1, &[EVE])), (0, &empty)] {
            let changes = List::truncated([change.clone()]);
            let made = Operation { changes, term, root: number, ..draft.clone() };
            assert_eq!(world.take(made), Err(PieceError::Stranger));
        }
        let cuts = List::truncated([world.charter.cut(world.member(FAY))]);
        let made = Operation { cuts, root: number, ..draft.clone() };
        assert_eq!(world.take(made), Err(PieceError::Stranger));
    }
    assert_same(&before, &world.charter);
    // The member may change its own devices, and has no more room than that takes.
    let device = DeviceKey::generate(&SeededRandom::new(1));
    world.by(EVE, vec![world.add_device(EVE, &device)]);
    let mut made = 1;
    loop {
        let person = &world.people[EVE];
        match world.charter.edit(person.key(), person.member, vec![]) {
            Ok(operation) => world.charter.take(Piece::Operation(operation)).unwrap(),
            Err(error) => break assert_eq!(error, EditError::Refused(PieceError::Full)),
        };
        made += 1;
    }
    assert!((50..100).contains(&made), "{made}");
    world.by(BOB, hidden(10));
}

/// [CHARTER-8.20] The right that a member needs for each sort of change; none for what is about
/// itself.
#[test]
fn who_lacks_the_right_to_a_change_is_refused() {
    let world = World::new(false);
    let [own, other] = [EVE, FAY].map(|who| world.member(who));
    let key = world.people[EVE].keys[1].id();
    let [one, two] = [1, 2].map(channel_id);
    let ticket = |issuer| {
        let expires = UnixTime::from_secs(1);
        Change::RevokeTicket(RevokedTicket { issuer, key, expires })
    };
    let here = Place::Channel(one);
    let sanction = |kind, at| {
        Change::Sanction(Sanction { member: other, kind, at, until: None, name: String::new() })
    };
    let lift = |kind, at| Change::Lift { member: other, kind, at };
    let relay = Relay {
        device: key,
        name: "depot".to_owned(),
        addresses: List::truncated(["192.0.2.1:7000".parse().unwrap()]),
        members_max: 0,
        rate_kbps: 0,
    };
    let needs = [
        (Capabilities::NONE, world.add_device(EVE, &world.people[EVE].keys[1])),
        (Capabilities::NONE, Change::RetireDevice { device: key, term: 0, last: 0 }),
        (Capabilities::NONE, ticket(own)),
        (Capabilities::NONE, Change::RevokeTickets(Some(own))),
        (Capabilities::ADMIT, ticket(other)),
        (Capabilities::ADMIT, Change::RevokeTickets(Some(other))),
        (Capabilities::ADMIT, Change::Admitted(List::default())),
        (Capabilities::BAN, world.remove(FAY)),
        (Capabilities::BAN, sanction(SanctionKind::Ban, EVERYWHERE)),
        (Capabilities::BAN, lift(SanctionKind::Ban, EVERYWHERE)),
        (Capabilities::MOVE, sanction(SanctionKind::Ban, here)),
        (Capabilities::MOVE, lift(SanctionKind::Ban, here)),
        (Capabilities::MUTE, sanction(SanctionKind::Mute, EVERYWHERE)),
        (Capabilities::MUTE, lift(SanctionKind::Mute, here)),
        (Capabilities::MANAGE_ROLES, Change::Role(role(9, 250, Capabilities::NONE))),
        (Capabilities::MANAGE_ROLES, Change::RemoveRole(role_id(9))),
        (Capabilities::MANAGE_ROLES, world.grant(3, &[FAY])),
        (Capabilities::MANAGE_ROLES, world.ungrant(3, &[FAY])),
        (
            Capabilities::MANAGE_ROLES,
            rule(here, Subject::Everyone, Capabilities::NONE, Capabilities::NONE),
        ),
        (Capabilities::MANAGE_CHANNELS, Change::Channel(channel(9, EVERYWHERE))),
        (Capabilities::MANAGE_CHANNELS, Change::MoveChannel { channel: two, parent: EVERYWHERE }),
        (Capabilities::MANAGE_CHANNELS, Change::RemoveChannel(two)),
        (Capabilities::MANAGE_CHANNELS, Change::Link { a: one, b: two, linked: true }),
        (Capabilities::EDIT_PRESETS, Change::Preset(Box::new(preset(1, &[], vec![])))),
        (Capabilities::EDIT_PRESETS, Change::RemovePreset(preset_id(1))),
        (Capabilities::EDIT_PRESETS, Change::LoadPreset(preset_id(1))),
        (Capabilities::EDIT_PRESETS, Change::UnloadPreset(preset_id(1))),
        (Capabilities::APPOINT_RELAYS, Change::Relay(relay)),
        (Capabilities::APPOINT_RELAYS, Change::RemoveRelay(key)),
        (Capabilities::ALL, Change::Policy(Policy::InviteHoursMax(1))),
        (Capabilities::ALL, Change::RevokeTickets(None)),
    ];
    let single = Capabilities::ALL.iter();
    for rights in single.chain([Capabilities::NONE, Capabilities::ALL - Capabilities::JOIN]) {
        let world = where_all_may(rights);
        let rights = rights | Capabilities::ALL_OF_SPEECH;
        let take = |draft| {
            let piece = Piece::Operation(world.sign(draft));
            world.charter.clone().take_all([piece]).remove(0)
        };
        for (needed, change) in &needs {
            let held = rights.contains(*needed);
            let expected = if held { Ok(true) } else { Err(PieceError::Stranger) };
            let result = take(world.draft(EVE, vec![change.clone()]));
            assert_eq!(result, expected, "{change:?} with {rights}");
        }
        let mut draft = world.draft(EVE, vec![]);
        draft.cuts = List::truncated([world.charter.cut(world.member(FAY))]);
        let all = rights == Capabilities::ALL;
        let expected = if all { Ok(true) } else { Err(PieceError::Stranger) };
        assert_eq!(take(draft), expected, "a cut with {rights}");
    }
}

/// [CHARTER-8.5] [CHARTER-8.21] [CHARTER-8.22] [CHARTER-7.6] [CHARTER-7.25] A member who may
/// admit could fill the room for certificates, and nothing ever emptied it again.
#[test]
fn who_may_admit_fills_its_own_room_alone_and_a_checkpoint_empties_it() {
    let mut world = World::new(false);
    let random = SeededRandom::new(13);
    let admit = |world: &World, device: &DeviceKey| {
        let ann = &world.people[ANN];
        let made = world.charter.issue(ann.key(), ann.member, device.id(), None).unwrap();
        Piece::Certificate(made)
    };
    let honest = DeviceKey::generate(&random);
    let piece = admit(&world, &honest);
    world.charter.take(piece).unwrap();
    let listed = world.charter.unlisted(world.member(ANN));
    world.by(ANN, vec![Change::Admitted(List::truncated(listed))]);
    let cut = world.charter.cut(world.member(ANN));
    let before = world.charter.certificates();

    // It issues, and lists, as many as others take.
    let mut puppets = Vec::new();
    'flood: loop {
        let round: Vec<_> = (0..60).map(|_| DeviceKey::generate(&random)).collect();
        for device in round {
            let piece = admit(&world, &device);
            assert_eq!(world.charter.take_all([piece]), [Ok(true)]);
            puppets.push(device);
        }
        let listed = world.charter.unlisted(world.member(ANN));
        let ann = &world.people[ANN];
        let change = Change::Admitted(List::truncated(listed));
        match world.charter.edit(ann.key(), ann.member, vec![change]) {
            Ok(operation) => drop(world.charter.take(Piece::Operation(operation)).unwrap()),
            Err(error) => break 'flood assert_eq!(error, EditError::Refused(PieceError::Full)),
        }
    }
    let held = world.charter.certificates() - before;
    assert!((500..1000).contains(&held), "{held} of {}", puppets.len());
    // The members that it admits have almost no room, and what they admit in turn is not held by
    // all.
    let puppet = &puppets[0];
    let member = world.charter.member_of(puppet.id());
    let further = DeviceKey::generate(&random);
    let made = world.charter.issue(puppet, member, further.id(), None).unwrap();
    world.charter.take(Piece::Certificate(made)).unwrap();
    assert_eq!(world.charter.certificates() - before, held);
    let mut edits = 0;
    while let Ok(operation) = world.charter.edit(puppet, member, vec![]) {
        world.charter.take(Piece::Operation(operation)).unwrap();
        edits += 1;
    }
    assert!(edits <= 4, "{edits}");
    assert!(world.charter.snapshot().len() < 2 << 20, "{}", world.charter.snapshot().len());

    // Others are not affected.
    let newcomer = world.join(&random);
    let mut removal = world.draft(CHIEF, vec![world.remove(ANN)]);
    removal.cuts = List::truncated([cut]);
    let mut others = world.charter.clone();
    world.take(removal.clone()).unwrap();
    settle(&mut world, 0);
    // The newcomer's is new, and one puppet has signed an operation upon which the removal was
    // built.
    assert_eq!(world.charter.certificates(), before + 2);
    world.by(FOUNDER, hidden(10));
    settle(&mut world, 0);
    assert_eq!(world.charter.certificates(), before + 1, "nothing of the flood");
    let log: BTreeSet<_> = world.charter.log().map(|(it, _)| it.unverified().author).collect();
    assert!(!log.contains(&puppet.id()));
    assert!(world.charter.is_member(world.charter.member_of(honest.id())));
    assert!(world.charter.is_member(world.member(newcomer)));
    assert!(!world.charter.is_member(member));
    // A device that still has the pieces brings none of them back, and comes to the same state.
    let pieces: Vec<_> = others.pieces_in_order().collect();
    world.charter.take_all(pieces);
    assert_eq!(world.charter.certificates(), before + 1);
    catch_up(&mut others, &world.charter);
    assert_same(&world.charter, &others);
    let mut newest = blank(&world.charter);
    catch_up(&mut newest, &world.charter);
    assert_same(&world.charter, &newest);
}

/// [CHARTER-8.21] Otherwise an officer whom the founder has just appointed would have to wait for a
/// checkpoint.
#[test]
fn a_role_from_a_root_key_gives_more_room_to_who_has_used_up_its_own() {
    let mut world = strict();
    for _ in 0..64 {
        world.by(EVE, vec![]);
    }
    let edit = |world: &World| {
        let eve = &world.people[EVE];
        world.charter.edit(eve.key(), eve.member, vec![]).map(drop)
    };
    assert_eq!(edit(&world), Err(EditError::Refused(PieceError::Full)));
    // An officer's grant gives the rights, and no more room than there was.
    world.by(CHIEF, vec![world.grant(3, &[EVE])]);
    assert_eq!(edit(&world), Err(EditError::Refused(PieceError::Full)));
    world.by(FOUNDER, vec![world.grant(2, &[EVE])]);
    world.by(EVE, vec![]);
    world.by(EVE, hidden(9));
}

/// [CHARTER-8.6] Otherwise others could not forget what a member has signed under one number.
#[test]
fn an_operation_that_builds_upon_too_many_of_one_number_is_refused() {
    let world = World::new(false);
    let draft = world.draft(DAN, vec![]);
    let made: Vec<_> = (0..=FORKS_MAX as u32 + 1)
        .map(|root| world.sign(Operation { root, ..draft.clone() }))
        .collect();
    let build_upon = |charter: &mut Charter, made: &[Cosigned<Operation>]| {
        let mut next = world.draft_from(charter, BOB, vec![]);
        let made_by_dan = made.iter().map(Cosigned::hash);
        let parents: BTreeSet<_> = next.parents.iter().copied().chain(made_by_dan).collect();
        next.parents = List::truncated(parents);
        next.lamport = next.lamport.max(draft.lamport + 1);
        let pieces = made.iter().cloned().chain([world.sign(next)]).map(Piece::Operation);
        charter.take_all(pieces).pop().unwrap()
    };
    // An operation has room for seven of them beside its author's own.
    let mut charter = world.charter.clone();
    let (before, more) = made.split_at(FORKS_MAX - 1);
    for made in before.chunks(7) {
        assert_eq!(build_upon(&mut charter, made), Ok(true));
    }
    let after = build_upon(&mut charter.clone(), more);
    assert_eq!(after, Err(PieceError::Malformed), "65 besides the first");
    assert_eq!(build_upon(&mut charter, &more[..2]), Ok(true), "64 besides the first");
}

/// The document after the newest with these keys, the most senior last.
fn next(world: &World, name: &str, keys: &[DeviceId], threshold: u8) -> RootDocument {
    RootDocument { name: name.to_owned(), ..world.next_root(keys, threshold) }
}

/// [CHARTER-2.3] [CHARTER-2.6] The hash decided between two documents signed by one key each. A
/// thief of the founder's device searched for one with a lower hash, and so had the organisation
/// back, years after the key was dropped.
#[test]
fn a_dropped_root_key_takes_nothing_back_however_long_it_grinds() {
    let mut world = World::new(false);
    let random = SeededRandom::new(14);
    let [stolen, recovery] = [0, 2].map(|key| world.people[FOUNDER].keys[key].secret());
    let [stolen, recovery] = [stolen, recovery].map(|secret| DeviceKey::from_secret(&secret));
    let founding = world.charter.roots().next().unwrap().hash();
    let fresh = DeviceKey::generate(&random);
    let mut second = next(&world, "Night shift", &[fresh.id(), recovery.id()], 1);
    second.cuts = List::truncated([world.charter.cut(world.member(FOUNDER))]);
    let second = Cosigned::unsigned(second).signed(&recovery);
    let mut young = blank(&world.charter);
    assert_eq!(world.charter.take(Piece::Root(second.clone())), Ok(true));
    let third = next(&world, "Day shift", &[fresh.id(), recovery.id()], 1);
    let third = Cosigned::unsigned(third).signed(&fresh);
    assert_eq!(world.charter.take(Piece::Root(third.clone())), Ok(true));

    let ground = (0..).find_map(|number| {
        let keys = [stolen.id(), recovery.id()];
        let name = format!("Shift {number}");
        let document = RootDocument {
            version: 2,
            previous: founding,
            name,
            keys: RootKeys::try_from(List::truncated(keys)).unwrap(),
            ..third.unverified().clone()
        };
        let document = Cosigned::unsigned(document).signed(&stolen);
        let lower = document.hash().as_bytes()[0] < 8 && document.hash() < second.hash();
        lower.then_some(document)
    });
    let ground = Piece::Root(ground.unwrap());
    // All can see it, and it is not chosen; nor does a newcomer choose it that receives it first.
    let mut without = world.charter.clone();
    without.take_all([ground.clone()]);
    assert_eq!(without.root(), third.unverified());
    assert!(without.is_forked());
    young.take_all([ground.clone()]);
    young.take_all([&second, &third].map(|it| Piece::Root(it.clone())));
    assert_eq!(young.root(), third.unverified());

    // Once a checkpoint has settled it, nobody even holds it.
    let checkpoint = world.charter.draft_checkpoint().unwrap();
    let signed = Cosigned::unsigned(checkpoint).signed(&fresh);
    assert_eq!(world.charter.take(Piece::Checkpoint(signed)), Ok(true));
    assert_eq!(world.charter.take(ground), Err(PieceError::Late));
    assert!(!world.charter.is_forked());
    // The members whom the lost device had admitted and listed are there as before.
    assert!(
        world.charter.is_member(world.member(EVE)) && world.charter.is_member(world.member(DAN))
    );
}

/// [CHARTER-2.7] A stolen device could drop the recovery key, or require more signatures than it
/// has.
#[test]
fn a_junior_root_key_cannot_end_the_senior_one() {
    let mut world = World::new(false);
    let random = SeededRandom::new(15);
    let [device, recovery] = [0, 2].map(|key| world.people[FOUNDER].keys[key].id());
    let [one, other] = [(); 2].map(|()| DeviceKey::generate(&random));
    let refused: [(&[DeviceId], u8); 5] = [
        (&[device], 1),
        (&[one.id()], 1),
        (&[recovery, device], 1),
        (&[device, recovery, one.id()], 1),
        (&[device, one.id(), recovery], 2),
    ];
    for (keys, threshold) in refused {
        let document = next(&world, "Night shift", keys, threshold);
        let signed = Cosigned::unsigned(document).signed(world.people[FOUNDER].key()).signed(&one);
        let signed = if keys.contains(&one.id()) {
            signed
        } else {
            Cosigned::unsigned(signed.unverified().clone()).signed(world.people[FOUNDER].key())
        };
        assert_eq!(
            world.charter.take(Piece::Root(signed)),
            Err(PieceError::Signatures),
            "{keys:?}"
        );
    }
    let document = next(&world, "Night shift", &[one.id(), device, recovery], 1);
    let signed = Cosigned::unsigned(document).signed(world.people[FOUNDER].key());
    assert_eq!(world.charter.take(Piece::Root(signed)), Ok(true));
    // The senior key may do all of it.
    let document = next(&world, "Night shift", &[one.id(), other.id()], 2);
    let signed = Cosigned::unsigned(document)
        .signed(&world.people[FOUNDER].keys[2])
        .signed(&one)
        .signed(&other);
    assert_eq!(world.charter.take(Piece::Root(signed)), Ok(true));
}

/// [CHARTER-2.3] The holder of a former root key could fill the room for root documents.
#[test]
fn root_documents_that_are_not_chosen_are_few() {
    let mut world = World::new(false);
    let keys = [0, 2].map(|key| world.people[FOUNDER].keys[key].id());
    let chosen = next(&world, "Night shift", &keys, 1);
    let chosen = Cosigned::unsigned(chosen).signed(&world.people[FOUNDER].keys[2]);
    let flood: Vec<_> = (0..300)
        .map(|number| {
            let document = next(&world, &format!("Shift {number}"), &keys, 1);
            Piece::Root(Cosigned::unsigned(document).signed(world.people[FOUNDER].key()))
        })
        .collect();
    let mut other = world.charter.clone();
    world.charter.take_all(flood.clone());
    assert_eq!(world.charter.take(Piece::Root(chosen.clone())), Ok(true));
    assert_eq!(other.take(Piece::Root(chosen.clone())), Ok(true));
    other.take_all(flood.into_iter().rev());
    assert_eq!(world.charter.root(), chosen.unverified());
    assert!(world.charter.roots().count() <= 5);
    assert_same(&world.charter, &other);
}
