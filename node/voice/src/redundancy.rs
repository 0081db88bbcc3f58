//! How many copies of earlier frames each listener gets, and the datagrams that hold them.

use std::{collections::VecDeque, time::Duration};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::{
    datagram::{Forward, Voice},
    redundancy::AGES,
};

use super::rate::{CopiesRule, DATAGRAM_BYTES, Queueing};

/// The last sealed frames of a talkspurt, newest first.
pub struct SealedFrames {
    frames: [Vec<u8>; FRAMES_KEPT],
    count: usize,
}

impl Default for SealedFrames {
    /// Before the first frame.
    fn default() -> Self {
        Self { frames: [const { Vec::new() }; FRAMES_KEPT], count: 0 }
    }
}

impl SealedFrames {
    /// Forgets all frames, since a new talkspurt begins.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Whether no frame of the talkspurt could be sealed yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Makes room for the next frame. The caller writes it.
    pub fn push(&mut self) -> &mut Vec<u8> {
        self.frames.rotate_right(1);
        self.count = (self.count + 1).min(FRAMES_KEPT);
        &mut self.frames[0]
    }

    /// The newest frame. There must be at least one.
    pub fn latest(&self) -> &[u8] {
        &self.frames[0]
    }

    /// Removes the newest frame, which could not be sealed.
    pub fn pop(&mut self) {
        self.frames.rotate_left(1);
        self.count = self.count.saturating_sub(1);
    }

    /// The newest frame and `copies` before it, as old as [`AGES`] says. If there are fewer, the
    /// first frame of the talkspurt is repeated, so that the size of the datagram reveals nothing.
    /// [PROTO-7.2] There are no more than a datagram has room for: those of a talkspurt that has ended may be longer
    /// than today's.
    fn newest(&self, copies: u8) -> impl Iterator<Item = &[u8]> {
        let last = self.count.saturating_sub(1);
        let fit = DATAGRAM_BYTES / (self.frames[0].len() + 2);
        let ages = AGES.iter().take(1 + usize::from(copies).min(fit.saturating_sub(1)));
        ages.map(move |age| self.frames[usize::from(*age).min(last)].as_slice())
    }
}

/// How our datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// On the link to the listener itself.
    Link(DeviceId),
    /// To a relay, which forwards to several listeners.
    Relay(DeviceId),
}

impl NextHop {
    /// The relay that forwards the datagram, if any.
    pub fn relay(self) -> Option<DeviceId> {
        match self {
            Self::Link(_) => None,
            Self::Relay(relay) => Some(relay),
        }
    }

    /// The device at the other end of the link.
    pub fn device(self) -> DeviceId {
        match self {
            Self::Link(device) | Self::Relay(device) => device,
        }
    }
}

/// The sending state for one listener, or for a relay that forwards to others.
pub struct ListenerRedundancy {
    sequence: u16,
    /// The copies that its last reports asked for, newest last.
    asked: VecDeque<(Timestamp, u8)>,
    /// When it last asked for at least one copy, and for how many.
    held: Option<(Timestamp, u8)>,
    queueing: Queueing,
}

impl Default for ListenerRedundancy {
    /// A listener that has not reported yet.
    fn default() -> Self {
        Self {
            sequence: 0,
            asked: VecDeque::with_capacity(REPORTS_KEPT),
            held: None,
            queueing: Queueing::default(),
        }
    }
}

impl ListenerRedundancy {
    /// Creates a listener that goes on with this sequence number. If the number fell, the listener
    /// would take our datagrams for old ones.
    pub fn going_on(sequence: u16) -> Self {
        Self { sequence, ..Self::default() }
    }

    /// The sequence number of the next datagram.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Takes a report of the listener on our datagrams. [PROTO-7.4]
    pub fn handle_report(&mut self, now: Timestamp, wanted_copies: u8) {
        if self.asked.len() == REPORTS_KEPT {
            self.asked.pop_front();
        }
        self.asked.push_back((now, wanted_copies));
        if wanted_copies > 0 {
            self.held = Some((now, wanted_copies));
        }
    }

    /// A talkspurt begins.
    pub(super) fn begin(&mut self) {
        self.queueing.begin();
    }

    /// A report names the newest of our datagrams that had arrived, and how many have.
    pub(super) fn handle_arrivals(&mut self, now: Timestamp, highest: u16, received: u16) {
        self.queueing.handle_report(now, highest, received);
    }

    /// What the reports say of the way.
    pub(super) fn queueing(&self) -> &Queueing {
        &self.queueing
    }

