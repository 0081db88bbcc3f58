mod epochs;

use std::collections::BTreeSet;

use aes::{
    Aes128,
    cipher::{Block, BlockCipherEncrypt, KeyInit},
};
use proptest::prelude::*;
use ring::{
    hkdf::KeyType,
    hmac::{self, HMAC_SHA256},
};

use super::*;
use crate::{DeviceKey, SeededRandom};

fn pair() -> (TargetId, DeviceId, KeySecret) {
    let random = SeededRandom::new(1);
    let device = DeviceKey::generate(&random).id();
    (TargetId::from_bytes([3; 16]), device, KeySecret::generate(7, &random))
}

fn sealed(key: &mut SenderKey, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    key.seal(plaintext, &mut out).expect("the key is not exhausted");
    out
}

fn opened(
    keyring: &mut SenderKeyring,
    now: Timestamp,
    sealed: &[u8],
) -> Result<Vec<u8>, OpenFrameError> {
    let mut out = Vec::new();
    keyring.open(now, sealed, &mut out).map(|()| out)
}

/// The suite as RFC 9605 describes it, built from ring and a bare AES, so that the vectors of its
/// parts cover the whole.
struct Keys {
    key: [u8; 48],
    salt: [u8; 12],
}

impl Keys {
    /// RFC 9605, section 4.4.2.
    fn derive(id: u64, base_key: &[u8]) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"").extract(base_key);
        let expand = |label: &[u8], out: &mut [u8]| {
            let info: [&[u8]; 3] = [label, &id.to_be_bytes(), &[0, 1]];
            secret.expand(&info, Length(out.len())).unwrap().fill(out).unwrap();
        };
        let mut keys = Self { key: [0; 48], salt: [0; 12] };
        expand(b"SFrame 1.0 Secret key ", &mut keys.key);
        expand(b"SFrame 1.0 Secret salt ", &mut keys.salt);
        keys
    }

    /// RFC 9605, section 4.4.3.
    fn nonce(&self, counter: u64) -> [u8; 12] {
        let mut nonce = self.salt;
        nonce[4..].iter_mut().zip(counter.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        nonce
    }

    fn seal(&self, id: u64, counter: u64, metadata: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let header = SframeHeader::new(id, counter);
        let mut bytes = vec![0; header.len()];
        header.serialize(&mut bytes).unwrap();
        let aad = [&bytes[..], metadata].concat();
        bytes.extend(aes_ctr_hmac(&self.key, self.nonce(counter), &aad, plaintext));
        bytes
    }
}

