//! Tests of transports without a swarm, on real sockets, with a relay between them.

mod strangers;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::future::poll_fn;
use hark_charter::{Charter, Piece};
use hark_keys::{DeviceId, DeviceKey, Invite, SeededRandom};
use hark_mesh::{hello::Presence, message::CheckNonce};
use libp2p::{
    Multiaddr,
    core::{
        Endpoint as Role,
        muxing::StreamMuxer,
        transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent},
    },
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::{
    Link, LinkEvent, LinkTransport, Links, Muxer, UdpBinder, address_of, multiaddr_of,
    relayed_address, send_check,
};
use crate::{
    admission::{Doorkeeper, UseCounter},
    clock::Clock,
    event::Path,
    random::SystemRandom,
};

/// [PROTO-2.9]
#[test]
fn close_codes_are_those_of_the_protocol() {
    use super::links::CloseCode;

    let codes = [
        CloseCode::Left,
        CloseCode::Refused,
        CloseCode::Duplicate,
        CloseCode::OldIncarnation,
        CloseCode::Breach,
    ];
    assert_eq!(codes.map(|code| code as u32), [1, 2, 3, 4, 5]);
}

/// [PROTO-2.11] Hello, streams and datagrams go through a relay, which sees none of them.
#[tokio::test]
async fn a_link_through_a_relay_is_an_ordinary_link() {
    let (relay, [mut one, mut other]) = attached(1).await;
    let (accepted, dialled) = relayed_link(&mut one, &mut other).await;
    for (link, peer, end) in [(&dialled, &other, &one), (&accepted, &one, &other)] {
        assert_eq!((link.device(), link.path()), (peer.device, Path::Relay));
        assert_eq!(link.address(), None);
        let place = format!("/p2p/{}/p2p-circuit", relay[0].device);
        assert_eq!(end.links.place_of(link).to_string(), place);
    }
    let said = Bytes::from_static(&[1; 1_100]);
    one.links.send(other.device, said.clone());
    assert_eq!(other.datagram().await, (one.device, said));
    let passed = relay[0].passed.lock().unwrap();
    assert!(passed.len() > 5, "{}", passed.len());
    assert!(passed.iter().all(|datagram| !datagram.windows(32).any(|it| it == [1; 32])));
}

/// [PROTO-2.11] [PROTO-2.24] The inner connection does not notice which relay it takes.
#[tokio::test]
async fn a_relayed_link_outlives_its_relay() {
    let (relays, [mut one, mut other]) = attached(2).await;
    let (accepted, dialled) = relayed_link(&mut one, &mut other).await;
    let lost = one.links.tunnels().relay_to(other.device).unwrap();
    for end in [&one, &other] {
        end.links.tunnels().remove_relay(lost);
    }
    let (taken, left) = match &relays[..] {
        [first, second] if first.device == lost => (second, first),
        [first, _] => (first, &relays[1]),
        _ => unreachable!("there are two"),
    };
    left.passed.lock().unwrap().clear();
    let before = taken.passed.lock().unwrap().len();
    one.links.send(other.device, Bytes::from_static(b"\x01still there"));
    assert_eq!(other.words().await, b"\x01still there"[..]);
    other.links.send(one.device, Bytes::from_static(b"\x01and you"));
    assert_eq!(one.words().await, b"\x01and you"[..]);
    assert!(taken.passed.lock().unwrap().len() >= before + 2);
    assert!(left.passed.lock().unwrap().is_empty());
    assert!(Arc::ptr_eq(&one.links.all()[0], &dialled) || one.links.all().len() > 1);
    assert_eq!(accepted.connection().close_reason(), None);
}

