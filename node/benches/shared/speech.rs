//! The talkers' speech: the recordings that Hark ships, one after another.

use std::path::Path;

use hark_node::wav::load;
use hark_voice::SAMPLE_RATE;

/// `seconds` seconds of speech. Nothing in them is repeated within 15 s.
pub(crate) fn samples(seconds: f64) -> anyhow::Result<Vec<f32>> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/speech");
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
