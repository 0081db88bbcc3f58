//! Whether the fast path works, and when to ask. [PROTO-8.7]

use std::time::Duration;

use hark_keys::{Random, Timestamp, fast::Token};

/// What is known of the fast path of a link at its present address.
#[derive(Debug)]
pub(super) struct Probing {
    /// What the answer must repeat, while one is awaited.
    token: Option<Token>,
    /// How often it was sent.
    tries: u32,
    /// When to look again.
    due: Timestamp,
    /// When the last answer came, as long as the path works.
    answered: Option<Timestamp>,
    /// Before the next try of a path that does not work.
    pause: Duration,
}

impl Probing {
    /// Of a path that nobody has tried yet.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { token: None, tries: 0, due: now, answered: None, pause: FIRST_PAUSE }
    }

    /// The other side has asked: what did not work before may work now.
    pub(super) fn handle_probe(&mut self, now: Timestamp) {
        if self.answered.is_none() && self.token.is_none() {
            self.due = self.due.min(now);
        }
    }

    /// Whether it is what was asked for.
    pub(super) fn handle_answer(&mut self, now: Timestamp, token: Token) -> bool {
        if self.token != Some(token) {
            return false;
        }
        *self = Self { answered: Some(now), due: now + ACTIVE, ..Self::new(now) };
        true
    }

    /// The token to send now, if any. The path is in use if datagrams were sent by it since the last
    /// answer.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        rtt: Duration,
        in_use: bool,
        random: &dyn Random,
    ) -> Option<Token> {
        if now < self.due {
            return None;
        }
        if self.token.is_some() && self.tries == TRIES {
            self.token = None;
            self.answered = None;
            self.due = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return None;
        }
        let rests = |answered| !in_use && now.saturating_duration_since(answered) < IDLE;
        if self.token.is_none() && self.answered.is_some_and(rests) {
            self.due = now + ACTIVE;
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
        self.answered.is_some()
    }
}

/// How often a path that carries datagrams is tried: lower finds out sooner that it has ended, and
/// costs two packets each time.
const ACTIVE: Duration = Duration::from_secs(1);

/// How often one is tried that carries none.
const IDLE: Duration = Duration::from_secs(15);

/// Probes without an answer after which the path counts as broken. Of a path that loses 10 % each
/// way, so many get lost together once in a thousand times.
const TRIES: u32 = 4;

/// What a probe's answer may take at least, on the shortest path.
const BETWEEN_TRIES: Duration = Duration::from_millis(300);

/// How soon a broken path is tried again, twice as long after each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// And at the longest.
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
        in_use: bool,
    }

    impl World {
        fn new() -> Self {
            let (now, random) = (Timestamp::from_millis(5_000), SeededRandom::new(1));
            Self { probing: Probing::new(now), now, random, in_use: true }
        }

        fn poll(&mut self) -> Option<Token> {
            let token = self.probing.poll(self.now, RTT, self.in_use, &self.random);
            assert!(self.probing.due() > self.now, "a driver would turn for ever");
            token
        }

        /// Goes on to the next probe; how long that took in milliseconds.
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
            self.probing.handle_answer(self.now, token)
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
        assert_eq!(after, 1_000);
        assert_ne!(token, other);
    }

    /// [PROTO-8.7] 1.2 s of silence are enough, and losing three of four is not.
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
        assert_eq!(world.now.saturating_duration_since(start), Duration::from_millis(1_900));
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
        // The last of four is awaited for 300 ms before the pause begins.
        assert_eq!(pauses, [0, 1_300, 2_300, 4_300, 8_300, 16_300, 30_300, 30_300]);
        world.poll();
        world.now = world.probing.due();
        assert!(world.poll().is_none(), "the pause begins");
        world.now = world.now + Duration::from_secs(1);
        world.probing.handle_probe(world.now);
        assert_eq!(world.next().0, 0, "the other side has found a way");
    }

    #[test]
    fn a_path_that_is_not_in_use_is_tried_rarely() {
        let mut world = World::new();
        let (_, token) = world.next();
        world.answer(token);
        world.in_use = false;
        let (after, token) = world.next();
        assert_eq!(after, 15_000);
        world.answer(token);
        world.probing.handle_probe(world.now);
        assert_eq!(world.next().0, 15_000, "it is known to work");
    }

    /// An answer that takes as long as the way there and back is waited for.
    #[test]
    fn long_paths_have_time_to_answer() {
        let mut probing = Probing::new(Timestamp::ZERO);
        let random = SeededRandom::new(1);
        let rtt = Duration::from_secs(2);
        assert!(probing.poll(Timestamp::ZERO, rtt, true, &random).is_some());
        assert_eq!(probing.due(), Timestamp::from_millis(3_000));
    }
}
