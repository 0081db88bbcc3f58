//! Links whose packets travel through a relay.
//!
//! ```text
//!  inner connection -> socket without a network -> Links -> link with the relay
//!  (Noise, Hello, …)   one address per device       | datagrams of kind 6
//! ```
//!
//! A relay that passes packets on sees only datagrams of an ordinary link and cannot open them.
//! [PROTO-2.11]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use hark_keys::{DeviceId, Timestamp};
use hark_mesh::datagram::{KIND_KNOCK, Knock};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::links::Links;

/// The devices that can be reached through each relay, and the packets that relays have brought.
pub struct Tunnels {
    me: DeviceId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The relays that this device is attached to or visits, the best first.
    relays: Vec<Relay>,
    /// The device that each virtual address stands for.
    devices: BTreeMap<SocketAddr, DeviceId>,
    /// The relay that packets to each device take.
    ways: BTreeMap<DeviceId, Way>,
    incoming: VecDeque<(SocketAddr, Bytes)>,
    /// Datagrams from slots for which their relay has named no device yet, with the time at which
    /// they came.
    early: VecDeque<(Timestamp, DeviceId, Bytes)>,
    reader: Option<Waker>,
    dropped: u64,
}

struct Relay {
    device: DeviceId,
    rank: usize,
    roster: BTreeMap<u16, DeviceId>,
    slots: BTreeMap<DeviceId, u16>,
    /// The devices that the relay has announced beside its roster: newcomers whose tunnel packets
    /// will come, or the doors to which it leads this newcomer. The newest is last. [PROTO-9.4]
    /// [PROTO-9.16]
    knocks: VecDeque<(u16, DeviceId)>,
}

impl Relay {
    fn device_at(&self, slot: u16) -> Option<DeviceId> {
        let knocked = || self.knocks.iter().rev().find(|it| it.0 == slot).map(|it| it.1);
        self.roster.get(&slot).copied().or_else(knocked)
    }

    fn slot_of(&self, device: DeviceId) -> Option<u16> {
        let knocked = || self.knocks.iter().rev().find(|it| it.1 == device).map(|it| it.0);
        self.slots.get(&device).copied().or_else(knocked)
    }
}

#[derive(Clone, Copy)]
struct Way {
    relay: DeviceId,
    /// When the relay last brought a packet of the device.
    heard: Timestamp,
}

impl Tunnels {
    pub(super) fn new(me: DeviceId) -> Arc<Self> {
        Arc::new(Self { me, state: Mutex::default() })
    }

    /// This device is attached to `relay`, and so are the devices of `roster`, each at its slot. If
    /// several relays lead to a device, the one with the lower rank is used first.
    pub fn set_relay(&self, relay: DeviceId, rank: usize, roster: BTreeMap<u16, DeviceId>) {
        let mut state = self.lock();
        let slots = roster.iter().map(|(slot, device)| (*device, *slot)).collect();
        let known = state.relays.extract_if(.., |known| known.device == relay).next();
        let knocks = known.map(|known| known.knocks).unwrap_or_default();
        state.relays.push(Relay { device: relay, rank, roster, slots, knocks });
        state.relays.sort_by_key(|relay| (relay.rank, relay.device));
        state.settle();
        drop(state);
        self.receive_early();
    }

    /// Handles the datagrams that came before their slots were assigned to devices.
    fn receive_early(&self) {
        let early = std::mem::take(&mut self.lock().early);
        for (came, relay, datagram) in early {
            self.receive(came, relay, &datagram);
        }
    }

    /// This device is no longer attached to `relay`.
    pub fn remove_relay(&self, relay: DeviceId) {
        let mut state = self.lock();
        state.relays.retain(|known| known.device != relay);
        state.early.retain(|(_, by, _)| *by != relay);
        state.settle();
    }

    /// The relay that packets to `device` take, if any relay leads there.
    pub fn relay_to(&self, device: DeviceId) -> Option<DeviceId> {
        self.lock().way_to(device).map(|(relay, _)| relay.device)
    }

