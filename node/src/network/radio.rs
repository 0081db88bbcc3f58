//! The nets that a person hears and talks to: what was asked for by name, turned into what the squad
//! and the voice side need.

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{ChannelId, DeviceId, MemberId, RoleId, TargetId, Timestamp};
use hark_mesh::{
    Target,
    charter::content::{Channel, Layout, NetLayout, Place},
    squad::Squad,
    target::LISTEN,
};

use super::own_member;
use crate::{
    profile::{KEYS_MAX, ProfileAction, ProfileError, Profiles},
    snapshot::{NetChange, TalkTo, TransmitMode},
    voice::{Net, NetSettings, VoiceCommand, nets::DUCKING_DB},
};

/// What a person has chosen, by names: a channel may come and go.
pub(super) struct Radio {
    profiles: Profiles,
    run: Run,
    held: BTreeSet<String>,
    /// Whether the plain key is held.
    pressed: bool,
    /// Channels that the voice side hears, and how.
    heard: BTreeMap<Net, NetSettings>,
    /// Where the voice side was told to talk, and whether a key is held for it.
    selected: (Option<TargetId>, bool),
    /// How the voice side opens the microphone.
    transmit: TransmitMode,
    /// By how much it turns nets down.
    ducking_db: f32,
    /// Our voice goes out.
    talking: bool,
    /// Talks on to the target of a key that was let go, until the spurt has ended.
    trailing: bool,
}

/// What holds for this run alone, and comes before the profile until the person chooses otherwise.
#[derive(Default)]
struct Run {
    hear: Option<BTreeSet<String>>,
    talk_to: Option<TalkTo>,
    transmit: Option<TransmitMode>,
    /// Nets that were pressed by name.
    keys: BTreeMap<String, TalkTo>,
}

/// What of a loaded preset is for this member.
struct Plan {
    nets: Vec<NetLayout>,
    keys: Vec<Target>,
}

impl Radio {
    /// Starts with channels to hear and to talk to and a way to open the microphone, for this run;
    /// none is what the profile says, or else the charter.
    pub(super) fn new(hear: &[String], talk_to: &[String], transmit: Option<TransmitMode>) -> Self {
        let chosen = |names: &[String]| (!names.is_empty()).then(|| names.to_vec());
        // Who is talked to is heard as well.
        let hear = chosen(hear).map(|names| names.into_iter().chain(talk_to.iter().cloned()));
        Self {
            profiles: Profiles::default(),
            run: Run {
                hear: hear.map(Iterator::collect),
                talk_to: chosen(talk_to).map(TalkTo::nets),
                transmit,
                keys: BTreeMap::new(),
            },
            held: BTreeSet::new(),
            pressed: false,
            heard: BTreeMap::new(),
            selected: (None, false),
            talking: false,
            transmit: transmit.unwrap_or_default(),
            ducking_db: DUCKING_DB,
            trailing: false,
        }
    }

    /// Goes on with what was kept.
    pub(super) fn restore(&mut self, profiles: Profiles) {
        self.profiles = profiles;
    }

    /// What is to be kept.
    pub(super) fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// Uses, copies or removes a profile.
    pub(super) fn change_profile(
        &mut self,
        action: ProfileAction,
        name: &str,
    ) -> Result<(), ProfileError> {
        self.profiles.change(action, name)?;
        if action == ProfileAction::Use {
            self.run = Run::default();
            // What is held may mean something else now.
            let was_down = self.is_down();
            self.held.clear();
            self.pressed = false;
            self.trailing = self.trails(was_down);
        }
        Ok(())
    }

    /// Hears a net, or no longer.
    pub(super) fn listen(&mut self, squad: &Squad, net: &str, on: bool) {
        let run = self.run.hear.clone();
        let heard = || squad.listening().iter().filter_map(|id| name_of(squad, *id)).collect();
        // What this run began with goes on from here, and is the person's choice now.
        let profile = self.profiles.current_mut();
        if profile.listen(net, on, run, heard) {
            self.run.hear = None;
        }
    }

