use std::{collections::BTreeMap, net::SocketAddr, ops::Add, sync::Arc};

use hark_charter::{
    Charter,
    content::{Capabilities, Place},
};
use hark_commands::names::nearest;
use hark_keys::{ChannelId, DeviceId, MemberId, ObjectHash, OrganisationId, TargetId, Timestamp};
use hark_mesh::{
    Availability, Target,
    squad::{self, DownReason, Squad},
    topology::{DIRECT_FANOUT_MAX, Plan},
};
use hark_voice::{Net, NetSettings, TalkerStatistics, VoiceCommand, VoiceEvent, VoiceStatistics};

use super::{
    RequestError, own_member,
    people::{self, Labels, Verified},
    radio::{self, Radio},
};
use crate::{
    event::{DeviceText, Direction, Event, Path, PeerStats, SanctionView, TargetText},
    link::{Link, Links, multiaddr_of},
    platform,
    snapshot::{Command, CuesView, NetView, PeerView, SideToneView, Snapshot, TransmitMode},
    store::OrganisationStore,
};

/// What people and programs see of the node, kept in step with what it does.
pub(super) struct View {
    device: DeviceId,
    name: String,
    organisation: (OrganisationId, String),
    version: u32,
    heads: Vec<String>,
    other_members: usize,
    /// What others are told of this person.
    availability: Availability,
    troubles: BTreeMap<Direction, String>,
    /// Why what the person chooses is not kept.
    pub(super) forgetful: Option<String>,
    roster: Vec<DeviceText>,
    unconfirmed: Vec<DeviceText>,
    /// Mutes and bans of this device's member.
    sanctions: Vec<SanctionView>,
    /// What this device talks to just now.
    talking_to: Vec<String>,
    peers: BTreeMap<DeviceId, Peer>,
    /// What members are called, told apart.
    labels: Labels,
    /// Devices whose words were compared with their owners.
    pub(super) verified: Verified,
    /// Through which relay what goes to a target goes first.
    relays: BTreeMap<TargetId, DeviceId>,
    cpu_percent: f64,
    cpu_measured: Option<(Timestamp, std::time::Duration)>,
    /// The last `self_changed`.
    told_of_self: Option<Event>,
}

/// A member that was seen since the start.
struct Peer {
    name: String,
    /// Whose device it is, as far as that is known.
    member: Option<MemberId>,
    /// Since when it cannot be reached.
    away_since: Option<Timestamp>,
    address: String,
    path: Path,
    /// Whether `peer_up` was told last, rather than `peer_down`.
    up: bool,
    /// Channels that it is heard on just now.
    talking_on: Vec<String>,
    frames: Frames,
}

/// How a member's frames fared since the start, across its comings and goings.
#[derive(Default)]
struct Frames {
    /// Of its earlier stays.
    before: FrameCounts,
    now: FrameCounts,
}

#[derive(Clone, Copy, Default)]
struct FrameCounts {
    received: u64,
    concealed: u64,
    late: u64,
    recovered: u64,
    inserted: u64,
    removed: u64,
}

impl Frames {
    /// The sums, now that the voice thread counts so many of the present stay.
    fn update(&mut self, talker: &TalkerStatistics) -> FrameCounts {
        // Counters that have gone back are those of another stay.
        if talker.frames_received < self.now.received {
            self.before = self.before + self.now;
        }
        self.now = FrameCounts {
            received: talker.frames_received,
            concealed: talker.frames_concealed,
            late: talker.frames_late,
            recovered: talker.frames_recovered,
            inserted: talker.samples_inserted,
            removed: talker.samples_removed,
        };
        self.before + self.now
    }
}

impl Add for FrameCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            concealed: self.concealed + other.concealed,
            late: self.late + other.late,
            recovered: self.recovered + other.recovered,
            inserted: self.inserted + other.inserted,
            removed: self.removed + other.removed,
        }
    }
}

impl View {
    pub(super) fn new(device: DeviceId, name: &str, store: &OrganisationStore) -> Self {
        let mut view = Self {
            device,
            name: name.to_owned(),
            organisation: (store.id(), String::new()),
            version: 1,
            heads: Vec::new(),
            availability: Availability::default(),
            troubles: BTreeMap::new(),
            forgetful: None,
            roster: vec![DeviceText(device)],
            unconfirmed: Vec::new(),
            sanctions: Vec::new(),
            talking_to: Vec::new(),
            peers: BTreeMap::new(),
            labels: Labels::default(),
            verified: Verified::default(),
            relays: BTreeMap::new(),
            other_members: 0,
            cpu_percent: 0.0,
            cpu_measured: None,
            told_of_self: None,
        };
        view.set_charter(store.charter());
        view
    }

