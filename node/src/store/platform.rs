//! Whose files and folders are, as each operating system says it.

use std::{
    fs::{DirBuilder, Metadata, OpenOptions},
    io,
    path::Path,
};

use super::Owner;

#[cfg(unix)]
mod system {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

    use super::{DirBuilder, Metadata, OpenOptions, Owner, Path, io};

    pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
        std::fs::File::open(folder)?.sync_all()
    }

    pub(super) fn private(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn no_link(options: &mut OpenOptions) {
        options.custom_flags(libc::O_NOFOLLOW);
    }

    pub(super) fn private_folder(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn owner(folder: &Metadata) -> Owner {
        judge(folder.uid(), folder.mode(), own_id())
    }

    pub(super) fn is_own(file: &Metadata) -> bool {
        // With a second name it may be a file that is meant for something else.
        file.uid() == own_id() && (!file.is_file() || file.nlink() == 1)
    }

    fn own_id() -> u32 {
        // SAFETY: it has no argument and cannot fail.
        unsafe { libc::geteuid() }
    }

    /// Of a folder of the account `id` with these permissions, to a process of the account `own`.
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

/// A home is in the person's profile there, which the system keeps from other accounts.
#[cfg(not(unix))]
mod system {
    use super::{DirBuilder, Metadata, OpenOptions, Owner, Path, io};

    // Windows syncs a name with its file, and has no handle of a folder to sync.
    pub(super) fn sync_names(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn private(_: &mut OpenOptions) {}

    pub(super) fn no_link(_: &mut OpenOptions) {}

    pub(super) fn private_folder(_: &mut DirBuilder) {}

    pub(super) fn owner(_: &Metadata) -> Owner {
        Owner::Own
    }

    pub(super) fn is_own(_: &Metadata) -> bool {
        true
    }
}

/// Has the disk keep which names are in the folder.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    system::sync_names(folder)
}

/// A file that is made is for its owner alone.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    system::private(options);
    options
}

/// A link in the file's place is not followed: to open it fails.
pub(super) fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    system::no_link(options);
    options
}

/// A folder that is made is for its owner alone.
pub(super) fn private_folder(builder: &mut DirBuilder) -> &mut DirBuilder {
    system::private_folder(builder);
    builder
}

/// Whose a folder is.
pub(super) fn owner(folder: &Metadata) -> Owner {
    system::owner(folder)
}

/// Whether this account has made what has this entry, and no other name leads to it.
pub(super) fn is_own(file: &Metadata) -> bool {
    system::is_own(file)
}
