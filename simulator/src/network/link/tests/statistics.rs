//! Compares what happens to a million packets with what the model asked for, within three standard
//! errors.

use std::f64::consts::SQRT_2;

use super::*;

const PACKETS: u64 = 1_000_000;
const N: f64 = PACKETS as f64;

#[track_caller]
fn assert_close(what: &str, measured: f64, asked: f64, standard_error: f64) {
    let errors = (measured - asked) / standard_error;
    assert!(
        errors.abs() <= 3.0,
        "{what}: measured {measured}, asked {asked}, {errors:.2} standard errors"
    );
}

/// Checks the share of successes among independent trials (binomial).
#[track_caller]
fn assert_share(what: &str, count: u64, trials: f64, asked: f64) {
    let standard_error = (asked * (1.0 - asked) / trials).sqrt();
    assert_close(what, count as f64 / trials, asked, standard_error);
}

/// Which packets of a million are lost.
fn losses(toml: &str, seed: u64) -> Vec<bool> {
    let mut link = SimulatedLink::new(model(toml), rng(seed));
    (0..PACKETS).map(|_| matches!(link.transmit(ms(0), 100), Fate::Lost(_))).collect()
}

fn bursts(losses: &[bool]) -> Vec<f64> {
    losses.split(|lost| !lost).map(|burst| burst.len() as f64).filter(|&len| len > 0.0).collect()
}

#[test]
fn bernoulli_loss() {
    for (seed, share) in [(11, 0.001), (12, 0.1), (13, 0.5)] {
        let losses = losses(&format!("loss = {share}"), seed);
        let lost = losses.iter().filter(|&&lost| lost).count() as u64;
        assert_share("loss", lost, N, share);
        // Losses are independent: after a loss the next is as likely as ever, and bursts are
        // geometric.
        let again = losses.windows(2).filter(|pair| pair[0] && pair[1]).count() as u64;
        assert_share("loss after loss", again, lost as f64, share);
    }
}

#[test]
fn gilbert_loss_and_bursts() {
    for (seed, enter, leave) in [(21, 0.01, 0.3), (22, 0.002, 0.05), (23, 0.2, 0.9)] {
        let losses =
            losses(&format!("loss = {{ enter_bad = {enter}, leave_bad = {leave} }}"), seed);
        check_stationary_loss(&losses, enter, leave, 1.0, 0.0);
        // A burst is a stay in the bad state: geometric, with mean 1/r and variance (1 - r)/r^2.
        let bursts = bursts(&losses);
        let count = bursts.len() as f64;
        let mean = bursts.iter().sum::<f64>() / count;
        assert_close("burst", mean, 1.0 / leave, ((1.0 - leave) / count).sqrt() / leave);
        for longer_than in [1, 3] {
            let long = bursts.iter().filter(|&&len| len > longer_than.into()).count() as u64;
            assert_share("long bursts", long, count, (1.0 - leave).powi(longer_than));
        }
    }
}

#[test]
fn gilbert_elliott_loss() {
    for (seed, enter, leave, in_bad, in_good) in
        [(31, 0.01, 0.1, 0.7, 0.01), (32, 0.3, 0.4, 0.5, 0.1), (33, 0.8, 0.9, 1.0, 0.2)]
    {
        let losses = losses(
            &format!(
                "loss = {{ enter_bad = {enter}, leave_bad = {leave}, \
                 loss_in_bad = {in_bad}, loss_in_good = {in_good} }}"
            ),
            seed,
        );
        check_stationary_loss(&losses, enter, leave, in_bad, in_good);
    }
}

