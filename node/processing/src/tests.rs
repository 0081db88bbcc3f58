use std::path::Path;

use super::*;

/// Five seconds of shipped speech, at 48 kHz by interpolation, with pauses.
fn speech(clip: &str) -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/speech").join(clip);
    let mut reader = hound::WavReader::open(path).unwrap();
    let samples: Vec<f32> =
        reader.samples::<i16>().map(|it| f32::from(it.unwrap()) / 32_768.0).collect();
    let steps = samples.windows(2).flat_map(|it| {
        let step = (it[1] - it[0]) / 3.0;
        [it[0], it[0] + step, it[0] + 2.0 * step]
    });
    steps.chain([0.0; 24_000]).collect()
}

/// Noise with more low than high frequencies, like that of air.
fn noise(count: usize, amplitude: f32) -> Vec<f32> {
    let mut state = 9_u64;
    let mut low = 0.0;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        low += 0.1 * ((state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0 - low);
        amplitude * low
    };
    (0..count).map(next).collect()
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
}

/// What comes out of stages in these modes, with what is played meanwhile.
fn run(modes: Stages<StageMode>, captured: &[f32], played: &[f32]) -> (Vec<f32>, ProcessingState) {
    let mut processing = Processing::default();
    processing.set_modes(modes);
    let mut out = Vec::new();
    for (n, block) in captured.chunks(FRAME).enumerate() {
        let both: Vec<f32> =
            played.iter().skip(n * FRAME).take(FRAME).flat_map(|it| [*it, *it]).collect();
        processing.handle_playout(&both);
        out.extend_from_slice(processing.handle_capture(block));
    }
    (out, processing.state())
}

const AUTO: Stages<StageMode> =
    Stages { echo: StageMode::Auto, noise: StageMode::Auto, gain: StageMode::Auto };

#[test]
fn modes_read_back_as_written_and_others_are_refused() {
    for text in ["off", "on", "auto"] {
        assert_eq!(text.parse::<StageMode>().unwrap().to_string(), text);
    }
    let error = "On".parse::<StageMode>().unwrap_err();
    assert_eq!(error.to_string(), "`On` is no mode of a stage: use on, off or auto");
}

#[test]
fn a_stage_that_is_off_touches_nothing() {
    let mut processing = Processing::default();
    let samples = noise(1_000, 0.5);
    assert_eq!(processing.handle_capture(&samples).as_ptr(), samples.as_ptr());
    assert_eq!(processing.state(), ProcessingState::default());
}

#[test]
fn clean_speech_passes_automatic_stages_bit_for_bit() {
    let speech = speech("english.wav");
    let (out, state) = run(AUTO, &speech, &[]);
    assert_eq!(out, speech);
    assert_eq!((state.running, state.delay_ms), (Stages::default(), 0.0));
}

#[test]
fn automatic_stages_leave_music_alone() {
    let mut room = noise(300 * FRAME, 0.1);
    room.extend(speech("english.wav").iter().zip(noise(400_000, 0.1)).map(|(a, b)| a + b));
    room.truncate(room.len() / FRAME * FRAME);
    let mut processing = Processing::default();
    processing.set_modes(AUTO);
    processing.set_music(true);
    let out: Vec<f32> =
        room.chunks(FRAME).flat_map(|it| processing.handle_capture(it).to_vec()).collect();
    assert_eq!(out, room);
    // What a person has switched on is done all the same.
    processing.set_modes(Stages { noise: StageMode::On, ..AUTO });
    assert!(processing.state().running.noise);
    processing.set_modes(AUTO);
    processing.set_music(false);
    room.chunks(FRAME).for_each(|it| drop(processing.handle_capture(it).to_vec()));
    assert!(processing.state().running.noise, "it is speech in a noisy room");
}

#[test]
fn noise_near_the_speech_starts_the_suppressor_and_is_gone() {
    let mut sound = noise(3 * 48_000, 0.1);
    sound.extend(speech("english.wav").iter().zip(noise(400_000, 0.1)).map(|(a, b)| a + b));
    let (out, state) = run(AUTO, &sound, &[]);
    assert_eq!(state.running, Stages { noise: true, ..Stages::default() });
    assert_eq!(state.delay_ms, 10.0);
    let (before, after) = (power(&sound[96_000..144_000]), power(&out[96_000..144_000]));
    assert!(after < before / 30.0, "{after} of {before}");
    let (before, after) = (power(&sound[144_000..]), power(&out[144_000..]));
    assert!(after > before / 2.0, "the speech stays: {after} of {before}");
}

