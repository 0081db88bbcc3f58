//! `hark recover`: the same member again, on a new machine, by the printed words.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::Context;
use hark_keys::RecoverySecret;
use hark_node::recovery::{Recovered, recover};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    HomeArguments,
    membership::{come_in, knows_others},
    person::{open_home, parse_ticket, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct RecoverArguments {
    /// An invite into the organisation, of any member's
    ticket: String,
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
    let ticket = parse_ticket(&arguments.ticket)?;
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
            |charter: &hark_mesh::charter::Charter| charter.member_recovered_by(key.id()).is_some();
        anyhow::Ok(store.is_some_and(|store| known(store.charter())))
    };
    if !is_known()? {
        // As a newcomer it is shown the charter, which says whose words these are.
        let name = arguments.name.as_deref();
        come_in(&arguments.home, &home, ticket, name, false, None, |_| {
            Ok(is_known()? && knows_others(&home, organisation)?)
        })?;
    }
    let store = home.find(organisation)?.context("nobody admitted this device: ask again")?;
    let Recovered { member, retired, replaced, roots } = recover(&home, &store, &key)?;
    let name = store.charter().name();
    if arguments.json {
        say_json(&json!({
            "org": store.id().to_string(),
            "name": name,
            "device": home.key(&store)?.id().to_string(),
            "member": member.to_string(),
            "retired": retired.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "replaced_root_keys": replaced.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "root_keys": roots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    say(&format!("you are yourself again in {name}: talk with `hark talk`"));
    for device in &retired {
        say(&format!("retired  {device}"));
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

/// At the terminal, or from standard input where that is none.
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

/// Bytes of the words that are read; longer text is none.
const WORDS_MAX: u64 = 1024;
