//! From changes to operations: tried out first, refused in words, then made, drafted or only told.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Charter, EditError, OPERATION_MAX_BYTES, Piece,
    content::{Change, Channel, ChannelName},
};
use hark_keys::{ChannelId, Cosigned, DeviceId, MemberId, encode};
use serde_json::{Map, Value, json};

use super::{
    Answer, CommandError, Host, How, OutputFile,
    names::listed,
    refusal::refuse,
    unchanged,
    view::{View, unsealed},
    words::{Phrase, tell},
};

/// What a command would change.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// Names of hidden channels among them, to be sealed once it is certain that they are needed.
    pub(super) typed: BTreeMap<ChannelId, String>,
    /// What else there is to say once it is done.
    pub(super) notes: Vec<String>,
    /// More for scripts.
    pub(super) json: Map<String, Value>,
}

impl Plan {
    pub(super) fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        Self { changes: changes.into_iter().collect(), ..Self::default() }
    }

    /// A name for a channel, to be sealed later where it is hidden.
    pub(super) fn name(&mut self, id: ChannelId, name: &str, hidden: bool) -> ChannelName {
        if !hidden {
            return ChannelName::Listed(name.to_owned());
        }
        self.typed.insert(id, name.to_owned());
        ChannelName::Hidden(unsealed())
    }
}

/// Makes a plan come true, or says what it would do.
pub(super) fn perform(
    host: &mut dyn Host,
    mut plan: Plan,
    how: &How,
) -> Result<Answer, CommandError> {
    if plan.changes.is_empty() {
        return Ok(unchanged(with_notes("nothing to change".to_owned(), &plan.notes)));
    }
    if let Some(path) = &how.draft {
        return draft(host, plan, how, path);
    }
    let phrases = phrases(host, &plan);
    operations(host, &plan)?;
    if how.dry_run {
        return Ok(foretold(&phrases, &plan));
    }
    seal(host, &mut plan)?;
    let pieces = operations(host, &plan)?;
    let hashes: Vec<_> = pieces.iter().map(|it| it.hash().to_string()).collect();
    host.commit(pieces.into_iter().map(Piece::Operation).collect())?;
    let done: Vec<_> = phrases.iter().map(Phrase::done).collect();
    let mut json = plan.json;
    json.insert("changed".to_owned(), json!(true));
    json.insert("changes".to_owned(), json!(done));
    json.insert("operations".to_owned(), json!(hashes));
    Ok(Answer::new(with_notes(done.join("\n"), &plan.notes), Value::Object(json)))
}

/// The answer to a dry run.
fn foretold(phrases: &[Phrase], plan: &Plan) -> Answer {
    let to_do: Vec<_> = phrases.iter().map(Phrase::to_do).collect();
    let text = format!("this would\n  {}", to_do.join("\n  "));
    let json = json!({"changed": false, "dry_run": true, "changes": to_do});
    Answer::new(with_notes(text, &plan.notes), json)
}

/// An operation that others have to sign, too.
fn draft(
    host: &mut dyn Host,
    mut plan: Plan,
    how: &How,
    path: &str,
) -> Result<Answer, CommandError> {
    let batch = batches(&plan.changes);
    let [_] = batch.as_slice() else {
        return Err(CommandError::Input("a draft has room for 32 changes".to_owned()));
    };
    let phrases = phrases(host, &plan);
    let (cosigners, names) = cosigners(host, &how.cosigner)?;
    if how.dry_run {
        return Ok(foretold(&phrases, &plan));
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
    let to_do: Vec<_> = phrases.iter().map(Phrase::to_do).collect();
    let next = if names.is_empty() {
        format!("`hark charter import {path}` makes it count")
    } else {
        format!("{} {} to sign it: `hark charter sign {path}`", listed(&names, "and"), has(&names))
    };
    let text = format!("{path} drafts this:\n  {}\n{next}", to_do.join("\n  "));
    let json = json!({"changed": false, "draft": path, "changes": to_do, "missing": names});
    let file = OutputFile::draft(path, &Piece::Operation(signed));
    Ok(Answer { file: Some(file), ..Answer::new(text, json) })
}

pub(super) fn has<T>(people: &[T]) -> &'static str {
    if people.len() == 1 { "has" } else { "have" }
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
            return Err(CommandError::Input("you sign your own draft anyway".to_owned()));
        }
        let cosigner = cosigner(view.charter(), member, text.parse().ok());
        let cosigner = cosigner.ok_or_else(|| {
            CommandError::Input(format!("{} holds no root key", view.person(member)))
        })?;
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

/// The plan's changes in words; those that whoever asks may not see are left out.
fn phrases(host: &dyn Host, plan: &Plan) -> Vec<Phrase> {
    let view = View::with(host, &plan.changes, &plan.typed);
    let tell = |change: &Change| tell(&view, change, is_new(&view, change));
    plan.changes.iter().filter_map(tell).collect()
}

/// Whether what a change is about is not there yet.
pub(super) fn is_new(view: &View<'_>, change: &Change) -> bool {
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
            return Err(CommandError::Input(
                "this is more than one operation can hold (16 KiB): make it smaller".to_owned(),
            ));
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
                return Err(CommandError::Refused(format!(
                    "device {} cannot be added: you have 16 already, or it was retired once",
                    device.short()
                )));
            }
            Change::RetireDevice { device, .. } if devices.contains(device) => {
                return Err(CommandError::Refused(format!(
                    "device {} is senior to this one: retire it from itself, or from an older one",
                    device.short()
                )));
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

fn with_notes(text: String, notes: &[String]) -> String {
    notes.iter().fold(text, |text, note| format!("{text}\n{note}"))
}

/// Changes of one operation.
const CHANGES_MAX: usize = 32;

/// Bytes of changes in one operation: the rest is for its signatures, parents and cuts.
const BATCH_BYTES: usize = 10 * 1024;
