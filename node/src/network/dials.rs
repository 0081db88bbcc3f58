//! Dials, and a newcomer's way in.

use std::{net::SocketAddr, time::Duration};

use hark_keys::Timestamp;
use hark_mesh::{Dial, hello::Refusal};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::Runner;
use crate::link::multiaddr_of;

impl Runner {
    /// Knocks at the doors of the ticket until one opens.
    pub(super) fn join(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some(joining) = &mut self.joining else { return Ok(()) };
        let refusal = self.config.doorkeeper.last_refusal();
        if let Some(refusal) = refusal
            && is_final(refusal)
        {
            anyhow::bail!("{refusal}");
        }
        let patience = if refusal.is_some() { JOIN_REFUSED_TIMEOUT } else { JOIN_TIMEOUT };
        if now >= joining.since + patience {
            match refusal {
                Some(refusal) => anyhow::bail!("{refusal}"),
                None => anyhow::bail!(
                    "nobody of {:?} answers: is one of its members running, and reachable from \
                     here? --peer ADDR:PORT tries another address",
                    joining.ticket.name
                ),
            }
        }
        if now < joining.next_dial {
            return Ok(());
        }
        joining.next_dial = now + JOIN_RETRY;
        let mut dials: Vec<_> = joining
            .ticket
            .doors
            .iter()
            .map(|door| (Some(door.device), door.addresses.clone()))
            .collect();
        dials.extend(self.config.peers.iter().map(|address| (None, vec![*address])));
        dials.extend(
            joining.discovered.iter().map(|(device, addresses)| (Some(*device), addresses.clone())),
        );
        for (device, addresses) in dials {
            self.dial(Dial { device, addresses });
        }
        Ok(())
    }

    /// Dials the addresses that are not under way already: one where nobody answers holds up no
    /// other. [PROTO-5.4]
    pub(super) fn dial(&mut self, mut dial: Dial) {
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
                    if let Some(squad) = &mut self.squad {
                        let now = self.config.clock.now();
                        squad.handle_dial_failed(now, dial.device, &dial.addresses);
                    }
                }
            }
        }
    }
}

/// Whether another door would say the same. Not of an expired ticket: by this device's clock it is
/// good, so that door's clock may be wrong.
fn is_final(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TicketUsedUp | Refusal::TicketInvalid | Refusal::Version | Refusal::Certificate
    )
}

/// A newcomer knocks this often, and gives up after that long.
const JOIN_RETRY: Duration = Duration::from_secs(1);
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// One that was refused at a door gives the other doors this long.
const JOIN_REFUSED_TIMEOUT: Duration = Duration::from_secs(5);
