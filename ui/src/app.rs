//! The program: the first start, the start of a node, and the window while it runs.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use eframe::{
    NativeOptions,
    egui::{Context, Event, Ui, UserAttentionType, ViewportCommand, Visuals},
};
use hark_command_line::StopSignal;
use hark_keys::Ticket;

use crate::{
    backend::Repaint,
    instance::Doorbell,
    keys::HotKeys,
    recovery::RecoveryWords,
    settings::{Settings, SettingsFile},
    sound::SoundDevices,
    start::{Begin, Options, Progress},
    tokens::{self, Theme},
    view::{
        between,
        link::{self, Answer},
        welcome::{self, FirstStart},
    },
    window::Window,
};

/// The program.
pub struct App {
    options: Options,
    phase: Phase,
    settings: Settings,
    file: SettingsFile,
    devices: SoundDevices,
    /// A line about what did not work, shown until the node runs.
    trouble: Option<String>,
    /// The title of the window.
    title: String,
    /// When the settings changed last, if they are not kept yet.
    changed: Option<Instant>,
    /// Whether the program was asked to end.
    stop: StopSignal,
    /// The links that later starts have handed over. `None` where nobody can.
    links: Option<Receiver<String>>,
    /// The link that the person has not answered yet.
    link: Option<String>,
}

enum Phase {
    /// The first start. The clipboard was asked for at that time, and is looked at once.
    Welcome(FirstStart, Option<Instant>),
    Starting {
        progress: Receiver<Progress>,
        news: Vec<String>,
        from: Begin,
    },
    Running(Box<Window>),
    Failed(String),
}

/// How windows of Hark are drawn.
pub fn native_options() -> NativeOptions {
    // Dithering doubles what a pixel costs where no graphics card draws, and even colours need none.
    NativeOptions { dithering: false, ..NativeOptions::default() }
}

/// What the program begins with.
#[derive(Clone, Debug)]
pub enum Opening {
    /// What the home has, or the first start if it has nothing.
    Home,
    /// The first start, with this text as the ticket.
    Offer(String),
    /// Joining by this ticket, without a question.
    Join(Box<Ticket>),
}

impl App {
    /// Opens the home and begins. Later starts ring the bell.
    pub fn new(
        options: Options,
        opening: Opening,
        bell: Option<Doorbell>,
        ctx: &Context,
    ) -> anyhow::Result<Self> {
        let wake = ctx.clone();
        let stop = StopSignal::listen_and(move || wake.request_repaint())?;
        tokens::add_fonts(ctx);
        let (file, settings, error) = SettingsFile::open(&options.home);
        tokens::apply(ctx, settings.theme);
        let mut trouble = error.map(|error| error.to_string());
        let wake = ctx.clone();
        let links = bell.map(|bell| bell.open(Arc::new(move || wake.request_repaint())));
        let links = links.transpose().unwrap_or_else(|error| {
            trouble = Some(format!("links do not open this window: {error}"));
            None
        });
        let mut app = Self {
            phase: Phase::Failed(String::new()),
            settings,
            file,
            devices: SoundDevices::of_this_machine(),
            trouble,
            options,
            title: String::new(),
            changed: None,
            stop,
            links,
            link: None,
        };
        let has = app.options.has_organisations();
        match (has, opening) {
            (Err(error), _) => app.phase = Phase::Failed(format!("{error:#}")),
            (Ok(true), Opening::Home) => app.begin(Begin::Stored, ctx),
            (Ok(_), Opening::Join(ticket)) => app.begin(Begin::Join(ticket), ctx),
            (Ok(_), opening) => {
                app.offer(if let Opening::Offer(text) = &opening { text } else { "" });
                // What lies on the clipboard may be a ticket. It is looked at once, here.
                ctx.send_viewport_cmd(ViewportCommand::RequestPaste);
                if let Phase::Welcome(_, asked) = &mut app.phase {
                    *asked = Some(Instant::now());
                }
            }
        }
        Ok(app)
    }

    /// Shows the first start with this text as the ticket.
    fn offer(&mut self, text: &str) {
        let mut welcome = FirstStart { name: self.options.usual_name(), ..FirstStart::default() };
        welcome.offer(text, false);
        self.phase = Phase::Welcome(welcome, None);
    }

