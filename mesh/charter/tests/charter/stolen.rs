//! One stolen officer key: whatever it signs, in whatever order and however backdated, nobody of
//! equal rank and nobody above loses anything that they have at the organisation. [CHARTER-5.11]

use hark_charter::{
    Charter, Cut, Piece, PieceError, Verdict,
    content::{
        Capabilities, Change, Channel, MEMBER_ROLE, Place, Rule, Sanction, SanctionKind, Subject,
    },
};
use hark_keys::{List, Signed};

use crate::world::{
    ANN, BOB, CHIEF, CID, DAN, EVE, EVERYWHERE, FOUNDER, NONE, World, certificate, channel_id,
    preset, preset_id, role, role_id, rule,
};

/// Members whom Ann's key must not affect: her equals, everybody above, and one who became her
/// equal later.
const SAFE: [usize; 5] = [FOUNDER, CHIEF, BOB, CID, EVE];

/// An organisation with a past. Ann has been an officer from the beginning and has done nothing
/// yet. Eve, once of rank 50, later became her equal. Other members hold rights by lower roles,
/// presets and rules.
fn past() -> (World, Charter) {
    let mut world = World::new(false);
    let early = world.charter.clone();
    let all = Capabilities::NONE;
    world.by(
        CHIEF,
        vec![Change::Role(role(7, 60, Capabilities::APPOINT_RELAYS)), world.grant(3, &[EVE])],
    );
    world.by(
        EVE,
        vec![Change::Channel(Channel { order: 3, ..crate::world::channel(4, EVERYWHERE) })],
    );
    world.by(
        CHIEF,
        vec![
            Change::Role(role(8, 10, Capabilities::MUTE)),
            world.grant(8, &[BOB, EVE]),
            world.grant(7, &[BOB, EVE]),
        ],
    );
    world.by(BOB, vec![Change::Role(role(9, 70, Capabilities::ADMIT)), world.grant(9, &[EVE])]);
    let allow = Rule {
        at: EVERYWHERE,
        subject: Subject::Member(world.member(EVE)),
        allow: Capabilities::PRIORITY,
        deny: all,
    };
    let grant = world.grant_of(9, EVERYWHERE, &[CID]);
    let made = preset(1, &[], vec![grant]);
    world.by(
        CHIEF,
        vec![Change::Preset(Box::new(made)), Change::LoadPreset(preset_id(1)), Change::Rule(allow)],
    );
    world.by(EVE, vec![Change::Channel(crate::world::channel(5, EVERYWHERE))]);
    world.by(BOB, vec![Change::Channel(crate::world::channel(6, EVERYWHERE))]);
    assert_eq!(SAFE.map(|who| world.rank(who)), [0, 5, 10, 10, 10]);
    (world, early)
}

/// What each member has: membership, rank, rights, and operations that stand.
fn holdings(world: &World, charter: &Charter) -> Vec<(bool, u8, Capabilities, usize)> {
    let one = |who: &usize| {
        let member = world.member(*who);
        let rights =
            Capabilities::ALL.iter().filter(|right| charter.allows(member, *right, EVERYWHERE));
        let rights = rights.fold(Capabilities::NONE, |all, right| all | right);
        let key = world.people[*who].key().id();
        let standing = charter.log().filter(|(operation, verdict)| {
            operation.unverified().author == key && matches!(verdict, Verdict::Judged(..))
        });
        let rank = charter.state().rank(member, EVERYWHERE).0;
        (charter.is_member(member), rank, rights, standing.count())
    };
    SAFE.iter().map(one).collect()
}

#[track_caller]
fn assert_unharmed(before: &[(bool, u8, Capabilities, usize)], world: &World, charter: &Charter) {
    let after = holdings(world, charter);
    for (who, (before, after)) in before.iter().zip(&after).enumerate() {
        let unharmed = (after.0 || !before.0)
            && after.1 <= before.1
            && after.2.contains(before.2)
            && after.3 >= before.3;
        assert!(unharmed, "{}: {before:?} became {after:?}", SAFE[who]);
    }
}

