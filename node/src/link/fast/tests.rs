#[cfg(feature = "voice")]
mod allocations;
mod tap;

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    pin::Pin,
    task::Poll,
};

use bytes::Bytes;
use futures::{AsyncWriteExt, future::poll_fn};
use hark_charter::CertificateChain;
use hark_keys::{DeviceId, DeviceKey, MemberId, ObjectHash, SeededRandom};
use hark_mesh::hello::{HelloError, PeerHello};
use libp2p::core::{
    Endpoint as Role,
    muxing::StreamMuxer,
    transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::tap::Tap;
use super::*;
use crate::link::{
    Admission, Binder, HelloDenial, LinkEvent, LinkTransport, Links, Muxer, UdpBinder, address_of,
    multiaddr_of,
};

/// One node's transport, without a swarm.
struct End {
    device: DeviceId,
    transport: LinkTransport,
    links: Arc<Links>,
    datagrams: UnboundedReceiver<(DeviceId, Bytes)>,
    _events: UnboundedReceiver<LinkEvent>,
}

impl End {
    fn new(number: u8, binder: impl Binder + 'static) -> Self {
        let key = DeviceKey::from_secret(&[number; 32]);
        let device = key.id();
        let (events, kept) = unbounded_channel();
        let (handed, datagrams) = unbounded_channel();
        let handler = Arc::new(move |_: Timestamp, device, datagram| {
            let _ = handed.send((device, datagram));
        });
        let links = Links::new(device, Clock, events, handler);
        let random = Arc::new(SeededRandom::new(u64::from(number)));
        let shared = Arc::clone(&links);
        let (binder, admission) = (Box::new(binder), Arc::new(Everybody));
        let transport = LinkTransport::new(Arc::new(key), random, binder, admission, shared);
        Self { device, transport, links, datagrams, _events: kept }
    }

    async fn listen(&mut self) -> SocketAddr {
        let loopback = multiaddr_of((Ipv4Addr::LOCALHOST, 0).into());
        self.transport.listen_on(ListenerId::next(), loopback).unwrap();
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
            if let TransportEvent::NewAddress { listen_addr, .. } = event {
                return address_of(&listen_addr).unwrap().0;
            }
        }
    }

    async fn accept(&mut self) -> Muxer {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                return upgrade.await.unwrap().1;
            }
        }
    }

    async fn dial(&mut self, address: SocketAddr) -> Muxer {
        let options = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
        self.transport.dial(multiaddr_of(address), options).unwrap().await.unwrap().1
    }

    fn outlet(&self, to: &Self) -> Arc<DatagramSender> {
        self.links.outlet(to.device).unwrap()
    }

    /// The next datagram.
    async fn hear(&mut self) -> Bytes {
        tokio::time::timeout(PATIENCE, self.datagrams.recv()).await.unwrap().unwrap().1
    }
}

/// Two linked ends. The guest has dialled the door.
struct Pair {
    door: End,
    guest: End,
    muxers: [Muxer; 2],
}

impl Pair {
    async fn new(door: impl Binder + 'static, guest: impl Binder + 'static) -> Self {
        let (mut door, mut guest) = (End::new(1, door), End::new(2, guest));
        let address = door.listen().await;
        let (accepted, dialled) = tokio::join!(door.accept(), guest.dial(address));
        let muxers = [taken(accepted).await, taken(dialled).await];
        Self { door, guest, muxers }
    }

    async fn until_fast(&self) {
        let outlets = [self.door.outlet(&self.guest), self.guest.outlet(&self.door)];
        until("the fast path works", || outlets.iter().all(|outlet| outlet.is_fast())).await;
    }

    /// Spares QUIC's heartbeats, as between a member and an infrastructure relay.
    fn spare_quic(&self) {
        [&self.door, &self.guest].iter().for_each(|end| end.links.serve_crowds());
    }

    /// Sends a heartbeat each way.
    fn heartbeats(&self) {
        let bytes = Bytes::from_static(b"heartbeat");
        self.door.links.send_heartbeat(self.guest.device, &bytes);
        self.guest.links.send_heartbeat(self.door.device, &bytes);
    }

    /// Sends a datagram each way; each must arrive.
    async fn talk(&mut self) {
        self.door.links.send(self.guest.device, Bytes::from_static(b"to the guest"));
        assert_eq!(self.guest.hear().await, "to the guest");
        self.guest.outlet(&self.door).send(b"to the door");
        assert_eq!(self.door.hear().await, "to the door");
    }

