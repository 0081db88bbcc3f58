//! What a person has chosen to hear and to talk to, in profiles that are kept by name.
//!
//! All profiles of an organisation are one TOML file that a person may read and edit:
//!
//! ```toml
//! version = 1
//! used = "pilot"
//!
//! [profiles.pilot]
//! hear = ["Command", "Flight"]
//! ducking_db = -12.0
//! transmit = "ptt"
//! talk_to = { nets = ["Flight"] }
//!
//! [profiles.pilot.nets.Command]
//! volume = 0.5
//! pan = -1.0
//!
//! [profiles.pilot.keys.mouse4]
//! nets = ["Command"]
//! ```
//!
//! What a profile does not name is as the charter says.

mod file;

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::DeviceId;
use serde::{Deserialize, Serialize};

pub use self::file::FILE_LIMIT;
use crate::snapshot::{NetChange, TalkTo, TransmitMode};

/// The profiles of one organisation; one of them is in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiles {
    used: String,
    all: BTreeMap<String, Profile>,
}

/// What was chosen, by the names that the person saw: a channel may come and go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Nets that are heard; as the charter says where nobody has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    hear: Option<BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ducking_db: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transmit: Option<TransmitMode>,
    /// What the plain key talks to; as the charter says where nobody has chosen.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::talk_to")]
    talk_to: Option<TalkTo>,
    /// How nets are heard, in what differs from the charter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "file::nets")]
    nets: BTreeMap<String, NetChange>,
    /// What keys to talk are bound to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "file::keys")]
    keys: BTreeMap<String, TalkTo>,
    /// How loud single devices are, other than as sent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "file::volumes")]
    volumes: BTreeMap<DeviceId, f32>,
}

/// What may be done with a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileAction {
    /// Goes over to it.
    Use,
    /// Makes it, like the one in use.
    Copy,
    /// Forgets it.
    Remove,
}

/// Why something cannot be done with a profile, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not a name.
    #[error("a profile's name is 1 to {PROFILE_NAME_MAX} letters, digits, - or _")]
    Name,
    /// No such profile.
    #[error(
        "no profile is called {0:?}: there are {1}; `hark ctl profile copy NAME` makes another"
    )]
    Unknown(String, String),
    /// It would be made, but is there.
    #[error("there is a profile {0:?} already")]
    Known(String),
    /// It would be removed, but is in use.
    #[error("the profile {0:?} is in use: use another one first")]
    InUse(String),
    /// One too many.
    #[error("there are {PROFILES_MAX} profiles already: remove one first")]
    TooMany,
    /// Its file cannot be used.
    #[error("{0}")]
    File(String),
}

impl Default for Profiles {
    fn default() -> Self {
        let used = "default".to_owned();
        Self { all: BTreeMap::from([(used.clone(), Profile::default())]), used }
    }
}

impl Profiles {
    /// Goes over to the profile of this name, which is made if it is not there.
    pub fn start_with(&mut self, name: &str) -> Result<(), ProfileError> {
        let names: Vec<_> = self.names().collect();
        match ProfileAction::Use.check(name, &self.used, &names) {
            Ok(known) => self.used = known,
            Err(_) => {
                self.used = ProfileAction::Copy.check(name, &self.used, &names)?;
                self.all.insert(self.used.clone(), Profile::default());
            }
        }
        Ok(())
    }

    /// Uses, copies or removes a profile.
    pub fn change(&mut self, action: ProfileAction, name: &str) -> Result<(), ProfileError> {
        let names: Vec<_> = self.names().collect();
        let name = action.check(name, &self.used, &names)?;
        match action {
            ProfileAction::Use => self.used = name,
            ProfileAction::Copy => drop(self.all.insert(name, self.current().clone())),
            ProfileAction::Remove => drop(self.all.remove(&name)),
        }
        Ok(())
    }

    /// The one in use, to be changed.
    pub fn current_mut(&mut self) -> &mut Profile {
        self.all.entry(self.used.clone()).or_default()
    }

    /// The one in use.
    pub fn current(&self) -> &Profile {
        &self.all[&self.used]
    }

    /// What the one in use is called.
    pub fn used(&self) -> &str {
        &self.used
    }

    /// What all are called, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }
}

impl ProfileAction {
    /// What the profile that is called `name`, capitals or not, is called exactly; or why this
    /// cannot be done with it where those are there and one is in use.
    pub fn check<S: AsRef<str>>(
        self,
        name: &str,
        used: &str,
        profiles: &[S],
    ) -> Result<String, ProfileError> {
        let names = || profiles.iter().map(AsRef::as_ref);
        let known = names().find(|known| is_same(known, name)).map(str::to_owned);
        match (self, known) {
            (Self::Copy, Some(known)) => Err(ProfileError::Known(known)),
            (Self::Copy, None) => {
                check_profile_name(name)?;
                if profiles.len() < PROFILES_MAX {
                    Ok(name.to_owned())
                } else {
                    Err(ProfileError::TooMany)
                }
            }
            (Self::Remove, Some(known)) if known == used => Err(ProfileError::InUse(known)),
            (Self::Use | Self::Remove, Some(known)) => Ok(known),
            (Self::Use | Self::Remove, None) => {
                let names = names().collect::<Vec<_>>().join(", ");
                Err(ProfileError::Unknown(name.to_owned(), names))
            }
        }
    }
}

