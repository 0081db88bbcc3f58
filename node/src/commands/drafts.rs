//! What is passed round as files: whole charters, and pieces that several have to sign.

use std::collections::BTreeMap;

use hark_charter::{Charter, Checkpoint, Operation, Piece, RootDocument, Verdict, content::Change};
use hark_keys::{Cosigned, DeviceId, DeviceKey};
use serde_json::json;

use super::{
    Answer, CommandError, Host, How, InputFile, OutputFile,
    edit::{has, is_new},
    history::{author, signer},
    names::{counted, listed},
    refusal::refuse,
    roots, unchanged,
    view::View,
    words::{Phrase, tell},
};

/// All of the charter as a file.
pub(super) fn export(host: &dyn Host, path: String) -> Answer {
    let content = host.charter().snapshot();
    let text = format!("{path} holds all of {}: {} bytes", host.charter().name(), content.len());
    let json = json!({"file": path, "bytes": content.len()});
    Answer { file: Some(OutputFile { path, content }), ..Answer::new(text, json) }
}

/// Takes what a file holds.
pub(super) fn import(
    host: &mut dyn Host,
    file: &InputFile,
    dry_run: bool,
) -> Result<Answer, CommandError> {
    if file.is_draft() {
        return import_draft(host, file, dry_run);
    }
    let other = Charter::restore(&file.content)
        .map_err(|error| file.refuse(&format!("is no use: {error}")))?;
    if other.organisation() != host.charter().organisation() {
        return Err(
            file.refuse(&format!("is the charter of another organisation, {}", other.name()))
        );
    }
    let mut trial = host.charter().clone();
    let pieces: Vec<_> = other.pieces_in_order().collect();
    let results = trial.take_all(pieces.iter().cloned());
    let refused = results.iter().filter(|result| result.is_err()).count();
    let new: Vec<_> =
        pieces.into_iter().zip(results).filter(|(_, result)| *result == Ok(true)).collect();
    let new: Vec<_> = new.into_iter().map(|(piece, _)| piece).collect();
    let (count, mut text) = (new.len(), format!("nothing in {} is new", file.path));
    if count > 0 {
        let verb = if dry_run { "would take" } else { "took" };
        text = format!("{verb} {} from {}", counted(count, "new piece"), file.path);
        if !dry_run {
            host.commit(new)?;
        }
    }
    if refused > 0 {
        text += &format!("; {} not fit to be taken", counted(refused, "piece"));
    }
    let json = json!({"changed": count > 0 && !dry_run, "taken": count, "refused": refused});
    Ok(Answer::new(text, json))
}

fn import_draft(
    host: &mut dyn Host,
    file: &InputFile,
    dry_run: bool,
) -> Result<Answer, CommandError> {
    let piece = file.draft()?;
    let told = tell_draft(host, file, &piece)?;
    if let Some(open) = &told.open {
        return Err(file.refuse(&format!("is not signed by all yet: {open}")));
    }
    let mut trial = host.charter().clone();
    match trial.take(piece.clone()) {
        Ok(true) => {}
        Ok(false) => return Ok(unchanged(format!("{} counts already", file.path))),
        Err(error) => return Err(file.refuse(&format!("cannot be taken: {error}"))),
    }
    if let Piece::Operation(signed) = &piece {
        check(host, signed)?;
    }
    check_readable(host, &piece)?;
    let undone = undone(host, &trial);
    if dry_run {
        let text = format!("this would\n  {}{}", told.to_do.join("\n  "), tell_undone(&undone));
        let changes = told.to_do;
        let json = json!({"changed": false, "dry_run": true, "changes": changes, "undone": undone});
        return Ok(Answer::new(text, json));
    }
    host.commit(vec![piece])?;
    let text = format!("{}{}", told.done.join("\n"), tell_undone(&undone));
    Ok(Answer::new(text, json!({"changed": true, "changes": told.done, "undone": undone})))
}

