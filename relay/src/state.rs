//! What operators have changed while the relay ran, in addition to its configuration file.

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{DeviceId, OrganisationId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::text::Text;

/// How much an organisation may use; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Devices that may be attached at once.
    pub members: u32,
    /// Channels that may be heard at once.
    pub channels: u32,
    /// The rate of what is sent to devices, in kbit/s.
    pub kbps: u32,
    /// Packets to devices per second.
    pub packets: u32,
}

/// A change of quotas. Quotas that are not named stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaChange {
    members: Option<u32>,
    channels: Option<u32>,
    kbps: Option<u32>,
    packets: Option<u32>,
}

impl QuotaChange {
    /// The quotas after this change.
    pub fn apply(self, to: Quotas) -> Quotas {
        Quotas {
            members: self.members.unwrap_or(to.members),
            channels: self.channels.unwrap_or(to.channels),
            kbps: self.kbps.unwrap_or(to.kbps),
            packets: self.packets.unwrap_or(to.packets),
        }
    }
}

/// Banned devices, each until a time, or without an end (`None`).
pub type Bans = BTreeMap<Text<DeviceId>, Option<UnixTime>>;

/// What applies to one organisation in addition to its table in the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantEntry {
    /// Whether it was added (`true`) or removed (`false`) over the admin API; `None` if the
    /// configuration file decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<bool>,
    /// The operator's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port that it was given, which its charter names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How much it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
    /// Whether it is draining, so that nothing new is accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The banned devices.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bans: Bans,
}

impl TenantEntry {
    /// Removes bans that have ended; returns whether there were any.
    pub fn expire_bans(&mut self, now: UnixTime) -> bool {
        let before = self.bans.len();
        self.bans.retain(|_, until| until.is_none_or(|until| until > now));
        self.bans.len() < before
    }

    /// The banned devices.
    pub fn banned(&self) -> BTreeSet<DeviceId> {
        self.bans.keys().map(|device| device.0).collect()
    }
}

/// All changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayState {
    /// The changes by organisation.
    pub organisations: BTreeMap<Text<OrganisationId>, TenantEntry>,
}

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;

    use super::*;

    #[test]
    fn quotas_that_are_not_named_stay() {
        let before = Quotas { members: 1, channels: 2, kbps: 3, packets: 4 };
        let change: QuotaChange =
            serde_json::from_str(r#"{"members": 0, "kbps": 30}"#).expect("a change");
        let after = Quotas { members: 0, channels: 2, kbps: 30, packets: 4 };
        assert_eq!(change.apply(before), after);
        for wrong in [r#"{"member": 1}"#, r#"{"kbps": -1}"#, r#"{"kbps": 5000000000}"#, "[1"] {
            assert!(serde_json::from_str::<QuotaChange>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bans_end_when_their_time_has_come() {
        let device = |number| Text(DeviceKey::from_secret(&[number; 32]).id());
        let mut entry = TenantEntry::default();
        entry.bans.insert(device(1), Some(UnixTime::from_secs(100)));
        entry.bans.insert(device(2), None);
        assert!(!entry.expire_bans(UnixTime::from_secs(99)));
        assert_eq!(entry.banned(), BTreeSet::from([device(1).0, device(2).0]));
        assert!(entry.expire_bans(UnixTime::from_secs(100)));
        assert_eq!(entry.banned(), BTreeSet::from([device(2).0]));
        assert!(!entry.expire_bans(UnixTime::from_secs(u64::MAX)));
    }

    #[test]
    fn state_is_read_as_it_was_written() {
        let device = Text(DeviceKey::from_secret(&[7; 32]).id());
        let entry = TenantEntry {
            served: Some(true),
            name: Some("Kestrel".to_owned()),
            port: Some(7_301),
            quotas: Some(Quotas { members: 9, ..Quotas::default() }),
            draining: true,
            bans: BTreeMap::from([(device, Some(UnixTime::from_secs(5)))]),
        };
        let id = OrganisationId::from_bytes([3; 32]);
        let gone = OrganisationId::from_bytes([4; 32]);
        let removed = TenantEntry { served: Some(false), ..TenantEntry::default() };
        let organisations = BTreeMap::from([(Text(id), entry), (Text(gone), removed)]);
        let state = RelayState { organisations };
        let text = serde_json::to_string(&state).expect("JSON");
        assert_eq!(serde_json::from_str::<RelayState>(&text).expect("as written"), state);
    }
}
