//! A malicious relay: the layer between its forwarder and its links.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hark_keys::{DeviceId, FrameNumber, KeySecret, SenderKey, SenderKeyring, TargetId};
use hark_mesh::datagram::{
    Forwarded, FrameHeader, FromRelay, Introduction, KIND_PROOF, Question, Slot,
};
use hark_node::{clock::Clock, link::DatagramSender, relay::Egress};
use hark_voice::VoiceCommand;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    context,
    random::stream,
    scenario,
    witness::{Overheard, Witness},
};

/// The devices of members that have been seen so far, by name.
pub(crate) type People = Arc<Mutex<BTreeMap<String, DeviceId>>>;

/// The keys that a volunteer was given to hear with, by talker and target. Each is stored with the
/// target's tag.
#[derive(Clone, Default)]
pub(crate) struct Loot(Arc<Mutex<Keys>>);

type Keys = BTreeMap<(DeviceId, TargetId), ([u8; 4], KeySecret)>;

impl Loot {
    /// Keeps the key of a command to the volunteer's voice that installs one.
    pub(crate) fn note(&self, command: &VoiceCommand) {
        if let VoiceCommand::InstallKey { device, target, tag, secret, .. } = command {
            lock(&self.0).insert((*device, *target), (*tag, secret.clone()));
        }
    }
}

/// The egress for the relay on this machine. It does what the scenario says, and forwards honestly
/// if the scenario says nothing.
pub(crate) fn egress(
    (machine, name): (usize, &str),
    does: Option<&scenario::Malice>,
    (people, loot, witness): (&People, &Loot, &Witness),
    seed: u64,
) -> Arc<dyn Egress> {
    let overheard = Overheard { machine, witness: witness.clone() };
    match does {
        None => Arc::new(overheard),
        Some(does) => {
            let (people, loot) = (Arc::clone(people), loot.clone());
            Arc::new(Malice::new(name, does.clone(), (people, loot), overheard, seed))
        }
    }
}

/// An egress that mistreats what a relay forwards, as the scenario says.
struct Malice {
    does: scenario::Malice,
    people: People,
    loot: Loot,
    overheard: Overheard,
    state: Arc<Mutex<State>>,
}

struct State {
    random: ChaCha8Rng,
    /// The senders of all devices to which anything was sent.
    outlets: BTreeMap<DeviceId, Arc<DatagramSender>>,
    /// The device to which each slot belongs.
    slots: BTreeMap<Slot, DeviceId>,
    forger: Option<Forger>,
    /// The sequence number of the newest leaked datagram of each slot.
    leaked: BTreeMap<Slot, u16>,
}

/// Speaks in the name of another member.
struct Forger {
    key: SenderKey,
    tag: [u8; 4],
    sequence: u16,
    media_time: u32,
    /// When the victim itself was last forwarded.
    spoken: Option<Duration>,
}

impl Malice {
    fn new(
        name: &str,
        does: scenario::Malice,
        (people, loot): (People, Loot),
        overheard: Overheard,
        seed: u64,
    ) -> Self {
        let state = State {
            random: stream(seed, &format!("malice of {name}")),
            outlets: BTreeMap::new(),
            slots: BTreeMap::new(),
            forger: None,
            leaked: BTreeMap::new(),
        };
        Self { does, people, loot, overheard, state: Arc::new(Mutex::new(state)) }
    }

    fn person(&self, name: Option<&toml::Spanned<String>>) -> Option<DeviceId> {
        lock(&self.people).get(name?.get_ref()).copied()
    }

