//! Files that are replaced as a whole, on the machine's disk or on a simulated one.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use hark_keys::{DeviceKey, Random, keystore};
use zeroize::Zeroizing;

use super::{AskPassphrase, StoreError, platform};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}{}", advice(error))]
pub struct FileError {
    path: PathBuf,
    error: io::Error,
}

impl FileError {
    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

/// What a person can do about a file that cannot be read or written, if that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": this account may not use it: have its owner give it to you (`chown`), or use another \
             --home"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            ": there is a file where a folder is to be: use another --home"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": nothing can be written there: use a --home on another disk"
        }
        io::ErrorKind::StorageFull => ": the disk is full: free some space",
        _ => "",
    }
}

/// The operations that a node needs from a disk: the seam beneath the store.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Returns at most the first `limit` bytes of the file. `None` if there is no such file.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Writes the whole file, so that a crash at any moment leaves the old or the new one. Only the
    /// owner can read it.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes the file durably: it does not come back after a loss of power.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates the folder and those above it, for the owner alone, if they do not exist. The folder
    /// is durable, so what is written into it later is not lost with it.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the folder durable. A process that was killed may have left names there
    /// that can be read but may still be lost.
    fn settle(&self, folder: &Path) -> io::Result<()>;

    /// The folders inside this one, in a fixed order.
    fn folders(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Locks the file for this process until the guard is dropped or the process ends.
    fn lock(&self, path: &Path) -> Result<Box<dyn Guard>, LockError>;

    /// The owner of the folder. `None` if there is no such folder.
    fn owner(&self, folder: &Path) -> io::Result<Option<Owner>>;
}

/// Who can write to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// No other account of the machine can write there.
    Own,
    /// Other accounts can write there as well.
    Shared,
    /// The folder belongs to another account.
    Other,
}

/// Keeps the lock of [`Disk::lock`] until it is dropped.
pub trait Guard: fmt::Debug + Send + Sync {}

