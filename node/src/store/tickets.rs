//! The tickets that this device has issued or let somebody in by, until they expire.

use std::{
    collections::BTreeMap,
    io,
    sync::{MutexGuard, PoisonError},
};

use hark_commands::KnownTicket;
use hark_keys::{DeviceId, Invite, UnixTime, decode, encode};

use super::{OrganisationStore, StoreError, organisation::FILE_LIMIT};
use crate::{admission::UseCounter, clock::Clock};

/// By invite keys.
type Tickets = BTreeMap<DeviceId, KnownTicket>;

impl OrganisationStore {
    /// Tickets that this device has issued or let somebody in by, and that have not expired by
    /// `now`.
    pub fn tickets(&self, now: UnixTime) -> Result<Vec<KnownTicket>, StoreError> {
        let _turn = self.turn();
        Ok(self.read_tickets(now)?.into_values().collect())
    }

    /// Remembers a ticket that this device issues.
    pub fn keep_ticket(&self, now: UnixTime, invite: &Invite) -> Result<(), StoreError> {
        let _turn = self.turn();
        let mut tickets = self.read_tickets(now)?;
        make_room(&mut tickets);
        let new = KnownTicket { invite: invite.clone(), devices: Vec::new() };
        tickets.insert(invite.invite_key, new);
        self.write_tickets(&tickets)
    }

    /// Remembers that a device came in by a ticket with any number of uses. Of few devices, and of
    /// few tickets: nothing hangs on it.
    pub fn note_use(
        &self,
        now: UnixTime,
        invite: &Invite,
        device: DeviceId,
    ) -> Result<(), StoreError> {
        let _turn = self.turn();
        let mut tickets = self.read_tickets(now)?;
        if !tickets.contains_key(&invite.invite_key) {
            make_room(&mut tickets);
        }
        let new = || KnownTicket { invite: invite.clone(), devices: Vec::new() };
        let devices = &mut tickets.entry(invite.invite_key).or_insert_with(new).devices;
        if devices.len() >= DEVICES_NOTED || devices.contains(&device) {
            return Ok(());
        }
        devices.push(device);
        self.write_tickets(&tickets)
    }

    /// Counts the uses of limited tickets.
    pub fn use_counter(&self, clock: Clock) -> impl UseCounter + use<> {
        Uses { store: self.clone(), clock }
    }

    fn read_tickets(&self, now: UnixTime) -> Result<Tickets, StoreError> {
        let path = self.folder().join("tickets");
        let Some(bytes) = self.files().read(&path, FILE_LIMIT)? else { return Ok(Tickets::new()) };
        let tickets = decode(&bytes, FILE_LIMIT as usize);
        let mut tickets: Tickets = tickets.map_err(|_| StoreError::Damaged(path))?;
        tickets.retain(|_, ticket| now < ticket.invite.expires);
        Ok(tickets)
    }

    fn write_tickets(&self, tickets: &Tickets) -> Result<(), StoreError> {
        Ok(self.files().write(&self.folder().join("tickets"), &encode(tickets))?)
    }

    /// Whoever holds it reads and writes the file alone: several threads do.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.tickets_turn().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Uses {
    store: OrganisationStore,
    clock: Clock,
}

impl UseCounter for Uses {
    fn count(&self, invite: &Invite, share: u8, device: DeviceId) -> io::Result<bool> {
        let _turn = self.store.turn();
        let other = |error: StoreError| io::Error::other(error.to_string());
        let mut tickets = self.store.read_tickets(self.clock.unix()).map_err(other)?;
        let new = || KnownTicket { invite: invite.clone(), devices: Vec::new() };
        let devices = &mut tickets.entry(invite.invite_key).or_insert_with(new).devices;
        if devices.contains(&device) {
            return Ok(true);
        }
        if devices.len() >= usize::from(share) {
            return Ok(false);
        }
        devices.push(device);
        self.store.write_tickets(&tickets).map_err(other)?;
        Ok(true)
    }
}

/// Where there are too many, forgets one that counts nothing: the one that expires first.
fn make_room(tickets: &mut Tickets) {
    if tickets.len() < TICKETS_NOTED {
        return;
    }
    let unlimited = tickets.iter().filter(|(_, ticket)| ticket.invite.uses == 0);
    let first = unlimited.min_by_key(|(_, ticket)| ticket.invite.expires).map(|(key, _)| *key);
    if let Some(key) = first {
        tickets.remove(&key);
    }
}

/// Devices of a ticket with any number of uses that are remembered; further ones are not.
const DEVICES_NOTED: usize = 64;

/// Tickets that are remembered, but for those whose uses must be counted; one that expires soon
/// goes.
const TICKETS_NOTED: usize = 1_024;