/// RFC 9605, section 4.5.1.
fn aes_ctr_hmac(key: &[u8], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (encryption, authentication) = key.split_at(16);
    let cipher = Aes128::new_from_slice(encryption).unwrap();
    let mut sealed = plaintext.to_vec();
    for (number, part) in (0_u32..).zip(sealed.chunks_mut(16)) {
        let mut block = Block::<Aes128>::default();
        block[..12].copy_from_slice(&nonce);
        block[12..].copy_from_slice(&number.to_be_bytes());
        cipher.encrypt_block(&mut block);
        part.iter_mut().zip(block).for_each(|(byte, mask)| *byte ^= mask);
    }
    let mut input = Vec::new();
    for length in [aad.len(), sealed.len(), TAG_LENGTH] {
        input.extend((length as u64).to_be_bytes());
    }
    input.extend([&nonce, aad, &sealed].concat());
    let tag = hmac::sign(&hmac::Key::new(HMAC_SHA256, authentication), &input);
    sealed.extend(&tag.as_ref()[..TAG_LENGTH]);
    sealed
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The vectors of RFC 9605, appendix C, for the suite that Hark offers, through the calls that
/// [`SenderKey`] and [`SenderKeyring`] make.
#[test]
fn published_vectors() {
    let file = include_str!("vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(file).expect("JSON");
    let hex = |value: &serde_json::Value| {
        data_encoding::HEXLOWER.decode(value.as_str().expect("hex").as_bytes()).expect("hex")
    };
    let mut checked = 0;
    for vector in vectors["sframe"].as_array().expect("a list") {
        assert_eq!(vector["cipher_suite"], 1);
        let id = vector["kid"].as_u64().expect("a number");
        let counter = vector["ctr"].as_u64().expect("a number");
        let (metadata, plaintext, ciphertext) =
            (hex(&vector["metadata"]), hex(&vector["pt"]), hex(&vector["ct"]));
        let header = SframeHeader::new(id, counter);
        let mut associated = vec![0; header.len()];
        header.serialize(&mut associated).expect("room");
        let mut frame = associated.clone();
        associated.extend_from_slice(&metadata);

        let base_key = hex(&vector["base_key"]);
        let key: GenericEncryptionKey<Aead, Kdf> =
            GenericEncryptionKey::derive_from(SUITE, id, &base_key).expect("a key");
        let mut data = plaintext.clone();
        let mut tag = [0; TAG_LENGTH];
        let buffer = EncryptionBufferView { aad: &mut associated, data: &mut data, tag: &mut tag };
        key.encrypt(buffer, counter).expect("sealed");
        frame.extend_from_slice(&data);
        frame.extend_from_slice(&tag);
        assert_eq!(frame, ciphertext);

        let key: GenericDecryptionKey<Aead, Kdf> =
            GenericDecryptionKey::derive_from(SUITE, id, &base_key).expect("a key");
        let mut data = ciphertext[header.len()..].to_vec();
        let buffer = DecryptionBufferView { aad: &mut associated, data: &mut data };
        key.decrypt(buffer, counter).expect("opened");
        assert_eq!(data[..plaintext.len()], plaintext);

        let keys = Keys::derive(id, &base_key);
        assert_eq!(keys.key[..], hex(&vector["sframe_key"]));
        assert_eq!(keys.salt[..], hex(&vector["sframe_salt"]));
        assert_eq!(keys.nonce(counter)[..], hex(&vector["nonce"]));
        assert_eq!(keys.seal(id, counter, &metadata, &plaintext), ciphertext);
        checked += 1;
    }
    assert_eq!(checked, 1);

    for vector in vectors["aes_ctr_hmac"].as_array().expect("a list") {
        assert_eq!(vector["cipher_suite"], 1);
        let [key, nonce, aad, plaintext, ciphertext] =
            ["key", "nonce", "aad", "pt", "ct"].map(|name| hex(&vector[name]));
        let nonce = nonce.try_into().expect("12 bytes");
        assert_eq!(aes_ctr_hmac(&key, nonce, &aad, &plaintext), ciphertext);
        checked += 1;
    }
    assert_eq!(checked, 2);

    let headers = vectors["header"].as_array().expect("a list");
    assert_eq!(headers.len(), 289);
    for vector in headers {
        let (id, counter) = (vector["kid"].as_u64(), vector["ctr"].as_u64());
        let encoded = hex(&vector["encoded"]);
        let header = SframeHeader::new(id.expect("number"), counter.expect("number"));
        let mut bytes = vec![0; header.len()];
        header.serialize(&mut bytes).expect("room");
        assert_eq!(bytes, encoded);
        assert_eq!(SframeHeader::deserialize(&encoded).expect("a header"), header);
    }
}

#[test]
fn opens_what_was_sealed_for_this_sender_and_target_only() {
    let (target, device, secret) = pair();
    let mut key = SenderKey::new(target, device, &secret);
    let frame = sealed(&mut key, b"hello");
    assert_eq!(frame.len(), 5 + SEALED_OVERHEAD);

    let now = Timestamp::ZERO;
    let keyring = |target, device, secret: &KeySecret| {
        let mut keyring = SenderKeyring::new(target, device);
        keyring.install(now, secret);
        keyring
    };
    assert_eq!(opened(&mut keyring(target, device, &secret), now, &frame), Ok(b"hello".to_vec()));
    let stranger = DeviceKey::from_secret(&[9; 32]).id();
    assert!(opened(&mut keyring(target, stranger, &secret), now, &frame).is_err());
    let elsewhere = TargetId::from_bytes([4; 16]);
    assert!(opened(&mut keyring(elsewhere, device, &secret), now, &frame).is_err());
    let other = KeySecret::generate(7, &SeededRandom::new(2));
    assert_eq!(
        opened(&mut keyring(target, device, &other), now, &frame),
        Err(OpenFrameError::Forged)
    );
    let later = KeySecret::generate(8, &SeededRandom::new(2));
    assert_eq!(
        opened(&mut keyring(target, device, &later), now, &frame),
        Err(OpenFrameError::UnknownKey)
    );
}

/// [PROTO-6.2] All frames of a step have one size, no counter comes twice, and the step has an end.
#[test]
fn a_step_has_one_size_and_an_end() {
    let (target, device, secret) = pair();
    let mut key = SenderKey::new(target, device, &secret);
    let mut out = Vec::new();
    let mut counters = BTreeSet::new();
    while let Ok(counter) = key.seal(&[0; 4], &mut out) {
        assert_eq!(out.len(), 4 + SEALED_OVERHEAD);
        assert!(out[1] >= 0x80, "the key id's top byte is never zero");
        assert!(counters.insert(counter));
    }
    assert_eq!((counters.first(), counters.last()), (Some(&256), Some(&65_535)));
}

/// [PROTO-6.5] A device that joins hears nothing from before. A device that was there loses
/// nothing.
#[test]
fn a_joiner_does_not_open_the_past() {
    let (target, device, secret) = pair();
    let now = Timestamp::ZERO;
    let mut member = SenderKeyring::new(target, device);
    member.install(now, &secret);
    let before = sealed(&mut SenderKey::new(target, device, &secret), b"before");
    let next = secret.ratcheted();
    let mut joiner = SenderKeyring::new(target, device);
    joiner.install(now, &next);
    let after = sealed(&mut SenderKey::new(target, device, &next), b"after");
    assert_eq!(opened(&mut joiner, now, &before), Err(OpenFrameError::UnknownKey));
    assert_eq!(opened(&mut joiner, now, &after), Ok(b"after".to_vec()));
    assert_eq!(opened(&mut member, now, &after), Ok(b"after".to_vec()));
    assert_eq!(opened(&mut member, now, &before), Ok(b"before".to_vec()));
}

/// [PROTO-6.6]
#[test]
fn an_old_step_is_erased_after_ten_seconds() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &secret);
    let mut key = SenderKey::new(target, device, &secret);
    let [early, late] = [sealed(&mut key, b"early"), sealed(&mut key, b"late")];
    let mut next = secret.clone();
    for _ in 0..7 {
        next = next.ratcheted();
    }
    let ahead = sealed(&mut SenderKey::new(target, device, &next), b"next");
    let too_far = sealed(&mut SenderKey::new(target, device, &next.ratcheted()), b"too far");
    let at = Timestamp::from_millis;
    assert_eq!(opened(&mut keyring, at(0), &too_far), Err(OpenFrameError::UnknownKey));
    assert!(opened(&mut keyring, at(1_000), &ahead).is_ok());
    assert!(opened(&mut keyring, at(10_999), &early).is_ok());
    assert_eq!(opened(&mut keyring, at(11_000), &late), Err(OpenFrameError::UnknownKey));
}

