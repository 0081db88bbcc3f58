//! The audit log: who has changed what over the admin API, one line of JSON for each change.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use hark_node::store::private;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One requested change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The time of the request, as Unix time in microseconds.
    pub at_us: u64,
    /// The address of the client.
    pub remote: IpAddr,
    /// The request, as method and path.
    pub action: String,
    /// The body of the request; `null` if there was none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
    /// `done`, or why the change was not made.
    pub outcome: String,
}

/// The file of all changes, and the file before it.
pub struct Audit {
    path: PathBuf,
    length_max: u64,
    /// Held while the file is written or read.
    turn: Mutex<()>,
}

impl Audit {
    /// An audit log in the file `path`, which is moved to `….1` when it is `length_max` bytes long.
    pub fn new(path: PathBuf, length_max: u64) -> Self {
        Self { path, length_max, turn: Mutex::default() }
    }

    /// Appends a line. It is on disk when this returns.
    pub fn append(&self, entry: &AuditEntry) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        let length = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if length > 0 && length.saturating_add(line.len() as u64) > self.length_max {
            std::fs::rename(&self.path, self.earlier())?;
        }
        let mut options = OpenOptions::new();
        private(options.create(true).append(true).read(true));
        let mut file = options.open(&self.path)?;
        if !ends_a_line(&mut file)? {
            line.insert(0, '\n');
        }
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    /// The newest `count` entries, the oldest of them first. A line that was cut off by a power
    /// failure is left out.
    pub fn last(&self, count: usize) -> io::Result<Vec<AuditEntry>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = VecDeque::new();
        for path in [&self.earlier(), &self.path] {
            read(path, |entry| {
                found.push_back(entry);
                if found.len() > count {
                    found.pop_front();
                }
            })?;
        }
        Ok(found.into())
    }

    fn earlier(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        name.into()
    }
}

/// Whether the next line starts at the beginning of a line. A power failure may have cut off the
/// last one.
fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn read(path: &Path, mut take: impl FnMut(AuditEntry)) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(entry) = serde_json::from_slice(&line?) {
            take(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(number: u64) -> AuditEntry {
        AuditEntry {
            at_us: number,
            remote: [127, 0, 0, 1].into(),
            action: format!("POST /api/v1/drain?{number:05}"),
            body: json!({"seconds": number}),
            outcome: "done".to_owned(),
        }
    }

    fn numbers(audit: &Audit, count: usize) -> Vec<u64> {
        audit.last(count).expect("read").iter().map(|entry| entry.at_us).collect()
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = Audit::new(folder.path().join("audit.jsonl"), 1 << 20);
        assert_eq!(audit.last(10).expect("no file is no error"), []);
        let all: Vec<_> = (0..5).map(entry).collect();
        all.iter().for_each(|entry| audit.append(entry).expect("written"));
        assert_eq!(audit.last(10).expect("read"), all);
        assert_eq!(audit.last(2).expect("read"), all[3..]);
        assert_eq!(audit.last(0).expect("read"), []);
    }

    #[test]
    fn the_file_is_bounded_and_what_was_before_is_read_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let line = serde_json::to_string(&entry(0)).expect("JSON").len() as u64 + 1;
        let audit = Audit::new(path.clone(), 10 * line);
        for number in 0..34 {
            let mut entry = entry(number);
            entry.at_us = number;
            entry.body = json!({"seconds": 0});
            audit.append(&entry).expect("written");
        }
        assert!(std::fs::metadata(&path).expect("there").len() <= 10 * line);
        let kept = numbers(&audit, 100);
        assert_eq!(kept.last(), Some(&33));
        assert!((11..=20).contains(&kept.len()), "{kept:?}");
        assert!(kept.is_sorted());
    }

    #[test]
    fn a_line_that_was_cut_off_hides_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::new(path.clone(), 1 << 20);
        audit.append(&entry(1)).expect("written");
        let mut file = OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"{\"at_us\": 2, \"rem").expect("written");
        audit.append(&entry(3)).expect("written");
        assert_eq!(numbers(&audit, 9), [1, 3]);
    }
}
