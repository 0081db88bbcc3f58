use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use hark_node::measure::{Recording, delays};
use hark_voice::SAMPLE_RATE;
use serde_json::Value;

use crate::{
    binary::{Outcome, hark, through},
    events::{Event, Events},
    scene::run,
};

/// A `hark talk` that runs or has ended. It is killed when this is dropped.
pub struct Member {
    name: String,
    home: PathBuf,
    /// The command through which the member runs, such as one that enters a namespace.
    before: Vec<String>,
    child: Child,
    events: Events,
    speech: Option<PathBuf>,
    output: PathBuf,
    errors: PathBuf,
    clock: MemberClock,
}

/// The clock of a member's `monotonic_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberClock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_MONOTONIC_RAW`, from which wine takes its performance counter. The corrections of the
    /// machine's clock part the two.
    MonotonicRaw,
}

impl Member {
    #[expect(clippy::too_many_arguments, reason = "only a talk that starts knows them")]
    pub(crate) fn new(
        name: String,
        home: PathBuf,
        before: Vec<String>,
        mut child: Child,
        speech: Option<PathBuf>,
        output: PathBuf,
        errors: PathBuf,
        clock: MemberClock,
    ) -> Self {
        let events = Events::follow(child.stdout.take().expect("its output is a pipe"));
        Self { name, home, before, child, events, speech, output, errors, clock }
    }

    /// Runs `hark ctl COMMAND …` for the member, which must succeed, and returns what it prints.
    #[track_caller]
    pub fn ctl(&self, command: &[&str]) -> String {
        self.try_ctl(command).success().to_owned()
    }

    /// Runs `hark ctl COMMAND …` for the member.
    pub fn try_ctl(&self, command: &[&str]) -> Outcome {
        run(&self.home, &[&["ctl"], command].concat())
    }

    /// Has the running member make a new invite.
    pub fn invite(&self, arguments: &[&str]) -> String {
        run(&self.home, &[&["invite"], arguments].concat()).success().to_owned()
    }

