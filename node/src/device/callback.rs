//! The part that runs on a sound card's own thread: copy, count, wake. It takes no lock, allocates
//! nothing and logs nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cpal::{FromSample, Sample};
use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Consumer, Observer, Producer, Split},
};

pub use super::shared::Waker;
use crate::clock::Clock;

/// Sound that a ring holds, which is how late the voice thread may be. If it is later, captured
/// samples are lost and silence is played; both are counted.
const RING: Duration = Duration::from_millis(250);
/// Frames between two wake-ups of the voice thread by a speaker with small blocks: 2.5 ms at 48
/// kHz.
const WAKE_FRAMES: u64 = 120;

/// A sound card's format. Its ring holds interleaved frames of 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardFormat {
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame, at least one.
    pub channels: usize,
}

/// Counters that a callback updates.
#[derive(Debug, Default)]
pub struct CardCounters {
    /// How often the sound card has called.
    pub callbacks: AtomicU64,
    /// Frames that it has delivered or taken.
    pub frames: AtomicU64,
    /// Those frames that found no room in the ring, or for which the ring held no sound.
    pub lost: AtomicU64,
    /// The most frames that it delivered or took in one call.
    pub largest: AtomicU64,
    /// The clock when the first frame was spoken or heard, in nanoseconds. Zero before that.
    pub first_ns: AtomicU64,
}

impl CardCounters {
    /// Counts a callback of `frames` frames, the first of which was spoken or is heard at
    /// `first_ns`.
    fn count(&self, frames: usize, first_ns: impl FnOnce() -> u64) {
        let frames = frames as u64;
        if self.callbacks.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_ns.store(first_ns().max(1), Ordering::Relaxed);
        }
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.largest.fetch_max(frames, Ordering::Relaxed);
    }
}

/// The body of a microphone's callback.
pub struct CaptureCallback {
    ring: HeapProd<f32>,
    channels: usize,
    /// Frames between two wake-ups of the voice thread: a whole coded frame, which is then sent at
    /// once. There are no wake-ups in between.
    wake_frames: u64,
    pushed: u64,
    counters: Arc<CardCounters>,
    waker: Waker,
}

/// The voice thread's end of a microphone's ring, with the card's counters.
pub type CaptureRing = (HeapCons<f32>, Arc<CardCounters>);

impl CaptureCallback {
    /// Returns the callback, which wakes the thread after each `wake_frames` frames, and the ring's
    /// other end.
    pub fn new(format: CardFormat, wake_frames: usize, waker: Waker) -> (Self, CaptureRing) {
        let (ring, consumer) = ring(format).split();
        let counters = Arc::new(CardCounters::default());
        let callback = Self {
            ring,
            channels: format.channels,
            wake_frames: wake_frames.max(1) as u64,
            pushed: 0,
            counters: counters.clone(),
            waker,
        };
        (callback, (consumer, counters))
    }

    /// Takes interleaved frames, the first of which was spoken `age` before now.
    pub fn handle<T: Sample>(&mut self, data: &[T], age: Duration)
    where
        f32: FromSample<T>,
    {
        let frames = data.len() / self.channels;
        self.counters.count(frames, || Clock.monotonic_ns(Clock.now()).saturating_sub(nanos(age)));
        // Only whole frames are taken: half a frame would swap the channels of all later ones.
        let fitting = frames.min(self.ring.vacant_len() / self.channels);
        let data = &data[..fitting * self.channels];
        self.ring.push_iter(data.iter().map(|sample| f32::from_sample(*sample)));
        self.counters.lost.fetch_add((frames - fitting) as u64, Ordering::Relaxed);
        let before = self.pushed / self.wake_frames;
        self.pushed += fitting as u64;
        if self.pushed / self.wake_frames > before || fitting < frames {
            self.waker.wake();
        }
    }
}

/// The body of a speaker's callback.
pub struct PlayoutCallback {
    ring: HeapCons<f32>,
    channels: usize,
    since_wake: u64,
    counters: Arc<CardCounters>,
    waker: Waker,
}

/// The voice thread's end of a speaker's ring, with the card's counters.
pub type PlayoutRing = (HeapProd<f32>, Arc<CardCounters>);

