//! The tickets that this device has issued, or by which it has let devices in, until they expire.

use std::{
    collections::BTreeMap,
    io,
    sync::{MutexGuard, PoisonError},
};

use hark_commands::KnownTicket;
use hark_keys::{DeviceId, Invite, UnixTime, decode, encode};

use super::{OrganisationStore, StoreError, organisation::FILE_LIMIT};
use crate::{admission::UseCounter, clock::Clock};

/// Known tickets, by invite key.
type Tickets = BTreeMap<DeviceId, KnownTicket>;

impl OrganisationStore {
    /// The tickets that this device has issued, or by which it has let devices in, and that have
    /// not expired by `now`.
    pub fn tickets(&self, now: UnixTime) -> Result<Vec<KnownTicket>, StoreError> {
        let _turn = self.turn();
        Ok(self.read_tickets(now)?.into_values().collect())
    }

    /// Keeps a ticket that this device issues.
    pub fn keep_ticket(&self, now: UnixTime, invite: &Invite) -> Result<(), StoreError> {
        let _turn = self.turn();
        let mut tickets = self.read_tickets(now)?;
        make_room(&mut tickets);
        let new = KnownTicket { invite: invite.clone(), devices: Vec::new() };
        tickets.insert(invite.invite_key, new);
        self.write_tickets(&tickets)
    }

    /// Notes that a device came in by a ticket with any number of uses. Only some devices and
    /// tickets are noted, since nothing depends on these notes.
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

    /// Returns the counter for the uses of limited tickets.
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

    /// Waits for the turn to use the file. The holder is the only one of several threads that reads
    /// or writes it.
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

/// If there are too many tickets, forgets the unlimited one that expires first.
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

/// Devices that are noted for a ticket with any number of uses. Further ones are not noted.
const DEVICES_NOTED: usize = 64;

/// Tickets that are kept, except those whose uses must be counted. If there are more, the unlimited
/// one that expires first is dropped.
const TICKETS_NOTED: usize = 1_024;
