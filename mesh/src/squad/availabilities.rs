//! The members that have muted the microphone, silenced the loudspeaker or gone away. [PROTO-5.12]
//! [PROTO-5.27]

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, DeviceKey, MemberId, Signed, Timestamp, UnixTime};
use zeroize::Zeroizing;

use super::{
    MessageError, Purpose, Squad, SquadEvent, SquadTransmit, announcement::Announcement,
    budget::Purses,
};
use crate::{Availability, AvailabilityMessage, message::Message};

/// The availability of this device's person, and of others as they have reported it.
pub(super) struct Availabilities {
    own: Availability,
    /// The last report; `None` if there was none in this run.
    said: Option<Signed<AvailabilityMessage>>,
    said_at: Option<Timestamp>,
    /// When the next report to all is due: after a change, and again before the lease ends.
    say_at: Option<Timestamp>,
    /// What each linked member was told.
    told: BTreeMap<DeviceId, Announcement<Availability>>,
    known: BTreeMap<DeviceId, Known>,
    authors: Purses,
}

/// The last report of a device.
struct Known {
    number: u64,
    /// When it was received.
    at: Timestamp,
    availability: Availability,
    /// The run of the device in which it had a link, if it had one. [PROTO-2.5]
    incarnation: Option<u64>,
    /// Whether it came over a link that is still up. If so, the device itself reports any change.
    linked: bool,
}

impl Default for Availabilities {
    fn default() -> Self {
        Self {
            own: Availability::default(),
            said: None,
            said_at: None,
            say_at: None,
            told: BTreeMap::new(),
            known: BTreeMap::new(),
            authors: Purses::new(SAYING_INCOME, SAYING_LIMIT),
        }
    }
}

impl Availabilities {
    pub(super) fn set_own(&mut self, now: Timestamp, availability: Availability) {
        if self.own != availability {
            self.own = availability;
            let next = self.said_at.map_or(now, |at| now.max(at + SAY_INTERVAL));
            self.say_at = Some(next);
        }
    }

    pub(super) fn of(&self, device: DeviceId) -> Availability {
        self.known.get(&device).map(|known| known.availability).unwrap_or_default()
    }

    /// There is a new link to a member's device.
    fn link_up(&mut self, device: DeviceId) {
        self.told.entry(device).or_default().link_up();
    }

    pub(super) fn link_down(&mut self, now: Timestamp, device: DeviceId) {
        self.told.remove(&device);
        if let Some(known) = self.known.get_mut(&device) {
            known.linked = false;
            known.at = now;
        }
    }

    /// The device runs as this incarnation: what it reported in an earlier run no longer counts.
    /// The number stays, so that nobody repeats that report. Returns whether anything changes.
    fn forget_earlier(&mut self, device: DeviceId, incarnation: u64, restarted: bool) -> bool {
        let Some(known) = self.known.get_mut(&device) else { return false };
        if !restarted && known.incarnation.is_none_or(|earlier| earlier == incarnation) {
            return false;
        }
        known.incarnation = Some(incarnation);
        std::mem::take(&mut known.availability) != Availability::default()
    }

    /// Signs the report, if one is due.
    fn say(&mut self, now: Timestamp, calendar: UnixTime, key: &DeviceKey) -> Option<Vec<u8>> {
        self.say_at.take_if(|at| *at <= now)?;
        let last = self.said.as_ref().map_or(0, |said| said.unverified().number);
        let number = (calendar.as_secs().saturating_mul(1_000)).max(last.saturating_add(1));
        let message = AvailabilityMessage { device: key.id(), number, availability: self.own };
        let said = Signed::sign(message, key);
        let bytes = Message::Availability(said.clone()).encode();
        self.said = Some(said);
        self.said_at = Some(now);
        self.say_at = (self.own != Availability::default()).then_some(now + RENEW_INTERVAL);
        Some(bytes)
    }

    /// The next linked member that is to be told the last report.
    fn poll(&mut self, now: Timestamp, numbers: &mut u64) -> Option<(DeviceId, u64, Vec<u8>)> {
        let said = self.said.as_ref()?;
        let availability = said.unverified().availability;
        for (device, telling) in &mut self.told {
            if telling.is_taken() && telling.told() == Some(&availability) {
                continue;
            }
            if let Some(number) = telling.poll(now, &availability, numbers) {
                return Some((*device, number, Message::Availability(said.clone()).encode()));
            }
        }
        None
    }

    /// A linked member has accepted, or not, what it was told under `number`.
    pub(super) fn handle_answer(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        number: u64,
        taken: bool,
    ) {
        if let Some(telling) = self.told.get_mut(&device) {
            telling.handle_answer(now, number, taken);
        }
    }

