//! What is seen of a run while it lasts, and what is measured from it afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hark_keys::DeviceId;
use hark_node::{
    event::{Event, PeerStats},
    measure,
    voice::{SAMPLE_RATE, VoiceStatistics, level_dbfs},
};

use crate::{
    member::Seat,
    record::{Distribution, EarRecord, EarSample, EventRecord, Interval, MemberRecord, RunRecord},
    scenario::{Cast, Expectation},
    voice::Recording,
};

/// Everything seen so far.
pub(crate) struct Observation {
    members: Vec<MemberLog>,
    /// By listener, then talker.
    ears: Vec<Vec<EarLog>>,
    events: Vec<EventRecord>,
    /// Who was not where it should be, at the moments that were asked for.
    convergence: BTreeMap<Duration, Vec<String>>,
    limited_tickets: BTreeMap<usize, String>,
    samples: usize,
}

/// What is seen of one member.
#[derive(Debug, Default)]
struct MemberLog {
    addresses: Vec<Ipv4Addr>,
    /// When it ran; the last without an end if it still runs.
    running: Vec<(Duration, Option<Duration>)>,
    /// Whether it was transmitting, at each sample.
    transmitting: Vec<bool>,
    /// Frames sent, summed over all its processes, at each sample.
    sent: Vec<u64>,
    sent_counter: Counter,
    /// The devices that hold its key, as it said last.
    roster: BTreeSet<String>,
    /// Whom it has a link to, by device: a member whose disk was lost has another one.
    connected: BTreeMap<DeviceId, usize>,
    last_words: Option<String>,
}

/// What is seen of one pair.
#[derive(Debug, Default)]
struct EarLog {
    played: Vec<u32>,
    concealed: Vec<u32>,
    /// By device of the talker.
    counters: BTreeMap<DeviceId, EarCounters>,
    connected: Vec<(Duration, Option<Duration>)>,
    path: String,
    playout_delay_ms: f32,
    series: Vec<EarSample>,
}

/// What came of one device.
#[derive(Clone, Copy, Debug, Default)]
struct EarCounters {
    played: Counter,
    concealed: Counter,
    received: Counter,
    late: Counter,
    recovered: Counter,
}

/// A counter that starts again with each process, summed over all of them.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    before: u64,
    last: u64,
}

impl Counter {
    fn update(&mut self, value: u64) -> u64 {
        if value < self.last {
            self.before += self.last;
        }
        self.last = value;
        self.total()
    }

    fn total(self) -> u64 {
        self.before + self.last
    }
}

impl Observation {
    /// Nothing has been seen.
    pub(crate) fn new(cast: &Cast) -> Self {
        let count = cast.actors.len();
        Self {
            members: (0..count).map(|_| MemberLog::default()).collect(),
            ears: (0..count).map(|_| (0..count).map(|_| EarLog::default()).collect()).collect(),
            events: Vec::new(),
            convergence: BTreeMap::new(),
            limited_tickets: BTreeMap::new(),
            samples: 0,
        }
    }

    /// A member's process has started.
    pub(crate) fn started(&mut self, now: Duration, member: usize) {
        self.members[member].running.push((now, None));
    }

    /// It has ended.
    pub(crate) fn stopped(&mut self, now: Duration, member: usize) {
        if let Some((_, end @ None)) = self.members[member].running.last_mut() {
            *end = Some(now);
        }
        for talker in std::mem::take(&mut self.members[member].connected).into_values() {
            close(&mut self.ears[member][talker].connected, now);
        }
        self.members[member].roster.clear();
    }

    /// It has another address.
    pub(crate) fn moved(&mut self, member: usize, address: Ipv4Addr) {
        self.members[member].addresses.push(address);
    }

    /// Keeps the ticket of those who share a limited one.
    pub(crate) fn keep_limited_ticket(&mut self, first: usize, ticket: String) {
        self.limited_tickets.insert(first, ticket);
    }

    /// The ticket that those share.
    pub(crate) fn limited_ticket(&self, first: usize) -> Option<String> {
        self.limited_tickets.get(&first).cloned()
    }

    /// The scenario did something.
    pub(crate) fn fault(&mut self, now: Duration, member: Option<usize>, text: &str) {
        self.events.push(EventRecord {
            at_s: now.as_secs_f64(),
            member: member.map(|member| member.to_string()),
            kind: "scenario".to_owned(),
            text: text.to_owned(),
            fault: true,
        });
    }

