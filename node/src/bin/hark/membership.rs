//! Who this device is, and to what it belongs: `id`, `new`, `invite`, `join`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_keys::{
    DeviceId, Door, MemberId, OrganisationId, RecoverySecret, RoleId, Signed, Terms, Ticket,
    device_words,
};
use hark_mesh::{Directory, clean_name};
use hark_node::{
    admission::relays_of,
    clock::Clock,
    commands::{Request, RoleRequest},
    control::{Client, ControlError},
    device::{InputSpec, OutputSpec},
    duration,
    launch::found,
    node::{Node, NodeConfig},
    random::SystemRandom,
    snapshot::{TicketRequest, TransmitMode},
    store::{Home, OrganisationStore},
};
use serde_json::json;

use crate::{
    HomeArguments,
    charter::role_to_give,
    person::{
        ask_passphrase, choose, home_path, open_home, parse_ticket, say, say_json, shown_name,
        words,
    },
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
    if arguments.protect {
        let passphrase = new_passphrase()?;
        home.protect(Some(passphrase.as_str()).filter(|text| !text.is_empty()), &SystemRandom)?;
    }
    let mut organisations = Vec::new();
    for store in home.organisations()? {
        let device = home.key(&store)?.id();
        organisations.push((store.charter().name().to_owned(), store.id(), device));
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
    name: String,
    #[command(flatten)]
    home: HomeArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn new(arguments: NewArguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        !clean_name(&arguments.name).is_empty(),
        "an organisation's name needs at least one letter"
    );
    let home = open_home(&arguments.home)?;
    let recovery = RecoverySecret::generate(&SystemRandom);
    let store = found(&home, &arguments.name, Some(recovery.key().id()))?;
    let ticket = issue(&home, &store, 0, TicketRequest::default().lasting, None)?;
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
        say("start `hark talk`, then others join within 24 h by:");
        say(&format!("hark talk {ticket}"));
        say_recovery(&recovery, "the organisation");
    }
    Ok(())
}

/// The printed key is shown once and kept nowhere.
fn say_recovery(recovery: &RecoverySecret, what: &str) {
    say(&format!("\nWrite these 24 words down: should this device be lost, they restore {what}."));
    say("They are not kept on this device, and whoever has them can act for you.\n");
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
    /// How long it is good for
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "24h")]
    expires: Duration,
    #[command(flatten)]
    home: HomeArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn invite(arguments: InviteArguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.expires >= Duration::from_secs(1), "a ticket lasts at least 1s");
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    // A running node knows best where it can be reached.
    let InviteArguments { uses, expires, role, .. } = &arguments;
    let ticket = match ask_running(&store, *uses, *expires, role.as_deref())? {
        Some(ticket) => ticket,
        None => {
            let role = role.as_deref().map(|role| role_to_give(&home, &store, role)).transpose()?;
            issue(&home, &store, *uses, *expires, role)?
        }
    };
    if arguments.json {
        say_json(&json!({
            "ticket": ticket.to_string(),
            "expires": ticket.invite().expires.as_secs(),
            "uses": ticket.invite().uses,
            "role": ticket.invite().role.map(|role| role.to_string()),
        }));
    } else {
        say(&ticket.to_string());
    }
    Ok(())
}

