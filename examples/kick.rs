//! Three members and a relay in one loop, without a socket or a thread: shows who hears whom, and
//! what a kick changes. Members send keys to each other. Voice passes through the relay, which
//! holds none of the keys.
//!
//! ```sh
//! cargo run -p hark-examples --bin kick
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hark_charter::{
    Charter, Piece,
    content::{Change, Relay},
};
use hark_keys::{
    DeviceId, DeviceKey, KeySecret, List, SeededRandom, SenderKey, SenderKeyring, TargetId,
    Timestamp, UnixTime,
};
use hark_mesh::{
    Directory, Target,
    datagram::{Forward, FromRelay},
    forwarding::{ForwardRoute, Forwarder, Limits},
    hello::{PeerHello, Presence},
    squad::{DownReason, Handled, Persist, Service, Squad, SquadConfig, SquadEvent, SquadTransmit},
};

const NAMES: [&str; 4] = ["the relay", "Kestrel", "Heron", "Merlin"];
const RELAY: usize = 0;
const KESTREL: usize = 1;
const HERON: usize = 2;
const MERLIN: usize = 3;

/// A machine: its view of the organisation, and the commands that its voice received.
struct Machine {
    key: Arc<DeviceKey>,
    squad: Squad,
    seals: Option<SenderKey>,
    /// The keys of talkers that it was given.
    opens: BTreeMap<DeviceId, Vec<KeySecret>>,
}

/// All machines, and the relay's forwarder.
struct World {
    now: Timestamp,
    machines: Vec<Machine>,
    forwarder: Forwarder,
}

impl World {
    /// Kestrel founds the organisation and names the relay; the other two members are admitted.
    fn new() -> anyhow::Result<Self> {
        let (random, now) = (Arc::new(SeededRandom::new(1)), Timestamp::from_millis(1_000));
        let keys = NAMES.map(|_| Arc::new(DeviceKey::generate(&*random)));
        let founder = &keys[KESTREL];
        let mut charter = Charter::found("Aerie", "Lobby", founder, None, &*random);
        let founding = charter.member_of(founder.id());
        let relay = Relay {
            device: keys[RELAY].id(),
            name: "Eyrie".to_owned(),
            addresses: List::truncated(["192.0.2.1:7300".parse()?]),
            members_max: 0,
            rate_kbps: 0,
        };
        let named = charter.edit(founder, founding, vec![Change::Relay(relay)])?;
        charter.take(Piece::Operation(named))?;
        for key in &keys[HERON..] {
            charter.take(Piece::Certificate(charter.issue(
                founder,
                founding,
                key.id(),
                None,
            )?))?;
        }
        let charter = Arc::new(charter);
        let machines = keys.into_iter().zip(NAMES).enumerate().map(|(number, (key, name))| {
            let config = SquadConfig {
                charter: Arc::clone(&charter),
                key: Arc::clone(&key),
                member: (number != RELAY).then(|| charter.member_of(key.id())),
                relay_only: false,
                presence: Presence {
                    incarnation: 1,
                    name: name.to_owned(),
                    addresses: Vec::new(),
                    listening: Vec::new(),
                },
                directory: Directory::default(),
                generations: BTreeMap::new(),
                names: BTreeMap::new(),
                calendar: UnixTime::from_secs(1_800_000_000),
            };
            let squad = Squad::new(now, config, random.clone());
            Machine { key, squad, seals: None, opens: BTreeMap::new() }
        });
        let forwarder = Forwarder::new(Limits::default());
        let mut world = Self { now, machines: machines.collect(), forwarder };
        for at in 0..NAMES.len() {
            for peer in (0..NAMES.len()).filter(|peer| *peer != at) {
                let hello = world.hello(peer);
                world.machines[at].squad.handle_link_up(now, hello, None);
            }
        }
        Ok(world)
    }

    /// The contents of the handshake and Hello of a machine's link.
    fn hello(&self, of: usize) -> PeerHello {
        let Machine { key, squad, .. } = &self.machines[of];
        let charter = squad.charter();
        PeerHello {
            device: key.id(),
            member: squad.member(),
            chain: squad.member().map(|it| charter.chain_of(it)).unwrap_or_default(),
            added: Vec::new(),
            name: NAMES[of].to_owned(),
            incarnation: 1,
            addresses: Vec::new(),
            digest: charter.digest(),
            listening: squad.presence().listening.clone(),
        }
    }

