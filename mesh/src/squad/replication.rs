//! The charter among members: what is new is checked, kept, acted on, passed on; what is missing is
//! asked for. [section 8 of docs/charter.md]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_keys::{Cosigned, DecodeError, DeviceId, DeviceKey, MemberId, ObjectHash, Timestamp};

use crate::{
    charter::{
        CertificateChain, Charter, EditError, Have, Operation, Piece, PieceError,
        content::Change,
        pack::{pack, unpack},
    },
    message::{Message, PAST_PARTS_MAX, PastPart},
    squad::MessageError,
};

/// The charter in force, what is on its way to the disk, and who lacks what.
pub(super) struct Replication {
    /// What is acted on: all of it is on disk.
    charter: Arc<Charter>,
    /// What was taken, on disk or not.
    taken: Charter,
    /// Whether some of it was not handed to the disk.
    unwritten: bool,
    /// What the disk is at.
    writing: Option<(u64, Arc<Charter>)>,
    writes: u64,
    /// When to try again what the disk did not take.
    write_again_at: Option<Timestamp>,
    /// Own pieces that others hear of once they are on disk, and by which write they are.
    announced: VecDeque<(u64, Piece)>,
    /// Pieces that wait for others, by who brought them. [CHARTER-8.3]
    waiting: BTreeMap<DeviceId, VecDeque<Piece>>,
    outgoing: BTreeMap<DeviceId, Outgoing>,
    /// What a peer sends of a settled past.
    incoming: Option<Incoming>,
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
    in_flight: usize,
    /// When it was last asked for what it has.
    asked: Option<Timestamp>,
}

/// Parts of a settled past.
struct Incoming {
    from: DeviceId,
    id: ObjectHash,
    parts: u16,
    /// When the last of them came.
    at: Timestamp,
    held: BTreeMap<u16, Vec<u8>>,
}

