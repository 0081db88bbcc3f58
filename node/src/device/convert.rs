//! Converts between a sound card's rate and channels and Hark's 48 kHz, whose input and output have
//! both sides. Runs on the voice thread.

use hark_voice::{SAMPLE_RATE, SIDES, mix::mean};
use ringbuf::{
    HeapCons, HeapProd,
    traits::{Consumer, Observer, Producer},
};
use rubato::{
    Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction,
    audioadapter_buffers::direct::InterleavedSlice,
};

use super::callback::CardFormat;

/// Points of the resampling filter. It delays by 0.7 ms, and alias is more than 60 dB down.
const FILTER_POINTS: usize = 64;
/// Resampled pieces per second: 5 ms each.
const PIECES: u32 = 200;

/// Converts captured frames to 48 kHz: the mean of all channels and, of two channels, half of what
/// they differ.
pub(super) struct CaptureConverter {
    channels: usize,
    mean: Track,
    difference: Option<Track>,
}

/// One channel on its way to 48 kHz.
struct Track {
    resampler: Option<Async<f32>>,
    /// Samples at the card's rate that are not resampled yet.
    pending: Vec<f32>,
    piece: Vec<f32>,
}

impl CaptureConverter {
    pub(super) fn new(format: CardFormat) -> Self {
        let track = || Track::new(format.rate);
        let difference = (format.channels == SIDES).then(track);
        Self { channels: format.channels, mean: track(), difference }
    }

    /// Appends everything that `ring` holds to `mean` and, of two channels, to `difference`. If the
    /// rates differ, less than 5 ms may stay behind. What is no number becomes silence, and what is
    /// beyond full scale is clipped.
    pub(super) fn convert(
        &mut self,
        ring: &mut HeapCons<f32>,
        mean: &mut Vec<f32>,
        difference: &mut Vec<f32>,
    ) {
        let frames = ring.occupied_len() / self.channels;
        let mut samples = ring.pop_iter();
        let channels = self.channels as f32;
        for _ in 0..frames {
            let first = samples.next().unwrap_or(0.0);
            let sum: f32 = first + samples.by_ref().take(self.channels - 1).sum::<f32>();
            self.mean.pending.push(sound(sum / channels));
            if let Some(track) = &mut self.difference {
                track.pending.push(sound(first - sum / channels));
            }
        }
        self.mean.convert(mean);
        if let Some(track) = &mut self.difference {
            track.convert(difference);
        }
    }
}

/// A captured sample: no number is silence.
fn sound(sample: f32) -> f32 {
    if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) }
}

impl Track {
    fn new(rate: u32) -> Self {
        let resampler = resampler(rate, SAMPLE_RATE, rate, FixedAsync::Input, 1);
        let piece = vec![0.0; resampler.as_ref().map_or(0, Resampler::output_frames_max)];
        Self { resampler, pending: Vec::new(), piece }
    }

    /// Appends what is ready to `out`.
    fn convert(&mut self, out: &mut Vec<f32>) {
        let Some(resampler) = &mut self.resampler else {
            out.append(&mut self.pending);
            return;
        };
        let mut used = 0;
        loop {
            let wanted = resampler.input_frames_next();
            let Some(input) = self.pending.get(used..used + wanted) else { break };
            let made = process(resampler, input, &mut self.piece, 1);
            out.extend_from_slice(&self.piece[..made]);
            used += wanted;
        }
        self.pending.drain(..used);
    }
}

/// Converts 48 kHz, both sides interleaved, to a card's frames.
///
/// The sides are played on a card's first two channels, and further channels are silent. A card
/// with one channel plays the mean of the sides.
pub(super) struct PlayoutConverter {
    channels: usize,
    /// How many of the card's channels carry sound.
    sides: usize,
    resampler: Option<Async<f32>>,
    mixed: Vec<f32>,
    mono: Vec<f32>,
    piece: Vec<f32>,
}

