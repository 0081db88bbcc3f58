use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use hark_keys::{DeviceId, OrganisationId, UnixTime, decode, encode};
use hark_mesh::charter::{CertificateChain, Charter};
use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    files::{Files, Guard},
};
use crate::{admission::UseCounter, clock::Clock};

/// One organisation's folder.
#[derive(Clone, Debug)]
pub struct OrganisationStore {
    files: Files,
    folder: PathBuf,
    charter: Charter,
    chain: CertificateChain,
}

impl OrganisationStore {
    /// What the folder holds; none if it is not yet an organisation's.
    pub(super) fn open(files: &Files, folder: &Path) -> Result<Option<Self>, StoreError> {
        let read = |name: &str| files.read(&folder.join(name), FILE_LIMIT);
        let Some(charter) = read("charter")? else { return Ok(None) };
        let charter = Charter::from_bytes(&charter)
            .map_err(|_| StoreError::Damaged(folder.join("charter")))?;
        let damaged = || StoreError::Damaged(folder.join("certificates"));
        let chain: CertificateChain =
            decode(&read("certificates")?.ok_or_else(damaged)?, FILE_LIMIT as usize)
                .map_err(|_| damaged())?;
        let device = chain.leaf().ok_or_else(damaged)?.device;
        charter.verify_chain(&chain, device).map_err(|_| damaged())?;
        Ok(Some(Self { files: files.clone(), folder: folder.to_owned(), charter, chain }))
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
        Ok(Lock { _guard: self.files.lock(&self.folder.join("lock"))? })
    }

    /// What is known of the members, as the squad wrote it.
    pub fn members(&self) -> Result<Vec<u8>, StoreError> {
        Ok(self.files.read(&self.folder.join("members"), FILE_LIMIT)?.unwrap_or_default())
    }

    /// Keeps what is known of the members.
    pub fn keep_members(&self, snapshot: &[u8]) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("members"), snapshot)?)
    }

    /// The port that was listened on last; none where that is not known.
    pub fn port(&self) -> Option<u16> {
        // It is only worth a try.
        self.files.read_text(&self.folder.join("port")).ok()??.trim().parse().ok()
    }

    /// Keeps the port that is listened on, if it is another one than before.
    pub fn keep_port(&self, port: Option<u16>) -> Result<(), StoreError> {
        match port {
            Some(port) if self.port() != Some(port) => {
                Ok(self.files.write(&self.folder.join("port"), port.to_string().as_bytes())?)
            }
            _ => Ok(()),
        }
    }

    /// The last generation of the sender key that was used; 0 if none was.
    pub fn generation(&self) -> Result<u16, StoreError> {
        let path = self.folder.join("generation");
        let Some(text) = self.files.read_text(&path)? else { return Ok(0) };
        text.trim().parse().map_err(|_| StoreError::Damaged(path))
    }

    /// Keeps a generation, which then never comes back. [PROTO-6.3]
    pub fn keep_generation(&self, generation: u16) -> Result<(), StoreError> {
        Ok(self.files.write(&self.folder.join("generation"), generation.to_string().as_bytes())?)
    }

    /// Counts the uses of limited tickets.
    pub fn use_counter(&self, clock: Clock) -> impl UseCounter + use<> {
        let path = self.folder.join("uses");
        Uses { files: self.files.clone(), path, clock, turn: Mutex::new(()) }
    }

    /// Tells where the local API of the running node is.
    pub fn keep_control(&self, json: &str) -> Result<(), StoreError> {
        Ok(self.files.write(&self.control_path(), json.as_bytes())?)
    }

    /// Where the local API of the running node is, if one runs.
    pub fn control(&self) -> Result<Option<String>, StoreError> {
        Ok(self.files.read_text(&self.control_path())?)
    }

    /// The node has ended.
    pub fn forget_control(&self) {
        // At worst a stale file is left, whose address nobody answers.
        let _ = self.files.remove(&self.control_path());
    }

    fn control_path(&self) -> PathBuf {
        self.folder.join("control.json")
    }
}

/// Held while a process runs the organisation; the system frees it when the process ends.
#[derive(Debug)]
pub struct Lock {
    _guard: Box<dyn Guard>,
}

struct Uses {
    files: Files,
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
        let bytes = self.files.read(&self.path, FILE_LIMIT).map_err(|error| other(error.into()))?;
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
        let written = self.files.write(&self.path, &encode(&admissions));
        written.map_err(|error| other(error.into()))?;
        Ok(true)
    }
}

/// Bytes of any of the files; a longer one is not ours. A thousand member records have some 500 kB.
const FILE_LIMIT: u64 = 4 << 20;
