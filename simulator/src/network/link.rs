//! One direction of a link: what it does to each packet, and when it lets go of it.
//!
//! ```text
//!  transmit -> MTU -> queue -> rate or opportunities -> loss -> delay -> order -> corruption
//! ```
//!
//! Nothing waits in here: [`SimulatedLink::transmit`] says at once when a packet will arrive, or
//! what loses it, and the caller sees to the arrival. A packet that is lost on the link has used
//! its place in the queue before, as on a real one. Each kind of chance has its own random stream:
//! a link that loses more packets delays the others no differently.

use std::{path::Path, sync::Arc, time::Duration};

use hark_keys::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::{delay::SpikeClock, loss::Chain, queue::Transmitter};
pub use self::{
    delay::{Delay, Distribution, Shape, Spacing, Spikes},
    loss::{GilbertElliott, Loss},
    queue::{QueueLimit, QueueLimitError},
    trace::{Conditions, LoadError, Opportunities, RateSeries, TraceError, TraceFile},
};
use crate::units::{BitRate, Share, Span};

mod delay;
mod loss;
mod queue;
mod trace;

#[cfg(test)]
mod tests;

/// What one direction of a link does to packets. By default it delivers all of them at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkModel {
    /// Which packets the link loses.
    pub loss: Loss,
    /// How long packets take to travel.
    pub delay: Delay,
    /// Times at which packets take longer.
    pub spikes: Option<Spikes>,
    /// Holds some packets back, so that others overtake them. Without it the link keeps the order:
    /// no packet arrives before the one sent before it, and packets closer together than their
    /// delays differ wait for each other.
    pub reorder: Option<Reorder>,
    /// The share that arrives twice. The copy has a delay of its own and may be out of order.
    pub duplicate: Share,
    /// The share that arrives with one bit of its payload changed, which no checksum below detects.
    pub corrupt: Share,
    /// How fast the link sends. Without it, and without `opportunities`, sending takes no time.
    pub rate: Option<BitRate>,
    /// How much may wait to be sent; packets beyond it are dropped at the tail. A large limit
    /// causes bufferbloat.
    pub queue: QueueLimit,
    /// The longest IP packet that passes, headers included. Longer packets are lost without notice.
    pub mtu: Option<u16>,
    /// A recording of when the link could send; replaces `rate`.
    pub opportunities: Option<TraceFile<Opportunities>>,
    /// A recording of delay and loss, which are added to `delay` and `loss`.
    pub series: Option<TraceFile<RateSeries>>,
}

impl LinkModel {
    /// Reads the recordings that the model names, relative to `folder`.
    pub fn load(&mut self, folder: &Path) -> Result<(), LoadError> {
        if let (Some(opportunities), Some(_)) = (&self.opportunities, self.rate) {
            return Err(LoadError::TwoRates(opportunities.path().to_owned()));
        }
        self.opportunities.as_mut().map_or(Ok(()), |file| file.load(folder))?;
        self.series.as_mut().map_or(Ok(()), |file| file.load(folder))
    }
}

/// Holds some packets back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// The share that is held back.
    pub share: Share,
    /// How long such a packet is held back.
    pub by: Span,
}

/// One direction of a link, with the state of what is under way on it.
#[derive(Debug)]
pub struct SimulatedLink {
    model: Arc<LinkModel>,
    transmitter: Transmitter,
    chain: Chain,
    spikes: SpikeClock,
    series_start: Timestamp,
    last_arrival: Timestamp,
    luck: Luck,
    statistics: LinkStatistics,
}

impl SimulatedLink {
    /// A link that follows `model` from [`Timestamp::ZERO`] on, where the model's recordings start.
    ///
    /// # Panics
    ///
    /// Panics, as [`Self::set_model`] does, if the model's recordings are not loaded.
    pub fn new(model: impl Into<Arc<LinkModel>>, mut rng: ChaCha8Rng) -> Self {
        let mut link = Self {
            model: Arc::default(),
            transmitter: Transmitter::default(),
            chain: Chain::default(),
            spikes: SpikeClock::default(),
            series_start: Timestamp::ZERO,
            last_arrival: Timestamp::ZERO,
            luck: Luck::new(&mut rng),
            statistics: LinkStatistics::default(),
        };
        link.set_model(Timestamp::ZERO, model);
        link
    }

