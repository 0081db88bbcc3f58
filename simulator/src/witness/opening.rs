//! Finds out which devices could open which frames, by trying every key that anybody was ever
//! given.

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{DeviceId, EpochKey, EpochSecret, KeySecret, SenderKeyring, TargetId, Timestamp};

use super::{Frame, Log, Stream};

/// Which devices can open each frame.
pub(crate) struct Openings {
    /// Distinct sets of devices.
    sets: Vec<BTreeSet<usize>>,
    /// For each frame, the place of the set of devices that can open it, without the talker itself.
    of_frames: Vec<usize>,
}

impl Openings {
    /// Tries all keys on all frames. If a key opens none of a few frames that name the same key, it
    /// is not tried on the others.
    pub(crate) fn of(log: &Log) -> Self {
        let mut named: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
        for (place, frame) in log.frames.iter().enumerate() {
            named.entry((frame.stream, frame.number.key)).or_default().push(place);
        }
        let mut who = vec![BTreeSet::new(); log.frames.len()];
        for ((stream, key), frames) in &named {
            let ring = Ring { log, stream: log.streams[*stream], frames };
            for (secret, holders) in ring.secrets(*key) {
                for place in ring.opened(&secret) {
                    who[place].extend(holders);
                }
            }
        }
        let mut sets = Vec::new();
        let mut places = BTreeMap::new();
        let of_frames = who.into_iter().zip(&log.frames).map(|(mut who, frame)| {
            who.remove(&log.streams[frame.stream].talker);
            *places.entry(who.clone()).or_insert_with(|| {
                sets.push(who);
                sets.len() - 1
            })
        });
        let of_frames = of_frames.collect();
        Self { sets, of_frames }
    }

    /// All frames, with the devices that can open each.
    pub(crate) fn all<'a>(
        &'a self,
        log: &'a Log,
    ) -> impl Iterator<Item = (&'a Frame, &'a BTreeSet<usize>)> {
        log.frames.iter().zip(self.of_frames.iter().map(|set| &self.sets[*set]))
    }
}

/// The frames that name one key.
struct Ring<'a> {
    log: &'a Log,
    stream: Stream,
    frames: &'a [usize],
}

