//! Runs the real node on simulated machines and networks, in virtual time, from a seed.
//!
//! A scenario names machines, networks, what members say and what goes wrong; [`world::play`] runs
//! it. The swarm, transport, handshakes, keys, codec and jitter buffers are those of `hark-node`.
//! Only their surroundings are simulated: the socket, the disk, a script in place of the
//! microphone, and a recording in place of the loudspeaker. turmoil gives each machine a runtime of
//! its own in virtual time, and kills and starts its processes. The network between them is
//! [`network`].

#![forbid(unsafe_code)]

pub mod built_in;
pub mod context;
mod disk;
mod judge;
mod malice;
mod measured;
mod member;
pub mod network;
mod observation;
mod random;
pub mod record;
mod relay;
pub mod report;
mod rules;
pub mod scenario;
pub mod speech;
mod stranger;
mod trace;
pub mod units;
mod voice;
mod witness;
pub mod world;

pub use voice::HeardSound;
