//! Tickets that were given out and shall no longer admit anybody.

use hark_charter::{
    Denial, EditError, Piece, TICKETS_MAX,
    content::{Capabilities, Change, Place, RevokedTicket, Subject},
};
use hark_keys::{
    Cosigned, DeviceId, DeviceKey, Door, Invite, SeededRandom, Terms, Ticket, UnixTime,
};

use crate::world::{
    ANN, BOB, CHIEF, DAN, EVE, EVERYWHERE, FAY, FOUNDER, World, assert_as_model, rule,
};

const DAY: u64 = 24 * 60 * 60;
const EXPIRES: UnixTime = UnixTime::from_secs(10 * DAY);

/// A ticket that a member issues by what the charter says.
fn issue(world: &World, who: usize, seed: u64) -> Invite {
    let (key, series) = (world.people[who].key(), world.charter.state().series(world.member(who)));
    let door = Door { device: key.id(), addresses: Vec::new() };
    let terms = Terms { series, ..Terms::until(EXPIRES) };
    let organisation = world.charter.organisation();
    let random = SeededRandom::new(seed);
    Ticket::issue(key, organisation, "Squad", terms, vec![door], &random).invite().clone()
}

fn revoke(world: &World, issuer: usize, key: DeviceId) -> Change {
    Change::RevokeTicket(RevokedTicket { issuer: world.member(issuer), key, expires: EXPIRES })
}

fn is_revoked(world: &World, issuer: usize, invite: &Invite) -> bool {
    world.charter.state().revokes(world.member(issuer), invite)
}

fn settle(world: &mut World, at: UnixTime) {
    world.charter.set_calendar(at);
    let checkpoint = world.charter.draft_checkpoint().unwrap();
    assert_eq!(checkpoint.time, at);
    let signed = Cosigned::unsigned(checkpoint).signed(world.people[FOUNDER].key());
    assert_eq!(world.charter.take(Piece::Checkpoint(signed)), Ok(true));
}

/// [CHARTER-9.1] One's own tickets, and those of members who stand below.
#[test]
fn who_may_revoke_whose_tickets() {
    let mut world = World::new(false);
    let key = DeviceKey::from_secret(&[7; 32]).id();
    let everyone = rule(EVERYWHERE, Subject::Everyone, Capabilities::NONE, Capabilities::ADMIT);
    world.by(CHIEF, vec![everyone]);
    for by in [FOUNDER, CHIEF, ANN, DAN, EVE] {
        for issuer in [FOUNDER, CHIEF, ANN, BOB, DAN, EVE, FAY] {
            let member = world.member(issuer);
            let admits =
                world.charter.allows(world.member(by), Capabilities::ADMIT, Place::Organisation);
            let may = by == issuer || (admits && world.rank(by) < world.rank(issuer));
            for change in [revoke(&world, issuer, key), Change::RevokeTickets(Some(member))] {
                let person = &world.people[by];
                let made = world.charter.edit(person.key(), person.member, vec![change]);
                assert_eq!(made.is_ok(), may, "{by} {issuer}: {made:?}");
            }
        }
        let person = &world.people[by];
        let all = vec![Change::RevokeTickets(None)];
        let made = world.charter.edit(person.key(), person.member, all);
        match by {
            FOUNDER => assert!(made.is_ok()),
            EVE => assert!(made.is_err()),
            _ => assert_eq!(made.err(), Some(EditError::Denied(0, Denial::Root))),
        }
    }
}

/// [CHARTER-9.1] The number of a ticket that somebody else has issued means another ticket.
#[test]
fn nobody_revokes_a_ticket_by_calling_it_their_own() {
    let mut world = World::new(false);
    let of_chief = issue(&world, CHIEF, 1);
    world.by(ANN, vec![revoke(&world, ANN, of_chief.invite_key)]);
    assert!(!is_revoked(&world, CHIEF, &of_chief));
    world.by(CHIEF, vec![revoke(&world, CHIEF, of_chief.invite_key)]);
    assert!(is_revoked(&world, CHIEF, &of_chief));
    assert_as_model(&world.charter);
}

