use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{ChannelId, DeviceId};

/// The channels that attached devices hear, limited to a number of channels. Once that many are
/// carried, further ones are left out until there is room.
#[derive(Default)]
pub(super) struct Channels {
    /// The largest number of channels; 0 is no limit.
    max: usize,
    wanted: BTreeMap<DeviceId, BTreeSet<ChannelId>>,
    /// The channels that are carried, with the number of devices that hear each.
    carried: BTreeMap<ChannelId, usize>,
    /// The channels for which there is no room.
    left_out: BTreeSet<ChannelId>,
}

impl Channels {
    /// Sets the channels that a device hears; none when the device is gone. Returns the carried
    /// channels of this device, and of each device for which channels now have room.
    pub(super) fn set(
        &mut self,
        device: DeviceId,
        channels: BTreeSet<ChannelId>,
    ) -> BTreeMap<DeviceId, Vec<ChannelId>> {
        let before = if channels.is_empty() {
            self.wanted.remove(&device)
        } else {
            self.wanted.insert(device, channels.clone())
        };
        for channel in before.iter().flatten() {
            if let Some(listeners) = self.carried.get_mut(channel) {
                *listeners -= 1;
                if *listeners == 0 {
                    self.carried.remove(channel);
                }
            }
        }
        for channel in &channels {
            match self.carried.get_mut(channel) {
                Some(listeners) => *listeners += 1,
                None => {
                    self.left_out.insert(*channel);
                }
            }
        }
        let mut changed = self.fill();
        changed.insert(device, self.heard(device));
        changed
    }

    /// Sets how many channels are carried from now on. Returns the carried channels that each
    /// device hears then.
    pub(super) fn set_max(&mut self, max: usize) -> BTreeMap<DeviceId, Vec<ChannelId>> {
        self.max = max;
        while self.max > 0 && self.carried.len() > self.max {
            let last = self.carried.pop_last().expect("there are more than none");
            self.left_out.insert(last.0);
        }
        self.fill();
        self.wanted.keys().map(|device| (*device, self.heard(*device))).collect()
    }

    /// The carried channels that a device hears.
    pub(super) fn heard(&self, device: DeviceId) -> Vec<ChannelId> {
        let wanted = self.wanted.get(&device).into_iter().flatten();
        wanted.filter(|channel| self.carried.contains_key(channel)).copied().collect()
    }

    /// The carried channels, with the number of devices that hear each.
    pub(super) fn carried(&self) -> &BTreeMap<ChannelId, usize> {
        &self.carried
    }

    /// Whether there is no room for a channel that a device wants to hear.
    pub(super) fn are_full(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Carries channels that were left out, as far as there is room. Returns the carried channels
    /// of each device that hears one of them.
    fn fill(&mut self) -> BTreeMap<DeviceId, Vec<ChannelId>> {
        let mut concerned = BTreeSet::new();
        for channel in std::mem::take(&mut self.left_out) {
            let wants = |it: &(&DeviceId, &BTreeSet<ChannelId>)| it.1.contains(&channel);
            let listeners: Vec<_> = self.wanted.iter().filter(wants).map(|it| *it.0).collect();
            if listeners.is_empty() {
                continue;
            }
            if self.max == 0 || self.carried.len() < self.max {
                self.carried.insert(channel, listeners.len());
                concerned.extend(listeners);
            } else {
                self.left_out.insert(channel);
            }
        }
        concerned.into_iter().map(|device| (device, self.heard(device))).collect()
    }
}

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;
    use proptest::prelude::*;

    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceKey::from_secret(&[number; 32]).id()
    }

    fn channels(numbers: &[u8]) -> BTreeSet<ChannelId> {
        numbers.iter().map(|number| ChannelId::from_bytes([*number; 16])).collect()
    }

    fn list(numbers: &[u8]) -> Vec<ChannelId> {
        channels(numbers).into_iter().collect()
    }

    #[test]
    fn channels_that_were_heard_first_are_carried() {
        let mut all = Channels::default();
        all.set_max(2);
        assert_eq!(all.set(device(1), channels(&[3]))[&device(1)], list(&[3]));
        assert_eq!(all.set(device(2), channels(&[1, 3]))[&device(2)], list(&[1, 3]));
        assert!(!all.are_full());
        assert_eq!(all.set(device(3), channels(&[2, 3]))[&device(3)], list(&[3]));
        assert!(all.are_full());
        // The last listener of the first channel leaves, which makes room for a channel that was
        // left out.
        let changed = all.set(device(2), channels(&[3]));
        assert_eq!(changed[&device(3)], list(&[2, 3]));
        assert!(!all.are_full());
        assert_eq!(all.carried().values().copied().collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_new_limit_holds_at_once() {
        let mut all = Channels::default();
        all.set(device(1), channels(&[1, 2, 3]));
        assert_eq!(all.set_max(1)[&device(1)].len(), 1);
        assert!(all.are_full());
        assert_eq!(all.set_max(0)[&device(1)], list(&[1, 2, 3]));
        assert!(!all.are_full());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_who_listens(
            max in 0_usize..4,
            steps in proptest::collection::vec((1_u8..5, proptest::collection::btree_set(1_u8..7, 0..5)), 1..40),
        ) {
            let mut all = Channels::default();
            all.set_max(max);
            let mut heard = BTreeMap::new();
            for (number, wanted) in steps {
                let wanted: Vec<_> = wanted.into_iter().collect();
                heard.extend(all.set(device(number), channels(&wanted)));
                prop_assert!(max == 0 || all.carried().len() <= max);
                // What devices were last reported to hear is what is carried.
                let mut counts: BTreeMap<ChannelId, usize> = BTreeMap::new();
                for (device, told) in &heard {
                    prop_assert_eq!(told, &all.heard(*device));
                    told.iter().for_each(|channel| *counts.entry(*channel).or_default() += 1);
                }
                prop_assert_eq!(&counts, all.carried());
                let wanted: BTreeSet<_> = all.wanted.values().flatten().copied().collect();
                let room = max == 0 || wanted.len() <= max;
                prop_assert_eq!(all.carried().len(), if room { wanted.len() } else { max });
                prop_assert_eq!(all.are_full(), !room);
            }
        }
    }
}
