//! Epochs in a squad: those that this device holds and seals with, deals as a steward, and passes
//! on as a relay. [section 11 of docs/protocol.md]

mod handouts;
mod held;
mod hub;
mod steward;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_charter::{
    Charter,
    content::{Capabilities, Place},
};
use hark_keys::{
    ChannelId, DeviceId, DeviceKey, ObjectHash, Prekey, Random, Signed, TargetId, Timestamp,
    UnixTime,
};
use zeroize::Zeroizing;

pub(super) use self::held::HeldEpoch;
use self::{
    handouts::Handouts,
    held::{Arrival, Held, Standing},
    hub::{Crowd, Hub},
    steward::{Dealt, Stewards},
};
use super::{MessageError, Purpose, Squad, SquadEvent, reconcile::Dirty, targets::Choice};
use crate::{
    Target,
    epoch::{
        Attendance, Confirmed, Confirming, EpochHeader, EpochMessage, Holders, TalkersKey, is_near,
    },
    message::Message,
    target::Hearing,
};

/// Everything that a device does with epochs.
pub(super) struct Epochs {
    random: Arc<dyn Random>,
    held: Held,
    hub: Hub,
    stewards: Stewards,
    handouts: Handouts,
    /// The calendar time that was last set, and when.
    calendar: (UnixTime, Timestamp),
    /// When everything was last brought up to date.
    settled_at: Timestamp,
    /// Whether what opens may differ from what the voice side was told.
    changed: bool,
    told: BTreeMap<ChannelId, Opening>,
}

/// What the voice side was told about a channel.
#[derive(PartialEq)]
struct Opening {
    hearing: Hearing,
    epochs: Vec<[u8; 32]>,
    talkers: Vec<DeviceId>,
}

impl Epochs {
    pub(super) fn new(
        calendar: (UnixTime, Timestamp),
        key: Arc<DeviceKey>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            held: Held::new(key, Arc::clone(&random)),
            random,
            hub: Hub::default(),
            stewards: Stewards::default(),
            handouts: Handouts::default(),
            settled_at: calendar.1,
            calendar,
            changed: false,
            told: BTreeMap::new(),
        }
    }

    /// Sets the calendar time.
    pub(super) fn set_calendar(&mut self, calendar: (UnixTime, Timestamp)) {
        self.calendar = calendar;
    }

    pub(super) fn calendar(&self, now: Timestamp) -> UnixTime {
        let (calendar, at) = self.calendar;
        calendar + now.saturating_duration_since(at)
    }

    /// The link to `device` is a new one, or is down.
    pub(super) fn link_changed(&mut self, now: Timestamp, device: DeviceId, down: bool) {
        self.held.link_up(device);
        self.hub.forget(now, device);
        self.handouts.forget(device);
        self.stewards.link_changed(now, device, down);
    }

    /// As a relay: a device listens to something else, or its rights have changed.
    pub(super) fn look(&mut self, now: Timestamp) {
        self.hub.look(now);
    }

    /// This device no longer relays.
    pub(super) fn stop_serving(&mut self) {
        self.hub = Hub::default();
    }

    pub(super) fn handle_told_prekey(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        number: u64,
        taken: bool,
    ) {
        self.held.handle_told(now, relay, number, taken);
    }

    pub(super) fn handle_shown(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        number: u64,
        taken: bool,
    ) {
        self.held.handle_shown(now, (relay, number), taken);
    }

    pub(super) fn handle_attendance(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        of: (ChannelId, u64),
        taken: bool,
    ) {
        self.hub.handle_answer(now, device, of, taken);
    }

    pub(super) fn handle_handout(&mut self, now: Timestamp, id: u64, taken: bool) {
        self.handouts.handle_answer(now, id, taken);
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        let calendar = self.calendar(now);
        self.changed |= self.held.handle_timeout(now, calendar);
        self.hub.handle_timeout(now);
        self.handouts.handle_timeout(now);
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let timeouts = [
            self.held.timeout(self.settled_at),
            self.hub.timeout(),
            self.stewards.timeout(),
            self.handouts.timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }
}

impl Squad {
    /// As a relay: a device sends its prekey, to which others can seal. [PROTO-11.1]
    pub(super) fn take_prekey(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        prekey: &Signed<Prekey>,
    ) -> Result<(), MessageError> {
        if self.serving.is_none() {
            return Err(MessageError::NotRelaying);
        }
        if prekey.verify()?.device != from {
            return Err(MessageError::OtherSender);
        }
        self.epochs.hub.take_prekey(now, prekey);
        self.mark(now, Dirty::EPOCHS);
        Ok(())
    }

