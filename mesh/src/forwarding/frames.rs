use std::sync::Arc;

use hark_keys::Timestamp;

use super::sessions::Place;
use crate::datagram::{FRAMES_MAX, Forwarded, Slot, Tunnel, Voice};

/// What waits to be sent. Buffers are used again, so that nothing is allocated once there are
/// enough.
#[derive(Default)]
pub(super) struct Frames {
    frames: Vec<Frame>,
    free: Vec<u32>,
}

/// One datagram and whom it is still to go to.
pub(super) struct Frame {
    /// Of kind 5 or 6.
    pub(super) bytes: Vec<u8>,
    /// How long `bytes` are with so many copies of earlier frames.
    ends: [u16; FRAMES_MAX],
    /// How many copies it has.
    pub(super) copies: u8,
    pub(super) from: Place,
    pub(super) arrived: Timestamp,
    to: To,
    next: usize,
    left: usize,
}

enum To {
    Nobody,
    /// Voice; shared with the list that it is of.
    Hearers(Arc<Vec<Place>>),
    /// A packet of a tunnel.
    One(Place),
}

impl Frames {
    /// Keeps voice of `from` for `hearers`; `body` is what follows the level in a datagram of kind
    /// 4. None where there are too many already.
    pub(super) fn put_voice(
        &mut self,
        now: Timestamp,
        from: Place,
        voice: &Voice<'_>,
        body: &[u8],
        hearers: &Arc<Vec<Place>>,
    ) -> Option<u32> {
        let id = self.take_free()?;
        let frame = &mut self.frames[id as usize];
        Forwarded::begin(from.slot, body, &mut frame.bytes);
        let mut end = Forwarded::HEADER;
        for (end_with, sealed) in frame.ends.iter_mut().zip(voice.frames.iter()) {
            end += 2 + sealed.len();
            *end_with = end as u16;
        }
        frame.copies = (voice.frames.len() - 1) as u8;
        frame.from = from;
        frame.arrived = now;
        frame.next = first_of(voice.sequence, hearers.len());
        let own = hearers.binary_search(&from).is_ok();
        frame.left = hearers.len() - usize::from(own);
        frame.to = To::Hearers(Arc::clone(hearers));
        Some(id)
    }

    /// Keeps a packet of `from` for `to`.
    pub(super) fn put_tunnel(
        &mut self,
        now: Timestamp,
        from: Place,
        packet: &[u8],
        to: Place,
    ) -> Option<u32> {
        let id = self.take_free()?;
        let frame = &mut self.frames[id as usize];
        frame.bytes.clear();
        Tunnel { slot: from.slot, packet }.encode(&mut frame.bytes);
        frame.ends[0] = frame.bytes.len() as u16;
        frame.copies = 0;
        frame.from = from;
        frame.arrived = now;
        frame.left = 1;
        frame.to = To::One(to);
        Some(id)
    }

    /// It is done with; its bytes stay until the next is put.
    pub(super) fn release(&mut self, id: u32) {
        self.frames[id as usize].to = To::Nobody;
        self.free.push(id);
    }

    pub(super) fn get(&mut self, id: u32) -> &mut Frame {
        &mut self.frames[id as usize]
    }

    fn take_free(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        if self.frames.len() == WAITING_MAX {
            return None;
        }
        self.frames.push(Frame {
            bytes: Vec::new(),
            ends: [0; FRAMES_MAX],
            copies: 0,
            from: Place { slot: Slot::new(1).expect("not zero"), index: 0 },
            arrived: Timestamp::ZERO,
            to: To::Nobody,
            next: 0,
            left: 0,
        });
        Some((self.frames.len() - 1) as u32)
    }
}

impl Frame {
    /// The next whom it is for, the talker's own device left out.
    pub(super) fn next(&mut self) -> Option<Place> {
        self.left = self.left.checked_sub(1)?;
        match &self.to {
            To::Nobody => None,
            To::One(place) => Some(*place),
            To::Hearers(hearers) => loop {
                let place = hearers[self.next];
                self.next = if self.next + 1 == hearers.len() { 0 } else { self.next + 1 };
                if place.slot != self.from.slot {
                    return Some(place);
                }
            },
        }
    }

    /// How many it has not gone to yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.to, To::One(_))
    }

    /// Leaves `copies` of earlier frames in it, the newest; says how many bytes it has then.
    pub(super) fn with_copies(&mut self, copies: u8) -> usize {
        if !self.is_tunnel() {
            self.bytes[Forwarded::COPIES_AT] = copies;
        }
        usize::from(self.ends[usize::from(copies)])
    }
}

/// Which of `hearers` the frame with this sequence number goes to first. Who comes last is least
/// likely to get it in time: not always the same ones.
pub(super) fn first_of(sequence: u16, hearers: usize) -> usize {
    usize::from(sequence.wrapping_mul(STRIDE)).checked_rem(hearers).unwrap_or(0)
}

/// Datagrams that wait at once, of everybody. A further one is dropped and counted.
const WAITING_MAX: usize = 4_096;

/// Prime to all numbers of listeners that are not multiples of it.
const STRIDE: u16 = 7_919;
