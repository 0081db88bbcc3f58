use std::net::SocketAddr;

use hark_keys::Timestamp;
use hark_mesh::{Dial, squad::Squad};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::Wires;
use crate::link::multiaddr_of;

impl Wires {
    /// Dials the addresses that are not under way already: one where nobody answers holds up no
    /// other. [PROTO-5.4]
    pub fn dial(&mut self, now: Timestamp, mut dial: Dial, mut squad: Option<&mut Squad>) {
        let under_way = |address: &SocketAddr| {
            let mut dials = self.dials.values();
            dials.any(|other| other.device == dial.device && other.addresses.contains(address))
        };
        dial.addresses = dial.addresses.iter().copied().filter(|a| !under_way(a)).collect();
        if dial.addresses.is_empty() {
            return;
        }
        let addresses = dial.addresses.iter().copied().map(multiaddr_of);
        let options: Vec<DialOpts> = match dial.device {
            Some(device) => vec![
                DialOpts::peer_id(device.peer_id())
                    .addresses(addresses.collect())
                    .condition(PeerCondition::Always)
                    .build(),
            ],
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
                        squad.handle_dial_failed(now, dial.device, &dial.addresses);
                    }
                }
            }
        }
    }
}
