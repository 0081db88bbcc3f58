//! Embeds the scenarios that come with Hark, and the files that they name, in the library. The
//! program then has them wherever it is installed.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let examples = Path::new(&manifest).join("../examples");
    println!("cargo:rerun-if-changed={}", examples.display());
    let scenarios =
        files(&examples.join("scenarios"), |name| Some(name.strip_suffix(".toml")?.to_owned()))?;
    // The keys are the paths at which the scenarios name these files.
    let mut named =
        files(&examples.join("scenarios/recordings"), |name| Some(format!("recordings/{name}")))?;
    named.extend(files(&examples.join("organisation"), |name| {
        Some(format!("../organisation/{name}"))
    })?);
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let text = table("SCENARIOS", &scenarios) + &table("NAMED", &named);
    fs::write(Path::new(&out).join("built_in.rs"), text)
}

/// The files of `folder` for which `name` returns a name, sorted by that name.
fn files(
    folder: &Path,
    name: impl Fn(&str) -> Option<String>,
) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Some(name) = name(&entry.file_name().to_string_lossy())
        {
            files.push((name, fs::canonicalize(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// The source of a constant that holds names and the texts of their files.
fn table(constant: &str, files: &[(String, PathBuf)]) -> String {
    let files = files.iter().map(|(name, path)| format!("({name:?}, include_str!({path:?})),\n"));
    format!("const {constant}: &[(&str, &str)] = &[\n{}];\n", files.collect::<String>())
}
