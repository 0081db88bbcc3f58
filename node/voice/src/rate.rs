//! Bit rate and frame length of our own voice: they follow the way to those who hear us.
//!
//! Nothing is sent to measure that way. Each report on our datagrams names the newest one that had
//! arrived. How long ago the next one was sent is about a round trip. If it grows above its least
//! value of the last seconds, datagrams wait in a queue. If that lasts, and clearly fewer arrive
//! than were sent, the queue is our own: what arrived is what the way carries. Then we send no more
//! than that, with longer frames, whose headers cost less, at a lower bit rate. The queue of
//! somebody's download would not get shorter by it. Only the network decides, never what is said.
//! [PROTO-7.10]

use std::time::Duration;

use hark_keys::Timestamp;
use hark_mesh::{
    datagram::FRAMES_MAX,
    topology::{DIRECT_FANOUT_MAX, Plan},
};

use super::{SAMPLE_RATE, WindowMinimum};

/// How our voice is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Samples in a frame: 120, 240, 480 or 960.
    pub frame_samples: usize,
    /// Bit rate of Opus in bits per second.
    pub bitrate_bps: u32,
    /// Whether part of it goes to deep redundancy: each packet describes the sound before it.
    pub deep: bool,
    /// Whether it is coded for music.
    pub music: bool,
    /// Whether both sides are coded.
    pub stereo: bool,
}

/// The music that a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Music {
    /// Bit rate of Opus in bits per second, 96,000 to 192,000.
    pub bitrate_bps: u32,
    /// Whether it is sent in stereo, by those who capture both sides.
    pub stereo: bool,
}

impl Coding {
    /// Size of each packet, in bytes.
    pub fn packet_bytes(self) -> usize {
        self.bitrate_bps as usize * self.frame_samples / 8 / SAMPLE_RATE as usize
    }

    /// Whether enough is left for the sound itself beside deep redundancy.
    fn has_room_for_deep(self) -> bool {
        !self.music && self.frame_samples >= DEEP_SAMPLES_MIN && self.bitrate_bps >= DEEP_BPS_MIN
    }

    /// What datagrams with `copies` copies take of the way, in bits per second.
    fn cost_bps(self, copies: u8) -> u64 {
        let frame = self.packet_bytes() + FRAME_OVERHEAD;
        let datagram = DATAGRAM_OVERHEAD + frame * (1 + usize::from(copies));
        (datagram * 8 * SAMPLE_RATE as usize / self.frame_samples) as u64
    }
}

/// What the person has set. `None` leaves the choice to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodingSettings {
    /// Bit rate in bits per second, 24,000 to 96,000.
    pub bitrate_bps: Option<u32>,
    /// Samples in a frame: 120, 240, 480 or 960.
    pub frame_samples: Option<usize>,
    /// What protects from loss, whatever listeners ask for.
    pub redundancy: Option<Redundancy>,
}

/// What protects our voice from loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redundancy {
    /// This number of copies of earlier frames in each datagram, 0 to 5.
    Copies(u8),
    /// No copies: each packet describes the sound before it (DRED). Only packets of 10 or 20 ms do.
    Deep,
}

impl CodingSettings {
    /// Whether each setting leaves room for the others.
    ///
    /// # Errors
    ///
    /// [`CodingError::DeepInShortFrames`].
    pub fn check(&self, low_delay: bool) -> Result<(), CodingError> {
        let usual = low_delay.then_some(LOW_DELAY[0].frame_samples);
        let frame = self.frame_samples.or(usual).filter(|samples| *samples < DEEP_SAMPLES_MIN);
        match (self.redundancy, frame) {
            (Some(Redundancy::Deep), Some(samples)) => Err(CodingError::DeepInShortFrames(samples)),
            _ => Ok(()),
        }
    }

    /// Carries out a change.
    pub fn apply(&mut self, change: CodingChange) {
        let CodingChange { bitrate_bps, frame_samples, redundancy } = change;
        self.bitrate_bps = bitrate_bps.unwrap_or(self.bitrate_bps);
        self.frame_samples = frame_samples.unwrap_or(self.frame_samples);
        self.redundancy = redundancy.unwrap_or(self.redundancy);
    }
}

/// What is to change of the settings. `None` leaves a setting as it is, and `Some(None)` leaves the
/// choice to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodingChange {
    /// As in [`CodingSettings`].
    pub bitrate_bps: Option<Option<u32>>,
    /// As in [`CodingSettings`].
    pub frame_samples: Option<Option<usize>>,
    /// As in [`CodingSettings`].
    pub redundancy: Option<Option<Redundancy>>,
}

