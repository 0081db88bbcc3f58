//! Changes that make an operation unsound. No author may make them. [CHARTER-4.9] [CHARTER-4.22]

use hark_charter::{
    Piece, PieceError,
    content::{
        Capabilities, Change, Channel, ChannelMode, ChannelName, ChannelSound, Grant, Layout,
        MEMBER_ROLE, NetLayout, Place, Policy, Preset, Relay, Role, Rule, Sanction, SanctionKind,
        SealedName, Subject,
    },
};
use hark_keys::{List, decode, encode};

use crate::world::{
    ANN, BOB, CHIEF, EVERYWHERE, World, channel, channel_id, preset, role, role_id,
};

#[track_caller]
fn check(sound: &[Change], unsound: &[Change]) {
    let world = World::new(false);
    let result = |change: &Change| {
        let made = world.sign(world.draft(CHIEF, vec![change.clone()]));
        world.charter.clone().take(Piece::Operation(made))
    };
    for change in sound {
        assert_eq!(result(change), Ok(true), "{change:?}");
    }
    for change in unsound {
        assert_eq!(result(change), Err(PieceError::Malformed), "{change:?}");
    }
}

/// A bit without a meaning, among the rights.
fn unknown() -> Capabilities {
    let bytes = encode(&(1_u16 << Capabilities::ALL.iter().count()));
    decode(&bytes, bytes.len()).unwrap()
}

#[test]
fn roles_have_a_name_a_rank_and_known_rights() {
    let ranked = |rank| role(9, rank, Capabilities::NONE);
    let of_all = |rank| Role { id: MEMBER_ROLE, ..ranked(rank) };
    let named = |name: &str| Role { name: name.to_owned(), ..ranked(100) };
    let able = |capabilities| Role { capabilities, ..ranked(100) };
    let sound =
        [ranked(1), ranked(250), of_all(251), named(&"x".repeat(32)), able(Capabilities::ALL)];
    let unsound = [
        ranked(0),
        ranked(251),
        of_all(250),
        named(""),
        named(" x"),
        named(&"x".repeat(33)),
        able(unknown()),
    ];
    check(&sound.map(Change::Role), &unsound.map(Change::Role));
    check(&[Change::RemoveRole(role_id(9))], &[Change::RemoveRole(MEMBER_ROLE)]);
}

#[test]
fn grants_name_each_member_once_and_no_role_that_all_have() {
    let world = World::new(false);
    let grant = world.grant_of(3, EVERYWHERE, &[ANN, BOB]);
    let with = |members: &[_]| Grant {
        members: List::truncated(members.iter().copied()),
        ..grant.clone()
    };
    let (first, second) = (grant.members[0], grant.members[1]);
    let unsound = [
        with(&[second, first]),
        with(&[first, first]),
        Grant { role: MEMBER_ROLE, ..grant.clone() },
    ];
    check(&[Change::Grant(grant.clone()), Change::Ungrant(grant)], &unsound.map(Change::Grant));
}

#[test]
fn rules_are_about_known_rights() {
    let rule = |allow, deny| {
        Change::Rule(Rule { at: EVERYWHERE, subject: Subject::Everyone, allow, deny })
    };
    check(
        &[rule(Capabilities::ALL, Capabilities::ALL)],
        &[rule(unknown(), Capabilities::NONE), rule(Capabilities::NONE, unknown())],
    );
}

fn hidden(bytes: &[u8]) -> ChannelName {
    let sealed = List::truncated(bytes.iter().copied());
    ChannelName::Hidden(SealedName { key_id: [0; 8], sealed })
}

