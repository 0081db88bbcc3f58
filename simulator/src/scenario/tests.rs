use hark_node::snapshot::{Command, NetChange, TalkTo};

use super::*;

fn parse(text: &str) -> Result<Cast, String> {
    let path = Path::new("story.toml");
    let cast = Scenario::parse(path, "story".to_owned(), text, Path::new("."));
    cast.map_err(|problem| problem.to_string())
}

fn problem(text: &str) -> String {
    parse(text).expect_err("it is wrong")
}

const TWO: &str = r#"
purpose = "Two talk."
duration = "5s"
[[members]]
name = "Kestrel"
says = [{ at = "1s", sound = "english" }]
[[members]]
name = "Wren"
"#;

#[test]
fn the_first_member_founds_and_the_others_join_it() {
    let cast = parse(TWO).expect("it is right");
    let joins: Vec<_> = cast.actors.iter().map(|actor| actor.joins).collect();
    assert_eq!(joins, [None, Some(0)]);
    assert_eq!(cast.scenario.duration.as_duration(), Duration::from_secs(5));
    assert!(!cast.actors[0].script.is_empty() && cast.actors[1].script.is_empty());
}

#[test]
fn a_count_makes_several_of_a_kind() {
    let cast = parse(&format!("{TWO}count = 3\n")).expect("it is right");
    let names: Vec<_> = cast.actors.iter().map(|actor| actor.name.as_str()).collect();
    assert_eq!(names, ["Kestrel", "Wren-1", "Wren-2", "Wren-3"]);
}

#[test]
fn a_network_lies_in_the_one_above_however_they_are_written() {
    let text = format!(
        "{TWO}network = \"attic\"\n[networks.attic]\nwithin = \"carrier\"\nnat = \"home\"\n\
         [networks.carrier]\nnat = \"carrier-grade\"\n"
    );
    let cast = parse(&text).expect("it is right");
    let attic = cast.plan.hosts[1].network;
    let carrier = cast.plan.networks[attic].parent.expect("it lies in one");
    assert_eq!(cast.plan.networks[carrier].name, "carrier");
    assert_eq!(cast.plan.networks[carrier].parent, Some(0));
}

#[test]
fn an_unknown_key_is_answered_with_its_place_and_the_one_that_was_meant() {
    let text = TWO.replace("sound =", "sond =");
    assert_eq!(problem(&text), "story.toml:6:22: unknown field `sond`: did you mean `sound`?");
}

#[test]
fn an_unknown_member_is_answered_with_its_place_and_the_one_that_was_meant() {
    let text = format!("{TWO}[[expect]]\nlistener = \"Wern\"\n");
    assert_eq!(
        problem(&text),
        "story.toml:10:12: no member is called \"Wern\": did you mean \"Wren\"?"
    );
    let text = format!("{TWO}[[faults]]\nat = \"1s\"\ncrash = \"Condor\"\n");
    assert_eq!(
        problem(&text),
        "story.toml:11:9: no member is called \"Condor\": there is Kestrel, Wren"
    );
}

#[test]
fn an_unknown_sound_link_or_network_is_answered_with_its_place() {
    let sound = problem(&TWO.replace("\"english\"", "\"klingon\""));
    assert!(sound.starts_with("story.toml:6:30: no sound is called \"klingon\""), "{sound}");
    let link = problem(&format!("{TWO}link = \"dsll\"\n[links.dsl]\nboth = {{}}\n"));
    assert_eq!(link, "story.toml:9:8: no link is called \"dsll\": did you mean \"dsl\"?");
    let network = problem(&format!("{TWO}network = \"flat\"\n"));
    assert!(network.starts_with("story.toml:9:11: no network is called \"flat\""), "{network}");
}

#[test]
fn a_mistake_within_a_link_keeps_its_place() {
    let text = format!("{TWO}link = {{ both = {{ dealy = \"5ms\" }} }}\n");
    assert_eq!(problem(&text), "story.toml:9:19: unknown field `dealy`: did you mean `delay`?");
    let text = format!("{TWO}link.both.delay = \"5\"\n");
    assert!(problem(&text).starts_with("story.toml:9:19: "), "{}", problem(&text));
}

#[test]
fn networks_in_a_circle_are_refused() {
    let text = format!("{TWO}[networks.a]\nwithin = \"b\"\n[networks.b]\nwithin = \"a\"\n");
    assert!(problem(&text).contains("no network is called"), "{}", problem(&text));
}

#[test]
fn a_fault_is_one_thing() {
    let none = problem(&format!("{TWO}[[faults]]\nat = \"2s\"\n"));
    assert!(none.contains("the fault at 2s must be one thing"), "{none}");
    let both = format!("{TWO}[[faults]]\nat = \"2s\"\ncrash = \"Wren\"\nquit = \"Wren\"\n");
    assert!(problem(&both).contains("must be one thing"), "{}", problem(&both));
    let endless = problem(&format!("{TWO}[[faults]]\nat = \"2s\"\npause = \"Wren\"\n"));
    assert_eq!(endless, "story.toml:11:9: needs `for`, the length of the pause");
}

