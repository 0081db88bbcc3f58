use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use hark_keys::{DeviceId, DeviceKey, Timestamp};
use hark_voice::{VoiceCommand, VoiceEvent, VoiceStatistics};

use super::{
    callback::{CaptureCallback, CardFormat, PlayoutCallback, Waker},
    capture::{CaptureEnd, LiveCapture, Sound},
    playout::{LEAD, LivePlayout, PlayoutEnd},
    shared::{Datagram, Shared},
    thread::VoiceLoop,
    *,
};
use crate::{
    clock::Clock,
    wav::{self, WavRecorder},
};

const START: Timestamp = Timestamp::from_millis(1_000);

/// A call to a pipeline, in the order of the calls.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Command(Timestamp),
    Datagram(Timestamp, Vec<u8>),
    Capture(Timestamp, Vec<f32>),
    Playout(Timestamp, usize),
    Timeout(Timestamp),
}

/// A pipeline that records its calls. Each block that it plays holds the block's number.
#[derive(Default)]
struct Notebook {
    told: Vec<Told>,
    played: u64,
    outbox: VecDeque<Vec<u8>>,
    polled: Vec<u8>,
    timeout: Option<Timestamp>,
}

impl VoicePath for Notebook {
    fn handle_command(&mut self, now: Timestamp, _: Line, _: VoiceCommand) {
        self.told.push(Told::Command(now));
    }
    fn handle_datagram(&mut self, arrived: Timestamp, _: Line, _: DeviceId, bytes: &[u8]) {
        self.told.push(Told::Datagram(arrived, bytes.to_vec()));
    }
    fn handle_capture(&mut self, now: Timestamp, samples: &[f32], _: &[f32]) {
        self.told.push(Told::Capture(now, samples.to_vec()));
        self.outbox.push_back(samples.len().to_be_bytes().to_vec());
    }
    fn playout(&mut self, now: Timestamp, out: &mut [f32]) {
        self.told.push(Told::Playout(now, out.len() / 2));
        self.played += 1;
        out.fill(self.played as f32 / 1_024.0);
    }
    fn handle_timeout(&mut self, now: Timestamp) {
        self.told.push(Told::Timeout(now));
        self.timeout = None;
    }
    fn poll_transmit(&mut self) -> Option<(Line, DeviceId, &[u8])> {
        self.polled = self.outbox.pop_front()?;
        Some((0, device(), &self.polled))
    }
    fn poll_event(&mut self) -> Option<(Line, VoiceEvent)> {
        None
    }
    fn poll_timeout(&self) -> Option<Timestamp> {
        self.timeout
    }
    fn statistics(&self) -> Vec<VoiceStatistics> {
        Vec::new()
    }
}

fn device() -> DeviceId {
    DeviceKey::from_secret(&[7; 32]).id()
}

#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<Vec<u8>>>>);

impl DatagramSink for Sent {
    fn push(&self, _: Line, _: DeviceId, datagram: &[u8]) {
        self.0.lock().unwrap().push(datagram.to_vec());
    }

    fn flush(&self) {}
}

struct Bench {
    voice: VoiceLoop<Notebook>,
    events: mpsc::Receiver<VoiceThreadEvent>,
    sent: Sent,
}

impl Bench {
    fn new(capture: CaptureEnd, playout: PlayoutEnd) -> Self {
        let (sender, events) = mpsc::channel();
        let sent = Sent::default();
        let voice = VoiceLoop {
            path: Notebook::default(),
            capture,
            playout,
            sink: Box::new(sent.clone()),
            events: Box::new(move |event| sender.send(event).unwrap()),
            shared: Shared::new(Waker::default()),
            cards: None,
            waiting: None,
            latest: Timestamp::ZERO,
            snapshot_at: START,
        };
        Self { voice, events, sent }
    }

    fn silent() -> Self {
        let capture = CaptureEnd::timed(Sound::Silence, START, 480);
        Self::new(capture, PlayoutEnd::timed(None, START + LEAD, 240))
    }

    fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.voice.path.told)
    }

    fn arrive(&self, at: Timestamp, byte: u8) {
        let bytes = Bytes::from(vec![byte]);
        let queue = &self.voice.shared.datagrams;
        queue.force_push(Datagram { arrived: at, line: 0, from: device(), bytes });
    }
}

