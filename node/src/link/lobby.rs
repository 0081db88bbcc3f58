//! Who may be between the first packet and the end of the Hello.
//!
//! ```text
//!  first packet ── handle_knock ──> come in, show your address, or nothing
//!                                      │ one place for each, in one of three rooms
//!  handshake ───── handle_proven ─> whether this device may go on
//!  Hello ───────── leave
//! ```
//!
//! The rooms are for addresses at which members have been, for all others, and for those whom
//! relays bring: a room that strangers fill keeps nobody out of another. [PROTO-2.12] [PROTO-2.20]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};

use super::{places::Places, tunnel::is_virtual};

/// The handshakes and Hellos under way of those who have dialled.
pub(super) struct Lobby {
    /// By [`Room`].
    rooms: [Places<Key>; 3],
    /// Until when strangers' entries have used up the time that they may take.
    spent_until: Timestamp,
}

/// A place in one of the rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    room: Room,
    place: u64,
}

/// What becomes of somebody's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has a seat; somebody else may have lost theirs for it.
    Enter { seat: Seat, instead: Option<Seat> },
    /// It is to show first that it is where it says.
    Retry,
    /// It gets no answer; its next packet may.
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Known,
    Strangers,
    Relayed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Origin(Origin),
    Device(DeviceId),
}

/// Where somebody comes from, as far as it is one and the same: an address of IPv4, a household's
/// or an office's of IPv6, or a device that a relay brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    V4([u8; 4]),
    V6([u8; 7]),
    Relayed([u8; 16]),
}

impl Origin {
    /// The origin of packets from `address`.
    pub(super) fn of(address: SocketAddr) -> Self {
        if is_virtual(address)
            && let SocketAddr::V6(it) = address
        {
            return Self::Relayed(it.ip().octets());
        }
        match address.ip().to_canonical() {
            IpAddr::V4(it) => Self::V4(it.octets()),
            IpAddr::V6(it) => {
                let [a, b, c, d, e, f, g, ..] = it.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

impl Lobby {
    /// Nobody is there.
    pub(super) fn new() -> Self {
        let room = |limit, most| Places::new(limit, most, SPARED);
        let rooms = [
            room(KNOWN_MAX, KNOWN_MAX / 2),
            room(STRANGERS_MAX, ORIGIN_MAX),
            room(RELAYED_MAX, ORIGIN_MAX),
        ];
        Self { rooms, spent_until: Timestamp::ZERO }
    }

    /// The first packet of a handshake has come from `from`, which `is_known` if members have been
    /// there, and is `validated` if the address has shown that it is there.
    pub(super) fn handle_knock(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        is_known: bool,
        validated: bool,
    ) -> Verdict {
        let origin = Origin::of(from);
        if matches!(origin, Origin::Relayed(_)) {
            // A relay says truly, or not at all, whom it brings.
            return self.enter(now, Room::Relayed, origin).unwrap_or(Verdict::Ignore);
        }
        let direct = &self.rooms[..Room::Relayed as usize];
        let taken: usize = direct.iter().map(Places::len).sum();
        let of_origin: usize = direct.iter().map(|it| it.held(Key::Origin(origin))).sum();
        // Anybody can send a packet in another's name, and keep that one out.
        if !validated && (taken >= RETRY_FROM || of_origin >= ORIGIN_MAX / 2) {
            return Verdict::Retry;
        }
        if is_known && let Some(entered) = self.enter(now, Room::Known, origin) {
            return entered;
        }
        if self.spent_until > now + BURST {
            return Verdict::Ignore;
        }
        let Some(entered) = self.enter(now, Room::Strangers, origin) else {
            return Verdict::Ignore;
        };
        self.spent_until = self.spent_until.max(now) + ENTRY_EVERY;
        entered
    }

    /// The handshake has shown which device is at `seat`; says whether it may go on to its Hello.
    pub(super) fn handle_proven(&mut self, seat: Seat, device: DeviceId) -> bool {
        self.rooms[seat.room as usize].claim(seat.place, Key::Device(device), DEVICE_MAX)
    }

    /// Its Hello is over, or it is gone.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.rooms[seat.room as usize].leave(seat.place);
    }

    /// The next one that has had its time, and has lost its seat.
    pub(super) fn poll_late(&mut self, now: Timestamp) -> Option<Seat> {
        let (at, seat) = self.next_late()?;
        (at <= now).then(|| {
            self.leave(seat);
            seat
        })
    }

    /// When [`Self::poll_late`] has somebody.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_late().map(|(at, _)| at)
    }

    fn next_late(&self) -> Option<(Timestamp, Seat)> {
        let late = |room: Room| {
            let places = &self.rooms[room as usize];
            let (place, since) = places.oldest()?;
            let patience = if places.is_crowded() { HELLO_CROWDED } else { HELLO_WITHIN };
            Some((since + patience, Seat { room, place }))
        };
        [Room::Known, Room::Strangers, Room::Relayed].into_iter().filter_map(late).min()
    }

    fn enter(&mut self, now: Timestamp, room: Room, origin: Origin) -> Option<Verdict> {
        let taken = self.rooms[room as usize].take(now, &[Key::Origin(origin)]);
        let (place, goes) = taken.ok()?;
        let seat = |place| Seat { room, place };
        Some(Verdict::Enter { seat: seat(place), instead: goes.map(seat) })
    }
}

/// Where members have been. [PROTO-2.12] [PROTO-2.21]
#[derive(Default)]
pub(super) struct Known {
    /// Where links with them have led in this run, and when the last one came.
    seen: BTreeMap<Origin, Timestamp>,
    /// Where they say that they are.
    told: BTreeSet<Origin>,
}

impl Known {
    /// A link with a member leads to `address`.
    pub(super) fn see(&mut self, now: Timestamp, address: SocketAddr) {
        let origin = Origin::of(address);
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&origin) {
            let oldest = self.seen.iter().min_by_key(|(_, at)| **at).map(|(origin, _)| *origin);
            oldest.and_then(|oldest| self.seen.remove(&oldest));
        }
        self.seen.insert(origin, now);
    }

    /// Members say that they are at these addresses, and at no others any more.
    pub(super) fn tell(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.told = addresses.into_iter().take(TOLD_MAX).map(Origin::of).collect();
    }

    /// Whether members have been where packets from `address` come from.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        let origin = Origin::of(address);
        self.seen.contains_key(&origin) || self.told.contains(&origin)
    }
}