    /// Hears and talks to `to`, as somebody wants who may; instead of `from`, or as well.
    pub(super) fn follow(&mut self, squad: &Squad, from: Option<ChannelId>, to: ChannelId) {
        let Some(to) = name_of(squad, to) else { return };
        let before = self.talking_to(squad);
        self.listen(squad, &to, true);
        let talk_to = match from {
            None => TalkTo::nets(vec![to]),
            Some(from) => {
                if let Some(from) = name_of(squad, from) {
                    self.listen(squad, &from, false);
                }
                let Some(before) = before.filter(|target| target.channels().contains(&from)) else {
                    return;
                };
                let others = before.channels().iter().filter(|id| **id != from);
                let others = others.filter_map(|id| name_of(squad, *id));
                TalkTo {
                    nets: others.chain([to]).collect(),
                    ..self.chosen().cloned().unwrap_or_default()
                }
            }
        };
        self.talk_to(talk_to);
    }

    /// Changes how a net is heard.
    pub(super) fn set_net(&mut self, net: &str, change: NetChange) {
        self.profiles.current_mut().set_net(net, change);
    }

    /// What is talked to where no key of its own is held.
    pub(super) fn talk_to(&mut self, to: TalkTo) {
        if self.profiles.current_mut().set_talk_to(to) {
            self.run.talk_to = None;
        }
    }

    /// Gives a key to talk a target, or takes it away.
    pub(super) fn bind(&mut self, key: &str, to: Option<TalkTo>) {
        if to.is_none() && self.held.remove(key) {
            self.trailing = self.trails(true);
        }
        self.run.keys.remove(key);
        self.profiles.current_mut().bind(key, to);
    }

    /// By how many decibels nets are turned down while a higher one is heard.
    pub(super) fn set_ducking(&mut self, decibels: f32) {
        self.profiles.current_mut().set_ducking(decibels);
    }

    /// How the microphone opens.
    pub(super) fn set_transmit(&mut self, mode: TransmitMode) {
        self.run.transmit = None;
        // Nobody lets a key go that means nothing in the other mode.
        self.pressed = false;
        self.profiles.current_mut().set_transmit(mode);
    }

    /// How loud a device is; gives what the voice side is to do.
    pub(super) fn set_volume(&mut self, device: DeviceId, gain: f32) -> VoiceCommand {
        self.profiles.current_mut().set_volume(device, gain);
        VoiceCommand::Volume { device, gain: self.volume(device) }
    }

    /// A key goes down or up; one that is bound to nothing is a net's name.
    pub(super) fn press(&mut self, key: Option<&str>, down: bool) {
        let was_down = self.is_down();
        match key {
            None => self.pressed = down,
            Some(key) if down => {
                if self.bound(key).is_none() && self.keys().count() < KEYS_MAX {
                    let net = TalkTo::nets(vec![key.to_owned()]);
                    self.run.keys.insert(key.to_owned(), net);
                }
                // One that is bound to nothing for want of room talks to nobody.
                if self.bound(key).is_some() {
                    self.held.insert(key.to_owned());
                }
            }
            Some(key) => {
                self.held.remove(key);
            }
        }
        self.trailing = self.trails(was_down);
    }

    /// Whether the last words are still to go where they were said to: no key is held any more that
    /// has opened the microphone.
    fn trails(&self, was_down: bool) -> bool {
        was_down && !self.is_down() && self.talking && self.transmit == TransmitMode::Ptt
    }

    /// A spurt of ours has begun.
    pub(super) fn handle_spurt_started(&mut self) {
        self.talking = true;
    }

    /// Our spurt has ended.
    pub(super) fn handle_spurt_ended(&mut self) {
        self.talking = false;
        self.trailing = false;
    }

    /// Whether a key to talk is held.
    pub(super) fn is_down(&self) -> bool {
        self.pressed || !self.held.is_empty()
    }

    /// How the microphone opens.
    pub(super) fn transmit(&self) -> TransmitMode {
        self.transmit
    }

    /// How loud a device is, 1 being as sent.
    pub(super) fn volume(&self, device: DeviceId) -> f32 {
        self.profiles.current().volumes().get(&device).copied().unwrap_or(1.0)
    }

    /// What is heard, and how.
    pub(super) fn heard(&self) -> &BTreeMap<Net, NetSettings> {
        &self.heard
    }

    /// What is talked to now, or would be.
    pub(super) fn talking_to(&self, squad: &Squad) -> Option<Target> {
        let wanted = self.wanted(squad, &Plan::of(squad));
        squad.target_of(squad.target(&wanted)?).cloned()
    }

    /// Channels that are to be talked to now, or would be, whether that is permitted or not.
    pub(super) fn wanted_channels(&self, squad: &Squad) -> Vec<ChannelId> {
        self.wanted(squad, &Plan::of(squad)).channels().to_vec()
    }

