//! A member's node at work.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use hark_charter::Charter;
use hark_commands::{CommandError, HostError, Outcome, Request};
use hark_keys::{DeviceId, Invite, TargetId, Timestamp};
use hark_mesh::{
    Directory,
    hello::{Presence, Refusal},
    squad::SquadConfig,
};
use hark_voice::{CodingSettings, Cue, VoiceCommand, VoiceEvent, WaitLimits};

use super::{
    Input, Persisted, StartVoice, VoiceControl, base::Base, checks, people::Verified,
    profile_store::PendingWrite, radio::Radio, router::Router, view::View,
};
use crate::{
    driver::{Driver, DriverConfig, Happened},
    error::NodeError,
    event::{Event, Notice},
    link::{Link, LinkEvent},
    request::RequestError,
    snapshot::{Command, VoiceChange},
    store::OrganisationStore,
    swarm::News,
};

/// A node in an organisation that its device belongs to.
pub(super) struct Working {
    pub(super) base: Base,
    pub(super) driver: Driver,
    pub(super) store: OrganisationStore,
    pub(super) voice: Box<dyn VoiceControl>,
    pub(super) radio: Radio,
    /// What was set of our voice since the node started.
    pub(super) voice_set: Option<(CodingSettings, WaitLimits)>,
    pub(super) keeping: PendingWrite,
    /// What is heard and talked to has to be looked at again.
    pub(super) unsettled: bool,
    pub(super) generations: BTreeMap<TargetId, u16>,
    /// The charter of the last comparison that told what has changed for members.
    pub(super) compared: Arc<Charter>,
    /// This device has come in by a ticket a moment ago.
    pub(super) newcomer: Option<Newcomer>,
    /// Answers that wait until the charter that they speak of is on disk and in force.
    answers: Vec<PendingAnswer>,
    /// Another charter is in force than when those were looked at.
    pub(super) charter_changed: bool,
    /// This device does not belong any more.
    pub(super) removed: bool,
    /// The last answers of peers that refused this device.
    pub(super) refusals: BTreeMap<DeviceId, Refusal>,
    /// The last refusal by somebody who is nobody of the organisation, until it is clear whether
    /// the person has asked for that connection.
    pub(super) stranger: Option<(DeviceId, Refusal)>,
    /// Revoked tickets that were tried here, and when the person was told.
    pub(super) tried: BTreeMap<DeviceId, Timestamp>,
    pub(super) view: View,
    /// When `ready` is told, whatever addresses are still to come; `None` once it was told.
    pub(super) ready_at: Option<Timestamp>,
    port: Option<u16>,
}

/// Where the answer to a command that concerns the charter goes.
type CharterAnswer = SyncSender<Result<Outcome, RequestError>>;

/// The answer to a command that concerns the charter.
struct PendingAnswer {
    answer: CharterAnswer,
    outcome: Result<Outcome, RequestError>,
    /// When it is given, whatever the disk does.
    answers_by: Timestamp,
}

/// A device that has just been admitted.
pub(super) struct Newcomer {
    /// The ticket that it came by.
    pub(super) invite: Invite,
    /// When its flags are held against the charter, if they are.
    check_flags_at: Option<Timestamp>,
    /// When it has heard what has long been so, which is no news.
    caught_up_at: Timestamp,
}

impl Working {
    /// Goes to work in an organisation that this device belongs to.
    pub(super) fn begin(
        now: Timestamp,
        base: Base,
        store: OrganisationStore,
        start_voice: StartVoice,
    ) -> Result<Self, NodeError> {
        let charter = Arc::clone(store.charter());
        let generations = store.generations()?;
        let squad = SquadConfig {
            key: Arc::clone(&base.key),
            member: Some(store.member()),
            relay_only: base.relay_only,
            presence: Presence {
                addresses: base.network.swarm.own_addresses(),
                ..base.presence.clone()
            },
            directory: Directory::restore(&charter, &store.members()?),
            generations: generations.clone(),
            names: store.names()?,
            calendar: base.network.clock.unix(),
            charter: Arc::clone(&charter),
        };
        let config =
            DriverConfig { squad, store: Arc::new(store.clone()), ask_every: Duration::ZERO };
        let mut driver = Driver::new(now, &base.network, config);
        for address in &base.peers {
            driver.squad.handle_discovered(now, None, &[*address]);
        }
        let mut view = View::new(base.key.id(), &base.presence.name, &store);
        view.verified = Verified::restore(store.verified()?);
        let flags = &base.flags;
        let mut radio = Radio::new(&flags.channels, &flags.talk_to, base.transmit);
        let keeping = Self::restore_profiles(&base, &store, &driver.squad, &mut radio, &mut view)?;
        let voice = start_voice(&store, &base.network.links, base.input_sender.clone())?;
        voice.command(VoiceCommand::SignWith(Arc::clone(&base.key)));
        base.sound.commands().into_iter().for_each(|command| voice.command(command));
        driver.squad.volunteer(now, store.volunteers());
        let working = Self {
            driver,
            port: store.port(),
            store,
            voice,
            radio,
            keeping,
            unsettled: true,
            voice_set: None,
            generations,
            compared: charter,
            newcomer: None,
            answers: Vec::new(),
            charter_changed: false,
            removed: false,
            refusals: BTreeMap::new(),
            stranger: None,
            tried: BTreeMap::new(),
            view,
            // Addresses come from now on, however long the voice side took to start.
            ready_at: Some(base.now() + READY_TIMEOUT),
            base,
        };
        working.limit_relay(working.store.volunteers());
        Ok(working)
    }

