//! Opus (RFC 6716): one encoder for our own speech, one decoder for each talker.
//!
//! This is the only module that calls libopus, and the only one with `unsafe`. Deep concealment
//! (decoder complexity 5) makes up sound for lost frames. It costs 0.25 ms of a core per 10 ms.
//! Deep redundancy (DRED) lets packets describe the sound before them, so that a later packet
//! rebuilds what an earlier one held (draft-ietf-mlcodec-opus-dred).

use std::{ffi::c_int, ptr::NonNull};

use opusic_sys as opus;

use super::{Coding, SAMPLE_RATE, SIDES};

/// Size of the largest Opus packet that is encoded or decoded, in bytes (RFC 6716 section 3.2.1). A
/// longer one is refused.
pub const PACKET_BYTES_MAX: usize = 1275;

/// Length of the largest frame that is decoded, in samples: 20 ms. A packet that holds more is
/// refused.
pub const FRAME_SAMPLES_MAX: usize = 960;

/// Encodes blocks of 48 kHz into Opus packets of one size.
pub struct Encoder {
    state: NonNull<opus::OpusEncoder>,
    channels: usize,
    frame_samples: usize,
    packet_bytes: usize,
    deep: bool,
}

// SAFETY: the state belongs to this value alone and libopus keeps nothing tied to a thread.
unsafe impl Send for Encoder {}

impl Encoder {
    /// Creates an encoder of one channel at a constant rate of `bitrate_bps`. Frames are 10 ms
    /// long; with `low_delay` they are 5 ms long, and the lookahead is 4 ms shorter.
    pub fn new(low_delay: bool, bitrate_bps: u32) -> Result<Self, CodecError> {
        Self::of(1, low_delay, bitrate_bps)
    }

    /// The same of two channels, whose samples are interleaved.
    pub fn stereo(low_delay: bool, bitrate_bps: u32) -> Result<Self, CodecError> {
        Self::of(SIDES, low_delay, bitrate_bps)
    }

    fn of(channels: usize, low_delay: bool, bitrate_bps: u32) -> Result<Self, CodecError> {
        let (application, frame_samples) = if low_delay {
            (opus::OPUS_APPLICATION_RESTRICTED_LOWDELAY, 240)
        } else {
            // At our bit rates this mode stays nearer to the original than libopus's application
            // for speech. That one is made for low bit rates: it cuts the low end and lifts
            // formants.
            (opus::OPUS_APPLICATION_AUDIO, 480)
        };
        let mut status = opus::OPUS_OK;
        // SAFETY: `status` outlives the call.
        let state = unsafe {
            let rate = SAMPLE_RATE as c_int;
            opus::opus_encoder_create(rate, channels as c_int, application, &raw mut status)
        };
        check(status)?;
        let state = NonNull::new(state).ok_or(CodecError::Library(opus::OPUS_ALLOC_FAIL))?;
        let mut encoder = Self { state, channels, frame_samples, packet_bytes: 0, deep: false };
        let (deep, music, stereo) = (false, false, channels == SIDES);
        encoder.set_coding(Coding { frame_samples, bitrate_bps, deep, music, stereo })?;
        // A constant rate, so that the size of packets reveals nothing about the words. [PROTO-7.6]
        encoder.set(opus::OPUS_SET_VBR_REQUEST, 0)?;
        encoder.set(opus::OPUS_SET_COMPLEXITY_REQUEST, ENCODER_COMPLEXITY)?;
        Ok(encoder)
    }

    /// Codes by `coding` from the next frame on.
    pub fn set_coding(&mut self, coding: Coding) -> Result<(), CodecError> {
        let Coding { frame_samples, bitrate_bps, deep, music, stereo } = coding;
        if stereo != (self.channels == SIDES) {
            return Err(CodecError::Channels);
        }
        if !(MIN_BITRATE_BPS..=MAX_BITRATE_BPS).contains(&bitrate_bps) {
            return Err(CodecError::Bitrate);
        }
        if !matches!(frame_samples, 120 | 240 | 480 | FRAME_SAMPLES_MAX) {
            return Err(CodecError::FrameSize);
        }
        self.set(opus::OPUS_SET_BITRATE_REQUEST, bitrate_bps as c_int)?;
        let signal = if music { opus::OPUS_SIGNAL_MUSIC } else { opus::OPUS_SIGNAL_VOICE };
        self.set(opus::OPUS_SET_SIGNAL_REQUEST, signal)?;
        (self.frame_samples, self.packet_bytes) = (frame_samples, coding.packet_bytes());
        self.set_deep(deep)
    }

