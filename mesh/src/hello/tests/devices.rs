//! Members that have several devices.

use hark_charter::{Operation, content::Channel, device_consent};

use super::*;

fn rename(number: u8) -> Vec<Change> {
    let id = ChannelId::from_bytes([number; 16]);
    vec![Change::Channel(Channel::open(id, "Tower"))]
}

fn addition(charter: &Charter, member: MemberId, device: &Party) -> Vec<Change> {
    let consent = device_consent(charter.organisation(), member, &device.key);
    vec![Change::AddDevice { device: device.key.id(), consent }]
}

/// The greeting of a device of Bob's that knows the charter `known`.
fn greet(known: &Charter, member: MemberId, device: &Party) -> Greeting {
    let chain = known.chain_of(member);
    Greeting::member(known, device.key.id(), &chain, &device.presence, EXPORTER)
}

/// Bob adds a second device while the founder is away, after many changes that the founder has not
/// heard of. Returns the founder's charter, the second device's charter, and the parties.
fn added_while_away() -> (Charter, Charter, Party, Party, Party, MemberId) {
    let (behind, founder, bob, member) = with_bob();
    let second = Party::new(7, "Bob on the road");
    let mut known = behind.clone();
    for number in 1..9 {
        let own = known.member_of(founder.key.id());
        change(&mut known, &founder.key, own, rename(number));
    }
    let add = addition(&known, member, &second);
    change(&mut known, &bob.key, member, add);
    (behind, known, founder, bob, second, member)
}

/// [CHARTER-3.6] [PROTO-3.4]
#[test]
fn a_second_device_brings_what_added_it() {
    let (behind, known, founder, _, second, member) = added_while_away();
    let greeting = greet(&known, member, &second);
    let opened = open(&behind, &founder, &second, greeting.bytes()).unwrap();
    let HelloRequest::Member(peer) = opened.request() else { panic!("it is a member") };
    assert_eq!((peer.member, peer.device), (Some(member), second.key.id()));
    assert_eq!(peer.added, known.introduction_of(member, second.key.id()));

    // Until the rest comes, the device is known by this alone. Afterwards it makes no difference.
    let mut knows = behind.clone();
    assert!(knows.introduce(&peer.added));
    assert!(!knows.introduce(&peer.added), "no news");
    assert_eq!(knows.owner(second.key.id()), Some(member));
    let mut restored = Charter::restore(&knows.snapshot()).unwrap();
    assert_eq!(restored.owner(second.key.id()), Some(member));
    assert_eq!(restored.digest(), behind.digest());
    for result in restored.take_all(known.pieces_in_order()) {
        result.unwrap();
    }
    assert_eq!((restored.digest(), restored.state()), (known.digest(), known.state()));
    assert_eq!(restored.snapshot(), known.snapshot());

    // A third device that the second one has added.
    let third = Party::new(8, "Bob at work");
    let mut further = known.clone();
    let add = addition(&further, member, &third);
    change(&mut further, &second.key, member, add);
    let greeting = greet(&further, member, &third);
    let opened = open(&behind, &founder, &third, greeting.bytes()).unwrap();
    let HelloRequest::Member(peer) = opened.request() else { panic!("it is a member") };
    assert_eq!((peer.member, peer.added.len()), (Some(member), 2));
}

