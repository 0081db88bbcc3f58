//! A session, and an attacker at the other end.

use quinn_proto::Side;
use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};

use super::{
    super::{
        handshake::{CLIENT, PATTERN, SERVER, prologue},
        resolver::Resolver,
    },
    assert_refused, encoded, key, parameters, peer, random, sessions, with_limit, written,
};
use crate::encode;

/// [NOISE-14] A session takes neither a stranger's identity, nor a signature for something else,
/// nor one over other parameters.
#[test]
fn forged_server_identity_is_refused() {
    let ours = encoded(&parameters(Side::Client));
    let other = encoded(&with_limit(999));
    type Forge<'a> = &'a dyn Fn(&[u8], &[u8]) -> Vec<u8>;
    let honest = |hash: &[u8], public: &[u8]| {
        [identity(2, 2, SERVER, &[hash, public, &ours].concat()), ours.clone()].concat()
    };
    let cases: [(Forge<'_>, u64); 8] = [
        (&|hash, public| honest(hash, public), 0),
        (
            &|hash, public| {
                [identity(3, 2, SERVER, &[hash, public, &ours].concat()), ours.clone()].concat()
            },
            51,
        ),
        (
            &|hash, public| {
                [identity(2, 2, CLIENT, &[hash, public, &ours].concat()), ours.clone()].concat()
            },
            51,
        ),
        (
            &|hash, public| {
                [identity(2, 2, SERVER, &[hash, public, &ours].concat()), other.clone()].concat()
            },
            51,
        ),
        (
            &|_, public| {
                [identity(2, 2, SERVER, &[&[0; 32], public, &ours].concat()), ours.clone()].concat()
            },
            51,
        ),
        (
            &|hash, _| {
                [identity(2, 2, SERVER, &[hash, &[0; 32], &ours].concat()), ours.clone()].concat()
            },
            51,
        ),
        (
            &|hash, public| {
                [identity(2, 2, SERVER, &[hash, public, b"\x01"].concat()), vec![1]].concat()
            },
            50,
        ),
        (&|_, _| [vec![2; 32], vec![0; 64], ours.clone()].concat(), 50),
    ];
    for (index, (payload, alert)) in cases.into_iter().enumerate() {
        let (mut client, _) = sessions(None);
        let (mut server, public) = raw(false, Box::new(Resolver(random(9))));
        let (first, _) = written(&mut *client);
        read(&mut server, &first[2..]).unwrap();
        let payload = payload(server.get_handshake_hash(), &public);
        let second = framed(&write(&mut server, &payload));
        let result = client.read_handshake(&second);
        if alert == 0 {
            assert_eq!(result, Ok(false));
            assert_eq!(peer(&*client), Some(key(2).id()));
        } else {
            assert_eq!(u64::from(result.unwrap_err().code), 0x100 + alert, "case {index}");
            assert_refused(&*client);
        }
    }
}

/// [NOISE-14] The same for the client, whose signature covers both sides' parameters through the
/// hash.
#[test]
fn forged_client_identity_is_refused() {
    type Forge<'a> = &'a dyn Fn(&[u8], &[u8]) -> Vec<u8>;
    let cases: [(Forge<'_>, u64); 6] = [
        (&|hash, public| identity(1, 1, CLIENT, &[hash, public].concat()), 0),
        (&|hash, public| identity(3, 1, CLIENT, &[hash, public].concat()), 51),
        (&|hash, public| identity(1, 1, SERVER, &[hash, public].concat()), 51),
        (&|_, public| identity(1, 1, CLIENT, &[&[0; 32], public].concat()), 51),
        (&|hash, _| identity(1, 1, CLIENT, &[hash, &[0; 32]].concat()), 51),
        (&|_, _| [[2; 32].as_slice(), &[0; 64]].concat(), 50),
    ];
    for (index, (payload, alert)) in cases.into_iter().enumerate() {
        let (_, mut server) = sessions(None);
        let (mut client, public) = raw(true, Box::new(Resolver(random(9))));
        let first = write(&mut client, &encoded(&parameters(Side::Client)));
        server.read_handshake(&framed(&first)).unwrap();
        let (second, keys) = written(&mut *server);
        assert!(keys.is_some());
        let (tail, keys) = written(&mut *server);
        assert!(keys.is_none() && tail == [0, 0]);
        read(&mut client, &second[2..]).unwrap();
        let payload = payload(client.get_handshake_hash(), &public);
        let result = server.read_handshake(&framed(&write(&mut client, &payload)));
        if alert == 0 {
            assert_eq!(result, Ok(false));
            assert_eq!(peer(&*server), Some(key(1).id()));
        } else {
            assert_eq!(u64::from(result.unwrap_err().code), 0x100 + alert, "case {index}");
            assert_refused(&*server);
        }
    }
}

/// [NOISE-16] A server whose ephemeral or static key has low order, and that computes everything
/// else from the zero secret, is refused. The same server with honest keys is accepted.
#[test]
fn low_order_server_keys_are_refused() {
    let ours = encoded(&parameters(Side::Client));
    for (on_set, on_generate) in [(false, false), (false, true), (true, false)] {
        let (mut client, _) = sessions(None);
        let (mut server, public) = raw(false, Box::new(LowOrder { on_set, on_generate }));
        let (first, _) = written(&mut *client);
        read(&mut server, &first[2..]).unwrap();
        let claim = [server.get_handshake_hash(), &public, &ours].concat();
        let payload = [identity(2, 2, SERVER, &claim), ours.clone()].concat();
        let result = client.read_handshake(&framed(&write(&mut server, &payload)));
        assert_eq!(result.is_ok(), !on_set && !on_generate);
    }
}

/// [NOISE-16] The same for a client.
#[test]
fn low_order_client_keys_are_refused() {
    for (on_set, on_generate) in [(false, false), (false, true), (true, false)] {
        let (_, mut server) = sessions(None);
        let (mut client, public) = raw(true, Box::new(LowOrder { on_set, on_generate }));
        let first = write(&mut client, &encoded(&parameters(Side::Client)));
        let result = server.read_handshake(&framed(&first));
        assert_eq!(result.is_ok(), !on_generate);
        if on_generate {
            continue;
        }
        let (second, _) = written(&mut *server);
        let _tail = written(&mut *server);
        read(&mut client, &second[2..]).unwrap();
        let claim = [client.get_handshake_hash(), &public].concat();
        let third = framed(&write(&mut client, &identity(1, 1, CLIENT, &claim)));
        assert_eq!(server.read_handshake(&third).is_ok(), !on_set);
    }
}

/// All points of low order on the curve and its twist.
#[test]
fn low_order_points_give_no_secret() {
    let mut points = vec![[0; 32]; 5];
    points[1][0] = 1;
    for (index, first) in [(2, 0xec), (3, 0xed), (4, 0xee)] {
        points[index] = [0xff; 32];
        points[index][0] = first;
        points[index][31] = 0x7f;
    }
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    for order_8 in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        points.push(hex(order_8).try_into().unwrap());
    }
    let mut dh = Resolver(random(1)).resolve_dh(&DHChoice::Curve25519).unwrap();
    dh.set(&[7; 32]);
    for point in points {
        assert_eq!(dh.dh(&point, &mut [0; 32]), Err(Error::Dh), "{point:?}");
    }
    let mut nine = [0; 32];
    nine[0] = 9;
    let mut secret = [0; 32];
    assert_eq!(dh.dh(&nine, &mut secret), Ok(()));
    assert_eq!(secret, dh.pubkey());
}

/// [NOISE-10] Parameters that QUIC cannot read end the handshake at once.
#[test]
fn mangled_parameters_are_refused() {
    for mangled in [&[0x01][..], &[0x01, 0x04, 0x00], &[0x0e, 0x01, 0x01], &[0x03, 0x02, 0x44]] {
        let (_, mut server) = sessions(None);
        let (mut client, _) = raw(true, Box::new(Resolver(random(9))));
        let error = server.read_handshake(&framed(&write(&mut client, mangled))).unwrap_err();
        assert_eq!(u64::from(error.code), 0x100 + 50, "{mangled:?}");
        assert_refused(&*server);
    }
}

/// A Diffie-Hellman whose keys have low order, when set or when generated. Its owner can compute
/// what follows.
struct LowOrder {
    on_set: bool,
    on_generate: bool,
}

struct LowOrderDh {
    inner: Box<dyn Dh>,
    choice: LowOrder,
    low: bool,
}

impl CryptoResolver for LowOrder {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Resolver(random(5)).resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let inner = DefaultResolver.resolve_dh(choice)?;
        let Self { on_set, on_generate } = *self;
        Some(Box::new(LowOrderDh { inner, choice: Self { on_set, on_generate }, low: false }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

impl Dh for LowOrderDh {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        self.low = self.choice.on_set;
        self.inner.set(secret);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        self.low = self.choice.on_generate;
        self.inner.generate(random)
    }

    fn pubkey(&self) -> &[u8] {
        if self.low { &[0; 32] } else { self.inner.pubkey() }
    }

    fn privkey(&self) -> &[u8] {
        self.inner.privkey()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        if self.low {
            out[..32].fill(0);
            return Ok(());
        }
        self.inner.dh(public, out)
    }
}

/// A Noise end without an identity, and its static public key.
fn raw(initiator: bool, resolver: Box<dyn CryptoResolver + Send>) -> (HandshakeState, [u8; 32]) {
    let mut dh = resolver.resolve_dh(&DHChoice::Curve25519).unwrap();
    dh.set(&[8; 32]);
    let public = dh.pubkey().try_into().unwrap();
    let prologue = prologue();
    let builder = Builder::with_resolver(PATTERN.parse().unwrap(), resolver)
        .local_private_key(&[8; 32])
        .unwrap()
        .prologue(&prologue)
        .unwrap();
    let noise = if initiator { builder.build_initiator() } else { builder.build_responder() };
    (noise.unwrap(), public)
}

fn write(noise: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 1024];
    let length = noise.write_message(payload, &mut message).unwrap();
    message.truncate(length);
    message
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<usize, Error> {
    noise.read_message(message, &mut [0; 1024])
}

fn identity(claimed: u8, signer: u8, kind: &str, claim: &[u8]) -> Vec<u8> {
    [key(claimed).id().as_bytes().to_vec(), encode(&key(signer).sign(kind, claim))].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}
