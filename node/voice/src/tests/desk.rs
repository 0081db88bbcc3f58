//! Two organisations at one desk. Their ids are the same, but their keys and members are not.

use super::world::{noise, speech};
use super::*;

/// A member at the other end of one line.
struct Other {
    id: DeviceId,
    pipeline: Pipeline,
    heard: Vec<f32>,
}

/// Our desk with two lines, and on each a member who hears us and talks to us. Both lines use the
/// same channel and target ids, as somebody in both organisations could have arranged.
struct Office {
    desk: Console,
    own: [DeviceId; 2],
    others: [Other; 2],
    heard: Vec<f32>,
    now: Timestamp,
    /// The line and listener of each frame that we sent.
    sent: Vec<(Line, DeviceId)>,
}

const TARGET: TargetId = TargetId::from_bytes([7; 16]);
const TAG: [u8; 4] = [7; 4];
const NET: Net = Net::Channel(hark_keys::ChannelId::from_bytes([7; 16]));

impl Office {
    fn new(transmit: Transmit) -> Self {
        let random = SeededRandom::new(5);
        let id = || DeviceKey::generate(&random).id();
        let own = [id(), id()];
        let pipeline = |device, transmit| {
            let usual = PipelineConfig::new(device, false);
            Pipeline::new(PipelineConfig { transmit, ..usual }).unwrap()
        };
        let mut desk = Console::new(own.map(|device| pipeline(device, transmit)).into());
        let now = Timestamp::ZERO;
        let others = own.map(|_| id());
        let others = std::array::from_fn(|line| {
            let mut other = pipeline(others[line], Transmit::PushToTalk);
            let keys = [(); 2].map(|()| KeySecret::generate(1, &random));
            let listen = || VoiceCommand::SetNet { net: NET, settings: NetSettings::default() };
            let install = |device, secret: &KeySecret| VoiceCommand::InstallKey {
                device,
                target: TARGET,
                tag: TAG,
                heard: vec![NET],
                priority: false,
                secret: secret.clone(),
            };
            let use_key = |secret: &KeySecret| VoiceCommand::UseKey {
                target: TARGET,
                tag: TAG,
                secret: secret.clone(),
            };
            let listeners =
                |device| VoiceCommand::SetListeners { target: TARGET, plan: vec![device].into() };
            for command in [
                use_key(&keys[0]),
                listeners(others[line]),
                listen(),
                install(others[line], &keys[1]),
            ] {
                desk.handle_command(now, line, command);
            }
            let select = VoiceCommand::SelectTarget { target: Some(TARGET), keyed: false };
            for command in [
                use_key(&keys[1]),
                listeners(own[line]),
                listen(),
                install(own[line], &keys[0]),
                select,
            ] {
                other.handle_command(now, command);
            }
            Other { id: others[line], pipeline: other, heard: Vec::new() }
        });
        let mut office = Self { desk, own, others, heard: Vec::new(), now, sent: Vec::new() };
        for line in 0..2 {
            office.select(line, Some(TARGET), false);
        }
        office
    }

    fn select(&mut self, line: Line, target: Option<TargetId>, keyed: bool) {
        let command = VoiceCommand::SelectTarget { target, keyed };
        self.desk.handle_command(self.now, line, command);
    }

    fn tell(&mut self, line: Line, command: VoiceCommand) {
        self.desk.handle_command(self.now, line, command);
    }

    /// We say `sound`, in blocks of 10 ms, while the others say theirs.
    fn say(&mut self, sound: &[f32]) {
        for block in sound.chunks_exact(480) {
            self.desk.handle_capture(self.now, block);
            while let Some((line, to, bytes)) = self.desk.poll_transmit() {
                let bytes = bytes.to_vec();
                if bytes[0] == KIND_VOICE {
                    self.sent.push((line, to));
                }
                // The links of a line end at members of its organisation.
                let other = &mut self.others[line];
                if other.id == to {
                    other.pipeline.handle_datagram(self.now, self.own[line], &bytes);
                }
            }
            let mut out = [0.0; SIDES * 480];
            for (line, other) in self.others.iter_mut().enumerate() {
                other.pipeline.handle_capture(self.now, block);
                while let Some((to, bytes)) = other.pipeline.poll_transmit() {
                    assert_eq!(to, self.own[line]);
                    self.desk.handle_datagram(self.now, line, other.id, bytes);
                }
                other.pipeline.playout(self.now, &mut out);
                other.heard.extend(mix::mean(&out));
            }
            self.desk.playout(self.now, &mut out);
            self.heard.extend(mix::mean(&out));
            self.now = self.now + Duration::from_millis(10);
        }
        self.desk.handle_timeout(self.now);
    }

