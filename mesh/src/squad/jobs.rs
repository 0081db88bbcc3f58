//! Work on what others send of the charter, done outside the thread that decides.
//!
//! Signatures are checked, the state is computed again from the pieces, and answers are packed. For
//! a large charter each of these takes milliseconds. [`Squad::poll_job`](super::Squad::poll_job)
//! hands out the work as a [`Job`], one at a time. The result comes back as an input.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_charter::{Charter, Have, Piece, PieceError};
use hark_keys::{DeviceId, ObjectHash, Signed};

use super::{
    MessageError,
    budget::{JUDGED, PAST_KIB, RECORD, SENT_KIB, SIGNATURE},
};
use crate::{
    DirectoryError, MemberRecord,
    message::Message,
    pack::{pack, unpack},
};

/// Encoded messages that are sent to several peers.
pub(super) type Messages = Arc<[Vec<u8>]>;

/// What waits for pieces that are yet to come, by the peer that brought it. [CHARTER-8.3]
#[derive(Default)]
pub(super) struct Waiting {
    pieces: BTreeMap<DeviceId, VecDeque<Piece>>,
    /// Records of devices that do not belong by what is known here so far. [PROTO-5.3]
    records: BTreeMap<DeviceId, VecDeque<Signed<MemberRecord>>>,
}

impl Waiting {
    /// Forgets what all but these peers have brought.
    pub(super) fn retain(&mut self, is_linked: impl Fn(&DeviceId) -> bool) {
        self.pieces.retain(|from, _| is_linked(from));
        self.records.retain(|from, _| is_linked(from));
    }
}

/// Puts `what` at the end of what waits of a peer; if that is full, the oldest is dropped.
fn wait<T>(waiting: &mut BTreeMap<DeviceId, VecDeque<T>>, from: Option<DeviceId>, what: T) {
    let Some(from) = from else { return };
    let waiting = waiting.entry(from).or_default();
    if waiting.len() == WAITING_MAX {
        waiting.pop_front();
    }
    waiting.push_back(what);
}

/// Work that may take long, and can be run on any thread.
pub struct Job {
    pub(super) charter: Charter,
    pub(super) in_force: Arc<Charter>,
    pub(super) waiting: Waiting,
    /// Number of operations of each author taken from gossip today.
    pub(super) rates: BTreeMap<DeviceId, u32>,
    pub(super) items: Vec<Item>,
    pub(super) questions: Vec<Question>,
}

/// Something that a peer has sent.
pub(super) struct Item {
    /// Identifies the item in the report of its result.
    pub(super) number: u64,
    /// The linked peer that has sent it or passed it on.
    pub(super) from: Option<DeviceId>,
    pub(super) what: What,
}

/// The content of an item.
pub(super) enum What {
    /// Pieces from gossip, packed.
    Gossip(Vec<u8>),
    /// Pieces that we lacked, packed.
    Pieces(Vec<u8>),
    /// Pieces from a sender whose identity does not matter.
    Proof(Vec<Piece>),
    /// A whole settled past.
    Past(Vec<u8>),
    /// Records that are newer than the known ones.
    Records(Vec<Signed<MemberRecord>>),
}

/// What a peer has, so that it can be sent what it lacks.
pub(super) struct Question {
    pub(super) from: DeviceId,
    pub(super) have: Have,
    /// Identifies the answer.
    pub(super) key: ObjectHash,
    /// The answer, if it was packed before.
    pub(super) known: Option<Messages>,
}

/// The result of a [`Job`].
pub struct JobDone {
    /// All that is held now, and what to tell peers about it; `None` if nothing is new.
    pub(super) charter: Option<(Charter, Have)>,
    pub(super) waiting: Waiting,
    pub(super) rates: BTreeMap<DeviceId, u32>,
    /// Records that are signed by their authors, each of a member.
    pub(super) records: Vec<Signed<MemberRecord>>,
    pub(super) verdicts: Vec<(u64, Result<(), MessageError>)>,
    /// The work that each peer has caused.
    pub(super) costs: Vec<(DeviceId, Duration)>,
    /// The peers that have what we lack.
    pub(super) ask: BTreeSet<DeviceId>,
    /// The peers that sent a settled past, and whether it was valid.
    pub(super) pasts: Vec<(DeviceId, bool)>,
    /// The answers with what peers lack.
    pub(super) answers: Vec<(DeviceId, ObjectHash, Messages)>,
}

