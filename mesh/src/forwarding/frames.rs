use std::sync::Arc;

use hark_keys::Timestamp;

use super::sessions::Place;
use crate::datagram::{FRAMES_MAX, Forwarded, Slot, Tunnel, Voice};

/// The frames that wait to be sent. Buffers are reused, so that nothing is allocated once there are
/// enough.
#[derive(Default)]
pub(super) struct Frames {
    frames: Vec<Frame>,
    free: Vec<u32>,
}

/// One datagram, and the devices that still have to get it.
pub(super) struct Frame {
    /// The datagram, of kind 5 or 6.
    pub(super) bytes: Vec<u8>,
    /// Length of `bytes` for each number of copies of earlier frames.
    ends: [u16; FRAMES_MAX],
    /// Number of copies that it has.
    pub(super) copies: u8,
    pub(super) from: Place,
    pub(super) arrived: Timestamp,
    to: To,
    next: usize,
    left: usize,
}

enum To {
    Nobody,
    /// Voice. The list is shared with the fan-out that it comes from.
    Hearers(Arc<Vec<Place>>),
    /// A packet of a tunnel.
    One(Place),
}

impl Frames {
    /// Stores voice of `from` for `hearers`; `body` is what follows the level in a datagram of kind
    /// 4. Returns `None` if there are too many frames.
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

    /// Stores a packet of `from` for `to`.
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

    /// Frees the frame. Its bytes stay until the next one is stored there.
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
    /// The next receiver, skipping the talker's own device.
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

    /// How many receivers still have to get it.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.to, To::One(_))
    }

    /// Keeps `copies` of earlier frames in it, the newest ones. Returns its length in bytes then.
    pub(super) fn with_copies(&mut self, copies: u8) -> usize {
        if !self.is_tunnel() {
            self.bytes[Forwarded::COPIES_AT] = copies;
        }
        usize::from(self.ends[usize::from(copies)])
    }
}

/// Index of the receiver in `hearers` that the frame with this sequence number is sent to first.
/// The last ones are the least likely to get it in time, so these should not always be the same.
pub(super) fn first_of(sequence: u16, hearers: usize) -> usize {
    usize::from(sequence.wrapping_mul(STRIDE)).checked_rem(hearers).unwrap_or(0)
}

/// Datagrams of all senders that wait at once. A further one is dropped and counted.
const WAITING_MAX: usize = 4_096;

/// Coprime to all numbers of listeners that are not multiples of it.
const STRIDE: u16 = 7_919;
