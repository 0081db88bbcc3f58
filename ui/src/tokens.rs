//! All colours, sizes and spacings of the window, in one place.

use std::sync::Arc;

use eframe::egui::{
    self, Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Stroke,
    TextStyle, Vec2,
    epaint::Shadow,
    style::{HandleShape, Visuals},
};
use serde::{Deserialize, Serialize};

/// A set of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// Light text on dark grey.
    #[default]
    Dark,
    /// Dark text on light grey.
    Light,
    /// Dim red and amber on black, which spares eyes that look into space.
    Night,
    /// White on black with strong outlines.
    HighContrast,
}

impl Theme {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::Dark, Self::Light, Self::Night, Self::HighContrast];

    /// The name that is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "Dark",
            Self::Light => "Light",
            Self::Night => "Night",
            Self::HighContrast => "High contrast",
        }
    }

    /// The colours.
    pub fn colours(self) -> &'static Colours {
        match self {
            Self::Dark => &DARK,
            Self::Light => &LIGHT,
            Self::Night => &NIGHT,
            Self::HighContrast => &HIGH_CONTRAST,
        }
    }
}

/// What each colour is for. No state is told by colour alone: lamps differ in shape as well.
#[derive(Clone, Copy, Debug)]
pub struct Colours {
    /// Behind everything.
    pub ground: Color32,
    /// Bars and drawers at the edges.
    pub panel: Color32,
    /// Plates and cards.
    pub plate: Color32,
    /// A plate, button or row under the pointer.
    pub hover: Color32,
    /// Buttons and fields.
    pub control: Color32,
    /// Thin lines.
    pub line: Color32,
    /// Text.
    pub text: Color32,
    /// Text that matters less.
    pub weak: Color32,
    /// Somebody talks.
    pub receive: Color32,
    /// I transmit.
    pub transmit: Color32,
    /// Text on `transmit`.
    pub on_transmit: Color32,
    /// What I talk to when I press the key.
    pub armed: Color32,
    /// Something is wrong.
    pub warning: Color32,
    /// The keyboard's focus, and what is chosen.
    pub accent: Color32,
}

const fn grey(level: u8) -> Color32 {
    Color32::from_gray(level)
}

const fn rgb(red: u8, green: u8, blue: u8) -> Color32 {
    Color32::from_rgb(red, green, blue)
}

const DARK: Colours = Colours {
    ground: rgb(17, 19, 23),
    panel: rgb(23, 26, 31),
    plate: rgb(31, 35, 42),
    hover: rgb(40, 45, 54),
    control: rgb(46, 52, 62),
    line: rgb(52, 58, 69),
    text: rgb(226, 230, 236),
    weak: rgb(150, 159, 172),
    receive: rgb(74, 201, 126),
    transmit: rgb(214, 50, 56),
    on_transmit: grey(255),
    armed: rgb(240, 174, 66),
    warning: rgb(243, 156, 74),
    accent: rgb(92, 160, 242),
};

const LIGHT: Colours = Colours {
    ground: rgb(233, 236, 240),
    panel: rgb(244, 246, 248),
    plate: rgb(255, 255, 255),
    hover: rgb(228, 233, 240),
    control: rgb(218, 224, 232),
    line: rgb(200, 207, 216),
    text: rgb(26, 31, 38),
    weak: rgb(88, 98, 111),
    receive: rgb(14, 122, 62),
    transmit: rgb(190, 24, 34),
    on_transmit: grey(255),
    armed: rgb(160, 96, 0),
    warning: rgb(166, 79, 0),
    accent: rgb(20, 96, 190),
};

const NIGHT: Colours = Colours {
    ground: rgb(0, 0, 0),
    panel: rgb(10, 5, 4),
    plate: rgb(20, 10, 8),
    hover: rgb(32, 16, 12),
    control: rgb(40, 20, 15),
    line: rgb(54, 28, 20),
    text: rgb(214, 130, 96),
    weak: rgb(170, 102, 76),
    receive: rgb(232, 176, 60),
    transmit: rgb(170, 22, 16),
    on_transmit: rgb(255, 214, 190),
    armed: rgb(206, 118, 40),
    warning: rgb(244, 152, 60),
    accent: rgb(220, 104, 72),
};

const HIGH_CONTRAST: Colours = Colours {
    ground: grey(0),
    panel: grey(0),
    plate: grey(0),
    hover: grey(38),
    control: grey(24),
    line: grey(180),
    text: grey(255),
    weak: grey(215),
    receive: rgb(60, 255, 130),
    transmit: rgb(255, 40, 40),
    on_transmit: grey(0),
    armed: rgb(255, 210, 0),
    warning: rgb(255, 170, 0),
    accent: rgb(90, 190, 255),
};

/// Colours of organisations, so that no two plates of different organisations look the same.
pub const BADGES: [Color32; 8] = [
    rgb(92, 160, 242),
    rgb(240, 174, 66),
    rgb(180, 124, 242),
    rgb(64, 196, 188),
    rgb(238, 120, 160),
    rgb(150, 200, 84),
    rgb(232, 126, 76),
    rgb(160, 170, 190),
];

/// Between things that belong together.
pub const GAP: f32 = 4.0;
/// Between things that do not.
pub const SPACE: f32 = 8.0;
/// The height of a row in a list and of a button.
pub const ROW: f32 = 24.0;
/// The height of a small button.
pub const BUTTON: f32 = 19.0;
/// The height of a slider.
pub const SLIDER: f32 = 16.0;
/// The width of the column of organisations.
pub const BADGE_COLUMN: f32 = 56.0;
/// The width of the drawer on the right.
pub const DRAWER: f32 = 300.0;
/// Corners of plates and buttons.
pub const CORNER: u8 = 6;
/// Body text.
pub const BODY: f32 = 13.0;
/// Small text: ages, keys, measurements.
pub const SMALL: f32 = 11.5;
/// Headings and the names of nets.
pub const HEADING: f32 = 16.0;

