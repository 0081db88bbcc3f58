//! What this device does as the steward of a channel. All devices that its relays report, and that
//! may hear by the charter, get the same secret.

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{
    ChannelId, DeviceId, DeviceKey, EpochDealer, EpochSeal, EpochSecret, Prekey, Random, Signed,
    Timestamp, UnixTime,
};

use crate::{
    epoch::{Attendance, EpochHeader, Holders, next_number},
    message::LISTENING_MAX,
};

/// The channels of which this device is the steward.
#[derive(Default)]
pub(super) struct Stewards {
    channels: BTreeMap<ChannelId, Stewardship>,
    /// The newest prekey of each device that any relay has reported. Nothing is sealed to an
    /// earlier one, whose secret may be known by now.
    newest: BTreeMap<DeviceId, UnixTime>,
}

#[derive(Default)]
struct Stewardship {
    relays: BTreeMap<DeviceId, Source>,
    /// The highest number that a relay has reported.
    after: u64,
    /// When the next epoch is due.
    due_at: Option<Timestamp>,
    /// The holders of the last epoch.
    holders: Option<Holders>,
}

/// The report of one relay.
struct Source {
    number: u64,
    prekeys: BTreeMap<DeviceId, Prekey>,
}

/// An epoch that was dealt.
pub(super) struct Dealt {
    pub(super) header: Signed<EpochHeader>,
    pub(super) holders: Holders,
    pub(super) secret: EpochSecret,
    /// The seals that each relay is to pass on.
    pub(super) parts: BTreeMap<DeviceId, Vec<(u16, EpochSeal)>>,
}

impl Stewards {
    /// A relay reports who is there. A prekey does not count if its device has not signed it, if it
    /// is too old, or if another has replaced it. [PROTO-11.1] [PROTO-11.25] Returns whether this
    /// device is the channel's steward for that relay from now on.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        calendar: UnixTime,
        relay: DeviceId,
        said: &Attendance,
    ) -> bool {
        if !self.channels.contains_key(&said.channel) && self.channels.len() >= CHANNELS_MAX {
            return false;
        }
        let stewardship = self.channels.entry(said.channel).or_default();
        let fresh = || Source { number: 0, prekeys: BTreeMap::new() };
        let source = stewardship.relays.entry(relay).or_insert_with(fresh);
        if said.number <= source.number {
            return true;
        }
        source.number = said.number;
        if said.whole {
            source.prekeys.clear();
        }
        source.prekeys.retain(|device, _| !said.gone.contains(device));
        for prekey in said.here.iter().filter_map(|prekey| prekey.verify().ok()) {
            let device = prekey.device;
            let newest = self.newest.get(&device).copied().unwrap_or_default();
            if !prekey.is_current(calendar) || prekey.issued < newest {
                continue;
            }
            self.newest.insert(device, prekey.issued);
            if self.newest.len() > ATTENDED_MAX {
                // The prekey that ends first will be the first to be refused for its age.
                let oldest = self.newest.iter().min_by_key(|(_, issued)| **issued);
                if let Some(device) = oldest.map(|(device, _)| *device) {
                    self.newest.remove(&device);
                }
            }
            if source.prekeys.len() < ATTENDED_MAX || source.prekeys.contains_key(&device) {
                source.prekeys.insert(device, prekey.clone());
            }
        }
        stewardship.after = stewardship.after.max(said.after);
        let ends = said.whole && said.here.is_empty();
        if ends {
            stewardship.relays.remove(&relay);
        } else if stewardship.is_changed_by(said) {
            stewardship.soon(now + DEBOUNCE);
        }
        self.channels.retain(|_, stewardship| !stewardship.relays.is_empty());
        !ends
    }

    /// The link to a relay is a new one or is gone. What the relay was to pass on may not have
    /// arrived.
    pub(super) fn link_changed(&mut self, now: Timestamp, relay: DeviceId, down: bool) {
        for stewardship in self.channels.values_mut() {
            let Some(source) = stewardship.relays.get_mut(&relay) else { continue };
            source.number = 0;
            if down {
                stewardship.relays.remove(&relay);
            }
            stewardship.soon(now + DEBOUNCE);
        }
        self.channels.retain(|_, stewardship| !stewardship.relays.is_empty());
    }

    /// A device that holds an epoch and now `is_cut` gets no further one: the next epoch is due at
    /// once.
    pub(super) fn judge(&mut self, now: Timestamp, is_cut: impl Fn(ChannelId, DeviceId) -> bool) {
        for (channel, stewardship) in &mut self.channels {
            let holders = stewardship.holders.iter().flat_map(Holders::devices);
            if holders.into_iter().any(|device| is_cut(*channel, *device)) {
                stewardship.due_at = Some(now);
            }
        }
    }

    /// The epochs of a channel no longer count.
    pub(super) fn voided(&mut self, now: Timestamp, channel: ChannelId) {
        if let Some(stewardship) = self.channels.get_mut(&channel) {
            stewardship.due_at = Some(now);
        }
    }

    /// Returns the next epoch that is due. It is for the devices that may hear by `hears`, and its
    /// number is above those that `held` gives for the channel. [PROTO-11.4]
    pub(super) fn poll(
        &mut self,
        (now, calendar): (Timestamp, UnixTime),
        key: &DeviceKey,
        random: &dyn Random,
        held: impl Fn(ChannelId) -> (u64, u64),
        hears: impl Fn(ChannelId, DeviceId) -> bool,
    ) -> Option<Dealt> {
        let is_due = |it: &Stewardship| it.due_at.is_some_and(|at| at <= now);
        loop {
            let (channel, stewardship) = self.channels.iter_mut().find(|(_, it)| is_due(it))?;
            stewardship.due_at = Some(now + RENEWED_EVERY);
            let newest = |device| self.newest.get(&device).copied().unwrap_or_default();
            let counts = |prekey: &Prekey| {
                let current = prekey.is_current(calendar) && prekey.issued >= newest(prekey.device);
                current && hears(*channel, prekey.device)
            };
            let prekeys = stewardship.prekeys(counts);
            // A device that does not hear the channel deals nothing for it.
            if prekeys.contains_key(&key.id()) {
                let (newest, dealt) = held(*channel);
                let number = next_number(newest, stewardship.after).max(dealt.saturating_add(1));
                return Some(stewardship.deal(key, random, (*channel, number), &prekeys));
            }
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.channels.values().filter_map(|stewardship| stewardship.due_at).min()
    }
}

