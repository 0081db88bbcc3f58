//! Attacks on a charter, one by one.

use std::collections::BTreeSet;

use hark_charter::{
    CERTIFICATE_MAX_BYTES, CHAIN_MAX, CHECKPOINT_MAX_BYTES, Charter, Cut, Denial, EditError,
    FORKS_MAX, MemberCertificate, OPERATION_MAX_BYTES, Operation, Piece, PieceError,
    ROOT_MAX_BYTES, Verdict, VoidReason,
    content::{Capabilities, Change, Policy},
};
use hark_keys::{
    Cosigned, DecodeError, DeviceKey, List, ObjectHash, OrganisationId, SeededRandom, Signed,
    encode,
};

use crate::world::{
    ANN, BOB, CHIEF, CID, DAN, EVE, EVERYWHERE, FAY, FOUNDER, NONE, Person, World, assert_as_model,
    assert_same, certificate, channel, preset, preset_id, role, verdict,
};

fn operation(signed: &Cosigned<Operation>) -> Piece {
    Piece::Operation(signed.clone())
}

fn hidden(number: u8) -> Vec<Change> {
    vec![Change::Channel(channel(number, EVERYWHERE))]
}

/// [CHARTER-1.2] [PROTO-1.1]
#[test]
fn a_forged_operation_is_refused() {
    let mut world = World::new(false);
    let draft = world.draft(BOB, hidden(9));
    let signed = world.sign(draft.clone());
    let mut bytes = Piece::Operation(signed).encode();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Piece::decode(&bytes).unwrap();
    assert!(matches!(world.charter.take(forged), Err(PieceError::Signature(_))));
    // Signed by another key than it says, by nobody, and by one key too many.
    let ann = world.people[ANN].key();
    let bob = world.people[BOB].key();
    for signed in [
        Cosigned::unsigned(draft.clone()),
        Cosigned::unsigned(draft.clone()).signed(ann),
        Cosigned::unsigned(draft.clone()).signed(ann).signed(bob),
    ] {
        assert_eq!(world.charter.take(Piece::Operation(signed)), Err(PieceError::Malformed));
    }
    // Changed by others after it was signed.
    let mut changed = draft.clone();
    changed.root = 7;
    let bytes = encode(&Piece::Operation(Cosigned::unsigned(draft).signed(bob)));
    let other = encode(&Piece::Operation(Cosigned::unsigned(changed).signed(bob)));
    let mixed = [&other[..other.len() - 64], &bytes[bytes.len() - 64..]].concat();
    let mixed = Piece::decode(&mixed).unwrap();
    assert!(matches!(world.charter.take(mixed), Err(PieceError::Signature(_))));
}

/// [CHARTER-8.2]
#[test]
fn a_replayed_operation_changes_nothing() {
    let mut world = World::new(false);
    let made = world.by(BOB, hidden(9));
    let before = world.charter.clone();
    assert_eq!(world.charter.take(operation(&made)), Ok(false));
    assert_same(&before, &world.charter);
}

