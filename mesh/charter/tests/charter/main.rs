//! What a charter promises: that all who hold the same pieces say the same, and that nobody gets
//! further than they may. [docs/charter.md]
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod attacks;
mod checkpoints;
mod examples;
mod exhaustive;
mod flood;
mod histories;
mod model;
mod sanctions;
mod stolen;
mod tickets;
mod vectors;
mod world;
