//! Devices that are known by the operation that added them, before everything is here on which it
//! builds. [CHARTER-3.6]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{Cosigned, DeviceId, MemberId, encode};

use super::{
    Change, Charter, MemberCertificate, OPERATION_MAX_BYTES, Operation,
    certificate::content_hash,
    devices::DEVICES_MAX,
    operation::{consents, is_sound},
};

pub(super) type Introduced = BTreeMap<MemberId, BTreeSet<DeviceId>>;

impl Charter {
    /// The operation that added `device` to the member's, after those that added its author, at
    /// most [`INTRODUCTION_MAX`]. Others need them to know the device. Empty for a first device,
    /// and if a checkpoint has settled the addition.
    pub fn introduction_of(&self, member: MemberId, device: DeviceId) -> Vec<Cosigned<Operation>> {
        let mut added = Vec::new();
        let mut wanted = device;
        while added.len() < INTRODUCTION_MAX
            && let Some(operation) = self.addition_of(member, wanted)
        {
            wanted = operation.unverified().author;
            added.push(operation.clone());
        }
        added.reverse();
        added
    }

    fn addition_of(&self, member: MemberId, device: DeviceId) -> Option<&Cosigned<Operation>> {
        let mut taken = self.operations.iter().filter(|taken| taken.member == member);
        let known = self.course.state.devices.get(&member).and_then(|devices| devices.get(&device));
        let taken = taken.find(|taken| {
            let lamport = known.map(|entry| entry.seniority.lamport());
            lamport == Some(taken.operation().lamport) && adds(taken.operation(), device)
        });
        let introduced = || {
            let of_member = |it: &&Cosigned<Operation>| {
                self.certificates.member(&it.unverified().certificate) == Some(member)
            };
            self.introduced.iter().filter(of_member).find(|it| adds(it.unverified(), device))
        };
        taken.map(|taken| &taken.signed).or_else(introduced)
    }

    /// Takes operations that introduce devices, until they can be taken as pieces. Returns whether
    /// any was new. Operations that prove nothing are skipped.
    pub fn introduce(&mut self, added: &[Cosigned<Operation>]) -> bool {
        let mut news = false;
        for operation in added {
            let hash = operation.hash();
            let known = self.index.contains_key(&hash)
                || self.introduced.iter().any(|known| known.hash() == hash);
            if known || !self.is_introduction(operation, None) {
                continue;
            }
            self.introduced.push(operation.clone());
            self.settle_introduced();
            // An operation that adds nobody takes up no room, whoever has signed it.
            if self.introduces(operation.unverified()) {
                news = true;
                if self.introduced.len() > INTRODUCED_MAX {
                    self.introduced.remove(0);
                    self.settle_introduced();
                }
            } else {
                self.introduced.pop_if(|last| last.hash() == hash);
            }
        }
        news
    }

    /// Whether a device is known by this operation.
    fn introduces(&self, operation: &Operation) -> bool {
        let member = self.certificates.member(&operation.certificate);
        let devices = member.and_then(|member| self.course.state.introduced.get(&member));
        devices.is_some_and(|devices| devices.iter().any(|device| adds(operation, *device)))
    }

    /// Computes the introduced devices again. This follows every change of the state, which may by
    /// then know the devices itself.
    pub(super) fn settle_introduced(&mut self) {
        let mut introduced = std::mem::take(&mut self.introduced);
        introduced.retain(|operation| {
            !self.index.contains_key(&operation.hash()) && !self.is_settled(operation.unverified())
        });
        self.introduced = introduced;
        self.course.state.introduced = Introduced::new();
        self.course.state.introduced = self.introduced_by(self.introduced.iter(), None);
    }

