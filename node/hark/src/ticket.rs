//! `hark ticket`: what a ticket says, which tickets were issued, and how they are revoked.

use std::time::Duration;

use anyhow::Context;
use hark_commands::{Request, TicketsRequest};
use hark_keys::{Door, Invite, Ticket, UnixTime};
use hark_node::clock::Clock;
use qrcode::{Color, EcLevel, QrCode};
use serde_json::json;

use crate::{
    HomeArguments,
    charter::{carry_out, show},
    person::{choose, counted, home_path, open_home, read_ticket, say, say_json, span},
};

#[derive(clap::Args)]
pub(crate) struct TicketArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME", global = true)]
    org: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: TicketCommand,
}

#[derive(clap::Subcommand)]
enum TicketCommand {
    /// Show what a ticket says: of which organisation, from whom, for how long, where it leads
    Show {
        /// The ticket, a file that holds it, or - for standard input
        #[arg(value_name = "TICKET", required = true)]
        ticket: Vec<String>,
    },
    #[command(flatten)]
    Known(TicketsRequest),
}

pub(crate) fn run(arguments: TicketArguments) -> anyhow::Result<()> {
    let TicketArguments { home, org, json, command } = arguments;
    match command {
        TicketCommand::Show { ticket } => {
            let (ticket, now) = (read_ticket(&ticket)?, Clock.unix());
            let revoked = is_revoked(&home, ticket.invite())?;
            if json {
                say_json(&as_json(&ticket, now, revoked));
            } else {
                describe(&ticket, now, revoked).iter().for_each(|line| say(line));
            }
        }
        TicketCommand::Known(request) => {
            let home = open_home(&home)?;
            let store = choose(&home, org.as_deref())?;
            show(&carry_out(&home, &store, Request::Tickets(request))?, json)?;
        }
    }
    Ok(())
}

/// A ticket's link as a QR code (ISO/IEC 18004). Each character is two half blocks, that is two
/// modules high. On a terminal with colours it is white on black. It includes the quiet zone that
/// scanners need.
pub(crate) fn qr_code(ticket: &Ticket, colours: bool) -> anyhow::Result<String> {
    // Capital letters take two thirds of the room.
    let link = format!("hark:{ticket}").to_uppercase();
    let code = QrCode::with_error_correction_level(link, EcLevel::L)
        .context("the ticket is too long for a QR code")?;
    let width = code.width() as isize;
    let modules = code.to_colors();
    let is_light = |x: isize, y: isize| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        !inside || modules[(y * width + x) as usize] == Color::Light
    };
    let mut text = String::new();
    for y in (-QUIET..width + QUIET).step_by(2) {
        if colours {
            text += WHITE_ON_BLACK;
        }
        text.extend((-QUIET..width + QUIET).map(|x| match (is_light(x, y), is_light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        }));
        if colours {
            text += PLAIN;
        }
        text.push('\n');
    }
    Ok(text)
}

/// Whether this home has the ticket's organisation and knows that the ticket is revoked. Does not
/// create a home that does not exist.
fn is_revoked(home: &HomeArguments, invite: &Invite) -> anyhow::Result<bool> {
    if !home_path(home)?.exists() {
        return Ok(false);
    }
    let store = open_home(home)?.find(invite.organisation)?;
    Ok(store.is_some_and(|store| {
        let charter = store.charter();
        let issuer = charter.owner(invite.issuer);
        issuer.is_some_and(|issuer| charter.state().revokes(issuer, invite))
    }))
}

fn as_json(ticket: &Ticket, now: UnixTime, revoked: bool) -> serde_json::Value {
    let places = |places: &[Door]| -> Vec<_> {
        let place = |place: &Door| json!({"device": place.device.to_string(), "addresses": place.addresses});
        places.iter().map(place).collect()
    };
    let invite = ticket.invite();
    json!({
        "org": invite.organisation.to_string(),
        "name": ticket.name,
        "issued_by": ticket.issued_by,
        "issuer": invite.issuer.to_string(),
        "expires": invite.expires.as_secs(),
        "expired": invite.expires <= now,
        "revoked": revoked,
        "uses": invite.uses,
        "role": invite.role.map(|role| role.to_string()),
        "number": invite.number(),
        "ask": invite.asks,
        "member": invite.member.map(|member| member.to_string()),
        "doors": places(&ticket.doors),
        "relays": places(&ticket.relays),
    })
}

