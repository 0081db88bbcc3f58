//! From one talker's datagrams to samples.

use std::{collections::VecDeque, time::Duration};

use hark_keys::{DeviceId, KeySecret, OpenFrameError, SenderKeyring, TargetId, Timestamp};
use hark_mesh::datagram::{DropReason, FrameHeader, Voice};

use super::{
    CodecError, SAMPLE_RATE, SIDES, TalkerStatistics,
    codec::{Decoder, FRAME_SAMPLES_MAX, packet_samples},
    jitter::{Inserted, JitterBuffer, Next},
    level_dbfs,
    report::Reception,
};

/// One device whose voice we hear.
pub struct Talker {
    keyring: SenderKeyring,
    jitter: JitterBuffer,
    decoder: Decoder,
    reception: Reception,
    /// Frames that wait for their key.
    keyless: VecDeque<Keyless>,
    plaintext: Vec<u8>,
    pcm: Pcm,
    gain: f32,
    /// The loudest that the talker has been lately.
    loudest_dbfs: f32,
    statistics: TalkerStatistics,
}

struct Keyless {
    arrived: Timestamp,
    sealed: Vec<u8>,
    copies: u8,
    recovered: bool,
}

impl Talker {
    /// A talker of whom nothing came yet.
    pub fn new(target: TargetId, device: DeviceId) -> Result<Self, CodecError> {
        Ok(Self {
            keyring: SenderKeyring::new(target, device),
            jitter: JitterBuffer::default(),
            decoder: Decoder::new()?,
            reception: Reception::default(),
            keyless: VecDeque::new(),
            plaintext: Vec::new(),
            pcm: Pcm::new(),
            gain: 1.0,
            loudest_dbfs: QUIET_DBFS,
            statistics: TalkerStatistics::default(),
        })
    }

    /// Takes a key of the talker's; frames that waited for it are heard now.
    pub fn install_key(&mut self, now: Timestamp, secret: &KeySecret) {
        self.keyring.install(now, secret);
        for frame in std::mem::take(&mut self.keyless) {
            if now.saturating_duration_since(frame.arrived) <= KEYLESS_LIFETIME {
                // Frames of yet another key wait on; other failures are of no use to anyone.
                let _ =
                    self.handle_frame(frame.arrived, &frame.sealed, frame.copies, frame.recovered);
            }
        }
    }

    /// A voice datagram came. `dropped` hears of what was not used of it.
    pub fn handle_voice(
        &mut self,
        arrived: Timestamp,
        voice: &Voice<'_>,
        mut dropped: impl FnMut(DropReason),
    ) {
        self.reception.handle_datagram(arrived, voice.sequence);
        let copies = voice.frames.len() as u8 - 1;
        for (age, sealed) in voice.frames.iter().enumerate().rev() {
            match self.handle_frame(arrived, sealed, copies, age > 0) {
                Ok(()) => {}
                // Copies of what is here already are what copies are.
                Err(DropReason::Repeated) if age > 0 => {}
                Err(reason) => dropped(reason),
            }
        }
    }

    /// Adds the talker's next samples to both sides of `out`, a block that is played at `now`.
    pub fn mix_into(&mut self, now: Timestamp, out: &mut [f32]) {
        let out = out.as_chunks_mut::<SIDES>().0;
        let mut filled = 0;
        while filled < out.len() {
            if self.pcm.is_empty() && !self.refill(now, out.len()) {
                break;
            }
            filled += self.pcm.mix_into(&mut out[filled..], self.gain);
        }
        self.statistics.talking = self.jitter.is_playing() || !self.pcm.is_empty();
        if !self.statistics.talking {
            self.statistics.level_dbfs = level_dbfs(&[]);
        }
    }

    /// Sets how loud the talker is heard, 1 being as sent; at most [`GAIN_MAX`].
    pub fn set_gain(&mut self, gain: f32) {
        self.gain = if gain.is_finite() { gain.clamp(0.0, GAIN_MAX) } else { 1.0 };
    }

    /// What the talker's reports are made of.
    pub fn reception(&mut self) -> &mut Reception {
        &mut self.reception
    }

