mod connection_ids;
mod forgery;
#[cfg(target_os = "linux")]
mod memory;
mod session;
mod vectors;
mod wycheproof;

use std::sync::Arc;

use quinn_proto::{
    Side,
    crypto::{Keys, Session},
    transport_parameters::TransportParameters,
};

use super::{QUIC_VERSION, client_config, server_config};
use crate::{DeviceId, DeviceKey, Random, SeededRandom};

fn key(number: u8) -> DeviceKey {
    DeviceKey::from_secret(&[number; 32])
}

fn random(seed: u64) -> Arc<dyn Random> {
    Arc::new(SeededRandom::new(seed))
}

/// The parameters that the peer of `side` sends.
fn parameters(side: Side) -> TransportParameters {
    with_limit(if side.is_server() { 1000 } else { 1001 })
}

/// Parameters that differ in `initial_max_data`.
fn with_limit(limit: u16) -> TransportParameters {
    let [high, low] = limit.to_be_bytes();
    TransportParameters::read(Side::Client, &mut &[0x04, 0x02, 0x40 | high, low][..]).unwrap()
}

fn encoded(parameters: &TransportParameters) -> Vec<u8> {
    let mut bytes = Vec::new();
    parameters.write(&mut bytes);
    bytes
}

fn sessions(expected: Option<DeviceId>) -> (Box<dyn Session>, Box<dyn Session>) {
    let client = client_config(&key(1), random(1), expected);
    let client = client.start_session(QUIC_VERSION, "", &parameters(Side::Server)).unwrap();
    let server = server_config(&key(2), random(2));
    (client, server.start_session(QUIC_VERSION, &parameters(Side::Client)))
}

fn written(session: &mut dyn Session) -> (Vec<u8>, Option<Keys>) {
    let mut bytes = Vec::new();
    let keys = session.write_handshake(&mut bytes);
    (bytes, keys)
}

fn peer(session: &dyn Session) -> Option<DeviceId> {
    session.peer_identity().map(|peer| *peer.downcast::<DeviceId>().unwrap())
}

fn assert_refused(session: &dyn Session) {
    assert!(session.is_handshaking());
    assert_eq!(peer(session), None);
    assert!(session.export_keying_material(&mut [0; 32], b"label", b"").is_err());
}
