//! What a person or a program wants of a running node.

use hark_keys::{Door, Ticket, Timestamp};

use super::{Runner, host::Live, moves};
use crate::{
    commands::{self, Answer, Request},
    snapshot::{Command, TicketRequest},
    voice::VoiceCommand,
};

impl Runner {
    /// Does it, or says in a line why not.
    pub(super) fn handle_command(
        &mut self,
        now: Timestamp,
        command: Command,
    ) -> Result<(), String> {
        let Some(squad) = &mut self.squad else { return Ok(()) };
        let mut voice_commands = Vec::new();
        let (was_down, mut is_ptt) = (self.radio.is_down(), false);
        self.unsettled = true;
        self.keeping.changed();
        match command {
            Command::Ptt { down, key } => {
                self.radio.press(key.as_deref(), down);
                is_ptt = true;
            }
            Command::Listen { net, on } => self.radio.listen(squad, &net, on),
            Command::Net { net, change } => self.radio.set_net(&net, change),
            Command::TalkTo(to) => self.radio.talk_to(to),
            Command::Key { key, to } => self.radio.bind(&key, to),
            Command::Ducking { decibels } => self.radio.set_ducking(decibels),
            Command::Transmit { mode } => self.radio.set_transmit(mode),
            Command::Volume { device, gain } => {
                let device = self.view.device_called(&device);
                voice_commands.extend(device.map(|device| self.radio.set_volume(device, gain)));
            }
            // Another one may have come to the front since.
            Command::Front if self.config.publisher.is_in_front() => {
                voice_commands.push(VoiceCommand::ComeToFront);
            }
            Command::Move { person, from, to } => {
                return moves::order(now, squad, &person, from.as_deref(), &to);
            }
            Command::Volunteer { on, kbps } => return self.volunteer(now, on.then_some(kbps)),
            Command::Verify { device, on } => return self.verify(&device, on),
            Command::Profile { action, name } => {
                voice_commands = self.change_profile(action, &name);
            }
            command => voice_commands.extend(self.view.handle_command(command)),
        }
        let is_down = self.radio.is_down();
        if was_down && !is_down {
            // The key first: its last words are not for those who are talked to without it.
            voice_commands.insert(0, VoiceCommand::PushToTalk(false));
            self.tell_voice(voice_commands.drain(..));
        } else if is_ptt {
            voice_commands.push(VoiceCommand::PushToTalk(is_down));
        }
        // The target first: what is said from now on goes there.
        if std::mem::take(&mut self.unsettled) {
            self.settle_radio(now);
        }
        self.tell_voice(voice_commands);
        Ok(())
    }

    pub(super) fn command_charter(
        &mut self,
        now: Timestamp,
        request: Request,
    ) -> Result<Answer, String> {
        let (Some(squad), Some(store)) = (&mut self.squad, &self.store) else {
            return Err("the node is starting: ask again in a moment".to_owned());
        };
        let mut host = Live { now, squad, store, key: &self.config.key };
        commands::execute(&mut host, request).map_err(|error| error.to_string())
    }

    /// A ticket as it is asked for, or in a line why there is none.
    pub(super) fn wanted_ticket(
        &mut self,
        now: Timestamp,
        request: &TicketRequest,
    ) -> Result<Ticket, String> {
        let (Some(squad), Some(store)) = (&mut self.squad, &self.store) else {
            return Err("the node is starting: ask again in a moment".to_owned());
        };
        let host = Live { now, squad, store, key: &self.config.key };
        let own = self.wires.own_addresses();
        let others = self.links.all();
        let others = others
            .iter()
            .map(|link| Door { device: link.device(), addresses: link.hello().addresses.to_vec() });
        let ticket = commands::issue_ticket(&host, self.config.clock.unix(), request, own, others);
        ticket.map_err(|error| error.to_string())
    }
}
