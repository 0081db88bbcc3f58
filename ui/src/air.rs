//! Who talks and has talked on each net.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hark_node::snapshot::Snapshot;

/// Who talks on the nets of one organisation, and who has talked there last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Air {
    /// By the net's id, the latest first.
    nets: BTreeMap<String, Vec<Call>>,
    /// Who whispered to this person last, and when that began.
    whisper: Option<(String, Instant)>,
}

/// A time during which somebody talked on a net.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name of the talker.
    pub name: String,
    /// When it began.
    pub began: Instant,
    /// When it ended. `None` while it lasts.
    pub ended: Option<Instant>,
    /// Whether somebody else began to talk on the net before it ended, or this person did.
    pub talked_over: bool,
}

impl Call {
    /// How much of it is still to be seen: 1 while it lasts, then less and less, in steps.
    pub fn strength(&self, now: Instant) -> f32 {
        let Some(ended) = self.ended else { return 1.0 };
        let since = now.saturating_duration_since(ended);
        let left = FADE.saturating_sub(since).as_secs_f32() / FADE.as_secs_f32();
        (left * STEPS).ceil() / STEPS
    }

    /// When what is to be seen of it changes next, if it fades.
    pub fn next_step(&self, now: Instant) -> Option<Instant> {
        let ended = self.ended?;
        let step = FADE / STEPS as u32;
        let passed = now.saturating_duration_since(ended);
        (passed < FADE).then(|| {
            let done = (passed.as_nanos() / step.as_nanos()) as u32;
            ended + step * (done + 1)
        })
    }
}

impl Air {
    /// Takes in what a new snapshot shows.
    pub fn note(&mut self, now: Instant, snapshot: &Snapshot) {
        self.nets.retain(|id, _| snapshot.nets.iter().any(|net| net.id == *id));
        let whispers = snapshot.peers.iter().filter(|peer| peer.talking && peer.whispers);
        for peer in whispers {
            if self.whisper.as_ref().is_none_or(|(name, _)| *name != peer.name) {
                self.whisper = Some((peer.name.clone(), now));
            }
        }
        for net in &snapshot.nets {
            let calls = self.nets.entry(net.id.clone()).or_default();
            for call in calls.iter_mut().filter(|it| it.ended.is_none()) {
                if !net.talking.contains(&call.name) {
                    call.ended = Some(now);
                }
            }
            for name in &net.talking {
                if calls.iter().any(|it| it.ended.is_none() && it.name == *name) {
                    continue;
                }
                for other in calls.iter_mut().filter(|it| it.ended.is_none()) {
                    other.talked_over = true;
                }
                // Somebody who goes on after a breath still has the same call.
                let goes_on = calls.iter().position(|it| {
                    it.name == *name
                        && it.ended.is_some_and(|it| now.saturating_duration_since(it) < BREATH)
                });
                let call = match goes_on {
                    Some(at) => Call { ended: None, ..calls.remove(at) },
                    None => {
                        Call { name: name.clone(), began: now, ended: None, talked_over: false }
                    }
                };
                calls.insert(0, call);
            }
            if snapshot.transmitting && net.talked_to {
                for call in calls.iter_mut().filter(|it| it.ended.is_none()) {
                    call.talked_over = true;
                }
            }
            let mut seen = Vec::new();
            calls.retain(|call| {
                let first = !seen.contains(&call.name);
                seen.push(call.name.clone());
                call.ended.is_none() || first
            });
            calls.truncate(CALLS_MAX.max(net.talking.len()));
        }
    }

    /// Who talks on a net or has talked there, the latest first.
    pub fn calls(&self, net: &str) -> &[Call] {
        self.nets.get(net).map_or(&[], Vec::as_slice)
    }

    /// Who called last, this moment included: on any net, or by a whisper to this person.
    pub fn last_caller(&self) -> Option<&str> {
        let calls = self.nets.values().flatten().map(|call| (call.name.as_str(), call.began));
        let whisper = self.whisper.iter().map(|(name, began)| (name.as_str(), *began));
        calls.chain(whisper).max_by_key(|(_, began)| *began).map(|(name, _)| name)
    }
}

/// How long ago something was, as people say it. The words change at most once in ten seconds.
pub fn ago(span: Duration) -> String {
    match span.as_secs() {
        0..10 => "now".to_owned(),
        secs @ 10..60 => format!("{} s", secs / 10 * 10),
        secs @ 60..3_600 => format!("{} min", secs / 60),
        secs => format!("{} h", secs / 3_600),
    }
}

