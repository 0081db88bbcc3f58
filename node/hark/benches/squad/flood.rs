//! Garbage sent to a node's port: how it affects the node's memory, and whether a talker is still
//! heard.

use std::{
    fs,
    io::Write,
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hark_keys::{Random, SeededRandom, noise::QUIC_VERSION};

use crate::{
    lan::places,
    node::{Node, Place},
    speech,
    table::Table,
    wire::Capture,
};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let places = places()?;
    let input = speech::write(folder, "speech.wav", 30.0)?;
    let flags = "--listen 0.0.0.0:4400 --no-mdns --output null --input";
    let mut listener = Node::start(&places[0], folder, "Heron", None, &format!("{flags} silence"))?;
    let ticket = listener.ticket()?;
    let flags = format!("{flags} file:{}?loop", input.display());
    let _talker = Node::start(&places[1], folder, "Kestrel", Some(&ticket), &flags)?;
    listener.told_of("talk_started", "Kestrel", 0)?;
    std::thread::sleep(Duration::from_secs(5));

    let program = std::env::current_exe()?;
    let captured = folder.join("captured").display().to_string();
    flooder(&places[0], &program, &["capture", &captured])?;
    // A node may keep the buffers that it has needed once, so the first flood may cost some memory.
    for (kind, what, growth_mib) in [
        ("garbage", "garbage", 8.0),
        ("garbage", "garbage again", 1.0),
        (captured.as_str(), "replayed and truncated", 1.0),
    ] {
        let frames = listener.frames()?;
        let memory = listener.memory("VmRSS")?;
        let cpu = listener.cpu()?;
        let counters = Counters::of(&places[0])?;
        let sent = flooder(&places[2], &program, &[kind, TARGET])?;
        let counted = Counters::of(&places[0])?;
        let cpu = listener.cpu()?.saturating_sub(cpu).as_secs_f64();
        let frames = listener.frames()?.since(frames);
        let grown = listener.memory("VmRSS")? - memory;
        let name = |measure: &str| format!("flood, {what}: {measure}");
        table.said(&name("sent"), sent.trim(), "100,000 a second are asked for");
        let taken = (counted.taken - counters.taken) / FLOOD.as_secs_f64();
        table.shown(&name("read by the node"), taken, "a second", "");
        let full = (counted.full - counters.full) / FLOOD.as_secs_f64();
        table.shown(&name("dropped by the kernel's full queue"), full, "a second", "");
        table.held(&name("concealed"), frames.concealed_percent(), "%", 2.0);
        table.held(&name("memory grown by"), grown, "MiB", growth_mib);
        let share = 100.0 * cpu / FLOOD.as_secs_f64();
        table.shown(&name("the node"), share, "% of a core", "");
        std::thread::sleep(Duration::from_secs(3));
    }
    Ok(())
}

/// Runs this program as the flooder in `place`.
fn flooder(place: &Place, program: &Path, words: &[&str]) -> anyhow::Result<String> {
    let output = place.command(program).arg(FLOODER).args(words).output()?;
    if !output.status.success() || !output.stderr.is_empty() {
        bail!("flooding: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The kernel's counters of UDP in one namespace.
struct Counters {
    taken: f64,
    full: f64,
}

impl Counters {
    fn of(place: &Place) -> anyhow::Result<Self> {
        let snmp = place.run("cat /proc/net/snmp")?;
        let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
        let names = lines.next().context("names")?.split_whitespace();
        let values = lines.next().context("values")?.split_whitespace();
        let all: Vec<(&str, &str)> = names.zip(values).collect();
        let counter = |wanted: &str| {
            let found = all.iter().find(|(name, _)| *name == wanted);
            found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
        };
        Ok(Self { taken: counter("InDatagrams"), full: counter("RcvbufErrors") })
    }
}

/// Runs the flooder. `capture FILE` records all traffic for one second. `garbage ADDRESS` sends a
/// flood of garbage, and `FILE ADDRESS` one of captured datagrams.
pub(crate) fn run(words: &[String]) -> anyhow::Result<()> {
    match words {
        [capture, file] if capture == "capture" => {
            let capture = Capture::start()?;
            std::thread::sleep(Duration::from_secs(1));
            let mut out = fs::File::create(file)?;
            for seen in capture.finish() {
                let length = u16::try_from(seen.payload.len())?;
                out.write_all(&length.to_be_bytes())?;
                out.write_all(&seen.payload)?;
            }
            Ok(())
        }
        [kind, address] => {
            let pool = if kind == "garbage" { garbage() } else { captured(Path::new(kind))? };
            send(&pool, address)
        }
        _ => bail!("wrong words"),
    }
}

/// Sends the datagrams of the pool in turn, again and again, at an even rate.
fn send(pool: &[Vec<u8>], address: &str) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    let start = Instant::now();
    let mut sent: u64 = 0;
    let mut pool = pool.iter().cycle();
    while start.elapsed() < FLOOD {
        let due = start.elapsed().as_micros() as u64 * RATE / 1_000_000;
        while sent < due && start.elapsed() < FLOOD {
            let datagram = pool.next().context("nothing to send")?;
            // If an earlier datagram was refused by ICMP, or if the queue is full, the next one may
            // still be sent.
            let _ = socket.send(datagram);
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    println!("{:.0} a second", sent as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Random bytes, and bytes that look like the packets of handshakes and connections.
fn garbage() -> Vec<Vec<u8>> {
    let random = SeededRandom::new(1);
    let bytes = |length: usize| {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        bytes
    };
    (0..POOL)
        .map(|number| {
            let mut datagram = bytes(1 + number * 7 % 1_200);
            match number % 4 {
                // Random bytes alone.
                0 => {}
                // A short header with a connection id that nobody has.
                1 => datagram[0] = 0x40 | datagram[0] & 0x3f,
                // The Initial packet of a handshake, with our version or with QUIC's own.
                kind => {
                    let version = if kind == 2 { QUIC_VERSION } else { 1 };
                    datagram = vec![0xc0];
                    datagram.extend_from_slice(&version.to_be_bytes());
                    datagram.push(8);
                    datagram.extend_from_slice(&bytes(8));
                    // No source connection id, no token, and 1,100 as the length.
                    datagram.extend_from_slice(&[0, 0, 0x44, 0x4c]);
                    datagram.extend_from_slice(&bytes(1_182));
                }
            }
            datagram
        })
        .collect()
}

/// The datagrams of a capture, each whole and truncated.
fn captured(file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(file)?;
    let (mut rest, mut pool) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (datagram, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        pool.push(datagram.to_vec());
        pool.push(datagram[..datagram.len() * (pool.len() % 17) / 17].to_vec());
        rest = after;
    }
    Ok(pool)
}

/// The first argument when this program is to flood.
pub(crate) const FLOODER: &str = "flooder";

/// The address at which the flooded node listens.
const TARGET: &str = "10.77.0.1:4400";

/// How many datagrams are sent in a second.
const RATE: u64 = 100_000;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(10);

/// How many different datagrams of garbage there are.
const POOL: usize = 4_096;