/// Places of those who come from where members have been, of which one origin has half. When all
/// are taken, one from where the most come goes, the oldest first; so in each room.
const KNOWN_MAX: usize = 256;

/// Places of others. When one comes with each [`ENTRY_EVERY`], each has half a second, which is
/// enough for a handshake with the other side of the earth.
const STRANGERS_MAX: usize = 512;

/// Places of those whom relays bring.
const RELAYED_MAX: usize = 256;

/// Places of one origin among strangers, or of one device by relays; a further one waits until the
/// oldest is [`SPARED`] no more. Each costs a second 5 kB of what a line carries, if its handshake
/// stalls.
const ORIGIN_MAX: usize = 8;

/// Connections of one device at its Hello; a further one is closed. It dials several addresses of
/// ours side by side.
const DEVICE_MAX: usize = 8;

/// One handshake with a stranger is begun in this time, and so many at once that they take
/// [`BURST`]; further ones are ignored. All that can come take a quarter of a processor core.
const ENTRY_EVERY: Duration = Duration::from_micros(900);
const BURST: Duration = Duration::from_millis(500);

/// Handshakes under way from which newcomers must first show that they are where they say; of one
/// origin, from half of [`ORIGIN_MAX`] on. That takes them a round trip, and us one short packet.
const RETRY_FROM: usize = 32;

/// How long a place is safe from others of its own origin: as long as a handshake needs where
/// packets get lost. A flood from one address so costs a handshake a second for each place.
const SPARED: Duration = Duration::from_secs(1);

/// [PROTO-2.3] Who has not ended its Hello so long after its first packet loses its connection.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// The same where half of the room is taken.
const HELLO_CROWDED: Duration = Duration::from_secs(3);

/// Origins of links in this run; the one that was seen the longest ago is forgotten.
const SEEN_MAX: usize = 1_024;

/// Addresses that members say they have; further ones count as strangers'.
const TOLD_MAX: usize = 4_096;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
