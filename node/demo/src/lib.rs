//! Members who talk by themselves with recorded speech, so that a person sees and hears Hark before
//! anybody else is there.
//!
//! All nodes run in one process. Each still has its own home, key, threads and UDP socket, and they
//! know each other only by the ticket, so a demo shows what separate processes would show. One
//! process leaves nothing running when it is interrupted.
//!
//! ```text
//! hark demo        MEMBERS nodes ── script, measures ──> table, recordings
//! hark-ui --demo   Speakers on nets ── ticket ──> the window's node
//! ```

#![forbid(unsafe_code)]

mod speakers;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use hark_node::{
    node::NodeConfig,
    snapshot::TransmitMode,
    wav::{self, WavError},
};
use tempfile::TempDir;

pub use speakers::Speakers;

/// How many members talk by themselves.
pub const MEMBERS: usize = 5;

/// Their names. The first one founds, the others join in this order.
pub const NAMES: [&str; MEMBERS] = ["Kestrel", "Heron", "Magpie", "Osprey", "Wren"];

/// In the order of [`NAMES`].
const RECORDINGS: [&[u8]; MEMBERS] = [
    include_bytes!("../../assets/speech/english.wav"),
    include_bytes!("../../assets/speech/italian.wav"),
    include_bytes!("../../assets/speech/french.wav"),
    include_bytes!("../../assets/speech/russian.wav"),
    include_bytes!("../../assets/speech/english-2.wav"),
];

/// To be copied with every copy of the recordings, as their licences require.
pub const ATTRIBUTION: &str = include_str!("../../assets/speech/ATTRIBUTION.md");

/// What each member says: 4 to 7 seconds of speech at 48 kHz, within [-1, 1]. In the order of
/// [`NAMES`].
pub fn voices() -> Result<[Vec<f32>; MEMBERS], WavError> {
    let mut voices = [const { Vec::new() }; MEMBERS];
    for (voice, recording) in voices.iter_mut().zip(RECORDINGS) {
        *voice = wav::read(recording)?;
    }
    Ok(voices)
}

/// Makes a folder for one run. It will hold keys: only this account can read it. It goes when it is
/// dropped.
pub fn scratch() -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("hark-demo-").tempdir();
    folder.context("no folder for the demo can be made among the temporary files")
}

/// The settings of a node that only nodes of this machine can reach. Its voice opens the
/// microphone.
pub fn on_this_machine(home: PathBuf, name: &str) -> NodeConfig {
    NodeConfig {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        mdns: false,
        transmit: Some(TransmitMode::Vad),
        ..NodeConfig::silent(home, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recordings_can_be_spoken() {
        for voice in voices().expect("read") {
            assert!((4 * 48_000..7 * 48_000).contains(&voice.len()), "{}", voice.len());
        }
    }

    #[test]
    fn the_folder_of_a_run_is_gone_in_the_end() {
        let scratch = scratch().expect("a folder");
        let path = scratch.path().to_owned();
        std::fs::create_dir(path.join("home")).expect("made");
        drop(scratch);
        assert!(!path.exists());
    }
}
