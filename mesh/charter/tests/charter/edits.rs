//! What a device adds to the changes that it is asked to make.

use std::collections::BTreeSet;

use hark_charter::content::{Capabilities, Change, Subject};

use crate::world::{
    ANN, BOB, CHIEF, CID, DAN, EVE, EVERYWHERE, FAY, FOUNDER, World, channel, role, role_id, rule,
};

/// [CHARTER-5.6] A change that takes rights other than those of speech from members of lower rank
/// ends their terms, and no other change does.
#[test]
fn lowering_somebodys_rights_ends_the_term() {
    let mut world = World::new(false);
    let none = Capabilities::NONE;
    let allowed = rule(EVERYWHERE, Subject::Member(world.member(EVE)), Capabilities::MUTE, none);
    let changes = vec![
        Change::Role(role(4, 100, Capabilities::MUTE)),
        Change::Role(role(5, 120, Capabilities::SPEAK)),
        world.grant(4, &[EVE]),
        world.grant(5, &[FAY]),
        // She stands higher by another role.
        world.grant(3, &[ANN]),
        allowed,
    ];
    world.by(FOUNDER, changes);
    let with_rights = |rank, rights| Change::Role(role(3, rank, rights));
    let of = |who, allow, deny| rule(EVERYWHERE, Subject::Member(world.member(who)), allow, deny);
    let of_role = |number, deny| rule(EVERYWHERE, Subject::Role(role_id(number)), none, deny);
    let all = Capabilities::ALL;
    let (mute, speak) = (Capabilities::MUTE, Capabilities::SPEAK);
    let cases: Vec<(usize, Change, &[usize])> = vec![
        (CHIEF, world.remove(FAY), &[FAY]),
        (CHIEF, world.ungrant(3, &[DAN]), &[DAN]),
        (CHIEF, world.ungrant(5, &[FAY]), &[]),
        (CHIEF, world.grant(5, &[EVE]), &[]),
        (CHIEF, Change::RemoveRole(role_id(2)), &[ANN, BOB, CID]),
        (CHIEF, Change::RemoveRole(role_id(3)), &[ANN, DAN]),
        (CHIEF, Change::RemoveRole(role_id(5)), &[]),
        (ANN, Change::RemoveRole(role_id(3)), &[DAN]),
        (CHIEF, with_rights(60, all), &[ANN, DAN]),
        (CHIEF, with_rights(50, all - mute), &[ANN, DAN]),
        (CHIEF, with_rights(50, all - speak), &[]),
        (CHIEF, with_rights(50, all), &[]),
        (CHIEF, with_rights(40, all), &[]),
        (CHIEF, Change::Role(role(6, 60, mute)), &[]),
        (CHIEF, of(DAN, none, mute), &[DAN]),
        (CHIEF, of(DAN, none, speak), &[]),
        (CHIEF, of(DAN, mute, none), &[]),
        (CHIEF, of(EVE, none, none), &[EVE]),
        (CHIEF, of(EVE, mute | speak, none), &[]),
        (CHIEF, of_role(4, mute), &[EVE]),
        (CHIEF, of_role(4, speak), &[]),
        (CHIEF, rule(EVERYWHERE, Subject::Everyone, none, mute), &[]),
        (CHIEF, Change::Channel(channel(9, EVERYWHERE)), &[]),
    ];
    for (by, change, expected) in cases {
        let by = &world.people[by];
        let made = world.charter.edit(by.key(), by.member, vec![change.clone()]).unwrap();
        let ended: BTreeSet<_> = made.unverified().cuts.iter().map(|cut| cut.member).collect();
        let expected: BTreeSet<_> = expected.iter().map(|who| world.member(*who)).collect();
        assert_eq!(ended, expected, "{change:?}");
    }
}
