//! Members talk through sound cards: PulseAudio's null sinks, whose monitors are heard.
//!
//! A test speaks into a "microphone" by playing into its sink, and records what a "loudspeaker"
//! plays from the monitor of its sink. Without PulseAudio's programs each test says so and passes.

#![cfg(target_os = "linux")]

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use hark_node::{
    clock::Clock,
    measure::{Recording, delays, percentile},
};
use hark_tests::{Event, Member, Scene, Talk, speech};
use hark_voice::{SAMPLE_RATE, level_dbfs};
use tempfile::TempDir;

/// Speech into one member's microphone comes out of the other's loudspeaker with a short delay,
/// both ways at once, whatever the cards' rates and channels are.
#[test]
fn speech_goes_from_microphones_to_loudspeakers() {
    let Some(studio) = Studio::open() else { return };
    studio.card("mouth_a", 48_000, 1);
    studio.card("ear_a", 44_100, 2);
    studio.card("mouth_b", 44_100, 2);
    studio.card("ear_b", 48_000, 1);
    let scene = Scene::default();
    let member = |name| studio.equip(scene.talk(name));
    let kestrel = member("Kestrel").input("mic:mouth_a.monitor").output("speaker:ear_a").start();
    let magpie = member("Magpie").ticket(&kestrel.ticket());
    let magpie = magpie.input("mic:mouth_b.monitor").output("speaker:ear_b").start();
    kestrel.is_among(&[&magpie]);
    magpie.is_among(&[&kestrel]);

    let [spoken_a, heard_a, spoken_b, heard_b] =
        ["mouth_a", "ear_a", "mouth_b", "ear_b"].map(|card| studio.record(card));
    thread::scope(|scope| {
        scope.spawn(|| (0..4).for_each(|_| studio.play("mouth_a", &speech("english"))));
        scope.spawn(|| (0..4).for_each(|_| studio.play("mouth_b", &speech("french"))));
    });
    heard_a.wait_for(SAMPLE_RATE as usize / 2);
    heard_b.wait_for(SAMPLE_RATE as usize / 2);
    let [spoken_a, heard_a, spoken_b, heard_b] =
        [spoken_a, heard_a, spoken_b, heard_b].map(Recorder::stop);

    for (spoken, heard) in [(&spoken_a, &heard_b), (&spoken_b, &heard_a)] {
        let mut found = delays(spoken, heard);
        found.sort_by(f64::total_cmp);
        let median = percentile(&found, 50.0).unwrap_or(f64::INFINITY);
        println!("mouth to ear: median {median:.1} ms of {} windows", found.len());
        assert!(found.len() >= WINDOWS_MIN, "the same speech: {found:?}");
        assert!(median <= MOUTH_TO_EAR_MAX_MS, "{found:?}");
    }
    for (spoken, heard) in [(&spoken_a, &heard_a), (&spoken_b, &heard_b)] {
        assert!(delays(spoken, heard).len() < 4, "nobody hears themselves");
    }
}

/// Only the talker hears the cues at the start and end of its own transmission. There are no cues
/// if the sound comes from anything but a microphone.
#[test]
fn cues_are_for_oneself() {
    let Some(studio) = Studio::open() else { return };
    for card in ["mouth", "ear_a", "ear_b"] {
        studio.card(card, 48_000, 1);
    }
    let scene = Scene::default();
    let member = |name| studio.equip(scene.talk(name)).transmit("ptt");
    let kestrel = member("Kestrel").input("mic:mouth.monitor").output("speaker:ear_a").start();
    let magpie = member("Magpie").ticket(&kestrel.ticket()).output("speaker:ear_b").start();
    kestrel.is_among(&[&magpie]);
    magpie.is_among(&[&kestrel]);

    for (talker, with_cue) in [(&kestrel, true), (&magpie, false)] {
        let recorders = ["ear_a", "ear_b"].map(|card| studio.record(card));
        for (command, event) in [("down", "talk_started"), ("up", "talk_ended")] {
            let seen = [&kestrel, &magpie].map(|member| member.events().len());
            talker.ctl(&["ptt", command]);
            for (member, seen) in [&kestrel, &magpie].into_iter().zip(seen) {
                let about = talker.device();
                member.wait_after(seen, event, |it| it.is(event) && it.is_about(&about));
            }
            recorders.iter().for_each(|recorder| recorder.wait_for(SAMPLE_RATE as usize / 4));
        }
        let [own, other] = recorders.map(|recorder| bursts(&recorder.stop().samples));
        assert_eq!((own, other), (if with_cue { 2 } else { 0 }, 0));
    }
}

