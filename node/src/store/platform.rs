//! Owners and permissions of files and folders, as each operating system reports them.

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

/// On other systems, a home is in the person's profile, which the system keeps from other accounts.
#[cfg(not(unix))]
mod system {
    use super::{DirBuilder, Metadata, OpenOptions, Owner, Path, io};

    // Windows syncs a name with its file, and has no folder handle to sync.
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

/// Makes a new folder accessible to its owner alone.
pub(super) fn private_folder(builder: &mut DirBuilder) -> &mut DirBuilder {
    system::private_folder(builder);
    builder
}

/// Who can write to a folder.
pub(super) fn owner(folder: &Metadata) -> Owner {
    system::owner(folder)
}

/// Whether this account owns the file and it has no second name.
pub(super) fn is_own(file: &Metadata) -> bool {
    system::is_own(file)
}
