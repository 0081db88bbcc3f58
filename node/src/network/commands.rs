//! What a person or a program wants of a running node.

use std::{sync::mpsc::SyncSender, time::Duration};

use hark_commands::{CommandError, Lookup, Outcome, Request, names::unknown};
use hark_keys::{Door, Ticket, Timestamp};
use hark_voice::{Cue, RELEASE_TAIL, VoiceCommand};

use super::{host::RunningHost, member_moves, working::Working};
use crate::{
    event::{Event, TicketView},
    request::{CommandOutcome, FlagError, RequestError},
    snapshot::{Command, MasterChange, NetChange, TalkTo, TicketRequest},
};

impl Working {
    /// Does it, and says what else there is to know of it; or says in a line why not; then nothing
    /// is changed.
    pub(super) fn handle_command(
        &mut self,
        now: Timestamp,
        command: Command,
    ) -> Result<CommandOutcome, RequestError> {
        let command = self.understand(now, command)?;
        let squad = &mut self.driver.squad;
        let mut voice_commands = Vec::new();
        let (was_down, mut is_ptt) = (self.radio.is_down(), false);
        let mut tail = RELEASE_TAIL;
        let talks = matches!(command, Command::TalkTo { .. });
        match command {
            Command::Ptt { down, key, to, for_secs, tail_ms } => {
                is_ptt = true;
                tail = tail_ms.map_or(RELEASE_TAIL, |ms| Duration::from_millis(ms.into()));
                if down {
                    if let (Some(key), Some(to)) = (&key, to) {
                        self.radio.add_key(squad, key.clone(), to)?;
                    }
                    let lasting = for_secs.map(|secs| Duration::from_secs(secs.into()));
                    self.radio.press(key, lasting.map(|lasting| now + lasting));
                } else {
                    self.radio.release(&key);
                }
            }
            Command::Listen { net, on, keep } => {
                self.radio.listen(squad, &net, on, keep)?;
            }
            Command::Net { net, change } => self.radio.set_net(&net, change)?,
            Command::TalkTo { to, keep } => self.radio.talk_to(squad, to, keep)?,
            Command::Follow => self.radio.follow(squad),
            Command::Key { key, to } => self.radio.bind(&key, to)?,
            Command::Master { change } => self.radio.set_master(change)?,
            Command::Ducking { decibels } => self.radio.set_ducking(decibels)?,
            Command::Voice { change } => {
                let (coding, wait) = change.parse()?;
                // The voice side says only now and then what is set.
                let own = self.voice.statistics().own;
                let (mut set, waited) = self.voice_set.unwrap_or((own.set, own.wait));
                set.apply(coding);
                set.check(own.low_delay)?;
                self.voice_set = Some((set, wait.unwrap_or(waited)));
                voice_commands.push(VoiceCommand::ChangeCoding(coding));
                voice_commands.extend(wait.map(VoiceCommand::SetWait));
            }
            Command::Processing { change } => {
                voice_commands.push(self.base.sound.change_processing(change)?);
            }
            Command::Cues { change } => voice_commands.push(self.base.sound.change_cues(change)?),
            Command::SideTone { on, decibels } => {
                voice_commands.push(self.base.sound.change_side_tone(on, decibels)?);
            }
            Command::Transmit { mode } => self.radio.set_transmit(mode),
            Command::Volume { device, gain } => {
                let device = device.parse().map_err(|_| RequestError::NoDevice(device))?;
                voice_commands.push(self.radio.set_volume(device, gain)?);
            }
            // Another one may have come to the front since.
            Command::Front if self.base.publisher.is_in_front() => {
                voice_commands.push(VoiceCommand::ComeToFront);
            }
            Command::Move { person, from, to } => {
                let host = RunningHost { now, squad, store: &self.store, key: &self.base.key };
                return member_moves::order(host, &person, from.as_deref(), &to)
                    .map(CommandOutcome::from);
            }
            Command::Admit { person } => {
                return self.decide_waiting(now, &person, true).map(CommandOutcome::from);
            }
            Command::Refuse { person } => {
                return self.decide_waiting(now, &person, false).map(CommandOutcome::from);
            }
            Command::Volunteer { on, kbps } => {
                return self.volunteer(now, on.then_some(kbps)).map(CommandOutcome::from);
            }
            Command::Verify { device, on } => {
                return self.verify(&device, on).map(CommandOutcome::from);
            }
            Command::Profile { action, name } => {
                voice_commands = self.change_profile(action, &name)?;
            }
            command => {
                if let Command::Mute { on } | Command::Deafen { on } = command {
                    let cue = if on { Cue::Muted } else { Cue::Unmuted };
                    voice_commands.push(VoiceCommand::PlayCue(cue));
                }
                voice_commands.extend(self.view.handle_command(command));
                squad.set_availability(now, self.view.availability());
            }
        }
        self.unsettled = true;
        self.keeping.changed();
        self.keep_sound();
        let is_down = self.radio.is_down();
        if was_down && !is_down {
            // The key first: its last words are not for those who are talked to without it.
            let released = [VoiceCommand::SetTail(tail), VoiceCommand::PushToTalk(false)];
            voice_commands.splice(0..0, released);
            self.tell_voice(voice_commands.drain(..));
        } else if is_ptt {
            voice_commands.push(VoiceCommand::PushToTalk(is_down));
        }
        // The target first: what is said from now on goes there.
        if std::mem::take(&mut self.unsettled) {
            self.settle_radio(now);
        }
        self.tell_voice(voice_commands);
        let deaf = talks.then(|| self.radio.is_deaf_to_answers(&self.driver.squad)).flatten();
        Ok(CommandOutcome { deaf })
    }

