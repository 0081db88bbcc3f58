//! Decides whether the fast path works and when to send a probe. [PROTO-8.7] [PROTO-8.21]

use std::time::Duration;

use hark_keys::{Random, Timestamp, fast::Token};

/// What is known about the fast path of a link at its present address.
#[derive(Debug)]
pub(super) struct Probing {
    /// The token that the answer must repeat, while an answer is awaited.
    token: Option<Token>,
    /// How often the probe with this token was sent.
    tries: u32,
    /// When to poll again.
    due: Timestamp,
    /// Whether the last probe was answered.
    works: bool,
    /// How long to wait before the next try of a path that does not work.
    pause: Duration,
    /// The last two heartbeats that were sent, the newest first.
    beats: [Option<Beat>; 2],
}

/// A heartbeat that this side sent.
#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Timestamp,
    /// The lower half of the number that the other side expects next once this heartbeat has
    /// arrived.
    next: u32,
}

impl Probing {
    /// The state of a path that has not been tried yet.
    pub(super) fn new(now: Timestamp) -> Self {
        let beats = [None; 2];
        Self { token: None, tries: 0, due: now, works: false, pause: FIRST_PAUSE, beats }
    }

    /// The other side has sent a probe: a path that did not work before may work now.
    pub(super) fn handle_probe(&mut self, now: Timestamp) {
        if !self.works && self.token.is_none() {
            self.due = self.due.min(now);
        }
    }

    /// Handles an answer. Returns whether it repeats the token that was sent.
    pub(super) fn handle_answer(&mut self, now: Timestamp, rtt: Duration, token: Token) -> bool {
        if self.token != Some(token) {
            return false;
        }
        *self = Self { works: true, due: proven_until(now, rtt), ..Self::new(now) };
        true
    }

    /// This side has sent a heartbeat, in the packet before the one numbered `next`.
    pub(super) fn handle_sent(&mut self, now: Timestamp, next: u64) {
        // Only the lower half comes back.
        self.beats = [Some(Beat { at: now, next: next as u32 }), self.beats[0]];
    }

    /// The other side's heartbeat states that it expects the packet `next`. So what was sent before
    /// has arrived, and the path works both ways.
    pub(super) fn handle_heartbeat(&mut self, now: Timestamp, rtt: Duration, next: u32) {
        let arrived = |beat: &&Beat| next.wrapping_sub(beat.next) <= u32::MAX / 2;
        let newest = self.beats.iter().flatten().find(arrived);
        let Some(until) = newest.map(|beat| proven_until(beat.at, rtt)) else { return };
        // A path that does not work must first answer a probe.
        if self.works && until > now {
            self.token = None;
            self.due = until;
        }
    }

    /// The token of the probe to send now, if one is due.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        rtt: Duration,
        random: &dyn Random,
    ) -> Option<Token> {
        if now < self.due {
            return None;
        }
        if self.token.is_some() && self.tries == TRIES {
            self.token = None;
            self.works = false;
            self.due = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return None;
        }
        let token = *self.token.get_or_insert_with(|| {
            self.tries = 0;
            let mut token = Token::default();
            random.fill(&mut token);
            token
        });
        self.tries += 1;
        self.due = now + BETWEEN_TRIES.max(rtt * 3 / 2);
        Some(token)
    }

    /// When to poll next; after the last poll, this lies in the future.
    pub(super) fn due(&self) -> Timestamp {
        self.due
    }

    pub(super) fn works(&self) -> bool {
        self.works
    }

    /// Whether an answer is awaited.
    pub(super) fn asks(&self) -> bool {
        self.token.is_some()
    }
}

/// Until when a path that has carried a packet at `then` needs no probe.
fn proven_until(then: Timestamp, rtt: Duration) -> Timestamp {
    then + PROVEN + rtt * 3 / 2
}

/// How long a packet proves that the path works, besides the round trip: until a heartbeat has been
/// sent and one has come. A lower value finds out sooner that the path has failed, but sends
/// needless probes when a heartbeat is late.
const PROVEN: Duration = Duration::from_millis(2_250);

/// Probes without an answer after which the path counts as broken. If a path loses 10 % each way,
/// this many get lost together once in a thousand times.
const TRIES: u32 = 4;

/// The least time to wait for the answer to a probe, on the shortest path.
const BETWEEN_TRIES: Duration = Duration::from_millis(300);

