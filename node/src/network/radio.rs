//! The nets that a person hears and talks to: what was asked for by name, turned into what the
//! squad and the voice side need.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use hark_charter::content::{Channel, ChannelSound, Layout, NetLayout, Place, Subject};
use hark_commands::names::{by_id, find_channel, nearest, unique_path};
use hark_keys::{ChannelId, DeviceId, MemberId, PresetId, RoleId, TargetId, Timestamp};
use hark_mesh::{Target, squad::Squad, target::LISTEN};
use hark_voice::{Music, Net, NetSettings, VoiceCommand, nets::DUCKING_DB};

use super::own_member;
use crate::{
    event::{Deafness, Notice},
    profile::{KEYS_MAX, ProfileAction, ProfileError, Profiles},
    snapshot::{KeyView, MasterChange, MasterVolumes, NetChange, TalkTo, TransmitMode},
};

/// What a person has chosen, by names: a channel may come and go.
pub(super) struct Radio {
    profiles: Profiles,
    run: Run,
    /// Keys that are down, the plain one without a name, and until when: `None` until it is let go.
    held: BTreeMap<Option<String>, Option<Timestamp>>,
    /// What is heard, as the person has set it.
    heard: BTreeMap<Net, NetSettings>,
    /// What the voice side was told to hear, the volumes of all nets included.
    told: BTreeMap<Net, NetSettings>,
    /// Whether nets that are not talked to are turned down for now.
    others_down: bool,
    /// Where the voice side was told to talk, and whether a key is held for it.
    selected: (Option<TargetId>, bool),
    /// How the voice side opens the microphone.
    transmit: TransmitMode,
    /// By how much it turns nets down.
    ducking_db: f32,
    /// Whether talkers are brought to one loudness.
    leveling: bool,
    /// Whether they are placed around the head.
    headphones: bool,
    /// The channels for music that it knows.
    music: BTreeMap<TargetId, Music>,
    /// Our voice goes out.
    talking: bool,
    /// Talks on to the target of a key that was let go, until the talkspurt has ended.
    trailing: bool,
    /// What the person is to be told.
    notices: Vec<Notice>,
    /// Whether the person is to be told if what this run talks to is not heard.
    tells_deafness: bool,
    /// What the person has chosen to talk to, and has been told that it is not there.
    missed: Option<TalkTo>,
}

/// What holds for this run alone, and comes before the profile until the person chooses otherwise.
#[derive(Default)]
struct Run {
    hear: Option<BTreeSet<String>>,
    talk_to: Option<TalkTo>,
    transmit: Option<TransmitMode>,
    /// Nets that were pressed by name, and targets that were pressed without a key of theirs.
    keys: BTreeMap<String, TalkTo>,
}

