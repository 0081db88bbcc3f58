//! Who sends to whom.
//!
//! Every talker sends a copy to each listener itself. This is the place where relays come in.

use hark_keys::DeviceId;

/// The devices that a talker sends its frames to: those of `holders`, who have its key, that are
/// `reachable` now.
pub fn listeners(
    holders: impl IntoIterator<Item = DeviceId>,
    reachable: impl Fn(DeviceId) -> bool,
) -> Vec<DeviceId> {
    holders.into_iter().filter(|device| reachable(*device)).collect()
}
