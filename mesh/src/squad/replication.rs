//! Replicates the charter among members. New pieces are checked, kept, acted on and passed on.
//! Missing ones are requested. [section 8 of docs/charter.md]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_charter::{
    CertificateChain, Charter, EditError, Have, OPERATION_MAX_BYTES, Operation, Piece, PieceError,
    content::Change,
};
use hark_keys::{
    Cosigned, DeviceId, DeviceKey, MemberId, ObjectHash, Signed, Timestamp, UnixTime, encode,
};

use super::{
    budget::{Purses, WORKER_INCOME, WORKER_LIMIT},
    jobs::{Item, Job, JobDone, Messages, Question, Waiting, What},
    pasts::Pasts,
};
use crate::{
    MemberRecord,
    message::{Message, PastPart},
    pack::pack,
    squad::{Handled, MessageError},
};

/// The charter in force, what is on its way to the disk, and what peers lack.
pub(super) struct Replication {
    /// The charter that is acted on. All of it is on disk.
    charter: Arc<Charter>,
    /// A hash over the charter in force.
    digest: ObjectHash,
    /// Everything that was accepted, whether or not it is on disk.
    taken: Charter,
    /// The calendar time, at which mutes and bans end.
    calendar: UnixTime,
    /// What to tell peers about `taken`, while it is still true.
    have: Option<Have>,
    /// Work for a worker, by the peer that has sent it, so that each peer waits only for itself.
    queues: BTreeMap<Option<DeviceId>, Queue>,
    /// What peers have, so that they can be sent what they lack.
    questions: BTreeMap<DeviceId, Have>,
    /// The last packed answers. Peers that come at the same time ask the same.
    packed: VecDeque<(ObjectHash, Messages)>,
    /// The peer that was served last.
    turn: Option<DeviceId>,
    /// What was accepted here while a worker has the charter; `None` if no worker has it.
    meanwhile: Option<Vec<Own>>,
    /// The number of the last item for a worker, and the results of earlier ones.
    numbers: u64,
    verdicts: VecDeque<(u64, Result<(), MessageError>)>,
    /// What each peer may cost the workers.
    pub(super) purses: Purses,
    /// Whether a part of it was not handed to the disk yet.
    unwritten: bool,
    /// The write that is under way.
    writing: Option<(u64, Arc<Charter>)>,
    writes: u64,
    /// When to retry a failed write.
    write_again_at: Option<Timestamp>,
    /// Own pieces that others are told once they are on disk, with the number of the write.
    announced: VecDeque<(u64, Piece)>,
    waiting: Waiting,
    outgoing: BTreeMap<DeviceId, Outgoing>,
    /// The settled pasts that peers send.
    pasts: Pasts,
    /// When to compare with one peer, and the peer of the last comparison.
    compare_at: Option<Timestamp>,
    compared: Option<DeviceId>,
    /// Number of operations of each author taken from gossip since the start of the day.
    rates: BTreeMap<DeviceId, u32>,
    day_ends: Option<Timestamp>,
}

/// What a peer is sent, a few messages at a time.
#[derive(Default)]
struct Outgoing {
    messages: VecDeque<Vec<u8>>,
    /// What it lacks, and how much of that was sent.
    bulk: Option<(Messages, usize)>,
    in_flight: usize,
    /// When it was last asked for what it has.
    asked: Option<Timestamp>,
}

/// What one peer has sent for a worker.
#[derive(Default)]
struct Queue {
    items: VecDeque<(Item, usize)>,
    bytes: usize,
}

/// Something that is accepted at once, since it is small or somebody waits for it.
enum Own {
    Piece(Box<Piece>),
    Chain(CertificateChain),
    Introduced(Vec<Cosigned<Operation>>),
}

impl Replication {
    pub(super) fn new(charter: Arc<Charter>, calendar: UnixTime) -> Self {
        let charter = at(charter, calendar);
        let mut taken = (*charter).clone();
        taken.set_calendar(calendar);
        Self {
            taken,
            calendar,
            digest: charter.digest(),
            charter,
            have: None,
            queues: BTreeMap::new(),
            questions: BTreeMap::new(),
            packed: VecDeque::new(),
            turn: None,
            meanwhile: None,
            numbers: 0,
            verdicts: VecDeque::new(),
            purses: Purses::new(WORKER_INCOME, WORKER_LIMIT),
            unwritten: false,
            writing: None,
            writes: 0,
            write_again_at: None,
            announced: VecDeque::new(),
            waiting: Waiting::default(),
            outgoing: BTreeMap::new(),
            pasts: Pasts::default(),
            compare_at: None,
            compared: None,
            rates: BTreeMap::new(),
            day_ends: None,
        }
    }

