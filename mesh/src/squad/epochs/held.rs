//! The epochs that this device holds, and the prekeys to which others seal them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{
    ChannelId, DeviceId, DeviceKey, EpochSeal, EpochSecret, ObjectHash, Prekey, PrekeySecret,
    Random, Signed, Timestamp, UnixTime,
};

use crate::{
    epoch::{Confirmed, Confirming, EpochHeader, Holders},
    squad::announcement::Announcement,
};

/// The epochs and prekeys that this device holds.
pub(super) struct Held {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    prekey: Option<Current>,
    /// The previous prekey, and until when it is needed.
    previous: Option<(PrekeySecret, Timestamp)>,
    /// The relays that have our prekey or are to get it.
    told: BTreeMap<DeviceId, Announcement<UnixTime>>,
    channels: BTreeMap<ChannelId, Vec<HeldEpoch>>,
    /// The highest number of the forgotten epochs, for each channel and issuer. If such an epoch
    /// came again, we would seal with the same keys from the first counter on. There are at most as
    /// many entries as channels times members' devices.
    forgotten: BTreeMap<(ChannelId, DeviceId), u64>,
}

struct Current {
    secret: PrekeySecret,
    signed: Signed<Prekey>,
    renew_at: Timestamp,
}

/// One epoch of a channel.
pub(in crate::squad) struct HeldEpoch {
    pub(super) number: u64,
    issuer: DeviceId,
    pub(super) secret: EpochSecret,
    pub(super) holders: Holders,
    came: Timestamp,
    /// When it no longer opens anything, since a better one has come.
    ends: Option<Timestamp>,
    /// When it no longer opens anything, since it is tainted or void.
    closes: Option<Timestamp>,
    /// Whether a device holds it that no longer may.
    tainted: bool,
    /// Whether the charter does not know one of the holders, or not yet.
    strange: bool,
    /// Whether its issuer may no longer deal. Lower numbers then count again.
    void: bool,
    /// Whether it came by a relay that the charter names.
    named: bool,
    /// The relays that brought it, and whether each knows that we could open it.
    shown: BTreeMap<DeviceId, Announcement<()>>,
    /// The devices that have confirmed it, as a relay reports.
    confirmed: BTreeSet<DeviceId>,
    /// The next generation of our key in it. There are 256.
    generation: u16,
}

/// A new epoch, and how it arrived.
pub(super) struct Arrival {
    pub(super) of: (ChannelId, DeviceId, u64),
    pub(super) secret: EpochSecret,
    pub(super) holders: Holders,
    /// What the charter says about the holders, and whether a relay of the charter has brought it.
    pub(super) standing: Standing,
    pub(super) named: bool,
}

/// What a charter says about the holders of an epoch.
#[derive(Clone, Copy, Default)]
pub(super) struct Standing {
    /// One of them may not hold it.
    pub(super) tainted: bool,
    /// The charter does not know one of them.
    pub(super) strange: bool,
}

impl Standing {
    /// The standing of `holders`, by what `hears` says about each.
    pub(super) fn of(holders: &Holders, hears: impl Fn(DeviceId) -> Option<bool>) -> Self {
        let mut standing = Self::default();
        for device in holders.devices() {
            match hears(*device) {
                Some(true) => {}
                Some(false) => standing.tainted = true,
                None => standing.strange = true,
            }
        }
        standing
    }
}

impl Held {
    pub(super) fn new(key: Arc<DeviceKey>, random: Arc<dyn Random>) -> Self {
        Self {
            key,
            random,
            prekey: None,
            previous: None,
            told: BTreeMap::new(),
            channels: BTreeMap::new(),
            forgotten: BTreeMap::new(),
        }
    }

