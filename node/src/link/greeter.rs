//! The Hello: settles what a peer is to the organisation before the peer is served anything else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hark_keys::DeviceId;
use hark_mesh::hello::{HelloError, PeerHello, Refusal};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Mutex;

use super::transport::LinkError;

/// Decides who is admitted. The engine implements it, and the network thread calls it.
pub trait Admission: Send + Sync {
    /// The dialler's message to `peer`, bound to this link by its `exporter`. [PROTO-3.1]
    fn greeting(&self, peer: DeviceId, exporter: &[u8; 32]) -> Vec<u8>;

    /// The listener's answer to `peer`, and whether the peer is admitted. The answer is sent in
    /// both cases.
    fn answer(
        &self,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> (Vec<u8>, Result<PeerHello, HelloDenial>);

    /// The dialler's verdict on the listener's answer.
    fn conclude(
        &self,
        peer: DeviceId,
        exporter: &[u8; 32],
        answer: &[u8],
    ) -> Result<PeerHello, HelloError>;
}

/// The reason why a dialler does not become a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloDenial {
    /// The dialler receives this refusal, and its connection ends.
    Refused(Refusal),
    /// The dialler has shown a valid invite and is led to doors. [PROTO-3.10]
    Led {
        /// The invite's key.
        invite: DeviceId,
    },
}

impl From<HelloDenial> for LinkError {
    fn from(denial: HelloDenial) -> Self {
        match denial {
            HelloDenial::Refused(refusal) => HelloError::Refused(refusal).into(),
            HelloDenial::Led { invite } => Self::Led { invite },
        }
    }
}

/// Runs the Hello on new connections.
pub(super) struct Greeter {
    admission: Arc<dyn Admission>,
    /// Allows one Hello at a time with each device that we dial, and one more through a relay.
    /// Several addresses of a device are tried side by side, and only the first that gets through
    /// may become a link.
    dialling: std::sync::Mutex<BTreeMap<(DeviceId, bool), Turn>>,
}

impl Greeter {
    pub(super) fn new(admission: Arc<dyn Admission>) -> Self {
        Self { admission, dialling: std::sync::Mutex::default() }
    }

    /// Runs the Hello as the dialler; `relayed` if the connection is through a relay. `needless`
    /// returns whether another link with the device has come about in the meantime.
    pub(super) async fn greet(
        &self,
        connection: &Connection,
        relayed: bool,
        needless: impl Fn(DeviceId) -> bool,
    ) -> Result<PeerHello, LinkError> {
        let device = device_of(connection)?;
        let turn = self.turn(device, relayed);
        let _turn = turn.lock().await;
        if needless(device) {
            return Err(LinkError::AlreadyLinked);
        }
        let exporter = exporter(connection)?;
        let exchange = async {
            let (mut send, mut receive) = connection.open_bi().await?;
            write(&mut send, &self.admission.greeting(device, &exporter)).await?;
            let answer = read(&mut receive).await?;
            Ok(self.admission.conclude(device, &exporter, &answer)?)
        };
        tokio::time::timeout(HELLO_TIMEOUT, exchange).await.map_err(|_| LinkError::Timeout)?
    }

    /// Runs the Hello as the listener, for as long as the lobby permits. [PROTO-2.3]
    pub(super) async fn welcome(&self, connection: &Connection) -> Result<PeerHello, LinkError> {
        let device = device_of(connection)?;
        let exporter = exporter(connection)?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let greeting = read(&mut receive).await?;
        let (answer, verdict) = self.admission.answer(device, &exporter, &greeting);
        write(&mut send, &answer).await?;
        match verdict {
            Ok(hello) => Ok(hello),
            Err(denial) => {
                // The answer states the reason, so it must arrive before the connection ends.
                let _ = send.stopped().await;
                Err(denial.into())
            }
        }
    }

    fn turn(&self, device: DeviceId, relayed: bool) -> Turn {
        let mut dialling = self.dialling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        dialling.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(dialling.entry((device, relayed)).or_default())
    }
}

/// The connection that holds this lock is at its Hello.
type Turn = Arc<Mutex<()>>;

/// The device whose identity the handshake has proven.
pub(super) fn device_of(connection: &Connection) -> Result<DeviceId, LinkError> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<DeviceId>().ok())
        .map(|device| *device)
        .ok_or(LinkError::NoIdentity)
}

fn exporter(connection: &Connection) -> Result<[u8; 32], LinkError> {
    let mut bytes = [0; 32];
    connection
        .export_keying_material(&mut bytes, b"hark hello", b"")
        .map_err(|_| LinkError::NoIdentity)?;
    Ok(bytes)
}

async fn write(send: &mut SendStream, message: &[u8]) -> Result<(), LinkError> {
    let length = u16::try_from(message.len()).expect("a Hello is at most 16 KiB");
    send.write_all(&length.to_be_bytes()).await?;
    send.write_all(message).await?;
    // If the other side has already stopped the stream, it has received what it wanted.
    let _ = send.finish();
    Ok(())
}

async fn read(receive: &mut RecvStream) -> Result<Vec<u8>, LinkError> {
    let mut length = [0; 2];
    receive.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > HELLO_LIMIT {
        return Err(LinkError::Malformed);
    }
    let mut message = vec![0; length];
    receive.read_exact(&mut message).await?;
    Ok(message)
}

/// The dialler gives up on a listener that takes longer.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest Hello in bytes. A longer one is refused before it is read.
const HELLO_LIMIT: usize = 16 * 1024;
