//! The whole program: what it takes while nothing happens, how soon it is there, and how soon a key
//! talks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value;

use super::{screen::Screen, wire::Capture};
use crate::{
    node::unix_us,
    quantile::{median, quantile},
    table::Table,
};

/// Compares a busy window with an empty one that is drawn as often.
pub(super) fn measure_drawing(table: &mut Table) -> anyhow::Result<()> {
    let mut share = Vec::new();
    for what in ["cleared", "empty", "busy"] {
        let screen = Screen::open()?;
        let child = Running::start(
            Command::new(std::env::current_exe()?).args(["child", what]),
            &screen.display,
        )?;
        // The empty window is dark: there is nothing to wait for.
        std::thread::sleep(SETTLE);
        share.push(child.share()?);
    }
    let name = "busy window, 1920x1080, 20 frames a second: share of a core";
    let told = format!("an empty panel {:.1} %, nothing {:.1} %", share[1], share[0]);
    table.shown(name, share[2], "%", &told);
    table.held("the same against an empty panel", share[2] / share[1], "", 1.3);
    let remark = "what is drawn on the processor costs by its area";
    table.shown("the same against a window that is only cleared", share[2] / share[0], "", remark);
    Ok(())
}

pub(super) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place { folder: folder.path().to_owned() };
    let screen = Screen::open()?;
    place.hark(&["new", "Meridian", "--home", &place.home("Kestrel")])?;
    fs::write(folder.path().join("Kestrel/window.toml"), SETTINGS)?;

    // Alone, in the terminal and in a window.
    let talk = place.talk("Kestrel", &[], "silence", &screen.display)?;
    std::thread::sleep(SETTLE);
    let (alone, alone_memory) = (talk.share()?, talk.memory()?);
    place.hark(&["ctl", "--home", &place.home("Kestrel"), "transmit", "ptt"])?;
    drop(talk);
    let window = place.window("silence", &screen.display)?;
    screen.drawn()?;
    std::thread::sleep(SETTLE);
    let (shown, shown_memory) = (window.share()?, window.memory()?);
    drop(window);
    let name = "idle window with its node, above `hark talk`: share of a core";
    table.held(name, shown - alone, "%", 1.5);
    table.shown("idle `hark talk`", alone, "%", "");
    let mut empty = Command::new(std::env::current_exe()?);
    let empty = Running::start(empty.args(["child", "empty"]), &screen.display)?;
    std::thread::sleep(SETTLE);
    let empty_memory = empty.memory()?;
    drop(empty);
    let name = "memory of window and node, without `hark talk` and an empty window";
    table.held(name, shown_memory - alone_memory - empty_memory, "MiB", 60.0);
    let told = format!("`hark talk` {alone_memory:.0}, empty window {empty_memory:.0}");
    table.shown("memory of window and node", shown_memory, "MiB", &told);

    // A peer that hears.
    let first = place.talk("Kestrel", &[], "silence", &screen.display)?;
    let ticket = place.hark(&["invite", "--home", &place.home("Kestrel")])?;
    let events = folder.path().join("Wren.jsonl");
    let told = events.display().to_string();
    let arguments = [ticket.trim(), "--events", &told];
    let _wren = place.talk("Wren", &arguments, "silence", &screen.display)?;
    wait_for(&events, 0, "peer_up")?;
    place.hark(&["ctl", "--home", &place.home("Kestrel"), "transmit", "open"])?;
    drop(first);

    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/assets/speech/english.wav");
    let speech = format!("file:{}?loop", speech.display());
    let (mut pictures, mut talking) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let from = lines(&events)?.len();
        let screen = Screen::open()?;
        let (began, at) = (Instant::now(), unix_ms());
        let window = place.window(&speech, &screen.display)?;
        screen.drawn()?;
        pictures.push(began.elapsed().as_secs_f64() * 1e3);
        talking.push(wait_for(&events, from, "talk_started")? - at);
        drop(window);
        std::thread::sleep(Duration::from_secs(2));
    }
    table.held("start to the first picture, slowest of five", largest(&pictures), "ms", 500.0);
    table.held("start to talking with a known squad", largest(&talking), "ms", 1_000.0);

    // Keys, while another window has the keyboard.
    let screen = Screen::open()?;
    let from = lines(&events)?.len();
    let window = place.window(&speech, &screen.display)?;
    wait_for(&events, from, "talk_started")?;
    std::thread::sleep(SETTLE);
    place.hark(&["ctl", "--home", &place.home("Kestrel"), "transmit", "ptt"])?;
    let mut other = Command::new(std::env::current_exe()?);
    let other = Running::start(other.args(["child", "empty"]), &screen.display)?;
    std::thread::sleep(SETTLE);
    screen.focus_newest()?;
    drop(other.share());
    let capture = match Capture::start() {
        Ok(capture) => capture,
        Err(error) => {
            table.said("key down to the first datagram", "not seen", &error.to_string());
            return Ok(());
        }
    };
    let mut presses = Vec::new();
    for press in 0..50 {
        // The pauses grow, so that the key is pressed in every phase of a frame.
        std::thread::sleep(Duration::from_millis(700) + Duration::from_micros(1_100 * press));
        let down = unix_us();
        screen.key(true)?;
        std::thread::sleep(Duration::from_millis(300));
        presses.push((down, unix_us()));
        screen.key(false)?;
    }
    std::thread::sleep(Duration::from_millis(700));
    drop(window);
    // The listener's datagrams are shorter than those that carry voice.
    let voice: Vec<u64> = capture
        .finish()
        .iter()
        .filter(|seen| VOICE_BYTES.contains(&seen.payload.len()))
        .map(|seen| seen.at_us)
        .collect();
    let first = |(down, _): &(u64, u64)| {
        let follows = |pair: &&[u64]| pair[0] >= *down && pair[5] - pair[0] < 60_000;
        voice.windows(6).find(follows).map_or(f64::NAN, |run| (run[0] - down) as f64 / 1e3)
    };
    // The end of a talkspurt is repeated once more a frame later, for those who missed it.
    let last = |(_, up): &(u64, u64)| {
        let after: Vec<u64> =
            voice.iter().filter(|at| (*up..*up + 400_000).contains(at)).copied().collect();
        match after[..] {
            [.., frame, repeat] => [(frame - up) as f64 / 1e3, (repeat - up) as f64 / 1e3],
            _ => [f64::NAN; 2],
        }
    };
    let found: Vec<f64> = presses.iter().map(first).collect();
    table.held("key down to the first datagram, median of 50", median(&found), "ms", 10.0);
    table.held("the same, slowest", largest(&found), "ms", 20.0);
    let (frames, repeats): (Vec<f64>, Vec<f64>) =
        presses.iter().map(last).map(|[frame, repeat]| (frame, repeat)).unzip();
    let what = "key up, without a tail, to the last frame, median of 50";
    table.held(what, median(&frames), "ms", 10.0);
    table.held("the same, slowest", largest(&frames), "ms", 20.0);
    let slowest = format!("{:.1} ms, slowest {:.1} ms", median(&repeats), largest(&repeats));
    table.said("key up to the repeat of the last frame, median", &slowest, "no bar");
    Ok(())
}

