//! One microphone and one loudspeaker for several organisations.

use hark_keys::{DeviceId, TargetId, Timestamp};

use hark_processing::Processing;

use super::{
    Pipeline, VoiceCommand, VoiceEvent, VoiceStatistics, cues::Cues, mix::Limiter,
    side_tone::SideTone,
};

/// Number of an organisation that the device is in, counted from 0.
pub type Line = usize;

/// The voice of one device in several organisations at once.
///
/// Each organisation has a pipeline of its own, so keys, nets and counters of two organisations
/// never mix. Only what they play is added up. Our voice is sent to the line in front. While talk
/// keys are held, it is sent to all lines with a held key and to no others.
pub struct Console {
    lines: Vec<Connection>,
    front: Line,
    processing: Processing,
    cues: Cues,
    side_tone: SideTone,
    played: Vec<f32>,
    limiter: Limiter,
}

struct Connection {
    pipeline: Pipeline,
    /// The target chosen for our voice, and whether a talk key is held for it.
    wanted: (Option<TargetId>, bool),
    /// The target that the pipeline now sends to.
    selected: Option<TargetId>,
    /// Whether the talk key is down now. False for a key that was just released.
    down: bool,
}

impl Console {
    /// Creates a desk with a line for each pipeline; the first is in front.
    pub fn new(pipelines: Vec<Pipeline>) -> Self {
        let lines = pipelines.into_iter().map(|pipeline| Connection {
            pipeline,
            wanted: (None, false),
            selected: None,
            down: false,
        });
        Self {
            lines: lines.collect(),
            front: 0,
            processing: Processing::default(),
            cues: Cues::default(),
            side_tone: SideTone::default(),
            played: Vec::new(),
            limiter: Limiter::default(),
        }
    }

    /// Carries out a command of the node or its user for one line.
    pub fn handle_command(&mut self, now: Timestamp, line: Line, command: VoiceCommand) {
        match command {
            VoiceCommand::SelectTarget { target, keyed } => {
                self.lines[line].wanted = (target, keyed);
                self.select(now);
            }
            VoiceCommand::ComeToFront => {
                self.front = line;
                self.end_tails(now);
            }
            VoiceCommand::PushToTalk(down) => {
                self.lines[line].down = down;
                if down {
                    self.end_tails(now);
                }
                self.lines[line].pipeline.handle_command(now, command);
                if self.lines.iter().any(|line| line.down) {
                    self.end_tails(now);
                }
            }
            VoiceCommand::SetProcessing(modes) => self.processing.set_modes(modes),
            VoiceCommand::SetCues(settings) => self.cues.set(settings),
            VoiceCommand::PlayCue(cue) => self.cues.play(cue),
            VoiceCommand::SetSideTone(decibels) => self.side_tone.set(decibels),
            command => self.lines[line].pipeline.handle_command(now, command),
        }
    }

    /// A voice datagram arrived over a link of this line.
    pub fn handle_datagram(
        &mut self,
        arrived: Timestamp,
        line: Line,
        from: DeviceId,
        bytes: &[u8],
    ) {
        self.lines[line].pipeline.handle_datagram(arrived, from, bytes);
    }

    /// Takes captured samples: 48 kHz, mono, -1 to 1, in any number.
    pub fn handle_capture(&mut self, now: Timestamp, samples: &[f32]) {
        self.handle_stereo_capture(now, samples, &[]);
    }

    /// The same with both sides: their mean, and half of what the left differs from the right. The
    /// difference is as long as the mean, or empty. Stages that run leave one side.
    pub fn handle_stereo_capture(&mut self, now: Timestamp, samples: &[f32], difference: &[f32]) {
        self.processing.set_music(self.lines.iter().any(|line| line.pipeline.takes_music()));
        let processed = self.processing.handle_capture(samples);
        let is_whole = difference.is_empty() || processed == samples;
        let difference = if is_whole { difference } else { &[] };
        for line in &mut self.lines {
            line.pipeline.handle_stereo_capture(now, processed, difference);
            if let Some(cue) = line.pipeline.poll_cue() {
                self.cues.play(cue);
            }
        }
        // As captured: the stages would only delay it.
        let is_sent = self.lines.iter().any(|line| line.pipeline.is_transmitting());
        self.side_tone.handle_capture(samples, is_sent);
    }

    /// Fills `out` with the next samples to play, both sides interleaved. `now` is when the device
    /// asks for them.
    pub fn playout(&mut self, now: Timestamp, out: &mut [f32]) {
        let [first, others @ ..] = &mut self.lines[..] else { return out.fill(0.0) };
        first.pipeline.playout(now, out);
        if !others.is_empty() {
            self.played.resize(out.len(), 0.0);
            for line in others {
                line.pipeline.playout(now, &mut self.played);
                out.iter_mut().zip(&self.played).for_each(|(sum, one)| *sum += one);
            }
        }
        self.cues.mix_into(out);
        // A microphone that hears the loudspeaker hears the cues, too. The side tone is what it has
        // captured itself: the canceller would take it for an echo, and the voice with it.
        self.processing.handle_playout(out);
        self.side_tone.mix_into(out);
        self.limiter.process(out);
    }

    /// Makes the reports that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.lines.iter_mut().for_each(|line| line.pipeline.handle_timeout(now));
    }

    /// Returns the next datagram to send, with its line and receiver. Call it until it returns
    /// `None`.
    pub fn poll_transmit(&mut self) -> Option<(Line, DeviceId, &[u8])> {
        let mut lines = self.lines.iter_mut().enumerate();
        lines.find_map(|(number, line)| {
            let (to, bytes) = line.pipeline.poll_transmit()?;
            Some((number, to, bytes))
        })
    }

    /// Returns the next event and its line. Call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<(Line, VoiceEvent)> {
        let mut lines = self.lines.iter_mut().enumerate();
        lines.find_map(|(number, line)| Some((number, line.pipeline.poll_event()?)))
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.lines.iter().filter_map(|line| line.pipeline.poll_timeout()).min()
    }

    /// The current counters of each line.
    pub fn statistics(&self) -> Vec<VoiceStatistics> {
        let processing = self.processing.state();
        let of = |line: &Connection| {
            let mut statistics = line.pipeline.statistics();
            statistics.own.processing = processing;
            statistics
        };
        self.lines.iter().map(of).collect()
    }

    /// Excludes the lines whose key was released from what is said from now on, their last words
    /// included.
    fn end_tails(&mut self, now: Timestamp) {
        self.lines.iter_mut().filter(|line| !line.down).for_each(|line| line.wanted.1 = false);
        self.select(now);
    }

    /// Sets for each line where our voice is sent. Lines that lose our voice are changed first.
    fn select(&mut self, now: Timestamp) {
        let keyed = self.lines.iter().any(|line| line.wanted.1);
        let front = self.front;
        let wanted = move |number: Line, line: &Connection| {
            let heard = if keyed { line.wanted.1 } else { number == front };
            line.wanted.0.filter(|_| heard)
        };
        for gains in [false, true] {
            for (number, line) in self.lines.iter_mut().enumerate() {
                let target = wanted(number, line);
                if target != line.selected && target.is_some() == gains {
                    line.selected = target;
                    let command = VoiceCommand::SelectTarget { target, keyed };
                    line.pipeline.handle_command(now, command);
                }
            }
        }
    }
}
