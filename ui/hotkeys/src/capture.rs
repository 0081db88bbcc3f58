//! Choosing a key by pressing it.
//!
//! Only a press counts that was told after the beginning. What was down before does not count until
//! it was let go of: the mode switch of some sticks is always down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    button::{Button, Chord, DeviceName},
    platform::KeyInput,
};

/// Watches what a person presses until a chord is let go of.
#[derive(Debug, Default)]
pub struct Capture {
    down: BTreeSet<Button>,
    /// What was down before, and still is.
    before: BTreeSet<Button>,
    /// When the system first said what is down.
    begun: Option<Instant>,
    /// When each button changed lately.
    changes: BTreeMap<Button, Vec<Instant>>,
    ignored: BTreeSet<DeviceName>,
}

impl Capture {
    /// Takes in what a listener tells. Returns the chord at the first release of one of its buttons.
    pub fn handle(&mut self, now: Instant, input: KeyInput) -> Option<Chord> {
        match input {
            KeyInput::Pressed(button) if self.counts(now, &button) => {
                if self.down.len() < Chord::MAX {
                    self.down.insert(button);
                }
                None
            }
            KeyInput::Released(button) => {
                let counts = !self.before.remove(&button) && self.counts(now, &button);
                (counts && self.down.contains(&button)).then(|| self.take())?
            }
            KeyInput::Gone(device) => {
                self.down.retain(|button| button.device() != Some(&device));
                self.before.retain(|button| button.device() != Some(&device));
                None
            }
            KeyInput::AllUp => {
                self.down.clear();
                self.before.clear();
                None
            }
            KeyInput::Confirmed(down) => {
                if self.begun.is_none() {
                    // A press that was told until now is the repeat of a key that was down before.
                    self.down.clear();
                }
                let begun = *self.begun.get_or_insert(now);
                let released = !self.down.is_subset(&down);
                self.before.retain(|button| down.contains(button));
                // Later, the press of a button that is named may still be on its way.
                if now.saturating_duration_since(begun) <= BEGINNING {
                    self.before.extend(down.difference(&self.down).cloned());
                }
                released.then(|| self.take())?
            }
            KeyInput::Pressed(_) => None,
        }
    }

    /// What is held so far, to be shown.
    pub fn held(&self) -> impl Iterator<Item = &Button> {
        self.down.iter()
    }

    /// Leaves a device out from now on.
    pub fn ignore(&mut self, device: DeviceName) {
        self.down.retain(|button| button.device() != Some(&device));
        self.ignored.insert(device);
    }

    fn take(&mut self) -> Option<Chord> {
        Chord::new(std::mem::take(&mut self.down).into_iter().collect())
    }

    /// Whether a person may have pressed the button, rather than a driver.
    fn counts(&mut self, now: Instant, button: &Button) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < CHATTER_SPAN;
        let changes = self.changes.entry(button.clone()).or_default();
        changes.retain(recent);
        changes.push(now);
        changes.truncate(CHATTER_MAX + 1);
        let chatters = changes.len() > CHATTER_MAX;
        if chatters {
            self.down.remove(button);
        }
        !chatters
            && !self.before.contains(button)
            && button.device().is_none_or(|device| !self.ignored.contains(device))
            // The left button presses the window's own buttons.
            && *button != Button::Mouse(1)
    }
}

/// A button that changes more often than this within [`CHATTER_SPAN`] is not pressed by a person.
const CHATTER_MAX: usize = 10;
const CHATTER_SPAN: Duration = Duration::from_secs(1);

