//! Whose device this is and stays: refusals, the end of a membership, further devices.

use std::time::Duration;

use hark_charter::{
    Ending,
    content::{Change, Place, SanctionKind},
};
use hark_keys::{DeviceId, MemberId, Timestamp, UnixTime};
use hark_mesh::{hello::Refusal, squad::Squad};

use super::{own_member, radio, standings, working::Working};
use crate::{
    error::{Farewell, FarewellReason},
    event::{DeviceText, Event, Notice, SanctionView},
};

impl Working {
    /// Weighs what those who were dialled have said who do not let this member's device in.
    pub(super) fn weigh_refusals(&mut self) {
        let squad = &mut self.driver.squad;
        let proof = self.base.doorkeeper.take_proof();
        if !proof.is_empty() {
            squad.handle_proof(proof);
        }
        let Some((device, refusal)) = self.base.doorkeeper.take_refusal() else { return };
        let charter = squad.charter();
        if charter.owner(device).is_some() || charter.state().relay(device).is_some() {
            self.tell_refusal(device, refusal);
        } else {
            // Newcomers and others on the LAN are no business of the person's.
            tracing::debug!(%device, %refusal, "a stranger does not let this device in");
            self.stranger = Some((device, refusal));
        }
    }

    /// Somebody at an address that the person has given does not let this device in.
    pub(super) fn handle_refused(&mut self, refusal: Refusal) {
        self.weigh_refusals();
        if let Some((device, refusal)) = self.stranger.take_if(|(_, said)| *said == refusal) {
            self.tell_refusal(device, refusal);
        }
    }

    fn tell_refusal(&mut self, device: DeviceId, refusal: Refusal) {
        let squad = &self.driver.squad;
        // It is dialled again and again, and says the same.
        if self.refusals.len() >= REFUSALS_MAX {
            self.refusals.clear();
        }
        if self.refusals.insert(device, refusal) != Some(refusal) {
            let name = name_of(squad, device);
            let reason = refusal.to_string();
            self.base.publisher.publish(Event::Refused {
                device: DeviceText(device),
                name,
                reason,
            });
        }
    }

    /// Tells whom it concerns that somebody has tried a revoked ticket here, once an hour for each.
    pub(super) fn tell_tried(&mut self, now: Timestamp) {
        for invite in self.base.doorkeeper.take_tried() {
            self.tried.retain(|_, told| now.saturating_duration_since(*told) < TRIED_TOLD_EVERY);
            let known = self.tried.contains_key(&invite.invite_key);
            if !known && self.tried.len() < TRIED_MAX {
                self.tried.insert(invite.invite_key, now);
                let number = invite.number();
                self.base.publisher.notify(Notice::RevokedTicketTried { number });
            }
        }
    }

    /// Adds the devices that have redeemed a ticket of this member's. [PROTO-4.7]
    pub(super) fn add_devices(&mut self, now: Timestamp) {
        let squad = &mut self.driver.squad;
        for (device, consent) in self.base.doorkeeper.take_additions() {
            let added = squad.charter_taken().devices_of(own_member(squad)).contains(&device);
            // It may be on its way to the disk.
            if !added
                && let Err(error) = squad.edit(now, vec![Change::AddDevice { device, consent }])
            {
                tracing::warn!(%error, "a device is not added");
            }
        }
    }

    /// Remembers who came in by which ticket.
    pub(super) fn note_redeemed(&self) {
        let store = &self.store;
        let now = self.base.network.clock.unix();
        for (invite, device) in self.base.doorkeeper.take_redeemed() {
            let store = store.clone();
            (self.base.network.worker)(Box::new(move || {
                if let Err(error) = store.note_use(now, &invite, device) {
                    tracing::warn!(%error, "who came in by a ticket is not remembered");
                }
            }));
        }
    }

    /// Tells who waits at this door, and what became of them.
    pub(super) fn tell_waiting(&self) {
        for (newcomer, state) in self.base.doorkeeper.take_waiting_news() {
            self.base.publisher.publish(Event::Waiting { newcomer, state });
        }
    }

    /// Whether this device has said itself that it does not belong any more.
    pub(super) fn has_retired_itself(&self) -> bool {
        let (squad, device) = (&self.driver.squad, self.base.key.id());
        let ending = squad.charter().ending(own_member(squad), device);
        ending == Some(Ending::Retired(Some(device)))
    }

