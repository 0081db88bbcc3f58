//! Epochs as they travel: the secret that all devices on a channel share for a while. [section 11
//! of docs/protocol.md]

use std::sync::Arc;

use hark_keys::{
    ChannelId, Confirmation, DeviceId, EpochKey, EpochSeal, EpochSecret, List, ObjectHash, Prekey,
    Signable, Signed, encode,
};
use serde::{Deserialize, Serialize};

use crate::{Target, message::MESSAGE_MAX_BYTES};

/// Describes an epoch's secret and its holders, signed by the steward that dealt it. [PROTO-11.27]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHeader {
    /// The channel whose listeners the epoch is for.
    pub channel: ChannelId,
    /// The steward's device.
    pub issuer: DeviceId,
    /// Number of the epoch. Devices use a higher one rather than a lower one.
    pub number: u64,
    /// The X25519 key with which the secret is sealed.
    pub dealer: [u8; 32],
    /// BLAKE3 hash of the secret, so that all devices get the same one.
    pub commitment: [u8; 32],
    /// [`Holders::hash`] of all devices that get the secret.
    pub holders: ObjectHash,
}

impl Signable for EpochHeader {
    const KIND: &'static str = "epoch";

    fn signer(&self) -> DeviceId {
        self.issuer
    }
}

/// Whether an epoch of this number counts, if `known` is the highest known number of its channel (0
/// for none). Since the steps are limited, nobody can use up the numbers, and there is always a
/// higher one. [PROTO-11.11]
pub(crate) fn is_near(known: u64, number: u64) -> bool {
    let most = if known == 0 { FIRST_NUMBER_MAX } else { known.saturating_add(NUMBER_STEP_MAX) };
    number <= most
}

/// The number of a steward's next epoch. `known` is the highest number that it knows for the
/// channel, and `told` the highest that a relay has told it. [PROTO-11.11]
pub(crate) fn next_number(known: u64, told: u64) -> u64 {
    let most = if known == 0 { FIRST_NUMBER_MAX - 1 } else { known.saturating_add(TOLD_STEP_MAX) };
    known.max(told.min(most)).saturating_add(1)
}

/// An epoch's header and some of its seals. A steward sends a relay the seals for the devices
/// there, and a relay sends each device its own. [PROTO-11.5]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochMessage {
    /// The header.
    pub header: Signed<EpochHeader>,
    /// The holders of the epoch, as a change.
    pub holders: HoldersChange,
    /// The seals with the place of their device among the holders, in ascending order.
    pub seals: List<(u16, EpochSeal), SEALS_MAX>,
}

/// The devices on a channel, as a relay reports them to the channel's steward. [PROTO-11.3]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendance {
    /// Number of the message, counted from the link's start. For each channel a higher one is
    /// newer.
    pub number: u64,
    /// The channel that the devices are on.
    pub channel: ChannelId,
    /// Whether everything reported before is to be forgotten. If nobody is here then, the receiver
    /// stops being the steward.
    pub whole: bool,
    /// The highest number of an epoch that the relay knows.
    pub after: u64,
    /// Prekeys of the devices that have come, or that have another prekey now.
    pub here: List<Signed<Prekey>, ATTENDANCE_MAX>,
    /// Devices that have gone.
    pub gone: List<DeviceId, ATTENDANCE_MAX>,
}

/// A device shows a relay that it could open its seal. [PROTO-11.12]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirming {
    /// The channel of the epoch.
    pub channel: ChannelId,
    /// The id of the epoch.
    pub epoch: ObjectHash,
    /// The confirmation of the sender.
    pub confirmation: Confirmation,
}

/// From a relay: which attached devices hold an epoch. [PROTO-11.12]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The channel of the epoch.
    pub channel: ChannelId,
    /// The id of the epoch.
    pub epoch: ObjectHash,
    /// One bit for each place among the holders, starting with the lowest bit of each byte.
    pub places: List<u8, PLACES_BYTES>,
    /// The sum of the confirmations of all these devices.
    pub sum: Confirmation,
}

