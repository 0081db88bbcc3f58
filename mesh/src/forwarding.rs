//! How a relay forwards voice: one datagram comes in, and each attached listener gets it. [section
//! 9 of docs/protocol.md]
//!
//! A [`Forwarder`] serves one organisation. It reads headers and knows no key. The control side
//! tells it which devices are attached, what each listens to, what the charter says and which
//! routes talkers have declared. The lists of listeners follow from these, and are kept until
//! something changes.
//!
//! ```text
//! handle_datagram ──> parse ── rate ── route ── seen before? ── loudest? ──> queue of the talker
//!                                                                                   │ in turn
//! poll_transmit <── bundle of the listener <── copies it wants <── next listener <──┘ not if late
//! ```
//!
//! The driver polls until there is nothing to send, and looks at its socket and its clock in
//! between. A frame for a thousand listeners takes a thousand polls.

mod bundle;
mod frames;
mod incoming;
mod introductions;
mod limits;
mod loudest;
mod outgoing;
mod routes;
mod sessions;
mod statistics;
#[cfg(test)]
mod tests;
mod uplink;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_charter::{State, content::ChannelMode};
use hark_keys::{ChannelId, DeviceId, MemberId, Timestamp};

use self::{
    frames::Frames,
    introductions::Waiting,
    limits::{Bucket, OUT_BURST},
    loudest::Contest,
    routes::{Declared, FanOuts},
    sessions::{Place, Sessions},
    statistics::Members,
};
pub use self::{
    limits::{Limits, Rate},
    routes::{ForwardRoute, ONLY_MAX, ROUTES_MAX},
    statistics::{Statistics, Traffic},
};
use crate::{
    datagram::{DropReason, FromMember, Seen, Slot},
    message::LISTENING_MAX,
};

/// Forwards the voice and the tunnels of one organisation.
pub struct Forwarder {
    limits: Limits,
    sessions: Sessions,
    /// The routes of each session, by its index.
    routes: Vec<Vec<Declared>>,
    fan_outs: FanOuts,
    /// The channels where only the loudest talkers are forwarded.
    contests: BTreeMap<ChannelId, Contest>,
    members: Members,
    departures: u64,
    frames: Frames,
    /// The talkers with frames in their queues. Each one sends one frame per turn.
    ready: VecDeque<Slot>,
    /// Id of the frame that is being sent.
    current: Option<u32>,
    /// The bundles that wait, in the order in which they are due.
    held: VecDeque<(Timestamp, Place)>,
    /// The talkers that are talking, and when they and their listeners are next informed.
    talkers: Vec<Slot>,
    tick_at: Option<Timestamp>,
    signals: VecDeque<Signal>,
    /// The listeners that are to be told which device has which slot.
    introductions: Waiting,
    introduced: bool,
    /// The same for newcomers and the doors at which they knock.
    knocks: VecDeque<(Place, Slot, DeviceId)>,
    /// Talkers of which nothing has come recently: highest sequence, and their listeners.
    stalled: Vec<(Slot, u16, Arc<Vec<Place>>)>,
    out: Bucket,
    /// When anything last had to wait for the organisation's rate.
    waited_at: Option<Timestamp>,
    /// The bytes to send next, if they are not a frame by themselves.
    spare: Vec<u8>,
    /// Traffic of all sessions, without the part that is still counted with the sessions.
    total: Traffic,
    now: Timestamp,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardTransmit<'a> {
    /// Slot of the receiver.
    pub to: Slot,
    /// The datagram, of kind 5 to 9, 11 or 12.
    pub bytes: &'a [u8],
}

/// Reasons why a device was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// As many devices as allowed are attached, or too many have left within a minute.
    #[error("too many devices are attached")]
    Full,
}

/// Reasons why a route was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The device is not attached.
    #[error("not attached")]
    NotAttached,
    /// There are [`ROUTES_MAX`] already.
    #[error("too many routes")]
    TooMany,
    /// Its lists are not in order, or it reaches nobody.
    #[error("a target that makes no sense")]
    Unsound,
}

/// Something that the relay itself reports.
enum Signal {
    Seen(Place, Seen),
    Pulse(Place),
}

/// What is sent next: where its bytes are, and how many deliveries it holds.
enum Picked {
    Frame { to: Place, id: u32, length: usize, deliveries: u64 },
    Spare { to: Place, start: usize, deliveries: u64 },
}