    /// A relay reports who is on a channel of which we are the steward. [PROTO-11.3]
    pub(super) fn take_attendance(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        said: &Attendance,
    ) -> Result<(), MessageError> {
        if self.member.is_none() || !(self.is_relay(from) || self.relays.offers(now, from)) {
            return Err(MessageError::NotSteward);
        }
        let calendar = self.epochs.calendar(now);
        if !self.epochs.stewards.take(now, calendar, from, said) {
            self.epochs.handouts.withdraw(from, said.channel, self.key.id());
        }
        self.mark(now, Dirty::EPOCHS);
        Ok(())
    }

    /// An epoch arrived, by a relay that we use, or at a relay from the steward that it has chosen.
    /// Our own seal is opened, and the other seals are passed on. [PROTO-11.5] [PROTO-11.21]
    pub(super) fn take_epoch(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        message: &EpochMessage,
    ) -> Result<(), MessageError> {
        let EpochHeader { channel, issuer, .. } = *message.header.unverified();
        let is_ours = from == issuer
            && self.serving.is_some()
            && self.epochs.hub.steward(channel) == Some(issuer);
        if issuer == self.key.id() || !(is_ours || self.relays.contains(from)) {
            return Err(MessageError::NotSteward);
        }
        let header = message.header.verify()?;
        let number = header.number;
        let charter = Arc::clone(self.charter());
        if !may_deal(&charter, channel, issuer) {
            return Err(MessageError::NotSteward);
        }
        let epochs = &mut self.epochs;
        let known = epochs.held.newest(channel).max(epochs.hub.newest(channel));
        if !is_near(known, number) {
            return Err(MessageError::FarEpoch);
        }
        let base = message.holders.base.and_then(|hash| {
            let held = epochs.held.holders(channel, hash);
            held.or_else(|| epochs.hub.holders((channel, issuer), hash))
        });
        let holders = message.holders.apply(base).ok_or(MessageError::UnknownHolders)?;
        if holders.hash() != header.holders {
            return Err(MessageError::UnknownHolders);
        }
        let id = message.header.hash();
        let hears = hears(&charter, channel);
        let standing = Standing::of(&holders, &hears);
        if is_ours {
            // Nobody is to be told about holders that may not hold the epoch.
            if standing.tainted || standing.strange {
                return Err(MessageError::UnknownHolders);
            }
            let device = |place: u16| holders.devices().get(usize::from(place)).copied();
            let seals = message.seals.iter();
            let seals = seals.filter_map(|(place, seal)| Some((device(*place)?, (*place, seal))));
            let all: Vec<_> = seals.collect();
            let told = all.iter().map(|(device, (_, seal))| (*device, *seal));
            epochs.hub.dealt(now, (ObjectHash::from_bytes(id), header), &holders, told);
            for (device, (place, seal)) in all {
                let attached = self.links.contains_key(&device) && epochs.hub.knows(device);
                if device != self.key.id() && attached {
                    epochs.handouts.give(device, &message.header, &holders, [(place, *seal)]);
                }
            }
        }
        let own = holders.place(self.key.id());
        let mine = message.seals.iter().find(|(place, _)| Some(*place) == own);
        let Some((_, seal)) = mine else { return Ok(()) };
        let relay = if is_ours { self.key.id() } else { from };
        let named = charter.state().relay(from).is_some();
        if epochs.held.comes_again(channel, &id, (relay, named)) {
            return Ok(());
        }
        // A device that refuses it like this is given it again, and does not count as hearing.
        let secret = epochs.held.open(&id, header, seal).ok_or(MessageError::BadSeal)?;
        let of = (channel, issuer, number);
        let arrival = Arrival { of, secret, holders, standing, named };
        epochs.changed |= epochs.held.insert(now, arrival, Some(relay));
        Ok(())
    }

    /// As a relay: a device shows that it could open its seal. [PROTO-11.12] [PROTO-11.20]
    pub(super) fn take_confirming(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        said: &Confirming,
    ) -> Result<(), MessageError> {
        if !self.epochs.hub.take_confirming(now, from, said) {
            return Err(MessageError::Unconfirmed);
        }
        self.mark(now, Dirty::EPOCHS);
        Ok(())
    }

    /// A relay reports which devices hold an epoch. [PROTO-11.12]
    pub(super) fn take_confirmed(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        said: &Confirmed,
    ) -> Result<(), MessageError> {
        if !self.relays.contains(from) {
            return Err(MessageError::NotSteward);
        }
        self.epochs.held.take_confirmed(said).ok_or(MessageError::Unconfirmed)?;
        self.mark(now, Dirty::EPOCHS);
        Ok(())
    }

