//! Makes one picture of what several listeners tell.
//!
//! A key may be seen by two listeners. It is down while either says so.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{KeyInput, Sink, Watch, lock_of};
use crate::button::{Button, DeviceName};

/// Where all listeners of a system meet.
pub(super) struct Joint {
    sink: Sink,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each listener has told as down.
    down: Vec<BTreeSet<Button>>,
    /// What each listener says is down besides that. The presses were never told.
    seen: Vec<BTreeSet<Button>>,
    /// While the session is locked nothing passes: what is typed then may be a password.
    locked: bool,
}

/// Where one listener puts what it sees.
pub(super) struct Gate {
    joint: Arc<Joint>,
    source: usize,
    watch: Mutex<Watch>,
    closed: AtomicBool,
}

impl Joint {
    pub(super) fn new(sink: Sink) -> Arc<Self> {
        Arc::new(Self { sink, state: Mutex::default() })
    }

    /// A gate for one more listener. It watches nothing yet.
    pub(super) fn gate(self: &Arc<Self>) -> Arc<Gate> {
        let mut state = lock_of(&self.state);
        state.down.push(BTreeSet::new());
        state.seen.push(BTreeSet::new());
        Arc::new(Gate {
            joint: self.clone(),
            source: state.down.len() - 1,
            watch: Mutex::new(Watch::Named(BTreeSet::new())),
            closed: AtomicBool::new(false),
        })
    }

    /// Says whether the session is locked.
    #[cfg(any(target_os = "linux", windows, test))]
    pub(super) fn set_locked(&self, at: Instant, locked: bool) {
        let mut state = lock_of(&self.state);
        if state.locked == locked {
            return;
        }
        state.locked = locked;
        if locked {
            state.down.iter_mut().for_each(BTreeSet::clear);
            state.seen.iter_mut().for_each(BTreeSet::clear);
            (self.sink)(at, KeyInput::AllUp);
        }
    }
}

impl State {
    /// Whether another listener than `source` says that the button is down.
    fn down_elsewhere(&self, source: usize, button: &Button) -> bool {
        self.down.iter().enumerate().any(|(at, down)| at != source && down.contains(button))
    }

    /// What other listeners than `source` say is down.
    fn elsewhere(&self, source: usize) -> BTreeSet<Button> {
        let all = self.down.iter().zip(&self.seen).enumerate();
        let others = all.filter(|(at, _)| *at != source);
        others.flat_map(|(_, (down, seen))| down.union(seen).cloned()).collect()
    }
}

impl Gate {
    /// Sets what passes from now on.
    pub(super) fn watch(&self, watch: Watch) {
        *lock_of(&self.watch) = watch;
    }

    /// Lets nothing pass any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Tells what the listener saw, if it is watched.
    pub(super) fn tell(&self, at: Instant, input: KeyInput) {
        match input {
            KeyInput::Pressed(button) => self.pressed(at, button),
            KeyInput::Released(button) => self.released(at, button),
            KeyInput::Gone(device) => self.gone(at, device),
            KeyInput::AllUp => self.all_up(at),
            KeyInput::Confirmed(down) => self.confirmed(at, down),
        }
    }

    /// Says whether the session is locked.
    #[cfg(windows)]
    pub(super) fn set_locked(&self, at: Instant, locked: bool) {
        self.joint.set_locked(at, locked);
    }

    /// Whether anything is down that this listener has told of.
    pub(super) fn holds(&self) -> bool {
        !lock_of(&self.joint.state).down[self.source].is_empty()
    }

    /// Whether the listener is asked for any button of which `wanted` is true.
    #[cfg(any(windows, test))]
    pub(super) fn watches_any(&self, wanted: impl Fn(&Button) -> bool) -> bool {
        match &*lock_of(&self.watch) {
            Watch::Named(named) => named.iter().any(wanted),
            Watch::Everything => true,
        }
    }

