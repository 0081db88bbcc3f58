mod devices;
mod former;
mod relays;

use std::time::Duration;

use hark_charter::{
    ChainError, EditError, RootDocument, RootKeys,
    content::{Change, Grant, MEMBER_ROLE, Rank, Role},
};
use hark_keys::{Door, Invite, Redemption, RoleId, SeededRandom, Terms};
use proptest::prelude::*;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_000_000);
const EXPORTER: [u8; 32] = [7; 32];

struct Party {
    key: DeviceKey,
    presence: Presence,
}

impl Party {
    fn new(seed: u64, name: &str) -> Self {
        let key = DeviceKey::generate(&SeededRandom::new(seed));
        let presence = Presence {
            incarnation: seed,
            name: name.to_owned(),
            addresses: vec!["192.0.2.1:7000".parse().unwrap()],
            listening: vec![ChannelId::from_bytes([3; 16])],
        };
        Self { key, presence }
    }

    fn listener<'a>(&'a self, charter: &'a Charter) -> Listener<'a> {
        let member = charter.member_of(self.key.id());
        Listener { charter, key: &self.key, member: Some(member), presence: &self.presence }
    }
}

fn squad() -> (Charter, Party) {
    let founder = Party::new(1, "Ann");
    let charter = Charter::found("Squad", "Voice", &founder.key, None, &SeededRandom::new(5));
    (charter, founder)
}

fn ticket(charter: &Charter, issuer: &Party, uses: u8, doors: &[&Party]) -> Ticket {
    ticket_for(charter, issuer, uses, doors, None)
}

fn ticket_for(
    charter: &Charter,
    issuer: &Party,
    uses: u8,
    doors: &[&Party],
    role: Option<RoleId>,
) -> Ticket {
    let doors = doors
        .iter()
        .map(|door| Door { device: door.key.id(), addresses: door.presence.addresses.clone() })
        .collect();
    let expires = NOW + Duration::from_secs(60);
    let random = SeededRandom::new(77);
    let (organisation, terms) =
        (charter.organisation(), Terms { uses, role, ..Terms::until(expires) });
    Ticket::issue(&issuer.key, organisation, charter.name(), terms, doors, &random)
}

fn redeem(ticket: &Ticket, party: &Party) -> Greeting {
    Greeting::redeem(NOW, ticket, party.key.id(), None, &party.presence, EXPORTER).unwrap()
}

fn open(
    charter: &Charter,
    listener: &Party,
    remote: &Party,
    bytes: &[u8],
) -> Result<Opened, Refusal> {
    open_greeting(NOW, &listener.listener(charter), &EXPORTER, remote.key.id(), bytes)
}

#[test]
fn a_newcomer_is_admitted_and_then_meets_others_as_a_member() {
    let (charter, founder) = squad();
    let bob = Party::new(2, "Bob\u{7}");
    let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
    let opened = open(&charter, &founder, &bob, greeting.bytes()).unwrap();
    assert!(matches!(opened.request(), HelloRequest::Redeem { share: None, .. }));
    let (answer, peer) = opened.accept(&founder.listener(&charter));
    assert_eq!((peer.device, peer.name.as_str()), (bob.key.id(), "Bob\u{fffd}"));
    let welcome = greeting.read_answer(founder.key.id(), &answer).unwrap();
    assert_eq!(welcome.charter.organisation(), charter.organisation());
    assert_eq!(welcome.peer.name, "Ann");
    assert_eq!(welcome.peer.addresses, founder.presence.addresses);
    let of_bob = welcome.charter;
    assert!(of_bob.is_member(of_bob.member_of(bob.key.id())));

    // Bob admits Cid, and Cid meets the founder as a member.
    let cid = Party::new(3, "Cid");
    let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &cid);
    let (answer, _) =
        open(&of_bob, &bob, &cid, greeting.bytes()).unwrap().accept(&bob.listener(&of_bob));
    let welcome = greeting.read_answer(bob.key.id(), &answer).unwrap();
    assert_eq!(welcome.chain.len(), 2);
    let greeting =
        Greeting::member(&welcome.charter, cid.key.id(), &welcome.chain, &cid.presence, EXPORTER);
    let opened = open(&charter, &founder, &cid, greeting.bytes()).unwrap();
    let HelloRequest::Member(peer) = opened.request() else { panic!("Cid is a member") };
    assert_eq!((peer.incarnation, peer.member), (3, Some(charter.member_of(cid.key.id()))));
    assert_eq!(peer.listening, cid.presence.listening);
    assert_eq!(peer.digest, welcome.charter.digest());
    assert_ne!(peer.digest, charter.digest(), "the founder does not know Cid yet");
    let (answer, _) = opened.accept(&founder.listener(&charter));
    assert!(greeting.read_answer(founder.key.id(), &answer).is_ok());
}

