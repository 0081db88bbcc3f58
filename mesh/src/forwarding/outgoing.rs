//! Chooses what is sent next.

use std::{sync::Arc, time::Duration};

use hark_keys::Timestamp;

use super::{
    Forwarder, Picked, Signal, TICK,
    bundle::{EgressState, Full, Outcome},
    limits::OUT_BURST,
    sessions::{Place, Want, millis},
};
use crate::datagram::{
    DropReason, FRAMES_MAX, Introduction, Knock, PULSE_TALKSPURTS_MAX, Pulse, Slot,
};

impl Forwarder {
    pub(super) fn pick(&mut self, now: Timestamp) -> Option<Picked> {
        if let Some(picked) = self.pick_signal() {
            return Some(picked);
        }
        if self.out.ready_at(OUT_BURST) > now {
            self.waited_at = Some(now);
            return None;
        }
        // These come before the packets that they are about. Each pair has few of them.
        if let Some(picked) = self.pick_knock() {
            return Some(picked);
        }
        // Introductions alternate with voice, which must not wait until all are sent. The
        // introduction comes first, since both are sent to the listeners in the same order.
        if !std::mem::take(&mut self.introduced)
            && let Some(picked) = self.pick_introduction()
        {
            self.introduced = true;
            return Some(picked);
        }
        while let Some((due, place)) = self.held.pop_front_if(|(due, _)| *due <= now) {
            let outlet = &mut self.sessions.outlets[usize::from(place.index)];
            if outlet.slot == Some(place.slot)
                && let Some(full) = outlet.take_due(due, &mut self.spare)
                && let Some(picked) = self.pick_bundle(now, place, full)
            {
                return Some(picked);
            }
        }
        let milliseconds = millis(now);
        for _ in 0..LOOKS_MAX {
            let id = match self.current {
                Some(id) => id,
                None => match self.next_frame(now) {
                    Some(id) => id,
                    None => break,
                },
            };
            let frame = self.frames.get(id);
            if now.saturating_duration_since(frame.arrived) > CUT_AFTER {
                self.current = None;
                self.drop_late(now, id);
                continue;
            }
            let Some(place) = frame.next() else {
                self.current = None;
                self.frames.release(id);
                continue;
            };
            let Some(copies) = self.sessions.copies(frame.from, place, frame.copies, milliseconds)
            else {
                continue;
            };
            let length = frame.with_copies(copies);
            let tunnel = frame.is_tunnel();
            let alone = Picked::Frame { to: place, id, length, deliveries: u64::from(!tunnel) };
            let outlet: &mut EgressState = &mut self.sessions.outlets[usize::from(place.index)];
            if tunnel {
                return Some(alone);
            }
            let hold = self.limits.bundle_hold;
            // A relay that is behind would send each listener fewer frames than it takes for
            // bundling. It would then stay behind, so it bundles nevertheless.
            let behind = !hold.is_zero() && now.saturating_duration_since(frame.arrived) >= hold;
            if !outlet.count(now, &self.limits) && !behind {
                return Some(alone);
            }
            let bytes = &frame.bytes[..length];
            match outlet.hold(now, hold, bytes, frame.arrived, &mut self.spare) {
                Outcome::Alone => return Some(alone),
                Outcome::Held(due) => self.held.extend(due.map(|due| (due, place))),
                Outcome::Filled(full, due) => {
                    self.held.push_back((due, place));
                    if let Some(picked) = self.pick_bundle(now, place, full) {
                        return Some(picked);
                    }
                }
            }
        }
        self.pick_introduction()
    }

    fn pick_knock(&mut self) -> Option<Picked> {
        while let Some((to, slot, device)) = self.knocks.pop_front() {
            let is_here = self.sessions.get(slot).is_some_and(|it| it.device == device);
            if is_here && self.sessions.at(to).is_some() {
                self.spare.clear();
                Knock { slot: Some(slot), device }.encode(&mut self.spare);
                return Some(Picked::Spare { to, start: 0, deliveries: 0 });
            }
        }
        None
    }

    fn pick_introduction(&mut self) -> Option<Picked> {
        while let Some((to, slot, device)) = self.introductions.pop() {
            let is_here = self.sessions.get(slot).is_some_and(|it| it.device == device);
            if is_here && self.sessions.at(to).is_some() {
                self.spare.clear();
                Introduction { slot, device }.encode(&mut self.spare);
                return Some(Picked::Spare { to, start: 0, deliveries: 0 });
            }
        }
        None
    }

    /// The relay's own reports. They come before all voice and ignore the rate, since talkers would
    /// otherwise take the relay for dead.
    fn pick_signal(&mut self) -> Option<Picked> {
        loop {
            let signal = self.signals.pop_front()?;
            self.spare.clear();
            let to = match signal {
                Signal::Seen(to, seen) => {
                    seen.encode(&mut self.spare);
                    to
                }
                Signal::Pulse(to) => {
                    let hears = |hearers: &[Place]| hearers.binary_search(&to).is_ok();
                    let talkspurts =
                        self.stalled.iter().filter(|it| it.0 != to.slot && hears(&it.2));
                    Pulse::encode(talkspurts.map(|it| (it.0, it.1)), &mut self.spare);
                    to
                }
            };
            if self.sessions.at(to).is_some() {
                return Some(Picked::Spare { to, start: 0, deliveries: 0 });
            }
        }
    }

    /// Sends the bundle in `spare`, unless it is late.
    fn pick_bundle(&mut self, now: Timestamp, to: Place, full: Full) -> Option<Picked> {
        if now.saturating_duration_since(full.oldest) > LATE_AFTER {
            self.drop(None, self.late(now), full.count);
            return None;
        }
        Some(Picked::Spare { to, start: full.start, deliveries: full.count as u64 })
    }

