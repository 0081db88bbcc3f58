//! The plan of a network: what is connected to what.

use std::net::Ipv4Addr;

use super::{
    link::LinkModel,
    nat::{FirewallModel, NatModel},
};

/// A network by its place in the plan.
pub type NetworkId = usize;

/// All networks and the hosts in them. Network 0 is the internet.
#[derive(Clone, Debug, Default)]
pub struct SitePlan {
    /// The networks. The network above each comes before it in this list.
    pub networks: Vec<NetworkPlan>,
    /// The hosts.
    pub hosts: Vec<HostPlan>,
}

/// One network and its gateway to the one above.
#[derive(Clone, Debug, Default)]
pub struct NetworkPlan {
    /// The name in the scenario.
    pub name: String,
    /// The network above; `None` for the internet.
    pub parent: Option<NetworkId>,
    /// How the gateway translates addresses; `None` if it does not.
    pub nat: Option<NatModel>,
    /// What the gateway lets through; `None` if it has no firewall.
    pub firewall: Option<FirewallModel>,
    /// The link from the gateway to the network above.
    pub up: LinkModel,
    /// The link from the network above to the gateway.
    pub down: LinkModel,
}

/// One machine.
#[derive(Clone, Debug, Default)]
pub struct HostPlan {
    /// The name in the scenario.
    pub name: String,
    /// The network that the machine is in at first.
    pub network: NetworkId,
    /// The link from the machine to its network.
    pub up: LinkModel,
    /// The link from its network to the machine.
    pub down: LinkModel,
}

/// The address at which a network's gateway is asked for ports.
pub(super) fn router(network: NetworkId) -> Ipv4Addr {
    Ipv4Addr::new(10, u8::try_from(network).unwrap_or(u8::MAX), u8::MAX, u8::MAX - 1)
}

/// The address of the `index`th machine or gateway in a network: public addresses are in
/// 198.18.0.0/15 (RFC 2544), others in 10.0.0.0/8.
pub(super) fn address(network: NetworkId, index: usize) -> Ipv4Addr {
    let low = u8::try_from(index % 250 + 1).unwrap_or(1);
    let high = u8::try_from(index / 250).unwrap_or(u8::MAX);
    match network {
        0 => Ipv4Addr::new(198, 18, high, low),
        network => Ipv4Addr::new(10, u8::try_from(network).unwrap_or(u8::MAX), high, low),
    }
}
