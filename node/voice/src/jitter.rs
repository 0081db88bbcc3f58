//! Puts the frames of one talker back in order and decides how long to hold them.
//!
//! The buffer takes frames as the network delivers them. It returns a frame whenever one is due, or
//! says that it is missing. Time is an argument, so recorded arrivals replay exactly. Nothing is
//! allocated after the start.
//!
//! The delay changes at the start of a talkspurt, in gaps that are concealed anyway, and by making
//! sound longer or shorter, which the caller does.

use std::time::Duration;

use hark_keys::{TargetId, Timestamp};
use hark_mesh::datagram::FrameHeader;

use super::{
    SAMPLE_RATE, UNIT_SAMPLES,
    codec::PACKET_BYTES_MAX,
    delays::{ArrivalDelays, WaitLimits},
};

/// The frames of one talker between arrival and playout.
pub struct JitterBuffer {
    slots: [Slot; SLOTS],
    /// The packets, with room for [`PACKET_BYTES_MAX`] bytes in each slot.
    packets: Vec<u8>,
    held: usize,
    delays: ArrivalDelays,
    limits: WaitLimits,
    /// Units of 120 samples in the frame that is played next or was played last; zero before the
    /// first one.
    frame_units: i64,
    /// The newest media time that arrived, extended so that it does not wrap.
    newest: i64,
    /// Id of the key that this newest frame was sealed with.
    key: u64,
    /// Media time of the frame that is played next.
    next: i64,
    /// Number of the talkspurt that is being played.
    playing: Option<u8>,
    /// Whether the frame played last was the last one of its talkspurt.
    ended: bool,
    /// Number of samples that were concealed since a frame was played.
    concealed: usize,
    /// How many of those were concealed while still waiting for `next`.
    waited: usize,
    /// Samples to conceal at once while waiting.
    step: usize,
    /// By how many frames the newest datagram reaches back.
    reach: u8,
    /// Number of consecutive frames whose media time was far from what could be played.
    strays: u8,
    playout_delay_us: i64,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Media time of the frame; `None` while the slot is empty.
    media: Option<i64>,
    /// The target of its talkspurt.
    target: TargetId,
    length: u16,
    /// Units of 120 samples in the frame.
    units: u8,
    talkspurt: u8,
    last: bool,
    /// Units of 120 samples before the frame that its packet describes.
    described: u16,
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The header in front of the packet.
    pub header: FrameHeader,
    /// One Opus packet.
    pub packet: &'a [u8],
    /// Number of samples that it decodes to.
    pub samples: usize,
    /// Id of the key that it was sealed with.
    pub key: u64,
    /// The target of its talkspurt.
    pub target: TargetId,
    /// By how many frames what is worth a wait reaches back: the copies in its datagram, or as much
    /// of what its packet describes as the losses ask for.
    pub reach: u8,
    /// Number of samples before it that its packet describes.
    pub described: usize,
    /// Whether the frame was itself such an earlier frame.
    pub recovered: bool,
}

/// What to play next of the talker.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Nothing: nobody speaks.
    Idle,
    /// A frame to decode.
    Frame {
        /// One Opus packet.
        packet: &'a [u8],
        /// The target of its talkspurt.
        target: TargetId,
        /// Whether this is the first frame of its talkspurt that is played.
        starts: bool,
        /// Number of samples by which playout should become longer, or shorter if negative.
        stretch: isize,
    },
    /// A frame is due and is not there: this many samples are to be concealed.
    Missing {
        /// Number of samples: what is left of a frame that is given up, or a short while in which
        /// the frame may still come.
        samples: usize,
        /// Number of samples that were concealed directly before.
        concealed: usize,
        /// If the frame is given up: the earliest later frame of the talkspurt that is here. It
        /// may hold what the missing one said.
        later: Option<LaterFrame<'a>>,
    },
}

/// A frame that is held although an earlier one is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterFrame<'a> {
    /// One Opus packet.
    pub packet: &'a [u8],
    /// Number of samples from the first missing one to this frame.
    pub before: usize,
}

