//! The whole window while a node runs.

use std::{path::Path, sync::Arc, time::Instant};

use eframe::egui::{
    self, CentralPanel, Context, Frame, Id, Key, Margin, Modifiers, Panel, Ui, ViewportCommand,
    vec2,
};
use hark_hotkeys::button::Chord;
use hark_node::snapshot::{Command, NetChange, NetView, TalkTo};

use crate::{
    backend::{Backend, KeyEdge, Organisation, Repaint, Scene},
    keys::{self, HotKeys, KeyAction, KeySetting},
    profile_file::{ProfileFile, TakenParts},
    recovery::{RecoveryWish, RecoveryWords},
    report_file,
    settings::{PlateOrder, Settings, Tab},
    sound::SoundDevices,
    tokens::{self, BADGE_COLUMN, Colours, DRAWER, SPACE},
    view::{
        Asked, Drawing, Part, badges,
        bind::{self, Choice},
        bottom, drawer,
        files::{self, FileQuestion, Reply},
        key_list,
        members::MembersState,
        options, stack, ticket, top,
    },
};

/// The window and what the person does in it.
pub struct Window {
    backend: Arc<dyn Backend>,
    /// What the person has chosen.
    pub settings: Settings,
    devices: SoundDevices,
    /// The words of the recovery key.
    pub recovery: RecoveryWords,
    members: MembersState,
    options: Option<String>,
    shows_ticket: bool,
    shows_keys: bool,
    /// The keys and plates that were told to the listeners.
    told: (Vec<KeySetting>, PlateOrder),
    /// What was applied to the whole window.
    applied: Option<(tokens::Theme, f32)>,
    /// Whether the size of the window was that of the mini window.
    was_mini: bool,
    /// Keys that work wherever the keyboard is. `None` in pictures.
    hot_keys: Option<HotKeys>,
    /// The key that is being chosen.
    choosing: Option<Choosing>,
    /// What is asked before a profile file replaces something.
    pub file_question: Option<FileQuestion>,
    /// Whether the person types into a field of the window.
    typing: bool,
}

/// A key that is being chosen.
struct Choosing {
    action: KeyAction,
    /// The key in whose place it comes, if that is a certain one.
    old: Option<Chord>,
    /// What was pressed last.
    chosen: Option<Chord>,
}

impl Window {
    /// Shows and steers a node.
    pub fn new(
        backend: Arc<dyn Backend>,
        settings: Settings,
        devices: SoundDevices,
        recovery: RecoveryWords,
        hot_keys: Option<HotKeys>,
    ) -> Self {
        Self {
            backend,
            shows_keys: false,
            told: (settings.keys.clone(), settings.order.clone()),
            devices,
            recovery,
            was_mini: settings.mini,
            settings,
            members: MembersState::default(),
            options: None,
            shows_ticket: false,
            applied: None,
            hot_keys,
            choosing: None,
            file_question: None,
            typing: false,
        }
    }