/// What stands now and would not `after` a draft counts: made since, by those whom it cuts off.
/// Each with who has made it, as far as whoever asks may see it.
fn undone(host: &dyn Host, after: &Charter) -> Vec<String> {
    let view = View::new(host);
    let stands = |verdict: &Verdict, place: usize| matches!(verdict, Verdict::Judged(_, judged) if judged.get(place).is_some_and(Result::is_ok));
    let later: BTreeMap<_, _> =
        after.log().map(|(signed, verdict)| (signed.hash(), verdict)).collect();
    let mut undone = Vec::new();
    for (signed, verdict) in view.charter().log() {
        for (place, change) in signed.unverified().changes.iter().enumerate() {
            let falls = later.get(&signed.hash()).is_some_and(|then| !stands(then, place));
            if stands(verdict, place) && falls {
                let phrase = tell(&view, change, true);
                let by = view.person(author(view.charter(), signed));
                undone.extend(phrase.map(|phrase| format!("{by} {}", phrase.done())));
            }
        }
    }
    undone
}

fn tell_undone(undone: &[String]) -> String {
    if undone.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = undone.iter().map(|it| format!("\n  {it}")).collect();
    format!("\nundone by it, as it was made after the draft:{}", lines.concat())
}

/// Puts this device's signature under a draft.
pub(super) fn sign(host: &mut dyn Host, file: &InputFile) -> Result<Answer, CommandError> {
    let piece = file.draft()?;
    let own = host.key().id();
    let told = tell_draft(host, file, &piece)?;
    if signers(&piece).contains(&own) {
        return Ok(unchanged(format!("this device has signed {} before", file.path)));
    }
    if !told.wanted.contains(&own) {
        return Err(file.refuse("does not ask for the signature of this device"));
    }
    let signed = match piece {
        Piece::Root(document) => Piece::Root(roots::sign(host, document)?),
        Piece::Operation(operation) => {
            let signed = operation.signed(host.key());
            if open_operation(&View::new(host), &signed).is_none() {
                check(host, &signed)?;
            }
            Piece::Operation(signed)
        }
        Piece::Checkpoint(checkpoint) => {
            if host.charter().draft_checkpoint().as_ref() != Some(checkpoint.unverified()) {
                return Err(file.refuse(
                    "settles something else than what is known here: compare with `hark charter \
                     verify`, and make it again once both have the same",
                ));
            }
            Piece::Checkpoint(checkpoint.signed(host.key()))
        }
        Piece::Certificate(_) => return Err(file.refuse("is no draft")),
    };
    let open = tell_draft(host, file, &signed)?.open;
    let text = format!(
        "signed {}:\n  {}\n{}",
        file.path,
        told.to_do.join("\n  "),
        next_step(&file.path, &open)
    );
    let json = json!({"signed": true, "changes": told.to_do, "missing": open});
    let output = OutputFile::draft(&file.path, &signed);
    Ok(Answer { file: Some(output), ..Answer::new(text, json) })
}

/// Signs a draft with a key that belongs to no node, as the printed recovery key: for root
/// documents and checkpoints, by whoever has read them. A member's words are refused as such where
/// the `charter` that the draft is about is at hand.
pub fn sign_with(
    key: &DeviceKey,
    charter: Option<&Charter>,
    file: &InputFile,
) -> Result<Answer, CommandError> {
    let piece = file.draft()?;
    if let Some(charter) = charter
        && !charter.is_root(key.id())
        && !is_new_root(&piece, key.id())
        && charter.member_recovered_by(key.id()).is_some()
    {
        return Err(CommandError::Input(
            "these are a member's words, which bring that membership back and sign nothing: this \
             takes the founder's words, which `hark new` prints under that heading"
                .to_owned(),
        ));
    }
    let signed = match piece {
        Piece::Root(document) => Piece::Root(document.signed(key)),
        Piece::Checkpoint(checkpoint) => Piece::Checkpoint(checkpoint.signed(key)),
        Piece::Operation(operation) => {
            let wanted = operation.unverified().cosigners.contains(&key.id());
            if !wanted {
                return Err(file.refuse("does not ask for the signature of this key"));
            }
            Piece::Operation(operation.signed(key))
        }
        Piece::Certificate(_) => return Err(file.refuse("is no draft")),
    };
    let output = OutputFile::draft(&file.path, &signed);
    let json = json!({"signed": true, "key": key.id().to_string()});
    Ok(Answer { file: Some(output), ..Answer::new(format!("signed {}", file.path), json) })
}

