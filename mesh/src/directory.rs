use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    ops::Bound,
};

use hark_charter::{CertificateChain, ChainError, Charter, clean_name};
use hark_keys::{DeviceId, MemberId, Signable, SignatureError, Signed, Timestamp, decode, encode};
use serde::{Deserialize, Serialize};

use crate::List;

/// What a member says of itself, signed. [PROTO-5.1]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The device whose record it is.
    pub device: DeviceId,
    /// The name that the member has chosen, as sent; see [`Self::shown_name`].
    pub name: String,
    /// The addresses at which the device listens.
    pub addresses: List<SocketAddr, ADDRESSES_MAX>,
    /// The certificates that prove that it belongs to the organisation.
    pub chain: CertificateChain,
    /// Sequence number of the record. A higher one replaces a lower one.
    pub sequence_number: u64,
}

impl MemberRecord {
    /// The name, made fit for display. [PROTO-3.7]
    pub fn shown_name(&self) -> String {
        clean_name(&self.name)
    }
}

impl Signable for MemberRecord {
    const KIND: &'static str = "record";

    fn signer(&self) -> DeviceId {
        self.device
    }
}

/// The newest record of each known member.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    entries: BTreeMap<DeviceId, Entry>,
    /// The names of former members, newest last.
    former: VecDeque<(MemberId, String)>,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Signed<MemberRecord>,
    /// When the member was last met, or the record arrived.
    seen: Timestamp,
}

impl Directory {
    /// Restores the directory of a [`Self::snapshot`]. If a record is no longer valid in the
    /// organisation, its name is kept. Bytes that are not a snapshot give an empty directory.
    pub fn restore(charter: &Charter, snapshot: &[u8]) -> Self {
        let mut directory = Self::default();
        let Snapshot { records, former } = decode(snapshot, SNAPSHOT_MAX_BYTES).unwrap_or_default();
        directory.former.extend(former.into_vec());
        for record in records.into_vec() {
            let gone =
                member_of(record.unverified()).filter(|(member, _)| charter.is_known(*member));
            // What the disk has lost, or what has become invalid, is learnt again.
            let result = directory.insert(Timestamp::ZERO, charter, record, |_| false);
            if let (Err(DirectoryError::Chain(_)), Some(gone)) = (result, gone) {
                directory.keep_name(gone);
            }
        }
        directory
    }

    /// Takes `record` if it is a member's and newer than the known one. Returns whether it was
    /// taken.
    ///
    /// If 1,024 records are known, the one that was met longest ago is dropped, of those not
    /// `connected`. [PROTO-5.3]
    pub fn insert(
        &mut self,
        now: Timestamp,
        charter: &Charter,
        record: Signed<MemberRecord>,
        connected: impl Fn(DeviceId) -> bool,
    ) -> Result<bool, DirectoryError> {
        if !self.is_news(record.unverified()) {
            return Ok(false);
        }
        charter.verify_chain(&record.unverified().chain, record.unverified().device)?;
        record.verify()?;
        self.keep(now, record, connected)
    }

    /// Whether a record claims to be newer than the known one.
    pub(crate) fn is_news(&self, record: &MemberRecord) -> bool {
        self.sequence_number(record.device).is_none_or(|known| known < record.sequence_number)
    }

    /// Takes `record`, which was found to be a member's, like [`Self::insert`].
    pub(crate) fn keep(
        &mut self,
        now: Timestamp,
        record: Signed<MemberRecord>,
        connected: impl Fn(DeviceId) -> bool,
    ) -> Result<bool, DirectoryError> {
        let device = record.unverified().device;
        if !self.is_news(record.unverified()) {
            return Ok(false);
        }
        if self.entries.len() >= RECORDS_MAX && !self.entries.contains_key(&device) {
            let oldest = self
                .entries
                .iter()
                .filter(|(device, _)| !connected(**device))
                .min_by_key(|(_, entry)| entry.seen)
                .map(|(device, _)| *device);
            self.entries.remove(&oldest.ok_or(DirectoryError::Full)?);
        }
        self.entries.insert(device, Entry { record, seen: now });
        Ok(true)
    }

    /// Forgets devices that no longer belong to the organisation, but keeps their members' names.
    pub fn prune(&mut self, charter: &Charter) {
        let is_gone = |device: &DeviceId, entry: &mut Entry| {
            charter.verify_chain(&entry.record.unverified().chain, *device).is_err()
        };
        let gone: Vec<_> = self.entries.extract_if(.., is_gone).collect();
        let names = gone.iter().filter_map(|(_, entry)| member_of(entry.record.unverified()));
        names.for_each(|name| self.keep_name(name));
    }

