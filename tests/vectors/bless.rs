//! Files that are made by a test and then serve as a reference.

use std::{env, fs, path::Path};

/// Compares `text` with the file at `path` below the repository. If `HARK_BLESS` is set, as
/// `ci/bless` does, the file is written instead.
#[track_caller]
pub(crate) fn hold_to(path: &str, text: &str) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").exists())
        .expect("a crate lies in its workspace");
    let file = repository.join(path);
    if env::var_os("HARK_BLESS").is_some() {
        fs::write(&file, text).expect("the repository can be written to");
        return;
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "{path} is not what the code makes now: see what ci/bless changes");
}
