//! Layout and tessellation of frames, in processor time of the thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eframe::egui::{
    Context, Event, Modifiers, MouseWheelSource, MouseWheelUnit, Pos2, RawInput, Rect, TouchPhase,
    pos2, vec2,
};
use hark_ui::{
    samples::{self, FakeNode},
    settings::{Settings, Tab},
    tokens,
};
use rustix::time::{ClockId, clock_gettime};

use super::{busy, scene, window};
use crate::{
    quantile::{median, quantile},
    table::Table,
};

pub(super) fn measure(table: &mut Table) {
    let node = Arc::new(FakeNode::new(scene(busy(0))));
    let spent = frames(&node, FRAMES, |step, _| {
        node.show(scene(busy(step)));
        Vec::new()
    });
    table.shown("twelve nets, six talkers, 1920x1080: a frame, median", median(&spent), "ms", "");
    table.held("the same, 99th percentile", quantile(&spent, 0.99), "ms", 1.5);

    let mut own = samples::operation();
    own.peers = (0..5_000).map(|at| samples::peer(at + 2, &format!("Member {at:04}"))).collect();
    let node = Arc::new(FakeNode::new(scene(own)));
    let list = pos2(1_780.0, 600.0);
    let spent = frames(&node, FRAMES, |_, _| wheel(list));
    table.shown("5,000 members while scrolling: a frame, median", median(&spent), "ms", "");
    table.held("the same, 99th percentile", quantile(&spent, 0.99), "ms", 8.0);
}

fn wheel(at: Pos2) -> Vec<Event> {
    vec![
        Event::PointerMoved(at),
        Event::MouseWheel {
            unit: MouseWheelUnit::Point,
            delta: vec2(0.0, -90.0),
            phase: TouchPhase::Move,
            modifiers: Modifiers::NONE,
            source: MouseWheelSource::Wheel,
        },
    ]
}

/// The time of each of `count` frames, in ms, after some that fill the caches.
fn frames(
    node: &Arc<FakeNode>,
    count: u64,
    mut events: impl FnMut(u64, &Context) -> Vec<Event>,
) -> Vec<f64> {
    let ctx = Context::default();
    tokens::add_fonts(&ctx);
    let settings = Settings { drawer: Some(Tab::Members), ..Settings::default() };
    let mut window = window(node, settings);
    let mut spent = Vec::new();
    for step in 0..count + WARM {
        let events = events(step, &ctx);
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, vec2(1_920.0, 1_080.0))),
            time: Some(step as f64 / 20.0),
            events,
            ..RawInput::default()
        };
        let before = processor();
        let output = ctx.run_ui(input, |ui| window.show(ui, Instant::now()));
        let drawn = ctx.tessellate(output.shapes, output.pixels_per_point);
        let took = processor() - before;
        std::hint::black_box(drawn);
        if step >= WARM {
            spent.push(took.as_secs_f64() * 1e3);
        }
    }
    spent
}

/// What this thread has taken of the processor.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const FRAMES: u64 = 2_000;
const WARM: u64 = 100;
