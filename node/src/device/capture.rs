//! The input end, whose sound others hear.

use std::{sync::Arc, sync::atomic::Ordering};

use hark_keys::Timestamp;
use ringbuf::HeapCons;

use super::{
    callback::{CaptureRing, CardCounters, CardFormat},
    card::Watch,
    convert::CaptureConverter,
    shared::EndStatistics,
    timeline::Timeline,
};
use crate::clock::Clock;

/// The sound of an input end that is paced by the clock.
pub(super) enum Sound {
    /// A file's samples, played once or in a loop, and half of what both sides differ: empty, or as
    /// long. A looped file is never empty.
    File {
        samples: Vec<f32>,
        difference: Vec<f32>,
        looped: bool,
    },
    Silence,
}

/// An input end: a file or silence paced by the clock, or a microphone. Silence replaces the
/// microphone while it is lost.
pub(super) struct CaptureEnd {
    timed: Option<TimedCapture>,
    live: Option<LiveCapture>,
    /// Samples that are handed on at once.
    block: usize,
    /// When sample 0 was spoken, if the clock paces the end from the start.
    started_ns: Option<u64>,
    started_told: bool,
    statistics: EndStatistics,
    lost_by_cards: u64,
    buffer: Vec<f32>,
    difference: Vec<f32>,
}

struct TimedCapture {
    sound: Sound,
    timeline: Timeline,
    next: u64,
    end: u64,
}

/// An open microphone.
pub(super) struct LiveCapture {
    ring: HeapCons<f32>,
    counters: Arc<CardCounters>,
    converter: CaptureConverter,
    watch: Watch,
}

impl LiveCapture {
    pub(super) fn new(format: CardFormat, (ring, counters): CaptureRing) -> Self {
        Self { ring, counters, converter: CaptureConverter::new(format), watch: Watch::default() }
    }

    /// Appends the samples captured since the last call, and half of what two sides differ.
    pub(super) fn take(&mut self, out: &mut Vec<f32>, difference: &mut Vec<f32>) {
        self.converter.convert(&mut self.ring, out, difference);
    }
}

impl CaptureEnd {
    /// Creates an end that plays `sound`, whose first sample is spoken at `start`.
    pub(super) fn timed(sound: Sound, start: Timestamp, block: usize) -> Self {
        let timed =
            TimedCapture { sound, timeline: Timeline::new(start), next: 0, end: block as u64 };
        let started_ns = Some(Clock.monotonic_ns(start));
        Self { timed: Some(timed), started_ns, ..Self::card(block) }
    }

    /// Creates an end for a microphone that will be opened.
    pub(super) fn card(block: usize) -> Self {
        Self {
            timed: None,
            live: None,
            block,
            started_ns: None,
            started_told: false,
            statistics: EndStatistics::default(),
            lost_by_cards: 0,
            buffer: Vec::with_capacity(4 * block),
            difference: Vec::with_capacity(4 * block),
        }
    }

    /// The microphone is open. Returns how often it has been opened.
    pub(super) fn set_live(&mut self, live: LiveCapture) -> u64 {
        self.statistics.openings += 1;
        self.timed = None;
        self.live = Some(live);
        self.statistics.openings
    }

    /// The microphone is lost. Silence follows from `now` on; its first block completes the block
    /// that was begun.
    pub(super) fn lose(&mut self, now: Timestamp) {
        if let Some(live) = self.live.take() {
            self.lost_by_cards += live.counters.lost.load(Ordering::Relaxed);
        }
        let block = self.block as u64;
        self.timed = Some(TimedCapture {
            sound: Sound::Silence,
            timeline: Timeline::new(now),
            next: 0,
            end: block - self.statistics.samples % block,
        });
    }

    /// Skips the whole blocks that were spoken before `now`, and counts them as lost.
    pub(super) fn skip_to(&mut self, now: Timestamp) {
        let Some(timed) = &mut self.timed else { return };
        let blocks =
            timed.timeline.samples_before(now).saturating_sub(timed.end) / self.block as u64;
        let skipped = blocks * self.block as u64;
        timed.next += skipped;
        timed.end += skipped;
        self.statistics.lost += skipped;
    }

    /// The next block of an end that is paced by the clock, and half of what both sides differ, if
    /// there are two. All its samples have been spoken.
    pub(super) fn take_timed(&mut self) -> (&[f32], &[f32]) {
        self.buffer.clear();
        self.difference.clear();
        if let Some(timed) = &mut self.timed {
            timed.take(&mut self.buffer, &mut self.difference);
            timed.end += self.block as u64;
        }
        self.statistics.samples += self.buffer.len() as u64;
        (&self.buffer, &self.difference)
    }

    /// The samples that the microphone has captured since the last call, and half of what both sides
    /// differ, if there are two.
    pub(super) fn take_live(&mut self) -> (&[f32], &[f32]) {
        self.buffer.clear();
        self.difference.clear();
        if let Some(live) = &mut self.live {
            live.take(&mut self.buffer, &mut self.difference);
        }
        self.statistics.samples += self.buffer.len() as u64;
        (&self.buffer, &self.difference)
    }

    /// When sample 0 was spoken, in nanoseconds of the clock. Returned once.
    pub(super) fn poll_started(&mut self) -> Option<u64> {
        if self.started_told {
            return None;
        }
        let first = self.live.as_ref().map(|live| live.counters.first_ns.load(Ordering::Relaxed));
        let started = self.started_ns.or(first.filter(|first| *first > 0));
        self.started_told = started.is_some();
        started
    }

    /// Whether the microphone is open but has delivered nothing for seconds.
    pub(super) fn stalled(&mut self, now: Timestamp) -> bool {
        self.live.as_mut().is_some_and(|live| live.watch.stalled(now, &live.counters))
    }

    /// When the last sample of the next block has been spoken, if the clock paces the end.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.timed.as_ref().map(|timed| timed.timeline.end_of(timed.end))
    }

    pub(super) fn statistics(&self) -> EndStatistics {
        let card = self.live.as_ref().map_or(0, |live| live.counters.lost.load(Ordering::Relaxed));
        EndStatistics { lost: self.statistics.lost + self.lost_by_cards + card, ..self.statistics }
    }
}

impl TimedCapture {
    fn take(&mut self, out: &mut Vec<f32>, difference_out: &mut Vec<f32>) {
        let count = (self.end - self.next) as usize;
        match &self.sound {
            Sound::Silence => out.resize(count, 0.0),
            Sound::File { samples, difference, looped } => {
                self.play(samples, *looped, count, out);
                if !difference.is_empty() {
                    self.play(difference, *looped, count, difference_out);
                }
            }
        }
        self.next = self.end;
    }

    /// Appends the next `count` of `samples` to `out`.
    fn play(&self, samples: &[f32], looped: bool, count: usize, out: &mut Vec<f32>) {
        if looped {
            let from = (self.next % samples.len() as u64) as usize;
            out.extend(samples.iter().cycle().skip(from).take(count));
        } else {
            let from = usize::try_from(self.next).unwrap_or(usize::MAX).min(samples.len());
            let to = (from + count).min(samples.len());
            out.extend_from_slice(&samples[from..to]);
            out.resize(count, 0.0);
        }
    }
}