/// [PROTO-3.6] [PROTO-4.5]
#[test]
fn each_refusal_has_its_reason() {
    let (charter, founder) = squad();
    let bob = Party::new(2, "Bob");
    let refused =
        |listener: &Party, bytes: &[u8]| open(&charter, listener, &bob, bytes).err().unwrap();
    let good = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
    let mut other_version = good.bytes().to_vec();
    other_version[4..6].copy_from_slice(&[2, 9]);
    assert_eq!(refused(&founder, &other_version), Refusal::Version);

    let elsewhere = Charter::found("Squad", "Voice", &founder.key, None, &SeededRandom::new(6));
    let stranger = redeem(&ticket(&elsewhere, &founder, 0, &[&founder]), &bob);
    assert_eq!(refused(&founder, stranger.bytes()), Refusal::Stranger);

    let chain = charter.chain_of(charter.member_of(founder.key.id()));
    let liar = Greeting::member(&charter, bob.key.id(), &chain, &bob.presence, EXPORTER);
    assert_eq!(refused(&founder, liar.bytes()), Refusal::Certificate);

    let late = open_greeting(
        NOW + Duration::from_secs(60),
        &founder.listener(&charter),
        &EXPORTER,
        bob.key.id(),
        good.bytes(),
    );
    assert_eq!(late.err(), Some(Refusal::TicketExpired));

    let mut charter = charter.clone();
    let door = Party::new(4, "Dora");
    let issuer = charter.member_of(founder.key.id());
    let certificate = charter.issue(&founder.key, issuer, door.key.id(), None).unwrap();
    charter.take(Piece::Certificate(certificate)).unwrap();
    let refused =
        |listener: &Party, bytes: &[u8]| open(&charter, listener, &bob, bytes).err().unwrap();
    let limited = redeem(&ticket(&charter, &founder, 3, &[&founder]), &bob);
    assert_eq!(refused(&door, limited.bytes()), Refusal::NotADoor);
    let opened = open(&charter, &founder, &bob, limited.bytes()).unwrap();
    assert!(matches!(opened.request(), HelloRequest::Redeem { share: Some(3), .. }));

    // The issuer is no member.
    let forged = redeem(&ticket(&charter, &bob, 0, &[&bob]), &bob);
    assert_eq!(refused(&founder, forged.bytes()), Refusal::TicketInvalid);

    for code in 1..=16 {
        let refusal = Refusal::from_code(code).unwrap();
        assert_eq!(refusal.code(), code);
        let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
        let answer = refuse_by(&charter, refusal, &bob, greeting.bytes());
        let error = greeting.read_answer(founder.key.id(), &answer).unwrap_err();
        assert_eq!(error, HelloError::Refused(refusal));
        assert_eq!(error.to_string(), refusal.to_string());
    }
    assert_eq!([Refusal::from_code(0), Refusal::from_code(17)], [None, None]);
}

