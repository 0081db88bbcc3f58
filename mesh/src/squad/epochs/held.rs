//! The epochs that this device holds, and where others seal them to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{
    ChannelId, DeviceId, DeviceKey, EpochSeal, EpochSecret, ObjectHash, Prekey, PrekeySecret,
    Random, Signed, Timestamp,
};

use crate::{
    epoch::{EpochHeader, Holders},
    squad::telling::Telling,
};

/// What this device holds.
pub(super) struct Held {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    prekey: Option<Current>,
    /// The one before, and until when it is needed.
    previous: Option<(PrekeySecret, Timestamp)>,
    number: u64,
    /// Relays that are told where to seal to.
    told: BTreeMap<DeviceId, Telling<u64>>,
    channels: BTreeMap<ChannelId, Vec<HeldEpoch>>,
    /// The highest number of the epochs that are forgotten, of each channel and who dealt them: if one
    /// of them came again we would seal with the same keys from the first counter on. As many as there
    /// are channels and members' devices, at most.
    forgotten: BTreeMap<(ChannelId, DeviceId), u64>,
}

struct Current {
    secret: PrekeySecret,
    signed: Signed<Prekey>,
    renew_at: Timestamp,
}

/// One epoch of a channel.
pub(super) struct HeldEpoch {
    pub(super) number: u64,
    issuer: DeviceId,
    pub(super) secret: EpochSecret,
    pub(super) holders: Holders,
    came: Timestamp,
    /// When it opens no more.
    ends: Option<Timestamp>,
    /// Somebody holds it who may not any more.
    tainted: bool,
    /// Whoever dealt it may not any more: what is lower counts again.
    void: bool,
    /// The next generation of our key in it; there are 256.
    generation: u16,
}

impl Held {
    pub(super) fn new(key: Arc<DeviceKey>, random: Arc<dyn Random>) -> Self {
        Self {
            key,
            random,
            prekey: None,
            previous: None,
            number: 0,
            told: BTreeMap::new(),
            channels: BTreeMap::new(),
            forgotten: BTreeMap::new(),
        }
    }

    /// The next of `relays` that is to be told our prekey. [PROTO-11.1]
    pub(super) fn poll_prekey(
        &mut self,
        now: Timestamp,
        relays: impl Iterator<Item = DeviceId>,
        numbers: &mut u64,
    ) -> Option<(DeviceId, u64, Signed<Prekey>)> {
        let relays: BTreeSet<_> = relays.collect();
        self.told.retain(|relay, _| relays.contains(relay));
        if relays.is_empty() {
            return None;
        }
        if self.prekey.is_none() {
            self.renew(now);
        }
        let signed = self.prekey.as_ref()?.signed.clone();
        for relay in relays {
            let telling = self.told.entry(relay).or_default();
            if let Some(number) = telling.poll(now, &self.number, numbers) {
                return Some((relay, number, signed));
            }
        }
        None
    }

    pub(super) fn handle_told(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        number: u64,
        taken: bool,
    ) {
        if let Some(telling) = self.told.get_mut(&relay) {
            telling.handle_answer(now, number, taken);
        }
    }

    /// A link to a relay that knows nothing of what was told before.
    pub(super) fn link_up(&mut self, relay: DeviceId) {
        self.told.remove(&relay);
    }

    fn renew(&mut self, now: Timestamp) {
        let secret = PrekeySecret::generate(&*self.random);
        self.number += 1;
        let prekey = Prekey { device: self.key.id(), number: self.number, key: secret.public() };
        let signed = Signed::sign(prekey, &self.key);
        let current = Current { secret, signed, renew_at: now + PREKEY_RENEWED };
        let before = self.prekey.replace(current);
        self.previous = before.map(|before| (before.secret, now + PREKEY_KEPT));
    }

    /// What is sealed for us in an epoch, by the prekey that we have or had.
    pub(super) fn open(
        &self,
        epoch: &[u8; 32],
        header: &EpochHeader,
        seal: &EpochSeal,
    ) -> Option<EpochSecret> {
        let current = self.prekey.as_ref().map(|current| &current.secret);
        let mut secrets = current.into_iter().chain(self.previous.as_ref().map(|(it, _)| it));
        let of = (epoch, &header.dealer, &header.commitment);
        secrets.find_map(|secret| secret.open(of, self.key.id(), seal).ok())
    }

