use std::collections::BTreeSet;

use hark_keys::{List, PrekeySecret, SeededRandom};

use super::*;

/// A device, and others that relays report to it. It has number 0.
struct Room {
    stewards: Stewards,
    keys: Vec<DeviceKey>,
    random: SeededRandom,
    /// The devices that may not hear the channel.
    cut: BTreeSet<DeviceId>,
}

impl Room {
    fn new(count: usize) -> Self {
        let random = SeededRandom::new(3);
        let keys = (0..count).map(|_| DeviceKey::generate(&random)).collect();
        Self { stewards: Stewards::default(), keys, random, cut: BTreeSet::new() }
    }

    fn device(&self, index: usize) -> DeviceId {
        self.keys[index].id()
    }

    fn prekey(&self, device: usize, issued: u64) -> Signed<Prekey> {
        let key = &self.keys[device];
        let secret = PrekeySecret::generate(&SeededRandom::new(issued));
        Signed::sign(Prekey::new(key.id(), UnixTime::from_secs(issued), &secret), key)
    }

    /// A relay reports which devices have come, with prekeys of a time, and which have gone.
    fn report(
        &mut self,
        now: Timestamp,
        (relay, number): (DeviceId, u64),
        here: &[(usize, u64)],
        gone: &[usize],
    ) -> bool {
        let here = here.iter().map(|(device, issued)| self.prekey(*device, *issued));
        let gone = gone.iter().map(|device| self.device(*device));
        let said = Attendance {
            number,
            channel: channel(),
            whole: number == 1,
            after: 0,
            here: List::truncated(here),
            gone: List::truncated(gone),
        };
        self.stewards.take(now, UnixTime::from_secs(CALENDAR), relay, &said)
    }

    /// The next epoch that is due: its holders, and how many seals each relay is to pass on.
    fn dealt(&mut self, now: Timestamp) -> Option<(Vec<usize>, BTreeMap<DeviceId, usize>)> {
        let at = (now, UnixTime::from_secs(CALENDAR));
        let hears = |_, device| !self.cut.contains(&device);
        let dealt = self.stewards.poll(at, &self.keys[0], &self.random, |_| (0, 0), hears)?;
        let index = |device: &DeviceId| self.keys.iter().position(|key| key.id() == *device);
        let mut holders: Vec<_> = dealt.holders.devices().iter().filter_map(index).collect();
        holders.sort_unstable();
        let parts = dealt.parts.into_iter().map(|(relay, seals)| (relay, seals.len()));
        Some((holders, parts.collect()))
    }
}

fn channel() -> ChannelId {
    ChannelId::from_bytes([1; 16])
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn relays() -> [DeviceId; 2] {
    [7, 8].map(|byte| DeviceId::from_bytes([byte; 32]).expect("a device"))
}

const CALENDAR: u64 = 1_000_000;

/// [PROTO-11.25]
#[test]
fn a_prekey_counts_unless_a_relay_has_reported_a_later_one() {
    let (mut room, [a, b]) = (Room::new(2), relays());
    room.report(at(0), (a, 1), &[(0, CALENDAR), (1, CALENDAR - 5)], &[]);
    assert_eq!(room.dealt(at(400)), Some((vec![0, 1], [(a, 1)].into())));
    // The other relay has another one.
    for (number, issued, expected) in
        [(1, CALENDAR - 6, vec![0]), (2, CALENDAR - 5, vec![0, 1]), (3, CALENDAR - 4, vec![0, 1])]
    {
        room.report(at(1_000), (a, number + 1), &[], &[1]);
        room.report(at(1_000), (b, number), &[(1, issued)], &[]);
        let (holders, _) = room.dealt(at(1_400)).expect("an epoch");
        assert_eq!(holders, expected, "{issued}");
    }
}

#[test]
fn the_latest_prekeys_of_4096_devices_are_remembered() {
    let mut room = Room::new(1);
    let others = (1..=4_096_u64).map(|number| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        (DeviceId::from_bytes(bytes).expect("a device"), UnixTime::from_secs(CALENDAR - number))
    });
    room.stewards.newest = others.clone().collect();
    room.report(at(0), (relays()[0], 1), &[(0, CALENDAR)], &[]);
    // The one that was issued first is forgotten.
    let mut expected: BTreeMap<_, _> = others.take(4_095).collect();
    expected.insert(room.device(0), UnixTime::from_secs(CALENDAR));
    assert_eq!(room.stewards.newest, expected);
}

/// [PROTO-11.4]
#[test]
fn the_next_epoch_is_due_at_once_when_a_holder_of_the_last_may_no_longer_hear() {
    let (mut room, [a, _]) = (Room::new(3), relays());
    room.report(at(0), (a, 1), &[(0, CALENDAR), (1, CALENDAR)], &[]);
    assert_eq!(room.dealt(at(400)), Some((vec![0, 1], [(a, 1)].into())));
    let [one, other] = [1, 2].map(|device| room.device(device));
    room.stewards.judge(at(1_000), |_, device| device == other);
    assert_eq!(room.stewards.timeout(), Some(at(600_400)), "it holds nothing");
    room.stewards.judge(at(1_000), |_, device| device == one);
    assert_eq!(room.stewards.timeout(), Some(at(1_000)));
    room.cut.insert(one);
    assert_eq!(room.dealt(at(1_000)), Some((vec![0], [(a, 0)].into())));
}

/// [PROTO-11.4]
#[test]
fn what_a_relay_was_given_is_dealt_again_when_its_link_is_new() {
    let (mut room, [a, b]) = (Room::new(3), relays());
    room.report(at(0), (a, 1), &[(0, CALENDAR), (1, CALENDAR)], &[]);
    room.report(at(0), (b, 1), &[(0, CALENDAR), (2, CALENDAR)], &[]);
    assert_eq!(room.stewards.timeout(), Some(at(400)));
    assert_eq!(room.dealt(at(399)), None);
    assert_eq!(room.dealt(at(400)), Some((vec![0, 1, 2], [(a, 1), (b, 1)].into())));
    assert_eq!(room.stewards.timeout(), Some(at(600_400)));

    room.stewards.link_changed(at(1_000), a, false);
    assert_eq!(room.dealt(at(1_400)), Some((vec![0, 1, 2], [(a, 1), (b, 1)].into())));
    // It counts its reports from the start.
    assert!(room.report(at(2_000), (a, 1), &[(0, CALENDAR)], &[]));
    assert_eq!(room.dealt(at(2_400)), Some((vec![0, 2], [(a, 0), (b, 1)].into())));

    room.stewards.link_changed(at(3_000), b, true);
    assert_eq!(room.stewards.timeout(), Some(at(3_400)));
    assert_eq!(room.dealt(at(3_400)), Some((vec![0], [(a, 0)].into())));
    room.stewards.link_changed(at(4_000), a, true);
    assert_eq!(room.stewards.timeout(), None, "no relay is left");
}
