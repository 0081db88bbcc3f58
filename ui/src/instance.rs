//! One window for each home: a second start brings the first window to the front, and hands it the
//! link by which it was started.
//!
//! The first start locks `window.lock` in the home, listens on the loopback interface, and writes
//! `window.json`: `{"address": "127.0.0.1:PORT", "token": "…"}`. Both ends prove to each other that
//! they have the token before a link is sent, with the proofs of the local API
//! ([`hark_node::token`]): a person who has a link can join by it.
//!
//! ```text
//! second start               first window
//! NC                    ─>
//!                       <─   NN HMAC(token, "node NC NN")
//! HMAC(token, "client NC NN") LINK   ─>
//!                       <─   ok
//! ```

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use hark_node::{
    random::SystemRandom,
    store::{Files, Guard, Home, StoreError, SystemDisk},
    token::{ApiToken, Nonces, Prover, is_nonce, nonce},
};
use serde::{Deserialize, Serialize};

use crate::{backend::Repaint, start::passphrase};

/// What a start of the program is.
pub enum Instance {
    /// No window of this home is open.
    First(Doorbell),
    /// The window that is open has taken over what this start was for.
    HandedOver,
}

/// Where later starts ring. No other window of the home opens as long as it is there.
pub struct Doorbell {
    listener: TcpListener,
    token: ApiToken,
    lock: Box<dyn Guard>,
}

#[derive(Deserialize, Serialize)]
struct Description {
    address: SocketAddr,
    token: String,
}

impl Instance {
    /// Hangs up the doorbell of a home, or hands `link` over to its window. An empty link only
    /// brings the window to the front.
    ///
    /// Fails if the home cannot be opened, or if the window that is open does not answer.
    pub fn of(home: &Path, link: &str) -> anyhow::Result<Self> {
        Home::open(home, passphrase())?;
        let files = Files(Arc::new(SystemDisk));
        let path = home.join(DESCRIPTION);
        let lock = match files.lock(&home.join(LOCK)) {
            Ok(lock) => lock,
            Err(StoreError::Running(_)) => {
                let text = files.read_text(&path)?;
                let told = text.and_then(|text| serde_json::from_str(&text).ok());
                let there: Description = told.ok_or_else(silent)?;
                let token = ApiToken::read(&there.token).ok_or_else(silent)?;
                hand_over(there.address, &token, link).map_err(|_| silent())?;
                return Ok(Self::HandedOver);
            }
            Err(error) => return Err(error.into()),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let token = ApiToken::generate(&SystemRandom);
        let address = listener.local_addr()?;
        let description = Description { address, token: token.text().to_owned() };
        files.write(&path, &serde_json::to_vec(&description)?)?;
        Ok(Self::First(Doorbell { listener, token, lock }))
    }
}

impl Doorbell {
    /// Listens by a thread for as long as the program runs. Each link that was handed over comes
    /// out, an empty one only asks for the window.
    pub fn open(self, repaint: Repaint) -> io::Result<mpsc::Receiver<String>> {
        let (sender, links) = mpsc::sync_channel(LINKS_MAX);
        let thread = std::thread::Builder::new().name("hark-bell".to_owned());
        thread.spawn(move || {
            let Self { listener, token, lock: _lock } = self;
            for stream in listener.incoming() {
                // A window that does not draw refuses links once too many wait.
                let queue = |link| sender.try_send(link).is_ok();
                if stream.and_then(|stream| take_over(&stream, &token, queue)).is_ok() {
                    repaint();
                }
            }
        })?;
        Ok(links)
    }
}

fn silent() -> anyhow::Error {
    anyhow::anyhow!("Hark is open already, and its window does not answer")
}

/// Hands a link to the window at this address.
fn hand_over(address: SocketAddr, token: &ApiToken, link: &str) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let mut lines = Lines::new(&stream)?;
    let client = nonce(&SystemRandom);
    lines.write(&client)?;
    let answer = lines.read()?;
    let (node, proof) = answer.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
    let nonces = Nonces { client: &client, node };
    if !is_nonce(node) || !token.is_proof(proof, Prover::Node, nonces) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // A link is one line.
    let link = link.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.write(&format!("{} {link}", token.prove(Prover::Client, nonces)))?;
    if lines.read()? == "ok" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Takes the link that a later start hands over, unless `queue` has no room for it.
fn take_over(
    stream: &TcpStream,
    token: &ApiToken,
    queue: impl FnOnce(String) -> bool,
) -> io::Result<()> {
    let mut lines = Lines::new(stream)?;
    let client = lines.read()?;
    if !is_nonce(&client) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let node = nonce(&SystemRandom);
    let nonces = Nonces { client: &client, node: &node };
    lines.write(&format!("{node} {}", token.prove(Prover::Node, nonces)))?;
    let answer = lines.read()?;
    let (proof, link) = answer.split_once(' ').unwrap_or((&answer, ""));
    if !token.is_proof(proof, Prover::Client, nonces) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if !queue(link.to_owned()) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    lines.write("ok")
}

/// Lines of a connection whose other end is anybody.
struct Lines<'a> {
    reader: BufReader<io::Take<&'a TcpStream>>,
    writer: &'a TcpStream,
}

