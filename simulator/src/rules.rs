//! What must be true of keys and datagrams in every scenario, whatever else it expects.
//!
//! Each rule asks the witness rather than the nodes: which devices could open a frame with all that
//! they were ever given, and which devices were sent it. [section "Rules" of docs/scenarios.md]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use hark_charter::{Charter, Piece};
use hark_keys::{ChannelId, DeviceId, MemberId};
use hark_mesh::Target;

use crate::{
    measured::Measured,
    record::ExpectationRecord,
    scenario::{Cast, FaultKind, WaiverRule},
    witness::{Frame, Log, MOMENT, opening::Openings},
};

/// What the witness of a run has recorded, and what follows from it.
pub(crate) struct Evidence {
    log: Log,
    openings: Openings,
    /// The machine of each device; `None` if the device belongs to no machine of the scenario.
    machines: Vec<Option<usize>>,
    reaches: RefCell<Reaches>,
}

/// Reaches that were computed before, by charter, stream and listener.
type Reaches = BTreeMap<(usize, usize, usize), Option<Rc<Reach>>>;

/// By which ways a talker may reach a listener according to a charter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reach {
    whisper: bool,
    /// The channels through which the talker reaches the listener if it listens to them.
    channels: Vec<ChannelId>,
}

impl Evidence {
    /// Tries all keys on all frames.
    pub(crate) fn new(mut log: Log, machines: &BTreeMap<DeviceId, usize>) -> Self {
        // Rights follow from the charter that a machine had at the time. The owner of a device is
        // the same at all times, so all certificates are known to all charters here.
        let certificates: Vec<_> = log
            .charters
            .iter()
            .flat_map(Charter::pieces_in_order)
            .filter(|piece| matches!(piece, Piece::Certificate(_)))
            .map(|piece| (piece.encode(), piece))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect();
        for charter in &mut log.charters {
            // Pieces that the charter already has change nothing.
            charter.take_all(certificates.iter().cloned());
        }
        let openings = Openings::of(&log);
        let machines = log.devices.iter().map(|device| machines.get(device).copied()).collect();
        Self { log, openings, machines, reaches: RefCell::default() }
    }

    /// Counts frames that the machine `talker` sealed within a time; if `on` names a net, only
    /// those for that net. Returns how many of them the machine `listener` could open, and how many
    /// there are.
    pub(crate) fn could_open(
        &self,
        (listener, talker): (usize, usize),
        on: Option<&str>,
        (after, before): (Duration, Duration),
    ) -> (usize, usize) {
        let is_of = |frame: &Frame| {
            let of = self.log.streams[frame.stream].talker;
            self.machines[of] == Some(talker)
                && (after..before).contains(&frame.at)
                && self.is_on(frame.stream, on)
        };
        let frames = self.openings.all(&self.log);
        let frames: Vec<_> = frames.filter(|(frame, _)| is_of(frame)).collect();
        let opens =
            |who: &BTreeSet<usize>| who.iter().any(|it| self.machines[*it] == Some(listener));
        (frames.iter().filter(|(_, who)| opens(who)).count(), frames.len())
    }

    /// For how long, within a time, anybody sent the machine `listener` frames of the machine
    /// `talker`; if `on` names a net, only frames for that net count.
    pub(crate) fn was_sent(
        &self,
        (listener, talker): (usize, usize),
        on: Option<&str>,
        (after, before): (Duration, Duration),
    ) -> Duration {
        let sent = self.log.sent.iter().filter(|((_, to, stream), _)| {
            let of = self.log.streams[*stream].talker;
            self.machines[*to] == Some(listener)
                && self.machines[of] == Some(talker)
                && self.is_on(*stream, on)
        });
        let within = |at: &Duration| (after..before).contains(at);
        let moments: BTreeSet<_> =
            sent.flat_map(|(_, moments)| moments.iter().filter(within)).collect();
        MOMENT * u32::try_from(moments.len()).unwrap_or(u32::MAX)
    }

    fn is_on(&self, stream: usize, net: Option<&str>) -> bool {
        let Some(net) = net else { return true };
        let Some((name, target)) = self.log.target(stream) else { return false };
        let whispers = !target.members().is_empty() || !target.roles().is_empty();
        if net == WHISPER { whispers } else { name.split(" + ").any(|part| part == net) }
    }

