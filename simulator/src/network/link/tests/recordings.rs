//! Recorded opportunities and series.

use std::{collections::VecDeque, fs};

use super::*;

fn recorded(opportunities: &str) -> LinkModel {
    let opportunities: Opportunities = opportunities.parse().unwrap();
    LinkModel { opportunities: Some(opportunities.into()), ..LinkModel::default() }
}

#[test]
fn packets_leave_at_the_milliseconds_of_the_file_and_again_when_it_repeats() {
    let mut link = SimulatedLink::new(recorded("0\n3\n3\n10\n"), rng(1));
    let mut send = |now, bytes| arrival(link.transmit(now, bytes)).unwrap();
    // The opportunity at 0 is already over for a packet that arrives at 0.
    assert_eq!(send(ms(0), 1472), ms(3));
    assert_eq!(send(ms(0), 1472), ms(3));
    assert_eq!(send(ms(0), 1472), ms(10));
    // The second repetition, where the opportunity at 0 comes at 10.
    assert_eq!(send(ms(0), 1472), ms(10));
    assert_eq!(send(ms(0), 1472), ms(13));
    // A packet that arrives between two milliseconds leaves with the next opportunity, that of
    // repetition 12.
    assert_eq!(send(us(122_999), 1472), ms(123));
    assert_eq!(send(us(122_999), 1472), ms(123));
    assert_eq!(send(ms(123), 1472), ms(130));
    assert_eq!(send(ms(123), 1472), ms(130));
    assert_eq!(send(ms(123), 1472), ms(133));
    assert_eq!(send(ms(1_000_000), 1472), ms(1_000_003));
}

#[test]
fn small_packets_share_an_opportunity_and_its_rest_is_lost() {
    let mut link = SimulatedLink::new(recorded("5\n10\n15\n"), rng(1));
    let mut send = |now, bytes| arrival(link.transmit(now, bytes)).unwrap();
    // 700 and 800 bytes fill the first opportunity; the next 1000 go into the second.
    assert_eq!(send(ms(0), 672), ms(5));
    assert_eq!(send(ms(1), 772), ms(5));
    assert_eq!(send(ms(4), 972), ms(10));
    // 500 of 1500 bytes still fit into the second, and the third takes the rest.
    assert_eq!(send(ms(4), 1472), ms(15));
    assert_eq!(send(ms(9), 472), ms(15));
    // The room that is left in the third is lost once its time has passed.
    assert_eq!(send(ms(15), 1), ms(20));
    assert_eq!(send(ms(15), 4443), ms(30));
}

#[test]
fn a_recording_goes_on_when_the_model_changes_and_a_new_one_starts() {
    let first = recorded("5\n10\n");
    let mut link = SimulatedLink::new(first.clone(), rng(1));
    assert_eq!(arrival(link.transmit(ms(0), 1472)), Some(ms(5)));
    assert_eq!(arrival(link.transmit(ms(0), 1472)), Some(ms(10)));
    link.set_model(ms(3), LinkModel { delay: Span::from_millis(100).into(), ..first });
    assert_eq!(arrival(link.transmit(ms(3), 1472)), Some(ms(115)));
    // The new recording starts at 4. Its opportunity at 15 comes too late for the packets that wait
    // until 15.
    link.set_model(
        ms(4),
        LinkModel { delay: Span::from_millis(100).into(), ..recorded("1\n11\n12\n") },
    );
    assert_eq!(arrival(link.transmit(ms(4), 1472)), Some(ms(116)));
    link.set_model(ms(5), model("rate = \"1 Mbit/s\"\ndelay = \"100ms\""));
    assert_eq!(arrival(link.transmit(ms(5), 1472)), Some(ms(128)));
}

/// The loop of mahimahi's `LinkQueue::rationalize` and `DropTailPacketQueue`, with 1500 bytes.
struct LinkQueue {
    schedule: Vec<u64>,
    next: usize,
    base: u64,
    queue: VecDeque<(usize, u64)>,
    in_transit: Option<(usize, u64)>,
    departures: Vec<Option<u64>>,
    packet_limit: usize,
}

