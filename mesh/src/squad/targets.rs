//! The targets that we talk to: a key for each target, and who holds it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_charter::{Charter, State};
use hark_keys::{ChannelId, DeviceId, DeviceKey, EpochKey, MemberId, Random, TargetId, Timestamp};

use crate::{
    Target,
    epoch::{Holders, TalkersKey},
    message::RECIPIENTS_MAX,
    sender_keys::{KeyChange, KeyDelivery, SenderKeys},
    squad::{
        announcement::Announcement,
        epochs::{HeldEpoch, others},
    },
    topology::Plan,
};

/// The targets that are keyed in advance, so that pressing a talk key needs no waiting.
pub(super) struct Targets {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    /// The wanted targets, whether or not they are permitted; `None` for the first channel, as long
    /// as nothing was chosen.
    wanted: Option<Vec<Target>>,
    keyed: BTreeMap<TargetId, Keyed>,
    /// The newest generation on disk, for each target.
    generations: BTreeMap<TargetId, u16>,
}

struct Keyed {
    target: Target,
    keys: SenderKeys,
    plan: Plan,
    epoch: Option<InEpoch>,
    /// The last reported holders of the epoch, and the data that the report was made from.
    shown: Option<(Shown, Roster)>,
}

/// The epoch, the number of confirmations once the time for them is over, and the number of
/// listeners that have our key in it.
type Shown = ([u8; 32], Option<usize>, usize);

/// All holders of the key, and those of them that may not be able to hear us.
pub(super) type Roster = (Vec<DeviceId>, Vec<DeviceId>);

/// A target that is sealed with a key in an epoch instead of our own key.
struct InEpoch {
    /// Id of the epoch; `None` while no epoch can be used.
    id: Option<[u8; 32]>,
    /// The holders of the epoch.
    holders: Holders,
    /// When the key in it has been used for long enough.
    renew_at: Option<Timestamp>,
    /// When our own key is used again if no other epoch has come.
    until: Option<Timestamp>,
    /// Our key in it, since when it is in use, and whether it has sealed anything.
    key: Option<EpochKey>,
    began: Timestamp,
    used: bool,
    /// Listeners that do not hold the epoch, and are given this key. [PROTO-11.13]
    given: BTreeMap<DeviceId, Announcement<()>>,
    /// Those of them that have gone since.
    left: BTreeSet<DeviceId>,
    /// Devices that hold the epoch according to others, but have told us otherwise.
    lacking: BTreeSet<DeviceId>,
}

impl InEpoch {
    /// `device` no longer hears us; `at_once` if it no longer may. A key that it was given is
    /// replaced.
    fn lose(&mut self, now: Timestamp, device: DeviceId, at_once: bool) {
        self.lacking.remove(&device);
        let held = self.given.remove(&device).is_some();
        if held {
            self.left.insert(device);
        }
        // A device that had left holds the key until the next one, and may lose the right meanwhile.
        if held || (at_once && self.left.contains(&device)) {
            // There are 256 keys in an epoch. Nobody can use them up by coming and going.
            let at = if at_once { now } else { now.max(self.began + GENERATION_MIN) };
            self.renew_at = Some(self.renew_at.map_or(at, |known| known.min(at)));
        }
    }
}

/// What a target is sealed with from now on.
pub(super) enum Choice {
    /// A new key in this epoch.
    Epoch([u8; 32]),
    /// Nothing, until there is a key whose holders all may hold it.
    Silence,
}

/// A possible listener: a device, its member, and what it listens to.
pub(super) struct Listener<'a> {
    pub(super) device: DeviceId,
    pub(super) member: MemberId,
    pub(super) listening: &'a BTreeSet<ChannelId>,
}

impl Targets {
    pub(super) fn new(
        key: Arc<DeviceKey>,
        random: Arc<dyn Random>,
        generations: BTreeMap<TargetId, u16>,
    ) -> Self {
        Self { key, random, wanted: None, keyed: BTreeMap::new(), generations }
    }

    /// Sets the targets to be keyed. If there are more than 64, further ones are left out.
    pub(super) fn want(&mut self, mut targets: Vec<Target>) {
        targets.retain(Target::is_sound);
        targets.truncate(TARGETS_MAX);
        self.wanted = Some(targets);
    }

