//! The loop that a relay is compared with: it opens each packet, seals it for each listener and
//! sends it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::{Command, Stdio},
};

use anyhow::Context;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use socket2::{SockAddr, SockRef};

use crate::{
    clock::{short, stamp},
    process::Process,
    sockets::{BARE_INDEX, FAST, FORWARDED, OVERHEAD},
};

/// The loop in a process of its own, and the socket that sends to it.
pub(crate) struct Bare {
    pub(crate) process: Process,
    socket: UdpSocket,
    address: SocketAddr,
    key: LessSafeKey,
}

impl Bare {
    /// Starts this program a second time, as a loop that sends to `listeners`.
    pub(crate) fn start(listeners: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no input")?;
        for listener in listeners {
            writeln!(stdin, "{listener}")?;
        }
        drop(stdin);
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim().parse().context("the bare loop says no address")?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self { process: Process(child), socket, address, key: key()? })
    }

    /// Sends a frame of a talker to the loop.
    pub(crate) fn send(&self, talker: usize) -> anyhow::Result<()> {
        let mut packet = [0; PACKET];
        packet[0] = FAST;
        packet[1..5].copy_from_slice(&u32::try_from(talker)?.to_be_bytes());
        packet[5..9].copy_from_slice(&short(stamp()).to_be_bytes());
        seal(&self.key, 0, &mut packet)?;
        self.socket.send_to(&packet, self.address)?;
        Ok(())
    }
}

/// Runs the loop. It reads its listeners from standard input, and prints its address on standard
/// output.
pub(crate) fn run() -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The same size as the relay requests.
    SockRef::from(&socket).set_recv_buffer_size(hark_node::link::RECEIVE_BUFFER)?;
    let mut listeners = Vec::new();
    for line in std::io::stdin().lines() {
        listeners.push((SockAddr::from(line?.parse::<SocketAddr>()?), key()?));
    }
    println!("{}", socket.local_addr()?);
    let talkers: Result<Vec<_>, _> = listeners.iter().map(|_| key()).collect();
    let talkers = talkers?;
    let sending = SockRef::from(&socket);
    let mut packet = [0; 1_500];
    let mut counter = 0;
    loop {
        let length = socket.recv(&mut packet)?;
        anyhow::ensure!(length == PACKET, "not from here");
        let talker = u32::from_be_bytes(std::array::from_fn(|byte| packet[1 + byte])) as usize;
        let (header, sealed) = packet[..PACKET].split_at_mut(HEADER);
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let opened = talkers[talker].open_in_place(nonce, Aad::from(&*header), sealed);
        let opened = opened.ok().context("not sealed here")?;
        let mut out = [0; PACKET];
        out[0] = FAST;
        out[1..5].copy_from_slice(&BARE_INDEX);
        out[5..HEADER].copy_from_slice(&header[5..]);
        for (number, (address, key)) in listeners.iter().enumerate() {
            if number != talker {
                out[HEADER..HEADER + PAYLOAD].copy_from_slice(opened);
                counter += 1;
                seal(key, counter, &mut out)?;
                // A packet for which there is no room is lost, as at a relay.
                let _ = sending.send_to(&out, address);
            }
        }
    }
}

fn key() -> anyhow::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).ok().context("no key")?;
    Ok(LessSafeKey::new(key))
}

fn seal(key: &LessSafeKey, counter: u64, packet: &mut [u8; PACKET]) -> anyhow::Result<()> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let (header, rest) = packet.split_at_mut(HEADER);
    let (sealed, end) = rest.split_at_mut(PAYLOAD);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), sealed);
    end.copy_from_slice(tag.ok().context("not sealed")?.as_ref());
    Ok(())
}

/// The argument that makes this program run the loop.
pub(crate) const ARGUMENT: &str = "--bare-loop";

const HEADER: usize = 9;
const PAYLOAD: usize = 1 + FORWARDED;
const PACKET: usize = OVERHEAD + PAYLOAD;
