//! Every command end to end, on hosts in memory that hold one organisation.

mod apply;
mod drafts;
mod edits;
mod people;
mod reading;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use clap::Parser;
use hark_charter::{
    Charter, Piece, Recovery,
    content::{Channel, ChannelName, SealedName},
};
use hark_keys::{
    ChannelId, DeviceKey, List, MemberId, ObjectHash, Random, RecoverySecret, SeededRandom,
    UnixTime,
};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    request: Request,
}

/// What all in the organisation have: they are always in touch.
struct Shared {
    charter: Charter,
    /// What everybody's calendar says.
    now: UnixTime,
    /// Names of hidden channels by their key, which whoever may join gets.
    sealed: BTreeMap<[u8; 8], String>,
    names: BTreeMap<MemberId, String>,
    tickets: Vec<KnownTicket>,
}

/// A person with a device.
struct Person {
    shared: Arc<Mutex<Shared>>,
    key: DeviceKey,
    member: MemberId,
    random: SeededRandom,
    /// A copy, as a host lends its charter.
    charter: Charter,
    signed: BTreeMap<u32, ObjectHash>,
    commits: usize,
}

impl Person {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// Carries out a command line, with a file where it reads one.
    fn try_with(&mut self, line: &str, file: &[u8]) -> Result<Answer, CommandError> {
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
        let answer = execute(self, request)?;
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
        Ok(answer)
    }

    fn with(&mut self, line: &str, file: &[u8]) -> Answer {
        self.try_with(line, file).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Equal where nothing was changed.
    fn fingerprint(&self) -> (ObjectHash, usize, usize) {
        let shared = self.shared();
        (shared.charter.digest(), shared.sealed.len(), self.commits)
    }

    /// What a command prints.
    fn does(&mut self, line: &str) -> String {
        self.with(line, &[]).text
    }

    fn json(&mut self, line: &str) -> Value {
        self.with(line, &[]).json
    }

    /// Why a command is refused; it has changed nothing then.
    fn cannot(&mut self, line: &str) -> String {
        self.cannot_with(line, &[])
    }

    fn cannot_with(&mut self, line: &str, file: &[u8]) -> String {
        let before = self.fingerprint();
        let error = match self.try_with(line, file) {
            Err(error) => error.to_string(),
            Ok(answer) => panic!("{line}: {}", answer.text),
        };
        let after = self.fingerprint();
        assert_eq!(after, before, "{line}: {error}");
        assert!(!error.contains('\n'), "{error}");
        error
    }

    /// What a dry run says; it changes nothing.
    fn would(&mut self, line: &str) -> String {
        let before = self.fingerprint();
        let text = self.does(&format!("{line} --dry-run"));
        let after = self.fingerprint();
        assert_eq!(after, before, "{line}: {text}");
        text
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

    fn tickets(&self) -> anyhow::Result<Vec<KnownTicket>> {
        Ok(self.shared().tickets.clone())
    }

    fn seal_name(&mut self, _: ChannelId, name: &str) -> anyhow::Result<SealedName> {
        let mut key_id = [0; 8];
        self.random.fill(&mut key_id);
        self.shared().sealed.insert(key_id, name.to_owned());
        Ok(SealedName { key_id, sealed: List::truncated([1; 32]) })
    }

    fn commit(&mut self, pieces: Vec<Piece>) -> anyhow::Result<()> {
        self.commits += 1;
        for result in self.shared().charter.take_all(pieces) {
            anyhow::ensure!(result?, "everything that is committed is new");
        }
        let charter = self.shared().charter.clone();
        self.charter = charter;
        Ok(())
    }

    fn root_signed(&self, version: u32) -> anyhow::Result<Option<ObjectHash>> {
        Ok(self.signed.get(&version).copied())
    }

    fn keep_root_signed(&mut self, version: u32, document: ObjectHash) -> anyhow::Result<()> {
        self.signed.insert(version, document);
        Ok(())
    }
}

/// An organisation, and how people come into it.
struct World {
    shared: Arc<Mutex<Shared>>,
    founder: DeviceKey,
    seed: u64,
}

impl World {
    /// The organisation of the example, with its founder Ann.
    fn new() -> (Self, Person) {
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
    fn join(&mut self, name: &str) -> Person {
        self.admit(name, false)
    }

    /// The same with a printed recovery key.
    fn join_with_words(&mut self, name: &str) -> Person {
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
    fn three() -> (Self, [Person; 3]) {
        let (mut world, mut ann) = Self::new();
        let [bob, cat] = [world.join("Bob"), world.join("Cat")];
        ann.does(OFFICER);
        ann.does("grant officer Bob");
        (world, [ann, bob, cat])
    }

    fn person(&mut self, name: &str, key: DeviceKey) -> Person {
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
const NOW: UnixTime = UnixTime::from_secs(1_795_383_605);

const OFFICER: &str = "role add officer --rank 30 --can join,listen,speak,priority,whisper,mute,\
                       manage-channels,manage-roles,admit,edit-presets,ban";

/// The folder of the example.
fn example(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/organisation/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}
