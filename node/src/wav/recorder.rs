use std::{
    io::{self, Seek, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::{FLUSH_SAMPLES, WavWriter};

/// Writes a WAV file on a thread of its own: whoever has the sound never waits for the disk.
///
/// Blocks of [`FLUSH_SAMPLES`] wait for the thread. One that finds no room is lost and counted, and
/// is silence in the file; later ones keep their place.
pub struct WavRecorder {
    channels: u16,
    pending: Vec<f32>,
    /// Place of the first pending sample, of all channels.
    position: u64,
    blocks: Option<SyncSender<Block>>,
    outcomes: Receiver<io::Result<()>>,
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

struct Block {
    position: u64,
    samples: Vec<f32>,
}

impl WavRecorder {
    /// Makes a file of so many channels, or empties the one that is there, and starts the thread.
    pub fn create(path: &Path, channels: u16) -> io::Result<Self> {
        Self::start(WavWriter::create(path, channels)?)
    }

    /// Starts the thread. Fails where the system refuses one.
    pub fn start<W: Write + Seek + Send + 'static>(mut writer: WavWriter<W>) -> io::Result<Self> {
        let (blocks, waiting) = sync_channel::<Block>(BLOCKS_WAITING_MAX);
        let (outcome_sender, outcomes) = channel();
        let channels = writer.channels();
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread = thread::Builder::new().name("hark-wav".to_owned()).spawn(move || {
            let mut works = true;
            for Block { position, samples } in waiting {
                let outcome = writer
                    .skip_to(position)
                    .and_then(|()| writer.push(&samples))
                    .and_then(|()| writer.flush());
                counted.store(writer.lost(), Ordering::Relaxed);
                if outcome.is_ok() != works {
                    works = outcome.is_ok();
                    // Whoever recorded may have ended.
                    let _ = outcome_sender.send(outcome);
                }
            }
        })?;
        let pending = Vec::with_capacity(FLUSH_SAMPLES);
        let (blocks, thread) = (Some(blocks), Some(thread));
        Ok(Self { channels, pending, position: 0, blocks, outcomes, lost, thread })
    }

    /// Appends samples within [-1, 1], those of several channels interleaved; louder ones are
    /// clipped. Never waits.
    pub fn push(&mut self, samples: &[f32]) {
        for part in samples.chunks(FLUSH_SAMPLES) {
            let room = FLUSH_SAMPLES - self.pending.len();
            let (first, second) = part.split_at(room.min(part.len()));
            self.pending.extend_from_slice(first);
            if self.pending.len() == FLUSH_SAMPLES {
                self.hand_on();
            }
            self.pending.extend_from_slice(second);
        }
    }

    /// Leaves out, as silence, the next `frames`, a sample of each channel; they count as lost.
    pub fn skip(&mut self, frames: u64) {
        if frames > 0 {
            self.hand_on();
            self.position += frames * u64::from(self.channels);
        }
    }

    /// Samples of a frame.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Whether the file can be written, when that has changed.
    pub fn poll_outcome(&self) -> Option<io::Result<()>> {
        self.outcomes.try_recv().ok()
    }

    /// Frames that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed) / u64::from(self.channels)
    }

    /// Writes what is still waiting, and ends the thread. What is pushed later is lost.
    pub fn finish(&mut self) {
        let block = self.take_block();
        if let Some(blocks) = self.blocks.take()
            && !block.samples.is_empty()
        {
            // The thread ends only after this.
            let _ = blocks.send(block);
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has shown itself.
            let _ = thread.join();
        }
    }

    fn hand_on(&mut self) {
        let block = self.take_block();
        if let Some(blocks) = &self.blocks {
            // The gap that a refused block leaves is counted when the next one comes.
            let _ = blocks.try_send(block);
        }
    }

    fn take_block(&mut self) -> Block {
        let samples = std::mem::replace(&mut self.pending, Vec::with_capacity(FLUSH_SAMPLES));
        let position = self.position;
        self.position += samples.len() as u64;
        Block { position, samples }
    }
}

impl Drop for WavRecorder {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Blocks that wait for the disk: six seconds of sound.
const BLOCKS_WAITING_MAX: usize = 64;
