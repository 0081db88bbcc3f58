//! Noise XX and the identities at its ends: the three messages, without frames or packets.

use std::{hint::black_box, sync::Arc};

use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::{QUIC_VERSION, resolver::Resolver, schedule::Agreement};
use crate::{DeviceId, DeviceKey, Random, Signature, decode, encode};

/// A Noise handshake under way. [`super::session`] makes the calls in the order of the messages.
pub(super) struct Handshake {
    noise: HandshakeState,
    static_key: Vec<u8>,
    random: Arc<dyn Random>,
}

/// Why a handshake failed. The peer learns only the alert (RFC 9001, section 4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum HandshakeError {
    #[error("handshake bytes where none are expected")]
    Unexpected,
    #[error("handshake message of a length that it cannot have")]
    Length,
    #[error("handshake message does not authenticate")]
    Noise,
    #[error("malformed identity")]
    Identity,
    #[error("the identity's signature does not match")]
    Signature,
    #[error("malformed transport parameters")]
    Parameters,
    #[error("the peer is another device than expected")]
    OtherPeer,
}

impl Handshake {
    /// A handshake with a static key that is used only for it. [NOISE-9]
    pub(super) fn new(initiator: bool, random: &Arc<dyn Random>) -> Self {
        let pattern = PATTERN.parse().expect("the pattern is one that snow knows");
        let builder = Builder::with_resolver(pattern, Box::new(Resolver(Arc::clone(random))));
        let keypair = builder.generate_keypair().expect("our source of randomness never fails");
        let secret = Zeroizing::new(keypair.private);
        let prologue = prologue();
        let noise =
            builder
                .local_private_key(&secret)
                .and_then(|builder| builder.prologue(&prologue))
                .and_then(|builder| {
                    if initiator { builder.build_initiator() } else { builder.build_responder() }
                })
                .expect("XX needs no more than a static key");
        Self { noise, static_key: keypair.public, random: Arc::clone(random) }
    }

    /// The client's first message: its transport parameters, in clear. [NOISE-10]
    pub(super) fn write_first(&mut self, parameters: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.write(parameters)
    }

    /// The client's transport parameters, which nothing has proven yet.
    pub(super) fn read_first(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.read(message)
    }

    /// The server's message: its identity and its transport parameters. [NOISE-11]
    pub(super) fn write_second(
        &mut self,
        key: &DeviceKey,
        parameters: &[u8],
    ) -> Result<Vec<u8>, HandshakeError> {
        let claim = [self.hash().as_slice(), &self.static_key, parameters].concat();
        let mut payload = identity(key, SERVER, &claim);
        payload.extend_from_slice(parameters);
        self.write(&payload)
    }

    /// The server's proven identity and its transport parameters.
    pub(super) fn read_second(
        &mut self,
        message: &[u8],
    ) -> Result<(DeviceId, Vec<u8>), HandshakeError> {
        let hash = self.hash();
        let mut payload = self.read(message)?;
        if payload.len() < IDENTITY_LENGTH {
            return Err(HandshakeError::Identity);
        }
        let parameters = payload.split_off(IDENTITY_LENGTH);
        let claim = [hash.as_slice(), self.remote_static()?, &parameters].concat();
        Ok((proven(&payload, SERVER, &claim)?, parameters))
    }

    /// The client's last message: its identity. The hash that it signs covers both sides' transport
    /// parameters. [NOISE-13]
    pub(super) fn write_third(&mut self, key: &DeviceKey) -> Result<Vec<u8>, HandshakeError> {
        let claim = [self.hash().as_slice(), &self.static_key].concat();
        self.write(&identity(key, CLIENT, &claim))
    }

    /// The client's proven identity.
    pub(super) fn read_third(&mut self, message: &[u8]) -> Result<DeviceId, HandshakeError> {
        let hash = self.hash();
        let payload = self.read(message)?;
        let claim = [hash.as_slice(), self.remote_static()?].concat();
        proven(&payload, CLIENT, &claim)
    }