    /// By which ways a stream may reach a device according to a charter; `None` if the charter does
    /// not know the talker or the listener.
    fn reach(&self, charter: usize, stream: usize, listener: usize) -> Option<Rc<Reach>> {
        let mut known = self.reaches.borrow_mut();
        let found = known.entry((charter, stream, listener)).or_insert_with(|| {
            let (_, target) = self.log.target(stream)?;
            let talker = self.log.devices[self.log.streams[stream].talker];
            let reach =
                reach(&self.log.charters[charter], (talker, self.log.devices[listener]), target);
            reach.map(Rc::new)
        });
        found.clone()
    }

    /// The charters that a machine had at some moment between `from` and `to`; `None` stands for a
    /// charter that is not known.
    fn charters(
        &self,
        machine: usize,
        from: Duration,
        to: Duration,
    ) -> impl Iterator<Item = Option<usize>> {
        let course = self.log.in_force.get(&machine).map_or(&[][..], Vec::as_slice);
        let began = course.partition_point(|(at, _)| *at <= from);
        let unknown = (began == 0).then_some(None);
        let rest = course[began.saturating_sub(1)..].iter().take_while(move |(at, _)| *at <= to);
        unknown.into_iter().chain(rest.map(|(_, charter)| *charter))
    }

    /// Whether no charter that a machine had at that time lets a stream reach a device.
    fn is_kept_from(
        &self,
        machine: usize,
        (stream, listener): (usize, usize),
        (from, to): (Duration, Duration),
    ) -> bool {
        self.charters(machine, from, to).all(|charter| {
            let reach = charter.and_then(|charter| self.reach(charter, stream, listener));
            reach.is_some_and(|reach| !reach.whisper && reach.channels.is_empty())
        })
    }

    /// Whether a device listened, at that time, to no channel through which a stream reaches it.
    fn listened_not(
        &self,
        machine: usize,
        (stream, listener): (usize, usize),
        (from, to): (Duration, Duration),
    ) -> bool {
        let listens = |channel: &ChannelId| {
            let spans = self.log.listened.get(&(listener, *channel));
            spans.is_some_and(|spans| overlaps(spans, from, to, Duration::ZERO))
        };
        self.charters(machine, from, to).all(|charter| {
            let reach = charter.and_then(|charter| self.reach(charter, stream, listener));
            reach.is_some_and(|reach| !reach.whisper && !reach.channels.iter().any(listens))
        })
    }
}

/// By which ways a talker may reach a listener according to a charter; `None` if the charter does
/// not know one of them.
fn reach(
    charter: &Charter,
    (talker, listener): (DeviceId, DeviceId),
    target: &Target,
) -> Option<Reach> {
    // `None` for a device that has not come yet.
    let standing = |device: DeviceId| -> Option<Option<MemberId>> {
        let owner = charter.owner(device);
        let ended = || charter.ending(charter.member_of(device), device).is_some();
        let is_relay = || charter.state().relay(device).is_some();
        (owner.is_some() || ended() || is_relay()).then_some(owner)
    };
    let (Some(talker), Some(listener)) = (standing(talker)?, standing(listener)?) else {
        return Some(Reach::default());
    };
    if talker == listener {
        return Some(Reach { whisper: true, channels: Vec::new() });
    }
    let state = charter.state();
    let own = target.channels().iter().copied();
    let all = own.clone().chain(own.flat_map(|channel| state.linked(channel)));
    let hearing = target.hearing(state, talker, listener, &all.collect());
    Some(Reach { whisper: hearing.whisper, channels: hearing.channels })
}

/// Whether one of `spans`, each extended by `more` at its end, has a moment in common with the time
/// from `from` to `to`.
fn overlaps(
    spans: &[(Duration, Option<Duration>)],
    from: Duration,
    to: Duration,
    more: Duration,
) -> bool {
    spans.iter().any(|(start, end)| *start <= to && end.is_none_or(|end| end + more >= from))
}

