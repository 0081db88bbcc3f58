//! The commands and flags, as scripts rely on them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hark_node::{
    device::{InputSpec, OutputSpec},
    snapshot::TransmitMode,
    store::Home,
};

/// Group voice with no server.
#[derive(Parser)]
#[command(name = "hark", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Show this device's identity and the words by which others can check it
    Id(Identity),
    /// Found a squad or organisation and print its first invite ticket
    New(New),
    /// Print an invite ticket
    Invite(Invite),
    /// Join by a ticket
    Join(Join),
    /// Join if a ticket is given, then talk until stopped; with neither ticket nor organisation,
    /// found a squad and print its ticket
    Talk(Box<Talk>),
}

#[derive(Args)]
pub(crate) struct HomeArgument {
    /// State of this device [default: the platform's data folder]
    #[arg(long, env = "HARK_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
}

impl HomeArgument {
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        self.home
            .clone()
            .or_else(Home::default_path)
            .ok_or_else(|| anyhow::anyhow!("there is no home folder: name one with --home"))
    }

    pub(crate) fn open(&self) -> anyhow::Result<Home> {
        Ok(Home::open(&self.path()?, Box::new(ask_passphrase))?)
    }
}

/// From `HARK_PASSPHRASE`, or at the terminal.
pub(crate) fn ask_passphrase() -> Option<String> {
    match std::env::var("HARK_PASSPHRASE") {
        Ok(passphrase) => Some(passphrase),
        Err(_) => rpassword::prompt_password("Passphrase of the key file: ").ok(),
    }
}

#[derive(Args)]
pub(crate) struct Identity {
    #[command(flatten)]
    pub(crate) home: HomeArgument,
    /// Protect the key files by a passphrase, or change it; an empty one takes it away
    #[arg(long)]
    pub(crate) set_passphrase: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct New {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) home: HomeArgument,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Invite {
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) org: Option<String>,
    /// How many devices it admits; this device must be running then [default: any number]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) uses: u8,
    /// When it ends: 30m, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub(crate) expires: Duration,
    #[command(flatten)]
    pub(crate) home: HomeArgument,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Join {
    /// What a member has printed with `hark invite`
    pub(crate) ticket: String,
    #[command(flatten)]
    pub(crate) home: HomeArgument,
    #[command(flatten)]
    pub(crate) who: Name,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Name {
    /// The name shown to others [default: the login name]
    #[arg(long)]
    name: Option<String>,
}

impl Name {
    pub(crate) fn get(&self) -> String {
        let login = || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|key| std::env::var(key).ok());
        self.name.clone().or_else(login).unwrap_or_else(|| "somebody".to_owned())
    }
}

#[derive(Args)]
pub(crate) struct Network {
    /// Where to listen; repeatable [default: any address, any port, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// An address worth trying; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) peer: Vec<SocketAddr>,
    /// Do not look on the LAN
    #[arg(long)]
    pub(crate) no_mdns: bool,
}

#[derive(Args)]
pub(crate) struct Talk {
    /// What a member has printed with `hark invite`
    pub(crate) ticket: Option<String>,
    #[command(flatten)]
    pub(crate) home: HomeArgument,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) org: Option<String>,
    #[command(flatten)]
    pub(crate) who: Name,
    /// mic, mic:NAME, file:PATH, file:PATH?loop, silence
    #[arg(long, value_name = "SPEC", default_value = "mic")]
    pub(crate) input: InputSpec,
    /// speaker, speaker:NAME, file:PATH, null
    #[arg(long, value_name = "SPEC", default_value = "speaker")]
    pub(crate) output: OutputSpec,
    #[command(flatten)]
    pub(crate) network: Network,
    /// What opens the microphone
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Vad)]
    pub(crate) transmit: Mode,
    /// 5 ms frames, smallest buffers
    #[arg(long)]
    pub(crate) low_delay: bool,
    /// Stop by itself: 30s, 2m
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lasting: Option<Duration>,
    /// Write events as JSON lines, - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Always open
    Open,
    /// Opened by voice
    Vad,
    /// While the key is down
    Ptt,
}

impl From<Mode> for TransmitMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Open => Self::Open,
            Mode::Vad => Self::Vad,
            Mode::Ptt => Self::Ptt,
        }
    }
}

/// A number and `s`, `m`, `h` or `d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 30s, 2m, 24h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let (number, seconds) = match unit {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3_600.0),
        'd' => (&text[..text.len() - 1], 86_400.0),
        '0'..='9' => (text, 1.0),
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        for wrong in ["", "s", "-1s", "1w", "one", "1e300h", "ü"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
