//! The log of one organisation: who came, left and talked, and who was given what. It is kept in
//! the organisation's folder for the person at this device.
//!
//! ```text
//! events ── note ──> queue ── a thread of its own ──> log.jsonl
//! ```
//!
//! It contains names and times, but no voice, no key and no ticket. It is limited by
//! [`LOG_MAX_BYTES`] and [`LOG_MAX_AGE`].

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use hark_keys::UnixTime;
use serde::{Deserialize, Serialize};

use crate::{
    admission::WaitingState,
    clock::{Clock, local},
    event::{DeviceText, Event, StampedEvent, StandingView, TicketView},
    store::{LOG_FILE, LOG_OFF, private},
};

/// An event, as one line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogbookEntry {
    /// Unix time in microseconds. For speech, the time at which it began.
    pub at_us: u64,
    /// The event.
    #[serde(flatten)]
    pub what: What,
}

/// The event of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// This device started its node.
    Started,
    /// A peer came.
    Came {
        /// The device of the peer.
        device: String,
        /// Its member's name.
        name: String,
    },
    /// A peer left.
    Went {
        /// The device of the peer.
        device: String,
        /// Its member's name.
        name: String,
        /// `left`, `unreachable`, or what else ended the link.
        reason: String,
    },
    /// A talkspurt that was heard here, or sent from here.
    Talked {
        /// The device that talked.
        device: String,
        /// Its member's name.
        name: String,
        /// The channels on which it was heard. `whisper` stands for speech to persons or roles.
        nets: Vec<String>,
        /// The length of the talkspurt in milliseconds.
        ms: u64,
    },
    /// A member was given a role or has lost one; was muted or banned, or is so no longer; or has
    /// joined or left.
    Standing {
        /// The member and the change.
        #[serde(flatten)]
        standing: StandingView,
    },
    /// A ticket was issued at this device, or tickets were revoked.
    Ticket {
        /// The tickets, and who has issued or revoked them.
        #[serde(flatten)]
        ticket: TicketView,
    },
    /// A newcomer waited to be let in at this device, was let in, or was turned away.
    Newcomer {
        /// The device of the newcomer.
        device: String,
        /// The name that the newcomer has given.
        name: String,
        /// The number of the newcomer's ticket.
        ticket: String,
        /// Whether the newcomer waited, was let in or was turned away.
        state: WaitingState,
    },
    /// This member was moved to another channel.
    Moved {
        /// The name of the member that did so.
        name: String,
        /// The channel that was left, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The channel that is now heard and talked to.
        to: String,
    },
    /// Entries that came faster than they could be written.
    Lost {
        /// The number of those entries.
        entries: u64,
    },
    /// The node of this device stopped.
    Stopped {
        /// The reason.
        reason: String,
    },
}

impl LogbookEntry {
    /// The entry in a line with local time, for a person.
    pub fn describe(&self) -> String {
        let at = local(UnixTime::from_secs(self.at_us / 1_000_000));
        let what = match &self.what {
            What::Started => "this device started".to_owned(),
            What::Came { name, .. } => format!("{name} came"),
            What::Went { name, reason, .. } => match reason.as_str() {
                "left" => format!("{name} left"),
                "unreachable" => format!("{name} was out of reach"),
                reason => format!("{name} was gone ({reason})"),
            },
            What::Talked { name, nets, ms, .. } => {
                let on = if nets.is_empty() { "nothing".to_owned() } else { nets.join(", ") };
                let (secs, tenths) = (ms / 1_000, ms % 1_000 / 100);
                format!("{name} talked on {on} for {secs}.{tenths} s")
            }
            What::Standing { standing } => standing.describe(),
            What::Ticket { ticket } => ticket.describe(),
            What::Newcomer { name, ticket, state, .. } => match state {
                WaitingState::Waiting => {
                    format!("{name} waited to be let in here, by ticket {ticket}")
                }
                WaitingState::Admitted => format!("{name} was let in here, by ticket {ticket}"),
                WaitingState::Refused => format!("{name} was turned away here, by ticket {ticket}"),
                WaitingState::Gone => format!("{name} waited here no more"),
            },
            What::Moved { name, from: Some(from), to } => {
                format!("{name} moved you from {from} to {to}")
            }
            What::Moved { name, from: None, to } => format!("{name} moved you to {to}"),
            What::Lost { entries } => format!("{entries} entries were lost: too many at once"),
            What::Stopped { reason } => format!("this device stopped ({reason})"),
        };
        format!("{at}  {what}")
    }

