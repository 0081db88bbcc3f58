use hark_charter::{
    Charter, NameKey, Piece, clean_name,
    content::{Change, Channel},
};
use hark_mesh::{
    ADDRESSES_MAX, Availability, AvailabilityMessage, Directory, List, MemberRecord, Target,
    epoch::{
        ATTENDANCE_MAX, Attendance, Confirmed, Confirming, EpochHeader, EpochMessage, HOLDERS_MAX,
        Holders, SEALS_MAX, TalkersKey,
    },
    message::{
        Acknowledgement, CANDIDATES_MAX, Candidates, Check, CheckNonce, KeyMessage, LISTENING_MAX,
        Listening, MESSAGE_MAX_BYTES, MESSAGE_RECORDS_MAX, Message, Move, Offer, RECIPIENTS_MAX,
        Roster, Route, WANTED_MAX, Wanted,
    },
    pack::{pack, unpack},
};
use std::net::SocketAddr;

use hark_keys::{
    ChannelId, Cosigned, EpochDealer, KeySecret, ObjectHash, Prekey, PrekeySecret, SeededRandom,
    Signable, Signed, Timestamp, UnixTime, encode,
};

use crate::world::{ALPHA, GHOST, Member, PILOT, WING, WORLD};

/// Messages encode to the same bytes again, and their lists stay within their limits. What a
/// directory accepted it still has after it was on disk. [PROTO-12.5]
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    match mode % MODES {
        BYTES => is_message(rest),
        KEY => {
            let signature = WORLD.bob.key.sign(KeyMessage::KIND, rest);
            is_message(&[&[0], rest, &encode(&signature)].concat())
        }
        RECORD => {
            let signature = WORLD.bob.key.sign(MemberRecord::KIND, rest);
            is_message(&[&[1, 1], rest, &encode(&signature)].concat())
        }
        _ => {
            let directory = Directory::restore(&WORLD.charter, rest);
            check_directory(&directory);
            directory.records().count() > 0
        }
    }
}

fn is_message(bytes: &[u8]) -> bool {
    if let Some(answer) = Acknowledgement::decode(bytes) {
        assert_eq!(answer.encode(), bytes);
    }
    let Ok(message) = Message::decode(bytes) else { return false };
    assert!(bytes.len() <= MESSAGE_MAX_BYTES);
    assert_eq!(message.encode(), bytes);
    match message {
        Message::Key(message) => {
            let key = message.unverified();
            assert!(key.recipients.len() <= RECIPIENTS_MAX);
            check_target(&key.target);
            message.verify().is_ok()
        }
        Message::Listening(listening) => {
            assert!(listening.channels.len() <= LISTENING_MAX);
            true
        }
        Message::Names(keys) => {
            for (channel, key) in keys.iter() {
                check_name(*channel, key);
            }
            true
        }
        Message::Digest(_) | Message::Move(_) | Message::Draining(_) | Message::Observed(_) => true,
        Message::Check(check) => {
            assert_eq!(CheckNonce::of_packet(&check.nonce.packet()), Some(check.nonce));
            true
        }
        Message::Candidates(candidates) => candidates.addresses.len() <= CANDIDATES_MAX,
        Message::Wanted(wanted) => wanted.devices.len() <= WANTED_MAX,
        Message::Roster(roster) => roster.slots.len() <= WANTED_MAX,
        Message::Route(route) => {
            check_target(&route.target);
            route.only.is_none_or(|only| only.len() <= RECIPIENTS_MAX)
        }
        Message::Offer(offer) => offer.verify().is_ok(),
        Message::Availability(said) => said.verify().is_ok(),
        Message::Prekey(prekey) => prekey.verify().is_ok(),
        Message::Attendance(said) => {
            assert!(said.here.len() <= ATTENDANCE_MAX && said.gone.len() <= ATTENDANCE_MAX);
            said.here.iter().all(|prekey| prekey.verify().is_ok())
        }
        Message::Epoch(epoch) => {
            assert!(epoch.seals.len() <= SEALS_MAX);
            let known = Holders::new([WORLD.bob.key.id(), WORLD.cid.key.id()]);
            for base in [None, Some(&known)] {
                if let Some(holders) = epoch.holders.apply(base) {
                    assert!(holders.devices().len() <= HOLDERS_MAX);
                    assert!(holders.devices().is_sorted_by(|a, b| a < b));
                    let again = holders.change_from(base).apply(base);
                    assert_eq!(again, Some(holders));
                }
            }
            epoch.header.verify().is_ok()
        }
        Message::Confirming(_) => true,
        Message::Confirmed(said) => {
            let holders = Holders::new([WORLD.bob.key.id(), WORLD.cid.key.id()]);
            let secret = EpochDealer::generate(&SeededRandom::new(9)).secret([7; 32]);
            let devices = said.devices(&secret, &holders);
            devices.is_some_and(|devices| devices.iter().all(|it| holders.place(*it).is_some()))
        }
        Message::TalkersKey(message) => {
            check_target(&message.target);
            true
        }
        Message::Have(have) => {
            let lacking = WORLD.charter.lacking(&have);
            assert!(lacking.len() <= WORLD.charter.pieces_in_order().count());
            true
        }
        Message::Pieces(packed) => unpack(&packed).is_ok(),
        Message::Past(part) => {
            // Nothing was settled here. Whatever the bytes are, they are the settled past of a
            // newcomer.
            let mut charter = Charter::clone(&WORLD.charter);
            let taken = charter.take_past(&part.bytes) == Ok(true);
            assert_eq!(taken, charter != *WORLD.charter);
            taken
        }
        Message::Records(records) => {
            assert!(records.len() <= MESSAGE_RECORDS_MAX);
            let mut directory = Directory::default();
            let now = Timestamp::ZERO;
            let mut taken = true;
            for record in records.into_vec() {
                let result = directory.insert(now, &WORLD.charter, record, |_| false);
                taken &= result.is_ok();
            }
            check_directory(&directory);
            taken
        }
    }
}

