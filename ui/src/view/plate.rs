//! The plate of a net: its lamp, who talks, how it is heard, and its key.

use std::time::{Duration, Instant};

use eframe::egui::{
    Align, Button, Color32, CornerRadius, FontId, InputState, Key, Layout, Modifiers, Popup, Rect,
    Response, RichText, Role, Sense, Slider, Stroke, StrokeKind, TextStyle, Ui, UiBuilder, Vec2,
    WidgetInfo, pos2, vec2,
};
use hark_node::snapshot::{Command, NetChange, NetView, Snapshot, TalkTo};

use super::{
    Asked, Drawing,
    lamp::{Lamp, lock, triangle},
};
use crate::{
    air::{Call, ago, next_ago},
    keys::KeyAction,
    settings::Density,
    tokens::{self, BUTTON, CORNER, Colours, GAP, SMALL, SPACE},
};

/// The size of a plate, where all have `width` together. Rows are as wide as that.
pub fn size(density: Density, width: f32) -> Vec2 {
    match density {
        Density::Row => vec2(width, 28.0),
        Density::Card => vec2(share(width), 86.0),
        Density::Tile => vec2(share(width), 146.0),
    }
}

/// The width of each of as many plates as fit beside each other.
fn share(width: f32) -> f32 {
    let count = ((width + SPACE) / (CARD_WIDTH + SPACE)).floor().max(1.0);
    ((width + SPACE) / count - SPACE).floor()
}

/// Draws the plate of one net into `rect`. The response is that of the whole plate.
pub fn show(
    ui: &mut Ui,
    view: &mut Drawing,
    net: &NetView,
    density: Density,
    rect: Rect,
) -> Response {
    let own = view.snapshot();
    let colours = view.colours;
    let lamp = Lamp::of(net, own);
    let id = ui.scope_id().with(("plate", &net.id));
    let plate = ui.interact(rect, id, Sense::click_and_drag());
    let words = words(net, lamp, own);
    plate.widget_info(|| WidgetInfo::selected(Role::Button, true, net.talked_to, words.clone()));
    paint_ground(ui, rect, net, lamp, &plate, colours);
    let is_wide = rect.width() >= WIDE_ROW;
    let ink = if lamp == Lamp::Transmit { colours.on_transmit } else { colours.text };
    let weak = if lamp == Lamp::Transmit { colours.on_transmit } else { colours.weak };
    let inner = rect.shrink2(vec2(SPACE + 2.0, if density == Density::Row { 2.0 } else { SPACE }));
    let builder = UiBuilder::new().max_rect(inner).id_salt(("plate", &net.id));
    let mut inside = ui.new_child(builder);
    let ui = &mut inside;
    ui.spacing_mut().item_spacing = vec2(6.0, GAP);
    ui.visuals_mut().override_text_color = Some(ink);
    if lamp == Lamp::Transmit {
        // What is chosen is seen on red as well.
        let visuals = ui.visuals_mut();
        visuals.selection.bg_fill = Color32::from_black_alpha(140);
        visuals.selection.stroke.color = ink;
        visuals.widgets.inactive.bg_fill = Color32::from_black_alpha(50);
        visuals.widgets.inactive.weak_bg_fill = Color32::from_black_alpha(50);
    }
    match density {
        Density::Row => {
            ui.horizontal_centered(|ui| {
                lamp_and_name(ui, view, net, lamp, [ink, weak], if is_wide { 150.0 } else { 96.0 });
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    if is_wide {
                        toggles(ui, view, net);
                        volume(ui, view, net, 70.0);
                    }
                    key(ui, view, net, weak);
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        talkers(ui, view, net, ink, weak, 3);
                    });
                });
            });
        }
        Density::Card => {
            ui.horizontal(|ui| {
                lamp_and_name(ui, view, net, lamp, [ink, weak], 120.0);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| key(ui, view, net, weak));
            });
            line(ui, |ui| talkers(ui, view, net, ink, weak, 3));
            ui.horizontal(|ui| {
                volume(ui, view, net, 92.0);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| toggles(ui, view, net));
            });
        }
        Density::Tile => {
            ui.horizontal(|ui| {
                lamp_and_name(ui, view, net, lamp, [ink, weak], 120.0);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| key(ui, view, net, weak));
            });
            line(ui, |ui| talkers(ui, view, net, ink, weak, 3));
            callers(ui, view, net, weak);
            ui.horizontal(|ui| {
                volume(ui, view, net, 84.0);
                pan(ui, view, net);
            });
            ui.horizontal(|ui| {
                push_to_talk(ui, view, net);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| toggles(ui, view, net));
            });
        }
    }
    clicked(&plate, view, net);
    let id = Popup::default_response_id(&plate);
    if plate.has_focus() && ui.input_mut(menu_key) {
        Popup::open_id(ui.ctx(), id);
    }
    let mut popup = Popup::context_menu(&plate);
    // What no pointer has opened stands at the plate.
    if Popup::position_of_id(ui.ctx(), id).is_none() && !plate.secondary_clicked() {
        popup = popup.anchor(&plate);
    }
    popup.show(|ui| menu(ui, view, net));
    plate
}

