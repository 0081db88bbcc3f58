//! What happens to hostile bytes: a fuzz target for each parser of data from the network or from a
//! file.
//!
//! A target takes any bytes and panics if the code under test breaks a promise. `ci/fuzz` drives
//! the targets by coverage, and the ordinary tests replay `corpus/`. If a parser lies behind a
//! signature or a seal, the first byte of the input chooses how far inside it begins. The target
//! then signs or seals the rest, as a malicious member could.

mod admin;
mod charter;
mod control;
mod datagram;
mod fast;
mod forwarding;
mod framing;
mod hello;
mod input;
mod key_file;
mod media;
mod message;
mod names;
mod noise;
mod opus;
mod port_mapping;
mod squad;
mod ticket;
mod world;

/// One parser under test.
pub struct Target {
    /// The target's name, which is also the name of its folder in the corpus.
    pub name: &'static str,
    /// Tries these bytes. Returns whether they were accepted, which shows what the corpus is worth.
    pub run: fn(&[u8]) -> bool,
    /// Named inputs to start with, made from real encodings. All of them are accepted.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All targets.
pub const TARGETS: [Target; 18] = [
    Target { name: "admin", run: admin::run, seeds: admin::seeds },
    Target { name: "charter", run: charter::run, seeds: charter::seeds },
    Target { name: "control", run: control::run, seeds: control::seeds },
    Target { name: "datagram", run: datagram::run, seeds: datagram::seeds },
    Target { name: "fast", run: fast::run, seeds: fast::seeds },
    Target { name: "forwarding", run: forwarding::run, seeds: forwarding::seeds },
    Target { name: "framing", run: framing::run, seeds: framing::seeds },
    Target { name: "hello", run: hello::run, seeds: hello::seeds },
    Target { name: "key_file", run: key_file::run, seeds: key_file::seeds },
    Target { name: "media_open", run: media::run, seeds: media::seeds },
    Target { name: "message", run: message::run, seeds: message::seeds },
    Target { name: "names", run: names::run, seeds: names::seeds },
    Target { name: "noise_client", run: noise::run_client, seeds: noise::client_seeds },
    Target { name: "noise_server", run: noise::run_server, seeds: noise::server_seeds },
    Target { name: "opus", run: opus::run, seeds: opus::seeds },
    Target { name: "port_mapping", run: port_mapping::run, seeds: port_mapping::seeds },
    Target { name: "squad", run: squad::run, seeds: squad::seeds },
    Target { name: "ticket", run: ticket::run, seeds: ticket::seeds },
];