impl LinkQueue {
    fn rationalize(&mut self, now: u64) {
        while self.base + self.schedule[self.next] <= now {
            let this_time = self.base + self.schedule[self.next];
            self.next = (self.next + 1) % self.schedule.len();
            if self.next == 0 {
                self.base += self.schedule.last().unwrap();
            }
            let mut bytes_left = 1500;
            while bytes_left > 0 {
                let Some((id, size)) = self.in_transit.take().or_else(|| self.queue.pop_front())
                else {
                    break;
                };
                let sent = bytes_left.min(size);
                bytes_left -= sent;
                match size - sent {
                    0 => self.departures[id] = Some(this_time),
                    rest => self.in_transit = Some((id, rest)),
                }
            }
        }
    }

    fn read_packet(&mut self, now: u64, size: u64) {
        self.rationalize(now);
        if self.queue.len() < self.packet_limit {
            self.queue.push_back((self.departures.len(), size));
        }
        self.departures.push(None);
    }
}

proptest! {
    #[test]
    fn opportunities_are_used_as_in_mahimahi(
        gaps in prop::collection::vec(0u64..20, 1..30),
        packets in prop::collection::vec((0u64..25, 0u64..1473), 1..200),
        packet_limit in 1u32..20,
    ) {
        let schedule: Vec<_> = gaps
            .iter()
            .scan(0, |time, gap| { *time += gap; Some(*time) })
            .chain([gaps.iter().sum::<u64>() + 1])
            .collect();
        let file: String = schedule.iter().map(|time| format!("{time}\n")).collect();
        let mut oracle = LinkQueue {
            schedule,
            next: 0,
            base: 0,
            queue: VecDeque::new(),
            in_transit: None,
            departures: Vec::new(),
            packet_limit: packet_limit as usize,
        };
        let limit = QueueLimit::Packets(packet_limit);
        let mut link = SimulatedLink::new(LinkModel { queue: limit, ..recorded(&file) }, rng(1));

        let (mut now, mut arrivals) = (0, Vec::new());
        for (gap, bytes) in packets {
            now += gap;
            oracle.read_packet(now, bytes + HEADERS);
            arrivals.push(arrival(link.transmit(ms(now), bytes as usize)));
        }
        oracle.rationalize(now + 1_000_000);
        let departures: Vec<_> = oracle.departures.iter().map(|time| time.map(ms)).collect();
        prop_assert_eq!(arrivals, departures);
    }

    #[test]
    fn any_file_is_read_or_refused(text in "([0-9]{0,3}(,[0-9.]{0,3}){0,3}\r?\n){0,5}|\\PC{0,20}") {
        let _ = (text.parse::<Opportunities>(), text.parse::<RateSeries>());
    }
}

#[test]
fn malformed_recordings_are_refused_with_the_line() {
    let refused = |text: &str| text.parse::<Opportunities>().unwrap_err().to_string();
    assert_eq!(refused(""), "the recording is empty");
    assert_eq!(refused("1\n2\nx3\n"), "line 3: `x3` is not a whole number of milliseconds");
    assert_eq!(refused("1\n\n2\n"), "line 2: `` is not a whole number of milliseconds");
    assert_eq!(refused("1\n-2"), "line 2: `-2` is not a whole number of milliseconds");
    assert_eq!(refused("1\n1.5"), "line 2: `1.5` is not a whole number of milliseconds");
    assert_eq!(refused("4294967296"), "line 1: `4294967296` is not a whole number of milliseconds");
    assert_eq!(refused("1\r\n5\r\n4\r\n"), "line 3: the time is before that of the line above");
    assert_eq!(refused("0\n0\n"), "line 2: the last time is the period and cannot be 0");
    assert!(refused(&"y".repeat(1000)).len() < 100);
    assert!("0\n5\n5".parse::<Opportunities>().is_ok());

    let refused = |text: &str| text.parse::<RateSeries>().unwrap_err().to_string();
    assert_eq!(refused(""), "the recording is empty");
    assert_eq!(refused("time_ms,delay_ms,loss\n"), "the recording is empty");
    for line in ["5,1", "5,1,0,0", "5,1,1.5", "5,-1,0", "x,1,0", "5,,0", "5,1s,0", ""] {
        let expected =
            format!("line 3: `{line}` is not time_ms,delay_ms,loss, such as 1500,42.5,0.01");
        assert_eq!(refused(&format!("time_ms,delay_ms,loss\n0,1,0\n{line}\n")), expected);
    }
    assert_eq!(refused("0,1,0\n0,1,0"), "line 2: the time is not after that of the line above");
}

