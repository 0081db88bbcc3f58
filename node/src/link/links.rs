//! The links that stand, by device, and the choice which of two links survives.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use futures::task::AtomicWaker;
use hark_keys::{DeviceId, Timestamp, fast};
use hark_mesh::{hello::PeerHello, squad::PathSeen};
use libp2p::{Multiaddr, core::multiaddr::Protocol};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::sync::{Notify, mpsc::UnboundedSender};

use super::{
    checks::AwaitedCheck,
    fast::{DatagramSender, FastPath, Opened},
    lobby::Known,
    transport::multiaddr_of,
    tunnel::{self, Tunnels},
    visits::Visits,
};
use crate::{clock::Clock, event::Path};

/// Takes every datagram of an admitted link, on the network thread, so it must not wait. It may
/// send, but neither dial nor listen: the endpoint that received the datagram may be at work.
pub type DatagramHandler = Arc<dyn Fn(Timestamp, DeviceId, Bytes) + Send + Sync>;

/// A connection whose Hello was accepted.
pub struct Link {
    connection: Connection,
    fast: FastPath,
    hello: PeerHello,
    dialled: bool,
    path: Path,
    since: Timestamp,
    /// When the last datagram came, in microseconds of the [`Clock`].
    heard: AtomicU64,
    nudged: AtomicWaker,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        fast: FastPath,
        hello: PeerHello,
        dialled: bool,
        path: Path,
        now: Timestamp,
    ) -> Self {
        Self {
            connection,
            fast,
            hello,
            dialled,
            path,
            since: now,
            heard: AtomicU64::new(micros(now)),
            nudged: AtomicWaker::new(),
        }
    }

    /// The device at the other end, proven by the handshake.
    pub fn device(&self) -> DeviceId {
        self.hello.device
    }

    /// What the device stated about itself when it was admitted.
    pub fn hello(&self) -> &PeerHello {
        &self.hello
    }

    /// When the last datagram came, or when the link was made if none has come.
    pub fn heard(&self) -> Timestamp {
        Timestamp::from_micros(self.heard.load(Ordering::Relaxed))
    }

    /// Where its packets are sent now. `None` if a relay passes them on.
    pub fn address(&self) -> Option<SocketAddr> {
        (!self.is_relayed()).then(|| self.connection.remote_address())
    }

    /// How its packets travel.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The path and its address, as the squad takes them.
    pub fn seen(&self) -> PathSeen {
        match (self.address(), self.path) {
            (Some(address), Path::Direct) => PathSeen::Direct(address),
            (Some(address), _) => PathSeen::Punched(address),
            (None, _) => PathSeen::Relayed,
        }
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.path == Path::Relay
    }

    /// Whether this side dialled.
    pub fn was_dialled(&self) -> bool {
        self.dialled
    }

    /// QUIC's estimate of the round trip.
    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Wakes libp2p's task for this connection, whatever it waits for.
    ///
    /// If there are several connections with a peer, gossipsub's queue wakes the one that asked
    /// first, and no other once that one has ended (libp2p-gossipsub 0.50). Messages would then
    /// wait until something else happens on the connection.
    pub fn nudge(&self) {
        self.nudged.wake();
    }

    pub(super) fn outlet(&self) -> &Arc<DatagramSender> {
        self.fast.outlet()
    }

    /// Ends the link. Does nothing if it has ended already.
    pub(super) fn close(&self, code: CloseCode) {
        self.fast.end();
        code.close(&self.connection);
    }

    pub(super) fn nudged(&self) -> &AtomicWaker {
        &self.nudged
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether this link, the newer one, outlives `other` between the same two processes. The
    /// device with the larger id decides that. [PROTO-2.4]
    fn outlives(&self, other: &Self, now: Timestamp) -> bool {
        if other.is_silent(now) {
            return true;
        }
        // The device with the larger id decides, so a link that it did not dial was dialled by the
        // other one.
        self.is_relayed() == other.is_relayed() && (!self.dialled || other.dialled)
    }

    /// Whether packets should stay on the older link `other`.
    fn yields_to(&self, other: &Self, now: Timestamp) -> bool {
        let better = if self.is_relayed() == other.is_relayed() {
            // If our id is the smaller one, the other side will keep the link that we dialled.
            other.dialled && !self.dialled
        } else {
            self.is_relayed()
        };
        better && !other.is_silent(now)
    }

    /// Whether the link has stood for so long that a new one was not dialled at the same time. A
    /// peer that dials again then has lost this link.
    fn is_settled(&self, now: Timestamp) -> bool {
        now.saturating_duration_since(self.since) >= SETTLED_AFTER
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        now.saturating_duration_since(self.heard()) >= STALE_AFTER
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("device", &self.device())
            .field("dialled", &self.dialled)
            .finish_non_exhaustive()
    }
}

