//! Who is here: how each is reached, how well, and how loud.

use std::time::Duration;

use eframe::egui::{
    Align, Align2, FontId, Label, Layout, Painter, Pos2, RichText, Role, ScrollArea, Sense, Shape,
    Slider, TextEdit, TextStyle, Ui, WidgetInfo, pos2, vec2,
};
use hark_node::{
    event::Path,
    snapshot::{Command, PeerView, TalkTo, Verification},
};

use super::{
    Asked, Drawing, Part,
    plate::{fitted, named},
};
use crate::{
    air::ago,
    tokens::{self, Colours, ROW, SMALL, SPACE},
};

/// What the person does in the list.
#[derive(Debug, Default)]
pub struct MembersState {
    /// The text that names have to contain.
    pub filter: String,
    /// The device whose details are shown.
    pub chosen: Option<String>,
    /// Whether the words of that device are shown, to be compared.
    pub compares: bool,
}

/// Draws the list, and the details of one.
pub fn show(ui: &mut Ui, view: &mut Drawing, state: &mut MembersState) {
    let own = view.snapshot();
    if own.peers.is_empty() {
        alone(ui, view);
        return;
    }
    if own.peers.len() > FILTER_FROM || !state.filter.is_empty() {
        ui.name_inputs("Find a member", |ui| {
            let width = ui.available_width();
            let hint = format!("Find among {}", own.peers.len());
            ui.add(TextEdit::singleline(&mut state.filter).hint_text(hint).desired_width(width));
        });
    }
    let wanted = state.filter.to_lowercase();
    let all = |peer: &&PeerView| wanted.is_empty() || peer.name.to_lowercase().contains(&wanted);
    // The list is only as long as what is found; nothing is laid out that is not in sight.
    let found: Vec<&PeerView> = own.peers.iter().filter(all).collect();
    let chosen = state.chosen.clone();
    let chosen =
        chosen.and_then(|id| own.peers.iter().find(|it| it.stats.device.0.to_string() == id));
    let below = match chosen {
        Some(_) if state.compares => DETAIL + COMPARISON,
        Some(_) => DETAIL,
        None => 0.0,
    };
    let height = (ui.available_height() - below).max(ROW * 3.0);
    let area = ScrollArea::vertical().auto_shrink(false).max_height(height).id_salt("members");
    area.show_rows(ui, ROW, found.len(), |ui, rows| {
        for peer in &found[rows] {
            row(ui, view, state, peer);
        }
    });
    if found.is_empty() {
        ui.weak("Nobody is called so.");
    }
    if let Some(peer) = chosen {
        ui.separator();
        detail(ui, view, state, peer);
    }
}

fn alone(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    let text = match own.other_members {
        0 => "Nobody else is in yet: invite somebody.".to_owned(),
        1 => "One other belongs to this, but is not here now.".to_owned(),
        others => format!("{others} others belong to this, but none is here now."),
    };
    ui.add(Label::new(RichText::new(text).color(view.colours.weak)).wrap());
    ui.add_space(SPACE);
    if named(ui.button("Invite …"), "Make a ticket for others").clicked() {
        view.asked.push(Asked::Open(Part::Ticket));
    }
}

fn row(ui: &mut Ui, view: &mut Drawing, state: &mut MembersState, peer: &PeerView) {
    let colours = view.colours;
    let device = peer.stats.device.0.to_string();
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::click());
    let is_chosen = state.chosen.as_ref() == Some(&device);
    let (path, good) = path_words(peer);
    response.widget_info(|| {
        let verified = match peer.verification {
            Verification::Verified => ", verified",
            Verification::NewDevice => ", a new device",
            Verification::Unverified => "",
        };
        let talks = if peer.talking { ", talks" } else { "" };
        let words = format!("{}, {path}{verified}{talks}", peer.name);
        WidgetInfo::selected(Role::Button, true, is_chosen, words)
    });
    let painter = ui.painter();
    if is_chosen {
        painter.rect_filled(rect, 4.0, colours.accent.gamma_multiply(0.3));
    } else if response.hovered() || response.has_focus() {
        painter.rect_filled(rect, 4.0, colours.hover);
    }
    let middle = rect.center().y;
    let lamp = pos2(rect.left() + 9.0, middle);
    if peer.talking {
        painter.circle_filled(lamp, 5.0, colours.receive);
    } else if peer.reachable {
        painter.circle_stroke(lamp, 4.0, (1.5, colours.weak));
    } else {
        painter.line_segment([lamp - vec2(4.0, 0.0), lamp + vec2(4.0, 0.0)], (1.5, colours.weak));
    }
    let small = FontId::proportional(SMALL);
    let numbers = match peer.reachable {
        true => format!("{:.0} ms", peer.stats.rtt_ms),
        false => peer
            .away_secs
            .map_or_else(String::new, |secs| format!("gone {}", ago(Duration::from_secs(secs)))),
    };
    let ink = if good { colours.weak } else { colours.warning };
    let right = painter.text(
        pos2(rect.right() - 6.0, middle),
        Align2::RIGHT_CENTER,
        numbers,
        small.clone(),
        ink,
    );
    let mut marks = Vec::new();
    if peer.stats.path == Path::Relay && peer.reachable {
        marks.push("relayed".to_owned());
    }
    if peer.reachable && peer.stats.loss_percent >= 2.0 {
        marks.push(format!("loss {:.0} %", peer.stats.loss_percent));
    }
    for (is, word) in [(peer.deafened, "deafened"), (peer.muted, "muted"), (peer.away, "away")] {
        if is {
            marks.push(word.to_owned());
            break;
        }
    }
    let marks = painter.text(
        pos2(right.left() - SPACE, middle),
        Align2::RIGHT_CENTER,
        marks.join(", "),
        small,
        ink,
    );
    let ink = if peer.reachable { colours.text } else { colours.weak };
    let style = if peer.talking { tokens::strong() } else { TextStyle::Body };
    let font = style.resolve(ui.style());
    let left = rect.left() + 22.0;
    let text = fitted(ui, &peer.name, font, ink, (marks.left() - left - SPACE - MARK).max(20.0));
    let end = left + text.size().x + 9.0;
    ui.painter().galley(pos2(left, middle - text.size().y / 2.0), text, ink);
    verification_mark(ui.painter(), pos2(end, middle), peer.verification, colours);
    if response.clicked() {
        state.chosen = (!is_chosen).then_some(device);
        state.compares = false;
    }
}

