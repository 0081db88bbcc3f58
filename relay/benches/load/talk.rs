//! The talkers, and the reports of the listeners.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use hark_mesh::datagram::{Forward, ForwardedReport, Report};
use hark_node::link::DatagramSender;

use crate::{
    clock::stamp,
    member::Heard,
    sockets::{FORWARDED, FRAME},
};

/// Speech of several talkers, each of whom sends fifty frames a second.
#[derive(Clone, Copy)]
pub(crate) struct Speech {
    pub(crate) talkers: usize,
    pub(crate) lasting: Duration,
    /// Whether all talkers send at the same moment instead of one after the other.
    pub(crate) at_once: bool,
}

impl Speech {
    /// Calls `send` for each frame of each talker when it is due. Returns how many frames there
    /// were.
    pub(crate) fn run(self, mut send: impl FnMut(usize)) -> u64 {
        let begun = Instant::now();
        let rounds = (self.lasting.as_secs_f64() / FRAME_EVERY.as_secs_f64()).round() as u32;
        for round in 0..rounds {
            for talker in 0..self.talkers {
                let part = if self.at_once { 0.0 } else { talker as f64 / self.talkers as f64 };
                let due = FRAME_EVERY * round + FRAME_EVERY.mul_f64(part);
                let wait = due.saturating_sub(begun.elapsed());
                if !wait.is_zero() {
                    sleep(wait);
                }
                send(talker);
            }
        }
        u64::from(rounds) * self.talkers as u64
    }
}

/// A talker that talks through the relay.
pub(crate) struct Talker {
    outlet: Arc<DatagramSender>,
    tag: [u8; 4],
    sequence: u16,
}

impl Talker {
    pub(crate) fn new(outlet: Arc<DatagramSender>, tag: [u8; 4]) -> Self {
        Self { outlet, tag, sequence: 0 }
    }

    /// Sends the talker's next frame, which nobody could open.
    pub(crate) fn send(&mut self, number: usize, heard: &Heard) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(FORWARDED);
        let frame: &[u8] = &[0xa5; FRAME];
        Forward::encode(30, self.tag, self.sequence, [frame], &mut datagram);
        heard.note_sent(number, self.sequence, stamp());
        self.outlet.send(&datagram);
    }
}

/// Sends reports of all listeners on all talkers, `rate` times a second each, until it is over.
/// [PROTO-9.8]
pub(crate) fn report(
    listeners: &[Arc<DatagramSender>],
    heard: &Heard,
    rate: u32,
    over: &AtomicBool,
) {
    if rate == 0 {
        return;
    }
    let turns = (1_000 / REPORT_TURN_MS / u64::from(rate)).max(1) as usize;
    let begun = Instant::now();
    for turn in 0_usize.. {
        let due = Duration::from_millis(REPORT_TURN_MS) * u32::try_from(turn).unwrap_or(u32::MAX);
        sleep(due.saturating_sub(begun.elapsed()));
        if over.load(Ordering::Relaxed) {
            return;
        }
        let slots = heard.slots();
        for outlet in listeners.iter().skip(turn % turns).step_by(turns) {
            for slot in &slots {
                let mut datagram = Vec::new();
                let report = Report { received: 12, ..Report::default() };
                ForwardedReport { slot: *slot, report }.encode(&mut datagram);
                outlet.send(&datagram);
            }
        }
    }
}

const FRAME_EVERY: Duration = Duration::from_millis(20);

/// Reports are sent in turns of this length, so that they do not all arrive at once.
const REPORT_TURN_MS: u64 = 5;