/// How long the listeners take to say what was down before, each of them once.
///
/// Longer, and a key that a person presses at once may count as down before.
const BEGINNING: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn button(text: &str) -> Button {
        text.parse().expect("a button")
    }

    #[test]
    fn the_chord_is_what_was_held_at_the_first_release() {
        let (now, mut capture) = (Instant::now(), Capture::default());
        assert_eq!(capture.handle(now, KeyInput::Pressed(button("Left Ctrl"))), None);
        assert_eq!(capture.handle(now, KeyInput::Pressed(button("V"))), None);
        let held: Vec<_> = capture.held().map(ToString::to_string).collect();
        assert_eq!(held, ["V", "Left Ctrl"]);
        let chord = capture.handle(now, KeyInput::Released(button("V"))).expect("a chord");
        assert_eq!(chord.to_string(), "Left Ctrl + V");
    }

    /// The mode switch of some sticks is always down.
    #[test]
    fn a_switch_that_was_down_before_became_part_of_every_key() {
        let (now, mut capture) = (Instant::now(), Capture::default());
        capture.handle(now, KeyInput::Confirmed([button("Button 30 (X52)")].into()));
        assert_eq!(capture.handle(now, KeyInput::Pressed(button("Button 30 (X52)"))), None);
        capture.handle(now, KeyInput::Pressed(button("Button 2 (X52)")));
        let chord = capture.handle(now, KeyInput::Released(button("Button 2 (X52)")));
        assert_eq!(chord.expect("a chord").to_string(), "Button 2 (X52)");
    }

    /// Windows repeats a key that is held, and the first repeat came before its word on what is
    /// down.
    #[test]
    fn the_release_of_a_key_that_was_down_before_was_taken_for_the_choice() {
        let (now, mut capture) = (Instant::now(), Capture::default());
        let later = now + Duration::from_secs(5);
        assert_eq!(capture.handle(now, KeyInput::Pressed(button("F22"))), None);
        capture.handle(now, KeyInput::Confirmed([button("F22"), button("Enter")].into()));
        assert_eq!(capture.held().count(), 0);
        for text in ["F22", "Enter", "Space"] {
            assert_eq!(capture.handle(later, KeyInput::Released(button(text))), None, "{text}");
        }
        capture.handle(later, KeyInput::Pressed(button("Enter")));
        let chord = capture.handle(later, KeyInput::Released(button("Enter")));
        assert_eq!(chord.expect("it was up since").to_string(), "Enter");
    }

    #[test]
    fn a_press_that_the_system_confirmed_before_it_was_told_was_dropped() {
        let (now, mut capture) = (Instant::now(), Capture::default());
        let later = now + Duration::from_secs(1);
        capture.handle(now, KeyInput::Confirmed(BTreeSet::new()));
        capture.handle(later, KeyInput::Pressed(button("Left Ctrl")));
        capture.handle(later, KeyInput::Confirmed([button("Left Ctrl"), button("V")].into()));
        capture.handle(later, KeyInput::Pressed(button("V")));
        let chord = capture.handle(later, KeyInput::Released(button("V")));
        assert_eq!(chord.expect("a chord").to_string(), "Left Ctrl + V");
    }

    #[test]
    fn a_release_that_was_lost_left_the_question_open() {
        let (now, mut capture) = (Instant::now(), Capture::default());
        capture.handle(now, KeyInput::Confirmed(BTreeSet::new()));
        capture.handle(now, KeyInput::Pressed(button("V")));
        let chord = capture.handle(now, KeyInput::Confirmed(BTreeSet::new()));
        assert_eq!(chord.expect("a chord").to_string(), "V");
    }

    /// Some drivers press F22 or Num Lock again and again.
    #[test]
    fn a_driver_that_chatters_was_taken_for_a_person() {
        let (now, mut capture) = (Instant::now(), Capture::default());
        let mut chosen = 0;
        for turn in 0..40 {
            let at = now + Duration::from_millis(turn * 10);
            capture.handle(at, KeyInput::Pressed(button("F22")));
            if turn >= 6 {
                let later = at + Duration::from_millis(5);
                chosen +=
                    usize::from(capture.handle(later, KeyInput::Released(button("F22"))).is_some());
            }
        }
        assert_eq!(chosen, 2, "only before it was known");
        let later = now + Duration::from_secs(9);
        capture.ignore(DeviceName("Pedals".into()));
        capture.handle(later, KeyInput::Pressed(button("Button 1 (Pedals)")));
        assert_eq!(capture.handle(later, KeyInput::Released(button("Button 1 (Pedals)"))), None);
        capture.handle(later, KeyInput::Pressed(button("Mouse 1")));
        assert_eq!(capture.handle(later, KeyInput::Released(button("Mouse 1"))), None);
    }
}