    /// How many packets were dropped: no relay led to their destination, or too many came at once.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Handles a tunnel datagram that `relay` has brought. Returns `false` if it is no such
    /// datagram, or if `relay` is none of our relays.
    pub(super) fn receive(&self, now: Timestamp, relay: DeviceId, datagram: &Bytes) -> bool {
        if datagram.first() == Some(&KIND_KNOCK) {
            return self.knocked(relay, datagram);
        }
        let Some((&[KIND, high, low], _)) = datagram.split_first_chunk() else { return false };
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(known) = state.relays.iter().find(|known| known.device == relay) else {
            return false;
        };
        let Some(device) = known.device_at(u16::from_be_bytes([high, low])) else {
            // The roster that names the device is still on its way.
            if state.early.len() == EARLY_MAX {
                state.early.pop_front();
                state.dropped += 1;
            }
            state.early.push_back((now, relay, datagram.clone()));
            return true;
        };
        let (new, device_leads) = (Way { relay, heard: now }, device > self.me);
        let way = state.ways.entry(device).or_insert(new);
        // [PROTO-2.24] Both sides use the relay that the device with the larger id has chosen,
        // unless that relay is silent.
        let silent = now.saturating_duration_since(way.heard) >= SILENT_AFTER;
        if way.relay == relay || device_leads || silent {
            *way = new;
        }
        if state.incoming.len() == INCOMING_MAX {
            state.incoming.pop_front();
            state.dropped += 1;
        }
        state.incoming.push_back((virtual_address(device), datagram.slice(HEADER..)));
        let reader = state.reader.take();
        drop(guard);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// A relay announces a newcomer or a door. The inner handshake proves which device it is.
    fn knocked(&self, relay: DeviceId, datagram: &[u8]) -> bool {
        let mut state = self.lock();
        let Some(known) = state.relays.iter_mut().find(|known| known.device == relay) else {
            return false;
        };
        if let Ok(Knock { slot: Some(slot), device }) = Knock::parse(datagram)
            && known.slot_of(device) != Some(slot.number())
        {
            known.knocks.retain(|it| it.1 != device);
            if known.knocks.len() == KNOCKS_MAX {
                known.knocks.pop_front();
            }
            known.knocks.push_back((slot.number(), device));
            state.settle();
            drop(state);
            self.receive_early();
        }
        true
    }

    /// Returns the datagram that carries `packet` to the device at a virtual address, and the relay
    /// to which it is sent.
    fn wrap(&self, to: SocketAddr, packet: &[u8]) -> Option<(DeviceId, Bytes)> {
        let mut state = self.lock();
        let device = state.devices.get(&to).copied();
        let way = device.and_then(|device| state.way_to(device));
        let Some((relay, slot)) = way.map(|(relay, slot)| (relay.device, slot)) else {
            state.dropped += 1;
            return None;
        };
        let mut datagram = BytesMut::with_capacity(HEADER + packet.len());
        datagram.put_u8(KIND);
        datagram.put_u16(slot);
        datagram.put_slice(packet);
        Some((relay, datagram.freeze()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnels")
    }
}

impl State {
    /// Updates the virtual addresses after the relays have changed, and forgets ways that lead
    /// nowhere any more.
    fn settle(&mut self) {
        let relays = &self.relays;
        let knocked = relays.iter().flat_map(|relay| relay.knocks.iter().map(|it| it.1));
        let devices = relays.iter().flat_map(|relay| relay.slots.keys().copied()).chain(knocked);
        self.devices = devices.map(|device| (virtual_address(device), device)).collect();
        self.ways.retain(|device, way| {
            relays.iter().any(|it| it.device == way.relay && it.slot_of(*device).is_some())
        });
    }

    fn way_to(&self, device: DeviceId) -> Option<(&Relay, u16)> {
        let chosen = self.ways.get(&device).map(|way| way.relay);
        let leads = |relay: &&Relay| relay.slot_of(device).is_some();
        let chosen = self.relays.iter().filter(leads).find(|it| Some(it.device) == chosen);
        let relay = chosen.or_else(|| self.relays.iter().find(leads))?;
        Some((relay, relay.slot_of(device)?))
    }
}

/// The address by which quinn knows a device that is reached through relays. Its prefix leads
/// nowhere (RFC 6666), so that it is never taken for a real address.
pub(super) fn virtual_address(device: DeviceId) -> SocketAddr {
    let [a, b, c, d, e, f, g, h, ..] = *device.as_bytes();
    let word = |high, low| u16::from_be_bytes([high, low]);
    let ip = Ipv6Addr::new(0x100, 0, 0, 0, word(a, b), word(c, d), word(e, f), word(g, h));
    SocketAddr::new(ip.into(), VIRTUAL_PORT)
}

/// Whether `address` is the virtual address of a device that is reached through relays.
pub(super) fn is_virtual(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(it) if it.ip().segments()[..4] == [0x100, 0, 0, 0])
}

/// The socket of the inner connections.
pub(super) struct TunnelSocket {
    links: Arc<Links>,
}

impl fmt::Debug for TunnelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelSocket")
    }
}