impl Confirmed {
    /// A relay's report on which of these holders have confirmed the epoch to it.
    pub(crate) fn new<'a>(
        (channel, epoch): (ChannelId, ObjectHash),
        holders: &Holders,
        confirmations: impl IntoIterator<Item = (&'a DeviceId, &'a Confirmation)>,
    ) -> Self {
        let mut places = vec![0; holders.devices().len().div_ceil(8)];
        let mut sum = Confirmation::default();
        for (device, confirmation) in confirmations {
            if let Some(place) = holders.place(*device).map(usize::from) {
                places[place / 8] |= 1 << (place % 8);
                sum = sum ^ *confirmation;
            }
        }
        Self { channel, epoch, places: List::truncated(places), sum }
    }

    /// The holders of an epoch that the report names; `None` if not all of them have confirmed it.
    pub fn devices(&self, secret: &EpochSecret, holders: &Holders) -> Option<Vec<DeviceId>> {
        let bit =
            |place: usize| self.places.get(place / 8).is_some_and(|it| it >> (place % 8) & 1 == 1);
        let devices = holders.devices().iter().enumerate();
        let devices: Vec<_> =
            devices.filter(|(place, _)| bit(*place)).map(|(_, device)| *device).collect();
        (secret.confirmation_of(devices.iter().copied()) == self.sum).then_some(devices)
    }
}

/// A talker's key in its current epoch, for a device that does not hold that epoch. [PROTO-11.13]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TalkersKey {
    /// The target that is sealed with it.
    pub target: Target,
    /// The key.
    pub key: EpochKey,
}

/// The devices that hold an epoch's secret, in ascending order, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    devices: Arc<[DeviceId]>,
    hash: ObjectHash,
}

impl Holders {
    /// These devices, in any order. If there are more than [`HOLDERS_MAX`], the last ones are left
    /// out.
    pub fn new(devices: impl IntoIterator<Item = DeviceId>) -> Self {
        let mut devices: Vec<_> = devices.into_iter().collect();
        devices.sort_unstable();
        devices.dedup();
        devices.truncate(HOLDERS_MAX);
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 epoch holders");
        for device in &devices {
            hasher.update(device.as_bytes());
        }
        let hash = ObjectHash::from_bytes(hasher.finalize().into());
        Self { devices: devices.into(), hash }
    }

    /// All holders.
    pub fn devices(&self) -> &[DeviceId] {
        &self.devices
    }

    /// Their hash, as it stands in the header.
    pub fn hash(&self) -> ObjectHash {
        self.hash
    }

    /// The place of a device among the holders, if it is one of them.
    pub fn place(&self, device: DeviceId) -> Option<u16> {
        u16::try_from(self.devices.binary_search(&device).ok()?).ok()
    }

    /// The change that turns `base` into these holders.
    pub fn change_from(&self, base: Option<&Self>) -> HoldersChange {
        let before = base.map_or(&[][..], |base| &base.devices);
        let gone = (0..).zip(before).filter(|(_, device)| self.place(**device).is_none());
        let new = self.devices.iter().filter(|device| before.binary_search(device).is_err());
        HoldersChange {
            base: base.map(Self::hash),
            removed: List::truncated(gone.map(|(place, _)| place)),
            added: List::truncated(new.copied()),
        }
    }
}

/// The difference between the holders of two epochs. [PROTO-11.6]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldersChange {
    /// The hash of the earlier holders; `None` if there were none.
    pub base: Option<ObjectHash>,
    /// Places among the earlier holders of those that are no longer holders, in ascending order.
    pub removed: List<u16, HOLDERS_MAX>,
    /// The new holders, in ascending order.
    pub added: List<DeviceId, HOLDERS_MAX>,
}

impl HoldersChange {
    /// The holders that result from `base`, to which [`Self::base`] must refer; `None` if the
    /// change is not valid.
    pub fn apply(&self, base: Option<&Holders>) -> Option<Holders> {
        if self.base != base.map(Holders::hash) {
            return None;
        }
        let before = base.map_or(&[][..], Holders::devices);
        let sound = self.removed.is_sorted_by(|a, b| a < b)
            && self.removed.last().is_none_or(|last| usize::from(*last) < before.len())
            && self.added.is_sorted_by(|a, b| a < b)
            && self.added.iter().all(|device| before.binary_search(device).is_err())
            && before.len() - self.removed.len() + self.added.len() <= HOLDERS_MAX;
        let stay =
            (0..).zip(before).filter(|(place, _)| self.removed.binary_search(place).is_err());
        sound.then(|| {
            Holders::new(stay.map(|(_, device)| *device).chain(self.added.iter().copied()))
        })
    }
}

