//! What a person has chosen for the window, kept in the home.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    keys::{KeySetting, usual_keys},
    sound::ChosenDevices,
    tokens::Theme,
};

/// The settings of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The version of the file. A newer one is not read, and not written over.
    pub version: u32,
    /// The colours.
    pub theme: Theme,
    /// The scale of everything, 0.75 to 3.
    pub scale: f32,
    /// The size of the plates.
    pub density: Density,
    /// What the drawer on the right shows. `None` if it is closed.
    pub drawer: Option<Tab>,
    /// Whether only live and armed nets are shown.
    pub mini: bool,
    /// Whether the window stays above others.
    pub on_top: bool,
    /// Whether nets that are not heard have plates as well.
    pub shows_unheard: bool,
    /// The order of the plates by net id, for each organisation by its id. Nets that are not named
    /// come last.
    pub order: PlateOrder,
    /// The size of the window.
    pub size: [f32; 2],
    /// The name of the microphone. `None` is the system's default.
    pub microphone: Option<String>,
    /// The name of the loudspeaker. `None` is the system's default.
    pub loudspeaker: Option<String>,
    /// Whether the microphone was muted when the window was seen last: a restart does not open it.
    pub muted: bool,
    /// Keys and what they do.
    pub keys: Vec<KeySetting>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: VERSION,
            theme: Theme::Dark,
            scale: 1.0,
            density: Density::Card,
            drawer: Some(Tab::Members),
            mini: false,
            on_top: false,
            shows_unheard: true,
            order: BTreeMap::new(),
            size: [1100.0, 700.0],
            microphone: None,
            loudspeaker: None,
            muted: false,
            keys: usual_keys(),
        }
    }
}

impl Settings {
    /// The devices that sound comes from and goes to.
    pub fn chosen_devices(&self) -> ChosenDevices {
        ChosenDevices { microphone: self.microphone.clone(), loudspeaker: self.loudspeaker.clone() }
    }
}

/// The nets of each organisation by their ids, in the order of their plates.
pub type PlateOrder = BTreeMap<String, Vec<String>>;

/// The size of plates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Density {
    /// One line for each net.
    Row,
    /// Lamp, talkers, volume.
    #[default]
    Card,
    /// Everything, with the last callers.
    Tile,
}

/// A part of the drawer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tab {
    /// Who is here.
    #[default]
    Members,
    /// The tree of channels.
    Channels,
    /// How well the links work.
    Mesh,
}

/// The file of the settings.
#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    /// What is on the disk. `None` if the file is not to be written.
    stored: Option<Settings>,
}

/// Why the settings are not read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file is of a newer version of Hark.
    #[error("{path}: made by a newer version of Hark: it stays as it is", path = .0.display())]
    Newer(PathBuf),
    /// The file means nothing.
    #[error("{path}: {1}: it stays as it is; mend or remove it", path = .0.display())]
    Broken(PathBuf, String),
    /// The file cannot be read or written.
    #[error("{path}: {1}", path = .0.display())]
    System(PathBuf, io::Error),
}

impl SettingsFile {
    /// Reads the settings of a home, or the usual ones if it has none. If the file cannot be read,
    /// the usual ones come with the reason, and the file is not touched.
    pub fn open(home: &Path) -> (Self, Settings, Option<SettingsError>) {
        let path = home.join(FILE);
        let read = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(SettingsError::System(path.clone(), error)),
        };
        match read {
            Ok(settings) => (Self { path, stored: Some(settings.clone()) }, settings, None),
            Err(error) => (Self { path, stored: None }, Settings::default(), Some(error)),
        }
    }

    /// Writes the settings if they have changed. The file is replaced as a whole.
    pub fn keep(&mut self, settings: &Settings) -> Result<(), SettingsError> {
        if self.stored.as_ref().is_none_or(|stored| stored == settings) {
            return Ok(());
        }
        let text = toml::to_string(settings).expect("text, numbers and lists are TOML");
        let failed = |error| SettingsError::System(self.path.clone(), error);
        let beside = self.path.with_extension("toml.new");
        std::fs::write(&beside, text).map_err(failed)?;
        std::fs::rename(&beside, &self.path).map_err(failed)?;
        self.stored = Some(settings.clone());
        Ok(())
    }
}

fn parse(path: &Path, text: &str) -> Result<Settings, SettingsError> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        version: u32,
    }
    let broken =
        |error: toml::de::Error| SettingsError::Broken(path.to_owned(), error.message().to_owned());
    let Version { version } = toml::from_str(text).map_err(broken)?;
    if version > VERSION {
        return Err(SettingsError::Newer(path.to_owned()));
    }
    let settings: Settings = toml::from_str(text).map_err(broken)?;
    let sane = |value: f32, low, high, usual| {
        if value.is_finite() { f32::clamp(value, low, high) } else { usual }
    };
    Ok(Settings {
        version: VERSION,
        scale: sane(settings.scale, 0.75, 3.0, 1.0),
        size: settings.size.map(|it| sane(it, 200.0, 8_000.0, 700.0)),
        ..settings
    })
}

/// The file in the home.
const FILE: &str = "window.toml";

/// The version of the file.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_there_at_the_next_start() {
        let home = tempfile::tempdir().expect("a folder");
        let (mut file, usual, error) = SettingsFile::open(home.path());
        assert!(error.is_none());
        let mut chosen = Settings { theme: Theme::Night, density: Density::Row, ..usual };
        chosen.order.insert("org".to_owned(), vec!["b".to_owned(), "a".to_owned()]);
        chosen.drawer = None;
        chosen.microphone = Some("USB \"Headset\"".to_owned());
        file.keep(&chosen).expect("kept");
        let (_, again, error) = SettingsFile::open(home.path());
        assert!(error.is_none());
        assert_eq!(Settings { drawer: None, ..again }, chosen);
    }

    #[test]
    fn a_newer_file_is_refused_and_not_written_over() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(FILE);
        for text in ["version = 9\ntheme = \"aurora\"\n", "theme = \n"] {
            std::fs::write(&path, text).expect("written");
            let (mut file, settings, error) = SettingsFile::open(home.path());
            assert!(error.is_some());
            assert_eq!(settings, Settings::default());
            file.keep(&Settings { theme: Theme::Light, ..settings }).expect("left alone");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        }
    }

    #[test]
    fn sizes_out_of_range_are_brought_back() {
        let read = parse(Path::new("window.toml"), "scale = 90.0\nsize = [1.0, nan]\n");
        let read = read.expect("read");
        assert_eq!((read.scale, read.size), (3.0, [200.0, 700.0]));
    }
}