/// The answer of a listener with this charter that refuses.
fn refuse_by(charter: &Charter, refusal: Refusal, remote: &Party, bytes: &[u8]) -> Vec<u8> {
    let organisation = charter.organisation();
    refuse(refusal, organisation, Some(charter), &EXPORTER, remote.key.id(), bytes)
}

/// Regression: anybody on the LAN could tell a newcomer that its ticket was worth nothing.
/// [PROTO-3.6] [PROTO-3.23] [PROTO-3.25]
#[test]
fn who_does_not_know_the_organisation_refuses_no_ticket() {
    let (charter, founder) = squad();
    let bob = Party::new(2, "Bob");
    let ticket = ticket(&charter, &founder, 0, &[&founder]);
    let reads =
        |answer: &[u8]| redeem(&ticket, &bob).read_answer(founder.key.id(), answer).unwrap_err();
    for code in 1..=16 {
        let refusal = Refusal::from_code(code).unwrap();
        let unsealed = match refusal {
            Refusal::Version | Refusal::Stranger => HelloError::Unsealed(refusal),
            _ => HelloError::Malformed,
        };
        assert_eq!(reads(&refusal.answer()), unsealed);
        // Sealed for another link, or altered, it is also worth nothing.
        let elsewhere = Greeting::redeem(NOW, &ticket, bob.key.id(), None, &bob.presence, [8; 32]);
        let elsewhere = elsewhere.unwrap();
        let organisation = charter.organisation();
        let answer = refuse(refusal, organisation, None, &[8; 32], bob.key.id(), elsewhere.bytes());
        assert!(
            elsewhere.read_answer(founder.key.id(), &answer) == Err(HelloError::Refused(refusal))
        );
        assert_eq!(reads(&answer), HelloError::Malformed);
        let mut altered = refuse_by(&charter, refusal, &bob, redeem(&ticket, &bob).bytes());
        altered[5] = code % 12 + 1;
        assert_eq!(reads(&altered), HelloError::Malformed);
    }
    // A dialler that does not know the listener's organisation is told only that.
    let other = Charter::found("Squad", "Voice", &founder.key, None, &SeededRandom::new(6));
    let answer = refuse_by(&other, Refusal::Busy, &bob, redeem(&ticket, &bob).bytes());
    assert_eq!(reads(&answer), HelloError::Unsealed(Refusal::Stranger));
}

/// An organisation that has often changed its root keys still lets newcomers in.
#[test]
fn many_root_documents_leave_room_in_the_answer() {
    let (mut charter, founder) = squad();
    let others = (0..14).map(|seed| DeviceKey::generate(&SeededRandom::new(100 + seed)));
    let others: Vec<_> = others.collect();
    let mut ids: Vec<_> = others.iter().chain([&founder.key]).map(DeviceKey::id).collect();
    ids.sort();
    for version in 2..=16 {
        let newest = charter.roots().last().unwrap();
        let document = RootDocument {
            version,
            previous: newest.hash(),
            keys: RootKeys::try_from(List::truncated(ids.iter().copied())).unwrap(),
            threshold: 15,
            content: List::default(),
            ..newest.unverified().clone()
        };
        let signers = others.iter().chain([&founder.key]);
        let signed = signers.fold(Cosigned::unsigned(document), Cosigned::signed);
        assert_eq!(charter.take(Piece::Root(signed)), Ok(true));
    }
    let all: usize = charter.roots().map(|root| encode(root).len()).sum();
    assert!(all > HELLO_MAX_BYTES, "{all}");
    let bob = Party::new(2, "Bob");
    let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
    let opened = open(&charter, &founder, &bob, greeting.bytes()).unwrap();
    let (answer, _) = opened.accept(&founder.listener(&charter));
    assert!(answer.len() <= HELLO_MAX_BYTES, "{}", answer.len());
    let welcome = greeting.read_answer(founder.key.id(), &answer).unwrap();
    let known = welcome.charter.roots().count();
    assert!((8..16).contains(&known), "as many as there is room for: {known}");
    assert_eq!(roots_within(&charter, 0).len(), 1, "without the founding one it is none");
}

