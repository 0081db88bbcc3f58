//! Tickets that are printed lead in, and are accepted as people paste them. People keep their
//! names, can print their recovery words again, and can leave.

use std::fs;

use hark_keys::Ticket;
use hark_tests::Scene;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What `hark new` prints leads in as soon as `hark talk` runs, by the port that was chosen for
/// both.
#[test]
fn the_first_ticket_of_an_organisation_had_no_address() {
    let scene = Scene::default();
    let text = scene.found("Kestrel", "Nightjar");
    let ticket: Ticket = text.parse().expect("a ticket");
    let addresses = &ticket.doors[0].addresses;
    assert!(!addresses.is_empty() && addresses.iter().all(|it| it.port() != 0), "{ticket:?}");

    let kestrel = scene.talk("Kestrel").listen(&["--no-mdns"]).start();
    assert_eq!(kestrel.address().port(), addresses[0].port());
    let wren = scene.talk("Wren").ticket(&text).listen(&["--no-mdns"]).start();
    kestrel.is_among(&[&wren]);
}

/// A node whose port is in use by another program says so, since tickets name that port.
#[test]
fn a_port_that_was_taken_was_left_in_silence() {
    let scene = Scene::default();
    let ticket: Ticket = scene.found("Kestrel", "Nightjar").parse().expect("a ticket");
    let port = ticket.doors[0].addresses[0].port();
    let _other = std::net::UdpSocket::bind(("0.0.0.0", port)).expect("it was free");
    let kestrel = scene.talk("Kestrel").start();
    let told = kestrel.wait_after(0, "a word on it", |event| event.is("port_taken"));
    assert_eq!(told["port"], port);
    assert_ne!(kestrel.address().port(), port);
}

/// A regression: nobody learned that a revoked ticket was tried. Now its issuer is informed, once.
#[test]
fn a_revoked_ticket_was_tried_in_silence() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let text = kestrel.ticket();
    let number = text.parse::<Ticket>().expect("a ticket").invite().number();
    scene.run("Kestrel", &["ticket", "revoke", &number]).success();
    for name in ["Cuckoo", "Cowbird"] {
        let outcome = scene.talk(name).ticket(&text).outcome();
        assert!(outcome.complaint().contains("revoked"), "{}", outcome.complaint());
    }
    let told: Vec<_> = kestrel
        .events()
        .iter()
        .filter(|event| event.is("notice"))
        .map(|event| event.text("text").to_owned())
        .collect();
    assert_eq!(told, [format!("somebody has tried ticket {number} here, which is revoked")]);
}

/// Whether it runs or not, and by whichever command, a member who may not admit is told who could.
#[test]
fn members_without_the_right_to_admit_were_given_dead_tickets() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    scene.run("Kestrel", &["charter", "rule", "everyone", "--deny", "admit"]).success();
    let why = "to invite, you need the right admit everywhere; Kestrel could";
    let refused = (0..100).find_map(|_| {
        let outcome = wren.try_ctl(&["invite"]);
        (outcome.status != Some(0)).then_some(outcome)
    });
    assert_eq!(refused.expect("it hears of the rule").complaint(), why);
    assert_eq!(scene.run("Wren", &["invite"]).complaint(), why);
    // The member is not a door of others' tickets either.
    let ticket: Ticket = kestrel.ticket().parse().expect("a ticket");
    assert_eq!(ticket.doors.len(), 1, "{:?}", ticket.doors);
    assert_eq!(ticket.issued_by, "Kestrel");
    // Adding a machine of one's own needs no right.
    scene.run("Wren", &["device", "invite"]).success();
    wren.leave();
    assert_eq!(scene.run("Wren", &["invite"]).complaint(), why);
}

