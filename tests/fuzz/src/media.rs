use std::time::Duration;

use hark_keys::{
    DeviceId, KeySecret, SeededRandom, SenderKey, SenderKeyring, TargetId, Timestamp,
    media::SEALED_OVERHEAD,
};

use crate::{
    input::{Input, piece},
    world::device,
};

/// A sender, a listener, and an attacker between them who repeats, changes and invents frames. A
/// frame opens once and unchanged, or not at all. [PROTO-6.7]
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut call = Call::new(bytes);
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = input.next() else { break };
        call.step(operation, &mut input);
    }
    call.frames.iter().any(|frame| frame.delivered)
}

struct Call {
    random: SeededRandom,
    secret: KeySecret,
    sender: SenderKey,
    listener: SenderKeyring,
    frames: Vec<Frame>,
    now: Timestamp,
    /// When the sender's step ends.
    step_ends: Option<Timestamp>,
}

struct Frame {
    sealed: Vec<u8>,
    plaintext: Vec<u8>,
    delivered: bool,
}

impl Call {
    /// Each input has keys of its own. Otherwise a fuzzer that observes comparisons could learn the
    /// tag of a frame in one run and use it in the next, without having forged anything.
    fn new(input: &[u8]) -> Self {
        let hash = blake3::hash(input);
        let seed = hash.as_bytes()[..8].try_into().expect("eight of 32 bytes");
        let random = SeededRandom::new(u64::from_le_bytes(seed));
        let secret = KeySecret::generate(7, &random);
        let mut listener = SenderKeyring::new(TARGET, talker());
        listener.install(Timestamp::ZERO, &secret);
        let sender = SenderKey::new(TARGET, talker(), &secret);
        let (frames, now) = (Vec::new(), Timestamp::ZERO);
        Self { random, secret, sender, listener, frames, now, step_ends: None }
    }

    fn step(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation % OPERATIONS {
            SEAL => self.seal(input.piece()),
            DELIVER => {
                let frame = self.pick(input);
                self.deliver(&frame);
            }
            CHANGE => {
                let mut frame = self.pick(input);
                let position = usize::from(input.byte());
                if let Some(byte) = frame.get_mut(position) {
                    *byte ^= input.byte();
                }
                self.deliver(&frame);
            }
            CUT => {
                let frame = self.pick(input);
                let length = usize::from(input.byte()).min(frame.len());
                self.deliver(&frame[..length]);
            }
            MAKE_UP => {
                self.deliver(input.piece());
            }
            STEP => self.go_a_step_on(),
            // Whatever the listener has missed, with the key it hears again.
            GIVE_KEY => {
                self.listener.install(self.now, &self.secret);
                self.seal(b"fresh");
                let frame = self.frames.last().expect("just sealed").sealed.clone();
                assert!(self.deliver(&frame), "a fresh frame of a given key opens");
            }
            _ => {
                self.now = self.now + Duration::from_millis(100) * u32::from(input.byte());
                self.listener.handle_timeout(self.now);
                if self.step_ends.is_some_and(|at| at <= self.now) {
                    self.go_a_step_on();
                }
            }
        }
    }

    /// The sender takes eight steps, then a new generation.
    fn go_a_step_on(&mut self) {
        self.secret = if self.secret.step < 7 {
            self.secret.ratcheted()
        } else {
            KeySecret::generate(self.secret.generation.wrapping_add(1), &self.random)
        };
        self.sender = SenderKey::new(TARGET, talker(), &self.secret);
        self.step_ends = None;
    }

    fn seal(&mut self, plaintext: &[u8]) {
        self.step_ends.get_or_insert(self.now + Duration::from_secs(60));
        let mut sealed = Vec::new();
        self.sender.seal(plaintext, &mut sealed).expect("far fewer frames than a step may have");
        assert_eq!(sealed.len(), plaintext.len() + SEALED_OVERHEAD);
        self.frames.push(Frame { sealed, plaintext: plaintext.to_vec(), delivered: false });
    }

    fn pick(&self, input: &mut Input<'_>) -> Vec<u8> {
        let number = usize::from(input.byte()) % self.frames.len().max(1);
        self.frames.get(number).map_or_else(Vec::new, |frame| frame.sealed.clone())
    }

    fn deliver(&mut self, sealed: &[u8]) -> bool {
        let mut out = Vec::new();
        if self.listener.open(self.now, sealed, &mut out).is_err() {
            return false;
        }
        let genuine = self.frames.iter_mut().find(|frame| frame.sealed == sealed);
        let frame = genuine.expect("only what the sender has sealed opens");
        assert!(!frame.delivered, "a frame opens once");
        assert_eq!(out, frame.plaintext);
        frame.delivered = true;
        true
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seal = [&[SEAL][..], &piece(b"hello")].concat();
    // The frame is sealed with another key. With the same key, it would be a genuine frame that
    // this sender has not sealed in this run.
    let mut foreign = Vec::new();
    let secret = KeySecret::generate(7, &SeededRandom::new(2));
    let mut sender = SenderKey::new(TARGET, talker(), &secret);
    sender.seal(b"hello", &mut foreign).expect("a new key");
    let foreign = [&[MAKE_UP][..], &piece(&foreign)].concat();
    let steps = [STEP; 7];
    vec![
        ("in_order", [&seal[..], &[DELIVER, 0], &seal, &[DELIVER, 1, GIVE_KEY]].concat()),
        ("replayed", [&seal[..], &[DELIVER, 0, DELIVER, 0, CHANGE, 0, 9, 1, CUT, 0, 8]].concat()),
        ("ahead", [&steps[..], &seal, &[DELIVER, 0, GIVE_KEY]].concat()),
        ("generation", [&steps[..], &[STEP, GIVE_KEY, PASS, 101], &seal, &[DELIVER, 1]].concat()),
        (
            "late",
            [&seal[..], &[STEP, GIVE_KEY, PASS, 99, DELIVER, 0, PASS, 2, DELIVER, 0]].concat(),
        ),
        ("foreign", [&foreign[..], &seal, &[DELIVER, 0]].concat()),
    ]
}

fn talker() -> DeviceId {
    device(1)
}

const TARGET: TargetId = TargetId::from_bytes([3; 16]);

const SEAL: u8 = 0;
const DELIVER: u8 = 1;
const CHANGE: u8 = 2;
const CUT: u8 = 3;
const MAKE_UP: u8 = 4;
const STEP: u8 = 5;
const GIVE_KEY: u8 = 6;
const PASS: u8 = 7;
const OPERATIONS: u8 = 8;

/// How many operations are run at most. More would make a run slow and find nothing more.
const OPERATIONS_MAX: usize = 64;