/// In the long run the state is bad for a share b = p/(p + r) of packets. Losses k packets apart
/// have the covariance b (1 - b) (in_bad - in_good)^2 (1 - p - r)^k. The variance of the mean of n
/// packets is that of one, plus twice the sum of these covariances, over n.
fn check_stationary_loss(losses: &[bool], enter: f64, leave: f64, in_bad: f64, in_good: f64) {
    let bad = enter / (enter + leave);
    let asked = bad * in_bad + (1.0 - bad) * in_good;
    let memory = 1.0 - enter - leave;
    let covariance = bad * (1.0 - bad) * (in_bad - in_good).powi(2);
    let variance = asked * (1.0 - asked) + 2.0 * covariance * memory / (1.0 - memory);
    let measured = losses.iter().filter(|&&lost| lost).count() as f64 / N;
    assert_close("loss", measured, asked, (variance / N).sqrt());

    // As many bursts end as begin. A burst ends where a lost packet is followed by one that is not
    // lost. The standard error of the ratio comes from batches, which are longer than the memory of
    // the state.
    let ends = |batch: &[bool]| batch.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
    let batches: Vec<_> = losses
        .chunks(1000)
        .map(|batch| (batch.iter().take(999).filter(|&&lost| lost).count() as f64, ends(batch)))
        .collect();
    let (lost, ended) = batches.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let mean = lost / ended;
    let spread: f64 = batches.iter().map(|(lost, ended)| (lost - mean * ended).powi(2)).sum();
    let expected = asked / (asked - asked * asked - covariance * memory);
    assert_close("mean burst", mean, expected, spread.sqrt() / ended);
}

/// Draws a million delays and compares their quantiles with those of a distribution function, which
/// is inverted by bisection. Its slope there is the density, and the standard error of a sample
/// quantile is sqrt(p (1 - p) / n) / density. `cdf` takes milliseconds.
fn check_quantiles(toml: &str, seed: u64, cdf: impl Fn(f64) -> f64) {
    let mut link = SimulatedLink::new(model(toml), rng(seed));
    let mut delays: Vec<Duration> = (0..PACKETS)
        .map(|i| {
            // The packets are so far apart that none waits for the one before it.
            let now = Timestamp::from_millis(i * 1_000_000);
            arrival(link.transmit(now, 100)).unwrap().saturating_duration_since(now)
        })
        .collect();
    for p in [0.1, 0.5, 0.9, 0.99] {
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if cdf(middle) < p { low = middle } else { high = middle }
        }
        let step = low * 1e-5;
        let density = (cdf(low + step) - cdf(low - step)) / (2.0 * step);
        let (_, measured, _) = delays.select_nth_unstable((p * N) as usize);
        let standard_error = (p * (1.0 - p) / N).sqrt() / density;
        let what = format!("{toml}, quantile {p}");
        assert_close(&what, measured.as_secs_f64() * 1e3, low, standard_error);
    }
}

fn normal_cdf(x: f64) -> f64 {
    (1.0 + libm::erf(x / SQRT_2)) / 2.0
}

#[test]
fn fixed_delay() {
    let mut link = link("delay = \"12.5ms\"");
    assert!((0..1000).all(|i| arrival(link.transmit(ms(i), 1)) == Some(us(i * 1000 + 12_500))));
}

#[test]
fn uniform_delay() {
    let toml = "delay.uniform = { from = \"20ms\", to = \"60ms\" }";
    check_quantiles(toml, 41, |x| ((x - 20.0) / 40.0).clamp(0.0, 1.0));
}

#[test]
fn normal_delay() {
    for (seed, mean, deviation) in [(42, 40.0, 5.0), (43, 10.0, 20.0)] {
        let toml =
            format!("delay.normal = {{ mean = \"{mean}ms\", deviation = \"{deviation}ms\" }}");
        let below_zero = normal_cdf(-mean / deviation);
        let cdf = |x: f64| (normal_cdf((x - mean) / deviation) - below_zero) / (1.0 - below_zero);
        check_quantiles(&toml, seed, cdf);
    }
}

