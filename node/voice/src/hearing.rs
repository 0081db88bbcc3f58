//! How one talker is heard: on which nets, how loud, on which side.

use hark_keys::TargetId;

use super::{
    SIDES,
    fade::{Duck, Fader},
    keyrings::Keyrings,
    nets::{Aim, Net, Nets, Rank},
};

/// What is heard of a talker from one block to the next.
pub(super) struct Hearing {
    /// The talker's own volume.
    pub(super) gain: f32,
    /// What adds its sound to the mix.
    pub(super) fader: Fader,
    /// What the talkspurt that is being played went to.
    playing: Option<TargetId>,
    /// The nets that it is listened to on.
    nets: Vec<Net>,
    rank: Rank,
    duck: Duck,
}

impl Default for Hearing {
    /// Nothing is played.
    fn default() -> Self {
        Self {
            gain: 1.0,
            fader: Fader::default(),
            playing: None,
            nets: Vec::new(),
            rank: Aim::NOWHERE.rank,
            duck: Duck::default(),
        }
    }
}

impl Hearing {
    /// A block of so many samples begins.
    pub(super) fn begin_block(&mut self, samples: usize, keyrings: &Keyrings, nets: &Nets) {
        self.duck.pass(samples, nets.ducks(self.rank));
        let sides = self.aim(keyrings, nets);
        self.fader.begin(samples, sides);
    }

    /// The block has been mixed; `plays` says whether the talkspurt goes on. Whether the nets are
    /// others than in the block before.
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

    /// The next frame of a talkspurt to `target` follows. Where it `starts`, or went elsewhere than
    /// the one before, it is at once as loud and on the side that it is to be.
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
        // The rank is another one, too.
        self.aim(keyrings, nets);
        self.duck.begin(nets.ducks(self.rank));
        let sides = self.aim(keyrings, nets);
        self.fader.set(sides);
    }

    /// The nets that the talker is listened to on right now, muted ones included.
    pub(super) fn nets(&self) -> &[Net] {
        &self.nets
    }

    /// The rank of what is heard of the talker right now.
    pub(super) fn rank_heard(&self) -> Option<Rank> {
        (self.playing.is_some() && self.fader.is_open()).then_some(self.rank)
    }

    /// Where the gains of the talkspurt that is being played ought to be.
    fn aim(&mut self, keyrings: &Keyrings, nets: &Nets) -> [f32; SIDES] {
        let Some(target) = self.playing else { return [0.0; SIDES] };
        let (heard, priority) = keyrings.heard(target);
        let aim = nets.aim(heard, priority);
        self.rank = aim.rank;
        let gain = self.gain * self.duck.gain(nets.ducking_db());
        aim.sides.map(|side| side * gain)
    }
}
