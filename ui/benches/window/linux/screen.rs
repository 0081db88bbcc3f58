//! A screen without a graphics card, and keys that are pressed on it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use x11rb::{
    connection::Connection as _,
    protocol::{
        xproto::{ConnectionExt as _, ImageFormat, InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT},
        xtest::ConnectionExt as _,
    },
    rust_connection::RustConnection,
};

/// Ends when it is dropped.
pub(super) struct Screen {
    server: Child,
    pub(super) display: String,
    connection: RustConnection,
    root: u32,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        let mut server = Command::new("Xvfb");
        server.args(["-displayfd", "1", "-screen", "0", "1920x1080x24", "-nolisten", "tcp"]);
        let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut number = String::new();
        BufReader::new(server.stdout.as_mut().context("a pipe")?).read_line(&mut number)?;
        let display = format!(":{}", number.trim());
        let (connection, _) = RustConnection::connect(Some(&display))?;
        let root = connection.setup().roots[0].root;
        Ok(Self { server, display, connection, root })
    }

    /// Waits until something is drawn in the middle of the screen.
    pub(super) fn drawn(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let image =
                self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, 500, 300, 64, 1, !0);
            if image?.reply()?.data.iter().any(|byte| *byte != 0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        anyhow::bail!("nothing was drawn")
    }

    /// Gives the keyboard to the window that was opened last.
    pub(super) fn focus_newest(&self) -> anyhow::Result<()> {
        let tree = self.connection.query_tree(self.root)?.reply()?;
        let newest = tree.children.last().context("no window")?;
        self.connection.set_input_focus(InputFocus::PARENT, *newest, x11rb::CURRENT_TIME)?;
        self.connection.flush()?;
        Ok(())
    }

    /// Presses or releases the right control key.
    pub(super) fn key(&self, down: bool) -> anyhow::Result<()> {
        let kind = if down { KEY_PRESS_EVENT } else { KEY_RELEASE_EVENT };
        self.connection.xtest_fake_input(kind, RIGHT_CONTROL, 0, self.root, 0, 0, 0)?;
        self.connection.flush()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A screen that has ended needs no end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The key's code with evdev's keymap.
const RIGHT_CONTROL: u8 = 105;

const PATIENCE: Duration = Duration::from_secs(20);
