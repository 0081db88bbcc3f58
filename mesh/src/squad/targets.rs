//! What we talk to: a key for each target, and who is on its list.

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

/// The targets that are keyed in advance, so that pressing a key to talk waits for nothing.
pub(super) struct Targets {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    /// What is wanted, whether or not it is permitted; the first channel where nobody has said.
    wanted: Option<Vec<Target>>,
    keyed: BTreeMap<TargetId, Keyed>,
    /// The newest generation on disk of each target.
    generations: BTreeMap<TargetId, u16>,
}

struct Keyed {
    target: Target,
    keys: SenderKeys,
    plan: Plan,
    epoch: Option<InEpoch>,
    /// Who was told last to hold the epoch, and of what that was made.
    shown: Option<(Shown, Roster)>,
}

/// The epoch, how many have confirmed it in time once that is over, and how many have its key of
/// us.
type Shown = ([u8; 32], Option<usize>, usize);

/// All who hold the key, and those of them who may not hear us.
pub(super) type Roster = (Vec<DeviceId>, Vec<DeviceId>);

/// A target that is sealed with the key of an epoch instead of our own.
struct InEpoch {
    /// Which; none while there is none that serves.
    id: Option<[u8; 32]>,
    /// Who holds it.
    holders: Holders,
    /// When the key in it has sealed for long enough.
    renew_at: Option<Timestamp>,
    /// When our own key is used again if no other epoch has come.
    until: Option<Timestamp>,
    /// Our key in it, since when it seals, and whether it has.
    key: Option<EpochKey>,
    began: Timestamp,
    used: bool,
    /// Listeners who do not hold the epoch, and are given this key. [PROTO-11.13]
    given: BTreeMap<DeviceId, Announcement<()>>,
    /// Those of them who have gone since.
    left: BTreeSet<DeviceId>,
    /// Those who hold the epoch by the word of others, but have told us otherwise.
    lacking: BTreeSet<DeviceId>,
}

impl InEpoch {
    /// `device` hears us no more, `at_once` where it may not: a key that it was given is replaced.
    fn lose(&mut self, now: Timestamp, device: DeviceId, at_once: bool) {
        self.lacking.remove(&device);
        if self.given.remove(&device).is_some() {
            self.left.insert(device);
            // There are 256 keys in an epoch: nobody uses them up by coming and going.
            let at = if at_once { now } else { now.max(self.began + GENERATION_MIN) };
            self.renew_at = Some(self.renew_at.map_or(at, |known| known.min(at)));
        }
    }
}

/// What a target is sealed with from now on.
pub(super) enum Choice {
    /// Another key of this epoch.
    Epoch([u8; 32]),
    /// Nothing, until there is a key that nobody holds who may not.
    Silence,
}

