//! Decides from buttons which actions are held.
//!
//! - A chord is down while all of its buttons are; other buttons that are held do not matter.
//! - It begins when one of its buttons goes down, never when one goes up. Of chords that begin at
//!   once, one that another contains does not begin: with `V` and `Left Shift + V`, Shift then V is
//!   only the second. When Shift goes up, `V` does not begin until it is pressed anew. A chord that
//!   begins ends those that it contains, so private speech never goes out in public.
//! - Several chords of one action hold it together.
//! - Nothing stays down when a device is gone, the session is locked, or the system says that a
//!   button is up.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    button::{Button, Chord},
    platform::KeyInput,
};

/// What a chord does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding<A> {
    /// The buttons.
    pub chord: Chord,
    /// What they do.
    pub action: A,
    /// How it begins and ends.
    pub kind: BindingKind,
}

/// How an action begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindingKind {
    /// It lasts while the chord is held.
    Talk(Talk),
    /// It happens once at each press.
    Once,
}

/// How a talk key behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Talk {
    /// How long it goes on after the key has gone up, in milliseconds, 0 to 500.
    pub release_delay_ms: u16,
    /// How long the key has to be held before it begins, in milliseconds, 0 to 500.
    pub start_delay_ms: u16,
    /// Whether two quick presses keep it down until the next press.
    pub latch: bool,
}

/// What bindings tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired<A> {
    /// A talk action begins.
    Down(A),
    /// A talk action ends.
    Up(A),
    /// An action happens once.
    Once(A),
    /// A talk action ends in ten seconds, since nobody can say whether its key is still down.
    EndsSoon(A),
}

/// What is bound, and what is held.
#[derive(Debug)]
pub struct Bindings<A> {
    bound: Vec<Bound<A>>,
    /// By how many chords each action is held. Equal actions share the place of the first.
    holds: Vec<u16>,
    down: BTreeSet<Button>,
    /// What the system says is down though its press was never told. It completes a chord, but
    /// begins none.
    seen: BTreeSet<Button>,
    typing: bool,
    suspended: bool,
    fired: VecDeque<Fired<A>>,
}

#[derive(Clone, Debug)]
struct Bound<A> {
    binding: Binding<A>,
    /// The first binding of the same action.
    group: usize,
    state: State,
    /// When the last press began, for double taps.
    pressed: Option<Instant>,
    /// Whether the press that lasts is the second of two quick ones.
    latches: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// It is held, and begins then.
    Starting(Instant),
    /// It is held since then. The flag says whether the person was warned of its end.
    Held(Instant, bool),
    /// It was let go of, and ends then.
    Tail(Instant),
    /// It stays down without being held.
    Latched,
}

impl State {
    /// Whether the action goes on.
    fn is_down(self) -> bool {
        match self {
            Self::Held(..) | Self::Tail(_) | Self::Latched => true,
            Self::Up | Self::Starting(_) => false,
        }
    }
}

impl<A: Clone + Eq> Default for Bindings<A> {
    fn default() -> Self {
        Self {
            bound: Vec::new(),
            holds: Vec::new(),
            down: BTreeSet::new(),
            seen: BTreeSet::new(),
            typing: false,
            suspended: false,
            fired: VecDeque::new(),
        }
    }
}

impl<A: Clone + Eq> Bindings<A> {
    /// Binds these and nothing else. A binding that was there before goes on as it is; what the
    /// others hold ends.
    pub fn set(&mut self, bindings: Vec<Binding<A>>) {
        for at in 0..self.bound.len() {
            if !bindings.contains(&self.bound[at].binding) {
                self.end(at);
            }
        }
        let before = std::mem::take(&mut self.bound);
        self.holds = vec![0; bindings.len()];
        for binding in &bindings {
            let same = |it: &Binding<A>| it.action == binding.action;
            let group = bindings.iter().position(same).unwrap_or_default();
            let bound = match before.iter().find(|it| it.binding == *binding) {
                Some(same) => Bound { group, ..same.clone() },
                None => Bound {
                    binding: binding.clone(),
                    group,
                    state: State::Up,
                    pressed: None,
                    latches: false,
                },
            };
            self.holds[group] += u16::from(bound.state.is_down());
            self.bound.push(bound);
        }
    }

