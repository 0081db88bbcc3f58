//! The promises of a charter: all who hold the same pieces come to the same state, and nobody does
//! more than they may. [docs/charter.md]
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod attacks;
mod checkpoints;
mod edits;
mod endings;
mod examples;
mod exhaustive;
mod flood;
mod histories;
mod introductions;
mod model;
mod roles;
mod sanctions;
mod soundness;
mod stolen;
mod tickets;
mod vectors;
mod world;
