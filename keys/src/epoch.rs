//! The key that all listeners of a channel share for a while, dealt by one of them. [section 11 of
//! docs/protocol.md]
//!
//! The device that deals an epoch makes an [`EpochDealer`], which seals the secret to each
//! recipient's [`Prekey`]. The recipient opens its part with the [`PrekeySecret`]. Every holder
//! derives the keys of all talkers from the [`EpochSecret`].

use std::{fmt, ops::BitXor, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    DeviceId, OpenError, Random, Signable, TargetId, UnixTime, open_once, seal_once, x25519,
};

/// The public key to which a device takes sealed secrets, stated by the device itself. [PROTO-11.1]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prekey {
    /// The device that opens what is sealed to this key.
    pub device: DeviceId,
    /// When it was made. This is also its number: the later one replaces the earlier, even after a
    /// restart.
    pub issued: UnixTime,
    /// The time from which on nothing is sealed to it.
    pub expires: UnixTime,
    /// The X25519 public key.
    pub key: [u8; 32],
}

impl Prekey {
    /// The prekey of `device`, made at `issued`, whose private half is `secret`.
    pub fn new(device: DeviceId, issued: UnixTime, secret: &PrekeySecret) -> Self {
        Self { device, issued, expires: issued + PREKEY_LIFETIME, key: secret.public }
    }

    /// Whether secrets may be sealed to it at `now`. [PROTO-11.1]
    pub fn is_current(&self, now: UnixTime) -> bool {
        self.issued <= now + CLOCKS_DIFFER
            && now < self.expires
            && self.expires <= self.issued + PREKEY_LIFETIME
    }
}

impl Signable for Prekey {
    const KIND: &'static str = "prekey";

    fn signer(&self) -> DeviceId {
        self.device
    }
}

/// The private half of a [`Prekey`]; it is never written anywhere.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrekeySecret {
    secret: [u8; 32],
    #[zeroize(skip)]
    public: [u8; 32],
}

impl PrekeySecret {
    /// Generates a new one.
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        let mut dh = x25519();
        dh.set(&secret);
        let public = dh.pubkey().try_into().expect("an X25519 key has 32 bytes");
        Self { secret, public }
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Opens `seal`, the part of this `device` in the epoch `epoch`, whose dealer has the public
    /// key `dealer`. It is also an error if the secret is not the one that the dealer has committed
    /// to, or if this device's confirmation would not be accepted.
    pub fn open(
        &self,
        (epoch, dealer, commitment): (&[u8; 32], &[u8; 32], &[u8; 32]),
        device: DeviceId,
        seal: &EpochSeal,
    ) -> Result<EpochSecret, OpenError> {
        let key = seal_key(&self.secret, dealer, (dealer, &self.public)).ok_or(OpenError)?;
        let opened = open_once(&key, &associated(epoch, device), &seal.bytes())?;
        let opened = Zeroizing::new(opened);
        let secret: [u8; 32] = opened[..].try_into().map_err(|_| OpenError)?;
        let secret = EpochSecret { id: *epoch, secret };
        let sound =
            secret.commitment() == *commitment && secret.confirmation(device).check() == seal.check;
        if sound { Ok(secret) } else { Err(OpenError) }
    }
}

/// What the device that deals an epoch keeps until all recipients have their part.
pub struct EpochDealer {
    ephemeral: PrekeySecret,
    secret: Zeroizing<[u8; 32]>,
}

