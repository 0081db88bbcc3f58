//! `hark demo`: a squad on this machine that talks with recorded speech.
//!
//! All nodes run in one process. Each still has its own home, key, threads and UDP socket, and they
//! know each other only by the ticket, so the demo measures what separate processes would show. One
//! process leaves nothing running when it is interrupted.

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
use hark_keys::Random;
use hark_node::{random::SystemRandom, wav};

use crate::{
    person::{say, say_json},
    platform,
    stop::StopSignal,
};
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
    let scratch = Scratch::new()?;
    let script = Script::new(voices(scratch.path())?, talking);
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

/// The recordings that the members speak, one for each member.
fn voices(scratch: &Path) -> anyhow::Result<[Vec<f32>; script::MEMBERS]> {
    let mut voices = [const { Vec::new() }; script::MEMBERS];
    for (voice, recording) in voices.iter_mut().zip(RECORDINGS) {
        let path = scratch.join("voice.wav");
        fs::write(&path, recording).with_context(|| path.display().to_string())?;
        *voice = wav::load(&path)?;
    }
    Ok(voices)
}

/// A folder for this run alone, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let mut random = [0; 8];
        SystemRandom.fill(&mut random);
        let name = format!("hark-demo-{:016x}", u64::from_be_bytes(random));
        let path = std::env::temp_dir().join(name);
        // The folder will hold keys.
        platform::make_private(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that cannot be removed does not fail the demo: the system empties its temporary
        // files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// In the order of [`script::NAMES`].
const RECORDINGS: [&[u8]; script::MEMBERS] = [
    include_bytes!("../../assets/speech/english.wav"),
    include_bytes!("../../assets/speech/italian.wav"),
    include_bytes!("../../assets/speech/french.wav"),
    include_bytes!("../../assets/speech/russian.wav"),
    include_bytes!("../../assets/speech/english-2.wav"),
];

/// Copied with every copy of the recordings, as their licences require.
const ATTRIBUTION: &str = include_str!("../../assets/speech/ATTRIBUTION.md");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recordings_can_be_spoken() {
        let scratch = Scratch::new().expect("a folder");
        for voice in voices(scratch.path()).expect("read") {
            assert!((4 * 48_000..7 * 48_000).contains(&voice.len()), "{}", voice.len());
        }
    }

    #[test]
    fn the_scratch_folder_is_private_and_gone_in_the_end() {
        let scratch = Scratch::new().expect("a folder");
        let path = scratch.path().to_owned();
        fs::create_dir(path.join("home")).expect("made");
        assert!(platform::mode_of(&path).is_none_or(|mode| mode == 0o700));
        drop(scratch);
        assert!(!path.exists());
    }

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
