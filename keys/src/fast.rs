//! Sealing of the packets of the fast path: a link's datagrams beside QUIC, on the same socket.
//!
//! The keys come from the link's Noise handshake, one for each direction. They are replaced one way
//! while the link stands: no key that is left opens what was sealed a minute ago. Layout and
//! numbers are those of `docs/protocol.md`, section 8. This module knows nothing of sockets, nor of
//! which path works.
//!
//! ```text
//!  exporter of the link ── keys ─┬─ Sealer    what we send: counts, seals
//!                                └─ Opener    what comes: opens, once each
//! ```

mod window;

use ring::aead;
use zeroize::Zeroizing;

use self::window::Window;
use crate::{
    noise::{Secret, expand_label},
    wipe::{scrub_stack, wipe_key},
};

/// What a fast packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One datagram of the link.
    Datagram = 0x20,
    /// Asks whether packets arrive: holds a token of [`TOKEN_LENGTH`] bytes.
    Probe = 0x21,
    /// Says that a probe has arrived: holds its token.
    Answer = 0x22,
    /// Informs the side that has dialled that it is seen at another address than QUIC knows: holds
    /// nothing.
    Notice = 0x23,
    /// A sign of life each second: holds four bytes of [`Opener::next`], which counts the packets
    /// of the other side.
    Heartbeat = 0x24,
}

impl Kind {
    /// Whether packets of this kind are sent only while the path works.
    fn is_use(self) -> bool {
        matches!(self, Self::Datagram | Self::Heartbeat)
    }
}

/// The bytes of a probe, which its answer repeats.
pub type Token = [u8; TOKEN_LENGTH];

/// Why a packet was not opened. A refused packet changes no state, whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is too short, of an unknown kind, or for another link.
    #[error("no fast packet of this link")]
    Malformed,
    /// It was opened before, or is too old to tell.
    #[error("a fast packet came twice, or too late")]
    Replayed,
    /// It was not sealed with the key.
    #[error("a fast packet is not authentic")]
    Forged,
}

/// The two ends of a link's fast path, made from the [`EXPORT_LENGTH`] bytes that the link exports
/// with the label [`EXPORT_LABEL`] and no context. [PROTO-8.2]
pub fn keys(exported: &[u8; EXPORT_LENGTH], dialled: bool) -> (Sealer, Opener) {
    let (secrets, indices) = exported.split_at(64);
    let secret = |number: usize| {
        let mut secret = Secret::default();
        secret.copy_from_slice(&secrets[32 * number..][..32]);
        secret
    };
    let index =
        |number: usize| u32::from_be_bytes(std::array::from_fn(|byte| indices[4 * number + byte]));
    let (ours, theirs) = if dialled { (0, 1) } else { (1, 0) };
    let ends = (Sealer::new(secret(ours), index(ours)), Opener::new(secret(theirs), index(theirs)));
    scrub_stack();
    ends
}

/// The index of the link that `packet` claims to be for, if it has the form of a fast packet.
pub fn index_of(packet: &[u8]) -> Option<u32> {
    Header::parse(packet).map(|header| header.index)
}

/// Seals packets to the other end of a link. It must not be cloned, so that no counter is used
/// twice.
pub struct Sealer {
    index: u32,
    /// The number of the next packet.
    counter: u64,
    /// The number of the first packet that `key` does not seal.
    end: u64,
    /// The bit of the first byte that distinguishes the generation of `key` from its neighbours.
    phase: u8,
    /// Whether `key` has sealed anything other than probes, answers and notices.
    used: bool,
    key: Key,
    /// The secret of the generation of `key`.
    secret: Secret,
}

impl Sealer {
    fn new(secret: Secret, index: u32) -> Self {
        let key = Key::of(&secret);
        Self { index, counter: 0, end: GENERATION, phase: 0, used: false, key, secret }
    }

    /// Writes the packet that holds `payload` to the front of `out`, and returns its length. `out`
    /// must be at least [`OVERHEAD`] bytes longer than `payload`.
    ///
    /// # Panics
    ///
    /// If `out` is too short.
    #[inline]
    pub fn seal(&mut self, kind: Kind, payload: &[u8], out: &mut [u8]) -> usize {
        let counter = self.counter;
        // [PROTO-8.4] A key seals 2^22 packets.
        if counter == self.end {
            self.go_on();
        }
        self.counter += 1;
        self.used |= kind.is_use();
        let (header, rest) = out.split_at_mut(HEADER_LENGTH);
        header[0] = kind as u8 | self.phase;
        header[1..5].copy_from_slice(&self.index.to_be_bytes());
        // [PROTO-8.3] Only the lower half is sent; the receiver knows the upper half.
        header[5..].copy_from_slice(&counter.to_be_bytes()[4..]);
        let (sealed, rest) = rest.split_at_mut(payload.len());
        sealed.copy_from_slice(payload);
        let tag = self
            .key
            .cipher
            .seal_in_place_separate_tag(self.key.nonce(counter), aead::Aad::from(header), sealed)
            .expect("a packet is far shorter than the AEAD's limit");
        rest[..TAG_LENGTH].copy_from_slice(tag.as_ref());
        payload.len() + OVERHEAD
    }

