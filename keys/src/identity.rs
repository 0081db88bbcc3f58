#[cfg(test)]
mod vectors;

use std::{cmp::Ordering, fmt, str::FromStr};

use ed25519_dalek::{Verifier as _, VerifyingKey};
use libp2p_identity::{Keypair, PeerId, ed25519};
use serde::{Deserialize, Serialize, de};
use zeroize::Zeroizing;

use crate::{
    Random,
    encoding::{from_base32, to_base32},
};

/// Orders ids by their bytes. Maps of identifiers compare far more often than they find a match,
/// and the first eight bytes, compared as one number, nearly always decide.
macro_rules! ordered_by_bytes {
    ($name:ident) => {
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                let first = |id: &Self| {
                    u64::from_be_bytes(*id.0.first_chunk().expect("ids have at least 16 bytes"))
                };
                first(self).cmp(&first(other)).then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}

/// A device: its Ed25519 public key. The text form is the libp2p PeerId of that key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct DeviceId([u8; 32]);

ordered_by_bytes!(DeviceId);

impl DeviceId {
    /// The device with this public key. Fails if anybody could sign by it, or if the key has
    /// another encoding, which is then the device's only name.
    ///
    /// Bytes that are not a point of the curve pass, and sign nothing. Detecting them costs as much
    /// as a fifth of a signature, and rosters hold hundreds of devices. [PROTO-1.5]
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, IdError> {
        if is_canonical(&bytes) && !is_low_order(&bytes) { Ok(Self(bytes)) } else { Err(IdError) }
    }

    /// The device that libp2p calls `peer`; `None` if that is not an Ed25519 identity.
    pub fn from_peer_id(peer: &PeerId) -> Option<Self> {
        let multihash = peer.as_ref();
        if multihash.code() != IDENTITY_MULTIHASH {
            return None;
        }
        // The key inside may be written in several ways, but a device has only one name.
        let digest = multihash.digest().strip_prefix(&PEER_ID_PREFIX[2..])?;
        Self::from_bytes(*digest.as_array()?).ok()
    }

    /// The public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name by which libp2p knows the device: the identity multihash of the key's protobuf
    /// (libp2p peer ids specification).
    pub fn peer_id(&self) -> PeerId {
        let mut bytes = [0; PEER_ID_PREFIX.len() + 32];
        bytes[..PEER_ID_PREFIX.len()].copy_from_slice(&PEER_ID_PREFIX);
        bytes[PEER_ID_PREFIX.len()..].copy_from_slice(&self.0);
        PeerId::from_bytes(&bytes).expect("36 bytes by the identity hash are a peer id")
    }

    /// The last six characters of the text form, enough to distinguish devices in a log.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 6..].to_owned()
    }

    /// Checks that `signature` is this device's over `message`, made for `kind`. [PROTO-1.1]
    pub fn verify(
        &self,
        kind: &str,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        self.verify_bytes(&signed_bytes(kind, message), signature)
    }

    /// Checks a signature by RFC 8032 section 5.1.7 without the cofactor, and without points of low
    /// order. So all verifiers come to the same result. [PROTO-1.5]
    ///
    /// This is ed25519-dalek's `verify_strict` at a tenth less cost. A signature that `verify`
    /// accepts has R in its canonical encoding, so its bytes show whether R is of low order.
    fn verify_bytes(&self, bytes: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        if is_low_order(signature.r_bytes()) {
            return Err(SignatureError);
        }
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        key.verify(bytes, &signature).map_err(|_| SignatureError)
    }

    /// Whether these bytes are a point of the curve.
    pub(crate) fn is_point(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer_id().fmt(f)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > ID_TEXT_LIMIT {
            return Err(IdError);
        }
        let peer: PeerId = text.parse().map_err(|_| IdError)?;
        Self::from_peer_id(&peer).filter(Self::is_point).ok_or(IdError)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "DeviceId")]
        struct Bytes([u8; 32]);

        Self::from_bytes(Bytes::deserialize(deserializer)?.0).map_err(de::Error::custom)
    }
}

/// A device's secret key. It never leaves the device, and is wiped from memory when dropped.
pub struct DeviceKey {
    keypair: ed25519::Keypair,
    id: DeviceId,
}

