//! A screen of a test's own, with keys that are pressed on it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::Member;

/// A screen without a graphics card, which goes when this is dropped.
#[derive(Debug)]
pub struct Screen {
    server: Child,
    /// What `DISPLAY` is to be for programs that are to be seen there.
    pub display: String,
    pictures: PathBuf,
}

impl Screen {
    /// Opens a screen. `None`, with a line that says why, if this machine lacks the programs.
    pub fn open(name: &str) -> Option<Self> {
        for program in ["Xvfb", "xdotool", "import"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !found.is_ok_and(|output| output.status.success()) {
                println!("skipped: needs {program}");
                return None;
            }
        }
        let mut server = Command::new("Xvfb");
        server.args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"]);
        let mut server =
            server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut number = String::new();
        let said = server.stdout.as_mut().expect("a pipe");
        BufReader::new(said).read_line(&mut number).expect("its number");
        let tests = std::env::current_exe().expect("a test has a path");
        let target = tests.ancestors().nth(3).expect("tests lie in TARGET/PROFILE/deps");
        let pictures = target.join("window").join(name);
        fs::create_dir_all(&pictures).expect("a folder for pictures");
        Some(Self { server, display: format!(":{}", number.trim()), pictures })
    }

    /// Runs `xdotool`, which must succeed, and returns what it prints.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args(["60", "xdotool"]).args(arguments).env("DISPLAY", &self.display);
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "xdotool {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits for the window of a process.
    #[track_caller]
    pub fn window(&self, member: &Member) -> u64 {
        let process = member.process().to_string();
        let found = self.run(&["search", "--sync", "--onlyvisible", "--pid", &process]);
        found.lines().next().and_then(|id| id.parse().ok()).expect("a number")
    }

    /// Waits for a window whose title is like this.
    #[track_caller]
    pub fn titled(&self, pattern: &str) -> u64 {
        let found = self.run(&["search", "--sync", "--onlyvisible", "--name", pattern]);
        found.lines().next().and_then(|id| id.parse().ok()).expect("a number")
    }

    /// Shows a window above all others and gives it the keyboard.
    pub fn give_keyboard(&self, window: u64) {
        let window = window.to_string();
        self.run(&["windowraise", &window, "windowfocus", "--sync", &window]);
    }

    /// Types into the field that has the keyboard, in place of what stands there.
    pub fn types(&self, text: &str) {
        self.run(&["key", "ctrl+a"]);
        self.run(&["type", "--delay", "20", text]);
        self.run(&["key", "Return"]);
    }

    /// Keeps a picture of the screen, which must show something.
    #[track_caller]
    pub fn picture(&self, name: &str) {
        let path = self.pictures.join(format!("{name}.png"));
        let mut command = Command::new("import");
        command.args(["-window", "root"]).arg(&path).env("DISPLAY", &self.display);
        assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
        assert!(colours(&path) > 20, "something is drawn: {}", path.display());
    }

    /// Sends a signal to the screen's server.
    pub fn signal(&self, name: &str) {
        let id = self.server.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "the screen gets no SIG{name}");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A screen that has ended needs no end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// How many colours a picture has.
fn colours(path: &Path) -> u64 {
    let mut command = Command::new("identify");
    let output = command.args(["-format", "%k"]).arg(path).output().expect("it comes with import");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}
