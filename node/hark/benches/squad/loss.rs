//! Random loss in each direction: how much is still concealed, and how soon the copies stop
//! afterwards.

use std::{path::Path, time::Duration};

use crate::{
    lan::places,
    mean,
    node::{Node, Place, ms_between, unix_us},
    speech,
    table::Table,
};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let places = places()?;
    let input = speech::write(folder, "speech.wav", 60.0)?;
    let flags = "--listen 0.0.0.0:0 --no-mdns --output null --input";
    let mut listener = Node::start(&places[0], folder, "Heron", None, &format!("{flags} silence"))?;
    let ticket = listener.ticket()?;
    // The microphone is always open: in pauses there would be no copies.
    let flags = format!("{flags} file:{}?loop --transmit open", input.display());
    let mut talker = Node::start(&places[1], folder, "Kestrel", Some(&ticket), &flags)?;
    talker.told_of("peer_up", "Heron", 0)?;
    listener.told_of("talk_started", "Kestrel", 0)?;
    std::thread::sleep(Duration::from_secs(5));

    let lossy = [&places[0], &places[1]];
    let before = listener.frames()?;
    let began = unix_us();
    lossy.iter().try_for_each(|place| begin(place))?;
    let (adapted, _) = watch_copies(&talker, began, ADAPTING)?;
    let after_adapting = listener.frames()?;
    let (copies, _) = watch_copies(&talker, unix_us(), LOSSY)?;
    let after = listener.frames()?;
    let ended = unix_us();
    lossy.iter().try_for_each(|place| end(place))?;
    let (_, last_copy) = watch_copies(&talker, ended, RECOVERING)?;

    let frames = after.since(after_adapting);
    let name = |what: &str| format!("10 % loss each way: {what}");
    table.held(&name("concealed after 2 s"), frames.concealed_percent(), "%", 0.5);
    let recovered = 100.0 * frames.recovered as f64 / frames.received as f64;
    table.shown(&name("recovered from a copy"), recovered, "%", "some 10 % are lost");
    let at_first = after_adapting.since(before).concealed as f64;
    table.shown(&name("frames concealed in the first 2 s"), at_first, "", "of some 200");
    table.shown(&name("copies, mean of the first 2 s"), mean(&adapted), "", "");
    table.shown(&name("copies, mean afterwards"), mean(&copies), "", "");
    table.held(&name("copies end after the loss"), last_copy, "ms", 10_000.0);
    Ok(())
}

/// Watches for `lasting` how many copies the talker sends. Returns the numbers, and how many
/// milliseconds after `since_us` it last sent any.
fn watch_copies(
    talker: &Node,
    since_us: u64,
    lasting: Duration,
) -> anyhow::Result<(Vec<f64>, f64)> {
    let (mut copies, mut last) = (Vec::new(), 0.0);
    loop {
        let passed = ms_between(since_us, unix_us());
        if passed > lasting.as_secs_f64() * 1_000.0 {
            return Ok((copies, last));
        }
        let now = talker.status()?["copies"].as_f64().unwrap_or(0.0);
        if now > 0.0 {
            last = passed;
        }
        copies.push(now);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn begin(place: &Place) -> anyhow::Result<()> {
    place.run("nft add table inet hark")?;
    place.run("nft add chain inet hark input { type filter hook input priority 0 ; }")?;
    let rule = "meta l4proto udp numgen random mod 100 < 10 counter drop";
    place.run(&format!("nft add rule inet hark input {rule}"))?;
    Ok(())
}

fn end(place: &Place) -> anyhow::Result<()> {
    place.run("nft delete table inet hark")?;
    Ok(())
}

/// How long after the loss begins the talker may take to adapt. Concealment in this time does not
/// count.
const ADAPTING: Duration = Duration::from_secs(2);

/// How long concealed frames are counted.
const LOSSY: Duration = Duration::from_secs(30);

/// How long copies are watched after the loss has ended.
const RECOVERING: Duration = Duration::from_secs(15);