    /// Takes in what a listener tells. What was due before is carried out first: a press that was
    /// held for long enough counts, even if its release is waiting already.
    pub fn handle(&mut self, now: Instant, input: KeyInput) {
        self.handle_timeout(now);
        match input {
            KeyInput::Pressed(button) => self.press(now, button),
            KeyInput::Released(button) => self.release(now, &button),
            KeyInput::Gone(device) => self.lose(|it| it.device() == Some(&device)),
            KeyInput::AllUp => {
                self.down.clear();
                self.seen.clear();
                self.end_all();
            }
            KeyInput::Confirmed(down) => {
                let known = self.down.union(&self.seen);
                let lost: Vec<Button> = known.filter(|it| !down.contains(it)).cloned().collect();
                for button in &lost {
                    self.release(now, button);
                }
                self.seen = down.difference(&self.down).cloned().collect();
            }
        }
    }

    /// Carries out what is due, in the order of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, at)) = self.next_due().filter(|(due, _)| *due <= now) {
            self.carry_out(due, at);
        }
    }

    /// While the person types into a field of this program, keys that type do nothing else.
    pub fn set_typing(&mut self, typing: bool) {
        self.typing = typing;
        if typing {
            for at in 0..self.bound.len() {
                if self.bound[at].binding.chord.types() {
                    self.end(at);
                }
            }
        }
    }

    /// While a key is being chosen, nothing is held.
    pub fn suspend(&mut self, suspended: bool) {
        self.suspended = suspended;
        if suspended {
            // Releases go to what chooses the key, and none of them is told here.
            self.down.clear();
            self.seen.clear();
            self.end_all();
        }
    }

    /// What has begun, ended or happened.
    pub fn poll_action(&mut self) -> Option<Fired<A>> {
        self.fired.pop_front()
    }

    /// When [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_due().map(|(due, _)| due)
    }

    /// The buttons that a listener has to pass on.
    pub fn named(&self) -> BTreeSet<Button> {
        let chords = self.bound.iter().map(|bound| &bound.binding.chord);
        chords.flat_map(Chord::buttons).cloned().collect()
    }

    /// What is due first, with the place of its binding.
    fn next_due(&self) -> Option<(Instant, usize)> {
        let due = self.bound.iter().enumerate().filter_map(|(at, bound)| {
            let due = match bound.state {
                State::Starting(due) | State::Tail(due) => due,
                State::Held(since, false) if self.is_unconfirmed(at) => {
                    since + (LONGEST_HOLD - WARNING)
                }
                State::Held(since, true) if self.is_unconfirmed(at) => since + LONGEST_HOLD,
                State::Up | State::Held(..) | State::Latched => return None,
            };
            Some((due, at))
        });
        due.min()
    }

    fn carry_out(&mut self, due: Instant, at: usize) {
        let binding = &self.bound[at].binding;
        match self.bound[at].state {
            State::Starting(_) => self.begin(at, due),
            State::Held(since, false) => {
                self.fired.push_back(Fired::EndsSoon(binding.action.clone()));
                self.bound[at].state = State::Held(since, true);
            }
            State::Held(_, true) => {
                // The next press counts, though the release was lost.
                let chord = binding.chord.clone();
                let lost = |it: &Button| matches!(it, Button::Portal(_));
                self.lose(|it| lost(it) && chord.buttons().contains(it));
            }
            State::Tail(_) => self.end(at),
            State::Up | State::Latched => {}
        }
    }

    fn press(&mut self, now: Instant, button: Button) {
        if self.suspended {
            self.down.insert(button);
            return;
        }
        // Repeats of a key that is down, and what two listeners tell, count once.
        self.seen.remove(&button);
        if !self.down.insert(button.clone()) {
            return;
        }
        let complete = |bound: &Bound<A>| {
            let chord = &bound.binding.chord;
            chord.buttons().contains(&button)
                && chord.buttons().iter().all(|it| self.down.contains(it) || self.seen.contains(it))
                && !(self.typing && chord.types())
        };
        let begins: Vec<usize> =
            (0..self.bound.len()).filter(|at| complete(&self.bound[*at])).collect();
        for &at in &begins {
            let contained = begins.iter().any(|&other| self.contains(other, at));
            if contained {
                continue;
            }
            for other in 0..self.bound.len() {
                if self.contains(at, other) {
                    self.end(other);
                }
            }
            self.pressed(now, at);
        }
    }

    fn contains(&self, one: usize, other: usize) -> bool {
        self.bound[one].binding.chord.contains(&self.bound[other].binding.chord)
    }

    fn pressed(&mut self, now: Instant, at: usize) {
        let bound = &mut self.bound[at];
        let BindingKind::Talk(talk) = bound.binding.kind else {
            self.fired.push_back(Fired::Once(bound.binding.action.clone()));
            return;
        };
        if matches!(bound.state, State::Starting(_) | State::Held(..)) {
            // One of its buttons was seen before its press was told.
            return;
        }
        let before = bound.pressed.replace(now);
        bound.latches = talk.latch
            && bound.state != State::Latched
            && before.is_some_and(|it| now.saturating_duration_since(it) <= DOUBLE_TAP);
        match bound.state {
            State::Up if talk.start_delay_ms > 0 => {
                bound.state = State::Starting(now + millis(talk.start_delay_ms));
            }
            State::Up => self.begin(at, now),
            // It is down already, and goes on.
            State::Tail(_) | State::Latched | State::Starting(_) | State::Held(..) => {
                bound.state = State::Held(now, false);
            }
        }
    }

    fn release(&mut self, now: Instant, button: &Button) {
        let was_seen = self.seen.remove(button);
        if !self.down.remove(button) && !was_seen {
            return;
        }
        for at in 0..self.bound.len() {
            let bound = &mut self.bound[at];
            let BindingKind::Talk(talk) = bound.binding.kind else { continue };
            if !bound.binding.chord.buttons().contains(button) {
                continue;
            }
            match bound.state {
                State::Held(..) if bound.latches => bound.state = State::Latched,
                State::Held(..) if talk.release_delay_ms > 0 => {
                    bound.state = State::Tail(now + millis(talk.release_delay_ms));
                }
                State::Held(..) | State::Starting(_) => self.end(at),
                State::Up | State::Tail(_) | State::Latched => {}
            }
        }
    }

    /// Ends at once what these buttons hold.
    fn lose(&mut self, gone: impl Fn(&Button) -> bool) {
        self.down.retain(|button| !gone(button));
        self.seen.retain(|button| !gone(button));
        for at in 0..self.bound.len() {
            if self.bound[at].binding.chord.buttons().iter().any(&gone) {
                self.end(at);
            }
        }
    }

    fn begin(&mut self, at: usize, since: Instant) {
        let bound = &mut self.bound[at];
        bound.state = State::Held(since, false);
        let holds = &mut self.holds[bound.group];
        *holds += 1;
        if *holds == 1 {
            self.fired.push_back(Fired::Down(bound.binding.action.clone()));
        }
    }

    /// Ends an action at once, whatever keeps it down.
    fn end(&mut self, at: usize) {
        let bound = &mut self.bound[at];
        bound.latches = false;
        let was_down = bound.state.is_down();
        bound.state = State::Up;
        if was_down {
            let holds = &mut self.holds[bound.group];
            *holds -= 1;
            if *holds == 0 {
                self.fired.push_back(Fired::Up(bound.binding.action.clone()));
            }
        }
    }

    fn end_all(&mut self) {
        for at in 0..self.bound.len() {
            self.end(at);
        }
    }

    /// Whether nobody can say if the chord is still held.
    fn is_unconfirmed(&self, at: usize) -> bool {
        let buttons = self.bound[at].binding.chord.buttons();
        buttons.iter().any(|it| matches!(it, Button::Portal(_)))
    }
}

/// Two bindings that get in each other's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Both have the same chord, and do different things.
    Same(usize, usize),
    /// The first chord contains the second, which does nothing while the first is held.
    Contains(usize, usize),
}

/// The bindings, by their places, that get in each other's way.
pub fn conflicts<A: Eq>(bindings: &[Binding<A>]) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (at, one) in bindings.iter().enumerate() {
        for (place, other) in bindings.iter().enumerate() {
            if at < place && one.chord == other.chord && one.action != other.action {
                found.push(Conflict::Same(at, place));
            } else if one.chord.contains(&other.chord) {
                found.push(Conflict::Contains(at, place));
            }
        }
    }
    found
}

fn millis(delay: u16) -> Duration {
    Duration::from_millis(delay.min(DELAY_MAX_MS).into())
}

/// The longest delay at the beginning or the end.
pub const DELAY_MAX_MS: u16 = 500;

/// Two presses within this time are a double tap.
const DOUBLE_TAP: Duration = Duration::from_millis(300);

/// A button of which nobody can say whether it is down counts as up after this time.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// How long before that the person is warned.
const WARNING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