    fn watches(&self, button: &Button) -> bool {
        match &*lock_of(&self.watch) {
            Watch::Named(named) => named.contains(button),
            Watch::Everything => true,
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn pressed(&self, at: Instant, button: Button) {
        if !self.watches(&button) {
            return;
        }
        let mut state = lock_of(&self.joint.state);
        if state.locked || self.is_closed() {
            return;
        }
        // A repeat is no press, and neither is what another listener has told already. A shortcut
        // of the desktop does not repeat: if it is down already, its release was lost.
        let known = state.down_elsewhere(self.source, &button);
        state.seen[self.source].remove(&button);
        let new = state.down[self.source].insert(button.clone());
        if (new || matches!(button, Button::Portal(_))) && !known {
            (self.joint.sink)(at, KeyInput::Pressed(button));
        }
    }

    fn released(&self, at: Instant, button: Button) {
        let mut state = lock_of(&self.joint.state);
        let was_down = state.down[self.source].remove(&button);
        let was_seen = state.seen[self.source].remove(&button);
        if (was_down || was_seen)
            && !state.down_elsewhere(self.source, &button)
            && !self.is_closed()
        {
            (self.joint.sink)(at, KeyInput::Released(button));
        }
    }

    fn gone(&self, at: Instant, device: DeviceName) {
        let mut state = lock_of(&self.joint.state);
        state.down[self.source].retain(|button| button.device() != Some(&device));
        state.seen[self.source].retain(|button| button.device() != Some(&device));
        if !self.is_closed() {
            (self.joint.sink)(at, KeyInput::Gone(device));
        }
    }

    fn all_up(&self, at: Instant) {
        let mut state = lock_of(&self.joint.state);
        state.down[self.source].clear();
        state.seen[self.source].clear();
        if self.is_closed() {
            return;
        }
        // What others hold stays held: only this listener begins anew.
        let left = state.elsewhere(self.source);
        let input = if left.is_empty() { KeyInput::AllUp } else { KeyInput::Confirmed(left) };
        (self.joint.sink)(at, input);
    }

    fn confirmed(&self, at: Instant, mut down: BTreeSet<Button>) {
        let mut state = lock_of(&self.joint.state);
        if state.locked || self.is_closed() {
            return;
        }
        state.down[self.source].retain(|button| down.contains(button));
        let told = &state.down[self.source];
        down.retain(|button| told.contains(button) || self.watches(button));
        let seen = down.difference(told).cloned().collect();
        state.seen[self.source] = seen;
        down.append(&mut state.elsewhere(self.source));
        (self.joint.sink)(at, KeyInput::Confirmed(down));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        bindings::{Binding, BindingKind, Bindings, Fired, Talk},
        button::Usage,
    };

    const V: Button = Button::Key(Usage(0x19));
    const B: Button = Button::Key(Usage(0x05));

    fn joint() -> (Arc<Joint>, mpsc::Receiver<KeyInput>) {
        let (sender, receiver) = mpsc::channel();
        let joint = Joint::new(Arc::new(move |_, input| {
            let _ = sender.send(input);
        }));
        (joint, receiver)
    }

    fn set(buttons: &[Button]) -> BTreeSet<Button> {
        buttons.iter().cloned().collect()
    }

    #[test]
    fn a_key_that_two_listeners_see_is_pressed_once_and_up_when_both_say_so() {
        let (joint, told) = joint();
        let (first, second) = (joint.gate(), joint.gate());
        first.watch(Watch::Everything);
        second.watch(Watch::Everything);
        let now = Instant::now();
        for gate in [&first, &second, &second] {
            gate.tell(now, KeyInput::Pressed(V));
        }
        first.tell(now, KeyInput::Released(V));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [KeyInput::Pressed(V)]);
        second.tell(now, KeyInput::Released(V));
        second.tell(now, KeyInput::Released(V));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [KeyInput::Released(V)]);
    }