    /// Lets go of keys that were to be held for so long and no longer.
    pub(super) fn release_overdue(&mut self, now: Timestamp) {
        while let Some(key) = self.radio.overdue(now) {
            let up = Command::Ptt { down: false, key, to: None, for_secs: None, tail_ms: None };
            if self.handle_command(now, up).is_err() {
                return;
            }
        }
    }

    /// Looks the flags of this run up, of a member at its start: one that names no channel, or one
    /// that is not for this member, is refused in a line.
    pub(super) fn check_flags(&mut self, now: Timestamp) -> Result<(), FlagError> {
        let (squad, store) = (&mut self.driver.squad, &self.store);
        let host = RunningHost { now, squad, store, key: &self.base.key };
        let lookup = Lookup::new(&host);
        let flags = &self.base.flags;
        for net in &flags.channels {
            lookup.to_hear(net).map_err(|error| wrong("--channel", net, error))?;
        }
        for net in &flags.talk_to {
            let to = TalkTo::nets(vec![net.clone()]);
            lookup.to_talk_to(&to).map_err(|error| wrong("--talk-to", net, error))?;
        }
        if !flags.talk_to.is_empty() {
            self.radio.say_if_deaf_to_answers();
        }
        Ok(())
    }

    /// The command with each name as it is called here, or in a line why it cannot be meant.
    fn understand(&mut self, now: Timestamp, command: Command) -> Result<Command, RequestError> {
        let (squad, store) = (&mut self.driver.squad, &self.store);
        let radio = &self.radio;
        let host = RunningHost { now, squad, store, key: &self.base.key };
        let lookup = || Lookup::new(&host);
        Ok(match command {
            Command::Ptt { for_secs: Some(secs), .. } if !(1..=HELD_SECS_MAX).contains(&secs) => {
                return Err(RequestError::HeldFor { secs, max: HELD_SECS_MAX });
            }
            Command::Ptt { tail_ms: Some(tail_ms), .. } if tail_ms > TAIL_MS_MAX => {
                return Err(RequestError::Tail { tail_ms, max: TAIL_MS_MAX });
            }
            Command::Ptt { key: Some(key), to: Some(_), .. } => {
                return Err(RequestError::KeyAndTarget(key));
            }
            Command::Ptt { to: Some(to), .. } if to.is_empty() => {
                return Err(RequestError::NobodyToTalkTo);
            }
            Command::Ptt { down, key: None, to: Some(to), for_secs, tail_ms } => {
                let key = key_of_run(&to, |key| {
                    radio.key_named(host.squad, key).is_some() && !radio.is_of_run(key)
                });
                let to = down.then(|| lookup().to_talk_to(&to)).transpose()?;
                Command::Ptt { down, key: Some(key), to, for_secs, tail_ms }
            }
            Command::Ptt { down, key: Some(name), to: None, for_secs, tail_ms } => {
                let mut to = None;
                let key = match radio.key_named(host.squad, &name) {
                    Some(key) => {
                        if down && radio.is_idle(host.squad, &key) {
                            return Err(RequestError::ReachesNobody(key));
                        }
                        key
                    }
                    None => {
                        let keys = radio.keys(host.squad).into_iter().map(|it| it.key);
                        let path = lookup().key_or_net(&name, keys.collect())?;
                        if down {
                            let net = TalkTo::nets(vec![path.clone()]);
                            to = Some(lookup().to_talk_to(&net)?);
                        }
                        path
                    }
                };
                Command::Ptt { down, key: Some(key), to, for_secs, tail_ms }
            }
            Command::Listen { net, on: true, keep } => {
                Command::Listen { net: lookup().to_hear(&net)?, on: true, keep }
            }
            Command::Listen { net, on: false, .. } => {
                // What has gone since can be given up as well.
                let net = match radio.chose(&net) {
                    true => net,
                    false => lookup().path(&net)?,
                };
                Command::Listen { net, on: false, keep: false }
            }
            Command::Master { change } if change == MasterChange::default() => {
                return Err(RequestError::NoVolumeToChange);
            }
            Command::Net { change, .. } if change == NetChange::default() => {
                return Err(RequestError::NothingToChange);
            }
            Command::Net { net, change } => Command::Net { net: lookup().to_hear(&net)?, change },
            Command::TalkTo { to, .. } if to.is_empty() => {
                return Err(RequestError::NobodyToTalkTo);
            }
            Command::TalkTo { to, keep } => Command::TalkTo { to: lookup().to_talk_to(&to)?, keep },
            Command::Key { key, to: Some(to) } => {
                if to.is_empty() {
                    return Err(RequestError::KeyWithoutTarget(key));
                }
                let key = radio.key_named(host.squad, &key).unwrap_or(key);
                Command::Key { key, to: Some(lookup().to_talk_to(&to)?) }
            }
            Command::Key { key, to: None } => {
                let keys = radio.keys(host.squad);
                let Some(known) = radio.key_named(host.squad, &key) else {
                    let known = keys.iter().map(|it| it.key.as_str());
                    return Err(unknown("key", &key, known).into());
                };
                if keys.iter().any(|it| it.key == known && it.planned) {
                    return Err(RequestError::PresetKey(known));
                }
                Command::Key { key: known, to: None }
            }
            Command::Volume { device, gain } => {
                let device = self.view.device_called(&device)?;
                Command::Volume { device: device.to_string(), gain }
            }
            other => other,
        })
    }

