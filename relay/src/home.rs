//! What a relay keeps on disk.
//!
//! ```text
//! HOME/version                         "hark relay home 1"
//!      lock                            held by the process that runs the relay
//!      token                           opens the admin API; for the owner's eyes only
//!      next.key                        the identity that the next organisation gets
//!      state.json                      what was changed over the admin API
//!      audit.jsonl                     who changed what
//!      organisations/<id>/device.key   the relay's identity in the organisation
//!                         charter      all signed pieces of the charter, as its members brought them
//!                         members      records of the members met, with their addresses
//!                         metering.json what was carried, by day
//! ```
//!
//! Each file except the audit log is written as a whole or not at all.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hark_charter::Charter;
use hark_keys::{DeviceId, DeviceKey, OrganisationId, Random};
use hark_node::{
    store::{
        AskPassphrase, CHARTER_LIMIT, FileError, Files, Guard, SquadStore, StoreError, SystemDisk,
    },
    token::ApiToken,
};

use crate::{audit::Audit, metering::Metering, state::RelayState};

/// The folder of one relay. Only this process uses it.
pub struct RelayHome {
    files: Files,
    path: PathBuf,
    passphrase: AskPassphrase,
    _lock: Box<dyn Guard>,
}

/// What is stored of one organisation.
#[derive(Clone, Debug)]
pub struct TenantStore {
    files: Files,
    folder: PathBuf,
}

impl RelayHome {
    /// The platform's data folder for the relay, which is used if neither `--home` nor
    /// `HARK_RELAY_HOME` is given.
    pub fn default_path() -> Option<PathBuf> {
        directories::ProjectDirs::from("", "", "hark-relay").map(|dirs| dirs.data_dir().to_owned())
    }

    /// Opens or creates the folder; `passphrase` opens key files that are protected. Refuses a
    /// folder of a newer version, one to which other accounts can write, and one that another
    /// process uses.
    pub fn open(path: &Path, passphrase: AskPassphrase) -> Result<Self, StoreError> {
        let files = Files(Arc::new(SystemDisk));
        files.claim(path)?;
        let version = path.join("version");
        match files.read_text(&version)? {
            Some(text) if text.trim() == VERSION => {}
            Some(_) => return Err(StoreError::NewerVersion(path.to_owned())),
            None => {
                files.make_folder(path)?;
                files.write(&version, format!("{VERSION}\n").as_bytes())?;
            }
        }
        let lock = files.lock(&path.join("lock"))?;
        Ok(Self { files, path: path.to_owned(), passphrase, _lock: lock })
    }

    /// The secret that opens the admin API. It is created if there is none.
    pub fn token(&self, random: &dyn Random) -> Result<ApiToken, StoreError> {
        let path = self.token_path();
        if let Some(text) = self.files.read_text(&path)? {
            return ApiToken::read(text.trim()).ok_or(StoreError::Damaged(path));
        }
        let token = ApiToken::generate(random);
        self.files.write(&path, format!("{}\n", token.text()).as_bytes())?;
        Ok(token)
    }

    /// The path of the token.
    pub fn token_path(&self) -> PathBuf {
        self.path.join("token")
    }

    /// The identity that the next new organisation will get.
    pub fn next_device(&self, random: &dyn Random) -> Result<DeviceId, StoreError> {
        Ok(self.key_at(&self.next_key_path(), random)?.id())
    }

    /// The relay's identity in an organisation. A new organisation gets the next identity.
    pub fn key(&self, id: OrganisationId, random: &dyn Random) -> Result<DeviceKey, StoreError> {
        let path = self.folder(id).join("device.key");
        if let Some(key) = self.files.read_key(&path, &self.passphrase)? {
            return Ok(key);
        }
        self.files.make_folder(&self.folder(id))?;
        let next = self.next_key_path();
        self.key_at(&next, random)?;
        // Renaming is a single step, so that two organisations never have the same identity.
        std::fs::rename(&next, &path).map_err(|error| {
            tracing::error!(%error, "the next identity is not taken");
            StoreError::Damaged(next)
        })?;
        let key = self.files.read_key(&path, &self.passphrase)?;
        key.ok_or(StoreError::Damaged(path))
    }

    /// The store of an organisation that has an identity here.
    pub fn tenant(&self, id: OrganisationId) -> TenantStore {
        TenantStore::new(self.files.clone(), self.folder(id))
    }

    /// What was changed over the admin API.
    pub fn state(&self) -> Result<RelayState, StoreError> {
        let path = self.state_path();
        let Some(bytes) = self.files.read(&path, FILE_LIMIT)? else {
            return Ok(RelayState::default());
        };
        serde_json::from_slice(&bytes).map_err(|_| StoreError::Damaged(path))
    }

