//! What people do with Hark, from start to end.
//!
//! A story starts real members, waits for the events that they report, and compares what they have
//! heard with what was spoken.

#![cfg(unix)]

mod control;
mod devices;
mod doors;
mod lan;
mod mistakes;
mod nats;
mod organisations;
mod pages;
mod people;
mod profiles;
mod programs;
mod radio;
mod relays;
mod rights;
mod roles;
mod squad;
mod tickets;
mod trouble;
mod waiting;
mod wire;