/// [CHARTER-3.6] Nobody can make a device another member's alone, or after that was ended.
#[test]
fn nobody_is_introduced_as_somebody_else() {
    let (mut behind, known, founder, bob, second, member) = added_while_away();
    let eve = Party::new(3, "Eve");
    let own = behind.member_of(founder.key.id());
    let certificate = behind.issue(&founder.key, own, eve.key.id(), None).unwrap();
    behind.take(Piece::Certificate(certificate)).unwrap();
    let of_eve = behind.member_of(eve.key.id());
    let refused = |greeting: &Greeting, from: &Party| {
        open(&behind, &founder, from, greeting.bytes()).err().unwrap()
    };
    // Bob's chain, and an operation of Eve's that adds her other device.
    let other = Party::new(9, "Eve again");
    let mut of_her = behind.clone();
    let add = addition(&of_her, of_eve, &other);
    change(&mut of_her, &eve.key, of_eve, add);
    let added = of_her.introduction_of(of_eve, other.key.id());
    let chain = behind.chain_of(member);
    let claims = |added: Vec<_>, device: DeviceId| behind.verify_introduced(&chain, device, &added);
    assert_eq!(claims(added, other.key.id()), Err(ChainError::Device));
    // Bob's operation, signed by Eve in his name, or for a device that has not agreed.
    let genuine = known.introduction_of(member, second.key.id()).remove(0);
    let claim = |operation| claims(vec![operation], second.key.id());
    assert_eq!(claim(genuine.clone()), Ok(member));
    let by_eve = Cosigned::unsigned(genuine.unverified().clone()).signed(&eve.key);
    assert_eq!(claim(by_eve), Err(ChainError::Device));
    let mut in_her_name = genuine.unverified().clone();
    in_her_name.author = eve.key.id();
    let in_her_name = Cosigned::unsigned(in_her_name).signed(&eve.key);
    assert_eq!(claim(in_her_name), Err(ChainError::Device));
    let mut unwilling = genuine.unverified().clone();
    let consent = device_consent(behind.organisation(), member, &eve.key);
    unwilling.changes = List::truncated([Change::AddDevice { device: second.key.id(), consent }]);
    let unwilling = Cosigned::unsigned(unwilling).signed(&bob.key);
    assert_eq!(claim(unwilling), Err(ChainError::Device));
    // Eve's device, with the operations that added Bob's.
    let chain = known.chain_of(member);
    let greeting = Greeting::member(&known, eve.key.id(), &chain, &eve.presence, EXPORTER);
    assert_eq!(refused(&greeting, &eve), Refusal::Certificate);

    // The end of the device is known here, so its beginning does not bring it back.
    let mut ended = known.clone();
    let retire = Change::RetireDevice { device: second.key.id(), term: 0, last: 0 };
    change(&mut ended, &bob.key, member, vec![retire]);
    let greeting = greet(&known, member, &second);
    let refusal = open(&ended, &founder, &second, greeting.bytes()).err();
    assert_eq!(refusal, Some(Refusal::Removed));
    assert!(!ended.introduce(&known.introduction_of(member, second.key.id())));
}

/// [CHARTER-3.6] A newcomer knows no operations at all.
#[test]
fn a_newcomer_comes_in_through_a_second_device() {
    let (_, known, founder, _, second, member) = added_while_away();
    let cid = Party::new(4, "Cid");
    let greeting = redeem(&ticket(&known, &founder, 0, &[&founder]), &cid);
    let listener = Listener {
        charter: &known,
        key: &second.key,
        member: Some(member),
        presence: &second.presence,
    };
    let opened = open_greeting(NOW, &listener, &EXPORTER, cid.key.id(), greeting.bytes()).unwrap();
    let (answer, peer) = opened.accept(&listener);
    let welcome = greeting.read_answer(second.key.id(), &answer).unwrap();
    assert_eq!(welcome.peer.member, Some(member));
    assert_eq!(welcome.charter.owner(second.key.id()), Some(member));
    // By a certificate of a device that it knows only in this way.
    assert_eq!(welcome.charter.owner(cid.key.id()), peer.member);
}

fn device_ticket(charter: &Charter, issuer: &Party, member: MemberId) -> Ticket {
    let terms = Terms::until(NOW + Duration::from_secs(60));
    let (organisation, random) = (charter.organisation(), SeededRandom::new(78));
    let addresses = issuer.presence.addresses.clone();
    Ticket::for_device(&issuer.key, organisation, "Squad", terms, member, addresses, &random)
}

fn redeem_as_device(ticket: &Ticket, member: MemberId, device: &Party) -> Greeting {
    let presence = &device.presence;
    Greeting::redeem_as_device(NOW, ticket, &device.key, member, presence, EXPORTER).unwrap()
}

/// [PROTO-4.7]
#[test]
fn by_a_ticket_for_it_a_device_becomes_one_more_of_a_members() {
    let (mut charter, founder) = squad();
    let member = charter.member_of(founder.key.id());
    let phone = Party::new(7, "Ann on the road");
    let ticket = device_ticket(&charter, &founder, member);
    let greeting = redeem_as_device(&ticket, member, &phone);
    let opened = open(&charter, &founder, &phone, greeting.bytes()).unwrap();
    let HelloRequest::Redeem { share, addition, peer, .. } = opened.request() else {
        panic!("it asks")
    };
    assert_eq!((*share, peer.member), (Some(1), Some(member)));
    let consent = addition.expect("it is not there yet");
    let add = Change::AddDevice { device: phone.key.id(), consent };
    change(&mut charter, &founder.key, member, vec![add]);

    let opened = open(&charter, &founder, &phone, greeting.bytes()).unwrap();
    assert!(matches!(opened.request(), HelloRequest::Redeem { addition: None, .. }));
    let (answer, _) = opened.accept(&founder.listener(&charter));
    let welcome = greeting.read_answer(founder.key.id(), &answer).unwrap();
    assert_eq!(welcome.chain.leaf().unwrap().unverified().member(), member);
    assert_eq!(welcome.charter.owner(phone.key.id()), Some(member));
    // What a machine that stops now has to continue with.
    let restored = Charter::restore(&welcome.charter.snapshot()).unwrap();
    assert!(restored.devices_of(member).contains(&phone.key.id()));
}

