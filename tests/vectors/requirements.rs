//! The requirements of the documents. Each is short, and is cited in the code that meets it and in
//! a test that proves it. Nothing is cited that is not a requirement.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// Where a requirement is cited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Code,
    Test,
}

#[test]
fn every_requirement_is_cited_in_code_and_in_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let known = requirements(root);
    let cited = citations(root);
    let lacking = |place| {
        let cited = |tag: &&String| !cited.contains_key(&(place, (*tag).clone()));
        known.keys().filter(cited).collect::<Vec<_>>()
    };
    let [no_code, no_test] = [Place::Code, Place::Test].map(lacking);
    assert!(no_code.is_empty(), "cited in no code: {no_code:?}");
    assert!(no_test.is_empty(), "cited in no test: {no_test:?}");
    let unknown: Vec<_> = cited.iter().filter(|((_, tag), _)| !known.contains_key(tag)).collect();
    assert!(unknown.is_empty(), "no requirements: {unknown:?}");
    let long: Vec<_> = known.iter().filter(|(_, length)| **length > LONGEST).collect();
    assert!(long.is_empty(), "too long to be read as one: {long:?}");
}

/// Each requirement with its length in characters.
fn requirements(root: &Path) -> BTreeMap<String, usize> {
    let mut known = BTreeMap::new();
    for name in ["protocol", "charter", "noise"] {
        let text = fs::read_to_string(root.join("docs").join(name).with_extension("md")).unwrap();
        let mut last: Option<String> = None;
        for line in text.lines() {
            let begins = line.strip_prefix("- **[").and_then(|rest| rest.split_once("]**"));
            if let Some((tag, rest)) = begins {
                let before = known.insert(tag.to_owned(), rest.trim().chars().count());
                assert!(before.is_none(), "{tag} is there twice");
                last = Some(tag.to_owned());
            } else if line.starts_with("  ") {
                if let Some(tag) = &last {
                    *known.get_mut(tag).unwrap() += 1 + line.trim().chars().count();
                }
            } else {
                last = None;
            }
        }
    }
    known
}

/// The files that cite each requirement.
fn citations(root: &Path) -> BTreeMap<(Place, String), BTreeSet<PathBuf>> {
    let mut files = BTreeMap::new();
    for folder in ["keys", "mesh", "node", "relay", "simulator", "tests", "examples"] {
        find(root, Path::new(folder), &mut files);
    }
    let modules: Vec<_> =
        files.keys().flat_map(|file: &PathBuf| test_modules(root, file)).collect();
    let mut cited: BTreeMap<(Place, String), BTreeSet<PathBuf>> = BTreeMap::new();
    for (file, mut place) in files {
        if modules
            .iter()
            .any(|module| file.starts_with(module) || file == module.with_extension("rs"))
        {
            place = Place::Test;
        }
        let text = fs::read_to_string(root.join(&file)).unwrap_or_default();
        let split = text.find("\nmod tests {").unwrap_or(text.len());
        for (place, part) in [(place, &text[..split]), (Place::Test, &text[split..])] {
            for tag in tags(part) {
                cited.entry((place, tag)).or_default().insert(file.clone());
            }
        }
    }
    cited
}

/// The files below a folder of the repository. A file in a folder of tests, or of something that
/// plays whole nodes, counts as a test.
fn find(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Place>) {
    let proves =
        |part: &OsStr| ["tests", "simulator", "scenarios", "benches"].iter().any(|it| *it == part);
    let place = if folder.iter().any(proves) { Place::Test } else { Place::Code };
    for entry in fs::read_dir(root.join(folder)).unwrap().map(Result::unwrap) {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            find(root, &path, files);
        } else if path.extension().is_some_and(|it| it == "rs" || it == "py" || it == "toml") {
            files.insert(path, place);
        }
    }
}

/// The paths, without extension, of modules that a file includes only for tests.
fn test_modules(root: &Path, file: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    let folder = match file.file_stem().and_then(|it| it.to_str()) {
        Some("lib" | "main" | "mod") | None => file.parent().unwrap().to_owned(),
        Some(_) => file.with_extension(""),
    };
    let after = text.split("#[cfg(test)]\n").skip(1);
    let named = after.filter_map(|rest| {
        let line = rest.lines().map(str::trim).find(|line| !line.starts_with("#["))?;
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    named.map(|name| folder.join(name)).collect()
}

/// The citations in a text: `PROTO-1.2` and the like.
fn tags(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for series in ["PROTO-", "CHARTER-", "NOISE-"] {
        for (at, _) in text.match_indices(series) {
            let rest = &text[at + series.len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number = rest[..end].trim_end_matches('.');
            if !number.is_empty() {
                found.push(format!("{series}{number}"));
            }
        }
    }
    found
}

/// The largest length of a requirement, in characters.
const LONGEST: usize = 700;
