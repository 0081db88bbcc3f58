//! People use the window: keys and clicks come from a screen of their own, and the processor draws.
//! Without the programs that it takes, each test says so and passes.
//!
//! Pictures of the screen lie in `target/window` afterwards.

#![cfg(target_os = "linux")]

use std::{fs, process::Command};

use hark_tests::{Member, Outcome, Program, Scene, Screen};
use serde_json::{Value, json};

/// Somebody who has read nothing founds a squad, another joins, and they talk while a third window
/// has the keyboard; all by keys.
#[test]
fn an_evening_goes_by_keys_alone() {
    let Some(screen) = Screen::open("evening") else { return };
    let scene = Scene::default();
    let open = |name: &str| {
        let window = scene.talk(name).environment("DISPLAY", &screen.display);
        window.environment("WAYLAND_DISPLAY", "").environment("LIBGL_ALWAYS_SOFTWARE", "1")
    };
    // Two keys besides the usual ones.
    fs::create_dir_all(scene.home("Kestrel")).expect("a home");
    fs::write(scene.home("Kestrel").join("window.toml"), SETTINGS).expect("settings");
    let mut kestrel = open("Kestrel").speaking("english").open();
    let own = screen.window(&kestrel);
    screen.give_keyboard(own);
    screen.picture("1-first-start");
    screen.types("Kestrel");
    ready(&kestrel);
    for command in [&["charter", "channel", "add", "Flight"][..], &["ctl", "transmit", "ptt"]] {
        scene.run("Kestrel", command).success();
    }
    let preset = scene.path("raid.toml");
    fs::write(&preset, PRESET).expect("a preset");
    let preset = preset.display().to_string();
    scene.run("Kestrel", &["charter", "preset", "add", &preset]).success();

    let wren = open("Wren").ticket(&kestrel.ticket()).open();
    screen.give_keyboard(screen.window(&wren));
    screen.picture("2-a-ticket");
    screen.types("Wren");
    ready(&wren);
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);

    // The third one has the keyboard.
    let magpie = open("Magpie").open();
    screen.give_keyboard(screen.window(&magpie));
    let hears = |before: usize, what: &str| {
        wren.wait_after(before, what, |event| event.is(what) && event.is_about(&kestrel.device()))
    };
    let before = wren.events().len();
    screen.run(&["keydown", "Control_R"]);
    hears(before, "talk_started");
    wren.receives(&kestrel, 50);
    // It comes into sight, and the other keeps the keyboard.
    screen.run(&["windowraise", &own.to_string()]);
    screen.picture("3-on-air");
    screen.run(&["keyup", "Control_R"]);
    hears(before, "talk_ended");

    screen.run(&["key", "F8"]);
    let volume = |status: &Value| status["nets"][0]["volume"].as_f64().unwrap_or_default();
    shows(&kestrel, |status| (volume(status) - 1.1).abs() < 0.001);
    screen.run(&["key", "F9"]);
    shows(&kestrel, |status| status["presets"] == json!(["Raid"]));
    screen.give_keyboard(own);
    screen.picture("4-a-preset");

    // A screen that stands still stops the window and no voice.
    let before = wren.events().len();
    screen.run(&["keydown", "Control_R"]);
    hears(before, "talk_started");
    screen.signal("STOP");
    let heard = wren.received(&kestrel);
    // Ten seconds.
    wren.receives(&kestrel, heard + 500);
    screen.signal("CONT");
    screen.run(&["keyup", "Control_R"]);

    kestrel.ctl(&["quit"]);
    assert_eq!(kestrel.ended(), "quit");
}

