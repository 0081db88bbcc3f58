//! `hark leave` and `hark forget`: leaving an organisation, and removing it from this device.

use std::{
    io::{self, BufRead, IsTerminal},
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_commands::{DeviceRequest, How, Request};
use hark_keys::DeviceId;
use hark_node::{
    control::{Client, ControlError},
    node::{Node, NodeConfig},
    store::{Home, OrganisationStore, StoreError},
};
use serde_json::json;

use crate::{
    HomeArguments,
    charter::carry_out,
    membership::silent,
    person::{choose, open_home, say, say_json, shown_name},
};

#[derive(clap::Args)]
pub(crate) struct LeaveArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ForgetArguments {
    /// The organisation, by its name or id
    #[arg(value_name = "NAME")]
    org: String,
    #[command(flatten)]
    home: HomeArguments,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Retires this device and every other device of the person that it may retire, informs the others,
/// and removes the organisation from this device.
pub(crate) fn leave(arguments: LeaveArguments) -> anyhow::Result<()> {
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let (name, device) = (store.charter().name().to_owned(), home.key(&store)?.id());
    let again = match home.recovery(&store)? {
        Some(_) => {
            "Only a ticket that is still good, or the words of `hark recovery`, lets you in again"
        }
        None => "Only a ticket that is still good, or your printed words, lets you in again",
    };
    let root = match store.charter().is_root(device) {
        true => ", and as this device is a root key, what takes one takes another from then on",
        false => "",
    };
    confirm(&format!("Leave {name}? {again}{root}."), arguments.yes)?;
    let mut devices = store.charter().devices_of(store.member());
    anyhow::ensure!(
        devices.contains(&device),
        "this device does not belong to {name} any more: `hark forget` removes what is left"
    );
    // This device comes last: once it is retired, it can sign nothing more.
    devices.sort_by_key(|it| *it == device);
    let remain = if is_running(&store)? {
        retire(&devices, device, |request| carry_out(&home, &store, request).map(drop))?
    } else {
        leave_by_own_node(&arguments.home, &home, &store, &devices, device)?
    };
    forget_soon(&home, &store)?;
    if arguments.json {
        let remain: Vec<_> = remain.iter().map(ToString::to_string).collect();
        say_json(&json!({"org": store.id().to_string(), "name": name, "remain": remain}));
        return Ok(());
    }
    say(&format!("you have left {name}: nothing of it is on this device any more"));
    for device in remain {
        say(&format!("another machine of yours belongs still, which is older: {device}"));
    }
    Ok(())
}

/// Removes what this device stores of an organisation. To the others, its member is merely away.
pub(crate) fn forget(arguments: ForgetArguments) -> anyhow::Result<()> {
    let home = open_home(&arguments.home)?;
    let store = choose(&home, Some(&arguments.org))?;
    let name = store.charter().name();
    let question = format!(
        "Remove {name} from this device, with its identity there? The others are not told: \
         `hark leave` does that. Only a ticket that is still good lets you in again, as somebody new."
    );
    confirm(&question, arguments.yes)?;
    home.forget(&store)?;
    if arguments.json {
        say_json(&json!({"org": store.id().to_string(), "name": name}));
    } else {
        say(&format!("{name} ({}) is on this device no more", store.id().short()));
    }
    Ok(())
}

/// Asks at the terminal, unless `--yes` was given.
fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    anyhow::ensure!(io::stdin().is_terminal(), "this cannot be undone: say --yes if you mean it");
    say(&format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    anyhow::ensure!(yes, "nothing is changed");
    Ok(())
}

fn is_running(store: &OrganisationStore) -> anyhow::Result<bool> {
    let Some(description) = store.control()? else { return Ok(false) };
    match Client::connect(&description) {
        Ok(_) => Ok(true),
        Err(ControlError::NotRunning) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Retires all `devices` of a person, `own` last. Returns those that this device may not retire.
fn retire(
    devices: &[DeviceId],
    own: DeviceId,
    mut ask: impl FnMut(Request) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<DeviceId>> {
    let mut remain = Vec::new();
    for device in devices {
        let how = How { dry_run: false, draft: None, cosigner: Vec::new() };
        let request = DeviceRequest::Retire { device: device.to_string(), how };
        match ask(Request::Device(request)) {
            Ok(()) => {}
            Err(error) if *device == own => return Err(error),
            Err(_) => remain.push(*device),
        }
    }
    Ok(remain)
}

/// Retires the devices by a node that runs for this alone. Another member must answer, so that
/// somebody learns of it. Returns the devices that this one may not retire.
fn leave_by_own_node(
    arguments: &HomeArguments,
    home: &Home,
    store: &OrganisationStore,
    devices: &[DeviceId],
    own: DeviceId,
) -> anyhow::Result<Vec<DeviceId>> {
    let name = store.charter().name();
    let node = Node::start(NodeConfig {
        organisations: vec![store.id().to_string()],
        name: shown_name(None, home, None)?,
        ..silent(arguments)?
    })?;
    let meets = |node: &Node| {
        node.snapshot().is_some_and(|snapshot| snapshot.peers.iter().any(|peer| peer.reachable))
    };
    let met = waits(ANSWERS_WITHIN, || meets(&node) || node.has_ended()) && !node.has_ended();
    anyhow::ensure!(
        met,
        "nobody of {name} answers now, so nobody would hear that you leave: do it while somebody \
         runs, or `hark forget` removes it from this device alone"
    );
    // A new link passes on changes only once each side knows what the other one listens to.
    std::thread::sleep(ACQUAINTED_AFTER);
    let handle = node.handles().next().context("it is in one organisation")?;
    let remain = retire(devices, own, |request| {
        handle.charter(request).map(drop).map_err(anyhow::Error::msg)
    })?;
    // The node ends by itself once its device no longer belongs to the organisation.
    waits(ENDS_WITHIN, || node.has_ended());
    Ok(remain)
}

/// Removes the organisation once its running node has ended, as a node does after its own device
/// has been retired.
fn forget_soon(home: &Home, store: &OrganisationStore) -> anyhow::Result<()> {
    waits(ENDS_WITHIN, || !matches!(store.lock(), Err(StoreError::Running(_))));
    Ok(home.forget(store)?)
}

/// Waits for at most `patience` until `is_so` returns true. Returns whether it did.
fn waits(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(TURN);
    }
}

/// How long to wait for a member who answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How long after its link is open a peer receives gossip.
const ACQUAINTED_AFTER: Duration = Duration::from_secs(1);

/// How long a node takes to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How often a condition is checked.
const TURN: Duration = Duration::from_millis(50);
