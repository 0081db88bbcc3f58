//! Searches this process's memory for the secrets of a link.

use std::{fs::File, hint::black_box, io::Read, mem, os::unix::fs::FileExt};

use quinn_proto::{
    Side,
    crypto::{KeyPair, PacketKey, Session as _},
};
use ring::hmac;
use zeroize::{Zeroize, Zeroizing};

use super::{
    super::{expand_label, handshake::Handshake, session::Session},
    key, parameters, random, written,
};
use crate::{
    fast::{self, EXPORT_LABEL, EXPORT_LENGTH, Kind, OVERHEAD},
    wipe::scrub_stack,
};

/// Bytes to search for. What is stored of them here is itself not found.
struct Wanted {
    name: &'static str,
    masked: Vec<u8>,
}

impl Wanted {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        Self { name, masked: secret.iter().map(|byte| black_box(*byte) ^ MASK).collect() }
    }

    /// The bytes derived from a secret.
    fn of(name: &'static str, secret: &[u8; 32], label: &[u8], length: usize) -> Self {
        let mut key = Zeroizing::new(vec![0; length]);
        expand_label(secret, label, &[], &mut key);
        Self::new(name, &key)
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.masked.len()
            && bytes.iter().zip(&self.masked).all(|(byte, masked)| *byte == masked ^ MASK)
    }
}

/// All memory that this process can write to. The buffers of the search are allocated once, so that
/// they do not come to lie where a secret has been.
struct Memory {
    file: File,
    maps: String,
    window: Vec<u8>,
    found: Vec<&'static str>,
}

impl Memory {
    fn new() -> Self {
        let file = File::open("/proc/self/mem").unwrap();
        let maps = String::with_capacity(WINDOW);
        Self { file, maps, window: vec![0; WINDOW], found: Vec::with_capacity(FOUND_MAX) }
    }

    /// The names of those of `wanted` that are found anywhere.
    fn find(&mut self, wanted: &[Wanted]) -> &[&'static str] {
        let mut found = mem::take(&mut self.found);
        found.clear();
        let mut starts = [false; 1 << 8];
        for it in wanted {
            starts[usize::from(it.masked[0] ^ MASK)] = true;
        }
        self.search(|bytes| {
            if starts[usize::from(bytes[0])] {
                found.extend(wanted.iter().filter(|it| it.begins(bytes)).map(|it| it.name));
            }
        });
        found.sort_unstable();
        found.dedup();
        self.found = found;
        &self.found
    }

    /// Whether there is anywhere a chaining key of which Noise's `Split()` gives `client` first.
    fn has_chaining_key(&mut self, client: &Wanted) -> bool {
        let mut stands = false;
        self.search(|bytes| {
            let Some(key) = bytes.first_chunk::<32>() else { return };
            // A key has fewer zeros; most of memory has more.
            if key.iter().filter(|byte| **byte == 0).count() > 4 {
                return;
            }
            let sign =
                |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
            let split = sign(sign(key, &[]).as_ref(), &[1]);
            stands |= client.begins(split.as_ref());
        });
        stands
    }

    /// Calls `look` with the bytes from each place on.
    fn search(&mut self, mut look: impl FnMut(&[u8])) {
        self.maps.clear();
        File::open("/proc/self/maps").unwrap().read_to_string(&mut self.maps).unwrap();
        let window = &mut self.window[..];
        let own = window.as_ptr().addr()..window.as_ptr().addr() + WINDOW;
        for line in self.maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|it| usize::from_str_radix(it, 16).unwrap());
            // Bytes that cross the end of a window are whole in the next one.
            for from in (start..end).step_by(WINDOW - OVERLAP) {
                let length = WINDOW.min(end - from);
                let read = self.file.read_at(&mut window[..length], from as u64);
                let Ok(length) = read else { continue };
                let places = (0..length).filter(|place| !own.contains(&(from + place)));
                places.for_each(|place| look(&window[place..length]));
            }
        }
        window.zeroize();
    }
}

/// The keys that a connection keeps, as quinn does: those of the phase before for a while, those of
/// this one, and the next.
struct Phases {
    session: Session,
    before: Option<KeyPair<Box<dyn PacketKey>>>,
    current: KeyPair<Box<dyn PacketKey>>,
    next: KeyPair<Box<dyn PacketKey>>,
}

impl Phases {
    fn update(&mut self) {
        let next = self.session.next_1rtt_keys().unwrap();
        let current = mem::replace(&mut self.next, next);
        self.before = Some(mem::replace(&mut self.current, current));
    }
}

/// Both ends of a link.
fn linked() -> [Phases; 2] {
    let client = Session::client(key(1).into(), &random(8_001), None, &parameters(Side::Server));
    let server = Session::server(key(2).into(), &random(8_002), &parameters(Side::Client));
    let mut sides = [(client, None), (server, None)];
    for turn in 0..6 {
        loop {
            let (session, keys) = &mut sides[turn % 2];
            let (message, new) = written(session);
            if message.is_empty() && new.is_none() {
                break;
            }
            *keys = new.or(keys.take());
            if !message.is_empty() {
                let (session, keys) = &mut sides[1 - turn % 2];
                session.read_handshake(&message).unwrap();
                // The client takes the keys of Handshake packets before the tail comes.
                if turn == 1 && keys.is_none() {
                    *keys = written(session).1;
                }
            }
        }
    }
    sides.map(|(mut session, keys)| {
        let next = session.next_1rtt_keys().unwrap();
        Phases { session, before: None, current: keys.unwrap().packet, next }
    })
}

const NOTHING: [&str; 0] = [];

