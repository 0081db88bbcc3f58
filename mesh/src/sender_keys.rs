use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, DeviceKey, KeySecret, Random, Signed, Timestamp};
use zeroize::Zeroizing;

use crate::{
    List, Target,
    message::{KeyMessage, Message, RECIPIENTS_MAX},
};

/// This device's own key for a target: who holds it, who must get it, when it changes.
/// [section 6 of docs/protocol.md]
///
/// A join ratchets the key a step, a leave replaces it. Each list of holders has a generation and
/// step of its own, so that (generation, step) orders the lists, too.
pub(crate) struct SenderKeys {
    target: Target,
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    /// Who ought to have the key.
    members: BTreeSet<DeviceId>,
    /// What speech is sealed with.
    current: Option<HeldKey>,
    /// What replaces it, and when at the latest.
    next: Option<(HeldKey, Timestamp)>,
    /// When those who left lose the key.
    leave_at: Option<Timestamp>,
    /// A new generation is due, and perhaps waits for the disk.
    renewal_due: bool,
    /// When the step in use has sealed for long enough.
    step_ends: Option<Timestamp>,
    generations: Generations,
    deliveries: BTreeMap<DeviceId, Delivery>,
    ready: BTreeSet<DeviceId>,
    last_id: u64,
    change: Option<KeyChange>,
    /// Holders who have come by a new link since they were given the key.
    relinked: BTreeSet<DeviceId>,
}

/// One key and those who were given it.
struct HeldKey {
    secret: KeySecret,
    holders: BTreeSet<DeviceId>,
    /// The key message, the same for all.
    message: Zeroizing<Vec<u8>>,
}

/// Numbers of generations on their way from the disk to their one use. [PROTO-6.3]
struct Generations {
    /// The newest that may have been used.
    used: u16,
    /// The newest on disk: at most one more, ready for use.
    persisted: u16,
    /// The newest that was asked for.
    asked: u16,
}

struct Delivery {
    id: u64,
    /// When to send it again; never, once it is acknowledged.
    again_at: Option<Timestamp>,
    /// Whether it is sent once more a moment later, as nobody hears us without it.
    twice: bool,
}

/// The key in use has changed.
pub(crate) struct KeyChange {
    /// Seal with this from now on.
    pub(crate) secret: KeySecret,
    /// Who holds it.
    pub(crate) holders: Vec<DeviceId>,
}

