//! The reports that people read after a run: a page, a text for the terminal, and a packet capture.

mod html;
mod pcap;
mod ranking;
mod summary;
mod text;

pub use html::page;
pub use pcap::{PcapWriter, SNAP_LENGTH};
pub use summary::summary;
