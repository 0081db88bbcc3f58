//! Files with what the panel of the mesh reports. One that is there is never replaced.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Writes `text` to a new file in `folder`: `hark-report.txt`, or with a number if that is taken.
/// Returns its path, or one line about what went wrong.
pub fn write(folder: &Path, text: &str) -> Result<PathBuf, String> {
    let names = (2..=REPORTS_MAX).map(|number| format!("hark-report-{number}.txt"));
    for name in std::iter::once("hark-report.txt".to_owned()).chain(names) {
        let path = folder.join(name);
        let failed = |error| format!("{} cannot be written: {error}", path.display());
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed(error)),
        };
        file.write_all(text.as_bytes()).map_err(failed)?;
        return Ok(path);
    }
    Err(format!("{} has {REPORTS_MAX} reports already: delete some", folder.display()))
}

/// The number of reports that are kept in one folder.
const REPORTS_MAX: u32 = 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_report_leaves_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(folder.path(), "one").unwrap();
        let second = write(folder.path(), "two").unwrap();
        assert_eq!(second, folder.path().join("hark-report-2.txt"));
        assert_eq!(std::fs::read_to_string(first).unwrap(), "one");
        assert_eq!(std::fs::read_to_string(second).unwrap(), "two");
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_in_one_line() {
        let told = write(Path::new("no/such/folder"), "text").unwrap_err();
        assert!(told.contains("hark-report.txt cannot be written: "), "{told}");
    }
}
