use std::collections::{BTreeMap, BTreeSet};

use hark_charter::State;
use hark_keys::{
    ChannelId, DeviceId, EPOCH_KEY_LIFETIME, EpochKey, KeySecret, MemberId, TargetId, Timestamp,
};

use super::MessageError;
use crate::{Target, message::KeyMessage, target::Hearing};

/// The keys that linked peers have given us, by talker and target. The keys themselves are held
/// only by the voice side, which knows when they are over.
pub(super) struct Talkers {
    own: DeviceId,
    keys: BTreeMap<DeviceId, BTreeMap<TargetId, Held>>,
    /// Keys in epochs that we do not hold. [PROTO-11.13]
    in_epochs: BTreeMap<DeviceId, BTreeMap<TargetId, HeldInEpoch>>,
}

/// A talker's key in an epoch.
struct HeldInEpoch {
    target: Target,
    /// The key, until it was passed to the voice side.
    fresh: Option<EpochKey>,
    /// How it reaches us, as last reported to the voice side.
    told: Hearing,
    /// When nobody seals with it any more.
    until: Timestamp,
}

/// The newest key of a talker for a target.
struct Held {
    target: Target,
    /// Its generation and step.
    number: (u16, u8),
    /// The key, until it was passed to the voice side.
    fresh: Option<KeySecret>,
    /// How it reaches us, as last reported to the voice side.
    told: Hearing,
    /// Counts the keys that came, so that the oldest target can be dropped.
    came: u64,
}

/// A change for the voice side.
#[derive(Debug)]
pub(super) enum TalkerChange {
    Install { device: DeviceId, target: TargetId, hearing: Hearing, secret: KeySecret },
    Hear { device: DeviceId, target: TargetId, hearing: Hearing },
    InstallInEpoch { device: DeviceId, target: TargetId, hearing: Hearing, key: EpochKey },
    Remove { device: DeviceId, target: TargetId },
}

impl Talkers {
    pub(super) fn new(own: DeviceId) -> Self {
        Self { own, keys: BTreeMap::new(), in_epochs: BTreeMap::new() }
    }

    /// Takes a key message with a valid signature from the linked peer `from`. Returns whether it
    /// was new. A key older than the newest was overtaken on its way and changes nothing.
    pub(super) fn take(
        &mut self,
        from: DeviceId,
        message: &KeyMessage,
    ) -> Result<bool, MessageError> {
        let KeyMessage { target, sender, secret, recipients } = message;
        if *sender != from {
            return Err(MessageError::OtherSender);
        }
        if !recipients.is_sorted_by(|a, b| a < b) || !target.is_sound() {
            return Err(MessageError::Unordered);
        }
        if !recipients.contains(&self.own) {
            return Err(MessageError::NotRecipient);
        }
        if !secret.is_valid() {
            return Err(MessageError::Unnameable);
        }
        let targets = self.keys.entry(from).or_default();
        let number = (secret.generation, secret.step);
        let id = target.id();
        if targets.get(&id).is_some_and(|known| known.number >= number) {
            return Ok(false);
        }
        let came = targets.values().map(|it| it.came).max().unwrap_or(0) + 1;
        let told = targets.remove(&id).map(|known| known.told).unwrap_or_default();
        let (target, fresh) = (target.clone(), Some(secret.clone()));
        targets.insert(id, Held { target, number, fresh, told, came });
        Ok(true)
    }

    /// Takes the key of the linked peer `from` in an epoch that we do not hold. It replaces the
    /// last one. If there are too many targets, one is dropped; it is given again when its key
    /// changes.
    pub(super) fn take_epoch_key(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        target: Target,
        key: EpochKey,
    ) {
        let targets = self.in_epochs.entry(from).or_default();
        if targets.len() >= TALKER_TARGETS_MAX && !targets.contains_key(&target.id()) {
            targets.pop_first();
        }
        let (told, until) = (Hearing::default(), now + EPOCH_KEY_LIFETIME);
        targets.insert(target.id(), HeldInEpoch { target, fresh: Some(key), told, until });
    }

    /// Forgets keys in epochs that nobody seals with any more. The voice side does so by itself.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        for targets in self.in_epochs.values_mut() {
            targets.retain(|_, held| held.until > now);
        }
        self.in_epochs.retain(|_, targets| !targets.is_empty());
    }

    /// Evaluates the keys of `device`, or of all, against everyone's rights. Returns the changes
    /// for the voice side. Nothing is played of a talker that may not speak. [PROTO-6.10]
    pub(super) fn weigh(
        &mut self,
        device: Option<DeviceId>,
        state: &State,
        own: MemberId,
        listening: &BTreeSet<ChannelId>,
        member: impl Fn(DeviceId) -> Option<MemberId>,
    ) -> Vec<TalkerChange> {
        let mut changes = Vec::new();
        let weighed = self.keys.iter_mut().filter(|(of, _)| device.is_none_or(|it| it == **of));
        for (device, targets) in weighed {
            let (device, speaker) = (*device, member(*device));
            while targets.len() > TALKER_TARGETS_MAX {
                let oldest = targets.iter().min_by_key(|(_, held)| held.came);
                let Some(target) = oldest.map(|(target, _)| *target) else { break };
                targets.remove(&target);
                changes.push(TalkerChange::Remove { device, target });
            }
            for (target, held) in targets.iter_mut() {
                let target = *target;
                let hearing =
                    speaker.map(|speaker| held.target.hearing(state, speaker, own, listening));
                let hearing = hearing.unwrap_or_default();
                if let Some(secret) = held.fresh.take() {
                    let hearing = hearing.clone();
                    changes.push(TalkerChange::Install { device, target, hearing, secret });
                } else if hearing != held.told {
                    let hearing = hearing.clone();
                    changes.push(TalkerChange::Hear { device, target, hearing });
                }
                held.told = hearing;
            }
        }
        let weighed =
            self.in_epochs.iter_mut().filter(|(of, _)| device.is_none_or(|it| it == **of));
        for (device, targets) in weighed {
            let (device, speaker) = (*device, member(*device));
            for (target, held) in targets {
                let target = *target;
                let hearing = speaker.map(|it| held.target.hearing(state, it, own, listening));
                let hearing = hearing.unwrap_or_default();
                if let Some(key) = held.fresh.take() {
                    let hearing = hearing.clone();
                    changes.push(TalkerChange::InstallInEpoch { device, target, hearing, key });
                } else if hearing != held.told {
                    let hearing = hearing.clone();
                    changes.push(TalkerChange::Hear { device, target, hearing });
                }
                held.told = hearing;
            }
        }
        changes
    }

    /// Forgets the keys of `device`. Returns whether there were any.
    pub(super) fn remove(&mut self, device: DeviceId) -> bool {
        let in_epochs = self.in_epochs.remove(&device).is_some();
        self.keys.remove(&device).is_some() || in_epochs
    }
}

/// Targets of one talker whose keys are kept. If there are more, the one that came longest ago is
/// dropped.
const TALKER_TARGETS_MAX: usize = 32;