/// A tick after the name of a device whose words were compared, and `!` after a new one.
fn verification_mark(painter: &Painter, at: Pos2, verification: Verification, colours: &Colours) {
    match verification {
        Verification::Unverified => {}
        Verification::Verified => {
            let tick = [vec2(-4.0, 0.0), vec2(-1.0, 3.0), vec2(4.5, -3.5)].map(|it| at + it);
            painter.add(Shape::line(tick.to_vec(), (1.8, colours.receive)));
        }
        Verification::NewDevice => {
            painter
                .line_segment([at - vec2(0.0, 5.0), at + vec2(0.0, 1.0)], (2.0, colours.warning));
            painter.circle_filled(at + vec2(0.0, 4.5), 1.4, colours.warning);
        }
    }
}

/// How a peer is reached, in words, and whether that is as good as it gets.
fn path_words(peer: &PeerView) -> (String, bool) {
    if !peer.reachable {
        let path = match (peer.former, peer.away_secs) {
            (true, _) => "not reached: a member no more".to_owned(),
            (false, None) => "not reached yet".to_owned(),
            (false, Some(secs @ 0..10)) => format!("not reached: no sign of it for {secs} s"),
            (false, Some(secs)) => {
                format!("not reached: no sign of it for {}", ago(Duration::from_secs(secs)))
            }
        };
        return (path, true);
    }
    let loss = peer.stats.loss_percent;
    let path = match (peer.stats.path, &peer.why_relayed) {
        (Path::Direct, _) => "direct".to_owned(),
        (Path::Punched, _) => "direct, through both routers".to_owned(),
        (Path::Relay, Some(why)) => format!("by a relay: {why}"),
        (Path::Relay, None) => "by a relay".to_owned(),
    };
    (path, loss < LOSS_TOO_HIGH)
}

/// Everything that is known of one device.
fn detail(ui: &mut Ui, view: &mut Drawing, state: &mut MembersState, peer: &PeerView) {
    let colours = view.colours;
    ui.horizontal(|ui| {
        ui.label(RichText::new(&peer.name).text_style(tokens::strong()));
        if !peer.roles.is_empty() {
            ui.label(RichText::new(peer.roles.join(", ")).size(SMALL).color(colours.weak));
        }
    });
    let (path, _) = path_words(peer);
    let weak =
        |text: String| Label::new(RichText::new(text).size(SMALL).color(colours.weak)).wrap();
    ui.add(weak(path));
    if let Some(advice) = advice(peer) {
        ui.add(weak(advice.to_owned()));
    }
    if peer.reachable {
        let stats = &peer.stats;
        let mouth_to_ear = stats.rtt_ms / 2.0 + stats.playout_delay_ms + CODEC_AND_CARDS_MS;
        let numbers = format!(
            "round trip {:.0} ms · loss {:.1} % · mouth to ear about {mouth_to_ear:.0} ms",
            stats.rtt_ms, stats.loss_percent
        );
        ui.add(weak(numbers));
    }
    ui.horizontal(|ui| {
        let mut volume = peer.volume * 100.0;
        ui.spacing_mut().slider_width = 110.0;
        ui.spacing_mut().interact_size.y = tokens::SLIDER;
        let device = peer.stats.device.0.to_string();
        ui.name_inputs(format!("Volume of {}", peer.name), |ui| {
            let slider = Slider::new(&mut volume, 0.0..=200.0).show_value(false);
            let slider = ui.add(slider).on_hover_text(format!("volume {volume:.0} %"));
            let reset = slider.double_clicked();
            if slider.changed() || reset {
                let gain = if reset { 1.0 } else { volume / 100.0 };
                view.command(Command::Volume { device: device.clone(), gain });
            }
        });
        let silent = peer.volume == 0.0;
        let mute = super::plate::toggle(ui, "Mute", silent, &format!("Mute {}", peer.name));
        if mute.on_hover_text("you alone stop hearing this person").clicked() {
            let gain = if silent { 1.0 } else { 0.0 };
            view.command(Command::Volume { device: device.clone(), gain });
        }
        let alone = view.snapshot().talk_to == [peer.name.as_str()];
        let talk = super::plate::toggle(ui, "Talk to", alone, &format!("Talk to {}", peer.name));
        if talk.on_hover_text("talks to this person alone from now on, or to nobody").clicked() {
            let members = if alone { Vec::new() } else { vec![peer.name.clone()] };
            let to = TalkTo { members, ..TalkTo::default() };
            view.command(Command::TalkTo { to, keep: false });
        }
    });
    verification(ui, view, state, peer);
}