/// Whether a key was pressed that opens the menu of what has the focus.
fn menu_key(input: &mut InputState) -> bool {
    input.consume_key(Modifiers::NONE, Key::Menu) || input.consume_key(Modifiers::SHIFT, Key::F10)
}

/// What the plate says, for a reader of the screen.
fn words(net: &NetView, lamp: Lamp, own: &Snapshot) -> String {
    let mut parts = vec![net.path.clone(), lamp.words().to_owned()];
    if net.talked_to && lamp != Lamp::Transmit {
        parts.push("armed".to_owned());
    }
    match &net.talking[..] {
        [] => {}
        [one] => parts.push(format!("{one} talks")),
        several => parts.push(format!("{} talk", several.join(" and "))),
    }
    if !net.may_speak || own.silenced.contains(&net.path) {
        parts.push("you may not speak here".to_owned());
    }
    parts.push(format!("volume {:.0} percent", net.volume * 100.0));
    parts.join(", ")
}

/// A line of text of a height that does not depend on what stands in it.
fn line(ui: &mut Ui, contents: impl FnOnce(&mut Ui)) {
    let size = vec2(ui.available_width(), 18.0);
    ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
        ui.set_min_size(size);
        contents(ui);
    });
}

fn paint_ground(
    ui: &Ui,
    rect: Rect,
    net: &NetView,
    lamp: Lamp,
    plate: &Response,
    colours: &Colours,
) {
    let corner = CornerRadius::same(CORNER);
    let fill = match lamp {
        Lamp::Transmit => colours.transmit,
        _ if plate.hovered() => colours.hover,
        Lamp::Off => colours.ground,
        _ => colours.plate,
    };
    let stroke = match lamp {
        _ if plate.has_focus() => Stroke::new(2.0, colours.accent),
        _ if net.talked_to => Stroke::new(1.5, colours.armed),
        Lamp::Receive => Stroke::new(1.5, colours.receive),
        _ => Stroke::new(1.0, colours.line),
    };
    ui.painter().rect(rect, corner, fill, stroke, StrokeKind::Inside);
    if lamp == Lamp::Receive {
        let edge = Rect::from_min_size(rect.min + vec2(0.0, 6.0), vec2(3.0, rect.height() - 12.0));
        ui.painter().rect_filled(edge, 1.0, colours.receive);
    }
}

