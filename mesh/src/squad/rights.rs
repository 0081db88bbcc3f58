//! Carries out what the charter permits: who is linked, who is given keys, and who may be heard.

use std::{sync::Arc, time::Duration};

use hark_charter::content::{Capabilities, Change, Place};
use hark_keys::{DeviceId, List, MemberId, Timestamp};

use super::{DownReason, Event, Link, Squad, talkers::TalkerChange, targets::Listener};
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

    /// Applies a new charter: evicts devices that no longer belong and stops whatever is no longer
    /// permitted.
    pub(super) fn apply_charter(&mut self, now: Timestamp) {
        let charter = Arc::clone(self.charter());
        let own = self.key.id();
        match self.member.filter(|_| !self.is_held()) {
            None => self.doubted_at = None,
            Some(member) if charter.ending(member, own).is_some() => {
                self.events.push_back(Event::Removed);
            }
            // A newcomer may learn of its door's removal before it learns that the door is back. It
            // stays with its door until it has learnt the rest.
            Some(_) => {
                self.doubted_at.get_or_insert(now + DOUBTED_FOR);
                return;
            }
        }
        let gone: Vec<_> = self
            .links
            .iter()
            .filter(|(device, link)| !self.belongs(**device, link.member))
            .map(|(device, _)| *device)
            .collect();
        // Devices that may no longer hear are handled together with those that are gone. So none of
        // them is given the key that replaces the others' key.
        self.recompute_targets();
        // The same holds for devices that have just said goodbye and still hold the key.
        let former = self.targets.former().filter(|device| charter.owner(*device).is_none());
        self.admit_but(now, &gone.iter().copied().chain(former).collect::<Vec<_>>());
        for device in gone {
            self.evict(now, device);
        }
        self.records.prune(&charter);
        // A member that returns learns last that its ban was lifted.
        if self.records.directory().record(own).is_none() {
            self.update_record(now);
        }
        for relay in charter.state().relays() {
            if relay.device != self.key.id() {
                self.learn(now, Some(relay.device), &relay.addresses, Source::Known);
            }
        }
        self.recompute_nets(now);
        self.refresh_talker_keys(None);
        self.revalidate_epochs(now);
        self.admit(now);
        self.list_soon(now);
        self.events.push_back(Event::CharterChanged);
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

    /// Ends everything with a device that no longer belongs and has lost our keys.
    fn evict(&mut self, now: Timestamp, device: DeviceId) {
        self.unlink(now, device, DownReason::Refused);
        self.dialling.forget(device);
        self.evicting.insert(device, now + EVICT_AFTER);
    }

    pub(super) fn recompute_nets(&mut self, now: Timestamp) {
        let Some(member) = self.member else { return };
        let charter = Arc::clone(self.charter());
        if self.nets.permit(&charter, member) {
            self.presence.listening = self.nets.public(&charter);
            self.refresh_talker_keys(None);
            self.weigh_epochs(now);
            self.events.push_back(Event::NetsChanged);
            self.admit(now);
        }
    }

    pub(super) fn recompute_targets(&mut self) {
        let Some(member) = self.member else { return };
        let charter = Arc::clone(self.charter());
        for target in self.targets.permit(&charter, member) {
            self.events.push_back(Event::TargetGone(target));
        }
    }

    /// Gives our keys to devices that may hear us, and takes them from the others.
    pub(super) fn admit(&mut self, now: Timestamp) {
        self.admit_but(now, &[]);
    }

    /// Like [`Self::admit`], when the devices `gone` no longer belong.
    pub(super) fn admit_but(&mut self, now: Timestamp, gone: &[DeviceId]) {
        let Some(own) = self.member else { return };
        let charter = Arc::clone(self.charter());
        let listeners = self
            .links
            .iter()
            .filter(|(device, _)| !self.liveness.is_lost(**device) && !gone.contains(device));
        // A relay is no member: whatever it claims to listen to, it gets no key.
        let listeners = listeners.filter_map(|(device, link)| {
            let listening = self.nets.of(*device);
            link.member.map(|member| Listener { device: *device, member, listening })
        });
        self.targets.admit(now, charter.state(), own, listeners, gone);
    }

    pub(super) fn refresh_talker_keys(&mut self, device: Option<DeviceId>) {
        let Some(listener) = self.member else { return };
        let charter = Arc::clone(self.charter());
        let links = &self.links;
        let member = |device| links.get(&device).and_then(|link: &Link| link.member);
        let (state, own) = (charter.state(), self.nets.own());
        for change in self.talkers.weigh(device, state, listener, own, member) {
            self.events.push_back(match change {
                TalkerChange::Install { device, target, hearing, secret } => {
                    Event::TalkerKey { device, target, hearing, secret }
                }
                TalkerChange::Hear { device, target, hearing } => {
                    Event::TalkerHeard { device, target, hearing }
                }
                TalkerChange::InstallInEpoch { device, target, hearing, key } => {
                    Event::TalkerEpochKey { device, target, hearing, key }
                }
                TalkerChange::Remove { device, target } => Event::TalkerKeyGone { device, target },
            });
        }
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
