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
pub enum Transmit {
    /// A request on a stream of the link to `to`. What became of it is told by
    /// [`super::Squad::handle_delivered`] or [`super::Squad::handle_failed`].
    Message {
        /// The peer.
        to: DeviceId,
        /// Names the message in what became of it.
        id: u64,
        /// May hold a key: wiped when dropped.
        bytes: Zeroizing<Vec<u8>>,
    },
    /// A message for the organisation, on the [`Topic`](crate::message::Topic) that it is of.
    Gossip(Vec<u8>),
    /// A datagram on the link to `to`.
    Datagram {
        /// The peer.
        to: DeviceId,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// A packet of its own, from a port that nothing else was sent from. [PROTO-5.9]
    Check {
        /// Where to.
        to: SocketAddr,
        /// What it brings.
        nonce: CheckNonce,
    },
}

impl fmt::Debug for Transmit {
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
pub enum Event {
    /// A peer is there, or has restarted.
    PeerUp {
        /// Its device.
        device: DeviceId,
        /// Its name, fit to be shown.
        name: String,
        /// Where it was dialled, if this side did.
        address: Option<SocketAddr>,
    },
    /// An infrastructure relay is linked, or has restarted.
    RelayUp {
        /// Its device.
        device: DeviceId,
        /// What it calls itself, fit to be shown.
        name: String,
        /// Where it was dialled, if this side did.
        address: Option<SocketAddr>,
    },
    /// An infrastructure relay is linked no more.
    RelayDown {
        /// Its device.
        device: DeviceId,
        /// Why.
        reason: DownReason,
    },
    /// A peer is silent. Its link still stands. [PROTO-2.7]
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
        /// Why.
        reason: DownReason,
    },
    /// A peer is called something else now.
    PeerRenamed {
        /// Its device.
        device: DeviceId,
        /// Its name, fit to be shown.
        name: String,
    },
    /// Exactly these hold the key that our speech to a target is sealed with. [PROTO-6.4]
    RosterChanged {
        /// Of this target.
        target: Target,
        /// The key's generation.
        generation: u16,
        /// The key's step.
        step: u8,
        /// In ascending order; not this device itself.
        devices: Vec<DeviceId>,
    },
    /// Seal what goes to the target with this key from now on. Each comes once.
    OwnKey {
        /// Which target.
        target: TargetId,
        /// The key.
        secret: KeySecret,
    },
    /// Nobody but these holds the key that our speech to a target is sealed with in an epoch.
    /// [PROTO-11.6] [PROTO-11.12]
    EpochRoster {
        /// Of this target.
        target: Target,
        /// The epoch's number.
        number: u64,
        /// In ascending order; not this device itself.
        devices: Vec<DeviceId>,
        /// Those of them who have not shown in time that they hold it: they may not hear us.
        unconfirmed: Vec<DeviceId>,
    },
    /// Seal what goes to the target with our key in this epoch from now on. Each comes once.
    OwnEpoch {
        /// Which target.
        target: TargetId,
        /// The epoch.
        secret: EpochSecret,
        /// Which of our keys in it.
        generation: u8,
    },
    /// Seal nothing for the target until there is another key.
    NoKey(TargetId),
    /// What these devices say to the channel opens with these epochs and no others, and reaches us
    /// so. It replaces the last such event of the channel.
    Epochs {
        /// Which channel.
        channel: ChannelId,
        /// Through what we hear it.
        hearing: Hearing,
        /// At most four.
        secrets: Vec<EpochSecret>,
        /// Who may speak there, in ascending order.
        talkers: Vec<DeviceId>,
    },
    /// Send each frame sealed for the target so.
    Listeners {
        /// Which target.
        target: TargetId,
        /// To whom, and by which relays.
        plan: Plan,
    },
    /// Those with a slot at a relay, of those whom we would reach.
    Slots {
        /// Which relay.
        relay: DeviceId,
        /// All of them; none at all when it is used no more.
        slots: Option<Vec<(u16, DeviceId)>>,
    },
    /// As a relay, do this for somebody.
    Serve(Service),
    /// Nothing may be said to this target any more.
    TargetGone(TargetId),
    /// What `device` says to the target opens with this, and reaches us so. Each key is told once.
    TalkerKey {
        /// The talker.
        device: DeviceId,
        /// What it talks to.
        target: TargetId,
        /// Through what we hear it, if through anything; a later event replaces it.
        hearing: Hearing,
        /// Its key.
        secret: KeySecret,
    },
    /// What `device` says to the target opens with this, too, and reaches us so. [PROTO-11.13]
    TalkerEpochKey {
        /// The talker.
        device: DeviceId,
        /// What it talks to.
        target: TargetId,
        /// Through what we hear it; a later event replaces it.
        hearing: Hearing,
        /// Its key in an epoch that we do not hold.
        key: EpochKey,
    },
    /// What `device` says to the target reaches us otherwise from now on, or not at all.
    TalkerHeard {
        /// The talker.
        device: DeviceId,
        /// What it talks to.
        target: TargetId,
        /// Through what we hear it, if through anything.
        hearing: Hearing,
    },
    /// The key of `device` to the target is to be forgotten.
    TalkerKeyGone {
        /// The talker.
        device: DeviceId,
        /// What it talks to.
        target: TargetId,
    },
    /// The talker `device` has signed that exactly these hold its key.
    TalkerRoster {
        /// The talker.
        device: DeviceId,
        /// In ascending order; not the talker itself.
        devices: Vec<DeviceId>,
        /// Those of them of whom this device does not know that they belong.
        unknown: Vec<DeviceId>,
    },
    /// By this relay `talker` is not to be heard for a while: nobody has proven what it brings,
    /// though the link with the talker lives.
    LeaveRelay {
        /// The relay, a member.
        relay: DeviceId,
        /// The talker.
        talker: DeviceId,
    },
    /// Nothing of `device` will open any more.
    TalkerGone {
        /// The talker.
        device: DeviceId,
    },
    /// A member who may has moved us: hear `to` and talk to it, instead of `from`, or as well.
    Moved {
        /// By which device.
        by: DeviceId,
        /// What to leave; none to leave none.
        from: Option<ChannelId>,
        /// What to hear, which we may.
        to: ChannelId,
    },
    /// Who listens to what has changed, here or elsewhere.
    NetsChanged,
    /// What [`super::Squad::availability_of`] says of a device is something else now. [PROTO-5.12]
    AvailabilityChanged {
        /// Which device.
        device: DeviceId,
    },
    /// The charter in force is another one; what it has done to our own nets and targets was told
    /// before.
    CharterChanged,
    /// The keys of hidden names are worth writing to disk.
    NamesChanged,
    /// Tell [`super::Squad::handle_checked`] when this comes to a socket that listens, and of no
    /// other any more.
    AwaitCheck(Option<CheckNonce>),
    /// What [`super::Squad::checked`] says is something else now.
    Checked,
    /// `device` does not belong any more: close its link.
    Evicted {
        /// The device.
        device: DeviceId,
    },
    /// This device does not belong any more.
    Removed,
    /// The directory is worth writing to disk.
    RecordsChanged,
}

/// What a relay does for those who are linked to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Give the device a slot, told by [`super::Squad::handle_attached`].
    Attach {
        /// Which device.
        device: DeviceId,
        /// Whose it is; none of another relay.
        member: Option<MemberId>,
    },
    /// The device is gone, with all that was done for it.
    Detach(DeviceId),
    /// What the device listens to.
    Listening {
        /// Which device.
        device: DeviceId,
        /// All of it.
        channels: Vec<ChannelId>,
    },
    /// Forward what the device says to a target to those who may hear it.
    Route {
        /// Which device.
        device: DeviceId,
        /// What it talks to.
        target: Target,
        /// To these of them alone, if it names any: to none any more where it is empty.
        only: Option<Vec<DeviceId>>,
    },
    /// Forward for nobody any more.
    Stop,
}