/// What became of a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It waits to be played.
    Held,
    /// It arrived after it was due.
    Late,
    /// The frame is already here.
    Repeated,
    /// Its media time makes no sense.
    Stray,
}

impl Default for JitterBuffer {
    /// An empty buffer.
    fn default() -> Self {
        Self {
            slots: [EMPTY; SLOTS],
            packets: vec![0; SLOTS * PACKET_BYTES_MAX],
            held: 0,
            delays: ArrivalDelays::default(),
            limits: WaitLimits::default(),
            frame_units: 0,
            newest: 0,
            key: 0,
            next: 0,
            playing: None,
            ended: false,
            concealed: 0,
            waited: 0,
            step: UNIT_SAMPLES,
            reach: 0,
            strays: 0,
            playout_delay_us: 0,
        }
    }
}

impl JitterBuffer {
    /// Takes a frame that has arrived.
    pub fn insert(&mut self, arrived: Timestamp, frame: &Frame<'_>) -> Inserted {
        let Frame { header, packet, target, key, .. } = *frame;
        let frame_units = (frame.samples / UNIT_SAMPLES) as i64;
        if packet.len() > PACKET_BYTES_MAX || frame_units == 0 {
            return Inserted::Stray;
        }
        let step = i64::from(header.media_time.wrapping_sub(self.newest as u32) as i32);
        let mut media = self.newest + step;
        // Under one key media time never goes back. Otherwise a frame that somebody kept until now
        // would be heard as if it were said now.
        if key == self.key && step < -self.window_units() {
            return Inserted::Late;
        }
        let end_us = (media + frame_units) * UNIT_US;
        if self.frame_units == 0 {
            // The first frame.
            self.restart(frame_units, media);
        } else if self.delays.waited_us(arrived, end_us).abs() > STRAY_US {
            // In the middle of a talkspurt a single such frame is an accident. Several in a row, or
            // one in silence, mean that the media time has changed.
            self.strays += 1;
            if self.playing.is_some() && self.strays < STRAYS_MAX {
                return Inserted::Stray;
            }
            media = i64::from(header.media_time);
            self.restart(frame_units, media);
        } else if media >= self.next + self.window_units() {
            // A later talkspurt. Frames before this one may still arrive.
            self.forget_held();
            self.next = media - self.window_units() / 2;
        }
        self.strays = 0;
        if media >= self.newest {
            (self.newest, self.key) = (media, key);
        }
        let index = self.index(media);
        if self.slots[index].media == Some(media) {
            return Inserted::Repeated;
        }
        self.reach = frame.reach;
        self.delays.handle_arrival(
            arrived,
            (media + frame_units) * UNIT_US,
            length_of(frame_units),
            frame.reach,
            frame.recovered,
        );
        if media < self.next {
            return Inserted::Late;
        }
        if self.slots[index].media.is_none() {
            self.held += 1;
        }
        self.slots[index] = Slot {
            media: Some(media),
            target,
            length: packet.len() as u16,
            units: frame_units as u8,
            talkspurt: header.talkspurt,
            last: header.last,
            described: u16::try_from(frame.described / UNIT_SAMPLES).unwrap_or(u16::MAX),
        };
        let at = index * PACKET_BYTES_MAX;
        self.packets[at..at + packet.len()].copy_from_slice(packet);
        Inserted::Held
    }

