use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The datagrams that have passed, in order.
type Datagrams = Vec<(Direction, Vec<u8>)>;

/// The direction of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the member behind the relay.
    In,
    /// From the member behind the relay.
    Out,
}

/// Stands between a member and one that dials it, and records all datagrams between them.
pub struct Relay {
    front: SocketAddr,
    back: UdpSocket,
    target: SocketAddr,
    seen: Seen,
}

impl Relay {
    /// Passes the datagrams of one dialler on to `target`, and the answers back. Runs until the
    /// test ends.
    pub fn before(target: SocketAddr) -> Self {
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let (front, back) = (socket(), socket());
        let address = front.local_addr().expect("it is bound");
        let seen = Seen::default();
        let relay = Self { front: address, back: copy(&back), target, seen: seen.clone() };
        let dialler = Arc::new(Mutex::new(None));
        {
            let (front, back, seen) = (copy(&front), copy(&back), seen.clone());
            let dialler = Arc::clone(&dialler);
            forward(front, seen, Direction::In, move |datagram, from| {
                *dialler.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                // A datagram may be lost.
                let _ = back.send_to(datagram, target);
            });
        }
        forward(back, seen, Direction::Out, move |datagram, _| {
            let dialler = *dialler.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(dialler) = dialler {
                let _ = front.send_to(datagram, dialler);
            }
        });
        relay
    }

    /// The address to dial.
    pub fn address(&self) -> SocketAddr {
        self.front
    }

    /// All datagrams so far.
    pub fn seen(&self) -> Datagrams {
        self.seen.lock().clone()
    }

    /// All datagrams, as soon as there are more than `count`.
    pub fn wait_beyond(&self, count: usize) -> Datagrams {
        let seen = self.seen.lock();
        let wait = self.seen.0.1.wait_timeout_while(seen, PATIENCE, |seen| seen.len() <= count);
        let (seen, wait) = wait.unwrap_or_else(PoisonError::into_inner);
        assert!(!wait.timed_out(), "no more than {count} datagrams pass the relay");
        seen.clone()
    }

    /// Sends this datagram to the member behind it, from the same address as the dialler's
    /// datagrams.
    pub fn inject(&self, datagram: &[u8]) {
        // A datagram may be lost.
        let _ = self.back.send_to(datagram, self.target);
    }
}

#[derive(Clone, Default)]
struct Seen(Arc<(Mutex<Datagrams>, Condvar)>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Datagrams> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy(socket: &UdpSocket) -> UdpSocket {
    socket.try_clone().expect("another handle of the socket")
}

fn forward(
    socket: UdpSocket,
    seen: Seen,
    direction: Direction,
    pass: impl Fn(&[u8], SocketAddr) + Send + 'static,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            // The error may come from a port that is closed now but may soon be open.
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let datagram = &buffer[..length];
            pass(datagram, from);
            seen.lock().push((direction, datagram.to_vec()));
            seen.0.1.notify_all();
        }
    });
}

/// How long the next datagram may take. Heartbeats alone come more often than that.
const PATIENCE: Duration = Duration::from_secs(20);