    /// A node said something.
    pub(crate) fn handle(
        &mut self,
        now: Duration,
        member: usize,
        event: &Event,
        devices: &BTreeMap<DeviceId, usize>,
    ) {
        let (kind, text) = match event {
            Event::PeerUp { device, name, path, address } => {
                if let Some(talker) = devices.get(&device.0) {
                    let ear = &mut self.ears[member][*talker];
                    let connected = &mut self.members[member].connected;
                    if !connected.values().any(|other| other == talker) {
                        ear.connected.push((now, None));
                    }
                    connected.insert(device.0, *talker);
                    ear.path = path.as_str().to_owned();
                }
                ("connected", format!("{name} at {address}"))
            }
            Event::PeerDown { device, name, reason, .. } => {
                if let Some(talker) = devices.get(&device.0) {
                    let connected = &mut self.members[member].connected;
                    connected.remove(&device.0);
                    if !connected.values().any(|other| other == talker) {
                        close(&mut self.ears[member][*talker].connected, now);
                    }
                }
                ("disconnected", format!("{name}: {reason}"))
            }
            Event::PathChanged { device, from, to } => {
                if let Some(talker) = devices.get(&device.0) {
                    self.ears[member][*talker].path = to.as_str().to_owned();
                }
                ("path", format!("{} instead of {}", to.as_str(), from.as_str()))
            }
            Event::RosterChanged { devices, epoch, .. } => {
                self.members[member].roster =
                    devices.iter().map(|device| device.0.to_string()).collect();
                ("key", format!("generation {epoch}, held by {}", devices.len()))
            }
            Event::TalkStarted { name, .. } => ("hears", format!("{name} begins")),
            Event::TalkEnded { name, .. } => ("hears", format!("{name} ends")),
            Event::Stats { peers, .. } => {
                for peer in peers {
                    if let Some(talker) = devices.get(&peer.device.0) {
                        self.ears[member][*talker].note(now, peer);
                    }
                }
                return;
            }
            Event::Stopped { reason } => {
                self.members[member].last_words = Some(reason.clone());
                ("ends", reason.clone())
            }
            Event::Ready { .. } => ("ready", String::new()),
            _ => return,
        };
        self.events.push(EventRecord {
            at_s: now.as_secs_f64(),
            member: Some(member.to_string()),
            kind: kind.to_owned(),
            text,
            fault: false,
        });
    }

    /// Looks at everyone's voice; each [`SAMPLE`].
    pub(crate) fn sample(&mut self, seats: &[Arc<Seat>], devices: &BTreeMap<DeviceId, usize>) {
        if self.samples == 0 {
            for (log, seat) in self.members.iter_mut().zip(seats) {
                log.addresses.insert(0, seat.fabric.address(seat.host));
            }
        }
        self.samples += 1;
        for (listener, seat) in seats.iter().enumerate() {
            let statistics = seat.voice().map(|voice| voice.statistics()).unwrap_or_default();
            let own = statistics.own;
            let log = &mut self.members[listener];
            log.transmitting.push(own.transmitting);
            let sent = log.sent_counter.update(own.frames_sent);
            log.sent.push(sent);
            self.listen(listener, &statistics, devices);
        }
    }

    fn listen(
        &mut self,
        listener: usize,
        statistics: &VoiceStatistics,
        devices: &BTreeMap<DeviceId, usize>,
    ) {
        for (device, talker) in &statistics.talkers {
            let Some(ear) = devices.get(device).map(|talker| &mut self.ears[listener][*talker])
            else {
                continue;
            };
            let counters = ear.counters.entry(*device).or_default();
            counters.received.update(talker.frames_received);
            counters.late.update(talker.frames_late);
            counters.recovered.update(talker.frames_recovered);
            counters.played.update(talker.frames_played);
            counters.concealed.update(talker.frames_concealed);
            ear.playout_delay_ms = talker.playout_delay_ms;
        }
        for ear in &mut self.ears[listener] {
            let (played, concealed) = (ear.total(|it| it.played), ear.total(|it| it.concealed));
            ear.played.push(u32::try_from(played).unwrap_or(u32::MAX));
            ear.concealed.push(u32::try_from(concealed).unwrap_or(u32::MAX));
        }
    }