    pub(super) fn set_charter(&mut self, charter: &Charter) {
        self.organisation = (charter.organisation(), charter.name().to_owned());
        self.version = charter.root().version;
        let hex =
            |head: ObjectHash| blake3::Hash::from_bytes(*head.as_bytes()).to_hex().to_string();
        self.heads = charter.heads().map(hex).collect();
        if self.heads.is_empty() {
            // Before any operation the founding document is all there is.
            self.heads = vec![hex(ObjectHash::from_bytes(*charter.organisation().as_bytes()))];
        }
    }

    /// These mutes and bans hold for this device's member now; gives what is to be told of it.
    pub(super) fn set_sanctions(&mut self, sanctions: Vec<SanctionView>) -> Vec<Event> {
        let before = std::mem::replace(&mut self.sanctions, sanctions);
        let of = |it: &SanctionView| (it.kind, it.channel.clone());
        // One that another replaces has not ended.
        let gone =
            before.iter().filter(|it| self.sanctions.iter().all(|other| of(other) != of(it)));
        let new = self.sanctions.iter().filter(|it| !before.contains(it));
        let told = gone.map(|it| (it, false)).chain(new.map(|it| (it, true)));
        told.map(|(sanction, in_force)| Event::Sanction {
            sanction: sanction.clone(),
            in_force,
            lifted_by: None,
        })
        .collect()
    }

    pub(super) fn moved(&self, by: DeviceId, from: Option<String>, to: String) -> Event {
        Event::Moved { device: DeviceText(by), name: self.name_of(by), from, to }
    }

    pub(super) fn charter_changed(&self) -> Event {
        Event::CharterChanged { version: self.version, heads: self.heads.clone() }
    }

    pub(super) fn set_trouble(&mut self, end: Direction, trouble: Option<String>) {
        match trouble {
            Some(trouble) => self.troubles.insert(end, trouble),
            None => self.troubles.remove(&end),
        };
    }

    pub(super) fn organisation(&self) -> OrganisationId {
        self.organisation.0
    }

    pub(super) fn organisation_name(&self) -> &str {
        &self.organisation.1
    }

    /// What is told once the node can be joined.
    pub(super) fn ready(&self, addresses: Vec<SocketAddr>) -> Vec<Event> {
        let listen = addresses.into_iter().map(|address| {
            let address = multiaddr_of(address);
            format!("{address}/p2p/{}", self.device)
        });
        vec![
            Event::Ready { device: DeviceText(self.device), listen: listen.collect() },
            self.charter_changed(),
        ]
    }

    /// What others are to be told of this person.
    pub(super) fn availability(&self) -> Availability {
        self.availability
    }

    /// What the voice thread is to do about it.
    pub(super) fn handle_command(&mut self, command: Command) -> Option<VoiceCommand> {
        Some(match command {
            Command::Mute { on } => {
                self.availability.muted = on;
                VoiceCommand::Mute(on)
            }
            Command::Deafen { on } => {
                self.availability.deafened = on;
                VoiceCommand::Deafen(on)
            }
            Command::Away { on } => {
                self.availability.away = on;
                return None;
            }
            Command::Transmit { .. }
            | Command::Volume { .. }
            | Command::Volunteer { .. }
            | Command::Profile { .. }
            | Command::Ptt { .. }
            | Command::Master { .. }
            | Command::Listen { .. }
            | Command::Net { .. }
            | Command::TalkTo { .. }
            | Command::Follow
            | Command::Key { .. }
            | Command::Ducking { .. }
            | Command::Voice { .. }
            | Command::Processing { .. }
            | Command::Cues { .. }
            | Command::SideTone { .. }
            | Command::Front
            | Command::Move { .. }
            | Command::Admit { .. }
            | Command::Refuse { .. }
            | Command::Verify { .. }
            | Command::Quit => return None,
        })
    }

