//! Asks a router for one port and keeps it: by PCP, or by NAT-PMP if the router speaks nothing
//! else.
//!
//! It is a state machine without I/O: it takes datagrams and the time, and returns datagrams. Its
//! driver must pass in nothing but what the router has sent.
//!
//! ```text
//!  Asking ──granted──> Kept ──epoch lost, or expired──> Asking
//!    │  ^                                          (any) ──release──> Released
//!    └──┴─ Pausing (refused, or no answer)
//! ```

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use hark_keys::{Random, Timestamp};

use super::{PortAnswer, PortRefusal, nat_pmp, pcp};

/// A client of one router, for one UDP port.
pub struct PortClient {
    own: SocketAddrV4,
    nonce: pcp::Nonce,
    phase: Phase,
    pcp: PortAnswer,
    nat_pmp: PortAnswer,
    /// The external address by NAT-PMP, which reports it separately from the port.
    address: Option<Ipv4Addr>,
    /// The external address and port that we had last and would like to have again.
    wish: SocketAddrV4,
    epoch: Option<Epoch>,
    outbox: VecDeque<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Pcp,
    NatPmp,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Waits for an answer; the next request is due at `next`.
    Asking {
        attempts: u32,
        next: Timestamp,
    },
    /// Has a port until `expires`. The renewal is due at `renew`. At `check` the router is asked
    /// whether it still knows the port.
    Kept {
        by: Protocol,
        expires: Timestamp,
        renew: Timestamp,
        check: Timestamp,
    },
    /// Waits until `until` before it asks again.
    Pausing {
        until: Timestamp,
    },
    Released,
}

/// The router's clock as it was last reported, and when that was.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    seconds: u32,
    told: Timestamp,
}