/// Reads a bit rate: `auto`, or 24 to 96 kbit/s.
pub fn parse_bitrate(text: &str) -> Result<Option<u32>, CodingError> {
    let kbps = |kbps: &u32| (24..=96).contains(kbps);
    let number = || text.parse().ok().filter(kbps).ok_or(CodingError::Bitrate(text.to_owned()));
    choice(text, || number().map(|kbps| kbps * 1_000))
}

/// Reads a frame length: `auto`, or 2.5, 5, 10 or 20 ms.
pub fn parse_frame(text: &str) -> Result<Option<usize>, CodingError> {
    choice(text, || match text {
        "2.5" => Ok(120),
        "5" => Ok(240),
        "10" => Ok(480),
        "20" => Ok(960),
        _ => Err(CodingError::Frame(text.to_owned())),
    })
}

/// Reads a redundancy: `auto`, `deep`, or 0 to 5 copies.
pub fn parse_redundancy(text: &str) -> Result<Option<Redundancy>, CodingError> {
    let fits = |copies: &u8| *copies <= COPIES_MAX;
    let copies = || text.parse().ok().filter(fits).map(Redundancy::Copies);
    choice(text, || match text {
        "deep" => Ok(Redundancy::Deep),
        _ => copies().ok_or(CodingError::Redundancy(text.to_owned())),
    })
}

fn choice<T>(
    text: &str,
    number: impl FnOnce() -> Result<T, CodingError>,
) -> Result<Option<T>, CodingError> {
    if text == "auto" { Ok(None) } else { number().map(Some) }
}

/// Reasons why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// Not a bit rate.
    #[error("the bit rate is auto or 24 to 96 kbit/s, not {0}")]
    Bitrate(String),
    /// Not a frame length.
    #[error("the frame is auto, 2.5, 5, 10 or 20 ms, not {0}")]
    Frame(String),
    /// Not a redundancy.
    #[error("redundancy is auto, deep or 0 to 5 copies, not {0}")]
    Redundancy(String),
    /// Deep redundancy in frames that have no room for it.
    #[error("deep redundancy needs frames of 10 or 20 ms, not {} ms", *.0 as f32 / 48.0)]
    DeepInShortFrames(usize),
}

/// What is in force, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingState {
    /// How our voice is coded.
    pub coding: Coding,
    /// Most copies of earlier frames in a datagram.
    pub copies_max: u8,
    /// Why it is so.
    pub reason: CodingReason,
}

impl Default for CodingState {
    /// Before anything is measured.
    fn default() -> Self {
        let coding = Coding {
            frame_samples: 480,
            bitrate_bps: 48_000,
            deep: false,
            music: false,
            stereo: false,
        };
        Self { coding, copies_max: COPIES_MAX, reason: CodingReason::Usual }
    }
}

/// Why a bit rate and frame length are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingReason {
    /// Nothing is in the way.
    Usual,
    /// Nothing is in the way, and the channel is for music.
    Music,
    /// The person has set the bit rate or the frame length.
    Set,
    /// We send to many listeners ourselves.
    ManyListeners,
    /// A way carries less than we would send: our datagrams waited in a queue there.
    Queue,
}

/// The number of copies that a listener gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesRule {
    fixed: Option<u8>,
    most: u8,
}

impl CopiesRule {
    /// A listener gets what it asks for.
    pub const ASKED: Self = Self { fixed: None, most: COPIES_MAX };

    /// The number of copies for a listener that asks for `asked`.
    pub fn of(self, asked: u8) -> u8 {
        self.fixed.unwrap_or(asked).min(self.most)
    }
}

/// Chooses how our voice is coded.
pub(super) struct Rate {
    /// What is used if nothing is in the way, and what instead of it where that does not do.
    usual: &'static [Coding],
    settings: CodingSettings,
    /// What we send, if it is music.
    music: Option<Music>,
    /// Whether we send to many listeners ourselves.
    many: bool,
    /// Whether a relay takes what we send.
    relayed: bool,
    /// Whether listeners lose something.
    lossy: bool,
    /// What we may send on each way, in bits per second. `None` if nothing is in the way.
    budget_bps: Option<u64>,
    /// When the budget last became smaller, or so large that more is sent.
    changed: Option<Timestamp>,
    /// Since when nothing has waited, or since the budget last became larger.
    clear_since: Option<Timestamp>,
    /// How long nothing may wait before the budget becomes larger.
    patience: Duration,
    /// Whether it has become larger since a queue of ours was last found.
    is_raised: bool,
    /// Whether listeners lose more than the copies that fit can repair.
    deep: bool,
}

