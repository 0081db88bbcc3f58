//! Devices that are known before the operation that adds them can be taken.

use hark_charter::{
    Charter, OPERATION_MAX_BYTES, Operation, Piece,
    content::{Capabilities, Change, Role},
};
use hark_keys::{Cosigned, DeviceKey, List, SeededRandom, decode, encode};

use crate::world::{
    ANN, BOB, CHIEF, CID, DAN, EVERYWHERE, NONE, World, assert_same, channel, role,
};

fn devices(charter: &Charter, world: &World, who: usize) -> usize {
    charter.devices_of(world.member(who)).len()
}

/// [CHARTER-3.6]
#[test]
fn an_introduced_device_is_news_once() {
    let world = World::new(false);
    let added =
        world.sign(world.draft(BOB, vec![world.add_device(BOB, &world.people[BOB].keys[1])]));
    let added = [added];
    let mut charter = world.charter.clone();
    assert!(charter.introduce(&added));
    assert_eq!(devices(&charter, &world, BOB), 2);
    assert!(!charter.introduce(&added));
    // The operation itself takes its place.
    assert_eq!(charter.take(Piece::Operation(added[0].clone())), Ok(true));
    assert!(!charter.introduce(&added));
    assert_eq!(devices(&charter, &world, BOB), 2);
    let mut other = world.charter.clone();
    assert_eq!(other.take(Piece::Operation(added[0].clone())), Ok(true));
    assert_same(&charter, &other);
    assert_eq!(charter.snapshot(), other.snapshot(), "nothing waits any more");
}

/// [CHARTER-3.6] Nobody introduces a device of others, or one that the operation itself would not
/// add.
#[test]
fn what_proves_nothing_introduces_nobody() {
    let world = World::new(false);
    let device = &world.people[BOB].keys[1];
    let good = world.draft(BOB, vec![world.add_device(BOB, device)]);
    let key = world.people[BOB].key();
    let introduces = |made: Cosigned<Operation>| {
        let mut charter = world.charter.clone();
        let news = charter.introduce(&[made]);
        assert_eq!(devices(&charter, &world, BOB), 1 + usize::from(news));
        assert_eq!(charter.snapshot() != world.charter.snapshot(), news);
        news
    };
    let signed = |made: Operation| Cosigned::unsigned(made).signed(key);
    assert!(introduces(signed(good.clone())));

    let with =
        |changes: Vec<Change>| Operation { changes: List::truncated(changes), ..good.clone() };
    assert!(!introduces(signed(with(vec![Change::Channel(channel(9, EVERYWHERE))]))));
    // The device has agreed to belong to another member.
    assert!(!introduces(signed(with(vec![world.add_device(ANN, device)]))));
    let half =
        vec![world.add_device(BOB, device), world.add_device(ANN, &world.people[ANN].keys[1])];
    assert!(!introduces(signed(with(half))));
    // Not signed, signed by another, and signed wrongly.
    assert!(!introduces(Cosigned::unsigned(good.clone())));
    assert!(!introduces(Cosigned::unsigned(good.clone()).signed(world.people[ANN].key())));
    let mut bytes = encode(&signed(good.clone()));
    *bytes.last_mut().unwrap() ^= 1;
    assert!(!introduces(decode(&bytes, bytes.len()).unwrap()));
    let stranger = Operation { author: world.people[ANN].key().id(), ..good.clone() };
    assert!(!introduces(Cosigned::unsigned(stranger).signed(world.people[ANN].key())));
    assert!(!introduces(signed(Operation { certificate: NONE, ..good.clone() })));
    assert!(!introduces(signed(Operation { sequence: good.sequence + 1, ..good.clone() })));
    // As long as an operation may be, and longer by one byte.
    let of_length = |bytes: usize| {
        let filled = |hashes: usize, name: usize| {
            let list = |count| Change::Admitted(List::truncated((0..count).map(|_| NONE)));
            let role = Role { name: "x".repeat(name), ..role(9, 100, Capabilities::NONE) };
            let lists = [100, 100, 100, 100, hashes].map(list);
            let others = [world.add_device(BOB, device), Change::Role(role)];
            signed(with(lists.into_iter().chain(others).collect()))
        };
        let left = bytes - encode(&filled(0, 1)).len();
        let made = filled(left / 32, 1 + left % 32);
        assert_eq!(encode(&made).len(), bytes);
        made
    };
    assert!(introduces(of_length(OPERATION_MAX_BYTES)));
    assert!(!introduces(of_length(OPERATION_MAX_BYTES + 1)));
}

/// [CHARTER-3.22]
#[test]
fn the_oldest_of_too_many_introductions_is_forgotten() {
    let world = World::new(false);
    let random = SeededRandom::new(16);
    let adders = [CHIEF, ANN, BOB, CID, DAN];
    let added: Vec<_> = adders
        .into_iter()
        .flat_map(|who| [who; 13])
        .map(|who| {
            let device = DeviceKey::generate(&random);
            world.sign(world.draft(who, vec![world.add_device(who, &device)]))
        })
        .collect();
    let (last, others) = added.split_last().unwrap();
    let mut charter = world.charter.clone();
    for added in others {
        assert!(charter.introduce(std::slice::from_ref(added)));
    }
    let known = |charter: &Charter| adders.map(|who| devices(charter, &world, who) - 1);
    assert_eq!(known(&charter), [13, 13, 13, 13, 12]);
    assert!(charter.introduce(std::slice::from_ref(last)));
    assert_eq!(known(&charter), [12, 13, 13, 13, 13]);
}
