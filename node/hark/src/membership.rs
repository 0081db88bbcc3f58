//! This device's identity and organisations: `id`, `new`, `invite`, `join`.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_charter::{
    Charter,
    content::{Capabilities, MEMBER_ROLE},
};
use hark_command_line::duration;
use hark_commands::{Outcome, Request, RoleRequest, TicketRequest, relays_of};
use hark_keys::{
    DeviceId, MemberId, OrganisationId, RecoverySecret, RoleId, Signed, Ticket, device_words,
};
use hark_mesh::{AddressKind, Directory};
use hark_node::{
    clock::Clock,
    control::{Client, ControlError},
    launch::found,
    node::{Node, NodeConfig},
    random::SystemRandom,
    store::{Home, OrganisationStore},
};
use serde_json::json;

use crate::{
    HomeArguments,
    charter::stored_ticket,
    person::{
        ask_name, ask_passphrase, choose, complain, fitting_name, home_path, open_home,
        read_ticket, say, say_json, tell_joining, words,
    },
    ticket::qr_code,
};

#[derive(clap::Args)]
pub(crate) struct IdArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Ask for a passphrase and protect the key files with it; an empty one ends the protection
    #[arg(long)]
    protect: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn id(arguments: IdArguments) -> anyhow::Result<()> {
    let home = open_home(&arguments.home)?;
    let device = home.device(&SystemRandom)?;
    let mut organisations = Vec::new();
    for store in home.organisations()? {
        let device = home.key(&store)?.id();
        organisations.push((store.charter().name().to_owned(), store.id(), device));
    }
    // Last: after this, the earlier passphrase no longer opens the keys.
    if arguments.protect {
        let passphrase = new_passphrase()?;
        home.protect(Some(passphrase.as_str()).filter(|text| !text.is_empty()), &SystemRandom)?;
    }
    if arguments.json {
        let organisations: Vec<_> = organisations
            .iter()
            .map(|(name, id, device)| {
                json!({
                    "name": name,
                    "id": id.to_string(),
                    "device": device.to_string(),
                    "words": device_words(*device),
                })
            })
            .collect();
        say_json(&json!({
            "device": device.to_string(),
            "words": device_words(device),
            "organisations": organisations,
        }));
        return Ok(());
    }
    if organisations.is_empty() {
        say(&format!("device  {device}\nwords   {}", words(device)));
        say("no organisation yet: `hark new NAME` founds one, `hark join TICKET` joins one");
    }
    for (name, id, device) in organisations {
        say(&format!("{name}  ({})\n  device  {device}\n  words   {}", id.short(), words(device)));
    }
    Ok(())
}

fn new_passphrase() -> anyhow::Result<zeroize::Zeroizing<String>> {
    let ask = |question| {
        rpassword::prompt_password(question)
            .map(zeroize::Zeroizing::new)
            .context("a passphrase is asked for at a terminal")
    };
    let first = ask("New passphrase: ")?;
    anyhow::ensure!(first == ask("The same again: ")?, "the two passphrases differ");
    Ok(first)
}