#[test]
fn a_ticket_outlasted_the_policy_of_its_organisation() {
    let scene = Scene::default();
    scene.found("Kestrel", "Nightjar");
    scene.run("Kestrel", &["charter", "policy", "set", "invite-hours-max", "12"]).success();
    let long = scene.run("Kestrel", &["invite", "--expires", "48h"]);
    let line = long.complaint();
    assert!(line.contains("at most 12 hours") && line.contains("invite-hours-max"), "{line}");
    let usual = json(scene.run("Kestrel", &["invite", "--json"]).success());
    let shown = scene.run("Kestrel", &["ticket", "show", usual["ticket"].as_str().expect("one")]);
    assert!(shown.success().contains("good    for another 12 h"), "{}", shown.success());
    scene.run("Kestrel", &["invite", "--expires", "12h"]).success();
}

/// `ticket show` and `join` accept what mails, chats and shells make of a ticket.
#[test]
fn tickets_were_refused_in_quotes_files_and_from_standard_input() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let (first, second) = ticket.split_at(70);
    let mail = format!("> Hello Wren,\n> {first}\n> {second}.\n> Kestrel\n");
    let shown = scene.run_with("Wren", &["ticket", "show", "-"], &mail);
    for part in ["squad", "from    Kestrel", "for another 24 h", "any number", "127.0.0.1:"] {
        assert!(shown.success().contains(part), "{part}: {}", shown.success());
    }
    assert!(!scene.home("Wren").exists(), "looking joins nothing");
    let link = format!("HARK:{}", ticket.to_uppercase());
    let shown = json(scene.run("Wren", &["ticket", "show", &link, "--json"]).success());
    assert_eq!((&shown["name"], &shown["uses"]), (&"squad".into(), &0.into()));
    // The shell has split the ticket.
    scene.run("Wren", &["ticket", "show", first, second]).success();
    let none = scene.run("Wren", &["ticket", "show", "swordfish"]);
    assert!(none.complaint().contains("no ticket"), "{none:?}");

    let path = scene.path("mail.txt");
    fs::write(&path, &mail).expect("written");
    let path = path.to_str().expect("a plain path");
    scene.run("Wren", &["join", path, "--name", "Wren"]).success();
    let again = scene.run("Wren", &["join", path]);
    assert_eq!(again.success(), "this device belongs to squad already: talk with `hark talk`");
    fs::write(path, "nothing in it").expect("written");
    let none = scene.run("Heron", &["join", path]);
    assert!(none.complaint().contains("mail.txt: this is no ticket"), "{none:?}");
    assert!(scene.run_with("Heron", &["join", "-"], &mail).success().contains("joined squad"));
}

/// A person who waits is informed at once whom the program tries.
#[test]
fn joining_says_whom_it_tries() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let talk = scene.talk("Wren").ticket(&kestrel.ticket()).events(&scene.path("events"));
    let outcome = talk.with(&["--for", "1s"]).outcome();
    let told = outcome.success();
    let line = format!("trying Kestrel's device at {} …", kestrel.address());
    assert!(told.contains(&line), "{told}");
}

/// A second machine that is given no name has its person's name, for everybody.
#[test]
fn another_machine_renamed_its_person() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let heron = scene.talk("Heron").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&heron]);
    let printed = scene.run("Heron", &["device", "invite"]);
    let command = printed.success().lines().last().expect("it prints a command").to_owned();
    let ticket = command.strip_prefix("hark join ").expect("the command is `hark join`");
    scene.run("Heron's phone", &["join", ticket]).success();
    let shown = scene.run("Heron's phone", &["charter", "show", "--json"]);
    let shown = json(shown.success());
    let names: Vec<_> =
        shown["members"].as_array().expect("a list").iter().map(|it| it["name"].clone()).collect();
    assert!(names.contains(&"Heron".into()), "{names:?}");
    scene.run("Kestrel", &["charter", "mute", "Heron"]).success();
}

