//! Organisations defined by files.

use super::*;

#[test]
fn the_example_is_applied_once_and_then_matches() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let file = example("meridian-watch.toml");
    let told = ann.told("apply meridian-watch.toml --dry-run", &file);
    assert!(told.text.starts_with("this would\n  define role commander: rank 10"), "{}", told.text);
    assert!(told.text.contains("  make channel Staff: open, at most 12 devices, hidden"));
    assert_eq!(ann.commits, 2, "a dry run changes nothing");
    assert_eq!(ann.shared().sealed.len(), 0);
    let done = ann.told("apply meridian-watch.toml", &file).text;
    assert!(done.contains("made channel Flight/Alpha: open, at most 8 devices"), "{done}");
    assert!(
        done.contains("added preset assault: 4 channels, 4 rules, 0 grants and 6 layouts"),
        "{done}"
    );
    assert!(
        done.ends_with(
            "not in the file, and kept: channel Bridge and role founder (--prune removes them)"
        ),
        "{done}"
    );
    ann.does("revoke founder Ann");
    // A member who cannot read the name of a hidden channel cannot see that it exists already.
    let error = ann.refused("apply it.toml", &file);
    assert!(
        error.starts_with("it.toml, line 84, column 8: there is a hidden channel here already, #"),
        "{error}"
    );
    ann.does("grant commander Ann");
    let (before, commits) = (ann.shared().charter.digest(), ann.commits);
    let again = ann.told("apply meridian-watch.toml", &file);
    assert!(again.text.starts_with("the charter matches meridian-watch.toml\n"), "{}", again.text);
    assert_eq!(again.json["changed"], false);
    assert_eq!((ann.shared().charter.digest(), ann.commits), (before, commits));

    ann.does("grant flight_lead Cat");
    assert!(
        cat.does("why Cat speak Command")
            .contains("the rule for role flight lead in Command allows it")
    );
    assert!(!cat.does("show").contains("Staff"));
    assert!(bob.does("show").contains("Staff"));
    let done = ann.told("apply meridian-watch.toml --prune", &file).text;
    assert_eq!(
        done,
        "removed channel Bridge and all below it, for good\nremoved role founder for good"
    );
    assert!(ann.told("apply meridian-watch.toml --prune", &file).text.contains("matches"));
}

/// After following the README, the founder heard no net: the plan took everybody's rights, and
/// rules that she had set herself do not bind her.
#[test]
fn a_founder_was_deaf_after_applying_a_plan() {
    let file = example("meridian-watch.toml");
    let hears = |ann: &mut Person| {
        for right in ["join", "listen", "speak"] {
            let why = ann.does(&format!("why me {right} Lounge"));
            assert!(why.starts_with(&format!("Ann may {right} in Lounge: ")), "{why}");
        }
    };
    let (_world, mut ann) = World::new();
    ann.told("apply meridian-watch.toml", &file);
    hears(&mut ann);
    assert!(ann.does("show").contains("\n  Ann: founder, stands for the organisation, you\n"));
    // If the file removes that role too, she gets the highest role of the file instead.
    let (_world, mut ann) = World::new();
    let note = "you get the role commander, as no other of yours may join, listen and speak then";
    let told = ann.told("apply meridian-watch.toml --prune --dry-run", &file).text;
    assert!(told.contains("\n  give Ann the role commander everywhere\n"), "{told}");
    assert!(told.ends_with(note), "{told}");
    let done = ann.told("apply meridian-watch.toml --prune", &file).text;
    assert!(done.contains("\ngave Ann the role commander everywhere\n"), "{done}");
    hears(&mut ann);
    // If no role of the file has the rights that she needs, nothing is applied.
    let (_world, mut ann) = World::new();
    let mute = b"[[role]]\nname = \"member\"\ncan = [\"whisper\"]\n";
    let error = ann.refused("apply mute.toml --prune", mute);
    assert!(
        error.starts_with("this would leave you without a role that may join, listen"),
        "{error}"
    );
}

