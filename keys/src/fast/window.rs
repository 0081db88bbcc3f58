//! Which counters have been seen. [PROTO-8.5]

/// The newest counters, a bit each, in a ring of words as RFC 6479 has it.
#[derive(Default)]
pub(super) struct Window {
    /// One more than the highest counter that was taken.
    next: u64,
    words: [u64; WORDS as usize],
}

impl Window {
    /// The counter with these lower 32 bits that is nearest to the next one (RFC 9000, appendix
    /// A.3). [PROTO-8.3]
    pub(super) fn expand(&self, lower: u32) -> u64 {
        const SPAN: u64 = 1 << 32;
        let counter = self.next & !(SPAN - 1) | u64::from(lower);
        if counter.saturating_add(SPAN / 2) <= self.next {
            counter.checked_add(SPAN).unwrap_or(counter)
        } else if counter > self.next.saturating_add(SPAN / 2) && counter >= SPAN {
            counter - SPAN
        } else {
            counter
        }
    }

    /// Whether `counter` was not taken before, and is not too old to tell.
    pub(super) fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        self.highest_word() - counter / 64 < WORDS && self.words[place(counter)] & bit(counter) == 0
    }

    /// Takes a counter that is new and whose packet is authentic.
    pub(super) fn take(&mut self, counter: u64) {
        if counter >= self.next {
            let word = counter / 64;
            let fresh = if self.next == 0 { WORDS } else { word - self.highest_word() };
            // The counters of these words have left the window.
            for back in 0..fresh.min(WORDS) {
                self.words[place((word - back.min(word)) * 64)] = 0;
            }
            self.next = counter + 1;
        }
        self.words[place(counter)] |= bit(counter);
    }

    /// One more than the highest counter that was taken; 0 before the first.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn highest_word(&self) -> u64 {
        self.next.saturating_sub(1) / 64
    }
}

fn place(counter: u64) -> usize {
    (counter / 64 % WORDS) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

/// A larger window takes more memory on each link and accepts packets that come later.
const WORDS: u64 = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// How far behind the newest counter another may be at most and still be distinguished from one
    /// that was taken.
    const LONGEST: u64 = WORDS * 64 - 1;

    #[test]
    fn counters_are_completed_from_their_lower_half() {
        let at = |next| Window { next, ..Window::default() };
        assert_eq!(at(0).expand(0), 0);
        assert_eq!(at(0).expand(u32::MAX), u64::from(u32::MAX), "there is nothing before 0");
        assert_eq!(at(1 << 32).expand(u32::MAX), u64::from(u32::MAX));
        assert_eq!(at(0xffff_fff0).expand(5), (1 << 32) + 5);
        assert_eq!(at((7 << 32) + 5).expand(0xffff_fff0), (6 << 32) + 0xffff_fff0);
        assert_eq!(at(u64::MAX).expand(0), !0 << 32, "nothing lies beyond the last");
    }

    /// [PROTO-8.5]
    #[test]
    fn at_least_1024_counters_are_told_apart() {
        for highest in [1_984, 1_985, 2_047, 2_048, 100_000_u64] {
            let mut window = Window::default();
            window.take(highest);
            assert!(window.is_new(highest - 1_024), "{highest}");
            assert!(!window.is_new(highest));
            assert!(highest <= LONGEST || !window.is_new(highest - LONGEST - 1), "{highest}");
        }
    }

    proptest! {
        /// No counter is new twice. One that is in the window and was not taken is new.
        #[test]
        fn a_counter_is_new_once(
            start in 0_u64..5_000,
            steps in prop::collection::vec((any::<bool>(), 0_u64..3_000), 1..200),
        ) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            let mut highest = start;
            for (forward, distance) in steps {
                let counter = if forward { highest + distance / 16 } else { highest.saturating_sub(distance) };
                let is_new = window.is_new(counter);
                prop_assert!(!is_new || !taken.contains(&counter));
                if !taken.contains(&counter) && counter + 1_024 > highest {
                    prop_assert!(is_new);
                }
                if is_new {
                    window.take(counter);
                    taken.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