    fn set_deep(&mut self, deep: bool) -> Result<(), CodecError> {
        self.deep = deep;
        // Without an expected loss, libopus gives deep redundancy no bits.
        let (loss, span) = if deep { (DEEP_LOSS_PERCENT, DEEP_SPAN) } else { (0, 0) };
        self.set(opus::OPUS_SET_PACKET_LOSS_PERC_REQUEST, loss)?;
        self.set(opus::OPUS_SET_DRED_DURATION_REQUEST, span)
    }

    /// Appends the packet of one frame to `out`.
    pub fn encode(&mut self, samples: &[f32], out: &mut Vec<u8>) -> Result<(), CodecError> {
        if samples.len() != self.frame_samples * self.channels {
            return Err(CodecError::FrameSize);
        }
        let mut packet = [0; PACKET_BYTES_MAX];
        // SAFETY: the state is ours and alive; libopus reads `frame_samples` samples of each
        // channel, which is the length of `samples`, and writes at most `packet_bytes`, which `packet` has.
        let length = unsafe {
            opus::opus_encode_float(
                self.state.as_ptr(),
                samples.as_ptr(),
                self.frame_samples as c_int,
                packet.as_mut_ptr(),
                self.packet_bytes.min(PACKET_BYTES_MAX) as opus::opus_int32,
            )
        };
        check(length)?;
        out.extend_from_slice(&packet[..length as usize]);
        Ok(())
    }

    /// Forgets what was encoded before, so that nothing of it is heard in the next frame, nor
    /// described by its deep redundancy.
    pub fn reset(&mut self) {
        // SAFETY: the state is ours and alive; this request takes no argument.
        let status = unsafe { opus::opus_encoder_ctl(self.state.as_ptr(), opus::OPUS_RESET_STATE) };
        // libopus counts the span of deep redundancy as part of what was encoded.
        let deep = self.set_deep(self.deep);
        debug_assert!(status == opus::OPUS_OK && deep.is_ok(), "a reset cannot fail");
    }

    /// Number of samples in a frame.
    pub fn frame_samples(&self) -> usize {
        self.frame_samples
    }

    /// Number of samples by which decoded sound lags behind the encoded sound.
    pub fn lookahead(&self) -> usize {
        let mut samples: opus::opus_int32 = 0;
        // SAFETY: the state is ours and alive; this request takes a pointer to a 32-bit integer.
        let status = unsafe {
            opus::opus_encoder_ctl(
                self.state.as_ptr(),
                opus::OPUS_GET_LOOKAHEAD_REQUEST,
                &raw mut samples,
            )
        };
        debug_assert_eq!(status, opus::OPUS_OK, "the lookahead is always known");
        usize::try_from(samples).unwrap_or(0)
    }

    fn set(&self, request: c_int, value: c_int) -> Result<(), CodecError> {
        // SAFETY: the state is ours and alive; each request that we set takes one `int`.
        check(unsafe { opus::opus_encoder_ctl(self.state.as_ptr(), request, value) })
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the state was made by libopus and is destroyed once.
        unsafe { opus::opus_encoder_destroy(self.state.as_ptr()) }
    }
}

/// Decodes the Opus packets of one talker, and conceals those that are missing.
pub struct Decoder {
    state: NonNull<opus::OpusDecoder>,
    channels: usize,
    deep: DeepRedundancy,
}

