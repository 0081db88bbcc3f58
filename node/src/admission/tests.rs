use std::time::Duration;

use hark_charter::content::{Change, Relay};
use hark_commands::relays_of;
use hark_keys::{Door, List, SeededRandom, Terms};

use super::*;

/// Regression: a newcomer dials the doors and the relays of its ticket at once. If a door let it in
/// before its Hello with a relay, the relay took it for a member, which it was by then. The link
/// ended after 2 ms, since the newcomer did not know the charter yet that names the relay.
/// [PROTO-3.27]
#[test]
fn a_relay_of_the_ticket_saw_a_newcomer_come_and_go() {
    let random = SeededRandom::new(1);
    let [founder, relay, newcomer] = [(); 3].map(|()| DeviceKey::generate(&random));
    let [founder_id, relay_id, newcomer_id] = [&founder, &relay, &newcomer].map(DeviceKey::id);
    let mut charter = Charter::found("Falconry", "Field", &founder, None, &random);
    let (organisation, member) = (charter.organisation(), charter.member_of(founder_id));
    let named = Change::Relay(Relay {
        device: relay_id,
        name: "Hub".to_owned(),
        addresses: List::truncated(["192.0.2.1:7300".parse().expect("an address")]),
        members_max: 0,
        rate_kbps: 0,
    });
    let named = charter.edit(&founder, member, vec![named]).expect("it may");
    charter.take(Piece::Operation(named.clone())).expect("it is sound");
    let terms = Terms::until(Clock.unix() + Duration::from_secs(60));
    let door = Door { device: founder_id, addresses: Vec::new() };
    let ticket = Ticket::issue(&founder, organisation, "Falconry", terms, vec![door], &random);
    let ticket = ticket.led_by(relays_of(&charter));
    let charter = Arc::new(charter);
    let presence = || Presence {
        incarnation: 1,
        name: "Wren".to_owned(),
        addresses: Vec::new(),
        listening: Vec::new(),
    };
    let counter = || Box::new(NoTickets);
    let known = Arc::clone(&charter);
    let door = Doorkeeper::member(founder, known, member, presence(), Clock, counter());
    let relay = Doorkeeper::relay(relay, organisation, Some(charter), presence(), Clock);
    let newcomer = Doorkeeper::newcomer(newcomer, None, ticket, presence(), Clock, counter());

    let greets = |listener: &Doorkeeper, device, exporter: [u8; 32]| {
        let greeting = newcomer.greeting(device, &exporter);
        let (answer, taken) = listener.answer(newcomer_id, &exporter, &greeting);
        (taken.is_ok(), newcomer.conclude(device, &exporter, &answer).is_ok())
    };
    assert_eq!(greets(&relay, relay_id, [1; 32]), (false, false), "it leads to doors");
    assert_eq!(greets(&door, founder_id, [2; 32]), (true, true));
    assert_eq!(greets(&relay, relay_id, [3; 32]), (false, false), "not yet");
    let mut known = newcomer.take_admitted().expect("it is in").charter;
    known.take(Piece::Operation(named)).expect("it is sound");
    newcomer.set_charter(&Arc::new(known));
    assert_eq!(greets(&relay, relay_id, [4; 32]), (true, true));
}

fn presence() -> Presence {
    let (name, addresses) =
        ("Wren".to_owned(), vec!["192.0.2.9:7000".parse().expect("an address")]);
    let listening = vec![ChannelId::from_bytes([3; 16])];
    Presence { incarnation: 1, name, addresses, listening }
}

/// An organisation: a founder, whose ticket names its device alone, and one more member.
struct Squad {
    charter: Arc<Charter>,
    founder: DeviceKey,
    other: DeviceKey,
    ticket: Ticket,
}

impl Squad {
    fn new() -> Self {
        let random = SeededRandom::new(1);
        let [founder, other] = [(); 2].map(|()| DeviceKey::generate(&random));
        let mut charter = Charter::found("Falconry", "Field", &founder, None, &random);
        let member = charter.member_of(founder.id());
        let certificate = charter.issue(&founder, member, other.id(), None).expect("it may");
        charter.take(Piece::Certificate(certificate)).expect("it is sound");
        let terms = Terms::until(Clock.unix() + Duration::from_secs(60));
        let door = Door { device: founder.id(), addresses: Vec::new() };
        let organisation = charter.organisation();
        let ticket = Ticket::issue(&founder, organisation, "Falconry", terms, vec![door], &random);
        Self { charter: Arc::new(charter), founder, other, ticket }
    }

    fn door(&self, key: &DeviceKey) -> Doorkeeper {
        let (key, charter) = (DeviceKey::from_secret(&key.secret()), Arc::clone(&self.charter));
        let member = charter.member_of(key.id());
        Doorkeeper::member(key, charter, member, presence(), Clock, Box::new(NoTickets))
    }

    fn newcomer(&self, key: &DeviceKey) -> Doorkeeper {
        let key = DeviceKey::from_secret(&key.secret());
        let ticket = self.ticket.clone();
        Doorkeeper::newcomer(key, None, ticket, presence(), Clock, Box::new(NoTickets))
    }
}

