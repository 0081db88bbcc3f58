//! Talk proofs: a talker's signature over the frames that it has sealed. [PROTO-10.9] [PROTO-10.10]
//!
//! A member that relays may hold the keys of the talkers that it relays. It could seal frames in
//! their names for others. A talker therefore signs what it sends by such relays. A listener
//! compares the frames with the proofs, and asks the talker about frames that no proof covers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, DeviceKey, FrameNumber, Timestamp, media::Sealed};
use hark_mesh::datagram::{DropReason, FrameHash, HASHES_MAX, Proof, Question, hash_of};

/// What a talker remembers of its own frames.
pub(super) struct Prover {
    key: Option<Arc<DeviceKey>>,
    /// The newest frames, with the tag of their target.
    sealed: VecDeque<([u8; 4], FrameNumber, FrameHash)>,
    /// How many of the newest frames the next proof covers, and when it is due.
    unproven: usize,
    due: Option<Timestamp>,
    /// The members' relays that some of those frames were sent to.
    relays: BTreeSet<DeviceId>,
    /// The keys that were replaced.
    ended: VecDeque<([u8; 4], Sealed)>,
    /// Number of questions looked at in the current interval, by device, and when the interval
    /// ends.
    asked: BTreeMap<DeviceId, u32>,
    asked_until: Timestamp,
}

impl Prover {
    /// A prover without a key, which has room for all frames that it will remember: the voice
    /// thread does not allocate while it speaks.
    pub(super) fn new() -> Self {
        Self {
            key: None,
            sealed: VecDeque::with_capacity(SEALED_MAX),
            unproven: 0,
            due: None,
            relays: BTreeSet::new(),
            ended: VecDeque::new(),
            asked: BTreeMap::new(),
            asked_until: Timestamp::ZERO,
        }
    }

    /// Signs with `key` from now on.
    pub(super) fn sign_with(&mut self, key: Arc<DeviceKey>) {
        self.key = Some(key);
    }

    /// A frame is sent to the target with `tag`.
    pub(super) fn handle_sealed(&mut self, tag: [u8; 4], frame: &[u8]) {
        let Some(number) = FrameNumber::of(frame) else { return };
        if self.sealed.len() == SEALED_MAX {
            self.sealed.pop_front();
        }
        self.sealed.push_back((tag, number, FrameHash::of(frame)));
        if !self.relays.is_empty() {
            self.unproven = (self.unproven + 1).min(SEALED_MAX);
        }
    }

    /// The newest frame is sent by a member's relay.
    pub(super) fn handle_relayed(&mut self, now: Timestamp, relay: DeviceId) {
        self.relays.insert(relay);
        self.unproven = self.unproven.max(1);
        self.due.get_or_insert(now + PROOF_INTERVAL);
    }

    /// The key to the target with `tag` is replaced. `sealed` says which frames it has sealed.
    pub(super) fn handle_key_ended(&mut self, tag: [u8; 4], sealed: Sealed) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((tag, sealed));
    }

    /// Returns the proofs that are due, and the relays to send them by. If the talkspurt is `over`,
    /// everything unproven is proven now.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        over: bool,
    ) -> Option<(Vec<Vec<u8>>, Vec<DeviceId>)> {
        let due = self.due?;
        if due > now && !over {
            return None;
        }
        let key = self.key.clone()?;
        self.due = None;
        let relays: Vec<_> = std::mem::take(&mut self.relays).into_iter().collect();
        let from = self.sealed.len() - std::mem::take(&mut self.unproven).min(self.sealed.len());
        let frames: Vec<_> = self.sealed.iter().skip(from).copied().collect();
        let runs = frames.chunk_by(follows);
        let longest = usize::from(PROOF_GROUP) * HASHES_MAX;
        let proofs = runs.flat_map(|run| run.chunks(longest)).map(|run| {
            let mut proof = Vec::new();
            prove(&key, run, PROOF_GROUP, &mut proof);
            proof
        });
        Some((proofs.collect(), relays))
    }

    /// Answers a question of `from`. `sealed` says what the current keys for its target have
    /// sealed. The limits are per device, so nobody's questions cost another device its answers.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    pub(super) fn answer(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        question: &Question,
        mut sealed: impl Iterator<Item = Sealed>,
    ) -> Result<Vec<u8>, DropReason> {
        let key = self.key.as_ref().ok_or(DropReason::UnknownKey)?;
        if now >= self.asked_until {
            self.asked_until = now + ANSWERS_INTERVAL;
            self.asked.clear();
        }
        if self.asked.len() == ASKERS_MAX && !self.asked.contains_key(&from) {
            return Err(DropReason::RateLimited);
        }
        let asked = self.asked.entry(from).or_default();
        *asked += 1;
        if *asked > ANSWERS_MAX {
            return Err(DropReason::RateLimited);
        }
        let &Question { target_tag, frame } = question;
        let mut out = Vec::new();
        let known = |(tag, number, _): &([u8; 4], FrameNumber, FrameHash)| {
            *tag == target_tag && *number == frame
        };
        if let Some(place) = self.sealed.iter().rposition(known) {
            let frames: Vec<_> = self.sealed.iter().skip(place).take(HASHES_MAX).copied().collect();
            let run = frames.chunk_by(follows).next().unwrap_or(&[]);
            prove(key, run, 1, &mut out);
            return Ok(out);
        }
        let ended = self.ended.iter().filter(|(tag, _)| *tag == target_tag);
        let ended = ended.filter(|(_, sealed)| sealed.key() == frame.key);
        let said = sealed.find_map(|it| it.has(frame));
        let ended = ended.filter_map(|(_, sealed)| sealed.has(frame)).next();
        match ended.or(said) {
            Some(false) => Proof::encode(key, target_tag, frame, 1, &[], &mut out),
            // Frames that were sealed too long ago are neither proven nor denied.
            Some(true) => return Err(DropReason::TooOld),
            None => return Err(DropReason::UnknownKey),
        }
        Ok(out)
    }
}

