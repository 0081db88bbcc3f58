//! A newcomer's way in.

use std::time::Duration;

use hark_keys::Timestamp;
use hark_mesh::{Dial, Way, hello::Refusal};

use super::Runner;

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
            self.wires.dial(now, Dial { device, addresses, way: Way::Direct }, None);
        }
        Ok(())
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
