//! Files with speech, as the input of nodes.

use std::path::{Path, PathBuf};

use hark_node::wav::WavWriter;

use crate::recordings::samples;

/// Writes `seconds` seconds of speech to `folder/name`.
pub(crate) fn write(folder: &Path, name: &str, seconds: f64) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let mut writer = WavWriter::create(&path, 1)?;
    writer.push(&samples(seconds)?)?;
    writer.flush()?;
    Ok(path)
}