fn after(micros: u64) -> Timestamp {
    START + Duration::from_micros(micros)
}

#[test]
fn input_sample_k_is_handed_on_no_sooner_than_it_is_spoken() {
    let samples: Vec<f32> = (0..1_000).map(|k| k as f32 / 1_000.0).collect();
    let sound = Sound::File { samples: samples.clone(), difference: Vec::new(), looped: false };
    let capture = CaptureEnd::timed(sound, START, 480);
    let mut bench = Bench::new(capture, PlayoutEnd::card(240));
    let mut now = START;
    let mut spoken = Vec::new();
    while now < after(50_000) {
        let wake_at = bench.voice.turn(now);
        assert!(wake_at > now);
        now = wake_at;
        for told in bench.told() {
            let Told::Capture(at, samples) = told else { panic!("{told:?}") };
            spoken.extend(samples);
            assert_eq!(at, after(spoken.len() as u64 * 1_000 / 48));
        }
    }
    assert_eq!(spoken[..1_000], samples);
    assert_eq!(spoken.len(), 4 * 480, "then silence");
    assert!(spoken[1_000..].iter().all(|sample| *sample == 0.0));
    assert_eq!(bench.sent.0.lock().unwrap().len(), 4);
}

#[test]
fn a_looped_file_starts_again_without_a_gap() {
    let sound = Sound::File { samples: vec![0.1, 0.2, 0.3], difference: Vec::new(), looped: true };
    let mut capture = CaptureEnd::timed(sound, START, 480);
    assert_eq!(capture.take_timed().0[478..], [0.2, 0.3]);
    assert_eq!(capture.take_timed().0[..3], [0.1, 0.2, 0.3]);
    let sound = Sound::File {
        samples: vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
        difference: Vec::new(),
        looped: true,
    };
    let mut capture = CaptureEnd::timed(sound, START, 480);
    capture.take_timed(); // 480 = 68 x 7 + 4
    assert_eq!(capture.take_timed().0[..4], [0.5, 0.6, 0.7, 0.1]);
}

#[test]
fn a_silent_node_wakes_no_more_often_than_its_blocks_are_due() {
    let mut bench = Bench::silent();
    let (mut now, mut turns) = (START, 0);
    while now < after(1_000_000) {
        now = bench.voice.turn(now);
        turns += 1;
    }
    assert_eq!(turns, 200, "capture, playout and snapshots fall together");
}

/// What is heard does not depend on when the thread was scheduled.
#[test]
fn a_late_thread_decides_as_a_punctual_one() {
    let arrivals = [(300, 1), (4_400, 2), (9_000, 3), (10_100, 4), (23_000, 5)];
    let mut punctual = Bench::silent();
    let mut late = Bench::silent();
    for (at, byte) in arrivals {
        punctual.arrive(after(at), byte);
        late.arrive(after(at), byte);
    }
    let mut now = START;
    while now <= after(30_000) {
        now = punctual.voice.turn(now);
    }
    late.voice.turn(after(30_000));
    let told = late.told();
    assert_eq!(told, punctual.told());
    let position = |wanted: &Told| told.iter().position(|told| told == wanted).unwrap();
    let second = position(&Told::Datagram(after(4_400), vec![2]));
    assert_eq!(told[second + 1], Told::Playout(after(5_000), 240));
    let fourth = position(&Told::Datagram(after(10_100), vec![4]));
    assert!(fourth > position(&Told::Playout(after(10_000), 240)), "it came too late for that");
}

#[test]
fn the_output_file_keeps_its_timeline_through_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heard.wav");
    let recorder = WavRecorder::create(&path, 1).unwrap();
    let playout = PlayoutEnd::timed(Some((path.clone(), recorder)), START + LEAD, 240);
    let mut bench = Bench::new(CaptureEnd::timed(Sound::Silence, START, 480), playout);
    bench.voice.turn(after(0));
    bench.voice.turn(after(500_000)); // caught up in full: 101 blocks by now
    assert_eq!(bench.voice.path.played, 101);

    bench.voice.turn(after(10_500_000)); // the machine stood still for ten seconds
    bench.voice.playout.finish();
    let heard = wav::load(&path).unwrap();
    assert_eq!(heard.len(), 10_500 * 48 + 240);
    // The last two seconds are caught up, with the blocks that lie partly in them at either end.
    assert_eq!(bench.voice.path.played, 101 + 402);
    assert!(heard[101 * 240..(101 + 1_598) * 240].iter().all(|sample| *sample == 0.0));
    assert_eq!(heard[(101 + 1_598) * 240], 102.0 / 1_024.0);
    let statistics = bench.voice.playout.statistics();
    assert_eq!(statistics.lost, 1_598 * 240);
    let lost = bench.voice.capture.statistics().lost;
    assert!((7_999 * 48 - 960..=8_000 * 48).contains(&lost), "{lost}");
}