/// Why a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownReason {
    /// The peer left of its own will. [PROTO-2.9]
    Left,
    /// Nothing came any more.
    Unreachable,
    /// The peer does not want us, or we do not want it.
    Refused,
    /// The peer has started anew. [PROTO-2.5]
    Restarted,
    /// The peer broke the protocol, or says that we did.
    Breach,
}

/// What was done with a control message that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was used, or was not needed any more.
    Done,
    /// A worker is to look at it: [`super::Squad::poll_verdict`] tells what became of it, under
    /// this number.
    Later(u64),
}

/// Why a control message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// No message of this protocol.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// Not signed by whom it says.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// From somebody without a link.
    #[error("message of a peer without a link")]
    NotLinked,
    /// From a relay, what only members send.
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
    /// A key that cannot be.
    #[error("key that no key id can name")]
    Unnameable,
    /// What travels only over the link that ends at its recipient, or is of another topic.
    /// [PROTO-5.2] [PROTO-6.4]
    #[error("not what is gossiped there")]
    ByGossip,
    /// What is asked of a relay, which this device is not.
    #[error("this device is no relay")]
    NotRelaying,
    /// One target more than a relay forwards for one peer, something that a later message has
    /// overtaken, or more of such than a peer may say.
    #[error(
        "a target too many to forward, a route that a later one has overtaken, or too many at once"
    )]
    Route,
    /// What is to be sent to another host than the peer's, or to none.
    #[error("a check of an address at which the peer is not")]
    NotThere,
    /// The peer, or all of them, ask for more checks than this device makes.
    #[error("more checks than are made now")]
    Busy,
    /// The peer, or the author of what it passes on, has this device do more than it may.
    /// [PROTO-5.11]
    #[error("more than a peer may have this device do")]
    OverBudget,
    /// More of whom it would reach than a peer may say.
    #[error("more than a peer may ask of a relay")]
    TooMuch,
    /// Who is on a channel, told by no relay; or an epoch of one who may not deal it.
    #[error("not of one who may say so of a channel")]
    NotSteward,
    /// An epoch for those who hold another one that is not known here: all of them are to be named.
    #[error("an epoch whose holders build upon others that are not known")]
    UnknownHolders,
    /// A seal that does not open, or to which our confirmation would not be known.
    #[error("a seal that does not open")]
    BadSeal,
    /// What shows that somebody holds an epoch, and does not, or of an epoch that is not known
    /// here.
    #[error("no confirmation of an epoch that is known here")]
    Unconfirmed,
    /// An epoch whose number is too high to be the next. [PROTO-11.11]
    #[error("an epoch whose number leaves too many out")]
    FarEpoch,
    /// The key of a name that this device does not know, or not yet.
    #[error("the key of no name that is known here")]
    NoSuchName,
    /// What somebody else has passed on and is too old, or is of a device that is not known here.
    #[error("too old, or of nobody who is known here")]
    Stale,
    /// A move that nobody has the right to.
    #[error("move: {0}")]
    Move(MoveError),
    /// A piece of the charter that is none.
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
    /// The charter, and the number to tell when it is there. [CHARTER-8.1]
    Charter(u64, Arc<Charter>),
}
