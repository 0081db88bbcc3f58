//! The voice thread, which owns the pipeline and both ends. The ends pace it.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use hark_keys::Timestamp;
use hark_voice::SIDES;

use super::{
    DatagramSink, DeviceError, InputSpec, OutputSpec, VoiceEnds, VoiceHandle, VoicePath,
    VoiceThreadEvent, VoiceThreadStatistics,
    capture::{CaptureEnd, Sound},
    kind,
    playout::{LEAD, PlayoutEnd},
    shared::{Datagram, Shared, Waker},
    supervisor::{CardNews, StallReporter, Supervisor, Wanted},
};
use crate::{
    clock::Clock,
    event::Direction,
    platform::{Urgency, prefer_this_thread},
    wav::{self, WavRecorder},
};

/// Samples that a file or silence delivers at once: a coded frame, or half of it for low delay.
const CAPTURE_BLOCK: usize = 480;
/// Samples that a file or a speaker takes at once: 5 ms, or half of it for low delay. With
/// smaller blocks, frames need not wait for the next block, but the thread wakes more
/// often.
const PLAYOUT_BLOCK: usize = 240;
/// Samples that silence delivers, or that nothing takes, at once: 20 ms. Nobody hears the
/// difference, and a machine that only listens, or only speaks, wakes half as often.
const UNHEARD_BLOCK: usize = 960;
/// The longest stall that is caught up in full. Of a longer one everything older becomes silence
/// and is counted as lost.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often counters are published and cards are checked.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(100);
/// Steps of a turn before commands and cards are handled again: more than a full pause and a full
/// queue need.
const STEPS_MAX: usize = 4_096;

/// The thread that owns a console and both its ends.
pub struct VoiceThread;

impl VoiceThread {
    /// Opens both ends and starts the thread.
    ///
    /// The thread calls `events`, which must not wait. Fails if an end cannot be used.
    pub fn start<P: VoicePath>(
        path: P,
        ends: VoiceEnds,
        clock: Clock,
        sink: Box<dyn DatagramSink>,
        events: impl FnMut(VoiceThreadEvent) + Send + 'static,
    ) -> Result<VoiceHandle, DeviceError> {
        let blocks = if ends.low_delay { 2 } else { 1 };
        let capture_block = match ends.input {
            InputSpec::Silence => UNHEARD_BLOCK,
            _ => CAPTURE_BLOCK / blocks,
        };
        let playout_block = match ends.output {
            OutputSpec::Null => UNHEARD_BLOCK,
            _ => PLAYOUT_BLOCK / blocks,
        };
        let sound = match &ends.input {
            InputSpec::Microphone(_) => None,
            InputSpec::Silence => Some(Sound::Silence),
            InputSpec::File { path, looped } => {
                let (samples, difference) = wav::load_both(path)
                    .map_err(|error| DeviceError::Input { path: path.clone(), error })?;
                Some(Sound::File { samples, difference, looped: *looped })
            }
        };
        let file = match &ends.output {
            OutputSpec::Speaker(_) | OutputSpec::Null => None,
            OutputSpec::File { path, stereo } => {
                let channels = if *stereo { SIDES } else { 1 };
                let recorder = WavRecorder::create(path, channels as u16)
                    .map_err(|error| DeviceError::Output { path: path.clone(), error })?;
                Some((path.clone(), recorder))
            }
        };
        let waker = Waker::default();
        let mut wanted = Vec::new();
        if let InputSpec::Microphone(name) = ends.input {
            wanted.push(Wanted { direction: Direction::Input, name });
        }
        let speaks = match ends.output {
            OutputSpec::Speaker(name) => {
                wanted.push(Wanted { direction: Direction::Output, name });
                true
            }
            OutputSpec::File { .. } | OutputSpec::Null => false,
        };
        let (supervisor, news) = if wanted.is_empty() {
            (None, None)
        } else {
            let (supervisor, news) = Supervisor::start(wanted, ends.low_delay, waker.clone())?;
            (Some(supervisor), Some(news))
        };
        let stalls = supervisor.as_ref().map(Supervisor::stall_reporter);

        // Sample 0 of both ends is placed such that their blocks are due together, which saves
        // wake-ups.
        let start = clock.now();
        let capture = match sound {
            Some(sound) => CaptureEnd::timed(sound, start, capture_block),
            None => CaptureEnd::card(capture_block),
        };
        let playout = if speaks {
            PlayoutEnd::card(playout_block)
        } else {
            PlayoutEnd::timed(file, start + LEAD, playout_block)
        };
        let shared = Shared::new(waker.clone());
        let mut voice = VoiceLoop {
            path,
            capture,
            playout,
            sink,
            events: Box::new(events),
            shared: shared.clone(),
            cards: news.zip(stalls),
            waiting: None,
            latest: Timestamp::ZERO,
            snapshot_at: start,
        };
        let thread = thread::Builder::new()
            .name("hark-voice".to_owned())
            .spawn(move || voice.run(clock))
            .map_err(DeviceError::Thread)?;
        waker.set(thread.thread().clone());
        Ok(VoiceHandle::new(shared, thread, supervisor))
    }
}