#[test]
fn a_series_adds_to_delay_and_loss_until_its_next_line() {
    let series: RateSeries =
        "time_ms,delay_ms,loss\n0, 20.5, 0\n100,5,100 %\n200.5,1,0\n".parse().unwrap();
    let mut model = model("delay = \"10ms\"");
    model.series = Some(series.into());
    let mut link = SimulatedLink::new(model.clone(), rng(1));
    let mut send = |now| arrival(link.transmit(now, 1));
    assert_eq!(send(ms(0)), Some(us(30_500)));
    assert_eq!(send(ms(99)), Some(us(129_500)));
    assert_eq!(send(ms(100)), None);
    assert_eq!(send(ms(200)), None);
    // The packet stays in order behind the lost one, which took 15 ms.
    assert_eq!(send(us(200_500)), Some(ms(215)));
    assert_eq!(send(ms(205)), Some(ms(216)));
    assert_eq!(send(ms(90_000)), Some(ms(90_011)));

    // A recording that is turned on later starts at that moment. It continues if something else
    // changes.
    let mut link = SimulatedLink::new(LinkModel::default(), rng(1));
    link.set_model(ms(1000), model.clone());
    assert_eq!(arrival(link.transmit(ms(1050), 1)), Some(us(1_080_500)));
    link.set_model(ms(1090), LinkModel { delay: Delay::default(), ..model });
    assert_eq!(arrival(link.transmit(ms(1100), 1)), None);
    assert_eq!(link.statistics().lost_on_link.packets, 1);

    let late: RateSeries = "50,7,0".parse().unwrap();
    assert_eq!(late.at(Duration::ZERO).delay, Span::from_millis(7));
}

#[test]
fn recordings_are_loaded_relative_to_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("lte.up", "4\n8\n");
    file("hotel.csv", "0,3,0\n");
    file("bad.up", "4\n3\n");
    file("huge.up", &"1\n".repeat((8 << 20) + 1));

    let text = "opportunities = \"lte.up\"\nseries = \"hotel.csv\"";
    let mut loaded = model(text);
    loaded.load(folder.path()).unwrap();
    loaded.load(folder.path()).unwrap();
    assert_eq!(toml::to_string(&loaded).unwrap(), toml::to_string(&model(text)).unwrap());
    let mut link = SimulatedLink::new(loaded, rng(1));
    assert_eq!(arrival(link.transmit(ms(0), 1)), Some(ms(7)));

    let refused = |text: &str| model(text).load(folder.path()).unwrap_err().to_string();
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(
        refused("opportunities = \"bad.up\""),
        format!("{}: line 2: the time is before that of the line above", path("bad.up"))
    );
    let missing = refused("series = \"none.csv\"");
    assert!(missing.starts_with(&format!("cannot read {}: ", path("none.csv"))), "{missing}");
    assert!(refused("opportunities = \"huge.up\"").ends_with("larger than 16 MiB"));
    assert_eq!(
        refused("opportunities = \"lte.up\"\nrate = \"1 Mbit/s\""),
        "the link's rate is recorded in lte.up: leave out rate, or opportunities"
    );
}

#[test]
#[should_panic(expected = "recordings are loaded before a link uses them")]
fn a_recording_that_is_not_loaded_is_our_own_mistake() {
    link("opportunities = \"lte.up\"");
}