    /// The same if heartbeats may arrive in between.
    async fn talk_between_heartbeats(&mut self) {
        self.door.links.send(self.guest.device, Bytes::from_static(b"to the guest"));
        while self.guest.hear().await != "to the guest" {}
        self.guest.links.send(self.door.device, Bytes::from_static(b"to the door"));
        while self.door.hear().await != "to the door" {}
    }
}

/// The first byte of a fast packet, whatever the generation of its key.
fn kind(packet: &[u8]) -> u8 {
    packet[0] & !0x08
}

/// Polls `muxer` as a swarm does that takes the connection.
async fn taken(mut muxer: Muxer) -> Muxer {
    poll_fn(|cx| {
        let _ = Pin::new(&mut muxer).poll(cx);
        Poll::Ready(())
    })
    .await;
    muxer
}

/// Waits until something has happened by itself.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        let mut turns = tokio::time::interval(Duration::from_millis(2));
        while !condition() {
            turns.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "in vain: {what}");
}

/// An admission that lets everybody in.
struct Everybody;

impl Admission for Everybody {
    fn greeting(&self, _: DeviceId, _: &[u8; 32]) -> Vec<u8> {
        b"let me in".to_vec()
    }

    fn answer(
        &self,
        peer: DeviceId,
        _: &[u8; 32],
        _: &[u8],
    ) -> (Vec<u8>, Result<PeerHello, HelloDenial>) {
        (b"come in".to_vec(), Ok(hello(peer)))
    }

    fn conclude(&self, peer: DeviceId, _: &[u8; 32], _: &[u8]) -> Result<PeerHello, HelloError> {
        Ok(hello(peer))
    }
}

fn hello(device: DeviceId) -> PeerHello {
    PeerHello {
        device,
        member: Some(MemberId::from_bytes([1; 32])),
        chain: CertificateChain::default(),
        added: Vec::new(),
        name: "Kestrel".to_owned(),
        incarnation: 1,
        addresses: Vec::new(),
        digest: ObjectHash::from_bytes([1; 32]),
        listening: Vec::new(),
    }
}

/// [PROTO-8.7] On the system's own sockets, plain `sendto` included.
#[tokio::test]
async fn two_who_are_linked_find_the_fast_path() {
    let mut pair = Pair::new(UdpBinder, UdpBinder).await;
    pair.until_fast().await;
    pair.talk().await;
    let longest = vec![7; pair.guest.outlet(&pair.door).longest()];
    assert!((1_240..=fast::PAYLOAD_MAX).contains(&longest.len()));
    pair.guest.links.send(pair.door.device, longest.clone().into());
    assert_eq!(pair.door.hear().await, longest);
    assert_eq!(pair.guest.links.dropped() + pair.door.links.dropped(), 0);
}

/// [PROTO-8.1] Fast packets do not pass through QUIC, and every datagram arrives once.
#[tokio::test]
async fn datagrams_go_beside_quic() {
    let (here, there) = (Tap::default(), Tap::default());
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.until_fast().await;
    let before = here.sent(|packet| kind(packet) == 0x20);
    assert_eq!(before, 0, "nothing was sent yet but probes");
    let outlet = pair.door.outlet(&pair.guest);
    for number in 0..500_u16 {
        outlet.send(&number.to_be_bytes());
    }
    for number in 0..500_u16 {
        assert_eq!(pair.guest.hear().await, number.to_be_bytes()[..]);
    }
    let fast = |packet: &[u8]| kind(packet) == 0x20 && packet.len() == 2 + fast::OVERHEAD;
    assert_eq!(here.sent(fast), 500);
    assert!(pair.guest.datagrams.try_recv().is_err());
    // [PROTO-2.7] Datagrams show that the peer is there.
    let link = pair.guest.links.all().remove(0);
    assert!(link.heard() > Timestamp::ZERO);
    pair.guest.links.forsake_accepted();
    let heard = link.heard();
    pair.talk().await;
    assert!(link.heard() > heard);
}

