//! Addresses and sockets of this machine, its router, and what others have reported to a running
//! node. Beyond this machine it asks only the router and name servers, and it asks to join a
//! multicast group.

mod names;
mod outside;
mod router;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use futures::StreamExt;
use hark_mesh::AddressKind;
use hark_node::{
    link::{Binder, RECEIVE_BUFFER, UdpBinder},
    reach::names::PeerPlace,
};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::Finding;
use crate::platform;

pub(super) fn check(places: &[PeerPlace], home: &Path) -> Vec<Finding> {
    let addresses = match interfaces() {
        Ok(addresses) => addresses,
        Err(error) => {
            let advice = "nothing is known about networks: try as another user";
            return vec![Finding::problem("addresses", error.to_string(), advice)];
        }
    };
    let mut findings = vec![
        judge_addresses(&addresses),
        route("IPv4 route", SocketAddr::from((DOCUMENTATION_V4, 9))),
        route("IPv6 route", SocketAddr::from((DOCUMENTATION_V6, 9))),
    ];
    findings.extend(judge_sockets(
        exchange(Ipv4Addr::LOCALHOST.into()),
        exchange(Ipv6Addr::LOCALHOST.into()),
    ));
    findings.extend(platform::lets_in().map(judge_firewall));
    findings.push(match granted_buffer() {
        Ok(bytes) => judge_buffer(bytes),
        Err(error) => Finding::warning("receive buffer", error.to_string(), "see UDP above"),
    });
    findings.push(judge_mdns(&addresses, join_mdns));
    findings.push(router::check(&addresses));
    findings.push(outside::check(home));
    findings.extend(names::check(places));
    findings
}

/// The addresses that a node would find when it starts.
fn interfaces() -> io::Result<Vec<IpAddr>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = UdpBinder.interfaces()?;
        let mut addresses = Vec::new();
        while let Ok(Some((address, up))) = tokio::time::timeout(QUIET, stream.next()).await {
            if up && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    })
}

fn judge_addresses(addresses: &[IpAddr]) -> Finding {
    let check = "addresses";
    let values: Vec<_> = addresses
        .iter()
        .map(|address| json!({"address": address, "kind": AddressKind::of(*address).word()}))
        .collect();
    let shown: Vec<_> = addresses
        .iter()
        .filter(|address| {
            !matches!(AddressKind::of(**address), AddressKind::Loopback | AddressKind::LinkLocal)
        })
        .map(|address| format!("{address} ({})", AddressKind::of(*address).word()))
        .collect();
    let has = |kind| addresses.iter().any(|address| AddressKind::of(*address) == kind);
    let mut finding = if shown.is_empty() {
        let advice = "connect to a network: as it is, only programs on this machine can be reached";
        Finding::problem(check, "none that others could reach", advice)
    } else {
        Finding::ok(check, shown.join(", "))
    };
    let hint = if has(AddressKind::Public) {
        Some("a public address is reachable from everywhere if firewalls let UDP in, see below")
    } else if has(AddressKind::Shared) {
        Some(
            "100.64.0.0/10 is what providers use behind a NAT of their own, where no port can be \
             forwarded, and what some VPNs use, where others in the VPN reach you",
        )
    } else if has(AddressKind::Private) {
        Some("reached from the same LAN or VPN; from elsewhere as the router allows, see below")
    } else {
        None
    };
    if finding.advice.is_none() {
        finding.advice = hint.map(str::to_owned);
    }
    finding.with(json!(values))
}

/// Asks the system which of its own addresses it would send from. Nothing is sent.
fn route(check: &'static str, to: SocketAddr) -> Finding {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    match from {
        Ok(from) if !from.ip().is_loopback() => {
            Finding::ok(check, format!("to other networks from {}", from.ip()))
                .with(json!({"from": from.ip()}))
        }
        // Squads on one LAN, or with addresses of the other family, need no such route.
        _ => Finding::ok(check, "none to other networks").with(json!({"from": null})),
    }
}