    fn keep_name(&mut self, (member, name): (MemberId, String)) {
        self.former.retain(|(known, _)| *known != member);
        if self.former.len() >= FORMER_MAX {
            self.former.pop_front();
        }
        self.former.push_back((member, name));
    }

    /// The name of a member with a device that no longer belongs, made fit for display.
    pub fn former_name(&self, member: MemberId) -> Option<String> {
        let known = self.former.iter().rev().find(|(known, _)| *known == member);
        known.map(|(_, name)| clean_name(name))
    }

    /// The member with `device` was met just now.
    pub fn met(&mut self, now: Timestamp, device: DeviceId) {
        if let Some(entry) = self.entries.get_mut(&device) {
            entry.seen = now;
        }
    }

    /// The record of `device`.
    pub fn record(&self, device: DeviceId) -> Option<&MemberRecord> {
        self.entries.get(&device).map(|entry| entry.record.unverified())
    }

    /// All records, with their signatures, by device.
    pub fn records(&self) -> impl Iterator<Item = &Signed<MemberRecord>> {
        self.entries.values().map(|entry| &entry.record)
    }

    /// Like [`Self::records`], starting after `device` and continuing at the start.
    pub(crate) fn records_after(
        &self,
        device: DeviceId,
    ) -> impl Iterator<Item = &Signed<MemberRecord>> {
        let after = self.entries.range((Bound::Excluded(device), Bound::Unbounded));
        after.chain(self.entries.range(..=device)).map(|(_, entry)| &entry.record)
    }

    /// The addresses at which the members say that they listen.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.records().flat_map(|record| record.unverified().addresses.iter().copied())
    }

    /// The directory in the form that is stored on disk.
    pub fn snapshot(&self) -> Vec<u8> {
        encode(&Snapshot {
            records: List::truncated(self.records().cloned()),
            former: List::truncated(self.former.iter().cloned()),
        })
    }

    fn sequence_number(&self, device: DeviceId) -> Option<u64> {
        self.record(device).map(|record| record.sequence_number)
    }
}

/// The content on disk.
#[derive(Default, Serialize, Deserialize)]
struct Snapshot {
    records: List<Signed<MemberRecord>, RECORDS_MAX>,
    former: List<(MemberId, String), FORMER_MAX>,
}

/// The member of a record, and its name.
fn member_of(record: &MemberRecord) -> Option<(MemberId, String)> {
    let member = record.chain.leaf()?.unverified().member();
    Some((member, record.shown_name()))
}

