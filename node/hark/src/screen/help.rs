//! All keys and signs of the screen.

use hark_node::snapshot::Snapshot;
use ratatui::{
    Frame,
    layout::Rect,
    style::Stylize,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    fit::fit,
    view::{more, rule},
};

/// Draws the help, starting with line `from`. Returns how many lines have room.
pub(super) fn draw(
    frame: &mut Frame,
    area: Rect,
    from: usize,
    snapshot: &Snapshot,
    key_release: bool,
) -> usize {
    let lines = lines(snapshot, key_release);
    let room = usize::from(area.height.saturating_sub(1));
    let from = from.min(lines.len().saturating_sub(room));
    let shown = from..lines.len().min(from + room);
    let title = format!(" help {}", more(lines.len(), &shown));
    let text: Vec<_> = lines[shown].iter().map(|line| fit(line.clone(), area.width)).collect();
    frame.render_widget(Paragraph::new(text).block(rule(title)), area);
    room
}

/// The lines of the help, one for each sign or key.
pub(super) fn lines(snapshot: &Snapshot, key_release: bool) -> Vec<Line<'static>> {
    let space = if key_release {
        "talks while it is down, where a key opens the microphone (v)"
    } else {
        "talks until pressed again, where a key opens the microphone (v)"
    };
    let mute = if snapshot.muted { "opens your microphone" } else { "mutes your microphone" };
    let deafen =
        if snapshot.deafened { "opens your loudspeaker" } else { "silences your loudspeaker" };
    let groups: [(&str, &[(&str, &str)]); 5] = [
        (
            "you",
            &[
                ("space", space),
                ("m", mute),
                ("d", deafen),
                ("b", "tells the others that you are away (be right back), or back"),
                ("v", "opens the microphone by voice, or by key"),
                ("o", "turns to the next organisation, where you are in several"),
                ("t", "makes a ticket for others to join by, and shows it; c copies it"),
                (
                    "w",
                    "shows who waits to be let in, by `hark invite --ask`; y lets in, n does not",
                ),
                ("n", "shows all messages; from the screen they go after 3 minutes"),
                ("q", "says goodbye and leaves"),
            ],
        ),
        (
            "lists",
            &[
                ("tab", "goes from channels to people and back"),
                ("↑ ↓", "choose; page up and down go by a screen, home and end as well"),
                ("/", "searches channels and people; esc shows all again"),
                ("a", "shows, or hides, who has been gone for more than five minutes"),
                ("+ -", "make the chosen channel or person louder or softer"),
            ],
        ),
        (
            "the chosen channel",
            &[
                ("h, enter", "hears it, or no longer"),
                ("x", "talks to it alone"),
                ("X", "talks to it as well, or no longer"),
                ("s", "silences it, or no longer; who talks is still shown"),
            ],
        ),
        (
            "the chosen person",
            &[
                ("i, enter", "shows who it is, and the words to compare"),
                ("x", "whispers to this person alone; x on a channel ends that"),
            ],
        ),
        (
            "signs",
            &[
                ("○", "a channel that you hear"),
                ("·", "a channel that you do not hear"),
                ("● green", "somebody talks on it"),
                ("● red", "you talk on it"),
                ("→", "what you say goes there"),
                ("×", "you may not speak there"),
                ("+3", "as many more are on the channel"),
                ("…", "the name or the line is longer"),
                ("↑ 2 ↓ 7", "as many more lines are above and below"),
                ("whispers", "somebody talks to you as a person, or to a role of yours"),
                ("mic off", "somebody has closed the microphone"),
                ("deaf", "somebody has silenced the loudspeaker, and hears nobody"),
                ("away", "somebody has said to be away"),
                ("gone", "somebody cannot be reached now"),
                ("muted", "somebody may speak on no channel that they hear"),
                ("✓", "you have compared this device's words"),
                ("!", "another device of somebody whose words you have compared"),
                ("Sable#ickswr", "one of several who are called so, or almost so"),
                ("█████─────", "how loud somebody speaks, or your microphone hears you"),
                ("relay", "the path leads through a relay; `hark ctl status` says why"),
                (
                    "echo+noise +18 ms",
                    "what is done to your voice before it is sent, and the delay it adds",
                ),
                ("copies 2", "each packet repeats so many earlier ones, as some get lost"),
            ],
        ),
    ];
    let mut lines = Vec::new();
    for (title, entries) in groups {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(format!(" {title}")).bold());
        lines.extend(entries.iter().map(|(key, text)| {
            let key = Span::from(*key);
            let gap = " ".repeat(KEY_CELLS.saturating_sub(key.width()));
            Line::from(vec![Span::from("  "), key.cyan(), Span::from(gap), Span::from(*text)])
        }));
    }
    lines
}

/// Width of the longest sign and a gap, in cells.
const KEY_CELLS: usize = 14;
