//! What a program that runs a node in the foreground keeps of it: a file of its events, the log of
//! each organisation, and the door of its local API.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    control::{ControlService, ServiceError},
    event::{Event, StampedEvent},
    logbook::Logbook,
    node::Node,
    store::{Home, StoreError, create_journal},
};

/// The records of one run of a node.
pub struct Records {
    home: Home,
    keeps_log: bool,
    /// The local API of each organisation, by its id.
    services: BTreeMap<String, ControlService>,
    /// The log of each organisation, or `None` if it cannot be kept.
    logbooks: BTreeMap<String, Option<Logbook>>,
}

/// Why the local API of an organisation does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The organisation's folder cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is not in that organisation, or its folder is gone.
    #[error("the folder of the organisation is gone")]
    Gone,
    /// The local API cannot be reached.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Records {
    /// Nothing has happened yet. The log is kept if `keeps_log`.
    pub fn new(home: Home, keeps_log: bool) -> Self {
        Self { home, keeps_log, services: BTreeMap::new(), logbooks: BTreeMap::new() }
    }

    /// Takes in an event of `node`, which is `None` once it is stopping. Fails if the local API of
    /// an organisation that has just begun cannot be opened; everything else goes on.
    pub fn note(&mut self, event: &StampedEvent, node: Option<&Node>) -> Result<(), RecordsError> {
        let opened = match (&event.event, &event.org, node) {
            // The node can be steered before anybody reads that it is ready.
            (Event::Ready { .. }, Some(org), Some(node)) => self.open_control(org, node),
            (Event::Stopped { .. }, Some(org), _) => {
                self.services.remove(org);
                Ok(())
            }
            _ => Ok(()),
        };
        self.log(event);
        opened
    }

    /// Closes the local API: a node that is stopping takes no more commands.
    pub fn close_control(&mut self) {
        self.services.clear();
    }

    /// The home in which they are kept.
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn log(&mut self, event: &StampedEvent) {
        let Some(org) = event.org.as_ref().filter(|_| self.keeps_log) else { return };
        if !self.logbooks.contains_key(org) {
            // A newcomer has no folder until it is let in.
            let store = org.parse().ok().and_then(|id| self.home.find(id).ok().flatten());
            let Some(store) = store else { return };
            let opened = Logbook::open(store.folder());
            let opened = opened.map_err(|error| tracing::error!(%error, "no log is kept"));
            self.logbooks.insert(org.clone(), opened.ok());
        }
        if let Some(Some(logbook)) = self.logbooks.get_mut(org) {
            logbook.note(event);
        }
    }

    fn open_control(&mut self, organisation: &str, node: &Node) -> Result<(), RecordsError> {
        let id = organisation.parse().map_err(|_| RecordsError::Gone)?;
        let store = self.home.find(id)?.ok_or(RecordsError::Gone)?;
        let mut handles = node.handles();
        let handle = handles.find(|handle| handle.organisation() == Some(organisation));
        let handle = handle.ok_or(RecordsError::Gone)?;
        let service = ControlService::start(Arc::new(handle), store)?;
        self.services.insert(organisation.to_owned(), service);
        Ok(())
    }
}

/// The file of `--events`. Each line is written as soon as its event has happened.
pub struct EventFile {
    path: PathBuf,
    out: Box<dyn Write + Send>,
}

/// A file of events cannot be opened or written.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}: {error}", path.display())]
pub struct EventFileError {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl EventFile {
    /// Opens a file, which is made anew; `-` stands for standard output.
    pub fn open(path: &Path) -> Result<Self, EventFileError> {
        let out: io::Result<Box<dyn Write + Send>> = if path.as_os_str() == "-" {
            Ok(Box::new(io::stdout()))
        } else {
            create_journal(path).map(|file| Box::new(file) as _)
        };
        match out {
            Ok(out) => Ok(Self { path: path.to_owned(), out }),
            Err(error) => Err(EventFileError { what: "", path: path.to_owned(), error }),
        }
    }

    /// Writes one event.
    pub fn write(&mut self, event: &StampedEvent) -> Result<(), EventFileError> {
        let mut line = serde_json::to_string(event).expect("text and numbers are JSON");
        line.push('\n');
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
        let what = "events cannot be written: ";
        written.map_err(|error| EventFileError { what, path: self.path.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_of_json_as_soon_as_they_happen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        let mut file = EventFile::open(&path).expect("opened");
        let event = Event::Stopped { reason: "time".to_owned() };
        let event = StampedEvent { at_us: 3, event, org: None };
        file.write(&event).expect("written");
        let line = "{\"at_us\":3,\"event\":\"stopped\",\"reason\":\"time\"}\n";
        assert_eq!(std::fs::read_to_string(&path).expect("there"), line);
        file.write(&event).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), line.repeat(2));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let Err(error) = EventFile::open(Path::new("/nowhere/events")) else { panic!("opened") };
        assert!(error.to_string().starts_with("/nowhere/events: "), "{error}");
    }
}