/// What the loaded presets say for this member. Where several layouts do, that for the member comes
/// first, then those of its roles, the highest first, then those for everyone.
#[derive(Default)]
struct Plan {
    /// Names of the presets by their ids.
    presets: BTreeMap<PresetId, String>,
    nets: Vec<NetLayout>,
    /// Keys to talk by their number, counted from 1: of the first layout that has so many.
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
            held: BTreeMap::new(),
            heard: BTreeMap::new(),
            told: BTreeMap::new(),
            others_down: false,
            selected: (None, false),
            talking: false,
            transmit: transmit.unwrap_or_default(),
            ducking_db: DUCKING_DB,
            leveling: false,
            headphones: false,
            music: BTreeMap::new(),
            trailing: false,
            notices: Vec::new(),
            tells_deafness: false,
            missed: None,
        }
    }

    /// Goes on with what was kept. Names that somebody has written into the file become those by
    /// which channels are known here. A profile that was `asked_for` counts as chosen now.
    pub(super) fn restore(&mut self, squad: &Squad, mut profiles: Profiles, asked_for: bool) {
        let paths = paths(squad);
        let mut mistaken = None;
        profiles.rename_nets(|name| {
            if let Ok(id) = find_channel(name, &paths) {
                return unique(id, &paths);
            }
            // It may be a channel of a preset that is not loaded.
            let near = nearest(name, paths.iter().map(|(_, path)| path.as_str()));
            if let (Some(near), None) = (near.first(), &mistaken) {
                let (name, near) = (name.to_owned(), (*near).to_owned());
                mistaken = Some(Notice::NoSuchChannel { name, near });
            }
            None
        });
        if asked_for {
            profiles.current_mut().set_presets(Plan::of(squad).ids());
        }
        self.notices.extend(mistaken);
        self.profiles = profiles;
    }

    /// What is to be kept.
    pub(super) fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// Uses, copies or removes a profile.
    pub(super) fn change_profile(
        &mut self,
        squad: &Squad,
        action: ProfileAction,
        name: &str,
    ) -> Result<(), ProfileError> {
        self.profiles.change(action, name)?;
        if action == ProfileAction::Use {
            self.profiles.current_mut().set_presets(Plan::of(squad).ids());
            self.run = Run::default();
            // What is held may mean something else now.
            let was_down = self.is_down();
            self.held.clear();
            self.trailing = self.trails(was_down);
        }
        Ok(())
    }

    /// Hears a net, or no longer, until a preset is loaded; or, to `keep` it, besides whatever
    /// presets say.
    pub(super) fn listen(
        &mut self,
        squad: &Squad,
        net: &str,
        on: bool,
        keep: bool,
    ) -> Result<(), ProfileError> {
        let profile = self.profiles.current_mut();
        if on && keep {
            return profile.keep(net);
        }
        let paths = paths(squad);
        let heard = || squad.listening().iter().filter_map(|id| unique(*id, &paths)).collect();
        // What this run began with goes on from here, and is the person's choice now.
        profile.listen(net, on, self.run.hear.clone(), heard)?;
        profile.set_presets(Plan::of(squad).ids());
        self.run.hear = None;
        Ok(())
    }

    /// Hears and talks to `to`, as somebody wants who may; instead of `from`, or as well.
    pub(super) fn go_along(
        &mut self,
        squad: &Squad,
        from: Option<ChannelId>,
        to: ChannelId,
    ) -> Result<(), ProfileError> {
        let paths = paths(squad);
        let Some(to) = unique(to, &paths) else { return Ok(()) };
        let before = self.talking_to(squad);
        self.listen(squad, &to, true, false)?;
        let talk_to = match from {
            None => TalkTo::nets(vec![to]),
            Some(from) => {
                if let Some(from) = unique(from, &paths) {
                    self.listen(squad, &from, false, false)?;
                }
                let Some(before) = before.filter(|target| target.channels().contains(&from)) else {
                    return Ok(());
                };
                let others = before.channels().iter().filter(|id| **id != from);
                let others = others.filter_map(|id| unique(*id, &paths));
                TalkTo {
                    nets: others.chain([to]).collect(),
                    ..self.chosen().cloned().unwrap_or_default()
                }
            }
        };
        self.talk_to(squad, talk_to, false)
    }

    /// Changes how a net is heard.
    pub(super) fn set_net(&mut self, net: &str, change: NetChange) -> Result<(), ProfileError> {
        self.profiles.current_mut().set_net(net, change)
    }

    /// What is talked to where no key of its own is held: until a preset is loaded, or to `keep`
    /// it.
    pub(super) fn talk_to(
        &mut self,
        squad: &Squad,
        to: TalkTo,
        keep: bool,
    ) -> Result<(), ProfileError> {
        let profile = self.profiles.current_mut();
        profile.set_talk_to(to, keep)?;
        profile.set_presets(Plan::of(squad).ids());
        self.run.talk_to = None;
        Ok(())
    }

    /// Hears what it would without the flags of this run.
    pub(super) fn drop_flags(&mut self) {
        self.run.hear = None;
    }

    /// Hears and talks to what the charter says.
    pub(super) fn follow(&mut self, squad: &Squad) {
        (self.run.hear, self.run.talk_to) = (None, None);
        let planned = 1..=Plan::of(squad).keys.len();
        self.profiles.current_mut().follow(planned.map(|number| number.to_string()));
    }

    /// Gives a key to talk a target, or takes it away.
    pub(super) fn bind(&mut self, key: &str, to: Option<TalkTo>) -> Result<(), ProfileError> {
        let frees = to.is_none();
        self.profiles.current_mut().bind(key, to)?;
        self.run.keys.remove(key);
        if frees && self.held.remove(&Some(key.to_owned())).is_some() {
            self.trailing = self.trails(true);
        }
        Ok(())
    }

    /// How a net is heard once it is, unless a preset says more.
    pub(super) fn chosen_settings(&self, net: &str) -> NetSettings {
        let mut settings = NetSettings::default();
        self.profiles.current().net(net).apply(&mut settings);
        settings
    }

    /// By how many decibels nets are turned down while a higher one is heard.
    pub(super) fn set_ducking(&mut self, decibels: f32) -> Result<(), ProfileError> {
        self.profiles.current_mut().set_ducking(decibels)
    }

    /// Changes the volumes of all nets together.
    pub(super) fn set_master(&mut self, change: MasterChange) -> Result<(), ProfileError> {
        self.profiles.current_mut().set_master(change)?;
        self.others_down = change.others_down.unwrap_or(self.others_down);
        Ok(())
    }

    /// The volumes of all nets together.
    pub(super) fn master(&self) -> MasterVolumes {
        MasterVolumes { others_down: self.others_down, ..self.profiles.current().master() }
    }

    /// How the microphone opens.
    pub(super) fn set_transmit(&mut self, mode: TransmitMode) {
        self.run.transmit = None;
        // Nobody lets a key go that means nothing in the other mode.
        self.held.remove(&None);
        self.profiles.current_mut().set_transmit(mode);
    }

    /// How loud a device is; gives what the voice side is to do.
    pub(super) fn set_volume(
        &mut self,
        device: DeviceId,
        gain: f32,
    ) -> Result<VoiceCommand, ProfileError> {
        self.profiles.current_mut().set_volume(device, gain)?;
        Ok(VoiceCommand::Volume { device, gain: self.volume(device) })
    }

    /// The key of this name, capitals or not, if there is one.
    pub(super) fn key_named(&self, squad: &Squad, name: &str) -> Option<String> {
        let keys = self.keys(squad);
        let exact = keys.iter().find(|it| it.key == name);
        let found = exact.or_else(|| keys.iter().find(|it| it.key.eq_ignore_ascii_case(name)));
        found.map(|it| it.key.clone())
    }

    /// Whether a key reaches nobody: nothing of what it talks to is there and permitted.
    pub(super) fn is_idle(&self, squad: &Squad, key: &str) -> bool {
        let keys = self.keys(squad);
        let target = keys.iter().find(|it| it.key == key).map(|it| resolve(squad, &it.to));
        let (state, own) = (squad.charter().state(), own_member(squad));
        target.is_none_or(|target| target.permitted(state, own).is_empty())
    }

    /// Whether the person has chosen to hear what is called so.
    pub(super) fn chose(&self, net: &str) -> bool {
        let profile = self.profiles.current();
        profile.hear().is_some_and(|hear| hear.contains(net)) || profile.kept().contains(net)
    }

    /// Makes a target a key of this name, for this run. Where there is no room, others that were
    /// made so and are not held go.
    pub(super) fn add_key(
        &mut self,
        squad: &Squad,
        key: String,
        to: TalkTo,
    ) -> Result<(), ProfileError> {
        let is_full = self.keys(squad).len() >= KEYS_MAX && !self.run.keys.contains_key(&key);
        // Last words still go to the target of a key that is held no more.
        if is_full && !self.trailing {
            self.run.keys.retain(|key, _| self.held.contains_key(&Some(key.clone())));
        }
        if self.keys(squad).len() >= KEYS_MAX && !self.run.keys.contains_key(&key) {
            return Err(ProfileError::TooManyKeys);
        }
        self.run.keys.insert(key, to);
        Ok(())
    }

    /// Whether this key was made for this run.
    pub(super) fn is_of_run(&self, key: &str) -> bool {
        self.run.keys.contains_key(key) && !self.profiles.current().keys().contains_key(key)
    }

    /// A key goes down, until it is let go or `until` then; `None` is the plain key.
    pub(super) fn press(&mut self, key: Option<String>, until: Option<Timestamp>) {
        self.held.insert(key, until);
        self.trailing = false;
    }

    /// A key is let go.
    pub(super) fn release(&mut self, key: &Option<String>) {
        let was_down = self.is_down();
        self.held.remove(key);
        self.trailing = self.trails(was_down);
    }

    /// A key that is held for longer than it was to be.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<Option<String>> {
        let overdue = |until: &Option<Timestamp>| until.is_some_and(|until| now >= until);
        self.held.iter().find(|(_, until)| overdue(until)).map(|(key, _)| key.clone())
    }

    /// Whether the last words are still to go where they were said to: no key is held any more that
    /// has opened the microphone.
    fn trails(&self, was_down: bool) -> bool {
        was_down && !self.is_down() && self.talking && self.transmit == TransmitMode::Ptt
    }

    /// A talkspurt of ours has begun.
    pub(super) fn handle_talkspurt_started(&mut self) {
        self.talking = true;
    }

    /// Our talkspurt has ended.
    pub(super) fn handle_talkspurt_ended(&mut self) {
        self.talking = false;
        self.trailing = false;
    }

    /// Whether a key to talk is held.
    pub(super) fn is_down(&self) -> bool {
        !self.held.is_empty()
    }

    /// What the person is to be told, once.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
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

    /// What is talked to now, or would be, as far as it is permitted.
    pub(super) fn talking_to(&self, squad: &Squad) -> Option<Target> {
        let wanted = self.wanted(squad, &Plan::of(squad));
        squad.target_of(squad.target(&wanted)?).cloned()
    }

    /// What was asked to be talked to, permitted or not.
    pub(super) fn asked_for(&self, squad: &Squad) -> Target {
        self.wanted(squad, &Plan::of(squad))
    }

    /// The nets that the person talks to and will not hear the answers on, if there are any.
    pub(super) fn is_deaf_to_answers(&self, squad: &Squad) -> Option<Deafness> {
        let (state, own) = (squad.charter().state(), own_member(squad));
        let (paths, target) = (paths(squad), self.wanted(squad, &Plan::of(squad)));
        let names = |on: &dyn Fn(ChannelId) -> bool| {
            let nets = target.channels().iter().filter(|id| on(**id));
            nets.filter_map(|id| unique(*id, &paths)).collect::<Vec<_>>()
        };
        let may = |id| state.allows(own, LISTEN, Place::Channel(id));
        let closed = names(&|id| !may(id));
        let unheard = names(&|id| may(id) && !squad.listening().contains(&id));
        let (nets, closed) = if closed.is_empty() { (unheard, false) } else { (closed, true) };
        (!nets.is_empty()).then_some(Deafness { nets, closed })
    }

    /// Says it once what this run began with is settled.
    pub(super) fn say_if_deaf_to_answers(&mut self) {
        self.tells_deafness = true;
    }

    /// Whether a net is heard besides whatever presets say.
    pub(super) fn is_kept(&self, net: &str) -> bool {
        self.profiles.current().kept().contains(net)
    }

    /// Keys to talk: those of the plan that the person has not bound anew, the person's, and nets
    /// that were pressed by name.
    pub(super) fn keys(&self, squad: &Squad) -> Vec<KeyView> {
        self.keys_of(squad, &Plan::of(squad))
    }

    fn keys_of(&self, squad: &Squad, plan: &Plan) -> Vec<KeyView> {
        let own = self.profiles.current().keys();
        let paths = paths(squad);
        let nets = |target: &Target| {
            let nets = paths.iter().filter(|(id, _)| target.channels().contains(id));
            TalkTo::nets(nets.map(|(id, path)| unique_path(*id, path, &paths)).collect())
        };
        let planned = (1..).zip(&plan.keys).map(|(number, to): (u32, _)| (number.to_string(), to));
        let planned = planned.map(|(key, to)| (key, nets(to), true));
        let pressed = self.run.keys.iter().map(|(key, to)| (key.clone(), to.clone(), false));
        let further = planned.chain(pressed).filter(|(key, ..)| !own.contains_key(key));
        let own = own.iter().map(|(key, to)| (key.clone(), to.clone(), false));
        let all = own.chain(further).map(|(key, to, planned)| {
            let down = self.held.contains_key(&Some(key.clone()));
            KeyView { key, to, planned, down }
        });
        all.collect()
    }

    /// Brings the squad and the voice side in step with what is wanted; gives what the voice side
    /// is to do.
    ///
    /// Only the organisation in front has nets that are talked to.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        squad: &mut Squad,
        in_front: bool,
    ) -> Vec<VoiceCommand> {
        let plan = Plan::of(squad);
        self.give_way(&plan);
        let profile = self.profiles.current();
        let chosen = match &self.run.hear {
            Some(nets) => Some(there(squad, nets).unwrap_or_default()),
            None => profile.hear().and_then(|nets| there(squad, nets)),
        };
        let kept = there(squad, profile.kept()).unwrap_or_default();
        if let Some(channels) = chosen {
            squad.set_listening(now, channels.union(&kept).copied());
        } else if !plan.nets.is_empty() {
            squad.set_listening(now, plan.nets.iter().map(|net| net.channel).chain(kept));
        } else if kept.is_empty() {
            squad.listen_to_first(now);
        } else {
            let first = squad.charter().first_channel(own_member(squad)).map(|it| it.id);
            squad.set_listening(now, first.into_iter().chain(kept));
        }
        self.watch_choice(squad);
        if std::mem::take(&mut self.tells_deafness) {
            self.notices.extend(self.is_deaf_to_answers(squad).map(Notice::Deaf));
        }
        let mut targets = self.targets(squad, &plan);
        let wanted = self.wanted(squad, &plan);
        if !targets.contains(&wanted) {
            targets.insert(0, wanted.clone());
        }
        squad.set_targets(now, targets);
        let mut commands = Vec::new();
        self.settle_sound(&mut commands);
        self.settle_nets(squad, &plan, in_front, &mut commands);
        let music = music(squad);
        if music != self.music {
            self.music.clone_from(&music);
            commands.push(VoiceCommand::SetMusic(music));
        }
        let (target, keyed) = (squad.target(&wanted), self.is_down());
        if (target, keyed) != self.selected && !self.trailing {
            self.selected = (target, keyed);
            commands.push(VoiceCommand::SelectTarget { target, keyed });
        }
        commands
    }

    /// What was chosen before a preset was loaded gives way to it, but for what is to be kept.
    fn give_way(&mut self, plan: &Plan) {
        let profile = self.profiles.current_mut();
        let is_new = |(id, _): &(&PresetId, _)| !profile.presets().contains(&id.to_string());
        let news: Vec<_> = plan.presets.iter().filter(is_new).map(|(_, name)| &**name).collect();
        let gave_way = !news.is_empty() && profile.give_way();
        profile.set_presets(plan.ids());
        if gave_way {
            let presets = news.into_iter().map(str::to_owned).collect();
            self.notices.push(Notice::PresetLoaded { presets });
        }
    }

    /// Notes whether what the person has chosen to talk to is there. What was there and has gone is
    /// not exchanged for something else: others than were meant would hear what is just being said.
    fn watch_choice(&mut self, squad: &Squad) {
        let Some(chosen) = self.profiles.current().talk_to() else { return };
        if !resolve(squad, chosen).is_empty() {
            self.missed = None;
            return;
        }
        // Said once, and only if it is what the voice went to.
        if self.missed.as_ref() != Some(chosen) && self.run.talk_to.is_none() {
            self.notices.push(Notice::TargetGone);
        }
        self.missed = Some(chosen.clone());
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
        let MasterVolumes { leveling, headphones, .. } = profile.master();
        if std::mem::replace(&mut self.leveling, leveling) != leveling {
            commands.push(VoiceCommand::SetLeveling(leveling));
        }
        if std::mem::replace(&mut self.headphones, headphones) != headphones {
            commands.push(VoiceCommand::SetHeadphones(headphones));
        }
    }

    fn settle_nets(
        &mut self,
        squad: &Squad,
        plan: &Plan,
        in_front: bool,
        commands: &mut Vec<VoiceCommand>,
    ) {
        let mut heard = BTreeMap::from([(Net::Whisper, NetSettings::default())]);
        let paths = paths(squad);
        for channel in squad.listening() {
            let name = unique(*channel, &paths).unwrap_or_default();
            let planned = plan.nets.iter().find(|net| net.channel == *channel);
            let mut settings = planned.map(settings_of).unwrap_or_default();
            self.profiles.current().net(&name).apply(&mut settings);
            heard.insert(Net::Channel(*channel), settings);
        }
        let (master, main) = (self.master(), self.main(squad, plan));
        let others = master.others * if master.others_down { OTHERS_DOWN } else { 1.0 };
        let mut told = heard.clone();
        for (net, settings) in &mut told {
            let is_talked_to = match net {
                Net::Whisper => true,
                Net::Channel(id) => in_front && main.channels().contains(id),
            };
            settings.volume *= if is_talked_to { master.talked_to } else { others };
        }
        for net in self.told.keys().filter(|net| !told.contains_key(net)) {
            commands.push(VoiceCommand::RemoveNet(*net));
        }
        for (net, settings) in &told {
            if self.told.get(net) != Some(settings) {
                commands.push(VoiceCommand::SetNet { net: *net, settings: *settings });
            }
        }
        (self.heard, self.told) = (heard, told);
    }

    /// What is talked to without a key of its own, if the person has said so and any of it is
    /// there, or was in this run. What was wanted for this run alone is not exchanged for something
    /// else.
    fn chosen(&self) -> Option<&TalkTo> {
        self.run.talk_to.as_ref().or_else(|| self.profiles.current().talk_to())
    }

    /// All that a key can be pressed for.
    fn targets(&self, squad: &Squad, plan: &Plan) -> Vec<Target> {
        let keys = self.keys_of(squad, plan).into_iter().map(|it| resolve(squad, &it.to));
        plan.keys.iter().cloned().chain(keys).filter(|target| !target.is_empty()).collect()
    }

    /// What is talked to now, or would be.
    fn wanted(&self, squad: &Squad, plan: &Plan) -> Target {
        let keys = self.keys_of(squad, plan).into_iter().filter(|it| it.down);
        let held = keys.map(|it| resolve(squad, &it.to)).reduce(|all, one| all.union(&one));
        match held {
            Some(target) if self.held.contains_key(&None) => target.union(&self.main(squad, plan)),
            Some(target) => target,
            None => self.main(squad, plan),
        }
    }

    /// What is talked to without a key of its own.
    fn main(&self, squad: &Squad, plan: &Plan) -> Target {
        match self.chosen() {
            Some(to) => resolve(squad, to),
            None => plan.keys.first().cloned().unwrap_or_else(|| first(squad)),
        }
    }
}

