//! What the program says to, and knows of, the person in front of it.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Mutex,
};

use anyhow::Context;
use hark_keys::{DeviceId, Ticket, TicketError};
use hark_mesh::clean_name;
use hark_node::{
    signals::owns_terminal,
    store::{AskPassphrase, Home, OrganisationStore},
};
use zeroize::Zeroizing;

use crate::HomeArguments;

/// One line on standard error.
pub(crate) fn complain(line: &str) {
    // There is nowhere else to complain.
    let _ = writeln!(io::stderr(), "hark: {}", line.replace('\n', " "));
}

/// One line on standard output. Whoever has stopped reading is not told.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a value for scripts.
pub(crate) fn say_json(value: &serde_json::Value) {
    say(&value.to_string());
}

/// The folder that was asked for, or the platform's.
pub(crate) fn home_path(arguments: &HomeArguments) -> anyhow::Result<PathBuf> {
    match &arguments.home {
        Some(path) => Ok(path.clone()),
        None => Home::default_path().context("this account has no home directory: use --home"),
    }
}

/// Opens the folder that was asked for.
pub(crate) fn open_home(arguments: &HomeArguments) -> anyhow::Result<Home> {
    Ok(Home::open(&home_path(arguments)?, ask_passphrase())?)
}

/// The organisation that was asked for, or the only one.
pub(crate) fn choose(home: &Home, name: Option<&str>) -> anyhow::Result<OrganisationStore> {
    home.choose(name)?.context(
        "this device belongs to no organisation: found one with `hark new NAME`, or join one with \
         `hark join TICKET`",
    )
}

/// From `HARK_PASSPHRASE`, or asked for at the terminal, once.
pub(crate) fn ask_passphrase() -> AskPassphrase {
    let known: Mutex<Option<Zeroizing<String>>> = Mutex::new(None);
    Box::new(move || {
        let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.is_none() {
            *known = match std::env::var("HARK_PASSPHRASE") {
                Ok(passphrase) => Some(Zeroizing::new(passphrase)),
                Err(_) if io::stdin().is_terminal() && owns_terminal() => {
                    rpassword::prompt_password("Passphrase of the key file: ")
                        .ok()
                        .map(Zeroizing::new)
                }
                Err(_) => None,
            };
        }
        known.as_deref().cloned()
    })
}

/// The name to show others: as given, as given last time, or as the system calls this person.
pub(crate) fn shown_name(given: Option<&str>, home: &Home) -> anyhow::Result<String> {
    if let Some(given) = given {
        let name = clean_name(given);
        anyhow::ensure!(!name.is_empty(), "a name needs at least one letter");
        home.keep_name(&name)?;
        return Ok(name);
    }
    if let Some(name) = home.name()? {
        return Ok(clean_name(&name));
    }
    let login = ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .map(|name| clean_name(&name))
        .find(|name| !name.is_empty());
    match login {
        Some(name) => Ok(name),
        None => Ok(format!("device-{}", home.device(&hark_node::random::SystemRandom)?.short())),
    }
}

/// The ticket of this text, which may have been broken into lines by a screen or a letter.
pub(crate) fn parse_ticket(text: &str) -> Result<Ticket, TicketError> {
    text.split_whitespace().collect::<String>().parse()
}

/// The words of a device, in one line.
pub(crate) fn words(device: DeviceId) -> String {
    hark_keys::device_words(device).join(" ")
}
