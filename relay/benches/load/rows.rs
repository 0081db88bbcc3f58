//! The measurements, one after the other.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::Ordering,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    bare::Bare,
    dear,
    quantile::{median, quantile},
    room::{Delivery, Room},
    squads::Squads,
    table::Table,
    talk::Speech,
};

/// The command-line options of the measurement.
#[derive(clap::Parser)]
pub(crate) struct Options {
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Measure one room with this many members, instead of the table
    #[arg(long)]
    members: Option<usize>,
    /// Measure this many whole squads with keys and charter, which share an epoch, instead of the
    /// table
    #[arg(long, conflicts_with = "members")]
    squads: Option<usize>,
    /// How many members of the room talk
    #[arg(long, default_value_t = 5)]
    talkers: usize,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Have all talkers send at the same moment
    #[arg(long)]
    at_once: bool,
    /// How often to measure the relay, each time together with the bare loop
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many reports each listener sends on each talker in a second, as where voice gets lost
    /// [PROTO-9.8]
    #[arg(long, default_value_t = 0)]
    reports: u32,
    /// Only stay silent for the given time, and measure that
    #[arg(long)]
    silent: bool,
    /// Let an officer send the most expensive messages at 1 Mbit/s meanwhile, one kind at a time
    #[arg(long, requires = "members")]
    dear: bool,
    /// Let the talkers send more than the relay can forward, and measure how old it is on arrival
    #[arg(long)]
    overload: bool,
    /// Use another build of the relay instead of the one beside this program
    #[arg(long, default_value = env!("CARGO_BIN_EXE_hark-relay"))]
    program: PathBuf,
}

/// Measures, and prints a table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut table = Table::default();
    let home = tempfile::tempdir()?;
    let relay = (options.program.as_path(), home.path());
    if let Some(count) = options.squads {
        share(&mut table, &mut Squads::open(relay, count)?, count)?;
        table.print("An epoch by one relay, over loopback", "bar");
        return Ok(());
    }
    match options.members {
        Some(members) => {
            let mut room = match options.dear {
                true => Room::open(relay, members, options.talkers, dear::prepare)?,
                false => Room::open(relay, members, options.talkers, |_| Ok(()))?,
            };
            room.reports = options.reports;
            joins(&mut table, &mut room, members)?;
            if options.silent {
                idle(&mut table, &room, options.lasting())?;
            } else if options.dear {
                dear(&mut table, &mut room, options.speech(options.talkers, false))?;
            } else if options.overload {
                overload(&mut table, &mut room, options.speech(options.talkers, false))?;
            } else {
                let speech = options.speech(options.talkers, options.at_once);
                compare(&mut table, &mut room, speech, options.rounds)?;
            }
        }
        None => all(&mut table, &mut Room::open(relay, 1_000, OVERLOAD, |_| Ok(()))?, options)?,
    }
    table.print("The relay, over loopback", "bar");
    Ok(())
}

