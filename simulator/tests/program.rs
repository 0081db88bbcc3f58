//! The program `hark-sim` as people run it. A process can run only one simulation, so every test
//! starts several.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const STORY: &str = r#"
purpose = "Two meet over a line that loses packets, and one of them is killed."
duration = "4s"
link.both = { delay.normal = { mean = "20ms", deviation = "4ms" }, loss = "5 %" }
[[members]]
name = "Kestrel"
says = [{ at = "1s", for = "3s", sound = "english" }]
[[members]]
name = "Wren"
[[faults]]
at = "2s"
crash = "Wren"
restart_after = "300ms"
[[expect]]
connected_within = "1s"
"#;

fn story(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("story.toml");
    fs::write(&path, text).expect("written");
    path
}

fn hark_sim(arguments: &[&str], folder: &Path) -> Output {
    let program = env!("CARGO_BIN_EXE_hark-sim");
    Command::new(program).args(arguments).current_dir(folder).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn trace(folder: &TempDir, seed: &str, environment: &str) -> Vec<u8> {
    let file = folder.path().join("trace");
    let output = Command::new(env!("CARGO_BIN_EXE_hark-sim"))
        .args(["run", "story.toml", "--seed", seed, "--trace"])
        .arg(&file)
        .env("SOMETHING", environment)
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    fs::read(file).expect("a trace")
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_another_process_and_another_seed_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, STORY);
    let first = trace(&folder, "7", "");
    // Another environment moves the stack, and with it every address.
    let second = trace(&folder, "7", &"x".repeat(5_000));
    assert!(first == second, "the traces of two processes differ");
    assert!(text(&first).contains("Wren is killed"));
    assert!(first != trace(&folder, "8", ""), "another seed, the same trace");
}

#[test]
fn a_report_holds_a_page_the_sound_and_the_packets() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, STORY);
    let output = hark_sim(&["run", "story.toml", "--report", "out"], folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = folder.path().join("out");
    let page = fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("Two meet over a line") && page.contains("heard-by-wren.wav"), "{page}");
    let heard = hark_node::wav::load(&out.join("heard-by-wren.wav")).expect("sound");
    assert!(heard.iter().any(|sample| sample.abs() > 0.05), "Wren heard nothing");
    let packets = fs::read(out.join("packets.pcap")).expect("packets");
    assert_eq!(packets[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
    assert!(packets.len() > 20_000);
}

#[test]
fn json_has_what_was_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, STORY);
    let output = hark_sim(&["run", "story.toml", "--json"], folder.path());
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(record["scenario"], "story");
    assert_eq!(record["expectations"][0]["holds"], true);
    assert_eq!(record["members"][1]["running"].as_array().map(Vec::len), Some(2));
    let ear = &record["ears"][0];
    assert_eq!((&ear["listener"], &ear["talker"]), (&"Wren".into(), &"Kestrel".into()));
    assert!(ear["frames_received"].as_u64().is_some_and(|frames| frames > 100));
    // The link loses packets, and some frames arrived only as copies in later datagrams.
    assert!(ear["frames_recovered"].as_u64().is_some_and(|frames| frames > 0));
}

#[test]
fn an_expectation_that_fails_is_named_with_the_command_that_replays_it() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, &format!("{STORY}silence = \"1ms\"\n"));
    let output = hark_sim(&["run", "story.toml", "--seed", "3"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(out.contains("✗ all from all: is silent for at most 1ms"), "{out}");
    assert!(out.contains("hark-sim run story.toml --seed 3"), "{out}");
}

#[test]
fn a_wrong_file_is_answered_with_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, &STORY.replace("crash", "crush"));
    let output = hark_sim(&["run", "story.toml"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "hark-sim: story.toml:12:1: unknown field `crush`: did you mean `crash`?\n"
    );
    let output = hark_sim(&["run", "nowhere.toml"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("hark-sim: nowhere.toml is no file"));
}

#[test]
fn explore_finds_the_seed_that_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, STORY);
    let output = hark_sim(&["explore", "story.toml", "--seeds", "3"], folder.path());
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "3 seeds, all expectations met\n");
    story(&folder, &format!("{STORY}hears = false\n"));
    let arguments = ["explore", "story.toml", "--seeds", "9", "--from", "5", "--jobs", "1"];
    let output = hark_sim(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(out.contains("seed 5 fails") && out.contains("1 seeds, 1 failed: [5]"), "{out}");
    assert!(out.contains("replay: hark-sim run story.toml --seed 5"), "{out}");
}

#[test]
fn minimize_keeps_only_what_the_failure_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = "hears = false\n[[members]]\nname = \"Heron\"\nstart = \"1s\"\n";
    story(&folder, &format!("{STORY}{more}"));
    let output = hark_sim(&["minimize", "story.toml"], folder.path());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let smallest = fs::read_to_string(folder.path().join("story.min.toml")).expect("the smallest");
    assert_eq!(smallest.matches("[[members]]").count(), 2, "{smallest}");
    assert!(!smallest.contains("crash") && !smallest.contains("loss"), "{smallest}");
    let again = hark_sim(&["run", "story.min.toml"], folder.path());
    assert_eq!(again.status.code(), Some(1), "it still fails");
}

#[test]
fn scenarios_were_looked_for_beside_the_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = hark_sim(&["list"], folder.path());
    let listed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(listed.lines().any(|line| line.starts_with("killed-mid-sentence ")), "{listed}");
    assert!(listed.lines().count() > 50, "{listed}");
    let output = hark_sim(&["run", "killed-mid-sentenc"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("did you mean killed-mid-sentence?"), "{complaint}");
    assert!(complaint.contains("hark-sim list") && complaint.lines().count() == 1, "{complaint}");
}

#[test]
fn no_seeds_met_all_expectations() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = hark_sim(&["explore", "hotel-wifi", "--seeds", "0"], folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
}

/// A second implementation, which knows only the documents, opens what is sealed in a run. Skipped
/// if it cannot run here.
#[test]
fn second_implementation_opens_what_is_sealed() {
    let folder = tempfile::tempdir().expect("a folder");
    story(&folder, STORY);
    let output = hark_sim(&["run", "story.toml", "--report", "report"], folder.path());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let frames = folder.path().join("report/frames.json");
    let kept = fs::read_to_string(&frames).expect("they are in the report");
    let count = kept.matches("\"sealed\"").count();
    assert!(count > 5, "several keys: {kept}");
    let second = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/second");
    let python = |arguments: &[&str]| {
        Command::new("python3").arg("-B").args(arguments).current_dir(&second).output()
    };
    if !python(&["-c", "import check"]).is_ok_and(|output| output.status.success()) {
        println!("skipped: needs python3 with blake3, cryptography 44 or later, and zstandard");
        return;
    }
    let output =
        python(&["check.py", "frames", frames.to_str().expect("a path")]).expect("python3");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let opened: Vec<String> = serde_json::from_slice(&output.stdout).expect("a list");
    assert_eq!(opened.len(), count);
}
