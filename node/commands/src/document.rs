//! Organisations and presets as TOML that people edit.

use std::ops::Range;

use serde::{Deserialize, de::DeserializeOwned};
use toml::Spanned;

use crate::{CommandError, InputFile, Mistake};

/// An organisation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrganisationFile {
    /// Which organisation it is for; any where it is left out.
    pub(crate) organisation: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) policy: PolicyEntries,
    #[serde(default)]
    pub(crate) role: Vec<RoleEntry>,
    #[serde(default)]
    pub(crate) channel: Vec<ChannelEntry>,
    #[serde(default)]
    pub(crate) link: Vec<LinkEntry>,
    #[serde(default)]
    pub(crate) rule: Vec<RuleEntry>,
    #[serde(default)]
    pub(crate) preset: Vec<PresetFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PolicyEntries {
    pub(crate) invite_hours_max: Option<Spanned<u32>>,
    pub(crate) operations_per_day: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleEntry {
    pub(crate) name: Spanned<String>,
    /// Left out for the role that everybody has.
    pub(crate) rank: Option<Spanned<u8>>,
    #[serde(default)]
    pub(crate) can: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelEntry {
    /// Its path: `Flight/Alpha` lies below `Flight`.
    pub(crate) name: Spanned<String>,
    /// How many talk at once; any number where it is left out.
    pub(crate) floor: Option<Spanned<u8>>,
    /// How many relays pass on, the loudest; all where it is left out.
    pub(crate) loudest: Option<Spanned<u8>>,
    /// The bit rate in kbit/s if it is for music.
    pub(crate) music: Option<Spanned<u8>>,
    /// Whether that music is in stereo.
    pub(crate) stereo: Option<Spanned<bool>>,
    #[serde(default)]
    pub(crate) limit: u16,
    /// Where it stands among its siblings; as in the file where it is left out.
    pub(crate) order: Option<u16>,
    #[serde(default)]
    pub(crate) hidden: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkEntry {
    pub(crate) between: [Spanned<String>; 2],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEntry {
    /// Everywhere where it is left out.
    pub(crate) at: Option<Spanned<String>>,
    /// `everyone`, `role:NAME` or a person.
    #[serde(rename = "for")]
    pub(crate) subject: Spanned<String>,
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) deny: Vec<Spanned<String>>,
}

/// A preset.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PresetFile {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) channel: Vec<ChannelEntry>,
    #[serde(default)]
    pub(crate) rule: Vec<RuleEntry>,
    #[serde(default)]
    pub(crate) grant: Vec<GrantEntry>,
    #[serde(default)]
    pub(crate) layout: Vec<LayoutEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantEntry {
    pub(crate) role: Spanned<String>,
    pub(crate) at: Option<Spanned<String>>,
    pub(crate) to: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayoutEntry {
    #[serde(rename = "for")]
    pub(crate) subject: Spanned<String>,
    #[serde(default)]
    pub(crate) net: Vec<NetEntry>,
    /// What each key talks to, the main one first.
    #[serde(default)]
    pub(crate) keys: Vec<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetEntry {
    pub(crate) channel: Spanned<String>,
    #[serde(default)]
    pub(crate) priority: u8,
    /// -100 left to 100 right.
    pub(crate) pan: Option<Spanned<i8>>,
    /// In percent, 100 being as sent.
    pub(crate) volume: Option<Spanned<u16>>,
}

/// A text with what it is called, to say where in it something is wrong.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    path: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(crate) fn of(file: &'a InputFile) -> Result<Self, CommandError> {
        Ok(Self { path: &file.path, text: file.text()? })
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        toml::from_str(self.text).map_err(|error| {
            let message = error.message().trim().replace('\n', ", ");
            self.wrong(error.span().unwrap_or_default(), Mistake::Toml(message))
        })
    }

    /// What is wrong at a place in the text.
    pub(crate) fn wrong(&self, span: Range<usize>, error: impl Into<CommandError>) -> CommandError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
        let (path, error) = (self.path.to_owned(), Box::new(error.into()));
        CommandError::InFile { path, line, column, error }
    }

    /// The same for what somebody else has found wrong with a name.
    pub(crate) fn at<T>(
        &self,
        span: Range<usize>,
        result: Result<T, impl Into<CommandError>>,
    ) -> Result<T, CommandError> {
        result.map_err(|error| self.wrong(span, error))
    }
}

/// What `apply --help` shows: each kind of part but the presets.
pub const ORGANISATION_EXAMPLE: &str = r#"  organisation = "Meridian Watch"    # refused elsewhere

  [policy]
  invite-hours-max = 72

  [[role]]
  name = "officer"
  rank = 30                          # 1 to 250, the smaller the higher
  can = ["join", "listen", "speak", "mute", "ban"]

  [[role]]
  name = "member"                    # what everybody has, without a rank
  can = ["join", "listen", "speak", "admit"]

  [[channel]]
  name = "Flight"                    # besides: limit = 12, order = 1, hidden = true, loudest = 4

  [[channel]]
  name = "Flight/Alpha"              # below Flight, which stands above it in the file
  floor = 1                          # one talks at a time

  [[channel]]
  name = "Lounge"
  music = 128                        # for music, at 96 to 192 kbit/s
  stereo = true                      # on both sides

  [[channel]]
  name = "Ground"

  [[link]]
  between = ["Flight", "Ground"]     # they hear each other

  [[rule]]
  at = "Ground"                      # everywhere if left out
  for = "everyone"                   # or "role:officer", or a person's name
  deny = ["speak"]                   # or allow
"#;

/// What `preset add --help` shows.
pub const PRESET_EXAMPLE: &str = r#"  name = "escort"

  [[channel]]                        # there while the preset is loaded
  name = "Escort"

  [[rule]]
  at = "Escort"
  for = "everyone"                   # or "role:officer", or a person's name
  allow = ["join", "listen", "speak"]

  [[grant]]                          # a role for people while the preset is loaded
  role = "officer"
  at = "Escort"
  to = ["Osprey"]

  [[layout]]                         # what somebody hears, and what each key talks to
  for = "everyone"
  keys = [["Escort"]]

  [[layout.net]]
  channel = "Escort"
  priority = 2                       # higher ones turn lower ones down
  pan = -30                          # -100 left to 100 right
  volume = 80                        # percent
"#;
