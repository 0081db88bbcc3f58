//! What one finished run measured: the data that every report is made from.
//!
//! Plain data in a fixed order, written as it is by `--json`. Times are seconds since the start of
//! the run, spans are milliseconds where their name says so. The names of the fields are an
//! interface: programs read them.

use std::collections::BTreeMap;

use serde::Serialize;

/// One finished run of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunRecord {
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is there to show, in a sentence.
    pub purpose: String,
    /// Where all randomness of the run came from.
    pub seed: u64,
    /// How long the run lasted, in simulated time.
    pub duration_s: f64,
    /// The command that runs exactly this again.
    pub replay: String,
    /// Hash of everything the nodes sent and did: equal digests, equal runs.
    pub trace_digest: String,
    /// What the scenario demanded, in its order.
    pub expectations: Vec<ExpectationRecord>,
    /// Everyone who took part, in the scenario's order.
    pub members: Vec<MemberMeasures>,
    /// What each listener heard of each talker, by listener and then talker.
    pub ears: Vec<EarRecord>,
    /// Each direction of each link.
    pub links: Vec<LinkRecord>,
    /// Each address translator.
    pub nats: Vec<NatRecord>,
    /// What happened, in order of time.
    pub events: Vec<EventRecord>,
}

/// A span of time from `start_s` up to `end_s`. Lists of them are in order and without overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// When it begins.
    pub start_s: f64,
    /// When it is over.
    pub end_s: f64,
}

/// One demand of the scenario and how it turned out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExpectationRecord {
    /// The demand as the scenario says it.
    pub text: String,
    /// Whether it was met.
    pub holds: bool,
    /// What was found instead of, or within, what was asked.
    pub measured: String,
}

/// One member: when it ran, what it said and how loud its ears were.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemberMeasures {
    /// Its call sign.
    pub name: String,
    /// Every address it had, in the order it had them.
    pub addresses: Vec<String>,
    /// When its process was alive.
    pub running: Vec<Interval>,
    /// When it sent speech.
    pub speaking: Vec<Interval>,
    /// Level of what its microphone picked up, in dBFS, one value each 100 ms; -120 for silence.
    pub spoken_level: Vec<f32>,
    /// Level of what its loudspeaker played, in dBFS, one value each 100 ms; -120 for silence.
    pub level: Vec<f32>,
    /// Where the sound it heard is, relative to the report.
    pub sound: Option<String>,
}

/// What one listener heard of one talker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EarRecord {
    /// Who spoke.
    pub talker: String,
    /// Who listened.
    pub listener: String,
    /// When the two had a connection.
    pub connected: Vec<Interval>,
    /// From the start of the later of the two until they were connected first.
    pub connect_ms: Option<f64>,
    /// The path in use at the end, or last.
    pub path: String,
    /// When frames of the talker were being played, concealed ones among them.
    pub heard: Vec<Interval>,
    /// Frames that arrived, late ones included.
    pub frames_received: u64,
    /// Frames made up because the real ones were missing when their turn came.
    pub frames_concealed: u64,
    /// Frames that arrived after their turn.
    pub frames_late: u64,
    /// Frames that were lost and rebuilt from redundancy in others.
    pub frames_recovered: u64,
    /// How much of what was played was made up.
    pub concealed_percent: f64,
    /// From the talker's microphone to the listener's loudspeaker.
    pub delay_ms: Option<MeasuredSpread>,
    /// The same frame by frame: when it was played, and its delay in milliseconds.
    pub delays: Vec<(f64, f64)>,
    /// The longest time in which the talker spoke and nothing of it was played.
    pub longest_silence_ms: f64,
    /// What the listener's node said of this stream as time went by.
    pub series: Vec<EarSample>,
}

/// A distribution in three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeasuredSpread {
    /// Half are at most this.
    pub median: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// All are at most this.
    pub max: f64,
}

/// A listener's view of one stream at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EarSample {
    /// When.
    pub at_s: f64,
    /// How long the jitter buffer holds frames.
    pub playout_delay_ms: f64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// Recent packet loss.
    pub loss_percent: f64,
    /// Smoothed round trip of the path in use.
    pub rtt_ms: f64,
    /// Frames concealed since the sample before.
    pub concealed: u64,
}

/// One direction of one link.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinkRecord {
    /// Whose link and which way, such as "wren up".
    pub name: String,
    /// Datagrams put in.
    pub offered: u64,
    /// Datagrams that came out, duplicates included.
    pub delivered: u64,
    /// Datagrams that did not, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Bytes that came out.
    pub bytes: u64,
    /// How long a datagram put in at a moment waited in the queue: seconds, then milliseconds.
    pub queue_ms: Vec<(f64, f64)>,
}

/// One address translator, in the words of RFC 4787.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NatRecord {
    /// Its name in the scenario.
    pub name: String,
    /// The address others see.
    pub external_address: String,
    /// Mapping behaviour (section 4.1).
    pub mapping: String,
    /// Filtering behaviour (section 5).
    pub filtering: String,
    /// Mappings made.
    pub mappings_created: u64,
    /// Mappings that ran out of time.
    pub mappings_expired: u64,
    /// The most mappings alive at once.
    pub mappings_peak: u64,
    /// Datagrams not let through, by cause.
    pub dropped: BTreeMap<String, u64>,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EventRecord {
    /// When.
    pub at_s: f64,
    /// To whom, unless to the network as a whole.
    pub member: Option<String>,
    /// What sort of event it is, in a word or two.
    pub kind: String,
    /// What happened.
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
