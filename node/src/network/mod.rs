//! x
mod behaviour;
