//! The mark of Hark, a sound wave in a ring, as pixels for the window.
//!
//! `assets/icon.svg` is the same mark for menus, and `assets/icon.ico` for the programs of Windows.
//! Tests keep them alike.

use eframe::egui::{Color32, IconData};

use crate::tokens::Theme;

/// The mark, 64 by 64 pixels.
pub fn icon() -> IconData {
    drawn(SIZE)
}

/// The mark with this many pixels on each side.
fn drawn(side: u32) -> IconData {
    let mut rgba = Vec::with_capacity((side * side * 4) as usize);
    let scale = SIZE as f32 / side as f32;
    for y in 0..side {
        for x in 0..side {
            rgba.extend(pixel((x as f32 + 0.5) * scale, (y as f32 + 0.5) * scale, scale));
        }
    }
    IconData { rgba, width: side, height: side }
}

/// The colour around this place of the mark, which a pixel covers to this width and height. The
/// alpha is not multiplied in.
fn pixel(x: f32, y: f32, width: f32) -> [u8; 4] {
    let covered = |distance: f32| covered(distance / width);
    let from_middle = (x - MIDDLE).hypot(y - MIDDLE);
    let [ground, ring, wave] = colours();
    let disc = covered(from_middle - (RING + STROKE / 2.0));
    let on_ring = covered((from_middle - RING).abs() - STROKE / 2.0);
    let on_wave = BARS.iter().map(|(at, half)| {
        let beyond = ((y - MIDDLE).abs() - half).max(0.0);
        covered((x - at).hypot(beyond) - STROKE / 2.0)
    });
    let on_wave = on_wave.fold(0.0, f32::max);
    let under = mix(ground, ring, on_ring);
    let [red, green, blue, _] = mix(under, wave, on_wave).to_array();
    [red, green, blue, (disc * 255.0).round() as u8]
}

/// How much of a pixel is covered whose middle is `distance` outside of an edge.
fn covered(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

fn mix(under: Color32, over: Color32, share: f32) -> Color32 {
    under.lerp_to_gamma(over, share)
}

/// The colours of the disc, the ring and the wave.
fn colours() -> [Color32; 3] {
    let colours = Theme::Dark.colours();
    [colours.ground, colours.receive, colours.text]
}

/// The width and height of the mark.
const SIZE: u32 = 64;
const MIDDLE: f32 = 32.0;
/// The radius of the ring's middle.
const RING: f32 = 28.0;
/// The width of the ring and of each bar.
const STROKE: f32 = 4.0;
/// The bars of the wave: where they stand, and half of their height without the round ends.
const BARS: [(f32, f32); 5] = [(16.0, 2.0), (24.0, 8.0), (32.0, 15.0), (40.0, 8.0), (48.0, 2.0)];

#[cfg(test)]
mod tests {
    use image::{
        ExtendedColorType,
        codecs::ico::{IcoEncoder, IcoFrame},
    };

    use super::*;

    #[test]
    fn menus_and_the_window_show_the_same_mark() {
        let [ground, ring, wave] = colours().map(|colour| {
            let [red, green, blue, _] = colour.to_array();
            format!("#{red:02x}{green:02x}{blue:02x}")
        });
        let bars = BARS.map(|(at, half)| format!("M{at} {} V{}", MIDDLE - half, MIDDLE + half));
        let drawn = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {SIZE} {SIZE}\">\n  \
             <circle cx=\"{MIDDLE}\" cy=\"{MIDDLE}\" r=\"{RING}\" fill=\"{ground}\" \
             stroke=\"{ring}\" stroke-width=\"{STROKE}\"/>\n  \
             <path d=\"{}\" stroke=\"{wave}\" stroke-width=\"{STROKE}\" \
             stroke-linecap=\"round\"/>\n</svg>\n",
            bars.join(" ")
        );
        assert_eq!(include_str!("../assets/icon.svg"), drawn);
    }

    #[test]
    fn windows_shows_the_same_mark_in_all_its_sizes() {
        let frames = [16, 24, 32, 48, 64, 128, 256].map(|side| {
            let IconData { rgba, width, height } = drawn(side);
            IcoFrame::as_png(&rgba, width, height, ExtendedColorType::Rgba8).expect("a picture")
        });
        let mut made = Vec::new();
        IcoEncoder::new(&mut made).encode_images(&frames).expect("an icon");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/icon.ico");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(path, &made).expect("written");
        }
        assert!(std::fs::read(path).expect("it is there") == made, "UPDATE_SNAPSHOTS=1 makes it");
    }

    #[test]
    fn the_corners_are_clear_and_the_middle_is_the_wave() {
        let icon = icon();
        let at = |x: usize, y: usize| &icon.rgba[(y * 64 + x) * 4..][..4];
        assert_eq!(icon.rgba.len(), 64 * 64 * 4);
        assert_eq!(at(0, 0)[3], 0);
        let [_, ring, wave] = colours().map(|it| it.to_array());
        assert_eq!(at(32, 32), wave);
        assert_eq!(at(32, 4), ring);
    }
}