/// A card that is unplugged is replaced by silence until it is plugged in again, without anybody
/// doing anything.
#[test]
fn cards_are_unplugged_and_come_back() {
    let Some(studio) = Studio::open() else { return };
    let module = studio.card("mouth", 48_000, 2);
    let scene = Scene::default();
    let (kestrel, magpie) = pair(&studio, &scene, "mic:mouth.monitor", "speaker:ear");
    studio.hears("ear");

    let told = |member: &Member, seen: usize, direction: &'static str, available: bool| {
        let is = |event: &Event| {
            event.is("audio_device")
                && event["direction"] == direction
                && event["available"] == available
        };
        member.wait_after(seen, "audio_device", is).text("detail").to_owned()
    };
    let seen = magpie.events().len();
    studio.pactl(&["unload-module", &studio.module("ear")]);
    let lost = told(&magpie, seen, "output", false);
    assert_eq!(lost, "the speaker ear is not used now: it was unplugged");
    studio.pactl(&["unload-module", &module]);
    let lost = told(&magpie, seen, "input", false);
    assert_eq!(lost, "the microphone Monitor of mouth is not used now: it was unplugged");
    // Both continue without the card: Magpie is still informed that Kestrel talks, and sends
    // silence.
    let frames = (magpie.received(&kestrel), kestrel.received(&magpie));
    magpie.receives(&kestrel, frames.0 + 100);
    kestrel.receives(&magpie, frames.1 + 100);

    let seen = magpie.events().len();
    studio.card("ear", 48_000, 2);
    studio.card("mouth", 48_000, 2);
    assert_eq!(told(&magpie, seen, "output", true), "the speaker is ear");
    assert_eq!(told(&magpie, seen, "input", true), "the microphone is Monitor of mouth");
    studio.hears("ear");
    let spoken = studio.record("mouth");
    studio.play("mouth", &speech("french"));
    assert!(level_dbfs(&spoken.stop().samples) > LOUD_DBFS, "the new microphone is spoken into");
}

/// A member that names no card gets the default card, even after the default changes.
#[test]
fn the_default_card_changes() {
    let Some(studio) = Studio::open() else { return };
    let scene = Scene::default();
    studio.card("mouth", 44_100, 1);
    studio.pactl(&["set-default-source", "mouth.monitor"]);
    let (_kestrel, magpie) = pair(&studio, &scene, "mic", "speaker");
    studio.hears("ear");
    studio.card("other", 44_100, 2);
    let seen = magpie.events().len();
    studio.pactl(&["set-default-sink", "other"]);
    let told = magpie.wait_after(seen, "lost", |event| event.is("audio_device"));
    let lost = "the speaker ear is not used now: other has become the default";
    assert_eq!((told.text("detail"), &told["available"]), (lost, &false.into()));
    let found = |event: &Event| event.is("audio_device") && event["available"] == true;
    let told = magpie.wait_after(seen, "found", found);
    assert_eq!(told.text("detail"), "the speaker is other");
    studio.hears("other");

    let seen = magpie.events().len();
    studio.pactl(&["set-default-source", "other.monitor"]);
    let told = magpie.wait_after(seen, "found", found);
    assert_eq!(told.text("detail"), "the microphone is Monitor of other");
}

/// When the sound server ends, the sound ends; when it is started again, the sound returns.
#[test]
fn the_sound_server_is_restarted() {
    let Some(mut studio) = Studio::open() else { return };
    let scene = Scene::default();
    let (_kestrel, magpie) = pair(&studio, &scene, "silence", "speaker");
    studio.hears("ear");
    let seen = magpie.events().len();
    studio.restart();
    studio.card("ear", 48_000, 2);
    let is = |available: bool| {
        move |event: &Event| event.is("audio_device") && event["available"] == available
    };
    let lost = magpie.wait_after(seen, "lost", is(false));
    assert!(lost.text("detail").contains("the sound system is gone"), "{lost:?}");
    assert_eq!(magpie.wait_after(seen, "found", is(true)).text("detail"), "the speaker is ear");
    studio.hears("ear");
}

