//! What a run has shown, measured after its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hark_keys::DeviceId;
use hark_node::measure::{self, Bands, Recording};
use hark_voice::{SAMPLE_RATE, level_dbfs};

use crate::{
    observation::{CharterHeads, Observation, SAMPLE},
    record::{EarRecord, Interval, MeasuredSpread, MemberMeasures, RunRecord},
    rules::Evidence,
    scenario::{Cast, Expectation},
    voice::HeardSound,
};

/// A run that is over, ready to be judged and reported.
pub(crate) struct Measured {
    log: Observation,
    /// Mouth-to-ear delays by listener and talker, as (seconds of the run, milliseconds).
    delays: BTreeMap<(usize, usize), Vec<(f64, f64)>>,
    heard: Vec<Arc<Mutex<HeardSound>>>,
    /// The names of relays and members by their devices.
    machines: BTreeMap<DeviceId, String>,
    evidence: Evidence,
}

/// What one listener heard of one talker within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Hearing {
    /// Frames that the talker sent.
    pub(crate) sent: u64,
    /// Samples in them.
    pub(crate) spoken: u64,
    /// Frames of them that were played out.
    pub(crate) played: u64,
    /// Samples in those.
    pub(crate) heard: u64,
    /// Frames of them that arrived.
    pub(crate) received: u64,
    /// Frames that were concealed.
    pub(crate) concealed: u64,
    /// The longest time in which the talker spoke and the listener played nothing of it.
    pub(crate) longest_silence: Duration,
}

impl Hearing {
    /// The concealed share of all frames that were played out.
    pub(crate) fn concealed_share(&self) -> f64 {
        self.concealed as f64 / (self.played + self.concealed).max(1) as f64
    }

    /// The share of what was sent that was played out. It is that of samples: a talker may change
    /// the length of its frames.
    pub(crate) fn heard_share(&self) -> f64 {
        self.heard as f64 / self.spoken.max(1) as f64
    }
}

