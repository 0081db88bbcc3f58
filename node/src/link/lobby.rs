//! The lobby: decides which handshakes and Hellos may be under way at this device.
//!
//! ```text
//!  first packet ── handle_knock ──> come in, show your address, or nothing
//!                                      │ one place for each, in one of three rooms
//!  handshake ───── handle_proven ─> whether this device may go on
//!  Hello ───────── leave
//! ```
//!
//! There is one room for addresses at which members have been, one for all other addresses, and one
//! for devices that relays bring. If strangers fill one room, the other rooms stay open.
//! [PROTO-2.12] [PROTO-2.20]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};

use super::{places::Places, tunnel::is_virtual};

/// The handshakes and Hellos under way that others have begun.
pub(super) struct Lobby {
    /// The places, indexed by [`Room`].
    rooms: [Places<Key>; 3],
    /// Until then, strangers' handshakes have used up the processor time that they may take.
    spent_until: Timestamp,
}

/// A place in one of the rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    room: Room,
    place: u64,
}

/// The verdict on the first packet of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection has a seat. If `instead` is set, that seat was taken away from another
    /// connection.
    Enter { seat: Seat, instead: Option<Seat> },
    /// The sender must first show that it is at its source address.
    Retry,
    /// The packet gets no answer. The sender's next packet may get one.
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

/// Where a handshake comes from: an IPv4 address, an IPv6 prefix of 56 bits (a household or an
/// office), or a device that a relay brings. Places are shared among origins.
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
    /// Creates a lobby in which nobody is.
    pub(super) fn new() -> Self {
        let room = |limit, most| Places::new(limit, most, SPARED);
        let rooms = [
            room(KNOWN_MAX, KNOWN_MAX / 2),
            room(STRANGERS_MAX, ORIGIN_MAX),
            room(RELAYED_MAX, ORIGIN_MAX),
        ];
        Self { rooms, spent_until: Timestamp::ZERO }
    }

    /// Handles the first packet of a handshake, which has come from `from`. `is_known` if members
    /// have been at that address, `validated` if the sender has shown that it is there.
    pub(super) fn handle_knock(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        is_known: bool,
        validated: bool,
    ) -> Verdict {
        let origin = Origin::of(from);
        if matches!(origin, Origin::Relayed(_)) {
            // A relay brings a device under its own name or not at all, so a Retry is not needed.
            return self.enter(now, Room::Relayed, origin).unwrap_or(Verdict::Ignore);
        }
        let direct = &self.rooms[..Room::Relayed as usize];
        let taken: usize = direct.iter().map(Places::len).sum();
        let of_origin: usize = direct.iter().map(|it| it.held(Key::Origin(origin))).sum();
        // Anybody can forge a source address, and so take the places of the device that is really
        // there.
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

    /// The handshake has shown which device is at `seat`. Returns whether it may begin its Hello.
    pub(super) fn handle_proven(&mut self, seat: Seat, device: DeviceId) -> bool {
        self.rooms[seat.room as usize].claim(seat.place, Key::Device(device), DEVICE_MAX)
    }

    /// Frees `seat`: the Hello is over, or the connection is gone.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.rooms[seat.room as usize].leave(seat.place);
    }

    /// Frees the seat of the next connection that has used up its time, and returns that seat.
    pub(super) fn poll_late(&mut self, now: Timestamp) -> Option<Seat> {
        let (at, seat) = self.next_late()?;
        (at <= now).then(|| {
            self.leave(seat);
            seat
        })
    }

    /// When [`Self::poll_late`] will return the next seat.
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
    /// The origins to which links with members have led in this run, and when the last such link
    /// came.
    seen: BTreeMap<Origin, Timestamp>,
    /// The origins at which members say that they are.
    told: BTreeSet<Origin>,
}

impl Known {
    /// Notes that a link with a member leads to `address`.
    pub(super) fn see(&mut self, now: Timestamp, address: SocketAddr) {
        let origin = Origin::of(address);
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&origin) {
            let oldest = self.seen.iter().min_by_key(|(_, at)| **at).map(|(origin, _)| *origin);
            oldest.and_then(|oldest| self.seen.remove(&oldest));
        }
        self.seen.insert(origin, now);
    }

    /// Sets the addresses at which members say that they are, in place of the former ones.
    pub(super) fn tell(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.told = addresses.into_iter().take(TOLD_MAX).map(Origin::of).collect();
    }

    /// Whether members have been at the origin of `address`, or say that they are there.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        let origin = Origin::of(address);
        self.seen.contains_key(&origin) || self.told.contains(&origin)
    }
}

/// Places for origins at which members have been. One origin has at most half of them. If all are
/// taken, the origin with the most places loses its oldest one. This is the same in every room.
const KNOWN_MAX: usize = 256;

/// Places for other origins. If one handshake begins with each [`ENTRY_EVERY`], each has its place
/// for half a second, which is enough for a handshake with the other side of the earth.
const STRANGERS_MAX: usize = 512;

/// Places for devices that relays bring.
const RELAYED_MAX: usize = 256;

/// Places of one origin among strangers, or of one device that relays bring. A further handshake
/// must wait until the oldest is no longer [`SPARED`]. If its handshake stalls, each place costs 5
/// kB a second of the line's capacity.
const ORIGIN_MAX: usize = 8;

/// Connections of one device that may be at their Hello. A further one is closed. A device dials
/// several of our addresses side by side.
const DEVICE_MAX: usize = 8;

/// One handshake with a stranger may begin in this time. As many may begin at once as fill
/// [`BURST`] at this rate; further ones are ignored. All of them together take a quarter of a
/// processor core.
const ENTRY_EVERY: Duration = Duration::from_micros(900);
const BURST: Duration = Duration::from_millis(500);

/// With this many handshakes under way, further senders must first show that they are at their
/// addresses. For one origin, half of [`ORIGIN_MAX`] is enough. That takes the sender a round trip,
/// and us one short packet.
const RETRY_FROM: usize = 32;

/// How long a place is safe from further handshakes of its own origin: as long as a handshake needs
/// if packets get lost. A flood from one address therefore costs one handshake a second for each
/// place.
const SPARED: Duration = Duration::from_secs(1);

/// [PROTO-2.3] A connection that has not ended its Hello this long after its first packet is
/// closed.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// The same while at least half of the room is taken.
const HELLO_CROWDED: Duration = Duration::from_secs(3);

/// Origins of links that are remembered in this run. The one whose last link is the oldest is
/// forgotten.
const SEEN_MAX: usize = 1_024;

/// Origins that members state. Further ones count as strangers'.
const TOLD_MAX: usize = 4_096;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