/// [PROTO-8.10] After something is written to a stream, the next datagrams are sent by QUIC, except
/// long ones.
#[tokio::test]
async fn a_message_is_followed_by_a_few_datagrams_of_quics() {
    let (here, there) = (Tap::default(), Tap::default());
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.until_fast().await;
    let (outlet, muxer) = (pair.guest.outlet(&pair.door), &mut pair.muxers[1]);
    let mut stream = poll_fn(|cx| Pin::new(&mut *muxer).poll_outbound(cx)).await.unwrap();
    let fast = || there.sent(|packet| kind(packet) == 0x20);
    for _ in 0..2 {
        let before = fast();
        stream.write_all(b"a message").await.unwrap();
        outlet.send(&[1; 1_001]);
        assert_eq!(fast() - before, 1);
        for number in 0..6 {
            outlet.send(&[number]);
        }
        assert_eq!(fast() - before, 3, "the last two are fast again");
        let mut heard = Vec::new();
        for _ in 0..7 {
            heard.push(pair.door.hear().await[0]);
        }
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 1, 2, 3, 4, 5]);
    }
    assert!(outlet.is_fast());
}

/// [PROTO-8.7] If only QUIC's packets get through, datagrams are sent by QUIC.
#[tokio::test]
async fn what_blocks_fast_packets_costs_no_datagrams() {
    let (here, there) = (Tap::default(), Tap::default());
    here.block_fast(true);
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.talk().await;
    until("probes are sent and sent again", || there.sent(|packet| kind(packet) == 0x21) > 1).await;
    pair.talk().await;
    assert!(!pair.guest.outlet(&pair.door).is_fast() && !pair.door.outlet(&pair.guest).is_fast());
    assert_eq!(there.sent(|packet| kind(packet) == 0x20), 0);

    here.block_fast(false);
    pair.until_fast().await;
    pair.talk().await;
    assert_eq!(there.sent(|packet| kind(packet) == 0x20), 1);

    // It is not enough if one direction works.
    here.block_fast(true);
    let outlets = [pair.door.outlet(&pair.guest), pair.guest.outlet(&pair.door)];
    until("both have noticed", || {
        // Each end probes as soon as heartbeats no longer state that its own packets arrive.
        pair.heartbeats();
        !outlets.iter().any(|outlet| outlet.is_fast())
    })
    .await;
    let last = async {
        outlets.iter().for_each(|outlet| outlet.send(b"by QUIC"));
        while pair.guest.hear().await != "by QUIC" {}
        while pair.door.hear().await != "by QUIC" {}
    };
    last.await;
}

/// [PROTO-2.7] [PROTO-8.7] [PROTO-8.8] Heartbeats are sent by the fast path, and a few of them by
/// QUIC as well. They show that packets arrive, so that no probes are needed.
#[tokio::test]
async fn heartbeats_show_that_the_fast_path_works() {
    let (here, there) = (Tap::default(), Tap::default());
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.until_fast().await;
    pair.spare_quic();
    let asked =
        || here.sent(|packet| kind(packet) == 0x21) + there.sent(|packet| kind(packet) == 0x21);
    let before = asked();
    let link = pair.guest.links.all().remove(0);
    for number in 1..=60 {
        let heard = link.heard();
        pair.door.links.send_heartbeat(pair.guest.device, &Bytes::from_static(b"heartbeat"));
        until("it is heard", || link.heard() > heard).await;
        assert_eq!(here.sent(|packet| kind(packet) == 0x24), number);
        pair.guest.links.send_heartbeat(pair.door.device, &Bytes::from_static(b"heartbeat"));
    }
    for _ in 0..3 {
        assert_eq!(pair.door.hear().await, "heartbeat", "one in twenty of who has dialled");
    }
    assert_eq!(pair.guest.hear().await, "heartbeat", "one in sixty of the other");
    assert!(pair.door.datagrams.try_recv().is_err() && pair.guest.datagrams.try_recv().is_err());
    assert_eq!(asked(), before);
}

/// [PROTO-2.13] Regression: links stood for weeks under the keys of their first minute.
#[tokio::test]
async fn keys_change_by_the_clock_and_after_each_message_with_a_key() {
    let (here, there) = (Tap::default(), Tap::default());
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.until_fast().await;
    pair.spare_quic();
    let connections = [0, 1].map(|end| pair.muxers[end].link().connection().clone());
    // The key phase that both ends are in.
    let phase = || {
        let [one, other] = [0, 1].map(|end| key_phase(&connections[end]).unwrap());
        (one == other).then_some(one)
    };
    for _ in 0..3 {
        let before = phase();
        for _ in 0..RENEW_EVERY {
            pair.heartbeats();
            pair.talk_between_heartbeats().await;
        }
        // The clock of the dialling side changes the keys of both ends.
        until("both ends have new keys", || {
            pair.guest.links.send_heartbeat(pair.door.device, &Bytes::from_static(b"heartbeat"));
            pair.door.links.send(pair.guest.device, Bytes::from_static(b"no silence"));
            phase() > before
        })
        .await;
        // As soon as the update before has finished, and without that clock.
        let before = phase();
        pair.door.links.handle_key_passed(pair.guest.device);
        until("they have changed again", || {
            pair.door.links.send_heartbeat(pair.guest.device, &Bytes::from_static(b"heartbeat"));
            pair.guest.links.send(pair.door.device, Bytes::from_static(b"no silence"));
            phase() > before
        })
        .await;
    }
    for first in [0x20, 0x28] {
        let such = |packet: &[u8]| packet[0] == first;
        assert!(here.sent(such) > 0 && there.sent(such) > 0, "of every generation");
    }
    pair.talk_between_heartbeats().await;
    assert_eq!(pair.guest.links.dropped() + pair.door.links.dropped(), 0);
}