/// A secret that may open a frame.
enum Secret<'a> {
    Own(KeySecret),
    Epoch(&'a EpochSecret),
    Talkers(&'a EpochKey),
}

impl<'a> Ring<'a> {
    /// The secrets that may open the frames, and the devices that have each.
    fn secrets(&self, key: u64) -> Vec<(Secret<'a>, &'a BTreeSet<usize>)> {
        let mut secrets = Vec::new();
        if key >> OWN_KEY_BITS != 0 {
            for given in self.log.epochs.values() {
                if let Some(secret) = &given.secret {
                    secrets.push((Secret::Epoch(secret), &given.holders));
                }
            }
            for given in self.log.talkers_keys.get(&self.stream.talker).into_iter().flatten() {
                secrets.push((Secret::Talkers(&given.secret), &given.holders));
            }
            return secrets;
        }
        let (generation, step) = ((key >> 4 & 0xffff) as u16, (key & 0xf) as u8);
        let talkers = (self.stream.talker, TargetId::from_bytes([0; 16]))..;
        let talkers = self.log.own_keys.range(talkers);
        let talkers = talkers.take_while(|((talker, _), _)| *talker == self.stream.talker);
        for given in talkers.flat_map(|(_, keys)| keys) {
            let ahead = step.wrapping_sub(given.secret.step) % STEPS;
            if given.secret.generation == generation && ahead > 0 {
                let mut secret = given.secret.clone();
                (0..ahead).for_each(|_| secret = secret.ratcheted());
                secrets.push((Secret::Own(secret), &given.holders));
            }
            // A key's bytes may be those of another key, whatever its number is.
            let mut secret = given.secret.clone();
            (secret.generation, secret.step) = (generation, step);
            secrets.push((Secret::Own(secret), &given.holders));
        }
        secrets
    }

    /// The places of the frames that `secret` opens.
    fn opened(&self, secret: &Secret<'_>) -> Vec<usize> {
        let (first, last) = (self.frames.first(), self.frames.last());
        let some =
            self.frames.iter().step_by(SAMPLED).chain(last.filter(|last| first != Some(last)));
        if self.open(secret, some).next().is_none() {
            return Vec::new();
        }
        self.open(secret, self.frames.iter()).collect()
    }

    fn open(
        &self,
        secret: &Secret<'_>,
        frames: impl Iterator<Item = &'a usize>,
    ) -> impl Iterator<Item = usize> {
        let mut ring = self.ring(secret);
        let mut plaintext = Vec::new();
        let mut last = None;
        frames.copied().filter(move |place| {
            // A keyring opens a frame only once.
            let again = last.replace(*place) == Some(*place);
            let sealed = self.log.sealed(&self.log.frames[*place]);
            !again && ring.open(Timestamp::ZERO, sealed, &mut plaintext).is_ok()
        })
    }

    fn ring(&self, secret: &Secret<'_>) -> SenderKeyring {
        let talker: DeviceId = self.log.devices[self.stream.talker];
        let mut ring = SenderKeyring::new(self.stream.target, talker);
        match secret {
            Secret::Own(secret) => ring.install(Timestamp::ZERO, secret),
            Secret::Epoch(secret) => ring.set_epochs(&[(*secret).clone()]),
            Secret::Talkers(key) => ring.install_epoch_key(Timestamp::ZERO, key),
        }
        ring
    }
}

/// A key that has opened no frame yet is tried on one in this many frames of a key.
const SAMPLED: usize = 16;

/// The number of bits of a key id, except for keys of epochs, whose ids are longer. [PROTO-6.1]
/// [PROTO-11.8]
const OWN_KEY_BITS: u32 = 32;

/// The number of steps of a generation. [PROTO-6.1]
const STEPS: u8 = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hark_keys::{ChannelId, DeviceKey, EpochDealer, SeededRandom, SenderKey};
    use hark_mesh::{Target, datagram::Voice, epoch::TalkersKey, message::Message};
    use hark_voice::VoiceCommand;

    use super::*;
    use crate::{context, witness::Witness};

    const TAG: [u8; 4] = [7; 4];
    const SECOND: Duration = Duration::from_secs(1);

    fn device(number: u8) -> DeviceId {
        DeviceKey::from_secret(&[number; 32]).id()
    }

    fn target() -> TargetId {
        TargetId::of_channel(ChannelId::from_bytes([5; 16]))
    }

    /// Device 1 talks, and the witness observes it.
    struct Talk {
        witness: Witness,
        key: Option<SenderKey>,
    }

    impl Talk {
        fn new() -> Self {
            context::set_between(Duration::ZERO);
            Self { witness: Witness::default(), key: None }
        }

        fn command(&self, to: u8, command: VoiceCommand) {
            self.witness.commanded(device(to), &command);
        }

        fn uses(&mut self, secret: &KeySecret) {
            let (target, secret) = (target(), secret.clone());
            self.key = Some(SenderKey::new(target, device(1), &secret));
            self.command(1, VoiceCommand::UseKey { target, tag: TAG, secret });
        }

        fn gives(&self, to: u8, secret: &KeySecret) {
            let (device, target, secret) = (device(1), target(), secret.clone());
            let (heard, priority) = (Vec::new(), false);
            let tag = TAG;
            let given = VoiceCommand::InstallKey { device, target, tag, heard, priority, secret };
            self.command(to, given);
        }

        /// Says one second of speech to device 2.
        fn says(&mut self) {
            for _ in 0..100 {
                let (mut sealed, mut datagram) = (Vec::new(), Vec::new());
                let key = self.key.as_mut().expect("there is a key");
                key.seal(b"half a word", &mut sealed).expect("few frames");
                Voice::encode(TAG, 0, [sealed.as_slice()], &mut datagram);
                self.witness.spoke(0, device(1), device(2), &datagram);
                context::set_between(context::now() + SECOND / 100);
            }
        }

        /// For each second, whether a device could open all that was said in it (`true`) or nothing
        /// (`false`).
        fn opened_by(self, number: u8) -> Vec<bool> {
            let log = self.witness.take();
            let listener = log.devices.iter().position(|it| *it == device(number));
            let openings = Openings::of(&log);
            let opens = |who: &BTreeSet<usize>| listener.is_some_and(|it| who.contains(&it));
            let frames: Vec<_> = openings.all(&log).map(|(_, who)| opens(who)).collect();
            let seconds = frames.chunks(100).map(|second| {
                let count = second.iter().filter(|opens| **opens).count();
                assert!(count == 0 || count == 100, "{count} of 100");
                count > 0
            });
            seconds.collect()
        }
    }

    fn secret(generation: u16) -> KeySecret {
        KeySecret::generate(generation, &SeededRandom::new(generation.into()))
    }

    #[test]
    fn a_step_opens_what_comes_after_it_and_nothing_before() {
        let mut talk = Talk::new();
        let steps: Vec<_> =
            std::iter::successors(Some(secret(1)), |it| Some(it.ratcheted())).take(4).collect();
        for step in &steps {
            talk.uses(step);
            talk.says();
        }
        talk.gives(3, &steps[2]);
        assert_eq!(talk.opened_by(3), [false, false, true, true]);
    }

    #[test]
    fn who_holds_a_generation_opens_no_other() {
        let mut talk = Talk::new();
        talk.gives(3, &secret(2));
        for generation in [1, 2, 3] {
            talk.uses(&secret(generation));
            talk.says();
        }
        assert_eq!(talk.opened_by(3), [false, true, false]);
    }

    #[test]
    fn a_key_that_comes_back_under_another_number_is_found() {
        let mut talk = Talk::new();
        talk.gives(3, &secret(1));
        let mut renamed = secret(1);
        renamed.generation = 2;
        talk.uses(&renamed);
        talk.says();
        assert_eq!(talk.opened_by(3), [true]);
    }

    #[test]
    fn who_has_an_epoch_opens_what_is_sealed_by_it_alone() {
        let mut talk = Talk::new();
        let epochs: Vec<_> = [1, 2]
            .map(|n: u8| EpochDealer::generate(&SeededRandom::new(n.into())).secret([n; 32]))
            .into();
        let (talkers, tag) = (BTreeSet::from([device(1)]), TAG);
        for (number, secret) in [3, 4].into_iter().zip(&epochs) {
            let (secrets, heard, target) = (vec![secret.clone()], Vec::new(), target());
            let talkers = talkers.clone();
            talk.command(number, VoiceCommand::SetEpochs { target, tag, heard, secrets, talkers });
        }
        for secret in epochs {
            let (target, generation) = (target(), 0);
            talk.key = Some(SenderKey::of_epoch(target, device(1), &secret, generation));
            talk.command(1, VoiceCommand::UseEpoch { target, tag, secret, generation });
            talk.says();
        }
        assert_eq!(talk.opened_by(4), [false, true]);
    }

    #[test]
    fn a_key_of_a_talker_in_an_epoch_opens_what_that_key_sealed() {
        let mut talk = Talk::new();
        let secret = EpochDealer::generate(&SeededRandom::new(1)).secret([1; 32]);
        let key = secret.key_of(target(), device(1), 1);
        talk.witness.overheard(device(1), device(3), &{
            let target = Target::of_channel(ChannelId::from_bytes([5; 16]));
            Message::TalkersKey(Box::new(TalkersKey { target, key })).encode()
        });
        for generation in [0, 1] {
            talk.key = Some(SenderKey::of_epoch(target(), device(1), &secret, generation));
            let (target, secret) = (target(), secret.clone());
            talk.command(1, VoiceCommand::UseEpoch { target, tag: TAG, secret, generation });
            talk.says();
        }
        assert_eq!(talk.opened_by(3), [false, true]);
    }

    #[test]
    fn a_key_that_is_taken_into_use_again_is_noted() {
        let mut talk = Talk::new();
        for generation in [1, 2, 1] {
            talk.uses(&secret(generation));
        }
        assert_eq!(talk.witness.take().used_twice.len(), 1);
    }
}