#[derive(clap::Args)]
pub(crate) struct NewArguments {
    /// What the organisation is called
    #[arg(value_name = "NAME")]
    organisation: String,
    #[command(flatten)]
    home: HomeArguments,
    /// The name shown to others, from now on
    #[arg(long)]
    name: Option<String>,
    /// Found one although this device is in another one of this name
    #[arg(long)]
    another: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn new(arguments: NewArguments) -> anyhow::Result<()> {
    let name = fitting_name("an organisation's name", &arguments.organisation)?;
    let home = open_home(&arguments.home)?;
    if let Some(twin) = home.named_like(&name)?
        && !arguments.another
    {
        let (called, id) = (twin.charter().name(), twin.id().short());
        anyhow::bail!(
            "this device is in {called} ({id}) already: `hark invite --org {id}` lets others in \
             there, and `hark new --another` founds a second one of this name"
        );
    }
    let shown = ask_name(arguments.name.as_deref(), &home, None)?;
    let recovery = RecoverySecret::generate(&SystemRandom);
    let store = found(&home, &name, Some(recovery.key().id()))?;
    let ticket = stored_ticket(&home, &store, &TicketRequest::default())?;
    let ticket = ticket.issued_by(&shown);
    if arguments.json {
        say_json(&json!({
            "org": store.id().to_string(),
            "name": store.charter().name(),
            "ticket": ticket.to_string(),
            "device": home.key(&store)?.id().to_string(),
            "recovery": recovery.to_string(),
        }));
    } else {
        say(&format!("founded {} ({})", store.charter().name(), store.id().short()));
        say("start `hark talk`, which lets others in; they join within 24 h by:");
        say(&format!("hark talk {ticket}"));
        let addresses: Vec<_> = ticket.doors.iter().flat_map(|door| &door.addresses).collect();
        let is_public = |it: &&SocketAddr| AddressKind::of(it.ip()) == AddressKind::Public;
        if !addresses.iter().any(is_public) {
            say("This ticket leads here from this machine's own network. For those elsewhere ask \
                 `hark invite` for one while `hark talk` runs: it knows the address outside.");
        }
        say_recovery(&recovery, store.charter(), true);
    }
    Ok(())
}

/// Prints the words of a recovery key. If `gone`, this device has not kept them; otherwise it keeps
/// them until they are on paper. The heading says whose words they are, since a founder's words
/// look like a member's.
pub(crate) fn say_recovery(recovery: &RecoverySecret, charter: &Charter, gone: bool) {
    let name = charter.name();
    let (heading, for_what) = if charter.is_root(recovery.key().id()) {
        (format!("FOUNDER'S WORDS of {name}"), "your membership, and sign for the organisation")
    } else {
        (format!("MEMBER'S WORDS for {name}"), "your membership")
    };
    say(&format!("\n{heading}"));
    say(&format!(
        "Write these 24 words down with this heading: should this device be lost, they restore \
         {for_what}."
    ));
    let kept = if gone { "not kept on this device" } else { "on this device still" };
    say(&format!("They are {kept}, and whoever has them can act for you.\n"));
    let words = recovery.to_string();
    let words: Vec<_> = words.split(' ').collect();
    for line in words.chunks(6) {
        say(&format!("  {}", line.join(" ")));
    }
}

#[derive(clap::Args)]
pub(crate) struct InviteArguments {
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Whoever joins by it gets this role, everywhere
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// How many devices may join by it; 0 is any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    uses: u8,
    /// How long it is good for [default: 24h, or less where the charter's policy says so]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// Newcomers wait until somebody who may admit lets each of them in: `hark ctl waiting`
    #[arg(long)]
    ask: bool,
    /// Show it as a QR code, too, for whoever sits beside you
    #[arg(long, conflicts_with = "json")]
    qr: bool,
    #[command(flatten)]
    home: HomeArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn invite(arguments: InviteArguments) -> anyhow::Result<()> {
    check_lasting(arguments.expires)?;
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let InviteArguments { uses, expires: lasting, role, ask, qr, .. } = arguments;
    let unseen = if ask { who_comes_unseen(&store)? } else { None };
    let request = TicketRequest { uses, lasting, role, ask, device: false };
    // A running node knows best at which addresses others reach it.
    let ticket = match ask_running(&store, &request)? {
        Some(ticket) => ticket,
        None => stored_ticket(&home, &store, &request)?,
    };
    if arguments.json {
        say_json(&json!({
            "ticket": ticket.to_string(),
            "expires": ticket.invite().expires.as_secs(),
            "uses": ticket.invite().uses,
            "role": ticket.invite().role.map(|role| role.to_string()),
            "ask": ticket.invite().asks,
        }));
    } else {
        say(&ticket.to_string());
    }
    unseen.iter().for_each(|line| complain(line));
    if qr {
        let colours = std::io::stdout().is_terminal();
        say(&format!("\n{}", qr_code(&ticket, colours)?));
    }
    Ok(())
}

/// A warning for a member who makes the first ticket with `--ask`: as long as every member may
/// invite, others still bring in newcomers whom nobody has seen.
fn who_comes_unseen(store: &OrganisationStore) -> anyhow::Result<Option<String>> {
    let state = store.charter().state();
    let rights = state.role(MEMBER_ROLE).map_or(Capabilities::NONE, |role| role.capabilities);
    let asked_before = store.tickets(Clock.unix())?.iter().any(|ticket| ticket.invite.asks);
    Ok((rights.contains(Capabilities::ADMIT) && !asked_before).then(|| {
        format!(
            "who has this ticket waits, but every member may still invite without --ask; \
             `hark charter role edit member --can {}` leaves that to roles with the right admit",
            rights - Capabilities::ADMIT
        )
    }))
}

/// Asks the running node for a ticket. Returns `None` if no node runs.
pub(crate) fn ask_running(
    store: &OrganisationStore,
    request: &TicketRequest,
) -> anyhow::Result<Option<Ticket>> {
    let Some(description) = store.control()? else { return Ok(None) };
    let mut client = match Client::connect(&description) {
        Ok(client) => client,
        Err(ControlError::NotRunning) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let TicketRequest { uses, lasting, role, device, ask } = request;
    let expires = lasting.map(|lasting| lasting.as_secs());
    let answer = client.request(json!({
        "command": "invite",
        "uses": uses,
        "expires_secs": expires,
        "role": role,
        "device": device,
        "ask": ask,
    }))?;
    let ticket = answer["ticket"].as_str().unwrap_or_default();
    Ok(Some(ticket.parse()?))
}

/// Refuses a lifetime of under 1 s, in which nobody could use the ticket.
pub(crate) fn check_lasting(lasting: Option<Duration>) -> anyhow::Result<()> {
    let too_short = lasting.is_some_and(|lasting| lasting < Duration::from_secs(1));
    anyhow::ensure!(!too_short, "a ticket lasts at least 1s");
    Ok(())
}

#[derive(clap::Args)]
pub(crate) struct JoinArguments {
    /// The invite, a file that holds it, or - for standard input
    #[arg(required = true)]
    ticket: Vec<String>,
    #[command(flatten)]
    home: HomeArguments,
    /// The name shown to others, from now on
    #[arg(long)]
    name: Option<String>,
    /// Never reveal this device's address to members: come in by the relays that the ticket names
    #[arg(long)]
    relay_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn join(arguments: JoinArguments) -> anyhow::Result<()> {
    let ticket = read_ticket(&arguments.ticket)?;
    let home = open_home(&arguments.home)?;
    let (organisation, promised) = (ticket.invite().organisation, ticket.invite().role);
    // [PROTO-4.21]
    let removals = ticket.invite().removals;
    let is_outdated =
        |store: &OrganisationStore| store.charter().state().last_removal(store.member()) > removals;
    let as_device_of = ticket.invite().member;
    let mut role = None;
    let recovery = RecoverySecret::generate(&SystemRandom);
    // A member who was removed joins again as a newcomer.
    let newcomer = match home.find(organisation)? {
        Some(store) => {
            let own = home.key(&store)?.id();
            !store.charter().devices_of(store.member()).contains(&own)
        }
        None => true,
    };
    if newcomer {
        let printed = as_device_of.is_none().then(|| recovery.key().id());
        let name = arguments.name.as_deref();
        // The next run finds the others by the addresses that this one learns, or by the charter's
        // relays.
        let relay_only = arguments.relay_only;
        come_in(&arguments.home, &home, ticket, name, relay_only, printed, |node| {
            let mut waits = promised.is_some();
            if let (Some(promised), Some(store)) = (promised, home.find(organisation)?) {
                role = role.take().or(given_role(node, store.member(), promised));
                waits = role.is_none() && !is_outdated(&store);
            }
            let knows_way = if relay_only { knows_relays } else { knows_others };
            Ok(knows_way(&home, organisation)? && !waits)
        })?;
    }
    let store = home.find(organisation)?.context("nobody admitted this device: ask again")?;
    anyhow::ensure!(
        as_device_of.is_none_or(|member| member == store.member()),
        "this home belongs to {} as somebody else: use another --home",
        store.charter().name()
    );
    let device = home.key(&store)?.id();
    let already = !newcomer;
    let newcomer = newcomer && as_device_of.is_none();
    if arguments.json {
        say_json(&json!({
            "org": store.id().to_string(),
            "name": store.charter().name(),
            "device": device.to_string(),
            "recovery": newcomer.then(|| recovery.to_string()),
            "role": role,
            "already": already,
        }));
    } else if already {
        let name = store.charter().name();
        say(&format!("this device belongs to {name} already: talk with `hark talk`"));
    } else {
        let how = if as_device_of.is_some() { " as a further device of yours" } else { "" };
        let with = role.as_ref().map(|role| format!(" with the role {role}")).unwrap_or_default();
        say(&format!("joined {}{how}{with}: talk with `hark talk`", store.charter().name()));
        if newcomer && promised.is_some() && role.is_none() && is_outdated(&store) {
            say(
                "without the ticket's role: it was issued before your membership ended, so ask an officer",
            );
        } else if newcomer && promised.is_some() && role.is_none() {
            say("the ticket's role has not come yet: `hark charter role list` says once it has");
        }
        if newcomer {
            say_recovery(&recovery, store.charter(), true);
        }
    }
    Ok(())
}

/// Joins by the ticket with a node that neither hears nor says anything. The node runs until
/// `is_ready` returns true, or until `PATIENCE` is over.
pub(crate) fn come_in(
    arguments: &HomeArguments,
    home: &Home,
    ticket: Ticket,
    name: Option<&str>,
    relay_only: bool,
    recovery: Option<DeviceId>,
    mut is_ready: impl FnMut(&Node) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let node = Node::start(NodeConfig {
        name: ask_name(name, home, Some(&ticket))?,
        ticket: Some(ticket),
        relay_only,
        recovery,
        ..silent(arguments)?
    })?;
    let end = Instant::now() + PATIENCE;
    while !is_ready(&node)? && Instant::now() < end {
        std::thread::sleep(TURN);
    }
    Ok(node.stop("quit")?)
}

/// The configuration of a node without sound. It runs only to pass on news or to receive it.
pub(crate) fn silent(arguments: &HomeArguments) -> anyhow::Result<NodeConfig> {
    Ok(NodeConfig {
        passphrase: ask_passphrase(),
        tell_joining: tell_joining(),
        ..NodeConfig::silent(home_path(arguments)?, "")
    })
}

/// Whether this device has stored another device's address.
pub(crate) fn knows_others(home: &Home, organisation: OrganisationId) -> anyhow::Result<bool> {
    let Some(store) = home.find(organisation)? else { return Ok(false) };
    let own = home.key(&store)?.id();
    let known = Directory::restore(store.charter(), &store.members()?);
    let mut records = known.records().map(Signed::unverified);
    Ok(records.any(|record| record.device != own && !record.addresses.is_empty()))
}

/// Whether this device has stored a relay of the charter.
fn knows_relays(home: &Home, organisation: OrganisationId) -> anyhow::Result<bool> {
    let store = home.find(organisation)?;
    Ok(store.is_some_and(|store| relays_of(store.charter()).next().is_some()))
}

/// The name of the role that the ticket promised, once the member holds it. [PROTO-4.8]
fn given_role(node: &Node, member: MemberId, promised: RoleId) -> Option<String> {
    let [member, promised] = [member.to_string(), promised.to_string()];
    let listed = node.handles().next()?.charter(Request::Role(RoleRequest::List)).ok()?;
    let Outcome::Roles(roles) = listed else { return None };
    let role = roles.into_iter().find(|role| role.id == promised)?;
    role.held.iter().any(|held| held.member == member).then_some(role.name)
}

/// How long a newcomer that was let in waits for what others send it, and how often it checks.
const PATIENCE: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(50);
