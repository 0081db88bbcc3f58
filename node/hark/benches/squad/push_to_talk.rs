//! The time from the press of the push-to-talk key to the first voice datagram on the wire.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{
    largest,
    node::{Node, Place, ms_between, unix_us},
    quantile::median,
    speech,
    table::Table,
    wire::{Capture, Seen},
};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let input = speech::write(folder, "speech.wav", 30.0)?;
    let place = Place::default();
    let flags = "--listen 127.0.0.1:0 --no-mdns --output null --input";
    let listener_flags = format!("{flags} silence");
    let mut listener = Node::start(&place, folder, "Heron", None, &listener_flags)?;
    let ticket = listener.ticket()?;
    let talker_flags = format!("{flags} file:{}?loop --transmit ptt", input.display());
    let mut talker = Node::start(&place, folder, "Kestrel", Some(&ticket), &talker_flags)?;
    listener.told_of("peer_up", "Kestrel", 0)?;
    talker.told_of("peer_up", "Heron", 0)?;
    std::thread::sleep(Duration::from_secs(2));
    let port = port_of(&mut talker)?;

    let mut client = talker.client()?;
    let capture = Capture::start();
    let (mut by_api, mut by_command) = (Vec::new(), Vec::new());
    for press in 0..PRESSES {
        // The pauses grow in steps of 1.1 ms, so that the key is pressed in every phase of a frame.
        std::thread::sleep(PAUSE + Duration::from_micros(1_100 * press));
        by_api.push(unix_us());
        client.request(json!({"command": "ptt", "down": true}))?;
        std::thread::sleep(HELD);
        client.request(json!({"command": "ptt", "down": false}))?;
    }
    for _ in 0..COMMANDS {
        std::thread::sleep(PAUSE);
        by_command.push(unix_us());
        talker.control("ptt down")?;
        std::thread::sleep(HELD);
        talker.control("ptt up")?;
    }
    match capture {
        Ok(capture) => {
            let seen: Vec<Seen> =
                capture.finish().into_iter().filter(|seen| seen.from_port == port).collect();
            let first = |pressed: &u64| ms_between(*pressed, first_voice(&seen, *pressed));
            let found: Vec<f64> = by_api.iter().map(first).collect();
            table.held("push-to-talk to the wire, slowest", largest(&found), "ms", 20.0);
            table.shown("push-to-talk to the wire, median", median(&found), "ms", "");
            let found: Vec<f64> = by_command.iter().map(first).collect();
            table.shown("the same by `hark ctl ptt down`, median", median(&found), "ms", "");
        }
        Err(error) => {
            table.said("push-to-talk to the wire", "not seen", &error.to_string());
        }
    }
    let mut found = Vec::new();
    for pressed in by_api {
        let heard = listener.told_of("talk_started", "Kestrel", pressed)?;
        found.push(ms_between(pressed, heard));
    }
    table.shown("push-to-talk to `talk_started`, median", median(&found), "ms", "");
    Ok(())
}

/// The time of the first of several datagrams that have the length of voice. `u64::MAX` if there
/// are none.
fn first_voice(seen: &[Seen], pressed: u64) -> u64 {
    let voice: Vec<&Seen> = seen
        .iter()
        .filter(|seen| seen.at_us >= pressed && VOICE_BYTES.contains(&seen.payload.len()))
        .collect();
    // The loopback interface shows each datagram twice.
    let follows = |pair: &&[&Seen]| pair[5].at_us - pair[0].at_us < 60_000;
    voice.windows(6).find(follows).map_or(u64::MAX, |run| run[0].at_us)
}

fn port_of(node: &mut Node) -> anyhow::Result<u16> {
    let ready = node.ready()?;
    let address = ready["listen"][0].as_str().unwrap_or_default();
    let port = address.split('/').nth(4).and_then(|port| port.parse().ok());
    port.ok_or_else(|| anyhow::anyhow!("{address} has no port"))
}

/// Lengths of UDP payloads that carry one frame of 10 ms. Heartbeats, reports and acknowledgements
/// are shorter. Messages are longer, or come alone.
const VOICE_BYTES: std::ops::Range<usize> = 90..300;

/// How often the key is pressed, through the local API and by the command.
const PRESSES: u64 = 50;
const COMMANDS: usize = 10;

/// How long the key stays up, which is longer than the talkspurt outlasts the key, and how long it
/// stays down.
const PAUSE: Duration = Duration::from_millis(400);
const HELD: Duration = Duration::from_millis(200);
