//! The nets that are listened to: how loud, on which side, and before which others.

use std::collections::BTreeMap;

use hark_keys::ChannelId;

use super::SIDES;

/// What a talkspurt can reach a listener through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Net {
    /// A channel.
    Channel(ChannelId),
    /// Spoken to this device's member, or to a role that it has.
    Whisper,
}

/// How a net is heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetSettings {
    /// Factor of the amplitude, 0 to [`VOLUME_MAX`], 1 being as sent.
    pub volume: f32,
    /// -1 is left alone, 1 right alone, 0 the centre.
    pub pan: f32,
    /// Whether it is silent for now.
    pub muted: bool,
    /// The higher turns the lower down while it is heard. Of channels only: a whisper ranks above
    /// all of them.
    pub priority: u8,
}

impl Default for NetSettings {
    /// As sent, in the centre, before no other.
    fn default() -> Self {
        Self { volume: 1.0, pan: 0.0, muted: false, priority: 0 }
    }
}

impl NetSettings {
    /// Settings that make sense, whatever was asked for.
    fn sane(self) -> Self {
        let volume = if self.volume.is_finite() { self.volume.clamp(0.0, VOLUME_MAX) } else { 1.0 };
        let pan = if self.pan.is_finite() { self.pan.clamp(-1.0, 1.0) } else { 0.0 };
        Self { volume, pan, ..self }
    }

    /// Balance: the centre is unity on both sides, and no side is ever more.
    fn sides(self) -> [f32; SIDES] {
        [(1.0 - self.pan).min(1.0), (1.0 + self.pan).min(1.0)].map(|side| self.volume * side)
    }
}

/// Who turns whom down: the greater the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A channel's priority.
    Channel(u8),
    /// A whisper; nothing turns it down.
    Whisper,
    /// A target that comes before all others.
    Priority,
}

/// How a talkspurt is heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// Factors of both sides.
    pub sides: [f32; SIDES],
    /// Who it turns down, and who turns it down.
    pub rank: Rank,
}

impl Aim {
    /// Not at all.
    pub const NOWHERE: Self = Self { sides: [0.0; SIDES], rank: Rank::Channel(0) };
}

/// All nets that are listened to.
pub struct Nets {
    settings: BTreeMap<Net, NetSettings>,
    ducking_db: f32,
    /// The highest rank that was heard in the last block.
    highest: Option<Rank>,
}

impl Default for Nets {
    /// None, and the usual ducking.
    fn default() -> Self {
        Self { settings: BTreeMap::new(), ducking_db: DUCKING_DB, highest: None }
    }
}

impl Nets {
    /// Listens to `net`, or changes how. At most [`NETS_MAX`], further ones are refused.
    pub fn set(&mut self, net: Net, settings: NetSettings) {
        if self.settings.len() < NETS_MAX || self.settings.contains_key(&net) {
            self.settings.insert(net, settings.sane());
        }
    }

    /// Listens to `net` no more.
    pub fn remove(&mut self, net: Net) {
        self.settings.remove(&net);
    }

    /// Sets by how many decibels the lower are turned down, 0 to -60.
    pub fn set_ducking(&mut self, decibels: f32) {
        let sane = decibels.is_finite();
        self.ducking_db = if sane { decibels.clamp(DUCKING_MIN_DB, 0.0) } else { DUCKING_DB };
    }

    /// A block has been mixed, of which this is the highest rank heard.
    pub fn set_highest(&mut self, rank: Option<Rank>) {
        self.highest = rank;
    }

    /// Those of `nets` that are listened to, muted ones included.
    pub fn listened<'a>(&'a self, nets: &'a [Net]) -> impl Iterator<Item = Net> + 'a {
        nets.iter().copied().filter(|net| self.settings.contains_key(net))
    }

    /// How a talkspurt is heard that comes through `nets`: as loud and on the side that the loudest
    /// of them is, with the rank of the highest. Muted ones do not count.
    pub fn aim(&self, nets: &[Net], priority: bool) -> Aim {
        let heard = || {
            let known = nets.iter().filter_map(|net| Some((*net, *self.settings.get(net)?)));
            known.filter(|(_, settings)| !settings.muted)
        };
        // Of equals the first.
        let louder = |loudest: NetSettings, next: NetSettings| {
            if next.volume > loudest.volume { next } else { loudest }
        };
        let loudest = heard().map(|(_, settings)| settings).reduce(louder);
        let rank = |(net, settings): (Net, NetSettings)| match net {
            _ if priority => Rank::Priority,
            Net::Whisper => Rank::Whisper,
            Net::Channel(_) => Rank::Channel(settings.priority),
        };
        match (loudest, heard().map(rank).max()) {
            (Some(loudest), Some(rank)) => Aim { sides: loudest.sides(), rank },
            _ => Aim::NOWHERE,
        }
    }