impl Plan {
    fn of(squad: &Squad) -> Self {
        let (charter, own) = (squad.charter(), own_member(squad));
        let state = charter.state();
        let roles: BTreeSet<_> = state.grants(own).map(|(role, _)| role).collect();
        let place = |layout: &Layout| match layout.subject {
            Subject::Member(member) => (member == own).then_some((Reverse(2), None)),
            Subject::Role(id) if roles.contains(&id) => {
                let role = state.role(id)?;
                Some((Reverse(1), Some((role.rank, role.name.clone()))))
            }
            Subject::Role(_) => None,
            Subject::Everyone => Some((Reverse(0), None)),
        };
        let mut layouts = Vec::new();
        for preset in state.loaded() {
            let own = preset.layouts.iter().filter_map(|it| Some((place(it)?, preset, it)));
            layouts.extend(own);
        }
        layouts.sort_by(|(a, one, _), (b, other, _)| (a, &one.name).cmp(&(b, &other.name)));
        let mut plan = Self::default();
        for (_, preset, layout) in layouts {
            plan.presets.insert(preset.id, preset.name.clone());
            plan.nets.extend(layout.nets.iter().copied());
            let further = layout.keys.iter().skip(plan.keys.len());
            plan.keys.extend(further.map(|nets| Target::new(nets.iter().copied(), [], [])));
        }
        plan
    }

