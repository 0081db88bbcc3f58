use hark_keys::Timestamp;
use hark_mesh::{Dial, Way, squad::Squad};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::SwarmDriver;
use crate::link::{multiaddr_of, relayed_address};

impl SwarmDriver {
    /// Dials the addresses that are not being dialled already. An address at which nobody answers
    /// delays no other one. [PROTO-5.4]
    pub fn dial(&mut self, now: Timestamp, mut dial: Dial, mut squad: Option<&mut Squad>) {
        let alike = |other: &&Dial| (other.device, other.way) == (dial.device, dial.way);
        let mut alike = self.dials.values().filter(alike).peekable();
        if dial.way == Way::Relay && alike.peek().is_some() {
            return;
        }
        let under_way: Vec<_> = alike.flat_map(|other| other.addresses.iter().copied()).collect();
        dial.addresses.retain(|address| !under_way.contains(address));
        if dial.addresses.is_empty() && dial.way != Way::Relay {
            return;
        }
        let addresses = dial.addresses.iter().copied().map(multiaddr_of);
        let options: Vec<DialOpts> = match dial.device {
            Some(device) => {
                let addresses = match dial.way {
                    Way::Relay => vec![relayed_address(device)],
                    Way::Direct | Way::Aside => addresses.collect(),
                };
                let options = DialOpts::peer_id(device.peer_id())
                    .addresses(addresses)
                    .condition(PeerCondition::Always);
                if dial.way == Way::Aside {
                    self.links.expect_punched(device);
                    vec![options.allocate_new_port().build()]
                } else {
                    vec![options.build()]
                }
            }
            None => addresses
                .map(|address| DialOpts::unknown_peer_id().address(address).build())
                .collect(),
        };
        for options in options {
            let id = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => {
                    self.dials.insert(id, dial.clone());
                }
                Err(error) => {
                    tracing::debug!(%error, "not dialled");
                    if let Some(squad) = &mut squad {
                        squad.handle_dial_failed(now, &dial);
                    }
                }
            }
        }
    }
}
