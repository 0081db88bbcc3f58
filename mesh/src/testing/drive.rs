//! Helpers for one squad: its configuration, its outputs, and the work of its worker.

use std::{collections::BTreeMap, sync::Arc};

use hark_charter::Charter;
use hark_keys::{DeviceId, DeviceKey, MemberId, Timestamp, UnixTime};

use crate::{
    Directory,
    hello::{PeerHello, Presence},
    squad::{Handled, Job, MessageError, Persist, Squad, SquadConfig, SquadEvent, SquadTransmit},
};

/// One output of a squad. Dials are polled separately.
pub enum Output {
    /// Something that happened.
    Event(SquadEvent),
    /// Something to send.
    Transmit(SquadTransmit),
    /// Something to write to disk.
    Persist(Persist),
    /// Work for a worker.
    Job(Box<Job>),
    /// The result of an item that a worker has looked at, by its number.
    Verdict(u64, Result<(), MessageError>),
}

/// Returns the next output of `squad` except dials; `None` if there is none.
pub fn poll(now: Timestamp, squad: &mut Squad) -> Option<Output> {
    if let Some(event) = squad.poll_event() {
        Some(Output::Event(event))
    } else if let Some(transmit) = squad.poll_transmit() {
        Some(Output::Transmit(transmit))
    } else if let Some(persist) = squad.poll_persist() {
        Some(Output::Persist(persist))
    } else if let Some(job) = squad.poll_job(now) {
        Some(Output::Job(Box::new(job)))
    } else {
        squad.poll_verdict().map(|(number, result)| Output::Verdict(number, result))
    }
}

/// The configuration of a device that has never run before. A relay has no `member`.
pub fn config(
    charter: &Arc<Charter>,
    key: &Arc<DeviceKey>,
    member: Option<MemberId>,
) -> SquadConfig {
    SquadConfig {
        charter: Arc::clone(charter),
        key: Arc::clone(key),
        member,
        relay_only: false,
        presence: Presence {
            incarnation: 1,
            name: "Kestrel".to_owned(),
            addresses: Vec::new(),
            listening: Vec::new(),
        },
        directory: Directory::default(),
        generations: BTreeMap::new(),
        names: BTreeMap::new(),
        calendar: UnixTime::from_secs(1_800_000_000),
    }
}

/// The Hello of `device`, to which `squad` belongs.
pub fn hello(device: DeviceId, squad: &Squad) -> PeerHello {
    let (charter, presence) = (squad.charter(), squad.presence());
    PeerHello {
        device,
        member: squad.member(),
        chain: squad.member().map(|it| charter.chain_of(it)).unwrap_or_default(),
        added: Vec::new(),
        name: presence.name.clone(),
        incarnation: presence.incarnation,
        addresses: presence.addresses.clone(),
        digest: charter.digest(),
        listening: presence.listening.clone(),
    }
}

/// Reports that the disk has stored `persist`.
pub fn persisted(now: Timestamp, squad: &mut Squad, persist: &Persist) {
    match persist {
        Persist::Generation(target, generation) => {
            squad.handle_persisted(now, *target, *generation);
        }
        Persist::Charter(number, _) => squad.handle_charter_persisted(now, *number),
    }
}

/// Does at once what a worker would do for the squad.
pub fn work(now: Timestamp, squad: &mut Squad) {
    while let Some(job) = squad.poll_job(now) {
        squad.handle_job(now, job.run());
    }
}

/// The result of a message, once a worker has looked at it.
///
/// # Errors
///
/// The message was refused.
pub fn outcome(
    now: Timestamp,
    squad: &mut Squad,
    handled: Result<Handled, MessageError>,
) -> Result<(), MessageError> {
    let Handled::Later(number) = handled? else { return Ok(()) };
    work(now, squad);
    let mut verdicts = std::iter::from_fn(|| squad.poll_verdict());
    let told = verdicts.find(|(told, _)| *told == number);
    told.map_or(Err(MessageError::OverBudget), |(_, result)| result)
}