/// [CHARTER-9.2] All tickets are revoked that were issued without knowing of it, and none that is
/// issued later.
#[test]
fn all_tickets_so_far_are_revoked_at_once() {
    let mut world = World::new(false);
    let [of_ann, of_bob] = [(ANN, 1), (BOB, 2)].map(|(who, seed)| issue(&world, who, seed));
    world.by(CHIEF, vec![Change::RevokeTickets(Some(world.member(ANN)))]);
    assert!(is_revoked(&world, ANN, &of_ann) && !is_revoked(&world, BOB, &of_bob));
    let later = issue(&world, ANN, 3);
    assert!(!is_revoked(&world, ANN, &later));
    world.by(FOUNDER, vec![Change::RevokeTickets(None)]);
    assert!(is_revoked(&world, ANN, &later) && is_revoked(&world, BOB, &of_bob));
    let [last, of_bob] = [(ANN, 4), (BOB, 5)].map(|(who, seed)| issue(&world, who, seed));
    assert!(!is_revoked(&world, ANN, &last) && !is_revoked(&world, BOB, &of_bob));
    // A ticket of a series that has passed stays worthless.
    world.by(ANN, vec![Change::RevokeTickets(Some(world.member(ANN)))]);
    assert!([of_ann, later, last].iter().all(|it| is_revoked(&world, ANN, it)));
    assert_as_model(&world.charter);
}

/// [CHARTER-9.3] What a member makes others hold is bounded, and no revoked ticket is good again.
#[test]
fn one_revocation_too_many_revokes_all() {
    let mut world = World::new(false);
    let tickets: Vec<_> = (0..=TICKETS_MAX as u64).map(|seed| issue(&world, ANN, seed)).collect();
    let other = issue(&world, ANN, 1_000);
    for (number, ticket) in tickets.iter().enumerate() {
        assert!(!is_revoked(&world, ANN, &other), "{number}");
        // Revoking it a second time counts only once.
        for _ in 0..2 {
            world.by(ANN, vec![revoke(&world, ANN, ticket.invite_key)]);
        }
        assert!(tickets[..=number].iter().all(|it| is_revoked(&world, ANN, it)));
    }
    assert!(is_revoked(&world, ANN, &other));
    assert!(world.charter.state().revoked_tickets().count() <= TICKETS_MAX);
    assert!(!is_revoked(&world, ANN, &issue(&world, ANN, 2_000)));
    assert_as_model(&world.charter);
}

/// [CHARTER-9.4] A checkpoint forgets tickets that had expired a day before, and no others.
#[test]
fn checkpoints_forget_tickets_that_have_expired() {
    let mut world = World::new(false);
    let ticket = issue(&world, ANN, 1);
    world.by(ANN, vec![revoke(&world, ANN, ticket.invite_key)]);
    let other = world.by(BOB, vec![Change::RevokeTickets(Some(world.member(BOB)))]);
    let held = |world: &World| world.charter.state().revoked_tickets().count();
    let series = world.charter.state().series(world.member(BOB));
    for (turn, at) in [EXPIRES, UnixTime::from_secs(11 * DAY)].into_iter().enumerate() {
        settle(&mut world, at);
        assert_eq!(held(&world), 1, "what the newest covers is judged from the one before");
        world.by(BOB, vec![revoke(&world, BOB, DeviceId::clone(&ticket.issuer))]);
        world.by(BOB, vec![Change::RevokeTickets(Some(world.member(BOB)))]);
        assert_eq!(held(&world), 1, "{turn}");
    }
    assert_ne!(world.charter.state().series(world.member(BOB)), series, "{:?}", other.hash());
    settle(&mut world, UnixTime::from_secs(11 * DAY + 1));
    assert_eq!(held(&world), 0);
    // A clock that is set back restores nothing.
    world.by(BOB, vec![Change::RevokeTickets(Some(world.member(BOB)))]);
    world.charter.set_calendar(EXPIRES);
    let draft = world.charter.draft_checkpoint().unwrap();
    assert_eq!(draft.time, UnixTime::from_secs(11 * DAY + 1));
    assert!(!world.charter.brings_back(&draft));
}
