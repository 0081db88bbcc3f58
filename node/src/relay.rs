//! Relaying for others: a [`Forwarder`] on the links of a node.
//!
//! ```text
//! link ─> ForwardingRelay::handle ─> Forwarder ─> outlets of the listeners     on the network thread
//!              squad ─> ForwardingRelay::serve ─────┘ who is attached, who may hear whom
//! ```
//!
//! A datagram is forwarded in the turn in which it arrives. If that takes longer than half a
//! millisecond, [`ForwardingRelay::run`] continues in turns of its own. Until then new datagrams
//! are only taken in. In the kernel's queue they would become late unnoticed, whereas the forwarder
//! drops those that are late.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hark_charter::Charter;
use hark_keys::{DeviceId, List, Timestamp};
use hark_mesh::{
    datagram::{KIND_FORWARD, KIND_FORWARDED_REPORT, KIND_KNOCK, KIND_TUNNEL, Slot},
    forwarding::{ForwardRoute, Forwarder, Limits, Statistics},
    squad::Service,
};
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    link::{DatagramSender, Links},
};

/// Hands the datagrams of a relay to its links.
///
/// A product's relays use [`DirectEgress`]. A test of relays that do harm replaces it.
pub trait Egress: Send + Sync {
    /// Sends `datagram`, of kind 5 to 11, on the link to `to`. It must not wait.
    fn send(&self, to: DeviceId, outlet: &Arc<DatagramSender>, datagram: &[u8]);
}

/// Sends each datagram once, unchanged and at once.
pub struct DirectEgress;

impl Egress for DirectEgress {
    fn send(&self, _: DeviceId, outlet: &Arc<DatagramSender>, datagram: &[u8]) {
        outlet.send(datagram);
    }
}

/// Forwards the voice and the tunnels of one organisation.
pub struct ForwardingRelay {
    clock: Clock,
    egress: Arc<dyn Egress>,
    state: Mutex<State>,
    /// Notified when there is more to send than the last turn had time for.
    more: Notify,
}

struct State {
    forwarder: Forwarder,
    /// The sender to the device at each slot.
    outlets: Vec<Option<(DeviceId, Arc<DatagramSender>)>>,
    /// When [`ForwardingRelay::run`] looks next. `None` while it waits for `more`.
    looks_at: Option<Timestamp>,
    /// Whether there is more to send than the last turn had time for.
    behind: bool,
}

impl ForwardingRelay {
    /// Creates a relay to which nobody is attached.
    pub fn new(clock: Clock, limits: Limits, egress: Arc<dyn Egress>) -> Arc<Self> {
        let forwarder = Forwarder::new(limits);
        let state = State { forwarder, outlets: Vec::new(), looks_at: None, behind: false };
        Arc::new(Self { clock, egress, state: Mutex::new(state), more: Notify::new() })
    }

    /// Whether a datagram from a peer is meant for a relay.
    pub fn is_for_relays(datagram: &[u8]) -> bool {
        let kinds = [KIND_FORWARD, KIND_FORWARDED_REPORT, KIND_TUNNEL, KIND_KNOCK];
        datagram.first().is_some_and(|kind| kinds.contains(kind))
    }

    /// Handles a datagram from `device` for which [`Self::is_for_relays`] is true. A datagram from
    /// a device that is not attached is dropped.
    pub fn handle(&self, now: Timestamp, device: DeviceId, datagram: &[u8]) {
        let mut state = self.lock();
        if let Some(slot) = state.forwarder.slot_of(device) {
            // The forwarder counts what it drops.
            let _ = state.forwarder.handle_datagram(now, slot, datagram);
            if state.behind {
                return;
            }
            self.send(&mut state, now);
            let due = state.forwarder.poll_timeout();
            if due.is_some_and(|due| state.looks_at.is_none_or(|looks| due < looks)) {
                self.more.notify_one();
            }
        }
    }

    /// Carries out a service of the squad as a relay. Returns the slot of a device that was
    /// attached by it. `None` if there is no room, and for all other services.
    pub fn serve(
        &self,
        service: Service,
        charter: &Charter,
        links: &Links,
    ) -> Option<(DeviceId, u16)> {
        let now = self.clock.now();
        let mut state = self.lock();
        let State { forwarder, outlets, .. } = &mut *state;
        match service {
            Service::Attach { device, member } => {
                forwarder.set_state(charter.state());
                let slot = forwarder.attach(now, device, member).ok()?;
                put(outlets, slot, device, links);
                return Some((device, slot.number()));
            }
            Service::Detach(device) => {
                if let Some(slot) = forwarder.slot_of(device) {
                    outlets[usize::from(slot.number())] = None;
                }
                forwarder.detach(now, device);
            }
            Service::Listening { device, channels } => {
                if let Some(slot) = forwarder.slot_of(device) {
                    forwarder.set_listening(slot, channels);
                }
            }
            Service::Route { device, target, only } => {
                let tag = charter.target_tag(target.id());
                let slot = forwarder.slot_of(device)?;
                match only {
                    Some(only) if only.is_empty() => forwarder.remove_route(slot, tag),
                    only => {
                        let only = only.map(List::truncated);
                        // The squad counts routes as well, and refuses the same ones.
                        if let Err(error) =
                            forwarder.set_route(slot, ForwardRoute { tag, target, only })
                        {
                            tracing::debug!(%error, "route not taken");
                        }
                    }
                }
            }
            Service::Stop => {
                for (device, _) in outlets.drain(..).flatten() {
                    forwarder.detach(now, device);
                }
            }
        }
        None
    }

