use std::collections::BTreeMap;

use hark_keys::{ChannelId, DeviceId, KeySecret};

use super::MessageError;
use crate::message::KeyMessage;

/// The keys that linked peers have given us.
pub(super) struct Talkers {
    channel: ChannelId,
    own: DeviceId,
    /// Generation and step of the newest key of each talker.
    newest: BTreeMap<DeviceId, (u16, u8)>,
}

/// A key that was not known before.
pub(super) struct TalkerUpdate {
    pub(super) secret: KeySecret,
    pub(super) recipients: Vec<DeviceId>,
}

impl Talkers {
    pub(super) fn new(channel: ChannelId, own: DeviceId) -> Self {
        Self { channel, own, newest: BTreeMap::new() }
    }

    /// Takes a key message, whose signature is good, from the linked peer `from`. An older key
    /// than the newest was overtaken on its way and changes nothing.
    pub(super) fn take(
        &mut self,
        from: DeviceId,
        message: &KeyMessage,
    ) -> Result<Option<TalkerUpdate>, MessageError> {
        let KeyMessage { channel, sender, secret, recipients } = message;
        if *sender != from {
            return Err(MessageError::OtherSender);
        }
        if *channel != self.channel {
            return Err(MessageError::OtherChannel);
        }
        if !recipients.is_sorted_by(|a, b| a < b) {
            return Err(MessageError::Unordered);
        }
        if !recipients.contains(&self.own) {
            return Err(MessageError::NotRecipient);
        }
        if !secret.is_valid() {
            return Err(MessageError::Unnameable);
        }
        let number = (secret.generation, secret.step);
        if self.newest.get(&from).is_some_and(|newest| *newest >= number) {
            return Ok(None);
        }
        self.newest.insert(from, number);
        Ok(Some(TalkerUpdate { secret: secret.clone(), recipients: recipients.to_vec() }))
    }

    /// Forgets the key of `device`; says whether there was one.
    pub(super) fn remove(&mut self, device: DeviceId) -> bool {
        self.newest.remove(&device).is_some()
    }
}
