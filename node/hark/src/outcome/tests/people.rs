//! Which person is meant, who leaves, and by which devices a person acts.

use hark_commands::consent;

use super::*;

#[test]
fn people_are_named_by_name_number_or_device() {
    let (mut world, [mut ann, ..]) = World::three();
    let other = world.join("Cat");
    let short = other.member.short();
    let error = ann.cannot("grant officer Cat");
    assert!(error.starts_with("several members are called \"Cat\": Cat#"), "{error}");
    assert_eq!(
        ann.does(&format!("grant officer Cat#{short}")),
        format!("gave Cat#{short} the role officer everywhere")
    );
    ann.does(&format!("revoke officer {}", other.key.id()));
    assert!(
        ann.does(&format!("grant officer #{short} bob"))
            .contains("Bob has the role officer everywhere already")
    );
    assert_eq!(ann.cannot("kick Dan"), "there is no member called \"Dan\"");
    assert!(ann.does("why me admit everywhere").starts_with("Ann may admit everywhere: "));
    let stranger = DeviceKey::from_secret(&[3; 32]).id();
    assert!(ann.cannot(&format!("kick {stranger}")).starts_with("there is no member called"));
}

#[test]
fn whoever_is_kicked_is_gone() {
    let (_world, [mut ann, mut bob, cat]) = World::three();
    assert!(bob.would("kick Cat").starts_with("this would\n  end the membership of Cat\n"));
    assert!(bob.does("kick Cat").starts_with("ended the membership of Cat\n"));
    assert!(!bob.charter.is_member(cat.member));
    assert_eq!(ann.cannot("kick Ann"), "nobody ends their own membership");
    assert!(
        ann.does("log -n 1")
            .contains(&format!("ended the membership of Cat#{}", cat.member.short()))
    );
}

#[test]
fn a_second_device_consents_acts_and_is_retired() {
    let (mut world, [_, mut bob, mut cat]) = World::three();
    let code = bob.json("device list")["code"].as_str().unwrap().to_owned();
    let tablet = DeviceKey::from_secret(&[7; 32]);
    let consented = text(&consent(&tablet, &code).unwrap());
    assert!(
        cat.cannot(&format!("device add {consented}"))
            .starts_with("this consent is for another person")
    );
    let line = format!("device add {consented}");
    assert_eq!(
        bob.would(&line),
        format!("this would\n  add device {} as one of its own", tablet.id())
    );
    assert_eq!(bob.does(&line), format!("added device {} as one of its own", tablet.id()));
    assert_eq!(bob.does(&line), "nothing to change");
    assert!(bob.does("device list").contains(&format!("  {}\n", tablet.id())));
    let mut tablet = world.person("Bob", tablet);
    assert_eq!(tablet.member, bob.member);
    assert_eq!(tablet.does("channel add Den"), "made channel Den: open");
    assert!(
        tablet.cannot(&format!("device retire {}", bob.key.id())).contains("is senior to this one")
    );
    let retired = bob.does(&format!("device retire {}", tablet.key.id().short()));
    assert_eq!(retired, format!("retired device {} for good", tablet.key.id()));
    assert!(bob.does("channel list").contains("Den"), "what it did before stands");
    assert!(tablet.cannot("channel add Late").starts_with("refused: "));
    assert!(bob.cannot(&line).contains("cannot be added"));
    assert!(bob.cannot("device add nonsense").starts_with("this is no consent"));
    assert!(
        consent(&tablet.key, "nonsense").unwrap_err().to_string().starts_with("this is no code")
    );
}

#[test]
fn a_device_that_retires_itself_has_the_last_word() {
    let (mut world, [_, mut bob, _]) = World::three();
    let tablet = DeviceKey::from_secret(&[7; 32]);
    let code = bob.json("device list")["code"].as_str().unwrap().to_owned();
    bob.does(&format!("device add {}", text(&consent(&tablet, &code).unwrap())));
    let mut tablet = world.person("Bob", tablet);
    tablet.does("channel add Den");
    assert!(
        tablet
            .does(&format!("device retire {}", tablet.key.id()))
            .ends_with("it cannot act for you any more")
    );
    assert!(bob.does("log -n 1").contains("retired device"));
    assert!(!bob.does("log").contains("void"));
    assert!(bob.does("channel list").contains("Den"));
}

/// A member who had left stayed in the list of members, without a name.
#[test]
fn who_has_left_stayed_as_a_nameless_member() {
    let (mut world, [mut ann, mut bob, _]) = World::three();
    let mut dan = world.join_with_words("Dan");
    ann.does("grant officer Dan");
    ann.does("channel add Flight");
    let members = |ann: &mut Person| ann.json("show")["members"].as_array().map(Vec::len);
    assert_eq!(members(&mut ann), Some(4));
    assert!(!ann.does("show").contains("\nleft\n"));
    dan.does(&format!("device retire {}", dan.key.id()));
    assert_eq!(members(&mut ann), Some(3));
    let shown = ann.does("show");
    let left = format!(
        "\nleft\n  Dan#{}: can come back as officer by the words of the recovery key\n",
        dan.member.short()
    );
    assert!(shown.contains(&left) && shown.contains("\n  3 members, "), "{shown}");
    // A kick keeps a former officer from coming back with that role.
    let ended = format!("ended the membership of Dan#{}\n", dan.member.short());
    assert!(ann.does("kick Dan").starts_with(&ended));
    assert!(!bob.does("show").contains("\nleft\n"));
}
