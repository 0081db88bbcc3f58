use std::collections::BTreeMap;

use hark_charter::{Piece, content::Change};
use hark_keys::{DeviceKey, Door, Invite, SeededRandom, TargetId, Terms, Ticket, UnixTime};

use super::*;
use crate::{admission::UseCounter, clock::Clock, profile::Profiles};

fn home(path: &Path) -> Home {
    Home::open(path, Box::new(|| Some("kestrel".to_owned()))).expect("a home")
}

fn founded(home: &Home, name: &str) -> OrganisationStore {
    let random = SeededRandom::new(name.len() as u64);
    let key = home.next_key(&random).expect("a key");
    let charter = Charter::found(name, "squad", &key, None, &random);
    home.keep(&charter, charter.member_of(key.id())).expect("kept")
}

#[test]
fn an_organisation_takes_the_next_identity_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = home(folder.path());
    let random = SeededRandom::new(1);
    let device = first.device(&random).expect("made on first use");
    assert_eq!(first.device(&random).expect("the same again"), device);
    let kestrel = founded(&first, "Kestrel");
    let again = home(folder.path());
    let found = again.choose(None).expect("one").expect("one");
    assert_eq!(found.id(), kestrel.id());
    assert_eq!(again.key(&found).expect("its key").id(), device);
    assert_ne!(again.next_key(&random).expect("another").id(), device);

    founded(&again, "Magpie wing");
    assert!(matches!(again.choose(None), Err(StoreError::Ambiguous(_))));
    let chosen = again.choose(Some("Kestrel")).expect("one").expect("one");
    assert_eq!(chosen.id(), kestrel.id());
    assert!(matches!(again.choose(Some("Heron")), Err(StoreError::UnknownOrganisation(..))));
    // Regression: half of a name was not found, and the error did not list the names.
    let error = again.choose(Some("Kest")).map(drop).expect_err("half a name");
    assert!(error.to_string().ends_with(": did you mean Kestrel?"), "{error}");
}

#[test]
fn a_home_of_a_newer_version_is_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |version: &str| {
        std::fs::write(folder.path().join("version"), version).expect("written");
        Home::open(folder.path(), Box::new(|| None))
    };
    assert!(matches!(open("hark home 3\n"), Err(StoreError::NewerVersion(_))));
    assert!(matches!(open("hark home 1\n"), Err(StoreError::OlderVersion(_))));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

/// [PROTO-6.3]
#[test]
fn a_generation_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = founded(&home(folder.path()), "Kestrel");
    assert_eq!(store.generations().expect("none yet"), BTreeMap::new());
    let generations = BTreeMap::from([(TargetId::from_bytes([1; 16]), 41)]);
    store.keep_generations(&generations).expect("kept");
    let again = home(folder.path()).choose(None).expect("one").expect("one");
    assert_eq!(again.generations().expect("kept"), generations);
}

#[test]
fn the_last_port_is_remembered_and_damage_to_it_is_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = founded(&home(folder.path()), "Kestrel");
    assert_eq!(store.port(), None);
    store.keep_port(Some(40_001)).expect("kept");
    store.keep_port(None).expect("nothing to keep");
    assert_eq!(store.port(), Some(40_001));
    std::fs::write(store.folder().join("port"), "seventy thousand").expect("written");
    assert_eq!(store.port(), None);
}

#[test]
fn one_process_runs_an_organisation() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = founded(&home(folder.path()), "Kestrel");
    let lock = store.lock().expect("free");
    let Err(StoreError::Running(owner)) = store.lock() else { panic!("locked twice") };
    assert_eq!(owner, std::process::id().to_string());
    drop(lock);
    store.lock().expect("free again");
}

/// [PROTO-4.5] Uses are counted across restarts, and once for each device.
#[test]
fn uses_of_a_ticket_are_counted_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = founded(&home(folder.path()), "Kestrel");
    let [ann, bob, eve] = [2, 3, 4].map(|n| DeviceKey::from_secret(&[n; 32]).id());
    let limited = invite(1, 2);
    let count =
        |device| store.use_counter(Clock).count(&limited, 2, device).expect("the disk works");
    assert_eq!([ann, bob, ann, eve, bob].map(count), [true, true, true, false, true]);
    assert!(store.use_counter(Clock).count(&invite(5, 1), 1, eve).expect("the disk works"));
}

