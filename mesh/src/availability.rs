use hark_keys::{DeviceId, Signable};
use serde::{Deserialize, Serialize};

/// Whether the person at a device hears and can answer, as the device reports. [PROTO-5.12]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// The person has closed the microphone.
    pub muted: bool,
    /// The person has silenced the loudspeaker.
    pub deafened: bool,
    /// The person is away from the device.
    pub away: bool,
}

/// A device's report on its person's availability. It counts until the next report or until the
/// lease ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailabilityMessage {
    /// The device that reports.
    pub device: DeviceId,
    /// Milliseconds since 1970 by the device's clock, always more than in its earlier messages. A
    /// higher number replaces a lower one.
    pub number: u64,
    /// The reported availability.
    pub availability: Availability,
}

impl Signable for AvailabilityMessage {
    const KIND: &'static str = "availability";

    fn signer(&self) -> DeviceId {
        self.device
    }
}