/// A key message that is due.
pub(crate) struct KeyDelivery {
    pub(crate) to: DeviceId,
    pub(crate) id: u64,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl SenderKeys {
    /// No key yet; `last_generation` is the newest number that was written to disk, 0 at first.
    pub(crate) fn new(
        target: Target,
        key: Arc<DeviceKey>,
        random: Arc<dyn Random>,
        last_generation: u16,
    ) -> Self {
        // The number on disk may have been used before a crash.
        let generations = Generations {
            used: last_generation,
            persisted: last_generation,
            asked: last_generation,
        };
        Self {
            target,
            key,
            random,
            members: BTreeSet::new(),
            current: None,
            next: None,
            leave_at: None,
            renewal_due: true,
            step_ends: None,
            generations,
            deliveries: BTreeMap::new(),
            ready: BTreeSet::new(),
            last_id: 0,
            change: None,
            relinked: BTreeSet::new(),
        }
    }

    /// `device` is there and shall hear us. Says whether there is room for it.
    ///
    /// One that has the key and was away from the net alone goes on with it.
    pub(crate) fn join(&mut self, now: Timestamp, device: DeviceId) -> bool {
        if !self.members.contains(&device) && self.members.len() >= RECIPIENTS_MAX {
            return false;
        }
        self.members.insert(device);
        let unused = self.next.is_some() || self.step_ends.is_none();
        let has_it = self.newest().is_some_and(|epoch| epoch.holders.contains(&device));
        if has_it && (unused || !self.relinked.remove(&device)) {
            self.deliver(device);
        } else if self.newest().is_some() {
            // [PROTO-6.5] one step first, so that it opens nothing of before.
            self.step(now);
        }
        if !self.somebody_left() {
            self.leave_at = None;
        }
        true
    }

    /// `device` has come by a new link: it may have lost the key, or what it knew of the frames
    /// that it has heard. So it is given one that has sealed nothing yet, as soon as it hears us
    /// again. [PROTO-6.15]
    pub(crate) fn handle_new_link(&mut self, now: Timestamp, device: DeviceId) {
        let newest = self.next.as_ref().map(|(next, _)| next).or(self.current.as_ref());
        let holds = |device: &DeviceId| newest.is_some_and(|it| it.holders.contains(device));
        self.relinked.retain(holds);
        if holds(&device) {
            self.relinked.insert(device);
        }
        if self.members.contains(&device) {
            self.join(now, device);
        }
    }

    /// `device` is gone and shall hear us no more.
    pub(crate) fn leave(&mut self, now: Timestamp, device: DeviceId) {
        self.members.remove(&device);
        self.deliveries.remove(&device);
        self.ready.remove(&device);
        if self.somebody_left() {
            self.leave_at.get_or_insert(now + LEAVE_DEBOUNCE);
        }
        self.use_next_if_all_have_it();
    }

    /// `devices` may hear us no more: the key is replaced at once, whether or not the others have
    /// the new one yet, also where they have left just now and hold it still. All together, so that
    /// none of them is given what replaces it. [PROTO-6.9]
    pub(crate) fn revoke(&mut self, now: Timestamp, devices: impl IntoIterator<Item = DeviceId>) {
        let mut revoked = false;
        for device in devices {
            self.leave(now, device);
            revoked |= self.is_held_by(device);
        }
        if revoked {
            if self.somebody_left() {
                self.leave_at = None;
                self.renewal_due = true;
                self.renew_if_due(now);
            }
            self.use_next();
            for device in &self.ready {
                if let Some(delivery) = self.deliveries.get_mut(device) {
                    delivery.twice = true;
                }
            }
        }
    }

    /// Something else is sealed with: nobody gets a key of ours until [`Self::resume`].
    pub(crate) fn pause(&mut self) {
        (self.current, self.next, self.change) = (None, None, None);
        (self.leave_at, self.step_ends, self.renewal_due) = (None, None, false);
        self.deliveries.clear();
        self.ready.clear();
    }

    /// Our own key is sealed with again: a new one, for whoever is there now.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.renewal_due = true;
        self.renew_if_due(now);
    }

    /// The key in use has sealed its first frame.
    pub(crate) fn handle_used(&mut self, now: Timestamp) {
        self.step_ends.get_or_insert(now + STEP_MAX);
    }

    /// `generation` is on disk.
    pub(crate) fn handle_persisted(&mut self, now: Timestamp, generation: u16) {
        if generation <= self.generations.asked {
            self.generations.persisted = self.generations.persisted.max(generation);
        }
        self.handle_timeout(now);
    }

    /// `device` has taken message `id`.
    pub(crate) fn handle_delivered(&mut self, device: DeviceId, id: u64) {
        if let Some(delivery) = self.deliveries.get_mut(&device)
            && delivery.id == id
        {
            delivery.again_at = None;
            self.ready.remove(&device);
            self.use_next_if_all_have_it();
        }
    }