impl EpochDealer {
    /// Generates a random secret, and a key to seal it with.
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(&mut *secret);
        Self { ephemeral: PrekeySecret::generate(random), secret }
    }

    /// The public key that recipients need.
    pub fn public(&self) -> [u8; 32] {
        self.ephemeral.public
    }

    /// The commitment by which each recipient knows that all have the same secret.
    pub fn commitment(&self) -> [u8; 32] {
        commitment(&self.secret)
    }

    /// The secret, as that of the epoch with this id.
    pub fn secret(&self, epoch: [u8; 32]) -> EpochSecret {
        EpochSecret { id: epoch, secret: *self.secret }
    }

    /// The secret sealed for the device of `prekey`; `None` if the key is of low order, since
    /// nothing can be sealed to it.
    pub fn seal(&self, epoch: &[u8; 32], prekey: &Prekey) -> Option<EpochSeal> {
        let public = &self.ephemeral.public;
        let key = seal_key(&self.ephemeral.secret, &prekey.key, (public, &prekey.key))?;
        let sealed = seal_once(&key, &associated(epoch, prekey.device), &*self.secret);
        let (secret, tag) = sealed.split_first_chunk().expect("32 bytes and a tag");
        let tag = tag.try_into().expect("a tag has 16 bytes");
        let check = self.secret(*epoch).confirmation(prekey.device).check();
        Some(EpochSeal { secret: *secret, tag, check })
    }
}

/// An epoch's secret, sealed for one device, with the check for that device's confirmation: 56
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochSeal {
    secret: [u8; 32],
    tag: [u8; 16],
    check: [u8; 8],
}

impl EpochSeal {
    /// The expected [`Confirmation::check`] of its device.
    pub fn check(&self) -> [u8; 8] {
        self.check
    }

    fn bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(&self.secret);
        bytes[32..].copy_from_slice(&self.tag);
        bytes
    }
}

/// Shows to all holders of an epoch that one device, or several, hold it too. A relay, which does
/// not hold it, can combine confirmations but cannot make one. [PROTO-11.12]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation([u8; 16]);

impl Confirmation {
    /// The check by which a relay recognises this confirmation.
    pub fn check(&self) -> [u8; 8] {
        let hash = blake3::derive_key("hark 1 epoch check", &self.0);
        *hash.first_chunk().expect("8 of 32 bytes")
    }
}

impl BitXor for Confirmation {
    type Output = Self;

    /// The combined confirmation of all the devices of both.
    fn bitxor(self, other: Self) -> Self {
        Self((u128::from_le_bytes(self.0) ^ u128::from_le_bytes(other.0)).to_le_bytes())
    }
}

/// A talker's key in an epoch, for a device that does not hold the epoch: it opens what this talker
/// says and nothing else. [PROTO-11.13]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct EpochKey {
    /// The id of the epoch.
    #[zeroize(skip)]
    pub epoch: [u8; 32],
    /// The generation of the talker's key in the epoch.
    pub generation: u8,
    base_key: [u8; 32],
}

impl EpochKey {
    pub(crate) fn tag(&self) -> u32 {
        tag(&self.epoch)
    }

    pub(crate) fn base_key(&self) -> &[u8; 32] {
        &self.base_key
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.epoch;
        write!(f, "EpochKey({a:02x}{b:02x}{c:02x}.{})", self.generation)
    }
}

/// The secret that all holders of an epoch share. The keys of all talkers are derived from it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct EpochSecret {
    #[zeroize(skip)]
    id: [u8; 32],
    secret: [u8; 32],
}