impl TunnelSocket {
    pub(super) fn new(links: Arc<Links>) -> Arc<Self> {
        Arc::new(Self { links })
    }
}

impl AsyncUdpSocket for TunnelSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysRoom)
    }

    /// Pushes the datagram for the network thread to send, since the inner connection is locked at
    /// this moment.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let tunnels = self.links.tunnels();
        if let Some((relay, datagram)) = tunnels.wrap(transmit.destination, transmit.contents) {
            self.links.push(relay, datagram);
            self.links.flush();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.links.tunnels().lock();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, packet)) = state.incoming.pop_front() else { break };
            // As with a real socket, bytes that do not fit are cut off.
            let length = packet.len().min(buffer.len());
            buffer[..length].copy_from_slice(&packet[..length]);
            *meta = RecvMeta { addr: from, len: length, stride: length, ecn: None, dst_ip: None };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(virtual_address(self.links.me()))
    }
}

/// A poller that always reports room to send: the links keep a queue and drop the oldest.
#[derive(Debug)]
struct AlwaysRoom;

impl UdpPoller for AlwaysRoom {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The kind of tunnel datagrams, and the bytes before their packet: kind and slot.
const KIND: u8 = 6;
const HEADER: usize = 3;

/// Bytes of an inner packet, the least that QUIC permits. With the overhead of the outer link, it
/// still fits paths of 1,280 bytes.
pub(super) const INNER_MTU: u16 = 1_200;

/// A port for the virtual address, since QUIC requires one.
const VIRTUAL_PORT: u16 = 1;

/// Packets that wait for the inner connections: 300 KiB. The oldest is dropped first.
const INCOMING_MAX: usize = 256;

/// Packets that wait for a roster that names their device. The oldest is dropped first.
const EARLY_MAX: usize = 32;

/// Devices that one relay may announce beside its roster. The oldest is forgotten first; the relay
/// announces it again.
const KNOCKS_MAX: usize = 256;

/// A relay that has brought nothing from a device for this long, while another one does, is no
/// longer used for it.
const SILENT_AFTER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;
    use crate::link::tests::end_of_nobody;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    /// Creates the tunnels of a device with the larger id, the other device, and two relays.
    fn four() -> (Arc<Tunnels>, DeviceId, [DeviceId; 2]) {
        let random = SeededRandom::new(1);
        let mut ids = [(); 4].map(|()| DeviceKey::generate(&random).id());
        ids.sort_unstable();
        (Tunnels::new(ids[1]), ids[0], [ids[2], ids[3]])
    }

    fn from_slot(slot: u16, packet: &[u8]) -> Bytes {
        [&[KIND], &slot.to_be_bytes()[..], packet].concat().into()
    }