    /// Goes to the next generation and erases this one, if it has sealed a datagram or a heartbeat.
    /// The caller calls this by the clock. [PROTO-8.4]
    pub fn renew(&mut self) {
        // While the path does not work, the other end stays in its generation as well.
        if self.used {
            self.go_on();
        }
    }

    /// The number of packets that were sealed.
    pub fn sealed(&self) -> u64 {
        self.counter
    }

    #[cold]
    fn go_on(&mut self) {
        self.advance();
        scrub_stack();
    }

    #[inline(never)]
    fn advance(&mut self) {
        self.secret = next(&self.secret);
        self.key = Key::of(&self.secret);
        self.phase ^= PHASE;
        self.end = self.counter + GENERATION;
        self.used = false;
    }
}

/// Opens packets from the other end of a link, each once.
pub struct Opener {
    index: u32,
    window: Window,
    /// The keys of three generations in a ring: the one before, while packets of it may come, this
    /// one and the next. A key never moves in memory, so that it can be erased.
    keys: [Option<Key>; 3],
    /// The place in `keys` of the generation of the newest authentic packet.
    current: usize,
    /// The bit of the first byte of this generation's packets.
    phase: u8,
    /// The number of the first packet of this generation that arrived. Only packets that it
    /// overtook have lower numbers.
    since: u64,
    /// Whether this generation has opened a datagram or a heartbeat.
    used: bool,
    /// The secret of the next generation.
    secret: Secret,
    /// Seconds since the current generation began here.
    age: u32,
    /// Seconds since the last new packet.
    silence: u32,
    /// One more than the highest number of a packet that was opened by the last second.
    heard: u64,
}

impl Opener {
    fn new(secret: Secret, index: u32) -> Self {
        let current = Key::of(&secret);
        let secret = next(&secret);
        Self {
            index,
            window: Window::default(),
            keys: [Some(current), Some(Key::of(&secret)), None],
            current: 0,
            phase: 0,
            since: 0,
            used: false,
            secret,
            age: 0,
            silence: 0,
            heard: 0,
        }
    }

    /// The index that packets to this end carry.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// One more than the highest number of a packet that was opened; 0 before the first.
    pub fn next(&self) -> u64 {
        self.window.next()
    }

    /// Opens `packet` in place and returns its kind and its payload.
    ///
    /// # Errors
    ///
    /// See [`Refused`]. The window and the keys are then unchanged. [PROTO-8.5]
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<(Kind, &'a mut [u8]), Refused> {
        let header = Header::parse(packet).ok_or(Refused::Malformed)?;
        if header.index != self.index {
            return Err(Refused::Malformed);
        }
        let counter = self.window.expand(header.counter);
        if !self.window.is_new(counter) {
            return Err(Refused::Replayed);
        }
        let place = if header.phase == self.phase {
            self.current
        } else if counter < self.since {
            before(self.current)
        } else {
            after(self.current)
        };
        let key = self.keys[place].as_ref().ok_or(Refused::Replayed)?;
        let (header_bytes, sealed) = packet.split_at_mut(HEADER_LENGTH);
        let payload = key
            .cipher
            .open_in_place(key.nonce(counter), aead::Aad::from(header_bytes), sealed)
            .map_err(|_| Refused::Forged)?;
        self.window.take(counter);
        if place == after(self.current) {
            self.go_on(counter);
        }
        self.used |= place == self.current && header.kind.is_use();
        Ok((header.kind, payload))
    }

    /// A second has passed: erases keys that would open only packets that come too late, or not at
    /// all. [PROTO-8.4] [PROTO-8.20]
    pub fn pass_second(&mut self) {
        self.age = self.age.saturating_add(1);
        if self.age >= PREVIOUS_KEPT {
            self.keys[before(self.current)] = None;
        }
        let next = self.window.next();
        self.silence = if next == self.heard { self.silence.saturating_add(1) } else { 0 };
        self.heard = next;
        // The other end has gone to its next generation by its clock, and its packets have not
        // come.
        if self.used && self.silence >= SILENCE {
            self.go_on(next);
            self.keys[before(self.current)] = None;
        }
    }