    /// Returns what is due when a block of `block` samples is filled at `now`, of which `filled`
    /// are filled already. The caller asks again until the block is full.
    pub fn next(&mut self, now: Timestamp, filled: usize, block: usize) -> Next<'_> {
        let (filled_us, block_us) = (samples_us(filled), samples_us(block));
        let mut starts = false;
        if self.playing.is_none() {
            // Most talkers say nothing most of the time.
            if self.held == 0 {
                self.ended = false;
                return Next::Idle;
            }
            if !self.follow() && !self.start(now, block_us) {
                return Next::Idle;
            }
            starts = true;
        }
        let target_us = self.target_us(now, block_us);
        let frame = self.frame_samples();
        loop {
            let index = self.index(self.next);
            if self.slots[index].media == Some(self.next) {
                let catching_up = self.waited >= frame
                    && self.delay_us(now) - self.frame_us() >= target_us
                    && !self.slots[index].last;
                if catching_up {
                    // Concealment has already filled its time.
                    self.waited -= frame;
                    self.empty(index);
                    self.next += self.frame_units;
                    continue;
                }
                // The end of the previous talkspurt may have been lost.
                starts |= Some(self.slots[index].talkspurt) != self.playing;
                self.playout_delay_us = self.delay_us(now) + filled_us;
                let surplus_us = self.delay_us(now) - target_us;
                let stretch = if starts { 0 } else { stretch(surplus_us, filled_us, block_us) };
                return self.take(index, starts, stretch);
            }
            let later = self.earliest().map(|index| self.slots[index]);
            if let Some(Slot { talkspurt, media: Some(media), .. }) = later
                && (Some(talkspurt) != self.playing || self.run_is_over())
            {
                // The rest of the talkspurt is lost. The frame that is here starts a new one.
                self.playing = None;
                self.next = media;
                return Next::Idle;
            }
            if later.is_none() && self.run_is_over() {
                return Next::Idle;
            }
            if self.may_come(now, target_us) {
                self.waited += self.step;
                return self.conceal(self.step, None);
            }
            let missing = self.next;
            self.next += self.frame_units;
            if self.waited >= frame {
                self.waited -= frame;
                continue;
            }
            let samples = frame - std::mem::take(&mut self.waited);
            return self.conceal(samples, Some(missing));
        }
    }

    /// Returns the next frame before it is due, if it is here and nothing but its sound would
    /// change. It is asked for where playout is to become shorter.
    pub fn following(&mut self) -> Option<Next<'_>> {
        let index = self.index(self.next);
        let slot = self.slots[index];
        let follows = slot.media == Some(self.next) && Some(slot.talkspurt) == self.playing;
        follows.then(|| self.take(index, false, 0))
    }

    /// Whether a talkspurt is being played.
    pub fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    /// How long the last played frame was held beyond the fastest arrival.
    pub fn playout_delay(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.playout_delay_us).unwrap_or(0))
    }

    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub fn jitter(&self) -> Duration {
        self.delays.jitter()
    }

    /// How long frames should be held beyond the fastest arrival.
    pub fn target(&self, now: Timestamp) -> Duration {
        self.limits.clamp(self.delays.target(now))
    }

    /// Sets between which limits that is.
    pub fn set_limits(&mut self, limits: WaitLimits) {
        self.limits = limits;
    }

    /// How many copies of earlier frames can arrive in time for what will be waited.
    pub fn copies_awaited(&self) -> u8 {
        self.limits.copies(length_of(self.frame_units))
    }

    /// Number of samples in a frame; zero before the first one.
    pub fn frame_samples(&self) -> usize {
        self.frame_units as usize * UNIT_SAMPLES
    }

    /// Continues with a talkspurt that follows the previous one without a pause, if its frame is
    /// here. The previous one has already waited as long as needed.
    fn follow(&mut self) -> bool {
        let slot = self.slots[self.index(self.next)];
        let follows = std::mem::take(&mut self.ended) && slot.media == Some(self.next);
        if follows {
            self.playing = Some(slot.talkspurt);
            self.frame_units = i64::from(slot.units);
        }
        follows
    }

    /// Starts a talkspurt if its first frame has waited long enough.
    fn start(&mut self, now: Timestamp, block_us: i64) -> bool {
        let target_us = self.target_us(now, block_us);
        let index = loop {
            let Some(index) = self.earliest() else { return false };
            self.next = self.slots[index].media.unwrap_or(self.next);
            self.frame_units = i64::from(self.slots[index].units);
            let excess = self.delay_us(now) - target_us;
            if excess < 0 {
                return false;
            }
            if excess < self.frame_us() + block_us || self.held == 1 {
                break index;
            }
            // Frames arrived in one burst after a pause. Those that are too old would delay all the
            // rest.
            self.empty(index);
        };
        self.playing = Some(self.slots[index].talkspurt);
        self.concealed = 0;
        self.waited = 0;
        true
    }

    fn take(&mut self, index: usize, starts: bool, stretch: isize) -> Next<'_> {
        let slot = self.slots[index];
        self.empty(index);
        // Another talkspurt may have frames of another length.
        self.frame_units = i64::from(slot.units);
        self.next += self.frame_units;
        self.concealed = 0;
        self.waited = 0;
        self.playing = (!slot.last).then_some(slot.talkspurt);
        self.ended = slot.last;
        // Opus conceals any 2.5 ms of what CELT has coded, but only 10 ms of what SILK has
        // (RFC 6716 section 3.1).
        let packet = &self.packets[index * PACKET_BYTES_MAX..][..usize::from(slot.length)];
        let celt = packet.first().is_some_and(|toc| toc >> 3 >= FIRST_CELT_CONFIGURATION);
        self.step = if celt { UNIT_SAMPLES } else { SILK_STEP.min(self.frame_samples()) };
        Next::Frame { packet, target: slot.target, starts, stretch }
    }

    /// Whether the frame that is due may still come: nothing later has come, or a later datagram
    /// may bring a copy.
    fn may_come(&self, now: Timestamp, target_us: i64) -> bool {
        let brought_until = self.next + i64::from(self.reach) * self.frame_units;
        self.newest < self.next
            || self.newest < brought_until
                && self.delay_us(now) < target_us + self.frame_us()
                && !self.is_described()
    }

    /// Whether the earliest frame that is here describes the one that is due.
    fn is_described(&self) -> bool {
        let earliest = self.earliest().map(|index| self.slots[index]);
        earliest.is_some_and(|slot| {
            let reaches = slot.media.map(|media| media - i64::from(slot.described));
            reaches.is_some_and(|reaches| reaches <= self.next)
        })
    }

    /// Conceals `samples`, of the frame of media time `given_up` if that will not be played.
    fn conceal(&mut self, samples: usize, given_up: Option<i64>) -> Next<'_> {
        let concealed = self.concealed;
        self.concealed += samples;
        let end = given_up.map(|media| media + self.frame_units);
        let later = end.and_then(|end| self.later_than(end, samples));
        Next::Missing { samples, concealed, later }
    }

    /// The earliest held frame of the talkspurt that is being played, if it is not before `end`,
    /// where `samples` missing ones end.
    fn later_than(&self, end: i64, samples: usize) -> Option<LaterFrame<'_>> {
        let index = self.earliest()?;
        let slot = self.slots[index];
        let between = usize::try_from(slot.media? - end).ok()?;
        let before = samples + between * UNIT_SAMPLES;
        let same = Some(slot.talkspurt) == self.playing;
        same.then(|| LaterFrame { packet: self.packet(index), before })
    }

    fn packet(&self, index: usize) -> &[u8] {
        let at = index * PACKET_BYTES_MAX;
        &self.packets[at..at + usize::from(self.slots[index].length)]
    }

    /// Whether nothing of the talkspurt has arrived for so long that it counts as over.
    fn run_is_over(&mut self) -> bool {
        let over = self.concealed >= TALKSPURT_TIMEOUT;
        if over {
            self.playing = None;
        }
        over
    }

    /// How far behind the fastest arrival the next frame would be played.
    fn delay_us(&self, now: Timestamp) -> i64 {
        self.delays.waited_us(now, (self.next + self.frame_units) * UNIT_US)
    }

    /// The target delay. If one block takes several frames, the last of them must have arrived,
    /// too.
    fn target_us(&self, now: Timestamp, block_us: i64) -> i64 {
        let target = self.target(now).as_micros() as i64;
        target + (block_us - self.frame_us()).clamp(0, BLOCK_EXTRA_MAX_US)
    }

    /// The slot with the smallest media time.
    fn earliest(&self) -> Option<usize> {
        if self.held == 0 {
            return None;
        }
        let filled = self.slots.iter().enumerate().filter(|(_, slot)| slot.media.is_some());
        filled.min_by_key(|(_, slot)| slot.media).map(|(index, _)| index)
    }

    fn restart(&mut self, frame_units: i64, media: i64) {
        self.forget_held();
        self.delays.clear();
        self.frame_units = frame_units;
        self.newest = media;
        self.next = media;
        self.strays = 0;
    }

    fn forget_held(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.media = None);
        self.held = 0;
        self.playing = None;
        self.ended = false;
    }

    fn empty(&mut self, index: usize) {
        self.slots[index].media = None;
        self.held -= 1;
    }

    /// The slot of the frame at this media time. If the frame is not here, it is a slot for it: an
    /// empty one, or if there is none, the one of the earliest frame.
    fn index(&self, media: i64) -> usize {
        let place = |wanted| self.slots.iter().position(|slot| slot.media == wanted);
        place(Some(media)).or_else(|| place(None)).or_else(|| self.earliest()).unwrap_or(0)
    }

    fn window_units(&self) -> i64 {
        self.frame_units.min(WINDOW_FRAME_UNITS) * SLOTS as i64
    }

    fn frame_us(&self) -> i64 {
        self.frame_units * UNIT_US
    }
}