/// [PROTO-2.4] [PROTO-2.22] A direct link takes the place of a relayed one, which ends only once
/// the direct one has carried a datagram. A relayed link never takes the place of a direct one that
/// works.
#[tokio::test]
async fn a_direct_link_takes_over_and_the_relayed_one_stays_until_it_has_worked() {
    let (_relay, [mut one, mut other]) = attached(1).await;
    let (_, relayed) = relayed_link(&mut one, &mut other).await;
    one.events_of(other.device).await;
    let address = other.address.unwrap();
    let (accepted, dialled) = tokio::join!(other.accept(), one.dial(multiaddr_of(address)));
    let direct = &dialled.unwrap();
    assert_eq!(direct.path(), Path::Direct);
    let changed = one.events_of(other.device).await;
    assert!(matches!(changed, LinkEvent::Up(link) if Arc::ptr_eq(&link, direct)));
    assert_eq!(one.best(other.device).path(), Path::Direct);
    assert_eq!(relayed.connection().close_reason(), None);
    for (from, to) in [(&one, &other), (&other, &one)] {
        from.links.send(to.device, Bytes::from_static(b"\x01direct"));
    }
    assert_eq!(one.datagram().await.1, b"\x01direct"[..]);
    timeout(PATIENCE, relayed.connection().closed()).await.unwrap();
    assert_eq!(direct.connection().close_reason(), None);
    drop(accepted);

    let by_relay = relayed_address(other.device);
    let answering = async {
        loop {
            assert!(other.accept().await.is_err(), "a relayed link beside a direct one that works");
        }
    };
    tokio::select! {
        refused = one.dial(by_relay) => assert!(refused.is_err()),
        () = answering => {}
    }
}

/// Has `one` dial `other` from another socket than its listening one. Returns the link as `other`
/// sees it.
async fn aside(one: &mut End, other: &mut End, address: SocketAddr) -> (Arc<Link>, Muxer) {
    one.links.expect_punched(other.device);
    let options = DialOpts { role: Role::Dialer, port_use: PortUse::New };
    let dialled = one.transport.dial(multiaddr_of(address), options).unwrap();
    let (accepted, dialled) = tokio::join!(other.accept(), dialled);
    (accepted.unwrap(), taken(dialled.unwrap().1).await)
}

/// A direct link from another socket than the listening one, as NATs may need it. [PROTO-5.7]
/// [PROTO-5.26]
#[tokio::test]
async fn a_dial_aside_comes_from_another_port() {
    let squad = Squad::found();
    let (mut one, mut other) = (squad.end(), squad.end());
    let (own, address) = (one.listen().await, other.listen().await);
    let (accepted, dialled) = aside(&mut one, &mut other, address).await;
    assert_ne!(accepted.address().unwrap().port(), own.port());
    assert_eq!((accepted.path(), dialled.link().path()), (Path::Direct, Path::Punched));
}

/// [PROTO-5.9] An awaited check counts once, and only at the socket to which others are to connect.
#[tokio::test]
async fn a_check_counts_where_it_is_to_arrive() {
    let squad = Squad::found();
    let (mut one, mut other) = (squad.end(), squad.end());
    let (own, address) = (one.listen().await, other.listen().await);
    let (accepted, _dialled) = aside(&mut one, &mut other, address).await;
    let aside = SocketAddr::from(([127, 0, 0, 1], accepted.address().unwrap().port()));

    let (told, mut arrived) = unbounded_channel();
    let nonces = [1, 2, 3].map(|seed| CheckNonce::generate(&SeededRandom::new(seed)));
    let links = Arc::clone(&one.links);
    let wait_for = |nonce: CheckNonce| {
        let told = told.clone();
        links.await_check(nonce, move || told.send(nonce).unwrap());
    };
    let send = |to, nonce| send_check(&mut UdpBinder, None, to, nonce).unwrap();
    wait_for(nonces[0]);
    send(aside, nonces[0]);
    send(own, nonces[1]);
    // Datagrams sent after the checks prove that the checks were handled: the one on the aside link
    // comes after the first check, and the other two share a socket.
    other.links.send(one.device, Bytes::from_static(b"\x01after"));
    one.datagram().await;
    send(own, nonces[0]);
    send(own, nonces[0]);
    assert_eq!(timeout(PATIENCE, arrived.recv()).await.unwrap(), Some(nonces[0]));
    wait_for(nonces[1]);
    wait_for(nonces[2]);
    send(own, nonces[1]);
    send(own, nonces[2]);
    assert_eq!(timeout(PATIENCE, arrived.recv()).await.unwrap(), Some(nonces[2]));
    one.links.await_no_check();
    assert!(arrived.try_recv().is_err());
}

