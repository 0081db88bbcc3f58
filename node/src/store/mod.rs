//! What a node keeps on disk.
//!
//! ```text
//! HOME/version                         "hark home 2"
//!      name                            shown to others
//!      next.key                        the identity that the next organisation gets
//!      sound.toml                      the sound of this device, for the person to read
//!      protection                      all key files as they are to be, while they are written
//!      organisations/<id>/device.key   this device's identity in the organisation
//!                         charter      all signed pieces of the charter
//!                         member       whose device this is
//!                         names        keys of hidden channels' names
//!                         root-signed  root documents that this device has signed
//!                         members      records of the members met, with their addresses
//!                         generations  the last generation of the key of each target
//!                         profiles.toml what the person hears and talks to, for the person to read
//!                         port         the port that was listened on last
//!                         tickets      tickets issued here, and who came in by tickets
//!                         verified     devices that the person has verified
//!                         volunteer    the rate that this device relays for others
//!                         log.jsonl    what happened, for people; log.off if no log is kept
//!                         recovery.key the member's recovery key, until its words are on paper
//!                         lock         held by the process that runs this organisation
//!                         control.json where the running node's local API is
//! ```
//!
//! Each file is written whole to a temporary name, synced and renamed, and the folder synced: a
//! crash leaves the old or the new one, and what was kept stays. Nothing is read from a home that a
//! newer version has written.

mod files;
mod journal;
mod organisation;
mod platform;
mod tickets;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hark_charter::Charter;
use hark_commands::names::{listed, nearest};
use hark_keys::{
    DeviceId, DeviceKey, KeyFileError, MemberId, OrganisationId, Random, RecoverySecret, decode,
    encode, keystore,
};
use zeroize::Zeroizing;

pub use files::{Disk, FileError, Files, Guard, LockError, Owner, SystemDisk};
pub use journal::create_journal;
pub use organisation::{CHARTER_LIMIT, Lock, OrganisationStore};
pub use platform::private;

use crate::{look_alike::skeleton, profile::ProfileError};

/// Where a squad's charter and members are kept. Only worker threads call it.
pub trait SquadStore: Send + Sync {
    /// Writes the charter, which is durable when this returns.
    fn keep_charter(&self, charter: &Charter) -> Result<(), StoreError>;

    /// Writes the records of members.
    fn keep_members(&self, snapshot: &[u8]) -> Result<(), StoreError>;
}

/// Returns the passphrase of protected key files, after asking the person. `None` if there is no
/// answer.
pub type AskPassphrase = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The reason why something could not be read or kept, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk returned an error.
    #[error(transparent)]
    File(#[from] FileError),
    /// Other accounts can write to the home, so they may have put files there.
    #[error(
        "other accounts of this machine can write to {0}: if all in it is yours, \
         `chmod go-w` it; or use another --home"
    )]
    SharedHome(PathBuf),
    /// The home belongs to another account.
    #[error("{0} belongs to another account of this machine: use another --home")]
    ForeignHome(PathBuf),
    /// The home was written by a later version of Hark.
    #[error("{0} was written by a newer version of Hark: update hark, or use another --home")]
    NewerVersion(PathBuf),
    /// The home was written by an earlier version of Hark, whose organisations had another form.
    #[error(
        "{0} was written by an earlier version of Hark: use another --home, and found or join again"
    )]
    OlderVersion(PathBuf),
    /// The key file contains no usable key.
    #[error("{path}: {error}")]
    Key {
        /// The path of the key file.
        path: PathBuf,
        /// The reason why it gives no key.
        error: KeyFileError,
    },
    /// The contents of a file are not what Hark wrote.
    #[error("{0} is damaged: restore it from a backup, or join again with a new ticket")]
    Damaged(PathBuf),
    /// The file of the sound is no text.
    #[error("{0} is no text")]
    NoText(PathBuf),
    /// The file of the profiles cannot be parsed.
    #[error(transparent)]
    Profiles(#[from] ProfileError),
    /// Another process runs this organisation.
    #[error(
        "hark runs here already (process {0}): end it with `hark ctl quit`, or use another --home"
    )]
    Running(String),
    /// No organisation of this home has that name.
    #[error("no organisation is called {0:?}: {1}")]
    UnknownOrganisation(String, String),
    /// This home has several organisations, and none was named.
    #[error("this device belongs to several organisations: choose with --org ({0})")]
    Ambiguous(String),
}

/// A person's folder, which holds identities and organisations.
pub struct Home {
    files: Files,
    path: PathBuf,
    passphrase: AskPassphrase,
}