/// When the words of [`ago`] change next.
pub fn next_ago(span: Duration) -> Duration {
    let unit = match span.as_secs() {
        0..60 => 10,
        60..3_600 => 60,
        _ => 3_600,
    };
    Duration::from_secs((span.as_secs() / unit + 1) * unit).saturating_sub(span)
}

/// A talker's name goes away over this time.
const FADE: Duration = Duration::from_secs(5);
const STEPS: f32 = 10.0;

/// A pause of less is still the same call.
const BREATH: Duration = Duration::from_millis(1500);

/// Callers that are kept for each net.
const CALLS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{net, snapshot};

    fn talks(names: &[&str]) -> Snapshot {
        let mut shown = snapshot();
        shown.nets = vec![net("Command")];
        shown.nets[0].talking = names.iter().map(|it| (*it).to_owned()).collect();
        shown
    }

    #[test]
    fn a_caller_stays_in_sight_and_goes_slowly() {
        let start = Instant::now();
        let after = |secs: f32| start + Duration::from_secs_f32(secs);
        let mut air = Air::default();
        air.note(start, &talks(&["Kestrel"]));
        let id = talks(&[]).nets[0].id.clone();
        assert_eq!(air.calls(&id)[0].strength(after(9.0)), 1.0);
        air.note(after(10.0), &talks(&[]));
        let call = air.calls(&id)[0].clone();
        assert_eq!(call.strength(after(10.0)), 1.0);
        assert_eq!(call.strength(after(12.6)), 0.5);
        assert_eq!(call.strength(after(15.0)), 0.0);
        assert_eq!(call.next_step(after(12.6)), Some(after(13.0)));
        assert_eq!(call.next_step(after(15.0)), None, "it goes quiet");
        assert_eq!(air.last_caller(), Some("Kestrel"));
    }

    #[test]
    fn a_whisper_is_a_call_too() {
        let start = Instant::now();
        let mut air = Air::default();
        assert_eq!(air.last_caller(), None);
        air.note(start, &talks(&["Kestrel"]));
        let mut own = talks(&["Kestrel"]);
        own.peers = vec![crate::samples::peer(3, "Wren")];
        (own.peers[0].talking, own.peers[0].whispers) = (true, true);
        air.note(start + Duration::from_secs(1), &own);
        assert_eq!(air.last_caller(), Some("Wren"));
        air.note(start + Duration::from_secs(9), &talks(&["Heron"]));
        assert_eq!(air.last_caller(), Some("Heron"));
    }

    #[test]
    fn a_breath_is_not_the_end_of_a_call() {
        let start = Instant::now();
        let mut air = Air::default();
        for (millis, names) in [(0, &["Kestrel"][..]), (900, &[]), (1500, &["Kestrel"])] {
            air.note(start + Duration::from_millis(millis), &talks(names));
        }
        let id = talks(&[]).nets[0].id.clone();
        let [call] = air.calls(&id) else { panic!("one call") };
        assert_eq!((call.began, call.ended), (start, None));
    }

    #[test]
    fn who_was_talked_over_is_marked() {
        let start = Instant::now();
        let mut air = Air::default();
        air.note(start, &talks(&["Kestrel"]));
        air.note(start, &talks(&["Kestrel", "Heron"]));
        let id = talks(&[]).nets[0].id.clone();
        let marks: Vec<_> = air.calls(&id).iter().map(|it| (&*it.name, it.talked_over)).collect();
        assert_eq!(marks, [("Heron", false), ("Kestrel", true)]);

        let mut own = talks(&["Heron"]);
        own.transmitting = true;
        own.nets[0].talked_to = true;
        air.note(start, &own);
        assert!(air.calls(&id)[0].talked_over, "by this person");
    }

    #[test]
    fn ages_are_told_coarsely() {
        for (secs, words, next) in [
            (3, "now", 7),
            (25, "20 s", 5),
            (59, "50 s", 1),
            (61, "1 min", 59),
            (7_100, "1 h", 100),
        ] {
            let span = Duration::from_secs(secs);
            assert_eq!(ago(span), words);
            assert_eq!(next_ago(span), Duration::from_secs(next), "{secs}");
        }
    }
}
