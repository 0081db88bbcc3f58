//! A member as the relay sees it: a link that carries everything that a node sends, without a node.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use futures::StreamExt;
use hark_charter::Charter;
use hark_keys::{DeviceId, DeviceKey, Invite, List, Signed, Timestamp};
use hark_mesh::{
    MemberRecord, Target,
    datagram::{FromRelay, Heartbeat, Slot},
    hello::Presence,
    message::{Acknowledgement, Message, Route, Topic},
};
use hark_node::{
    admission::{Doorkeeper, UseCounter},
    clock::Clock,
    link::{LinkEvent, LinkTransport, Links, multiaddr_of},
    random::SystemRandom,
    swarm::{
        behaviour::{Behaviour, BehaviourEvent, topic},
        compact::Compact,
    },
};
use libp2p::{
    Swarm, Transport, gossipsub, request_response,
    swarm::{SwarmEvent, dial_opts::DialOpts},
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{MissedTickBehavior, interval_at},
};

use crate::{
    clock::{age_of, short},
    sockets::{MemberSocket, OneSocket, Sweeper},
};

/// The talkers' slots, the times when talkers sent datagrams, and the ages of the datagrams that
/// arrived.
pub(crate) struct Heard {
    talkers: HashMap<DeviceId, usize>,
    slots: Mutex<HashMap<Slot, usize>>,
    /// For each talker, when its datagrams were sent, by the lower bits of their sequence numbers.
    sent: Vec<Vec<AtomicU64>>,
    ages: Mutex<Vec<u32>>,
}

impl Heard {
    pub(crate) fn new(talkers: impl IntoIterator<Item = DeviceId>) -> Arc<Self> {
        let talkers: HashMap<_, _> =
            talkers.into_iter().enumerate().map(|(number, device)| (device, number)).collect();
        let sent = talkers.iter().map(|_| (0..SENT_KEPT).map(|_| AtomicU64::new(0)).collect());
        let (sent, slots, ages) = (sent.collect(), Mutex::default(), Mutex::default());
        Arc::new(Self { talkers, slots, sent, ages })
    }

    /// Notes when a talker's datagram is sent.
    pub(crate) fn note_sent(&self, talker: usize, sequence: u16, stamp: u64) {
        let place = usize::from(sequence) % SENT_KEPT;
        self.sent[talker][place].store(stamp, Ordering::Relaxed);
    }