/// Frames of steps that were skipped may still be under way.
#[test]
fn a_frame_of_a_step_between_opens_late() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &secret);
    let next = secret.ratcheted();
    let between = sealed(&mut SenderKey::new(target, device, &next), b"between");
    let newest = sealed(&mut SenderKey::new(target, device, &next.ratcheted()), b"newest");
    let at = Timestamp::from_millis;
    assert_eq!(opened(&mut keyring, at(0), &newest), Ok(b"newest".to_vec()));
    assert_eq!(opened(&mut keyring, at(9_999), &between), Ok(b"between".to_vec()));
    assert_eq!(opened(&mut keyring, at(10_000), &between), Err(OpenFrameError::UnknownKey));
}

/// When a talker fell silent after a step, the step before stayed in memory for hours. [PROTO-6.6]
#[test]
fn an_old_step_is_erased_though_no_further_frame_comes() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    let at = Timestamp::from_millis;
    keyring.install(at(0), &secret);
    keyring.install(at(1_000), &secret.ratcheted());
    let newer = KeySecret::generate(secret.generation + 1, &SeededRandom::new(2));
    keyring.handle_timeout(at(10_999));
    assert_eq!(keyring.chains[0].steps.len(), 2);
    keyring.handle_timeout(at(11_000));
    assert_eq!(keyring.chains[0].steps.len(), 1);
    keyring.install(at(12_000), &newer);
    keyring.handle_timeout(at(22_000));
    assert_eq!(keyring.chains.len(), 1);
}

