use std::sync::Arc;

use hark_keys::{
    DeviceId, Random, SeededRandom, encode,
    noise::{QUIC_VERSION, client_config, server_config},
};
use quinn_proto::{
    Side, TransportError, crypto::Session, transport_parameters::TransportParameters,
};
use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash},
};

use crate::{
    input::{Input, piece},
    world::{device, key},
};

/// A server that receives anything at all accepts only a client that has signed.
pub(crate) fn run_server(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mode = input.byte() % MODES;
    let mut server = server();
    if mode == PIECES {
        return feed(&mut *server, input, device(CLIENT));
    }
    let mut client = Stranger::new(true);
    let parameters = if mode == PARAMETERS { input.piece() } else { &PARAMETERS_SENT[..] };
    let first = client.write(parameters);
    if first.len() > LONGEST || server.read_handshake(&framed(&first)).is_err() {
        check_refused(&*server);
        return false;
    }
    client.read(&written(&mut *server)[2..]);
    assert_eq!(written(&mut *server), [0, 0], "the tail");
    let claim = [&client.hash()[..], &client.public].concat();
    let honest = identity(CLIENT, "noise client", &claim);
    let payload = if mode == PARAMETERS { &honest[..] } else { input.rest() };
    if payload.len() > LONGEST {
        return false;
    }
    let result = server.read_handshake(&framed(&client.write(payload)));
    convinced(&*server, &result, payload == honest, CLIENT)
}

/// A client that receives anything at all accepts only a server that has signed.
pub(crate) fn run_client(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mode = input.byte() % MODES;
    let mut client = client();
    let first = written(&mut *client);
    if mode == PIECES {
        return feed(&mut *client, input, device(SERVER));
    }
    let mut server = Stranger::new(false);
    server.read(&first[2..]);
    let parameters = input.rest();
    let claim = [&server.hash()[..], &server.public, parameters].concat();
    let signed = [&identity(SERVER, "noise server", &claim)[..], parameters].concat();
    let payload = if mode == PARAMETERS { &signed[..] } else { parameters };
    if payload.len() > LONGEST {
        return false;
    }
    let result = client.read_handshake(&framed(&server.write(payload)));
    if result.is_err() {
        check_refused(&*client);
        return false;
    }
    assert_eq!(mode, PARAMETERS, "the payload has no signature");
    assert_eq!(written(&mut *client), [0; 0], "the third message waits for the tail");
    let result = client.read_handshake(&[0, 0]);
    server.read(&written(&mut *client)[2..]);
    convinced(&*client, &result, true, SERVER)
}

/// Feeds pieces of any length to a session. They may be those of an honest handshake, since all
/// randomness is fixed. No other peer than `honest` may be accepted.
fn feed(session: &mut dyn Session, mut input: Input<'_>, honest: DeviceId) -> bool {
    let mut failed = false;
    for _ in 0..PIECES_MAX {
        let piece = input.piece();
        if piece.is_empty() {
            break;
        }
        let result = session.read_handshake(piece);
        assert!(!failed || result.is_err(), "what has failed stays so");
        failed = result.is_err();
        while !written(session).is_empty() {}
    }
    assert!(peer(session).is_none_or(|peer| peer == honest));
    if session.is_handshaking() {
        check_refused_keys(session);
    }
    !session.is_handshaking()
}

fn convinced(
    session: &dyn Session,
    result: &Result<bool, TransportError>,
    expected: bool,
    number: u8,
) -> bool {
    assert_eq!(result.is_ok(), expected);
    if !expected {
        check_refused(session);
        return false;
    }
    assert_eq!(peer(session), Some(device(number)));
    assert!(!session.is_handshaking());
    assert!(session.export_keying_material(&mut [0; 32], b"label", b"").is_ok());
    true
}

fn check_refused(session: &dyn Session) {
    assert_eq!(peer(session), None);
    check_refused_keys(session);
}

fn check_refused_keys(session: &dyn Session) {
    assert!(session.is_handshaking());
    assert!(session.export_keying_material(&mut [0; 32], b"label", b"").is_err());
}

/// A malicious peer that knows how Noise works.
struct Stranger {
    noise: HandshakeState,
    public: [u8; 32],
}

