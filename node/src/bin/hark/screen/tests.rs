use hark_keys::DeviceKey;
use hark_node::{
    event::{DeviceText, Path, PeerStats},
    snapshot::{NetView, PeerView},
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
        why_relayed: None,
        talking: reachable,
        talking_on: Vec::new(),
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

fn net(name: &str, listening: bool, members: &[&str], talking: &[&str]) -> NetView {
    let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect();
    NetView {
        name: name.to_owned(),
        id: String::new(),
        listening,
        volume: 1.0,
        pan: 0.0,
        muted: false,
        priority: 0,
        members: names(members),
        talking: names(talking),
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        device: device(1),
        name: "Ann".to_owned(),
        organisation: "Kestrel".to_owned(),
        organisation_id: String::new(),
        front: true,
        nets: vec![net("squad", true, &["Bob"], &[])],
        profile: "default".to_owned(),
        profiles: vec!["default".to_owned()],
        talk_to: vec!["squad".to_owned()],
        keys: Vec::new(),
        transmit: TransmitMode::Vad,
        muted: false,
        deafened: false,
        transmitting: false,
        level_dbfs: -20.0,
        copies: 0,
        cpu_percent: 3.2,
        peers: vec![peer(2, "Bob", true), peer(3, "Cat", false)],
        roster: Vec::new(),
        unconfirmed: Vec::new(),
        router: None,
        checked: Vec::new(),
        sanctions: Vec::new(),
        trouble: None,
    }
}

fn showing_a_ticket() -> ViewState {
    let ticket = ShownTicket {
        organisation: String::new(),
        text: format!("hark1{}", "abcdefgh".repeat(40)),
        copied: false,
    };
    ViewState { ticket: Some(ticket), ..ViewState::default() }
}

fn shown(width: u16, height: u16, snapshot: &Snapshot, state: &ViewState) -> Vec<String> {
    shown_beside(width, height, snapshot, &[], state)
}

fn shown_beside(
    width: u16,
    height: u16,
    snapshot: &Snapshot,
    others: &[Arc<Snapshot>],
    state: &ViewState,
) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, snapshot, others, state)).expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[test]
fn members_are_shown_with_how_they_are_heard() {
    let state = ViewState { news: ["Bob is here".to_owned()].into(), ..ViewState::default() };
    let lines = shown(80, 11, &snapshot(), &state);
    assert!(lines[0].starts_with(" Kestrel  squad"), "{lines:#?}");
    assert!(lines[0].ends_with("Ann · 3 % CPU"), "{lines:#?}");
    assert!(lines[1].contains(" 2 here "), "{lines:#?}");
    assert!(lines[3].starts_with("› Bob"), "{lines:#?}");
    for part in ["█████─────", "direct", "1.3", "2.5", "21", "100 %"] {
        assert!(lines[3].contains(part), "{part} {lines:#?}");
    }
    assert!(lines[4].starts_with("  Cat") && lines[4].contains("away"), "{lines:#?}");
    assert!(!lines[4].contains("2.5") && !lines[4].contains('█'), "{lines:#?}");
    assert_eq!(lines[7], "  Bob is here");
    assert!(lines[9].starts_with(" you  ████████──  by voice"), "{lines:#?}");
    assert!(lines[10].contains("q leave · m mute · d deafen · t ticket"), "{lines:#?}");
}

#[test]
fn other_organisations_have_a_line_with_who_talks_there() {
    let mut talks = peer(4, "Dan", true);
    talks.talking_on = vec!["Command".to_owned()];
    let escort = Snapshot { organisation: "Escort".to_owned(), peers: vec![talks], ..snapshot() };
    let silent = Snapshot { organisation: "Miners".to_owned(), peers: Vec::new(), ..snapshot() };
    let state = ViewState { other_organisations: 2, ..ViewState::default() };
    let others = [Arc::new(escort), Arc::new(silent)];
    let lines = shown_beside(100, 12, &snapshot(), &others, &state);
    assert!(lines[0].starts_with(" Kestrel"), "{lines:#?}");
    assert!(
        lines[1].starts_with(" ● Escort") && lines[1].ends_with("Dan on Command"),
        "{lines:#?}"
    );
    assert!(lines[2].starts_with(" ○ Miners") && lines[2].ends_with("1 here"), "{lines:#?}");
    assert!(lines[11].contains("tab next organisation"), "{lines:#?}");
}

#[test]
fn tab_is_for_those_who_are_in_several_organisations() {
    let tab = KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE);
    let mut state = ViewState::default();
    assert_eq!(state.press(tab, &snapshot()), None);
    state.other_organisations = 1;
    state.talk_key = true;
    assert_eq!(state.press(tab, &snapshot()), Some(Wish::NextOrganisation));
    assert!(!state.talk_key, "the key was for the organisation that was in front");
}