    /// The next of `relays` that is to be told our prekey. [PROTO-11.1]
    pub(super) fn poll_prekey(
        &mut self,
        now: Timestamp,
        calendar: UnixTime,
        relays: impl Iterator<Item = DeviceId>,
        numbers: &mut u64,
    ) -> Option<(DeviceId, u64, Signed<Prekey>)> {
        let relays: BTreeSet<_> = relays.collect();
        self.told.retain(|relay, _| relays.contains(relay));
        if relays.is_empty() {
            return None;
        }
        // The calendar advances while the machine sleeps.
        let is_good =
            |current: &Current| calendar < current.signed.unverified().issued + PREKEY_RENEWED;
        if !self.prekey.as_ref().is_some_and(is_good) {
            self.renew(now, calendar);
        }
        let signed = self.prekey.as_ref()?.signed.clone();
        let issued = signed.unverified().issued;
        for relay in relays {
            let telling = self.told.entry(relay).or_default();
            if let Some(number) = telling.poll(now, &issued, numbers) {
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

    /// The link to a relay is new, so the relay knows nothing that it was told before.
    pub(super) fn link_up(&mut self, relay: DeviceId) {
        self.told.remove(&relay);
    }

    fn renew(&mut self, now: Timestamp, calendar: UnixTime) {
        let secret = PrekeySecret::generate(&*self.random);
        let known = self.prekey.as_ref().map(|current| current.signed.unverified().issued);
        // A later prekey replaces an earlier one, whatever happens to the calendar.
        let next = known.map(|known| known + Duration::from_secs(1));
        let issued = next.map_or(calendar, |next| next.max(calendar));
        let signed = Signed::sign(Prekey::new(self.key.id(), issued, &secret), &self.key);
        let current = Current { secret, signed, renew_at: now + PREKEY_RENEWED };
        let before = self.prekey.replace(current);
        self.previous = before.map(|before| (before.secret, now + PREKEY_KEPT));
    }

    /// Opens what is sealed for us in an epoch, with our current or previous prekey.
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

    /// Whether an epoch with this id is held. If so, notes that it has also come by `relay`, and
    /// whether the charter names that relay.
    pub(super) fn comes_again(
        &mut self,
        channel: ChannelId,
        id: &[u8; 32],
        (relay, named): (DeviceId, bool),
    ) -> bool {
        let Some(epochs) = self.channels.get_mut(&channel) else { return false };
        let Some(epoch) = epochs.iter_mut().find(|epoch| epoch.secret.id() == id) else {
            return false;
        };
        epoch.shown.entry(relay).or_default();
        epoch.named |= named;
        epochs.sort_by_key(HeldEpoch::rank);
        true
    }

    /// Takes a new epoch. Returns whether it is kept. The relay that has brought it is to be shown
    /// that we could open it. Epochs that are worse than the best still open for a while. If there
    /// are more than four, the worst is dropped. [PROTO-11.7]
    pub(super) fn insert(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        relay: Option<DeviceId>,
    ) -> bool {
        let Arrival { of: (channel, issuer, number), secret, holders, standing, named } = arrival;
        if self.forgotten.get(&(channel, issuer)).is_some_and(|last| number <= *last) {
            return false;
        }
        let Standing { tainted, strange } = standing;
        let epochs = self.channels.entry(channel).or_default();
        let id = *secret.id();
        epochs.push(HeldEpoch {
            number,
            issuer,
            secret,
            holders,
            came: now,
            ends: None,
            closes: tainted.then_some(now + CLOSES_AFTER),
            tainted,
            strange,
            void: false,
            named,
            shown: relay.into_iter().map(|relay| (relay, Announcement::default())).collect(),
            // Its steward has sealed it.
            confirmed: BTreeSet::from([issuer, self.key.id()]),
            generation: 0,
        });
        epochs.sort_by_key(HeldEpoch::rank);
        if epochs.len() > EPOCHS_KEPT {
            forget(&mut self.forgotten, channel, &epochs.remove(0));
        }
        end_all_but_last(now, epochs);
        epochs.iter().any(|epoch| *epoch.secret.id() == id)
    }

    /// Judges again which holders may hold each epoch, by `hears`, and which epochs count, by
    /// `deals`. Returns the channels on which an epoch no longer counts. [PROTO-11.28]
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        hears: impl Fn(ChannelId, DeviceId) -> Option<bool>,
        deals: impl Fn(ChannelId, DeviceId) -> bool,
    ) -> Vec<ChannelId> {
        let mut voided = Vec::new();
        for (channel, epochs) in &mut self.channels {
            for epoch in &mut *epochs {
                let standing = Standing::of(&epoch.holders, |device| hears(*channel, device));
                (epoch.tainted, epoch.strange) = (standing.tainted, standing.strange);
                if !epoch.void && !deals(*channel, epoch.issuer) {
                    epoch.void = true;
                    voided.push(*channel);
                }
                let closes = epoch.tainted || epoch.void;
                epoch.closes = closes.then(|| epoch.closes.unwrap_or(now + CLOSES_AFTER));
            }
            epochs.sort_by_key(HeldEpoch::rank);
            end_all_but_last(now, epochs);
        }
        voided
    }

    /// The epoch to seal with for a channel: the best one whose holders all may hold it and are
    /// known to the charter. A new epoch waits until others have it, if there is another one to
    /// use. [PROTO-11.7]
    pub(super) fn best(&self, now: Timestamp, channel: ChannelId) -> Option<&HeldEpoch> {
        let epochs = self.channels.get(&channel)?.iter().rev();
        let usable = epochs.filter(|epoch| {
            let own = epoch.holders.place(self.key.id()).is_some();
            let young = now.saturating_duration_since(epoch.came) < SEALS_FOR;
            let sound = !epoch.tainted && !epoch.strange && !epoch.void;
            own && young && sound && epoch.generation < GENERATIONS
        });
        let ripe = |epoch: &&HeldEpoch| epoch.came + USED_AFTER <= now;
        usable.clone().find(ripe).or_else(|| usable.clone().next())
    }

    /// A relay reports who holds an epoch of ours. Returns `None` if we do not hold it, or if the
    /// report is not true. [PROTO-11.12]
    pub(super) fn take_confirmed(&mut self, said: &Confirmed) -> Option<()> {
        let id = said.epoch.as_bytes();
        let mut epochs = self.channels.get_mut(&said.channel)?.iter_mut();
        let epoch = epochs.find(|epoch| epoch.secret.id() == id)?;
        let devices = said.devices(&epoch.secret, &epoch.holders)?;
        epoch.confirmed.extend(devices);
        Some(())
    }

    /// The next relay that is to be shown that we could open an epoch. [PROTO-11.12]
    pub(super) fn poll_confirming(
        &mut self,
        now: Timestamp,
        numbers: &mut u64,
    ) -> Option<(DeviceId, u64, Confirming)> {
        let device = self.key.id();
        for (channel, epochs) in &mut self.channels {
            for epoch in epochs.iter_mut().filter(|epoch| epoch.is_shown_at(now)) {
                for (relay, telling) in &mut epoch.shown {
                    let Some(number) = telling.poll(now, &(), numbers) else { continue };
                    let confirming = Confirming {
                        channel: *channel,
                        epoch: ObjectHash::from_bytes(*epoch.secret.id()),
                        confirmation: epoch.secret.confirmation(device),
                    };
                    return Some((*relay, number, confirming));
                }
            }
        }
        None
    }

    pub(super) fn handle_shown(&mut self, now: Timestamp, of: (DeviceId, u64), taken: bool) {
        let (relay, number) = of;
        let epochs = self.channels.values_mut().flatten();
        let mut tellings = epochs.filter_map(|epoch| epoch.shown.get_mut(&relay));
        let _ = tellings.any(|telling| telling.handle_answer(now, number, taken));
    }

    /// The epoch with this id.
    pub(super) fn by_id(&self, channel: ChannelId, id: &[u8; 32]) -> Option<&HeldEpoch> {
        self.channels.get(&channel)?.iter().find(|epoch| epoch.secret.id() == id)
    }

    /// Takes a generation of our key in an epoch. Each is returned once. [PROTO-11.8]
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

    /// The highest number of an epoch of the channel that counts; 0 if there is none.
    pub(super) fn newest(&self, channel: ChannelId) -> u64 {
        let epochs = self.channels.get(&channel).into_iter().flatten();
        epochs.filter(|epoch| !epoch.void).map(|epoch| epoch.number).max().unwrap_or(0)
    }

    /// The highest number among our own forgotten epochs; 0 if there is none.
    pub(super) fn dealt(&self, channel: ChannelId) -> u64 {
        self.forgotten.get(&(channel, self.key.id())).copied().unwrap_or(0)
    }

    /// All epochs that open, by channel.
    pub(super) fn all(&self) -> impl Iterator<Item = (ChannelId, &[HeldEpoch])> {
        self.channels.iter().map(|(channel, epochs)| (*channel, &epochs[..]))
    }

    /// Forgets what has expired. Returns whether an epoch is among it.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, calendar: UnixTime) -> bool {
        if self.prekey.as_ref().is_some_and(|current| current.renew_at <= now) {
            self.renew(now, calendar);
        }
        self.previous.take_if(|(_, until)| *until <= now);
        let mut ended = false;
        for (channel, epochs) in &mut self.channels {
            let over = |epoch: &mut HeldEpoch| epoch.opens_until() <= now;
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
            let came = epoch.came;
            let shown = epoch.shown.values().filter_map(Announcement::timeout);
            let shown = shown.filter(move |at| *at < came + SHOWN_FOR);
            let changes = [USED_AFTER, CONFIRMED_WITHIN, SEALS_FOR].map(|after| came + after);
            shown.chain(changes).chain([epoch.opens_until()])
        });
        let prekeys = self.prekey.as_ref().map(|current| current.renew_at);
        let previous = self.previous.as_ref().map(|(_, until)| *until);
        let told = self.told.values().filter_map(Announcement::timeout);
        epochs.filter(|at| *at > now).chain(prekeys).chain(previous).chain(told).min()
    }
}

