//! Which device each forwarded voice datagram comes from.

use std::collections::BTreeMap;

use hark_keys::DeviceId;
use hark_mesh::datagram::Slot;

/// The devices in the slots of the relays that we use. [PROTO-9.1]
#[derive(Default)]
pub(super) struct Slots {
    relays: BTreeMap<DeviceId, Known>,
}

/// What is known of one relay.
#[derive(Default)]
struct Known {
    /// Whether the relay is a member's node.
    is_members: bool,
    slots: BTreeMap<Slot, DeviceId>,
}

impl Slots {
    /// Stores the slots that a relay has announced; with `None` the relay is no longer used.
    pub(super) fn set(
        &mut self,
        relay: DeviceId,
        slots: Option<Vec<(u16, DeviceId)>>,
        is_members: bool,
    ) {
        let Some(slots) = slots else {
            self.relays.remove(&relay);
            return;
        };
        let known = self.relays.entry(relay).or_default();
        known.is_members = is_members;
        for (slot, device) in slots {
            put(&mut known.slots, Slot::new(slot), device);
        }
    }

    /// A relay announces which device has this slot. [PROTO-9.15]
    pub(super) fn introduce(&mut self, relay: DeviceId, slot: Slot, device: DeviceId) {
        if let Some(known) = self.relays.get_mut(&relay) {
            put(&mut known.slots, Some(slot), device);
        }
    }

    /// Whether we use this relay.
    pub(super) fn contains(&self, relay: DeviceId) -> bool {
        self.relays.contains_key(&relay)
    }

    /// Whether the relay is a member's node, which may hold keys of talkers.
    pub(super) fn is_members(&self, relay: DeviceId) -> bool {
        self.relays.get(&relay).is_some_and(|known| known.is_members)
    }

    /// The device in the slot.
    pub(super) fn device(&self, relay: DeviceId, slot: Slot) -> Option<DeviceId> {
        self.relays.get(&relay)?.slots.get(&slot).copied()
    }
}

/// If there are too many slots, the lowest is dropped. The relay introduces it again with the
/// device's next words.
fn put(known: &mut BTreeMap<Slot, DeviceId>, slot: Option<Slot>, device: DeviceId) {
    let Some(slot) = slot else { return };
    known.insert(slot, device);
    if known.len() > SLOTS_MAX {
        known.pop_first();
    }
}

/// Most slots that are remembered for one relay.
const SLOTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    #[test]
    fn slots_count_only_at_relays_that_are_used() {
        let [relay, other, ann, bob] =
            [1, 2, 3, 4].map(|n| DeviceKey::generate(&SeededRandom::new(n)).id());
        let slot = |number| Slot::new(number).unwrap();
        let mut slots = Slots::default();
        slots.introduce(relay, slot(1), ann);
        assert_eq!(slots.device(relay, slot(1)), None);
        slots.set(relay, Some(vec![(1, ann), (0, bob)]), true);
        slots.introduce(relay, slot(2), bob);
        let at = |relay, number| slots.device(relay, slot(number));
        assert_eq!([at(relay, 1), at(relay, 2), at(other, 1)], [Some(ann), Some(bob), None]);
        assert!(slots.is_members(relay) && !slots.is_members(other));
        slots.set(relay, None, true);
        assert!(!slots.contains(relay) && slots.device(relay, slot(1)).is_none());
    }
}
