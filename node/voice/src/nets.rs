//! The nets that are listened to: how loud each one is, on which side, and with which priority.

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{ChannelId, TargetId};

use super::SIDES;

/// A path by which a talkspurt can reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Net {
    /// A channel.
    Channel(ChannelId),
    /// Speech to this device's member, or to a role that the member has.
    Whisper,
}

/// How a net is heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetSettings {
    /// Factor of the amplitude, 0 to [`VOLUME_MAX`], 1 being as sent.
    pub volume: f32,
    /// Position between the sides: -1 is left only, 0 the centre, 1 right only.
    pub pan: f32,
    /// Whether the net is silenced for now.
    pub muted: bool,
    /// Priority among channels. Talkers on a higher net turn down those on lower ones. It has no
    /// meaning for a whisper, which ranks above all channels.
    pub priority: u8,
    /// Whether talkers sound as by a radio.
    pub radio: bool,
}

impl Default for NetSettings {
    /// As sent, in the centre, with the lowest priority.
    fn default() -> Self {
        Self { volume: 1.0, pan: 0.0, muted: false, priority: 0, radio: false }
    }
}

impl NetSettings {
    /// Limits the settings to valid values, whatever was asked for.
    fn sane(self) -> Self {
        let volume = if self.volume.is_finite() { self.volume.clamp(0.0, VOLUME_MAX) } else { 1.0 };
        let pan = if self.pan.is_finite() { self.pan.clamp(-1.0, 1.0) } else { 0.0 };
        Self { volume, pan, ..self }
    }

    /// Gains of both sides. In the centre both are unity, and their power is the same everywhere,
    /// so that a net is as loud on one side as in the centre.
    fn sides(self) -> [f32; SIDES] {
        [1.0 - self.pan, 1.0 + self.pan].map(|power| self.volume * power.sqrt())
    }
}

/// Decides which talkers turn down which others: the greater rank turns down the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetRank {
    /// A channel, with its priority.
    Channel(u8),
    /// A whisper. Nothing turns it down.
    Whisper,
    /// A target that has priority over all others.
    Priority,
}

/// How a talkspurt is heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// Factors of both sides.
    pub sides: [f32; SIDES],
    /// Decides which talkspurts it turns down, and which turn it down.
    pub rank: NetRank,
    /// Whether it sounds as by a radio.
    pub radio: bool,
    /// For someone with headphones: where it is placed around the head, from -1, left, to 1, right,
    /// and the factor of both sides, which then counts instead of theirs.
    pub around: Option<(f32, f32)>,
}

impl Aim {
    /// Not heard at all.
    pub const NOWHERE: Self =
        Self { sides: [0.0; SIDES], rank: NetRank::Channel(0), radio: false, around: None };
}

/// All nets that are listened to.
pub struct Nets {
    settings: BTreeMap<Net, NetSettings>,
    ducking_db: f32,
    /// Whether talkers are brought to one loudness.
    leveling: bool,
    /// Whether they are placed around the head of someone with headphones.
    headphones: bool,
    /// The targets that are channels for music, which is played as loud as it is sent.
    music: BTreeSet<TargetId>,
    /// The highest rank that was heard in the last block.
    highest: Option<NetRank>,
}

impl Default for Nets {
    /// No nets, the usual ducking, and talkers as loud as they are sent.
    fn default() -> Self {
        Self {
            settings: BTreeMap::new(),
            ducking_db: DUCKING_DB,
            leveling: false,
            headphones: false,
            music: BTreeSet::new(),
            highest: None,
        }
    }
}

impl Nets {
    /// Listens to `net`, or changes how it is heard. There are at most [`NETS_MAX`] nets; further
    /// ones are refused.
    pub fn set(&mut self, net: Net, settings: NetSettings) {
        if self.settings.len() < NETS_MAX || self.settings.contains_key(&net) {
            self.settings.insert(net, settings.sane());
        }
    }

    /// Stops listening to `net`.
    pub fn remove(&mut self, net: Net) {
        self.settings.remove(&net);
    }

    /// Sets by how many decibels lower ranks are turned down, 0 to -60.
    pub fn set_ducking(&mut self, decibels: f32) {
        let sane = decibels.is_finite();
        self.ducking_db = if sane { decibels.clamp(DUCKING_MIN_DB, 0.0) } else { DUCKING_DB };
    }

    /// Sets whether talkers are brought to one loudness.
    pub fn set_leveling(&mut self, on: bool) {
        self.leveling = on;
    }

    /// Sets whether talkers are placed around the head of someone with headphones.
    pub fn set_headphones(&mut self, on: bool) {
        self.headphones = on;
    }

    /// Sets which targets are channels for music.
    pub fn set_music(&mut self, music: BTreeSet<TargetId>) {
        self.music = music;
    }

    /// A block has been mixed, and `rank` is the highest rank heard in it.
    pub fn set_highest(&mut self, rank: Option<NetRank>) {
        self.highest = rank;
    }

    /// The `nets` that are listened to, muted ones included.
    pub fn listened<'a>(&'a self, nets: &'a [Net]) -> impl Iterator<Item = Net> + 'a {
        nets.iter().copied().filter(|net| self.settings.contains_key(net))
    }