    /// Keys to talk by name, each with whether it is held.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &TalkTo, bool)> {
        let kept = self.profiles.current().keys();
        // A net's name may be bound in the profile that came into use after it was pressed.
        let pressed = self.run.keys.iter().filter(|(name, _)| !kept.contains_key(*name));
        let all = kept.iter().chain(pressed);
        all.map(|(name, to)| (name.as_str(), to, self.held.contains(name)))
    }

    /// Brings the squad and the voice side in step with what is wanted; gives what the voice side
    /// is to do.
    pub(super) fn settle(&mut self, now: Timestamp, squad: &mut Squad) -> Vec<VoiceCommand> {
        let plan = Plan::of(squad);
        let profile = self.profiles.current();
        if let Some(hear) = self.run.hear.as_ref().or(profile.hear()) {
            let channels: BTreeSet<_> =
                hear.iter().filter_map(|name| channel_named(squad, name)).collect();
            squad.set_listening(now, channels);
        } else if !plan.nets.is_empty() {
            squad.set_listening(now, plan.nets.iter().map(|net| net.channel));
        } else {
            squad.listen_to_first(now);
        }
        let mut targets = self.targets(squad, &plan);
        let wanted = self.wanted(squad, &plan);
        if !targets.contains(&wanted) {
            targets.insert(0, wanted.clone());
        }
        squad.set_targets(now, targets);
        let mut commands = Vec::new();
        self.settle_sound(&mut commands);
        self.settle_nets(squad, &plan, &mut commands);
        let (target, keyed) = (squad.target(&wanted), self.is_down());
        if (target, keyed) != self.selected && !self.trailing {
            self.selected = (target, keyed);
            commands.push(VoiceCommand::SelectTarget { target, keyed });
        }
        commands
    }

    /// Before a target is selected: what is said must not open the microphone meanwhile.
    fn settle_sound(&mut self, commands: &mut Vec<VoiceCommand>) {
        let profile = self.profiles.current();
        let transmit = self.run.transmit.or(profile.transmit()).unwrap_or_default();
        let ducking_db = profile.ducking_db().unwrap_or(DUCKING_DB);
        if std::mem::replace(&mut self.transmit, transmit) != transmit {
            // There are no last words where no key closes the microphone: they would never end.
            self.trailing = false;
            commands.push(VoiceCommand::SetTransmit(transmit.into()));
        }
        if std::mem::replace(&mut self.ducking_db, ducking_db) != ducking_db {
            commands.push(VoiceCommand::SetDucking(ducking_db));
        }
    }

    fn settle_nets(&mut self, squad: &Squad, plan: &Plan, commands: &mut Vec<VoiceCommand>) {
        let mut heard = BTreeMap::from([(Net::Whisper, NetSettings::default())]);
        for channel in squad.listening() {
            let name = name_of(squad, *channel).unwrap_or_default();
            let planned = plan.nets.iter().find(|net| net.channel == *channel);
            let mut settings = planned.map(settings_of).unwrap_or_default();
            self.profiles.current().net(&name).apply(&mut settings);
            heard.insert(Net::Channel(*channel), settings);
        }
        for net in self.heard.keys().filter(|net| !heard.contains_key(net)) {
            commands.push(VoiceCommand::RemoveNet(*net));
        }
        for (net, settings) in &heard {
            if self.heard.get(net) != Some(settings) {
                commands.push(VoiceCommand::SetNet { net: *net, settings: *settings });
            }
        }
        self.heard = heard;
    }

    /// What is talked to without a key of its own, if the person has said so.
    fn chosen(&self) -> Option<&TalkTo> {
        self.run.talk_to.as_ref().or(self.profiles.current().talk_to())
    }

    /// What a key talks to.
    fn bound(&self, key: &str) -> Option<&TalkTo> {
        self.profiles.current().keys().get(key).or(self.run.keys.get(key))
    }

    /// All that a key can be pressed for.
    fn targets(&self, squad: &Squad, plan: &Plan) -> Vec<Target> {
        let own = self.keys().map(|(_, to, _)| resolve(squad, to));
        plan.keys.iter().cloned().chain(own).filter(|target| !target.is_empty()).collect()
    }

    /// What is talked to now, or would be.
    fn wanted(&self, squad: &Squad, plan: &Plan) -> Target {
        let held = self.held.iter().filter_map(|key| self.bound(key));
        let held = held.map(|to| resolve(squad, to)).reduce(|all, one| all.union(&one));
        let main = || match self.chosen() {
            Some(to) => resolve(squad, to),
            None => plan.keys.first().cloned().unwrap_or_else(|| first(squad)),
        };
        match held {
            Some(target) if self.pressed => target.union(&main()),
            Some(target) => target,
            None => main(),
        }
    }
}

