//! The members of one organisation as one of them sees them: who is there, who holds whose key,
//! and who sends to whom.
//!
//! A state machine without I/O. The driver tells it what happened (`handle_…`), then takes what
//! there is to do until nothing is left, and asks last when to call [`Squad::handle_timeout`]:
//!
//! ```
//! # use hark_keys::Timestamp;
//! # use hark_mesh::squad::Squad;
//! fn drive(now: Timestamp, squad: &mut Squad) -> Option<Timestamp> {
//!     while let Some(_transmit) = squad.poll_transmit() { /* send it */ }
//!     while let Some(_dial) = squad.poll_dial(now) { /* dial it */ }
//!     while let Some(_generation) = squad.poll_persist() { /* write it to disk */ }
//!     while let Some(_event) = squad.poll_event() { /* pass it on */ }
//!     squad.poll_timeout()
//! }
//! ```

mod output;
mod records;
mod talkers;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use hark_keys::{DeviceId, DeviceKey, Random, Timestamp};

pub use output::{DownReason, Event, MessageError, Transmit};

use crate::{
    Dial, Directory,
    charter::{CertificateChain, Charter},
    clean_name,
    datagram::Heartbeat,
    dialling::Dialling,
    hello::{PeerHello, Presence},
    liveness::{Liveness, Reach},
    message::{Message, RECIPIENTS_MAX},
    sender_keys::SenderKeys,
    topology,
};
use records::Records;
use talkers::Talkers;

/// What a [`Squad`] begins with.
pub struct SquadConfig {
    /// The organisation.
    pub charter: Charter,
    /// This device.
    pub key: Arc<DeviceKey>,
    /// What proves that it belongs.
    pub chain: CertificateChain,
    /// What it says of itself.
    pub presence: Presence,
    /// The members it knew when it stopped.
    pub directory: Directory,
    /// The newest generation of sender keys on disk; 0 the first time.
    pub last_generation: u16,
}