    #[test]
    fn what_is_not_watched_stays_inside() {
        let (joint, told) = joint();
        let gate = joint.gate();
        let now = Instant::now();
        gate.tell(now, KeyInput::Pressed(V));
        gate.watch(Watch::Named(set(&[B])));
        gate.tell(now, KeyInput::Pressed(V));
        gate.tell(now, KeyInput::Released(V));
        gate.tell(now, KeyInput::Confirmed(set(&[V])));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [KeyInput::Confirmed(set(&[]))]);
        assert!(gate.watches_any(|button| *button == B));
        assert!(!gate.watches_any(|button| *button == V));
    }

    #[test]
    fn a_release_follows_its_press_after_the_binding_was_taken_away() {
        let (joint, told) = joint();
        let gate = joint.gate();
        let now = Instant::now();
        gate.watch(Watch::Named(set(&[V])));
        gate.tell(now, KeyInput::Pressed(V));
        gate.watch(Watch::Named(set(&[B])));
        gate.tell(now, KeyInput::Released(V));
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [KeyInput::Pressed(V), KeyInput::Released(V)]);
    }

    #[test]
    fn one_listener_that_begins_anew_does_not_end_what_another_holds() {
        let (joint, told) = joint();
        let (first, second) = (joint.gate(), joint.gate());
        first.watch(Watch::Everything);
        second.watch(Watch::Everything);
        let now = Instant::now();
        first.tell(now, KeyInput::Pressed(V));
        second.tell(now, KeyInput::Pressed(B));
        second.tell(now, KeyInput::Confirmed(set(&[])));
        first.tell(now, KeyInput::AllUp);
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [
                KeyInput::Pressed(V),
                KeyInput::Pressed(B),
                KeyInput::Confirmed(set(&[V])),
                KeyInput::AllUp,
            ]
        );
    }

    /// A desktop that lost the release of a shortcut, and began anew while a key was held.
    #[test]
    fn a_portal_that_began_anew_kept_its_shortcut_down_while_a_key_was_held() {
        let (joint, told) = joint();
        let (keys, portal) = (joint.gate(), joint.gate());
        let now = Instant::now();
        let mut bindings = Bindings::default();
        let talk =
            |chord, action| Binding { chord, action, kind: BindingKind::Talk(Talk::default()) };
        let shortcut = Button::Portal("talk".into());
        bindings.set(vec![talk(V.into(), "lead"), talk(shortcut.clone().into(), "squad")]);
        for gate in [&keys, &portal] {
            gate.watch(Watch::Named(bindings.named()));
        }
        let mut heard = |gate: &Gate, input| {
            gate.tell(now, input);
            told.try_iter().for_each(|input| bindings.handle(now, input));
            std::iter::from_fn(|| bindings.poll_action()).collect::<Vec<_>>()
        };
        assert_eq!(heard(&keys, KeyInput::Pressed(V)), [Fired::Down("lead")]);
        let pressed = KeyInput::Pressed(shortcut);
        assert_eq!(heard(&portal, pressed.clone()), [Fired::Down("squad")]);
        assert_eq!(heard(&keys, KeyInput::Confirmed(set(&[V]))), []);
        assert_eq!(heard(&portal, KeyInput::AllUp), [Fired::Up("squad")]);
        assert_eq!(heard(&portal, pressed), [Fired::Down("squad")]);
        assert_eq!(heard(&portal, KeyInput::AllUp), [Fired::Up("squad")]);
        assert_eq!(heard(&portal, KeyInput::AllUp), []);
        assert_eq!(heard(&keys, KeyInput::Released(V)), [Fired::Up("lead")]);
    }

    #[test]
    fn a_shortcut_whose_release_was_lost_was_never_heard_again() {
        let (joint, told) = joint();
        let gate = joint.gate();
        gate.watch(Watch::Everything);
        let pressed = KeyInput::Pressed(Button::Portal("talk".into()));
        for _ in 0..2 {
            gate.tell(Instant::now(), pressed.clone());
        }
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [pressed.clone(), pressed]);
    }

    /// Shift was down before it was watched.
    #[test]
    fn a_modifier_that_was_only_seen_stayed_down_after_its_release() {
        let (joint, told) = joint();
        let (first, second) = (joint.gate(), joint.gate());
        first.watch(Watch::Everything);
        second.watch(Watch::Everything);
        let now = Instant::now();
        first.tell(now, KeyInput::Confirmed(set(&[V])));
        second.tell(now, KeyInput::Confirmed(set(&[B])));
        first.tell(now, KeyInput::Released(V));
        first.tell(now, KeyInput::Released(V));
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [
                KeyInput::Confirmed(set(&[V])),
                KeyInput::Confirmed(set(&[V, B])),
                KeyInput::Released(V),
            ]
        );
    }

    #[test]
    fn a_password_typed_at_the_lock_screen_stays_inside() {
        let (joint, told) = joint();
        let gate = joint.gate();
        gate.watch(Watch::Everything);
        let now = Instant::now();
        gate.tell(now, KeyInput::Pressed(V));
        joint.set_locked(now, true);
        gate.tell(now, KeyInput::Pressed(B));
        gate.tell(now, KeyInput::Confirmed(set(&[B])));
        joint.set_locked(now, false);
        gate.tell(now, KeyInput::Released(B));
        gate.tell(now, KeyInput::Pressed(B));
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [KeyInput::Pressed(V), KeyInput::AllUp, KeyInput::Pressed(B)]);
    }

    #[test]
    fn nothing_follows_a_closed_outlet() {
        let (joint, told) = joint();
        let gate = joint.gate();
        gate.watch(Watch::Everything);
        gate.close();
        gate.tell(Instant::now(), KeyInput::Pressed(V));
        gate.tell(Instant::now(), KeyInput::AllUp);
        assert_eq!(told.try_iter().count(), 0);
    }
}