    /// [PROTO-2.11]
    #[test]
    fn packets_go_to_the_slot_that_the_best_relay_has_for_the_device() {
        let (tunnels, peer, [first, second]) = four();
        let address = virtual_address(peer);
        assert!(is_virtual(address));
        assert_eq!(tunnels.wrap(address, b"packet"), None);
        tunnels.set_relay(second, 1, [(9, peer)].into());
        assert_eq!(tunnels.wrap(address, b"packet"), Some((second, from_slot(9, b"packet"))));
        tunnels.set_relay(first, 0, [(0x102, peer)].into());
        assert_eq!(tunnels.wrap(address, b"packet"), Some((first, from_slot(0x102, b"packet"))));
        tunnels.set_relay(first, 0, BTreeMap::new());
        assert_eq!(tunnels.relay_to(peer), Some(second));
        tunnels.remove_relay(second);
        assert_eq!((tunnels.relay_to(peer), tunnels.dropped()), (None, 1));
    }

    /// The device with the smaller id follows the larger one, which keeps its own choice while that
    /// works.
    #[test]
    fn both_ends_come_to_use_one_relay() {
        let (tunnels, smaller, [first, second]) = four();
        let me = tunnels.me;
        let other = Tunnels::new(smaller);
        for (tunnels, peer) in [(&tunnels, smaller), (&other, me)] {
            tunnels.set_relay(first, 0, [(1, peer)].into());
            tunnels.set_relay(second, 1, [(2, peer)].into());
        }
        assert!(tunnels.receive(at(0), first, &from_slot(1, b"a")));
        assert!(tunnels.receive(at(499), second, &from_slot(2, b"b")));
        assert_eq!(tunnels.relay_to(smaller), Some(first));
        assert!(tunnels.receive(at(500), second, &from_slot(2, b"c")));
        assert_eq!(tunnels.relay_to(smaller), Some(second));
        assert!(other.receive(at(0), first, &from_slot(1, b"a")));
        assert!(other.receive(at(1), second, &from_slot(2, b"b")));
        assert_eq!(other.relay_to(me), Some(second));
        other.remove_relay(second);
        assert_eq!(other.relay_to(me), Some(first));
    }

    #[test]
    fn what_no_relay_of_ours_has_brought_is_somebody_elses() {
        let (tunnels, peer, [relay, stranger]) = four();
        tunnels.set_relay(relay, 0, [(1, peer)].into());
        assert!(!tunnels.receive(at(0), stranger, &from_slot(1, b"packet")));
        assert!(!tunnels.receive(at(0), relay, &Bytes::from_static(&[KIND, 0])));
        assert!(!tunnels.receive(at(0), relay, &Bytes::from_static(&[1, 0, 1, 7])));
        assert!(tunnels.lock().incoming.is_empty());
        // A datagram from a slot that nobody has.
        assert!(tunnels.receive(at(0), relay, &from_slot(2, b"packet")));
        assert!(tunnels.lock().incoming.is_empty());
    }

    /// [PROTO-2.11] Regression: the first packet of a handshake was lost if it was quicker than the
    /// roster that names its device.
    #[test]
    fn packets_that_overtake_the_roster_wait_for_it() {
        let (tunnels, peer, [relay, other]) = four();
        tunnels.set_relay(relay, 0, BTreeMap::new());
        tunnels.set_relay(other, 1, BTreeMap::new());
        for number in 0..=EARLY_MAX {
            let packet = [u8::try_from(number).unwrap()];
            assert!(tunnels.receive(at(0), relay, &from_slot(1, &packet)));
        }
        assert_eq!(tunnels.dropped(), 1, "the oldest makes room");
        tunnels.set_relay(other, 1, [(1, peer)].into());
        assert!(tunnels.lock().incoming.is_empty(), "not its roster");
        tunnels.set_relay(relay, 0, [(1, peer)].into());
        let incoming = std::mem::take(&mut tunnels.lock().incoming);
        assert_eq!(incoming.len(), EARLY_MAX);
        assert_eq!(incoming[0], (virtual_address(peer), Bytes::from_static(&[1])));
        tunnels.receive(at(0), relay, &from_slot(3, b"guest"));
        tunnels.receive(at(0), relay, &knock(3, other));
        let guest = (virtual_address(other), Bytes::from_static(b"guest"));
        assert_eq!(std::mem::take(&mut tunnels.lock().incoming), [guest]);
        tunnels.receive(at(0), relay, &from_slot(2, b"packet"));
        tunnels.remove_relay(relay);
        tunnels.set_relay(relay, 0, [(1, peer), (2, other)].into());
        assert!(tunnels.lock().incoming.is_empty());
    }

