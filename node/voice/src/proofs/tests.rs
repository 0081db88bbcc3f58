use hark_keys::{KeySecret, SeededRandom, SenderKey, TargetId};
use hark_mesh::datagram::Datagram;

use super::*;

const TAG: [u8; 4] = [7; 4];

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

/// A talker that speaks by a member's relay, and a listener.
struct Pair {
    talker: Arc<DeviceKey>,
    relay: DeviceId,
    key: SenderKey,
    /// The talker's key in the relay's hands.
    stolen: SenderKey,
    prover: Prover,
    claims: Claims,
    now: u64,
}

impl Pair {
    fn new() -> Self {
        let random = SeededRandom::new(5);
        let talker = Arc::new(DeviceKey::generate(&random));
        let relay = DeviceKey::generate(&random).id();
        let target = TargetId::from_bytes([1; 16]);
        let secret = KeySecret::generate(3, &random);
        let mut prover = Prover::new();
        prover.sign_with(Arc::clone(&talker));
        let key = || SenderKey::new(target, talker.id(), &secret);
        let (key, stolen) = (key(), key());
        Self { talker, relay, key, stolen, prover, claims: Claims::default(), now: 1_000 }
    }

    /// The talker sends `frames` frames, and the listener gets what `brings` makes of each. Returns
    /// the proofs that were sent with them.
    fn talk(
        &mut self,
        frames: usize,
        mut brings: impl FnMut(usize, &mut SenderKey, Vec<u8>) -> Option<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let mut proofs = Vec::new();
        for n in 0..frames {
            self.now += 10;
            let (now, mut frame) = (at(self.now), Vec::new());
            self.key.seal(&[n as u8; 60], &mut frame).unwrap();
            self.prover.handle_sealed(TAG, &frame);
            self.prover.handle_relayed(now, self.relay);
            let (new, relays) = self.prover.poll(now, n + 1 == frames).unwrap_or_default();
            assert!(relays.is_empty() || relays == [self.relay]);
            proofs.extend(new);
            if let Some(brought) = brings(n, &mut self.stolen, frame) {
                self.claims.push(now, self.relay, TAG, &brought);
            }
        }
        proofs
    }

    /// The listener gets a proof. Returns the relay that it exposes.
    fn hear(&mut self, proof: &[u8]) -> Option<DeviceId> {
        let Ok(Datagram::Proof(proof)) = Datagram::parse(proof) else { panic!("a proof") };
        self.claims.handle_proof(self.talker.id(), &proof).ok().flatten()
    }

    /// The listener asks what is due `later` milliseconds from now. Returns the talker's answer.
    fn ask(&mut self, later: u64) -> Option<Vec<u8>> {
        let now = at(self.now + later);
        let question = self.claims.poll(now)?;
        let sealed = std::iter::once(self.key.sealed());
        self.prover.answer(now, listener(), &question, sealed).ok()
    }
}

fn listener() -> DeviceId {
    DeviceKey::generate(&SeededRandom::new(6)).id()
}

/// [PROTO-10.9]
#[test]
fn what_was_sealed_is_proven_and_costs_little() {
    let mut pair = Pair::new();
    let proofs = pair.talk(500, |_, _, frame| Some(frame));
    let bytes: usize = proofs.iter().map(Vec::len).sum();
    // 5 s of speech, with the header of a datagram to a relay.
    let bits = (bytes + 10 * proofs.len()) * 8 / 5;
    assert!(bits <= 4_000, "{bits} bit/s");
    for proof in &proofs {
        assert_eq!(pair.hear(proof), None);
    }
    assert_eq!(pair.claims.claims.len(), 0);
    assert_eq!(pair.claims.timeout(), None);
}

#[test]
fn one_other_frame_shows_who_has_brought_it() {
    let mut pair = Pair::new();
    let proofs = pair.talk(40, |n, stolen, frame| {
        let mut other = Vec::new();
        stolen.seal(&[99; 60], &mut other).unwrap();
        Some(if n == 33 { other } else { frame })
    });
    assert_eq!(proofs.len(), 1);
    // A proof signed by anybody else does not count, and no bit may differ.
    let Ok(Datagram::Proof(proof)) = Datagram::parse(&proofs[0]) else { panic!("a proof") };
    assert_eq!(pair.claims.handle_proof(pair.relay, &proof), Err(DropReason::Forged));
    for bit in 0..proofs[0].len() * 8 {
        let mut changed = proofs[0].clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(Datagram::Proof(proof)) = Datagram::parse(&changed) {
            let found = pair.claims.handle_proof(pair.talker.id(), &proof);
            assert!(
                matches!(found, Err(DropReason::Forged | DropReason::UnknownTarget)),
                "{found:?}"
            );
        }
    }
    assert_eq!(pair.hear(&proofs[0]), Some(pair.relay));
}

/// [PROTO-10.10] [PROTO-10.20] Frames and proofs get lost, and nobody is blamed for that.
#[test]
fn what_no_proof_has_shown_is_asked_about() {
    let mut pair = Pair::new();
    let proofs = pair.talk(96, |n, _, frame| (n % 7 != 3).then_some(frame));
    assert_eq!(proofs.len(), 2);
    assert_eq!(pair.hear(&proofs[0]), None);
    assert!(pair.ask(0).is_some(), "of the first second, what the proof did not show");
    let mut asked = 0;
    while let Some(answer) = pair.ask(1_000 + 100 * asked) {
        assert_eq!(pair.hear(&answer), None);
        asked += 1;
        assert_eq!(pair.ask(999 + 100 * asked), None, "not all at once");
    }
    assert_eq!((asked, pair.claims.claims.len()), (3, 0), "32 frames an answer");
}

