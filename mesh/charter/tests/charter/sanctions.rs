//! Mutes and bans hold as they were set, in random charters compared with a model of ten lines.

use std::collections::BTreeMap;

use hark_charter::{
    Charter, Decision, Denial, EditError, Piece, Verdict,
    content::{
        Capabilities, Change, MEMBER_ROLE, Place, Role, Rule, Sanction, SanctionKind, Subject,
    },
};
use hark_keys::UnixTime;

use crate::histories::cases;
use crate::world::{
    ANN, BOB, CHIEF, CID, DAN, EVE, EVERYWHERE, FAY, FOUNDER, World, assert_as_model, channel,
    channel_id, role, rule,
};

const START: u64 = 1_800_000_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(START + seconds)
}

fn sanction(
    world: &World,
    who: usize,
    kind: SanctionKind,
    at: Place,
    until: Option<UnixTime>,
) -> Change {
    let member = world.member(who);
    Change::Sanction(Sanction { member, kind, at, until, name: "Heron".to_owned() })
}

fn mute(world: &World, who: usize, place: Place, until: Option<UnixTime>) -> Change {
    sanction(world, who, SanctionKind::Mute, place, until)
}

fn may_speak(world: &World, who: usize, place: Place) -> bool {
    world.charter.allows(world.member(who), Capabilities::SPEAK, place)
}

/// [CHARTER-6.6] A channel's own rule allowed a member who was muted everywhere to talk on.
#[test]
fn a_mute_everywhere_left_channels_open_that_had_a_rule_of_their_own() {
    let mut world = World::new(false);
    let bridge = Place::Channel(channel_id(1));
    let everyone = rule(bridge, Subject::Everyone, Capabilities::SPEAK, Capabilities::NONE);
    let herself =
        rule(bridge, Subject::Member(world.member(EVE)), Capabilities::SPEAK, Capabilities::NONE);
    world.by(CHIEF, vec![everyone, herself]);
    world.by(DAN, vec![mute(&world, EVE, EVERYWHERE, None)]);
    for place in [EVERYWHERE, bridge, Place::Channel(channel_id(2))] {
        assert!(!may_speak(&world, EVE, place));
        assert!(may_speak(&world, FAY, place));
    }
    let why = world.charter.why(world.member(EVE), Capabilities::SPEAK, bridge);
    assert!(matches!(
        why,
        Some(Decision::Sanction {
            kind: SanctionKind::Mute,
            at: Place::Organisation,
            until: None,
            ..
        })
    ));
    assert!(world.charter.allows(world.member(EVE), Capabilities::LISTEN, bridge));
    // Nor does a role of hers in the channel that stands as high as the officer who muted her.
    let grant = world.grant_of(2, bridge, &[EVE]);
    world.by(CHIEF, vec![Change::Grant(grant)]);
    assert!(!may_speak(&world, EVE, bridge));
    let lift = Change::Lift { member: world.member(EVE), kind: SanctionKind::Mute, at: EVERYWHERE };
    world.by(DAN, vec![lift]);
    assert!(may_speak(&world, EVE, bridge));
    assert_as_model(&world.charter);
}

/// [CHARTER-6.6] Muting a superior was reported as done, and had no effect.
#[test]
fn muting_who_stands_above_was_said_and_did_nothing() {
    let mut world = World::new(false);
    for (by, whom) in [(ANN, FOUNDER), (ANN, CHIEF), (ANN, BOB), (EVE, FAY)] {
        for kind in [SanctionKind::Mute, SanctionKind::Ban] {
            let person = &world.people[by];
            let change = sanction(&world, whom, kind, EVERYWHERE, None);
            let edit = world.charter.edit(person.key(), person.member, vec![change]);
            let denied =
                matches!(edit, Err(EditError::Denied(0, Denial::Rank | Denial::Right(..))));
            assert!(denied, "{edit:?}");
        }
    }
    // A lower officer does not lift what a higher one has set.
    world.by(CHIEF, vec![mute(&world, DAN, EVERYWHERE, None)]);
    let lift = Change::Lift { member: world.member(DAN), kind: SanctionKind::Mute, at: EVERYWHERE };
    let person = &world.people[ANN];
    let edit = world.charter.edit(person.key(), person.member, vec![lift]);
    assert_eq!(edit, Err(EditError::Denied(0, Denial::Rank)));
    assert!(!may_speak(&world, DAN, EVERYWHERE));
}

