//! A firewall in front of hosts that keep their own addresses.

use std::{collections::BTreeMap, net::SocketAddr};

use hark_keys::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::{model::DEFAULT_TABLE_SIZE, word_or_table::WordOrTable};
use crate::units::Span;

/// How a firewall treats UDP.
///
/// In a scenario it is the word for a [`FirewallPolicy`]. To set the timeout too, it is a table of
/// these fields: `{ policy = "stateful", timeout = "30s" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirewallModel {
    /// Which packets pass.
    pub policy: FirewallPolicy,
    /// How long a flow outlives its last packet in either direction (RFC 6092, REC-14).
    pub timeout: Span,
}

impl From<FirewallPolicy> for FirewallModel {
    fn from(policy: FirewallPolicy) -> Self {
        Self { policy, timeout: DEFAULT_TIMEOUT }
    }
}

impl<'de> Deserialize<'de> for FirewallModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOrTable::<FirewallPolicy, FirewallTable>::deserialize(deserializer)? {
            WordOrTable::Word(policy) => policy.into(),
            WordOrTable::Table(FirewallTable { policy, timeout }) => Self { policy, timeout },
        })
    }
}

/// Which UDP packets a firewall lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirewallPolicy {
    /// All packets.
    Open,
    /// All packets from inside, and packets from outside that belong to a flow that was begun
    /// inside ("address and port-dependent filtering", RFC 6092, section 3.2).
    Stateful,
    /// No packets.
    BlocksUdp,
}

/// A [`FirewallModel`] as a table in a scenario.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirewallTable {
    policy: FirewallPolicy,
    #[serde(default = "default_timeout")]
    timeout: Span,
}

fn default_timeout() -> Span {
    DEFAULT_TIMEOUT
}

/// A firewall without translation, and the flows it knows.
#[derive(Clone, Debug)]
pub struct Firewall {
    model: FirewallModel,
    /// When each flow (inside, outside) expires.
    flows: BTreeMap<(SocketAddr, SocketAddr), Timestamp>,
}

impl Firewall {
    /// A firewall that knows no flows yet.
    pub fn new(model: FirewallModel) -> Self {
        Self { model, flows: BTreeMap::new() }
    }

    /// Decides whether a packet from inside passes. `Ok` if it does.
    pub fn outbound(
        &mut self,
        now: Timestamp,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<(), FirewallDrop> {
        match self.model.policy {
            FirewallPolicy::Open => Ok(()),
            FirewallPolicy::BlocksUdp => Err(FirewallDrop::UdpBlocked),
            FirewallPolicy::Stateful => {
                let flow = (source, destination);
                if !self.flows.contains_key(&flow) {
                    self.flows.retain(|_, expires_at| *expires_at > now);
                    if self.flows.len() >= MAX_FLOWS {
                        return Err(FirewallDrop::TableFull);
                    }
                }
                self.flows.insert(flow, now + self.model.timeout.as_duration());
                Ok(())
            }
        }
    }

    /// Decides whether a packet from outside passes. `Ok` if it does.
    pub fn inbound(
        &mut self,
        now: Timestamp,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<(), FirewallDrop> {
        match self.model.policy {
            FirewallPolicy::Open => Ok(()),
            FirewallPolicy::BlocksUdp => Err(FirewallDrop::UdpBlocked),
            FirewallPolicy::Stateful => {
                let expires_at = self
                    .flows
                    .get_mut(&(destination, source))
                    .filter(|expires_at| **expires_at > now)
                    .ok_or(FirewallDrop::NotEstablished)?;
                *expires_at = now + self.model.timeout.as_duration();
                Ok(())
            }
        }
    }

    /// Restarts the firewall, which then knows no flows.
    pub fn forget(&mut self) {
        self.flows.clear();
    }
}

/// Why a firewall dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FirewallDrop {
    /// The firewall blocks all UDP.
    #[error("the firewall blocks udp")]
    UdpBlocked,
    /// No inside host has lately sent to the packet's source.
    #[error("the packet belongs to no established flow")]
    NotEstablished,
    /// The table is full of live flows.
    #[error("the firewall's table is full")]
    TableFull,
}

/// The smallest value that RFC 4787, REQ-5 and RFC 6092, REC-14 allow.
const DEFAULT_TIMEOUT: Span = Span::from_millis(1_000 * (120));

/// How many flows a firewall tracks. A full firewall drops the first packet of any other flow.
const MAX_FLOWS: usize = DEFAULT_TABLE_SIZE as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Network {
        firewall: FirewallModel,
    }

