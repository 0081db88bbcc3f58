//! Speech, noises and a room, all generated from a seed or from the speech that is shipped.

use std::{f32::consts::PI, path::Path};

use hark_processing::FRAME;

/// Makes a noise as long as the speech of others that it is given.
pub(crate) type Noise = fn(&[f32]) -> Vec<f32>;

/// Returns the speech of the near end and that of the far end, equally long, at -23 dBFS.
pub(crate) fn load(folder: &Path) -> (Vec<f32>, Vec<f32>) {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "wav"))
        .collect();
    files.sort();
    assert!(files.len() > 1, "{} holds fewer than two WAV files", folder.display());
    let clips: Vec<Vec<f32>> = files.iter().map(|path| read(path)).collect();
    let all = |from: usize| {
        let clips = (0..clips.len()).map(|n| &clips[(n + from) % clips.len()]);
        let mut speech: Vec<f32> =
            clips.flat_map(|clip| clip.iter().copied().chain([0.0; 24_000])).collect();
        speech.truncate(speech.len() / FRAME * FRAME);
        let level = rms(&speech);
        speech.iter_mut().for_each(|sample| *sample *= 0.07 / level);
        speech
    };
    (all(0), all(2))
}

fn read(path: &Path) -> Vec<f32> {
    let mut reader = hound::WavReader::open(path).expect("a WAV file");
    let rate = reader.spec().sample_rate;
    assert!(matches!(rate, 16_000 | 48_000), "{} has {rate} Hz", path.display());
    let samples: Vec<f32> = reader
        .samples::<i16>()
        .map(|sample| f32::from(sample.expect("16-bit samples")) / 32_768.0)
        .collect();
    if rate == 48_000 {
        return samples;
    }
    // Three times as many, by a windowed sinc.
    let tap = |n: i64| {
        let x = n as f32 / 3.0;
        let sinc = if n == 0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        sinc * (0.5 + 0.5 * (PI * n as f32 / 49.0).cos())
    };
    let at = |out: i64| {
        (-16..=16)
            .map(|near| out.div_euclid(3) + near)
            .filter_map(|n| Some(samples.get(usize::try_from(n).ok()?)? * tap(out - 3 * n)))
            .sum()
    };
    (0..3 * samples.len() as i64).map(at).collect()
}

/// Adds `noise` so that it is `decibels` quieter than `speech`.
pub(crate) fn add(speech: &[f32], noise: &[f32], decibels: f32) -> Vec<f32> {
    let gain = rms(speech) / rms(noise) * 10_f32.powf(-decibels / 20.0);
    speech.iter().zip(noise).map(|(speech, noise)| speech + gain * noise).collect()
}

/// Air, and the hum of a motor.
pub(crate) fn fan(others: &[f32]) -> Vec<f32> {
    let mut random = Random(7);
    let mut low = 0.0;
    (0..others.len())
        .map(|n| {
            low += 0.03 * (random.next() - low);
            let hum = |hertz: f32| (2.0 * PI * hertz * n as f32 / 48_000.0).sin();
            low + 0.01 * random.next() + 0.03 * hum(118.0) + 0.02 * hum(236.0)
        })
        .collect()
}

/// Keys that are struck some eight times a second, over a little noise of the room.
pub(crate) fn keyboard(others: &[f32]) -> Vec<f32> {
    let mut random = Random(11);
    let mut out: Vec<f32> = (0..others.len()).map(|_| 0.002 * random.next()).collect();
    let mut at = 2_000;
    while at + 3_000 < out.len() {
        let (strength, hertz) = (0.5 + 0.5 * random.next().abs(), 1_800.0 + 900.0 * random.next());
        // The key goes down, and comes up again more quietly.
        for (from, strength) in [(at, strength), (at + 1_900, 0.4 * strength)] {
            for n in 0..1_000 {
                let ring = (2.0 * PI * hertz * n as f32 / 48_000.0).sin();
                let fall = (-(n as f32) / 150.0).exp();
                out[from + n] += strength * fall * (0.6 * random.next() + 0.4 * ring);
            }
        }
        at += 4_000 + (4_000.0 * random.next().abs()) as usize;
    }
    out
}

/// Eight people who talk at once.
pub(crate) fn babble(others: &[f32]) -> Vec<f32> {
    let length = others.len();
    (0..length).map(|n| (1..9).map(|person| others[(n + person * 77_777) % length]).sum()).collect()
}

/// What a microphone 80 ms away hears of a loudspeaker: 20 dB quieter, with the echoes of a small
/// room that fade within 100 ms, and a loudspeaker that clips softly.
pub(crate) fn room(played: &[f32]) -> Vec<f32> {
    let mut random = Random(3);
    let taps: Vec<f32> = (0..4_800)
        .map(|n| if n == 0 { 1.0 } else { 0.06 * random.next() * (-(n as f32) / 900.0).exp() })
        .collect();
    let taps: Vec<(usize, f32)> =
        taps.into_iter().enumerate().filter(|(n, _)| n % 7 == 0).collect();
    let clipped: Vec<f32> = played.iter().map(|sample| (2.0 * sample).tanh() / 2.0).collect();
    let mut out = vec![0.0; played.len()];
    for (n, out) in out.iter_mut().enumerate().skip(3_840) {
        let from = n - 3_840;
        *out =
            taps.iter().take_while(|it| it.0 <= from).map(|it| it.1 * clipped[from - it.0]).sum();
    }
    let gain = 0.1 * rms(played) / rms(&out);
    out.iter_mut().for_each(|sample| *sample *= gain);
    out
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
}

/// Numbers between -1 and 1 (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}