    pub(super) fn handle_voice(&mut self, squad: &Squad, event: VoiceEvent) -> Option<Event> {
        match event {
            VoiceEvent::TalkStarted { device, nets } => {
                let channels: Vec<_> =
                    nets.into_iter().filter_map(|net| net_name(squad, net)).collect();
                // One whom we have no link to is known by its record alone.
                let record = squad.directory().record(device);
                let peer = self.peer(device);
                if let Some(record) = record.filter(|_| !peer.up) {
                    peer.name = record.shown_name();
                    peer.member = squad.charter().owner(device);
                }
                peer.talking_on.clone_from(&channels);
                let name = self.name_of(device);
                Some(Event::TalkStarted { device: DeviceText(device), name, channels })
            }
            VoiceEvent::TalkEnded { device } => {
                let channels = std::mem::take(&mut self.peer(device).talking_on);
                let name = self.name_of(device);
                Some(Event::TalkEnded { device: DeviceText(device), name, channels })
            }
            VoiceEvent::OwnTalkStarted { target } => {
                let target = squad.target_of(target);
                self.talking_to = target.map(|it| self.target_names(squad, it)).unwrap_or_default();
                Some(Event::TalkStarted {
                    device: DeviceText(self.device),
                    name: self.name.clone(),
                    channels: self.talking_to.clone(),
                })
            }
            VoiceEvent::OwnTalkEnded => Some(Event::TalkEnded {
                device: DeviceText(self.device),
                name: self.name.clone(),
                channels: std::mem::take(&mut self.talking_to),
            }),
            VoiceEvent::KeyUsed { .. }
            | VoiceEvent::RelaySilent { .. }
            | VoiceEvent::RelayFails { .. }
            | VoiceEvent::RelayForges { .. }
            | VoiceEvent::RelayUnproven { .. } => None,
        }
    }

    /// What people call what is talked to.
    pub(super) fn target_names(&self, squad: &Squad, target: &Target) -> Vec<String> {
        let channels = radio::paths(squad).into_iter();
        let channels = channels.filter(|(id, _)| target.channels().contains(id)).map(|(_, it)| it);
        let members = target.members().iter().map(|member| {
            let device = squad.charter().devices_of(*member).first().copied();
            device.map_or_else(|| member.short(), |device| self.name_of(device))
        });
        let charter = squad.charter();
        let roles =
            target.roles().iter().filter_map(|id| Some(charter.state().role(*id)?.name.clone()));
        channels.chain(members).chain(roles).collect()
    }

    pub(super) fn link_up(&mut self, link: &Link, links: &Links) {
        let hello = link.hello();
        if hello.member.is_none() {
            return;
        }
        let peer = self.peer(hello.device);
        peer.name.clone_from(&hello.name);
        peer.member = hello.member;
        if !peer.up {
            peer.address = links.place_of(link).to_string();
            peer.path = link.path();
        }
    }

    /// Packets of a member take this link now; tells if its path is another one.
    pub(super) fn link_used(&mut self, link: &Link, links: &Links) -> Option<Event> {
        let peer = self.peers.get_mut(&link.device())?;
        peer.address = links.place_of(link).to_string();
        let from = std::mem::replace(&mut peer.path, link.path());
        let (device, to) = (DeviceText(link.device()), peer.path);
        (peer.up && from != to).then_some(Event::PathChanged { device, from, to })
    }

    pub(super) fn handle_squad(
        &mut self,
        squad: &Squad,
        event: squad::SquadEvent,
        links: &Links,
    ) -> Option<Event> {
        match event {
            squad::SquadEvent::PeerUp { device, name, .. } => {
                self.peer(device).name = name;
                self.label(squad);
                self.set_up(device, links)
            }
            // A relay is nobody to be heard.
            squad::SquadEvent::PeerReachable { device }
            | squad::SquadEvent::PeerUnreachable { device }
                if !self.peers.contains_key(&device) =>
            {
                None
            }
            squad::SquadEvent::PeerReachable { device } => self.set_up(device, links),
            squad::SquadEvent::PeerUnreachable { device } => self.set_down(device, "unreachable"),
            squad::SquadEvent::PeerDown { device, reason } => {
                let member = self.peers.get(&device).and_then(|peer| peer.member);
                let reason = match reason {
                    _ if people::is_former(squad, device, member) => {
                        people::why_former(squad, member)
                    }
                    DownReason::Left => "left",
                    DownReason::Unreachable => "unreachable",
                    DownReason::Refused => "closed",
                    DownReason::Restarted => "restarted",
                    DownReason::Breach => "breach of the protocol",
                };
                self.set_down(device, reason)
            }
            squad::SquadEvent::AvailabilityChanged { device } => {
                let Availability { muted, deafened, away } = squad.availability_of(device);
                let name = self.name_of(device);
                let device = DeviceText(device);
                Some(Event::Presence { device, name, muted, deafened, away })
            }
            squad::SquadEvent::PeerRenamed { device, name } => {
                self.peer(device).name = name;
                self.label(squad);
                None
            }
            _ => None,
        }
    }