/// An event of the links of a device.
#[derive(Debug)]
pub enum LinkEvent {
    /// The device has a new link, its first or one more. The other end may have lost the earlier
    /// links and everything that it was sent on them.
    Up(Arc<Link>),
    /// A link has ended, and packets to the device now take this older one.
    Changed(Arc<Link>),
    /// The device has no link any more.
    Down(DeviceId, LinkDown),
    /// A newcomer visits this relay and is to be led to doors. [PROTO-3.10]
    Visit(DeviceId),
    /// The visit of that newcomer has ended.
    VisitEnded(DeviceId),
}

/// The reason why the last link of a device ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkDown {
    /// The device said goodbye.
    Left,
    /// The device has not answered for 30 s.
    Unreachable,
    /// The device has restarted, and a new link is on its way.
    Restarted,
    /// The device broke the protocol, or one of the two ended the link for another reason.
    Closed,
}

/// Application error codes of the connection. [PROTO-2.9]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// libp2p has no use for the connection any more.
    Normal = 0,
    /// The node leaves the mesh.
    Left = 1,
    /// The Hello was refused.
    Refused = 2,
    /// Another link between the same two devices survives.
    Duplicate = 3,
    /// The link was made with an earlier run of the peer.
    OldIncarnation = 4,
    /// The peer broke the protocol.
    Breach = 5,
}

impl CloseCode {
    /// Ends `connection`. Does nothing if it has ended already.
    pub(super) fn close(self, connection: &Connection) {
        // Closing it again would make quinn forget why the other side ended it.
        if connection.close_reason().is_none() {
            connection.close(VarInt::from_u32(self as u32), b"");
        }
    }
}

/// All links of a node.
pub struct Links {
    me: DeviceId,
    clock: Clock,
    standing: Mutex<BTreeMap<DeviceId, Vec<Arc<Link>>>>,
    /// The links that stand, by the index of the fast packets sent to this end.
    fast: Mutex<BTreeMap<u32, Arc<Link>>>,
    events: UnboundedSender<LinkEvent>,
    handler: DatagramHandler,
    outgoing: ArrayQueue<(DeviceId, Bytes)>,
    flushed: Notify,
    dropped: Arc<AtomicU64>,
    tunnels: Arc<Tunnels>,
    /// Whether this node is an infrastructure relay.
    serves_crowds: AtomicBool,
    visits: Visits,
    awaited_check: AwaitedCheck,
    /// The devices to which NATs are being opened from both sides, and until when.
    punching: Mutex<BTreeMap<DeviceId, Timestamp>>,
    /// The addresses at which members have been.
    known: Mutex<Known>,
}