impl PortClient {
    /// Asks for the UDP port of `own`, the address at which the router sees us.
    pub fn new(now: Timestamp, own: SocketAddrV4, random: &Arc<dyn Random>) -> Self {
        let mut nonce = pcp::Nonce::default();
        random.fill(&mut nonce);
        let mut client = Self {
            own,
            nonce,
            phase: Phase::Asking { attempts: 0, next: now },
            pcp: PortAnswer::Awaited,
            nat_pmp: PortAnswer::Awaited,
            address: None,
            wish: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, own.port()),
            epoch: None,
            outbox: VecDeque::new(),
        };
        client.handle_timeout(now);
        client
    }

    /// Handles a datagram from the router.
    pub fn handle_input(&mut self, now: Timestamp, datagram: &[u8]) {
        if matches!(self.phase, Phase::Released) {
            return;
        }
        if let Ok(response) = pcp::Response::decode(datagram) {
            self.handle_pcp(now, response);
        } else if let Ok(response) = nat_pmp::Response::decode(datagram) {
            self.handle_nat_pmp(now, response);
        }
    }

    /// Gives the port back. The client does nothing after that.
    pub fn release(&mut self) {
        match self.phase {
            Phase::Kept { by, .. } => self.ask(by, 0),
            // The router's answer may be under way.
            Phase::Asking { .. } if self.pcp == PortAnswer::Awaited => self.ask(Protocol::Pcp, 0),
            _ => {}
        }
        self.phase = Phase::Released;
    }

    /// To be called at [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        match &mut self.phase {
            Phase::Asking { attempts, next } if *next <= now => {
                *attempts += 1;
                if *attempts > ATTEMPTS {
                    for answer in [&mut self.pcp, &mut self.nat_pmp] {
                        if *answer == PortAnswer::Awaited {
                            *answer = PortAnswer::Silent;
                        }
                    }
                    self.phase = Phase::Pausing { until: now + PAUSE };
                    return;
                }
                let attempts = *attempts;
                *next = now + FIRST_WAIT * (1 << (attempts - 1));
                if self.pcp == PortAnswer::Awaited {
                    self.ask(Protocol::Pcp, LIFETIME);
                }
                // PCP is asked first, so that a router that speaks both does not give two ports.
                if self.nat_pmp == PortAnswer::Awaited
                    && (attempts > 1 || self.pcp != PortAnswer::Awaited)
                {
                    self.ask_by_nat_pmp();
                }
            }
            Phase::Kept { expires, .. } if *expires <= now => self.begin(now),
            Phase::Kept { by, expires, renew, check } => {
                let by = *by;
                if *renew <= now {
                    // At 1/2, 3/4, 7/8 … of the lifetime. (RFC 6887, 11.2.1)
                    let left = expires.saturating_duration_since(now);
                    *renew = now + (left / 2).max(RENEWAL_SPACING);
                    *check = now + CHECK_INTERVAL;
                    self.ask(by, LIFETIME);
                } else if *check <= now {
                    *check = now + CHECK_INTERVAL;
                    let client = *self.own.ip();
                    self.send(match by {
                        Protocol::Pcp => pcp::Request::Announce { client }.encode(),
                        Protocol::NatPmp => nat_pmp::Request::Address.encode(),
                    });
                }
            }
            Phase::Pausing { until } if *until <= now => self.begin(now),
            Phase::Asking { .. } | Phase::Pausing { .. } | Phase::Released => {}
        }
    }

    /// The next datagram for the router.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// When [`Self::handle_timeout`] must be called next, if at all.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Asking { next, .. } => Some(next),
            Phase::Kept { expires, renew, check, .. } => Some(expires.min(renew).min(check)),
            Phase::Pausing { until } => Some(until),
            Phase::Released => None,
        }
    }

    /// The result of asking by PCP.
    pub fn pcp(&self) -> PortAnswer {
        self.pcp
    }

    /// The result of asking by NAT-PMP, which is asked only if PCP does not answer at once.
    pub fn nat_pmp(&self) -> PortAnswer {
        self.nat_pmp
    }

    fn begin(&mut self, now: Timestamp) {
        (self.pcp, self.nat_pmp) = (PortAnswer::Awaited, PortAnswer::Awaited);
        (self.address, self.epoch) = (None, None);
        self.phase = Phase::Asking { attempts: 0, next: now };
        self.handle_timeout(now);
    }

    fn handle_pcp(&mut self, now: Timestamp, response: pcp::Response) {
        let lifetime = Duration::from_secs(response.lifetime.into());
        match response.about {
            // The router speaks PCP, so the version that it does not support is NAT-PMP's. (RFC
            // 6887, 9)
            _ if response.result == UNSUPPORTED_VERSION => {
                if self.nat_pmp == PortAnswer::Awaited {
                    self.nat_pmp = PortAnswer::Unsupported;
                }
            }
            pcp::About::Announce if response.result == 0 => {
                if self.keeps(Protocol::Pcp) && self.has_lost(now, response.epoch) {
                    self.begin(now);
                }
            }
            pcp::About::Announce => {}
            pcp::About::Map { nonce, port, external } => {
                // [PROTO-5.5] The answer belongs to another client. (RFC 6887, 11.4)
                if nonce != self.nonce || port != self.own.port() || self.keeps(Protocol::NatPmp) {
                    return;
                }
                match external {
                    Some(external) if response.result == 0 && usable(external, lifetime) => {
                        self.pcp = PortAnswer::Mapped(external);
                        self.keep(now, Protocol::Pcp, external, lifetime);
                        self.epoch = Some(Epoch { seconds: response.epoch, told: now });
                    }
                    _ => {
                        self.pcp = match response.result {
                            4 => PortAnswer::Unsupported,
                            result => PortAnswer::Refused(PortRefusal::of_pcp(result)),
                        };
                        self.was_refused(now, Protocol::Pcp, lifetime);
                    }
                }
            }
        }
    }

    fn handle_nat_pmp(&mut self, now: Timestamp, response: nat_pmp::Response) {
        if response.result == u16::from(UNSUPPORTED_VERSION) {
            // The version that this router does not support is PCP's.
            return self.pcp_is_unsupported(now);
        }
        if self.keeps(Protocol::Pcp) || self.nat_pmp == PortAnswer::Silent {
            return;
        }
        match response.about {
            _ if response.result != 0 => {
                self.nat_pmp = match response.result {
                    5 => PortAnswer::Unsupported,
                    result => PortAnswer::Refused(PortRefusal::of_nat_pmp(result)),
                };
                self.was_refused(now, Protocol::NatPmp, Duration::ZERO);
            }
            Some(nat_pmp::About::Address(address)) => {
                let news = self.address.replace(address) != Some(address);
                if self.keeps(Protocol::NatPmp) {
                    if self.has_lost(now, response.epoch) || news {
                        self.begin(now);
                    }
                } else if matches!(self.phase, Phase::Asking { .. }) {
                    self.epoch = Some(Epoch { seconds: response.epoch, told: now });
                    self.ask(Protocol::NatPmp, LIFETIME);
                }
            }
            Some(nat_pmp::About::Map { port, external, lifetime }) => {
                let Some(address) = self.address.filter(|_| port == self.own.port()) else {
                    return;
                };
                let (external, lifetime) =
                    (SocketAddrV4::new(address, external), Duration::from_secs(lifetime.into()));
                if usable(external, lifetime) {
                    self.nat_pmp = PortAnswer::Mapped(external);
                    self.keep(now, Protocol::NatPmp, external, lifetime);
                }
            }
            None => {}
        }
    }

    /// Continues with NAT-PMP at once.
    fn pcp_is_unsupported(&mut self, now: Timestamp) {
        if self.pcp == PortAnswer::Awaited {
            self.pcp = PortAnswer::Unsupported;
            if let Phase::Asking { attempts: 1, .. } = self.phase {
                self.phase = Phase::Asking { attempts: 0, next: now };
                self.handle_timeout(now);
            }
        }
    }

    fn keep(&mut self, now: Timestamp, by: Protocol, external: SocketAddrV4, lifetime: Duration) {
        self.wish = external;
        self.phase = Phase::Kept {
            by,
            expires: now + lifetime,
            renew: now + lifetime / 2,
            check: now + CHECK_INTERVAL,
        };
    }

    fn was_refused(&mut self, now: Timestamp, by: Protocol, lasting: Duration) {
        let over = match self.phase {
            Phase::Asking { .. } => {
                self.pcp != PortAnswer::Awaited && self.nat_pmp != PortAnswer::Awaited
            }
            Phase::Kept { by: kept, .. } => kept == by,
            Phase::Pausing { .. } | Phase::Released => false,
        };
        if over {
            self.phase = Phase::Pausing { until: now + lasting.clamp(PAUSE, LONGEST_PAUSE) };
        } else if let Phase::Asking { attempts: 1, .. } = self.phase {
            self.phase = Phase::Asking { attempts: 0, next: now };
            self.handle_timeout(now);
        }
    }

    fn keeps(&self, protocol: Protocol) -> bool {
        matches!(self.phase, Phase::Kept { by, .. } if by == protocol)
    }

    /// Whether the router has restarted since its clock was last reported. (RFC 6887, 8.5)
    fn has_lost(&mut self, now: Timestamp, seconds: u32) -> bool {
        let Some(before) = self.epoch.replace(Epoch { seconds, told: now }) else { return false };
        let ours = now.saturating_duration_since(before.told).as_secs();
        let Some(theirs) = seconds.checked_sub(before.seconds) else {
            return before.seconds - seconds > 1;
        };
        let theirs = u64::from(theirs);
        ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16
    }

    fn ask_by_nat_pmp(&mut self) {
        if self.address.is_some() {
            self.ask(Protocol::NatPmp, LIFETIME);
        } else {
            self.send(nat_pmp::Request::Address.encode());
        }
    }

    fn ask(&mut self, by: Protocol, lifetime: u32) {
        let port = self.own.port();
        self.send(match by {
            Protocol::Pcp => pcp::Request::Map {
                client: *self.own.ip(),
                nonce: self.nonce,
                port,
                suggested: self.wish,
                lifetime,
            }
            .encode(),
            Protocol::NatPmp => {
                // (RFC 6886, 3.4)
                let suggested = if lifetime == 0 { 0 } else { self.wish.port() };
                nat_pmp::Request::Map { port, suggested, lifetime }.encode()
            }
        });
    }

    fn send(&mut self, datagram: Vec<u8>) {
        if self.outbox.len() == OUTBOX_MAX {
            self.outbox.pop_front();
        }
        self.outbox.push_back(datagram);
    }
}

