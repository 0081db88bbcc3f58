//! From changes to operations: tried out first, then made, drafted or only foretold.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Charter, EditError, OPERATION_MAX_BYTES, Piece,
    content::{Change, Channel, ChannelName},
};
use hark_keys::{ChannelId, Cosigned, DeviceId, MemberId, encode};

use crate::{
    ChangeView, CharterRefusal, CommandError, Host, How, Mistake, Note, Outcome, OutputFile,
    RequestSubject, Unchanged,
    refusal::refuse,
    view::{View, unsealed},
};

/// What a command would change.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    /// Names of hidden channels among them, to be sealed once it is certain that they are needed.
    pub(crate) typed: BTreeMap<ChannelId, String>,
    /// What else there is to say once it is done.
    pub(crate) notes: Vec<Note>,
    /// What the request is about.
    pub(crate) about: Option<RequestSubject>,
}

impl Plan {
    pub(crate) fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        Self { changes: changes.into_iter().collect(), ..Self::default() }
    }

    /// A name for a channel, to be sealed later where it is hidden.
    pub(crate) fn name(&mut self, id: ChannelId, name: &str, hidden: bool) -> ChannelName {
        if !hidden {
            return ChannelName::Listed(name.to_owned());
        }
        self.typed.insert(id, name.to_owned());
        ChannelName::Hidden(unsealed())
    }
}

/// Makes a plan come true, or says what it would do.
pub(crate) fn perform(
    host: &mut dyn Host,
    mut plan: Plan,
    how: &How,
) -> Result<Outcome, CommandError> {
    if plan.changes.is_empty() {
        return Ok(Outcome::Unchanged { why: Unchanged::Same, notes: plan.notes });
    }
    if let Some(path) = &how.draft {
        return draft(host, plan, how, path);
    }
    let changes = changes(host, &plan);
    // Tried out before a name is sealed, which is kept on disk.
    operations(host, &plan)?;
    if how.dry_run {
        return Ok(Outcome::DryRun { changes, notes: plan.notes });
    }
    seal(host, &mut plan)?;
    let pieces = operations(host, &plan)?;
    let operations = pieces.iter().map(|it| it.hash().to_string()).collect();
    host.commit(pieces.into_iter().map(Piece::Operation).collect())?;
    Ok(Outcome::Changed { changes, operations, about: plan.about, notes: plan.notes })
}

/// An operation that others have to sign, too.
fn draft(
    host: &mut dyn Host,
    mut plan: Plan,
    how: &How,
    path: &str,
) -> Result<Outcome, CommandError> {
    let batch = batches(&plan.changes);
    let [_] = batch.as_slice() else {
        return Err(Mistake::DraftFull.into());
    };
    let changes = changes(host, &plan);
    let (cosigners, names) = cosigners(host, &how.cosigner)?;
    if how.dry_run {
        return Ok(Outcome::DryRun { changes, notes: plan.notes });
    }
    seal(host, &mut plan)?;
    let (charter, key) = (host.charter(), host.key());
    let view = View::with(host, &plan.changes, &plan.typed);
    let operation = charter
        .draft(key.id(), host.member(), cosigners.clone(), plan.changes.clone())
        .map_err(|error| refuse(&view, &plan.changes, error))?;
    let signed = Cosigned::unsigned(operation).signed(key);
    if cosigners.is_empty() {
        charter.try_out(&signed).map_err(|error| refuse(&view, &plan.changes, error))?;
    }
    let file = OutputFile::draft(path, &Piece::Operation(signed));
    Ok(Outcome::Drafted { changes, cosigners: names, file })
}

fn cosigners(
    host: &dyn Host,
    people: &[String],
) -> Result<(Vec<DeviceId>, Vec<String>), CommandError> {
    let view = View::new(host);
    let mut cosigners: Vec<DeviceId> = Vec::new();
    let mut names = Vec::new();
    for text in people {
        let member = view.find_person(text)?;
        if member == host.member() {
            return Err(Mistake::OwnCosigner.into());
        }
        let cosigner = cosigner(view.charter(), member, text.parse().ok());
        let cosigner = cosigner.ok_or_else(|| Mistake::NoRootKey(view.person(member)))?;
        if !cosigners.contains(&cosigner) {
            cosigners.push(cosigner);
            names.push(view.person(member));
        }
    }
    Ok((cosigners, names))
}

