//! What is passed round as files: whole charters, and pieces that several have to sign.

use std::collections::BTreeMap;

use hark_charter::{Charter, Checkpoint, Operation, Piece, RootDocument, Verdict, content::Change};
use hark_keys::{Cosigned, DeviceId, DeviceKey};

use crate::{
    ChangeView, CharterRefusal, CheckpointStep, CommandError, DraftContent, FileFault, Host, How,
    InputFile, Missing, Mistake, Outcome, OutputFile, ReadError, Unchanged, Undone,
    edit::is_new,
    history::{author, signer},
    refusal::refuse,
    roots,
    view::View,
};

/// All of the charter as a file.
pub(crate) fn export(host: &dyn Host, path: String) -> Outcome {
    let (charter, content) = (host.charter(), host.charter().snapshot());
    let organisation = charter.name().to_owned();
    Outcome::Exported { organisation, file: OutputFile { path, content } }
}

/// Takes what a file holds.
pub(crate) fn import(
    host: &mut dyn Host,
    file: InputFile,
    dry_run: bool,
) -> Result<Outcome, CommandError> {
    if file.is_draft() {
        return import_draft(host, &file, dry_run);
    }
    let other = Charter::restore(&file.content)
        .map_err(|error| file.refuse(FileFault::NoCharter(error)))?;
    if other.organisation() != host.charter().organisation() {
        return Err(file.refuse(FileFault::OthersCharter(other.name().to_owned())));
    }
    let mut trial = host.charter().clone();
    let pieces: Vec<_> = other.pieces_in_order().collect();
    let results = trial.take_all(pieces.iter().cloned());
    let refused = results.iter().filter(|result| result.is_err()).count();
    let new: Vec<_> =
        pieces.into_iter().zip(results).filter(|(_, result)| *result == Ok(true)).collect();
    let new: Vec<_> = new.into_iter().map(|(piece, _)| piece).collect();
    let taken = new.len();
    if taken > 0 && !dry_run {
        host.commit(new)?;
    }
    Ok(Outcome::Imported { path: file.path, taken, refused, dry_run })
}

fn import_draft(
    host: &mut dyn Host,
    file: &InputFile,
    dry_run: bool,
) -> Result<Outcome, CommandError> {
    let piece = file.draft()?;
    let draft = read_draft(host, file, &piece)?;
    if let Some(missing) = draft.missing {
        return Err(file.refuse(FileFault::Unsigned(missing)));
    }
    let mut trial = host.charter().clone();
    match trial.take(piece.clone()) {
        Ok(true) => {}
        Ok(false) => return Ok(Outcome::unchanged(Unchanged::Counts(file.path.clone()))),
        Err(error) => return Err(file.refuse(FileFault::NotTaken(error))),
    }
    if let Piece::Operation(signed) = &piece {
        check(host, signed)?;
    }
    check_readable(host, &piece)?;
    let undone = undone(host, &trial);
    if !dry_run {
        host.commit(vec![piece])?;
    }
    Ok(Outcome::DraftTaken { content: draft.content, undone, dry_run })
}

/// What stands now and would not `after` a draft counts: made since, by those whom it cuts off.
/// Each with who has made it, as far as the asker may see it.
fn undone(host: &dyn Host, after: &Charter) -> Vec<Undone> {
    let view = View::new(host);
    let stands = |verdict: &Verdict, place: usize| matches!(verdict, Verdict::Judged(_, judged) if judged.get(place).is_some_and(Result::is_ok));
    let later: BTreeMap<_, _> =
        after.log().map(|(signed, verdict)| (signed.hash(), verdict)).collect();
    let mut undone = Vec::new();
    for (signed, verdict) in view.charter().log() {
        for (place, change) in signed.unverified().changes.iter().enumerate() {
            let falls = later.get(&signed.hash()).is_some_and(|then| !stands(then, place));
            if stands(verdict, place) && falls {
                let by = view.person(author(view.charter(), signed));
                undone.extend(view.change(change, true).map(|change| Undone { by, change }));
            }
        }
    }
    undone
}