/// The reason why a file cannot be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds the lock: the process id that it has written.
    Held(String),
    /// The disk returned an error.
    Io(io::Error),
}

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_whole(self, path, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        remove_for_good(self, path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        make_folder(self, path)
    }

    fn settle(&self, folder: &Path) -> io::Result<()> {
        self.sync_folder(folder)
    }

    fn folders(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut folders: Vec<_> =
            std::fs::read_dir(path)?.flatten().map(|entry| entry.path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        Ok(folders)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Guard>, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let options = platform::no_link(platform::private(&mut options));
        let mut file = options.open(path).map_err(LockError::Io)?;
        match platform::try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.take(20).read_to_string(&mut owner);
                return Err(LockError::Held(owner.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let owner = (|| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        })();
        owner.map_err(LockError::Io)?;
        Ok(Box::new(LockedFile { _file: file }))
    }

    fn owner(&self, folder: &Path) -> io::Result<Option<Owner>> {
        match platform::owner(folder) {
            Ok(owner) => Ok(Some(owner)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Steps for SystemDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // An existing file, or a link to one, is never opened: it may belong to another account.
        platform::private(options.write(true).create_new(true));
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                platform::insist(|| std::fs::remove_file(path))?;
                platform::insist(|| options.open(path))
            }
            made => made,
        }
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        platform::insist(|| std::fs::rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        platform::insist(|| std::fs::remove_file(path))
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match platform::create_private_folder(path) {
            // Another process has created it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match platform::sync_names(folder) {
            // For example, the folder that contains all homes: we have created nothing there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        }
    }
}

#[derive(Debug)]
struct LockedFile {
    _file: File,
}

impl Guard for LockedFile {}

/// The steps of a change on a disk. The power may fail after each step. What was not synced by then
/// may be there in full or in part, or be missing.
pub(super) trait Steps {
    /// A file that is being written.
    type File;

    /// Creates the file. A file with that name is removed first, and not written to.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Appends bytes to the file.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's bytes durable, though not its name.
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;

    /// Renames a file within its folder. It replaces a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Whether there is a folder at `path`.
    fn is_folder(&self, path: &Path) -> bool;

    /// Creates a folder inside an existing one.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// [`Disk::write`] in steps.
pub(super) fn write_whole(steps: &impl Steps, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = steps.create(&temporary)?;
        steps.append(&mut file, bytes)?;
        steps.sync(&mut file)?;
        steps.rename(&temporary, path)?;
        steps.sync_folder(folder_of(path))
    })();
    if written.is_err() {
        // The old file remains. What was written of the new one is of no use.
        let _ = steps.unlink(&temporary);
    }
    written
}

/// [`Disk::remove`] in steps.
pub(super) fn remove_for_good(steps: &impl Steps, path: &Path) -> io::Result<()> {
    steps.unlink(path)?;
    steps.sync_folder(folder_of(path))
}

/// [`Disk::make_folder`] in steps.
pub(super) fn make_folder(steps: &impl Steps, path: &Path) -> io::Result<()> {
    if !steps.is_folder(path) {
        let above = folder_of(path);
        if above != path {
            make_folder(steps, above)?;
        }
        steps.create_folder(path)?;
    }
    // Also for a folder that exists: the process that created it may have been killed before this
    // step.
    steps.sync_folder(folder_of(path))
}

/// The folder that contains a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The files of a home, on its disk.
#[derive(Clone, Debug)]
pub struct Files(pub Arc<dyn Disk>);

impl Files {
    /// Returns the file's text, of at most 64 KiB. `None` if there is no such file.
    pub fn read_text(&self, path: &Path) -> Result<Option<String>, FileError> {
        let Some(bytes) = self.read(path, TEXT_LIMIT)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| failed(path)(io::ErrorKind::InvalidData.into()))
    }

    /// Returns the file's bytes, of which at most `limit` are accepted. `None` if there is no such
    /// file.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
        let bytes = self.0.read(path, limit + 1).map_err(failed(path))?;
        if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > limit) {
            return Err(failed(path)(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(bytes)
    }

    /// Writes the whole file, or leaves the old one in place.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        self.0.write(path, bytes).map_err(failed(path))
    }

    /// Returns the identity in a key file. If the file needs a passphrase, `ask` provides it.
    /// `None` if there is no such file.
    pub fn read_key(
        &self,
        path: &Path,
        ask: &AskPassphrase,
    ) -> Result<Option<DeviceKey>, StoreError> {
        let Some(text) = self.read_secret(path)? else { return Ok(None) };
        let text = str::from_utf8(&text).unwrap_or_default();
        let passphrase = if keystore::is_protected(text) { ask() } else { None };
        keystore::decode(text, passphrase.as_deref())
            .map(Some)
            .map_err(|error| StoreError::Key { path: path.to_owned(), error })
    }

    /// Creates an identity, and a key file for it without a passphrase.
    pub fn make_key(&self, path: &Path, random: &dyn Random) -> Result<DeviceKey, StoreError> {
        let key = DeviceKey::generate(random);
        self.write_secret(path, keystore::encode(&key, None, random).as_bytes())?;
        Ok(key)
    }

    /// Returns the bytes of a file that [`Self::write_secret`] has written. A file that is not
    /// sealed for this account is returned as it is.
    pub(super) fn read_secret(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        let Some(bytes) = self.read(path, SECRET_LIMIT)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        platform::open_for_account(bytes).map(Some).map_err(failed(path))
    }

    /// Writes the whole file, which only this account of this machine can read where the system
    /// has means for that beside permissions.
    pub(super) fn write_secret(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let sealed = platform::seal_for_account(bytes).map_err(failed(path))?;
        self.write(path, &sealed)
    }

    /// Checks that no other account can write to a home. A home that does not exist passes: it is
    /// created later for its owner alone.
    pub fn claim(&self, home: &Path) -> Result<(), StoreError> {
        match self.0.owner(home).map_err(failed(home))? {
            None | Some(Owner::Own) => Ok(()),
            Some(Owner::Shared) => Err(StoreError::SharedHome(home.to_owned())),
            Some(Owner::Other) => Err(StoreError::ForeignHome(home.to_owned())),
        }
    }

    /// Creates the folder and those above it.
    pub fn make_folder(&self, path: &Path) -> Result<(), FileError> {
        self.0.make_folder(path).map_err(failed(path))
    }

    /// Makes this process the only one that uses what the file stands for.
    pub fn lock(&self, path: &Path) -> Result<Box<dyn Guard>, StoreError> {
        self.0.lock(path).map_err(|error| match error {
            LockError::Held(owner) => StoreError::Running(owner),
            LockError::Io(error) => failed(path)(error).into(),
        })
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.0.remove(path).map_err(failed(path))
    }

    pub(super) fn settle(&self, folder: &Path) -> Result<(), FileError> {
        self.0.settle(folder).map_err(failed(folder))
    }

    pub(super) fn folders(&self, path: &Path) -> Result<Vec<PathBuf>, FileError> {
        self.0.folders(path).map_err(failed(path))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError + use<'_> {
    |error| FileError { path: path.to_owned(), error }
}

/// Longest text file in bytes. A longer one was not written by Hark.
const TEXT_LIMIT: u64 = 64 * 1024;

/// Longest file with secrets in bytes: all key files of a home, while their protection changes.
const SECRET_LIMIT: u64 = 2 * 1024 * 1024;
