//! Reads and edits the charter: through the local API of a running node, or else in the store.

mod stored_host;

use anyhow::{Context, ensure};
use hark_commands::{DeviceRequest, Host, InputFile, Outcome, Request, RootRequest, TicketRequest};
use hark_keys::{RecoverySecret, Ticket};
use hark_node::{
    clock::Clock,
    control::{Client, ControlError},
    event::TicketView,
    logbook::{self, What},
    random::SystemRandom,
    store::{Home, OrganisationStore},
};
use serde_json::json;

use self::stored_host::StoredHost;
use crate::{
    HomeArguments,
    addresses::settle_addresses,
    outcome,
    person::{choose, open_home, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct CharterArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME", global = true)]
    org: Option<String>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Sign by the printed recovery key, whose words are asked for
    #[arg(long)]
    recovery: bool,
    #[command(subcommand)]
    request: Request,
}

pub(crate) fn run(arguments: CharterArguments) -> anyhow::Result<()> {
    let mut request = arguments.request;
    if let Some(input) = request.input() {
        input.content = read(&input.path)?;
    }
    let home = open_home(&arguments.home)?;
    let outcome = match request {
        Request::Sign { file } | Request::Root(RootRequest::Sign { file })
            if arguments.recovery =>
        {
            // A draft can be signed on a machine that has not stored the organisation.
            let store = home.choose(arguments.org.as_deref()).ok().flatten();
            sign_by_recovery_key(&file, store.as_ref())?
        }
        _ if arguments.recovery => anyhow::bail!("--recovery goes with `sign` alone"),
        // This device may not belong to any organisation yet.
        Request::Device(DeviceRequest::Consent { code }) => {
            let key = home.next_key(&SystemRandom)?;
            hark_commands::consent(&key, &code)?
        }
        request => carry_out(&home, &choose(&home, arguments.org.as_deref())?, request)?,
    };
    show(&outcome, arguments.json)
}

/// Writes the file of an outcome, if it has one, to the path in the request, and prints the rest.
pub(crate) fn show(outcome: &Outcome, as_json: bool) -> anyhow::Result<()> {
    if let Some(file) = outcome.file() {
        std::fs::write(&file.path, &file.content)
            .with_context(|| format!("cannot write {}", file.path))?;
    }
    if as_json {
        say_json(&outcome::json(outcome));
    } else {
        say(&outcome::text(outcome));
    }
    Ok(())
}

/// Carries out a request: by the running node, which informs the others at once, or else on what is
/// stored.
pub(crate) fn carry_out(
    home: &Home,
    store: &OrganisationStore,
    request: Request,
) -> anyhow::Result<Outcome> {
    if let Some(description) = store.control()? {
        match Client::connect(&description) {
            Ok(mut client) => {
                let answer = client.request(json!({"command": "charter", "request": request}))?;
                return Ok(serde_json::from_value(answer["answer"].clone())?);
            }
            Err(ControlError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(hark_commands::execute(&mut StoredHost::open(home, store)?, request)?)
}

/// Issues a ticket from what is stored. It leads to where the members were last reached, and to
/// this device.
pub(crate) fn stored_ticket(
    home: &Home,
    store: &OrganisationStore,
    request: &TicketRequest,
) -> anyhow::Result<Ticket> {
    let host = StoredHost::open(home, store)?;
    let own = host.addresses(host.key().id());
    let own = if own.is_empty() { settle_addresses(store)? } else { own };
    let ticket = hark_commands::issue_ticket(&host, Clock.unix(), request, own, host.doors())?;
    host.keep_ticket(&ticket)?;
    let by = host.name_of(store.member());
    let issued = What::Ticket { ticket: TicketView::issued(ticket.invite(), by) };
    logbook::add(store.folder(), issued).context("the log cannot be written")?;
    Ok(ticket)
}

fn sign_by_recovery_key(
    file: &InputFile,
    store: Option<&OrganisationStore>,
) -> anyhow::Result<Outcome> {
    let words = rpassword::prompt_password("The 24 words of the recovery key: ")
        .map(zeroize::Zeroizing::new)
        .context("the words are asked for at a terminal")?;
    let secret: RecoverySecret = words.trim().parse()?;
    let charter = store.map(|store| &**store.charter());
    Ok(hark_commands::sign_with(&secret.key(), charter, file)?)
}

fn read(path: &str) -> anyhow::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {path}"))?;
    ensure!(metadata.len() <= FILE_MAX_BYTES, "{path} is too long to be a charter");
    std::fs::read(path).with_context(|| format!("cannot read {path}"))
}

/// Maximum size in bytes of a file that is read: the longest charter.
const FILE_MAX_BYTES: u64 = 32 << 20;
