//! What a [`World`] carries, and what happens to it on the way.

use std::{ops::Range, sync::Arc, time::Duration};

use super::{AT_ONCE_MAX, FIRST_PORT, Kind, Output, RECORDS, World, ordered, persisted, poll};
use crate::{
    Dial,
    message::Message,
    squad::{DownReason, Handled, Job, MessageError, Persist, SquadEvent, SquadTransmit},
};

impl Kind {
    /// The least step by which time advances.
    pub(super) fn step(self) -> Duration {
        if self == Self::Together { Duration::from_millis(50) } else { Duration::ZERO }
    }

    /// How long something takes, as a range of milliseconds.
    fn delay(self, of: &Happening) -> Range<u64> {
        use Happening::*;
        match (self, of) {
            (Self::Friends, Message { .. }) => 1..150,
            (Self::Friends, Answer { .. } | Datagram { .. }) => 1..80,
            (Self::Friends, Gossip { .. }) => 1..300,
            (Self::Friends, Dialled { .. }) => 5..200,
            (Self::Friends, Persisted { .. } | Worked { .. }) => 1..30,
            (Self::Crowd, Message { .. } | Answer { .. } | Gossip { .. }) => 20..21,
            (Self::Friends | Self::Together | Self::Crowd, _) => 0..1,
        }
    }
}

/// What follows once a node has accepted something.
pub(super) enum Waiting {
    Answer { link: u64, from: usize, to: usize, id: u64 },
    Gossip(Vec<u8>),
}

/// Something on its way.
pub(super) enum Happening {
    Message { link: u64, from: usize, to: usize, id: u64, bytes: Vec<u8> },
    Answer { link: u64, from: usize, to: usize, id: u64, taken: bool },
    Datagram { link: u64, from: usize, to: usize },
    Gossip { link: u64, from: usize, to: usize, bytes: Vec<u8> },
    Dialled { from: usize, incarnation: u64, dial: Dial },
    Ended { link: u64, at: usize, peer: usize, reason: DownReason },
    Persisted { node: usize, incarnation: u64, persist: Persist },
    Worked { node: usize, incarnation: u64, job: Box<Job> },
}

impl World {
    /// Sends something on its way.
    fn begin(&mut self, happening: Happening) {
        self.after(self.kind.delay(&happening), happening);
    }

    pub(super) fn after(&mut self, milliseconds: Range<u64>, happening: Happening) {
        let span = milliseconds.end - milliseconds.start;
        let chance = if span > 1 { self.below(span) } else { 0 };
        let at = self.now + Duration::from_millis(milliseconds.start + chance);
        self.happened += 1;
        self.happenings.insert((at, self.happened), happening);
    }