/// The members of one organisation, as this device sees them.
pub struct Squad {
    charter: Charter,
    key: Arc<DeviceKey>,
    presence: Presence,
    links: BTreeMap<DeviceId, Link>,
    liveness: Liveness,
    dialling: Dialling,
    records: Records,
    sender_keys: SenderKeys,
    talkers: Talkers,
    listeners: Vec<DeviceId>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// A peer whose Hello was accepted.
struct Link {
    name: String,
    incarnation: u64,
}

impl Squad {
    /// Nobody is there yet; all members it remembers are dialled.
    pub fn new(now: Timestamp, config: SquadConfig, random: Arc<dyn Random>) -> Self {
        let SquadConfig { charter, key, chain, presence, directory, last_generation } = config;
        let channel = charter.channel().id;
        let mut dialling = Dialling::default();
        for record in directory.records() {
            let record = record.unverified();
            if record.device != key.id() {
                dialling.discovered(now, Some(record.device), &record.addresses);
            }
        }
        let sender_keys = SenderKeys::new(channel, Arc::clone(&key), random, last_generation);
        let presence = Presence { name: clean_name(&presence.name), ..presence };
        let mut squad = Self {
            talkers: Talkers::new(channel, key.id()),
            records: Records::new(directory, chain),
            charter,
            key,
            presence,
            links: BTreeMap::new(),
            liveness: Liveness::default(),
            dialling,
            sender_keys,
            listeners: Vec::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        squad.update_record(now);
        squad
    }

    /// A link stands, and its Hello was accepted; `address` is where the peer was found, if this
    /// side dialled it.
    ///
    /// Also when the link replaces another one to the same device. One that is too many (see
    /// [`Self::is_full`]) is ignored.
    pub fn handle_link_up(&mut self, now: Timestamp, peer: PeerHello, address: Option<SocketAddr>) {
        let PeerHello { device, name, incarnation, addresses, .. } = peer;
        let known = self.links.get(&device);
        if device == self.key.id() || (known.is_none() && self.is_full()) {
            return;
        }
        let restarted = known.is_some_and(|link| link.incarnation != incarnation);
        if restarted {
            self.forget_talker(device);
        }
        let link = Link { name: name.clone(), incarnation };
        if self.links.insert(device, link).is_none() || restarted {
            self.events.push_back(Event::PeerUp { device, name, address });
        }
        if self.liveness.link_up(now, device).is_some_and(|reach| reach != Reach::Reachable) {
            self.events.push_back(Event::PeerReachable { device });
        }
        self.dialling.connected(device, address);
        self.dialling.discovered(now, Some(device), &addresses);
        self.dialling.discovered(now, Some(device), address.as_slice());
        self.sender_keys.join(now, device);
        self.records.link_up(now, device, self.links.len() == 1);
        self.send_records(device);
        self.settle(now);
    }

    /// The last link to `device` has ended.
    pub fn handle_link_down(&mut self, now: Timestamp, device: DeviceId, reason: DownReason) {
        if self.links.remove(&device).is_none() {
            return;
        }
        self.liveness.link_down(device);
        self.dialling.disconnected(now, device, reason == DownReason::Left);
        self.sender_keys.leave(now, device);
        self.records.link_down(now, device, self.links.is_empty());
        self.forget_talker(device);
        self.events.push_back(Event::PeerDown { device, reason });
        self.settle(now);
    }

    /// A datagram of any kind came from `device`. [PROTO-2.7]
    pub fn handle_heard(&mut self, now: Timestamp, device: DeviceId) {
        match self.liveness.heard(now, device) {
            None | Some(Reach::Reachable) => return,
            Some(Reach::Unreachable) => {}
            Some(Reach::Lost) => {
                self.sender_keys.join(now, device);
            }
        }
        self.events.push_back(Event::PeerReachable { device });
        self.settle(now);
    }

    /// The linked peer `from` has sent a message, which is to be answered by what
    /// [`crate::message::Acknowledgement`] makes of the result.
    pub fn handle_message(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        bytes: &[u8],
    ) -> Result<(), MessageError> {
        if !self.links.contains_key(&from) {
            return Err(MessageError::NotLinked);
        }
        match Message::decode(bytes)? {
            Message::Key(message) => {
                let message = message.verify()?;
                if let Some(update) = self.talkers.take(from, message)? {
                    let charter = &self.charter;
                    let known = |device: &DeviceId| {
                        *device == self.key.id()
                            || self.links.contains_key(device)
                            || self.records.knows(charter, *device)
                    };
                    let unknown =
                        update.recipients.iter().copied().filter(|id| !known(id)).collect();
                    self.events.push_back(Event::TalkerKey { device: from, secret: update.secret });
                    self.events.push_back(Event::TalkerRoster {
                        device: from,
                        devices: update.recipients,
                        unknown,
                    });
                }
            }
            Message::Records(records) => self.take_records(now, records.into_vec())?,
        }
        self.settle(now);
        Ok(())
    }

    /// A gossip message came; where it is refused it is not to be passed on.
    pub fn handle_gossip(&mut self, now: Timestamp, bytes: &[u8]) -> Result<(), MessageError> {
        match Message::decode(bytes)? {
            Message::Records(records) => self.take_records(now, records.into_vec())?,
            // [PROTO-6.4] a key travels only over the link that ends at its recipient.
            Message::Key(_) => return Err(MessageError::KeyByGossip),
        }
        self.settle(now);
        Ok(())
    }

    /// `device` has answered message `id` with [`crate::message::Acknowledgement::Taken`].
    pub fn handle_delivered(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        self.sender_keys.handle_delivered(device, id);
        self.settle(now);
    }

    /// Message `id` did not reach `device`, or was refused.
    pub fn handle_failed(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        if id == records::RECORDS_ID {
            self.records.failed(now, device);
        } else {
            self.sender_keys.handle_failed(now, device, id);
        }
        self.settle(now);
    }

    /// This device listens at `addresses` now; the first 16 count.
    pub fn handle_addresses(&mut self, now: Timestamp, addresses: Vec<SocketAddr>) {
        if self.presence.addresses != addresses {
            self.presence.addresses = addresses;
            self.update_record(now);
        }
    }

    /// The person wants to be called `name`.
    pub fn set_name(&mut self, now: Timestamp, name: &str) {
        let name = clean_name(name);
        if self.presence.name != name {
            self.presence.name = name;
            self.update_record(now);
        }
    }

    /// Somebody, `device` if that is known, can perhaps be reached at `addresses`.
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
        self.dialling.discovered(now, device, &addresses);
    }

