//! Sound cards: which ones there are, and whether the default ones work.

use hark_node::{
    device::{
        DeviceError, DeviceInfo, SelfTest, TELEPHONE_ADVICE, has_telephone_quality, list_devices,
        self_test,
    },
    event::Direction,
};
use serde_json::json;

use super::{Finding, plural};
use crate::platform::missing_sound;

pub(super) fn check() -> Vec<Finding> {
    let devices = list_devices();
    let list = |check, known: &[DeviceInfo]| {
        let cards: Vec<_> = known.iter().filter(|info| info.is_card(&devices.host)).collect();
        let finding = match cards.as_slice() {
            [] => Finding::warning(check, "none", "see the next line"),
            cards => Finding::ok(check, names(cards)),
        };
        finding.with(json!(known))
    };
    vec![
        Finding::ok("sound system", devices.host.as_str()),
        list("microphones", &devices.microphones),
        tried(Direction::Input, self_test(Direction::Input, None, false)),
        list("loudspeakers", &devices.speakers),
        tried(Direction::Output, self_test(Direction::Output, None, false)),
    ]
}

/// Names of the devices, the default one first. Their number is limited, since ALSA lists dozens.
fn names(known: &[&DeviceInfo]) -> String {
    let mut sorted = known.to_vec();
    sorted.sort_by_key(|info| !info.default);
    let name = |info: &&DeviceInfo| match info.default {
        true => format!("{} (default)", info.name),
        false => info.name.clone(),
    };
    let shown = sorted.iter().take(NAMES_MAX).map(name).collect::<Vec<_>>().join(", ");
    match known.len().checked_sub(NAMES_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown}, and {more} more (--json has all)"),
    }
}

/// The finding of a default sound card's self-test.
fn tried(direction: Direction, outcome: Result<SelfTest, DeviceError>) -> Finding {
    let (check, without) = match direction {
        Direction::Input => ("microphone", "`hark talk --input silence` to listen only"),
        Direction::Output => ("loudspeaker", "`hark talk --output null` to speak only"),
    };
    let test = match outcome {
        Ok(test) => test,
        Err(error) => {
            let advice = format!("{}; or use {without}", missing_sound());
            return Finding::problem(check, error.to_string(), advice);
        }
    };
    let mut found = format!(
        "{}: opened at {} kHz with {}, blocks of {:.0} ms",
        test.name,
        f64::from(test.rate_hz) / 1_000.0,
        plural(test.channels.into(), "channel"),
        test.period_ms,
    );
    // Some sound systems do not know their delay and report 0.
    if test.latency_ms > 0.0 {
        found += &format!(", delay {:.0} ms", test.latency_ms);
    }
    if let Some(level) = test.level_dbfs {
        found += &format!(", level {level:.0} dB");
    }
    let values = json!(test);
    let finding = if test.callbacks == 0 {
        let advice = "it opens but does not run: choose another in the system's sound settings, \
            or by name with --input mic:NAME or --output speaker:NAME";
        Finding::problem(check, found, advice)
    } else if test.level_dbfs.is_some() && is_monitor(&test.name) {
        let advice = "this records what the loudspeaker plays: choose a real microphone in the \
            system's sound settings, or by --input mic:NAME";
        Finding::warning(check, found, advice)
    } else if test.level_dbfs.is_some_and(|level| level <= NOTHING_DBFS) {
        let advice = "it gives nothing but zeros: unmute it in the system's sound settings, allow \
            programs to use it, and look for a switch on the headset";
        Finding::warning(check, found, advice)
    } else if test.level_dbfs.is_some_and(|level| level >= LOUD_DBFS) {
        let advice = "very loud: turn its level down in the system's sound settings";
        Finding::warning(check, found, advice)
    } else if has_telephone_quality(test.card_rate_hz) {
        let khz = f64::from(test.card_rate_hz) / 1_000.0;
        found += &format!(", telephone quality ({khz} kHz)");
        Finding::warning(check, found, TELEPHONE_ADVICE)
    } else if test.period_ms > LONG_PERIOD_MS {
        let advice = "it works in long blocks, which adds their length to the delay: prefer a wired \
            sound card to Bluetooth";
        Finding::warning(check, found, advice)
    } else {
        Finding::ok(check, found)
    };
    finding.with(values)
}