impl Options {
    fn lasting(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn speech(&self, talkers: usize, at_once: bool) -> Speech {
        Speech { talkers, lasting: self.lasting(), at_once }
    }
}

fn all(table: &mut Table, room: &mut Room, options: &Options) -> anyhow::Result<()> {
    room.reports = options.reports;
    let mut joined = joins(table, room, 100)?;
    compare(table, room, options.speech(5, false), options.rounds)?;
    compare(table, room, options.speech(20, true), options.rounds)?;
    joined.extend(joins(table, room, 500)?);
    idle(table, room, 2 * options.lasting())?;
    compare(table, room, options.speech(5, false), options.rounds)?;
    joined.extend(joins(table, room, 1_000)?);
    compare(table, room, options.speech(5, false), options.rounds)?;
    overload(table, room, options.speech(OVERLOAD, false))
}

/// Squads agree on one key, hear each other by it, and lose one of them.
fn share(table: &mut Table, squads: &mut Squads, count: usize) -> anyhow::Result<()> {
    let took = squads.wait(&[])?;
    eprintln!("  {count} share an epoch after {:.1} s", took.as_secs_f64());
    for talker in [0, count / 2] {
        let opened = squads.speak(talker, FRAMES)?;
        let others = opened.iter().enumerate().filter(|(number, _)| *number != talker);
        let fewest = others.map(|(_, opened)| *opened).min().unwrap_or(0);
        let share = fewest as f64 * 100.0 / f64::from(FRAMES);
        table.held(
            &format!("{count} squads: lost by the one who hears least"),
            100.0 - share,
            "%",
            1.0,
        );
    }
    let (took, dealt) = squads.kick(count - 1)?;
    let name = format!("{count} squads: all on the next epoch after a kick");
    table.held(&name, took.as_secs_f64() * 1_000.0, "ms", 1_000.0);
    let name = format!("{count} squads: the steward's uplink for it");
    table.held(&name, dealt as f64 / 1_000.0, "kB", 40.0);
    let opened = squads.speak(1, FRAMES)?;
    anyhow::ensure!(opened[count - 1] == 0, "whoever was kicked hears on");
    Ok(())
}

/// Members join. For each hundred, returns what one of them has cost, in milliseconds of the
/// relay's processor time.
fn joins(table: &mut Table, room: &mut Room, until: usize) -> anyhow::Result<Vec<f64>> {
    let (from, memory) = (room.members.len(), room.relay.process.memory()?);
    let mut costs = Vec::new();
    while room.members.len() < until {
        let before = room.members.len();
        let idle = used(room, Duration::from_secs(1))?;
        let (begun, cpu) = (Instant::now(), room.relay.process.cpu()?);
        room.fill(until.min(before + 100))?;
        // Gossip continues for a moment.
        sleep(Duration::from_secs(2));
        let cpu = room.relay.process.cpu()?.saturating_sub(cpu).as_secs_f64();
        let more = cpu - idle * begun.elapsed().as_secs_f64();
        costs.push(more * 1_000.0 / (room.members.len() - before) as f64);
        eprintln!("  {} are there, {:.2} ms each", room.members.len(), costs[costs.len() - 1]);
    }
    let largest = costs.iter().copied().fold(f64::NAN, f64::max);
    let name = format!("members {} to {until}: CPU of a join, the dearest hundred", from + 1);
    table.held(&name, largest, "ms", 2.0);
    let memory = room.relay.process.memory()?.saturating_sub(memory) as f64 / 1_024.0;
    let name = format!("members {} to {until}: memory each", from + 1);
    table.held(&name, memory / (until - from) as f64, "KiB", 96.0);
    Ok(costs)
}

/// The share of a core that the relay uses, from 0 to 1.
fn used(room: &Room, lasting: Duration) -> anyhow::Result<f64> {
    let (begun, cpu) = (Instant::now(), room.relay.process.cpu()?);
    sleep(lasting);
    let cpu = room.relay.process.cpu()?.saturating_sub(cpu);
    Ok(cpu.as_secs_f64() / begun.elapsed().as_secs_f64())
}

fn idle(table: &mut Table, room: &Room, lasting: Duration) -> anyhow::Result<()> {
    // Members that have just joined are still gossiped about.
    sleep(Duration::from_secs(20));
    let name = format!("{} silent members", room.members.len());
    table.held(&name, used(room, lasting)? * 100.0, "% of a core", 2.0);
    Ok(())
}

/// Measures the relay and the bare loop in turns.
fn compare(
    table: &mut Table,
    room: &mut Room,
    speech: Speech,
    rounds: usize,
) -> anyhow::Result<()> {
    let addresses: Result<Vec<SocketAddr>, _> =
        room.members.iter().map(|member| member.socket.address()).collect();
    let bare = Bare::start(&addresses?)?;
    // This sends the introductions, and does the work that a fan-out needs only once.
    room.talk(Speech { lasting: Duration::from_secs(1), ..speech })?;
    let (mut deliveries, mut alone, mut ages) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let delivery = room.talk(speech)?;
        let (cost, more) = bare_cost(room, &bare, speech)?;
        let (rate, loss) = (delivery.rate(), delivery.loss());
        let own = delivery.cost();
        eprintln!("  round {round}: {rate:.0}/s, {own:.3} and {cost:.3} CPU-s/M, loss {loss:.3} %");
        deliveries.push(delivery);
        alone.push(cost);
        ages.extend(more);
    }
    let (members, phases) = (room.members.len(), if speech.at_once { " at once" } else { "" });
    let name = format!("{members} members, {} talkers{phases}", speech.talkers);
    let each = |of: fn(&Delivery) -> f64| median(&deliveries.iter().map(of).collect::<Vec<_>>());
    let ratios: Vec<_> =
        deliveries.iter().zip(&alone).map(|(delivery, alone)| delivery.cost() / alone).collect();
    let limit = format!("the bare loop: {:.2}", median(&alone));
    if speech.at_once {
        table.held(&format!("{name}: CPU-s/M"), each(Delivery::cost), "", 1.5);
    } else {
        table.shown(&format!("{name}: CPU-s/M"), each(Delivery::cost), "", &limit);
        table.held(&format!("{name}: times the bare loop"), median(&ratios), "", 1.1);
    }
    table.shown(&format!("{name}: frames delivered"), each(Delivery::rate), "a second", "");
    let packets = each(|it| it.frames as f64 / it.packets as f64);
    table.shown(&format!("{name}: frames in a packet"), packets, "", "");
    let lost: u64 = deliveries.iter().map(|it| it.expected.saturating_sub(it.frames)).sum();
    let all: u64 = deliveries.iter().map(|it| it.expected).sum();
    table.held(&format!("{name}: lost of {all}"), lost as f64, "", 0.0);
    let own: Vec<u32> = deliveries.into_iter().flat_map(|it| it.ages).collect();
    for (share, which, bar) in [(0.5, "median", 1.0), (0.99, "99th", 3.0)] {
        let limit = in_ms(&ages, share);
        let (name, age) = (format!("{name}: added delay, {which}"), in_ms(&own, share));
        if members == 500 {
            table.held(&name, age, "ms", bar);
        } else {
            table.shown(&name, age, "ms", &format!("the bare loop: {limit:.2} ms"));
        }
    }
    Ok(())
}