    /// A dial of [`Self::poll_dial`] came to nothing.
    pub fn handle_dial_failed(
        &mut self,
        now: Timestamp,
        device: Option<DeviceId>,
        addresses: &[SocketAddr],
    ) {
        self.dialling.failed(now, device, addresses);
    }

    /// The key of the last [`Event::OwnKey`] has sealed its first frame. [PROTO-6.6]
    pub fn handle_talked(&mut self, now: Timestamp) {
        self.sender_keys.handle_used(now);
    }

    /// The number that [`Self::poll_persist`] gave is on disk.
    pub fn handle_persisted(&mut self, now: Timestamp, generation: u16) {
        self.sender_keys.handle_persisted(now, generation);
        self.settle(now);
    }

    /// Time has passed. Early and repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for (device, reach) in self.liveness.fallen_silent(now) {
            match reach {
                Reach::Reachable => {}
                Reach::Unreachable => self.events.push_back(Event::PeerUnreachable { device }),
                Reach::Lost => self.sender_keys.leave(now, device),
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
        self.sender_keys.handle_timeout(now);
        if let Some(peer) = self.records.repair_due(now, self.links.keys().copied()) {
            self.send_records(peer);
        }
        if self.records.announcement_due(now) {
            self.announce();
        }
        self.settle(now);
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next dial to make; its end is told by [`Self::handle_link_up`] or
    /// [`Self::handle_dial_failed`].
    pub fn poll_dial(&mut self, now: Timestamp) -> Option<Dial> {
        if self.is_full() { None } else { self.dialling.poll(now) }
    }

    /// The next number to be written to disk, told by [`Self::handle_persisted`] when it is there.
    /// No key of that generation is used before. [PROTO-6.3]
    pub fn poll_persist(&mut self) -> Option<u16> {
        self.sender_keys.poll_persist()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] and the polls have something to do. Ask last.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let dialling = self.dialling.timeout().filter(|_| !self.is_full());
        let timeouts =
            [self.liveness.timeout(), self.sender_keys.timeout(), self.records.timeout(), dialling];
        timeouts.into_iter().flatten().min()
    }

    /// The organisation.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What proves that this device belongs.
    pub fn chain(&self) -> &CertificateChain {
        self.records.chain()
    }

    /// What this device says of itself.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// All members whose records are known, this device among them.
    pub fn directory(&self) -> &Directory {
        self.records.directory()
    }

    /// Whether `device` is known to belong to the organisation.
    pub fn is_member(&self, device: DeviceId) -> bool {
        self.links.contains_key(&device) || self.records.knows(&self.charter, device)
    }

    /// Whether there is room for no more peers: further ones are refused as
    /// [`crate::hello::Refusal::Busy`].
    pub fn is_full(&self) -> bool {
        self.links.len() >= LINKS_MAX
    }

    /// Passes on what the parts have decided.
    fn settle(&mut self, now: Timestamp) {
        if let Some(change) = self.sender_keys.poll_change() {
            let (generation, step) = (change.secret.generation, change.secret.step);
            self.events.push_back(Event::OwnKey(change.secret));
            self.events.push_back(Event::RosterChanged {
                channel: self.charter.channel().id,
                generation,
                step,
                devices: change.holders,
            });
        }
        while let Some(delivery) = self.sender_keys.poll_delivery(now) {
            let (to, id) = (delivery.to, delivery.id);
            self.push(Transmit::Message { to, id, bytes: delivery.bytes });
        }
        let listeners = topology::listeners(self.sender_keys.hearers(), |device| {
            self.liveness.is_reachable(device)
        });
        if listeners != self.listeners {
            self.listeners.clone_from(&listeners);
            self.events.push_back(Event::Listeners(listeners));
        }
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

/// Links at a time: as many as can be given a key. Further peers are not served.
pub const LINKS_MAX: usize = RECIPIENTS_MAX;

/// Things to send that wait for the driver, who takes all after each input. The oldest goes; keys
/// and records are sent again.
const TRANSMITS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
