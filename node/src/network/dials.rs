//! A newcomer's way in.

use std::time::Duration;

use hark_keys::{Door, Timestamp};
use hark_mesh::{Dial, Way, datagram::Knock, hello::Refusal};

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
        let hides = self.config.relay_only;
        let patience = if refusal.is_some() { JOIN_REFUSED_TIMEOUT } else { JOIN_TIMEOUT };
        if now >= joining.since + patience {
            match refusal.or(self.config.doorkeeper.last_hint()) {
                Some(refusal) => anyhow::bail!("{refusal}"),
                None if hides => anyhow::bail!(
                    "nobody of {:?} answers by the ticket's relays: are a relay and one of its \
                     members running?",
                    joining.ticket.name
                ),
                None if self.config.doorkeeper.has_met_unnamed() => anyhow::bail!(
                    "none of the devices that this ticket of {:?} names answers, only others do: \
                     ask one of the members who run now for a ticket",
                    joining.ticket.name
                ),
                None => anyhow::bail!(
                    "nobody of {:?} answers: is one of its members running, and reachable from \
                     here? --peer ADDR:PORT tries another address",
                    joining.ticket.name
                ),
            }
        }
        if hides || now >= joining.since + LED_AFTER {
            self.knock(now);
        }
        let Some(joining) = &mut self.joining else { return Ok(()) };
        if now < joining.next_dial {
            return Ok(());
        }
        joining.next_dial = now + JOIN_RETRY;
        let place = |place: &Door| (Some(place.device), place.addresses.clone());
        let mut dials: Vec<_> = joining.ticket.relays.iter().map(place).collect();
        // Whoever hides from members comes to them by relays alone.
        if !hides {
            dials.extend(joining.ticket.doors.iter().map(place));
            dials.extend(self.config.peers.iter().map(|address| (None, vec![*address])));
            let found = joining.discovered.iter();
            let found = found.filter(|(device, _)| self.config.doorkeeper.is_named(**device));
            dials.extend(found.map(|(device, addresses)| (Some(*device), addresses.clone())));
        }
        let visited = self.links.visited();
        dials.retain(|(device, _)| device.is_none_or(|device| !visited.contains(&device)));
        for (device, addresses) in dials {
            self.wires.dial(now, Dial { device, addresses, way: Way::Direct }, None);
        }
        Ok(())
    }

    /// Knocks at the ticket's doors by the relays that lead there, and dials those that have heard it.
    /// [PROTO-3.10]
    fn knock(&mut self, now: Timestamp) {
        let Some(joining) = &self.joining else { return };
        let relays = self.links.visited();
        let doors: Vec<_> = joining.ticket.doors.iter().map(|door| door.device).collect();
        for device in doors {
            if self.links.tunnels().relay_to(device).is_some() {
                let dial = Dial { device: Some(device), addresses: Vec::new(), way: Way::Relay };
                self.wires.dial(now, dial, None);
                continue;
            }
            for relay in &relays {
                let mut knock = Vec::new();
                Knock { slot: None, device }.encode(&mut knock);
                self.links.push(*relay, knock.into());
            }
        }
        self.links.flush();
    }
}

/// Whether another door would say the same, where one has said so that the ticket names. Not of an
/// expired ticket: by this device's clock it is
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

/// What can be reached directly is, so relays are used this much later.
const LED_AFTER: Duration = Duration::from_millis(300);

/// One that was refused at a door of its ticket gives the other doors this long.
const JOIN_REFUSED_TIMEOUT: Duration = Duration::from_secs(5);
