use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hark_keys::{ChannelId, DeviceId, MemberId, Timestamp};

use super::{bundle::EgressState, introductions::Introductions, limits::Bucket, uplink::Uplink};
use crate::datagram::Slot;

/// The attached devices, by slot and by device.
#[derive(Default)]
pub(super) struct Sessions {
    /// What is needed for each listener of each frame, by [`Place::index`].
    pub(super) outlets: Vec<EgressState>,
    /// Everything else, by the same index.
    entries: Vec<Option<Box<Session>>>,
    free: Vec<u16>,
    /// By the slot's number minus one: the index plus one, or 0.
    indices: Vec<u16>,
    /// Slots that are no longer in use, and when they may be given out again.
    resting: VecDeque<(Timestamp, Slot)>,
    devices: BTreeMap<DeviceId, Slot>,
}

/// A slot, and the index of its session. The index may be reused soon after the session's end; the
/// slot is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) slot: Slot,
    pub(super) index: u16,
}

/// An attached device.
pub(super) struct Session {
    pub(super) place: Place,
    pub(super) device: DeviceId,
    /// Its member, and the index where the member is counted; `None` for a device of no member.
    pub(super) member: Option<(MemberId, usize)>,
    /// For a newcomer: the devices with which it may exchange packets.
    pub(super) doors: Option<Vec<DeviceId>>,
    /// The devices to which it has recently sent packets of tunnels, and when each was last told
    /// whose packets they are.
    pub(super) tunnelled: VecDeque<Told>,
    pub(super) listening: BTreeSet<ChannelId>,
    pub(super) uplink: Uplink,
    pub(super) talking: bool,
    /// The devices that hear it, while it talks.
    pub(super) hearers: Option<Arc<Vec<Place>>>,
    /// Which of them know whose slot it is.
    pub(super) introductions: Introductions,
    /// Number of the route that it has used last.
    pub(super) route: usize,
    pub(super) voice: Bucket,
    pub(super) tunnels: Bucket,
    pub(super) reports: Bucket,
    /// Its frames that wait to be sent, oldest first.
    pub(super) queue: VecDeque<u32>,
    /// The copies that listeners want of its voice, by their index. Empty if no listener ever
    /// wanted any.
    pub(super) wants: Vec<Want>,
}

/// How many copies a listener wants, and until when, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Want(u64);

impl Want {
    pub(super) fn new(copies: u8, until: Timestamp) -> Self {
        Self(millis(until) << 3 | u64::from(copies))
    }

    /// The number of copies wanted at `now`, in milliseconds.
    pub(super) fn copies(self, now: u64) -> u8 {
        if self.0 >> 3 > now { (self.0 & 7) as u8 } else { 0 }
    }
}

pub(super) fn millis(time: Timestamp) -> u64 {
    time.as_duration().as_millis() as u64
}

impl Session {
    /// Whether packets of tunnels may be sent between the two. [PROTO-9.4] [PROTO-9.16]
    pub(super) fn tunnels_to(&self, other: &Self) -> bool {
        let led = |from: &Self, to: &Self| {
            to.member.is_some() && from.doors.as_ref().is_some_and(|it| it.contains(&to.device))
        };
        let members = self.member.is_some() && other.member.is_some();
        members || led(self, other) || led(other, self)
    }

    /// Whether `other` is to be told now which device sends it packets. At first this is repeated
    /// soon, since the notice may be lost, and later from time to time. [PROTO-9.17]
    pub(super) fn introduces(&mut self, now: Timestamp, other: Slot) -> bool {
        let found = self.tunnelled.iter_mut().find(|told| told.to == other);
        if let Some(told) = found {
            let pause = if told.times < TOLD_SOON { TOLD_SOON_AFTER } else { TOLD_EVERY };
            if now.saturating_duration_since(told.at) < pause {
                return false;
            }
            told.at = now;
            told.times = told.times.saturating_add(1);
            return true;
        }
        if self.tunnelled.len() == TUNNELLED_MAX {
            self.tunnelled.pop_front();
        }
        self.tunnelled.push_back(Told { to: other, at: now, times: 1 });
        true
    }
}

/// When a device was last told whose the packets of a tunnel are, and how often.
pub(super) struct Told {
    to: Slot,
    at: Timestamp,
    times: u8,
}

