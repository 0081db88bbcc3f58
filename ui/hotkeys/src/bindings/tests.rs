use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::button::DeviceName;

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

#[test]
fn another_list_of_keys_ended_what_was_held() {
    let tail = Talk { release_delay_ms: 100, ..Talk::default() };
    let latch = Talk { latch: true, ..Talk::default() };
    let stays = [with("V", "lead", tail), with("B", "wing", latch), talk("N", "squad")];
    let mut desk = Desk::new(stays.to_vec());
    for (millis, button) in [(0, "B"), (50, "V"), (60, "N")] {
        desk.press(millis, button);
    }
    desk.release(80, "B");
    assert_eq!(desk.press(90, "B"), [Down("wing")]);
    assert_eq!(desk.release(95, "B"), [], "latched");
    let [lead, wing, squad] = stays;
    desk.bindings.set(vec![talk("M", "deck"), squad.clone(), wing.clone(), lead.clone()]);
    assert_eq!(desk.told(), []);
    assert_eq!(desk.release(100, "V"), []);
    desk.bindings.set(vec![lead, wing.clone()]);
    assert_eq!(desk.told(), [Up("squad")]);
    assert_eq!(desk.wait(200), [Up("lead")], "its tail went on");
    desk.bindings.set(vec![talk("B", "wing")]);
    assert_eq!(desk.told(), [Up("wing")], "it is of another kind");
    desk.bindings.set(Vec::new());
    assert_eq!(desk.told(), []);
}

#[test]
fn an_action_that_loses_one_of_its_held_keys_goes_on() {
    let mut desk = Desk::new(vec![talk("V", "lead"), talk("Mouse 4", "lead")]);
    desk.press(0, "V");
    desk.press(1, "Mouse 4");
    desk.bindings.set(vec![talk("Mouse 4", "lead")]);
    assert_eq!(desk.told(), []);
    assert_eq!(desk.release(2, "Mouse 4"), [Up("lead")]);
}

#[test]
fn a_short_press_was_lost_when_the_timeout_came_late() {
    let slow = Talk { start_delay_ms: 80, ..Talk::default() };
    let tail = Talk { release_delay_ms: 100, ..Talk::default() };
    let mut desk = Desk::new(vec![with("V", "lead", slow), with("B", "lead", tail)]);
    desk.press(0, "V");
    assert_eq!(desk.release(100, "V"), [Down("lead"), Up("lead")]);
    // The delay of V ends before the tail of B, so the action goes on throughout.
    assert_eq!(desk.press(1_000, "B"), [Down("lead")]);
    desk.press(1_001, "V");
    desk.release(1_002, "B");
    assert_eq!(desk.wait(5_000), []);
    assert_eq!(desk.release(5_001, "V"), [Up("lead")]);
}

#[test]
fn the_end_of_one_shortcut_kept_another_down() {
    let mut desk = Desk::new(vec![talk("Desktop one", "lead"), talk("Desktop two", "squad")]);
    desk.press(0, "Desktop one");
    desk.press(55_000, "Desktop two");
    assert_eq!(desk.wait(60_000), [Up("lead")]);
    assert_eq!(desk.release(60_001, "Desktop two"), [Up("squad")]);
}

#[test]
fn a_shortcut_that_was_not_confirmed_stayed_down() {
    let mut desk = Desk::new(vec![talk("Desktop one", "lead"), talk("V", "squad")]);
    let v: Button = "V".parse().expect("a key");
    desk.press(0, "Desktop one");
    desk.press(1, "V");
    // The portal has begun anew.
    desk.bindings.handle(desk.at(2), KeyInput::Confirmed([v].into()));
    assert_eq!(desk.told(), [Up("lead")]);
    assert_eq!(desk.press(3, "Desktop one"), [Down("lead")]);
}

#[test]
fn a_late_word_on_a_key_that_was_seen_latched_the_chord() {
    let latch = Talk { latch: true, ..Talk::default() };
    let mut desk = Desk::new(vec![with("Left Shift + V", "lead", latch)]);
    let shift = "Left Shift".parse().expect("a key");
    desk.bindings.handle(desk.at(0), KeyInput::Confirmed([shift].into()));
    assert_eq!(desk.press(1, "V"), [Down("lead")]);
    assert_eq!(desk.press(2, "Left Shift"), []);
    assert_eq!(desk.release(3, "V"), [Up("lead")]);
}

#[test]
fn a_key_held_while_another_was_chosen_did_nothing_at_its_next_press() {
    let mut desk = Desk::new(vec![talk("V", "lead")]);
    desk.press(0, "V");
    desk.bindings.suspend(true);
    assert_eq!(desk.told(), [Up("lead")]);
    // Its release goes to what chooses the key.
    desk.bindings.suspend(false);
    assert_eq!(desk.press(1, "V"), [Down("lead")]);
}

