//! The configuration file that the operator writes.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use hark_charter::clean_name;
use hark_keys::OrganisationId;
use serde::Deserialize;
use toml::Spanned;

use crate::state::Quotas;

/// The contents of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The address and first port for organisations that have no port of their own. They listen on
    /// this port and those after it.
    pub listen: Option<SocketAddr>,
    /// The address where the admin API listens.
    pub admin: Option<SocketAddr>,
    /// The format of the log.
    pub log: LogFormat,
    /// The organisations that the relay serves.
    pub organisations: BTreeMap<OrganisationId, OrganisationConfig>,
}

/// One `[[organisation]]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrganisationConfig {
    /// The operator's name for the organisation.
    pub name: Option<String>,
    /// The port where the organisation is served. No two organisations may have the same.
    pub port: Option<u16>,
    /// How much the organisation may use.
    pub quotas: Quotas,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain lines for people.
    #[default]
    Plain,
    /// One JSON object per line.
    Json,
}

/// Why a configuration cannot be used: the file, the line if there is one, and what to do.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    text: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    listen: Option<Spanned<toml::Value>>,
    admin: Option<Spanned<toml::Value>>,
    #[serde(default)]
    log: LogFormat,
    #[serde(default)]
    organisation: Vec<TenantEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantEntry {
    id: Spanned<String>,
    name: Option<Spanned<String>>,
    port: Option<Spanned<u16>>,
    #[serde(default)]
    quotas: Quotas,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let whole = |text: String| ConfigError { path: path.to_owned(), line: None, text };
        let text = std::fs::read_to_string(path).map_err(|error| whole(error.to_string()))?;
        Self::read(path, &text)
    }

    /// Reads and checks the text of a file; `path` is used in errors.
    pub fn read(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let at = |span: Option<Range<usize>>, what: String| {
            let before = span.and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            ConfigError { path: path.to_owned(), line, text: what }
        };
        let contents: Contents = toml::from_str(text)
            .map_err(|error| at(error.span(), error.message().trim().replace('\n', ", ")))?;
        let mut organisations = BTreeMap::new();
        let mut ports = BTreeMap::new();
        for TenantEntry { id, name, port, quotas } in contents.organisation {
            let span = id.span();
            let id: OrganisationId = id.get_ref().parse().map_err(|_| {
                let id = id.get_ref();
                at(
                    Some(span.clone()),
                    format!(
                        "{id:?} is no organisation's id: one of its members sees it with \
                         `hark charter show`"
                    ),
                )
            })?;
            if let Some(port) = &port
                && *port.get_ref() != 0
                && let Some(other) = ports.insert(*port.get_ref(), id)
            {
                let what = format!(
                    "port {} is {}'s already: each organisation has a port of its own",
                    port.get_ref(),
                    other.short()
                );
                return Err(at(Some(port.span()), what));
            }
            let name = match name {
                None => None,
                Some(name) => match check_name(name.get_ref()) {
                    Ok(clean) => Some(clean),
                    Err(what) => return Err(at(Some(name.span()), what)),
                },
            };
            let port = port.map(Spanned::into_inner);
            let config = OrganisationConfig { name, port, quotas };
            if organisations.insert(id, config).is_some() {
                let what = format!("{} stands here twice: remove one", id.short());
                return Err(at(Some(span), what));
            }
            if organisations.len() > ORGANISATIONS_MAX {
                let what = format!(
                    "a relay serves at most {ORGANISATIONS_MAX} organisations: run another one"
                );
                return Err(at(Some(span), what));
            }
        }
        let address = |key: &str, value: Option<Spanned<toml::Value>>| {
            let Some(value) = value else { return Ok(None) };
            let parsed = value.get_ref().as_str().and_then(|text| text.parse().ok());
            let wrong = || at(Some(value.span()), format!("{key} is an address: \"0.0.0.0:7300\""));
            parsed.map(Some).ok_or_else(wrong)
        };
        let (listen, admin) =
            (address("listen", contents.listen)?, address("admin", contents.admin)?);
        Ok(Self { listen, admin, log: contents.log, organisations })
    }
}