impl Rate {
    pub(super) fn new(low_delay: bool, settings: CodingSettings) -> Self {
        Self {
            usual: if low_delay { &LOW_DELAY } else { &USUAL },
            settings,
            music: None,
            many: false,
            relayed: false,
            lossy: false,
            budget_bps: None,
            changed: None,
            clear_since: None,
            patience: PATIENCE,
            is_raised: false,
            deep: false,
        }
    }

    pub(super) fn change(&mut self, change: CodingChange) {
        self.settings.apply(change);
    }

    pub(super) fn settings(&self) -> CodingSettings {
        self.settings
    }

    /// What we say goes by this plan. It is such `music`, or speech if that is `None`.
    /// [PROTO-7.12]
    pub(super) fn follow(&mut self, plan: &Plan, music: Option<Music>) {
        self.music = music;
        self.many = plan.direct.len() > DIRECT_FANOUT_MAX;
        self.relayed = !plan.hops.is_empty();
    }

    /// A frame's time has passed. `ways` are those that the talkspurt takes, with the copies that
    /// each asks for.
    pub(super) fn judge<'q>(
        &mut self,
        now: Timestamp,
        asking: impl Iterator<Item = (&'q Queueing, u8)> + Clone,
    ) {
        let ways = asking.clone().map(|(way, _)| way);
        let count = ways.clone().count();
        // One listener of many that hears badly does not lower the quality for all.
        let share = |bad: usize| bad > 0 && bad * DECIDING_SHARE >= count;
        let carried = || ways.clone().filter_map(|way| way.carried_bps(now));
        if share(ways.clone().filter(|way| way.queue > QUEUE_GONE).count()) {
            self.clear_since = None;
        }
        let settled = self.changed.is_none_or(|at| now.saturating_duration_since(at) >= SETTLE);
        if !settled {
            return;
        }
        if share(carried().count()) {
            self.limit(now, carried().min().unwrap_or(0));
        } else if let Some(budget) = self.budget_bps {
            let since = *self.clear_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.patience {
                self.raise(now, budget);
            }
        }
        let lack = |more: u8| share(asking.clone().filter(|(_, copies)| *copies > more).count());
        let before = self.wanted();
        self.lossy = lack(0);
        // Once in force, it stays until nothing is lost any more.
        self.deep = if self.deep { self.lossy } else { lack(before.copies_max) };
        if self.wanted().coding != before.coding {
            self.changed = Some(now);
        }
    }