    /// This device has just come in by a ticket.
    pub(super) fn welcome(&mut self, now: Timestamp, invite: Invite) {
        self.newcomer = Some(Newcomer {
            invite,
            check_flags_at: (!self.base.flags.to_come).then_some(now + FLAGS_PATIENCE),
            caught_up_at: now + CATCHES_UP_WITHIN,
        });
        // It knows its addresses since it has begun to join.
        self.ready_at = Some(now);
    }

    /// Works until told to stop, and returns why it has.
    pub(super) async fn run(mut self) -> Result<String, NodeError> {
        loop {
            let until = self.base.ticker.next();
            tokio::select! {
                biased;
                input = self.base.inputs.recv() => {
                    let Some(input) = input else { return Ok("the program has ended".to_owned()) };
                    if let Some(reason) = self.handle_input(input)? {
                        self.leave().await;
                        return Ok(reason);
                    }
                }
                happened = self.driver.next(&mut self.base.network, until) => match happened {
                    Happened::Link(event) => self.handle_link(event),
                    Happened::News(news) => self.handle_news(news),
                    Happened::Due => {}
                }
            }
            let now = self.base.now();
            if let Some(second) = self.base.ticker.tick(now) {
                self.tick(now, second);
            }
            self.driver.handle_timeout(now);
            let full = self.driver.squad.is_full();
            self.base.doorkeeper.set_full(full.then(|| self.base.network.links.devices()));
            self.weigh_refusals();
            self.add_devices(now);
            self.note_redeemed();
            self.tell_tried(now);
            self.tell_waiting();
            self.carry_out(now);
            if self.removed {
                let farewell = self.farewell();
                if self.has_retired_itself() {
                    // Nobody else says it.
                    self.base.network.swarm.finish().await;
                }
                self.leave().await;
                return Err(farewell.into());
            }
        }
    }

    fn handle_input(&mut self, input: Input) -> Result<Option<String>, NodeError> {
        let now = self.base.now();
        self.driver.catch_up(now);
        self.carry_out(now);
        match input {
            Input::Stop(reason) => return Ok(Some(reason)),
            Input::Command(Command::Quit, _) => return Ok(Some("quit".to_owned())),
            Input::Command(command, told) => {
                let done = self.handle_command(now, command);
                self.carry_out(now);
                self.show(now, false);
                // The caller may have gone.
                let _ = told.try_send(done);
            }
            Input::Voice(event) => self.handle_voice(now, event),
            Input::Publish(event) => self.base.publisher.publish(event),
            Input::Trouble(end, trouble) => self.view.set_trouble(end, trouble),
            Input::Microphone(name) => {
                let command = self.base.sound.set_microphone(&name);
                self.tell_voice([command]);
            }
            Input::Persisted(Persisted::Generation(target, generation), Ok(())) => {
                self.driver.squad.handle_persisted(now, target, generation);
            }
            // Without it no new key may be used, and the old ones would open to those who left.
            Input::Persisted(Persisted::Generation(..), Err(error)) => {
                return Err(NodeError::KeyNumber(error));
            }
            Input::Persisted(Persisted::Profiles, kept) => self.handle_profiles_kept(kept),
            Input::Persisted(Persisted::Sound, kept) => self.base.sound.handle_kept(kept),
            Input::Persisted(Persisted::Verified, Ok(())) => {}
            Input::Persisted(Persisted::Verified, Err(error)) => {
                tracing::error!(%error, "who is verified is not kept");
                self.view.forgetful = Some(format!("who is verified is not kept: {error}"));
            }
            Input::Charter(request, answer) => {
                self.handle_charter(now, request, answer);
            }
            Input::Standings(changes) => self.tell_standings(&changes),
            Input::Found(found) => {
                // Names lead to these addresses. [PROTO-5.8]
                for found in found {
                    self.driver.squad.handle_discovered(now, found.device, &[found.address]);
                }
            }
            Input::Router(report) => {
                self.base.handle_router(report, Some(&mut self.driver.squad));
            }
            Input::Checked(nonce) => self.driver.squad.handle_checked(now, nonce),
            Input::Ticket(request, answer) => self.handle_ticket(now, &request, answer),
        }
        Ok(None)
    }