impl PlayoutConverter {
    pub(super) fn new(format: CardFormat) -> Self {
        let sides = format.channels.min(SIDES);
        let resampler = resampler(SAMPLE_RATE, format.rate, format.rate, FixedAsync::Output, sides);
        let piece = resampler.as_ref().map_or(0, Resampler::output_frames_max);
        Self {
            channels: format.channels,
            sides,
            resampler,
            mixed: Vec::new(),
            mono: Vec::new(),
            piece: vec![0.0; sides * piece],
        }
    }

    /// Calls `mix` until `ring` holds `target` frames. Returns how many samples were mixed for each
    /// side.
    pub(super) fn fill(
        &mut self,
        ring: &mut HeapProd<f32>,
        target: usize,
        mut mix: impl FnMut(&mut [f32]),
    ) -> u64 {
        let mut mixed = 0;
        loop {
            let missing = target.saturating_sub(ring.occupied_len() / self.channels);
            let room = ring.vacant_len() / self.channels;
            let wanted = match &self.resampler {
                Some(resampler) if resampler.output_frames_next() <= room => {
                    resampler.input_frames_next()
                }
                Some(_) => 0,
                None => missing.min(room),
            };
            if missing == 0 || wanted == 0 {
                return mixed;
            }
            self.mixed.resize(SIDES * wanted, 0.0);
            mix(&mut self.mixed);
            mixed += wanted as u64;
            let sound = if self.sides == SIDES {
                &self.mixed
            } else {
                self.mono.clear();
                self.mono.extend(mean(&self.mixed));
                &self.mono
            };
            let sound: &[f32] = match &mut self.resampler {
                Some(resampler) => {
                    let made = process(resampler, sound, &mut self.piece, self.sides);
                    &self.piece[..self.sides * made]
                }
                None => sound,
            };
            let silent = self.channels - self.sides;
            ring.push_iter(
                sound.chunks_exact(self.sides).flat_map(|frame| {
                    frame.iter().copied().chain(std::iter::repeat_n(0.0, silent))
                }),
            );
        }
    }
}

/// Creates a resampler with pieces of 5 ms of `card_rate`, if the rates differ.
fn resampler(
    from: u32,
    to: u32,
    card_rate: u32,
    fixed: FixedAsync,
    channels: usize,
) -> Option<Async<f32>> {
    let filter = SincInterpolationParameters::new(FILTER_POINTS, WindowFunction::BlackmanHarris2);
    let piece = (card_rate / PIECES).max(1) as usize;
    let ratio = f64::from(to) / f64::from(from.max(1));
    (from != to).then(|| {
        Async::new_sinc(ratio, 1.0, &filter, piece, channels, fixed)
            .expect("both rates are positive and the piece is not empty")
    })
}

/// Resamples frames of this many channels. Returns how many frames are in `output`.
fn process(
    resampler: &mut Async<f32>,
    input: &[f32],
    output: &mut [f32],
    channels: usize,
) -> usize {
    let (frames, room) = (input.len() / channels, output.len() / channels);
    let input = InterleavedSlice::new(input, channels, frames).expect("the input is whole frames");
    let mut output =
        InterleavedSlice::new_mut(output, channels, room).expect("the output is whole frames");
    let (_, made) = resampler
        .process_into_buffer(&input, &mut output, None)
        .expect("the buffers are as long as the resampler asked");
    made
}

#[cfg(test)]
mod tests {
    use ringbuf::{HeapRb, traits::Split};

    use super::*;

    #[test]
    fn a_driver_that_delivered_no_numbers_silenced_its_talker() {
        let (mut producer, mut consumer) = HeapRb::new(100).split();
        producer.push_slice(&[f32::NAN, 0.5, f32::INFINITY, -1e30, 0.25]);
        let format = CardFormat { rate: 48_000, channels: 1 };
        let mut heard = Vec::new();
        let mut none = Vec::new();
        CaptureConverter::new(format).convert(&mut consumer, &mut heard, &mut none);
        assert_eq!(heard, [0.0, 0.5, 1.0, -1.0, 0.25]);
        assert_eq!(none, [0.0; 0]);
    }