    /// A talker gives us its key in an epoch that we may not hold. If it does not know our epoch
    /// either, we give it our key in turn. [PROTO-11.13]
    pub(super) fn take_talkers_key(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        message: TalkersKey,
    ) -> Result<(), MessageError> {
        let TalkersKey { target, key } = message;
        let Some(channel) = target.channels().first().copied() else {
            return Err(MessageError::Unordered);
        };
        let id = TargetId::of_channel(channel);
        if !target.is_sound() || target.id() != id {
            return Err(MessageError::Unordered);
        }
        if self.epochs.held.by_id(channel, &key.epoch).is_some() {
            return Ok(());
        }
        self.targets.lacks_epoch(id, from, &key.epoch);
        self.talkers.take_epoch_key(now, from, target, key);
        self.mark(now, Dirty::EPOCHS | Dirty::TALKERS);
        Ok(())
    }

    /// The charter has changed. A device that may no longer hear gets nothing that is sealed after
    /// this.
    pub(super) fn revalidate_epochs(&mut self, now: Timestamp) {
        let charter = Arc::clone(self.charter());
        let hears = |channel, device| hears(&charter, channel)(device);
        let deals = |channel, device| may_deal(&charter, channel, device);
        self.epochs.stewards.judge(now, |channel, device| hears(channel, device) == Some(false));
        for channel in self.epochs.held.judge(now, hears, deals) {
            self.epochs.stewards.voided(now, channel);
        }
        self.epochs.hub.judge(deals);
        self.epochs.hub.look(now);
        self.epochs.changed = true;
    }

    /// This device now listens to other channels.
    pub(super) fn relisten_epochs(&mut self, now: Timestamp) {
        self.epochs.changed = true;
        self.epochs.hub.look(now);
    }

    /// Sends what there is to tell about epochs, and chooses what to seal with.
    pub(super) fn settle_epochs(&mut self, now: Timestamp) {
        self.epochs.settled_at = now;
        if self.serving.is_some() {
            self.settle_hub(now);
        }
        if self.member.is_some() {
            self.tell_prekeys(now);
            self.deal(now);
        }
        while let Some((to, id, message)) = self.epochs.handouts.poll(now) {
            let bytes = Message::Epoch(Box::new(message)).encode();
            self.send(to, Purpose::Epoch(id), Zeroizing::new(bytes));
        }
        if self.member.is_some() {
            self.show_epochs(now);
            self.choose_keys(now);
            self.give_keys(now);
            if std::mem::take(&mut self.epochs.changed) {
                self.tell_openings();
            }
        }
    }

    fn settle_hub(&mut self, now: Timestamp) {
        if let Some(devices) = self.epochs.hub.look_due(now) {
            let crowds = self.crowds(now, devices);
            self.epochs.hub.handle_crowds(now, crowds);
        }
        while let Some((to, said)) = self.epochs.hub.poll(now, &mut self.numbers) {
            let purpose = Purpose::Attendance(said.channel, said.number);
            self.send(to, purpose, Zeroizing::new(Message::Attendance(said).encode()));
        }
        while let Some((to, said)) = self.epochs.hub.poll_confirmed() {
            if to == self.key.id() {
                let _ = self.epochs.held.take_confirmed(&said);
            } else if self.links.contains_key(&to) {
                let bytes = Message::Confirmed(said).encode();
                self.send(to, Purpose::Confirmed, Zeroizing::new(bytes));
            }
        }
    }

    /// Shows relays which epochs we could open. [PROTO-11.12]
    fn show_epochs(&mut self, now: Timestamp) {
        while let Some((to, number, said)) =
            self.epochs.held.poll_confirming(now, &mut self.numbers)
        {
            if to == self.key.id() {
                let taken = self.epochs.hub.take_confirming(now, to, &said);
                self.epochs.held.handle_shown(now, (to, number), taken);
            } else if self.links.contains_key(&to) {
                let bytes = Message::Confirming(said).encode();
                self.send(to, Purpose::Confirming(number), Zeroizing::new(bytes));
            }
        }
    }

