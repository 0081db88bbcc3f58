use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::SystemTime,
};

/// The outcome of a command that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status; `None` if a signal ended the command.
    pub status: Option<i32>,
    /// The text on standard output.
    pub stdout: String,
    /// The text on standard error.
    pub stderr: String,
}

impl Outcome {
    /// The complaint of a command that failed properly: exit status 1 and one informative line,
    /// without a panic.
    #[track_caller]
    pub fn complaint(&self) -> &str {
        assert_eq!(self.status, Some(1), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        let line = self.stderr.trim_end().strip_prefix("hark: ");
        let line = line.unwrap_or_else(|| panic!("not a complaint: {self:?}"));
        assert!(!line.contains("internal error"), "{self:?}");
        line
    }

    /// Standard output of a command that succeeded without a complaint.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout.trim_end()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// One of the programs of this repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `hark`, which a member runs.
    Hark,
    /// `hark-relay`, the relay.
    HarkRelay,
    /// `hark-sim`, the simulator.
    HarkSim,
    /// `hark-ui`, the window.
    HarkUi,
}

impl Program {
    /// All programs of the terminal.
    pub const ALL: [Self; 3] = [Self::Hark, Self::HarkRelay, Self::HarkSim];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hark => "hark",
            Self::HarkRelay => "hark-relay",
            Self::HarkSim => "hark-sim",
            Self::HarkUi => "hark-ui",
        }
    }

    /// The path of the program's file.
    pub fn path(self) -> &'static Path {
        static PATHS: [OnceLock<PathBuf>; 4] = [const { OnceLock::new() }; 4];
        let (package, sources): (_, &[&str]) = match self {
            Self::Hark => ("hark", &["keys", "mesh", "node"]),
            Self::HarkRelay => ("hark-relay", &["keys", "mesh", "node", "relay"]),
            Self::HarkUi => ("hark-ui", &["keys", "mesh", "node", "ui"]),
            Self::HarkSim => ("hark-simulator", &["keys", "mesh", "node", "relay", "simulator"]),
        };
        PATHS[self as usize].get_or_init(|| path(package, self.name(), sources))
    }

    /// The command, without the variables of the caller's environment that affect it.
    pub fn command(self) -> Command {
        let mut command = Command::new(self.path());
        for variable in ["HARK_HOME", "HARK_RELAY_HOME", "HARK_LOG", "HARK_PASSPHRASE"] {
            command.env_remove(variable);
        }
        command
    }
}

pub(crate) fn hark() -> Command {
    Program::Hark.command()
}

pub(crate) fn hark_relay() -> Command {
    Program::HarkRelay.command()
}

/// The same command, started through another command that becomes it.
pub(crate) fn through(before: &[impl AsRef<OsStr>], command: &Command) -> Command {
    let Some((first, rest)) = before.split_first() else {
        panic!("nothing to start {command:?} by")
    };
    let mut whole = Command::new(first);
    whole.args(rest).arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(variable, value),
            None => whole.env_remove(variable),
        };
    }
    whole
}

/// The path of the program, which lies beside this crate's tests. `cargo nextest run --workspace`
/// builds it. If the tests of this crate run alone, it is built here when it is missing or out of
/// date.
fn path(package: &str, program: &str, sources: &[&str]) -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let profile = tests.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let path = profile.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    let built = fs::metadata(&path).and_then(|metadata| metadata.modified());
    if built.is_ok_and(|built| newest_source(sources) <= built) {
        return path;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", package, "--bin", program]);
    cargo.arg("--target-dir").arg(profile.parent().expect("PROFILE lies in the target folder"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().is_ok_and(|status| status.success()), "{cargo:?} failed");
    path
}

/// When a source of a program was last changed. The sources are those of its own crate, the last in
/// the list, and of the libraries of the other crates.
fn newest_source(crates: &[&str]) -> SystemTime {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in a workspace");
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut folders: Vec<_> = crates.iter().map(|name| workspace.join(name).join("src")).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(_) if of_another_program(&entry.path(), crates) => {}
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => newest = newest.max(metadata.modified().unwrap_or(newest)),
                Err(_) => {}
            }
        }
    }
    newest
}

/// Whether a file or folder belongs to the program of a crate other than the last one.
fn of_another_program(path: &Path, crates: &[&str]) -> bool {
    let own = crates.last().is_some_and(|own| path.iter().any(|part| part == *own));
    !own && (path.ends_with("src/bin") || path.ends_with("src/main.rs"))
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
