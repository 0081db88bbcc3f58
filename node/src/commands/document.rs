//! Organisations and presets as TOML that people edit.

use std::ops::Range;

use serde::{Deserialize, de::DeserializeOwned};
use toml::Spanned;

use super::{CommandError, InputFile};

/// An organisation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrganisationFile {
    /// Which organisation it is for; any where it is left out.
    pub(super) organisation: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) policy: PolicyEntries,
    #[serde(default)]
    pub(super) role: Vec<RoleEntry>,
    #[serde(default)]
    pub(super) channel: Vec<ChannelEntry>,
    #[serde(default)]
    pub(super) link: Vec<LinkEntry>,
    #[serde(default)]
    pub(super) rule: Vec<RuleEntry>,
    #[serde(default)]
    pub(super) preset: Vec<PresetFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PolicyEntries {
    pub(super) invite_hours_max: Option<Spanned<u32>>,
    pub(super) operations_per_day: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleEntry {
    pub(super) name: Spanned<String>,
    /// Left out for the role that everybody has.
    pub(super) rank: Option<Spanned<u8>>,
    #[serde(default)]
    pub(super) can: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelEntry {
    /// Its path: `Flight/Alpha` lies below `Flight`.
    pub(super) name: Spanned<String>,
    /// How many talk at once; any number where it is left out.
    pub(super) floor: Option<Spanned<u8>>,
    /// How many relays pass on, the loudest; all where it is left out.
    pub(super) loudest: Option<Spanned<u8>>,
    #[serde(default)]
    pub(super) limit: u16,
    /// Where it stands among its siblings; as in the file where it is left out.
    pub(super) order: Option<u16>,
    #[serde(default)]
    pub(super) hidden: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkEntry {
    pub(super) between: [Spanned<String>; 2],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleEntry {
    /// Everywhere where it is left out.
    pub(super) at: Option<Spanned<String>>,
    /// `everyone`, `role:NAME` or a person.
    #[serde(rename = "for")]
    pub(super) subject: Spanned<String>,
    #[serde(default)]
    pub(super) allow: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) deny: Vec<Spanned<String>>,
}

/// A preset.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PresetFile {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) channel: Vec<ChannelEntry>,
    #[serde(default)]
    pub(super) rule: Vec<RuleEntry>,
    #[serde(default)]
    pub(super) grant: Vec<GrantEntry>,
    #[serde(default)]
    pub(super) layout: Vec<LayoutEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantEntry {
    pub(super) role: Spanned<String>,
    pub(super) at: Option<Spanned<String>>,
    pub(super) to: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayoutEntry {
    #[serde(rename = "for")]
    pub(super) subject: Spanned<String>,
    #[serde(default)]
    pub(super) net: Vec<NetEntry>,
    /// What each key talks to, the main one first.
    #[serde(default)]
    pub(super) keys: Vec<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetEntry {
    pub(super) channel: Spanned<String>,
    #[serde(default)]
    pub(super) priority: u8,
    /// -100 left to 100 right.
    pub(super) pan: Option<Spanned<i8>>,
    /// In percent, 100 being as sent.
    pub(super) volume: Option<Spanned<u16>>,
}

/// A text with what it is called, to say where in it something is wrong.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    path: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn of(file: &'a InputFile) -> Result<Self, CommandError> {
        Ok(Self { path: &file.path, text: file.text()? })
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        toml::from_str(self.text).map_err(|error| {
            let message = error.message().trim().replace('\n', ", ");
            self.wrong(error.span().unwrap_or_default(), &message)
        })
    }

    /// What is wrong at a place in the text.
    pub(super) fn wrong(&self, span: Range<usize>, message: &str) -> CommandError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
        CommandError::Input(format!("{}, line {line}, column {column}: {message}", self.path))
    }

    /// The same for what somebody else has found wrong with a name.
    pub(super) fn at<T>(
        &self,
        span: Range<usize>,
        result: Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        result.map_err(|error| self.wrong(span, &error.to_string()))
    }
}

/// What `apply --help` shows: each kind of part but the presets.
pub(super) const ORGANISATION_EXAMPLE: &str = r#"  organisation = "Meridian Watch"    # refused elsewhere

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
  name = "Ground"

  [[link]]
  between = ["Flight", "Ground"]     # they hear each other

  [[rule]]
  at = "Ground"                      # everywhere if left out
  for = "everyone"                   # or "role:officer", or a person's name
  deny = ["speak"]                   # or allow
"#;

/// What `preset add --help` shows.
pub(super) const PRESET_EXAMPLE: &str = r#"  name = "escort"

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
