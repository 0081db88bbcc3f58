//! The admin API over real connections, with carriers that are made up.

#[path = "../shared/http.rs"]
mod http;

mod changes;
mod door;
mod kept;
mod metrics;
mod socket;
mod world;
