//! Brings everything up to date with what has happened: one function, one order.
//!
//! An input changes its own subject and marks what it has changed. The first poll after it updates
//! everything that depends on that, once, however many inputs there were. What no input has touched
//! is not examined: a relay with a thousand members cannot examine all of them for each message.

use std::{
    collections::BTreeMap,
    ops::{BitOr, BitOrAssign},
    sync::Arc,
};

use hark_keys::Timestamp;
use zeroize::Zeroizing;

use super::{Purpose, Squad, SquadEvent};
use crate::message::Message;

/// What has changed since everything was last up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty(u16);

impl Dirty {
    /// Another charter is in force.
    pub(super) const CHARTER: Self = Self(1);
    /// This device wants to hear other channels, or hears other ones now.
    pub(super) const NETS: Self = Self(1 << 1);
    /// This device wants to talk to other targets.
    pub(super) const TARGETS: Self = Self(1 << 2);
    /// A link started or ended, or its peer was heard again.
    pub(super) const LINKS: Self = Self(1 << 3);
    /// A peer hears other channels.
    pub(super) const LISTENING: Self = Self(1 << 4);
    /// A talker has given us a key.
    pub(super) const TALKERS: Self = Self(1 << 5);
    /// Our own keys have advanced: one is on disk, a peer has accepted one, or one was used.
    pub(super) const KEYS: Self = Self(1 << 6);
    /// Epochs or their holders have changed.
    pub(super) const EPOCHS: Self = Self(1 << 7);
    /// The relays that we use, what they do for us, or what we do as a relay.
    pub(super) const RELAYS: Self = Self(1 << 8);
    /// Where peers are seen, or see us.
    pub(super) const PATHS: Self = Self(1 << 9);
    /// Messages of the charter wait for a peer.
    pub(super) const PIECES: Self = Self(1 << 10);
    /// The keys of hidden channels' names.
    pub(super) const NAMES: Self = Self(1 << 11);
    /// The person's availability.
    pub(super) const AVAILABILITY: Self = Self(1 << 12);
    /// Time has passed: announcements that were not accepted are sent again.
    pub(super) const TIME: Self = Self(1 << 13);

    /// Everything that decides which devices may have our keys.
    const AUDIENCE: Self = Self(Self::TARGETS.0 | Self::LINKS.0 | Self::LISTENING.0);
    /// Everything that decides which key seals what, and how speech travels.
    const VOICE: Self = Self(
        Self::CHARTER.0
            | Self::AUDIENCE.0
            | Self::NETS.0
            | Self::KEYS.0
            | Self::EPOCHS.0
            | Self::RELAYS.0
            | Self::TIME.0,
    );

