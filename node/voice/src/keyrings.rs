//! The keys of one talker: a ring for each of its targets, and the nets on which that target is
//! heard.

use hark_keys::{
    DeviceId, EpochKey, EpochSecret, KeySecret, OpenFrameError, SenderKeyring, TargetId, Timestamp,
};

use super::nets::Net;

/// Opens what one device seals, and says through which nets it came.
pub struct Keyrings {
    device: DeviceId,
    rings: Vec<Ring>,
}

struct Ring {
    target: TargetId,
    tag: [u8; 4],
    keys: SenderKeyring,
    /// The nets through which the target reaches us.
    heard: Vec<Net>,
    /// Whether the target has priority over all others.
    priority: bool,
    /// When something was last opened with the ring, or a key was put into it.
    used: Timestamp,
}

impl Ring {
    /// Stops hearing the target if there is no key left that opens it.
    fn fall_silent_if_closed(&mut self) {
        if self.keys.is_empty() {
            self.heard.clear();
        }
    }
}

impl Keyrings {
    /// Creates an empty set of rings for `device`.
    pub fn new(device: DeviceId) -> Self {
        Self { device, rings: Vec::new() }
    }

    /// Takes a key to `target`, and the nets on which it is heard from now on. Nothing opens that
    /// is not heard. If there are more than [`TALKER_TARGETS_MAX`] targets, the least recently used
    /// one is removed, but never one that holds epochs or remembers what they have opened. If none
    /// may be removed, the new target is refused.
    pub fn install(
        &mut self,
        now: Timestamp,
        target: TargetId,
        tag: [u8; 4],
        heard: Vec<Net>,
        priority: bool,
        secret: &KeySecret,
    ) {
        let Some(ring) = self.ring(now, target, (tag, heard, priority)) else { return };
        ring.keys.install(now, secret);
        ring.keys.set_own_key_open(!ring.heard.is_empty());
    }

    /// Sets the nets on which `target` is heard from now on. If there are none, its keys wait for a
    /// while.
    pub fn set_heard(&mut self, target: TargetId, mut heard: Vec<Net>, priority: bool) {
        let Some(ring) = self.rings.iter_mut().find(|ring| ring.target == target) else { return };
        heard.truncate(HEARD_MAX);
        ring.keys.set_own_key_open(!heard.is_empty());
        if !heard.is_empty() || ring.keys.is_empty() {
            (ring.heard, ring.priority) = (heard, priority);
        }
    }

    /// Takes a key to `target` in an epoch, and the nets on which it is heard from now on.
    pub fn install_epoch_key(
        &mut self,
        now: Timestamp,
        target: TargetId,
        (tag, heard): ([u8; 4], Vec<Net>),
        key: &EpochKey,
    ) {
        let Some(ring) = self.ring(now, target, (tag, heard, false)) else { return };
        ring.keys.install_epoch_key(now, key);
        ring.keys.set_own_key_open(!ring.heard.is_empty());
    }

    /// Opens speech to `target` with these epochs as well, and with no other epochs.
    pub fn set_epochs(
        &mut self,
        now: Timestamp,
        target: TargetId,
        (tag, heard): ([u8; 4], &[Net]),
        epochs: &[EpochSecret],
    ) {
        if !epochs.is_empty() {
            if let Some(ring) = self.ring(now, target, (tag, heard.to_vec(), false)) {
                ring.keys.set_epochs(epochs);
            }
        } else if let Some(ring) = self.rings.iter_mut().find(|ring| ring.target == target) {
            ring.keys.set_epochs(epochs);
            ring.fall_silent_if_closed();
            self.forget();
        }
    }