    pub(super) fn link_of(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&ordered(a, b)).map(|link| link.number)
    }

    fn is_lost(&self) -> bool {
        self.loss > 0 && self.below(100) < self.loss
    }

    fn passes(&self, a: usize, b: usize) -> bool {
        !self.blocked.contains(&ordered(a, b)) && !self.is_lost()
    }

    /// Delivers everything that is due, and carries what follows at once.
    pub(super) fn arrive(&mut self) {
        for _ in 0..AT_ONCE_MAX {
            while let Some(index) = self.touched.pop_first() {
                self.pump(index);
            }
            if self.kind == Kind::Friends {
                self.assert_rosters_are_true();
            }
            let due = self.happenings.first_entry().filter(|entry| entry.key().0 <= self.now);
            let Some(due) = due else { return };
            let happening = due.remove();
            self.happen(happening);
        }
        panic!("the members never fall silent");
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Message { link, from, to, id, bytes } => {
                if self.link_of(from, to) != Some(link) {
                    return;
                }
                if !self.passes(from, to) {
                    return self.begin(Happening::Answer {
                        link,
                        from: to,
                        to: from,
                        id,
                        taken: false,
                    });
                }
                let device = self.id(from);
                let handled = self.touch(to).handle_message(now, device, &bytes);
                self.handled(to, handled, Waiting::Answer { link, from, to, id });
            }
            Happening::Answer { link, from, to, id, taken } => {
                if self.link_of(from, to) == Some(link) {
                    let device = self.id(from);
                    if taken {
                        self.touch(to).handle_delivered(now, device, id);
                    } else {
                        self.touch(to).handle_failed(now, device, id);
                    }
                }
            }
            Happening::Datagram { link, from, to } => {
                if self.link_of(from, to) == Some(link) && self.passes(from, to) {
                    let device = self.id(from);
                    self.touch(to).handle_heard(now, device);
                }
            }
            Happening::Gossip { link, from, to, bytes } => {
                let current = self.link_of(from, to) == Some(link);
                if !current || self.is_lost() || !self.passed.insert((to, bytes.clone())) {
                    return;
                }
                let from = Some(self.id(from));
                let handled = self.touch(to).handle_gossip(now, from, &bytes);
                self.handled(to, handled, Waiting::Gossip(bytes));
            }
            Happening::Worked { node, incarnation, job } => {
                let done = job.run();
                if self.is_up(node) && self.nodes[node].incarnation == incarnation {
                    self.touch(node).handle_job(now, done);
                }
            }
            Happening::Dialled { from, incarnation, dial } => {
                self.dialled(from, incarnation, &dial);
            }
            Happening::Ended { link, at, peer, reason } => {
                // Unless a newer link has replaced it.
                let replaced = self.link_of(at, peer).is_some_and(|number| number > link);
                if self.is_up(at) && !replaced {
                    let device = self.id(peer);
                    self.touch(at).handle_link_down(now, device, reason);
                }
            }
            Happening::Persisted { node: index, incarnation, persist } => {
                let node = &mut self.nodes[index];
                // A write that the crash overtook may still have happened.
                match &persist {
                    Persist::Generation(target, generation) => {
                        let newest = node.disk_generations.entry(*target).or_default();
                        *newest = (*newest).max(*generation);
                    }
                    Persist::Charter(_, charter) => node.disk_charter = Arc::clone(charter),
                }
                if node.is_up && node.incarnation == incarnation {
                    persisted(now, self.touch(index), &persist);
                }
            }
        }
    }

    /// A node has handled something, or a worker is to do so.
    fn handled(&mut self, at: usize, how: Result<Handled, MessageError>, waiting: Waiting) {
        match how {
            Ok(Handled::Later(number)) => {
                self.waiting.insert((at, self.nodes[at].incarnation, number), waiting);
            }
            Ok(Handled::Done) => self.conclude(at, Ok(()), waiting),
            Err(error) => self.conclude(at, Err(error), waiting),
        }
    }

    /// A node has accepted something, or not.
    fn conclude(&mut self, at: usize, result: Result<(), MessageError>, waiting: Waiting) {
        match (&result, &waiting) {
            // The link has ended meanwhile, or there is more from an author than is taken in a day.
            (Ok(()) | Err(MessageError::NotLinked), _)
            | (Err(MessageError::OverBudget), Waiting::Gossip(_)) => {}
            (Err(error), _) => {
                assert!(self.kind != Kind::Friends, "honest messages are taken: {error}");
            }
        }
        match waiting {
            Waiting::Gossip(bytes) if result.is_ok() => self.gossip(at, &bytes),
            Waiting::Gossip(_) => {}
            Waiting::Answer { link, from, to, id } => {
                // The answer can be lost, too.
                let taken = result.is_ok() && self.passes(from, to);
                self.begin(Happening::Answer { link, from: to, to: from, id, taken });
            }
        }
    }

    fn dialled(&mut self, from: usize, incarnation: u64, dial: &Dial) {
        let now = self.now;
        if !self.is_up(from) || self.nodes[from].incarnation != incarnation {
            return;
        }
        let found = dial.addresses.iter().find_map(|address| {
            let to = usize::from(address.port().checked_sub(FIRST_PORT)?);
            let expected = dial.device.is_none_or(|device| device == self.id(to));
            let open = self.is_up(to) && to != from && !self.blocked.contains(&ordered(from, to));
            (expected && open && self.kind == Kind::Friends).then_some((to, *address))
        });
        match found.filter(|_| !self.is_lost()) {
            Some((to, address)) => self.connect(from, to, Some(address)),
            None => self.touch(from).handle_dial_failed(now, dial),
        }
    }

    /// Carries all outputs of one node.
    pub(super) fn pump(&mut self, index: usize) {
        while self.is_up(index) && self.pump_one(index) {}
        self.touched.remove(&index);
    }

    fn pump_one(&mut self, index: usize) -> bool {
        let now = self.now;
        let incarnation = self.nodes[index].incarnation;
        let squad = &mut self.nodes[index].squad;
        match poll(now, squad) {
            Some(Output::Event(event)) => {
                assert!(self.kind != Kind::Friends || is_of_friends(&event), "{event:?}");
                self.nodes[index].observe(event);
            }
            Some(Output::Transmit(transmit)) => self.transmit(index, transmit),
            Some(Output::Persist(persist)) => {
                self.begin(Happening::Persisted { node: index, incarnation, persist });
            }
            Some(Output::Job(job)) => {
                self.begin(Happening::Worked { node: index, incarnation, job });
            }
            Some(Output::Verdict(number, result)) => {
                if let Some(waiting) = self.waiting.remove(&(index, incarnation, number)) {
                    self.conclude(index, result, waiting);
                }
            }
            None if self.kind == Kind::Together => return false,
            None => {
                let Some(dial) = squad.poll_dial(now) else { return false };
                self.begin(Happening::Dialled { from: index, incarnation, dial });
            }
        }
        true
    }

    fn transmit(&mut self, from: usize, transmit: SquadTransmit) {
        match transmit {
            SquadTransmit::Message { to, id, bytes } => {
                let to = self.places[&to];
                let Some(link) = self.link_of(from, to).filter(|_| self.carries(&bytes)) else {
                    return;
                };
                let sent = self.sent.entry((from, bytes[0])).or_default();
                sent.messages += 1;
                sent.bytes += bytes.len();
                bytes.as_slice().clone_into(&mut sent.last);
                let bytes = match &self.tamper {
                    None => bytes.to_vec(),
                    Some(tamper) => {
                        let message = Message::decode(&bytes).expect("a message of our own");
                        let Some(message) = tamper(from, to, message) else { return };
                        message.encode()
                    }
                };
                self.begin(Happening::Message { link, from, to, id, bytes });
            }
            SquadTransmit::Datagram { to, .. } => {
                let to = self.places[&to];
                if let Some(link) = self.link_of(from, to) {
                    self.begin(Happening::Datagram { link, from, to });
                }
            }
            SquadTransmit::Check { to, nonce } => self.checks.push((from, to, nonce)),
            SquadTransmit::Gossip(bytes) => {
                self.passed.insert((from, bytes.clone()));
                self.gossip(from, &bytes);
            }
        }
    }

    /// Passes gossip on to all peers.
    fn gossip(&mut self, from: usize, bytes: &[u8]) {
        for to in (0..self.nodes.len()).filter(|_| self.carries(bytes)).collect::<Vec<_>>() {
            if let Some(link) = self.link_of(from, to) {
                self.begin(Happening::Gossip { link, from, to, bytes: bytes.to_vec() });
            }
        }
    }

    fn carries(&self, bytes: &[u8]) -> bool {
        self.kind != Kind::Crowd || bytes.first() != Some(&RECORDS)
    }
}

/// Whether an event is possible in a world where nobody is removed, relays, or is seen from
/// anywhere.
fn is_of_friends(event: &SquadEvent) -> bool {
    !matches!(
        event,
        SquadEvent::TalkerHeard { .. }
            | SquadEvent::TalkerKeyGone { .. }
            | SquadEvent::TargetGone(_)
            | SquadEvent::Removed
            | SquadEvent::Evicted { .. }
            | SquadEvent::Moved { .. }
            | SquadEvent::OwnEpoch { .. }
            | SquadEvent::EpochRoster { .. }
            | SquadEvent::NoKey(_)
            | SquadEvent::Epochs { .. }
            | SquadEvent::TalkerEpochKey { .. }
            | SquadEvent::LeaveRelay { .. }
            | SquadEvent::AwaitCheck(_)
            | SquadEvent::Checked
    )
}
