//! Newcomers who are let in by hand, with real processes.

use std::thread;

use hark_tests::{Member, Scene, run};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Waits until somebody of this name waits at the door, or no longer does.
fn comes_to(door: &Member, name: &str, state: &str) {
    door.wait(state, |events| {
        let told = events.iter().filter(|event| event.is("waiting"));
        let mut of = told.filter(|event| event.text("name") == name);
        of.find(|event| event.text("state") == state).map(|_| ())
    });
}

/// The holder of the ticket waits until somebody at the door admits them. Both sides see the same
/// words.
#[test]
fn whoever_had_a_ticket_came_in_unseen() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let ticket = scene.run("Kestrel", &["invite", "--ask", "--uses", "1", "--expires", "90s"]);
    let ticket = ticket.stdout.trim_end().to_owned();
    let asks = json(scene.run("Kestrel", &["ticket", "show", &ticket, "--json"]).success());
    assert_eq!(asks["ask"], true);
    let snipe = scene.talk("Snipe").ticket(&ticket).events(&scene.path("snipe"));
    let [wren_home, heron_home] = ["Wren", "Heron"].map(|name| scene.home(name));
    let again = ticket.clone();
    let wren = thread::spawn(move || run(&wren_home, &["join", &ticket, "--name", "Wren"]));
    let snipe = thread::spawn(move || snipe.outcome());
    for name in ["Wren", "Snipe"] {
        comes_to(&kestrel, name, "waiting");
    }

    let waiting = json(&kestrel.ctl(&["waiting", "--json"]));
    let waiting = waiting.as_array().expect("a list");
    assert_eq!(waiting.len(), 2, "{waiting:#?}");
    let row = waiting.iter().find(|row| row["name"] == "Wren").expect("Wren waits");
    let own = json(scene.run("Wren", &["id", "--json"]).success());
    assert_eq!((&row["words"], &row["device"]), (&own["words"], &own["device"]));
    let shown = kestrel.ctl(&["status"]);
    assert!(shown.contains(" waits to be let in, with the words "), "{shown}");
    let nobody = kestrel.try_ctl(&["admit", "Wern"]);
    assert!(nobody.complaint().contains("did you mean Wren?"), "{nobody:?}");

    kestrel.ctl(&["admit", "Wren"]);
    let joined = wren.join().expect("it runs to its end");
    assert!(joined.success().contains("joined squad"), "{joined:?}");
    kestrel.ctl(&["refuse", "snipe"]);
    let refused = snipe.join().expect("it runs to its end");
    let by_whom = "Kestrel, or another who may, has turned you away from squad: talk to them";
    assert!(refused.complaint().starts_with(by_whom), "{refused:?}");
    let told = &refused.stdout;
    assert!(told.contains("waiting: Kestrel, or another who may, has to let you in"), "{told}");
    comes_to(&kestrel, "Snipe", "refused");
    assert_eq!(kestrel.ctl(&["waiting"]), "nobody waits to be let in here");

    // The newcomer who was turned away has used none of the ticket's uses; Wren has used one.
    let heron = thread::spawn(move || run(&heron_home, &["join", &again, "--name", "Heron"]));
    comes_to(&kestrel, "Heron", "waiting");
    kestrel.ctl(&["admit", "Heron"]);
    let late = heron.join().expect("it runs to its end");
    assert!(late.complaint().contains("used as often as it may be"), "{late:?}");
}

/// A regression: a waiting room seemed to guard a door that every other member could open
/// unnoticed.
#[test]
fn nobody_was_told_that_others_let_in_unseen() {
    let scene = Scene::default();
    scene.found("Kestrel", "Meridian Watch");
    let asks = || scene.run("Kestrel", &["invite", "--ask"]);
    let first = asks();
    let command = "hark charter role edit member --can join,listen,speak,whisper";
    assert!(first.stderr.contains(&format!("`{command}`")), "{first:?}");
    assert!(first.stdout.starts_with("hark1") && first.stdout.lines().count() == 1, "{first:?}");
    // The notice is printed once.
    asks().success();

    scene.found("Wren", "Escort");
    let words: Vec<_> = command.split(' ').skip(1).collect();
    scene.run("Wren", &words).success();
    scene.run("Wren", &["invite", "--ask"]).success();
}

/// A member who may not admit cannot let anybody in by hand either, and is told who could.
#[test]
fn letting_in_takes_the_right_to_admit() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    scene.run("Kestrel", &["charter", "rule", "everyone", "--deny", "admit"]).success();
    let why = "to let somebody in, you need the right admit everywhere; Kestrel could";
    let told = (0..200).map(|_| wren.try_ctl(&["admit", "Heron"]).complaint().to_owned());
    assert!({ told }.any(|line| line == why));
}