    /// Erases the keys whose time is over. [PROTO-6.6]
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.rings.iter_mut().for_each(|ring| ring.keys.handle_timeout(now));
        self.forget();
    }

    /// Whether there is no key, and nothing recorded that must not be heard a second time.
    pub fn is_forgettable(&self) -> bool {
        self.rings.is_empty()
    }

    /// Whether the talker has given us a key of its own.
    pub fn has_own_key(&self) -> bool {
        self.rings.iter().any(|ring| ring.keys.has_own_key())
    }

    /// When something was last opened.
    pub fn used(&self) -> Timestamp {
        self.rings.iter().map(|ring| ring.used).max().unwrap_or(Timestamp::ZERO)
    }

    /// Returns the ring for `target`, which is heard like this from now on, if there is room for
    /// it.
    fn ring(
        &mut self,
        now: Timestamp,
        target: TargetId,
        (tag, mut heard, priority): ([u8; 4], Vec<Net>, bool),
    ) -> Option<&mut Ring> {
        heard.truncate(HEARD_MAX);
        let place = self.rings.iter().position(|ring| ring.target == target);
        let ring = match place {
            Some(place) => self.rings.swap_remove(place),
            None => {
                let keys = SenderKeyring::new(target, self.device);
                Ring { target, tag, keys, heard: Vec::new(), priority, used: now }
            }
        };
        if self.rings.len() == TALKER_TARGETS_MAX {
            let may_go = |place: &usize| !self.rings[*place].keys.has_epochs();
            let places = (0..self.rings.len()).filter(may_go);
            let oldest = places.min_by_key(|place| self.rings[*place].used)?;
            self.rings.swap_remove(oldest);
        }
        self.rings.push(Ring { tag, heard, priority, used: now.max(ring.used), ..ring });
        self.rings.last_mut()
    }

    fn forget(&mut self) {
        self.rings.retain(|ring| !ring.keys.is_forgettable());
    }

    /// Forgets the keys to `target` that the talker has given us.
    pub fn remove(&mut self, target: TargetId) {
        let ring = self.rings.iter_mut().find(|ring| ring.target == target);
        ring.into_iter().for_each(|ring| {
            ring.keys.forget_own_key();
            ring.fall_silent_if_closed();
        });
    }

    /// The link with the talker has ended: forgets all keys that it has given us.
    pub fn handle_link_end(&mut self) {
        self.rings.iter_mut().for_each(|ring| {
            ring.keys.handle_link_end();
            ring.fall_silent_if_closed();
        });
        self.forget();
    }

    /// Opens `sealed` into `out` with the keys to the target that `tag` stands for, and returns
    /// that target. If two targets have the same tag, their keys tell them apart.
    pub fn open(
        &mut self,
        now: Timestamp,
        tag: [u8; 4],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<TargetId, OpenFrameError> {
        let mut failure = None;
        for ring in self.rings.iter_mut().filter(|ring| ring.tag == tag) {
            match ring.keys.open(now, sealed, out) {
                Ok(()) => {
                    ring.used = now;
                    return Ok(ring.target);
                }
                Err(error) => failure = Some(failure.map_or(error, |it| graver(it, error))),
            }
        }
        Err(failure.unwrap_or(OpenFrameError::UnknownKey))
    }

    /// The nets through which a talkspurt to `target` reaches us, and whether it has priority over
    /// all others. There are no nets if there is no key to `target` any more.
    pub fn heard(&self, target: TargetId) -> (&[Net], bool) {
        let ring = self.rings.iter().find(|ring| ring.target == target);
        ring.map_or((&[], false), |ring| (&ring.heard, ring.priority))
    }
}

/// Which of the errors of two rings counts for a frame. "Unknown key" outweighs "other sender",
/// since a key of the right sender may be on its way. An error of a ring that has the key outweighs
/// both.
fn graver(one: OpenFrameError, other: OpenFrameError) -> OpenFrameError {
    let rank = |error| match error {
        OpenFrameError::OtherSender => 0,
        OpenFrameError::UnknownKey => 1,
        _ => 2,
    };
    if rank(one) > rank(other) { one } else { other }
}

/// Most targets of one talker. If there are more, the least recently used one is removed.
pub const TALKER_TARGETS_MAX: usize = 32;

/// Most nets of one target; further ones are not heard.
const HEARD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom, SenderKey};

    use super::*;

    #[test]
    fn of_too_many_targets_the_longest_unused_goes() {
        let random = SeededRandom::new(1);
        let device = DeviceKey::generate(&random).id();
        let secret = KeySecret::generate(1, &random);
        let target = |n: u8| TargetId::from_bytes([n; 16]);
        let mut rings = Keyrings::new(device);
        let install = |rings: &mut Keyrings, at, n: u8| {
            let now = Timestamp::from_millis(at);
            rings.install(now, target(n), [n; 4], vec![Net::Whisper], false, &secret);
        };
        for n in 0..32 {
            install(&mut rings, u64::from(n), n);
        }
        let mut sealed = Vec::new();
        SenderKey::new(target(0), device, &secret).seal(b"used", &mut sealed).unwrap();
        let now = Timestamp::from_millis(90);
        assert_eq!(rings.open(now, [0; 4], &sealed, &mut Vec::new()), Ok(target(0)));
        install(&mut rings, 100, 32);
        install(&mut rings, 101, 32);
        assert_eq!(rings.heard(target(1)), (&[][..], false));
        for kept in [0, 2, 31, 32] {
            assert_eq!(rings.heard(target(kept)), (&[Net::Whisper][..], false), "{kept}");
        }
        rings.remove(target(32));
        assert_eq!(rings.heard(target(32)), (&[][..], false));
    }

    /// Two targets may share a four-byte tag; their keys still differ.
    #[test]
    fn targets_with_one_tag_are_told_apart() {
        let random = SeededRandom::new(1);
        let device = DeviceKey::generate(&random).id();
        let mut rings = Keyrings::new(device);
        let mut sealed = Vec::new();
        for n in 0..2 {
            let (target, secret) = (TargetId::from_bytes([n; 16]), KeySecret::generate(1, &random));
            rings.install(Timestamp::ZERO, target, [7; 4], vec![Net::Whisper], false, &secret);
            SenderKey::new(target, device, &secret).seal(b"hello", &mut sealed).unwrap();
            let opened = rings.open(Timestamp::ZERO, [7; 4], &sealed, &mut Vec::new());
            assert_eq!(opened, Ok(target));
        }
    }
}