/// [PROTO-4.7]
#[test]
fn nobody_becomes_another_members_device() {
    let (mut charter, founder, bob, of_bob) = with_bob();
    let own = charter.member_of(founder.key.id());
    let eve = Party::new(3, "Eve");
    let refused = |charter: &Charter, listener: &Party, greeting: &Greeting| {
        open(charter, listener, &eve, greeting.bytes()).err()
    };
    // Bob's ticket, for the founder's membership.
    let ticket = device_ticket(&charter, &bob, own);
    let greeting = redeem_as_device(&ticket, own, &eve);
    assert_eq!(refused(&charter, &founder, &greeting), Some(Refusal::TicketInvalid));
    assert_eq!(refused(&charter, &bob, &greeting), Some(Refusal::TicketInvalid));
    // Bob's ticket, shown to the founder.
    let ticket = device_ticket(&charter, &bob, of_bob);
    let greeting = redeem_as_device(&ticket, of_bob, &eve);
    assert_eq!(refused(&charter, &founder, &greeting), Some(Refusal::NotADoor));
    // Without the device's consent, or with its consent to something else.
    assert_eq!(refused(&charter, &bob, &redeem(&ticket, &eve)), Some(Refusal::TicketInvalid));
    let other = redeem_as_device(&ticket, own, &eve);
    assert_eq!(refused(&charter, &bob, &other), Some(Refusal::TicketInvalid));
    // A device that was retired stays retired.
    let add = addition(&charter, of_bob, &eve);
    change(&mut charter, &bob.key, of_bob, add);
    let retire = Change::RetireDevice { device: eve.key.id(), term: 0, last: 0 };
    change(&mut charter, &bob.key, of_bob, vec![retire]);
    let greeting = redeem_as_device(&ticket, of_bob, &eve);
    assert_eq!(refused(&charter, &bob, &greeting), Some(Refusal::TicketInvalid));
}

/// [CHARTER-3.6] An operation that can never be taken still introduces a device, and does not
/// damage what is on disk.
#[test]
fn an_introduction_that_could_not_be_taken_does_not_spoil_what_is_kept() {
    let (behind, known, _, bob, second, member) = added_while_away();
    let add = addition(&behind, member, &second);
    let mut draft = behind.draft(bob.key.id(), member, Vec::new(), add).unwrap();
    draft.lamport = 99;
    let impossible = Cosigned::unsigned(draft).signed(&bob.key);
    let mut knows = behind.clone();
    assert!(knows.take(Piece::Operation(impossible.clone())).is_err());
    assert!(knows.introduce(&[impossible]));
    let restored = Charter::restore(&knows.snapshot()).unwrap();
    assert_eq!(restored.owner(second.key.id()), Some(member));
    assert_eq!(restored.digest(), behind.digest());
    let mut restored = restored;
    for result in restored.take_all(known.pieces_in_order()) {
        result.unwrap();
    }
    assert_eq!(
        restored.state().rank(member, Place::Organisation),
        known.state().rank(member, Place::Organisation)
    );
    assert_eq!(restored.digest(), known.digest());
}

/// [CHARTER-3.22] An introduction that adds no device takes up no room.
#[test]
fn an_introduction_by_a_key_of_nobody_is_not_kept() {
    let (behind, _, _, _, second, member) = added_while_away();
    let stranger = Party::new(77, "Cuckoo");
    let bob = behind.chain_of(member).leaf().unwrap().clone();
    let add = addition(&behind, member, &second);
    let founder_draft = behind.draft(bob.unverified().device, member, Vec::new(), add).unwrap();
    let draft = Operation { author: stranger.key.id(), ..founder_draft };
    let forged = Cosigned::unsigned(draft).signed(&stranger.key);
    let mut knows = behind.clone();
    assert!(!knows.introduce(&[forged]));
    assert_eq!(knows.owner(second.key.id()), None);
    assert_eq!(knows.snapshot(), behind.snapshot());
}