/// Whether the granted address and lifetime can be used.
fn usable(external: SocketAddrV4, lifetime: Duration) -> bool {
    external.port() != 0
        && !external.ip().is_unspecified()
        && !external.ip().is_broadcast()
        && !external.ip().is_multicast()
        && !lifetime.is_zero()
}

/// The result "unsupported version", which has the same number in both protocols.
const UNSUPPORTED_VERSION: u8 = 1;

/// Lifetime in seconds that we ask for (RFC 6886, 3.3). If the process is killed, its port stays
/// open for that long.
const LIFETIME: u32 = 7200;

/// The wait after the first request, doubled after each further one (RFC 6886, 3.1). PCP's own 3 s
/// would be long for a router one hop away.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Requests before the router counts as silent, which takes 16 s.
const ATTEMPTS: u32 = 6;

/// How long a router is left alone that is silent or refuses. A lower value finds sooner that its
/// owner has switched the protocol on.
const PAUSE: Duration = Duration::from_secs(300);

/// The longest such pause, however long the router says that its refusal lasts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);

/// The time between renewals that are not answered. (RFC 6887, 11.2.1)
const RENEWAL_SPACING: Duration = Duration::from_secs(4);

/// How soon a restart of the router is noticed, at the cost of one small datagram each time.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Datagrams that wait for the driver. The oldest is dropped, since each would be sent again.
const OUTBOX_MAX: usize = 8;

#[cfg(test)]
mod tests;
