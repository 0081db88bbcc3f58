//! An organisation whose members give commands, on hosts in memory that hold one charter.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use clap::Parser;
use hark_charter::{
    Charter, Piece, Recovery,
    content::{Channel, ChannelName, SealedName},
};
use hark_commands::{CommandError, Host, HostError, KnownTicket, Outcome, Request, execute};
use hark_keys::{
    ChannelId, DeviceKey, List, MemberId, ObjectHash, Random, RecoverySecret, SeededRandom,
    UnixTime,
};

/// A command line as a person types it.
#[derive(Parser)]
pub(crate) struct Line {
    #[command(subcommand)]
    request: Request,
}

/// What all in the organisation have: they are always in touch.
pub(crate) struct Shared {
    pub(crate) charter: Charter,
    /// What everybody's calendar says.
    pub(crate) now: UnixTime,
    /// Names of hidden channels by their key, which whoever may join gets.
    pub(crate) sealed: BTreeMap<[u8; 8], String>,
    pub(crate) names: BTreeMap<MemberId, String>,
    pub(crate) tickets: Vec<KnownTicket>,
}

/// A person with a device.
pub(crate) struct Person {
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) key: DeviceKey,
    pub(crate) member: MemberId,
    pub(crate) random: SeededRandom,
    /// A copy, as a host lends its charter.
    pub(crate) charter: Charter,
    pub(crate) signed: BTreeMap<u32, ObjectHash>,
    pub(crate) commits: usize,
}

