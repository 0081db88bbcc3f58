//! Messages from peers, and peers' answers to ours.

use std::sync::Arc;

use hark_keys::{ChannelId, DeviceId, TargetId, Timestamp};
use zeroize::Zeroizing;

use super::{
    Handled, MessageError, Squad, SquadEvent, SquadTransmit, TRANSMITS_MAX, budget::cost_of,
    reconcile::Dirty,
};
use crate::message::Message;

/// The purpose of a message.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Key(TargetId, u64),
    Records,
    Listening(u64),
    Names,
    Charter,
    Move,
    /// To a relay that we use.
    Order(u64),
    /// To a peer that uses us as a relay.
    Notice(u64),
    Observed(u64),
    Availability(u64),
    Candidates,
    Check(u64),
    Prekey(u64),
    Attendance(ChannelId, u64),
    Epoch(u64),
    Confirming(u64),
    /// Needs no repetition: it is sent again when more holders have confirmed.
    Confirmed,
    TalkersKey(TargetId, u64),
}

impl Purpose {
    /// What else an answer changes. For the other purposes it only matters when the message is sent
    /// again.
    fn answer_changes(self) -> Dirty {
        match self {
            Self::Key(..) => Dirty::KEYS,
            Self::Charter => Dirty::PIECES,
            Self::Check(_) => Dirty::PATHS,
            Self::Attendance(..) | Self::Epoch(_) | Self::TalkersKey(..) => Dirty::EPOCHS,
            Self::Order(_) => Dirty::RELAYS,
            Self::Records
            | Self::Listening(_)
            | Self::Names
            | Self::Move
            | Self::Notice(_)
            | Self::Observed(_)
            | Self::Availability(_)
            | Self::Candidates
            | Self::Prekey(_)
            | Self::Confirming(_)
            | Self::Confirmed => Dirty::default(),
        }
    }
}

impl Squad {
    /// The linked peer `from` has sent a message. The caller answers it, at once or later, with the
    /// [`crate::message::Acknowledgement`] that it makes from the result.
    pub fn handle_message(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        bytes: &[u8],
    ) -> Result<Handled, MessageError> {
        if !self.links.contains_key(&from) {
            return Err(MessageError::NotLinked);
        }
        let message = self.read(now, Some(from), bytes)?;
        let Some(link) = self.links.get(&from) else { return Err(MessageError::NotLinked) };
        let mut result = Ok(Handled::Done);
        match message {
            Message::Key(_)
            | Message::Listening(_)
            | Message::Names(_)
            | Message::Move(_)
            | Message::Prekey(_)
            | Message::Confirming(_)
            | Message::TalkersKey(_)
            | Message::Availability(_)
                if link.member.is_none() =>
            {
                return Err(MessageError::NotMember);
            }
            Message::Key(message) => {
                if self.talkers.take(from, message.verify()?)? {
                    self.mark(now, Dirty::TALKERS);
                }
            }
            Message::Records(records) => {
                result = self.take_records(now, Some(from), records.into_vec(), false);
            }
            Message::Listening(listening) => {
                if self.nets.take(from, listening) {
                    self.events.push_back(SquadEvent::NetsChanged);
                    self.tell_listening(from);
                    self.epochs.look(now);
                    self.mark(now, Dirty::LISTENING);
                }
            }
            Message::Names(keys) => {
                let charter = Arc::clone(self.replication.charter());
                let (new, early) = self.names.take(&charter, keys.into_vec().into_iter());
                if new {
                    self.events.push_back(SquadEvent::NamesChanged);
                    self.mark(now, Dirty::NAMES);
                }
                if early {
                    result = Err(MessageError::NoSuchName);
                }
            }
            Message::Digest(digest) => {
                self.replication.handle_digest(now, from, digest);
                self.mark(now, Dirty::PIECES);
            }
            Message::Have(have) => self.replication.handle_have(from, have),
            Message::Pieces(packed) => {
                result = self.replication.handle_pieces(from, packed.into_vec());
            }
            Message::Move(order) => self.take_move(from, order)?,
            Message::Past(part) => result = self.replication.handle_past(now, from, part),
            Message::Wanted(wanted) => self.take_wanted(now, from, &wanted)?,
            Message::Route(route) => self.take_route(now, from, route)?,
            Message::Roster(roster) => self.take_roster(now, from, &roster),
            Message::Draining(draining) => {
                self.relays.set_draining(from, draining);
                self.mark(now, Dirty::RELAYS);
            }
            Message::Offer(offer) => self.take_offer(now, &offer)?,
            Message::Observed(address) => self.take_observed(now, from, address),
            Message::Candidates(theirs) => self.take_candidates(now, from, theirs),
            Message::Check(check) => self.take_check(now, from, check)?,
            Message::Prekey(prekey) => self.take_prekey(now, from, &prekey)?,
            Message::Attendance(said) => self.take_attendance(now, from, &said)?,
            Message::Epoch(epoch) => {
                result = self.take_epoch(now, from, &epoch).map(|()| Handled::Done);
                // An epoch that does not open is passed on nevertheless.
                self.mark(now, Dirty::EPOCHS);
            }
            Message::Confirming(said) => self.take_confirming(now, from, &said)?,
            Message::Confirmed(said) => self.take_confirmed(now, from, &said)?,
            Message::TalkersKey(message) => self.take_talkers_key(now, from, *message)?,
            Message::Availability(said) => self.take_availability(now, Some(from), &said)?,
        }
        result
    }

