//! Charters for other programs to judge: `tests/vectors/charter.json`. [docs/charter.md]

use std::collections::BTreeSet;

use hark_charter::{
    Charter, Verdict,
    content::{Capabilities, Change, Channel, MEMBER_ROLE, Place, Sanction, SanctionKind, Subject},
};
use hark_keys::{ChannelId, List, UnixTime, encode};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    checkpoints::settle,
    histories::{History, turns},
    world::{
        ANN, BOB, CHIEF, DAN, EVE, EVERYWHERE, FAY, FOUNDER, World, channel, channel_id, role_id,
        rule,
    },
};

#[path = "../../../../tests/vectors/bless.rs"]
mod bless;

/// Random histories, some with officers who cheat, and one with checkpoints. [CHARTER-4.6]
/// [CHARTER-7.7] [CHARTER-7.20] [CHARTER-7.21] [CHARTER-7.27] [CHARTER-7.28] [CHARTER-8.7]
/// [CHARTER-10.1]
#[test]
fn charters_are_judged_as_is_written_down() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut charters = vec![described("plain", &World::new(false).charter)];
    for number in 1.. {
        let turns = turns().new_tree(&mut runner).unwrap().current();
        let charter = History::of(number % 3 == 0, &turns).whole();
        let stands = charter.log().filter(|(_, it)| matches!(it, Verdict::Judged(..))).count();
        if stands >= STANDING {
            charters.push(described(&format!("history {number}"), &charter));
        }
        if charters.len() > HISTORIES {
            break;
        }
    }
    charters.push(described("hidden channel", &hidden()));
    charters.push(described("closed channel", &closed()));
    charters.push(described("checkpoints", &settled()));
    let lines: Vec<_> = charters.iter().map(Value::to_string).collect();
    bless::hold_to("tests/vectors/charter.json", &format!("[\n{}\n]\n", lines.join(",\n")));
}

fn described(name: &str, charter: &Charter) -> Value {
    let verdicts = charter.log().map(|(operation, verdict)| match verdict {
        Verdict::Void(_) => json!([hex(operation.hash().as_bytes()), null]),
        Verdict::Judged(level, judged) => {
            let done: Vec<_> = judged.iter().map(Result::is_ok).collect();
            json!([hex(operation.hash().as_bytes()), [level.0, done]])
        }
    });
    let views = CALENDAR.map(|now| {
        let mut charter = charter.clone();
        charter.set_calendar(UnixTime::from_secs(now));
        view(now, &charter)
    });
    json!({
        "name": name,
        "organisation": hex(charter.organisation().as_bytes()),
        "snapshot": hex(&charter.snapshot()),
        "digest": hex(charter.digest().as_bytes()),
        "state": hex(blake3::hash(&encode(charter.state())).as_bytes()),
        "verdicts": verdicts.collect::<Vec<_>>(),
        "views": views,
    })
}

/// The members at a given time, and the rights of each at each place, as bits.
fn view(now: u64, charter: &Charter) -> Value {
    let channels: BTreeSet<ChannelId> = charter.state().channels().map(|it| it.id).collect();
    let places: Vec<_> =
        std::iter::once(EVERYWHERE).chain(channels.into_iter().map(Place::Channel)).collect();
    let members = charter.members().map(|member| {
        let rights = places.iter().map(|at| {
            let bits = Capabilities::ALL.iter().enumerate();
            bits.fold(0, |all, (bit, right)| {
                all | u16::from(charter.allows(member, right, *at)) << bit
            })
        });
        (hex(member.as_bytes()), json!(rights.collect::<Vec<_>>()))
    });
    let names = places.iter().map(|at| match at {
        Place::Organisation => Value::Null,
        Place::Channel(id) => hex(id.as_bytes()).into(),
    });
    json!({
        "now": now,
        "places": names.collect::<Vec<_>>(),
        "members": members.collect::<serde_json::Map<_, _>>(),
    })
}

/// A mute that ends, and a channel whose name is sealed.
fn hidden() -> Charter {
    let mut world = World::new(false);
    let key = hark_charter::NameKey::generate(&hark_keys::SeededRandom::new(5));
    let name = key.seal(channel_id(7), "Back room");
    world.by(
        CHIEF,
        vec![Change::Channel(Channel {
            name: hark_charter::content::ChannelName::Hidden(name),
            ..channel(7, EVERYWHERE)
        })],
    );
    let member = world.member(EVE);
    let until = Some(UnixTime::from_secs(500));
    let mute = Sanction {
        member,
        kind: SanctionKind::Mute,
        at: Place::Channel(channel_id(1)),
        until,
        name: "Eve".to_owned(),
    };
    world.by(DAN, vec![Change::Sanction(mute)]);
    world.charter
}

/// Channels with rules for everyone, for roles and for persons. One of them was opened beforehand
/// by an officer of lower standing than the one who closed it. [CHARTER-6.8]
fn closed() -> Charter {
    let mut world = World::new(false);
    let (radio, none) = (Capabilities::JOIN | Capabilities::SPEAK, Capabilities::NONE);
    let [first, second] = [1, 2].map(|number| Place::Channel(channel_id(number)));
    let [eve, fay] = [EVE, FAY].map(|who| Subject::Member(world.member(who)));
    world.by(
        ANN,
        vec![
            world.grant(3, &[FAY]),
            rule(first, eve, radio, none),
            rule(second, Subject::Role(role_id(3)), none, radio),
            rule(second, fay, radio, none),
        ],
    );
    world.by(
        CHIEF,
        vec![
            rule(first, Subject::Everyone, none, radio),
            rule(first, Subject::Role(role_id(3)), radio, none),
            rule(second, Subject::Role(MEMBER_ROLE), radio, none),
        ],
    );
    world.charter
}

/// Two checkpoints, and operations before, between and after them.
fn settled() -> Charter {
    let mut world = World::new(false);
    world.by(BOB, vec![Change::Channel(channel(8, EVERYWHERE))]);
    settle(&mut world);
    let removal = world.remove(EVE);
    world.by(CHIEF, vec![removal]);
    world.by(ANN, vec![Change::Channel(channel(9, Place::Channel(channel_id(8))))]);
    settle(&mut world);
    let listed = world.charter.unlisted(world.member(FOUNDER));
    world.by(FOUNDER, vec![Change::Admitted(List::truncated(listed))]);
    world.by(BOB, vec![Change::RemoveChannel(channel_id(9))]);
    world.charter
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The number of histories that are kept,
const HISTORIES: usize = 20;

/// in each of which at least this many operations stand: short ones show little.
const STANDING: usize = 9;

/// Times before, at and after the ends of mutes and bans.
const CALENDAR: [u64; 3] = [0, 500, 10_000];
