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
mod moves;
mod names;
mod nets;
mod output;
mod pasts;
mod paths;
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
use zeroize::Zeroizing;

pub use checks::Checked;
pub use jobs::{Job, JobDone};
pub use moves::MoveError;
pub use output::{DownReason, Event, Handled, MessageError, Persist, Service, Transmit};
pub use paths::Seen;

use crate::{
    Availability, Dial, Directory, Target,
    datagram::Heartbeat,
    dialling::{Dialling, Source},
    hello::{PeerHello, Presence},
    liveness::{Liveness, Reach},
    message::{Message, RECIPIENTS_MAX},
};
use availabilities::Availabilities;
use budget::{AUTHORED_INCOME, AUTHORED_LIMIT, Purses, THREAD_INCOME, THREAD_LIMIT, cost_of};
use checks::{Checks, ChecksMade};
use epochs::Epochs;
use names::Names;
use nets::Nets;
use paths::Paths;
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
    /// When all parts were last brought up to date with each other.
    settled_at: Timestamp,
    /// Sequence number of the newest announcement to any peer. Announcements are sent again
    /// whenever what they say changes.
    numbers: u64,
    /// When to list the certificates that this member has issued. [CHARTER-3.2]
    list_at: Option<Timestamp>,
    /// When this device stops waiting for the charter to say that it belongs.
    doubted_at: Option<Timestamp>,
    /// Devices that no longer belong, and when their links are closed.
    evicting: BTreeMap<DeviceId, Timestamp>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// The purpose of a message.
#[derive(Clone, Copy)]
enum Purpose {
    Key(TargetId, u64),
    Records,
    Listening(u64),
    Names,
    Charter,
    Move,
    /// To a relay that we use.
    Order(u64),
    /// To a peer that uses us as a relay.
    Notice(u64),
    Observed(u64),
    Availability(u64),
    Candidates,
    Check(u64),
    Prekey(u64),
    Attendance(ChannelId, u64),
    Epoch(u64),
    Confirming(u64),
    /// Needs no repetition: it is sent again when more holders have confirmed.
    Confirmed,
    TalkersKey(TargetId, u64),
}