    /// A gossip message arrived, passed on by `from`. If it is refused, at once or later, it must
    /// not be passed on.
    pub fn handle_gossip(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        bytes: &[u8],
    ) -> Result<Handled, MessageError> {
        let handled = match self.read(now, from, bytes)? {
            Message::Records(records) => self.take_records(now, from, records.into_vec(), true)?,
            Message::Pieces(packed) => self.replication.handle_gossip(from, packed.into_vec())?,
            Message::Offer(offer) => {
                self.take_offer(now, &offer)?;
                Handled::Done
            }
            Message::Availability(said) => {
                self.take_availability(now, None, &said)?;
                Handled::Done
            }
            // [PROTO-6.4] A key travels only over the link that ends at its recipient.
            Message::Key(_)
            | Message::Listening(_)
            | Message::Names(_)
            | Message::Digest(_)
            | Message::Have(_)
            | Message::Move(_)
            | Message::Past(_)
            | Message::Wanted(_)
            | Message::Route(_)
            | Message::Roster(_)
            | Message::Draining(_)
            | Message::Observed(_)
            | Message::Candidates(_)
            | Message::Check(_)
            | Message::Prekey(_)
            | Message::Attendance(_)
            | Message::Epoch(_)
            | Message::Confirming(_)
            | Message::Confirmed(_)
            | Message::TalkersKey(_) => return Err(MessageError::ByGossip),
        };
        Ok(handled)
    }

    /// Decodes a message, if the peer may still have this device look at one. [PROTO-5.11]
    fn read(
        &mut self,
        now: Timestamp,
        from: Option<DeviceId>,
        bytes: &[u8],
    ) -> Result<Message, MessageError> {
        if from.is_some_and(|from| !self.purses.is_open(now, from)) {
            return Err(MessageError::OverBudget);
        }
        let message = Message::decode(bytes);
        if let Some(from) = from {
            self.purses.spend(now, from, cost_of(message.as_ref().ok()));
        }
        Ok(message?)
    }

    /// `device` has answered message `id` with [`crate::message::Acknowledgement::Taken`].
    pub fn handle_delivered(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        self.handle_answer(now, device, id, true);
    }

    /// Message `id` did not reach `device`, or was refused.
    pub fn handle_failed(&mut self, now: Timestamp, device: DeviceId, id: u64) {
        self.handle_answer(now, device, id, false);
    }

    fn handle_answer(&mut self, now: Timestamp, device: DeviceId, id: u64, taken: bool) {
        let Some(purpose) = self.under_way.remove(&(device, id)) else { return };
        match purpose {
            Purpose::Key(target, id) => {
                if let Some(keys) = self.targets.keys(target) {
                    if taken {
                        keys.handle_delivered(device, id);
                    } else {
                        keys.handle_failed(now, device, id);
                    }
                }
            }
            Purpose::Records if taken => {}
            Purpose::Records => self.records.failed(now, device),
            Purpose::Listening(number) => self.nets.handle_answer(now, device, number, taken),
            Purpose::Names => self.names.handle_answer(now, device, taken),
            Purpose::Charter => self.replication.handle_answer(device),
            Purpose::Move | Purpose::Candidates | Purpose::Confirmed => {}
            Purpose::Observed(number) => self.paths.handle_answer(now, device, number, taken),
            Purpose::Availability(number) => {
                self.availabilities.handle_answer(now, device, number, taken);
            }
            Purpose::Check(number) => self.checks.handle_answer(number, taken),
            Purpose::Prekey(number) => self.epochs.handle_told_prekey(now, device, number, taken),
            Purpose::Attendance(channel, number) => {
                self.epochs.handle_attendance(now, device, (channel, number), taken);
            }
            Purpose::Epoch(id) => self.epochs.handle_handout(now, id, taken),
            Purpose::Confirming(number) => self.epochs.handle_shown(now, device, number, taken),
            Purpose::TalkersKey(target, number) => {
                self.targets.handle_given(now, target, (device, number), taken);
            }
            Purpose::Order(number) => self.relays.handle_answer(now, device, number, taken),
            Purpose::Notice(number) => {
                if let Some(serving) = &mut self.serving {
                    serving.handle_answer(now, device, number, taken);
                }
            }
        }
        self.mark(now, purpose.answer_changes());
    }

    pub(super) fn send(&mut self, to: DeviceId, purpose: Purpose, bytes: Zeroizing<Vec<u8>>) {
        self.last_id += 1;
        let id = self.last_id;
        self.under_way.insert((to, id), purpose);
        self.push(SquadTransmit::Message { to, id, bytes });
    }

    pub(super) fn push(&mut self, transmit: SquadTransmit) {
        if self.transmits.len() == TRANSMITS_MAX {
            self.transmits.pop_front();
        }
        self.transmits.push_back(transmit);
    }
}