/// Whether the device is its owner's, and the words by which two people find out.
fn verification(ui: &mut Ui, view: &mut Drawing, state: &mut MembersState, peer: &PeerView) {
    let colours = view.colours;
    let small = |text: &str| RichText::new(text).size(SMALL);
    let (text, ink) = match peer.verification {
        Verification::Verified => ("Verified: you have compared its words", colours.weak),
        Verification::Unverified => ("Its words were not compared yet", colours.weak),
        Verification::NewDevice => ("A new device: compare its words too", colours.warning),
    };
    ui.horizontal(|ui| {
        ui.label(small(text).color(ink));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let name = format!("Compare words with {}", peer.name);
            if super::plate::toggle(ui, "Words", state.compares, &name).clicked() {
                state.compares = !state.compares;
            }
        });
    });
    if !state.compares {
        return;
    }
    let own = view.snapshot().device.0;
    for (whose, device) in [(peer.name.as_str(), peer.stats.device.0), ("You", own)] {
        ui.label(small(whose).color(colours.weak));
        let words = hark_keys::device_words(device).join(" ");
        ui.add(Label::new(RichText::new(words).text_style(tokens::strong())).wrap());
    }
    let is_verified = peer.verification == Verification::Verified;
    let device = peer.stats.device.0.to_string();
    if is_verified {
        if named(ui.button("Forget that"), &format!("{} is verified no more", peer.name)).clicked()
        {
            view.command(Command::Verify { device, on: false });
        }
        return;
    }
    let text = format!(
        "Have {} read out these words by a way that you both trust. Hark shows a device's own \
         words as \"You\" here, and by `hark id`.",
        peer.name
    );
    ui.add(Label::new(small(&text).color(colours.weak)).wrap());
    let same = named(ui.button("They are the same"), &format!("{} is verified", peer.name));
    if same.clicked() {
        view.command(Command::Verify { device, on: true });
        state.compares = false;
    }
}

/// What somebody can do about a path that is not as good as it gets.
fn advice(peer: &PeerView) -> Option<&'static str> {
    match () {
        () if !peer.reachable && peer.former => None,
        () if !peer.reachable => {
            Some("if it runs: `hark doctor` there and here says what is in the way")
        }
        () if peer.stats.loss_percent >= LOSS_TOO_HIGH => {
            Some("a cable instead of Wi-Fi, or fewer downloads, loses less")
        }
        () if peer.stats.path == Path::Relay => {
            Some("a UDP port that one of you forwards in the router makes it direct")
        }
        () => None,
    }
}

/// From so many members on, they can be searched.
const FILTER_FROM: usize = 12;

/// The width of a mark after a name.
const MARK: f32 = 14.0;

/// The height of the details.
const DETAIL: f32 = 170.0;

/// The height of the words that are compared.
const COMPARISON: f32 = 190.0;

/// From this loss on, in percent, people hear it.
const LOSS_TOO_HIGH: f64 = 5.0;

/// What frames, codec and sound cards add to the time on the way.
const CODEC_AND_CARDS_MS: f64 = 22.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_path_is_told_in_words() {
        let own = samples::operation();
        let told: Vec<_> = own.peers.iter().map(path_words).collect();
        assert_eq!(told[0], ("direct".to_owned(), true));
        assert_eq!(told[1], ("direct, through both routers".to_owned(), true));
        assert_eq!(told[3], ("by a relay: no direct way was found".to_owned(), true));
        assert_eq!(told[5], ("direct".to_owned(), false), "it loses too much");
        assert_eq!(told[6].0, "not reached: no sign of it for 1 min");
        let advised: Vec<_> = own.peers.iter().map(|peer| advice(peer).is_some()).collect();
        assert_eq!(advised, [false, false, false, true, false, true, true]);
    }
}