impl Job {
    /// Does all the work. The same job always has the same result.
    pub fn run(self) -> JobDone {
        let Self { charter, in_force, waiting, rates, items, questions } = self;
        let done = JobDone {
            charter: None,
            waiting,
            rates,
            records: Vec::new(),
            verdicts: Vec::new(),
            costs: Vec::new(),
            ask: BTreeSet::new(),
            pasts: Vec::new(),
            answers: Vec::new(),
        };
        let mut work = Work { charter, is_new: false, done };
        let (mut brought, mut gossiped) = (Vec::new(), Vec::new());
        let mut rest = Vec::new();
        for Item { number, from, what } in items {
            let origin = Origin { number, from };
            match what {
                What::Pieces(packed) => work.unpack(origin, &packed, &mut brought),
                What::Gossip(packed) => work.unpack(origin, &packed, &mut gossiped),
                What::Proof(pieces) => brought.push((origin, pieces)),
                What::Past(_) | What::Records(_) => rest.push((origin, what)),
            }
        }
        work.take_brought(brought);
        work.take_gossiped(gossiped);
        for (origin, what) in rest {
            match what {
                What::Past(past) => work.take_past(origin, &past),
                What::Records(records) => work.take_records(origin, records),
                What::Pieces(_) | What::Gossip(_) | What::Proof(_) => {}
            }
        }
        work.retry();
        work.retry_records();
        for question in questions {
            work.answer(&in_force, question);
        }
        let Work { charter, is_new, mut done } = work;
        done.charter = is_new.then(|| {
            let have = charter.have();
            (charter, have)
        });
        done
    }
}

#[derive(Clone, Copy)]
struct Origin {
    number: u64,
    from: Option<DeviceId>,
}

/// The pieces of each message.
type Batches = Vec<(Origin, Vec<Piece>)>;

struct Work {
    charter: Charter,
    is_new: bool,
    done: JobDone,
}

impl Work {
    fn unpack(&mut self, origin: Origin, packed: &[u8], batches: &mut Batches) {
        match unpack(packed) {
            Ok(pieces) => batches.push((origin, pieces)),
            Err(error) => {
                self.spend(origin, SIGNATURE);
                self.conclude(origin, Err(error.into()));
            }
        }
    }

    /// Takes what peers have sent because we lacked it.
    fn take_brought(&mut self, batches: Batches) {
        let judged = self.charter.judged();
        let all = batches.iter().flat_map(|(_, pieces)| pieces.iter().cloned());
        let mut results = self.charter.take_all(all.collect::<Vec<_>>()).into_iter();
        let judged = self.charter.judged().wrapping_sub(judged);
        for (origin, pieces) in batches {
            let mut failure = Ok(());
            let mut cost = Duration::ZERO;
            let mut moved = false;
            for (piece, result) in pieces.into_iter().zip(&mut results) {
                cost += cost_of(&piece, &result);
                moved |= result == Ok(true) && !matches!(piece, Piece::Certificate(_));
                match result {
                    Ok(new) => self.is_new |= new,
                    Err(PieceError::Missing(_)) => {
                        wait(&mut self.done.waiting.pieces, origin.from, piece);
                    }
                    // This is no fault of the peer: its view differs, or there is no room.
                    Err(PieceError::Late | PieceError::Stranger | PieceError::Full) => {}
                    Err(error) => failure = Err(MessageError::Piece(error)),
                }
            }
            self.spend(origin, cost + JUDGED * if moved { judged } else { 0 });
            self.conclude(origin, failure);
        }
    }

