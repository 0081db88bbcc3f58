//! What is observed of a run while it lasts.

mod convergence;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hark_keys::DeviceId;
use hark_node::event::{Event, PeerStats, TargetText};
use hark_voice::VoiceStatistics;

use crate::{
    member::Seat,
    record::{EarSample, EventRecord},
    scenario::Cast,
};

/// Everything observed so far.
pub(crate) struct Observation {
    pub(crate) members: Vec<MemberLog>,
    /// What was heard, by listener and then by talker.
    pub(crate) ears: Vec<Vec<EarLog>>,
    pub(crate) events: Vec<EventRecord>,
    /// What was wrong with links and keys, at the moments that expectations name.
    pub(crate) convergence: BTreeMap<Duration, Vec<String>>,
    /// The charters of the members that ran, at the moments that expectations name.
    pub(crate) charters: BTreeMap<Duration, BTreeMap<usize, Option<CharterHeads>>>,
    /// The result of each order, by its place in the scenario.
    pub(crate) orders: BTreeMap<usize, Result<(), String>>,
    pub(crate) limited_tickets: BTreeMap<usize, String>,
    pub(crate) samples: usize,
}

/// What is observed of one member.
#[derive(Debug, Default)]
pub(crate) struct MemberLog {
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// When its processes ran. The last span has no end while the process still runs.
    pub(crate) running: Vec<(Duration, Option<Duration>)>,
    /// At each sample, whether it was transmitting.
    pub(crate) transmitting: Vec<bool>,
    /// At each sample, the frames sent so far, summed over all its processes.
    pub(crate) sent: Vec<u64>,
    pub(crate) sent_counter: Counter,
    /// The same of the samples in them.
    pub(crate) spoken: Vec<u64>,
    pub(crate) spoken_counter: Counter,
    /// At each sample, the voice datagrams that crossed its link so far: sent, and received.
    pub(crate) uplink: Vec<u64>,
    pub(crate) downlink: Vec<u64>,
    pub(crate) uplink_counter: Counter,
    pub(crate) downlink_counter: Counter,
    /// Its keys to talk, by the id of their target, as its node last reported them.
    pub(crate) keys: BTreeMap<String, KeyLog>,
    /// The version and heads of its charter, as its node last reported them.
    pub(crate) charter: Option<CharterHeads>,
    /// The members that it has a link to, by device. A member whose disk was lost has a new device.
    pub(crate) connected: BTreeMap<DeviceId, usize>,
    pub(crate) last_words: Option<String>,
    /// Whether strangers reach it, as its node last reported.
    pub(crate) reachable: Option<bool>,
    /// The members whose relays it has detected as forging, and when.
    pub(crate) flagged: Vec<(Duration, usize)>,
}

/// A key to talk, and its holders.
#[derive(Clone, Debug)]
pub(crate) struct KeyLog {
    /// The target, by name and by ids.
    pub(crate) name: String,
    pub(crate) target: TargetText,
    /// The devices that hold the key, the talker's own included.
    pub(crate) devices: BTreeSet<DeviceId>,
}

/// The version of the root document, and the newest operations, in no particular order.
pub(crate) type CharterHeads = (u32, BTreeSet<String>);

/// What is observed of one listener and one talker.
#[derive(Debug, Default)]
pub(crate) struct EarLog {
    /// At each sample, the frames played out so far, the samples in them, and the frames concealed.
    pub(crate) played: Vec<u32>,
    pub(crate) heard: Vec<u64>,
    pub(crate) concealed: Vec<u32>,
    /// Counters by the talker's device.
    pub(crate) counters: BTreeMap<DeviceId, EarCounters>,
    pub(crate) connected: Vec<(Duration, Option<Duration>)>,
    /// When the talker began to speak, and the nets on which it was heard.
    pub(crate) nets: Vec<(Duration, Vec<String>)>,
    /// The paths of the link, and from when on each was in use.
    pub(crate) paths: Vec<(Duration, String)>,
    /// At each sample, the frames received so far.
    pub(crate) received: Vec<u32>,
    /// From which sample on, and through which relay, the talker was heard. `None` is for the
    /// talker itself.
    pub(crate) ways: Vec<(usize, Option<DeviceId>)>,
    pub(crate) playout_delay_ms: f32,
    pub(crate) series: Vec<EarSample>,
}

