//! The nets that a person hears and talks to: what was asked for by name, turned into what the squad
//! and the voice side need.

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{ChannelId, MemberId, RoleId, TargetId, Timestamp};
use hark_mesh::{
    Target,
    charter::content::{Layout, NetLayout},
    squad::Squad,
    target::LISTEN,
};

use crate::{
    snapshot::{NetChange, TalkTo},
    voice::{Net, NetSettings, VoiceCommand},
};

/// What a person has chosen, by names: a channel may come and go.
#[derive(Default)]
pub(super) struct Radio {
    /// What to hear; the first channel, or what a loaded preset says, where nobody has chosen.
    hear: Option<BTreeSet<String>>,
    settings: BTreeMap<String, NetSettings>,
    /// What is talked to where no key of its own is held; the first channel where nobody has chosen.
    talk_to: Option<TalkTo>,
    keys: BTreeMap<String, TalkTo>,
    held: BTreeSet<String>,
    /// Whether the plain key is held.
    pressed: bool,
    /// Channels that the voice side hears, and how.
    heard: BTreeMap<Net, NetSettings>,
    /// Where the voice side was told to talk, and whether a key is held for it.
    selected: (Option<TargetId>, bool),
    /// Our voice goes out.
    talking: bool,
    /// Talks on to the target of a key that was let go, until the spurt has ended.
    trailing: bool,
}

/// What of a loaded preset is for this member.
struct Plan {
    nets: Vec<NetLayout>,
    keys: Vec<Target>,
}

impl Radio {
    /// Starts with channels to hear and to talk to; none is what the charter says.
    pub(super) fn new(hear: &[String], talk_to: &[String]) -> Self {
        let chosen = |names: &[String]| (!names.is_empty()).then(|| names.to_vec());
        // Who is talked to is heard as well.
        let hear = chosen(hear).map(|names| names.into_iter().chain(talk_to.iter().cloned()));
        Self {
            hear: hear.map(Iterator::collect),
            talk_to: chosen(talk_to).map(TalkTo::nets),
            ..Self::default()
        }
    }

