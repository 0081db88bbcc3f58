//! What must be true of everything that a squad puts out, and after each step.

use hark_charter::{
    Piece, clean_name,
    content::{Capabilities, ChannelName, Place},
};
use hark_keys::{DeviceId, MemberId, ObjectHash};
use hark_mesh::{
    AddressKind, Target,
    message::{MESSAGE_MAX_BYTES, Message},
    pack::unpack,
    squad::{Persist, SquadEvent, SquadTransmit},
    target::LISTEN,
};

use crate::world::WORLD;

use super::Run;

impl Run {
    pub(super) fn check_persist(&self, persist: &Persist) {
        match persist {
            Persist::Generation(target, generation) => {
                let newest = self.generations.get(target).copied().unwrap_or(0);
                assert!(*generation > newest, "a number that may have been used");
            }
            Persist::Charter(_, charter) => {
                assert_eq!(charter.organisation(), WORLD.charter.organisation());
                let writing = |persist: &Persist| matches!(persist, Persist::Charter(..));
                assert!(!self.asked.iter().any(writing), "one charter at a time");
            }
        }
    }

    pub(super) fn check_transmit(&mut self, transmit: &SquadTransmit) {
        match transmit {
            SquadTransmit::Message { to, id, bytes } => {
                assert!(self.linked.contains_key(to) && bytes.len() <= MESSAGE_MAX_BYTES);
                self.last_id = self.last_id.max(*id);
                self.check_message(*to, Message::decode(bytes).expect("our own message"));
            }
            SquadTransmit::Gossip(bytes) => {
                match Message::decode(bytes).expect("our own message") {
                    Message::Records(_) => assert!(bytes.len() <= MESSAGE_MAX_BYTES),
                    Message::Pieces(packed) => self.check_pieces(&packed),
                    // [PROTO-5.12]
                    Message::Availability(said) => {
                        let said = said.verify().expect("signed by us");
                        assert_eq!(said.device, WORLD.bob.key.id());
                    }
                    other => panic!("{other:?} is not for all"),
                }
            }
            SquadTransmit::Datagram { to, .. } => assert!(self.linked.contains_key(to)),
            // [PROTO-5.9]
            SquadTransmit::Check { to, .. } => {
                assert!(self.hosts.contains(&to.ip()) && to.port() != 0, "sent to a third party");
            }
        }
    }

    pub(super) fn check_message(&mut self, to: DeviceId, message: Message) {
        let state = self.in_force.state();
        let member = self.linked[&to];
        match message {
            Message::Key(message) => {
                let key = message.verify().expect("signed by us");
                assert!(key.recipients.contains(&to), "a key goes to those it names");
                assert!(self.may_hear(&key.target, to), "a key for somebody who may not hear");
                let target = key.target.clone();
                self.check_holders(&target, key.secret.generation, &key.recipients);
            }
            Message::Records(_) => {}
            // [PROTO-6.13]
            Message::Listening(listening) => {
                for channel in listening.channels.iter() {
                    let may = |rights, at| state.allows(member, rights, Place::Channel(at));
                    let speaks = |at| may(Capabilities::SPEAK, at);
                    let is_heard = speaks(*channel) || state.linked(*channel).any(speaks);
                    assert!(may(LISTEN, *channel) || is_heard, "a hidden listener is told of");
                    assert!(self.squad.listening().contains(channel));
                }
            }
            Message::Names(keys) => {
                for (channel, key) in keys.iter() {
                    let hidden = state.channel(*channel).expect("names are of channels");
                    let ChannelName::Hidden(name) = &hidden.name else { panic!("no hidden name") };
                    assert!(key.open(*channel, name).is_some());
                    assert!(self.in_force.is_member(member));
                }
            }
            Message::Digest(digest) => assert_eq!(digest, self.in_force.digest()),
            Message::Have(have) => assert_eq!(have, self.squad.charter_taken().have()),
            // [PROTO-6.14]
            Message::Move(order) => {
                let may = |by, rights, at| state.allows(by, rights, Place::Channel(at));
                let own = WORLD.bob.member;
                assert!(order.from.is_none_or(|from| may(own, Capabilities::MOVE, from)));
                assert!(may(own, Capabilities::MOVE, order.to) && may(member, LISTEN, order.to));
            }
            Message::Wanted(wanted) => {
                assert!(!wanted.devices.contains(&WORLD.bob.key.id()), "nobody reaches itself so");
            }
            // [PROTO-10.3]
            Message::Route(route) => {
                let only = route.only.expect("we say for whom");
                let is_keyed = self.squad.target_of(route.target.id()).is_some();
                assert!(is_keyed || only.is_empty(), "a way to nothing");
            }
            Message::Roster(_)
            | Message::Draining(_)
            | Message::Offer(_)
            | Message::Attendance(_) => panic!("this device is no relay"),
            // [PROTO-11.1]
            Message::Prekey(prekey) => {
                let prekey = prekey.verify().expect("signed by us");
                assert_eq!(prekey.device, WORLD.bob.key.id());
            }
            Message::Epoch(_) => panic!("nobody has told us who is on a channel"),
            Message::Confirming(_) | Message::Confirmed(_) | Message::TalkersKey(_) => {
                panic!("nobody deals epochs in this world")
            }
            // [PROTO-5.7]
            Message::Observed(address) => {
                assert!(!self.squad.is_relayed(to), "its address is the relay's");
                assert_eq!(address.port(), 7, "where it is seen");
            }
            Message::Candidates(_) => {}
            // [PROTO-5.12]
            Message::Availability(said) => {
                let said = said.verify().expect("signed by us");
                assert_eq!(said.device, WORLD.bob.key.id());
            }
            // [PROTO-5.9]
            Message::Check(check) => {
                assert!(self.awaited.is_none_or(|nonce| nonce == check.nonce), "nobody waits");
                assert_eq!(AddressKind::of(check.address.ip()), AddressKind::Public);
            }
            Message::Pieces(packed) => self.check_pieces(&packed),
            Message::Past(part) => {
                let past = self.in_force.past().expect("what is told is there");
                assert!(Message::of_past(&past).contains(&Message::Past(part)));
            }
        }
    }

