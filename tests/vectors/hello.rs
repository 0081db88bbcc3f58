use std::net::SocketAddr;

use hark_charter::{
    Charter, Piece, Recovery,
    content::{Change, Relay},
};
use hark_keys::{DeviceId, DeviceKey, Door, MemberId, SeededRandom, Terms, Ticket, UnixTime};
use hark_mesh::{
    List,
    hello::{Greeting, Listener, Presence, Refusal, open_greeting, refuse},
};
use serde_json::{Value, json};

use crate::{hex, hold_to, key};

const EXPORTER: [u8; 32] = [7; 32];
const NOW: UnixTime = UnixTime::from_secs(1_000);

fn presence(incarnation: u64, name: &str, charter: &Charter, member: MemberId) -> Presence {
    let addresses = ["192.0.2.1:7000", "[2001:db8::1]:7000"].map(|it| it.parse().unwrap()).to_vec();
    let listening = charter.first_channel(member).map(|it| it.id).into_iter().collect();
    Presence { incarnation, name: name.to_owned(), addresses, listening }
}

/// A greeting and its answer; `known` is the charter that the dialler held.
fn described(
    name: &str,
    charter: &Charter,
    (dialler, greeting): (&DeviceKey, &Greeting),
    (listener, answer): (DeviceId, &[u8]),
) -> Value {
    json!({
        "name": name,
        "organisation": hex(charter.organisation().as_bytes()),
        "charter": hex(charter.snapshot()),
        "exporter": hex(EXPORTER),
        "now": NOW.as_secs(),
        "dialler": hex(dialler.id().as_bytes()),
        "greeting": hex(greeting.bytes()),
        "listener": hex(listener.as_bytes()),
        "answer": hex(answer),
    })
}

/// Hellos of members, newcomers and relays, with answers and refusals. [PROTO-3.1] [PROTO-3.2]
/// [PROTO-3.3] [PROTO-3.5] [PROTO-3.6] [PROTO-3.8] [PROTO-3.9]
#[test]
fn hellos() {
    let [founder, bob, newcomer, relay] = [1, 2, 3, 4].map(key);
    let mut charter = Charter::found("Squad", "Voice", &founder, None, &SeededRandom::new(1));
    let member = charter.member_of(founder.id());
    let certificate = charter.issue(&founder, member, bob.id(), None).unwrap();
    assert_eq!(charter.take(Piece::Certificate(certificate)), Ok(true));
    let addresses = List::truncated([SocketAddr::from(([192, 0, 2, 9], 7000))]);
    let named = Relay {
        device: relay.id(),
        name: "hilltop".to_owned(),
        addresses,
        members_max: 0,
        rate_kbps: 0,
    };
    let operation = charter.edit(&founder, member, vec![Change::Relay(named)]).unwrap();
    assert_eq!(charter.take(Piece::Operation(operation)), Ok(true));
    let bobs = charter.member_of(bob.id());
    let own = presence(1, "Ann", &charter, member);
    let listener =
        Listener { charter: &charter, key: &founder, member: Some(member), presence: &own };
    let answer = |listener: &Listener<'_>, dialler: &DeviceKey, greeting: &Greeting| {
        let opened = open_greeting(NOW, listener, &EXPORTER, dialler.id(), greeting.bytes());
        opened.map(|opened| opened.accept(listener).0)
    };
    let refused = |reason, charter: &Charter, dialler: &DeviceKey, greeting: &Greeting| {
        let known = Some(charter);
        refuse(reason, charter.organisation(), known, &EXPORTER, dialler.id(), greeting.bytes())
    };

    let chain = charter.chain_of(bobs);
    let bob_says = presence(2, "Bob", &charter, bobs);
    let of_member = Greeting::member(&charter, bob.id(), &chain, &bob_says, EXPORTER);
    let to_member = answer(&listener, &bob, &of_member).unwrap();
    let to_relay = Greeting::member_to_relay(&charter, bob.id(), &chain, &bob_says, EXPORTER);
    let relays = presence(4, "hilltop", &charter, bobs);
    let as_relay = Listener { charter: &charter, key: &relay, member: None, presence: &relays };
    let of_relay = answer(&as_relay, &bob, &to_relay).unwrap();

    let terms = |expires| Terms::until(UnixTime::from_secs(expires));
    let doors = vec![Door { device: founder.id(), addresses: own.addresses.clone() }];
    let (organisation, random) = (charter.organisation(), SeededRandom::new(5));
    let ticket = Ticket::issue(&founder, organisation, "Squad", terms(2_000), doors, &random);
    let recovery = Recovery::of(organisation, key(9).id(), &newcomer);
    let new = presence(3, "Cid", &charter, bobs);
    let redeems =
        Greeting::redeem(NOW, &ticket, newcomer.id(), Some(recovery), &new, EXPORTER).unwrap();
    let admitted = answer(&listener, &newcomer, &redeems).unwrap();
    let used_up = refused(Refusal::TicketUsedUp, &charter, &newcomer, &redeems);
    let stranger = Refusal::Stranger;
    let unsealed = refuse(stranger, organisation, None, &EXPORTER, newcomer.id(), &[0; 22]);

    let mut later = charter.clone();
    let removal = Change::Remove { member: bobs, admission: 1 };
    let removal = later.edit(&founder, member, vec![removal]).unwrap();
    assert_eq!(later.take(Piece::Operation(removal)), Ok(true));
    let removed = refused(Refusal::Removed, &later, &bob, &of_member);

    let founders = founder.id();
    hold_to(
        "hello",
        &[
            described("a member", &charter, (&bob, &of_member), (founders, &to_member)),
            described("a member at a relay", &charter, (&bob, &to_relay), (relay.id(), &of_relay)),
            described("a newcomer", &charter, (&newcomer, &redeems), (founders, &admitted)),
            described("a ticket used up", &charter, (&newcomer, &redeems), (founders, &used_up)),
            described("a stranger", &charter, (&newcomer, &redeems), (founders, &unsealed)),
            described("a former member", &charter, (&bob, &of_member), (founders, &removed)),
        ],
    );
}
