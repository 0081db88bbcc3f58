//! What listeners say of the relays that bring them our voice, and which relays fail whom.
//! [PROTO-10.7] [PROTO-10.8]
//!
//! A relay that fails one listener is left for that one alone: the loss may be the listener's own,
//! and what it says does others no harm. One that fails all is left for all.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::{
    datagram::{Account, DropReason},
    topology::Hop,
};

/// The relays that our voice goes by.
#[derive(Default)]
pub(super) struct Accounts {
    relays: BTreeMap<DeviceId, Carrier>,
    judged: Timestamp,
}

/// A relay that we send to.
#[derive(Default)]
struct Carrier {
    /// When a frame went to it last.
    sent: Timestamp,
    /// The newest datagrams that went to it, and when.
    newest: VecDeque<(u16, Timestamp)>,
    /// What it said last that it never got, each with when it said so.
    lost: VecDeque<(Timestamp, u16)>,
    listeners: BTreeMap<DeviceId, Served>,
}

/// A listener that one of them serves.
struct Served {
    /// When it told of the relay last, or has been waited for since.
    heard: Timestamp,
    /// How many of its last accounts in a row were bad.
    bad: u32,
    /// The least that it was ever behind.
    least_lag: Option<Duration>,
}

impl Accounts {
    /// A datagram goes to `relay`.
    pub(super) fn handle_sent(&mut self, now: Timestamp, relay: DeviceId, sequence: u16) {
        let carrier = self.relays.entry(relay).or_default();
        if now.saturating_duration_since(carrier.sent) > PAUSE {
            // Another talkspurt: whoever hears it has yet to say so.
            carrier.newest.clear();
            carrier.listeners.values_mut().for_each(|served| served.begin(now));
        }
        carrier.sent = now;
        if carrier.newest.len() == NEWEST_MAX {
            carrier.newest.pop_front();
        }
        carrier.newest.push_back((sequence, now));
    }

    /// `relay` says that so many datagrams did not reach it.
    pub(super) fn handle_seen(&mut self, now: Timestamp, relay: DeviceId, lost: u16) {
        let Some(carrier) = self.relays.get_mut(&relay) else { return };
        if lost > 0 {
            if carrier.lost.len() == LOST_MAX {
                carrier.lost.pop_front();
            }
            carrier.lost.push_back((now, lost));
        }
    }

    /// A listener tells of a relay; whether that one fails it.
    ///
    /// # Errors
    ///
    /// That relay carries nothing for us, or nothing to that listener.
    pub(super) fn handle_account(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        account: &Account,
    ) -> Result<bool, DropReason> {
        let carrier = self.relays.get_mut(&account.relay).ok_or(DropReason::UnknownTarget)?;
        if account.spoilt >= SPOILT_MAX {
            // What else it tells need not be of this talkspurt.
            let served = carrier.listeners.get_mut(&from).ok_or(DropReason::UnknownTarget)?;
            served.begin(now);
            return Ok(true);
        }
        let lag = carrier.lag(now, account.highest_sequence);
        let excused: u32 = carrier
            .lost
            .iter()
            .filter(|(at, _)| now.saturating_duration_since(*at) <= EXCUSED_FOR)
            .map(|(_, lost)| u32::from(*lost))
            .sum();
        let served = carrier.listeners.get_mut(&from).ok_or(DropReason::UnknownTarget)?;
        served.heard = now;
        let total = u32::from(account.received) + u32::from(account.lost);
        let lost = u32::from(account.lost).saturating_sub(excused);
        let least = served.least_lag.map_or(lag, |least| least.min(lag));
        served.least_lag = Some(least);
        let late = lag > LAG_MAX || lag > least + LAG_GROWS_MAX;
        if total >= FEWEST && lost * LOST_SHARE > total || late {
            served.bad += 1;
        } else {
            served.bad = 0;
        }
        let fails = served.bad >= BAD_MAX;
        if fails {
            served.begin(now);
        }
        Ok(fails)
    }

    /// A frame has gone out by `hops`: gives each relay of which somebody whom it serves has said
    /// nothing for too long, and whom.
    pub(super) fn judge<'h>(
        &mut self,
        now: Timestamp,
        hops: impl Iterator<Item = (DeviceId, &'h Hop)>,
        mut fails: impl FnMut(DeviceId, DeviceId),
    ) {
        if now.saturating_duration_since(self.judged) < JUDGE_INTERVAL {
            return;
        }
        self.judged = now;
        for (relay, hop) in hops {
            let Some(carrier) = self.relays.get_mut(&relay) else { continue };
            carrier.listeners.retain(|device, _| hop.devices.binary_search(device).is_ok());
            for device in &hop.devices {
                let served = carrier.listeners.entry(*device).or_insert_with(|| Served::new(now));
                if now.saturating_duration_since(served.heard) > SILENT_AFTER {
                    served.begin(now);
                    fails(relay, *device);
                }
            }
        }
    }

    /// Relays that are in no plan are forgotten.
    pub(super) fn retain(&mut self, used: impl Fn(DeviceId) -> bool) {
        self.relays.retain(|relay, _| used(*relay));
    }
}