#[test]
fn presets_of_the_example_load_and_unload() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    ann.told("apply meridian-watch.toml", &example("meridian-watch.toml"));
    ann.does("grant commander Ann");
    ann.does("grant pilot Cat");
    ann.does("grant flight_lead Bob");
    let before = bob.does("channel list");
    assert_eq!(bob.does("preset load assault"), "loaded preset assault");
    // Leaders talk on the net of the strike, all others on their own.
    assert!(cat.does("why Cat speak Strike").starts_with("Cat may not speak in Strike: no rule"));
    assert!(
        cat.does("why Cat listen Strike")
            .starts_with("Cat may listen in Strike: the rule for everyone")
    );
    assert!(cat.does("why Cat speak Strike/Air").starts_with("Cat may speak in Strike/Air"));
    assert!(bob.does("why Bob speak Strike").starts_with("Bob may speak in Strike: the role"));
    assert_eq!(bob.charter.state().layouts(cat.member).count(), 1);
    assert!(
        ann.told("apply meridian-watch.toml", &example("meridian-watch.toml"))
            .text
            .contains("matches")
    );
    assert_eq!(bob.does("preset unload assault"), "unloaded preset assault");
    assert_eq!(bob.does("channel list"), before);
    bob.does("preset load patrol");
    assert!(bob.does("channel list").contains("Lark: open, at most 4 devices, from preset patrol"));

    let escort = example("escort.toml");
    bob.told("preset add escort.toml", &escort);
    assert_eq!(bob.told("preset add escort.toml", &escort).text, "nothing to change");
    bob.does("preset load escort");
    assert!(bob.does("channel list").contains("    Escort: 2 talk at a time, from preset escort"));
    let loaded = bob.json("preset list");
    let loaded: Vec<_> = loaded.as_array().unwrap().iter().map(|it| it["loaded"].clone()).collect();
    assert_eq!(loaded.iter().filter(|it| **it == json!(true)).count(), 2);
}

#[test]
fn an_edited_file_changes_what_was_edited_and_nothing_else() {
    let (_world, [mut ann, ..]) = World::three();
    let file = String::from_utf8(example("meridian-watch.toml")).unwrap();
    ann.told("apply it.toml", file.as_bytes());
    ann.does("grant commander Ann");
    let edited = file
        .replace("name = \"Command\"                # one talks", "name = \"Command\" # one talks")
        .replacen("limit = 12", "limit = 16", 1)
        .replacen("rank = 120", "rank = 110", 1)
        .replacen("[[link]]\nbetween = [\"Ground\", \"Medical\"]\n", "", 1);
    let done = ann.told("apply it.toml", edited.as_bytes()).text;
    assert_eq!(
        done,
        "changed role pilot: rank 110, no rights\n\
         changed channel Staff: open, at most 16 devices, hidden\n\
         not in the file, and kept: channel Bridge, role founder and 1 link (--prune removes them)"
    );
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_line_and_column() {
    let (_world, [mut ann, ..]) = World::three();
    let wrong = [
        (
            "[[role]]\nname = \"a\"\nrank = 0\n",
            "f.toml, line 3, column 8: a rank is 1 (the highest) to 250",
        ),
        (
            "[[role]]\nname = \"a\"\nrank = 9\ncan = [\"speak\", \"shuot\"]",
            "f.toml, line 4, column 17: there is no right \"shuot\"",
        ),
        (
            "[[role]]\nname = \"a\"\n",
            "f.toml, line 2, column 8: a role needs a rank, from 1 to 250",
        ),
        (
            "[[channel]]\nname = \"A/B\"\n",
            "f.toml, line 2, column 8: there is no channel called \"A\"",
        ),
        (
            "[[rule]]\nfor = \"role:captain\"\ndeny = [\"speak\"]\n",
            "f.toml, line 2, column 7: there is no role called \"captain\"",
        ),
        (
            "[[rule]]\nfor = \"everyone\"\nat = \"Brigde\"\n",
            "f.toml, line 3, column 6: there is no channel called \"Brigde\"; did you mean Bridge?",
        ),
        ("[[rule]]\nfor = \"everyone\"\n", "f.toml, line 2, column 7: this rule neither allows"),
        ("organisation = \"Other\"\n", "f.toml, line 1, column 16: this file is for Other"),
        (
            "[policy]\noperations-per-day = 0\n",
            "f.toml, line 2, column 22: operations-per-day is 1 or more, not 0",
        ),
        ("[[chanel]]\nname = \"A\"\n", "f.toml, line 1, column 3: unknown field"),
        ("[[channel]\nname = \"A\"\n", "f.toml, line 1, column "),
        ("[[channel]]\nname = \"A\"\nlimit = -1\n", "f.toml, line 3, column 9: "),
        (
            "[[channel]]\nname = \"A\"\nmusic = 64\n",
            "f.toml, line 3, column 9: music is 96 to 192 kbit/s",
        ),
        (
            "[[channel]]\nname = \"A\"\nstereo = true\n",
            "f.toml, line 3, column 10: stereo is for music: say music = 128 as well",
        ),
        (
            "[[channel]]\nname = \"A\"\n[[channel]]\nname = \"A\"\n",
            "f.toml, line 4, column 8: the channel A stands here twice",
        ),
        (
            "[[preset]]\nname = \"p\"\n[[preset.layout]]\nfor = \"everyone\"\n[[preset.layout.net]]\nchannel = \"Bridge\"\npan = 101\n",
            "f.toml, line 7, column 7: pan is",
        ),
    ];
    for (text, expected) in wrong {
        let error = ann.refused("apply f.toml", text.as_bytes());
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    assert!(ann.refused("apply f.toml", &[0xff]).contains("f.toml is no text"));
}