/// Two ends that are attached to this many relays, at slots 1 and 2.
async fn attached(relays: usize) -> (Vec<Relay>, [End; 2]) {
    let squad = Squad::found();
    let (mut one, mut other) = (squad.end(), squad.end());
    one.listen().await;
    other.listen().await;
    let mut all = Vec::new();
    for rank in 0..relays {
        let mut relay = squad.relay();
        let address = relay.end.listen().await;
        for (slot, end) in [(1, &mut one), (2, &mut other)] {
            let dial = end.dial(multiaddr_of(address));
            let (accepted, dialled) = tokio::join!(relay.end.accept(), dial);
            accepted.unwrap();
            dialled.unwrap();
            relay.slots.lock().unwrap().push((slot, end.device));
        }
        one.links.tunnels().set_relay(relay.device, rank, [(2, other.device)].into());
        other.links.tunnels().set_relay(relay.device, rank, [(1, one.device)].into());
        all.push(relay);
    }
    (all, [one, other])
}

/// A link that `one` has dialled through a relay: as `other` sees it, and as `one` sees it.
async fn relayed_link(one: &mut End, other: &mut End) -> (Arc<Link>, Arc<Link>) {
    let dial = one.dial(relayed_address(other.device));
    let (accepted, dialled) =
        timeout(PATIENCE, async { tokio::join!(other.accept(), dial) }).await.unwrap();
    (accepted.unwrap(), dialled.unwrap())
}

/// A node that passes on tunnel datagrams by slot and knows nothing else.
struct Relay {
    device: DeviceId,
    end: End,
    slots: Arc<Mutex<Vec<(u16, DeviceId)>>>,
    passed: Arc<Mutex<Vec<Bytes>>>,
}

/// An organisation that makes as many members as a test needs.
struct Squad {
    founder: DeviceKey,
    charter: Charter,
}

impl Squad {
    fn found() -> Self {
        let founder = DeviceKey::generate(&SystemRandom);
        let charter = Charter::found("Aerie", "Main", &founder, None, &SystemRandom);
        Self { founder, charter }
    }

    fn end(&self) -> End {
        let (datagrams, received) = unbounded_channel();
        let mut end = self.end_with(Arc::new(move |_, from, datagram| {
            let _ = datagrams.send((from, datagram));
        }));
        end.received = Some(received);
        end
    }

    fn relay(&self) -> Relay {
        let links: Arc<OnceLock<Arc<Links>>> = Arc::default();
        let slots: Arc<Mutex<Vec<(u16, DeviceId)>>> = Arc::default();
        let passed: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let (own, known, seen) = (Arc::clone(&links), Arc::clone(&slots), Arc::clone(&passed));
        let end = self.end_with(Arc::new(move |_, from, datagram: Bytes| {
            let known = known.lock().unwrap();
            let [6, high, low] = datagram[..3] else { return };
            let slot = u16::from_be_bytes([high, low]);
            let to = known.iter().find(|(it, _)| *it == slot).map(|(_, device)| *device);
            let from = known.iter().find(|(_, it)| *it == from).map(|(slot, _)| *slot);
            let (Some(to), Some(from)) = (to, from) else { return };
            let down = [&[6], &from.to_be_bytes()[..], &datagram[3..]].concat();
            own.get().unwrap().send(to, down.into());
            seen.lock().unwrap().push(datagram);
        }));
        assert!(links.set(Arc::clone(&end.links)).is_ok());
        Relay { device: end.device, end, slots, passed }
    }

    fn end_with(&self, handler: super::DatagramHandler) -> End {
        let key = DeviceKey::generate(&SystemRandom);
        let mut charter = self.charter.clone();
        let founder = charter.member_of(self.founder.id());
        let certificate = charter.issue(&self.founder, founder, key.id(), None).unwrap();
        charter.take(Piece::Certificate(certificate)).unwrap();
        End::new(key, charter, handler)
    }
}

