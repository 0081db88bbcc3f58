//! Clocks and processor: whether this machine can process speech in time.

use std::{
    thread,
    time::{Duration, Instant},
};

use hark_keys::UnixTime;
use hark_node::{clock::Clock, measure::percentile};
use hark_voice::{
    CodecError, SAMPLE_RATE,
    codec::{Decoder, Encoder},
};
use serde_json::json;

use super::Finding;

pub(super) fn check() -> Vec<Finding> {
    vec![
        judge_calendar(Clock.unix()),
        judge_wakes(resolution(), &wakes()),
        match Load::measure() {
            Ok(load) => load.judge(),
            Err(error) => {
                Finding::problem("processor", error.to_string(), "the build of hark is broken")
            }
        },
    ]
}

fn judge_calendar(now: UnixTime) -> Finding {
    let values = json!({"unix_secs": now.as_secs()});
    let year = 1970 + now.as_secs() / SECONDS_A_YEAR;
    let finding = if (EARLIEST..LATEST).contains(&now.as_secs()) {
        Finding::ok("calendar", format!("plausible: the year is {year}"))
    } else {
        let advice = "set the date: tickets expire by it, so this device would refuse good ones";
        Finding::warning("calendar", format!("wrong: it says that the year is {year}"), advice)
    };
    finding.with(values)
}

/// The smallest step that the clock was seen to make, in nanoseconds.
fn resolution() -> u64 {
    let read = || Clock.monotonic_ns(Clock.now());
    let steps = (0..READINGS).map(|_| {
        let first = read();
        std::iter::repeat_with(read).find(|next| *next != first).unwrap_or(first) - first
    });
    steps.min().unwrap_or_default()
}

/// How late the system woke a thread that slept for one block of sound, in milliseconds, in
/// ascending order.
fn wakes() -> Vec<f64> {
    let late = |_| {
        let due = Instant::now() + BLOCK;
        // The voice thread waits in the same way between two blocks.
        while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|r| !r.is_zero()) {
            thread::park_timeout(rest);
        }
        due.elapsed().as_secs_f64() * 1_000.0
    };
    let mut late: Vec<f64> = (0..WAKES).map(late).collect();
    late.sort_unstable_by(f64::total_cmp);
    late
}

fn judge_wakes(resolution_ns: u64, late_ms: &[f64]) -> Finding {
    let at = |percent| percentile(late_ms, percent).unwrap_or_default();
    let (median, most) = (at(50.0), at(95.0));
    let found = format!(
        "steps of {resolution_ns} ns; a sleeping thread wakes {median:.2} ms late, 95 % of the time \
         within {most:.2} ms"
    );
    let values = json!({
        "resolution_ns": resolution_ns,
        "late_median_ms": median,
        "late_95th_ms": most,
        "late_max_ms": at(100.0),
    });
    let finding = if most > LATE_MS {
        let advice = "speech may stutter: close what keeps the processors busy, or give the virtual \
            machine more of them";
        Finding::warning("timers", found, advice)
    } else {
        Finding::ok("timers", found)
    };
    finding.with(values)
}

/// Shares of real time that one core spends on speech: 1 is the whole core.
struct Load {
    encode: f64,
    decode: f64,
    conceal: f64,
}

impl Load {
    fn measure() -> Result<Self, CodecError> {
        let mut encoder = Encoder::new(false, BITRATE_BPS)?;
        let mut decoder = Decoder::new()?;
        let frame_samples = encoder.frame_samples();
        let mut packets = Vec::new();
        let mut out = vec![0.0; frame_samples];
        let encode = share(|index| {
            let first = index * frame_samples;
            let frame: Vec<f32> = (first..first + frame_samples).map(hum).collect();
            let mut packet = Vec::new();
            encoder.encode(&frame, &mut packet)?;
            packets.push(packet);
            Ok(())
        })?;
        let decode = share(|index| decoder.decode(&packets[index], &mut out).map(drop))?;
        let conceal = share(|index| {
            // Real losses end, and concealment of an endless loss is cheap, so every fifth frame
            // arrives.
            if index % 5 == 0 {
                decoder.decode(&packets[index], &mut out)?;
            }
            decoder.conceal(&mut out)
        })?;
        Ok(Self { encode, decode, conceal })
    }