    /// `device` has not taken message `id`.
    pub(crate) fn handle_failed(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        if let Some(delivery) = self.deliveries.get_mut(&device)
            && delivery.id == id
            && delivery.again_at.is_some()
        {
            delivery.again_at = Some(now + RETRY_AFTER);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        if self.step_ends.is_some_and(|at| at <= now) {
            self.step_ends = None;
            // A new generation on its way ends the step as well.
            if self.next.is_none() {
                self.step(now);
            }
        }
        if self.leave_at.is_some_and(|at| at <= now) {
            self.leave_at = None;
            self.renewal_due = true;
        }
        self.renew_if_due(now);
        if self.next.as_ref().is_some_and(|(_, at)| *at <= now) {
            self.use_next();
        }
        for (device, delivery) in &self.deliveries {
            if delivery.again_at.is_some_and(|at| at <= now) {
                self.ready.insert(*device);
            }
        }
    }

    /// The next key message to be sent.
    pub(crate) fn poll_delivery(&mut self, now: Timestamp) -> Option<KeyDelivery> {
        while let Some(device) = self.ready.pop_first() {
            let bytes = self.newest().map(|epoch| epoch.message.clone());
            if let (Some(delivery), Some(bytes)) = (self.deliveries.get_mut(&device), bytes) {
                let twice = std::mem::take(&mut delivery.twice);
                delivery.again_at = Some(now + if twice { TWICE_AFTER } else { ANSWER_TIMEOUT });
                return Some(KeyDelivery { to: device, id: delivery.id, bytes });
            }
        }
        None
    }

    /// The next change of the key in use.
    pub(crate) fn poll_change(&mut self) -> Option<KeyChange> {
        self.change.take()
    }

    /// The generation to be written to disk before it can be used. [PROTO-6.3]
    ///
    /// One is always kept ready, so that a leave does not wait for the disk.
    pub(crate) fn poll_persist(&mut self) -> Option<u16> {
        self.generations.ask()
    }

    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        let again = |(device, delivery): (&DeviceId, &Delivery)| {
            delivery.again_at.filter(|_| !self.ready.contains(device))
        };
        let deliveries = self.deliveries.iter().filter_map(again);
        let next = self.next.as_ref().map(|(_, at)| *at);
        deliveries.chain(self.leave_at).chain(next).chain(self.step_ends).min()
    }

    /// Those who are to hear us, whether or not they hold the key yet.
    pub(crate) fn members(&self) -> &BTreeSet<DeviceId> {
        &self.members
    }

    /// Those who hold the key in use and are to hear us.
    pub(crate) fn hearers(&self) -> impl Iterator<Item = DeviceId> {
        let holders = self.current.iter().flat_map(|epoch| &epoch.holders);
        holders.copied().filter(|device| self.members.contains(device))
    }

    /// Those who hold the key in use and are not to hear us: they have left, and it is not replaced
    /// yet.
    pub(crate) fn former(&self) -> impl Iterator<Item = DeviceId> {
        let holders = self.current.iter().flat_map(|epoch| &epoch.holders);
        holders.copied().filter(|device| !self.members.contains(device))
    }

    fn is_held_by(&self, device: DeviceId) -> bool {
        let next = self.next.iter().map(|(next, _)| next);
        self.current.iter().chain(next).any(|epoch| epoch.holders.contains(&device))
    }

    fn newest(&self) -> Option<&HeldKey> {
        self.next.as_ref().map(|(epoch, _)| epoch).or(self.current.as_ref())
    }

    /// Whether anybody holds the newest key who should not hear us any more.
    fn somebody_left(&self) -> bool {
        self.newest().is_some_and(|epoch| !epoch.holders.is_subset(&self.members))
    }

    /// Gives the members the newest key one step on.
    fn step(&mut self, now: Timestamp) {
        let Some(newest) = self.newest() else { return };
        // Those who left keep what they hold until the new generation is in use.
        let holders = self.members.union(&newest.holders).copied().collect::<BTreeSet<_>>();
        if newest.secret.step + 1 >= STEPS || holders.len() > RECIPIENTS_MAX {
            self.renewal_due = true;
            self.renew_if_due(now);
            return;
        }
        let epoch = self.held(newest.secret.ratcheted(), holders);
        match &mut self.next {
            Some((next, _)) => *next = epoch,
            None => {
                self.current = Some(epoch);
                self.step_ends = None;
                self.announce_change();
            }
        }
        self.deliver_to_all();
    }

