//! The charter among members: what is new is checked, kept, acted on, passed on; what is missing is
//! asked for. [section 8 of docs/charter.md]

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

/// The charter in force, what is on its way to the disk, and who lacks what.
pub(super) struct Replication {
    /// What is acted on: all of it is on disk.
    charter: Arc<Charter>,
    /// A hash over it.
    digest: ObjectHash,
    /// What was taken, on disk or not.
    taken: Charter,
    /// What the calendar says: mutes and bans end by it.
    calendar: UnixTime,
    /// What is to be said of that, as long as it is true.
    have: Option<Have>,
    /// What a worker is to take, by who has sent it: each peer waits for itself.
    queues: BTreeMap<Option<DeviceId>, Queue>,
    /// What peers have, to be told what they lack.
    questions: BTreeMap<DeviceId, Have>,
    /// What was packed last: the same is asked by all who come at one time.
    packed: VecDeque<(ObjectHash, Messages)>,
    /// Whose turn is next.
    turn: Option<DeviceId>,
    /// What was taken here while a worker has the charter, if one has.
    meanwhile: Option<Vec<Own>>,
    /// The number of the last thing that a worker takes, and what became of others.
    numbers: u64,
    verdicts: VecDeque<(u64, Result<(), MessageError>)>,
    /// What each peer may cost the workers.
    pub(super) purses: Purses,
    /// Whether some of it was not handed to the disk.
    unwritten: bool,
    /// What the disk is at.
    writing: Option<(u64, Arc<Charter>)>,
    writes: u64,
    /// When to try again what the disk did not take.
    write_again_at: Option<Timestamp>,
    /// Own pieces that others hear of once they are on disk, and by which write they are.
    announced: VecDeque<(u64, Piece)>,
    waiting: Waiting,
    outgoing: BTreeMap<DeviceId, Outgoing>,
    /// What peers send of settled pasts.
    pasts: Pasts,
    /// When to compare with one peer, and who was the last.
    compare_at: Option<Timestamp>,
    compared: Option<DeviceId>,
    /// Operations of each author taken from gossip since the start of the day.
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

/// What one peer has sent for a worker to take.
#[derive(Default)]
struct Queue {
    items: VecDeque<(Item, usize)>,
    bytes: usize,
}

/// What is taken at once, as few pieces as it is, or as somebody waits for it.
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
            waiting: Waiting::new(),
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

    /// What the calendar says now; tells whether the charter in force says something else by it.
    pub(super) fn set_calendar(&mut self, calendar: UnixTime) -> bool {
        self.calendar = calendar;
        self.taken.set_calendar(calendar);
        let changes = self.charter.changes_by(calendar);
        if changes {
            self.charter = at(Arc::clone(&self.charter), calendar);
        }
        changes
    }