/// All that Ann's key could sign in one operation.
fn alphabet(world: &World) -> Vec<(Vec<Change>, Vec<Cut>)> {
    let none = Capabilities::NONE;
    let most = Capabilities::ALL;
    let mut all: Vec<(Vec<Change>, Vec<Cut>)> = Vec::new();
    for who in [CHIEF, BOB, EVE] {
        let member = world.member(who);
        let keys = &world.people[who].keys;
        all.push((vec![Change::Remove { member, admission: 1 }], vec![]));
        all.push((vec![], vec![Cut { member, term: 0, last: List::default() }]));
        let last = List::truncated([(keys[0].id(), 1)]);
        all.push((vec![], vec![Cut { member, term: 0, last }]));
        all.push((vec![], vec![Cut { member, term: 1, last: List::default() }]));
        all.push((
            vec![world.ungrant(2, &[who]), world.ungrant(7, &[who]), world.ungrant(8, &[who])],
            vec![],
        ));
        all.push((vec![world.ungrant(3, &[who])], vec![]));
        all.push((vec![world.ungrant(9, &[who])], vec![]));
        for kind in [SanctionKind::Mute, SanctionKind::Ban] {
            let name = String::new();
            let sanction = Sanction { member, kind, at: EVERYWHERE, until: None, name };
            all.push((vec![Change::Sanction(sanction)], vec![]));
        }
        all.push((vec![rule(EVERYWHERE, Subject::Member(member), none, most)], vec![]));
        all.push((vec![rule(EVERYWHERE, Subject::Member(member), none, none)], vec![]));
    }
    all.push((vec![rule(EVERYWHERE, Subject::Everyone, none, most)], vec![]));
    for number in [2, 3, 7, 8, 9] {
        all.push((vec![rule(EVERYWHERE, Subject::Role(role_id(number)), none, most)], vec![]));
        all.push((vec![Change::RemoveRole(role_id(number))], vec![]));
        all.push((vec![Change::Role(role(number, 200, none))], vec![]));
        all.push((vec![Change::Role(role(number, 11, most))], vec![]));
    }
    let mut member = role(0, 251, none);
    member.id = MEMBER_ROLE;
    all.push((vec![Change::Role(member)], vec![]));
    // A preset that takes what it can, under an id of its own and under that of the chief's.
    let deny = Rule { at: EVERYWHERE, subject: Subject::Everyone, allow: none, deny: most };
    for number in [1, 2] {
        let grant = world.grant_of(2, EVERYWHERE, &[DAN]);
        let made = Change::Preset(Box::new(preset(number, &[deny], vec![grant])));
        all.push((vec![made, Change::LoadPreset(preset_id(number))], vec![]));
        all.push((vec![Change::UnloadPreset(preset_id(number))], vec![]));
        all.push((vec![Change::RemovePreset(preset_id(number))], vec![]));
    }
    for number in 1..=5 {
        all.push((vec![Change::RemoveChannel(channel_id(number))], vec![]));
    }
    all.push((
        vec![Change::MoveChannel { channel: channel_id(1), parent: Place::Channel(channel_id(4)) }],
        vec![],
    ));
    all.push((
        vec![world.grant(2, &[DAN]), world.grant(1, &[ANN]), world.grant(3, &[ANN])],
        vec![],
    ));
    all.push((vec![world.ungrant(2, &[ANN])], vec![]));
    let device = &world.people[ANN].keys[1];
    all.push((vec![world.add_device(ANN, device)], vec![]));
    let own = world.people[ANN].key().id();
    all.push((vec![Change::RetireDevice { device: own, term: 0, last: 0 }], vec![]));
    all
}

/// Ann's key signs `words` of the alphabet one after the other, from an early view or a late one,
/// and perhaps uses a number twice.
struct Thief<'a> {
    world: &'a World,
    alphabet: &'a [(Vec<Change>, Vec<Cut>)],
    /// What Ann knows when she begins.
    view: &'a Charter,
}

impl Thief<'_> {
    fn acts(&self, target: &mut Charter, words: &[usize], twice: bool) {
        let ann = &self.world.people[ANN];
        let mut view = self.view.clone();
        let first = view.draft(ann.key().id(), ann.member, vec![], vec![]).unwrap();
        let (mut parents, mut lamport) = (first.parents.clone(), first.lamport);
        let mut previous = NONE;
        let mut sequence = 0;
        for (at, word) in words.iter().enumerate() {
            let (changes, cuts) = &self.alphabet[*word];
            let mut draft = first.clone();
            if !(twice && at == 1) {
                sequence += 1;
            }
            draft.sequence = sequence;
            draft.previous = if sequence == 1 { NONE } else { previous };
            draft.parents = parents.clone();
            draft.lamport = lamport;
            draft.changes = List::truncated(changes.iter().cloned());
            draft.cuts = List::truncated(cuts.iter().cloned());
            let signed = hark_keys::Cosigned::unsigned(draft).signed(ann.key());
            let hash = signed.hash();
            // Everybody learns what she knows herself.
            view.take_all([Piece::Operation(signed.clone())]);
            let taken = target.take_all([Piece::Operation(signed)]).remove(0);
            assert!(matches!(taken, Ok(_) | Err(PieceError::Stranger)), "{taken:?}");
            parents = List::truncated([hash]);
            lamport += 1;
            previous = hash;
        }
    }
}

/// All sequences of one word and of two, and many of six, from the earliest view and from the
/// latest.
#[test]
fn one_stolen_key_takes_nothing_from_equals_and_superiors() {
    let (world, early) = past();
    let late = world.charter.clone();
    let before = holdings(&world, &late);
    let alphabet = alphabet(&world);
    let mut dice = 1_u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let letters = alphabet.len();
    let mut words: Vec<Vec<usize>> = (0..letters).map(|letter| vec![letter]).collect();
    words.extend(
        (0..letters).flat_map(|one| (0..letters).map(move |two| vec![one, two])).step_by(5),
    );
    for _ in 0..250 {
        let length = 3 + roll(4);
        words.push((0..length).map(|_| roll(letters)).collect());
    }
    for (number, word) in words.iter().enumerate() {
        let view = if number % 3 == 0 { &late } else { &early };
        let thief = Thief { world: &world, alphabet: &alphabet, view };
        let mut target = late.clone();
        thief.acts(&mut target, word, number % 7 == 0);
        assert_unharmed(&before, &world, &target);
        if number % 40 == 0 {
            crate::world::assert_as_model(&target);
        }
    }
}

/// [CHARTER-3.1] A certificate for somebody else's device names no recovery key to which the device
/// has not consented. Otherwise the issuer would own the member by it.
#[test]
fn nobody_names_a_recovery_key_for_another() {
    let world = World::new(false);
    let mut made = certificate(&world.charter, &world.people[ANN], world.people[BOB].key(), 0);
    let own = &world.people[ANN];
    let forged =
        hark_charter::Recovery::of(world.charter.organisation(), own.keys[2].id(), own.key());
    made.recovery = Some(forged);
    let mut charter = world.charter.clone();
    let piece = Piece::Certificate(Signed::sign(made, own.key()));
    assert!(matches!(charter.take_all([piece]).remove(0), Err(PieceError::Signature(_))));
}
