//! Carries out what the charter permits: who is linked, who is given keys, and who may be heard.

use std::{sync::Arc, time::Duration};

use hark_charter::content::{Capabilities, Change, Place};
use hark_keys::{DeviceId, List, MemberId, Timestamp};

use super::{DownReason, Squad, SquadEvent, links::Link, talkers::TalkerChange, targets::Listener};
use crate::dialling::Source;

/// How long a device waits for more of the charter if its present charter does not mention it.
/// [PROTO-3.12]
const DOUBTED_FOR: Duration = Duration::from_secs(10);

impl Squad {
    /// Whether this device belongs to its member by the charter, banned or not.
    pub(super) fn is_held(&self) -> bool {
        let own = self.key.id();
        self.member.is_none_or(|member| self.charter().devices_held(member).contains(&own))
    }

    /// Whether to act on the charter in force. This waits until it is known that this device
    /// belongs, or that it no longer does.
    pub(super) fn accept_charter(&mut self, now: Timestamp) -> bool {
        match self.member.filter(|_| !self.is_held()) {
            None => self.doubted_at = None,
            Some(member) if self.charter().ending(member, self.key.id()).is_some() => {
                self.events.push_back(SquadEvent::Removed);
            }
            // A newcomer may learn of its door's removal before it learns that the door is back. It
            // stays with its door until it has learnt the rest.
            Some(_) => {
                self.doubted_at.get_or_insert(now + DOUBTED_FOR);
                return false;
            }
        }
        true
    }

    /// Devices that may have our keys and no longer belong. They are linked, or have just left with
    /// a goodbye.
    pub(super) fn outlaws(&self) -> Vec<DeviceId> {
        let linked = self.links.iter().filter(|(id, link)| !self.belongs(**id, link.member));
        let former = self.targets.former().filter(|id| self.charter().owner(*id).is_none());
        linked.map(|(device, _)| *device).chain(former).collect()
    }

    /// Updates what this device knows and says of itself to another charter.
    pub(super) fn apply_charter(&mut self, now: Timestamp) {
        let charter = Arc::clone(self.charter());
        self.records.prune(&charter);
        // A member that returns learns last that its ban was lifted.
        if self.records.directory().record(self.key.id()).is_none() {
            self.update_record(now);
        }
        for relay in charter.state().relays() {
            if relay.device != self.key.id() {
                self.learn(now, Some(relay.device), &relay.addresses, Source::Known);
            }
        }
        self.list_soon(now);
    }

    /// Whether `device` is one of `member`'s, or a relay that the charter names. For a device that
    /// has just arrived, this may still be on its way to the disk.
    pub(super) fn belongs(&self, device: DeviceId, member: Option<MemberId>) -> bool {
        let taken = self.replication.taken();
        match member {
            Some(member) => taken.devices_of(member).contains(&device),
            None => taken.state().relay(device).is_some(),
        }
    }

    /// Ends everything with devices that no longer belong and have lost our keys.
    pub(super) fn evict(&mut self, now: Timestamp, outlaws: Vec<DeviceId>) {
        for device in outlaws {
            if self.links.contains_key(&device) {
                self.unlink(now, device, DownReason::Refused);
                self.dialling.forget(device);
                self.evicting.insert(device, now + EVICT_AFTER);
            }
        }
    }

    /// Hears what is wanted and permitted. Returns whether that has changed.
    pub(super) fn recompute_nets(&mut self) -> bool {
        let Some(member) = self.member else { return false };
        let charter = Arc::clone(self.charter());
        if !self.nets.permit(&charter, member) {
            return false;
        }
        self.presence.listening = self.nets.public(&charter);
        self.events.push_back(SquadEvent::NetsChanged);
        true
    }

    pub(super) fn recompute_targets(&mut self) {
        let Some(member) = self.member else { return };
        let charter = Arc::clone(self.charter());
        for target in self.targets.permit(&charter, member) {
            self.events.push_back(SquadEvent::TargetGone(target));
        }
    }

    /// Gives our keys to devices that may hear us, and takes them from the others. The `outlaws` no
    /// longer belong.
    pub(super) fn admit(&mut self, now: Timestamp, outlaws: &[DeviceId]) {
        let Some(own) = self.member else { return };
        let charter = Arc::clone(self.charter());
        let listeners = self
            .links
            .iter()
            .filter(|(device, _)| !self.liveness.is_lost(**device) && !outlaws.contains(device));
        // A relay is no member: whatever it claims to listen to, it gets no key.
        let listeners = listeners.filter_map(|(device, link)| {
            let listening = self.nets.of(*device);
            link.member.map(|member| Listener { device: *device, member, listening })
        });
        self.targets.admit(now, charter.state(), own, listeners, outlaws);
    }

    /// Tells the voice side which keys of talkers there are, and by what means each is heard now.
    pub(super) fn refresh_talker_keys(&mut self) {
        let Some(listener) = self.member else { return };
        let charter = Arc::clone(self.charter());
        let links = &self.links;
        let member = |device| links.get(&device).and_then(|link: &Link| link.member);
        for change in self.talkers.weigh(charter.state(), listener, self.nets.own(), member) {
            let event = match change {
                TalkerChange::Install { device, target, hearing, secret, recipients } => {
                    self.events.push_back(SquadEvent::TalkerKey {
                        device,
                        target,
                        hearing,
                        secret,
                    });
                    let unknown = recipients.iter().copied().filter(|id| !self.knows(*id));
                    let unknown = unknown.collect();
                    SquadEvent::TalkerRoster { device, devices: recipients, unknown }
                }
                TalkerChange::Hear { device, target, hearing } => {
                    SquadEvent::TalkerHeard { device, target, hearing }
                }
                TalkerChange::InstallInEpoch { device, target, hearing, key } => {
                    SquadEvent::TalkerEpochKey { device, target, hearing, key }
                }
                TalkerChange::Remove { device, target } => {
                    SquadEvent::TalkerKeyGone { device, target }
                }
            };
            self.events.push_back(event);
        }
    }

    /// Whether anything is known about a device on a talker's list.
    fn knows(&self, device: DeviceId) -> bool {
        device == self.key.id()
            || self.links.contains_key(&device)
            || self.records.knows(self.charter(), device)
    }

    /// Lists our own certificates that others may have to rely on, many at once.
    pub(super) fn list_soon(&mut self, now: Timestamp) {
        if self.list_at.is_none()
            && self.member.is_some_and(|member| !self.charter().unlisted(member).is_empty())
        {
            self.list_at = Some(now + LIST_AFTER);
        }
    }

    pub(super) fn list_certificates(&mut self) {
        let everywhere = Place::Organisation;
        let Some(member) = self.member else { return };
        let unlisted = self.replication.taken().unlisted(member);
        if unlisted.is_empty() || !self.charter().allows(member, Capabilities::ADMIT, everywhere) {
            return;
        }
        let change = Change::Admitted(List::truncated(unlisted));
        if let Err(error) = self.replication.edit(&self.key, member, vec![change]) {
            tracing::warn!(%error, "certificates are not listed");
        }
    }
}

/// A removed device is told so by gossip before its link is closed. Otherwise it would not know the
/// reason.
const EVICT_AFTER: Duration = Duration::from_millis(500);

/// How long certificates wait to be listed. Many members that come together are listed together.
const LIST_AFTER: Duration = Duration::from_secs(2);