#[test]
fn channels_have_a_name_let_somebody_talk_and_do_not_lie_in_themselves() {
    let plain = || channel(9, EVERYWHERE);
    let named = |name| Channel { name, ..plain() };
    let of_mode = |mode| Channel { mode, ..plain() };
    let of_sound = |sound| Channel { sound, ..plain() };
    let sound = [
        plain(),
        named(hidden(&[1])),
        of_mode(ChannelMode::Floor(1)),
        of_mode(ChannelMode::Loudest(1)),
        of_sound(ChannelSound::Music(96)),
        of_sound(ChannelSound::Music(192)),
        of_sound(ChannelSound::Stereo(96)),
        channel(9, Place::Channel(channel_id(1))),
    ];
    let unsound = [
        named(hidden(&[])),
        named(ChannelName::Listed(String::new())),
        named(ChannelName::Listed("x\n".to_owned())),
        of_mode(ChannelMode::Floor(0)),
        of_mode(ChannelMode::Loudest(0)),
        of_sound(ChannelSound::Music(95)),
        of_sound(ChannelSound::Music(193)),
        of_sound(ChannelSound::Stereo(193)),
        channel(9, Place::Channel(channel_id(9))),
    ];
    check(&sound.map(Change::Channel), &unsound.map(Change::Channel));
    let moved = |channel, parent| Change::MoveChannel {
        channel: channel_id(channel),
        parent: Place::Channel(channel_id(parent)),
    };
    check(&[moved(1, 2)], &[moved(1, 1)]);
    let link = |a, b| Change::Link { a: channel_id(a), b: channel_id(b), linked: true };
    check(&[link(1, 2)], &[link(1, 1), link(2, 1)]);
}

#[test]
fn presets_contain_what_is_sound_by_itself() {
    let world = World::new(false);
    let grant = world.grant_of(3, EVERYWHERE, &[ANN]);
    let plain = || preset(1, &[], vec![]);
    let channels = |channels: &[Channel]| Preset {
        channels: List::truncated(channels.iter().cloned()),
        ..plain()
    };
    let rule = |deny| {
        let rule =
            Rule { at: EVERYWHERE, subject: Subject::Everyone, allow: Capabilities::NONE, deny };
        preset(1, &[rule], vec![])
    };
    let net = |pan_percent, volume_percent| {
        let net = NetLayout { channel: channel_id(1), priority: 0, pan_percent, volume_percent };
        let nets = List::truncated([net]);
        let layout = Layout { subject: Subject::Everyone, nets, keys: List::default() };
        Preset { layouts: List::truncated([layout]), ..plain() }
    };
    let [one, other] = [8, 9].map(|number| channel(number, EVERYWHERE));
    let sound = [
        plain(),
        channels(&[other.clone(), one.clone()]),
        rule(Capabilities::ALL),
        preset(1, &[], vec![grant.clone()]),
        net(-100, 0),
        net(100, 400),
    ];
    let unsound = [
        Preset { name: String::new(), ..plain() },
        channels(&[one.clone(), other, one.clone()]),
        channels(&[Channel { mode: ChannelMode::Floor(0), ..one }]),
        rule(unknown()),
        preset(1, &[], vec![Grant { role: MEMBER_ROLE, ..grant }]),
        net(-101, 0),
        net(101, 0),
        net(0, 401),
    ];
    let change = |preset| Change::Preset(Box::new(preset));
    check(&sound.map(change), &unsound.map(change));
}

#[test]
fn relays_have_a_name_and_an_address() {
    let world = World::new(false);
    let relay = |name: &str, addresses: &[&str]| {
        Change::Relay(Relay {
            device: world.people[BOB].key().id(),
            name: name.to_owned(),
            addresses: List::truncated(addresses.iter().map(|it| it.parse().unwrap())),
            members_max: 0,
            rate_kbps: 0,
        })
    };
    let address = ["192.0.2.1:7000"];
    check(&[relay("depot", &address)], &[relay("", &address), relay("depot", &[])]);
}

#[test]
fn policies_removals_and_sanctions_say_something() {
    let world = World::new(false);
    let member = world.member(ANN);
    let removal = |admission| Change::Remove { member, admission };
    let sanction = |name: &str| {
        Change::Sanction(Sanction {
            member,
            kind: SanctionKind::Mute,
            at: EVERYWHERE,
            until: None,
            name: name.to_owned(),
        })
    };
    let sound = [
        Change::Policy(Policy::InviteHoursMax(0)),
        Change::Policy(Policy::OperationsPerDay(1)),
        removal(1),
        sanction(""),
        sanction("Ann"),
    ];
    let unsound = [Change::Policy(Policy::OperationsPerDay(0)), removal(0), sanction("Ann ")];
    check(&sound, &unsound);
}
