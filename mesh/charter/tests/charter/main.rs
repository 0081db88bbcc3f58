//! The promises of a charter: all who hold the same pieces come to the same state, and nobody does
//! more than they may. [docs/charter.md]
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