    fn ids(&self) -> BTreeSet<String> {
        self.presets.keys().map(ToString::to_string).collect()
    }
}

/// The channels for music.
fn music(squad: &Squad) -> BTreeMap<TargetId, Music> {
    let music = |channel: &Channel| {
        let (kbps, stereo) = match channel.sound {
            ChannelSound::Speech => return None,
            ChannelSound::Music(kbps) => (kbps, false),
            ChannelSound::Stereo(kbps) => (kbps, true),
        };
        let music = Music { bitrate_bps: u32::from(kbps) * 1_000, stereo };
        Some((TargetId::of_channel(channel.id), music))
    };
    squad.charter().state().channels().filter_map(music).collect()
}

fn settings_of(net: &NetLayout) -> NetSettings {
    NetSettings {
        volume: f32::from(net.volume_percent) / 100.0,
        pan: f32::from(net.pan_percent) / 100.0,
        muted: false,
        priority: net.priority,
        radio: false,
    }
}

fn first(squad: &Squad) -> Target {
    let channel = squad.charter().first_channel(own_member(squad)).map(|channel| channel.id);
    Target::new(channel, [], [])
}

/// The factor of nets that are not talked to while they are turned down: 18 dB.
const OTHERS_DOWN: f32 = 0.126;

/// The target of names; what is not there is left out.
fn resolve(squad: &Squad, to: &TalkTo) -> Target {
    let paths = if to.nets.is_empty() { Vec::new() } else { paths(squad) };
    let channels = to.nets.iter().filter_map(|name| find_channel(name, &paths).ok());
    let members = to.members.iter().filter_map(|name| member_named(squad, name));
    let roles: Vec<RoleId> =
        to.roles.iter().filter_map(|name| squad.charter().role_named(name)).collect();
    let mut target = Target::new(channels, members, roles);
    target.priority = to.priority;
    target
}