    /// The channels that each of `devices` hears, and which of these devices can deal epochs. Such
    /// a device may speak there. It is no volunteer, since volunteers see each other differently.
    fn crowds(&self, now: Timestamp, devices: Vec<DeviceId>) -> BTreeMap<ChannelId, Crowd> {
        let charter = self.charter();
        let (state, own) = (charter.state(), self.key.id());
        let mut crowds = BTreeMap::new();
        for device in devices {
            let (member, listening) = if device == own {
                (self.member, self.nets.own())
            } else {
                (self.member_of(device), self.nets.of(device))
            };
            let Some(member) = member else { continue };
            let near = listening.iter().flat_map(|it| state.linked(*it).chain([*it]));
            for channel in near.collect::<BTreeSet<_>>() {
                if !Target::of_channel(channel).reaches(state, member, listening) {
                    continue;
                }
                let empty = || Crowd { here: BTreeSet::new(), able: BTreeSet::new() };
                let crowd = crowds.entry(channel).or_insert_with(empty);
                crowd.here.insert(device);
                let speaks = state.allows(member, Capabilities::SPEAK, Place::Channel(channel));
                if speaks && device != own && !self.relays.offers(now, device) {
                    crowd.able.insert(device);
                }
            }
        }
        crowds
    }

    fn tell_prekeys(&mut self, now: Timestamp) {
        let relays = self.links.keys().copied();
        let relays = relays.filter(|it| self.is_relay(*it) || self.relays.offers(now, *it));
        // A relay also reports itself to its steward.
        let relays: Vec<_> = relays.chain(self.serving.as_ref().map(|_| self.key.id())).collect();
        let calendar = self.epochs.calendar(now);
        while let Some((to, number, prekey)) =
            self.epochs.held.poll_prekey(now, calendar, relays.iter().copied(), &mut self.numbers)
        {
            if to == self.key.id() {
                self.epochs.held.handle_told(now, to, number, true);
                self.epochs.hub.take_prekey(now, &prekey);
            } else {
                let bytes = Message::Prekey(prekey).encode();
                self.send(to, Purpose::Prekey(number), Zeroizing::new(bytes));
            }
        }
    }

    /// Deals the epochs that are due. [PROTO-11.4]
    fn deal(&mut self, now: Timestamp) {
        let charter = Arc::clone(self.charter());
        loop {
            let Self { epochs, key, .. } = self;
            let held = |channel| (epochs.held.newest(channel), epochs.held.dealt(channel));
            let hears = |channel, device| hears(&charter, channel)(device) == Some(true);
            let at = (now, epochs.calendar(now));
            let dealt = epochs.stewards.poll(at, key, &*epochs.random, held, hears);
            let Some(dealt) = dealt else { return };
            let EpochHeader { channel, issuer, number, .. } = *dealt.header.unverified();
            let named = |relay: &DeviceId| charter.state().relay(*relay).is_some();
            let named = dealt.parts.keys().any(named);
            let Dealt { header, holders, secret, parts } = dealt;
            for (relay, seals) in parts {
                epochs.handouts.give(relay, &header, &holders, seals);
            }
            let (of, standing) = ((channel, issuer, number), Standing::default());
            let arrival = Arrival { of, secret, holders, standing, named };
            epochs.changed |= epochs.held.insert(now, arrival, None);
        }
    }

    /// Seals with an epoch if there is one that reaches more than our own key can, and with our own
    /// key otherwise. [PROTO-11.9]
    fn choose_keys(&mut self, now: Timestamp) {
        let own = self.key.id();
        let relayed = !self.relays.is_empty() || self.serving.is_some();
        let Self { targets, epochs, events, .. } = self;
        for (target, channel) in targets.of_channels() {
            let best = epochs.held.best(now, channel);
            let best = best.map(|epoch| (*epoch.secret.id(), epoch.number, &epoch.holders));
            let Some(choice) = targets.choose(now, target, own, relayed, best) else { continue };
            match choice {
                Choice::Epoch(id) => {
                    let Some(generation) = epochs.held.take_generation(channel, &id) else {
                        continue;
                    };
                    let epoch = epochs.held.best(now, channel);
                    let Some(epoch) = epoch.filter(|epoch| *epoch.secret.id() == id) else {
                        continue;
                    };
                    let secret = epoch.secret.clone();
                    targets.set_epoch_key(target, secret.key_of(target, own, generation));
                    events.push_back(SquadEvent::OwnEpoch { target, secret, generation });
                }
                Choice::Silence => events.push_back(SquadEvent::NoKey(target)),
            }
        }
    }

