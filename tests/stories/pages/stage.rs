//! The place where a page is played: the programs are on the path, the repository's files are here,
//! and each person who types has a home.

#[path = "../../src/words.rs"]
mod words;

use std::{
    cell::RefCell,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use hark_tests::{Outcome, Program, Scene, Talk};

use self::words::words;
use super::{ROOT, block::Block};

pub(super) struct Stage {
    pub(super) scene: Scene,
    /// Texts that the page shows, and their replacements here.
    stand_ins: RefCell<Vec<(String, String)>>,
}

impl Default for Stage {
    fn default() -> Self {
        let stage = Self { scene: Scene::default(), stand_ins: RefCell::default() };
        let (here, bin) = (stage.scene.path("here"), stage.scene.path("bin"));
        fs::create_dir_all(here.join("target/release")).expect("a folder");
        fs::create_dir(&bin).expect("a folder");
        for program in Program::ALL {
            for folder in [&bin, &here.join("target/release")] {
                symlink(program.path(), folder.join(program.name())).expect("a link");
            }
        }
        for folder in ["examples", "relay"] {
            symlink(Path::new(ROOT).join(folder), here.join(folder)).expect("a link");
        }
        // Stands for the repository's script of this name, which runs the program once it is built.
        let run = here.join("run");
        fs::write(&run, "#!/bin/sh\nexec hark \"$@\"\n").expect("written");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("its owner's");
        stage
    }
}

impl Stage {
    /// From now on, `real` replaces `shown`.
    pub(super) fn stands_for(&self, shown: &str, real: &str) {
        let mut stand_ins = self.stand_ins.borrow_mut();
        stand_ins.retain(|(it, _)| it != shown);
        stand_ins.push((shown.to_owned(), real.to_owned()));
    }

    /// A text of the page with all replacements made.
    pub(super) fn meant(&self, text: &str) -> String {
        let stand_ins = self.stand_ins.borrow();
        stand_ins.iter().fold(text.to_owned(), |text, (shown, real)| text.replace(shown, real))
    }

    /// Runs a script in a shell in the name of somebody. All of it must succeed. Returns what it
    /// printed.
    #[track_caller]
    pub(super) fn plays(&self, who: &str, script: &str) -> String {
        self.plays_with(who, script, "")
    }

    /// Like [`Self::plays`]; `input` is typed when the script asks.
    #[track_caller]
    pub(super) fn plays_with(&self, who: &str, script: &str, input: &str) -> String {
        let outcome = self.outcome(&["bash", "-ec", &self.meant(script)], who, input);
        assert_eq!(outcome.status, Some(0), "{script}: {outcome:?}");
        outcome.stdout
    }

    /// Like [`Self::plays_with`], but at a terminal, since passphrases are asked for only there.
    #[track_caller]
    pub(super) fn plays_at_a_terminal(&self, who: &str, script: &str, input: &str) -> String {
        let script = self.meant(script);
        let outcome = self.outcome(&["script", "-qec", &script, "/dev/null"], who, input);
        assert_eq!(outcome.status, Some(0), "{script}: {outcome:?}");
        outcome.stdout
    }

    /// Plays all commands of a block in the name of somebody, and returns what the last one
    /// printed.
    #[track_caller]
    pub(super) fn plays_all(&self, who: &str, block: &Block) -> String {
        let commands = block.commands().into_iter();
        commands.map(|line| self.plays(who, &line)).last().expect("a command")
    }

    /// A line with `talk`, for the member of this name: on loopback, silent, push to talk.
    pub(super) fn talk(&self, who: &str, line: &str) -> Talk {
        let meant = self.meant(line);
        let line = meant.split(" #").next().unwrap_or(&meant).trim().trim_end_matches(" &");
        let words = words(line);
        let [program, command, rest @ ..] = &words[..] else { panic!("{line}") };
        assert!(["hark", "./run"].contains(&&**program) && command == "talk", "{line}");
        let mut rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        if let Some(at) = rest.iter().position(|it| *it == "--name") {
            assert_eq!(rest.drain(at..at + 2).nth(1), Some(who));
        }
        self.scene.talk(who).transmit("ptt").with(&rest)
    }

    /// Makes a member that has joined with this ticket and does not run.
    #[track_caller]
    pub(super) fn joins(&self, who: &str, ticket: &str) {
        self.scene.run(who, &["join", ticket, "--name", who]).success();
    }

    /// A command's answer to scripts, as JSON.
    #[track_caller]
    pub(super) fn answer(&self, who: &str, command: &[&str]) -> serde_json::Value {
        let outcome = self.scene.run(who, &[command, &["--json"]].concat());
        serde_json::from_str(outcome.success()).expect("JSON")
    }

    fn outcome(&self, command: &[&str], who: &str, input: &str) -> Outcome {
        let typed = self.scene.path("typed");
        fs::write(&typed, input).expect("written");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new(command[0]);
        shell.args(&command[1..]).current_dir(self.scene.path("here"));
        shell.env("PATH", format!("{}:{path}", self.scene.path("bin").display()));
        shell.env("HARK_HOME", self.scene.home(who)).env("SHELL", "/bin/bash");
        for variable in ["HARK_RELAY_HOME", "HARK_LOG", "HARK_PASSPHRASE"] {
            shell.env_remove(variable);
        }
        let input = match input {
            "" => Stdio::null(),
            _ => File::open(&typed).expect("it was written").into(),
        };
        shell.stdin(input).output().expect("it starts").into()
    }
}