fn length_of(units: i64) -> Duration {
    Duration::from_micros((units * UNIT_US) as u64)
}

/// By how many samples playout should become longer.
///
/// Frames are taken when a block is filled, so a frame in its middle plays later than it need. A
/// surplus is of use only in whole blocks.
fn stretch(surplus_us: i64, filled_us: i64, block_us: i64) -> isize {
    let us = if surplus_us < 0 {
        -surplus_us
    } else {
        -(surplus_us / block_us.max(1) * block_us + filled_us)
    };
    (us * i64::from(SAMPLE_RATE) / 1_000_000) as isize
}

fn samples_us(samples: usize) -> i64 {
    (samples as u64 * 1_000_000 / u64::from(SAMPLE_RATE)) as i64
}

/// A slot that holds nothing.
const EMPTY: Slot = Slot {
    media: None,
    target: TargetId::from_bytes([0; 16]),
    length: 0,
    units: 0,
    talkspurt: 0,
    last: false,
    described: 0,
};

/// Number of slots: 1.28 s with frames of 10 ms. A frame that is further ahead clears all others.
const SLOTS: usize = 128;

/// The longest frames, in units, that make the window longer: those of 10 ms. A talker may go on
/// with shorter frames, and those need slots.
const WINDOW_FRAME_UNITS: i64 = 4;

/// Microseconds in a unit of media time.
const UNIT_US: i64 = 2_500;

/// A frame that is this much earlier or later than the others is not late but a stray.
const STRAY_US: i64 = 2_000_000;

/// After this many consecutive strays the buffer starts over with the last one.
const STRAYS_MAX: u8 = 5;

/// A talkspurt is over after this number of samples, 200 ms, without a frame, even if its last
/// frame has not been seen.
const TALKSPURT_TIMEOUT: usize = SAMPLE_RATE as usize / 5;

/// The first configuration of CELT alone in a packet's first byte (RFC 6716 section 3.1).
const FIRST_CELT_CONFIGURATION: u8 = 16;

/// Samples that SILK conceals at once: 10 ms.
const SILK_STEP: usize = SAMPLE_RATE as usize / 100;

/// The most that is waited for long blocks. Nobody uses longer ones.
const BLOCK_EXTRA_MAX_US: i64 = 100_000;

#[cfg(test)]
#[path = "jitter_tests.rs"]
mod tests;