// SAFETY: the state belongs to this value alone and libopus keeps nothing tied to a thread.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Creates a decoder to 48 kHz mono with deep concealment.
    pub fn new() -> Result<Self, CodecError> {
        Self::of(1)
    }

    /// The same to two channels, whose samples are interleaved.
    pub fn stereo() -> Result<Self, CodecError> {
        Self::of(SIDES)
    }

    fn of(channels: usize) -> Result<Self, CodecError> {
        let deep = DeepRedundancy::new()?;
        let mut status = opus::OPUS_OK;
        // SAFETY: `status` outlives the call.
        let state = unsafe {
            opus::opus_decoder_create(SAMPLE_RATE as c_int, channels as c_int, &raw mut status)
        };
        check(status)?;
        let state = NonNull::new(state).ok_or(CodecError::Library(opus::OPUS_ALLOC_FAIL))?;
        let decoder = Self { state, channels, deep };
        // SAFETY: the state is ours and alive; this request takes one `int`.
        check(unsafe {
            opus::opus_decoder_ctl(
                decoder.state.as_ptr(),
                opus::OPUS_SET_COMPLEXITY_REQUEST,
                DECODER_COMPLEXITY,
            )
        })?;
        Ok(decoder)
    }

    /// Decodes `packet` into the front of `out` and returns the number of samples of each channel.
    ///
    /// `out` must have room for the packet's sound ([`packet_samples`]); otherwise nothing is
    /// written and an error is returned.
    pub fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        if packet.is_empty() || packet.len() > PACKET_BYTES_MAX {
            return Err(CodecError::PacketSize);
        }
        self.run(packet, out)
    }

    /// Fills `out`, a whole frame, with made-up sound that continues the speech.
    pub fn conceal(&mut self, out: &mut [f32]) -> Result<(), CodecError> {
        self.run(&[], out).map(drop)
    }

    /// Number of samples before `packet` that its deep redundancy describes. Zero if it has none,
    /// or is no packet.
    pub fn described_samples(&mut self, packet: &[u8]) -> usize {
        self.deep.parse(packet, DEEP_SAMPLES_MAX, false)
    }

    /// Fills `out` with the sound that began `before` samples before `packet`, by the deep
    /// redundancy of `packet`. Returns `false`, and writes nothing, if it does not describe that
    /// sound.
    pub fn rebuild(
        &mut self,
        packet: &[u8],
        before: usize,
        out: &mut [f32],
    ) -> Result<bool, CodecError> {
        let described = self.deep.parse(packet, before, true);
        // What it describes ends up to a frame earlier than its span says. It describes one channel.
        if self.channels > 1 || described + out.len() <= before || described == 0 {
            return Ok(false);
        }
        let room = out.len().min(FRAME_SAMPLES_MAX);
        // SAFETY: both states are ours and alive; libopus writes at most `room` samples, which
        // `out` has.
        check(unsafe {
            opus::opus_decoder_dred_decode_float(
                self.state.as_ptr(),
                self.deep.parsed.as_ptr(),
                before as opus::opus_int32,
                out.as_mut_ptr(),
                room as c_int,
            )
        })?;
        Ok(true)
    }

    /// Forgets the talker's earlier sound.
    pub fn reset(&mut self) {
        // SAFETY: the state is ours and alive; this request takes no argument.
        let status = unsafe { opus::opus_decoder_ctl(self.state.as_ptr(), opus::OPUS_RESET_STATE) };
        debug_assert_eq!(status, opus::OPUS_OK, "a reset cannot fail");
    }

    /// Decodes `packet`. An empty packet stands for a lost one.
    fn run(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let room = (out.len() / self.channels).min(FRAME_SAMPLES_MAX);
        let data = if packet.is_empty() { std::ptr::null() } else { packet.as_ptr() };
        // SAFETY: the state is ours and alive; `data` is null or has `packet.len()` bytes, which
        // libopus does not read past; it writes at most `room` samples of each channel, which
        // `out` has.
        let samples = unsafe {
            opus::opus_decode_float(
                self.state.as_ptr(),
                data,
                packet.len() as opus::opus_int32,
                out.as_mut_ptr(),
                room as c_int,
                0,
            )
        };
        check(samples)?;
        Ok(samples as usize)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the state was made by libopus and is destroyed once.
        unsafe { opus::opus_decoder_destroy(self.state.as_ptr()) }
    }
}

/// The deep redundancy of one packet, and what reads it.
struct DeepRedundancy {
    reader: NonNull<opus::OpusDREDDecoder>,
    parsed: NonNull<opus::OpusDRED>,
}

