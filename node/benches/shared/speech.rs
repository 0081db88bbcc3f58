//! The talkers' speech: the recordings that Hark ships, one after another.

use std::path::Path;

use anyhow::Context;
use hark_node::wav::load;
use hark_voice::SAMPLE_RATE;

/// `seconds` seconds of speech. Nothing in them is repeated within 15 s.
pub(crate) fn samples(seconds: f64) -> anyhow::Result<Vec<f32>> {
    // The benches of the crates within this one use it as well.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let assets = folders.map(|it| it.join("assets/speech")).find(|it| it.is_dir());
    let assets = assets.context("there is no folder assets/speech")?;
    let mut all = Vec::new();
    for clip in ["english", "italian", "french", "russian", "english-2"] {
        all.extend(load(&assets.join(format!("{clip}.wav")))?);
        all.resize(all.len() + PAUSE, 0.0);
    }
    let length = (seconds * f64::from(SAMPLE_RATE)) as usize;
    Ok(all.into_iter().cycle().take(length).collect())
}

/// Samples between two recordings: 100 ms.
const PAUSE: usize = SAMPLE_RATE as usize / 10;
