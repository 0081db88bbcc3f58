//! Derives the keys of packets from the secrets of the handshake.

use std::sync::{Mutex, PoisonError};

use quinn_proto::{
    ConnectionId, Side,
    crypto::{ExportKeyingMaterialError, KeyPair, Keys, PacketKey},
};
use ring::{aead, digest, hkdf, hmac};
use zeroize::Zeroizing;

use super::packet::{INITIAL, NOISE};
use crate::fast;

/// What both sides have agreed on at one point of the handshake: Noise's `Split()` and its hash.
pub(super) struct Agreement {
    pub(super) client: Zeroizing<[u8; 32]>,
    pub(super) server: Zeroizing<[u8; 32]>,
    pub(super) hash: [u8; 32],
}

impl Agreement {
    /// The keys of Handshake packets, derived from the agreement after the second message.
    /// [NOISE-22]
    pub(super) fn handshake_keys(&self, side: Side) -> Keys {
        let client = derive(&self.client, b"hark1 client handshake", &self.hash);
        let server = derive(&self.server, b"hark1 server handshake", &self.hash);
        match side {
            Side::Client => NOISE.keys(&client, &server),
            Side::Server => NOISE.keys(&server, &client),
        }
    }

    /// The secrets of 1-RTT packets, derived from the agreement after the third message. [NOISE-23]
    pub(super) fn traffic(&self, side: Side) -> Traffic {
        let client = derive(&self.client, b"hark1 client traffic", &self.hash);
        let server = derive(&self.server, b"hark1 server traffic", &self.hash);
        let exporter = derive(&self.client, b"hark1 exporter", &self.hash);
        let (local, remote) = match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        Traffic { local, remote, updates: 0, exporter: Mutex::new(Some(exporter)) }
    }
}

/// The secrets of an established connection in its newest key phase.
pub(super) struct Traffic {
    pub(super) local: Secret,
    pub(super) remote: Secret,
    /// The number of key phases before this one.
    pub(super) updates: u64,
    /// `None` once the last secret was exported.
    pub(super) exporter: Mutex<Option<Secret>>,
}

impl Traffic {
    /// The keys of this key phase; header keys stay the same in all of them.
    pub(super) fn keys(&self) -> Keys {
        NOISE.keys(&self.local, &self.remote)
    }

    /// Goes to the next key phase (RFC 9001, section 6.1) and returns its keys. The secrets of the
    /// phase before are then gone. [NOISE-24]
    #[inline(never)]
    pub(super) fn update(&mut self) -> KeyPair<Box<dyn PacketKey>> {
        self.local = derive(&self.local, b"hark1 ku", &[]);
        self.remote = derive(&self.remote, b"hark1 ku", &[]);
        self.updates += 1;
        NOISE.packet_keys(&self.local, &self.remote)
    }

    /// Fills `out` with a secret of this connection for one purpose. The secrets of the fast path
    /// are the last to be exported: the exporter secret would open all packets of the fast path for
    /// ever. [NOISE-25]
    #[inline(never)]
    pub(super) fn export(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        if out.len() > LONGEST_EXPORT {
            return Err(ExportKeyingMaterialError);
        }
        // The secret is there or not, even if a thread has panicked.
        let mut exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = exporter.as_ref().ok_or(ExportKeyingMaterialError)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&(label.len() as u64).to_be_bytes());
        hash.update(label);
        hash.update(context);
        expand_label(secret, b"hark1 export", hash.finish().as_ref(), out);
        if label == fast::EXPORT_LABEL {
            *exporter = None;
        }
        Ok(())
    }
}

/// The keys of Initial packets (RFC 9001, section 5.2, with Hark's own salt). They keep nothing
/// secret, but only somebody who has seen the packet can answer it. [NOISE-5]
pub(super) fn initial_keys(destination: &ConnectionId, side: Side) -> Keys {
    let [client, server] = initial_secrets(&INITIAL_SALT, destination);
    match side {
        Side::Client => INITIAL.keys(&client, &server),
        Side::Server => INITIAL.keys(&server, &client),
    }
}