/// [CHARTER-6.7] An officer who muted somebody for ten minutes had to remember to lift it. Two
/// devices whose clocks differ still hold the same charter.
#[test]
fn a_timed_mute_ends_by_the_clock_of_each_device_and_leaves_the_charter_alone() {
    let mut world = World::new(false);
    world.charter.set_calendar(at(0));
    world.by(DAN, vec![mute(&world, EVE, EVERYWHERE, Some(at(600)))]);
    assert!(!may_speak(&world, EVE, EVERYWHERE));
    let mut behind = world.charter.clone();
    assert!(!world.charter.changes_by(at(599)));
    world.charter.set_calendar(at(599));
    assert!(!may_speak(&world, EVE, EVERYWHERE));
    assert!(world.charter.changes_by(at(600)));
    world.charter.set_calendar(at(600));
    assert!(may_speak(&world, EVE, EVERYWHERE));
    assert!(!behind.state().permits_like(world.charter.state()), "relays and talkers notice");
    assert_eq!(behind.digest(), world.charter.digest());
    // What one device does by its clock is taken by the other, whatever that one's clock says.
    let [founder, eve] = [FOUNDER, EVE].map(|who| &world.people[who]);
    let grant = world.grant(3, &[EVE]);
    let made = world.charter.edit(founder.key(), founder.member, vec![grant]).unwrap();
    let change = Change::Channel(channel(9, EVERYWHERE));
    for charter in [&mut behind, &mut world.charter] {
        assert_eq!(charter.take(Piece::Operation(made.clone())), Ok(true));
    }
    let made = world.charter.edit(eve.key(), eve.member, vec![change]).unwrap();
    for charter in [&mut behind, &mut world.charter] {
        assert_eq!(charter.take(Piece::Operation(made.clone())), Ok(true));
        assert!(matches!(crate::world::verdict(charter, &made), Verdict::Judged(..)));
    }
    behind.set_calendar(at(600));
    crate::world::assert_same(&behind, &world.charter);
}

/// [CHARTER-6.6] A kick did not keep members out: the next ticket let them in again.
#[test]
fn a_banned_member_came_back_with_a_fresh_ticket() {
    let mut world = World::new(false);
    let device = world.people[EVE].keys[1].id();
    let added = world.add_device(EVE, &world.people[EVE].keys[1]);
    world.by(EVE, vec![added]);
    world.charter.set_calendar(at(0));
    let ban = sanction(&world, EVE, SanctionKind::Ban, EVERYWHERE, Some(at(60)));
    world.by(CHIEF, vec![ban, world.remove(EVE)]);
    let (first, member) = (world.people[EVE].key().id(), world.member(EVE));
    let again = |charter: &mut Charter| {
        let founder = &world.people[FOUNDER];
        let issued = charter.issue(founder.key(), founder.member, first, None).unwrap();
        let _ = charter.take(Piece::Certificate(issued.clone()));
        charter.verify_chain(&charter.chain_with(issued), first).is_ok()
    };
    assert!(
        !again(&mut world.charter),
        "not even by a certificate that somebody issues all the same"
    );
    assert!(!world.charter.is_member(member) && world.charter.devices_of(member).is_empty());
    for key in [first, device] {
        assert!(world.charter.is_kept_out(key));
    }
    world.charter.set_calendar(at(60));
    assert!(!world.charter.is_kept_out(first) && !world.charter.is_kept_out(device));
    assert!(world.charter.is_member(member), "by the certificate of then");
    assert_eq!(world.rank(EVE), 251);
}

/// [CHARTER-2.8] A founder had no role, so that a change of the role `member` made the founder deaf
/// and mute.
#[test]
fn a_founder_had_no_role() {
    let mut world = World::new(false);
    let nothing =
        Role { id: MEMBER_ROLE, name: "member".to_owned(), ..role(0, 251, Capabilities::NONE) };
    world.by(FOUNDER, vec![Change::Role(nothing)]);
    for right in [Capabilities::JOIN, Capabilities::LISTEN, Capabilities::SPEAK] {
        assert!(world.charter.allows(world.member(FOUNDER), right, EVERYWHERE));
        assert!(!world.charter.allows(world.member(EVE), right, EVERYWHERE));
    }
    assert_as_model(&world.charter);
}

/// What was set: its end and its author's rank, by member, kind and place.
type Said = BTreeMap<(usize, SanctionKind, usize), (Option<u64>, u8)>;

/// Random mutes, bans and rules, compared with a model that knows only what was done last. An
/// officer to whom it was reported that somebody may not speak can rely on it, at any time.
/// [CHARTER-6.6] [CHARTER-6.7] [CHARTER-5.22]
///
/// Each charter is an earlier one and one act more, up to three acts, so that thousands share most
/// of their signatures.
#[test]
fn what_is_said_of_mutes_and_bans_is_what_holds() {
    let mut world = World::new(false);
    world.by(CHIEF, vec![Change::Channel(channel(3, EVERYWHERE))]);
    let mut path = vec![(world.charter.clone(), Said::new())];
    let mut dice = 7_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for _ in 0..cases(10_000) {
        path.truncate(1 + roll(ACTS_MAX) as usize);
        let (before, mut said) = path.last().expect("the start stays").clone();
        world.charter = before;
        if act(&mut world, &mut said, &mut roll) {
            path.push((world.charter.clone(), said));
            let (_, said) = path.last().expect("it was pushed");
            assert_what_is_said_holds(&mut world, said);
        }
    }
}

