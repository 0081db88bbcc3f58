use std::{fmt, net::SocketAddr, sync::Arc};

use hark_charter::{Charter, PieceError};
use hark_keys::{
    ChannelId, DecodeError, DeviceId, EpochKey, EpochSecret, KeySecret, MemberId, SignatureError,
    TargetId,
};
use zeroize::Zeroizing;

use super::MoveError;
use crate::{DirectoryError, Target, message::CheckNonce, target::Hearing, topology::Plan};

/// Something to send.
#[derive(Clone, PartialEq, Eq)]
pub enum SquadTransmit {
    /// A request on a stream of the link to `to`. The driver reports its result by
    /// [`super::Squad::handle_delivered`] or [`super::Squad::handle_failed`].
    Message {
        /// The receiving peer.
        to: DeviceId,
        /// Identifies the message in the report of its result.
        id: u64,
        /// The message. It may contain a key, so it is wiped when dropped.
        bytes: Zeroizing<Vec<u8>>,
    },
    /// A gossip message for the organisation, on its [`Topic`](crate::message::Topic).
    Gossip(Vec<u8>),
    /// A datagram on the link to `to`.
    Datagram {
        /// The receiving peer.
        to: DeviceId,
        /// The whole datagram.
        bytes: Vec<u8>,
    },
    /// A packet of its own, from a port that nothing else was sent from. [PROTO-5.9]
    Check {
        /// The address to send it to.
        to: SocketAddr,
        /// The nonce that it carries.
        nonce: CheckNonce,
    },
}

