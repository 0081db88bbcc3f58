//! The members of one organisation as one of them sees them: who is present, who holds whose key,
//! and who sends to whom.
//!
//! The squad is a state machine without I/O. The driver reports what happened (`handle_…`). Then it
//! takes outputs until there are none left. Last, it asks when to call [`Squad::handle_timeout`]:
//!
//! ```
//! # use hark_keys::Timestamp;
//! # use hark_mesh::squad::Squad;
//! fn drive(now: Timestamp, squad: &mut Squad) -> Option<Timestamp> {
//!     while let Some(_transmit) = squad.poll_transmit() { /* send it */ }
//!     while let Some(_dial) = squad.poll_dial(now) { /* dial it */ }
//!     while let Some(_generation) = squad.poll_persist() { /* write it to disk */ }
//!     while let Some(_job) = squad.poll_job(now) { /* have a worker run it */ }
//!     while let Some(_verdict) = squad.poll_verdict() { /* answer the peer */ }
//!     while let Some(_event) = squad.poll_event() { /* pass it on */ }
//!     squad.poll_timeout()
//! }
//! ```

mod announcement;
mod availabilities;
mod budget;
mod checks;
mod epochs;
mod facts;
mod jobs;
mod links;
mod messages;
mod moves;
mod names;
mod nets;
mod output;
mod pasts;
mod paths;
mod reconcile;
mod records;
mod relaying;
mod relays;
mod replication;
mod rights;
mod serving;
mod talkers;
mod targets;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use hark_charter::{
    Charter, EditError, NameKey, Operation, Piece, PieceError, clean_name, content::Change,
};
use hark_keys::{
    ChannelId, Cosigned, DeviceId, DeviceKey, MemberId, Random, TargetId, Timestamp, UnixTime,
};

pub use checks::Checked;
pub use jobs::{Job, JobDone};
pub use moves::MoveError;
pub use output::{DownReason, Handled, MessageError, Persist, Service, SquadEvent, SquadTransmit};
pub use paths::PathSeen;

use crate::{
    Availability, Dial, Directory, Target,
    datagram::Heartbeat,
    dialling::{Dialling, Source},
    hello::Presence,
    liveness::{Liveness, Reach},
    message::RECIPIENTS_MAX,
};
use availabilities::Availabilities;
use budget::{AUTHORED_INCOME, AUTHORED_LIMIT, Purses, THREAD_INCOME, THREAD_LIMIT};
use checks::{Checks, ChecksMade};
use epochs::Epochs;
use links::{Link, is_infrastructure};
use messages::Purpose;
use names::Names;
use nets::Nets;
use paths::Paths;
use reconcile::Dirty;
use records::Records;
use relays::Relays;
use replication::Replication;
use serving::Serving;
use talkers::Talkers;
use targets::Targets;

/// The settings and stored data that a [`Squad`] starts with.
pub struct SquadConfig {
    /// The organisation.
    pub charter: Arc<Charter>,
    /// This device.
    pub key: Arc<DeviceKey>,
    /// The member whose device it is; `None` for an infrastructure relay, which hears nothing, says
    /// nothing and gets no key.
    pub member: Option<MemberId>,
    /// Whether to hide this device's address from all members. It is then linked with members only
    /// by the charter's relays.
    pub relay_only: bool,
    /// What this device says of itself.
    pub presence: Presence,
    /// The records of members from its last run.
    pub directory: Directory,
    /// The newest generation of sender keys on disk, for each target.
    pub generations: BTreeMap<TargetId, u16>,
    /// The keys of hidden channels' names.
    pub names: BTreeMap<ChannelId, NameKey>,
    /// The current calendar time: see [`Squad::set_calendar`].
    pub calendar: UnixTime,
}

/// The members of one organisation, as this device sees them.
pub struct Squad {
    key: Arc<DeviceKey>,
    member: Option<MemberId>,
    relay_only: bool,
    presence: Presence,
    links: BTreeMap<DeviceId, Link>,
    liveness: Liveness,
    dialling: Dialling,
    paths: Paths,
    checks: Checks,
    checks_made: ChecksMade,
    records: Records,
    replication: Replication,
    nets: Nets,
    names: Names,
    targets: Targets,
    talkers: Talkers,
    relays: Relays,
    epochs: Epochs,
    availabilities: Availabilities,
    /// What this device does for others as a relay; `None` if it is not a relay.
    serving: Option<Serving>,
    /// What each peer may cost the thread that decides. [PROTO-5.11]
    purses: Purses,
    /// How often each device may have its own records and offers passed on.
    authors: Purses,
    /// The highest number of this device's withdrawn offers to relay.
    offered: u64,
    /// Messages under way, and the purpose that decides what to do with the answer.
    under_way: BTreeMap<(DeviceId, u64), Purpose>,
    last_id: u64,
    /// When the last input came, and what has changed since everything was last up to date.
    now: Timestamp,
    dirty: Dirty,
    /// Sequence number of the newest announcement to any peer. Announcements are sent again
    /// whenever what they say changes.
    numbers: u64,
    /// When to list the certificates that this member has issued. [CHARTER-3.2]
    list_at: Option<Timestamp>,
    /// When this device stops waiting for the charter to say that it belongs.
    doubted_at: Option<Timestamp>,
    /// Devices that no longer belong, and when their links are closed.
    evicting: BTreeMap<DeviceId, Timestamp>,
    transmits: VecDeque<SquadTransmit>,
    events: VecDeque<SquadEvent>,
}

