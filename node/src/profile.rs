//! Profiles: what a person has chosen to hear and to talk to, stored by name.
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
//! The charter decides what a profile does not set.

mod file;

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::DeviceId;
use serde::{Deserialize, Serialize};

pub use self::file::FILE_LIMIT;
use crate::snapshot::{
    MasterChange, MasterVolumes, NetChange, NetChangeError, TalkTo, TransmitMode,
};

/// The profiles of one organisation, one of which is in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiles {
    used: String,
    all: BTreeMap<String, Profile>,
}

/// A person's choices. Channels are kept by the names that the person saw, since a channel may come
/// and go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Nets that are heard. The charter decides if the person has not chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    hear: Option<BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ducking_db: Option<f32>,
    /// The volume of the nets that are talked to, if it is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    talked_to_volume: Option<f32>,
    /// The volume of the other nets, if it is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    others_volume: Option<f32>,
    /// Whether talkers are brought to one loudness, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    leveling: Option<bool>,
    /// Whether talkers are placed around the head, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    headphones: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transmit: Option<TransmitMode>,
    /// The target of the plain key. The charter decides if the person has not chosen.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::talk_to")]
    talk_to: Option<TalkTo>,
    /// Nets that are heard whatever presets say.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    keep: BTreeSet<String>,
    /// Whether `talk_to` stays when a preset is loaded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keep_talk_to: bool,
    /// Ids of the presets that were loaded for this member at the last look. When other presets are
    /// loaded, `hear` and `talk_to` are dropped.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    presets: BTreeSet<String>,
    /// Settings of nets that differ from the charter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "file::nets")]
    nets: BTreeMap<String, NetChange>,
    /// The targets of talk keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "file::keys")]
    keys: BTreeMap<String, TalkTo>,
    /// Volumes of single devices, other than 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "file::volumes")]
    volumes: BTreeMap<DeviceId, f32>,
}

/// An action on a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileAction {
    /// Uses the profile.
    Use,
    /// Creates the profile as a copy of the one in use.
    Copy,
    /// Removes the profile.
    Remove,
}

/// The reason why a profile cannot be changed or used, in one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The text is no valid name of a profile.
    #[error("no profile can be called {0:?}: 1 to {PROFILE_NAME_MAX} letters, digits, - or _")]
    Name(String),
    /// No profile has this name.
    #[error(
        "no profile is called {0:?}: there are {1}; `hark ctl profile copy NAME` makes another"
    )]
    Unknown(String, String),
    /// A profile of this name exists already.
    #[error("there is a profile {0:?} already")]
    Known(String),
    /// The profile is in use, so it cannot be removed.
    #[error("the profile {0:?} is in use: use another one first")]
    InUse(String),
    /// There are too many profiles.
    #[error("there are {PROFILES_MAX} profiles already: remove one first")]
    TooMany,
    /// The text is no valid name of a net, person, role or key.
    #[error("{0:?} is no name: 1 to {CHOICE_MAX_BYTES} bytes, without control characters")]
    Choice(String),
    /// A target cannot have this many parts.
    #[error("that is too much to talk to at once")]
    Target,
    /// There are too many nets.
    #[error("there are {NETS_MAX} nets in this profile already")]
    TooManyNets,
    /// There are too many keys.
    #[error("there are {KEYS_MAX} keys already: free one first")]
    TooManyKeys,
    /// There are too many volumes.
    #[error("there are {VOLUMES_MAX} volumes already: set one back to 1 first")]
    TooManyVolumes,
    /// A number is out of its range.
    #[error("{0}")]
    Range(String),
    /// A net is to be heard with a number out of its range.
    #[error(transparent)]
    Net(#[from] NetChangeError),
    /// The file of the profiles cannot be used.
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
    /// Uses the profile of this name, which is created if it does not exist.
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

    /// Renames the nets of all profiles. `name` returns the new name of a net, or `None` if the net
    /// keeps its name.
    pub fn rename_nets(&mut self, mut name: impl FnMut(&str) -> Option<String>) {
        self.all.values_mut().for_each(|profile| profile.rename_nets(&mut name));
    }

    /// The profile in use, to be changed.
    pub fn current_mut(&mut self) -> &mut Profile {
        self.all.entry(self.used.clone()).or_default()
    }

    /// The profile in use.
    pub fn current(&self) -> &Profile {
        &self.all[&self.used]
    }

    /// The name of the profile in use.
    pub fn used(&self) -> &str {
        &self.used
    }

    /// The names of all profiles, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }
}

