//! The state machine that QUIC feeds with CRYPTO bytes: frames, order of messages, keys. [NOISE-3]

use std::{any::Any, collections::VecDeque, mem, ops::RangeInclusive, sync::Arc};

use quinn_proto::{
    ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey},
    transport_parameters::TransportParameters,
};

use super::{
    KeyPhase,
    handshake::{Handshake, HandshakeError, IDENTITY_LENGTH, LONGEST_OVERHEAD},
    schedule::{RETRY, Traffic, initial_keys},
};
use crate::{DeviceId, DeviceKey, Random, wipe::scrub_stack};

/// One end of one connection's handshake, and later its source of keys.
///
/// ```text
///            client                          server
/// Initial    first message          ->
///            <-                              second message
/// Handshake  <-                              tail
///            third message          ->
/// ```
pub(super) struct Session {
    side: Side,
    stage: Stage,
    /// Bytes of a message that has not yet arrived in full.
    incoming: Vec<u8>,
    outgoing: VecDeque<Flight>,
    peer: Option<DeviceId>,
    peer_parameters: Option<TransportParameters>,
    pub(super) traffic: Option<Traffic>,
}

/// The message that comes next, with what is needed to answer it.
enum Stage {
    /// Server: the client's transport parameters.
    First { noise: Box<Handshake>, key: Arc<DeviceKey>, parameters: Vec<u8> },
    /// Client: the server's identity and transport parameters.
    Second { noise: Box<Handshake>, key: Arc<DeviceKey>, expected: Option<DeviceId> },
    /// Client: an empty message, which shows that the server has sent something in the Handshake
    /// space.
    Tail { noise: Box<Handshake>, key: Arc<DeviceKey> },
    /// Server: the client's identity.
    Third { noise: Box<Handshake> },
    /// No message follows.
    Done,
    /// The handshake has failed; nothing is read or written any more.
    Failed,
}

/// Bytes to send, and the keys of the packets that follow them.
struct Flight {
    message: Option<Vec<u8>>,
    keys: Option<Keys>,
}

impl Session {
    /// A client's end, ready to send the first message.
    #[inline(never)]
    pub(super) fn client(
        key: Arc<DeviceKey>,
        random: &Arc<dyn Random>,
        expected: Option<DeviceId>,
        parameters: &TransportParameters,
    ) -> Self {
        let mut noise = Box::new(Handshake::new(true, random));
        let message = noise
            .write_first(&encoded(parameters))
            .expect("a first message of an initiator is always in order");
        let mut session = Self::new(Side::Client, Stage::Second { noise, key, expected });
        session.send(Some(message), None);
        session
    }

    /// A server's end, waiting for the first message.
    #[inline(never)]
    pub(super) fn server(
        key: Arc<DeviceKey>,
        random: &Arc<dyn Random>,
        parameters: &TransportParameters,
    ) -> Self {
        let noise = Box::new(Handshake::new(false, random));
        Self::new(Side::Server, Stage::First { noise, key, parameters: encoded(parameters) })
    }

    fn new(side: Side, stage: Stage) -> Self {
        Self {
            side,
            stage,
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            peer: None,
            peer_parameters: None,
            traffic: None,
        }
    }

    #[inline(never)]
    fn receive(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        // [NOISE-17] Each message ends its packet number space. So the peer must send no bytes
        // after it before quinn has taken the keys of the next space.
        let allowed = self.stage.message_length().ok_or(HandshakeError::Unexpected)?;
        if !self.outgoing.is_empty() {
            return Err(HandshakeError::Unexpected);
        }
        if self.incoming.len() + bytes.len() > FRAME_LENGTH + LONGEST_MESSAGE {
            return Err(HandshakeError::Length);
        }
        self.incoming.extend_from_slice(bytes);
        let Some((length, message)) = self.incoming.split_first_chunk() else { return Ok(()) };
        let length = usize::from(u16::from_be_bytes(*length));
        if !allowed.contains(&length) {
            return Err(HandshakeError::Length);
        }
        if message.len() > length {
            return Err(HandshakeError::Unexpected);
        }
        if message.len() == length {
            let incoming = mem::take(&mut self.incoming);
            self.on_message(&incoming[FRAME_LENGTH..])?;
        }
        Ok(())
    }