/// A window shows a node that runs already, talks by it, and says when it has gone.
#[test]
fn a_window_attaches_to_the_node_that_runs() {
    let Some(screen) = Screen::open("attached") else { return };
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").transmit("ptt").speaking("english").start();
    let wren = scene.talk("Wren").transmit("ptt").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    let window = scene.talk("Kestrel").environment("DISPLAY", &screen.display);
    let window =
        window.environment("WAYLAND_DISPLAY", "").environment("LIBGL_ALWAYS_SOFTWARE", "1");
    let window = window.open();
    screen.window(&window);
    screen.titled("(attached)");
    let before = wren.events().len();
    screen.run(&["keydown", "Control_R"]);
    let about = kestrel.device();
    wren.wait_after(before, "speech", |event| event.is("talk_started") && event.is_about(&about));
    wren.receives(&kestrel, 50);
    screen.picture("1-attached");
    screen.run(&["keyup", "Control_R"]);
    wren.wait_after(before, "its end", |event| event.is("talk_ended") && event.is_about(&about));
    kestrel.kill();
    screen.titled("^Hark$");
    screen.picture("2-the-node-has-gone");
}

/// A node that does not start leaves the window open, which says why. Asked to end, it did nothing.
#[test]
fn a_window_whose_node_did_not_start_could_not_be_ended() {
    let Some(screen) = Screen::open("not-started") else { return };
    let scene = Scene::default();
    scene.run("Kestrel", &["new", "Kestrel Guard", "--name", "Kestrel"]).success();
    // The program closes its events when the start has failed.
    let events = scene.path("events");
    let made = Command::new("mkfifo").arg(&events).status().expect("mkfifo runs");
    assert!(made.success(), "{made}");
    let mut command = Program::HarkUi.command();
    command.args(["--no-mdns", "--output", "null", "--input", "file:/nowhere.wav", "--events"]);
    command.arg(&events).arg("--home").arg(scene.home("Kestrel"));
    command.env("DISPLAY", &screen.display).env("WAYLAND_DISPLAY", "");
    let mut window = command.env("LIBGL_ALWAYS_SOFTWARE", "1").spawn().expect("it starts");
    assert_eq!(fs::read_to_string(&events).expect("events"), "");
    screen.titled("^Hark$");
    let asked = Command::new("kill").arg(window.id().to_string()).status().expect("kill runs");
    assert!(asked.success(), "{asked}");
    let ended = window.wait().expect("it ends");
    assert!(ended.success(), "{ended}");
}

/// A second start opens no second window: the first one gets the link.
#[test]
fn a_second_start_hands_its_link_to_the_window_that_is_open() {
    let Some(screen) = Screen::open("second-start") else { return };
    let scene = Scene::default();
    let wren = scene.talk("Wren").transmit("ptt").start();
    let window = scene.talk("Kestrel").environment("DISPLAY", &screen.display);
    let window =
        window.environment("WAYLAND_DISPLAY", "").environment("LIBGL_ALWAYS_SOFTWARE", "1");
    let kestrel = window.open();
    let own = screen.window(&kestrel);
    let link = format!("hark:{}", wren.ticket());
    let mut second = Program::HarkUi.command();
    second.arg(link).arg("--home").arg(scene.home("Kestrel")).env("DISPLAY", &screen.display);
    let told = Outcome::from(second.output().expect("it starts"));
    assert_eq!(told.success(), "Hark is open already: its window comes to the front");
    screen.give_keyboard(own);
    screen.picture("1-the-link-is-there");
    screen.types("Kestrel");
    kestrel.wait_after(0, "start", |event| event.is("ready"));
    wren.is_among(&[&kestrel]);

    // While it runs, it asks first.
    let heron = scene.talk("Heron").transmit("ptt").start();
    let mut third = Program::HarkUi.command();
    third.arg(heron.ticket()).arg("--home").arg(scene.home("Kestrel"));
    Outcome::from(third.output().expect("it starts")).success();
    screen.picture("2-it-asks");
    let before = wren.events().len();
    assert!(!heron.events().iter().any(|it| it.is("peer_up")), "nobody was asked");
    // On `Join`.
    screen.run(&["mousemove", "374", "392", "click", "1"]);
    heron.wait("newcomer", |events| events.iter().find(|it| it.is("peer_up")).map(drop));
    let device = kestrel.device();
    wren.wait_after(before, "return", |it| it.is("peer_up") && it.is_about(&device));
    screen.picture("3-in-both");
}

