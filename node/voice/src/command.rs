//! The commands that the voice of a device takes, and the events that it reports.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, DeviceKey, EpochKey, EpochSecret, KeySecret, TargetId};
use hark_mesh::topology::Plan;

use hark_processing::{StageMode, Stages};

use super::{
    cues::{Cue, CueSettings},
    delays::WaitLimits,
    nets::{Net, NetSettings},
    rate::{CodingChange, Music},
};

/// What the node and its user want.
pub enum VoiceCommand {
    /// Seal speech to a target with this key from now on. There are at most
    /// [`TARGETS_MAX`](super::send::TARGETS_MAX) targets; further ones are refused.
    UseKey {
        /// The target that the key is for.
        target: TargetId,
        /// The tag that marks its datagrams. [PROTO-7.1]
        tag: [u8; 4],
        /// The key. Each key is used once: two senders with the same key would seal two frames
        /// under one counter.
        secret: KeySecret,
    },
    /// Seal speech to a target with our key in this epoch from now on. [PROTO-11.8]
    UseEpoch {
        /// The target that the epoch is for.
        target: TargetId,
        /// The tag that marks its datagrams. [PROTO-7.1]
        tag: [u8; 4],
        /// The secret of the epoch.
        secret: EpochSecret,
        /// Generation of our key in the epoch. Each generation is used once: two senders with the
        /// same one would seal two frames under one counter.
        generation: u8,
    },
    /// Seal nothing for a target until it has a key again. A talkspurt to it ends.
    DropKey(TargetId),
    /// Open what these talkers say to a target with these epochs and no others. This replaces the
    /// earlier `SetEpochs` for the target.
    SetEpochs {
        /// The target that the epochs are for.
        target: TargetId,
        /// The tag that marks its datagrams. [PROTO-7.1]
        tag: [u8; 4],
        /// The nets through which speech to the target reaches us.
        heard: Vec<Net>,
        /// The secrets of the epochs, at most four.
        secrets: Vec<EpochSecret>,
        /// The devices that may speak to the target.
        talkers: BTreeSet<DeviceId>,
    },
    /// The listeners of a target. Each gets one datagram per frame, however many nets of the target
    /// reach it.
    SetListeners {
        /// The target that the plan is for.
        target: TargetId,
        /// The devices to which copies are sent, and the relays in between.
        plan: Plan,
    },
    /// The slots at a relay that we use; `None` if we no longer use the relay.
    SetSlots {
        /// The relay that gave out the slots.
        relay: DeviceId,
        /// All slots that are known, with the device in each.
        slots: Option<Vec<(u16, DeviceId)>>,
        /// Whether the relay is a member's node, which may hold keys of talkers.
        is_members: bool,
    },
    /// Stop hearing a talker by a relay for a while, since the relay has brought frames that nobody
    /// has proven. The talker is told. [PROTO-10.10]
    LeaveRelay {
        /// The relay that brought the frames.
        relay: DeviceId,
        /// The talker in whose name they came.
        talker: DeviceId,
    },
    /// Sign what is sent by relays of members with this device's key. [PROTO-10.9]
    SignWith(Arc<DeviceKey>),
    /// Send nothing to a target any more, not even the rest of a talkspurt to it.
    RemoveTarget(TargetId),
    /// Choose where the next talkspurt is sent. A talkspurt to another target ends at once, without
    /// the last words that follow the release of the key. If the gate is open, a new one begins.
    SelectTarget {
        /// The target; `None` if nobody hears us.
        target: Option<TargetId>,
        /// Whether the user holds a talk key for this target. If so, no other organisation hears
        /// what is said, except those with a held talk key of their own.
        keyed: bool,
    },
    /// Send what is said without a talk key to this organisation, of those that the device is in.
    ComeToFront,
    /// A talker's key has arrived. A talker has at most
    /// [`TALKER_TARGETS_MAX`](super::keyrings::TALKER_TARGETS_MAX) targets; if there are more, the
    /// least recently used one is removed.
    InstallKey {
        /// The talker whose key it is.
        device: DeviceId,
        /// The target that the talker seals for with it.
        target: TargetId,
        /// The tag that marks its datagrams. [PROTO-7.1]
        tag: [u8; 4],
        /// The nets through which that speech reaches us, by the rights of both.
        heard: Vec<Net>,
        /// Whether speech to this target has priority over all other targets.
        priority: bool,
        /// The key.
        secret: KeySecret,
    },
    /// The nets through which a talker's speech to a target reaches us have changed. If there are
    /// none, it is not heard, and its key is kept for a minute in case it is heard again.
    SetHeard {
        /// The talker.
        device: DeviceId,
        /// The target that the talker speaks to.
        target: TargetId,
        /// The nets, by the rights of both.
        heard: Vec<Net>,
        /// Whether speech to this target has priority over all other targets.
        priority: bool,
    },
    /// A talker's key has arrived that belongs to an epoch which we do not hold. [PROTO-11.13]
    InstallEpochKey {
        /// The talker whose key it is.
        device: DeviceId,
        /// The target that the talker seals for with it.
        target: TargetId,
        /// The tag that marks its datagrams. [PROTO-7.1]
        tag: [u8; 4],
        /// The nets through which that speech reaches us, by the rights of both.
        heard: Vec<Net>,
        /// The key.
        key: EpochKey,
    },
    /// Forget a talker's keys to one target.
    RemoveKey {
        /// The talker whose keys they are.
        device: DeviceId,
        /// The target that the keys are for.
        target: TargetId,
    },
    /// Forget a talker, keys and all.
    RemoveTalker(DeviceId),
    /// Listen to a net, or change how it is heard. Nets that were never set are not heard.
    SetNet {
        /// The net to listen to.
        net: Net,
        /// How it is heard.
        settings: NetSettings,
    },
    /// Stop listening to a net.
    RemoveNet(Net),
    /// Set by how many decibels talkers are turned down while one of a higher priority is heard, 0
    /// to -60.
    SetDucking(f32),
    /// Set whether talkers who are far too quiet or too loud are turned up or down. At first they
    /// are not.
    SetLeveling(bool),
    /// Set whether talkers are placed around the head of someone with headphones. At first they are
    /// not.
    SetHeadphones(bool),
    /// Set which targets are channels for music. At first none is. [PROTO-7.12]
    SetMusic(BTreeMap<TargetId, Music>),
    /// Set bit rate, frame length and copies of our voice, or leave them to the network.
    ChangeCoding(CodingChange),
    /// Set between which limits we wait for what others say.
    SetWait(WaitLimits),
    /// Change what opens the gate.
    SetTransmit(Transmit),
    /// The user has pressed (true) or released (false) the key to talk.
    PushToTalk(bool),
    /// Sets how long the microphone stays open after the key: [`RELEASE_TAIL`](crate::RELEASE_TAIL) at first.
    SetTail(Duration),
    /// Send nothing of our microphone (true), or send again (false).
    Mute(bool),
    /// Hear nobody (true), or hear everybody again (false).
    Deafen(bool),
    /// Set how loud a talker is.
    Volume {
        /// The talker.
        device: DeviceId,
        /// Factor of the amplitude, 0 to 4; 1 leaves it as sent.
        gain: f32,
    },
    /// Set what is done to captured sound before it is encoded. At first it is nothing.
    SetProcessing(Stages<StageMode>),
    /// Set which tones tell the person what happens. At first there are none.
    SetCues(CueSettings),
    /// Play such a tone, if it is one of those that are wanted.
    PlayCue(Cue),
    /// Set how loud the person hears the own voice while it is sent, in decibels from -40 to 0.
    /// `None`, as at first: not at all.
    SetSideTone(Option<f32>),
}

