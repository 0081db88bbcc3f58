//! Pictures of the window in each of its states, drawn on the processor.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p hark-ui --test pictures` writes them anew: look at each that
//! has changed.

mod renderer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eframe::egui::{Key, Modifiers, accesskit::Role};
use egui_kittest::{Harness, SnapshotResults, kittest::Queryable as _};
use hark_hotkeys::button::Chord;
use hark_node::{
    device::DeviceList,
    snapshot::{
        Command, MasterChange, NetChange, SettingText, Snapshot, TalkTo, Verification, VoiceChange,
    },
};
use hark_ui::{
    air::Air,
    backend::{Backend, KeyEdge, Organisation, Scene, WindowOrder},
    history::History,
    keys::{self, KeyAction, KeySetting, USUAL_TALK},
    profile_file::{ProfileFile, TakenParts},
    recovery::{KeptWords, RecoveryWords},
    samples::{self, FakeNode},
    settings::{Density, Settings, Tab},
    sound::SoundDevices,
    tokens::{self, Theme},
    view::{
        between, bind,
        files::FileQuestion,
        welcome::{self, FirstStart},
    },
    window::Window,
};

use crate::renderer::CpuRenderer;

/// The commands that were asked for since the last call.
fn commands(fake: &FakeNode) -> Vec<Command> {
    let commands = fake.take_orders().into_iter().map(|(_, order)| match order {
        WindowOrder::Command(command) => command,
        order => panic!("{order:?}"),
    });
    commands.collect()
}

/// A scene of these organisations, after Heron has talked on the first one's second net.
fn scene(start: Instant, organisations: &[Snapshot]) -> Scene {
    let organisations = organisations.iter().map(|own| {
        let (mut air, mut history) = (Air::default(), History::default());
        for (ago, loss) in [(600, 0.4), (340, 1.0), (290, 7.5), (250, 0.2)] {
            let mut before = own.clone();
            before.peers.iter_mut().for_each(|peer| peer.stats.loss_percent = loss);
            if let Some(at) = start.checked_sub(Duration::from_secs(ago)) {
                history.note(at, &before);
            }
        }
        history.note(start, own);
        if own.nets.len() > 1 {
            let mut before = own.clone();
            before.nets.iter_mut().for_each(|net| net.talking.clear());
            before.nets[1].talking = vec!["Heron".to_owned()];
            air.note(start, &before);
        }
        air.note(start + Duration::from_secs(2), own);
        let snapshot = Arc::new(own.clone());
        Organisation { snapshot, air: Arc::new(air), history: Arc::new(history) }
    });
    Scene { organisations: organisations.collect(), ..Scene::default() }
}

type WindowHarness = Harness<'static, Window>;

fn open(
    scene: Scene,
    start: Instant,
    settings: Settings,
    size: [f32; 2],
) -> (Arc<FakeNode>, WindowHarness) {
    open_at(scene, start, settings, size, 1.0)
}

fn open_at(
    scene: Scene,
    start: Instant,
    settings: Settings,
    size: [f32; 2],
    scale: f32,
) -> (Arc<FakeNode>, WindowHarness) {
    let fake = Arc::new(FakeNode::new(scene));
    let backend: Arc<dyn Backend> = Arc::clone(&fake) as _;
    let mut settings = settings;
    let key = |chord: &str, net: &str| KeySetting {
        chord: chord.parse().expect("a chord"),
        action: KeyAction::net(net),
        talk: USUAL_TALK,
    };
    settings.keys.extend([key("Mouse 4", "Command"), key("Num 1", "Flight")]);
    let renderer = CpuRenderer::new(settings.theme);
    let devices = SoundDevices::fixed(samples::sound_devices());
    let recovery = RecoveryWords::of("/nowhere".into());
    let window = Window::new(backend, settings, devices, recovery, None);
    let now = start + Duration::from_secs(3);
    let builder = Harness::builder()
        .with_size(size)
        .with_pixels_per_point(scale)
        .renderer(renderer)
        .with_context_setup(tokens::add_fonts);
    let harness = builder.build_ui_state(
        move |ui, window: &mut Window| {
            window.show(ui, now);
        },
        window,
    );
    (fake, harness)
}

