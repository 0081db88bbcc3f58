//! The radio stack: the plates of all nets, in the order that the person gave them.

use eframe::egui::{
    CursorIcon, Key, Modifiers, Rect, Response, ScrollArea, Sense, Stroke, Ui, Vec2, pos2, vec2,
};
use hark_node::snapshot::NetView;

use super::{Drawing, plate};
use crate::{
    settings::{Density, PlateOrder, Settings},
    tokens::SPACE,
};

/// Draws the plates.
pub fn show(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    let density = if view.settings.mini { Density::Row } else { view.settings.density };
    let mini = view.settings.mini;
    let nets: Vec<&NetView> = in_order(&own.nets, &own.organisation_id, &view.settings.order)
        .into_iter()
        .filter(|net| match mini {
            true => net.talked_to || !net.talking.is_empty(),
            false => net.listening || net.talked_to || view.settings.shows_unheard,
        })
        .collect();
    if nets.is_empty() {
        ui.add_space(SPACE);
        ui.weak(if mini { "No net is live or armed." } else { "No channel is within reach." });
        return;
    }
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        let width = ui.available_width();
        let size = plate::size(density, width);
        let columns = (((width + SPACE) / (size.x + SPACE)).floor() as usize).max(1);
        let gap = if density == Density::Row { 3.0 } else { SPACE };
        let rows = nets.len().div_ceil(columns);
        let height = rows as f32 * (size.y + gap) - gap;
        let (space, _) = ui.allocate_exact_size(vec2(width, height), Sense::hover());
        for (at, net) in nets.iter().enumerate() {
            let (column, row) = ((at % columns) as f32, (at / columns) as f32);
            let corner = space.min + vec2(column * (size.x + SPACE), row * (size.y + gap));
            let rect = Rect::from_min_size(corner, size);
            if ui.is_rect_visible(rect) {
                let response = plate::show(ui, view, net, density, rect);
                let [before, after] = [at.checked_sub(1), at.checked_add(1)]
                    .map(|at| at.and_then(|at| nets.get(at)).map(|it| it.id.as_str()));
                move_by_keys(ui, view, &response, [before, Some(&net.id), after]);
                drag(ui, view, &response, net, rect, density);
            }
        }
    });
}

/// Alt with an arrow moves the plate that has the keyboard. `ids` are those of the net before it,
/// of its own, and of the net after it.
fn move_by_keys(ui: &Ui, view: &mut Drawing, plate: &Response, ids: [Option<&str>; 3]) {
    if !plate.has_focus() {
        return;
    }
    let pressed = |keys: [Key; 2]| {
        ui.input_mut(|input| keys.map(|key| input.consume_key(Modifiers::ALT, key)).contains(&true))
    };
    let own = view.snapshot();
    let [before, this, after] = ids;
    for (keys, moved, before) in [
        ([Key::ArrowLeft, Key::ArrowUp], this, before),
        ([Key::ArrowRight, Key::ArrowDown], after, this),
    ] {
        if pressed(keys)
            && let (Some(moved), Some(before)) = (moved, before)
        {
            place_before(view.settings, &own.organisation_id, &own.nets, moved, before);
        }
    }
}

/// Lets the plate be dragged to another place.
fn drag(
    ui: &Ui,
    view: &mut Drawing,
    response: &Response,
    net: &NetView,
    rect: Rect,
    density: Density,
) {
    if response.drag_started() {
        response.dnd_set_drag_payload(net.id.clone());
    }
    if response.dragged() {
        ui.ctx().set_cursor_icon(CursorIcon::Grabbing);
    }
    if response.dnd_hover_payload::<String>().is_some_and(|dragged| *dragged != net.id) {
        let line = Stroke::new(3.0, view.colours.accent);
        let ends = match density {
            Density::Row => [rect.left_top() - vec2(0.0, 2.0), rect.right_top() - vec2(0.0, 2.0)],
            Density::Card | Density::Tile => {
                let x = rect.left() - SPACE / 2.0;
                [pos2(x, rect.top()), pos2(x, rect.bottom())]
            }
        };
        ui.painter().line_segment(ends, line);
    }
    if let Some(dragged) = response.dnd_release_payload::<String>() {
        let own = view.snapshot();
        place_before(view.settings, &own.organisation_id, &own.nets, &dragged, &net.id);
    }
}

/// The nets in the person's order; those without a place come last, as officers ordered them.
pub fn in_order<'a>(
    nets: &'a [NetView],
    organisation: &str,
    order: &PlateOrder,
) -> Vec<&'a NetView> {
    let order = order.get(organisation).map_or(&[][..], Vec::as_slice);
    let mut sorted: Vec<_> = nets.iter().collect();
    sorted.sort_by_key(|net| order.iter().position(|id| *id == net.id).unwrap_or(order.len()));
    sorted
}

/// Gives the net `moved` the place before the net `before`.
fn place_before(
    settings: &mut Settings,
    organisation: &str,
    nets: &[NetView],
    moved: &str,
    before: &str,
) {
    if moved == before || !nets.iter().any(|net| net.id == moved) {
        return;
    }
    let sorted = in_order(nets, organisation, &settings.order);
    let mut order: Vec<String> =
        sorted.iter().map(|net| net.id.clone()).filter(|id| id != moved).collect();
    let at = order.iter().position(|id| id == before).unwrap_or(order.len());
    order.insert(at, moved.to_owned());
    settings.order.insert(organisation.to_owned(), order);
}

/// The height that all plates of the mini window need.
pub fn mini_size(nets: usize) -> Vec2 {
    vec2(420.0, 84.0 + 31.0 * nets.max(1) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn plates_stay_where_they_were_put() {
        let nets = samples::operation().nets;
        let mut settings = Settings::default();
        let order = |settings: &Settings| {
            in_order(&nets, "org", &settings.order)
                .iter()
                .map(|it| it.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(order(&settings), ["Command", "Flight", "Alpha", "Ground", "Logistics"]);
        place_before(&mut settings, "org", &nets, "id-Ground", "id-Command");
        assert_eq!(order(&settings), ["Ground", "Command", "Flight", "Alpha", "Logistics"]);
        place_before(&mut settings, "org", &nets, "id-Command", "id-Logistics");
        assert_eq!(order(&settings), ["Ground", "Flight", "Alpha", "Command", "Logistics"]);
        let before = settings.clone();
        place_before(&mut settings, "org", &nets, "id-unknown", "id-Command");
        assert_eq!(settings, before, "a net of another organisation has no place here");
        // A channel that is new comes last.
        settings.order.get_mut("org").expect("chosen").retain(|id| id != "id-Flight");
        assert_eq!(order(&settings).last().map(String::as_str), Some("Flight"));
    }
}