pub(super) fn initial_secrets(salt: &[u8], destination: &ConnectionId) -> [Secret; 2] {
    let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), destination);
    let mut secret = Secret::default();
    secret.copy_from_slice(extracted.as_ref());
    [derive(&secret, b"tls13 client in", &[]), derive(&secret, b"tls13 server in", &[])]
}

/// The key and nonce that authenticate Retry packets (RFC 9001, section 5.8).
pub(super) struct Retry {
    key: [u8; 16],
    nonce: [u8; aead::NONCE_LEN],
}

impl Retry {
    pub(super) const fn new(key: [u8; 16], nonce: [u8; aead::NONCE_LEN]) -> Self {
        Self { key, nonce }
    }

    /// The tag of `packet`, a Retry packet without its tag.
    pub(super) fn tag(&self, original: &ConnectionId, packet: &[u8]) -> [u8; RETRY_TAG_LENGTH] {
        let associated = aead::Aad::from(pseudo_packet(original, &[packet]));
        let tag = self.key().seal_in_place_separate_tag(self.nonce(), associated, &mut []);
        let tag = tag.expect("nothing is not too long to seal");
        tag.as_ref().try_into().expect("the tag of AES-GCM has 16 bytes")
    }

    /// Whether `payload` ends with the tag of the packet that consists of `header` and `payload`.
    pub(super) fn is_valid(&self, original: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some((token, tag)) = payload.split_last_chunk::<RETRY_TAG_LENGTH>() else {
            return false;
        };
        let associated = aead::Aad::from(pseudo_packet(original, &[header, token]));
        self.key().open_in_place(self.nonce(), associated, &mut tag.clone()).is_ok()
    }

    fn key(&self) -> aead::LessSafeKey {
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, &self.key);
        aead::LessSafeKey::new(key.expect("the key has 16 bytes"))
    }

    fn nonce(&self) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(self.nonce)
    }
}

/// A secret from which others are derived. It stays in one place: a move leaves a copy behind.
pub(crate) type Secret = Box<Zeroizing<[u8; 32]>>;

/// HKDF-Expand-Label of RFC 8446 section 7.1, with the whole label given, prefix included.
pub(crate) fn expand_label(secret: &[u8; 32], label: &[u8], context: &[u8], out: &mut [u8]) {
    let length = u16::try_from(out.len()).expect("no key is that long").to_be_bytes();
    let label_length = [u8::try_from(label.len()).expect("labels are short")];
    let context_length = [u8::try_from(context.len()).expect("contexts are hashes")];
    let info: [&[u8]; 5] = [&length, &label_length, label, &context_length, context];
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret)
        .expand(&info, Length(out.len()))
        .and_then(|expanded| expanded.fill(out))
        .expect("no key is longer than HKDF can make");
}