    /// Keys the permitted part of what is wanted, and nothing else. Returns the targets that are no
    /// longer keyed.
    pub(super) fn permit(&mut self, charter: &Charter, own: MemberId) -> Vec<TargetId> {
        let state = charter.state();
        let first = || charter.first_channel(own).map(|channel| Target::of_channel(channel.id));
        let wanted = self.wanted.clone().unwrap_or_else(|| first().into_iter().collect());
        let permitted: BTreeMap<TargetId, Target> = wanted
            .iter()
            .map(|target| target.permitted(state, own))
            .filter(|target| !target.is_empty())
            .map(|target| (target.id(), target))
            .collect();
        let gone: Vec<_> =
            self.keyed.keys().copied().filter(|id| !permitted.contains_key(id)).collect();
        self.keyed.retain(|id, _| permitted.contains_key(id));
        for (id, target) in permitted {
            let Self { key, random, generations, .. } = self;
            self.keyed.entry(id).or_insert_with(|| {
                let last = generations.get(&id).copied().unwrap_or(0);
                let keys =
                    SenderKeys::new(target.clone(), Arc::clone(key), Arc::clone(random), last);
                Keyed { target, keys, plan: Plan::default(), epoch: None, shown: None }
            });
        }
        gone
    }

    /// The id of the permitted part of a wanted target, if that part is keyed.
    pub(super) fn permitted(
        &self,
        state: &State,
        own: MemberId,
        target: &Target,
    ) -> Option<TargetId> {
        let id = target.permitted(state, own).id();
        self.keyed.contains_key(&id).then_some(id)
    }

    pub(super) fn target(&self, id: TargetId) -> Option<&Target> {
        self.keyed.get(&id).map(|keyed| &keyed.target)
    }