    fn voice(&self, outlet: &Arc<DatagramSender>, forwarded: &Forwarded<'_>) {
        let mut state = lock(&self.state);
        let mut draw = |share: crate::units::Share| state.random.random_bool(share.as_f64());
        if draw(self.does.drops) {
            return;
        }
        let (alters, twice) = (draw(self.does.alters), draw(self.does.duplicates));
        let mut frames: Vec<_> = forwarded.voice.frames.iter().map(|it| it.to_vec()).collect();
        if self.does.drowns > 0 && frames[0][0] == KIND_PROOF {
            return;
        }
        if alters {
            *frames[0].last_mut().expect("frames are not empty") ^= 1;
        }
        let mut slot = forwarded.slot;
        if let Some(victim) = self.person(self.does.misstamps.as_ref()) {
            slot = FALSE_SLOT;
            introduce(outlet, victim);
        }
        let talker = state.slots.get(&forwarded.slot).copied();
        if talker.is_some() && talker == self.person(self.does.forges.as_ref()) {
            self.replace(&mut state, forwarded, &mut frames);
        }
        drop(state);
        let mut bytes = Vec::new();
        let frames = frames.iter().map(Vec::as_slice);
        let voice = forwarded.voice;
        Forwarded::encode(slot, voice.target_tag, voice.sequence, frames, &mut bytes);
        for _ in 0..=u8::from(twice) {
            send_after(self.does.delays.as_duration(), outlet, &bytes);
        }
        if !self.does.replays.as_duration().is_zero() {
            send_after(self.does.replays.as_duration(), outlet, &bytes);
        }
    }

    /// Sends what is for others to the member that the relay leaks to, on whatever link that member
    /// still has.
    fn leak(&self, to: DeviceId, forwarded: &Forwarded<'_>) {
        let Some(spy) = self.person(self.does.leaks.as_ref()).filter(|spy| *spy != to) else {
            return;
        };
        let mut state = lock(&self.state);
        let (slot, voice) = (forwarded.slot, &forwarded.voice);
        let Some(talker) = state.slots.get(&slot).copied().filter(|talker| *talker != spy) else {
            return;
        };
        // The datagram is forwarded to several listeners, but leaked only once.
        if state.leaked.insert(slot, voice.sequence) == Some(voice.sequence) {
            return;
        }
        let (mut introduction, mut bytes) = (Vec::new(), Vec::new());
        Introduction { slot, device: talker }.encode(&mut introduction);
        let frames = voice.frames.iter().copied();
        Forwarded::encode(slot, voice.target_tag, voice.sequence, frames, &mut bytes);
        self.overheard.witness.forwarded(self.overheard.machine, spy, &bytes);
        if let Some(outlet) = state.outlets.get(&spy) {
            outlet.send(&introduction);
            outlet.send(&bytes);
        }
    }

    /// Falsifies the victim's newest frame and seals it again, under the same counter.
    fn replace(&self, state: &mut State, forwarded: &Forwarded<'_>, frames: &mut [Vec<u8>]) {
        let victim = state.slots[&forwarded.slot];
        let tag = forwarded.voice.target_tag;
        let loot = lock(&self.loot.0);
        for ((_, target), (_, secret)) in
            loot.iter().filter(|((of, _), (its, _))| *of == victim && *its == tag)
        {
            let mut ring = SenderKeyring::new(*target, victim);
            ring.install(Clock.now(), secret);
            let mut plaintext = Vec::new();
            if ring.open(Clock.now(), &frames[0], &mut plaintext).is_err() {
                continue;
            }
            plaintext.iter_mut().skip(FrameHeader::LENGTH + 1).for_each(|byte| *byte ^= 0xff);
            let counter = u64::from(u16::from_be_bytes([frames[0][5], frames[0][6]]));
            let mut secret = secret.clone();
            while secret.step != frames[0][4] & 0xf {
                secret = secret.ratcheted();
            }
            let mut key = SenderKey::new(*target, victim, &secret);
            while key.seal(&plaintext, &mut frames[0]).is_ok_and(|sealed| sealed < counter) {}
        }
        if let Some(forger) = &mut state.forger {
            forger.spoken = Some(context::now());
        }
    }

    /// Starts to speak in the victim's name while the victim says nothing.
    fn forge(&self, victim: DeviceId) {
        let mut state = lock(&self.state);
        if state.forger.is_some() {
            return;
        }
        let loot = lock(&self.loot.0);
        let Some(((_, target), (tag, secret))) = loot.iter().find(|((of, _), _)| *of == victim)
        else {
            return;
        };
        let key = SenderKey::new(*target, victim, secret);
        state.forger = Some(Forger { key, tag: *tag, sequence: 0, media_time: 0, spoken: None });
        drop((state, loot));
        let (state, questions) = (Arc::clone(&self.state), self.does.drowns);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(FRAME).await;
                let mut state = lock(&state);
                state.ask(victim, questions * FRAME.as_millis() as u32 / 1_000);
                state.speak(victim);
            }
        });
    }
}

