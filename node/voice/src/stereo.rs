//! Both sides of music: carried as their mean and half their difference.
//!
//! All that is done to sound on its way is decided by the mean, as for a voice in mono, and done to
//! the difference as well. Added to the mean it is the left side, and taken from it the right one.

use super::{
    CodecError, SIDES,
    codec::{Decoder, FRAME_SAMPLES_MAX},
};

/// Decodes packets of two channels (RFC 6716 section 3.1) of one talker.
pub(super) struct StereoDecoder {
    decoder: Decoder,
    both: Box<[[f32; SIDES]; FRAME_SAMPLES_MAX]>,
}

impl StereoDecoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        let both = Box::new([[0.0; SIDES]; FRAME_SAMPLES_MAX]);
        Ok(Self { decoder: Decoder::stereo()?, both })
    }

    /// Decodes `packet` into the fronts of `mean` and `difference`, and returns the number of
    /// samples in each. Both must have room for a frame.
    pub(super) fn decode(
        &mut self,
        packet: &[u8],
        mean: &mut [f32],
        difference: &mut [f32],
    ) -> Result<usize, CodecError> {
        let samples = self.decoder.decode(packet, self.both.as_flattened_mut())?;
        self.split(&mut mean[..samples], &mut difference[..samples]);
        Ok(samples)
    }

    /// Fills both with sound that continues what was decoded.
    pub(super) fn conceal(
        &mut self,
        mean: &mut [f32],
        difference: &mut [f32],
    ) -> Result<(), CodecError> {
        self.decoder.conceal(self.both[..mean.len()].as_flattened_mut())?;
        self.split(mean, difference);
        Ok(())
    }

    pub(super) fn reset(&mut self) {
        self.decoder.reset();
    }

    fn split(&self, mean: &mut [f32], difference: &mut [f32]) {
        for ((mean, difference), [left, right]) in
            mean.iter_mut().zip(difference).zip(self.both.iter())
        {
            (*mean, *difference) = (0.5 * (left + right), 0.5 * (left - right));
        }
    }
}

/// Writes both sides of a sound in turn: those of each sample one after the other. A `difference`
/// that is shorter goes on with silence.
pub(super) fn interleave(mean: &[f32], difference: &[f32], out: &mut Vec<f32>) {
    out.clear();
    let differences = difference.iter().copied().chain(std::iter::repeat(0.0));
    out.extend(mean.iter().zip(differences).flat_map(|(mean, it)| [mean + it, mean - it]));
}

/// Whether a packet holds two channels.
pub(super) fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 4 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::Encoder, rate::Coding};

    fn tone(hertz: f32) -> Vec<f32> {
        let step = std::f32::consts::TAU * hertz / 48_000.0;
        (0..48_000).map(|n| 0.3 * (step * n as f32).sin()).collect()
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn each_side_comes_back_on_its_side() {
        let (left, right) = (tone(440.0), tone(3_000.0));
        let (mean, difference): (Vec<_>, Vec<_>) =
            left.iter().zip(&right).map(|(l, r)| (0.5 * (l + r), 0.5 * (l - r))).unzip();
        let mut encoder = Encoder::stereo(false, 48_000).unwrap();
        let coding = Coding {
            frame_samples: 480,
            bitrate_bps: 128_000,
            deep: false,
            music: true,
            stereo: true,
        };
        encoder.set_coding(coding).unwrap();
        let (mut decoder, mut both) = (StereoDecoder::new().unwrap(), Vec::new());
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        let mut hear = |mean: &[f32], difference: &[f32]| {
            lefts.extend(mean.iter().zip(difference).map(|(m, d)| m + d));
            rights.extend(mean.iter().zip(difference).map(|(m, d)| m - d));
        };
        let [mut m, mut d] = [[0.0; FRAME_SAMPLES_MAX]; 2];
        for (mean, difference) in mean.chunks(480).zip(difference.chunks(480)) {
            interleave(mean, difference, &mut both);
            let mut packet = Vec::new();
            encoder.encode(&both, &mut packet).unwrap();
            assert_eq!((packet.len(), is_stereo(&packet)), (160, true));
            assert_eq!(decoder.decode(&packet, &mut m, &mut d), Ok(480));
            hear(&m[..480], &d[..480]);
        }
        decoder.conceal(&mut m[..480], &mut d[..480]).unwrap();
        hear(&m[..480], &d[..480]);
        let lag = encoder.lookahead();
        for (heard, said) in [(&lefts, &left), (&rights, &right)] {
            let wrong: Vec<f32> = (9_600..40_000).map(|n| heard[n + lag] - said[n]).collect();
            assert!(power(&wrong) < power(said) / 300.0, "{} of {}", power(&wrong), power(said));
            assert!(power(&heard[48_000..]) > power(said) / 10.0, "a lost frame goes on");
        }
    }

    #[test]
    fn a_short_difference_is_silence() {
        let mut out = vec![9.0];
        interleave(&[0.5, 0.25, 0.125], &[0.25], &mut out);
        assert_eq!(out, [0.75, 0.25, 0.25, 0.25, 0.125, 0.125]);
    }
}