/// The text style of names and headings within the body.
pub fn strong() -> TextStyle {
    TextStyle::Name("strong".into())
}

/// Sets fonts, sizes and colours of the whole window.
pub fn apply(ctx: &egui::Context, theme: Theme) {
    let colours = theme.colours();
    let base = match theme {
        Theme::Light => Visuals::light(),
        Theme::Dark | Theme::Night | Theme::HighContrast => Visuals::dark(),
    };
    let which = if base.dark_mode { egui::Theme::Dark } else { egui::Theme::Light };
    ctx.set_theme(which);
    ctx.style_mut_of(which, |style| {
        style.visuals = visuals(base, colours);
        style.animation_time = 0.08;
        style.text_styles = [
            (TextStyle::Small, FontId::proportional(SMALL)),
            (TextStyle::Body, FontId::proportional(BODY)),
            (TextStyle::Button, FontId::proportional(BODY)),
            (TextStyle::Monospace, FontId::monospace(BODY)),
            (TextStyle::Heading, FontId::new(HEADING, FontFamily::Name("strong".into()))),
            (strong(), FontId::new(BODY, FontFamily::Name("strong".into()))),
        ]
        .into();
        let spacing = &mut style.spacing;
        spacing.item_spacing = Vec2::new(SPACE, GAP);
        spacing.button_padding = Vec2::new(SPACE, 3.0);
        spacing.interact_size = Vec2::new(ROW, ROW);
        spacing.slider_width = 96.0;
        spacing.icon_width = 14.0;
        spacing.slider_rail_height = 4.0;
        spacing.window_margin = Margin::same(12);
        spacing.menu_margin = Margin::same(6);
        style.interaction.selectable_labels = false;
    });
}

fn visuals(base: Visuals, colours: &Colours) -> Visuals {
    let Colours { ground, panel, plate, hover, control, line, text, weak, accent, .. } = *colours;
    let corner = CornerRadius::same(CORNER);
    let mut visuals = base;
    visuals.panel_fill = ground;
    visuals.window_fill = panel;
    visuals.extreme_bg_color = ground;
    visuals.faint_bg_color = plate;
    visuals.text_edit_bg_color = Some(control);
    visuals.window_stroke = Stroke::new(1.0, line);
    visuals.window_shadow = Shadow::NONE;
    visuals.popup_shadow = Shadow::NONE;
    visuals.window_corner_radius = corner;
    visuals.menu_corner_radius = corner;
    visuals.weak_text_color = Some(weak);
    visuals.hyperlink_color = accent;
    visuals.warn_fg_color = colours.warning;
    visuals.error_fg_color = colours.warning;
    visuals.selection.bg_fill = accent.gamma_multiply(0.35);
    visuals.selection.stroke = Stroke::new(1.5, accent);
    visuals.text_cursor.blink = false;
    visuals.handle_shape = HandleShape::Circle;
    visuals.slider_trailing_fill = true;
    let widgets = &mut visuals.widgets;
    for (widget, fill) in [
        (&mut widgets.noninteractive, panel),
        (&mut widgets.inactive, control),
        (&mut widgets.hovered, hover),
        (&mut widgets.active, hover),
        (&mut widgets.open, hover),
    ] {
        widget.bg_fill = fill;
        widget.weak_bg_fill = fill;
        widget.bg_stroke = Stroke::NONE;
        widget.fg_stroke = Stroke::new(1.0, text);
        widget.corner_radius = corner;
        widget.expansion = 0.0;
    }
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, line);
    widgets.hovered.bg_stroke = Stroke::new(1.0, accent);
    widgets.active.bg_stroke = Stroke::new(1.5, accent);
    visuals
}

/// Adds the fonts of the window. Names in other scripts come from the fonts of the system.
pub fn add_fonts(ctx: &egui::Context) {
    let mut fonts = FontDefinitions::default();
    let inter: [(&str, &'static [u8]); 2] = [
        ("Inter Medium", include_bytes!("../assets/Inter-Medium.otf")),
        ("Inter SemiBold", include_bytes!("../assets/Inter-SemiBold.otf")),
    ];
    for (name, bytes) in inter {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    }
    let usual = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    for (family, first) in [
        (FontFamily::Proportional, "Inter Medium"),
        (FontFamily::Name("strong".into()), "Inter SemiBold"),
    ] {
        let all = std::iter::once(first.to_owned()).chain(usual.iter().cloned());
        fonts.families.insert(family, all.collect());
    }
    ctx.set_fonts(fonts);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contrast of two colours (WCAG 2.2, relative luminance), 1 to 21.
    fn contrast(one: Color32, other: Color32) -> f32 {
        let luminance = |colour: Color32| {
            let linear = egui::Rgba::from(colour);
            0.2126 * linear.r() + 0.7152 * linear.g() + 0.0722 * linear.b()
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn text_can_be_read_in_each_theme() {
        for theme in Theme::ALL {
            let colours = theme.colours();
            for ground in [colours.ground, colours.panel, colours.plate] {
                for (what, colour, least) in [
                    ("text", colours.text, 6.0),
                    ("weak", colours.weak, 3.6),
                    ("warning", colours.warning, 3.0),
                    ("receive", colours.receive, 3.0),
                    ("armed", colours.armed, 3.0),
                ] {
                    let found = contrast(colour, ground);
                    assert!(found >= least, "{theme:?}: {what} on {ground:?}: {found}");
                }
            }
            let found = contrast(colours.on_transmit, colours.transmit);
            assert!(found >= 4.0, "{theme:?}: on air: {found}");
        }
    }
}
