//! Relays, which the charter names and which belong to no member.

use hark_charter::content::Relay;

use super::*;

/// A squad with Bob and a relay that its charter names.
fn with_relay() -> (Charter, Party, Party, MemberId, Party) {
    let (mut charter, founder, bob, member) = with_bob();
    let relay = Party::new(9, "Hub");
    let named = Relay {
        device: relay.key.id(),
        name: "Hub".to_owned(),
        addresses: List::truncated(relay.presence.addresses.iter().copied()),
        members_max: 0,
        rate_kbps: 0,
    };
    let own = charter.member_of(founder.key.id());
    change(&mut charter, &founder.key, own, vec![Change::Relay(named)]);
    (charter, founder, bob, member, relay)
}

fn as_relay<'a>(charter: &'a Charter, relay: &'a Party) -> Listener<'a> {
    Listener { charter, key: &relay.key, member: None, presence: &relay.presence }
}

fn greet_relay(charter: &Charter, member: MemberId, device: &Party) -> Greeting {
    let chain = charter.chain_of(member);
    Greeting::member_to_relay(charter, device.key.id(), &chain, &device.presence, EXPORTER)
}

/// [PROTO-3.9] [PROTO-3.24]
#[test]
fn a_relay_that_knows_the_id_alone_begins_with_what_a_member_brings() {
    let (charter, _, bob, member, relay) = with_relay();
    let greeting = greet_relay(&charter, member, &bob);
    let organisation = charter.organisation();
    let first = |bytes: &[u8]| open_first_greeting(organisation, &EXPORTER, bob.key.id(), bytes);
    let (begun, opened) = first(greeting.bytes()).unwrap();
    assert!(begun.roots().eq(charter.roots()));
    let (answer, peer) = opened.accept(&as_relay(&begun, &relay));
    assert_eq!((peer.member, peer.device), (Some(member), bob.key.id()));
    assert_eq!(peer.digest, charter.digest());

    let welcome = greeting.read_answer(relay.key.id(), &answer).unwrap();
    assert_eq!((welcome.peer.member, welcome.peer.device), (None, relay.key.id()));
    assert_eq!((welcome.peer.incarnation, &*welcome.peer.name), (9, "Hub"));
    assert_ne!(welcome.peer.digest, charter.digest(), "it has much to learn");

    // A member's greeting to a member brings no root documents, so a charter cannot begin with it.
    let chain = charter.chain_of(member);
    let plain = Greeting::member(&charter, bob.key.id(), &chain, &bob.presence, EXPORTER);
    assert_eq!(first(plain.bytes()).err(), Some(Refusal::Certificate));
    // Nor can it with the greeting of another organisation, even from a dialler that knows the id.
    let elsewhere = Charter::found("Squad", "Voice", &bob.key, None, &SeededRandom::new(6));
    let own = elsewhere.chain_of(elsewhere.member_of(bob.key.id()));
    let introduction = Introduction::new(&elsewhere, bob.key.id(), &own, &bob.presence);
    let roots = List::truncated(elsewhere.roots().cloned());
    let forged =
        super::super::greeting(organisation, &EXPORTER, &GreetingBody::Member(introduction, roots));
    assert_eq!(first(&forged).err(), Some(Refusal::Certificate));
}

/// [PROTO-3.9]
#[test]
fn only_a_device_that_the_charter_names_is_a_relay() {
    let (charter, founder, bob, member, relay) = with_relay();
    let greeting = || greet_relay(&charter, member, &bob);
    let opened = open_greeting(
        NOW,
        &as_relay(&charter, &relay),
        &EXPORTER,
        bob.key.id(),
        greeting().bytes(),
    );
    let (answer, _) = opened.unwrap().accept(&as_relay(&charter, &relay));
    let from = |device| greeting().read_answer(device, &answer).map(|it| it.peer.member);
    assert_eq!(from(relay.key.id()), Ok(None));
    assert_eq!(from(founder.key.id()), Err(HelloError::NotRelay));

    // As a dialler it is judged in the same way.
    let dials = Greeting::relay(&charter, relay.key.id(), &relay.presence, EXPORTER);
    let opened = open(&charter, &founder, &relay, dials.bytes()).unwrap();
    let HelloRequest::Member(peer) = opened.request() else { panic!("it redeems nothing") };
    assert_eq!((peer.member, peer.device), (None, relay.key.id()));
    let refused = open(&charter, &founder, &bob, dials.bytes());
    assert_eq!(refused.err(), Some(Refusal::Stranger));
}

/// [PROTO-3.10] A relay is not a door. It leads newcomers to doors if their ticket is good.
#[test]
fn a_relay_redeems_no_ticket() {
    let (charter, founder, _, _, relay) = with_relay();
    let cid = Party::new(4, "Cid");
    let ticket = ticket(&charter, &founder, 0, &[&founder]);
    let knock = redeem(&ticket, &cid);
    let listener = as_relay(&charter, &relay);
    let opened = open_greeting(NOW, &listener, &EXPORTER, cid.key.id(), knock.bytes());
    assert_eq!(opened.err(), Some(Refusal::Leads));
    let invite = invite_of(charter.organisation(), &EXPORTER, knock.bytes());
    assert_eq!(invite.as_ref(), Some(ticket.invite()));
    let answer = refuse_by(&charter, Refusal::Leads, &cid, knock.bytes());
    let answer = knock.read_answer(relay.key.id(), &answer);
    assert_eq!(answer, Err(HelloError::Refused(Refusal::Leads)));
    let refused = |ticket: &Ticket, now| {
        let knock = redeem(ticket, &cid);
        open_greeting(now, &listener, &EXPORTER, cid.key.id(), knock.bytes()).err()
    };
    // The issuer is no member.
    let forged = super::ticket(&charter, &cid, 0, &[&founder]);
    assert_eq!(refused(&forged, NOW), Some(Refusal::TicketInvalid));
    let expired = NOW + Duration::from_secs(60);
    assert_eq!(refused(&ticket, expired), Some(Refusal::TicketExpired));
    let knock = redeem(&ticket, &cid);
    let first = open_first_greeting(charter.organisation(), &EXPORTER, cid.key.id(), knock.bytes());
    assert_eq!(first.err(), Some(Refusal::Later));
}
