//! What a relay does for epochs. It tells the steward of each channel which devices are there, and
//! passes on what the steward seals for them. [PROTO-11.2] [PROTO-11.23]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::{
    ChannelId, Confirmation, DeviceId, EpochSeal, List, ObjectHash, Prekey, Signed, TargetId,
    Timestamp, UnixTime,
};

use crate::{
    epoch::{ATTENDANCE_MAX, Attendance, Confirmed, Confirming, EpochHeader, HOLDERS_MAX, Holders},
    topology::rendezvous,
};

/// The relay's side of epochs.
#[derive(Default)]
pub(super) struct Hub {
    prekeys: BTreeMap<DeviceId, (Signed<Prekey>, Timestamp)>,
    channels: BTreeMap<ChannelId, Attended>,
    passed: BTreeMap<(ChannelId, DeviceId), Passed>,
    look_at: Option<Timestamp>,
}

/// A channel with a steward.
#[derive(Default)]
struct Attended {
    steward: Option<DeviceId>,
    /// The devices on the channel, and when the prekey of each was issued.
    here: BTreeMap<DeviceId, UnixTime>,
    tellings: BTreeMap<DeviceId, Announcement>,
    /// When the steward has had time to deal to the devices that it was told of.
    due_at: Option<Timestamp>,
    /// The devices that have failed to deal in time, or have left a device out, and until when they
    /// are not chosen again.
    failed: BTreeMap<DeviceId, Timestamp>,
    /// The devices that were left out, and the stewards that left each one out.
    left_out: BTreeMap<DeviceId, BTreeSet<DeviceId>>,
    /// The last epoch that the steward has dealt.
    watched: Option<Watched>,
}

/// An epoch on its way to attached devices, and the devices that have shown that they hold it.
/// [PROTO-11.12] [PROTO-11.26]
struct Watched {
    id: ObjectHash,
    issuer: DeviceId,
    holders: Holders,
    /// For each device, the value that came with its seal and by which its confirmation is checked.
    checks: BTreeMap<DeviceId, [u8; 8]>,
    /// The devices that the steward had been told of before it dealt.
    expected: BTreeSet<DeviceId>,
    confirmed: BTreeMap<DeviceId, Confirmation>,
    /// When it is checked which devices have not confirmed it.
    judge_at: Option<Timestamp>,
    /// When the holders are next told who holds it, and the pause after that.
    tell_at: Option<Timestamp>,
    pause: Duration,
    /// The holders that are still to be told, and the report for them.
    untold: BTreeSet<DeviceId>,
    said: Option<Confirmed>,
}

/// The last epoch that a steward has dealt.
struct Passed {
    holders: Holders,
    number: u64,
    came: Timestamp,
}

/// What a current or former steward was told.
#[derive(Default)]
struct Announcement {
    begun: bool,
    told: BTreeMap<DeviceId, UnixTime>,
    /// The message under way: which devices it reports as here, and which as gone.
    sent: Option<Sent>,
    again_at: Option<Timestamp>,
}

struct Sent {
    number: u64,
    here: Vec<(DeviceId, UnixTime)>,
    gone: Vec<DeviceId>,
}

/// The devices on a channel, and those of them that can be its steward.
pub(super) struct Crowd {
    pub(super) here: BTreeSet<DeviceId>,
    pub(super) able: BTreeSet<DeviceId>,
}

impl Hub {
    /// A device sends its prekey, to which others can seal.
    pub(super) fn take_prekey(&mut self, now: Timestamp, prekey: &Signed<Prekey>) {
        let Prekey { device, issued, .. } = *prekey.unverified();
        let known = self.prekeys.get(&device);
        if known.is_none_or(|(known, _)| known.unverified().issued < issued) {
            let since = known.map_or(now, |(_, since)| *since);
            self.prekeys.insert(device, (prekey.clone(), since));
            self.look(now);
        }
    }