/// Epochs worse than the last one open only for a while. [PROTO-11.7] [PROTO-11.22]
fn end_all_but_last(now: Timestamp, epochs: &mut [HeldEpoch]) {
    let Some((best, others)) = epochs.split_last_mut() else { return };
    best.ends = None;
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
    /// The rank of the epoch; a higher one is better. Epochs from relays of the charter come before
    /// those from volunteers.
    fn rank(&self) -> (bool, bool, u64, [u8; 32]) {
        (!self.void, self.named, self.number, *self.secret.id())
    }

    fn opens_until(&self) -> Timestamp {
        let ends = self.ends.into_iter().chain(self.closes);
        ends.chain([self.came + SEALS_FOR + KEPT_AFTER]).min().expect("there is one")
    }

    /// Whether to show relays now that we hold it: not too early, and not after trying in vain for
    /// long.
    fn is_shown_at(&self, now: Timestamp) -> bool {
        self.came + USED_AFTER <= now && now < self.came + SHOWN_FOR
    }

    /// How many devices have confirmed it, and whether the time for that is over.
    pub(in crate::squad) fn confirmations(&self, now: Timestamp) -> (usize, bool) {
        (self.confirmed.len(), self.came + CONFIRMED_WITHIN <= now)
    }

    /// Whether a holder has not confirmed it in time, and so may not be able to open it.
    pub(in crate::squad) fn is_unconfirmed(&self, now: Timestamp, device: DeviceId) -> bool {
        self.came + CONFIRMED_WITHIN <= now && !self.confirmed.contains(&device)
    }
}

