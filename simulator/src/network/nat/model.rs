//! How a NAT behaves, as scenario files describe it.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::value::{Error as ValueError, StrDeserializer},
};

use super::word_or_table::WordOrTable;
use crate::units::Span;

/// How a NAT behaves, in the vocabulary of RFC 4787, RFC 7857 and RFC 6888.
///
/// In a scenario it is the name of a [`NatPreset`], or a table of these fields that starts from
/// the preset `like` (`home` when absent): `{ like = "symmetric", timeout = "30s" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NatModel {
    /// When two flows of one inside endpoint share an external endpoint (RFC 4787, section 4.1).
    pub mapping: NatBehaviour,
    /// Which senders outside a mapping lets in (RFC 4787, section 5).
    pub filtering: NatBehaviour,
    /// Which external port a new mapping gets (RFC 4787, section 4.2.1).
    pub ports: PortAssignment,
    /// Which external address a new mapping gets (RFC 4787, REQ-2).
    pub pooling: Pooling,
    /// Whether inside hosts reach each other by their external endpoints (RFC 4787, REQ-9). They
    /// see the external source address and port (REQ-9a).
    pub hairpinning: bool,
    /// How long a mapping, and each sender it lets in, outlives its last refresh (RFC 4787,
    /// REQ-5).
    pub timeout: Span,
    /// Whether packets from outside refresh as well; those from inside always do (RFC 4787,
    /// REQ-6, and RFC 7857, section 7).
    pub refresh_inbound: bool,
    /// Whether inside hosts may ask for mappings (UPnP IGD; PCP, RFC 6887; RFC 6888, REQ-9).
    pub port_mapping: bool,
    /// How many external ports one inside address may hold (RFC 6888, REQ-4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports_per_host: Option<u16>,
    /// How long the external port of a dead mapping stays out of use (RFC 6888, REQ-8).
    pub reuse_after: Span,
    /// How many sessions fit into the table. A full table refuses new sessions, as Linux's
    /// connection tracking does ("table full, dropping packet"), and keeps those it has (RFC 6888,
    /// REQ-5).
    pub table_size: u32,
}

impl NatModel {
    /// The model of the preset of that name, as in [`NatPreset`].
    pub fn preset(name: &str) -> Option<Self> {
        let name = StrDeserializer::<ValueError>::new(name);
        NatPreset::deserialize(name).ok().map(Self::from)
    }
}

impl Default for NatModel {
    fn default() -> Self {
        NatPreset::Home.into()
    }
}

impl From<NatPreset> for NatModel {
    fn from(preset: NatPreset) -> Self {
        let home = Self {
            mapping: NatBehaviour::EndpointIndependent,
            filtering: NatBehaviour::AddressAndPortDependent,
            ports: PortAssignment::Preserving,
            pooling: Pooling::Paired,
            hairpinning: true,
            timeout: RECOMMENDED_TIMEOUT,
            refresh_inbound: true,
            port_mapping: false,
            ports_per_host: None,
            reuse_after: Span::from_millis(0),
            table_size: DEFAULT_TABLE_SIZE,
        };
        let cone = |filtering| Self {
            filtering,
            ports: PortAssignment::Sequential,
            hairpinning: false,
            ..home.clone()
        };
        let symmetric = Self {
            mapping: NatBehaviour::AddressAndPortDependent,
            ports: PortAssignment::Random,
            hairpinning: false,
            ..home.clone()
        };
        match preset {
            NatPreset::Home => home,
            NatPreset::FullCone => cone(NatBehaviour::EndpointIndependent),
            NatPreset::RestrictedCone => cone(NatBehaviour::AddressDependent),
            NatPreset::PortRestrictedCone => cone(NatBehaviour::AddressAndPortDependent),
            NatPreset::Symmetric => symmetric,
            NatPreset::CarrierGrade => Self {
                filtering: NatBehaviour::EndpointIndependent,
                ports: PortAssignment::Random,
                refresh_inbound: false,
                port_mapping: true,
                ports_per_host: Some(1_000),
                reuse_after: Span::from_millis(1_000 * 120),
                ..home
            },
            NatPreset::Mobile => Self {
                pooling: Pooling::Arbitrary,
                timeout: SHORT_TIMEOUT,
                ports_per_host: Some(500),
                ..symmetric
            },
            NatPreset::Hotel => {
                Self { timeout: SHORT_TIMEOUT, ports_per_host: Some(64), ..symmetric }
            }
        }
    }
}