    /// Whether the entry concerns a member whose name contains `text`, in upper or lower case.
    pub fn is_of(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.names().iter().any(|name| name.to_lowercase().contains(&text))
    }

    /// The names of the members that the entry concerns.
    pub fn names(&self) -> Vec<&str> {
        match &self.what {
            What::Came { name, .. }
            | What::Went { name, .. }
            | What::Talked { name, .. }
            | What::Newcomer { name, .. }
            | What::Moved { name, .. } => vec![name],
            What::Standing { standing } => [Some(&standing.name), standing.by.as_ref()]
                .into_iter()
                .flatten()
                .map(|it| &**it)
                .collect(),
            What::Ticket { ticket } => ticket.of.iter().chain(&ticket.by).map(|it| &**it).collect(),
            What::Started | What::Lost { .. } | What::Stopped { .. } => Vec::new(),
        }
    }

    /// The paths of the channels that the entry concerns.
    pub fn nets(&self) -> Vec<&str> {
        match &self.what {
            What::Talked { nets, .. } => nets.iter().map(|it| &**it).collect(),
            What::Standing { standing } => standing.channel.iter().map(|it| &**it).collect(),
            What::Moved { from, to, .. } => from.iter().chain([to]).map(|it| &**it).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the entry concerns the channel `net`, which is its path or the last part of it, in
    /// upper or lower case.
    pub fn is_on(&self, net: &str) -> bool {
        self.nets().iter().any(|path| is_called(path, net))
    }
}

/// Whether `net` names the channel at `path`: by its path or the last part of it, in upper or lower
/// case.
pub fn is_called(path: &str, net: &str) -> bool {
    let (path, net) = (path.to_lowercase(), net.to_lowercase());
    path == net || path.rsplit('/').next() == Some(&net)
}

/// Writes the log of one organisation, on a thread of its own.
#[derive(Debug)]
pub struct Logbook {
    sender: Option<SyncSender<LogbookEntry>>,
    thread: Option<JoinHandle<()>>,
    /// Entries for which the queue had no room.
    lost: u64,
    /// For each present talker: since when it talks, and on which nets.
    talking: BTreeMap<DeviceText, (u64, Vec<String>)>,
}

impl Logbook {
    /// Continues the log of the organisation in this folder. Nothing is written while [`is_off`] is
    /// true.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (sender, entries) = sync_channel(QUEUE_MAX);
        let folder = folder.to_owned();
        let write = move || {
            let mut writer = Writer { folder, file: None };
            writer.run(&entries);
        };
        let thread = std::thread::Builder::new().name("hark-log".to_owned()).spawn(write)?;
        Ok(Self { sender: Some(sender), thread: Some(thread), lost: 0, talking: BTreeMap::new() })
    }

    /// Notes an event, if it belongs in the log. Never waits: if the disk does not keep up, the
    /// newest entry is dropped and counted.
    pub fn note(&mut self, event: &StampedEvent) {
        let at_us = event.at_us;
        let what = match &event.event {
            Event::Ready { .. } => What::Started,
            Event::PeerUp { device, name, .. } => {
                What::Came { device: device.0.to_string(), name: name.clone() }
            }
            Event::PeerDown { device, name, reason, .. } => What::Went {
                device: device.0.to_string(),
                name: name.clone(),
                reason: reason.clone(),
            },
            Event::TalkStarted { device, channels, .. } => {
                if self.talking.len() < TALKERS_MAX {
                    self.talking.insert(*device, (at_us, channels.clone()));
                }
                return;
            }
            Event::TalkEnded { device, name, channels } => {
                let Some((since, began_on)) = self.talking.remove(device) else { return };
                let nets = if channels.is_empty() { began_on } else { channels.clone() };
                let ms = at_us.saturating_sub(since) / 1_000;
                let (device, name) = (device.0.to_string(), name.clone());
                self.write(LogbookEntry {
                    at_us: since,
                    what: What::Talked { device, name, nets, ms },
                });
                return;
            }
            Event::Standing { standing, .. } => What::Standing { standing: standing.clone() },
            Event::Ticket { ticket } => What::Ticket { ticket: ticket.clone() },
            Event::Waiting { newcomer, state } if *state != WaitingState::Gone => What::Newcomer {
                device: newcomer.device.clone(),
                name: newcomer.name.clone(),
                ticket: newcomer.ticket.clone(),
                state: *state,
            },
            Event::Moved { name, from, to, .. } => {
                What::Moved { name: name.clone(), from: from.clone(), to: to.clone() }
            }
            Event::Stopped { reason } => What::Stopped { reason: reason.clone() },
            _ => return,
        };
        self.write(LogbookEntry { at_us, what });
    }

    fn write(&mut self, entry: LogbookEntry) {
        let Some(sender) = &self.sender else { return };
        if self.lost > 0 {
            let lost = LogbookEntry { at_us: entry.at_us, what: What::Lost { entries: self.lost } };
            match sender.try_send(lost) {
                Ok(()) => self.lost = 0,
                Err(_) => {
                    self.lost += 1;
                    return;
                }
            }
        }
        match sender.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.lost += 1,
            // The thread has logged the reason.
            Err(TrySendError::Disconnected(_)) => self.sender = None,
        }
    }
}