    /// Gives the keys to those of `listeners` that may hear, and takes them from devices that no
    /// longer hear. A device that no longer may hear, or that is `gone` for good, loses them at
    /// once. A device that has gone elsewhere loses them a moment later.
    pub(super) fn admit<'a>(
        &mut self,
        now: Timestamp,
        state: &State,
        own: MemberId,
        listeners: impl Iterator<Item = Listener<'a>> + Clone,
        gone: &[DeviceId],
    ) {
        for keyed in self.keyed.values_mut() {
            let hears = |it: &Listener<'_>| {
                keyed.target.hearing(state, own, it.member, it.listening).is_reached()
            };
            let hearers: BTreeSet<_> =
                listeners.clone().filter(hears).map(|it| it.device).collect();
            let before = keyed.keys.members().clone();
            let mut revoked = Vec::new();
            for device in before.difference(&hearers) {
                // A device that is absent, or that could hear if it wanted to, has gone of its own
                // accord.
                let listener = listeners.clone().find(|it| it.device == *device);
                let went = listener.is_none_or(|it| {
                    let all = keyed.target.channels().iter().copied();
                    let all: BTreeSet<_> =
                        all.clone().chain(all.flat_map(|it| state.linked(it))).collect();
                    keyed.target.hearing(state, own, it.member, &all).is_reached()
                });
                let went = went && !gone.contains(device);
                keyed.epoch.iter_mut().for_each(|epoch| epoch.lose(now, *device, !went));
                if went {
                    keyed.keys.leave(now, *device);
                } else {
                    revoked.push(*device);
                }
            }
            revoked.extend(keyed.keys.former().filter(|device| gone.contains(device)));
            if let Some(epoch) = &mut keyed.epoch {
                gone.iter().for_each(|device| epoch.lose(now, *device, true));
            }
            keyed.keys.revoke(now, revoked);
            for device in hearers.difference(&before).take(RECIPIENTS_MAX) {
                keyed.keys.join(now, *device);
            }
        }
    }

    /// The devices that have left but hold a key that is not replaced yet.
    pub(super) fn former(&self) -> impl Iterator<Item = DeviceId> {
        self.keyed.values().flat_map(|keyed| {
            let left = keyed.epoch.iter().flat_map(|epoch| epoch.left.iter().copied());
            keyed.keys.former().chain(left)
        })
    }

    /// `device` may have lost its keys, so it is given them again.
    pub(super) fn renew(&mut self, now: Timestamp, device: DeviceId) {
        for keyed in self.keyed.values_mut() {
            keyed.keys.handle_new_link(now, device);
            let given = keyed.epoch.iter_mut().filter_map(|epoch| epoch.given.get_mut(&device));
            given.for_each(Announcement::link_up);
        }
    }

    /// `devices` no longer belong to the organisation.
    pub(super) fn revoke(&mut self, now: Timestamp, devices: &[DeviceId]) {
        for keyed in self.keyed.values_mut() {
            keyed.keys.revoke(now, devices.iter().copied());
            if let Some(epoch) = &mut keyed.epoch {
                devices.iter().for_each(|device| epoch.lose(now, *device, true));
            }
        }
    }

    /// `device` is gone.
    pub(super) fn leave(&mut self, now: Timestamp, device: DeviceId) {
        for keyed in self.keyed.values_mut() {
            keyed.keys.leave(now, device);
            keyed.epoch.iter_mut().for_each(|epoch| epoch.lose(now, device, false));
        }
    }

    /// The targets that consist of a single channel, which can be sealed with an epoch.
    pub(super) fn of_channels(&self) -> Vec<(TargetId, ChannelId)> {
        let channel = |(id, keyed): (&TargetId, &Keyed)| {
            let channel = *keyed.target.channels().first()?;
            (TargetId::of_channel(channel) == *id).then_some((*id, channel))
        };
        self.keyed.iter().filter_map(channel).collect()
    }

    /// Returns what `target` is sealed with from now on, if that changes. `best` is the best epoch,
    /// with its id, number and holders. It is used if we are `relayed` and it reaches more devices
    /// than our own key can. [PROTO-11.9]
    pub(super) fn choose(
        &mut self,
        now: Timestamp,
        target: TargetId,
        own: DeviceId,
        relayed: bool,
        best: Option<([u8; 32], u64, &Holders)>,
    ) -> Option<Choice> {
        let keyed = self.keyed.get_mut(&target)?;
        let limit = if keyed.epoch.is_some() { OWN_KEY_AGAIN } else { OWN_KEY_MAX };
        let reaches_more = |holders: &Holders| {
            let members = keyed.keys.members();
            holders.devices().len() > limit + 1
                || others(holders, own).any(|device| !members.contains(&device))
        };
        let best = best.filter(|_| relayed);
        let Some((id, _, holders)) = best.filter(|(.., holders)| reaches_more(holders)) else {
            let epoch = keyed.epoch.as_mut()?;
            let waits = relayed && best.is_none();
            if waits && epoch.id.take().is_some() {
                epoch.until = Some(now + WAIT_MAX);
                epoch.renew_at = None;
                return Some(Choice::Silence);
            }
            if !waits || epoch.until.is_none_or(|until| until <= now) {
                (keyed.epoch, keyed.shown) = (None, None);
                keyed.keys.resume(now);
            }
            return None;
        };
        if keyed.epoch.is_none() {
            keyed.keys.pause();
        }
        let known = keyed.epoch.take().filter(|epoch| epoch.id == Some(id));
        if known.as_ref().is_some_and(|epoch| epoch.renew_at.is_none_or(|at| at > now)) {
            keyed.epoch = known;
            return None;
        }
        keyed.epoch = Some(InEpoch {
            id: Some(id),
            holders: holders.clone(),
            renew_at: None,
            until: None,
            key: None,
            began: now,
            used: false,
            given: BTreeMap::new(),
            left: BTreeSet::new(),
            lacking: known.map(|epoch| epoch.lacking).unwrap_or_default(),
        });
        Some(Choice::Epoch(id))
    }

    /// Sets the key that `target` is sealed with from now on, after [`Choice::Epoch`].
    pub(super) fn set_epoch_key(&mut self, target: TargetId, key: EpochKey) {
        if let Some(epoch) = self.keyed.get_mut(&target).and_then(|keyed| keyed.epoch.as_mut()) {
            epoch.key = Some(key);
        }
    }

    /// The epoch that `target` is sealed with.
    pub(super) fn epoch(&self, target: TargetId) -> Option<[u8; 32]> {
        self.keyed.get(&target)?.epoch.as_ref()?.id
    }

    /// `device` seals for `target` with another `epoch`, which we do not hold. So it may not hold
    /// ours either.
    pub(super) fn lacks_epoch(&mut self, target: TargetId, device: DeviceId, epoch: &[u8; 32]) {
        if let Some(Keyed { keys, epoch: Some(ours), .. }) = self.keyed.get_mut(&target)
            && ours.id.is_some_and(|id| id != *epoch)
            && keys.members().contains(&device)
        {
            ours.lacking.insert(device);
        }
    }

    /// The next of our listeners to be given our key in the `epoch` that seals for `target`. These
    /// are the listeners that are no holders and, while we talk, those that have not shown that
    /// they are. [PROTO-11.13]
    pub(super) fn poll_given(
        &mut self,
        now: Timestamp,
        target: TargetId,
        epoch: &HeldEpoch,
        numbers: &mut u64,
    ) -> Option<(DeviceId, u64, TalkersKey)> {
        let Keyed { target, keys, epoch: Some(ours), .. } = self.keyed.get_mut(&target)? else {
            return None;
        };
        let key = ours.key.as_ref()?;
        for device in keys.members() {
            let lacks = ours.given.contains_key(device)
                || ours.lacking.contains(device)
                || ours.holders.place(*device).is_none()
                || ours.used && epoch.is_unconfirmed(now, *device);
            if lacks
                && let Some(number) = ours.given.entry(*device).or_default().poll(now, &(), numbers)
            {
                let message = TalkersKey { target: target.clone(), key: key.clone() };
                return Some((*device, number, message));
            }
        }
        None
    }

    /// `device` has accepted, or not, the key that it was given.
    pub(super) fn handle_given(
        &mut self,
        now: Timestamp,
        target: TargetId,
        (device, number): (DeviceId, u64),
        taken: bool,
    ) {
        let epoch = self.keyed.get_mut(&target).and_then(|keyed| keyed.epoch.as_mut());
        if let Some(telling) = epoch.and_then(|epoch| epoch.given.get_mut(&device)) {
            telling.handle_answer(now, number, taken);
        }
    }

    /// All devices but ours that hold what seals for `target`, and those of them that have not
    /// confirmed it. Returns `None` if this was already reported.
    pub(super) fn roster(
        &mut self,
        now: Timestamp,
        target: TargetId,
        epoch: &HeldEpoch,
    ) -> Option<Roster> {
        let own = self.key.id();
        let keyed = self.keyed.get_mut(&target)?;
        let ours = keyed.epoch.as_ref()?;
        let (confirmed, late) = epoch.confirmations(now);
        let of = (ours.id?, late.then_some(confirmed), ours.given.len() + ours.left.len());
        if keyed.shown.as_ref().is_some_and(|(shown, _)| *shown == of) {
            return None;
        }
        let hears = |device: &DeviceId| ours.given.get(device).is_some_and(Announcement::is_taken);
        let given = ours.given.keys().chain(&ours.left).copied();
        let all: BTreeSet<_> = others(&ours.holders, own).chain(given).collect();
        let unconfirmed = all.iter().copied();
        let unconfirmed =
            unconfirmed.filter(|device| epoch.is_unconfirmed(now, *device) && !hears(device));
        let roster = (all.iter().copied().collect(), unconfirmed.collect());
        let same = |(shown, told): &(Shown, Roster)| shown.0 == of.0 && *told == roster;
        let is_new = !keyed.shown.as_ref().is_some_and(same);
        keyed.shown = Some((of, roster.clone()));
        is_new.then_some(roster)
    }

    /// The key in use for `target` has sealed its first frame. [PROTO-6.6]
    pub(super) fn handle_used(&mut self, now: Timestamp, target: TargetId) {
        match self.keyed.get_mut(&target) {
            Some(Keyed { epoch: Some(epoch), .. }) => {
                epoch.used = true;
                epoch.renew_at.get_or_insert(now + GENERATION_MAX);
            }
            Some(keyed) => keyed.keys.handle_used(now),
            None => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.keyed.values_mut().for_each(|keyed| keyed.keys.handle_timeout(now));
    }

    pub(super) fn handle_persisted(&mut self, now: Timestamp, target: TargetId, generation: u16) {
        let newest = self.generations.entry(target).or_default();
        *newest = generation.max(*newest);
        if let Some(keyed) = self.keyed.get_mut(&target) {
            keyed.keys.handle_persisted(now, generation);
        }
    }

    pub(super) fn keys(&mut self, target: TargetId) -> Option<&mut SenderKeys> {
        self.keyed.get_mut(&target).map(|keyed| &mut keyed.keys)
    }

    /// Returns the next change of a key in use.
    pub(super) fn poll_change(&mut self) -> Option<(TargetId, KeyChange)> {
        self.keyed.iter_mut().find_map(|(id, keyed)| Some((*id, keyed.keys.poll_change()?)))
    }

    /// Returns the next key message to send.
    pub(super) fn poll_delivery(&mut self, now: Timestamp) -> Option<(TargetId, KeyDelivery)> {
        self.keyed.iter_mut().find_map(|(id, keyed)| Some((*id, keyed.keys.poll_delivery(now)?)))
    }

    /// Returns the next generation to write to disk.
    pub(super) fn poll_persist(&mut self) -> Option<(TargetId, u16)> {
        self.keyed.iter_mut().find_map(|(id, keyed)| Some((*id, keyed.keys.poll_persist()?)))
    }

    /// All targets with the devices that should hear them now, and whether they do so by an epoch.
    pub(super) fn hearers(
        &self,
        own: DeviceId,
    ) -> impl Iterator<Item = (TargetId, &Target, Vec<DeviceId>, bool)> {
        self.keyed.iter().map(move |(id, keyed)| match &keyed.epoch {
            Some(epoch) => {
                let taken = |(device, telling): (&DeviceId, &Announcement<()>)| {
                    (telling.is_taken() && keyed.keys.members().contains(device)).then_some(*device)
                };
                let given = epoch.given.iter().filter_map(taken);
                let given = given.filter(|device| epoch.holders.place(*device).is_none());
                (*id, &keyed.target, others(&epoch.holders, own).chain(given).collect(), true)
            }
            None => (*id, &keyed.target, keyed.keys.hearers().collect(), false),
        })
    }

    /// Whether speech to `target` was sent through a relay until now.
    pub(super) fn is_relayed(&self, target: TargetId) -> bool {
        self.keyed.get(&target).is_some_and(|keyed| !keyed.plan.hops.is_empty())
    }

    /// Sets how speech to `target` travels from now on. Returns whether that is new.
    pub(super) fn set_plan(&mut self, target: TargetId, plan: &Plan) -> bool {
        let Some(keyed) = self.keyed.get_mut(&target) else { return false };
        let changed = keyed.plan != *plan;
        keyed.plan.clone_from(plan);
        changed
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let keys = self.keyed.values().filter_map(|keyed| keyed.keys.timeout());
        let epochs = self.keyed.values().filter_map(|keyed| keyed.epoch.as_ref());
        let epochs = epochs.flat_map(|epoch| {
            let given = epoch.given.values().filter_map(Announcement::timeout);
            let sealing = given.chain(epoch.renew_at).filter(|_| epoch.id.is_some());
            sealing.chain(epoch.until)
        });
        keys.chain(epochs).min()
    }
}

/// Most devices that our own key is given to if there is an epoch. Each change of the listeners
/// costs every talker a message to each of them.
const OWN_KEY_MAX: usize = 32;

/// With this many devices or fewer, our own key is used again.
const OWN_KEY_AGAIN: usize = 24;

/// How long nothing is said while a new epoch is on its way. [PROTO-11.9]
const WAIT_MAX: Duration = Duration::from_millis(900);

/// How long a talker's key in an epoch is used.
const GENERATION_MAX: Duration = Duration::from_secs(60);

/// How long it is used at least, if a device leaves that was given it. [PROTO-11.29]
const GENERATION_MIN: Duration = Duration::from_secs(3);

/// Most targets that are keyed at once. Further ones are not keyed.
const TARGETS_MAX: usize = 64;
