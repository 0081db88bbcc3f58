//! What is shown of the charter, and why.

use hark_charter::content::RIGHTS;
use hark_commands::{ORGANISATION_EXAMPLE, PRESET_EXAMPLE};

use super::*;

#[test]
fn the_organisation_at_a_glance() {
    let (_world, [mut ann, _, mut cat]) = World::three();
    ann.does("channel add Flight --floor 2");
    let shown = cat.does("show");
    for part in [
        "Meridian Watch\n  id ",
        "\n  3 members, 3 operations, no checkpoint yet\n",
        "a device of Ann\n",
        "the printed recovery key of Ann\n",
        "  1 of 2 keys must sign\n",
        "  officer: rank 30, may join, listen,",
        "; held by Bob\n",
        "  member: everybody, may join, listen, speak, whisper, admit\n",
        "  Ann: founder, stands for the organisation\n",
        "  Bob: officer\n",
        "  Cat: you\n",
        "  Flight: 2 talk at a time\n",
        "\nrules\n  no rules\n",
        "\nmutes and bans\n  nobody is muted or banned\n",
        "\npresets\n  no presets\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("FORKED"));
    // The people come before the roles, which once stood above them.
    let titles = shown.split("\n\n").skip(1).filter_map(|part| part.lines().next());
    assert_eq!(
        titles.collect::<Vec<_>>(),
        [
            "root keys",
            "members",
            "mutes and bans",
            "roles",
            "channels",
            "rules",
            "presets",
            "tickets known here",
            "relays",
            "policies",
        ]
    );
    assert!(shown.contains("\ntickets known here\n  this device knows of no ticket"));
    let json = cat.json("show");
    assert_eq!((&json["name"], &json["forked"]), (&json!("Meridian Watch"), &json!(false)));
    assert_eq!(json["channels"][1]["floor"], 2);
    assert_eq!(json["members"][1]["roles"][0]["role"], "officer");
}

#[test]
fn the_log_tells_who_did_what_and_what_was_denied() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    // Bob acts, Ann revokes his role, and Bob goes on.
    let known = bob.shared().charter.clone();
    bob.does("channel add Early");
    ann.does("revoke officer Bob");
    let mut late = bob.shared().charter.clone();
    let change = {
        use hark_charter::content::{Change, Channel};
        Change::Channel(Channel::open(ChannelId::from_bytes([8; 16]), "Late"))
    };
    // Bob does not know of the revocation, so his operation belongs to the term that was cut.
    let operation = known.edit(&bob.key, bob.member, vec![change]).unwrap();
    late.take_all([Piece::Operation(operation)]);
    bob.shared().charter = late;
    let log = cat.does("log");
    assert!(log.starts_with("founded by Ann\n  defined role member: everybody may join,"), "{log}");
    assert!(log.contains(" Ann, for the organisation\n  defined role officer: rank 30"), "{log}");
    assert!(
        log.contains(
            "  took the role officer everywhere from Bob\n  cut off Bob at what was known then"
        ),
        "{log}"
    );
    assert!(log.contains(" Bob: void, its author signed two operations of one number\n  not done: make channel Late: open"), "{log}");
    let last = cat.json("log -n 1");
    assert_eq!(last.as_array().unwrap().len(), 1);
    assert_eq!(cat.json("log").as_array().unwrap().len(), 6);
}

#[test]
fn a_denied_change_is_told_with_its_reason() {
    use hark_charter::content::{Change, Policy};
    let (_world, [mut ann, bob, mut cat]) = World::three();
    let charter = ann.shared().charter.clone();
    let change = Change::Policy(Policy::OperationsPerDay(5));
    let draft = charter.draft(bob.key.id(), bob.member, Vec::new(), vec![change]);
    let signed = hark_keys::Cosigned::unsigned(draft.unwrap()).signed(&bob.key);
    ann.shared().charter.take(Piece::Operation(signed)).unwrap();
    let log = ann.does("log -n 1");
    let expected = " Bob, with rank 30\n  denied: set operations-per-day to 5: needs the root keys";
    assert!(log.ends_with(expected), "{log}");
    assert_eq!(cat.json("verify")["denied"], 1);
}

#[test]
fn verification_says_what_it_checked() {
    let (_world, [mut ann, ..]) = World::three();
    let text = ann.does("verify");
    assert!(
        text.starts_with("Meridian Watch holds: checked anew from its bytes\n  1 root document:"),
        "{text}"
    );
    assert!(text.contains("  3 certificates: every signature"), "{text}");
    assert!(
        text.contains(
            "  2 operations: every signature, number and parent; 0 void, 0 changes denied"
        ),
        "{text}"
    );
    assert_eq!(ann.json("verify")["holds"], true);
}

