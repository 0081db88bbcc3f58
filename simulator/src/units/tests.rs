use proptest::prelude::*;

use super::*;

#[test]
fn quantities_are_read_exactly() {
    let nanos = |text: &str| text.parse::<Span>().unwrap().as_nanos();
    assert_eq!(nanos("150ms"), 150_000_000);
    assert_eq!(nanos(" 1.5 s "), 1_500_000_000);
    assert_eq!(nanos("250us"), 250_000);
    assert_eq!(nanos("2m"), 120_000_000_000);
    assert_eq!(nanos("0.000000001s"), 1);
    assert_eq!(nanos("18446744073709551615ns"), u64::MAX);

    let bits = |text: &str| text.parse::<BitRate>().unwrap().as_bits_per_second();
    assert_eq!(bits("2 Mbit/s"), 2_000_000);
    assert_eq!(bits("256kbit/s"), 256_000);
    assert_eq!(bits("0.5 Gbit/s"), 500_000_000);

    let bytes = |text: &str| text.parse::<Size>().unwrap().as_bytes();
    assert_eq!(bytes("64 kB"), 64_000);
    assert_eq!(bytes("1500 B"), 1500);
    assert_eq!(bytes("1.5 MiB"), 3 << 19);

    let share = |text: &str| text.parse::<Share>().unwrap().as_f64();
    assert_eq!(share("0.1"), 0.1);
    assert_eq!(share("10 %"), 0.1);
    assert_eq!(share("0.25%"), 0.0025);
    assert_eq!(share("1"), 1.0);
}

#[test]
fn quantities_are_written_with_the_largest_unit_that_leaves_them_whole() {
    let written = |text: &str| text.parse::<Span>().unwrap().to_string();
    assert_eq!(written("1500ms"), "1500ms");
    assert_eq!(written("60s"), "1m");
    assert_eq!(written("0s"), "0ns");
    assert_eq!("2000 kbit/s".parse::<BitRate>().unwrap().to_string(), "2 Mbit/s");
    assert_eq!("65536 B".parse::<Size>().unwrap().to_string(), "64 KiB");
}

#[test]
fn errors_say_what_to_write() {
    let span = |text: &str| text.parse::<Span>().unwrap_err().to_string();
    assert_eq!(span("10"), "`10` has no unit: write 10ms or 10s");
    assert_eq!(span("10 sec"), "`sec` is not a unit of duration: write 10s");
    assert_eq!(span("3MS"), "`MS` is not a unit of duration: write 3ms");
    assert_eq!(span("10 kB"), "`kB` is not a unit of duration: the units are ns, us, ms, s, m, h");
    assert_eq!(span("-5ms"), "`-5ms` is not a duration: write a number and a unit, such as 10ms");
    assert_eq!(span("1..5s").find("is not a duration"), Some(8));
    assert_eq!(span("0.5ns"), "`0.5ns` is finer than 1ns");
    assert_eq!(
        span("18446744073709551616ns"),
        "`18446744073709551616ns` is too large for a duration"
    );
    assert!(span(&format!("{}s", "9".repeat(60))).contains("too large"));

    let rate = |text: &str| text.parse::<BitRate>().unwrap_err().to_string();
    assert_eq!(rate("2"), "`2` has no unit: write 2 kbit/s or 2 Mbit/s");
    assert_eq!(rate("2 Mbps"), "`Mbps` is not a unit of rate: write 2 Mbit/s");
    assert_eq!(
        rate("0 kbit/s"),
        "`0 kbit/s` would never send anything: for a dead link write loss = 1"
    );
    let size = |text: &str| text.parse::<Size>().unwrap_err().to_string();
    assert_eq!(size("64 KB"), "`KB` is not a unit of size: write 64 kB");

    let share = |text: &str| text.parse::<Share>().unwrap_err().to_string();
    assert_eq!(share("10"), "`10` is more than 1: write 0.1 or \"10 %\"");
    assert_eq!(share("101 %"), "`101 %` is not a share: write 0.1 or \"10 %\"");
    assert_eq!(share("-0.1"), "`-0.1` is not a share: write 0.1 or \"10 %\"");
    assert_eq!(share("NaN"), "`NaN` is not a share: write 0.1 or \"10 %\"");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct File {
    span: Span,
    rate: BitRate,
    size: Size,
    shares: Vec<Share>,
}

#[test]
fn files_hold_texts_and_shares_as_numbers() {
    let text = r#"
span = "1.5s"
rate = "2 Mbit/s"
size = "64 kB"
shares = [0.1, 1, "10 %"]
"#;
    let file: File = toml::from_str(text).unwrap();
    assert_eq!(file.span, Span::from_millis(1500));
    assert_eq!(file.shares, [0.1, 1.0, 0.1].map(|share| Share::new(share).unwrap()));
    let written = toml::to_string(&file).unwrap();
    assert!(
        written.contains("span = \"1500ms\"\nrate = \"2 Mbit/s\"\nsize = \"64 kB\""),
        "{written}"
    );
    assert!(written.contains("0.1"), "{written}");
    assert_eq!(toml::from_str::<File>(&written).unwrap(), file);

    let error = toml::from_str::<File>(&text.replace("\"1.5s\"", "10")).unwrap_err();
    assert_eq!(error.message(), "`10` has no unit: write 10ms or 10s");
    assert_eq!(error.span(), Some(8..10));
}

#[test]
fn a_rate_rounds_up_what_it_takes() {
    let rate = |text: &str| text.parse::<BitRate>().unwrap();
    assert_eq!(rate("1 Mbit/s").time_for(1500), Duration::from_millis(12));
    assert_eq!(rate("3 Gbit/s").time_for(1), Duration::from_nanos(3));
    assert_eq!(rate("1 bit/s").time_for(u64::MAX), Duration::from_nanos(u64::MAX));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in any::<u64>(), share in 0.0..=1.0) {
        for value in [value, value >> 32, value / 1_000_000_000 * 1_000_000_000] {
            let (span, size) = (Span(value), Size(value));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            if let Some(bits) = NonZeroU64::new(value) {
                prop_assert_eq!(BitRate(bits).to_string().parse(), Ok(BitRate(bits)));
            }
        }
        let share = Share(share);
        prop_assert_eq!(share.to_string().parse(), Ok(share));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,12}|[0-9.]{0,30} ?[a-zA-Z/%]{0,4}") {
        if let Ok(span) = text.parse::<Span>() {
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
        let _ = (text.parse::<BitRate>(), text.parse::<Size>(), text.parse::<Share>());
    }
}
