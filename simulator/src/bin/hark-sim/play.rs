//! `hark-sim run` and `hark-sim list`.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::PoisonError,
};

use anyhow::Context;
use hark_keys::Timestamp;
use hark_node::wav::WavWriter;
use hark_simulator::{
    network::PacketWatcher,
    record::RunRecord,
    report::{self, PcapWriter, SNAP_LENGTH},
    scenario::{Cast, Scenario},
    world::{self, Options, Outcome},
};

use crate::{
    RunArguments,
    interpose::{real_cpu_time, real_elapsed},
};

pub(crate) fn run(arguments: &RunArguments) -> ExitCode {
    let path = find(&arguments.scenario);
    let cast = match Scenario::read(&path) {
        Ok(cast) => cast,
        Err(problem) => {
            eprintln!("hark-sim: {problem}");
            return ExitCode::from(2);
        }
    };
    match play(arguments, &path, &cast) {
        Ok(record) if record.failed() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hark-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &RunArguments, path: &Path, cast: &Cast) -> anyhow::Result<RunRecord> {
    let open = |path: &Path| File::create(path).with_context(|| path.display().to_string());
    let trace = arguments.trace.as_deref().map(open).transpose()?;
    let packets = match &arguments.report {
        None => None,
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            let file = BufWriter::new(open(&folder.join("packets.pcap"))?);
            Some(capture(file)?)
        }
    };
    let (begun, cpu_begun) = (real_elapsed(), real_cpu_time());
    let options = Options {
        seed: arguments.seed,
        trace: trace.map(|file| Box::new(BufWriter::new(file)) as _),
        packets,
        progress: io::stderr().is_terminal().then(|| progress(cast)),
        report: arguments.report.is_some(),
    };
    let Outcome { mut record, heard } = play_apart(cast, options)?;
    let (took, cpu) = (real_elapsed() - begun, real_cpu_time() - cpu_begun);
    record.replay = format!("hark-sim run {} --seed {}", path.display(), arguments.seed);
    if let Some(folder) = &arguments.report {
        for (member, heard) in record.members.iter_mut().zip(&heard) {
            let name = format!("heard-by-{}.wav", file_name(&member.name));
            let recording = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut wav = WavWriter::create(&folder.join(&name), 1)?;
            wav.push(&recording.samples)?;
            wav.flush()?;
            member.sound = Some(name);
        }
        let page = folder.join("report.html");
        std::fs::write(&page, report::page(&record)).with_context(|| page.display().to_string())?;
    }
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &record)?;
        writeln!(out)?;
        return Ok(record);
    }
    out.write_all(report::summary(&record, width()).as_bytes())?;
    let simulated = record.duration_s;
    let speed = simulated / cpu.as_secs_f64().max(1e-6);
    writeln!(
        out,
        "{simulated:.0} s of {} members in {:.1} s, {speed:.0} simulated seconds a second of one core; \
         trace {}",
        record.members.len(),
        took.as_secs_f64(),
        &record.trace_digest[..16],
    )?;
    if let Some(folder) = &arguments.report {
        writeln!(out, "report: {}", folder.join("report.html").display())?;
    }
    Ok(record)
}

/// Plays on a thread of its own, while this one waits: what the thread's hash tables and random
/// number generators begin with then comes from the seed, whatever this program has done before.
fn play_apart(cast: &Cast, options: Options) -> anyhow::Result<Outcome> {
    std::thread::scope(|scope| {
        let simulation =
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
                let outcome = world::play(cast, options)?;
                let threads = std::fs::read_dir("/proc/self/task").context("/proc")?.count();
                // Another one would have its own idea of time, and the next run another result.
                anyhow::ensure!(threads == 2, "the node has started a thread, past its seams");
                Ok(outcome)
            })?;
        simulation.join().unwrap_or_else(|_| anyhow::bail!("the simulation has panicked"))
    })
}

/// Writes what leaves each machine, with the addresses that it has there.
fn capture(file: BufWriter<File>) -> anyhow::Result<PacketWatcher> {
    let mut pcap = PcapWriter::new(file, SNAP_LENGTH)?;
    Ok(Box::new(move |event| {
        if event.arrived.is_none() && event.lost.is_none() {
            let (at, source) = (Timestamp::from_duration(event.at), event.source.into());
            // A full disk costs the capture, not the run.
            let _ = pcap.write(at, source, event.destination.into(), event.payload);
        }
    }))
}

/// Draws on the terminal how far it is; virtual time tells no program when to draw.
fn progress(cast: &Cast) -> Box<dyn FnMut(f64) + Send> {
    let name = cast.scenario.name.clone();
    let mut drawn = real_elapsed();
    Box::new(move |share| {
        let now = real_elapsed();
        if now - drawn > std::time::Duration::from_millis(100) {
            drawn = now;
            let filled = (share * 30.0) as usize;
            let bar: String = (0..30).map(|n| if n < filled { '━' } else { '─' }).collect();
            eprint!("\r{name} {bar} {:3.0} % ", 100.0 * share);
        }
        if share > 0.99 {
            eprint!("\r\x1b[K");
        }
        let _ = io::stderr().flush();
    })
}

fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

fn file_name(name: &str) -> String {
    let name = name.to_lowercase();
    name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '-' }).collect()
}

/// The file, or the scenario of that name among those that come with Hark.
pub(crate) fn find(scenario: &Path) -> PathBuf {
    if scenario.exists() {
        return scenario.to_owned();
    }
    let known = folder().join(scenario).with_extension("toml");
    if known.exists() { known } else { scenario.to_owned() }
}

pub(crate) fn list() -> ExitCode {
    let Ok(entries) = std::fs::read_dir(folder()) else {
        eprintln!("hark-sim: no scenarios in {}", folder().display());
        return ExitCode::FAILURE;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    let mut status = ExitCode::SUCCESS;
    for path in paths {
        match Scenario::read(&path) {
            Ok(cast) => println!("{:28} {}", cast.scenario.name, cast.scenario.purpose),
            Err(problem) => {
                eprintln!("hark-sim: {problem}");
                status = ExitCode::from(2);
            }
        }
    }
    status
}

/// Where the scenarios are: beside the program's source.
fn folder() -> PathBuf {
    let from_here = Path::new("examples/scenarios");
    if from_here.is_dir() {
        return from_here.to_owned();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scenarios")
}

/// Bytes of the simulation's stack: as many as a program's first thread has.
const STACK: usize = 8 << 20;