    /// The charter in force.
    pub(super) fn charter(&self) -> &Arc<Charter> {
        &self.charter
    }

    /// A hash over the charter in force.
    pub(super) fn digest(&self) -> ObjectHash {
        self.digest
    }

    /// Sets the calendar time. Returns whether this changes what the charter in force says.
    pub(super) fn set_calendar(&mut self, calendar: UnixTime) -> bool {
        self.calendar = calendar;
        self.taken.set_calendar(calendar);
        let changes = self.charter.changes_by(calendar);
        if changes {
            self.charter = at(Arc::clone(&self.charter), calendar);
        }
        changes
    }

    /// Everything that was accepted, including what is not on disk yet.
    pub(super) fn taken(&self) -> &Charter {
        &self.taken
    }

    pub(super) fn link_up(&mut self, now: Timestamp, device: DeviceId, digest_differs: bool) {
        let outgoing = self.outgoing.entry(device).or_default();
        *outgoing = Outgoing::default();
        self.compare_at.get_or_insert(now + COMPARE_INTERVAL);
        if digest_differs {
            self.ask(now, device);
        }
    }

    pub(super) fn link_down(&mut self, device: DeviceId) {
        self.outgoing.remove(&device);
        self.waiting.retain(|from| *from != device);
        self.questions.remove(&device);
        self.pasts.link_down(device);
        let queue = self.queues.remove(&Some(device)).unwrap_or_default();
        let numbers = queue.items.into_iter().map(|(item, _)| item.number);
        self.verdicts.extend(numbers.map(|number| (number, Err(MessageError::NotLinked))));
        if self.outgoing.is_empty() {
            self.compare_at = None;
        }
    }

    /// Accepts the certificates by which a peer has proved that it belongs.
    pub(super) fn take_chain(&mut self, chain: &CertificateChain) {
        if self.taken.take_chain(chain) {
            self.changed(Own::Chain(chain.clone()));
        }
    }

    /// Accepts the operations that introduce a peer's device. [CHARTER-3.6]
    pub(super) fn introduce(&mut self, added: &[Cosigned<Operation>]) {
        if self.taken.introduce(added) {
            self.changed(Own::Introduced(added.to_vec()));
        }
    }

    /// Pieces were gossiped. Their result is for the peer that passed them on. [CHARTER-8.2]
    pub(super) fn handle_gossip(
        &mut self,
        from: Option<DeviceId>,
        packed: Vec<u8>,
    ) -> Result<Handled, MessageError> {
        let bytes = packed.len();
        self.queue(from, What::Gossip(packed), bytes)
    }

    /// A peer has sent pieces because we lacked them.
    pub(super) fn handle_pieces(
        &mut self,
        from: DeviceId,
        packed: Vec<u8>,
    ) -> Result<Handled, MessageError> {
        let bytes = packed.len();
        self.queue(Some(from), What::Pieces(packed), bytes)
    }

    /// A peer has sent records that are newer than the known ones.
    pub(super) fn handle_records(
        &mut self,
        from: Option<DeviceId>,
        records: Vec<Signed<MemberRecord>>,
    ) -> Result<Handled, MessageError> {
        let bytes = RECORD_BYTES * records.len();
        self.queue(from, What::Records(records), bytes)
    }

    /// Takes pieces whose sender does not matter: they prove themselves.
    pub(super) fn handle_proof(&mut self, pieces: Vec<Piece>) {
        let bytes = OPERATION_MAX_BYTES * pieces.len();
        // If there is no room, others will send the same.
        let _ = self.queue(None, What::Proof(pieces), bytes);
    }

    /// A peer has sent a part of the settled past because we were not there. With the last part,
    /// the whole is queued. [CHARTER-7.5]
    pub(super) fn handle_past(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        part: PastPart,
    ) -> Result<Handled, MessageError> {
        match self.pasts.take(now, from, part)? {
            // One past at a time, however long it is.
            Some(past) => self.queue(Some(from), What::Past(past), QUEUED_MAX_BYTES),
            None => Ok(Handled::Done),
        }
    }