impl Squad {
    /// Starts without links. All members in the directory are dialled, and the relays of the
    /// charter.
    pub fn new(now: Timestamp, config: SquadConfig, random: Arc<dyn Random>) -> Self {
        let SquadConfig {
            charter,
            key,
            member,
            relay_only,
            presence,
            directory,
            generations,
            names,
            calendar,
        } = config;
        let mut dialling = Dialling::default();
        dialling.set_own(&presence.addresses);
        for record in directory.records() {
            let record = record.unverified();
            let may = !relay_only || is_infrastructure(&charter, record.device);
            if record.device != key.id() && may {
                let (device, addresses) = (Some(record.device), &record.addresses);
                dialling.discovered(now, device, addresses, Source::Remembered);
            }
        }
        let presence = Presence { name: clean_name(&presence.name), ..presence };
        let mut squad = Self {
            talkers: Talkers::new(key.id()),
            records: Records::new(directory),
            replication: Replication::new(charter, calendar),
            nets: Nets::new(),
            names: Names::new(names),
            epochs: Epochs::new((calendar, now), Arc::clone(&key), Arc::clone(&random)),
            checks: Checks::new(Arc::clone(&random)),
            checks_made: ChecksMade::default(),
            targets: Targets::new(Arc::clone(&key), random, generations),
            key,
            serving: member.is_none().then(Serving::infrastructure),
            purses: Purses::new(THREAD_INCOME, THREAD_LIMIT),
            authors: Purses::new(AUTHORED_INCOME, AUTHORED_LIMIT),
            offered: 0,
            member,
            relay_only,
            presence,
            relays: Relays::default(),
            availabilities: Availabilities::default(),
            links: BTreeMap::new(),
            liveness: Liveness::default(),
            dialling,
            paths: Paths::default(),
            under_way: BTreeMap::new(),
            last_id: 0,
            now,
            dirty: Dirty::CHARTER,
            numbers: 0,
            list_at: None,
            doubted_at: None,
            evicting: BTreeMap::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        squad.update_record(now);
        squad.catch_up();
        squad
    }

    /// A job from [`Self::poll_job`] is done.
    pub fn handle_job(&mut self, now: Timestamp, done: JobDone) {
        let records = self.replication.handle_job(now, done);
        self.keep_records(now, records);
        self.mark(now, Dirty::PIECES | Dirty::RELAYS);
    }

    /// Sets the addresses at which this device listens. Only the first 16 count.
    pub fn handle_addresses(&mut self, now: Timestamp, addresses: Vec<SocketAddr>) {
        if self.presence.addresses != addresses && !self.relay_only {
            self.dialling.set_own(&addresses);
            self.presence.addresses = addresses;
            self.checks.mark();
            self.update_record(now);
            self.mark(now, Dirty::PATHS);
        }
    }

    /// Sets the calendar time, which then advances with the clock. Call this from time to time,
    /// since the clock may stand still while the machine sleeps.
    pub fn set_calendar(&mut self, now: Timestamp, calendar: UnixTime) {
        self.epochs.set_calendar((calendar, now));
        self.mark(now, Dirty::EPOCHS);
        // [CHARTER-6.7] A mute or a ban has ended, or begins again since the calendar was set back.
        if self.replication.set_calendar(calendar) {
            self.mark(now, Dirty::CHARTER);
            self.catch_up();
        }
    }

    /// Sets the name that the person has chosen.
    pub fn set_name(&mut self, now: Timestamp, name: &str) {
        let name = clean_name(name);
        if self.presence.name != name {
            self.presence.name = name;
            self.update_record(now);
        }
    }

    /// Sets whether the person has muted the microphone, silenced the loudspeaker or gone away.
    /// Others are told at most every 2 s. [PROTO-5.12]
    pub fn set_availability(&mut self, now: Timestamp, availability: Availability) {
        self.availabilities.set_own(now, availability);
        self.mark(now, Dirty::AVAILABILITY);
    }

    /// Sets the channels to hear. Each is heard as soon as it exists and is permitted. Before the
    /// first call, the first channel is heard.
    pub fn set_listening(&mut self, now: Timestamp, channels: impl IntoIterator<Item = ChannelId>) {
        self.nets.want(channels);
        self.mark(now, Dirty::NETS);
        self.catch_up();
    }

    /// Listens to the first channel, whichever that is, as before any call of
    /// [`Self::set_listening`].
    pub fn listen_to_first(&mut self, now: Timestamp) {
        self.nets.want_first();
        self.mark(now, Dirty::NETS);
        self.catch_up();
    }

    /// Sets the targets to keep keys ready for. Each is keyed as soon as it is permitted. Before
    /// the first call, this is the first channel.
    pub fn set_targets(&mut self, now: Timestamp, targets: Vec<Target>) {
        self.targets.want(targets);
        self.mark(now, Dirty::TARGETS);
        self.catch_up();
    }

    /// Makes changes to the charter. They take effect once they are on disk. [CHARTER-8.1]
    pub fn edit(
        &mut self,
        now: Timestamp,
        changes: Vec<Change>,
    ) -> Result<Cosigned<Operation>, EditError> {
        let member = self.member.ok_or(EditError::NotMember)?;
        self.mark(now, Dirty::default());
        self.replication.edit(&self.key, member, changes)
    }

    /// Takes pieces of the charter that a person has brought, and sends them to others. Returns how
    /// many were new.
    pub fn bring(&mut self, now: Timestamp, pieces: Vec<Piece>) -> Result<usize, PieceError> {
        self.mark(now, Dirty::default());
        let mut new = 0;
        for piece in pieces {
            new += usize::from(self.replication.take_own(piece)?);
        }
        Ok(new)
    }

    /// Takes pieces that claim to prove that this device no longer belongs. They are judged like
    /// any others; if the claim is true, [`SquadEvent::Removed`] follows. [PROTO-3.8] [PROTO-3.22]
    pub fn handle_proof(&mut self, pieces: Vec<Piece>) {
        self.replication.handle_proof(pieces);
    }

    /// Keeps the key of a hidden channel's name. Members that may join the channel are given the
    /// key.
    pub fn keep_name(&mut self, now: Timestamp, channel: ChannelId, key: NameKey) {
        if self.names.keep(channel, key) {
            self.events.push_back(SquadEvent::NamesChanged);
            self.mark(now, Dirty::NAMES);
        }
    }

    /// A peer, `device` if it is known, can perhaps be reached at `addresses`.
    pub fn handle_discovered(
        &mut self,
        now: Timestamp,
        device: Option<DeviceId>,
        addresses: &[SocketAddr],
    ) {
        if device == Some(self.key.id()) {
            return;
        }
        let own = &self.presence.addresses;
        let addresses: Vec<_> =
            addresses.iter().copied().filter(|address| !own.contains(address)).collect();
        self.learn(now, device, &addresses, Source::Known);
    }

    /// Makes addresses of a device candidates for dialling, unless a dial would reveal our own
    /// address to a member.
    fn learn(
        &mut self,
        now: Timestamp,
        device: Option<DeviceId>,
        addresses: &[SocketAddr],
        source: Source,
    ) {
        let relay = device.is_some_and(|device| is_infrastructure(self.charter(), device));
        if !self.relay_only || relay {
            self.dialling.discovered(now, device, addresses, source);
        }
    }

    /// A dial of [`Self::poll_dial`] has failed.
    pub fn handle_dial_failed(&mut self, now: Timestamp, dial: &Dial) {
        self.dialling.failed(now, dial);
    }

    /// The key of the last [`SquadEvent::OwnKey`] for a target has sealed its first frame. [PROTO-6.6]
    pub fn handle_talked(&mut self, now: Timestamp, target: TargetId) {
        self.targets.handle_used(now, target);
        self.mark(now, Dirty::KEYS);
    }

    /// The number from [`Self::poll_persist`] for a target is on disk.
    pub fn handle_persisted(&mut self, now: Timestamp, target: TargetId, generation: u16) {
        self.targets.handle_persisted(now, target, generation);
        self.mark(now, Dirty::KEYS);
    }

    /// The charter from [`Self::poll_persist`] is on disk and takes effect.
    pub fn handle_charter_persisted(&mut self, now: Timestamp, number: u64) {
        if let Some(news) = self.replication.handle_persisted(number) {
            for bytes in news {
                self.push(SquadTransmit::Gossip(bytes));
            }
            self.mark(now, Dirty::CHARTER);
            self.catch_up();
        }
    }

    /// The charter from [`Self::poll_persist`] could not be written. It will be returned again.
    pub fn handle_charter_unwritten(&mut self, now: Timestamp, number: u64) {
        if self.replication.handle_unwritten(now, number) {
            self.mark(now, Dirty::CHARTER);
            self.catch_up();
        }
    }

    /// Time has passed. Early and repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.catch_up();
        // Drivers call this with each input.
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        for (device, reach) in self.liveness.fallen_silent(now) {
            match reach {
                Reach::Reachable => {}
                Reach::Unreachable => {
                    self.dialling.silent(now, device);
                    self.events.push_back(SquadEvent::PeerUnreachable { device });
                }
                Reach::Lost => self.targets.leave(now, device),
            }
        }
        if let Some(number) = self.liveness.heartbeat(now) {
            let mut bytes = Vec::new();
            Heartbeat { number }.encode(&mut bytes);
            for to in self.links.keys().copied().collect::<Vec<_>>() {
                self.push(SquadTransmit::Datagram { to, bytes: bytes.clone() });
            }
        }
        self.dialling.handle_timeout(now);
        self.paths.handle_timeout(now);
        self.targets.handle_timeout(now);
        self.epochs.handle_timeout(now);
        self.talkers.handle_timeout(now);
        self.replication.handle_timeout(now);
        if let Some(peer) = self.records.repair_due(now, self.links.keys().copied()) {
            self.send_records(peer);
        }
        if self.records.announcement_due(now) {
            self.announce();
        }
        self.handle_relaying_timeout(now);
        self.handle_availability_timeout(now);
        for device in self.evicting.extract_if(.., |_, at| *at <= now).map(|(device, _)| device) {
            self.events.push_back(SquadEvent::Evicted { device });
        }
        if self.doubted_at.take_if(|at| *at <= now).is_some() && !self.is_held() {
            self.events.push_back(SquadEvent::Removed);
        }
        if self.list_at.take_if(|at| *at <= now).is_some() {
            self.list_certificates();
        }
        self.mark(now, Dirty::TIME);
    }

