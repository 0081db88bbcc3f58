use proptest::prelude::*;

use super::*;

type Told = Vec<Fired<&'static str>>;

fn talk(chord: &str, action: &'static str) -> Binding<&'static str> {
    let chord = chord.parse().expect("a chord");
    Binding { chord, action, kind: BindingKind::Talk(Talk::default()) }
}

fn with(chord: &str, action: &'static str, talk: Talk) -> Binding<&'static str> {
    let chord = chord.parse().expect("a chord");
    Binding { chord, action, kind: BindingKind::Talk(talk) }
}

struct Desk {
    start: Instant,
    bindings: Bindings<&'static str>,
}

impl Desk {
    fn new(bindings: Vec<Binding<&'static str>>) -> Self {
        let mut desk = Self { start: Instant::now(), bindings: Bindings::default() };
        desk.bindings.set(bindings);
        desk
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn press(&mut self, millis: u64, button: &str) -> Told {
        let button = button.parse().expect("a button");
        self.bindings.handle(self.at(millis), KeyInput::Pressed(button));
        self.told()
    }

    fn release(&mut self, millis: u64, button: &str) -> Told {
        let button = button.parse().expect("a button");
        self.bindings.handle(self.at(millis), KeyInput::Released(button));
        self.told()
    }

    fn wait(&mut self, millis: u64) -> Told {
        self.bindings.handle_timeout(self.at(millis));
        self.told()
    }

    fn told(&mut self) -> Told {
        std::iter::from_fn(|| self.bindings.poll_action()).collect()
    }
}

use Fired::{Down, EndsSoon, Once, Up};

#[test]
fn repeats_of_a_held_key_are_nothing() {
    let mut desk = Desk::new(vec![talk("V", "lead")]);
    assert_eq!(desk.press(0, "V"), [Down("lead")]);
    assert_eq!(desk.press(30, "V"), []);
    assert_eq!(desk.release(60, "V"), [Up("lead")]);
    assert_eq!(desk.release(61, "V"), []);
}

/// People run while they talk.
#[test]
fn other_keys_that_are_held_do_not_matter() {
    let mut desk = Desk::new(vec![talk("Left Ctrl + V", "lead")]);
    assert_eq!(desk.press(0, "W"), []);
    assert_eq!(desk.press(1, "Left Shift"), []);
    assert_eq!(desk.press(2, "V"), []);
    assert_eq!(desk.press(3, "Left Ctrl"), [Down("lead")]);
    assert_eq!(desk.release(4, "W"), []);
    assert_eq!(desk.release(5, "V"), [Up("lead")]);
}

#[test]
fn private_speech_went_public_when_the_modifier_was_let_go_of_first() {
    let mut desk = Desk::new(vec![talk("V", "squad"), talk("Left Shift + V", "lead")]);
    assert_eq!(desk.press(0, "Left Shift"), []);
    assert_eq!(desk.press(1, "V"), [Down("lead")]);
    assert_eq!(desk.release(2, "Left Shift"), [Up("lead")]);
    assert_eq!(desk.release(3, "V"), []);
    assert_eq!(desk.press(4, "V"), [Down("squad")]);
    // The wider chord takes over, and does not give back.
    assert_eq!(desk.press(5, "Left Shift"), [Up("squad"), Down("lead")]);
    assert_eq!(desk.release(6, "Left Shift"), [Up("lead")]);
}

/// Shift was held while the window started, so its press was never told.
#[test]
fn a_modifier_held_before_the_start_sent_private_speech_to_the_public_key() {
    let mut desk = Desk::new(vec![talk("V", "squad"), talk("Left Shift + V", "lead")]);
    let shift = "Left Shift".parse().expect("a key");
    desk.bindings.handle(desk.at(0), KeyInput::Confirmed([shift].into()));
    assert_eq!(desk.told(), []);
    assert_eq!(desk.press(1, "V"), [Down("lead")]);
    assert_eq!(desk.release(2, "Left Shift"), [Up("lead")]);
}

#[test]
fn several_keys_hold_one_action_together() {
    let mut desk = Desk::new(vec![talk("V", "lead"), talk("Mouse 4", "lead"), talk("B", "squad")]);
    assert_eq!(desk.press(0, "V"), [Down("lead")]);
    assert_eq!(desk.press(1, "Mouse 4"), []);
    assert_eq!(desk.press(2, "B"), [Down("squad")]);
    assert_eq!(desk.release(3, "V"), []);
    assert_eq!(desk.release(4, "Mouse 4"), [Up("lead")]);
    assert_eq!(desk.release(5, "B"), [Up("squad")]);
}

#[test]
fn the_tail_outlasts_the_key_and_a_start_delay_forgives_a_slip() {
    let tail = Talk { release_delay_ms: 150, ..Talk::default() };
    let mut desk = Desk::new(vec![with("V", "lead", tail)]);
    assert_eq!(desk.press(0, "V"), [Down("lead")]);
    assert_eq!(desk.release(100, "V"), []);
    assert_eq!(desk.bindings.poll_timeout(), Some(desk.at(250)));
    assert_eq!(desk.press(200, "V"), [], "it goes on");
    assert_eq!(desk.wait(260), []);
    assert_eq!(desk.release(300, "V"), []);
    assert_eq!(desk.wait(450), [Up("lead")]);

    let slow = Talk { start_delay_ms: 80, ..Talk::default() };
    let mut desk = Desk::new(vec![with("V", "lead", slow)]);
    assert_eq!(desk.press(0, "V"), []);
    assert_eq!(desk.release(50, "V"), []);
    assert_eq!(desk.wait(90), []);
    assert_eq!(desk.press(100, "V"), []);
    assert_eq!(desk.wait(180), [Down("lead")]);
    assert_eq!(desk.release(181, "V"), [Up("lead")]);
}

#[test]
fn two_quick_presses_keep_it_down_until_the_next() {
    let mut desk = Desk::new(vec![with("V", "lead", Talk { latch: true, ..Talk::default() })]);
    assert_eq!(desk.press(0, "V"), [Down("lead")]);
    assert_eq!(desk.release(50, "V"), [Up("lead")]);
    assert_eq!(desk.press(200, "V"), [Down("lead")]);
    assert_eq!(desk.release(250, "V"), [], "latched");
    assert_eq!(desk.press(5_000, "V"), []);
    assert_eq!(desk.release(5_050, "V"), [Up("lead")]);
    assert_eq!(desk.press(9_000, "V"), [Down("lead")]);
    assert_eq!(desk.release(9_050, "V"), [Up("lead")], "one press is no latch");
}

#[test]
fn nothing_stays_down_when_a_device_is_gone_or_the_screen_locks() {
    let stick = "Button 2 (Stick)";
    let device = DeviceName("Stick".into());
    let mut desk = Desk::new(vec![talk(stick, "lead"), talk("V", "squad")]);
    desk.press(0, stick);
    desk.press(1, "V");
    desk.bindings.handle(desk.at(2), KeyInput::Gone(device));
    assert_eq!(desk.told(), [Up("lead")]);
    desk.bindings.handle(desk.at(3), KeyInput::AllUp);
    assert_eq!(desk.told(), [Up("squad")]);
    // A window manager that takes a release away is noticed by asking.
    desk.press(4, "V");
    desk.bindings.handle(desk.at(250), KeyInput::Confirmed(["V".parse().expect("a key")].into()));
    assert_eq!(desk.told(), []);
    desk.bindings.handle(desk.at(500), KeyInput::Confirmed(BTreeSet::new()));
    assert_eq!(desk.told(), [Up("squad")]);
    // A switch that was down before is not pressed by being confirmed.
    desk.bindings.handle(desk.at(600), KeyInput::Confirmed(["V".parse().expect("a key")].into()));
    assert_eq!(desk.told(), []);
}

#[test]
fn a_key_that_the_system_confirms_has_no_time_limit_and_a_shortcut_of_the_desktop_has() {
    let mut desk = Desk::new(vec![talk("V", "lead"), talk("Desktop lead", "squad")]);
    desk.press(0, "V");
    assert_eq!(desk.bindings.poll_timeout(), None);
    assert_eq!(desk.wait(3_600_000), []);
    desk.release(3_600_000, "V");
    desk.told();
    desk.press(3_600_000, "Desktop lead");
    desk.told();
    assert_eq!(desk.bindings.poll_timeout(), Some(desk.at(3_650_000)));
    assert_eq!(desk.wait(3_650_000), [EndsSoon("squad")]);
    assert_eq!(desk.bindings.poll_timeout(), Some(desk.at(3_660_000)));
    assert_eq!(desk.wait(3_660_000), [Up("squad")]);
    assert_eq!(desk.press(3_661_000, "Desktop lead"), [Down("squad")], "it can be pressed anew");
}

#[test]
fn typing_a_name_talked_to_everybody() {
    let mut desk = Desk::new(vec![talk("V", "lead"), talk("Mouse 4", "squad")]);
    assert_eq!(desk.press(0, "V"), [Down("lead")]);
    desk.bindings.set_typing(true);
    assert_eq!(desk.told(), [Up("lead")]);
    desk.release(1, "V");
    assert_eq!(desk.press(2, "V"), []);
    assert_eq!(desk.press(3, "Mouse 4"), [Down("squad")]);
    desk.bindings.set_typing(false);
    assert_eq!(desk.told(), [], "V has to be pressed anew");
}

#[test]
fn a_key_that_does_something_once_does_it_at_each_press() {
    let mute =
        Binding { chord: "M".parse().expect("a key"), action: "mute", kind: BindingKind::Once };
    let mut desk = Desk::new(vec![mute]);
    assert_eq!(desk.press(0, "M"), [Once("mute")]);
    assert_eq!(desk.release(1, "M"), []);
    assert_eq!(desk.press(2, "M"), [Once("mute")]);
    desk.release(3, "M");
    desk.bindings.suspend(true);
    assert_eq!(desk.press(4, "M"), [], "a key is being chosen");
}

#[test]
fn what_gets_in_each_other_s_way_is_named() {
    let all = [talk("V", "squad"), talk("Left Shift + V", "lead"), talk("V", "wing")];
    let found = [Conflict::Same(0, 2), Conflict::Contains(1, 0), Conflict::Contains(1, 2)];
    assert_eq!(conflicts(&all), found);
}

#[derive(Clone, Debug)]
enum Deed {
    Press(usize),
    Release(usize),
    Gone,
    AllUp,
    Confirm(u8),
    Typing(bool),
    Suspend(bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0..BUTTONS.len()).prop_map(Deed::Press),
        6 => (0..BUTTONS.len()).prop_map(Deed::Release),
        1 => Just(Deed::Gone),
        1 => Just(Deed::AllUp),
        1 => any::<u8>().prop_map(Deed::Confirm),
        1 => any::<bool>().prop_map(Deed::Typing),
        1 => any::<bool>().prop_map(Deed::Suspend),
    ]
}

const BUTTONS: [&str; 6] =
    ["Left Shift", "V", "B", "Mouse 4", "Button 1 (Stick)", "Button 2 (Stick)"];

/// Which bindings hold, found in the simplest way: a binding holds from the press that completed it
/// to the first thing that may end it.
#[derive(Default)]
struct Model {
    down: BTreeSet<Button>,
    seen: BTreeSet<Button>,
    holds: BTreeSet<usize>,
    typing: bool,
    suspended: bool,
}

impl Model {
    fn lift(&mut self, all: &[Binding<&'static str>], gone: impl Fn(&Button) -> bool) {
        self.down.retain(|button| !gone(button));
        self.seen.retain(|button| !gone(button));
        let held = |it: &Button| self.down.contains(it) || self.seen.contains(it);
        self.holds.retain(|at| all[*at].chord.buttons().iter().all(held));
    }

    fn handle(&mut self, all: &[Binding<&'static str>], buttons: &[Button], deed: &Deed) {
        match deed {
            Deed::Press(at) => {
                if self.down.insert(buttons[*at].clone()) && !self.suspended {
                    let complete = |it: &&usize| {
                        let chord = &all[**it].chord;
                        chord.buttons().contains(&buttons[*at])
                            && chord
                                .buttons()
                                .iter()
                                .all(|it| self.down.contains(it) || self.seen.contains(it))
                            && !(self.typing && chord.types())
                    };
                    let places: Vec<usize> = (0..all.len()).collect();
                    let begins: Vec<usize> = places.iter().filter(complete).copied().collect();
                    let within = |one: &usize| {
                        begins.iter().any(|at| all[*at].chord.contains(&all[*one].chord))
                    };
                    self.holds.retain(|it| !within(it));
                    self.holds.extend(begins.iter().filter(|it| !within(it)));
                }
            }
            Deed::Release(at) => self.lift(all, |it| *it == buttons[*at]),
            Deed::Gone => self.lift(all, |it| it.device().is_some()),
            Deed::AllUp => self.lift(all, |_| true),
            Deed::Confirm(bits) => {
                let named = |it: &Button| {
                    let at = buttons.iter().position(|other| other == it).unwrap_or_default();
                    bits & (1 << at) != 0
                };
                self.lift(all, |it| !named(it));
                let all_named = buttons.iter().filter(|it| named(it) && !self.down.contains(*it));
                self.seen = all_named.cloned().collect();
            }
            Deed::Typing(on) => {
                self.typing = *on;
                if *on {
                    self.holds.retain(|at| !all[*at].chord.types());
                }
            }
            Deed::Suspend(on) => {
                self.suspended = *on;
                if *on {
                    self.holds.clear();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    /// No talk key stays down without being held, and none is lost while it is.
    #[test]
    fn what_is_down_is_what_is_held(deeds in prop::collection::vec(deed(), 1..60)) {
        let all = vec![
            talk("V", "squad"),
            talk("Left Shift + V", "lead"),
            talk("B", "squad"),
            talk("Mouse 4", "wing"),
            talk("Button 1 (Stick)", "wing"),
            talk("Button 1 (Stick) + Button 2 (Stick)", "lead"),
            talk("Left Shift + Mouse 4 + B", "all"),
        ];
        let buttons = BUTTONS.map(|it| it.parse::<Button>().expect("a button"));
        let mut desk = Desk::new(all.clone());
        let mut model = Model::default();
        let mut talks = BTreeSet::new();
        for (millis, deed) in (0..).zip(&deeds) {
            let now = desk.at(millis);
            match deed {
                Deed::Press(at) => {
                    desk.bindings.handle(now, KeyInput::Pressed(buttons[*at].clone()));
                }
                Deed::Release(at) => {
                    desk.bindings.handle(now, KeyInput::Released(buttons[*at].clone()));
                }
                Deed::Gone => {
                    desk.bindings.handle(now, KeyInput::Gone(DeviceName("Stick".into())));
                }
                Deed::AllUp => desk.bindings.handle(now, KeyInput::AllUp),
                Deed::Confirm(bits) => {
                    let named = buttons.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
                    let named = named.map(|(_, button)| button.clone()).collect();
                    desk.bindings.handle(now, KeyInput::Confirmed(named));
                }
                Deed::Typing(on) => desk.bindings.set_typing(*on),
                Deed::Suspend(on) => desk.bindings.suspend(*on),
            }
            desk.bindings.handle_timeout(now);
            model.handle(&all, &buttons, deed);
            for fired in desk.told() {
                match fired {
                    Down(action) => prop_assert!(talks.insert(action)),
                    Up(action) => prop_assert!(talks.remove(action)),
                    Once(_) | EndsSoon(_) => prop_assert!(false),
                }
            }
            let held: BTreeSet<_> = model.holds.iter().map(|at| all[*at].action).collect();
            prop_assert_eq!(&talks, &held, "after {:?}", deed);
        }
        desk.bindings.handle(desk.at(100), KeyInput::AllUp);
        for fired in desk.told() {
            if let Up(action) = fired {
                talks.remove(action);
            }
        }
        prop_assert!(talks.is_empty());
    }
}
