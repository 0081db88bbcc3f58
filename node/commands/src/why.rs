//! `hark charter why`: what decides about a right.

use hark_charter::{
    Decision, Verdict,
    content::{Capabilities, MEMBER_ROLE, Place, Rule, SanctionKind, Subject},
};
use hark_keys::{MemberId, ObjectHash};

use crate::{
    CommandError, DecisionView, Host, Mistake, Outcome, Right, SourceView, Step, WhyView,
    history::author, lists, view::View,
};

/// Why somebody has a right at a place, or has it not.
pub(crate) fn why(
    host: &dyn Host,
    person: &str,
    right: Right,
    at: &str,
) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let member = view.find_person(person)?;
    let at = match at {
        "everywhere" => Place::Organisation,
        channel => view.find_place(Some(channel))?,
    };
    let right = right.0;
    if right.iter().count() != 1 {
        return Err(Mistake::OneRight.into());
    }
    let name = view.person(member);
    let decision = view.charter().why(member, right, at);
    let decision = decision.ok_or_else(|| Mistake::NoMember(name.clone()))?;
    Ok(Outcome::Why(Box::new(WhyView {
        member: member.to_string(),
        name,
        right: right.to_string(),
        at: view.at(at),
        allowed: decision.allows(),
        source: source(&decision).map(|hash| source_of(&view, hash)),
        chain: chain(&view, member, right, at, &decision),
        decided_by: decided_by(&view, decision),
    })))
}

fn decided_by(view: &View<'_>, decision: Decision) -> DecisionView {
    match decision {
        Decision::Root => DecisionView::Root,
        Decision::Sanction { kind, at, until, .. } => {
            let (at, until) = (view.at(at), until.into());
            match kind {
                SanctionKind::Mute => DecisionView::Mute { at, until },
                SanctionKind::Ban => DecisionView::Ban { at, until },
            }
        }
        Decision::Rule { allows, at, subject, preset, .. } => DecisionView::Rule {
            allows,
            at: view.at(at),
            subject: view.subject(subject),
            preset: preset.map(|it| view.preset(it)),
        },
        Decision::Role { role, at, .. } => DecisionView::Role {
            role: view.role(role),
            at: view.at(at),
            everybody: role == MEMBER_ROLE,
        },
        Decision::Nothing => DecisionView::Nothing,
        Decision::NoChannel => DecisionView::NoChannel,
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
fn source_of(view: &View<'_>, hash: ObjectHash) -> SourceView {
    let charter = view.charter();
    if hash.as_bytes() == charter.organisation().as_bytes() {
        return SourceView::Founded;
    }
    let operation = hash.to_string();
    let mut log = charter.log();
    match log.find(|(signed, _)| signed.hash() == hash) {
        None => SourceView::Settled { operation },
        Some((signed, verdict)) => {
            let (level, void) = match verdict {
                Verdict::Judged(level, _) => (Some(level.0), None),
                Verdict::Void(reason) => (None, Some(reason.describe().to_owned())),
            };
            let author = view.person(author(charter, signed));
            SourceView::Operation { operation, author, level, void }
        }
    }
}

/// Each place from the one asked for up to the organisation, with what was found there; ends where
/// it was decided.
fn chain(
    view: &View<'_>,
    member: MemberId,
    right: Capabilities,
    at: Place,
    decision: &Decision,
) -> Vec<Step> {
    match decision {
        Decision::Root => return vec![Step::RootKeys(view.person(member))],
        Decision::Sanction { .. } => return vec![Step::Sanctions],
        _ => {}
    }
    let mut chain = Vec::new();
    for place in view.state.path(at) {
        let speaking = view.state.rules().filter(|(there, subject, allow, deny)| {
            *there == place
                && (allow.contains(right) || deny.contains(right))
                && concerns(view, member, *subject, place)
        });
        let speaking = speaking.map(|(at, subject, allow, deny)| Rule { at, subject, allow, deny });
        let mut speaking: Vec<_> = speaking.collect();
        speaking.sort_by_key(|rule| rule.subject.particularity());
        let those = |step: &dyn Fn(u8) -> bool| {
            let rules = speaking.iter().filter(|rule| step(rule.subject.particularity()));
            rules.map(|rule| lists::rule(view, rule)).collect::<Vec<_>>()
        };
        let at = view.at(place);
        if let Decision::Rule { at: there, subject, .. } = decision
            && *there == place
        {
            let decides = subject.particularity();
            chain.push(Step::Place {
                at,
                deciding: those(&|step| step == decides),
                less_particular: those(&|step| decides < step),
                outranked: those(&|step| step < decides),
            });
            return chain;
        }
        chain.push(Step::Unbound { at, name: view.person(member), rules: those(&|_| true) });
    }
    let above: Vec<_> = view.state.path(at).collect();
    let held = view.state.grants(member).filter(|(_, place)| above.contains(place));
    let held = std::iter::once(MEMBER_ROLE).chain(held.map(|(role, _)| role));
    let has = |id| {
        let role = view.state.role(id);
        (view.role(id), role.is_some_and(|role| role.capabilities.contains(right)))
    };
    chain.push(Step::Roles(held.map(has).collect()));
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