/// A person who joins with `talk` has recovery words, too. They end the membership of a lost
/// machine while it still talks.
#[test]
fn who_joined_by_talk_had_no_recovery_words() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let lost = scene.talk("Heron").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&lost]);
    let shown = json(scene.run("Heron", &["recovery", "--json"]).success());
    let words = shown["recovery"].as_str().expect("24 words").to_owned();
    assert_eq!(words.split(' ').count(), 24);
    assert!(scene.run("Heron", &["recovery"]).success().contains("hark recovery --forget"));
    scene.run("Heron", &["recovery", "--forget"]).success();
    assert!(scene.run("Heron", &["recovery"]).complaint().contains("no recovery words"));
    // A person who founds with `talk` does not depend on one machine either.
    scene.run("Kestrel", &["recovery"]).success();

    let recover = ["recover", &kestrel.ticket(), "--name", "Heron", "--json"];
    let recovered = json(scene.run_with("Heron anew", &recover, &words).success());
    assert_eq!(recovered["retired"], serde_json::json!([lost.device()]));
    assert_eq!(recovered["told"], serde_json::json!(["Kestrel"]));
    // Nothing runs on the new machine yet, and the lost one is evicted.
    kestrel.is_among(&[]);
    lost.wait("its end", |events| events.iter().find(|event| event.is("stopped")).map(|_| ()));
}

/// A member leaves, whether it runs or not. A script that passes `--yes` is asked nothing.
#[test]
fn nobody_could_leave() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let wren = scene.talk("Wren").ticket(&ticket).start();
    let mut heron = scene.talk("Heron").ticket(&ticket).start();
    kestrel.is_among(&[&wren, &heron]);
    heron.leave();
    let asked = scene.run("Heron", &["leave"]);
    assert!(asked.complaint().contains("--yes"), "{asked:?}");
    let folder = scene.home("Heron").join("organisations");
    for name in ["Heron", "Wren"] {
        let left = scene.run(name, &["leave", "--yes"]);
        assert!(left.success().starts_with("you have left squad"), "{left:?}");
        assert!(scene.run(name, &["invite"]).complaint().contains("no organisation"));
    }
    for organisation in fs::read_dir(&folder).expect("there").flatten() {
        let left: Vec<_> = fs::read_dir(organisation.path()).expect("a folder").flatten().collect();
        assert!(left.iter().all(|it| it.file_name() == "lock"), "{left:?}");
    }
    kestrel.is_among(&[]);
    let shown = json(scene.run("Kestrel", &["charter", "show", "--json"]).success());
    let members = shown["members"].as_array().expect("a list");
    let devices: Vec<_> = members.iter().flat_map(|it| it["devices"].as_array().unwrap()).collect();
    assert_eq!(devices, [&Value::from(kestrel.device())], "{shown:#}");
    // A new ticket admits the member again.
    let heron = scene.talk("Heron").ticket(&ticket).start();
    kestrel.is_among(&[&heron]);
}

/// An organisation that is no longer needed is removed from the device. `--org` is accepted in the
/// form in which it is printed.
#[test]
fn an_organisation_stayed_on_the_device_for_ever() {
    let scene = Scene::default();
    scene.found("Kestrel", "Meridian Watch");
    scene.run("Kestrel", &["new", "Meridian Watch", "--another"]).success();
    let several = scene.run("Kestrel", &["invite"]);
    let line = several.complaint();
    let listed = line.rsplit_once('(').expect("a list").1.trim_end_matches(')');
    let names: Vec<_> = listed.split(", ").collect();
    assert_eq!(names.len(), 2, "{line}");
    for name in &names {
        scene.run("Kestrel", &["invite", "--org", name]).success();
    }
    assert!(scene.run("Kestrel", &["forget", names[0]]).complaint().contains("--yes"));
    assert!(scene.run("Kestrel", &["forget", "Heronry", "--yes"]).complaint().contains("Heronry"));
    scene.run("Kestrel", &["forget", names[0], "--yes"]).success();
    scene.run("Kestrel", &["invite"]).success();
    let gone = scene.run("Kestrel", &["invite", "--org", names[0]]);
    gone.complaint();
}