impl State {
    /// Asks the victim for proofs of frames that nobody has ever sealed.
    fn ask(&mut self, victim: DeviceId, questions: u32) {
        let Some(outlet) = self.outlets.get(&victim) else { return };
        let target_tag = self.forger.as_ref().map_or([0; 4], |forger| forger.tag);
        for _ in 0..questions {
            let frame = FrameNumber { key: 1 << 31, counter: self.random.random() };
            let mut bytes = Vec::new();
            Question { target_tag, frame }.encode(&mut bytes);
            outlet.send(&bytes);
        }
    }

    fn speak(&mut self, victim: DeviceId) {
        let Some(forger) = &mut self.forger else { return };
        if forger.spoken.is_some_and(|at| context::now().saturating_sub(at) < QUIET) {
            return;
        }
        let first = forger.sequence == 0;
        let (media_time, talkspurt) = (forger.media_time, 7);
        let mut plaintext =
            FrameHeader { first, last: false, talkspurt, media_time }.to_bytes().to_vec();
        plaintext.extend_from_slice(&SILENT_PACKET);
        let mut sealed = Vec::new();
        if forger.key.seal(&plaintext, &mut sealed).is_err() {
            return;
        }
        let mut bytes = Vec::new();
        let frame = std::iter::once(sealed.as_slice());
        Forwarded::encode(FALSE_SLOT, forger.tag, forger.sequence, frame, &mut bytes);
        forger.sequence = forger.sequence.wrapping_add(1);
        forger.media_time += 4;
        for (_, outlet) in self.outlets.iter().filter(|(device, _)| **device != victim) {
            introduce(outlet, victim);
            outlet.send(&bytes);
        }
    }
}

impl Egress for Malice {
    fn send(&self, to: DeviceId, outlet: &Arc<DatagramSender>, datagram: &[u8]) {
        let parsed = FromRelay::parse(datagram);
        // The witness takes it that the relay had forwarded everything.
        self.overheard.witness.forwarded(self.overheard.machine, to, datagram);
        {
            let mut state = lock(&self.state);
            state.outlets.insert(to, Arc::clone(outlet));
            if let Ok(FromRelay::Introduction(it)) = &parsed {
                state.slots.insert(it.slot, it.device);
            }
        }
        if context::now() < self.does.from.as_duration() {
            return outlet.send(datagram);
        }
        if let Some(victim) = self.person(self.does.forges.as_ref()) {
            self.forge(victim);
        }
        let all = |forwarded: &Forwarded<'_>| {
            self.leak(to, forwarded);
            self.voice(outlet, forwarded);
        };
        match parsed {
            Ok(FromRelay::Forwarded(forwarded)) => all(&forwarded),
            Ok(FromRelay::Bundle(bundle)) => bundle.iter().for_each(|it| all(&it)),
            _ => outlet.send(datagram),
        }
    }
}

fn introduce(outlet: &DatagramSender, device: DeviceId) {
    let mut bytes = Vec::new();
    Introduction { slot: FALSE_SLOT, device }.encode(&mut bytes);
    outlet.send(&bytes);
}

fn send_after(after: Duration, outlet: &Arc<DatagramSender>, bytes: &[u8]) {
    if after.is_zero() {
        return outlet.send(bytes);
    }
    let (outlet, bytes) = (Arc::clone(outlet), bytes.to_vec());
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        outlet.send(&bytes);
    });
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot that an honest relay with so few devices never assigns.
const FALSE_SLOT: Slot = Slot::new(60_000).expect("it is not 0");

/// An Opus packet of 10 ms without sound.
const SILENT_PACKET: [u8; 3] = [0xf0, 0xff, 0xfe];

/// How often the forger sends a frame.
const FRAME: Duration = Duration::from_millis(10);

/// A victim that was heard within this time is itself talking, so the forger stays silent.
const QUIET: Duration = Duration::from_millis(300);