/// The root key of a member, the named one where one is named.
fn cosigner(charter: &Charter, member: MemberId, device: Option<DeviceId>) -> Option<DeviceId> {
    let mut roots = charter.devices_of(member).into_iter().filter(|key| charter.is_root(*key));
    roots.find(|key| device.is_none_or(|device| device == *key))
}

/// The plan's changes with names; those that the asker may not see are left out.
fn changes(host: &dyn Host, plan: &Plan) -> Vec<ChangeView> {
    let view = View::with(host, &plan.changes, &plan.typed);
    let named = |change: &Change| view.change(change, is_new(&view, change));
    plan.changes.iter().filter_map(named).collect()
}

/// Whether what a change is about is not there yet.
pub(crate) fn is_new(view: &View<'_>, change: &Change) -> bool {
    let state = view.state;
    match change {
        Change::Channel(channel) => state.channel(channel.id).is_none(),
        Change::Role(role) => state.role(role.id).is_none(),
        Change::Preset(preset) => state.presets().all(|known| known.id != preset.id),
        Change::Relay(relay) => state.relays().all(|known| known.device != relay.device),
        _ => true,
    }
}

/// Operations that make the plan's changes, one after the other, all of which have effect.
fn operations(
    host: &dyn Host,
    plan: &Plan,
) -> Result<Vec<Cosigned<hark_charter::Operation>>, CommandError> {
    let mut trial = host.charter().clone();
    let mut operations = Vec::new();
    for batch in batches(&plan.changes) {
        let refused = |error| refuse(&View::with(host, &plan.changes, &plan.typed), &batch, error);
        let signed = trial.edit(host.key(), host.member(), batch.clone()).map_err(refused)?;
        if Piece::Operation(signed.clone()).encode().len() > OPERATION_MAX_BYTES {
            return Err(Mistake::TooLarge.into());
        }
        let taken = trial.take(Piece::Operation(signed.clone()));
        taken.map_err(|error| refused(EditError::Refused(error)))?;
        operations.push(signed);
    }
    check_devices(host, &trial, &plan.changes)?;
    Ok(operations)
}

/// Changes of devices are never denied, but some have no effect.
fn check_devices(host: &dyn Host, after: &Charter, changes: &[Change]) -> Result<(), CommandError> {
    let devices: BTreeSet<_> = after.devices_of(host.member()).into_iter().collect();
    for change in changes {
        match change {
            Change::AddDevice { device, .. } if !devices.contains(device) => {
                return Err(CharterRefusal::DeviceNotAdded(device.short()).into());
            }
            Change::RetireDevice { device, .. } if devices.contains(device) => {
                return Err(CharterRefusal::SeniorDevice(device.short()).into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Changes by operation: as many as one can hold.
fn batches(changes: &[Change]) -> Vec<Vec<Change>> {
    let mut batches: Vec<Vec<Change>> = Vec::new();
    let mut room = 0;
    for change in changes {
        let size = encode(change).len();
        match batches.last_mut() {
            Some(batch) if size <= room && batch.len() < CHANGES_MAX => {
                batch.push(change.clone());
                room -= size;
            }
            _ => {
                batches.push(vec![change.clone()]);
                room = BATCH_BYTES.saturating_sub(size);
            }
        }
    }
    batches
}

/// Seals the names of hidden channels.
fn seal(host: &mut dyn Host, plan: &mut Plan) -> Result<(), CommandError> {
    let mut sealed = BTreeMap::new();
    for (id, name) in &plan.typed {
        sealed.insert(*id, ChannelName::Hidden(host.seal_name(*id, name)?));
    }
    let replace = |channel: &mut Channel| {
        if let Some(name) = sealed.get(&channel.id)
            && channel.name == ChannelName::Hidden(unsealed())
        {
            channel.name = name.clone();
        }
    };
    for change in &mut plan.changes {
        match change {
            Change::Channel(channel) => replace(channel),
            Change::Preset(preset) => {
                let mut channels = std::mem::take(&mut preset.channels).into_vec();
                channels.iter_mut().for_each(replace);
                preset.channels = hark_keys::List::truncated(channels);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Changes of one operation.
const CHANGES_MAX: usize = 32;

/// Bytes of changes in one operation: the rest is for its signatures, parents and cuts.
const BATCH_BYTES: usize = 10 * 1024;
