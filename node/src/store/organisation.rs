use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use hark_charter::{Charter, NameKey};
use hark_keys::{
    ChannelId, DeviceId, MemberId, ObjectHash, OrganisationId, TargetId, decode, encode,
};

use super::{
    SquadStore, StoreError,
    files::{Files, Guard},
};
use crate::profile::{self, ProfileError, Profiles};

/// The folder of one organisation.
#[derive(Clone, Debug)]
pub struct OrganisationStore {
    files: Files,
    folder: PathBuf,
    charter: Arc<Charter>,
    member: MemberId,
    /// Shared by all copies. The thread that holds it is the only one that uses the file of
    /// tickets.
    tickets: Arc<Mutex<()>>,
}

impl OrganisationStore {
    /// Opens the folder. Returns `None` if it does not contain an organisation yet.
    pub(super) fn open(files: &Files, folder: &Path) -> Result<Option<Self>, StoreError> {
        let charter = files.read(&folder.join("charter"), CHARTER_LIMIT)?;
        let Some(charter) = charter else { return Ok(None) };
        let charter =
            Charter::restore(&charter).map_err(|_| StoreError::Damaged(folder.join("charter")))?;
        let damaged = || StoreError::Damaged(folder.join("member"));
        let member = files.read_text(&folder.join("member"))?.ok_or_else(damaged)?;
        let member = member.trim().parse().map_err(|_| damaged())?;
        if !charter.is_known(member) {
            return Err(damaged());
        }
        let charter = Arc::new(charter);
        let (files, folder, tickets) = (files.clone(), folder.to_owned(), Arc::default());
        Ok(Some(Self { files, folder, charter, member, tickets }))
    }

    /// The id of the organisation.
    pub fn id(&self) -> OrganisationId {
        self.charter.organisation()
    }

    /// The charter, as it was when the store was opened.
    pub fn charter(&self) -> &Arc<Charter> {
        &self.charter
    }

