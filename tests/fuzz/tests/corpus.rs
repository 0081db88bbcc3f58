//! Replays the corpus, so that nothing that a fuzzer once found is forgotten.

use std::{fs, path::Path};

use hark_fuzz::TARGETS;

#[test]
fn corpus_is_replayed() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let files = fs::read_dir(&folder).expect("each target has a folder");
        let mut replayed = 0;
        for file in files {
            let path = file.expect("the folder is readable").path();
            println!("{}", path.display());
            (target.run)(&fs::read(&path).expect("the file is readable"));
            replayed += 1;
        }
        assert!(replayed > 0, "{} has no corpus", target.name);
    }
}

/// If a seed is not accepted, the fuzzer no longer gets beyond the first check.
#[test]
fn seeds_are_accepted() {
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            assert!((target.run)(&bytes), "{} refuses its seed {name}", target.name);
        }
    }
}

/// Tries every prefix of every seed, and every seed with one byte changed.
#[test]
fn damaged_seeds_are_harmless() {
    for target in TARGETS {
        for (_, mut bytes) in (target.seeds)() {
            let step = bytes.len() / 100 + 1;
            for position in (0..bytes.len()).step_by(step) {
                (target.run)(&bytes[..position]);
                bytes[position] ^= 0x11;
                (target.run)(&bytes);
                bytes[position] ^= 0x11;
            }
        }
    }
}
