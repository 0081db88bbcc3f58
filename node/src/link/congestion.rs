//! Congestion control that voice never waits for.

use std::{any::Any, sync::Arc, time::Instant};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig},
};

/// CUBIC (RFC 9438) with a floor under its window. [PROTO-2.8]
///
/// Datagrams and streams share one congestion window. Loss that has nothing to do with congestion
/// (Wi-Fi, 10 % at random) drives any loss-based window down to two packets. Voice would then wait
/// for acknowledgements: half a second on a long path. Voice needs little, and never more than its
/// own bit rate whatever the window, so it may always have that much. BBR would not need the floor,
/// but quinn calls its own BBR experimental.
#[derive(Clone, Debug, Default)]
pub(super) struct VoiceFloor(Arc<CubicConfig>);

impl ControllerFactory for VoiceFloor {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Floored(Arc::clone(&self.0).build(now, mtu)))
    }
}

struct Floored(Box<dyn Controller>);

impl Controller for Floored {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.0.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.0.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.0.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.0.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.0.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.0.window().max(WINDOW_FLOOR)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.0.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self(self.0.clone_box()))
    }

    fn initial_window(&self) -> u64 {
        self.0.initial_window().max(WINDOW_FLOOR)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Bytes that voice may always have in flight: 10 ms frames with five copies (some 55 kB/s) over a
/// round trip of 800 ms. A higher value lets bulk streams press harder into a full bottleneck.
const WINDOW_FLOOR: u64 = 48 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// [PROTO-2.8] Loss shrinks CUBIC's window below the floor, but never ours.
    #[test]
    fn loss_never_takes_the_window_below_the_floor() {
        let start = Instant::now();
        let mut plain = Arc::new(CubicConfig::default()).build(start, 1200);
        let mut floored = Arc::new(VoiceFloor::default()).build(start, 1200);
        for second in 1..20 {
            let now = start + Duration::from_secs(second);
            for controller in [&mut plain, &mut floored] {
                controller.on_congestion_event(now, now, true, 12_000);
            }
        }
        assert!(plain.window() < WINDOW_FLOOR);
        assert_eq!(floored.window(), WINDOW_FLOOR);
        assert_eq!(floored.clone_box().window(), WINDOW_FLOOR);
        assert_eq!(floored.metrics().congestion_window, WINDOW_FLOOR);
    }
}
