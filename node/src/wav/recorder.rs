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

/// Writes a WAV file on a thread of its own, so that the caller never waits for the disk.
///
/// Blocks of [`FLUSH_SAMPLES`] wait for the thread. A block for which there is no room is lost and
/// counted, and becomes silence in the file. Later blocks keep their position.
pub struct WavRecorder {
    channels: u16,
    pending: Vec<f32>,
    /// Position of the first pending sample, counted over all channels.
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
    /// Creates a file with this many channels, or empties the existing one, and starts the thread.
    pub fn create(path: &Path, channels: u16) -> io::Result<Self> {
        Self::start(WavWriter::create(path, channels)?)
    }

    /// Starts the thread. Fails if the system refuses one.
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
                    // The recorder may have been dropped.
                    let _ = outcome_sender.send(outcome);
                }
            }
        })?;
        let pending = Vec::with_capacity(FLUSH_SAMPLES);
        let (blocks, thread) = (Some(blocks), Some(thread));
        Ok(Self { channels, pending, position: 0, blocks, outcomes, lost, thread })
    }

    /// Appends samples within [-1, 1], interleaved if there are several channels. Louder ones are
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

    /// Leaves the next `frames` out; a frame is one sample of each channel. They are silence in the
    /// file and count as lost.
    pub fn skip(&mut self, frames: u64) {
        if frames > 0 {
            self.hand_on();
            self.position += frames * u64::from(self.channels);
        }
    }

    /// Samples per frame.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Whether the file can be written, if that has changed.
    pub fn poll_outcome(&self) -> Option<io::Result<()>> {
        self.outcomes.try_recv().ok()
    }

    /// Frames that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed) / u64::from(self.channels)
    }

    /// Writes what still waits, and ends the thread. Samples that are pushed later are lost.
    pub fn finish(&mut self) {
        let block = self.take_block();
        if let Some(blocks) = self.blocks.take()
            && !block.samples.is_empty()
        {
            // The thread ends only after it has received this block.
            let _ = blocks.send(block);
        }
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic of that thread.
            let _ = thread.join();
        }
    }

    fn hand_on(&mut self) {
        let block = self.take_block();
        if let Some(blocks) = &self.blocks {
            // The gap of a refused block is counted when the next one arrives.
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

/// Blocks that wait for the disk: six seconds of one channel's sound.
const BLOCKS_WAITING_MAX: usize = 64;
