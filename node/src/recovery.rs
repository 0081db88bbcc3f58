//! Restores a member's identity by the printed key, after all its devices were lost.

use hark_charter::{
    Charter, EditError, Piece, PieceError, RootKeys, content::Change, device_consent,
};
use hark_keys::{Cosigned, DeviceId, DeviceKey, List, MemberId};

use crate::store::{Home, OrganisationStore, SquadStore as _, StoreError};

/// The reason why nothing was recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The home folder cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process has removed the organisation's folder in the meantime.
    #[error("the organisation has gone from this home")]
    Gone,
    /// The printed key belongs to no member.
    #[error("nobody in {0} has this recovery key: check the words")]
    Nobodys(String),
    /// The member has as many devices as permitted, or has retired this one.
    #[error(
        "this device cannot be added: the member has too many devices, or has retired this one"
    )]
    NotAdded,
    /// The charter does not accept an operation.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The charter does not accept a piece.
    #[error(transparent)]
    Piece(#[from] PieceError),
}

/// The result of [`recover`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The member that this device belongs to now.
    pub member: MemberId,
    /// Devices that were retired.
    pub retired: Vec<DeviceId>,
    /// Those of the retired devices that are no longer root keys, since this device has taken their
    /// place.
    pub replaced: Vec<DeviceId>,
    /// Those of the retired devices that are still root keys. Only a root document that others sign
    /// as well can end that.
    pub roots: Vec<DeviceId>,
}

/// Adds this device, which has joined as a newcomer, to the member whose printed `key` is given,
/// and retires that member's other devices. The newcomer's own member has no device any more. If
/// `key` alone counts as the organisation's signature, this device also becomes a root key in place
/// of the retired ones.
///
/// Everything is on disk when this returns, and is sent to others when the node runs. It can be
/// repeated.
pub fn recover(
    home: &Home,
    store: &OrganisationStore,
    key: &DeviceKey,
) -> Result<Recovered, RecoverError> {
    let _lock = store.lock()?;
    // What was read before the lock was taken may have been changed by the node that has just
    // ended.
    let store = home.find(store.id())?.ok_or(RecoverError::Gone)?;
    let mut charter = Charter::clone(store.charter());
    let own = home.key(&store)?;
    let (device, newcomer) = (own.id(), store.member());
    let member = charter.member_recovered_by(key.id());
    let member = member.ok_or_else(|| RecoverError::Nobodys(charter.name().to_owned()))?;
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
        if charter.devices_of(member) != [device] {
            return Err(RecoverError::NotAdded);
        }
    }
    if newcomer != member && charter.devices_of(newcomer).contains(&device) {
        let cut = charter.cut(newcomer);
        let last = cut.last_of(device) + 1;
        let end = Change::RetireDevice { device, term: cut.term, last };
        let operation = charter.edit(&own, newcomer, vec![end])?;
        charter.take(Piece::Operation(operation))?;
    }
    let lost = |charter: &Charter| -> Vec<_> {
        retired.iter().copied().filter(|it| charter.is_root(*it)).collect()
    };
    let replaced = lost(&charter);
    if charter.is_root(key.id()) && charter.root().threshold == 1 && !replaced.is_empty() {
        let own = std::iter::once(device);
        let kept = charter.root().keys.iter().filter(|it| *it != device && !replaced.contains(it));
        let keys = RootKeys::try_from(List::truncated(own.chain(kept)))?;
        let name = charter.name().to_owned();
        let document = charter.next_root(&name, keys, 1);
        charter.take(Piece::Root(Cosigned::unsigned(document).signed(key)))?;
    }
    // The charter is written first, so that a repetition finds what was done.
    store.keep_charter(&charter)?;
    store.keep_member(member)?;
    let roots = lost(&charter);
    let replaced = replaced.into_iter().filter(|it| !roots.contains(it)).collect();
    Ok(Recovered { member, retired, replaced, roots })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hark_charter::{Recovery, content::Policy};
    use hark_keys::SeededRandom;

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

    /// An organisation with a founder, and a member with a printed key that has lost its device.
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
        /// The home of a newcomer that knows the charter.
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

        // A repetition finds nothing to do. A device that takes these pieces arrives at the same
        // state.
        let again = recover(&home, &store, &world.printed).expect("recovered");
        let nothing = Vec::new;
        let (retired, replaced, roots) = (nothing(), nothing(), nothing());
        assert_eq!(again, Recovered { member, retired, replaced, roots });
        for result in world.charter.take_all(store.charter().pieces_in_order()) {
            result.expect("taken");
        }
        assert_eq!(world.charter.state(), store.charter().state());
        // The device can act for the member at once.
        let key = home.key(&store).expect("its identity");
        let other = DeviceKey::from_secret(&[9; 32]);
        let consent = device_consent(store.id(), member, &other);
        let add = Change::AddDevice { device: other.id(), consent };
        let operation = world.charter.edit(&key, member, vec![add]).expect("it may");
        world.charter.take(Piece::Operation(operation)).expect("taken");
        assert_eq!(world.charter.owner(other.id()), Some(member));
    }

    /// [CHARTER-2.7] Regression: the founder's printed key is a root key, and so was the lost
    /// device, which stayed one. A thief of that device could still do everything.
    #[test]
    fn a_founder_who_comes_back_ends_the_root_key_that_it_has_lost() {
        let mut world = world();
        let random = SeededRandom::new(7);
        world.charter =
            Charter::found("Squad", "voice", &world.founder, Some(world.printed.id()), &random);
        let (home, store) = world.newcomer();
        let recovered = recover(&home, &store, &world.printed).expect("recovered");
        assert_eq!(recovered.member, world.charter.member_of(world.founder.id()));
        assert_eq!(recovered.retired, [world.founder.id()]);
        assert_eq!((recovered.replaced, recovered.roots), (vec![world.founder.id()], vec![]));
        let store = home.find(store.id()).expect("readable").expect("there");
        let key = home.key(&store).expect("its identity");
        let mut charter = Charter::clone(store.charter());
        assert!(charter.is_root(key.id()) && !charter.is_root(world.founder.id()));
        // The holder of the lost device can no longer change anything.
        let stolen = || vec![Change::Policy(Policy::OperationsPerDay(1))];
        let thief = world.charter.edit(&world.founder, recovered.member, stolen()).expect("before");
        charter.take_all([Piece::Operation(thief)]);
        assert_eq!(charter.state().policies().operations_per_day, 200);
        // Its owner can, with the new device.
        let operation = charter.edit(&key, recovered.member, stolen()).expect("it may");
        assert_eq!(charter.take(Piece::Operation(operation)), Ok(true));
        assert_eq!(charter.state().policies().operations_per_day, 1);
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
