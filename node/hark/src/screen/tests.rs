use hark_keys::{DeviceKey, device_words};
use hark_node::{
    admission::WaitingView,
    event::{DeviceText, Path, PeerStats},
    snapshot::{MasterVolumes, NetView, PeerView, Verification},
};
use ratatui::backend::TestBackend;

use super::*;

fn device(number: u8) -> DeviceText {
    DeviceText(DeviceKey::from_secret(&[number; 32]).id())
}

fn peer(number: u8, name: &str, reachable: bool) -> PeerView {
    PeerView {
        name: name.to_owned(),
        member: format!("member-{number}"),
        roles: Vec::new(),
        silenced: false,
        muted: false,
        deafened: false,
        away: false,
        whispers: false,
        verification: Verification::Unverified,
        away_secs: (!reachable).then_some(9),
        former: false,
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
            samples_inserted: 0,
            samples_removed: 0,
        },
    }
}

fn net(name: &str, listening: bool, members: &[&str], talking: &[&str]) -> NetView {
    let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect();
    NetView {
        name: name.to_owned(),
        path: name.to_owned(),
        id: name.to_owned(),
        parent: None,
        listening,
        talked_to: false,
        kept: false,
        may_speak: true,
        volume: 1.0,
        pan: 0.0,
        muted: false,
        radio: false,
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
        all_presets: Vec::new(),
        master: MasterVolumes::default(),
        front: true,
        silenced: Vec::new(),
        unheard: false,
        presets: Vec::new(),
        nets: vec![net("squad", true, &["Bob"], &[])],
        profile: "default".to_owned(),
        profiles: vec!["default".to_owned()],
        talk_to: vec!["squad".to_owned()],
        keys: Vec::new(),
        transmit: TransmitMode::Vad,
        muted: false,
        deafened: false,
        away: false,
        transmitting: false,
        level_dbfs: -20.0,
        copies: 0,
        processing: Default::default(),
        coding: Default::default(),
        cues: Default::default(),
        side_tone: Default::default(),
        cpu_percent: 3.2,
        peers: vec![peer(2, "Bob", true), peer(3, "Cat", false)],
        other_members: 0,
        roster: Vec::new(),
        unconfirmed: Vec::new(),
        router: None,
        checked: Vec::new(),
        sanctions: Vec::new(),
        waiting: Vec::new(),
        trouble: None,
    }
}

/// A channel below another one.
fn below(parent: &str, name: &str) -> NetView {
    let path = format!("{parent}/{name}");
    let parent = Some(parent.to_owned());
    NetView { id: path.clone(), path, parent, ..net(name, false, &[], &[]) }
}

/// An organisation in which two channels have the same name, with more channels than fit a low
/// screen.
fn organisation() -> Snapshot {
    let flight = NetView { talked_to: true, ..net("Flight", true, &["Heron", "Wren"], &["Wren"]) };
    let mut nets = vec![net("Command", true, &["Heron"], &[]), flight, below("Flight", "Alpha")];
    nets.extend([net("Ground", false, &[], &[]), below("Ground", "Alpha")]);
    nets.extend((1..=15).map(|number| below("Ground", &format!("Team {number}"))));
    let names = ["Heron", "Magpie", "Osprey", "Sable", "Wren"];
    let peers = names.iter().zip(2..).map(|(name, number)| peer(number, name, true));
    Snapshot { nets, peers: peers.collect(), talk_to: vec!["Flight".to_owned()], ..snapshot() }
}