/// Epochs of one channel that are kept. If there are more, the one with the lowest number is
/// dropped.
const EPOCHS_KEPT: usize = 4;

/// How long an epoch opens after a better one has come, since frames and talkers may be late.
const KEPT_AFTER: Duration = Duration::from_secs(10);

/// How long a new epoch waits for others to have it, too. After that, relays are shown that we hold
/// it.
const USED_AFTER: Duration = Duration::from_millis(300);

/// How long a tainted or void epoch opens, since others may learn of it a little later.
const CLOSES_AFTER: Duration = Duration::from_secs(2);

/// A device that has not confirmed an epoch within this time is taken not to hear.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(1_700);

/// How long we tell a relay that we hold an epoch, if it does not accept that. Its steward may have
/// lied.
const SHOWN_FOR: Duration = Duration::from_secs(10);

/// How long an epoch seals if no steward replaces it.
const SEALS_FOR: Duration = Duration::from_secs(11 * 60);

/// How often a device makes a new prekey: an hour before the last one is too old to be sealed to.
const PREKEY_RENEWED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the previous prekey is kept. Something sealed to it may still be on its way.
const PREKEY_KEPT: Duration = Duration::from_secs(60);

/// Generations of one talker in an epoch.
const GENERATIONS: u16 = 256;

