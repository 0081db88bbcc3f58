//! One device of a [`World`](super::World), and what its voice side knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_charter::Charter;
use hark_keys::{ChannelId, DeviceId, DeviceKey, EpochKey, EpochSecret, KeySecret, TargetId};

use crate::{
    squad::{Squad, SquadEvent},
    target::Hearing,
    topology::Plan,
};

/// A talker, and the target that it talks to.
pub type Talker = (DeviceId, TargetId);

/// A device, through all its runs.
pub struct Node {
    /// The key of the device.
    pub key: Arc<DeviceKey>,
    /// Its squad. While it is down, the squad of its last run.
    pub squad: Squad,
    /// Whether it is running.
    pub is_up: bool,
    pub(super) incarnation: u64,
    pub(super) disk_charter: Arc<Charter>,
    pub(super) disk_generations: BTreeMap<TargetId, u16>,
    pub(super) disk_directory: Vec<u8>,
    /// What its voice side knows in this run.
    pub voice: Voice,
    /// Each key that it was ever told to seal with.
    sealed_with: BTreeSet<(TargetId, u16, u8)>,
    sealed_in_epochs: BTreeSet<([u8; 32], u8)>,
    /// All keys that it was ever given.
    pub ever: BTreeMap<Talker, BTreeSet<(u16, u8)>>,
    /// All epochs that it could ever open.
    pub ever_opened: BTreeSet<[u8; 32]>,
    /// Keys of others that were in use when it came.
    pub(super) forbidden: BTreeMap<Talker, BTreeSet<(u16, u8)>>,
}

/// What the voice side and a person are told in one run.
#[derive(Default)]
pub struct Voice {
    /// The key that each target is sealed with.
    pub own: BTreeMap<TargetId, KeySecret>,
    /// The epoch that is used for sealing, and the generation of our key in it.
    pub seals: Option<(EpochSecret, u8)>,
    /// The number of the last epoch.
    pub number: u64,
    /// The holders of the key of each target.
    pub rosters: BTreeMap<TargetId, Vec<DeviceId>>,
    /// Those of them that may not be able to hear.
    pub unconfirmed: Vec<DeviceId>,
    /// How speech to each target travels.
    pub plans: BTreeMap<TargetId, Plan>,
    /// The keys of talkers.
    pub opens: BTreeMap<Talker, KeySecret>,
    /// The means by which each talker is heard.
    pub hears: BTreeMap<Talker, Hearing>,
    /// The epochs that open speech.
    pub epochs: Vec<EpochSecret>,
    /// The devices that may speak in them.
    pub talkers: Vec<DeviceId>,
    /// Keys in epochs that talkers have given.
    pub given: BTreeMap<DeviceId, EpochKey>,
    /// Silent peers.
    pub unreachable: BTreeSet<DeviceId>,
    /// Devices whose links are closed because they no longer belong.
    pub evicted: Vec<DeviceId>,
    /// Whether this device no longer belongs.
    pub removed: bool,
    /// The moves of its member: by which device, from where, and to where.
    pub moved: Vec<(DeviceId, Option<ChannelId>, ChannelId)>,
}

impl Voice {
    /// The key that the only target is sealed with.
    pub fn own_key(&self) -> Option<&KeySecret> {
        self.own.values().next()
    }

    /// The holders of the key of the only target.
    pub fn roster(&self) -> &[DeviceId] {
        self.rosters.values().next().map_or(&[], |devices| devices)
    }

    /// How speech to the only target travels.
    pub fn plan(&self) -> Plan {
        self.plans.values().next().cloned().unwrap_or_default()
    }

    /// The listeners of a target.
    pub fn listeners(&self, target: TargetId) -> Vec<DeviceId> {
        self.plans.get(&target).map(Plan::listeners).unwrap_or_default()
    }
}