#[test]
fn nets_are_shown_with_who_is_on_them_and_who_talks() {
    let nets = vec![
        net("Command", true, &["Bob", "Cat"], &["Bob"]),
        net("Flight", true, &["Bob"], &[]),
        net("Ground", false, &[], &[]),
    ];
    let snapshot = Snapshot { nets, talk_to: vec!["Flight".to_owned()], ..snapshot() };
    let lines = shown(80, 14, &snapshot, &ViewState::default());
    assert!(lines[0].starts_with(" Kestrel  "), "{lines:#?}");
    assert!(lines[1].starts_with(" ● Command") && lines[1].ends_with("Bob"), "{lines:#?}");
    assert!(lines[2].starts_with(" ○ Flight") && lines[2].ends_with("Bob"), "{lines:#?}");
    assert!(lines[3].starts_with(" · Ground"), "{lines:#?}");
    assert!(lines[4].contains(" 2 here "), "{lines:#?}");
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
    let lines = shown(100, 10, &snapshot, &held);
    let own = &lines[7];
    for part in ["████████──", "push to talk", "TALKING", "HELD", "MUTED", "DEAFENED", "copies 2"]
    {
        assert!(own.contains(part), "{part} {lines:#?}");
    }
    assert_eq!(lines[8], " ! the microphone is gone");
    assert!(lines[9].contains("m unmute · d undeafen · space talk on/off"), "{lines:#?}");
}

#[test]
fn the_ticket_is_shown_whole_and_without_borders_to_copy_around() {
    let (snapshot, state) = (snapshot(), showing_a_ticket());
    let ticket = &state.ticket.as_ref().expect("shown").text;
    for (width, height) in [(60, 15), (80, 12), (200, 50)] {
        let lines = shown(width, height, &snapshot, &state);
        let first = lines.iter().position(|line| line.starts_with("hark1")).expect("shown");
        let rows = ticket.len().div_ceil(width.into());
        assert_eq!(lines[first..first + rows].concat(), *ticket, "{lines:#?}");
        assert!(lines.concat().contains("hark talk TICKET"), "{lines:#?}");
    }
}

#[test]
fn whoever_is_alone_sees_how_to_have_a_ticket() {
    let away = snapshot().peers.split_off(1);
    for peers in [Vec::new(), away] {
        let lines = shown(80, 24, &Snapshot { peers, ..snapshot() }, &ViewState::default());
        let text = lines.join("\n");
        assert!(text.contains("t makes a ticket"), "{text}");
    }
    let text = shown(80, 24, &snapshot(), &ViewState::default()).concat();
    assert!(!text.contains("t makes a ticket"), "{text}");
}

#[test]
fn a_ticket_is_shown_for_its_own_organisation_alone() {
    let state = showing_a_ticket();
    let other = Snapshot { organisation_id: "another".to_owned(), ..snapshot() };
    let text = shown(80, 24, &other, &state).concat();
    assert!(!text.contains("hark1"), "{text}");
}

#[test]
fn any_size_can_be_drawn() {
    for width in [1, 2, 7, 25, 60, 200] {
        for height in [1, 2, 3, 5, 40] {
            for peers in [Vec::new(), snapshot().peers] {
                for state in [ViewState::default(), showing_a_ticket()] {
                    let snapshot = Snapshot { peers: peers.clone(), ..snapshot() };
                    shown(width, height, &snapshot, &state);
                }
            }
        }
    }
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
    assert_eq!(press(&mut state, &now, 'c'), Some(Wish::Copy));
    assert_eq!(press(&mut state, &now, 't'), Some(Wish::Ticket));
    let mut showing = showing_a_ticket();
    assert_eq!(press(&mut showing, &now, 't'), None);
    assert!(showing.ticket.is_none(), "it is put away, and forgotten");
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
    let wish = |down| Some(Wish::Command(Command::Ptt { down, key: None }));
    assert_eq!(state.press(space(KeyEventKind::Press), &ptt), wish(true));
    assert_eq!(state.press(space(KeyEventKind::Repeat), &ptt), None);
    assert_eq!(state.press(space(KeyEventKind::Release), &ptt), wish(false));
    assert_eq!(state.press(space(KeyEventKind::Press), &snapshot()), None);
}

#[test]
fn space_holds_where_the_terminal_cannot_tell() {
    let ptt = Snapshot { transmit: TransmitMode::Ptt, ..snapshot() };
    let mut state = ViewState::default();
    let wish = |down| Some(Wish::Command(Command::Ptt { down, key: None }));
    assert_eq!(press(&mut state, &ptt, ' '), wish(true));
    assert!(state.talk_key);
    assert_eq!(press(&mut state, &ptt, ' '), wish(false));
}
