//! Links: their start and end, and peers that fall silent and are heard again.

use std::net::SocketAddr;

use hark_charter::Charter;
use hark_keys::{DeviceId, MemberId, Timestamp};

use super::{DownReason, Squad, SquadEvent, SquadTransmit, reconcile::Dirty};
use crate::{dialling::Source, hello::PeerHello, liveness::Reach};

/// A peer whose Hello was accepted.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) incarnation: u64,
    /// The peer's member; `None` for an infrastructure relay.
    pub(super) member: Option<MemberId>,
}

impl Squad {
    /// A link is up, and its Hello was accepted. `address` is where the peer was found, if this
    /// side dialled it.
    ///
    /// Also call this when the link replaces another one to the same device. [PROTO-2.23] A link
    /// beyond the limit (see [`Self::is_full`]) is ignored. A device that no longer belongs is
    /// reported as [`SquadEvent::Evicted`].
    pub fn handle_link_up(&mut self, now: Timestamp, peer: PeerHello, address: Option<SocketAddr>) {
        let PeerHello {
            device,
            member,
            chain,
            added,
            name,
            incarnation,
            addresses,
            digest,
            listening,
        } = peer;
        let known = self.links.get(&device);
        if device == self.key.id() || (known.is_none() && self.is_full()) {
            return;
        }
        // It may have been removed since its Hello was accepted.
        self.evicting.remove(&device);
        self.replication.take_chain(&chain);
        self.replication.introduce(&added);
        // A newcomer knows too little to judge its door, which may have been removed once and be
        // back.
        if !self.belongs(device, member) && self.is_held() {
            if known.is_some() {
                self.targets.revoke(now, &[device]);
                self.handle_link_down(now, device, DownReason::Refused);
            }
            self.events.push_back(SquadEvent::Evicted { device });
            return;
        }
        let restarted = known.is_some_and(|link| link.incarnation != incarnation);
        if restarted {
            self.forget_talker(device);
        }
        let link = Link { name: name.clone(), incarnation, member };
        let is_new = self.links.insert(device, link).is_none() || restarted;
        if is_new && member.is_some() {
            self.events.push_back(SquadEvent::PeerUp { device, name, address });
        } else if is_new {
            self.events.push_back(SquadEvent::RelayUp { device, name, address });
        }
        if self.liveness.link_up(now, device).is_some_and(|reach| reach != Reach::Reachable) {
            self.events.push_back(SquadEvent::PeerReachable { device });
        }
        self.paths.link_up(device);
        self.dialling.connected(device, address);
        self.learn(now, Some(device), &addresses, Source::Announced);
        self.learn(now, Some(device), address.as_slice(), Source::Known);
        self.under_way.retain(|(to, _), _| *to != device);
        let differs = digest != self.replication.digest();
        self.replication.link_up(now, device, differs);
        self.nets.link_up(device, restarted, listening);
        self.names.link_up(device);
        self.epochs.link_changed(now, device, false);
        self.link_up_availability(device, member, (incarnation, restarted));
        self.targets.renew(now, device);
        self.records.link_up(now, device, self.links.len() == 1);
        self.link_up_relaying(now, device, member, restarted);
        self.send_records(device);
        self.list_soon(now);
        self.events.push_back(SquadEvent::NetsChanged);
        self.mark(now, Dirty::LINKS);
    }

    /// The last link to `device` has ended.
    pub fn handle_link_down(&mut self, now: Timestamp, device: DeviceId, reason: DownReason) {
        if self.links.contains_key(&device) {
            self.unlink(now, device, reason);
        }
    }

    /// Forgets a link and everything that used it.
    pub(super) fn unlink(&mut self, now: Timestamp, device: DeviceId, reason: DownReason) {
        let was_relay = self.is_relay(device);
        self.links.remove(&device);
        self.liveness.link_down(device);
        self.dialling.disconnected(now, device, reason == DownReason::Left);
        self.targets.leave(now, device);
        self.under_way.retain(|(to, _), _| *to != device);
        // Outputs for this peer may still be queued, since another peer's message can end this
        // link.
        self.transmits.retain(|it| {
            !matches!(it, SquadTransmit::Message { to, .. } | SquadTransmit::Datagram { to, .. } if *to == device)
        });
        self.replication.link_down(device);
        self.nets.link_down(device);
        self.names.link_down(device);
        self.paths.link_down(device);
        self.checks.mark();
        self.records.link_down(now, device, self.links.is_empty());
        self.link_down_relaying(device);
        self.epochs.link_changed(now, device, true);
        self.availabilities.link_down(now, device);
        self.forget_talker(device);
        self.events.push_back(if was_relay {
            SquadEvent::RelayDown { device, reason }
        } else {
            SquadEvent::PeerDown { device, reason }
        });
        self.events.push_back(SquadEvent::NetsChanged);
        self.mark(now, Dirty::LINKS);
    }

    /// A datagram of any kind arrived from `device`. [PROTO-2.7]
    pub fn handle_heard(&mut self, now: Timestamp, device: DeviceId) {
        match self.liveness.heard(now, device) {
            None | Some(Reach::Reachable) => return,
            Some(Reach::Unreachable | Reach::Lost) => {}
        }
        self.settle_dialling(now, device);
        self.events.push_back(SquadEvent::PeerReachable { device });
        self.mark(now, Dirty::LINKS);
    }

    fn forget_talker(&mut self, device: DeviceId) {
        if self.talkers.remove(device) {
            self.events.push_back(SquadEvent::TalkerGone { device });
        }
    }
}

/// Whether `device` is a relay that the charter names and belongs to no member.
pub(super) fn is_infrastructure(charter: &Charter, device: DeviceId) -> bool {
    charter.state().relay(device).is_some() && charter.owner(device).is_none()
}