    /// The way has carried so many bits per second, while more was sent.
    fn limit(&mut self, now: Timestamp, carried_bps: u64) {
        // What was tried and failed is tried again later each time.
        if std::mem::take(&mut self.is_raised) {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        let least = LEVELS[LEVELS.len() - 1].cost_bps(0);
        let (times, of) = FILLED;
        self.budget_bps = Some((carried_bps * times / of).max(least));
        self.changed = Some(now);
        self.clear_since = None;
    }

    fn raise(&mut self, now: Timestamp, budget: u64) {
        let before = self.wanted();
        let (times, of) = RAISED;
        let more = budget * times / of;
        let best = self.usual().map(|it| it.cost_bps(COPIES_MAX)).max();
        self.budget_bps = Some(more).filter(|more| best.is_some_and(|best| *more < best));
        self.is_raised = true;
        self.clear_since = Some(now);
        if self.wanted() != before {
            self.changed = Some(now);
        }
    }

    /// What is used if nothing is in the way, and what instead of it where that does not do.
    fn usual(&self) -> impl Iterator<Item = Coding> {
        let music = self.music.map(|music| Coding { bitrate_bps: music.bitrate_bps, ..MUSIC });
        let speech = if music.is_some() { &USUAL } else { self.usual };
        music.into_iter().chain(speech.iter().copied())
    }

    /// Whether frames may have so many samples.
    fn allows(&self, frame_samples: usize) -> bool {
        // A relay takes 240 datagrams a second, and five copies of so short frames repair no burst.
        frame_samples > 120 || !self.relayed && !self.lossy
    }

    /// What the next talkspurt is to be coded by.
    pub(super) fn wanted(&self) -> CodingState {
        let floor = if self.many { self.usual().count() } else { 0 };
        let budget = self.budget_bps.unwrap_or(u64::MAX);
        let levels = self.usual().chain(LEVELS);
        let fits = |it: &Coding| it.cost_bps(0) <= budget && self.allows(it.frame_samples);
        let chosen = levels.skip(floor).find(fits);
        let mut coding = chosen.unwrap_or(LEVELS[LEVELS.len() - 1]);
        coding.bitrate_bps = self.settings.bitrate_bps.unwrap_or(coding.bitrate_bps);
        coding.music = self.music.is_some();
        coding.stereo =
            self.music.is_some_and(|it| it.stereo) && coding.bitrate_bps >= STEREO_BPS_MIN;
        if let Some(frame_samples) = self.settings.frame_samples {
            coding.frame_samples =
                if self.relayed { frame_samples.max(240) } else { frame_samples };
        }
        let deep = self.settings.redundancy.map_or(self.deep, |it| it == Redundancy::Deep);
        coding.deep = deep && coding.has_room_for_deep();
        self.state(coding)
    }

    /// What is in force while frames are coded by `coding`.
    pub(super) fn state(&self, coding: Coding) -> CodingState {
        let settings = &self.settings;
        let is_set = settings.bitrate_bps.is_some() || settings.frame_samples.is_some();
        let reason = match (self.budget_bps, self.many) {
            _ if is_set => CodingReason::Set,
            (Some(_), _) => CodingReason::Queue,
            (None, true) => CodingReason::ManyListeners,
            (None, false) if coding.music => CodingReason::Music,
            (None, false) => CodingReason::Usual,
        };
        let room = DATAGRAM_BYTES / (coding.packet_bytes() + FRAME_OVERHEAD) - 1;
        let most = COPIES_MAX.min(room as u8);
        // What the person has set is what is sent.
        let budget = self.budget_bps.filter(|_| settings.redundancy.is_none()).unwrap_or(u64::MAX);
        let affordable = (1..=most).take_while(|copies| coding.cost_bps(*copies) <= budget);
        CodingState { coding, copies_max: affordable.last().unwrap_or(0), reason }
    }

    /// The rule for copies while `state` is in force.
    pub(super) fn copies(&self, state: &CodingState) -> CopiesRule {
        let fixed = self.settings.redundancy.and_then(|redundancy| match redundancy {
            Redundancy::Copies(copies) => Some(copies),
            // It describes speech alone.
            Redundancy::Deep => (!state.coding.music).then_some(0),
        });
        CopiesRule { fixed, most: state.copies_max }
    }
}

/// What the reports on our datagrams say of the way that they take.
pub(super) struct Queueing {
    /// When the last datagrams were sent, by the lower bits of their sequence numbers.
    sent: Vec<(u16, Timestamp)>,
    /// The shortest time, in microseconds, between a datagram and a report that lacks it.
    shortest: WindowMinimum,
    /// How much longer that time was at the last report.
    queue: Duration,
    /// All that was sent and arrived until now.
    total: Carried,
    /// The same when reports began to tell of a queue.
    queued_since: Option<(Timestamp, Carried)>,
}

/// What was sent and what arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    datagrams: u64,
    bytes: u64,
    arrived: u64,
}

impl Default for Queueing {
    /// Nothing has been sent yet.
    fn default() -> Self {
        Self {
            sent: vec![(0, Timestamp::ZERO); SENT_KEPT],
            shortest: WindowMinimum::new(SHORTEST_WINDOW),
            queue: Duration::ZERO,
            total: Carried::default(),
            queued_since: None,
        }
    }
}

impl Queueing {
    /// A talkspurt begins: nothing of it has been reported yet.
    pub(super) fn begin(&mut self) {
        self.queued_since = None;
        self.queue = Duration::ZERO;
    }

    /// The datagram of that sequence number is sent, `bytes` long.
    pub(super) fn handle_sent(&mut self, now: Timestamp, sequence: u16, bytes: usize) {
        self.sent[usize::from(sequence) % SENT_KEPT] = (sequence, now);
        self.total.datagrams += 1;
        self.total.bytes += (bytes + DATAGRAM_OVERHEAD) as u64;
    }