impl Replication {
    pub(super) fn new(charter: Arc<Charter>) -> Self {
        Self {
            taken: (*charter).clone(),
            charter,
            unwritten: false,
            writing: None,
            writes: 0,
            write_again_at: None,
            announced: VecDeque::new(),
            waiting: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: None,
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
        self.incoming.take_if(|incoming| incoming.from == device);
        if self.outgoing.is_empty() {
            self.compare_at = None;
        }
    }

    /// Takes the certificates by which a peer has proved that it belongs.
    pub(super) fn take_chain(&mut self, chain: &CertificateChain) {
        self.unwritten |= self.taken.take_chain(chain);
    }

    /// Knows a peer's device by what added it. [CHARTER-3.6]
    pub(super) fn introduce(&mut self, added: &[Cosigned<Operation>]) {
        self.unwritten |= self.taken.introduce(added);
    }

    /// Takes a piece that was gossiped; an error is for the one who passed it on. [CHARTER-8.2]
    pub(super) fn handle_gossip(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        packed: &[u8],
    ) -> Result<(), MessageError> {
        for piece in unpack(packed)? {
            let author = match &piece {
                Piece::Operation(operation) => Some(operation.unverified().author),
                Piece::Root(_) | Piece::Certificate(_) | Piece::Checkpoint(_) => None,
            };
            if author.is_some_and(|author| !self.is_within_rate(now, author)) {
                continue;
            }
            match self.taken.take(piece.clone()) {
                Ok(new) => {
                    self.unwritten |= new;
                    // Only what its author has signed counts against it.
                    if let Some(author) = author.filter(|_| new) {
                        *self.rates.entry(author).or_default() += 1;
                    }
                }
                Err(PieceError::Missing(_)) => {
                    if let Some(from) = from {
                        self.wait(from, piece);
                        self.ask(now, from);
                    }
                }
                // Too late; or it builds upon a checkpoint that is not known here.
                Err(PieceError::Late) => {
                    if let Some(from) = from {
                        self.ask(now, from);
                    }
                }
                Err(error) => return Err(MessageError::Piece(error)),
            }
        }
        self.retry();
        Ok(())
    }

    /// Takes pieces that a peer has sent because we lacked them.
    pub(super) fn handle_pieces(
        &mut self,
        from: DeviceId,
        packed: &[u8],
    ) -> Result<(), MessageError> {
        let pieces = unpack(packed)?;
        let mut failure = Ok(());
        for (piece, result) in pieces.clone().into_iter().zip(self.taken.take_all(pieces)) {
            match result {
                Ok(new) => self.unwritten |= new,
                Err(PieceError::Missing(_)) => self.wait(from, piece),
                // No fault of the peer's: its view is another, or there is no room.
                Err(PieceError::Late | PieceError::Stranger | PieceError::Full) => {}
                Err(error) => failure = Err(MessageError::Piece(error)),
            }
        }
        self.retry();
        failure
    }

    /// Takes what somebody shows who may be anybody: pieces speak for themselves.
    pub(super) fn handle_proof(&mut self, pieces: Vec<Piece>) {
        self.unwritten |= self.taken.take_all(pieces).contains(&Ok(true));
        self.retry();
    }

    /// Takes a part of the settled past that a peer has sent because we were not there, and with the
    /// last of them the whole. One peer's at a time. [CHARTER-7.5]
    pub(super) fn handle_past(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        part: PastPart,
    ) -> Result<(), MessageError> {
        let PastPart { id, part, parts, bytes } = part;
        if part >= parts || parts > PAST_PARTS_MAX {
            return Err(DecodeError::Malformed.into());
        }
        let begins = match &self.incoming {
            Some(incoming) if incoming.from == from => (incoming.id, incoming.parts) != (id, parts),
            Some(incoming) => incoming.at + PAST_PATIENCE <= now,
            None => true,
        };
        if begins {
            self.incoming = Some(Incoming { from, id, parts, at: now, held: BTreeMap::new() });
        }
        let Some(incoming) = self.incoming.as_mut().filter(|it| it.from == from) else {
            return Ok(());
        };
        incoming.at = now;
        incoming.held.insert(part, bytes.into_vec());
        if incoming.held.len() < usize::from(parts) {
            return Ok(());
        }
        let past = incoming.held.values().flatten().copied().collect::<Vec<_>>();
        self.incoming = None;
        match self.taken.take_past(&past) {
            Ok(true) => {
                self.unwritten = true;
                self.retry();
                if let Some(outgoing) = self.outgoing.get_mut(&from) {
                    outgoing.asked = None;
                }
                self.ask(now, from);
                Ok(())
            }
            // What it needs may be under way; the next comparison brings it again.
            Ok(false) | Err(PieceError::Missing(_)) => Ok(()),
            Err(error) => Err(MessageError::Piece(error)),
        }
    }

    /// A peer tells the hash over its charter.
    pub(super) fn handle_digest(&mut self, now: Timestamp, from: DeviceId, digest: ObjectHash) {
        if digest != self.charter.digest() {
            self.ask(now, from);
        }
    }

    /// A peer tells what it has: it is sent what it lacks, and asked for what we lack.
    pub(super) fn handle_have(&mut self, now: Timestamp, from: DeviceId, have: &Have) {
        let Some(outgoing) = self.outgoing.get_mut(&from) else { return };
        // Who asks again while it is being answered asks in vain.
        if outgoing.messages.len() <= IN_FLIGHT_MAX {
            let mut messages = pack(self.charter.lacking(have));
            if self.charter.tells_past(have)
                && let Some(past) = self.charter.past()
            {
                messages.extend(Message::of_past(&past));
            }
            outgoing.messages.extend(messages.iter().map(Message::encode));
        }
        if self.taken.lacks_of(have) {
            self.ask(now, from);
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
            self.unwritten = true;
            self.announced.push_back((self.writes + 1, piece));
        }
        Ok(new)
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
        self.charter = charter;
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
        self.charter = charter;
        self.write_again_at = Some(now + WRITE_AGAIN);
        for (write, _) in &mut self.announced {
            *write = (*write).max(number + 1);
        }
        true
    }

    /// The next message of the charter for a peer.
    pub(super) fn poll_message(&mut self) -> Option<(DeviceId, Vec<u8>)> {
        self.outgoing.iter_mut().find_map(|(device, outgoing)| {
            if outgoing.in_flight >= IN_FLIGHT_MAX {
                return None;
            }
            let message = outgoing.messages.pop_front()?;
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
        {
            outgoing.messages.push_back(Message::Digest(self.charter.digest()).encode());
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.compare_at.into_iter().chain(self.write_again_at).min()
    }

    /// Tells a peer what we have, at most once in a while.
    fn ask(&mut self, now: Timestamp, peer: DeviceId) {
        let Some(outgoing) = self.outgoing.get_mut(&peer) else { return };
        if outgoing.asked.is_some_and(|at| now < at + ASK_INTERVAL) {
            return;
        }
        outgoing.asked = Some(now);
        outgoing.messages.push_back(Message::Have(self.taken.have()).encode());
    }

    fn wait(&mut self, from: DeviceId, piece: Piece) {
        // Whoever has no link is asked for nothing, and would never be forgotten.
        if !self.outgoing.contains_key(&from) {
            return;
        }
        let waiting = self.waiting.entry(from).or_default();
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back(piece);
    }

    /// Tries again what waits, until nothing more comes of it.
    fn retry(&mut self) {
        loop {
            let mut progress = false;
            for waiting in self.waiting.values_mut() {
                for _ in 0..waiting.len() {
                    let Some(piece) = waiting.pop_front() else { break };
                    match self.taken.take(piece.clone()) {
                        Ok(new) => progress |= new,
                        Err(PieceError::Missing(_)) => waiting.push_back(piece),
                        Err(_) => {}
                    }
                }
            }
            self.unwritten |= progress;
            if !progress {
                return;
            }
        }
    }

    /// [CHARTER-8.3]
    fn is_within_rate(&mut self, now: Timestamp, author: DeviceId) -> bool {
        if self.day_ends.is_none_or(|at| at <= now) {
            self.day_ends = Some(now + DAY);
            self.rates.clear();
        }
        let made = self.rates.get(&author).copied().unwrap_or(0);
        made < self.taken.state().policies().operations_per_day
    }
}

/// How often the charter is compared with one peer. [CHARTER-8.2]
const COMPARE_INTERVAL: Duration = Duration::from_secs(5);

/// A peer that has begun to send its settled past, and sends no more of it, makes way for another.
const PAST_PATIENCE: Duration = Duration::from_secs(5);

/// Wait before the disk is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// A peer is asked no more often: what it sends takes its time.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Messages of the charter to one peer at a time; bulk waits for its answers.
const IN_FLIGHT_MAX: usize = 2;

/// Pieces of one peer that wait for others; the oldest goes. [CHARTER-8.3]
const WAITING_MAX: usize = 256;