    /// Returns the next thing to send.
    pub fn poll_transmit(&mut self) -> Option<SquadTransmit> {
        self.catch_up();
        self.transmits.pop_front()
    }

    /// Returns the next dial to make. Report its result by [`Self::handle_link_up`] or
    /// [`Self::handle_dial_failed`].
    pub fn poll_dial(&mut self, now: Timestamp) -> Option<Dial> {
        self.catch_up();
        if let Some(dial) = self.paths.poll_dial() {
            return Some(dial);
        }
        let dial = if self.is_full() { None } else { self.dialling.poll(now) };
        dial.as_ref().into_iter().for_each(|dial| self.begin_upgrade(dial));
        dial
    }

    /// Returns the next thing to write to disk. When it is there, report it by
    /// [`Self::handle_persisted`] or [`Self::handle_charter_persisted`]. Nothing is done with it
    /// before. [PROTO-6.3] [CHARTER-8.1]
    pub fn poll_persist(&mut self) -> Option<Persist> {
        self.catch_up();
        if let Some((number, charter)) = self.replication.poll_persist() {
            return Some(Persist::Charter(number, charter));
        }
        let (target, generation) = self.targets.poll_persist()?;
        Some(Persist::Generation(target, generation))
    }

    /// Returns the next job that may take long. When it is done, report it by [`Self::handle_job`].
    /// There is only one job at a time.
    pub fn poll_job(&mut self, now: Timestamp) -> Option<Job> {
        self.catch_up();
        self.replication.poll_job(now)
    }