    /// Follows `model` from `now` on. What is queued stays queued and arrives when it was going to;
    /// later packets queue behind it. What the new model shares with the old one, such as a
    /// recording, continues undisturbed. What differs starts at `now`.
    ///
    /// # Panics
    ///
    /// Panics if the model names recordings that [`LinkModel::load`] has not read.
    pub fn set_model(&mut self, now: Timestamp, model: impl Into<Arc<LinkModel>>) {
        let model = model.into();
        let opportunities = model.opportunities.as_ref().map(TraceFile::contents);
        let series = model.series.as_ref().map(TraceFile::contents);
        if opportunities != self.model.opportunities.as_ref().map(TraceFile::contents) {
            self.transmitter.follow(now, opportunities.cloned());
        }
        if model.loss != self.model.loss {
            self.chain = Chain::default();
        }
        if model.spikes != self.model.spikes {
            self.spikes = SpikeClock::new(now, model.spikes, &mut self.luck.spikes);
        }
        if series != self.model.series.as_ref().map(TraceFile::contents) {
            self.series_start = now;
        }
        self.model = model;
    }

    /// Sends a UDP datagram with `bytes` of payload. `now` must not be earlier than in any call
    /// before.
    pub fn transmit(&mut self, now: Timestamp, bytes: usize) -> Fate {
        self.statistics.offered.count(bytes);
        let fate = self.pass(now, bytes);
        match fate {
            Fate::Lost(cause) => self.statistics.lost_mut(cause).count(bytes),
            Fate::Delivered { packet, copy } => {
                self.statistics.delivered.count(bytes);
                if copy.is_some() {
                    self.statistics.duplicated.count(bytes);
                }
                for delivery in [Some(packet), copy].into_iter().flatten() {
                    if delivery.flipped_bit.is_some() {
                        self.statistics.corrupted.count(bytes);
                    }
                }
            }
        }
        fate
    }

    /// Counts of what the link did so far.
    pub fn statistics(&self) -> &LinkStatistics {
        &self.statistics
    }

    /// How long a packet that is sent at `now` would wait in the queue.
    pub fn backlog(&self, now: Timestamp) -> Duration {
        self.transmitter.backlog(now)
    }

    /// The model that the link follows.
    pub fn model(&self) -> &LinkModel {
        &self.model
    }

    fn pass(&mut self, now: Timestamp, bytes: usize) -> Fate {
        let Self { model, luck, .. } = self;
        let on_wire = (bytes as u64).saturating_add(HEADERS);
        if model.mtu.is_some_and(|mtu| on_wire > mtu.into()) {
            return Fate::Lost(LossCause::Mtu);
        }
        let Some(sent) = self.transmitter.send(now, on_wire, model.rate, model.queue) else {
            return Fate::Lost(LossCause::Queue);
        };

        let recorded = model.series.as_ref().map_or(Conditions::default(), |series| {
            series.contents().at(sent.saturating_duration_since(self.series_start))
        });
        let spike = self.spikes.extra(sent, model.spikes, &mut luck.spikes);
        let added = recorded.delay.as_duration() + spike;

        let lost =
            self.chain.loses(model.loss, &mut luck.loss) | happens(recorded.loss, &mut luck.loss);
        let held_back = model.reorder.filter(|reorder| happens(reorder.share, &mut luck.reorder));

        // Packets are lost at the far end, so a lost packet still keeps those after it in order.
        let travel = model.delay.draw(&mut luck.delay) + added;
        let in_order = (sent + travel).max(self.last_arrival);
        let at = match held_back {
            Some(reorder) => in_order + reorder.by.as_duration(),
            None => {
                self.last_arrival = in_order;
                in_order
            }
        };
        let flipped_bit = corruption(model.corrupt, bytes, &mut luck.corrupt);
        let copy = happens(model.duplicate, &mut luck.duplicate).then(|| {
            let travel = model.delay.draw(&mut luck.duplicate) + added;
            let flipped_bit = corruption(model.corrupt, bytes, &mut luck.duplicate);
            Delivery { at: (sent + travel).max(at), flipped_bit }
        });

        if lost {
            return Fate::Lost(LossCause::Link);
        }
        Fate::Delivered { packet: Delivery { at, flipped_bit }, copy }
    }
}

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The packet never arrives, for this reason.
    Lost(LossCause),
    /// The packet arrives, perhaps twice.
    Delivered {
        /// The arrival of the packet itself.
        packet: Delivery,
        /// The arrival of its duplicate, which is never before it.
        copy: Option<Delivery>,
    },
}

