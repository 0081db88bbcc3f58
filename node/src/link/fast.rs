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
    /// Whether a message with a key has passed since QUIC's keys were last changed for that.
    key_passed: AtomicBool,
    /// Something has happened that [`keep`](Self::keep) did not expect.
    look: Notify,
}

/// What changes with the path.
struct State {
    probing: Probing,
    /// Answers to QUIC's path challenges while the address was the one that we send to.
    validations: u64,
    /// Whether QUIC has left that address since.
    astray: bool,
    /// When the last notice was sent or heeded.
    noticed: Option<Timestamp>,
    /// How many seconds [`FastPath::renew_keys`] has counted, from some number on.
    seconds: u32,
}

impl State {
    /// Whether a notice may be sent or heeded again.
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
    /// Of a connection whose packets come and go by `socket`.
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
        // Many links that came about together have their heartbeats by QUIC, and their new keys, at
        // different times.
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

    /// The index of packets that come to this end.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn outlet(&self) -> &Arc<DatagramSender> {
        &self.outlet
    }

    /// Opens a packet in place; the datagram in it, if it is one. None where it was not authentic:
    /// then nothing has changed.
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
        // Only who has dialled can take a QUIC connection elsewhere.
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
                // [PROTO-8.7] To the connection's address, wherever the probe came from.
                self.outlet.answer(token);
            }
            (Kind::Answer, Ok(token)) => {
                let asked = state.probing.handle_answer(now, self.connection.rtt(), token);
                self.on_answer(&mut state, asked);
            }
            // [PROTO-8.9] Where a packet of QUIC comes from, QUIC knows where we are.
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

    /// An authentic packet has come from where we do not send to.
    fn on_elsewhere(&self, now: Timestamp, from: SocketAddr) {
        if self.connection.remote_address() == from {
            self.look.notify_one();
        } else if !self.dialled && lock(&self.state).notice_is_due(now) {
            // [PROTO-8.9]
            self.outlet.notice(from);
        }
    }

    /// QUIC has received something, perhaps from elsewhere than before.
    pub(super) fn handle_quic(&self) {
        if self.connection.remote_address() != self.outlet.address() {
            self.look.notify_one();
        }
    }

    /// A message with a key has been delivered, or has come to nothing: QUIC's keys change with the
    /// next second. [PROTO-2.13]
    pub(super) fn handle_key_passed(&self) {
        self.key_passed.store(true, Ordering::Relaxed);
    }

    /// A second has passed: moves the keys of the link forward where it is time, so that the memory
    /// of neither end opens what was sent a minute ago. Says whether the next heartbeat must be
    /// QUIC's, for its keys to change at the other end and for the former ones to be erased.
    /// [PROTO-2.13]
    pub(super) fn renew_keys(&self) -> bool {
        let mut state = lock(&self.state);
        state.seconds = state.seconds.wrapping_add(1);
        let due = state.seconds.is_multiple_of(RENEW_EVERY);
        drop(state);
        lock(&self.opener).pass_second();
        if due {
            self.outlet.renew_key();
        }
        // One end is enough: an update changes the keys of both directions.
        let by_clock = due && self.dialled;
        if !by_clock && !self.key_passed.load(Ordering::Relaxed) {
            return false;
        }
        let before = key_phase(&self.connection);
        self.connection.force_key_update();
        // While an update is under way there is no other.
        if key_phase(&self.connection) != before {
            self.key_passed.store(false, Ordering::Relaxed);
        }
        true
    }

    /// Sends a sign of life, by the fast path where that works, and `datagram` by QUIC, which so
    /// knows that the peer lives, how far away it is, and where. To `spare` QUIC, only now and
    /// then, and where the fast path does not work, or may not. To be called each second, after
    /// [`renew_keys`](Self::renew_keys). [PROTO-2.7] [PROTO-8.8]
    pub(super) fn send_heartbeat(&self, now: Timestamp, datagram: &Bytes, spare: bool) {
        if self.step(now).is_some() {
            self.look.notify_one();
        }
        let next = lock(&self.opener).next();
        let mut state = lock(&self.state);
        let is_fast = self.outlet.is_fast();
        if is_fast {
            // The lower half is enough to tell which it is.
            let ours = self.outlet.heartbeat(next as u32);
            state.probing.handle_sent(now, ours);
        }
        let every = if self.dialled { DIALLERS_QUIC_EVERY } else { LISTENERS_QUIC_EVERY };
        let due = !spare || state.seconds.is_multiple_of(every);
        if !is_fast || state.probing.asks() || due {
            self.outlet.send_by_quic(datagram.clone());
        }
    }

    /// Asks the other end whether packets get through where its heartbeats do not say so, for as
    /// long as the link stands.
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

    /// Nothing more is taken or sent.
    pub(super) fn end(&self) {
        self.outlet.end();
        self.look.notify_one();
    }

    /// Does what is due, and tells when something will be again; none where the next heartbeat is
    /// soon enough to look.
    fn step(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = lock(&self.state);
        let address = self.connection.remote_address();
        let validations = validations(&self.connection);
        if address != self.outlet.address() {
            self.outlet.set_works(false);
            state.astray = true;
            if validations == state.validations {
                // [PROTO-8.6] QUIC has asked there, too, and waits for an answer.
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

/// What an authentic packet was.
pub(super) enum Opened<'a> {
    /// A datagram of the link.
    Datagram(&'a [u8]),
    /// The fast path's own affair.
    Other,
}

/// How many answers to its path challenges QUIC has had.
fn validations(connection: &Connection) -> u64 {
    connection.stats().frame_rx.path_response
}

/// How often QUIC's keys have changed.
fn key_phase(connection: &Connection) -> Option<KeyPhase> {
    connection.handshake_data()?.downcast().ok().map(|phase| *phase)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind them is whole between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The least time between two notices. Lower finds a peer sooner whose notices get lost.
const BETWEEN_NOTICES: Duration = Duration::from_millis(100);

/// Of so many heartbeats of the side that has dialled one goes by QUIC, too, which costs as much as
/// ten by the fast path. It keeps the connection from its idle timeout of 30 s at both ends: QUIC
/// repeats a lost one at once (RFC 9002 section 6.2), and where nothing gets through any more
/// heartbeats go by QUIC each second, the first of which begins the timeout anew (RFC 9000 section
/// 10.1).
const DIALLERS_QUIC_EVERY: u32 = 20;

/// The same for the other side, which needs them for its round trip only.
const LISTENERS_QUIC_EVERY: u32 = 60;

/// Seconds between two changes of a link's keys by the clock. Lower leaves less to whoever takes
/// the memory of an end; each costs some key derivations, and a packet of QUIC each way: as often
/// as the side that has dialled sends one anyway.
const RENEW_EVERY: u32 = DIALLERS_QUIC_EVERY;

/// How long to wait before looking again whether QUIC has validated a new address.
const AWAIT_VALIDATION: Duration = Duration::from_millis(50);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