    /// Takes an epoch; says whether it is new. Those of which a better one has come open for a while
    /// yet, and of more than four the worst goes. [PROTO-11.7]
    pub(super) fn insert(
        &mut self,
        now: Timestamp,
        (channel, issuer, number): (ChannelId, DeviceId, u64),
        (secret, holders, tainted): (EpochSecret, Holders, bool),
    ) -> bool {
        if self.forgotten.get(&(channel, issuer)).is_some_and(|last| number <= *last) {
            return false;
        }
        let epochs = self.channels.entry(channel).or_default();
        if epochs.iter().any(|epoch| epoch.secret.id() == secret.id()) {
            return false;
        }
        let id = *secret.id();
        let (came, ends, void, generation) = (now, None, false, 0);
        epochs.push(HeldEpoch {
            number,
            issuer,
            secret,
            holders,
            came,
            ends,
            tainted,
            void,
            generation,
        });
        epochs.sort_by_key(|epoch| (!epoch.void, epoch.number, *epoch.secret.id()));
        if epochs.len() > EPOCHS_KEPT {
            forget(&mut self.forgotten, channel, &epochs.remove(0));
        }
        end_all_but_last(now, epochs);
        epochs.iter().any(|epoch| *epoch.secret.id() == id)
    }

    /// Judges anew who holds what by who `is_cut` from a channel, and what counts by who `deals`
    /// there; gives the channels on which something counts no more. [PROTO-11.11]
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        is_cut: impl Fn(ChannelId, DeviceId) -> bool,
        deals: impl Fn(ChannelId, DeviceId) -> bool,
    ) -> Vec<ChannelId> {
        let mut voided = Vec::new();
        for (channel, epochs) in &mut self.channels {
            for epoch in &mut *epochs {
                epoch.tainted = epoch.holders.devices().iter().any(|it| is_cut(*channel, *it));
                if !epoch.void && !deals(*channel, epoch.issuer) {
                    epoch.void = true;
                    voided.push(*channel);
                }
            }
            epochs.sort_by_key(|epoch| (!epoch.void, epoch.number, *epoch.secret.id()));
            end_all_but_last(now, epochs);
        }
        voided
    }

    /// The epoch to seal with for a channel: the newest that nobody holds who may not. One that has
    /// just come waits until others have it, where there is another that serves. [PROTO-11.7]
    pub(super) fn best(&self, now: Timestamp, channel: ChannelId) -> Option<&HeldEpoch> {
        let epochs = self.channels.get(&channel)?.iter().rev();
        let usable = epochs.filter(|epoch| {
            let own = epoch.holders.place(self.key.id()).is_some();
            let young = now.saturating_duration_since(epoch.came) < SEALS_FOR;
            own && young && !epoch.tainted && !epoch.void && epoch.generation < GENERATIONS
        });
        let ripe = |epoch: &&HeldEpoch| epoch.came + USED_AFTER <= now;
        usable.clone().find(ripe).or_else(|| usable.clone().next())
    }

    /// A generation of our key in an epoch: each comes once. [PROTO-11.8]
    pub(super) fn take_generation(&mut self, channel: ChannelId, id: &[u8; 32]) -> Option<u8> {
        let epochs = self.channels.get_mut(&channel)?;
        let epoch = epochs.iter_mut().find(|epoch| epoch.secret.id() == id)?;
        let generation = u8::try_from(epoch.generation).ok()?;
        epoch.generation += 1;
        Some(generation)
    }

    /// The holders of an epoch of the channel, by their hash.
    pub(super) fn holders(&self, channel: ChannelId, hash: ObjectHash) -> Option<&Holders> {
        let mut epochs = self.channels.get(&channel)?.iter();
        epochs.find(|epoch| epoch.holders.hash() == hash).map(|epoch| &epoch.holders)
    }

    /// The highest number of an epoch of the channel that counts; 0 where there is none.
    pub(super) fn newest(&self, channel: ChannelId) -> u64 {
        let epochs = self.channels.get(&channel).into_iter().flatten();
        epochs.filter(|epoch| !epoch.void).map(|epoch| epoch.number).max().unwrap_or(0)
    }

    /// The highest number of our own that is forgotten; 0 where there is none.
    pub(super) fn dealt(&self, channel: ChannelId) -> u64 {
        self.forgotten.get(&(channel, self.key.id())).copied().unwrap_or(0)
    }

    /// All that open, by channel.
    pub(super) fn all(&self) -> impl Iterator<Item = (ChannelId, &[HeldEpoch])> {
        self.channels.iter().map(|(channel, epochs)| (*channel, &epochs[..]))
    }

    /// Forgets what time has ended; says whether an epoch is among it.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) -> bool {
        if self.prekey.as_ref().is_some_and(|current| current.renew_at <= now) {
            self.renew(now);
        }
        self.previous.take_if(|(_, until)| *until <= now);
        let mut ended = false;
        for (channel, epochs) in &mut self.channels {
            let over = |epoch: &mut HeldEpoch| {
                epoch.ends.is_some_and(|at| at <= now) || epoch.opens_until() <= now
            };
            for epoch in epochs.extract_if(.., over) {
                forget(&mut self.forgotten, *channel, &epoch);
                ended = true;
            }
        }
        self.channels.retain(|_, epochs| !epochs.is_empty());
        ended
    }

    pub(super) fn timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let epochs = self.channels.values().flatten().flat_map(|epoch| {
            let changes = [epoch.came + USED_AFTER, epoch.came + SEALS_FOR, epoch.opens_until()];
            epoch.ends.into_iter().chain(changes)
        });
        let prekeys = self.prekey.as_ref().map(|current| current.renew_at);
        let previous = self.previous.as_ref().map(|(_, until)| *until);
        let told = self.told.values().filter_map(Telling::timeout);
        epochs.filter(|at| *at > now).chain(prekeys).chain(previous).chain(told).min()
    }
}