    /// Gives the members a new generation, if one is due and the disk has its number.
    fn renew_if_due(&mut self, now: Timestamp) {
        if !self.renewal_due {
            return;
        }
        let Some(generation) = self.generations.take() else { return };
        self.renewal_due = false;
        self.leave_at = None;
        let secret = KeySecret::generate(generation, &*self.random);
        let epoch = self.held(secret, self.members.clone());
        // A second leave does not lengthen the time that the first one can still open us.
        let use_at = self.next.as_ref().map_or(now + USE_AFTER, |(_, at)| *at);
        let first = self.current.is_none();
        self.next = Some((epoch, use_at));
        self.deliver_to_all();
        if first {
            self.use_next();
        } else {
            self.use_next_if_all_have_it();
        }
    }

    fn use_next_if_all_have_it(&mut self) {
        if self.deliveries.values().all(|delivery| delivery.again_at.is_none()) {
            self.use_next();
        }
    }

    fn use_next(&mut self) {
        if let Some((epoch, _)) = self.next.take() {
            self.current = Some(epoch);
            self.step_ends = None;
            self.announce_change();
        }
    }

    fn announce_change(&mut self) {
        let Some(epoch) = &self.current else { return };
        let holders = epoch.holders.iter().copied().collect();
        // Only the newest counts for who has not looked in between.
        self.change = Some(KeyChange { secret: epoch.secret.clone(), holders });
    }

    fn deliver_to_all(&mut self) {
        for device in self.members.clone() {
            self.deliver(device);
        }
    }

    fn deliver(&mut self, device: DeviceId) {
        self.last_id += 1;
        let delivery = Delivery { id: self.last_id, again_at: Some(Timestamp::ZERO), twice: false };
        self.deliveries.insert(device, delivery);
        self.ready.insert(device);
    }

    fn held(&self, secret: KeySecret, holders: BTreeSet<DeviceId>) -> HeldKey {
        let message = KeyMessage {
            target: self.target.clone(),
            sender: self.key.id(),
            secret: secret.clone(),
            recipients: List::truncated(holders.iter().copied()),
        };
        let message = Message::Key(Signed::sign(message, &self.key));
        HeldKey { secret, holders, message: Zeroizing::new(message.encode()) }
    }
}

impl Generations {
    fn has_one(&self) -> bool {
        self.persisted > self.used
    }

    fn take(&mut self) -> Option<u16> {
        if !self.has_one() {
            return None;
        }
        self.used = self.persisted;
        Some(self.used)
    }

    fn ask(&mut self) -> Option<u16> {
        if self.has_one() || self.asked > self.persisted {
            return None;
        }
        // After the last number no key is made any more: better no speech than an old number.
        self.asked = self.persisted.checked_add(1)?;
        Some(self.asked)
    }
}

/// Steps of a generation; then a new one begins. A receiver follows 8 steps at once [PROTO-6.6],
/// so that whatever it has missed of a generation, it can follow.
const STEPS: u8 = 8;

/// How long one step seals. [PROTO-6.6]
const STEP_MAX: Duration = Duration::from_secs(60);

/// Leaves within this time are answered by one new key.
const LEAVE_DEBOUNCE: Duration = Duration::from_millis(200);

/// A new generation is used then even if somebody has not confirmed it. [PROTO-6.5]
const USE_AFTER: Duration = Duration::from_secs(1);

/// Wait before a key message that was not taken is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Between the two times that an urgent key message is sent: they are not to share a packet, which
/// may be lost.
const TWICE_AFTER: Duration = Duration::from_millis(20);