/// What opens the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transmit {
    /// Nothing: the gate is always open.
    Open,
    /// Speech in the captured sound.
    #[default]
    Voice,
    /// A held key.
    PushToTalk,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoiceEvent {
    /// A talker is heard, or speaks on nets that are muted.
    TalkStarted {
        /// The talker.
        device: DeviceId,
        /// The nets that we listen to and that its speech comes through. If they change, the talk
        /// ends and starts again.
        nets: Vec<Net>,
    },
    /// A talker is no longer heard.
    TalkEnded {
        /// The talker.
        device: DeviceId,
    },
    /// Our voice is being sent.
    OwnTalkStarted {
        /// The target that it is sent to.
        target: TargetId,
    },
    /// Our voice is no longer being sent.
    OwnTalkEnded,
    /// A relay that we send to does not report that anything arrives.
    RelaySilent {
        /// The silent relay.
        relay: DeviceId,
    },
    /// What we say by a relay does not reach a listener as it should. [PROTO-10.8]
    RelayFails {
        /// The relay that fails.
        relay: DeviceId,
        /// The listener that it fails.
        listener: DeviceId,
        /// Whether the listener refuses to hear us by this relay for as long as the listener's node
        /// runs.
        for_good: bool,
    },
    /// A member's relay has brought frames in a talker's name that the talker has not signed.
    /// Either the relay has made them up, or the talker has signed something other than what it
    /// sent. [PROTO-10.10] [PROTO-10.21]
    RelayForges {
        /// The relay that brought them.
        relay: DeviceId,
        /// The talker in whose name they came.
        talker: DeviceId,
    },
    /// A member's relay has brought frames that neither a proof nor the talker has shown to be the
    /// talker's. [PROTO-10.10]
    RelayUnproven {
        /// The relay that brought them.
        relay: DeviceId,
        /// The talker in whose name they came.
        talker: DeviceId,
    },
    /// The first frame was sealed with the newest key from [`VoiceCommand::UseKey`] or
    /// [`VoiceCommand::UseEpoch`].
    KeyUsed {
        /// The target that the key is for.
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

/// Most events that wait. If there are more, the oldest is dropped.
const EVENTS_MAX: usize = 1_024;