impl DeviceKey {
    /// Generates a new identity.
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(secret.as_mut());
        Self::from_secret(&secret)
    }

    /// The identity of this secret.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let mut copy = Zeroizing::new(*secret);
        let secret = ed25519::SecretKey::try_from_bytes(copy.as_mut())
            .expect("any 32 bytes are an Ed25519 secret key");
        let keypair = ed25519::Keypair::from(secret);
        let id = DeviceId(keypair.public().to_bytes());
        Self { keypair, id }
    }

    /// The device id of this identity.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// The secret bytes, for the key file only.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(self.keypair.secret().as_ref());
        bytes
    }

    /// Signs `message` for `kind`. [PROTO-1.1]
    pub fn sign(&self, kind: &str, message: &[u8]) -> Signature {
        let signature = self.keypair.sign(&signed_bytes(kind, message));
        Signature(signature.try_into().expect("an Ed25519 signature has 64 bytes"))
    }

    /// The key pair in libp2p's form.
    pub fn keypair(&self) -> Keypair {
        self.keypair.clone().into()
    }

    /// A secret for one purpose; it is the same each time for this identity.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 device key derivation");
        hasher.update(self.secret().as_ref());
        hasher.update(label.as_bytes());
        Zeroizing::new(hasher.finalize().into())
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// The signature with these bytes, valid or not.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes of the signature.
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, second) = self.0.split_at(32);
        let halves: [[u8; 32]; 2] = [
            first.try_into().expect("half of 64 bytes"),
            second.try_into().expect("half of 64 bytes"),
        ];
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Signature")]
        struct Halves([[u8; 32]; 2]);

        let Halves(halves) = Halves::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&halves[0]);
        bytes[32..].copy_from_slice(&halves[1]);
        Ok(Self(bytes))
    }
}

/// The signature is not the device's, or is for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not match")]
pub struct SignatureError;

/// The text or bytes are not an identifier of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid identifier")]
pub struct IdError;

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub struct $name([u8; $length]);

        ordered_by_bytes!($name);

        impl $name {
            /// The identifier with these bytes.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes of the identifier.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// The first six characters of the text form.
            pub fn short(&self) -> String {
                self.to_string()[..6].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = from_base32(text).ok_or(IdError)?;
                Ok(Self(bytes.try_into().map_err(|_| IdError)?))
            }
        }
    };
}

hash_id!(
    /// An organisation or squad: the hash of its founding root document. [PROTO-4.1]
    OrganisationId,
    32
);
hash_id!(
    /// A person in an organisation, with one device or several.
    MemberId,
    32
);
hash_id!(
    /// A channel of an organisation.
    ChannelId,
    16
);
hash_id!(
    /// A role in an organisation.
    RoleId,
    16
);
hash_id!(
    /// An operation preset of an organisation.
    PresetId,
    16
);
hash_id!(
    /// BLAKE3-256 of a signed object's encoding, without its signatures.
    ObjectHash,
    32
);
hash_id!(
    /// What a talkspurt goes to: one channel, several at once, or a whisper. [PROTO-6.1]
    TargetId,
    16
);

impl TargetId {
    /// The target that is only `channel`; it has the channel's bytes.
    pub const fn of_channel(channel: ChannelId) -> Self {
        Self(channel.0)
    }
}

fn signed_bytes(kind: &str, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + kind.len() + message.len());
    bytes.extend_from_slice(b"hark/1/");
    bytes.extend_from_slice(kind.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(message);
    bytes
}

/// Whether y is less than 2^255 - 19 (RFC 8032, section 5.1.3). Points whose x is zero still have
/// two encodings; they are of low order.
fn is_canonical(point: &[u8; 32]) -> bool {
    point[0] < 0xed || point[1..31] != [0xff; 30] || point[31] & !SIGN_OF_X != 0x7f
}

/// Whether the order of the point with this canonical encoding divides 8.
fn is_low_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y[31] &= !SIGN_OF_X;
    LOW_ORDER.contains(&y)
}

/// The bit of an encoded point that is not part of y.
const SIGN_OF_X: u8 = 0x80;