/// Sends itself a datagram through a socket like a node's.
fn exchange(address: IpAddr) -> io::Result<()> {
    let any = if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let port = socket.local_addr()?.port();
    socket.send_to(HELLO, (address, port))?;
    let mut buffer = [0; HELLO.len()];
    // Anybody may send to an open port, so only our own datagram counts.
    for _ in 0..STRAY_DATAGRAMS {
        let (length, _) = socket.recv_from(&mut buffer)?;
        if buffer[..length] == *HELLO {
            return Ok(());
        }
    }
    Err(io::Error::other("only datagrams of others arrive"))
}

fn judge_sockets(v4: io::Result<()>, v6: io::Result<()>) -> [Finding; 2] {
    let values = |works: bool| json!({ "works": works });
    let works = "a socket can be opened, and sends and receives on this machine";
    let first = match &v4 {
        Ok(()) => Finding::ok("UDP on IPv4", works),
        Err(error) => {
            let advice = if v6.is_ok() {
                "allow UDP for hark in the firewall; until then use `hark talk --listen [::]:0`"
            } else {
                "allow UDP for hark in the firewall or sandbox that it runs in"
            };
            Finding::problem("UDP on IPv4", error.to_string(), advice)
        }
    };
    let second = match &v6 {
        Ok(()) => Finding::ok("UDP on IPv6", works),
        Err(error) => {
            let advice = "no harm where others have IPv4; else switch IPv6 on";
            Finding::warning("UDP on IPv6", error.to_string(), advice)
        }
    };
    [first.with(values(v4.is_ok())), second.with(values(v6.is_ok()))]
}

/// The receive buffer in bytes that the system grants to a socket like a node's.
fn granted_buffer() -> io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // A smaller buffer than requested is no error: the size read afterwards counts.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let bytes = socket.recv_buffer_size()?;
    Ok(platform::usable_buffer(bytes))
}

/// Judges whether the system's firewall lets others reach this program first.
fn judge_firewall(lets_in: Result<(), String>) -> Finding {
    match lets_in {
        Ok(()) => Finding::ok("firewall", "a rule lets others reach Hark first"),
        Err(command) => Finding::warning(
            "firewall",
            "no rule lets others reach Hark first: paths to them open from this side only",
            format!("as an administrator: `{command}`"),
        ),
    }
}

fn judge_buffer(bytes: usize) -> Finding {
    let check = "receive buffer";
    let found =
        format!("{} KiB granted of the {} KiB asked for", bytes / 1024, RECEIVE_BUFFER / 1024);
    let advice = platform::raise_buffer(RECEIVE_BUFFER);
    let finding = if bytes >= RECEIVE_BUFFER {
        Finding::ok(check, found)
    } else if bytes >= ENOUGH_BUFFER {
        let advice = Some(format!("enough for a squad; to withstand floods: {advice}"));
        Finding { advice, ..Finding::ok(check, found) }
    } else {
        Finding::warning(check, found, format!("speech may be lost at busy moments: {advice}"))
    };
    finding.with(json!({"granted_bytes": bytes, "asked_bytes": RECEIVE_BUFFER}))
}

/// Joins the multicast group in which nodes of a LAN find each other, on the interface of
/// `address`.
fn join_mdns(address: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, MDNS_PORT)).into())?;
    socket.join_multicast_v4(&MDNS_GROUP, &address)
}

fn judge_mdns(addresses: &[IpAddr], join: impl Fn(Ipv4Addr) -> io::Result<()>) -> Finding {
    let check = "mDNS";
    let advice = "members on this LAN are not found by themselves: let UDP port 5353 through, or \
        use tickets and --peer";
    let lan: Vec<_> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(v4) if !v4.is_loopback() => Some(*v4),
            _ => None,
        })
        .collect();
    let joined: Vec<_> = lan.iter().map(|address| (address, join(*address))).collect();
    let failed =
        joined.iter().find_map(|(address, outcome)| Some((address, outcome.as_ref().err()?)));
    match failed {
        _ if lan.is_empty() => Finding::warning(check, "no IPv4 network to look in", advice),
        Some((address, error)) => {
            Finding::warning(check, format!("cannot listen at {address}: {error}"), advice)
        }
        None => {
            let shown: Vec<_> = lan.iter().map(ToString::to_string).collect();
            Finding::ok(check, format!("can listen for members on the LAN at {}", shown.join(", ")))
        }
    }
}

