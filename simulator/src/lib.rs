//! The real node on simulated machines and networks, in virtual time, from a seed.
//!
//! A scenario names machines, networks, what members say and what goes wrong; [`world::play`] runs
//! it: the swarm, transport, handshakes, keys, codec and jitter buffers of `hark-node` as they are,
//! with a simulated socket beneath, a simulated disk beside, a script for a microphone, and a
//! recording for a loudspeaker. turmoil gives each machine a runtime of its own in virtual time and
//! kills and starts its processes; the network between them is [`network`].

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