    /// The oldest frame, not counting late ones, of the talker whose turn it is. Late frames take
    /// no turn. Otherwise a talker whose frames always arrive just after its turn would never be
    /// heard.
    fn next_frame(&mut self, now: Timestamp) -> Option<u32> {
        while let Some(slot) = self.ready.front().copied() {
            let session = self.sessions.get_mut(slot).expect("who is gone has no turn");
            let Some(id) = session.queue.pop_front() else {
                self.ready.pop_front();
                continue;
            };
            if now.saturating_duration_since(self.frames.get(id).arrived) > LATE_AFTER {
                self.drop_late(now, id);
                continue;
            }
            self.ready.pop_front();
            if !session.queue.is_empty() {
                self.ready.push_back(slot);
            }
            self.current = Some(id);
            return Some(id);
        }
        None
    }

    fn drop_late(&mut self, now: Timestamp, id: u32) {
        let frame = self.frames.get(id);
        let (left, from) = (frame.left(), frame.from);
        self.frames.release(id);
        let session = self.sessions.at(from);
        let member = session.and_then(|it| it.member).map(|(_, number)| number);
        self.drop(member, self.late(now), left);
    }

    /// The reason why something is late.
    fn late(&self, now: Timestamp) -> DropReason {
        let waited = |at| now.saturating_duration_since(at) <= LATE_AFTER;
        if self.waited_at.is_some_and(waited) { DropReason::OverQuota } else { DropReason::Late }
    }

    /// Tells talkers what has arrived, and listeners that hear nothing that they miss nothing.
    /// [PROTO-9.6] [PROTO-9.7]
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.signals.clear();
        self.stalled.clear();
        let milliseconds = millis(now);
        self.talkers.retain(|slot| {
            let Some(session) = self.sessions.get_mut(*slot) else { return false };
            let silence = session.uplink.silence(now);
            if silence >= TALKSPURT_OVER {
                session.talking = false;
                session.hearers = None;
                return false;
            }
            let (waiting, device) = (&mut self.introductions, session.device);
            session.introductions.again(|to| waiting.push_again(to, *slot, device));
            let Some(hearers) = &session.hearers else { return false };
            // Reports once more after the last frame.
            if silence < 2 * TICK {
                let mut seen = session.uplink.seen(now);
                let wanted = wanted_by_listeners(*slot, hearers, &session.wants, milliseconds);
                seen.wanted_copies = seen.wanted_copies.max(wanted);
                self.signals.push_back(Signal::Seen(session.place, seen));
            }
            if silence >= TICK && self.stalled.len() < STALLED_MAX {
                let hearers = Arc::clone(hearers);
                self.stalled.push((*slot, session.uplink.highest(), hearers));
            }
            true
        });
        self.tick_at = if self.talkers.is_empty() { None } else { Some(now + TICK) };
        for (talker, _, hearers) in &self.stalled {
            for place in hearers.iter().filter(|it| it.slot != *talker) {
                let outlet = &mut self.sessions.outlets[usize::from(place.index)];
                if outlet.slot == Some(place.slot)
                    && now.saturating_duration_since(outlet.sent_at) >= QUIET
                {
                    // This also prevents a second pulse.
                    outlet.sent_at = now;
                    self.signals.push_back(Signal::Pulse(*place));
                }
            }
        }
    }
}

/// The number of copies that at least one in twenty listeners wants. With fewer than 40 listeners,
/// one listener is enough. A listener that did not ask gets no copies in any case, so this costs
/// only the talker. [PROTO-9.12]
fn wanted_by_listeners(talker: Slot, hearers: &[Place], wants: &[Want], now: u64) -> u8 {
    if wants.is_empty() {
        return 0;
    }
    let mut counts = [0_usize; FRAMES_MAX];
    let mut listeners = 0;
    for place in hearers.iter().filter(|it| it.slot != talker) {
        listeners += 1;
        let want = wants.get(usize::from(place.index)).copied().unwrap_or_default();
        counts[usize::from(want.copies(now))] += 1;
    }
    let enough = (listeners / LISTENERS_PER_WISH).max(1);
    let mut wishes = 0;
    for copies in (1..counts.len()).rev() {
        wishes += counts[copies];
        if wishes >= enough {
            return copies as u8;
        }
    }
    0
}

/// A talker that has sent nothing for this long no longer talks.
const TALKSPURT_OVER: Duration = Duration::from_millis(200);

/// A listener that was sent something within this time needs no pulse. It is less than [`TICK`],
/// since a pulse itself is sent a little after its tick.
const QUIET: Duration = Duration::from_millis(25);

/// A talker sends the copies that one in this many of its listeners wants.
const LISTENERS_PER_WISH: usize = 20;

/// A frame that is older than this when its turn comes is dropped. With a longer time, speech would
/// be late for everybody whenever there is more than can be sent. [PROTO-9.13]
const LATE_AFTER: Duration = Duration::from_millis(60);

/// A frame whose sending has begun is sent to all, unless that takes longer than this. The time
/// that it waited in the kernel before comes on top. In total nothing should be later than 100 ms.
const CUT_AFTER: Duration = Duration::from_millis(75);

/// Most talkers whose listeners are told that they are still there. Listeners of further ones are
/// not told.
const STALLED_MAX: usize = 4 * PULSE_TALKSPURTS_MAX;

/// Steps of one poll that send nothing, such as filling bundles. After these the driver looks at
/// its socket, and polls again.
const LOOKS_MAX: usize = 1_024;