    /// Whether a talkspurt of this rank is turned down: after a block in which a higher one was
    /// heard.
    pub fn ducks(&self, rank: Rank) -> bool {
        rank != Rank::Whisper && self.highest.is_some_and(|highest| highest > rank)
    }

    /// By how much the lower are turned down.
    pub fn ducking_db(&self) -> f32 {
        self.ducking_db
    }
}

/// The loudest that a net can be made.
pub const VOLUME_MAX: f32 = 4.0;

/// Nets that are listened to; further ones are refused.
pub const NETS_MAX: usize = 256;

/// By how much lower ranks are turned down unless asked otherwise: still understood, if one
/// listens to them, and out of the way if not.
pub const DUCKING_DB: f32 = -18.0;

/// Further down nothing is heard anyway.
const DUCKING_MIN_DB: f32 = -60.0;

#[cfg(test)]
mod tests {
    use super::*;

    const fn net(n: u8) -> Net {
        Net::Channel(ChannelId::from_bytes([n; 16]))
    }

    fn set(nets: &mut Nets, n: u8, volume: f32, pan: f32, priority: u8) {
        nets.set(net(n), NetSettings { volume, pan, muted: false, priority });
    }

    #[test]
    fn the_loudest_net_decides_and_the_highest_counts() {
        let mut nets = Nets::default();
        set(&mut nets, 1, 0.5, -1.0, 9);
        set(&mut nets, 2, 2.0, 0.5, 1);
        set(&mut nets, 3, 2.0, -0.5, 0);
        let aim = nets.aim(&[net(1), net(2), net(3), net(4)], false);
        assert_eq!(aim, Aim { sides: [1.0, 2.0], rank: Rank::Channel(9) });
        assert_eq!(nets.aim(&[net(3), net(2)], false).sides, [2.0, 1.0], "of equals the first");
        assert_eq!(nets.aim(&[net(1)], false).sides, [0.5, 0.0]);
        assert_eq!(nets.aim(&[net(4)], true), Aim::NOWHERE, "nobody listens there");
        nets.set(net(2), NetSettings { muted: true, ..NetSettings::default() });
        assert_eq!(nets.aim(&[net(1), net(2)], false).sides, [0.5, 0.0]);
        assert_eq!(nets.aim(&[net(2)], false), Aim::NOWHERE);
        nets.remove(net(1));
        assert_eq!(nets.aim(&[net(1)], false), Aim::NOWHERE);
    }

    #[test]
    fn whispers_stand_above_channels_and_priority_above_all() {
        let mut nets = Nets::default();
        set(&mut nets, 1, 1.0, 0.0, 255);
        nets.set(Net::Whisper, NetSettings::default());
        let rank = |nets: &Nets, heard: &[Net], priority| nets.aim(heard, priority).rank;
        let (channel, whisper) =
            (rank(&nets, &[net(1)], false), rank(&nets, &[net(1), Net::Whisper], false));
        let priority = rank(&nets, &[net(1)], true);
        assert!(channel < whisper && whisper < priority);
        nets.set_highest(Some(priority));
        assert!(nets.ducks(channel) && !nets.ducks(whisper) && !nets.ducks(priority));
        nets.set_highest(Some(channel));
        assert!(!nets.ducks(channel), "nobody turns himself down");
    }

    #[test]
    fn nonsense_becomes_sense() {
        let mut nets = Nets::default();
        set(&mut nets, 1, f32::NAN, f32::INFINITY, 0);
        assert_eq!(nets.aim(&[net(1)], false).sides, [1.0, 1.0]);
        set(&mut nets, 1, 99.0, -7.0, 0);
        assert_eq!(nets.aim(&[net(1)], false).sides, [4.0, 0.0]);
        nets.set_ducking(3.0);
        assert_eq!(nets.ducking_db(), 0.0);
        nets.set_ducking(f32::NAN);
        assert_eq!(nets.ducking_db(), DUCKING_DB);
    }
}