impl ProfileAction {
    /// Returns the exact name of the profile `name`, given in upper or lower case. Fails if this
    /// action cannot be done with it, given the existing profiles and the one in use.
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
    /// Adds a net to those that are heard, or removes it. The change applies to the nets of
    /// `instead` if given, otherwise to those of the profile, or to those of `otherwise` if the
    /// person has not chosen yet.
    pub fn listen(
        &mut self,
        net: &str,
        on: bool,
        instead: Option<BTreeSet<String>>,
        otherwise: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<(), ProfileError> {
        let mut hear = instead.or(self.hear.clone()).unwrap_or_else(otherwise);
        hear.retain(|name| !is_same(name, net));
        if on {
            check_choice(net)?;
            hear.insert(net.to_owned());
        }
        if hear.len() > NETS_MAX {
            return Err(ProfileError::TooManyNets);
        }
        if !on {
            self.keep.retain(|name| !is_same(name, net));
        }
        self.hear = Some(hear);
        Ok(())
    }

    /// Has a net heard whatever presets say.
    pub fn keep(&mut self, net: &str) -> Result<(), ProfileError> {
        check_choice(net)?;
        if self.keep.len() >= NETS_MAX && !self.keep.contains(net) {
            return Err(ProfileError::TooManyNets);
        }
        self.keep.insert(net.to_owned());
        Ok(())
    }

    /// Changes the settings of a net.
    pub fn set_net(&mut self, net: &str, change: NetChange) -> Result<(), ProfileError> {
        change.check()?;
        check_choice(net)?;
        let known = self.nets.keys().find(|name| is_same(name, net)).cloned();
        if known.is_none() && self.nets.len() >= NETS_MAX {
            return Err(ProfileError::TooManyNets);
        }
        self.nets.entry(known.unwrap_or_else(|| net.to_owned())).or_default().merge(change);
        Ok(())
    }

    /// Sets the target of the plain key. It is dropped when a preset is loaded, unless it is to be
    /// kept (`keep`).
    pub fn set_talk_to(&mut self, to: TalkTo, keep: bool) -> Result<(), ProfileError> {
        check_target(&to)?;
        (self.talk_to, self.keep_talk_to) = (Some(to), keep);
        Ok(())
    }

    /// Binds a talk key to a target, or unbinds it.
    pub fn bind(&mut self, key: &str, to: Option<TalkTo>) -> Result<(), ProfileError> {
        let Some(to) = to else {
            self.keys.remove(key);
            return Ok(());
        };
        check_choice(key)?;
        check_target(&to)?;
        if !self.keys.contains_key(key) && self.keys.len() >= KEYS_MAX {
            return Err(ProfileError::TooManyKeys);
        }
        self.keys.insert(key.to_owned(), to);
        Ok(())
    }

    /// Forgets the chosen nets and target, the settings of nets, and the keys of these names, so
    /// that the charter decides about them.
    pub fn follow(&mut self, keys: impl Iterator<Item = String>) {
        (self.hear, self.talk_to, self.keep_talk_to) = (None, None, false);
        self.keep.clear();
        self.nets.clear();
        keys.for_each(|key| drop(self.keys.remove(&key)));
    }

    /// Forgets the chosen nets and target, except what must be kept. Returns whether there was
    /// anything to forget.
    pub fn give_way(&mut self) -> bool {
        let hear = self.hear.take();
        let talk_to = self.talk_to.take_if(|_| !self.keep_talk_to);
        hear.is_some() || talk_to.is_some()
    }

    /// Sets the ids of the presets that are loaded for this member now. Those for which the file
    /// has no room are left out.
    pub fn set_presets(&mut self, presets: BTreeSet<String>) {
        self.presets = presets.into_iter().take(NETS_MAX).collect();
    }

    /// Sets by how many dB lower nets are turned down: 0 to 60, with or without a minus sign.
    pub fn set_ducking(&mut self, decibels: f32) -> Result<(), ProfileError> {
        // NaN is in no range.
        if !(DUCKING_MIN_DB..=-DUCKING_MIN_DB).contains(&decibels) {
            let range = format!("ducking is 0 to {} dB, not {decibels}", -DUCKING_MIN_DB);
            return Err(ProfileError::Range(range));
        }
        // Stores 0 rather than -0, since people read the file.
        self.ducking_db = Some(if decibels == 0.0 { 0.0 } else { -decibels.abs() });
        Ok(())
    }

    /// Sets the volumes of all nets together, from 0 to 4; 1 leaves them unchanged. Sets whether
    /// talkers are brought to one loudness, too.
    pub fn set_master(&mut self, change: MasterChange) -> Result<(), ProfileError> {
        for volume in [change.talked_to, change.others].into_iter().flatten() {
            if !(0.0..=VOLUME_MAX).contains(&volume) {
                let range = format!("a volume is 0 to {VOLUME_MAX}, not {volume}");
                return Err(ProfileError::Range(range));
            }
        }
        let kept = |volume: Option<f32>, before: Option<f32>| {
            volume.or(before).filter(|volume| *volume != 1.0)
        };
        self.talked_to_volume = kept(change.talked_to, self.talked_to_volume);
        self.others_volume = kept(change.others, self.others_volume);
        self.leveling = change.leveling.or(self.leveling).filter(|on| !on);
        self.headphones = change.headphones.or(self.headphones).filter(|on| *on);
        Ok(())
    }

    /// Sets what opens the microphone.
    pub fn set_transmit(&mut self, mode: TransmitMode) {
        self.transmit = Some(mode);
    }

    /// Sets the volume of a device, from 0 to 4; 1 leaves it unchanged.
    pub fn set_volume(&mut self, device: DeviceId, gain: f32) -> Result<(), ProfileError> {
        if !(0.0..=VOLUME_MAX).contains(&gain) {
            let range = format!("a volume is 0 to {VOLUME_MAX}, not {gain}");
            return Err(ProfileError::Range(range));
        }
        let known = self.volumes.remove(&device).is_some();
        if gain == 1.0 {
            return Ok(());
        }
        if !known && self.volumes.len() >= VOLUMES_MAX {
            return Err(ProfileError::TooManyVolumes);
        }
        self.volumes.insert(device, gain);
        Ok(())
    }

    /// Nets that are heard whatever presets say.
    pub fn kept(&self) -> &BTreeSet<String> {
        &self.keep
    }

    /// Ids of the presets that were loaded for this member at the last look.
    pub fn presets(&self) -> &BTreeSet<String> {
        &self.presets
    }

    fn rename_nets(&mut self, name: &mut impl FnMut(&str) -> Option<String>) {
        let mut of = |net: &str| name(net).unwrap_or_else(|| net.to_owned());
        self.hear = self.hear.take().map(|nets| nets.iter().map(|it| of(it)).collect());
        self.keep = self.keep.iter().map(|it| of(it)).collect();
        self.nets =
            std::mem::take(&mut self.nets).into_iter().map(|(it, to)| (of(&it), to)).collect();
        for to in self.talk_to.iter_mut().chain(self.keys.values_mut()) {
            to.nets.iter_mut().for_each(|net| *net = of(net));
        }
    }

    /// Nets that are heard. `None` if the person has not chosen.
    pub fn hear(&self) -> Option<&BTreeSet<String>> {
        self.hear.as_ref()
    }

    /// The settings of a net that differ from the charter.
    pub fn net(&self, net: &str) -> NetChange {
        let named = self.nets.iter().find(|(name, _)| is_same(name, net));
        named.map_or_else(NetChange::default, |(_, change)| *change)
    }

    /// The target of the plain key. `None` if the person has not chosen.
    pub fn talk_to(&self) -> Option<&TalkTo> {
        self.talk_to.as_ref()
    }

    /// The talk keys and their targets.
    pub fn keys(&self) -> &BTreeMap<String, TalkTo> {
        &self.keys
    }

    /// By how many dB lower nets are turned down. `None` if the person has not chosen.
    pub fn ducking_db(&self) -> Option<f32> {
        self.ducking_db
    }

    /// The volumes of all nets together. No net is turned down for a while.
    pub fn master(&self) -> MasterVolumes {
        MasterVolumes {
            talked_to: self.talked_to_volume.unwrap_or(1.0),
            others: self.others_volume.unwrap_or(1.0),
            others_down: false,
            leveling: self.leveling.unwrap_or(true),
            headphones: self.headphones.unwrap_or(false),
            ducking_db: self.ducking_db.map_or(MasterVolumes::default().ducking_db, f32::abs),
        }
    }

    /// What opens the microphone. `None` if the person has not chosen.
    pub fn transmit(&self) -> Option<TransmitMode> {
        self.transmit
    }

    /// Volumes of single devices, other than 1.
    pub fn volumes(&self) -> &BTreeMap<DeviceId, f32> {
        &self.volumes
    }
}

/// Checks that `name` is a valid name of a profile.
pub fn check_profile_name(name: &str) -> Result<(), ProfileError> {
    let plain = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    let length = 1..=PROFILE_NAME_MAX;
    if length.contains(&name.chars().count()) && name.chars().all(plain) {
        Ok(())
    } else {
        Err(ProfileError::Name(name.to_owned()))
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Whether `name` can be the name of a net, a person, a role or a key.
fn is_choice(name: &str) -> bool {
    (1..=CHOICE_MAX_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

fn fits(to: &TalkTo) -> bool {
    let names = || to.nets.iter().chain(&to.members).chain(&to.roles);
    names().count() <= TARGET_NAMES_MAX && names().all(|name| is_choice(name))
}

fn check_choice(name: &str) -> Result<(), ProfileError> {
    if is_choice(name) { Ok(()) } else { Err(ProfileError::Choice(name.to_owned())) }
}

fn check_target(to: &TalkTo) -> Result<(), ProfileError> {
    if fits(to) { Ok(()) } else { Err(ProfileError::Target) }
}

/// Profiles of an organisation. A further one is refused.
pub const PROFILES_MAX: usize = 16;

/// Longest name of a profile, in characters.
pub const PROFILE_NAME_MAX: usize = 32;

/// Nets that are heard, and nets with settings. Further ones are refused.
const NETS_MAX: usize = 256;

/// Talk keys. Further ones are refused.
pub const KEYS_MAX: usize = 32;

/// Names in the target of a key. More than a target can have; more are refused.
const TARGET_NAMES_MAX: usize = 72;

/// Devices with a volume of their own. Further ones are refused.
const VOLUMES_MAX: usize = 256;

/// Longest name of a net, a person, a role or a key in bytes: twice the longest name there is, and
/// more than an id.
const CHOICE_MAX_BYTES: usize = 128;

/// The most by which lower nets are turned down, in dB.
const DUCKING_MIN_DB: f32 = -60.0;

/// The highest volume of a device.
const VOLUME_MAX: f32 = 4.0;

#[cfg(test)]
mod tests;
