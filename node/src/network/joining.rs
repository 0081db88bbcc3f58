//! A newcomer's way in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use hark_keys::{DeviceId, Door, Ticket, Timestamp, device_words};
use hark_mesh::{AddressKind, Dial, Way, datagram::Knock, hello::Refusal};

use super::{Input, KeepAdmitted, StartVoice, TellJoining, base::Base, working::Working};
use crate::{driver::Happened, link::LinkEvent, snapshot::Command, swarm::News};

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
    pub(super) async fn run(mut self) -> anyhow::Result<Joined> {
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
                        return Ok(Joined::Admitted(Box::new(self.begin(event)?)));
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
    fn begin(self, first: LinkEvent) -> anyhow::Result<Working> {
        let admitted = self.base.doorkeeper.take_admitted();
        let admitted = admitted.expect("a newcomer's first link comes by its admission");
        let (store, now) = ((self.keep)(&admitted)?, self.base.now());
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
            Input::Command(_, told) => drop(told.try_send(Err(STARTING.to_owned()))),
            Input::Charter(_, answer) => drop(answer.try_send(Err(STARTING.to_owned()))),
            Input::Ticket(_, answer) => drop(answer.try_send(Err(STARTING.to_owned()))),
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
    fn try_on(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let doorkeeper = &self.base.doorkeeper;
        let refusal = doorkeeper.last_refusal();
        // Somebody at a door is asked: that takes as long as it takes.
        let waits = doorkeeper.waits();
        self.since = self.since.max(waits.unwrap_or(self.since));
        if let Some(refusal) = refusal
            && is_final(refusal)
        {
            match refusal {
                Refusal::TurnedAway => anyhow::bail!(turned_away(&self.ticket)),
                refusal => anyhow::bail!("{refusal}"),
            }
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
            for line in progress.lines(&self.ticket) {
                if self.report.told.insert(line.clone()) {
                    tell(&line);
                }
            }
        }
        let patience = if refusal.is_some() { JOIN_REFUSED_TIMEOUT } else { JOIN_TIMEOUT };
        if now >= self.since + patience {
            let name = &self.ticket.name;
            match refusal.or(doorkeeper.last_hint()) {
                Some(refusal) => anyhow::bail!("{refusal}"),
                None if hides => anyhow::bail!(
                    "nobody of {name:?} answers by the ticket's relays: are a relay and one of its \
                     members running?"
                ),
                None if doorkeeper.has_met_unnamed() => anyhow::bail!(
                    "none of the devices that this ticket of {name:?} names answers, only others \
                     do: ask one of the members who run now for a ticket"
                ),
                None => anyhow::bail!(
                    "nobody of {name:?} answers whom this ticket names: is {} running, and \
                     reachable from here? A ticket of another member, who is there now, leads \
                     elsewhere; `hark talk --peer ADDR:PORT` tries one more address",
                    Some(&*self.ticket.issued_by)
                        .filter(|it| !it.is_empty())
                        .unwrap_or("its owner")
                ),
            }
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

/// The lines that a waiting newcomer is shown, each once.
struct Report {
    tell: Option<TellJoining>,
    told: BTreeSet<String>,
}

/// How far a newcomer has come.
struct Progress<'a> {
    waited: Duration,
    hides: bool,
    peers: &'a [SocketAddr],
    discovered: &'a BTreeMap<DeviceId, Vec<SocketAddr>>,
    /// A relay of the ticket has answered.
    led: bool,
    /// What somebody has answered who does not let it in.
    answer: Option<Refusal>,
    met_unnamed: bool,
    /// Somebody is asked to let it in, and sees it by this name and these words.
    waits_as: Option<(String, [&'static str; 6])>,
}

impl Progress<'_> {
    /// All that is to be said of it, for a person; what was said before is not said again.
    fn lines(&self, ticket: &Ticket) -> Vec<String> {
        let mut lines = Vec::new();
        let doors = ticket.doors.iter().filter(|_| !self.hides);
        lines.extend(doors.clone().map(|door| match door.addresses.as_slice() {
            [] => format!(
                "the ticket has no address of {}: looking for it on this network",
                who(ticket, door.device)
            ),
            some => format!("trying {} at {} …", who(ticket, door.device), listed(some)),
        }));
        lines.extend(ticket.relays.iter().map(|relay| {
            format!("trying the relay …{} at {} …", relay.device.short(), listed(&relay.addresses))
        }));
        if !self.hides {
            lines.extend(self.peers.iter().map(|peer| format!("trying {peer} …")));
            let named =
                ticket.doors.iter().filter_map(|door| self.discovered.get_key_value(&door.device));
            lines.extend(named.map(|(device, at)| {
                format!("{} is on this network, at {}", who(ticket, *device), listed(at))
            }));
        }
        if self.led {
            lines.push("a relay answers, and knocks at the ticket's devices".to_owned());
        }
        lines.extend(self.answer.map(|answer| format!("the answer is: {answer}")));
        if let Some((name, words)) = &self.waits_as {
            let who = who_decides(ticket);
            lines.push(format!(
                "waiting: {who} has to let you in, and sees you as {name} with the words {}",
                words.join(" ")
            ));
        }
        let silent = self.answer.is_none() && self.waits_as.is_none() && !self.led;
        if self.met_unnamed && silent {
            lines.push("somebody answers whom the ticket does not name".to_owned());
        } else if silent && self.waited >= SILENCE_TOLD_AFTER {
            let mut places = doors.flat_map(|door| &door.addresses);
            let near = |it: &SocketAddr| AddressKind::of(it.ip()) != AddressKind::Public;
            let hint = if ticket.relays.is_empty() && places.all(near) {
                "The ticket leads there from the same network alone: for other places one is \
                 needed that `hark invite` prints while `hark talk` runs there"
            } else {
                "Does a firewall keep UDP out? `hark doctor` looks from this side"
            };
            lines.push(format!(
                "nobody answers after {} s: does `hark talk` run there? {hint}. Trying on until {} s",
                SILENCE_TOLD_AFTER.as_secs(),
                JOIN_TIMEOUT.as_secs()
            ));
        }
        lines
    }
}

/// Who lets newcomers in by hand, as far as the ticket says.
fn who_decides(ticket: &Ticket) -> String {
    match ticket.issued_by.as_str() {
        "" => "somebody there".to_owned(),
        name => format!("{name}, or another who may,"),
    }
}

/// What somebody is told whom a person at a door does not let in.
fn turned_away(ticket: &Ticket) -> String {
    let (who, name) = (who_decides(ticket), &ticket.name);
    format!(
        "{who} has turned you away from {name}: talk to them, so that they know you by your words \
         (`hark id`), and ask for a new ticket"
    )
}

/// Whose device it is, as far as the ticket says.
fn who(ticket: &Ticket, device: DeviceId) -> String {
    let name = ticket.issued_by.as_str();
    // A device without a name calls itself so.
    let named = !name.is_empty() && !name.starts_with("device-");
    if device == ticket.invite().issuer && named {
        format!("{name}'s device")
    } else {
        format!("the device …{}", device.short())
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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

/// What a command is answered before the node knows its organisation.
const STARTING: &str = "the node is starting: ask again in a moment";

/// A newcomer knocks this often, and gives up after that long.
const JOIN_RETRY: Duration = Duration::from_secs(1);
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What can be reached directly is, so relays are used this much later.
const LED_AFTER: Duration = Duration::from_millis(300);

/// One that was refused at a door of its ticket gives the other doors this long.
const JOIN_REFUSED_TIMEOUT: Duration = Duration::from_secs(5);

/// A person who waits is told by then what may be wrong.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, OrganisationId, SeededRandom, Terms, UnixTime};

    use super::*;

    fn ticket(addresses: &[&str], relays: &[&str]) -> Ticket {
        let key = DeviceKey::from_secret(&[1; 32]);
        let at = |texts: &[&str]| texts.iter().map(|it| it.parse().expect("an address")).collect();
        let doors = vec![Door { device: key.id(), addresses: at(addresses) }];
        let terms = Terms::until(UnixTime::from_secs(9));
        let (organisation, random) = (OrganisationId::from_bytes([9; 32]), SeededRandom::new(1));
        let ticket = Ticket::issue(&key, organisation, "Squad", terms, doors, &random);
        let relay = DeviceKey::from_secret(&[2; 32]).id();
        let relays = relays.iter().map(|it| Door { device: relay, addresses: at(&[it]) });
        ticket.led_by(relays).issued_by("Sable")
    }

    fn told(ticket: &Ticket, seconds: u64, answer: Option<Refusal>) -> String {
        let progress = Progress {
            waited: Duration::from_secs(seconds),
            hides: false,
            peers: &[],
            discovered: &BTreeMap::new(),
            led: false,
            answer,
            met_unnamed: false,
            waits_as: None,
        };
        progress.lines(ticket).join("\n")
    }

    #[test]
    fn a_device_without_a_name_was_called_the_device_of_a_device() {
        let nameless = ticket(&["192.0.2.1:7300"], &[]).issued_by("device-x7k2p9");
        let told = told(&nameless, 0, None);
        assert!(told.starts_with("trying the device …"), "{told}");
        assert!(!told.contains("device-"), "{told}");
    }

    /// `you were not let in` said neither by whom nor what to do.
    #[test]
    fn who_was_turned_away_was_not_told_by_whom() {
        let ticket = ticket(&["192.0.2.1:7300"], &[]);
        let told = turned_away(&ticket);
        assert!(
            told.starts_with("Sable, or another who may, has turned you away from Squad: talk")
        );
        let told = turned_away(&ticket.issued_by(""));
        assert!(told.starts_with("somebody there has turned you away from Squad: talk"), "{told}");
    }

    #[test]
    fn joining_was_silent_for_twenty_seconds() {
        let outside = ticket(&["192.0.2.1:7300"], &["192.0.2.9:7301"]);
        let at_once = told(&outside, 0, None);
        assert!(at_once.contains("trying Sable's device at 192.0.2.1:7300 …"), "{at_once}");
        assert!(at_once.contains(" at 192.0.2.9:7301 …"), "{at_once}");
        assert!(!at_once.contains("nobody answers"), "{at_once}");
        let later = told(&outside, 5, None);
        assert!(
            later.contains("nobody answers after 5 s") && later.contains("firewall"),
            "{later}"
        );
        // Whoever answers is not silent.
        let answered = told(&outside, 5, Some(Refusal::TicketUsedUp));
        assert!(answered.contains("the answer is: ") && !answered.contains("nobody"), "{answered}");

        let inside = told(&ticket(&["192.168.1.5:7300"], &[]), 5, None);
        assert!(inside.contains("from the same network alone"), "{inside}");
        let nowhere = told(&ticket(&[], &[]), 0, None);
        assert!(nowhere.contains("no address of Sable's device"), "{nowhere}");
    }
}
