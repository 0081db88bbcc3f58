//! Tests with a machine whose power fails at any step of a change. Afterwards the disk holds what
//! it held before the change or after it, whichever unsynced parts it has kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    io,
    sync::{Mutex, MutexGuard},
};

use hark_charter::{
    NameKey, Piece,
    content::{Change, Channel},
};
use hark_keys::{ChannelId, ObjectHash, SeededRandom, TargetId};

use super::{
    files::{Steps, make_folder, remove_for_good, write_whole},
    tests::invite,
    *,
};
use crate::{admission::UseCounter, clock::Clock};

/// A simulated disk that can stop between two steps. Clones share the same disk.
#[derive(Clone, Debug, Default)]
struct Platter(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    /// The names that can be read while the machine runs.
    names: Names,
    /// The names that are certainly there after a loss of power.
    lasting: Names,
    /// Changes of names that were not synced, the oldest first. Each may be lost or kept
    /// independently.
    pending: Vec<Vec<(PathBuf, Option<Entry>)>>,
    files: Vec<Contents>,
    /// Steps that are left until the machine stops.
    left: Option<usize>,
}

type Names = BTreeMap<PathBuf, Entry>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Folder,
    /// The index of the file's contents.
    File(usize),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    synced: bool,
}

impl Platter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Takes one of the remaining steps. Fails if there is none left.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.left {
            Some(0) => return Err(io::Error::other("the machine has stopped")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }

    /// A copy of the disk, as it is after the machine was restarted without a loss of power.
    fn killed(&self) -> Self {
        let mut state = self.state().clone();
        state.left = None;
        Self(Arc::new(Mutex::new(state)))
    }

    /// All states in which the disk may be if the power fails now.
    fn outcomes(&self) -> Vec<Self> {
        let state = self.state().clone();
        assert!(state.pending.len() < 6, "each change of names is synced before the next");
        let mut outcomes = BTreeMap::new();
        for kept in 0..1_u32 << state.pending.len() {
            let mut names = state.lasting.clone();
            for (place, changes) in state.pending.iter().enumerate() {
                if kept & (1 << place) != 0 {
                    changes.iter().for_each(|change| apply(&mut names, change));
                }
            }
            // An entry cannot be found if its folder is missing.
            let folders = names.clone();
            let found = |path: &Path| folders.get(path) == Some(&Entry::Folder);
            names.retain(|path, _| {
                path.ancestors().skip(1).all(|above| above == Path::new("/") || found(above))
            });
            let unsynced: BTreeSet<_> = names
                .values()
                .filter_map(|entry| match entry {
                    Entry::File(file) if !state.files[*file].synced => Some(*file),
                    _ => None,
                })
                .collect();
            assert!(unsynced.len() < 2, "one file is written at a time");
            let mut tears = vec![state.files.clone()];
            for file in unsynced {
                let whole = &state.files[file].bytes;
                let length = whole.len();
                let mut torn: Vec<_> = [0, 1, length / 2, length.saturating_sub(1)]
                    .map(|end| whole[..end.min(length)].to_vec())
                    .into();
                torn.push(vec![0; length]);
                tears.extend(torn.into_iter().map(|bytes| {
                    let mut files = state.files.clone();
                    files[file].bytes = bytes;
                    files
                }));
            }
            for mut files in tears {
                files.iter_mut().for_each(|contents| contents.synced = true);
                let visible: Vec<_> = names
                    .iter()
                    .map(|(path, entry)| match entry {
                        Entry::Folder => (path.clone(), None),
                        Entry::File(file) => (path.clone(), Some(files[*file].bytes.clone())),
                    })
                    .collect();
                outcomes.entry(visible).or_insert_with(|| State {
                    names: names.clone(),
                    lasting: names.clone(),
                    files,
                    ..State::default()
                });
            }
        }
        outcomes.into_values().map(|state| Self(Arc::new(Mutex::new(state)))).collect()
    }
}