/// The result of `made`, in a place where it stays: a move leaves a copy behind.
fn boxed<T>(made: impl FnOnce() -> T) -> Box<T> {
    #[inline(never)]
    fn place<T>(made: impl FnOnce() -> T) -> Box<T> {
        Box::new(made())
    }
    let boxed = place(made);
    scrub_stack();
    boxed
}

/// [NOISE-24] [NOISE-25] Secrets and keys of QUIC's packets are in memory while they are needed,
/// and nowhere in memory after that.
#[test]
fn replaced_keys_of_packets_are_nowhere_in_memory() {
    let mut memory = Memory::new();
    let mut ends = linked();
    let traffic = ends[0].session.traffic.as_ref().unwrap();
    let exporter =
        traffic.exporter.lock().unwrap().as_ref().map(|it| Wanted::new("exporter", &***it));
    let exporter = [exporter.unwrap()];
    let wanted = [
        Wanted::new("local secret", &**traffic.local),
        Wanted::new("remote secret", &**traffic.remote),
        Wanted::of("local key", &traffic.local, b"hark1 key", 32),
        Wanted::of("remote key", &traffic.remote, b"hark1 key", 32),
        Wanted::of("local iv", &traffic.local, b"hark1 iv", 12),
    ];
    scrub_stack();
    let all = ["local iv", "local key", "local secret", "remote key", "remote secret"];
    assert_eq!(memory.find(&wanted), all);
    ends.iter_mut().for_each(Phases::update);
    assert_eq!(memory.find(&wanted), ["local iv", "local key", "remote key"]);
    ends.iter_mut().for_each(Phases::update);
    assert_eq!(memory.find(&wanted), ["local iv", "local key", "remote key"]);
    ends.iter_mut().for_each(|end| end.before = None);
    assert_eq!(memory.find(&wanted), NOTHING);

    assert_eq!(memory.find(&exporter), ["exporter"]);
    let mut exported = Zeroizing::new([0; EXPORT_LENGTH]);
    for end in &ends {
        let session = &end.session;
        session.export_keying_material(exported.as_mut(), EXPORT_LABEL, b"").unwrap();
        assert!(session.export_keying_material(&mut [0; 32], b"hark hello", b"").is_err());
    }
    assert_eq!(memory.find(&exporter), NOTHING);
}

/// [PROTO-8.4] The same for the fast path's.
#[test]
fn replaced_keys_of_the_fast_path_are_nowhere_in_memory() {
    let mut memory = Memory::new();
    let mut exported = Box::new(Zeroizing::new([0; EXPORT_LENGTH]));
    random(8_003).fill(&mut **exported);
    let secret = exported.first_chunk().unwrap();
    let wanted = [
        Wanted::new("secret", secret),
        Wanted::of("key", secret, b"hark1 fast key", 16),
        Wanted::of("iv", secret, b"hark1 fast iv", 12),
    ];
    let mut sealer = boxed(|| fast::keys(&exported, true).0);
    let mut opener = boxed(|| fast::keys(&exported, false).1);
    drop(exported);
    assert_eq!(memory.find(&wanted), ["iv", "key", "secret"]);
    let mut pass = |renew: bool, seconds| {
        if renew {
            sealer.renew();
        }
        let mut packet = [0; OVERHEAD];
        sealer.seal(Kind::Datagram, &[], &mut packet);
        opener.open(&mut packet).unwrap();
        (0..seconds).for_each(|_| opener.pass_second());
    };
    pass(false, 1);
    pass(true, 2);
    assert_eq!(memory.find(&wanted), ["iv", "key"], "what comes late still opens");
    pass(false, 1);
    assert_eq!(memory.find(&wanted), NOTHING);
}

/// What snow keeps of a handshake, and all keys derive from, disappears with it: private keys, and
/// the chaining key. snow does not give access to the chaining key, so the test searches for it by
/// what is derived from it. [NOISE-9]
#[test]
fn secrets_of_a_handshake_are_nowhere_in_memory() {
    let mut memory = Memory::new();
    let [mut client, mut server] = [(true, 8_004), (false, 8_005)]
        .map(|(initiator, seed)| Box::new(Handshake::new(initiator, &random(seed))));
    let first = client.write_first(b"parameters").unwrap();
    server.read_first(&first).unwrap();
    let second = server.write_second(&key(2), b"parameters").unwrap();
    client.read_second(&second).unwrap();
    let third = client.write_third(&key(1)).unwrap();
    server.read_third(&third).unwrap();
    let agreement = boxed(|| server.agreement());
    let mut wanted =
        vec![Wanted::new("client", &*agreement.client), Wanted::new("server", &*agreement.server)];
    let again = random(8_004);
    for name in ["static", "ephemeral"] {
        let mut key = Box::new(Zeroizing::new([0; 32]));
        again.fill(&mut **key);
        wanted.push(Wanted::new(name, &**key));
    }
    scrub_stack();
    assert_eq!(memory.find(&wanted), ["client", "ephemeral", "server", "static"]);
    drop(agreement);
    scrub_stack();
    assert!(memory.has_chaining_key(&wanted[0]));
    drop((client, server));
    scrub_stack();
    assert_eq!(memory.find(&wanted), NOTHING);
    assert!(!memory.has_chaining_key(&wanted[0]));
}

const MASK: u8 = 0x5a;

/// More places than a secret is ever found at.
const FOUND_MAX: usize = 1 << 10;

/// Bytes of memory that are searched in one piece, and bytes that two pieces share.
const WINDOW: usize = 1 << 20;
const OVERLAP: usize = 64;
