//! Programs for Windows run by wine, and talk with programs of this machine.
//!
//! `ci/windows test` puts the programs where these tests look. Without them, or without wine, each
//! test says so and passes.

#![cfg(target_os = "linux")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use hark_tests::{Member, Scene, Talk};

/// Two on Windows and one on Linux hear each other, also after one was killed and the founder left.
#[test]
fn windows_and_linux_talk_with_each_other() {
    let Some(program) = program("hark.exe") else { return };
    let scene = Scene::default();
    let on_windows = |name: &str| by_wine(scene.talk(name), &program);
    let mut kestrel = on_windows("Kestrel").speaking("english").start();
    let ticket = kestrel.ticket();
    let heron = scene.talk("Heron").ticket(&ticket).speaking("french").start();
    let mut magpie = on_windows("Magpie").ticket(&ticket).speaking("italian").start();
    let all = |members: [&Member; 3]| {
        for listener in members {
            let others = members.into_iter().filter(|it| it.name() != listener.name());
            let others: Vec<_> = others.collect();
            listener.is_among(&others);
            others.iter().for_each(|talker| listener.hears(talker, 300));
            others.iter().for_each(|talker| listener.has_concealed_little(talker));
        }
    };
    all([&kestrel, &heron, &magpie]);
    for (listener, talker) in [(&heron, &kestrel), (&kestrel, &heron)] {
        let names = ["frames_received", "frames_concealed", "frames_late"];
        let counts = names.map(|name| listener.counter(name, talker));
        println!("{} of {}: {counts:?} of {names:?}", listener.name(), talker.name());
    }

    magpie.kill();
    let magpie = on_windows("Magpie").speaking("italian").start();
    all([&kestrel, &heron, &magpie]);
    kestrel.ctl(&["quit"]);
    assert_eq!(kestrel.ended(), "quit");
    magpie.hears(&heron, 100);
    heron.hears(&magpie, 100);
}

fn by_wine(talk: Talk, program: &Path) -> Talk {
    let prefix = program.with_file_name("prefix").display().to_string();
    talk.by_wine(program).environment("WINEPREFIX", &prefix)
}

/// The path of a program for Windows. `None`, with a line that says why, if it cannot be run.
fn program(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().expect("a test has a path");
    let target = tests.ancestors().nth(3).expect("tests lie in TARGET/PROFILE/deps");
    let path = target.join("windows/wine").join(name);
    if !path.exists() {
        println!("skipped: needs {name}, which `ci/windows test` makes");
        return None;
    }
    if !Command::new("wine").arg("--version").output().is_ok_and(|it| it.status.success()) {
        println!("skipped: needs wine");
        return None;
    }
    Some(path)
}