/// If a card does not exist, one line says so and lists those that do.
#[test]
fn cards_that_are_not_there() {
    let Some(studio) = Studio::open() else { return };
    let scene = Scene::default();
    let talk = || studio.equip(scene.talk("Kestrel"));
    let complaint = |talk: Talk| talk.outcome().complaint().to_owned();
    assert_eq!(
        complaint(talk().input("mic")),
        "there is no microphone: connect one, or use --input silence or --input file:PATH"
    );
    assert_eq!(
        complaint(talk().output("speaker")),
        "there is no speaker: connect one, or use --output null or --output file:PATH"
    );
    studio.card("desk", 48_000, 2);
    studio.card("head", 48_000, 2);
    assert_eq!(
        complaint(talk().input("mic:nosuch")),
        "no microphone is called `nosuch`: there is `Monitor of desk`, `Monitor of head`"
    );
    assert_eq!(
        complaint(talk().output("speaker:nosuch")),
        "no speaker is called `nosuch`: there is `desk`, `head`"
    );
}

/// Kestrel, who speaks from a file all the time, and Magpie, who has this input and output and the
/// default speaker `ear`.
fn pair(studio: &Studio, scene: &Scene, input: &str, output: &str) -> (Member, Member) {
    studio.card("ear", 48_000, 2);
    studio.pactl(&["set-default-sink", "ear"]);
    let speech = format!("file:{}?loop", speech("english").display());
    let kestrel = scene.talk("Kestrel").input(&speech).output("null").start();
    let magpie = studio.equip(scene.talk("Magpie")).ticket(&kestrel.ticket());
    let magpie = magpie.input(input).output(output).start();
    kestrel.is_among(&[&magpie]);
    magpie.is_among(&[&kestrel]);
    (kestrel, magpie)
}

