use std::{
    fs::File,
    io::{self, Cursor, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use hound::{SampleFormat, WavSpec, WavWriter as HoundWriter};
use proptest::prelude::*;

use super::{reader::read, *};

/// A WAV file of `frames`. Each frame has the same value in all channels, within [-1, 1].
fn file(rate: u32, channels: u16, bits: u16, format: SampleFormat, frames: &[f32]) -> Vec<u8> {
    let spec =
        WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = HoundWriter::new(&mut bytes, spec).unwrap();
    for &value in frames {
        for _ in 0..channels {
            match format {
                SampleFormat::Float => writer.write_sample(value).unwrap(),
                SampleFormat::Int => {
                    let scale = (1_i64 << (bits - 1)) as f64;
                    let value = (f64::from(value) * scale).clamp(-scale, scale - 1.0);
                    writer.write_sample(value as i32).unwrap();
                }
            }
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

#[test]
fn every_format_gives_the_same_sound() {
    let frames: Vec<f32> = (0..1_000).map(|k| (k as f32 * 0.05).sin() * 0.7).collect();
    let formats = [
        (8, SampleFormat::Int, 0.01),
        (16, SampleFormat::Int, 1e-4),
        (24, SampleFormat::Int, 1e-6),
        (32, SampleFormat::Int, 1e-6),
        (32, SampleFormat::Float, 1e-6),
    ];
    for (bits, format, tolerance) in formats {
        for channels in [1, 2, 6] {
            let sound = read(Cursor::new(file(48_000, channels, bits, format, &frames))).unwrap();
            assert_eq!(sound.len(), frames.len());
            for (heard, spoken) in sound.iter().zip(&frames) {
                assert!((heard - spoken).abs() <= tolerance, "{bits} bits, {channels} channels");
            }
        }
    }
}

#[test]
fn channels_are_averaged() {
    let spec = WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = HoundWriter::new(&mut bytes, spec).unwrap();
    for value in [16_384_i16, 0, -16_384, 16_384] {
        writer.write_sample(value).unwrap();
    }
    writer.finalize().unwrap();
    let bytes = bytes.into_inner();
    assert_eq!(read(Cursor::new(&bytes)).unwrap(), [0.25, 0.0]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.wav");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(load_both(&path).unwrap(), (vec![0.25, 0.0], vec![0.25, -0.5]));
    let same = file(48_000, 2, 16, SampleFormat::Int, &[0.5; 9]);
    std::fs::write(&path, same).unwrap();
    assert_eq!(load_both(&path).unwrap(), (vec![0.5; 9], vec![]), "both sides are the same");
}

/// Input frame k is heard at k x 48,000 / rate, whatever the length of the resampling filter.
#[test]
fn a_click_keeps_its_place_through_resampling() {
    for rate in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 96_000, 192_000] {
        for at in [3, rate as usize / 3, rate as usize - 4] {
            let mut frames = vec![0.0; rate as usize];
            frames[at] = 0.9;
            let bytes = file(rate, 1, 32, SampleFormat::Float, &frames);
            let sound = read(Cursor::new(bytes)).unwrap();
            assert_eq!(sound.len(), 48_000, "one second stays one second at {rate} Hz");
            // The centre of gravity of the filtered click, which is more exact than a sample.
            let (mut weight, mut moment) = (0.0, 0.0);
            for (k, &sample) in sound.iter().enumerate() {
                let energy = f64::from(sample * sample);
                weight += energy;
                moment += energy * k as f64;
            }
            let expected = at as f64 * 48_000.0 / f64::from(rate);
            let found = moment / weight;
            let tolerance = if at < 10 || at > rate as usize - 10 { 2.0 } else { 0.1 };
            assert!(
                (found - expected).abs() < tolerance,
                "{rate} Hz: frame {at} was heard at {found}, not {expected}"
            );
        }
    }
}

#[test]
fn a_tone_keeps_its_level_through_resampling() {
    let frames: Vec<f32> = (0..44_100)
        .map(|k| (k as f32 * 1_000.0 * std::f32::consts::TAU / 44_100.0).sin() * 0.5)
        .collect();
    let sound = read(Cursor::new(file(44_100, 1, 32, SampleFormat::Float, &frames))).unwrap();
    let middle = &sound[4_800..43_200];
    let power = middle.iter().map(|sample| f64::from(sample * sample)).sum::<f64>();
    assert!((power / middle.len() as f64 - 0.125).abs() < 1e-4);
}

#[test]
fn broken_files_get_one_clear_line() {
    let whole = file(48_000, 1, 16, SampleFormat::Int, &[0.1; 100]);
    let line = |bytes: &[u8]| read(Cursor::new(bytes.to_vec())).unwrap_err().to_string();
    assert!(line(b"").starts_with("is no WAV file"));
    assert!(line(b"ID3 this is some other sound file, truly").starts_with("is no WAV file"));
    assert!(line(&whole[..20]).starts_with("is no WAV file"));
    assert_eq!(
        line(&whole[..whole.len() - 50]),
        "is cut off: its header promises 100 samples and 75 are there"
    );
    assert_eq!(line(&file(48_000, 1, 16, SampleFormat::Int, &[])), "is a WAV file without sound");
    let mut other_coding = whole.clone();
    other_coding[20] = 6; // A-law
    assert!(line(&other_coding).contains("convert it to 16-bit PCM"));
    let mut no_rate = whole;
    no_rate[24..28].fill(0);
    no_rate[28..32].fill(0);
    assert!(line(&no_rate).starts_with("is no WAV file"));

    let missing = load(Path::new("/nonexistent/hark.wav")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot be read: "));
    let folder = tempfile::tempdir().unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().starts_with("cannot be read: "));
}

#[test]
fn values_that_are_no_number_are_silent() {
    let frames = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 7.0, -7.0];
    let sound = read(Cursor::new(file(48_000, 1, 32, SampleFormat::Float, &frames))).unwrap();
    assert_eq!(sound, [0.0, 0.0, 0.0, 1.0, -1.0]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((0_usize..80, any::<u8>()), 0..6),
    ) {
        let _ = read(Cursor::new(bytes));
        let mut damaged = file(44_100, 2, 16, SampleFormat::Int, &[0.3; 40]);
        for (place, value) in changes {
            damaged[place] = value;
        }
        if let Ok(sound) = read(Cursor::new(damaged)) {
            prop_assert!(sound.iter().all(|sample| sample.abs() <= 1.0));
        }
    }

    #[test]
    fn a_sixteen_bit_file_is_copied_bit_exactly(
        values in proptest::collection::vec(any::<i16>(), 1..500),
    ) {
        let mut writer = WavWriter::new(Cursor::new(Vec::new()), 1).unwrap();
        let sound: Vec<f32> = values.iter().map(|&value| f32::from(value) / 32_768.0).collect();
        writer.push(&sound).unwrap();
        writer.flush().unwrap();
        prop_assert_eq!(read(Cursor::new(writer.into_file().into_inner())).unwrap(), sound);
    }
}

/// A disk on which only the first `room` bytes have space. It keeps a copy of its contents after
/// each write.
struct Disk {
    bytes: Cursor<Vec<u8>>,
    room: u64,
    history: Vec<Vec<u8>>,
}

impl Disk {
    fn new(room: u64) -> Self {
        Self { bytes: Cursor::new(Vec::new()), room, history: Vec::new() }
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let space = self.room.saturating_sub(self.bytes.position()) as usize;
        if space == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.bytes.write(&bytes[..bytes.len().min(space)])?;
        self.history.push(self.bytes.get_ref().clone());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[test]
fn the_file_is_valid_after_each_write() {
    let mut writer = WavWriter::new(Disk::new(u64::MAX), 1).unwrap();
    let sound: Vec<f32> = (0..20_000).map(|k| (k % 1_000) as f32 / 1_024.0).collect();
    for block in sound.chunks(240) {
        writer.push(block).unwrap();
    }
    writer.flush().unwrap();
    let disk = writer.into_file();
    assert!(disk.history.len() > 10);
    let mut longest = 0;
    for killed_here in disk.history {
        let found = match read(Cursor::new(killed_here)) {
            Ok(found) => found,
            Err(WavError::Empty) => Vec::new(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, sound[..found.len()]);
        assert!(found.len() >= longest);
        longest = found.len();
    }
    assert_eq!(longest, sound.len());
}

#[test]
fn a_full_disk_costs_only_what_did_not_fit() {
    let mut writer = WavWriter::new(Disk::new(44 + 2 * 6_000), 1).unwrap();
    writer.push(&[0.25; FLUSH_SAMPLES]).unwrap();
    let error = writer.push(&[0.5; FLUSH_SAMPLES]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(writer.lost(), FLUSH_SAMPLES as u64);
    assert_eq!(writer.samples(), 2 * FLUSH_SAMPLES as u64);
    let kept = read(Cursor::new(writer.file().bytes.get_ref().clone())).unwrap();
    assert_eq!(kept, [0.25; FLUSH_SAMPLES]);

    writer.file_mut().room = u64::MAX;
    writer.push(&[0.75; FLUSH_SAMPLES]).unwrap();
    let later = read(Cursor::new(writer.into_file().bytes.into_inner())).unwrap();
    assert_eq!(later.len(), 3 * FLUSH_SAMPLES);
    assert_eq!(later[2 * FLUSH_SAMPLES..], [0.75; FLUSH_SAMPLES], "later sound keeps its place");
}

#[test]
fn loud_samples_are_clipped() {
    let mut writer = WavWriter::new(Cursor::new(Vec::new()), 1).unwrap();
    writer.push(&[2.0, -2.0, f32::NAN]).unwrap();
    writer.flush().unwrap();
    let sound = read(Cursor::new(writer.into_file().into_inner())).unwrap();
    assert_eq!(sound, [32_767.0 / 32_768.0, -1.0, 0.0]);
}

/// A disk that accepts nothing until it is released.
struct SlowDisk {
    disk: File,
    gate: Arc<Mutex<()>>,
}

impl Write for SlowDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock().unwrap();
        self.disk.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
}

impl Seek for SlowDisk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

#[test]
fn whoever_records_never_waits_for_a_slow_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heard.wav");
    let gate = Arc::new(Mutex::new(()));
    let disk = SlowDisk { disk: File::create(&path).unwrap(), gate: gate.clone() };
    let mut recorder = WavRecorder::start(WavWriter::new(disk, 1).unwrap()).unwrap();
    let closed = gate.lock().unwrap();
    let before = 200;
    for block in 0..before {
        recorder.push(&[(block + 1) as f32 / 1_024.0; FLUSH_SAMPLES]);
    }
    recorder.push(&[0.75; 480]);
    drop(closed);
    recorder.finish();
    let heard = load(&path).unwrap();
    let value = |block: usize| heard[block * FLUSH_SAMPLES];
    assert_eq!(value(0), 1.0 / 1_024.0);
    let gap: Vec<_> = (0..before).filter(|block| value(*block) == 0.0).collect();
    // As many blocks wait as there is room for. The thread holds one more, if it was scheduled.
    assert!((before - 65..=before - 64).contains(&gap.len()), "{}", gap.len());
    assert!((0..before).all(|k| value(k) == 0.0 || value(k) == (k + 1) as f32 / 1_024.0));
    assert_eq!(recorder.lost(), (gap.len() * FLUSH_SAMPLES) as u64);
    assert_eq!(heard[heard.len() - 480..], [0.75; 480], "later sound keeps its place");
}

#[test]
fn a_full_disk_is_told_once_while_recording() {
    let disk = Disk::new(44 + 2 * 6_000);
    let mut recorder = WavRecorder::start(WavWriter::new(disk, 1).unwrap()).unwrap();
    for _ in 0..4 {
        recorder.push(&[0.25; FLUSH_SAMPLES]);
    }
    recorder.finish();
    let told = recorder.poll_outcome().unwrap().unwrap_err();
    assert_eq!(told.kind(), io::ErrorKind::StorageFull);
    assert!(recorder.poll_outcome().is_none());
    assert_eq!(recorder.lost(), 3 * FLUSH_SAMPLES as u64);
}