    pub(super) fn snapshot(
        &mut self,
        now: Timestamp,
        squad: &Squad,
        radio: &Radio,
        links: &[Arc<Link>],
        voice: &VoiceStatistics,
        second: bool,
    ) -> Snapshot {
        if second {
            self.measure_cpu(now);
            self.label(squad);
        }
        let links: BTreeMap<_, _> = links.iter().map(|link| (link.device(), link)).collect();
        let mut peers: Vec<_> = self
            .peers
            .iter_mut()
            .map(|(device, peer)| {
                let link = links.get(device);
                let talker = voice.talkers.get(device).cloned().unwrap_or_default();
                let frames = peer.frames.update(&talker);
                peer.away_since = (!peer.up).then(|| peer.away_since.unwrap_or(now));
                let away = peer.away_since.map(|since| now.saturating_duration_since(since));
                let listening = squad.listening_of(*device);
                let Availability { muted, deafened, away: is_away } =
                    squad.availability_of(*device);
                PeerView {
                    name: self.labels.of_device(*device).unwrap_or(&peer.name).to_owned(),
                    member: peer.member.map(|member| member.to_string()).unwrap_or_default(),
                    roles: peer.member.map_or_else(Vec::new, |it| people::roles(squad, it)),
                    silenced: peer
                        .member
                        .is_some_and(|it| people::is_silenced(squad, it, listening)),
                    muted,
                    deafened,
                    away: is_away,
                    whispers: peer.talking_on.iter().any(|net| net == WHISPER),
                    verification: self.verified.of(*device, peer.member),
                    away_secs: away.map(|away| away.as_secs()),
                    former: people::is_former(squad, *device, peer.member),
                    address: link.map(|_| peer.address.clone()).unwrap_or_default(),
                    reachable: peer.up,
                    why_relayed: link
                        .filter(|link| link.path() == Path::Relay)
                        .map(|_| why_relayed(squad, *device)),
                    talking: talker.talking,
                    talking_on: peer.talking_on.clone(),
                    level_dbfs: talker.level_dbfs,
                    volume: radio.volume(*device),
                    stats: PeerStats {
                        device: DeviceText(*device),
                        path: peer.path,
                        rtt_ms: link.map_or(0.0, |link| link.rtt().as_secs_f64() * 1e3),
                        loss_percent: talker.loss_percent.into(),
                        jitter_ms: talker.jitter_ms.into(),
                        playout_delay_ms: talker.playout_delay_ms.into(),
                        frames_received: frames.received,
                        frames_concealed: frames.concealed,
                        frames_late: frames.late,
                        frames_recovered: frames.recovered,
                        samples_inserted: frames.inserted,
                        samples_removed: frames.removed,
                    },
                }
            })
            .collect();
        peers.sort_by_key(|peer| !peer.reachable);
        if second && !peers.iter().any(|peer| peer.reachable) {
            let (charter, own) = (squad.charter(), squad.member());
            let others = charter.members().filter(|it| Some(*it) != own);
            self.other_members = others.filter(|it| !charter.devices_of(*it).is_empty()).count();
        }
        let (wanted, talking_to) = (radio.asked_for(squad), radio.talking_to(squad));
        Snapshot {
            device: DeviceText(self.device),
            name: self.name.clone(),
            organisation: self.organisation_name().to_owned(),
            organisation_id: self.organisation().to_string(),
            // The working node fills this in before it publishes.
            front: false,
            silenced: self.silenced(squad, &wanted),
            unheard: talking_to.as_ref().is_none_or(|it| !self.is_heard(squad, it)),
            presets: squad.charter().state().loaded().map(|it| it.name.clone()).collect(),
            all_presets: squad.charter().state().presets().map(|it| it.name.clone()).collect(),
            nets: self.nets(squad, radio, talking_to.as_ref()),
            master: radio.master(),
            profile: radio.profiles().used().to_owned(),
            profiles: radio.profiles().names().map(str::to_owned).collect(),
            talk_to: talking_to.as_ref().map_or_else(Vec::new, |it| self.target_names(squad, it)),
            keys: radio.keys(squad),
            transmit: radio.transmit(),
            muted: self.availability.muted,
            deafened: self.availability.deafened,
            away: self.availability.away,
            transmitting: voice.own.transmitting,
            processing: voice.own.processing.into(),
            // The working node fills this in before it publishes.
            cues: CuesView::NONE,
            side_tone: SideToneView::default(),
            level_dbfs: voice.own.level_dbfs,
            copies: voice.own.copies,
            coding: (&voice.own).into(),
            cpu_percent: self.cpu_percent,
            peers,
            other_members: self.other_members,
            roster: self.roster.clone(),
            unconfirmed: self.unconfirmed.clone(),
            router: None,
            checked: Vec::new(),
            sanctions: self.sanctions.clone(),
            waiting: Vec::new(),
            trouble: {
                let sanctions: Vec<_> = self.sanctions.iter().map(SanctionView::describe).collect();
                let hidden = squad.lacks_relays().then_some(HIDDEN);
                let all = self.troubles.values().chain(&self.forgetful);
                let all = all
                    .chain(&sanctions)
                    .map(String::as_str)
                    .chain(hidden)
                    .collect::<Vec<_>>()
                    .join("; ");
                (!all.is_empty()).then_some(all)
            },
        }
    }

