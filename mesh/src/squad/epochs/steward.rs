//! What this device does as the steward of a channel: whoever is there by the word of its relays,
//! and may hear by the charter, gets the same secret.

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{
    ChannelId, DeviceId, DeviceKey, EpochDealer, EpochSeal, EpochSecret, Prekey, Random, Signed,
    Timestamp, UnixTime,
};

use crate::{
    epoch::{Attendance, EpochHeader, Holders, next_number},
    message::LISTENING_MAX,
};

/// The channels that this device is the steward of.
#[derive(Default)]
pub(super) struct Stewards {
    channels: BTreeMap<ChannelId, Stewardship>,
    /// The newest prekey that was seen of each device, by whichever relay: nothing is sealed to an
    /// earlier one, whose secret may be known by now.
    newest: BTreeMap<DeviceId, UnixTime>,
}

#[derive(Default)]
struct Stewardship {
    relays: BTreeMap<DeviceId, Source>,
    /// The highest number that a relay has told.
    after: u64,
    /// When the next epoch is due.
    due_at: Option<Timestamp>,
    /// Who holds the last one.
    holders: Option<Holders>,
}

/// What one relay says.
struct Source {
    number: u64,
    prekeys: BTreeMap<DeviceId, Prekey>,
}

/// An epoch that was dealt.
pub(super) struct Dealt {
    pub(super) header: Signed<EpochHeader>,
    pub(super) holders: Holders,
    pub(super) secret: EpochSecret,
    /// What each relay is to pass on.
    pub(super) parts: BTreeMap<DeviceId, Vec<(u16, EpochSeal)>>,
}

impl Stewards {
    /// A relay says who is there; prekeys that their devices have not signed, that are too old, or
    /// that another has replaced do not count. [PROTO-11.1] [PROTO-11.25] Whether this device is
    /// the channel's steward for that relay from now on.
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
                // The one that ends first is refused the soonest for its age.
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

    /// The link to a relay is another one, or gone: what it was to pass on may not have come.
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

    /// Whoever holds an epoch and `is_cut` gets no other: the next one is due at once.
    pub(super) fn judge(&mut self, now: Timestamp, is_cut: impl Fn(ChannelId, DeviceId) -> bool) {
        for (channel, stewardship) in &mut self.channels {
            let holders = stewardship.holders.iter().flat_map(Holders::devices);
            if holders.into_iter().any(|device| is_cut(*channel, *device)) {
                stewardship.due_at = Some(now);
            }
        }
    }

    /// The epochs of a channel count no more.
    pub(super) fn voided(&mut self, now: Timestamp, channel: ChannelId) {
        if let Some(stewardship) = self.channels.get_mut(&channel) {
            stewardship.due_at = Some(now);
        }
    }

    /// The next epoch that is due: for those who `hears` says may hear it, with a number after what
    /// `held` says of the channel's. [PROTO-11.4]
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
            // Who does not hear the channel deals nothing for it.
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

    /// Whether whoever a relay speaks of makes another epoch: not one who lost it before.
    fn is_changed_by(&self, said: &Attendance) -> bool {
        let held = |device| self.holders.as_ref().is_none_or(|it| it.place(device).is_some());
        said.whole || !said.here.is_empty() || said.gone.iter().any(|device| held(*device))
    }

    /// Where each device takes what is sealed to it, of the prekeys that count.
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
        // Each relay gets the seals of all who are there, so that no single one can keep one back.
        // One that has nothing to pass on sees that there is a steward.
        let part = |source: &Source| {
            source.prekeys.keys().filter_map(|device| seals.get(device).copied()).collect()
        };
        let parts = self.relays.iter().map(|(relay, source)| (*relay, part(source))).collect();
        self.holders = Some(holders.clone());
        Dealt { header, holders, secret: dealer.secret(id), parts }
    }
}

/// Channels that one device is the steward of; it is that of no further ones.
const CHANNELS_MAX: usize = LISTENING_MAX;

/// Devices that a relay names; further ones do not count.
const ATTENDED_MAX: usize = 4096;

/// Comings and goings within this time make one epoch.
const DEBOUNCE: Duration = Duration::from_millis(400);

/// How long a steward seals with one secret.
const RENEWED_EVERY: Duration = Duration::from_secs(10 * 60);
