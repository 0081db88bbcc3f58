//! What we talk to: a key for each target, and who is on its list.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{ChannelId, DeviceId, DeviceKey, MemberId, Random, TargetId, Timestamp};

use crate::{
    Target,
    charter::{Charter, State},
    epoch::Holders,
    message::RECIPIENTS_MAX,
    sender_keys::{KeyChange, KeyDelivery, SenderKeys},
    squad::epochs::others,
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
}

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
}

/// What a target is sealed with from now on.
pub(super) enum Choice {
    /// Another key of an epoch, which `is_new` or was in use before.
    Epoch { id: [u8; 32], is_new: bool },
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
                Keyed { target, keys, plan: Plan::default(), epoch: None }
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
                if went && !gone.contains(device) {
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
            if keyed.keys.members().contains(&device) {
                keyed.keys.join(now, device);
            }
        }
    }

    /// `devices` do not belong any more.
    pub(super) fn revoke(&mut self, now: Timestamp, devices: &[DeviceId]) {
        for keyed in self.keyed.values_mut() {
            keyed.keys.revoke(now, devices.iter().copied());
        }
    }

    /// `device` is gone.
    pub(super) fn leave(&mut self, now: Timestamp, device: DeviceId) {
        for keyed in self.keyed.values_mut() {
            keyed.keys.leave(now, device);
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
    /// `best`, by its id, number and holders, where it reaches more than our own key can, and we are
    /// `relayed`. [PROTO-11.9]
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
                keyed.epoch = None;
                keyed.keys.resume(now);
            }
            return None;
        };
        if keyed.epoch.is_none() {
            keyed.keys.pause();
        }
        let known = keyed.epoch.as_ref().filter(|epoch| epoch.id == Some(id));
        let is_new = known.is_none();
        if known.is_some_and(|epoch| epoch.renew_at.is_none_or(|at| at > now)) {
            return None;
        }
        let holders = holders.clone();
        keyed.epoch = Some(InEpoch { id: Some(id), holders, renew_at: None, until: None });
        Some(Choice::Epoch { id, is_new })
    }

    /// The key in use for `target` has sealed its first frame. [PROTO-6.6]
    pub(super) fn handle_used(&mut self, now: Timestamp, target: TargetId) {
        match self.keyed.get_mut(&target) {
            Some(Keyed { epoch: Some(epoch), .. }) => {
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
            Some(epoch) => (*id, &keyed.target, others(&epoch.holders, own).collect(), true),
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
        keys.chain(epochs.flat_map(|epoch| epoch.renew_at.into_iter().chain(epoch.until))).min()
    }
}

/// Devices that our own key is given to where there is an epoch: each change of who is there costs
/// everybody who talks a message to each of them.
const OWN_KEY_MAX: usize = 32;

/// With so many it is our own key again.
const OWN_KEY_AGAIN: usize = 24;

/// How long nothing is said while a new epoch is on its way. [PROTO-11.9]
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a talker's key in an epoch seals.
const GENERATION_MAX: Duration = Duration::from_secs(60);

/// Targets that are keyed at once; further ones are not.
const TARGETS_MAX: usize = 64;
