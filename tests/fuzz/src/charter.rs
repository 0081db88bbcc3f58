use hark_keys::{Signable, decode, encode};
use hark_mesh::{
    NAME_MAX_BYTES,
    charter::{CHAIN_MAX, CertificateChain, Charter, ROOT_KEYS_MAX, ROOT_MAX_BYTES, RootDocument},
    clean_name,
};

use crate::world::{WORLD, device};

/// A charter comes back as the same bytes, and only those whom it leads to are its members.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    match mode % MODES {
        BYTES => is_charter(rest),
        SIGNED => {
            let signature = WORLD.founder.key.sign(RootDocument::KIND, rest);
            is_charter(&[rest, &encode(&signature)].concat())
        }
        _ => is_chain(rest),
    }
}

fn is_charter(bytes: &[u8]) -> bool {
    let Ok(charter) = Charter::from_bytes(bytes) else { return false };
    assert!(bytes.len() <= ROOT_MAX_BYTES);
    assert_eq!(charter.to_bytes(), bytes);
    let document = charter.root().unverified();
    assert_eq!(charter.organisation().as_bytes(), blake3::hash(&encode(document)).as_bytes());
    for name in [charter.name(), &charter.channel().name] {
        assert!(name.len() <= NAME_MAX_BYTES && clean_name(name) == name);
    }
    let roots: Vec<_> = document.root_keys.clone().into();
    assert!((1..=ROOT_KEYS_MAX).contains(&roots.len()));
    assert!(roots.iter().all(|root| charter.is_root(*root)));
    true
}

fn is_chain(bytes: &[u8]) -> bool {
    let Ok(chain) = decode::<CertificateChain>(bytes, 4096) else { return false };
    assert!(chain.len() <= CHAIN_MAX);
    assert_eq!(encode(&chain), bytes);
    let charter = &WORLD.charter;
    let Some(leaf) = chain.leaf() else { return false };
    assert!(charter.verify_chain(&chain, device(99)).is_err(), "a chain proves its own device");
    let Ok(member) = charter.verify_chain(&chain, leaf.device) else { return false };
    let members = [&WORLD.founder, &WORLD.bob, &WORLD.cid];
    assert!(
        members.iter().any(|member| member.key.id() == leaf.device),
        "nobody else was admitted"
    );
    assert_eq!(member, charter.member_of(leaf.device));
    true
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let charter = &WORLD.charter;
    let document = encode(charter.root().unverified());
    let chain = |chain: &CertificateChain| [&[CHAIN][..], &encode(chain)].concat();
    vec![
        ("bytes", [&[BYTES][..], &charter.to_bytes()].concat()),
        ("signed", [&[SIGNED][..], &document].concat()),
        ("chain_1", chain(&WORLD.founder.chain)),
        ("chain_2", chain(&WORLD.bob.chain)),
        ("chain_3", chain(&WORLD.cid.chain)),
    ]
}

/// The input is a root document with its signature.
const BYTES: u8 = 0;
/// The input is a root document, which the founder signs.
const SIGNED: u8 = 1;
/// The input is a chain of certificates.
const CHAIN: u8 = 2;
const MODES: u8 = 3;
