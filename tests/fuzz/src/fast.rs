use hark_keys::fast::{self, EXPORT_LENGTH, Kind, OVERHEAD, Opener, PACKET_MAX, Sealer};

use crate::input::{Input, piece};

/// A sender, a receiver, and an attacker between them who repeats, changes and invents packets. A
/// packet opens once and unchanged, or not at all. [PROTO-8.5]
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut path = Path::new(bytes);
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = input.next() else { break };
        path.step(operation, &mut input);
    }
    path.packets.iter().any(|packet| packet.delivered)
}

struct Path {
    sealer: Sealer,
    opener: Opener,
    packets: Vec<Packet>,
}

struct Packet {
    sealed: Vec<u8>,
    kind: Kind,
    payload: Vec<u8>,
    delivered: bool,
}

impl Path {
    /// Each input has keys of its own. Otherwise a fuzzer that observes comparisons could learn a
    /// tag in one run and use it in the next.
    fn new(input: &[u8]) -> Self {
        let mut exported = [0; EXPORT_LENGTH];
        blake3::Hasher::new().update(input).finalize_xof().fill(&mut exported);
        // Invented packets should get as far as the seal.
        exported[64..].fill(INDEX);
        let (sealer, _) = fast::keys(&exported, true);
        let (_, opener) = fast::keys(&exported, false);
        Self { sealer, opener, packets: Vec::new() }
    }

    fn step(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation % OPERATIONS {
            SEAL => {
                let kind = [Kind::Datagram, Kind::Probe, Kind::Answer, Kind::Notice];
                let kind = kind[usize::from(input.byte()) % kind.len()];
                self.seal(kind, input.piece());
            }
            DELIVER => {
                let packet = self.pick(input);
                self.deliver(packet);
            }
            CHANGE => {
                let mut packet = self.pick(input);
                if let Some(byte) = packet.get_mut(usize::from(input.byte())) {
                    *byte ^= input.byte();
                }
                self.deliver(packet);
            }
            CUT => {
                let mut packet = self.pick(input);
                packet.truncate(usize::from(input.byte()));
                self.deliver(packet);
            }
            MAKE_UP => {
                self.deliver(input.piece().to_vec());
            }
            RENEW => {
                self.sealer.renew();
                self.fresh();
                for _ in 0..input.byte() % RENEW_EVERY {
                    self.opener.pass_second();
                }
            }
            // Many packets are lost.
            _ => {
                let mut lost = [0; OVERHEAD];
                for _ in 0..u16::from(input.byte()) * 16 {
                    self.sealer.seal(Kind::Datagram, &[], &mut lost);
                }
                self.fresh();
            }
        }
    }

    fn fresh(&mut self) {
        self.seal(Kind::Datagram, b"fresh");
        let packet = self.packets.last().expect("just sealed").sealed.clone();
        assert!(self.deliver(packet), "a fresh packet opens");
    }

    fn seal(&mut self, kind: Kind, payload: &[u8]) {
        let payload = &payload[..payload.len().min(PACKET_MAX - OVERHEAD)];
        let mut sealed = vec![0; payload.len() + OVERHEAD];
        assert_eq!(self.sealer.seal(kind, payload, &mut sealed), sealed.len());
        self.packets.push(Packet { sealed, kind, payload: payload.to_vec(), delivered: false });
    }

    fn pick(&self, input: &mut Input<'_>) -> Vec<u8> {
        let number = usize::from(input.byte()) % self.packets.len().max(1);
        self.packets.get(number).map_or_else(Vec::new, |packet| packet.sealed.clone())
    }

    fn deliver(&mut self, mut packet: Vec<u8>) -> bool {
        let sealed = packet.clone();
        let Ok((kind, payload)) = self.opener.open(&mut packet) else { return false };
        assert_eq!(fast::index_of(&sealed), Some(self.opener.index()));
        let genuine = self.packets.iter_mut().find(|packet| packet.sealed == sealed);
        let genuine = genuine.expect("only what the sender has sealed opens");
        assert!(!genuine.delivered, "a packet opens once");
        assert_eq!((kind, &*payload), (genuine.kind, &genuine.payload[..]));
        genuine.delivered = true;
        true
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seal = |kind: u8| [&[SEAL, kind][..], &piece(b"hello")].concat();
    let made_up = |kind: u8| {
        let packet = [&[kind][..], &[INDEX; 4], &[0, 0, 0, 1], &[7; 21]].concat();
        [&[MAKE_UP][..], &piece(&packet)].concat()
    };
    vec![
        ("in_order", [seal(0), vec![DELIVER, 0], seal(1), vec![DELIVER, 1]].concat()),
        (
            "replayed",
            [&seal(2)[..], &[DELIVER, 0, DELIVER, 0, CHANGE, 0, 9, 1, CUT, 0, 8]].concat(),
        ),
        ("late", [&seal(0)[..], &[LOSE, 60, DELIVER, 0, LOSE, 255, DELIVER, 0]].concat()),
        ("renewed", [&seal(0)[..], &[RENEW, 1, DELIVER, 0, RENEW, 9, DELIVER, 0]].concat()),
        ("made_up", [made_up(0x20), made_up(0x22), seal(0), vec![DELIVER, 0]].concat()),
    ]
}

const INDEX: u8 = 9;

const SEAL: u8 = 0;
const DELIVER: u8 = 1;
const CHANGE: u8 = 2;
const CUT: u8 = 3;
const MAKE_UP: u8 = 4;
const LOSE: u8 = 5;
const RENEW: u8 = 6;
const OPERATIONS: u8 = 7;

/// Seconds between two changes of keys.
const RENEW_EVERY: u8 = 20;

/// How many operations are run at most. More would make a run slow and find nothing more.
const OPERATIONS_MAX: usize = 64;