/// Lamp, name and rights.
fn lamp_and_name(
    ui: &mut Ui,
    view: &mut Drawing,
    net: &NetView,
    lamp: Lamp,
    [ink, weak]: [Color32; 2],
    width: f32,
) {
    let (space, _) = ui.allocate_exact_size(vec2(14.0, 20.0), Sense::hover());
    lamp.paint(ui.painter(), space.center(), view.colours);
    let (space, name) = ui.allocate_exact_size(vec2(width, 20.0), Sense::hover());
    let font = TextStyle::Name("strong".into()).resolve(ui.style());
    let text = fitted(ui, &net.name, font, ink, width);
    let taken = text.size().x;
    ui.painter().galley(pos2(space.left(), space.center().y - text.size().y / 2.0), text, ink);
    let mut at = pos2(space.left() + taken + 10.0, space.center().y);
    if !net.may_speak {
        lock(ui.painter(), at, weak);
        at.x += 14.0;
    }
    if net.talked_to && lamp != Lamp::Transmit {
        ui.painter().add(triangle(at, 4.5, view.colours.armed));
    }
    let above = net.path.rsplit_once('/').map(|(above, _)| above);
    let mut hint = above.map(|above| format!("in {above}")).into_iter().collect::<Vec<_>>();
    hint.push(match net.members.len() {
        0 => "nobody else hears it".to_owned(),
        _ => format!("heard by {}", net.members.join(", ")),
    });
    if !net.may_speak {
        hint.push("you may not speak here".to_owned());
    }
    name.on_hover_text(hint.join("\n"));
}

/// The key that talks to the net, and the net's priority.
fn key(ui: &mut Ui, view: &mut Drawing, net: &NetView, weak: Color32) {
    let key = (view.keys)(&net.path);
    let (text, what) = match &key {
        Some(key) => (key.as_str(), format!("Key of {}: {key}", net.path)),
        None => ("+ key", format!("Choose a key for {}", net.path)),
    };
    let text = RichText::new(text).size(SMALL).color(weak);
    let button = Button::new(text).small().frame(key.is_some());
    if named(ui.add(button), &what).on_hover_text(&what).clicked() {
        view.asked.push(Asked::Bind(KeyAction::net(&net.path), None));
    }
    if net.priority > 0 {
        let text = RichText::new(format!("P{}", net.priority)).size(SMALL).color(weak);
        let told = format!("priority {}: it turns lower nets down", net.priority);
        ui.label(text).on_hover_text(told);
    }
}

/// Who talks, and who has just talked.
fn talkers(
    ui: &mut Ui,
    view: &mut Drawing,
    net: &NetView,
    ink: Color32,
    weak: Color32,
    most: usize,
) {
    let now = view.now;
    let calls = view.front.air.calls(&net.id);
    let seen: Vec<&Call> = calls.iter().filter(|call| call.strength(now) > 0.0).collect();
    for call in seen.iter().take(most) {
        if let Some(at) = call.next_step(now) {
            view.change_at(at);
        }
        let live = call.ended.is_none();
        let colour = if live { ink } else { weak.gamma_multiply(0.35 + 0.65 * call.strength(now)) };
        let mut text = RichText::new(&call.name).color(colour);
        if live {
            text = text.text_style(tokens::strong());
        }
        if call.talked_over {
            text = text.underline();
        }
        let response = ui.label(text);
        if call.talked_over {
            response.on_hover_text("talked over: ask to say again");
        }
    }
    let more = seen.len().saturating_sub(most);
    if more > 0 {
        ui.label(RichText::new(format!("+{more}")).color(weak).size(SMALL));
    }
    if seen.is_empty() {
        let (text, next) = quiet(net, calls, now);
        if let Some(next) = next {
            view.change_at(next);
        }
        ui.label(RichText::new(text).color(weak).size(SMALL));
    }
}

/// What stands in the place of talkers while nobody talks, and when it changes.
fn quiet(net: &NetView, calls: &[Call], now: Instant) -> (String, Option<Instant>) {
    match calls.first() {
        Some(Call { name, ended: Some(ended), .. }) => {
            let since = now.saturating_duration_since(*ended);
            (format!("last {name}, {}", ago(since)), Some(now + next_ago(since)))
        }
        _ if !net.listening => ("you do not hear it".to_owned(), None),
        _ => match net.members.len() {
            0 => ("nobody else here".to_owned(), None),
            1 => (format!("{} here", net.members[0]), None),
            count => (format!("{count} here"), None),
        },
    }
}

/// The last callers with their age.
fn callers(ui: &mut Ui, view: &mut Drawing, net: &NetView, weak: Color32) {
    line(ui, |ui| {
        let now = view.now;
        let calls = view.front.air.calls(&net.id);
        let past = calls.iter().filter(|call| call.strength(now) == 0.0);
        for call in past.take(3) {
            let Some(ended) = call.ended else { continue };
            let since = now.saturating_duration_since(ended);
            view.change_at(now + next_ago(since));
            let text = format!("{} {}", call.name, ago(since));
            ui.label(RichText::new(text).size(SMALL).color(weak));
        }
    });
}

