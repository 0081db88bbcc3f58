//! Hotplug with pipes in place of devices: a machine that builds this may have no `/dev/input`.

use std::{io::Write, sync::mpsc, time::Duration};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{super::joint::Joint, device::EVENT_SIZE, *};

struct Pipes {
    /// What the "kernel" says is down, for all devices.
    held: Arc<Mutex<State>>,
    opened: mpsc::Sender<()>,
}

struct Held {
    state: Arc<Mutex<State>>,
    /// Told of the first question, which ends the opening.
    opened: Mutex<Option<mpsc::Sender<()>>>,
}

impl Opener for Pipes {
    fn open(&self, path: &Path) -> io::Result<Opened> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let description = Description {
            vendor: 0x44f,
            product: 0xb10a,
            name: "T.16000M".into(),
            keys: (0x120..0x130).collect(),
            ..Description::default()
        };
        let opened = Mutex::new(Some(self.opened.clone()));
        let probe = Box::new(Held { state: self.held.clone(), opened });
        Ok(Opened { file, description, probe })
    }
}

impl Probe for Held {
    fn state(&self) -> io::Result<State> {
        let state = lock_of(&self.state).clone();
        if let Some(opened) = lock_of(&self.opened).take() {
            let _ = opened.send(());
        }
        Ok(state)
    }
}

struct World {
    directory: PathBuf,
    held: Arc<Mutex<State>>,
    told: mpsc::Receiver<KeyInput>,
    opened: mpsc::Receiver<()>,
    _evdev: Evdev,
}

impl World {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("hark-evdev-{}-{name}", std::process::id()));
        Self::on(directory.clone(), directory)
    }

    /// A world whose thread looks at `input`, which need not be there yet.
    fn on(directory: PathBuf, input: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let (sender, told) = mpsc::channel();
        let joint = Joint::new(Arc::new(move |_, input| {
            let _ = sender.send(input);
        }));
        let held = Arc::new(Mutex::new(State::default()));
        let (sender, opened) = mpsc::channel();
        let opener = Box::new(Pipes { held: held.clone(), opened: sender });
        let evdev = Evdev::start_with(joint.gate(), false, input, opener);
        evdev.watch(Watch::Everything);
        Self { directory, held, told, opened, _evdev: evdev }
    }

    /// Plugs a device in. Dropping the file unplugs it.
    fn plug(&self, number: u32) -> File {
        self.plug_into(&self.directory, number)
    }

    fn plug_into(&self, directory: &Path, number: u32) -> File {
        let path = self.directory.join("new");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::rename(path, directory.join(format!("event{number}"))).unwrap();
        self.opened.recv_timeout(Duration::from_secs(10)).unwrap();
        file
    }

    fn unplug(&self, number: u32, file: File) {
        std::fs::remove_file(self.directory.join(format!("event{number}"))).unwrap();
        drop(file);
    }

    /// The next thing told that is no confirmation.
    fn next(&self) -> KeyInput {
        loop {
            match self.told.recv_timeout(Duration::from_secs(10)).unwrap() {
                KeyInput::Confirmed(_) => {}
                input => return input,
            }
        }
    }

    fn next_confirmed(&self) -> BTreeSet<Button> {
        loop {
            let input = self.told.recv_timeout(Duration::from_secs(10)).unwrap();
            if let KeyInput::Confirmed(down) = input {
                return down;
            }
        }
    }

    fn hold(&self, code: u16) {
        lock_of(&self.held).keys.insert(code);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn key(code: u16, value: i32) -> Vec<u8> {
    let mut bytes = vec![0; EVENT_SIZE - 8];
    bytes.extend(1_u16.to_ne_bytes());
    bytes.extend(code.to_ne_bytes());
    bytes.extend(value.to_ne_bytes());
    bytes.extend(vec![0; EVENT_SIZE]);
    bytes
}

fn button(count: &str, button: u16) -> Button {
    Button::Pad { device: name(count), button }
}

fn name(count: &str) -> DeviceName {
    DeviceName(format!("044f:b10a T.16000M{count}").into())
}

#[test]
fn a_stick_that_is_plugged_in_later_is_heard_and_its_end_is_told() {
    let world = World::new("later");
    let mut stick = world.plug(7);
    world.hold(0x120);
    stick.write_all(&key(0x120, 1)).unwrap();
    assert_eq!(world.next(), KeyInput::Pressed(button("", 1)));
    world.unplug(7, stick);
    assert_eq!(world.next(), KeyInput::Gone(name("")));
    // The same stick has the same name again.
    lock_of(&world.held).keys.clear();
    let mut stick = world.plug(9);
    world.hold(0x121);
    stick.write_all(&key(0x121, 1)).unwrap();
    assert_eq!(world.next(), KeyInput::Pressed(button("", 2)));
}

#[test]
fn two_equal_sticks_have_two_names() {
    let world = World::new("equal");
    let mut first = world.plug(3);
    world.hold(0x120);
    first.write_all(&key(0x120, 1)).unwrap();
    assert_eq!(world.next(), KeyInput::Pressed(button("", 1)));
    let mut second = world.plug(4);
    world.hold(0x121);
    second.write_all(&key(0x121, 1)).unwrap();
    // The "kernel" says the same of both, so the first may tell of that button too.
    while world.next() != KeyInput::Pressed(button(" #2", 2)) {}
}

#[test]
fn a_button_whose_release_was_lost_is_up_at_the_next_look() {
    let world = World::new("lost");
    let mut stick = world.plug(1);
    world.hold(0x122);
    stick.write_all(&key(0x122, 1)).unwrap();
    assert_eq!(world.next(), KeyInput::Pressed(button("", 3)));
    assert!(world.next_confirmed().contains(&button("", 3)));
    lock_of(&world.held).keys.clear();
    assert_eq!(world.next(), KeyInput::Released(button("", 3)));
}

#[test]
fn a_missing_directory_is_waited_for() {
    let directory = std::env::temp_dir().join(format!("hark-evdev-{}", std::process::id()));
    let input = directory.join("input");
    let world = World::on(directory, input.clone());
    std::fs::create_dir(&input).unwrap();
    let mut stick = world.plug_into(&input, 1);
    world.hold(0x120);
    stick.write_all(&key(0x120, 1)).unwrap();
    assert_eq!(world.next(), KeyInput::Pressed(button("", 1)));
}

#[test]
fn dropping_ends_the_thread_at_once() {
    let world = World::new("drop");
    let _stick = world.plug(1);
    let begun = Instant::now();
    drop(world);
    assert!(begun.elapsed() < Duration::from_secs(1));
}
