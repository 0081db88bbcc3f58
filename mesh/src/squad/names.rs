//! Keys of hidden channels' names, for members that may join these channels. [PROTO-6.13]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_charter::{
    Charter, NameKey,
    content::{Capabilities, Channel, ChannelName, Place},
};
use hark_keys::{ChannelId, DeviceId, List, MemberId, Timestamp};

use crate::message::Message;

/// The keys that this device has, and which peers were given them.
pub(super) struct Names {
    keys: BTreeMap<ChannelId, NameKey>,
    given: BTreeMap<DeviceId, Given>,
}

#[derive(Default)]
struct Given {
    channels: BTreeSet<(ChannelId, [u8; 8])>,
    again_at: Option<Timestamp>,
}

impl Names {
    pub(super) fn new(keys: BTreeMap<ChannelId, NameKey>) -> Self {
        Self { keys, given: BTreeMap::new() }
    }

    pub(super) fn keys(&self) -> &BTreeMap<ChannelId, NameKey> {
        &self.keys
    }

    /// Keeps a key. Returns whether it is new.
    pub(super) fn keep(&mut self, channel: ChannelId, key: NameKey) -> bool {
        self.keys.insert(channel, key.clone()).is_none_or(|before| before != key)
    }

    /// Takes keys that a peer has given. Returns whether any of them opens a name that was closed
    /// here, and whether any opens no name that is known here. In the second case the peer may know
    /// more of the charter, and is to send the keys again.
    pub(super) fn take(
        &mut self,
        charter: &Charter,
        given: impl Iterator<Item = (ChannelId, NameKey)>,
    ) -> (bool, bool) {
        let (mut new, mut early) = (false, false);
        for (channel, key) in given {
            let hidden = charter.state().channel(channel).and_then(sealed);
            if hidden.is_some_and(|name| key.open(channel, name).is_some()) {
                new |= self.keep(channel, key);
            } else {
                early = true;
            }
        }
        (new, early)
    }

    pub(super) fn link_up(&mut self, device: DeviceId) {
        self.given.insert(device, Given::default());
    }

    pub(super) fn link_down(&mut self, device: DeviceId) {
        self.given.remove(&device);
    }

    /// The next peer that is to be given the keys of all hidden channels that it may know of.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        charter: &Charter,
        member: impl Fn(DeviceId) -> Option<MemberId>,
    ) -> Option<(DeviceId, Message)> {
        if self.keys.is_empty() {
            return None;
        }
        let state = charter.state();
        let hidden: Vec<_> = self
            .keys
            .iter()
            .filter_map(|(channel, key)| Some((*channel, key, sealed(state.channel(*channel)?)?)))
            .filter(|(channel, key, name)| key.open(*channel, name).is_some())
            .collect();
        for (device, given) in &mut self.given {
            let Some(member) = member(*device) else { continue };
            let due = hidden.iter().filter(|(channel, ..)| may_know(charter, member, *channel));
            let wanted: BTreeSet<_> =
                due.clone().map(|(channel, _, name)| (*channel, name.key_id)).collect();
            let again = given.again_at.is_some_and(|at| at <= now);
            if !again && wanted.is_subset(&given.channels) {
                continue;
            }
            given.channels = wanted;
            given.again_at = Some(now + ANSWER_TIMEOUT);
            let keys = due.map(|(channel, key, _)| (*channel, (*key).clone()));
            return Some((*device, Message::Names(List::truncated(keys))));
        }
        None
    }

    /// The peer has accepted, or not, what it was last given.
    pub(super) fn handle_answer(&mut self, now: Timestamp, device: DeviceId, taken: bool) {
        if let Some(given) = self.given.get_mut(&device) {
            given.again_at = if taken { None } else { Some(now + RETRY_AFTER) };
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.given.values().filter_map(|given| given.again_at).min()
    }
}

fn sealed(channel: &Channel) -> Option<&hark_charter::content::SealedName> {
    match &channel.name {
        ChannelName::Hidden(name) => Some(name),
        ChannelName::Listed(_) => None,
    }
}

/// Whether a member may know that a hidden channel exists.
pub(super) fn may_know(charter: &Charter, member: MemberId, channel: ChannelId) -> bool {
    let any = [Capabilities::JOIN, Capabilities::LISTEN, Capabilities::MANAGE_CHANNELS];
    let at = Place::Channel(channel);
    any.into_iter().any(|right| charter.state().allows(member, right, at))
}

/// Delay before keys that were not accepted are sent again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// A message without an answer is sent again after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
