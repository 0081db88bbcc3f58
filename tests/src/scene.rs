use std::{
    cell::Cell,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    binary::{Outcome, Program, hark, through},
    member::{Member, MemberClock},
};

/// The folder in which a story takes place.
pub struct Scene {
    folder: TempDir,
    /// Counts the processes that were started, so that none overwrites the files of another.
    runs: Cell<usize>,
}

impl Default for Scene {
    fn default() -> Self {
        Self { folder: TempDir::new().expect("a folder for the story"), runs: Cell::new(0) }
    }
}

impl Scene {
    /// A path of this name in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The home of the member of this name.
    pub fn home(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    /// Runs `hark COMMAND --home HOME …` to its end, for the member of this name.
    pub fn run(&self, name: &str, command: &[&str]) -> Outcome {
        run(&self.home(name), command)
    }

    /// Like [`Self::run`], with `input` as standard input.
    pub fn run_with(&self, name: &str, command: &[&str], input: &str) -> Outcome {
        let path = self.path("input");
        fs::write(&path, input).expect("a file for its input");
        let input = File::open(&path).expect("it was written");
        run_reading(&self.home(name), command, input.into())
    }

    /// The path of the folder.
    pub fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Runs a bash script in this folder until it fails or ends, with `hark` in its path. The
    /// script itself must end the processes that it leaves running.
    pub fn shell(&self, script: &str, folder: &str) -> Outcome {
        let hark = hark();
        let programs = Path::new(hark.get_program()).parent().expect("it lies in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", programs.display());
        // The output goes to files, since processes that are left running would keep pipes open.
        let [stdout, stderr] = ["script.out", "script.err"].map(|name| self.path(name));
        let file = |path| File::create(path).expect("a file for what it says");
        let mut bash = Command::new("bash");
        bash.args(["-e", "-c", script]).current_dir(folder).env("PATH", path);
        bash.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
        let status = bash.status().expect("bash runs").code();
        let read = |path| fs::read_to_string(path).expect("it was written");
        Outcome { status, stdout: read(&stdout), stderr: read(&stderr) }
    }

    /// Founds an organisation in the member's home, without starting the member. Returns its first
    /// ticket, which contains no address.
    pub fn found(&self, name: &str, organisation: &str) -> String {
        let founded = self.run(name, &["new", organisation, "--json"]);
        let founded: serde_json::Value =
            serde_json::from_str(founded.success()).expect("`new --json` prints JSON");
        founded["ticket"].as_str().expect("it has a ticket").to_owned()
    }

    /// Prepares `hark talk` for the member of this name: on loopback, silent, always transmitting.
    pub fn talk(&self, name: &str) -> Talk {
        self.runs.set(self.runs.get() + 1);
        let run = format!("{name}-{}", self.runs.get());
        let output = self.path(&format!("{run}.wav"));
        Talk {
            program: Program::Hark,
            file: None,
            name: name.to_owned(),
            home: self.home(name),
            ticket: None,
            listen: vec!["--listen".to_owned(), "127.0.0.1:0".to_owned(), "--no-mdns".to_owned()],
            input: "silence".to_owned(),
            speech: None,
            output_spec: format!("file:{}", output.display()),
            output,
            transmit: Some("open".to_owned()),
            events: "-".into(),
            further: Vec::new(),
            before: Vec::new(),
            environment: Vec::new(),
            errors: self.path(&format!("{run}.err")),
        }
    }
}

/// A `hark talk`, or a window, that is about to start.
pub struct Talk {
    program: Program,
    /// The file of the program for Windows, if wine runs it.
    file: Option<PathBuf>,
    name: String,
    home: PathBuf,
    ticket: Option<String>,
    listen: Vec<String>,
    input: String,
    speech: Option<PathBuf>,
    output_spec: String,
    output: PathBuf,
    transmit: Option<String>,
    events: PathBuf,
    further: Vec<String>,
    before: Vec<String>,
    environment: Vec<(String, String)>,
    errors: PathBuf,
}

impl Talk {
    /// Joins with this ticket.
    pub fn ticket(mut self, ticket: &str) -> Self {
        self.ticket = Some(ticket.to_owned());
        self
    }

