//! A newcomer's way in.

mod news;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use hark_keys::{DeviceId, Door, Ticket, Timestamp, device_words};
use hark_mesh::{Dial, Way, datagram::Knock, hello::Refusal};

pub use self::news::{JoinError, JoiningNews, TicketDevice};
use tokio::sync::oneshot;

use self::news::{Progress, issuer};
use super::{Input, KeepAdmitted, StartVoice, TellJoining, base::Base, working::Working};
use crate::{
    driver::Happened, error::NodeError, link::LinkEvent, request::RequestError, snapshot::Command,
    swarm::News,
};

/// A newcomer on its way in: no squad yet, and a ticket.
pub(super) struct Joining {
    base: Base,
    ticket: Ticket,
    keep: KeepAdmitted,
    start_voice: StartVoice,
    next_dial: Timestamp,
    since: Timestamp,
    discovered: BTreeMap<DeviceId, Vec<SocketAddr>>,
    report: Report,
}

/// How a newcomer's attempt has ended.
pub(super) enum Joined {
    /// A member has let it in.
    Admitted(Box<Working>),
    /// The person has given up, for this reason.
    Stopped(String),
}

impl Joining {
    pub(super) fn new(
        base: Base,
        ticket: Ticket,
        keep: KeepAdmitted,
        tell: Option<TellJoining>,
        start_voice: StartVoice,
    ) -> Self {
        let now = base.now();
        Self {
            base,
            ticket,
            keep,
            start_voice,
            next_dial: now,
            since: now,
            discovered: BTreeMap::new(),
            report: Report { tell, told: BTreeSet::new() },
        }
    }

    /// Tries until a member admits this device, or nobody does.
    pub(super) async fn run(mut self) -> Result<Joined, NodeError> {
        loop {
            let until = self.base.ticker.next();
            tokio::select! {
                biased;
                input = self.base.inputs.recv() => {
                    let stop = match input {
                        Some(input) => self.handle_input(input),
                        None => Some("the program has ended".to_owned()),
                    };
                    if let Some(reason) = stop {
                        self.base.leave(None).await;
                        return Ok(Joined::Stopped(reason));
                    }
                }
                happened = self.base.network.next(None, until) => match happened {
                    Happened::Link(event @ LinkEvent::Up(_)) => {
                        return Ok(Joined::Admitted(Box::new(self.begin(event).await?)));
                    }
                    Happened::News(News::Addresses { .. }) => self.base.handle_addresses(),
                    Happened::News(News::Discovered(found)) => self.handle_discovered(found),
                    Happened::Link(_) | Happened::News(_) | Happened::Due => {}
                }
            }
            let now = self.base.now();
            if self.base.ticker.tick(now).is_some() {
                self.try_on(now)?;
            }
        }
    }

    /// Goes to work: the first link of a newcomer comes by its admission.
    async fn begin(self, first: LinkEvent) -> Result<Working, NodeError> {
        let admitted = self.base.doorkeeper.take_admitted();
        let admitted = admitted.expect("a newcomer's first link comes by its admission");
        let (told, kept) = oneshot::channel();
        let keep = self.keep;
        // The node may have ended meanwhile.
        (self.base.network.worker)(Box::new(move || drop(told.send(keep(&admitted)))));
        let store = kept.await.map_err(|_| NodeError::Panicked)??;
        let now = self.base.now();
        let mut working = Working::begin(now, self.base, store, self.start_voice)?;
        working.welcome(now, self.ticket.invite().clone());
        for (device, addresses) in &self.discovered {
            working.driver.squad.handle_discovered(now, Some(*device), addresses);
        }
        working.handle_link(first);
        Ok(working)
    }

    /// Returns why to stop, if a person wants it.
    fn handle_input(&mut self, input: Input) -> Option<String> {
        // Those who ask may have gone.
        match input {
            Input::Stop(reason) => return Some(reason),
            Input::Command(Command::Quit, _) => return Some("quit".to_owned()),
            Input::Command(_, told) => drop(told.try_send(Err(RequestError::Starting))),
            Input::Charter(_, answer) => drop(answer.try_send(Err(RequestError::Starting))),
            Input::Ticket(_, answer) => drop(answer.try_send(Err(RequestError::Starting))),
            Input::Publish(event) => self.base.publisher.publish(event),
            Input::Router(report) => self.base.handle_router(report, None),
            Input::Found(found) => {
                for found in found {
                    // Any device may answer there, and the ticket says which is believed.
                    if !self.base.peers.contains(&found.address) {
                        self.base.peers.push(found.address);
                        self.next_dial = self.base.now();
                    }
                }
            }
            // Of a voice side, a store and a squad, which come later.
            Input::Voice(_)
            | Input::Trouble(..)
            | Input::Microphone(_)
            | Input::Persisted(..)
            | Input::Standings(_)
            | Input::Checked(_) => {}
        }
        None
    }