/// Where all homes lie.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn home(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Runs `hark`, and returns what it prints.
    fn hark(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(beside("hark")?).args(arguments).output()?;
        anyhow::ensure!(output.status.success(), "hark {arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn talk(
        &self,
        name: &str,
        further: &[&str],
        input: &str,
        display: &str,
    ) -> anyhow::Result<Running> {
        let mut command = Command::new(beside("hark")?);
        command.args(["talk", "--name", name, "--home", &self.home(name)]).args(further);
        command.args(["--input", input]).args(QUIET);
        let running = Running::start(&mut command, display)?;
        // Its local API is there by then.
        std::thread::sleep(Duration::from_secs(2));
        Ok(running)
    }

    fn window(&self, input: &str, display: &str) -> anyhow::Result<Running> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hark-ui"));
        command.args(["--name", "Kestrel", "--home", &self.home("Kestrel"), "--input", input]);
        Running::start(command.args(QUIET), display)
    }
}

/// A process that ends when this is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, display: &str) -> anyhow::Result<Self> {
        command
            .env("DISPLAY", display)
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env_remove("WAYLAND_DISPLAY");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("{command:?}"))?))
    }

    /// The share of a core that it takes, in percent.
    fn share(&self) -> anyhow::Result<f64> {
        let before = self.ticks()?;
        std::thread::sleep(WATCHED);
        let ticks = self.ticks()? - before;
        Ok(ticks / TICKS_A_SECOND / WATCHED.as_secs_f64() * 100.0)
    }

    fn ticks(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<_> =
            stat.rsplit(')').next().context("fields")?.split_whitespace().collect();
        Ok(fields[11].parse::<f64>()? + fields[12].parse::<f64>()?)
    }

    /// Resident memory, in MiB.
    fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("memory")?;
        let kib: f64 = line.split_whitespace().next().context("a number")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It leaves its peers properly, if it can.
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &id]).status();
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn beside(program: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_hark-ui")).with_file_name(program);
    anyhow::ensure!(path.exists(), "{program} is missing: cargo build --release");
    Ok(path)
}

fn lines(events: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(events).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(complete.lines().map(str::to_owned).collect())
}

/// Waits for an event after the first `from` ones; gives its time, in ms since 1970.
fn wait_for(events: &Path, from: usize, name: &str) -> anyhow::Result<f64> {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        for line in lines(events)?.iter().skip(from) {
            let event: Value = serde_json::from_str(line)?;
            if event["event"] == name {
                return Ok(event["at_us"].as_f64().context("a time")? / 1e3);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    anyhow::bail!("no {name}")
}

fn unix_ms() -> f64 {
    unix_us() as f64 / 1e3
}

fn largest(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

const QUIET: [&str; 5] = ["--output", "null", "--no-mdns", "--listen", "127.0.0.1:0"];

/// The right control key talks, without a tail.
const SETTINGS: &str = r#"
[[keys]]
chord = "Right Ctrl"
does = "talk"
talk = { release_delay_ms = 0, start_delay_ms = 0, latch = false }
"#;

const SETTLE: Duration = Duration::from_secs(4);
const WATCHED: Duration = Duration::from_secs(10);

/// Lengths of UDP payloads that carry one frame of 10 ms.
const VOICE_BYTES: std::ops::Range<usize> = 90..300;

/// What Linux counts processor time in.
const TICKS_A_SECOND: f64 = 100.0;
