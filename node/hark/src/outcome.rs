//! Outcomes of commands about the charter: as text for people, and as JSON for scripts.

mod changes;
mod history;
mod lists;

use hark_commands::{
    CheckpointStep, Missing, Note, Outcome, RequestSubject, Unchanged, Undone,
    names::{counted, listed},
};
use serde_json::{Value, json};

use self::changes::{done, draft, to_do};

/// An outcome as text.
pub(crate) fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Unchanged { why, notes } => with_notes(unchanged(why), notes),
        Outcome::Changed { changes, notes, .. } => with_notes(lines(changes, done), notes),
        Outcome::DryRun { changes, notes } => {
            with_notes(format!("this would\n{}", indented(&each(changes, to_do))), notes)
        }
        Outcome::Drafted { changes, cosigners, file } => {
            let path = &file.path;
            let next = match (cosigners.as_slice(), listed(cosigners, "and")) {
                ([], _) => format!("`hark charter import {path}` makes it count"),
                ([_], one) => format!("{one} has to sign it: `hark charter sign {path}`"),
                (_, several) => format!("{several} have to sign it: `hark charter sign {path}`"),
            };
            format!("{path} drafts this:\n{}\n{next}", indented(&each(changes, to_do)))
        }
        Outcome::RootDrafted { changes, missing, notes, path, file } => {
            let changes = indented(&each(changes, changes::root));
            let text = match file {
                None => format!("{path} would draft this:\n{changes}"),
                Some(_) => format!("{path} drafts this:\n{changes}\n{}", next_step(path, missing)),
            };
            with_notes(text, notes)
        }
        Outcome::Checkpoint { number, brings_back, step } => {
            let note = brings_back.then(|| {
                format!(
                    "\nnote: what checkpoint {} says stands, also where it was cut off since: look \
                     through it, and undo by ordinary changes what should not be",
                    number - 1
                )
            });
            let words = |done| changes::checkpoint(*number, done) + note.as_deref().unwrap_or("");
            match step {
                CheckpointStep::DryRun => format!("this would\n  {}", words(false)),
                CheckpointStep::Settled => words(true),
                CheckpointStep::Drafted { missing, file } => {
                    let (path, words) = (&file.path, words(false));
                    format!("{path} drafts this:\n  {words}\n{}", next_step(path, missing))
                }
            }
        }
        Outcome::Imported { path, taken, refused, dry_run } => {
            let mut text = format!("nothing in {path} is new");
            if *taken > 0 {
                let verb = if *dry_run { "would take" } else { "took" };
                text = format!("{verb} {} from {path}", counted(*taken, "new piece"));
            }
            if *refused > 0 {
                text += &format!("; {} not fit to be taken", counted(*refused, "piece"));
            }
            text
        }
        Outcome::DraftTaken { content, undone, dry_run } => {
            let text = match dry_run {
                true => format!("this would\n{}", indented(&draft(content, false))),
                false => draft(content, true).join("\n"),
            };
            text + &fallen(undone)
        }
        Outcome::Signed { content, missing, file } => {
            let (path, content) = (&file.path, indented(&draft(content, false)));
            format!("signed {path}:\n{content}\n{}", next_step(path, missing))
        }
        Outcome::SignedWith { file, .. } => format!("signed {}", file.path),
        Outcome::Exported { organisation, file } => {
            let (path, bytes) = (&file.path, file.content.len());
            format!("{path} holds all of {organisation}: {bytes} bytes")
        }
        Outcome::Consent { consent, .. } => consent.clone(),
        Outcome::Organisation(organisation) => lists::organisation(organisation),
        Outcome::Channels(channels) => lists::channels(channels),
        Outcome::Roles(roles) => lists::roles(roles),
        Outcome::Presets(presets) => lists::presets(presets),
        Outcome::Preset(preset) => lists::preset(preset),
        Outcome::Relays(relays) => lists::relays(relays),
        Outcome::Policies(policies) => lists::policies(policies),
        Outcome::Root(root) => lists::root(root),
        Outcome::Devices(devices) => lists::devices(devices),
        Outcome::Tickets(tickets) => match tickets.as_slice() {
            [] => lists::tickets(tickets),
            _ => {
                let tickets = lists::tickets(tickets).replace('\n', "\n  ");
                format!("tickets that this device issued or let people in by\n  {tickets}")
            }
        },
        Outcome::Log(log) => history::log(log),
        Outcome::Verified { organisation, check } => history::check(organisation, check),
        Outcome::Why(why) => history::why(why),
    }
}

