//! What the voice of a device is told to do, and what it tells.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use hark_keys::{DeviceId, DeviceKey, EpochKey, EpochSecret, KeySecret, TargetId};
use hark_mesh::topology::Plan;

use super::nets::{Net, NetSettings};

/// What the node and its user want.
pub enum VoiceCommand {
    /// Seal what goes to a target with this key from now on. At most
    /// [`TARGETS_MAX`](super::send::TARGETS_MAX) targets, further ones are refused.
    UseKey {
        /// Which target.
        target: TargetId,
        /// What its datagrams are marked with. [PROTO-7.1]
        tag: [u8; 4],
        /// The key. Used once, as two would seal two frames under one counter.
        secret: KeySecret,
    },
    /// Seal what goes to a target with our key in this epoch from now on. [PROTO-11.8]
    UseEpoch {
        /// Which target.
        target: TargetId,
        /// What its datagrams are marked with. [PROTO-7.1]
        tag: [u8; 4],
        /// The epoch.
        secret: EpochSecret,
        /// Which of our keys in it. Used once, as two would seal two frames under one counter.
        generation: u8,
    },
    /// Seal nothing for a target until there is a key again; a talkspurt to it ends.
    DropKey(TargetId),
    /// What these talkers say to a target opens with these epochs, and no others; it replaces what
    /// was said of the target before.
    SetEpochs {
        /// Which target.
        target: TargetId,
        /// What its datagrams are marked with. [PROTO-7.1]
        tag: [u8; 4],
        /// The nets through which it reaches us.
        heard: Vec<Net>,
        /// At most four.
        secrets: Vec<EpochSecret>,
        /// Who may speak there.
        talkers: BTreeSet<DeviceId>,
    },
    /// Who hears what goes to a target, however many nets of it reach them.
    SetListeners {
        /// Which target.
        target: TargetId,
        /// To whom copies go, and by which relays.
        plan: Plan,
    },
    /// Those with a slot at a relay that we use; none at all where we use it no more.
    SetSlots {
        /// Which relay.
        relay: DeviceId,
        /// All that are known.
        slots: Option<Vec<(u16, DeviceId)>>,
        /// Whether it is a member's node, which may hold keys of talkers.
        is_members: bool,
    },
    /// A talker is not heard by a relay for a while, which has brought what nobody has proven; the
    /// talker is told. [PROTO-10.10]
    LeaveRelay {
        /// Which relay.
        relay: DeviceId,
        /// For whose voice.
        talker: DeviceId,
    },
    /// Sign what goes by such relays with this device's key. [PROTO-10.9]
    SignWith(Arc<DeviceKey>),
    /// Nothing goes to a target any more, also nothing of a talkspurt that does now.
    RemoveTarget(TargetId),
    /// Where the next talkspurt goes; none: nobody hears us. A talkspurt that goes elsewhere ends
    /// at once, its last words after the key included, and if the gate is open another begins.
    SelectTarget {
        /// Which target.
        target: Option<TargetId>,
        /// Whether a key to talk is held for it: then no other organisation hears what is said, but
        /// for those with such a key of their own.
        keyed: bool,
    },
    /// What is said without a key goes to this organisation, of those that the device is in.
    ComeToFront,
    /// A talker's key came. At most
    /// [`TALKER_TARGETS_MAX`](super::keyrings::TALKER_TARGETS_MAX) targets of one talker; then the
    /// one used the longest ago goes.
    InstallKey {
        /// Whose key.
        device: DeviceId,
        /// What it talks to with it.
        target: TargetId,
        /// What its datagrams are marked with. [PROTO-7.1]
        tag: [u8; 4],
        /// The nets through which that reaches us, by the rights of both.
        heard: Vec<Net>,
        /// Whether it comes before all other targets.
        priority: bool,
        /// The key.
        secret: KeySecret,
    },
    /// What a talker says to a target reaches us through other nets now; through none: it is not
    /// heard, and the key waits for a minute in case that it is again.
    SetHeard {
        /// Whose key.
        device: DeviceId,
        /// To what.
        target: TargetId,
        /// The nets, by the rights of both.
        heard: Vec<Net>,
        /// Whether it comes before all other targets.
        priority: bool,
    },
    /// A talker's key in an epoch that we do not hold came. [PROTO-11.13]
    InstallEpochKey {
        /// Whose key.
        device: DeviceId,
        /// What it talks to with it.
        target: TargetId,
        /// What its datagrams are marked with. [PROTO-7.1]
        tag: [u8; 4],
        /// The nets through which that reaches us, by the rights of both.
        heard: Vec<Net>,
        /// The key.
        key: EpochKey,
    },
    /// Forget a talker's keys to one target.
    RemoveKey {
        /// Whose keys.
        device: DeviceId,
        /// To what.
        target: TargetId,
    },
    /// Forget a talker, keys and all.
    RemoveTalker(DeviceId),
    /// Listen to a net, or change how. Nets that were never set are not heard.
    SetNet {
        /// Which net.
        net: Net,
        /// How it is heard.
        settings: NetSettings,
    },
    /// Listen to a net no more.
    RemoveNet(Net),
    /// By how many decibels talkers are turned down while one of a higher priority is heard, 0 to
    /// -60.
    SetDucking(f32),
    /// Change what opens the gate.
    SetTransmit(Transmit),
    /// The key to talk goes down (true) or up.
    PushToTalk(bool),
    /// Send nothing of our microphone, or do so again.
    Mute(bool),
    /// Hear nobody, or everybody again.
    Deafen(bool),
    /// How loud a talker is, 0 to 4, 1 being as sent.
    Volume {
        /// Which talker.
        device: DeviceId,
        /// Factor of the amplitude.
        gain: f32,
    },
}