/// [PROTO-6.21] Two minutes after a sentence no key of the listener opens it, whatever became of
/// its talker. What the talker says next opens.
#[test]
fn a_step_is_over_though_no_later_one_is_heard_of() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
    keyring.install(at(0), &secret);
    let mut key = SenderKey::new(target, device, &secret);
    let [heard, late] = [sealed(&mut key, b"heard"), sealed(&mut key, b"late")];
    keyring.handle_timeout(at(3_000));
    assert!(opened(&mut keyring, at(3_000), &heard).is_ok(), "what has opened nothing stays");
    for second in 3_001..3_100 {
        keyring.handle_timeout(at(second));
    }
    assert!(keyring.chains[0].steps.iter().any(|step| step.step == secret.step));
    keyring.handle_timeout(at(3_100));
    assert!(keyring.chains[0].steps.iter().all(|step| step.step != secret.step));
    assert!(keyring.chains[0].newest != secret);
    assert_eq!(opened(&mut keyring, at(3_100), &late), Err(OpenFrameError::UnknownKey));
    // The talker goes to its next step, and sends it.
    let next = secret.ratcheted();
    keyring.install(at(3_101), &next);
    let frame = sealed(&mut SenderKey::new(target, device, &next), b"next");
    assert_eq!(opened(&mut keyring, at(3_101), &frame), Ok(b"next".to_vec()));
}

/// [PROTO-6.7] A frame was delivered again once its key had come back.
#[test]
fn a_key_that_was_forgotten_is_not_taken_again() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    let at = Timestamp::from_millis;
    keyring.install(at(0), &secret);
    let mut key = SenderKey::new(target, device, &secret);
    let [frame, other] = [sealed(&mut key, b"attack now"), sealed(&mut key, b"wait")];
    assert!(opened(&mut keyring, at(0), &frame).is_ok());
    // A talker that is not heard for a while is heard with the same key afterwards.
    keyring.set_own_key_open(false);
    assert!(keyring.is_empty());
    assert_eq!(opened(&mut keyring, at(1), &other), Err(OpenFrameError::UnknownKey));
    keyring.set_own_key_open(true);
    assert_eq!(opened(&mut keyring, at(2), &frame), Err(OpenFrameError::Replayed));
    assert!(opened(&mut keyring, at(2), &other).is_ok());
    keyring.forget_own_key();
    keyring.install(at(3), &secret);
    assert_eq!(opened(&mut keyring, at(3), &frame), Err(OpenFrameError::UnknownKey));
    let next = secret.ratcheted();
    keyring.install(at(4), &next);
    let frame = sealed(&mut SenderKey::new(target, device, &next), b"next");
    assert!(opened(&mut keyring, at(4), &frame).is_ok());
    assert!(!keyring.is_forgettable());
    // On another link the sender may be in another run that counts from the beginning.
    keyring.handle_link_end();
    assert!(keyring.is_forgettable() && !keyring.has_own_key());
}

#[test]
fn a_key_that_opens_nothing_is_forgotten_after_a_minute() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
    keyring.install(at(0), &secret);
    keyring.set_own_key_open(false);
    keyring.handle_timeout(at(10));
    keyring.handle_timeout(at(69));
    assert!(keyring.has_own_key());
    keyring.handle_timeout(at(70));
    assert!(!keyring.has_own_key());
}

