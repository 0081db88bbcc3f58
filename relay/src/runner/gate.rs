use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use hark_keys::DeviceId;
use hark_mesh::hello::{HelloError, PeerHello, Refusal};
use hark_node::{
    admission::Doorkeeper,
    link::{Admission, HelloDenial},
};

/// The doorkeeper of an organisation, and the devices that the operator has banned.
pub(super) struct Gate {
    pub(super) doorkeeper: Doorkeeper,
    banned: Mutex<BTreeSet<DeviceId>>,
}

impl Gate {
    pub(super) fn new(doorkeeper: Doorkeeper, banned: BTreeSet<DeviceId>) -> Self {
        Self { doorkeeper, banned: Mutex::new(banned) }
    }

    pub(super) fn set_banned(&self, banned: BTreeSet<DeviceId>) {
        *self.banned.lock().unwrap_or_else(PoisonError::into_inner) = banned;
    }

    fn keeps_out(&self, device: DeviceId) -> bool {
        self.banned.lock().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }
}

impl Admission for Gate {
    fn greeting(&self, peer: DeviceId, exporter: &[u8; 32]) -> Vec<u8> {
        self.doorkeeper.greeting(peer, exporter)
    }

    fn answer(
        &self,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> (Vec<u8>, Result<PeerHello, HelloDenial>) {
        if self.keeps_out(peer) {
            // The device is still a member, so this relay only says that it has no room for it.
            let answer = self.doorkeeper.refuse(Refusal::Busy, peer, exporter, greeting);
            return (answer, Err(HelloDenial::Refused(Refusal::Busy)));
        }
        self.doorkeeper.answer(peer, exporter, greeting)
    }

    fn conclude(
        &self,
        peer: DeviceId,
        exporter: &[u8; 32],
        answer: &[u8],
    ) -> Result<PeerHello, HelloError> {
        if self.keeps_out(peer) {
            return Err(HelloError::Refused(Refusal::Busy));
        }
        self.doorkeeper.conclude(peer, exporter, answer)
    }
}