impl<'de> Deserialize<'de> for NatModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOrTable::<NatPreset, NatTable>::deserialize(deserializer)? {
            WordOrTable::Word(preset) => preset.into(),
            WordOrTable::Table(table) => table.into(),
        })
    }
}

/// The NATs that scenarios refer to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatPreset {
    /// A good home router: endpoint-independent mapping, address and port-dependent filtering, the
    /// port preserved if it is free, hairpinning, and a timeout of five minutes.
    Home,
    /// "Full cone" of RFC 3489: lets every sender in.
    FullCone,
    /// "Restricted cone" of RFC 3489: lets in the addresses that the inside host has sent to.
    RestrictedCone,
    /// "Port restricted cone" of RFC 3489: lets in the endpoints that the inside host has sent to.
    PortRestrictedCone,
    /// "Symmetric" of RFC 3489: uses another random port for each remote endpoint.
    Symmetric,
    /// An Internet provider's NAT that meets all requirements of RFC 6888.
    CarrierGrade,
    /// A mobile operator's NAT: symmetric over several addresses, with a timeout of 30 seconds.
    Mobile,
    /// A guest network's NAT: symmetric, with a timeout of 30 seconds and few ports for each guest.
    Hotel,
}

/// Which part of a remote endpoint matters to a mapping or a filter (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatBehaviour {
    /// Nothing: every remote endpoint is treated alike.
    EndpointIndependent,
    /// Its address, whatever its port.
    AddressDependent,
    /// Its address and port.
    AddressAndPortDependent,
}

impl fmt::Display for NatBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        })
    }
}

impl NatBehaviour {
    /// The part of `remote` that matters, with the rest blanked out. Remote endpoints with equal
    /// scopes are treated alike.
    pub(super) fn scope(self, remote: SocketAddrV4) -> SocketAddrV4 {
        match self {
            Self::EndpointIndependent => ANYWHERE,
            Self::AddressDependent => SocketAddrV4::new(*remote.ip(), 0),
            Self::AddressAndPortDependent => remote,
        }
    }
}

/// Which external port a new mapping gets (RFC 4787, section 4.2.1).
///
/// If a port is taken, the next higher free one is used. No port is ever shared (REQ-3: no "port
/// overloading"), and ports below 1024 stay below 1024 (REQ-3a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortAssignment {
    /// The inside port ("port preservation").
    Preserving,
    /// The port after that of the mapping before.
    Sequential,
    /// Any port, with equal probability (RFC 7857, section 9).
    Random,
}

/// Which external address a new mapping gets (RFC 4787, section 4.1, REQ-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The address of the inside address's other mappings. A new mapping is refused if the ports of
    /// that address are used up.
    Paired,
    /// Any address.
    Arbitrary,
}

/// A [`NatModel`] as a table in a scenario.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NatTable {
    like: Option<NatPreset>,
    mapping: Option<NatBehaviour>,
    filtering: Option<NatBehaviour>,
    ports: Option<PortAssignment>,
    pooling: Option<Pooling>,
    hairpinning: Option<bool>,
    timeout: Option<Span>,
    refresh_inbound: Option<bool>,
    port_mapping: Option<bool>,
    ports_per_host: Option<u16>,
    reuse_after: Option<Span>,
    table_size: Option<u32>,
}

impl From<NatTable> for NatModel {
    fn from(table: NatTable) -> Self {
        let base = Self::from(table.like.unwrap_or(NatPreset::Home));
        Self {
            mapping: table.mapping.unwrap_or(base.mapping),
            filtering: table.filtering.unwrap_or(base.filtering),
            ports: table.ports.unwrap_or(base.ports),
            pooling: table.pooling.unwrap_or(base.pooling),
            hairpinning: table.hairpinning.unwrap_or(base.hairpinning),
            timeout: table.timeout.unwrap_or(base.timeout),
            refresh_inbound: table.refresh_inbound.unwrap_or(base.refresh_inbound),
            port_mapping: table.port_mapping.unwrap_or(base.port_mapping),
            ports_per_host: table.ports_per_host.or(base.ports_per_host),
            reuse_after: table.reuse_after.unwrap_or(base.reuse_after),
            table_size: table.table_size.unwrap_or(base.table_size),
        }
    }
}

/// The scope that stands for every remote endpoint.
pub(super) const ANYWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// The timeout that RFC 4787, REQ-5c recommends.
const RECOMMENDED_TIMEOUT: Span = Span::from_millis(1_000 * (300));