    /// All that was taken, also what the disk has not yet.
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
        self.waiting.remove(&device);
        self.questions.remove(&device);
        self.pasts.link_down(device);
        let queue = self.queues.remove(&Some(device)).unwrap_or_default();
        let numbers = queue.items.into_iter().map(|(item, _)| item.number);
        self.verdicts.extend(numbers.map(|number| (number, Err(MessageError::NotLinked))));
        if self.outgoing.is_empty() {
            self.compare_at = None;
        }
    }

    /// Takes the certificates by which a peer has proved that it belongs.
    pub(super) fn take_chain(&mut self, chain: &CertificateChain) {
        if self.taken.take_chain(chain) {
            self.changed(Own::Chain(chain.clone()));
        }
    }

    /// Knows a peer's device by what added it. [CHARTER-3.6]
    pub(super) fn introduce(&mut self, added: &[Cosigned<Operation>]) {
        if self.taken.introduce(added) {
            self.changed(Own::Introduced(added.to_vec()));
        }
    }

    /// Pieces were gossiped; what becomes of them is for the one who passed them on. [CHARTER-8.2]
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

    /// Somebody has sent records that are newer than what is known.
    pub(super) fn handle_records(
        &mut self,
        from: Option<DeviceId>,
        records: Vec<Signed<MemberRecord>>,
    ) -> Result<Handled, MessageError> {
        let bytes = RECORD_BYTES * records.len();
        self.queue(from, What::Records(records), bytes)
    }

    /// Somebody shows pieces who may be anybody: they speak for themselves.
    pub(super) fn handle_proof(&mut self, pieces: Vec<Piece>) {
        let bytes = OPERATION_MAX_BYTES * pieces.len();
        // Where there is no room, others will show the same.
        let _ = self.queue(None, What::Proof(pieces), bytes);
    }

    /// A peer has sent a part of the settled past because we were not there; with the last of them
    /// the whole is taken. [CHARTER-7.5]
    pub(super) fn handle_past(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        part: PastPart,
    ) -> Result<Handled, MessageError> {
        match self.pasts.take(now, from, part)? {
            // One at a time, however long it is.
            Some(past) => self.queue(Some(from), What::Past(past), QUEUED_MAX_BYTES),
            None => Ok(Handled::Done),
        }
    }

    /// What a worker is to do, if it has nothing to do: of each peer that may cost it something, a
    /// little.
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

    /// A worker has done what it was given; gives the records that are to be kept.
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
            // Few, as persons make them, or new links.
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
        // Whoever has no link is asked for nothing, and would never be forgotten.
        self.waiting = done.waiting;
        self.waiting.retain(|from, _| self.outgoing.contains_key(from));
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

    /// What became of something that a worker was given.
    pub(super) fn poll_verdict(&mut self) -> Option<(u64, Result<(), MessageError>)> {
        self.verdicts.pop_front()
    }

    /// A peer tells the hash over its charter.
    pub(super) fn handle_digest(&mut self, now: Timestamp, from: DeviceId, digest: ObjectHash) {
        if digest != self.digest {
            self.ask(now, from);
        }
    }

    /// A peer tells what it has: it is sent what it lacks, and asked for what we lack.
    pub(super) fn handle_have(&mut self, from: DeviceId, have: Have) {
        let Some(outgoing) = self.outgoing.get_mut(&from) else { return };
        // Who asks again while it is being answered asks in vain.
        if outgoing.bulk.is_none() {
            self.questions.insert(from, have);
        }
    }

    /// Makes an operation of this device; it counts once it is on disk.
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

    /// Takes a piece that was made or brought here, and tells others once it is on disk; says
    /// whether it was new.
    pub(super) fn take_own(&mut self, piece: Piece) -> Result<bool, PieceError> {
        let new = self.taken.take_all([piece.clone()]).remove(0)?;
        if new {
            self.announced.push_back((self.writes + 1, piece.clone()));
            self.changed(Own::Piece(Box::new(piece)));
        }
        Ok(new)
    }

    /// Something was taken that is to be kept.
    fn changed(&mut self, own: Own) {
        self.unwritten = true;
        self.have = None;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.push(own);
        }
    }

    /// Has a worker take it.
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

    /// Whether there is something for a worker that may be done now.
    fn is_due(&self, now: Timestamp) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// When there is something for a worker to do.
    fn due_at(&self) -> Option<Timestamp> {
        let from = self.queues.keys().copied().chain(self.questions.keys().copied().map(Some));
        let at = |from: Option<DeviceId>| {
            from.and_then(|from| self.purses.opens_at(from)).unwrap_or(Timestamp::ZERO)
        };
        from.map(at).min().filter(|_| self.meanwhile.is_none())
    }

    /// The charter to be written to disk, and the number to tell when it is.
    pub(super) fn poll_persist(&mut self) -> Option<(u64, Arc<Charter>)> {
        if self.writing.is_some() || !std::mem::take(&mut self.unwritten) {
            return None;
        }
        self.writes += 1;
        let writing = (self.writes, Arc::new(self.taken.clone()));
        self.writing = Some(writing.clone());
        Some(writing)
    }

    /// The disk has it: it is acted on from now on. Gives what others are to be told.
    pub(super) fn handle_persisted(&mut self, number: u64) -> Option<Vec<Vec<u8>>> {
        let (_, charter) = self.writing.take_if(|(writing, _)| *writing == number)?;
        self.set_charter(charter);
        let ready = self.announced.iter().take_while(|(write, _)| *write <= number).count();
        let pieces = self.announced.drain(..ready).map(|(_, piece)| piece);
        Some(pack(pieces).iter().map(Message::encode).collect())
    }

    /// The disk does not take it. What others have made is acted on all the same, as a removal must
    /// not wait; what was made here stays unknown to others until it is kept, or its number could
    /// come again. [CHARTER-8.1]
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

    /// The next message of the charter for a peer.
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

    /// A message was answered, or lost: what did not arrive is found by the next comparison.
    pub(super) fn handle_answer(&mut self, device: DeviceId) {
        if let Some(outgoing) = self.outgoing.get_mut(&device) {
            outgoing.in_flight = outgoing.in_flight.saturating_sub(1);
        }
    }

    /// Compares with one peer in turn, when it is time.
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

    /// Tells a peer what we have, at most once in a while.
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
    /// As much as a worker is given at once.
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

/// The charter by this calendar.
fn at(mut charter: Arc<Charter>, calendar: UnixTime) -> Arc<Charter> {
    if charter.changes_by(calendar) {
        Arc::make_mut(&mut charter).set_calendar(calendar);
    }
    charter
}

/// How often the charter is compared with one peer. [CHARTER-8.2]
const COMPARE_INTERVAL: Duration = Duration::from_secs(5);

/// Wait before the disk is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// A peer is asked no more often: what it sends takes its time.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Messages of the charter to one peer at a time; bulk waits for its answers.
const IN_FLIGHT_MAX: usize = 2;

/// Bytes of one peer's messages that wait for a worker. Further ones are refused: gossip is mended
/// by comparisons, and of what a peer sends by itself it waits for answers, two at a time.
const QUEUED_MAX_BYTES: usize = 128 * 1024;

/// And the messages: a relay passes on what hundreds say at once.
const QUEUED_MAX: usize = 256;

/// Bytes of one peer's messages that a worker is given at once, or one message: those of others do
/// not wait for more.
const TAKEN_AT_ONCE_BYTES: usize = 64 * 1024;

/// Bytes that a record counts for.
const RECORD_BYTES: usize = 512;

/// Answers that are kept packed; the oldest goes, and is packed again where it is asked for.
const PACKED_MAX: usize = 4;
