use hark_keys::{KeySecret, SeededRandom, Signable, Signed, Timestamp, decode, encode};
use hark_mesh::{
    ADDRESSES_MAX, Directory, List, MemberRecord, clean_name,
    message::{
        Acknowledgement, KeyMessage, MESSAGE_MAX_BYTES, MESSAGE_RECORDS_MAX, Message,
        RECIPIENTS_MAX,
    },
};

use crate::world::{Member, WORLD};

/// Messages come back as the same bytes, their lists keep their bounds, and what a directory took
/// it still has after it was on disk.
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
            assert!(message.unverified().recipients.len() <= RECIPIENTS_MAX);
            message.verify().is_ok()
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
    let key = KeyMessage {
        channel: WORLD.charter.channel().id,
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
    let snapshot = directory.snapshot();
    assert!(decode::<List<Signed<MemberRecord>, 3>>(&snapshot, snapshot.len()).is_ok());
    vec![
        ("bytes_key", message(Message::Key(Signed::sign(key.clone(), &bob.key)))),
        ("bytes_records", message(Message::Records(List::truncated(records)))),
        ("key", [&[KEY][..], &encode(&key)].concat()),
        ("record", [&[RECORD][..], &encode(&record(bob, 1))].concat()),
        ("snapshot", [&[SNAPSHOT][..], &snapshot].concat()),
    ]
}

/// What `member` says of itself.
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
/// The input is a record, which the same member signs.
const RECORD: u8 = 2;
/// The input is a directory from the disk.
const SNAPSHOT: u8 = 3;
const MODES: u8 = 4;