    /// Runs the loop: time passes in steps of 10 ms, and what was sent arrives in the same step.
    fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.now = self.now + Duration::from_millis(10);
            let now = self.now;
            for machine in &mut self.machines {
                if machine.squad.poll_timeout().is_some_and(|due| due <= now) {
                    machine.squad.handle_timeout(now);
                }
            }
            while (0..NAMES.len()).any(|at| self.turn(at)) {}
        }
    }

    /// Does one thing that a machine's squad wants done; `false` if there is nothing to do.
    fn turn(&mut self, at: usize) -> bool {
        let (now, from) = (self.now, self.id(at));
        let squad = &mut self.machines[at].squad;
        if let Some(transmit) = squad.poll_transmit() {
            match transmit {
                SquadTransmit::Message { to, id, bytes } => {
                    self.message((at, from), to, id, &bytes);
                }
                SquadTransmit::Datagram { to, .. } => {
                    if let Some(to) = self.place(to) {
                        self.machines[to].squad.handle_heard(now, from);
                    }
                }
                // Gossip reaches all machines that are linked.
                SquadTransmit::Gossip(bytes) => {
                    for to in (0..NAMES.len()).filter(|to| *to != at) {
                        let _ = self.machines[to].squad.handle_gossip(now, Some(from), &bytes);
                    }
                }
                SquadTransmit::Check { .. } => {}
            }
        } else if let Some(dial) = squad.poll_dial(now) {
            squad.handle_dial_failed(now, &dial);
        } else if let Some(job) = squad.poll_job(now) {
            squad.handle_job(now, job.run());
        } else if let Some(persist) = squad.poll_persist() {
            match persist {
                Persist::Generation(target, number) => squad.handle_persisted(now, target, number),
                Persist::Charter(number, _) => squad.handle_charter_persisted(now, number),
            }
        } else if let Some(event) = squad.poll_event() {
            self.event(at, event);
        } else {
            return false;
        }
        true
    }

    /// Delivers a control message, and its acknowledgement.
    fn message(&mut self, (at, from): (usize, DeviceId), to: DeviceId, id: u64, bytes: &[u8]) {
        let (now, Some(place)) = (self.now, self.place(to)) else { return };
        let squad = &mut self.machines[place].squad;
        let mut taken = squad.handle_message(now, from, bytes).map(|handled| {
            if let Handled::Later(_) = handled {
                while let Some(job) = squad.poll_job(now) {
                    squad.handle_job(now, job.run());
                }
            }
        });
        while let Some((_, verdict)) = squad.poll_verdict() {
            taken = verdict;
        }
        let squad = &mut self.machines[at].squad;
        match taken {
            Ok(()) => squad.handle_delivered(now, to, id),
            Err(_) => squad.handle_failed(now, to, id),
        }
    }

    fn event(&mut self, at: usize, event: SquadEvent) {
        let (now, id) = (self.now, self.id(at));
        let machine = &mut self.machines[at];
        match event {
            SquadEvent::OwnKey { target, secret } => {
                machine.seals = Some(SenderKey::new(target, id, &secret));
            }
            SquadEvent::TalkerKey { device, secret, .. } => {
                machine.opens.entry(device).or_default().push(secret);
            }
            SquadEvent::Serve(service) => self.serve(service),
            SquadEvent::CharterChanged if at == RELAY => {
                self.forwarder.set_state(machine.squad.charter().state());
            }
            SquadEvent::Evicted { device } => {
                println!("{} closes its link to a device that does not belong.", NAMES[at]);
                machine.squad.handle_link_down(now, device, DownReason::Refused);
            }
            SquadEvent::Removed => println!("{} does not belong any more.", NAMES[at]),
            _ => {}
        }
    }

    /// Does for the forwarder what a relay's squad asks of it.
    fn serve(&mut self, service: Service) {
        let now = self.now;
        let relay = &mut self.machines[RELAY].squad;
        let slot = |forwarder: &Forwarder, device| forwarder.slot_of(device).expect("attached");
        match service {
            Service::Attach { device, member } => {
                self.forwarder.set_state(relay.charter().state());
                let slot = self.forwarder.attach(now, device, member).expect("there is room");
                relay.handle_attached(now, device, slot.number());
            }
            Service::Detach(device) => self.forwarder.detach(now, device),
            Service::Listening { device, channels } => {
                self.forwarder.set_listening(slot(&self.forwarder, device), channels);
            }
            Service::Route { device, target, only } => {
                let tag = relay.charter().target_tag(target.id());
                let route = ForwardRoute { tag, target, only: only.map(List::truncated) };
                let _ = self.forwarder.set_route(slot(&self.forwarder, device), route);
            }
            Service::Stop => {}
        }
    }

    /// A member says something. Returns what each other member makes of what the relay delivers.
    fn say(&mut self, talker: usize, words: &[u8], number: u16) -> BTreeMap<&'static str, String> {
        let (device, channel) = (self.id(talker), self.channel());
        let target = TargetId::of_channel(channel);
        let tag = self.machines[talker].squad.charter().target_tag(target);
        let slot = self.forwarder.slot_of(device).expect("attached");
        let route = ForwardRoute { tag, target: Target::of_channel(channel), only: None };
        self.forwarder.set_route(slot, route).expect("one route is not too many");
        let key = self.machines[talker].seals.as_mut().expect("it has a key for the channel");
        let (mut frame, mut datagram) = (Vec::new(), Vec::new());
        key.seal(words, &mut frame).expect("the key is fresh");
        Forward::encode(30, tag, number, [frame.as_slice()], &mut datagram);
        self.forwarder.handle_datagram(self.now, slot, &datagram).expect("a route was declared");
        let mut brought = Vec::new();
        while let Some(transmit) = self.forwarder.poll_transmit(self.now) {
            if let Ok(FromRelay::Forwarded(it)) = FromRelay::parse(transmit.bytes) {
                brought.push((transmit.to, it.voice.frames.iter().next().map(|it| it.to_vec())));
            }
        }
        let mut heard = BTreeMap::new();
        for (slot, frame) in brought {
            let to = self.forwarder.device_of(slot).and_then(|to| self.place(to));
            let to = to.expect("one of these");
            heard.insert(NAMES[to], self.open(to, device, frame.as_deref()));
        }
        // What if the relay, which nobody needs to trust, had delivered it to all members:
        for to in [KESTREL, HERON, MERLIN].into_iter().filter(|to| *to != talker) {
            let opened = self.open(to, device, Some(&frame));
            heard.entry(NAMES[to]).or_insert(format!("gets nothing, and {opened}"));
        }
        heard
    }

    fn open(&self, at: usize, talker: DeviceId, frame: Option<&[u8]>) -> String {
        let mut ring = SenderKeyring::new(TargetId::of_channel(self.channel()), talker);
        for secret in self.machines[at].opens.get(&talker).into_iter().flatten() {
            ring.install(self.now, secret);
        }
        let mut words = Vec::new();
        match ring.open(self.now, frame.unwrap_or_default(), &mut words) {
            Ok(_) => format!("hears {:?}", String::from_utf8_lossy(&words)),
            Err(error) => format!("could not open it: {error}"),
        }
    }

    fn channel(&self) -> hark_keys::ChannelId {
        let state = self.machines[KESTREL].squad.charter().state();
        state.channels().next().expect("the lobby").id
    }

    fn id(&self, at: usize) -> DeviceId {
        self.machines[at].key.id()
    }

    fn place(&self, device: DeviceId) -> Option<usize> {
        (0..NAMES.len()).find(|at| self.id(*at) == device)
    }
}

fn main() -> anyhow::Result<()> {
    let mut world = World::new()?;
    world.run_for(5);
    println!("Kestrel says hello by the relay: {:?}", world.say(KESTREL, b"hello", 1));
    println!("Kestrel kicks Merlin.");
    let member = world.machines[MERLIN].squad.member().expect("it was admitted");
    let charter = world.machines[KESTREL].squad.charter();
    let admission = charter.state().removals(member) + 1;
    let (now, remove) = (world.now, Change::Remove { member, admission });
    world.machines[KESTREL].squad.edit(now, vec![remove])?;
    world.run_for(5);
    println!("Kestrel says: he is gone: {:?}", world.say(KESTREL, b"he is gone", 2));
    Ok(())
}