    /// The id of the member's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends the member a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} gets no SIG{name}", self.name);
    }

    /// Kills the member as a crash would: it can print and write nothing more.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits until the member has ended without a complaint, and returns the reason that it
    /// reports.
    #[track_caller]
    pub fn ended(&mut self) -> String {
        let stopped = self.wait("stopped", |events| {
            events.iter().find(|event| event.is("stopped")).map(|e| e.text("reason").to_owned())
        });
        let status = self.child.wait().expect("it ends");
        assert_eq!((status.code(), self.stderr().as_str()), (Some(0), ""), "{}", self.name);
        stopped
    }

    /// Makes the member leave, and waits until it has.
    #[track_caller]
    pub fn leave(&mut self) {
        self.signal("TERM");
        assert_eq!(self.ended(), "signal", "{}", self.name);
    }

    /// Waits until `find` finds something among all of the member's events.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, find: impl Fn(&[Event]) -> Option<T>) -> T {
        self.events.wait(find).unwrap_or_else(|events| {
            let last = events.len().saturating_sub(25);
            let last: Vec<_> = events[last..].iter().map(|event| format!("{event:?}")).collect();
            let stderr = self.stderr();
            panic!("{}: no {what}; it told:\n{}\n{stderr}", self.name, last.join("\n"))
        })
    }

    /// Waits for an event after the first `from` events.
    #[track_caller]
    pub fn wait_after(&self, from: usize, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        self.wait(what, |events| events[from..].iter().find(|event| is(event)).cloned())
    }

    /// Waits until exactly these members can be heard and spoken to, and exactly they hold the key.
    #[track_caller]
    pub fn is_among(&self, others: &[&Self]) {
        let mut devices: Vec<_> = others.iter().map(|other| other.device()).collect();
        devices.sort();
        let mut holders = devices.clone();
        holders.push(self.device());
        holders.sort();
        self.wait("squad of the right members", |events| {
            let roster = events.iter().rev().find(|event| event.is("roster_changed"))?;
            let mut roster = roster.texts("devices");
            roster.sort_unstable();
            (reachable(events) == devices && roster == holders).then_some(())
        });
    }

    /// How many frames of `talker` the member has received.
    pub fn received(&self, talker: &Self) -> u64 {
        frames(&self.events(), &talker.device()).unwrap_or(0)
    }

    /// Waits until the member has received `total` frames of `talker`.
    #[track_caller]
    pub fn receives(&self, talker: &Self, total: u64) {
        let device = talker.device();
        self.wait(&format!("{total} frames of {}", talker.name), |events| {
            (frames(events, &device)? >= total).then_some(())
        });
    }

    /// Waits until the member has received `count` more frames of `talker`.
    #[track_caller]
    pub fn hears(&self, talker: &Self, count: u64) {
        self.receives(talker, self.received(talker) + count);
    }

    /// The delays, in milliseconds, of what the member has heard of `talker` in its output file,
    /// one for each window of a second. Windows that do not resemble what was spoken are left out.
    pub fn heard(&self, talker: &Self) -> Vec<f64> {
        let heard = Recording::read(&self.output, self.audio_start("output"));
        let heard = heard.unwrap_or_else(|error| panic!("{}: {error}", self.output.display()));
        let speech = talker.speech.as_ref().expect("the talker speaks");
        let spoken = Recording::read(speech, talker.audio_start("input")).expect("speech is WAV");
        let spans = self.turns_of(talker).into_iter().map(|(from, to)| {
            let heard = part(&heard, from.saturating_sub(MARGIN), to + MARGIN, false);
            let spoken = part(&spoken, from.saturating_sub(MARGIN), to, true);
            delays(&spoken, &heard)
        });
        spans.collect::<Vec<_>>().concat()
    }

    /// The times, on the recordings' clock, during which events reported that `talker` talks.
    fn turns_of(&self, talker: &Self) -> Vec<(Duration, Duration)> {
        let device = talker.device();
        let events = self.events();
        let started = events.iter().find(|event| event.is("audio_started")).expect("it has output");
        let zero = started.at() - Duration::from_nanos(self.audio_start("output"));
        let mut turns: Vec<(Duration, Duration)> = Vec::new();
        for event in events.iter().filter(|event| event.is_about(&device)) {
            let at = event.at().saturating_sub(zero);
            if event.is("talk_started") {
                turns.push((at, at + LONGEST_TURN));
            } else if event.is("talk_ended")
                && let Some((_, end)) = turns.last_mut()
            {
                *end = at;
            }
        }
        turns
    }

    /// Checks that at least `windows` seconds of `talker` are in the member's output file, with
    /// plausible delays.
    #[track_caller]
    pub fn has_heard(&self, talker: &Self, windows: usize) {
        let delays = self.heard(talker);
        let names = (&self.name, &talker.name);
        assert!(delays.len() >= windows, "{names:?}: {} of {windows} windows", delays.len());
        let wrong: Vec<_> = delays.iter().filter(|ms| !PLAUSIBLE_MS.contains(*ms)).collect();
        assert!(wrong.is_empty(), "{names:?}: delays of {wrong:?} ms");
    }

    /// The median delay, in milliseconds, of at least `windows` seconds of `talker`.
    #[track_caller]
    pub fn median_delay(&self, talker: &Self, windows: usize) -> f64 {
        self.has_heard(talker, windows);
        let mut delays = self.heard(talker);
        delays.sort_by(f64::total_cmp);
        delays[delays.len() / 2]
    }

    /// Checks that almost nothing of `talker` was missing. Nothing is lost on loopback. Frames that
    /// a busy machine delivers late are concealed too, but do not count here: lateness is tested in
    /// the simulator, whose time does not depend on the machine.
    #[track_caller]
    pub fn has_concealed_little(&self, talker: &Self) {
        let count = |name| self.counter(name, talker);
        let (received, late) = (count("frames_received"), count("frames_late"));
        let missing = count("frames_concealed").saturating_sub(late);
        assert!(missing * 20 <= received, "{missing} missing, {received} received, {late} late");
    }

    /// All events that the member has reported.
    pub fn events(&self) -> Vec<Event> {
        self.events.all()
    }

    /// How many events of this name the member has reported about `other`.
    pub fn count(&self, name: &str, other: &Self) -> usize {
        let device = other.device();
        self.events().iter().filter(|event| event.is(name) && event.is_about(&device)).count()
    }

    /// The newest value of a counter of `stats` for `other`.
    pub fn counter(&self, name: &str, other: &Self) -> u64 {
        let peer = last_stats(&self.events(), &other.device());
        number(&peer.expect("it has stats of everyone it has met"), name)
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The member's device.
    pub fn device(&self) -> String {
        self.ready().text("device").to_owned()
    }

    /// A new ticket of the member, with which any number of devices may join.
    #[track_caller]
    pub fn ticket(&self) -> String {
        let mut invite = self.here();
        invite.args(["ctl", "--home"]).arg(&self.home).arg("invite");
        Outcome::from(invite.output().expect("it starts")).success().to_owned()
    }

    /// The address where the member listens.
    pub fn address(&self) -> SocketAddr {
        let ready = self.ready();
        let parts: Vec<_> = ready.texts("listen")[0].split('/').collect();
        let ["", _, ip, "udp", port, ..] = parts[..] else { panic!("{ready:?}") };
        SocketAddr::new(ip.parse().expect("an address"), port.parse().expect("a port"))
    }

    /// The member's standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.errors).expect("its standard error is a file")
    }

    /// The file to which the member writes what it hears.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The event that the member reported when it could be joined.
    pub fn ready(&self) -> Event {
        self.wait("ready", |events| events.iter().find(|event| event.is("ready")).cloned())
    }

    /// `hark`, where this member runs.
    fn here(&self) -> Command {
        match &self.before[..] {
            [] => hark(),
            before => through(before, &hark()),
        }
    }

    /// When sample 0 was taken or placed, by `CLOCK_MONOTONIC`, in nanoseconds.
    fn audio_start(&self, direction: &str) -> u64 {
        let told = self.wait("audio", |events| {
            let started =
                |event: &&Event| event.is("audio_started") && event.text("direction") == direction;
            events.iter().find(started)?["monotonic_ns"].as_u64()
        });
        self.clock.to_monotonic(told)
    }
}