    /// What the window shows and steers.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Draws a frame at the time `now`.
    pub fn show(&mut self, ui: &mut Ui, now: Instant) {
        let ctx = ui.ctx().clone();
        if self.apply(&ctx) {
            ui.set_style(ctx.global_style());
        }
        let scene = self.backend.scene();
        let Some(front) = scene.front() else {
            centred(ui, if scene.ended.is_some() { "The node has ended." } else { "Starting …" });
            return;
        };
        if !self.backend.outlives_window() {
            self.settings.muted = front.snapshot.muted;
        }
        let keys = self.settings.keys.clone();
        let shown = |net: &str| keys::shown(&keys, net);
        let mut view = Drawing {
            scene: &scene,
            front,
            now,
            colours: self.settings.theme.colours(),
            settings: &mut self.settings,
            devices: &self.devices,
            recovery: &self.recovery,
            keys: &shown,
            asked: Vec::new(),
            next_change: None,
        };
        // Letters that are typed into a dialog mute nobody.
        let in_dialog = self.options.is_some() || self.shows_ticket || self.shows_keys;
        if !in_dialog {
            shortcuts(&ctx, &mut view);
        } else if self.choosing.is_none()
            && self.file_question.is_none()
            && ctx.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Escape))
        {
            (self.options, self.shows_ticket, self.shows_keys) = (None, false, false);
            view.asked.push(Asked::Recovery(RecoveryWish::Hide));
        }
        if view.settings.mini {
            mini(ui, &mut view);
        } else {
            whole(ui, &mut view, &mut self.members);
        }
        if let Some(filter) = &mut self.options
            && self.file_question.is_none()
            && !options::show(ui, &mut view, filter)
        {
            self.options = None;
            view.asked.push(Asked::Recovery(RecoveryWish::Hide));
        }
        if self.shows_ticket && !ticket::show(ui, &mut view) {
            self.shows_ticket = false;
        }
        if self.shows_keys && self.choosing.is_none() && !key_list::show(ui, &mut view) {
            self.shows_keys = false;
        }
        if let Some(at) = view.next_change {
            ctx.request_repaint_after(at.saturating_duration_since(now));
        }
        let (asked, colours) = (std::mem::take(&mut view.asked), view.colours);
        self.choose_key(ui, colours);
        self.ask_about_file(ui, &scene, colours);
        asked.into_iter().for_each(|it| self.carry_out(&ctx, front, &scene, it));
        self.tell_keys();
    }

    fn carry_out(&mut self, ctx: &Context, front: &Organisation, scene: &Scene, asked: Asked) {
        let organisation = &front.snapshot.organisation_id;
        match asked {
            Asked::WindowOrder(organisation, order) => self.backend.order(&organisation, order),
            Asked::Press { to, down } => {
                let edge = if down { KeyEdge::Down } else { KeyEdge::Up };
                self.backend.press(organisation, to.as_ref(), edge);
            }
            Asked::Open(Part::Options) => {
                self.devices.refresh();
                self.options = Some(String::new());
                ctx.memory_mut(|memory| memory.request_focus(Id::unique(options::FILTER)));
            }
            Asked::Open(Part::Keys) => self.shows_keys = true,
            Asked::Open(Part::Ticket) => self.shows_ticket = true,
            Asked::Open(Part::Mini) => self.set_mini(ctx, scene, true),
            Asked::Open(Part::Whole) => self.set_mini(ctx, scene, false),
            Asked::Copy(text) => ctx.copy_text(text),
            Asked::SaveReport(text) => self.save_report(&text),
            Asked::Export(path) if path.exists() => {
                self.file_question = Some(FileQuestion::Replace(path));
            }
            Asked::Export(path) => self.export(&path, scene),
            Asked::Import(path) => match ProfileFile::read(&path) {
                Ok(file) => {
                    let (here, file) = (file.running(scene), Box::new(file));
                    let parts = TakenParts { organisations: !here.is_empty(), ..TakenParts::ALL };
                    let question = FileQuestion::Import { path, file, parts, here };
                    self.file_question = Some(question);
                }
                Err(error) => self.backend.tell(&error.to_string()),
            },
            Asked::Recovery(wish) => {
                let ctx = ctx.clone();
                let repaint: Repaint = Arc::new(move || ctx.request_repaint());
                self.recovery.carry_out(organisation, wish, repaint);
            }
            Asked::Bind(action, old) => self.begin_choice(action, old),
        }
    }

    fn save_report(&self, text: &str) {
        let folder = std::env::home_dir().unwrap_or_default();
        match report_file::write(&folder, text) {
            Ok(path) => self.backend.note(&format!("written to {}", path.display())),
            Err(error) => self.backend.tell(&error),
        }
    }

    fn export(&self, path: &Path, scene: &Scene) {
        match ProfileFile::new(&self.settings, scene).write(path) {
            Ok(()) => self.backend.note(&format!("written to {}", path.display())),
            Err(error) => self.backend.tell(&error.to_string()),
        }
    }

    /// Asks before a profile file replaces something, and does it then.
    fn ask_about_file(&mut self, ui: &mut Ui, scene: &Scene, colours: &Colours) {
        let Some(question) = &mut self.file_question else { return };
        let keys = self.settings.keys.len();
        let Some(reply) = files::show(ui, question, keys, colours) else { return };
        let question = self.file_question.take();
        ui.ctx().request_repaint();
        match (reply, question) {
            (Reply::Agreed, Some(FileQuestion::Replace(path))) => self.export(&path, scene),
            (Reply::Agreed, Some(FileQuestion::Import { path, file, parts, .. })) => {
                if parts.organisations {
                    for (organisation, order) in file.orders(scene) {
                        self.backend.order(&organisation, order);
                    }
                }
                self.settings = file.settings(parts, &self.settings);
                self.backend.note(&format!("taken from {}", path.display()));
            }
            (Reply::Cancelled, _) | (_, None) => {}
        }
    }

    /// Tells the listeners which keys there are, if that has changed.
    fn tell_keys(&mut self) {
        let (keys, order) = &self.told;
        if (keys, order) == (&self.settings.keys, &self.settings.order) || self.choosing.is_some() {
            return;
        }
        self.told = (self.settings.keys.clone(), self.settings.order.clone());
        if let Some(hot_keys) = &self.hot_keys {
            hot_keys.set(&self.settings);
        }
    }

    fn begin_choice(&mut self, action: KeyAction, old: Option<Chord>) {
        if let Some(hot_keys) = &self.hot_keys {
            hot_keys.capture(true, &self.settings.keys);
        }
        self.choosing = Some(Choosing { action, old, chosen: None });
    }

    /// Asks for a key, if one is being chosen.
    fn choose_key(&mut self, ui: &mut Ui, colours: &Colours) {
        let typing = ui.ctx().egui_wants_keyboard_input();
        if let Some(hot_keys) = &self.hot_keys
            && typing != self.typing
        {
            hot_keys.set_typing(typing);
        }
        self.typing = typing;
        let Some(Choosing { action, old, chosen }) = &mut self.choosing else { return };
        let pressed = self.hot_keys.as_ref().and_then(HotKeys::take_chosen);
        *chosen = pressed.or(chosen.take());
        let limits = self.hot_keys.as_ref().map(HotKeys::limits).unwrap_or_default();
        let keys = &mut self.settings.keys;
        let what = (&*action, old.as_ref());
        match bind::show(ui, what, chosen.as_ref(), keys, &limits, colours) {
            Choice::Waiting => return,
            Choice::Cancelled => {}
            Choice::Taken(chord, instead_of) => keys::give(keys, action, chord, &instead_of),
            Choice::Without(gone) => {
                keys.retain(|key| key.action != *action || !gone.contains(&key.chord));
            }
        }
        self.choosing = None;
        if let Some(hot_keys) = &self.hot_keys {
            hot_keys.capture(false, &self.settings.keys);
        }
        ui.ctx().request_repaint();
    }

    fn set_mini(&mut self, ctx: &Context, scene: &Scene, mini: bool) {
        self.settings.mini = mini;
        let nets = scene.front().map_or(0, |it| {
            it.snapshot.nets.iter().filter(|net| net.talked_to || !net.talking.is_empty()).count()
        });
        let size = if mini { stack::mini_size(nets.max(3)) } else { self.settings.size.into() };
        ctx.send_viewport_cmd(ViewportCommand::InnerSize(size));
    }

    /// Applies colours and scale when they have changed, and remembers the size of the window.
    /// Returns whether anything has changed.
    fn apply(&mut self, ctx: &Context) -> bool {
        let wanted = (self.settings.theme, self.settings.scale);
        let changes = self.applied != Some(wanted);
        if changes {
            tokens::apply(ctx, wanted.0);
            ctx.set_zoom_factor(wanted.1);
            self.applied = Some(wanted);
        }
        let size = ctx.content_rect().size() * self.settings.scale;
        if !self.settings.mini && !self.was_mini && size.x >= 300.0 {
            self.settings.size = size.into();
        }
        self.was_mini = self.settings.mini;
        changes
    }
}

