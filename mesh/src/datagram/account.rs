use hark_keys::DeviceId;

use super::{DropReason, KIND_ACCOUNT, Reader};

/// A listener's account to a talker of how a relay has brought the talker's voice since the last
/// account. It is sent on their own link. [PROTO-10.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The relay that the account is about.
    pub relay: DeviceId,
    /// Target of the newest voice datagram that the account covers.
    pub target_tag: [u8; 4],
    /// Number of that datagram on the way to the relay.
    pub highest_sequence: u16,
    /// How many datagrams arrived.
    pub received: u16,
    /// How many did not arrive.
    pub lost: u16,
    /// How many were not as the talker sent them: changed, made by somebody else, or sent before.
    pub spoilt: u16,
}

impl Account {
    /// Parses a datagram of kind 13.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_ACCOUNT, bytes)?;
        let relay = reader.device()?;
        let target_tag = reader.take()?;
        let mut number = || reader.take().map(u16::from_be_bytes);
        let (highest_sequence, received) = (number()?, number()?);
        let (lost, spoilt) = (number()?, number()?);
        reader.end()?;
        Ok(Self { relay, target_tag, highest_sequence, received, lost, spoilt })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_ACCOUNT);
        out.extend_from_slice(self.relay.as_bytes());
        out.extend_from_slice(&self.target_tag);
        for number in [self.highest_sequence, self.received, self.lost, self.spoilt] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}