    /// Lines on which our frames were sent since the last call, without our last words from before.
    fn lines(&mut self) -> Vec<Line> {
        let mut lines: Vec<_> = self.sent.drain(..).map(|(line, _)| line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// How loud each of the others has heard us since the last call.
    fn levels(&mut self) -> [f32; 2] {
        std::array::from_fn(|line| level_dbfs(&std::mem::take(&mut self.others[line].heard)))
    }
}

fn is_heard(level: f32) -> bool {
    level > -60.0
}

#[test]
fn our_voice_goes_to_the_organisation_in_front_alone() {
    let mut office = Office::new(Transmit::Open);
    office.say(&noise(48_000));
    assert_eq!(office.lines(), [0]);
    assert_eq!(office.levels().map(is_heard), [true, false]);

    office.tell(1, VoiceCommand::ComeToFront);
    // The end of the talkspurt is repeated, without sound.
    office.say(&noise(9_600));
    office.lines();
    office.levels();
    office.say(&noise(48_000));
    assert_eq!(office.lines(), [1]);
    assert_eq!(office.levels().map(is_heard), [false, true]);
}

/// What is said while a key of one organisation is held is not sent to the other one, although the
/// microphone is always open there and it is in front.
#[test]
fn a_key_held_in_one_organisation_silences_the_other() {
    let mut office = Office::new(Transmit::Open);
    office.say(&noise(24_000));
    office.select(1, Some(TARGET), true);
    office.say(&noise(9_600));
    office.lines();
    office.levels();
    office.say(&noise(48_000));
    assert_eq!(office.lines(), [1]);
    assert_eq!(office.levels().map(is_heard), [false, true]);

    office.select(1, Some(TARGET), false);
    office.say(&noise(9_600));
    office.lines();
    office.say(&noise(24_000));
    assert_eq!(office.lines(), [0]);
}

#[test]
fn not_one_sample_said_with_a_key_down_reaches_the_organisation_in_front() {
    let mut office = Office::new(Transmit::Open);
    office.say(&[0.0; 48_000]);
    // Half a frame was captured before the key was pressed.
    office.desk.handle_capture(office.now, &[0.0; 240]);
    office.select(1, Some(TARGET), true);
    office.levels();
    office.say(&noise(48_000));
    assert!(office.levels()[0] < -100.0, "{:?}", office.levels());
}

#[test]
fn keys_held_in_both_talk_to_both() {
    let mut office = Office::new(Transmit::PushToTalk);
    for line in 0..2 {
        office.select(line, Some(TARGET), true);
        office.tell(line, VoiceCommand::PushToTalk(true));
    }
    office.say(&noise(48_000));
    assert_eq!(office.lines(), [0, 1]);
    assert_eq!(office.levels().map(is_heard), [true, true]);
}

/// The microphone stays open for the last words after a key is released. Words said with another
/// organisation's key are not part of them.
#[test]
fn the_last_words_for_one_organisation_end_with_a_key_of_another() {
    let mut office = Office::new(Transmit::PushToTalk);
    let press = |office: &mut Office, line, down| {
        if down {
            office.select(line, Some(TARGET), true);
        }
        office.tell(line, VoiceCommand::PushToTalk(down));
    };
    press(&mut office, 1, true);
    // When the key is released, only silence is still on the way.
    office.say(&[&noise(48_000)[..], &[0.0; 24_000]].concat());
    press(&mut office, 1, false);
    press(&mut office, 0, true);
    office.levels();
    office.say(&noise(24_000));
    let [first, second] = office.levels();
    assert!(is_heard(first) && second < -100.0, "{first} {second}");

    // Two keys are held, and one of them is released.
    press(&mut office, 1, true);
    office.say(&[&noise(24_000)[..], &[0.0; 24_000]].concat());
    assert_eq!(office.levels().map(is_heard), [true, true]);
    press(&mut office, 1, false);
    office.say(&noise(24_000));
    let [first, second] = office.levels();
    assert!(is_heard(first) && second < -100.0, "{first} {second}");
}

/// Members of both organisations talk at once, and both are heard, although their targets and nets
/// have the same ids. If the nets of one line are left, only that line falls silent.
#[test]
fn both_organisations_are_heard_at_once() {
    let mut office = Office::new(Transmit::PushToTalk);
    let talk = |office: &mut Office, line: usize, down| {
        let now = office.now;
        office.others[line].pipeline.handle_command(now, VoiceCommand::PushToTalk(down));
    };
    let sound = speech(4.0);
    talk(&mut office, 0, true);
    office.say(&sound);
    let alone = level_dbfs(&std::mem::take(&mut office.heard)[9_600..]);
    talk(&mut office, 1, true);
    office.say(&sound);
    let both = level_dbfs(&std::mem::take(&mut office.heard)[9_600..]);
    // The same words twice are 6 dB louder, less what the limiter takes.
    assert!((3.0..7.0).contains(&(both - alone)), "{alone} {both}");
    office.tell(0, VoiceCommand::RemoveNet(NET));
    office.say(&sound);
    let one = level_dbfs(&std::mem::take(&mut office.heard)[9_600..]);
    assert!((one - alone).abs() < 1.0, "{one} {alone}");
    let statistics = office.desk.statistics();
    assert_eq!(statistics.iter().map(|line| line.talkers.len()).collect::<Vec<_>>(), [1, 1]);
    assert!(statistics.iter().all(|line| line.drops.is_empty()), "{statistics:?}");
}

/// Nobody else hears cues and the side tone.
#[test]
fn what_only_we_hear_is_sent_to_nobody() {
    let run = |tells: bool| {
        let mut office = Office::new(Transmit::Open);
        if tells {
            let all = CueSettings { key: true, mute: true, people: true, moved: true, volume: 4.0 };
            for command in [
                VoiceCommand::SetCues(all),
                VoiceCommand::SetSideTone(Some(0.0)),
                VoiceCommand::PlayCue(Cue::Joined),
            ] {
                office.tell(0, command);
            }
        }
        office.say(&noise(48_000));
        (office.others[0].heard.clone(), level_dbfs(&office.heard))
    };
    let ((sent, quiet), (sent_with, heard)) = (run(false), run(true));
    assert_eq!(sent, sent_with, "the others hear the same");
    assert!(heard > quiet + 3.0, "{heard} and {quiet} dBFS");
}
