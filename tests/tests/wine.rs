//! Programs for Windows run by wine, and talk with programs of this machine.
//!
//! `ci/windows test` puts the programs where these tests look. Without them, or without wine, each
//! test says so and passes.

#![cfg(target_os = "linux")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use hark_tests::{Member, Scene, Screen, Talk};

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

    magpie.kill();
    let magpie = on_windows("Magpie").speaking("italian").start();
    all([&kestrel, &heron, &magpie]);
    kestrel.ctl(&["quit"]);
    assert_eq!(kestrel.ended(), "quit");
    magpie.hears(&heron, 100);
    heron.hears(&magpie, 100);
}

/// From a file on one system to a file on the other it takes less than 60 ms, both ways, and less
/// than one frame in 200 is made up.
#[test]
fn a_voice_takes_less_than_60_ms_between_windows_and_linux() {
    let Some(program) = program("hark.exe") else { return };
    let scene = Scene::default();
    let kestrel = by_wine(scene.talk("Kestrel"), &program).speaking("english");
    let kestrel = before_all_others(kestrel).start();
    let heron = scene.talk("Heron").ticket(&kestrel.ticket()).speaking("french");
    let heron = before_all_others(heron).start();
    kestrel.is_among(&[&heron]);
    heron.is_among(&[&kestrel]);
    let pairs = [(&heron, &kestrel), (&kestrel, &heron)];
    pairs.iter().for_each(|(listener, talker)| listener.receives(talker, 1_000));
    let measured = pairs.map(|(listener, talker)| {
        let median = listener.median_delay(talker, 10);
        let names = ["frames_received", "frames_concealed", "frames_late"];
        let [received, concealed, late] = names.map(|name| listener.counter(name, talker));
        println!(
            "{} of {}: median {median:.1} ms; {received} frames received, {concealed} concealed, \
             {late} late",
            listener.name(),
            talker.name()
        );
        assert!(concealed * 200 < received, "{concealed} of {received} concealed");
        median
    });
    assert!(measured.iter().all(|median| *median < 60.0), "{measured:.1?}");
}

/// A key talks while another program of Windows has the keyboard, and that program gets it, too.
#[test]
fn a_key_talks_on_windows_while_another_window_has_the_keyboard() {
    let Some(program) = program("hark-ui.exe") else { return };
    let Some(screen) = Screen::open("windows") else { return };
    let scene = Scene::default();
    let window = by_wine(scene.talk("Kestrel"), &program).environment("DISPLAY", &screen.display);
    let window = window.environment("LIBGL_ALWAYS_SOFTWARE", "1").speaking("english");
    let kestrel = window.open();
    screen.give_keyboard(screen.titled("^Hark"));
    screen.types("Kestrel");
    kestrel.wait_after(0, "start", |event| event.is("ready"));
    let heron = scene.talk("Heron").transmit("ptt").ticket(&kestrel.ticket()).start();
    heron.is_among(&[&kestrel]);
    kestrel.is_among(&[&heron]);
    screen.picture("1-window");
    // A second start opens no second window.
    let mut second = Command::new("wine");
    second.arg(&program).arg("--home").arg(scene.home("Kestrel"));
    second.env("WINEPREFIX", prefix(&program)).env("WINEDEBUG", "-all");
    let second = second.env("DISPLAY", &screen.display).output().expect("wine starts");
    assert!(second.status.success(), "{second:?}");

    let mut editor = Command::new("wine");
    editor.arg("notepad").env("WINEPREFIX", prefix(&program)).env("WINEDEBUG", "-all");
    let mut editor = editor.env("DISPLAY", &screen.display).spawn().expect("wine has one");
    screen.give_keyboard(screen.titled("Notepad"));
    let before = heron.events().len();
    let about = kestrel.device();
    let hears = |what: &str| {
        heron.wait_after(before, what, |event| event.is(what) && event.is_about(&about))
    };
    screen.run(&["keydown", "Control_R"]);
    hears("talk_started");
    heron.receives(&kestrel, 50);
    screen.run(&["keyup", "Control_R"]);
    hears("talk_ended");
    // It ends when its window goes with the screen.
    let _ = editor.kill();
    let _ = editor.wait();
    // Wine's libraries complain of missing sound cards, so nothing is said of standard error.
    kestrel.ctl(&["quit"]);
    kestrel.wait_after(0, "its end", |event| event.is("stopped"));
}

fn by_wine(talk: Talk, program: &Path) -> Talk {
    talk.by_wine(program).environment("WINEPREFIX", &prefix(program))
}

/// Gives a member the processor before all else that runs, where this account may: wine gives the
/// threads of sound no rank, and a delay that other programs cause is not Hark's.
fn before_all_others(talk: Talk) -> Talk {
    let rank = ["chrt", "--rr", "1"];
    let may = Command::new(rank[0]).args(&rank[1..]).arg("true").status();
    if may.is_ok_and(|it| it.success()) { talk.through(&rank) } else { talk }
}

/// Where wine keeps what the programs see as drive C.
fn prefix(program: &Path) -> String {
    program.with_file_name("prefix").display().to_string()
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
