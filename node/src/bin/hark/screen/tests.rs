use hark_keys::DeviceKey;
use hark_node::{
    event::{DeviceText, Path, PeerStats},
    snapshot::PeerView,
};
use ratatui::backend::TestBackend;

use super::*;

fn device(number: u8) -> DeviceText {
    DeviceText(DeviceKey::from_secret(&[number; 32]).id())
}

fn peer(number: u8, name: &str, reachable: bool) -> PeerView {
    PeerView {
        name: name.to_owned(),
        address: "192.0.2.7:4000".to_owned(),
        reachable,
        talking: reachable,
        level_dbfs: -35.0,
        volume: 1.0,
        stats: PeerStats {
            device: device(number),
            path: Path::Direct,
            rtt_ms: 1.26,
            loss_percent: 2.5,
            jitter_ms: 0.2,
            playout_delay_ms: 21.4,
            frames_received: 0,
            frames_concealed: 0,
            frames_late: 0,
            frames_recovered: 0,
        },
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        device: device(1),
        name: "Ann".to_owned(),
        organisation: "Kestrel".to_owned(),
        organisation_id: String::new(),
        channel: "squad".to_owned(),
        ticket: format!("hark1{}", "abcdefgh".repeat(40)),
        transmit: TransmitMode::Vad,
        muted: false,
        deafened: false,
        transmitting: false,
        level_dbfs: -20.0,
        copies: 0,
        cpu_percent: 3.2,
        peers: vec![peer(2, "Bob", true), peer(3, "Cat", false)],
        roster: Vec::new(),
        trouble: None,
    }
}

fn shown(width: u16, height: u16, snapshot: &Snapshot, state: &ViewState) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, snapshot, state)).expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[test]
fn members_are_shown_with_how_they_are_heard() {
    let lines = shown(80, 8, &snapshot(), &ViewState::default());
    assert!(lines[0].starts_with(" Kestrel  squad"), "{lines:#?}");
    assert!(lines[0].ends_with("Ann · 3 % CPU"), "{lines:#?}");
    assert!(lines[1].contains(" 2 here "), "{lines:#?}");
    assert!(lines[3].starts_with("› Bob"), "{lines:#?}");
    for part in ["█████·····", "direct", "1.3", "2.5", "21", "100 %"] {
        assert!(lines[3].contains(part), "{part} {lines:#?}");
    }
    assert!(lines[4].starts_with("  Cat") && lines[4].contains("away"), "{lines:#?}");
    assert!(!lines[4].contains("2.5") && !lines[4].contains('█'), "{lines:#?}");
    assert!(lines[6].starts_with(" you  ··········  by voice"), "{lines:#?}");
    assert!(lines[7].contains("q leave · m mute · d deafen · t ticket"), "{lines:#?}");
}

#[test]
fn the_own_state_is_plain_to_see() {
    let snapshot = Snapshot {
        muted: true,
        deafened: true,
        transmitting: true,
        transmit: TransmitMode::Ptt,
        copies: 2,
        trouble: Some("the microphone is gone".to_owned()),
        ..snapshot()
    };
    let held = ViewState { talk_key: true, ..ViewState::default() };
    let lines = shown(100, 9, &snapshot, &held);
    let own = &lines[6];
    for part in ["████████··", "push to talk", "TALKING", "HELD", "MUTED", "DEAFENED", "copies 2"]
    {
        assert!(own.contains(part), "{part} {lines:#?}");
    }
    assert_eq!(lines[7], " ! the microphone is gone");
    assert!(lines[8].contains("m unmute · d undeafen · space talk on/off"), "{lines:#?}");
}

#[test]
fn the_ticket_is_shown_whole_and_without_borders_to_copy_around() {
    let snapshot = snapshot();
    let state = ViewState { show_ticket: true, ..ViewState::default() };
    let lines = shown(80, 12, &snapshot, &state);
    let copied: String = lines[2..9].concat();
    assert_eq!(copied, snapshot.ticket);
}

#[test]
fn any_size_can_be_drawn() {
    for width in [1, 2, 7, 25, 60, 200] {
        for height in [1, 2, 3, 5, 40] {
            for peers in [Vec::new(), snapshot().peers] {
                let snapshot = Snapshot { peers, ..snapshot() };
                shown(width, height, &snapshot, &ViewState::default());
            }
        }
    }
    let empty = Snapshot { peers: Vec::new(), ..snapshot() };
    let lines = shown(80, 8, &empty, &ViewState::default());
    assert!(lines[2].contains("Press t for the ticket"), "{lines:#?}");
}

fn key(code: KeyCode, kind: KeyEventKind) -> KeyEvent {
    KeyEvent::new_with_kind(code, KeyModifiers::NONE, kind)
}

fn press(state: &mut ViewState, snapshot: &Snapshot, letter: char) -> Option<Wish> {
    state.press(key(KeyCode::Char(letter), KeyEventKind::Press), snapshot)
}

#[test]
fn keys_ask_for_what_the_help_says() {
    let mut state = ViewState::default();
    let now = Snapshot { muted: true, ..snapshot() };
    let wish = |command| Some(Wish::Command(command));
    assert_eq!(press(&mut state, &now, 'm'), wish(Command::Mute { on: false }));
    assert_eq!(press(&mut state, &now, 'd'), wish(Command::Deafen { on: true }));
    assert_eq!(press(&mut state, &now, 'v'), wish(Command::Transmit { mode: TransmitMode::Ptt }));
    assert_eq!(press(&mut state, &now, 'q'), Some(Wish::Leave));
    assert_eq!(press(&mut state, &now, 't'), None);
    assert!(state.show_ticket);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.press(control_c, &now), Some(Wish::Leave));
    state.press(key(KeyCode::Down, KeyEventKind::Press), &now);
    let Some(Wish::Command(Command::Volume { device: chosen, gain })) =
        press(&mut state, &now, '+')
    else {
        panic!("no volume");
    };
    assert_eq!(chosen, device(3).0.to_string());
    assert!((gain - 1.1).abs() < 1e-6);
    // Nobody is pressed twice by the release of a key.
    assert_eq!(state.press(key(KeyCode::Char('m'), KeyEventKind::Release), &now), None);
}

#[test]
fn space_talks_while_it_is_down_where_the_terminal_can_tell() {
    let ptt = Snapshot { transmit: TransmitMode::Ptt, ..snapshot() };
    let mut state = ViewState { key_release: true, ..ViewState::default() };
    let space = |kind| key(KeyCode::Char(' '), kind);
    let wish = |down| Some(Wish::Command(Command::Ptt { down }));
    assert_eq!(state.press(space(KeyEventKind::Press), &ptt), wish(true));
    assert_eq!(state.press(space(KeyEventKind::Repeat), &ptt), None);
    assert_eq!(state.press(space(KeyEventKind::Release), &ptt), wish(false));
    assert_eq!(state.press(space(KeyEventKind::Press), &snapshot()), None);
}

#[test]
fn space_holds_where_the_terminal_cannot_tell() {
    let ptt = Snapshot { transmit: TransmitMode::Ptt, ..snapshot() };
    let mut state = ViewState::default();
    let wish = |down| Some(Wish::Command(Command::Ptt { down }));
    assert_eq!(press(&mut state, &ptt, ' '), wish(true));
    assert!(state.talk_key);
    assert_eq!(press(&mut state, &ptt, ' '), wish(false));
}