/// A peer whose Hello was accepted.
struct Link {
    name: String,
    incarnation: u64,
    /// The peer's member; `None` for an infrastructure relay.
    member: Option<MemberId>,
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
            settled_at: now,
            numbers: 0,
            list_at: None,
            doubted_at: None,
            evicting: BTreeMap::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        squad.update_record(now);
        squad.apply_charter(now);
        squad
    }

    /// A link is up, and its Hello was accepted. `address` is where the peer was found, if this
    /// side dialled it.
    ///
    /// Also call this when the link replaces another one to the same device. [PROTO-2.23] A link
    /// beyond the limit (see [`Self::is_full`]) is ignored. A device that no longer belongs is
    /// reported as [`Event::Evicted`].
    pub fn handle_link_up(&mut self, now: Timestamp, peer: PeerHello, address: Option<SocketAddr>) {
        let PeerHello {
            device,
            member,
            chain,
            added,
            name,
            incarnation,
            addresses,
            digest,
            listening,
        } = peer;
        let known = self.links.get(&device);
        if device == self.key.id() || (known.is_none() && self.is_full()) {
            return;
        }
        // It may have been removed since its Hello was accepted.
        self.evicting.remove(&device);
        self.replication.take_chain(&chain);
        self.replication.introduce(&added);
        // A newcomer knows too little to judge its door, which may have been removed once and be
        // back.
        if !self.belongs(device, member) && self.is_held() {
            if known.is_some() {
                self.targets.revoke(now, &[device]);
                self.handle_link_down(now, device, DownReason::Refused);
            }
            self.events.push_back(Event::Evicted { device });
            return;
        }
        let restarted = known.is_some_and(|link| link.incarnation != incarnation);
        if restarted {
            self.forget_talker(device);
        }
        let link = Link { name: name.clone(), incarnation, member };
        let is_new = self.links.insert(device, link).is_none() || restarted;
        if is_new && member.is_some() {
            self.events.push_back(Event::PeerUp { device, name, address });
        } else if is_new {
            self.events.push_back(Event::RelayUp { device, name, address });
        }
        if self.liveness.link_up(now, device).is_some_and(|reach| reach != Reach::Reachable) {
            self.events.push_back(Event::PeerReachable { device });
        }
        self.paths.link_up(device);
        self.dialling.connected(device, address);
        self.learn(now, Some(device), &addresses, Source::Announced);
        self.learn(now, Some(device), address.as_slice(), Source::Known);
        self.under_way.retain(|(to, _), _| *to != device);
        let differs = digest != self.replication.digest();
        self.replication.link_up(now, device, differs);
        self.nets.link_up(device, restarted, listening);
        self.names.link_up(device);
        self.epochs.link_changed(now, device, false);
        self.link_up_availability(device, member, restarted);
        self.targets.renew(now, device);
        self.admit(now);
        self.records.link_up(now, device, self.links.len() == 1);
        self.link_up_relaying(now, device, member, restarted);
        self.send_records(device);
        self.list_soon(now);
        self.events.push_back(Event::NetsChanged);
        self.settle(now);
    }

    /// The last link to `device` has ended.
    pub fn handle_link_down(&mut self, now: Timestamp, device: DeviceId, reason: DownReason) {
        if self.links.contains_key(&device) {
            self.unlink(now, device, reason);
            self.settle(now);
        }
    }

    /// Forgets a link and everything that used it. Messages to others that follow from this are not
    /// sent yet.
    fn unlink(&mut self, now: Timestamp, device: DeviceId, reason: DownReason) {
        let was_relay = self.is_relay(device);
        self.links.remove(&device);
        self.liveness.link_down(device);
        self.dialling.disconnected(now, device, reason == DownReason::Left);
        self.targets.leave(now, device);
        self.under_way.retain(|(to, _), _| *to != device);
        // Outputs for this peer may still be queued, since another peer's message can end this
        // link.
        self.transmits.retain(|it| {
            !matches!(it, Transmit::Message { to, .. } | Transmit::Datagram { to, .. } if *to == device)
        });
        self.replication.link_down(device);
        self.nets.link_down(device);
        self.names.link_down(device);
        self.paths.link_down(device);
        self.checks.mark();
        self.records.link_down(now, device, self.links.is_empty());
        self.link_down_relaying(device);
        self.epochs.link_changed(now, device, true);
        self.availabilities.link_down(now, device);
        self.forget_talker(device);
        self.events.push_back(if was_relay {
            Event::RelayDown { device, reason }
        } else {
            Event::PeerDown { device, reason }
        });
        self.events.push_back(Event::NetsChanged);
    }

    /// A datagram of any kind arrived from `device`. [PROTO-2.7]
    pub fn handle_heard(&mut self, now: Timestamp, device: DeviceId) {
        match self.liveness.heard(now, device) {
            None | Some(Reach::Reachable) => return,
            Some(Reach::Unreachable) => {}
            Some(Reach::Lost) => self.admit(now),
        }
        self.settle_dialling(now, device);
        self.events.push_back(Event::PeerReachable { device });
        self.settle(now);
    }

    /// The linked peer `from` has sent a message. The caller answers it, at once or later, with the
    /// [`crate::message::Acknowledgement`] that it makes from the result.
    pub fn handle_message(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        bytes: &[u8],
    ) -> Result<Handled, MessageError> {
        if !self.links.contains_key(&from) {
            return Err(MessageError::NotLinked);
        }
        let message = self.read(now, Some(from), bytes)?;
        let Some(link) = self.links.get(&from) else { return Err(MessageError::NotLinked) };
        let mut result = Ok(Handled::Done);
        match message {
            Message::Key(_)
            | Message::Listening(_)
            | Message::Names(_)
            | Message::Move(_)
            | Message::Prekey(_)
            | Message::Confirming(_)
            | Message::TalkersKey(_)
            | Message::Availability(_)
                if link.member.is_none() =>
            {
                return Err(MessageError::NotMember);
            }
            Message::Key(message) => {
                let message = message.verify()?;
                if self.talkers.take(from, message)? {
                    let known = |device: &DeviceId| {
                        *device == self.key.id()
                            || self.links.contains_key(device)
                            || self.records.knows(self.charter(), *device)
                    };
                    let devices = message.recipients.to_vec();
                    let unknown = devices.iter().copied().filter(|id| !known(id)).collect();
                    self.refresh_talker_keys(Some(from));
                    self.events.push_back(Event::TalkerRoster { device: from, devices, unknown });
                }
            }
            Message::Records(records) => {
                result = self.take_records(now, Some(from), records.into_vec(), false);
            }
            Message::Listening(listening) => {
                if self.nets.take(from, listening) {
                    self.events.push_back(Event::NetsChanged);
                    self.tell_listening(from);
                    self.epochs.look(now);
                    self.admit(now);
                }
            }
            Message::Names(keys) => {
                let charter = Arc::clone(self.replication.charter());
                let (new, early) = self.names.take(&charter, keys.into_vec().into_iter());
                if new {
                    self.events.push_back(Event::NamesChanged);
                }
                if early {
                    result = Err(MessageError::NoSuchName);
                }
            }
            Message::Digest(digest) => self.replication.handle_digest(now, from, digest),
            Message::Have(have) => self.replication.handle_have(from, have),
            Message::Pieces(packed) => {
                result = self.replication.handle_pieces(from, packed.into_vec());
            }
            Message::Move(order) => self.take_move(from, order)?,
            Message::Past(part) => result = self.replication.handle_past(now, from, part),
            Message::Wanted(wanted) => self.take_wanted(now, from, &wanted)?,
            Message::Route(route) => self.take_route(now, from, route)?,
            Message::Roster(roster) => self.take_roster(from, &roster),
            Message::Draining(draining) => self.relays.set_draining(from, draining),
            Message::Offer(offer) => self.take_offer(now, &offer)?,
            Message::Observed(address) => self.take_observed(now, from, address),
            Message::Candidates(theirs) => self.take_candidates(now, from, theirs),
            Message::Check(check) => self.take_check(now, from, check)?,
            Message::Prekey(prekey) => self.take_prekey(now, from, &prekey)?,
            Message::Attendance(said) => self.take_attendance(now, from, &said)?,
            Message::Epoch(epoch) => {
                result = self.take_epoch(now, from, &epoch).map(|()| Handled::Done);
            }
            Message::Confirming(said) => self.take_confirming(now, from, &said)?,
            Message::Confirmed(said) => self.take_confirmed(from, &said)?,
            Message::TalkersKey(message) => self.take_talkers_key(now, from, *message)?,
            Message::Availability(said) => self.take_availability(now, Some(from), &said)?,
        }
        self.settle(now);
        result
    }

    /// A gossip message arrived, passed on by `from`. If it is refused, at once or later, it must
    /// not be passed on.
    pub fn handle_gossip(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        bytes: &[u8],
    ) -> Result<Handled, MessageError> {
        let handled = match self.read(now, from, bytes)? {
            Message::Records(records) => self.take_records(now, from, records.into_vec(), true)?,
            Message::Pieces(packed) => self.replication.handle_gossip(from, packed.into_vec())?,
            Message::Offer(offer) => {
                self.take_offer(now, &offer)?;
                Handled::Done
            }
            Message::Availability(said) => {
                self.take_availability(now, None, &said)?;
                Handled::Done
            }
            // [PROTO-6.4] A key travels only over the link that ends at its recipient.
            Message::Key(_)
            | Message::Listening(_)
            | Message::Names(_)
            | Message::Digest(_)
            | Message::Have(_)
            | Message::Move(_)
            | Message::Past(_)
            | Message::Wanted(_)
            | Message::Route(_)
            | Message::Roster(_)
            | Message::Draining(_)
            | Message::Observed(_)
            | Message::Candidates(_)
            | Message::Check(_)
            | Message::Prekey(_)
            | Message::Attendance(_)
            | Message::Epoch(_)
            | Message::Confirming(_)
            | Message::Confirmed(_)
            | Message::TalkersKey(_) => return Err(MessageError::ByGossip),
        };
        self.settle(now);
        Ok(handled)
    }

    /// Decodes a message, if the peer may still have this device look at one. [PROTO-5.11]
    fn read(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        bytes: &[u8],
    ) -> Result<Message, MessageError> {
        if from.is_some_and(|from| !self.purses.is_open(now, from)) {
            return Err(MessageError::OverBudget);
        }
        let message = Message::decode(bytes);
        if let Some(from) = from {
            self.purses.spend(now, from, cost_of(message.as_ref().ok()));
        }
        Ok(message?)
    }

    /// A job from [`Self::poll_job`] is done.
    pub fn handle_job(&mut self, now: Timestamp, done: JobDone) {
        let records = self.replication.handle_job(now, done);
        self.keep_records(now, records);
        self.settle(now);
    }

    /// `device` has answered message `id` with [`crate::message::Acknowledgement::Taken`].
    pub fn handle_delivered(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        self.handle_answer(now, device, id, true);
    }

    /// Message `id` did not reach `device`, or was refused.
    pub fn handle_failed(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        self.handle_answer(now, device, id, false);
    }

    /// Sets the addresses at which this device listens. Only the first 16 count.
    pub fn handle_addresses(&mut self, now: Timestamp, addresses: Vec<SocketAddr>) {
        if self.presence.addresses != addresses && !self.relay_only {
            self.dialling.set_own(&addresses);
            self.presence.addresses = addresses;
            self.checks.mark();
            self.update_record(now);
        }
    }

    /// Sets the calendar time, which then advances with the clock. Call this from time to time,
    /// since the clock may stand still while the machine sleeps.
    pub fn set_calendar(&mut self, now: Timestamp, calendar: UnixTime) {
        self.epochs.set_calendar((calendar, now));
        // [CHARTER-6.7] A mute or a ban has ended, or begins again since the calendar was set back.
        if self.replication.set_calendar(calendar) {
            self.apply_charter(now);
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
        self.settle(now);
    }

    /// Sets the channels to hear. Each is heard as soon as it exists and is permitted. Before the
    /// first call, the first channel is heard.
    pub fn set_listening(&mut self, now: Timestamp, channels: impl IntoIterator<Item = ChannelId>) {
        self.nets.want(channels);
        self.recompute_nets(now);
        self.settle(now);
    }

    /// Listens to the first channel, whichever that is, as before any call of
    /// [`Self::set_listening`].
    pub fn listen_to_first(&mut self, now: Timestamp) {
        self.nets.want_first();
        self.recompute_nets(now);
        self.settle(now);
    }

    /// Sets the targets to keep keys ready for. Each is keyed as soon as it is permitted. Before
    /// the first call, this is the first channel.
    pub fn set_targets(&mut self, now: Timestamp, targets: Vec<Target>) {
        self.targets.want(targets);
        self.recompute_targets();
        self.admit(now);
        self.settle(now);
    }

    /// Makes changes to the charter. They take effect once they are on disk. [CHARTER-8.1]
    pub fn edit(
        &mut self,
        now: Timestamp,
        changes: Vec<Change>,
    ) -> Result<Cosigned<Operation>, EditError> {
        let member = self.member.ok_or(EditError::NotMember)?;
        let operation = self.replication.edit(&self.key, member, changes)?;
        self.settle(now);
        Ok(operation)
    }

    /// Takes pieces of the charter that a person has brought, and sends them to others. Returns how
    /// many were new.
    pub fn bring(&mut self, now: Timestamp, pieces: Vec<Piece>) -> Result<usize, PieceError> {
        let mut new = 0;
        for piece in pieces {
            new += usize::from(self.replication.take_own(piece)?);
        }
        self.settle(now);
        Ok(new)
    }

    /// Takes pieces that claim to prove that this device no longer belongs. They are judged like
    /// any others; if the claim is true, [`Event::Removed`] follows. [PROTO-3.8] [PROTO-3.22]
    pub fn handle_proof(&mut self, pieces: Vec<Piece>) {
        self.replication.handle_proof(pieces);
    }

    /// Keeps the key of a hidden channel's name. Members that may join the channel are given the
    /// key.
    pub fn keep_name(&mut self, now: Timestamp, channel: ChannelId, key: NameKey) {
        if self.names.keep(channel, key) {
            self.events.push_back(Event::NamesChanged);
        }
        self.settle(now);
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

    /// The key of the last [`Event::OwnKey`] for a target has sealed its first frame. [PROTO-6.6]
    pub fn handle_talked(&mut self, now: Timestamp, target: TargetId) {
        self.targets.handle_used(now, target);
        self.settle(now);
    }

    /// The number from [`Self::poll_persist`] for a target is on disk.
    pub fn handle_persisted(&mut self, now: Timestamp, target: TargetId, generation: u16) {
        self.targets.handle_persisted(now, target, generation);
        self.settle(now);
    }

    /// The charter from [`Self::poll_persist`] is on disk and takes effect.
    pub fn handle_charter_persisted(&mut self, now: Timestamp, number: u64) {
        if let Some(news) = self.replication.handle_persisted(number) {
            for bytes in news {
                self.push(Transmit::Gossip(bytes));
            }
            self.apply_charter(now);
            self.settle(now);
        }
    }

    /// The charter from [`Self::poll_persist`] could not be written. It will be returned again.
    pub fn handle_charter_unwritten(&mut self, now: Timestamp, number: u64) {
        if self.replication.handle_unwritten(now, number) {
            self.apply_charter(now);
            self.settle(now);
        }
    }

    /// Time has passed. Early and repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for (device, reach) in self.liveness.fallen_silent(now) {
            match reach {
                Reach::Reachable => {}
                Reach::Unreachable => {
                    self.dialling.silent(now, device);
                    self.events.push_back(Event::PeerUnreachable { device });
                }
                Reach::Lost => self.targets.leave(now, device),
            }
        }
        if let Some(number) = self.liveness.heartbeat(now) {
            let mut bytes = Vec::new();
            Heartbeat { number }.encode(&mut bytes);
            for to in self.links.keys().copied().collect::<Vec<_>>() {
                self.push(Transmit::Datagram { to, bytes: bytes.clone() });
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
            self.events.push_back(Event::Evicted { device });
        }
        if self.doubted_at.take_if(|at| *at <= now).is_some() && !self.is_held() {
            self.events.push_back(Event::Removed);
        }
        if self.list_at.take_if(|at| *at <= now).is_some() {
            self.list_certificates();
        }
        self.settle(now);
    }

    /// Returns the next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next dial to make. Report its result by [`Self::handle_link_up`] or
    /// [`Self::handle_dial_failed`].
    pub fn poll_dial(&mut self, now: Timestamp) -> Option<Dial> {
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
        if let Some((number, charter)) = self.replication.poll_persist() {
            return Some(Persist::Charter(number, charter));
        }
        let (target, generation) = self.targets.poll_persist()?;
        Some(Persist::Generation(target, generation))
    }

    /// Returns the next job that may take long. When it is done, report it by [`Self::handle_job`].
    /// There is only one job at a time.
    pub fn poll_job(&mut self, now: Timestamp) -> Option<Job> {
        self.replication.poll_job(now)
    }

    /// Returns the result of a message or gossip that was [`Handled::Later`], and its number.
    pub fn poll_verdict(&mut self) -> Option<(u64, Result<(), MessageError>)> {
        self.replication.poll_verdict()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] and the polls next have something to do. Ask for it last.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let dialling = self.dialling.timeout().filter(|_| !self.is_full());
        let timeouts = [
            self.liveness.timeout(),
            self.targets.timeout(),
            self.epochs.timeout(self.settled_at),
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
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Whether there is no room for more peers. Further ones are refused as
    /// [`crate::hello::Refusal::Busy`].
    pub fn is_full(&self) -> bool {
        let limit = if self.member.is_some() { LINKS_MAX } else { RELAY_LINKS_MAX };
        self.links.len() >= limit
    }

    fn handle_answer(&mut self, now: Timestamp, device: DeviceId, id: u64, taken: bool) {
        let Some(purpose) = self.under_way.remove(&(device, id)) else { return };
        match purpose {
            Purpose::Key(target, id) => {
                if let Some(keys) = self.targets.keys(target) {
                    if taken {
                        keys.handle_delivered(device, id);
                    } else {
                        keys.handle_failed(now, device, id);
                    }
                }
            }
            Purpose::Records if taken => {}
            Purpose::Records => self.records.failed(now, device),
            Purpose::Listening(number) => self.nets.handle_answer(now, device, number, taken),
            Purpose::Names => self.names.handle_answer(now, device, taken),
            Purpose::Charter => self.replication.handle_answer(device),
            Purpose::Move | Purpose::Candidates | Purpose::Confirmed => {}
            Purpose::Observed(number) => self.paths.handle_answer(now, device, number, taken),
            Purpose::Availability(number) => {
                self.availabilities.handle_answer(now, device, number, taken);
            }
            Purpose::Check(number) => self.checks.handle_answer(number, taken),
            Purpose::Prekey(number) => self.epochs.handle_told_prekey(now, device, number, taken),
            Purpose::Attendance(channel, number) => {
                self.epochs.handle_attendance(now, device, (channel, number), taken);
            }
            Purpose::Epoch(id) => self.epochs.handle_handout(now, id, taken),
            Purpose::Confirming(number) => self.epochs.handle_shown(now, device, number, taken),
            Purpose::TalkersKey(target, number) => {
                self.targets.handle_given(now, target, (device, number), taken);
            }
            Purpose::Order(number) => self.relays.handle_answer(now, device, number, taken),
            Purpose::Notice(number) => {
                if let Some(serving) = &mut self.serving {
                    serving.handle_answer(now, device, number, taken);
                }
            }
        }
        self.settle(now);
    }

    /// Passes on what the parts have decided.
    fn settle(&mut self, now: Timestamp) {
        self.settled_at = now;
        self.settle_epochs(now);
        while let Some((target, change)) = self.targets.poll_change() {
            let (generation, step) = (change.secret.generation, change.secret.step);
            self.events.push_back(Event::OwnKey { target, secret: change.secret });
            if let Some(target) = self.targets.target(target).cloned() {
                let devices = change.holders;
                self.events.push_back(Event::RosterChanged { target, generation, step, devices });
            }
        }
        while let Some((target, delivery)) = self.targets.poll_delivery(now) {
            self.send(delivery.to, Purpose::Key(target, delivery.id), delivery.bytes);
        }
        // A relay listens to nothing, and knows no names.
        if self.member.is_some() {
            self.tell_nets(now);
        }
        while let Some((to, bytes)) = self.replication.poll_message() {
            self.send(to, Purpose::Charter, Zeroizing::new(bytes));
        }
        self.tell_observed(now);
        self.tell_availability(now);
        self.settle_checks(now);
        self.settle_relaying(now);
    }

    /// Tells peers what we listen to, and the names that they may know.
    fn tell_nets(&mut self, now: Timestamp) {
        let charter = Arc::clone(self.charter());
        let links: BTreeMap<_, _> =
            self.links.iter().map(|(device, link)| (*device, link.member)).collect();
        while let Some((to, listening)) = self.nets.poll(now, &charter, &links, &mut self.numbers) {
            let purpose = Purpose::Listening(listening.number);
            self.send(to, purpose, Zeroizing::new(Message::Listening(listening).encode()));
        }
        let member = |device| links.get(&device).copied().flatten();
        while let Some((to, message)) = self.names.poll(now, &charter, member) {
            self.send(to, Purpose::Names, Zeroizing::new(message.encode()));
        }
    }

    fn send(&mut self, to: DeviceId, purpose: Purpose, bytes: Zeroizing<Vec<u8>>) {
        self.last_id += 1;
        let id = self.last_id;
        self.under_way.insert((to, id), purpose);
        self.push(Transmit::Message { to, id, bytes });
    }

    fn forget_talker(&mut self, device: DeviceId) {
        if self.talkers.remove(device) {
            self.events.push_back(Event::TalkerGone { device });
        }
    }

    fn push(&mut self, transmit: Transmit) {
        if self.transmits.len() == TRANSMITS_MAX {
            self.transmits.pop_front();
        }
        self.transmits.push_back(transmit);
    }
}

/// Whether `device` is a relay that the charter names and belongs to no member.
fn is_infrastructure(charter: &Charter, device: DeviceId) -> bool {
    charter.state().relay(device).is_some() && charter.owner(device).is_none()
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
#[cfg(test)]
mod world;
