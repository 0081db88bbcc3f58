//! Who listens to what.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Charter,
    content::{Capabilities, ChannelName, Place},
};
use hark_keys::{ChannelId, DeviceId, List, MemberId, Timestamp};

use super::announcement::Announcement;
use crate::{
    message::{LISTENING_MAX, Listening},
    target::LISTEN,
};

/// What this device and its peers listen to.
pub(super) struct Nets {
    /// What is wanted here; the first channel where nobody has said.
    wanted: Option<BTreeSet<ChannelId>>,
    /// What of it there is and is permitted.
    own: BTreeSet<ChannelId>,
    peers: BTreeMap<DeviceId, Peer>,
}

/// What a peer has told and was told.
#[derive(Default)]
struct Peer {
    number: u64,
    listening: BTreeSet<ChannelId>,
    telling: Announcement<BTreeSet<ChannelId>>,
}

impl Nets {
    pub(super) fn new() -> Self {
        Self { wanted: None, own: BTreeSet::new(), peers: BTreeMap::new() }
    }

    /// Listen to these, as far as they are there and permitted.
    pub(super) fn want(&mut self, channels: impl IntoIterator<Item = ChannelId>) {
        self.wanted = Some(channels.into_iter().collect());
    }

    /// Listen to the first channel, whichever that is.
    pub(super) fn want_first(&mut self) {
        self.wanted = None;
    }

    /// Weighs what is wanted; says whether anything has changed.
    pub(super) fn permit(&mut self, charter: &Charter, own: MemberId) -> bool {
        let state = charter.state();
        let mut permitted: BTreeSet<_> = match &self.wanted {
            Some(wanted) => {
                wanted.iter().copied().filter(|channel| may(charter, own, *channel)).collect()
            }
            None => charter.first_channel(own).map(|channel| channel.id).into_iter().collect(),
        };
        // Whoever is on a full channel stays; others do not come.
        permitted.retain(|channel| {
            let limit = state.channel(*channel).map_or(0, |channel| channel.limit);
            let others = self.peers.values().filter(|peer| peer.listening.contains(channel));
            self.own.contains(channel) || limit == 0 || others.count() < usize::from(limit)
        });
        while permitted.len() > LISTENING_MAX {
            permitted.pop_last();
        }
        let changed = permitted != self.own;
        self.own = permitted;
        changed
    }

    /// A peer has said in its Hello what it hears of what all may know.
    pub(super) fn link_up(&mut self, device: DeviceId, restarted: bool, listening: Vec<ChannelId>) {
        let peer = self.peers.entry(device).or_default();
        if restarted {
            *peer = Peer::default();
        }
        if peer.number == 0 {
            peer.listening = listening.into_iter().collect();
        }
        peer.telling.link_up();
    }

    pub(super) fn link_down(&mut self, device: DeviceId) {
        self.peers.remove(&device);
    }

    /// The linked peer `from` has told what it listens to; says whether that is new.
    pub(super) fn take(&mut self, from: DeviceId, message: Listening) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        if message.number <= peer.number {
            return false;
        }
        peer.number = message.number;
        let listening = message.channels.iter().copied().collect();
        let changed = peer.listening != listening;
        peer.listening = listening;
        changed
    }

    /// What this device listens to.
    pub(super) fn own(&self) -> &BTreeSet<ChannelId> {
        &self.own
    }

    /// What of it everybody may know.
    pub(super) fn public(&self, charter: &Charter) -> Vec<ChannelId> {
        let listed = |channel: &&ChannelId| {
            let channel = charter.state().channel(**channel);
            channel.is_some_and(|channel| matches!(channel.name, ChannelName::Listed(_)))
        };
        self.own.iter().filter(listed).copied().collect()
    }

    /// What a peer listens to, as it says.
    pub(super) fn of(&self, device: DeviceId) -> &BTreeSet<ChannelId> {
        static NOTHING: BTreeSet<ChannelId> = BTreeSet::new();
        self.peers.get(&device).map_or(&NOTHING, |peer| &peer.listening)
    }

    /// The next of `peers` that is to be told what we listen to: all that its member may know of,
    /// and to a relay, which is no member's, everything, since it could not forward it otherwise.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        charter: &Charter,
        peers: &BTreeMap<DeviceId, Option<MemberId>>,
        numbers: &mut u64,
    ) -> Option<(DeviceId, Listening)> {
        for (device, peer) in &mut self.peers {
            let Some(member) = peers.get(device) else { continue };
            if peer.telling.is_taken() && peer.telling.told() == Some(&self.own) {
                continue;
            }
            let knows = |it: &ChannelId| member.is_none_or(|member| may_know(charter, member, *it));
            let known: BTreeSet<_> = self.own.iter().copied().filter(knows).collect();
            if let Some(number) = peer.telling.poll(now, &known, numbers) {
                return Some((*device, Listening { number, channels: List::truncated(known) }));
            }
        }
        None
    }

    /// The peer has taken, or not, what it was told last.
    pub(super) fn handle_answer(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        number: u64,
        taken: bool,
    ) {
        if let Some(peer) = self.peers.get_mut(&device) {
            peer.telling.handle_answer(now, number, taken);
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.peers.values().filter_map(|peer| peer.telling.timeout()).min()
    }
}

fn may(charter: &Charter, member: MemberId, channel: ChannelId) -> bool {
    charter.state().allows(member, LISTEN, Place::Channel(channel))
}

/// Whether a member learns who is on a channel: it may be there itself, or be heard there.
fn may_know(charter: &Charter, member: MemberId, channel: ChannelId) -> bool {
    let state = charter.state();
    let speaks = |at| state.allows(member, Capabilities::SPEAK, Place::Channel(at));
    may(charter, member, channel) || speaks(channel) || state.linked(channel).any(speaks)
}