/// A sound target has exactly one form, and its permitted part is no larger than the target.
fn check_target(target: &Target) {
    let (channels, members) = (target.channels(), target.members());
    let roles = target.roles().iter().copied();
    let mut again = Target::new(channels.iter().copied(), members.iter().copied(), roles);
    again.priority = target.priority;
    assert!(!target.is_sound() || again == *target && again.id() == target.id());
    let (state, speaker) = (WORLD.charter.state(), WORLD.dora.member);
    let permitted = target.permitted(state, speaker);
    assert!(permitted.is_empty() || permitted.is_sound());
    assert_eq!(permitted.permitted(state, speaker), permitted);
    assert_eq!(permitted.union(&again).id(), again.id(), "nothing is added");
    let listening = [WORLD.voice, WING].into();
    let hearing = target.hearing(state, speaker, WORLD.founder.member, &listening);
    assert!(hearing.channels.iter().all(|channel| listening.contains(channel)));
    assert!(!permitted.is_empty() || !hearing.is_reached(), "who may not speak is not heard");
}

fn check_name(channel: ChannelId, key: &NameKey) {
    let name = key.seal(channel, "Ghost\u{202e}");
    let opened = key.open(channel, &name).expect("its own key opens a name");
    assert_eq!(clean_name(&opened), opened);
    let elsewhere = ChannelId::from_bytes(channel.as_bytes().map(|byte| byte ^ 1));
    assert_eq!(key.open(elsewhere, &name), None, "a name is one channel's");
}