    /// A link knows nothing of an earlier one: what its device said before may be from before its
    /// restart.
    pub(super) fn forget(&mut self, now: Timestamp, device: DeviceId) {
        for attended in self.channels.values_mut() {
            attended.tellings.remove(&device);
            attended.failed.remove(&device);
            attended.left_out.remove(&device);
            if let Some(watched) = &mut attended.watched {
                watched.expected.remove(&device);
            }
        }
        if self.prekeys.remove(&device).is_some() {
            self.look(now);
        }
    }

    /// Something has changed: the crowds are examined soon.
    pub(super) fn look(&mut self, now: Timestamp) {
        if !self.prekeys.is_empty() {
            let at = now + LOOK_AFTER;
            // An examination may be planned for later, when a device has been there long enough.
            self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
        }
    }

    /// If it is time for an examination, returns the devices with a prekey.
    pub(super) fn look_due(&mut self, now: Timestamp) -> Option<Vec<DeviceId>> {
        self.look_at.take_if(|at| *at <= now)?;
        Some(self.prekeys.keys().copied().collect())
    }

    /// Takes the crowds of the channels that have a steward or are to get one.
    pub(super) fn handle_crowds(&mut self, now: Timestamp, crowds: BTreeMap<ChannelId, Crowd>) {
        let all = self.prekeys.len();
        let served = |known: bool, crowd: &Crowd| {
            let (above, attached) =
                if known { (ENDS_AT, ATTACHED_ENDS) } else { (BEGINS_ABOVE, ATTACHED_ABOVE) };
            crowd.here.len() > 1 && (crowd.here.len() > above || all > attached)
        };
        for (channel, attended) in &mut self.channels {
            if !crowds.get(channel).is_some_and(|crowd| served(attended.steward.is_some(), crowd)) {
                attended.end();
            }
        }
        for (channel, crowd) in crowds {
            let known = self.channels.get(&channel).is_some_and(|it| it.steward.is_some());
            if served(known, &crowd) {
                let attended = self.channels.entry(channel).or_default();
                let here = crowd.here.iter().take(HOLDERS_MAX).copied();
                let issued =
                    |device| Some((device, self.prekeys.get(&device)?.0.unverified().issued));
                attended.here = here.filter_map(issued).collect();
                let young = |device: &DeviceId| {
                    let since = self.prekeys.get(device).map_or(now, |(_, since)| *since);
                    since + ELDER_AFTER > now
                };
                attended.elect(now, channel, &crowd.able, young);
                if crowd.able.iter().any(young) {
                    self.look_at.get_or_insert(now + ELDER_AFTER);
                }
            }
        }
        self.channels.retain(|_, attended| !attended.is_over());
    }

