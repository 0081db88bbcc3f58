use std::time::Duration;

use hark_charter::Charter;
use hark_keys::{DeviceId, Signed, Timestamp};
use zeroize::Zeroizing;

use super::{
    Handled, LINKS_MAX, MessageError, Purpose, Squad, SquadEvent, SquadTransmit, budget::AUTHORED,
};
use crate::{ADDRESSES_MAX, Directory, List, MemberRecord, dialling::Source, message::Message};

/// The directory, and when to send it to others. [PROTO-5.2]
pub(super) struct Records {
    directory: Directory,
    /// When to exchange all records with one peer.
    repair_at: Option<Timestamp>,
    /// The peer of the last repair.
    repaired: Option<DeviceId>,
    /// The peer that the last exchange did not reach.
    missed: Option<DeviceId>,
    /// When to gossip our own record.
    announce_at: Option<Timestamp>,
    /// Whether to repeat that once more.
    announce_again: bool,
}

impl Records {
    pub(super) fn new(directory: Directory) -> Self {
        Self {
            directory,
            repair_at: None,
            repaired: None,
            missed: None,
            announce_at: None,
            announce_again: false,
        }
    }

    pub(super) fn link_up(&mut self, now: Timestamp, device: DeviceId, first: bool) {
        self.directory.met(now, device);
        self.repair_at.get_or_insert(now + REPAIR_INTERVAL);
        if first {
            self.announce_at = Some(now + ANNOUNCE_SOON);
            self.announce_again = true;
        }
    }

    pub(super) fn link_down(&mut self, now: Timestamp, device: DeviceId, last: bool) {
        self.directory.met(now, device);
        if last {
            self.repair_at = None;
            self.announce_at = None;
        }
    }

    /// The peer that all records are to be sent to now. Each peer has its turn.
    pub(super) fn repair_due(
        &mut self,
        now: Timestamp,
        peers: impl Iterator<Item = DeviceId> + Clone,
    ) -> Option<DeviceId> {
        self.repair_at.filter(|at| *at <= now)?;
        self.repair_at = Some(now + REPAIR_INTERVAL);
        if let Some(missed) = self.missed.take()
            && peers.clone().any(|peer| peer == missed)
        {
            return Some(missed);
        }
        let last = self.repaired;
        let next = peers.clone().find(|peer| last.is_none_or(|last| *peer > last));
        self.repaired = next.or_else(|| peers.clone().next());
        self.repaired
    }

    /// Records did not reach `peer`. They may have taken a link that another one replaced.
    pub(super) fn failed(&mut self, now: Timestamp, peer: DeviceId) {
        self.missed = Some(peer);
        self.repair_at = self.repair_at.map(|at| at.min(now + REPAIR_RETRY));
    }

    pub(super) fn announcement_due(&mut self, now: Timestamp) -> bool {
        let due = self.announce_at.take_if(|at| *at <= now).is_some();
        if due && std::mem::take(&mut self.announce_again) {
            self.announce_at = Some(now + ANNOUNCE_AGAIN);
        }
        due
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.repair_at.into_iter().chain(self.announce_at).min()
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether `device` is known to belong to the organisation.
    pub(super) fn knows(&self, charter: &Charter, device: DeviceId) -> bool {
        charter.is_root(device) || self.directory.record(device).is_some()
    }

    /// Forgets devices that no longer belong.
    pub(super) fn prune(&mut self, charter: &Charter) {
        self.directory.prune(charter);
    }
}

impl Squad {
    /// Makes a new record of this device and tells others.
    pub(super) fn update_record(&mut self, now: Timestamp) {
        let own = self.key.id();
        let last = self.records.directory.record(own).map_or(0, |record| record.sequence_number);
        self.sign_record(now, last.saturating_add(1));
    }

    /// Queues records that a peer has sent or passed on, as far as they are newer than the known
    /// ones.
    pub(super) fn take_records(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        records: Vec<Signed<MemberRecord>>,
        gossiped: bool,
    ) -> Result<Handled, MessageError> {
        let mut news = Vec::new();
        let mut too_many = false;
        for record in records {
            let claimed = record.unverified();
            if claimed.device == self.key.id() {
                self.take_own_record(now, &record)?;
            } else if self.records.directory.is_news(claimed) {
                // [PROTO-5.11] A device that sends new records again and again is ignored, and its
                // records are not passed on.
                if self.authors.is_open(now, claimed.device) {
                    news.push(record);
                } else {
                    too_many = true;
                }
            }
        }
        if !news.is_empty() {
            self.replication.handle_records(from, news)
        } else if too_many && gossiped {
            Err(MessageError::OverBudget)
        } else {
            Ok(Handled::Done)
        }
    }

