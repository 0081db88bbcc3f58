//! How far a newcomer has come, as it is told, and why it may not get in.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use hark_keys::{DeviceId, Ticket};
use hark_mesh::{AddressKind, hello::Refusal};

/// Something that a newcomer's person is told while it waits at the door.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum JoiningNews {
    /// A device of the ticket is dialled; without an address it is looked for on the LAN.
    Trying(TicketDevice, Vec<SocketAddr>),
    /// A relay of the ticket is dialled.
    TryingRelay(DeviceId, Vec<SocketAddr>),
    /// An address that the person has given is dialled.
    TryingPeer(SocketAddr),
    /// A device of the ticket was found on the LAN.
    OnThisNetwork(TicketDevice, Vec<SocketAddr>),
    /// A relay of the ticket answers.
    RelayAnswers,
    /// Somebody answers, and does not let this device in.
    Answer(String),
    /// A person has to let this device in.
    Waiting {
        /// Who issued the ticket, if it says so.
        issuer: Option<String>,
        /// What this device is called there.
        name: String,
        /// The words by which it can be told from others.
        words: [&'static str; 6],
    },
    /// A device answers that the ticket does not name.
    UnnamedAnswers,
    /// Nobody has answered for so long.
    Silence {
        /// How long nobody has answered.
        waited: Duration,
        /// How long this device tries altogether.
        until: Duration,
        /// Whether the ticket leads to addresses of one local network alone.
        near: bool,
    },
}

/// A device that a ticket leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TicketDevice {
    /// The device.
    pub device: DeviceId,
    /// Whose it is, if the ticket says so.
    pub owner: Option<String>,
}

impl TicketDevice {
    fn of(ticket: &Ticket, device: DeviceId) -> Self {
        let name = ticket.issued_by.as_str();
        // A device without a name calls itself so.
        let named = !name.is_empty() && !name.starts_with("device-");
        let is_issuers = device == ticket.invite().issuer;
        Self { device, owner: (named && is_issuers).then(|| name.to_owned()) }
    }
}

impl fmt::Display for TicketDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}'s device"),
            None => write!(f, "the device …{}", self.device.short()),
        }
    }
}

impl fmt::Display for JoiningNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trying(who, at) if at.is_empty() => {
                write!(f, "the ticket has no address of {who}: looking for it on this network")
            }
            Self::Trying(who, at) => write!(f, "trying {who} at {} …", listed(at)),
            Self::TryingRelay(relay, at) => {
                write!(f, "trying the relay …{} at {} …", relay.short(), listed(at))
            }
            Self::TryingPeer(address) => write!(f, "trying {address} …"),
            Self::OnThisNetwork(who, at) => {
                write!(f, "{who} is on this network, at {}", listed(at))
            }
            Self::RelayAnswers => {
                f.write_str("a relay answers, and knocks at the ticket's devices")
            }
            Self::Answer(answer) => write!(f, "the answer is: {answer}"),
            Self::Waiting { issuer, name, words } => write!(
                f,
                "waiting: {} has to let you in, and sees you as {name} with the words {}",
                who_decides(issuer.as_deref()),
                words.join(" ")
            ),
            Self::UnnamedAnswers => f.write_str("somebody answers whom the ticket does not name"),
            Self::Silence { waited, until, near } => {
                let hint = if *near {
                    "The ticket leads there from the same network alone: for other places one is \
                     needed that `hark invite` prints while `hark talk` runs there"
                } else {
                    "Does a firewall keep UDP out? `hark doctor` looks from this side"
                };
                write!(
                    f,
                    "nobody answers after {} s: does `hark talk` run there? {hint}. Trying on until {} s",
                    waited.as_secs(),
                    until.as_secs()
                )
            }
        }
    }
}

/// Why a ticket has led nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It has expired, by this device's clock.
    #[error("the ticket has expired: ask for a new one")]
    Expired,
    /// This device is reached by relays alone, and the ticket names none.
    #[error(
        "the ticket names no relay, by which alone --relay-only reaches anybody: have an officer \
         name one in the charter of {0:?}, and ask for a new ticket"
    )]
    NoRelay(String),
    /// Somebody there does not let this device in.
    #[error("{0}")]
    Refused(Refusal),
    /// A person there does not let this device in.
    #[error(
        "{} has turned you away from {organisation}: talk to them, so that they know you by your \
         words (`hark id`), and ask for a new ticket",
        who_decides(issuer.as_deref())
    )]
    TurnedAway {
        /// What the ticket calls the organisation.
        organisation: String,
        /// Who issued the ticket, if it says so.
        issuer: Option<String>,
    },
    /// Nobody has answered by the ticket's relays.
    #[error(
        "nobody of {0:?} answers by the ticket's relays: are a relay and one of its members running?"
    )]
    RelaysSilent(String),
    /// Only devices have answered that the ticket does not name.
    #[error(
        "none of the devices that this ticket of {0:?} names answers, only others do: ask one of \
         the members who run now for a ticket"
    )]
    OnlyOthers(String),
    /// Nobody has answered.
    #[error(
        "nobody of {organisation:?} answers whom this ticket names: is {} running, and reachable \
         from here? A ticket of another member, who is there now, leads elsewhere; `hark talk \
         --peer ADDR:PORT` tries one more address",
        issuer.as_deref().unwrap_or("its owner")
    )]
    Silence {
        /// What the ticket calls the organisation.
        organisation: String,
        /// Who issued the ticket, if it says so.
        issuer: Option<String>,
    },
}

