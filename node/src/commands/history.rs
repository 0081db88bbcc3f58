//! `hark charter log`, `hark charter verify`

use std::collections::BTreeSet;

use hark_charter::{
    Charter, Denial, Level, Operation, Verdict,
    content::{Change, Place},
};
use hark_keys::{ChannelId, Cosigned, DeviceId, MemberId, PresetId, RoleId};
use serde_json::{Value, json};

use super::{
    Answer, CommandError, Host,
    names::{counted, listed},
    overview::FORKED,
    view::View,
    words::tell,
};

/// Operations in the order in which they count; what whoever asks may not see is left out.
pub(super) fn log(host: &dyn Host, last: Option<usize>) -> Answer {
    let view = View::new(host);
    let charter = host.charter();
    let mut seen = Seen::default();
    let mut entries: Vec<(Vec<String>, Value)> = Vec::new();
    entries.extend(founding(&view, &mut seen));
    for (signed, verdict) in charter.log() {
        entries.extend(entry(&view, &mut seen, signed, verdict));
    }
    let first = entries.len().saturating_sub(last.unwrap_or(entries.len()));
    let (lines, json): (Vec<_>, Vec<_>) = entries.drain(..).skip(first).unzip();
    let lines: Vec<_> = lines.into_iter().flatten().collect();
    Answer::new(lines.join("\n"), Value::Array(json))
}

/// Who made an operation, as far as certificates tell.
pub(super) fn author(charter: &Charter, signed: &Cosigned<Operation>) -> MemberId {
    let device = signed.unverified().author;
    charter.owner(device).unwrap_or_else(|| charter.member_of(device))
}

/// A level in words.
pub(super) fn level(level: Level) -> String {
    match level.0 {
        0 => "for the organisation".to_owned(),
        251 => "as a member".to_owned(),
        rank => format!("with rank {rank}"),
    }
}

fn founding(view: &View<'_>, seen: &mut Seen) -> Option<(Vec<String>, Value)> {
    let document = view.charter().roots().next()?;
    let changes: Vec<_> = document
        .unverified()
        .content
        .iter()
        .filter_map(|change| Some(tell(view, change, seen.is_new(change))?.done()))
        .collect();
    let founder = view.person(view.charter().member_of(document.unverified().keys.first()));
    let mut lines = vec![format!("founded by {founder}")];
    lines.extend(changes.iter().map(|change| format!("  {change}")));
    let json = json!({"id": document.hash().to_string(), "founded": true, "changes": changes});
    Some((lines, json))
}

fn entry(
    view: &View<'_>,
    seen: &mut Seen,
    signed: &Cosigned<Operation>,
    verdict: &Verdict,
) -> Option<(Vec<String>, Value)> {
    let operation = signed.unverified();
    let (at, judged, void) = match verdict {
        Verdict::Void(reason) => (None, None, Some(reason.describe())),
        Verdict::Judged(at, judged) => (Some(*at), Some(judged), None),
    };
    let mut lines = Vec::new();
    let mut changes = Vec::new();
    for (index, change) in operation.changes.iter().enumerate() {
        let denial = judged.and_then(|judged| judged.get(index)?.err());
        let done = judged.is_some() && denial.is_none();
        let new = done && seen.is_new(change);
        let Some(phrase) = tell(view, change, new || !done) else { continue };
        let why = denial.map(|denial| match denial {
            Denial::Right(_, at) if view.sees_place(at) => format!("{denial} {}", view.place(at)),
            _ => denial.to_string(),
        });
        lines.push(match &why {
            None if done => format!("  {}", phrase.done()),
            None => format!("  not done: {}", phrase.to_do()),
            Some(why) => {
                format!("  denied: {}: {}", phrase.to_do(), why)
            }
        });
        let words = if done { phrase.done() } else { phrase.to_do() };
        changes.push(json!({"change": words, "done": done, "denied": why}));
    }
    for cut in operation.cuts.iter() {
        lines.push(format!("  cut off {} at what was known then", view.person(cut.member)));
    }
    // Whoever may see none of it is not told that there is anything.
    if lines.is_empty() && !(operation.changes.is_empty()) {
        return None;
    }
    let hash = signed.hash();
    let person = view.person(author(view.charter(), signed));
    let cosigners: Vec<_> = operation.cosigners.iter().map(|key| signer(view, *key)).collect();
    let mut first = format!("{} {person}", hash.short());
    if !cosigners.is_empty() {
        first += &format!(" with {}", listed(&cosigners, "and"));
    }
    first += &match (void, at) {
        (Some(reason), _) => format!(": void, {reason}"),
        (None, Some(at)) => format!(", {}", level(at)),
        (None, None) => String::new(),
    };
    lines.insert(0, first);
    let cuts: Vec<_> = operation.cuts.iter().map(|cut| view.person(cut.member)).collect();
    let json = json!({
        "id": hash.to_string(),
        "author": person,
        "device": operation.author.to_string(),
        "term": operation.term,
        "sequence": operation.sequence,
        "lamport": operation.lamport,
        "level": at.map(|at| at.0),
        "void": void,
        "cosigners": cosigners,
        "cuts": cuts,
        "changes": changes,
    });
    Some((lines, json))
}