    fn knock(slot: u16, device: DeviceId) -> Bytes {
        let mut datagram = Vec::new();
        let slot = hark_mesh::datagram::Slot::new(slot);
        Knock { slot, device }.encode(&mut datagram);
        datagram.into()
    }

    /// [PROTO-9.16] A newcomer that one of our relays has announced is answered through that relay,
    /// until the roster has another slot for it. If there are many, the oldest is forgotten.
    #[test]
    fn newcomers_who_knock_are_reached() {
        let (tunnels, peer, [relay, stranger]) = four();
        tunnels.set_relay(relay, 0, BTreeMap::new());
        assert!(!tunnels.receive(at(0), stranger, &knock(7, peer)));
        assert_eq!(tunnels.relay_to(peer), None);
        assert!(tunnels.receive(at(0), relay, &knock(7, peer)));
        assert!(tunnels.receive(at(0), relay, &from_slot(7, b"packet")));
        assert_eq!(tunnels.lock().incoming.len(), 1);
        let address = virtual_address(peer);
        assert_eq!(tunnels.wrap(address, b"packet"), Some((relay, from_slot(7, b"packet"))));
        tunnels.set_relay(relay, 0, [(9, peer)].into());
        assert_eq!(tunnels.wrap(address, b"packet"), Some((relay, from_slot(9, b"packet"))));
        tunnels.set_relay(relay, 0, BTreeMap::new());
        assert_eq!(tunnels.wrap(address, b"packet"), Some((relay, from_slot(7, b"packet"))));
        let random = SeededRandom::new(2);
        for slot in 100..100 + u16::try_from(KNOCKS_MAX).unwrap() {
            let device = DeviceKey::generate(&random).id();
            assert!(tunnels.receive(at(0), relay, &knock(slot, device)));
        }
        assert_eq!(tunnels.relay_to(peer), None);
        assert_eq!(tunnels.lock().relays[0].knocks.len(), KNOCKS_MAX);
        tunnels.remove_relay(relay);
        assert!(!tunnels.receive(at(0), relay, &knock(7, peer)));
    }

    /// If a relay floods us, the oldest packets are dropped. Packets that are read have their
    /// sender's address.
    #[tokio::test]
    async fn the_oldest_packets_make_room() {
        let end = end_of_nobody();
        let tunnels = end.links.tunnels();
        let [peer, relay] = [2, 3].map(|seed| DeviceKey::generate(&SeededRandom::new(seed)).id());
        tunnels.set_relay(relay, 0, [(1, peer)].into());
        let count = u16::try_from(INCOMING_MAX).unwrap();
        for number in 0..count + 3 {
            assert!(tunnels.receive(at(0), relay, &from_slot(1, &number.to_be_bytes())));
        }
        let socket = TunnelSocket::new(Arc::clone(&end.links));
        let mut buffer = [0; 2_000];
        let mut meta = [RecvMeta::default()];
        let mut cx = Context::from_waker(Waker::noop());
        for number in 3..count + 3 {
            let buffers = &mut [io::IoSliceMut::new(&mut buffer)];
            assert!(matches!(socket.poll_recv(&mut cx, buffers, &mut meta), Poll::Ready(Ok(1))));
            assert_eq!((meta[0].addr, meta[0].len), (virtual_address(peer), 2));
            assert_eq!(buffer[..2], number.to_be_bytes());
        }
        let buffers = &mut [io::IoSliceMut::new(&mut buffer)];
        assert!(socket.poll_recv(&mut cx, buffers, &mut meta).is_pending());
        assert_eq!(tunnels.dropped(), 3);
    }
}