/// A key message of which nothing is heard by then is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hark_keys::{ChannelId, SeededRandom};

    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    fn started() -> (SenderKeys, Vec<DeviceId>) {
        let random = Arc::new(SeededRandom::new(1));
        let mut devices: Vec<_> = (0..70).map(|_| DeviceKey::generate(&*random).id()).collect();
        devices.sort();
        let key = Arc::new(DeviceKey::generate(&*random));
        let target = Target::of_channel(ChannelId::from_bytes([1; 16]));
        let mut keys = SenderKeys::new(target, key, random, 6);
        persist(&mut keys, at(0));
        (keys, devices)
    }

    fn persist(keys: &mut SenderKeys, now: Timestamp) {
        while let Some(generation) = keys.poll_persist() {
            keys.handle_persisted(now, generation);
        }
    }

    fn change(keys: &mut SenderKeys) -> Option<(u16, u8, Vec<DeviceId>)> {
        keys.poll_change()
            .map(|change| (change.secret.generation, change.secret.step, change.holders))
    }

    fn deliver_all(keys: &mut SenderKeys, now: Timestamp) -> Vec<DeviceId> {
        let sent: Vec<_> = std::iter::from_fn(|| keys.poll_delivery(now)).collect();
        for delivery in &sent {
            keys.handle_delivered(delivery.to, delivery.id);
        }
        sent.iter().map(|delivery| delivery.to).collect()
    }

    /// [PROTO-6.3]
    #[test]
    fn no_generation_is_used_before_it_is_on_disk() {
        let random = Arc::new(SeededRandom::new(1));
        let key = Arc::new(DeviceKey::generate(&*random));
        let target = Target::of_channel(ChannelId::from_bytes([1; 16]));
        let mut keys = SenderKeys::new(target, key, random, 6);
        keys.handle_timeout(at(9_000));
        assert_eq!(change(&mut keys), None);
        assert_eq!((keys.poll_persist(), keys.poll_persist()), (Some(7), None));
        keys.handle_persisted(at(9_000), 9);
        assert_eq!(change(&mut keys), None, "a number that was not asked for");
        keys.handle_persisted(at(9_000), 7);
        assert_eq!(change(&mut keys), Some((7, 0, vec![])));
        assert_eq!(keys.poll_persist(), Some(8), "the next is made ready");
        keys.generations.persisted = u16::MAX;
        keys.generations.used = u16::MAX;
        assert_eq!(keys.poll_persist(), None, "numbers end rather than come back");
    }

    #[test]
    fn who_comes_while_somebody_leaves_is_on_a_true_list() {
        let (mut keys, devices) = started();
        let [a, b, c] = [devices[0], devices[1], devices[2]];
        keys.join(at(0), a);
        keys.join(at(0), b);
        assert_eq!(deliver_all(&mut keys, at(0)), [a, b]);
        keys.leave(at(1_000), a);
        keys.join(at(1_100), c);
        // The one who left can ratchet on as well.
        assert_eq!(change(&mut keys), Some((7, 3, vec![a, b, c])));
        assert_eq!(deliver_all(&mut keys, at(1_100)), [b, c]);
        assert!(keys.hearers().eq([b, c]));
        assert_eq!(keys.timeout(), Some(at(1_200)));
        keys.handle_timeout(at(1_200));
        assert_eq!(change(&mut keys), None, "nobody has the new key yet");
        assert_eq!(deliver_all(&mut keys, at(1_200)), [b, c]);
        assert_eq!(change(&mut keys), Some((8, 0, vec![b, c])));
        assert_eq!(keys.timeout(), None);
    }

    /// [PROTO-6.5]
    #[test]
    fn a_new_generation_waits_a_second_for_who_does_not_answer() {
        let (mut keys, devices) = started();
        keys.join(at(0), devices[0]);
        keys.join(at(0), devices[1]);
        deliver_all(&mut keys, at(0));
        assert_eq!(change(&mut keys).map(|(generation, ..)| generation), Some(7));
        keys.leave(at(0), devices[0]);
        keys.handle_timeout(at(200));
        let lost = keys.poll_delivery(at(200)).unwrap();
        keys.handle_failed(at(210), lost.to, lost.id);
        assert_eq!(keys.timeout(), Some(at(510)));
        keys.handle_timeout(at(510));
        assert_eq!(keys.poll_delivery(at(510)).unwrap().id, lost.id);
        keys.handle_timeout(at(1_199));
        assert_eq!(change(&mut keys), None);
        keys.handle_timeout(at(1_200));
        assert_eq!(change(&mut keys), Some((8, 0, vec![devices[1]])));
    }

    /// [PROTO-6.9] Where two packets in a row were lost on their way with it, the others heard
    /// nothing for longer than a blink.
    #[test]
    fn a_key_that_replaces_a_revoked_one_is_sent_twice() {
        let (mut keys, devices) = started();
        let [a, b, c] = [devices[0], devices[1], devices[2]];
        for device in [a, b, c] {
            keys.join(at(0), device);
        }
        assert_eq!(deliver_all(&mut keys, at(0)), [a, b, c]);
        persist(&mut keys, at(0));
        change(&mut keys);
        keys.revoke(at(1_000), [a]);
        assert_eq!(change(&mut keys), Some((8, 0, vec![b, c])));
        let sent = |keys: &mut SenderKeys, millis| {
            keys.handle_timeout(at(millis));
            let sent = std::iter::from_fn(|| keys.poll_delivery(at(millis)));
            sent.map(|it| (it.to, it.id)).collect::<Vec<_>>()
        };
        let first = sent(&mut keys, 1_000);
        assert_eq!([first[0].0, first[1].0], [b, c]);
        assert_eq!(keys.timeout(), Some(at(1_020)));
        assert_eq!(sent(&mut keys, 1_020), first);
        assert_eq!(keys.timeout(), Some(at(6_020)));
        // The first to arrive counts, whatever becomes of the other.
        for (device, id) in first {
            keys.handle_delivered(device, id);
            keys.handle_failed(at(1_100), device, id);
        }
        assert_eq!(keys.timeout(), None);
    }

    /// [PROTO-6.9]
    #[test]
    fn who_said_goodbye_before_its_removal_was_known_opens_nothing_after_that() {
        // The new key is on its way, or not made yet.
        for known in [50, 250] {
            let (mut keys, devices) = started();
            keys.join(at(0), devices[0]);
            keys.join(at(0), devices[1]);
            deliver_all(&mut keys, at(0));
            persist(&mut keys, at(0));
            change(&mut keys);
            keys.leave(at(100), devices[1]);
            keys.handle_timeout(at(100 + known));
            assert_eq!(change(&mut keys), None, "it may come back");
            assert_eq!(keys.former().collect::<Vec<_>>(), [devices[1]]);
            keys.revoke(at(100 + known), [devices[1]]);
            let (generation, step, holders) = change(&mut keys).expect("another key is in use");
            assert_eq!((generation, step, holders), (8, 0, vec![devices[0]]));
            assert_eq!(keys.former().count(), 0);
        }
    }

    #[test]
    fn who_comes_back_at_once_costs_no_new_generation() {
        let (mut keys, devices) = started();
        keys.join(at(0), devices[0]);
        let held = change(&mut keys);
        persist(&mut keys, at(0));
        keys.leave(at(10), devices[0]);
        keys.join(at(50), devices[0]);
        assert_eq!(deliver_all(&mut keys, at(50)), [devices[0]], "it may have lost the key");
        keys.handle_timeout(at(2_000));
        assert_eq!(deliver_all(&mut keys, at(2_000)), []);
        assert_eq!(held, Some((7, 1, vec![devices[0]])));
        assert_eq!(change(&mut keys), None);
    }

    /// [PROTO-6.6] Two minutes after a sentence its talker has no key of it.
    #[test]
    fn a_step_ends_though_its_talker_has_fallen_silent() {
        let (mut keys, devices) = started();
        keys.join(at(0), devices[0]);
        deliver_all(&mut keys, at(0));
        persist(&mut keys, at(0));
        assert_eq!(change(&mut keys), Some((7, 1, vec![devices[0]])));
        keys.handle_used(at(1_000));
        assert_eq!(keys.timeout(), Some(at(61_000)));
        keys.handle_timeout(at(61_000));
        assert_eq!(change(&mut keys), Some((7, 2, vec![devices[0]])));
        assert_eq!(deliver_all(&mut keys, at(61_000)), [devices[0]]);
        assert_eq!(keys.timeout(), None, "a step that seals nothing lasts");
    }

    /// Its link had ended at one end only: a relay repeated to it what it had heard under the key
    /// that it was given again. [PROTO-6.15]
    #[test]
    fn whoever_comes_by_a_new_link_is_given_a_key_that_has_sealed_nothing() {
        let (mut keys, devices) = started();
        let [a, b] = [devices[0], devices[1]];
        keys.join(at(0), a);
        keys.join(at(0), b);
        persist(&mut keys, at(0));
        assert_eq!(change(&mut keys), Some((7, 2, vec![a, b])));
        assert_eq!(deliver_all(&mut keys, at(0)), [a, b]);
        // Nothing was sealed: nothing can be repeated.
        keys.handle_new_link(at(10), b);
        assert_eq!((deliver_all(&mut keys, at(10)), change(&mut keys)), (vec![b], None));
        keys.handle_used(at(20));
        keys.handle_new_link(at(30), b);
        assert_eq!(deliver_all(&mut keys, at(30)), [a, b]);
        assert_eq!(change(&mut keys), Some((7, 3, vec![a, b])));
        // The same where it had gone for a moment.
        keys.handle_used(at(40));
        keys.leave(at(50), b);
        keys.handle_new_link(at(55), b);
        keys.join(at(60), b);
        assert_eq!(deliver_all(&mut keys, at(60)), [a, b]);
        assert_eq!(change(&mut keys), Some((7, 4, vec![a, b])));
        // Who was away from the net alone has all that it had.
        keys.handle_used(at(62));
        keys.leave(at(64), b);
        keys.join(at(66), b);
        assert_eq!((deliver_all(&mut keys, at(66)), change(&mut keys)), (vec![b], None));
        // What replaces the key has sealed nothing while the key is in use.
        keys.handle_used(at(70));
        keys.leave(at(80), a);
        keys.handle_timeout(at(280));
        keys.join(at(290), b);
        assert_eq!(change(&mut keys), None);
        assert_eq!(deliver_all(&mut keys, at(290)), [b]);
        assert_eq!(change(&mut keys), Some((8, 0, vec![b])));
    }

    #[test]
    fn a_generation_has_eight_steps_and_a_list_sixty_four_devices() {
        let (mut keys, devices) = started();
        for (step, device) in (1..8).zip(&devices) {
            assert!(keys.join(at(0), *device));
            assert_eq!(change(&mut keys).map(|(g, s, _)| (g, s)), Some((7, step)));
        }
        assert!(keys.join(at(0), devices[7]));
        assert_eq!(deliver_all(&mut keys, at(0)), devices[..8]);
        assert_eq!(change(&mut keys), Some((8, 0, devices[..8].to_vec())));
        for device in &devices[8..64] {
            assert!(keys.join(at(0), *device));
            persist(&mut keys, at(0));
        }
        assert!(!keys.join(at(0), devices[64]));
        // A place that has become free is free at once, though its last owner still has the key.
        keys.leave(at(0), devices[0]);
        assert!(keys.join(at(0), devices[64]));
        persist(&mut keys, at(0));
        deliver_all(&mut keys, at(0));
        let (_, _, holders) = change(&mut keys).unwrap();
        assert_eq!(holders, devices[1..65]);
    }
}