impl fmt::Debug for SquadTransmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { to, id, bytes } => {
                write!(f, "Message({id} to {to:?}, {} bytes)", bytes.len())
            }
            Self::Gossip(bytes) => write!(f, "Gossip({} bytes)", bytes.len()),
            Self::Datagram { to, bytes } => write!(f, "Datagram(to {to:?}, {} bytes)", bytes.len()),
            Self::Check { to, .. } => write!(f, "Check(to {to})"),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SquadEvent {
    /// A peer is linked, or has restarted.
    PeerUp {
        /// Its device.
        device: DeviceId,
        /// Its name, made fit for display.
        name: String,
        /// The address at which it was dialled, if this side did.
        address: Option<SocketAddr>,
    },
    /// An infrastructure relay is linked, or has restarted.
    RelayUp {
        /// Its device.
        device: DeviceId,
        /// Its name, made fit for display.
        name: String,
        /// The address at which it was dialled, if this side did.
        address: Option<SocketAddr>,
    },
    /// An infrastructure relay is no longer linked.
    RelayDown {
        /// Its device.
        device: DeviceId,
        /// The reason.
        reason: DownReason,
    },
    /// A peer is silent, but its link is still up. [PROTO-2.7]
    PeerUnreachable {
        /// Its device.
        device: DeviceId,
    },
    /// A silent peer has been heard again.
    PeerReachable {
        /// Its device.
        device: DeviceId,
    },
    /// A peer is gone.
    PeerDown {
        /// Its device.
        device: DeviceId,
        /// The reason.
        reason: DownReason,
    },
    /// A peer has another name now.
    PeerRenamed {
        /// Its device.
        device: DeviceId,
        /// Its name, made fit for display.
        name: String,
    },
    /// Exactly these devices hold the key that seals our speech to a target. [PROTO-6.4]
    RosterChanged {
        /// The target.
        target: Target,
        /// The key's generation.
        generation: u16,
        /// The key's step.
        step: u8,
        /// The holders in ascending order, without this device.
        devices: Vec<DeviceId>,
    },
    /// Seal speech to the target with this key from now on. Each key comes once.
    OwnKey {
        /// The target.
        target: TargetId,
        /// The key.
        secret: KeySecret,
    },
    /// Only these devices hold the key in an epoch that seals our speech to a target. [PROTO-11.6]
    /// [PROTO-11.12]
    EpochRoster {
        /// The target.
        target: Target,
        /// The epoch's number.
        number: u64,
        /// The holders in ascending order, without this device.
        devices: Vec<DeviceId>,
        /// Holders that have not confirmed the epoch in time. They may not hear us.
        unconfirmed: Vec<DeviceId>,
    },
    /// Seal speech to the target with our key in this epoch from now on. Each key comes once.
    OwnEpoch {
        /// The target.
        target: TargetId,
        /// The epoch's secret.
        secret: EpochSecret,
        /// Generation of our key in it.
        generation: u8,
    },
    /// Seal nothing for the target until there is another key.
    NoKey(TargetId),
    /// Speech of these devices to the channel opens with these epochs and no others, and reaches us
    /// by `hearing`. It replaces the channel's previous event of this kind.
    Epochs {
        /// The channel.
        channel: ChannelId,
        /// The means by which we hear it.
        hearing: Hearing,
        /// The secrets of the epochs, at most four.
        secrets: Vec<EpochSecret>,
        /// The devices that may speak there, in ascending order.
        talkers: Vec<DeviceId>,
    },
    /// Send each frame that is sealed for the target as the plan says.
    Listeners {
        /// The target.
        target: TargetId,
        /// The listeners, and the relays in between.
        plan: Plan,
    },
    /// The slots of devices at a relay, as far as we want to reach them.
    Slots {
        /// The relay.
        relay: DeviceId,
        /// All these slots; `None` if the relay is no longer used.
        slots: Option<Vec<(u16, DeviceId)>>,
    },
    /// Do this for a peer, as a relay.
    Serve(Service),
    /// Speech to this target is no longer permitted.
    TargetGone(TargetId),
    /// Speech of `device` to the target opens with this key, and reaches us by `hearing`. Each key
    /// is announced once.
    TalkerKey {
        /// The talker.
        device: DeviceId,
        /// The target that it talks to.
        target: TargetId,
        /// The means by which we hear it, if any. A later event replaces them.
        hearing: Hearing,
        /// The talker's key.
        secret: KeySecret,
    },
    /// Speech of `device` to the target opens with this key as well, and reaches us by `hearing`.
    /// [PROTO-11.13]
    TalkerEpochKey {
        /// The talker.
        device: DeviceId,
        /// The target that it talks to.
        target: TargetId,
        /// The means by which we hear it. A later event replaces them.
        hearing: Hearing,
        /// The talker's key in an epoch that we do not hold.
        key: EpochKey,
    },
    /// Speech of `device` to the target now reaches us by other means, or not at all.
    TalkerHeard {
        /// The talker.
        device: DeviceId,
        /// The target that it talks to.
        target: TargetId,
        /// The means by which we hear it, if any.
        hearing: Hearing,
    },
    /// Forget the key of `device` to the target.
    TalkerKeyGone {
        /// The talker.
        device: DeviceId,
        /// The target that it talks to.
        target: TargetId,
    },
    /// The talker `device` has signed that exactly these devices hold its key.
    TalkerRoster {
        /// The talker.
        device: DeviceId,
        /// The holders in ascending order, without the talker.
        devices: Vec<DeviceId>,
        /// The holders that this device does not know as members.
        unknown: Vec<DeviceId>,
    },
    /// Stop hearing `talker` by this relay for a while. Nobody has proven what it brings, although
    /// the link with the talker is up.
    LeaveRelay {
        /// The relay, a member's device.
        relay: DeviceId,
        /// The talker.
        talker: DeviceId,
    },
    /// Nothing of `device` will open any more.
    TalkerGone {
        /// The talker.
        device: DeviceId,
    },
    /// A member that is allowed to has moved us: hear `to` and talk to it, instead of `from` or in
    /// addition.
    Moved {
        /// The device that has moved us.
        by: DeviceId,
        /// The channel to leave, if any.
        from: Option<ChannelId>,
        /// The channel to hear, which we may hear.
        to: ChannelId,
    },
    /// What somebody listens to has changed, here or elsewhere.
    NetsChanged,
    /// The result of [`super::Squad::availability_of`] for a device has changed. [PROTO-5.12]
    AvailabilityChanged {
        /// The device.
        device: DeviceId,
    },
    /// The charter in force has changed. Its effects on our own nets and targets were reported
    /// before.
    CharterChanged,
    /// The keys of hidden names have changed and should be written to disk.
    NamesChanged,
    /// Call [`super::Squad::handle_checked`] when this nonce arrives at a listening socket, and for
    /// no earlier nonce any more.
    AwaitCheck(Option<CheckNonce>),
    /// The result of [`super::Squad::checked`] has changed.
    Checked,
    /// `device` no longer belongs: close its link.
    Evicted {
        /// The device.
        device: DeviceId,
    },
    /// This device no longer belongs to the organisation.
    Removed,
    /// The directory has changed and should be written to disk.
    RecordsChanged,
}

