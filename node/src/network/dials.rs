//! A newcomer's way in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use hark_keys::{DeviceId, Door, Ticket, Timestamp, device_words};
use hark_mesh::{AddressKind, Dial, Way, datagram::Knock, hello::Refusal};

use super::{Runner, TellJoining};

impl Runner {
    /// Knocks at the doors of the ticket until one opens.
    pub(super) fn join(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some(joining) = &mut self.joining else { return Ok(()) };
        let refusal = self.config.doorkeeper.last_refusal();
        // Somebody at a door is asked: that takes as long as it takes.
        let waits = self.config.doorkeeper.waits();
        joining.since = joining.since.max(waits.unwrap_or(joining.since));
        let own = || (self.config.presence.name.clone(), device_words(self.config.key.id()));
        if let Some(refusal) = refusal
            && is_final(refusal)
        {
            match refusal {
                Refusal::TurnedAway => anyhow::bail!(turned_away(&joining.ticket)),
                refusal => anyhow::bail!("{refusal}"),
            }
        }
        let hides = self.config.relay_only;
        if let Some(tell) = &joining.report.tell {
            let doorkeeper = &self.config.doorkeeper;
            let progress = Progress {
                waited: now.saturating_duration_since(joining.since),
                hides,
                peers: &self.config.peers,
                discovered: &joining.discovered,
                led: !self.links.visited().is_empty(),
                answer: refusal.or(doorkeeper.last_hint()),
                met_unnamed: doorkeeper.has_met_unnamed(),
                waits_as: waits.map(|_| own()),
            };
            for line in progress.lines(&joining.ticket) {
                if joining.report.told.insert(line.clone()) {
                    tell(&line);
                }
            }
        }
        let patience = if refusal.is_some() { JOIN_REFUSED_TIMEOUT } else { JOIN_TIMEOUT };
        if now >= joining.since + patience {
            match refusal.or(self.config.doorkeeper.last_hint()) {
                Some(refusal) => anyhow::bail!("{refusal}"),
                None if hides => anyhow::bail!(
                    "nobody of {:?} answers by the ticket's relays: are a relay and one of its \
                     members running?",
                    joining.ticket.name
                ),
                None if self.config.doorkeeper.has_met_unnamed() => anyhow::bail!(
                    "none of the devices that this ticket of {:?} names answers, only others do: \
                     ask one of the members who run now for a ticket",
                    joining.ticket.name
                ),
                None => anyhow::bail!(
                    "nobody of {:?} answers whom this ticket names: is {} running, and reachable \
                     from here? A ticket of another member, who is there now, leads elsewhere; \
                     `hark talk --peer ADDR:PORT` tries one more address",
                    joining.ticket.name,
                    Some(&*joining.ticket.issued_by)
                        .filter(|it| !it.is_empty())
                        .unwrap_or("its owner")
                ),
            }
        }
        if hides || now >= joining.since + LED_AFTER {
            self.knock(now);
        }
        let Some(joining) = &mut self.joining else { return Ok(()) };
        if now < joining.next_dial {
            return Ok(());
        }
        joining.next_dial = now + JOIN_RETRY;
        let place = |place: &Door| (Some(place.device), place.addresses.clone());
        let mut dials: Vec<_> = joining.ticket.relays.iter().map(place).collect();
        // Whoever hides from members comes to them by relays alone.
        if !hides {
            dials.extend(joining.ticket.doors.iter().map(place));
            dials.extend(self.config.peers.iter().map(|address| (None, vec![*address])));
            let found = joining.discovered.iter();
            let found = found.filter(|(device, _)| self.config.doorkeeper.is_named(**device));
            dials.extend(found.map(|(device, addresses)| (Some(*device), addresses.clone())));
        }
        let visited = self.links.visited();
        dials.retain(|(device, _)| device.is_none_or(|device| !visited.contains(&device)));
        for (device, addresses) in dials {
            self.wires.dial(now, Dial { device, addresses, way: Way::Direct }, None);
        }
        Ok(())
    }

    /// Knocks at the ticket's doors by the relays that lead there, and dials those that have heard
    /// it. [PROTO-3.10] [PROTO-3.21]
    fn knock(&mut self, now: Timestamp) {
        let Some(joining) = &self.joining else { return };
        let relays = self.links.visited();
        let doors: Vec<_> = joining.ticket.doors.iter().map(|door| door.device).collect();
        for device in doors {
            if self.links.tunnels().relay_to(device).is_some() {
                let dial = Dial { device: Some(device), addresses: Vec::new(), way: Way::Relay };
                self.wires.dial(now, dial, None);
                continue;
            }
            for relay in &relays {
                let mut knock = Vec::new();
                Knock { slot: None, device }.encode(&mut knock);
                self.links.push(*relay, knock.into());
            }
        }
        self.links.flush();
    }
}

/// What a person who waits at the door is told, and was told.
pub(super) struct Report {
    tell: Option<TellJoining>,
    told: BTreeSet<String>,
}

impl Report {
    pub(super) fn new(tell: Option<TellJoining>) -> Self {
        Self { tell, told: BTreeSet::new() }
    }
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
