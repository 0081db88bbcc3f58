//! Whole nodes: processes of the program `hark`, controlled by flags and `hark ctl`, and observed
//! by their events.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use hark_node::{control::Client, store::Home};
use serde_json::Value;

/// The place where a node runs: this machine's own network, or a network namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Option<String>);

impl Place {
    /// The network namespace of this name.
    pub(crate) fn namespace(name: &str) -> Self {
        Self(Some(name.to_owned()))
    }

    /// A command that runs in this place.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.0 {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }

    /// Runs a command in this place and returns what it printed. Fails if the command fails.
    pub(crate) fn run(&self, line: &str) -> anyhow::Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("a command")?;
        let output = self.command(program).args(words).output()?;
        if !output.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A running node. It is killed when dropped.
pub(crate) struct Node {
    child: Child,
    place: Place,
    home: PathBuf,
    journal: PathBuf,
    read: u64,
    events: Vec<Value>,
    /// Unix time in microseconds just before the process was made.
    pub(crate) started_us: u64,
}

impl Node {
    /// Starts `hark talk` with the words of `flags` and the home `folder/name`.
    pub(crate) fn start(
        place: &Place,
        folder: &Path,
        name: &str,
        ticket: Option<&str>,
        flags: &str,
    ) -> anyhow::Result<Self> {
        let home = folder.join(name);
        let journal = folder.join(format!("{name}.events"));
        let complaints = File::create(folder.join(format!("{name}.err")))?;
        let mut command = place.command(HARK);
        command.arg("talk").args(ticket).args(["--name", name]);
        command.arg("--home").arg(&home).arg("--events").arg(&journal);
        command.args(flags.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        // Empties the journal, so that events of an earlier run of this node are not taken for new
        // ones.
        File::create(&journal)?;
        let started_us = unix_us();
        let child = command.spawn().with_context(|| HARK.to_owned())?;
        let place = place.clone();
        Ok(Self { child, place, home, journal, read: 0, events: Vec::new(), started_us })
    }

    /// Waits for the first event for which `wanted` returns true.
    pub(crate) fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.take_events()?;
            if let Some(event) = self.events.iter().find(|event| wanted(event)) {
                return Ok(event.clone());
            }
            if Instant::now() > until || self.child.try_wait()?.is_some() {
                let name = self.home.display();
                bail!("{name}: what was waited for did not happen within {PATIENCE:?}");
            }
            std::thread::sleep(TURN);
        }
    }

    /// Waits for the event `ready`.
    pub(crate) fn ready(&mut self) -> anyhow::Result<Value> {
        self.wait(|event| event["event"] == "ready")
    }

    /// A ticket for other nodes.
    pub(crate) fn ticket(&mut self) -> anyhow::Result<String> {
        self.ready()?;
        Ok(self.control("invite")?.trim().to_owned())
    }

    /// The time at which sample 0 of an end was taken or played, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) fn audio_started(&mut self, direction: &str) -> anyhow::Result<u64> {
        let started = self
            .wait(|event| event["event"] == "audio_started" && event["direction"] == direction)?;
        started["monotonic_ns"].as_u64().context("a time")
    }

    /// Waits for an event `kind` about the node called `name` that happened at `after_us` or later.
    /// Returns its time, in Unix microseconds.
    pub(crate) fn told_of(&mut self, kind: &str, name: &str, after_us: u64) -> anyhow::Result<u64> {
        let event = self.wait(|event| {
            event["event"] == kind && event["name"] == name && at_us(event) >= after_us
        })?;
        Ok(at_us(&event))
    }

    /// The `stats` events so far: how others are heard, second by second.
    pub(crate) fn stats(&mut self) -> anyhow::Result<Vec<Value>> {
        self.take_events()?;
        Ok(self.events.iter().filter(|event| event["event"] == "stats").cloned().collect())
    }

    /// The frames of all talkers so far.
    pub(crate) fn frames(&mut self) -> anyhow::Result<Frames> {
        let status = self.status()?;
        let peers = status["peers"].as_array().context("peers")?;
        let count = |name: &str| peers.iter().filter_map(|peer| peer[name].as_u64()).sum();
        Ok(Frames {
            received: count("frames_received"),
            concealed: count("frames_concealed"),
            recovered: count("frames_recovered"),
        })
    }

    /// The answer of `hark ctl status --json`.
    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        let answer: Value = serde_json::from_str(&self.control("--json status")?)?;
        Ok(answer["status"].clone())
    }

    /// Runs `hark ctl` with these words.
    pub(crate) fn control(&self, words: &str) -> anyhow::Result<String> {
        let mut command = self.place.command(HARK);
        command.arg("ctl").arg("--home").arg(&self.home).args(words.split_whitespace());
        let output = command.output()?;
        if !output.status.success() {
            bail!("hark ctl {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Connects to the local API of the node, which must run in this machine's own network.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let home = Home::open(&self.home, Box::new(|| None))?;
        let store = home.choose(None)?.context("an organisation")?;
        Ok(Client::connect(&store.control()?.context("a local API")?)?)
    }

    /// Processor time of the process since its start.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, after_name) = stat.rsplit_once(')').context("a name in parentheses")?;
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
    }

    /// Memory in MiB: `VmRSS` is the current use, `VmHWM` the largest so far.
    pub(crate) fn memory(&self, which: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(which)).context("memory")?;
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
        Ok(kib.context("KiB")? / 1_024.0)
    }

    /// Ends the process with SIGKILL, and returns the time of it.
    pub(crate) fn kill(mut self) -> anyhow::Result<u64> {
        let at = unix_us();
        self.child.kill()?;
        self.child.wait()?;
        Ok(at)
    }

    /// Asks the node to quit, and waits until it has ended.
    pub(crate) fn quit(mut self) -> anyhow::Result<()> {
        self.control("quit")?;
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() && Instant::now() < until {
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    /// Reads the complete lines that the journal has gained since the last call.
    fn take_events(&mut self) -> anyhow::Result<()> {
        let mut file = File::open(&self.journal)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut news = String::new();
        file.read_to_string(&mut news)?;
        let whole = news.rfind('\n').map_or(0, |end| end + 1);
        for line in news[..whole].lines() {
            self.events.push(serde_json::from_str(line)?);
        }
        self.read += whole as u64;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Frames, as a listener counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frames {
    pub(crate) received: u64,
    pub(crate) concealed: u64,
    pub(crate) recovered: u64,
}

impl Frames {
    /// The frames since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            concealed: self.concealed.saturating_sub(earlier.concealed),
            recovered: self.recovered.saturating_sub(earlier.recovered),
        }
    }

    /// Concealed frames in percent of all that should have been heard, or NaN if there were none.
    pub(crate) fn concealed_percent(self) -> f64 {
        100.0 * self.concealed as f64 / (self.received + self.concealed) as f64
    }
}

/// The time of an event, in Unix microseconds.
pub(crate) fn at_us(event: &Value) -> u64 {
    event["at_us"].as_u64().unwrap_or(0)
}

/// The current time, on the clock of the events.
pub(crate) fn unix_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds from one time to another.
pub(crate) fn ms_between(from_us: u64, to_us: u64) -> f64 {
    (to_us as f64 - from_us as f64) / 1_000.0
}

/// The program, built in the same way as the benchmark.
const HARK: &str = env!("CARGO_BIN_EXE_hark");

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often the journal is read. The events carry their own times.
const TURN: Duration = Duration::from_millis(20);

/// Ticks a second, the unit of `/proc/PID/stat`. All Linux systems in use have the same.
const TICKS_A_SECOND: u64 = 100;
