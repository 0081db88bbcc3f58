use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DecodeError, DeviceId, ObjectHash, Timestamp};

use crate::message::{PAST_PART_BYTES, PAST_PARTS_MAX, PastPart};

/// Parts of settled pasts that peers send. The parts of each peer are kept separately, so no peer
/// holds up another. [CHARTER-7.5] [CHARTER-7.23]
#[derive(Default)]
pub(super) struct Pasts {
    incoming: BTreeMap<DeviceId, Incoming>,
    /// The past that each linked peer has last begun to send.
    announced: BTreeMap<DeviceId, ObjectHash>,
    /// How often a peer has begun without success. It then gives way to others.
    failures: BTreeMap<DeviceId, u32>,
}

/// The parts that one peer has sent.
struct Incoming {
    id: ObjectHash,
    parts: u16,
    began: Timestamp,
    held: BTreeMap<u16, Vec<u8>>,
}

impl Incoming {
    /// The time by which all parts must have arrived. Each new part extends it, up to a limit.
    fn ends_at(&self) -> Timestamp {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        self.began + (PATIENCE + PATIENCE_OF_PART.saturating_mul(held)).min(PATIENCE_MAX)
    }
}

impl Pasts {
    pub(super) fn link_down(&mut self, device: DeviceId) {
        self.announced.remove(&device);
        if self.incoming.remove(&device).is_some() {
            self.fail(device);
        }
    }

    /// Takes a part. Returns the whole past once all parts are there.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        part: PastPart,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let PastPart { id, part, parts, bytes } = part;
        // All parts but the last have the full length, so that each costs the sender something.
        let is_whole = part + 1 == parts || bytes.len() == PAST_PART_BYTES;
        if part >= parts || parts > PAST_PARTS_MAX || bytes.is_empty() || !is_whole {
            return Err(DecodeError::Malformed);
        }
        self.expire(now);
        self.announced.insert(from, id);
        let known = self.incoming.get(&from);
        if known.is_some_and(|known| (known.id, known.parts) != (id, parts)) {
            self.incoming.remove(&from);
            self.fail(from);
        }
        if !self.incoming.contains_key(&from) && !self.make_room(from, id) {
            return Ok(None);
        }
        let fresh = || Incoming { id, parts, began: now, held: BTreeMap::new() };
        let incoming = self.incoming.entry(from).or_insert_with(fresh);
        incoming.held.entry(part).or_insert_with(|| bytes.into_vec());
        if incoming.held.len() < usize::from(parts) {
            return Ok(None);
        }
        let whole = self.incoming.remove(&from).into_iter().flat_map(|it| it.held.into_values());
        let whole: Vec<u8> = whole.flatten().collect();
        if blake3::hash(&whole).as_bytes() == id.as_bytes() {
            Ok(Some(whole))
        } else {
            self.fail(from);
            Err(DecodeError::Malformed)
        }
    }

    /// What a peer has sent is not a valid past.
    pub(super) fn fail(&mut self, from: DeviceId) {
        if self.failures.len() >= FAILURES_MAX && !self.failures.contains_key(&from) {
            let fewest = self.failures.iter().min_by_key(|(_, failures)| **failures);
            if let Some(device) = fewest.map(|(device, _)| *device) {
                self.failures.remove(&device);
            }
        }
        let failures = self.failures.entry(from).or_default();
        *failures = failures.saturating_add(1);
    }

    fn expire(&mut self, now: Timestamp) {
        let over: Vec<_> = self
            .incoming
            .extract_if(.., |_, it| it.ends_at() <= now)
            .map(|(from, _)| from)
            .collect();
        for from in over {
            self.fail(from);
        }
    }

    /// Whether there is room for what `from` sends. It may take the place of a peer that has failed
    /// more often, or of one that has failed as often and whose past fewer peers announce.
    fn make_room(&mut self, from: DeviceId, id: ObjectHash) -> bool {
        if self.incoming.len() < SENDERS_MAX {
            return true;
        }
        let rank = |device: &DeviceId, id: &ObjectHash| {
            let failures = self.failures.get(device).copied().unwrap_or(0);
            let announcers = self.announced.values().filter(|it| *it == id).count();
            (failures, std::cmp::Reverse(announcers))
        };
        let ranks = self.incoming.iter().map(|(device, it)| (rank(device, &it.id), *device));
        let Some((worst, device)) = ranks.max() else { return true };
        let better = rank(&from, &id) < worst;
        if better {
            self.incoming.remove(&device);
            self.fail(device);
        }
        better
    }
}

/// Peers whose parts are kept at a time, at most 16 MiB of each. Parts of further peers are not
/// kept; they come again with a later comparison.
const SENDERS_MAX: usize = 3;

