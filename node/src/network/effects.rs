//! What the squad wants done, done.

use hark_keys::{TargetId, Timestamp};
use hark_mesh::squad;
use hark_voice::{Cue, Net, VoiceCommand};

use super::{Input, Persisted, membership, radio, working::Working};
use crate::{driver::Effect, event::Event};

impl Working {
    /// Does what the squad wants done.
    pub(super) fn carry_out(&mut self, now: Timestamp) {
        loop {
            match self.driver.poll(now, &mut self.base.network) {
                Some(Effect::Event(event)) => self.handle_squad(event),
                Some(Effect::Generation(target, generation)) => {
                    self.keep_generation(target, generation);
                }
                Some(Effect::Dial(dial)) => {
                    let directory = self.driver.squad.directory();
                    let member = dial.device.filter(|it| directory.record(*it).is_some());
                    if let Some(member) = member {
                        self.base.doorkeeper.expect(member);
                    }
                    self.driver.dial(now, &mut self.base.network, dial);
                }
                // A member sends little.
                Some(Effect::Pause) => {}
                None if std::mem::take(&mut self.unsettled) => self.settle_radio(now),
                None if std::mem::take(&mut self.charter_changed) => self.answer_kept(now),
                None => return,
            }
        }
    }

    fn handle_squad(&mut self, event: squad::SquadEvent) {
        let squad = &self.driver.squad;
        let charter = squad.charter();
        let mut after = None;
        let command = match event {
            squad::SquadEvent::OwnKey { target, secret } => {
                Some(VoiceCommand::UseKey { target, tag: charter.target_tag(target), secret })
            }
            squad::SquadEvent::OwnEpoch { target, secret, generation } => {
                let tag = charter.target_tag(target);
                Some(VoiceCommand::UseEpoch { target, tag, secret, generation })
            }
            squad::SquadEvent::NoKey(target) => Some(VoiceCommand::DropKey(target)),
            squad::SquadEvent::EpochRoster { target, number, devices, unconfirmed } => {
                let names = self.view.target_names(squad, &target);
                let roster = (devices, unconfirmed);
                let event = self.view.roster_changed(&target, names, number, roster);
                self.base.publisher.publish(event);
                None
            }
            squad::SquadEvent::Epochs { channel, hearing, secrets, talkers } => {
                let target = TargetId::of_channel(channel);
                Some(VoiceCommand::SetEpochs {
                    target,
                    tag: charter.target_tag(target),
                    heard: hearing.channels.into_iter().map(Net::Channel).collect(),
                    secrets,
                    talkers: talkers.into_iter().collect(),
                })
            }
            squad::SquadEvent::Listeners { target, plan } => {
                if let Some(known) = squad.target_of(target) {
                    let names = self.view.target_names(squad, known);
                    let changed = self.view.relay_changed(target, known, names, &plan);
                    changed.into_iter().for_each(|event| self.base.publisher.publish(event));
                }
                Some(VoiceCommand::SetListeners { target, plan })
            }
            squad::SquadEvent::Serve(service) => {
                self.serve(service);
                None
            }
            squad::SquadEvent::Slots { relay, slots } => {
                let tunnels = self.base.network.links.tunnels();
                match &slots {
                    None => tunnels.remove_relay(relay),
                    Some(slots) => {
                        // Those of the charter come first.
                        let rank = usize::from(!squad.is_relay(relay));
                        tunnels.set_relay(relay, rank, slots.iter().copied().collect());
                    }
                }
                let is_members = !squad.is_relay(relay);
                Some(VoiceCommand::SetSlots { relay, slots, is_members })
            }
            squad::SquadEvent::LeaveRelay { relay, talker } => {
                Some(VoiceCommand::LeaveRelay { relay, talker })
            }
            squad::SquadEvent::TargetGone(target) => {
                self.unsettled = true;
                let gone = Event::TargetGone { target: target.to_string() };
                self.base.publisher.publish(gone);
                Some(VoiceCommand::RemoveTarget(target))
            }
            squad::SquadEvent::TalkerKey { device, target, hearing, secret } => {
                let channels = hearing.channels.into_iter().map(Net::Channel);
                // The voice side forgets those who go.
                after = self.volume_of(device);
                Some(VoiceCommand::InstallKey {
                    device,
                    target,
                    tag: charter.target_tag(target),
                    heard: channels.chain(hearing.whisper.then_some(Net::Whisper)).collect(),
                    priority: hearing.priority,
                    secret,
                })
            }
            squad::SquadEvent::TalkerHeard { device, target, hearing } => {
                let channels = hearing.channels.into_iter().map(Net::Channel);
                let heard = channels.chain(hearing.whisper.then_some(Net::Whisper)).collect();
                let priority = hearing.priority;
                Some(VoiceCommand::SetHeard { device, target, heard, priority })
            }
            squad::SquadEvent::TalkerEpochKey { device, target, hearing, key } => {
                after = self.volume_of(device);
                let heard = hearing.channels.into_iter().map(Net::Channel).collect();
                let tag = charter.target_tag(target);
                Some(VoiceCommand::InstallEpochKey { device, target, tag, heard, key })
            }
            squad::SquadEvent::TalkerKeyGone { device, target } => {
                Some(VoiceCommand::RemoveKey { device, target })
            }
            squad::SquadEvent::TalkerGone { device } => Some(VoiceCommand::RemoveTalker(device)),
            squad::SquadEvent::NetsChanged => {
                self.base.doorkeeper.set_listening(squad.presence().listening.clone());
                self.unsettled = true;
                None
            }
            squad::SquadEvent::CharterChanged => {
                self.base.network.relay.set_charter(charter);
                self.base.doorkeeper.set_charter(charter);
                self.unsettled = true;
                self.view.set_charter(charter);
                let sanctions = self.view.set_sanctions(membership::sanctions_here(squad));
                let sanctions = sanctions.into_iter().map(|it| membership::with_lifter(squad, it));
                sanctions.for_each(|event| self.base.publisher.publish(event));
                if self.ready_at.is_none() {
                    self.base.publisher.publish(self.view.charter_changed());
                }
                self.compare_standings();
                self.charter_changed = true;
                None
            }
            squad::SquadEvent::Moved { by, from, to } => {
                if let Err(error) = self.radio.go_along(squad, from, to) {
                    tracing::warn!(%error, "this member is not moved");
                    return;
                }
                self.keeping.changed();
                self.unsettled = true;
                let channel = |id| radio::path_of(squad, id).unwrap_or_default();
                let moved = self.view.moved(by, from.map(channel), channel(to));
                self.base.publisher.publish(moved);
                Some(VoiceCommand::PlayCue(Cue::Moved))
            }
            squad::SquadEvent::AwaitCheck(nonce) => {
                self.await_check(nonce);
                None
            }
            squad::SquadEvent::Checked => {
                self.handle_checked();
                None
            }
            squad::SquadEvent::NamesChanged => {
                self.unsettled = true;
                self.keep_names();
                None
            }
            squad::SquadEvent::Evicted { device } => {
                self.base.network.links.close(device);
                None
            }
            squad::SquadEvent::Removed => {
                self.removed = true;
                None
            }
            squad::SquadEvent::RosterChanged { target, generation, step, devices } => {
                let names = self.view.target_names(squad, &target);
                let epoch = u64::from(generation) * 16 + u64::from(step);
                let roster = (devices, Vec::new());
                let event = self.view.roster_changed(&target, names, epoch, roster);
                self.base.publisher.publish(event);
                None
            }
            event => {
                if let Some(event) = self.view.handle_squad(squad, event, &self.base.network.links)
                {
                    let left = matches!(event, Event::PeerDown { .. });
                    after = left.then_some(VoiceCommand::PlayCue(Cue::Left));
                    self.base.publisher.publish(event);
                }
                None
            }
        };
        self.tell_voice(command.into_iter().chain(after));
    }

