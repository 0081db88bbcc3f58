//! An empty stand-in for `wasm-bindgen-futures`, which only WebAssembly builds compile.
//!
//! libp2p-swarm asks for exactly 0.4.58, which asks for a `js-sys` older than the one that eframe
//! asks for. Without this crate the two have no versions in common. It goes when libp2p-swarm
//! loosens what it asks for.
#![forbid(unsafe_code)]