    /// A report names the `highest` sequence number that had arrived, and how many have arrived
    /// since the report before.
    pub(super) fn handle_report(&mut self, now: Timestamp, highest: u16, received: u16) {
        self.total.arrived += u64::from(received);
        let next = highest.wrapping_add(1);
        let (Some(before), Some(sent)) = (self.sent_at(highest), self.sent_at(next)) else {
            return;
        };
        // After a pause, the report may have been on its way before the next datagram was.
        if sent.saturating_duration_since(before) > STEADY {
            return;
        }
        let took = now.saturating_duration_since(sent).as_micros() as i64;
        let queue = took - self.shortest.update(now, took);
        self.queue = Duration::from_micros(u64::try_from(queue).unwrap_or(0));
        if self.queue < QUEUE {
            self.queued_since = None;
        } else {
            self.queued_since.get_or_insert((now, self.total));
        }
    }

    fn sent_at(&self, sequence: u16) -> Option<Timestamp> {
        let (held, at) = self.sent[usize::from(sequence) % SENT_KEPT];
        (held == sequence && at > Timestamp::ZERO).then_some(at)
    }

    /// What the way carries, in bits per second, if it carries clearly less than we send.
    fn carried_bps(&self, now: Timestamp) -> Option<u64> {
        let (since, before) = self.queued_since?;
        let lasted = now.saturating_duration_since(since);
        if lasted < QUEUE_LASTS {
            return None;
        }
        let sent = self.total.datagrams - before.datagrams;
        let arrived = self.total.arrived - before.arrived;
        let (times, of) = OURS;
        let bits = (self.total.bytes - before.bytes) * 8;
        let per_second = bits as u128 * 1_000 / lasted.as_millis().max(1);
        let carried = per_second * u128::from(arrived) / u128::from(sent.max(1));
        (arrived * of < sent * times).then_some(carried as u64)
    }
}

/// What is used if nothing is in the way.
const USUAL: [Coding; 1] =
    [Coding { frame_samples: 480, bitrate_bps: 48_000, deep: false, music: false, stereo: false }];

/// The same with low delay. The shortest frames need more bits for as good a sound.
const LOW_DELAY: [Coding; 2] = [
    Coding { frame_samples: 120, bitrate_bps: 96_000, deep: false, music: false, stereo: false },
    Coding { frame_samples: 240, bitrate_bps: 64_000, deep: false, music: false, stereo: false },
];

/// Music, but for its bit rate. Longer frames would be no better, and would come later.
const MUSIC: Coding =
    Coding { frame_samples: 480, bitrate_bps: 0, deep: false, music: true, stereo: false };

/// The lowest bit rate that is enough for both sides, in bits per second.
const STEREO_BPS_MIN: u32 = 48_000;

/// What is used instead of the usual coding while the network is in the way: less and less.
const LEVELS: [Coding; 3] = [
    Coding { frame_samples: 960, bitrate_bps: 32_000, deep: false, music: false, stereo: false },
    Coding { frame_samples: 960, bitrate_bps: 24_000, deep: false, music: false, stereo: false },
    Coding { frame_samples: 960, bitrate_bps: 16_000, deep: false, music: false, stereo: false },
];

/// The shortest frames that deep redundancy fits in, in samples.
const DEEP_SAMPLES_MIN: usize = 480;

/// The lowest bit rate that leaves enough for the sound beside deep redundancy.
const DEEP_BPS_MIN: u32 = 24_000;

/// The largest number of copies in a datagram.
const COPIES_MAX: u8 = FRAMES_MAX as u8 - 1;

/// Bytes of a datagram for frames. A relay takes 1,234 in all. [PROTO-9.2]
pub(super) const DATAGRAM_BYTES: usize = 1_220;

/// Bytes of a frame in a datagram besides its packet: length, SFrame's header and tag, our header.
const FRAME_OVERHEAD: usize = 2 + 9 + 10 + 5;

/// Bytes of a datagram besides its frames: IP, UDP, the fast path and the datagram's header.
const DATAGRAM_OVERHEAD: usize = 28 + 25 + 8;

/// The share of the ways, as its reciprocal, that decides for all.
const DECIDING_SHARE: usize = 5;

/// A change lasts for at least this time.
const SETTLE: Duration = Duration::from_secs(5);

/// How long nothing may wait before we send more again, at first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest patience, after several tries that failed.
const PATIENCE_MAX: Duration = Duration::from_secs(80);

/// How much of what a way carries we use, and by how much we then use more each time.
const FILLED: (u64, u64) = (9, 10);
const RAISED: (u64, u64) = (11, 10);

/// A queue of this length that lasts may be our own. One stop of a mobile network makes as long a
/// queue, but it is gone at once.
const QUEUE: Duration = Duration::from_millis(80);

