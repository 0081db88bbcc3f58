//! All small histories of three officers, two of them equals, each with a stale or a fresh view.

use std::collections::BTreeSet;

use hark_charter::{
    Charter, Operation, Piece,
    content::{Capabilities, Change, Subject},
};
use hark_keys::{Cosigned, ObjectHash};

use crate::world::{
    ANN, BOB, CHIEF, DAN, EVE, EVERYWHERE, World, assert_as_model, assert_same, channel, rule,
};

/// What one of the officers does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Grant,
    Ungrant,
    Remove,
    Cut,
    Deny,
    Channel,
}

const DEEDS: [Deed; 6] =
    [Deed::Grant, Deed::Ungrant, Deed::Remove, Deed::Cut, Deed::Deny, Deed::Channel];

/// Each officer, and the member against whom it acts.
const OFFICERS: [(usize, usize); 3] = [(CHIEF, ANN), (ANN, BOB), (BOB, DAN)];

/// The operation of a deed by what `charter` says, whether it is allowed or not.
fn deed(world: &World, charter: &Charter, officer: usize, deed: Deed) -> Cosigned<Operation> {
    let (who, whom) = OFFICERS[officer];
    let member = world.member(whom);
    let changes = match deed {
        Deed::Grant => vec![world.grant(2, &[EVE])],
        Deed::Ungrant => vec![world.ungrant(if whom == DAN { 3 } else { 2 }, &[whom])],
        Deed::Remove => {
            let admission = charter.state().removals(member) + 1;
            vec![Change::Remove { member, admission }]
        }
        Deed::Cut => vec![],
        Deed::Deny => {
            let subject = Subject::Member(member);
            vec![rule(EVERYWHERE, subject, Capabilities::NONE, Capabilities::MANAGE_ROLES)]
        }
        Deed::Channel => vec![Change::Channel(channel(9, EVERYWHERE))],
    };
    let mut draft = world.draft_from(charter, who, changes);
    if matches!(deed, Deed::Remove | Deed::Cut) {
        draft.cuts = hark_keys::List::truncated([charter.cut(member)]);
    }
    world.sign(draft)
}

/// Takes operations in all orders in which each comes after those that it needs.
fn in_all_orders(world: &World, made: &[Cosigned<Operation>]) -> usize {
    let mut whole = world.charter.clone();
    for result in whole.take_all(made.iter().cloned().map(Piece::Operation)) {
        assert_eq!(result, Ok(true));
    }
    assert_as_model(&whole);
    let mut orders = 0;
    let mut open = vec![(world.charter.clone(), BTreeSet::<ObjectHash>::new())];
    let mut seen = BTreeSet::new();
    while let Some((charter, taken)) = open.pop() {
        if taken.len() == made.len() {
            assert_same(&charter, &whole);
            orders += 1;
            continue;
        }
        for next in made.iter().filter(|it| !taken.contains(&it.hash())) {
            let mut charter = charter.clone();
            if charter.take_all([Piece::Operation(next.clone())]).remove(0) == Ok(true) {
                let mut taken = taken.clone();
                taken.insert(next.hash());
                // A set that was taken in one order was compared with the other orders.
                if taken.len() == made.len() || seen.insert(taken.clone()) {
                    open.push((charter, taken));
                }
            }
        }
    }
    orders
}

/// [CHARTER-5.4] Each officer makes one operation without knowing the others'. Then each makes
/// another, knowing all of these, or only its own.
#[test]
fn all_orders_of_small_histories_say_the_same() {
    let world = World::new(false);
    let mut histories = 0;
    for first in DEEDS {
        for second in DEEDS {
            for third in DEEDS {
                let apart = [first, second, third];
                let made: Vec<_> = (0..3)
                    .map(|officer| deed(&world, &world.charter, officer, apart[officer]))
                    .collect();
                assert!(in_all_orders(&world, &made) > 0);
                histories += 1;
                // Each history then continues, with a scattered choice of further deeds.
                let next = [DEEDS[(histories * 5) % 6], DEEDS[(histories * 7 + 1) % 6], third];
                let mut longer = made.clone();
                for officer in 0..3 {
                    let mut view = world.charter.clone();
                    let fresh = (histories >> officer) % 2 == 0;
                    let known: Vec<_> = made
                        .iter()
                        .enumerate()
                        .filter(|(author, _)| fresh || *author == officer)
                        .map(|(_, it)| Piece::Operation(it.clone()))
                        .collect();
                    view.take_all(known);
                    let who = world.people[OFFICERS[officer].0].member;
                    if view.is_member(who) {
                        longer.push(deed(&world, &view, officer, next[officer]));
                    }
                }
                assert!(in_all_orders(&world, &longer) > 0, "{apart:?} {next:?}");
            }
        }
    }
    assert_eq!(histories, 216);
}