/// What opens the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transmit {
    /// It is always open.
    Open,
    /// Somebody speaks.
    #[default]
    Voice,
    /// A key is held.
    PushToTalk,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoiceEvent {
    /// A talker is heard, or speaks on nets that are muted.
    TalkStarted {
        /// Who.
        device: DeviceId,
        /// The nets that it is listened to on. Where they change, the talk ends and starts.
        nets: Vec<Net>,
    },
    /// A talker is heard no more.
    TalkEnded {
        /// Who.
        device: DeviceId,
    },
    /// Our voice goes out.
    OwnTalkStarted {
        /// Where to.
        target: TargetId,
    },
    /// It does so no more.
    OwnTalkEnded,
    /// A relay that we send to does not say that anything comes.
    RelaySilent {
        /// Which relay.
        relay: DeviceId,
    },
    /// What we say by a relay does not reach a listener as it should. [PROTO-10.8]
    RelayFails {
        /// Which relay.
        relay: DeviceId,
        /// Whom it fails.
        listener: DeviceId,
        /// The listener hears nothing of us by it as long as its node runs.
        for_good: bool,
    },
    /// A member's relay has brought, as a talker's, what the talker has not signed: the relay has
    /// made it up, or the talker has signed something else than it has sent. [PROTO-10.10]
    /// [PROTO-10.21]
    RelayForges {
        /// Which relay.
        relay: DeviceId,
        /// In whose name.
        talker: DeviceId,
    },
    /// A member's relay has brought what neither a proof nor the talker has shown to be the
    /// talker's. [PROTO-10.10]
    RelayUnproven {
        /// Which relay.
        relay: DeviceId,
        /// In whose name.
        talker: DeviceId,
    },
    /// The first frame was sealed with the key last given by [`VoiceCommand::UseKey`].
    KeyUsed {
        /// For which target.
        target: TargetId,
    },
}

/// Events that wait to be polled.
#[derive(Default)]
pub(super) struct Events(VecDeque<VoiceEvent>);

impl Events {
    pub(super) fn push(&mut self, event: VoiceEvent) {
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    pub(super) fn poll(&mut self) -> Option<VoiceEvent> {
        self.0.pop_front()
    }
}

/// Events that wait; the oldest goes.
const EVENTS_MAX: usize = 1_024;