    /// Attaches a newcomer that is to be led to doors, if there is room. [PROTO-9.16]
    pub fn lead(&self, device: DeviceId, links: &Links) {
        let mut state = self.lock();
        let State { forwarder, outlets, .. } = &mut *state;
        if let Ok(slot) = forwarder.attach_newcomer(self.clock.now(), device) {
            put(outlets, slot, device, links);
        }
    }

    /// Detaches `device` if it is attached as a newcomer: it has left, or has become a member.
    pub fn lead_no_more(&self, device: DeviceId) {
        let mut state = self.lock();
        if state.forwarder.is_newcomer(device)
            && let Some(slot) = state.forwarder.slot_of(device)
        {
            state.outlets[usize::from(slot.number())] = None;
            state.forwarder.detach(self.clock.now(), device);
        }
    }

    /// Sets the charter, which decides who may be forwarded to whom.
    pub fn set_charter(&self, charter: &Charter) {
        self.lock().forwarder.set_state(charter.state());
    }

    /// Sets the limits of what the relay carries.
    pub fn set_limits(&self, limits: Limits) {
        self.lock().forwarder.set_limits(limits);
    }

    /// The link to `device` has been replaced: sends on the new one from now on.
    pub fn renew_outlet(&self, device: DeviceId, links: &Links) {
        let mut state = self.lock();
        if let Some(slot) = state.forwarder.slot_of(device)
            && let Some(newest) = links.outlet(device)
        {
            state.outlets[usize::from(slot.number())] = Some((device, newest));
        }
    }

    /// Sends to each device on its best link, which may have changed. To be called each second.
    pub fn renew_outlets(&self, links: &Links) {
        for (device, outlet) in self.lock().outlets.iter_mut().flatten() {
            if let Some(newest) = links.outlet(*device) {
                *outlet = newest;
            }
        }
    }

    /// The counters of what the relay has carried.
    pub fn statistics(&self) -> Statistics {
        self.lock().forwarder.statistics()
    }

    /// Sends datagrams that wait, for as long as the node relays.
    pub async fn run(self: Arc<Self>) {
        loop {
            let now = self.clock.now();
            let due = {
                let mut state = self.lock();
                self.send(&mut state, now);
                state.looks_at = state.forwarder.poll_timeout();
                state.looks_at
            };
            match due {
                None => self.more.notified().await,
                Some(due) if due <= now => tokio::task::yield_now().await,
                Some(due) => {
                    tokio::select! {
                        () = self.more.notified() => {}
                        () = tokio::time::sleep(due.saturating_duration_since(now)) => {}
                    }
                }
            }
        }
    }

    /// Sends what is due, for at most one turn.
    fn send(&self, state: &mut State, now: Timestamp) {
        let State { forwarder, outlets, behind, .. } = state;
        *behind = false;
        let mut sent = 0_u32;
        while let Some(transmit) = forwarder.poll_transmit(now) {
            let place = usize::from(transmit.to.number());
            // Listeners mostly follow in the order of their slots.
            if let Some(Some((_, next))) = outlets.get(place + 1) {
                next.prefetch();
            }
            if let Some(Some((to, outlet))) = outlets.get(place) {
                self.egress.send(*to, outlet, transmit.bytes);
            }
            sent += 1;
            let looks = sent.is_multiple_of(LOOK_EVERY);
            if looks && self.clock.now().saturating_duration_since(now) >= TURN {
                *behind = true;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The forwarder is consistent between any two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(
    outlets: &mut Vec<Option<(DeviceId, Arc<DatagramSender>)>>,
    slot: Slot,
    device: DeviceId,
    links: &Links,
) {
    let place = usize::from(slot.number());
    if outlets.len() <= place {
        outlets.resize(place + 1, None);
    }
    outlets[place] = links.outlet(device).map(|outlet| (device, outlet));
}

/// The longest turn: enough to send a datagram to 150 listeners.
const TURN: Duration = Duration::from_micros(500);

/// Datagrams that are sent between two looks at the clock.
const LOOK_EVERY: u32 = 32;