impl Plan {
    fn of(squad: &Squad) -> Self {
        let charter = squad.charter();
        let layouts: Vec<&Layout> = charter.state().layouts(own_member(squad)).collect();
        let nets = layouts.iter().flat_map(|layout| layout.nets.iter().copied()).collect();
        let keys = layouts.iter().flat_map(|layout| layout.keys.iter());
        let keys = keys.map(|channels| Target::new(channels.iter().copied(), [], []));
        Self { nets, keys: keys.collect() }
    }
}

fn settings_of(net: &NetLayout) -> NetSettings {
    NetSettings {
        volume: f32::from(net.volume_percent) / 100.0,
        pan: f32::from(net.pan_percent) / 100.0,
        muted: false,
        priority: net.priority,
    }
}

fn first(squad: &Squad) -> Target {
    let channel = squad.charter().first_channel(own_member(squad)).map(|channel| channel.id);
    Target::new(channel, [], [])
}

/// The target of names; what is not known is left out.
fn resolve(squad: &Squad, to: &TalkTo) -> Target {
    let channels = to.nets.iter().filter_map(|name| channel_named(squad, name));
    let members: Vec<MemberId> =
        to.members.iter().filter_map(|name| member_named(squad, name)).collect();
    let roles: Vec<RoleId> =
        to.roles.iter().filter_map(|name| squad.charter().role_named(name)).collect();
    let mut target = Target::new(channels, members, roles);
    target.priority = to.priority;
    target
}

/// The channel that people call so, capitals or not; of several the first. Or the one whose id begins
/// so, where none is called so.
pub(super) fn channel_named(squad: &Squad, name: &str) -> Option<ChannelId> {
    let channels = squad.charter().state().channels_in_order();
    let is_called = |channel: &&&Channel| {
        let known = squad.channel_name(channel);
        known.is_some_and(|known| known.eq_ignore_ascii_case(name))
    };
    let has_path = |channel: &&&Channel| path_of(squad, channel.id).eq_ignore_ascii_case(name);
    let has_id =
        |channel: &&&Channel| name.len() >= ID_MIN && channel.id.to_string().starts_with(name);
    let found = channels.iter().find(is_called).or_else(|| channels.iter().find(has_path));
    let found = found.or_else(|| channels.iter().find(has_id));
    found.map(|channel| channel.id)
}

/// What people call a channel that they may know of.
pub(super) fn name_of(squad: &Squad, channel: ChannelId) -> Option<String> {
    squad.channel_name(squad.charter().state().channel(channel)?)
}

/// The name of a channel after those of all above it that this member may know of, with `/` between
/// them.
pub(super) fn path_of(squad: &Squad, channel: ChannelId) -> String {
    let state = squad.charter().state();
    let mut names: Vec<_> = state
        .path(Place::Channel(channel))
        .filter_map(|at| match at {
            Place::Channel(id) => name_of(squad, id),
            Place::Organisation => None,
        })
        .collect();
    names.reverse();
    names.join("/")
}

/// The member whose device was last seen under this name, or with this id.
pub(super) fn member_named(squad: &Squad, name: &str) -> Option<MemberId> {
    let charter = squad.charter();
    if let Ok(device) = name.parse() {
        return charter.owner(device);
    }
    let records = squad.directory().records().map(hark_keys::Signed::unverified);
    let mut named: Vec<_> = records
        .filter(|record| record.shown_name().eq_ignore_ascii_case(name))
        .filter_map(|record| charter.owner(record.device))
        .collect();
    named.dedup();
    if let [member] = named[..] { Some(member) } else { None }
}

/// Channels that this member may hear, in the order that officers gave them, with their names.
pub(super) fn nets_within_reach(squad: &Squad) -> Vec<(ChannelId, String)> {
    let charter = squad.charter();
    let state = charter.state();
    let may = |id| state.allows(own_member(squad), LISTEN, Place::Channel(id));
    let channels = state.channels_in_order().into_iter().filter(|channel| may(channel.id));
    let named = channels.map(|channel| (channel.id, squad.channel_name(channel)));
    named.filter_map(|(id, name)| Some((id, name?))).collect()
}

/// Characters of an id that name a channel: less could be anybody's choice.
const ID_MIN: usize = 8;