/// The number of separate sounds.
fn bursts(samples: &[f32]) -> usize {
    let loud: Vec<bool> = samples.chunks(480).map(|block| level_dbfs(block) > LOUD_DBFS).collect();
    loud.windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

/// A sound server of its own, without a card at first.
struct Studio {
    folder: TempDir,
    server: Child,
}

impl Studio {
    fn open() -> Option<Self> {
        let missing = ["pulseaudio", "pactl", "paplay", "parec"].iter().find(|program| {
            let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            !version.is_ok_and(|status| status.success())
        });
        if let Some(program) = missing {
            println!("skipped: there is no {program}");
            return None;
        }
        let folder = TempDir::new().expect("a folder for the server");
        let server = Self::serve(folder.path());
        Some(Self { folder, server })
    }

    /// Restarts the server, without a card.
    fn restart(&mut self) {
        self.server.kill().expect("it runs");
        self.server.wait().expect("it ends");
        self.server = Self::serve(self.folder.path());
    }

    fn serve(folder: &Path) -> Child {
        let socket = folder.join("native");
        let mut server = at_home(Command::new("pulseaudio"), folder)
            .args(["-n", "-v", "--daemonize=no", "--system=false", "--use-pid-file=no"])
            .args(["--exit-idle-time=-1", "--log-target=stderr"])
            .arg(format!("--load=module-native-protocol-unix socket={}", socket.display()))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut log = BufReader::new(server.stderr.take().expect("its log is piped"));
        let mut line = String::new();
        while !line.contains("Daemon startup complete") {
            line.clear();
            assert!(log.read_line(&mut line).is_ok_and(|read| read > 0), "the server has ended");
        }
        // Nobody reads the rest, and the server must not block because of that.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        server
    }

    /// Plugs in a card: a sink, whose monitor is a source. Returns its module.
    fn card(&self, name: &str, rate: u32, channels: u8) -> String {
        let (rate, channels) = (format!("rate={rate}"), format!("channels={channels}"));
        let (sink, shown) =
            (format!("sink_name={name}"), format!("sink_properties=device.description={name}"));
        self.pactl(&["load-module", "module-null-sink", &sink, &shown, &rate, &channels])
            .trim()
            .to_owned()
    }

    /// The module of a card.
    fn module(&self, name: &str) -> String {
        let modules = self.pactl(&["list", "short", "modules"]);
        let line = modules.lines().find(|line| line.contains(&format!("sink_name={name} ")));
        line.and_then(|line| line.split('\t').next()).expect("it is plugged in").to_owned()
    }

    fn pactl(&self, arguments: &[&str]) -> String {
        let output = self.client("pactl").args(arguments).output().expect("pactl starts");
        assert!(output.status.success(), "pactl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Gives a member the sound cards of this studio.
    fn equip(&self, talk: Talk) -> Talk {
        talk.environment("PULSE_SERVER", &self.address())
            .environment("PULSE_COOKIE", &self.cookie())
    }

    /// Plays a file to its end.
    fn play(&self, card: &str, file: &Path) {
        let mut play = self.client("paplay");
        // The latency is not so short that the card's period would be shorter than Hark requests.
        let status = play.args(["-d", card, "--latency-msec=100"]).arg(file).status();
        assert!(status.is_ok_and(|status| status.success()), "{play:?}");
    }

    /// Starts to record what a card plays.
    fn record(&self, card: &str) -> Recorder {
        let mut record = self.client("parec");
        record.args(["--raw", "--format=float32le", "--rate=48000", "--channels=1"]);
        record.args(["--latency-msec=10", "-d", &format!("{card}.monitor")]);
        let recorder = record.stdout(Stdio::piped()).spawn().expect("parec starts");
        let recorder = Recorder::follow(recorder);
        recorder.wait_for(1);
        recorder
    }

    /// Waits until a sound can be heard.
    fn hears(&self, card: &str) {
        let recorder = self.record(card);
        recorder.wait(|samples| {
            let latest = &samples[samples.len().saturating_sub(SAMPLE_RATE as usize / 2)..];
            level_dbfs(latest) > LOUD_DBFS
        });
    }

    fn client(&self, program: &str) -> Command {
        let mut command = at_home(Command::new(program), self.folder.path());
        command.env("PULSE_SERVER", self.address());
        command
    }

    /// The cookie that proves that we may use the server.
    fn cookie(&self) -> String {
        self.folder.path().join(".config/pulse/cookie").display().to_string()
    }

    fn address(&self) -> String {
        format!("unix:{}", self.folder.path().join("native").display())
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        // The server holds nothing worth saving.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Everything that PulseAudio stores is stored in this folder.
fn at_home(mut command: Command, folder: &Path) -> Command {
    for variable in ["HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH"] {
        command.env(variable, folder);
    }
    for variable in ["PULSE_SERVER", "PULSE_SINK", "PULSE_SOURCE"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// A recording in progress.
struct Recorder {
    program: Child,
    heard: Arc<(Mutex<Recording>, Condvar)>,
}

impl Recorder {
    fn follow(mut program: Child) -> Self {
        let mut sound = program.stdout.take().expect("sound is piped");
        let empty = Recording { samples: Vec::new(), start_ns: u64::MAX };
        let heard = Arc::new((Mutex::new(empty), Condvar::new()));
        let recorded = heard.clone();
        thread::spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 16_384]);
            while let Ok(read @ 1..) = sound.read(&mut buffer) {
                let now_ns = Clock.monotonic_ns(Clock.now());
                bytes.extend_from_slice(&buffer[..read]);
                let mut recording = recorded.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (samples, rest) = bytes.as_chunks();
                recording.samples.extend(samples.iter().copied().map(f32::from_le_bytes));
                bytes = rest.to_vec();
                // No sample arrives before it is heard, so the earliest estimate gives the time of
                // the first sample.
                let length_ns = recording.samples.len() as u64 * 62_500 / 3;
                recording.start_ns = recording.start_ns.min(now_ns - length_ns.min(now_ns));
                recorded.1.notify_all();
            }
        });
        Self { program, heard }
    }

    /// Waits until `more` further samples have arrived.
    fn wait_for(&self, more: usize) {
        let length = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).samples.len();
        self.wait(|samples| samples.len() >= length + more);
    }

    fn wait(&self, is_there: impl Fn(&[f32]) -> bool) {
        let heard = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.heard.1.wait_timeout_while(heard, PATIENCE, |heard| !is_there(&heard.samples));
        assert!(!waited.expect("not poisoned").1.timed_out(), "nothing is heard");
    }

    fn stop(self) -> Recording {
        self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// How long anything may take. Only something that never happens takes so long.
const PATIENCE: Duration = Duration::from_secs(40);
/// How many windows of a second must be found again, of some forty.
const WINDOWS_MIN: usize = 20;
/// The goal is 75 ms, and the test prints the actual value. A value above this limit is no longer a
/// busy machine, but a queue that fills up.
const MOUTH_TO_EAR_MAX_MS: f64 = 400.0;
/// Anything softer is silence: cues and speech are louder, dither and comfort noise softer.
const LOUD_DBFS: f32 = -50.0;