    fn judge(&self) -> Finding {
        let percent = |share: f64| 100.0 * share;
        let squad = self.encode + LISTENED * self.decode.max(self.conceal);
        let found = format!(
            "of one core, speaking takes {:.1} %, each talker heard {:.1} %, or {:.1} % where all of \
             it is lost and made up",
            percent(self.encode),
            percent(self.decode),
            percent(self.conceal),
        );
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let values = json!({
            "cores": cores,
            "encode_percent": percent(self.encode),
            "decode_percent": percent(self.decode),
            "conceal_percent": percent(self.conceal),
        });
        let finding = if self.encode + self.decode >= 1.0 {
            let advice = "too slow to speak and to hear one talker: close other programs, or use \
                another machine";
            Finding::problem("processor", found, advice)
        } else if squad >= 1.0 {
            let advice = "enough for small squads only: with eight who all speak over a bad network, \
                speech would stutter";
            Finding::warning("processor", found, advice)
        } else {
            Finding::ok("processor", found)
        };
        finding.with(values)
    }
}

/// The share of real time that `work` takes for each frame. It is measured in several parts, and
/// the smallest result counts: other programs disturbed that part the least.
fn share(mut work: impl FnMut(usize) -> Result<(), CodecError>) -> Result<f64, CodecError> {
    let mut least = f64::INFINITY;
    for part in 0..PARTS {
        let started = Instant::now();
        for index in part * FRAMES..(part + 1) * FRAMES {
            work(index)?;
        }
        let sound = FRAME.as_secs_f64() * FRAMES as f64;
        least = least.min(started.elapsed().as_secs_f64() / sound);
    }
    Ok(least)
}

/// A sound somewhat like a voice, since an encoder spends little time on silence.
fn hum(index: usize) -> f32 {
    let time = index as f32 / SAMPLE_RATE as f32;
    let tone = |hz: f32| (std::f32::consts::TAU * hz * time).sin();
    0.1 * (tone(150.0) + tone(310.0) + tone(730.0) + tone(1_900.0)) * (0.6 + 0.4 * tone(4.0))
}

/// Unix time at which 2025 begins. This program is newer, so an earlier clock is wrong.
const EARLIEST: u64 = 1_735_689_600;
/// Unix time at which 2100 begins.
const LATEST: u64 = 4_102_444_800;
const SECONDS_A_YEAR: u64 = 31_556_952;

/// How many steps of the clock are measured.
const READINGS: usize = 100;
/// How long the voice thread sleeps between two blocks.
const BLOCK: Duration = Duration::from_millis(5);
/// How many sleeps are measured.
const WAKES: usize = 60;
/// A block that is later than this is not heard in time.
const LATE_MS: f64 = 5.0;

/// The sound in one frame.
const FRAME: Duration = Duration::from_millis(10);
/// Frames in one part of the measurement, and the number of parts.
const FRAMES: usize = 25;
const PARTS: usize = 4;
/// The bit rate at which a node sends by default.
const BITRATE_BPS: u32 = 48_000;
/// Talkers that a member of a squad of eight may hear at once.
const LISTENED: f64 = 7.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_calendar_of_another_age_is_noticed() {
        let verdict = |secs| judge_calendar(UnixTime::from_secs(secs)).verdict;
        assert_eq!(verdict(0), Verdict::Warning);
        assert_eq!(verdict(EARLIEST), Verdict::Ok);
        assert_eq!(verdict(LATEST), Verdict::Warning);
        let finding = judge_calendar(UnixTime::from_secs(1_780_000_000));
        assert_eq!(finding.found, "plausible: the year is 2026");
    }

    #[test]
    fn late_wakes_are_noticed_unless_they_are_rare() {
        let mut late = vec![0.06; 100];
        late[97..].fill(20.0);
        assert_eq!(judge_wakes(1, &late).verdict, Verdict::Ok);
        late[90..].fill(20.0);
        let finding = judge_wakes(1, &late);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert_eq!(finding.values["late_median_ms"], 0.06);
        assert_eq!(finding.values["late_95th_ms"], 20.0);
    }

    #[test]
    fn a_processor_is_measured_by_what_a_squad_needs() {
        let verdict = |encode, decode, conceal| Load { encode, decode, conceal }.judge().verdict;
        assert_eq!(verdict(0.01, 0.002, 0.03), Verdict::Ok);
        assert_eq!(verdict(0.1, 0.02, 0.2), Verdict::Warning);
        assert_eq!(verdict(0.9, 0.1, 0.2), Verdict::Problem);
    }

    #[test]
    fn what_is_measured_is_real_work() {
        let load = Load::measure().expect("the codec works");
        assert!(load.encode > 0.0 && load.decode > 0.0 && load.conceal > 0.0);
        assert!(resolution() > 0);
    }
}