    /// The next message for a steward.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        numbers: &mut u64,
    ) -> Option<(DeviceId, Attendance)> {
        for (channel, attended) in &mut self.channels {
            let steward = attended.steward;
            for (device, telling) in &mut attended.tellings {
                let nobody = BTreeMap::new();
                let here = if Some(*device) == steward { &attended.here } else { &nobody };
                if let Some((whole, sent)) = telling.poll(now, here, numbers) {
                    let keys = sent.here.iter().filter_map(|(device, _)| self.prekeys.get(device));
                    let said = Attendance {
                        number: sent.number,
                        channel: *channel,
                        whole,
                        after: newest(&self.passed, *channel),
                        here: List::truncated(keys.map(|(prekey, _)| prekey.clone())),
                        gone: List::truncated(sent.gone.iter().copied()),
                    };
                    // A steward that knew of it before has already dealt.
                    let dealt = self.passed.get(&(*channel, *device)).is_some_and(|passed| {
                        sent.here.is_empty() && passed.holders.devices().iter().eq(here.keys())
                    });
                    if Some(*device) == steward && !dealt {
                        attended.due_at.get_or_insert(now + SILENT_AFTER);
                    }
                    return Some((*device, said));
                }
            }
        }
        None
    }

    pub(super) fn handle_answer(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        (channel, number): (ChannelId, u64),
        taken: bool,
    ) {
        let Some(attended) = self.channels.get_mut(&channel) else { return };
        let Some(telling) = attended.tellings.get_mut(&device) else { return };
        telling.handle_answer(now, number, taken);
        if attended.steward != Some(device) && telling.told.is_empty() && telling.again_at.is_none()
        {
            attended.tellings.remove(&device);
        }
        self.channels.retain(|_, attended| !attended.is_over());
    }

    /// The steward of a channel.
    pub(super) fn steward(&self, channel: ChannelId) -> Option<DeviceId> {
        self.channels.get(&channel)?.steward
    }

    /// A channel's steward has dealt an epoch, or further seals of one.
    pub(super) fn dealt<'a>(
        &mut self,
        now: Timestamp,
        (id, header): (ObjectHash, &EpochHeader),
        holders: &Holders,
        seals: impl Iterator<Item = (DeviceId, &'a EpochSeal)>,
    ) {
        if let Some(attended) = self.channels.get_mut(&header.channel) {
            let telling = attended.tellings.get(&header.issuer);
            let waits = telling.is_some_and(|telling| telling.sent.is_some());
            attended.due_at = waits.then_some(now + SILENT_AFTER);
            if attended.watched.as_ref().is_none_or(|watched| watched.id != id) {
                let told = telling.into_iter().flat_map(|telling| telling.told.keys());
                let told =
                    told.filter(|it| **it != header.issuer && attended.here.contains_key(it));
                attended.watched = Some(Watched {
                    id,
                    issuer: header.issuer,
                    holders: holders.clone(),
                    checks: BTreeMap::new(),
                    expected: told.copied().collect(),
                    confirmed: BTreeMap::new(),
                    judge_at: Some(now + CONFIRMED_WITHIN),
                    tell_at: None,
                    pause: TELL_AFTER,
                    untold: BTreeSet::new(),
                    said: None,
                });
            }
            if let Some(watched) = &mut attended.watched {
                watched.checks.extend(seals.map(|(device, seal)| (device, seal.check())));
            }
        }
        let of = (header.channel, header.issuer);
        let before = self.passed.get(&of).map_or(0, |passed| passed.number);
        let (holders, number) = (holders.clone(), header.number.max(before));
        self.passed.insert(of, Passed { holders, number, came: now });
        if self.passed.len() > PASSED_MAX {
            let oldest = self.passed.iter().min_by_key(|(_, passed)| passed.came);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.passed.remove(&key);
            }
        }
    }

    /// A device shows that it could open its seal. Returns false if it does not show that. A
    /// confirmation of an epoch that another has replaced is useless, but need not be repeated.
    /// [PROTO-11.12]
    pub(super) fn take_confirming(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        said: &Confirming,
    ) -> bool {
        let Some(attended) = self.channels.get_mut(&said.channel) else { return true };
        let Some(watched) = attended.watched.as_mut().filter(|it| it.id == said.epoch) else {
            return true;
        };
        if watched.checks.get(&device) != Some(&said.confirmation.check()) {
            return false;
        }
        attended.left_out.remove(&device);
        if watched.confirmed.insert(device, said.confirmation).is_none() {
            let all = watched.expected.iter().all(|it| watched.confirmed.contains_key(it));
            let tell_at = if all { now } else { now + watched.pause };
            watched.tell_at = Some(watched.tell_at.map_or(tell_at, |at| at.min(tell_at)));
        }
        true
    }

    /// The next device to be told who holds an epoch, and the report. [PROTO-11.12]
    pub(super) fn poll_confirmed(&mut self) -> Option<(DeviceId, Confirmed)> {
        let mut watched = self.channels.values_mut().filter_map(|it| it.watched.as_mut());
        watched.find_map(|watched| Some((watched.untold.pop_first()?, watched.said.clone()?)))
    }

    /// The holders of an epoch that was passed on, by their hash.
    pub(super) fn holders(&self, of: (ChannelId, DeviceId), hash: ObjectHash) -> Option<&Holders> {
        self.passed.get(&of).map(|passed| &passed.holders).filter(|holders| holders.hash() == hash)
    }

    /// The highest number of an epoch of the channel that was passed on; 0 if there is none.
    pub(super) fn newest(&self, channel: ChannelId) -> u64 {
        newest(&self.passed, channel)
    }

    /// Discards the epochs of issuers that may no longer deal, by `deals`. A steward whose epoch
    /// was higher than the remaining ones is told again who is there, and deals again.
    /// [PROTO-11.28]
    pub(super) fn judge(&mut self, deals: impl Fn(ChannelId, DeviceId) -> bool) {
        let over = |(channel, issuer): &(ChannelId, DeviceId)| !deals(*channel, *issuer);
        let voided = self.passed.extract_if(.., |of, _| over(of));
        for ((channel, _), passed) in voided.collect::<Vec<_>>() {
            if passed.number > newest(&self.passed, channel)
                && let Some(attended) = self.channels.get_mut(&channel)
            {
                attended.tellings.values_mut().for_each(|telling| telling.begun = false);
            }
        }
    }

    /// Whether an epoch can be sealed to a device.
    pub(super) fn knows(&self, device: DeviceId) -> bool {
        self.prekeys.contains_key(&device)
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        let mut fails = false;
        for (channel, attended) in &mut self.channels {
            if attended.due_at.take_if(|at| *at <= now).is_some()
                && let Some(steward) = attended.steward
            {
                attended.failed.insert(steward, now + FAILED_FOR);
                fails = true;
            }
            if let Some(watched) = &mut attended.watched {
                watched.handle_timeout(now, *channel);
                if watched.judge_at.take_if(|at| *at <= now).is_some()
                    && watched.leaves_out(&attended.here, &mut attended.left_out)
                {
                    attended.failed.insert(watched.issuer, now + LEFT_OUT_FOR);
                    fails = true;
                }
            }
            attended.failed.retain(|_, until| *until > now);
        }
        if fails {
            self.look_at = Some(now);
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let channels = self.channels.values().flat_map(|attended| {
            let tellings = attended.tellings.values().filter_map(|telling| telling.again_at);
            let watched = attended.watched.iter().flat_map(|it| [it.judge_at, it.tell_at]);
            tellings.chain(attended.due_at).chain(watched.flatten())
        });
        channels.chain(self.look_at).min()
    }
}