/// Puts this device's signature under a draft.
pub(crate) fn sign(host: &mut dyn Host, file: &InputFile) -> Result<Outcome, CommandError> {
    let piece = file.draft()?;
    let own = host.key().id();
    let draft = read_draft(host, file, &piece)?;
    if signers(&piece).contains(&own) {
        return Ok(Outcome::unchanged(Unchanged::SignedBefore(file.path.clone())));
    }
    if !draft.wanted.contains(&own) {
        return Err(file.refuse(FileFault::NotThisDevice));
    }
    let signed = match piece {
        Piece::Root(document) => Piece::Root(roots::sign(host, document)?),
        Piece::Operation(operation) => {
            let signed = operation.signed(host.key());
            if lacks(&View::new(host), &signed).is_none() {
                check(host, &signed)?;
            }
            Piece::Operation(signed)
        }
        Piece::Checkpoint(checkpoint) => {
            if host.charter().draft_checkpoint().as_ref() != Some(checkpoint.unverified()) {
                return Err(file.refuse(FileFault::OthersPast));
            }
            Piece::Checkpoint(checkpoint.signed(host.key()))
        }
        Piece::Certificate(_) => return Err(file.refuse(FileFault::NoDraft)),
    };
    let missing = read_draft(host, file, &signed)?.missing;
    let file = OutputFile::draft(&file.path, &signed);
    Ok(Outcome::Signed { content: draft.content, missing, file })
}

/// Signs a draft with a key that belongs to no node, as the printed recovery key: for root
/// documents and checkpoints, by whoever has read them. A member's words are refused as such where
/// the `charter` that the draft is about is at hand.
pub fn sign_with(
    key: &DeviceKey,
    charter: Option<&Charter>,
    file: &InputFile,
) -> Result<Outcome, CommandError> {
    let piece = file.draft()?;
    if let Some(charter) = charter
        && !charter.is_root(key.id())
        && !is_new_root(&piece, key.id())
        && charter.member_recovered_by(key.id()).is_some()
    {
        return Err(Mistake::MembersWords.into());
    }
    let signed = match piece {
        Piece::Root(document) => Piece::Root(document.signed(key)),
        Piece::Checkpoint(checkpoint) => Piece::Checkpoint(checkpoint.signed(key)),
        Piece::Operation(operation) => {
            let wanted = operation.unverified().cosigners.contains(&key.id());
            if !wanted {
                return Err(file.refuse(FileFault::NotThisKey));
            }
            Piece::Operation(operation.signed(key))
        }
        Piece::Certificate(_) => return Err(file.refuse(FileFault::NoDraft)),
    };
    let file = OutputFile::draft(&file.path, &signed);
    Ok(Outcome::SignedWith { key: key.id().to_string(), file })
}

/// Settles what was done so far.
pub(crate) fn checkpoint(host: &mut dyn Host, how: &How) -> Result<Outcome, CommandError> {
    let charter = host.charter();
    let Some(checkpoint) = charter.draft_checkpoint() else {
        return Ok(Outcome::unchanged(Unchanged::NothingNew));
    };
    let own = host.key().id();
    if !charter.is_root(own) {
        let view = View::new(host);
        let root = charter.root();
        let holders = root.keys.iter().map(|key| signer(&view, key)).collect();
        return Err(CharterRefusal::CheckpointKeys(root.threshold, holders).into());
    }
    let (number, brings_back) = (checkpoint.number, charter.brings_back(&checkpoint));
    let signed = Cosigned::unsigned(checkpoint).signed(host.key());
    let missing = lacks_keys(charter, &signed);
    let step = match &how.draft {
        _ if how.dry_run => CheckpointStep::DryRun,
        Some(path) => {
            let file = OutputFile::draft(path, &Piece::Checkpoint(signed));
            CheckpointStep::Drafted { missing, file }
        }
        None => {
            if let Some(missing) = missing {
                return Err(CharterRefusal::CheckpointSignatures(missing).into());
            }
            check_readable(host, &Piece::Checkpoint(signed.clone()))?;
            host.commit(vec![Piece::Checkpoint(signed)])?;
            CheckpointStep::Settled
        }
    };
    Ok(Outcome::Checkpoint { number, brings_back, step })
}

/// What a draft says and needs.
struct Draft {
    content: DraftContent,
    /// Whose signatures it asks for.
    wanted: Vec<DeviceId>,
    missing: Option<Missing>,
}