fn follows(
    (tag, one, _): &([u8; 4], FrameNumber, FrameHash),
    (next_tag, next, _): &([u8; 4], FrameNumber, FrameHash),
) -> bool {
    tag == next_tag && one.key == next.key && one.counter.wrapping_add(1) == next.counter
}

fn prove(key: &DeviceKey, run: &[([u8; 4], FrameNumber, FrameHash)], group: u8, out: &mut Vec<u8>) {
    let Some(&(tag, first, _)) = run.first() else { return };
    let hashes: Vec<_> = run.iter().map(|(_, _, hash)| *hash).collect();
    Proof::encode(key, tag, first, group, &hashes, out);
}

/// The frames of one talker that have come by members' relays and are not yet proven.
#[derive(Default)]
pub(super) struct Claims {
    claims: VecDeque<Claim>,
    /// The earliest time of the next question.
    asks: Timestamp,
    /// The earliest time of the next notice that something is unproven.
    tells: Timestamp,
}

/// A frame that has opened and is not yet proven.
struct Claim {
    tag: [u8; 4],
    number: FrameNumber,
    hash: FrameHash,
    relay: DeviceId,
    came: Timestamp,
    asked: Option<Timestamp>,
}

impl Claims {
    /// Whether so many frames are unproven that no more may be played.
    pub(super) fn is_full(&self) -> bool {
        self.claims.len() >= CLAIMS_MAX
    }

    /// A frame has come by a member's relay, and has opened.
    pub(super) fn push(&mut self, now: Timestamp, relay: DeviceId, tag: [u8; 4], frame: &[u8]) {
        let Some(number) = FrameNumber::of(frame) else { return };
        let hash = FrameHash::of(frame);
        self.claims.push_back(Claim { tag, number, hash, relay, came: now, asked: None });
    }

    /// A proof that names `talker` has arrived. If it shows that a relay has brought what the
    /// talker never sealed, returns that relay.
    ///
    /// # Errors
    ///
    /// The proof is about nothing that has been heard, or is not from that talker.
    pub(super) fn handle_proof(
        &mut self,
        talker: DeviceId,
        proof: &Proof<'_>,
    ) -> Result<Option<DeviceId>, DropReason> {
        let first = proof.first;
        let covers = |claim: &Claim| {
            let after = claim.number.counter.wrapping_sub(first.counter);
            claim.tag == proof.target_tag
                && claim.number.key == first.key
                && after < u16::from(proof.count.max(1))
        };
        if !self.claims.iter().any(covers) {
            return Err(DropReason::UnknownTarget);
        }
        if !proof.is_of(talker) {
            return Err(DropReason::Forged);
        }
        if proof.count == 0 {
            // This covers only frames that were asked about. Newer frames may have been sealed
            // since the question.
            let denied = |claim: &Claim| covers(claim) && claim.asked.is_some();
            return Ok(self.claims.iter().find(|claim| denied(claim)).map(|claim| claim.relay));
        }
        for (start, length, hash) in proof.groups() {
            let place = |claim: &Claim| {
                let after = claim.number.counter.wrapping_sub(start.counter);
                (covers(claim) && after < u16::from(length)).then_some(after)
            };
            let mut found: Vec<_> =
                self.claims.iter().filter_map(|claim| Some((place(claim)?, claim))).collect();
            found.sort_by_key(|(after, _)| *after);
            if found.len() != usize::from(length) {
                continue;
            }
            if hash_of(found.iter().map(|(_, claim)| &claim.hash)) != hash {
                let relay = found[0].1.relay;
                if found.iter().all(|(_, claim)| claim.relay == relay) {
                    return Ok(Some(relay));
                }
                // The frames came by several relays. A question will show which of them is to
                // blame.
                continue;
            }
            self.claims.retain(|claim| place(claim).is_none());
        }
        Ok(None)
    }