/// Regression: frames that were neither proven nor answered were forgotten, and playing went on.
#[test]
fn what_nobody_shows_in_time_is_told_of() {
    let mut pair = Pair::new();
    pair.talk(3, |_, _, frame| Some(frame));
    for ms in (650..1_770).step_by(200) {
        assert!(pair.claims.poll(at(pair.now + ms)).is_some());
    }
    // The last frame came 20 ms after the first one.
    assert_eq!(pair.claims.poll_unproven(at(pair.now + 1_779)), None);
    assert_eq!(pair.claims.timeout(), Some(at(pair.now + 1_780)));
    assert_eq!(pair.claims.poll_unproven(at(pair.now + 1_780)), Some(pair.relay));
    assert_eq!(pair.claims.poll_unproven(at(pair.now + 1_790)), None, "told just now");
    assert_eq!(pair.claims.timeout(), Some(at(pair.now + 1_800)));
    assert_eq!(pair.claims.poll_unproven(at(pair.now + 1_900)), Some(pair.relay));
    assert_eq!((pair.claims.poll_unproven(at(9_000)), pair.claims.timeout()), (None, None));
}

/// Regression: more frames than could wait were played, and those that made room were never asked
/// about.
#[test]
fn what_cannot_be_asked_about_is_not_taken() {
    let mut pair = Pair::new();
    pair.talk(511, |_, _, frame| Some(frame));
    assert!(!pair.claims.is_full());
    pair.talk(1, |_, _, frame| Some(frame));
    assert!(pair.claims.is_full());
}

#[test]
fn what_was_never_sealed_is_denied() {
    let mut pair = Pair::new();
    let mut forged = Vec::new();
    pair.stolen.seal(&[99; 60], &mut forged).unwrap();
    pair.claims.push(at(1_000), pair.relay, TAG, &forged);
    assert_eq!(pair.claims.poll(at(1_649)), None);
    let denial = pair.ask(650).expect("it is denied");
    assert_eq!(pair.hear(&denial), Some(pair.relay));
    // A denial says nothing about frames that were not asked about. The next frames may be sealed
    // by then.
    let mut pair = Pair::new();
    pair.talk(1, |_, _, frame| Some(frame));
    assert_eq!(pair.hear(&denial), None);
}

/// A device that has a key can derive those of the next steps.
#[test]
fn a_step_that_is_yet_to_come_is_denied_and_one_long_gone_is_not() {
    let random = SeededRandom::new(5);
    let talker = Arc::new(DeviceKey::generate(&random));
    let target = TargetId::from_bytes([1; 16]);
    let mut prover = Prover::new();
    prover.sign_with(Arc::clone(&talker));
    let mut secrets = vec![KeySecret::generate(3, &random)];
    for _ in 0..6 {
        secrets.push(secrets.last().unwrap().ratcheted());
    }
    let key = |step: usize| SenderKey::new(target, talker.id(), &secrets[step]);
    let mut third = key(3);
    third.seal(b"one", &mut Vec::new()).unwrap();
    let mut ended = key(2);
    ended.seal(b"one", &mut Vec::new()).unwrap();
    prover.handle_key_ended(TAG, ended.sealed());
    let mut answer = |step: usize, frames: usize| {
        let (mut frame, mut key) = (Vec::new(), key(step));
        (0..frames).for_each(|_| assert!(key.seal(b"other", &mut frame).is_ok()));
        let question = Question { target_tag: TAG, frame: FrameNumber::of(&frame).unwrap() };
        prover.answer(at(1_000), listener(), &question, std::iter::once(third.sealed())).map(drop)
    };
    for (step, frames) in [(4, 1), (6, 1), (3, 2), (2, 2)] {
        assert_eq!(answer(step, frames), Ok(()));
    }
    // Keys that the talker no longer remembers.
    for (step, frames) in [(1, 1), (0, 9)] {
        assert_eq!(answer(step, frames), Err(DropReason::UnknownKey));
    }
    // Frames that were sealed, but too long ago for the talker to remember them.
    for step in [3, 2] {
        assert_eq!(answer(step, 1), Err(DropReason::TooOld));
    }
}

/// Regression: a relay that asked 128 questions a second got all answers, and the listeners got
/// none.
#[test]
fn nobodys_questions_cost_others_an_answer() {
    let mut pair = Pair::new();
    pair.talk(1, |_, _, frame| Some(frame));
    let question = pair.claims.poll(at(pair.now + 700)).unwrap();
    let relay = pair.relay;
    let mut answered = |ms, from| {
        let sealed = std::iter::once(pair.key.sealed());
        usize::from(pair.prover.answer(at(ms), from, &question, sealed).is_ok())
    };
    let relays: usize = (0..10_000).map(|_| answered(5_000, relay)).sum();
    let listeners: usize = (0..10).map(|_| answered(5_900, listener())).sum();
    assert_eq!((relays, listeners), (16, 10));
    assert_eq!((answered(5_999, relay), answered(6_000, relay)), (0, 1));
}
