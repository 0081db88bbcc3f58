//! Judges what the stages before the encoder do to speech in noise and with echo. It needs no
//! network and no sound card.
//!
//! `cargo bench -p hark-processing --bench sound [-- FOLDER]`
//!
//! Clean speech is what Hark ships, or the WAV files (48 or 16 kHz, mono, 16 bit) in `FOLDER`.
//! Noises are generated: a fan, a keyboard, other people who talk. ESTOI tells how much can be
//! understood, 0 to 1 (Jensen and Taal, 2016).

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use hark_processing::{FRAME, Processing, StageMode, Stages};

#[path = "sound/estoi.rs"]
mod estoi;
#[path = "sound/scenes.rs"]
mod scenes;

use estoi::estoi;
use scenes::{Noise, add, babble, fan, keyboard, load, room};

fn main() {
    let folder = std::env::args().skip(1).find(|it| !it.starts_with('-')).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/speech"),
        PathBuf::from,
    );
    let (speech, others) = load(&folder);
    let on = StageMode::On;
    let settings = [
        ("off", Stages::default()),
        ("noise on", Stages { noise: on, ..Stages::default() }),
        ("gain on", Stages { gain: on, ..Stages::default() }),
        ("echo on", Stages { echo: on, ..Stages::default() }),
        ("all on", Stages { echo: on, noise: on, gain: on }),
        ("auto", Stages { echo: StageMode::Auto, noise: StageMode::Auto, gain: StageMode::Auto }),
    ];
    let noises: [(&str, Option<Noise>); 4] = [
        ("quiet", None),
        ("fan", Some(fan)),
        ("keyboard", Some(keyboard)),
        ("babble", Some(babble)),
    ];
    println!("speech with noise 8 dB below it; ESTOI, and what ran at the end");
    println!("{:<10}{:<10}{:>7}{:>9}{:>9}  running", "noise", "stages", "ESTOI", "level", "core %");
    for (name, noise) in noises {
        let noisy = noise.map_or_else(|| speech.clone(), |make| add(&speech, &make(&others), 8.0));
        for (stages, modes) in settings {
            let run = Run::of(modes, &noisy, &vec![0.0; noisy.len()], true);
            run.show(name, stages, &speech);
        }
    }
    println!();
    println!("the far end alone, 20 dB quieter and 80 ms later at the microphone");
    println!("{:<10}{:>12}{:>12}{:>12}", "stages", "2 to 4 s", "4 to 8 s", "8 s and on");
    let echo = room(&others);
    for (stages, modes) in settings {
        let run = Run::of(modes, &echo, &others, false);
        let erle = |from: usize, to: usize| {
            let to = to.min(run.out.len());
            let before = power(&echo[from.min(to)..to]);
            10.0 * (before / power(&run.out[from.min(to)..to]).max(1e-12)).log10()
        };
        let second = 48_000;
        let cells = [(2, 4), (4, 8), (8, 60)].map(|(from, to)| erle(from * second, to * second));
        println!("{stages:<10}{:>9.1} dB{:>9.1} dB{:>9.1} dB", cells[0], cells[1], cells[2]);
    }
    println!();
    println!("both ends talk; ESTOI of the near one");
    println!("{:<10}{:>10}{:>10}", "stages", "at 20 dB", "at 0 dB");
    for (stages, modes) in settings {
        let cells = [1.0, 10.0].map(|gain| {
            let echo: Vec<f32> = echo.iter().map(|sample| sample * gain).collect();
            let both: Vec<f32> = speech.iter().zip(&echo).map(|(one, other)| one + other).collect();
            let run = Run::of(modes, &both, &others, true);
            estoi(&speech, &run.aligned())
        });
        println!("{stages:<10}{:>10.3}{:>10.3}", cells[0], cells[1]);
    }
}

struct Run {
    out: Vec<f32>,
    delay: usize,
    running: Stages<bool>,
    share: f64,
}

impl Run {
    /// Processes the scene, after the stages have heard it once already if they are `settled`.
    fn of(modes: Stages<StageMode>, captured: &[f32], played: &[f32], settled: bool) -> Self {
        let mut processing = Processing::default();
        processing.set_modes(modes);
        if settled {
            Self::pass(&mut processing, captured, played);
        }
        Self::pass(&mut processing, captured, played)
    }

    fn pass(processing: &mut Processing, captured: &[f32], played: &[f32]) -> Self {
        let mut out = Vec::with_capacity(captured.len());
        let begun = Instant::now();
        for (captured, played) in captured.chunks(FRAME).zip(played.chunks(FRAME)) {
            let both: Vec<f32> = played.iter().flat_map(|sample| [*sample, *sample]).collect();
            processing.handle_playout(&both);
            out.extend_from_slice(processing.handle_capture(captured));
        }
        let share = begun.elapsed().as_secs_f64() / (captured.len() as f64 / 48_000.0);
        let state = processing.state();
        let delay = (state.delay_ms * 48.0).round() as usize;
        Self { out, delay, running: state.running, share }
    }

    /// The sound as if the stages had no delay.
    fn aligned(&self) -> Vec<f32> {
        self.out[self.delay..].to_vec()
    }

    fn show(&self, noise: &str, stages: &str, clean: &[f32]) {
        let heard = self.aligned();
        let quality = estoi(clean, &heard);
        let level = 10.0 * power(&heard).log10();
        let Stages { echo, noise: suppressed, gain } = self.running;
        let ran = [(echo, "echo"), (suppressed, "noise"), (gain, "gain")];
        let ran: Vec<_> = ran.iter().filter(|it| it.0).map(|it| it.1).collect();
        let share = 100.0 * self.share;
        let ran = ran.join(", ");
        println!("{noise:<10}{stages:<10}{quality:>7.3}{level:>6.1} dB{share:>9.2}  {ran}");
    }
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}
