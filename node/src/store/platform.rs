//! Owners and permissions of files and folders, as each operating system reports them.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io,
    path::Path,
};

use zeroize::Zeroizing;

use super::Owner;

#[cfg(unix)]
mod system {
    use std::{
        fs::DirBuilder,
        os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    };

    use super::{File, Metadata, OpenOptions, Owner, Path, TryLockError, Zeroizing, io};

    pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    pub(super) fn insist<T>(step: impl Fn() -> io::Result<T>) -> io::Result<T> {
        step()
    }

    pub(super) fn try_lock(file: &File) -> Result<(), TryLockError> {
        file.try_lock()
    }

    // Permissions keep other accounts out.
    pub(super) fn seal_for_account(bytes: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::new(bytes.to_vec()))
    }

    pub(super) fn open_for_account(bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<Vec<u8>>> {
        Ok(bytes)
    }

    pub(super) fn private(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn no_link(options: &mut OpenOptions) {
        options.custom_flags(libc::O_NOFOLLOW);
    }

    pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    pub(super) fn owner(folder: &Path) -> io::Result<Owner> {
        let folder = folder.metadata()?;
        Ok(judge(folder.uid(), folder.mode(), own_id()))
    }

    pub(super) fn is_own(file: &Metadata) -> bool {
        // A file with a second name may be meant for something else.
        file.uid() == own_id() && (!file.is_file() || file.nlink() == 1)
    }

    fn own_id() -> u32 {
        // SAFETY: `geteuid` has no argument and cannot fail.
        unsafe { libc::geteuid() }
    }

    /// Judges a folder of the account `id` with permissions `mode`, for a process of the account
    /// `own`.
    fn judge(id: u32, mode: u32, own: u32) -> Owner {
        // The administrator can do anything anyway.
        if id != own && id != 0 {
            Owner::Other
        } else if mode & 0o022 != 0 {
            Owner::Shared
        } else {
            Owner::Own
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_folder_is_own_where_no_other_account_can_write() {
            for (id, mode, expected) in [
                (1000, 0o40700, Owner::Own),
                (1000, 0o40755, Owner::Own),
                (0, 0o40755, Owner::Own),
                (1000, 0o40775, Owner::Shared),
                (1000, 0o40757, Owner::Shared),
                (0, 0o41777, Owner::Shared),
                (1001, 0o40700, Owner::Other),
                (1001, 0o40777, Owner::Other),
            ] {
                assert_eq!(judge(id, mode, 1000), expected, "{id} {mode:o}");
            }
            assert_eq!(judge(1000, 0o40700, 0), Owner::Other, "nor is one of root's of a person's");
        }
    }
}

#[cfg(windows)]
mod windows;

#[cfg(windows)]
use windows as system;

/// Makes the names in the folder durable.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    system::sync_names(folder)
}

/// Makes a new file accessible to its owner alone.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    system::private(options);
    options
}

/// Does not follow a link in the file's place: opening it fails.
pub(super) fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    system::no_link(options);
    options
}

/// Creates a folder that only its owner can use.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    system::create_private_folder(path)
}

/// Who can write to a folder.
pub(super) fn owner(folder: &Path) -> io::Result<Owner> {
    system::owner(folder)
}

/// Takes a step again for a while if another program, such as a scanner of viruses, has the file
/// open. Where open files can be renamed and removed, it is taken once.
pub(super) fn insist<T>(step: impl Fn() -> io::Result<T>) -> io::Result<T> {
    system::insist(step)
}

/// Locks the file for this process. Others can still read it.
pub(super) fn try_lock(file: &File) -> Result<(), TryLockError> {
    system::try_lock(file)
}

/// The bytes as only this account of this machine can read them, where permissions are not all.
pub(super) fn seal_for_account(bytes: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    system::seal_for_account(bytes)
}

/// What [`seal_for_account`] was given. Bytes that are not sealed are returned as they are.
pub(super) fn open_for_account(bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<Vec<u8>>> {
    system::open_for_account(bytes)
}

/// Whether this account owns the file and it has no second name.
pub(super) fn is_own(file: &Metadata) -> bool {
    system::is_own(file)
}
