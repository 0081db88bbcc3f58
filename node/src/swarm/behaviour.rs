//! The parts of libp2p that a node runs on its links.

#![allow(missing_docs, reason = "the derive's variants, named as the fields that they are of")]

use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use hark_keys::{DeviceKey, OrganisationId};
use hark_mesh::message::Topic;
use libp2p::{
    PeerId, StreamProtocol, connection_limits, gossipsub, mdns,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::SwarmError;

/// All behaviours of the swarm. They see admitted peers only, since the transport decides about
/// admission.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    /// Limits the number of connections.
    pub limits: connection_limits::Behaviour,
    /// Finds members on the LAN.
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    /// Distributes what all members must receive.
    pub gossip: gossipsub::Behaviour,
    /// Sends control messages, each of which is answered.
    pub messages: request_response::Behaviour<MessageCodec>,
}

impl Behaviour {
    /// Creates the behaviours of `key`'s device in an organisation. Fails if mDNS gets no socket.
    pub fn new(
        key: &DeviceKey,
        organisation: OrganisationId,
        with_mdns: bool,
        links_max: u32,
        is_hub: bool,
    ) -> Result<Self, SwarmError> {
        let keypair = key.keypair();
        let peer = PeerId::from(keypair.public());
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_outgoing(Some(PENDING_LIMIT))
            .with_max_established_per_peer(Some(LINKS_PER_DEVICE))
            .with_max_established(Some(links_max));
        let mdns = if with_mdns {
            let config =
                mdns::Config { query_interval: MDNS_QUERY_INTERVAL, ..mdns::Config::default() };
            Some(mdns::tokio::Behaviour::new(config, peer)?)
        } else {
            None
        };
        // Gossiped messages carry the signatures that count. libp2p's own signatures would be
        // verified for each copy that arrives.
        let authenticity = gossipsub::MessageAuthenticity::Anonymous;
        let mut gossip =
            gossipsub::Behaviour::new(authenticity, gossip_config(organisation, is_hub)?)
                .map_err(|error| SwarmError::Gossip(error.to_owned()))?;
        for it in Topic::ALL {
            let subscribed = gossip.subscribe(&topic(organisation, it));
            subscribed.map_err(|error| SwarmError::Gossip(error.to_string()))?;
        }
        let messages = request_response::Behaviour::new(
            [(MESSAGE_PROTOCOL, ProtocolSupport::Full)],
            request_response::Config::default().with_request_timeout(MESSAGE_TIMEOUT),
        );
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            mdns: mdns.into(),
            gossip,
            messages,
        })
    }
}

/// A gossip topic of an organisation. Its name is a keyed hash, which reveals nothing. [PROTO-5.2]
pub fn topic(organisation: OrganisationId, topic: Topic) -> gossipsub::IdentTopic {
    let about: &[u8] = match topic {
        Topic::Presence => b"gossip",
        Topic::Charter => b"charter",
    };
    let name = blake3::keyed_hash(organisation.as_bytes(), about);
    gossipsub::IdentTopic::new(name.to_hex().as_str())
}

/// [PROTO-12.4]
fn gossip_config(
    organisation: OrganisationId,
    is_hub: bool,
) -> Result<gossipsub::Config, SwarmError> {
    let mut config = gossipsub::ConfigBuilder::default();
    // Members that meet at a hub hear of a change from nobody else. A member outside the hub's
    // gossip mesh would be offered the change only some heartbeats later.
    if is_hub {
        let charter = topic(organisation, Topic::Charter).hash();
        config
            .mesh_outbound_min_for_topic(1, charter.clone())
            .mesh_n_low_for_topic(HUB_MESH, charter.clone())
            .mesh_n_for_topic(HUB_MESH, charter.clone())
            .mesh_n_high_for_topic(HUB_MESH, charter);
    }
    // gossipsub was tuned for larger meshes than a squad's.
    config
        .mesh_outbound_min(1)
        .mesh_n_low(2)
        .mesh_n(4)
        .mesh_n_high(8)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .max_control_messages_sent(OFFERED_MAX)
        .max_transmit_size(MESSAGE_LIMIT)
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        // The id covers the topic, so that a message refused on the wrong topic does not count as
        // seen on the right one.
        .message_id_fn(|message| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(message.topic.as_str().as_bytes()).update(&message.data);
            gossipsub::MessageId::from(hasher.finalize().as_bytes().to_vec())
        })
        .build()
        .map_err(|error| SwarmError::Gossip(error.to_string()))
}