#[derive(Clone, Debug)]
enum Deed {
    Press(usize),
    Release(usize),
    Gone,
    AllUp,
    /// With one listener that begins anew, what the others hold is confirmed.
    Confirm(u8),
    Typing(bool),
    Suspend(bool),
    /// Binds those whose bits are set.
    Set(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (0..BUTTONS.len()).prop_map(Deed::Press),
        8 => (0..BUTTONS.len()).prop_map(Deed::Release),
        1 => Just(Deed::Gone),
        1 => Just(Deed::AllUp),
        2 => any::<u8>().prop_map(Deed::Confirm),
        1 => any::<bool>().prop_map(Deed::Typing),
        1 => any::<bool>().prop_map(Deed::Suspend),
        2 => any::<u8>().prop_map(Deed::Set),
    ]
}

const BUTTONS: [&str; 7] =
    ["Left Shift", "V", "B", "Mouse 4", "Button 1 (Stick)", "Button 2 (Stick)", "Desktop lead"];

/// Which bindings hold, found in the simplest way: a binding holds from the press that completed it
/// to the first thing that may end it, put off by its delays.
struct Model {
    all: Vec<Binding<&'static str>>,
    /// Which of them are bound, as bits.
    bound: u8,
    down: BTreeSet<Button>,
    seen: BTreeSet<Button>,
    /// When each binding that holds begins, and when it ends if it was let go of.
    holds: BTreeMap<usize, (u64, Option<u64>)>,
    typing: bool,
    suspended: bool,
}

impl Model {
    fn new(all: Vec<Binding<&'static str>>) -> Self {
        Self {
            all,
            bound: u8::MAX,
            down: BTreeSet::new(),
            seen: BTreeSet::new(),
            holds: BTreeMap::new(),
            typing: false,
            suspended: false,
        }
    }

    fn talk(&self, at: usize) -> Talk {
        match self.all[at].kind {
            BindingKind::Talk(talk) => talk,
            BindingKind::Once => Talk::default(),
        }
    }

    fn is_held(&self, at: usize) -> bool {
        let buttons = self.all[at].chord.buttons();
        buttons.iter().all(|it| self.down.contains(it) || self.seen.contains(it))
    }

