use hark_keys::DeviceId;

use super::{DropReason, KIND_ACCOUNT, Reader};

/// What a listener tells a talker, on their own link, of the talker's voice as a relay has brought
/// it since it told so last. [PROTO-10.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The relay.
    pub relay: DeviceId,
    /// Target of the newest voice datagram that it counts.
    pub target_tag: [u8; 4],
    /// Number of that one on the way to the relay.
    pub highest_sequence: u16,
    /// How many came.
    pub received: u16,
    /// How many did not.
    pub lost: u16,
    /// How many were not as the talker has sent them: changed, another's, or sent before.
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