/// [PROTO-8.8] Regression: the round trip that people saw was as old as QUIC's last heartbeat.
#[tokio::test]
async fn each_heartbeat_between_members_goes_by_quic_as_well() {
    let mut pair = Pair::new(Tap::default(), Tap::default()).await;
    pair.until_fast().await;
    for _ in 0..3 {
        pair.door.links.send_heartbeat(pair.guest.device, &Bytes::from_static(b"heartbeat"));
        pair.guest.links.send_heartbeat(pair.door.device, &Bytes::from_static(b"heartbeat"));
        assert_eq!(pair.door.hear().await, "heartbeat");
        assert_eq!(pair.guest.hear().await, "heartbeat");
    }
}

/// [PROTO-8.6] The fast path follows QUIC to the peer's new address.
#[tokio::test]
async fn the_fast_path_follows_a_peer_to_another_address() {
    let (here, there) = (Tap::default(), Tap::default());
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.until_fast().await;
    let outlet = pair.door.outlet(&pair.guest);
    let before = outlet.address();

    there.rebind();
    // Fast packets are accepted from any address. [PROTO-8.9] A notice makes the guest inform QUIC.
    pair.guest.outlet(&pair.door).send(b"from elsewhere");
    assert_eq!(pair.door.hear().await, "from elsewhere");
    // [PROTO-8.6] Until QUIC has followed, three bytes are sent to the new address for each byte
    // from there.
    let fast_to = |to: SocketAddr| here.sent_to(to, |packet| kind(packet) == 0x20);
    assert!(outlet.is_fast() && outlet.address() == before, "QUIC knows nothing yet");
    for _ in 0..6 {
        outlet.send(b"to elsewhere");
    }
    assert_eq!((fast_to(before), fast_to(there.address())), (3, 3));
    for _ in 0..3 {
        assert_eq!(pair.guest.hear().await, "to elsewhere");
    }
    until("the door follows", || outlet.address() != before && outlet.is_fast()).await;
    assert_eq!(outlet.address(), there.address());
    pair.talk().await;
    assert_eq!((fast_to(before), fast_to(there.address())), (3, 4));
    assert_eq!(here.sent(|packet| kind(packet) == 0x23), 1);
    assert!(pair.door.datagrams.try_recv().is_err(), "what was for QUIC alone is handed to nobody");

    // [PROTO-8.8] A heartbeat has the same effect if nothing else is sent.
    pair.spare_quic();
    let before = outlet.address();
    there.rebind();
    let turns = Cell::new(0_u32);
    until("the door follows", || {
        // Notices are rare. For the keys of the link, each heartbeat is a second.
        if turns.replace(turns.get() + 1).is_multiple_of(50) {
            pair.heartbeats();
        }
        outlet.address() != before && outlet.is_fast()
    })
    .await;
    while pair.door.datagrams.try_recv().is_ok() {}
    while pair.guest.datagrams.try_recv().is_ok() {}
    assert_eq!(outlet.address(), there.address());
    pair.talk().await;
}