    /// How a talkspurt that comes through `nets` is heard. It gets the volume, side and sound of
    /// the loudest net, and the rank of the highest one. What has priority over all is in front, in
    /// the centre. Muted nets do not count.
    pub fn aim(&self, nets: &[Net], priority: bool) -> Aim {
        let heard = || {
            let known = nets.iter().filter_map(|net| Some((*net, *self.settings.get(net)?)));
            known.filter(|(_, settings)| !settings.muted)
        };
        // If several are equal, the first one counts.
        let louder = |loudest: NetSettings, next: NetSettings| {
            if next.volume > loudest.volume { next } else { loudest }
        };
        let loudest = heard().map(|(_, settings)| settings).reduce(louder);
        let loudest = loudest.map(|it| if priority { NetSettings { pan: 0.0, ..it } } else { it });
        let rank = |(net, settings): (Net, NetSettings)| match net {
            _ if priority => NetRank::Priority,
            Net::Whisper => NetRank::Whisper,
            Net::Channel(_) => NetRank::Channel(settings.priority),
        };
        match (loudest, heard().map(rank).max()) {
            (Some(loudest), Some(rank)) => {
                let around = self.headphones.then_some((loudest.pan, loudest.volume));
                Aim { sides: loudest.sides(), rank, radio: loudest.radio, around }
            }
            _ => Aim::NOWHERE,
        }
    }

    /// Whether a talkspurt of this rank is turned down: in the last block a higher rank was heard.
    pub fn ducks(&self, rank: NetRank) -> bool {
        rank != NetRank::Whisper && self.highest.is_some_and(|highest| highest > rank)
    }

    /// By how many decibels lower ranks are turned down.
    pub fn ducking_db(&self) -> f32 {
        self.ducking_db
    }

    /// Whether `target` is a channel for music.
    pub fn is_music(&self, target: TargetId) -> bool {
        self.music.contains(&target)
    }

    /// Whether those who talk to `target` are brought to one loudness.
    pub fn levels(&self, target: TargetId) -> bool {
        self.leveling && !self.is_music(target)
    }
}

/// The largest volume of a net.
pub const VOLUME_MAX: f32 = 4.0;

/// Most nets that are listened to; further ones are refused.
pub const NETS_MAX: usize = 256;

/// By how much lower ranks are turned down by default. They can still be understood by a person who
/// listens to them, and do not disturb otherwise.
pub const DUCKING_DB: f32 = -18.0;

/// Below this nothing is heard anyway.
const DUCKING_MIN_DB: f32 = -60.0;

#[cfg(test)]
mod tests {
    use super::*;

    const fn net(n: u8) -> Net {
        Net::Channel(ChannelId::from_bytes([n; 16]))
    }

    fn set(nets: &mut Nets, n: u8, volume: f32, pan: f32, priority: u8) {
        nets.set(net(n), NetSettings { volume, pan, muted: false, priority, radio: false });
    }

    #[test]
    fn the_loudest_net_decides_and_the_highest_counts() {
        let mut nets = Nets::default();
        set(&mut nets, 1, 0.5, -1.0, 9);
        set(&mut nets, 2, 2.0, 0.5, 1);
        set(&mut nets, 3, 2.0, -0.5, 0);
        let aim = nets.aim(&[net(1), net(2), net(3), net(4)], false);
        let [near, far] = [1.5_f32, 0.5].map(|power| 2.0 * power.sqrt());
        let (sides, rank) = ([far, near], NetRank::Channel(9));
        assert_eq!(aim, Aim { sides, rank, radio: false, around: None });
        nets.set_headphones(true);
        assert_eq!(nets.aim(&[net(2)], false).around, Some((0.5, 2.0)));
        nets.set_headphones(false);
        assert_eq!(nets.aim(&[net(3), net(2)], false).sides, [near, far], "of equals the first");
        let front = nets.aim(&[net(3), net(2)], true).sides;
        assert_eq!(front, [2.0, 2.0], "priority is in the centre");
        let left = [0.5 * 2.0_f32.sqrt(), 0.0];
        assert_eq!(nets.aim(&[net(1)], false).sides, left);
        assert_eq!(nets.aim(&[net(4)], true), Aim::NOWHERE, "nobody listens there");
        nets.set(net(2), NetSettings { muted: true, ..NetSettings::default() });
        assert_eq!(nets.aim(&[net(1), net(2)], false).sides, left);
        assert_eq!(nets.aim(&[net(2)], false), Aim::NOWHERE);
        nets.remove(net(1));
        assert_eq!(nets.aim(&[net(1)], false), Aim::NOWHERE);
    }

    #[test]
    fn a_net_is_as_loud_on_any_side() {
        for pan in [-1.0, -0.7, -0.2, 0.0, 0.4, 1.0] {
            let [left, right] = NetSettings { pan, ..NetSettings::default() }.sides();
            assert!((left * left + right * right - 2.0).abs() < 1e-6, "{pan}: {left} {right}");
            assert!(pan == 0.0 || (left < right) == (pan > 0.0), "{pan}: {left} {right}");
        }
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
        assert_eq!(nets.aim(&[net(1)], false).sides, [4.0 * 2.0_f32.sqrt(), 0.0]);
        nets.set_ducking(3.0);
        assert_eq!(nets.ducking_db(), 0.0);
        nets.set_ducking(f32::NAN);
        assert_eq!(nets.ducking_db(), DUCKING_DB);
    }
}