    /// The number of copies in use: the largest number in the reports of the last second. If none
    /// came in that time, it is the last number above zero, for at most two seconds after that
    /// report. [PROTO-7.4] The `rule` limits it.
    pub fn copies(&self, now: Timestamp, rule: CopiesRule) -> u8 {
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
        rule.of(recent.unwrap_or(held))
    }

    /// Appends the datagram with the newest of `frames` to `out`. `level` is the loudness below
    /// full scale.
    pub fn encode(
        &mut self,
        now: Timestamp,
        way: NextHop,
        (target_tag, level): ([u8; 4], u8),
        rule: CopiesRule,
        frames: &SealedFrames,
        out: &mut Vec<u8>,
    ) {
        let frames = frames.newest(self.copies(now, rule));
        let before = out.len();
        match way {
            NextHop::Link(_) => Voice::encode(target_tag, self.sequence, frames, out),
            NextHop::Relay(_) => Forward::encode(level, target_tag, self.sequence, frames, out),
        }
        self.queueing.handle_sent(now, self.sequence, out.len() - before);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Appends a datagram to a relay to `out`, with `content` in the place of a frame.
    pub fn encode_alone(
        &mut self,
        (target_tag, level): ([u8; 4], u8),
        content: &[u8],
        out: &mut Vec<u8>,
    ) {
        Forward::encode(level, target_tag, self.sequence, [content], out);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// How often the last frame of a talkspurt is repeated: once per copy in use, and at least
    /// once. A listener that misses the last frame would conceal until it gives up. [PROTO-7.6]
    pub fn repeats(&self, now: Timestamp, rule: CopiesRule) -> u8 {
        self.copies(now, rule).max(1)
    }
}

/// Ended talkspurts whose last frame is still being repeated, each under its own tag. [PROTO-7.6]
#[derive(Default)]
pub struct EndedTalkspurts {
    talkspurts: VecDeque<Ended>,
    spare: Vec<Ended>,
}

#[derive(Default)]
struct Ended {
    tag: [u8; 4],
    frames: SealedFrames,
    /// The ways on which the last frame is repeated, and how many repeats are left.
    repeats: Vec<(NextHop, u8)>,
}

impl EndedTalkspurts {
    /// A talkspurt of `frames` has ended. `repeats` says on which ways the end is repeated, and how
    /// often. Takes the frames. If there are too many talkspurts, the oldest is dropped.
    pub fn push(
        &mut self,
        tag: [u8; 4],
        frames: &mut SealedFrames,
        repeats: impl Iterator<Item = (NextHop, u8)>,
    ) {
        if self.talkspurts.len() == ENDED_MAX {
            self.spare.extend(self.talkspurts.pop_front());
        }
        let mut ended = self.spare.pop().unwrap_or_default();
        ended.tag = tag;
        std::mem::swap(&mut ended.frames, frames);
        ended.repeats.clear();
        ended.repeats.extend(repeats);
        self.talkspurts.push_back(ended);
    }

    /// Stops the repeats on this way: a new talkspurt shows well enough that the earlier ones are
    /// over.
    pub fn cancel(&mut self, way: NextHop) {
        for talkspurt in &mut self.talkspurts {
            talkspurt.repeats.retain(|(listener, _)| *listener != way);
        }
    }

    /// A frame's time has passed: calls `send` for each end that is to be repeated.
    pub fn repeat(&mut self, mut send: impl FnMut(NextHop, [u8; 4], &SealedFrames)) {
        for talkspurt in &mut self.talkspurts {
            for (way, left) in &mut talkspurt.repeats {
                send(*way, talkspurt.tag, &talkspurt.frames);
                *left -= 1;
            }
            talkspurt.repeats.retain(|(_, left)| *left > 0);
        }
        while self.talkspurts.front().is_some_and(|talkspurt| talkspurt.repeats.is_empty()) {
            self.spare.extend(self.talkspurts.pop_front());
        }
    }

    /// Whether the end of a talkspurt is still to be repeated on this way.
    pub fn tells(&self, way: NextHop) -> bool {
        self.talkspurts.iter().any(|talkspurt| talkspurt.repeats.iter().any(|(it, _)| *it == way))
    }

    /// Whether one of the talkspurts was sent under `tag`.
    pub fn has_tag(&self, tag: [u8; 4]) -> bool {
        self.talkspurts.iter().any(|talkspurt| talkspurt.tag == tag)
    }
}

/// Frames of a talkspurt that are kept: as many as the copies reach back.
const FRAMES_KEPT: usize = AGES[AGES.len() - 1] as usize + 1;

/// Most reports that are remembered: those of more than a second. If there are more, the oldest is
/// dropped.
const REPORTS_KEPT: usize = 8;

/// Most ended talkspurts that are repeated at once. A talkspurt takes at least two frames and its
/// end is repeated for at most five, so more never coincide. If there were more, the oldest would
/// be dropped.
const ENDED_MAX: usize = 4;

/// How long a report counts for the maximum.
const REPORTS_COUNT: Duration = Duration::from_secs(1);

/// How long copies are still sent after the last report that asked for any.
const COPIES_END: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    const ANY: CopiesRule = CopiesRule::ASKED;

    fn ask(listener: &mut ListenerRedundancy, at_ms: u64, wanted_copies: u8) {
        listener.handle_report(Timestamp::from_millis(at_ms), wanted_copies);
    }

    #[test]
    fn the_largest_ask_of_a_second_counts_and_ends_after_two() {
        let mut listener = ListenerRedundancy::default();
        let at = Timestamp::from_millis;
        assert_eq!(listener.copies(at(0), ANY), 0);
        ask(&mut listener, 1_000, 3);
        ask(&mut listener, 1_250, 1);
        assert_eq!(listener.copies(at(1_900), ANY), 3);
        assert_eq!(listener.copies(at(2_100), ANY), 1);
        assert_eq!(listener.copies(at(3_200), ANY), 1, "no report since");
        assert_eq!(listener.copies(at(3_250), ANY), 0);
        ask(&mut listener, 3_000, 0);
        assert_eq!(listener.copies(at(3_200), ANY), 0);
    }

    /// [PROTO-7.6] When the only last datagram was lost, listeners concealed for a fifth of a
    /// second.
    #[test]
    fn the_end_of_a_talkspurt_is_sent_again_even_on_a_clean_line() {
        let mut listener = ListenerRedundancy::default();
        assert_eq!(listener.repeats(Timestamp::ZERO, ANY), 1);
        ask(&mut listener, 1_000, 3);
        assert_eq!(listener.repeats(Timestamp::from_millis(1_100), ANY), 3);
    }

    /// Several talkspurts may end shortly after one another; each end is repeated under its own
    /// tag.
    #[test]
    fn ended_talkspurts_are_repeated_beside_each_other() {
        let device = NextHop::Link(DeviceKey::generate(&SeededRandom::new(1)).id());
        let mut ended = EndedTalkspurts::default();
        let sent = |ended: &mut EndedTalkspurts| {
            let mut sent = Vec::new();
            ended.repeat(|_, tag, frames| sent.push((tag[0], frames.frames[0][0])));
            sent
        };
        for n in 0..2 {
            let mut frames = SealedFrames::default();
            frames.push().push(n + 10);
            ended.push([n; 4], &mut frames, [(device, 2)].into_iter());
            assert_eq!(frames.count, 0);
        }
        assert!(ended.tells(device) && ended.has_tag([1; 4]) && !ended.has_tag([2; 4]));
        assert_eq!(sent(&mut ended), [(0, 10), (1, 11)]);
        assert_eq!(sent(&mut ended), [(0, 10), (1, 11)]);
        assert_eq!(sent(&mut ended), []);
        ended.push([7; 4], &mut SealedFrames::default(), [(device, 5)].into_iter());
        ended.cancel(device);
        assert_eq!(sent(&mut ended), []);
        assert!(!ended.tells(device));
    }

    /// [PROTO-7.2]
    #[test]
    fn datagrams_have_one_size_per_number_of_copies() {
        let mut listener = ListenerRedundancy::default();
        let way = NextHop::Link(DeviceKey::generate(&SeededRandom::new(1)).id());
        ask(&mut listener, 1_000, 5);
        let mut frames = SealedFrames::default();
        for n in 0..12u8 {
            let frame = frames.push();
            frame.clear();
            frame.extend_from_slice(&[n; 82]);
            let mut out = Vec::new();
            listener.encode(
                Timestamp::from_millis(1_100),
                way,
                ([9; 4], 0),
                ANY,
                &frames,
                &mut out,
            );
            assert_eq!(out.len(), 8 + 6 * 84);
            let voice = Voice::parse(&out).unwrap();
            let held: Vec<u8> = voice.frames.iter().map(|frame| frame[0]).collect();
            assert_eq!(held, [0, 1, 2, 3, 4, 6].map(|age| n.saturating_sub(age)));
            assert_eq!(voice.sequence, u16::from(n));
        }
    }
}