/// The y coordinates of all points whose order divides 8.
const LOW_ORDER: [[u8; 32]; 5] = {
    let [mut one, mut minus_one] = [[0; 32], [0xff; 32]];
    one[0] = 1;
    [minus_one[0], minus_one[31]] = [0xec, 0x7f];
    [
        [0; 32],
        one,
        minus_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// Multihash code of an identity "hash", which holds the key itself.
const IDENTITY_MULTIHASH: u64 = 0;

/// Longest text of an id; longer text is refused unread. A device id has 52 characters, and the
/// time to read base58 grows with the square of the length.
const ID_TEXT_LIMIT: usize = 64;

/// The bytes before the key in the peer id of an Ed25519 key: identity hash, 36 bytes; key type
/// Ed25519; 32 bytes of data.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::{decode, encode};

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).expect("hex").try_into().expect("the length")
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn the_peer_id_is_the_one_that_libp2p_makes_of_the_key() {
        let key = DeviceKey::generate(&crate::SeededRandom::new(7));
        assert_eq!(key.id().peer_id(), PeerId::from(key.keypair().public()));
    }

    #[test]
    fn published_vector() {
        let secret = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = DeviceKey::from_secret(&secret);
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.id().as_bytes(), &public);
        assert_eq!(*key.secret(), secret);
        let signature: [u8; 64] =
            hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        assert_eq!(key.keypair().sign(&[0x72]).expect("signed"), signature);
    }

    /// [PROTO-1.1] The signed bytes are `hark/1/`, the kind, a zero byte and the message.
    #[test]
    fn a_signature_counts_for_its_kind_message_and_device_only() {
        let key = DeviceKey::from_secret(&[1; 32]);
        let signature = key.sign("kind", b"message");
        let raw = key.keypair().sign(b"hark/1/kind\0message").expect("signed");
        assert_eq!(signature.0[..], raw);
        assert_eq!(key.id().verify("kind", b"message", &signature), Ok(()));
        assert_eq!(key.id().verify("other", b"message", &signature), Err(SignatureError));
        assert_eq!(key.id().verify("kind", b"massage", &signature), Err(SignatureError));
        let other = DeviceKey::from_secret(&[2; 32]).id();
        assert_eq!(other.verify("kind", b"message", &signature), Err(SignatureError));
    }

    #[test]
    fn bytes_that_are_no_point_of_the_curve_sign_nothing() {
        let key = DeviceKey::from_secret(&[1; 32]);
        let id = key.id();
        assert_eq!(encode(&id), id.as_bytes());
        assert_eq!(decode::<DeviceId>(id.as_bytes(), 32), Ok(id));
        assert!(decode::<DeviceId>(&id.as_bytes()[..31], 32).is_err());
        let mut no_point = [0; 32];
        no_point[0] = 2;
        let nobody = decode::<DeviceId>(&no_point, 32).unwrap();
        assert_eq!(DeviceId::from_bytes(no_point), Ok(nobody));
        let signature = key.sign("kind", b"message");
        assert_eq!(id.verify("kind", b"message", &signature), Ok(()));
        assert_eq!(nobody.verify("kind", b"message", &signature), Err(SignatureError));
        // An id that somebody has typed is checked to be a point.
        assert_eq!(nobody.to_string().parse::<DeviceId>(), Err(IdError));
        assert_eq!(DeviceId::from_peer_id(&nobody.peer_id()), Some(nobody));
    }

    #[test]
    fn only_ed25519_peers_are_devices_and_under_one_name() {
        let id = DeviceKey::from_secret(&[1; 32]).id();
        assert_eq!(DeviceId::from_peer_id(&id.peer_id()), Some(id));
        let hashed = [&[0x12, 32][..], &[7; 32]].concat();
        let hashed = PeerId::from_bytes(&hashed).expect("a peer id");
        assert_eq!(DeviceId::from_peer_id(&hashed), None);
        // An identity multihash of the same key with an unknown protobuf field after it.
        let mut bytes = id.peer_id().to_bytes();
        bytes.extend_from_slice(&[0x18, 0x00]);
        bytes[1] += 2;
        let alias = PeerId::from_bytes(&bytes).expect("a peer id");
        assert_eq!(DeviceId::from_peer_id(&alias), None);
        assert_eq!("1".repeat(1_000_000).parse::<DeviceId>(), Err(IdError));
    }

    #[test]
    fn derived_secrets_differ_by_label_and_device() {
        let [one, other] = [1, 2].map(|n| DeviceKey::from_secret(&[n; 32]));
        assert_eq!(one.derive("a"), one.derive("a"));
        assert_ne!(one.derive("a"), one.derive("b"));
        assert_ne!(one.derive("a"), other.derive("a"));
    }

    proptest! {
        #[test]
        fn ids_are_ordered_as_their_bytes(
            one in any::<[u8; 32]>(),
            other in any::<[u8; 32]>(),
            alike in 0..=32_usize,
        ) {
            let mut other = other;
            other[..alike].copy_from_slice(&one[..alike]);
            let ids = [one, other].map(ObjectHash::from_bytes);
            prop_assert_eq!(ids[0].cmp(&ids[1]), one.cmp(&other));
            prop_assert_eq!(ids[0].partial_cmp(&ids[1]), Some(one.cmp(&other)));
        }

        #[test]
        fn text_forms_come_back(secret in any::<[u8; 32]>()) {
            let id = DeviceKey::from_secret(&secret).id();
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert!(id.to_string().starts_with("12D3KooW"));
            prop_assert!(id.to_string().ends_with(&id.short()));
            let organisation = OrganisationId::from_bytes(secret);
            let text = organisation.to_string();
            prop_assert_eq!(text.parse(), Ok(organisation));
            prop_assert!(text.starts_with(&organisation.short()));
            prop_assert_eq!(text[1..].parse::<OrganisationId>(), Err(IdError));
        }

        #[test]
        fn any_text_parses_or_fails_cleanly(text in ".{0,80}") {
            if let Ok(id) = text.parse::<DeviceId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(id) = text.parse::<ChannelId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
