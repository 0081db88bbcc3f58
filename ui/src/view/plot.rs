//! A small plot of a value over the last ten minutes.

use std::time::Instant;

use eframe::egui::{
    Align2, Color32, FontId, Pos2, Role, Sense, Shape, Stroke, Ui, WidgetInfo, pos2, vec2,
};

use crate::{
    history::{History, LinkSample, SPAN},
    tokens::{Colours, SMALL},
};

/// What a plot shows.
pub struct Plot {
    /// What the values are, with their unit.
    pub name: &'static str,
    /// The value of a sample.
    pub of: fn(&LinkSample) -> f32,
    /// The least value at the upper edge.
    pub least_top: f32,
    /// A value above this is worth a look. It is drawn as a line.
    pub limit: Option<f32>,
}

/// The plots of the panel.
pub const PLOTS: [Plot; 3] = [
    Plot {
        name: "Longest round trip, ms",
        of: |it| it.rtt_ms,
        least_top: 100.0,
        limit: Some(250.0),
    },
    Plot { name: "Greatest loss, %", of: |it| it.loss_percent, least_top: 10.0, limit: Some(5.0) },
    Plot { name: "Devices reached", of: |it| it.reached as f32, least_top: 4.0, limit: None },
];

/// Draws a plot as wide as there is room.
pub fn show(ui: &mut Ui, plot: &Plot, history: &History, now: Instant, colours: &Colours) {
    let (rect, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::hover());
    let samples: Vec<&LinkSample> = history.since(now).collect();
    let highest = samples.iter().map(|it| (plot.of)(it)).fold(plot.least_top, f32::max);
    let newest = samples.last().map_or(0.0, |it| (plot.of)(it));
    response.widget_info(|| {
        let text = format!("{}: {newest:.0} now, at most {highest:.0} shown", plot.name);
        WidgetInfo::labeled(Role::Image, true, text)
    });
    let painter = ui.painter().with_clip_rect(rect);
    painter.rect_filled(rect, 4.0, colours.ground);
    let place = |at: Instant, value: f32| -> Pos2 {
        let age = now.saturating_duration_since(at).as_secs_f32() / SPAN.as_secs_f32();
        let up = value / highest;
        pos2(
            rect.right() - age.min(1.0) * rect.width(),
            rect.bottom() - 2.0 - up * (rect.height() - LABEL - 3.0),
        )
    };
    if let Some(limit) = plot.limit.filter(|limit| *limit < highest) {
        let y = place(now, limit).y;
        let ends = [pos2(rect.left(), y), pos2(rect.right(), y)];
        painter.extend(Shape::dashed_line(&ends, Stroke::new(1.0, colours.warning), 4.0, 4.0));
    }
    let mut line = Vec::with_capacity(2 * samples.len() + 1);
    for sample in &samples {
        let value = (plot.of)(sample);
        // Each value holds until the next one.
        if let Some(before) = line.last().copied() {
            let before: Pos2 = before;
            line.push(pos2(place(sample.at, value).x, before.y));
        }
        line.push(place(sample.at, value));
    }
    if let Some(last) = line.last().copied() {
        line.push(pos2(rect.right(), last.y));
    }
    painter.add(Shape::line(line, Stroke::new(1.5, colours.receive)));
    let font = FontId::proportional(SMALL);
    let text = |at: Pos2, align: Align2, text: String, colour: Color32| {
        painter.text(at, align, text, font.clone(), colour);
    };
    let corner = rect.left_top() + vec2(4.0, 2.0);
    text(corner, Align2::LEFT_TOP, plot.name.to_owned(), colours.weak);
    let corner = rect.right_top() + vec2(-4.0, 2.0);
    text(corner, Align2::RIGHT_TOP, format!("{newest:.0}"), colours.text);
    response.on_hover_text(format!(
        "the last ten minutes; the upper edge is {highest:.0}{}",
        plot.limit.map_or_else(String::new, |limit| format!(", trouble begins at {limit:.0}"))
    ));
}

const HEIGHT: f32 = 60.0;

/// The height of the words above the line.
const LABEL: f32 = 18.0;