/// [PROTO-8.5] [PROTO-8.6] A stranger that repeats or makes up packets receives and changes
/// nothing.
#[tokio::test]
async fn strangers_get_a_notice_at_most() {
    let (here, there) = (Tap::default(), Tap::default());
    let mut pair = Pair::new(here.clone(), there.clone()).await;
    pair.until_fast().await;
    // Genuine packets that have not arrived, so that the stranger's copies are the first to arrive.
    there.block_fast(true);
    let outlet = pair.guest.outlet(&pair.door);
    outlet.send(b"held back");
    outlet.probe([9; 8]);
    there.block_fast(false);
    let held: Vec<_> = there.last(2);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let door = pair.guest.links.all()[0].address().unwrap();
    let mut forged = held[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    stranger.send_to(&forged, door).unwrap();
    stranger.send_to(&[0x21; 33], door).unwrap();
    stranger.send_to(&[0x00; 33], door).unwrap();
    for packet in [&held[0], &held[0], &held[1], &held[1]] {
        stranger.send_to(packet, door).unwrap();
    }
    assert_eq!(pair.door.hear().await, "held back", "whoever carries it");
    // The answer to the probe is sent to the link's own address, and there is an answer.
    until("the probe is answered", || here.sent(|packet| kind(packet) == 0x22) >= 2).await;
    // The guest's own packets restore the address.
    outlet.send(b"here I am");
    assert_eq!(pair.door.hear().await, "here I am");
    pair.talk().await;
    assert!(pair.door.datagrams.try_recv().is_err(), "once only");
    // [PROTO-8.9] A notice is all that a stranger gets for passing a packet on.
    let stranger = stranger.local_addr().unwrap();
    assert_eq!(here.sent_to(stranger, |_| true), 1);
    assert_eq!(here.sent_to(stranger, |packet| kind(packet) == 0x23 && packet.len() == 25), 1);
    assert_eq!(pair.door.outlet(&pair.guest).address(), there.address());
}

/// [PROTO-8.6] Regression: a stranger that passed on each packet before the original arrived got
/// all datagrams for the peer, for as long as it did so.
#[tokio::test]
async fn who_passes_on_packets_faster_has_a_few_in_ten_seconds() {
    let here = Tap::default();
    let pair = Pair::new(here.clone(), Tap::default()).await;
    pair.until_fast().await;
    let outlet = pair.door.outlet(&pair.guest);
    let thieves = [1, 2].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let stolen = || thieves.map(|thief| here.sent_to(thief, |packet| packet[0] == 0x20));
    // Ten seconds of speech each way; a thief delivers each packet first.
    let begun = pair.door.links.clock().now();
    let speak = |from: u64, until: u64, thief: SocketAddr| {
        for now in (from..until).map(|ms| begun + Duration::from_millis(10 * ms)) {
            assert!(outlet.handle_source(now, thief, 130, true));
            outlet.send(&[7; 100]);
        }
    };
    speak(0, 500, thieves[0]);
    speak(500, 1_000, thieves[1]);
    let [first, second] = stolen();
    let most = 8 * 1024 / 100;
    assert!((50..=most).contains(&first), "{first}");
    assert_eq!(second, 0, "nor by another address");
    speak(1_000, 1_500, thieves[1]);
    assert!((50..=most).contains(&stolen()[1]) && stolen()[0] == first);
}

/// [PROTO-8.6] Before the swarm takes a link and after the link has ended, its packets are ignored.
#[tokio::test]
async fn only_links_that_stand_have_a_fast_path() {
    let (here, there) = (Tap::default(), Tap::default());
    let (mut door, mut guest) = (End::new(1, here.clone()), End::new(2, there.clone()));
    let address = door.listen().await;
    let (accepted, dialled) = tokio::join!(door.accept(), guest.dial(address));
    let dialled = taken(dialled).await;
    let outlet = guest.outlet(&door);
    until("the guest probes", || there.sent(|packet| kind(packet) == 0x21) >= 2).await;
    assert_eq!(here.sent(|packet| packet[0] < 0x40), 0, "nothing is answered yet");
    assert!(!outlet.is_fast());

    let mut pair = Pair { door, guest, muxers: [taken(accepted).await, dialled] };
    pair.until_fast().await;
    pair.talk().await;
    there.block_fast(true);
    outlet.send(b"too late");
    there.block_fast(false);
    let late = there.last(1).remove(0);
    let from = there.address();
    pair.door.links.close(pair.guest.device);
    // At once, and not only when QUIC has said goodbye.
    pair.door.links.handle_fast(&mut late.clone(), from, true);
    assert!(pair.door.datagrams.try_recv().is_err());
    until("the guest has noticed", || pair.guest.links.outlet(pair.door.device).is_none()).await;
    let (sent, dropped) = (there.sent(|_| true), pair.guest.links.dropped());
    outlet.send(b"to nobody");
    assert_eq!(there.sent(|_| true), sent);
    assert_eq!(pair.guest.links.dropped(), dropped + 1);
}

/// How long to wait: longer than anything here takes on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