#[test]
fn a_keyring_is_empty_while_nothing_opens() {
    let (target, device, secret) = pair();
    let epoch = crate::EpochDealer::generate(&SeededRandom::new(5)).secret([0xcd; 32]);
    let mut keyring = SenderKeyring::new(target, device);
    assert!(keyring.is_empty());
    keyring.install(Timestamp::ZERO, &secret);
    assert!(!keyring.is_empty());
    keyring.set_epochs(std::slice::from_ref(&epoch));
    assert!(!keyring.is_empty());
    keyring.set_own_key_open(false);
    assert!(!keyring.is_empty(), "the epoch opens");
    keyring.set_epochs(&[]);
    assert!(keyring.is_empty(), "its own key is closed");
}

#[test]
fn a_frame_without_room_for_its_tag_is_malformed() {
    let (target, device, secret) = pair();
    let epoch = crate::EpochDealer::generate(&SeededRandom::new(5)).secret([0xcd; 32]);
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &secret);
    keyring.set_epochs(std::slice::from_ref(&epoch));
    let now = Timestamp::ZERO;
    let own = sealed(&mut SenderKey::new(target, device, &secret), b"");
    let dealt = sealed(&mut SenderKey::of_epoch(target, device, &epoch, 0), b"");
    for frame in [own, dealt] {
        let cut = &frame[..frame.len() - 1];
        assert_eq!(opened(&mut keyring, now, cut), Err(OpenFrameError::Malformed));
        assert_eq!(opened(&mut keyring, now, &frame), Ok(Vec::new()));
    }
}

/// A key message that was overtaken must not end the generation in use.
#[test]
fn an_older_generation_does_not_replace_a_newer_one() {
    let (target, device, older) = pair();
    let newer = KeySecret::generate(older.generation + 1, &SeededRandom::new(2));
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &newer);
    keyring.install(Timestamp::ZERO, &older);
    let frame = sealed(&mut SenderKey::new(target, device, &newer), b"newer");
    let later = Timestamp::from_millis(60_000);
    assert_eq!(opened(&mut keyring, later, &frame), Ok(b"newer".to_vec()));
    let frame = sealed(&mut SenderKey::new(target, device, &older), b"older");
    assert_eq!(opened(&mut keyring, later, &frame), Err(OpenFrameError::UnknownKey));
}

/// [PROTO-6.6] The generation before opens frames that are under way for ten seconds.
#[test]
fn a_newer_generation_replaces_an_older_one_after_ten_seconds() {
    let (target, device, older) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &older);
    let mut key = SenderKey::new(target, device, &older);
    let [early, late] = [sealed(&mut key, b"early"), sealed(&mut key, b"late")];
    let newer = KeySecret::generate(older.generation + 1, &SeededRandom::new(2));
    keyring.install(Timestamp::from_millis(1_000), &newer);
    assert!(opened(&mut keyring, Timestamp::from_millis(10_999), &early).is_ok());
    let after = opened(&mut keyring, Timestamp::from_millis(11_000), &late);
    assert_eq!(after, Err(OpenFrameError::UnknownKey));
}

/// Proofs of talk rest on it.
#[test]
fn a_key_knows_which_frames_it_has_sealed() {
    let (target, device, secret) = pair();
    let mut key = SenderKey::new(target, device, &secret);
    let number = FrameNumber::of(&sealed(&mut key, b"once")).expect("it is a frame");
    assert_eq!(number.counter, 256);
    assert_eq!(key.sealed(), Sealed { key: number.key, end: 257 });
    assert_eq!(key.sealed().key(), number.key);
    let frame = |key, counter| FrameNumber { key, counter };
    // Its slot is 1, its generation 2, its step 14.
    let own = 1 << 31 | 1 << 20 | 2 << 4;
    let used = Sealed { key: own | 14, end: 300 };
    assert_eq!(used.has(frame(own | 14, 299)), Some(true));
    assert_eq!(used.has(frame(own | 14, 300)), Some(false));
    // Steps count on from 15 to 0. The seven ahead are not used; the others may have been.
    for step in [15, 0, 1, 2, 3, 4, 5] {
        assert_eq!(used.has(frame(own | step, 256)), Some(false), "step {step}");
    }
    for step in [6, 7, 13] {
        assert_eq!(used.has(frame(own | step, 256)), None, "step {step}");
    }
    let other_generation = (1 << 31 | 1 << 20 | 3 << 4) | 15;
    assert_eq!(used.has(frame(other_generation, 256)), None);

    let epoch = 1 << 39 | 5 << 8;
    let used = Sealed { key: epoch | 7, end: 300 };
    assert_eq!(used.has(frame(epoch | 7, 299)), Some(true));
    assert_eq!(used.has(frame(epoch | 7, 300)), Some(false));
    assert_eq!(used.has(frame(epoch | 8, 256)), Some(false), "a later generation");
    assert_eq!(used.has(frame(epoch | 255, 256)), Some(false), "the last generation");
    assert_eq!(used.has(frame(epoch | 6, 256)), None, "an earlier generation");
    assert_eq!(used.has(frame(1 << 39 | 6 << 8 | 8, 256)), None, "another epoch");
    assert_eq!(used.has(frame(1 << 39 | 4 << 8 | 8, 256)), None, "another epoch");
}