// SAFETY: the states belong to this value alone and libopus keeps nothing tied to a thread.
unsafe impl Send for DeepRedundancy {}

impl DeepRedundancy {
    fn new() -> Result<Self, CodecError> {
        let none = CodecError::Library(opus::OPUS_ALLOC_FAIL);
        let mut status = opus::OPUS_OK;
        // SAFETY: `status` outlives the call.
        let reader = unsafe { opus::opus_dred_decoder_create(&raw mut status) };
        let reader = NonNull::new(reader).ok_or(none)?;
        // SAFETY: as above.
        let parsed = unsafe { opus::opus_dred_alloc(&raw mut status) };
        let Some(parsed) = NonNull::new(parsed) else {
            // SAFETY: the reader was made by libopus and nothing else has it.
            unsafe { opus::opus_dred_decoder_destroy(reader.as_ptr()) };
            return Err(none);
        };
        Ok(Self { reader, parsed })
    }

    /// Reads what `packet` says of the `samples` samples before it, in full if `to_rebuild`.
    /// Returns the number of samples that it describes: zero if it has none, or is no packet.
    fn parse(&mut self, packet: &[u8], samples: usize, to_rebuild: bool) -> usize {
        // It lies in the padding, which only packets of code 3 have (RFC 6716 section 3.2.5).
        let padded = matches!(packet, [toc, count, ..] if toc & 3 == 3 && count & 0x40 != 0);
        if !padded || packet.len() > PACKET_BYTES_MAX {
            return 0;
        }
        let mut end = 0;
        // SAFETY: both states are ours and alive; libopus reads at most `packet.len()` bytes, and
        // `end` outlives the call.
        let described = unsafe {
            opus::opus_dred_parse(
                self.reader.as_ptr(),
                self.parsed.as_ptr(),
                packet.as_ptr(),
                packet.len() as opus::opus_int32,
                samples.min(DEEP_SAMPLES_MAX) as opus::opus_int32,
                SAMPLE_RATE as opus::opus_int32,
                &raw mut end,
                c_int::from(!to_rebuild),
            )
        };
        usize::try_from(described).unwrap_or(0)
    }
}

impl Drop for DeepRedundancy {
    fn drop(&mut self) {
        // SAFETY: both states were made by libopus and are destroyed once.
        unsafe {
            opus::opus_dred_free(self.parsed.as_ptr());
            opus::opus_dred_decoder_destroy(self.reader.as_ptr());
        }
    }
}

/// Number of samples that `packet` decodes to: 120 (2.5 ms), 240, 480 or 960. Hark sends no others.
pub fn packet_samples(packet: &[u8]) -> Result<usize, CodecError> {
    if packet.is_empty() || packet.len() > PACKET_BYTES_MAX {
        return Err(CodecError::PacketSize);
    }
    // SAFETY: libopus reads at most `packet.len()` bytes, and one at least is there.
    let samples = unsafe {
        opus::opus_packet_get_nb_samples(
            packet.as_ptr(),
            packet.len() as opus::opus_int32,
            SAMPLE_RATE as opus::opus_int32,
        )
    };
    check(samples)?;
    match samples as usize {
        samples @ (120 | 240 | 480 | FRAME_SAMPLES_MAX) => Ok(samples),
        _ => Err(CodecError::FrameSize),
    }
}

/// Reasons why the codec refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bit rate is not between 16 and 256 kbit/s.
    #[error("the bit rate must be between 16,000 and 256,000 bits per second")]
    Bitrate,
    /// One channel where there are two, or the other way round.
    #[error("another number of channels than the encoder has")]
    Channels,
    /// The frame has a length that is not used.
    #[error("a frame of a length that is not used")]
    FrameSize,
    /// The packet is empty or longer than 1,275 bytes.
    #[error("an Opus packet of an impossible size")]
    PacketSize,
    /// The error code of libopus.
    #[error("libopus error {0}")]
    Library(i32),
}

fn check(status: c_int) -> Result<(), CodecError> {
    if status < 0 { Err(CodecError::Library(status)) } else { Ok(()) }
}