/// How long a peer may take at least to send its past. After that its parts are forgotten, and it
/// gives way to others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time added for each part that has arrived: 64 kbit/s.
const PATIENCE_OF_PART: Duration = Duration::from_secs(4);

/// The longest time in total.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// Peers whose failures are remembered. If there are more, those of the peer with the fewest are
/// forgotten.
const FAILURES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, List, SeededRandom};

    use super::*;
    use crate::message::Message;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000 * seconds)
    }

    fn devices() -> [DeviceId; 6] {
        let random = SeededRandom::new(1);
        std::array::from_fn(|_| DeviceKey::generate(&random).id())
    }

    fn parts_of(past: &[u8]) -> Vec<PastPart> {
        let parts = Message::of_past(past).into_iter().map(|message| match message {
            Message::Past(part) => part,
            _ => unreachable!(),
        });
        parts.collect()
    }

    fn junk(id: u8, part: u16, parts: u16) -> PastPart {
        let bytes = List::truncated(std::iter::repeat_n(7, PAST_PART_BYTES));
        PastPart { id: ObjectHash::from_bytes([id; 32]), part, parts, bytes }
    }

    /// Regression: a peer that sent the first of two parts every 4 s kept a newcomer from all
    /// pasts.
    #[test]
    fn a_peer_that_repeats_its_first_part_for_ever_holds_up_no_other() {
        let [evil, honest, ..] = devices();
        let past: Vec<u8> = (0..3 * PAST_PART_BYTES).map(|number| number as u8).collect();
        let mut pasts = Pasts::default();
        for second in (0..40).step_by(4) {
            assert_eq!(pasts.take(at(second), evil, junk(1, 0, 2)), Ok(None));
        }
        let mut whole = None;
        for part in parts_of(&past) {
            assert_eq!(pasts.take(at(41), evil, junk(1, 0, 2)), Ok(None));
            whole = pasts.take(at(41), honest, part).unwrap();
        }
        assert_eq!(whole, Some(past));
        assert!(pasts.failures[&evil] >= 2, "repeats earn no time");
    }

    /// [CHARTER-7.5] [CHARTER-7.23] Five devices that work together, whether or not they come back
    /// with new links.
    #[test]
    fn many_that_send_what_is_no_past_give_way_to_one_that_sends_one() {
        let [honest, evil @ ..] = devices();
        let past: Vec<u8> = (0..2 * PAST_PART_BYTES).map(|number| number as u8).collect();
        for relinks in [true, false] {
            let mut pasts = Pasts::default();
            let mut taken = None;
            for second in 0..60 {
                for device in evil {
                    pasts.take(at(second), device, junk(1, 0, 2)).unwrap();
                    if relinks && second % 7 == 3 {
                        pasts.link_down(device);
                    }
                }
                for part in parts_of(&past) {
                    if pasts.take(at(second), honest, part).unwrap().is_some() {
                        taken.get_or_insert(second);
                    }
                }
                assert!(pasts.incoming.len() <= SENDERS_MAX);
            }
            assert!(taken.is_some_and(|second| second <= 14), "{taken:?}");
        }
    }

    /// [CHARTER-7.5]
    #[test]
    fn a_past_that_many_announce_comes_before_one_of_few() {
        let [first, second, third, one, other, last] = devices();
        let mut pasts = Pasts::default();
        for (id, device) in [(1, first), (2, second), (3, third)] {
            pasts.take(at(0), device, junk(id, 0, 2)).unwrap();
        }
        pasts.take(at(1), one, junk(4, 0, 2)).unwrap();
        assert!(!pasts.incoming.contains_key(&one), "as many announce each other one");
        pasts.take(at(1), other, junk(4, 0, 2)).unwrap();
        assert!(pasts.incoming.contains_key(&other));
        pasts.take(at(1), last, junk(4, 0, 2)).unwrap();
        assert_eq!(pasts.incoming.len(), SENDERS_MAX);
    }

    /// [CHARTER-7.5]
    #[test]
    fn parts_that_cannot_be_are_refused() {
        let [peer, ..] = devices();
        let mut pasts = Pasts::default();
        let short = PastPart { bytes: List::truncated([7]), ..junk(1, 0, 2) };
        for part in [junk(1, 0, 0), junk(1, 2, 2), junk(1, 0, PAST_PARTS_MAX + 1), short] {
            assert_eq!(pasts.take(at(0), peer, part), Err(DecodeError::Malformed));
        }
        assert_eq!(pasts.take(at(0), peer, junk(1, 0, 1)), Err(DecodeError::Malformed));
        assert_eq!(pasts.failures[&peer], 1, "its hash is another one");
    }
}
