//! Identity, founding, inviting and joining.

use std::time::Duration;

use anyhow::Context;
use hark_keys::{DeviceId, Door, Ticket, device_words};
use hark_mesh::Directory;
use hark_node::{
    clock::Clock,
    device::{InputSpec, OutputSpec},
    node::{self, Node, NodeConfig},
    random::SystemRandom,
    snapshot::TransmitMode,
    store::{Home, OrganisationStore},
};
use serde_json::{Value, json};

use super::arguments::{self, Identity, Invite, Join, New};

pub(crate) fn id(arguments: &Identity) -> anyhow::Result<()> {
    let home = arguments.home.open()?;
    if arguments.set_passphrase {
        set_passphrase(&home)?;
    }
    let device = home.device(&SystemRandom)?;
    let mut organisations = Vec::new();
    for store in home.organisations()? {
        organisations.push((store.clone(), home.key(&store)?.id()));
    }
    if arguments.json {
        let organisations: Vec<Value> = organisations
            .iter()
            .map(|(store, device)| {
                json!({
                    "name": store.charter().name(),
                    "id": store.id().to_string(),
                    "device": device.to_string(),
                    "words": device_words(*device),
                })
            })
            .collect();
        let words = device_words(device);
        let id = device.to_string();
        println!("{}", json!({ "device": id, "words": words, "organisations": organisations }));
        return Ok(());
    }
    if organisations.is_empty() {
        println!("device  {device}\nwords   {}", device_words(device).join(" "));
        println!("No organisation yet: `hark talk` founds a squad, `hark join TICKET` joins one.");
    }
    for (store, device) in organisations {
        println!("{} ({})", store.charter().name(), store.id().short());
        println!("  device  {device}\n  words   {}", device_words(device).join(" "));
    }
    Ok(())
}

fn set_passphrase(home: &Home) -> anyhow::Result<()> {
    let first = rpassword::prompt_password("New passphrase, empty for none: ")?;
    if first != rpassword::prompt_password("Again: ")? {
        anyhow::bail!("the two passphrases differ: nothing was changed");
    }
    home.protect(Some(first.as_str()).filter(|text| !text.is_empty()), &SystemRandom)?;
    Ok(())
}

pub(crate) fn new(arguments: &New) -> anyhow::Result<()> {
    let home = arguments.home.open()?;
    let store = node::found(&home, &arguments.name)?;
    let ticket = issue(&home, &store, 0, DEFAULT_LASTING)?;
    let device = home.key(&store)?.id();
    if arguments.json {
        println!(
            "{}",
            json!({
                "org": store.id().to_string(),
                "name": store.charter().name(),
                "device": device.to_string(),
                "ticket": ticket.to_string(),
            })
        );
    } else {
        println!("Founded {}. This ticket admits others for 24 hours:", store.charter().name());
        println!("{ticket}");
        println!("Now run `hark talk`; they run `hark talk TICKET`.");
    }
    Ok(())
}

pub(crate) fn invite(arguments: &Invite) -> anyhow::Result<()> {
    let home = arguments.home.open()?;
    let store = home
        .choose(arguments.org.as_deref())?
        .context("there is no organisation to invite to: found one with `hark new NAME`")?;
    let ticket = issue(&home, &store, arguments.uses, arguments.expires)?;
    if arguments.json {
        println!(
            "{}",
            json!({
                "ticket": ticket.to_string(),
                "expires": ticket.invite().expires.as_secs(),
                "uses": arguments.uses,
            })
        );
    } else {
        println!("{ticket}");
    }
    Ok(())
}

/// A ticket with the addresses that this device and other members were last known by.
fn issue(
    home: &Home,
    store: &OrganisationStore,
    uses: u8,
    lasting: Duration,
) -> anyhow::Result<Ticket> {
    let key = home.key(store)?;
    let directory = Directory::restore(store.charter(), &store.members()?);
    let door = |device: DeviceId, most: usize| {
        let record = directory.record(device);
        let addresses = record.map(|record| record.addresses.iter().copied().take(most).collect());
        Door { device, addresses: addresses.unwrap_or_default() }
    };
    let mut doors = vec![door(key.id(), 6)];
    if uses == 0 {
        let others = directory.records().map(|record| record.unverified().device);
        doors.extend(others.filter(|device| *device != key.id()).take(2).map(|id| door(id, 3)));
    }
    let expires = Clock.unix() + lasting;
    let name = store.charter().name();
    Ok(Ticket::issue(&key, store.id(), name, expires, uses, doors, &SystemRandom))
}

pub(crate) fn join(arguments: Join) -> anyhow::Result<()> {
    let ticket: Ticket = arguments.ticket.parse()?;
    let organisation = ticket.invite().organisation;
    let node = Node::start(NodeConfig {
        home: arguments.home.path()?,
        passphrase: Box::new(arguments::ask_passphrase),
        organisation: None,
        ticket: Some(ticket),
        name: arguments.who.get(),
        input: InputSpec::Silence,
        output: OutputSpec::Null,
        listen: arguments.network.listen,
        peers: arguments.network.peer,
        mdns: !arguments.network.no_mdns,
        transmit: TransmitMode::Ptt,
        low_delay: false,
    })?;
    node.stop("joined")?;
    let home = arguments.home.open()?;
    let store = home.find(organisation)?.context("the organisation was not kept")?;
    let device = home.key(&store)?.id();
    let name = store.charter().name();
    if arguments.json {
        let org = store.id().to_string();
        println!("{}", json!({ "org": org, "name": name, "device": device.to_string() }));
    } else {
        println!("Joined {name}. Now run `hark talk`.");
    }
    Ok(())
}

const DEFAULT_LASTING: Duration = Duration::from_secs(24 * 60 * 60);