/// Makes `changes` on the device of `author`.
fn change(charter: &mut Charter, author: &DeviceKey, member: MemberId, changes: Vec<Change>) {
    let operation = charter.edit(author, member, changes).unwrap();
    charter.take(Piece::Operation(operation)).unwrap();
}

/// A squad with Bob in it, and Bob's copy of its charter.
fn with_bob() -> (Charter, Party, Party, MemberId) {
    let (mut charter, founder) = squad();
    let bob = Party::new(2, "Bob");
    let own = charter.member_of(founder.key.id());
    let certificate = charter.issue(&founder.key, own, bob.key.id(), None).unwrap();
    charter.take(Piece::Certificate(certificate)).unwrap();
    let member = charter.member_of(bob.key.id());
    (charter, founder, bob, member)
}

/// [PROTO-3.5] [PROTO-3.2]
#[test]
fn nothing_of_a_hello_is_worth_anything_on_another_link() {
    let (charter, founder) = squad();
    let bob = Party::new(2, "Bob");
    let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
    let listener = founder.listener(&charter);
    let elsewhere = open_greeting(NOW, &listener, &[8; 32], bob.key.id(), greeting.bytes());
    assert_eq!(elsewhere.err(), Some(Refusal::Stranger));
    // The same link, as seen by a listener that mistakes another device for the newcomer.
    let eve = Party::new(3, "Eve");
    let other = open_greeting(NOW, &listener, &EXPORTER, eve.key.id(), greeting.bytes());
    assert_eq!(other.err(), Some(Refusal::TicketInvalid));
    let opened = open(&charter, &founder, &bob, greeting.bytes()).unwrap();
    let (mut answer, _) = opened.accept(&listener);
    *answer.last_mut().unwrap() ^= 1;
    assert_eq!(greeting.read_answer(founder.key.id(), &answer).unwrap_err(), HelloError::Malformed);
}

/// The listener knows the ticket's organisation id, but not the organisation.
#[test]
fn a_newcomer_trusts_the_ticket_and_not_the_listener() {
    let (charter, founder) = squad();
    let bob = Party::new(2, "Bob");
    let greet = || redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
    let answer = |root: &Charter, chain: &CertificateChain, newcomer: &CertificateChain| {
        let roots = List::truncated(root.roots().cloned());
        let listener = Introduction::new(&charter, founder.key.id(), chain, &founder.presence);
        let body = AnswerBody {
            listener: Introduced::Member(listener),
            admission: Some(Admission { chain: newcomer.clone(), added: List::default(), roots }),
        };
        let header = [&MAGIC[..], &[VERSION]].concat();
        let key = side_key(charter.organisation(), b"body", LISTENER, &EXPORTER);
        [&header[..], &seal_once(&key, &header, &encode(&body))].concat()
    };
    let elsewhere = Charter::found("Squad", "Voice", &founder.key, None, &SeededRandom::new(6));
    let issuer = charter.member_of(founder.key.id());
    let chain = charter.chain_of(issuer);
    let admitted = charter.issue(&founder.key, issuer, bob.key.id(), None).unwrap();
    let admitted = charter.chain_with(admitted);
    let read = |bytes: &[u8]| greet().read_answer(founder.key.id(), bytes).map(|_| ());
    assert_eq!(read(&answer(&charter, &chain, &admitted)), Ok(()));
    assert_eq!(read(&answer(&elsewhere, &chain, &admitted)), Err(HelloError::WrongOrganisation));
    assert!(matches!(
        read(&answer(&charter, &CertificateChain::default(), &admitted)),
        Err(HelloError::Certificate(_))
    ));
    assert!(matches!(read(&answer(&charter, &chain, &chain)), Err(HelloError::Certificate(_))));
    let expired = Greeting::redeem(
        NOW + Duration::from_secs(60),
        &ticket(&charter, &founder, 0, &[&founder]),
        bob.key.id(),
        None,
        &bob.presence,
        EXPORTER,
    );
    assert_eq!(expired.err(), Some(HelloError::Refused(Refusal::TicketExpired)));
}

