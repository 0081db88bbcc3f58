//! Former members and devices.

use hark_charter::{
    Ending,
    content::{Channel, RevokedTicket, Sanction, SanctionKind},
    device_consent,
};

use super::*;

fn rename(number: usize) -> Vec<Change> {
    let id = ChannelId::from_bytes([9; 16]);
    vec![Change::Channel(Channel::open(id, &format!("Net {number}")))]
}

/// Bob dials with what he knows. Returns what he is told.
fn knock(
    charter: &Charter,
    founder: &Party,
    known: &Charter,
    bob: &Party,
) -> (Refusal, HelloError) {
    let member = known.member_of(bob.key.id());
    let chain = known.chain_of(member);
    let greeting = Greeting::member(known, bob.key.id(), &chain, &bob.presence, EXPORTER);
    let refusal = open(charter, founder, bob, greeting.bytes()).err().unwrap();
    let answer = refuse_by(charter, refusal, bob, greeting.bytes());
    assert!(answer.len() <= HELLO_MAX_BYTES);
    (refusal, greeting.read_answer(founder.key.id(), &answer).unwrap_err())
}

/// However much has happened since, each dial brings him further along. [PROTO-3.8] [PROTO-3.26]
/// [PROTO-3.22]
#[test]
fn who_was_removed_while_away_is_shown_by_whom() {
    let (mut charter, founder, bob, member) = with_bob();
    let own = charter.member_of(founder.key.id());
    let mut known = charter.clone();
    for number in 0..100 {
        change(&mut charter, &founder.key, own, rename(number));
    }
    let remove = vec![Change::Remove { member, admission: 1 }];
    change(&mut charter, &founder.key, own, remove);
    let removed = charter.operations();
    change(&mut charter, &founder.key, own, rename(100));
    let mut knocks = 0;
    while known.is_member(member) {
        let (refusal, told) = knock(&charter, &founder, &known, &bob);
        assert_eq!(refusal, Refusal::Removed);
        let HelloError::Ended(pieces) = told else { panic!("no proof: {told}") };
        let before = known.operations();
        assert!(known.take_all(pieces).iter().all(Result::is_ok));
        assert!(known.operations() > before, "each knock brings news");
        knocks += 1;
    }
    assert!((2..20).contains(&knocks), "{knocks}");
    assert_eq!(known.operations(), removed, "nothing of what came later");
    assert_eq!(known.ending(member, bob.key.id()), Some(Ending::Removed(Some(own))));
}

/// [CHARTER-6.9] No door lets in a banned member, as long as the ban lasts by the door's clock.
#[test]
fn a_fresh_ticket_ended_a_ban() {
    let (mut charter, founder, bob, member) = with_bob();
    let own = charter.member_of(founder.key.id());
    let until = UnixTime::from_secs(2_000);
    let ban = Sanction {
        member,
        kind: SanctionKind::Ban,
        at: Place::Organisation,
        until: Some(until),
        name: "Bob".to_owned(),
    };
    let removed = Change::Remove { member, admission: 1 };
    change(&mut charter, &founder.key, own, vec![Change::Sanction(ban), removed]);
    let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
    let refused = open(&charter, &founder, &bob, greeting.bytes());
    assert_eq!(refused.err(), Some(Refusal::Banned));
    charter.set_calendar(until);
    assert!(open(&charter, &founder, &bob, greeting.bytes()).is_ok());
}

/// [PROTO-4.9] [CHARTER-9.1] [CHARTER-9.5] A door that knows of the revocation refuses. One that
/// does not know lets the newcomer in.
#[test]
fn a_ticket_was_good_until_it_expired_whoever_had_it() {
    let (mut charter, founder, bob, _) = with_bob();
    let behind = charter.clone();
    let own = charter.member_of(founder.key.id());
    let ticket = ticket(&charter, &founder, 0, &[&founder]);
    let invite = ticket.invite();
    let revoked = RevokedTicket { issuer: own, key: invite.invite_key, expires: invite.expires };
    change(&mut charter, &founder.key, own, vec![Change::RevokeTicket(revoked)]);
    let dan = Party::new(9, "Dan");
    let greeting = redeem(&ticket, &dan);
    let refused = open(&charter, &founder, &dan, greeting.bytes()).err();
    assert_eq!(refused, Some(Refusal::TicketRevoked));
    let answer = refuse_by(&charter, Refusal::TicketRevoked, &dan, greeting.bytes());
    let told = greeting.read_answer(founder.key.id(), &answer).unwrap_err();
    assert_eq!(told, HelloError::Refused(Refusal::TicketRevoked));
    assert!(open(&behind, &bob, &dan, redeem(&ticket, &dan).bytes()).is_ok());

    // A relay does not lead a newcomer that would be refused.
    let listener = Listener { member: None, ..founder.listener(&charter) };
    let greeting = redeem(&ticket, &dan);
    let open = |listener| open_greeting(NOW, listener, &EXPORTER, dan.key.id(), greeting.bytes());
    assert_eq!(open(&listener).err(), Some(Refusal::TicketRevoked));
    let listener = Listener { member: None, ..founder.listener(&behind) };
    assert_eq!(open(&listener).err(), Some(Refusal::Leads));
}

