//! Test vectors for other implementations: the files of this folder, which `ci/bless` writes, and
//! the implementation in `tests/second`, which knows only the documents.
//!
//! All vectors are made from seeds. Bytes are in hexadecimal; for messages the values are given as
//! well.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod bless;
mod datagrams;
mod hello;
mod link;
mod media;
mod requirements;
#[cfg(unix)]
mod second;

use std::sync::Mutex;

use data_encoding::HEXLOWER;
use hark_fuzz::TARGETS;
use hark_keys::{
    DeviceKey, Door, OrganisationId, Random, RoleId, SeededRandom, Series, Terms, Ticket, UnixTime,
    keystore,
};
use hark_mesh::message::Message;
use serde::Serialize;
use serde_json::{Value, json};

/// Compares the vectors with the file of this name, one vector per line.
#[track_caller]
fn hold_to(name: &str, vectors: &[Value]) {
    let lines: Vec<_> = vectors.iter().map(Value::to_string).collect();
    bless::hold_to(
        &format!("tests/vectors/{name}.json"),
        &format!("[\n{}\n]\n", lines.join(",\n")),
    );
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// The value of a message as JSON, with ids and keys in hexadecimal.
fn value(of: &impl Serialize) -> Value {
    tidy(serde_json::to_value(of).unwrap())
}

fn tidy(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let bytes = || items.iter().map(|it| u8::try_from(it.as_u64()?).ok());
            match bytes().collect::<Option<Vec<u8>>>() {
                Some(bytes) if bytes.len() >= 8 => hex(bytes).into(),
                _ => items.into_iter().map(tidy).collect(),
            }
        }
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, tidy(value))).collect()
        }
        other => other,
    }
}

/// Randomness from a seed, with a record of what was drawn.
struct Noted(SeededRandom, Mutex<Vec<Vec<u8>>>);

impl Noted {
    fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed), Mutex::default())
    }

    fn drawn(&self) -> Vec<Vec<u8>> {
        self.1.lock().unwrap().clone()
    }
}

impl Random for Noted {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
        self.1.lock().unwrap().push(bytes.to_vec());
    }
}

fn key(number: u8) -> DeviceKey {
    DeviceKey::from_secret(&[number; 32])
}

/// Tickets, as text and as bytes. [PROTO-4.3] [PROTO-4.4] [PROTO-4.20]
#[test]
fn tickets() {
    let (random, issuer) = (SeededRandom::new(4), key(1));
    let organisation = OrganisationId::from_bytes([9; 32]);
    let addresses = ["192.0.2.7:4000", "[2001:db8::7]:4000"].map(|it| it.parse().unwrap());
    let door = |number| Door { device: key(number).id(), addresses: addresses.to_vec() };
    let expires = UnixTime::from_secs(2_000_000_000);
    let terms = Terms::until(expires);
    let issue = |uses, role: Option<RoleId>| {
        let asks = role.is_some();
        let series = Series::from_bytes([u8::from(asks); 8]);
        let removals = 300 * u32::from(asks);
        let terms = Terms { uses, role, series, asks, removals, ..terms };
        Ticket::issue(&issuer, organisation, "Kestrel", terms, vec![door(1), door(2)], &random)
    };
    let device = {
        let member = hark_charter::member_of(organisation, issuer.id());
        let at = addresses.to_vec();
        Ticket::for_device(&issuer, organisation, "Kestrel", terms, member, at, &random)
    };
    let tickets = [
        ("any number of uses", issue(0, None).issued_by("Ann")),
        (
            "three uses and a role, by hand, in a later series",
            issue(3, Some(RoleId::from_bytes([5; 16]))),
        ),
        ("a further device", device),
    ];
    let mut vectors: Vec<_> = tickets
        .iter()
        .map(|(name, it)| json!({ "name": name, "text": it.to_string(), "value": value(it) }))
        .collect();
    let good = tickets[0].1.to_string();
    let bad = [
        ("capitals", good.to_uppercase()),
        ("cut", good[..good.len() - 1].to_owned()),
        ("a letter changed", good.replacen('a', "b", 1)),
        ("another version", good.replacen("hark1", "hark2", 1)),
    ];
    for (name, text) in bad {
        assert!(text.parse::<Ticket>().is_err(), "{name}");
        vectors.push(json!({ "name": name, "text": text }));
    }
    hold_to("tickets", &vectors);
}

/// Key files. [PROTO-13.1]
#[test]
fn key_files() {
    let random = SeededRandom::new(6);
    let device = DeviceKey::generate(&random);
    let described = |passphrase: Option<&str>| {
        let text = keystore::encode(&device, passphrase, &random);
        json!({
            "text": *text,
            "passphrase": passphrase,
            "secret": hex(*device.secret()),
            "device": hex(device.id().as_bytes()),
            "peer id": device.id().to_string(),
        })
    };
    hold_to("key_files", &[described(None), described(Some("kestrel at dawn"))]);
}

/// Every control message. [PROTO-12.1]
#[test]
fn messages() {
    let target = TARGETS.iter().find(|target| target.name == "message").unwrap();
    let mut vectors = Vec::new();
    for (name, seed) in (target.seeds)() {
        // Seeds that begin with zero are whole messages.
        let Some(name) = name.strip_prefix("bytes_") else { continue };
        let bytes = &seed[1..];
        let message = Message::decode(bytes).unwrap();
        vectors.push(json!({ "name": name, "bytes": hex(bytes), "value": value(&message) }));
    }
    hold_to("messages", &vectors);
}