impl EpochSecret {
    /// The id of the epoch.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    fn commitment(&self) -> [u8; 32] {
        commitment(&self.secret)
    }

    /// The confirmation that `device` holds it. [PROTO-11.12]
    pub fn confirmation(&self, device: DeviceId) -> Confirmation {
        self.confirmation_of([device])
    }

    /// The combined confirmation that all of `devices` hold it. Each device must be given once.
    pub fn confirmation_of(&self, devices: impl IntoIterator<Item = DeviceId>) -> Confirmation {
        let key = Zeroizing::new(blake3::derive_key("hark 1 epoch confirmation", &self.secret));
        let one = |device: DeviceId| {
            let hash = blake3::keyed_hash(&key, &associated(&self.id, device));
            Confirmation(*hash.as_bytes().first_chunk().expect("16 of 32 bytes"))
        };
        devices.into_iter().map(one).fold(Confirmation::default(), BitXor::bitxor)
    }

    /// The key of one talker, for a device that does not hold the epoch. [PROTO-11.13]
    pub fn key_of(&self, target: TargetId, device: DeviceId, generation: u8) -> EpochKey {
        let base_key = *self.base_key(target, device, generation);
        EpochKey { epoch: self.id, generation, base_key }
    }

    /// The first 20 bits of the epoch's id, by which frames name it. [PROTO-11.8]
    pub(crate) fn tag(&self) -> u32 {
        tag(&self.id)
    }

    /// The base key of one talker. [PROTO-11.8]
    pub(crate) fn base_key(
        &self,
        target: TargetId,
        device: DeviceId,
        generation: u8,
    ) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 epoch sender");
        hasher.update(&self.secret).update(&self.id).update(target.as_bytes());
        hasher.update(device.as_bytes()).update(&[generation]);
        Zeroizing::new(hasher.finalize().into())
    }
}

impl fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.id;
        write!(f, "EpochSecret({a:02x}{b:02x}{c:02x})")
    }
}

fn tag(epoch: &[u8; 32]) -> u32 {
    let [a, b, c, ..] = *epoch;
    u32::from_be_bytes([0, a, b, c]) >> 4
}

fn commitment(secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("hark 1 epoch commitment", secret)
}

fn associated(epoch: &[u8; 32], device: DeviceId) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(epoch);
    bytes[32..].copy_from_slice(device.as_bytes());
    bytes
}

/// The key of one seal, derived from the result of X25519 and both public keys. `None` for points
/// of low order.
fn seal_key(
    secret: &[u8; 32],
    other: &[u8; 32],
    (dealer, recipient): (&[u8; 32], &[u8; 32]),
) -> Option<Zeroizing<[u8; 32]>> {
    let mut dh = x25519();
    dh.set(secret);
    let mut shared = Zeroizing::new([0; 32]);
    dh.dh(other, &mut *shared).ok()?;
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 epoch seal");
    hasher.update(&*shared).update(dealer).update(recipient);
    Some(Zeroizing::new(hasher.finalize().into()))
}

/// How long secrets may be sealed to a prekey: an hour longer than its device uses it, as clocks
/// differ. Whoever takes the secret of an old prekey cannot open anything that was sealed later
/// than this.
pub const PREKEY_LIFETIME: Duration = Duration::from_secs(25 * 60 * 60);

/// How long an [`EpochKey`] is kept: as long as an epoch may seal, and a little more.
pub const EPOCH_KEY_LIFETIME: Duration = Duration::from_secs(12 * 60);