    /// Pieces are sent only after they are on disk. [CHARTER-8.1]
    pub(super) fn check_pieces(&mut self, packed: &[u8]) {
        let pieces = unpack(packed).expect("our own packing");
        for piece in &pieces {
            let hash = match piece {
                Piece::Root(document) => document.hash(),
                Piece::Certificate(certificate) => ObjectHash::from_bytes(certificate.hash()),
                Piece::Operation(operation) => operation.hash(),
                Piece::Checkpoint(checkpoint) => checkpoint.hash(),
            };
            assert!(self.in_force.contains(&hash), "passed on before it is kept");
        }
        self.theirs.take_all(pieces);
    }

    /// Every holder of a key of this generation was allowed to hear when the key was given to it.
    /// [PROTO-6.9]
    pub(super) fn check_holders(&mut self, target: &Target, generation: u16, devices: &[DeviceId]) {
        let place = (target.id(), generation);
        let known = self.holders.remove(&place).unwrap_or_default();
        for device in devices {
            assert!(known.contains(device) || self.may_hear(target, *device), "a hidden listener");
        }
        self.holders.insert(place, known.into_iter().chain(devices.iter().copied()).collect());
    }

    /// Whether a linked device may hear what we say to `target`, according to the charter in force
    /// and to what the device listens to.
    pub(super) fn may_hear(&self, target: &Target, device: DeviceId) -> bool {
        let Some(member) = self.linked.get(&device) else { return false };
        let listening = self.squad.listening_of(device);
        let state = self.in_force.state();
        self.belongs(*member, device)
            && target.hearing(state, WORLD.bob.member, *member, listening).is_reached()
    }

    /// Whether a device is a member's. The certificate of a new device may not be on disk yet.
    pub(super) fn belongs(&self, member: MemberId, device: DeviceId) -> bool {
        let charters = [&self.in_force, self.squad.charter_taken()];
        charters.into_iter().any(|charter| charter.devices_of(member).contains(&device))
    }