fn newest(passed: &BTreeMap<(ChannelId, DeviceId), Passed>, channel: ChannelId) -> u64 {
    let of = passed.iter().filter(|((of, _), _)| *of == channel);
    of.map(|(_, passed)| passed.number).max().unwrap_or(0)
}

impl Watched {
    /// Tells the holders of the epoch who holds it, when that is due.
    fn handle_timeout(&mut self, now: Timestamp, channel: ChannelId) {
        if self.tell_at.take_if(|at| *at <= now).is_some() {
            self.pause = (self.pause * 2).min(TELL_PAUSE_MAX);
            self.said = Some(Confirmed::new((channel, self.id), &self.holders, &self.confirmed));
            self.untold = self.confirmed.keys().copied().chain([self.issuer]).collect();
        }
    }

    /// Whether the steward has left out a device that is still there. A device that three others
    /// have left out is itself to blame, or the way to it. No steward is replaced for its sake.
    fn leaves_out(
        &self,
        here: &BTreeMap<DeviceId, UnixTime>,
        left_out: &mut BTreeMap<DeviceId, BTreeSet<DeviceId>>,
    ) -> bool {
        left_out.retain(|device, _| here.contains_key(device));
        let missing = self
            .expected
            .iter()
            .filter(|it| here.contains_key(*it) && !self.confirmed.contains_key(*it));
        let mut leaves_out = false;
        for device in missing {
            let stewards = left_out.entry(*device).or_default();
            if stewards.len() < BLAMED_MAX {
                stewards.insert(self.issuer);
            }
            leaves_out |= stewards.contains(&self.issuer);
        }
        leaves_out
    }
}

