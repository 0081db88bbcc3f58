use super::*;
use crate::record::{EventRecord, ExpectationRecord, LinkRecord, MemberMeasures, NatRecord};

#[test]
fn every_expectation_appears_with_what_was_measured() {
    let record = sample::squad_of_five();
    let page = page(&record);
    let mut from = page.find("<h2>Expectations</h2>").unwrap();
    for expectation in record.failures_first() {
        let text = format!("<span>{}</span>", Escaped(&expectation.text));
        let at = page[from..].find(&text).expect("missing or out of order");
        let measured = format!("<b>{}</b>", Escaped(&expectation.measured));
        assert!(page[from + at + text.len()..].starts_with(&measured));
        from += at;
    }
    assert!(page.contains("✗ 1 of 6 expectations not met"));
    assert!(page.contains(&record.replay));
}

#[test]
fn a_run_without_failures_says_so() {
    let mut record = sample::squad_of_five();
    record.expectations.retain(|expectation| expectation.holds);
    let page = page(&record);
    assert!(page.contains("<p class=\"verdict good\">✓ All 5 expectations are met</p>"));
    assert!(page.contains("<title>✓ bad_uplink_then_crash, seed 41</title>"));
}

/// Every text that a scenario can choose contains characters that would break out of a tag or an
/// attribute.
#[test]
fn hostile_texts_stay_texts() {
    let evil = || "<script>alert('1')</script>\"&".to_owned();
    let causes = || [(evil(), 1)].into();
    let span = crate::record::Interval { start_s: 0.0, end_s: 1.0 };
    let record = RunRecord {
        scenario: evil(),
        purpose: evil(),
        duration_s: 1.0,
        replay: evil(),
        trace_digest: evil(),
        expectations: vec![ExpectationRecord { text: evil(), measured: evil(), holds: false }],
        members: vec![MemberMeasures {
            name: evil(),
            addresses: vec![evil()],
            speaking: vec![span],
            sound: Some(evil()),
            ..Default::default()
        }],
        ears: vec![EarRecord {
            talker: evil(),
            listener: evil(),
            path: evil(),
            frames_concealed: 1,
            ..Default::default()
        }],
        links: vec![LinkRecord { name: evil(), lost: causes(), ..Default::default() }],
        nats: vec![NatRecord {
            name: evil(),
            external_address: evil(),
            mapping: evil(),
            filtering: evil(),
            dropped: causes(),
            ..Default::default()
        }],
        events: vec![EventRecord {
            member: Some(evil()),
            kind: evil(),
            text: evil(),
            fault: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    let page = page(&record);
    assert_eq!(page.matches("<script>").count(), 1, "only the page's own");
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains("alert('1')"));
    let escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;";
    assert_eq!(Escaped(&evil()).to_string(), escaped);
    assert!(page.matches(escaped).count() > 20);
    assert!(page.contains("src=\"./%3Cscript%3Ealert%28%271%27%29%3C/script%3E%22%26\""));
}

#[test]
fn nothing_is_fetched() {
    let page = page(&sample::squad_of_five());
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for fetching in ["http:", "https:", "//cdn", "@import", "<link", "<img", "<iframe", "import("] {
        assert!(!page.contains(fetching), "{fetching}");
    }
    assert_eq!(page.matches(" src=").count(), page.matches(" src=\"./sound/").count());
    assert_eq!(page.matches(" src=").count(), 2);
}

#[test]
fn a_page_of_32_members_for_a_minute_stays_small() {
    let page = page(&sample::crowd(32, 60.0));
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    // All pairs have a row in the table; only the worst are drawn.
    assert_eq!(page.matches("<tr><td><span class=\"who").count(), 32 * 31 + 32);
    assert_eq!(page.matches("class=\"pair\"").count(), 12);
    assert!(page.contains("The worst 12 of 992 pairs to which something happened"));
    assert!(page.contains("23 better ones left out"));
}

#[test]
fn what_is_too_much_is_counted() {
    let event = |at: usize| EventRecord {
        at_s: at as f64,
        kind: "note".to_owned(),
        text: format!("event {at}."),
        fault: at == 699,
        ..Default::default()
    };
    let record = RunRecord {
        duration_s: 700.0,
        events: (0..700).map(event).collect(),
        ..Default::default()
    };
    let page = page(&record);
    assert!(page.contains("<p class=\"note\">200 more are left out here.</p>"));
    assert!(page.contains("event 498.") && !page.contains("event 499."));
    assert!(page.contains("<tr class=fault><td>699.000 s"), "faults are always shown");
}

#[test]
fn an_empty_record_makes_a_page() {
    let page = page(&RunRecord::default());
    assert!(page.contains("Nothing was expected"));
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn the_same_record_makes_the_same_page() {
    assert_eq!(page(&sample::squad_of_five()), page(&sample::squad_of_five()));
}

/// A drawn gap is speech that was sent while the two were connected and that was not played.
#[test]
fn a_gap_and_its_cause_are_told_apart() {
    let mut record = sample::squad_of_five();
    record.events.clear();
    let paths = |record: &RunRecord, class: &str| {
        page(record).matches(&format!("<path class=\"{class}\" d=\"M")).count()
    };
    // Osprey misses 0.7 s of Wren; the others hear everything that is due while they are connected.
    assert_eq!(paths(&record, "gap"), 1);
    for ear in &mut record.ears {
        ear.heard.clear();
        ear.delay_ms = None;
    }
    assert_eq!(paths(&record, "gap"), 20);
    for ear in &mut record.ears {
        ear.connected.clear();
    }
    assert_eq!((paths(&record, "gap"), paths(&record, "apart")), (0, 20));
}