    /// Returns a relay whose frames neither a proof nor an answer has confirmed in time. Those
    /// frames are forgotten.
    pub(super) fn poll_unproven(&mut self, now: Timestamp) -> Option<DeviceId> {
        let over = |claim: &Claim| now.saturating_duration_since(claim.came) >= UNPROVEN_AFTER;
        let relay = self.claims.iter().find(|claim| over(claim))?.relay;
        self.claims.retain(|claim| claim.relay != relay || !over(claim));
        if now < self.tells {
            return None;
        }
        self.tells = now + TELL_INTERVAL;
        Some(relay)
    }

    /// Returns the question that is due.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Question> {
        if now < self.asks {
            return None;
        }
        let due = |claim: &&Claim| claim.due() <= now;
        let first = self.claims.iter().find(due)?;
        self.asks = now + ASK_INTERVAL;
        let question = Question { target_tag: first.tag, frame: first.number };
        for claim in &mut self.claims {
            let after = claim.number.counter.wrapping_sub(question.frame.counter);
            let same = claim.tag == question.target_tag && claim.number.key == question.frame.key;
            if same && usize::from(after) < HASHES_MAX && claim.came + ASKED_AFTER <= now {
                claim.asked = Some(now);
            }
        }
        Some(question)
    }

    /// When [`Self::poll`] or [`Self::poll_unproven`] will have something.
    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let due = |claim: &Claim| claim.due().max(self.asks).min(claim.came + UNPROVEN_AFTER);
        self.claims.iter().map(due).min()
    }

    /// Asks no more about anything that this relay has brought.
    pub(super) fn forget(&mut self, relay: DeviceId) {
        self.claims.retain(|claim| claim.relay != relay);
    }
}

impl Claim {
    fn due(&self) -> Timestamp {
        self.asked.map_or(self.came + ASKED_AFTER, |asked| asked + ASKED_AGAIN)
    }
}

/// How often the frames sent by members' relays are proven.
const PROOF_INTERVAL: Duration = Duration::from_millis(480);

/// Number of frames that share a hash in a proof sent by relays.
const PROOF_GROUP: u8 = 5;

/// Frames that are remembered: those that a listener may still accept as new. If there are more,
/// the oldest is dropped.
const SEALED_MAX: usize = 1_024;

/// Replaced keys that are remembered. If there are more, the oldest is dropped.
const ENDED_MAX: usize = 16;

/// Questions of one device that are looked at within [`ANSWERS_INTERVAL`]. This is more than a
/// listener asks. Further ones are skipped; the listener asks again.
const ANSWERS_MAX: u32 = 16;
const ANSWERS_INTERVAL: Duration = Duration::from_secs(1);

/// Devices whose questions are answered within that interval. This is more than there are links.
/// Further devices are skipped; they ask again.
const ASKERS_MAX: usize = 128;

/// Frames of one talker that wait for a proof. This is more than a talker seals before they are
/// proven. Further ones by members' relays are dropped and not played.
const CLAIMS_MAX: usize = 512;

/// A proof normally comes within half a second. After this time the listener asks about its frames,
/// and repeats the question.
const ASKED_AFTER: Duration = Duration::from_millis(650);
const ASKED_AGAIN: Duration = Duration::from_millis(200);

/// The least time between two questions. Each question covers 32 frames, so everything said can be
/// asked about.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// The least time between two notices that something is unproven. Without a link to the talker they
/// have no effect.
const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// After this time an unproven frame is not waited for any more. Until then it is asked about six
/// times.
const UNPROVEN_AFTER: Duration = Duration::from_millis(1_800);

#[cfg(test)]
mod tests;
