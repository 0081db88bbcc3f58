//! A member's voice: the node's own voice pipeline, with a script in place of the microphone and a
//! recording in place of the loudspeaker.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::datagram::{Bundle, KIND_BUNDLE, KIND_FORWARD, KIND_FORWARDED, KIND_VOICE};
use hark_node::{
    clock::Clock,
    link::Links,
    network::{Input, VoiceControl},
};
use hark_voice::{Pipeline, SIDES, VoiceCommand, VoiceStatistics, mix::mean};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    context,
    malice::Loot,
    network::Fabric,
    scenario::{Actor, Flood},
    speech::Script,
    witness::Witness,
};

/// Samples spoken and heard at once: 10 ms, and half as many with low delay.
const BLOCK: usize = 480;

/// The voice of one incarnation of a member. Clones are the same voice.
#[derive(Clone)]
pub(crate) struct Voice(Arc<Mutex<State>>);

struct State {
    pipeline: Pipeline,
    links: Weak<Links>,
    inputs: UnboundedSender<Input>,
    script: Script,
    /// The virtual time of sample 0, both spoken and heard.
    start: Duration,
    /// The same time by the machine's own clock.
    clock_start: Timestamp,
    blocks: u64,
    block: Duration,
    played: Vec<f32>,
    spoken: Vec<f32>,
    datagrams: Datagrams,
    told: Told,
    floods: Option<Flood>,
}

/// Everything that observes a voice.
pub(crate) struct Told {
    /// Keeps the sound that is heard, if it should be kept.
    pub(crate) heard: Option<Arc<Mutex<HeardSound>>>,
    /// Keeps the keys that the member is given.
    pub(crate) loot: Loot,
    /// The witness, which observes everything.
    pub(crate) witness: Witness,
    /// The machine of the member.
    pub(crate) machine: usize,
    pub(crate) device: DeviceId,
}

/// Counts of voice datagrams on a member's own link.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Datagrams {
    /// Datagrams of its own voice, sent to members and relays.
    pub(crate) sent: u64,
    /// Datagrams of others' voice, received from members and relays.
    pub(crate) came: u64,
}

/// The sound that a member has heard since its first start, with silence while it did not run.
#[derive(Debug, Default)]
pub struct HeardSound {
    /// Samples at 48 kHz, the mean of left and right.
    pub samples: Vec<f32>,
}

impl HeardSound {
    /// Appends what is heard at virtual time `at`, after silence up to that time.
    fn push(&mut self, at: Duration, stereo: &[f32]) {
        let position = (at.as_nanos() * 3 / 62_500) as usize;
        // A difference between clocks that is smaller than this leaves no gap.
        if position > self.samples.len() + BLOCK {
            self.samples.resize(position, 0.0);
        }
        self.samples.extend(mean(stereo));
    }
}

impl Voice {
    /// The voice of `actor`, which begins at `now`.
    pub(crate) fn new(
        pipeline: Pipeline,
        links: &Arc<Links>,
        inputs: UnboundedSender<Input>,
        actor: &Actor,
        now: Duration,
        told: Told,
    ) -> Self {
        let samples = if actor.member.low_delay { BLOCK / 2 } else { BLOCK };
        Self(Arc::new(Mutex::new(State {
            pipeline,
            links: Arc::downgrade(links),
            inputs,
            script: actor.script.clone(),
            start: now,
            clock_start: Clock.now(),
            blocks: 0,
            block: Duration::from_nanos(samples as u64 * 62_500 / 3),
            played: vec![0.0; SIDES * samples],
            spoken: vec![0.0; samples],
            datagrams: Datagrams::default(),
            told,
            floods: actor.member.floods,
        })))
    }