    fn parse(text: &str) -> Result<FirewallModel, toml::de::Error> {
        toml::from_str::<Network>(text).map(|network| network.firewall)
    }

    fn inside() -> SocketAddr {
        "[2001:db8::2]:5000".parse().unwrap()
    }

    fn outside(port: u16) -> SocketAddr {
        ([198, 51, 100, 1], port).into()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn stateful_lets_in_answers_only() {
        let mut firewall = Firewall::new(FirewallPolicy::Stateful.into());
        let stranger = Err(FirewallDrop::NotEstablished);
        assert_eq!(firewall.inbound(at(0), outside(80), inside()), stranger);
        assert_eq!(firewall.outbound(at(0), inside(), outside(80)), Ok(()));
        assert_eq!(firewall.inbound(at(0), outside(80), inside()), Ok(()));
        // A flow is told apart by the port on either side.
        assert_eq!(firewall.inbound(at(0), outside(81), inside()), stranger);
        let other = SocketAddr::new(inside().ip(), 5001);
        assert_eq!(firewall.inbound(at(0), outside(80), other), stranger);

        firewall.forget();
        assert_eq!(firewall.inbound(at(0), outside(80), inside()), stranger);
    }

    #[test]
    fn flow_ends_after_silence_in_both_directions() {
        let mut firewall = Firewall::new(FirewallPolicy::Stateful.into());
        firewall.outbound(at(0), inside(), outside(80)).unwrap();
        assert_eq!(firewall.inbound(at(119), outside(80), inside()), Ok(()));
        assert_eq!(firewall.inbound(at(238), outside(80), inside()), Ok(()));
        assert_eq!(firewall.outbound(at(357), inside(), outside(80)), Ok(()));
        let late = firewall.inbound(at(477), outside(80), inside());
        assert_eq!(late, Err(FirewallDrop::NotEstablished));
    }

    #[test]
    fn open_passes_and_blocked_drops_everything() {
        let mut open = Firewall::new(FirewallPolicy::Open.into());
        assert_eq!(open.inbound(at(0), outside(80), inside()), Ok(()));
        assert_eq!(open.outbound(at(0), inside(), outside(80)), Ok(()));
        let mut blocked = Firewall::new(FirewallPolicy::BlocksUdp.into());
        let dropped = Err(FirewallDrop::UdpBlocked);
        assert_eq!(blocked.outbound(at(0), inside(), outside(80)), dropped);
        assert_eq!(blocked.inbound(at(0), outside(80), inside()), dropped);
    }

    #[test]
    fn full_table_keeps_the_flows_it_has() {
        let mut firewall = Firewall::new(FirewallPolicy::Stateful.into());
        for port in (1..=u16::MAX).take(MAX_FLOWS) {
            firewall.outbound(at(0), inside(), outside(port)).unwrap();
        }
        let refused = firewall.outbound(at(1), inside(), outside(u16::MAX));
        assert_eq!(refused, Err(FirewallDrop::TableFull));
        assert_eq!(firewall.outbound(at(1), inside(), outside(1)), Ok(()));
        assert_eq!(firewall.outbound(at(120), inside(), outside(u16::MAX)), Ok(()));
        assert_eq!(firewall.flows.len(), 2);
    }

    #[test]
    fn word_or_table() {
        assert_eq!(parse(r#"firewall = "blocks-udp""#), Ok(FirewallPolicy::BlocksUdp.into()));
        let timeout = Span::from_millis(1_000 * 30);
        let model = FirewallModel { policy: FirewallPolicy::Stateful, timeout };
        let text = r#"firewall = { policy = "stateful", timeout = "30s" }"#;
        assert_eq!(parse(text), Ok(model.clone()));
        let written = toml::to_string(&Network { firewall: model.clone() }).unwrap();
        assert_eq!(parse(&written), Ok(model));
        let refusal = parse(r#"firewall = "closed""#).unwrap_err().to_string();
        assert!(refusal.contains("`stateful`"), "{refusal}");
    }
}