impl Node {
    pub(super) fn new(key: Arc<DeviceKey>, disk_charter: Arc<Charter>, squad: Squad) -> Self {
        Self {
            key,
            squad,
            is_up: false,
            incarnation: 0,
            disk_charter,
            disk_generations: BTreeMap::new(),
            disk_directory: Vec::new(),
            voice: Voice::default(),
            sealed_with: BTreeSet::new(),
            sealed_in_epochs: BTreeSet::new(),
            ever: BTreeMap::new(),
            ever_opened: BTreeSet::new(),
            forbidden: BTreeMap::new(),
        }
    }

    /// Records an event, which must be valid.
    pub(super) fn observe(&mut self, event: SquadEvent) {
        let voice = &mut self.voice;
        match event {
            SquadEvent::OwnKey { target, secret } => {
                let number = (target, secret.generation, secret.step);
                let on_disk = self.disk_generations.get(&target).copied().unwrap_or(0);
                assert!(secret.generation <= on_disk, "verify, persist, then act");
                let mut before = self.sealed_with.range((target, 0, 0)..);
                assert!(!before.any(|it| it.0 == target && *it >= number), "no key twice");
                self.sealed_with.insert(number);
                voice.own.insert(target, secret);
                voice.seals = None;
            }
            SquadEvent::RosterChanged { target, generation, step, devices } => {
                let own = &voice.own[&target.id()];
                assert_eq!((own.generation, own.step), (generation, step));
                voice.rosters.insert(target.id(), devices);
            }
            SquadEvent::OwnEpoch { target, secret, generation } => {
                let key = (*secret.id(), generation);
                assert!(self.sealed_in_epochs.insert(key), "no key twice");
                voice.seals = Some((secret, generation));
                voice.own.remove(&target);
            }
            SquadEvent::NoKey(_) => voice.seals = None,
            SquadEvent::EpochRoster { target, devices, number, unconfirmed } => {
                voice.rosters.insert(target.id(), devices);
                (voice.number, voice.unconfirmed) = (number, unconfirmed);
            }
            SquadEvent::Listeners { target, plan } => {
                voice.plans.insert(target, plan);
            }
            SquadEvent::TargetGone(target) => {
                voice.plans.remove(&target);
                voice.own.remove(&target);
            }
            SquadEvent::TalkerKey { device, target, hearing, secret } => {
                let (talker, number) = ((device, target), (secret.generation, secret.step));
                let forbidden = self.forbidden.get(&talker);
                assert!(!forbidden.is_some_and(|list| list.contains(&number)), "key of the past");
                self.ever.entry(talker).or_default().insert(number);
                voice.opens.insert(talker, secret);
                voice.hears.insert(talker, hearing);
            }
            SquadEvent::TalkerHeard { device, target, hearing } => {
                voice.hears.insert((device, target), hearing).expect("its key is there");
            }
            SquadEvent::TalkerEpochKey { device, target, hearing, key } => {
                voice.given.insert(device, key);
                voice.hears.insert((device, target), hearing);
            }
            SquadEvent::TalkerKeyGone { device, target } => {
                voice.opens.remove(&(device, target)).expect("what goes was there");
                voice.hears.remove(&(device, target));
            }
            SquadEvent::TalkerGone { device } => {
                assert!(voice.hears.keys().any(|(talker, _)| *talker == device), "only talkers go");
                voice.opens.retain(|(talker, _), _| *talker != device);
                voice.hears.retain(|(talker, _), _| *talker != device);
                voice.given.remove(&device);
            }
            SquadEvent::TalkerRoster { devices, .. } => assert!(devices.contains(&self.key.id())),
            SquadEvent::Epochs { secrets, talkers, .. } => {
                self.ever_opened.extend(secrets.iter().map(|secret| *secret.id()));
                (voice.epochs, voice.talkers) = (secrets, talkers);
            }
            SquadEvent::PeerUnreachable { device } => {
                voice.unreachable.insert(device);
            }
            SquadEvent::PeerReachable { device } | SquadEvent::PeerDown { device, .. } => {
                voice.unreachable.remove(&device);
            }
            SquadEvent::Evicted { device } => voice.evicted.push(device),
            SquadEvent::Removed => voice.removed = true,
            SquadEvent::Moved { by, from, to } => voice.moved.push((by, from, to)),
            _ => {}
        }
    }
}