    /// The slots of the talkers that have been introduced.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The ages, in microseconds, of what was heard since the last call.
    pub(crate) fn take_ages(&self) -> Vec<u32> {
        std::mem::take(&mut *self.ages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Handles a datagram that has arrived. Its age counts only if the member is `sampled`, since
    /// other members see only a few of their datagrams.
    fn take(&self, datagram: &[u8], came: u64, sampled: bool) {
        let forwarded = |slot: Slot, sequence: u16| {
            if !sampled {
                return;
            }
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(talker) = slots.get(&slot).copied() else { return };
            drop(slots);
            let sent = self.sent[talker][usize::from(sequence) % SENT_KEPT].load(Ordering::Relaxed);
            let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
            ages.push(age_of(short(sent), came));
        };
        match FromRelay::parse(datagram) {
            Ok(FromRelay::Forwarded(it)) => forwarded(it.slot, it.voice.sequence),
            Ok(FromRelay::Bundle(bundle)) => {
                bundle.iter().for_each(|it| forwarded(it.slot, it.voice.sequence));
            }
            Ok(FromRelay::Introduction(it)) => {
                if let Some(talker) = self.talkers.get(&it.device) {
                    let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
                    slots.insert(it.slot, *talker);
                }
            }
            // Nothing else that a relay sends needs a reaction here.
            _ => {}
        }
    }
}

/// One attached member.
pub(crate) struct Member {
    pub(crate) links: Arc<Links>,
    pub(crate) socket: Arc<MemberSocket>,
    /// Messages to the relay, each with a channel that reports when the relay has taken it.
    pub(crate) messages: UnboundedSender<(Vec<u8>, oneshot::Sender<()>)>,
    relay: DeviceId,
    down: Arc<AtomicU64>,
}

impl Member {
    /// Links the device of `key` to the relay.
    pub(crate) async fn join(
        key: &DeviceKey,
        charter: &Arc<Charter>,
        (relay, address): (DeviceId, SocketAddr),
        heard: Arc<Heard>,
        (sweeper, sampled): (&Sweeper, bool),
    ) -> anyhow::Result<Self> {
        let copy = || DeviceKey::from_secret(&key.secret());
        let socket = MemberSocket::new(sampled)?;
        sweeper.add(Arc::clone(&socket));
        let member = charter.member_of(key.id());
        let channel = charter.first_channel(member).context("no channel to hear")?.id;
        let presence = Presence {
            incarnation: 1,
            name: "Kestrel".to_owned(),
            addresses: vec![socket.address()?],
            listening: vec![channel],
        };
        let record = MemberRecord {
            device: key.id(),
            name: presence.name.clone(),
            addresses: List::truncated(presence.addresses.iter().copied()),
            chain: charter.chain_of(member),
            sequence_number: 1,
        };
        let record = Message::of_records([&Signed::sign(record, key)]).swap_remove(0);
        let counter = Box::new(NoTickets);
        let door =
            Doorkeeper::member(copy(), Arc::clone(charter), member, presence, Clock, counter);
        let (events, mut happened) = unbounded_channel();
        let came = Arc::clone(&socket);
        let handler = Arc::new(move |_: Timestamp, _: DeviceId, datagram: bytes::Bytes| {
            came.tally.count(&datagram);
            heard.take(&datagram, came.came.load(Ordering::Relaxed), sampled);
        });
        let links = Links::new(key.id(), Clock, events, handler);
        let (binder, shared) = (Box::new(OneSocket(Arc::clone(&socket))), Arc::clone(&links));
        let random = Arc::new(SystemRandom);
        let transport =
            LinkTransport::new(Arc::new(copy()), random, binder, Arc::new(door), shared)
                .map(|(peer, muxer), _| (peer, libp2p::core::muxing::StreamMuxerBox::new(muxer)))
                .boxed();
        let behaviour = Compact(Behaviour::new(key, charter.organisation(), false, 8, false)?);
        let config = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(Duration::from_secs(1 << 20));
        let mut swarm = Swarm::new(transport, behaviour, key.id().peer_id(), config);
        let dial = DialOpts::peer_id(relay.peer_id()).addresses(vec![multiaddr_of(address)]);
        swarm.dial(dial.build())?;
        let (messages, waiting) = unbounded_channel();
        let (up, linked) = oneshot::channel();
        let down = Arc::new(AtomicU64::new(0));
        let downs = Arc::clone(&down);
        tokio::spawn(async move {
            let mut up = Some(up);
            while let Some(event) = happened.recv().await {
                match event {
                    LinkEvent::Up(_) => drop(up.take().map(|up| up.send(()))),
                    LinkEvent::Changed(_) | LinkEvent::Visit(_) | LinkEvent::VisitEnded(_) => {}
                    LinkEvent::Down(..) => drop(downs.fetch_add(1, Ordering::Relaxed)),
                }
            }
        });
        let topic = topic(charter.organisation(), Topic::Presence);
        let driver = Driver {
            swarm,
            links: Arc::clone(&links),
            relay,
            topic,
            record: record.clone(),
            waiting,
        };
        tokio::spawn(driver.run());
        let patience = tokio::time::timeout(PATIENCE, linked).await;
        patience.context("the relay does not take a link")??;
        let member = Self { links, socket, messages, relay, down };
        member.tell(record).await?;
        Ok(member)
    }

    /// Sends a message to the relay and waits until it is answered.
    async fn tell(&self, message: Vec<u8>) -> anyhow::Result<()> {
        let (answered, answer) = oneshot::channel();
        self.messages.send((message, answered)).context("the member has ended")?;
        tokio::time::timeout(PATIENCE, answer).await.context("a message is not answered")??;
        Ok(())
    }

    /// Declares a route to all devices that hear `target`.
    pub(crate) async fn route(&self, target: Target) -> anyhow::Result<()> {
        self.tell(Message::Route(Route { number: 1, target, only: None }).encode()).await
    }

    /// Waits until datagrams from this end are sent by the fast path.
    pub(crate) async fn until_fast(&self) -> anyhow::Result<()> {
        let fast = async {
            while !self.links.outlet(self.relay).is_some_and(|outlet| outlet.is_fast()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, fast).await.context("the fast path does not work")
    }

    /// How often the member has lost its link.
    pub(crate) fn downs(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }
}

/// Does on a link what a node would do.
struct Driver {
    swarm: Swarm<Compact<Behaviour>>,
    links: Arc<Links>,
    relay: DeviceId,
    topic: gossipsub::IdentTopic,
    record: Vec<u8>,
    waiting: UnboundedReceiver<(Vec<u8>, oneshot::Sender<()>)>,
}

impl Driver {
    async fn run(mut self) {
        let mut asked = HashMap::new();
        let mut heartbeats = 0;
        let start = tokio::time::Instant::now() + HEARTBEAT;
        let mut turns = interval_at(start, HEARTBEAT);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.handle(event, &mut asked),
                message = self.waiting.recv() => {
                    let Some((bytes, answered)) = message else { return };
                    let messages = &mut self.swarm.behaviour_mut().messages;
                    asked.insert(messages.send_request(&self.relay.peer_id(), bytes), answered);
                }
                _ = turns.tick() => {
                    heartbeats += 1;
                    let mut bytes = Vec::new();
                    Heartbeat { number: heartbeats }.encode(&mut bytes);
                    self.links.send_heartbeat(self.relay, &bytes.into());
                    if heartbeats == 1 {
                        // Every node does so when it has its first link.
                        let gossip = &mut self.swarm.behaviour_mut().gossip;
                        let _ = gossip.publish(self.topic.clone(), self.record.clone());
                    }
                }
            }
        }
    }

    fn handle(
        &mut self,
        event: SwarmEvent<BehaviourEvent>,
        asked: &mut HashMap<request_response::OutboundRequestId, oneshot::Sender<()>>,
    ) {
        let behaviour = self.swarm.behaviour_mut();
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Messages(request_response::Event::Message {
                message: request_response::Message::Request { channel, .. },
                ..
            })) => {
                let taken = Acknowledgement::Taken.encode().to_vec();
                let _ = behaviour.messages.send_response(channel, taken);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Messages(request_response::Event::Message {
                message: request_response::Message::Response { request_id, response },
                ..
            })) => {
                let answered = asked.remove(&request_id);
                if Acknowledgement::decode(&response) == Some(Acknowledgement::Taken) {
                    let _ = answered.map(|answered| answered.send(()));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                ..
            })) => {
                let accept = gossipsub::MessageAcceptance::Accept;
                let gossip = &mut behaviour.gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, accept);
            }
            _ => {}
        }
    }
}

/// Redeems no tickets, since nobody has one here.
struct NoTickets;

impl UseCounter for NoTickets {
    fn count(&self, _: &Invite, _: u8, _: DeviceId) -> std::io::Result<bool> {
        Ok(false)
    }
}

/// How many sending times are kept of each talker: those of 80 s.
const SENT_KEPT: usize = 4_096;

/// How often a heartbeat is sent. [PROTO-2.7]
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Nothing that succeeds takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
