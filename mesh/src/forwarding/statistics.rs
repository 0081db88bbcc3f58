use std::collections::BTreeMap;

use hark_keys::MemberId;

use super::limits::Bucket;
use crate::datagram::DropReason;

/// What a relay has done for an organisation since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Devices attached now.
    pub sessions: usize,
    /// Devices that talk now.
    pub talkers: usize,
    /// Traffic of all devices.
    pub total: Traffic,
    /// Traffic of each member's devices, including those that have left.
    pub members: BTreeMap<MemberId, Traffic>,
}

/// What was received and sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams received, including those that were dropped.
    pub datagrams_in: u64,
    /// Bytes of these datagrams.
    pub bytes_in: u64,
    /// Datagrams sent. A bundle counts as one.
    pub datagrams_out: u64,
    /// Bytes of these datagrams.
    pub bytes_out: u64,
    /// Voice datagrams sent, alone or in bundles, one for each listener.
    pub deliveries: u64,
    /// What was dropped, counted for its sender. These are received datagrams, but deliveries for
    /// [`DropReason::Late`] and [`DropReason::OverQuota`].
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Traffic {
    pub(super) fn came(&mut self, bytes: usize) {
        self.datagrams_in += 1;
        self.bytes_in += bytes as u64;
    }

    pub(super) fn went(&mut self, datagrams: u64, bytes: u64, deliveries: u64) {
        self.datagrams_out += datagrams;
        self.bytes_out += bytes;
        self.deliveries += deliveries;
    }

    pub(super) fn drop(&mut self, reason: DropReason, count: usize) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count as u64;
        }
    }
}

/// The members that have devices here, or have recently had some.
#[derive(Default)]
pub(super) struct Members {
    entries: Vec<Member>,
    index: BTreeMap<MemberId, usize>,
}

pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) sessions: u32,
    pub(super) voice: Bucket,
    pub(super) traffic: Traffic,
    /// Number of the member's last departure among all departures.
    left: u64,
}

impl Members {
    /// A device of this member arrives. If there are too many members, the one that left longest
    /// ago is forgotten. A member with a device here is never forgotten.
    pub(super) fn enter(&mut self, id: MemberId, sessions_max: usize) -> usize {
        let fresh = Member {
            id,
            sessions: 0,
            voice: Bucket::default(),
            traffic: Traffic::default(),
            left: 0,
        };
        let index = match self.index.get(&id) {
            Some(index) => *index,
            None => {
                let index = if self.entries.len() < sessions_max + ABSENT_MAX {
                    self.entries.push(fresh);
                    self.entries.len() - 1
                } else {
                    let absent = self.entries.iter().enumerate().filter(|(_, it)| it.sessions == 0);
                    let oldest = absent.min_by_key(|(_, it)| it.left);
                    let (index, _) = oldest.expect("more entries than sessions");
                    self.index.remove(&self.entries[index].id);
                    self.entries[index] = fresh;
                    index
                };
                self.index.insert(id, index);
                index
            }
        };
        self.entries[index].sessions += 1;
        index
    }

    pub(super) fn leave(&mut self, index: usize, departures: u64) {
        self.entries[index].sessions -= 1;
        self.entries[index].left = departures;
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Member {
        &mut self.entries[index]
    }

    pub(super) fn traffic(&self) -> BTreeMap<MemberId, Traffic> {
        self.entries.iter().map(|it| (it.id, it.traffic.clone())).collect()
    }
}

/// Members without a device here whose rates and counters are still kept.
const ABSENT_MAX: usize = 4_096;
