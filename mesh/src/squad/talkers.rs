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
    /// Talkers whose changes may have to be reported to the voice side.
    stale: BTreeSet<DeviceId>,
}

/// A talker's key in an epoch.
struct HeldInEpoch {
    target: Target,
    /// The key, until it was passed to the voice side.
    fresh: Option<EpochKey>,
    /// How it reaches us, as last reported to the voice side; `None` if that knows no key.
    told: Option<Hearing>,
    /// When nobody seals with it any more.
    until: Timestamp,
}

/// The newest key of a talker for a target.
struct Held {
    target: Target,
    /// Its generation and step.
    number: (u16, u8),
    /// The key and its holders, until they were passed to the voice side.
    fresh: Option<(KeySecret, Vec<DeviceId>)>,
    /// How it reaches us, as last reported to the voice side; `None` if that knows no key.
    told: Option<Hearing>,
    /// Counts the keys that came, so that the oldest target can be dropped.
    came: u64,
}

/// A change for the voice side.
#[derive(Debug)]
pub(super) enum TalkerChange {
    Install {
        device: DeviceId,
        target: TargetId,
        hearing: Hearing,
        secret: KeySecret,
        recipients: Vec<DeviceId>,
    },
    Hear {
        device: DeviceId,
        target: TargetId,
        hearing: Hearing,
    },
    InstallInEpoch {
        device: DeviceId,
        target: TargetId,
        hearing: Hearing,
        key: EpochKey,
    },
    Remove {
        device: DeviceId,
        target: TargetId,
    },
}

impl Talkers {
    pub(super) fn new(own: DeviceId) -> Self {
        Self { own, keys: BTreeMap::new(), in_epochs: BTreeMap::new(), stale: BTreeSet::new() }
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
        let told = targets.remove(&id).and_then(|known| known.told);
        let (target, fresh) = (target.clone(), Some((secret.clone(), recipients.to_vec())));
        targets.insert(id, Held { target, number, fresh, told, came });
        self.stale.insert(from);
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
        let (told, until) = (None, now + EPOCH_KEY_LIFETIME);
        targets.insert(target.id(), HeldInEpoch { target, fresh: Some(key), told, until });
        self.stale.insert(from);
    }

    /// Forgets keys in epochs that nobody seals with any more. The voice side does so by itself.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        for targets in self.in_epochs.values_mut() {
            targets.retain(|_, held| held.until > now);
        }
        self.in_epochs.retain(|_, targets| !targets.is_empty());
    }

    /// Everyone's rights have changed.
    pub(super) fn mark_all(&mut self) {
        self.stale.extend(self.keys.keys().chain(self.in_epochs.keys()));
    }

    /// Evaluates the keys of the marked talkers against everyone's rights. Returns the changes for
    /// the voice side. Nothing is played of a talker that may not speak. [PROTO-6.10]
    pub(super) fn weigh(
        &mut self,
        state: &State,
        own: MemberId,
        listening: &BTreeSet<ChannelId>,
        member: impl Fn(DeviceId) -> Option<MemberId>,
    ) -> Vec<TalkerChange> {
        let mut changes = Vec::new();
        let stale = std::mem::take(&mut self.stale);
        let hearing = |device, target: &Target| {
            let hearing = member(device).map(|it| target.hearing(state, it, own, listening));
            hearing.unwrap_or_default()
        };
        for device in stale.iter().copied() {
            let Some(targets) = self.keys.get_mut(&device) else { continue };
            while targets.len() > TALKER_TARGETS_MAX {
                let oldest = targets.iter().min_by_key(|(_, held)| held.came);
                let Some(target) = oldest.map(|(target, _)| *target) else { break };
                if targets.remove(&target).is_some_and(|held| held.told.is_some()) {
                    changes.push(TalkerChange::Remove { device, target });
                }
            }
            for (target, held) in targets.iter_mut() {
                let (target, hearing) = (*target, hearing(device, &held.target));
                let told = held.told.replace(hearing.clone());
                if let Some((secret, recipients)) = held.fresh.take() {
                    let change =
                        TalkerChange::Install { device, target, hearing, secret, recipients };
                    changes.push(change);
                } else if told.as_ref() != Some(&hearing) {
                    changes.push(TalkerChange::Hear { device, target, hearing });
                }
            }
        }
        for device in stale {
            for (target, held) in self.in_epochs.get_mut(&device).into_iter().flatten() {
                let (target, hearing) = (*target, hearing(device, &held.target));
                let told = held.told.replace(hearing.clone());
                if let Some(key) = held.fresh.take() {
                    changes.push(TalkerChange::InstallInEpoch { device, target, hearing, key });
                } else if told.as_ref() != Some(&hearing) {
                    changes.push(TalkerChange::Hear { device, target, hearing });
                }
            }
        }
        changes
    }

    /// Forgets the keys of `device`. Returns whether the voice side knows any.
    pub(super) fn remove(&mut self, device: DeviceId) -> bool {
        let keys = self.keys.remove(&device).unwrap_or_default();
        let in_epochs = self.in_epochs.remove(&device).unwrap_or_default();
        keys.values().any(|held| held.told.is_some())
            || in_epochs.values().any(|held| held.told.is_some())
    }
}

/// Targets of one talker whose keys are kept. If there are more, the one that came longest ago is
/// dropped.
const TALKER_TARGETS_MAX: usize = 32;