/// Those of the nets that are there; `None` if none is left of what was chosen.
fn there(squad: &Squad, nets: &BTreeSet<String>) -> Option<BTreeSet<ChannelId>> {
    let paths = paths(squad);
    let there: BTreeSet<_> = nets.iter().filter_map(|it| find_channel(it, &paths).ok()).collect();
    (nets.is_empty() || !there.is_empty()).then_some(there)
}

/// The member with this device or, as it was kept, with this name#id, whatever the name is by now.
fn member_named(squad: &Squad, name: &str) -> Option<MemberId> {
    let charter = squad.charter();
    match name.parse() {
        Ok(device) => charter.owner(device),
        Err(_) => by_id(name, charter.members().map(|member| (member, member.to_string()))),
    }
}

/// Channels that this member may know of, in the order that officers gave them, with their paths.
pub(super) fn paths(squad: &Squad) -> Vec<(ChannelId, String)> {
    let state = squad.charter().state();
    let named = |channel: &&Channel| squad.channel_name(channel).is_some();
    let channels = state.channels_in_order().into_iter().filter(named);
    channels.filter_map(|channel| Some((channel.id, path_of(squad, channel.id)?))).collect()
}

/// What people call a channel that they may know of: its name after the names of all above it.
pub(super) fn path_of(squad: &Squad, channel: ChannelId) -> Option<String> {
    let state = squad.charter().state();
    let channel = state.channel(channel)?;
    let mut path = squad.channel_name(channel)?;
    let mut above = channel.parent;
    // There are no cycles in a charter.
    while let Place::Channel(id) = above {
        let parent = state.channel(id)?;
        let name = squad.channel_name(parent).unwrap_or_else(|| format!("#{}", id.short()));
        path = format!("{name}/{path}");
        above = parent.parent;
    }
    Some(path)
}

/// What names a channel and no other.
fn unique(channel: ChannelId, paths: &[(ChannelId, String)]) -> Option<String> {
    let (_, path) = paths.iter().find(|(id, _)| *id == channel)?;
    Some(unique_path(channel, path, paths))
}

/// Channels that this member may hear, in the order that officers gave them, with their paths.
pub(super) fn nets_within_reach(squad: &Squad) -> Vec<(ChannelId, String)> {
    let state = squad.charter().state();
    let may = |id| state.allows(own_member(squad), LISTEN, Place::Channel(id));
    let mut paths = paths(squad);
    paths.retain(|(id, _)| may(*id));
    paths
}