    #[test]
    fn captured_channels_are_averaged_and_played_ones_keep_their_side() {
        let format = CardFormat { rate: 48_000, channels: 2 };
        let (mut producer, mut consumer) = HeapRb::new(100).split();
        producer.push_slice(&[0.5, 0.0, -0.5, -0.5]);
        let mut heard = Vec::new();
        let mut difference = Vec::new();
        CaptureConverter::new(format).convert(&mut consumer, &mut heard, &mut difference);
        assert_eq!(
            (heard.as_slice(), difference.as_slice()),
            (&[0.25, -0.5][..], &[0.25, 0.0][..])
        );

        let played: [(usize, &[f32]); 3] = [
            (1, &[0.5; 2]),
            (2, &[0.25, 0.75, 0.25, 0.75]),
            (3, &[0.25, 0.75, 0.0, 0.25, 0.75, 0.0]),
        ];
        for (channels, expected) in played {
            let format = CardFormat { rate: 48_000, channels };
            let mixed = PlayoutConverter::new(format).fill(&mut producer, 2, |out| {
                out.as_chunks_mut().0.fill([0.25, 0.75]);
            });
            assert_eq!(mixed, 2);
            assert_eq!(consumer.pop_iter().collect::<Vec<f32>>(), expected);
        }
    }

    #[test]
    fn resampling_keeps_the_sides_apart() {
        let format = CardFormat { rate: 44_100, channels: 2 };
        let (mut producer, mut consumer) = HeapRb::new(44_100).split();
        PlayoutConverter::new(format).fill(&mut producer, 4_410, |out| {
            out.as_chunks_mut().0.fill([0.5, -0.25]);
        });
        let heard: Vec<f32> = consumer.pop_iter().skip(400).collect();
        let sides = heard.as_chunks::<2>().0;
        assert!(
            sides
                .iter()
                .all(|[left, right]| { (left - 0.5).abs() < 1e-3 && (right + 0.25).abs() < 1e-3 })
        );
    }

    #[test]
    fn a_card_of_another_rate_gives_and_takes_as_many_seconds() {
        for rate in [16_000, 44_100, 96_000] {
            let format = CardFormat { rate, channels: 1 };
            let (mut producer, mut consumer) = HeapRb::new(rate as usize).split();
            let mut capture = CaptureConverter::new(format);
            let mut playout = PlayoutConverter::new(format);
            let (mut spoken, mut mixed) = (Vec::new(), 0);
            let mut phase = 0.0_f32;
            for _ in 0..100 {
                // Two pieces are whole frames at any rate.
                mixed += playout.fill(&mut producer, 2 * (rate / PIECES) as usize, |out| {
                    for sides in out.as_chunks_mut::<2>().0 {
                        phase = (phase + 0.05) % std::f32::consts::TAU;
                        *sides = [phase.sin() * 0.5; 2];
                    }
                });
                capture.convert(&mut consumer, &mut spoken, &mut Vec::new());
            }
            let difference = spoken.len() as i64 - mixed as i64;
            assert!((47_500..48_500).contains(&mixed), "{mixed} at {rate} Hz");
            assert!(difference.abs() < 300, "{difference} at {rate} Hz");
            let power: f32 = spoken[24_000..].iter().map(|s| s * s).sum();
            let power = power / (spoken.len() - 24_000) as f32;
            assert!((power - 0.125).abs() < 0.002, "{power} at {rate} Hz");
        }
    }

    #[test]
    fn a_full_ring_ends_the_filling() {
        let format = CardFormat { rate: 44_100, channels: 2 };
        let (mut producer, _consumer) = HeapRb::new(1_000).split();
        let mixed = PlayoutConverter::new(format).fill(&mut producer, 9_999, |out| out.fill(0.0));
        assert!(mixed > 0);
        assert!(producer.occupied_len() <= 1_000);
    }
}