impl Sessions {
    /// Gives a device that is not attached the slot that has been free for longest, or a new one.
    /// Returns `None` if all slots are in use or resting.
    pub(super) fn attach(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        member: Option<(MemberId, usize)>,
    ) -> Option<Place> {
        let slot = match self.resting.front() {
            Some((from, slot)) if *from <= now => {
                let slot = *slot;
                self.resting.pop_front();
                slot
            }
            _ => {
                let slot = Slot::new(u16::try_from(self.indices.len() + 1).ok()?)?;
                self.indices.push(0);
                slot
            }
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.outlets.push(EgressState::default());
            self.entries.push(None);
            (self.entries.len() - 1) as u16
        });
        let place = Place { slot, index };
        self.indices[usize::from(slot.number()) - 1] = index + 1;
        self.devices.insert(device, slot);
        self.outlets[usize::from(index)].reset(Some(slot));
        self.entries[usize::from(index)] = Some(Box::new(Session {
            place,
            device,
            member,
            doors: None,
            tunnelled: VecDeque::new(),
            listening: BTreeSet::new(),
            uplink: Uplink::default(),
            talking: false,
            hearers: None,
            introductions: Introductions::default(),
            route: 0,
            voice: Bucket::default(),
            tunnels: Bucket::default(),
            reports: Bucket::default(),
            queue: VecDeque::new(),
            wants: Vec::new(),
        }));
        Some(place)
    }

    /// Ends a session. Its slot rests for [`SLOT_REST`].
    pub(super) fn detach(&mut self, now: Timestamp, slot: Slot) -> Option<Box<Session>> {
        let index = self.index(slot)?;
        let session = self.entries[index].take()?;
        self.outlets[index].reset(None);
        self.free.push(session.place.index);
        self.indices[usize::from(slot.number()) - 1] = 0;
        self.devices.remove(&session.device);
        self.resting.push_back((now + SLOT_REST, slot));
        for session in self.entries.iter_mut().flatten() {
            if let Some(want) = session.wants.get_mut(index) {
                *want = Want::default();
            }
        }
        Some(session)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Session> {
        self.entries[self.index(slot)?].as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        let index = self.index(slot)?;
        self.entries[index].as_deref_mut()
    }

    /// The session at a place, if it still exists.
    pub(super) fn at(&self, place: Place) -> Option<&Session> {
        let session = self.entries.get(usize::from(place.index))?.as_deref()?;
        (session.place.slot == place.slot).then_some(session)
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Session> {
        let session = self.entries.get_mut(usize::from(place.index))?.as_deref_mut()?;
        (session.place.slot == place.slot).then_some(session)
    }

    /// How many copies of a talker's earlier frames a listener gets with a frame that has `copies`
    /// of them; `None` if the listener is gone.
    pub(super) fn copies(&self, from: Place, to: Place, copies: u8, now_ms: u64) -> Option<u8> {
        if self.outlets.get(usize::from(to.index))?.slot != Some(to.slot) {
            return None;
        }
        if copies == 0 {
            return Some(0);
        }
        let want = self.at(from)?.wants.get(usize::from(to.index)).copied().unwrap_or_default();
        Some(want.copies(now_ms).min(copies))
    }

    pub(super) fn slot_of(&self, device: DeviceId) -> Option<Slot> {
        self.devices.get(&device).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.entries.iter().flatten().map(|it| &**it)
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    fn index(&self, slot: Slot) -> Option<usize> {
        let index = self.indices.get(usize::from(slot.number()) - 1)?.checked_sub(1)?;
        Some(usize::from(index))
    }
}

/// A device is first told this often whose packets of a tunnel it gets, at this interval, and then
/// only every [`TOLD_EVERY`].
const TOLD_SOON: u8 = 3;
const TOLD_SOON_AFTER: Duration = Duration::from_millis(100);
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// Receivers of one device's tunnel packets that are remembered. Those that are forgotten are told
/// once more.
const TUNNELLED_MAX: usize = 256;

/// How long a slot is unused after a session's end. After that time nobody attributes what was sent
/// under the slot to its new owner. [PROTO-9.1]
const SLOT_REST: Duration = Duration::from_secs(60);
