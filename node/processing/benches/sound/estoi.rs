//! ESTOI: how much of the speech can be understood (Jensen and Taal, "An Algorithm for Predicting
//! the Intelligibility of Speech Masked by Modulated Noise Maskers", 2016).

use std::f32::consts::PI;

/// Returns how much of `clean` can be understood in `heard`, 0 to 1. Both are at 48 kHz and
/// aligned.
pub(crate) fn estoi(clean: &[f32], heard: &[f32]) -> f32 {
    let length = clean.len().min(heard.len());
    let (clean, heard) = (resample(&clean[..length]), resample(&heard[..length]));
    let (clean, heard) = without_silence(&clean, &heard);
    let (clean, heard) = (bands(&clean), bands(&heard));
    let mut sum = 0.0;
    let mut count = 0;
    for from in 0..(clean.len() + 1).saturating_sub(SEGMENT) {
        let one = normalised(&clean[from..from + SEGMENT]);
        let other = normalised(&heard[from..from + SEGMENT]);
        let products = one.iter().flatten().zip(other.iter().flatten()).map(|(a, b)| a * b);
        sum += products.sum::<f32>() / SEGMENT as f32;
        count += 1;
    }
    sum / count.max(1) as f32
}

/// From 48 to 10 kHz, by a windowed sinc.
fn resample(samples: &[f32]) -> Vec<f32> {
    let half = 120_i64;
    let count = (samples.len() as f64 / 4.8) as usize;
    let at = |out: usize| {
        let centre = out as f64 * 4.8;
        let first = centre.floor() as i64 - half;
        (first..=first + 2 * half)
            .filter(|n| (0..samples.len() as i64).contains(n))
            .map(|n| {
                let x = (n as f64 - centre) / 4.8;
                let pi = std::f64::consts::PI;
                let sinc = if x.abs() < 1e-9 { 1.0 } else { (pi * x).sin() / (pi * x) };
                let window = 0.5 + 0.5 * (pi * (n as f64 - centre) / (half as f64 + 1.0)).cos();
                samples[n as usize] * (sinc * window / 4.8) as f32
            })
            .sum()
    };
    (0..count).map(at).collect()
}

/// Leaves out what is more than 40 dB quieter than the loudest part of the clean speech.
fn without_silence(clean: &[f32], heard: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let energy = |frame: &[f32]| frame.iter().map(|sample| sample * sample).sum::<f32>();
    let frames = || clean.chunks_exact(HOP).zip(heard.chunks_exact(HOP));
    let most = frames().map(|(clean, _)| energy(clean)).fold(0.0, f32::max);
    frames().filter(|(clean, _)| energy(clean) > most * 1e-4).fold(
        (Vec::new(), Vec::new()),
        |(mut one, mut other), (clean, heard)| {
            one.extend_from_slice(clean);
            other.extend_from_slice(heard);
            (one, other)
        },
    )
}

/// Amplitude in each third of an octave from 150 Hz, for each frame.
fn bands(samples: &[f32]) -> Vec<[f32; BANDS]> {
    let window: Vec<f32> = (0..WINDOW)
        .map(|n| 0.5 - 0.5 * (2.0 * PI * (n + 1) as f32 / (WINDOW + 1) as f32).cos())
        .collect();
    let (sines, cosines): (Vec<f32>, Vec<f32>) =
        (0..FFT).map(|n| (2.0 * PI * n as f32 / FFT as f32).sin_cos()).unzip();
    let edges: [(usize, usize); BANDS] = std::array::from_fn(|band| {
        let centre = 150.0 * 2_f32.powf(band as f32 / 3.0);
        let bin = |hertz: f32| (hertz * FFT as f32 / 10_000.0).round() as usize;
        (bin(centre * 2_f32.powf(-1.0 / 6.0)), bin(centre * 2_f32.powf(1.0 / 6.0)))
    });
    let mut out = Vec::new();
    for from in (0..samples.len().saturating_sub(WINDOW)).step_by(HOP) {
        let frame: Vec<f32> =
            samples[from..from + WINDOW].iter().zip(&window).map(|(a, b)| a * b).collect();
        let energy = |bin: usize| {
            let turn = |n: usize| n * bin % FFT;
            let real: f32 = frame.iter().enumerate().map(|(n, it)| it * cosines[turn(n)]).sum();
            let imaginary: f32 = frame.iter().enumerate().map(|(n, it)| it * sines[turn(n)]).sum();
            real * real + imaginary * imaginary
        };
        out.push(edges.map(|(low, high)| (low..high).map(energy).sum::<f32>().sqrt()));
    }
    out
}

/// Each band over time, then all bands of each frame, with mean 0 and length 1.
fn normalised(segment: &[[f32; BANDS]]) -> Vec<[f32; BANDS]> {
    let mut out = segment.to_vec();
    for band in 0..BANDS {
        let mut row: Vec<f32> = out.iter().map(|frame| frame[band]).collect();
        centre(&mut row);
        out.iter_mut().zip(row).for_each(|(frame, value)| frame[band] = value);
    }
    out.iter_mut().for_each(|frame| centre(frame));
    out
}

fn centre(values: &mut [f32]) {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    values.iter_mut().for_each(|value| *value -= mean);
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt() + 1e-12;
    values.iter_mut().for_each(|value| *value /= length);
}

const BANDS: usize = 15;
const SEGMENT: usize = 30;
const WINDOW: usize = 256;
const HOP: usize = 128;
const FFT: usize = 512;