    fn handle_voice(&mut self, now: Timestamp, event: VoiceEvent) {
        let squad = &mut self.driver.squad;
        match event {
            VoiceEvent::KeyUsed { target } => squad.handle_talked(now, target),
            VoiceEvent::RelaySilent { relay } => squad.handle_relay_silent(now, relay),
            VoiceEvent::RelayFails { relay, listener, for_good } => {
                squad.handle_relay_fails(now, relay, listener, for_good);
            }
            VoiceEvent::RelayForges { relay, talker } => {
                self.base.publisher.publish(self.view.relay_forges(relay, talker));
            }
            VoiceEvent::RelayUnproven { relay, talker } => {
                squad.handle_relay_unproven(now, relay, talker);
            }
            event => {
                match event {
                    VoiceEvent::OwnTalkStarted { .. } => self.radio.handle_talkspurt_started(),
                    VoiceEvent::OwnTalkEnded => {
                        self.radio.handle_talkspurt_ended();
                        self.unsettled = true;
                    }
                    _ => {}
                }
                if let Some(event) = self.view.handle_voice(squad, event) {
                    self.base.publisher.publish(event);
                }
            }
        }
    }

    pub(super) fn handle_link(&mut self, event: LinkEvent) {
        let now = self.base.now();
        self.driver.handle_link(now, &self.base.network, &event);
        match event {
            LinkEvent::Up(link) => {
                let links = &self.base.network.links;
                self.view.link_up(&link, links);
                let (device, member) = (link.device(), link.hello().member);
                if let Some(best) = links.best(device) {
                    self.show_path(&best);
                }
                let promised = self.base.doorkeeper.take_promised(device);
                if let (Some(promised), Some(member)) = (promised, member) {
                    self.give(now, member, &link.hello().name, promised);
                }
            }
            LinkEvent::Changed(link) => self.show_path(&link),
            // A member is a door itself.
            LinkEvent::Down(..) | LinkEvent::Visit(_) | LinkEvent::VisitEnded(_) => {}
        }
    }

    /// Somebody wants something of the charter. What this device signs as a root key is on disk
    /// before it is signed: a worker writes it, and asks again. [CHARTER-2.4]
    fn handle_charter(&mut self, now: Timestamp, request: Box<Request>, answer: CharterAnswer) {
        let outcome = self.command_charter(now, Request::clone(&request));
        if let Err(RequestError::Command(CommandError::Host(HostError::Unkept {
            version,
            document,
        }))) = outcome
        {
            let (store, inputs) = (self.store.clone(), self.base.input_sender.clone());
            (self.base.network.worker)(Box::new(move || {
                // The node or the caller may have gone.
                let _ = match store.keep_root_signed(version, document) {
                    Ok(()) => inputs.send(Input::Charter(request, answer)).is_ok(),
                    Err(error) => answer.try_send(Err(error.into())).is_ok(),
                };
            }));
            return;
        }
        self.carry_out(now);
        let answers_by = now + DISK_PATIENCE;
        self.answers.push(PendingAnswer { answer, outcome, answers_by });
        self.answer_kept(now);
    }

    /// Answers those who edited the charter, once it is in force with all that they have done: what
    /// is said to be done has effect.
    pub(super) fn answer_kept(&mut self, now: Timestamp) {
        if self.answers.is_empty() {
            return;
        }
        let squad = &self.driver.squad;
        let is_kept = squad.charter().digest() == squad.charter_taken().digest();
        self.answers.retain_mut(|PendingAnswer { answer, outcome, answers_by }| {
            if !is_kept && outcome.is_ok() && now < *answers_by {
                return true;
            }
            let outcome = std::mem::replace(outcome, Err(RequestError::Unwritten));
            // The caller may have gone.
            let _ = answer.try_send(match is_kept {
                true => outcome,
                false => outcome.and(Err(RequestError::Unwritten)),
            });
            false
        });
    }