/// A ticket of the node that runs; none if none does.
pub(crate) fn ask_running(
    store: &OrganisationStore,
    uses: u8,
    expires: Duration,
    role: Option<&str>,
) -> anyhow::Result<Option<Ticket>> {
    let Some(description) = store.control()? else { return Ok(None) };
    let mut client = match Client::connect(&description) {
        Ok(client) => client,
        Err(ControlError::NotRunning) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let expires = expires.as_secs();
    let request = json!({"command": "invite", "uses": uses, "expires_secs": expires, "role": role});
    let answer = client.request(request)?;
    let ticket = answer["ticket"].as_str().unwrap_or_default();
    Ok(Some(ticket.parse()?))
}

/// A ticket by the store alone, with the addresses that were good when the node last ran.
fn issue(
    home: &Home,
    store: &OrganisationStore,
    uses: u8,
    expires: Duration,
    role: Option<RoleId>,
) -> anyhow::Result<Ticket> {
    let key = home.key(store)?;
    let members = Directory::restore(store.charter(), &store.members()?);
    let addresses = |device| -> Vec<SocketAddr> {
        let record = members.record(device);
        record.map(|record| record.addresses.to_vec()).unwrap_or_default()
    };
    let own = Door { device: key.id(), addresses: bounded(addresses(key.id()), OWN_ADDRESSES) };
    let charter = store.charter();
    let gives = |device| match (role, charter.owner(device)) {
        (None, _) => true,
        (Some(role), Some(member)) => charter.may_give(member, role).is_ok(),
        (Some(_), None) => false,
    };
    // A ticket with a number of uses is redeemed only where they are counted: here.
    let others = members.records().map(|record| record.unverified().device);
    let others = others
        .filter(|device| uses == 0 && gives(*device))
        .map(|device| Door { device, addresses: bounded(addresses(device), OTHERS_ADDRESSES) });
    let others = others.filter(|door| door.device != key.id() && !door.addresses.is_empty());
    let doors = std::iter::once(own).chain(others).take(DOORS).collect();
    let terms = Terms { expires: Clock.unix() + expires, uses, role };
    let ticket = Ticket::issue(&key, store.id(), charter.name(), terms, doors, &SystemRandom);
    Ok(ticket.led_by(relays_of(charter)))
}

fn bounded(mut addresses: Vec<SocketAddr>, limit: usize) -> Vec<SocketAddr> {
    addresses.truncate(limit);
    addresses
}

#[derive(clap::Args)]
pub(crate) struct JoinArguments {
    /// The invite
    ticket: String,
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
    let ticket = parse_ticket(&arguments.ticket)?;
    let home = open_home(&arguments.home)?;
    let (organisation, promised) = (ticket.invite().organisation, ticket.invite().role);
    let as_device_of = ticket.invite().member;
    let mut role = None;
    let recovery = RecoverySecret::generate(&SystemRandom);
    // Whoever was removed comes in anew.
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
        // The next time it finds the others by what it has learnt of them, or by the charter's relays.
        let relay_only = arguments.relay_only;
        come_in(&arguments.home, &home, ticket, name, relay_only, printed, |node| {
            if let (Some(promised), Some(store)) = (promised, home.find(organisation)?) {
                role = role.take().or(given_role(node, store.member(), promised));
            }
            let knows_way = if relay_only { knows_relays } else { knows_others };
            Ok(knows_way(&home, organisation)? && role.is_some() == promised.is_some())
        })?;
    }
    let store = home.find(organisation)?.context("nobody admitted this device: ask again")?;
    anyhow::ensure!(
        as_device_of.is_none_or(|member| member == store.member()),
        "this home belongs to {} as somebody else: use another --home",
        store.charter().name()
    );
    let device = home.key(&store)?.id();
    let newcomer = newcomer && as_device_of.is_none();
    if arguments.json {
        say_json(&json!({
            "org": store.id().to_string(),
            "name": store.charter().name(),
            "device": device.to_string(),
            "recovery": newcomer.then(|| recovery.to_string()),
            "role": role,
        }));
    } else {
        let how = if as_device_of.is_some() { " as a further device of yours" } else { "" };
        let with = role.as_ref().map(|role| format!(" with the role {role}")).unwrap_or_default();
        say(&format!("joined {}{how}{with}: talk with `hark talk`", store.charter().name()));
        if newcomer && promised.is_some() && role.is_none() {
            say("the ticket's role has not come yet: `hark charter role list` says once it has");
        }
        if newcomer {
            say_recovery(&recovery, "your membership");
        }
    }
    Ok(())
}

/// Has this device admitted by the ticket, and lets its node run until it has what is wanted of it,
/// or is not to be expected to get it any more: it hears and says nothing meanwhile.
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
        home: home_path(arguments)?,
        passphrase: ask_passphrase(),
        organisations: Vec::new(),
        ticket: Some(ticket),
        name: shown_name(name, home)?,
        input: InputSpec::Silence,
        output: OutputSpec::Null,
        listen: Vec::new(),
        peers: Vec::new(),
        mdns: true,
        relay_only,
        port_mapping: false,
        transmit: Some(TransmitMode::Ptt),
        profile: None,
        channels: Vec::new(),
        talk_to: Vec::new(),
        recovery,
        low_delay: false,
    })?;
    let end = Instant::now() + PATIENCE;
    while !is_ready(&node)? && Instant::now() < end {
        std::thread::sleep(TURN);
    }
    node.stop("quit")
}

/// Whether this device has written down where another one is.
pub(crate) fn knows_others(home: &Home, organisation: OrganisationId) -> anyhow::Result<bool> {
    let Some(store) = home.find(organisation)? else { return Ok(false) };
    let own = home.key(&store)?.id();
    let known = Directory::restore(store.charter(), &store.members()?);
    let mut records = known.records().map(Signed::unverified);
    Ok(records.any(|record| record.device != own && !record.addresses.is_empty()))
}

/// Whether this device has written down a relay of the charter.
fn knows_relays(home: &Home, organisation: OrganisationId) -> anyhow::Result<bool> {
    let store = home.find(organisation)?;
    Ok(store.is_some_and(|store| relays_of(store.charter()).next().is_some()))
}

/// The name of the role that the ticket has promised, once the door has given it. [PROTO-4.8]
fn given_role(node: &Node, member: MemberId, promised: RoleId) -> Option<String> {
    let [member, promised] = [member.to_string(), promised.to_string()];
    let answer = node.handles().next()?.charter(Request::Role(RoleRequest::List)).ok()?;
    let role = answer.json.as_array()?.iter().find(|role| role["id"] == promised)?;
    let holds = role["held"].as_array()?.iter().any(|held| held["member"] == member);
    role["name"].as_str().filter(|_| holds).map(str::to_owned)
}

/// How long a newcomer that was let in waits for what others tell it, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_millis(50);

/// Doors of a ticket and addresses of each: more would be too long to paste.
const DOORS: usize = 3;
const OWN_ADDRESSES: usize = 6;
const OTHERS_ADDRESSES: usize = 3;
