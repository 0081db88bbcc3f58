use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::SystemTime,
};

/// What a command that has ended left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status; none where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// What was complained about: exit status 1 and one line that tells, without a panic.
    #[track_caller]
    pub fn complaint(&self) -> &str {
        assert_eq!(self.status, Some(1), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        let line = self.stderr.trim_end().strip_prefix("hark: ");
        let line = line.unwrap_or_else(|| panic!("not a complaint: {self:?}"));
        assert!(!line.contains("internal error"), "{self:?}");
        line
    }

    /// Standard output of a command that worked and had nothing to complain about.
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
    /// A member.
    Hark,
    /// A relay.
    HarkRelay,
    /// The simulator.
    HarkSim,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hark, Self::HarkRelay, Self::HarkSim];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hark => "hark",
            Self::HarkRelay => "hark-relay",
            Self::HarkSim => "hark-sim",
        }
    }

    /// Where it lies.
    pub fn path(self) -> &'static Path {
        static PATHS: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
        let (package, sources): (_, &[&str]) = match self {
            Self::Hark => ("hark", &["keys", "mesh", "node"]),
            Self::HarkRelay => ("hark-relay", &["keys", "mesh", "node", "relay"]),
            Self::HarkSim => ("hark-simulator", &["keys", "mesh", "node", "relay", "simulator"]),
        };
        PATHS[self as usize].get_or_init(|| path(package, self.name(), sources))
    }

    /// The command, free of what the caller's environment says to it.
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

/// The same command, started by another one that becomes it.
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

/// The program, which lies beside this crate's tests. `cargo nextest run --workspace` has built it;
/// where the tests of this crate run alone, it is built here if it is not there or out of date.
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

/// When a source of a program was last changed: of its own crate, the last of them, and of the
/// libraries of the others.
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

/// Whether a file or folder belongs to the program of another crate than the last.
fn of_another_program(path: &Path, crates: &[&str]) -> bool {
    let own = crates.last().is_some_and(|own| path.iter().any(|part| part == *own));
    !own && (path.ends_with("src/bin") || path.ends_with("src/main.rs"))
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
