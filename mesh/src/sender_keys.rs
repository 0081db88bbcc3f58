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

/// This device's own key for a target: which devices hold it, which must get it, and when it
/// changes. [section 6 of docs/protocol.md]
///
/// When a device joins, the key ratchets one step. When a device leaves, the key is replaced. Each
/// list of holders has a generation and step of its own, so (generation, step) orders the lists,
/// too.
pub(crate) struct SenderKeys {
    target: Target,
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    /// The devices that should have the key.
    members: BTreeSet<DeviceId>,
    /// The key that speech is sealed with.
    current: Option<HeldKey>,
    /// The key that replaces it, and the latest time for that.
    next: Option<(HeldKey, Timestamp)>,
    /// When the devices that have left lose the key.
    leave_at: Option<Timestamp>,
    /// Whether a new generation is due. It may still wait for the disk.
    renewal_due: bool,
    /// When the current step has been used for long enough.
    step_ends: Option<Timestamp>,
    generations: Generations,
    deliveries: BTreeMap<DeviceId, Delivery>,
    ready: BTreeSet<DeviceId>,
    last_id: u64,
    change: Option<KeyChange>,
    /// Holders that have come by a new link since they were given the key.
    relinked: BTreeSet<DeviceId>,
}

/// One key and the devices that were given it.
struct HeldKey {
    secret: KeySecret,
    holders: BTreeSet<DeviceId>,
    /// The key message, the same for all holders.
    message: Zeroizing<Vec<u8>>,
}

/// Generation numbers on their way from the disk to their one use. [PROTO-6.3]
struct Generations {
    /// The newest number that may have been used.
    used: u16,
    /// The newest number on disk. At most one more than `used`, kept ready for use.
    persisted: u16,
    /// The newest number that was requested from the disk.
    asked: u16,
}

struct Delivery {
    id: u64,
    /// When to send it again; `None` once it is acknowledged.
    again_at: Option<Timestamp>,
    /// Whether it is sent a second time a moment later, since nobody hears us without it.
    twice: bool,
}

/// A notice that the key in use has changed.
pub(crate) struct KeyChange {
    /// The key to seal with from now on.
    pub(crate) secret: KeySecret,
    /// The devices that hold it.
    pub(crate) holders: Vec<DeviceId>,
}

/// A key message that is to be sent now.
pub(crate) struct KeyDelivery {
    pub(crate) to: DeviceId,
    pub(crate) id: u64,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl SenderKeys {
    /// Starts without a key. `last_generation` is the newest number written to disk, 0 at first.
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

    /// `device` is present and should hear us. Returns whether there is room for it.
    ///
    /// A device that has the key and was only away from the net keeps it.
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
            // [PROTO-6.5] The key advances one step first, so that it opens nothing from before.
            self.step(now);
        }
        if !self.somebody_left() {
            self.leave_at = None;
        }
        true
    }

    /// `device` has come by a new link. It may have lost the key, or its record of the frames that
    /// it has heard. So it is given a key that has sealed nothing yet, as soon as it is to hear us
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

    /// `device` is gone and should no longer hear us.
    pub(crate) fn leave(&mut self, now: Timestamp, device: DeviceId) {
        self.members.remove(&device);
        self.deliveries.remove(&device);
        self.ready.remove(&device);
        if self.somebody_left() {
            self.leave_at.get_or_insert(now + LEAVE_DEBOUNCE);
        }
        self.use_next_if_all_have_it();
    }

    /// `devices` may no longer hear us. The key is replaced at once, whether or not the others have
    /// the new one yet. This also covers devices that have just left and still hold the key. All
    /// are revoked together, so that none of them is given the new key. [PROTO-6.9]
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

    /// Another kind of key is used for sealing: nobody gets a key of ours until [`Self::resume`].
    pub(crate) fn pause(&mut self) {
        (self.current, self.next, self.change) = (None, None, None);
        (self.leave_at, self.step_ends, self.renewal_due) = (None, None, false);
        self.deliveries.clear();
        self.ready.clear();
    }

    /// Our own key is used for sealing again: a new one, for the devices that are present now.
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

    /// `device` has accepted message `id`.
    pub(crate) fn handle_delivered(&mut self, device: DeviceId, id: u64) {
        if let Some(delivery) = self.deliveries.get_mut(&device)
            && delivery.id == id
        {
            delivery.again_at = None;
            self.ready.remove(&device);
            self.use_next_if_all_have_it();
        }
    }

    /// `device` has not accepted message `id`.
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
            // A new generation on its way will end the step as well.
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

    /// Returns the next key message to send.
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

    /// Returns the next change of the key in use.
    pub(crate) fn poll_change(&mut self) -> Option<KeyChange> {
        self.change.take()
    }

    /// Returns the generation to write to disk before it can be used. [PROTO-6.3]
    ///
    /// One generation is always kept ready, so that a leave does not wait for the disk.
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

    /// The devices that should hear us, whether or not they hold the key yet.
    pub(crate) fn members(&self) -> &BTreeSet<DeviceId> {
        &self.members
    }

    /// The devices that hold the key in use and should hear us.
    pub(crate) fn hearers(&self) -> impl Iterator<Item = DeviceId> {
        let holders = self.current.iter().flat_map(|epoch| &epoch.holders);
        holders.copied().filter(|device| self.members.contains(device))
    }

    /// The devices that hold the key in use and should not hear us: they have left, and the key is
    /// not replaced yet.
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

    /// Whether any device holds the newest key and should no longer hear us.
    fn somebody_left(&self) -> bool {
        self.newest().is_some_and(|epoch| !epoch.holders.is_subset(&self.members))
    }

    /// Gives the members the newest key, one step on.
    fn step(&mut self, now: Timestamp) {
        let Some(newest) = self.newest() else { return };
        // Devices that have left keep what they hold until the new generation is in use.
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

    /// Gives the members a new generation, if one is due and its number is on disk.
    fn renew_if_due(&mut self, now: Timestamp) {
        if !self.renewal_due {
            return;
        }
        let Some(generation) = self.generations.take() else { return };
        self.renewal_due = false;
        self.leave_at = None;
        let secret = KeySecret::generate(generation, &*self.random);
        let epoch = self.held(secret, self.members.clone());
        // A second leave does not extend the time in which the first device can still open our
        // speech.
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
        // If the caller has missed a change in between, only the newest one counts.
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
        // After the last number no further key is created: no speech is better than a reused
        // number.
        self.asked = self.persisted.checked_add(1)?;
        Some(self.asked)
    }
}