impl Attended {
    /// Chooses the steward. All relays that see the same choose alike: the device with the highest
    /// number, which differs for each channel. Devices that have just come or have failed come
    /// last.
    fn elect(
        &mut self,
        now: Timestamp,
        channel: ChannelId,
        able: &BTreeSet<DeviceId>,
        young: impl Fn(&DeviceId) -> bool,
    ) {
        let target = TargetId::of_channel(channel);
        let rank = |device: &&DeviceId| {
            (!self.failed.contains_key(*device), !young(device), rendezvous(target, **device))
        };
        let steward = able.iter().max_by_key(rank).copied();
        if steward != self.steward {
            self.steward = steward;
            self.due_at = steward.map(|_| now + SILENT_AFTER);
        }
        if let Some(steward) = steward {
            self.tellings.entry(steward).or_default();
        }
    }

    /// Ends the stewardship of the channel.
    fn end(&mut self) {
        (self.steward, self.due_at, self.watched) = (None, None, None);
        self.here.clear();
    }

    fn is_over(&self) -> bool {
        self.steward.is_none() && self.tellings.is_empty()
    }
}

impl Announcement {
    /// Returns what to tell about `here`, and whether that is everything. There is one message at a
    /// time.
    fn poll(
        &mut self,
        now: Timestamp,
        here: &BTreeMap<DeviceId, UnixTime>,
        numbers: &mut u64,
    ) -> Option<(bool, &Sent)> {
        if self.again_at.is_some_and(|at| at > now) {
            return None;
        }
        self.again_at = None;
        // A device that stops being steward is told so as a whole message.
        let whole = !self.begun || here.is_empty();
        if whole {
            self.told.clear();
        }
        let differs =
            |(device, number): &(&DeviceId, &UnixTime)| self.told.get(device) != Some(number);
        let come = here.iter().filter(differs).map(|(device, number)| (*device, *number));
        let gone = self.told.keys().filter(|device| !here.contains_key(device)).copied();
        let (come, gone): (Vec<_>, Vec<_>) =
            (come.take(ATTENDANCE_MAX).collect(), gone.take(ATTENDANCE_MAX).collect());
        if !whole && come.is_empty() && gone.is_empty() {
            return None;
        }
        *numbers += 1;
        self.again_at = Some(now + ANSWER_TIMEOUT);
        let sent = Sent { number: *numbers, here: come, gone };
        Some((whole, self.sent.insert(sent)))
    }

    fn handle_answer(&mut self, now: Timestamp, number: u64, taken: bool) {
        let Some(sent) = self.sent.take_if(|sent| sent.number == number) else { return };
        if !taken {
            self.again_at = Some(now + RETRY_AFTER);
            return;
        }
        self.begun = true;
        self.again_at = None;
        self.told.extend(sent.here);
        self.told.retain(|device, _| !sent.gone.contains(device));
    }
}

/// A channel gets a steward when it has more listeners than this.
const BEGINS_ABOVE: usize = 32;

/// It keeps a steward while it has more listeners than this.
const ENDS_AT: usize = 24;

/// With more attached devices than this, every channel gets a steward, since not all devices have
/// links to each other.
const ATTACHED_ABOVE: usize = 48;

/// The channels keep their stewards while more devices than this are attached.
const ATTACHED_ENDS: usize = 40;

/// How long comings and goings are collected.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// A device that has been there for this long is preferred as a steward.
const ELDER_AFTER: Duration = Duration::from_secs(3);

/// A steward that deals nothing within this time is replaced.
const SILENT_AFTER: Duration = Duration::from_millis(1_500);

/// How long a steward that has dealt nothing comes after all others.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// Devices that were reported to a steward must confirm its epoch within this time.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(1_500);

/// Stewards that are replaced for the sake of one device. After that it is left out, and everybody
/// sees that.
const BLAMED_MAX: usize = 3;

/// How long a steward that has left out a device comes after all others.
const LEFT_OUT_FOR: Duration = Duration::from_secs(10 * 60);

/// How long confirmations are collected before all holders are told of them. The time doubles each
/// time.
const TELL_AFTER: Duration = Duration::from_millis(500);
const TELL_PAUSE_MAX: Duration = Duration::from_secs(8);

/// Lists of holders that are remembered, one for each steward. If there are more, the oldest is
/// dropped, and the next epoch brings the whole list.
const PASSED_MAX: usize = 64;

/// Delay before a message that was not accepted is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// A message without an answer is sent again after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