/// Draws a picture and compares it. `run` fails if the window does not go quiet by itself.
fn picture(
    pictures: &mut SnapshotResults,
    name: &str,
    organisations: &[Snapshot],
    settings: Settings,
    size: [f32; 2],
) {
    let start = Instant::now();
    let (_, mut harness) = open(scene(start, organisations), start, settings, size);
    harness.run();
    harness.snapshot(name);
    pictures.extend_harness(&mut harness);
}

const WIDE: [f32; 2] = [1920.0, 1080.0];
const USUAL: [f32; 2] = [1100.0, 700.0];
const MINI: [f32; 2] = [420.0, 180.0];

#[test]
fn an_operation_is_seen_at_a_glance() {
    let pictures = &mut SnapshotResults::new();
    let own = samples::operation();
    picture(pictures, "operation", std::slice::from_ref(&own), Settings::default(), USUAL);
    let tiles = Settings { density: Density::Tile, ..Settings::default() };
    picture(pictures, "operation_wide", std::slice::from_ref(&own), tiles, WIDE);
    let rows =
        Settings { density: Density::Row, drawer: Some(Tab::Channels), ..Settings::default() };
    picture(pictures, "rows_and_channels", &[own], rows, USUAL);
}

#[test]
fn being_on_the_air_is_unmistakable() {
    let pictures = &mut SnapshotResults::new();
    let mut own = samples::operation();
    own.transmitting = true;
    own.nets[2].talked_to = true;
    own.talk_to = vec!["Flight".to_owned(), "Flight/Alpha".to_owned()];
    own.level_dbfs = -12.0;
    picture(pictures, "on_air", std::slice::from_ref(&own), Settings::default(), USUAL);
    let mini = Settings { mini: true, ..Settings::default() };
    picture(pictures, "on_air_mini", &[own], mini, MINI);
}

#[test]
fn a_whisper_was_seen_in_the_list_of_members_alone() {
    let start = Instant::now();
    let mut own = samples::operation();
    (own.peers[0].talking, own.peers[0].whispers) = (true, true);
    let line = format!("{} whispers to you", own.peers[0].name);
    let mini = Settings { mini: true, ..Settings::default() };
    for (settings, size) in [(Settings::default(), USUAL), (mini, MINI)] {
        let (_, mut harness) =
            open(scene(start, std::slice::from_ref(&own)), start, settings, size);
        harness.run();
        harness.get_by_label(&line);
    }
}

#[test]
fn talking_while_muted_is_said() {
    let pictures = &mut SnapshotResults::new();
    let mut own = samples::operation();
    own.muted = true;
    own.level_dbfs = -14.0;
    own.trouble = Some("the microphone USB Headset is gone".to_owned());
    picture(
        pictures,
        "muted",
        &[own],
        Settings { drawer: Some(Tab::Mesh), ..Settings::default() },
        USUAL,
    );
}

#[test]
fn each_theme_can_be_read() {
    let pictures = &mut SnapshotResults::new();
    for theme in Theme::ALL {
        let name = format!("theme_{}", theme.name().to_lowercase().replace(' ', "_"));
        let settings = Settings { theme, ..Settings::default() };
        picture(pictures, &name, &[samples::operation()], settings, [900.0, 420.0]);
    }
}

