//! The kind of an IP address, as far as the address alone shows it.

use std::net::IpAddr;

/// The kind of an address, as far as the address alone shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Valid on this machine only.
    Loopback,
    /// Valid on one link only.
    LinkLocal,
    /// Valid in a LAN.
    Private,
    /// In the range of a provider's own NAT (RFC 6598), or of a VPN that borrows this range.
    Shared,
    /// Valid in the internet, as far as the address shows.
    Public,
}

impl AddressKind {
    /// The kind of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if v4.is_link_local() => Self::LinkLocal,
            IpAddr::V4(v4) if v4.is_private() => Self::Private,
            IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64 => Self::Shared,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unique_local() => Self::Private,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Public,
        }
    }

    /// The kind in a few words, for a person.
    pub fn word(self) -> &'static str {
        match self {
            Self::Loopback => "this machine only",
            Self::LinkLocal => "this link only",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Public => "public",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_from_where_it_is_reached() {
        for (text, kind) in [
            ("127.0.0.2", AddressKind::Loopback),
            ("::1", AddressKind::Loopback),
            ("169.254.3.4", AddressKind::LinkLocal),
            ("fe80::1", AddressKind::LinkLocal),
            ("10.1.2.3", AddressKind::Private),
            ("172.31.0.1", AddressKind::Private),
            ("192.168.1.5", AddressKind::Private),
            ("fd00::5", AddressKind::Private),
            ("100.63.0.1", AddressKind::Public),
            ("100.64.0.1", AddressKind::Shared),
            ("100.127.255.254", AddressKind::Shared),
            ("100.128.0.1", AddressKind::Public),
            ("203.0.113.9", AddressKind::Public),
            ("2001:db8::7", AddressKind::Public),
        ] {
            assert_eq!(AddressKind::of(text.parse().expect("an address")), kind, "{text}");
        }
    }
}
