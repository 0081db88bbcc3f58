//! A relay with its members, and what it did while they talked.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use hark_keys::{DeviceId, DeviceKey};
use hark_mesh::Target;
use hark_node::link::DatagramSender;
use tokio::runtime::Handle;

use crate::{
    member::{Heard, Member},
    process::{Organisation, RunningRelay, start},
    sockets::Sweeper,
    talk::{Speech, Talker, report},
};

/// A running relay, and the members attached to it. The first members talk, and all listen.
pub(crate) struct Room {
    // This field is dropped first, so that nobody waits for goodbyes.
    pub(crate) relay: RunningRelay,
    pub(crate) organisation: Organisation,
    charter: Arc<hark_charter::Charter>,
    pub(crate) members: Vec<Member>,
    talkers: Vec<Talker>,
    talkers_max: usize,
    pub(crate) heard: Arc<Heard>,
    pub(crate) sweeper: Sweeper,
    /// The runtime that drives the links.
    pub(crate) links: Handle,
    /// How many times a second each listener sends a report on each talker.
    pub(crate) reports: u32,
}

/// The result of a talkspurt of all talkers.
pub(crate) struct Delivery {
    /// The frames that should have arrived, and those that did.
    pub(crate) expected: u64,
    pub(crate) frames: u64,
    /// The packets in which the frames arrived.
    pub(crate) packets: u64,
    pub(crate) lasted: Duration,
    /// The relay's processor time.
    pub(crate) cpu: Duration,
    /// The time from sending to arrival at some of the listeners, in microseconds.
    pub(crate) ages: Vec<u32>,
}

impl Delivery {
    /// Processor seconds per million delivered frames.
    pub(crate) fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.frames as f64
    }

    /// The share of frames that were lost, in percent.
    pub(crate) fn loss(&self) -> f64 {
        (1.0 - self.frames as f64 / self.expected as f64) * 100.0
    }

    pub(crate) fn rate(&self) -> f64 {
        self.frames as f64 / self.lasted.as_secs_f64()
    }
}

impl Room {
    /// Starts the relay `program` in `home` for `members` members, of whom `talkers_max` talk, with
    /// the charter that `prepare` makes. No member has joined yet.
    pub(crate) fn open(
        (program, home): (&Path, &Path),
        members: usize,
        talkers_max: usize,
        prepare: impl FnOnce(&mut Organisation) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let (organisation, relay) = start(program, home, members, prepare)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let links = runtime.handle().clone();
        // The threads that talk and read are others. This thread ends with the program.
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        let talking = organisation.members.iter().take(talkers_max).map(DeviceKey::id);
        let heard = Heard::new(talking.collect::<Vec<DeviceId>>());
        let charter = Arc::new(organisation.charter.clone());
        let (members, talkers, sweeper) = (Vec::new(), Vec::new(), Sweeper::start());
        let (talkers_max, reports) = (talkers_max, 0);
        Ok(Self {
            relay,
            organisation,
            charter,
            members,
            talkers,
            talkers_max,
            heard,
            sweeper,
            links,
            reports,
        })
    }

    /// Lets members join, several at a time, until there are `count`.
    pub(crate) fn fill(&mut self, count: usize) -> anyhow::Result<()> {
        let from = self.members.len();
        let (keys, relay) = (&self.organisation.members, (self.relay.key, self.relay.address));
        let joining = (from..count).map(|number| {
            let heard = Arc::clone(&self.heard);
            let sampled = number.is_multiple_of(SAMPLED);
            Member::join(&keys[number], &self.charter, relay, heard, (&self.sweeper, sampled))
        });
        let channel = self.organisation.channel;
        let (talkers, talkers_max) = (&mut self.talkers, self.talkers_max);
        let tag = self.charter.target_tag(Target::of_channel(channel).id());
        let relay = self.relay.key;
        let joined = self.links.block_on(async {
            let joined: Vec<_> = stream::iter(joining).buffered(AT_ONCE).try_collect().await?;
            for (number, member) in (from..).zip(&joined) {
                member.until_fast().await?;
                if number < talkers_max {
                    member.route(Target::of_channel(channel)).await?;
                    let outlet = member.links.outlet(relay).context("the link has ended")?;
                    talkers.push(Talker::new(outlet, tag));
                }
            }
            anyhow::Ok(joined)
        })?;
        self.members.extend(joined);
        Ok(())
    }

    /// Lets the talkers talk, while all members listen.
    pub(crate) fn talk(&mut self, speech: Speech) -> anyhow::Result<Delivery> {
        let relay = self.relay.key;
        let outlets: Option<Vec<Arc<DatagramSender>>> =
            self.members.iter().map(|member| member.links.outlet(relay)).collect();
        let outlets = outlets.context("a member has lost its link")?;
        let over = AtomicBool::new(false);
        self.heard.take_ages();
        let (before, cpu, begun) = (self.counted(), self.relay.process.cpu()?, Instant::now());
        let (heard, talkers, rate) = (&self.heard, &mut self.talkers, self.reports);
        let (spoken, lasted) = std::thread::scope(|scope| {
            scope.spawn(|| report(&outlets, heard, rate, &over));
            let spoken = speech.run(|talker| talkers[talker].send(talker, heard));
            let lasted = begun.elapsed();
            over.store(true, Ordering::Relaxed);
            (spoken, lasted)
        });
        std::thread::sleep(STRAGGLERS);
        let cpu = self.relay.process.cpu()?.saturating_sub(cpu);
        let after = self.counted();
        Ok(Delivery {
            expected: spoken * (self.members.len() as u64 - 1),
            frames: after.0 - before.0,
            packets: after.1 - before.1,
            lasted,
            cpu,
            ages: self.heard.take_ages(),
        })
    }

    /// How often members have lost their links.
    pub(crate) fn downs(&self) -> u64 {
        self.members.iter().map(Member::downs).sum()
    }

    /// The frames and packets that have arrived.
    fn counted(&self) -> (u64, u64) {
        let tallies = self.members.iter().map(|member| &member.socket.tally);
        tallies.fold((0, 0), |(frames, packets), tally| {
            let more = (&tally.frames, &tally.packets);
            (frames + more.0.load(Ordering::Relaxed), packets + more.1.load(Ordering::Relaxed))
        })
    }
}

/// One listener in this many looks into its packets.
pub(crate) const SAMPLED: usize = 16;

/// How many members join at the same time.
const AT_ONCE: usize = 8;

/// How long to wait, after the last frame, for what is under way.
const STRAGGLERS: Duration = Duration::from_millis(300);