/// One line in the middle of the window.
pub fn centred(ui: &mut Ui, text: &str) {
    CentralPanel::default().show(ui, |ui| {
        ui.centered_and_justified(|ui| ui.label(text));
    });
}

fn whole(ui: &mut Ui, view: &mut Drawing, members: &mut MembersState) {
    let colours = view.colours;
    let bar = |margin: Margin| Frame::new().fill(colours.panel).inner_margin(margin);
    if view.scene.organisations.len() > 1 {
        let column = Panel::left("organisations").resizable(false).exact_size(BADGE_COLUMN);
        let column = column.show_separator_line(false).frame(bar(Margin::same(8)));
        column.show(ui, |ui| badges::show(ui, view));
    }
    let line = Panel::top("air").resizable(false).show_separator_line(false);
    line.frame(bar(Margin::ZERO)).show(ui, |ui| top::air(ui, view));
    let buttons = Panel::top("bar").resizable(false).exact_size(36.0).show_separator_line(false);
    buttons.frame(bar(Margin::symmetric(12, 0))).show(ui, |ui| top::bar(ui, view));
    let news = Panel::bottom("news").resizable(false).exact_size(28.0).show_separator_line(false);
    news.frame(bar(Margin::symmetric(12, 0))).show(ui, |ui| bottom::show(ui, view));
    // Where the window is narrow, the plates need all of it.
    let room = ui.available_width() >= DRAWER + 300.0;
    if room && view.settings.drawer.is_some() {
        let side = Panel::right("drawer").resizable(false).exact_size(DRAWER);
        let side = side.show_separator_line(false).frame(bar(Margin::same(10)));
        side.show(ui, |ui| drawer::show(ui, view, members));
    }
    // The window is cleared with the colour of the ground: to fill it once more would take longer
    // than all plates where no graphics card draws.
    let ground = Frame::new().inner_margin(vec2(SPACE, SPACE));
    CentralPanel::default().frame(ground).show(ui, |ui| stack::show(ui, view));
}