    /// When the next report to the talker is due.
    pub fn report_due(&self) -> Option<Timestamp> {
        self.reception.due()
    }

    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub fn jitter(&self) -> Duration {
        self.jitter.jitter()
    }

    /// Whether the talker is heard right now.
    pub fn is_talking(&self) -> bool {
        self.statistics.talking
    }

    /// The counters as they stand.
    pub fn statistics(&self) -> TalkerStatistics {
        TalkerStatistics {
            jitter_ms: self.jitter.jitter().as_secs_f32() * 1e3,
            playout_delay_ms: self.jitter.playout_delay().as_secs_f32() * 1e3,
            loss_percent: self.reception.loss() * 100.0,
            ..self.statistics
        }
    }

    fn handle_frame(
        &mut self,
        arrived: Timestamp,
        sealed: &[u8],
        copies: u8,
        recovered: bool,
    ) -> Result<(), DropReason> {
        self.keyring.open(arrived, sealed, &mut self.plaintext).map_err(|error| match error {
            OpenFrameError::UnknownKey => {
                self.keep_for_key(arrived, sealed, copies, recovered);
                DropReason::UnknownKey
            }
            OpenFrameError::Replayed => DropReason::Repeated,
            OpenFrameError::TooOld => DropReason::TooOld,
            _ => DropReason::Forged,
        })?;
        let (header, packet) = FrameHeader::parse(&self.plaintext)?;
        let samples = packet_samples(packet).map_err(|_| DropReason::UnknownFlags)?;
        self.statistics.frames_received += 1;
        match self.jitter.insert(arrived, header, packet, samples, copies, recovered) {
            Inserted::Held if recovered => self.statistics.frames_recovered += 1,
            Inserted::Held | Inserted::Repeated => {}
            Inserted::Late => self.statistics.frames_late += 1,
            Inserted::Stray => return Err(DropReason::TooOld),
        }
        Ok(())
    }

    fn keep_for_key(&mut self, arrived: Timestamp, sealed: &[u8], copies: u8, recovered: bool) {
        if self.keyless.iter().any(|frame| frame.sealed == sealed) {
            return;
        }
        if self.keyless.len() == KEYLESS_MAX {
            self.keyless.pop_front();
        }
        self.keyless.push_back(Keyless { arrived, sealed: sealed.to_vec(), copies, recovered });
    }

    /// Decodes or conceals the next frame; false where there is none.
    fn refill(&mut self, now: Timestamp, block_samples: usize) -> bool {
        match self.jitter.next(now, block_samples) {
            Next::Idle => false,
            Next::Frame { packet, starts, adjust } => {
                self.statistics.frames_played += 1;
                if starts {
                    self.decoder.reset();
                }
                let room = self.pcm.clear();
                // A packet that libopus refuses is as good as lost.
                let samples = match self.decoder.decode(packet, room) {
                    Ok(samples) => samples,
                    Err(_) => packet_samples(packet).unwrap_or(FRAME_SAMPLES_MAX),
                };
                self.pcm.set_length(samples);
                let level = level_dbfs(self.pcm.samples());
                self.statistics.level_dbfs = level;
                self.loudest_dbfs = level.max(self.loudest_dbfs - LOUDEST_FALL_DB);
                if level < QUIET_DBFS.max(self.loudest_dbfs - QUIET_BELOW_DB) {
                    self.pcm.adjust(adjust);
                }
                true
            }
            Next::Missing { samples, run } => {
                self.statistics.frames_concealed += 1;
                let room = &mut self.pcm.clear()[..samples];
                let concealed = run as usize * samples;
                // Deep concealment carries a word on, but what it makes up soon means nothing.
                if concealed >= CONCEALED_MAX_SAMPLES || self.decoder.conceal(room).is_err() {
                    room.fill(0.0);
                } else if concealed + samples >= CONCEALED_MAX_SAMPLES {
                    fade_out(room);
                }
                self.pcm.set_length(samples);
                true
            }
        }
    }
}

/// Samples that are decoded and not yet played.
struct Pcm {
    buffer: Box<[f32; 2 * FRAME_SAMPLES_MAX]>,
    played: usize,
    length: usize,
}

impl Pcm {
    fn new() -> Self {
        Self { buffer: Box::new([0.0; 2 * FRAME_SAMPLES_MAX]), played: 0, length: 0 }
    }