fn volume(ui: &mut Ui, view: &mut Drawing, net: &NetView, width: f32) {
    let mut volume = net.volume * 100.0;
    ui.spacing_mut().slider_width = width;
    ui.spacing_mut().interact_size.y = tokens::SLIDER;
    let told = format!("volume {volume:.0} %");
    let changed = ui.name_inputs(format!("Volume of {}", net.path), |ui| {
        let slider = Slider::new(&mut volume, 0.0..=200.0).show_value(false);
        let slider = ui.add_enabled(net.listening, slider).on_hover_text(told);
        if slider.double_clicked() { Some(100.0) } else { slider.changed().then_some(volume) }
    });
    if let Some(volume) = changed {
        let volume = Some(volume / 100.0);
        view.change(net, NetChange { volume, ..NetChange::default() });
    }
}

fn pan(ui: &mut Ui, view: &mut Drawing, net: &NetView) {
    let mut pan = net.pan;
    ui.spacing_mut().slider_width = 44.0;
    ui.spacing_mut().interact_size.y = tokens::SLIDER;
    let changed = ui.name_inputs(format!("Side of {}", net.path), |ui| {
        let slider = Slider::new(&mut pan, -1.0..=1.0).show_value(false).trailing_fill(false);
        let slider = ui.add_enabled(net.listening, slider);
        // The middle is marked, which tells it from a volume at a glance.
        let rect = slider.rect;
        for y in [rect.top() - 2.0, rect.bottom() + 2.0] {
            let inwards = (rect.center().y - y).signum() * 3.0;
            let ends = [pos2(rect.center().x, y), pos2(rect.center().x, y + inwards)];
            ui.painter().line_segment(ends, (1.0, ui.visuals().text_color()));
        }
        let slider = slider.on_hover_text("left or right; a double click takes it to the middle");
        if slider.double_clicked() { Some(0.0) } else { slider.changed().then_some(pan) }
    });
    if changed.is_some() {
        view.change(net, NetChange { pan: changed, ..NetChange::default() });
    }
}

/// Mute, and whether the net is heard.
fn toggles(ui: &mut Ui, view: &mut Drawing, net: &NetView) {
    let hears = toggle(ui, "Hear", net.listening, &format!("Hear {}", net.path));
    if hears.on_hover_text("whether this net is heard at all").clicked() {
        let on = !net.listening;
        view.command(Command::Listen { net: net.path.clone(), on, keep: false });
    }
    let mutes = toggle(ui, "Mute", net.muted, &format!("Mute {}", net.path));
    if mutes.on_hover_text("silent, but the lamp and the names go on").clicked() {
        let muted = Some(!net.muted);
        view.change(net, NetChange { muted, ..NetChange::default() });
    }
}

/// A small button that is on or off.
pub fn toggle(ui: &mut Ui, text: &str, on: bool, name: &str) -> Response {
    let text = RichText::new(text).size(SMALL);
    let button = Button::new(text).small().min_size(vec2(0.0, BUTTON));
    let response = ui.add(button.selected(on));
    response.widget_info(|| WidgetInfo::selected(Role::CheckBox, true, on, name));
    response
}

/// Gives a response the name that readers of the screen and tests know it by.
pub fn named(response: Response, name: &str) -> Response {
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    response
}

/// A button that copies a text, and says for a moment that it has. Returns whether it was clicked.
pub fn copies(ui: &mut Ui, text: &str, name: &str) -> bool {
    let copied = ui.scope_id().with(("copied", name));
    let now = ui.input(|input| input.time);
    let at: Option<f64> = ui.data(|data| data.get_temp(copied));
    let left = at.map_or(0.0, |at| at + COPIED_SECS - now);
    let text = if left > 0.0 { "Copied" } else { text };
    if left > 0.0 {
        ui.ctx().request_repaint_after(Duration::from_secs_f64(left));
    }
    let clicked = named(ui.button(text), name).clicked();
    if clicked {
        ui.data_mut(|data| data.insert_temp(copied, now));
    }
    clicked
}