    /// Comes to the front for a later start, and offers the link that it has handed over.
    fn take_links(&mut self, ctx: &Context) {
        for link in self.links.iter().flat_map(Receiver::try_iter) {
            ctx.send_viewport_cmd(ViewportCommand::Minimized(false));
            ctx.send_viewport_cmd(ViewportCommand::Focus);
            // Where a desktop lets no program take the front, the window is marked.
            let marked = UserAttentionType::Informational;
            ctx.send_viewport_cmd(ViewportCommand::RequestUserAttention(marked));
            if !link.is_empty() {
                self.link = Some(link);
            }
        }
        match &mut self.phase {
            Phase::Welcome(welcome, _) => {
                if let Some(link) = self.link.take() {
                    welcome.ticket.clear();
                    welcome.offer(&link, false);
                }
            }
            Phase::Failed(_) => {
                if let Some(link) = self.link.take() {
                    self.offer(&link);
                }
            }
            // They are asked once the node runs.
            Phase::Starting { .. } | Phase::Running(_) => {}
        }
    }

    /// Asks whether to join by the link that was handed over, while the node runs.
    fn ask_about_link(&mut self, ui: &mut Ui) {
        let (Phase::Running(window), Some(text)) = (&self.phase, &self.link) else { return };
        let scene = window.backend().scene();
        match link::show(ui, text, &scene, window.settings.theme.colours()) {
            Answer::Waiting => {}
            Answer::No => self.link = None,
            Answer::Join(ticket) => {
                self.link = None;
                self.settings = window.settings.clone();
                // The same node cannot join while it runs. One in another process goes on.
                window.backend().close();
                self.begin(Begin::Join(ticket), &ui.ctx().clone());
            }
        }
    }

    fn theme(&self) -> Theme {
        match &self.phase {
            Phase::Running(window) => window.settings.theme,
            _ => self.settings.theme,
        }
    }

    fn begin(&mut self, begin: Begin, ctx: &Context) {
        let ctx = ctx.clone();
        let repaint: Repaint = Arc::new(move || ctx.request_repaint());
        let chosen = self.settings.chosen_devices();
        let (options, stop) = (self.options.clone(), self.stop.clone());
        let progress = options.begin(begin.clone(), chosen, self.settings.muted, stop, repaint);
        self.phase = Phase::Starting { progress, news: Vec::new(), from: begin };
    }

    fn keep_settings(&mut self) {
        keep(&mut self.file, &self.settings);
    }

    fn starting(&mut self, ui: &mut Ui) {
        let Phase::Starting { progress, news, from } = &mut self.phase else { return };
        while let Ok(told) = progress.try_recv() {
            match told {
                Progress::News(line) => news.push(line),
                Progress::Done(Ok(backend)) => {
                    let ctx = ui.ctx().clone();
                    let repaint: Repaint = Arc::new(move || ctx.request_repaint());
                    let hot_keys = HotKeys::start(Arc::clone(&backend), &self.settings, repaint);
                    let (settings, devices) = (self.settings.clone(), self.devices.clone());
                    let recovery = RecoveryWords::of(self.options.home.clone());
                    let window = Window::new(backend, settings, devices, recovery, Some(hot_keys));
                    if let Some(trouble) = self.trouble.take() {
                        window.backend().tell(&trouble);
                    }
                    self.phase = Phase::Running(Box::new(window));
                    ui.ctx().request_repaint();
                    return;
                }
                Progress::Done(Err(error)) => {
                    self.devices.refresh();
                    self.phase = match from {
                        Begin::Stored => Phase::Failed(error),
                        Begin::Found(_) | Begin::Join(_) => {
                            let (ticket, squad) = match from {
                                Begin::Join(ticket) => (ticket.to_string(), String::new()),
                                Begin::Found(squad) => (String::new(), squad.clone()),
                                Begin::Stored => Default::default(),
                            };
                            let name = self.options.usual_name();
                            let error = Some(error);
                            let again =
                                FirstStart { name, ticket, squad, error, ..FirstStart::default() };
                            Phase::Welcome(again, None)
                        }
                    };
                    ui.ctx().request_repaint();
                    return;
                }
            }
        }
        between::starting(ui, news, self.settings.theme.colours());
    }
}

impl eframe::App for App {
    fn clear_color(&self, _: &Visuals) -> [f32; 4] {
        self.theme().colours().ground.to_normalized_gamma_f32()
    }