/// The state of the thread. The time is an argument of each turn.
pub(super) struct VoiceLoop<P> {
    pub(super) path: P,
    pub(super) capture: CaptureEnd,
    pub(super) playout: PlayoutEnd,
    pub(super) sink: Box<dyn DatagramSink>,
    pub(super) events: Box<dyn FnMut(VoiceThreadEvent) + Send>,
    pub(super) shared: Arc<Shared>,
    pub(super) cards: Option<(mpsc::Receiver<CardNews>, StallReporter)>,
    /// A datagram that was taken from the queue but came later than the block that is handled now.
    pub(super) waiting: Option<Datagram>,
    /// The latest time that was given to the pipeline.
    pub(super) latest: Timestamp,
    pub(super) snapshot_at: Timestamp,
}

impl<P: VoicePath> VoiceLoop<P> {
    fn run(&mut self, clock: Clock) {
        prefer_this_thread(Urgency::Sound);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let wake_at = self.turn(clock.now());
            let pause = wake_at.saturating_duration_since(clock.now());
            if !pause.is_zero() {
                thread::park_timeout(pause);
            }
        }
        self.turn(clock.now());
        self.playout.finish();
        self.publish();
        self.show();
    }

    /// Does everything that is due at `now`. Returns when the next turn is due.
    pub(super) fn turn(&mut self, now: Timestamp) -> Timestamp {
        self.handle_cards(now);
        let oldest = Timestamp::from_duration(now.as_duration().saturating_sub(PAUSE_MAX));
        self.capture.skip_to(oldest);
        self.playout.skip_to(oldest);
        while let Some((line, command)) = self.shared.commands.pop() {
            let now = self.not_before(now);
            self.path.handle_command(now, line, command);
        }
        self.catch_up(now);
        let now = self.not_before(now);
        let (spoken, difference) = self.capture.take_live();
        if !spoken.is_empty() {
            self.path.handle_capture(now, spoken, difference);
        }
        self.transmit();
        self.playout.fill_live(now, |out| self.path.playout(now, out));
        if self.path.poll_timeout().is_some_and(|at| at <= now) {
            self.path.handle_timeout(now);
            self.transmit();
        }
        self.publish();
        if now >= self.snapshot_at {
            self.show();
            self.snapshot_at = now + SNAPSHOT_INTERVAL;
        }
        // Read last, so that nothing can change it afterwards.
        [self.capture.due(), self.playout.due(), self.path.poll_timeout()]
            .into_iter()
            .flatten()
            .fold(self.snapshot_at, Timestamp::min)
    }

    /// Brings the ends that are paced by the clock up to `now`.
    ///
    /// Blocks and datagrams are handled in the order of their own times, not of this thread's. A
    /// block is mixed from what had arrived when it was due, however late the thread wakes.
    fn catch_up(&mut self, now: Timestamp) {
        for _ in 0..STEPS_MAX {
            if self.waiting.is_none() {
                self.waiting = self.shared.datagrams.pop();
            }
            let (spoken, heard) = (self.capture.due(), self.playout.due());
            let due = [spoken, heard].into_iter().flatten().min().filter(|due| *due <= now);
            let until = due.unwrap_or(now);
            let is_next = |datagram: &mut Datagram| datagram.arrived <= until;
            if let Some(datagram) = self.waiting.take_if(is_next) {
                let Datagram { arrived, line, from, bytes } = datagram;
                self.path.handle_datagram(arrived, line, from, &bytes);
                continue;
            }
            let Some(due) = due else { break };
            let at = self.not_before(due);
            if spoken == Some(due) {
                let (spoken, difference) = self.capture.take_timed();
                self.path.handle_capture(at, spoken, difference);
                self.transmit();
            } else {
                self.playout.fill_timed(|out| self.path.playout(at, out));
            }
        }
    }

    fn handle_cards(&mut self, now: Timestamp) {
        let Some((news, stalls)) = &self.cards else { return };
        while let Ok(news) = news.try_recv() {
            let (direction, available, detail) = match news {
                CardNews::CaptureOpened { live, name, warning } => {
                    (self.events)(VoiceThreadEvent::Microphone { name: name.clone() });
                    let again = self.capture.set_live(live) > 1;
                    let again = again.then(|| format!("the microphone is {name}"));
                    let warning = warning.map(|line| format!("the microphone {line}"));
                    let Some(detail) = warning.or(again) else { continue };
                    (Direction::Input, true, detail)
                }
                CardNews::PlayoutOpened { live, name, warning } => {
                    let again = self.playout.set_live(live) > 1;
                    let again = again.then(|| format!("the speaker is {name}"));
                    let warning = warning.map(|line| format!("the speaker {line}"));
                    let Some(detail) = warning.or(again) else { continue };
                    (Direction::Output, true, detail)
                }
                CardNews::Lost { direction, name, reason } => {
                    match direction {
                        Direction::Input => self.capture.lose(now),
                        Direction::Output => self.playout.lose(now),
                    }
                    let kind = kind(direction);
                    (direction, false, format!("the {kind} {name} is not used now: {reason}"))
                }
            };
            (self.events)(VoiceThreadEvent::Device { direction, available, detail });
        }
        if self.capture.stalled(now) {
            stalls.report(Direction::Input);
        }
        if self.playout.stalled(now) {
            stalls.report(Direction::Output);
        }
    }

    fn transmit(&mut self) {
        let mut any = false;
        while let Some((line, to, datagram)) = self.path.poll_transmit() {
            self.sink.push(line, to, datagram);
            any = true;
        }
        if any {
            self.sink.flush();
        }
    }

    fn publish(&mut self) {
        let started = [
            (Direction::Input, self.capture.poll_started()),
            (Direction::Output, self.playout.poll_started()),
        ];
        for (direction, monotonic_ns) in started {
            if let Some(monotonic_ns) = monotonic_ns {
                (self.events)(VoiceThreadEvent::AudioStarted { direction, monotonic_ns });
            }
        }
        if let Some((available, detail)) = self.playout.poll_file_news() {
            let direction = Direction::Output;
            (self.events)(VoiceThreadEvent::Device { direction, available, detail });
        }
        while let Some((line, event)) = self.path.poll_event() {
            (self.events)(VoiceThreadEvent::Voice(line, event));
        }
    }

    fn show(&self) {
        let statistics = VoiceThreadStatistics {
            voice: self.path.statistics(),
            input: self.capture.statistics(),
            output: self.playout.statistics(),
            datagrams_dropped: self.shared.datagrams_dropped.load(Ordering::Relaxed),
            commands_refused: self.shared.commands_refused.load(Ordering::Relaxed),
        };
        // A reader holds the lock only for a moment, but this thread does not wait for it.
        if let Ok(mut shown) = self.shared.statistics.try_lock() {
            *shown = Arc::new(statistics);
        }
    }

    /// `at`, or the latest time given to the pipeline if that is later: the pipeline's time never
    /// runs back.
    fn not_before(&mut self, at: Timestamp) -> Timestamp {
        self.latest = self.latest.max(at);
        self.latest
    }
}
