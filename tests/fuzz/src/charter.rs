mod history;
mod packed;

use hark_charter::{
    CHAIN_MAX, CHECKPOINT_MAX_BYTES, CertificateChain, Charter, Checkpoint, Have,
    MemberCertificate, NAME_MAX_BYTES, Operation, Piece, ROOT_KEYS_MAX, RootDocument, clean_name,
};
use hark_keys::{
    Cosignable, DeviceKey, List, MemberId, ObjectHash, Signable, Signature, decode, encode,
};

pub(crate) use history::change;

use crate::{
    input::Input,
    world::{WORLD, device, key},
};

/// Any piece is accepted or refused, whoever signs it, and leaves a consistent charter. What comes
/// from a disk or a peer is checked. The order in which pieces arrive makes no difference.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    match mode % MODES {
        BYTES => is_piece(rest),
        CHAIN => is_chain(rest),
        ROOT => is_piece(&cosigned::<RootDocument>(0, rest)),
        CERTIFICATE => is_piece(&certificate(rest)),
        OPERATION => is_piece(&cosigned::<Operation>(2, rest)),
        CHECKPOINT => is_piece(&cosigned::<Checkpoint>(3, rest)),
        FOUNDING => is_founding(&cosigned::<RootDocument>(0, rest)[1..]),
        SNAPSHOT => is_snapshot(rest),
        DAMAGED => is_damaged(rest),
        PACKED => packed::is_packed(rest),
        UNPACKED => packed::is_unpacked(rest),
        BOMB => packed::is_bomb(rest),
        HAVE => is_have(rest),
        _ => history::run(Input::new(rest)),
    }
}

fn is_piece(bytes: &[u8]) -> bool {
    let Ok(piece) = Piece::decode(bytes) else { return false };
    assert!(bytes.len() <= CHECKPOINT_MAX_BYTES + 1);
    assert_eq!(piece.encode(), bytes);
    let mut charter = (*WORLD.charter).clone();
    let taken = charter.take(piece.clone());
    check(&charter);
    let mut other = (*WORLD.charter).clone();
    let results = other.take_all([piece.clone(), piece]);
    check(&other);
    assert_ne!(results[1], Ok(true), "nothing is new twice");
    // Only a piece from somebody who does not belong is accepted together with others but not
    // alone.
    if taken.is_ok() {
        assert_eq!(results[0], taken);
        assert_eq!((charter.digest(), charter.state()), (other.digest(), other.state()));
    }
    if results[0] != Ok(true) {
        assert_eq!(other, *WORLD.charter, "what is refused changes nothing");
    }
    results[0] == Ok(true)
}

/// Checks what is true of every charter.
fn check(charter: &Charter) {
    let name = charter.name();
    assert!(name.len() <= NAME_MAX_BYTES && clean_name(name) == name);
    let root = charter.root();
    assert!((1..=ROOT_KEYS_MAX).contains(&root.keys.iter().len()));
    assert!(root.keys.iter().all(|key| charter.is_root(key)));
    assert_eq!(charter.organisation(), WORLD.charter.organisation());
    // The path of every channel can be computed, since no channel lies below itself.
    let state = charter.state();
    for channel in state.channels() {
        let path = state.path(hark_charter::content::Place::Channel(channel.id));
        assert!(path.count() <= state.channels().count() + 1);
    }
    let members: Vec<_> = charter.members().collect();
    for member in &members {
        check_member(charter, *member);
    }
    assert!(charter.log().count() == charter.operations());
    check_copy(charter);
}

fn check_member(charter: &Charter, member: MemberId) {
    let chain = charter.chain_of(member);
    assert!(chain.len() <= CHAIN_MAX);
    for device in charter.devices_of(member) {
        assert_eq!(charter.verify_chain(&chain, device), Ok(member));
        assert!(charter.owner(device).is_some());
    }
}

/// A charter is the same after it was written to disk and read back, and neither copy lacks
/// anything of the other.
fn check_copy(charter: &Charter) {
    let restored = Charter::restore(&charter.snapshot()).expect("our own snapshot");
    assert_eq!(restored, *charter);
    assert_eq!(restored.state(), charter.state(), "what is kept says the same after a restart");
    assert!(!charter.lacks_of(&restored.have()) && !restored.lacks_of(&charter.have()));
}