/// Settles what was done so far.
pub(super) fn checkpoint(host: &mut dyn Host, how: &How) -> Result<Answer, CommandError> {
    let charter = host.charter();
    let Some(checkpoint) = charter.draft_checkpoint() else {
        return Ok(unchanged("nothing is new since the last checkpoint"));
    };
    let own = host.key().id();
    if !charter.is_root(own) {
        let view = View::new(host);
        let root = charter.root();
        let holders: Vec<_> = root.keys.iter().map(|key| signer(&view, key)).collect();
        return Err(CommandError::Refused(format!(
            "a checkpoint needs {}; held by {}",
            counted(root.threshold.into(), "root key"),
            listed(&holders, "and")
        )));
    }
    let mut words = tell_checkpoint(&checkpoint);
    let number = checkpoint.number;
    if charter.brings_back(&checkpoint) {
        let note = format!(
            "\nnote: what checkpoint {} says stands, also where it was cut off since: look through it, \
             and undo by ordinary changes what should not be",
            number - 1
        );
        words.0.push_str(&note);
        words.1.push_str(&note);
    }
    let signed = Cosigned::unsigned(checkpoint).signed(host.key());
    let open = open_checkpoint(charter, &signed);
    if how.dry_run {
        let json = json!({"changed": false, "dry_run": true, "number": number});
        return Ok(Answer::new(format!("this would\n  {}", words.0), json));
    }
    let Some(path) = &how.draft else {
        if let Some(open) = open {
            return Err(CommandError::Refused(format!(
                "a checkpoint needs more signatures, {open}: write a draft with --draft FILE"
            )));
        }
        check_readable(host, &Piece::Checkpoint(signed.clone()))?;
        host.commit(vec![Piece::Checkpoint(signed)])?;
        return Ok(Answer::new(words.1, json!({"changed": true, "number": number})));
    };
    let text = format!("{path} drafts this:\n  {}\n{}", words.0, next_step(path, &open));
    let json = json!({"changed": false, "draft": path, "number": number, "missing": open});
    let file = OutputFile::draft(path, &Piece::Checkpoint(signed));
    Ok(Answer { file: Some(file), ..Answer::new(text, json) })
}

/// What comes next for a draft.
pub(super) fn next_step(path: &str, open: &Option<String>) -> String {
    match open {
        None => format!("all have signed: `hark charter import {path}` makes it count"),
        Some(open) => {
            let needs: Vec<_> = open.split("; ").map(|need| format!("\n  {need}")).collect();
            format!(
                "signatures are missing, by `hark charter sign {path}`, of printed words by \
                 `hark charter --recovery sign {path}`:{}",
                needs.concat()
            )
        }
    }
}

/// What a draft says and needs.
struct Told {
    to_do: Vec<String>,
    done: Vec<String>,
    /// Whose signatures it asks for.
    wanted: Vec<DeviceId>,
    /// What is still missing.
    open: Option<String>,
}