    /// Goes to the next generation, whose first packet has the number `since`.
    #[cold]
    fn go_on(&mut self, since: u64) {
        self.advance(since);
        scrub_stack();
    }

    #[inline(never)]
    fn advance(&mut self, since: u64) {
        self.secret = next(&self.secret);
        self.current = after(self.current);
        self.keys[after(self.current)] = Some(Key::of(&self.secret));
        self.phase ^= PHASE;
        self.since = since;
        self.used = false;
        self.age = 0;
    }
}

/// The place in the ring of the generation after the one in `place`.
fn after(place: usize) -> usize {
    if place == 2 { 0 } else { place + 1 }
}

/// The place in the ring of the generation before the one in `place`.
fn before(place: usize) -> usize {
    if place == 0 { 2 } else { place - 1 }
}

/// The fields of a packet that can be read without a key.
struct Header {
    kind: Kind,
    phase: u8,
    index: u32,
    counter: u32,
}

impl Header {
    fn parse(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<HEADER_LENGTH>()?;
        if rest.len() < TAG_LENGTH || packet.len() > PACKET_MAX {
            return None;
        }
        let [first, i0, i1, i2, i3, c0, c1, c2, c3] = *header;
        let phase = first & PHASE;
        let kind = match first ^ phase {
            0x20 => Kind::Datagram,
            0x21 => Kind::Probe,
            0x22 => Kind::Answer,
            0x23 => Kind::Notice,
            0x24 => Kind::Heartbeat,
            _ => return None,
        };
        let (index, counter) = ([i0, i1, i2, i3], [c0, c1, c2, c3]);
        let (index, counter) = (u32::from_be_bytes(index), u32::from_be_bytes(counter));
        Some(Self { kind, phase, index, counter })
    }
}

/// AES-128-GCM under the key of one generation of one direction.
struct Key {
    cipher: aead::LessSafeKey,
    iv: Zeroizing<[u8; aead::NONCE_LEN]>,
}

impl Key {
    fn of(secret: &Secret) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        expand_label(secret, b"hark1 fast key", &[], key.as_mut());
        let mut iv = Zeroizing::new([0; aead::NONCE_LEN]);
        expand_label(secret, b"hark1 fast iv", &[], iv.as_mut());
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, key.as_ref());
        Self { cipher: aead::LessSafeKey::new(key.expect("the key has 16 bytes")), iv }
    }

    #[inline]
    fn nonce(&self, counter: u64) -> aead::Nonce {
        let mut nonce = *self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(counter.to_be_bytes()) {
            *byte ^= number;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        wipe_key(&mut self.cipher, &aead::AES_128_GCM);
    }
}

/// The secret of the generation after that of `secret`.
fn next(secret: &Secret) -> Secret {
    let mut next = Secret::default();
    expand_label(secret, b"hark1 fast ku", &[], &mut **next);
    next
}

/// The label for the link's exporter. [PROTO-8.2]
pub const EXPORT_LABEL: &[u8] = b"hark fast";

/// Bytes exported: two secrets, two indices.
pub const EXPORT_LENGTH: usize = 2 * 32 + 2 * 4;

/// Bytes of a probe's token.
pub const TOKEN_LENGTH: usize = 8;

/// The bytes of a packet besides its payload.
pub const OVERHEAD: usize = HEADER_LENGTH + TAG_LENGTH;

/// Bytes of the longest packet: it fits into one Ethernet frame, even with IPv6. [PROTO-8.1]
pub const PACKET_MAX: usize = 1_452;

/// Bytes of the longest datagram that a packet can hold.
pub const PAYLOAD_MAX: usize = PACKET_MAX - OVERHEAD;

/// Kind, index, counter.
const HEADER_LENGTH: usize = 1 + 4 + 4;

const TAG_LENGTH: usize = 16;

/// Packets that one key seals. RFC 9001 allows 2^23 of any size (section 6.6) and 2^28 of ours
/// (appendix B.1.1). It allows 2^52 forgeries or more for one key, which nobody can send.
const GENERATION: u64 = 1 << 22;

/// The bit of the first byte that changes with each generation.
const PHASE: u8 = 0x08;

/// Seconds for which packets of a generation may still come after the first of the next. No packet
/// that is still useful takes longer.
const PREVIOUS_KEPT: u32 = 3;

/// Seconds without a new packet after which a receiver goes to the next generation by itself. They
/// are more than pass between two calls of [`Sealer::renew`], so the sender has done so before.
const SILENCE: u32 = 30;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