    pub(super) fn stats_event(&self, snapshot: &Snapshot) -> Event {
        // Counters of those who have gone stay: somebody may add them up at the end.
        let peers = snapshot.peers.iter().map(|peer| peer.stats.clone()).collect();
        Event::Stats { peers, cpu_percent: snapshot.cpu_percent }
    }

    fn measure_cpu(&mut self, now: Timestamp) {
        let cpu = platform::cpu_time();
        if let Some((then, cpu_then)) = self.cpu_measured {
            let span = now.saturating_duration_since(then).as_secs_f64();
            if span > 0.0 {
                self.cpu_percent = 100.0 * cpu.saturating_sub(cpu_then).as_secs_f64() / span;
            }
        }
        self.cpu_measured = Some((now, cpu));
    }

    fn set_up(&mut self, device: DeviceId, links: &Links) -> Option<Event> {
        if let Some(link) = links.all().iter().find(|link| link.device() == device) {
            self.link_used(link, links);
        }
        let name = self.name_of(device);
        let looks_like = self.labels.twin_of(device);
        let peer = self.peer(device);
        peer.up = true;
        Some(Event::PeerUp {
            device: DeviceText(device),
            name,
            looks_like,
            path: peer.path,
            address: peer.address.clone(),
        })
    }

    fn set_down(&mut self, device: DeviceId, reason: &str) -> Option<Event> {
        let name = self.name_of(device);
        let peer = self.peer(device);
        if !std::mem::take(&mut peer.up) {
            return None;
        }
        Some(Event::PeerDown {
            device: DeviceText(device),
            name,
            path: peer.path,
            address: peer.address.clone(),
            reason: reason.to_owned(),
        })
    }

    /// Exactly these and this device were given the key of what is called `names`; those of them
    /// who are unconfirmed may not hear.
    pub(super) fn roster_changed(
        &mut self,
        target: &Target,
        names: Vec<String>,
        epoch: u64,
        (devices, unconfirmed): (Vec<DeviceId>, Vec<DeviceId>),
    ) -> Event {
        self.roster = devices.into_iter().map(DeviceText).collect();
        self.roster.push(DeviceText(self.device));
        self.roster.sort();
        self.unconfirmed = unconfirmed.into_iter().map(DeviceText).collect();
        Event::RosterChanged {
            channel: names.join("+"),
            target: TargetText::from(target),
            epoch,
            devices: self.roster.clone(),
            unconfirmed: self.unconfirmed.clone(),
        }
    }

    /// A member's relay has brought, as a talker's, what the talker has not signed.
    pub(super) fn relay_forges(&self, relay: DeviceId, talker: DeviceId) -> Event {
        Event::RelayForges {
            device: DeviceText(relay),
            name: self.name_of(relay),
            talker: DeviceText(talker),
            talker_name: self.name_of(talker),
        }
    }