/// What is worse than the last opens for a while yet. [PROTO-11.7]
fn end_all_but_last(now: Timestamp, epochs: &mut [HeldEpoch]) {
    let Some((best, others)) = epochs.split_last_mut() else { return };
    if best.void {
        best.ends.get_or_insert(now + KEPT_AFTER);
    } else {
        best.ends = None;
    }
    for other in others {
        other.ends.get_or_insert(now + KEPT_AFTER);
    }
}

fn forget(
    forgotten: &mut BTreeMap<(ChannelId, DeviceId), u64>,
    channel: ChannelId,
    epoch: &HeldEpoch,
) {
    let last = forgotten.entry((channel, epoch.issuer)).or_default();
    *last = epoch.number.max(*last);
}

impl HeldEpoch {
    fn opens_until(&self) -> Timestamp {
        self.came + SEALS_FOR + KEPT_AFTER
    }
}

/// Epochs of one channel at a time; of more the one with the lowest number goes.
const EPOCHS_KEPT: usize = 4;

/// How long an epoch opens after a better one has come: frames and talkers may be late.
const KEPT_AFTER: Duration = Duration::from_secs(10);

/// How long a new one waits for others to have it, too.
const USED_AFTER: Duration = Duration::from_millis(300);

/// How long an epoch seals that no steward replaces.
const SEALS_FOR: Duration = Duration::from_secs(11 * 60);

/// How often a device makes a new prekey.
const PREKEY_RENEWED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is sealed to the one before may be on its way.
const PREKEY_KEPT: Duration = Duration::from_secs(60);

/// Generations of one talker in an epoch.
const GENERATIONS: u16 = 256;

#[cfg(test)]
mod tests {
    use hark_keys::{EpochDealer, SeededRandom};

    use super::*;

    /// A relay that had kept an old epoch could have had a talker count anew under keys that it had
    /// used. [PROTO-11.7]
    #[test]
    fn an_epoch_that_is_forgotten_is_not_taken_again() {
        let random = Arc::new(SeededRandom::new(1));
        let [key, one, other] = [(); 3].map(|()| DeviceKey::generate(&*random));
        let channel = ChannelId::from_bytes([1; 16]);
        let holders = Holders::new([key.id()]);
        let mut held = Held::new(Arc::new(key), Arc::clone(&random) as _);
        let epoch = |byte| EpochDealer::generate(&*random).secret([byte; 32]);
        let mut take = |now, issuer: &DeviceKey, number, secret: &EpochSecret| {
            held.handle_timeout(now);
            let dealt = (secret.clone(), holders.clone(), false);
            held.insert(now, (channel, issuer.id(), number), dealt)
        };
        let (now, first) = (Timestamp::from_millis(1_000), epoch(1));
        assert!(take(now, &one, 1, &first));
        for number in 2..=5 {
            assert!(take(now, &one, number.into(), &epoch(number)));
        }
        assert!(!take(now, &one, 1, &first), "of five the first is forgotten");
        let later = now + Duration::from_secs(20 * 60);
        assert!(!take(later, &one, 5, &epoch(5)), "time has ended it");
        assert!(take(later, &one, 6, &epoch(6)));
        assert!(take(later, &other, 3, &epoch(7)), "another steward's numbers are its own");
    }
}
