//! The folder in which this device keeps its state.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use hark_keys::Random;
use hark_node::{
    random::SystemRandom,
    store::{Home, StoreError},
};
use serde_json::json;

use super::Finding;
use crate::platform;

pub(super) fn check(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let mut findings =
        vec![match try_write(existing) {
        Ok(()) if existing == path => Finding::ok("folder", format!("{shown} can be written to")),
        Ok(()) => Finding::ok("folder", format!("{shown} will be made on first use")),
        Err(error) => {
            let advice = "give this account the right to write there, free some space, or use \
                another --home";
            let found = format!("{} cannot be written to: {error}", existing.display());
            Finding::problem("folder", found, advice)
        }
    }
    .with(json!({"path": path}))];
    // A folder without this file is not a home of ours, and opening it would make it one.
    if path.join("version").exists() {
        findings.extend(privacy(path));
        findings.extend(contents(path));
    }
    findings
}

/// Writes a file and removes it again.
fn try_write(folder: &Path) -> io::Result<()> {
    let mut random = [0; 8];
    SystemRandom.fill(&mut random);
    let name = format!(".hark-doctor-{:016x}", u64::from_be_bytes(random));
    let probe = folder.join(name);
    let mut file = File::create_new(&probe)?;
    let written = io::Write::write_all(&mut file, b"doctor").and_then(|()| file.sync_all());
    fs::remove_file(&probe).and(written)
}

/// Whether other accounts can read the folder, where the system has such permissions.
fn privacy(path: &Path) -> Option<Finding> {
    let mode = platform::mode_of(path)?;
    let finding = if mode & 0o077 == 0 {
        Finding::ok("permissions", "only this account can look into it")
    } else {
        let found = format!("other accounts of this machine can look into it (mode {mode:o})");
        Finding::warning("permissions", found, format!("chmod 700 {}", path.display()))
    };
    Some(finding.with(json!({"mode": format!("{mode:o}")})))
}

/// What the folder holds, and whether it can be read.
fn contents(path: &Path) -> Vec<Finding> {
    let read = || -> Result<_, StoreError> {
        // No passphrase is needed to see whether the keys are protected by one.
        let home = Home::open(path, Box::new(|| None))?;
        let names: Vec<_> =
            home.organisations()?.iter().map(|store| store.charter().name().to_owned()).collect();
        Ok((names, home.protected()?))
    };
    let (names, protected) = match read() {
        Ok(contents) => contents,
        Err(error) => {
            let advice = "do what it says; until then, use another --home";
            return vec![Finding::problem("contents", error.to_string(), advice)];
        }
    };
    let found = match names.as_slice() {
        [] => "belongs to no organisation yet".to_owned(),
        names => format!("belongs to {}", names.join(", ")),
    };
    let key = match protected {
        None => Finding::ok("key", "none yet: it is made on first use"),
        Some(true) => Finding::ok("key", "protected by a passphrase"),
        Some(false) => {
            let advice =
                "whoever can read this account's files can pose as you: `hark id --protect`";
            let advice = Some(advice.to_owned());
            Finding { advice, ..Finding::ok("key", "not protected by a passphrase") }
        }
    };
    vec![
        Finding::ok("contents", found).with(json!({"organisations": names})),
        key.with(json!({"protected": protected})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn verdicts(findings: &[Finding]) -> Vec<(&str, Verdict)> {
        findings.iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    fn open(path: &Path) -> Home {
        Home::open(path, Box::new(|| Some("kestrel".to_owned()))).expect("opened")
    }

    #[test]
    fn a_new_home_is_not_made_by_looking() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        assert_eq!(verdicts(&check(&path)), [("folder", Verdict::Ok)]);
        assert_eq!(verdicts(&check(folder.path())), [("folder", Verdict::Ok)]);
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_file_is_no_home() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("taken");
        fs::write(&path, "mine").expect("written");
        assert_eq!(verdicts(&check(&path)), [("folder", Verdict::Problem)]);
        assert_eq!(verdicts(&check(&path.join("below"))), [("folder", Verdict::Problem)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_home_is_read_and_left_as_it_is() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("home");
        let home = open(&path);
        let findings = check(&path);
        let names: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        assert_eq!(names, ["folder", "permissions", "contents", "key"]);
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok));
        assert_eq!(findings[3].found, "none yet: it is made on first use");

        hark_node::launch::found(&home, "Kestrel", None).expect("founded");
        let findings = check(&path);
        assert_eq!(findings[2].found, "belongs to Kestrel");
        assert!(findings[3].advice.as_ref().is_some_and(|advice| advice.contains("--protect")));
        home.protect(Some("kestrel"), &SystemRandom).expect("protected");
        let findings = check(&path);
        assert_eq!(findings[3].found, "protected by a passphrase");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        let findings = check(&path);
        assert_eq!(findings[1].verdict, Verdict::Warning);
        assert_eq!(findings[1].advice, Some(format!("chmod 700 {}", path.display())));
    }

    #[test]
    fn a_home_of_a_newer_version_is_a_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("version"), "hark home 3\n").expect("written");
        let findings = check(folder.path());
        let last = findings.last().expect("findings");
        assert_eq!((last.check, last.verdict), ("contents", Verdict::Problem));
        assert!(last.found.contains("newer version"), "{}", last.found);
    }
}
