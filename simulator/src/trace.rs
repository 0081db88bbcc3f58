//! The trace: everything that happens in a run, one line each. Runs are compared by it.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use crate::network::PacketEvent;

/// Writes and hashes the lines of a run.
pub(crate) struct Trace {
    out: Option<Box<dyn Write + Send>>,
    digest: blake3::Hasher,
    names: Vec<String>,
    line: String,
    error: Option<io::Error>,
}

impl Trace {
    /// A trace that is written to `out`, or only hashed if that is `None`. `names` are the names of
    /// the machines.
    pub(crate) fn new(out: Option<Box<dyn Write + Send>>, names: Vec<String>) -> Self {
        let digest = blake3::Hasher::new();
        Self { out, digest, names, line: String::new(), error: None }
    }

    /// Adds an event at a machine, or in the whole network.
    pub(crate) fn event(&mut self, at: Duration, machine: Option<usize>, text: &str) {
        self.begin(at);
        let name = machine.map_or("-", |machine| &self.names[machine]);
        let _ = writeln!(self.line, "{name} {text}");
        self.end();
    }

    /// Adds an event of a packet.
    pub(crate) fn packet(&mut self, event: &PacketEvent<'_>) {
        self.begin(event.at);
        let origin = &self.names[event.origin];
        let _ = match (event.arrived, event.lost) {
            (Some(machine), _) => write!(self.line, "{origin} reaches {}", self.names[machine]),
            (None, Some(cause)) => write!(self.line, "{origin} lost: {cause}"),
            (None, None) => write!(self.line, "{origin} sends"),
        };
        let digest = blake3::hash(event.payload);
        let short = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let (source, destination) = (event.source, event.destination);
        let length = event.payload.len();
        let _ = writeln!(self.line, " {source} > {destination} {length} {short:016x}");
        self.end();
    }

    /// Writes what is left, and returns the hash of all lines.
    pub(crate) fn finish(&mut self) -> io::Result<String> {
        if let Some(out) = &mut self.out {
            out.flush()?;
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.digest.finalize().to_hex().to_string()),
        }
    }

    fn begin(&mut self, at: Duration) {
        self.line.clear();
        let _ = write!(self.line, "{}.{:06} ", at.as_secs(), at.subsec_micros());
    }

    fn end(&mut self) {
        self.digest.update(self.line.as_bytes());
        if let Some(out) = &mut self.out
            && self.error.is_none()
        {
            self.error = out.write_all(self.line.as_bytes()).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_lines() {
        let names = || vec!["wren".to_owned()];
        let mut digested = Trace::new(None, names());
        digested.event(Duration::from_micros(1_500_042), Some(0), "wakes");
        let mut lines = blake3::Hasher::new();
        lines.update(b"1.500042 wren wakes\n");
        assert_eq!(digested.finish().expect("no file"), lines.finalize().to_hex().to_string());
    }
}