impl Stranger {
    fn new(initiator: bool) -> Self {
        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("X25519");
        dh.set(&[8; 32]);
        let public = dh.pubkey().try_into().expect("32 bytes");
        let prologue = [b"hark noise 1".as_slice(), &QUIC_VERSION.to_be_bytes()].concat();
        let pattern = "Noise_XX_25519_ChaChaPoly_SHA256".parse().expect("a pattern");
        let noise =
            Builder::with_resolver(pattern, Box::new(Resolver))
                .local_private_key(&[8; 32])
                .and_then(|builder| builder.prologue(&prologue))
                .and_then(|builder| {
                    if initiator { builder.build_initiator() } else { builder.build_responder() }
                })
                .expect("XX needs a static key");
        Self { noise, public }
    }

    fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 128 + payload.len()];
        let length = self.noise.write_message(payload, &mut message).expect("in order");
        message.truncate(length);
        message
    }

    fn read(&mut self, message: &[u8]) {
        self.noise.read_message(message, &mut [0; 2048]).expect("what Hark sends is good");
    }

    fn hash(&self) -> Vec<u8> {
        self.noise.get_handshake_hash().to_vec()
    }
}

/// Fixed randomness.
struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn snow::types::Random>> {
        Some(Box::new(Source(SeededRandom::new(9))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Source(SeededRandom);

impl snow::types::Random for Source {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

fn client() -> Box<dyn Session> {
    let config = client_config(&key(CLIENT), Arc::new(SeededRandom::new(1)), None);
    config.start_session(QUIC_VERSION, "", &parameters()).expect("our own version")
}

fn server() -> Box<dyn Session> {
    let config = server_config(&key(SERVER), Arc::new(SeededRandom::new(2)));
    config.start_session(QUIC_VERSION, &parameters())
}

fn parameters() -> TransportParameters {
    TransportParameters::read(Side::Client, &mut &PARAMETERS_SENT[..]).expect("good parameters")
}

fn written(session: &mut dyn Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _keys = session.write_handshake(&mut bytes);
    bytes
}

fn peer(session: &dyn Session) -> Option<DeviceId> {
    let peer = session.peer_identity()?;
    Some(*peer.downcast::<DeviceId>().expect("identities are device ids"))
}

fn identity(number: u8, kind: &str, claim: &[u8]) -> Vec<u8> {
    [device(number).as_bytes(), &encode(&key(number).sign(kind, claim))[..]].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    piece(message)
}

pub(crate) fn server_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (first, _, third) = honest();
    vec![
        ("pieces", [&[PIECES][..], &piece(&first), &piece(&third)].concat()),
        ("bytes", [&[PIECES][..], &in_pieces(&[first, third])].concat()),
        ("parameters", [&[PARAMETERS][..], &piece(&PARAMETERS_SENT)].concat()),
        ("no_parameters", vec![PARAMETERS]),
    ]
}

pub(crate) fn client_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (_, [second, tail], _) = honest();
    vec![
        ("pieces", [&[PIECES][..], &piece(&second), &piece(&tail)].concat()),
        ("bytes", [&[PIECES][..], &in_pieces(&[second, tail])].concat()),
        ("parameters", [&[PARAMETERS][..], &PARAMETERS_SENT].concat()),
        ("no_parameters", vec![PARAMETERS]),
    ]
}

/// The client's first message, the server's messages, and the client's last message.
fn honest() -> (Vec<u8>, [Vec<u8>; 2], Vec<u8>) {
    let (mut client, mut server) = (client(), server());
    let first = written(&mut *client);
    server.read_handshake(&first).expect("honest");
    let [second, tail] = [written(&mut *server), written(&mut *server)];
    client.read_handshake(&second).expect("honest");
    assert_eq!(written(&mut *client), [0; 0]);
    client.read_handshake(&tail).expect("honest");
    let third = written(&mut *client);
    (first, [second, tail], third)
}

/// The messages in pieces of 50 bytes.
fn in_pieces(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| message.chunks(50)).flat_map(piece).collect()
}

/// Transport parameters with an `initial_max_data` and nothing else.
const PARAMETERS_SENT: [u8; 4] = [0x04, 0x02, 0x40, 0x99];

const CLIENT: u8 = 1;
const SERVER: u8 = 2;

/// The input is pieces of what the other side sends.
const PIECES: u8 = 0;
/// The input is the other side's transport parameters, which the other side has signed.
const PARAMETERS: u8 = 1;
/// In all other modes the input stands in place of the other side's identity.
const MODES: u8 = 3;

/// How many pieces are fed at most; further ones are ignored.
const PIECES_MAX: usize = 64;

/// The longest message that fits into the frame that both sides use.
const LONGEST: usize = 1_500;