    fn on_message(&mut self, message: &[u8]) -> Result<(), HandshakeError> {
        // Any failure below leaves the session failed for good.
        match mem::replace(&mut self.stage, Stage::Failed) {
            Stage::First { mut noise, key, parameters } => {
                self.peer_parameters = Some(self.decoded(&noise.read_first(message)?)?);
                let second = noise.write_second(&key, &parameters)?;
                self.send(Some(second), Some(noise.agreement().handshake_keys(self.side)));
                // [NOISE-12] Without a message in the Handshake space the client would wait for
                // ever: quinn counts the client as connected only once it has read a Handshake
                // packet.
                self.send(Some(Vec::new()), None);
                self.stage = Stage::Third { noise };
            }
            Stage::Second { mut noise, key, expected } => {
                let (peer, parameters) = noise.read_second(message)?;
                // [NOISE-15]
                if expected.is_some_and(|expected| expected != peer) {
                    return Err(HandshakeError::OtherPeer);
                }
                self.peer_parameters = Some(self.decoded(&parameters)?);
                self.peer = Some(peer);
                self.send(None, Some(noise.agreement().handshake_keys(self.side)));
                self.stage = Stage::Tail { noise, key };
            }
            // [NOISE-12] The third message waits for the tail. The server gives up the Handshake
            // space when it has the third message, and would never send a lost tail again.
            Stage::Tail { mut noise, key } => {
                let third = noise.write_third(&key)?;
                let keys = self.establish(&mut noise);
                self.send(Some(third), Some(keys));
            }
            Stage::Third { mut noise } => {
                self.peer = Some(noise.read_third(message)?);
                let keys = self.establish(&mut noise);
                self.send(None, Some(keys));
            }
            Stage::Done | Stage::Failed => return Err(HandshakeError::Unexpected),
        }
        Ok(())
    }

    fn establish(&mut self, noise: &mut Handshake) -> Keys {
        self.stage = Stage::Done;
        self.traffic.insert(noise.agreement().traffic(self.side)).keys()
    }

    fn send(&mut self, message: Option<Vec<u8>>, keys: Option<Keys>) {
        self.outgoing.push_back(Flight { message, keys });
    }

    fn fail(&mut self) {
        self.stage = Stage::Failed;
        self.incoming.clear();
        self.outgoing.clear();
        self.peer = None;
    }

    fn decoded(&self, mut parameters: &[u8]) -> Result<TransportParameters, HandshakeError> {
        TransportParameters::read(self.side, &mut parameters)
            .map_err(|_| HandshakeError::Parameters)
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, destination: &ConnectionId, side: Side) -> Keys {
        initial_keys(destination, side)
    }

    /// The [`KeyPhase`], once there is one; nothing is negotiated.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let traffic = self.traffic.as_ref()?;
        Some(Box::new(KeyPhase(traffic.updates.saturating_sub(AHEAD))))
    }

    /// The [`DeviceId`] that the peer has proven, once it has.
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.peer.map(|peer| Box::new(peer) as Box<dyn Any>)
    }

    /// `None`: data sent before the handshake could be replayed. [NOISE-20]
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        !matches!(self.stage, Stage::Done)
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        if bytes.is_empty() {
            return Ok(false);
        }
        let received = self.receive(bytes);
        scrub_stack();
        match received {
            Ok(()) => Ok(false),
            Err(error) => {
                self.fail();
                Err(error.into())
            }
        }
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peer_parameters)
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        let flight = self.outgoing.pop_front()?;
        if let Some(message) = flight.message {
            let length = u16::try_from(message.len()).expect("our messages are short");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&message);
        }
        flight.keys
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.traffic.as_mut().map(Traffic::update);
        scrub_stack();
        keys
    }

    fn is_valid_retry(&self, original: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        RETRY.is_valid(original, header, payload)
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        // Not before the other side has proven its identity, nor after it has failed to.
        let traffic = self.traffic.as_ref().filter(|_| !self.is_handshaking());
        let exported = traffic.map(|traffic| traffic.export(out, label, context));
        scrub_stack();
        exported.unwrap_or(Err(ExportKeyingMaterialError))
    }
}

impl Stage {
    /// The lengths that the awaited message may have. [NOISE-18]
    fn message_length(&self) -> Option<RangeInclusive<usize>> {
        match self {
            Self::First { .. } => Some(32..=LONGEST_MESSAGE),
            Self::Second { .. } => Some(LONGEST_OVERHEAD + IDENTITY_LENGTH..=LONGEST_MESSAGE),
            Self::Tail { .. } => Some(0..=0),
            Self::Third { .. } => Some(THIRD_LENGTH..=THIRD_LENGTH),
            Self::Done | Self::Failed => None,
        }
    }
}

impl From<HandshakeError> for TransportError {
    fn from(error: HandshakeError) -> Self {
        Self {
            code: TransportErrorCode::crypto(error.alert()),
            frame: None,
            reason: error.to_string(),
        }
    }
}

fn encoded(parameters: &TransportParameters) -> Vec<u8> {
    let mut bytes = Vec::new();
    parameters.write(&mut bytes);
    bytes
}

/// How many key phases ahead quinn asks for the keys.
const AHEAD: u64 = 1;

/// Bytes of the length before each message, which is big-endian. [NOISE-7]
const FRAME_LENGTH: usize = 2;

/// The longest message that is accepted. Its length varies with the transport parameters; quinn's
/// have less than 200 bytes. A longer message ends the handshake. [NOISE-18]
const LONGEST_MESSAGE: usize = 1024;

/// Bytes of a static key with its tag, and an identity with its tag.
const THIRD_LENGTH: usize = 32 + 16 + IDENTITY_LENGTH + 16;
