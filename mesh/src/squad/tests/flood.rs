//! Nobody without the right to it can fill a charter, whichever way the pieces come.

use hark_charter::{CertificateChain, MemberCertificate, content::Change};
use hark_keys::ObjectHash;

use super::*;
use crate::{MemberRecord, pack::pack};

/// Pieces signed with a key that belongs to no member. Each names a certificate that all hold.
fn forged(charter: &Charter, key: &DeviceKey, known: ObjectHash, count: u32) -> Vec<Piece> {
    let certificate = |number| MemberCertificate {
        organisation: charter.organisation(),
        device: key.id(),
        recovery: None,
        admission: number,
        issuer: key.id(),
        issuer_certificate: known,
    };
    (0..count).map(|number| Piece::Certificate(Signed::sign(certificate(number), key))).collect()
}

/// [CHARTER-3.7] [CHARTER-8.5] Regression: any linked peer, and any refused listener on the LAN,
/// could fill the room for certificates for good. After that nobody could be admitted any more.
#[test]
fn forged_pieces_fill_nobodys_charter_by_whichever_way_they_come() {
    const EACH: u32 = 4_000;
    let mut world = World::friends(41, 4, 0);
    for index in [1, 2] {
        world.start(index);
    }
    world.run_for(15 * SECOND);
    let random = SeededRandom::new(42);
    let stranger = DeviceKey::generate(&random);
    // Long enough for the peer's purse to pay for each message.
    let pause = SECOND / 4;
    let mut now = world.now;
    let from = world.id(1);
    let charter = Arc::clone(world.squad(0).charter());
    let (own, member) = (world.id(2), charter.member_of(world.id(2)));
    let known = ObjectHash::from_bytes(charter.certificate_of(member).unwrap().hash());
    let mut pieces = forged(&charter, &stranger, known, EACH);
    // Operations as well: in the name of a member, signed with a key that is not the member's.
    let template = charter.draft(own, member, vec![], vec![]).unwrap();
    for root in 0..EACH / 10 {
        let mut draft = template.clone();
        (draft.author, draft.root) = (stranger.id(), root);
        pieces.push(Piece::Operation(Cosigned::unsigned(draft).signed(&stranger)));
    }
    let before = (charter.digest(), charter.snapshot().len());
    let squad = world.squad(0);
    for message in pack(pieces.clone()) {
        let bytes = message.encode();
        // From a member or a relay, since both are linked.
        let _ = squad.handle_message(now, from, &bytes);
        let _ = squad.handle_gossip(now, Some(from), &bytes);
        now = now + pause;
        work(now, squad);
    }
    for proof in pieces.chunks(PROOF_PIECES_MAX) {
        squad.handle_proof(proof.to_vec());
        now = now + pause;
        work(now, squad);
    }
    for (number, piece) in (1..).zip(&pieces[..EACH as usize]) {
        let Piece::Certificate(certificate) = piece else { unreachable!("they come first") };
        let above = charter.chain_of(member);
        let chain = std::iter::once(certificate).chain(above.iter()).cloned();
        let record = MemberRecord {
            device: stranger.id(),
            name: "Shrike".to_owned(),
            addresses: List::default(),
            chain: CertificateChain::of(chain),
            sequence_number: number,
        };
        let records = List::truncated([Signed::sign(record, &stranger)]);
        let _ = squad.handle_message(now, from, &Message::Records(records).encode());
        now = now + pause;
        work(now, squad);
    }
    let held = squad.charter_taken();
    assert_eq!((held.digest(), held.snapshot().len()), before);

    // One member is admitted and one is removed, and all learn of both.
    let newcomer = DeviceKey::generate(&random);
    let founder = Arc::clone(&world.nodes[0].key);
    let founding = charter.member_of(founder.id());
    let issued = charter.issue(&founder, founding, newcomer.id(), None).unwrap();
    world.now = now;
    assert_eq!(world.squad(0).bring(now, vec![Piece::Certificate(issued)]), Ok(1));
    let gone = charter.member_of(world.id(3));
    world.squad(0).edit(now, vec![Change::Remove { member: gone, admission: 1 }]).unwrap();
    world.run_for(10 * SECOND);
    for index in [0, 1, 2] {
        let charter = Arc::clone(world.squad(index).charter());
        assert!(charter.is_member(charter.member_of(newcomer.id())), "node {index}");
        assert!(!charter.is_member(gone), "node {index}");
    }
}