/// Reasons why a record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The device of the record is no member's.
    #[error("record of a stranger: {0}")]
    Chain(#[from] ChainError),
    /// The device did not sign it.
    #[error("record: {0}")]
    Signature(#[from] SignatureError),
    /// There is no room, and all devices with known records are connected.
    #[error("directory is full")]
    Full,
}

/// Listen addresses of a device. A record or Hello with more is refused. [PROTO-5.1]
pub const ADDRESSES_MAX: usize = 16;

/// Members whose records are kept. If there are more, the one that was met longest ago is dropped.
/// [PROTO-5.3]
pub const RECORDS_MAX: usize = 1024;

/// Former members whose names are kept. If there are more, the name of the first to go is dropped.
const FORMER_MAX: usize = 256;

/// Bytes of a snapshot: a record has less than 3 KiB, a former name less than 256 bytes. A longer
/// snapshot counts as lost.
const SNAPSHOT_MAX_BYTES: usize = RECORDS_MAX * 3 * 1024 + FORMER_MAX * 256;

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;
    use hark_charter::{Piece, content::Change};

    fn record(
        charter: &Charter,
        founder: &DeviceKey,
        key: &DeviceKey,
        number: u64,
    ) -> Signed<MemberRecord> {
        let founder_member = charter.member_of(founder.id());
        let certificate = charter.issue(founder, founder_member, key.id(), None).unwrap();
        let record = MemberRecord {
            device: key.id(),
            name: "Ann\n".to_owned(),
            addresses: List::truncated(["192.0.2.1:7000".parse().unwrap()]),
            chain: charter.chain_with(certificate),
            sequence_number: number,
        };
        Signed::sign(record, key)
    }

    /// [PROTO-5.1]
    #[test]
    fn the_higher_sequence_number_replaces_the_lower() {
        let random = SeededRandom::new(1);
        let (founder, ann) = (DeviceKey::generate(&random), DeviceKey::generate(&random));
        let charter = Charter::found("Squad", "Voice", &founder, None, &random);
        let mut directory = Directory::default();
        let mut insert = |number| {
            let record = record(&charter, &founder, &ann, number);
            directory.insert(Timestamp::ZERO, &charter, record, |_| false)
        };
        assert_eq!([2, 1, 2, 3].map(&mut insert), [Ok(true), Ok(false), Ok(false), Ok(true)]);
        assert_eq!(directory.sequence_number(ann.id()), Some(3));
        assert_eq!(directory.record(ann.id()).unwrap().shown_name(), "Ann");
        let restored = Directory::restore(&charter, &directory.snapshot());
        assert!(restored.records().eq(directory.records()));
        let elsewhere = Charter::found("Squad", "Voice", &founder, None, &random);
        assert_eq!(Directory::restore(&elsewhere, &directory.snapshot()).records().count(), 0);
        assert_eq!(Directory::restore(&charter, b"\xff\xff").records().count(), 0);
    }

    /// Regression: a member that had left, or was removed, was shown as a number without a name.
    #[test]
    fn names_of_those_who_went_were_forgotten() {
        let random = SeededRandom::new(4);
        let (founder, ann) = (DeviceKey::generate(&random), DeviceKey::generate(&random));
        let mut charter = Charter::found("Squad", "Voice", &founder, None, &random);
        let member = charter.member_of(ann.id());
        let record = record(&charter, &founder, &ann, 1);
        let certificate = record.unverified().chain.leaf().unwrap().clone();
        charter.take(Piece::Certificate(certificate)).unwrap();
        let mut directory = Directory::default();
        directory.insert(Timestamp::ZERO, &charter, record, |_| false).unwrap();
        let kept = directory.snapshot();
        assert_eq!(directory.former_name(member), None);
        let removal = vec![Change::Remove { member, admission: 1 }];
        let own = charter.member_of(founder.id());
        let removal = charter.edit(&founder, own, removal).unwrap();
        charter.take(Piece::Operation(removal)).unwrap();
        directory.prune(&charter);
        let restored = Directory::restore(&charter, &directory.snapshot());
        // The member was removed while this device was away.
        let away = Directory::restore(&charter, &kept);
        for directory in [directory, restored, away] {
            assert_eq!(directory.records().count(), 0);
            assert_eq!(directory.former_name(member).as_deref(), Some("Ann"));
        }
    }

    /// [PROTO-5.2]
    #[test]
    fn records_after_a_device_go_round_and_are_all() {
        let random = SeededRandom::new(3);
        let founder = DeviceKey::generate(&random);
        let charter = Charter::found("Squad", "Voice", &founder, None, &random);
        let mut directory = Directory::default();
        let mut devices = Vec::new();
        for key in (0..5).map(|_| DeviceKey::generate(&random)) {
            let record = record(&charter, &founder, &key, 1);
            directory.insert(Timestamp::ZERO, &charter, record, |_| false).unwrap();
            devices.push(key.id());
        }
        devices.sort_unstable();
        let after = |device| -> Vec<_> {
            directory.records_after(device).map(|it| it.unverified().device).collect()
        };
        let [a, b, c, d, e] = devices[..] else { unreachable!() };
        assert_eq!(after(c), [d, e, a, b, c]);
        assert_eq!(after(e), [a, b, c, d, e]);
        let stranger = founder.id();
        assert_eq!(after(stranger).len(), 5);
    }

    /// [PROTO-5.3]
    #[test]
    fn the_member_met_the_longest_ago_makes_room() {
        let random = SeededRandom::new(2);
        let founder = DeviceKey::generate(&random);
        let charter = Charter::found("Squad", "Voice", &founder, None, &random);
        let keys: Vec<_> = (0..=RECORDS_MAX).map(|_| DeviceKey::generate(&random)).collect();
        let mut directory = Directory::default();
        for (second, key) in (0..).zip(&keys) {
            let now = Timestamp::from_millis(second);
            let record = record(&charter, &founder, key, 1);
            // The first one stays because it is connected.
            let connected = |device| device == keys[0].id();
            assert_eq!(directory.insert(now, &charter, record, connected), Ok(true));
        }
        assert_eq!(directory.records().count(), RECORDS_MAX);
        assert!(directory.record(keys[0].id()).is_some());
        assert!(directory.record(keys[1].id()).is_none());
        assert!(directory.record(keys[RECORDS_MAX].id()).is_some());
    }
}