fn is_founding(bytes: &[u8]) -> bool {
    let Ok(document) = decode(bytes, CHECKPOINT_MAX_BYTES) else { return false };
    let Ok(charter) = Charter::of(document) else { return false };
    let document = charter.root();
    assert_eq!(charter.organisation().as_bytes(), blake3::hash(&encode(document)).as_bytes());
    let founder = document.keys.iter().next().expect("there are root keys");
    assert!(founder == WORLD.founder.key.id() || founder == device(8));
    assert_eq!(Charter::restore(&charter.snapshot()).as_ref(), Ok(&charter));
    true
}

fn is_chain(bytes: &[u8]) -> bool {
    let Ok(chain) = decode::<CertificateChain>(bytes, 4096) else { return false };
    assert!(chain.len() <= CHAIN_MAX);
    assert_eq!(encode(&chain), bytes);
    let charter = &WORLD.charter;
    let Some(leaf) = chain.leaf() else { return false };
    let leaf = leaf.unverified();
    assert!(charter.verify_chain(&chain, device(99)).is_err(), "a chain proves its own device");
    let Ok(member) = charter.verify_chain(&chain, leaf.device) else { return false };
    let members = (0..4).map(|number| WORLD.member(number));
    assert!(members.map(|it| it.key.id()).any(|it| it == leaf.device), "nobody else was admitted");
    assert_eq!(member, charter.member_of(leaf.device));
    assert_eq!(charter.rooted_chain(&chain, leaf.device, &[], false), Ok(member));
    true
}

fn is_snapshot(bytes: &[u8]) -> bool {
    let Ok(charter) = Charter::restore(bytes) else { return false };
    let again = Charter::restore(&charter.snapshot()).expect("our own snapshot");
    assert_eq!(again, charter);
    assert_eq!(again.state(), charter.state());
    true
}

/// A snapshot with changed bytes, or one that ends too early, is refused or contains less, but
/// never contains anything else.
fn is_damaged(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut snapshot = WORLD.charter.snapshot();
    if input.byte().is_multiple_of(2) {
        let length = usize::from(u16::from_be_bytes([input.byte(), input.byte()]));
        snapshot.truncate(length);
    }
    while let Some(high) = input.next() {
        let place = usize::from(u16::from_be_bytes([high, input.byte()]));
        let damage = input.byte();
        if let Some(byte) = snapshot.get_mut(place) {
            *byte ^= damage;
        }
    }
    let Ok(charter) = Charter::restore(&snapshot) else { return false };
    let world = &WORLD.charter;
    assert_eq!(charter.organisation(), world.organisation());
    assert!(charter.operations() <= world.operations());
    assert!(charter.pieces_in_order().all(|piece| world.pieces_in_order().any(|it| it == piece)));
    true
}

fn is_have(bytes: &[u8]) -> bool {
    let Ok(have) = decode::<Have>(bytes, 32 * 1024) else { return false };
    let charter = &WORLD.charter;
    let _lacks = charter.lacks_of(&have);
    let lacking = charter.lacking(&have);
    assert!(lacking.len() <= charter.pieces_in_order().count());
    let founding = charter.roots().next().expect("a charter has a root").clone();
    let mut theirs = Charter::of(founding).expect("it is the founding document");
    for piece in lacking {
        assert!(charter.pieces_in_order().any(|it| it == piece));
        let _taken = theirs.take_all([piece]);
    }
    check(&theirs);
    true
}

/// A piece of kind `kind` with these bytes as its content. The first byte chooses who signs it.
fn cosigned<T: Cosignable>(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let (chosen, value) = bytes.split_first().unwrap_or((&1, &[]));
    let mut signatures: Vec<_> = keys()
        .iter()
        .enumerate()
        .filter(|(number, _)| chosen & 1 << number != 0)
        .map(|(_, key)| (key.id(), key.sign(T::KIND, value)))
        .collect();
    signatures.sort_by_key(|(key, _)| *key);
    let signatures = List::<(_, Signature), 30>::truncated(signatures);
    [&[kind], value, &encode(&signatures)].concat()
}

