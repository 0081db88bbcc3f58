use std::{fmt, net::SocketAddr};

use hark_keys::{ChannelId, DecodeError, DeviceId, KeySecret, SignatureError};
use zeroize::Zeroizing;

use crate::DirectoryError;

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
    /// A message for the organisation's gossip topic.
    Gossip(Vec<u8>),
    /// A datagram on the link to `to`.
    Datagram {
        /// The peer.
        to: DeviceId,
        /// All of it.
        bytes: Vec<u8>,
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
    /// Exactly these hold the key that our speech is sealed with. [PROTO-6.4]
    RosterChanged {
        /// In this channel.
        channel: ChannelId,
        /// The key's generation.
        generation: u16,
        /// The key's step.
        step: u8,
        /// In ascending order; not this device itself.
        devices: Vec<DeviceId>,
    },
    /// Seal with this key from now on. Each comes once.
    OwnKey(KeySecret),
    /// The speech of `device` opens with this.
    TalkerKey {
        /// The talker.
        device: DeviceId,
        /// Its key.
        secret: KeySecret,
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
    /// Nothing of `device` will open any more.
    TalkerGone {
        /// The talker.
        device: DeviceId,
    },
    /// Send each sealed frame to these.
    Listeners(Vec<DeviceId>),
    /// The directory is worth writing to disk.
    RecordsChanged,
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

/// Why a control message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// A key that is not the peer's own. [PROTO-6.8]
    #[error("key of another sender than the peer")]
    OtherSender,
    /// A key for a channel that we are not in.
    #[error("key for an unknown channel")]
    OtherChannel,
    /// A key that was not meant for us.
    #[error("key whose list of recipients does not name this device")]
    NotRecipient,
    /// A key whose list is not in order, so that one list could have two forms.
    #[error("key whose list of recipients is not in order")]
    Unordered,
    /// A key that cannot be.
    #[error("key that no key id can name")]
    Unnameable,
    /// A key on a way that leads past others. [PROTO-6.4]
    #[error("key by gossip")]
    KeyByGossip,
    /// A record that is not a member's.
    #[error(transparent)]
    Record(#[from] DirectoryError),
}
