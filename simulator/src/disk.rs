//! A disk in memory that can fill up, be lost, and be restored to an earlier state.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hark_node::store::{Disk, Guard, LockError, Owner};

/// One machine's disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Contents,
    full: bool,
}

/// The contents of a disk: files by their paths.
pub(crate) type Contents = BTreeMap<PathBuf, Vec<u8>>;

impl MemoryDisk {
    /// Sets whether writes fail because the disk is full.
    pub(crate) fn set_full(&self, full: bool) {
        self.lock_state().full = full;
    }

    /// The contents, all of which is synced: a write is synced when it returns.
    pub(crate) fn contents(&self) -> Contents {
        self.lock_state().files.clone()
    }

    /// The contents of the first file of this name, in whichever folder it is.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock_state();
        state.files.iter().find(|(path, _)| path.ends_with(name)).map(|(_, bytes)| bytes.clone())
    }

    /// Replaces everything on the disk by these contents.
    pub(crate) fn restore(&self, contents: Contents) {
        self.lock_state().files = contents;
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let state = self.lock_state();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(state.files.get(path).map(|bytes| bytes[..bytes.len().min(limit)].to_vec()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock_state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.files.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.lock_state().files.remove(path);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make_folder(&self, _: &Path) -> io::Result<()> {
        // A folder exists only as part of the names of its files.
        Ok(())
    }

    fn settle(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn folders(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock_state();
        let inside = state.files.keys().filter_map(|file| file.strip_prefix(path).ok());
        let mut folders: Vec<_> = inside
            .filter(|rest| rest.components().count() > 1)
            .filter_map(|rest| Some(path.join(rest.components().next()?)))
            .collect();
        folders.dedup();
        Ok(folders)
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Guard>, LockError> {
        // A machine runs one process, and a crash releases all locks.
        Ok(Box::new(Held))
    }

    fn owner(&self, _: &Path) -> io::Result<Option<Owner>> {
        Ok(Some(Owner::Own))
    }
}

#[derive(Debug)]
struct Held;

impl Guard for Held {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_keeps_what_it_has() {
        let disk = MemoryDisk::default();
        disk.write(Path::new("/a/b"), b"old").expect("room");
        disk.set_full(true);
        let error = disk.write(Path::new("/a/b"), b"new").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read(Path::new("/a/b"), 9).expect("read").expect("there"), b"old");
    }

    #[test]
    fn folders_are_those_that_hold_files() {
        let disk = MemoryDisk::default();
        for file in ["/h/version", "/h/o/two/x", "/h/o/one/y", "/h/o/one/z"] {
            disk.write(Path::new(file), b"").expect("room");
        }
        let folders = disk.folders(Path::new("/h/o")).expect("there");
        assert_eq!(folders, [Path::new("/h/o/one"), Path::new("/h/o/two")]);
    }

    #[test]
    fn an_earlier_state_comes_back_whole() {
        let disk = MemoryDisk::default();
        disk.write(Path::new("/kept"), b"1").expect("room");
        let earlier = disk.contents();
        disk.write(Path::new("/kept"), b"2").expect("room");
        disk.write(Path::new("/later"), b"3").expect("room");
        disk.restore(earlier.clone());
        assert_eq!(disk.contents(), earlier);
    }
}
