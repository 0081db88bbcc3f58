//! Some three hundred wrong inputs, made from the commands and from wrong words for each of their
//! places: unknown, ambiguous, forbidden, out of range. Each input is refused with a message that
//! names the word, and changes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use hark_tests::{Member, Outcome, Scene};
use serde_json::Value;

/// A command with `@` in place of the wrong word.
type Template = &'static str;

const NETS: &[Template] = &[
    "ctl listen @",
    "ctl listen @ --keep",
    "ctl unlisten @",
    "ctl net @ --volume 1",
    "ctl talk-to @",
    "ctl talk-to Flight @",
    "ctl key k @",
    "ctl ptt down @",
    "ctl ptt up @",
    "ctl move Wren @",
    "ctl move Wren Flight --from @",
    "charter channel edit @ --order 3",
    "charter channel move @ --under Flight",
    "charter channel move Flight --under @",
    "charter channel remove @",
    "charter channel add New --under @",
    "charter grant pilot Wren --at @",
    "charter revoke pilot Wren --at @",
    "charter rule everyone --at @ --deny speak",
    "charter mute Wren --at @",
    "charter unmute Wren --at @",
    "charter why Wren speak @",
];

const PEOPLE: &[Template] = &[
    "ctl talk-to --whisper @",
    "ctl talk-to Flight --whisper @",
    "ctl key k --whisper @",
    "ctl volume @ 1",
    "ctl move @ Flight",
    "charter grant pilot @",
    "charter revoke pilot @",
    "charter mute @",
    "charter unmute @",
    "charter kick @",
    "charter rule @ --deny speak",
    "charter why @ speak Flight",
    "charter grant pilot Wren @",
];

const ROLES: &[Template] = &[
    "ctl talk-to --role @",
    "ctl key k --role @",
    "charter grant @ Wren",
    "charter revoke @ Wren",
    "charter role edit @ --rank 50",
    "charter role remove @",
    "charter rule role:@ --deny speak",
    "invite --role @",
];

const OTHERS: &[(Template, &[&str])] = &[
    ("ctl ducking @", &["61", "-61", "300", "1000", "nan", "inf", "loud"]),
    ("ctl master --others @", &["4.1", "-1", "nan", "inf", "loud"]),
    ("ctl master --talked-to @", &["9", "nan"]),
    ("ctl master --others-down @", &["maybe", "1"]),
    ("ctl processing @", &["noise=maybe", "nose=on", "noise", "off", "noise=on,noise=off"]),
    ("ctl cues --volume @", &["4.1", "-1", "nan", "inf", "loud"]),
    ("ctl cues --people @", &["maybe", "2"]),
    ("ctl side-tone on --level @", &["3", "-41", "nan", "loud"]),
    ("ctl side-tone @", &["maybe", "2"]),
    ("ctl voice --bitrate @", &["23", "97", "-24", "24.5", "fast"]),
    ("ctl voice --frame @", &["3", "40", "-10", "short"]),
    ("ctl voice --redundancy @", &["6", "-1", "1.5", "much"]),
    ("ctl voice --wait @", &["20", "90..30", "0..201", "0..5", "-1..20", "1.5..20", "long", ".."]),
    ("ctl net Flight --volume @", &["4.1", "9", "-1", "nan", "inf", "loud"]),
    ("ctl net Flight --pan @", &["1.5", "-5", "nan", "left"]),
    ("ctl net Flight --priority @", &["256", "-1", "high"]),
    ("ctl net Flight --radio @", &["yes", "1", ""]),
    ("ctl voice --frame 5 --redundancy @", &["deep"]),
    ("ctl net Flight --mute @", &["maybe", "2"]),
    ("ctl volume Wren @", &["4.5", "-0.5", "9", "nan", "inf", "loud"]),
    ("ctl ptt down --for @", &["0s", "999ms", "2h", "99999h", "long"]),
    ("ctl ptt @", &["sideways", "on"]),
    ("ctl transmit @", &["loud", "always"]),
    ("ctl profile use @", &["medic", "a b"]),
    ("ctl profile copy @", &["a b", "../x", "Default"]),
    ("ctl profile remove @", &["medic", "default"]),
    ("ctl profile @", &["lose"]),
    ("ctl key @", &["nosuchkey"]),
    ("ctl admit @", &["Wren", "nobody"]),
    ("ctl refuse @", &["Wren", "nobody"]),
    ("ticket revoke @", &["nonumber"]),
    ("ticket revoke all --of @", &["Wern", "nobody"]),
    ("ctl @", &["dance", "lisen", "statu"]),
    ("charter preset load @", &["patrl", "nowhere"]),
    ("charter preset unload @", &["patrl", "nowhere"]),
    ("charter preset show @", &["patrl", "nowhere"]),
    ("charter preset remove @", &["patrl", "nowhere"]),
    ("charter why Wren @ Flight", &["shout", "speek"]),
    ("charter rule everyone --allow @", &["shout", "speek"]),
    ("charter role add new --rank 5 --can @", &["shout"]),
    ("charter role add new --rank @", &["-1", "high"]),
    ("charter channel edit Flight --order @", &["-1", "70000", "first"]),
    ("charter channel edit Flight --music @", &["95", "193", "stereo"]),
    ("charter channel edit Flight --limit @", &["-1", "70000", "none"]),
    ("charter relay remove @", &["rely"]),
    ("charter @", &["dance", "chanel"]),
    ("charter channel @", &["dance", "ad"]),
    ("invite --expires @", &["99999h", "0s", "soon", "1y"]),
    ("invite --uses @", &["256", "-1", "some"]),
    ("invite --org @", &["Meridan", "Nowhere"]),
    ("@", &["dance", "tlak"]),
];

