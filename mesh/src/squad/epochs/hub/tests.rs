use std::cmp::Reverse;

use hark_keys::{DeviceKey, EpochDealer, PrekeySecret, SeededRandom};

use super::*;

/// A relay with devices that hear one channel. The device with the lowest number comes first as its
/// steward.
struct Room {
    hub: Hub,
    keys: Vec<DeviceKey>,
    numbers: u64,
}

impl Room {
    fn new(count: usize) -> Self {
        let random = SeededRandom::new(2);
        let mut keys: Vec<_> = (0..count).map(|_| DeviceKey::generate(&random)).collect();
        keys.sort_by_key(|key| Reverse(rendezvous(TargetId::of_channel(channel()), key.id())));
        Self { hub: Hub::default(), keys, numbers: 0 }
    }

    /// All of `count` devices have been there for long, and the first one is the steward and knows
    /// them.
    fn begun(count: usize) -> Self {
        let mut room = Self::new(count);
        room.attach(at(0), 0..count);
        room.hear(at(10_000), 0..count);
        let told = room.told(at(10_000));
        assert_eq!(told, [(0, true, (0..count).map(|device| (device, 5)).collect(), vec![])]);
        room
    }

    fn device(&self, index: usize) -> DeviceId {
        self.keys[index].id()
    }

    fn index(&self, device: DeviceId) -> usize {
        self.keys.iter().position(|key| key.id() == device).expect("one of the devices")
    }

    fn attach(&mut self, now: Timestamp, devices: impl Iterator<Item = usize>) {
        devices.for_each(|device| self.take_prekey(now, device, 5));
    }

    fn take_prekey(&mut self, now: Timestamp, device: usize, issued: u64) {
        let secret = PrekeySecret::generate(&SeededRandom::new(issued));
        let key = &self.keys[device];
        let prekey = Prekey::new(key.id(), UnixTime::from_secs(issued), &secret);
        self.hub.take_prekey(now, &Signed::sign(prekey, key));
    }

    /// An examination shows that `devices` hear the channel. All of them may speak.
    fn hear(&mut self, now: Timestamp, devices: impl Iterator<Item = usize>) {
        self.hub.look_due(now);
        let here: BTreeSet<_> = devices.map(|device| self.device(device)).collect();
        let crowd = Crowd { able: here.clone(), here };
        self.hub.handle_crowds(now, BTreeMap::from([(channel(), crowd)]));
    }

    fn steward(&self) -> Option<usize> {
        self.hub.steward(channel()).map(|device| self.index(device))
    }

    /// What stewards are told, and take at once.
    fn told(&mut self, now: Timestamp) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some((to, said)) = self.hub.poll(now, &mut self.numbers) {
            self.hub.handle_answer(now, to, (said.channel, said.number), true);
            let here = said.here.iter().map(Signed::unverified);
            let mut here: Vec<_> =
                here.map(|it| (self.index(it.device), it.issued.as_secs())).collect();
            here.sort_unstable();
            let gone = said.gone.iter().map(|device| self.index(*device)).collect();
            told.push((self.index(to), said.whole, here, gone));
            assert!(told.len() < 10, "the relay is told again and again");
        }
        told.sort_unstable();
        told
    }

    /// A device deals an epoch of this number for `holders`. The relay passes it on.
    fn deal(
        &mut self,
        now: Timestamp,
        issuer: usize,
        number: u64,
        holders: impl Iterator<Item = usize>,
    ) -> (EpochDealer, [u8; 32]) {
        let dealer = EpochDealer::generate(&SeededRandom::new(number));
        let holders = Holders::new(holders.map(|device| self.device(device)));
        let header = EpochHeader {
            channel: channel(),
            issuer: self.device(issuer),
            number,
            dealer: dealer.public(),
            commitment: dealer.commitment(),
            holders: holders.hash(),
        };
        let id = Signed::sign(header.clone(), &self.keys[issuer]).hash();
        let seals: Vec<_> = holders
            .devices()
            .iter()
            .map(|device| (*device, self.seal(&dealer, &id, *device)))
            .collect();
        let seals = seals.iter().map(|(device, seal)| (*device, seal));
        self.hub.dealt(now, (ObjectHash::from_bytes(id), &header), &holders, seals);
        (dealer, id)
    }

    fn seal(&self, dealer: &EpochDealer, id: &[u8; 32], device: DeviceId) -> EpochSeal {
        dealer.seal(id, self.hub.prekeys[&device].0.unverified()).expect("a good prekey")
    }

    fn due_at(&self) -> Option<Timestamp> {
        self.hub.channels[&channel()].due_at
    }
}

