//! What a person has chosen, as one file that goes to another machine or another person: keys,
//! plates and looks, and how each organisation is heard. It holds no key and no secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use hark_node::{
    profile::ProfileAction,
    snapshot::{Command, MasterChange, NetChange, NetView, Snapshot, TalkTo, TransmitMode},
};
use serde::{Deserialize, Serialize};

use crate::{
    backend::{Scene, WindowOrder},
    settings::Settings,
};

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileFile {
    /// The version of the file, [`VERSION`].
    pub version: u32,
    /// The window.
    pub window: Settings,
    /// How each organisation is heard.
    #[serde(default)]
    pub organisations: Vec<Choices>,
}

/// How a person hears an organisation and talks in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    /// The id of the organisation.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Nets that are talked to.
    pub talk_to: Vec<String>,
    /// What opens the microphone.
    pub transmit: TransmitMode,
    /// The volume of nets that are talked to.
    pub talked_to_volume: f32,
    /// The volume of the other nets.
    pub others_volume: f32,
    /// The nets, by their paths.
    #[serde(default)]
    pub nets: BTreeMap<String, NetChoice>,
    /// The targets of talk keys.
    #[serde(default)]
    pub keys: BTreeMap<String, TalkTo>,
    /// The volume of each member's device that is not left unchanged, from 0 to 4.
    #[serde(default)]
    pub people: BTreeMap<String, f32>,
}

/// What of a file is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenParts {
    /// Keys and what they do.
    pub keys: bool,
    /// Colours, sizes and the order of plates.
    pub looks: bool,
    /// How each organisation is heard.
    pub organisations: bool,
}

impl TakenParts {
    /// Everything.
    pub const ALL: Self = Self { keys: true, looks: true, organisations: true };
    /// Nothing.
    pub const NONE: Self = Self { keys: false, looks: false, organisations: false };
}

/// How a net is heard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetChoice {
    /// Whether it is heard.
    pub heard: bool,
    /// The volume, from 0 to 4.
    pub volume: f32,
    /// The place between left (-1) and right (1).
    pub pan: f32,
    /// Whether it is silenced.
    pub muted: bool,
    /// Its priority.
    pub priority: u8,
    /// Whether talkers there sound as by a radio.
    #[serde(default)]
    pub radio: bool,
}

/// Why a file is not written or taken. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileFileError {
    /// The file is of a newer version of Hark.
    #[error("{path}: made by a newer version of Hark: nothing is taken", path = .0.display())]
    Newer(PathBuf),
    /// The file means nothing.
    #[error("{path}: {1}: nothing is taken", path = .0.display())]
    Broken(PathBuf, String),
    /// The file is too large to be a profile.
    #[error("{path}: larger than {FILE_LIMIT} bytes: no profile of Hark", path = .0.display())]
    TooLarge(PathBuf),
    /// The file cannot be read or written.
    #[error("{path}: {1}", path = .0.display())]
    System(PathBuf, io::Error),
}

impl ProfileFile {
    /// What the person has chosen in this window and in the organisations that run.
    pub fn new(settings: &Settings, scene: &Scene) -> Self {
        let organisations = scene.organisations.iter().map(|it| Choices::of(&it.snapshot));
        let organisations = organisations.collect();
        Self { version: VERSION, window: settings.clone(), organisations }
    }