impl Fate {
    /// All arrivals, the earliest first.
    pub fn deliveries(self) -> impl Iterator<Item = Delivery> {
        let both = match self {
            Self::Lost(_) => [None, None],
            Self::Delivered { packet, copy } => [Some(packet), copy],
        };
        both.into_iter().flatten()
    }
}

/// Why a packet does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossCause {
    /// The packet is longer than the MTU.
    Mtu,
    /// The queue is full.
    Queue,
    /// The link itself loses the packet.
    Link,
}

/// One arrival of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The time of arrival.
    pub at: Timestamp,
    /// The bit of the payload that is inverted, counted from the lowest bit of byte 0; `None` if
    /// the payload is intact.
    pub flipped_bit: Option<usize>,
}

impl Delivery {
    /// Inverts the bit of `payload` that the link corrupted, if any.
    pub fn corrupt(self, payload: &mut [u8]) {
        if let Some(bit) = self.flipped_bit
            && let Some(byte) = payload.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
    }
}

/// Counts of what a link did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Packets given to the link.
    pub offered: Tally,
    /// Packets that arrived or will arrive, each counted once.
    pub delivered: Tally,
    /// Second arrivals of duplicated packets.
    pub duplicated: Tally,
    /// Arrivals with an inverted bit, copies included.
    pub corrupted: Tally,
    /// Packets lost because they exceeded the MTU.
    pub lost_to_mtu: Tally,
    /// Packets lost because the queue was full.
    pub lost_in_queue: Tally,
    /// Packets lost by the link itself.
    pub lost_on_link: Tally,
}

impl LinkStatistics {
    fn lost_mut(&mut self, cause: LossCause) -> &mut Tally {
        match cause {
            LossCause::Mtu => &mut self.lost_to_mtu,
            LossCause::Queue => &mut self.lost_in_queue,
            LossCause::Link => &mut self.lost_on_link,
        }
    }
}

/// A count of packets and of the payload bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of packets.
    pub packets: u64,
    /// The number of payload bytes.
    pub bytes: u64,
}

impl Tally {
    fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// One random stream for each kind of chance, so that a change to one leaves the others as they
/// were.
#[derive(Debug)]
struct Luck {
    loss: ChaCha8Rng,
    delay: ChaCha8Rng,
    spikes: ChaCha8Rng,
    reorder: ChaCha8Rng,
    duplicate: ChaCha8Rng,
    corrupt: ChaCha8Rng,
}

impl Luck {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let mut stream = || ChaCha8Rng::from_rng(rng);
        Self {
            loss: stream(),
            delay: stream(),
            spikes: stream(),
            reorder: stream(),
            duplicate: stream(),
            corrupt: stream(),
        }
    }
}

fn happens(share: Share, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < share.as_f64()
}

fn corruption(share: Share, bytes: usize, rng: &mut ChaCha8Rng) -> Option<usize> {
    // A `u64` rather than a `usize`, for which the generator draws differently on 32-bit machines.
    let bits = bytes as u64 * 8;
    (happens(share, rng) && bits > 0).then(|| rng.random_range(0..bits) as usize)
}

/// Bytes of the IPv4 and UDP headers of every packet. The rate, the queue and the MTU count them
/// too.
const HEADERS: u64 = 28;