impl EpochMessage {
    /// A message to a device that knows `base`, with as many of `seals` as fit, from the first on.
    /// Also returns their number.
    pub(crate) fn first_of(
        header: &Signed<EpochHeader>,
        holders: &Holders,
        base: Option<&Holders>,
        seals: &[(u16, EpochSeal)],
    ) -> (Self, usize) {
        let change = holders.change_from(base);
        let room = MESSAGE_MAX_BYTES.saturating_sub(encode(&change).len() + HEADER_BYTES);
        let count = seals.len().min(room / SEAL_BYTES).min(SEALS_MAX);
        let seals = List::truncated(seals[..count].iter().copied());
        (Self { header: header.clone(), holders: change, seals }, count)
    }
}

/// Devices that hold one epoch's secret. Further ones do not hear.
pub const HOLDERS_MAX: usize = 900;

/// Seals in one message. Further ones are sent in the next message.
pub const SEALS_MAX: usize = 560;

/// Bytes that have a bit for each holder.
const PLACES_BYTES: usize = HOLDERS_MAX.div_ceil(8);

/// Devices of each kind in one message. Further ones are sent in the next message.
pub const ATTENDANCE_MAX: usize = 64;

/// The highest number of an epoch if none is known for its channel. It leaves as many numbers above
/// it.
const FIRST_NUMBER_MAX: u64 = 1 << 62;

/// How far above the highest known number an epoch's number may be. A smaller step would separate
/// parts of a squad that have dealt different numbers of epochs. This is more than could be dealt
/// in half a year.
const NUMBER_STEP_MAX: u64 = 1 << 24;

/// How far above the highest known number a steward accepts a relay's number. With a smaller step,
/// a steward that was away would deal in vain. With a larger one, a relay could prevent devices
/// that have missed a few epochs from taking the next one.
const TOLD_STEP_MAX: u64 = 1 << 16;

/// Most bytes of a message's header and lengths.
const HEADER_BYTES: usize = 320;

/// Most bytes of a seal and its place.
const SEAL_BYTES: usize = 59;