fn showing_a_ticket() -> ViewState {
    let ticket = ShownTicket {
        organisation: String::new(),
        text: format!("hark1{}", "abcdefgh".repeat(40)),
        lasting: "24 h".to_owned(),
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
    terminal
        .draw(|frame| {
            draw(frame, snapshot, others, state);
        })
        .expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[test]
fn members_are_shown_with_how_they_are_heard() {
    let mut state = ViewState::default();
    state.news.tell(Duration::ZERO, "2026-11-22 21:40:05".to_owned(), "Bob is here".to_owned());
    let lines = shown(80, 12, &snapshot(), &state);
    assert!(lines[0].starts_with(" Kestrel  squad"), "{lines:#?}");
    assert!(lines[0].ends_with("Ann · 3 % CPU"), "{lines:#?}");
    assert!(lines[1].contains(" 2 here "), "{lines:#?}");
    assert!(lines[3].starts_with("› Bob"), "{lines:#?}");
    for part in ["█████─────", "direct", "1.3", "2.5", "21", "100 %"] {
        assert!(lines[3].contains(part), "{part} {lines:#?}");
    }
    assert!(lines[4].starts_with("  Cat") && lines[4].contains("gone"), "{lines:#?}");
    assert!(!lines[4].contains("2.5") && !lines[4].contains('█'), "{lines:#?}");
    assert_eq!(lines[7], "  21:40  Bob is here");
    assert!(lines[9].starts_with(" you  ████████──  by voice"), "{lines:#?}");
    assert_eq!(lines[10], " your voice goes to squad");
    assert!(lines[11].contains("? help · q leave · m mute · d deafen"), "{lines:#?}");
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
    assert!(lines[11].contains("o next organisation"), "{lines:#?}");
}

#[test]
fn o_is_for_those_who_are_in_several_organisations() {
    let mut state = ViewState::default();
    assert_eq!(press(&mut state, &snapshot(), 'o'), None);
    state.other_organisations = 1;
    state.talk_key = true;
    assert_eq!(press(&mut state, &snapshot(), 'o'), Some(Wish::NextOrganisation));
    assert!(!state.talk_key, "the key was for the organisation that was in front");
}

#[test]
fn two_channels_of_one_name_were_two_equal_lines() {
    let lines = shown(80, 40, &organisation(), &ViewState::default());
    let at = |text: &str| lines.iter().position(|line| line == text);
    let (flight, ground) = (at("  ●→ Flight     Wren, Heron"), at("  ·  Ground"));
    let alphas: Vec<_> = (0..lines.len()).filter(|it| lines[*it] == "  ·    Alpha").collect();
    let below = |parent: Option<usize>| parent.map(|it| it + 1).expect("shown");
    assert_eq!(alphas, [below(flight), below(ground)], "{lines:#?}");
    assert!(at("› ○  Command    Heron").is_some(), "{lines:#?}");
    // If its parent is not listed, the channel shows its path.
    let mut state = ViewState::default();
    "/alpha".chars().for_each(|letter| drop(press(&mut state, &organisation(), letter)));
    let text = shown(80, 24, &organisation(), &state).join("\n");
    assert!(text.contains("·  Flight/Alpha") && text.contains("·  Ground/Alpha"), "{text}");
    assert!(!text.contains("Command"), "{text}");
    state.press(key(KeyCode::Esc, KeyEventKind::Press), &organisation());
    let text = shown(80, 24, &organisation(), &state).join("\n");
    assert!(text.contains("Command"), "{text}");
}

#[test]
fn channels_after_the_twelfth_were_cut_off_without_a_sign() {
    let mut state = ViewState::default();
    let lines = shown(80, 24, &organisation(), &state);
    let title = &lines[1];
    assert!(title.contains(" channels ↓ ") && !title.contains('↑'), "{lines:#?}");
    assert!(!lines.concat().contains("Team 15"), "{lines:#?}");
    state.press(key(KeyCode::End, KeyEventKind::Press), &organisation());
    let lines = shown(80, 24, &organisation(), &state);
    assert!(lines.iter().any(|line| line.starts_with("› ·    Team 15")), "{lines:#?}");
    assert!(lines[1].contains(" channels ↑ ") && !lines[1].contains('↓'), "{lines:#?}");
    // The people stay visible.
    assert!(lines.iter().any(|line| line.starts_with("  Heron ")), "{lines:#?}");
}

#[test]
fn no_key_chose_what_is_heard_and_talked_to() {
    let organisation = organisation();
    let mut state = ViewState::default();
    let commands = |commands| Some(Wish::Commands(commands));
    let listen = |net: &str, on| Command::Listen { net: net.to_owned(), on, keep: false };
    let nets = |names: &[&str]| TalkTo::nets(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(press(&mut state, &organisation, 'h'), commands(vec![listen("Command", false)]));
    let enter = key(KeyCode::Enter, KeyEventKind::Press);
    assert_eq!(state.press(enter, &organisation), commands(vec![listen("Command", false)]));
    let to = Command::TalkTo { to: nets(&["Command"]), keep: false };
    assert_eq!(press(&mut state, &organisation, 'x'), commands(vec![to]));
    let to = Command::TalkTo { to: nets(&["Flight", "Command"]), keep: false };
    assert_eq!(press(&mut state, &organisation, 'X'), commands(vec![to]));
    // A member who talks to a channel also hears it. A name that two channels have is replaced by
    // the path.
    press(&mut state, &organisation, 'j');
    press(&mut state, &organisation, 'j');
    let to = Command::TalkTo { to: nets(&["Flight/Alpha"]), keep: false };
    assert_eq!(
        press(&mut state, &organisation, 'x'),
        commands(vec![listen("Flight/Alpha", true), to])
    );
    // Tab moves to the people.
    state.press(key(KeyCode::Tab, KeyEventKind::Press), &organisation);
    let members = vec![device(2).0.to_string()];
    let to = Command::TalkTo { to: TalkTo { members, ..TalkTo::default() }, keep: false };
    assert_eq!(press(&mut state, &organisation, 'x'), commands(vec![to]));
    // The last target stays. Where the member may not speak, no command is sent.
    let mut state = ViewState::default();
    press(&mut state, &organisation, 'j');
    assert_eq!(press(&mut state, &organisation, 'X'), None);
    let news = state.news.texts();
    assert!(news[0].contains("Flight is all that you talk to"), "{news:?}");
    let mut barred = organisation;
    barred.nets[1].may_speak = false;
    assert_eq!(press(&mut state, &barred, 'x'), None);
    assert_eq!(state.news.texts()[1], "you may not speak on Flight");
}

#[test]
fn what_space_talks_to_was_shown_only_once_somebody_listened() {
    let mut now = Snapshot { transmit: TransmitMode::Ptt, unheard: true, ..organisation() };
    let last = |now: &Snapshot| shown(80, 24, now, &ViewState::default())[22].clone();
    assert_eq!(last(&now), " space talks to Flight  nobody is there to hear it");
    now.silenced = vec!["Ground/Alpha".to_owned()];
    assert_eq!(last(&now), " space talks to Flight  YOU MAY NOT SPEAK ON Ground/Alpha");
    now.talk_to.clear();
    now.silenced.clear();
    assert!(last(&now).starts_with(" space talks to nobody"), "{}", last(&now));
    // The target is shown even on the lowest screen.
    let lines = shown(40, 3, &organisation(), &ViewState::default());
    assert!(lines.concat().contains("goes to Flight"), "{lines:#?}");
}

#[test]
fn signs_were_explained_nowhere() {
    let mut state = ViewState::default();
    press(&mut state, &organisation(), '?');
    let lines = shown(100, 70, &organisation(), &state).join("\n");
    for sign in [
        "○",
        "·",
        "● green",
        "● red",
        "→",
        "×",
        "✓",
        "!",
        "Sable#ickswr",
        "…",
        "↑ 2 ↓ 7",
        "deaf",
        "away",
        "gone",
    ] {
        assert!(lines.contains(&format!("  {sign} ")), "{sign} {lines}");
    }
    for letter in "mdbnvoqahxXsitc/".chars() {
        assert!(lines.contains(letter), "{letter} {lines}");
    }
    // On a low screen the help scrolls.
    let top = shown(60, 10, &organisation(), &state);
    assert!(top[1].contains("help ↓ "), "{top:#?}");
    state.press(key(KeyCode::PageDown, KeyEventKind::Press), &organisation());
    assert_ne!(shown(60, 10, &organisation(), &state), top);
    state.press(key(KeyCode::Esc, KeyEventKind::Press), &organisation());
    assert!(state.page.is_none());
}

/// The line about a newcomer who waits was cut before the command that admits them. A member who
/// was alone did not see it at all.
#[test]
fn who_waits_could_not_be_let_in_from_the_screen() {
    let waiting = |number: u8, name: &str| WaitingView {
        device: device(number).0.to_string(),
        name: name.to_owned(),
        words: device_words(device(number).0).map(str::to_owned).to_vec(),
        ticket: "abcdef".to_owned(),
        since: 1_800_000_000,
    };
    let mut now = Snapshot { peers: Vec::new(), ..snapshot() };
    let mut state = ViewState::default();
    press(&mut state, &now, 'w');
    assert!(state.page.is_none(), "nobody waits");
    now.waiting = vec![waiting(7, "Teal"), waiting(8, "Snipe")];
    assert!(shown(80, 24, &now, &state).concat().contains("w who waits to be let in"));
    press(&mut state, &now, 'w');
    let text = shown(80, 24, &now, &state).join("\n");
    assert!(text.contains(&crate::person::words(device(7).0)), "{text}");
    let wish = |command| Some(Wish::Commands(vec![command]));
    let of = |number: u8| device(number).0.to_string();
    assert_eq!(press(&mut state, &now, 'y'), wish(Command::Admit { person: of(7) }));
    now.waiting.remove(0);
    let text = shown(80, 24, &now, &state).join("\n");
    assert!(text.contains(&crate::person::words(device(8).0)), "the next: {text}");
    // Another newcomer has taken Snipe's place, and the person has not seen that.
    now.waiting = vec![waiting(9, "Magpie")];
    let text = shown(80, 24, &now, &state).join("\n");
    assert!(text.contains("They do not wait here any more."), "{text}");
    assert_eq!(press(&mut state, &now, 'y'), None);
    press(&mut state, &now, 'w');
    assert_eq!(press(&mut state, &now, 'n'), wish(Command::Refuse { person: of(9) }));
    assert!(state.page.is_none());
}

#[test]
fn nobody_could_compare_another_ones_words() {
    let mut now = organisation();
    now.peers[1].verification = Verification::Verified;
    now.peers[2].verification = Verification::NewDevice;
    let mut state = ViewState::default();
    state.press(key(KeyCode::Tab, KeyEventKind::Press), &now);
    press(&mut state, &now, 'i');
    let text = shown(100, 24, &now, &state).join("\n");
    assert!(text.contains(&crate::person::words(device(2).0)), "{text}");
    assert!(text.contains(&device(2).0.to_string()), "{text}");
    assert!(text.contains(&crate::person::words(device(1).0)), "one's own: {text}");
    let verify = Command::Verify { device: device(2).0.to_string(), on: true };
    assert_eq!(press(&mut state, &now, 'y'), Some(Wish::Commands(vec![verify])));
    state.press(key(KeyCode::Esc, KeyEventKind::Press), &now);
    let text = shown(100, 30, &now, &state).join("\n");
    assert!(text.contains("Magpie ✓") && text.contains("Osprey !"), "{text}");
}

#[test]
fn whoever_had_left_stayed_on_the_screen_for_ever() {
    let mut now = snapshot();
    now.peers[1].away_secs = Some(600);
    let mut state = ViewState::default();
    let text = shown(80, 24, &now, &state).join("\n");
    assert!(!text.contains("Cat") && text.contains("2 here · 1 gone for long"), "{text}");
    press(&mut state, &now, 'a');
    assert!(shown(80, 24, &now, &state).concat().contains("Cat"));
}

#[test]
fn a_whisper_and_those_who_may_not_speak_are_marked() {
    let mut now = snapshot();
    now.peers[0].talking_on = vec!["whisper".to_owned()];
    now.peers[0].whispers = true;
    now.peers.push(PeerView { silenced: true, ..peer(4, "Dan", true) });
    now.presets = vec!["assault".to_owned()];
    let text = shown(100, 24, &now, &ViewState::default()).join("\n");
    assert!(text.contains("Bob whispers "), "{text}");
    assert!(text.contains("Dan muted "), "{text}");
    assert!(text.contains("preset assault"), "{text}");
    // Two devices of one member are told apart.
    now.peers.push(peer(5, "Dan", true));
    let text = shown(100, 24, &now, &ViewState::default()).join("\n");
    assert!(text.contains(&format!("Dan ({})", device(5).0.short())), "{text}");
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
    let lines = shown(100, 12, &snapshot, &held);
    let own = &lines[8];
    for part in ["████████──", "push to talk", "TALKING", "HELD", "MUTED", "DEAFENED", "copies 2"]
    {
        assert!(own.contains(part), "{part} {lines:#?}");
    }
    assert_eq!(lines[9], " space talks to squad");
    assert_eq!(lines[10], " ! the microphone is gone");
    assert!(lines[11].contains("space talk on/off · m unmute · d undeafen"), "{lines:#?}");
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
        assert!(text.contains("Press t for a ticket"), "{text}");
    }
    let text = shown(80, 24, &snapshot(), &ViewState::default()).concat();
    assert!(!text.contains("Press t for a ticket"), "{text}");
}

/// A member of a large organisation read that nobody is here yet.
#[test]
fn a_member_who_was_alone_was_taken_for_a_founder() {
    let alone = |other_members| {
        let snapshot = Snapshot { peers: Vec::new(), other_members, ..snapshot() };
        shown(100, 24, &snapshot, &ViewState::default()).join("\n")
    };
    assert!(alone(0).contains("nobody else is here yet"), "{}", alone(0));
    assert!(alone(1).contains("The other member does not answer"), "{}", alone(1));
    assert!(alone(12).contains("Your 12 other members do not answer"), "{}", alone(12));
    assert!(!alone(12).contains("here yet"), "{}", alone(12));
}

/// The screen said of the last member who had left that it does not answer.
#[test]
fn a_member_who_left_was_said_not_to_answer() {
    let mut peers = snapshot().peers;
    peers.truncate(1);
    peers[0].reachable = false;
    let alone = |other_members| {
        let snapshot = Snapshot { peers: peers.clone(), other_members, ..snapshot() };
        shown(100, 24, &snapshot, &ViewState::default()).join("\n")
    };
    assert!(alone(1).contains("nobody else is here ─"), "{}", alone(1));
    assert!(!alone(1).contains("answer"), "{}", alone(1));
    assert!(alone(2).contains("The other member does not answer"), "{}", alone(2));
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
                let page = |page| ViewState { page: Some(page), ..ViewState::default() };
                for state in [
                    ViewState::default(),
                    showing_a_ticket(),
                    page(Page::Help(3)),
                    page(Page::News(3)),
                    page(Page::Person(device(2))),
                    page(Page::Waiting(device(2))),
                ] {
                    let snapshot = Snapshot { peers: peers.clone(), ..snapshot() };
                    shown(width, height, &snapshot, &state);
                    let organisation = Snapshot { peers: peers.clone(), ..organisation() };
                    shown(width, height, &organisation, &state);
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
    let wish = |command| Some(Wish::Commands(vec![command]));
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
    let Some(Wish::Commands(commands)) = press(&mut state, &now, '+') else {
        panic!("no volume");
    };
    let [Command::Volume { device: chosen, gain }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(*chosen, device(3).0.to_string());
    assert!((gain - 1.1).abs() < 1e-6);
    // The release of a key does nothing a second time.
    assert_eq!(state.press(key(KeyCode::Char('m'), KeyEventKind::Release), &now), None);
}

#[test]
fn one_wrong_key_left_the_microphone_open() {
    let mut state = ViewState::default();
    for mode in [TransmitMode::Open, TransmitMode::Vad, TransmitMode::Ptt] {
        let now = Snapshot { transmit: mode, ..organisation() };
        for letter in ' '..='~' {
            let mut state = state.clone();
            let wish = press(&mut state, &now, letter);
            let opens = Command::Transmit { mode: TransmitMode::Open };
            assert_ne!(wish, Some(Wish::Commands(vec![opens])), "{letter}");
        }
        press(&mut state, &now, 'v');
    }
}

#[test]
fn space_talks_while_it_is_down_where_the_terminal_can_tell() {
    let ptt = Snapshot { transmit: TransmitMode::Ptt, ..snapshot() };
    let mut state = ViewState { key_release: true, ..ViewState::default() };
    let space = |kind| key(KeyCode::Char(' '), kind);
    let wish = |down| {
        Some(Wish::Commands(vec![Command::Ptt {
            down,
            key: None,
            to: None,
            for_secs: None,
            tail_ms: None,
        }]))
    };
    assert_eq!(state.press(space(KeyEventKind::Press), &ptt), wish(true));
    assert_eq!(state.press(space(KeyEventKind::Repeat), &ptt), None);
    assert_eq!(state.press(space(KeyEventKind::Release), &ptt), wish(false));
    assert_eq!(state.press(space(KeyEventKind::Press), &snapshot()), None);
}

#[test]
fn space_holds_where_the_terminal_cannot_tell() {
    let ptt = Snapshot { transmit: TransmitMode::Ptt, ..snapshot() };
    let mut state = ViewState::default();
    let wish = |down| {
        Some(Wish::Commands(vec![Command::Ptt {
            down,
            key: None,
            to: None,
            for_secs: None,
            tail_ms: None,
        }]))
    };
    assert_eq!(press(&mut state, &ptt, ' '), wish(true));
    assert!(state.talk_key);
    assert_eq!(press(&mut state, &ptt, ' '), wish(false));
}

#[test]
fn a_deaf_member_looked_like_one_who_hears() {
    let mut now = organisation();
    now.peers[0].deafened = true;
    now.peers[1].muted = true;
    now.peers[2].away = true;
    let row = |now: &Snapshot, name: &str| {
        let lines = shown(80, 24, now, &ViewState::default());
        lines.into_iter().find(|line| line.starts_with(&format!("  {name}"))).expect("a row")
    };
    assert!(row(&now, "Heron").starts_with("  Heron deaf "), "{}", row(&now, "Heron"));
    assert!(row(&now, "Magpie").starts_with("  Magpie mic off "), "{}", row(&now, "Magpie"));
    assert!(row(&now, "Osprey").starts_with("  Osprey away "), "{}", row(&now, "Osprey"));
    // Somebody who has gone shows no such state.
    now.peers[0].reachable = false;
    assert!(!row(&now, "Heron").contains("deaf"));
    let mut state = ViewState::default();
    let wish = |on| Some(Wish::Commands(vec![Command::Away { on }]));
    assert_eq!(press(&mut state, &now, 'b'), wish(true));
    now.away = true;
    assert_eq!(press(&mut state, &now, 'b'), wish(false));
    assert!(shown(80, 24, &now, &state).join("\n").contains("AWAY: b"));
}

#[test]
fn lines_that_were_too_long_ended_without_a_sign() {
    let mut now = organisation();
    now.organisation =
        "The Most Honourable Company of Kestrels, Herons and Magpies of the North".to_owned();
    now.name = "Kestrel".to_owned();
    now.peers[0].name = "鷹匠隊長官補佐見習".to_owned();
    now.talk_to = (0..9).map(|number| format!("Ground/Team {number}")).collect();
    now.trouble = Some("the loudspeaker is gone ".repeat(9));
    let mut state = ViewState::default();
    let long = "the relay has brought what the talker did not sign ".repeat(3);
    state.news.tell(Duration::ZERO, "2026-11-22 21:40:05".to_owned(), long);
    for width in [40, 60, 80, 100] {
        let lines = shown(width, 60, &now, &state);
        let cut = |begins: &str| {
            let line = lines.iter().find(|line| line.starts_with(begins)).expect("a line");
            assert!(line.ends_with('…'), "{width} {line}");
        };
        [" ! the", "  21:40  the"].into_iter().for_each(cut);
        // Nine nets do not fit into one line.
        cut(" your voice goes to Ground/Team 0");
        let footer = lines.last().expect("a footer");
        assert!(footer.starts_with(" ? help · q leave"), "{width} {footer}");
        assert!(footer.ends_with(" · …"), "{width} {footer}");
        assert!(footer.chars().count() <= usize::from(width), "{width} {footer}");
        for part in footer.trim_end_matches(" · …").split(" · ") {
            let whole = ["help", "leave", "mute", "deafen", "away", "talk to", "hear", "people"];
            let whole = [&whole[..], &["ticket", "messages", "search"]].concat();
            assert!(whole.iter().any(|it| part.ends_with(it)), "{width} {part:?}");
        }
    }
    let narrow = shown(40, 30, &now, &state);
    assert!(narrow[0].ends_with('…'), "{narrow:#?}");
    state.page = Some(Page::Help(0));
    let help = shown(40, 30, &now, &state);
    assert!(help.iter().filter(|line| line.ends_with('…')).count() > 5, "{help:#?}");
}

#[test]
fn pages_were_ten_lines_whatever_the_screen_held() {
    let mut now = organisation();
    now.peers =
        (0..60).map(|number| peer(number + 2, &format!("Wren {number:02}"), true)).collect();
    now.nets.truncate(1);
    for height in [12, 24, 40] {
        let mut terminal = Terminal::new(TestBackend::new(80, height)).expect("a terminal");
        let mut state = ViewState::default();
        let mut look = |state: &mut ViewState| {
            let mut rooms = Rooms::default();
            terminal.draw(|frame| rooms = draw(frame, &now, &[], state)).expect("drawn");
            state.rooms = rooms;
        };
        look(&mut state);
        let room = state.rooms.people;
        assert!(room > usize::from(height) / 3 && room < usize::from(height), "{height} {room}");
        state.press(key(KeyCode::PageDown, KeyEventKind::Press), &now);
        let chosen = state.choice.peer(&now).expect("one").name.clone();
        assert_eq!(chosen, format!("Wren {room:02}"));
        state.press(key(KeyCode::End, KeyEventKind::Press), &now);
        assert_eq!(state.choice.peer(&now).expect("one").name, "Wren 59");
        press(&mut state, &now, '?');
        look(&mut state);
        let last =
            help::lines(&now, false).len() - state.rooms.page.min(help::lines(&now, false).len());
        state.press(key(KeyCode::PageDown, KeyEventKind::Press), &now);
        assert_eq!(state.page, Some(Page::Help(state.rooms.page.min(last))));
        state.press(key(KeyCode::End, KeyEventKind::Press), &now);
        assert_eq!(state.page, Some(Page::Help(last)), "the last page is full");
        state.press(key(KeyCode::Home, KeyEventKind::Press), &now);
        assert_eq!(state.page, Some(Page::Help(0)));
    }
}

#[test]
fn a_search_without_a_hit_showed_an_empty_screen() {
    let mut state = ViewState::default();
    "/zz".chars().for_each(|letter| drop(press(&mut state, &organisation(), letter)));
    let lines = shown(80, 24, &organisation(), &state);
    assert!(lines[23].contains("nobody and no channel is called so"), "{lines:#?}");
    state.press(key(KeyCode::Backspace, KeyEventKind::Press), &organisation());
    state.press(key(KeyCode::Backspace, KeyEventKind::Press), &organisation());
    press(&mut state, &organisation(), 'h');
    assert!(!shown(80, 24, &organisation(), &state)[23].contains("nobody"));
    // A search by name finds somebody who has been away for long.
    let mut now = snapshot();
    now.peers[1].away_secs = Some(600);
    let mut state = ViewState::default();
    "/cat".chars().for_each(|letter| drop(press(&mut state, &now, letter)));
    assert!(shown(80, 24, &now, &state).concat().contains("Cat"));
}

#[test]
fn a_message_of_an_hour_ago_looked_like_one_of_now() {
    let mut state = ViewState::default();
    for number in 0..30_u32 {
        let date = format!("2026-11-2{} 21:{:02}:05", 1 + number / 20, 10 + number);
        let at = Duration::from_secs(10) * number;
        state.news.tell(at, date, format!("message {number:02}"));
    }
    state.now = Duration::from_secs(300);
    let lines = shown(80, 40, &snapshot(), &state);
    let told = |lines: &[String], number: u32| {
        let text = format!("message {number:02}");
        lines.iter().any(|line| line.ends_with(&text))
    };
    assert!(told(&lines, 29) && told(&lines, 13) && !told(&lines, 12), "{lines:#?}");
    state.now = Duration::from_secs(600);
    let lines = shown(80, 40, &snapshot(), &state);
    assert!(!lines.concat().contains("message"), "{lines:#?}");
    // The page shows all of them, with the date where it is another day.
    press(&mut state, &snapshot(), 'n');
    state.rooms.page = 9;
    let lines = shown(80, 15, &snapshot(), &state);
    assert!(lines[1].contains("messages ↑ "), "{lines:#?}");
    assert!(told(&lines, 29) && !told(&lines, 10), "{lines:#?}");
    state.press(key(KeyCode::Home, KeyEventKind::Press), &snapshot());
    let lines = shown(80, 15, &snapshot(), &state);
    assert!(lines.contains(&"  2026-11-21 21:10  message 00".to_owned()), "{lines:#?}");
    state.press(key(KeyCode::PageDown, KeyEventKind::Press), &snapshot());
    assert_eq!(state.page, Some(Page::News(12)));
    state.press(key(KeyCode::Esc, KeyEventKind::Press), &snapshot());
    assert_eq!(state.page, None);
}