/// How soon a broken path is tried again. The pause doubles after each try.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between tries of a broken path.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use hark_keys::SeededRandom;

    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    struct World {
        probing: Probing,
        now: Timestamp,
        random: SeededRandom,
    }

    impl World {
        fn new() -> Self {
            let (now, random) = (Timestamp::from_millis(5_000), SeededRandom::new(1));
            Self { probing: Probing::new(now), now, random }
        }

        fn poll(&mut self) -> Option<Token> {
            let token = self.probing.poll(self.now, RTT, &self.random);
            assert!(self.probing.due() > self.now, "a driver would turn for ever");
            token
        }

        /// Advances to the next probe. Returns how long that took in milliseconds, and the token.
        fn next(&mut self) -> (u128, Token) {
            let start = self.now;
            loop {
                if let Some(token) = self.poll() {
                    return (self.now.saturating_duration_since(start).as_millis(), token);
                }
                self.now = self.probing.due();
            }
        }

        fn answer(&mut self, token: Token) -> bool {
            self.probing.handle_answer(self.now, RTT, token)
        }
    }

    #[test]
    fn an_answer_says_that_the_path_works() {
        let mut world = World::new();
        assert!(!world.probing.works());
        let (after, token) = world.next();
        assert_eq!(after, 0, "a new path is tried at once");
        assert!(!world.answer([0; 8]) && !world.probing.works());
        assert!(world.answer(token) && world.probing.works());
        assert!(!world.answer(token), "an answer counts once");
        let (after, other) = world.next();
        assert_eq!(after, 2_280, "two heartbeats, and one and a half round trips");
        assert_ne!(token, other);
    }

    /// [PROTO-8.7] [PROTO-8.21] 1.2 s of silence end the path. The loss of three probes in four
    /// does not.
    #[test]
    fn silence_ends_it_and_one_answer_keeps_it() {
        let mut world = World::new();
        let (_, token) = world.next();
        world.answer(token);
        let (_, token) = world.next();
        let start = world.now;
        for _ in 0..3 {
            assert!(world.poll().is_none());
            world.now = world.probing.due();
            assert_eq!(world.poll(), Some(token));
            assert!(world.probing.works());
        }
        assert!(world.answer(token));
        let (_, token) = world.next();
        assert_eq!(world.now.saturating_duration_since(start), Duration::from_millis(3_180));
        let start = world.now;
        while world.probing.works() {
            world.now = world.probing.due();
            world.poll();
        }
        assert_eq!(world.now.saturating_duration_since(start), Duration::from_millis(1_200));
        assert!(!world.answer(token), "it comes too late");
    }

    #[test]
    fn a_broken_path_is_tried_ever_more_rarely() {
        let mut world = World::new();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let (after, _) = world.next();
            pauses.push(after);
            for _ in 0..3 {
                assert_eq!(world.next().0, 300);
            }
        }
        // The answer to the last of four probes is awaited for 300 ms before the pause begins.
        assert_eq!(pauses, [0, 1_300, 2_300, 4_300, 8_300, 16_300, 30_300, 30_300]);
        world.poll();
        world.now = world.probing.due();
        assert!(world.poll().is_none(), "the pause begins");
        world.now = world.now + Duration::from_secs(1);
        world.probing.handle_probe(world.now);
        assert_eq!(world.next().0, 0, "the other side has found a way");
    }

    /// [PROTO-8.7] Heartbeats of the other side state what has arrived, so no probes are needed.
    #[test]
    fn heartbeats_prove_a_path() {
        let mut world = World::new();
        let (_, token) = world.next();
        world.answer(token);
        // Beyond the point where the lower half starts again at 0.
        let first = (1_u64 << 32) - 20;
        let mut expected = first as u32;
        for number in 0..40 {
            world.probing.handle_sent(world.now, first + number);
            world.now = world.now + Duration::from_millis(900);
            // The heartbeat that was sent last is still under way.
            world.probing.handle_heartbeat(world.now, RTT, expected);
            expected = expected.wrapping_add(1);
            world.now = world.now + Duration::from_millis(100);
            assert!(world.poll().is_none(), "{number}");
        }
        // Our packets no longer arrive, though the other side's heartbeats do.
        let start = world.now;
        let stuck = expected.wrapping_sub(1);
        let asked = loop {
            let now = world.now;
            world.probing.handle_sent(now, first + 1_000);
            world.probing.handle_heartbeat(now, RTT, stuck);
            if world.poll().is_some() {
                break now.saturating_duration_since(start);
            }
            world.now = now + Duration::from_millis(100);
        };
        assert!(asked <= Duration::from_millis(1_300), "{asked:?} after the one that arrived last");
        assert!(world.probing.asks() && world.probing.works());
        // A heartbeat that has arrived is as good as the answer to a probe.
        world.probing.handle_heartbeat(world.now, RTT, (first + 1_000) as u32);
        assert!(!world.probing.asks() && world.probing.works());
        assert_eq!(world.next().0, 2_280);
    }

    #[test]
    fn a_heartbeat_does_not_mend_a_path_that_does_not_work() {
        let mut world = World::new();
        world.probing.handle_sent(world.now, 5);
        world.probing.handle_heartbeat(world.now, RTT, 5);
        assert!(!world.probing.works());
        assert_eq!(world.next().0, 0);
    }

    /// An answer may take as long as the round trip.
    #[test]
    fn long_paths_have_time_to_answer() {
        let mut probing = Probing::new(Timestamp::ZERO);
        let random = SeededRandom::new(1);
        let rtt = Duration::from_secs(2);
        assert!(probing.poll(Timestamp::ZERO, rtt, &random).is_some());
        assert_eq!(probing.due(), Timestamp::from_millis(3_000));
    }
}