/// With one channel, the file gets the mean of both sides; with two, each side.
#[test]
fn an_output_file_has_one_channel_or_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    for channels in [1, 2] {
        let path = folder.path().join(format!("{channels}.wav"));
        let recorder = WavRecorder::create(&path, channels).unwrap();
        let mut playout = PlayoutEnd::timed(Some((path.clone(), recorder)), START, 240);
        playout.fill_timed(|out| out.as_chunks_mut().0.fill([0.5, 0.25]));
        playout.skip_to(after(20_000));
        playout.fill_timed(|out| out.as_chunks_mut().0.fill([0.125, 0.125]));
        playout.finish();
        let mut file = hound::WavReader::open(&path).unwrap();
        assert_eq!(file.spec().channels, channels);
        let samples: Vec<i16> = file.samples().map(Result::unwrap).collect();
        let sides = usize::from(channels);
        let first: &[i16] = if channels == 1 { &[12_288, 12_288] } else { &[16_384, 8_192] };
        assert_eq!(samples[..2], *first);
        assert_eq!(samples.len(), 5 * 240 * sides);
        assert!(samples[240 * sides..4 * 240 * sides].iter().all(|sample| *sample == 0));
        assert_eq!(samples[4 * 240 * sides..], vec![4_096; 240 * sides]);
        assert_eq!(playout.statistics().lost, 3 * 240);
    }
}

#[test]
fn both_ends_tell_when_they_started() {
    let bench = &mut Bench::silent();
    bench.voice.turn(START);
    bench.voice.turn(after(5_000));
    let started: Vec<_> = bench.events.try_iter().collect();
    assert_eq!(
        started,
        [
            VoiceThreadEvent::AudioStarted {
                direction: Direction::Input,
                monotonic_ns: 1_000_000_000
            },
            VoiceThreadEvent::AudioStarted {
                direction: Direction::Output,
                monotonic_ns: 1_000_500_000
            },
        ]
    );
}

#[test]
fn a_timeout_of_the_pipeline_is_served_when_it_is_due() {
    let mut bench = Bench::silent();
    bench.voice.path.timeout = Some(after(7_300));
    let mut now = START;
    while now < after(9_000) {
        now = bench.voice.turn(now);
    }
    assert!(bench.told().contains(&Told::Timeout(after(7_300))));
}

#[test]
fn a_full_queue_loses_the_oldest_datagram_and_counts_it() {
    let shared = Shared::new(Waker::default());
    let thread = std::thread::spawn(|| {});
    let handle = VoiceHandle::new(shared.clone(), thread, None);
    for k in 0..1_030_u64 {
        handle.datagram(Timestamp::from_millis(k), device(), Bytes::new());
    }
    assert_eq!(shared.datagrams.pop().unwrap().arrived, Timestamp::from_millis(6));
    let mut refused = 0;
    for _ in 0..1_026 {
        refused += u32::from(!handle.command(VoiceCommand::Mute(true)));
    }
    assert_eq!(refused, 2);
    let mut bench = Bench::silent();
    bench.voice.shared = shared;
    bench.voice.turn(START);
    let statistics = handle.statistics();
    assert_eq!((statistics.datagrams_dropped, statistics.commands_refused), (6, 2));
    assert_eq!(bench.told().iter().filter(|told| matches!(told, Told::Command(_))).count(), 1_024);
}

