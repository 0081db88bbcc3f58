//! Which packets a link loses.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize};

use super::happens;
use crate::units::{Share, from_value_or_table};

/// Which packets a link loses: `0.1`, `"10 %"` or a table with a [`GilbertElliott`] chain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Loss {
    /// Each packet with the same probability, independent of the packets before it (Bernoulli).
    Bernoulli(Share),
    /// In bursts, by a chain of two states.
    GilbertElliott(GilbertElliott),
}

impl Default for Loss {
    fn default() -> Self {
        Self::Bernoulli(Share::NONE)
    }
}

impl From<Share> for Loss {
    fn from(share: Share) -> Self {
        Self::Bernoulli(share)
    }
}

impl From<GilbertElliott> for Loss {
    fn from(chain: GilbertElliott) -> Self {
        Self::GilbertElliott(chain)
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a share such as 0.1, or a table with enter_bad and leave_bad";
        from_value_or_table::<D, Share, GilbertElliott, Self>(deserializer, expected)
    }
}

/// A chain of a good and a bad state that moves once per packet, beginning in the good state.
///
/// E. O. Elliott, "Estimates of Error Rates for Codes on Burst-Noise Channels", Bell System
/// Technical Journal 42(5), 1963. With the defaults the chain is that of E. N. Gilbert, "Capacity
/// of a Burst-Noise Channel", 39(5), 1960: a burst then lasts as long as a stay in the bad state,
/// which is `1 / leave_bad` packets on average. In the letters of G. Hasslinger and O. Hohlfeld,
/// "The Gilbert-Elliott Model for Packet Loss in Real Time Services on the Internet", 2008, the
/// four are p, r, 1 - h and 1 - k.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GilbertElliott {
    /// The probability that the state turns from good to bad after a packet: p.
    pub enter_bad: Share,
    /// The probability that the state turns from bad to good after a packet: r.
    pub leave_bad: Share,
    /// The share of packets lost in the bad state: 1 - h.
    #[serde(default = "all")]
    pub loss_in_bad: Share,
    /// The share of packets lost in the good state: 1 - k.
    #[serde(default)]
    pub loss_in_good: Share,
}

/// The state of a link's loss.
#[derive(Debug, Default)]
pub(super) struct Chain {
    bad: bool,
}

impl Chain {
    /// Whether the next packet is lost. Moves the chain on.
    pub(super) fn loses(&mut self, loss: Loss, rng: &mut ChaCha8Rng) -> bool {
        let chain = match loss {
            Loss::Bernoulli(share) => return happens(share, rng),
            Loss::GilbertElliott(chain) => chain,
        };
        let (share, turn) = match self.bad {
            true => (chain.loss_in_bad, chain.leave_bad),
            false => (chain.loss_in_good, chain.enter_bad),
        };
        let lost = happens(share, rng);
        self.bad ^= happens(turn, rng);
        lost
    }
}

fn all() -> Share {
    Share::ALL
}