/// Whoever wants to see the window before anybody else is there sees it alive, and nothing stays.
#[test]
fn the_demo_talks_on_several_nets() {
    let Some(screen) = Screen::open("demo") else { return };
    let scene = Scene::default();
    let events = scene.path("events.jsonl");
    let mut command = Program::HarkUi.command();
    command.args(["--demo", "--output", "null", "--for", "12s", "--events"]).arg(&events);
    command.env("DISPLAY", &screen.display).env("WAYLAND_DISPLAY", "");
    command.env("LIBGL_ALWAYS_SOFTWARE", "1").env("TMPDIR", scene.folder());
    let mut window = command.spawn().expect("it starts");
    screen.titled("demo");
    let ended = window.wait().expect("it ends");
    assert!(ended.success(), "{ended}");
    let told = fs::read_to_string(&events).expect("events");
    let told = told.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let told: Vec<_> = told.filter(|event| event["event"] == "talk_started").collect();
    let mut nets: Vec<_> = told.iter().map(|event| event["channels"].to_string()).collect();
    nets.sort_unstable();
    nets.dedup();
    assert!(nets.len() >= 3, "{told:?}");
    let left = fs::read_dir(scene.folder()).expect("a folder").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["events.jsonl"]);
}

/// Two hundred plates of ten organisations are drawn anew at every size, and the sound goes on.
#[test]
fn sound_goes_on_while_a_full_window_changes_its_size() {
    let Some(screen) = Screen::open("resized") else { return };
    let scene = Scene::default();
    let nets = scene.path("nets.toml");
    let file: String =
        (0..19).map(|index| format!("[[channel]]\nname = \"Net {index}\"\n")).collect();
    fs::write(&nets, file).expect("a file");
    let nets = nets.display().to_string();
    let organisations: Vec<_> = (0..9).map(|index| format!("Organisation {index}")).collect();
    for organisation in &organisations {
        scene.found("Kestrel", organisation);
        let apply = ["charter", "apply", &nets, "--org", organisation];
        scene.run("Kestrel", &apply).success();
    }
    let wren = scene.talk("Wren").transmit("open").speaking("english").start();
    scene.run("Wren", &["charter", "apply", &nets]).success();
    let joining = scene.talk("Kestrel").ticket(&wren.ticket()).with(&["--for", "2s"]);
    joining.outcome().success();
    let kestrel = scene.talk("Kestrel").environment("DISPLAY", &screen.display);
    let kestrel =
        kestrel.environment("WAYLAND_DISPLAY", "").environment("LIBGL_ALWAYS_SOFTWARE", "1");
    let kestrel = kestrel.open();
    let window = screen.window(&kestrel).to_string();
    kestrel.hears(&wren, 100);
    let missing = || kestrel.counter("frames_concealed", &wren);
    let before = missing();
    for turn in 0..5 {
        for step in 0..30 {
            let index = turn * 30 + step;
            let size = [400 + index * 137 % 880, 200 + index * 89 % 600];
            let [width, height] = size.map(|length| length.to_string());
            screen.run(&["windowsize", &window, &width, &height]);
        }
        kestrel.hears(&wren, 50);
    }
    screen.picture("1-resized");
    println!("{before} concealed before, {} after", missing());
    kestrel.has_concealed_little(&wren);
}

#[track_caller]
fn ready(member: &Member) {
    member.wait_after(0, "start", |event| event.is("ready"));
}

#[track_caller]
fn shows(member: &Member, like: impl Fn(&Value) -> bool) {
    let status = || {
        let status = member.ctl(&["status", "--json"]);
        let mut answer: Value = serde_json::from_str(&status).expect("JSON");
        answer["status"].take()
    };
    assert!((0..1_000).any(|_| like(&status())), "{}", status());
}

const SETTINGS: &str = r#"
[[keys]]
chord = "Right Ctrl"
does = "talk"

[[keys]]
chord = "F8"
does = "louder"

[[keys]]
chord = "F9"
does = "preset"
name = "Raid"
"#;

const PRESET: &str = r#"
name = "Raid"

[[layout]]
for = "everyone"
keys = [["Flight"]]

[[layout.net]]
channel = "Flight"
"#;
