use std::time::Duration;

use hark_keys::{List, SeededRandom, Terms};
use hark_mesh::charter::content::{Change, Relay};

use super::*;

/// A newcomer dials the doors and the relays of its ticket at once. Where a door had let it in before
/// it came to a relay's Hello, the relay took it for a member, as it was, and saw its link end 2 ms
/// later: the newcomer had yet to hear of the charter that names the relay.
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
    let terms = Terms { expires: Clock.unix() + Duration::from_secs(60), uses: 0, role: None };
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