    /// Packets of a linked member come by this link.
    fn show_path(&mut self, link: &Link) {
        if let Some(event) = self.view.link_used(link, &self.base.network.links) {
            if matches!(event, Event::PeerUp { .. }) {
                self.tell_voice([VoiceCommand::PlayCue(Cue::Joined)]);
            }
            self.base.publisher.publish(event);
        }
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Addresses { new } => {
                if new {
                    let settled = self.base.now() + ADDRESSES_SETTLE;
                    self.ready_at = self.ready_at.map(|at| at.min(settled));
                }
                self.base.handle_addresses();
            }
            News::Refused(refusal) => self.handle_refused(refusal),
            // The squad was told of those on the LAN.
            News::Discovered(_) | News::Nothing => {}
        }
    }

    /// Ten times a second; `second` once a second.
    fn tick(&mut self, now: Timestamp, second: bool) {
        if self.ready_at.take_if(|at| now >= *at).is_some() {
            for event in self.view.ready(self.base.network.swarm.own_addresses()) {
                self.base.publisher.publish(event);
            }
        }
        let links = self.driver.tick(now, &self.base.network, true);
        // A peer's address, and which of its links is silent, change without an event.
        links.iter().for_each(|link| self.show_path(link));
        self.release_overdue(now);
        self.look_after_newcomer(now);
        self.keep_profiles(second);
        if second {
            // What the disk refused is tried again.
            self.keep_sound();
        }
        self.answer_kept(now);
        self.show(now, second);
        if second {
            self.base.network.relay.renew_outlets(&self.base.network.links);
            self.driver.keep_members(&self.base.network);
            self.keep_port();
            links.iter().for_each(|link| link.nudge());
        }
    }

    fn look_after_newcomer(&mut self, now: Timestamp) {
        let Some(newcomer) = &mut self.newcomer else { return };
        let checks_flags = newcomer.check_flags_at.take_if(|at| now >= *at).is_some();
        if let Some(newcomer) = self.newcomer.take_if(|it| now >= it.caught_up_at) {
            self.miss_role(&newcomer.invite);
        }
        if checks_flags && let Err(error) = self.check_flags(now) {
            // A wrong flag makes nobody deaf, and sends nothing to others than those who were
            // meant.
            self.radio.drop_flags();
            self.unsettled = true;
            self.base.publisher.notify(Notice::Flag(error.to_string()));
        }
    }

    /// Others remember the port of the last run, and routers may be set to it.
    fn keep_port(&mut self) {
        let port = self.base.network.swarm.listen_addresses().first().map(SocketAddr::port);
        if self.port == port {
            return;
        }
        self.port = port;
        let store = self.store.clone();
        (self.base.network.worker)(Box::new(move || {
            if let Err(error) = store.keep_port(port) {
                tracing::warn!(%error, "the port is not remembered");
            }
        }));
    }

    /// Publishes the state and, each second, the statistics.
    pub(super) fn show(&mut self, now: Timestamp, second: bool) {
        let (links, statistics) = (self.base.network.links.all(), self.voice.statistics());
        let squad = &self.driver.squad;
        let mut snapshot = self.view.snapshot(now, squad, &self.radio, &links, &statistics, second);
        snapshot.checked = checks::views(now, squad);
        if let Some((set, wait)) = self.voice_set {
            snapshot.coding.set = VoiceChange::of(set, wait);
        }
        self.base.sound.show(&mut snapshot.processing);
        (snapshot.cues, snapshot.side_tone) = (self.base.sound.cues(), self.base.sound.side_tone());
        snapshot.trouble = match (snapshot.trouble, self.base.sound.trouble()) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        let waiting = self.base.doorkeeper.waiting();
        snapshot.waiting = waiting.into_iter().map(|(_, view)| view).collect();
        snapshot.router = self.base.router.as_ref().map(Router::report);
        if second {
            self.base.publisher.publish(self.view.stats_event(&snapshot));
        }
        snapshot.peers.retain(|peer| !peer.former);
        snapshot.front = self.base.publisher.is_in_front();
        if let Some(event) = self.view.self_changed(&snapshot) {
            self.base.publisher.publish(event);
        }
        self.base.publisher.set_snapshot(snapshot);
    }

    /// Says goodbye, and ends when all that is to be kept is on disk.
    async fn leave(mut self) {
        // Our voice goes elsewhere, where there is another organisation.
        let target = None;
        self.tell_voice([
            VoiceCommand::PushToTalk(false),
            VoiceCommand::SelectTarget { target, keyed: false },
        ]);
        self.keep_last_profiles();
        self.keep_sound();
        self.base.leave(Some(self.driver)).await;
    }
}

/// How long an answer waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// How long `ready` waits for the first address.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// Addresses of several interfaces come one by one; `ready` waits this long after one.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(50);

/// A newcomer has the whole charter by then: those who let it in send what it lacks at once.
const FLAGS_PATIENCE: Duration = Duration::from_secs(2);

/// After this a newcomer is told what the charter changes for members as others are.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(5);