/// Somebody mutes, bans, lifts or makes a rule, or is refused as the model says. Returns whether it
/// was done.
fn act(world: &mut World, said: &mut Said, roll: &mut impl FnMut(u64) -> u64) -> bool {
    let by = [FOUNDER, CHIEF, ANN, BOB, DAN, EVE][roll(6) as usize];
    let whom = [CHIEF, ANN, CID, DAN, EVE, FAY][roll(6) as usize];
    let place = roll(4) as usize;
    let kind = if roll(3) == 0 { SanctionKind::Ban } else { SanctionKind::Mute };
    let until = [None, Some(100), Some(200)][roll(3) as usize];
    let (member, there) = (world.member(whom), places()[place]);
    let rank = world.rank(by);
    let change = match roll(6) {
        0 => Change::Lift { member, kind, at: there },
        1 => Change::Rule(Rule {
            at: there,
            subject: Subject::Everyone,
            allow: Capabilities::ALL_OF_SPEECH,
            deny: Capabilities::NONE,
        }),
        2 => Change::Rule(Rule {
            at: there,
            subject: Subject::Member(member),
            allow: Capabilities::SPEAK,
            deny: Capabilities::NONE,
        }),
        _ => sanction(world, whom, kind, there, until.map(at)),
    };
    let person = &world.people[by];
    let done = world.charter.edit(person.key(), person.member, vec![change.clone()]);
    let officer = by != EVE;
    // A ban of an officer takes all of the officer's rights.
    let banned = said.contains_key(&(by, SanctionKind::Ban, 0));
    let expected = !banned
        && match &change {
            Change::Sanction(_) => officer && rank < world.rank(whom),
            Change::Lift { .. } => {
                officer && said.get(&(whom, kind, place)).is_some_and(|(_, by)| rank <= *by)
            }
            _ => officer,
        };
    assert_eq!(done.is_ok(), expected, "{change:?}: {done:?}");
    let Ok(operation) = done else { return false };
    assert_eq!(world.charter.take(Piece::Operation(operation)), Ok(true));
    match change {
        Change::Sanction(_) => {
            // An officer of lower standing does not replace what a higher one has set: both hold.
            let known = said.get(&(whom, kind, place)).copied();
            let longest = known
                .filter(|(_, by)| *by < rank)
                .map(|(before, by)| (before.zip(until).map(|(one, other)| one.max(other)), by));
            said.insert((whom, kind, place), longest.unwrap_or((until, rank)));
        }
        Change::Lift { .. } => drop(said.remove(&(whom, kind, place))),
        _ => {}
    }
    true
}

/// Checks everybody, everywhere, just before and after each moment at which something ends.
fn assert_what_is_said_holds(world: &mut World, said: &Said) {
    for now in [99, 100, 199, 200] {
        world.charter.set_calendar(at(now));
        for whom in [FOUNDER, CHIEF, ANN, BOB, CID, DAN, EVE, FAY] {
            let holds = |kind, place| {
                let found = said.get(&(whom, kind, place));
                found.is_some_and(|(until, _)| until.is_none_or(|until| now < until))
            };
            assert_eq!(
                world.charter.state().is_banned(world.member(whom)),
                holds(SanctionKind::Ban, 0)
            );
            for (number, place) in places().into_iter().enumerate() {
                // Channel 2 lies in channel 1.
                let within: &[usize] = [&[0][..], &[0, 1], &[0, 1, 2], &[0, 3]][number];
                let out = within.iter().any(|place| holds(SanctionKind::Ban, *place));
                let muted = out || within.iter().any(|place| holds(SanctionKind::Mute, *place));
                assert_eq!(
                    may_speak(world, whom, place),
                    !muted,
                    "{whom} at {number}, {now}: {said:?}"
                );
                let hears = world.charter.allows(world.member(whom), Capabilities::LISTEN, place);
                assert_eq!(hears, !out, "{whom} at {number}, {now}: {said:?}");
            }
        }
    }
}

fn places() -> [Place; 4] {
    [EVERYWHERE, place_of(1), place_of(2), place_of(3)]
}

fn place_of(channel: u8) -> Place {
    Place::Channel(channel_id(channel))
}

/// The most acts on which a charter rests.
const ACTS_MAX: u64 = 3;

/// [CHARTER-6.6] A ban of a member who had once been removed and admitted again was taken for the
/// earlier removal. After the pardon the member's home said that the membership had ended.
#[test]
fn a_ban_was_taken_for_the_removal_before_it() {
    let mut world = World::new(false);
    let (founder, eve) = (world.member(FOUNDER), world.member(EVE));
    let device = world.people[EVE].key().id();
    world.by(FOUNDER, vec![world.remove(EVE)]);
    assert!(world.charter.ending(eve, device).is_some());
    let again = world.charter.issue(world.people[FOUNDER].key(), founder, device, None);
    world.charter.take(Piece::Certificate(again.expect("admitted"))).expect("taken");
    assert_eq!(world.charter.ending(eve, device), None);
    world.by(FOUNDER, vec![sanction(&world, EVE, SanctionKind::Ban, EVERYWHERE, None)]);
    assert!(!world.charter.is_member(eve));
    assert_eq!(world.charter.ending(eve, device), None);
}