impl PlayoutCallback {
    /// Returns the callback and the ring's other end.
    pub fn new(format: CardFormat, waker: Waker) -> (Self, PlayoutRing) {
        let (producer, ring) = ring(format).split();
        let counters = Arc::new(CardCounters::default());
        let callback = Self {
            ring,
            channels: format.channels,
            since_wake: 0,
            counters: counters.clone(),
            waker,
        };
        (callback, (producer, counters))
    }

    /// Fills `out` with interleaved frames, the first of which is heard `delay` after now.
    pub fn handle<T: Sample + FromSample<f32>>(&mut self, out: &mut [T], delay: Duration) {
        let frames = out.len() / self.channels;
        self.counters.count(frames, || Clock.monotonic_ns(Clock.now()) + nanos(delay));
        let ready = frames.min(self.ring.occupied_len() / self.channels);
        let (sound, silence) = out.split_at_mut(ready * self.channels);
        for (out, sample) in sound.iter_mut().zip(self.ring.pop_iter()) {
            *out = T::from_sample(sample);
        }
        silence.fill(T::EQUILIBRIUM);
        self.counters.lost.fetch_add((frames - ready) as u64, Ordering::Relaxed);
        self.since_wake += frames as u64;
        if self.since_wake >= WAKE_FRAMES {
            self.since_wake = 0;
            self.waker.wake();
        }
    }
}

fn ring(format: CardFormat) -> HeapRb<f32> {
    let frames = format.rate as usize * RING.as_millis() as usize / 1_000;
    HeapRb::new(frames.max(1) * format.channels)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: CardFormat = CardFormat { rate: 48_000, channels: 2 };

    #[test]
    fn captured_frames_come_out_as_they_went_in() {
        let (mut callback, (mut ring, counters)) =
            CaptureCallback::new(STEREO, 480, Waker::default());
        callback.handle(&[i16::MAX, i16::MIN, 0, 16_384], Duration::ZERO);
        let samples: Vec<f32> = ring.pop_iter().collect();
        assert_eq!(samples.len(), 4);
        assert!((samples[0] - 1.0).abs() < 1e-4);
        assert_eq!(samples[1..], [-1.0, 0.0, 0.5]);
        assert_eq!(counters.frames.load(Ordering::Relaxed), 2);
        assert_eq!(counters.lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_ring_loses_whole_frames_and_counts_them() {
        let format = CardFormat { rate: 48_000, channels: 3 };
        let (mut callback, (ring, counters)) = CaptureCallback::new(format, 480, Waker::default());
        for _ in 0..30 {
            callback.handle(&[0.5_f32; 3 * 480], Duration::ZERO);
        }
        assert_eq!(ring.occupied_len(), 3 * 12_000, "250 ms fit");
        assert_eq!(counters.lost.load(Ordering::Relaxed), 30 * 480 - 12_000);
        assert_eq!(counters.callbacks.load(Ordering::Relaxed), 30);
        assert_eq!(counters.largest.load(Ordering::Relaxed), 480);
    }

    #[test]
    fn a_dry_ring_plays_silence_and_counts_it() {
        let (mut callback, (mut ring, counters)) = PlayoutCallback::new(STEREO, Waker::default());
        ring.push_slice(&[0.25, -0.25, 0.5, -0.5]);
        let mut out = [9_u8; 8];
        callback.handle(&mut out, Duration::ZERO);
        assert_eq!(out, [160, 96, 192, 64, 128, 128, 128, 128]);
        assert_eq!(counters.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_first_frame_is_dated() {
        let (mut callback, (_ring, counters)) = PlayoutCallback::new(STEREO, Waker::default());
        let before = Clock.monotonic_ns(Clock.now());
        callback.handle(&mut [0.0_f32; 2], Duration::from_millis(20));
        let first = counters.first_ns.load(Ordering::Relaxed);
        assert!(first >= before + 20_000_000);
        callback.handle(&mut [0.0_f32; 2], Duration::from_secs(9));
        assert_eq!(counters.first_ns.load(Ordering::Relaxed), first);
    }
}