fn derive(secret: &[u8; 32], label: &[u8], context: &[u8]) -> Secret {
    let mut derived = Secret::default();
    expand_label(secret, label, context, &mut **derived);
    derived
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn pseudo_packet(original: &ConnectionId, parts: &[&[u8]]) -> Vec<u8> {
    let length = u8::try_from(original.len()).expect("connection ids have at most 20 bytes");
    [&[length], &original[..], &parts.concat()].concat()
}

/// The first 20 bytes of SHA-256 of "hark 1 initial salt". [NOISE-5]
pub(super) const INITIAL_SALT: [u8; 20] = [
    0xe8, 0x2d, 0x8f, 0x43, 0xc2, 0x2b, 0x83, 0x65, 0xe3, 0xc3, 0xdd, 0x4e, 0x52, 0x09, 0xcc, 0x10,
    0x9b, 0x36, 0x9a, 0x52,
];

/// The first 16 bytes of SHA-256 of "hark 1 retry key" and the first 12 of that of "hark 1 retry
/// nonce". [NOISE-6]
pub(super) const RETRY: Retry = Retry::new(
    [
        0x04, 0x2d, 0x3e, 0x9a, 0x12, 0x6a, 0xd3, 0xe6, 0x0e, 0x0e, 0x55, 0xea, 0x94, 0xb4, 0xa2,
        0xc9,
    ],
    [0x57, 0xed, 0x31, 0x03, 0x2f, 0x4d, 0xde, 0xee, 0xe2, 0x49, 0xd8, 0xc9],
);

const RETRY_TAG_LENGTH: usize = 16;

/// The most that HKDF with SHA-256 can make. A longer export is refused.
const LONGEST_EXPORT: usize = 255 * 32;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn agreement() -> Agreement {
        let [client, server] = [1, 2].map(|byte| Zeroizing::new([byte; 32]));
        Agreement { client, server, hash: [3; 32] }
    }

    /// The values of docs/noise.md, which another program has computed. [NOISE-23]
    #[test]
    fn traffic_secrets_are_the_published_ones() {
        let mut traffic = agreement().traffic(Side::Client);
        assert_eq!(
            HEXLOWER.encode(&**traffic.local),
            "02114ce9821e84684e1ffbc7fa5ec82b52a487fca2c5beb9a554d1fa5d19d686"
        );
        assert_eq!(
            HEXLOWER.encode(&**traffic.remote),
            "c5708945c92cd491f41d98957df6614fbae37a5c170c3ee40e99cc49d9dca806"
        );
        let mut exported = [0; 32];
        traffic.export(&mut exported, b"hark hello", b"context").unwrap();
        assert_eq!(
            HEXLOWER.encode(&exported),
            "8649a42b77b6acd69c1f8acd6b969fd97fc04b30f35a1676eeef84e24521b12a"
        );
        // [PROTO-8.2]
        let mut exported = [0; fast::EXPORT_LENGTH];
        traffic.export(&mut exported, fast::EXPORT_LABEL, b"").unwrap();
        assert_eq!(
            HEXLOWER.encode(&exported),
            "a64abf3dee5634146efb38f8944a4b3967bcece0d94f974174618b20909757832c667c9cee355287\
             b7bef8ae1a64f4f0877e2f921a7671379ca5f8255d3cd3bd18768bb252e437f8"
        );
        let _keys = traffic.update();
        assert_eq!(
            HEXLOWER.encode(&**traffic.local),
            "d2b50c726d25adf56cd4e568968bd942b16df18eabe167dc177b267729c86681"
        );
    }

    /// What the client seals with Handshake keys opens only with the published secret's keys.
    /// [NOISE-22]
    #[test]
    fn handshake_secrets_are_the_published_ones() {
        let published = |text: &str| {
            let bytes = HEXLOWER.decode(text.as_bytes()).unwrap();
            <[u8; 32]>::try_from(bytes).unwrap()
        };
        let client = published("c8402d24bb621866d72404ae635f0db02a66422733485daeb3e499880acda5c7");
        let server = published("db50eb2b0e389832322195078a7dfa2fee8f65812eafdf3380e4f83462866b82");
        let packets = agreement().handshake_keys(Side::Client).packet;
        let other = NOISE.keys(&server, &client).packet;
        let mut packet = vec![0; 20];
        packets.local.encrypt(7, &mut packet, 0);
        let mut payload = bytes::BytesMut::from(&packet[..]);
        other.remote.decrypt(7, &[], &mut payload).unwrap();
        assert_eq!(&payload[..], [0; 4]);
        other.local.encrypt(7, &mut packet, 0);
        packets.remote.decrypt(7, &[], &mut bytes::BytesMut::from(&packet[..])).unwrap();
    }

    #[test]
    fn longer_exports_than_hkdf_makes_are_refused() {
        let traffic = agreement().traffic(Side::Server);
        assert!(traffic.export(&mut vec![0; LONGEST_EXPORT], b"label", b"").is_ok());
        assert!(traffic.export(&mut vec![0; LONGEST_EXPORT + 1], b"label", b"").is_err());
    }

    #[test]
    fn constants_come_from_their_names() {
        let hash = |name: &str| digest::digest(&digest::SHA256, name.as_bytes());
        assert_eq!(hash("hark 1 initial salt").as_ref()[..20], INITIAL_SALT);
        assert_eq!(hash("hark 1 retry key").as_ref()[..16], RETRY.key);
        assert_eq!(hash("hark 1 retry nonce").as_ref()[..12], RETRY.nonce);
    }
}
