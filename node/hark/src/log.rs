//! `hark log`: who came, left and talked, and who was given what.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail};
use clap::ValueEnum;
use hark_command_line::duration;
use hark_commands::{ChannelRequest, Outcome, Request};
use hark_node::{
    clock::Clock,
    logbook::{self, LogbookEntry},
};
use serde_json::json;

use crate::{
    HomeArguments,
    charter::carry_out,
    person::{choose, open_home, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct LogArguments {
    /// Keep no log of this organisation from now on, keep one again, or remove what is kept
    #[arg(value_enum)]
    action: Option<Action>,
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Only of this time until now (30m, 24h, 7d)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Only of members whose names contain this
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Only of this net: its name or path
    #[arg(long, value_name = "NET")]
    net: Option<String>,
    /// Print JSON: a list of entries
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Action {
    /// Keep no log from now on
    Off,
    /// Keep a log
    On,
    /// Remove what is kept
    Clear,
}

pub(crate) fn run(arguments: LogArguments) -> anyhow::Result<()> {
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let (folder, name) = (store.folder(), store.charter().name());
    let selects = arguments.since.is_some() || arguments.of.is_some() || arguments.net.is_some();
    if let Some(action) = arguments.action {
        if selects {
            bail!(
                "--since, --of and --net choose what is shown: name them without off, on or clear"
            );
        }
        let line = match action {
            Action::Off => {
                logbook::set_off(folder, true)?;
                format!(
                    "no log of {name} is kept from now on; `hark log clear` removes the old one"
                )
            }
            Action::On => {
                logbook::set_off(folder, false)?;
                format!("a log of {name} is kept from now on")
            }
            Action::Clear => {
                logbook::clear(folder)?;
                format!("the log of {name} is removed")
            }
        };
        if arguments.json {
            say_json(&json!({"org": store.id().to_string(), "log": !logbook::is_off(folder)}));
        } else {
            say(&line);
        }
        return Ok(());
    }
    let since = arguments.since.map_or(0, |since| {
        Clock.unix_micros().saturating_sub(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    });
    let mut entries = logbook::read(folder).context("the log cannot be read")?;
    if let Some(name) = &arguments.of
        && !entries.iter().any(|entry| entry.is_of(name))
    {
        bail!(
            "nobody in the log is called {name:?}: {}",
            known(entries.iter().flat_map(LogbookEntry::names))
        );
    }
    if let Some(net) = &arguments.net
        && !entries.iter().any(|entry| entry.is_on(net))
    {
        // A net without entries in the log is a net nevertheless.
        let listed = carry_out(&home, &store, Request::Channel(ChannelRequest::List))?;
        let channels = if let Outcome::Channels(channels) = listed { channels } else { Vec::new() };
        let paths: Vec<_> = channels.iter().map(|it| it.channel.path.as_str()).collect();
        if !paths.iter().any(|path| logbook::is_called(path, net)) {
            let nets = entries.iter().flat_map(LogbookEntry::nets).chain(paths);
            bail!("no net is called {net:?}: {}", known(nets));
        }
    }
    entries.retain(|entry| {
        entry.at_us >= since
            && arguments.of.as_ref().is_none_or(|name| entry.is_of(name))
            && arguments.net.as_ref().is_none_or(|net| entry.is_on(net))
    });
    if arguments.json {
        say_json(&json!(entries));
        return Ok(());
    }
    let lines: Vec<_> = entries.iter().map(LogbookEntry::describe).collect();
    match (lines.is_empty(), logbook::is_off(folder)) {
        (true, true) => say(&format!("no log of {name} is kept: `hark log on` begins one")),
        (true, false) if selects => say("nothing of that is in the log at that time"),
        (true, false) => say("nothing is in the log yet: `hark talk` writes it"),
        (false, _) => say(&lines.join("\n")),
    }
    Ok(())
}

/// The names that could have been meant, as a hint.
fn known<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<_> = names.collect();
    let more = names.len().saturating_sub(KNOWN_MAX);
    let named: Vec<_> = names.into_iter().take(KNOWN_MAX).collect();
    match (named.is_empty(), more) {
        (true, _) => "there is none yet".to_owned(),
        (false, 0) => format!("there are {}", named.join(", ")),
        (false, more) => format!("there are {} and {more} more", named.join(", ")),
    }
}

/// How many names the answer to a mistyped one lists.
const KNOWN_MAX: usize = 12;