/// The lowest bit rate. Below it frames of 10 ms sound bad. Lower rates are refused.
const MIN_BITRATE_BPS: u32 = 16_000;

/// The highest bit rate. At this rate six sealed frames of 5 ms still fit a datagram. Higher rates
/// are refused.
const MAX_BITRATE_BPS: u32 = 256_000;

/// Complexity of the encoder, 0 to 10. Complexity 10 sounds the same, and 5 would save a third of
/// its time.
const ENCODER_COMPLEXITY: c_int = 9;

/// Complexity of the decoder. From 5 on, a neural network conceals.
const DECODER_COMPLEXITY: c_int = 5;

/// The loss that an encoder with deep redundancy expects. From 6 % on, most of the bits above
/// 12 kbit/s go to the redundancy.
const DEEP_LOSS_PERCENT: c_int = 20;

/// The span that deep redundancy describes, in units of 10 ms. A longer one leaves fewer bits for
/// each part.
const DEEP_SPAN: c_int = 30;

/// The longest span that is read, in samples: one second.
const DEEP_SAMPLES_MAX: usize = SAMPLE_RATE as usize;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn tone(samples: usize) -> Vec<f32> {
        (0..samples).map(|n| 0.3 * (n as f32 * 440.0 * 0.000_130_9).sin()).collect()
    }

    #[test]
    fn packets_have_one_size_and_sound_comes_back() {
        for (low_delay, rate, bytes, lookahead) in
            [(false, 48_000, 60, 312), (true, 64_000, 40, 120)]
        {
            let mut encoder = Encoder::new(low_delay, rate).unwrap();
            let mut decoder = Decoder::new().unwrap();
            assert_eq!(encoder.lookahead(), lookahead);
            let frame = encoder.frame_samples();
            let sound = tone(frame * 50);
            let mut heard = Vec::new();
            for block in sound.chunks(frame) {
                let mut packet = Vec::new();
                encoder.encode(block, &mut packet).unwrap();
                assert_eq!(packet.len(), bytes);
                assert_eq!(packet_samples(&packet), Ok(frame));
                let mut out = [0.0; FRAME_SAMPLES_MAX];
                assert_eq!(decoder.decode(&packet, &mut out), Ok(frame));
                heard.extend_from_slice(&out[..frame]);
            }
            let tail = frame * 30;
            let error: f32 = (tail..sound.len() - lookahead)
                .map(|n| (heard[n + lookahead] - sound[n]).powi(2))
                .sum();
            let energy: f32 = sound[tail..].iter().map(|sample| sample.powi(2)).sum();
            assert!(error < energy / 30.0, "low delay {low_delay}: {}", error / energy);
        }
    }

    #[test]
    fn concealment_carries_a_tone_on() {
        let mut encoder = Encoder::new(false, 48_000).unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut out = [0.0; 480];
        for block in tone(480 * 40).chunks(480) {
            let mut packet = Vec::new();
            encoder.encode(block, &mut packet).unwrap();
            decoder.decode(&packet, &mut out).unwrap();
        }
        decoder.conceal(&mut out).unwrap();
        assert!(out.iter().map(|sample| sample.powi(2)).sum::<f32>() / 480.0 > 0.005);
    }

    #[test]
    fn what_is_no_packet_of_ours_is_refused() {
        let mut decoder = Decoder::new().unwrap();
        let mut out = [0.0; FRAME_SAMPLES_MAX];
        assert_eq!(decoder.decode(&[], &mut out), Err(CodecError::PacketSize));
        assert_eq!(decoder.decode(&[0; 1276], &mut out), Err(CodecError::PacketSize));
        assert_eq!(packet_samples(&[0x18]), Err(CodecError::FrameSize), "60 ms");
        assert!(Encoder::new(false, 1_000).is_err());
        let mut encoder = Encoder::new(false, 48_000).unwrap();
        assert_eq!(encoder.encode(&[0.0; 240], &mut Vec::new()), Err(CodecError::FrameSize));
    }

    /// Noise in syllables, which concealment cannot guess.
    fn syllables(count: usize) -> Vec<f32> {
        let mut seed = 1_u32;
        (0..count)
            .map(|n| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (seed >> 8) as f32 / 8_388_608.0 - 1.0;
                if n / 4_800 % 2 == 0 { 0.3 * noise } else { 0.0 }
            })
            .collect()
    }

    fn energy(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample.powi(2)).sum::<f32>() / samples.len() as f32
    }

    const DEEP: Coding =
        Coding { frame_samples: 960, bitrate_bps: 24_000, deep: true, music: false, stereo: false };

    fn deep_packets(encoder: &mut Encoder, sound: &[f32]) -> Vec<Vec<u8>> {
        let coded = |block| {
            let mut packet = Vec::new();
            encoder.encode(block, &mut packet).unwrap();
            packet
        };
        sound.chunks_exact(960).map(coded).collect()
    }

    #[test]
    fn a_packet_rebuilds_what_was_lost_before_it() {
        let mut encoder = Encoder::new(false, 48_000).unwrap();
        encoder.set_coding(DEEP).unwrap();
        let sound = syllables(960 * 60);
        let packets = deep_packets(&mut encoder, &sound);
        assert!(packets.iter().all(|packet| packet.len() == 60), "a packet reveals nothing");
        let mut decoder = Decoder::new().unwrap();
        let mut out = [0.0; 960];
        for packet in &packets[..50] {
            assert_eq!(decoder.decode(packet, &mut out), Ok(960));
        }
        let described = decoder.described_samples(&packets[55]);
        assert!((4_800..=14_400).contains(&described), "{described}");
        // The five frames from 50 on are lost, of which 50 to 54 are loud and quiet in turn.
        let rebuilt: Vec<f32> = (50..55)
            .map(|n| {
                assert_eq!(decoder.rebuild(&packets[55], (55 - n) * 960, &mut out), Ok(true));
                energy(&out)
            })
            .collect();
        let said: Vec<f32> = (50..55).map(|n| energy(&sound[n * 960 - 312..][..960])).collect();
        for (rebuilt, said) in rebuilt.iter().zip(&said) {
            let loud = *said > 0.01;
            assert!((*rebuilt > 0.003) == loud, "{rebuilt} for {said}");
        }
        assert_eq!(decoder.rebuild(&packets[55], 48_000, &mut out), Ok(false), "a second before");
        assert_eq!(decoder.described_samples(&[0x18, 0x40]), 0);
    }

    /// Otherwise somebody who gets the key now could rebuild what was said before.
    #[test]
    fn nothing_before_a_reset_is_described() {
        let mut encoder = Encoder::new(false, 48_000).unwrap();
        encoder.set_coding(DEEP).unwrap();
        let loud: Vec<f32> = syllables(4_800).into_iter().cycle().take(960 * 50).collect();
        deep_packets(&mut encoder, &loud);
        encoder.reset();
        let mut decoder = Decoder::new().unwrap();
        let mut out = [0.0; 960];
        let quiet: Vec<f32> = loud.iter().map(|sample| sample * 0.01).collect();
        let packets = deep_packets(&mut encoder, &quiet[..960 * 20]);
        assert!(decoder.described_samples(&packets[19]) > 9_600);
        for (number, packet) in packets.iter().enumerate() {
            // Latents come in pairs of 40 ms, of which the last may be part.
            let since = (number + 2) * 960;
            assert!(decoder.described_samples(packet) <= since + 960, "packet {number}");
            for before in 1..30 {
                decoder.reset();
                // Before its first packet a decoder makes no sound.
                decoder.decode(packet, &mut out).unwrap();
                if decoder.rebuild(packet, before * 960, &mut out) == Ok(true) {
                    assert!(energy(&out) < 1e-4, "packet {number}: {}", energy(&out));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_packets_end_in_an_error_or_in_sound(
            packets in vec(vec(any::<u8>(), 0..300), 1..20),
            room in 0..=FRAME_SAMPLES_MAX,
        ) {
            let mut decoder = Decoder::new().unwrap();
            let mut out = vec![0.0; room];
            for packet in packets {
                if let Ok(samples) = decoder.decode(&packet, &mut out) {
                    prop_assert!(samples <= room);
                    prop_assert!(out[..samples].iter().all(|sample| sample.is_finite()));
                }
            }
        }
    }
}
