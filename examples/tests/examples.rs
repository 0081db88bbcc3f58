//! The examples do what they promise.

use std::process::Command;

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_kicked_member_opens_nothing_that_is_said_later() {
    let said = said(env!("CARGO_BIN_EXE_kick"), &[]);
    let lines: Vec<_> = said.lines().collect();
    let hears = |line: &str, name: &str| line.contains(&format!("\"{name}\": \"hears"));
    assert!(hears(lines[0], "Heron") && hears(lines[0], "Merlin"), "{said}");
    let last = lines.last().expect("a line");
    assert!(hears(last, "Heron") && !hears(last, "Merlin"), "{said}");
    assert!(last.contains("could not open it"), "{said}");
}

#[test]
fn speech_survives_a_fifth_of_its_packets() {
    let said = said(env!("CARGO_BIN_EXE_mouth-to-ear"), &["20"]);
    let number = |what: &str| -> f64 {
        let line = said.lines().find(|line| line.contains(what)).expect("a line");
        let mut words = line.split_whitespace();
        words.find_map(|word| word.parse().ok()).expect("a number")
    };
    assert!(number("were lost") > 100.0, "{said}");
    assert!(number("were missing") < 50.0, "{said}");
    let lag = number("is heard");
    assert!((25.0..150.0).contains(&lag), "{said}");
}
