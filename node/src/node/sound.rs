//! The voice thread, which is common to all organisations of a node.

use std::sync::{Arc, OnceLock, Weak, mpsc::SyncSender};

use hark_keys::DeviceId;
use hark_voice::{
    CodingSettings, Console, Line, Pipeline, PipelineConfig, VoiceCommand, VoiceStatistics,
    WaitLimits,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    clock::Clock,
    device::{
        DatagramSink, InputSpec, OutputSpec, VoiceEnds, VoiceHandle, VoiceThread, VoiceThreadEvent,
    },
    error::NodeError,
    event::Event,
    link::Links,
    network::{Input, StartVoice, VoiceControl},
    snapshot::TransmitMode,
};

/// The settings of the voice thread, and its handle once it has started.
pub(super) struct VoicePlan {
    pub(super) input: InputSpec,
    pub(super) output: OutputSpec,
    pub(super) transmit: TransmitMode,
    pub(super) low_delay: bool,
    pub(super) coding: CodingSettings,
    pub(super) wait: WaitLimits,
    pub(super) handle: OnceLock<VoiceHandle>,
    pub(super) lines: Vec<LinePlan>,
}

/// The part of the plan that belongs to one organisation.
pub(super) struct LinePlan {
    pub(super) device: DeviceId,
    pub(super) inputs: UnboundedSender<Input>,
    /// Its links and its line of the voice thread, once the node works in the organisation.
    pub(super) begun: OnceLock<(Arc<Links>, VoiceHandle)>,
}

/// Returns what starts the voice thread. The first organisation in which the node works starts it.
pub(super) fn voice_starter(
    plan: Arc<VoicePlan>,
    line: Line,
    started: SyncSender<()>,
) -> StartVoice {
    Box::new(move |_, links, _| {
        let handle = match plan.handle.get() {
            Some(handle) => handle.on(line),
            None => {
                let handle = start_voice(&plan)?;
                plan.handle.get_or_init(|| handle).on(line)
            }
        };
        let _ = plan.lines[line].begun.set((Arc::clone(links), handle.clone()));
        // The thread that starts the node waits for this.
        let _ = started.send(());
        Ok(Box::new(Voice(handle, line)) as Box<dyn VoiceControl>)
    })
}

fn start_voice(plan: &Arc<VoicePlan>) -> Result<VoiceHandle, NodeError> {
    let pipelines = plan.lines.iter().map(|line| {
        Pipeline::new(PipelineConfig {
            transmit: plan.transmit.into(),
            coding: plan.coding,
            wait: plan.wait,
            ..PipelineConfig::new(line.device, plan.low_delay)
        })
    });
    let desk = Console::new(pipelines.collect::<Result<_, _>>().map_err(voice_error)?);
    let ends = VoiceEnds {
        input: plan.input.clone(),
        output: plan.output.clone(),
        low_delay: plan.low_delay,
    };
    let inputs: Vec<_> = plan.lines.iter().map(|line| line.inputs.clone()).collect();
    let sink = Box::new(Sink(Arc::downgrade(plan)));
    VoiceThread::start(desk, ends, Clock, sink, move |event| {
        // The network thread may have ended first, or the organisation.
        let tell = |line: Line, input| drop(inputs[line].send(input));
        let publish = |event: Event| {
            let _ = inputs.iter().any(|line| line.send(Input::Publish(event.clone())).is_ok());
        };
        match event {
            VoiceThreadEvent::Voice(line, event) => tell(line, Input::Voice(event)),
            VoiceThreadEvent::AudioStarted { direction, monotonic_ns } => {
                publish(Event::AudioStarted { direction, monotonic_ns });
            }
            VoiceThreadEvent::Microphone { name } => {
                (0..inputs.len()).for_each(|line| tell(line, Input::Microphone(name.clone())));
            }
            VoiceThreadEvent::Device { direction, available, detail } => {
                let trouble = (!available).then(|| detail.clone());
                for line in 0..inputs.len() {
                    tell(line, Input::Trouble(direction, trouble.clone()));
                }
                publish(Event::AudioDevice { direction, available, detail });
            }
        }
    })
    .map_err(voice_error)
}

fn voice_error(error: impl std::error::Error + Send + Sync + 'static) -> NodeError {
    NodeError::Voice(Box::new(error))
}

/// Weak, because the plan holds the handle of the thread that owns this sink.
struct Sink(Weak<VoicePlan>);

impl DatagramSink for Sink {
    fn push(&self, line: Line, to: DeviceId, datagram: &[u8]) {
        if let Some(plan) = self.0.upgrade()
            && let Some((links, _)) = plan.lines[line].begun.get()
        {
            links.send_or_push(to, datagram);
        }
    }

    fn flush(&self) {
        if let Some(plan) = self.0.upgrade() {
            let begun = plan.lines.iter().filter_map(|line| line.begun.get());
            begun.for_each(|(links, _)| links.flush());
        }
    }
}

/// The voice side of one organisation.
struct Voice(VoiceHandle, Line);

impl VoiceControl for Voice {
    fn command(&self, command: VoiceCommand) {
        self.0.command(command);
    }

    fn statistics(&self) -> VoiceStatistics {
        // There are no statistics before the thread's first turn.
        self.0.statistics().voice.get(self.1).cloned().unwrap_or_default()
    }
}
