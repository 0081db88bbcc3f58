use hark_keys::{DeviceKey, SeededRandom, Signed, TargetId, encode};
use proptest::prelude::*;

use super::*;

fn keys<const N: usize>() -> [DeviceKey; N] {
    let random = SeededRandom::new(4);
    std::array::from_fn(|_| DeviceKey::generate(&random))
}

fn found(key: &DeviceKey) -> Charter {
    Charter::found("Night shift", "Bridge", key, &SeededRandom::new(9))
}

/// [PROTO-4.1]
#[test]
fn the_organisation_is_the_hash_of_its_founding_document() {
    let [founder] = keys();
    let charter = found(&founder);
    let document = charter.root().unverified();
    assert_eq!(charter.organisation().as_bytes(), blake3::hash(&encode(document)).as_bytes());
    assert_eq!((charter.name(), charter.channel().name.as_str()), ("Night shift", "Bridge"));
    assert_eq!(Charter::from_bytes(&charter.to_bytes()), Ok(charter.clone()));
    let other = Charter::found("Night shift", "Bridge", &founder, &SeededRandom::new(10));
    assert_ne!(charter.organisation(), other.organisation());
    let tag = |channel: &Charter| charter.target_tag(TargetId::of_channel(channel.channel().id));
    assert_ne!(tag(&charter), tag(&other));
}

/// [PROTO-7.1]
#[test]
fn a_targets_tag_is_of_the_organisation_and_the_target() {
    let [founder] = keys();
    let charter = found(&founder);
    let target = TargetId::of_channel(charter.channel().id);
    let named = [b"target", &charter.channel().id.as_bytes()[..]].concat();
    let hash = blake3::keyed_hash(charter.organisation().as_bytes(), &named);
    assert_eq!(charter.target_tag(target), hash.as_bytes()[..4]);
    assert_ne!(charter.target_tag(target), charter.target_tag(TargetId::from_bytes([0; 16])));
}

#[test]
fn a_document_that_another_signed_is_refused() {
    let [founder, other] = keys();
    let document = found(&founder).root().unverified().clone();
    let signature = other.sign(RootDocument::KIND, &encode(&document));
    let mut bytes = encode(&document);
    bytes.extend(encode(&signature));
    assert_eq!(Charter::from_bytes(&bytes), Err(CharterError::Signature(SignatureError)));
    let later = RootDocument { version: 2, ..document.clone() };
    assert_eq!(Charter::verify(Signed::sign(later, &founder)), Err(CharterError::Version));
    let unmet = RootDocument { threshold: 2, ..document };
    assert_eq!(Charter::verify(Signed::sign(unmet, &founder)), Err(CharterError::Malformed));
}

#[test]
fn root_keys_are_at_least_one_and_none_twice() {
    let [founder, other] = keys();
    let decoded = |keys: &[DeviceId]| {
        decode::<RootKeys>(&encode(&keys.to_vec()), 4096).map(|keys| keys.0.len())
    };
    assert_eq!(decoded(&[founder.id(), other.id()]), Ok(2));
    assert_eq!(decoded(&[]), Err(DecodeError::Malformed));
    assert_eq!(decoded(&[founder.id(), founder.id()]), Err(DecodeError::Malformed));
}

/// [PROTO-4.2]
#[test]
fn a_chain_grows_to_eight_certificates_and_no_further() {
    let keys: [DeviceKey; 10] = keys();
    let charter = found(&keys[0]);
    let mut chain = charter.found_chain(&keys[0]).unwrap();
    assert_eq!(chain.len(), 1);
    assert_eq!(chain.leaf().unwrap().role, Role::Founder);
    for (issuer, device) in keys.iter().zip(&keys[1..9]) {
        chain = charter.issue(issuer, &chain, device.id()).unwrap();
        assert_eq!(charter.verify_chain(&chain, device.id()), Ok(charter.member_of(device.id())));
        assert_eq!(chain.leaf().unwrap().role, Role::Member);
    }
    assert_eq!(chain.len(), CHAIN_MAX);
    assert_eq!(charter.issue(&keys[8], &chain, keys[9].id()), Err(IssueError::TooFar));
    assert_eq!(charter.verify_chain(&chain, keys[0].id()), Err(ChainError::Broken));
}

#[test]
fn nobody_becomes_a_member_alone() {
    let [founder, member, stranger] = keys();
    let charter = found(&founder);
    let other = Charter::found("Night shift", "Bridge", &stranger, &SeededRandom::new(9));
    let refused = |certificates: Vec<Signed<MemberCertificate>>, device: &DeviceKey| {
        let chain = CertificateChainFixture::of(certificates);
        charter.verify_chain(&chain, device.id()).unwrap_err()
    };
    assert_eq!(charter.found_chain(&member), Err(IssueError::NotMember));
    assert_eq!(
        charter.issue(&stranger, &CertificateChain::default(), member.id()),
        Err(IssueError::NotMember)
    );
    assert_eq!(refused(vec![], &founder), ChainError::Rootless);
    let certificate = |charter: &Charter, issuer: &DeviceKey, device: DeviceId, role| {
        let certificate = MemberCertificate {
            organisation: charter.organisation(),
            member: charter.member_of(device),
            device,
            role,
            issuer: issuer.id(),
        };
        Signed::sign(certificate, issuer)
    };
    let own = certificate(&charter, &stranger, stranger.id(), Role::Member);
    assert_eq!(refused(vec![own.clone()], &stranger), ChainError::Rootless);
    let root = certificate(&charter, &founder, founder.id(), Role::Founder);
    assert_eq!(refused(vec![own, root], &stranger), ChainError::Broken);
    let elsewhere = certificate(&other, &stranger, member.id(), Role::Member);
    assert_eq!(refused(vec![elsewhere], &member), ChainError::Organisation);
    let promoted = certificate(&charter, &founder, member.id(), Role::Founder);
    assert_eq!(refused(vec![promoted], &member), ChainError::Claim);
    let good = certificate(&charter, &founder, member.id(), Role::Member);
    let impostor =
        MemberCertificate { member: charter.member_of(founder.id()), ..good.unverified().clone() };
    assert_eq!(refused(vec![Signed::sign(impostor, &founder)], &member), ChainError::Claim);
    // A good certificate under the signature of another one.
    let mut bytes = encode(good.unverified());
    bytes.extend(encode(&member.sign(MemberCertificate::KIND, &encode(good.unverified()))));
    let forged: Signed<MemberCertificate> = decode(&bytes, 4096).unwrap();
    assert_eq!(refused(vec![forged], &member), ChainError::Signature);
}

/// Chains as a peer could send them, made by way of their encoding.
struct CertificateChainFixture;

impl CertificateChainFixture {
    fn of(certificates: Vec<Signed<MemberCertificate>>) -> CertificateChain {
        decode(&encode(&certificates), 32 * 1024).unwrap()
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_charter_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Charter::from_bytes(&bytes).is_err());
    }
}