    /// Keeps records that were found to be members'.
    pub(super) fn keep_records(&mut self, now: Timestamp, records: Vec<Signed<MemberRecord>>) {
        let mut changed = false;
        for record in records {
            let claimed = record.unverified();
            let (device, name) = (claimed.device, claimed.shown_name());
            let addresses = claimed.addresses.to_vec();
            let links = &self.links;
            let connected = |device| links.contains_key(&device);
            // If there is no room, the peer is not at fault.
            if self.records.directory.keep(now, record, connected) != Ok(true) {
                continue;
            }
            changed = true;
            self.authors.spend(now, device, AUTHORED);
            self.learn(now, Some(device), &addresses, Source::Announced);
            if let Some(link) = self.links.get_mut(&device)
                && link.name != name
            {
                link.name.clone_from(&name);
                self.events.push_back(SquadEvent::PeerRenamed { device, name });
            }
        }
        if changed {
            self.events.push_back(SquadEvent::RecordsChanged);
        }
    }

    /// Queues all records for the linked peer `to`. A relay may know a thousand, and sends only as
    /// many as the peer could use. Otherwise each of a thousand newcomers would cost as much as all
    /// of them.
    pub(super) fn send_records(&mut self, to: DeviceId) {
        let most = if self.member.is_some() { usize::MAX } else { LINKS_MAX };
        let records = self.records.directory.records_after(to).take(most);
        for bytes in Message::of_records(records) {
            self.send(to, Purpose::Records, Zeroizing::new(bytes));
        }
    }

    /// Gossips the record of this device.
    pub(super) fn announce(&mut self) {
        let own = self.key.id();
        let mut records = self.records.directory.records();
        if let Some(record) = records.find(|record| record.unverified().device == own) {
            let [bytes] = &mut Message::of_records([record])[..] else { return };
            let bytes = std::mem::take(bytes);
            drop(records);
            self.push(SquadTransmit::Gossip(bytes));
        }
    }

    /// A record of our own that we do not know is from before our disk was lost. Others accept our
    /// records again only with a higher number.
    fn take_own_record(
        &mut self,
        now: Timestamp,
        record: &Signed<MemberRecord>,
    ) -> Result<(), MessageError> {
        let known = self.records.directory.record(self.key.id());
        let claimed = record.unverified();
        let is_older = |known: &MemberRecord| known.sequence_number > claimed.sequence_number;
        if known == Some(claimed) || known.is_some_and(is_older) {
            return Ok(());
        }
        let theirs = record.verify()?.sequence_number;
        if known.is_none_or(|known| known.sequence_number <= theirs) {
            self.sign_record(now, theirs.saturating_add(1));
        }
        Ok(())
    }

    fn sign_record(&mut self, now: Timestamp, sequence_number: u64) {
        // Nobody looks for a device that no longer belongs.
        let Some(member) = self.member else { return };
        if !self.charter().devices_of(member).contains(&self.key.id()) {
            return;
        }
        let record = MemberRecord {
            device: self.key.id(),
            name: self.presence.name.clone(),
            addresses: List::<_, ADDRESSES_MAX>::truncated(self.presence.addresses.iter().copied()),
            chain: self.charter().chain_of(member),
            sequence_number,
        };
        let record = Signed::sign(record, &self.key);
        let charter = self.replication.taken();
        match self.records.directory.insert(now, charter, record, |_| false) {
            Ok(_) => self.events.push_back(SquadEvent::RecordsChanged),
            Err(error) => tracing::error!(%error, "this device's own record is not valid"),
        }
        if !self.links.is_empty() {
            self.records.announce_at = Some(now);
        }
    }
}

/// How often all records are exchanged with one peer. [PROTO-5.2]
///
/// This makes up for lost gossip. A longer time costs less and repairs later.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);

/// How soon records that did not reach a peer are sent again. A shorter time would burden a peer
/// that refuses them.
const REPAIR_RETRY: Duration = Duration::from_secs(1);

/// After the first link, gossip needs some round trips to know who listens. Others that join at the
/// same time do not learn of us sooner.
const ANNOUNCE_SOON: Duration = Duration::from_millis(250);

/// A longer delay for long paths.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(1_000);