/// Regression: an unsealed byte from any device on the LAN ended a newcomer's program.
#[test]
fn a_stranger_on_the_lan_ended_any_join() {
    let squad = Squad::new();
    let newcomer_key = DeviceKey::generate(&SeededRandom::new(2));
    let newcomer = squad.newcomer(&newcomer_key);
    let (named, exporter) = (squad.founder.id(), [1; 32]);
    for code in 1..=12 {
        newcomer.greeting(named, &exporter);
        let answer = [b"HARK", &[0, code][..]].concat();
        assert!(newcomer.conclude(named, &exporter, &answer).is_err());
        assert_eq!(newcomer.last_refusal(), None, "{code}");
    }
    // The person is informed of it when joining has failed.
    assert_eq!(newcomer.last_hint(), Some(Refusal::Stranger));
    // An answer counts if it comes from a device that knows the organisation.
    let greeting = newcomer.greeting(named, &exporter);
    let door = squad.door(&squad.founder);
    let used_up = Refusal::TicketUsedUp;
    let answer = door.refuse(used_up, newcomer_key.id(), &exporter, &greeting);
    assert!(newcomer.conclude(named, &exporter, &answer).is_err());
    assert_eq!(newcomer.last_refusal(), Some(used_up));
}

/// Regression: a removed member let newcomers into the charter as it was before, which is valid
/// except that it lacks the removal. The newcomers wrote it to disk, were refused by all others,
/// and talked to that member alone. [PROTO-3.12]
#[test]
fn a_former_member_on_the_lan_captured_newcomers() {
    let squad = Squad::new();
    let key = DeviceKey::generate(&SeededRandom::new(2));
    let newcomer = squad.newcomer(&key);
    let greets = |door: &DeviceKey, exporter: [u8; 32]| {
        let greeting = newcomer.greeting(door.id(), &exporter);
        let (answer, taken) = squad.door(door).answer(key.id(), &exporter, &greeting);
        (taken.is_ok(), newcomer.conclude(door.id(), &exporter, &answer).is_ok())
    };
    assert_eq!(greets(&squad.other, [1; 32]), (false, false), "the ticket does not name it");
    assert!(newcomer.has_met_unnamed() && newcomer.take_admitted().is_none());
    assert_eq!(greets(&squad.founder, [2; 32]), (true, true));
}

/// Regression: a relay that leads to the doors, and whose host had been a member, acted as a door
/// itself.
#[test]
fn a_relay_of_the_ticket_is_no_door() {
    let mut squad = Squad::new();
    let relay = Door { device: squad.other.id(), addresses: Vec::new() };
    squad.ticket = squad.ticket.led_by([relay]);
    let key = DeviceKey::generate(&SeededRandom::new(2));
    let newcomer = squad.newcomer(&key);
    let greeting = newcomer.greeting(squad.other.id(), &[1; 32]);
    let (answer, taken) = squad.door(&squad.other).answer(key.id(), &[1; 32], &greeting);
    assert!(taken.is_ok());
    assert!(newcomer.conclude(squad.other.id(), &[1; 32], &answer).is_err());
    assert!(newcomer.take_admitted().is_none());
}

/// Regression: when a former member on the LAN with a new device was dialled, it learnt the
/// dialler's addresses and channels before it had shown anything. [PROTO-3.11]
#[test]
fn a_device_that_nothing_shows_to_be_a_members_is_told_no_address_and_no_channel() {
    let squad = Squad::new();
    let (member, exporter) = (squad.door(&squad.other), [1; 32]);
    let told = |by: &Doorkeeper, from: DeviceId, to: DeviceId| {
        let greeting = by.greeting(to, &exporter);
        // Any device that knows the organisation can open the greeting.
        let (_, hello) = squad.door(&squad.founder).answer(from, &exporter, &greeting);
        let hello = hello.expect("it is in order");
        assert_eq!((hello.name.as_str(), hello.incarnation), ("Wren", 1));
        (hello.addresses.len(), hello.listening.len())
    };
    let stranger = DeviceKey::generate(&SeededRandom::new(3)).id();
    let (founder, other) = (squad.founder.id(), squad.other.id());
    assert_eq!(told(&member, other, stranger), (0, 0));
    assert_eq!(told(&member, other, founder), (1, 1));
    // A newcomer is dialled because of its record, before the charter contains it.
    member.expect(stranger);
    assert_eq!(told(&member, other, stranger), (1, 1));
    let key = DeviceKey::generate(&SeededRandom::new(2));
    let newcomer = squad.newcomer(&key);
    assert!(newcomer.greeting(stranger, &exporter).is_empty());
    // A door lets a newcomer hear the first channel.
    assert_eq!(told(&newcomer, key.id(), founder), (1, 1));
}

/// Regression: if too many Hellos were under way, the device with the lowest id lost its own,
/// however new it was.
#[test]
fn the_oldest_hello_makes_room_and_not_that_of_the_lowest_device() {
    let squad = Squad::new();
    let member = squad.door(&squad.other);
    let random = SeededRandom::new(4);
    let mut devices: Vec<_> = (0..SENT_LIMIT).map(|_| DeviceKey::generate(&random).id()).collect();
    devices.sort_unstable();
    // The device with the lowest id comes last but one.
    devices.rotate_left(1);
    devices.push(DeviceKey::generate(&random).id());
    for device in &devices {
        assert!(!member.greeting(*device, &[1; 32]).is_empty());
    }
    let answer = [b"HARK", &[0, 1][..]].concat();
    let read = |device: &DeviceId| member.conclude(*device, &[1; 32], &answer).err();
    assert_eq!(read(&devices[0]), Some(HelloError::Malformed), "the oldest is forgotten");
    for device in &devices[1..] {
        assert_eq!(read(device), Some(HelloError::Unsealed(Refusal::Version)));
    }
}