fn tell_draft(host: &dyn Host, file: &InputFile, piece: &Piece) -> Result<Told, CommandError> {
    let charter = host.charter();
    let changes: &[Change] = match piece {
        Piece::Operation(signed) => &signed.unverified().changes,
        _ => &[],
    };
    let view = View::with(host, changes, &BTreeMap::new());
    let elsewhere = || file.refuse("is of another organisation");
    match piece {
        Piece::Operation(signed) => {
            let operation = signed.unverified();
            if operation.organisation != charter.organisation() {
                return Err(elsewhere());
            }
            let phrases =
                operation.changes.iter().map(|change| tell(&view, change, is_new(&view, change)));
            // Nobody signs, or takes, what they cannot read.
            let phrases: Option<Vec<Phrase>> = phrases.collect();
            let phrases = phrases
                .ok_or_else(|| file.refuse("is about something that is not there, or hidden"))?;
            Ok(Told {
                to_do: phrases.iter().map(Phrase::to_do).collect(),
                done: phrases.iter().map(Phrase::done).collect(),
                wanted: operation.cosigners.to_vec(),
                open: open_operation(&view, signed),
            })
        }
        Piece::Root(signed) => {
            let document = signed.unverified();
            let before = charter.roots().find(|known| known.hash() == document.previous);
            let before = before.ok_or_else(elsewhere)?.unverified();
            let words = roots::tell(&view, before, document);
            Ok(Told {
                to_do: words.clone(),
                done: words,
                wanted: both(before, document),
                open: roots::open(&view, signed),
            })
        }
        Piece::Checkpoint(signed) => {
            if signed.unverified().organisation != charter.organisation() {
                return Err(elsewhere());
            }
            let (to_do, done) = tell_checkpoint(signed.unverified());
            Ok(Told {
                to_do: vec![to_do],
                done: vec![done],
                wanted: charter.root().keys.iter().collect(),
                open: open_checkpoint(charter, signed),
            })
        }
        Piece::Certificate(_) => Err(file.refuse("is no draft")),
    }
}

/// Whether a draft makes a key a root key.
fn is_new_root(piece: &Piece, key: DeviceId) -> bool {
    matches!(piece, Piece::Root(document) if document.unverified().keys.contains(key))
}

fn both(before: &RootDocument, after: &RootDocument) -> Vec<DeviceId> {
    before.keys.iter().chain(after.keys.iter()).collect()
}

fn tell_checkpoint(checkpoint: &Checkpoint) -> (String, String) {
    let number = checkpoint.number;
    (
        format!("settle all that is known as checkpoint {number}"),
        format!("settled all that was known as checkpoint {number}"),
    )
}

fn open_operation(view: &View<'_>, signed: &Cosigned<Operation>) -> Option<String> {
    let operation = signed.unverified();
    let wanted = operation.cosigners.iter().copied().chain([operation.author]);
    let open = wanted.filter(|key| signed.signers().all(|signer| signer != *key));
    let names: Vec<_> = open.map(|key| signer(view, key)).collect();
    (!names.is_empty()).then(|| format!("{} {} not", listed(&names, "and"), has(&names)))
}

fn open_checkpoint(charter: &Charter, signed: &Cosigned<Checkpoint>) -> Option<String> {
    let root = charter.root();
    let count = signed.signers().filter(|key| root.keys.contains(*key)).count();
    let missing = usize::from(root.threshold).saturating_sub(count);
    (missing > 0).then(|| format!("{} more", counted(missing, "root key")))
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
    let taken = after.take(piece.clone()).map_err(|error| error.to_string());
    let read =
        taken.and_then(|_| Charter::restore(&after.snapshot()).map_err(|error| error.to_string()));
    match read {
        Ok(again) if again == after => Ok(()),
        Ok(_) => Err(CommandError::Refused("the charter would not be read again whole".to_owned())),
        Err(error) => {
            Err(CommandError::Refused(format!("the charter could not be read again: {error}")))
        }
    }
}

fn signers(piece: &Piece) -> Vec<DeviceId> {
    match piece {
        Piece::Root(signed) => signed.signers().collect(),
        Piece::Operation(signed) => signed.signers().collect(),
        Piece::Checkpoint(signed) => signed.signers().collect(),
        Piece::Certificate(_) => Vec::new(),
    }
}
