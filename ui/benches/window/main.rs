//! What the window costs, and how soon it answers.
//!
//! `frames` needs no screen. The others need Linux, Xvfb, and `hark` built beside this program:
//! `cargo build --release` first.

#[cfg(target_os = "linux")]
mod linux;
#[path = "../../../node/benches/shared/quantile.rs"]
mod quantile;
#[path = "../../../node/benches/shared/table.rs"]
mod table;

/// What measures of other benches find here.
#[cfg(target_os = "linux")]
mod node {
    use std::time::{SystemTime, UNIX_EPOCH};

    /// Microseconds since 1970.
    pub(crate) fn unix_us() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
    }
}

fn main() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    linux::run()?;
    #[cfg(not(target_os = "linux"))]
    table::Table::default().print("The window is measured on Linux", "");
    Ok(())
}
