//! What one finished run measured: the data that every report is made from.
//!
//! Plain data in a fixed order, which `--json` writes as it is. Times are seconds since the start
//! of the run; spans are milliseconds if their name says so. The names of the fields are an
//! interface: programs read them.

use std::collections::BTreeMap;

use serde::Serialize;

/// One finished run of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunRecord {
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is meant to show, in one sentence.
    pub purpose: String,
    /// The seed, from which all randomness of the run comes.
    pub seed: u64,
    /// How long the run lasted, in simulated time.
    pub duration_s: f64,
    /// The command that replays exactly this run.
    pub replay: String,
    /// Hash of everything that the nodes sent and did: equal runs have equal digests.
    pub trace_digest: String,
    /// The expectations of the scenario, in its order.
    pub expectations: Vec<ExpectationRecord>,
    /// All members, in the scenario's order.
    pub members: Vec<MemberMeasures>,
    /// What each listener heard of each talker, by listener and then talker.
    pub ears: Vec<EarRecord>,
    /// Each direction of each link.
    pub links: Vec<LinkRecord>,
    /// Each gateway that translates addresses.
    pub nats: Vec<NatRecord>,
    /// The events, in order of time.
    pub events: Vec<EventRecord>,
}

/// A span of time from `start_s` up to `end_s`. Lists of them are ordered and do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// When it begins, in seconds.
    pub start_s: f64,
    /// When it ends, in seconds.
    pub end_s: f64,
}

/// One expectation of the scenario, and how it turned out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExpectationRecord {
    /// The expectation in words.
    pub text: String,
    /// Whether the expectation was met.
    pub holds: bool,
    /// The value that was measured.
    pub measured: String,
}

/// One member: when it ran, when it spoke, and how loud its sound was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemberMeasures {
    /// The member's call sign.
    pub name: String,
    /// All addresses that it had, in order of time.
    pub addresses: Vec<String>,
    /// When its process ran.
    pub running: Vec<Interval>,
    /// When it sent speech.
    pub speaking: Vec<Interval>,
    /// Level of its microphone's sound in dBFS, one value for each 100 ms; -120 is silence.
    pub spoken_level: Vec<f32>,
    /// Level of its loudspeaker's sound in dBFS, one value for each 100 ms; -120 is silence.
    pub level: Vec<f32>,
    /// The path of the file with the sound that it heard, relative to the report.
    pub sound: Option<String>,
}

/// What one listener heard of one talker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EarRecord {
    /// The name of the talker.
    pub talker: String,
    /// The name of the listener.
    pub listener: String,
    /// When the two were connected.
    pub connected: Vec<Interval>,
    /// Time from the later start of the two until they were first connected, in milliseconds.
    pub connect_ms: Option<f64>,
    /// The path in use at the end, or the last one in use.
    pub path: String,
    /// When frames of the talker were played out, concealed ones included.
    pub heard: Vec<Interval>,
    /// Frames that arrived, late ones included.
    pub frames_received: u64,
    /// Frames that were concealed because the real ones were missing when they were due.
    pub frames_concealed: u64,
    /// Frames that arrived after they were due.
    pub frames_late: u64,
    /// Frames that were lost and recovered from copies in later datagrams.
    pub frames_recovered: u64,
    /// The concealed share of the frames that were played out, in percent.
    pub concealed_percent: f64,
    /// Mouth-to-ear delay, in milliseconds.
    pub delay_ms: Option<MeasuredSpread>,
    /// The mouth-to-ear delay over time: seconds of the run, and milliseconds.
    pub delays: Vec<(f64, f64)>,
    /// The longest time in which the talker spoke and the listener played nothing of it, in
    /// milliseconds.
    pub longest_silence_ms: f64,
    /// The statistics of this stream that the listener's node reported over time.
    pub series: Vec<EarSample>,
}

/// A distribution in three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeasuredSpread {
    /// Half of the values are at most this.
    pub median: f64,
    /// 99 of 100 values are at most this.
    pub p99: f64,
    /// All values are at most this.
    pub max: f64,
}

/// A listener's statistics of one stream at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EarSample {
    /// The time of the sample, in seconds.
    pub at_s: f64,
    /// How long the jitter buffer holds frames, in milliseconds.
    pub playout_delay_ms: f64,
    /// Interarrival jitter (RFC 3550, section 6.4.1), in milliseconds.
    pub jitter_ms: f64,
    /// Recent packet loss, in percent.
    pub loss_percent: f64,
    /// Smoothed round-trip time of the path in use.
    pub rtt_ms: f64,
    /// Frames concealed since the previous sample.
    pub concealed: u64,
}

