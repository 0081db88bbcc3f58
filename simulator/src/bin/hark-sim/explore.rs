//! `hark-sim explore`: plays many seeds, in parallel processes.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal, Write},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context;

use crate::{ExploreArguments, play::find};

pub(crate) fn explore(arguments: &ExploreArguments) -> anyhow::Result<ExitCode> {
    let scenario = find(&arguments.scenario)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let mut seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let (mut running, mut failed, mut done): (Vec<(u64, Child)>, Vec<u64>, u64) =
        Default::default();
    loop {
        while running.len() < jobs && (failed.is_empty() || arguments.count) {
            let Some(seed) = seeds.next() else { break };
            running.push((seed, start(scenario.argument(), seed)?));
        }
        if running.is_empty() {
            break;
        }
        let Some(place) = first_ended(&mut running)? else {
            // No channel of this process reports when a child ends, so the children are polled.
            std::thread::sleep(LOOK_AGAIN);
            continue;
        };
        let (seed, child) = running.swap_remove(place);
        let output = child.wait_with_output()?;
        done += 1;
        match output.status.code() {
            Some(0) => {}
            Some(1) => {
                failed.push(seed);
                erase();
                println!("seed {seed} fails:");
                let text = String::from_utf8_lossy(&output.stdout);
                text.lines().filter(|line| line.contains('✗')).for_each(|line| println!("{line}"));
                println!("  replay: hark-sim run {scenario} --seed {seed}");
            }
            _ => {
                erase();
                io::stderr().write_all(&output.stderr)?;
                return Ok(ExitCode::from(2));
            }
        }
        if io::stderr().is_terminal() {
            eprint!("\r{done} of {} seeds, {} failed ", arguments.seeds, failed.len());
        }
    }
    erase();
    failed.sort_unstable();
    match failed.as_slice() {
        [] => println!("{done} seeds, all expectations met"),
        failed => println!("{done} seeds, {} failed: {failed:?}", failed.len()),
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that plays the scenario in another process of this program.
pub(crate) fn child(scenario: &OsStr, seed: u64) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program's own file")?);
    command.arg("run").arg(scenario).arg("--seed").arg(seed.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn start(scenario: &OsStr, seed: u64) -> anyhow::Result<Child> {
    child(scenario, seed)?.spawn().context("another process")
}

fn first_ended(running: &mut [(u64, Child)]) -> io::Result<Option<usize>> {
    for (place, (_, child)) in running.iter_mut().enumerate() {
        if child.try_wait()?.is_some() {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn erase() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// How often children are polled; a run takes a second or more. A pipe holds all that a child
/// prints in that time.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
