//! The output end, on which others are heard.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hark_keys::Timestamp;
use hark_voice::{SIDES, mix::mean};
use ringbuf::HeapProd;

use super::{
    callback::{CardCounters, CardFormat, PlayoutRing},
    card::Watch,
    convert::PlayoutConverter,
    shared::EndStatistics,
    timeline::Timeline,
};
use crate::{clock::Clock, wav::WavRecorder};

/// How long before its first sample is heard a block paced by the clock is mixed, so that it is
/// ready even if the thread wakes a little late. A higher value only adds delay.
pub(super) const LEAD: Duration = Duration::from_micros(500);
/// Sound that a speaker's ring holds beyond what the card takes at once, which is how late the
/// voice thread may be. It grows by a step each time it was too little, and shrinks by a fifth of a
/// step after each quiet while.
const MARGIN: Duration = Duration::from_micros(2_500);
const MARGIN_MAX: Duration = Duration::from_millis(40);
const MARGIN_STEP: Duration = Duration::from_micros(2_500);
const MARGIN_QUIET: Duration = Duration::from_secs(30);
/// How long the most frames that a card took at once count; up to twice as long at most.
const LARGEST_WINDOW: Duration = Duration::from_secs(1);

/// An output end: a file or nothing paced by the clock, or a speaker. Nothing replaces the speaker
/// while it is lost.
pub(super) struct PlayoutEnd {
    timed: Option<TimedPlayout>,
    file: Option<OutputFile>,
    live: Option<LivePlayout>,
    block: usize,
    started_ns: Option<u64>,
    started_told: bool,
    statistics: EndStatistics,
    lost_by_cards: u64,
    /// One block, both sides interleaved.
    buffer: Vec<f32>,
    mono: Vec<f32>,
}

struct TimedPlayout {
    timeline: Timeline,
    next: u64,
}

struct OutputFile {
    path: PathBuf,
    recorder: WavRecorder,
}

/// An open speaker.
pub(super) struct LivePlayout {
    ring: HeapProd<f32>,
    counters: Arc<CardCounters>,
    converter: PlayoutConverter,
    watch: Watch,
    rate: u32,
    margin: Duration,
    /// The most frames taken at once: in the window before, and in the present one.
    largest: (u64, u64),
    window_since: Timestamp,
    lost_seen: u64,
    quiet_since: Timestamp,
}

impl LivePlayout {
    /// Creates a speaker that is expected to take `period` frames at once.
    pub(super) fn new(
        format: CardFormat,
        period: u32,
        now: Timestamp,
        (ring, counters): PlayoutRing,
    ) -> Self {
        Self {
            ring,
            counters,
            converter: PlayoutConverter::new(format),
            watch: Watch::default(),
            rate: format.rate,
            margin: MARGIN,
            largest: (u64::from(period), u64::from(period)),
            window_since: now,
            lost_seen: 0,
            quiet_since: now,
        }
    }

    /// Puts silence into the ring, for a card that takes twice its period when it starts.
    pub(super) fn prime(&mut self) {
        let target = 2 * self.largest.0 as usize + self.margin_frames();
        self.converter.fill(&mut self.ring, target, |out| out.fill(0.0));
    }

    /// How many frames the ring is to hold.
    fn target(&mut self, now: Timestamp) -> usize {
        let largest = self.counters.largest.load(Ordering::Relaxed);
        self.largest.1 = self.largest.1.max(largest);
        if now.saturating_duration_since(self.window_since) >= LARGEST_WINDOW {
            self.largest = (self.largest.1, self.counters.largest.swap(0, Ordering::Relaxed));
            self.window_since = now;
        }
        let lost = self.counters.lost.load(Ordering::Relaxed);
        if lost > self.lost_seen {
            self.lost_seen = lost;
            self.margin = (self.margin + MARGIN_STEP).min(MARGIN_MAX);
            self.quiet_since = now;
        } else if now.saturating_duration_since(self.quiet_since) >= MARGIN_QUIET {
            self.margin = self.margin.saturating_sub(MARGIN_STEP / 5).max(MARGIN);
            self.quiet_since = now;
        }
        self.largest.0.max(self.largest.1) as usize + self.margin_frames()
    }

    fn margin_frames(&self) -> usize {
        (u128::from(self.rate) * self.margin.as_micros() / 1_000_000) as usize
    }
}

impl PlayoutEnd {
    /// Creates an end paced by the clock, whose sample 0 is heard at `start`.
    pub(super) fn timed(
        file: Option<(PathBuf, WavRecorder)>,
        start: Timestamp,
        block: usize,
    ) -> Self {
        let file = file.map(|(path, recorder)| OutputFile { path, recorder });
        Self {
            timed: Some(TimedPlayout { timeline: Timeline::new(start), next: 0 }),
            file,
            started_ns: Some(Clock.monotonic_ns(start)),
            ..Self::card(block)
        }
    }

