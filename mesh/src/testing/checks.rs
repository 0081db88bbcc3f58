//! Checks that must hold for everything that happens in a [`World`].

use std::collections::BTreeSet;

use super::{Kind, World};

impl World {
    /// Asserts that each running node has the keys of all others, and that all rosters are true.
    pub fn assert_all_hear_each_other(&self) {
        let up: Vec<_> = self.nodes.iter().filter(|node| node.is_up).collect();
        let all: BTreeSet<_> = up.iter().map(|node| node.key.id()).collect();
        for node in &up {
            let id = node.key.id();
            let others: Vec<_> = all.iter().copied().filter(|other| *other != id).collect();
            assert_eq!(node.voice.roster(), others, "the roster is who is there");
            assert_eq!(node.voice.plan().listeners(), others, "voice goes to who is there");
            assert!(node.voice.unreachable.is_empty());
            let (target, own) = node.voice.own.first_key_value().expect("everybody has a key");
            let record = node.squad.directory().record(id);
            for other in &up {
                if other.key.id() != id {
                    let opens = other.voice.opens.get(&(id, *target));
                    assert_eq!(opens, Some(own), "all have all keys");
                }
                assert_eq!(other.squad.directory().record(id), record, "records converge");
            }
        }
    }

    /// [PROTO-6.5] Keys that `at` has in use must never be given to `peer`, unless it already holds
    /// them.
    pub(super) fn expect_later_keys(&mut self, at: usize, peer: usize) {
        let (owner, newcomer) = (self.id(at), self.id(peer));
        for (target, own) in self.nodes[at].voice.own.clone() {
            let roster = self.nodes[at].voice.rosters.get(&target);
            if roster.is_some_and(|devices| devices.contains(&newcomer)) {
                continue;
            }
            let (talker, number) = ((owner, target), (own.generation, own.step));
            let ever = self.nodes[peer].ever.get(&talker);
            assert!(!ever.is_some_and(|ever| ever.contains(&number)), "not on the roster, no key");
            self.nodes[peer].forbidden.entry(talker).or_default().insert(number);
        }
    }

    /// Checks what must hold at any time.
    pub(super) fn check(&self) {
        match self.kind {
            Kind::Friends => self.assert_rosters_are_true(),
            Kind::Together => {
                self.assert_rosters_are_true();
                self.assert_listeners_may_hear();
            }
            Kind::Crowd => {}
        }
    }

    /// Every node that can open what is sealed now is on the sealing node's roster.
    pub(super) fn assert_rosters_are_true(&self) {
        for node in self.nodes.iter().filter(|node| node.is_up) {
            for (target, own) in &node.voice.own {
                let range = (own.generation, 0)..=(own.generation, own.step);
                let roster = &node.voice.rosters[target];
                for other in &self.nodes {
                    let ever = other.ever.get(&(node.key.id(), *target));
                    if ever.is_some_and(|ever| ever.range(range.clone()).next().is_some()) {
                        assert!(roster.contains(&other.key.id()), "a hidden listener");
                    }
                }
            }
        }
    }

    /// Every device that is sent a frame may hear the target, and listens to it.
    fn assert_listeners_may_hear(&self) {
        for node in &self.nodes {
            let state = node.squad.charter().state();
            for (target, plan) in &node.voice.plans {
                let Some(target) = node.squad.target_of(*target) else { continue };
                let listeners = plan.listeners();
                for device in &listeners {
                    let member = node.squad.member_of(*device).expect("who is sent to is linked");
                    let listening = node.squad.listening_of(*device);
                    let own = node.squad.member().expect("a member");
                    let hearing = target.hearing(state, own, member, listening);
                    assert!(hearing.is_reached(), "a listener that the charter does not allow");
                }
                assert!(listeners.is_sorted_by(|a, b| a < b), "one copy for each");
            }
        }
    }
}