/// RFC 9605, section 5.1. The RFC has no vectors of the ratchet. The key expected here was computed
/// by HKDF as the RFC describes it, with another implementation.
#[test]
fn ratchets_as_the_rfc_says() {
    let base_key = std::array::from_fn(|index| index as u8);
    let base_key = BaseKey(Box::new(base_key));
    let secret = KeySecret { generation: 7, step: 15, base_key };
    let next = secret.ratcheted();
    let expected = "1e31370b2f041d5c893dbba4b27bc3e67956a51ae6221a427445cab04059fd65";
    assert_eq!(data_encoding::HEXLOWER.encode(&*next.base_key.0), expected);
    assert_eq!((next.generation, next.step), (7, 0));
    // The step's number comes back, but never its key.
    let round = (0..16).fold(secret.clone(), |secret, _| secret.ratcheted());
    assert_eq!(round.step, 15);
    assert!(round != secret);
}

/// [PROTO-6.1] A key id has four bits for the step.
#[test]
fn a_secret_whose_step_no_key_id_can_name_is_not_valid() {
    let (.., secret) = pair();
    for (step, valid) in [(0, true), (15, true), (16, false), (255, false)] {
        assert_eq!(KeySecret { step, ..secret.clone() }.is_valid(), valid, "step {step}");
    }
}

#[test]
fn a_secret_in_a_log_is_named_but_not_shown() {
    let (.., secret) = pair();
    assert_eq!(format!("{:?}", secret.ratcheted()), "KeySecret(7.1)");
}

#[test]
fn a_secret_comes_back() {
    let (_, _, secret) = pair();
    let mut bytes = crate::encode(&secret);
    assert_eq!(crate::decode::<KeySecret>(&bytes, 64), Ok(secret.clone()));
    assert!(secret.is_valid());
    // A step that no key id can name arrives, for the receiver to refuse. Nothing panics.
    bytes[1] = u8::MAX;
    let unnameable = crate::decode::<KeySecret>(&bytes, 64).expect("a secret");
    assert!(!unnameable.is_valid());
    let (target, device, _) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &secret);
    keyring.install(Timestamp::ZERO, &unnameable);
}

/// [PROTO-6.7] A forgery changes neither the window nor the ratchet.
#[test]
fn forgeries_move_nothing() {
    let (target, device, secret) = pair();
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &secret);
    let mut key = SenderKey::new(target, device, &secret);
    let frame = sealed(&mut key, b"genuine");
    let mut out = b"earlier".to_vec();
    let mut forged = frame.clone();
    forged[10] ^= 1;
    let result = keyring.open(Timestamp::ZERO, &forged, &mut out);
    assert_eq!((result, &out[..]), (Err(OpenFrameError::Forged), &[][..]));
    for byte in 0..frame.len() {
        for bit in 0..8 {
            let mut forged = frame.clone();
            forged[byte] ^= 1 << bit;
            assert!(opened(&mut keyring, Timestamp::ZERO, &forged).is_err());
        }
        assert!(opened(&mut keyring, Timestamp::ZERO, &frame[..byte]).is_err());
    }
    assert_eq!(keyring.chains[0].steps.len(), 1);
    assert!(opened(&mut keyring, Timestamp::ZERO, &frame).is_ok());
    assert_eq!(opened(&mut keyring, Timestamp::ZERO, &frame), Err(OpenFrameError::Replayed));
}

