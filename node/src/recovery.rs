//! Being oneself again after all devices are lost, by the printed key.

use anyhow::Context;
use hark_keys::{Cosigned, DeviceId, DeviceKey, MemberId};
use hark_mesh::charter::{Charter, Piece, content::Change, device_consent};

use crate::store::{Home, OrganisationStore};

/// What [`recover`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Who this device belongs to now.
    pub member: MemberId,
    /// Devices that were retired.
    pub retired: Vec<DeviceId>,
    /// Those of them that are root keys still: only another root document ends that.
    pub roots: Vec<DeviceId>,
}

/// Makes this device, which has come as a newcomer, one of the member's whose printed `key` it is, and
/// retires that member's other devices. The newcomer that it was has no device any more.
///
/// It is all on disk when this returns, travels when the node runs, and can be done again.
pub fn recover(
    home: &Home,
    store: &OrganisationStore,
    key: &DeviceKey,
) -> anyhow::Result<Recovered> {
    let _lock = store.lock()?;
    // What stood there before the lock was taken may be of the node that has just ended.
    let store = home.find(store.id())?.context("the organisation has gone from this home")?;
    let mut charter = Charter::clone(store.charter());
    let own = home.key(&store)?;
    let (device, newcomer) = (own.id(), store.member());
    let member = charter.member_recovered_by(key.id()).with_context(|| {
        format!("nobody in {} has this recovery key: check the words", charter.name())
    })?;
    let cut = charter.cut(member);
    let retired: Vec<_> =
        charter.devices_of(member).into_iter().filter(|it| *it != device).collect();
    let consent = device_consent(charter.organisation(), member, &own);
    let is_new = !charter.devices_of(member).contains(&device);
    let retire = retired.iter().map(|it| Change::RetireDevice {
        device: *it,
        term: cut.term,
        last: cut.last_of(*it),
    });
    let changes: Vec<_> =
        is_new.then_some(Change::AddDevice { device, consent }).into_iter().chain(retire).collect();
    if !changes.is_empty() {
        let draft = charter.draft(key.id(), member, Vec::new(), changes)?;
        let signed = Cosigned::unsigned(draft).signed(key);
        charter.try_out(&signed)?;
        charter.take(Piece::Operation(signed))?;
        anyhow::ensure!(
            charter.devices_of(member) == [device],
            "this device cannot be added: the member has too many devices, or has retired this one"
        );
    }
    if newcomer != member && charter.devices_of(newcomer).contains(&device) {
        let cut = charter.cut(newcomer);
        let last = cut.last_of(device) + 1;
        let end = Change::RetireDevice { device, term: cut.term, last };
        let operation = charter.edit(&own, newcomer, vec![end])?;
        charter.take(Piece::Operation(operation))?;
    }
    // The charter first: done again, this finds what is done.
    store.keep_charter(&charter)?;
    store.keep_member(member)?;
    let roots = retired.iter().copied().filter(|it| charter.is_root(*it)).collect();
    Ok(Recovered { member, retired, roots })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hark_keys::SeededRandom;
    use hark_mesh::charter::Recovery;

    use super::*;
    use crate::store::AskPassphrase;

    fn home(path: &Path) -> Home {
        let ask: AskPassphrase = Box::new(|| None);
        Home::open(path, ask).expect("a home")
    }

    struct World {
        folder: tempfile::TempDir,
        founder: DeviceKey,
        charter: Charter,
        lost: DeviceKey,
        printed: DeviceKey,
    }

    /// A founder, and a member with a printed key who has lost its device.
    fn world() -> World {
        let random = SeededRandom::new(5);
        let [founder, lost, printed] = [(); 3].map(|()| DeviceKey::generate(&random));
        let mut charter = Charter::found("Squad", "voice", &founder, None, &random);
        let recovery = Recovery::of(charter.organisation(), printed.id(), &lost);
        let own = charter.member_of(founder.id());
        let certificate = charter.issue(&founder, own, lost.id(), Some(recovery)).expect("issued");
        charter.take(Piece::Certificate(certificate)).expect("taken");
        World { folder: tempfile::tempdir().expect("a folder"), founder, charter, lost, printed }
    }

    impl World {
        /// A newcomer's home, who knows the charter.
        fn newcomer(&mut self) -> (Home, OrganisationStore) {
            let home = home(self.folder.path());
            let key = home.next_key(&SeededRandom::new(6)).expect("a key");
            let own = self.charter.member_of(self.founder.id());
            let issued = self.charter.issue(&self.founder, own, key.id(), None).expect("issued");
            self.charter.take(Piece::Certificate(issued)).expect("taken");
            let member = self.charter.member_of(key.id());
            let store = home.keep(&self.charter, member).expect("kept");
            (home, store)
        }
    }

    /// [CHARTER-3.4]
    #[test]
    fn the_printed_key_makes_a_newcomer_the_member_that_it_was() {
        let mut world = world();
        let (home, store) = world.newcomer();
        let recovered = recover(&home, &store, &world.printed).expect("recovered");
        let member = world.charter.member_of(world.lost.id());
        assert_eq!((recovered.member, recovered.roots), (member, Vec::new()));
        assert_eq!(recovered.retired, [world.lost.id()]);
        let store = home.find(store.id()).expect("readable").expect("there");
        let device = home.key(&store).expect("its identity").id();
        assert_eq!(store.member(), member);
        assert_eq!(store.charter().devices_of(member), [device]);
        assert_eq!(store.charter().owner(device), Some(member));
        assert!(store.charter().devices_of(store.charter().member_of(device)).is_empty());
        assert_eq!(store.charter().owner(world.lost.id()), None);

        // Done again, there is nothing to do; and others come to the same.
        let again = recover(&home, &store, &world.printed).expect("recovered");
        assert_eq!(again, Recovered { member, retired: Vec::new(), roots: Vec::new() });
        for result in world.charter.take_all(store.charter().pieces_in_order()) {
            result.expect("taken");
        }
        assert_eq!(world.charter.state(), store.charter().state());
        // It can act for the member at once.
        let key = home.key(&store).expect("its identity");
        let other = DeviceKey::from_secret(&[9; 32]);
        let consent = device_consent(store.id(), member, &other);
        let add = Change::AddDevice { device: other.id(), consent };
        let operation = world.charter.edit(&key, member, vec![add]).expect("it may");
        world.charter.take(Piece::Operation(operation)).expect("taken");
        assert_eq!(world.charter.owner(other.id()), Some(member));
    }

    /// The founder's words are a root key, too; so was the device that is gone.
    #[test]
    fn a_founder_is_told_of_the_root_key_that_it_has_lost() {
        let mut world = world();
        let random = SeededRandom::new(7);
        world.charter =
            Charter::found("Squad", "voice", &world.founder, Some(world.printed.id()), &random);
        let (home, store) = world.newcomer();
        let recovered = recover(&home, &store, &world.printed).expect("recovered");
        assert_eq!(recovered.member, world.charter.member_of(world.founder.id()));
        assert_eq!(recovered.retired, [world.founder.id()]);
        assert_eq!(recovered.roots, [world.founder.id()]);
    }

    #[test]
    fn words_of_nobody_change_nothing() {
        let mut world = world();
        let (home, store) = world.newcomer();
        let other = DeviceKey::from_secret(&[8; 32]);
        let error = recover(&home, &store, &other).expect_err("nobody's");
        assert_eq!(error.to_string(), "nobody in Squad has this recovery key: check the words");
        let kept = home.find(store.id()).expect("readable").expect("there");
        assert_eq!((kept.member(), kept.charter()), (store.member(), store.charter()));
    }
}