fn apply(names: &mut Names, (path, entry): &(PathBuf, Option<Entry>)) {
    match entry {
        Some(entry) => drop(names.insert(path.clone(), *entry)),
        None => drop(names.remove(path)),
    }
}

impl State {
    fn change(&mut self, changes: Vec<(PathBuf, Option<Entry>)>) {
        changes.iter().for_each(|change| apply(&mut self.names, change));
        self.pending.push(changes);
    }

    fn has_folder(&self, path: &Path) -> bool {
        path == Path::new("/") || self.names.get(path) == Some(&Entry::Folder)
    }

    /// Checks that the folder exists in which `path` is to be created.
    fn need_folder_of(&self, path: &Path) -> io::Result<()> {
        let above = path.parent().is_some_and(|above| self.has_folder(above));
        if above { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

impl Steps for Platter {
    type File = usize;

    fn create(&self, path: &Path) -> io::Result<usize> {
        let mut state = self.step()?;
        state.need_folder_of(path)?;
        if state.names.contains_key(path) {
            state.change(vec![(path.to_owned(), None)]);
        }
        let file = state.files.len();
        state.files.push(Contents::default());
        state.change(vec![(path.to_owned(), Some(Entry::File(file)))]);
        Ok(file)
    }

    fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.step()?;
        let contents = &mut state.files[*file];
        contents.bytes.extend_from_slice(bytes);
        contents.synced = false;
        Ok(())
    }

    fn sync(&self, file: &mut usize) -> io::Result<()> {
        self.step()?.files[*file].synced = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent());
        let mut state = self.step()?;
        let entry = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(vec![(from.to_owned(), None), (to.to_owned(), Some(entry))]);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        if !matches!(state.names.get(path), Some(Entry::File(_))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.state().has_folder(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.need_folder_of(path)?;
        state.change(vec![(path.to_owned(), Some(Entry::Folder))]);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let state = &mut *state;
        let inside = |changes: &[(PathBuf, _)]| changes[0].0.parent() == Some(folder);
        for changes in state.pending.extract_if(.., |changes| inside(changes)) {
            changes.iter().for_each(|change| apply(&mut state.lasting, change));
        }
        Ok(())
    }
}

impl Disk for Platter {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        Ok(match state.names.get(path) {
            None => None,
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::File(file)) => {
                let bytes = &state.files[*file].bytes;
                Some(bytes[..bytes.len().min(limit as usize)].to_vec())
            }
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_whole(self, path, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        remove_for_good(self, path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        make_folder(self, path)
    }

    fn settle(&self, folder: &Path) -> io::Result<()> {
        self.sync_folder(folder)
    }

    fn folders(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        if !state.has_folder(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state
            .names
            .iter()
            .filter(|(inner, entry)| inner.parent() == Some(path) && **entry == Entry::Folder);
        Ok(inside.map(|(inner, _)| inner.clone()).collect())
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Guard>, LockError> {
        Ok(Box::new(Held))
    }

    fn owner(&self, _: &Path) -> io::Result<Option<Owner>> {
        Ok(Some(Owner::Own))
    }
}

#[derive(Debug)]
struct Held;

impl Guard for Held {}

/// Something that is done to a home, and can be repeated if it was not finished.
type Deed<'a> = &'a dyn Fn(&Home) -> Result<(), StoreError>;

/// Does all `deeds` in order, and stops the machine at each step of each deed. After a loss of
/// power, `seen` returns the value from before the deed or after it. After a restart without one,
/// the deed can be completed, and is then durable.
fn hold_through<S: Debug + PartialEq>(deeds: &[Deed<'_>], seen: impl Fn(&Home) -> S) {
    let start = |disk: &Platter| {
        let passphrase: AskPassphrase = Box::new(|| Some(PASSPHRASE.to_owned()));
        Home::open_on(Arc::new(disk.clone()), Path::new("/people/kestrel/hark"), passphrase)
    };
    let disk = Platter::default();
    let mut before = seen(&start(&disk.killed()).expect("a home"));
    for (number, deed) in deeds.iter().enumerate() {
        let after = disk.killed();
        deed(&start(&after).expect("a home")).expect("done");
        let after = seen(&start(&after).expect("a home"));
        for steps in 0.. {
            let stopped = disk.killed();
            stopped.state().left = Some(steps);
            let done = start(&stopped).and_then(|home| deed(&home));
            for outcome in stopped.outcomes() {
                let context =
                    || format!("deed {number}, step {steps}: {:?}", outcome.state().names);
                let home = start(&outcome).unwrap_or_else(|error| panic!("{error}: {}", context()));
                let found = seen(&home);
                let is_old = done.is_err() && found == before;
                assert!(
                    is_old || found == after,
                    "{found:?}\n{before:?}\n{after:?}\n{}",
                    context()
                );
                deed(&home).unwrap_or_else(|error| panic!("{error}: {}", context()));
                assert_eq!(seen(&home), after, "{}", context());
            }
            let again = stopped.killed();
            deed(&start(&again).expect("a home")).expect("done");
            for outcome in again.outcomes() {
                let home = start(&outcome).expect("a home");
                assert_eq!(seen(&home), after, "deed {number}, step {steps}, done again");
            }
            if done.is_ok() {
                break;
            }
        }
        deed(&start(&disk).expect("a home")).expect("done");
        before = after;
    }
}

/// The contents of a home for one organisation.
#[derive(Debug, PartialEq)]
struct Kept {
    name: String,
    digest: ObjectHash,
    member: MemberId,
    device: DeviceId,
    generations: BTreeMap<TargetId, u16>,
    hidden: usize,
    root_signed: [Option<ObjectHash>; 2],
    members: Vec<u8>,
    port: Option<u16>,
    admitted: Vec<DeviceId>,
    control: Option<String>,
}

/// The contents of a home.
#[derive(Debug, PartialEq)]
struct Seen {
    name: Option<String>,
    next: Option<DeviceId>,
    organisations: Vec<Kept>,
}

fn device(number: u8) -> DeviceId {
    DeviceKey::from_secret(&[number; 32]).id()
}

fn is_admitted(store: &OrganisationStore, newcomer: DeviceId) -> bool {
    // With a share of 0, no new device is admitted.
    let counted = store.use_counter(Clock).count(&invite(1, 3), 0, newcomer);
    counted.expect("the count can be read")
}

fn look(home: &Home) -> Seen {
    let organisations = home.organisations().expect("readable").into_iter().map(|store| Kept {
        name: store.charter().name().to_owned(),
        digest: store.charter().digest(),
        member: store.member(),
        device: home.key(&store).expect("its identity").id(),
        generations: store.generations().expect("readable"),
        hidden: store.names().expect("readable").len(),
        root_signed: [2, 3].map(|version| store.root_signed(version).expect("readable")),
        members: store.members().expect("readable"),
        port: store.port(),
        admitted: (2..6).map(device).filter(|it| is_admitted(&store, *it)).collect(),
        control: store.control().expect("readable"),
    });
    Seen {
        name: home.name().expect("readable"),
        organisations: organisations.collect(),
        next: home.read_key(&home.next_key_path()).expect("readable").map(|key| key.id()),
    }
}

/// Opens the organisation as a process that runs it does.
fn kestrel(home: &Home) -> Result<(OrganisationStore, Lock), StoreError> {
    let store = home.choose(Some("Kestrel"))?.expect("kept before");
    let lock = store.lock()?;
    Ok((store, lock))
}

fn admit(home: &Home, newcomer: u8) -> Result<(), StoreError> {
    let (store, _lock) = kestrel(home)?;
    match store.use_counter(Clock).count(&invite(1, 3), 3, device(newcomer)) {
        Ok(admitted) => assert!(admitted),
        Err(_) => return Err(StoreError::UnknownOrganisation("stopped".to_owned(), String::new())),
    }
    Ok(())
}

/// Founds an organisation with the next identity, if that has not been done.
fn found(home: &Home, name: &str, seed: u64) -> Result<(), StoreError> {
    let random = SeededRandom::new(seed);
    let known = home.organisations()?;
    if !known.iter().any(|store| store.charter().name() == name) {
        let key = home.next_key(&random)?;
        let charter = Charter::found(name, "squad", &key, None, &random);
        home.keep(&charter, charter.member_of(key.id()))?;
    }
    Ok(())
}

/// Opens a channel, if that has not been done.
fn edit(home: &Home) -> Result<(), StoreError> {
    let (store, _lock) = kestrel(home)?;
    let mut charter = Charter::clone(store.charter());
    if charter.operations() == 0 {
        let channel = Change::Channel(Channel::open(ChannelId::from_bytes([8; 16]), "Tower"));
        let operation = charter.edit(&home.key(&store)?, store.member(), vec![channel]);
        charter.take(Piece::Operation(operation.expect("the founder may"))).expect("taken");
    }
    store.keep_charter(&charter)
}

/// [CHARTER-8.1] [CHARTER-2.4] [PROTO-6.3] [PROTO-4.5]
#[test]
fn power_that_fails_at_any_step_leaves_what_was_or_what_is_to_be() {
    let target = TargetId::from_bytes([1; 16]);
    let generation = |last| {
        move |home: &Home| kestrel(home)?.0.keep_generations(&BTreeMap::from([(target, last)]))
    };
    let names = BTreeMap::from([(
        ChannelId::from_bytes([8; 16]),
        NameKey::generate(&SeededRandom::new(4)),
    )]);
    let root = |version, byte| {
        move |home: &Home| {
            kestrel(home)?.0.keep_root_signed(version, ObjectHash::from_bytes([byte; 32]))
        }
    };
    let deeds: &[Deed<'_>] = &[
        &|home| home.next_key(&SeededRandom::new(1)).map(drop),
        &|home| home.keep_name("Kestrel"),
        &|home| found(home, "Kestrel", 1),
        &|home| kestrel(home).map(drop),
        &generation(1),
        &generation(2),
        &edit,
        &|home| kestrel(home)?.0.keep_names(&names),
        &root(2, 2),
        &root(3, 3),
        &|home| admit(home, 2),
        &|home| admit(home, 3),
        &|home| kestrel(home)?.0.keep_members(&[7; 300]),
        &|home| kestrel(home)?.0.keep_port(Some(40_001)),
        &|home| kestrel(home)?.0.keep_port(Some(40_002)),
        &|home| kestrel(home)?.0.keep_control("{}"),
        &|home| home.keep_name("Heron"),
        &|home| home.next_key(&SeededRandom::new(2)).map(drop),
        &|home| found(home, "Magpie", 2),
        &|home| admit(home, 4),
        &generation(3),
    ];
    hold_through(deeds, look);
}

/// One passphrase opens all keys; no key is left that needs another.
#[test]
fn power_that_fails_while_keys_are_protected_leaves_all_or_none_protected() {
    let deeds: &[Deed<'_>] = &[
        &|home| found(home, "Kestrel", 1),
        &|home| home.next_key(&SeededRandom::new(2)).map(drop),
        &|home| match home.protected()? {
            Some(true) => Ok(()),
            _ => home.protect(Some(PASSPHRASE), &SeededRandom::new(3)),
        },
    ];
    // The texts are compared, since opening each key would take minutes.
    hold_through(deeds, |home| {
        let paths = home.key_paths().expect("readable").into_iter();
        let texts = paths.filter_map(|path| home.files.read_secret(&path).expect("readable"));
        texts.collect::<Vec<_>>()
    });
}

#[test]
fn what_was_removed_does_not_come_back() {
    let disk = Platter::default();
    let path = Path::new("/file");
    disk.write(path, b"old").expect("written");
    disk.remove(path).expect("removed");
    let found = disk
        .outcomes()
        .iter()
        .map(|outcome| outcome.read(path, 9).expect("readable"))
        .collect::<Vec<_>>();
    assert_eq!(found, [None]);
}

const PASSPHRASE: &str = "kestrel";