pub(super) fn invite(seed: u8, uses: u8) -> Invite {
    let issuer = DeviceKey::from_secret(&[seed; 32]);
    let terms = Terms { uses, ..Terms::until(UnixTime::from_secs(u64::MAX)) };
    let doors = vec![Door { device: issuer.id(), addresses: Vec::new() }];
    let organisation = OrganisationId::from_bytes([9; 32]);
    let random = SeededRandom::new(seed.into());
    Ticket::issue(&issuer, organisation, "Kestrel", terms, doors, &random).invite().clone()
}

/// Notes about tickets never push out the counts of limited tickets.
#[test]
fn tickets_are_remembered_until_they_expire() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = founded(&home(folder.path()), "Kestrel");
    let device = |n: u64| DeviceKey::generate(&SeededRandom::new(1_000 + n)).id();
    let (open, limited) = (invite(1, 0), invite(2, 3));
    let now = UnixTime::from_secs(5);
    store.keep_ticket(now, &open).expect("the disk works");
    assert!(store.use_counter(Clock).count(&limited, 3, device(0)).expect("the disk works"));
    for number in (0..70).chain(0..70) {
        store.note_use(now, &open, device(number)).expect("the disk works");
    }
    let known = store.tickets(now).expect("readable");
    let used = |invite: &Invite| {
        let ticket = known.iter().find(|it| it.invite == *invite).expect("it is known");
        ticket.devices.len()
    };
    assert_eq!([used(&open), used(&limited), known.len()], [64, 1, 2]);
    assert_eq!(store.tickets(open.expires).expect("readable"), []);
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    SystemDisk.write(&path, b"old").expect("written");
    // A folder at the name of the temporary file stands for a disk that returns an error.
    std::fs::create_dir(folder.path().join("file.new")).expect("made");
    assert!(SystemDisk.write(&path, b"new").is_err());
    assert_eq!(std::fs::read(&path).expect("there"), b"old");
    std::fs::remove_dir(folder.path().join("file.new")).expect("removed");
    SystemDisk.write(&path, b"new").expect("written");
    assert_eq!(std::fs::read(&path).expect("there"), b"new");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[cfg(unix)]
#[test]
fn secrets_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("home");
    let store = founded(&home(&inner), "Kestrel");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&store.folder().join("device.key")), 0o600);
    assert_eq!(mode(store.folder()), 0o700);
    assert_eq!(mode(&inner), 0o700);
}

/// Another account that can write to a folder can put something in the way of a file that Hark
/// creates there.
#[cfg(unix)]
#[test]
fn a_planted_file_does_not_become_the_key_file() {
    use std::{
        io::Read,
        os::unix::fs::{MetadataExt, symlink},
    };
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("device.key");
    let planted = folder.path().join("device.key.new");
    let target = folder.path().join("precious");
    std::fs::write(&target, "mine").expect("written");

    symlink(&target, &planted).expect("planted");
    SystemDisk.write(&key, b"secret").expect("written");
    assert_eq!(std::fs::read(&target).expect("there"), b"mine");
    assert_eq!(std::fs::symlink_metadata(&key).expect("there").mode(), 0o100_600);

    std::fs::write(&planted, "").expect("planted");
    let mut held = std::fs::File::open(&planted).expect("its planter keeps it open");
    SystemDisk.write(&key, b"another").expect("written");
    let mut seen = String::new();
    held.read_to_string(&mut seen).expect("read");
    assert_eq!((seen.as_str(), std::fs::read(&key).expect("there")), ("", b"another".to_vec()));

    symlink(&target, folder.path().join("lock")).expect("planted");
    assert!(SystemDisk.lock(&folder.path().join("lock")).is_err());
    assert_eq!(std::fs::read(&target).expect("there"), b"mine");
}

