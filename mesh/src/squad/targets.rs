//! What we talk to: a key for each target, and who is on its list.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_keys::{ChannelId, DeviceId, DeviceKey, MemberId, Random, TargetId, Timestamp};

use crate::{
    Target,
    charter::{Charter, State},
    message::RECIPIENTS_MAX,
    sender_keys::{KeyChange, KeyDelivery, SenderKeys},
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
                Keyed { target, keys, plan: Plan::default() }
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
            keyed.keys.revoke(now, revoked);
            for device in hearers.difference(&before).take(RECIPIENTS_MAX) {
                keyed.keys.join(now, *device);
            }
        }
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

    /// All targets with those who are to hear them now.
    pub(super) fn hearers(
        &self,
    ) -> impl Iterator<Item = (TargetId, &Target, impl Iterator<Item = DeviceId>)> {
        self.keyed.iter().map(|(id, keyed)| (*id, &keyed.target, keyed.keys.hearers()))
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
        self.keyed.values().filter_map(|keyed| keyed.keys.timeout()).min()
    }
}

/// Targets that are keyed at once; further ones are not.
const TARGETS_MAX: usize = 64;
