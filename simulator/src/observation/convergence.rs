//! Checks that all members that run have converged: each has links to all others, and each key to
//! talk is held by exactly those whom it reaches.
//!
//! Whom a key reaches follows from the charter, which the members that run hold together, and from
//! the nets to which each of them reports that it listens. What the talker itself knows of this is
//! not used.

use std::{collections::BTreeSet, sync::Arc};

use hark_charter::{
    Charter,
    content::{Capabilities, Place},
};
use hark_keys::{ChannelId, DeviceId, MemberId};

use super::MemberLog;
use crate::{member::Seat, witness::target_of};

/// A member that runs and is in the organisation.
struct Present<'a> {
    name: &'a str,
    log: &'a MemberLog,
    device: DeviceId,
    member: MemberId,
    listening: BTreeSet<ChannelId>,
    /// Whether it talks to the targets that the charter sets, rather than to its own choice.
    talks_by_charter: bool,
}

/// All that is wrong among the members that run, one line each.
pub(super) fn missing(running: &[(&MemberLog, &Arc<Seat>)]) -> Vec<String> {
    let Some(charter) = common(running.iter().filter_map(|(_, seat)| seat.charter())) else {
        return vec!["nobody is in the organisation".to_owned()];
    };
    let mut missing = Vec::new();
    let mut present = Vec::new();
    for (log, seat) in running {
        let member = seat.device().and_then(|device| Some((device, charter.owner(device)?)));
        match member {
            Some((device, member)) => {
                present.push(Present {
                    name: seat.name(),
                    log,
                    device,
                    member,
                    listening: seat.listening(),
                    talks_by_charter: seat.actor.member.talk_to.is_empty(),
                });
            }
            None => missing.push(format!("{} is not in the organisation", seat.name())),
        }
    }
    missing.extend(wrong(&charter, &present));
    missing
}

