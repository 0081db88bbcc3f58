//! The fast path: a link's datagrams as packets of their own, beside QUIC on the same socket.
//!
//! ```text
//!  Links::send, DatagramSender::send ──> DatagramSender ── seal ──> socket ──> …
//!                                  └─ where it does not work: QUIC
//!  … ──> FastSocket ──┬─ QUIC's packets ──> quinn
//!                     └─ ours ──> Links ── open ──> DatagramHandler
//!                                           └─ probes, answers ──> Probing: does it work?
//! ```
//!
//! Specified in `docs/protocol.md`, section 8.

mod probing;
mod sender;
mod socket;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hark_keys::{
    Random, Timestamp,
    fast::{self, EXPORT_LABEL, EXPORT_LENGTH, Kind, Opener, Token},
    noise::KeyPhase,
};
use quinn::{AsyncUdpSocket, Connection};
use tokio::{sync::Notify, time::sleep};
use zeroize::Zeroizing;

use self::probing::Probing;
pub use self::sender::DatagramSender;
pub(super) use self::socket::FastSocket;
use super::{socket::PlainSocket, transport::LinkError};
use crate::clock::Clock;

/// The fast path of one link.
pub(super) struct FastPath {
    connection: Connection,
    dialled: bool,
    random: Arc<dyn Random>,
    index: u32,
    opener: Mutex<Opener>,
    outlet: Arc<DatagramSender>,
    state: Mutex<State>,
    /// Whether a message with a key has passed since QUIC's keys were last changed for such a
    /// message.
    key_passed: AtomicBool,
    /// Wakes [`keep`](Self::keep) when something has happened that it did not expect.
    look: Notify,
}

/// The state of the fast path that changes with the address it uses.
struct State {
    probing: Probing,
    /// How many answers to its path challenges QUIC had received when the address was last the one
    /// that we send to.
    validations: u64,
    /// Whether QUIC has left that address since then.
    astray: bool,
    /// When a notice was last sent or acted on.
    noticed: Option<Timestamp>,
    /// Seconds that [`FastPath::renew_keys`] has counted. The count starts at a number that depends
    /// on the index.
    seconds: u32,
}

impl State {
    /// Whether a notice may be sent or acted on again. If so, `now` counts as the time of the last
    /// one.
    fn notice_is_due(&mut self, now: Timestamp) -> bool {
        let due =
            self.noticed.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_NOTICES);
        if due {
            self.noticed = Some(now);
        }
        due
    }
}

impl FastPath {
    /// Creates the fast path of a connection whose packets are sent and received through `socket`.
    pub(super) fn new(
        connection: Connection,
        dialled: bool,
        (socket, plain): (Arc<dyn AsyncUdpSocket>, Option<Arc<dyn PlainSocket>>),
        random: Arc<dyn Random>,
        dropped: Arc<AtomicU64>,
        now: Timestamp,
    ) -> Result<Self, LinkError> {
        let mut exported = Zeroizing::new([0; EXPORT_LENGTH]);
        connection
            .export_keying_material(exported.as_mut(), EXPORT_LABEL, b"")
            .map_err(|_| LinkError::NoIdentity)?;
        let (sealer, opener) = fast::keys(&exported, dialled);
        let outlet = DatagramSender::new(connection.clone(), socket, plain, sealer, dropped);
        let validations = validations(&connection);
        let probing = Probing::new(now);
        let index = opener.index();
        // Links that came about at the same moment then send their QUIC heartbeats and change their
        // keys at different times.
        let seconds = index % LISTENERS_QUIC_EVERY;
        let state = State { probing, validations, astray: false, noticed: None, seconds };
        Ok(Self {
            connection,
            dialled,
            random,
            index,
            opener: Mutex::new(opener),
            outlet: Arc::new(outlet),
            state: Mutex::new(state),
            key_passed: AtomicBool::new(false),
            look: Notify::new(),
        })
    }