/// An invite is signed as a whole: more uses, another date or other doors make it invalid.
#[test]
fn an_invite_cannot_be_stretched() {
    let (charter, founder) = squad();
    let bob = Party::new(2, "Bob");
    let ticket = ticket(&charter, &founder, 1, &[&founder]);
    let redemption = ticket.redemption(bob.key.id(), &EXPORTER);
    let stretched = Invite { uses: 0, ..ticket.invite().clone() };
    let mut invite = encode(&stretched);
    invite.extend_from_slice(&encode(&redemption.invite)[invite.len()..]);
    let body = GreetingBody::Redeem(Box::new(Newcomer {
        redemption: Redemption { invite: decode(&invite, 4096).unwrap(), ..redemption },
        recovery: None,
        consent: None,
        incarnation: 1,
        name: String::new(),
        addresses: List::default(),
    }));
    let bytes = greeting(charter.organisation(), &EXPORTER, &body);
    assert_eq!(open(&charter, &founder, &bob, &bytes).err(), Some(Refusal::TicketInvalid));
}

proptest! {
    /// Includes correctly sealed greetings, whose content may still be anything.
    #[test]
    fn any_bytes_are_refused(body in proptest::collection::vec(any::<u8>(), 0..400), sealed in any::<bool>()) {
        let (charter, founder) = squad();
        let bob = Party::new(2, "Bob");
        let mut bytes = [&MAGIC[..], &[1, 1], &tag_of(charter.organisation(), DIALLER, &EXPORTER)].concat();
        if sealed {
            let key = side_key(charter.organisation(), b"body", DIALLER, &EXPORTER);
            let body = seal_once(&key, &bytes, &body);
            bytes.extend(body);
        } else {
            bytes.extend(&body);
        }
        prop_assert!(open(&charter, &founder, &bob, &bytes).is_err());
        prop_assert!(open(&charter, &founder, &bob, &body).is_err());
        let greeting = redeem(&ticket(&charter, &founder, 0, &[&founder]), &bob);
        prop_assert!(greeting.read_answer(founder.key.id(), &body).is_err());
    }
}

/// An organisation with a founder, a captain (rank 10), a clerk who may only admit, and a deck
/// hand, and with roles to give to newcomers.
struct Ship {
    charter: Charter,
    founder: Party,
    captain: Party,
    clerk: Party,
    hand: Party,
}

const CAPTAIN: RoleId = RoleId::from_bytes([10; 16]);
const CLERK: RoleId = RoleId::from_bytes([20; 16]);
const PILOT: RoleId = RoleId::from_bytes([30; 16]);

impl Ship {
    fn new() -> Self {
        let (mut charter, founder) = squad();
        let [captain, clerk, hand] =
            [(2, "Cap"), (3, "Cleo"), (4, "Hal")].map(|(seed, name)| Party::new(seed, name));
        let own = charter.member_of(founder.key.id());
        for party in [&captain, &clerk, &hand] {
            let certificate = charter.issue(&founder.key, own, party.key.id(), None).unwrap();
            charter.take(Piece::Certificate(certificate)).unwrap();
        }
        let mut ship = Self { charter, founder, captain, clerk, hand };
        let role = |id, name: &str, rank, capabilities| {
            Change::Role(Role { id, name: name.to_owned(), rank: Rank(rank), capabilities })
        };
        let all = Capabilities::ADMIT | Capabilities::MANAGE_ROLES;
        let grant = |role, party: &Party| grant(&ship.charter, role, party);
        let changes = vec![
            // By default every member may admit.
            role(MEMBER_ROLE, "member", 251, Capabilities::JOIN | Capabilities::LISTEN),
            role(CAPTAIN, "Captain", 10, all),
            role(CLERK, "Clerk", 20, Capabilities::ADMIT),
            role(PILOT, "Pilot", 30, Capabilities::SPEAK),
            grant(CAPTAIN, &ship.captain),
            grant(CLERK, &ship.clerk),
        ];
        ship.edit(Self::founder, changes);
        ship
    }