/// Steps of a generation, after which a new one begins. A receiver can follow 8 steps at once
/// [PROTO-6.6], so it can follow a generation whatever it has missed of it.
const STEPS: u8 = 8;

/// How long one step is used for sealing. [PROTO-6.6]
const STEP_MAX: Duration = Duration::from_secs(60);

/// Leaves within this time cause only one new key.
const LEAVE_DEBOUNCE: Duration = Duration::from_millis(200);

/// After this time a new generation is used even if a device has not confirmed it. [PROTO-6.5]
const USE_AFTER: Duration = Duration::from_secs(1);

/// Delay before a refused key message is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Time between the two sends of an urgent key message. They must not share a packet, which may be
/// lost.
const TWICE_AFTER: Duration = Duration::from_millis(20);

/// A key message without an answer is sent again after this time.
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
        // The device that left can ratchet on as well.
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

    /// [PROTO-6.9] Regression: when two packets with the new key were lost in a row, the others
    /// heard nothing for a noticeable time.
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
        // The first answer counts, whatever happens to the other message.
        for (device, id) in first {
            keys.handle_delivered(device, id);
            keys.handle_failed(at(1_100), device, id);
        }
        assert_eq!(keys.timeout(), None);
    }

    /// [PROTO-6.9]
    #[test]
    fn who_said_goodbye_before_its_removal_was_known_opens_nothing_after_that() {
        // The new key is on its way, or is not created yet.
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

    /// [PROTO-6.6] Two minutes after a sentence its talker has no key of it any more.
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

    /// Regression: the link of a device had ended at one end only. A relay repeated to it what it
    /// had heard under the key that it was given again. [PROTO-6.15]
    #[test]
    fn whoever_comes_by_a_new_link_is_given_a_key_that_has_sealed_nothing() {
        let (mut keys, devices) = started();
        let [a, b] = [devices[0], devices[1]];
        keys.join(at(0), a);
        keys.join(at(0), b);
        persist(&mut keys, at(0));
        assert_eq!(change(&mut keys), Some((7, 2, vec![a, b])));
        assert_eq!(deliver_all(&mut keys, at(0)), [a, b]);
        // Nothing was sealed, so nothing can be repeated.
        keys.handle_new_link(at(10), b);
        assert_eq!((deliver_all(&mut keys, at(10)), change(&mut keys)), (vec![b], None));
        keys.handle_used(at(20));
        keys.handle_new_link(at(30), b);
        assert_eq!(deliver_all(&mut keys, at(30)), [a, b]);
        assert_eq!(change(&mut keys), Some((7, 3, vec![a, b])));
        // The same after the device was gone for a moment.
        keys.handle_used(at(40));
        keys.leave(at(50), b);
        keys.handle_new_link(at(55), b);
        keys.join(at(60), b);
        assert_eq!(deliver_all(&mut keys, at(60)), [a, b]);
        assert_eq!(change(&mut keys), Some((7, 4, vec![a, b])));
        // A device that was only away from the net still has all that it had.
        keys.handle_used(at(62));
        keys.leave(at(64), b);
        keys.join(at(66), b);
        assert_eq!((deliver_all(&mut keys, at(66)), change(&mut keys)), (vec![b], None));
        // The new key has sealed nothing while the old one is in use.
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
        // A freed place can be used at once, although its last owner still has the key.
        keys.leave(at(0), devices[0]);
        assert!(keys.join(at(0), devices[64]));
        persist(&mut keys, at(0));
        deliver_all(&mut keys, at(0));
        let (_, _, holders) = change(&mut keys).unwrap();
        assert_eq!(holders, devices[1..65]);
    }
}
