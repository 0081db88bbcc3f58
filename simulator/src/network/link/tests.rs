use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod recordings;
mod statistics;

fn model(toml: &str) -> LinkModel {
    toml::from_str(toml).unwrap()
}

fn link(toml: &str) -> SimulatedLink {
    SimulatedLink::new(model(toml), rng(1))
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn ms(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn us(microseconds: u64) -> Timestamp {
    Timestamp::from_micros(microseconds)
}

/// When the packet arrives; `None` if it is lost.
fn arrival(fate: Fate) -> Option<Timestamp> {
    fate.deliveries().next().map(|delivery| delivery.at)
}

#[test]
fn a_default_link_does_nothing() {
    let mut link = SimulatedLink::new(LinkModel::default(), rng(1));
    for now in [0, 0, 7, 7, 1000] {
        let packet = Delivery { at: ms(now), flipped_bit: None };
        assert_eq!(link.transmit(ms(now), 1200), Fate::Delivered { packet, copy: None });
    }
    assert_eq!(link.statistics().offered, Tally { packets: 5, bytes: 6000 });
    assert_eq!(link.statistics().delivered, link.statistics().offered);
}

#[test]
fn a_rate_sends_packets_one_after_the_other() {
    let mut link = link("rate = \"1 Mbit/s\"\ndelay = \"40ms\"");
    // 1472 + 28 bytes take 12 ms, 97 + 28 bytes take 1 ms.
    assert_eq!(arrival(link.transmit(ms(0), 1472)), Some(ms(52)));
    assert_eq!(arrival(link.transmit(ms(0), 97)), Some(ms(53)));
    assert_eq!(arrival(link.transmit(ms(12), 97)), Some(ms(54)));
    assert_eq!(arrival(link.transmit(ms(20), 97)), Some(ms(61)));
    assert_eq!(arrival(link.transmit(us(20_500), 0)), Some(us(61_224)));
}

#[test]
fn a_full_queue_drops_at_the_tail() {
    // One packet of 1 ms is being sent, and `waiting` more may wait.
    for (limit, waiting) in [
        ("3 packets", 3),
        ("0 packets", 0),
        ("500 B", 4),
        ("499 B", 3),
        ("0 B", 0),
        ("3ms", 3),
        ("2ms", 2),
        ("0s", 0),
    ] {
        let mut link = link(&format!("rate = \"1 Mbit/s\"\nqueue = \"{limit}\""));
        for place in 1..=waiting + 1 {
            assert_eq!(arrival(link.transmit(ms(0), 97)), Some(ms(place)), "{limit}");
        }
        assert_eq!(link.transmit(ms(0), 97), Fate::Lost(LossCause::Queue), "{limit}");
        assert_eq!(link.transmit(us(999), 97), Fate::Lost(LossCause::Queue), "{limit}");
        // The first packet has left, so there is room for exactly one more.
        assert_eq!(arrival(link.transmit(ms(1), 97)), Some(ms(waiting + 2)), "{limit}");
        assert_eq!(link.transmit(ms(1), 97), Fate::Lost(LossCause::Queue), "{limit}");
        assert_eq!(link.statistics().lost_in_queue, Tally { packets: 3, bytes: 291 });
    }
}

#[test]
fn a_huge_queue_is_bufferbloat() {
    let mut link = link("rate = \"1 Mbit/s\"\nqueue = \"1 MB\"");
    let last = (0..667).map(|_| link.transmit(ms(0), 1472)).last();
    assert_eq!(arrival(last.unwrap()), Some(ms(667 * 12)));
    assert_eq!(link.transmit(ms(0), 1472), Fate::Lost(LossCause::Queue));
}

#[test]
fn a_lost_packet_has_used_its_place_in_the_queue() {
    let mut link = link("rate = \"1 Mbit/s\"\nloss = 1");
    assert_eq!(link.transmit(ms(0), 1472), Fate::Lost(LossCause::Link));
    link.set_model(ms(1), model("rate = \"1 Mbit/s\""));
    assert_eq!(arrival(link.transmit(ms(1), 97)), Some(ms(13)));
    assert_eq!(link.statistics().lost_on_link, Tally { packets: 1, bytes: 1472 });
}

#[test]
fn packets_longer_than_the_mtu_are_lost() {
    let mut link = link("mtu = 1280");
    assert_eq!(arrival(link.transmit(ms(0), 1252)), Some(ms(0)));
    assert_eq!(link.transmit(ms(0), 1253), Fate::Lost(LossCause::Mtu));
    assert_eq!(link.statistics().lost_to_mtu, Tally { packets: 1, bytes: 1253 });
}

#[test]
fn a_new_model_holds_from_now_on() {
    let mut link = link("rate = \"1 Mbit/s\"\ndelay = \"100ms\"");
    assert_eq!(arrival(link.transmit(ms(0), 1472)), Some(ms(112)));
    assert_eq!(arrival(link.transmit(ms(0), 1472)), Some(ms(124)));
    // The queue still empties at the old rate, and later packets do not overtake what waits in it.
    link.set_model(ms(6), model("rate = \"2 Mbit/s\"\ndelay = \"150ms\""));
    assert_eq!(arrival(link.transmit(ms(6), 1472)), Some(ms(180)));
    link.set_model(ms(40), model("delay = \"10ms\""));
    assert_eq!(arrival(link.transmit(ms(40), 1472)), Some(ms(180)));
    assert_eq!(arrival(link.transmit(ms(171), 1472)), Some(ms(181)));
    link.set_model(ms(200), model("loss = \"100 %\""));
    assert_eq!(link.transmit(ms(200), 1), Fate::Lost(LossCause::Link));
}

#[test]
fn a_link_without_a_rate_still_waits_for_what_was_queued() {
    let mut link = link("rate = \"1 Mbit/s\"");
    link.transmit(ms(0), 1472);
    link.set_model(ms(1), model("queue = \"1 packet\""));
    assert_eq!(arrival(link.transmit(ms(1), 1)), Some(ms(12)));
    assert_eq!(link.transmit(ms(2), 1), Fate::Lost(LossCause::Queue));
    assert_eq!(arrival(link.transmit(ms(12), 1)), Some(ms(12)));
}

#[test]
fn spikes_come_and_go_like_clockwork() {
    let mut link = link(
        "delay = \"10ms\"\n\
         spikes = { every = \"1s\", extra = \"200ms\", lasting = \"100ms\", spacing = \"fixed\" }",
    );
    for (now, at) in [
        (0, 10),
        (999, 1009),
        (1000, 1210),
        (1099, 1309),
        // The spike is over, but packets keep their order.
        (1100, 1309),
        (1298, 1309),
        (1300, 1310),
        (5050, 5260),
        (7_000_099, 7_000_309),
    ] {
        assert_eq!(arrival(link.transmit(ms(now), 1)), Some(ms(at)), "{now}");
    }
}

#[test]
fn held_back_packets_are_overtaken() {
    let mut link = link("delay = \"40ms\"\nreorder = { share = 1, by = \"30ms\" }");
    assert_eq!(arrival(link.transmit(ms(0), 1)), Some(ms(70)));
    let mut never = model("delay = \"40ms\"");
    never.reorder = Some(Reorder { share: Share::NONE, by: Span::from_millis(30) });
    link.set_model(ms(1), never);
    assert_eq!(arrival(link.transmit(ms(1), 1)), Some(ms(41)));
}

#[test]
fn one_bit_of_the_payload_is_flipped() {
    let mut link = link("corrupt = 1\nduplicate = 1");
    let mut seen = [0; 24];
    for _ in 0..1000 {
        for delivery in link.transmit(ms(0), 3).deliveries() {
            let mut payload = [0; 3];
            delivery.corrupt(&mut payload);
            let changed: u32 = payload.iter().map(|byte: &u8| byte.count_ones()).sum();
            assert_eq!(changed, 1);
            seen[delivery.flipped_bit.unwrap()] += 1;
        }
    }
    assert_eq!(seen.iter().sum::<u32>(), 2000);
    assert!(seen.iter().all(|&count| count > 40), "{seen:?}");
    assert_eq!(link.statistics().corrupted.packets, 2000);
    let empty = link.transmit(ms(0), 0);
    assert!(empty.deliveries().all(|delivery| delivery.flipped_bit.is_none()));
}

/// A change to one kind of fault leaves the others happening to the same packets.
#[test]
fn each_kind_of_chance_has_its_own_stream() {
    let arrivals = |extra: &str| -> Vec<_> {
        let text = format!("delay.uniform = {{ from = \"10ms\", to = \"90ms\" }}\n{extra}");
        let mut link = link(&text);
        (0..1000).map(|i| arrival(link.transmit(ms(i * 5), 100))).collect()
    };
    let plain = arrivals("");
    for extra in ["corrupt = 0.5", "duplicate = 0.5"] {
        assert_eq!(arrivals(extra), plain, "{extra}");
    }
    let lossy = arrivals("loss = { enter_bad = 0.1, leave_bad = 0.3 }");
    let kept = lossy.iter().zip(&plain).filter(|(lossy, _)| lossy.is_some());
    assert!(kept.clone().count() < 900);
    assert!(kept.into_iter().all(|(lossy, plain)| lossy == plain));
}

#[test]
fn models_are_read_from_toml() {
    let text = r#"
        loss = { enter_bad = 0.01, leave_bad = "30 %", loss_in_good = 0.001 }
        delay = { gamma = { base = "20ms", shape = 2, scale = "5ms" } }
        spikes = { every = "5s", extra = "200ms", lasting = "1s" }
        reorder = { share = 0.02, by = "30ms" }
        duplicate = "1 %"
        corrupt = 0.001
        rate = "2 Mbit/s"
        queue = "200ms"
        mtu = 1400
        series = "hotel.csv"
    "#;
    let read = model(text);
    let share = |value| Share::new(value).unwrap();
    let chain = GilbertElliott {
        enter_bad: share(0.01),
        leave_bad: share(0.3),
        loss_in_bad: Share::ALL,
        loss_in_good: share(0.001),
    };
    assert_eq!(read.loss, Loss::GilbertElliott(chain));
    let (base, scale) = (Span::from_millis(20), Span::from_millis(5));
    let gamma = Distribution::Gamma { base, shape: Shape::new(2.0).unwrap(), scale };
    assert_eq!(read.delay, Delay::Drawn(gamma));
    assert_eq!(read.queue, QueueLimit::Time(Span::from_millis(200)));
    assert_eq!(read.series.as_ref().unwrap().path(), Path::new("hotel.csv"));
    assert_eq!(read.spikes.unwrap().spacing, Spacing::Exponential);
    assert_eq!(model(&toml::to_string(&read).unwrap()), read);

    assert_eq!(model("loss = 0.1"), model("loss = \"10 %\""));
    assert_eq!(model(""), LinkModel::default());
    let default = toml::to_string(&LinkModel::default()).unwrap();
    assert_eq!(model(&default), LinkModel::default());
}

#[test]
fn a_wrong_model_says_where_and_why() {
    for (text, message, at) in [
        ("loss = 10", "`10` is more than 1: write 0.1 or \"10 %\"", "10"),
        ("delay = 40", "`40` has no unit: write 40ms or 40s", "40"),
        (
            "delay = { normal = { mean = \"4\", deviation = \"1ms\" } }",
            "`4` has no unit: write 4ms or 4s",
            "\"4\"",
        ),
        (
            "delay = { gama = { shape = 2 } }",
            "unknown field `gama`, expected one of `uniform`, `normal`, `gamma`, `pareto`",
            "gama",
        ),
        (
            "delay = { pareto = { shape = 0, scale = \"1ms\" } }",
            "`0` is not a shape: it must be above 0",
            "0",
        ),
        (
            "delay = { uniform = { from = \"2ms\", to = \"1ms\" } }",
            "no delay lies from 2ms to 1ms: swap the two",
            "{ uniform = { from = \"2ms\", to = \"1ms\" } }",
        ),
        (
            "delay = {}",
            "a delay has one distribution: write uniform, normal, gamma or pareto",
            "{}",
        ),
        ("loss = { enter_bad = 0.1 }", "missing field `leave_bad`", "{ enter_bad = 0.1 }"),
        (
            "queue = \"many\"",
            "`many` is not a queue: write \"64 kB\", \"200ms\" or \"50 packets\"",
            "\"many\"",
        ),
        ("queue = \"64 KB\"", "`KB` is not a unit of size: write 64 kB", "\"64 KB\""),
        ("queue = \"2 sec\"", "`sec` is not a unit of duration: write 2s", "\"2 sec\""),
    ] {
        let error = toml::from_str::<LinkModel>(text).unwrap_err();
        assert_eq!(error.message(), message, "{text}");
        assert_eq!(&text[error.span().unwrap()], at, "{text}");
    }
    let two = "delay.normal = { mean = \"4ms\", deviation = \"1ms\" }\n\
               delay.uniform = { from = \"4ms\", to = \"5ms\" }";
    let error = toml::from_str::<LinkModel>(two).unwrap_err();
    assert!(error.message().starts_with("a delay has one distribution"), "{error}");
    assert!(toml::from_str::<LinkModel>("los = 0.1").unwrap_err().message().contains("`los`"));
}

fn any_model() -> impl Strategy<Value = LinkModel> {
    let line = |lines: &'static [&'static str]| prop::sample::select(lines);
    (
        line(&["", "loss = 0.2", "loss = { enter_bad = 0.1, leave_bad = 0.2 }"]),
        line(&[
            "delay = \"40ms\"",
            "delay.uniform = { from = \"0s\", to = \"1s\" }",
            "delay.normal = { mean = \"40ms\", deviation = \"40ms\" }",
            "delay.gamma = { shape = 0.3, scale = \"100ms\" }",
            "delay.pareto = { shape = 0.01, scale = \"1ms\" }",
        ]),
        line(&["", "rate = \"1 Mbit/s\"", "rate = \"20 kbit/s\"\nqueue = \"2s\""]),
        line(&["", "spikes = { every = \"100ms\", extra = \"300ms\", lasting = \"50ms\" }"]),
        line(&["", "duplicate = 0.3\ncorrupt = 0.3\nmtu = 1000"]),
    )
        .prop_map(|(loss, delay, rate, spikes, other)| {
            model(&[loss, delay, rate, spikes, other].join("\n"))
        })
}

proptest! {
    #[test]
    fn order_is_kept_whatever_the_model(
        models in prop::collection::vec(any_model(), 1..4),
        packets in prop::collection::vec((0u64..30_000, 0usize..1400), 1..200),
        seed: u64,
    ) {
        let mut link = SimulatedLink::new(models[0].clone(), rng(seed));
        let mut replay = SimulatedLink::new(models[0].clone(), rng(seed));
        let (mut now, mut last) = (0, Timestamp::ZERO);
        for (i, (gap, bytes)) in packets.into_iter().enumerate() {
            now += gap;
            if i % 50 == 49 {
                let next = &models[i / 50 % models.len()];
                link.set_model(us(now), next.clone());
                replay.set_model(us(now), next.clone());
            }
            let fate = link.transmit(us(now), bytes);
            prop_assert_eq!(replay.transmit(us(now), bytes), fate);
            if let Fate::Delivered { packet, copy } = fate {
                prop_assert!(packet.at >= last.max(us(now)));
                prop_assert!(copy.is_none_or(|copy| copy.at >= packet.at));
                last = packet.at;
            }
        }
        let LinkStatistics { offered, delivered, lost_to_mtu, lost_in_queue, lost_on_link, .. } =
            *link.statistics();
        let all = [delivered, lost_to_mtu, lost_in_queue, lost_on_link];
        prop_assert_eq!(offered.packets, all.iter().map(|tally| tally.packets).sum::<u64>());
        prop_assert_eq!(offered.bytes, all.iter().map(|tally| tally.bytes).sum::<u64>());
    }
}