#[cfg(test)]
mod tests {
    use hark_keys::{EpochDealer, SeededRandom};

    use super::*;

    const CHANNEL: ChannelId = ChannelId::from_bytes([1; 16]);

    /// A device that holds nothing, and its id.
    fn started() -> (Held, DeviceId) {
        let random = Arc::new(SeededRandom::new(2));
        let key = DeviceKey::generate(&*random);
        let id = key.id();
        (Held::new(Arc::new(key), random), id)
    }

    fn device(byte: u8) -> DeviceId {
        DeviceId::from_bytes([byte; 32]).expect("a device")
    }

    /// An epoch with the id `[id; 32]` that `device(issuer)` has dealt for `holders`.
    fn arrival(id: u8, (issuer, number): (u8, u64), holders: &[DeviceId]) -> Arrival {
        let dealer = EpochDealer::generate(&SeededRandom::new(id.into()));
        Arrival {
            of: (CHANNEL, device(issuer), number),
            secret: dealer.secret([id; 32]),
            holders: Holders::new(holders.iter().copied()),
            standing: Standing::default(),
            named: true,
        }
    }

    fn ids(held: &Held) -> Vec<u8> {
        let epochs = held.all().flat_map(|(_, epochs)| epochs);
        epochs.map(|epoch| epoch.secret.id()[0]).collect()
    }

