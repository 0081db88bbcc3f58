use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use hark_keys::{DeviceId, OrganisationId, UnixTime, decode, encode};
use hark_mesh::charter::{CertificateChain, Charter};
use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    files::{FileError, read_bounded, read_text, write_atomic},
};
use crate::{admission::UseCounter, clock::Clock};

/// One organisation's folder.
#[derive(Clone, Debug)]
pub struct OrganisationStore {
    folder: PathBuf,
    charter: Charter,
    chain: CertificateChain,
}

impl OrganisationStore {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = read_bounded(&path, FILE_LIMIT)?;
            bytes.ok_or(StoreError::Damaged(path))
        };
        let charter = Charter::from_bytes(&read("charter")?)
            .map_err(|_| StoreError::Damaged(folder.join("charter")))?;
        let damaged = || StoreError::Damaged(folder.join("certificates"));
        let chain: CertificateChain =
            decode(&read("certificates")?, FILE_LIMIT as usize).map_err(|_| damaged())?;
        let device = chain.leaf().ok_or_else(damaged)?.device;
        charter.verify_chain(&chain, device).map_err(|_| damaged())?;
        Ok(Self { folder: folder.to_owned(), charter, chain })
    }

    /// Which organisation.
    pub fn id(&self) -> OrganisationId {
        self.charter.organisation()
    }

    /// What the organisation is.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What proves that this device belongs.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// Where all this is kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes this process the only one that runs the organisation from this folder.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.folder.join("lock");
        let failed = |error| FileError::new(&path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.take(20).read_to_string(&mut owner);
                return Err(StoreError::Running(owner.trim().to_owned()));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        let owner = (|| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        })();
        owner.map_err(failed)?;
        Ok(Lock { _file: file })
    }

    /// What is known of the members, as the squad wrote it.
    pub fn members(&self) -> Result<Vec<u8>, StoreError> {
        Ok(read_bounded(&self.folder.join("members"), FILE_LIMIT)?.unwrap_or_default())
    }

    /// Keeps what is known of the members.
    pub fn keep_members(&self, snapshot: &[u8]) -> Result<(), StoreError> {
        Ok(write_atomic(&self.folder.join("members"), snapshot)?)
    }

    /// The last generation of the sender key that was used; 0 if none was.
    pub fn generation(&self) -> Result<u16, StoreError> {
        let path = self.folder.join("generation");
        let Some(text) = read_text(&path)? else { return Ok(0) };
        text.trim().parse().map_err(|_| StoreError::Damaged(path))
    }

    /// Keeps a generation, which then never comes back. [PROTO-6.3]
    pub fn keep_generation(&self, generation: u16) -> Result<(), StoreError> {
        Ok(write_atomic(&self.folder.join("generation"), generation.to_string().as_bytes())?)
    }

    /// Counts the uses of limited tickets.
    pub fn use_counter(&self, clock: Clock) -> impl UseCounter + use<> {
        Uses { path: self.folder.join("uses"), clock, turn: Mutex::new(()) }
    }

    /// Tells where the local API of the running node is.
    pub fn keep_control(&self, json: &str) -> Result<(), StoreError> {
        Ok(write_atomic(&self.control_path(), json.as_bytes())?)
    }

    /// Where the local API of the running node is, if one runs.
    pub fn control(&self) -> Result<Option<String>, StoreError> {
        Ok(read_text(&self.control_path())?)
    }

    /// The node has ended.
    pub fn forget_control(&self) {
        // At worst a stale file is left, whose address nobody answers.
        let _ = std::fs::remove_file(self.control_path());
    }

    fn control_path(&self) -> PathBuf {
        self.folder.join("control.json")
    }
}

/// Held while a process runs the organisation; the system frees it when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

struct Uses {
    path: PathBuf,
    clock: Clock,
    turn: Mutex<()>,
}

/// The devices that each limited invite has admitted here, until it expires.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Admissions(BTreeMap<DeviceId, (UnixTime, Vec<DeviceId>)>);

impl UseCounter for Uses {
    fn count(
        &self,
        invite_key: DeviceId,
        expires: UnixTime,
        share: u8,
        device: DeviceId,
    ) -> io::Result<bool> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let other = |error: StoreError| io::Error::other(error.to_string());
        let bytes = read_bounded(&self.path, FILE_LIMIT).map_err(|error| other(error.into()))?;
        let mut admissions: Admissions = match bytes {
            None => Admissions::default(),
            Some(bytes) => decode(&bytes, FILE_LIMIT as usize)
                .map_err(|_| other(StoreError::Damaged(self.path.clone())))?,
        };
        let now = self.clock.unix();
        admissions.0.retain(|_, (expires, _)| *expires > now);
        let (_, devices) = admissions.0.entry(invite_key).or_insert((expires, Vec::new()));
        if devices.contains(&device) {
            return Ok(true);
        }
        if devices.len() >= usize::from(share) {
            return Ok(false);
        }
        devices.push(device);
        write_atomic(&self.path, &encode(&admissions)).map_err(|error| other(error.into()))?;
        Ok(true)
    }
}

/// Bytes of any of the files; a longer one is not ours. A thousand member records have some 500 kB.
const FILE_LIMIT: u64 = 4 << 20;