/// Talks to this net while the mouse is held on it.
fn push_to_talk(ui: &mut Ui, view: &mut Drawing, net: &NetView) {
    let button = Button::new(RichText::new("Talk").size(SMALL)).small().sense(Sense::drag());
    let button = button.min_size(vec2(0.0, BUTTON));
    let response = ui.add_enabled(net.may_speak, button);
    let response = named(response, &format!("Talk to {}", net.path));
    let to = Some(TalkTo::nets(vec![net.path.clone()]));
    if response.drag_started() {
        view.asked.push(Asked::Press { to: to.clone(), down: true });
    }
    if response.drag_stopped() {
        view.asked.push(Asked::Press { to, down: false });
    }
    response.on_hover_text("talks to this net alone while it is held");
}

/// A click talks to this net from now on; with Ctrl, to this net as well.
fn clicked(plate: &Response, view: &mut Drawing, net: &NetView) {
    if !plate.clicked() {
        return;
    }
    let adds = plate.ctx.input(|input| input.modifiers.command);
    let nets = if adds { with(view.snapshot(), net) } else { vec![net.path.clone()] };
    if !nets.is_empty() {
        view.command(Command::TalkTo { to: TalkTo::nets(nets), keep: false });
    }
}

/// The nets that are talked to, with this one or without it.
fn with(own: &Snapshot, net: &NetView) -> Vec<String> {
    let talked_to = own.nets.iter().filter(|it| it.talked_to && it.id != net.id);
    let mut nets: Vec<_> = talked_to.map(|it| it.path.clone()).collect();
    if !net.talked_to {
        nets.push(net.path.clone());
    }
    nets
}

fn menu(ui: &mut Ui, view: &mut Drawing, net: &NetView) {
    let nets = with(view.snapshot(), net);
    let both = if net.talked_to { "Talk to it no longer" } else { "Talk to it as well" };
    if !nets.is_empty() && ui.button(both).clicked() {
        view.command(Command::TalkTo { to: TalkTo::nets(nets), keep: false });
        ui.close();
    }
    let hear = if net.listening { "Do not hear it" } else { "Hear it" };
    if ui.button(hear).clicked() {
        let on = !net.listening;
        view.command(Command::Listen { net: net.path.clone(), on, keep: false });
        ui.close();
    }
    if ui.button("Choose a key …").clicked() {
        view.asked.push(Asked::Bind(KeyAction::net(&net.path), None));
        ui.close();
    }
    ui.separator();
    let mut priority = net.priority;
    ui.horizontal(|ui| {
        ui.label("Priority");
        ui.name_inputs(format!("Priority of {}", net.path), |ui| {
            let value = eframe::egui::DragValue::new(&mut priority).range(0..=255);
            if ui.add(value).changed() {
                view.change(net, NetChange { priority: Some(priority), ..NetChange::default() });
            }
        });
    });
    ui.horizontal(|ui| {
        ui.label("Side");
        pan(ui, view, net);
    });
    let mut radio = net.radio;
    if ui.checkbox(&mut radio, "Sound as by a radio").changed() {
        view.change(net, NetChange { radio: Some(radio), ..NetChange::default() });
    }
}

/// A line of text that ends with an ellipsis if it is wider than `width`.
pub fn fitted(
    ui: &Ui,
    text: &str,
    font: FontId,
    colour: Color32,
    width: f32,
) -> std::sync::Arc<eframe::egui::Galley> {
    let mut job = eframe::egui::text::LayoutJob::simple_singleline(text.to_owned(), font, colour);
    job.wrap.max_width = width;
    job.wrap.max_rows = 1;
    job.wrap.break_anywhere = true;
    ui.painter().layout_job(job)
}

/// How long a button says that it has copied.
const COPIED_SECS: f64 = 2.0;

/// From this width on, a row has room for volume and buttons.
const WIDE_ROW: f32 = 480.0;

/// The least width of cards and tiles.
const CARD_WIDTH: f32 = 248.0;