    /// Brings squad and voice in step with what the person wants to hear and talk to.
    pub(super) fn settle_radio(&mut self, now: Timestamp) {
        let squad = &mut self.driver.squad;
        let commands = self.radio.settle(now, squad, self.base.publisher.is_in_front());
        self.tell_voice(commands);
        // What was chosen may have given way to a preset.
        self.keeping.changed();
        for notice in self.radio.take_notices() {
            self.base.publisher.notify(notice);
        }
    }

    pub(super) fn tell_voice(&self, commands: impl IntoIterator<Item = VoiceCommand>) {
        commands.into_iter().for_each(|command| self.voice.command(command));
    }

    fn keep_generation(&mut self, target: TargetId, generation: u16) {
        self.generations.insert(target, generation);
        while self.generations.len() > GENERATIONS_MAX {
            let known = |target| self.driver.squad.target_of(target);
            let old = self.generations.keys().copied().find(|it| known(*it).is_none());
            let Some(old) = old else { break };
            self.generations.remove(&old);
        }
        let (store, generations) = (self.store.clone(), self.generations.clone());
        let inputs = self.base.input_sender.clone();
        (self.base.network.worker)(Box::new(move || {
            let kept = store.keep_generations(&generations);
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Persisted(Persisted::Generation(target, generation), kept));
        }));
    }

    fn keep_names(&self) {
        let (store, squad) = (self.store.clone(), &self.driver.squad);
        let names = squad.names().clone();
        (self.base.network.worker)(Box::new(move || {
            if let Err(error) = store.keep_names(&names) {
                tracing::warn!(%error, "names of hidden channels are not remembered");
            }
        }));
    }
}

/// Targets whose generations are kept; the keys of those that go begin anew, and are random.
const GENERATIONS_MAX: usize = 1024;