    /// Takes what was gossiped. An error is for the peer that passed it on. [CHARTER-8.2]
    fn take_gossiped(&mut self, batches: Batches) {
        let judged = self.charter.judged();
        let most = self.charter.state().policies().operations_per_day;
        let mut taken = Vec::new();
        let mut offered = Vec::new();
        for (origin, pieces) in batches {
            let count = pieces.len();
            // [CHARTER-8.3]
            let made = |author: &DeviceId| self.done.rates.get(author).copied().unwrap_or(0);
            let within = |piece: &Piece| author_of(piece).is_none_or(|it| made(&it) < most);
            let pieces: Vec<_> = pieces.into_iter().filter(within).collect();
            offered.extend(pieces.iter().cloned());
            taken.push((origin, pieces.len() < count, pieces));
        }
        let mut results = self.charter.take_offered(offered).into_iter();
        let judged = self.charter.judged().wrapping_sub(judged);
        for (origin, over, pieces) in taken {
            let mut failure = if over { Err(MessageError::OverBudget) } else { Ok(()) };
            let mut cost = Duration::ZERO;
            let mut moved = false;
            for (piece, result) in pieces.into_iter().zip(&mut results) {
                cost += cost_of(&piece, &result);
                moved |= result == Ok(true) && !matches!(piece, Piece::Certificate(_));
                match result {
                    Ok(new) => {
                        self.is_new |= new;
                        // Only what its author has signed counts against the author.
                        if let Some(author) = author_of(&piece).filter(|_| new) {
                            *self.done.rates.entry(author).or_default() += 1;
                        }
                    }
                    Err(PieceError::Missing(_)) => {
                        wait(&mut self.done.waiting.pieces, origin.from, piece);
                        self.done.ask.extend(origin.from);
                    }
                    // The piece is too late, or it builds upon a checkpoint that is not known here.
                    Err(PieceError::Late) => self.done.ask.extend(origin.from),
                    Err(error) => failure = Err(MessageError::Piece(error)),
                }
            }
            self.spend(origin, cost + JUDGED * if moved { judged } else { 0 });
            self.conclude(origin, failure);
        }
    }

    fn take_past(&mut self, origin: Origin, past: &[u8]) {
        let kib = u32::try_from(past.len() / 1024).unwrap_or(u32::MAX);
        self.spend(origin, PAST_KIB * (1 + kib));
        let result = self.charter.take_past(past);
        let failed = !matches!(result, Ok(_) | Err(PieceError::Missing(_)));
        if result == Ok(true) {
            self.is_new = true;
        }
        if let Some(from) = origin.from
            && (failed || result == Ok(true))
        {
            self.done.pasts.push((from, !failed));
        }
        self.conclude(
            origin,
            match result {
                // What it needs may be under way. Otherwise the next comparison brings the past
                // again.
                Ok(_) | Err(PieceError::Missing(_)) => Ok(()),
                Err(error) => Err(MessageError::Piece(error)),
            },
        );
    }

