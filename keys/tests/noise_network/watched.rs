//! Sessions that record which of their keys still exist.

use std::{
    any::Any,
    sync::{Arc, Mutex, Weak},
};

use bytes::BytesMut;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey,
        ServerConfig, Session, UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};

/// The keys that updates have made, the oldest first: whether each pair still exists.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Vec<Weak<()>>>>);

impl Watch {
    pub(crate) fn alive(&self) -> Vec<bool> {
        self.0.lock().unwrap().iter().map(|pair| pair.strong_count() > 0).collect()
    }

    pub(super) fn client(&self, config: Arc<dyn ClientConfig>) -> Arc<dyn ClientConfig> {
        Arc::new(Watched(config, self.clone()))
    }

    pub(super) fn server(&self, config: Arc<dyn ServerConfig>) -> Arc<dyn ServerConfig> {
        Arc::new(Watched(config, self.clone()))
    }

    fn pair(&self, keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let pair = Arc::new(());
        self.0.lock().unwrap().push(Arc::downgrade(&pair));
        let watched = |key| Box::new(WatchedKey(key, Arc::clone(&pair))) as Box<dyn PacketKey>;
        KeyPair { local: watched(keys.local), remote: watched(keys.remote) }
    }
}

struct Watched<T>(T, Watch);

struct WatchedKey(Box<dyn PacketKey>, #[expect(dead_code, reason = "lives as long")] Arc<()>);

impl ClientConfig for Watched<Arc<dyn ClientConfig>> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = Arc::clone(&self.0).start_session(version, server_name, parameters)?;
        Ok(Box::new(Watched(session, self.1.clone())))
    }
}

impl ServerConfig for Watched<Arc<dyn ServerConfig>> {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, original, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn Session> {
        let session = Arc::clone(&self.0).start_session(version, parameters);
        Box::new(Watched(session, self.1.clone()))
    }
}

impl Session for Watched<Box<dyn Session>> {
    fn initial_keys(&self, destination: &ConnectionId, side: Side) -> Keys {
        self.0.initial_keys(destination, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.0.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.0.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.0.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.0.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.0.read_handshake(bytes)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.0.transport_parameters()
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        self.0.write_handshake(out)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.0.next_1rtt_keys().map(|keys| self.1.pair(keys))
    }

    fn is_valid_retry(&self, original: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.0.is_valid_retry(original, header, payload)
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.0.export_keying_material(out, label, context)
    }
}

impl PacketKey for WatchedKey {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header_length: usize) {
        self.0.encrypt(packet, buffer, header_length);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}