impl Links {
    /// Creates an empty set of links. Datagrams of links are given to `handler`. Each link that
    /// comes or ends is reported to `events`. There are at most a few for each device, because
    /// connections are limited.
    pub fn new(
        me: DeviceId,
        clock: Clock,
        events: UnboundedSender<LinkEvent>,
        handler: DatagramHandler,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            clock,
            standing: Mutex::default(),
            fast: Mutex::default(),
            events,
            handler,
            outgoing: ArrayQueue::new(OUTGOING_LIMIT),
            flushed: Notify::new(),
            dropped: Arc::default(),
            tunnels: Tunnels::new(me),
            serves_crowds: AtomicBool::new(false),
            visits: Visits::default(),
            awaited_check: AwaitedCheck::default(),
            punching: Mutex::default(),
            known: Mutex::default(),
        })
    }

    /// Sends `datagram` to `device` on its best link: by the fast path if it works, otherwise by
    /// QUIC. Never waits: the datagram is dropped if the socket has no room. If QUIC's buffer is
    /// full, the oldest datagram that QUIC has not sent yet is dropped. Both are counted.
    /// [PROTO-2.8]
    pub fn send(&self, device: DeviceId, datagram: Bytes) {
        let Some(outlet) = self.outlet(device) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if !outlet.send_fast(&datagram) {
            outlet.send_by_quic(datagram);
        }
    }

    /// Sends a heartbeat on every link to `device`, so that each link that still works stays in
    /// use, and moves the keys of these links forward. Call this each second. `datagram` is the
    /// heartbeat that is sent by QUIC, on the links that need one. [PROTO-2.7] [PROTO-2.13]
    /// [PROTO-8.8]
    pub fn send_heartbeat(&self, device: DeviceId, datagram: &Bytes) {
        let now = self.clock.now();
        let links = self.lock().get(&device).cloned().unwrap_or_default();
        for link in links {
            let renewed = link.fast.renew_keys();
            if link.is_relayed() {
                link.outlet().send_by_quic(datagram.clone());
            } else {
                let spares = self.serves_crowds.load(Ordering::Relaxed);
                let spares = spares || link.hello.member.is_none();
                link.fast.send_heartbeat(now, datagram, spares && !renewed);
            }
        }
    }

    /// A message with a key for `device` has been answered or has failed. The link keys change
    /// soon, so that nobody can open the packets that carried it afterwards. [PROTO-2.13]
    pub fn handle_key_passed(&self, device: DeviceId) {
        for link in self.lock().get(&device).into_iter().flatten() {
            link.fast.handle_key_passed();
        }
    }

    /// States that this node is an infrastructure relay: it has so many links that it spares QUIC's
    /// heartbeats. [PROTO-8.8]
    pub fn serve_crowds(&self) {
        self.serves_crowds.store(true, Ordering::Relaxed);
    }

    /// The sender of the best link of `device`, or of the visit with it. A caller that sends much
    /// keeps it, so that it need not be looked up each time. It is valid until that link ends or is
    /// replaced.
    pub fn outlet(&self, device: DeviceId) -> Option<Arc<DatagramSender>> {
        let link = self.best(device).map(|link| Arc::clone(link.outlet()));
        link.or_else(|| self.visits.outlet(device))
    }

    /// Sends `datagram` to `device` on its best link from the calling thread if the fast path
    /// works, and otherwise as [`Self::push`] does. Never waits. Any thread may call it.
    pub fn send_or_push(&self, device: DeviceId, datagram: &[u8]) {
        if !self.outlet(device).is_some_and(|outlet| outlet.send_fast(datagram)) {
            self.push(device, Bytes::copy_from_slice(datagram));
        }
    }

    /// Has the network thread send `datagram` to `device` after the next [`Self::flush`]. Any
    /// thread may call it. If 1,024 datagrams wait already, the oldest is dropped and counted.
    pub fn push(&self, device: DeviceId, datagram: Bytes) {
        if self.outgoing.force_push((device, datagram)).is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes the network thread once for all datagrams that were pushed, if there are any.
    pub fn flush(&self) {
        if !self.outgoing.is_empty() {
            self.flushed.notify_one();
        }
    }

    /// Sends the datagrams that are pushed. Runs on the network thread for as long as there are
    /// links.
    pub async fn run_sender(self: Arc<Self>) {
        loop {
            self.flushed.notified().await;
            while let Some((device, datagram)) = self.outgoing.pop() {
                self.send(device, datagram);
            }
        }
    }

    /// Counts direct links that others have dialled as silent, because one of our addresses is
    /// gone. QUIC moves a connection to another address only for the side that dialled it (RFC 9000
    /// section 9). Returns the devices with the addresses that they dialled from.
    pub fn forsake_accepted(&self) -> Vec<(DeviceId, SocketAddr)> {
        let standing = self.lock();
        let accepted = standing.values().flatten().filter(|link| !link.dialled);
        accepted
            .filter_map(|link| {
                let address = link.address()?;
                link.heard.store(0, Ordering::Relaxed);
                Some((link.device(), address))
            })
            .collect()
    }

    /// Ends the links to a device that no longer belongs to the organisation.
    pub fn close(&self, device: DeviceId) {
        for link in self.lock().get(&device).into_iter().flatten() {
            link.close(CloseCode::Refused);
        }
    }

    /// Ends all links and says goodbye.
    pub fn leave(&self) {
        for link in self.lock().values().flatten() {
            link.close(CloseCode::Left);
        }
    }

    /// The best link of each device.
    pub fn all(&self) -> Vec<Arc<Link>> {
        let now = self.clock.now();
        self.lock().values().filter_map(|links| best_of(links, now).cloned()).collect()
    }

    /// The tunnels, which know which relay leads to which device.
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }

    /// The address to which the packets of a link are sent, as people and programs see it.
    pub fn place_of(&self, link: &Link) -> Multiaddr {
        match (link.address(), self.tunnels.relay_to(link.device())) {
            (Some(address), _) => multiaddr_of(address),
            (None, Some(relay)) => {
                let relay = Multiaddr::empty().with(Protocol::P2p(relay.peer_id()));
                relay.with(Protocol::P2pCircuit)
            }
            (None, None) => Multiaddr::empty().with(Protocol::P2pCircuit),
        }
    }

    /// Announces that both sides open their NATs now. A direct link to `device` that comes about
    /// within 10 s counts as punched.
    pub fn expect_punched(&self, device: DeviceId) {
        let now = self.clock.now();
        let mut punching = lock(&self.punching);
        punching.retain(|_, until| *until > now);
        punching.insert(device, now + PUNCHED_WITHIN);
    }

    /// Sets the addresses at which members say that they can be reached, in place of the former
    /// ones. Handshakes from these addresses have places of their own at our door. The first 4,096
    /// addresses count. [PROTO-2.12]
    pub fn expect_from(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        lock(&self.known).tell(addresses);
    }

    /// Whether members have been at `address` or say that they are there.
    pub(super) fn has_known(&self, address: SocketAddr) -> bool {
        lock(&self.known).has(address)
    }

    /// The devices that have at least one link.
    pub fn devices(&self) -> BTreeSet<DeviceId> {
        self.lock().keys().copied().collect()
    }

    /// How many datagrams were dropped before they left this device.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The counter behind [`dropped`](Self::dropped), for parts that send on their own.
    pub(super) fn drops(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Takes a packet that is not QUIC's, from one of our sockets.
    pub(super) fn handle_fast(&self, packet: &mut [u8], from: SocketAddr, listens: bool) {
        let Some(index) = fast::index_of(packet) else {
            if listens {
                self.handle_check(packet);
            }
            return;
        };
        // [PROTO-8.6] Fast packets count only on links that stand.
        let Some(link) = lock(&self.fast).get(&index).cloned() else { return };
        let now = self.clock.now();
        let Some(opened) = link.fast.open(now, packet, from) else { return };
        link.heard.store(micros(now), Ordering::Relaxed);
        if let Opened::Datagram(datagram) = opened {
            self.handle_datagram(now, link.device(), Bytes::copy_from_slice(datagram));
        }
    }

    fn handle_datagram(&self, now: Timestamp, from: DeviceId, datagram: Bytes) {
        if !self.tunnels.receive(now, from, &datagram) {
            self.handle(now, from, datagram);
        }
    }

    /// Takes a datagram that is not a tunnel's.
    pub(super) fn handle(&self, now: Timestamp, from: DeviceId, datagram: Bytes) {
        (self.handler)(now, from, datagram);
    }

    pub(super) fn tell(&self, event: LinkEvent) {
        // Only the engine listens, and it ends with the process.
        let _ = self.events.send(event);
    }

    pub(super) fn awaited_check(&self) -> &AwaitedCheck {
        &self.awaited_check
    }

    pub(super) fn visits(&self) -> &Visits {
        &self.visits
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn me(&self) -> DeviceId {
        self.me
    }

    /// How the packets of a connection with `device` travel.
    pub(super) fn path_of(&self, device: DeviceId, connection: &Connection) -> Path {
        if tunnel::is_virtual(connection.remote_address()) {
            return Path::Relay;
        }
        if self.is_punching(device) { Path::Punched } else { Path::Direct }
    }

    /// Whether both sides are opening their NATs for a link with `device`.
    pub(super) fn is_punching(&self, device: DeviceId) -> bool {
        let now = self.clock.now();
        lock(&self.punching).get(&device).is_some_and(|until| *until > now)
    }

    /// Whether another link to `device` would be needless: a relayed one beside any link that
    /// works, or a direct one beside a direct one that works.
    pub(super) fn has_fresh(&self, device: DeviceId, relayed: bool) -> bool {
        let now = self.clock.now();
        let standing = self.lock();
        let links = standing.get(&device).into_iter().flatten();
        links.filter(|link| relayed || !link.is_relayed()).any(|link| !link.is_silent(now))
    }

    /// Takes a link that the swarm has accepted, and ends the links that it outlives.
    pub(super) fn admit(self: &Arc<Self>, link: Arc<Link>) {
        let now = self.clock.now();
        let device = link.device();
        let mut standing = self.lock();
        let links = standing.entry(device).or_default();
        links.retain(|old| {
            if old.hello.incarnation == link.hello.incarnation {
                return true;
            }
            // [PROTO-2.5] The device has restarted, so nobody is at the other end of the old link.
            old.close(CloseCode::OldIncarnation);
            false
        });
        // [PROTO-2.4] If both sides have dialled at the same time, only the device with the larger
        // id decides. The other one keeps both links until then.
        let decides = self.me > device;
        let mut survives = true;
        let mut relayed = Vec::new();
        links.retain(|old| {
            if old.is_relayed() && !link.is_relayed() {
                relayed.push(Arc::clone(old));
                return true;
            }
            let spared = link.is_relayed() && !old.is_relayed() && !old.is_silent(now);
            let settled = old.is_settled(now) && !spared;
            if settled || (decides && link.outlives(old, now)) {
                old.close(CloseCode::Duplicate);
                return false;
            }
            survives &= !decides;
            true
        });
        if !survives {
            link.close(CloseCode::Duplicate);
            return;
        }
        // The last link in the list is the best one.
        let position = links.iter().position(|old| link.yields_to(old, now));
        links.insert(position.unwrap_or(links.len()), Arc::clone(&link));
        drop(standing);
        self.visits.end(device);
        if let Some(address) = link.address() {
            lock(&self.known).see(now, address);
        }
        self.tell(LinkEvent::Up(Arc::clone(&link)));
        if !relayed.is_empty() {
            tokio::spawn(retire(relayed, Arc::clone(&link)));
        }
        // The packets of a relayed link stay with QUIC.
        if !link.is_relayed() {
            // [PROTO-8.2] Two links with the same index are so rare that the newer one has no fast
            // path.
            if let Entry::Vacant(place) = lock(&self.fast).entry(link.fast.index()) {
                place.insert(Arc::clone(&link));
            }
            let (kept, clock) = (Arc::clone(&link), self.clock);
            tokio::spawn(async move { kept.fast.keep(clock).await });
        }
        tokio::spawn(Arc::clone(self).read(link));
    }

    async fn read(self: Arc<Self>, link: Arc<Link>) {
        let device = link.device();
        let error = loop {
            match link.connection.read_datagram().await {
                Ok(datagram) => {
                    let now = self.clock.now();
                    link.heard.store(micros(now), Ordering::Relaxed);
                    link.fast.handle_quic();
                    // [PROTO-8.9] An empty datagram only shows where the peer is.
                    if !datagram.is_empty() {
                        self.handle_datagram(now, device, datagram);
                    }
                }
                Err(error) => break error,
            }
        };
        self.end_fast(&link);
        tracing::debug!(?device, %error, "link ended");
        let mut standing = self.lock();
        let Some(links) = standing.get_mut(&device) else { return };
        let before = links.len();
        let was_best = links.last().is_some_and(|best| Arc::ptr_eq(best, &link));
        links.retain(|other| !Arc::ptr_eq(other, &link));
        if let Some(best) = links.last() {
            if was_best {
                let _ = self.events.send(LinkEvent::Changed(Arc::clone(best)));
            }
            return;
        }
        standing.remove(&device);
        if before > 0 {
            let _ = self.events.send(LinkEvent::Down(device, reason(&error)));
        }
    }

    fn end_fast(&self, link: &Arc<Link>) {
        link.fast.end();
        if let Entry::Occupied(place) = lock(&self.fast).entry(link.fast.index())
            && Arc::ptr_eq(place.get(), link)
        {
            place.remove();
        }
    }

    /// The best link of `device`.
    pub fn best(&self, device: DeviceId) -> Option<Arc<Link>> {
        match &self.lock().get(&device)?[..] {
            [only] => Some(Arc::clone(only)),
            links => best_of(links, self.clock.now()).cloned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Vec<Arc<Link>>>> {
        lock(&self.standing)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are consistent between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The link that packets take: the newest in the list that is not silent, or the last one if all
/// are.
fn best_of(links: &[Arc<Link>], now: Timestamp) -> Option<&Arc<Link>> {
    links.iter().rev().find(|link| !link.is_silent(now)).or(links.last())
}

/// Ends relayed links once the `direct` one has carried a datagram, but at the earliest a second
/// after this begins. Packets that are under way on the relayed links then still arrive.
/// [PROTO-2.4] [PROTO-2.22]
async fn retire(relayed: Vec<Arc<Link>>, direct: Arc<Link>) {
    while direct.connection.close_reason().is_none() {
        tokio::time::sleep(RETIRED_AFTER).await;
        if direct.heard() > direct.since {
            for link in &relayed {
                link.close(CloseCode::Duplicate);
            }
            return;
        }
    }
}

fn reason(error: &ConnectionError) -> LinkDown {
    match error {
        ConnectionError::ApplicationClosed(close)
            if close.error_code == VarInt::from_u32(CloseCode::Left as u32) =>
        {
            LinkDown::Left
        }
        ConnectionError::TimedOut => LinkDown::Unreachable,
        ConnectionError::Reset => LinkDown::Restarted,
        _ => LinkDown::Closed,
    }
}

fn micros(now: Timestamp) -> u64 {
    u64::try_from(now.as_duration().as_micros()).unwrap_or(u64::MAX)
}

/// Most datagrams that wait for the network thread: a tenth of a second of speech to a hundred
/// listeners.
const OUTGOING_LIMIT: usize = 1024;

/// A link that has stood for this long was not dialled at the same time as one that comes now.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// How long relayed links stay beside a direct one, and how often we look whether the direct one
/// works.
const RETIRED_AFTER: Duration = Duration::from_secs(1);

/// A direct link that comes about later than this does not owe that to the other side's help.
const PUNCHED_WITHIN: Duration = Duration::from_secs(10);

/// A link without a datagram for this long has missed a heartbeat, and a fresh link is preferred to
/// it.
const STALE_AFTER: Duration = Duration::from_millis(1_500);