    /// Why this device does not belong any more.
    pub(super) fn farewell(&self) -> Farewell {
        let squad = &self.driver.squad;
        let (charter, device) = (squad.charter(), self.base.key.id());
        let mut sanctions = sanctions(squad).into_iter();
        let ban = sanctions.find(|it| it.kind == SanctionKind::Ban && it.channel.is_none());
        let why = match (ban, charter.ending(own_member(squad), device)) {
            (Some(ban), _) => Some(FarewellReason::Banned(ban)),
            (None, Some(Ending::Removed(Some(by)))) => {
                Some(FarewellReason::RemovedBy(member_name(squad, by)))
            }
            (None, Some(Ending::Removed(None))) => Some(FarewellReason::Removed),
            (None, Some(Ending::Retired(Some(by)))) if by == device => {
                Some(FarewellReason::RetiredItself)
            }
            (None, Some(Ending::Retired(_))) => Some(FarewellReason::Retired),
            (None, None) => None,
        };
        Farewell { organisation: self.view.organisation_name().to_owned(), why }
    }
}

/// The mutes and bans of this member that are in force while this device belongs.
/// [`Working::farewell`] reports a ban from the organisation. A member that was let in again still
/// finds its ban in the charter of that time, until a peer has sent the newest.
pub(super) fn sanctions_here(squad: &Squad) -> Vec<SanctionView> {
    let mut sanctions = sanctions(squad);
    sanctions.retain(|it| it.kind != SanctionKind::Ban || it.channel.is_some());
    sanctions
}

/// The event of a sanction with who has lifted it before its time.
pub(super) fn with_lifter(squad: &Squad, mut event: Event) -> Event {
    let now = squad.charter().calendar().as_secs();
    if let Event::Sanction { sanction, in_force: false, lifted_by } = &mut event
        && sanction.until.is_none_or(|until| now < until)
    {
        let lifts = |change: &Change| {
            matches!(change, Change::Lift { member, kind, at }
                if Some(*member) == squad.member()
                    && *kind == sanction.kind
                    && channel_of(squad, *at).as_ref() == Some(&sanction.channel))
        };
        let lifter = standings::author(squad.charter(), lifts);
        *lifted_by = lifter.and_then(|member| member_name(squad, member));
    }
    event
}

/// The path of a channel, or none for everywhere; nothing where it may not be seen.
fn channel_of(squad: &Squad, at: Place) -> Option<Option<String>> {
    match at {
        Place::Organisation => Some(None),
        Place::Channel(channel) => radio::path_of(squad, channel).map(Some),
    }
}

/// Mutes and bans of this device's member that hold now, as far as it may know of the channels.
fn sanctions(squad: &Squad) -> Vec<SanctionView> {
    let charter = squad.charter();
    let by = |source| {
        let (operation, _) = charter.log().find(|(operation, _)| operation.hash() == source)?;
        member_name(squad, charter.owner(operation.unverified().author)?)
    };
    let Some(member) = squad.member() else { return Vec::new() };
    let sanctions = charter.state().sanctions_on(member);
    let told = sanctions.filter_map(|(it, source)| {
        let (channel, until) = (channel_of(squad, it.at)?, it.until.map(UnixTime::as_secs));
        Some(SanctionView { kind: it.kind, channel, by: by(source), until })
    });
    told.collect()
}

/// What a member is called, or was who belongs no more.
pub(super) fn member_name(squad: &Squad, member: MemberId) -> Option<String> {
    let mut records = squad.directory().records().map(hark_keys::Signed::unverified);
    let record = records.find(|record| squad.charter().owner(record.device) == Some(member));
    let name = record.map(hark_mesh::MemberRecord::shown_name);
    name.or_else(|| squad.directory().former_name(member))
}

fn name_of(squad: &Squad, device: DeviceId) -> String {
    let record = squad.directory().record(device);
    record.map_or_else(|| device.short(), hark_mesh::MemberRecord::shown_name)
}

/// Peers whose refusals are remembered, so that each is told once.
const REFUSALS_MAX: usize = 256;

/// How often a revoked ticket is told of that is tried again and again.
const TRIED_TOLD_EVERY: Duration = Duration::from_secs(3600);

/// Revoked tickets that are told of in that time; further ones are not.
const TRIED_MAX: usize = 64;