impl Stewardship {
    fn soon(&mut self, at: Timestamp) {
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// Whether a relay's report requires another epoch. A device that had already lost the last
    /// epoch does not.
    fn is_changed_by(&self, said: &Attendance) -> bool {
        let held = |device| self.holders.as_ref().is_none_or(|it| it.place(device).is_some());
        said.whole || !said.here.is_empty() || said.gone.iter().any(|device| held(*device))
    }

    /// The prekey of each device, among those that count.
    fn prekeys(&self, counts: impl Fn(&Prekey) -> bool) -> BTreeMap<DeviceId, Prekey> {
        let all = self.relays.values().flat_map(|source| &source.prekeys);
        let counting = all.filter(|(_, prekey)| counts(prekey));
        counting.map(|(device, prekey)| (*device, prekey.clone())).collect()
    }

    fn deal(
        &mut self,
        key: &DeviceKey,
        random: &dyn Random,
        (channel, number): (ChannelId, u64),
        prekeys: &BTreeMap<DeviceId, Prekey>,
    ) -> Dealt {
        let holders = Holders::new(prekeys.keys().copied());
        let dealer = EpochDealer::generate(random);
        let header = EpochHeader {
            channel,
            issuer: key.id(),
            number,
            dealer: dealer.public(),
            commitment: dealer.commitment(),
            holders: holders.hash(),
        };
        let header = Signed::sign(header, key);
        let id = header.hash();
        let others = prekeys.values().filter(|prekey| prekey.device != key.id());
        let seal = |prekey: &Prekey| {
            Some((prekey.device, (holders.place(prekey.device)?, dealer.seal(&id, prekey)?)))
        };
        let seals: BTreeMap<_, _> = others.filter_map(seal).collect();
        // Each relay gets the seals for all devices there, so that no single relay can withhold
        // one. A relay that has nothing to pass on sees that there is a steward.
        let part = |source: &Source| {
            source.prekeys.keys().filter_map(|device| seals.get(device).copied()).collect()
        };
        let parts = self.relays.iter().map(|(relay, source)| (*relay, part(source))).collect();
        self.holders = Some(holders.clone());
        Dealt { header, holders, secret: dealer.secret(id), parts }
    }
}

/// Most channels of which one device is the steward. It refuses further ones.
const CHANNELS_MAX: usize = LISTENING_MAX;

/// Most devices that a relay reports. Further ones do not count.
const ATTENDED_MAX: usize = 4096;

/// Comings and goings within this time cause one epoch.
const DEBOUNCE: Duration = Duration::from_millis(400);

/// How long a steward uses one secret.
const RENEWED_EVERY: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests;
