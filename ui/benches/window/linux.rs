//! The measures, on Linux.

mod frames;
mod program;
mod screen;
#[path = "../../../node/hark/benches/squad/wire.rs"]
mod wire;

use std::sync::Arc;

use eframe::egui::{CentralPanel, ViewportBuilder, vec2};
use hark_node::snapshot::Snapshot;
use hark_ui::{
    backend::{Organisation, Scene},
    recovery::RecoveryWords,
    samples::{self, FakeNode},
    settings::Settings,
    sound::SoundDevices,
    tokens,
    window::Window,
};

use crate::table::Table;

pub(crate) fn run() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    if let [child, what] = &wanted[..]
        && child == "child"
    {
        return draw(what);
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let mut table = Table::default();
    if is_wanted("frames") {
        frames::measure(&mut table);
    }
    if is_wanted("drawing") {
        program::measure_drawing(&mut table)?;
    }
    if is_wanted("program") {
        program::measure(&mut table)?;
    }
    table.print("What the window costs, and how soon it answers", "bar");
    Ok(())
}

/// Twelve nets on which six talk, with levels of this moment.
fn busy(step: u64) -> Snapshot {
    let mut own = samples::operation();
    own.nets = (0..12).map(|at| samples::net(&format!("Net {at}"))).collect();
    own.nets[0].talked_to = true;
    own.peers = (0..24).map(|at| samples::peer(at + 2, &format!("Member {at}"))).collect();
    for at in 0..6 {
        let peer = &mut own.peers[at];
        peer.talking = true;
        peer.level_dbfs = -40.0 + ((step * 7 + at as u64 * 5) % 30) as f32;
        let name = peer.name.clone();
        own.nets[at * 2].talking = vec![name];
    }
    own.level_dbfs = -50.0 + ((step * 11) % 40) as f32;
    own
}

fn scene(own: Snapshot) -> Scene {
    let organisation =
        Organisation { snapshot: Arc::new(own), air: Arc::default(), history: Arc::default() };
    Scene { organisations: vec![organisation], ..Scene::default() }
}

fn window(node: &Arc<FakeNode>, settings: Settings) -> Window {
    let devices = SoundDevices::fixed(samples::sound_devices());
    let recovery = RecoveryWords::of("/nowhere".into());
    Window::new(Arc::clone(node) as _, settings, devices, recovery, None)
}

/// Draws 20 pictures a second until it is ended: of a `busy` window, of an `empty` panel, or of
/// nothing (`cleared`).
fn draw(what: &str) -> anyhow::Result<()> {
    let viewport = ViewportBuilder::default().with_inner_size(vec2(1920.0, 1080.0));
    let native = eframe::NativeOptions { viewport, ..hark_ui::app::native_options() };
    let what = what.to_owned();
    let started = eframe::run_native(
        &what.clone(),
        native,
        Box::new(move |created| {
            tokens::add_fonts(&created.egui_ctx);
            let node = Arc::new(FakeNode::new(scene(busy(0))));
            let child = match &*what {
                "busy" => Child::Busy(Box::new(window(&node, Settings::default()))),
                "empty" => Child::Empty,
                _ => Child::Cleared,
            };
            let ctx = created.egui_ctx.clone();
            std::thread::spawn(move || {
                for step in 0.. {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    node.show(scene(busy(step)));
                    ctx.request_repaint();
                }
            });
            Ok(Box::new(child))
        }),
    );
    started.map_err(|error| anyhow::anyhow!("no window: {error}"))
}

enum Child {
    Busy(Box<Window>),
    Empty,
    Cleared,
}

impl eframe::App for Child {
    fn clear_color(&self, _: &eframe::egui::Visuals) -> [f32; 4] {
        Settings::default().theme.colours().ground.to_normalized_gamma_f32()
    }

    fn ui(&mut self, ui: &mut eframe::egui::Ui, _: &mut eframe::Frame) {
        match self {
            Self::Busy(window) => window.show(ui, std::time::Instant::now()),
            Self::Empty => drop(CentralPanel::default().show(ui, |_| ())),
            Self::Cleared => {}
        }
    }
}