    /// Notes who is not connected, or not on the roster, that should be.
    pub(crate) fn check_convergence(&mut self, by: Duration, seats: &[Arc<Seat>]) {
        let running: Vec<usize> =
            (0..seats.len()).filter(|member| self.members[*member].runs()).collect();
        let devices: BTreeSet<String> = running
            .iter()
            .filter_map(|member| seats[*member].device().map(|device| device.to_string()))
            .collect();
        let mut missing = Vec::new();
        for member in &running {
            let log = &self.members[*member];
            let name = &seats[*member].name;
            for other in &running {
                if other != member && !log.connected.values().any(|linked| linked == other) {
                    missing.push(format!("{name} has no link to {}", seats[*other].name));
                }
            }
            if log.roster != devices {
                missing.push(format!(
                    "the key of {name} is held by {} devices, and {} are here",
                    log.roster.len(),
                    devices.len()
                ));
            }
        }
        self.convergence.insert(by, missing);
    }

    /// Measures what can only be measured afterwards.
    pub(crate) fn finish(
        self,
        cast: &Cast,
        heard: &[Arc<Mutex<Recording>>],
        report: bool,
    ) -> Measured {
        let duration = cast.scenario.duration.as_duration();
        let mut delays = BTreeMap::new();
        if report || cast.scenario.expect.iter().any(Expectation::needs_sound) {
            for (talker, actor) in cast.actors.iter().enumerate() {
                if actor.script.is_empty() {
                    continue;
                }
                let length = (duration.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize;
                let mut samples = vec![0.0; length];
                actor.script.fill(Duration::ZERO, &mut samples);
                let spoken = measure::Recording { samples, start_ns: 0 };
                for (listener, heard) in heard.iter().enumerate() {
                    let played = self.ears[listener][talker].total(|it| it.played);
                    if listener != talker && played > 0 {
                        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                        let samples = heard.samples.clone();
                        let heard = measure::Recording { samples, start_ns: 0 };
                        delays.insert((listener, talker), measure::timed_delays(&spoken, &heard));
                    }
                }
            }
        }
        Measured { log: self, delays, heard: heard.to_vec() }
    }
}

impl MemberLog {
    fn runs(&self) -> bool {
        matches!(self.running.last(), Some((_, None)))
    }

    fn ran_at(&self, at: Duration) -> bool {
        self.running.iter().any(|(from, to)| *from <= at && to.is_none_or(|to| at < to))
    }
}

impl EarLog {
    /// A counter summed over the talker's devices.
    fn total(&self, counter: impl Fn(&EarCounters) -> Counter) -> u64 {
        self.counters.values().map(|counters| counter(counters).total()).sum()
    }

    fn note(&mut self, now: Duration, stats: &PeerStats) {
        let concealed: u64 = self.series.iter().map(|sample| sample.concealed).sum();
        self.series.push(EarSample {
            at_s: now.as_secs_f64(),
            playout_delay_ms: stats.playout_delay_ms,
            jitter_ms: stats.jitter_ms,
            loss_percent: stats.loss_percent,
            rtt_ms: stats.rtt_ms,
            concealed: self.total(|it| it.concealed).saturating_sub(concealed),
        });
    }
}

/// A run that is over, ready to be judged and reported.
pub(crate) struct Measured {
    log: Observation,
    /// Delays from mouth to ear by listener and talker: seconds, milliseconds.
    delays: BTreeMap<(usize, usize), Vec<(f64, f64)>>,
    heard: Vec<Arc<Mutex<Recording>>>,
}

/// What was heard of one talker by one listener within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Hearing {
    /// Frames that the talker sent.
    pub(crate) sent: u64,
    /// Frames of them that were played.
    pub(crate) played: u64,
    /// Frames that were made up.
    pub(crate) concealed: u64,
    /// The longest time in which the talker spoke and nothing of it was played.
    pub(crate) longest_silence: Duration,
}

impl Hearing {
    /// The share of what was played that was made up.
    pub(crate) fn concealed_share(&self) -> f64 {
        self.concealed as f64 / (self.played + self.concealed).max(1) as f64
    }

