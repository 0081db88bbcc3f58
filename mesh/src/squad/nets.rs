//! Keeps track of which device listens to which channels.

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

/// The channels that this device and its peers listen to.
pub(super) struct Nets {
    /// The channels that are wanted here; `None` for the first channel, as long as nothing was
    /// chosen.
    wanted: Option<BTreeSet<ChannelId>>,
    /// The wanted channels that exist and are permitted.
    own: BTreeSet<ChannelId>,
    peers: BTreeMap<DeviceId, Peer>,
}

/// What a peer has announced and was told.
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

    /// Listens to these channels, as far as they exist and are permitted.
    pub(super) fn want(&mut self, channels: impl IntoIterator<Item = ChannelId>) {
        self.wanted = Some(channels.into_iter().collect());
    }

    /// Listens to the first channel, whichever that is.
    pub(super) fn want_first(&mut self) {
        self.wanted = None;
    }

    /// Evaluates what is wanted. Returns whether anything has changed.
    pub(super) fn permit(&mut self, charter: &Charter, own: MemberId) -> bool {
        let state = charter.state();
        let mut permitted: BTreeSet<_> = match &self.wanted {
            Some(wanted) => {
                wanted.iter().copied().filter(|channel| may(charter, own, *channel)).collect()
            }
            None => charter.first_channel(own).map(|channel| channel.id).into_iter().collect(),
        };
        // A device that is on a full channel stays; others cannot join.
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

    /// A peer has announced in its Hello which channels it hears, of those that everyone may know
    /// of.
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

    /// The linked peer `from` has announced what it listens to. Returns whether that is new.
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

    /// The channels that this device listens to.
    pub(super) fn own(&self) -> &BTreeSet<ChannelId> {
        &self.own
    }

    /// The channels among these that everybody may know of.
    pub(super) fn public(&self, charter: &Charter) -> Vec<ChannelId> {
        let listed = |channel: &&ChannelId| {
            let channel = charter.state().channel(**channel);
            channel.is_some_and(|channel| matches!(channel.name, ChannelName::Listed(_)))
        };
        self.own.iter().filter(listed).copied().collect()
    }

    /// The channels that a peer listens to, as it says.
    pub(super) fn of(&self, device: DeviceId) -> &BTreeSet<ChannelId> {
        static NOTHING: BTreeSet<ChannelId> = BTreeSet::new();
        self.peers.get(&device).map_or(&NOTHING, |peer| &peer.listening)
    }

    /// The next of `peers` to be told what we listen to. A member is told all that it may know of.
    /// A relay, which belongs to no member, is told everything, since it could not forward it
    /// otherwise.
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

    /// The peer has accepted, or not, what it was last told.
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

/// Whether a member may learn who is on a channel: it may be there itself, or be heard there.
fn may_know(charter: &Charter, member: MemberId, channel: ChannelId) -> bool {
    let state = charter.state();
    let speaks = |at| state.allows(member, Capabilities::SPEAK, Place::Channel(at));
    may(charter, member, channel) || speaks(channel) || state.linked(channel).any(speaks)
}