#[cfg(test)]
mod tests {
    use hark_keys::{
        DeviceKey, EpochDealer, PREKEY_LIFETIME, PrekeySecret, SeededRandom, UnixTime, decode,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::message::Message;

    fn devices(count: usize) -> Vec<DeviceId> {
        let random = SeededRandom::new(4);
        (0..count).map(|_| DeviceKey::generate(&random).id()).collect()
    }

    /// [PROTO-11.5] [PROTO-1.3] The largest values fit into messages.
    #[test]
    fn no_message_is_too_long() {
        let random = SeededRandom::new(1);
        let key = DeviceKey::generate(&random);
        let dealer = EpochDealer::generate(&random);
        let holders = Holders::new(devices(HOLDERS_MAX));
        let header = EpochHeader {
            channel: ChannelId::from_bytes([1; 16]),
            issuer: key.id(),
            number: u64::MAX,
            dealer: dealer.public(),
            commitment: dealer.commitment(),
            holders: holders.hash(),
        };
        let header = Signed::sign(header, &key);
        let secret = PrekeySecret::generate(&random);
        let last = UnixTime::from_secs(u64::MAX - PREKEY_LIFETIME.as_secs());
        let prekey = Prekey::new(key.id(), last, &secret);
        let seal = dealer.seal(&header.hash(), &prekey).unwrap();
        let seals: Vec<_> = (0..900).map(|place| (place, seal)).collect();
        let (mut left, mut base, mut messages) = (&seals[..], None, 0);
        while !left.is_empty() {
            let (message, count) = EpochMessage::first_of(&header, &holders, base, left);
            let applied = message.holders.apply(base).unwrap();
            assert_eq!(applied, holders);
            let bytes = Message::Epoch(Box::new(message)).encode();
            assert!(bytes.len() <= MESSAGE_MAX_BYTES && Message::decode(&bytes).is_ok());
            (left, base, messages) = (&left[count..], Some(&holders), messages + 1);
        }
        assert_eq!(messages, 3);
        let prekey = Signed::sign(prekey, &key);
        let attendance = Attendance {
            number: u64::MAX,
            channel: ChannelId::from_bytes([1; 16]),
            whole: true,
            after: u64::MAX,
            here: List::truncated(vec![prekey; ATTENDANCE_MAX]),
            gone: List::truncated(holders.devices().iter().copied()),
        };
        assert!(Message::Attendance(attendance).encode().len() <= MESSAGE_MAX_BYTES);
    }

    /// [PROTO-11.12] A relay cannot claim that a device holds an epoch if the device has not shown
    /// it.
    #[test]
    fn who_has_confirmed_is_told_truly_or_not_at_all() {
        let devices = devices(11);
        let holders = Holders::new(devices.clone());
        let secret = EpochDealer::generate(&SeededRandom::new(7)).secret([7; 32]);
        let of = (ChannelId::from_bytes([1; 16]), ObjectHash::from_bytes([7; 32]));
        let shown: Vec<_> =
            devices[2..10].iter().map(|device| (*device, secret.confirmation(*device))).collect();
        let told = Confirmed::new(of, &holders, shown.iter().map(|(device, it)| (device, it)));
        let mut expected = devices[2..10].to_vec();
        expected.sort();
        assert_eq!(told.devices(&secret, &holders), Some(expected));
        for place in 0..11 {
            let mut places = told.places.to_vec();
            places[place / 8] ^= 1 << (place % 8);
            let more_or_less = Confirmed { places: List::truncated(places), ..told.clone() };
            assert_eq!(more_or_less.devices(&secret, &holders), None);
        }
        let nobody = Confirmed::new(of, &holders, []);
        assert_eq!(nobody.devices(&secret, &holders), Some(Vec::new()));
    }

    #[test]
    fn a_change_counts_for_its_base_alone() {
        let devices = devices(6);
        let (before, after) =
            (Holders::new(devices[..4].to_vec()), Holders::new(devices[2..].to_vec()));
        let change = after.change_from(Some(&before));
        assert_eq!(change.apply(Some(&before)), Some(after.clone()));
        assert_eq!(change.apply(Some(&after)), None);
        assert_eq!(change.apply(None), None);
        let twice = HoldersChange { removed: List::truncated([1, 1]), ..change.clone() };
        let beyond = HoldersChange { removed: List::truncated([4]), ..change.clone() };
        let known = List::truncated(before.devices()[..1].to_vec());
        let known = HoldersChange { added: known, ..change };
        for senseless in [twice, beyond, known] {
            assert_eq!(senseless.apply(Some(&before)), None);
        }
    }

    /// [PROTO-11.11] Typical numbers, and the last possible ones.
    #[test]
    fn numbers_are_near_each_other() {
        assert!(is_near(0, 1 << 62) && !is_near(0, (1 << 62) + 1));
        assert!(is_near(5, 5 + (1 << 24)) && !is_near(5, 6 + (1 << 24)));
        assert!(is_near(9, 1), "a lower one is another steward's");
        assert_eq!((next_number(0, 0), next_number(7, 3), next_number(7, 9)), (1, 8, 10));
        assert_eq!(next_number(7, u64::MAX), 8 + (1 << 16));
    }

    proptest! {
        /// [PROTO-11.11] Whatever a relay says, a device that knows as much as the steward accepts
        /// the steward's next number.
        #[test]
        fn there_is_always_a_next_number(known in 0..=u64::MAX - (1 << 24), told: u64) {
            let next = next_number(known, told);
            prop_assert!(next > known && is_near(known, next));
        }

        /// [PROTO-11.6]
        #[test]
        fn a_change_makes_one_of_the_other(
            before in prop::collection::vec(0..24_usize, 0..20),
            after in prop::collection::vec(0..24_usize, 0..20),
            known in any::<bool>(),
        ) {
            let all = devices(24);
            let of = |places: &[usize]| Holders::new(places.iter().map(|place| all[*place]));
            let (before, after) = (of(&before), of(&after));
            let base = known.then_some(&before);
            let change = after.change_from(base);
            let bytes = encode(&change);
            prop_assert_eq!(change.apply(base), Some(after));
            prop_assert_eq!(decode::<HoldersChange>(&bytes, 2_000), Ok(change));
        }
    }
}