impl MemberClock {
    /// The same moment by `CLOCK_MONOTONIC`, in nanoseconds. What parts the clocks now parted them
    /// then, too: a clock that is corrected by 100 parts in a million moves by 2 ms in 20 s.
    #[cfg(target_os = "linux")]
    fn to_monotonic(self, ns: u64) -> u64 {
        use rustix::time::{ClockId, clock_gettime};

        let read = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec * 1_000_000_000 + time.tv_nsec
        };
        match self {
            Self::Monotonic => ns,
            Self::MonotonicRaw => {
                // Read one after the other: less than a microsecond lies between them.
                let ahead = read(ClockId::Monotonic) - read(ClockId::MonotonicRaw);
                ns.saturating_add_signed(ahead)
            }
        }
    }

    /// Wine is run on Linux alone.
    #[cfg(not(target_os = "linux"))]
    fn to_monotonic(self, ns: u64) -> u64 {
        ns
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part of `recording` between two times. With `looped`, the recording repeats without end.
fn part(recording: &Recording, from: Duration, to: Duration, looped: bool) -> Recording {
    let start = Duration::from_nanos(recording.start_ns);
    let place = |moment: Duration| {
        (moment.saturating_sub(start).as_secs_f64() * f64::from(SAMPLE_RATE)) as usize
    };
    let (from, to) = (place(from), place(to));
    let length = if looped { to } else { to.min(recording.samples.len()) };
    let samples = recording.samples.iter().copied().cycle();
    let offset_ns = from as u64 * 1_000_000_000 / u64::from(SAMPLE_RATE);
    Recording {
        samples: samples.skip(from).take(length.saturating_sub(from)).collect(),
        start_ns: recording.start_ns + offset_ns,
    }
}

/// The devices whose newest event is `peer_up`, in order.
fn reachable(events: &[Event]) -> Vec<String> {
    let mut newest = BTreeMap::new();
    for event in events.iter().filter(|event| event.is("peer_up") || event.is("peer_down")) {
        newest.insert(event.text("device").to_owned(), event.is("peer_up"));
    }
    newest.into_iter().filter_map(|(device, up)| up.then_some(device)).collect()
}

fn frames(events: &[Event], device: &str) -> Option<u64> {
    last_stats(events, device).map(|peer| number(&peer, "frames_received"))
}

fn last_stats(events: &[Event], device: &str) -> Option<Value> {
    // A member of several organisations reports statistics for each.
    let mut stats = events.iter().rev().filter(|event| event.is("stats"));
    stats.find_map(|event| event.peer(device)).cloned()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The plausible mouth-to-ear delays in milliseconds. Nothing is heard before it is spoken; far
/// more than a busy machine needs means that buffers fill up.
const PLAUSIBLE_MS: std::ops::Range<f64> = 5.0..400.0;

/// How much before or after the reported times speech may be found.
const MARGIN: Duration = Duration::from_millis(500);

/// How much of a turn that has not ended is examined.
const LONGEST_TURN: Duration = Duration::from_secs(10);