/// Checks an operator's name for an organisation: returns the name if it can be displayed,
/// otherwise why it is not valid.
pub fn check_name(name: &str) -> Result<String, String> {
    let clean = clean_name(name);
    if clean.is_empty() || clean != name {
        return Err(format!("{name:?} is no name: up to 32 letters, digits and the like"));
    }
    Ok(clean)
}

/// How many organisations one relay may serve. Each has a thread and a socket.
pub const ORGANISATIONS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const KESTREL: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn read(text: &str) -> Result<Config, String> {
        Config::read(Path::new("relay.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn all_that_can_be_said_is_read() {
        let text = format!(
            "listen = \"[::]:7400\"\nadmin = \"127.0.0.1:9000\"\nlog = \"json\"\n\
             [[organisation]]\nid = \"{KESTREL}\"\nname = \"Kestrel\"\nport = 7500\n\
             quotas = {{ members = 50, channels = 20, kbps = 9000, packets = 30000 }}\n"
        );
        let config = read(&text).expect("it is well formed");
        assert_eq!(config.listen, Some("[::]:7400".parse().expect("an address")));
        assert_eq!(config.admin, Some("127.0.0.1:9000".parse().expect("an address")));
        assert_eq!(config.log, LogFormat::Json);
        let quotas = Quotas { members: 50, channels: 20, kbps: 9_000, packets: 30_000 };
        let (name, port) = (Some("Kestrel".to_owned()), Some(7_500));
        let organisation = OrganisationConfig { name, port, quotas };
        let id = KESTREL.parse().expect("an id");
        assert_eq!(config.organisations, BTreeMap::from([(id, organisation)]));
        assert_eq!(read(""), Ok(Config::default()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let entry = format!("[[organisation]]\nid = \"{KESTREL}\"\n");
        let other = format!("[[organisation]]\nid = \"b{}\"\n", &KESTREL[1..]);
        for (text, line, word) in [
            ("listen = 7\n".to_owned(), 1, "listen is an address"),
            ("\nadmin = \"localhost\"\n".to_owned(), 2, "admin is an address"),
            ("\nlog = \"loud\"\n".to_owned(), 2, "plain"),
            ("\n\nadmins = 1\n".to_owned(), 3, "admin"),
            ("[[organisation]]\nname = \"Kestrel\"\n".to_owned(), 1, "id"),
            ("[[organisation]]\nid = \"Kestrel\"\n".to_owned(), 2, "hark charter show"),
            (format!("{entry}port = 70000\n"), 3, "70000"),
            (format!("{entry}name = \"\"\n"), 3, "no name"),
            (format!("{entry}quotas = {{ member = 3 }}\n"), 3, "members"),
            (format!("{entry}quotas = {{ members = -3 }}\n"), 3, "-3"),
            (format!("{entry}{entry}"), 4, "twice"),
            (format!("{entry}port = 1\n{other}port = 1\n"), 6, "port of its own"),
            ("[[organisation]\n".to_owned(), 1, "]"),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.starts_with(&format!("relay.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    /// The example file is valid as it is, and also when everything that is commented out in it is
    /// active.
    #[test]
    fn the_example_is_what_a_relay_reads() {
        let example = include_str!("../packaging/relay.toml");
        assert_eq!(read(example), Ok(Config::default()));
        let all: Vec<_> = example
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
            })
            .collect();
        let all = read(&all.join("\n")).expect("it is well formed");
        assert_eq!(all.admin, Some(crate::program::ADMIN));
        assert_eq!(all.listen.map(|address| address.port()), Some(crate::program::PORT));
        assert_eq!(all.log, LogFormat::default());
        let [organisation] = &all.organisations.into_values().collect::<Vec<_>>()[..] else {
            panic!("the example has one organisation");
        };
        assert_eq!(organisation.name.as_deref(), Some("Kestrel"));
        let quotas = Quotas { members: 200, channels: 50, kbps: 20_000, packets: 50_000 };
        assert_eq!((organisation.port, organisation.quotas), (Some(7_300), quotas));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Path::new("no/such.toml")).expect_err("it is not there");
        assert!(error.to_string().starts_with("no/such.toml: "), "{error}");
    }
}