/// Somebody who may hear: a device, its member, and what it listens to.
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

    /// What is to be keyed from now on; further ones than 64 are left out.
    pub(super) fn want(&mut self, mut targets: Vec<Target>) {
        targets.retain(Target::is_sound);
        targets.truncate(TARGETS_MAX);
        self.wanted = Some(targets);
    }

    /// Keys what is wanted and permitted, and nothing else; gives the targets that are gone.
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

    /// What is keyed of a wanted target: the part of it that is permitted.
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

    /// Gives the keys to those among `listeners` who may hear, and takes them from those who do
    /// not any more: at once where they may not, or are `gone` for good, a moment later where they
    /// have gone elsewhere.
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
                // Who is not there, or could hear if it wanted to, has gone of its own will.
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
            keyed.keys.revoke(now, revoked);
            for device in hearers.difference(&before).take(RECIPIENTS_MAX) {
                keyed.keys.join(now, *device);
            }
        }
    }

    /// Those who hold a key that is not replaced yet, though they have left.
    pub(super) fn former(&self) -> impl Iterator<Item = DeviceId> {
        self.keyed.values().flat_map(|keyed| keyed.keys.former())
    }

    /// `device` may have lost what it had: it is given the keys again.
    pub(super) fn renew(&mut self, now: Timestamp, device: DeviceId) {
        for keyed in self.keyed.values_mut() {
            keyed.keys.handle_new_link(now, device);
            let given = keyed.epoch.iter_mut().filter_map(|epoch| epoch.given.get_mut(&device));
            given.for_each(Announcement::link_up);
        }
    }

    /// `devices` do not belong any more.
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

    /// The targets that are one channel and nothing else, which can be sealed with an epoch.
    pub(super) fn of_channels(&self) -> Vec<(TargetId, ChannelId)> {
        let channel = |(id, keyed): (&TargetId, &Keyed)| {
            let channel = *keyed.target.channels().first()?;
            (TargetId::of_channel(channel) == *id).then_some((*id, channel))
        };
        self.keyed.iter().filter_map(channel).collect()
    }

    /// What `target` is sealed with from now on, if that is something else: the epoch that serves
    /// `best`, by its id, number and holders, where it reaches more than our own key can, and we
    /// are `relayed`. [PROTO-11.9]
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

    /// What `target` is sealed with from now on, after [`Choice::Epoch`].
    pub(super) fn set_epoch_key(&mut self, target: TargetId, key: EpochKey) {
        if let Some(epoch) = self.keyed.get_mut(&target).and_then(|keyed| keyed.epoch.as_mut()) {
            epoch.key = Some(key);
        }
    }

    /// The epoch that `target` is sealed with.
    pub(super) fn epoch(&self, target: TargetId) -> Option<[u8; 32]> {
        self.keyed.get(&target)?.epoch.as_ref()?.id
    }

    /// `device` seals for `target` with another `epoch`, which we do not hold: nor may it hold
    /// ours.
    pub(super) fn lacks_epoch(&mut self, target: TargetId, device: DeviceId, epoch: &[u8; 32]) {
        if let Some(Keyed { keys, epoch: Some(ours), .. }) = self.keyed.get_mut(&target)
            && ours.id.is_some_and(|id| id != *epoch)
            && keys.members().contains(&device)
        {
            ours.lacking.insert(device);
        }
    }

    /// The next of our listeners to be given our key in `epoch`, which `target` is sealed with:
    /// those who are no holders; and while we talk, those who have not shown that they are.
    /// [PROTO-11.13]
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

    /// `device` has taken, or not, the key that it was given.
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

    /// All who hold what `target` is sealed with, but for us, and those of them who have not shown
    /// it, where that was not told before.
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

    /// The next change of a key in use.
    pub(super) fn poll_change(&mut self) -> Option<(TargetId, KeyChange)> {
        self.keyed.iter_mut().find_map(|(id, keyed)| Some((*id, keyed.keys.poll_change()?)))
    }

    /// The next key message to be sent.
    pub(super) fn poll_delivery(&mut self, now: Timestamp) -> Option<(TargetId, KeyDelivery)> {
        self.keyed.iter_mut().find_map(|(id, keyed)| Some((*id, keyed.keys.poll_delivery(now)?)))
    }

    /// The next generation to be written to disk.
    pub(super) fn poll_persist(&mut self) -> Option<(TargetId, u16)> {
        self.keyed.iter_mut().find_map(|(id, keyed)| Some((*id, keyed.keys.poll_persist()?)))
    }

    /// All targets with those who are to hear them now, and whether by an epoch.
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

    /// Whether what goes to `target` went through a relay until now.
    pub(super) fn is_relayed(&self, target: TargetId) -> bool {
        self.keyed.get(&target).is_some_and(|keyed| !keyed.plan.hops.is_empty())
    }

    /// What goes to `target` travels so from now on; says whether that is new.
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

/// Devices that our own key is given to where there is an epoch: each change of who is there costs
/// everybody who talks a message to each of them.
const OWN_KEY_MAX: usize = 32;

/// With so many it is our own key again.
const OWN_KEY_AGAIN: usize = 24;

/// How long nothing is said while a new epoch is on its way. [PROTO-11.9]
const WAIT_MAX: Duration = Duration::from_millis(900);

/// How long a talker's key in an epoch seals.
const GENERATION_MAX: Duration = Duration::from_secs(60);

/// How long it seals at least, where somebody goes who was given it. [PROTO-11.29]
const GENERATION_MIN: Duration = Duration::from_secs(3);

/// Targets that are keyed at once; further ones are not.
const TARGETS_MAX: usize = 64;