fn read_draft(host: &dyn Host, file: &InputFile, piece: &Piece) -> Result<Draft, CommandError> {
    let charter = host.charter();
    let changes: &[Change] = match piece {
        Piece::Operation(signed) => &signed.unverified().changes,
        _ => &[],
    };
    let view = View::with(host, changes, &BTreeMap::new());
    let elsewhere = || file.refuse(FileFault::Elsewhere);
    match piece {
        Piece::Operation(signed) => {
            let operation = signed.unverified();
            if operation.organisation != charter.organisation() {
                return Err(elsewhere());
            }
            let named = |change: &Change| view.change(change, is_new(&view, change));
            // Nobody signs, or takes, what they cannot read.
            let changes: Option<Vec<ChangeView>> = operation.changes.iter().map(named).collect();
            let changes = changes.ok_or_else(|| file.refuse(FileFault::Unreadable))?;
            Ok(Draft {
                content: DraftContent::Changes(changes),
                wanted: operation.cosigners.to_vec(),
                missing: lacks(&view, signed),
            })
        }
        Piece::Root(signed) => {
            let document = signed.unverified();
            let before = charter.roots().find(|known| known.hash() == document.previous);
            let before = before.ok_or_else(elsewhere)?.unverified();
            Ok(Draft {
                content: DraftContent::Root(roots::changes(&view, before, document)),
                wanted: both(before, document),
                missing: roots::missing(&view, signed),
            })
        }
        Piece::Checkpoint(signed) => {
            if signed.unverified().organisation != charter.organisation() {
                return Err(elsewhere());
            }
            Ok(Draft {
                content: DraftContent::Checkpoint(signed.unverified().number),
                wanted: charter.root().keys.iter().collect(),
                missing: lacks_keys(charter, signed),
            })
        }
        Piece::Certificate(_) => Err(file.refuse(FileFault::NoDraft)),
    }
}

/// Whether a draft makes a key a root key.
fn is_new_root(piece: &Piece, key: DeviceId) -> bool {
    matches!(piece, Piece::Root(document) if document.unverified().keys.contains(key))
}

fn both(before: &RootDocument, after: &RootDocument) -> Vec<DeviceId> {
    before.keys.iter().chain(after.keys.iter()).collect()
}

/// The signatures that an operation lacks.
fn lacks(view: &View<'_>, signed: &Cosigned<Operation>) -> Option<Missing> {
    let operation = signed.unverified();
    let wanted = operation.cosigners.iter().copied().chain([operation.author]);
    let open = wanted.filter(|key| signed.signers().all(|signer| signer != *key));
    let people: Vec<_> = open.map(|key| signer(view, key)).collect();
    (!people.is_empty()).then_some(Missing::People(people))
}

/// How many root keys a checkpoint lacks.
fn lacks_keys(charter: &Charter, signed: &Cosigned<Checkpoint>) -> Option<Missing> {
    let root = charter.root();
    let count = signed.signers().filter(|key| root.keys.contains(*key)).count();
    let missing = usize::from(root.threshold).saturating_sub(count);
    (missing > 0).then_some(Missing::RootKeys(missing))
}

/// Whether all that an operation says would be done.
fn check(host: &dyn Host, signed: &Cosigned<Operation>) -> Result<(), CommandError> {
    let changes = &signed.unverified().changes;
    host.charter().try_out(signed).map_err(|error| refuse(&View::new(host), changes, error))
}

/// Whether the charter can be stored and read again once it has the piece: nothing is settled at
/// the price of all.
fn check_readable(host: &dyn Host, piece: &Piece) -> Result<(), CommandError> {
    let mut after = host.charter().clone();
    let taken = after.take(piece.clone()).map_err(ReadError::from);
    let read = taken.and_then(|_| Ok(Charter::restore(&after.snapshot())?));
    if read.map_err(CharterRefusal::NotReadAgain)? != after {
        return Err(CharterRefusal::NotWhole.into());
    }
    Ok(())
}

fn signers(piece: &Piece) -> Vec<DeviceId> {
    match piece {
        Piece::Root(signed) => signed.signers().collect(),
        Piece::Operation(signed) => signed.signers().collect(),
        Piece::Checkpoint(signed) => signed.signers().collect(),
        Piece::Certificate(_) => Vec::new(),
    }
}
