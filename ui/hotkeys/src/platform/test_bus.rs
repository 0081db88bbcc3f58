//! A D-Bus of a test's own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A running `dbus-daemon`, ended when it is dropped.
pub(super) struct TestBus {
    daemon: Child,
    address: String,
}

impl TestBus {
    /// Starts one, `None` after a printed line if this machine has no `dbus-daemon`.
    pub(super) fn start() -> Option<Self> {
        let started = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .arg(format!("--address=unix:dir={}", std::env::temp_dir().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = started else {
            println!("not tested: this machine has no dbus-daemon");
            return None;
        };
        let mut address = String::new();
        let output = daemon.stdout.take().expect("the output is a pipe");
        BufReader::new(output).read_line(&mut address).expect("the daemon says where it is");
        Some(Self { daemon, address: address.trim().into() })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
