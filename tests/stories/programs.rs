//! What the three programs have in common on their command lines.

use std::{fs, path::Path};

use hark_tests::{Outcome, Program, Scene};
use serde_json::Value;

fn run(program: Program, arguments: &[&str], folder: &Path) -> Outcome {
    let mut command = program.command();
    command.args(arguments).current_dir(folder).env("HOME", folder);
    command.output().expect("it starts").into()
}

/// For each program, a command that its completions and manual pages contain, and the name of that
/// page.
const KNOWN: [(Program, &str, &str); 3] = [
    (Program::Hark, "recovery", "hark-charter-grant.1"),
    (Program::HarkRelay, "--admin", "hark-relay-man.1"),
    (Program::HarkSim, "minimize", "hark-sim-explore.1"),
];

#[test]
fn every_program_completes_its_commands_and_has_manual_pages() {
    let scene = Scene::default();
    let folder = scene.path("man");
    fs::create_dir(&folder).expect("a folder");
    for (program, known, page) in KNOWN {
        let name = program.name();
        for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
            let script = run(program, &["completions", shell], &folder);
            let script = script.success();
            let known = known.trim_start_matches('-');
            assert!(script.contains(known) && script.contains(name), "{name}, {shell}: {script}");
        }
        let script = folder.join(format!("{name}.bash"));
        fs::write(&script, run(program, &["completions", "bash"], &folder).stdout)
            .expect("written");
        let checked = std::process::Command::new("bash").arg("-n").arg(&script).output();
        let checked: Outcome = checked.expect("it starts").into();
        checked.success();

        assert!(run(program, &["man"], &folder).success().contains("SYNOPSIS"));
        run(program, &["man", "man1"], &folder).success();
        for page in [&format!("{name}.1"), page] {
            let text = fs::read_to_string(folder.join("man1").join(page)).expect(page);
            assert!(text.contains("SYNOPSIS"), "{page}");
        }
        let refused = run(program, &["man", script.to_str().expect("text")], &folder);
        assert_eq!(refused.status, Some(1));
        assert!(refused.stderr.contains("manual pages cannot be written"), "{refused:?}");
    }
}

/// A regression: with `--json`, a script had to read lines for people when something failed.
#[test]
fn errors_were_for_people_alone() {
    let scene = Scene::default();
    let folder = scene.path("here");
    fs::create_dir(&folder).expect("a folder");
    let home = scene.home("Kestrel").display().to_string();
    fs::write(folder.join("wrong.toml"), "purpose = 7\n").expect("written");
    fs::write(folder.join("relay.toml"), "log = \"json\"\n").expect("written");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = taken.local_addr().expect("it is bound").to_string();

    let told: [(Program, &[&str], i32, &str, &str); 9] = [
        (Program::Hark, &["id", "--jsn", "--json"], 2, "usage", "'--jsn'"),
        (Program::Hark, &["--json"], 2, "usage", "'--json'"),
        (
            Program::Hark,
            &["ctl", "status", "--json", "--home", &home],
            1,
            "not_running",
            "hark talk",
        ),
        (
            Program::Hark,
            &["charter", "show", "--json", "--home", &home],
            1,
            "failed",
            "hark new NAME",
        ),
        (Program::Hark, &["ticket", "show", "hark1x", "--json"], 1, "failed", "ticket"),
        (Program::HarkSim, &["run", "nowhere.toml", "--json"], 2, "usage", "nowhere.toml"),
        (Program::HarkSim, &["run", "wrong.toml", "--json"], 2, "usage", "wrong.toml:1:"),
        (Program::HarkRelay, &["--json"], 2, "usage", "'--json'"),
        (
            Program::HarkRelay,
            &[
                "--config",
                "relay.toml",
                "--home",
                "hub",
                "--admin",
                &admin,
                "--listen",
                "127.0.0.1:0",
            ],
            1,
            "failed",
            "cannot listen",
        ),
    ];
    for (program, arguments, status, code, word) in told {
        let outcome = run(program, arguments, &folder);
        assert_eq!(outcome.status, Some(status), "{arguments:?}: {outcome:?}");
        let last = outcome.stderr.lines().last().expect("a line");
        let error: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{outcome:?}"));
        assert_eq!((&error["ok"], &error["code"]), (&false.into(), &code.into()), "{outcome:?}");
        let text = error["error"].as_str().expect("text");
        assert!(text.contains(word) && !text.starts_with(program.name()), "{arguments:?}: {text}");
    }
    let nearly = run(Program::HarkSim, &["run", "killed-mid-sentenc", "--json"], &folder);
    let nearly: Value = serde_json::from_str(&nearly.stderr).expect("JSON");
    assert_eq!(nearly["hint"], "killed-mid-sentence");
}