/// Something that a relay does for linked devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Give the device a slot, and report it by [`super::Squad::handle_attached`].
    Attach {
        /// The device.
        device: DeviceId,
        /// The member whose device it is; `None` for another relay.
        member: Option<MemberId>,
    },
    /// The device is gone: end everything that is done for it.
    Detach(DeviceId),
    /// Set what the device listens to.
    Listening {
        /// The device.
        device: DeviceId,
        /// All its channels.
        channels: Vec<ChannelId>,
    },
    /// Forward what the device says to a target to the listeners that may hear it.
    Route {
        /// The device.
        device: DeviceId,
        /// The target that it talks to.
        target: Target,
        /// If `Some`, only to these listeners; if empty, the route ends.
        only: Option<Vec<DeviceId>>,
    },
    /// Stop forwarding for everybody.
    Stop,
}

/// Reasons why a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownReason {
    /// The peer left of its own accord. [PROTO-2.9]
    Left,
    /// Nothing arrived any more.
    Unreachable,
    /// The peer refused us, or we refused it.
    Refused,
    /// The peer has restarted. [PROTO-2.5]
    Restarted,
    /// The peer broke the protocol, or says that we did.
    Breach,
}

/// The result for a control message that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was used, or was not needed any more.
    Done,
    /// A worker must look at it. [`super::Squad::poll_verdict`] returns the result under this
    /// number.
    Later(u64),
}

/// Reasons why a control message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is not a message of this protocol.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// It is not signed by the device that it names.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is from a device without a link.
    #[error("message of a peer without a link")]
    NotLinked,
    /// It is from a relay, but only members may send it.
    #[error("message of a relay that only members send")]
    NotMember,
    /// A key that is not the peer's own. [PROTO-6.8]
    #[error("key of another sender than the peer")]
    OtherSender,
    /// A key that was not meant for us.
    #[error("key whose list of recipients does not name this device")]
    NotRecipient,
    /// A key whose lists are not in order, so that one list could have two forms.
    #[error("key whose lists are not in order")]
    Unordered,
    /// A key that no key id can name.
    #[error("key that no key id can name")]
    Unnameable,
    /// It travels only over the link that ends at its recipient, or belongs to another topic.
    /// [PROTO-5.2] [PROTO-6.4]
    #[error("not what is gossiped there")]
    ByGossip,
    /// A request to a relay, which this device is not.
    #[error("this device is no relay")]
    NotRelaying,
    /// One target more than a relay forwards for one peer, or a route that a later message has
    /// overtaken, or more such messages than a peer may send.
    #[error(
        "a target too many to forward, a route that a later one has overtaken, or too many at once"
    )]
    Route,
    /// A request to send something to another host than the peer's, or to no host.
    #[error("a check of an address at which the peer is not")]
    NotThere,
    /// The peer, or all peers together, request more checks than this device makes.
    #[error("more checks than are made now")]
    Busy,
    /// The peer, or the author of what it passes on, has this device do more than it may.
    /// [PROTO-5.11]
    #[error("more than a peer may have this device do")]
    OverBudget,
    /// More requests to a relay for devices than a peer may make.
    #[error("more than a peer may ask of a relay")]
    TooMuch,
    /// A report on who is on a channel that is not from a relay, or an epoch of a device that may
    /// not deal it.
    #[error("not of one who may say so of a channel")]
    NotSteward,
    /// An epoch whose holders are given as a change to others that are not known here. The sender
    /// must name all of them.
    #[error("an epoch whose holders build upon others that are not known")]
    UnknownHolders,
    /// A seal that does not open, or one for which our confirmation would not be recognised.
    #[error("a seal that does not open")]
    BadSeal,
    /// A confirmation that is wrong, or is of an epoch that is not known here.
    #[error("no confirmation of an epoch that is known here")]
    Unconfirmed,
    /// An epoch whose number is too high to be the next. [PROTO-11.11]
    #[error("an epoch whose number leaves too many out")]
    FarEpoch,
    /// The key of a name that this device does not know, or not yet.
    #[error("the key of no name that is known here")]
    NoSuchName,
    /// A message that somebody else has passed on, and that is too old or is from a device that is
    /// not known here.
    #[error("too old, or of nobody who is known here")]
    Stale,
    /// A move for which there is no right.
    #[error("move: {0}")]
    Move(MoveError),
    /// A piece of the charter that is not valid.
    #[error("piece of the charter: {0}")]
    Piece(PieceError),
    /// A record that is not a member's.
    #[error(transparent)]
    Record(#[from] DirectoryError),
}

/// Something to be written to disk before it is acted on.
#[derive(Clone, Debug)]
pub enum Persist {
    /// A generation of the key for a target. [PROTO-6.3]
    Generation(TargetId, u16),
    /// The charter, and the number under which to report that it is there. [CHARTER-8.1]
    Charter(u64, Arc<Charter>),
}
