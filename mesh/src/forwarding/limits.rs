use std::time::Duration;

use hark_keys::Timestamp;

/// The most that a relay carries for one organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Devices attached at once, up to 65,535. Further ones are refused.
    pub sessions: u16,
    /// Voice that one device sends. Any excess is dropped.
    pub voice: Rate,
    /// Voice that all devices of one member send together.
    pub voice_of_member: Rate,
    /// Packets of tunnels that one device sends. Any excess is dropped.
    pub tunnels: Rate,
    /// Everything that is sent. What has to wait too long for this rate is dropped.
    pub out: Rate,
    /// A listener that is sent more voice datagrams per second than this gets them in bundles. So
    /// does everyone for frames that have already waited for [`Self::bundle_hold`].
    pub bundle_above: u32,
    /// How long a voice datagram waits for others with which to share a bundle. A longer time saves
    /// more datagrams and costs as much delay. Zero bundles nothing.
    pub bundle_hold: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1_024,
            voice: Rate { packets_per_second: 240, kbps: 1_024 },
            voice_of_member: Rate { packets_per_second: 480, kbps: 2_048 },
            tunnels: Rate { packets_per_second: 0, kbps: 4_096 },
            out: Rate::UNLIMITED,
            bundle_above: 400,
            bundle_hold: Duration::from_millis(5),
        }
    }
}

/// A limit by number and by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Datagrams per second; 0 means unlimited.
    pub packets_per_second: u32,
    /// Rate in kbit/s of datagrams, without the headers of UDP and IP; 0 means unlimited.
    pub kbps: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { packets_per_second: 0, kbps: 0 };
}

/// The used part of a rate: the time until which it is paid for. Up to `burst` in advance is
/// granted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    packets_until: Timestamp,
    bits_until: Timestamp,
}

impl Bucket {
    /// Returns whether one datagram of `bytes` may be sent now, and if so charges it.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        rate: Rate,
        burst: Duration,
        bytes: usize,
    ) -> bool {
        let mut after = *self;
        after.charge(now, rate, bytes);
        let within = after.ready_at(burst) <= now;
        if within {
            *self = after;
        }
        within
    }

    /// Charges one datagram of `bytes`, whether or not it is within the rate.
    pub(super) fn charge(&mut self, now: Timestamp, rate: Rate, bytes: usize) {
        if rate.packets_per_second > 0 {
            let cost = NANOS / u64::from(rate.packets_per_second);
            self.packets_until = self.packets_until.max(now) + Duration::from_nanos(cost);
        }
        if rate.kbps > 0 {
            let cost = bytes as u64 * 8 * NANOS / (u64::from(rate.kbps) * 1_000);
            self.bits_until = self.bits_until.max(now) + Duration::from_nanos(cost);
        }
    }

    /// The time from which at most `burst` is used in advance.
    pub(super) fn ready_at(&self, burst: Duration) -> Timestamp {
        let until = self.packets_until.max(self.bits_until);
        Timestamp::from_duration(until.as_duration().saturating_sub(burst))
    }
}

const NANOS: u64 = 1_000_000_000;

/// Voice that a sender may send ahead of its rate, since sound that a network has held up arrives
/// all at once.
pub(super) const VOICE_BURST: Duration = Duration::from_millis(500);

/// Tunnelled packets that a sender may send ahead of its rate. A handshake is a burst of some 15
/// kB, and a newcomer to a crowd makes one with every peer.
pub(super) const TUNNEL_BURST: Duration = Duration::from_secs(2);

/// What may be sent ahead of the organisation's rate: one frame for a thousand listeners, at a rate
/// that allows 5,000 a second.
pub(super) const OUT_BURST: Duration = Duration::from_millis(200);

/// Reports that one device may send: four per second for each of 64 talkers.
pub(super) const REPORTS: Rate = Rate { packets_per_second: 256, kbps: 0 };
