//! The lamp of a net: its state as a shape and a colour.

use eframe::egui::{Color32, Painter, Pos2, Rect, Shape, Stroke, Vec2, pos2};
use hark_node::snapshot::{NetView, Snapshot};

use crate::tokens::Colours;

/// The state of a net, the most important one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lamp {
    /// This person transmits to it.
    Transmit,
    /// Somebody talks, and is heard.
    Receive,
    /// Somebody talks, but the net is silenced here.
    Silenced,
    /// The net is heard, and nobody talks.
    Quiet,
    /// The net is heard in principle, but silenced.
    Muted,
    /// The net is not heard.
    Off,
}

impl Lamp {
    /// The state of a net.
    pub fn of(net: &NetView, snapshot: &Snapshot) -> Self {
        let talks = !net.talking.is_empty();
        match () {
            () if is_on_air(net, snapshot) => Self::Transmit,
            () if !net.listening => Self::Off,
            () if net.muted && talks => Self::Silenced,
            () if net.muted => Self::Muted,
            () if talks => Self::Receive,
            () => Self::Quiet,
        }
    }

    /// What it says, for a reader of the screen.
    pub fn words(self) -> &'static str {
        match self {
            Self::Transmit => "you are on the air",
            Self::Receive => "receiving",
            Self::Silenced => "somebody talks, muted here",
            Self::Quiet => "quiet",
            Self::Muted => "muted",
            Self::Off => "not heard",
        }
    }

    /// The colour.
    pub fn colour(self, colours: &Colours) -> Color32 {
        match self {
            Self::Transmit => colours.on_transmit,
            Self::Receive => colours.receive,
            Self::Silenced => colours.warning,
            Self::Quiet | Self::Muted | Self::Off => colours.weak,
        }
    }

    /// Draws it around `centre`. Each state has a shape of its own.
    pub fn paint(self, painter: &Painter, centre: Pos2, colours: &Colours) {
        let colour = self.colour(colours);
        let line = Stroke::new(1.5, colour);
        match self {
            Self::Transmit => {
                painter.add(triangle(centre, 5.5, colour));
            }
            Self::Receive => {
                painter.circle_filled(centre, 5.5, colour);
            }
            Self::Quiet => {
                painter.circle_stroke(centre, 4.5, line);
            }
            Self::Silenced | Self::Muted => {
                if self == Self::Silenced {
                    painter.circle_filled(centre, 3.0, colour);
                }
                painter.circle_stroke(centre, 4.5, line);
                let slash = [centre + Vec2::new(-5.5, 5.5), centre + Vec2::new(5.5, -5.5)];
                painter.line_segment(slash, line);
            }
            Self::Off => {
                let dash = [centre - Vec2::new(4.0, 0.0), centre + Vec2::new(4.0, 0.0)];
                painter.line_segment(dash, line);
            }
        }
    }
}

/// Whether the net hears this person now.
pub fn is_on_air(net: &NetView, snapshot: &Snapshot) -> bool {
    snapshot.transmitting && net.talked_to && !snapshot.silenced.contains(&net.path)
}

/// A triangle that points up: what transmits.
pub fn triangle(centre: Pos2, radius: f32, colour: Color32) -> Shape {
    let points = [(0.0, -1.0), (0.95, 0.75), (-0.95, 0.75)];
    let points = points.map(|(x, y)| pos2(centre.x + x * radius, centre.y + y * radius));
    Shape::convex_polygon(points.to_vec(), colour, Stroke::NONE)
}

/// A closed lock: this person may not speak there.
pub fn lock(painter: &Painter, centre: Pos2, colour: Color32) {
    let body = Rect::from_center_size(centre + Vec2::new(0.0, 2.0), Vec2::new(8.0, 6.0));
    painter.rect_filled(body, 1.0, colour);
    let bow = Rect::from_center_size(centre - Vec2::new(0.0, 2.0), Vec2::new(5.0, 6.0));
    painter.rect_stroke(bow, 2.5, Stroke::new(1.2, colour), eframe::egui::StrokeKind::Middle);
}

/// A bar that shows a level between -60 dB and full scale.
pub fn meter(painter: &Painter, rect: Rect, level_dbfs: f32, colours: &Colours) {
    painter.rect_filled(rect, 2.0, colours.control);
    let share = ((level_dbfs + 60.0) / 60.0).clamp(0.0, 1.0);
    if share > 0.0 {
        let colour = if level_dbfs > -3.0 { colours.warning } else { colours.receive };
        let filled = Rect::from_min_size(rect.min, Vec2::new(rect.width() * share, rect.height()));
        painter.rect_filled(filled, 2.0, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_lamp_shows_what_matters_most() {
        let mut own = samples::operation();
        let lamps =
            |own: &Snapshot| own.nets.iter().map(|net| Lamp::of(net, own)).collect::<Vec<_>>();
        let quiet = [Lamp::Quiet, Lamp::Receive, Lamp::Quiet, Lamp::Silenced, Lamp::Off];
        assert_eq!(lamps(&own), quiet);
        own.transmitting = true;
        assert_eq!(lamps(&own)[1], Lamp::Transmit, "though Kestrel talks there");
        own.silenced = vec!["Flight".to_owned()];
        assert_eq!(lamps(&own)[1], Lamp::Receive, "nobody hears who may not speak");
    }
}