fn mini(ui: &mut Ui, view: &mut Drawing) {
    let colours = view.colours;
    let line = Panel::top("air").resizable(false).show_separator_line(false);
    line.frame(Frame::new().fill(colours.panel)).show(ui, |ui| top::air(ui, view));
    let foot = Panel::bottom("foot").resizable(false).exact_size(28.0).show_separator_line(false);
    let frame = Frame::new().fill(colours.panel).inner_margin(Margin::symmetric(8, 0));
    foot.frame(frame).show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            let own = view.snapshot();
            let here = own.peers.iter().filter(|peer| peer.reachable).count() + 1;
            ui.small(format!("{} · {here} here", own.organisation));
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let whole = ui.add(egui::Button::new("Whole window").small());
                if whole.clicked() {
                    view.asked.push(Asked::Open(Part::Whole));
                }
            });
        });
    });
    let ground = Frame::new().inner_margin(vec2(6.0, 6.0));
    CentralPanel::default().frame(ground).show(ui, |ui| stack::show(ui, view));
}

/// Keys that work while the window has the keyboard and no text is being typed.
fn shortcuts(ctx: &Context, view: &mut Drawing) {
    if ctx.egui_wants_keyboard_input() {
        return;
    }
    let own = view.snapshot();
    let pressed = |key| ctx.input_mut(|input| input.consume_key(Modifiers::NONE, key));
    let nets: Vec<NetView> = stack::in_order(&own.nets, &own.organisation_id, &view.settings.order)
        .into_iter()
        .cloned()
        .collect();
    let digits = [
        Key::Num1,
        Key::Num2,
        Key::Num3,
        Key::Num4,
        Key::Num5,
        Key::Num6,
        Key::Num7,
        Key::Num8,
        Key::Num9,
    ];
    for (key, net) in digits.into_iter().zip(&nets) {
        if pressed(key) {
            view.command(Command::TalkTo { to: TalkTo::nets(vec![net.path.clone()]), keep: false });
        }
    }
    if pressed(Key::M) {
        view.command(Command::Mute { on: !own.muted });
    }
    if pressed(Key::D) {
        view.command(Command::Deafen { on: !own.deafened });
    }
    for (key, by) in [(Key::Plus, 0.1), (Key::Minus, -0.1)] {
        if pressed(key)
            && let Some(net) = nets.iter().find(|net| net.talked_to)
        {
            let volume = Some((net.volume + by).clamp(0.0, 4.0));
            view.change(net, NetChange { volume, ..NetChange::default() });
        }
    }
    for (key, tab) in [(Key::F2, Tab::Members), (Key::F3, Tab::Channels), (Key::F4, Tab::Mesh)] {
        if pressed(key) {
            let open = view.settings.drawer == Some(tab);
            view.settings.drawer = (!open).then_some(tab);
        }
    }
}
