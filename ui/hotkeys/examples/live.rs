//! Prints what the listeners of this system tell, to try them by hand.
//!
//! ```sh
//! cargo run --example live -- 20 keyboards
//! ```
//!
//! listens for 20 s, on Wayland also to keyboards that this person may read. It prints every key:
//! do not type a password meanwhile.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use hark_hotkeys::platform::{KeyListener, ListenOptions, Watch, listen};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let keyboards = arguments.next().is_some_and(|text| text == "keyboards");
    let begun = Instant::now();
    let (sender, receiver) = mpsc::sync_channel(1000);
    let sink = Arc::new(move |at: Instant, input| {
        let _ = sender.try_send((at, input));
    });
    let listeners = listen(sink, ListenOptions { keyboards, ..ListenOptions::default() });
    listeners.watch(Watch::Everything);
    let end = begun + Duration::from_secs(seconds);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let Ok((at, input)) = receiver.recv_timeout(left) else { break };
        println!("{:>6} ms {input:?}", at.saturating_duration_since(begun).as_millis());
    }
    for limit in listeners.limits() {
        println!("{limit}");
    }
    let dropping = Instant::now();
    drop(listeners);
    println!("ended within {} ms", dropping.elapsed().as_millis());
}
