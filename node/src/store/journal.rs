//! Creates journals: files of events.

use std::{
    fs::{File, OpenOptions, symlink_metadata},
    io,
    path::Path,
};

use super::{Owner, files::folder_of, platform};

/// Creates the file for its owner alone, or empties the existing one. A pipe or a device is only
/// opened. In a folder to which other accounts can write, such as `/tmp`, this follows no link and
/// takes no file that another account may have put there.
pub fn create_journal(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    platform::private(options.write(true));
    if platform::owner(folder_of(path))? == Owner::Own {
        return options.create(true).truncate(true).open(path);
    }
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    // Checked before the file is opened, because opening a pipe waits for its reader.
    let there = symlink_metadata(path)?;
    if there.is_symlink() || !platform::is_own(&there) {
        return Err(planted());
    }
    let file = platform::no_link(&mut options).open(path)?;
    let opened = file.metadata()?;
    if !platform::is_own(&opened) {
        return Err(planted());
    }
    if opened.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

fn planted() -> io::Error {
    let reason = "another account may have put it there: remove it, or name another file";
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs::{Permissions, hard_link, read, set_permissions, write},
        io::Write,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_journal_is_for_its_owner_alone_and_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        for permissions in [0o700, 0o1777] {
            set_permissions(folder.path(), Permissions::from_mode(permissions)).expect("set");
            let path = folder.path().join(format!("events-{permissions:o}"));
            for text in ["first and long", "second"] {
                create_journal(&path).expect("made").write_all(text.as_bytes()).expect("written");
                assert_eq!(read(&path).expect("there"), text.as_bytes());
                assert_eq!(mode(&path), 0o600);
            }
        }
        create_journal(Path::new("/dev/null")).expect("devices are opened");
        assert!(create_journal(Path::new("/nowhere/events")).is_err());
    }

    #[test]
    fn a_journal_is_not_written_through_a_planted_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared).expect("made");
        set_permissions(&shared, Permissions::from_mode(0o1777)).expect("set");
        let target = folder.path().join("precious");
        write(&target, "mine").expect("written");
        symlink(&target, shared.join("soft")).expect("planted");
        hard_link(&target, shared.join("hard")).expect("planted");
        symlink(folder.path().join("new"), shared.join("dangling")).expect("planted");
        for name in ["soft", "hard", "dangling"] {
            let refused = create_journal(&shared.join(name)).expect_err("it is planted");
            assert!(refused.to_string().contains("another account"), "{name}: {refused}");
        }
        assert_eq!(read(&target).expect("there"), b"mine");
        assert!(!folder.path().join("new").exists());
        // If nobody else can put anything into the folder, a link there is its owner's.
        symlink(&target, folder.path().join("own")).expect("made");
        create_journal(&folder.path().join("own")).expect("opened");
        assert_eq!(read(&target).expect("there"), b"");
    }
}