/// Judges all rules. Rules that the scenario waives are judged too, and what they find is reported.
pub(crate) fn judge(cast: &Cast, measured: &Measured) -> Vec<ExpectationRecord> {
    let rules = Rules { cast, measured, evidence: measured.evidence() };
    if rules.evidence.log.frames.is_empty() {
        return Vec::new();
    }
    WaiverRule::ALL
        .iter()
        .map(|rule| {
            let found = rules.broken(*rule);
            let waiver = cast.scenario.waive.iter().find(|waiver| *waiver.rule.get_ref() == *rule);
            ExpectationRecord {
                text: match waiver {
                    None => rule.text().to_owned(),
                    Some(waiver) => format!("{} (not here: {})", rule.text(), waiver.reason),
                },
                holds: found.is_empty() || waiver.is_some(),
                measured: match found.as_slice() {
                    [] => rules.looked_at(),
                    found => crate::judge::few(found),
                },
            }
        })
        .collect()
}

struct Rules<'a> {
    cast: &'a Cast,
    measured: &'a Measured,
    evidence: &'a Evidence,
}

/// Violations of a rule by stream and listener: when the first one was, and how many there are.
type Found = BTreeMap<(usize, usize), (Duration, usize)>;

impl Rules<'_> {
    fn looked_at(&self) -> String {
        let log = &self.evidence.log;
        let own = log.own_keys.values().map(Vec::len).sum::<usize>();
        let given = log.talkers_keys.values().map(Vec::len).sum::<usize>();
        let keys = own + given + log.epochs.len();
        format!("{} frames, {keys} keys", log.frames.len())
    }

    fn broken(&self, rule: WaiverRule) -> Vec<String> {
        match rule {
            WaiverRule::Rights => self.opened(|stream, _, at, listener| {
                let talker = self.machine_of_talker(stream);
                let time = (at.saturating_sub(SETTLED), at + MOMENT);
                self.evidence.is_kept_from(talker, (stream, listener), time)
            }),
            WaiverRule::Newcomer => self.opened(|_, _, at, listener| {
                let first = self.evidence.log.first_links.get(&listener);
                first.is_none_or(|first| at + SETTLED < *first)
            }),
            WaiverRule::Leaver => {
                let patience = self.patience();
                self.opened(|stream, _, at, listener| {
                    let time = (at.saturating_sub(patience), at + SETTLED);
                    let talker = self.machine_of_talker(stream);
                    self.has_left(talker, (stream, listener), time)
                })
            }
            WaiverRule::Roster => self.opened(|_, rosters, at, listener| {
                let listener = self.evidence.log.devices[listener];
                let from = at.saturating_sub(SETTLED);
                let began = rosters.partition_point(|(since, _)| *since <= from);
                let shown = &rosters[began.saturating_sub(1)..];
                let mut shown = shown.iter().take_while(|(since, _)| *since <= at + SETTLED);
                !shown.any(|(_, holders)| holders.contains(&listener))
            }),
            WaiverRule::SentByRight => self.sent(|machine, of, at| {
                let time = (at.saturating_sub(RELAYED), at + MOMENT);
                self.evidence.is_kept_from(machine, of, time)
            }),
            WaiverRule::SentToListeners => {
                let patience = self.patience();
                self.sent(|machine, of, at| {
                    let time = (at.saturating_sub(patience), at + SETTLED);
                    self.has_left(machine, of, time)
                })
            }
            WaiverRule::SealedOnce => {
                let twice = self.evidence.log.used_twice.iter();
                let told = twice.map(|(device, at)| {
                    format!("{} at {:.2} s", self.name(*device), at.as_secs_f64())
                });
                told.collect()
            }
            WaiverRule::AllKnown => self.unknown(),
        }
    }

    /// All devices that can open a frame although `broken` says that they must not. `broken` is
    /// given the stream, its rosters, the frame's time and the device.
    fn opened(
        &self,
        broken: impl Fn(usize, &[(Duration, BTreeSet<DeviceId>)], Duration, usize) -> bool,
    ) -> Vec<String> {
        let (mut found, log) = (Found::new(), &self.evidence.log);
        for (frame, who) in self.evidence.openings.all(log) {
            let stream = log.streams[frame.stream];
            let rosters = log.rosters.get(&(stream.talker, stream.target));
            let rosters = rosters.map_or(&[][..], Vec::as_slice);
            for listener in who {
                let other =
                    self.evidence.machines[*listener] != self.evidence.machines[stream.talker];
                if other && broken(frame.stream, rosters, frame.at, *listener) {
                    found.entry((frame.stream, *listener)).or_insert((frame.at, 0)).1 += 1;
                }
            }
        }
        let told = found.into_iter().map(|((stream, listener), (from, count))| {
            let what = self.stream_name(stream);
            let (name, from) = (self.name(listener), from.as_secs_f64());
            format!("{name} could open {count} frames of {what} from {from:.2} s on")
        });
        told.collect()
    }

    /// All devices that were sent something although `broken` says that they must not be. `broken`
    /// is given the machine that sent, the stream and the device, and the time.
    fn sent(&self, broken: impl Fn(usize, (usize, usize), Duration) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        for ((machine, listener, stream), moments) in &self.evidence.log.sent {
            if self.evidence.machines[*listener].is_none() {
                continue;
            }
            let wrong: Vec<_> =
                moments.iter().filter(|at| broken(*machine, (*stream, *listener), *at)).collect();
            if let Some(first) = wrong.first() {
                told.push(format!(
                    "{} sends {} to {} for {} ms, from {:.2} s on",
                    self.cast.plan.hosts[*machine].name,
                    self.stream_name(*stream),
                    self.name(*listener),
                    (MOMENT * u32::try_from(wrong.len()).unwrap_or(u32::MAX)).as_millis(),
                    first.as_secs_f64(),
                ));
            }
        }
        told
    }

    /// Whether a device was away at that time, as far as the machine that seals or sends can know,
    /// or listened to nothing through which it is reached.
    fn has_left(
        &self,
        machine: usize,
        (stream, listener): (usize, usize),
        (from, to): (Duration, Duration),
    ) -> bool {
        let evidence = self.evidence;
        if evidence.listened_not(machine, (stream, listener), (from, to)) {
            return true;
        }
        let present = evidence.log.present.get(&listener).map_or(&[][..], Vec::as_slice);
        let links = evidence.machines[listener]
            .map_or(&[][..], |listener| self.measured.links(machine, listener));
        // A machine that has no link to the device learns that it has left when the links of others
        // have ended.
        let late = if links.is_empty() { LINK_ENDS } else { Duration::ZERO };
        !overlaps(present, from, to, late) && !overlaps(links, from, to, Duration::ZERO)
    }

    /// Pairs of which the listener accepted frames of the talker while the witness has no key that
    /// opens any of them, and the number of frames that the witness had no room for. If there are
    /// any, the other judgements are worth nothing.
    fn unknown(&self) -> Vec<String> {
        let members = 0..self.cast.actors.len();
        let pairs =
            members.clone().flat_map(|listener| members.clone().map(move |it| (listener, it)));
        let all = (Duration::ZERO, Duration::MAX);
        let deaf = pairs.filter(|(listener, talker)| {
            listener != talker
                && self.measured.received(*listener, *talker) > 0
                // Frames that others forge in its name are not its own.
                && self.measured.sealed(*talker) > 0
                && self.evidence.could_open((*listener, *talker), None, all).0 == 0
        });
        let name = |machine: usize| &self.cast.plan.hosts[machine].name;
        let deaf = deaf.map(|(listener, talker)| {
            format!("nothing that {} has taken of {} opens", name(listener), name(talker))
        });
        let missed = self.evidence.log.missed;
        let missed = (missed > 0).then(|| format!("{missed} frames had no room"));
        deaf.chain(missed).collect()
    }

    /// The time after which every device has learned that another has left.
    fn patience(&self) -> Duration {
        let cuts = |fault: &FaultKind| {
            matches!(
                fault,
                FaultKind::Cut { .. }
                    | FaultKind::Pause { .. }
                    | FaultKind::Roam { .. }
                    | FaultKind::Relink { .. }
                    | FaultKind::RestartGateway(_)
                    | FaultKind::Transfer { .. }
            )
        };
        let cut = self.cast.faults.iter().any(|(_, fault)| cuts(fault));
        if cut { LINK_ENDS + LEFT } else { LEFT }
    }

    fn machine_of_talker(&self, stream: usize) -> usize {
        let talker = self.evidence.log.streams[stream].talker;
        self.evidence.machines[talker].unwrap_or(usize::MAX)
    }

    fn name(&self, device: usize) -> String {
        let machine = self.evidence.machines[device];
        let name = machine.map(|machine| self.cast.plan.hosts[machine].name.clone());
        name.unwrap_or_else(|| self.evidence.log.devices[device].short())
    }

    fn stream_name(&self, stream: usize) -> String {
        let target = self.evidence.log.target(stream).map_or("?", |(name, _)| name);
        format!("{} to {target}", self.name(self.evidence.log.streams[stream].talker))
    }
}