    /// Hears a net, or no longer.
    pub(super) fn listen(&mut self, squad: &Squad, net: &str, on: bool) {
        let current = || squad.listening().iter().filter_map(|id| name_of(squad, *id)).collect();
        let hear = self.hear.get_or_insert_with(current);
        if on {
            hear.insert(net.to_owned());
        } else {
            hear.retain(|name| !name.eq_ignore_ascii_case(net));
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
                    ..self.talk_to.clone().unwrap_or_default()
                }
            }
        };
        self.talk_to(talk_to);
    }

    /// Changes how a net is heard.
    pub(super) fn set_net(&mut self, squad: &Squad, net: &str, change: NetChange) {
        let now = channel_named(squad, net).and_then(|id| self.heard.get(&Net::Channel(id)));
        let before = now.copied().unwrap_or_default();
        let settings = self.settings.entry(net.to_lowercase()).or_insert(before);
        change.apply(settings);
    }

    /// What is talked to where no key of its own is held.
    pub(super) fn talk_to(&mut self, to: TalkTo) {
        self.talk_to = Some(to);
    }

    /// Gives a key to talk a target, or takes it away.
    pub(super) fn bind(&mut self, key: &str, to: Option<TalkTo>) {
        match to {
            Some(to) if self.keys.len() < KEYS_MAX => {
                self.keys.insert(key.to_owned(), to);
            }
            _ => {
                self.keys.remove(key);
                self.held.remove(key);
            }
        }
    }

    /// A key goes down or up; one that is bound to nothing is a net's name. `opens` is whether keys
    /// open the microphone, which then stays open for the last words. Says whether any is down now.
    pub(super) fn press(&mut self, key: Option<&str>, down: bool, opens: bool) -> bool {
        let was_down = self.is_down();
        match key {
            None => self.pressed = down,
            Some(key) if down => {
                if !self.keys.contains_key(key) {
                    self.bind(key, Some(TalkTo::nets(vec![key.to_owned()])));
                }
                self.held.insert(key.to_owned());
            }
            Some(key) => {
                self.held.remove(key);
            }
        }
        // The last words go where they were said to.
        self.trailing = was_down && !self.is_down() && self.talking && opens;
        self.is_down()
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

    /// What is heard, and how.
    pub(super) fn heard(&self) -> &BTreeMap<Net, NetSettings> {
        &self.heard
    }

    /// What is talked to now, or would be.
    pub(super) fn talking_to(&self, squad: &Squad) -> Option<Target> {
        let wanted = self.wanted(squad, &Plan::of(squad));
        squad.target_of(squad.target(&wanted)?).cloned()
    }

    /// Keys to talk by name, each with whether it is held.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &TalkTo, bool)> {
        self.keys.iter().map(|(name, to)| (name.as_str(), to, self.held.contains(name)))
    }

    /// Brings the squad and the voice side in step with what is wanted; gives what the voice side
    /// is to do.
    pub(super) fn settle(&mut self, now: Timestamp, squad: &mut Squad) -> Vec<VoiceCommand> {
        let plan = Plan::of(squad);
        if let Some(hear) = &self.hear {
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
        self.settle_nets(squad, &plan, &mut commands);
        let (target, keyed) = (squad.target(&wanted), self.is_down());
        if (target, keyed) != self.selected && !self.trailing {
            self.selected = (target, keyed);
            commands.push(VoiceCommand::SelectTarget { target, keyed });
        }
        commands
    }

    fn settle_nets(&mut self, squad: &Squad, plan: &Plan, commands: &mut Vec<VoiceCommand>) {
        let mut heard = BTreeMap::from([(Net::Whisper, NetSettings::default())]);
        for channel in squad.listening() {
            let name = name_of(squad, *channel).unwrap_or_default().to_lowercase();
            let planned = plan.nets.iter().find(|net| net.channel == *channel);
            let settings = self.settings.get(&name).copied();
            let settings = settings.or(planned.map(settings_of)).unwrap_or_default();
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

    /// All that a key can be pressed for.
    fn targets(&self, squad: &Squad, plan: &Plan) -> Vec<Target> {
        let own = self.keys.values().map(|to| resolve(squad, to));
        plan.keys.iter().cloned().chain(own).filter(|target| !target.is_empty()).collect()
    }

    /// What is talked to now, or would be.
    fn wanted(&self, squad: &Squad, plan: &Plan) -> Target {
        let held = self.held.iter().filter_map(|key| self.keys.get(key));
        let held = held.map(|to| resolve(squad, to)).reduce(|all, one| all.union(&one));
        let main = || match &self.talk_to {
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
        let layouts: Vec<&Layout> = charter.state().layouts(squad.member()).collect();
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
    let channel = squad.charter().first_channel(squad.member()).map(|channel| channel.id);
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

/// The channel that people call so, capitals or not; of several the first.
pub(super) fn channel_named(squad: &Squad, name: &str) -> Option<ChannelId> {
    let channels = squad.charter().state().channels_in_order();
    let mut named = channels.into_iter().filter(|channel| {
        let known = squad.channel_name(channel);
        known.is_some_and(|known| known.eq_ignore_ascii_case(name))
            || channel.id.to_string().starts_with(name)
    });
    named.next().map(|channel| channel.id)
}

/// What people call a channel that they may know of.
pub(super) fn name_of(squad: &Squad, channel: ChannelId) -> Option<String> {
    squad.channel_name(squad.charter().state().channel(channel)?)
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
    let may = |id| {
        let at = hark_mesh::charter::content::Place::Channel(id);
        state.allows(squad.member(), LISTEN, at)
    };
    let channels = state.channels_in_order().into_iter().filter(|channel| may(channel.id));
    let named = channels.map(|channel| (channel.id, squad.channel_name(channel)));
    named.filter_map(|(id, name)| Some((id, name?))).collect()
}

/// Keys to talk; further ones are not bound.
const KEYS_MAX: usize = 32;