    /// Takes records. The chain of each is checked after its signature.
    fn take_records(&mut self, origin: Origin, records: Vec<Signed<MemberRecord>>) {
        let mut result = Ok(());
        for record in records {
            let claimed = record.unverified();
            let chain = u32::try_from(claimed.chain.iter().count()).unwrap_or(u32::MAX);
            let checked = record.verify().map_err(MessageError::from).and_then(|it| {
                let is_new = self.charter.take_chain(&it.chain);
                self.is_new |= is_new;
                self.spend(origin, SIGNATURE * if is_new { chain } else { 0 });
                let belongs = self.charter.verify_chain(&it.chain, it.device);
                belongs.map_err(|error| MessageError::Record(error.into()))
            });
            self.spend(origin, SIGNATURE);
            match checked {
                Ok(_) => self.done.records.push(record),
                Err(MessageError::Record(DirectoryError::Chain(error)))
                    if error.depends_on_charter() =>
                {
                    result = Err(MessageError::Record(error.into()));
                    wait(&mut self.done.waiting.records, origin.from, record);
                }
                // After one such record, no more of that sender's records are read.
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.conclude(origin, result);
    }

    /// Takes the waiting records of devices that belong by what is known now.
    fn retry_records(&mut self) {
        if !self.is_new {
            return;
        }
        for records in self.done.waiting.records.values_mut() {
            records.retain(|record| {
                let claimed = record.unverified();
                let belongs = self.charter.verify_chain(&claimed.chain, claimed.device).is_ok();
                if belongs {
                    self.done.records.push(record.clone());
                }
                !belongs
            });
        }
    }

    /// Tries the waiting pieces again, until nothing new results.
    fn retry(&mut self) {
        for _ in 0..RETRIES_MAX {
            if !self.is_new || self.done.waiting.pieces.is_empty() {
                return;
            }
            let waiting = std::mem::take(&mut self.done.waiting.pieces);
            let all = waiting
                .into_iter()
                .flat_map(|(from, pieces)| pieces.into_iter().map(move |piece| (from, piece)));
            let (from, pieces): (Vec<_>, Vec<_>) = all.unzip();
            let results = self.charter.take_offered(pieces.clone());
            let mut progress = false;
            for ((from, piece), result) in from.into_iter().zip(pieces).zip(results) {
                match result {
                    Ok(new) => progress |= new,
                    Err(PieceError::Missing(_)) => {
                        self.done.waiting.pieces.entry(from).or_default().push_back(piece);
                    }
                    Err(_) => {}
                }
            }
            if !progress {
                return;
            }
        }
    }

    /// Packs what a peer lacks, and asks for what we lack.
    fn answer(&mut self, in_force: &Charter, question: Question) {
        let Question { from, have, key, known } = question;
        let same = self.done.answers.iter().find(|(_, other, _)| *other == key);
        let messages = known.or_else(|| same.map(|(.., messages)| Arc::clone(messages)));
        let messages = messages.unwrap_or_else(|| {
            let mut messages = pack(in_force.lacking(&have));
            if in_force.tells_past(&have)
                && let Some(past) = in_force.past()
            {
                messages.extend(Message::of_past(&past));
            }
            messages.iter().map(Message::encode).collect()
        });
        let bytes: usize = messages.iter().map(Vec::len).sum();
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        let held = u32::try_from(self.charter.operations()).unwrap_or(u32::MAX);
        self.done.costs.push((from, SENT_KIB * kib + COMPARED * held));
        if self.charter.lacks_of(&have) {
            self.done.ask.insert(from);
        }
        self.done.answers.push((from, key, messages));
    }

    fn spend(&mut self, origin: Origin, cost: Duration) {
        self.done.costs.extend(origin.from.map(|from| (from, cost)));
    }

    fn conclude(&mut self, origin: Origin, result: Result<(), MessageError>) {
        self.done.verdicts.push((origin.number, result));
    }
}

fn author_of(piece: &Piece) -> Option<DeviceId> {
    match piece {
        Piece::Operation(operation) => Some(operation.unverified().author),
        Piece::Root(_) | Piece::Certificate(_) | Piece::Checkpoint(_) => None,
    }
}

/// The cost of reaching this result for a piece.
fn cost_of(piece: &Piece, result: &Result<bool, PieceError>) -> Duration {
    if matches!(result, Ok(false) | Err(PieceError::Missing(_))) {
        return RECORD;
    }
    let signers = match piece {
        Piece::Root(document) => document.signers().len(),
        Piece::Operation(operation) => operation.signers().len(),
        Piece::Checkpoint(checkpoint) => checkpoint.signers().len(),
        Piece::Certificate(_) => 1,
    };
    SIGNATURE * u32::try_from(signers).unwrap_or(u32::MAX)
}

/// How often waiting pieces are tried again at once, since one piece may wait for another. The rest
/// waits for the next new piece.
const RETRIES_MAX: usize = 8;

/// Pieces of one peer that wait for others, and likewise records. If there are more, the oldest is
/// dropped. [CHARTER-8.3] [PROTO-5.3]
const WAITING_MAX: usize = 256;

/// The cost of an operation that is looked at to compare two charters.
const COMPARED: Duration = Duration::from_micros(1);
