use std::path::Path;

use hark_keys::DeviceKey;
use proptest::{collection, option, prelude::*};

use super::*;

fn read(text: &str) -> Result<Profiles, ProfileError> {
    Profiles::read(Path::new("/home/profiles.toml"), text)
}

fn refused(text: &str) -> String {
    let line = read(text).expect_err(text).to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

fn device(index: u8) -> DeviceId {
    DeviceKey::from_secret(&[index; 32]).id()
}

const BY_HAND: &str = r#"
version = 1
used = "pilot"

[profiles.officer]

[profiles.pilot]
hear = ["Command", "Flight"]
ducking_db = -12
transmit = "ptt"
talk_to = { nets = ["Flight"] }

[profiles.pilot.nets.Command]
volume = 0.5
muted = true

[profiles.pilot.keys."mouse 4"]
roles = ["Pilot"]
members = ["Wren"]
priority = true
"#;

#[test]
fn what_a_person_has_written_is_read() {
    let profiles = read(BY_HAND).expect("well written");
    assert_eq!(profiles.used(), "pilot");
    assert_eq!(profiles.names().collect::<Vec<_>>(), ["officer", "pilot"]);
    let pilot = profiles.current();
    let hear = pilot.hear().expect("chosen");
    assert_eq!(hear.iter().collect::<Vec<_>>(), ["Command", "Flight"]);
    assert_eq!((pilot.ducking_db(), pilot.transmit()), (Some(-12.0), Some(TransmitMode::Ptt)));
    assert_eq!(pilot.talk_to(), Some(&TalkTo::nets(vec!["Flight".to_owned()])));
    let command = NetChange { volume: Some(0.5), muted: Some(true), ..NetChange::default() };
    assert_eq!(pilot.net("command"), command);
    assert_eq!(pilot.net("Flight"), NetChange::default());
    let key = TalkTo {
        nets: Vec::new(),
        members: vec!["Wren".to_owned()],
        roles: vec!["Pilot".to_owned()],
        priority: true,
    };
    assert_eq!(pilot.keys(), &BTreeMap::from([("mouse 4".to_owned(), key)]));
}

#[test]
fn what_a_person_reads_is_plain() {
    let mut profiles = Profiles::default();
    let profile = profiles.current_mut();
    let softer = NetChange { volume: Some(0.8), ..NetChange::default() };
    profile.set_net("Command", softer).expect("room");
    profile.set_volume(device(1), 0.1).expect("room");
    profile.bind("mouse4", Some(TalkTo::nets(vec!["Flight".to_owned()]))).expect("room");
    let text = profiles.to_text();
    let body: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let volume = format!("{} = 0.1", device(1));
    let expected = [
        "version = 1",
        "used = \"default\"",
        "",
        "[profiles.default.nets.Command]",
        "volume = 0.8",
        "",
        "[profiles.default.keys.mouse4]",
        "nets = [\"Flight\"]",
        "",
        "[profiles.default.volumes]",
        &volume,
    ];
    assert_eq!(body, expected);
}

#[test]
fn a_mistake_is_named_with_its_line() {
    for (wrong, words) in [
        ("version = 1", "line 1: missing field `used`"),
        ("used = \"pilot\"", "line 1: missing field `version`"),
        ("version = 2\nmood = \"new\"", "newer version of Hark"),
        ("version = 1\nused = \"a b\"", "1 to 32 letters"),
        ("version = 1\nused = \"a\"\n[profiles.a]\nhears = []", "line 4: unknown field `hears`"),
        ("version = 1\nused = \"a\"\n[profiles.a.nets.x]\nvolum = 1.0", "unknown field `volum`"),
        ("version = 1\nused = \"a\"\n[profiles.a.keys.x]\nnet = []", "unknown field `net`"),
        ("version = 1\nused = \"a\"\n[profiles.a.talk_to]\nnet = []", "unknown field `net`"),
        ("version = 1\nused = \"a\"\n[profiles.a.nets.x]\nvolume = 9.0", "volume is 0 to 4"),
        ("version = 1\nused = \"a\"\n[profiles.a.nets.x]\npan = nan", "pan is -1 to 1"),
        ("version = 1\nused = \"a\"\n[profiles.a]\nducking_db = 3.0", "ducking_db is 0 to -60"),
        ("version = 1\nused = \"a\"\n[profiles.a]\nhear = [\"\"]", "is no name"),
        ("version = 1\nused = \"a\"\n[profiles.a.volumes]\nWren = 1.0", "is no device"),
        ("version = 1\nused = \"a\"\nused = \"b\"", "line 3: duplicate key"),
        ("\u{feff}{", "line 1"),
    ] {
        let line = refused(wrong);
        assert!(line.starts_with("/home/profiles.toml"), "{line}");
        assert!(line.contains(words), "{line}");
    }
    let many = (0..=PROFILES_MAX).map(|it| format!("[profiles.p{it}]\n")).collect::<String>();
    assert!(refused(&format!("version = 1\nused = \"p1\"\n{many}")).contains("more than 16"));
}

#[test]
fn the_profile_in_use_is_there_though_somebody_took_it_out() {
    let profiles = read("version = 1\nused = \"pilot\"\n[profiles.officer]").expect("readable");
    assert_eq!(profiles.names().collect::<Vec<_>>(), ["officer", "pilot"]);
    assert_eq!(profiles.current(), &Profile::default());
}

#[test]
fn profiles_are_used_copied_and_removed() {
    let mut profiles = Profiles::default();
    profiles.current_mut().set_ducking(-6.0).expect("in range");
    profiles.change(ProfileAction::Copy, "pilot").expect("a new one");
    assert_eq!(profiles.used(), "default");
    profiles.change(ProfileAction::Use, "PILOT").expect("there");
    assert_eq!(profiles.used(), "pilot");
    assert_eq!(profiles.current().ducking_db(), Some(-6.0));
    profiles.current_mut().set_ducking(-9.0).expect("in range");
    profiles.change(ProfileAction::Use, "default").expect("there");
    assert_eq!(profiles.current().ducking_db(), Some(-6.0));

    let mut fails = |action, name: &str| {
        let before = profiles.clone();
        let error = profiles.change(action, name).expect_err(name);
        assert_eq!(profiles, before);
        error
    };
    let unknown = ProfileError::Unknown("medic".to_owned(), "default, pilot".to_owned());
    assert_eq!(fails(ProfileAction::Use, "medic"), unknown);
    assert_eq!(fails(ProfileAction::Remove, "medic"), unknown);
    assert_eq!(fails(ProfileAction::Remove, "Default"), ProfileError::InUse("default".to_owned()));
    assert_eq!(fails(ProfileAction::Copy, "Pilot"), ProfileError::Known("pilot".to_owned()));
    assert_eq!(fails(ProfileAction::Copy, "../pilot"), ProfileError::Name("../pilot".to_owned()));
    let long = "p".repeat(33);
    assert_eq!(fails(ProfileAction::Copy, &long), ProfileError::Name(long.clone()));

    profiles.change(ProfileAction::Remove, "pilot").expect("not in use");
    assert_eq!(profiles.names().collect::<Vec<_>>(), ["default"]);
    profiles.start_with("medic").expect("made");
    assert_eq!((profiles.used(), profiles.current()), ("medic", &Profile::default()));
    profiles.start_with("DEFAULT").expect("there");
    assert_eq!(profiles.used(), "default");
    for index in 2..PROFILES_MAX {
        profiles.start_with(&format!("p{index}")).expect("room");
    }
    assert_eq!(profiles.start_with("one-more"), Err(ProfileError::TooMany));
}

/// Regression: `hark ctl ducking 18` switched ducking off, and a volume of 9 counted as 4.
#[test]
fn a_number_out_of_its_range_was_clamped_without_a_word() {
    let mut profile = Profile::default();
    for decibels in [18.0, -18.0] {
        profile.set_ducking(decibels).expect("turned down by 18 dB");
        assert_eq!(profile.ducking_db(), Some(-18.0));
    }
    let change = |volume, pan| NetChange { volume, pan, ..NetChange::default() };
    profile.set_net("Flight", change(Some(0.5), None)).expect("in range");
    profile.set_net("FLIGHT", change(None, Some(-0.5))).expect("in range");
    profile.set_volume(device(1), 4.0).expect("in range");
    let before = profile.clone();
    for wrong in [
        profile.set_ducking(61.0),
        profile.set_ducking(-300.0),
        profile.set_ducking(f32::NAN),
        profile.set_net("Flight", change(Some(7.0), None)),
        profile.set_net("Flight", change(Some(f32::NAN), None)),
        profile.set_net("Flight", change(Some(1.0), Some(f32::INFINITY))),
        profile.set_volume(device(1), 9.0),
        profile.set_volume(device(2), f32::NAN),
        profile.set_volume(device(2), -1.0),
    ] {
        assert!(matches!(wrong, Err(ProfileError::Range(_) | ProfileError::Net(_))), "{wrong:?}");
    }
    assert_eq!(profile, before);
    assert_eq!(profile.net("Flight"), change(Some(0.5), Some(-0.5)));
    profile.set_volume(device(1), 1.0).expect("as sent");
    assert_eq!(profile.volumes(), &BTreeMap::new());
}

/// Regression: one choice of the person kept presets away for good.
#[test]
fn a_choice_gives_way_to_a_preset_unless_it_is_to_be_kept() {
    let mut profile = Profile::default();
    let flight = || TalkTo::nets(vec!["Flight".to_owned()]);
    profile.listen("Flight", true, None, BTreeSet::new).expect("room");
    profile.keep("Lounge").expect("room");
    profile.set_talk_to(flight(), false).expect("room");
    assert!(profile.give_way());
    assert_eq!((profile.hear(), profile.talk_to()), (None, None));
    assert_eq!(profile.kept(), &BTreeSet::from(["Lounge".to_owned()]));
    profile.set_talk_to(flight(), true).expect("room");
    assert!(!profile.give_way());
    assert_eq!(profile.talk_to(), Some(&flight()));
    profile.bind("2", Some(flight())).expect("room");
    profile.bind("lead", Some(flight())).expect("room");
    profile.follow(["1", "2"].map(str::to_owned).into_iter());
    assert_eq!((profile.talk_to(), profile.kept().len()), (None, 0));
    assert_eq!(profile.keys().keys().collect::<Vec<_>>(), ["lead"]);
}

#[test]
fn a_net_is_heard_once_however_it_is_written() {
    let mut profile = Profile::default();
    let planned = || BTreeSet::from(["Command".to_owned()]);
    profile.listen("Flight", true, None, planned).expect("room");
    profile.listen("FLIGHT", true, None, planned).expect("room");
    profile.listen("command", false, None, planned).expect("room");
    assert_eq!(profile.hear(), Some(&BTreeSet::from(["FLIGHT".to_owned()])));
    // The settings with which the run began come before those that were kept.
    let run = Some(BTreeSet::from(["Medics".to_owned()]));
    profile.listen("Flight", true, run, planned).expect("room");
    let both = BTreeSet::from(["Medics".to_owned(), "Flight".to_owned()]);
    assert_eq!(profile.hear(), Some(&both));
    let long = "x".repeat(129);
    let refused = profile.listen(&long, true, None, planned);
    assert_eq!(refused, Err(ProfileError::Choice(long)));
    assert_eq!(profile.hear(), Some(&both));
}

/// Profiles that are as full as permitted can be read again: nothing that is kept is ever too long.
#[test]
fn the_fullest_file_is_short_enough() {
    let name = |index: usize| format!("{index:04}{}", "\"".repeat(CHOICE_MAX_BYTES - 4));
    let to = || TalkTo::nets((0..TARGET_NAMES_MAX).map(name).collect());
    let mut full = Profile::default();
    for index in 0..NETS_MAX {
        let loud =
            NetChange { volume: Some(1.0 / 3.0), pan: Some(-1.0 / 3.0), ..NetChange::default() };
        let change = NetChange { muted: Some(false), priority: Some(255), ..loud };
        full.set_net(&name(index), change).expect("room");
        full.listen(&name(index), true, None, BTreeSet::new).expect("room");
        full.keep(&name(index)).expect("room");
        let device = DeviceKey::from_secret(&[(index % 256) as u8; 32]).id();
        full.set_volume(device, 1.0 / 3.0).expect("room");
    }
    for index in 0..KEYS_MAX {
        full.bind(&name(index), Some(to())).expect("room");
    }
    full.set_talk_to(to(), true).expect("room");
    full.set_presets((0..=NETS_MAX).map(name).collect());
    let further = name(NETS_MAX);
    for refused in [
        full.set_net(&further, NetChange::default()),
        full.listen(&further, true, None, BTreeSet::new),
        full.keep(&further),
        full.bind(&further, Some(to())),
    ] {
        let full = [Err(ProfileError::TooManyNets), Err(ProfileError::TooManyKeys)];
        assert!(full.contains(&refused), "{refused:?}");
    }
    assert_eq!(full.nets.len(), NETS_MAX);
    assert_eq!(full.hear().map(BTreeSet::len), Some(NETS_MAX));
    assert_eq!((full.keys().len(), full.volumes().len()), (KEYS_MAX, VOLUMES_MAX));
    let mut profiles = Profiles::default();
    *profiles.current_mut() = full;
    for index in 1..PROFILES_MAX {
        profiles.change(ProfileAction::Copy, &format!("p{index}")).expect("room");
    }
    let text = profiles.to_text();
    assert!(text.len() as u64 <= FILE_LIMIT, "{} bytes", text.len());
    assert_eq!(read(&text), Ok(profiles));
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9 \"'\\.#=-]{1,12}", "\\PC{1,8}"]
}