/// An outcome as JSON.
pub(crate) fn json(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Unchanged { .. } => json!({"changed": false, "changes": []}),
        Outcome::Changed { changes, operations, about, .. } => {
            let json =
                json!({"changed": true, "changes": each(changes, done), "operations": operations});
            merged(json, about.as_ref().map_or(Value::Null, about_json))
        }
        Outcome::DryRun { changes, .. } => dry_run(&each(changes, to_do)),
        Outcome::Drafted { changes, cosigners, file } => json!({
            "changed": false,
            "draft": file.path,
            "changes": each(changes, to_do),
            "missing": cosigners,
        }),
        Outcome::RootDrafted { changes, file: None, .. } => dry_run(&each(changes, changes::root)),
        Outcome::RootDrafted { changes, missing, path, .. } => json!({
            "changed": false,
            "draft": path,
            "changes": each(changes, changes::root),
            "missing": missing_json(missing),
        }),
        Outcome::Checkpoint { number, step, .. } => match step {
            CheckpointStep::DryRun => json!({"changed": false, "dry_run": true, "number": number}),
            CheckpointStep::Settled => json!({"changed": true, "number": number}),
            CheckpointStep::Drafted { missing, file } => json!({
                "changed": false,
                "draft": file.path,
                "number": number,
                "missing": missing_json(missing),
            }),
        },
        Outcome::Imported { taken, refused, dry_run, .. } => {
            json!({"changed": *taken > 0 && !dry_run, "taken": taken, "refused": refused})
        }
        Outcome::DraftTaken { content, undone, dry_run: is_dry } => {
            let changes = draft(content, !is_dry);
            let json = match is_dry {
                true => dry_run(&changes),
                false => json!({"changed": true, "changes": changes}),
            };
            merged(json, json!({"undone": each(undone, fell)}))
        }
        Outcome::Signed { content, missing, .. } => {
            let changes = draft(content, false);
            json!({"signed": true, "changes": changes, "missing": missing_json(missing)})
        }
        Outcome::SignedWith { key, .. } => json!({"signed": true, "key": key}),
        Outcome::Exported { file, .. } => {
            json!({"file": file.path, "bytes": file.content.len()})
        }
        Outcome::Consent { device, consent } => json!({"device": device, "consent": consent}),
        Outcome::Organisation(organisation) => lists::organisation_json(organisation),
        Outcome::Channels(channels) => json!(channels),
        Outcome::Roles(roles) => json!(roles),
        Outcome::Presets(presets) => lists::presets_json(presets),
        Outcome::Preset(preset) => json!(preset),
        Outcome::Relays(relays) => json!(relays),
        Outcome::Policies(policies) => json!(policies),
        Outcome::Root(root) => lists::root_json(root),
        Outcome::Devices(devices) => lists::devices_json(devices),
        Outcome::Tickets(tickets) => lists::tickets_json(tickets),
        Outcome::Log(log) => history::log_json(log),
        Outcome::Verified { check, .. } => json!(check),
        Outcome::Why(why) => history::why_json(why),
    }
}

fn dry_run(changes: &[String]) -> Value {
    json!({"changed": false, "dry_run": true, "changes": changes})
}

fn about_json(about: &RequestSubject) -> Value {
    match about {
        RequestSubject::Sanction { member, at, until } => {
            json!({"member": member, "at": at, "until": until})
        }
        other => json!(other),
    }
}

fn missing_json(missing: &Option<Missing>) -> Value {
    json!(missing.as_ref().map(ToString::to_string))
}

/// Merges the fields of two objects into one.
fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// The next step for a draft.
fn next_step(path: &str, missing: &Option<Missing>) -> String {
    match missing {
        None => format!("all have signed: `hark charter import {path}` makes it count"),
        Some(missing) => format!(
            "signatures are missing, by `hark charter sign {path}`, of printed words by \
             `hark charter --recovery sign {path}`:\n{}",
            indented(&missing.lines())
        ),
    }
}

fn fallen(undone: &[Undone]) -> String {
    if undone.is_empty() {
        return String::new();
    }
    let lines = indented(&each(undone, fell));
    format!("\nundone by it, as it was made after the draft:\n{lines}")
}

fn fell(undone: &Undone) -> String {
    format!("{} {}", undone.by, done(&undone.change))
}

