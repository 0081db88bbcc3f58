use hark_keys::{DeviceId, Signable};
use serde::{Deserialize, Serialize};

/// Whether the person at a device hears and can answer, as that device says. [PROTO-5.12]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// The person has closed the microphone.
    pub muted: bool,
    /// The person has silenced the loudspeaker.
    pub deafened: bool,
    /// The person is away from the device.
    pub away: bool,
}

/// What a device says of its person's availability, until it says something else or the lease ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailabilityMessage {
    /// Whose device.
    pub device: DeviceId,
    /// Milliseconds since 1970 by the device's clock, and more than in any message of it before.
    /// The higher replaces the lower.
    pub number: u64,
    /// What it says.
    pub availability: Availability,
}

impl Signable for AvailabilityMessage {
    const KIND: &'static str = "availability";

    fn signer(&self) -> DeviceId {
        self.device
    }
}