/// The counters of one device of a talker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EarCounters {
    pub(crate) played: Counter,
    pub(crate) heard: Counter,
    pub(crate) concealed: Counter,
    pub(crate) received: Counter,
    pub(crate) late: Counter,
    pub(crate) recovered: Counter,
}

/// Sums up a counter that starts again with each process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
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

    pub(crate) fn total(self) -> u64 {
        self.before + self.last
    }
}

impl Observation {
    /// An observation of nothing yet.
    pub(crate) fn new(cast: &Cast) -> Self {
        let count = cast.actors.len();
        Self {
            members: (0..count).map(|_| MemberLog::default()).collect(),
            ears: (0..count).map(|_| (0..count).map(|_| EarLog::default()).collect()).collect(),
            events: Vec::new(),
            convergence: BTreeMap::new(),
            charters: BTreeMap::new(),
            orders: BTreeMap::new(),
            limited_tickets: BTreeMap::new(),
            samples: 0,
        }
    }

    /// Notes that a member's process has started.
    pub(crate) fn started(&mut self, now: Duration, member: usize) {
        self.members[member].running.push((now, None));
    }

    /// Notes that a member's process has ended.
    pub(crate) fn stopped(&mut self, now: Duration, member: usize) {
        if let Some((_, end @ None)) = self.members[member].running.last_mut() {
            *end = Some(now);
        }
        for talker in std::mem::take(&mut self.members[member].connected).into_values() {
            close(&mut self.ears[member][talker].connected, now);
        }
        self.members[member].keys.clear();
        self.members[member].charter = None;
    }

    /// Notes that a member has another address.
    pub(crate) fn moved(&mut self, member: usize, address: Ipv4Addr) {
        self.members[member].addresses.push(address);
    }

    /// Keeps a limited ticket for all members of one entry of the scenario; `first` is the first of
    /// them.
    pub(crate) fn keep_limited_ticket(&mut self, first: usize, ticket: String) {
        self.limited_tickets.insert(first, ticket);
    }

    /// The limited ticket that was kept for the entry whose first member is `first`.
    pub(crate) fn limited_ticket(&self, first: usize) -> Option<String> {
        self.limited_tickets.get(&first).cloned()
    }

    /// Notes that an order was carried out, or why it was refused.
    pub(crate) fn answered(&mut self, order: usize, answer: Result<(), String>) {
        self.orders.insert(order, answer);
    }

    /// Notes something that the scenario did to the run.
    pub(crate) fn fault(&mut self, now: Duration, member: Option<usize>, text: &str) {
        self.events.push(EventRecord {
            at_s: now.as_secs_f64(),
            member: member.map(|member| member.to_string()),
            kind: "scenario".to_owned(),
            text: text.to_owned(),
            fault: true,
        });
    }

