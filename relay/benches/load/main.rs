//! A relay under load: `hark-relay` runs in a process of its own, members and talkers run in this
//! one, over loopback.
//!
//! Without options, it measures the table of `docs/benchmarks.md`. With `--members`, `--talkers`
//! and the like, it measures one room.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this benchmark reads Linux' own accounts of processes and packets");
}

#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod dear;
#[cfg(target_os = "linux")]
mod member;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
#[path = "../../../node/benches/shared/quantile.rs"]
mod quantile;
#[cfg(target_os = "linux")]
mod room;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod squads;
#[cfg(target_os = "linux")]
#[path = "../../../node/benches/shared/table.rs"]
mod table;
#[cfg(target_os = "linux")]
mod talk;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    use clap::Parser as _;
    if std::env::args().nth(1).as_deref() == Some(bare::ARGUMENT) {
        return bare::run();
    }
    // Without `--bench`, cargo only checks that the bench builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    rows::run(&rows::Options::parse())
}