/// Documentation addresses that no machine has (RFC 5737, RFC 3849). Asking for the route to them
/// disturbs nobody.
const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

const MDNS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const MDNS_PORT: u16 = 5353;

/// How long the next interface may take to be reported.
const QUIET: Duration = Duration::from_millis(200);
/// How many addresses are listed at most.
const ADDRESSES_MAX: usize = 64;
/// How long a datagram from this machine to itself may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many datagrams of others are skipped.
const STRAY_DATAGRAMS: usize = 16;
const HELLO: &[u8] = b"hark doctor";
/// Enough for 250 ms of eight talkers. Systems grant about this much by default.
const ENOUGH_BUFFER: usize = 200 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn who_has_no_rule_in_the_firewall_is_told_the_command() {
        let finding = judge_firewall(Err("netsh rule".to_owned()));
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.advice.is_some_and(|advice| advice.contains("`netsh rule`")));
        assert_eq!(judge_firewall(Ok(())).verdict, Verdict::Ok);
    }

    #[test]
    fn addresses_come_with_what_they_are_good_for() {
        let finding = judge_addresses(&addresses(&["127.0.0.1", "192.168.1.5", "fe80::1"]));
        assert_eq!(finding.verdict, Verdict::Ok);
        assert_eq!(finding.found, "192.168.1.5 (private)");
        assert!(finding.advice.is_some_and(|advice| advice.contains("router")));
        let finding = judge_addresses(&addresses(&["100.70.0.1"]));
        assert!(finding.advice.is_some_and(|advice| advice.contains("100.64.0.0/10")));
        let finding = judge_addresses(&addresses(&["192.168.1.5", "2001:db8::7"]));
        assert!(finding.advice.is_some_and(|advice| advice.contains("firewalls")));
        let finding = judge_addresses(&addresses(&["127.0.0.1", "::1"]));
        assert_eq!(finding.verdict, Verdict::Problem);
        assert_eq!(finding.values[0]["kind"], "this machine only");
    }

    #[test]
    fn a_missing_family_is_as_bad_as_it_is() {
        let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let verdicts = |v4, v6| judge_sockets(v4, v6).map(|finding| finding.verdict);
        assert_eq!(verdicts(Ok(()), Ok(())), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(Ok(()), refused()), [Verdict::Ok, Verdict::Warning]);
        assert_eq!(verdicts(refused(), Ok(())), [Verdict::Problem, Verdict::Ok]);
        let [v4, _] = judge_sockets(refused(), Ok(()));
        assert!(v4.advice.is_some_and(|advice| advice.contains("--listen [::]:0")));
    }

    #[test]
    fn a_datagram_to_oneself_arrives() {
        exchange(Ipv4Addr::LOCALHOST.into()).expect("loopback works everywhere");
    }

    #[test]
    fn a_small_receive_buffer_is_named_with_the_cure() {
        assert_eq!(judge_buffer(RECEIVE_BUFFER).advice, None);
        let usual = judge_buffer(212_992);
        assert_eq!(usual.verdict, Verdict::Ok);
        assert_eq!(usual.found, "208 KiB granted of the 4096 KiB asked for");
        assert!(usual.advice.is_some());
        assert_eq!(judge_buffer(16 * 1024).verdict, Verdict::Warning);
    }

    #[test]
    fn mdns_is_tried_on_every_lan() {
        let all = addresses(&["127.0.0.1", "192.168.1.5", "10.0.0.2", "fd00::5"]);
        let finding = judge_mdns(&all, |_| Ok(()));
        assert_eq!(finding.verdict, Verdict::Ok);
        assert!(finding.found.ends_with("192.168.1.5, 10.0.0.2"), "{}", finding.found);
        let finding = judge_mdns(&all, |address| {
            assert!(!address.is_loopback());
            Err(io::ErrorKind::AddrInUse.into())
        });
        assert_eq!(finding.verdict, Verdict::Warning);
        let alone = judge_mdns(&addresses(&["127.0.0.1"]), |_| Ok(()));
        assert_eq!(alone.verdict, Verdict::Warning);
    }
}
