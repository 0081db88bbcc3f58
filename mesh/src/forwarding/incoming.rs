//! How the forwarder handles a datagram that has arrived.

use std::{sync::Arc, time::Duration};

use hark_keys::{DeviceId, Timestamp};

use super::{
    Forwarder, TICK,
    frames::first_of,
    limits::{REPORTS, TUNNEL_BURST, VOICE_BURST},
    sessions::{Place, Want, millis},
};
use crate::datagram::{DropReason, Forward, ForwardedReport, Slot, Tunnel};

impl Forwarder {
    pub(super) fn forward(
        &mut self,
        now: Timestamp,
        slot: Slot,
        bytes: &[u8],
        forward: &Forward<'_>,
    ) -> Result<(), DropReason> {
        let session = self.sessions.get_mut(slot).ok_or(DropReason::UnknownSlot)?;
        let (place, last) = (session.place, session.route);
        let (id, number) = session.member.ok_or(DropReason::NotPermitted)?;
        let member = self.members.get_mut(number);
        if !session.voice.take(now, self.limits.voice, VOICE_BURST, bytes.len())
            || !member.voice.take(now, self.limits.voice_of_member, VOICE_BURST, bytes.len())
        {
            return Err(DropReason::RateLimited);
        }
        let tag = forward.voice.target_tag;
        let routes = &mut self.routes[usize::from(place.index)];
        let found = match routes.get(last) {
            Some(declared) if declared.route.tag == tag => Some(last),
            _ => routes.iter().position(|it| it.route.tag == tag),
        };
        let found = found.ok_or(DropReason::UnknownTarget)?;
        let hearers = self.fan_outs.hearers(&self.sessions, id, &mut routes[found]);
        let (target, hearers) = hearers.ok_or(DropReason::NotPermitted)?;
        let session = self.sessions.get_mut(slot).expect("it was there above");
        session.route = found;
        session.uplink.take(now, tag, forward.voice.sequence)?;
        session.hearers = Some(Arc::clone(hearers));
        let device = session.device;
        let (waiting, first) =
            (&mut self.introductions, first_of(forward.voice.sequence, hearers.len()));
        let introduce = |to| waiting.push(to, slot, device);
        session.introductions.begin(now, slot, (hearers, first), introduce);
        if !session.talking {
            session.talking = true;
            self.talkers.push(slot);
            self.tick_at.get_or_insert(now + TICK);
        }
        if !self.contests.is_empty()
            && !target.priority
            && target.members().is_empty()
            && target.roles().is_empty()
        {
            let mut heard = false;
            for channel in target.channels() {
                let contest = self.contests.get_mut(channel);
                heard |= contest.is_none_or(|contest| contest.admit(now, slot, forward.level));
            }
            if !heard {
                return Err(DropReason::NotLoudest);
            }
        }
        let body = &bytes[Forward::BODY_AT..];
        let frame = self.frames.put_voice(now, place, &forward.voice, body, hearers);
        self.queue(place, frame)
    }

    pub(super) fn tunnel(
        &mut self,
        now: Timestamp,
        slot: Slot,
        bytes: usize,
        tunnel: &Tunnel<'_>,
    ) -> Result<(), DropReason> {
        let session = self.sessions.get(slot).ok_or(DropReason::UnknownSlot)?;
        let other = self.sessions.get(tunnel.slot).filter(|it| it.place.slot != slot);
        let other = other.map(|it| (it.place, session.tunnels_to(it)));
        let session = self.sessions.get_mut(slot).ok_or(DropReason::UnknownSlot)?;
        if !session.tunnels.take(now, self.limits.tunnels, TUNNEL_BURST, bytes) {
            return Err(DropReason::RateLimited);
        }
        let (to, permitted) = other.ok_or(DropReason::UnknownSlot)?;
        if !permitted {
            return Err(DropReason::NotPermitted);
        }
        let (place, device) = (session.place, session.device);
        if session.introduces(now, to.slot) && self.knocks.len() < KNOCKS_MAX {
            self.knocks.push_back((to, slot, device));
        }
        let frame = self.frames.put_tunnel(now, place, tunnel.packet, to);
        self.queue(place, frame)
    }