#[test]
fn a_cut_is_of_both_ways_unless_it_says_otherwise() {
    let cut = |more: &str| {
        let text = format!("{TWO}[[faults]]\nat = \"2s\"\ncut = \"Kestrel\"\n{more}");
        match parse(&text).expect("it is right").faults.remove(0).1 {
            FaultKind::Cut { pairs, .. } => pairs,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(cut(""), [(0, 1), (1, 0)]);
    assert_eq!(cut("one_way = true\n"), [(0, 1)]);
}

#[test]
fn one_alone_is_no_squad() {
    let text = "purpose = \"p\"\nduration = \"1s\"\n[[members]]\nname = \"Kestrel\"\n";
    assert_eq!(problem(text), "story.toml: there are 2 to 64 members, not 1");
}

#[test]
fn the_founder_alone_names_the_organisation() {
    let cast = parse(&format!("organisation = \"Watch\"\n{TWO}")).expect("it is right");
    let founds: Vec<_> = cast.actors.iter().map(|actor| actor.founds.as_deref()).collect();
    assert_eq!(founds, [Some("Watch"), None]);
}

fn order(words: &str, more: &str) -> Result<Instruction, String> {
    let text = format!("{TWO}[[orders]]\nat = \"2s\"\nby = \"Wren\"\ndo = {words}\n{more}");
    parse(&text).map(|mut cast| cast.orders.remove(0))
}

#[test]
fn an_order_is_in_the_words_of_the_charter_or_of_the_radio() {
    let add = order(r#"["charter", "channel", "add", "Flight"]"#, "refused = \"right\"\n");
    let add = add.expect("it is right");
    assert_eq!((add.at, add.member), (Duration::from_secs(2), 1));
    assert_eq!(add.text, "charter channel add Flight");
    assert_eq!(add.refused.as_deref(), Some("right"));
    assert!(matches!(add.kind, InstructionKind::Charter(_)), "{:?}", add.kind);
    let nets = |nets: &[&str]| TalkTo::nets(nets.iter().map(ToString::to_string).collect());
    let text = |text: &str| text.to_owned();
    let both = nets(&["Flight", "Command"]);
    let whisper = TalkTo {
        members: vec![text("Kestrel")],
        roles: vec![text("Flight lead")],
        ..TalkTo::default()
    };
    let loud = TalkTo { priority: true, ..nets(&["Flight"]) };
    let change =
        NetChange { volume: Some(0.5), pan: Some(-1.0), priority: Some(9), ..NetChange::default() };
    let radio = [
        (r#"["listen", "Flight"]"#, Command::Listen { net: text("Flight"), on: true, keep: false }),
        (
            r#"["unlisten", "Flight"]"#,
            Command::Listen { net: text("Flight"), on: false, keep: false },
        ),
        (r#"["talk-to", "Flight", "Command"]"#, Command::TalkTo { to: both.clone(), keep: false }),
        (r#"["key", "k", "Flight", "Command"]"#, Command::Key { key: text("k"), to: Some(both) }),
        (r#"["key", "k"]"#, Command::Key { key: text("k"), to: None }),
        (
            r#"["key", "k", "--whisper", "Kestrel", "--role", "Flight lead"]"#,
            Command::Key { key: text("k"), to: Some(whisper) },
        ),
        (r#"["talk-to", "Flight", "--priority"]"#, Command::TalkTo { to: loud, keep: false }),
        (
            r#"["net", "Flight", "--volume", "0.5", "--pan", "-1", "--priority", "9"]"#,
            Command::Net { net: text("Flight"), change },
        ),
        (
            r#"["press", "k"]"#,
            Command::Ptt {
                down: true,
                key: Some(text("k")),
                to: None,
                for_secs: None,
                tail_ms: None,
            },
        ),
        (
            r#"["release", "k"]"#,
            Command::Ptt {
                down: false,
                key: Some(text("k")),
                to: None,
                for_secs: None,
                tail_ms: None,
            },
        ),
    ];
    for (words, command) in radio {
        match order(words, "").expect("it is right").kind {
            InstructionKind::Radio(read) => assert_eq!(read, command, "{words}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_order_that_means_nothing_is_answered_with_its_place_and_what_was_meant() {
    let problem = |words, more| order(words, more).expect_err("it is wrong");
    let lisen = problem(r#"["lisen", "Flight"]"#, "");
    assert!(lisen.starts_with("story.toml:12:6: unrecognized subcommand 'lisen'"), "{lisen}");
    assert!(lisen.contains("'listen'"), "{lisen}");
    let no_net = problem(r#"["unlisten"]"#, "");
    assert!(no_net.contains("<NET>") && !no_net.contains("Usage"), "{no_net}");
    let nobody = problem(r#"["talk-to", "--priority"]"#, "");
    assert!(nobody.starts_with("story.toml:12:6: name a net, or a person"), "{nobody}");
    assert!(problem("[]", "").starts_with("story.toml:12:6: "));
    let chanel = problem(r#"["charter", "chanel", "list"]"#, "");
    assert!(chanel.starts_with("story.toml:12:6: unrecognized subcommand 'chanel'"), "{chanel}");
    assert!(chanel.contains("'channel'"), "{chanel}");
    let nothing = problem(r#"["charter", "channel", "add"]"#, "");
    assert!(nothing.contains("<NAME>") && !nothing.contains("Usage"), "{nothing}");
    let text = format!("{TWO}[[orders]]\nat = \"2s\"\nby = \"Wern\"\ndo = [\"press\", \"k\"]\n");
    assert!(parse(&text).expect_err("it is wrong").starts_with("story.toml:11:6: no member is"));
}

#[test]
fn what_an_order_reads_is_read_with_the_scenario() {
    let words = r#"["charter", "preset", "add", "no-such.toml"]"#;
    let problem = order(words, "").expect_err("it is wrong");
    assert!(problem.starts_with("story.toml:12:6: ./no-such.toml cannot be read"), "{problem}");
    let here = order(r#"["charter", "apply", "Cargo.toml"]"#, "").expect("there is such a file");
    let InstructionKind::Charter(mut request) = here.kind else { panic!("{:?}", here.kind) };
    assert!(!request.input().expect("it reads one").content.is_empty());
}

#[test]
fn a_radio_is_set_as_for_talk_and_a_press_names_its_key() {
    let radio = "channels = [\"Flight\"]\ntalk_to = [\"Command\"]\n\
                 presses = [{ at = \"1s\", for = \"1s\", key = \"Command\" }]\n";
    let cast = parse(&format!("{TWO}{radio}")).expect("it is right");
    let wren = &cast.actors[1].member;
    assert_eq!(
        (&wren.channels[..], &wren.talk_to[..]),
        (&["Flight".into()][..], &["Command".into()][..])
    );
    assert_eq!(wren.presses[0].key.as_deref(), Some("Command"));
}

#[test]
fn relays_are_machines_after_those_of_members() {
    let text = format!(
        "{TWO}[[relays]]\nname = \"Beacon\"\nkbps = 500\n[[faults]]\nat = \"2s\"\ncrash = \"Beacon\"\n\
         [[faults]]\nat = \"3s\"\ncut = [\"Beacon\"]\n[[faults]]\nat = \"4s\"\ndrain = \"Beacon\"\n"
    );
    let cast = parse(&text).expect("it is right");
    assert_eq!(cast.plan.hosts[2].name, "Beacon");
    let faults: Vec<_> = cast.faults.iter().map(|(_, fault)| fault).collect();
    assert!(matches!(faults[0], FaultKind::Crash { member: 2, .. }));
    let FaultKind::Cut { pairs, .. } = faults[1] else { panic!("{faults:?}") };
    assert_eq!(*pairs, [(2, 0), (2, 1), (0, 2), (1, 2)]);
    assert!(matches!(faults[2], FaultKind::Drain { relay: 0, lasting: None }));
    let relay = &cast.scenario.relays[0];
    let founder = hark_keys::DeviceKey::from_secret(&[1; 32]).id();
    let request = relay.named(founder.to_string(), "198.18.0.3:4870".to_owned());
    assert!(format!("{request:?}").contains("kbps: 500"), "{request:?}");
    assert!(problem(&text.replace("crash = \"Beacon\"", "crash = \"Beaco\"")).contains("Beaco"));
    let twin = text.replace("[[relays]]\nname = \"Beacon\"", "[[relays]]\nname = \"Wren\"");
    assert!(problem(&twin).contains("two machines are called \"Wren\""));
}

#[test]
fn a_path_that_there_is_not_is_answered_with_those_that_there_are() {
    let text = format!("{TWO}[[expect]]\npath = [\"direct\", \"tunnel\"]\n");
    let told = "no path is called \"tunnel\": there is direct, punched, relay";
    assert!(problem(&text).ends_with(told), "{}", problem(&text));
}

#[test]
fn a_rule_is_waived_with_a_reason() {
    let waives = |rule: &str, reason: &str| {
        format!("{TWO}[[waive]]\nrule = \"{rule}\"\nreason = \"{reason}\"\n")
    };
    let cast = parse(&waives("sent-by-right", "the relay leaks")).expect("it is right");
    assert_eq!(cast.scenario.waive[0].rule.get_ref(), &WaiverRule::SentByRight);
    let reasonless = problem(&waives("leaver", " "));
    assert_eq!(reasonless, "story.toml:10:8: say in `reason` why the rule does not count");
    let slip = problem(&waives("leavers", "it stays"));
    assert!(slip.ends_with("unknown variant `leavers`: did you mean `leaver`?"), "{slip}");
}
