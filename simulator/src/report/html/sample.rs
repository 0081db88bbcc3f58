//! An invented run, as similar to a real one as the drawing code needs.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::record::*;

/// Five members for 30 s: one uplink with a burst of loss, a crash, and an expectation that fails.
pub(super) fn squad_of_five() -> RunRecord {
    let names = ["Kestrel", "Heron", "Magpie", "Osprey", "Wren"];
    let mut run = Run::new(&names, 30.0);
    run.burst = Some(("Wren", 9.0, 14.0));
    run.crash = Some(("Magpie", 17.0, 21.5));
    let mut record = run.record();
    record.scenario = "bad_uplink_then_crash".to_owned();
    record.purpose = "One member's uplink loses a third of its packets for five seconds and \
        another member's process dies in mid-sentence; everyone else hears speech without a gap."
        .to_owned();
    record.replay =
        "hark-sim run examples/scenarios/bad_uplink_then_crash.toml --seed 41".to_owned();
    record.trace_digest =
        "b3:5f0c2f4be1a7a9d3368a04d2e4b1c6f79f22d09e5c4d1178a3a6610b7c93e2f1".to_owned();
    record.expectations = [
        ("everyone is connected within 2 s", true, "slowest: Heron and Osprey, 0.84 s"),
        ("delay of everyone, median, is at most 150 ms", true, "worst: Osprey of Wren, 121 ms"),
        ("at most 2 % of what Osprey hears of Wren is concealed", false, "6.31 %, 57 frames"),
        ("Magpie hears Heron within 3 s of its restart", true, "1.21 s"),
        ("longest silence of Kestrel hearing Heron is at most 200 ms", true, "40 ms"),
        ("Heron and Kestrel use a direct path", true, "10.0.1.2:4433, direct"),
    ]
    .map(|(text, holds, measured)| ExpectationRecord {
        text: text.to_owned(),
        holds,
        measured: measured.to_owned(),
    })
    .into();
    record.members[2].sound = Some("sound/Magpie.wav".to_owned());
    record.members[0].sound = Some("sound/Kestrel.wav".to_owned());
    record
}

