//! Packet and header protection (RFC 9001, section 5) with ring. [NOISE-2]

use bytes::BytesMut;
use quinn_proto::crypto::{self, CryptoError, KeyPair, Keys};
use ring::aead;
use zeroize::Zeroizing;

use super::schedule::expand_label;
use crate::wipe::wipe_key;

/// An AEAD, its header cipher, and the labels of their keys.
pub(super) struct Suite {
    aead: &'static aead::Algorithm,
    header: &'static aead::quic::Algorithm,
    key_label: &'static [u8],
    iv_label: &'static [u8],
    header_label: &'static [u8],
    /// Packets that one key may protect (RFC 9001, section 6.6). quinn updates keys before it is
    /// reached, and ends the connection if it cannot.
    confidentiality_limit: u64,
    /// Packets that may fail to open before quinn ends the connection, RFC 9001 section 6.6.
    integrity_limit: u64,
}

/// The suite of Initial packets, with the labels of RFC 9001 section 5.1. [NOISE-4] [NOISE-5]
pub(super) static INITIAL: Suite = Suite {
    aead: &aead::AES_128_GCM,
    header: &aead::quic::AES_128,
    key_label: b"tls13 quic key",
    iv_label: b"tls13 quic iv",
    header_label: b"tls13 quic hp",
    confidentiality_limit: 1 << 23,
    integrity_limit: 1 << 52,
};

/// The suite of all other packets, with Hark's own labels. [NOISE-21]
pub(super) static NOISE: Suite = Suite {
    aead: &aead::CHACHA20_POLY1305,
    header: &aead::quic::CHACHA20,
    key_label: b"hark1 key",
    iv_label: b"hark1 iv",
    header_label: b"hark1 hp",
    // More packets than a connection can number.
    confidentiality_limit: u64::MAX,
    integrity_limit: 1 << 36,
};

impl Suite {
    /// The keys of both directions of one packet number space.
    pub(super) fn keys(&'static self, local: &[u8; 32], remote: &[u8; 32]) -> Keys {
        Keys {
            header: KeyPair { local: self.header_key(local), remote: self.header_key(remote) },
            packet: self.packet_keys(local, remote),
        }
    }

    /// Packet keys only: header keys outlive key updates.
    pub(super) fn packet_keys(
        &'static self,
        local: &[u8; 32],
        remote: &[u8; 32],
    ) -> KeyPair<Box<dyn crypto::PacketKey>> {
        KeyPair { local: self.packet_key(local), remote: self.packet_key(remote) }
    }

    fn packet_key(&'static self, secret: &[u8; 32]) -> Box<dyn crypto::PacketKey> {
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..self.aead.key_len()];
        expand_label(secret, self.key_label, &[], key);
        let mut iv = Zeroizing::new([0; aead::NONCE_LEN]);
        expand_label(secret, self.iv_label, &[], iv.as_mut());
        Box::new(PacketKey::new(self, key, iv))
    }

    fn header_key(&'static self, secret: &[u8; 32]) -> Box<dyn crypto::HeaderKey> {
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..self.header.key_len()];
        expand_label(secret, self.header_label, &[], key);
        Box::new(HeaderKey::new(self, key))
    }
}

/// Protects the payloads of one direction in one key phase, RFC 9001 section 5.3.
pub(super) struct PacketKey {
    suite: &'static Suite,
    key: aead::LessSafeKey,
    iv: Zeroizing<[u8; aead::NONCE_LEN]>,
}

impl PacketKey {
    pub(super) fn new(
        suite: &'static Suite,
        key: &[u8],
        iv: Zeroizing<[u8; aead::NONCE_LEN]>,
    ) -> Self {
        let key = aead::UnboundKey::new(suite.aead, key).expect("keys have the suite's length");
        Self { suite, key: aead::LessSafeKey::new(key), iv }
    }

    fn nonce(&self, packet: u64) -> aead::Nonce {
        let mut nonce = *self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(packet.to_be_bytes()) {
            *byte ^= number;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for PacketKey {
    fn drop(&mut self) {
        wipe_key(&mut self.key, self.suite.aead);
    }
}

impl crypto::PacketKey for PacketKey {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header_length: usize) {
        let (header, rest) = buffer.split_at_mut(header_length);
        let (payload, tag) = rest.split_at_mut(rest.len() - self.tag_len());
        let sealed = self
            .key
            .seal_in_place_separate_tag(self.nonce(packet), aead::Aad::from(header), payload)
            .expect("a packet is far shorter than the AEAD's limit");
        tag.copy_from_slice(sealed.as_ref());
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let nonce = self.nonce(packet);
        let length = self.key.open_in_place(nonce, aead::Aad::from(header), payload)?.len();
        payload.truncate(length);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.suite.aead.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality_limit
    }

    fn integrity_limit(&self) -> u64 {
        self.suite.integrity_limit
    }
}

/// Hides the packet numbers of one direction, RFC 9001 section 5.4.
pub(super) struct HeaderKey(aead::quic::HeaderProtectionKey);

impl HeaderKey {
    pub(super) fn new(suite: &'static Suite, key: &[u8]) -> Self {
        let key = aead::quic::HeaderProtectionKey::new(suite.header, key);
        Self(key.expect("keys have the suite's length"))
    }

    fn mask(&self, number_offset: usize, packet: &[u8]) -> [u8; 5] {
        let sample =
            &packet[number_offset + LONGEST_NUMBER..][..crypto::HeaderKey::sample_size(self)];
        self.0.new_mask(sample).expect("the sample has the cipher's length")
    }
}

impl crypto::HeaderKey for HeaderKey {
    fn decrypt(&self, number_offset: usize, packet: &mut [u8]) {
        let mask = self.mask(number_offset, packet);
        packet[0] ^= mask[0] & protected_bits(packet[0]);
        let length = number_length(packet[0]);
        mask_number(&mut packet[number_offset..][..length], &mask);
    }

    fn encrypt(&self, number_offset: usize, packet: &mut [u8]) {
        let mask = self.mask(number_offset, packet);
        let length = number_length(packet[0]);
        packet[0] ^= mask[0] & protected_bits(packet[0]);
        mask_number(&mut packet[number_offset..][..length], &mask);
    }

    fn sample_size(&self) -> usize {
        self.0.algorithm().sample_len()
    }
}

fn protected_bits(first: u8) -> u8 {
    if first & LONG_HEADER != 0 { 0x0f } else { 0x1f }
}

fn number_length(first: u8) -> usize {
    usize::from(first & 0x03) + 1
}

fn mask_number(number: &mut [u8], mask: &[u8; 5]) {
    for (byte, mask) in number.iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
    }
}

const LONG_HEADER: u8 = 0x80;

/// The sample is taken as if the packet number had this length.
const LONGEST_NUMBER: usize = 4;