impl Home {
    /// The platform's data folder for Hark, which is used unless `--home` or `HARK_HOME` names
    /// another one.
    pub fn default_path() -> Option<PathBuf> {
        directories::ProjectDirs::from("", "", "hark").map(|dirs| dirs.data_local_dir().to_owned())
    }

    /// Opens the folder, or creates it. Refuses one of a newer version, or one to which other
    /// accounts can write, before it changes anything.
    pub fn open(path: &Path, passphrase: AskPassphrase) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(SystemDisk), path, passphrase)
    }

    /// The same on a given disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        passphrase: AskPassphrase,
    ) -> Result<Self, StoreError> {
        let files = Files(disk);
        files.claim(path)?;
        let version = path.join("version");
        match files.read_text(&version)? {
            Some(text) if text.trim() == VERSION => {}
            Some(text) if text.trim() == EARLIER => {
                return Err(StoreError::OlderVersion(path.to_owned()));
            }
            Some(_) => return Err(StoreError::NewerVersion(path.to_owned())),
            None => {
                files.make_folder(path)?;
                files.write(&version, format!("{VERSION}\n").as_bytes())?;
            }
        }
        files.make_folder(&path.join("organisations"))?;
        let home = Self { files, path: path.to_owned(), passphrase };
        home.finish_keeping()?;
        home.finish_protection()?;
        Ok(home)
    }

    /// The identity that the next organisation gets. It is created now if there is none.
    pub fn next_key(&self, random: &dyn Random) -> Result<DeviceKey, StoreError> {
        let path = self.next_key_path();
        match self.read_key(&path)? {
            Some(key) => Ok(key),
            None => self.files.make_key(&path, random),
        }
    }

    /// All organisations of this home, sorted by name.
    pub fn organisations(&self) -> Result<Vec<OrganisationStore>, StoreError> {
        let mut found = Vec::new();
        for folder in self.files.folders(&self.path.join("organisations"))? {
            found.extend(OrganisationStore::open(&self.files, &folder)?);
        }
        found.sort_by(|a, b| {
            let name = |store: &OrganisationStore| store.charter().name().to_owned();
            name(a).cmp(&name(b)).then(a.id().cmp(&b.id()))
        });
        Ok(found)
    }

    /// The organisation with this name or id, or the only one if `name` is `None`. `None` if there
    /// is no organisation at all.
    pub fn choose(&self, name: Option<&str>) -> Result<Option<OrganisationStore>, StoreError> {
        let mut all = self.organisations()?;
        if let Some(wanted) = name {
            let is_meant = |store: &OrganisationStore| {
                let (name, id) = (store.charter().name(), store.id().to_string());
                // The form of a list of several organisations: the name, and how the id begins.
                let rest = wanted.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
                name == wanted
                    || id.starts_with(wanted)
                    || rest.is_some_and(|rest| rest.len() >= 4 && id.starts_with(rest))
            };
            let names: Vec<_> = all.iter().map(|it| it.charter().name().to_owned()).collect();
            all.retain(is_meant);
            if all.is_empty() {
                let hint = match nearest(wanted, names.iter().map(String::as_str)).as_slice() {
                    [] => "`hark id` lists those of this device".to_owned(),
                    near => format!("did you mean {}?", listed(near, "or")),
                };
                return Err(StoreError::UnknownOrganisation(wanted.to_owned(), hint));
            }
        }
        if all.len() > 1 {
            let names: Vec<_> = all
                .iter()
                .map(|store| format!("{} {}", store.charter().name(), store.id().short()))
                .collect();
            return Err(StoreError::Ambiguous(names.join(", ")));
        }
        Ok(all.pop())
    }

    /// The organisation whose name looks like `name` to a reader.
    pub fn named_like(&self, name: &str) -> Result<Option<OrganisationStore>, StoreError> {
        let looks_alike = |it: &OrganisationStore| skeleton(it.charter().name()) == skeleton(name);
        Ok(self.organisations()?.into_iter().find(looks_alike))
    }

    /// The organisation with this id, if this device belongs to it.
    pub fn find(&self, id: OrganisationId) -> Result<Option<OrganisationStore>, StoreError> {
        Ok(self.organisations()?.into_iter().find(|store| store.id() == id))
    }

    /// Keeps an organisation that the next identity has founded or joined, together with that
    /// identity. If this home has the organisation already, its identity has been admitted again.
    /// Then the pieces of `charter` are added to those that are kept.
    pub fn keep(
        &self,
        charter: &Charter,
        member: MemberId,
    ) -> Result<OrganisationStore, StoreError> {
        let folder = self.path.join("organisations").join(charter.organisation().to_string());
        self.files.make_folder(&folder)?;
        if let Some(known) = OrganisationStore::open(&self.files, &folder)? {
            let mut merged = Charter::clone(known.charter());
            merged.merge(charter);
            known.keep_charter(&merged)?;
            known.keep_member(member)?;
            return OrganisationStore::open(&self.files, &folder)?
                .ok_or(StoreError::Damaged(folder));
        }
        let key = self.next_key_path();
        let text = self.files.read_secret(&key)?.ok_or_else(|| StoreError::Damaged(key.clone()))?;
        // The identity is written first and the charter last. The folder counts only once the
        // charter is there, and until then the identity is still the next one as well.
        self.files.write_secret(&folder.join("device.key"), &text)?;
        self.files.write(&folder.join("member"), member.to_string().as_bytes())?;
        self.files.write(&folder.join("charter"), &charter.snapshot())?;
        self.finish_keeping()?;
        OrganisationStore::open(&self.files, &folder)?.ok_or(StoreError::Damaged(folder))
    }

    /// Removes the next identity if an organisation has taken it.
    fn finish_keeping(&self) -> Result<(), StoreError> {
        let next = self.next_key_path();
        let Some(key) = self.files.read_secret(&next)? else { return Ok(()) };
        for folder in self.files.folders(&self.path.join("organisations"))? {
            let taken = self.files.read_secret(&folder.join("device.key"))?.as_ref() == Some(&key);
            if taken && OrganisationStore::open(&self.files, &folder)?.is_some() {
                // The charter can be read, but it may not be durable yet.
                self.files.settle(&folder)?;
                self.files.remove(&next)?;
            }
        }
        Ok(())
    }

    /// The identity of this device in an organisation.
    pub fn key(&self, store: &OrganisationStore) -> Result<DeviceKey, StoreError> {
        let path = store.key_path();
        let (charter, member) = (store.charter(), store.member());
        let known = |device| {
            let devices = charter.devices_of(member);
            // A member that was removed, or has retired the device, is notified of that later.
            devices.is_empty()
                || devices.contains(&device)
                || charter.state().is_retired(member, device)
        };
        match self.read_key(&path)? {
            Some(key) if known(key.id()) => Ok(key),
            // With another key than the one that was admitted, the device could not join.
            _ => Err(StoreError::Damaged(path)),
        }
    }

    /// Protects all key files with `passphrase`, or removes the passphrase. If this fails, either
    /// all files have changed or none.
    pub fn protect(&self, passphrase: Option<&str>, random: &dyn Random) -> Result<(), StoreError> {
        let mut texts = Zeroizing::new(Vec::new());
        for path in self.key_paths()? {
            if let Some(key) = self.read_key(&path)? {
                let text = keystore::encode(&key, passphrase, random);
                let path = path.strip_prefix(&self.path).expect("key files are in the home");
                let path = path.to_str().expect("names in the home are plain");
                texts.push((path.to_owned(), String::clone(&text)));
            }
        }
        // There are several files, and one passphrase must open all of them.
        let bytes = Zeroizing::new(encode(&*texts));
        self.files.write_secret(&self.protection_path(), &bytes)?;
        self.finish_protection()
    }

    /// Writes the key files that [`Self::protect`] has prepared.
    fn finish_protection(&self) -> Result<(), StoreError> {
        let path = self.protection_path();
        let Some(bytes) = self.files.read_secret(&path)? else { return Ok(()) };
        let texts: Vec<(String, String)> = decode(&bytes, PROTECTION_LIMIT as usize)
            .map_err(|_| StoreError::Damaged(path.clone()))?;
        for (key, text) in &*Zeroizing::new(texts) {
            self.files.write_secret(&self.path.join(key), text.as_bytes())?;
        }
        Ok(self.files.remove(&path)?)
    }

    /// Whether all key files need a passphrase. `None` if there is no key yet.
    pub fn protected(&self) -> Result<Option<bool>, StoreError> {
        let mut all = None;
        for path in self.key_paths()? {
            if let Some(text) = self.files.read_secret(&path)? {
                let text = str::from_utf8(&text).unwrap_or_default();
                all = Some(all.unwrap_or(true) && keystore::is_protected(text));
            }
        }
        Ok(all)
    }

    /// Keeps the recovery key of this device's member until its words are on paper. It is protected
    /// like the device's own key.
    pub fn keep_recovery(
        &self,
        store: &OrganisationStore,
        secret: &RecoverySecret,
        random: &dyn Random,
    ) -> Result<(), StoreError> {
        let key = DeviceKey::from_secret(secret.as_bytes());
        let device = self.files.read_secret(&store.key_path())?.unwrap_or_default();
        let device = str::from_utf8(&device).unwrap_or_default();
        let path = store.recovery_path();
        let needed = KeyFileError::PassphraseNeeded;
        let missing = || StoreError::Key { path: path.clone(), error: needed };
        let passphrase = match keystore::is_protected(device) {
            true => Some(Zeroizing::new((self.passphrase)().ok_or_else(missing)?)),
            false => None,
        };
        let text = keystore::encode(&key, passphrase.as_ref().map(|it| it.as_str()), random);
        Ok(self.files.write_secret(&path, text.as_bytes())?)
    }

    /// The recovery key of this device's member, if it is kept here.
    pub fn recovery(
        &self,
        store: &OrganisationStore,
    ) -> Result<Option<RecoverySecret>, StoreError> {
        let key = self.read_key(&store.recovery_path())?;
        Ok(key.map(|key| RecoverySecret::from_bytes(*key.secret())))
    }

    /// Removes the recovery key from this device.
    pub fn forget_recovery(&self, store: &OrganisationStore) -> Result<(), StoreError> {
        Ok(self.files.remove(&store.recovery_path())?)
    }

    /// Removes an organisation from this device, with the identity there. The identity cannot be
    /// restored.
    pub fn forget(&self, store: &OrganisationStore) -> Result<(), StoreError> {
        let _lock = store.lock()?;
        // The charter is removed first: without it, the folder no longer counts as an
        // organisation's.
        for name in FILES {
            match self.files.remove(&store.folder().join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// The device id to show to people outside any organisation: that of the first organisation, or
    /// of the next identity.
    pub fn device(&self, random: &dyn Random) -> Result<DeviceId, StoreError> {
        match self.organisations()?.first() {
            Some(store) => Ok(self.key(store)?.id()),
            None => Ok(self.next_key(random)?.id()),
        }
    }

    /// The name that the person last chose to show to others.
    pub fn name(&self) -> Result<Option<String>, StoreError> {
        Ok(self.files.read_text(&self.path.join("name"))?.map(|name| name.trim().to_owned()))
    }

    /// Keeps the name that is shown to others.
    pub fn keep_name(&self, name: &str) -> Result<(), StoreError> {
        Ok(self.files.write(&self.path.join("name"), format!("{name}\n").as_bytes())?)
    }

    /// The file with the settings of this device's sound, and its text. `None` if nothing was kept.
    pub fn sound(&self) -> Result<Option<(PathBuf, String)>, StoreError> {
        let path = self.path.join("sound.toml");
        let Some(bytes) = self.files.read(&path, SOUND_LIMIT)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((path, text))),
            Err(_) => Err(StoreError::NoText(path)),
        }
    }

    /// Keeps the settings of this device's sound.
    pub fn keep_sound(&self, text: &str) -> Result<(), StoreError> {
        Ok(self.files.write(&self.path.join("sound.toml"), text.as_bytes())?)
    }

    /// The paths of all key files, existing or not.
    fn key_paths(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folders = self.organisations()?;
        let mut paths: Vec<_> = folders.iter().map(OrganisationStore::key_path).collect();
        paths.extend(folders.iter().map(OrganisationStore::recovery_path));
        paths.push(self.next_key_path());
        Ok(paths)
    }

    fn next_key_path(&self) -> PathBuf {
        self.path.join("next.key")
    }

    fn protection_path(&self) -> PathBuf {
        self.path.join("protection")
    }

    fn read_key(&self, path: &Path) -> Result<Option<DeviceKey>, StoreError> {
        self.files.read_key(path, &self.passphrase)
    }
}

const VERSION: &str = "hark home 2";

/// The names of the files that an organisation's folder may contain.
const FILES: [&str; 16] = [
    "charter",
    "device.key",
    "recovery.key",
    "member",
    "members",
    "names",
    "profiles.toml",
    "port",
    "volunteer",
    "root-signed",
    "generations",
    "tickets",
    "verified",
    "control.json",
    LOG_FILE,
    LOG_OFF,
];

/// The log of what happened in the organisation, for people, and the mark that no log is kept.
pub(crate) const LOG_FILE: &str = "log.jsonl";
pub(crate) const LOG_OFF: &str = "log.off";

/// The version of a home from before there were charters.
const EARLIER: &str = "hark home 1";

/// Longest file of sound settings in bytes. A longer one was not written by Hark.
const SOUND_LIMIT: u64 = 1 << 20;

/// Longest file of protected keys in bytes. A longer one was not written by Hark.
const PROTECTION_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
