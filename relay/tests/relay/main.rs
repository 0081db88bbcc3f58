//! The admin API over real connections, with carriers that are made up; and the whole program.

mod changes;
mod door;
mod http;
mod kept;
mod metrics;
mod program;
mod socket;
mod world;