#[test]
fn why_names_the_rule_the_role_the_root_or_nothing() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    bob.does("channel add Flight");
    bob.does("channel add Alpha --under Flight");
    bob.does("rule everyone --at Flight --deny speak");
    let why = cat.does("why Cat speak Alpha");
    let lines: Vec<_> = why.lines().collect();
    assert_eq!(
        lines[0],
        "Cat may not speak in Flight/Alpha: the rule for everyone in Flight denies it"
    );
    assert!(lines[1].starts_with("  set by Bob, with rank 30, in operation "), "{why}");
    assert_eq!(
        lines[2..],
        [
            "looked at, the nearest first",
            "  Flight/Alpha: no rule that speaks of it",
            "  Flight: decided here: everyone denies speak",
        ]
    );
    // Bob has set the rule himself, so it binds only those below him.
    let why = cat.does("why Bob speak Alpha");
    assert!(why.contains("Flight: does not bind Bob, who does not stand below whoever set it: everyone denies speak"), "{why}");
    assert!(why.starts_with("Bob may speak in Flight/Alpha: "), "{why}");
    assert!(why.contains("  everywhere: no rule that speaks of it\n  roles held there: member has it and officer has it"), "{why}");
    let why = cat.does("why Bob mute everywhere");
    assert!(why.starts_with("Bob may mute everywhere: the role officer, held everywhere, has it\n  set by Ann, for the organisation, in operation "), "{why}");
    let why = cat.json("why Cat join everywhere");
    assert_eq!(why["decided_by"], json!({"kind": "role", "role": "member", "at": null}));
    let why = cat.does("why Ann manage-channels Alpha");
    assert!(
        why.starts_with("Ann may manage-channels in Flight/Alpha: stands for the organisation"),
        "{why}"
    );
    let why = cat.does("why Cat move Alpha");
    assert!(why.starts_with("Cat may not move in Flight/Alpha: no rule speaks of it, and no role held there has it\nlooked at"), "{why}");
    assert_eq!(cat.json("why Cat move Alpha")["decided_by"]["kind"], "nothing");
    assert_eq!(
        cat.cannot("why Cta move Alpha"),
        "there is no member called \"Cta\"; did you mean Cat?"
    );
    ann.does("kick Cat");
    assert!(bob.cannot("why Cat move Alpha").starts_with("there is no member called \"Cat\""));
}

/// [CHARTER-6.8] A role's permission lost against a denial for everyone, so closing a channel took
/// two places.
#[test]
fn a_channel_could_not_be_closed_to_all_but_a_role() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let added = ann.does("channel add Command --only officer");
    assert_eq!(added.lines().count(), 3, "{added}");
    let why = cat.does("why Cat speak Command");
    assert!(why.ends_with("  Command: decided here: everyone denies join, listen, speak"), "{why}");
    let why = bob.does("why Bob speak Command");
    assert!(
        why.starts_with("Bob may speak in Command: the rule for role officer in Command allows it"),
        "{why}"
    );
    assert!(why.ends_with("  Command: decided here: role officer allows join, listen, speak; less particular: everyone denies join, listen, speak"), "{why}");
    assert_eq!(ann.cannot("channel add Lounge --only member"), "everybody has the role member");
    // Bob has the rights there, but Ann, who stands above him, has closed the channel.
    let ruled = bob.does("rule Cat --at Command --allow speak");
    assert!(ruled.contains("somebody who stands above you denies speak there"), "{ruled}");
    let why = cat.does("why Cat speak Command");
    assert!(why.ends_with("  Command: decided here: everyone denies join, listen, speak; does not count, by who set it: Cat allows speak"), "{why}");
}

/// Each list alone equals its part in `show`.
#[test]
fn lists_are_parts_of_the_whole() {
    let (_world, [mut ann, ..]) = World::three();
    ann.told("apply meridian-watch.toml", &example("meridian-watch.toml"));
    ann.does("grant commander Ann");
    ann.does("preset load patrol");
    let whole = ann.told("show", &[]);
    for (line, name) in [
        ("channel list", "channels"),
        ("role list", "roles"),
        ("preset list", "presets"),
        ("relay list", "relays"),
        ("policy list", "policies"),
        ("root show", "root"),
    ] {
        let part = ann.told(line, &[]);
        assert_eq!(whole.json[name], part.json, "{line}");
        for row in part.text.lines() {
            assert!(
                whole.text.contains(&format!("\n  {row}\n")) || whole.text.ends_with(row),
                "{row}"
            );
        }
    }
}

/// No help listed the rights, and none showed an example file.
#[test]
fn help_named_no_rights_and_showed_no_file() {
    let help = |words: &[&str]| {
        let error = Line::try_parse_from(words.iter().chain(&["--help"])).err().expect("help");
        error.to_string()
    };
    let all = [
        &["charter", "role", "add"][..],
        &["charter", "role", "edit"],
        &["charter", "rule"],
        &["charter", "why"],
        &["charter", "apply"],
    ];
    for words in all {
        let help = help(words);
        for (name, phrase) in RIGHTS {
            assert!(help.contains(&format!("  {name} ")) && help.contains(phrase), "{help}");
        }
    }
    assert!(help(&["charter", "apply"]).contains(ORGANISATION_EXAMPLE));
    assert!(help(&["charter", "preset", "add"]).contains(PRESET_EXAMPLE));
    let page = include_str!("../../../../../docs/officers.md");
    assert!(RIGHTS.iter().all(|(name, _)| page.contains(&format!("`{name}`"))));
}

/// The files that `--help` shows work.
#[test]
fn the_files_of_help_can_be_applied() {
    let (mut world, [mut ann, ..]) = World::three();
    world.join("Osprey");
    let applied = ann.told("apply o.toml", ORGANISATION_EXAMPLE.as_bytes()).text;
    assert!(applied.contains("Flight/Alpha: one talks at a time"), "{applied}");
    let again = ann.told("apply o.toml", ORGANISATION_EXAMPLE.as_bytes()).text;
    assert!(again.starts_with("the charter matches o.toml"), "{again}");
    let added = ann.told("preset add p.toml", PRESET_EXAMPLE.as_bytes()).text;
    assert!(added.contains("1 channel, 1 rule, 1 grant and 1 layout"), "{added}");
    // Within an organisation's file, the parts of a preset have their full names.
    let parts = PRESET_EXAMPLE.replace("\n  [[", "\n  [[preset.");
    let whole = format!("{ORGANISATION_EXAMPLE}\n[[preset]]\n{parts}");
    let matches = ann.told("apply o.toml", whole.as_bytes()).text;
    assert!(matches.starts_with("the charter matches o.toml"), "{matches}");
}
