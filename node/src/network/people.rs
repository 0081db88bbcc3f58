//! Who is who: members of one name told apart, those who may pass for others, and those whose
//! devices the person has compared.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::content::{Capabilities, Place};
use hark_keys::{ChannelId, DeviceId, MemberId, Signed};
use hark_mesh::squad::Squad;

use super::{Input, Persisted, working::Working};
use crate::{look_alike::skeleton, request::RequestError, snapshot::Verification};

/// What each device's member is called. Members whose names look the same have `#` and the
/// beginning of their id after them.
#[derive(Debug, Default)]
pub(super) struct Labels {
    names: BTreeMap<DeviceId, String>,
    /// Another member who is called almost the same.
    twins: BTreeMap<DeviceId, String>,
}

impl Labels {
    /// Those of all whose records are known, and of `linked`, whose names may be newer.
    pub(super) fn of(
        squad: &Squad,
        linked: impl Iterator<Item = (DeviceId, MemberId, String)>,
    ) -> Self {
        let charter = squad.charter();
        let records = squad.directory().records().map(Signed::unverified);
        let mut names: BTreeMap<DeviceId, (MemberId, String)> = records
            .filter_map(|it| Some((it.device, (charter.owner(it.device)?, it.shown_name()))))
            .collect();
        names.extend(linked.map(|(device, member, name)| (device, (member, name))));
        names.retain(|device, (member, _)| !is_former(squad, *device, Some(*member)));
        Self::told_apart(&names)
    }

    fn told_apart(names: &BTreeMap<DeviceId, (MemberId, String)>) -> Self {
        let mut alike: BTreeMap<String, Vec<(MemberId, &str)>> = BTreeMap::new();
        for (member, name) in names.values() {
            alike.entry(skeleton(name)).or_default().push((*member, name));
        }
        let mut labels = Self::default();
        for (device, (member, name)) in names {
            let marked = |member: MemberId, name: &str| format!("{name}#{}", member.short());
            let others = alike.get(&skeleton(name)).into_iter().flatten();
            let twin = others.copied().find(|(other, _)| other != member);
            let label = match twin {
                Some(_) => marked(*member, name),
                None => name.clone(),
            };
            labels.names.insert(*device, label);
            labels.twins.extend(twin.map(|(other, name)| (*device, marked(other, name))));
        }
        labels
    }

    /// What the device's member is called, if its name is known.
    pub(super) fn of_device(&self, device: DeviceId) -> Option<&str> {
        self.names.get(&device).map(String::as_str)
    }

    /// Another member for whom the device's may pass.
    pub(super) fn twin_of(&self, device: DeviceId) -> Option<String> {
        self.twins.get(&device).cloned()
    }
}

/// Devices whose words this person has compared with their owners.
#[derive(Debug, Default)]
pub(super) struct Verified(BTreeMap<DeviceId, MemberId>);

impl Verified {
    /// Those that were kept.
    pub(super) fn restore(kept: BTreeMap<DeviceId, MemberId>) -> Self {
        Self(kept)
    }

    /// What is known of a device and whose it is said to be.
    pub(super) fn of(&self, device: DeviceId, member: Option<MemberId>) -> Verification {
        match member {
            Some(member) if self.0.get(&device) == Some(&member) => Verification::Verified,
            Some(member) if self.0.values().any(|known| *known == member) => {
                Verification::NewDevice
            }
            _ => Verification::Unverified,
        }
    }
}

impl Working {
    /// Remembers that a device is its owner's, or no longer; refuses one that nobody has seen.
    pub(super) fn verify(&mut self, device: &str, on: bool) -> Result<(), RequestError> {
        let (squad, store) = (&self.driver.squad, self.store.clone());
        let device: DeviceId =
            device.parse().map_err(|_| RequestError::NoDevice(device.to_owned()))?;
        let verified = &mut self.view.verified.0;
        if on {
            let owner = squad.charter().owner(device);
            let member = owner.ok_or(RequestError::NobodysDevice)?;
            if verified.len() >= VERIFIED_MAX && !verified.contains_key(&device) {
                return Err(RequestError::TooManyVerified(VERIFIED_MAX));
            }
            verified.insert(device, member);
        } else if verified.remove(&device).is_none() {
            return Err(RequestError::NotVerified);
        }
        let (verified, inputs) = (verified.clone(), self.base.input_sender.clone());
        (self.base.network.worker)(Box::new(move || {
            let kept = store.keep_verified(&verified);
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Persisted(Persisted::Verified, kept));
        }));
        Ok(())
    }
}