impl Carrier {
    /// For how long what came after `highest` has been under way.
    fn lag(&self, now: Timestamp, highest: u16) -> Duration {
        let after = |(sequence, _): &&(u16, Timestamp)| sequence.wrapping_sub(highest) as i16 > 0;
        let next = self.newest.iter().find(after);
        next.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

impl Served {
    fn new(now: Timestamp) -> Self {
        Self { heard: now, bad: 0, least_lag: None }
    }

    /// It is waited for from now on.
    fn begin(&mut self, now: Timestamp) {
        (self.heard, self.bad) = (now, 0);
    }
}

/// How often it is looked who says nothing.
const JUDGE_INTERVAL: Duration = Duration::from_millis(100);

/// A listener that has told of a relay nothing for so long hears nothing by it: three accounts and
/// the way there and back.
const SILENT_AFTER: Duration = Duration::from_millis(1_600);

/// Nothing was said for so long: a new talkspurt.
const PAUSE: Duration = Duration::from_millis(500);

/// Datagrams to one relay whose time is remembered: more than a second of them. The oldest goes.
const NEWEST_MAX: usize = 256;

/// Words of one relay that are remembered; the oldest goes.
const LOST_MAX: usize = 32;

/// How long what a relay says that it did not get excuses it: an account covers half a second, and
/// comes later.
const EXCUSED_FOR: Duration = Duration::from_millis(1_200);

/// Of fewer datagrams nothing can be said.
const FEWEST: u32 = 20;

/// More than one of so many lost is bad: fewer are made good by copies.
const LOST_SHARE: u32 = 7;

/// Bad accounts in a row until the relay is left: one may be a moment's disturbance.
const BAD_MAX: u32 = 2;

/// What was not as it was sent: links are authenticated, so that no network does that.
const SPOILT_MAX: u16 = 3;

/// More than that behind, way back included, is too much for people who talk to each other.
const LAG_MAX: Duration = Duration::from_millis(700);

/// As is so much more than it once was.
const LAG_GROWS_MAX: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    fn device(number: u64) -> DeviceId {
        DeviceKey::generate(&SeededRandom::new(number)).id()
    }

    const RELAY: u64 = 1;

    /// A talker that sends a datagram each 10 ms by one relay to two listeners, of whom one tells
    /// what `tell` makes of the newest, twice a second. Gives whom the relay fails, and when.
    fn run(tell: impl Fn(u64, Account) -> Option<Account>) -> Vec<(u64, DeviceId)> {
        let (relay, good, other) = (device(RELAY), device(2), device(3));
        let mut devices = vec![good, other];
        devices.sort();
        let hop = Hop { relay, standby: None, devices };
        let mut accounts = Accounts::default();
        let mut failed = Vec::new();
        for frame in 0..400_u16 {
            let ms = 1_000 + u64::from(frame) * 10;
            let now = Timestamp::from_millis(ms);
            accounts.handle_sent(now, relay, frame);
            let hops = std::iter::once((relay, &hop));
            accounts.judge(now, hops, |_, device| failed.push((ms, device)));
            if frame % 50 == 49 {
                let account = Account {
                    relay,
                    target_tag: [1; 4],
                    highest_sequence: frame - 4,
                    received: 50,
                    lost: 0,
                    spoilt: 0,
                };
                assert_eq!(accounts.handle_account(now, good, &account), Ok(false));
                let told = tell(ms, account);
                if told.is_some_and(|told| accounts.handle_account(now, other, &told) == Ok(true)) {
                    failed.push((ms, other));
                }
            }
        }
        failed
    }

    /// [PROTO-10.8]
    #[test]
    fn a_relay_is_left_for_those_whom_it_fails_and_for_no_others() {
        assert_eq!(run(|_, account| Some(account)), []);
        let other = device(3);
        let first = |failed: Vec<(u64, DeviceId)>| {
            assert!(failed.iter().all(|(_, device)| *device == other), "{failed:?}");
            failed[0].0
        };
        // Nothing comes, of all that was sent from 1,000 ms on.
        assert_eq!(first(run(|_, _| None)), 2_700);
        let lossy = |_, account| Some(Account { received: 40, lost: 10, ..account });
        assert_eq!(first(run(lossy)), 1_990);
        let late = |_, account: Account| {
            Some(Account { highest_sequence: account.highest_sequence.wrapping_sub(80), ..account })
        };
        assert_eq!(first(run(late)), 2_490, "what was sent before the first frame cannot be late");
        let slower = |ms, account: Account| {
            let behind = if ms < 2_500 { 0 } else { 35 };
            Some(Account { highest_sequence: account.highest_sequence - behind, ..account })
        };
        assert_eq!(first(run(slower)), 3_490);
        let spoilt = |_, account| Some(Account { spoilt: 3, ..account });
        assert_eq!(first(run(spoilt)), 1_490);
        // What copies make good, and a single disturbance, are borne.
        assert_eq!(run(|_, account| Some(Account { received: 44, lost: 6, ..account })), []);
        let once = |ms, account: Account| {
            let lost = if ms < 1_500 { 25 } else { 0 };
            Some(Account { received: 50 - lost, lost, ..account })
        };
        assert_eq!(run(once), []);
    }

    /// What is lost on the way to the relay is not its doing. [PROTO-10.7]
    #[test]
    fn a_relay_is_not_blamed_for_what_did_not_reach_it() {
        let (relay, ear) = (device(RELAY), device(2));
        let hop = Hop { relay, standby: None, devices: vec![ear] };
        let mut accounts = Accounts::default();
        for frame in 0..200_u16 {
            let now = Timestamp::from_millis(1_000 + u64::from(frame) * 10);
            accounts.handle_sent(now, relay, frame);
            accounts.judge(now, std::iter::once((relay, &hop)), |_, _| panic!("it has told"));
            if frame % 5 == 4 {
                accounts.handle_seen(now, relay, 1);
            }
            if frame % 50 == 49 {
                let account = Account {
                    relay,
                    target_tag: [1; 4],
                    highest_sequence: frame,
                    received: 40,
                    lost: 10,
                    spoilt: 0,
                };
                assert_eq!(accounts.handle_account(now, ear, &account), Ok(false));
            }
        }
    }
}