    /// The share of what was said that was played.
    pub(crate) fn heard_share(&self) -> f64 {
        self.played as f64 / self.sent.max(1) as f64
    }
}

impl Measured {
    /// What `listener` heard of `talker` from `after` until `before`.
    pub(crate) fn hearing(
        &self,
        listener: usize,
        talker: usize,
        after: Duration,
        before: Duration,
    ) -> Hearing {
        let (log, ear) = (&self.log.members[talker], &self.log.ears[listener][talker]);
        let range = sample_index(after)..sample_index(before).min(self.log.samples);
        if range.is_empty() {
            return Hearing::default();
        }
        let at = |index: usize| range.start + index;
        let counted = |counts: &[u32]| {
            let first = range.start.checked_sub(1).map_or(0, |index| counts[index]);
            u64::from(counts[range.end - 1] - first)
        };
        let first_sent = range.start.checked_sub(1).map_or(0, |index| log.sent[index]);
        let mut silence = 0;
        let mut longest = 0;
        for index in (0..range.len()).map(at) {
            let played_before = index.checked_sub(1).map_or(0, |before| ear.played[before]);
            let listens = self.log.members[listener].ran_at(SAMPLE * index as u32);
            let silent = log.transmitting[index] && listens && ear.played[index] == played_before;
            silence = if silent { silence + 1 } else { 0 };
            longest = longest.max(silence);
        }
        Hearing {
            sent: log.sent[range.end - 1] - first_sent,
            played: counted(&ear.played),
            concealed: counted(&ear.concealed),
            longest_silence: SAMPLE * longest,
        }
    }

    /// The delays from mouth to ear of windows within a time, in milliseconds, sorted.
    pub(crate) fn delays(
        &self,
        listener: usize,
        talker: usize,
        after: Duration,
        before: Duration,
    ) -> Vec<f64> {
        let (after, before) = (after.as_secs_f64(), before.as_secs_f64());
        let windows = self.delays.get(&(listener, talker));
        let within = windows.into_iter().flatten().filter(|(at, _)| *at >= after && *at < before);
        let mut delays: Vec<f64> = within.map(|(_, delay)| *delay).collect();
        delays.sort_by(f64::total_cmp);
        delays
    }

    /// How long the jitter buffer held the talker's frames last.
    pub(crate) fn buffer_ms(&self, listener: usize, talker: usize) -> f64 {
        f64::from(self.log.ears[listener][talker].playout_delay_ms)
    }

    /// The time from the later start of the two until they were connected first.
    pub(crate) fn connect_time(&self, listener: usize, talker: usize) -> Option<Duration> {
        let start = |member: usize| self.log.members[member].running.first().map(|run| run.0);
        let (connected, _) = self.log.ears[listener][talker].connected.first()?;
        Some(connected.saturating_sub(start(listener)?.max(start(talker)?)))
    }

    /// The path last used.
    pub(crate) fn path(&self, listener: usize, talker: usize) -> &str {
        &self.log.ears[listener][talker].path
    }

    /// Who was not where it should be at a moment that was asked for.
    pub(crate) fn missing_at(&self, by: Duration) -> &[String] {
        self.log.convergence.get(&by).map_or(&[], Vec::as_slice)
    }

    /// Why a member's node ended.
    pub(crate) fn last_words(&self, member: usize) -> Option<&str> {
        self.log.members[member].last_words.as_deref()
    }

    /// The record of the run but for links, NATs and expectations.
    pub(crate) fn record(&self, cast: &Cast, seed: u64, trace_digest: String) -> RunRecord {
        let duration = cast.scenario.duration.as_duration();
        let names: Vec<_> = cast.actors.iter().map(|actor| actor.name.clone()).collect();
        let mut events = self.log.events.clone();
        for event in &mut events {
            let index = event.member.as_deref().and_then(|text| text.parse::<usize>().ok());
            event.member = index.map(|index| names[index].clone());
        }
        RunRecord {
            scenario: cast.scenario.name.clone(),
            purpose: cast.scenario.purpose.clone(),
            seed,
            duration_s: duration.as_secs_f64(),
            trace_digest,
            members: (0..names.len()).map(|member| self.member(cast, member)).collect(),
            ears: self.ears(cast, &names),
            events,
            ..RunRecord::default()
        }
    }