/// Who signs with a key.
pub(super) fn signer(view: &View<'_>, key: DeviceId) -> String {
    match view.charter().owner(key) {
        Some(member) => view.person(member),
        None => key.short(),
    }
}

/// What earlier operations have made.
#[derive(Default)]
struct Seen {
    channels: BTreeSet<ChannelId>,
    roles: BTreeSet<RoleId>,
    presets: BTreeSet<PresetId>,
    relays: BTreeSet<DeviceId>,
}

impl Seen {
    fn is_new(&mut self, change: &Change) -> bool {
        match change {
            Change::Channel(channel) => self.channels.insert(channel.id),
            Change::Role(role) => self.roles.insert(role.id),
            Change::Preset(preset) => self.presets.insert(preset.id),
            Change::Relay(relay) => self.relays.insert(relay.device),
            _ => true,
        }
    }
}

/// Checks all that the charter is made of again, from its bytes.
pub(super) fn verify(host: &dyn Host) -> Result<Answer, CommandError> {
    let charter = host.charter();
    let mut again = Charter::restore(&charter.snapshot())
        .map_err(|error| CommandError::Refused(format!("the charter does not hold: {error}")))?;
    again.set_calendar(charter.calendar());
    let same = again == *charter && again.state() == charter.state();
    if !same {
        return Err(CommandError::Refused(
            "the charter does not hold: its pieces lead to another state than the one in use; \
             restart the node, and import an export of somebody else's if that does not help"
                .to_owned(),
        ));
    }
    let (mut void, mut denied) = (0, 0);
    for (_, verdict) in again.log() {
        match verdict {
            Verdict::Void(_) => void += 1,
            Verdict::Judged(_, judged) => denied += judged.iter().filter(|it| it.is_err()).count(),
        }
    }
    let roots = again.roots().count();
    let mut lines = vec![
        format!("{} holds: checked anew from its bytes", again.name()),
        format!(
            "  {}: every signature, and that each follows the one before",
            counted(roots, "root document")
        ),
        format!(
            "  {}: every signature, and that each leads to a root key",
            counted(again.certificates(), "certificate")
        ),
        format!(
            "  {}: every signature, number and parent; {void} void, {} denied",
            counted(again.operations(), "operation"),
            counted(denied, "change"),
        ),
        format!(
            "  the state that follows from them is the one in use ({})",
            again.digest().short()
        ),
    ];
    if again.checkpoint() > 0 {
        lines.push(format!("  checkpoint {} states the same outcome", again.checkpoint()));
    }
    lines.extend(again.is_forked().then(|| format!("  {FORKED}")));
    let unlisted: usize = again.members().map(|member| again.unlisted(member).len()).sum();
    let officers = again.members().filter(|it| again.state().rank(*it, Place::Organisation).0 == 0);
    let json = json!({
        "holds": true,
        "digest": again.digest().to_string(),
        "roots": roots,
        "certificates": again.certificates(),
        "unlisted_certificates": unlisted,
        "operations": again.operations(),
        "void": void,
        "denied": denied,
        "checkpoint": again.checkpoint(),
        "forked": again.is_forked(),
        "stand_for_the_organisation": officers.count(),
    });
    Ok(Answer::new(lines.join("\n"), json))
}