    /// What goes to `target` travels by `plan` now; the event where it is another relay than
    /// before.
    pub(super) fn relay_changed(
        &mut self,
        id: TargetId,
        target: &Target,
        names: Vec<String>,
        plan: &Plan,
    ) -> Option<Event> {
        let relay = plan.hops.first().map(|hop| hop.relay);
        let before = match relay {
            Some(relay) => self.relays.insert(id, relay),
            None => self.relays.remove(&id),
        };
        if before == relay {
            return None;
        }
        let reason = match (before, relay) {
            (_, None) => "every listener is sent a copy",
            (Some(_), Some(_)) => "it is the best that serves the listeners",
            (None, Some(_)) if plan.listeners().len() > DIRECT_FANOUT_MAX => "many listen",
            (None, Some(_)) => "not every listener can be reached directly",
        };
        Some(Event::RelayChanged {
            channel: names.join("+"),
            target: TargetText::from(target),
            relay: relay.map(DeviceText),
            reason: reason.to_owned(),
        })
    }

    fn nets(&self, squad: &Squad, radio: &Radio, target: Option<&Target>) -> Vec<NetView> {
        let within_reach = radio::nets_within_reach(squad);
        let state = squad.charter().state();
        let nets = within_reach.iter().cloned().map(|(id, path)| {
            let at = Place::Channel(id);
            let above = state.channel(id).map(|channel| channel.parent);
            let parent = within_reach.iter().find(|(it, _)| above == Some(Place::Channel(*it)));
            let heard = radio.heard().get(&Net::Channel(id)).copied();
            let heard_so = heard.unwrap_or_else(|| radio.chosen_settings(&path));
            let NetSettings { volume, pan, muted, priority, .. } = heard_so;
            let up = self.peers.iter().filter(|(_, peer)| peer.up);
            let on_it = up.clone().filter(|(device, _)| squad.listening_of(**device).contains(&id));
            let talking = up.filter(|(_, peer)| peer.talking_on.contains(&path));
            let name = state.channel(id).and_then(|channel| squad.channel_name(channel));
            NetView {
                members: on_it.map(|(device, _)| self.name_of(*device)).collect(),
                talking: talking.map(|(device, _)| self.name_of(*device)).collect(),
                id: id.to_string(),
                parent: parent.map(|(it, _)| it.to_string()),
                listening: heard.is_some(),
                talked_to: target.is_some_and(|target| target.channels().contains(&id)),
                kept: radio.is_kept(&path),
                may_speak: state.allows(own_member(squad), Capabilities::SPEAK, at),
                name: name.unwrap_or_default(),
                path,
                volume,
                pan,
                muted,
                priority,
                radio: heard_so.radio,
            }
        });
        nets.collect()
    }

    fn peer(&mut self, device: DeviceId) -> &mut Peer {
        self.peers.entry(device).or_insert_with(|| Peer {
            name: device.short(),
            member: None,
            away_since: None,
            address: String::new(),
            path: Path::Direct,
            up: false,
            talking_on: Vec::new(),
            frames: Frames::default(),
        })
    }