/// The events that can happen to a keyring.
#[derive(Clone, Copy, Debug)]
enum Act {
    Install(usize),
    Forget,
    Open(bool),
    Epochs(u8),
    Frame(usize),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => any::<usize>().prop_map(Act::Install),
        1 => Just(Act::Forget),
        1 => any::<bool>().prop_map(Act::Open),
        3 => any::<u8>().prop_map(Act::Epochs),
        12 => any::<usize>().prop_map(Act::Frame),
        1 => (0_u64..40).prop_map(Act::Pass),
    ]
}

proptest! {
    #[test]
    fn frames_are_what_the_rfc_computes(
        secret in any::<[u8; BASE_KEY_LENGTH]>(),
        generation in any::<u16>(),
        plaintext in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (target, device, _) = pair();
        let secret = KeySecret { generation, step: 3, base_key: BaseKey(Box::new(secret)) };
        let mut key = SenderKey::new(target, device, &secret);
        let frame = sealed(&mut key, &plaintext);
        let id = key.sealed().key;
        let metadata = metadata(target, device);
        let expected = Keys::derive(id, &*secret.base_key.0);
        prop_assert_eq!(frame, expected.seal(id, FIRST_COUNTER, &metadata, &plaintext));
    }

    /// [PROTO-6.7] Compared with a set: every frame opens at most once, and each that is not too
    /// old opens.
    #[test]
    fn window_agrees_with_a_set(counters in prop::collection::vec(0_u64..5_000, 1..400)) {
        let mut window = ReplayWindow::default();
        let mut delivered = BTreeSet::new();
        for counter in counters {
            let newest = delivered.last().copied();
            let expected = if newest.is_some_and(|newest| counter + REPLAY_WINDOW < newest) {
                Err(OpenFrameError::TooOld)
            } else if delivered.contains(&counter) {
                Err(OpenFrameError::Replayed)
            } else {
                Ok(())
            };
            prop_assert_eq!(window.check(counter), expected);
            if expected.is_ok() {
                window.record(counter);
                delivered.insert(counter);
            }
        }
    }

    /// [PROTO-6.7] A network loses, repeats, reorders and forges frames, and the sender ratchets.
    /// Compared with a set, each frame is delivered once and unchanged, whatever came in between.
    #[test]
    fn a_keyring_agrees_with_a_set(
        arrivals in prop::collection::vec((0_usize..120, any::<bool>()), 1..300)
    ) {
        let (target, device, mut secret) = pair();
        let mut keyring = SenderKeyring::new(target, device);
        keyring.install(Timestamp::ZERO, &secret);
        // Seven steps in all, so that none is too far ahead of or behind any other.
        let mut frames = Vec::new();
        for _ in 0..6 {
            let mut key = SenderKey::new(target, device, &secret);
            frames.extend((0..20_u8).map(|n| sealed(&mut key, &[secret.step, n])));
            secret = secret.ratcheted();
        }
        let mut delivered = BTreeSet::new();
        for (index, forged) in arrivals {
            let mut frame = frames[index].clone();
            if forged {
                let last = frame.len() - 1;
                frame[last] ^= 1;
                prop_assert!(opened(&mut keyring, Timestamp::ZERO, &frame).is_err());
            } else if delivered.insert(index) {
                let plaintext = vec![(index / 20) as u8, (index % 20) as u8];
                prop_assert_eq!(opened(&mut keyring, Timestamp::ZERO, &frame), Ok(plaintext));
            } else {
                let again = opened(&mut keyring, Timestamp::ZERO, &frame);
                prop_assert_eq!(again, Err(OpenFrameError::Replayed));
            }
        }
    }

    /// [PROTO-6.7] Keys are taken away and come back in any order, and all frames ever sealed are
    /// repeated. Each frame is delivered once at most, and a new key opens.
    #[test]
    fn a_frame_is_delivered_once_also_when_its_key_comes_back(
        acts in prop::collection::vec(act(), 1..250)
    ) {
        let (target, device, _) = pair();
        let random = SeededRandom::new(3);
        let mut secrets: Vec<KeySecret> = Vec::new();
        for generation in [7, 8] {
            secrets.push(KeySecret::generate(generation, &random));
            (0..3).for_each(|_| secrets.push(secrets[secrets.len() - 1].ratcheted()));
        }
        let epochs: Vec<_> = (0..3_u8)
            .map(|n| crate::EpochDealer::generate(&random).secret([n; 32]))
            .collect();
        let mut frames = Vec::new();
        let mut seal = |mut key: SenderKey| {
            frames.extend((0..4_u8).map(|n| sealed(&mut key, &[n])));
        };
        secrets.iter().for_each(|secret| seal(SenderKey::new(target, device, secret)));
        for epoch in &epochs {
            (0..3).for_each(|n| seal(SenderKey::of_epoch(target, device, epoch, n)));
        }
        let mut keyring = SenderKeyring::new(target, device);
        let mut now = Timestamp::ZERO;
        let mut delivered = BTreeSet::new();
        for act in acts {
            match act {
                Act::Install(n) => keyring.install(now, &secrets[n % secrets.len()]),
                Act::Forget => keyring.forget_own_key(),
                Act::Open(open) => keyring.set_own_key_open(open),
                Act::Epochs(which) => {
                    let chosen = (0..3).filter(|n| which >> n & 1 == 1);
                    let chosen: Vec<_> = chosen.map(|n| epochs[n].clone()).collect();
                    keyring.set_epochs(&chosen);
                }
                Act::Frame(n) => {
                    let n = n % frames.len();
                    match opened(&mut keyring, now, &frames[n]) {
                        Ok(_) => prop_assert!(delivered.insert(n), "frame {} opens twice", n),
                        Err(OpenFrameError::Replayed) => prop_assert!(delivered.contains(&n)),
                        Err(_) => {}
                    }
                }
                // Never as long as all that is remembered.
                Act::Pass(seconds) if now < Timestamp::from_millis(600_000) => {
                    now = now + Duration::from_secs(seconds);
                    keyring.handle_timeout(now);
                }
                Act::Pass(_) => {}
            }
        }
        keyring.set_own_key_open(true);
        let newer = KeySecret::generate(9, &random);
        keyring.install(now, &newer);
        let fresh = sealed(&mut SenderKey::new(target, device, &newer), b"new");
        prop_assert_eq!(opened(&mut keyring, now, &fresh), Ok(b"new".to_vec()));
        keyring.set_epochs(&epochs);
        for epoch in &epochs {
            let fresh = sealed(&mut SenderKey::of_epoch(target, device, epoch, 9), b"new");
            prop_assert_eq!(opened(&mut keyring, now, &fresh), Ok(b"new".to_vec()));
        }
    }

    #[test]
    fn any_bytes_fail_cleanly(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let (target, device, secret) = pair();
        let mut keyring = SenderKeyring::new(target, device);
        keyring.install(Timestamp::ZERO, &secret);
        prop_assert!(opened(&mut keyring, Timestamp::ZERO, &bytes).is_err());
    }
}

/// The number of a frame as the library reads it.
fn by_library(bytes: &[u8]) -> Option<FrameNumber> {
    let header = SframeHeader::deserialize(bytes).ok()?;
    let counter = header.counter().try_into().ok()?;
    let known = [HEADER_LENGTH, EPOCH_HEADER_LENGTH].contains(&header.len());
    known.then_some(FrameNumber { key: header.key_id(), counter })
}

proptest! {
    /// Each frame cost its talker two allocations, in the library's parser.
    #[test]
    fn the_number_of_a_frame_is_read_as_the_library_reads_it(
        config in any::<u8>(),
        bytes in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let frame: Vec<u8> = std::iter::once(config).chain(bytes).collect();
        prop_assert_eq!(FrameNumber::of(&frame), by_library(&frame));
    }
}