    fn handle_discovered(&mut self, found: BTreeMap<DeviceId, Vec<SocketAddr>>) {
        for (device, addresses) in found {
            let is_named = self.base.doorkeeper.is_named(device);
            if is_named || self.discovered.len() < DISCOVERED_LIMIT {
                self.discovered.insert(device, addresses);
                self.next_dial = self.base.now();
            }
        }
    }

    /// Knocks at the doors of the ticket once more, or gives up.
    fn try_on(&mut self, now: Timestamp) -> Result<(), JoinError> {
        let doorkeeper = &self.base.doorkeeper;
        let refusal = doorkeeper.last_refusal();
        // Somebody at a door is asked: that takes as long as it takes.
        let waits = doorkeeper.waits();
        self.since = self.since.max(waits.unwrap_or(self.since));
        if let Some(refusal) = refusal
            && is_final(refusal)
        {
            return Err(JoinError::refused(&self.ticket, refusal));
        }
        let hides = self.base.relay_only;
        let own = || (self.base.presence.name.clone(), device_words(self.base.key.id()));
        if let Some(tell) = &self.report.tell {
            let progress = Progress {
                waited: now.saturating_duration_since(self.since),
                hides,
                peers: &self.base.peers,
                discovered: &self.discovered,
                led: !self.base.network.links.visited().is_empty(),
                answer: refusal.or(doorkeeper.last_hint()),
                met_unnamed: doorkeeper.has_met_unnamed(),
                waits_as: waits.map(|_| own()),
            };
            for news in progress.news(&self.ticket) {
                if self.report.told.insert(news.clone()) {
                    tell(&news);
                }
            }
        }
        let patience = if refusal.is_some() { JOIN_REFUSED_TIMEOUT } else { JOIN_TIMEOUT };
        if now >= self.since + patience {
            let organisation = self.ticket.name.to_string();
            return Err(match refusal.or(doorkeeper.last_hint()) {
                Some(refusal) => JoinError::Refused(refusal),
                None if hides => JoinError::RelaysSilent(organisation),
                None if doorkeeper.has_met_unnamed() => JoinError::OnlyOthers(organisation),
                None => JoinError::Silence { organisation, issuer: issuer(&self.ticket) },
            });
        }
        if hides || now >= self.since + LED_AFTER {
            self.knock(now);
        }
        if now >= self.next_dial {
            self.next_dial = now + JOIN_RETRY;
            self.dial(now);
        }
        Ok(())
    }

    /// Dials all that the ticket, the person and the LAN name, but who is linked already.
    fn dial(&mut self, now: Timestamp) {
        let place = |place: &Door| (Some(place.device), place.addresses.clone());
        let mut dials: Vec<_> = self.ticket.relays.iter().map(place).collect();
        // A device that hides from members comes to them by relays alone.
        if !self.base.relay_only {
            dials.extend(self.ticket.doors.iter().map(place));
            dials.extend(self.base.peers.iter().map(|address| (None, vec![*address])));
            let found = self.discovered.iter();
            let found = found.filter(|(device, _)| self.base.doorkeeper.is_named(**device));
            dials.extend(found.map(|(device, addresses)| (Some(*device), addresses.clone())));
        }
        let visited = self.base.network.links.visited();
        dials.retain(|(device, _)| device.is_none_or(|device| !visited.contains(&device)));
        for (device, addresses) in dials {
            let dial = Dial { device, addresses, way: Way::Direct };
            self.base.network.swarm.dial(now, dial, None);
        }
    }

    /// Knocks at the ticket's doors by the relays that lead there, and dials those that have heard
    /// it. [PROTO-3.10] [PROTO-3.21]
    fn knock(&mut self, now: Timestamp) {
        let network = &mut self.base.network;
        let relays = network.links.visited();
        for door in &self.ticket.doors {
            let device = door.device;
            if network.links.tunnels().relay_to(device).is_some() {
                let dial = Dial { device: Some(device), addresses: Vec::new(), way: Way::Relay };
                network.swarm.dial(now, dial, None);
                continue;
            }
            for relay in &relays {
                let mut knock = Vec::new();
                Knock { slot: None, device }.encode(&mut knock);
                network.links.push(*relay, knock.into());
            }
        }
        network.links.flush();
    }
}

/// The news that a waiting newcomer is told, each once.
struct Report {
    tell: Option<TellJoining>,
    told: BTreeSet<JoiningNews>,
}

/// Whether another door would say the same, where one has said so that the ticket names. Not of an
/// expired ticket: by this device's clock it is
/// good, so that door's clock may be wrong.
fn is_final(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TicketUsedUp
            | Refusal::TicketInvalid
            | Refusal::TurnedAway
            | Refusal::Version
            | Refusal::Certificate
    )
}

/// Devices on the LAN that a newcomer tries; further ones are left out.
const DISCOVERED_LIMIT: usize = 64;

/// A newcomer knocks this often, and gives up after that long.
const JOIN_RETRY: Duration = Duration::from_secs(1);
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What can be reached directly is, so relays are used this much later.
const LED_AFTER: Duration = Duration::from_millis(300);

/// One that was refused at a door of its ticket gives the other doors this long.
const JOIN_REFUSED_TIMEOUT: Duration = Duration::from_secs(5);