    pub(super) fn check_event(&mut self, event: SquadEvent) {
        match event {
            // [PROTO-6.3]
            SquadEvent::OwnKey { target, secret } => {
                let number = (secret.generation, secret.step);
                let on_disk = self.generations.get(&target).copied().unwrap_or(0);
                assert!(secret.is_valid() && secret.generation <= on_disk);
                let before = self.own_keys.insert(target, number);
                assert!(before.is_none_or(|before| before < number), "no key comes twice");
                self.keyed.insert(target);
            }
            SquadEvent::RosterChanged { target, generation, step, devices } => {
                assert_eq!(self.own_keys.get(&target.id()), Some(&(generation, step)));
                assert!(devices.is_sorted_by(|a, b| a < b));
                self.check_holders(&target, generation, &devices);
            }
            SquadEvent::Listeners { target, plan } => {
                // If the target no longer exists, its end was reported.
                if let Some(target) = self.squad.target_of(target) {
                    let devices = plan.listeners();
                    assert!(devices.iter().all(|device| self.may_hear(target, *device)));
                }
            }
            SquadEvent::TargetGone(target) => {
                assert!(self.squad.target_of(target).is_none());
                self.keyed.remove(&target);
            }
            SquadEvent::TalkerKey { device, target, hearing, secret } => {
                assert!(secret.is_valid());
                let number = (secret.generation, secret.step);
                let before =
                    self.talker_keys.insert((device, target), (number.0, number.1, hearing));
                assert!(before.is_none_or(|before| (before.0, before.1) < number), "told once");
            }
            SquadEvent::TalkerHeard { device, target, hearing } => {
                let known = self.talker_keys.get_mut(&(device, target));
                known.expect("its key is there").2 = hearing;
            }
            SquadEvent::TalkerKeyGone { device, target } => {
                self.talker_keys.remove(&(device, target));
            }
            SquadEvent::TalkerEpochKey { device, .. } => {
                assert!(self.linked.contains_key(&device));
            }
            SquadEvent::TalkerGone { device } => {
                self.talker_keys.retain(|(talker, _), _| *talker != device);
            }
            SquadEvent::TalkerRoster { devices, .. } => {
                assert!(devices.contains(&WORLD.bob.key.id()));
                assert!(devices.is_sorted_by(|a, b| a < b));
            }
            SquadEvent::PeerUp { name, .. } | SquadEvent::PeerRenamed { name, .. } => {
                assert_eq!(clean_name(&name), name);
            }
            SquadEvent::RelayUp { .. }
            | SquadEvent::RelayDown { .. }
            | SquadEvent::LeaveRelay { .. } => {
                panic!("no relay is named in this world");
            }
            SquadEvent::Serve(_) | SquadEvent::Slots { .. } => {}
            SquadEvent::OwnEpoch { .. }
            | SquadEvent::EpochRoster { .. }
            | SquadEvent::NoKey(_)
            | SquadEvent::Epochs { .. } => panic!("nobody deals epochs in this world"),
            SquadEvent::PeerUnreachable { device } | SquadEvent::PeerReachable { device } => {
                assert!(self.linked.contains_key(&device));
            }
            // This is also true of a peer that is about to be evicted.
            SquadEvent::PeerDown { device, .. } => {
                assert!(self.squad.member_of(device).is_none());
                self.linked.remove(&device);
            }
            SquadEvent::Evicted { device } => {
                assert!(self.squad.member_of(device).is_none());
                self.linked.remove(&device);
            }
            SquadEvent::Removed => {
                let devices = self.in_force.devices_of(WORLD.bob.member);
                assert!(!devices.contains(&WORLD.bob.key.id()));
                self.removed = true;
            }
            // [PROTO-6.14]
            SquadEvent::Moved { by, from, to } => {
                let state = self.in_force.state();
                let may = |who, rights, at| state.allows(who, rights, Place::Channel(at));
                let mover = self.linked[&by];
                assert!(from.into_iter().chain([to]).all(|at| may(mover, Capabilities::MOVE, at)));
                assert!(may(WORLD.bob.member, LISTEN, to));
            }
            SquadEvent::AwaitCheck(nonce) => self.awaited = nonce,
            SquadEvent::Checked => assert!(self.squad.checked().count() <= 4),
            SquadEvent::AvailabilityChanged { .. }
            | SquadEvent::NetsChanged
            | SquadEvent::CharterChanged
            | SquadEvent::NamesChanged
            | SquadEvent::RecordsChanged => {}
        }
    }

    /// Checks what is true whenever there is nothing left to do.
    pub(super) fn check_all(&self) {
        if self.removed {
            return;
        }
        let state = self.in_force.state();
        let own = WORLD.bob.member;
        for (device, member) in &self.linked {
            assert_eq!(self.squad.member_of(*device), Some(*member));
            assert!(self.belongs(*member, *device), "a link with a stranger");
        }
        for target in &self.keyed {
            let keyed = self.squad.target_of(*target).expect("what is gone is told");
            assert_eq!(keyed.id(), *target);
            assert_eq!(&keyed.permitted(state, own), keyed, "a key for what we may not say");
        }
        let listening = self.squad.listening();
        for channel in listening {
            assert!(state.allows(own, LISTEN, Place::Channel(*channel)));
        }
        assert!(self.squad.presence().listening.iter().all(|channel| {
            let channel = state.channel(*channel);
            channel.is_some_and(|channel| matches!(channel.name, ChannelName::Listed(_)))
        }));
        // [PROTO-6.10]
        for ((device, target), (_, _, hearing)) in &self.talker_keys {
            let speaker = self.linked[device];
            let target = &self.talker_targets[&(*device, *target)];
            assert_eq!(target.hearing(state, speaker, own, listening), *hearing);
        }
    }
}