/// Names of the roles that a member has anywhere.
pub(super) fn roles(squad: &Squad, member: MemberId) -> Vec<String> {
    let state = squad.charter().state();
    let ids: BTreeSet<_> = state.grants(member).map(|(role, _)| role).collect();
    ids.into_iter().filter_map(|id| Some(state.role(id)?.name.clone())).collect()
}

/// Whether a member may speak on none of the channels that it listens to.
pub(super) fn is_silenced(
    squad: &Squad,
    member: MemberId,
    listening: &BTreeSet<ChannelId>,
) -> bool {
    let state = squad.charter().state();
    let may = |id: &ChannelId| state.allows(member, Capabilities::SPEAK, Place::Channel(*id));
    !listening.is_empty() && !listening.iter().any(may)
}

/// Whether a device belongs to the organisation no more: its member was removed, or has retired it.
pub(super) fn is_former(squad: &Squad, device: DeviceId, member: Option<MemberId>) -> bool {
    let charter = squad.charter();
    member.is_some_and(|member| {
        // A newcomer is here before its certificate is.
        let is_removed = charter.is_known(member) && !charter.is_member(member);
        is_removed || charter.state().is_retired(member, device)
    })
}

/// Why a device belongs no more, as the reason of `peer_down`.
pub(super) fn why_former(squad: &Squad, member: Option<MemberId>) -> &'static str {
    let charter = squad.charter();
    match member {
        Some(member) if !charter.is_member(member) => "removed",
        Some(member) if charter.devices_of(member).is_empty() => "left for good",
        _ => "device retired",
    }
}

/// Devices that can be verified; further ones are refused.
const VERIFIED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;

    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceKey::from_secret(&[number; 32]).id()
    }

    fn member(number: u8) -> MemberId {
        MemberId::from_bytes([number; 32])
    }

    #[test]
    fn two_members_of_one_name_were_two_equal_rows() {
        let names = [(1, 1, "Sable"), (2, 2, "Sable"), (3, 3, "Heron"), (4, 3, "Heron")];
        let names = names.map(|(it, of, name)| (device(it), (member(of), name.to_owned())));
        let labels = Labels::told_apart(&names.into());
        let label = |number| labels.of_device(device(number)).expect("known").to_owned();
        assert_eq!(label(1), format!("Sable#{}", member(1).short()));
        assert_eq!(label(2), format!("Sable#{}", member(2).short()));
        assert_eq!(labels.twin_of(device(1)), Some(label(2)));
        // Two machines of one member are one person.
        assert_eq!((label(3), label(4)), ("Heron".to_owned(), "Heron".to_owned()));
        assert_eq!(labels.twin_of(device(3)), None);
    }

    #[test]
    fn a_look_alike_passed_for_somebody_else() {
        let names = [(1, "Sable"), (2, "S\u{430}ble"), (3, "SABLE"), (4, "Wren")];
        let names = names.map(|(it, name)| (device(it), (member(it), name.to_owned())));
        let labels = Labels::told_apart(&names.into());
        for number in 1..=3 {
            assert!(labels.twin_of(device(number)).is_some(), "{number}");
        }
        assert_eq!(labels.twin_of(device(4)), None);
    }

    #[test]
    fn another_device_of_somebody_verified_is_told_of() {
        let verified = Verified::restore([(device(1), member(1))].into());
        assert_eq!(verified.of(device(1), Some(member(1))), Verification::Verified);
        assert_eq!(verified.of(device(2), Some(member(1))), Verification::NewDevice);
        assert_eq!(verified.of(device(3), Some(member(3))), Verification::Unverified);
        // The same device under another member is not who was verified.
        assert_eq!(verified.of(device(1), Some(member(3))), Verification::Unverified);
    }
}