    fn founder(&self) -> &Party {
        &self.founder
    }

    fn edit(&mut self, by: fn(&Self) -> &Party, changes: Vec<Change>) {
        let party = by(self);
        let member = self.charter.member_of(party.key.id());
        let operation = self.charter.edit(&party.key, member, changes).unwrap();
        self.charter.take(Piece::Operation(operation)).unwrap();
    }

    /// The result when a newcomer shows a ticket of `issuer` with `role` to `door`.
    fn redeems(&self, issuer: &Party, door: &Party, role: RoleId) -> Result<RoleId, Refusal> {
        let newcomer = Party::new(9, "Nan");
        let ticket = ticket_for(&self.charter, issuer, 0, &[door], Some(role));
        let greeting = redeem(&ticket, &newcomer);
        let opened = open(&self.charter, door, &newcomer, greeting.bytes())?;
        let HelloRequest::Redeem { role, .. } = opened.request() else { panic!("it redeems") };
        Ok(role.expect("the ticket's"))
    }
}

fn grant(charter: &Charter, role: RoleId, party: &Party) -> Change {
    let members = List::truncated([charter.member_of(party.key.id())]);
    Change::Grant(Grant { role, at: Place::Organisation, members })
}

/// [PROTO-4.8]
#[test]
fn nobody_gets_by_a_ticket_what_its_issuer_or_its_door_may_not_give() {
    let ship = Ship::new();
    let Ship { founder, captain, clerk, hand, .. } = &ship;
    let role = Err(Refusal::TicketRole);
    assert_eq!(ship.redeems(founder, founder, PILOT), Ok(PILOT));
    assert_eq!(ship.redeems(captain, captain, PILOT), Ok(PILOT));
    assert_eq!(ship.redeems(founder, captain, PILOT), Ok(PILOT));
    assert_eq!(ship.redeems(captain, founder, PILOT), Ok(PILOT));
    // A door of higher rank adds nothing to a ticket.
    assert_eq!(ship.redeems(captain, founder, CAPTAIN), role);
    assert_eq!(ship.redeems(clerk, founder, PILOT), role);
    // A ticket adds nothing to a door of lower rank.
    assert_eq!(ship.redeems(founder, captain, CAPTAIN), Err(Refusal::NotADoor));
    assert_eq!(ship.redeems(founder, clerk, PILOT), Err(Refusal::NotADoor));
    // A member who may not admit at all cannot issue, whatever the ticket says.
    assert_eq!(ship.redeems(hand, founder, PILOT), Err(Refusal::TicketInvalid));
    assert_eq!(ship.redeems(founder, founder, RoleId::from_bytes([99; 16])), role);
}

/// [PROTO-4.8] What counts is the time when the ticket is shown, not when it was made.
#[test]
fn a_role_that_is_gone_is_not_given() {
    let mut ship = Ship::new();
    assert_eq!(ship.redeems(&ship.captain, &ship.founder, PILOT), Ok(PILOT));
    let Change::Grant(captaincy) = grant(&ship.charter, CAPTAIN, &ship.captain) else {
        panic!("it is a grant")
    };
    ship.edit(
        Ship::founder,
        vec![Change::Ungrant(captaincy.clone()), grant(&ship.charter, CLERK, &ship.captain)],
    );
    let role = Err(Refusal::TicketRole);
    assert_eq!(ship.redeems(&ship.captain, &ship.founder, PILOT), role);
    ship.edit(Ship::founder, vec![Change::Grant(captaincy)]);
    assert_eq!(ship.redeems(&ship.captain, &ship.founder, PILOT), Ok(PILOT));
    ship.edit(Ship::founder, vec![Change::RemoveRole(PILOT)]);
    assert_eq!(ship.redeems(&ship.founder, &ship.founder, PILOT), role);
}