impl<'a> Lines<'a> {
    fn new(stream: &'a TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream.take(BYTES_MAX)), writer: stream })
    }

    fn read(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.writer.write_all(format!("{line}\n").as_bytes())
    }
}

/// The files in the home.
const LOCK: &str = "window.lock";
const DESCRIPTION: &str = "window.json";

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many bytes one connection may send: two proofs and a long link.
const BYTES_MAX: u64 = 16 * 1024;

/// How many links wait to be drawn. Further ones are refused.
const LINKS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn first(home: &Path) -> Doorbell {
        match Instance::of(home, "").expect("the home opens") {
            Instance::First(bell) => bell,
            Instance::HandedOver => panic!("there is no window yet"),
        }
    }

    fn open(bell: Doorbell) -> (mpsc::Receiver<String>, mpsc::Receiver<()>) {
        let (sender, drawn) = mpsc::channel();
        // A test that has ended waits for no drawing.
        let repaint: Repaint = Arc::new(move || {
            let _ = sender.send(());
        });
        (bell.open(repaint).expect("threads start"), drawn)
    }

    #[test]
    fn a_second_start_hands_its_link_to_the_first() {
        let home = tempfile::tempdir().expect("a folder");
        let (links, drawn) = open(first(home.path()));
        for (link, told) in [("", ""), ("hark:abc def\n", "hark:abc def")] {
            let second = Instance::of(home.path(), link).expect("the window answers");
            assert!(matches!(second, Instance::HandedOver));
            drawn.recv().expect("the window is drawn");
            assert_eq!(links.try_recv().as_deref(), Ok(told));
        }
    }

    /// Regression: a start was told that its link was taken when there was no room for it.
    #[test]
    fn a_link_too_many_is_refused() {
        let home = tempfile::tempdir().expect("a folder");
        let (links, _drawn) = open(first(home.path()));
        for _ in 0..LINKS_MAX {
            Instance::of(home.path(), "hark:abc").expect("the window answers");
        }
        assert!(Instance::of(home.path(), "hark:abc").is_err());
        assert_eq!(links.try_iter().count(), LINKS_MAX);
    }

    #[test]
    fn each_home_has_a_window_of_its_own() {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let _bells = homes.each_ref().map(|home| first(home.path()));
    }

    #[test]
    fn a_window_that_was_killed_leaves_the_home_free() {
        let home = tempfile::tempdir().expect("a folder");
        drop(first(home.path()));
        drop(first(home.path()));
    }

    /// Another program may listen at the address of a window that has ended.
    #[test]
    fn no_link_is_shown_to_a_program_that_does_not_know_the_token() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let other = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("it connects");
            let wrong = ApiToken::generate(&SystemRandom);
            take_over(&stream, &wrong, |_| true).map_err(|error| error.kind())
        });
        let token = ApiToken::generate(&SystemRandom);
        let refused = hand_over(address, &token, "hark:secret").expect_err("a wrong proof");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(other.join().expect("it ends"), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn nothing_is_taken_from_a_program_that_does_not_know_the_token() {
        let home = tempfile::tempdir().expect("a folder");
        let bell = first(home.path());
        let address = bell.listener.local_addr().expect("bound");
        let (links, _drawn) = open(bell);
        for line in ["", "hello\n", &format!("{}\nproof hark:x\n", "ab".repeat(32))] {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.write_all(line.as_bytes()).expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("open");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(!answer.contains("ok"), "{answer}");
        }
        assert_eq!(links.try_recv(), Err(mpsc::TryRecvError::Empty));
    }
}