    fn best(held: &Held, now: Timestamp) -> Option<u8> {
        held.best(now, CHANNEL).map(|epoch| epoch.secret.id()[0])
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    /// [PROTO-11.7] [PROTO-11.28]
    #[test]
    fn epochs_are_ranked_by_the_relay_that_brought_them_their_number_and_their_id() {
        let (mut held, own) = started();
        let mut take = |epoch: Arrival| held.insert(at(0), epoch, None);
        assert!(take(arrival(4, (20, 2), &[own])));
        assert!(take(Arrival { named: false, ..arrival(1, (21, 9), &[own]) }));
        assert!(take(arrival(3, (22, 2), &[own])));
        assert!(take(arrival(2, (23, 1), &[own])));
        assert_eq!((ids(&held), best(&held, at(300))), (vec![1, 2, 3, 4], Some(4)));
        // The one that a volunteer has brought is dropped first, though its number is the highest.
        assert!(held.insert(at(0), arrival(5, (23, 3), &[own]), None));
        assert_eq!((ids(&held), best(&held, at(300))), (vec![2, 3, 4, 5], Some(5)));
        // What no longer counts comes after everything else.
        let voided = held.judge(at(0), |_, _| Some(true), |_, issuer| issuer != device(23));
        assert_eq!(voided, [CHANNEL, CHANNEL]);
        assert_eq!((ids(&held), best(&held, at(300))), (vec![2, 5, 3, 4], Some(4)));
        assert_eq!(held.newest(CHANNEL), 2);
    }

    /// [PROTO-11.7]
    #[test]
    fn only_an_epoch_that_all_its_holders_may_hold_seals_and_not_for_longer_than_eleven_minutes() {
        let (mut held, own) = started();
        let other = device(30);
        held.insert(at(0), arrival(1, (20, 1), &[own, other]), None);
        held.insert(at(1_000), arrival(2, (20, 2), &[other]), None);
        assert_eq!(best(&held, at(1_300)), Some(1), "we are no holder of the second");
        held.insert(at(2_000), arrival(3, (20, 3), &[own]), None);
        assert_eq!(best(&held, at(2_299)), Some(1), "others may not have it yet");
        assert_eq!(best(&held, at(2_300)), Some(3));
        for _ in 0..256 {
            assert_eq!(best(&held, at(2_300)), Some(3));
            assert!(held.take_generation(CHANNEL, &[3; 32]).is_some());
        }
        assert_eq!(held.take_generation(CHANNEL, &[3; 32]), None);
        assert_eq!(best(&held, at(2_300)), Some(1), "all our keys in it are used");
        assert_eq!(best(&held, at(659_999)), Some(1));
        assert_eq!(best(&held, at(660_000)), None, "it is too old");
        for about in [Some(false), None] {
            held.judge(
                at(3_000),
                |_, it| if it == other { about } else { Some(true) },
                |_, _| true,
            );
            assert_eq!(best(&held, at(3_000)), None, "{about:?}");
        }
        held.judge(at(3_000), |_, _| Some(true), |_, _| true);
        assert_eq!(best(&held, at(3_000)), Some(1));
    }

    /// [PROTO-11.20]
    #[test]
    fn who_has_not_confirmed_an_epoch_in_time_is_shown_until_it_does() {
        let (mut held, own) = started();
        let (steward, other) = (device(20), device(30));
        let epoch = arrival(1, (20, 1), &[own, steward, other]);
        let (secret, holders) = (epoch.secret.clone(), epoch.holders.clone());
        held.insert(at(1_000), epoch, None);
        let shown = |held: &Held, now| {
            let epoch = held.by_id(CHANNEL, &[1; 32]).expect("it is held");
            let unconfirmed = holders.devices().iter().copied();
            let unconfirmed = unconfirmed.filter(|it| epoch.is_unconfirmed(now, *it));
            (epoch.confirmations(now), unconfirmed.collect::<Vec<_>>())
        };
        assert_eq!(shown(&held, at(2_699)), ((2, false), vec![]));
        assert_eq!(shown(&held, at(2_700)), ((2, true), vec![other]));
        let of = (CHANNEL, ObjectHash::from_bytes([1; 32]));
        let report = |by| {
            let confirmations = BTreeMap::from([(other, secret.confirmation(by))]);
            Confirmed::new(of, &holders, &confirmations)
        };
        assert_eq!(held.take_confirmed(&report(own)), None, "not its confirmation");
        assert_eq!(held.take_confirmed(&report(other)), Some(()));
        assert_eq!(shown(&held, at(2_700)), ((3, true), vec![]));
    }

    /// [PROTO-11.12]
    #[test]
    fn a_relay_is_shown_that_we_hold_an_epoch_until_it_takes_that_or_ten_seconds_have_passed() {
        let (mut held, own) = started();
        let (relay, mut numbers) = (device(40), 0);
        held.insert(at(1_000), arrival(1, (20, 1), &[own]), Some(relay));
        let mut shows = |held: &mut Held, now| {
            let (to, number, said) = held.poll_confirming(now, &mut numbers)?;
            let of = (said.channel, said.epoch);
            assert_eq!((to, of), (relay, (CHANNEL, ObjectHash::from_bytes([1; 32]))));
            Some(number)
        };
        assert_eq!((shows(&mut held, at(1_299)), held.timeout(at(1_000))), (None, Some(at(1_300))));
        assert_eq!(shows(&mut held, at(1_300)), Some(1));
        held.handle_shown(at(1_400), (relay, 1), false);
        assert_eq!(held.timeout(at(1_400)), Some(at(1_700)));
        assert_eq!(shows(&mut held, at(1_700)), Some(2));
        held.handle_shown(at(10_700), (relay, 2), false);
        assert_eq!(shows(&mut held, at(11_000)), None, "its steward may have lied");
        assert_eq!(held.timeout(at(10_700)), Some(at(661_000)));
    }

    /// Regression: a relay that had kept an old epoch could make a talker restart its counters
    /// under keys that it had used. [PROTO-11.7]
    #[test]
    fn an_epoch_that_is_forgotten_is_not_taken_again() {
        let random = Arc::new(SeededRandom::new(1));
        let [key, one, other] = [(); 3].map(|()| DeviceKey::generate(&*random));
        let channel = ChannelId::from_bytes([1; 16]);
        let holders = Holders::new([key.id()]);
        let mut held = Held::new(Arc::new(key), Arc::clone(&random) as _);
        let epoch = |byte| EpochDealer::generate(&*random).secret([byte; 32]);
        let mut take = |now, issuer: &DeviceKey, number, secret: &EpochSecret| {
            held.handle_timeout(now, UnixTime::from_secs(0));
            let standing = Standing::default();
            let (secret, holders) = (secret.clone(), holders.clone());
            let of = (channel, issuer.id(), number);
            held.insert(now, Arrival { of, secret, holders, standing, named: true }, None)
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
