//! What commands come to, as data. What is printed of it is tested with the program `hark`.

mod world;

use std::time::Duration;

use hark_commands::{
    Able, At, ChangeView, CharterRefusal, CheckpointStep, CommandError, DecisionView, FileFault,
    Holder, InputFile, LogEntry, Missing, Mistake, MuteOrBan, Need, Note, Outcome, RequestSubject,
    Rights, Step, Unchanged, Until, Wish, execute, sign_with,
};
use hark_keys::DeviceKey;
use serde_json::json;

use self::world::{NOW, Person, World, example};

fn at(path: &str) -> At {
    At(Some(path.to_owned()))
}

fn rights(names: &[&str]) -> Rights {
    Rights(names.iter().map(ToString::to_string).collect())
}

/// The changes that a command has made.
fn changes(person: &mut Person, line: &str) -> Vec<ChangeView> {
    match person.with(line, &[]) {
        Outcome::Changed { changes, .. } => changes,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_change_is_told_with_its_names_and_with_the_id_to_go_on_with() {
    let (_world, [_, mut bob, _]) = World::three();
    let line = "channel add Flight --floor 2 --limit 8";
    let planned = match bob.with(&format!("{line} --dry-run"), &[]) {
        Outcome::DryRun { changes, .. } => changes,
        other => panic!("{other:?}"),
    };
    let Outcome::Changed { changes, operations, about, notes } = bob.with(line, &[]) else {
        panic!("nothing was changed");
    };
    assert_eq!((&planned, operations.len(), notes.as_slice()), (&changes, 1, [].as_slice()));
    let [ChangeView::Channel { new: true, path, called: None, look }] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!((path.as_str(), look.floor, look.limit, look.hidden), ("Flight", Some(2), 8, false));
    let flight = bob.charter.state().channels().find(|it| it.limit == 8).expect("it is there");
    assert_eq!(about, Some(RequestSubject::Channel(flight.id.to_string())));
    let again = bob.with("channel edit Flight --floor 2", &[]);
    assert_eq!(again, Outcome::Unchanged { why: Unchanged::Same, notes: Vec::new() });
}

#[test]
fn a_refusal_says_what_is_missing_and_who_could() {
    let (mut world, [mut ann, mut bob, mut cat]) = World::three();
    let refusal = |error| match error {
        CommandError::Refused(refusal) => *refusal,
        other => panic!("{other:?}"),
    };
    let CharterRefusal::Denied { wish: Wish::Change(change), need, able } =
        refusal(cat.cannot_with("channel add Den", &[]))
    else {
        panic!("no change was denied");
    };
    assert_eq!(change.words(), ("make", "channel Den".to_owned()));
    assert_eq!(need, Need::Right(rights(&["manage-channels"]), At(None)));
    assert_eq!(able, Able::Members(vec!["Ann".to_owned(), "Bob".to_owned()], 0));
    let CharterRefusal::Denied { need, able, .. } = refusal(bob.cannot_with("kick Ann", &[]))
    else {
        panic!("no change was denied");
    };
    assert_eq!(need, Need::Above { person: "Ann".to_owned(), higher: true, rank: 0 });
    assert_eq!(able, Able::Members(Vec::new(), 0));
    // More than five are not named.
    for name in ["Dan", "Eve", "Fay", "Gus"] {
        world.join(name);
        ann.with(&format!("grant officer {name}"), &[]);
    }
    let CharterRefusal::Denied { able: Able::Members(named, more), .. } =
        refusal(cat.cannot_with("channel add Den", &[]))
    else {
        panic!("no change was denied");
    };
    assert_eq!((named.len(), more), (5, 1));
}

#[test]
fn what_a_file_has_wrong_is_a_mistake_at_a_place_in_it() {
    let (_world, mut ann) = World::new();
    let text = b"[[role]]\nname = \"a\"\nrank = 0\n";
    let CommandError::InFile { path, line, column, error } = ann.cannot_with("apply f.toml", text)
    else {
        panic!("it was no place in a file");
    };
    assert_eq!((path.as_str(), line, column), ("f.toml", 3, 8));
    let CommandError::Mistake(mistake) = *error else { panic!("{error:?}") };
    assert!(matches!(*mistake, Mistake::RankRange), "{mistake:?}");
    let error = ann.cannot_with("sign d.txt", b"hello");
    assert!(
        matches!(error, CommandError::File { fault, .. } if matches!(*fault, FileFault::NoDraft))
    );
    let near = match ann.cannot_with("channel edit Brigde --open", &[]) {
        CommandError::Unknown { what: "channel", near, .. } => near,
        other => panic!("{other:?}"),
    };
    assert_eq!(near, ["Bridge"]);
}

#[test]
fn applying_a_file_notes_what_it_does_not_name() {
    let (_world, mut ann) = World::new();
    let file = example("meridian-watch.toml");
    let Outcome::Changed { changes, about, notes, .. } = ann.with("apply it.toml", &file) else {
        panic!("nothing was changed");
    };
    assert!(changes.len() > 20 && about == Some(RequestSubject::File("it.toml".to_owned())));
    let [Note::NotInFile { channels, roles, presets, rules: 0, links: 0 }] = notes.as_slice()
    else {
        panic!("{notes:?}");
    };
    assert_eq!((channels, roles), (&vec!["Bridge".to_owned()], &vec!["founder".to_owned()]));
    assert!(presets.is_empty());
    let again = ann.with("apply it.toml --dry-run", &file);
    assert!(matches!(again, Outcome::Unchanged { why: Unchanged::Matches(_), .. }), "{again:?}");
}

#[test]
fn a_mute_ends_by_the_calendar() {
    let (_world, [_, mut bob, cat]) = World::three();
    let until = Until(Some(NOW.as_secs() + 600));
    let muted = ChangeView::Sanction {
        person: "Cat".to_owned(),
        kind: MuteOrBan::Mute,
        at: At(None),
        until,
    };
    assert_eq!(changes(&mut bob, "mute Cat --for 10m"), [muted]);
    let decided = |bob: &mut Person| match bob.with("why Cat speak everywhere", &[]) {
        Outcome::Why(why) => (why.allowed, why.decided_by, why.chain.len()),
        other => panic!("{other:?}"),
    };
    let by_mute = DecisionView::Mute { at: At(None), until };
    assert_eq!(decided(&mut bob), (false, by_mute, 1));
    cat.shared().now = NOW + Duration::from_secs(600);
    let (allowed, decided_by, _) = decided(&mut bob);
    assert!(allowed && matches!(decided_by, DecisionView::Role { everybody: true, .. }));
    let lifted = bob.with("unmute Cat --at Bridge", &[]);
    let why = Unchanged::NotInForce {
        person: "Cat".to_owned(),
        kind: MuteOrBan::Mute,
        at: at("Bridge"),
        elsewhere: Vec::new(),
    };
    assert_eq!(lifted, Outcome::Unchanged { why, notes: Vec::new() });
}

#[test]
fn what_decides_is_the_last_that_was_looked_at() {
    let (_world, [_, mut bob, mut cat]) = World::three();
    bob.with("channel add Flight", &[]);
    bob.with("rule everyone --at Flight --deny speak", &[]);
    let Outcome::Why(why) = cat.with("why me speak Flight", &[]) else { panic!("no reason") };
    let Some(Step::Place { at: place, deciding, .. }) = why.chain.last() else {
        panic!("{:?}", why.chain);
    };
    assert_eq!((place, deciding.len()), (&at("Flight"), 1));
    assert_eq!(deciding[0].deny, rights(&["speak"]));
    assert!(!why.allowed);
}

#[test]
fn nobody_is_shown_what_is_hidden_from_them() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    ann.with("role edit member --can listen,speak", &[]);
    bob.with("channel add Vault --hidden", &[]);
    let paths = |person: &mut Person| match person.with("channel list", &[]) {
        Outcome::Channels(all) => all.into_iter().map(|it| it.channel.path).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(paths(&mut bob), ["Bridge", "Vault"]);
    assert_eq!(paths(&mut cat), ["Bridge"]);
    let Outcome::Log(log) = cat.with("log", &[]) else { panic!("no log") };
    let said = format!("{log:?}{:?}", cat.with("show", &[]));
    assert!(!said.contains("Vault") && matches!(log[0], LogEntry::Founded { .. }), "{said}");
}

#[test]
fn a_draft_says_which_signatures_it_lacks() {
    let (mut world, mut ann) = World::new();
    let eve = world.join_with_words("Eve");
    let line = format!("root propose --add {} --threshold 2 root.txt", eve.key.id());
    let drafted = ann.with(&line, &[]);
    let Outcome::RootDrafted { missing: Some(Missing::Needs(needs)), notes, .. } = &drafted else {
        panic!("{drafted:?}");
    };
    assert_eq!((needs.len(), notes.as_slice()), (2, [Note::OneDraft(2)].as_slice()));
    let content = drafted.file().expect("a draft").content.clone();
    let refused = ann.cannot_with("import root.txt", &content);
    let CommandError::File { fault, .. } = refused else { panic!("{refused:?}") };
    assert!(matches!(*fault, FileFault::Unsigned(Missing::Needs(_))), "{fault}");
    // A key that belongs to no node signs without one.
    let file = InputFile { path: "root.txt".to_owned(), content };
    let key = DeviceKey::from_secret(&[5; 32]);
    let signed = sign_with(&key, None, &file).expect("a root document may be signed by any key");
    assert!(signed.file().is_some_and(|signed| signed.content != file.content));
    let Outcome::Root(root) = ann.with("root show", &[]) else { panic!("no root") };
    let holders: Vec<_> = root.keys.into_iter().map(|it| it.holder).collect();
    assert!(holders.contains(&Holder::Device("Ann".to_owned())), "{holders:?}");
    assert!(holders.contains(&Holder::Printed("Ann".to_owned())), "{holders:?}");
    ann.with("channel add Den", &[]);
    let settled = ann.with("checkpoint", &[]);
    assert!(
        matches!(settled, Outcome::Checkpoint { number: 1, step: CheckpointStep::Settled, .. }),
        "{settled:?}"
    );
}

#[test]
fn an_outcome_travels_as_the_page_of_the_local_api_shows() {
    let page = include_str!("../../../../docs/api.md");
    let start = page.find("{\"id\": 4, \"ok\": true").expect("the answer is on the page");
    let shown = page[start..].split("```").next().expect("a block");
    let mut shown: serde_json::Value = serde_json::from_str(shown).expect("JSON");
    let (mut world, [_, mut bob, _]) = World::three();
    let wren = world.join("Wren");
    bob.with("channel add Flight", &[]);
    let muted = serde_json::to_value(bob.with("mute Wren --at Flight", &[])).expect("JSON");
    let shown = &mut shown["answer"]["changed"];
    shown["operations"] = muted["changed"]["operations"].clone();
    shown["about"]["sanction"]["member"] = wren.member.to_string().into();
    assert_eq!(*shown, muted["changed"]);
}

/// A program sends requests that no command line lets through.
#[test]
fn music_of_a_request_is_checked_too() {
    let (_world, [_, mut bob, _]) = World::three();
    bob.with("channel add Hangar", &[]);
    for (mut edit, expected) in [
        (json!({"music": 95}), "music is 96 to 192 kbit/s"),
        (json!({"stereo": true}), "stereo is for music: say music = 128 as well"),
    ] {
        edit["channel"] = json!("Hangar");
        let request =
            serde_json::from_value(json!({"channel": {"edit": edit}})).expect("a request");
        let error = execute(&mut bob, request).expect_err("it makes no sense");
        assert_eq!(error.to_string(), expected);
    }
}
