//! The sealed content of a Hello. [PROTO-3.3]

use std::net::SocketAddr;

use hark_charter::{
    CertificateChain, ChainError, Charter, INTRODUCTION_MAX, Operation, Recovery, RootDocument,
    clean_name,
};
use hark_keys::{
    ChannelId, Cosigned, DeviceId, MemberId, ObjectHash, Redemption, Signature, encode,
};
use serde::{Deserialize, Serialize};

use super::{PeerHello, Presence};
use crate::{List, directory::ADDRESSES_MAX, message::LISTENING_MAX};

/// The content of the dialler's greeting.
#[derive(Serialize, Deserialize)]
pub(super) enum GreetingBody {
    /// Comes with the root documents if the listener is a relay.
    Member(Introduction, List<Cosigned<RootDocument>, ROOTS_MAX>),
    Redeem(Box<Newcomer>),
    Relay(RelayIntroduction),
}

/// How a listener introduces itself.
#[derive(Serialize, Deserialize)]
pub(super) enum Introduced {
    Member(Introduction),
    Relay(RelayIntroduction),
}

/// How a relay introduces itself. It has no certificate: the charter names its device.
#[derive(Serialize, Deserialize)]
pub(super) struct RelayIntroduction {
    pub(super) incarnation: u64,
    pub(super) name: String,
    pub(super) addresses: List<SocketAddr, ADDRESSES_MAX>,
    pub(super) digest: ObjectHash,
}

impl RelayIntroduction {
    pub(super) fn new(charter: &Charter, presence: &Presence) -> Self {
        Self {
            incarnation: presence.incarnation,
            name: clean_name(&presence.name),
            addresses: List::truncated(presence.addresses.iter().copied()),
            digest: charter.digest(),
        }
    }

    pub(super) fn of(self, device: DeviceId) -> PeerHello {
        PeerHello {
            device,
            member: None,
            chain: CertificateChain::default(),
            added: Vec::new(),
            name: clean_name(&self.name),
            incarnation: self.incarnation,
            addresses: self.addresses.into_vec(),
            digest: self.digest,
            listening: Vec::new(),
        }
    }
}

/// How a newcomer introduces itself, which is not a member yet.
#[derive(Serialize, Deserialize)]
pub(super) struct Newcomer {
    pub(super) redemption: Redemption,
    pub(super) recovery: Option<Recovery>,
    /// From a device that is to become a further device of a member: its consent. [CHARTER-3.3]
    pub(super) consent: Option<Signature>,
    pub(super) incarnation: u64,
    pub(super) name: String,
    pub(super) addresses: List<SocketAddr, ADDRESSES_MAX>,
}

/// The content of the listener's answer.
#[derive(Serialize, Deserialize)]
pub(super) struct AnswerBody {
    pub(super) listener: Introduced,
    pub(super) admission: Option<Admission>,
}

/// The founding root document, and as many later ones as fit. The others come by replication.
pub(super) fn roots_within(
    charter: &Charter,
    room: usize,
) -> List<Cosigned<RootDocument>, ROOTS_MAX> {
    let mut left = room;
    let fits = |root: &&Cosigned<RootDocument>| {
        let length = encode(*root).len();
        let fits = root.unverified().version == 1 || length <= left;
        left = if fits { left.saturating_sub(length) } else { 0 };
        fits
    };
    List::truncated(charter.roots().take_while(fits).cloned())
}

/// What an admitted newcomer gets.
#[derive(Serialize, Deserialize)]
pub(super) struct Admission {
    pub(super) chain: CertificateChain,
    /// The operations that made it a further device of a member.
    pub(super) added: List<Cosigned<Operation>, INTRODUCTION_MAX>,
    /// All root documents, the founding one first.
    pub(super) roots: List<Cosigned<RootDocument>, ROOTS_MAX>,
}

/// How a member introduces itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Introduction {
    pub(super) chain: CertificateChain,
    /// The operations that added the device, as far as they fit. [CHARTER-3.6]
    pub(super) added: List<Cosigned<Operation>, INTRODUCTION_MAX>,
    pub(super) incarnation: u64,
    pub(super) name: String,
    pub(super) addresses: List<SocketAddr, ADDRESSES_MAX>,
    pub(super) digest: ObjectHash,
    /// The newest operations of the charter that it knows. [PROTO-3.8]
    pub(super) heads: List<ObjectHash, HEADS_MAX>,
    pub(super) listening: List<ChannelId, LISTENING_MAX>,
}

impl Introduction {
    pub(super) fn new(
        charter: &Charter,
        device: DeviceId,
        chain: &CertificateChain,
        presence: &Presence,
    ) -> Self {
        let member = chain.leaf().map(|leaf| leaf.unverified().member());
        let added = member.map(|member| charter.introduction_of(member, device));
        let added = added.filter(|added| encode(added).len() <= ADDED_MAX_BYTES);
        Self {
            chain: chain.clone(),
            added: List::truncated(added.unwrap_or_default()),
            incarnation: presence.incarnation,
            name: clean_name(&presence.name),
            addresses: List::truncated(presence.addresses.iter().copied()),
            digest: charter.digest(),
            heads: List::truncated(charter.heads()),
            listening: List::truncated(presence.listening.iter().copied()),
        }
    }

    /// [PROTO-3.4]
    pub(super) fn verified(
        self,
        charter: &Charter,
        device: DeviceId,
    ) -> Result<PeerHello, ChainError> {
        let member = charter.verify_introduced(&self.chain, device, &self.added)?;
        Ok(self.of(member, device))
    }

    /// Verifies what root documents alone can show. `trusted` is as for [`Charter::rooted_chain`].
    pub(super) fn rooted(
        self,
        charter: &Charter,
        device: DeviceId,
        trusted: bool,
    ) -> Result<PeerHello, ChainError> {
        let member = charter.rooted_chain(&self.chain, device, &self.added, trusted)?;
        Ok(self.of(member, device))
    }

    pub(super) fn of(self, member: MemberId, device: DeviceId) -> PeerHello {
        PeerHello {
            device,
            member: Some(member),
            chain: self.chain,
            added: self.added.into_vec(),
            name: clean_name(&self.name),
            incarnation: self.incarnation,
            addresses: self.addresses.into_vec(),
            digest: self.digest,
            listening: self.listening.into_vec(),
        }
    }
}

/// Most root documents that a newcomer gets at once. It learns of further ones later.
pub(super) const ROOTS_MAX: usize = 16;

/// Most heads of the charter that are sent. If a proof builds upon others, those are sent again.
pub(super) const HEADS_MAX: usize = 16;

/// Bytes of the operations that added a device. Longer ones are not sent; others learn them from
/// devices that were there.
pub(super) const ADDED_MAX_BYTES: usize = 4 * 1024;