    /// Whether any of these has changed.
    fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Whether nothing has changed.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Dirty {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Dirty {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl Squad {
    /// Notes that something has changed. Its consequences follow before any output is given out.
    pub(super) fn mark(&mut self, now: Timestamp, what: Dirty) {
        // An input may be dated before the previous one.
        self.now = self.now.max(now);
        self.dirty |= what;
    }

    /// Carries out the consequences of everything that was marked. All polls and timeouts begin
    /// with this. Inputs that change rights, or what a person has chosen, end with it. So at the
    /// next input nobody still has a right that was taken away, and the person has an answer.
    pub(super) fn catch_up(&mut self) {
        if !self.dirty.is_empty() {
            self.reconcile(self.now);
            #[cfg(test)]
            self.assert_in_step();
        }
    }

    /// Brings everything up to date with what has changed. Each step uses the results of earlier
    /// ones, and none changes what an earlier one has used.
    ///
    /// 1. The charter decides which devices no longer belong, and what we may talk to. This comes
    ///    first, since all later steps use it. While it is in doubt whether we belong ourselves,
    ///    nobody gains or loses anything by it.
    /// 2. Our keys are given to the devices that may hear us. This single step first takes them
    ///    from all that lose them and replaces them. Only then does it give keys to anybody. So no
    ///    device that leaves, or may no longer hear, is given the replacement. [PROTO-6.9]
    /// 3. Devices that no longer belong lose their links. This comes after their keys were
    ///    replaced, since a device that has just left may come back to the key that it holds. It
    ///    comes before anything else is told to anybody: outputs for these devices are dropped, and
    ///    no more are queued.
    /// 4. The channels that we hear. After 3, since a removed device takes no place on a full
    ///    channel.
    /// 5. The talkers that we hear, by the channels of 4. [PROTO-6.10]
    /// 6. Epochs are judged by the charter, and are dealt, accepted and used. After 2, since an
    ///    epoch is used if it reaches more devices than our own key, and our own key then waits.
    /// 7. The key in use is reported, and sent to the devices that are to have it.
    /// 8. Peers are told what concerns them alone. After 3 to 6, so that they are told once.
    /// 9. Peers that see us from outside are asked whether strangers reach us. Before 10, since our
    ///    offer as a relay contains the result.
    /// 10. What we do as a relay, and the devices that relays lead to.
    /// 11. How our voice travels: by the holders of the key in use (6, 7), by the devices that
    ///     relays reach (10), and only over links that are up (3).
    /// 12. Peers are told where they are seen. This comes last, since no voice waits for it.
    fn reconcile(&mut self, now: Timestamp) {
        let another_charter = self.dirty.has(Dirty::CHARTER) && self.accept_charter(now);
        if another_charter {
            self.mark(now, Dirty::TARGETS | Dirty::NETS);
        }
        if self.dirty.has(Dirty::TARGETS) {
            self.recompute_targets();
        }
        let outlaws = if another_charter { self.outlaws() } else { Vec::new() };
        if self.dirty.has(Dirty::AUDIENCE) {
            self.admit(now, &outlaws);
        }
        if another_charter {
            self.evict(now, outlaws);
            self.apply_charter(now);
        }
        let other_nets = self.dirty.has(Dirty::NETS) && self.recompute_nets();
        if another_charter || other_nets {
            self.talkers.mark_all();
        }
        if another_charter || other_nets || self.dirty.has(Dirty::TALKERS) {
            self.refresh_talker_keys();
        }
        if another_charter {
            self.revalidate_epochs(now);
            self.events.push_back(SquadEvent::CharterChanged);
        }
        if other_nets {
            self.relisten_epochs(now);
        }
        if self.dirty.has(Dirty::VOICE) {
            self.settle_epochs(now);
            self.tell_keys(now);
        }
        let told = Dirty::LINKS | Dirty::TIME;
        if self.dirty.has(told | Dirty::CHARTER | Dirty::NETS) {
            self.tell_nets(now);
        }
        if self.dirty.has(told | Dirty::CHARTER | Dirty::NAMES) {
            self.tell_names(now);
        }
        if self.dirty.has(told | Dirty::PIECES) {
            self.tell_pieces();
        }
        if self.dirty.has(told | Dirty::AVAILABILITY) {
            self.tell_availability(now);
        }
        if self.dirty.has(told | Dirty::PATHS) {
            self.settle_checks(now);
        }
        if self.dirty.has(told | Dirty::RELAYS) {
            self.tell_clients(now);
        }
        self.settle_paths(now);
        if self.dirty.has(Dirty::VOICE | Dirty::PATHS) {
            self.plan(now);
        }
        if self.dirty.has(told | Dirty::PATHS) {
            self.tell_observed(now);
        }
        self.dirty = Dirty::default();
    }

    /// What was not marked has not changed, so examining all of it must find nothing to do. Used
    /// only in tests, and there one time in eight, since it takes as long as everything else.
    #[cfg(test)]
    fn assert_in_step(&mut self) {
        let is_due = self.poll_timeout().is_some_and(|due| due <= self.now);
        if is_due || self.links.len() > 8 || !self.last_id.is_multiple_of(8) {
            return;
        }
        let done = |squad: &Self| (squad.last_id, squad.transmits.len(), squad.events.len());
        let before = done(self);
        let all = Dirty(Dirty::VOICE.0 & !Dirty::CHARTER.0) | Dirty::PATHS;
        self.dirty = all | Dirty::PIECES | Dirty::NAMES | Dirty::AVAILABILITY;
        self.talkers.mark_all();
        self.reconcile(self.now);
        assert_eq!(done(self), before, "something has changed that nobody has marked");
    }

    /// Reports the keys in use, and gives them to the devices that are to have them.
    fn tell_keys(&mut self, now: Timestamp) {
        while let Some((target, change)) = self.targets.poll_change() {
            let (generation, step) = (change.secret.generation, change.secret.step);
            self.events.push_back(SquadEvent::OwnKey { target, secret: change.secret });
            if let Some(target) = self.targets.target(target).cloned() {
                let devices = change.holders;
                self.events.push_back(SquadEvent::RosterChanged {
                    target,
                    generation,
                    step,
                    devices,
                });
            }
        }
        while let Some((target, delivery)) = self.targets.poll_delivery(now) {
            self.send(delivery.to, Purpose::Key(target, delivery.id), delivery.bytes);
        }
    }

    /// Tells peers what we listen to. A relay listens to nothing.
    fn tell_nets(&mut self, now: Timestamp) {
        if self.member.is_none() {
            return;
        }
        let charter = Arc::clone(self.charter());
        let links: BTreeMap<_, _> =
            self.links.iter().map(|(device, link)| (*device, link.member)).collect();
        while let Some((to, listening)) = self.nets.poll(now, &charter, &links, &mut self.numbers) {
            let purpose = Purpose::Listening(listening.number);
            self.send(to, purpose, Zeroizing::new(Message::Listening(listening).encode()));
        }
    }

    /// Gives members the names that they may know. A relay knows none.
    fn tell_names(&mut self, now: Timestamp) {
        let charter = Arc::clone(self.charter());
        let links = &self.links;
        let member = |device| links.get(&device).and_then(|link| link.member);
        let given: Vec<_> = std::iter::from_fn(|| self.names.poll(now, &charter, member)).collect();
        for (to, message) in given {
            self.send(to, Purpose::Names, Zeroizing::new(message.encode()));
        }
    }

    fn tell_pieces(&mut self) {
        while let Some((to, bytes)) = self.replication.poll_message() {
            self.send(to, Purpose::Charter, Zeroizing::new(bytes));
        }
    }
}