    /// Returns the next work for an idle worker: a little from each peer that may still cause some.
    pub(super) fn poll_job(&mut self, now: Timestamp) -> Option<Job> {
        if self.meanwhile.is_some() || !self.is_due(now) {
            return None;
        }
        if self.day_ends.is_none_or(|at| at <= now) {
            self.day_ends = Some(now + DAY);
            self.rates.clear();
        }
        let purses = &self.purses;
        let is_open = |from: Option<DeviceId>| from.is_none_or(|from| purses.is_open(now, from));
        let mut items = Vec::new();
        for (_, queue) in self.queues.iter_mut().filter(|(from, _)| is_open(**from)) {
            items.extend(queue.take());
        }
        self.queues.retain(|_, queue| !queue.items.is_empty());
        // One answer takes as long as many pieces.
        let mut open = self.questions.keys().copied().filter(|from| is_open(Some(*from)));
        let next = open.clone().find(|from| self.turn.is_none_or(|last| *from > last));
        self.turn = next.or_else(|| open.next());
        let question = self.turn.and_then(|from| Some((from, self.questions.remove(&from)?)));
        let questions = question.map(|(from, have)| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(self.digest.as_bytes()).update(&encode(&have));
            let key = ObjectHash::from_bytes(hasher.finalize().into());
            let known = self.packed.iter().find(|(known, _)| *known == key);
            let known = known.map(|(_, messages)| Arc::clone(messages));
            Question { from, have, key, known }
        });
        self.meanwhile = Some(Vec::new());
        Some(Job {
            charter: self.taken.clone(),
            in_force: Arc::clone(&self.charter),
            waiting: std::mem::take(&mut self.waiting),
            rates: std::mem::take(&mut self.rates),
            items,
            questions: questions.into_iter().collect(),
        })
    }

    /// A worker has finished its job. Returns the records that are to be kept.
    pub(super) fn handle_job(
        &mut self,
        now: Timestamp,
        done: JobDone,
    ) -> Vec<Signed<MemberRecord>> {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        if let Some((charter, have)) = done.charter {
            self.taken = charter;
            self.taken.set_calendar(self.calendar);
            self.have = Some(have);
            self.unwritten = true;
            // These are few, since they come from persons or new links.
            for own in meanwhile {
                self.have = None;
                match own {
                    Own::Piece(piece) => drop(self.taken.take_all([*piece])),
                    Own::Chain(chain) => drop(self.taken.take_chain(&chain)),
                    Own::Introduced(added) => drop(self.taken.introduce(&added)),
                }
            }
        }
        self.rates = done.rates;
        // A peer without a link is asked for nothing, and its pieces would never be forgotten.
        self.waiting = done.waiting;
        self.waiting.retain(|from| self.outgoing.contains_key(from));
        self.verdicts.extend(done.verdicts);
        for (from, cost) in done.costs {
            self.purses.spend(now, from, cost);
        }
        for (from, key, messages) in done.answers {
            if let Some(outgoing) = self.outgoing.get_mut(&from) {
                outgoing.bulk = Some((Arc::clone(&messages), 0)).filter(|_| !messages.is_empty());
            }
            if self.packed.iter().all(|(known, _)| *known != key) {
                self.packed.truncate(PACKED_MAX - 1);
                self.packed.push_front((key, messages));
            }
        }
        for (from, taken) in done.pasts {
            if !taken {
                self.pasts.fail(from);
            } else if let Some(outgoing) = self.outgoing.get_mut(&from) {
                outgoing.asked = None;
                self.ask(now, from);
            }
        }
        for from in done.ask {
            self.ask(now, from);
        }
        done.records
    }

    /// Returns the next result of an item that a worker was given.
    pub(super) fn poll_verdict(&mut self) -> Option<(u64, Result<(), MessageError>)> {
        self.verdicts.pop_front()
    }

    /// A peer sends the hash over its charter.
    pub(super) fn handle_digest(&mut self, now: Timestamp, from: DeviceId, digest: ObjectHash) {
        if digest != self.digest {
            self.ask(now, from);
        }
    }

    /// A peer says what it has. It is sent what it lacks, and asked for what we lack.
    pub(super) fn handle_have(&mut self, from: DeviceId, have: Have) {
        let Some(outgoing) = self.outgoing.get_mut(&from) else { return };
        // A peer that asks again while it is being answered is ignored.
        if outgoing.bulk.is_none() {
            self.questions.insert(from, have);
        }
    }

    /// Makes an operation of this device. It takes effect once it is on disk.
    pub(super) fn edit(
        &mut self,
        key: &DeviceKey,
        member: MemberId,
        changes: Vec<Change>,
    ) -> Result<Cosigned<Operation>, EditError> {
        let operation = self.taken.edit(key, member, changes)?;
        self.take_own(Piece::Operation(operation.clone()))?;
        Ok(operation)
    }

    /// Accepts a piece that was made or brought here, and announces it to others once it is on
    /// disk. Returns whether it was new.
    pub(super) fn take_own(&mut self, piece: Piece) -> Result<bool, PieceError> {
        let new = self.taken.take_all([piece.clone()]).remove(0)?;
        if new {
            self.announced.push_back((self.writes + 1, piece.clone()));
            self.changed(Own::Piece(Box::new(piece)));
        }
        Ok(new)
    }

    /// Something was accepted that must be kept.
    fn changed(&mut self, own: Own) {
        self.unwritten = true;
        self.have = None;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.push(own);
        }
    }

    /// Queues an item for a worker.
    fn queue(
        &mut self,
        from: Option<DeviceId>,
        what: What,
        bytes: usize,
    ) -> Result<Handled, MessageError> {
        let queue = self.queues.entry(from).or_default();
        let is_full = queue.items.len() >= QUEUED_MAX || queue.bytes + bytes > QUEUED_MAX_BYTES;
        if is_full && !queue.items.is_empty() {
            return Err(MessageError::OverBudget);
        }
        self.numbers += 1;
        queue.bytes += bytes;
        queue.items.push_back((Item { number: self.numbers, from, what }, bytes));
        Ok(Handled::Later(self.numbers))
    }

    /// Whether there is work for a worker that may be done now.
    fn is_due(&self, now: Timestamp) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// When there is work for a worker.
    fn due_at(&self) -> Option<Timestamp> {
        let from = self.queues.keys().copied().chain(self.questions.keys().copied().map(Some));
        let at = |from: Option<DeviceId>| {
            from.and_then(|from| self.purses.opens_at(from)).unwrap_or(Timestamp::ZERO)
        };
        from.map(at).min().filter(|_| self.meanwhile.is_none())
    }

    /// Returns the charter to write to disk, and the number under which to report it.
    pub(super) fn poll_persist(&mut self) -> Option<(u64, Arc<Charter>)> {
        if self.writing.is_some() || !std::mem::take(&mut self.unwritten) {
            return None;
        }
        self.writes += 1;
        let writing = (self.writes, Arc::new(self.taken.clone()));
        self.writing = Some(writing.clone());
        Some(writing)
    }

    /// The charter is on disk and takes effect. Returns the messages for others.
    pub(super) fn handle_persisted(&mut self, number: u64) -> Option<Vec<Vec<u8>>> {
        let (_, charter) = self.writing.take_if(|(writing, _)| *writing == number)?;
        self.set_charter(charter);
        let ready = self.announced.iter().take_while(|(write, _)| *write <= number).count();
        let pieces = self.announced.drain(..ready).map(|(_, piece)| piece);
        Some(pack(pieces).iter().map(Message::encode).collect())
    }

    /// The charter could not be written. What others have made takes effect nevertheless, since a
    /// removal must not wait. What was made here stays unknown to others until it is on disk, since
    /// its number could be used again otherwise. [CHARTER-8.1]
    pub(super) fn handle_unwritten(&mut self, now: Timestamp, number: u64) -> bool {
        let Some((_, charter)) = self.writing.take_if(|(writing, _)| *writing == number) else {
            return false;
        };
        self.set_charter(charter);
        self.write_again_at = Some(now + WRITE_AGAIN);
        for (write, _) in &mut self.announced {
            *write = (*write).max(number + 1);
        }
        true
    }

    fn set_charter(&mut self, charter: Arc<Charter>) {
        self.digest = charter.digest();
        self.charter = at(charter, self.calendar);
    }

    /// Returns the next message of the charter for a peer.
    pub(super) fn poll_message(&mut self) -> Option<(DeviceId, Vec<u8>)> {
        self.outgoing.iter_mut().find_map(|(device, outgoing)| {
            if outgoing.in_flight >= IN_FLIGHT_MAX {
                return None;
            }
            let message = outgoing.messages.pop_front().or_else(|| outgoing.next_of_bulk())?;
            outgoing.in_flight += 1;
            Some((*device, message))
        })
    }

    /// A message was answered, or lost. The next comparison finds what did not arrive.
    pub(super) fn handle_answer(&mut self, device: DeviceId) {
        if let Some(outgoing) = self.outgoing.get_mut(&device) {
            outgoing.in_flight = outgoing.in_flight.saturating_sub(1);
        }
    }

    /// Compares with the next peer, when it is time.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.unwritten |= self.write_again_at.take_if(|at| *at <= now).is_some();
        if self.compare_at.is_none_or(|at| at > now) {
            return;
        }
        self.compare_at = Some(now + COMPARE_INTERVAL);
        let last = self.compared;
        let next = self.outgoing.keys().find(|peer| last.is_none_or(|last| **peer > last));
        self.compared = next.or_else(|| self.outgoing.keys().next()).copied();
        if let Some(peer) = self.compared
            && let Some(outgoing) = self.outgoing.get_mut(&peer)
            && outgoing.messages.is_empty()
            && outgoing.bulk.is_none()
        {
            outgoing.messages.push_back(Message::Digest(self.digest).encode());
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.compare_at.into_iter().chain(self.write_again_at).chain(self.due_at()).min()
    }

    /// Tells a peer what we have, not too often.
    fn ask(&mut self, now: Timestamp, peer: DeviceId) {
        let Some(outgoing) = self.outgoing.get_mut(&peer) else { return };
        if outgoing.asked.is_some_and(|at| now < at + ASK_INTERVAL) {
            return;
        }
        outgoing.asked = Some(now);
        let have = self.have.get_or_insert_with(|| self.taken.have());
        outgoing.messages.push_back(Message::Have(have.clone()).encode());
    }
}

