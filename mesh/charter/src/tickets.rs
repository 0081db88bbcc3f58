//! Tickets that were given out and shall no longer admit anybody. [section 9 of docs/charter.md]
//!
//! ```text
//! RevokeTicket  ──> a number ─── kept until a checkpoint finds that the ticket has expired
//! RevokeTickets ──> a series ─── what was issued in an earlier one is worth nothing
//! ```

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, Invite, MemberId, ObjectHash, Series, UnixTime};
use serde::{Deserialize, Serialize};

use super::{content::RevokedTicket, state::State};

/// All revocations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revocations {
    /// The operation that last revoked everybody's tickets.
    everyone: Option<ObjectHash>,
    members: BTreeMap<MemberId, Revoked>,
}

/// The revocations of one member's tickets, since everybody's were last revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Revoked {
    /// The operation that last revoked all of them.
    all: Option<ObjectHash>,
    /// The tickets that were revoked one by one since then, and when they expire.
    tickets: BTreeMap<DeviceId, UnixTime>,
}

impl Revocations {
    /// Revokes one ticket. If the member already has too many of these, revokes all of the
    /// member's. [CHARTER-9.3]
    pub(super) fn revoke(&mut self, ticket: &RevokedTicket, source: ObjectHash) {
        let revoked = self.members.entry(ticket.issuer).or_default();
        if revoked.tickets.len() < TICKETS_MAX || revoked.tickets.contains_key(&ticket.key) {
            revoked.tickets.insert(ticket.key, ticket.expires);
        } else {
            self.revoke_all(Some(ticket.issuer), source);
        }
    }

    /// Revokes all tickets so far: of one member, or of everybody. [CHARTER-9.2]
    pub(super) fn revoke_all(&mut self, issuer: Option<MemberId>, source: ObjectHash) {
        match issuer {
            Some(issuer) => {
                let revoked = Revoked { all: Some(source), tickets: BTreeMap::new() };
                self.members.insert(issuer, revoked);
            }
            None => *self = Self { everyone: Some(source), members: BTreeMap::new() },
        }
    }

    /// Forgets tickets that had expired some time before `time`. [CHARTER-9.4]
    pub(super) fn forget(&mut self, time: UnixTime) {
        for revoked in self.members.values_mut() {
            revoked.tickets.retain(|_, expires| time < *expires + KEPT_AFTER);
        }
        self.members.retain(|_, it| it.all.is_some() || !it.tickets.is_empty());
    }

    /// Whether [`forget`](Self::forget) would forget anything.
    pub(super) fn is_outdated(&self, time: UnixTime) -> bool {
        let mut ends = self.members.values().flat_map(|revoked| revoked.tickets.values());
        ends.any(|expires| *expires + KEPT_AFTER <= time)
    }
}

impl State {
    /// The series in which `issuer` issues tickets now. [CHARTER-9.2]
    pub fn series(&self, issuer: MemberId) -> Series {
        let everyone = self.revoked.everyone;
        let own = self.revoked.members.get(&issuer).and_then(|revoked| revoked.all);
        if everyone.or(own).is_none() {
            return Series::default();
        }
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 ticket series");
        for source in [everyone, own] {
            hasher.update(source.map_or([0; 32], |it| *it.as_bytes()).as_slice());
        }
        let hash: [u8; 32] = hasher.finalize().into();
        Series::from_bytes(*hash.first_chunk().expect("8 of 32 bytes"))
    }

    /// Whether a ticket of `issuer` was revoked, by itself or with all of the issuer's.
    pub fn revokes(&self, issuer: MemberId, invite: &Invite) -> bool {
        let revoked = self.revoked.members.get(&issuer);
        revoked.is_some_and(|it| it.tickets.contains_key(&invite.invite_key))
            || invite.series != self.series(issuer)
    }

    /// Tickets that were revoked one by one, with their issuers and expiry times.
    pub fn revoked_tickets(&self) -> impl Iterator<Item = RevokedTicket> {
        self.revoked.members.iter().flat_map(|(issuer, revoked)| {
            let ticket = |(key, expires): (&DeviceId, &UnixTime)| RevokedTicket {
                issuer: *issuer,
                key: *key,
                expires: *expires,
            };
            revoked.tickets.iter().map(ticket)
        })
    }
}

/// The most tickets of one member that are revoked one by one. The next one revokes all of theirs,
/// so that no revocation is ever without effect.
pub const TICKETS_MAX: usize = 32;

/// How long after a ticket has expired its revocation is kept, since doors judge by their own
/// clocks.
const KEPT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
