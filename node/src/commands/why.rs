//! `hark charter why`: what decides about a right.

use hark_charter::{
    Decision,
    content::{Capabilities, MEMBER_ROLE, Place, Subject},
};
use hark_keys::{MemberId, ObjectHash, UnixTime};
use serde_json::{Value, json};

use super::{
    Answer, CommandError, Host, Right,
    history::{author, level},
    names::listed,
    overview::place,
    sanctions::{participle, tell_until, verb},
    view::View,
    words::tell_rule,
};

/// Why somebody has a right at a place, or has it not.
pub(super) fn why(
    host: &dyn Host,
    person: &str,
    right: Right,
    at: &str,
) -> Result<Answer, CommandError> {
    let view = View::new(host);
    let member = view.find_person(person)?;
    let at = match at {
        "everywhere" => Place::Organisation,
        channel => view.find_place(Some(channel))?,
    };
    let right = right.0;
    if right.iter().count() != 1 {
        return Err(CommandError::Input("ask for one right at a time".to_owned()));
    }
    let who = view.person(member);
    let Some(decision) = view.charter().why(member, right, at) else {
        return Err(CommandError::Input(format!("{who} is no member: no rights at all")));
    };
    let verb = if decision.allows() { "may" } else { "may not" };
    let mut lines =
        vec![format!("{who} {verb} {right} {}: {}", view.place(at), reason(&view, &decision))];
    let source = source(&decision).map(|hash| tell_source(&view, hash));
    lines.extend(source.as_ref().map(|(line, _)| format!("  {line}")));
    let chain = chain(&view, member, right, at, &decision);
    lines.push("looked at, the nearest first".to_owned());
    for (place, found) in &chain {
        lines.push(format!("  {place}: {found}"));
    }
    let chain: Vec<_> =
        chain.iter().map(|(place, found)| json!({"place": place, "found": found})).collect();
    let json = json!({
        "member": member.to_string(),
        "right": right.to_string(),
        "at": place(&view, at),
        "allowed": decision.allows(),
        "decided_by": decided_by(&view, &decision),
        "source": source.map(|(_, json)| json),
        "chain": chain,
    });
    Ok(Answer::new(lines.join("\n"), json))
}

fn reason(view: &View<'_>, decision: &Decision) -> String {
    match decision {
        Decision::Root => "stands for the organisation, which is allowed everything but to hear \
                           and talk"
            .to_owned(),
        Decision::Sanction { kind, at, until, .. } => {
            format!("{} {} {}", participle(*kind), view.place(*at), tell_until(*until))
        }
        Decision::Rule { allows, at, subject, preset, .. } => {
            let does = if *allows { "allows" } else { "denies" };
            let preset = preset.map(|it| format!(", from preset {}", view.preset(it)));
            let (subject, place) = (view.subject(*subject), view.place(*at));
            format!("the rule for {subject} {place} {does} it{}", preset.unwrap_or_default())
        }
        Decision::Role { role, .. } if *role == MEMBER_ROLE => {
            format!("everybody has the role {}, which has it", view.role(*role))
        }
        Decision::Role { role, at, .. } => {
            format!("the role {}, held {}, has it", view.role(*role), view.place(*at))
        }
        Decision::Nothing => "no rule speaks of it, and no role held there has it".to_owned(),
        Decision::NoChannel => "there is no such channel any more".to_owned(),
    }
}

fn decided_by(view: &View<'_>, decision: &Decision) -> Value {
    match decision {
        Decision::Root => json!({"kind": "root"}),
        Decision::Sanction { kind, at, until, .. } => json!({
            "kind": verb(*kind),
            "at": place(view, *at),
            "until": until.map(UnixTime::as_secs),
        }),
        Decision::Rule { allows, at, subject, preset, .. } => json!({
            "kind": "rule",
            "allows": allows,
            "at": place(view, *at),
            "subject": view.subject(*subject),
            "preset": preset.map(|it| view.preset(it)),
        }),
        Decision::Role { role, at, .. } => {
            json!({"kind": "role", "role": view.role(*role), "at": place(view, *at)})
        }
        Decision::Nothing => json!({"kind": "nothing"}),
        Decision::NoChannel => json!({"kind": "no-channel"}),
    }
}

fn source(decision: &Decision) -> Option<ObjectHash> {
    match decision {
        Decision::Sanction { source, .. } | Decision::Rule { source, .. } => Some(*source),
        Decision::Role { source, .. } => *source,
        Decision::Root | Decision::Nothing | Decision::NoChannel => None,
    }
}