impl Drop for Logbook {
    /// Waits until all noted entries are written.
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state of the thread that writes.
struct Writer {
    folder: PathBuf,
    /// The open file and its length in bytes.
    file: Option<(File, u64)>,
}

impl Writer {
    fn run(&mut self, entries: &Receiver<LogbookEntry>) {
        while let Ok(entry) = entries.recv() {
            // If the organisation was removed from this device, its log must not be created again.
            if is_off(&self.folder) || !self.folder.join(CHARTER).exists() {
                self.file = None;
                continue;
            }
            if let Err(error) = self.append(&entry) {
                tracing::error!(%error, "the log is not written any more");
                return;
            }
        }
    }

    fn append(&mut self, entry: &LogbookEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let path = path_in(&self.folder);
        // The log may have been cleared.
        self.file.take_if(|_| !path.exists());
        let length = self.file.as_ref().map_or(0, |(_, length)| *length);
        if self.file.is_none() || length + line.len() as u64 > LOG_MAX_BYTES {
            self.file = None;
            compact(&path, Clock.unix())?;
            let mut options = OpenOptions::new();
            let file = private(options.append(true).create(true)).open(&path)?;
            let length = file.metadata()?.len();
            self.file = Some((file, length));
        }
        let (file, length) = self.file.as_mut().expect("opened above");
        file.write_all(&line)?;
        *length += line.len() as u64;
        Ok(())
    }
}

/// The log of the organisation in this folder, the oldest entry first. Empty if there is none.
/// Lines that are no entries, as after a loss of power, are skipped.
pub fn read(folder: &Path) -> io::Result<Vec<LogbookEntry>> {
    let now = Clock.unix();
    let file = match File::open(path_in(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for line in BufReader::new(io::Read::take(file, LOG_MAX_BYTES)).split(b'\n') {
        let entry: Option<LogbookEntry> = serde_json::from_slice(&line?).ok();
        entries.extend(entry.filter(|entry| is_young(entry, now)));
    }
    // A talkspurt is written when it ends, but sorted by its beginning.
    entries.sort_by_key(|entry| entry.at_us);
    Ok(entries)
}

/// Writes an entry if no node runs that could write it. Does nothing if no log is kept.
pub fn add(folder: &Path, what: What) -> io::Result<()> {
    if is_off(folder) {
        return Ok(());
    }
    let mut writer = Writer { folder: folder.to_owned(), file: None };
    writer.append(&LogbookEntry { at_us: Clock.unix_micros(), what })
}

/// Removes the log of the organisation in this folder.
pub fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_file(path_in(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether no log is kept of the organisation in this folder.
pub fn is_off(folder: &Path) -> bool {
    folder.join(LOG_OFF).exists()
}

/// Sets whether a log is kept of the organisation in this folder from now on.
pub fn set_off(folder: &Path, off: bool) -> io::Result<()> {
    let path = folder.join(LOG_OFF);
    if off {
        let mut options = OpenOptions::new();
        return private(options.write(true).create(true).truncate(false)).open(path).map(drop);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes entries that are too old. If the file is longer than half of [`LOG_MAX_BYTES`], also
/// removes the oldest entries until half is free.
fn compact(path: &Path, now: UnixTime) -> io::Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_full = bytes.len() as u64 > LOG_MAX_BYTES / 2;
    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let young = whole.filter(|line| {
        let entry: Option<LogbookEntry> = serde_json::from_slice(line).ok();
        entry.is_some_and(|entry| is_young(&entry, now))
    });
    let young: Vec<_> = young.collect();
    let mut length: u64 = young.iter().map(|line| line.len() as u64).sum();
    let mut first = 0;
    while is_full && length > LOG_MAX_BYTES / 2 {
        length -= young[first].len() as u64;
        first += 1;
    }
    let kept = young[first..].concat();
    if kept == bytes {
        return Ok(());
    }
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    private(options.write(true).create(true).truncate(true)).open(&new)?.write_all(&kept)?;
    fs::rename(new, path)
}

fn is_young(entry: &LogbookEntry, now: UnixTime) -> bool {
    let age = now.as_secs().saturating_sub(entry.at_us / 1_000_000);
    age <= LOG_MAX_AGE.as_secs()
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join(LOG_FILE)
}

/// Longest log in bytes. A log that would become longer loses its oldest entries until half of this
/// is free. So does a log of more than half of this when the node opens it.
pub const LOG_MAX_BYTES: u64 = 4 << 20;

/// How long an entry is kept. An older entry is not shown, and is removed when the log is next
/// opened.
pub const LOG_MAX_AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A file that each folder of an organisation contains.
const CHARTER: &str = "charter";

/// Entries that wait for the disk. If there are more, the newest is dropped and counted.
const QUEUE_MAX: usize = 1_024;

/// Talkers whose talkspurts are measured at one time. Those of further ones are not noted.
const TALKERS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;

    use super::*;
    use crate::{admission::WaitingView, event::Path as Way};

    fn device() -> DeviceText {
        DeviceText(DeviceKey::from_secret(&[7; 32]).id())
    }

    fn at(seconds: u64, event: Event) -> StampedEvent {
        let at_us = (Clock.unix().as_secs() - 1_000 + seconds) * 1_000_000;
        StampedEvent { at_us, event, org: None }
    }

    fn events() -> Vec<StampedEvent> {
        let (name, channels) = ("Sable".to_owned(), vec!["Flight/Alpha".to_owned()]);
        let up = Event::PeerUp {
            device: device(),
            name: name.clone(),
            looks_like: None,
            path: Way::Direct,
            address: "192.0.2.7:4000".to_owned(),
        };
        let began =
            Event::TalkStarted { device: device(), name: name.clone(), channels: channels.clone() };
        let ended = Event::TalkEnded { device: device(), name: name.clone(), channels };
        let muted = StandingView {
            member: "m".to_owned(),
            name,
            change: "muted".to_owned(),
            role: None,
            channel: Some("Flight".to_owned()),
            by: Some("Kestrel".to_owned()),
            until: None,
        };
        let muted = Event::Standing { own: false, standing: muted };
        vec![at(1, up), at(2, began), at(5, ended), at(6, muted)]
    }

    fn noted(folder: &Path, events: &[StampedEvent]) -> Vec<LogbookEntry> {
        fs::write(folder.join(CHARTER), b"").expect("written");
        let mut logbook = Logbook::open(folder).expect("opened");
        events.iter().for_each(|event| logbook.note(event));
        drop(logbook);
        read(folder).expect("read")
    }

    #[test]
    fn nobody_could_say_afterwards_who_had_talked() {
        let folder = tempfile::tempdir().expect("a folder");
        let entries = noted(folder.path(), &events());
        let lines: Vec<_> = entries.iter().map(|it| it.describe()[21..].to_owned()).collect();
        assert_eq!(
            lines,
            [
                "Sable came",
                "Sable talked on Flight/Alpha for 3.0 s",
                "Sable was muted in Flight by Kestrel"
            ]
        );
        let of = |text| entries.iter().filter(|it| it.is_of(text)).count();
        assert_eq!((of("sab"), of("kestrel"), of("Wren")), (3, 1, 0));
        let on = |net| entries.iter().filter(|it| it.is_on(net)).count();
        assert_eq!((on("alpha"), on("Flight/Alpha"), on("flight"), on("ha")), (1, 1, 1, 0));
        // The log continues after a restart. A line that was cut off by a crash is the only one
        // that is lost.
        let path = path_in(folder.path());
        let mut file = OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"{\"at_us\":17,\"wh").expect("written");
        assert_eq!(noted(folder.path(), &events()).len(), 6);
        let bytes = fs::read(&path).expect("there");
        // The log contains no address.
        assert!(!String::from_utf8_lossy(&bytes).contains("192.0.2.7"));
    }

    #[cfg(unix)]
    #[test]
    fn the_log_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        noted(folder.path(), &events());
        let mode = || {
            let metadata = path_in(folder.path()).metadata().expect("there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode(), 0o600);
        compact(&path_in(folder.path()), UnixTime::from_secs(u64::MAX)).expect("compacted");
        assert_eq!((mode(), read(folder.path()).expect("read").len()), (0o600, 0));
    }

    #[test]
    fn the_log_is_bounded_by_size_and_age() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path_in(folder.path());
        let now = Clock.unix().as_secs();
        let entry = |secs: u64, number: u64| {
            let at_us = secs * 1_000_000 + number;
            let reason = "x".repeat(200);
            let entry = LogbookEntry { at_us, what: What::Stopped { reason } };
            serde_json::to_string(&entry).expect("JSON") + "\n"
        };
        let old = entry(now - LOG_MAX_AGE.as_secs() - 60, 0);
        let count = LOG_MAX_BYTES / entry(now, 9_999).len() as u64;
        let many: String = (0..count).map(|number| entry(now, number)).collect();
        fs::write(&path, old + &many).expect("written");
        let mut writer = Writer { folder: folder.path().to_owned(), file: None };
        for number in 0..3 {
            let what = What::Lost { entries: number };
            writer.append(&LogbookEntry { at_us: (now + 1) * 1_000_000, what }).expect("written");
        }
        let length = path.metadata().expect("there").len();
        assert!(length <= LOG_MAX_BYTES / 2 + 300, "{length}");
        let entries = read(folder.path()).expect("read");
        assert!(entries.iter().all(|it| it.at_us >= now * 1_000_000));
        assert_eq!(entries.last().map(|it| &it.what), Some(&What::Lost { entries: 2 }));
        assert_eq!(
            entries[entries.len() - 4].at_us,
            now * 1_000_000 + count - 1,
            "the newest stay"
        );
    }

    #[test]
    fn the_log_of_an_organisation_that_was_left_came_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut logbook = Logbook::open(folder.path()).expect("opened");
        events().iter().for_each(|event| logbook.note(event));
        drop(logbook);
        assert!(!path_in(folder.path()).exists());
    }

    #[test]
    fn a_log_that_is_off_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        set_off(folder.path(), true).expect("off");
        assert_eq!(noted(folder.path(), &events()), []);
        set_off(folder.path(), false).expect("on");
        assert_eq!(noted(folder.path(), &events()).len(), 3);
        clear(folder.path()).expect("cleared");
        clear(folder.path()).expect("there is none");
        assert_eq!(read(folder.path()).expect("read"), []);
    }

    /// Regression: the log did not mention tickets, newcomers that were turned away, and who had
    /// made a change.
    #[test]
    fn nobody_could_say_who_had_been_turned_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let kestrel = || Some("Kestrel".to_owned());
        let standing = |change: &str, role: Option<&str>| Event::Standing {
            own: false,
            standing: StandingView {
                member: "m".to_owned(),
                name: "Wren".to_owned(),
                change: change.to_owned(),
                role: role.map(str::to_owned),
                channel: None,
                by: kestrel(),
                until: None,
            },
        };
        let ticket = |change: &str, number: Option<&str>, of: Option<String>| {
            let (change, number, by) = (change.to_owned(), number.map(str::to_owned), kestrel());
            Event::Ticket { ticket: TicketView { change, number, of, by } }
        };
        let waiting = |state| {
            let (device, name) = ("d".to_owned(), "Snipe".to_owned());
            let (words, ticket, since) = (Vec::new(), "abcdef".to_owned(), 1);
            let newcomer = WaitingView { device, name, words, ticket, since };
            Event::Waiting { newcomer, state }
        };
        let events = [
            ticket("issued", Some("abcdef"), None),
            waiting(WaitingState::Waiting),
            waiting(WaitingState::Refused),
            waiting(WaitingState::Gone),
            ticket("revoked", Some("abcdef"), kestrel()),
            ticket("revoked", None, None),
            standing("role_given", Some("Pilot")),
            standing("removed", None),
        ];
        let events: Vec<_> = (0..).zip(events).map(|(second, event)| at(second, event)).collect();
        let entries = noted(folder.path(), &events);
        let lines: Vec<_> = entries.iter().map(|it| it.describe()[21..].to_owned()).collect();
        assert_eq!(
            lines,
            [
                "Kestrel issued ticket abcdef",
                "Snipe waited to be let in here, by ticket abcdef",
                "Snipe was turned away here, by ticket abcdef",
                "Kestrel revoked ticket abcdef of Kestrel",
                "Kestrel revoked all tickets of everybody so far",
                "Wren was given the role Pilot by Kestrel",
                "Wren was kicked by Kestrel",
            ]
        );
        assert_eq!(entries.iter().filter(|it| it.is_of("snipe")).count(), 2);
    }

    #[test]
    fn what_is_too_much_at_once_is_counted() {
        let (sender, entries) = sync_channel(2);
        let mut logbook =
            Logbook { sender: Some(sender), thread: None, lost: 0, talking: BTreeMap::new() };
        let stopped = || at(1, Event::Stopped { reason: "quit".to_owned() });
        (0..5).for_each(|_| logbook.note(&stopped()));
        assert_eq!(logbook.lost, 3);
        drop((entries.recv(), entries.recv()));
        logbook.note(&stopped());
        let told: Vec<_> = entries.try_iter().map(|it| it.what).collect();
        assert_eq!(told[0], What::Lost { entries: 3 });
        assert_eq!((told.len(), logbook.lost), (2, 0));
    }
}