/// [PROTO-4.8] [PROTO-4.21] Otherwise a role that was taken away would come back by the ticket that
/// it came with.
#[test]
fn a_ticket_gives_no_role_to_whoever_belongs() {
    let ship = Ship::new();
    let ticket = ticket_for(&ship.charter, &ship.founder, 1, &[&ship.founder], Some(PILOT));
    let role_of = |party: &Party| {
        let greeting = redeem(&ticket, party);
        let opened = open(&ship.charter, &ship.founder, party, greeting.bytes()).unwrap();
        let HelloRequest::Redeem { role, .. } = opened.request() else { panic!("it redeems") };
        *role
    };
    assert_eq!(role_of(&Party::new(9, "Nan")), Some(PILOT));
    assert_eq!(role_of(&ship.hand), None);
}

/// [PROTO-4.21] Regression: a member that was removed, and let in again by a new ticket with a
/// role, got no role, and no other ticket could give it one.
#[test]
fn a_new_ticket_gave_no_role_to_whoever_was_removed_before() {
    let mut ship = Ship::new();
    let remove = |ship: &mut Ship, party: fn(&Ship) -> &Party| {
        let member = ship.charter.member_of(party(ship).key.id());
        ship.edit(Ship::founder, vec![Change::Remove { member, admission: 1 }]);
    };
    remove(&mut ship, |ship| &ship.clerk);
    let before = ship.charter.state().removals_ever();
    remove(&mut ship, |ship| &ship.hand);
    let after = ship.charter.state().removals_ever();
    let role_of = |removals, party: &Party| {
        let door = Door { device: ship.founder.key.id(), addresses: Vec::new() };
        let expires = NOW + Duration::from_secs(60);
        let terms = Terms { role: Some(PILOT), removals, ..Terms::until(expires) };
        let (key, charter) = (&ship.founder.key, &ship.charter);
        let (organisation, random) = (charter.organisation(), SeededRandom::new(78));
        let ticket = Ticket::issue(key, organisation, "Ship", terms, vec![door], &random);
        let greeting = redeem(&ticket, party);
        let opened = open(charter, &ship.founder, party, greeting.bytes()).unwrap();
        let HelloRequest::Redeem { role, .. } = opened.request() else { panic!("it redeems") };
        *role
    };
    assert_eq!([before, after].map(|known| role_of(known, &ship.hand)), [None, Some(PILOT)]);
    assert_eq!(role_of(before, &ship.clerk), Some(PILOT));
    assert_eq!(role_of(0, &Party::new(9, "Nan")), Some(PILOT));
}

/// The check beforehand agrees with what the charter decides afterwards.
#[test]
fn who_may_give_a_role_is_not_denied_its_grant() {
    let ship = Ship::new();
    let mut outcomes = Vec::new();
    for party in [&ship.founder, &ship.captain, &ship.clerk, &ship.hand] {
        let member = ship.charter.member_of(party.key.id());
        for role in [CAPTAIN, CLERK, PILOT, RoleId::from_bytes([99; 16])] {
            let change = grant(&ship.charter, role, &ship.hand);
            let denied = match ship.charter.edit(&party.key, member, vec![change]) {
                Ok(_) => None,
                Err(EditError::Denied(0, denial)) => Some(denial),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(ship.charter.may_give(member, role).err().is_some(), denied.is_some());
            outcomes.push(denied.is_none());
        }
    }
    let [yes, no] = [true, false];
    let expected = [yes, yes, yes, no, no, yes, yes, no, no, no, no, no, no, no, no, no];
    assert_eq!(outcomes, expected);
}