    /// Stores the report of a device. Returns whether the availability has changed.
    fn keep(
        &mut self,
        now: Timestamp,
        said: &AvailabilityMessage,
        linked: bool,
        incarnation: Option<u64>,
    ) -> bool {
        let AvailabilityMessage { device, number, availability } = *said;
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&device) {
            let oldest = self.known.iter().min_by_key(|(_, known)| (known.linked, known.at));
            if let Some(oldest) = oldest.map(|(device, _)| *device) {
                self.known.remove(&oldest);
            }
        }
        let before =
            self.known.insert(device, Known { number, at: now, availability, incarnation, linked });
        before.map(|known| known.availability).unwrap_or_default() != availability
    }

    /// The devices whose reports have just expired.
    fn lapse(&mut self, now: Timestamp) -> Vec<DeviceId> {
        let mut lapsed = Vec::new();
        for (device, known) in &mut self.known {
            if known.lapses_at().is_some_and(|at| at <= now) {
                known.availability = Availability::default();
                lapsed.push(*device);
            }
        }
        // An older report cannot be repeated by others. [PROTO-5.28] [PROTO-5.29]
        self.known.retain(|_, known| known.linked || now < known.at + REPEATABLE * 2);
        lapsed
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let told = self.told.values().filter_map(Announcement::timeout);
        let lapse = self.known.values().filter_map(Known::lapses_at);
        told.chain(lapse).chain(self.say_at).min()
    }
}

impl Known {
    /// When it no longer counts; `None` if it reports nothing or its device is linked.
    fn lapses_at(&self) -> Option<Timestamp> {
        let says = !self.linked && self.availability != Availability::default();
        says.then_some(self.at + LEASE)
    }
}

impl Squad {
    pub(super) fn link_up_availability(
        &mut self,
        device: DeviceId,
        member: Option<MemberId>,
        (incarnation, restarted): (u64, bool),
    ) {
        if self.availabilities.forget_earlier(device, incarnation, restarted) {
            self.events.push_back(SquadEvent::AvailabilityChanged { device });
        }
        if member.is_some() {
            self.availabilities.link_up(device);
        }
    }

    /// Takes the report of a device. `from` is the linked device itself or, by gossip, any peer.
    pub(super) fn take_availability(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        said: &Signed<AvailabilityMessage>,
    ) -> Result<(), MessageError> {
        let claimed = said.unverified();
        let device = claimed.device;
        if device == self.key.id() {
            return Ok(());
        }
        let known = self.availabilities.known.get_mut(&device);
        if let Some(known) = known.filter(|known| known.number >= claimed.number) {
            // It repeats its report over a new link.
            known.linked |= from == Some(device) && known.number == claimed.number;
            return Ok(());
        }
        match from {
            Some(from) if from != device => return Err(MessageError::OtherSender),
            Some(_) => {}
            None => {
                // Anybody could repeat an old report.
                let calendar = self.epochs.calendar(now).as_secs();
                let belongs = self.charter().owner(device).is_some();
                let apart = calendar.abs_diff(claimed.number / 1_000);
                if !belongs || apart > REPEATABLE.as_secs() {
                    return Err(MessageError::Stale);
                }
            }
        }
        if !self.availabilities.authors.is_open(now, device) {
            return Err(MessageError::OverBudget);
        }
        let said = said.verify()?;
        let known_by_link = self.availabilities.known.get(&device).is_some_and(|it| it.linked);
        self.availabilities.authors.spend(now, device, SAYING);
        let linked = known_by_link || from.is_some();
        let incarnation = self.links.get(&device).map(|link| link.incarnation);
        if self.availabilities.keep(now, said, linked, incarnation) {
            self.events.push_back(SquadEvent::AvailabilityChanged { device });
        }
        Ok(())
    }

    pub(super) fn handle_availability_timeout(&mut self, now: Timestamp) {
        for device in self.availabilities.lapse(now) {
            self.events.push_back(SquadEvent::AvailabilityChanged { device });
        }
    }

    /// Tells all by gossip, and each linked member until it has accepted the report.
    pub(super) fn tell_availability(&mut self, now: Timestamp) {
        if self.member.is_none() {
            return;
        }
        let calendar = self.epochs.calendar(now);
        if let Some(bytes) = self.availabilities.say(now, calendar, &self.key)
            && !self.links.is_empty()
        {
            self.push(SquadTransmit::Gossip(bytes));
        }
        while let Some((to, number, bytes)) = self.availabilities.poll(now, &mut self.numbers) {
            self.send(to, Purpose::Availability(number), Zeroizing::new(bytes));
        }
    }
}

/// The shortest time between two reports. Changes in between are reported together.
const SAY_INTERVAL: Duration = Duration::from_secs(2);

/// How often a report is repeated while there is anything to report. A longer time costs less, but
/// members that come later and have no link to this device wait longer for it.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);

/// How long the report of a device without a link counts. Gossip may lose one repetition.
const LEASE: Duration = Duration::from_secs(150);

/// How far the time of a gossiped report may differ from our own clock, in either direction. A
/// smaller value would exclude members whose clocks are wrong.
const REPEATABLE: Duration = Duration::from_secs(3_600);

/// Devices whose reports are kept. If there are more, the one that was heard longest ago is
/// dropped.
const KNOWN_MAX: usize = 1_024;

/// Reports that a device may make: one per second, and ten at once. Further ones are neither
/// accepted nor passed on.
const SAYING_INCOME: Duration = Duration::from_secs(1);
const SAYING_LIMIT: Duration = Duration::from_secs(10);
const SAYING: Duration = Duration::from_secs(1);
