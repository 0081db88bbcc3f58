//! The Noise session that is the handshake of a QUIC link.
//!
//! `Noise_XX_25519_ChaChaPoly_SHA256` takes the place of TLS in quinn's state machine. Both sides
//! prove their device identity, and packets are protected by keys that only the two have. The
//! specification, with the requirements that comments cite, is `docs/noise.md`.
//!
//! ```text
//! CRYPTO bytes <-> session (order, frames) <-> handshake (Noise, identities)
//!                     |
//!                  schedule (keys) -> packet (sealing of packets and headers)
//!
//! endpoint: connection_ids (which packets are ours), keys of stateless resets
//! ```
//!
//! To feed a session with arbitrary bytes, start one from [`server_config`] or [`client_config`]
//! and use the [`Session`](crypto::Session) trait.

mod connection_ids;
mod handshake;
mod packet;
mod resolver;
pub(crate) use resolver::x25519;
mod schedule;
mod session;

use std::{net::SocketAddr, sync::Arc};

use quinn_proto::{
    ConnectError, ConnectionId, EndpointConfig, Side,
    crypto::{self, Keys, UnsupportedVersion},
    transport_parameters::TransportParameters,
};
use ring::hmac;
use zeroize::Zeroizing;

pub(crate) use self::schedule::{Secret, expand_label};
use self::{connection_ids::ConnectionIds, session::Session};
use crate::{DeviceId, DeviceKey, Random, wipe::scrub_stack};

/// The private QUIC version of this handshake: "HARK". [NOISE-1] [PROTO-2.1]
pub const QUIC_VERSION: u32 = 0x4841_524b;

/// The configuration of a dialler's connections. `key` proves the dialler's identity, `random`
/// gives all secrets, and a server other than `expected` is refused.
///
/// The caller must set [`QUIC_VERSION`] on the `quinn_proto::ClientConfig` made of it. Sessions
/// fill `Session::peer_identity` with a `Box<DeviceId>`.
pub fn client_config(
    key: &DeviceKey,
    random: Arc<dyn Random>,
    expected: Option<DeviceId>,
) -> Arc<dyn crypto::ClientConfig> {
    Arc::new(ClientConfig { key: shared(key), random, expected })
}

/// The configuration of a listener's connections. `key` proves the listener's identity, and
/// `random` gives all secrets.
///
/// Sessions fill `Session::peer_identity` with a `Box<DeviceId>`.
pub fn server_config(key: &DeviceKey, random: Arc<dyn Random>) -> Arc<dyn crypto::ServerConfig> {
    Arc::new(ServerConfig { key: shared(key), random })
}

/// One of a device's endpoints. Each has connection ids and reset tokens of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// The endpoint at a socket with this address, where others dial it.
    Socket(SocketAddr),
    /// The endpoint whose packets relays pass on.
    Tunnel,
    /// An endpoint that only dials. No peer dials it, so none finds it again after a restart.
    Dialler,
}

/// An endpoint that speaks only [`QUIC_VERSION`]. It recognises the connections of the run before
/// at the same `place`, and answers their packets with a stateless reset that the peer accepts. It
/// does not answer for the ids of another endpoint. [NOISE-26] [NOISE-28] [NOISE-27]
pub fn endpoint_config(
    key: &DeviceKey,
    random: Arc<dyn Random>,
    place: EndpointKind,
) -> EndpointConfig {
    let secret = |purpose: &str| match place {
        EndpointKind::Socket(address) => key.derive(&format!("{purpose} at {address}")),
        EndpointKind::Tunnel => key.derive(&format!("{purpose} of tunnels")),
        EndpointKind::Dialler => {
            let mut secret = Zeroizing::new([0; 32]);
            random.fill(secret.as_mut());
            secret
        }
    };
    let reset = hmac::Key::new(hmac::HMAC_SHA256, secret("quic stateless reset").as_ref());
    let ids = secret("quic connection id");
    let mut config = EndpointConfig::new(Arc::new(reset));
    config
        .cid_generator(move || Box::new(ConnectionIds::new(ids.clone(), Arc::clone(&random))))
        .supported_versions(vec![QUIC_VERSION])
        // [NOISE-2] First bytes below 0x40 stay free for other packets at the socket.
        .grease_quic_bit(false);
    config
}

/// How often the keys of a connection have changed. `Session::handshake_data` gives a
/// `Box<KeyPhase>` once the connection has 1-RTT keys. [NOISE-24]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPhase(pub u64);

struct ClientConfig {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    expected: Option<DeviceId>,
}

impl crypto::ClientConfig for ClientConfig {
    /// Starts a session. The server's name is not used: identities are keys.
    fn start_session(
        self: Arc<Self>,
        version: u32,
        _server_name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        supported(version)?;
        let key = Arc::clone(&self.key);
        let session = Box::new(Session::client(key, &self.random, self.expected, parameters));
        scrub_stack();
        Ok(session)
    }
}

struct ServerConfig {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
}

impl crypto::ServerConfig for ServerConfig {
    fn initial_keys(
        &self,
        version: u32,
        destination: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        supported(version)?;
        Ok(schedule::initial_keys(destination, Side::Server))
    }

    fn retry_tag(&self, _version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        schedule::RETRY.tag(original, packet)
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let key = Arc::clone(&self.key);
        let session = Box::new(Session::server(key, &self.random, parameters));
        scrub_stack();
        session
    }
}

fn supported(version: u32) -> Result<(), UnsupportedVersion> {
    if version == QUIC_VERSION { Ok(()) } else { Err(UnsupportedVersion) }
}

fn shared(key: &DeviceKey) -> Arc<DeviceKey> {
    Arc::new(DeviceKey::from_secret(&key.secret()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