impl JoinError {
    pub(super) fn refused(ticket: &Ticket, refusal: Refusal) -> Self {
        match refusal {
            Refusal::TurnedAway => {
                let organisation = ticket.name.to_string();
                Self::TurnedAway { organisation, issuer: issuer(ticket) }
            }
            refusal => Self::Refused(refusal),
        }
    }
}

/// How far a newcomer has come.
pub(super) struct Progress<'a> {
    /// How long it has tried.
    pub(super) waited: Duration,
    /// Whether it is reached by relays alone.
    pub(super) hides: bool,
    /// Addresses that the person has given.
    pub(super) peers: &'a [SocketAddr],
    /// Devices that were found on the LAN.
    pub(super) discovered: &'a BTreeMap<DeviceId, Vec<SocketAddr>>,
    /// A relay of the ticket has answered.
    pub(super) led: bool,
    /// The answer of somebody who does not let it in.
    pub(super) answer: Option<Refusal>,
    /// A device has answered that the ticket does not name.
    pub(super) met_unnamed: bool,
    /// Somebody is asked to let it in, and sees it by this name and these words.
    pub(super) waits_as: Option<(String, [&'static str; 6])>,
}

impl Progress<'_> {
    /// All news for the person.
    pub(super) fn news(&self, ticket: &Ticket) -> Vec<JoiningNews> {
        let mut news = Vec::new();
        let doors = ticket.doors.iter().filter(|_| !self.hides);
        let entry = |device| TicketDevice::of(ticket, device);
        news.extend(
            doors
                .clone()
                .map(|door| JoiningNews::Trying(entry(door.device), door.addresses.clone())),
        );
        let relays = ticket.relays.iter();
        news.extend(relays.map(|it| JoiningNews::TryingRelay(it.device, it.addresses.clone())));
        if !self.hides {
            news.extend(self.peers.iter().copied().map(JoiningNews::TryingPeer));
            let named =
                ticket.doors.iter().filter_map(|door| self.discovered.get_key_value(&door.device));
            news.extend(
                named.map(|(device, at)| JoiningNews::OnThisNetwork(entry(*device), at.clone())),
            );
        }
        news.extend(self.led.then_some(JoiningNews::RelayAnswers));
        news.extend(self.answer.map(|answer| JoiningNews::Answer(answer.to_string())));
        news.extend(self.waits_as.clone().map(|(name, words)| JoiningNews::Waiting {
            issuer: issuer(ticket),
            name,
            words,
        }));
        let silent = self.answer.is_none() && self.waits_as.is_none() && !self.led;
        if self.met_unnamed && silent {
            news.push(JoiningNews::UnnamedAnswers);
        } else if silent && self.waited >= SILENCE_TOLD_AFTER {
            let mut places = doors.flat_map(|door| &door.addresses);
            let is_near = |it: &SocketAddr| AddressKind::of(it.ip()) != AddressKind::Public;
            let near = ticket.relays.is_empty() && places.all(is_near);
            let (waited, until) = (SILENCE_TOLD_AFTER, super::JOIN_TIMEOUT);
            news.push(JoiningNews::Silence { waited, until, near });
        }
        news
    }
}

/// Who issued a ticket, if it says so.
pub(super) fn issuer(ticket: &Ticket) -> Option<String> {
    Some(ticket.issued_by.to_string()).filter(|name| !name.is_empty())
}

/// Who lets newcomers in by hand, as far as the ticket says.
fn who_decides(issuer: Option<&str>) -> String {
    match issuer {
        None => "somebody there".to_owned(),
        Some(name) => format!("{name}, or another who may,"),
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A person who waits is told by then what may be wrong.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, Door, OrganisationId, SeededRandom, Terms, UnixTime};

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
        let lines: Vec<_> = progress.news(ticket).iter().map(ToString::to_string).collect();
        lines.join("\n")
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
        let told = JoinError::refused(&ticket, Refusal::TurnedAway).to_string();
        assert!(
            told.starts_with("Sable, or another who may, has turned you away from Squad: talk")
        );
        let told = JoinError::refused(&ticket.issued_by(""), Refusal::TurnedAway).to_string();
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
