//! `hark demo`: a squad on this machine that talks with recorded speech.

mod progress;
mod report;
mod script;
mod squad;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use hark_command_line::StopSignal;
use hark_demo::{ATTRIBUTION, scratch, voices};

use crate::person::{say, say_json};
use progress::Progress;
use script::Script;
use squad::Squad;

#[derive(clap::Args)]
pub(crate) struct DemoArguments {
    /// How long they talk, in seconds
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(5..=600))]
    seconds: u16,
    /// Where to put what each one heard
    #[arg(long, value_name = "DIR", default_value = "hark-demo")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: DemoArguments) -> anyhow::Result<()> {
    prepare(&arguments.out)?;
    let talking = Duration::from_secs(arguments.seconds.into());
    let stop = StopSignal::listen()?;
    let progress = Progress::start(talking);
    let scratch = scratch()?;
    let script = Script::new(voices()?, talking);
    let mut squad = Squad::gather(script, scratch.path(), &arguments.out, &stop, &progress)?;
    squad.talk(&stop, &progress)?;
    progress.doing("comparing what was spoken with what was heard");
    let report = squad.finish()?;
    progress.end();
    if arguments.json {
        say_json(&report.json(arguments.seconds));
    } else {
        say(&report.text(arguments.seconds));
    }
    match report.unheard() {
        Some((listener, talker)) => {
            anyhow::bail!("{listener} did not hear {talker}: try again when this machine is idle")
        }
        None => Ok(()),
    }
}

/// Makes the folder for the recordings, and checks that it can be written to.
fn prepare(out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)
        .and_then(|()| fs::write(out.join("ATTRIBUTION.md"), ATTRIBUTION))
        .with_context(|| format!("{} cannot be written to: choose another --out", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_the_folder_gets_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("taken");
        fs::write(&taken, "mine").expect("written");
        for out in [taken.clone(), taken.join("below")] {
            let line = format!("{:#}", prepare(&out).expect_err("not a folder"));
            let expected = format!("{} cannot be written to: choose another --out", out.display());
            assert!(line.starts_with(&expected), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
        assert_eq!(fs::read_to_string(&taken).expect("there"), "mine");
        prepare(&folder.path().join("a/b")).expect("made with the folders above it");
    }
}
