use hark_voice::{StageMode, Stages};
use proptest::prelude::*;

use super::*;

const REAL: RealDevices = RealDevices { microphone: true, loudspeaker: true };

fn home(folder: &Path) -> Arc<Home> {
    Arc::new(Home::open(folder, Box::new(|| None)).expect("a home"))
}

fn set(text: &str) -> ProcessingChange {
    serde_json::from_str(text).expect("JSON")
}

fn modes(command: &VoiceCommand) -> Stages<StageMode> {
    match command {
        VoiceCommand::SetProcessing(modes) => *modes,
        _ => panic!("no modes"),
    }
}

fn keep(sound: &Sound) {
    let write = sound.take_unkept().expect("something to keep");
    sound.handle_kept(write());
    assert_eq!(sound.trouble(), None);
}

#[test]
fn each_microphone_has_its_own_stages_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = Sound::open(home(folder.path()), REAL, ProcessingChange::default());
    assert_eq!(modes(&sound.set_microphone("Desk")), Stages::all(StageMode::Auto));
    let done = sound.change_processing(set(r#"{"noise": "on", "gain": "off"}"#)).expect("done");
    let desk = Stages { echo: StageMode::Auto, noise: StageMode::On, gain: StageMode::Off };
    assert_eq!(modes(&done), desk);
    keep(&sound);
    assert!(sound.take_unkept().is_none(), "nothing has changed since");
    assert_eq!(modes(&sound.set_microphone("USB \"Headset\"")), Stages::all(StageMode::Auto));
    sound.change_processing(set(r#"{"echo": "off"}"#)).expect("done");
    keep(&sound);

    let again = Sound::open(home(folder.path()), REAL, ProcessingChange::default());
    assert_eq!(modes(&again.set_microphone("Desk")), desk);
    let headset = Stages { echo: StageMode::Off, ..Stages::all(StageMode::Auto) };
    assert_eq!(modes(&again.set_microphone("USB \"Headset\"")), headset);
    // What is as usual takes no room in the file.
    again.change_processing(set(r#"{"echo": "auto"}"#)).expect("done");
    keep(&again);
    let text = std::fs::read_to_string(folder.path().join("sound.toml")).expect("kept");
    assert!(text.contains("Desk") && !text.contains("Headset"), "{text}");
}

#[test]
fn a_flag_holds_for_one_run_and_until_something_else_is_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let flag = set(r#"{"echo": "on", "noise": "off"}"#);
    let sound = Sound::open(home(folder.path()), REAL, flag);
    let begun = Stages { echo: StageMode::On, noise: StageMode::Off, gain: StageMode::Auto };
    assert_eq!(modes(&sound.set_microphone("Desk")), begun);
    let done = sound.change_processing(set(r#"{"noise": "auto"}"#)).expect("done");
    assert_eq!(modes(&done), Stages { noise: StageMode::Auto, ..begun });
    keep(&sound);
    let again = Sound::open(home(folder.path()), REAL, ProcessingChange::default());
    assert_eq!(modes(&again.set_microphone("Desk")), Stages::all(StageMode::Auto));
}

#[test]
fn recorded_sound_is_left_as_it_is_and_nothing_is_kept_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound =
        Sound::open(home(folder.path()), RealDevices::default(), ProcessingChange::default());
    let [processing, cues, side_tone] = sound.commands();
    assert_eq!(modes(&processing), Stages::default());
    assert!(matches!(cues, VoiceCommand::SetCues(it) if it == hark_voice::CueSettings::NONE));
    assert!(matches!(side_tone, VoiceCommand::SetSideTone(None)));
    let done = sound.change_processing(set(r#"{"noise": "on"}"#)).expect("for this run");
    assert_eq!(modes(&done), Stages { noise: StageMode::On, ..Stages::default() });
    sound.change_cues(CuesChange { key: Some(true), ..CuesChange::default() }).expect("done");
    sound.change_side_tone(Some(true), None).expect("done");
    assert!(sound.cues().key && sound.side_tone().on);
    assert!(sound.take_unkept().is_none());
}

#[test]
fn cues_and_the_side_tone_are_kept_and_nonsense_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = Sound::open(home(folder.path()), REAL, ProcessingChange::default());
    assert_eq!((sound.cues(), sound.side_tone()), Default::default());
    let change = CuesChange { people: Some(true), volume: Some(0.5), ..CuesChange::default() };
    sound.change_cues(change).expect("done");
    sound.change_side_tone(Some(true), Some(-20.0)).expect("done");
    keep(&sound);
    for volume in [-0.1, 4.1, f32::NAN] {
        let change = CuesChange { volume: Some(volume), ..CuesChange::default() };
        let error = sound.change_cues(change).err().expect("refused").to_string();
        assert!(error.starts_with("the volume of the cues is 0 to 4"), "{error}");
    }
    for decibels in [-41.0, 0.1, f32::INFINITY] {
        let error = sound.change_side_tone(None, Some(decibels)).err().expect("refused");
        assert!(error.to_string().starts_with("the side tone has -40 to 0 dB"), "{error}");
    }
    assert!(sound.change_cues(CuesChange::default()).is_err());
    assert!(sound.change_side_tone(None, None).is_err());
    assert!(sound.change_processing(ProcessingChange::default()).is_err());
    assert!(sound.take_unkept().is_none(), "what is refused changes nothing");
    let again = Sound::open(home(folder.path()), REAL, ProcessingChange::default());
    assert_eq!(again.cues(), CuesView { people: true, volume: 0.5, ..CuesView::default() });
    assert_eq!(again.side_tone(), SideToneView { on: true, decibels: -20.0 });
}

#[test]
fn a_file_that_means_nothing_is_said_and_not_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = home(folder.path());
    let path = folder.path().join("sound.toml");
    for (text, said) in [
        ("version = 9\n", "newer version"),
        ("version = 1\n\n[cues]\nbell = true\n", "line 4"),
        ("version = 1\n[side_tone]\ndecibels = 3.0\n", "-40 to 0 dB, not 3"),
        ("version = 1\n[microphones.Desk]\necho = \"loud\"\n", "line 3"),
    ] {
        std::fs::write(&path, text).expect("written");
        let sound = Sound::open(Arc::clone(&home), REAL, ProcessingChange::default());
        let trouble = sound.trouble().expect("said");
        assert!(trouble.contains(said) && trouble.contains("repair or remove it"), "{trouble}");
        sound.change_side_tone(Some(true), None).expect("for this run");
        assert!(sound.take_unkept().is_none());
        assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
    }
}

#[test]
fn microphones_have_a_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = Sound::open(home(folder.path()), REAL, ProcessingChange::default());
    let change = set(r#"{"echo": "on"}"#);
    for n in 0..MICROPHONES_MAX {
        sound.set_microphone(&format!("Desk {n}"));
        sound.change_processing(change).expect("room");
    }
    sound.set_microphone("one more");
    assert_eq!(sound.change_processing(change).err(), Some(SoundSettingError::TooMany));
    sound.set_microphone("Desk 0");
    sound.change_processing(change).expect("known");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in "\\PC*") {
        if let Err(line) = KeptSound::read(Path::new("sound.toml"), &text) {
            prop_assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn what_is_kept_reads_back(name in "\\PC{1,40}", on: bool, volume in 0.0_f32..=4.0) {
        let stages = KeptStages { echo: Some(ProcessingMode::On), ..KeptStages::default() };
        let kept = KeptSound {
            version: VERSION,
            cues: CuesView { key: on, volume, ..CuesView::default() },
            side_tone: SideToneView { on, decibels: -volume },
            microphones: BTreeMap::from([(name, stages)]),
        };
        prop_assert_eq!(KeptSound::read(Path::new("sound.toml"), &kept.to_text()), Ok(kept));
    }
}