#[test]
fn organisations_are_told_apart() {
    let pictures = &mut SnapshotResults::new();
    let mut others = Vec::new();
    for (number, name) in ["Blue Horizon", "Long Haul", "squad"].into_iter().enumerate() {
        let mut other = samples::snapshot();
        other.organisation = name.to_owned();
        other.organisation_id = name.to_owned();
        other.front = false;
        if number == 1 {
            other.peers = vec![samples::peer(40, "Finch")];
            other.peers[0].talking = true;
        }
        others.push(other);
    }
    others[0].transmitting = true;
    others[0].talk_to = vec!["Hangar".to_owned()];
    let mut all = vec![samples::operation()];
    all.extend(others);
    picture(pictures, "organisations", &all, Settings::default(), USUAL);
}

#[test]
fn everything_is_twice_as_large_at_scale_two() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (_, mut harness) = open_at(all, start, Settings::default(), USUAL, 2.0);
    harness.run();
    harness.snapshot("scale_two");
}

#[test]
fn nobody_is_there_yet() {
    let pictures = &mut SnapshotResults::new();
    let mut own = samples::snapshot();
    own.nets = vec![samples::net("squad")];
    own.nets[0].talked_to = true;
    own.talk_to = vec!["squad".to_owned()];
    own.unheard = true;
    picture(pictures, "alone", &[own], Settings::default(), USUAL);
}

#[test]
fn a_click_on_a_plate_talks_to_it_and_its_buttons_do_what_they_say() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (fake, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label_contains("Ground, somebody talks").click();
    harness.run();
    let to = TalkTo::nets(vec!["Ground".to_owned()]);
    assert_eq!(commands(&fake), [Command::TalkTo { to, keep: false }]);
    harness.get_by_label("Mute Flight").click();
    harness.run();
    let change = NetChange { muted: Some(true), ..NetChange::default() };
    assert_eq!(commands(&fake), [Command::Net { net: "Flight".to_owned(), change }]);
    harness.get_by_label("Hear Logistics").click();
    harness.run();
    let heard = Command::Listen { net: "Logistics".to_owned(), on: true, keep: false };
    assert_eq!(commands(&fake), [heard]);
    harness.get_by_label("Mute my microphone").click();
    harness.run();
    assert_eq!(commands(&fake), [Command::Mute { on: true }]);
}

#[test]
fn the_keyboard_does_what_the_mouse_does() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (fake, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    for (key, command) in [
        (
            Key::Num3,
            Command::TalkTo { to: TalkTo::nets(vec!["Flight/Alpha".to_owned()]), keep: false },
        ),
        (Key::M, Command::Mute { on: true }),
        (Key::D, Command::Deafen { on: true }),
    ] {
        harness.key_press(key);
        harness.run();
        assert_eq!(commands(&fake), [command]);
    }
}

