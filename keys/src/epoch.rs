//! The key of all who are on a channel at a time, dealt by one of them. [section 11 of
//! docs/protocol.md]
//!
//! Whoever deals an epoch makes an [`EpochDealer`], which seals the secret to each recipient's
//! [`Prekey`]; the recipient opens its part with the [`PrekeySecret`]. From the [`EpochSecret`]
//! everybody derives the keys of all talkers.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{DeviceId, OpenError, Random, Signable, TargetId, open_once, seal_once, x25519};

/// Where a device takes what is sealed to it, as it says itself. [PROTO-11.1]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prekey {
    /// Whose.
    pub device: DeviceId,
    /// The higher replaces the lower; counts from one that is higher after each start.
    pub number: u64,
    /// The X25519 public key.
    pub key: [u8; 32],
}

impl Signable for Prekey {
    const KIND: &'static str = "prekey";

    fn signer(&self) -> DeviceId {
        self.device
    }
}

/// The secret of a [`Prekey`]; it is never written anywhere.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrekeySecret {
    secret: [u8; 32],
    #[zeroize(skip)]
    public: [u8; 32],
}

impl PrekeySecret {
    /// A new one.
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

    /// What `seal` holds of the epoch `epoch`, whose dealer has the public key `dealer`, for
    /// `device`, which is us; an error also where that is not what the dealer has committed to.
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
        if secret.commitment() == *commitment { Ok(secret) } else { Err(OpenError) }
    }
}

/// What a device that deals an epoch holds until all have their part.
pub struct EpochDealer {
    ephemeral: PrekeySecret,
    secret: Zeroizing<[u8; 32]>,
}

impl EpochDealer {
    /// A random secret, and a key to seal it with.
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(&mut *secret);
        Self { ephemeral: PrekeySecret::generate(random), secret }
    }

    /// The public key that recipients need.
    pub fn public(&self) -> [u8; 32] {
        self.ephemeral.public
    }

    /// What shows each recipient that all have the same secret.
    pub fn commitment(&self) -> [u8; 32] {
        commitment(&self.secret)
    }

    /// The secret, of the epoch with this id.
    pub fn secret(&self, epoch: [u8; 32]) -> EpochSecret {
        EpochSecret { id: epoch, secret: *self.secret }
    }

    /// The secret sealed for the device of `prekey`; none where the key is of low order, to which
    /// nothing can be sealed.
    pub fn seal(&self, epoch: &[u8; 32], prekey: &Prekey) -> Option<EpochSeal> {
        let public = &self.ephemeral.public;
        let key = seal_key(&self.ephemeral.secret, &prekey.key, (public, &prekey.key))?;
        let sealed = seal_once(&key, &associated(epoch, prekey.device), &*self.secret);
        let (secret, tag) = sealed.split_first_chunk().expect("32 bytes and a tag");
        Some(EpochSeal(*secret, tag.try_into().expect("a tag has 16 bytes")))
    }
}

/// An epoch's secret, sealed for one device: 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochSeal([u8; 32], [u8; 16]);

impl EpochSeal {
    fn bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&self.1);
        bytes
    }
}

/// What all who are on a channel know: from it come the keys of all talkers.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct EpochSecret {
    #[zeroize(skip)]
    id: [u8; 32],
    secret: [u8; 32],
}

impl EpochSecret {
    /// Which epoch's.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    fn commitment(&self) -> [u8; 32] {
        commitment(&self.secret)
    }

    /// The first 20 bits of the epoch's id, by which frames name it. [PROTO-11.8]
    pub(crate) fn tag(&self) -> u32 {
        let [a, b, c, ..] = self.id;
        u32::from_be_bytes([0, a, b, c]) >> 4
    }

    /// The key of one talker. [PROTO-11.8]
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

fn commitment(secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("hark 1 epoch commitment", secret)
}

fn associated(epoch: &[u8; 32], device: DeviceId) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(epoch);
    bytes[32..].copy_from_slice(device.as_bytes());
    bytes
}

/// The key of one seal: of what X25519 gives, and both public keys. None for points of low order.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceKey, SeededRandom};

    fn prekey(random: &SeededRandom) -> (Prekey, PrekeySecret) {
        let secret = PrekeySecret::generate(random);
        let device = DeviceKey::generate(random).id();
        (Prekey { device, number: 1, key: secret.public() }, secret)
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
                0..32 => changed.0[place] ^= 1,
                _ => changed.1[place - 32] ^= 1,
            }
            assert_eq!(ann_secret.open(of, ann.device, &changed), Err(OpenError));
        }
        let low = Prekey { key: [0; 32], ..ann };
        assert_eq!(dealer.seal(&epoch, &low), None, "everybody could open it");
    }

    /// Written down, so that another program can be held to it.
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