impl Forwarder {
    /// Creates a forwarder with no device attached and nobody permitted anything.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: Sessions::default(),
            routes: Vec::new(),
            fan_outs: FanOuts::default(),
            contests: BTreeMap::new(),
            members: Members::default(),
            departures: 0,
            frames: Frames::default(),
            ready: VecDeque::new(),
            current: None,
            held: VecDeque::new(),
            talkers: Vec::new(),
            tick_at: None,
            signals: VecDeque::new(),
            introductions: Waiting::default(),
            introduced: false,
            knocks: VecDeque::new(),
            stalled: Vec::new(),
            out: Bucket::default(),
            waited_at: None,
            spare: Vec::new(),
            total: Traffic::default(),
            now: Timestamp::ZERO,
        }
    }

    /// Sets the limits from now on. Attached devices stay attached, even if there are too many now.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.out = Bucket::default();
    }

    /// Attaches a device. Without a member in good standing it neither talks nor hears. An attached
    /// device keeps its slot, unless the device belongs to another member now. [PROTO-9.1]
    pub fn attach(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        member: Option<MemberId>,
    ) -> Result<Slot, AttachError> {
        if let Some(slot) = self.sessions.slot_of(device) {
            if self.member_of(slot) == member {
                return Ok(slot);
            }
            self.detach(now, device);
        }
        if self.sessions.len() >= usize::from(self.limits.sessions) {
            return Err(AttachError::Full);
        }
        let sessions_max = usize::from(self.limits.sessions);
        let member = member.map(|id| (id, self.members.enter(id, sessions_max)));
        let Some(place) = self.sessions.attach(now, device, member) else {
            if let Some((_, number)) = member {
                self.members.leave(number, self.departures);
            }
            return Err(AttachError::Full);
        };
        if self.routes.len() <= usize::from(place.index) {
            self.routes.push(Vec::new());
        }
        self.fan_outs.note(place.slot);
        Ok(place.slot)
    }

    /// Attaches a newcomer. It may only exchange packets with members at which it knocks. A device
    /// that is already attached as something else is not attached as a newcomer. [PROTO-9.16]
    pub fn attach_newcomer(
        &mut self,
        now: Timestamp,
        device: DeviceId,
    ) -> Result<Slot, AttachError> {
        if self.sessions.slot_of(device).is_some() && !self.is_newcomer(device) {
            return Err(AttachError::Full);
        }
        let slot = self.attach(now, device, None)?;
        let session = self.sessions.get_mut(slot).expect("it was attached just now");
        session.doors.get_or_insert_default();
        Ok(slot)
    }

    /// Whether a device is attached as a newcomer.
    pub fn is_newcomer(&self, device: DeviceId) -> bool {
        let session = self.sessions.slot_of(device).and_then(|slot| self.sessions.get(slot));
        session.is_some_and(|session| session.doors.is_some())
    }

    /// Ends the session of a device: its routes, and everything from or for it that has not been
    /// sent.
    pub fn detach(&mut self, now: Timestamp, device: DeviceId) {
        let Some(slot) = self.sessions.slot_of(device) else { return };
        let Some(session) = self.sessions.get(slot) else { return };
        let outlet = &self.sessions.outlets[usize::from(session.place.index)];
        let went = (outlet.datagrams, outlet.bytes, outlet.deliveries);
        let Some(session) = self.sessions.detach(now, slot) else { return };
        self.total.went(went.0, went.1, went.2);
        if let Some((_, number)) = session.member {
            self.members.get_mut(number).traffic.went(went.0, went.1, went.2);
            self.departures += 1;
            self.members.leave(number, self.departures);
        }
        for declared in std::mem::take(&mut self.routes[usize::from(session.place.index)]) {
            self.fan_outs.release(&declared);
        }
        let current = self.current.take_if(|id| self.frames.get(*id).from.slot == slot);
        for id in session.queue.into_iter().chain(current) {
            self.frames.release(id);
        }
        self.ready.retain(|ready| *ready != slot);
        self.talkers.retain(|talker| *talker != slot);
        self.stalled.retain(|(talker, ..)| *talker != slot);
        self.fan_outs.note(slot);
    }

    /// Sets what a device listens to. If there are more than 64 channels, the last ones are left
    /// out.
    pub fn set_listening(&mut self, slot: Slot, channels: impl IntoIterator<Item = ChannelId>) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let listening = channels.into_iter().take(LISTENING_MAX).collect();
        if session.listening != listening {
            session.listening = listening;
            self.fan_outs.note(slot);
        }
    }

    /// Sets the state of the charter. The caller must also detach devices that no longer belong.
    pub fn set_state(&mut self, state: &State) {
        let places = |channel: ChannelId| match state.channel(channel)?.mode {
            ChannelMode::Loudest(places) => Some(places),
            ChannelMode::Open | ChannelMode::Floor(_) => None,
        };
        self.contests.retain(|channel, _| places(*channel).is_some());
        for channel in state.channels().map(|channel| channel.id) {
            if let Some(places) = places(channel) {
                self.contests.entry(channel).or_insert_with(|| Contest::new(places)).places =
                    places;
            }
        }
        self.fan_outs.set_state(state.clone());
    }

    /// Declares a route. It replaces the one with the same tag, if there is one. [PROTO-9.9]
    pub fn set_route(&mut self, slot: Slot, route: ForwardRoute) -> Result<(), RouteError> {
        let session = self.sessions.get(slot).ok_or(RouteError::NotAttached)?;
        if !route.target.is_sound() {
            return Err(RouteError::Unsound);
        }
        let routes = &mut self.routes[usize::from(session.place.index)];
        match routes.iter().position(|it| it.route.tag == route.tag) {
            Some(at) if routes[at].route == route => {}
            Some(at) => {
                self.fan_outs.release(&routes[at]);
                routes[at] = Declared::new(route);
            }
            None if routes.len() == ROUTES_MAX => return Err(RouteError::TooMany),
            None => routes.push(Declared::new(route)),
        }
        Ok(())
    }

    /// Forgets a route. Frames that have already come by it are still sent.
    pub fn remove_route(&mut self, slot: Slot, tag: [u8; 4]) {
        let Some(session) = self.sessions.get(slot) else { return };
        let routes = &mut self.routes[usize::from(session.place.index)];
        if let Some(at) = routes.iter().position(|it| it.route.tag == tag) {
            self.fan_outs.release(&routes.remove(at));
        }
    }

    /// Takes a datagram of kind 4, 6, 10 or 12 from a device. A dropped datagram is counted.
    pub fn handle_datagram(
        &mut self,
        now: Timestamp,
        slot: Slot,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        self.now = now;
        self.total.came(bytes.len());
        let member = self.sessions.get(slot).and_then(|session| session.member);
        if let Some((_, number)) = member {
            self.members.get_mut(number).traffic.came(bytes.len());
        }
        let result = match FromMember::parse(bytes) {
            Ok(FromMember::Forward(forward)) => self.forward(now, slot, bytes, &forward),
            Ok(FromMember::Tunnel(tunnel)) => self.tunnel(now, slot, bytes.len(), &tunnel),
            Ok(FromMember::Report(report)) => self.report(now, slot, bytes.len(), &report),
            Ok(FromMember::Knock(knock)) => self.knock(now, slot, bytes.len(), knock.device),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = result {
            self.drop(member.map(|(_, number)| number), reason, 1);
        }
        result
    }

    /// Returns the next datagram to send; `None` if there is nothing to send for now. Call it again
    /// after [`Self::handle_datagram`], and at [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<ForwardTransmit<'_>> {
        self.now = now;
        if self.tick_at.is_some_and(|at| at <= now) {
            self.tick(now);
        }
        let (to, bytes, deliveries) = match self.pick(now)? {
            Picked::Frame { to, id, length, deliveries } => {
                (to, &self.frames.get(id).bytes[..length], deliveries)
            }
            Picked::Spare { to, start, deliveries } => (to, &self.spare[start..], deliveries),
        };
        let outlet = &mut self.sessions.outlets[usize::from(to.index)];
        outlet.sent_at = now;
        outlet.datagrams += 1;
        outlet.bytes += bytes.len() as u64;
        outlet.deliveries += deliveries;
        self.out.charge(now, self.limits.out, bytes.len());
        Some(ForwardTransmit { to: to.slot, bytes })
    }

    /// When [`Self::poll_transmit`] may next have something.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let introduces = !self.introductions.is_empty() || !self.knocks.is_empty();
        let waits = self.current.is_some() || !self.ready.is_empty() || introduces;
        let held = self.held.front().map(|(due, _)| *due);
        let due = if waits { Some(self.now) } else { held };
        let due = due.map(|due| due.max(self.out.ready_at(OUT_BURST)));
        let signal = (!self.signals.is_empty()).then_some(self.now);
        [due, signal, self.tick_at].into_iter().flatten().min()
    }

    /// The slot of a device.
    pub fn slot_of(&self, device: DeviceId) -> Option<Slot> {
        self.sessions.slot_of(device)
    }

    /// The device in a slot.
    pub fn device_of(&self, slot: Slot) -> Option<DeviceId> {
        self.sessions.get(slot).map(|session| session.device)
    }

    /// The member whose device is in a slot.
    pub fn member_of(&self, slot: Slot) -> Option<MemberId> {
        self.sessions.get(slot)?.member.map(|(member, _)| member)
    }

    /// Counters of what was carried.
    pub fn statistics(&self) -> Statistics {
        let mut total = self.total.clone();
        let mut members = self.members.traffic();
        for session in self.sessions.iter() {
            let outlet = &self.sessions.outlets[usize::from(session.place.index)];
            total.went(outlet.datagrams, outlet.bytes, outlet.deliveries);
            if let Some(traffic) = session.member.and_then(|(id, _)| members.get_mut(&id)) {
                traffic.went(outlet.datagrams, outlet.bytes, outlet.deliveries);
            }
        }
        let (sessions, talkers) = (self.sessions.len(), self.talkers.len());
        Statistics { sessions, talkers, total, members }
    }

    fn drop(&mut self, member: Option<usize>, reason: DropReason, count: usize) {
        self.total.drop(reason, count);
        if let Some(number) = member {
            self.members.get_mut(number).traffic.drop(reason, count);
        }
    }
}

/// How often talkers are told what arrived, and listeners that a talkspurt continues. [PROTO-9.6]
const TICK: Duration = Duration::from_millis(50);