    /// The index that marks packets sent to this end.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn outlet(&self) -> &Arc<DatagramSender> {
        &self.outlet
    }

    /// Opens an authentic packet in place and returns the datagram in it, if it holds one. Returns
    /// `None` if the packet is not authentic; nothing has changed then.
    pub(super) fn open<'a>(
        &self,
        now: Timestamp,
        packet: &'a mut [u8],
        from: SocketAddr,
    ) -> Option<Opened<'a>> {
        if self.outlet.has_ended() {
            return None;
        }
        let length = packet.len();
        let (kind, payload) = match lock(&self.opener).open(packet) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::trace!(%error, "fast packet refused");
                return None;
            }
        };
        // Only the side that dialled can move a QUIC connection to another address.
        if self.outlet.handle_source(now, from, length, !self.dialled) {
            self.on_elsewhere(now, from);
        }
        if kind == Kind::Datagram {
            return Some(Opened::Datagram(payload));
        }
        let mut state = lock(&self.state);
        if kind == Kind::Heartbeat {
            if let Some(next) = payload.first_chunk() {
                let (rtt, next) = (self.connection.rtt(), u32::from_be_bytes(*next));
                state.probing.handle_heartbeat(now, rtt, next);
            }
            return Some(Opened::Other);
        }
        match (kind, Token::try_from(&*payload)) {
            (Kind::Probe, Ok(token)) => {
                state.probing.handle_probe(now);
                self.look.notify_one();
                // [PROTO-8.7] The answer is sent to the connection's address, wherever the probe
                // came from.
                self.outlet.answer(token);
            }
            (Kind::Answer, Ok(token)) => {
                let asked = state.probing.handle_answer(now, self.connection.rtt(), token);
                self.on_answer(&mut state, asked);
            }
            // [PROTO-8.9] From the source of a QUIC packet, QUIC at the other end learns where we
            // are.
            (Kind::Notice, _) if self.dialled && state.notice_is_due(now) => {
                self.outlet.send_by_quic(Bytes::new());
            }
            _ => {}
        }
        Some(Opened::Other)
    }

    fn on_answer(&self, state: &mut State, asked: bool) {
        if !asked || state.astray {
            return;
        }
        if !self.outlet.is_fast() {
            tracing::debug!(address = %self.outlet.address(), "fast path works");
        }
        self.outlet.set_works(true);
    }

    /// An authentic packet has come from an address other than the one that we send to.
    fn on_elsewhere(&self, now: Timestamp, from: SocketAddr) {
        if self.connection.remote_address() == from {
            self.look.notify_one();
        } else if !self.dialled && lock(&self.state).notice_is_due(now) {
            // [PROTO-8.9]
            self.outlet.notice(from);
        }
    }

    /// QUIC has received something, perhaps from another address than before.
    pub(super) fn handle_quic(&self) {
        if self.connection.remote_address() != self.outlet.address() {
            self.look.notify_one();
        }
    }

    /// A message with a key has been delivered or has failed. QUIC's keys change at the next second
    /// for that reason. [PROTO-2.13]
    pub(super) fn handle_key_passed(&self) {
        self.key_passed.store(true, Ordering::Relaxed);
    }

    /// Counts a second, and moves the keys of the link forward when it is time. After that, the
    /// memory of neither end can open what was sent a minute ago. Returns whether the next
    /// heartbeat must be sent by QUIC, so that QUIC's keys change at the other end and the former
    /// keys are erased. [PROTO-2.13]
    pub(super) fn renew_keys(&self) -> bool {
        let mut state = lock(&self.state);
        state.seconds = state.seconds.wrapping_add(1);
        let due = state.seconds.is_multiple_of(RENEW_EVERY);
        drop(state);
        lock(&self.opener).pass_second();
        if due {
            self.outlet.renew_key();
        }
        // An update by one end is enough: it changes the keys of both directions.
        let by_clock = due && self.dialled;
        if !by_clock && !self.key_passed.load(Ordering::Relaxed) {
            return false;
        }
        let before = key_phase(&self.connection);
        self.connection.force_key_update();
        // QUIC starts no update while another one is under way.
        if key_phase(&self.connection) != before {
            self.key_passed.store(false, Ordering::Relaxed);
        }
        true
    }

    /// Sends a heartbeat by the fast path if that works, and `datagram` by QUIC. From the latter
    /// QUIC knows that the peer lives, what the round trip is and where the peer is. With `spare`,
    /// QUIC's heartbeat is sent only now and then, and whenever the fast path does not work or may
    /// not work. Call this each second, after [`renew_keys`](Self::renew_keys). [PROTO-2.7]
    /// [PROTO-8.8]
    pub(super) fn send_heartbeat(&self, now: Timestamp, datagram: &Bytes, spare: bool) {
        if self.step(now).is_some() {
            self.look.notify_one();
        }
        let next = lock(&self.opener).next();
        let mut state = lock(&self.state);
        let is_fast = self.outlet.is_fast();
        if is_fast {
            // The lower half is enough to tell which packet is meant.
            let ours = self.outlet.heartbeat(next as u32);
            state.probing.handle_sent(now, ours);
        }
        let every = if self.dialled { DIALLERS_QUIC_EVERY } else { LISTENERS_QUIC_EVERY };
        let due = !spare || state.seconds.is_multiple_of(every);
        if !is_fast || state.probing.asks() || due {
            self.outlet.send_by_quic(datagram.clone());
        }
    }

    /// Probes the fast path for as long as the link stands, whenever the other end's heartbeats do
    /// not show that packets arrive.
    pub(super) async fn keep(&self, clock: Clock) {
        while !self.outlet.has_ended() {
            let now = clock.now();
            match self.step(now) {
                Some(due) => tokio::select! {
                    biased;
                    () = self.look.notified() => {}
                    () = sleep(due.saturating_duration_since(now)) => {}
                },
                None => self.look.notified().await,
            }
        }
    }

    /// Ends the fast path: no more packets are taken or sent.
    pub(super) fn end(&self) {
        self.outlet.end();
        self.look.notify_one();
    }

    /// Does what is due. Returns when something is due again, or `None` if it is soon enough to
    /// look at the next heartbeat.
    fn step(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = lock(&self.state);
        let address = self.connection.remote_address();
        let validations = validations(&self.connection);
        if address != self.outlet.address() {
            self.outlet.set_works(false);
            state.astray = true;
            if validations == state.validations {
                // [PROTO-8.6] QUIC has sent a path challenge there, too, and waits for the answer.
                return Some(now + AWAIT_VALIDATION);
            }
            tracing::debug!(%address, "fast path follows");
            self.outlet.turn_to(address);
        }
        state.validations = validations;
        if std::mem::take(&mut state.astray) {
            state.probing = Probing::new(now);
        }
        self.outlet.set_longest(self.connection.max_datagram_size().unwrap_or(0));
        if let Some(token) = state.probing.poll(now, self.connection.rtt(), &*self.random) {
            self.outlet.probe(token);
        }
        if !state.probing.works() && self.outlet.is_fast() {
            tracing::debug!(%address, "fast path does not work any more");
            self.outlet.set_works(false);
        }
        let awaits = state.probing.asks() || !state.probing.works();
        awaits.then(|| state.probing.due())
    }
}