fn unchanged(why: &Unchanged) -> String {
    match why {
        Unchanged::Same => "nothing to change".to_owned(),
        Unchanged::Matches(file) => format!("the charter matches {file}"),
        Unchanged::Counts(file) => format!("{file} counts already"),
        Unchanged::SignedBefore(file) => format!("this device has signed {file} before"),
        Unchanged::NothingNew => "nothing is new since the last checkpoint".to_owned(),
        Unchanged::IssuerGone(number) => {
            format!("ticket {number} admits nobody: who issued it is gone")
        }
        Unchanged::RevokedBefore(number) => format!("ticket {number} is revoked already"),
        Unchanged::NotInForce { person, kind, at, elsewhere } => {
            let done = kind.participle();
            let mut text = format!("{person} is not {done} {at}: nothing to change");
            if !elsewhere.is_empty() {
                let places = each(elsewhere, ToString::to_string);
                text += &format!("; {person} is {done} {}", listed(&places, "and"));
            }
            text
        }
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::RoleAdds { adds, anyway } => {
            let anyway = match anyway.0.as_slice() {
                [] => "by the role member nobody may anything".to_owned(),
                _ => format!("by the role member everybody may {anyway} anyway"),
            };
            match adds.0.as_slice() {
                [] => format!("it adds no right: {anyway}"),
                _ => format!("it adds {adds}: {anyway}"),
            }
        }
        Note::RankAlone(rights) => {
            let act = |right: &String| if right == "mute" { "mute" } else { "kick or ban" };
            let acts: Vec<_> = rights.0.iter().map(act).collect();
            let plural = if rights.0.len() == 1 { "right" } else { "rights" };
            let (acts, rights) = (acts.join(", "), listed(&rights.0, "and"));
            format!("its rank alone lets nobody {acts}: that takes the {plural} {rights}")
        }
        Note::HeldAlready { person, role, at, has: true } => {
            format!("{person} has the role {role} {at} already")
        }
        Note::HeldAlready { person, role, at, has: false } => {
            format!("{person} does not have the role {role} {at}")
        }
        Note::GivenByPreset => {
            "a loaded preset grants it, too: that stays until it is unloaded".to_owned()
        }
        Note::AnyTicket { kicked } => {
            let or = if *kicked { ", `hark charter ban` keeps them out" } else { "" };
            format!(
                "any ticket that is still good lets them in again: `hark ticket revoke` ends those \
                 of before{or}"
            )
        }
        Note::LastsWithPreset(preset) => {
            format!("it belongs to the preset {preset}: this lasts until that is unloaded")
        }
        Note::ThisDevice => "that is this device: it cannot act for you any more".to_owned(),
        Note::LoadedAlready(preset) => format!("{preset} is loaded already"),
        Note::NotLoaded(preset) => format!("{preset} is not loaded"),
        Note::WasLoaded => "it was loaded: all that it brought is gone with it".to_owned(),
        Note::LoadedAsItWas(preset) => format!("{preset} is loaded as it was: load {preset} again"),
        Note::DeniedFromAbove(rights) => format!(
            "somebody who stands above you denies {} there: whom that rule concerns stays without, \
             whatever this one allows",
            rights.0.join(",")
        ),
        Note::AllTicketsOf(person) => format!(
            "with it all tickets of {person} so far: the charter holds {} one by one",
            hark_charter::TICKETS_MAX
        ),
        Note::TicketsStay(people) => format!(
            "tickets of {} stay good: you must stand above them to revoke theirs",
            listed(people, "and")
        ),
        Note::NotInFile { channels, roles, presets, rules, links } => {
            let named = |kind: &str, names: &[String]| {
                names.iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
            };
            let mut kept = named("channel", channels);
            kept.extend(named("role", roles));
            kept.extend(named("preset", presets));
            kept.extend((*rules > 0).then(|| counted(*rules, "rule")));
            kept.extend((*links > 0).then(|| counted(*links, "link")));
            format!("not in the file, and kept: {} (--prune removes them)", listed(&kept, "and"))
        }
        Note::RoleForYou(role) => {
            format!("you get the role {role}, as no other of yours may join, listen and speak then")
        }
        Note::WillBeUndone(people) => format!(
            "what {} {} from now on is undone once this counts, as it is after what this draft lets \
             stand: have it signed and imported first",
            listed(people, "and"),
            if people.len() == 1 { "does" } else { "do" },
        ),
        Note::OneDraft(version) => format!(
            "this device signs no other root document {version} than this draft: who thinks better \
             of it has it signed and imported all the same, and proposes the next"
        ),
    }
}

fn with_notes(text: String, notes: &[Note]) -> String {
    notes.iter().fold(text, |text, it| format!("{text}\n{}", note(it)))
}

fn each<T>(items: &[T], words: impl Fn(&T) -> String) -> Vec<String> {
    items.iter().map(words).collect()
}

fn lines<T>(items: &[T], words: impl Fn(&T) -> String) -> String {
    each(items, words).join("\n")
}

/// Indents lines that stand below another one.
fn indented(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