/// Who did what decided, by which operation.
fn tell_source(view: &View<'_>, hash: ObjectHash) -> (String, Value) {
    let charter = view.charter();
    if hash.as_bytes() == charter.organisation().as_bytes() {
        return ("it is so since the founding".to_owned(), json!({"founded": true}));
    }
    for (signed, verdict) in charter.log() {
        if signed.hash() == hash {
            let person = view.person(author(charter, signed));
            let how = match verdict {
                hark_charter::Verdict::Judged(at, _) => level(*at),
                hark_charter::Verdict::Void(reason) => reason.describe().to_owned(),
            };
            let line = format!("set by {person}, {how}, in operation {}", hash.short());
            return (line, json!({"operation": hash.to_string(), "author": person}));
        }
    }
    let line = format!("set in operation {}, which a checkpoint has settled", hash.short());
    (line, json!({"operation": hash.to_string(), "settled": true}))
}

/// Each place from the one asked for up to the organisation, with what was found there; ends where
/// it was decided.
fn chain(
    view: &View<'_>,
    member: MemberId,
    right: Capabilities,
    at: Place,
    decision: &Decision,
) -> Vec<(String, String)> {
    let name = |at| match at {
        Place::Organisation => "everywhere".to_owned(),
        Place::Channel(channel) => view.channel(channel),
    };
    if *decision == Decision::Root {
        return vec![("root keys".to_owned(), format!("{} holds one", view.person(member)))];
    }
    if matches!(decision, Decision::Sanction { .. }) {
        let found = "decided here: no rule and no role gives back what they take".to_owned();
        return vec![("mutes and bans".to_owned(), found)];
    }
    let mut chain = Vec::new();
    for place in view.state.path(at) {
        let speaking = view.state.rules().filter(|(there, subject, allow, deny)| {
            *there == place
                && (allow.contains(right) || deny.contains(right))
                && concerns(view, member, *subject, place)
        });
        let mut speaking: Vec<_> = speaking
            .map(|(_, subject, allow, deny)| {
                let rule = format!("{} {}", view.subject(subject), tell_rule(allow, deny));
                (subject.particularity(), rule)
            })
            .collect();
        speaking.sort_by_key(|(particularity, _)| *particularity);
        let decides = match decision {
            Decision::Rule { at, subject, .. } if *at == place => Some(subject.particularity()),
            _ => None,
        };
        let those = |step: &dyn Fn(u8) -> bool| {
            let rules = speaking.iter().filter(|(particularity, _)| step(*particularity));
            rules.map(|(_, rule)| rule.as_str()).collect::<Vec<_>>().join("; ")
        };
        let found = match decides {
            Some(decides) => {
                let parts = [
                    ("decided here: ", those(&|step| step == decides)),
                    ("less particular: ", those(&|step| decides < step)),
                    ("does not count, by who set it: ", those(&|step| step < decides)),
                ];
                let parts = parts.iter().filter(|(_, rules)| !rules.is_empty());
                parts.map(|(what, rules)| format!("{what}{rules}")).collect::<Vec<_>>().join("; ")
            }
            None if speaking.is_empty() => "no rule that speaks of it".to_owned(),
            None => format!(
                "does not bind {}, who does not stand below whoever set it: {}",
                view.person(member),
                those(&|_| true)
            ),
        };
        chain.push((name(place), found));
        if decides.is_some() {
            return chain;
        }
    }
    let above: Vec<_> = view.state.path(at).collect();
    let held = view.state.grants(member).filter(|(_, place)| above.contains(place));
    let held = std::iter::once(MEMBER_ROLE).chain(held.map(|(role, _)| role));
    let held: Vec<_> = held
        .map(|id| {
            let has = view.state.role(id).is_some_and(|role| role.capabilities.contains(right));
            format!("{} {}", view.role(id), if has { "has it" } else { "does not have it" })
        })
        .collect();
    chain.push(("roles held there".to_owned(), listed(&held, "and")));
    chain
}

/// Whether a rule at a place is about a member: a role counts where it is held there or further up.
fn concerns(view: &View<'_>, member: MemberId, subject: Subject, place: Place) -> bool {
    match subject {
        Subject::Everyone => true,
        Subject::Member(whose) => whose == member,
        Subject::Role(MEMBER_ROLE) => true,
        Subject::Role(role) => {
            let above: Vec<_> = view.state.path(place).collect();
            view.state.grants(member).any(|(held, at)| held == role && above.contains(&at))
        }
    }
}
