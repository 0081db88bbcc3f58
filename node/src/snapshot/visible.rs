//! Whether two snapshots look the same to a person, so that a window is drawn only when it changes.

use tokio::sync::watch;

use super::{PeerView, Snapshot};
use crate::event::PeerStats;

/// Tells when what a person sees of any organisation of a node has changed.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl From<watch::Receiver<()>> for Changes {
    fn from(receiver: watch::Receiver<()>) -> Self {
        Self(receiver)
    }
}

impl Changes {
    /// Returns when something has changed since the last call, at most ten times a second for each
    /// organisation. Returns `false` if the node is gone.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Snapshot {
    /// Whether a person sees no difference between this and `other`, which was shown last.
    ///
    /// Levels below -60 dBFS are silence, and a change of less than 1 dB is not seen. Neither is
    /// one of round trip, loss or delay below a tenth or 2 ms (2 %). Counters, the load of the
    /// processor and what merely grows older never matter.
    pub fn looks_like(&self, other: &Self) -> bool {
        // Each field is named, so that nobody forgets a new one.
        let Self {
            device,
            name,
            organisation,
            organisation_id,
            front,
            silenced,
            unheard,
            presets,
            all_presets,
            nets,
            master,
            profile,
            profiles,
            talk_to,
            keys,
            transmit,
            muted,
            deafened,
            away,
            transmitting,
            level_dbfs,
            copies: _,
            coding,
            processing,
            cues,
            side_tone,
            cpu_percent: _,
            peers,
            other_members,
            roster,
            unconfirmed,
            router,
            checked,
            sanctions,
            waiting,
            trouble,
        } = self;
        *device == other.device
            && *name == other.name
            && *organisation == other.organisation
            && *organisation_id == other.organisation_id
            && *front == other.front
            && *silenced == other.silenced
            && *unheard == other.unheard
            && *presets == other.presets
            && *all_presets == other.all_presets
            && *master == other.master
            && *profile == other.profile
            && *profiles == other.profiles
            && *talk_to == other.talk_to
            && *keys == other.keys
            && *transmit == other.transmit
            && *muted == other.muted
            && *deafened == other.deafened
            && *away == other.away
            && *transmitting == other.transmitting
            && *processing == other.processing
            && *coding == other.coding
            && *cues == other.cues
            && *side_tone == other.side_tone
            && is_as_loud(*level_dbfs, other.level_dbfs)
            && *other_members == other.other_members
            && *roster == other.roster
            && *unconfirmed == other.unconfirmed
            && *router == other.router
            && checked.len() == other.checked.len()
            && checked.iter().zip(&other.checked).all(|(one, other)| {
                (one.address, one.reachable) == (other.address, other.reachable)
            })
            && *sanctions == other.sanctions
            && *waiting == other.waiting
            && *trouble == other.trouble
            && *nets == other.nets
            && peers.len() == other.peers.len()
            && peers.iter().zip(&other.peers).all(|(one, other)| one.looks_like(other))
    }
}

impl PeerView {
    fn looks_like(&self, other: &Self) -> bool {
        let Self {
            name,
            member,
            roles,
            silenced,
            muted,
            deafened,
            away,
            whispers,
            verification,
            away_secs,
            former,
            address,
            reachable,
            why_relayed,
            talking,
            talking_on,
            level_dbfs,
            volume,
            stats,
        } = self;
        *name == other.name
            && *member == other.member
            && *roles == other.roles
            && *silenced == other.silenced
            && *muted == other.muted
            && *deafened == other.deafened
            && *away == other.away
            && *whispers == other.whispers
            && *verification == other.verification
            && away_secs.is_some() == other.away_secs.is_some()
            && *former == other.former
            && *address == other.address
            && *reachable == other.reachable
            && *why_relayed == other.why_relayed
            && *talking == other.talking
            && *talking_on == other.talking_on
            && is_as_loud(*level_dbfs, other.level_dbfs)
            && volume.to_bits() == other.volume.to_bits()
            && looks_like(stats, &other.stats)
    }
}

fn looks_like(stats: &PeerStats, other: &PeerStats) -> bool {
    let PeerStats {
        device,
        path,
        rtt_ms,
        loss_percent,
        jitter_ms: _,
        playout_delay_ms,
        frames_received: _,
        frames_concealed: _,
        frames_late: _,
        frames_recovered: _,
        samples_inserted: _,
        samples_removed: _,
    } = stats;
    (*device, *path) == (other.device, other.path)
        && is_near(*rtt_ms, other.rtt_ms)
        && is_near(*loss_percent, other.loss_percent)
        && is_near(*playout_delay_ms, other.playout_delay_ms)
}

fn is_as_loud(level: f32, shown: f32) -> bool {
    let (level, shown) = (level.max(SILENCE_DBFS), shown.max(SILENCE_DBFS));
    (level - shown).abs() < 1.0
}

fn is_near(number: f64, shown: f64) -> bool {
    (number - shown).abs() < (shown.abs() / 10.0).max(2.0)
}

/// Meters begin here.
const SILENCE_DBFS: f32 = -60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_numbers_is_not_seen() {
        for (level, shown) in [(-90.0, -61.0), (-20.4, -20.0), (f32::NEG_INFINITY, -75.0)] {
            assert!(is_as_loud(level, shown), "{level} {shown}");
        }
        for (level, shown) in [(-58.0, -90.0), (-20.0, -21.5), (-90.0, -30.0)] {
            assert!(!is_as_loud(level, shown), "{level} {shown}");
        }
        assert!(is_near(0.4, 1.9) && is_near(205.0, 190.0));
        assert!(!is_near(3.0, 0.9) && !is_near(230.0, 190.0));
    }
}