#[test]
fn a_loudspeaker_is_found_by_its_echo_and_cancelled() {
    let mut far = speech("english-2.wav");
    far.extend(speech("french.wav"));
    let echo: Vec<f32> =
        std::iter::repeat_n(0.0, 3_840).chain(far.iter().map(|it| 0.1 * it)).collect();
    let echo = &echo[..far.len()];
    let modes = Stages { echo: StageMode::Auto, ..Stages::default() };
    let (out, state) = run(modes, echo, &far);
    assert!(state.running.echo);
    let last = far.len() - 120_000;
    let last = last.min(out.len() - 48_000);
    let erle = 10.0 * (power(&echo[last..]) / power(&out[last.min(out.len())..])).log10();
    assert!(erle > 30.0, "{erle} dB");
    // Two people who talk at once are no echo.
    let (out, state) = run(modes, &speech("english.wav"), &far);
    assert!(!state.running.echo);
    assert_eq!(out, speech("english.wav"));
}

#[test]
fn a_quiet_talker_is_made_louder() {
    let quiet: Vec<f32> = [speech("english.wav"), speech("english-2.wav"), speech("french.wav")]
        .concat()
        .iter()
        .map(|it| 0.03 * it)
        .collect();
    let modes = Stages { gain: StageMode::Auto, ..Stages::default() };
    let (out, state) = run(modes, &quiet, &[]);
    assert!(state.running.gain);
    let last = quiet.len() - 192_000;
    let gain = 10.0 * (power(&out[last..]) / power(&quiet[last..])).log10();
    assert!((6.0..30.0).contains(&gain), "{gain} dB");
}

#[test]
fn the_delay_is_the_one_that_is_stated() {
    let speech = [speech("english.wav"), speech("english-2.wav")].concat();
    for (modes, slack) in [
        (Stages { noise: StageMode::On, ..Stages::default() }, 1),
        (Stages { echo: StageMode::On, ..Stages::default() }, 24),
        (Stages { gain: StageMode::On, ..Stages::default() }, 0),
    ] {
        let (out, state) = run(modes, &speech, &[]);
        let likeness = |delay: usize| -> f32 {
            speech[48_000..192_000].iter().zip(&out[48_000 + delay..]).map(|(a, b)| a * b).sum()
        };
        let best = (0..1_200).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap();
        let stated = (state.delay_ms * 48.0).round() as usize;
        assert!(best.abs_diff(stated) <= slack, "{best} samples, stated {stated}, {modes:?}");
    }
}

#[test]
fn blocks_of_any_length_come_out_alike() {
    let speech = &speech("english.wav")[..96_000];
    let modes = Stages { noise: StageMode::On, ..Stages::default() };
    let (whole, _) = run(modes, speech, &[]);
    let mut processing = Processing::default();
    processing.set_modes(modes);
    let mut out = Vec::new();
    for block in speech.chunks(317) {
        out.extend_from_slice(processing.handle_capture(block));
    }
    assert_eq!(out, whole);
}

/// Regression: a stage that was switched within a frame lost the part that was there, or had it
/// twice.
#[test]
fn stages_that_are_switched_within_a_frame_lose_and_repeat_nothing() {
    let off = Stages::default();
    let on = Stages { noise: StageMode::On, ..off };
    let mut processing = Processing::default();
    let (mut taken, mut given) = (0, 0);
    for (n, block) in speech("english.wav")[..96_000].chunks(317).enumerate() {
        if n % 5 == 0 {
            processing.set_modes([off, on, AUTO][n / 5 % 3]);
        }
        taken += block.len();
        given += processing.handle_capture(block).len();
        assert!(given <= taken && taken < given + FRAME, "{given} of {taken} in block {n}");
    }
    processing.set_modes(off);
    processing.handle_capture(&[0.0; FRAME]);
    assert_eq!(processing.handle_capture(&[0.25; 100]), [0.25; 100]);
}

/// Regression: the filter in front of the voice detector made more than full scale of it, and
/// builds with assertions stopped.
#[test]
fn a_microphone_that_clipped_stopped_the_voice_thread() {
    let clipped: Vec<f32> =
        (0..48_000).map(|at| if at / 40 % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let (out, _) = run(Stages::all(StageMode::Auto), &clipped, &[]);
    assert!(out.len() > 47_000 && out.iter().all(|sample| (-1.0..=1.0).contains(sample)));
}