    /// Returns the result of a message or gossip that was [`Handled::Later`], and its number.
    pub fn poll_verdict(&mut self) -> Option<(u64, Result<(), MessageError>)> {
        self.catch_up();
        self.replication.poll_verdict()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<SquadEvent> {
        self.catch_up();
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] and the polls next have something to do. Ask for it last.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let dialling = self.dialling.timeout().filter(|_| !self.is_full());
        let timeouts = [
            self.liveness.timeout(),
            self.targets.timeout(),
            self.epochs.timeout(),
            self.records.timeout(),
            self.replication.timeout(),
            self.nets.timeout(),
            self.names.timeout(),
            self.paths.timeout(),
            self.checks.timeout(),
            self.availabilities.timeout(),
            self.list_at,
            self.doubted_at,
            self.relays.timeout(),
            self.serving.as_ref().and_then(Serving::timeout),
            self.evicting.values().min().copied(),
            dialling,
            (!self.dirty.is_empty()).then_some(self.now),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Whether there is no room for more peers. Further ones are refused as
    /// [`crate::hello::Refusal::Busy`].
    pub fn is_full(&self) -> bool {
        let limit = if self.member.is_some() { LINKS_MAX } else { RELAY_LINKS_MAX };
        self.links.len() >= limit
    }
}

/// Most links at a time: as many as there can be recipients of a key. Further peers are not served.
pub const LINKS_MAX: usize = RECIPIENTS_MAX;

/// Most links of an infrastructure relay at a time.
pub const RELAY_LINKS_MAX: usize = 4096;

/// Most outputs that wait for the driver, which takes all after each input. If there are more, the
/// oldest is dropped. Keys and records are sent again.
const TRANSMITS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
