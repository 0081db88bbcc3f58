//! The admin API over real connections with fake carriers, and the whole program.

mod changes;
mod door;
mod http;
mod kept;
mod metrics;
mod program;
mod socket;
mod world;