/// How long a queue lasts before we judge it. Somebody's upload fills one in a second.
const QUEUE_LASTS: Duration = Duration::from_secs(2);

/// If less than this share of what we send arrives meanwhile, the queue is ours.
const OURS: (u64, u64) = (4, 5);

/// A shorter queue is none.
const QUEUE_GONE: Duration = Duration::from_millis(40);

/// Datagrams further apart are not of one talkspurt without a pause.
const STEADY: Duration = Duration::from_millis(45);

/// Send times that are remembered: those of more than a second, even with proofs between the
/// frames. A report that is older says nothing.
const SENT_KEPT: usize = 512;

/// Half of the span in which the shortest way is looked for.
const SHORTEST_WINDOW: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use hark_keys::{DeviceKey, SeededRandom};
    use hark_mesh::topology::Hop;

    use super::*;

    /// A way of 40 ms that carries `bps` bits per second, with room for 500 ms in front of it, and
    /// a report each 250 ms.
    struct Way {
        rate: Rate,
        queueing: Queueing,
        now_ms: u64,
        sequence: u16,
        free_at_ms: f64,
        under_way: VecDeque<(f64, u16)>,
        /// The copies that the listener asks for.
        asked: u8,
    }

    impl Way {
        fn new(settings: CodingSettings) -> Self {
            Self {
                rate: Rate::new(false, settings),
                queueing: Queueing::default(),
                now_ms: 1_000,
                sequence: 0,
                free_at_ms: 0.0,
                under_way: VecDeque::new(),
                asked: 0,
            }
        }

        /// Somebody else's packets delay ours by `others_ms`.
        fn run(&mut self, seconds: u64, bps: u64, others_ms: f64) -> CodingState {
            let end_ms = self.now_ms + seconds * 1_000;
            let mut changes = 0;
            while self.now_ms < end_ms {
                let (now, now_ms) = (Timestamp::from_millis(self.now_ms), self.now_ms as f64);
                let coding = self.rate.wanted().coding;
                let bytes = coding.packet_bytes() + FRAME_OVERHEAD;
                self.queueing.handle_sent(now, self.sequence, bytes);
                if self.free_at_ms - now_ms < 500.0 {
                    let bits = ((bytes + DATAGRAM_OVERHEAD) * 8) as f64;
                    self.free_at_ms = self.free_at_ms.max(now_ms) + bits * 1e3 / bps as f64;
                    self.under_way.push_back((self.free_at_ms + others_ms, self.sequence));
                }
                self.sequence = self.sequence.wrapping_add(1);
                if self.now_ms.is_multiple_of(250) || self.now_ms % 250 == 10 {
                    let (mut received, mut highest) = (0, None);
                    while let Some((_, number)) =
                        self.under_way.pop_front_if(|(at, _)| *at + 40.0 <= now_ms)
                    {
                        (received, highest) = (received + 1, Some(number));
                    }
                    if let Some(highest) = highest {
                        self.queueing.handle_report(now, highest, received);
                    }
                }
                self.rate.judge(now, [(&self.queueing, self.asked)].into_iter());
                changes += u32::from(self.rate.wanted().coding != coding);
                self.now_ms += (coding.frame_samples / 48) as u64;
            }
            assert!(u64::from(changes) <= seconds.div_ceil(5), "{changes} changes");
            self.rate.wanted()
        }
    }

    const USUAL: Coding = super::USUAL[0];
    const WIDE: u64 = 10_000_000;

    /// [PROTO-7.10]
    /// `deep` was taken with frames of 5 ms, and nothing protected them.
    #[test]
    fn deep_redundancy_in_short_frames_protected_nothing() {
        let deep = |frame_samples| CodingSettings {
            frame_samples,
            redundancy: Some(Redundancy::Deep),
            ..CodingSettings::default()
        };
        assert_eq!(deep(None).check(false), Ok(()));
        assert_eq!(deep(Some(480)).check(true), Ok(()));
        assert_eq!(deep(Some(240)).check(false), Err(CodingError::DeepInShortFrames(240)));
        let error = deep(None).check(true).expect_err("frames are 2.5 ms long");
        assert_eq!(error.to_string(), "deep redundancy needs frames of 10 or 20 ms, not 2.5 ms");
    }

    #[test]
    fn a_way_that_carries_less_gets_less_and_later_more_again() {
        let mut way = Way::new(CodingSettings::default());
        assert_eq!(way.run(5, WIDE, 0.0), CodingState::default());
        let state = way.run(8, 80_000, 0.0);
        assert_eq!(state.coding, LEVELS[0], "72 kbit/s of 80");
        assert_eq!((state.copies_max, state.reason), (0, CodingReason::Queue));
        assert_eq!(way.run(10, 80_000, 0.0).coding, LEVELS[0]);
        assert_eq!(way.run(120, WIDE, 0.0).coding, USUAL);
        let narrow = way.run(10, 50_000, 0.0);
        assert_eq!(narrow.coding, LEVELS[2], "nothing takes less");
    }

    #[test]
    fn what_was_tried_and_failed_is_tried_again_later() {
        let mut way = Way::new(CodingSettings::default());
        way.run(13, 80_000, 0.0);
        assert_eq!(way.rate.patience, PATIENCE);
        way.run(120, 80_000, 0.0);
        assert_eq!(way.rate.patience, 2 * PATIENCE);
    }

    /// Regression: the queue of an upload made us send less and protect less, which helped nobody.
    #[test]
    fn a_queue_of_others_lowers_nothing() {
        let mut way = Way::new(CodingSettings::default());
        way.run(5, WIDE, 0.0);
        assert_eq!(way.run(20, WIDE, 250.0), CodingState::default());
        assert_eq!(way.run(5, WIDE, 0.0), CodingState::default());
    }

    /// Regression: a handover of a mobile network was taken for a queue.
    #[test]
    fn a_stop_of_a_second_lowers_nothing() {
        let mut way = Way::new(CodingSettings::default());
        way.run(5, WIDE, 0.0);
        way.free_at_ms = way.now_ms as f64 + 450.0;
        assert_eq!(way.run(5, WIDE, 0.0), CodingState::default());
    }

    #[test]
    fn settings_outside_their_range_are_refused_by_name() {
        assert_eq!(parse_bitrate("96"), Ok(Some(96_000)));
        assert_eq!(parse_frame("2.5"), Ok(Some(120)));
        assert_eq!(parse_redundancy("auto"), Ok(None));
        assert_eq!(parse_redundancy("2"), Ok(Some(Redundancy::Copies(2))));
        assert_eq!(parse_redundancy("deep"), Ok(Some(Redundancy::Deep)));
        for text in ["23", "97", "-24", "24.5", "", "Auto"] {
            assert_eq!(parse_bitrate(text), Err(CodingError::Bitrate(text.to_owned())));
        }
        assert!(parse_frame("40").is_err() && parse_redundancy("6").is_err());
    }

    /// [PROTO-7.11]
    #[test]
    fn deep_redundancy_is_for_losses_that_no_copies_can_repair() {
        let mut way = Way::new(CodingSettings::default());
        way.asked = 3;
        assert!(!way.run(10, WIDE, 0.0).coding.deep, "copies fit, and are better");
        let state = way.run(10, 80_000, 0.0);
        assert_eq!(state.coding, Coding { deep: true, ..LEVELS[0] });
        way.asked = 0;
        assert_eq!(way.run(6, 80_000, 0.0).coding, LEVELS[0]);
        let mut narrow = Way::new(CodingSettings::default());
        narrow.asked = 3;
        assert_eq!(narrow.run(15, 50_000, 0.0).coding, LEVELS[2], "too few bits for both");
        let deep = CodingSettings { redundancy: Some(Redundancy::Deep), ..Default::default() };
        let mut rate = Rate::new(false, deep);
        assert_eq!(rate.wanted().coding, Coding { deep: true, ..USUAL });
        assert_eq!(rate.copies(&rate.wanted()).of(5), 0);
        rate.usual = &LOW_DELAY;
        assert!(!rate.wanted().coding.deep, "so short frames have no room");
    }

    /// [PROTO-7.12]
    #[test]
    fn music_gives_way_to_the_network_like_speech_but_is_never_described() {
        let mono = |kbps: u32| Some(Music { bitrate_bps: 1_000 * kbps, stereo: false });
        let mut way = Way::new(CodingSettings::default());
        way.rate.follow(&Plan::default(), mono(160));
        let music = |coding| Coding { music: true, ..coding };
        let state = way.run(5, WIDE, 0.0);
        let best = Coding { bitrate_bps: 160_000, ..MUSIC };
        assert_eq!((state.coding, state.reason), (best, CodingReason::Music));
        way.asked = 3;
        let state = way.run(12, 140_000, 0.0);
        assert_eq!((state.coding, state.reason), (music(USUAL), CodingReason::Queue));
        assert_eq!(way.run(12, 100_000, 0.0).coding, music(LEVELS[0]));
        way.asked = 0;
        assert_eq!(way.run(240, WIDE, 0.0).coding, best);
        let deep = CodingSettings { redundancy: Some(Redundancy::Deep), ..Default::default() };
        let mut rate = Rate::new(true, deep);
        rate.follow(&Plan::default(), mono(96));
        assert_eq!(rate.wanted().coding, Coding { bitrate_bps: 96_000, ..MUSIC });
        assert_eq!(rate.copies(&rate.wanted()).of(2), 2, "copies instead");
        rate.follow(&Plan::default(), Some(Music { bitrate_bps: 128_000, stereo: true }));
        assert!(rate.wanted().coding.stereo);
        rate.change(CodingChange { bitrate_bps: Some(Some(32_000)), ..CodingChange::default() });
        assert!(!rate.wanted().coding.stereo, "too little for two sides");
    }

    /// Regression: a relay drops what is more than 240 datagrams a second, and so 40 % of frames of
    /// 2.5 ms.
    #[test]
    fn the_shortest_frames_are_for_direct_ways_without_loss() {
        let mut rate = Rate::new(true, CodingSettings::default());
        assert_eq!(rate.wanted().coding, LOW_DELAY[0]);
        let relay = DeviceKey::generate(&SeededRandom::new(1)).id();
        let mut plan = Plan::default();
        plan.hops.push(Hop { relay, standby: None, devices: vec![relay] });
        rate.follow(&plan, None);
        assert_eq!(rate.wanted().coding, LOW_DELAY[1]);
        rate.settings.frame_samples = Some(120);
        assert_eq!(rate.wanted().coding.frame_samples, 240);
        rate.follow(&Plan::default(), None);
        assert_eq!(rate.wanted().coding.frame_samples, 120);
        rate.settings.frame_samples = None;
        let way = Queueing::default();
        rate.judge(Timestamp::from_millis(9_000), [(&way, 1)].into_iter());
        assert_eq!(rate.wanted().coding, LOW_DELAY[1]);
        rate.judge(Timestamp::from_millis(15_000), [(&way, 0)].into_iter());
        assert_eq!(rate.wanted().coding, LOW_DELAY[0]);
    }

    /// What the person has set stays, whatever the network does.
    #[test]
    fn what_is_set_stays() {
        let set = CodingSettings {
            bitrate_bps: Some(96_000),
            frame_samples: Some(960),
            redundancy: Some(Redundancy::Copies(5)),
        };
        let mut way = Way::new(set);
        let state = way.run(10, 50_000, 0.0);
        assert_eq!(
            state.coding,
            Coding {
                frame_samples: 960,
                bitrate_bps: 96_000,
                deep: false,
                music: false,
                stereo: false
            }
        );
        assert_eq!(state.reason, CodingReason::Set);
        assert_eq!(way.rate.copies(&state).of(0), 3, "whatever waits in a queue");
        let state = Rate::new(false, set).wanted();
        assert_eq!(CopiesRule { fixed: Some(5), most: state.copies_max }.of(0), 3, "no more fit");
    }

    #[test]
    fn one_listener_of_many_decides_nothing() {
        let random = SeededRandom::new(1);
        let device = || DeviceKey::generate(&random).id();
        let to = |count| Plan::from((0..count).map(|_| device()).collect::<Vec<_>>());
        let mut rate = Rate::new(false, CodingSettings::default());
        rate.follow(&to(9), None);
        let wanted = rate.wanted();
        assert_eq!((wanted.coding, wanted.reason), (LEVELS[0], CodingReason::ManyListeners));
        rate.follow(&to(8), None);
        let mut ways: Vec<_> = (0..6).map(|_| Queueing::default()).collect();
        let mut judged = |queued: usize| {
            let before = Carried::default();
            for way in &mut ways[..queued] {
                way.queued_since = Some((Timestamp::from_millis(5_000), before));
                way.total = Carried { datagrams: 400, bytes: 64_000, arrived: 200 };
            }
            rate.judge(Timestamp::from_millis(9_000), ways.iter().map(|way| (way, 0)));
            rate.wanted().coding
        };
        assert_eq!(judged(1), USUAL);
        assert_eq!(judged(2), LEVELS[2], "half of 128 kbit/s");
    }
}