/// The contents of an authentic packet.
pub(super) enum Opened<'a> {
    /// A datagram of the link.
    Datagram(&'a [u8]),
    /// A packet of the fast path itself: a probe, an answer, a heartbeat or a notice.
    Other,
}

/// How many answers to its path challenges QUIC has received.
fn validations(connection: &Connection) -> u64 {
    connection.stats().frame_rx.path_response
}

/// How often QUIC's keys have changed. `None` before the connection has its 1-RTT keys.
fn key_phase(connection: &Connection) -> Option<KeyPhase> {
    connection.handshake_data()?.downcast().ok().map(|phase| *phase)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind these locks is consistent between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The least time between two notices. A lower value finds a peer sooner whose notices get lost.
const BETWEEN_NOTICES: Duration = Duration::from_millis(100);

/// One in this many heartbeats of the side that dialled is sent by QUIC as well, which costs as
/// much as ten by the fast path. It keeps the connection from its idle timeout of 30 s at both
/// ends, since QUIC repeats a lost one at once (RFC 9002 section 6.2). If nothing gets through any
/// more, heartbeats are sent by QUIC each second, and the first of them restarts the timeout (RFC
/// 9000 section 10.1).
const DIALLERS_QUIC_EVERY: u32 = 20;

/// The same for the side that was dialled, which needs QUIC's heartbeats only to measure its round
/// trip.
const LISTENERS_QUIC_EVERY: u32 = 60;

/// Seconds between two changes of a link's keys by the clock. With a lower value, an attacker who
/// takes the memory of an end can open less. Each change costs some key derivations and a QUIC
/// packet each way, so the interval is the one at which the dialling side sends a QUIC packet
/// anyway.
const RENEW_EVERY: u32 = DIALLERS_QUIC_EVERY;

/// How long to wait before looking again whether QUIC has validated a new address.
const AWAIT_VALIDATION: Duration = Duration::from_millis(50);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