#[test]
fn gamma_delay() {
    // Shape 3 (Erlang), and shape 1/2 (half a squared normal number).
    let toml = "delay.gamma = { base = \"20ms\", shape = 3, scale = \"8ms\" }";
    check_quantiles(toml, 44, |x| {
        let x = (x - 20.0).max(0.0) / 8.0;
        1.0 - (-x).exp() * (1.0 + x + x * x / 2.0)
    });
    let toml = "delay.gamma = { shape = 0.5, scale = \"8ms\" }";
    check_quantiles(toml, 45, |x| libm::erf((x / 8.0).sqrt()));
}

#[test]
fn pareto_delay() {
    let toml = "delay.pareto = { base = \"30ms\", shape = 2.5, scale = \"5ms\" }";
    check_quantiles(toml, 46, |x| 1.0 - (5.0 / (x - 30.0).max(5.0)).powf(2.5));
}

#[test]
fn duplicates_corruption_and_reordering() {
    let mut link = SimulatedLink::new(
        model(
            "duplicate = 0.03\ncorrupt = 0.002\nreorder = { share = \"2 %\", by = \"30ms\" }\n\
             delay = \"10ms\"",
        ),
        rng(51),
    );
    let (mut duplicated, mut corrupted, mut held_back) = (0, 0, 0);
    for i in 0..PACKETS {
        let Fate::Delivered { packet, copy } = link.transmit(ms(i), 100) else {
            panic!("nothing is lost");
        };
        duplicated += u64::from(copy.is_some());
        corrupted += u64::from(packet.flipped_bit.is_some());
        held_back += u64::from(packet.at == ms(i + 40));
        assert!(packet.at == ms(i + 10) || packet.at == ms(i + 40));
    }
    assert_share("duplicates", duplicated, N, 0.03);
    assert_share("corruption", corrupted, N, 0.002);
    assert_share("reordering", held_back, N, 0.02);
    assert_eq!(link.statistics().duplicated.packets, duplicated);
}

#[test]
fn which_bit_is_flipped() {
    let mut link = SimulatedLink::new(model("corrupt = 1"), rng(52));
    let mut high = 0;
    for _ in 0..PACKETS {
        let delivery = link.transmit(ms(0), 100).deliveries().next().unwrap();
        high += u64::from(delivery.flipped_bit.unwrap() >= 600);
    }
    assert_share("the last quarter", high, N, 0.25);
}

/// Spikes begin like a Poisson process, so at a given moment one is on unless none began during the
/// length of a spike before it. Moments that are further apart than that are independent.
#[test]
fn time_in_spikes() {
    let mut link = SimulatedLink::new(
        model("spikes = { every = \"1s\", extra = \"100ms\", lasting = \"300ms\" }"),
        rng(61),
    );
    let mut raised = 0;
    for i in 1..=PACKETS {
        let at = arrival(link.transmit(ms(i * 700), 100)).unwrap();
        raised += u64::from(at == ms(i * 700 + 100));
    }
    assert_share("time in spikes", raised, N, 1.0 - (-0.3f64).exp());
}

/// The numbers come from this code's first run. Every processor, system and build must give the
/// same, since otherwise replays would differ between machines.
#[test]
fn delays_are_the_same_to_the_nanosecond_everywhere() {
    for (toml, sum) in [
        ("delay.uniform = { from = \"20ms\", to = \"60ms\" }", 398_955_517_805),
        ("delay.normal = { mean = \"40ms\", deviation = \"20ms\" }", 412_110_305_045),
        ("delay.gamma = { shape = 0.7, scale = \"8ms\" }", 56_760_320_059),
        ("delay.pareto = { shape = 2.5, scale = \"5ms\" }", 82_280_046_963),
    ] {
        let mut link = link(toml);
        let delays = (0..10_000).map(|i| {
            let now = ms(i * 1_000_000);
            arrival(link.transmit(now, 1)).unwrap().saturating_duration_since(now).as_nanos()
        });
        assert_eq!(delays.sum::<u128>(), sum, "{toml}");
    }
}