/// What a plain member may not do, each with the right that is missing.
const FORBIDDEN: &[(&str, &str)] = &[
    ("ctl talk-to Staff", "speak"),
    ("ctl talk-to Flight Staff", "Staff"),
    ("ctl key k Staff", "speak"),
    ("ctl ptt down Staff", "Staff"),
    ("ctl move Kestrel Flight", "may not move"),
    ("ctl listen Closed", "join"),
    ("ctl net Closed --volume 1", "join"),
    ("charter channel add New", "manage-channels"),
    ("charter channel edit Flight --order 3", "manage-channels"),
    ("charter channel remove Flight", "manage-channels"),
    ("charter role add new --rank 50", "manage-roles"),
    ("charter grant pilot Wren", "manage-roles"),
    ("charter preset load patrol", "edit-presets"),
    ("charter kick Kestrel", "the right ban"),
    ("charter rule everyone --deny speak", "manage-roles"),
];

#[test]
fn wrong_inputs_are_refused_and_change_nothing() {
    let scene = Scene::default();
    let (kestrel, wren) = organisation(&scene);
    let mut inputs = Vec::new();
    let mut add = |templates: &[Template], words: &[&str]| {
        for template in templates {
            for word in words {
                let line: Vec<String> =
                    template.split(' ').map(|part| part.replace('@', word)).collect();
                inputs.push(("Kestrel", line, (*word).to_owned()));
            }
        }
    };
    add(NETS, &["Flihgt", "Nowhere", "Alpha", "Flight/Bravo", "Flight#zzzzzz", "Ground/"]);
    add(PEOPLE, &["Wern", "Nobody", "Kestrel#zzzzzz", "12D3KooWren"]);
    add(ROLES, &["pilto", "nobody"]);
    for (template, words) in OTHERS {
        add(&[template], words);
    }
    for (line, words) in FORBIDDEN {
        let line = line.split(' ').map(str::to_owned).collect();
        inputs.push(("Wren", line, (*words).to_owned()));
    }
    assert!(inputs.len() >= 300, "{} inputs", inputs.len());
    every_command_is_among(&scene, "ctl", &inputs);

    let before = [settled(&kestrel), settled(&wren)];
    let charter = || {
        let shown = scene.run("Kestrel", &["charter", "show", "--json"]);
        let mut shown: Value = serde_json::from_str(shown.success()).expect("JSON");
        // A node lists newcomers by itself, a moment after they have come.
        shown.as_object_mut().expect("an object").remove("operations");
        shown
    };
    let charter_before = charter();
    let next = AtomicUsize::new(0);
    let homes = [scene.home("Kestrel"), scene.home("Wren")];
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut wrong = Vec::new();
                    while let Some((who, line, word)) =
                        inputs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let home = &homes[usize::from(*who == "Wren")];
                        let parts: Vec<_> = line.iter().map(String::as_str).collect();
                        let outcome = hark_tests::run(home, &parts);
                        let first = outcome.stderr.lines().next().unwrap_or_default();
                        let told = first.to_lowercase().contains(&word.to_lowercase());
                        let lines = outcome.stderr.lines().count();
                        let status = outcome.status;
                        if !(told && (status == Some(1) && lines == 1 || status == Some(2))) {
                            wrong.push(format!("{who}: {}: {outcome:?}", line.join(" ")));
                        }
                        let as_json = hark_tests::run(home, &[&parts[..], &["--json"]].concat());
                        if let Err(why) = is_the_same_in_json(&outcome, &as_json, word) {
                            wrong.push(format!("{who}: {} --json: {why}", line.join(" ")));
                        }
                    }
                    wrong
                })
            })
            .collect();
        threads.into_iter().flat_map(|it| it.join().expect("no panic")).collect()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), inputs.len(), wrong.join("\n"));
    assert_eq!([settled(&kestrel), settled(&wren)], before);
    assert_eq!(charter(), charter_before);
}