    /// Writes the file. What stood there is replaced as a whole.
    pub fn write(&self, path: &Path) -> Result<(), ProfileFileError> {
        let text = toml::to_string(self).expect("text, numbers, lists and tables are TOML");
        let system = |error| ProfileFileError::System(path.to_owned(), error);
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(system)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ProfileFileError> {
        let system = |error| ProfileFileError::System(path.to_owned(), error);
        if std::fs::metadata(path).map_err(system)?.len() > FILE_LIMIT {
            return Err(ProfileFileError::TooLarge(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(system)?;
        let broken = |error: toml::de::Error| {
            let line = error.to_string().lines().next().unwrap_or_default().to_owned();
            ProfileFileError::Broken(path.to_owned(), line)
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // What else a newer version says is not even looked at.
        if toml::from_str::<Version>(&text).map_err(broken)?.version > VERSION {
            return Err(ProfileFileError::Newer(path.to_owned()));
        }
        let read: Self = toml::from_str(&text).map_err(broken)?;
        let newer_window = read.window.version > Settings::default().version;
        if newer_window { Err(ProfileFileError::Newer(path.to_owned())) } else { Ok(read) }
    }

    /// The settings of the window after `parts` of the file were taken over. The window stays as
    /// large as it is; devices and the microphone's state are this machine's own.
    pub fn settings(&self, parts: TakenParts, before: &Settings) -> Settings {
        let looks = if parts.looks { &self.window } else { before };
        let keys = if parts.keys { &self.window.keys } else { &before.keys };
        Settings {
            size: before.size,
            microphone: before.microphone.clone(),
            loudspeaker: before.loudspeaker.clone(),
            muted: before.muted,
            keys: keys.clone(),
            ..looks.clone()
        }
    }

    /// The names of the organisations of the file that run.
    pub fn running(&self, scene: &Scene) -> Vec<String> {
        let runs =
            |id: &String| scene.organisations.iter().any(|it| it.snapshot.organisation_id == *id);
        let here = self.organisations.iter().filter(|it| runs(&it.id));
        here.map(|it| it.name.clone()).collect()
    }

    /// What brings organisations that run in step with the file, each with its id: a profile
    /// [`IMPORTED`] is made and used, so that what was chosen before stays in its own.
    pub fn orders(&self, scene: &Scene) -> Vec<(String, WindowOrder)> {
        let mut orders = Vec::new();
        for choices in &self.organisations {
            let mut running = scene.organisations.iter().map(|it| &it.snapshot);
            if let Some(own) = running.find(|own| own.organisation_id == choices.id) {
                let commands = choices.commands(own).into_iter();
                orders.extend(commands.map(|it| (choices.id.clone(), WindowOrder::Command(it))));
            }
        }
        orders
    }
}

impl Choices {
    fn of(own: &Snapshot) -> Self {
        let choice = |net: &NetView| NetChoice {
            heard: net.listening,
            volume: net.volume,
            pan: net.pan,
            muted: net.muted,
            priority: net.priority,
            radio: net.radio,
        };
        let keys = own.keys.iter().filter(|key| !key.planned);
        let people = own.peers.iter().filter(|peer| peer.volume != 1.0);
        Self {
            people: people.map(|it| (it.stats.device.0.to_string(), it.volume)).collect(),
            id: own.organisation_id.clone(),
            name: own.organisation.clone(),
            talk_to: talked_to(own),
            transmit: own.transmit,
            talked_to_volume: own.master.talked_to,
            others_volume: own.master.others,
            nets: own.nets.iter().map(|net| (net.path.clone(), choice(net))).collect(),
            keys: keys.map(|key| (key.key.clone(), key.to.clone())).collect(),
        }
    }

    /// What changes an organisation that is as `own` says into this.
    fn commands(&self, own: &Snapshot) -> Vec<Command> {
        let name = IMPORTED.to_owned();
        let mut commands = Vec::new();
        if !own.profiles.contains(&name) {
            commands.push(Command::Profile { action: ProfileAction::Copy, name: name.clone() });
        }
        if own.profile != name {
            commands.push(Command::Profile { action: ProfileAction::Use, name });
        }
        for net in &own.nets {
            let Some(wanted) = self.nets.get(&net.path) else { continue };
            if wanted.heard != net.listening {
                let (net, on) = (net.path.clone(), wanted.heard);
                commands.push(Command::Listen { net, on, keep: false });
            }
            let change = NetChange {
                volume: (wanted.volume != net.volume).then_some(wanted.volume),
                pan: (wanted.pan != net.pan).then_some(wanted.pan),
                muted: (wanted.muted != net.muted).then_some(wanted.muted),
                priority: (wanted.priority != net.priority).then_some(wanted.priority),
                radio: (wanted.radio != net.radio).then_some(wanted.radio),
            };
            if change != NetChange::default() {
                commands.push(Command::Net { net: net.path.clone(), change });
            }
        }
        let known: BTreeSet<&String> = own.nets.iter().map(|net| &net.path).collect();
        let nets: Vec<_> = self.talk_to.iter().filter(|net| known.contains(net)).cloned().collect();
        if !nets.is_empty() && nets != talked_to(own) {
            commands.push(Command::TalkTo { to: TalkTo::nets(nets), keep: false });
        }
        if self.transmit != own.transmit {
            commands.push(Command::Transmit { mode: self.transmit });
        }
        if (self.talked_to_volume, self.others_volume) != (own.master.talked_to, own.master.others)
        {
            let (talked_to, others) = (Some(self.talked_to_volume), Some(self.others_volume));
            let change = MasterChange { talked_to, others, ..MasterChange::default() };
            commands.push(Command::Master { change });
        }
        for peer in &own.peers {
            let device = peer.stats.device.0.to_string();
            let gain = self.people.get(&device).copied().unwrap_or(1.0);
            if gain != peer.volume {
                commands.push(Command::Volume { device, gain });
            }
        }
        for (key, to) in &self.keys {
            let has = own.keys.iter().any(|it| it.key == *key && it.to == *to);
            if !has {
                commands.push(Command::Key { key: key.clone(), to: Some(to.clone()) });
            }
        }
        commands
    }
}

fn talked_to(own: &Snapshot) -> Vec<String> {
    own.nets.iter().filter(|net| net.talked_to).map(|net| net.path.clone()).collect()
}

/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// The name of the profile that takes in what a file says.
pub const IMPORTED: &str = "imported";

const FILE_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{backend::Organisation, keys::KeyAction, samples::operation};

    fn scene(own: Snapshot) -> Scene {
        let organisation =
            Organisation { snapshot: Arc::new(own), air: Arc::default(), history: Arc::default() };
        Scene { organisations: vec![organisation], ..Scene::default() }
    }

    #[test]
    fn a_profile_goes_to_another_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hark-profile.toml");
        let mut settings = Settings { scale: 1.5, ..Settings::default() };
        settings.keys[0].action = KeyAction::net("Flight/Alpha");
        let mut before = operation();
        before.peers[0].volume = 0.5;
        let written = ProfileFile::new(&settings, &scene(before.clone()));
        written.write(&path).expect("written");
        let read = ProfileFile::read(&path).expect("read");
        assert_eq!(read, written);
        assert_eq!(read.orders(&scene(before.clone())).len(), 2, "its own profile, and no more");

        let mut other = operation();
        other.peers[0].volume = 1.0;
        other.nets[2].volume = 1.0;
        other.nets[4].listening = true;
        other.profiles.push(IMPORTED.to_owned());
        other.profile = IMPORTED.to_owned();
        let orders: Vec<_> = read.orders(&scene(other)).into_iter().map(|(_, it)| it).collect();
        let change = NetChange { volume: Some(0.6), ..NetChange::default() };
        let net = |net: &str| net.to_owned();
        assert_eq!(
            orders,
            [
                WindowOrder::Command(Command::Net { net: net("Flight/Alpha"), change }),
                Command::Listen { net: net("Logistics"), on: false, keep: false }.into(),
                Command::Volume { device: before.peers[0].stats.device.0.to_string(), gain: 0.5 }
                    .into(),
            ]
        );

        let elsewhere = Snapshot { organisation_id: "other".to_owned(), ..before };
        assert_eq!(read.orders(&scene(elsewhere)), [], "it says nothing of this organisation");
    }

    #[test]
    fn an_import_replaced_keys_without_a_question() {
        let here = Settings { scale: 2.0, muted: true, ..Settings::default() };
        let mut there = Settings { scale: 1.5, size: [1.0, 2.0], ..Settings::default() };
        there.keys.clear();
        let file = ProfileFile::new(&there, &scene(operation()));
        let looks = file.settings(TakenParts { keys: false, ..TakenParts::ALL }, &here);
        assert_eq!(looks, Settings { scale: 1.5, ..here.clone() });
        let keys = file.settings(TakenParts { looks: false, ..TakenParts::ALL }, &here);
        assert_eq!(keys, Settings { keys: Vec::new(), ..here.clone() });
        assert_eq!(file.settings(TakenParts::NONE, &here), here);
    }

    #[test]
    fn a_file_that_cannot_be_read_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.toml");
        let told = |text: &str| {
            std::fs::write(&path, text).expect("written");
            let told = ProfileFile::read(&path).expect_err("refused").to_string();
            told.replace(&*path.to_string_lossy(), "FILE")
        };
        let newer = "FILE: made by a newer version of Hark: nothing is taken";
        assert_eq!(told("version = 2\nwindow = 7"), newer);
        assert_eq!(told("version = 1\n[window]\nversion = 99"), newer);
        assert!(told("version = 1").starts_with("FILE: TOML parse error"), "no window");
        assert!(told(&"#".repeat(2 << 20)).contains("larger than"));
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(ProfileFile::read(&path), Err(ProfileFileError::System(..))));
    }
}
