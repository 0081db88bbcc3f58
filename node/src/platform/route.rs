//! The default route of this machine, as each operating system knows it.

use std::{io, net::Ipv4Addr};

/// The router of the default IPv4 route, and this machine's own address towards it. `None` if there
/// is no such route.
pub(crate) fn default_gateway() -> io::Result<Option<(Ipv4Addr, Ipv4Addr)>> {
    let Some(router) = system::default_router()? else { return Ok(None) };
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // `connect` only asks for the route and sends nothing.
    socket.connect((router, 9))?;
    match socket.local_addr()?.ip() {
        std::net::IpAddr::V4(own) => Ok(Some((router, own))),
        std::net::IpAddr::V6(_) => Ok(None),
    }
}

#[cfg(any(target_os = "linux", test))]
mod table {
    use std::net::Ipv4Addr;

    /// The router of the default route with the lowest metric, from the text of `/proc/net/route`.
    pub(super) fn default_router(table: &str) -> Option<Ipv4Addr> {
        let routes = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, destination, router, flags, _, _, metric, mask, ..] = fields[..] else {
                return None;
            };
            let hex = |text| u32::from_str_radix(text, 16).ok();
            let flags = hex(flags)?;
            let is_default = hex(destination)? == 0 && hex(mask)? == 0;
            if !is_default || flags & (UP | GATEWAY) != UP | GATEWAY {
                return None;
            }
            // The kernel prints the address as a number in this machine's byte order.
            let router = Ipv4Addr::from(hex(router)?.to_ne_bytes());
            Some((metric.parse::<u32>().ok()?, router))
        });
        routes.min_by_key(|(metric, _)| *metric).map(|(_, router)| router)
    }

    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
}

#[cfg(target_os = "linux")]
mod system {
    use std::{io, net::Ipv4Addr};

    pub(super) fn default_router() -> io::Result<Option<Ipv4Addr>> {
        Ok(super::table::default_router(&std::fs::read_to_string("/proc/net/route")?))
    }
}

#[cfg(windows)]
mod system {
    use std::{io, net::Ipv4Addr};

    /// Windows' `MIB_IPFORWARDROW`.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct ForwardRow {
        destination: u32,
        mask: u32,
        policy: u32,
        next_hop: u32,
        interface: u32,
        kind: u32,
        protocol: u32,
        age: u32,
        next_hop_as: u32,
        metrics: [u32; 5],
    }

    #[link(name = "iphlpapi")]
    unsafe extern "system" {
        fn GetBestRoute(destination: u32, source: u32, row: *mut ForwardRow) -> u32;
    }

    pub(super) fn default_router() -> io::Result<Option<Ipv4Addr>> {
        let mut row = ForwardRow::default();
        let elsewhere = u32::from_ne_bytes([192, 0, 2, 1]);
        // SAFETY: `row` is a valid place for the answer, and the call keeps no pointer to it.
        let status = unsafe { GetBestRoute(elsewhere, 0, &raw mut row) };
        // The error codes "not reachable" and "not found" mean that there is no such route.
        if status != 0 || row.next_hop == 0 {
            return Ok(None);
        }
        Ok(Some(Ipv4Addr::from(row.next_hop.to_ne_bytes())))
    }
}

#[cfg(not(any(target_os = "linux", windows)))]
mod system {
    use std::{io, net::Ipv4Addr};

    pub(super) fn default_router() -> io::Result<Option<Ipv4Addr>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "how this system names its router is not known to this build",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::table::default_router;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn route(destination: &str, router: [u8; 4], flags: &str, metric: u32, mask: &str) -> String {
        let router = format!("{:08X}", u32::from_ne_bytes(router));
        format!("wlan0\t{destination}\t{router}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn the_best_default_route_names_the_router() {
        let lan = route("0001A8C0", [0, 0, 0, 0], "0001", 600, "00FFFFFF");
        let slow = route("00000000", [192, 168, 1, 1], "0003", 600, "00000000");
        let fast = route("00000000", [10, 0, 0, 1], "0003", 100, "00000000");
        let vpn = route("00000000", [10, 9, 0, 1], "0003", 5, "00000080");
        let down = route("00000000", [10, 8, 0, 1], "0002", 1, "00000000");
        let direct = route("00000000", [0, 0, 0, 0], "0001", 0, "00000000");
        let table = format!("{HEAD}{lan}{slow}{vpn}{down}{direct}{fast}");
        assert_eq!(default_router(&table), Some([10, 0, 0, 1].into()));
        assert_eq!(default_router(&format!("{HEAD}{lan}{slow}")), Some([192, 168, 1, 1].into()));
        for nothing in ["", HEAD, &format!("{HEAD}{lan}{direct}"), "a\nb c d\n0 0 0 0 0 0 0 0"] {
            assert_eq!(default_router(nothing), None, "{nothing}");
        }
    }
}
