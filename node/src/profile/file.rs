//! The file of the profiles.

use std::{collections::BTreeMap, path::Path};

use hark_keys::DeviceId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{
    DUCKING_MIN_DB, KEYS_MAX, NETS_MAX, PROFILES_MAX, Profile, ProfileError, Profiles, VOLUME_MAX,
    VOLUMES_MAX, check_profile_name, fits, is_choice,
};
use crate::snapshot::{NetChange, TalkTo};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    used: String,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// The part with which files of all versions begin.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Profiles {
    /// Parses a text that [`Self::to_text`] has written or a person has edited. `path` names the
    /// file in the error.
    pub fn read(path: &Path, text: &str) -> Result<Self, ProfileError> {
        let wrong = |what: String| ProfileError::File(format!("{}{what}", path.display()));
        let unreadable = |error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            wrong(format!(", line {line}: {}", error.message().trim().replace('\n', ", ")))
        };
        let Versioned { version } = toml::from_str(text).map_err(unreadable)?;
        if version > VERSION {
            return Err(wrong(" was written by a newer version of Hark".to_owned()));
        }
        let contents: Contents = toml::from_str(text).map_err(unreadable)?;
        let Contents { used, profiles: mut all, .. } = contents;
        // A person may have removed the profile from the file.
        all.entry(used.clone()).or_default();
        for (name, profile) in &all {
            check_profile_name(name).map_err(|error| wrong(format!(": {name:?}: {error}")))?;
            profile.check().map_err(|what| wrong(format!(": profile {name:?}: {what}")))?;
        }
        if all.len() > PROFILES_MAX {
            return Err(wrong(format!(" has more than {PROFILES_MAX} profiles")));
        }
        Ok(Self { used, all })
    }

    /// The text of the file, of at most [`FILE_LIMIT`] bytes.
    pub fn to_text(&self) -> String {
        let contents =
            Contents { version: VERSION, used: self.used.clone(), profiles: self.all.clone() };
        let text = toml::to_string(&contents).expect("names and numbers are TOML");
        format!("{HEADING}{text}")
    }
}

impl Profile {
    /// Checks that nothing is too much or out of its range.
    fn check(&self) -> Result<(), String> {
        let names = self.hear.iter().flatten().chain(&self.keep).chain(&self.presets);
        let names = names.chain(self.nets.keys()).chain(self.keys.keys());
        for name in names {
            if !is_choice(name) {
                return Err(format!("{name:?} is no name"));
            }
        }
        let mut targets = self.talk_to.iter().chain(self.keys.values());
        if !targets.all(fits) {
            return Err("what is talked to has too many names, or no names".to_owned());
        }
        let hears = self.hear.as_ref().map_or(0, std::collections::BTreeSet::len);
        for (what, count, most) in [
            ("nets to hear", hears, NETS_MAX),
            ("nets to keep", self.keep.len(), NETS_MAX),
            ("presets", self.presets.len(), NETS_MAX),
            ("nets", self.nets.len(), NETS_MAX),
            ("keys", self.keys.len(), KEYS_MAX),
            ("volumes", self.volumes.len(), VOLUMES_MAX),
        ] {
            if count > most {
                return Err(format!("more than {most} {what}"));
            }
        }
        if !self.ducking_db.is_none_or(|it| (DUCKING_MIN_DB..=0.0).contains(&it)) {
            return Err(format!("ducking_db is 0 to {DUCKING_MIN_DB}"));
        }
        if !self.volumes.values().all(|gain| (0.0..=VOLUME_MAX).contains(gain)) {
            return Err(format!("a volume is 0 to {VOLUME_MAX}"));
        }
        let wrong = self.nets.iter().find_map(|(name, change)| Some((name, change.check().err()?)));
        match wrong {
            Some((name, wrong)) => Err(format!("net {name:?}: {wrong}")),
            None => Ok(()),
        }
    }
}

/// [`TalkTo`] as it is written in a file, where an unknown word is a mistake.
#[derive(Deserialize)]
#[serde(remote = "TalkTo", deny_unknown_fields)]
struct StrictTalkTo {
    #[serde(default)]
    nets: Vec<String>,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    priority: bool,
}

/// [`NetChange`] as it is written in a file, where an unknown word is a mistake.
#[derive(Deserialize)]
#[serde(remote = "NetChange", deny_unknown_fields)]
struct StrictNetChange {
    volume: Option<f32>,
    pan: Option<f32>,
    muted: Option<bool>,
    priority: Option<u8>,
    radio: Option<bool>,
}

#[derive(Deserialize)]
struct Target(#[serde(with = "StrictTalkTo")] TalkTo);

#[derive(Deserialize)]
struct Net(#[serde(with = "StrictNetChange")] NetChange);

pub(super) fn talk_to<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TalkTo>, D::Error> {
    Ok(Some(Target::deserialize(from)?.0))
}

pub(super) fn keys<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, TalkTo>, D::Error> {
    let keys = BTreeMap::<String, Target>::deserialize(from)?;
    Ok(keys.into_iter().map(|(name, Target(to))| (name, to)).collect())
}

pub(super) fn nets<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, NetChange>, D::Error> {
    let nets = BTreeMap::<String, Net>::deserialize(from)?;
    Ok(nets.into_iter().map(|(name, Net(change))| (name, change)).collect())
}

/// Writes devices in the form that people see.
pub(super) mod volumes {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        volumes: &BTreeMap<DeviceId, f32>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(volumes.iter().map(|(device, gain)| (device.to_string(), gain)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<DeviceId, f32>, D::Error> {
        let volumes = BTreeMap::<String, f32>::deserialize(from)?;
        let devices = volumes.into_iter().map(|(device, gain)| match device.parse() {
            Ok(id) => Ok((id, gain)),
            Err(_) => Err(D::Error::custom(format!("{device:?} is no device"))),
        });
        devices.collect()
    }
}

/// Version of the file. It is raised when older files can no longer be read.
const VERSION: u32 = 1;

/// The first lines of the file, for a person who opens it.
const HEADING: &str = "\
# What you hear and talk to here, kept by hark. Edit it while hark does not run;
# `hark ctl profile` lists, uses, copies and removes profiles.
";

/// Longest file in bytes; a longer one was not written by Hark. Full profiles need less.
pub const FILE_LIMIT: u64 = 16 << 20;