    /// Gives our keys in epochs to those of our listeners that do not hold the epochs, and reports
    /// who holds what. [PROTO-11.13]
    fn give_keys(&mut self, now: Timestamp) {
        let Self { targets, epochs, events, numbers, .. } = self;
        let mut given = Vec::new();
        for (target, channel) in targets.of_channels() {
            let Some(id) = targets.epoch(target) else { continue };
            let Some(epoch) = epochs.held.by_id(channel, &id) else { continue };
            while let Some((to, number, message)) = targets.poll_given(now, target, epoch, numbers)
            {
                given.push((to, number, target, message));
            }
            if let Some((devices, unconfirmed)) = targets.roster(now, target, epoch)
                && let Some(target) = targets.target(target).cloned()
            {
                let number = epoch.number;
                events.push_back(SquadEvent::EpochRoster { target, number, devices, unconfirmed });
            }
        }
        for (to, number, target, message) in given {
            let bytes = Message::TalkersKey(Box::new(message)).encode();
            self.send(to, Purpose::TalkersKey(target, number), Zeroizing::new(bytes));
        }
    }

    /// Tells the voice side which epochs open the speech of which devices. [PROTO-11.10]
    fn tell_openings(&mut self) {
        let Some(listener) = self.member else { return };
        let charter = Arc::clone(self.charter());
        let (state, own) = (charter.state(), self.nets.own());
        let mut openings = BTreeMap::new();
        for (channel, epochs) in self.epochs.held.all() {
            let place = Place::Channel(channel);
            let speaks = |member| state.allows(member, Capabilities::SPEAK, place);
            let devices = epochs.iter().flat_map(|epoch| epoch.holders.devices());
            let devices: BTreeSet<_> = devices.copied().collect();
            let owners = devices.iter().filter_map(|it| Some((*it, charter.owner(*it)?)));
            let talkers: Vec<_> = owners.filter(|(_, member)| speaks(*member)).collect();
            let target = Target::of_channel(channel);
            let speaker = talkers.first().map(|(_, member)| *member);
            let hearing = speaker.map(|it| target.hearing(state, it, listener, own));
            let hearing = hearing.filter(Hearing::is_reached).unwrap_or_default();
            let reached = hearing.is_reached();
            let talkers = talkers.into_iter().map(|(device, _)| device);
            let talkers = talkers.filter(|it| reached && *it != self.key.id()).collect();
            let secrets: Vec<_> = if reached {
                epochs.iter().map(|epoch| epoch.secret.clone()).collect()
            } else {
                Vec::new()
            };
            let ids = secrets.iter().map(|secret| *secret.id()).collect();
            openings.insert(channel, (Opening { hearing, epochs: ids, talkers }, secrets));
        }
        let gone = self.epochs.told.keys().filter(|channel| !openings.contains_key(channel));
        let nothing =
            || Opening { hearing: Hearing::default(), epochs: Vec::new(), talkers: Vec::new() };
        let gone: Vec<_> = gone.map(|channel| (*channel, (nothing(), Vec::new()))).collect();
        for (channel, (opening, secrets)) in openings.into_iter().chain(gone) {
            let told = self.epochs.told.get(&channel);
            if told.map_or(opening.epochs.is_empty(), |told| *told == opening) {
                continue;
            }
            self.events.push_back(SquadEvent::Epochs {
                channel,
                hearing: opening.hearing.clone(),
                secrets,
                talkers: opening.talkers.clone(),
            });
            if opening.epochs.is_empty() {
                self.epochs.told.remove(&channel);
            } else {
                self.epochs.told.insert(channel, opening);
            }
        }
    }
}

/// Returns for each device whether the charter lets it hear what is said on a channel; `None` if
/// the charter does not know the device.
fn hears(charter: &Charter, channel: ChannelId) -> impl Fn(DeviceId) -> Option<bool> {
    let state = charter.state();
    let target = Target::of_channel(channel);
    let all: BTreeSet<_> = state.linked(channel).chain([channel]).collect();
    move |device| {
        let Some(member) = charter.owner(device) else {
            let known = charter.is_known(charter.member_of(device))
                || charter.members().any(|member| state.is_retired(member, device));
            return known.then_some(false);
        };
        Some(target.reaches(state, member, &all))
    }
}

/// Whether the charter lets a device deal epochs of a channel.
fn may_deal(charter: &Charter, channel: ChannelId, device: DeviceId) -> bool {
    let place = Place::Channel(channel);
    let speaks = |member| charter.state().allows(member, Capabilities::SPEAK, place);
    charter.owner(device).is_some_and(speaks)
}

/// The holders of an epoch, except one device.
pub(super) fn others(holders: &Holders, own: DeviceId) -> impl Iterator<Item = DeviceId> {
    holders.devices().iter().copied().filter(move |device| *device != own)
}