#[test]
fn plates_could_be_ordered_by_the_mouse_alone() {
    let start = Instant::now();
    let own = samples::operation();
    let organisation = own.organisation_id.clone();
    let (_, mut harness) = open(scene(start, &[own]), start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label_contains("Flight, receiving").focus();
    harness.run();
    let mut moved = |key| {
        harness.key_press_modifiers(Modifiers::ALT, key);
        harness.run();
        harness.state().settings.order[&organisation].clone()
    };
    let order = ["id-Flight", "id-Command", "id-Flight/Alpha", "id-Ground", "id-Logistics"];
    assert_eq!(moved(Key::ArrowLeft), order);
    let order = ["id-Command", "id-Flight", "id-Flight/Alpha", "id-Ground", "id-Logistics"];
    assert_eq!(moved(Key::ArrowRight), order);
}

#[test]
fn a_member_s_details_open_beside_the_list() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (fake, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Vesper, by a relay: no direct way was found").click();
    harness.run();
    harness.snapshot("member");
    harness.get_by_label("Mute Vesper").click();
    harness.run();
    let asked = commands(&fake);
    assert!(matches!(asked[..], [Command::Volume { gain: 0.0, .. }]), "{asked:?}");
}

#[test]
fn words_are_compared_with_a_member() {
    let start = Instant::now();
    let mut own = samples::operation();
    own.peers[0].verification = Verification::Verified;
    own.peers[2].verification = Verification::NewDevice;
    let device = own.peers[2].stats.device.0;
    let all = scene(start, &[own]);
    let (fake, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Sable, direct, a new device, talks").click();
    harness.run();
    harness.get_by_label("Compare words with Sable").click();
    harness.run();
    harness.snapshot("verify");
    harness.get_by_label(&hark_keys::device_words(device).join(" "));
    harness.get_by_label("Sable is verified").click();
    harness.run();
    let verified = Command::Verify { device: device.to_string(), on: true };
    assert_eq!(commands(&fake), [verified]);
}

#[test]
fn the_bar_overlapped_in_a_narrow_window() {
    let start = Instant::now();
    let mut own = samples::operation();
    own.all_presets = vec!["Raid on the northern shipyard".to_owned()];
    own.presets = own.all_presets.clone();
    for width in [320.0, 400.0, 500.0, 640.0, 720.0, 800.0, 900.0, 1000.0, 1100.0, 1300.0] {
        let all = scene(start, std::slice::from_ref(&own));
        let (fake, mut harness) = open(all, start, Settings::default(), [width, 500.0]);
        harness.run();
        let bar = |node: &egui_kittest::Node<'_>| node.rect().center().y < 75.0;
        let mut rects = Vec::new();
        for role in [Role::Button, Role::CheckBox] {
            let all = harness.get_all_by_role(role);
            rects.extend(all.filter(bar).map(|node| node.rect()));
        }
        assert!(rects.len() >= 4, "{width}: {rects:?}");
        for (at, rect) in rects.iter().enumerate() {
            assert!(rect.right() <= width && rect.left() >= 0.0, "{width}: {rect:?}");
            let others = rects.iter().skip(at + 1);
            let covers = others.filter(|it| it.shrink(0.5).intersects(rect.shrink(0.5))).count();
            assert_eq!(covers, 0, "{width}: {rects:?}");
        }
        // What has no place in the bar is in the menu.
        if width < 700.0 {
            harness.get_by_label("More").click();
            harness.run();
            if width == 400.0 {
                harness.snapshot("narrow");
            }
            harness.get_by_label("Show the others that I am away").click();
            harness.run();
            assert_eq!(commands(&fake), [Command::Away { on: true }]);
        }
    }
}

#[test]
fn nothing_runs_and_the_window_says_why() {
    let devices = SoundDevices::fixed(samples::sound_devices());
    let builder = Harness::builder()
        .with_size([900.0, 500.0])
        .renderer(CpuRenderer::new(Theme::Dark))
        .with_context_setup(|ctx| {
            tokens::add_fonts(ctx);
            tokens::apply(ctx, Theme::Dark);
        });
    let why = "the node of this home has ended: connection closed";
    let mut harness = builder.build_ui_state(
        move |ui, (settings, wish): &mut (Settings, Option<between::AfterEnd>)| {
            *wish = between::failed(ui, why, settings, &devices).or(*wish);
        },
        (Settings::default(), None),
    );
    harness.run();
    harness.snapshot("does_not_run");
    harness.get_by_label("Start again").click();
    harness.run();
    assert_eq!(harness.state().1, Some(between::AfterEnd::StartAgain));
}

#[test]
fn a_profile_file_asks_what_it_may_replace() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("profile.toml");
    let mut there = Settings { scale: 1.25, ..Settings::default() };
    there.keys.truncate(1);
    ProfileFile::new(&there, &all).write(&path).expect("written");
    let (_, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    let before = harness.state().settings.clone();
    let file = ProfileFile::read(&path).expect("read");
    let question = FileQuestion::Import {
        path: "/home/wren/hark-profile.toml".into(),
        file: Box::new(file),
        parts: TakenParts::ALL,
        here: vec!["Kestrel Guard".to_owned()],
    };
    harness.state_mut().file_question = Some(question.clone());
    harness.run();
    harness.snapshot("import");
    harness.get_by_label("Cancel").click();
    harness.run();
    assert_eq!(harness.state().settings, before);
    harness.state_mut().file_question = Some(question);
    harness.run();
    harness.get_by_label_contains("Its keys (1)").click();
    harness.run();
    harness.get_by_label("Take it over").click();
    harness.run();
    let after = &harness.state().settings;
    assert_eq!((&after.keys, after.scale), (&before.keys, 1.25), "keys stay, the size is taken");
}

#[test]
fn the_menu_of_a_plate_opens_by_a_key() {
    let start = Instant::now();
    for (modifiers, key) in [(Modifiers::NONE, Key::Menu), (Modifiers::SHIFT, Key::F10)] {
        let all = scene(start, &[samples::operation()]);
        let (fake, mut harness) = open(all, start, Settings::default(), USUAL);
        harness.run();
        harness.get_by_label_contains("Ground, ").focus();
        harness.run();
        harness.key_press_modifiers(modifiers, key);
        harness.run();
        harness.get_by_label("Do not hear it").click();
        harness.run();
        let net = "Ground".to_owned();
        assert_eq!(commands(&fake), [Command::Listen { net, on: false, keep: false }]);
    }
}

#[test]
fn a_key_is_chosen_on_its_plate() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (_, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Choose a key for Ground").click();
    harness.run();
    harness.snapshot("choose_a_key");
    harness.get_by_label("Cancel").click();
    harness.run();
    assert!(harness.query_by_label("Cancel").is_none());
}

#[test]
fn a_second_key_asks_what_becomes_of_the_first() {
    let chord = |text: &str| text.parse::<Chord>().expect("a chord");
    let ask = |old: Option<&str>, click: &str| {
        let (old, keys) = (old.map(chord), keys::usual_keys());
        let builder = Harness::builder()
            .with_size([560.0, 240.0])
            .renderer(CpuRenderer::new(Theme::Dark))
            .with_context_setup(|ctx| {
                tokens::add_fonts(ctx);
                tokens::apply(ctx, Theme::Dark);
            });
        let mut harness = builder.build_ui_state(
            move |ui, choice: &mut bind::Choice| {
                let what = (&KeyAction::Talk, old.as_ref());
                let chosen = chord("Mouse 4");
                let colours = Theme::Dark.colours();
                let said = bind::show(ui, what, Some(&chosen), &keys, &[], colours);
                if said != bind::Choice::Waiting {
                    *choice = said;
                }
            },
            bind::Choice::Waiting,
        );
        harness.run();
        if click == "As well" {
            harness.snapshot("keep_or_replace");
        }
        harness.get_by_label(click).click();
        harness.run();
        harness.state().clone()
    };
    let (mouse, usual) = (chord("Mouse 4"), vec![chord("Right Ctrl")]);
    let replaced = bind::Choice::Taken(mouse.clone(), usual.clone());
    assert_eq!(ask(None, "Instead of Right Ctrl"), replaced);
    assert_eq!(ask(None, "As well"), bind::Choice::Taken(mouse, Vec::new()));
    assert_eq!(ask(Some("Right Ctrl"), "Use it"), replaced);
    assert_eq!(ask(Some("Right Ctrl"), "No key"), bind::Choice::Without(usual));
}

/// Draws the first start of a person with these settings and devices.
fn first_start(list: DeviceList, settings: Settings) -> Harness<'static, (FirstStart, Settings)> {
    let devices = SoundDevices::fixed(list);
    let welcome = FirstStart { name: "Wren".to_owned(), ..FirstStart::default() };
    let builder = Harness::builder()
        .with_size([900.0, 640.0])
        .renderer(CpuRenderer::new(settings.theme))
        .with_context_setup(|ctx| {
            tokens::add_fonts(ctx);
            tokens::apply(ctx, Theme::Dark);
        });
    builder.build_ui_state(
        move |ui, (welcome, settings): &mut (FirstStart, Settings)| {
            welcome::show(ui, welcome, settings, &devices);
        },
        (welcome, settings),
    )
}

#[test]
fn microphone_and_loudspeaker_are_chosen_at_the_first_start() {
    let mut harness = first_start(samples::sound_devices(), Settings::default());
    harness.run();
    harness.snapshot("first_start");
    harness.get_by_role_and_label(Role::ComboBox, "Microphone").click();
    harness.run();
    harness.snapshot("first_start_microphones");
    harness.get_by_label("Desk Microphone").click();
    harness.run();
    let (_, settings) = harness.state();
    assert_eq!(settings.microphone.as_deref(), Some("Desk Microphone"));
    assert_eq!(settings.loudspeaker, None);
}

#[test]
fn a_system_without_sound_says_so() {
    let none = DeviceList { microphones: Vec::new(), ..samples::sound_devices() };
    let long = "Family 17h/19h/1ah HD Audio Controller Analog Stereo (Front Headphones)";
    let settings = Settings { loudspeaker: Some(long.to_owned()), ..Settings::default() };
    let mut harness = first_start(none, settings);
    harness.run();
    harness.snapshot("first_start_no_microphone");
}

#[test]
fn settings_are_found_by_what_people_call_them() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (_, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Settings").click();
    harness.run();
    harness.snapshot("settings");
    harness.get_all_by_role(Role::TextInput).next().expect("a field").click();
    harness.run();
    harness.get_all_by_role(Role::TextInput).next().expect("a field").type_text("zoom");
    harness.run();
    assert!(harness.query_by_role_and_label(Role::ComboBox, "Colours").is_none());
    assert!(harness.query_all_by_label("Size of everything").next().is_some());
}

#[test]
fn the_line_could_be_set_by_commands_alone() {
    let start = Instant::now();
    let mut own = samples::operation();
    own.coding.set.wait = Some(SettingText::Word("20..120".to_owned()));
    let (fake, mut harness) = open(scene(start, &[own]), start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Settings").click();
    harness.run();
    harness.get_all_by_role(Role::TextInput).next().expect("a field").click();
    harness.run();
    harness.get_all_by_role(Role::TextInput).next().expect("a field").type_text("bit rate");
    harness.run();
    harness.snapshot("line");
    commands(&fake);
    for label in ["32 kbit/s", "20 ms in a frame", "deep copies", "auto ms of wait for others"] {
        harness.get_by_label(label).click();
        harness.run();
    }
    let word = |word: &str| Some(SettingText::Word(word.to_owned()));
    let none = VoiceChange::default();
    let wanted = [
        VoiceChange { bitrate: word("32"), ..none.clone() },
        VoiceChange { frame: word("20"), ..none.clone() },
        VoiceChange { redundancy: word("deep"), ..none.clone() },
        VoiceChange { wait: word("auto"), ..none },
    ];
    assert_eq!(commands(&fake), wanted.map(|change| Command::Voice { change }));
}

#[test]
fn a_founder_finds_the_words_that_bring_a_lost_machine_back() {
    let start = Instant::now();
    let own = samples::operation();
    let organisation = own.organisation_id.clone();
    let (_, mut harness) = open(scene(start, &[own]), start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Settings").click();
    harness.run();
    assert!(harness.query_by_label("Show the recovery words").is_some());
    let words = vec!["abandon"; 23].join(" ") + " art";
    let words = KeptWords::Words { founder: true, words: words.into() };
    harness.state_mut().recovery.put(&organisation, words);
    harness.run();
    harness.snapshot("recovery_words");
    harness.get_by_label("Hide the recovery words").click();
    harness.run();
    assert!(harness.state().recovery.shown(&organisation).is_none());
}

#[test]
fn all_keys_stand_in_one_list() {
    let start = Instant::now();
    let mut own = samples::operation();
    own.nets[2].talked_to = true;
    let all = scene(start, &[own]);
    let (_, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Keys").click();
    harness.run();
    harness.snapshot("keys");
    harness.get_by_label("Latch: Talk").click();
    harness.get_by_label("Remove the key of: Talk to Command").click();
    harness.run();
    let keys = &harness.state().settings.keys;
    assert!(keys[0].talk.latch, "{keys:?}");
    assert!(keys.iter().all(|key| key.action != KeyAction::net("Command")), "{keys:?}");
    harness.get_by_label("Talk to nets").click();
    harness.run();
    harness.get_by_label("Talk to Flight, Flight/Alpha").click();
    harness.run();
    harness.snapshot("choose_a_key_for_several_nets");
}

#[test]
fn a_preset_is_loaded_and_all_others_are_turned_down() {
    let start = Instant::now();
    let mut own = samples::operation();
    own.all_presets = vec!["Convoy".to_owned(), "Raid".to_owned()];
    own.presets = vec!["Raid".to_owned()];
    own.master.others = 0.5;
    let (fake, mut harness) = open(scene(start, &[own]), start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Turn the other nets down").click();
    harness.run();
    let change = MasterChange { others_down: Some(true), ..MasterChange::default() };
    assert_eq!(commands(&fake), [Command::Master { change }]);
    harness.get_by_label("Preset: Raid").click();
    harness.run();
    harness.snapshot("presets");
    harness.get_by_label("Load the preset Convoy").click();
    harness.run();
    let asked = fake.take_orders();
    assert_eq!(asked, [("kestrel-guard".to_owned(), keys::preset("Convoy", true))]);
    harness.get_by_label("Volume").click();
    harness.run();
    harness.snapshot("master_volumes");
}

#[test]
fn a_plate_talks_while_the_mouse_is_held_on_it() {
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let settings = Settings { density: Density::Tile, ..Settings::default() };
    let (fake, mut harness) = open(all, start, settings, USUAL);
    harness.run();
    let talk = harness.get_by_label("Talk to Ground").rect().center();
    harness.drag_at(talk);
    harness.run();
    let to = Some(TalkTo::nets(vec!["Ground".to_owned()]));
    assert_eq!(fake.take_pressed(), [(to.clone(), KeyEdge::Down)]);
    harness.drop_at(talk);
    harness.run();
    assert_eq!(fake.take_pressed(), [(to, KeyEdge::Up)], "its last word is not cut off");
}

#[test]
fn a_profile_is_exported_and_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("profile.toml");
    let start = Instant::now();
    let all = scene(start, &[samples::operation()]);
    let (fake, mut harness) = open(all, start, Settings::default(), USUAL);
    harness.run();
    harness.get_by_label("Settings").click();
    harness.run();
    let field = || harness.get_all_by_role(Role::TextInput).last().expect("the path");
    field().click();
    harness.run();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    harness.run();
    let field = harness.get_all_by_role(Role::TextInput).last().expect("the path");
    field.type_text(path.to_str().expect("text"));
    harness.run();
    harness.get_by_label("Export to the profile file").click();
    harness.run();
    harness.state_mut().settings.keys.clear();
    harness.get_by_label("Import the profile file").click();
    harness.run();
    assert!(harness.state().settings.keys.is_empty(), "not before the person agrees");
    harness.get_by_label("Take it over").click();
    harness.run();
    assert_eq!(harness.state().settings.keys.len(), 5, "the usual ones and two of this test");
    assert_eq!(commands(&fake).len(), 2, "a profile is made and used");
    let told = fake.take_told().join("; ");
    assert!(told.contains("written to") && told.contains("taken from"), "{told}");

    // A file that is there is replaced after a question.
    harness.state_mut().settings.keys.clear();
    harness.get_by_label("Export to the profile file").click();
    harness.run();
    let kept = |path: &std::path::Path| ProfileFile::read(path).expect("read").window.keys.len();
    assert_eq!(kept(&path), 5);
    harness.get_by_label("Replace it").click();
    harness.run();
    assert_eq!(kept(&path), 0);
}