fn check_directory(directory: &Directory) {
    for record in directory.records() {
        let record = record.verify().expect("a directory takes only what is signed");
        assert!(record.addresses.len() <= ADDRESSES_MAX);
        assert_eq!(clean_name(&record.shown_name()), record.shown_name());
        let member = WORLD.charter.verify_chain(&record.chain, record.device);
        assert_eq!(member, Ok(WORLD.charter.member_of(record.device)));
    }
    let restored = Directory::restore(&WORLD.charter, &directory.snapshot());
    assert!(restored.records().eq(directory.records()));
    let mut sent = Vec::new();
    for bytes in Message::of_records(directory.records()) {
        match Message::decode(&bytes) {
            Ok(Message::Records(records)) => sent.extend(records.into_vec()),
            other => panic!("a message of records is one, and not {other:?}"),
        }
    }
    assert!(sent.iter().eq(directory.records()));
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let bob = &WORLD.bob;
    let secret = KeySecret::generate(7, &SeededRandom::new(1));
    let mut recipients = [WORLD.founder.key.id(), WORLD.cid.key.id()];
    recipients.sort();
    let mut target = Target::new([WORLD.voice, WING], [WORLD.cid.member], [PILOT]);
    target.priority = true;
    let key = KeyMessage {
        target,
        sender: bob.key.id(),
        secret,
        recipients: List::truncated(recipients),
    };
    let members = [&WORLD.founder, bob, &WORLD.cid];
    let records = members.map(|member| Signed::sign(record(member, 3), &member.key));
    let mut directory = Directory::default();
    for record in &records {
        let taken = directory.insert(Timestamp::ZERO, &WORLD.charter, record.clone(), |_| false);
        assert_eq!(taken, Ok(true));
    }
    let message = |message: Message| [&[BYTES][..], &message.encode()].concat();
    let (prekey, epoch) = epoch();
    let secret = EpochDealer::generate(&SeededRandom::new(9)).secret([7; 32]);
    let (channel, id) = (WORLD.voice, ObjectHash::from_bytes([7; 32]));
    let confirmation = secret.confirmation(bob.key.id());
    let confirming = Confirming { channel, epoch: id, confirmation };
    let places = List::truncated([1]);
    let first = bob.key.id().min(WORLD.cid.key.id());
    let sum = secret.confirmation(first);
    let confirmed = Confirmed { channel, epoch: id, places, sum };
    let target = Target::of_channel(channel);
    let talkers_key = TalkersKey { key: secret.key_of(target.id(), bob.key.id(), 3), target };
    let said = Attendance {
        number: 3,
        channel: WORLD.voice,
        whole: true,
        after: 7,
        here: List::truncated([prekey.clone()]),
        gone: List::truncated([WORLD.cid.key.id()]),
    };
    let seen = SocketAddr::from(([203, 0, 113, 9], 7));
    let candidates = Candidates { answer: true, addresses: List::truncated([seen]) };
    let offer = Offer {
        device: bob.key.id(),
        number: 7,
        lease_seconds: 30,
        rate_kbps: 9_000,
        reachable: true,
    };
    let availability = Availability { deafened: true, ..Availability::default() };
    let available = AvailabilityMessage { device: bob.key.id(), number: 7, availability };
    let snapshot = directory.snapshot();
    assert_eq!(Directory::restore(&WORLD.charter, &snapshot).records().count(), 3);
    vec![
        ("bytes_key", message(Message::Key(Signed::sign(key.clone(), &bob.key)))),
        ("bytes_records", message(Message::Records(List::truncated(records)))),
        (
            "bytes_listening",
            message(Message::Listening(Listening {
                number: 7,
                channels: List::truncated([ALPHA, WING]),
            })),
        ),
        (
            "bytes_names",
            message(Message::Names(List::truncated([(GHOST, WORLD.name_key.clone())]))),
        ),
        ("bytes_offer", message(Message::Offer(Signed::sign(offer, &bob.key)))),
        (
            "bytes_wanted",
            message(Message::Wanted(Wanted { number: 5, devices: List::truncated([first]) })),
        ),
        (
            "bytes_roster",
            message(Message::Roster(Roster { number: 5, slots: List::truncated([(first, 513)]) })),
        ),
        (
            "bytes_route",
            message(Message::Route(Route {
                number: 6,
                target: Target::of_channel(channel),
                only: Some(List::truncated([first])),
            })),
        ),
        ("bytes_draining", message(Message::Draining(true))),
        ("bytes_availability", message(Message::Availability(Signed::sign(available, &bob.key)))),
        ("bytes_move", message(Message::Move(Move { from: Some(ALPHA), to: WING }))),
        ("bytes_observed", message(Message::Observed(seen))),
        ("bytes_candidates", message(Message::Candidates(candidates))),
        (
            "bytes_check",
            message(Message::Check(Check {
                nonce: CheckNonce::generate(&SeededRandom::new(4)),
                address: seen,
            })),
        ),
        ("bytes_prekey", message(Message::Prekey(prekey))),
        ("bytes_attendance", message(Message::Attendance(said))),
        ("bytes_epoch", message(Message::Epoch(Box::new(epoch)))),
        ("bytes_confirming", message(Message::Confirming(confirming))),
        ("bytes_confirmed", message(Message::Confirmed(confirmed))),
        ("bytes_talkers_key", message(Message::TalkersKey(Box::new(talkers_key)))),
        ("bytes_digest", message(Message::Digest(WORLD.charter.digest()))),
        ("bytes_have", message(Message::Have(WORLD.charter.have()))),
        ("bytes_past", message(Message::of_past(&past()).remove(0))),
        ("bytes_pieces", message(pack(WORLD.charter.pieces_in_order()).remove(0))),
        ("key", [&[KEY][..], &encode(&key)].concat()),
        ("record", [&[RECORD][..], &encode(&record(bob, 1))].concat()),
        ("snapshot", [&[SNAPSHOT][..], &snapshot].concat()),
    ]
}