/// How long after a change of its charter a talker may still seal by the rights before, since the
/// change is written to disk first. [PROTO-6.9] Also how long a device may count as listening
/// before it has said so: a newcomer does from its door's message on. [PROTO-3.3]
const SETTLED: Duration = Duration::from_millis(100);

/// The same for a machine that sends, including what waits at a relay. [PROTO-9.13]
const RELAYED: Duration = Duration::from_millis(200);

/// How long after a device has left something may still open or reach it. This covers the message,
/// 200 ms in which others may leave as well, and a second until all have the next key [PROTO-6.5].
/// For an epoch it covers the relay's message, 400 ms and 300 ms. [PROTO-11.4] [PROTO-11.7]
const LEFT: Duration = Duration::from_secs(3);

/// The time after which a link over which nothing arrives ends. [PROTO-2.7]
pub(crate) const LINK_ENDS: Duration = Duration::from_secs(33);

/// The word that stands for all whispers.
const WHISPER: &str = "whisper";

#[cfg(test)]
mod tests {
    use hark_charter::content::Change;
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    #[test]
    fn a_charter_keeps_a_net_from_who_was_removed_and_a_whisper_from_all_but_one() {
        let keys: Vec<_> = (1..=4).map(|n| DeviceKey::from_secret(&[n; 32])).collect();
        let devices: Vec<_> = keys.iter().map(DeviceKey::id).collect();
        let mut charter = Charter::found("Watch", "squad", &keys[0], None, &SeededRandom::new(5));
        let founder = charter.member_of(devices[0]);
        for device in &devices[1..3] {
            let certificate = charter.issue(&keys[0], founder, *device, None).expect("it may");
            charter.take(Piece::Certificate(certificate)).expect("it is new");
        }
        let net = Target::of_channel(charter.first_channel(founder).expect("there is one").id);
        let whisper = Target::new([], [charter.member_of(devices[1])], []);
        let by = |charter: &Charter, target, listener: usize| {
            let reach = reach(charter, (devices[0], devices[listener]), target)?;
            Some((reach.whisper, !reach.channels.is_empty()))
        };
        assert_eq!(by(&charter, &net, 2), Some((false, true)));
        assert_eq!(by(&charter, &whisper, 1), Some((true, false)));
        assert_eq!(by(&charter, &whisper, 2), Some((false, false)));
        assert_eq!(by(&charter, &net, 3), None, "it has not come yet");
        let removed = charter.member_of(devices[2]);
        let removal = Change::Remove { member: removed, admission: 1 };
        let operation = charter.edit(&keys[0], founder, vec![removal]).expect("a root may");
        charter.take(Piece::Operation(operation)).expect("it is new");
        assert_eq!(by(&charter, &net, 2), Some((false, false)));
        assert_eq!(by(&charter, &net, 1), Some((false, true)));
    }

    #[test]
    fn spans_meet_at_their_ends() {
        let second = Duration::from_secs;
        let spans = [(second(2), Some(second(4))), (second(8), None)];
        let meets = |from, to, more| overlaps(&spans, second(from), second(to), second(more));
        assert!(!meets(0, 1, 0) && meets(0, 2, 0) && meets(4, 5, 0) && !meets(5, 7, 0));
        assert!(meets(5, 7, 1) && meets(9, 99, 0));
    }
}
