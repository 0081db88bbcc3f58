//! Whether the router maps a port that is reachable from outside: asks for one, and gives it back.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use hark_mesh::AddressKind;
use hark_node::{
    clock::Clock,
    random::SystemRandom,
    reach::ports::{self, PortAnswer, PortReport, Surroundings, System},
};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::Finding;

pub(super) fn check(addresses: &[IpAddr]) -> Finding {
    match ask() {
        Ok(report) => judge(report, addresses),
        Err(error) => Finding::warning(CHECK, error.to_string(), BY_HAND),
    }
}

/// The router's answer when it is asked in the way that a node asks.
fn ask() -> io::Result<PortReport> {
    let Some(gateway) = System.gateway()? else { return Ok(PortReport::default()) };
    // While this socket is bound, no other program has the port.
    let socket = UdpSocket::bind((gateway.own, 0))?;
    let listening = vec![SocketAddr::new(gateway.own.into(), socket.local_addr()?.port())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let (listens, receiver) = watch::channel(listening);
        let (tell, mut reports) = mpsc::unbounded_channel();
        let tell = move |report| {
            // Fails if nobody waits for the report any more.
            let _ = tell.send(report);
        };
        let random = Arc::new(SystemRandom);
        let asking = tokio::spawn(ports::run(Box::new(System), receiver, random, Clock, tell));
        let mut last = PortReport::default();
        let listen = async {
            while let Some(report) = reports.recv().await {
                last = report;
                if report.is_complete() {
                    break;
                }
            }
        };
        // A protocol without an answer by then counts as silent.
        let _ = tokio::time::timeout(PATIENCE, listen).await;
        drop(listens);
        let _ = tokio::time::timeout(PATIENCE, asking).await;
        last
    }))
}

fn judge(report: PortReport, addresses: &[IpAddr]) -> Finding {
    let answers = [("PCP", report.pcp), ("NAT-PMP", report.nat_pmp), ("UPnP", report.upnp)];
    let refused = answers.iter().find_map(|(by, answer)| match answer {
        PortAnswer::Refused(refusal) => Some((by, refusal)),
        _ => None,
    });
    let Some(gateway) = report.gateway else {
        return Finding::ok(CHECK, "none is known that leads to other networks");
    };
    let finding = match (report.mapped(), refused) {
        (Some((by, external)), _) if report.reachable().is_some() => {
            let found = format!("{gateway} gives a port by {by}: {external} was tried");
            let advice = "`hark talk` asks for one by itself, unless --no-port-mapping is given";
            Finding { advice: Some(advice.to_owned()), ..Finding::ok(CHECK, found) }
        }
        (Some((by, external)), _) => Finding::warning(
            CHECK,
            format!("{gateway} gives a port by {by}, and is behind another NAT: {external}"),
            DOUBLE_NAT,
        ),
        _ if addresses.iter().any(|it| AddressKind::of(*it) == AddressKind::Public) => {
            Finding::ok(CHECK, format!("{gateway} gives no port, and none is needed"))
        }
        (None, Some((by, refusal))) => {
            let advice = if report.is_double_nat() { DOUBLE_NAT } else { BY_HAND };
            let found = format!("{gateway} gives no port by {by}: {refusal}");
            Finding::warning(CHECK, found, advice)
        }
        (None, None) => {
            let found = format!("{gateway} answers neither PCP, NAT-PMP nor UPnP");
            Finding::warning(CHECK, found, BY_HAND)
        }
    };
    finding.with(json!(report))
}

const CHECK: &str = "router";

const BY_HAND: &str = "switch on UPnP, NAT-PMP or PCP in the router's settings, or forward a UDP port \
    there and name it with --listen; tickets have it once somebody elsewhere has found that it works";

const DOUBLE_NAT: &str = "members elsewhere cannot reach you first: put one of the two routers into \
    bridge mode, or ask the provider for a public IPv4 address, or for IPv6";

/// Routers answer a search in less time than this.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hark_node::reach::ports::PortRefusal;

    use super::*;
    use crate::doctor::Verdict;

    fn report(pcp: PortAnswer, upnp: PortAnswer) -> PortReport {
        let gateway = Some([192, 168, 1, 1].into());
        PortReport { gateway, pcp, nat_pmp: PortAnswer::Silent, upnp }
    }

    #[test]
    fn a_router_is_judged_by_what_its_port_is_worth() {
        let at_home = ["192.168.1.5".parse().expect("an address")];
        let mapped = |text: &str| PortAnswer::Mapped(text.parse().expect("an address"));
        let good = judge(report(mapped("203.0.113.9:4000"), PortAnswer::Spare), &at_home);
        assert_eq!(good.verdict, Verdict::Ok);
        assert_eq!(good.found, "192.168.1.1 gives a port by PCP: 203.0.113.9:4000 was tried");
        assert!(good.advice.is_some_and(|advice| advice.contains("--no-port-mapping")));
        assert_eq!(good.values["pcp"]["detail"], "203.0.113.9:4000");
        for external in ["100.64.1.1:4000", "10.0.0.4:4000"] {
            let double = judge(report(PortAnswer::Unsupported, mapped(external)), &at_home);
            assert_eq!(double.verdict, Verdict::Warning);
            assert!(double.found.contains("another NAT"), "{}", double.found);
            assert_eq!(double.advice.as_deref(), Some(DOUBLE_NAT));
        }
        let between = judge(
            report(PortAnswer::Refused(PortRefusal::AnotherNat), PortAnswer::Silent),
            &at_home,
        );
        assert_eq!(between.advice.as_deref(), Some(DOUBLE_NAT));
        let refused = judge(
            report(PortAnswer::Refused(PortRefusal::NotAllowed), PortAnswer::Silent),
            &at_home,
        );
        assert_eq!(refused.verdict, Verdict::Warning);
        assert_eq!(refused.found, "192.168.1.1 gives no port by PCP: it does not allow it");
        assert_eq!(refused.advice.as_deref(), Some(BY_HAND));
        let silent = judge(report(PortAnswer::Awaited, PortAnswer::Silent), &at_home);
        assert_eq!(silent.verdict, Verdict::Warning);
        let public = ["203.0.113.5".parse().expect("an address")];
        let unneeded = judge(report(PortAnswer::Silent, PortAnswer::Silent), &public);
        assert_eq!((unneeded.verdict, unneeded.advice), (Verdict::Ok, None));
        assert_eq!(judge(PortReport::default(), &at_home).verdict, Verdict::Ok);
    }
}