    fn is_empty(&self) -> bool {
        self.played == self.length
    }

    fn samples(&self) -> &[f32] {
        &self.buffer[..self.length]
    }

    /// Empties it and gives the room for a frame.
    fn clear(&mut self) -> &mut [f32] {
        (self.played, self.length) = (0, 0);
        &mut self.buffer[..FRAME_SAMPLES_MAX]
    }

    fn set_length(&mut self, length: usize) {
        self.length = length;
    }

    /// Adds what fits to `out` and gives the number of samples.
    fn mix_into(&mut self, out: &mut [[f32; SIDES]], gain: f32) -> usize {
        let count = out.len().min(self.length - self.played);
        let samples = &self.buffer[self.played..self.played + count];
        for (out, sample) in out.iter_mut().zip(samples) {
            out.iter_mut().for_each(|side| *side += gain * sample);
        }
        self.played += count;
        count
    }

    /// Cuts `-by` samples out of a whole frame, or repeats `by` of them, behind a crossfade.
    fn adjust(&mut self, by: isize) {
        let length = self.length;
        let by_samples = by.unsigned_abs().min(length.saturating_sub(CROSSFADE_SAMPLES));
        if by_samples == 0 {
            return;
        }
        let fade = |n: usize| (n as f32 + 0.5) / CROSSFADE_SAMPLES as f32;
        // Backwards, so that nothing is read after it has been written.
        if by < 0 {
            for n in (0..CROSSFADE_SAMPLES).rev() {
                let (old, new) = (self.buffer[n], self.buffer[n + by_samples]);
                self.buffer[n + by_samples] = old + (new - old) * fade(n);
            }
            self.buffer.copy_within(by_samples..length, 0);
            self.length -= by_samples;
        } else {
            let from = length - CROSSFADE_SAMPLES - by_samples;
            self.buffer.copy_within(from + CROSSFADE_SAMPLES..length, length);
            for n in (0..CROSSFADE_SAMPLES).rev() {
                let at = length - CROSSFADE_SAMPLES + n;
                let (old, new) = (self.buffer[at], self.buffer[from + n]);
                self.buffer[at] = old + (new - old) * fade(n);
            }
            self.length += by_samples;
        }
    }
}

fn fade_out(samples: &mut [f32]) {
    let count = samples.len() as f32;
    for (n, sample) in samples.iter_mut().enumerate() {
        *sample *= 1.0 - n as f32 / count;
    }
}

/// The loudest that a talker can be made.
pub const GAIN_MAX: f32 = 4.0;

/// Frames of a talker that wait for their key; the oldest goes.
const KEYLESS_MAX: usize = 10;

/// How long they wait: what is older would only delay what follows.
const KEYLESS_LIFETIME: Duration = Duration::from_millis(200);

/// Concealment in a row, 100 ms; silence from there on.
const CONCEALED_MAX_SAMPLES: usize = SAMPLE_RATE as usize / 10;

/// Quiet enough for changes of the delay, whoever speaks.
const QUIET_DBFS: f32 = -60.0;

/// Quiet enough against the loudest of the last seconds.
const QUIET_BELOW_DB: f32 = 30.0;

/// What the loudest falls by in each frame.
const LOUDEST_FALL_DB: f32 = 0.03;

/// Samples of a crossfade, 2.5 ms.
const CROSSFADE_SAMPLES: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn pcm() -> Pcm {
        let mut pcm = Pcm::new();
        for (n, sample) in pcm.clear()[..480].iter_mut().enumerate() {
            *sample = n as f32;
        }
        pcm.set_length(480);
        pcm
    }

    /// A ramp has no period: only the ends show that nothing else was touched.
    #[test]
    fn cutting_and_repeating_keep_the_ends() {
        for by in [-360, -100, -1, 1, 100, 360] {
            let mut pcm = pcm();
            pcm.adjust(by);
            let samples = pcm.samples();
            assert_eq!(samples.len() as isize, 480 + by);
            assert!(samples[0] < 2.0);
            assert!((samples[samples.len() - 1] - 479.0).abs() < 2.0);
            assert!(samples.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 5.0), "{by}");
        }
    }
}