/// A person who has lost a ticket revokes it by its number, at every door. Other tickets stay
/// valid.
#[test]
fn a_ticket_that_leaked_was_good_until_it_expired() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let (leaked, other) = (kestrel.ticket(), kestrel.ticket());
    let wren = scene.talk("Wren").ticket(&leaked).start();
    kestrel.is_among(&[&wren]);
    let number = |ticket: &str| {
        let shown = json(scene.run("Kestrel", &["ticket", "show", ticket, "--json"]).success());
        shown["number"].as_str().expect("a number").to_owned()
    };
    let of_wren = |list: &Value, ticket: &str| {
        let list = list.as_array().expect("a list");
        let row = list.iter().find(|row| row["number"] == *number(ticket)).expect("it is known");
        (row["used_by"][0]["name"] == "Wren", row["revoked"] == true)
    };
    // The list shows a moment later who has joined.
    let list = || json(scene.run("Kestrel", &["ticket", "list", "--json"]).success());
    assert!((0..100).any(|_| of_wren(&list(), &leaked) == (true, false)), "{:#}", list());
    assert_eq!(of_wren(&list(), &other), (false, false));

    let revoked = scene.run("Kestrel", &["ticket", "revoke", &number(&leaked)]);
    let told = format!("revoked ticket {} of Kestrel", number(&leaked));
    assert_eq!(revoked.success(), told);
    let again = scene.run("Kestrel", &["ticket", "revoke", &leaked]);
    assert!(again.success().contains("revoked already"), "{again:?}");
    let shown = scene.run("Kestrel", &["ticket", "list"]);
    assert!(shown.success().contains("; revoked; used here by Wren"), "{shown:?}");
    let shown = scene.run("Kestrel", &["ticket", "show", &leaked]);
    assert!(shown.success().contains("good    no more: it was revoked"), "{shown:?}");
    let late = scene.run("Magpie", &["join", &leaked]);
    let why = "the ticket was revoked: ask whoever gave it to you for a new one";
    assert_eq!(late.complaint(), why);
    let heron = scene.talk("Heron").ticket(&other).start();
    kestrel.is_among(&[&wren, &heron]);

    let unknown = scene.run("Kestrel", &["ticket", "revoke", "abcdef"]);
    assert!(unknown.complaint().contains("--of PERSON"), "{unknown:?}");
    let mixed = scene.run("Kestrel", &["ticket", "revoke", "abcdef", "--of", "Wren"]);
    assert!(mixed.complaint().contains("--of goes with"), "{mixed:?}");
}

/// Someone above a member revokes all tickets of that member, a member revokes all of its own, and
/// the founder revokes all there are.
#[test]
fn all_tickets_of_a_member_end_at_once() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    let (of_kestrel, of_wren) = (kestrel.ticket(), wren.ticket());
    let above = scene.run("Wren", &["ticket", "revoke", "all", "--of", "Kestrel"]);
    let line = above.complaint();
    assert!(line.contains("you must stand above Kestrel"), "{line}");
    assert!(line.ends_with("; Kestrel could"), "{line}");
    scene.run("Kestrel", &["ticket", "revoke", "all", "--of", "Wren"]).success();
    let why = "the ticket was revoked: ask whoever gave it to you for a new one";
    assert_eq!(scene.run("Heron", &["join", &of_wren]).complaint(), why);
    scene.run("Heron", &["join", &of_kestrel, "--name", "Heron"]).success();
    scene.run("Kestrel", &["ticket", "revoke", "all"]).success();
    assert_eq!(scene.run("Magpie", &["join", &of_kestrel]).complaint(), why);
    let fresh = kestrel.ticket();
    let everyone = scene.run("Kestrel", &["ticket", "revoke", "all", "--of", "everyone"]);
    assert_eq!(everyone.success(), "revoked all tickets of everybody so far");
    assert_eq!(scene.run("Magpie", &["join", &fresh]).complaint(), why);
    scene.run("Magpie", &["join", &kestrel.ticket(), "--name", "Magpie"]).success();
}

#[test]
fn names_too_long_were_cut_in_silence() {
    let scene = Scene::default();
    let long = "n".repeat(33);
    let refused = scene.run("Kestrel", &["new", &long]);
    assert!(refused.complaint().contains("33 characters is too long"), "{refused:?}");
    scene.found("Kestrel", "Nightjar");
    let ticket = scene.run("Kestrel", &["invite"]);
    let refused = scene.run("Wren", &["join", ticket.success(), "--name", &long]);
    assert!(refused.complaint().contains("too long"), "{refused:?}");
}