#[test]
fn a_lost_microphone_is_silence_and_blocks_stay_whole() {
    let format = CardFormat { rate: 48_000, channels: 1 };
    let (mut callback, ring) = CaptureCallback::new(format, 480, Waker::default());
    let mut bench = Bench::new(CaptureEnd::card(480), PlayoutEnd::card(240));
    assert_eq!(bench.voice.capture.set_live(LiveCapture::new(format, ring)), 1);
    callback.handle(&[0.5_f32; 600], Duration::from_millis(3));
    bench.voice.turn(after(2_000));
    assert_eq!(bench.told(), [Told::Capture(after(2_000), vec![0.5; 600])]);
    let started = bench.events.try_recv().unwrap();
    assert!(matches!(started, VoiceThreadEvent::AudioStarted { direction: Direction::Input, .. }));

    bench.voice.capture.lose(after(3_000));
    assert_eq!(
        bench.voice.turn(after(3_000)),
        after(3_000 + 7_500),
        "360 samples complete a frame"
    );
    bench.voice.turn(after(3_000 + 17_500));
    assert_eq!(
        bench.told(),
        [
            Told::Capture(after(10_500), vec![0.0; 360]),
            Told::Capture(after(20_500), vec![0.0; 480]),
        ]
    );
    let (_, ring) = CaptureCallback::new(format, 480, Waker::default());
    assert_eq!(bench.voice.capture.set_live(LiveCapture::new(format, ring)), 2);
    assert_eq!(bench.voice.capture.due(), None);
}

#[test]
fn a_speaker_is_kept_one_period_and_a_margin_ahead() {
    let format = CardFormat { rate: 48_000, channels: 2 };
    let (mut callback, ring) = PlayoutCallback::new(format, Waker::default());
    let mut live = LivePlayout::new(format, 480, START, ring);
    live.prime();
    let mut bench = Bench::new(CaptureEnd::card(480), PlayoutEnd::card(240));
    bench.voice.playout.set_live(live);
    let mut out = [0.0_f32; 960];
    let mut now = START;
    let mut heard = 0;
    for _ in 0..300 {
        callback.handle(&mut out, Duration::ZERO);
        heard += out.len() / 2;
        bench.voice.turn(now);
        now = now + Duration::from_millis(10);
    }
    let statistics = bench.voice.playout.statistics();
    assert_eq!(statistics.lost, 0);
    let silence_at_first = 2 * 480 + 120;
    assert_eq!(statistics.samples as usize + silence_at_first, heard + 480 + 120);
    let calls = bench.told();
    assert!(calls.iter().all(|told| matches!(told, Told::Playout(_, 1..=240))));

    callback.handle(&mut [0.0_f32; 2 * 4_800], Duration::ZERO);
    bench.voice.turn(now);
    assert_eq!(bench.voice.playout.statistics().lost, 4_800 - 600, "an underrun is counted");
}

#[test]
fn a_full_disk_is_told_once() {
    // `/dev/full` is the one device that is always full.
    if !Path::new("/dev/full").exists() {
        return;
    }
    let missing = WavRecorder::create(Path::new("/dev/full"), 1).err().unwrap();
    assert_eq!(missing.kind(), io::ErrorKind::StorageFull);
    let error = DeviceError::Output { path: "/dev/full".into(), error: missing };
    assert!(error.to_string().starts_with("/dev/full cannot be written: No space left"));
}

#[test]
fn ends_that_cannot_be_used_get_one_clear_line() {
    let start = |input: &str, output: &str| {
        let ends = VoiceEnds {
            input: input.parse().unwrap(),
            output: output.parse().unwrap(),
            low_delay: false,
        };
        let sink = Box::new(Sent::default());
        VoiceThread::start(Notebook::default(), ends, Clock, sink, |_| {}).err().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let not_wav = folder.path().join("speech.mp3");
    std::fs::write(&not_wav, b"ID3 and so on and so forth").unwrap();
    let line = start(&format!("file:{}", not_wav.display()), "null").to_string();
    assert!(line.contains("speech.mp3 is no WAV file"), "{line}");
    let line = start("silence", "file:/nonexistent/heard.wav").to_string();
    assert!(line.starts_with("/nonexistent/heard.wav cannot be written"), "{line}");
    let unknown = DeviceError::Unknown {
        direction: Direction::Input,
        name: "Yeti".to_owned(),
        known: vec!["Desk".to_owned(), "Head set".to_owned()],
    };
    let line = "no microphone is called `Yeti`: there is `Desk`, `Head set`";
    assert_eq!(unknown.to_string(), line);
}