/// Far less than RFC 4787, REQ-5 allows, but common: Linux keeps a UDP flow without an answer for
/// this long.
const SHORT_TIMEOUT: Span = Span::from_millis(1_000 * (30));

/// How many sessions fit into a NAT or firewall if the scenario does not say: as many as a small
/// home router tracks. A full one refuses new sessions and keeps those it has.
pub(super) const DEFAULT_TABLE_SIZE: u32 = 4_096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Router {
        nat: NatModel,
    }

    fn parse(text: &str) -> NatModel {
        toml::from_str::<Router>(text).unwrap().nat
    }

    fn refusal(text: &str) -> String {
        toml::from_str::<Router>(text).unwrap_err().to_string()
    }

    #[test]
    fn word_is_a_preset() {
        let symmetric = parse(r#"nat = "symmetric""#);
        assert_eq!(symmetric, NatPreset::Symmetric.into());
        assert_eq!(NatModel::preset("symmetric"), Some(symmetric));
        assert_eq!(NatModel::preset("symetric"), None);
    }

    #[test]
    fn table_starts_from_home_or_another_preset() {
        let hotel = NatModel::from(NatPreset::Hotel);
        let timeout = Span::from_millis(1_000 * 45);
        assert_eq!(
            parse(r#"nat = { like = "hotel", timeout = "45s" }"#),
            NatModel { timeout, ..hotel }
        );
        assert_eq!(
            parse(r#"nat = { filtering = "address-dependent", ports_per_host = 9 }"#),
            NatModel {
                filtering: NatBehaviour::AddressDependent,
                ports_per_host: Some(9),
                ..NatModel::default()
            }
        );
    }

    #[test]
    fn every_field_survives_being_written() {
        let model = NatModel {
            filtering: NatBehaviour::AddressDependent,
            table_size: 77,
            timeout: Span::from_millis(150),
            ..NatPreset::CarrierGrade.into()
        };
        let written = toml::to_string(&Router { nat: model.clone() }).unwrap();
        assert_eq!(parse(&written), model);
        assert_eq!(parse("nat = {}"), NatModel::default());
    }

    #[test]
    fn mistakes_are_located_and_explained() {
        let word = refusal(r#"nat = "symetric""#);
        assert!(word.contains("line 1, column 7") && word.contains("`symmetric`"), "{word}");
        let field = refusal("[nat]\nlike = \"home\"\nhairpin = true");
        assert!(field.contains("line 3, column 1") && field.contains("`hairpinning`"), "{field}");
        let value = refusal("[nat]\nmapping = \"symmetric\"");
        assert!(value.contains("line 2, column 11"), "{value}");
        assert!(value.contains("`endpoint-independent`"), "{value}");
        let kind = refusal("nat = 3");
        assert!(kind.contains("expected a word or a table"), "{kind}");
    }

    /// The presets match their documentation. For the carrier-grade one that includes RFC 6888's
    /// REQ-4, 7, 8 and 9.
    #[test]
    fn presets_are_as_described() {
        use NatBehaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        for (name, mapping, filtering) in [
            ("home", EndpointIndependent, AddressAndPortDependent),
            ("full-cone", EndpointIndependent, EndpointIndependent),
            ("restricted-cone", EndpointIndependent, AddressDependent),
            ("port-restricted-cone", EndpointIndependent, AddressAndPortDependent),
            ("symmetric", AddressAndPortDependent, AddressAndPortDependent),
            ("carrier-grade", EndpointIndependent, EndpointIndependent),
            ("mobile", AddressAndPortDependent, AddressAndPortDependent),
            ("hotel", AddressAndPortDependent, AddressAndPortDependent),
        ] {
            let model = NatModel::preset(name).unwrap();
            assert_eq!((model.mapping, model.filtering), (mapping, filtering), "{name}");
            let forgetful = ["mobile", "hotel"].contains(&name);
            assert_eq!(model.timeout.as_duration() < Duration::from_secs(120), forgetful, "{name}");
        }
        let carrier = NatModel::preset("carrier-grade").unwrap();
        assert!(carrier.ports_per_host.is_some() && carrier.port_mapping && carrier.hairpinning);
        assert_eq!(carrier.pooling, Pooling::Paired);
        assert_eq!(carrier.reuse_after, Span::from_millis(1_000 * 120));
    }
}
