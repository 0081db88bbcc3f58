//! A server of the test's own, with xdotool at its keyboard.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use x11rb::protocol::xproto::{CreateWindowAux, InputFocus, WindowClass};

use super::{super::joint::Joint, *};
use crate::button::Usage;

const A: Button = Button::Key(Usage(0x04));
const B: Button = Button::Key(Usage(0x05));

/// A running Xvfb, ended when it is dropped.
struct Server {
    process: Child,
    display: String,
}

impl Server {
    /// Starts one with this number or any, `None` after a printed line if it cannot be had.
    fn start(display: Option<&str>) -> Option<Self> {
        let has_xdotool = Command::new("xdotool")
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        let mut command = Command::new("Xvfb");
        command.args(display).args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"]);
        let started = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let (Ok(mut process), true) = (started, has_xdotool) else {
            println!("not tested: this machine has no Xvfb or no xdotool");
            return None;
        };
        let mut number = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut number).unwrap();
        Some(Self { process, display: format!(":{}", number.trim()) })
    }

    /// Does what xdotool calls so.
    fn act(&self, actions: &str) {
        let status = Command::new("xdotool")
            .env("DISPLAY", &self.display)
            .args(actions.split_whitespace())
            .status();
        assert!(status.unwrap().success(), "{actions}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct World {
    server: Server,
    told: mpsc::Receiver<KeyInput>,
    x11: X11,
}

impl World {
    /// A listener that hears everything, `None` where nothing can be tested.
    fn start() -> Option<Self> {
        Self::start_watching(Watch::Everything)
    }

    fn start_watching(watch: Watch) -> Option<Self> {
        let server = Server::start(None)?;
        let (sender, told) = mpsc::channel();
        let joint = Joint::new(Arc::new(move |_, input| {
            let _ = sender.send(input);
        }));
        let x11 = X11::start(joint.gate(), Some(server.display.clone()), false);
        x11.watch(watch);
        let world = Self { server, told, x11 };
        // The first confirmation says that it listens.
        assert_eq!(world.next_confirmed(), BTreeSet::new());
        Some(world)
    }

    /// The next thing told that is no confirmation.
    fn next(&self) -> KeyInput {
        loop {
            match self.told.recv_timeout(PATIENCE).expect("something is told") {
                KeyInput::Confirmed(_) => {}
                input => return input,
            }
        }
    }

    fn next_confirmed(&self) -> BTreeSet<Button> {
        loop {
            let input = self.told.recv_timeout(PATIENCE).expect("a confirmation comes");
            if let KeyInput::Confirmed(down) = input {
                return down;
            }
        }
    }

    fn expect(&self, inputs: &[KeyInput]) {
        for input in inputs {
            assert_eq!(self.next(), *input);
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn down(button: &Button) -> KeyInput {
    KeyInput::Pressed(button.clone())
}

fn up(button: &Button) -> KeyInput {
    KeyInput::Released(button.clone())
}

#[test]
fn two_keys_are_held_at_once_and_end_alone() {
    let Some(world) = World::start() else { return };
    world.server.act("keydown a keydown b keyup a");
    world.expect(&[down(&A), down(&B), up(&A)]);
    assert_eq!(world.next_confirmed(), [B].into());
    world.server.act("keyup b");
    world.expect(&[up(&B)]);
}

#[test]
fn the_side_button_is_the_fourth_and_the_wheel_is_none() {
    let Some(world) = World::start() else { return };
    world.server.act("click 4 click 5 click 6 click 7 mousedown 8");
    let side = Button::Mouse(4);
    world.expect(&[down(&side)]);
    assert_eq!(world.next_confirmed(), [side.clone()].into());
    world.server.act("mouseup 8 click 2 click 9");
    let (middle, other) = (Button::Mouse(2), Button::Mouse(5));
    world.expect(&[up(&side), down(&middle), up(&middle), down(&other), up(&other)]);
}

#[test]
fn keys_come_while_another_window_has_the_focus() {
    let Some(world) = World::start() else { return };
    let (game, screen) = x11rb::connect(Some(&world.server.display)).unwrap();
    let screen = &game.setup().roots[screen];
    let window = game.generate_id().unwrap();
    let nothing = CreateWindowAux::new().override_redirect(1);
    let class = WindowClass::INPUT_OUTPUT;
    game.create_window(0, window, screen.root, 0, 0, 600, 400, 0, class, 0, &nothing)
        .unwrap()
        .check()
        .unwrap();
    game.map_window(window).unwrap().check().unwrap();
    game.set_input_focus(InputFocus::NONE, window, x11rb::CURRENT_TIME).unwrap().check().unwrap();
    assert_eq!(game.get_input_focus().unwrap().reply().unwrap().focus, window);
    world.server.act("mousemove 100 100 keydown a mousedown 8 keyup a mouseup 8");
    let side = Button::Mouse(4);
    world.expect(&[down(&A), down(&side), up(&A), up(&side)]);
}

#[test]
fn a_key_held_for_long_is_pressed_once() {
    let Some(world) = World::start() else { return };
    let begun = Instant::now();
    world.server.act("keydown a");
    world.expect(&[down(&A)]);
    while begun.elapsed() < Duration::from_millis(800) {
        let input = world.told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(input, KeyInput::Confirmed([A].into()));
    }
    world.server.act("keyup a");
    world.expect(&[up(&A)]);
}

#[test]
fn what_no_binding_names_never_leaves() {
    let watch = Watch::Named([A, Button::Mouse(4)].into());
    let Some(world) = World::start_watching(watch) else { return };
    world.server.act("keydown b mousedown 1 keydown a keyup b mouseup 1 mousedown 8 keyup a");
    let side = Button::Mouse(4);
    world.expect(&[down(&A), down(&side), up(&A)]);
    assert_eq!(world.next_confirmed(), [side].into());
}

#[test]
fn what_was_held_before_is_confirmed_but_not_pressed() {
    let Some(server) = Server::start(None) else { return };
    server.act("keydown a");
    let (sender, told) = mpsc::channel();
    let joint = Joint::new(Arc::new(move |_, input| {
        let _ = sender.send(input);
    }));
    let x11 = X11::start(joint.gate(), Some(server.display.clone()), false);
    x11.watch(Watch::Everything);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), KeyInput::Confirmed([A].into()));
}

#[test]
fn a_saver_that_starts_lets_all_go() {
    let Some(world) = World::start() else { return };
    world.server.act("keydown a");
    world.expect(&[down(&A)]);
    let (other, _) = x11rb::connect(Some(&world.server.display)).unwrap();
    other
        .force_screen_saver(x11rb::protocol::xproto::ScreenSaver::ACTIVE)
        .unwrap()
        .check()
        .unwrap();
    world.expect(&[KeyInput::AllUp]);
}

#[test]
fn a_server_that_is_gone_lets_all_go_and_its_heir_is_heard() {
    let Some(mut world) = World::start() else { return };
    world.server.act("keydown a");
    world.expect(&[down(&A)]);
    let display = world.server.display.clone();
    world.server.process.kill().unwrap();
    world.server.process.wait().unwrap();
    world.expect(&[KeyInput::AllUp]);
    assert_eq!(world.x11.limits().len(), 1);
    world.server = Server::start(Some(&display)).unwrap();
    // Its first word after it was found again.
    assert_eq!(world.next_confirmed(), BTreeSet::new());
    assert!(world.x11.limits().is_empty());
    world.server.act("keydown b");
    world.expect(&[down(&B)]);
}

#[test]
fn dropping_ends_the_thread_at_once() {
    let Some(world) = World::start() else { return };
    let World { server: _server, x11, .. } = world;
    let begun = Instant::now();
    drop(x11);
    assert!(begun.elapsed() < Duration::from_secs(1));
}
