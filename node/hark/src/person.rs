//! What the program prints for, asks of, and knows about the person who uses it.

use std::{
    fs::File,
    io::{self, BufRead, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use hark_keys::{DeviceId, Ticket, TicketError};
use hark_node::{
    clock::Clock,
    network::TellJoining,
    signals::owns_terminal,
    store::{AskPassphrase, Home, OrganisationStore},
};
use zeroize::Zeroizing;

use crate::HomeArguments;

pub(crate) use hark_command_line::{
    news::{counted, span},
    person::{fitting_name, shown_name},
};

/// Prints one line on standard error.
pub(crate) fn complain(line: &str) {
    // If this fails, there is no other place to report it.
    let _ = writeln!(io::stderr(), "hark: {}", line.replace('\n', " "));
}

/// Prints one line on standard output. Does nothing if the reader has closed it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a value for scripts.
pub(crate) fn say_json(value: &serde_json::Value) {
    say(&value.to_string());
}

/// The folder that was requested, or the platform's default.
pub(crate) fn home_path(arguments: &HomeArguments) -> anyhow::Result<PathBuf> {
    match &arguments.home {
        Some(path) => Ok(path.clone()),
        None => Home::default_path().context("this account has no home directory: use --home"),
    }
}

/// Opens the folder that was requested.
pub(crate) fn open_home(arguments: &HomeArguments) -> anyhow::Result<Home> {
    Ok(Home::open(&home_path(arguments)?, ask_passphrase())?)
}

/// The requested organisation, or the only one.
pub(crate) fn choose(home: &Home, name: Option<&str>) -> anyhow::Result<OrganisationStore> {
    home.choose(name)?.context(
        "this device belongs to no organisation: found one with `hark new NAME`, or join one with \
         `hark join TICKET`",
    )
}

/// Takes the passphrase from `HARK_PASSPHRASE`, or asks for it at the terminal, once.
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

/// Like [`shown_name`], but asks for the name at a terminal if none is stored yet.
pub(crate) fn ask_name(
    given: Option<&str>,
    home: &Home,
    ticket: Option<&Ticket>,
) -> anyhow::Result<String> {
    let same_person = ticket.is_some_and(|ticket| ticket.invite().member.is_some());
    let at_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    let asks = given.is_none() && !same_person && at_terminal && owns_terminal();
    if !asks || home.name()?.is_some() {
        return shown_name(given, home, ticket);
    }
    let usual = shown_name(None, home, ticket)?;
    let mut typed = String::new();
    // If the question cannot be written, an empty answer means the usual name.
    let _ = write!(io::stderr(), "Your name, as the others will see it [{usual}]: ");
    io::stdin().lock().take(NAME_LINE_MAX).read_line(&mut typed)?;
    let typed = typed.trim();
    shown_name(Some(if typed.is_empty() { &usual } else { typed }), home, ticket)
}

/// Reads the ticket that the arguments contain, even if a screen or a letter has broken it up. The
/// arguments may also name a file that contains it, or be `-` for standard input.
pub(crate) fn read_ticket(words: &[String]) -> anyhow::Result<Ticket> {
    let text = words.join(" ");
    if text == "-" {
        let input = io::stdin().lock();
        return Ok(Ticket::find(&bounded(input).context("standard input cannot be read")?)?);
    }
    let path = Path::new(&text);
    match Ticket::find(&text) {
        Err(TicketError::NotATicket) if path.exists() && !path.is_dir() => {
            let file = File::open(path).with_context(|| text.clone())?;
            let held = bounded(file).with_context(|| text.clone())?;
            Ticket::find(&held).with_context(|| text.clone())
        }
        Err(TicketError::NotATicket) if path.is_dir() => {
            anyhow::bail!("{text} is a folder: name a file that holds a ticket, or the ticket")
        }
        Err(TicketError::NotATicket) if looks_like_path(&text) => {
            anyhow::bail!("there is no file {text}: name one that holds a ticket, or the ticket")
        }
        found => Ok(found?),
    }
}

/// Whether a text that is not a ticket looks like a path: with a folder, or with a file extension.
fn looks_like_path(text: &str) -> bool {
    let path = Path::new(text);
    path.components().count() > 1 || path.extension().is_some_and(|it| !it.is_empty())
}

/// Reads a text that contains a ticket, as far as its allowed length and one byte more. A longer
/// text is then refused.
fn bounded(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(TICKET_TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Informs a person who waits at the terminal of how joining proceeds. Scripts see only the result.
pub(crate) fn tell_joining() -> Option<TellJoining> {
    let tell: TellJoining = Arc::new(|line| {
        let _ = writeln!(io::stderr(), "{line}");
    });
    io::stderr().is_terminal().then_some(tell)
}

/// How long a ticket is still valid.
pub(crate) fn lasting(ticket: &Ticket) -> Duration {
    let expires = ticket.invite().expires.as_secs();
    Duration::from_secs(expires.saturating_sub(Clock.unix().as_secs()))
}

/// The verification words of a device, in one line.
pub(crate) fn words(device: DeviceId) -> String {
    hark_keys::device_words(device).join(" ")
}

/// Maximum length in bytes of a line with a name. Anything beyond it is not read.
const NAME_LINE_MAX: u64 = 1024;

/// Maximum length in bytes of a text with a ticket, plus one.
const TICKET_TEXT_MAX: u64 = (16 << 10) + 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// A mistyped path was answered with `this is no ticket`.
    #[test]
    fn a_file_that_is_not_there_was_called_no_ticket() {
        let read = |text: &str| read_ticket(&[text.to_owned()]).expect_err("none").to_string();
        for path in ["/tmp/nofile", "mail.txt", "../mail"] {
            assert!(read(path).starts_with(&format!("there is no file {path}: ")), "{path}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().to_str().expect("a plain path");
        assert!(read(folder).starts_with(&format!("{folder} is a folder: ")));
        assert!(read("swordfish").starts_with("this is no ticket: "));
    }
}