    /// The member that this device belongs to.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Keeps the member that this device belongs to from now on. The charter must know the member.
    pub fn keep_member(&self, member: MemberId) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("member"), member.to_string().as_bytes())?)
    }

    /// The keys of hidden channels' names. If they cannot be read, the device learns them again
    /// from others.
    pub fn names(&self) -> Result<BTreeMap<ChannelId, NameKey>, StoreError> {
        let bytes = self.files.read(&self.folder.join("names"), FILE_LIMIT)?;
        Ok(bytes.and_then(|bytes| decode(&bytes, FILE_LIMIT as usize).ok()).unwrap_or_default())
    }

    /// Keeps the keys of hidden channels' names.
    pub fn keep_names(&self, names: &BTreeMap<ChannelId, NameKey>) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("names"), &encode(names))?)
    }

    /// The path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes this process the only one that runs the organisation from this folder.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let guard = self.files.lock(&self.folder.join("lock"))?;
        // The files that are read from now on must be durable, whichever process wrote them.
        self.files.settle(&self.folder)?;
        Ok(Lock { _guard: guard })
    }

    /// The records of the members, in the form that the squad wrote.
    pub fn members(&self) -> Result<Vec<u8>, StoreError> {
        Ok(self.files.read(&self.folder.join("members"), FILE_LIMIT)?.unwrap_or_default())
    }

    /// What the person has chosen to hear and to talk to. `None` if that was never kept.
    pub fn profiles(&self) -> Result<Option<Profiles>, StoreError> {
        let path = self.profiles_path();
        let Some(bytes) = self.files.read(&path, profile::FILE_LIMIT)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        let text =
            text.map_err(|_| ProfileError::File(format!("{} is no text", path.display())))?;
        Ok(Some(Profiles::read(&path, &text)?))
    }

    /// Keeps what the person has chosen to hear and to talk to.
    pub fn keep_profiles(&self, profiles: &Profiles) -> Result<(), StoreError> {
        Ok(self.files.write(&self.profiles_path(), profiles.to_text().as_bytes())?)
    }

    fn profiles_path(&self) -> PathBuf {
        self.folder.join("profiles.toml")
    }

    /// Devices that the person has verified, with the members they belong to.
    pub fn verified(&self) -> Result<BTreeMap<DeviceId, MemberId>, StoreError> {
        let path = self.folder.join("verified");
        let Some(bytes) = self.files.read(&path, FILE_LIMIT)? else { return Ok(BTreeMap::new()) };
        decode(&bytes, FILE_LIMIT as usize).map_err(|_| StoreError::Damaged(path))
    }

    /// Keeps the devices that the person has verified.
    pub fn keep_verified(&self, devices: &BTreeMap<DeviceId, MemberId>) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("verified"), &encode(devices))?)
    }

    /// The port that was last listened on. `None` if it is not known.
    pub fn port(&self) -> Option<u16> {
        // The port is only worth a try, so an error does not matter.
        self.files.read_text(&self.folder.join("port")).ok()??.trim().parse().ok()
    }

    /// Keeps the port that is listened on, if it has changed.
    pub fn keep_port(&self, port: Option<u16>) -> Result<(), StoreError> {
        match port {
            Some(port) if self.port() != Some(port) => {
                Ok(self.files.write(&self.folder.join("port"), port.to_string().as_bytes())?)
            }
            _ => Ok(()),
        }
    }

    /// The rate in kbit/s that this device offers to carry for others as a relay; 0 stands for any
    /// rate. `None` if it does not offer to relay.
    pub fn volunteers(&self) -> Option<u32> {
        self.files.read_text(&self.folder.join("volunteer")).ok()??.trim().parse().ok()
    }

    /// Keeps the rate that this device offers to carry for others.
    pub fn keep_volunteer(&self, rate_kbps: Option<u32>) -> Result<(), StoreError> {
        // A file without a number means that the device is no volunteer.
        let text = rate_kbps.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
        Ok(self.files.write(&self.folder.join("volunteer"), text.as_bytes())?)
    }

    /// The root document of this version that this device has signed, even if it never took effect.
    /// [CHARTER-2.4]
    pub fn root_signed(&self, version: u32) -> Result<Option<ObjectHash>, StoreError> {
        Ok(self.roots_signed()?.get(&version).copied())
    }

    /// Keeps for good that this device signs a root document. Called before the document is signed.
    pub fn keep_root_signed(&self, version: u32, document: ObjectHash) -> Result<(), StoreError> {
        let mut signed = self.roots_signed()?;
        signed.entry(version).or_insert(document);
        Ok(self.files.write(&self.folder.join("root-signed"), &encode(&signed))?)
    }

    fn roots_signed(&self) -> Result<BTreeMap<u32, ObjectHash>, StoreError> {
        let path = self.folder.join("root-signed");
        let Some(bytes) = self.files.read(&path, FILE_LIMIT)? else { return Ok(BTreeMap::new()) };
        decode(&bytes, FILE_LIMIT as usize).map_err(|_| StoreError::Damaged(path))
    }

    /// For each target, the last generation of its key that may have been used.
    pub fn generations(&self) -> Result<BTreeMap<TargetId, u16>, StoreError> {
        let path = self.folder.join("generations");
        let Some(bytes) = self.files.read(&path, FILE_LIMIT)? else { return Ok(BTreeMap::new()) };
        decode(&bytes, FILE_LIMIT as usize).map_err(|_| StoreError::Damaged(path))
    }

    /// Keeps the generations, so that none is used again. [PROTO-6.3]
    pub fn keep_generations(
        &self,
        generations: &BTreeMap<TargetId, u16>,
    ) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("generations"), &encode(generations))?)
    }

    /// Keeps the address of the running node's local API.
    pub fn keep_control(&self, json: &str) -> Result<(), StoreError> {
        Ok(self.files.write(&self.control_path(), json.as_bytes())?)
    }

    /// The address of the running node's local API, if a node runs.
    pub fn control(&self) -> Result<Option<String>, StoreError> {
        Ok(self.files.read_text(&self.control_path())?)
    }

    /// Removes the address of the local API, because the node has ended.
    pub fn forget_control(&self) {
        // At worst, a stale file is left whose address nobody answers.
        let _ = self.files.remove(&self.control_path());
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn tickets_turn(&self) -> &Mutex<()> {
        &self.tickets
    }

    /// The path of this device's identity.
    pub(super) fn key_path(&self) -> PathBuf {
        self.folder.join("device.key")
    }

    /// The path of the member's recovery key, which exists until its words are on paper.
    pub(super) fn recovery_path(&self) -> PathBuf {
        self.folder.join("recovery.key")
    }

    fn control_path(&self) -> PathBuf {
        self.folder.join("control.json")
    }
}

impl SquadStore for OrganisationStore {
    /// [CHARTER-8.1]
    fn keep_charter(&self, charter: &Charter) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("charter"), &charter.snapshot())?)
    }

    fn keep_members(&self, snapshot: &[u8]) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("members"), snapshot)?)
    }
}

/// The lock that a process holds while it runs the organisation. The system frees it when the
/// process ends.
#[derive(Debug)]
pub struct Lock {
    _guard: Box<dyn Guard>,
}

/// Longest file in bytes, except the charter. A longer one was not written by Hark.
pub(super) const FILE_LIMIT: u64 = 32 << 20;

/// Longest charter in bytes. A charter of ten thousand members has some 3 MB. With as many
/// operations and certificates as are ever accepted, each of the greatest length, it is shorter
/// than this: what was written must be readable.
pub const CHARTER_LIMIT: u64 = 1 << 30;