/// Whether a microphone's name is that of a loudspeaker's monitor, as PulseAudio names them.
fn is_monitor(name: &str) -> bool {
    name.starts_with("Monitor of ") || name.ends_with(".monitor")
}

/// How many sound cards are named. Scripts get all of them.
const NAMES_MAX: usize = 4;
/// Level of digital silence: even a quiet room is louder.
const NOTHING_DBFS: f32 = -100.0;
/// Level at which a microphone clips.
const LOUD_DBFS: f32 = -6.0;
/// A sound card with blocks of this length adds a delay that can be heard.
const LONG_PERIOD_MS: f64 = 40.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn test(level_dbfs: Option<f32>) -> SelfTest {
        SelfTest {
            name: "Headset".to_owned(),
            rate_hz: 44_100,
            card_rate_hz: 44_100,
            channels: 1,
            callbacks: 60,
            period_ms: 10.0,
            measured_rate_hz: 44_100.0,
            latency_ms: 12.4,
            level_dbfs,
        }
    }

    #[test]
    fn a_working_microphone_is_told_with_its_level() {
        let finding = tried(Direction::Input, Ok(test(Some(-47.6))));
        assert_eq!(finding.verdict, Verdict::Ok);
        assert_eq!(
            finding.found,
            "Headset: opened at 44.1 kHz with 1 channel, blocks of 10 ms, delay 12 ms, level -48 dB"
        );
        assert_eq!(finding.values["rate_hz"], 44_100);
    }

    #[test]
    fn what_does_not_sound_right_gets_advice() {
        let verdict = |test| {
            let direction = Direction::Input;
            let finding = tried(direction, Ok(test));
            assert_eq!(finding.verdict == Verdict::Ok, finding.advice.is_none());
            finding.verdict
        };
        assert_eq!(verdict(test(Some(-120.0))), Verdict::Warning);
        assert_eq!(verdict(test(Some(-2.0))), Verdict::Warning);
        assert_eq!(verdict(SelfTest { period_ms: 90.0, ..test(Some(-50.0)) }), Verdict::Warning);
        assert_eq!(
            verdict(SelfTest { card_rate_hz: 16_000, ..test(Some(-50.0)) }),
            Verdict::Warning
        );
        assert_eq!(verdict(SelfTest { callbacks: 0, ..test(Some(-50.0)) }), Verdict::Problem);
        let name = "Monitor of Headset".to_owned();
        assert_eq!(verdict(SelfTest { name, ..test(Some(-50.0)) }), Verdict::Warning);
        let speaker = tried(Direction::Output, Ok(SelfTest { latency_ms: 0.0, ..test(None) }));
        assert_eq!(speaker.verdict, Verdict::Ok);
        assert!(speaker.found.ends_with("blocks of 10 ms"), "{}", speaker.found);
    }

    #[test]
    fn without_a_card_one_can_still_do_the_other_half() {
        let finding = tried(Direction::Input, Err(DeviceError::NoMicrophone));
        assert_eq!(finding.verdict, Verdict::Problem);
        assert!(finding.advice.is_some_and(|advice| advice.contains("--input silence")));
        let finding = tried(Direction::Output, Err(DeviceError::NoSpeaker));
        assert!(finding.advice.is_some_and(|advice| advice.contains("--output null")));
    }

    #[test]
    fn the_default_card_is_marked() {
        let card = |name: &str, default| {
            let (name, id) = (name.to_owned(), String::new());
            DeviceInfo { name, id, default, rate_hz: None }
        };
        assert_eq!(names(&[&card("Desk", false), &card("Head", true)]), "Head (default), Desk");
        assert_eq!(
            names(&[&card("Desk", false); 7]),
            "Desk, Desk, Desk, Desk, and 3 more (--json has all)"
        );
        assert!(card("Default", true).is_card("ALSA") && card("Desk", false).is_card("WASAPI"));
        assert!(!card("Rate converter", false).is_card("ALSA"));
    }
}
