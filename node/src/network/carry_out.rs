//! What the squad wants done, done.

use std::net::SocketAddr;

use hark_keys::{ChannelId, TargetId, Timestamp};
use hark_mesh::squad::{self, Transmit};

use super::{Input, Runner};
use crate::{
    store::OrganisationStore,
    voice::{Net, NetSettings, VoiceCommand},
};

impl Runner {
    /// Does what the squad wants done.
    pub(super) fn carry_out(&mut self, now: Timestamp) {
        loop {
            let Some(squad) = &mut self.squad else { return };
            if let Some(event) = squad.poll_event() {
                self.handle_squad(event);
            } else if let Some(transmit) = squad.poll_transmit() {
                self.transmit(now, transmit);
            } else if let Some(dial) = squad.poll_dial(now) {
                self.dial(dial);
            } else if let Some(generation) = squad.poll_persist() {
                self.persist(generation);
            } else {
                return;
            }
        }
    }

    fn transmit(&mut self, now: Timestamp, transmit: Transmit) {
        match transmit {
            Transmit::Message { to, id, bytes } => {
                let messages = &mut self.swarm.behaviour_mut().messages;
                let request = messages.send_request(&to.peer_id(), bytes.to_vec());
                self.requests.insert(request, (to, id));
                if self.requests.len() > REQUEST_LIMIT
                    && let Some((_, (device, id))) = self.requests.pop_first()
                    && let Some(squad) = &mut self.squad
                {
                    squad.handle_failed(now, device, id);
                }
            }
            Transmit::Gossip(bytes) => {
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                if let Err(error) = gossip.publish(self.topic.clone(), bytes) {
                    // Nobody there yet, or said already; records are exchanged on each new link.
                    tracing::debug!(%error, "not gossiped");
                }
            }
            Transmit::Datagram { to, bytes } => self.links.send(to, bytes.into()),
        }
    }

    fn handle_squad(&mut self, event: squad::Event) {
        let Some(OnlyNet { channel, target, tag }) = self.store.as_ref().map(OnlyNet::of) else {
            return;
        };
        let command = match event {
            squad::Event::OwnKey(secret) => Some(VoiceCommand::UseKey { target, tag, secret }),
            squad::Event::TalkerKey { device, secret } => Some(VoiceCommand::InstallKey {
                device,
                target,
                tag,
                heard: vec![Net::Channel(channel)],
                priority: false,
                secret,
            }),
            squad::Event::TalkerGone { device } => Some(VoiceCommand::RemoveTalker(device)),
            squad::Event::Listeners(devices) => {
                Some(VoiceCommand::SetListeners { target, devices })
            }
            squad::Event::RecordsChanged => {
                self.records_changed = true;
                if let Some(squad) = &self.squad {
                    for record in squad.directory().records() {
                        self.config.doorkeeper.add_member(record.unverified().device);
                    }
                }
                None
            }
            event => {
                if let Some(event) = self.view.handle_squad(event, &self.links) {
                    self.config.publisher.publish(event);
                }
                None
            }
        };
        if let (Some(command), Some(voice)) = (command, &self.voice) {
            voice.command(command);
        }
    }

    fn persist(&self, generation: u16) {
        let Some(store) = self.store.clone() else { return };
        let inputs = self.input_sender.clone();
        (self.config.worker)(Box::new(move || {
            let kept = store.keep_generation(generation).map_err(|error| error.to_string());
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Persisted(generation, kept));
        }));
    }

    pub(super) fn keep_records(&mut self) {
        if !std::mem::take(&mut self.records_changed) {
            return;
        }
        let (Some(store), Some(squad)) = (self.store.clone(), &self.squad) else { return };
        let snapshot = squad.directory().snapshot();
        let port = self.listen_addresses.first().map(SocketAddr::port);
        (self.config.worker)(Box::new(move || {
            let kept = store.keep_members(&snapshot).and_then(|()| store.keep_port(port));
            if let Err(error) = kept {
                tracing::warn!(%error, "members are not remembered");
            }
        }));
    }
}

/// The first channel, which is all that is talked to and listened to.
pub(super) struct OnlyNet {
    channel: ChannelId,
    target: TargetId,
    tag: [u8; 4],
}

impl OnlyNet {
    pub(super) fn of(store: &OrganisationStore) -> Self {
        let charter = store.charter();
        let channel = charter.channel().id;
        let target = TargetId::of_channel(channel);
        Self { channel, target, tag: charter.target_tag(target) }
    }

    /// What the voice side begins with.
    pub(super) fn commands(&self) -> [VoiceCommand; 2] {
        let net = Net::Channel(self.channel);
        [
            VoiceCommand::SelectTarget(Some(self.target)),
            VoiceCommand::SetNet { net, settings: NetSettings::default() },
        ]
    }
}

/// Messages under way; the oldest counts as lost.
const REQUEST_LIMIT: usize = 4096;
