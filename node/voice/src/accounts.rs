//! The accounts of listeners on the relays that bring them our voice, and which relay fails which
//! listener. [PROTO-10.7] [PROTO-10.8]
//!
//! A relay that fails one listener is left for that listener alone. The loss may be the listener's
//! own fault, and its account must not harm others. A relay that fails all listeners is left for
//! all of them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::{
    datagram::{Account, DropReason},
    topology::Hop,
};

/// The relays that forward our voice.
#[derive(Default)]
pub(super) struct Accounts {
    relays: BTreeMap<DeviceId, Carrier>,
    judged: Timestamp,
}

/// A relay that we send to.
#[derive(Default)]
struct Carrier {
    /// When a frame was last sent to it.
    sent: Timestamp,
    /// The newest datagrams sent to it, and when.
    newest: VecDeque<(u16, Timestamp)>,
    /// Numbers of datagrams that it reported as lost before they reached it, with the time of each
    /// report.
    lost: VecDeque<(Timestamp, u16)>,
    listeners: BTreeMap<DeviceId, Served>,
}

/// A listener that one of the relays serves.
struct Served {
    /// When its last account of the relay came, or since when we wait for one.
    heard: Timestamp,
    /// Number of consecutive bad accounts, counted back from the last one.
    bad: u32,
    /// The smallest lag that it ever had.
    least_lag: Option<Duration>,
}

impl Accounts {
    /// A datagram is sent to `relay`.
    pub(super) fn handle_sent(&mut self, now: Timestamp, relay: DeviceId, sequence: u16) {
        let carrier = self.relays.entry(relay).or_default();
        if now.saturating_duration_since(carrier.sent) > PAUSE {
            // Another talkspurt: its listeners have not had time to send an account.
            carrier.newest.clear();
            carrier.listeners.values_mut().for_each(|served| served.begin(now));
        }
        carrier.sent = now;
        if carrier.newest.len() == NEWEST_MAX {
            carrier.newest.pop_front();
        }
        carrier.newest.push_back((sequence, now));
    }

    /// `relay` reports that `lost` datagrams did not reach it.
    pub(super) fn handle_seen(&mut self, now: Timestamp, relay: DeviceId, lost: u16) {
        let Some(carrier) = self.relays.get_mut(&relay) else { return };
        if lost > 0 {
            if carrier.lost.len() == LOST_MAX {
                carrier.lost.pop_front();
            }
            carrier.lost.push_back((now, lost));
        }
    }

    /// A listener sends an account of a relay. Returns whether that relay fails it.
    ///
    /// # Errors
    ///
    /// The relay carries nothing for us, or nothing to that listener.
    pub(super) fn handle_account(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        account: &Account,
    ) -> Result<bool, DropReason> {
        let carrier = self.relays.get_mut(&account.relay).ok_or(DropReason::UnknownTarget)?;
        if account.spoilt >= SPOILT_MAX {
            // The rest of the account need not be about this talkspurt.
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

    /// A frame was sent by `hops`. Calls `fails` with each relay and listener if the relay serves
    /// that listener and its account is overdue.
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

    /// Forgets the relays that are in no plan.
    pub(super) fn retain(&mut self, used: impl Fn(DeviceId) -> bool) {
        self.relays.retain(|relay, _| used(*relay));
    }
}

impl Carrier {
    /// For how long the first datagram after `highest` has been under way.
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

    /// Waits for its next account from now on.
    fn begin(&mut self, now: Timestamp) {
        (self.heard, self.bad) = (now, 0);
    }
}

/// How often it is checked which accounts are overdue.
const JUDGE_INTERVAL: Duration = Duration::from_millis(100);

/// A listener that sends no account for this long hears nothing by the relay. It covers three
/// accounts and the way there and back.
const SILENT_AFTER: Duration = Duration::from_millis(1_600);

/// After this time without a frame the next one begins a new talkspurt.
const PAUSE: Duration = Duration::from_millis(500);

/// Datagrams to one relay whose time is remembered: those of more than a second. If there are more,
/// the oldest is dropped.
const NEWEST_MAX: usize = 256;

/// Loss reports of one relay that are remembered. If there are more, the oldest is dropped.
const LOST_MAX: usize = 32;

/// How long a relay's report of a loss before it excuses missing datagrams. An account covers half
/// a second and arrives later.
const EXCUSED_FOR: Duration = Duration::from_millis(1_200);

/// With fewer datagrams than this an account proves nothing.
const FEWEST: u32 = 20;

/// More than one lost datagram in this many is bad. Copies make up for fewer.
const LOST_SHARE: u32 = 7;

/// Number of consecutive bad accounts after which the relay is left. A single one may be a brief
/// disturbance.
const BAD_MAX: u32 = 2;

/// This many altered frames make a relay fail. Links are authenticated, so no network alters
/// frames.
const SPOILT_MAX: u16 = 3;

/// A lag above this, the way back included, is too much for a conversation.
const LAG_MAX: Duration = Duration::from_millis(700);

/// So is a lag that is this much above its smallest value.
const LAG_GROWS_MAX: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    fn device(number: u64) -> DeviceId {
        DeviceKey::generate(&SeededRandom::new(number)).id()
    }

    const RELAY: u64 = 1;

    /// A talker sends a datagram every 10 ms by one relay to two listeners. Twice a second one of
    /// them sends what `tell` makes of the newest account. Returns which listener the relay fails,
    /// and when.
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
        // No account arrives, although datagrams were sent from 1,000 ms on.
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
        // Losses that copies make up for, and a single disturbance, are tolerated.
        assert_eq!(run(|_, account| Some(Account { received: 44, lost: 6, ..account })), []);
        let once = |ms, account: Account| {
            let lost = if ms < 1_500 { 25 } else { 0 };
            Some(Account { received: 50 - lost, lost, ..account })
        };
        assert_eq!(run(once), []);
    }

    /// The relay is not to blame for what is lost on the way to it. [PROTO-10.7]
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