/// Who is told, whether that is everything, which devices are here with which prekeys, and which
/// have gone.
type Told = (usize, bool, Vec<(usize, u64)>, Vec<usize>);

fn channel() -> ChannelId {
    ChannelId::from_bytes([1; 16])
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

/// [PROTO-11.2]
#[test]
fn a_channel_gets_and_keeps_its_steward_by_how_many_hear_it_and_how_many_are_attached() {
    let stewarded = |before: bool, attached: usize, here: usize| {
        let mut room = if before { Room::begun(60) } else { Room::new(60) };
        if before {
            (attached..60).for_each(|it| room.hub.forget(at(10_000), room.keys[it].id()));
        } else {
            room.attach(at(0), 0..attached);
        }
        room.hear(at(20_000), 0..here);
        room.steward().is_some()
    };
    for (before, attached, here, expected) in [
        (false, 32, 32, false),
        (false, 33, 33, true),
        (false, 48, 2, false),
        (false, 49, 2, true),
        (false, 60, 2, true),
        (false, 60, 1, false),
        (true, 40, 24, false),
        (true, 40, 25, true),
        (true, 40, 2, false),
        (true, 41, 2, true),
        (true, 60, 1, false),
    ] {
        assert_eq!(stewarded(before, attached, here), expected, "{before} {attached} {here}");
    }
}

/// [PROTO-11.25]
#[test]
fn a_prekey_issued_later_replaces_the_one_before_and_no_other_does() {
    let mut room = Room::begun(33);
    room.take_prekey(at(10_000), 3, 7);
    assert_eq!(room.hub.look_due(at(10_100)).map(|devices| devices.len()), Some(33));
    room.hear(at(10_100), 0..33);
    assert_eq!(room.told(at(10_100)), [(0, false, vec![(3, 7)], vec![])]);
    for issued in [6, 7] {
        room.take_prekey(at(20_000), 3, issued);
        assert_eq!(room.hub.look_due(at(30_000)), None);
        room.hear(at(30_000), 0..33);
        assert_eq!(room.told(at(30_000)), []);
    }
}

/// [PROTO-11.23]
#[test]
fn a_device_that_has_just_come_comes_after_the_others_for_three_seconds() {
    let mut room = Room::new(34);
    room.attach(at(0), 1..34);
    room.hear(at(10_000), 1..34);
    assert_eq!(room.steward(), Some(1));
    room.attach(at(10_000), 0..1);
    room.hear(at(10_100), 0..34);
    assert_eq!(room.steward(), Some(1));
    room.hear(at(12_999), 0..34);
    assert_eq!(room.steward(), Some(1));
    // Nothing else happens at that time, so the relay sees to it itself.
    assert_eq!(room.hub.look_at, Some(at(13_100)));
    room.hear(at(13_000), 0..34);
    assert_eq!(room.steward(), Some(0));
}

/// [PROTO-11.3]
#[test]
fn a_steward_that_is_replaced_is_told_so_once() {
    let mut room = Room::begun(33);
    let all: Vec<_> = (0..33).map(|device| (device, 5)).collect();
    room.hub.handle_timeout(at(11_499));
    assert_eq!(room.hub.look_due(at(11_499)), None);
    room.hub.handle_timeout(at(11_500));
    room.hear(at(11_500), 0..33);
    assert_eq!(room.steward(), Some(1));
    let told = room.told(at(11_500));
    assert_eq!(told, [(0, true, vec![], vec![]), (1, true, all, vec![])]);
    assert_eq!(room.told(at(11_600)), []);
    // The channel is over when the last steward knows it.
    room.hear(at(11_700), 0..1);
    assert_eq!(room.steward(), None);
    assert_eq!(room.told(at(11_700)), [(1, true, vec![], vec![])]);
    assert!(room.hub.channels.is_empty());
}

/// [PROTO-11.23] A relay of the same squad may have told the steward before.
#[test]
fn a_steward_need_not_deal_again_to_those_that_its_last_epoch_is_for() {
    let gone = |room: &mut Room| {
        room.hear(at(20_000), 0..33);
        assert_eq!(room.told(at(20_000)), [(0, false, vec![], vec![33])]);
    };
    let mut room = Room::begun(34);
    assert_eq!(room.due_at(), Some(at(11_500)));
    room.deal(at(10_400), 0, 1, 0..34);
    assert_eq!(room.due_at(), None);
    gone(&mut room);
    assert_eq!(room.due_at(), Some(at(21_500)), "it was for one that has gone");
    room.deal(at(20_400), 0, 2, 0..33);
    assert_eq!(room.due_at(), None);
    room.take_prekey(at(30_000), 3, 7);
    room.hear(at(30_000), 0..33);
    assert_eq!(room.told(at(30_000)), [(0, false, vec![(3, 7)], vec![])]);
    assert_eq!(room.due_at(), Some(at(31_500)), "one has another prekey");

    let mut room = Room::begun(34);
    room.deal(at(19_000), 0, 1, 0..33);
    gone(&mut room);
    assert_eq!(room.due_at(), None, "it has dealt to those that are left");
}

/// [PROTO-11.28]
#[test]
fn a_steward_is_told_again_who_is_there_if_a_higher_epoch_than_its_own_no_longer_counts() {
    for (number, again) in [(4, false), (5, false), (6, true)] {
        let mut room = Room::begun(33);
        room.deal(at(10_400), 1, number, 0..33);
        room.deal(at(10_400), 0, 5, 0..33);
        let voided = room.device(1);
        room.hub.judge(|_, device| device != voided);
        assert_eq!(room.hub.newest(channel()), 5);
        let told = room.told(at(10_500));
        assert_eq!(
            told.iter().map(|(to, whole, ..)| (*to, *whole)).collect::<Vec<_>>(),
            if again { vec![(0, true)] } else { vec![] },
            "{number}"
        );
    }
}

#[test]
fn the_holders_that_sixty_four_stewards_have_dealt_to_are_remembered() {
    let mut room = Room::new(65);
    room.attach(at(0), 0..65);
    for issuer in 0..65 {
        room.deal(at(1_000 + issuer as u64), issuer, 1, issuer..issuer + 1);
    }
    let remembered = |issuer: usize| {
        let device = room.device(issuer);
        let hash = Holders::new([device]).hash();
        room.hub.holders((channel(), device), hash).is_some()
    };
    assert!(!remembered(0), "the oldest is dropped");
    assert!((1..65).all(remembered));
}

/// [PROTO-11.20]
#[test]
fn a_confirmation_that_its_seal_does_not_foresee_is_refused() {
    let mut room = Room::begun(33);
    let (dealer, id) = room.deal(at(10_400), 0, 1, 0..33);
    let mut confirm = |device: usize, epoch: [u8; 32], by: usize| {
        let (device, by) = (room.device(device), room.device(by));
        let confirmation = dealer.secret(id).confirmation(by);
        let epoch = ObjectHash::from_bytes(epoch);
        let said = Confirming { channel: channel(), epoch, confirmation };
        room.hub.take_confirming(at(10_800), device, &said)
    };
    assert!(!confirm(4, id, 5), "another device's");
    assert!(confirm(4, id, 4));
    assert!(confirm(5, [9; 32], 5), "of an epoch that another has replaced");
    room.hub.handle_timeout(at(11_300));
    let (to, said) = room.hub.poll_confirmed().expect("a report");
    let holders = Holders::new((0..33).map(|device| room.device(device)));
    assert_eq!(said.devices(&dealer.secret(id), &holders), Some(vec![room.device(4)]));
    let other = room.hub.poll_confirmed().map(|(to, _)| to);
    assert_eq!(BTreeSet::from([Some(to), other]), [0, 4].map(|it| Some(room.device(it))).into());
    assert!(room.hub.poll_confirmed().is_none());
}