fn targets() -> impl Strategy<Value = TalkTo> {
    let some = || collection::vec(names(), 0..3);
    let parts = (some(), some(), some(), any::<bool>());
    parts.prop_map(|(nets, members, roles, priority)| TalkTo { nets, members, roles, priority })
}

/// An action of a person.
#[derive(Clone, Debug)]
enum Deed {
    Listen(String, bool),
    Keep(String),
    Net(String, NetChange),
    TalkTo(TalkTo, bool),
    Bind(String, Option<TalkTo>),
    Ducking(f32),
    Transmit(TransmitMode),
    Volume(u8, f32),
    Profile(ProfileAction, String),
}

fn deeds() -> impl Strategy<Value = Deed> {
    use TransmitMode::{Open, Ptt, Vad};
    let number = || prop_oneof![any::<f32>(), -70.0_f32..5.0];
    let change = (
        option::of(number()),
        option::of(number()),
        any::<[Option<bool>; 2]>(),
        any::<Option<u8>>(),
    );
    let change = change.prop_map(|(volume, pan, [muted, radio], priority)| NetChange {
        volume,
        pan,
        muted,
        priority,
        radio,
    });
    let action = prop_oneof![
        Just(ProfileAction::Use),
        Just(ProfileAction::Copy),
        Just(ProfileAction::Remove)
    ];
    prop_oneof![
        (names(), any::<bool>()).prop_map(|(net, on)| Deed::Listen(net, on)),
        (names(), change).prop_map(|(net, change)| Deed::Net(net, change)),
        names().prop_map(Deed::Keep),
        (targets(), any::<bool>()).prop_map(|(to, keep)| Deed::TalkTo(to, keep)),
        (names(), option::of(targets())).prop_map(|(key, to)| Deed::Bind(key, to)),
        number().prop_map(Deed::Ducking),
        prop_oneof![Just(Open), Just(Vad), Just(Ptt)].prop_map(Deed::Transmit),
        (any::<u8>(), number()).prop_map(|(device, gain)| Deed::Volume(device, gain)),
        (action, "[a-d]|\\PC{0,3}").prop_map(|(action, name)| Deed::Profile(action, name)),
    ]
}