/// [CHARTER-1.1] [PROTO-1.2] [PROTO-1.3]
#[test]
fn truncated_long_and_second_encodings_are_no_pieces() {
    let world = World::new(false);
    for piece in world.charter.pieces_in_order() {
        let bytes = piece.encode();
        assert_eq!(Piece::decode(&bytes), Ok(piece));
        for length in 0..bytes.len() {
            assert!(Piece::decode(&bytes[..length]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Piece::decode(&longer), Err(DecodeError::NotCanonical));
    }
    let limits = [ROOT_MAX_BYTES, CERTIFICATE_MAX_BYTES, OPERATION_MAX_BYTES, CHECKPOINT_MAX_BYTES];
    for (kind, limit) in limits.into_iter().enumerate() {
        let mut bytes = vec![0xff; limit + 2];
        bytes[0] = kind as u8;
        let error = DecodeError::TooLong { length: limit + 2, limit: limit + 1 };
        assert_eq!(Piece::decode(&bytes), Err(error));
        // Lists that claim to be endless.
        bytes.truncate(200);
        assert!(Piece::decode(&bytes).is_err());
    }
    // The sequence number, written with one group too many.
    let signed = world.sign(world.draft(BOB, vec![]));
    let bytes = Piece::Operation(signed.clone()).encode();
    let at = 1 + 32 * 3 + 1;
    assert_eq!(bytes[at], signed.unverified().sequence as u8);
    let second = [&bytes[..at], &[bytes[at] | 0x80, 0], &bytes[at + 1..]].concat();
    assert_eq!(Piece::decode(&second), Err(DecodeError::NotCanonical));
}

/// [CHARTER-1.1] An operation that others would refuse to read is not made here either.
#[test]
fn an_operation_too_long_for_others_is_not_made() {
    let world = World::new(false);
    let random = SeededRandom::new(1);
    let member = || world.charter.member_of(DeviceKey::generate(&random).id());
    let members: BTreeSet<_> = (0..60).map(|_| member()).collect();
    let mut grant = world.grant_of(3, EVERYWHERE, &[]);
    grant.members = List::truncated(members);
    let person = &world.people[CHIEF];
    let edit = world.charter.edit(person.key(), person.member, vec![Change::Grant(grant); 20]);
    assert!(matches!(
        edit,
        Err(EditError::Refused(PieceError::Encoding(DecodeError::TooLong { .. })))
    ));
}

/// [CHARTER-4.1] [CHARTER-4.2] [CHARTER-4.3] Impossible operations of honest devices are refused.
/// [CHARTER-4.9] [CHARTER-4.22] [CHARTER-4.21]
#[test]
fn numbers_and_names_that_do_not_fit_are_refused() {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    let good = world.draft(BOB, vec![]);
    let unknown = ObjectHash::from_bytes([7; 32]);
    let other = *world.charter.heads().collect::<Vec<_>>().first().unwrap();
    let made = world.by(CHIEF, hidden(10));
    let changed = |change: &dyn Fn(&mut Operation)| {
        let mut draft = good.clone();
        change(&mut draft);
        draft
    };
    let malformed: Vec<Operation> = vec![
        changed(&|it| it.lamport = u64::MAX),
        changed(&|it| it.lamport += 1),
        changed(&|it| it.lamport = 0),
        changed(&|it| it.sequence += 1),
        changed(&|it| it.sequence = u64::MAX),
        changed(&|it| it.sequence = 0),
        changed(&|it| it.sequence = 1),
        changed(&|it| it.previous = NONE),
        changed(&|it| it.previous = made.hash()),
        changed(&|it| it.parents = List::truncated([other, other])),
        changed(&|it| it.term = 5),
        // Its lamport is smaller than that of its author's own operation before it.
        changed(&|it| (it.parents, it.lamport) = (List::default(), 1)),
    ];
    for draft in malformed {
        assert_eq!(world.take(draft.clone()), Err(PieceError::Malformed), "{draft:?}");
    }
    let mut parents = [made.hash(), other];
    parents.sort_unstable_by(|a, b| b.cmp(a));
    let unsorted = changed(&|it| {
        it.parents = List::truncated(parents);
        it.lamport = made.unverified().lamport + 1;
    });
    assert_eq!(world.take(unsorted), Err(PieceError::Malformed));
    let twice = changed(&|it| {
        let cosigner = world.people[CID].key().id();
        it.cosigners = List::truncated([cosigner, cosigner]);
    });
    assert_eq!(world.take(twice), Err(PieceError::Malformed));
    let itself = changed(&|it| {
        it.cosigners = List::truncated([world.people[BOB].key().id()]);
    });
    assert_eq!(world.take(itself), Err(PieceError::Malformed));
    for waits in [
        changed(&|it| it.previous = unknown),
        changed(&|it| it.parents = List::truncated([unknown])),
        changed(&|it| it.certificate = unknown),
    ] {
        assert_eq!(world.take(waits), Err(PieceError::Missing(vec![unknown])));
    }
    assert_eq!(world.take(changed(&|it| it.base = unknown)), Err(PieceError::Late));
    let foreign = changed(&|it| it.organisation = OrganisationId::from_bytes([7; 32]));
    assert_eq!(world.take(foreign), Err(PieceError::Organisation));
    assert_eq!(world.take(good), Ok(true));
}

/// [CHARTER-5.2] [CHARTER-5.21] [CHARTER-5.6] What demoted and removed officers make later is void,
/// however early they claim that it is. [CHARTER-6.5]
#[test]
fn a_removed_officer_acts_no_more() {
    for change in
        [World::remove as fn(&World, usize) -> Change, |world, who| world.ungrant(2, &[who])]
    {
        let mut world = World::new(false);
        let before = world.charter.clone();
        world.by(BOB, hidden(9));
        let known = world.charter.clone();
        let change = change(&world, BOB);
        world.by(CHIEF, vec![change]);
        for view in [&before, &known, &world.charter.clone()] {
            let person = &world.people[BOB];
            let Ok(mut draft) = view.draft(person.key().id(), person.member, vec![], hidden(10))
            else {
                continue;
            };
            draft.term = 0;
            if draft.sequence < 2 {
                // By the other device, as if it had always been there.
                continue;
            }
            let made = world.sign(draft);
            world.charter.take_all([operation(&made)]).remove(0).unwrap();
            assert_eq!(world.verdict(&made), Verdict::Void(VoidReason::Cut));
        }
        let names: Vec<_> = world.charter.state().channels().map(|it| it.order).collect();
        assert_eq!(names.len(), 4, "those of the beginning and the one that was known");
        assert_as_model(&world.charter);
    }
}

/// [CHARTER-3.2] Newcomers whom a removed officer admits afterwards do not belong. Those whom it
/// had listed do.
#[test]
fn certificates_of_a_removed_officer_are_worth_what_was_listed() {
    let mut world = World::new(false);
    let random = SeededRandom::new(3);
    let keys = [(); 3].map(|()| DeviceKey::generate(&random));
    let made = |world: &World, key: &DeviceKey| {
        let made = certificate(&world.charter, &world.people[BOB], key, 0);
        Piece::Certificate(Signed::sign(made, world.people[BOB].key()))
    };
    let pieces = [&keys[0], &keys[1], &keys[2]].map(|key| made(&world, key));
    let members = [0, 1, 2].map(|key| world.charter.member_of(keys[key].id()));
    world.charter.take(pieces[0].clone()).unwrap();
    let listed = world.charter.unlisted(world.member(BOB));
    let listing = Change::Admitted(List::truncated(listed));
    world.by(BOB, vec![listing]);
    world.charter.take(pieces[1].clone()).unwrap();
    assert!(world.charter.is_member(members[0]) && world.charter.is_member(members[1]));
    let old = world.charter.clone();
    world.by(CHIEF, vec![world.remove(BOB)]);
    assert_eq!(world.charter.take(pieces[2].clone()), Err(PieceError::Stranger));
    assert_eq!(world.charter.take_all([pieces[2].clone()]), [Err(PieceError::Stranger)]);
    assert_eq!(members.map(|member| world.charter.is_member(member)), [true, false, false]);
    // Listing them afterwards, as if it were before, has no effect.
    let mut late = old.clone();
    late.take_all(pieces.clone());
    let listing = Change::Admitted(List::truncated(late.unlisted(world.member(BOB))));
    let late = world.sign(world.draft_from(&late, BOB, vec![listing]));
    world.charter.take_all([operation(&late)]);
    assert_eq!(world.verdict(&late), Verdict::Void(VoidReason::Cut));
    assert_eq!(members.map(|member| world.charter.is_member(member)), [true, false, false]);
}

/// [CHARTER-3.2] Certificates for later admissions, made and listed before a removal, do not
/// outlive it.
#[test]
fn a_certificate_for_many_admissions_does_not_outlive_a_removal() {
    let mut world = World::new(false);
    let random = SeededRandom::new(3);
    let alt = DeviceKey::generate(&random);
    let hoard: Vec<_> = [0, 1, 2, u32::MAX]
        .into_iter()
        .map(|admission| {
            let made = certificate(&world.charter, &world.people[ANN], &alt, admission);
            Signed::sign(made, world.people[ANN].key())
        })
        .collect();
    let all = hoard.iter().cloned().map(Piece::Certificate);
    world.charter.take_all(all);
    let hashes = hoard.iter().map(|it| ObjectHash::from_bytes(it.hash()));
    world.by(ANN, vec![Change::Admitted(List::truncated(hashes))]);
    let member = world.charter.member_of(alt.id());
    assert!(world.charter.is_member(member));
    world.by(CHIEF, vec![world.remove(ANN), Change::Remove { member, admission: 1 }]);
    assert!(!world.charter.is_member(member));
}

/// [CHARTER-4.4] An author makes two operations of one number and shows each to one half. When the
/// halves meet, neither counts, until somebody of higher rank begins a new term.
#[test]
fn who_equivocates_is_frozen_everywhere() {
    let mut world = World::new(false);
    let [one, other] = [9, 10].map(|number| world.sign(world.draft(BOB, hidden(number))));
    let mut half = world.charter.clone();
    world.charter.take(operation(&one)).unwrap();
    half.take(operation(&other)).unwrap();
    let after = world.sign(world.draft(BOB, hidden(11)));
    world.charter.take(operation(&after)).unwrap();
    assert_eq!(half.take(operation(&one)), Ok(true), "the proof is welcome");
    assert_eq!(half.take(operation(&after)), Err(PieceError::Stranger), "what follows is not");
    assert_eq!(half.take_all([operation(&after)]), [Ok(true)]);
    world.charter.take(operation(&other)).unwrap();
    assert_same(&world.charter, &half);
    for made in [&one, &other, &after] {
        assert_eq!(world.verdict(made), Verdict::Void(VoidReason::Equivocation));
    }
    let person = &world.people[BOB];
    let edit = |charter: &Charter| charter.edit(person.key(), person.member, hidden(12));
    assert_eq!(edit(&world.charter), Err(EditError::Frozen));
    let mut lift = world.draft(CHIEF, vec![]);
    lift.cuts = List::truncated([world.charter.cut(person.member)]);
    world.take(lift).unwrap();
    let person = &world.people[BOB];
    let again = world.charter.edit(person.key(), person.member, hidden(12)).unwrap();
    assert_eq!((again.unverified().term, again.unverified().sequence), (1, 1));
    assert_eq!(world.charter.take(operation(&again)), Ok(true));
    assert!(matches!(world.verdict(&again), Verdict::Judged(..)));
    assert_as_model(&world.charter);
}

/// Ann removes Bob and Bob removes Ann at once.
fn duel(world: &World) -> [Cosigned<Operation>; 2] {
    let removal = |by: usize, whom: usize| {
        let mut draft = world.draft(by, vec![world.remove(whom)]);
        draft.cuts = List::truncated([world.charter.cut(world.member(whom))]);
        world.sign(draft)
    };
    [removal(ANN, BOB), removal(BOB, ANN)]
}

/// [CHARTER-5.1] Several officers together do not count for more: only root keys cosign.
#[test]
fn several_officers_are_no_more_than_one() {
    let mut world = World::new(false);
    let draft = world.draft_with(&world.charter, ANN, &[CID], vec![world.remove(BOB)]);
    assert_eq!(world.take(draft), Err(PieceError::Rootless));
    assert!(world.charter.is_member(world.member(BOB)));
}

/// [CHARTER-5.1] Equals cannot remove each other.
#[test]
fn equals_who_remove_each_other_both_stay() {
    let mut world = World::new(false);
    let both = duel(&world);
    let results = world.charter.take_all(both.iter().map(operation));
    assert_eq!(results, [Ok(true), Ok(true)]);
    assert_eq!([world.rank(ANN), world.rank(BOB)], [10, 10]);
    for who in [ANN, BOB] {
        assert!(world.charter.is_member(world.member(who)));
        assert_eq!(world.charter.state().term(world.member(who)), 0);
    }
    assert_as_model(&world.charter);
}

/// [CHARTER-5.10] An officer who loads a preset loads what they knew, whatever somebody else makes
/// of it meanwhile.
#[test]
fn a_preset_cannot_be_changed_under_the_hand_that_loads_it() {
    let mut world = World::new(false);
    let id = preset_id(1);
    world.by(CHIEF, vec![Change::Preset(Box::new(preset(1, &[], vec![])))]);
    let old = world.charter.clone();
    world.by(CHIEF, vec![Change::LoadPreset(id)]);
    let greedy = preset(1, &[], vec![world.grant_of(2, EVERYWHERE, &[EVE])]);
    for changes in [vec![Change::Preset(Box::new(greedy))], vec![Change::RemovePreset(id)]] {
        let mut charter = world.charter.clone();
        let backdated = world.sign(world.draft_from(&old, ANN, changes));
        charter.take_all([operation(&backdated)]).remove(0).unwrap();
        assert_eq!(charter.state().rank(world.member(EVE), EVERYWHERE).0, 251);
        assert_eq!(charter.state().loaded().count(), 1);
        assert_as_model(&charter);
    }
}

/// An operation's own grant counted as one that had not known of the removal. [CHARTER-5.11]
/// [CHARTER-5.20]
#[test]
fn a_role_ended_and_given_by_one_operation_stayed() {
    let mut world = World::new(false);
    world.by(ANN, vec![Change::Role(role(4, 60, Capabilities::NONE))]);
    let grant = world.grant(4, &[BOB]);
    let Change::Grant(given) = &grant else { unreachable!("it is one") };
    let changes = vec![Change::RemoveRole(given.role), grant.clone()];
    let draft = world.draft(ANN, changes);
    let operation = world.sign(draft.clone());
    assert_eq!(world.take(draft), Ok(true));
    let Verdict::Judged(_, judged) = world.verdict(&operation) else { panic!("it stands") };
    assert_eq!(*judged, [Ok(()), Err(Denial::Absent)]);
    assert_as_model(&world.charter);
}

/// [CHARTER-5.7] Somebody who learns the number of a role cannot end it before it began.
#[test]
fn a_role_is_not_ended_before_it_was_made() {
    let mut world = World::new(false);
    let old = world.charter.clone();
    world.by(CHIEF, hidden(9));
    world.by(CHIEF, vec![Change::Role(role(20, 60, Capabilities::MUTE)), world.grant(20, &[BOB])]);
    let made = vec![
        Change::Role(role(20, 60, Capabilities::NONE)),
        Change::RemoveRole(world.grant_of(20, EVERYWHERE, &[]).role),
    ];
    let mut draft = world.draft_from(&old, ANN, made);
    draft.parents = List::default();
    draft.lamport = 1;
    // Made as if before the author was an officer, it is refused.
    let worthless = world.sign(draft);
    let refused = world.charter.take_all([operation(&worthless)]);
    assert_eq!(refused, [Err(PieceError::Stranger)]);
    let backdated = world.sign({
        let mut draft = world.draft_from(&old, CID, worthless.unverified().changes.to_vec());
        draft.root = 1;
        draft
    });
    world.charter.take_all([operation(&backdated)]).remove(0).unwrap();
    assert!(world.charter.allows(world.member(BOB), Capabilities::MUTE, EVERYWHERE));
    assert_as_model(&world.charter);
}

/// [CHARTER-5.11] An officer of lower standing than the loader of a preset does not take it out of
/// force, nor load it again as their own.
#[test]
fn a_preset_in_force_is_put_out_by_nobody_lower() {
    let mut world = World::new(false);
    let id = preset_id(1);
    world.by(CHIEF, vec![Change::Preset(Box::new(preset(1, &[], vec![])))]);
    world.by(CHIEF, vec![Change::LoadPreset(id)]);
    for change in [Change::UnloadPreset(id), Change::LoadPreset(id)] {
        let made = world.sign(world.draft(ANN, vec![change]));
        let mut charter = world.charter.clone();
        charter.take(operation(&made)).unwrap();
        let Verdict::Judged(_, judged) = verdict(&charter, &made) else { panic!("it stands") };
        assert!(judged[0].is_err());
    }
    world.by(CHIEF, vec![Change::UnloadPreset(id)]);
    assert_eq!(world.charter.state().loaded().count(), 0);
}

/// [CHARTER-5.3] A term that a root document ended continues only for a device that knows the
/// document.
#[test]
fn a_term_ended_by_the_root_keys_begins_again_with_their_document() {
    let mut world = World::new(false);
    let keys = [0, 2].map(|key| world.people[FOUNDER].keys[key].id());
    let mut document = world.next_root(&keys, 1);
    document.cuts = List::truncated([world.charter.cut(world.member(BOB))]);
    let signed = Cosigned::unsigned(document).signed(world.people[FOUNDER].key());
    assert_eq!(world.charter.take(Piece::Root(signed)), Ok(true));
    assert_eq!(world.charter.state().term(world.member(BOB)), 1);
    let mut unaware = world.draft(BOB, hidden(9));
    unaware.root = 1;
    let unaware = world.sign(unaware);
    let mut charter = world.charter.clone();
    charter.take(operation(&unaware)).unwrap();
    assert_eq!(verdict(&charter, &unaware), Verdict::Void(VoidReason::Term));
    assert_as_model(&charter);
    world.by(BOB, hidden(10));
    assert_as_model(&world.charter);
}

/// [CHARTER-3.3]
#[test]
fn a_member_has_sixteen_devices_and_no_more() {
    let mut world = World::new(false);
    let random = SeededRandom::new(7);
    let devices: Vec<_> = (0..18).map(|_| DeviceKey::generate(&random)).collect();
    let all = devices.iter().map(|device| world.add_device(EVE, device)).collect();
    world.by(EVE, all);
    assert_eq!(world.charter.devices_of(world.member(EVE)).len(), 16);
    assert_as_model(&world.charter);
}

/// [CHARTER-2.3] All choose the same one of two documents of one version, the fork is shown, and a
/// document that names both ends it.
#[test]
fn a_root_fork_is_chosen_shown_and_merged() {
    let mut world = World::new(true);
    let [founder, chief, ann] = [FOUNDER, CHIEF, ANN].map(|who| world.people[who].key().id());
    let document = |name: &str| {
        let mut root = world.next_root(&[founder, chief, ann], 2);
        root.name = name.to_owned();
        root
    };
    let sign = |document: &hark_charter::RootDocument, signers: &[usize]| {
        let unsigned = Cosigned::unsigned(document.clone());
        signers.iter().fold(unsigned, |it, who| it.signed(world.people[*who].key()))
    };
    let (north, south) = (document("North"), document("South"));
    let few = sign(&north, &[FOUNDER, CHIEF]);
    let many = sign(&south, &[FOUNDER, CHIEF, ANN]);
    let one = sign(&north, &[FOUNDER]);
    let mut charter = world.charter.clone();
    assert_eq!(charter.take(Piece::Root(one)), Err(PieceError::Signatures));
    assert_eq!(charter.take(Piece::Root(few.clone())), Ok(true));
    assert!(!charter.is_forked());
    assert_eq!((charter.take(Piece::Root(many.clone())), charter.name()), (Ok(true), "South"));
    assert!(charter.is_forked());
    let mut other = world.charter.clone();
    other.take(Piece::Root(many.clone())).unwrap();
    other.take(Piece::Root(few.clone())).unwrap();
    assert_same(&charter, &other);
    // Of two with as many signatures, the lowest hash decides.
    let equal = sign(&north, &[ANN]);
    assert_eq!(charter.take(Piece::Root(equal)), Ok(true));
    assert_eq!(charter.take(Piece::Root(sign(&north, &[FOUNDER, CHIEF, ANN]))), Ok(false));
    let lowest = if few.hash() < many.hash() { "North" } else { "South" };
    assert_eq!(charter.name(), lowest);
    // A version after it that names both.
    world.charter = charter;
    let mut merge = world.next_root(&[founder, chief, ann], 2);
    let mut both = [few.hash(), many.hash()];
    both.sort_unstable();
    merge.merges = List::truncated(both);
    let merge = Cosigned::unsigned(merge)
        .signed(world.people[FOUNDER].key())
        .signed(world.people[ANN].key());
    assert_eq!(world.charter.take(Piece::Root(merge)), Ok(true));
    assert!(!world.charter.is_forked());
}

/// [CHARTER-1.2] [CHARTER-2.2] Signatures of others take no room from those that count, and lend no
/// weight. Neither do keys that a document names for the first time.
#[test]
fn strangers_do_not_sign_root_documents() {
    let world = World::new(true);
    let random = SeededRandom::new(5);
    let strangers: Vec<_> = (0..15).map(|_| DeviceKey::generate(&random)).collect();
    let mut charter = world.charter.clone();
    for document in world.charter.roots() {
        let stuffed = strangers.iter().fold(document.clone(), Cosigned::signed);
        assert_eq!(charter.take(Piece::Root(stuffed)), Err(PieceError::Signatures));
    }
    assert_same(&charter, &world.charter);
    let keys: Vec<_> =
        [FOUNDER, CHIEF, ANN].iter().map(|who| world.people[*who].key().id()).collect();
    let mut honest = world.next_root(&keys, 2);
    honest.name = "Honest".to_owned();
    let honest = [FOUNDER, CHIEF, ANN]
        .iter()
        .fold(Cosigned::unsigned(honest), |it, who| it.signed(world.people[*who].key()));
    let greedy: Vec<_> =
        strangers[..13].iter().map(DeviceKey::id).chain(keys[..2].iter().copied()).collect();
    let greedy = Cosigned::unsigned(world.next_root(&greedy, 2))
        .signed(world.people[FOUNDER].key())
        .signed(world.people[CHIEF].key());
    let greedy = strangers[..13].iter().fold(greedy, Cosigned::signed);
    charter.take(Piece::Root(greedy)).unwrap();
    charter.take(Piece::Root(honest)).unwrap();
    assert_eq!(charter.name(), "Honest");
}

/// [CHARTER-2.5] A key that a version drops does not act by the versions before it, neither as
/// author nor as cosigner.
#[test]
fn a_dropped_root_key_does_not_act_by_an_old_version() {
    let mut world = World::new(true);
    let policy = |hours| vec![Change::Policy(Policy::InviteHoursMax(hours))];
    let as_root = |world: &World, charter: &Charter, who: usize, with: usize, hours| {
        let mut draft = world.draft_with(charter, who, &[with], policy(hours));
        draft.root = 2;
        world.sign(draft)
    };
    let stands = as_root(&world, &world.charter, ANN, CHIEF, 1);
    world.charter.take(operation(&stands)).unwrap();
    assert_eq!(world.charter.state().policies().invite_hours_max, 1);
    let old = world.charter.clone();
    // Ann's key is dropped, and what it had done stands.
    let [founder, chief, bob] = [FOUNDER, CHIEF, BOB].map(|who| world.people[who].key().id());
    let mut document = world.next_root(&[founder, chief, bob], 2);
    document.cuts = List::truncated([world.charter.cut(world.member(ANN))]);
    let signed = Cosigned::unsigned(document)
        .signed(world.people[FOUNDER].key())
        .signed(world.people[CHIEF].key());
    assert_eq!(world.charter.take(Piece::Root(signed)), Ok(true));
    assert_eq!(world.charter.state().policies().invite_hours_max, 1);
    for (who, with, hours) in [(ANN, FOUNDER, 2), (FOUNDER, ANN, 3)] {
        let made = as_root(&world, &old, who, with, hours);
        world.charter.take_all([operation(&made)]).remove(0).unwrap();
        assert_eq!(world.charter.state().policies().invite_hours_max, 1);
    }
    // By its key alone, without a certificate.
    let mut bare = world.draft_from(&old, ANN, vec![world.grant(1, &[ANN])]);
    bare.certificate = NONE;
    bare.sequence = 1;
    bare.previous = NONE;
    let bare = world.sign(bare);
    world.charter.take_all([operation(&bare)]).remove(0).unwrap();
    assert!(matches!(world.verdict(&bare), Verdict::Void(_)));
    let honest = as_root(&world, &old, FOUNDER, CHIEF, 4);
    let mut charter = world.charter.clone();
    charter.take_all([operation(&honest)]);
    assert_as_model(&charter);
    assert_as_model(&world.charter);
}

/// [CHARTER-2.5] A cut of another member, or of another term, lets nothing stand that a dropped key
/// has signed.
#[test]
fn only_a_cut_of_its_author_lets_an_operation_with_a_dropped_key_stand() {
    let world = World::new(true);
    let [founder, chief, bob] = [FOUNDER, CHIEF, BOB].map(|who| world.people[who].key().id());
    let policy = vec![Change::Policy(Policy::InviteHoursMax(3))];
    let made = world.draft_with(&world.charter, FOUNDER, &[ANN], policy);
    let made = world.sign(Operation { root: 2, ..made });
    for (who, term, stands) in [(FOUNDER, 0, true), (ANN, 0, false), (FOUNDER, 1, false)] {
        let mut charter = world.charter.clone();
        let last = List::truncated([(founder, made.unverified().sequence)]);
        let mut document = world.next_root(&[founder, chief, bob], 2);
        document.cuts = List::truncated([Cut { member: world.member(who), term, last }]);
        let [one, other] = [FOUNDER, CHIEF].map(|who| world.people[who].key());
        let document = Cosigned::unsigned(document).signed(one).signed(other);
        assert_eq!(charter.take(Piece::Root(document)), Ok(true));
        charter.take_all([operation(&made)]).remove(0).unwrap();
        let expected = if stands { 3 } else { 0 };
        assert_eq!(charter.state().policies().invite_hours_max, expected, "{who} {term}");
    }
}

/// [CHARTER-4.5] Of two versions of one number only the chosen one says who acts as root. A version
/// that nobody has made lets nobody act as root.
#[test]
fn only_keys_of_a_chosen_version_act_as_root() {
    let mut world = World::new(true);
    let [founder, chief, bob, dan] =
        [FOUNDER, CHIEF, BOB, DAN].map(|who| world.people[who].key().id());
    let version = |third, signers: &[usize]| {
        let unsigned = Cosigned::unsigned(world.next_root(&[founder, chief, third], 2));
        signers.iter().fold(unsigned, |it, who| it.signed(world.people[*who].key()))
    };
    // More of the keys before it have signed Bob's version.
    let (chosen, other) = (version(bob, &[FOUNDER, CHIEF, ANN]), version(dan, &[FOUNDER, CHIEF]));
    for document in [other, chosen] {
        assert_eq!(world.charter.take(Piece::Root(document)), Ok(true));
    }
    assert!(world.charter.is_forked());
    for (by, root, hours, expected) in [(DAN, 3, 1, None), (BOB, 4, 2, None), (BOB, 3, 3, Some(3))]
    {
        let before = world.charter.state().policies().invite_hours_max;
        let policy = vec![Change::Policy(Policy::InviteHoursMax(hours))];
        let mut draft = world.draft_with(&world.charter, by, &[FOUNDER], policy);
        draft.root = root;
        let made = world.sign(draft);
        assert_eq!(world.charter.take(operation(&made)), Ok(true));
        let now = world.charter.state().policies().invite_hours_max;
        assert_eq!(now, expected.unwrap_or(before), "of version {root}");
    }
    assert_as_model(&world.charter);
}

/// [CHARTER-5.1] An officer cannot cut root keys, which have no rank of their own.
#[test]
fn officers_do_not_cut_off_the_root_keys() {
    let mut world = World::new(true);
    let mut act = world.draft_with(
        &world.charter,
        FOUNDER,
        &[CHIEF],
        vec![Change::Policy(Policy::InviteHoursMax(5))],
    );
    act.root = 2;
    let act = world.sign(act);
    world.charter.take(operation(&act)).unwrap();
    let member = world.member(FOUNDER);
    for term in 0..2 {
        let mut cut = world.draft(ANN, vec![]);
        cut.cuts = List::truncated([Cut { member, term, last: List::default() }]);
        world.take(cut).unwrap();
    }
    assert!(matches!(world.verdict(&act), Verdict::Judged(level, _) if level.0 == 0));
    assert_eq!(world.charter.state().policies().invite_hours_max, 5);
    assert_as_model(&world.charter);
}

/// [CHARTER-8.4] A device whose disk is older than itself learns what it had done, and continues
/// after it.
#[test]
fn a_rolled_back_device_catches_up_and_takes_nobody_back() {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    let disk = world.charter.snapshot();
    world.by(BOB, hidden(10));
    world.by(CHIEF, vec![world.remove(DAN)]);
    let newest = world.charter.clone();
    let mut old = Charter::restore(&disk).unwrap();
    // Nothing that the old one holds sets the new one back.
    for piece in old.pieces_in_order() {
        assert_eq!(world.charter.take_all([piece]), [Ok(false)]);
    }
    assert_same(&newest, &world.charter);
    crate::world::take_until_done(&mut old, newest.pieces_in_order().collect());
    assert_same(&newest, &old);
    let person = &world.people[BOB];
    let next = old.edit(person.key(), person.member, hidden(11)).unwrap();
    assert_eq!(next.unverified().sequence, 3);
}

/// [CHARTER-8.3] A stranger's pieces are refused before they cost anything, and leave nothing
/// behind.
#[test]
fn a_strangers_flood_leaves_nothing() {
    let world = World::new(false);
    let mut charter = world.charter.clone();
    let random = SeededRandom::new(6);
    let key = DeviceKey::generate(&random);
    let member = charter.member_of(key.id());
    let stranger =
        Person { keys: [key, DeviceKey::generate(&random), DeviceKey::generate(&random)], member };
    for number in 0..200_u32 {
        let made = certificate(&charter, &stranger, &stranger.keys[1], number);
        let own = Piece::Certificate(Signed::sign(made.clone(), stranger.key()));
        assert_eq!(charter.take_all([own]), [Err(PieceError::Rootless)]);
        let other =
            MemberCertificate { issuer_certificate: ObjectHash::from_bytes([9; 32]), ..made };
        let waits = Piece::Certificate(Signed::sign(other, stranger.key()));
        assert!(matches!(charter.take_all([waits]).remove(0), Err(PieceError::Missing(_))));
        let mut draft = world.draft(BOB, vec![]);
        draft.author = stranger.key().id();
        draft.root = number;
        let unsigned = Cosigned::unsigned(Operation { certificate: NONE, ..draft.clone() });
        let refused = charter.take(Piece::Operation(unsigned.signed(stranger.key())));
        assert_eq!(refused, Err(PieceError::Rootless));
        let refused =
            charter.take(Piece::Operation(Cosigned::unsigned(draft).signed(stranger.key())));
        assert_eq!(refused, Err(PieceError::Stranger));
    }
    assert_same(&charter, &world.charter);
}

/// [CHARTER-8.3] A member who signs one number again and again takes no room from others.
/// [CHARTER-8.6]
#[test]
fn a_flood_of_one_number_is_bounded_and_hinders_nobody() {
    let mut world = World::new(false);
    let before = world.charter.operations();
    let draft = world.draft(DAN, vec![]);
    for number in 0..3 * FORKS_MAX as u32 {
        world.take(Operation { root: number, ..draft.clone() }).unwrap();
        assert!(world.charter.operations() <= before + FORKS_MAX);
    }
    world.by(BOB, hidden(9));
    // It is not frozen for good, either.
    let mut lift = world.draft(CHIEF, vec![]);
    lift.cuts = List::truncated([world.charter.cut(world.member(DAN))]);
    world.take(lift).unwrap();
    world.by(DAN, hidden(10));
}

/// [CHARTER-3.1] [PROTO-4.2]
#[test]
fn a_chain_deeper_than_allowed_is_refused() {
    let world = World::new(false);
    let mut charter = world.charter.clone();
    let random = SeededRandom::new(8);
    let mut issuer = (world.people[FAY].key().secret(), world.member(FAY));
    for depth in 2..CHAIN_MAX + 4 {
        let key = DeviceKey::from_secret(&issuer.0);
        let device = DeviceKey::generate(&random);
        let secret = device.secret();
        let person = Person { keys: [key, DeviceKey::generate(&random), device], member: issuer.1 };
        let made = certificate(&charter, &person, &person.keys[2], 0);
        let piece = Piece::Certificate(Signed::sign(made, person.key()));
        let result = charter.take_all([piece]).remove(0);
        if depth > CHAIN_MAX {
            assert_eq!(result, Err(PieceError::Stranger));
            break;
        }
        assert_eq!(result, Ok(true));
        issuer = (secret, charter.member_of(person.keys[2].id()));
    }
}

/// [CHARTER-3.4] A finder of the printed recovery key may end devices and add one, and nothing
/// else.
#[test]
fn a_recovery_key_settles_devices_and_nothing_else() {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    let person = &world.people[BOB];
    let recovery = person.keys[2].id();
    let changes = vec![
        Change::Channel(channel(10, EVERYWHERE)),
        world.add_device(BOB, &person.keys[1]),
        Change::RetireDevice { device: person.key().id(), term: 0, last: 1 },
    ];
    let mut draft = world.charter.draft(recovery, person.member, vec![], changes).unwrap();
    draft.cuts = List::truncated([world.charter.cut(world.member(DAN))]);
    let made = world.sign(draft);
    world.charter.take(operation(&made)).unwrap();
    let Verdict::Judged(_, judged) = verdict(&world.charter, &made) else { panic!("it stands") };
    assert_eq!(judged.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(world.charter.state().term(world.member(DAN)), 0);
    assert_eq!(world.charter.devices_of(world.member(BOB)), [world.people[BOB].keys[1].id()]);
    // The old device can do nothing any more, and the new one acts.
    let late = world.sign(world.draft(BOB, hidden(11)));
    world.charter.take_all([operation(&late)]);
    assert_eq!(world.verdict(&late), Verdict::Void(VoidReason::Cut));
    let person = &world.people[BOB];
    let next = world.charter.edit(&person.keys[1], person.member, hidden(12)).unwrap();
    assert_eq!(world.charter.take(operation(&next)), Ok(true));
    assert_as_model(&world.charter);
}