    /// The secrets that both sides have agreed on so far.
    ///
    /// Noise defines `Split()` for the end of a handshake. snow computes it at any time as
    /// HKDF(chaining key, ""). This changes nothing of snow's state, which snow does not document.
    /// After the second message the result depends on `ee` and `es`, so that it is secret, and on a
    /// chaining key that no later output shares. A test checks this, and the version of snow is
    /// fixed. [NOISE-22]
    pub(super) fn agreement(&mut self) -> Agreement {
        let (client, server) = self.noise.dangerously_get_raw_split();
        Agreement {
            client: Zeroizing::new(client),
            server: Zeroizing::new(server),
            hash: self.hash(),
        }
    }

    fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut message = vec![0; LONGEST_OVERHEAD + payload.len()];
        let length =
            self.noise.write_message(payload, &mut message).map_err(|_| HandshakeError::Noise)?;
        message.truncate(length);
        Ok(message)
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut payload = vec![0; message.len()];
        let length =
            self.noise.read_message(message, &mut payload).map_err(|_| HandshakeError::Noise)?;
        payload.truncate(length);
        Ok(payload)
    }

    fn hash(&self) -> [u8; 32] {
        self.noise.get_handshake_hash().try_into().expect("SHA-256 has 32 bytes")
    }

    fn remote_static(&self) -> Result<&[u8], HandshakeError> {
        self.noise.get_remote_static().ok_or(HandshakeError::Noise)
    }
}

impl Drop for Handshake {
    /// Replaces the handshake by a blank one. This overwrites the chaining key, from which all
    /// later keys come and which snow does not erase. It drops the boxes, whose contents erase
    /// themselves. [`Resolver`]
    fn drop(&mut self) {
        let pattern = BLANK.parse().expect("the pattern is one that snow knows");
        let builder = Builder::with_resolver(pattern, Box::new(Resolver(self.random.clone())));
        self.noise = builder.build_initiator().expect("NN needs no key");
        black_box(&mut self.noise);
    }
}

impl HandshakeError {
    /// The nearest TLS alert (RFC 8446, section 6). [NOISE-19]
    pub(super) fn alert(self) -> u8 {
        match self {
            Self::Unexpected => 10,
            Self::OtherPeer => 46,
            Self::Length | Self::Identity | Self::Parameters => 50,
            Self::Noise | Self::Signature => 51,
        }
    }
}

/// The prologue, which must be the same on both sides for the handshake to succeed. [NOISE-8]
pub(super) fn prologue() -> Vec<u8> {
    [b"hark noise 1".as_slice(), &QUIC_VERSION.to_be_bytes()].concat()
}

fn identity(key: &DeviceKey, kind: &str, claim: &[u8]) -> Vec<u8> {
    let mut bytes = key.id().as_bytes().to_vec();
    bytes.extend_from_slice(&encode(&key.sign(kind, claim)));
    bytes
}

/// [NOISE-14]
fn proven(identity: &[u8], kind: &str, claim: &[u8]) -> Result<DeviceId, HandshakeError> {
    let (id, signature) = identity.split_first_chunk().ok_or(HandshakeError::Identity)?;
    let id = DeviceId::from_bytes(*id).ok().filter(DeviceId::is_point);
    let id = id.ok_or(HandshakeError::Identity)?;
    let signature: Signature =
        decode(signature, SIGNATURE_LENGTH).map_err(|_| HandshakeError::Identity)?;
    id.verify(kind, claim, &signature).map_err(|_| HandshakeError::Signature)?;
    Ok(id)
}

pub(super) const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// A handshake without any key, which overwrites another one.
const BLANK: &str = "Noise_NN_25519_ChaChaPoly_SHA256";

/// Kinds of the two signatures, so that neither is valid in the place of the other.
pub(super) const SERVER: &str = "noise server";
pub(super) const CLIENT: &str = "noise client";

const SIGNATURE_LENGTH: usize = 64;

/// Bytes of a device id and a signature.
pub(super) const IDENTITY_LENGTH: usize = 32 + SIGNATURE_LENGTH;

/// The most that Noise adds to a payload: an ephemeral key, a static key, and a tag for each of
/// static key and payload. (snow wants room for a tag even where there is none.)
pub(super) const LONGEST_OVERHEAD: usize = 32 + 32 + 16 + 16;
