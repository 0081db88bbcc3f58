//! `hark-sim run` and `hark-sim list`.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::PoisonError,
};

use anyhow::Context;
use hark_command_line::{ErrorCode, Program};
use hark_keys::Timestamp;
use hark_node::wav::WavWriter;
use hark_simulator::{
    built_in,
    network::PacketWatcher,
    record::RunRecord,
    report::{self, PcapWriter, SNAP_LENGTH},
    scenario::{Cast, Problem, Scenario},
    world::{self, PlayOutcome, WorldOptions},
};

use crate::{
    RunArguments,
    interpose::{real_cpu_time, real_elapsed},
};

pub(crate) fn run(arguments: &RunArguments, program: Program) -> anyhow::Result<ExitCode> {
    let unusable = |error: &str| {
        program.complain(ErrorCode::Usage, error);
        Ok(ExitCode::from(2))
    };
    let source = match find(&arguments.scenario) {
        Ok(source) => source,
        Err(error) => return unusable(&format!("{error:#}")),
    };
    let cast = match source.read() {
        Ok(cast) => cast,
        Err(problem) => return unusable(&problem.to_string()),
    };
    let record = play(arguments, &source, &cast)?;
    Ok(if record.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(arguments: &RunArguments, source: &Source, cast: &Cast) -> anyhow::Result<RunRecord> {
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
    let options = WorldOptions {
        seed: arguments.seed,
        trace: trace.map(|file| Box::new(BufWriter::new(file)) as _),
        packets,
        progress: io::stderr().is_terminal().then(|| progress(cast)),
        report: arguments.report.is_some(),
    };
    let PlayOutcome { mut record, heard, frames } = play_apart(cast, options)?;
    let (took, cpu) = (real_elapsed() - begun, real_cpu_time() - cpu_begun);
    record.replay = format!("hark-sim run {source} --seed {}", arguments.seed);
    if let Some(folder) = &arguments.report {
        for (member, heard) in record.members.iter_mut().zip(&heard) {
            let name = format!("heard-by-{}.wav", file_name(&member.name));
            let recording = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut wav = WavWriter::create(&folder.join(&name), 1)?;
            wav.push(&recording.samples)?;
            wav.flush()?;
            member.sound = Some(name);
        }
        serde_json::to_writer(BufWriter::new(open(&folder.join("frames.json"))?), &frames)?;
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

/// Plays on a thread of its own, while this thread waits. The seeds of that thread's hash tables
/// and random number generators then follow from the scenario's seed, whatever this program did
/// before.
fn play_apart(cast: &Cast, options: WorldOptions) -> anyhow::Result<PlayOutcome> {
    std::thread::scope(|scope| {
        let simulation =
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
                let outcome = world::play(cast, options)?;
                let threads = std::fs::read_dir("/proc/self/task").context("/proc")?.count();
                // A further thread would have its own idea of time, and runs would no longer be
                // equal.
                anyhow::ensure!(threads == 2, "the node has started a thread, past its seams");
                Ok(outcome)
            })?;
        simulation.join().unwrap_or_else(|_| anyhow::bail!("the simulation has panicked"))
    })
}

/// Writes the packets that leave each machine, with the addresses that they have there.
fn capture(file: BufWriter<File>) -> anyhow::Result<PacketWatcher> {
    let mut pcap = PcapWriter::new(file, SNAP_LENGTH)?;
    Ok(Box::new(move |event| {
        if event.arrived.is_none() && event.lost.is_none() {
            let (at, source) = (Timestamp::from_duration(event.at), event.source.into());
            // If the disk is full, the capture is incomplete, but the run continues.
            let _ = pcap.write(at, source, event.destination.into(), event.payload);
        }
    }))
}

/// Draws the progress on the terminal. It draws by real time, since virtual time does not say when
/// a person has waited long enough.
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

/// Where a scenario comes from. It is displayed as it is named on the command line.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    /// A scenario that comes with Hark: its name and its text.
    BuiltIn(&'static str, &'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::BuiltIn(name, _) => f.write_str(name),
        }
    }
}

impl Source {
    pub(crate) fn read(&self) -> Result<Cast, Problem> {
        match self {
            Self::File(path) => Scenario::read(path),
            Self::BuiltIn(name, text) => {
                let path = Path::new(name);
                Scenario::parse(path, (*name).to_owned(), text, Path::new("."))
            }
        }
    }

    /// The text of the scenario.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        match self {
            Self::File(path) => {
                std::fs::read_to_string(path).with_context(|| path.display().to_string())
            }
            Self::BuiltIn(_, text) => Ok((*text).to_owned()),
        }
    }

    /// The argument by which the program's command line names it.
    pub(crate) fn argument(&self) -> &OsStr {
        match self {
            Self::File(path) => path.as_os_str(),
            Self::BuiltIn(name, _) => OsStr::new(name),
        }
    }
}

/// The scenario's file, or the built-in scenario of that name.
pub(crate) fn find(scenario: &Path) -> anyhow::Result<Source> {
    if scenario.exists() {
        return Ok(Source::File(scenario.to_owned()));
    }
    let text = scenario.to_string_lossy();
    let name = text.strip_suffix(".toml").unwrap_or(&text);
    if let Some((name, text)) = built_in::scenario(name) {
        return Ok(Source::BuiltIn(name, text));
    }
    match built_in::nearest(name) {
        Some(near) => anyhow::bail!(
            "{text} is no file, and no scenario is called so: did you mean {near}? `hark-sim list` \
             shows all"
        ),
        None => anyhow::bail!(
            "{text} is no file, and no scenario is called so: `hark-sim list` shows those that are"
        ),
    }
}

pub(crate) fn list() -> ExitCode {
    for (name, text) in built_in::names().filter_map(built_in::scenario) {
        println!("{name:28} {}", built_in::purpose(text).unwrap_or_default());
    }
    ExitCode::SUCCESS
}

/// Size of the simulation thread's stack in bytes: the same as a program's first thread has.
const STACK: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_replays_had_a_path_of_the_build_machine() {
        for name in ["killed-mid-sentence", "killed-mid-sentence.toml"] {
            let source = find(Path::new(name)).expect("it comes with Hark");
            assert_eq!(source.to_string(), "killed-mid-sentence");
            assert_eq!(source.argument(), "killed-mid-sentence");
        }
    }
}