/// The prekey to which secrets are sealed for a member, and an epoch that another member deals to
/// it.
fn epoch() -> (Signed<Prekey>, EpochMessage) {
    let random = SeededRandom::new(9);
    let (bob, cid) = (&WORLD.bob.key, &WORLD.cid.key);
    let secret = PrekeySecret::generate(&random);
    let prekey = Prekey::new(cid.id(), UnixTime::from_secs(1_800_000_000), &secret);
    let dealer = EpochDealer::generate(&random);
    let holders = Holders::new([bob.id(), cid.id(), WORLD.founder.key.id()]);
    let base = Holders::new([bob.id(), cid.id()]);
    let header = EpochHeader {
        channel: WORLD.voice,
        issuer: bob.id(),
        number: 8,
        dealer: dealer.public(),
        commitment: dealer.commitment(),
        holders: holders.hash(),
    };
    let header = Signed::sign(header, bob);
    let seal = dealer.seal(&header.hash(), &prekey).expect("a good key");
    let place = holders.place(cid.id()).expect("it is one of them");
    let seals = List::truncated([(place, seal)]);
    let message = EpochMessage { header, holders: holders.change_from(Some(&base)), seals };
    (Signed::sign(prekey, cid), message)
}

/// The past that two checkpoints settle.
fn past() -> Vec<u8> {
    let mut charter = Charter::clone(&WORLD.charter);
    for id in [[1; 16], [2; 16]] {
        let founder = &WORLD.founder;
        let channel = Change::Channel(Channel::open(ChannelId::from_bytes(id), "Settled"));
        let operation = charter.edit(&founder.key, founder.member, vec![channel]);
        let operation = Piece::Operation(operation.expect("a root key may"));
        assert_eq!(charter.take(operation), Ok(true));
        let checkpoint = charter.draft_checkpoint().expect("something is new");
        let checkpoint = Cosigned::unsigned(checkpoint).signed(&founder.key);
        assert_eq!(charter.take(Piece::Checkpoint(checkpoint)), Ok(true));
    }
    charter.past().expect("there is one")
}

/// A record in which `member` describes itself.
pub(crate) fn record(member: &Member, sequence_number: u64) -> MemberRecord {
    MemberRecord {
        device: member.key.id(),
        name: member.presence.name.clone(),
        addresses: List::truncated(member.presence.addresses.iter().copied()),
        chain: member.chain.clone(),
        sequence_number,
    }
}

/// The input is a message.
const BYTES: u8 = 0;
/// The input is the content of a key message, which a member signs.
const KEY: u8 = 1;
/// The input is the content of a record, which the same member signs.
const RECORD: u8 = 2;
/// The input is a directory from the disk.
const SNAPSHOT: u8 = 3;
const MODES: u8 = 4;