/// A run with `members` members, all of whom speak in turn, with loss everywhere.
pub(super) fn crowd(members: usize, duration_s: f64) -> RunRecord {
    let names: Vec<_> = (1..=members).map(|number| format!("Member-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut run = Run::new(&names, duration_s);
    run.everywhere = true;
    run.record()
}

struct Run<'a> {
    names: &'a [&'a str],
    duration_s: f64,
    burst: Option<(&'a str, f64, f64)>,
    crash: Option<(&'a str, f64, f64)>,
    everywhere: bool,
    random: ChaCha8Rng,
}

impl<'a> Run<'a> {
    fn new(names: &'a [&'a str], duration_s: f64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(41);
        Self { names, duration_s, burst: None, crash: None, everywhere: false, random }
    }

    fn below(&mut self, limit: f64) -> f64 {
        self.random.next_u32() as f64 / u32::MAX as f64 * limit
    }

    fn record(mut self) -> RunRecord {
        let speaking: Vec<_> = (0..self.names.len()).map(|index| self.speaking(index)).collect();
        let mut record = RunRecord {
            scenario: "crowd".to_owned(),
            seed: 41,
            duration_s: self.duration_s,
            ..Default::default()
        };
        for (index, name) in self.names.iter().enumerate() {
            let running = self.running(name);
            let spoken_level = self.level(&speaking[index]);
            let others: Vec<_> = (0..self.names.len()).filter(|other| *other != index).collect();
            let around: Vec<_> = others
                .iter()
                .flat_map(|other| super::spans::within(&speaking[*other], &running))
                .collect();
            record.members.push(MemberMeasures {
                name: (*name).to_owned(),
                addresses: vec![format!("10.0.{index}.2:4433")],
                level: self.level(&around),
                running,
                speaking: speaking[index].clone(),
                spoken_level,
                sound: None,
            });
            for talker in others {
                let ear = self.ear(name, self.names[talker], talker, &speaking[talker]);
                record.ears.push(ear);
            }
            for direction in ["up", "down"] {
                record.links.push(self.link(name, direction));
            }
        }
        record.nats.push(NatRecord {
            name: "hotel".to_owned(),
            external_address: "203.0.113.7".to_owned(),
            mapping: "address and port dependent".to_owned(),
            filtering: "address and port dependent".to_owned(),
            mappings_created: 14,
            mappings_expired: 3,
            mappings_peak: 9,
            dropped: [("no mapping".to_owned(), 21), ("filtered".to_owned(), 8)].into(),
        });
        record.events = self.events();
        record
    }

    fn running(&self, name: &str) -> Vec<Interval> {
        let whole = vec![Interval { start_s: 0.0, end_s: self.duration_s }];
        match self.crash {
            Some((crashed, start_s, end_s)) if crashed == name => {
                super::spans::without(&whole, &[Interval { start_s, end_s }])
            }
            _ => whole,
        }
    }

    fn speaking(&mut self, index: usize) -> Vec<Interval> {
        let mut talkspurts = Vec::new();
        let mut at = 1.0 + index as f64 * 2.3 % 11.0;
        while at < self.duration_s - 0.5 {
            let end_s = (at + 1.2 + self.below(3.0)).min(self.duration_s);
            talkspurts.push(Interval { start_s: at, end_s });
            at = end_s + 2.0 + self.below(7.0);
        }
        super::spans::within(&talkspurts, &self.running(self.names[index]))
    }

    fn level(&mut self, loud: &[Interval]) -> Vec<f32> {
        let values = (self.duration_s * 10.0) as usize;
        let mut level = Vec::with_capacity(values);
        for index in 0..values {
            let at = index as f64 / 10.0;
            let speaks =
                loud.iter().any(|talkspurt| talkspurt.start_s <= at && at < talkspurt.end_s);
            level.push(if speaks { -34.0 + self.below(26.0) as f32 } else { -120.0 });
        }
        level
    }

    fn ear(&mut self, listener: &str, talker: &str, index: usize, said: &[Interval]) -> EarRecord {
        let delay_s = 0.06 + 0.012 * index as f64;
        let mut up = self.running(listener);
        for span in &mut up {
            span.start_s += 0.8;
        }
        let up = super::spans::within(&up, &self.running(talker));
        let mut ear = EarRecord {
            talker: talker.to_owned(),
            listener: listener.to_owned(),
            connected: up.clone(),
            connect_ms: Some(400.0 + self.below(450.0)),
            path: format!("direct, 10.0.{index}.2:4433"),
            heard: super::spans::within(&super::spans::later(said, delay_s), &up),
            frames_late: if self.everywhere { 3 } else { 0 },
            ..Default::default()
        };
        let lossy = |at: f64| match self.burst {
            Some((whose, from, to)) => whose == talker && (from..to).contains(&at),
            None => false,
        };
        let mut buffer_ms = 40.0;
        for tick in 0..(self.duration_s * 5.0) as usize {
            let at_s = tick as f64 / 5.0;
            let bad = lossy(at_s) || self.everywhere && tick % 10 < 2;
            if !up.iter().any(|span| span.start_s <= at_s && at_s < span.end_s) {
                continue;
            }
            let heard = ear.heard.iter().any(|span| span.start_s <= at_s && at_s < span.end_s);
            buffer_ms =
                if bad { f64::min(buffer_ms + 9.0, 130.0) } else { 40.0_f64.max(buffer_ms - 2.0) };
            let random = self.random.next_u32() as f64 / u32::MAX as f64;
            let concealed = if bad && heard { (random * 4.0) as u64 } else { 0 };
            ear.frames_concealed += concealed;
            ear.frames_recovered += if bad && heard { 2 } else { 0 };
            ear.series.push(EarSample {
                at_s,
                playout_delay_ms: buffer_ms + random * 4.0,
                jitter_ms: if bad { 14.0 + random * 9.0 } else { 2.0 + random * 2.0 },
                loss_percent: if bad { 24.0 + random * 16.0 } else { 0.0 },
                rtt_ms: 38.0 + random * 5.0 + if bad { 12.0 } else { 0.0 },
                concealed,
            });
            if heard {
                for frame in 0..10 {
                    let at_s = at_s + frame as f64 / 50.0;
                    ear.delays.push((at_s, delay_s * 1000.0 + buffer_ms - 40.0 + random * 6.0));
                }
            }
        }
        if lossy(12.0) && listener == "Osprey" {
            ear.heard =
                super::spans::without(&ear.heard, &[Interval { start_s: 11.4, end_s: 12.1 }]);
            ear.longest_silence_ms = 700.0;
        } else {
            ear.longest_silence_ms = 20.0 + 20.0 * self.below(2.0).floor();
        }
        let played = ear.heard_s() * 50.0;
        ear.frames_received = (played as u64).saturating_sub(ear.frames_concealed);
        ear.concealed_percent = ear.frames_concealed as f64 / played.max(1.0) * 100.0;
        let mut sorted: Vec<_> = ear.delays.iter().map(|delay| delay.1).collect();
        sorted.sort_by(f64::total_cmp);
        let quantile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
        ear.delay_ms = (!sorted.is_empty()).then(|| MeasuredSpread {
            median: quantile(0.5),
            p99: quantile(0.99),
            max: quantile(1.0),
        });
        ear
    }

    fn link(&mut self, name: &str, direction: &str) -> LinkRecord {
        let bad = direction == "up" && self.burst.is_some_and(|(whose, ..)| whose == name);
        let offered = 4200 + self.below(900.0) as u64;
        let lost = if bad { 312 } else { self.below(3.0) as u64 };
        let mut queue_ms = Vec::new();
        for tick in 0..(self.duration_s * 10.0) as usize {
            let at_s = tick as f64 / 10.0;
            let busy = bad && (9.0..14.0).contains(&at_s);
            queue_ms.push((at_s, self.below(if busy { 90.0 } else { 4.0 })));
        }
        LinkRecord {
            name: format!("{name} {direction}"),
            offered,
            delivered: offered - lost,
            lost: [
                ("burst".to_owned(), lost * 4 / 5),
                ("queue full".to_owned(), lost - lost * 4 / 5),
            ]
            .into(),
            bytes: (offered - lost) * 118,
            queue_ms,
        }
    }

    fn events(&self) -> Vec<EventRecord> {
        let mut events = Vec::new();
        let mut add = |at_s, member: Option<&str>, kind: &str, text: &str, fault| {
            events.push(EventRecord {
                at_s,
                member: member.map(str::to_owned),
                kind: kind.to_owned(),
                text: text.to_owned(),
                fault,
            });
        };
        for (index, name) in self.names.iter().enumerate() {
            let at_s = 0.4 + 0.05 * index as f64;
            add(at_s, Some(name), "connected", "joined the squad", false);
        }
        if let Some((name, from, to)) = self.burst {
            add(from, Some(name), "link", "uplink loses 35 % in bursts", true);
            add(to, Some(name), "link", "uplink as before", true);
        }
        if let Some((name, from, to)) = self.crash {
            add(from, Some(name), "crash", "process killed", true);
            add(from + 2.0, Some("Heron"), "lost", "connection to Magpie timed out", false);
            add(to, Some(name), "restart", "started again with its disk", true);
            add(to + 0.8, Some(name), "connected", "joined the squad", false);
        }
        events
    }
}