impl Person {
    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// Carries out a command line, with a file for it to read.
    pub(crate) fn try_with(&mut self, line: &str, file: &[u8]) -> Result<Outcome, CommandError> {
        let words = line.split(' ').map(|word| word.replace('_', " "));
        let parsed = Line::try_parse_from(std::iter::once("charter".to_owned()).chain(words));
        let mut request = parsed.unwrap_or_else(|error| panic!("{line}: {error}")).request;
        if let Some(input) = request.input() {
            input.content = file.to_vec();
        }
        // As it travels to a node.
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request, "{text}");
        let mut charter = self.shared().charter.clone();
        charter.set_calendar(self.shared().now);
        self.charter = charter;
        let outcome = execute(self, request)?;
        // And back.
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        Ok(outcome)
    }

    /// What a command that is carried out comes to.
    pub(crate) fn with(&mut self, line: &str, file: &[u8]) -> Outcome {
        self.try_with(line, file).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Equal where nothing was changed.
    pub(crate) fn fingerprint(&self) -> (ObjectHash, usize, usize) {
        let shared = self.shared();
        (shared.charter.digest(), shared.sealed.len(), self.commits)
    }

    /// Why a command is refused; it has changed nothing then.
    pub(crate) fn cannot_with(&mut self, line: &str, file: &[u8]) -> CommandError {
        let before = self.fingerprint();
        let error = match self.try_with(line, file) {
            Err(error) => error,
            Ok(outcome) => panic!("{line}: {outcome:?}"),
        };
        let after = self.fingerprint();
        assert_eq!(after, before, "{line}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        error
    }
}

impl Host for Person {
    fn charter(&self) -> &Charter {
        &self.charter
    }

    fn member(&self) -> MemberId {
        self.member
    }

    fn key(&self) -> &DeviceKey {
        &self.key
    }

    fn now(&self) -> UnixTime {
        self.shared().now
    }

    fn random(&self) -> &dyn Random {
        &self.random
    }

    fn name_of(&self, member: MemberId) -> Option<String> {
        self.shared().names.get(&member).cloned()
    }

    fn channel_name(&self, channel: &Channel) -> Option<String> {
        match &channel.name {
            ChannelName::Listed(name) => Some(name.clone()),
            ChannelName::Hidden(name) => {
                use hark_charter::content::{Capabilities, Place};
                let at = Place::Channel(channel.id);
                let keyed = self.charter.allows(self.member, Capabilities::JOIN, at);
                keyed.then(|| self.shared().sealed.get(&name.key_id).cloned()).flatten()
            }
        }
    }

    fn tickets(&self) -> Result<Vec<KnownTicket>, HostError> {
        Ok(self.shared().tickets.clone())
    }

    fn seal_name(&mut self, _: ChannelId, name: &str) -> Result<SealedName, HostError> {
        let mut key_id = [0; 8];
        self.random.fill(&mut key_id);
        self.shared().sealed.insert(key_id, name.to_owned());
        Ok(SealedName { key_id, sealed: List::truncated([1; 32]) })
    }

    fn commit(&mut self, pieces: Vec<Piece>) -> Result<(), HostError> {
        self.commits += 1;
        for result in self.shared().charter.take_all(pieces) {
            assert!(result?, "everything that is committed is new");
        }
        let charter = self.shared().charter.clone();
        self.charter = charter;
        Ok(())
    }

    fn root_signed(&self, version: u32) -> Result<Option<ObjectHash>, HostError> {
        Ok(self.signed.get(&version).copied())
    }

    fn keep_root_signed(&mut self, version: u32, document: ObjectHash) -> Result<(), HostError> {
        self.signed.insert(version, document);
        Ok(())
    }
}

/// An organisation, and how people come into it.
pub(crate) struct World {
    shared: Arc<Mutex<Shared>>,
    founder: DeviceKey,
    seed: u64,
}

impl World {
    /// The organisation of the example, with its founder Ann.
    pub(crate) fn new() -> (Self, Person) {
        let random = SeededRandom::new(11);
        let key = DeviceKey::generate(&random);
        let recovery = RecoverySecret::generate(&random).key().id();
        let charter = Charter::found("Meridian Watch", "Bridge", &key, Some(recovery), &random);
        let (sealed, names) = (BTreeMap::new(), BTreeMap::new());
        let tickets = Vec::new();
        let shared = Shared { charter, now: NOW, sealed, names, tickets };
        let shared = Arc::new(Mutex::new(shared));
        let founder = DeviceKey::from_secret(&key.secret());
        let mut world = Self { shared, founder, seed: 100 };
        let ann = world.person("Ann", key);
        (world, ann)
    }

    /// Somebody whom the founder has admitted.
    pub(crate) fn join(&mut self, name: &str) -> Person {
        self.admit(name, false)
    }

    /// The same with a printed recovery key.
    pub(crate) fn join_with_words(&mut self, name: &str) -> Person {
        self.admit(name, true)
    }

    fn admit(&mut self, name: &str, with_words: bool) -> Person {
        let key = DeviceKey::generate(&SeededRandom::new(self.seed + 1));
        let mut shared = self.shared.lock().unwrap();
        let founder = shared.charter.member_of(self.founder.id());
        let words = DeviceKey::generate(&SeededRandom::new(self.seed + 500)).id();
        let recovery = Recovery::of(shared.charter.organisation(), words, &key);
        let recovery = with_words.then_some(recovery);
        let certificate = shared.charter.issue(&self.founder, founder, key.id(), recovery).unwrap();
        shared.charter.take(Piece::Certificate(certificate)).unwrap();
        drop(shared);
        self.person(name, key)
    }

    /// The founder Ann, the officer Bob, who has the role officer, and the plain member Cat.
    pub(crate) fn three() -> (Self, [Person; 3]) {
        let (mut world, mut ann) = Self::new();
        let [bob, cat] = [world.join("Bob"), world.join("Cat")];
        ann.with(OFFICER, &[]);
        ann.with("grant officer Bob", &[]);
        (world, [ann, bob, cat])
    }

    pub(crate) fn person(&mut self, name: &str, key: DeviceKey) -> Person {
        self.seed += 1;
        let mut shared = self.shared.lock().unwrap();
        let member =
            shared.charter.owner(key.id()).unwrap_or_else(|| shared.charter.member_of(key.id()));
        shared.names.insert(member, name.to_owned());
        Person {
            shared: Arc::clone(&self.shared),
            key,
            member,
            random: SeededRandom::new(self.seed * 1000),
            charter: shared.charter.clone(),
            signed: BTreeMap::new(),
            commits: 0,
        }
    }
}

/// What the calendar says at first.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_795_383_605);

const OFFICER: &str = "role add officer --rank 30 --can join,listen,speak,priority,whisper,mute,\
                       manage-channels,manage-roles,admit,edit-presets,ban";

/// The folder of the example.
pub(crate) fn example(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/organisation/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}