impl Profile {
    /// Hears a net besides those heard until now, or no longer: `instead` of those of the profile
    /// where something else was, or `otherwise` where nobody has chosen yet. Says whether there was
    /// room for it.
    pub fn listen(
        &mut self,
        net: &str,
        on: bool,
        instead: Option<BTreeSet<String>>,
        otherwise: impl FnOnce() -> BTreeSet<String>,
    ) -> bool {
        let mut hear = instead.or(self.hear.clone()).unwrap_or_else(otherwise);
        hear.retain(|name| !is_same(name, net));
        if on {
            hear.insert(net.to_owned());
        }
        let fits = hear.len() <= NETS_MAX && hear.iter().all(|name| is_choice(name));
        if fits {
            self.hear = Some(hear);
        }
        fits
    }

    /// Changes how a net is heard.
    pub fn set_net(&mut self, net: &str, change: NetChange) {
        let known = self.nets.keys().find(|name| is_same(name, net)).cloned();
        let change = change.sane();
        match known {
            Some(known) => self.nets.entry(known).or_default().merge(change),
            None if self.nets.len() < NETS_MAX && is_choice(net) => {
                self.nets.insert(net.to_owned(), change);
            }
            None => {}
        }
    }

    /// What the plain key talks to. Says whether there was room for it.
    pub fn set_talk_to(&mut self, to: TalkTo) -> bool {
        let fits = fits(&to);
        if fits {
            self.talk_to = Some(to);
        }
        fits
    }

    /// Binds a key to talk, or frees it.
    pub fn bind(&mut self, key: &str, to: Option<TalkTo>) {
        match to {
            Some(to) if is_choice(key) && fits(&to) => {
                if self.keys.contains_key(key) || self.keys.len() < KEYS_MAX {
                    self.keys.insert(key.to_owned(), to);
                }
            }
            Some(_) => {}
            None => drop(self.keys.remove(key)),
        }
    }

    /// How far lower nets are turned down, 0 to -60 dB.
    pub fn set_ducking(&mut self, decibels: f32) {
        self.ducking_db = decibels.is_finite().then(|| decibels.clamp(DUCKING_MIN_DB, 0.0));
    }

    /// How the microphone opens.
    pub fn set_transmit(&mut self, mode: TransmitMode) {
        self.transmit = Some(mode);
    }

    /// How loud a device is, 0 to 4; 1 is as sent.
    pub fn set_volume(&mut self, device: DeviceId, gain: f32) {
        let gain = if gain.is_finite() { gain.clamp(0.0, VOLUME_MAX) } else { 1.0 };
        self.volumes.remove(&device);
        if gain != 1.0 && self.volumes.len() < VOLUMES_MAX {
            self.volumes.insert(device, gain);
        }
    }

    /// Nets that are heard; none where nobody has chosen.
    pub fn hear(&self) -> Option<&BTreeSet<String>> {
        self.hear.as_ref()
    }

    /// How a net is heard, in what differs from the charter.
    pub fn net(&self, net: &str) -> NetChange {
        let named = self.nets.iter().find(|(name, _)| is_same(name, net));
        named.map_or_else(NetChange::default, |(_, change)| *change)
    }

    /// What the plain key talks to; none where nobody has chosen.
    pub fn talk_to(&self) -> Option<&TalkTo> {
        self.talk_to.as_ref()
    }

    /// Keys to talk, and what they are bound to.
    pub fn keys(&self) -> &BTreeMap<String, TalkTo> {
        &self.keys
    }

    /// How far lower nets are turned down, in dB; none where nobody has chosen.
    pub fn ducking_db(&self) -> Option<f32> {
        self.ducking_db
    }

    /// How the microphone opens; none where nobody has chosen.
    pub fn transmit(&self) -> Option<TransmitMode> {
        self.transmit
    }

    /// How loud single devices are, other than as sent.
    pub fn volumes(&self) -> &BTreeMap<DeviceId, f32> {
        &self.volumes
    }
}

/// Whether a profile may be called so.
pub fn check_profile_name(name: &str) -> Result<(), ProfileError> {
    let plain = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    let length = 1..=PROFILE_NAME_MAX;
    if length.contains(&name.chars().count()) && name.chars().all(plain) {
        Ok(())
    } else {
        Err(ProfileError::Name)
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Whether this can name a net, a person, a role or a key.
fn is_choice(name: &str) -> bool {
    (1..=CHOICE_MAX_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

fn fits(to: &TalkTo) -> bool {
    let names = || to.nets.iter().chain(&to.members).chain(&to.roles);
    names().count() <= TARGET_NAMES_MAX && names().all(|name| is_choice(name))
}

/// Profiles of an organisation; a further one is refused.
pub const PROFILES_MAX: usize = 16;

/// Characters of a profile's name.
pub const PROFILE_NAME_MAX: usize = 32;

/// Nets that are heard, and nets with settings; further ones are not taken.
const NETS_MAX: usize = 256;

/// Keys to talk; further ones are not bound.
pub const KEYS_MAX: usize = 32;

/// Names in what a key talks to, more than a target can have; with more it is not bound.
const TARGET_NAMES_MAX: usize = 72;

/// Devices with a volume of their own; further ones stay as sent.
const VOLUMES_MAX: usize = 256;

/// Bytes of what a net, a person, a role or a key is called: twice the longest name, and more than
/// an id.
const CHOICE_MAX_BYTES: usize = 128;

/// Lower nets are not turned down by more.
const DUCKING_MIN_DB: f32 = -60.0;

/// Nobody is made louder than that.
const VOLUME_MAX: f32 = 4.0;

#[cfg(test)]
mod tests;