    /// A newcomer wants to reach a door: tells each of them the other's slot. [PROTO-9.16]
    pub(super) fn knock(
        &mut self,
        now: Timestamp,
        slot: Slot,
        bytes: usize,
        door: DeviceId,
    ) -> Result<(), DropReason> {
        let other = self.sessions.slot_of(door).and_then(|slot| self.sessions.get(slot));
        let other = other.filter(|it| it.member.is_some()).map(|it| it.place);
        let guest = self.sessions.get_mut(slot).ok_or(DropReason::UnknownSlot)?;
        let (place, device) = (guest.place, guest.device);
        let doors = guest.doors.as_mut().ok_or(DropReason::NotPermitted)?;
        if !guest.tunnels.take(now, self.limits.tunnels, TUNNEL_BURST, bytes) {
            return Err(DropReason::RateLimited);
        }
        let other = other.ok_or(DropReason::UnknownSlot)?;
        if !doors.contains(&door) {
            if doors.len() == DOORS_MAX {
                return Err(DropReason::RateLimited);
            }
            doors.push(door);
        }
        if guest.introduces(now, other.slot) && self.knocks.len() < KNOCKS_MAX {
            // The door comes first, since it must know whose packets will arrive.
            self.knocks.push_back((other, slot, device));
            self.knocks.push_back((place, other.slot, door));
        }
        Ok(())
    }

    pub(super) fn report(
        &mut self,
        now: Timestamp,
        slot: Slot,
        bytes: usize,
        report: &ForwardedReport,
    ) -> Result<(), DropReason> {
        let listener = self.sessions.get_mut(slot).ok_or(DropReason::UnknownSlot)?;
        if !listener.reports.take(now, REPORTS, VOICE_BURST, bytes) {
            return Err(DropReason::RateLimited);
        }
        let index = usize::from(listener.place.index);
        let length = self.sessions.outlets.len();
        let talker = self.sessions.get_mut(report.slot).ok_or(DropReason::UnknownSlot)?;
        let copies = report.report.wanted_copies;
        if talker.wants.len() <= index {
            if copies == 0 {
                return Ok(());
            }
            talker.wants.resize(length, Want::default());
        }
        // [PROTO-9.11] A request for copies holds for its time, unless more copies are requested.
        let want = &mut talker.wants[index];
        if copies >= want.copies(millis(now)) {
            *want = Want::new(copies, now + WANT_KEPT);
        }
        Ok(())
    }

    /// Puts a frame into its sender's queue. If the queue is full, its oldest frame is dropped.
    fn queue(&mut self, place: Place, frame: Option<u32>) -> Result<(), DropReason> {
        let frame = frame.ok_or(DropReason::QueueFull)?;
        let session = self.sessions.at_mut(place).expect("it has just sent something");
        if session.queue.is_empty() {
            self.ready.push_back(place.slot);
        }
        session.queue.push_back(frame);
        if session.queue.len() > QUEUE_MAX
            && let Some(oldest) = session.queue.pop_front()
        {
            let number = session.member.map(|(_, number)| number);
            self.frames.release(oldest);
            self.drop(number, DropReason::QueueFull, 1);
        }
        Ok(())
    }
}

/// How long the copies that a report requests are sent. [PROTO-9.11]
const WANT_KEPT: Duration = Duration::from_secs(2);

/// Doors at which one newcomer may knock. Knocks at further ones are ignored.
const DOORS_MAX: usize = 4;

/// Knocks that wait to be passed on. A newcomer or door that is not told now is told later.
const KNOCKS_MAX: usize = 1_024;

/// Frames of one sender that wait. If there are more, the oldest is dropped and counted.
const QUEUE_MAX: usize = 32;