/// The seconds that the bare loop needs for a million packets, and the ages of the packets.
fn bare_cost(room: &Room, bare: &Bare, speech: Speech) -> anyhow::Result<(f64, Vec<u32>)> {
    let came = || -> u64 {
        room.members.iter().map(|it| it.socket.tally.bare.load(Ordering::Relaxed)).sum()
    };
    room.sweeper.take_ages();
    let (before, cpu) = (came(), bare.process.cpu()?);
    let mut result = Ok(());
    speech.run(|talker| {
        if let Err(error) = bare.send(talker) {
            result = Err(error);
        }
    });
    result?;
    sleep(Duration::from_millis(300));
    let cpu = bare.process.cpu()?.saturating_sub(cpu);
    let came = came() - before;
    Ok((cpu.as_secs_f64() * 1e6 / came as f64, room.sweeper.take_ages()))
}

/// Measures with more talkers than the relay can forward to all: only fresh frames should arrive,
/// and no member should be lost.
fn overload(table: &mut Table, room: &mut Room, speech: Speech) -> anyhow::Result<()> {
    let downs = room.downs();
    let delivery = room.talk(speech)?;
    let (asked, rate) = (delivery.expected as f64 / delivery.lasted.as_secs_f64(), delivery.rate());
    let name = format!("{} members, {} talkers", room.members.len(), speech.talkers);
    let beside = format!("{asked:.0} a second are asked for");
    table.shown(&format!("{name}: frames delivered"), rate, "a second", &beside);
    let busy = delivery.cpu.as_secs_f64() / delivery.lasted.as_secs_f64() * 100.0;
    table.shown(&format!("{name}: the relay's time"), busy, "% of a core", "");
    table.held(&format!("{name}: oldest when it came"), in_ms(&delivery.ages, 1.0), "ms", 100.0);
    let age = in_ms(&delivery.ages, 0.99);
    table.shown(&format!("{name}: added delay, 99th"), age, "ms", "");
    let after = room.talk(Speech { talkers: 5, lasting: Duration::from_secs(1), ..speech })?;
    let lost = after.expected.saturating_sub(after.frames) as f64;
    table.held(&format!("the second after, 5 talkers: lost of {}", after.expected), lost, "", 0.0);
    table.shown("the second after: oldest", in_ms(&after.ages, 1.0), "ms", "");
    table.held(&format!("{name}: links lost"), (room.downs() - downs) as f64, "", 0.0);
    Ok(())
}

/// Measures speech while an officer of the organisation sends what costs the relay most.
fn dear(table: &mut Table, room: &mut Room, speech: Speech) -> anyhow::Result<()> {
    room.talk(Speech { lasting: Duration::from_secs(1), ..speech })?;
    let alone = room.talk(speech)?;
    let oldest = in_ms(&alone.ages, 1.0);
    let lost = alone.expected.saturating_sub(alone.frames) as f64;
    table.shown(&format!("nobody floods: lost of {}", alone.expected), lost, "", "");
    table.shown("nobody floods: added delay, oldest", oldest, "ms", "");
    for kind in dear::KINDS {
        let flood = dear::Flood::start(room, kind)?;
        let delivery = room.talk(speech)?;
        let sent = flood.stop();
        let rate = sent as f64 * 8.0 / delivery.lasted.as_secs_f64() / 1e6;
        table.held(&format!("{kind}: lost"), delivery.loss(), "%", 1.0);
        let late = in_ms(&delivery.ages, 1.0);
        table.held(&format!("{kind}: added delay, oldest"), late, "ms", oldest + 20.0);
        let busy = delivery.cpu.as_secs_f64() / delivery.lasted.as_secs_f64() * 100.0;
        let beside = format!("{rate:.2} Mbit/s were sent");
        table.shown(&format!("{kind}: the relay's time"), busy, "% of a core", &beside);
    }
    Ok(())
}

/// The age in milliseconds that this share of the ages (in microseconds) does not exceed.
fn in_ms(ages: &[u32], share: f64) -> f64 {
    let ages: Vec<_> = ages.iter().map(|age| f64::from(*age) / 1_000.0).collect();
    quantile(&ages, share)
}

/// How many frames a talker sends among squads.
const FRAMES: u32 = 100;

/// How many talkers are more than one core can forward to a thousand listeners.
const OVERLOAD: usize = 120;