fn describe(ticket: &Ticket, now: UnixTime, revoked: bool) -> Vec<String> {
    let invite = ticket.invite();
    let issuer = match ticket.issued_by.as_str() {
        "" => invite.issuer.to_string(),
        name => format!("{name}, by the device {}", invite.issuer),
    };
    let until = match invite.expires.as_secs().saturating_sub(now.as_secs()) {
        _ if revoked => "no more: it was revoked, ask for a new one".to_owned(),
        0 => "no more: it has expired, ask for a new one".to_owned(),
        left => format!("for another {}", span(Duration::from_secs(left))),
    };
    let (whom, uses) = match (invite.member, invite.uses) {
        (Some(_), _) => ("one more machine of the person who made it".to_owned(), ""),
        (None, 0) => ("any number of people".to_owned(), ""),
        (None, uses) => {
            (counted(uses.into(), "person", "people"), "; how many have come, its doors know")
        }
    };
    let mut lines = vec![
        format!("{}  ({})", ticket.name, invite.organisation.short()),
        format!("  from    {issuer}"),
        format!("  number  {}", invite.number()),
        format!("  good    {until}"),
        format!("  for     {whom}{uses}"),
    ];
    if invite.asks {
        lines.push("  asks    whoever comes waits until somebody there lets them in".to_owned());
    }
    lines.extend(invite.role.map(|role| format!("  role    #{}, given on joining", role.short())));
    let place = |what: &str, place: &Door| {
        let mut addresses: Vec<_> = place.addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() {
            addresses.push("no address: found on its own network alone".to_owned());
        }
        format!("  {what}{}  {}", place.device, addresses.join(", "))
    };
    lines.extend(ticket.doors.iter().map(|it| place("door    ", it)));
    lines.extend(ticket.relays.iter().map(|it| place("relay   ", it)));
    lines
}

/// Width of the quiet zone around the code, in modules. The standard asks for four; two are enough
/// for today's cameras.
const QUIET: isize = 2;

const WHITE_ON_BLACK: &str = "\x1b[38;5;231;48;5;16m";
const PLAIN: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, MemberId, OrganisationId, SeededRandom, Terms};

    use super::*;

    #[test]
    fn a_ticket_could_not_be_looked_at_before_joining() {
        let key = DeviceKey::from_secret(&[1; 32]);
        let door =
            Door { device: key.id(), addresses: vec!["192.0.2.7:4000".parse().expect("one")] };
        let terms = Terms { uses: 3, ..Terms::until(UnixTime::from_secs(10_000)) };
        let organisation = OrganisationId::from_bytes([9; 32]);
        let random = SeededRandom::new(1);
        let ticket =
            Ticket::issue(&key, organisation, "Meridian Watch", terms, vec![door], &random);
        let ticket = ticket.issued_by("Sable");
        let shown = describe(&ticket, UnixTime::from_secs(10_000 - 7_200), false).join("\n");
        for part in
            ["Meridian Watch", "Sable, by the device", "another 2 h", "3 people", "192.0.2.7:4000"]
        {
            assert!(shown.contains(part), "{shown}");
        }
        let late = describe(&ticket, UnixTime::from_secs(10_000), false).join("\n");
        assert!(late.contains("it has expired"), "{late}");
        let revoked = describe(&ticket, UnixTime::from_secs(1), true).join("\n");
        assert!(revoked.contains("good    no more: it was revoked"), "{revoked}");
        let json = as_json(&ticket, UnixTime::from_secs(9_999), false);
        assert_eq!((&json["issued_by"], &json["uses"]), (&json!("Sable"), &json!(3)));
        assert_eq!((&json["expired"], &json["relays"]), (&json!(false), &json!([])));

        let code = qr_code(&ticket, false).expect("it fits");
        let lines: Vec<_> = code.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width), "{code}");
        // A module is as high as it is wide, and a line holds two. The code starts with a finder
        // pattern.
        assert!(lines.len() == width.div_ceil(2) && width <= 80, "{width} {}", lines.len());
        assert!(
            lines[0].chars().all(|it| it == '█') && lines[1].starts_with("██ ▄▄▄▄▄ █"),
            "{code}"
        );

        let member = MemberId::from_bytes([8; 32]);
        let terms = Terms::until(UnixTime::from_secs(10_000));
        let own = Ticket::for_device(&key, organisation, "M", terms, member, Vec::new(), &random);
        let shown = describe(&own, UnixTime::from_secs(1), false).join("\n");
        assert!(shown.contains("one more machine") && shown.contains("no address"), "{shown}");
    }
}
