//! What was done, what a check has found, and why a member has a right.

use hark_commands::{
    At, CharterCheck, DecisionView, LogEntry, LoggedChange, LoggedOperation, RuleView, SourceView,
    Step, WhyView,
    names::{counted, listed},
};
use hark_keys::ObjectHash;
use serde_json::{Value, json};

use super::{
    changes::{done, rule, to_do},
    each, indented,
    lists::FORKED,
};

/// The log of operations.
pub(super) fn log(log: &[LogEntry]) -> String {
    let entry = |entry: &LogEntry| match entry {
        LogEntry::Founded { by, changes, .. } => {
            let mut lines = vec![format!("founded by {by}")];
            lines.extend(changes.iter().map(|change| format!("  {}", done(change))));
            lines.join("\n")
        }
        LogEntry::Operation(operation) => self::operation(operation),
    };
    each(log, entry).join("\n")
}

fn operation(it: &LoggedOperation) -> String {
    let mut first = format!("{} {}", short(&it.id), it.author);
    if !it.cosigners.is_empty() {
        first += &format!(" with {}", listed(&it.cosigners, "and"));
    }
    first += &match (&it.void, it.level) {
        (Some(reason), _) => format!(": void, {reason}"),
        (None, Some(level)) => format!(", {}", self::level(level)),
        (None, None) => String::new(),
    };
    let change = |it: &LoggedChange| match denied(it) {
        None if it.done => format!("  {}", done(&it.change)),
        None => format!("  not done: {}", to_do(&it.change)),
        Some(why) => format!("  denied: {}: {why}", to_do(&it.change)),
    };
    let mut lines = vec![first];
    lines.extend(it.changes.iter().map(change));
    let cut = |person: &String| format!("  cut off {person} at what was known then");
    lines.extend(it.cuts.iter().map(cut));
    lines.join("\n")
}

fn denied(change: &LoggedChange) -> Option<String> {
    let denial = change.denied.as_ref()?;
    Some(match &denial.at {
        None => denial.reason.clone(),
        Some(at) => format!("{} {at}", denial.reason),
    })
}

pub(super) fn log_json(log: &[LogEntry]) -> Value {
    let change = |it: &LoggedChange| {
        let words = if it.done { done(&it.change) } else { to_do(&it.change) };
        json!({"change": words, "done": it.done, "denied": denied(it)})
    };
    let entry = |entry: &LogEntry| match entry {
        LogEntry::Founded { id, changes, .. } => {
            json!({"id": id, "founded": true, "changes": each(changes, done)})
        }
        LogEntry::Operation(it) => {
            let mut json = json!(it);
            json["changes"] = it.changes.iter().map(change).collect();
            json
        }
    };
    log.iter().map(entry).collect()
}

/// The level of an operation, in words.
fn level(level: u16) -> String {
    match level {
        0 => "for the organisation".to_owned(),
        251 => "as a member".to_owned(),
        rank => format!("with rank {rank}"),
    }
}

/// The first characters of an operation's hash, as people see them.
fn short(hash: &str) -> String {
    hash.parse().map_or_else(|_| hash.to_owned(), |hash: ObjectHash| hash.short())
}

/// The result of a check of the whole charter.
pub(super) fn check(organisation: &str, check: &CharterCheck) -> String {
    let mut lines = vec![
        format!("{organisation} holds: checked anew from its bytes"),
        format!(
            "  {}: every signature, and that each follows the one before",
            counted(check.roots, "root document")
        ),
        format!(
            "  {}: every signature, and that each leads to a root key",
            counted(check.certificates, "certificate")
        ),
        format!(
            "  {}: every signature, number and parent; {} void, {} denied",
            counted(check.operations, "operation"),
            check.void,
            counted(check.denied, "change"),
        ),
        format!("  the state that follows from them is the one in use ({})", short(&check.digest)),
    ];
    if check.checkpoint > 0 {
        lines.push(format!("  checkpoint {} states the same outcome", check.checkpoint));
    }
    lines.extend(check.forked.then(|| format!("  {FORKED}")));
    lines.join("\n")
}

/// What decides about a right, and where it was looked for.
pub(super) fn why(why: &WhyView) -> String {
    let verb = if why.allowed { "may" } else { "may not" };
    let (name, right, at) = (&why.name, &why.right, &why.at);
    let mut lines = vec![format!("{name} {verb} {right} {at}: {}", reason(&why.decided_by))];
    lines.extend(why.source.as_ref().map(|source| format!("  {}", set_by(source))));
    lines.push("looked at, the nearest first".to_owned());
    let step = |it: &Step| format!("{}: {}", place(it), found(it));
    lines.push(indented(&each(&why.chain, step)));
    lines.join("\n")
}

