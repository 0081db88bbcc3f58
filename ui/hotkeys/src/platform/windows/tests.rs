use super::{super::joint::Joint, *};

type Told = Arc<Mutex<Vec<KeyInput>>>;

fn gate() -> (Arc<Gate>, Told) {
    let told = Told::default();
    let sink = told.clone();
    let gate = Joint::new(Arc::new(move |_, input| lock_of(&sink).push(input))).gate();
    gate.watch(Watch::Everything);
    (gate, told)
}

/// What a reader tells of these messages.
fn read(messages: impl IntoIterator<Item = Message>) -> Vec<KeyInput> {
    let (gate, told) = gate();
    let trouble = Trouble::default();
    let window = Window::new().expect("every session has windows");
    let mut reader = Reader::new(gate, Arc::default(), &trouble, window);
    messages.into_iter().for_each(|message| reader.handle(message));
    std::mem::take(&mut *lock_of(&told))
}

fn key(make_code: u16, flags: u16, virtual_key: u16) -> Message {
    Message::Key { make_code, flags, virtual_key }
}

fn pressed_and_released(usage: u16) -> [KeyInput; 2] {
    let button = Button::Key(Usage(usage));
    [KeyInput::Pressed(button.clone()), KeyInput::Released(button)]
}

#[test]
fn both_controls_are_told_apart() {
    let left = read([key(0x1d, 0, 0x11), key(0x1d, BREAK, 0x11)]);
    assert_eq!(left, pressed_and_released(LEFT_CONTROL));
    let right = read([key(0x1d, E0, 0x11), key(0x1d, E0 | BREAK, 0x11)]);
    assert_eq!(right, pressed_and_released(0xe4));
}

/// With Num Lock on, Windows wraps the arrows of some boards into a Shift that nobody has pressed.
#[test]
fn a_shift_that_nobody_pressed_is_not_told() {
    let messages = [
        key(0x2a, E0, NO_KEY),
        key(0x48, E0, 0x26),
        key(0x48, E0 | BREAK, 0x26),
        key(0x2a, E0 | BREAK, NO_KEY),
    ];
    assert_eq!(read(messages), pressed_and_released(0x52));
}

#[test]
fn pause_is_one_key_although_it_has_two_codes() {
    let messages = [
        key(0x1d, E1, 0x13),
        key(0x45, 0, NO_KEY),
        key(0x1d, E1 | BREAK, 0x13),
        key(0x45, 1, NO_KEY),
    ];
    assert_eq!(read(messages), pressed_and_released(0x48));
}

#[test]
fn a_board_that_cannot_tell_its_keys_presses_none() {
    assert_eq!(read([key(OVERRUN, 0, 0x41)]), []);
}

/// A program that presses a key by SendInput may leave its scan code out.
#[test]
fn a_key_without_a_scan_code_is_known_by_its_virtual_code() {
    assert_eq!(read([key(0, 0, 0x41), key(0, BREAK, 0x41)]), pressed_and_released(0x04));
}

#[test]
fn side_buttons_of_a_mouse_are_the_fourth_and_fifth() {
    // RI_MOUSE_BUTTON_4_DOWN with 5_DOWN in one report, then both up, then the wheel.
    let messages = [0x0140, 0x0280, 0x0400].map(|buttons| Message::Mouse { buttons });
    let told = read(messages);
    let (fourth, fifth) = (Button::Mouse(4), Button::Mouse(5));
    let expected = [
        KeyInput::Pressed(fourth.clone()),
        KeyInput::Pressed(fifth.clone()),
        KeyInput::Released(fourth),
        KeyInput::Released(fifth),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_was_held_when_the_session_was_locked_is_up_and_stays_so() {
    let told = read([key(0x1d, E0, 0x11), Message::Locked(true), key(0x1e, 0, 0x41)]);
    assert_eq!(told.last(), Some(&KeyInput::AllUp));
    assert_eq!(told.len(), 2);
}

/// It needs no pads, no focus and no administrator.
#[test]
fn a_listener_hears_every_kind_of_device_and_ends_when_it_is_dropped() {
    let (gate, _) = gate();
    let listener = Windows::start(gate);
    listener.watch(Watch::Everything);
    let begun = Instant::now();
    let shared = listener.shared.clone();
    while shared.watch_changed.load(Ordering::Acquire) {
        assert!(begun.elapsed() < Duration::from_secs(10), "its thread takes no wake");
        std::thread::yield_now();
    }
    assert_eq!(*lock_of(&listener.trouble), None);
    drop(listener);
    assert_eq!(Arc::strong_count(&shared), 1, "its thread has not ended");
}