    /// Speaks and hears for as long as the member runs, by the machine's clock. Nothing happens
    /// while the machine is paused. After a long pause the older part is skipped, as sound cards
    /// do.
    pub(crate) async fn run(self, fabric: Fabric, host: usize) {
        loop {
            let due = self.lock().due();
            tokio::time::sleep(due.saturating_duration_since(Clock.now())).await;
            if fabric.is_paused(host) {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            self.lock().turn();
        }
    }

    /// Handles a datagram that has arrived on the link from a device.
    pub(crate) fn datagram(&self, arrived: Timestamp, from: DeviceId, bytes: &[u8]) {
        let mut state = self.lock();
        state.datagrams.came += voices_in(bytes);
        state.pipeline.handle_datagram(arrived, from, bytes);
        state.pump();
    }

    /// The current values of all counters.
    pub(crate) fn statistics(&self) -> VoiceStatistics {
        self.lock().pipeline.statistics()
    }

    /// Counts of the voice datagrams that were sent and received.
    pub(crate) fn datagrams(&self) -> Datagrams {
        self.lock().datagrams
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VoiceControl for Voice {
    fn command(&self, command: VoiceCommand) {
        let mut state = self.lock();
        state.told.loot.note(&command);
        state.told.witness.commanded(state.told.device, &command);
        state.pipeline.handle_command(Clock.now(), command);
        state.pump();
    }

    fn statistics(&self) -> VoiceStatistics {
        self.statistics()
    }
}

impl State {
    /// When the next block has been spoken, by the machine's clock.
    fn due(&self) -> Timestamp {
        self.clock_start + self.block_time(self.blocks + 1)
    }

    fn turn(&mut self) {
        let now = Clock.now();
        let late = now.saturating_duration_since(self.due());
        if late > PAUSE_MAX {
            let skipped = (late - PAUSE_MAX).as_nanos() / self.block.as_nanos();
            self.blocks += u64::try_from(skipped).unwrap_or(0);
        }
        while self.due() <= now {
            let at = self.due();
            let spoken_at = self.start + self.block_time(self.blocks);
            self.script.fill(spoken_at, &mut self.spoken);
            self.pipeline.handle_capture(at, &self.spoken);
            self.pump();
            self.pipeline.playout(at, &mut self.played);
            if let Some(heard) = &self.told.heard {
                let heard_at = self.start + self.block_time(self.blocks + 1);
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(heard_at, &self.played);
            }
            self.blocks += 1;
        }
        if self.pipeline.poll_timeout().is_some_and(|due| due <= now) {
            self.pipeline.handle_timeout(now);
        }
        self.pump();
    }

    fn block_time(&self, blocks: u64) -> Duration {
        Duration::from_nanos(u64::try_from(self.block.as_nanos()).unwrap_or(0) * blocks)
    }

    /// Sends the datagrams and events that the pipeline has produced.
    fn pump(&mut self) {
        let Some(links) = self.links.upgrade() else { return };
        let mut pushed = false;
        while let Some((to, datagram)) = self.pipeline.poll_transmit() {
            self.datagrams.sent += voices_in(datagram);
            let Told { witness, machine, device, .. } = &self.told;
            witness.spoke(*machine, *device, to, datagram);
            for datagram in flood(self.floods, datagram) {
                links.push(to, datagram.into());
            }
            pushed = true;
        }
        if pushed {
            links.flush();
        }
        while let Some(event) = self.pipeline.poll_event() {
            // The node may have ended.
            let _ = self.inputs.send(Input::Voice(event));
        }
    }
}

/// The datagrams that are sent for one of the pipeline: itself, or, while the member floods, many
/// that differ in their sequence numbers.
fn flood(floods: Option<Flood>, datagram: &[u8]) -> Vec<Vec<u8>> {
    let now = context::now();
    let rages = |it: &Flood| {
        let since = now.checked_sub(it.at.as_duration());
        since.is_some_and(|since| since < it.lasting.as_duration())
    };
    let number_at = match datagram.first() {
        Some(&KIND_VOICE) => 5,
        Some(&KIND_FORWARD) => 6,
        _ => return vec![datagram.to_vec()],
    };
    let Some(flood) = floods.filter(rages) else { return vec![datagram.to_vec()] };
    let number = u16::from_be_bytes([datagram[number_at], datagram[number_at + 1]]);
    let numbers = (0..flood.times).map(|n| number.wrapping_mul(flood.times).wrapping_add(n));
    let renumbered = numbers.map(|number| {
        let mut datagram = datagram.to_vec();
        datagram[number_at..number_at + 2].copy_from_slice(&number.to_be_bytes());
        datagram
    });
    renumbered.collect()
}

/// The number of voice datagrams in one datagram: a bundle contains several.
fn voices_in(datagram: &[u8]) -> u64 {
    match datagram.first() {
        Some(&(KIND_VOICE | KIND_FORWARD | KIND_FORWARDED)) => 1,
        Some(&KIND_BUNDLE) => Bundle::parse(datagram).map_or(0, |it| it.iter().count() as u64),
        _ => 0,
    }
}

/// The longest pause that is caught up in full. After a longer one, the older part is skipped.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a paused machine is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