pub(super) fn why_json(why: &WhyView) -> Value {
    let mut decided_by = json!(why.decided_by);
    decided_by.as_object_mut().and_then(|it| it.remove("everybody"));
    let source = why.source.as_ref().map(|source| match source {
        SourceView::Founded => json!({"founded": true}),
        SourceView::Operation { operation, author, .. } => {
            json!({"operation": operation, "author": author})
        }
        SourceView::Settled { operation } => json!({"operation": operation, "settled": true}),
    });
    let step = |it: &Step| json!({"place": place(it), "found": found(it)});
    json!({
        "member": why.member,
        "right": why.right,
        "at": why.at,
        "allowed": why.allowed,
        "decided_by": decided_by,
        "source": source,
        "chain": why.chain.iter().map(step).collect::<Vec<_>>(),
    })
}

fn reason(decision: &DecisionView) -> String {
    match decision {
        DecisionView::Root => "stands for the organisation, which is allowed everything but to \
                               hear and talk"
            .to_owned(),
        DecisionView::Mute { at, until } => format!("muted {at} {until}"),
        DecisionView::Ban { at, until } => format!("banned {at} {until}"),
        DecisionView::Rule { allows, at, subject, preset } => {
            let does = if *allows { "allows" } else { "denies" };
            let preset = preset.as_ref().map(|preset| format!(", from preset {preset}"));
            format!("the rule for {subject} {at} {does} it{}", preset.unwrap_or_default())
        }
        DecisionView::Role { role, everybody: true, .. } => {
            format!("everybody has the role {role}, which has it")
        }
        DecisionView::Role { role, at, .. } => format!("the role {role}, held {at}, has it"),
        DecisionView::Nothing => "no rule speaks of it, and no role held there has it".to_owned(),
        DecisionView::NoChannel => "there is no such channel any more".to_owned(),
    }
}

fn set_by(source: &SourceView) -> String {
    match source {
        SourceView::Founded => "it is so since the founding".to_owned(),
        SourceView::Operation { operation, author, level, void } => {
            let level = || level.map(self::level).unwrap_or_default();
            let how = void.clone().unwrap_or_else(level);
            format!("set by {author}, {how}, in operation {}", short(operation))
        }
        SourceView::Settled { operation } => {
            format!("set in operation {}, which a checkpoint has settled", short(operation))
        }
    }
}

/// The place that one step looked at.
fn place(step: &Step) -> String {
    match step {
        Step::RootKeys(_) => "root keys".to_owned(),
        Step::Sanctions => "mutes and bans".to_owned(),
        Step::Place { at: At(None), .. } | Step::Unbound { at: At(None), .. } => {
            "everywhere".to_owned()
        }
        Step::Place { at: At(Some(path)), .. } | Step::Unbound { at: At(Some(path)), .. } => {
            path.clone()
        }
        Step::Roles(_) => "roles held there".to_owned(),
    }
}

/// What one step found at its place.
fn found(step: &Step) -> String {
    match step {
        Step::RootKeys(person) => format!("{person} holds one"),
        Step::Sanctions => "decided here: no rule and no role gives back what they take".to_owned(),
        Step::Place { deciding, less_particular, outranked, .. } => {
            let parts = [
                ("decided here: ", deciding),
                ("less particular: ", less_particular),
                ("does not count, by who set it: ", outranked),
            ];
            let parts = parts.into_iter().filter(|(_, rules)| !rules.is_empty());
            let parts = parts.map(|(what, rules)| format!("{what}{}", joined(rules)));
            parts.collect::<Vec<_>>().join("; ")
        }
        Step::Unbound { rules, .. } if rules.is_empty() => "no rule that speaks of it".to_owned(),
        Step::Unbound { name, rules, .. } => format!(
            "does not bind {name}, who does not stand below whoever set it: {}",
            joined(rules)
        ),
        Step::Roles(roles) => {
            let has = |(role, has): &(String, bool)| {
                format!("{role} {}", if *has { "has it" } else { "does not have it" })
            };
            listed(&each(roles, has), "and")
        }
    }
}

fn joined(rules: &[RuleView]) -> String {
    let words = |it: &RuleView| format!("{} {}", it.subject, rule(&it.allow, &it.deny));
    each(rules, words).join("; ")
}