fn certificate(bytes: &[u8]) -> Vec<u8> {
    let (chosen, value) = bytes.split_first().unwrap_or((&0, &[]));
    let keys = keys();
    let signer = &keys[usize::from(*chosen) % keys.len()];
    [&[1], value, &encode(&signer.sign(MemberCertificate::KIND, value))].concat()
}

/// The keys that sign what a target makes: those of the founder, Cid, Bob, Dora and a stranger.
fn keys() -> [DeviceKey; 5] {
    [1, 3, 2, 4, 8].map(key)
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let charter = &WORLD.charter;
    let chain = |chain: &CertificateChain| [&[CHAIN][..], &encode(chain)].concat();
    let with = |mode, signers, value: &[u8]| [&[mode, signers][..], value].concat();
    let second = RootDocument {
        version: 2,
        previous: charter.roots().next().expect("a charter has a root").hash(),
        content: List::default(),
        ..charter.root().clone()
    };
    let bob = &WORLD.bob;
    let admitted = MemberCertificate {
        organisation: charter.organisation(),
        device: device(9),
        recovery: None,
        admission: 0,
        issuer: bob.key.id(),
        issuer_certificate: ObjectHash::from_bytes(
            bob.chain.leaf().expect("Bob is a member").hash(),
        ),
    };
    let changes = vec![change(5, 5, charter, bob.member)];
    let operation = charter.edit(&bob.key, bob.member, changes).expect("an officer may");
    let checkpoint = charter.draft_checkpoint().expect("there are operations");
    let piece = Piece::Operation(operation.clone());
    let mut seeds = vec![
        ("bytes", [&[BYTES][..], &piece.encode()].concat()),
        ("chain_1", chain(&WORLD.founder.chain)),
        ("chain_2", chain(&bob.chain)),
        ("chain_3", chain(&WORLD.cid.chain)),
        ("chain_4", chain(&WORLD.dora.chain)),
        ("root", with(ROOT, 1, &encode(&second))),
        ("certificate", with(CERTIFICATE, 2, &encode(&admitted))),
        ("operation", with(OPERATION, 4, &encode(operation.unverified()))),
        ("checkpoint", with(CHECKPOINT, 1, &encode(&checkpoint))),
        ("founding", with(FOUNDING, 1, &encode(charter.root()))),
        ("snapshot", [&[SNAPSHOT][..], &charter.snapshot()].concat()),
        ("damaged", vec![DAMAGED, 1, 0xff, 0xff, 1]),
        ("have", [&[HAVE][..], &encode(&charter.have())].concat()),
        ("have_nothing", [&[HAVE][..], &encode(&Have::default())].concat()),
    ];
    seeds.extend(
        packed::seeds()
            .into_iter()
            .map(|(name, mode, bytes)| (name, [&[mode][..], &bytes].concat())),
    );
    seeds.extend(
        history::seeds().into_iter().map(|(name, bytes)| (name, [&[HISTORY][..], &bytes].concat())),
    );
    seeds
}

/// The input is a piece.
const BYTES: u8 = 0;
/// The input is a chain of certificates.
const CHAIN: u8 = 1;
/// The input is a root document. The byte before it chooses who signs it.
const ROOT: u8 = 2;
/// The input is a certificate. The byte before it chooses who signs it.
const CERTIFICATE: u8 = 3;
/// The input is an operation, signed like a root document.
const OPERATION: u8 = 4;
/// The input is a checkpoint, signed like a root document.
const CHECKPOINT: u8 = 5;
/// The input is another organisation's root document, signed like a root document.
const FOUNDING: u8 = 6;
/// The input is a charter from the disk.
const SNAPSHOT: u8 = 7;
/// The input says how a charter on the disk is damaged.
const DAMAGED: u8 = 8;
/// The input is the packed pieces of a message.
const PACKED: u8 = 9;
/// The input is the pieces of a message before they are packed.
const UNPACKED: u8 = 10;
/// The input says what a message should unpack to.
const BOMB: u8 = 11;
/// The input says what a peer has of the charter.
const HAVE: u8 = 12;
/// The input says what members do, and in which order others learn of it.
const HISTORY: u8 = 13;
const MODES: u8 = 14;
