//! Which records a newcomer is sent.

use std::collections::BTreeSet;

use hark_charter::{
    CertificateChain,
    content::{Change, Place, Sanction, SanctionKind},
};

use super::*;
use crate::{MemberRecord, pack::pack, testing, testing::outcome};

/// Members of an organisation with relays.
pub(super) struct Crowd {
    random: Arc<SeededRandom>,
    founder: Arc<DeviceKey>,
    pub(super) charter: Charter,
    pub(super) relays: Vec<Arc<DeviceKey>>,
    pub(super) members: Vec<Arc<DeviceKey>>,
}

impl Crowd {
    pub(super) fn new(count: usize, relays: usize) -> Self {
        let random = Arc::new(SeededRandom::new(1));
        let key = || Arc::new(DeviceKey::generate(&*random));
        let founder = key();
        let relays: Vec<_> = (0..relays).map(|_| key()).collect();
        let mut charter = Charter::found("Squad", "Voice", &founder, None, &*random);
        let founding = charter.member_of(founder.id());
        let named = relays.iter().map(|relay| {
            Change::Relay(hark_charter::content::Relay {
                device: relay.id(),
                name: "Eyrie".to_owned(),
                addresses: List::truncated(["192.0.2.1:7300".parse().unwrap()]),
                members_max: 0,
                rate_kbps: 0,
            })
        });
        let named = charter.edit(&founder, founding, named.collect()).unwrap();
        charter.take(Piece::Operation(named)).unwrap();
        let members: Vec<_> = (0..count).map(|_| key()).collect();
        for member in &members {
            let certificate = charter.issue(&founder, founding, member.id(), None).unwrap();
            charter.take(Piece::Certificate(certificate)).unwrap();
        }
        Self { random, founder, charter, relays, members }
    }

    fn chain_of(&self, key: &DeviceKey) -> CertificateChain {
        self.charter.chain_of(self.charter.member_of(key.id()))
    }

    fn record_of(&self, key: &DeviceKey) -> Signed<MemberRecord> {
        let record = MemberRecord {
            device: key.id(),
            name: "Kestrel".to_owned(),
            addresses: List::default(),
            chain: self.chain_of(key),
            sequence_number: 1,
        };
        Signed::sign(record, key)
    }

    /// The founder changes the charter.
    fn edit(&mut self, change: Change) -> Piece {
        let founding = self.charter.member_of(self.founder.id());
        let operation = self.charter.edit(&self.founder, founding, vec![change]).unwrap();
        let piece = Piece::Operation(operation);
        self.charter.take(piece.clone()).unwrap();
        piece
    }

    /// The squad of a relay or member that knows the records of all.
    pub(super) fn squad(&self, key: &Arc<DeviceKey>, member: Option<MemberId>) -> Squad {
        let mut directory = Directory::default();
        for key in &self.members {
            let record = self.record_of(key);
            directory.insert(Timestamp::ZERO, &self.charter, record, |_| false).unwrap();
        }
        let charter = Arc::new(self.charter.clone());
        let config = SquadConfig { directory, ..testing::config(&charter, key, member) };
        Squad::new(Timestamp::ZERO, config, self.random.clone())
    }

    /// What a relay says of itself.
    pub(super) fn hello_of_relay(&self, index: usize) -> PeerHello {
        PeerHello {
            device: self.relays[index].id(),
            member: None,
            chain: CertificateChain::of([]),
            added: Vec::new(),
            name: "Eyrie".to_owned(),
            incarnation: 1,
            addresses: Vec::new(),
            digest: self.charter.digest(),
            listening: Vec::new(),
        }
    }

    /// The devices whose records `squad` sends to this member when it comes.
    fn told(&self, squad: &mut Squad, newcomer: &DeviceKey) -> BTreeSet<DeviceId> {
        let hello = PeerHello {
            device: newcomer.id(),
            member: Some(self.charter.member_of(newcomer.id())),
            chain: self.chain_of(newcomer),
            added: Vec::new(),
            name: "Kestrel".to_owned(),
            incarnation: 1,
            addresses: Vec::new(),
            digest: self.charter.digest(),
            listening: Vec::new(),
        };
        squad.handle_link_up(Timestamp::ZERO, hello, None);
        let mut told = BTreeSet::new();
        while let Some(transmit) = squad.poll_transmit() {
            if let SquadTransmit::Message { to, bytes, .. } = transmit
                && to == newcomer.id()
                && let Ok(Message::Records(records)) = Message::decode(&bytes)
            {
                told.extend(records.iter().map(|record| record.unverified().device));
            }
        }
        told
    }
}

/// [PROTO-5.2]
#[test]
fn a_relay_tells_newcomers_of_as_many_as_they_can_use_and_each_of_others() {
    let crowd = Crowd::new(100, 1);
    let mut relay = crowd.squad(&crowd.relays[0], None);
    let mut all = BTreeSet::new();
    for newcomer in &crowd.members[..20] {
        let told = crowd.told(&mut relay, newcomer);
        assert_eq!(told.len(), LINKS_MAX);
        all.extend(told);
    }
    assert_eq!(all.len(), 100, "somebody tells of everybody");
}

/// [PROTO-5.2]
#[test]
fn a_member_tells_newcomers_of_everybody() {
    let crowd = Crowd::new(100, 1);
    let key = Arc::new(DeviceKey::from_secret(&crowd.members[0].secret()));
    let mut squad = crowd.squad(&key, Some(crowd.charter.member_of(key.id())));
    assert_eq!(crowd.told(&mut squad, &crowd.members[1]).len(), 100);
}

/// [PROTO-5.3] A regression: a newcomer read no further after the record of a member who had been
/// banned and pardoned, since it did not know of the pardon yet. It left without an address of
/// anybody, and found nobody when it started again.
#[test]
fn a_record_that_was_not_valid_yet_cost_a_newcomer_all_others() {
    let mut crowd = Crowd::new(5, 0);
    let pardoned = Arc::clone(&crowd.members[1]);
    let member = crowd.charter.member_of(pardoned.id());
    let ban = Sanction {
        member,
        kind: SanctionKind::Ban,
        at: Place::Organisation,
        until: None,
        name: "Wren".to_owned(),
    };
    crowd.edit(Change::Sanction(ban));
    let newcomer = Arc::clone(&crowd.members[0]);
    let own = crowd.charter.member_of(newcomer.id());
    let charter = Arc::new(crowd.charter.clone());
    let config = testing::config(&charter, &newcomer, Some(own));
    let mut squad = Squad::new(Timestamp::ZERO, config, crowd.random.clone());
    let pardon =
        crowd.edit(Change::Lift { member, kind: SanctionKind::Ban, at: Place::Organisation });
    let door = Arc::clone(&crowd.members[4]);
    crowd.told(&mut squad, &door);
    let now = Timestamp::ZERO;
    let records: Vec<_> = crowd.members[1..4].iter().map(|key| crowd.record_of(key)).collect();
    let [message] = &Message::of_records(&records)[..] else { panic!("three records") };
    let handled = squad.handle_message(now, door.id(), message);
    assert!(matches!(outcome(now, &mut squad, handled), Err(MessageError::Record(_))));
    let known = |squad: &Squad| {
        let known = crowd.members[1..4].iter().map(|key| squad.directory().record(key.id()));
        known.map(|record| record.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(known(&squad), [false, true, true]);
    let [message] = &pack([pardon])[..] else { panic!("one operation") };
    let handled = squad.handle_message(now, door.id(), &message.encode());
    outcome(now, &mut squad, handled).unwrap();
    assert_eq!(known(&squad), [true, true, true]);
}