    /// Writes what was changed over the admin API.
    pub fn keep_state(&self, state: &RelayState) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(state).expect("text and numbers are JSON");
        Ok(self.files.write(&self.state_path(), &text)?)
    }

    /// The audit log.
    pub fn audit(&self) -> Audit {
        Audit::new(self.path.join("audit.jsonl"), AUDIT_LIMIT)
    }

    fn key_at(&self, path: &Path, random: &dyn Random) -> Result<DeviceKey, StoreError> {
        match self.files.read_key(path, &self.passphrase)? {
            Some(key) => Ok(key),
            None => self.files.make_key(path, random),
        }
    }

    fn folder(&self, id: OrganisationId) -> PathBuf {
        self.path.join("organisations").join(id.to_string())
    }

    fn next_key_path(&self) -> PathBuf {
        self.path.join("next.key")
    }

    fn state_path(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

impl TenantStore {
    /// The store of an organisation in a folder that exists.
    pub fn new(files: Files, folder: PathBuf) -> Self {
        Self { files, folder }
    }

    /// The organisation's charter; `None` until a member has brought it.
    pub fn charter(&self) -> Result<Option<Charter>, StoreError> {
        let path = self.folder.join("charter");
        let Some(bytes) = self.files.read(&path, CHARTER_LIMIT)? else { return Ok(None) };
        Charter::restore(&bytes).map(Some).map_err(|_| StoreError::Damaged(path))
    }

    /// The records of members, as the squad wrote them.
    pub fn members(&self) -> Result<Vec<u8>, StoreError> {
        Ok(self.files.read(&self.folder.join("members"), FILE_LIMIT)?.unwrap_or_default())
    }

    /// The traffic that was carried.
    pub fn metering(&self) -> Result<Metering, StoreError> {
        let path = self.folder.join("metering.json");
        let Some(bytes) = self.files.read(&path, FILE_LIMIT)? else {
            return Ok(Metering::default());
        };
        serde_json::from_slice(&bytes).map_err(|_| StoreError::Damaged(path))
    }

    /// Writes the traffic that was carried.
    pub fn keep_metering(&self, metering: &Metering) -> Result<(), FileError> {
        let text = serde_json::to_vec(metering).expect("text and numbers are JSON");
        self.files.write(&self.folder.join("metering.json"), &text)
    }
}

impl SquadStore for TenantStore {
    /// Writes the charter. [CHARTER-8.1]
    fn keep_charter(&self, charter: &Charter) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("charter"), &charter.snapshot())?)
    }

    fn keep_members(&self, snapshot: &[u8]) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("members"), snapshot)?)
    }
}

const VERSION: &str = "hark relay home 1";

/// The largest length in bytes of any file but the charter. A longer file is not Hark's.
const FILE_LIMIT: u64 = 32 << 20;

/// The length of the audit log, in bytes, at which another file begins. With the one before it, the
/// log holds some 100,000 changes.
const AUDIT_LIMIT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use hark_keys::SeededRandom;

    use super::*;

    fn open(path: &Path) -> RelayHome {
        RelayHome::open(path, Box::new(|| None)).expect("a home")
    }

    #[test]
    fn an_organisation_keeps_the_identity_that_was_announced_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let random = SeededRandom::new(1);
        let [one, two] = [1, 2].map(|number| OrganisationId::from_bytes([number; 32]));
        let home = open(folder.path());
        let announced = home.next_device(&random).expect("made");
        assert_eq!(home.next_device(&random).expect("read"), announced);
        assert_eq!(home.key(one, &random).expect("taken").id(), announced);
        let next = home.next_device(&random).expect("made");
        assert_ne!(next, announced);
        drop(home);
        let home = open(folder.path());
        assert_eq!(home.key(one, &random).expect("read").id(), announced);
        assert_eq!(home.key(two, &random).expect("taken").id(), next);
    }

    #[test]
    fn the_token_stays_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = open(folder.path());
        let token = home.token(&SeededRandom::new(1)).expect("made");
        let again = home.token(&SeededRandom::new(2)).expect("read");
        assert!(again.is(token.text()));
        #[cfg(unix)]
        {
            let file = std::fs::metadata(home.token_path()).expect("it is there");
            let mode = std::os::unix::fs::PermissionsExt::mode(&file.permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(home.token_path(), "secret\n").expect("written");
        assert!(matches!(home.token(&SeededRandom::new(3)), Err(StoreError::Damaged(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_home_to_which_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let shared = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), shared).expect("set");
        let refused = RelayHome::open(folder.path(), Box::new(|| None));
        assert!(matches!(refused, Err(StoreError::SharedHome(_))));
    }

    #[test]
    fn a_home_is_one_process_alone_and_of_this_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = open(folder.path());
        let again = RelayHome::open(folder.path(), Box::new(|| None));
        assert!(matches!(again, Err(StoreError::Running(_))));
        drop(home);
        std::fs::write(folder.path().join("version"), "hark relay home 2\n").expect("written");
        let newer = RelayHome::open(folder.path(), Box::new(|| None));
        assert!(matches!(newer, Err(StoreError::NewerVersion(_))));
    }
}