impl Queue {
    /// Takes as much as a worker is given at once.
    fn take(&mut self) -> impl Iterator<Item = Item> + use<> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < TAKEN_AT_ONCE_BYTES
            && let Some((item, length)) = self.items.pop_front()
        {
            bytes += length;
            taken.push(item);
        }
        self.bytes -= bytes;
        taken.into_iter()
    }
}

impl Outgoing {
    fn next_of_bulk(&mut self) -> Option<Vec<u8>> {
        let (messages, sent) = self.bulk.as_mut()?;
        let message = messages.get(*sent).cloned();
        *sent += 1;
        self.bulk.take_if(|(messages, sent)| *sent >= messages.len());
        message
    }
}

/// The charter at this calendar time.
fn at(mut charter: Arc<Charter>, calendar: UnixTime) -> Arc<Charter> {
    if charter.changes_by(calendar) {
        Arc::make_mut(&mut charter).set_calendar(calendar);
    }
    charter
}

/// How often the charter is compared with one peer. [CHARTER-8.2]
const COMPARE_INTERVAL: Duration = Duration::from_secs(5);

/// Delay before a failed write is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// The shortest time between two requests to a peer, since what it sends takes time.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Messages of the charter to one peer at a time. Bulk waits for its answers.
const IN_FLIGHT_MAX: usize = 2;

/// Bytes of one peer's messages that wait for a worker. Further messages are refused. Comparisons
/// make up for lost gossip. A peer's own messages wait for answers, two at a time.
const QUEUED_MAX_BYTES: usize = 128 * 1024;

/// Number of these messages: a relay passes on what hundreds send at once.
const QUEUED_MAX: usize = 256;

/// Bytes of one peer's messages that a worker is given at once, or one longer message. Other peers
/// do not wait for more than this.
const TAKEN_AT_ONCE_BYTES: usize = 64 * 1024;

/// Bytes that a record counts for.
const RECORD_BYTES: usize = 512;

/// Packed answers that are kept. If there are more, the oldest is dropped, and packed again if it
/// is requested.
const PACKED_MAX: usize = 4;
