//! The program `hark`.

fn main() {}