    fn member(&self, cast: &Cast, member: usize) -> MemberRecord {
        let actor = &cast.actors[member];
        let duration = cast.scenario.duration.as_duration();
        let log = &self.log.members[member];
        let block = SAMPLE_RATE as usize / 10;
        let mut spoken = vec![0.0; block];
        let spoken_level = (0..(duration.as_millis() / 100) as u32).map(|index| {
            actor.script.fill(Duration::from_millis(100) * index, &mut spoken);
            level_dbfs(&spoken)
        });
        let heard = self.heard[member].lock().unwrap_or_else(PoisonError::into_inner);
        MemberRecord {
            name: actor.name.clone(),
            addresses: log.addresses.iter().map(ToString::to_string).collect(),
            running: log.running.iter().map(|span| interval(*span, duration)).collect(),
            speaking: spans(&log.transmitting),
            spoken_level: spoken_level.collect(),
            level: heard.samples.chunks(block).map(level_dbfs).collect(),
            sound: None,
        }
    }

    fn ears(&self, cast: &Cast, names: &[String]) -> Vec<EarRecord> {
        let duration = cast.scenario.duration.as_duration();
        let pairs = (0..names.len())
            .flat_map(|listener| (0..names.len()).map(move |talker| (listener, talker)));
        let told = pairs.filter(|(listener, talker)| {
            listener != talker && self.log.members[*talker].sent_counter.total() > 0
        });
        told.map(|(listener, talker)| {
            let ear = &self.log.ears[listener][talker];
            let hearing = self.hearing(listener, talker, Duration::ZERO, duration);
            let sorted = self.delays(listener, talker, Duration::ZERO, duration);
            let heard: Vec<bool> = (0..ear.played.len())
                .map(|i| {
                    i > 0
                        && (ear.played[i] + ear.concealed[i])
                            > (ear.played[i - 1] + ear.concealed[i - 1])
                })
                .collect();
            EarRecord {
                talker: names[talker].clone(),
                listener: names[listener].clone(),
                connected: ear.connected.iter().map(|span| interval(*span, duration)).collect(),
                connect_ms: self.connect_time(listener, talker).map(milliseconds),
                path: ear.path.clone(),
                heard: spans(&heard),
                frames_received: ear.total(|it| it.received),
                frames_concealed: hearing.concealed,
                frames_late: ear.total(|it| it.late),
                frames_recovered: ear.total(|it| it.recovered),
                concealed_percent: 100.0 * hearing.concealed_share(),
                delay_ms: distribution(&sorted),
                delays: self.delays.get(&(listener, talker)).cloned().unwrap_or_default(),
                longest_silence_ms: milliseconds(hearing.longest_silence),
                series: ear.series.clone(),
            }
        })
        .collect()
    }
}

fn distribution(sorted: &[f64]) -> Option<Distribution> {
    Some(Distribution {
        median: measure::percentile(sorted, 50.0)?,
        p99: measure::percentile(sorted, 99.0)?,
        max: *sorted.last()?,
    })
}

fn close(spans: &mut [(Duration, Option<Duration>)], now: Duration) {
    if let Some((_, end @ None)) = spans.last_mut() {
        *end = Some(now);
    }
}

fn interval((from, to): (Duration, Option<Duration>), end: Duration) -> Interval {
    Interval { start_s: from.as_secs_f64(), end_s: to.unwrap_or(end).as_secs_f64() }
}

/// The times at which samples are true.
fn spans(samples: &[bool]) -> Vec<Interval> {
    let at = |index: usize| (SAMPLE * index as u32).as_secs_f64();
    let mut spans: Vec<Interval> = Vec::new();
    for (index, _) in samples.iter().enumerate().filter(|(_, is)| **is) {
        match spans.last_mut() {
            Some(last) if (last.end_s - at(index)).abs() < 1e-6 => last.end_s = at(index + 1),
            _ => spans.push(Interval { start_s: at(index), end_s: at(index + 1) }),
        }
    }
    spans
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn sample_index(at: Duration) -> usize {
    usize::try_from(at.as_millis() / SAMPLE.as_millis()).unwrap_or(usize::MAX)
}

/// How often voice is looked at.
pub(crate) const SAMPLE: Duration = Duration::from_millis(20);