    /// Notes an event of a node.
    pub(crate) fn handle(
        &mut self,
        now: Duration,
        member: usize,
        event: &Event,
        devices: &BTreeMap<DeviceId, usize>,
    ) {
        let (kind, text) = match event {
            Event::PeerUp { device, name, path, address, .. } => {
                if let Some(talker) = devices.get(&device.0) {
                    let ear = &mut self.ears[member][*talker];
                    let connected = &mut self.members[member].connected;
                    if !connected.values().any(|other| other == talker) {
                        ear.connected.push((now, None));
                    }
                    connected.insert(device.0, *talker);
                    ear.paths.push((now, path.as_str().to_owned()));
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
            Event::Refused { name, reason, .. } => ("refused", format!("{name}: {reason}")),
            Event::PathChanged { device, from, to } => {
                if let Some(talker) = devices.get(&device.0) {
                    self.ears[member][*talker].paths.push((now, to.as_str().to_owned()));
                }
                ("path", format!("{} instead of {}", to.as_str(), from.as_str()))
            }
            Event::RelayForges { device, name, talker_name, .. } => {
                if let Some(relay) = devices.get(&device.0) {
                    self.members[member].flagged.push((now, *relay));
                }
                ("relay", format!("{name} forges {talker_name}"))
            }
            Event::RosterChanged { channel, target, devices, epoch, .. } => {
                let key = KeyLog {
                    name: channel.clone(),
                    target: target.clone(),
                    devices: devices.iter().map(|device| device.0).collect(),
                };
                self.members[member].keys.insert(target.id.clone(), key);
                ("key", format!("generation {epoch}, held by {}", devices.len()))
            }
            Event::TargetGone { target } => {
                self.members[member].keys.remove(target);
                return;
            }
            Event::TalkStarted { device, name, channels } => {
                if let Some(talker) = devices.get(&device.0) {
                    self.ears[member][*talker].nets.push((now, channels.clone()));
                }
                ("hears", format!("{name} begins on {}", channels.join(", ")))
            }
            Event::TalkEnded { name, .. } => ("hears", format!("{name} ends")),
            Event::CharterChanged { version, heads } => {
                let heads: BTreeSet<String> = heads.iter().cloned().collect();
                let short: Vec<_> =
                    heads.iter().map(|head| head.get(..8).unwrap_or(head)).collect();
                let text = format!("root {version}, heads {}", short.join(", "));
                self.members[member].charter = Some((*version, heads));
                ("charter", text)
            }
            Event::Stats { peers, .. } => {
                for peer in peers {
                    if let Some(talker) = devices.get(&peer.device.0) {
                        self.ears[member][*talker].note(now, peer);
                    }
                }
                return;
            }
            Event::Reachability { reachable, unreachable } => {
                let known = !reachable.is_empty() || !unreachable.is_empty();
                self.members[member].reachable = known.then_some(!reachable.is_empty());
                let list = |addresses: &[SocketAddr]| {
                    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                };
                let text = match (&reachable[..], &unreachable[..]) {
                    ([], []) => "not known any more".to_owned(),
                    ([], missed) => format!("not at {}", list(missed)),
                    (reached, _) => format!("at {}", list(reached)),
                };
                ("reached", text)
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

    /// Samples the voice of every member; called every [`SAMPLE`].
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
            log.spoken.push(log.spoken_counter.update(own.samples_sent));
            let datagrams = seat.voice().map(|voice| voice.datagrams()).unwrap_or_default();
            log.uplink.push(log.uplink_counter.update(datagrams.sent));
            log.downlink.push(log.downlink_counter.update(datagrams.came));
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
            counters.heard.update(talker.samples_played);
            counters.concealed.update(talker.frames_concealed);
            ear.playout_delay_ms = talker.playout_delay_ms;
            if talker.frames_received > 0
                && ear.ways.last().is_none_or(|(_, way)| *way != talker.via)
            {
                ear.ways.push((self.samples - 1, talker.via));
            }
        }
        for ear in &mut self.ears[listener] {
            let received = ear.total(|it| it.received);
            ear.received.push(u32::try_from(received).unwrap_or(u32::MAX));
            let (played, concealed) = (ear.total(|it| it.played), ear.total(|it| it.concealed));
            ear.played.push(u32::try_from(played).unwrap_or(u32::MAX));
            ear.heard.push(ear.total(|it| it.heard));
            ear.concealed.push(u32::try_from(concealed).unwrap_or(u32::MAX));
        }
    }

    /// Notes which links are missing, and which keys have too few or too many holders.
    pub(crate) fn check_convergence(&mut self, by: Duration, seats: &[Arc<Seat>]) {
        let running = self.members.iter().zip(seats).filter(|(log, _)| log.runs());
        let missing = convergence::missing(&running.collect::<Vec<_>>());
        self.convergence.insert(by, missing);
    }

    /// Notes the charters of all members that run.
    pub(crate) fn note_charters(&mut self, by: Duration) {
        let running = self.members.iter().enumerate().filter(|(_, log)| log.runs());
        let charters = running.map(|(member, log)| (member, log.charter.clone())).collect();
        self.charters.insert(by, charters);
    }
}

impl MemberLog {
    fn runs(&self) -> bool {
        matches!(self.running.last(), Some((_, None)))
    }

    pub(crate) fn ran_at(&self, at: Duration) -> bool {
        self.running.iter().any(|(from, to)| *from <= at && to.is_none_or(|to| at < to))
    }
}

impl EarLog {
    /// A counter summed over the talker's devices.
    pub(crate) fn total(&self, counter: impl Fn(&EarCounters) -> Counter) -> u64 {
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

fn close(spans: &mut [(Duration, Option<Duration>)], now: Duration) {
    if let Some((_, end @ None)) = spans.last_mut() {
        *end = Some(now);
    }
}

/// How often voice is sampled.
pub(crate) const SAMPLE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_goes_on_where_a_new_process_begins() {
        let mut counter = Counter::default();
        let totals = [3, 7, 2, 5, 1].map(|value| counter.update(value));
        assert_eq!(totals, [3, 7, 9, 12, 13]);
    }
}