    /// Also called while the window is hidden.
    fn logic(&mut self, ctx: &Context, _: &mut eframe::Frame) {
        self.take_links(ctx);
        // A node in this process says goodbye before the window goes.
        let ends_first = matches!(&self.phase, Phase::Running(window)
            if !window.backend().outlives_window() && window.backend().scene().ended.is_none());
        if self.stop.is_asked() && !ends_first {
            ctx.send_viewport_cmd(ViewportCommand::Close);
        }
    }

    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        match &mut self.phase {
            Phase::Welcome(welcome, asked) => {
                // What was on the clipboard may be anything: it is for no field.
                if asked.is_some_and(|at| at.elapsed() < CLIPBOARD_WITHIN)
                    && let Some(text) = take_paste(ui)
                {
                    welcome.offer(&text, true);
                    *asked = None;
                }
                if !ui.ctx().egui_wants_keyboard_input()
                    && let Some(text) = take_paste(ui)
                {
                    welcome.offer(&text, true);
                }
                let begin = welcome::show(ui, welcome, &mut self.settings, &self.devices);
                if let Some(begin) = begin {
                    self.options.name = Some(welcome.name.trim().to_owned());
                    self.keep_settings();
                    self.begin(begin, &ui.ctx().clone());
                }
            }
            Phase::Starting { .. } => self.starting(ui),
            Phase::Running(window) => {
                window.show(ui, Instant::now());
                if self.settings != window.settings {
                    self.settings = window.settings.clone();
                    self.changed = Some(Instant::now());
                }
                if let Some(at) = self.changed {
                    let due = KEPT_AFTER.saturating_sub(at.elapsed());
                    if due.is_zero() {
                        self.changed = None;
                        keep(&mut self.file, &self.settings);
                    } else {
                        ui.ctx().request_repaint_after(due);
                    }
                }
                if let Some(why) = window.backend().scene().ended.clone() {
                    if why.is_empty() {
                        ui.ctx().send_viewport_cmd(ViewportCommand::Close);
                    } else {
                        self.settings = window.settings.clone();
                        self.devices.refresh();
                        self.phase = Phase::Failed(why);
                    }
                }
            }
            Phase::Failed(why) => {
                let wish = between::failed(ui, why, &mut self.settings, &self.devices);
                match wish {
                    Some(between::AfterEnd::StartAgain) => {
                        self.keep_settings();
                        self.begin(Begin::Stored, &ui.ctx().clone());
                    }
                    Some(between::AfterEnd::Quit) => {
                        ui.ctx().send_viewport_cmd(ViewportCommand::Close);
                    }
                    None => {}
                }
            }
        }
        self.ask_about_link(ui);
        let title = match &self.phase {
            Phase::Running(window) => {
                let scene = window.backend().scene();
                let name = scene.front().map(|it| it.snapshot.organisation.clone());
                let attached = window.backend().outlives_window();
                name.map_or_else(
                    || "Hark".to_owned(),
                    |name| format!("Hark – {name}{}", if attached { " (attached)" } else { "" }),
                )
            }
            _ => "Hark".to_owned(),
        };
        // Each command draws a frame: none is sent while nothing changes.
        if self.title != title {
            ui.ctx().send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }

    fn on_exit(&mut self, _: Option<&eframe::glow::Context>) {
        if let Phase::Running(window) = &self.phase {
            self.settings = window.settings.clone();
            window.backend().close();
        }
        self.keep_settings();
    }
}

fn keep(file: &mut SettingsFile, settings: &Settings) {
    if let Err(error) = file.keep(settings) {
        tracing::warn!(%error, "the settings of the window are not kept");
    }
}

/// Takes the text that was pasted, so that no field gets it.
fn take_paste(ui: &Ui) -> Option<String> {
    ui.input_mut(|input| {
        let at = input.events.iter().position(|event| matches!(event, Event::Paste(_)))?;
        match input.events.remove(at) {
            Event::Paste(text) => Some(text),
            _ => None,
        }
    })
}

/// The clipboard's owner, another program, answers within this time or not at all.
const CLIPBOARD_WITHIN: Duration = Duration::from_secs(1);
/// Settings are kept when they have not changed for this long.
const KEPT_AFTER: Duration = Duration::from_secs(1);
