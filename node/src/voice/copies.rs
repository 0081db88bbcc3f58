//! How many copies of earlier frames each listener gets, and the datagrams that hold them.

use std::{collections::VecDeque, time::Duration};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::datagram::{FRAMES_MAX, Report, Voice};

/// The last sealed frames of a spurt, the newest first.
pub struct SealedFrames {
    frames: [Vec<u8>; FRAMES_MAX],
    count: usize,
}

impl Default for SealedFrames {
    /// Before the first frame.
    fn default() -> Self {
        Self { frames: [const { Vec::new() }; FRAMES_MAX], count: 0 }
    }
}

impl SealedFrames {
    /// A new spurt begins.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Makes room for the next frame, which the caller writes.
    pub fn push(&mut self) -> &mut Vec<u8> {
        self.frames.rotate_right(1);
        self.count = (self.count + 1).min(FRAMES_MAX);
        &mut self.frames[0]
    }

    /// Takes the newest frame back: it could not be sealed.
    pub fn pop(&mut self) {
        self.frames.rotate_left(1);
        self.count = self.count.saturating_sub(1);
    }

    /// The newest frame and `copies` before it; where there are not so many, the first of the
    /// spurt is repeated, so that the size tells nothing. [PROTO-7.2]
    fn newest(&self, copies: u8) -> impl Iterator<Item = &[u8]> {
        let last = self.count.saturating_sub(1);
        (0..=usize::from(copies)).map(move |age| self.frames[age.min(last)].as_slice())
    }
}

/// One device that hears us.
pub struct Listener {
    /// Who it is.
    pub device: DeviceId,
    sequence: u16,
    /// What its last reports asked for, the newest last.
    asked: VecDeque<(Timestamp, u8)>,
    /// When it last asked for any, and how many.
    held: Option<(Timestamp, u8)>,
    /// How often the last frame of the spurt is still to be sent again.
    repeats: u8,
}

impl Listener {
    /// A listener that has not reported yet.
    pub fn new(device: DeviceId) -> Self {
        let asked = VecDeque::with_capacity(REPORTS_KEPT);
        Self { device, sequence: 0, asked, held: None, repeats: 0 }
    }

    /// What it says of our datagrams. [PROTO-7.4]
    pub fn handle_report(&mut self, now: Timestamp, report: &Report) {
        if self.asked.len() == REPORTS_KEPT {
            self.asked.pop_front();
        }
        self.asked.push_back((now, report.wanted_copies));
        if report.wanted_copies > 0 {
            self.held = Some((now, report.wanted_copies));
        }
    }

    /// Copies in use: the most that the reports of the last second ask for; while none came, what
    /// was last asked for, but none two seconds after any was. [PROTO-7.4]
    pub fn copies(&self, now: Timestamp) -> u8 {
        let recent = self
            .asked
            .iter()
            .filter(|(at, _)| now.saturating_duration_since(*at) <= REPORTS_COUNT)
            .map(|(_, copies)| *copies)
            .max();
        let held = self
            .held
            .filter(|(at, _)| now.saturating_duration_since(*at) < COPIES_END)
            .map_or(0, |(_, copies)| copies);
        recent.unwrap_or(held)
    }

    /// Appends the datagram with the newest frame to `out`.
    pub fn encode(
        &mut self,
        now: Timestamp,
        target_tag: [u8; 4],
        frames: &SealedFrames,
        out: &mut Vec<u8>,
    ) {
        let frames = frames.newest(self.copies(now));
        Voice::encode(target_tag, self.sequence, frames, out);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The last frame of a spurt has been sent; again once per copy in use, and once in any case: who
    /// misses it would make up speech until it gives up. [PROTO-7.6]
    pub fn end_spurt(&mut self, now: Timestamp) {
        self.repeats = self.copies(now).max(1);
    }

    /// Nothing is to be sent again: the next spurt begins.
    pub fn start_spurt(&mut self) {
        self.repeats = 0;
    }

    /// Whether the last frame is to be sent once more; asked once for each frame of silence.
    pub fn take_repeat(&mut self) -> bool {
        let repeat = self.repeats > 0;
        self.repeats = self.repeats.saturating_sub(1);
        repeat
    }
}

/// Reports that are remembered: more than a second of them. The oldest goes.
const REPORTS_KEPT: usize = 8;

/// How long a report counts.
const REPORTS_COUNT: Duration = Duration::from_secs(1);

/// How long copies go on without a report that asks for any.
const COPIES_END: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    fn listener() -> Listener {
        Listener::new(DeviceKey::generate(&SeededRandom::new(1)).id())
    }

    fn ask(listener: &mut Listener, at_ms: u64, wanted_copies: u8) {
        let report = Report { wanted_copies, ..Report::default() };
        listener.handle_report(Timestamp::from_millis(at_ms), &report);
    }

    #[test]
    fn the_largest_ask_of_a_second_counts_and_ends_after_two() {
        let mut listener = listener();
        let at = Timestamp::from_millis;
        assert_eq!(listener.copies(at(0)), 0);
        ask(&mut listener, 1_000, 3);
        ask(&mut listener, 1_250, 1);
        assert_eq!(listener.copies(at(1_900)), 3);
        assert_eq!(listener.copies(at(2_100)), 1);
        assert_eq!(listener.copies(at(3_200)), 1, "no report since");
        assert_eq!(listener.copies(at(3_250)), 0);
        ask(&mut listener, 3_000, 0);
        assert_eq!(listener.copies(at(3_200)), 0);
    }

    /// [PROTO-7.6] Where the one last datagram was lost, listeners made up a fifth of a second.
    #[test]
    fn the_end_of_a_spurt_is_sent_again_even_on_a_clean_line() {
        let mut listener = listener();
        let repeats = |listener: &mut Listener, at_ms| {
            listener.end_spurt(Timestamp::from_millis(at_ms));
            (0..10).filter(|_| listener.take_repeat()).count()
        };
        assert_eq!(repeats(&mut listener, 0), 1);
        ask(&mut listener, 1_000, 3);
        assert_eq!(repeats(&mut listener, 1_100), 3);
    }

    /// [PROTO-7.2]
    #[test]
    fn datagrams_have_one_size_per_number_of_copies() {
        let mut listener = listener();
        ask(&mut listener, 1_000, 2);
        let mut frames = SealedFrames::default();
        for n in 0..5u8 {
            let frame = frames.push();
            frame.clear();
            frame.extend_from_slice(&[n; 82]);
            let mut out = Vec::new();
            listener.encode(Timestamp::from_millis(1_100), [9; 4], &frames, &mut out);
            assert_eq!(out.len(), 8 + 3 * 84);
            let voice = Voice::parse(&out).unwrap();
            let held: Vec<u8> = voice.frames.iter().map(|frame| frame[0]).collect();
            assert_eq!(held, [n, n.saturating_sub(1), n.saturating_sub(2)]);
            assert_eq!(voice.sequence, u16::from(n));
        }
        listener.end_spurt(Timestamp::from_millis(1_200));
        let repeats: Vec<bool> = (0..3).map(|_| listener.take_repeat()).collect();
        assert_eq!(repeats, [true, true, false]);
    }
}
