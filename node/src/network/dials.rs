//! Dials, and a newcomer's way in.

use std::time::Duration;

use hark_keys::Timestamp;
use hark_mesh::{Dial, Way, hello::Refusal};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::Runner;
use crate::link::{multiaddr_of, relayed_address};

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
            self.dial(Dial { device, addresses, way: Way::Direct });
        }
        Ok(())
    }

    /// Dials the addresses that are not under way already: one where nobody answers holds up no
    /// other. [PROTO-5.4]
    pub(super) fn dial(&mut self, mut dial: Dial) {
        let mut alike = self
            .dials
            .values()
            .filter(|other| (other.device, other.way) == (dial.device, dial.way));
        if dial.way == Way::Relay && alike.next().is_some() {
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
                    if let Some(squad) = &mut self.squad {
                        let now = self.config.clock.now();
                        squad.handle_dial_failed(now, &dial);
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