/// Checks that `--json` turns the line for people into one object and changes nothing else.
fn is_the_same_in_json(plain: &Outcome, as_json: &Outcome, word: &str) -> Result<(), String> {
    let error: Value =
        serde_json::from_str(&as_json.stderr).map_err(|error| format!("{error}: {as_json:?}"))?;
    let text = error["error"].as_str().unwrap_or_default();
    let codes: &[&str] = if plain.status == Some(2) { &["usage"] } else { &["refused", "failed"] };
    let same_line = plain.status == Some(2) || plain.stderr == format!("hark: {text}\n");
    let holds = as_json.status == plain.status
        && error["ok"] == false
        && codes.iter().any(|code| error["code"] == *code)
        && text.to_lowercase().contains(&word.to_lowercase())
        && same_line
        && as_json.stderr.lines().count() == 1
        && as_json.stdout.is_empty()
        && (error["hint"].is_string() || !text.contains("did you mean"));
    if holds { Ok(()) } else { Err(format!("{as_json:?} instead of {plain:?}")) }
}

/// Checks that all commands that `hark GROUP --help` lists have a wrong input here, except those
/// without arguments.
fn every_command_is_among(scene: &Scene, group: &str, inputs: &[(&str, Vec<String>, String)]) {
    const PLAIN: [&str; 13] = [
        "status", "mute", "unmute", "deafen", "undeafen", "away", "back", "front", "follow",
        "invite", "waiting", "events", "quit",
    ];
    let help = scene.run("Kestrel", &[group, "--help"]);
    let commands = help.success().split("Commands:").nth(1).expect("it lists them");
    let commands = commands.lines().skip(1).take_while(|line| !line.trim().is_empty());
    // Further lines of a description are indented more.
    let commands = commands.filter(|line| line.len() - line.trim_start().len() == 2);
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        let named = |(_, line, _): &&(&str, Vec<String>, String)| line[..2] == [group, name];
        let plain = name == "help" || PLAIN.contains(&name);
        assert!(plain || inputs.iter().filter(|it| it.1.len() > 1).any(|it| named(&it)), "{name}");
    }
}

/// The part of the status that people have set, without clocks and counters.
fn settled(member: &Member) -> Value {
    let status = status(member);
    let kept = [
        "name", "nets", "profile", "profiles", "talk_to", "keys", "transmit", "muted", "deafened",
        "front", "silenced", "unheard", "roster",
    ];
    let volumes = status["peers"].as_array().expect("a list").iter();
    let volumes = volumes.map(|peer| peer["volume"].clone()).collect();
    kept.iter().map(|name| status[name].clone()).chain([Value::Array(volumes)]).collect()
}

fn status(member: &Member) -> Value {
    let status = member.ctl(&["status", "--json"]);
    let mut answer: Value = serde_json::from_str(&status).expect("JSON");
    answer["status"].take()
}

/// Kestrel's organisation, with Wren, who may not join Closed nor speak in Staff.
fn organisation(scene: &Scene) -> (Member, Member) {
    scene.found("Kestrel", "Meridian Watch");
    let path = scene.path("charter.toml");
    std::fs::write(&path, CHARTER).expect("written");
    scene.run("Kestrel", &["charter", "apply", &path.display().to_string()]).success();
    scene.run("Kestrel", &["charter", "grant", "chief", "me"]).success();
    // With an open microphone, members would start and stop talking by themselves.
    let kestrel = scene.talk("Kestrel").transmit("ptt").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).transmit("ptt").start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    // The status shows it a moment after the event.
    for (member, nets) in [(&kestrel, 7), (&wren, 6)] {
        let is_shown = |status: &Value| {
            let count = |name: &str| status[name].as_array().map_or(0, Vec::len);
            (count("nets"), count("roster")) == (nets, 2)
        };
        assert!((0..1_000).any(|_| is_shown(&status(member))), "{}", status(member));
    }
    (kestrel, wren)
}

const CHARTER: &str = r#"
[[role]]
name = "chief"
rank = 10
can = ["join", "listen", "speak", "priority", "whisper", "move", "mute", "manage-channels", "manage-roles", "admit",
       "edit-presets", "appoint-relays", "ban"]

[[role]]
name = "pilot"
rank = 100

[[channel]]
name = "Flight"
order = 7

[[channel]]
name = "Flight/Alpha"

[[channel]]
name = "Ground"
order = 7

[[channel]]
name = "Ground/Alpha"

[[channel]]
name = "Staff"
order = 7

[[channel]]
name = "Closed"
order = 7

[[rule]]
at = "Staff"
for = "everyone"
deny = ["speak"]

[[rule]]
at = "Closed"
for = "everyone"
deny = ["join"]

[[preset]]
name = "patrol"

[[preset.layout]]
for = "role:pilot"
keys = [["Flight"]]

[[preset.layout.net]]
channel = "Flight"
"#;

/// How many programs run at the same time.
const THREADS: usize = 4;