/// [PROTO-3.8] Proofs by a member who may not remove, about somebody else, or from a stranger.
#[test]
fn nobody_is_thrown_out_by_words() {
    let (mut charter, founder, bob, member) = with_bob();
    let eve = Party::new(3, "Eve");
    let own = charter.member_of(founder.key.id());
    let certificate = charter.issue(&founder.key, own, eve.key.id(), None).unwrap();
    charter.take(Piece::Certificate(certificate)).unwrap();
    let of_eve = charter.member_of(eve.key.id());
    // Eve has no rank: her charter takes the operation, and denies it.
    let mut forged = charter.draft(eve.key.id(), of_eve, Vec::new(), Vec::new()).unwrap();
    forged.changes = List::truncated([Change::Remove { member, admission: 1 }]);
    let forged = Cosigned::unsigned(forged).signed(&eve.key);
    let mut known = charter.clone();
    known.take_all([Piece::Operation(forged)]);
    assert!(known.is_member(member));
    assert_eq!(known.ending(member, bob.key.id()), None);

    // A code alone ends nothing.
    let chain = charter.chain_of(member);
    let greeting = Greeting::member(&charter, bob.key.id(), &chain, &bob.presence, EXPORTER);
    let answer = refuse_by(&charter, Refusal::Removed, &bob, greeting.bytes());
    let told = greeting.read_answer(founder.key.id(), &answer);
    assert_eq!(told.unwrap_err(), HelloError::Refused(Refusal::Removed));

    // A stranger who shows Bob's certificate learns nothing about what happened to Bob.
    change(&mut charter, &founder.key, own, vec![Change::Remove { member, admission: 1 }]);
    let stranger = Party::new(4, "Mallory");
    let greeting = Greeting::member(&known, stranger.key.id(), &chain, &bob.presence, EXPORTER);
    let refusal = open(&charter, &founder, &stranger, greeting.bytes()).err().unwrap();
    assert_eq!(refusal, Refusal::Certificate);
    let answer = refuse_by(&charter, refusal, &stranger, greeting.bytes());
    let told = greeting.read_answer(founder.key.id(), &answer);
    assert_eq!(told.unwrap_err(), HelloError::Refused(Refusal::Certificate));
}

/// [PROTO-3.8] What was sealed for one link is worth nothing on another.
#[test]
fn a_proof_is_read_by_whom_it_was_sealed_for() {
    let (mut charter, founder, bob, member) = with_bob();
    let own = charter.member_of(founder.key.id());
    let known = charter.clone();
    change(&mut charter, &founder.key, own, vec![Change::Remove { member, admission: 1 }]);
    let greet = |exporter| {
        let chain = known.chain_of(member);
        Greeting::member(&known, bob.key.id(), &chain, &bob.presence, exporter)
    };
    let greeting = greet(EXPORTER);
    let mut answer = refuse_by(&charter, Refusal::Removed, &bob, greeting.bytes());
    let elsewhere = greet([8; 32]).read_answer(founder.key.id(), &answer).unwrap_err();
    assert_eq!(elsewhere, HelloError::Malformed);
    *answer.last_mut().unwrap() ^= 1;
    let told = greeting.read_answer(founder.key.id(), &answer).unwrap_err();
    assert_eq!(told, HelloError::Malformed);
}

/// [PROTO-3.8]
#[test]
fn a_retired_device_is_shown_that_it_was() {
    let (mut charter, founder, bob, member) = with_bob();
    let second = Party::new(7, "Bob at home");
    let consent = device_consent(charter.organisation(), member, &second.key);
    let add = Change::AddDevice { device: second.key.id(), consent };
    change(&mut charter, &bob.key, member, vec![add]);
    let mut known = charter.clone();
    let retire = Change::RetireDevice { device: second.key.id(), term: 0, last: 0 };
    change(&mut charter, &bob.key, member, vec![retire]);
    let chain = known.chain_of(member);
    let greeting = Greeting::member(&known, second.key.id(), &chain, &second.presence, EXPORTER);
    let refusal = open(&charter, &founder, &second, greeting.bytes()).err().unwrap();
    let answer = refuse_by(&charter, refusal, &second, greeting.bytes());
    let told = greeting.read_answer(founder.key.id(), &answer).unwrap_err();
    let HelloError::Ended(pieces) = told else { panic!("no proof: {told}") };
    known.take_all(pieces);
    let ending = known.ending(member, second.key.id());
    assert_eq!(ending, Some(Ending::Retired(Some(bob.key.id()))));
    assert_eq!(known.ending(member, bob.key.id()), None);
}