fn do_all(deeds: Vec<Deed>) -> Profiles {
    let mut profiles = Profiles::default();
    for deed in deeds {
        let profile = profiles.current_mut();
        match deed {
            Deed::Listen(net, on) => drop(profile.listen(&net, on, None, BTreeSet::new)),
            Deed::Keep(net) => drop(profile.keep(&net)),
            Deed::Net(net, change) => drop(profile.set_net(&net, change)),
            Deed::TalkTo(to, keep) => drop(profile.set_talk_to(to, keep)),
            Deed::Bind(key, to) => drop(profile.bind(&key, to)),
            Deed::Ducking(decibels) => drop(profile.set_ducking(decibels)),
            Deed::Transmit(mode) => profile.set_transmit(mode),
            Deed::Volume(index, gain) => drop(profile.set_volume(device(index), gain)),
            Deed::Profile(action, name) => drop(profiles.change(action, &name)),
        }
    }
    profiles
}

proptest! {
    #[test]
    fn whatever_a_person_chooses_is_read_as_it_was_written(
        deeds in collection::vec(deeds(), 0..24),
    ) {
        let profiles = do_all(deeds);
        prop_assert_eq!(read(&profiles.to_text()), Ok(profiles));
    }

    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in "\\PC*|[a-z=\\[\\]\"{}.,0-9\n -]*") {
        if let Err(error) = read(&text) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    /// A file that somebody has damaged is refused. If it is accepted, it is the same after it was
    /// written and read again.
    #[test]
    fn a_mess_is_read_or_refused_in_one_line(
        deeds in collection::vec(deeds(), 0..12),
        at in any::<prop::sample::Index>(),
        mess in "\\PC{0,3}|[\\[\\]=\"\n]",
        removed in 0_usize..8,
    ) {
        let text = do_all(deeds).to_text();
        let text: Vec<char> = text.chars().collect();
        let at = at.index(text.len());
        let rest = &text[(at + removed).min(text.len())..];
        let text: String = text[..at].iter().copied().chain(mess.chars()).chain(rest.iter().copied()).collect();
        match read(&text) {
            Ok(profiles) => prop_assert_eq!(read(&profiles.to_text()), Ok(profiles)),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
}
