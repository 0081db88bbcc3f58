use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct FileError {
    path: PathBuf,
    error: io::Error,
}

impl FileError {
    pub(super) fn new(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), error }
    }

    /// What the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

/// Writes the whole file so that a crash at any moment leaves the old one or the new one. Only the
/// owner can read it.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |error| FileError::new(path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    let written = (|| {
        let mut file = private_file(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_folder(folder)
    })();
    if written.is_err() {
        // The old file stands; what is left of the new one is of no use.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

/// The file's text; none if there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    let Some(bytes) = read_bounded(path, TEXT_LIMIT)? else { return Ok(None) };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(FileError::new(path, io::ErrorKind::InvalidData.into())),
    }
}

/// The file's bytes, of which at most `limit` are accepted; none if there is no such file.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| FileError::new(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::new(path, io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// Makes the folder and those above it, for the owner alone, if it is not there.
pub(super) fn make_folder(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| FileError::new(path, error))
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows syncs the name with the file, and has no handle of a folder to sync.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Bytes of a text file of ours; a longer one is not ours.
const TEXT_LIMIT: u64 = 64 * 1024;