/// What is wrong among the members that are present.
fn wrong(charter: &Charter, present: &[Present<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for one in present {
        let links: BTreeSet<_> = one.log.connected.keys().collect();
        let apart = present.iter().filter(|it| it.device != one.device);
        let apart = apart.filter(|it| !links.contains(&it.device));
        wrong.extend(apart.map(|it| format!("{} has no link to {}", one.name, it.name)));
        wrong.extend(keys(charter, one, present));
    }
    wrong
}

/// The charter with all pieces that any of them has.
fn common(mut charters: impl Iterator<Item = Charter>) -> Option<Charter> {
    let mut all = charters.next()?;
    for charter in charters {
        // Pieces that have been settled since are refused, but their effect is already known.
        all.take_all(charter.pieces_in_order().collect::<Vec<_>>());
    }
    Some(all)
}

/// What is wrong with the holders of one talker's keys.
fn keys(charter: &Charter, talker: &Present<'_>, present: &[Present<'_>]) -> Vec<String> {
    let name = talker.name;
    let first = charter.first_channel(talker.member).map(|channel| Place::Channel(channel.id));
    let may_speak = |at| charter.allows(talker.member, Capabilities::SPEAK, at);
    let talks = talker.talks_by_charter && first.is_some_and(may_speak);
    if talks && talker.log.keys.is_empty() {
        return vec![format!("{name} has no key to talk with")];
    }
    let mut wrong = Vec::new();
    for key in talker.log.keys.values() {
        let Some(target) = target_of(&key.target) else {
            wrong.push(format!("{name} talks to {}, which makes no sense", key.name));
            continue;
        };
        let to = |other: &Present<'_>| {
            let state = charter.state();
            target.hearing(state, talker.member, other.member, &other.listening).is_reached()
        };
        for other in present.iter().filter(|it| it.device != talker.device) {
            let what = match (to(other), key.devices.contains(&other.device)) {
                (true, false) => "lacks",
                (false, true) => "holds",
                _ => continue,
            };
            wrong.push(format!("{} {what} the key of {name} to {}", other.name, key.name));
        }
        let here = |device: &&DeviceId| present.iter().all(|it| it.device != **device);
        let gone = key.devices.iter().filter(here).count();
        if gone > 0 {
            wrong.push(format!("{gone} who are gone hold the key of {name} to {}", key.name));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hark_charter::{
        Piece,
        content::{Change, Channel, ChannelMode, ChannelName, ChannelSound, Grant, Rank, Role},
    };
    use hark_keys::{DeviceKey, List, RoleId, SeededRandom};
    use hark_mesh::Target;
    use hark_node::event::TargetText;

    use super::*;
    use crate::observation::KeyLog;

    const NAMES: [&str; 4] = ["Kestrel", "Wren", "Osprey", "Heron"];
    const FLIGHT: ChannelId = ChannelId::from_bytes([7; 16]);
    const PILOT: RoleId = RoleId::from_bytes([8; 16]);

    /// All members are linked. Osprey and Heron have moved from the first net to Flight, where
    /// Osprey and Wren are pilots. Kestrel talks to both nets and to the pilots.
    struct World {
        charter: Charter,
        devices: Vec<DeviceId>,
        first: ChannelId,
        logs: Vec<MemberLog>,
    }

    impl World {
        fn new() -> Self {
            let keys: Vec<_> = (1..=4).map(|n| DeviceKey::from_secret(&[n; 32])).collect();
            let devices: Vec<_> = keys.iter().map(DeviceKey::id).collect();
            let mut charter =
                Charter::found("Watch", "squad", &keys[0], None, &SeededRandom::new(5));
            let founder = charter.member_of(devices[0]);
            for device in &devices[1..] {
                let certificate = charter.issue(&keys[0], founder, *device, None);
                let certificate = certificate.expect("a root key admits");
                charter.take(Piece::Certificate(certificate)).expect("it is new");
            }
            let first = charter.first_channel(founder).expect("there is one").id;
            let everywhere = Place::Organisation;
            let channel = Channel {
                id: FLIGHT,
                parent: everywhere,
                name: ChannelName::Listed("Flight".to_owned()),
                mode: ChannelMode::Open,
                sound: ChannelSound::Speech,
                limit: 0,
                order: 9,
            };
            let role = Role {
                id: PILOT,
                name: "Pilot".to_owned(),
                rank: Rank(30),
                capabilities: Capabilities::NONE,
            };
            let mut pilots = [1, 2].map(|pilot: usize| charter.member_of(devices[pilot]));
            pilots.sort_unstable();
            let grant = Grant { role: PILOT, at: everywhere, members: List::truncated(pilots) };
            let changes = vec![Change::Channel(channel), Change::Role(role), Change::Grant(grant)];
            let operation = charter.edit(&keys[0], founder, changes).expect("a root may");
            charter.take(Piece::Operation(operation)).expect("it is new");
            let mut world = Self { charter, devices, first, logs: Vec::new() };
            world.logs = (0..4).map(|_| MemberLog::default()).collect();
            for log in &mut world.logs {
                log.connected =
                    world.devices.iter().enumerate().map(|(at, device)| (*device, at)).collect();
            }
            let pilots = Target::new([], [], [PILOT]);
            for (target, holders) in [
                (Target::of_channel(first), &[0, 1][..]),
                (Target::of_channel(FLIGHT), &[0, 2, 3]),
                (pilots, &[0, 1, 2]),
            ] {
                world.tells(0, &target, holders);
            }
            for (talker, holders) in [(1, &[0, 1][..]), (2, &[0, 1, 2]), (3, &[0, 1, 3])] {
                world.tells(talker, &Target::of_channel(first), holders);
            }
            world
        }

        fn tells(&mut self, talker: usize, target: &Target, holders: &[usize]) {
            let text = TargetText {
                id: target.id().to_string(),
                channels: target.channels().iter().map(ToString::to_string).collect(),
                members: Vec::new(),
                roles: target.roles().iter().map(ToString::to_string).collect(),
            };
            let devices = holders.iter().map(|holder| self.devices[*holder]).collect();
            let name = if target.roles().is_empty() { "a net" } else { "Pilot" };
            let key = KeyLog { name: name.to_owned(), target: text.clone(), devices };
            self.logs[talker].keys.insert(text.id, key);
        }

        fn wrong(&self) -> Vec<String> {
            let nets = [self.first, self.first, FLIGHT, FLIGHT];
            let present = (0..4).map(|at| Present {
                name: NAMES[at],
                log: &self.logs[at],
                device: self.devices[at],
                member: self.charter.member_of(self.devices[at]),
                listening: BTreeSet::from([nets[at]]),
                talks_by_charter: true,
            });
            wrong(&self.charter, &present.collect::<Vec<_>>())
        }
    }

    #[test]
    fn each_key_is_for_those_whom_it_reaches() {
        let mut world = World::new();
        assert_eq!(world.wrong(), [""; 0]);
        let pilots = Target::new([], [], [PILOT]);
        world.tells(0, &pilots, &[0, 1, 3]);
        let expected =
            ["Osprey lacks the key of Kestrel to Pilot", "Heron holds the key of Kestrel to Pilot"];
        assert_eq!(world.wrong(), expected);
        world.logs[0].keys.remove(&pilots.id().to_string());
        assert_eq!(world.wrong(), [""; 0]);
        world.tells(3, &Target::of_channel(FLIGHT), &[3]);
        assert_eq!(world.wrong(), ["Osprey lacks the key of Heron to a net"]);
    }

    #[test]
    fn who_is_gone_holds_no_key_and_who_is_there_has_links() {
        let mut world = World::new();
        let stranger = DeviceKey::from_secret(&[9; 32]).id();
        let id = Target::of_channel(world.first).id().to_string();
        world.logs[1].keys.get_mut(&id).expect("it has one").devices.insert(stranger);
        assert_eq!(world.wrong(), ["1 who are gone hold the key of Wren to a net"]);
        world.logs[1].keys = BTreeMap::new();
        assert_eq!(world.wrong(), ["Wren has no key to talk with"]);
        let mut world = World::new();
        let heron = world.devices[3];
        world.logs[2].connected.remove(&heron);
        assert_eq!(world.wrong(), ["Osprey has no link to Heron"]);
    }
}