    /// Creates an end for a speaker that will be opened.
    pub(super) fn card(block: usize) -> Self {
        Self {
            timed: None,
            file: None,
            live: None,
            block,
            started_ns: None,
            started_told: false,
            statistics: EndStatistics::default(),
            lost_by_cards: 0,
            buffer: vec![0.0; SIDES * block],
            mono: Vec::with_capacity(block),
        }
    }

    /// The speaker is open. Returns how often it has been opened.
    pub(super) fn set_live(&mut self, live: LivePlayout) -> u64 {
        self.statistics.openings += 1;
        self.timed = None;
        self.live = Some(live);
        self.statistics.openings
    }

    /// The speaker is lost: what is mixed from `now` on is not heard.
    pub(super) fn lose(&mut self, now: Timestamp) {
        if let Some(live) = self.live.take() {
            self.lost_by_cards += live.counters.lost.load(Ordering::Relaxed);
        }
        self.timed = Some(TimedPlayout { timeline: Timeline::new(now + LEAD), next: 0 });
    }

    /// Skips the whole blocks that were due before `now`, and leaves silence in a file in their
    /// place. It is too late to mix them, but later sound keeps its position.
    pub(super) fn skip_to(&mut self, now: Timestamp) {
        let Some(timed) = &mut self.timed else { return };
        let behind = timed.timeline.samples_before(now).saturating_sub(timed.next);
        let skipped = behind / self.block as u64 * self.block as u64;
        timed.next += skipped;
        match &mut self.file {
            // The recorder counts these samples as lost.
            Some(file) => file.recorder.skip(skipped),
            None => self.statistics.lost += skipped,
        }
    }

    /// Has `mix` make the next block of an end that is paced by the clock.
    pub(super) fn fill_timed(&mut self, mix: impl FnOnce(&mut [f32])) {
        let Some(timed) = &mut self.timed else { return };
        mix(&mut self.buffer);
        timed.next += self.block as u64;
        self.statistics.samples += self.block as u64;
        match &mut self.file {
            Some(file) if file.recorder.channels() == 1 => {
                self.mono.clear();
                self.mono.extend(mean(&self.buffer));
                file.recorder.push(&self.mono);
            }
            Some(file) => file.recorder.push(&self.buffer),
            None => {}
        }
    }

    /// Has `mix` make as much sound as the speaker needs.
    pub(super) fn fill_live(&mut self, now: Timestamp, mut mix: impl FnMut(&mut [f32])) {
        let Some(live) = &mut self.live else { return };
        let target = live.target(now);
        let block = self.block;
        self.statistics.samples += live.converter.fill(&mut live.ring, target, |out| {
            out.chunks_mut(SIDES * block).for_each(&mut mix);
        });
    }

    /// Writes the samples that the file has kept back.
    pub(super) fn finish(&mut self) {
        if let Some(file) = &mut self.file {
            file.recorder.finish();
        }
    }

    /// When sample 0 was heard, in nanoseconds of the clock. Returned once.
    pub(super) fn poll_started(&mut self) -> Option<u64> {
        if self.started_told {
            return None;
        }
        let first = self.live.as_ref().map(|live| live.counters.first_ns.load(Ordering::Relaxed));
        let started = self.started_ns.or(first.filter(|first| *first > 0));
        self.started_told = started.is_some();
        started
    }

    /// Whether the file works, if that has changed, and a line for people.
    pub(super) fn poll_file_news(&mut self) -> Option<(bool, String)> {
        let file = self.file.as_ref()?;
        let path = file.path.display();
        Some(match file.recorder.poll_outcome()? {
            Ok(()) => (true, format!("{path} is written again, the gap is silence")),
            Err(error) => {
                (false, format!("{path} cannot be written: {error}; what it holds stays valid"))
            }
        })
    }

    /// Whether the speaker is open but has taken nothing for seconds.
    pub(super) fn stalled(&mut self, now: Timestamp) -> bool {
        self.live.as_mut().is_some_and(|live| live.watch.stalled(now, &live.counters))
    }

    /// When the next block of an end paced by the clock is to be mixed: as late as possible, with
    /// all sound that has arrived by then.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let timed = self.timed.as_ref()?;
        let heard = timed.timeline.time_of(timed.next).as_duration();
        Some(Timestamp::from_duration(heard.saturating_sub(LEAD)))
    }

    pub(super) fn statistics(&self) -> EndStatistics {
        let card = self.live.as_ref().map_or(0, |live| live.counters.lost.load(Ordering::Relaxed));
        let file = self.file.as_ref().map_or(0, |file| file.recorder.lost());
        let lost = self.statistics.lost + self.lost_by_cards + card + file;
        EndStatistics { lost, ..self.statistics }
    }
}
