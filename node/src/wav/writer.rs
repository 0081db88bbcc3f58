//! Writes a WAV file that is valid at every moment.

use hark_voice::SAMPLE_RATE;
use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

/// Samples that are kept back until they are written together: 100 ms. They are lost if the process
/// is killed.
pub const FLUSH_SAMPLES: usize = 4_800;
/// Samples over all channels that a header can count: 12 hours of one channel. Later ones are
/// refused.
pub const MAX_SAMPLES: u64 = (u32::MAX as u64 - HEADER_BYTES) / SAMPLE_BYTES;

const HEADER_BYTES: u64 = 44;
const SAMPLE_BYTES: u64 = 2;

/// A 48 kHz, 16-bit WAV file that grows while it can be read.
///
/// The sound is written first and counted in the header afterwards. So a reader never sees a header
/// that promises more than is there, also if the process was killed. Each sample keeps its
/// position: samples that could not be written are silence once later ones are written.
pub struct WavWriter<W: Write + Seek = File> {
    file: W,
    channels: u16,
    pending: Vec<u8>,
    /// Position in the file of the first pending sample.
    position: u64,
    /// Samples that the header counts.
    written: u64,
    lost: u64,
}

impl WavWriter {
    /// Creates a file with this many channels, or empties the existing one.
    pub fn create(path: &Path, channels: u16) -> io::Result<Self> {
        Self::new(File::create(path)?, channels)
    }
}

impl<W: Write + Seek> WavWriter<W> {
    /// Starts a WAV file without sound in `file`, which is empty. It has at least one channel.
    pub fn new(mut file: W, channels: u16) -> io::Result<Self> {
        let channels = channels.max(1);
        file.write_all(&header(0, channels))?;
        let pending = Vec::with_capacity(FLUSH_SAMPLES * SAMPLE_BYTES as usize);
        Ok(Self { file, channels, pending, position: 0, written: 0, lost: 0 })
    }

    /// Appends samples within [-1, 1], interleaved if there are several channels. Louder ones are
    /// clipped.
    ///
    /// An error means that up to [`FLUSH_SAMPLES`] were lost, for example because the disk is full.
    /// What was written stays valid, and the next call tries again.
    pub fn push(&mut self, samples: &[f32]) -> io::Result<()> {
        let mut outcome = Ok(());
        for &sample in samples {
            // The inverse of reading a 16-bit file, so that a copy is bit-exact.
            let value = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
            self.pending.extend_from_slice(&value.to_le_bytes());
            if self.pending.len() >= FLUSH_SAMPLES * SAMPLE_BYTES as usize {
                outcome = outcome.and(self.flush());
            }
        }
        outcome
    }

    /// Leaves out the samples before the one at `position`. They are silence in the file and count
    /// as lost.
    pub fn skip_to(&mut self, position: u64) -> io::Result<()> {
        let outcome = self.flush();
        self.lost += position.saturating_sub(self.position);
        self.position = self.position.max(position);
        outcome
    }

    /// Writes the samples that were kept back.
    pub fn flush(&mut self) -> io::Result<()> {
        let count = self.pending.len() as u64 / SAMPLE_BYTES;
        if count == 0 {
            return Ok(());
        }
        let outcome = self.write_pending(count);
        if outcome.is_err() {
            self.lost += count;
        }
        self.position += count;
        self.pending.clear();
        outcome
    }

    /// Samples per frame.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Samples accepted so far, written or not.
    pub fn samples(&self) -> u64 {
        self.position + self.pending.len() as u64 / SAMPLE_BYTES
    }

    /// Samples that a reader finds in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Samples that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The file itself, without the samples that were kept back.
    #[cfg(test)]
    pub(super) fn into_file(self) -> W {
        self.file
    }

    #[cfg(test)]
    pub(super) fn file(&self) -> &W {
        &self.file
    }

    #[cfg(test)]
    pub(super) fn file_mut(&mut self) -> &mut W {
        &mut self.file
    }

    fn write_pending(&mut self, count: u64) -> io::Result<()> {
        let end = self.position + count;
        if end > MAX_SAMPLES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.file.seek(SeekFrom::Start(HEADER_BYTES + self.position * SAMPLE_BYTES))?;
        self.file.write_all(&self.pending)?;
        // One write, so that both sizes in the header change together.
        self.file.rewind()?;
        self.file.write_all(&header(end, self.channels))?;
        self.written = end;
        Ok(())
    }
}

/// The header of a file with `samples` samples over all channels, at most [`MAX_SAMPLES`].
fn header(samples: u64, channels: u16) -> [u8; HEADER_BYTES as usize] {
    let data_bytes = (samples * SAMPLE_BYTES) as u32;
    let frame_bytes = u32::from(channels) * SAMPLE_BYTES as u32;
    let mut header = [0; HEADER_BYTES as usize];
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &(data_bytes + 36).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16_u32.to_le_bytes(),
        &1_u16.to_le_bytes(), // plain integers
        &channels.to_le_bytes(),
        &SAMPLE_RATE.to_le_bytes(),
        &(SAMPLE_RATE * frame_bytes).to_le_bytes(),
        &(frame_bytes as u16).to_le_bytes(),
        &16_u16.to_le_bytes(), // bits a sample
        b"data",
        &data_bytes.to_le_bytes(),
    ];
    let mut rest = &mut header[..];
    for field in fields {
        rest.write_all(field).expect("the fields are 44 bytes together");
    }
    header
}
