//! `hark recover`: the same member again on a new machine, by the printed words.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_charter::EditError;
use hark_keys::{OrganisationId, RecoverySecret};
use hark_node::{
    node::{Node, NodeConfig},
    recovery::{Recovered, recover},
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    HomeArguments,
    membership::{come_in, knows_others, say_recovery, silent},
    person::{choose, open_home, read_ticket, say, say_json, shown_name},
};

#[derive(clap::Args)]
pub(crate) struct RecoverArguments {
    /// An invite into the organisation, of any member's, or a file that holds it
    #[arg(required = true)]
    ticket: Vec<String>,
    #[command(flatten)]
    home: HomeArguments,
    /// The name shown to others, from now on
    #[arg(long)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: RecoverArguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.ticket != ["-"],
        "the 24 words come from standard input: write the ticket out"
    );
    let ticket = read_ticket(&arguments.ticket)?;
    anyhow::ensure!(
        ticket.invite().member.is_none(),
        "this ticket makes a machine one of yours without any words: `hark join` takes it"
    );
    let key = ask_words()?.key();
    let home = open_home(&arguments.home)?;
    let organisation = ticket.invite().organisation;
    let is_known = || {
        let store = home.find(organisation)?;
        let known =
            |charter: &hark_charter::Charter| charter.member_recovered_by(key.id()).is_some();
        anyhow::Ok(store.is_some_and(|store| known(store.charter())))
    };
    // The charter must list this device first. Until then it can issue no operation, since no other
    // device holds its certificate.
    let is_listed = || {
        let Some(store) = home.find(organisation)? else { return Ok(false) };
        let own = home.key(&store)?.id();
        let draft = store.charter().draft(own, store.member(), Vec::new(), Vec::new());
        anyhow::Ok(!matches!(draft, Err(EditError::Unlisted)))
    };
    if !is_known()? {
        // The device joins as a newcomer first, to receive the charter. The charter shows whose
        // words these are.
        let name = arguments.name.as_deref();
        come_in(&arguments.home, &home, ticket, name, false, None, |_| {
            Ok(is_known()? && is_listed()? && knows_others(&home, organisation)?)
        })?;
    }
    let store = home.find(organisation)?.context("nobody admitted this device: ask again")?;
    let Recovered { member, retired, replaced, roots } = recover(&home, &store, &key)?;
    let name = store.charter().name();
    let told = if retired.is_empty() {
        Vec::new()
    } else {
        let shown = shown_name(arguments.name.as_deref(), &home, None)?;
        tell_others(&arguments.home, organisation, shown)?
    };
    if arguments.json {
        say_json(&json!({
            "org": store.id().to_string(),
            "name": name,
            "device": home.key(&store)?.id().to_string(),
            "member": member.to_string(),
            "retired": retired.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "told": told,
            "replaced_root_keys": replaced.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "root_keys": roots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    say(&format!("you are yourself again in {name}: talk with `hark talk`"));
    for device in &retired {
        say(&format!("retired  {device}"));
    }
    match told.as_slice() {
        [] if retired.is_empty() => {}
        [] => say("nobody answers now who could hear of it: the lost machine acts for you until \
                   `hark talk` runs here and meets somebody"),
        some => {
            say(&format!("told     {}: the lost machine is shut out there now", some.join(", ")));
        }
    }
    if !replaced.is_empty() {
        say("this device is a root key of the organisation in the place of the one that is gone");
    }
    if !roots.is_empty() {
        say("a device that you have lost is a root key of the organisation still: `hark charter \
             root --help` says how to replace it, with the same words");
    }
    Ok(())
}

/// Runs a node until the members who answer have had time to receive the news. Returns their names.
fn tell_others(
    arguments: &HomeArguments,
    organisation: OrganisationId,
    name: String,
) -> anyhow::Result<Vec<String>> {
    let organisations = vec![organisation.to_string()];
    let node = Node::start(NodeConfig { organisations, name, ..silent(arguments)? })?;
    let until = Instant::now() + ANSWERS_WITHIN;
    let mut met_at = None;
    let mut names = Vec::new();
    while Instant::now() < until && met_at.is_none_or(|at: Instant| at.elapsed() < HEARD_WITHIN) {
        if let Some(snapshot) = node.snapshot() {
            let here = snapshot.peers.iter().filter(|peer| peer.reachable);
            let here: Vec<_> = here.map(|peer| peer.name.clone()).collect();
            if !here.is_empty() {
                met_at.get_or_insert_with(Instant::now);
                names = here;
            }
        }
        std::thread::sleep(TURN);
    }
    node.stop("quit")?;
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads the words from the terminal, or else from standard input.
fn ask_words() -> anyhow::Result<RecoverySecret> {
    let words = if io::stdin().is_terminal() {
        rpassword::prompt_password("The 24 words: ").map(Zeroizing::new)
    } else {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().take(WORDS_MAX).read_line(&mut line).map(|_| line)
    };
    let words = words.context("the words are asked for at a terminal, or read from its input")?;
    words.parse().context("these are not the 24 words of a recovery key: check each of them")
}

/// Maximum length in bytes of the words that are read.
const WORDS_MAX: u64 = 1024;

/// How long to wait for others to answer, and how long they then have to receive the news. What a
/// link sends at once takes a few round trips.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// How often to check who answers.
const TURN: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct RecoveryArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Keep the words on this device no more, now that they are on paper
    #[arg(long)]
    forget: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `hark recovery`: prints the words of a member who founded or joined by `hark talk`, which prints
/// none.
pub(crate) fn words(arguments: RecoveryArguments) -> anyhow::Result<()> {
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let name = store.charter().name();
    let secret = home.recovery(&store)?.with_context(|| {
        format!(
            "no recovery words of {name} are kept on this device: they were printed when it founded \
             or joined, or it is a further machine of somebody who has them"
        )
    })?;
    if arguments.forget {
        home.forget_recovery(&store)?;
    }
    if arguments.json {
        say_json(&json!({
            "org": store.id().to_string(),
            "name": name,
            "recovery": (!arguments.forget).then(|| secret.to_string()),
        }));
    } else if arguments.forget {
        say(&format!("the words of {name} are on this device no more"));
    } else {
        say_recovery(&secret, store.charter(), false);
        say("\nOnce they are on paper: `hark recovery --forget`.");
    }
    Ok(())
}