/// An end in an organisation of its own, which nobody talks to.
pub(super) fn end_of_nobody() -> End {
    let key = DeviceKey::generate(&SeededRandom::new(1));
    let charter = Charter::found("Aerie", "Main", &key, None, &SystemRandom);
    End::new(key, charter, Arc::new(|_, _, _| {}))
}

/// One node's transport, without a swarm.
pub(super) struct End {
    device: DeviceId,
    transport: LinkTransport,
    pub(super) links: Arc<Links>,
    address: Option<SocketAddr>,
    received: Option<UnboundedReceiver<(DeviceId, Bytes)>>,
    events: UnboundedReceiver<LinkEvent>,
    /// Kept because connections end when these are dropped.
    muxers: Vec<Muxer>,
}

impl End {
    fn new(key: DeviceKey, charter: Charter, handler: super::DatagramHandler) -> Self {
        let device = key.id();
        let presence = Presence {
            incarnation: 1,
            name: "Kestrel".to_owned(),
            addresses: Vec::new(),
            listening: Vec::new(),
        };
        let shared = DeviceKey::from_secret(&key.secret());
        let (member, charter) = (charter.member_of(device), Arc::new(charter));
        let door = Doorkeeper::member(key, charter, member, presence, Clock, Box::new(NoTickets));
        let (sender, events) = unbounded_channel();
        let links = Links::new(device, Clock, sender, handler);
        tokio::spawn(Arc::clone(&links).run_sender());
        let transport = LinkTransport::new(
            Arc::new(shared),
            Arc::new(SystemRandom),
            Box::new(UdpBinder),
            Arc::new(door),
            Arc::clone(&links),
        );
        Self { device, transport, links, address: None, received: None, events, muxers: Vec::new() }
    }

    async fn listen(&mut self) -> SocketAddr {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        self.transport.listen_on(ListenerId::next(), multiaddr_of(loopback)).unwrap();
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
            if let TransportEvent::NewAddress { listen_addr, .. } = event {
                let (address, _) = address_of(&listen_addr).unwrap();
                self.address = Some(address);
                return address;
            }
        }
    }

    /// The next link that another end dials.
    async fn accept(&mut self) -> Result<Arc<Link>, super::LinkError> {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                let (_, muxer) = upgrade.await?;
                return Ok(self.keep(muxer).await);
            }
        }
    }

    async fn dial(&mut self, address: Multiaddr) -> Result<Arc<Link>, super::LinkError> {
        let options = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
        let dial = self.transport.dial(address, options).unwrap();
        let (_, muxer) = dial.await?;
        Ok(self.keep(muxer).await)
    }

    async fn keep(&mut self, muxer: Muxer) -> Arc<Link> {
        let muxer = taken(muxer).await;
        let link = Arc::clone(muxer.link());
        self.muxers.push(muxer);
        link
    }

    async fn datagram(&mut self) -> (DeviceId, Bytes) {
        let received = self.received.as_mut().unwrap();
        timeout(PATIENCE, received.recv()).await.unwrap().unwrap()
    }

    /// The next datagram that is not a tunnel's. The last datagrams of a tunnel through a relay
    /// that is no longer used may still be on their way.
    async fn words(&mut self) -> Bytes {
        loop {
            let (_, bytes) = self.datagram().await;
            if bytes[0] != 6 {
                return bytes;
            }
        }
    }

    /// The next event about the links of `device`.
    async fn events_of(&mut self, device: DeviceId) -> LinkEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            let of = match &event {
                LinkEvent::Up(link) | LinkEvent::Changed(link) => link.device(),
                LinkEvent::Down(device, _)
                | LinkEvent::Visit(device)
                | LinkEvent::VisitEnded(device) => *device,
            };
            if of == device {
                return event;
            }
        }
    }

    fn best(&self, device: DeviceId) -> Arc<Link> {
        self.links.all().into_iter().find(|link| link.device() == device).unwrap()
    }
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

struct NoTickets;

impl UseCounter for NoTickets {
    fn count(&self, _: &Invite, _: u8, _: DeviceId) -> io::Result<bool> {
        Ok(false)
    }
}

/// How long to wait: what has not happened by then never will.
const PATIENCE: Duration = Duration::from_secs(20);