/// One direction of one link.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinkRecord {
    /// The owner and the direction of the link, such as "wren up".
    pub name: String,
    /// Datagrams sent into the link.
    pub offered: u64,
    /// Datagrams that came out, duplicates included.
    pub delivered: u64,
    /// Datagrams that did not come out, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Bytes that came out.
    pub bytes: u64,
    /// How long a datagram sent at a moment waited in the queue, as (seconds of the run,
    /// milliseconds).
    pub queue_ms: Vec<(f64, f64)>,
}

/// One gateway that translates addresses, in the terms of RFC 4787.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NatRecord {
    /// The name in the scenario.
    pub name: String,
    /// The address that others see.
    pub external_address: String,
    /// Mapping behaviour (section 4.1).
    pub mapping: String,
    /// Filtering behaviour (section 5).
    pub filtering: String,
    /// Mappings created.
    pub mappings_created: u64,
    /// Mappings that expired.
    pub mappings_expired: u64,
    /// The largest number of mappings at once.
    pub mappings_peak: u64,
    /// Datagrams that the gateway did not let through, by cause.
    pub dropped: BTreeMap<String, u64>,
}

/// An event of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EventRecord {
    /// The time of the event, in seconds.
    pub at_s: f64,
    /// The member that it happened to; `None` if it happened to the network as a whole.
    pub member: Option<String>,
    /// The kind of event, in a word or two.
    pub kind: String,
    /// The event in words.
    pub text: String,
    /// Whether the scenario did it to the run, such as a crash or a change of a link.
    pub fault: bool,
}

impl RunRecord {
    /// How many expectations were not met.
    pub fn failed(&self) -> usize {
        self.expectations.iter().filter(|expectation| !expectation.holds).count()
    }
}

impl Interval {
    /// How long it lasts, in seconds.
    pub fn length_s(self) -> f64 {
        (self.end_s - self.start_s).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_in_json_are_stable() {
        let record = RunRecord {
            scenario: "s".to_owned(),
            seed: 7,
            duration_s: 1.5,
            expectations: vec![ExpectationRecord::default()],
            members: vec![MemberMeasures {
                running: vec![Interval { start_s: 0.25, end_s: 1.0 }],
                ..Default::default()
            }],
            ears: vec![EarRecord {
                delay_ms: Some(MeasuredSpread { median: 80.0, p99: 90.5, max: 99.0 }),
                delays: vec![(0.5, 80.0)],
                series: vec![EarSample::default()],
                ..Default::default()
            }],
            links: vec![LinkRecord {
                lost: [("queue full".to_owned(), 2)].into(),
                ..Default::default()
            }],
            nats: vec![NatRecord::default()],
            events: vec![EventRecord::default()],
            ..Default::default()
        };
        let expected = concat!(
            r#"{"scenario":"s","purpose":"","seed":7,"duration_s":1.5,"replay":"","#,
            r#""trace_digest":"","#,
            r#""expectations":[{"text":"","holds":false,"measured":""}],"#,
            r#""members":[{"name":"","addresses":[],"running":[{"start_s":0.25,"end_s":1.0}],"#,
            r#""speaking":[],"spoken_level":[],"level":[],"sound":null}],"#,
            r#""ears":[{"talker":"","listener":"","connected":[],"connect_ms":null,"path":"","#,
            r#""heard":[],"frames_received":0,"frames_concealed":0,"frames_late":0,"#,
            r#""frames_recovered":0,"concealed_percent":0.0,"#,
            r#""delay_ms":{"median":80.0,"p99":90.5,"max":99.0},"delays":[[0.5,80.0]],"#,
            r#""longest_silence_ms":0.0,"series":[{"at_s":0.0,"playout_delay_ms":0.0,"#,
            r#""jitter_ms":0.0,"loss_percent":0.0,"rtt_ms":0.0,"concealed":0}]}],"#,
            r#""links":[{"name":"","offered":0,"delivered":0,"lost":{"queue full":2},"#,
            r#""bytes":0,"queue_ms":[]}],"#,
            r#""nats":[{"name":"","external_address":"","mapping":"","filtering":"","#,
            r#""mappings_created":0,"mappings_expired":0,"mappings_peak":0,"dropped":{}}],"#,
            r#""events":[{"at_s":0.0,"member":null,"kind":"","text":"","fault":false}]}"#,
        );
        assert_eq!(serde_json::to_string(&record).unwrap(), expected);
    }
}