/// How far the clock of a prekey's device may be ahead of the clock of the device that seals to it.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceKey, SeededRandom};

    fn prekey(random: &SeededRandom) -> (Prekey, PrekeySecret) {
        let secret = PrekeySecret::generate(random);
        let device = DeviceKey::generate(random).id();
        (Prekey::new(device, UnixTime::from_secs(1_000_000), &secret), secret)
    }

    /// A prekey of last week, whose secret may have been stolen since. [PROTO-11.1]
    #[test]
    fn nothing_is_sealed_to_a_prekey_that_is_too_old_or_of_the_future() {
        let (prekey, _) = prekey(&SeededRandom::new(1));
        let at = |seconds| prekey.is_current(UnixTime::from_secs(seconds));
        assert!(at(1_000_000) && at(1_000_000 + 25 * 3600 - 1) && at(1_000_000 - 3600));
        assert!(!at(1_000_000 + 25 * 3600) && !at(1_000_000 + 7 * 86_400));
        assert!(!at(1_000_000 - 3601));
        let endless = Prekey { expires: UnixTime::from_secs(u64::MAX), ..prekey };
        assert!(!endless.is_current(UnixTime::from_secs(1_000_000)));
    }

    /// [PROTO-11.12] A relay combines the confirmations that it was given. It cannot claim of any
    /// other device that it holds the secret.
    #[test]
    fn confirmations_add_up_and_are_known_by_what_came_with_the_seal() {
        let random = SeededRandom::new(1);
        let ((ann, _), (bob, bob_secret)) = (prekey(&random), prekey(&random));
        let dealer = EpochDealer::generate(&random);
        let secret = dealer.secret([7; 32]);
        let [a, b] = [ann.device, bob.device].map(|device| secret.confirmation(device));
        assert_eq!(a ^ b, secret.confirmation_of([bob.device, ann.device]));
        assert_ne!(a, b);
        // Either part can be taken out of the sum again.
        assert_eq!((a ^ b ^ a, a ^ b ^ b), (b, a));
        let mut seal = dealer.seal(&[7; 32], &bob).unwrap();
        assert_eq!(seal.check(), b.check());
        // Another epoch, or another secret, has other confirmations.
        assert_ne!(dealer.secret([8; 32]).confirmation(bob.device), b);
        // A device that was given a check which its confirmation would fail rejects the seal.
        let of = (&[7; 32], &dealer.public(), &dealer.commitment());
        assert_eq!(bob_secret.open(of, bob.device, &seal), Ok(secret));
        seal.check[0] ^= 1;
        assert_eq!(bob_secret.open(of, bob.device, &seal), Err(OpenError));
    }

    /// [PROTO-11.5]
    #[test]
    fn a_seal_opens_for_its_recipient_alone() {
        let random = SeededRandom::new(1);
        let ((ann, ann_secret), (bob, bob_secret)) = (prekey(&random), prekey(&random));
        let dealer = EpochDealer::generate(&random);
        let (epoch, public, commitment) = ([7; 32], dealer.public(), dealer.commitment());
        let of = (&epoch, &public, &commitment);
        let seal = dealer.seal(&epoch, &ann).unwrap();
        assert_eq!(ann_secret.open(of, ann.device, &seal), Ok(dealer.secret(epoch)));
        assert_eq!(bob_secret.open(of, bob.device, &seal), Err(OpenError));
        assert_eq!(bob_secret.open(of, ann.device, &seal), Err(OpenError));
        assert_eq!(ann_secret.open(of, bob.device, &seal), Err(OpenError));
        let other = ([8; 32], [9; 32]);
        for of in [(&other.0, &public, &commitment), (&epoch, &public, &other.1)] {
            assert_eq!(ann_secret.open(of, ann.device, &seal), Err(OpenError));
        }
        for place in 0..48 {
            let mut changed = seal;
            match place {
                0..32 => changed.secret[place] ^= 1,
                _ => changed.tag[place - 32] ^= 1,
            }
            assert_eq!(ann_secret.open(of, ann.device, &changed), Err(OpenError));
        }
        let low = Prekey { key: [0; 32], ..ann };
        assert_eq!(dealer.seal(&epoch, &low), None, "everybody could open it");
    }

    /// Fixed values, so that another program can be tested against them.
    #[test]
    fn the_derivations_are_those_of_the_specification() {
        let random = SeededRandom::new(2);
        let dealer = EpochDealer::generate(&random);
        let secret = EpochSecret { id: [0xab; 32], secret: [1; 32] };
        assert_eq!(secret.tag(), 0xababa);
        let device = DeviceKey::generate(&random).id();
        let target = TargetId::from_bytes([3; 16]);
        let key = secret.base_key(target, device, 4);
        let mut material = [[1; 32], [0xab; 32]].concat();
        material.extend_from_slice(&[3; 16]);
        material.extend_from_slice(device.as_bytes());
        material.push(4);
        assert_eq!(*key, blake3::derive_key("hark 1 epoch sender", &material));
        let shown = dealer.secret([5; 32]);
        assert_eq!(dealer.commitment(), shown.commitment());
        assert_eq!(format!("{shown:?}"), "EpochSecret(050505)");
    }
}