    /// The actions that go on at that time.
    fn actions(&self, now: u64) -> BTreeSet<&'static str> {
        let goes_on = |(from, until): (u64, Option<u64>)| {
            from <= now && until.is_none_or(|until| now < until)
        };
        let held = self.holds.iter().filter(|(_, hold)| goes_on(**hold));
        held.map(|(at, _)| self.all[*at].action).collect()
    }

    /// What goes on at any time from the last deed to this one, as far as nothing is done.
    fn actions_until(&self, now: u64) -> BTreeSet<&'static str> {
        let times = self.holds.values().map(|(from, _)| *from).filter(|from| *from <= now);
        times.flat_map(|from| self.actions(from)).collect()
    }

    fn lift(&mut self, now: u64, gone: impl Fn(&Button) -> bool) {
        self.down.retain(|button| !gone(button));
        self.seen.retain(|button| !gone(button));
        for at in self.holds.keys().copied().collect::<Vec<_>>() {
            let (from, until) = self.holds[&at];
            if until.is_none() && !self.is_held(at) {
                let tail = if from <= now { u64::from(self.talk(at).release_delay_ms) } else { 0 };
                self.holds.insert(at, (from, Some(now + tail)));
            }
        }
    }

    fn handle(&mut self, now: u64, buttons: &[Button], deed: &Deed) {
        self.holds.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        match deed {
            Deed::Press(at) => {
                self.seen.remove(&buttons[*at]);
                if self.down.insert(buttons[*at].clone()) && !self.suspended {
                    self.press(now, &buttons[*at]);
                }
            }
            Deed::Release(at) => self.lift(now, |it| *it == buttons[*at]),
            Deed::Gone => {
                self.down.retain(|it| it.device().is_none());
                self.seen.retain(|it| it.device().is_none());
                let all = &self.all;
                let stays =
                    |at: usize| all[at].chord.buttons().iter().all(|it| it.device().is_none());
                self.holds.retain(|at, _| stays(*at));
            }
            Deed::AllUp => self.forget(),
            Deed::Confirm(bits) => {
                let named = |it: &Button| {
                    let at = buttons.iter().position(|other| other == it).unwrap_or_default();
                    bits & (1 << at) != 0
                };
                self.lift(now, |it| !named(it));
                let all_named = buttons.iter().filter(|it| named(it) && !self.down.contains(*it));
                self.seen = all_named.cloned().collect();
            }
            Deed::Typing(on) => {
                self.typing = *on;
                if *on {
                    self.holds.retain(|at, _| !self.all[*at].chord.types());
                }
            }
            Deed::Suspend(on) => {
                self.suspended = *on;
                if *on {
                    self.forget();
                }
            }
            Deed::Set(bits) => {
                self.bound = *bits;
                self.holds.retain(|at, _| bits & (1 << at) != 0);
            }
        }
        self.holds.retain(|_, (_, until)| until.is_none_or(|until| now < until));
    }

    fn press(&mut self, now: u64, button: &Button) {
        let complete = |at: &usize| {
            let chord = &self.all[*at].chord;
            self.bound & (1 << at) != 0
                && chord.buttons().contains(button)
                && self.is_held(*at)
                && !(self.typing && chord.types())
        };
        let begins: Vec<usize> = (0..self.all.len()).filter(complete).collect();
        let all = &self.all;
        let within = |one: usize| begins.iter().any(|at| all[*at].chord.contains(&all[one].chord));
        self.holds.retain(|at, _| !within(*at));
        for at in begins.iter().copied().filter(|at| !within(*at)) {
            let begin = now + u64::from(self.talk(at).start_delay_ms);
            self.holds.entry(at).or_insert((begin, None)).1 = None;
        }
    }

    fn forget(&mut self) {
        self.down.clear();
        self.seen.clear();
        self.holds.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    /// No talk key stays down without being held, and none is lost while it is. Nobody asks for
    /// what is due but the deeds themselves, so all timeouts are late.
    #[test]
    fn what_is_down_is_what_is_held(
        deeds in prop::collection::vec((deed(), 0_u64..30), 1..40),
    ) {
        let slow = Talk { start_delay_ms: 40, ..Talk::default() };
        let tail = Talk { release_delay_ms: 40, ..Talk::default() };
        let all = vec![
            with("V", "squad", slow),
            talk("Left Shift + V", "lead"),
            talk("B", "squad"),
            with("Mouse 4", "wing", tail),
            talk("Button 1 (Stick)", "wing"),
            with("Button 1 (Stick) + Button 2 (Stick)", "lead", tail),
            talk("Left Shift + Mouse 4 + B", "all"),
            with("Desktop lead", "lead", slow),
        ];
        let buttons = BUTTONS.map(|it| it.parse::<Button>().expect("a button"));
        let mut desk = Desk::new(all.clone());
        let mut model = Model::new(all.clone());
        let (mut talks, mut millis) = (BTreeSet::new(), 0);
        for (deed, gap) in &deeds {
            millis += gap;
            let now = desk.at(millis);
            let bindings = &mut desk.bindings;
            match deed {
                Deed::Press(at) => bindings.handle(now, KeyInput::Pressed(buttons[*at].clone())),
                Deed::Release(at) => bindings.handle(now, KeyInput::Released(buttons[*at].clone())),
                Deed::Gone => bindings.handle(now, KeyInput::Gone(DeviceName("Stick".into()))),
                Deed::AllUp => bindings.handle(now, KeyInput::AllUp),
                Deed::Confirm(bits) => {
                    let named = buttons.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
                    let named = named.map(|(_, button)| button.clone()).collect();
                    bindings.handle(now, KeyInput::Confirmed(named));
                }
                Deed::Typing(on) => {
                    bindings.handle_timeout(now);
                    bindings.set_typing(*on);
                }
                Deed::Suspend(on) => {
                    bindings.handle_timeout(now);
                    bindings.suspend(*on);
                }
                Deed::Set(bits) => {
                    bindings.handle_timeout(now);
                    let set = all.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
                    // Their order changes too.
                    bindings.set(set.rev().map(|(_, binding)| binding.clone()).collect());
                }
            }
            prop_assert!(desk.bindings.poll_timeout().is_none_or(|due| now < due));
            let mut heard = talks.clone();
            for fired in desk.told() {
                match fired {
                    Down(action) => {
                        heard.insert(action);
                        prop_assert!(talks.insert(action));
                    }
                    Up(action) => prop_assert!(talks.remove(action)),
                    Once(_) | EndsSoon(_) => prop_assert!(false),
                }
            }
            prop_assert!(heard.is_superset(&model.actions_until(millis)), "lost before {:?}", deed);
            model.handle(millis, &buttons, deed);
            prop_assert_eq!(&talks, &model.actions(millis), "after {:?}", deed);
        }
        desk.bindings.handle(desk.at(millis), KeyInput::AllUp);
        for fired in desk.told() {
            if let Up(action) = fired {
                talks.remove(action);
            }
        }
        prop_assert!(talks.is_empty());
    }
}