    /// The device that was seen since the start with this id or, if it is the only one, this name.
    pub(super) fn device_called(&self, text: &str) -> Result<DeviceId, RequestError> {
        if let Ok(device) = text.parse() {
            let seen = self.peers.contains_key(&device);
            return seen.then_some(device).ok_or(RequestError::UnseenDevice);
        }
        let lower = text.to_lowercase();
        let named: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.name.to_lowercase() == lower).collect();
        match named[..] {
            [(device, _)] => Ok(*device),
            [] => {
                let near = nearest(text, self.peers.values().map(|peer| peer.name.as_str()));
                let near = near.into_iter().map(str::to_owned).collect();
                Err(RequestError::Unseen { name: text.to_owned(), near })
            }
            _ => {
                let devices = named.iter().map(|(device, _)| device.to_string()).collect();
                Err(RequestError::SeveralDevices { name: text.to_owned(), devices })
            }
        }
    }

    /// What is to be talked to where this member may not speak.
    fn silenced(&self, squad: &Squad, wanted: &Target) -> Vec<String> {
        let permitted = wanted.permitted(squad.charter().state(), own_member(squad));
        let denied = |id: &&ChannelId| !permitted.channels().contains(id);
        let channels = wanted.channels().iter().filter(denied);
        let mut silenced: Vec<_> = channels.filter_map(|id| radio::path_of(squad, *id)).collect();
        let whispers = |it: &Target| it.members().len() + it.roles().len();
        if whispers(&permitted) < whispers(wanted) {
            silenced.push(WHISPER.to_owned());
        }
        silenced
    }

    /// Whether any device that is reached hears what is said to a target.
    fn is_heard(&self, squad: &Squad, target: &Target) -> bool {
        let charter = squad.charter();
        let up = self.peers.iter().filter(|(_, peer)| peer.up);
        up.map(|(device, _)| *device).any(|device| {
            let listening = squad.listening_of(device);
            let reaches = |member| target.reaches(charter.state(), member, listening);
            charter.owner(device).is_some_and(reaches)
        })
    }

    /// This device's own state, if it is another one than was told last.
    pub(super) fn self_changed(&mut self, snapshot: &Snapshot) -> Option<Event> {
        let keys = snapshot.keys.iter().filter(|key| key.down);
        let nets = snapshot.nets.iter().filter(|net| net.listening);
        let event = Event::SelfChanged {
            muted: snapshot.muted,
            deafened: snapshot.deafened,
            away: snapshot.away,
            transmitting: snapshot.transmitting,
            transmit: snapshot.transmit,
            front: snapshot.front,
            profile: snapshot.profile.clone(),
            keys: keys.map(|key| key.key.clone()).collect(),
            talk_to: snapshot.talk_to.clone(),
            silenced: snapshot.silenced.clone(),
            unheard: snapshot.unheard,
            nets: nets.map(|net| net.path.clone()).collect(),
        };
        let is_new = self.told_of_self.as_ref() != Some(&event);
        self.told_of_self = Some(event.clone());
        is_new.then_some(event)
    }

    /// Tells apart by their marks members who are called the same, or almost.
    fn label(&mut self, squad: &Squad) {
        let own = squad.member().map(|member| (self.device, member, self.name.clone()));
        let known = self.peers.iter();
        let known = known.filter_map(|(device, it)| Some((*device, it.member?, it.name.clone())));
        self.labels = Labels::of(squad, known.chain(own));
    }

    /// What a member is called, as far as that is known.
    pub(super) fn name_of_member(&self, squad: &Squad, member: MemberId) -> Option<String> {
        let devices = squad.charter().devices_held(member).into_iter();
        let mut labels = devices.filter_map(|device| self.labels.of_device(device));
        let known = || self.peers.values().find(|peer| peer.member == Some(member));
        let own = || (squad.member() == Some(member)).then(|| self.name.clone());
        let label = labels.next().map(str::to_owned);
        label.or_else(own).or_else(|| known().map(|peer| peer.name.clone()))
    }

    fn name_of(&self, device: DeviceId) -> String {
        let label = self.labels.of_device(device).map(str::to_owned);
        let peer = || self.peers.get(&device).map(|peer| peer.name.clone());
        label.or_else(peer).unwrap_or_else(|| device.short())
    }
}

/// Why packets of a member do not come straight.
fn why_relayed(squad: &Squad, device: DeviceId) -> String {
    match squad.direct_attempts(device) {
        (0, _) => "none of its addresses is known".to_owned(),
        (1, 1) => "its address was tried once without an answer".to_owned(),
        (1, attempts) => format!("its address was tried {attempts} times without an answer"),
        (addresses, 1) => format!("{addresses} addresses were tried once without an answer"),
        (addresses, attempts) => {
            format!("{addresses} addresses were tried {attempts} times without an answer")
        }
    }
}

fn net_name(squad: &Squad, net: Net) -> Option<String> {
    match net {
        Net::Channel(channel) => radio::path_of(squad, channel),
        Net::Whisper => Some(WHISPER.to_owned()),
    }
}

impl From<TransmitMode> for hark_voice::Transmit {
    fn from(mode: TransmitMode) -> Self {
        match mode {
            TransmitMode::Open => Self::Open,
            TransmitMode::Vad => Self::Voice,
            TransmitMode::Ptt => Self::PushToTalk,
        }
    }
}

/// How a whisper is called where channels are named.
const WHISPER: &str = "whisper";

/// What is told where nobody can be reached.
const HIDDEN: &str = "--relay-only, and the charter names no relay: nobody can be reached";