    /// Speaks the recording of this name, in a loop.
    pub fn speaking(mut self, name: &str) -> Self {
        let path = speech(name);
        self.input = format!("file:{}?loop", path.display());
        self.speech = Some(path);
        self
    }

    /// Takes its sound from this input.
    pub fn input(mut self, spec: &str) -> Self {
        self.input = spec.to_owned();
        self
    }

    /// Sends its sound to this output.
    pub fn output(mut self, spec: &str) -> Self {
        self.output_spec = spec.to_owned();
        self
    }

    /// Opens the microphone in this mode.
    pub fn transmit(mut self, mode: &str) -> Self {
        self.transmit = Some(mode.to_owned());
        self
    }

    /// Opens the microphone as it was chosen when the member ran last.
    pub fn transmit_as_kept(mut self) -> Self {
        self.transmit = None;
        self
    }

    /// Listens at the program's default address, or where these arguments say.
    pub fn listen(mut self, arguments: &[&str]) -> Self {
        self.listen = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Writes events to this file, and the text for people to standard output. For
    /// [`Self::outcome`].
    pub fn events(mut self, path: &Path) -> Self {
        self.events = path.to_owned();
        self
    }

    /// Adds arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.further.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Runs through another command, which must become `hark` by exec.
    pub fn through(mut self, command: &[&str]) -> Self {
        self.before = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Runs the program for Windows that lies at this path, by wine. Its home and files lie where
    /// those of others do: wine shows it the whole machine.
    pub fn by_wine(mut self, program: &Path) -> Self {
        self.file = Some(program.to_owned());
        self.environment("WINEDEBUG", "-all")
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the member, and waits until others can join it.
    pub fn start(self) -> Member {
        let member = self.spawn();
        member.wait("ready", |events| events.iter().find(|event| event.is("ready")).cloned());
        member
    }

    fn spawn(self) -> Member {
        let errors = File::create(&self.errors).expect("a file for its standard error");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let clock = match self.file {
            None => MemberClock::Monotonic,
            Some(_) => MemberClock::MonotonicRaw,
        };
        let (name, home, errors) = (self.name, self.home, self.errors);
        Member::new(name, home, self.before, child, self.speech, self.output, errors, clock)
    }

    /// Runs the member until it ends by itself.
    pub fn outcome(mut self) -> Outcome {
        if !self.further.iter().any(|argument| argument == "--for") {
            // A member that should have failed must not run for ever.
            self = self.with(&["--for", "30s"]);
        }
        self.command().stdin(Stdio::null()).output().expect("it starts").into()
    }

    /// Opens a window, and returns before anybody has told it anything. Its person gives a name.
    pub fn open(mut self) -> Member {
        self.program = Program::HarkUi;
        self.transmit = None;
        self.spawn()
    }

    fn command(&self) -> Command {
        let program = match &self.file {
            None => self.program.command(),
            Some(file) => {
                let mut wine = Command::new("wine");
                wine.arg(file);
                wine
            }
        };
        let mut command = match &self.before[..] {
            [] => program,
            before => through(before, &program),
        };
        if self.program == Program::Hark {
            command.args(["talk", "--name", &self.name]);
        }
        command.args(&self.ticket).arg("--home").arg(&self.home);
        command.args(self.transmit.iter().flat_map(|mode| ["--transmit", mode]));
        command.arg("--events").arg(&self.events);
        command.args(["--input", &self.input, "--output", &self.output_spec]);
        command.args(&self.listen).args(&self.further);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The path of one of the recordings that come with Hark.
pub fn speech(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/assets/speech");
    let path = folder.join(format!("{name}.wav"));
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs `hark COMMAND --home HOME …` to its end.
pub fn run(home: &Path, command: &[&str]) -> Outcome {
    run_reading(home, command, Stdio::null())
}

fn run_reading(home: &Path, command: &[&str], input: Stdio) -> Outcome {
    let (name, rest) = command.split_first().expect("a command has a name");
    let mut hark = hark();
    hark.arg(name).arg("--home").arg(home).args(rest).stdin(input);
    hark.output().expect("it starts").into()
}
