//! How one talker is heard: on which nets, how loud, on which side.

use hark_keys::TargetId;

use super::{
    SIDES,
    binaural::{Ears, STEP},
    fade::{Duck, Fader},
    keyrings::Keyrings,
    leveling::Leveler,
    nets::{Aim, Net, NetRank, Nets},
    radio::Radio,
};

/// How a talker is heard, kept from one block to the next.
pub(super) struct Hearing {
    /// The talker's own volume.
    pub(super) gain: f32,
    /// Adds the talker's sound to the mix.
    pub(super) fader: Fader,
    /// Makes it sound as by a radio.
    pub(super) radio: Radio,
    /// Places it around the head.
    ears: Ears,
    /// The target of the talkspurt that is being played.
    playing: Option<TargetId>,
    /// The nets on which it speaks and that we listen to.
    nets: Vec<Net>,
    rank: NetRank,
    duck: Duck,
    /// Measured even while nothing is done about it, so that it is known when it is switched on.
    pub(super) leveler: Leveler,
}

impl Default for Hearing {
    /// Nothing is being played.
    fn default() -> Self {
        Self {
            gain: 1.0,
            fader: Fader::default(),
            radio: Radio::default(),
            ears: Ears::default(),
            playing: None,
            nets: Vec::new(),
            rank: Aim::NOWHERE.rank,
            duck: Duck::default(),
            leveler: Leveler::default(),
        }
    }
}

impl Hearing {
    /// A block of this many samples begins.
    pub(super) fn begin_block(&mut self, samples: usize, keyrings: &Keyrings, nets: &Nets) {
        self.duck.pass(samples, nets.ducks(self.rank));
        let sides = self.aim(keyrings, nets);
        self.fader.begin(samples, sides);
    }

    /// The block has been mixed; `plays` says whether the talkspurt continues. Returns whether the
    /// nets have changed since the previous block.
    pub(super) fn end_block(&mut self, plays: bool, keyrings: &Keyrings, nets: &Nets) -> bool {
        if !plays {
            self.playing = None;
        }
        let heard = self.playing.map_or(&[][..], |target| keyrings.heard(target).0);
        let changed = !nets.listened(heard).eq(self.nets.iter().copied());
        if changed {
            self.nets.clear();
            self.nets.extend(nets.listened(heard));
        }
        changed
    }

    /// The next frame of a talkspurt to `target` follows. If the talkspurt `starts`, or its target
    /// differs from that of the previous frame, the final gains apply at once.
    pub(super) fn follow(
        &mut self,
        target: TargetId,
        starts: bool,
        keyrings: &Keyrings,
        nets: &Nets,
    ) {
        if !starts && self.playing == Some(target) {
            return;
        }
        self.playing = Some(target);
        self.leveler.begin();
        // The rank has changed, too.
        self.aim(keyrings, nets);
        self.duck.begin(nets.ducks(self.rank));
        let sides = self.aim(keyrings, nets);
        self.fader.set(sides);
        self.radio.begin();
        self.ears.begin();
    }

    /// Adds `samples`, the next ones of the block, to `out`, with half the `difference` of both
    /// sides, if it is there. A radio has one side, and so has a talker who is placed around the
    /// head.
    pub(super) fn mix(&mut self, samples: &[f32], difference: &[f32], out: &mut [[f32; SIDES]]) {
        if self.radio.is_silent() && self.ears.is_silent() {
            self.fader.mix(samples, difference, out);
            return;
        }
        for (samples, out) in samples.chunks(STEP).zip(out.chunks_mut(STEP)) {
            let mut chunk = [0.0; STEP];
            let chunk = &mut chunk[..samples.len()];
            chunk.copy_from_slice(samples);
            if !self.radio.is_silent() {
                self.radio.process(chunk);
            }
            if self.ears.is_silent() {
                self.fader.mix(chunk, &[], out);
            } else {
                let sides = self.ears.process(chunk);
                self.fader.mix_sides(sides.into_iter().take(samples.len()), out);
            }
        }
    }

    /// The nets on which the talker speaks right now and that we listen to, muted ones included.
    pub(super) fn nets(&self) -> &[Net] {
        &self.nets
    }

    /// The rank of what is heard of the talker right now.
    pub(super) fn rank_heard(&self) -> Option<NetRank> {
        (self.playing.is_some() && self.fader.is_open()).then_some(self.rank)
    }

    /// The gains that the current talkspurt should have.
    fn aim(&mut self, keyrings: &Keyrings, nets: &Nets) -> [f32; SIDES] {
        let Some(target) = self.playing else { return [0.0; SIDES] };
        let (heard, priority) = keyrings.heard(target);
        let aim = nets.aim(heard, priority);
        self.rank = aim.rank;
        self.radio.set(aim.radio);
        // Music has its sides already.
        let around = aim.around.filter(|_| !nets.is_music(target));
        self.ears.set(around.map(|(position, _)| position));
        let sides = around.map_or(aim.sides, |(_, volume)| [volume; SIDES]);
        let leveled = if nets.levels(target) { self.leveler.gain() } else { 1.0 };
        let gain = self.gain * leveled * self.duck.gain(nets.ducking_db());
        sides.map(|side| side * gain)
    }
}
