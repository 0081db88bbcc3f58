//! `hark charter rule`

use hark_charter::{
    State,
    content::{Capabilities, Change, Place, Rule, Subject},
};

use crate::{
    CommandError, Host, Mistake, Note, Outcome, Right, RuleRequest,
    edit::{Plan, perform},
    view::View,
};

/// Sets what a subject may at a place.
pub(crate) fn rule(host: &mut dyn Host, request: &RuleRequest) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let subject = view.find_subject(&request.subject)?;
    let at = view.find_place(request.at.as_deref())?;
    let [allow, deny, unset] =
        [&request.allow, &request.deny, &request.unset].map(|it| Right::all(it));
    if !common(allow, deny).is_empty() {
        return Err(Mistake::AllowedAndDenied(common(allow, deny).into()).into());
    }
    let before = own_rule(view.state, at, subject);
    let (mut kept_allow, mut kept_deny) = before.unwrap_or_default();
    if request.clear {
        (kept_allow, kept_deny) = Default::default();
    }
    let named = allow | deny | unset;
    let rule =
        Rule { at, subject, allow: (kept_allow - named) | allow, deny: (kept_deny - named) | deny };
    let same = before.unwrap_or_default() == (rule.allow, rule.deny);
    let mut plan = Plan::of((!same).then_some(Change::Rule(rule)));
    let closed = common(rule.allow, view.state.denied_from_above(host.member(), at));
    if !closed.is_empty() {
        plan.notes.push(Note::DeniedFromAbove(closed.into()));
    }
    perform(host, plan, &request.how)
}

/// The rule that officers have set for a subject at a place, without what loaded presets bring.
pub(crate) fn own_rule(
    state: &State,
    at: Place,
    subject: Subject,
) -> Option<(Capabilities, Capabilities)> {
    let mut of_presets: Vec<_> = state
        .loaded()
        .flat_map(|preset| preset.rules.iter())
        .filter(|rule| (rule.at, rule.subject) == (at, subject))
        .map(|rule| (rule.allow, rule.deny))
        .collect();
    let there = state.rules().filter(|(place, whom, ..)| (*place, *whom) == (at, subject));
    let own = there.map(|(_, _, allow, deny)| (allow, deny)).filter(|rule| {
        let Some(of_preset) = of_presets.iter().position(|other| other == rule) else {
            return true;
        };
        of_presets.swap_remove(of_preset);
        false
    });
    own.reduce(|(allow, deny), (more, denied)| (allow | more, deny | denied))
}

fn common(a: Capabilities, b: Capabilities) -> Capabilities {
    a - (a - b)
}