    /// Whether `added` makes `device` one of those of the member of `leaf`, by what is known here.
    pub(super) fn is_introduced(
        &self,
        leaf: &MemberCertificate,
        device: DeviceId,
        added: &[Cosigned<Operation>],
    ) -> bool {
        let sound = added.iter().take(INTRODUCTION_MAX);
        let sound = sound.filter(|operation| self.is_introduction(operation, Some(leaf)));
        let introduced = self.introduced_by(sound, Some(leaf));
        introduced.get(&leaf.member()).is_some_and(|devices| devices.contains(&device))
    }

    /// Whether an operation adds a device, by its signatures.
    fn is_introduction(
        &self,
        signed: &Cosigned<Operation>,
        leaf: Option<&MemberCertificate>,
    ) -> bool {
        let operation = signed.unverified();
        let Some(certificate) = self.certificate_of_author(operation, leaf) else { return false };
        let member = certificate.member();
        let mut additions = 0;
        for change in operation.changes.iter() {
            if let Change::AddDevice { device, consent } = change {
                if !consents(self.organisation, member, *device, consent) {
                    return false;
                }
                additions += 1;
            }
        }
        additions > 0
            && is_sound(signed, self.organisation)
            && encode(signed).len() <= OPERATION_MAX_BYTES
            && signed.verify().is_ok()
    }

    /// Whether all devices that an operation adds are known without it.
    fn is_settled(&self, operation: &Operation) -> bool {
        let member = self.certificates.member(&operation.certificate);
        let settled = member.and_then(|member| self.course.state.devices.get(&member));
        operation.changes.iter().all(|change| match change {
            Change::AddDevice { device, .. } => settled.is_some_and(|it| it.contains_key(device)),
            _ => true,
        })
    }

    /// The devices that sound operations add, if each author was a key of the member before it.
    fn introduced_by<'a>(
        &'a self,
        operations: impl Iterator<Item = &'a Cosigned<Operation>>,
        leaf: Option<&MemberCertificate>,
    ) -> Introduced {
        let mut introduced = Introduced::new();
        for operation in operations.map(Cosigned::unverified) {
            let Some(certificate) = self.certificate_of_author(operation, leaf) else { continue };
            let member = certificate.member();
            let settled = self.course.state.devices.get(&member);
            let devices = introduced.entry(member).or_default();
            let number = (operation.term, operation.sequence);
            let author = operation.author;
            let may = match settled.and_then(|settled| settled.get(&author)) {
                Some(entry) => entry.retired.is_none_or(|retired| number <= retired.last),
                None => certificate.names(author) || devices.contains(&author),
            };
            let frozen = self.course.state.frozen.get(&(author, operation.term));
            if !may || frozen.is_some_and(|from| *from <= operation.sequence) {
                continue;
            }
            for change in operation.changes.iter() {
                if let Change::AddDevice { device, .. } = change
                    && !certificate.names(*device)
                    // What the state says of a device takes precedence, even that it was retired.
                    && settled.is_none_or(|settled| !settled.contains_key(device))
                    && self.course.state.added_devices(member).count() + devices.len() + 1 < DEVICES_MAX
                {
                    devices.insert(*device);
                }
            }
        }
        introduced
    }

    fn certificate_of_author<'a>(
        &'a self,
        operation: &Operation,
        leaf: Option<&'a MemberCertificate>,
    ) -> Option<&'a MemberCertificate> {
        let leaf = leaf.filter(|leaf| content_hash(leaf) == operation.certificate);
        leaf.or_else(|| self.certificates.certificate(&operation.certificate))
    }
}

fn adds(operation: &Operation, device: DeviceId) -> bool {
    let mut changes = operation.changes.iter();
    changes.any(|change| matches!(change, Change::AddDevice { device: it, .. } if *it == device))
}

/// The most operations that introduce one device. A longer chain of devices that added each other
/// is not sent.
pub const INTRODUCTION_MAX: usize = 4;

/// The most operations kept here that introduce devices. If there are more, the oldest is dropped.
/// [CHARTER-3.22]
const INTRODUCED_MAX: usize = 64;