impl Measured {
    /// Measures what can only be measured after the run.
    pub(crate) fn new(
        log: Observation,
        cast: &Cast,
        heard: &[Arc<Mutex<HeardSound>>],
        (machines, evidence): (BTreeMap<DeviceId, String>, Evidence),
        report: bool,
    ) -> Self {
        let duration = cast.scenario.duration.as_duration();
        let mut delays = BTreeMap::new();
        if report || cast.scenario.expect.iter().any(Expectation::needs_sound) {
            let played = |listener: &usize, talker: usize| {
                *listener != talker && log.ears[*listener][talker].total(|it| it.played) > 0
            };
            let mut ears = BTreeMap::new();
            for (talker, actor) in cast.actors.iter().enumerate() {
                if actor.script.is_empty() {
                    continue;
                }
                let length = (duration.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize;
                let mut samples = vec![0.0; length];
                actor.script.fill(Duration::ZERO, &mut samples);
                let spoken = Bands::new(&Recording { samples, start_ns: 0 });
                for listener in (0..heard.len()).filter(|listener| played(listener, talker)) {
                    let heard = ears.entry(listener).or_insert_with(|| {
                        let heard = heard[listener].lock().unwrap_or_else(PoisonError::into_inner);
                        Bands::new(&Recording { samples: heard.samples.clone(), start_ns: 0 })
                    });
                    delays.insert((listener, talker), measure::timed_delays(&spoken, heard));
                }
            }
        }
        Self { log, delays, heard: heard.to_vec(), machines, evidence }
    }

    /// Measures what `listener` heard of `talker` from `after` until `before`.
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
        let summed = |sums: &[u64]| {
            sums[range.end - 1] - range.start.checked_sub(1).map_or(0, |index| sums[index])
        };
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
            sent: summed(&log.sent),
            spoken: summed(&log.spoken),
            played: counted(&ear.played),
            heard: summed(&ear.heard),
            received: counted(&ear.received),
            concealed: counted(&ear.concealed),
            longest_silence: SAMPLE * longest,
        }
    }

    /// The mouth-to-ear delays of windows within a time, in milliseconds, sorted.
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

    /// How long the jitter buffer holds the talker's frames, at the last sample, in milliseconds.
    pub(crate) fn buffer_ms(&self, listener: usize, talker: usize) -> f64 {
        f64::from(self.log.ears[listener][talker].playout_delay_ms)
    }

    /// The time from the later start of the two until they were first connected.
    pub(crate) fn connect_time(&self, listener: usize, talker: usize) -> Option<Duration> {
        let start = |member: usize| self.log.members[member].running.first().map(|run| run.0);
        let (connected, _) = self.log.ears[listener][talker].connected.first()?;
        Some(connected.saturating_sub(start(listener)?.max(start(talker)?)))
    }

    /// The last path in use; empty if there was none.
    pub(crate) fn path(&self, listener: usize, talker: usize) -> &str {
        self.log.ears[listener][talker].paths.last().map_or("", |(_, path)| path)
    }

    /// The time from the later start of the two until one of these paths was first in use.
    pub(crate) fn path_time(
        &self,
        listener: usize,
        talker: usize,
        paths: &[String],
    ) -> Option<Duration> {
        let start = |member: usize| self.log.members[member].running.first().map(|run| run.0);
        let mut had = self.log.ears[listener][talker].paths.iter();
        let (at, _) = had.find(|(_, path)| paths.contains(path))?;
        Some(at.saturating_sub(start(listener)?.max(start(talker)?)))
    }

    /// The names of those that brought `talker`'s frames to `listener` from `after` until `before`:
    /// relays, and [`ITSELF`] for the talker.
    pub(crate) fn ways(
        &self,
        listener: usize,
        talker: usize,
        after: Duration,
        before: Duration,
    ) -> BTreeSet<String> {
        let ear = &self.log.ears[listener][talker];
        let (first, end) = (sample_index(after), sample_index(before).min(self.log.samples));
        let ends = ear.ways.iter().skip(1).map(|(from, _)| *from).chain([end]);
        let stretches = ear.ways.iter().zip(ends);
        let heard = stretches.filter(|((from, _), to)| {
            let (from, to) = (first.max(*from), end.min(*to));
            let until = |sample: usize| sample.checked_sub(1).map_or(0, |it| ear.received[it]);
            from < to && until(to) > until(from)
        });
        let name = |way: DeviceId| self.machines.get(&way).cloned().unwrap_or_else(|| way.short());
        heard.map(|((_, way), _)| way.map_or(ITSELF.to_owned(), name)).collect()
    }

    /// Voice datagrams for each frame that `talker` sent from `after` until `before`. If a
    /// `listener` is given, the datagrams that arrived there are counted, otherwise those that
    /// `talker` sent.
    pub(crate) fn per_frame(
        &self,
        listener: Option<usize>,
        talker: usize,
        after: Duration,
        before: Duration,
    ) -> f64 {
        let (first, end) = (sample_index(after), sample_index(before).min(self.log.samples));
        let within = |counts: &[u64]| {
            let until = |sample: usize| sample.checked_sub(1).map_or(0, |it| counts[it]);
            until(end).saturating_sub(until(first)) as f64
        };
        let datagrams = match listener {
            Some(listener) => within(&self.log.members[listener].downlink),
            None => within(&self.log.members[talker].uplink),
        };
        datagrams / within(&self.log.members[talker].sent)
    }

    /// What was wrong with the links and keys of members at a moment that an expectation names.
    pub(crate) fn missing_at(&self, by: Duration) -> &[String] {
        self.log.convergence.get(&by).map_or(&[], Vec::as_slice)
    }

    /// The charters of the members that ran at a moment that an expectation names.
    pub(crate) fn charters_at(
        &self,
        by: Duration,
    ) -> impl Iterator<Item = (usize, Option<&CharterHeads>)> {
        let charters = self.log.charters.get(&by).into_iter().flatten();
        charters.map(|(member, charter)| (*member, charter.as_ref()))
    }

    /// The result of an order; `None` if it was not answered.
    pub(crate) fn order(&self, order: usize) -> Option<&Result<(), String>> {
        self.log.orders.get(&order)
    }

    /// The nets on which `listener` heard `talker` begin to speak from `after` until `before`.
    pub(crate) fn nets(
        &self,
        listener: usize,
        talker: usize,
        after: Duration,
        before: Duration,
    ) -> BTreeSet<String> {
        let started = self.log.ears[listener][talker].nets.iter();
        let within = started.filter(|(at, _)| *at >= after && *at < before);
        within.flat_map(|(_, nets)| nets.iter().cloned()).collect()
    }

    /// The members whose relays `member` has detected as forging, and when.
    pub(crate) fn flagged(&self, member: usize) -> &[(Duration, usize)] {
        &self.log.members[member].flagged
    }

    /// The evidence of the witness.
    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Frames of `talker` that arrived at `listener` and were accepted.
    pub(crate) fn received(&self, listener: usize, talker: usize) -> u64 {
        self.log.ears[listener][talker].total(|it| it.received)
    }

    /// Frames that `talker` has sealed.
    pub(crate) fn sealed(&self, talker: usize) -> u64 {
        self.log.members[talker].sent_counter.total()
    }

    /// When `member` had a link to `other`, according to `member` itself. Empty if one of the two
    /// is a relay.
    pub(crate) fn links(&self, member: usize, other: usize) -> &[(Duration, Option<Duration>)] {
        let ear = self.log.ears.get(member).and_then(|ears| ears.get(other));
        ear.map_or(&[], |ear| &ear.connected)
    }

    /// Whether strangers reach `member`, according to the last report of its node.
    pub(crate) fn reachable(&self, member: usize) -> Option<bool> {
        self.log.members[member].reachable
    }

    pub(crate) fn last_words(&self, member: usize) -> Option<&str> {
        self.log.members[member].last_words.as_deref()
    }

    /// The record of the run except for links, NATs and expectations.
    pub(crate) fn record(&self, cast: &Cast, seed: u64, trace_digest: String) -> RunRecord {
        let duration = cast.scenario.duration.as_duration();
        let machines = cast.plan.hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>();
        let names = &machines[..cast.actors.len()];
        let mut events = self.log.events.clone();
        for event in &mut events {
            let index = event.member.as_deref().and_then(|text| text.parse::<usize>().ok());
            event.member = index.map(|index| machines[index].clone());
        }
        RunRecord {
            scenario: cast.scenario.name.clone(),
            purpose: cast.scenario.purpose.clone(),
            seed,
            duration_s: duration.as_secs_f64(),
            trace_digest,
            members: (0..names.len()).map(|member| self.member(cast, member)).collect(),
            ears: self.ears(cast, names),
            events,
            ..RunRecord::default()
        }
    }

    fn member(&self, cast: &Cast, member: usize) -> MemberMeasures {
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
        MemberMeasures {
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
                path: self.path(listener, talker).to_owned(),
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

fn distribution(sorted: &[f64]) -> Option<MeasuredSpread> {
    Some(MeasuredSpread {
        median: measure::percentile(sorted, 50.0)?,
        p99: measure::percentile(sorted, 99.0)?,
        max: *sorted.last()?,
    })
}

fn interval((from, to): (Duration, Option<Duration>), end: Duration) -> Interval {
    Interval { start_s: from.as_secs_f64(), end_s: to.unwrap_or(end).as_secs_f64() }
}

/// The spans of time in which samples are true.
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

/// Stands for a talker that is heard without a relay.
const ITSELF: &str = "no relay";

fn sample_index(at: Duration) -> usize {
    usize::try_from(at.as_millis() / SAMPLE.as_millis()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hark_node::event::Event;

    use super::*;
    use crate::{scenario::Scenario, witness::Log};

    /// Kestrel speaks from 0.2 s to 1 s in frames of 10 ms. Wren runs from the start and plays them
    /// 100 ms later except for a gap, half of which is concealed.
    fn measured() -> Measured {
        let text =
            "purpose = 'p'\nduration = '2s'\nmembers = [{ name = 'Kestrel' }, { name = 'Wren' }]";
        let path = Path::new("story.toml");
        let cast = Scenario::parse(path, String::new(), text, Path::new(".")).expect("it is right");
        let mut log = Observation::new(&cast);
        log.started(Duration::ZERO, 1);
        let (mut sent, mut played, mut concealed) = (0, 0, 0);
        for sample in 0..100 {
            let speaks = (10..50).contains(&sample);
            sent += u64::from(speaks) * 2;
            let gap = (30..40).contains(&sample);
            played += u32::from((15..55).contains(&sample) && !gap) * 2;
            concealed += u32::from((30..35).contains(&sample)) * 2;
            log.members[0].transmitting.push(speaks);
            log.members[0].sent.push(sent);
            log.members[0].spoken.push(sent * 480);
            log.ears[1][0].played.push(played);
            log.ears[1][0].heard.push(u64::from(played) * 480);
            log.ears[1][0].concealed.push(concealed);
            log.ears[1][0].received.push(played);
            log.samples += 1;
        }
        let evidence = Evidence::new(Log::default(), &BTreeMap::new());
        Measured {
            log,
            delays: BTreeMap::new(),
            heard: Vec::new(),
            machines: BTreeMap::new(),
            evidence,
        }
    }

    #[test]
    fn what_is_made_up_is_not_heard() {
        let all = measured().hearing(1, 0, Duration::ZERO, Duration::from_secs(2));
        assert_eq!((all.sent, all.played, all.concealed), (80, 60, 10));
        assert_eq!(all.longest_silence, 10 * SAMPLE, "the gap; the first moments are shorter");
        assert_eq!(all.concealed_share(), 10.0 / 70.0);
        assert_eq!(all.heard_share(), 0.75);
    }

    /// Regression: a talker that went from frames of 20 ms to 10 ms seemed to be heard worse for as
    /// long as its listener still played the longer ones.
    #[test]
    fn frames_of_another_length_are_not_missing() {
        let mut measured = measured();
        let ear = &mut measured.log.ears[1][0];
        // Each frame that is heard is twice as long as the counts say.
        let heard = measured.log.members[0].spoken.clone();
        ear.played = heard.iter().map(|samples| (samples / 960) as u32).collect();
        ear.heard = heard;
        let all = measured.hearing(1, 0, Duration::ZERO, Duration::from_secs(2));
        assert_eq!((all.sent, all.played), (80, 40));
        assert_eq!(all.heard_share(), 1.0);
    }

    #[test]
    fn only_what_lies_within_the_time_counts() {
        let measured = measured();
        let ms = Duration::from_millis;
        let start = measured.hearing(1, 0, Duration::ZERO, ms(600));
        assert_eq!((start.sent, start.played, start.concealed), (40, 30, 0));
        assert_eq!(start.longest_silence, 5 * SAMPLE, "the first moments");
        let end = measured.hearing(1, 0, ms(800), ms(2_000));
        assert_eq!((end.sent, end.played, end.concealed), (20, 30, 0));
        assert_eq!(measured.hearing(1, 0, ms(1_990), ms(500)), Hearing::default());
    }

    #[test]
    fn who_does_not_run_is_not_blamed_for_hearing_nothing() {
        let mut measured = measured();
        measured.log.stopped(Duration::from_millis(590), 1);
        let all = measured.hearing(1, 0, Duration::ZERO, Duration::from_secs(2));
        assert_eq!(all.longest_silence, 5 * SAMPLE);
    }

    #[test]
    fn nets_are_those_on_which_a_voice_began_within_the_time() {
        let mut measured = measured();
        let ms = Duration::from_millis;
        let (flight, command) = ("Flight".to_owned(), "Command".to_owned());
        measured.log.ears[1][0].nets =
            vec![(ms(200), vec![flight.clone(), command.clone()]), (ms(900), vec![flight.clone()])];
        let both = BTreeSet::from([flight.clone(), command]);
        assert_eq!(measured.nets(1, 0, ms(200), ms(900)), both);
        assert_eq!(measured.nets(1, 0, ms(201), ms(2_000)), BTreeSet::from([flight]));
        assert!(measured.nets(1, 0, ms(901), ms(2_000)).is_empty());
    }

    #[test]
    fn heads_of_a_charter_have_no_order() {
        let mut measured = measured();
        let at = Duration::from_millis(700);
        measured.log.started(Duration::ZERO, 0);
        for (member, heads) in [(0, ["a1", "b2"]), (1, ["b2", "a1"])] {
            let heads = heads.map(str::to_owned).to_vec();
            let changed = Event::CharterChanged { version: 1, heads };
            measured.log.handle(at, member, &changed, &BTreeMap::new());
        }
        measured.log.note_charters(at);
        let charters: Vec<_> = measured.charters_at(at).map(|(_, charter)| charter).collect();
        assert_eq!(charters.len(), 2);
        assert!(charters[0].is_some() && charters[0] == charters[1]);
    }
}
