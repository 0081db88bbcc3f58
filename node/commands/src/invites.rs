//! Tickets: who may print one, for how long, and whom it names.

use std::{net::SocketAddr, time::Duration};

use hark_charter::{
    Charter, DEVICES_MAX, Denial,
    content::{Capabilities, Change, Place},
};
use hark_keys::{DeviceId, Door, List, RoleId, Terms, Ticket, UnixTime};

use crate::{
    CharterRefusal, CommandError, Host, Mistake, Wish,
    names::{Candidate, find},
    refusal::refuse_to,
    roles::role_to_give,
    view::View,
};

/// What a ticket is to be good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketRequest {
    /// How many devices may join by it; 0 is any number.
    pub uses: u8,
    /// How long it lasts; `None` is as long as usual, within what the charter allows.
    pub lasting: Option<Duration>,
    /// The name of the role that they get, everywhere.
    pub role: Option<String>,
    /// Whether it makes one machine another device of the asker, and nobody a member.
    pub device: bool,
    /// Whether somebody lets each newcomer in by hand.
    pub ask: bool,
}

/// The relays of a charter, for tickets: they lead newcomers to doors. [PROTO-3.10]
pub fn relays_of(charter: &Charter) -> impl Iterator<Item = Door> {
    charter
        .state()
        .relays()
        .map(|relay| Door { device: relay.device, addresses: relay.addresses.to_vec() })
}

/// A ticket as it is asked for: this device is its first door, at its `own` addresses, and those of
/// `others` who may admit by it come next, in their order. Refused where it would admit nobody.
pub fn issue_ticket(
    host: &dyn Host,
    now: UnixTime,
    request: &TicketRequest,
    own: Vec<SocketAddr>,
    others: impl IntoIterator<Item = Door>,
) -> Result<Ticket, CommandError> {
    let (charter, member, key) = (host.charter(), host.member(), host.key());
    let role = check(host, request)?;
    let lasting = lasting(charter, request)?;
    let name = charter.name();
    let own = own.into_iter().take(OWN_ADDRESSES).collect();
    let terms = Terms {
        expires: now + lasting,
        uses: request.uses,
        role,
        series: charter.state().series(member),
        asks: request.ask,
        removals: charter.state().removals_ever(),
    };
    let ticket = if request.device {
        Ticket::for_device(key, charter.organisation(), name, terms, member, own, host.random())
    } else {
        let admits = |door: &Door| {
            // A ticket with a number of uses is redeemed only where they are counted: here.
            request.uses == 0
                && door.device != key.id()
                && !door.addresses.is_empty()
                && charter.owner(door.device).is_some_and(|it| {
                    charter.allows(it, Capabilities::ADMIT, Place::Organisation)
                        && role.is_none_or(|role| charter.may_give(it, role).is_ok())
                })
        };
        let others = others.into_iter().filter(admits).map(|mut door| {
            door.addresses.truncate(OTHERS_ADDRESSES);
            door
        });
        let own = Door { device: key.id(), addresses: own };
        let doors = std::iter::once(own).chain(others).take(DOORS).collect();
        Ticket::issue(key, charter.organisation(), name, terms, doors, host.random())
    };
    let ticket = ticket.led_by(relays_of(charter));
    Ok(ticket.issued_by(&host.name_of(member).unwrap_or_default()))
}

/// Whether whoever acts may let somebody in.
pub fn may_admit(host: &dyn Host) -> Result<(), CommandError> {
    let (admit, everywhere) = (Capabilities::ADMIT, Place::Organisation);
    if host.charter().allows(host.member(), admit, everywhere) {
        return Ok(());
    }
    let (change, denial) = (Change::Admitted(List::default()), Denial::Right(admit, everywhere));
    Err(refuse_to(&View::new(host), Wish::Admit, &change, denial))
}

/// The newcomer whom `text` means, of those who wait: a name, name#id or a device.
pub fn find_waiting(
    text: &str,
    waiting: impl Iterator<Item = (DeviceId, String)>,
) -> Result<DeviceId, CommandError> {
    let waiting: Vec<_> = waiting.collect();
    let alone = |name: &str| waiting.iter().filter(|(_, other)| other == name).count() == 1;
    let candidates = waiting.iter().flat_map(|(device, name)| {
        let long = format!("{name}#{}", device.short());
        let unique = if alone(name) { name.clone() } else { long.clone() };
        [name.clone(), long, device.to_string()].map(|name| Candidate {
            id: *device,
            name,
            unique: unique.clone(),
        })
    });
    find(("newcomer who waits", "newcomers who wait"), text, &candidates.collect::<Vec<_>>())
}

/// Whether whoever acts may have somebody join so; the role that comes with it.
fn check(host: &dyn Host, request: &TicketRequest) -> Result<Option<RoleId>, CommandError> {
    let (charter, member) = (host.charter(), host.member());
    let (admit, everywhere) = (Capabilities::ADMIT, Place::Organisation);
    let devices = charter.devices_of(member);
    if !devices.contains(&host.key().id()) {
        return Err(CharterRefusal::FormerDevice(charter.name().to_owned()).into());
    }
    if request.device {
        if request.ask {
            return Err(Mistake::DeviceAsks.into());
        }
        if devices.len() >= DEVICES_MAX {
            return Err(CharterRefusal::DevicesFull(devices.len()).into());
        }
        return Ok(None);
    }
    if let Some(role) = &request.role {
        return role_to_give(host, role).map(Some);
    }
    if !charter.allows(member, admit, everywhere) {
        let change = Change::Admitted(List::default());
        let denial = Denial::Right(admit, everywhere);
        return Err(refuse_to(&View::new(host), Wish::Invite, &change, denial));
    }
    let issued = charter.issue(host.key(), member, host.key().id(), None);
    issued.map_err(CharterRefusal::CannotInvite)?;
    Ok(None)
}

/// How long the ticket is good: as asked for, which the charter's policy bounds; else as is usual,
/// within that bound.
fn lasting(charter: &Charter, request: &TicketRequest) -> Result<Duration, CommandError> {
    let hours = charter.state().policies().invite_hours_max;
    let longest = (hours > 0).then(|| Duration::from_secs(u64::from(hours) * 3_600));
    let usual = if request.device { DEVICE_LASTING } else { LASTING };
    match (request.lasting, longest) {
        (Some(asked), Some(longest)) if asked > longest => {
            Err(CharterRefusal::TicketTooLong(charter.name().to_owned(), hours).into())
        }
        (Some(asked), _) => Ok(asked),
        (None, longest) => Ok(longest.map_or(usual, |longest| usual.min(longest))),
    }
}

/// How long a ticket is good where nothing else is asked for.
const LASTING: Duration = Duration::from_secs(24 * 60 * 60);

/// The same of one for a further device.
const DEVICE_LASTING: Duration = Duration::from_secs(15 * 60);

/// Doors of a ticket and addresses of each: more would be too long to paste.
const DOORS: usize = 3;
const OWN_ADDRESSES: usize = 6;
const OTHERS_ADDRESSES: usize = 3;