/// Carries one message each way, as bytes that `mesh` parses. [PROTO-12.3]
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageCodec;

impl request_response::Codec for MessageCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> std::io::Result<Vec<u8>> {
        read(stream).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> std::io::Result<Vec<u8>> {
        read(stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        message: Vec<u8>,
    ) -> std::io::Result<()> {
        write(stream, &message).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        message: Vec<u8>,
    ) -> std::io::Result<()> {
        write(stream, &message).await
    }
}

/// [PROTO-1.3] Reads to the end of the stream. Fails at the limit.
async fn read<T: AsyncRead + Unpin>(stream: &mut T) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let limit = u64::try_from(MESSAGE_LIMIT).expect("the limit is 32 KiB");
    stream.take(limit + 1).read_to_end(&mut message).await?;
    if message.len() > MESSAGE_LIMIT {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(message)
}

async fn write<T: AsyncWrite + Unpin>(stream: &mut T, message: &[u8]) -> std::io::Result<()> {
    // The caller ends the stream.
    stream.write_all(message).await
}

/// More than the links of any hub.
const HUB_MESH: usize = 1 << 16;

/// Messages that gossipsub offers to one peer at once, besides those that it sends anyway. If a
/// peer asks for all of them, they wait in a queue, which keeps its greatest size for as long as
/// the link stands.
const OFFERED_MAX: usize = 16;

/// [PROTO-1.3] Longest message in bytes. Longer ones are refused.
const MESSAGE_LIMIT: usize = 32 * 1024;

const MESSAGE_PROTOCOL: StreamProtocol = StreamProtocol::new("/hark/message/1");

/// The sender repeats a message that is not answered within this time.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often mDNS asks on the LAN. It also announces by itself, so that a newcomer is found at
/// once. Asking again finds devices whose announcement was lost.
const MDNS_QUERY_INTERVAL: Duration = Duration::from_secs(20);

/// Dials that may be under way; further ones are refused. Connections from others reach the swarm
/// only after their Hello.
const PENDING_LIMIT: u32 = 256;

/// Links with one device: two through relays that were dialled at the same time, four that replace
/// them, and one after a restart.
const LINKS_PER_DEVICE: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a member that met others at a hub only heard of a removal some heartbeats later.
    #[test]
    fn a_hub_passes_changes_of_the_charter_on_to_all_at_once() {
        let organisation = OrganisationId::from_bytes([7; 32]);
        let meshes = |is_hub| {
            let config = gossip_config(organisation, is_hub).unwrap();
            Topic::ALL.map(|it| {
                let topic = topic(organisation, it).hash();
                (config.mesh_n_low_for_topic(&topic), config.mesh_n_high_for_topic(&topic))
            })
        };
        assert_eq!(meshes(false), [(2, 8), (2, 8)]);
        assert_eq!(meshes(true), [(2, 8), (HUB_MESH, HUB_MESH)]);
    }

    /// Regression: a peer that first sent a removal on the wrong topic kept it from all that had
    /// not received it yet. [PROTO-12.4]
    #[test]
    fn what_was_refused_on_one_topic_is_taken_on_the_other() {
        let organisation = OrganisationId::from_bytes([7; 32]);
        let config = gossip_config(organisation, false).unwrap();
        let [presence, charter] = Topic::ALL.map(|it| {
            let topic = topic(organisation, it).hash();
            let data = b"pieces".to_vec();
            config.message_id(&gossipsub::Message {
                source: None,
                data,
                sequence_number: None,
                topic,
            })
        });
        assert_ne!(presence, charter);
    }
}
