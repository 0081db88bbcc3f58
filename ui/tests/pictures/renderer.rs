//! Draws egui on the processor, so that pictures are the same on every machine.

use std::collections::HashMap;

use eframe::egui::{
    Color32, ColorImage, Context, FullOutput, ImageData, Pos2, Rect, TextureId, TexturesDelta,
    epaint::{Primitive, Vertex},
};
use egui_kittest::TestRenderer;
use hark_ui::tokens::Theme;
use image::{Rgba, RgbaImage};

/// The textures that egui has sent.
pub(crate) struct CpuRenderer {
    /// What the picture is cleared with.
    ground: Color32,
    textures: HashMap<TextureId, ColorImage>,
}

impl CpuRenderer {
    /// Clears pictures with the ground of a theme, as the window does.
    pub(crate) fn new(theme: Theme) -> Self {
        Self { ground: theme.colours().ground, textures: HashMap::new() }
    }
}

impl TestRenderer for CpuRenderer {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        for (id, deltas) in std::mem::take(&mut delta.set) {
            for delta in deltas {
                let ImageData::Color(image) = &delta.image;
                let Some([x, y]) = delta.pos else {
                    self.textures.insert(id, (**image).clone());
                    continue;
                };
                let Some(texture) = self.textures.get_mut(&id) else { continue };
                let [width, height] = image.size;
                for row in 0..height {
                    let to = (y + row) * texture.size[0] + x;
                    let from = row * width;
                    texture.pixels[to..to + width]
                        .copy_from_slice(&image.pixels[from..from + width]);
                }
            }
        }
    }

    fn render(&mut self, ctx: &Context, output: &FullOutput) -> Result<RgbaImage, String> {
        let scale = output.pixels_per_point;
        let size = ctx.content_rect().size() * scale;
        let (width, height) = (size.x.round() as u32, size.y.round() as u32);
        let mut picture = RgbaImage::from_pixel(width, height, Rgba(self.ground.to_array()));
        for clipped in ctx.tessellate(output.shapes.clone(), scale) {
            let Primitive::Mesh(mesh) = clipped.primitive else { continue };
            let Some(texture) = self.textures.get(&mesh.texture_id) else { continue };
            let corner = |at: Pos2| (at.to_vec2() * scale).round().to_pos2();
            let clip =
                Rect::from_min_max(corner(clipped.clip_rect.min), corner(clipped.clip_rect.max));
            for corners in mesh.indices.chunks_exact(3) {
                let vertices = [0, 1, 2].map(|at| {
                    let vertex = mesh.vertices[corners[at] as usize];
                    Vertex { pos: (vertex.pos.to_vec2() * scale).to_pos2(), ..vertex }
                });
                triangle(&mut picture, clip, texture, vertices);
            }
        }
        Ok(picture)
    }
}

/// The texture's colour at `uv`, between its four nearest pixels.
fn sample(image: &ColorImage, uv: Pos2) -> [f32; 4] {
    let [width, height] = image.size;
    let (x, y) = (uv.x * width as f32 - 0.5, uv.y * height as f32 - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (right, down) = (x - left, y - top);
    let at = |x: f32, y: f32| {
        let column = x.clamp(0.0, width as f32 - 1.0) as usize;
        let row = y.clamp(0.0, height as f32 - 1.0) as usize;
        image.pixels[row * width + column].to_array().map(f32::from)
    };
    let (a, b) = (at(left, top), at(left + 1.0, top));
    let (c, d) = (at(left, top + 1.0), at(left + 1.0, top + 1.0));
    std::array::from_fn(|channel| {
        let above = a[channel] * (1.0 - right) + b[channel] * right;
        let below = c[channel] * (1.0 - right) + d[channel] * right;
        above * (1.0 - down) + below * down
    })
}

fn triangle(picture: &mut RgbaImage, clip: Rect, texture: &ColorImage, [a, b, c]: [Vertex; 3]) {
    let edge = |p: Pos2, q: Pos2, r: Pos2| (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
    let area = edge(a.pos, b.pos, c.pos);
    if area == 0.0 {
        return;
    }
    let all = [a.pos, b.pos, c.pos];
    let least = |of: fn(&Pos2) -> f32| all.iter().map(of).fold(f32::MAX, f32::min);
    let most = |of: fn(&Pos2) -> f32| all.iter().map(of).fold(f32::MIN, f32::max);
    let from = |low: f32, clip: f32| low.max(clip).max(0.0).floor() as u32;
    let to =
        |high: f32, clip: f32, size: u32| high.min(clip).min(size as f32).ceil().max(0.0) as u32;
    let (width, height) = picture.dimensions();
    for y in from(least(|it| it.y), clip.min.y)..to(most(|it| it.y), clip.max.y, height) {
        for x in from(least(|it| it.x), clip.min.x)..to(most(|it| it.x), clip.max.x, width) {
            let at = Pos2::new(x as f32 + 0.5, y as f32 + 0.5);
            if !clip.contains(at) {
                continue;
            }
            let weights = [
                edge(b.pos, c.pos, at) / area,
                edge(c.pos, a.pos, at) / area,
                edge(a.pos, b.pos, at) / area,
            ];
            // An edge that two triangles share belongs to one of them.
            let inside = |weight: f32, from: Pos2, to: Pos2| {
                let along = (to - from) * area.signum();
                let owned = along.y < 0.0 || (along.y == 0.0 && along.x > 0.0);
                weight > 0.0 || (weight == 0.0 && owned)
            };
            if !(inside(weights[0], b.pos, c.pos)
                && inside(weights[1], c.pos, a.pos)
                && inside(weights[2], a.pos, b.pos))
            {
                continue;
            }
            let mix = |of: fn(&Vertex) -> f32| {
                of(&a) * weights[0] + of(&b) * weights[1] + of(&c) * weights[2]
            };
            let texel = sample(texture, Pos2::new(mix(|it| it.uv.x), mix(|it| it.uv.y)));
            let source: [f32; 4] = std::array::from_fn(|channel| {
                let of = |vertex: &Vertex| f32::from(vertex.color.to_array()[channel]);
                let colour = of(&a) * weights[0] + of(&b) * weights[1] + of(&c) * weights[2];
                colour * texel[channel] / 255.0
            });
            let pixel = picture.get_pixel_mut(x, y);
            for channel in 0..4 {
                let under = f32::from(pixel.0[channel]) * (1.0 - source[3] / 255.0);
                pixel.0[channel] = (source[channel] + under).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}