    /// Lets somebody in who waits at this door, or turns them away. [PROTO-4.10]
    fn decide_waiting(
        &mut self,
        now: Timestamp,
        person: &str,
        admit: bool,
    ) -> Result<(), RequestError> {
        let (squad, store) = (&mut self.driver.squad, &self.store);
        let host = RunningHost { now, squad, store, key: &self.base.key };
        hark_commands::may_admit(&host)?;
        let waiting = self.base.doorkeeper.waiting();
        let known = waiting.iter().map(|(device, view)| (*device, view.name.clone()));
        let device = hark_commands::find_waiting(person, known)?;
        if self.base.doorkeeper.decide(device, admit) {
            self.tell_waiting();
            Ok(())
        } else {
            Err(RequestError::NotWaiting(person.to_owned()))
        }
    }

    pub(super) fn command_charter(
        &mut self,
        now: Timestamp,
        request: Request,
    ) -> Result<Outcome, RequestError> {
        let (squad, store) = (&mut self.driver.squad, &self.store);
        let mut host = RunningHost { now, squad, store, key: &self.base.key };
        Ok(hark_commands::execute(&mut host, request)?)
    }

    /// Issues a ticket. A worker notes it, and then answers.
    pub(super) fn handle_ticket(
        &mut self,
        now: Timestamp,
        request: &TicketRequest,
        answer: SyncSender<Result<Ticket, RequestError>>,
    ) {
        // The caller may have gone.
        let reply = move |issued| drop(answer.try_send(issued));
        let ticket = match self.wanted_ticket(now, request) {
            Ok(ticket) => ticket,
            Err(error) => return reply(Err(error)),
        };
        let by = Some(self.base.presence.name.clone());
        let issued = TicketView::issued(ticket.invite(), by);
        self.base.publisher.publish(Event::Ticket { ticket: issued });
        let (store, unix) = (self.store.clone(), self.base.network.clock.unix());
        (self.base.network.worker)(Box::new(move || {
            let kept = store.keep_ticket(unix, ticket.invite());
            reply(kept.map(|()| ticket).map_err(RequestError::from));
        }));
    }

    fn wanted_ticket(
        &mut self,
        now: Timestamp,
        request: &TicketRequest,
    ) -> Result<Ticket, RequestError> {
        let (squad, store) = (&mut self.driver.squad, &self.store);
        let host = RunningHost { now, squad, store, key: &self.base.key };
        let own = self.base.network.swarm.own_addresses();
        let others = self.base.network.links.all();
        let others = others
            .iter()
            .map(|link| Door { device: link.device(), addresses: link.hello().addresses.to_vec() });
        let unix = self.base.network.clock.unix();
        Ok(hark_commands::issue_ticket(&host, unix, request, own, others)?)
    }
}

/// Names the key by which a target without a key is pressed, after the target's own names. So the
/// same target lets go of it, whatever those names stand for by then. A `taken` key is not meant.
fn key_of_run(to: &TalkTo, taken: impl Fn(&str) -> bool) -> String {
    let parts = to.nets.iter().chain(&to.members).chain(&to.roles);
    let mut key = format!("to {}", parts.map(String::as_str).collect::<Vec<_>>().join(", "));
    if to.priority {
        key.push('!');
    }
    while taken(&key) {
        key.push('\'');
    }
    key
}

fn wrong(flag: &'static str, value: &str, error: CommandError) -> FlagError {
    FlagError { flag, value: value.to_owned(), error }
}

/// The longest that a key is held for whoever names a time.
const HELD_SECS_MAX: u32 = 3600;

/// The longest that a microphone stays open after a key.
const TAIL_MS_MAX: u16 = 1000;
