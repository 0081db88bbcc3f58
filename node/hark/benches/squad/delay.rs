//! Mouth-to-ear delay, from the talker's file to the listener's, and the parts that it consists of.

use std::{path::Path, time::Duration};

use hark_node::measure::{Recording, delays};
use hark_voice::{SAMPLE_RATE, codec::Encoder};
use serde_json::Value;

use crate::{
    node::{Node, Place, at_us, ms_between, unix_us},
    quantile::{median, quantile},
    speech,
    table::Table,
};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    run(folder, table, false)
}

pub(crate) fn measure_low(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    run(folder, table, true)
}

fn run(folder: &Path, table: &mut Table, low_delay: bool) -> anyhow::Result<()> {
    let mode = if low_delay { "low delay" } else { "default" };
    let flags = if low_delay { "--low-delay" } else { "" };
    let input = speech::write(folder, "spoken.wav", SPEECH.as_secs_f64())?;
    let output = folder.join("heard.wav");
    let place = Place::default();
    let flags = format!("--listen 127.0.0.1:0 --no-mdns {flags}");
    let listener_flags = format!("{flags} --input silence --output file:{}", output.display());
    let talker_flags = format!("{flags} --input file:{} --output null", input.display());

    let mut listener = Node::start(&place, folder, "Heron", None, &listener_flags)?;
    let ticket = listener.ticket()?;
    let mut talker = Node::start(&place, folder, "Kestrel", Some(&ticket), &talker_flags)?;
    let spoken_ns = talker.audio_started("input")?;
    let heard_ns = listener.audio_started("output")?;
    let first_heard = listener.told_of("talk_started", "Kestrel", 0)?;
    let concealed_at = watch_concealment(&listener, first_heard)?;
    std::thread::sleep(SPEECH);
    let stats = listener.stats()?;
    let concealed = listener.frames()?.concealed;
    let (spoken_cpu, heard_cpu) = (cpu_percent(&talker)?, cpu_percent(&listener)?);
    talker.quit()?;
    listener.quit()?;

    let spoken = Recording::read(&input, spoken_ns)?;
    let heard = Recording::read(&output, heard_ns)?;
    let found = delays(&spoken, &heard);
    let (bar, bar_99th) = if low_delay { (28.0, 50.0) } else { (45.0, 70.0) };
    let measured = median(&found);
    let name = |what: &str| format!("mouth to ear, {mode}: {what}");
    table.held(&name("median"), measured, "ms", bar);
    table.held(&name("99th percentile"), quantile(&found, 0.99), "ms", bar_99th);
    table.shown(&name("windows of 1 s, every 0.5 s"), found.len() as f64, "", "200 at least");

    let during_start = concealed_at.iter().filter(|(ms, _)| *ms <= 200.0).map(|(_, n)| n);
    let after_start = concealed.saturating_sub(during_start.sum());
    table.held(&name("frames concealed after the first 200 ms"), after_start as f64, "", 0.0);
    let early = concealed_at.iter().map(|(ms, frames)| format!("{frames} by {ms:.0} ms"));
    let late =
        later(&stats, first_heard).into_iter().map(|(s, frames)| format!("{frames} by {s} s"));
    let moments: Vec<_> = early.chain(late).take(MOMENTS_SHOWN).collect();
    if !moments.is_empty() {
        table.said(&name("when they were concealed"), &moments.join(", "), "after first heard");
    }

    let encoder = Encoder::new(low_delay, 48_000)?;
    let samples_ms = |samples: usize| samples as f64 * 1_000.0 / f64::from(SAMPLE_RATE);
    let frame = samples_ms(encoder.frame_samples());
    let lookahead = samples_ms(encoder.lookahead());
    let network = median(&of_peers(&stats, "rtt_ms")) / 2.0;
    let hold = median(&of_peers(&stats, "playout_delay_ms"));
    let part = |what: &str| format!("mouth to ear, {mode}, of which: {what}");
    table.shown(&part("until the frame is full"), frame, "ms", "length of a frame");
    table.shown(&part("codec lookahead"), lookahead, "ms", "fixed by Opus");
    table.shown(&part("on the way"), network, "ms", "half of QUIC's round trip");
    table.shown(&part("jitter buffer"), hold, "ms", "median of `playout_delay_ms`");
    table.shown(&part("output lead"), OUTPUT_LEAD_MS, "ms", "mixed before it is heard");
    let rest = measured - frame - lookahead - network - hold - OUTPUT_LEAD_MS;
    table.shown(&part("rest"), rest, "ms", "wakes, coding, sealing");
    table.shown(&format!("talker to one listener, {mode}"), spoken_cpu, "% of a core", "");
    table.shown(&format!("listener of one talker, {mode}"), heard_cpu, "% of a core", "");
    Ok(())
}

/// Each rise in the number of frames that the listener has concealed, over the first seconds:
/// milliseconds since `since_us`, and by how many frames it rose. The node updates its snapshot ten
/// times a second.
fn watch_concealment(listener: &Node, since_us: u64) -> anyhow::Result<Vec<(f64, u64)>> {
    let mut client = listener.client()?;
    let mut rises = Vec::new();
    let mut known = 0;
    loop {
        let passed = ms_between(since_us, unix_us());
        if passed > WATCHED_MS {
            return Ok(rises);
        }
        let answer = client.request(serde_json::json!({"command": "status"}))?;
        let peers = answer["status"]["peers"].as_array().cloned().unwrap_or_default();
        let now: u64 = peers.iter().filter_map(|peer| peer["frames_concealed"].as_u64()).sum();
        if now > known {
            rises.push((passed, now - known));
            known = now;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each later rise in the number of concealed frames: seconds since `since_us`, and by how many
/// frames it rose.
fn later(stats: &[Value], since_us: u64) -> Vec<(u64, u64)> {
    let concealed = |event: &Value| -> u64 {
        let peers = event["peers"].as_array().into_iter().flatten();
        peers.filter_map(|peer| peer["frames_concealed"].as_u64()).sum()
    };
    let rises = stats.windows(2).map(|pair| {
        let passed = ms_between(since_us, at_us(&pair[1]));
        (passed, concealed(&pair[1]).saturating_sub(concealed(&pair[0])))
    });
    rises
        .filter(|(passed, rise)| *rise > 0 && *passed > WATCHED_MS + 1_000.0)
        .map(|(passed, rise)| ((passed / 1_000.0) as u64, rise))
        .collect()
}

/// The values of one field of all peers, from the `stats` events after the first seconds.
fn of_peers(stats: &[Value], name: &str) -> Vec<f64> {
    let since = stats.first().map_or(0, at_us) + 5_000_000;
    stats
        .iter()
        .filter(|event| at_us(event) >= since)
        .flat_map(|event| event["peers"].as_array().into_iter().flatten())
        .filter_map(|peer| peer[name].as_f64())
        .collect()
}

fn cpu_percent(node: &Node) -> anyhow::Result<f64> {
    let lived = ms_between(node.started_us, unix_us());
    Ok(100.0 * node.cpu()?.as_secs_f64() * 1_000.0 / lived)
}

/// Duration of the speech. It yields at least 200 windows with speech in them.
const SPEECH: Duration = Duration::from_secs(112);

/// How long concealment is watched closely, in milliseconds.
const WATCHED_MS: f64 = 5_000.0;

/// How many moments of concealment are listed.
const MOMENTS_SHOWN: usize = 10;

/// How long before it is heard a block for a file is mixed, in milliseconds.
const OUTPUT_LEAD_MS: f64 = 0.5;