#[cfg(unix)]
#[test]
fn a_home_to_which_others_can_write_is_refused() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let folder = tempfile::tempdir().expect("a folder");
    let open = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.path(), permissions).expect("set");
        Home::open(folder.path(), Box::new(|| None)).map(|_| ())
    };
    for shared in [0o777, 0o1777, 0o775, 0o702] {
        let error = open(shared).expect_err("others can write there");
        assert!(matches!(error, StoreError::SharedHome(_)), "{shared:o}: {error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }
    open(0o755).expect("nobody else can write there");
    // Only the administrator can give a folder to another account.
    if chown(folder.path(), Some(65_533), None).is_ok() {
        let error = open(0o700).expect_err("it is another account's");
        assert!(matches!(error, StoreError::ForeignHome(_)), "{error}");
    }
}

#[test]
fn a_passphrase_protects_every_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = home(folder.path());
    assert_eq!(open.protected().expect("no key yet"), None);
    let store = founded(&open, "Kestrel");
    let device = open.key(&store).expect("a key").id();
    assert_eq!(open.protected().expect("readable"), Some(false));
    open.protect(Some("kestrel"), &SeededRandom::new(9)).expect("protected");
    assert_eq!(open.key(&store).expect("its passphrase").id(), device);
    let locked = Home::open(folder.path(), Box::new(|| None)).expect("a home");
    assert_eq!(locked.protected().expect("readable without it"), Some(true));
    assert!(matches!(
        locked.key(&store),
        Err(StoreError::Key { error: KeyFileError::PassphraseNeeded, .. })
    ));
}

#[test]
fn a_chosen_name_is_there_the_next_time() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(home(folder.path()).name().expect("none yet"), None);
    home(folder.path()).keep_name("Ann").expect("kept");
    assert_eq!(home(folder.path()).name().expect("kept").as_deref(), Some("Ann"));
}

/// Regression: a member was removed, and then let in again by a member without a root key. Its home
/// knew the organisation already and did not keep the certificate by which it now belonged, so it
/// was notified at once that it had been removed. [CHARTER-3.2]
#[test]
fn a_removed_member_let_in_by_another_was_told_that_it_was_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let random = SeededRandom::new(7);
    let [founder, heron] = [0, 1].map(|_| DeviceKey::generate(&random));
    let home = home(folder.path());
    let wren = home.next_key(&random).expect("a key");
    let mut charter = Charter::found("Kestrel", "squad", &founder, None, &random);
    let [own, door, member] = [&founder, &heron, &wren].map(|key| charter.member_of(key.id()));
    for key in [&heron, &wren] {
        let certificate = charter.issue(&founder, own, key.id(), None).expect("admitted");
        charter.take(Piece::Certificate(certificate)).expect("taken");
    }
    let remove = Change::Remove { member, admission: 1 };
    let removal = charter.edit(&founder, own, vec![remove]).expect("permitted");
    charter.take(Piece::Operation(removal)).expect("taken");
    let known = home.keep(&charter, member).expect("kept");
    assert!(!known.charter().is_member(member));

    let again = charter.issue(&heron, door, wren.id(), None).expect("admitted again");
    let mut newcomer = Charter::of_roots(charter.roots().cloned()).expect("sound");
    newcomer.show_chain(&charter.chain_with(again));
    let kept = home.keep(&newcomer, member).expect("kept");
    assert!(kept.charter().is_member(member));
}

/// A regression: the devices that a person had verified stayed on disk after the organisation was
/// removed from the device.
#[test]
fn an_organisation_that_was_forgotten_left_files_behind() {
    let folder = tempfile::tempdir().expect("the disk works");
    let home = home(folder.path());
    let store = founded(&home, "Squad");
    let target = TargetId::from_bytes([1; 16]);
    store.keep_names(&BTreeMap::new()).expect("the disk works");
    store.keep_profiles(&Profiles::default()).expect("the disk works");
    store.keep_verified(&BTreeMap::new()).expect("the disk works");
    store.keep_port(Some(7_300)).expect("the disk works");
    store.keep_volunteer(Some(900)).expect("the disk works");
    store.keep_generations(&BTreeMap::from([(target, 1)])).expect("the disk works");
    store.keep_control("{}").expect("the disk works");
    store.keep_members(&[]).expect("the disk works");
    store.keep_ticket(UnixTime::from_secs(0), &invite(1, 1)).expect("the disk works");
    home.forget(&store).expect("the disk works");
    let left = std::fs::read_dir(store.folder()).expect("the disk works");
    let left: Vec<_> = left.map(|entry| entry.expect("the disk works").file_name()).collect();
    assert_eq!(left, ["lock"]);
}
