//! `hark charter log`, `hark charter verify`

use std::collections::BTreeSet;

use hark_charter::{
    Charter, Denial, Operation, Verdict,
    content::{Change, Place},
};
use hark_keys::{ChannelId, Cosigned, DeviceId, MemberId, PresetId, RoleId};

use crate::{
    CharterRefusal, CommandError, DenialView, Host, LogEntry, LoggedChange, LoggedOperation,
    Outcome, view::View, views::CharterCheck,
};

/// Operations in the order in which they count; what the asker may not see is left out.
pub(crate) fn log(host: &dyn Host, last: Option<usize>) -> Outcome {
    let view = View::new(host);
    let mut seen = Seen::default();
    let mut entries: Vec<_> = founding(&view, &mut seen).into_iter().collect();
    for (signed, verdict) in host.charter().log() {
        let operation = operation(&view, &mut seen, signed, verdict);
        entries.extend(operation.map(|it| LogEntry::Operation(Box::new(it))));
    }
    let first = entries.len().saturating_sub(last.unwrap_or(entries.len()));
    Outcome::Log(entries.split_off(first))
}

/// Who made an operation, as far as certificates tell.
pub(crate) fn author(charter: &Charter, signed: &Cosigned<Operation>) -> MemberId {
    let device = signed.unverified().author;
    charter.owner(device).unwrap_or_else(|| charter.member_of(device))
}

fn founding(view: &View<'_>, seen: &mut Seen) -> Option<LogEntry> {
    let signed = view.charter().roots().next()?;
    let document = signed.unverified();
    let named = |change: &Change| view.change(change, seen.is_new(change));
    let changes = document.content.iter().filter_map(named).collect();
    let by = view.person(view.charter().member_of(document.keys.first()));
    Some(LogEntry::Founded { id: signed.hash().to_string(), by, changes })
}

fn operation(
    view: &View<'_>,
    seen: &mut Seen,
    signed: &Cosigned<Operation>,
    verdict: &Verdict,
) -> Option<LoggedOperation> {
    let operation = signed.unverified();
    let (level, judged, void) = match verdict {
        Verdict::Void(reason) => (None, None, Some(reason.describe().to_owned())),
        Verdict::Judged(level, judged) => (Some(level.0), Some(judged), None),
    };
    let mut changes = Vec::new();
    for (index, change) in operation.changes.iter().enumerate() {
        let denial = judged.and_then(|judged| judged.get(index)?.err());
        let done = judged.is_some() && denial.is_none();
        let new = done && seen.is_new(change);
        let Some(change) = view.change(change, new || !done) else { continue };
        let denied = denial.map(|denial| DenialView {
            reason: denial.to_string(),
            at: match denial {
                Denial::Right(_, at) => view.seen_at(at),
                _ => None,
            },
        });
        changes.push(LoggedChange { change, done, denied });
    }
    let cuts: Vec<_> = operation.cuts.iter().map(|cut| view.person(cut.member)).collect();
    // Who may see none of it is not told that there is anything.
    if changes.is_empty() && cuts.is_empty() && !operation.changes.is_empty() {
        return None;
    }
    Some(LoggedOperation {
        id: signed.hash().to_string(),
        author: view.person(author(view.charter(), signed)),
        device: operation.author.to_string(),
        term: operation.term,
        sequence: operation.sequence,
        lamport: operation.lamport,
        level,
        void,
        cosigners: operation.cosigners.iter().map(|key| signer(view, *key)).collect(),
        cuts,
        changes,
    })
}

/// Who signs with a key.
pub(crate) fn signer(view: &View<'_>, key: DeviceId) -> String {
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
pub(crate) fn verify(host: &dyn Host) -> Result<Outcome, CommandError> {
    let charter = host.charter();
    let mut again = Charter::restore(&charter.snapshot()).map_err(CharterRefusal::DoesNotHold)?;
    again.set_calendar(charter.calendar());
    if again != *charter || again.state() != charter.state() {
        return Err(CharterRefusal::OtherState.into());
    }
    let (mut void, mut denied) = (0, 0);
    for (_, verdict) in again.log() {
        match verdict {
            Verdict::Void(_) => void += 1,
            Verdict::Judged(_, judged) => denied += judged.iter().filter(|it| it.is_err()).count(),
        }
    }
    let unlisted = again.members().map(|member| again.unlisted(member).len()).sum();
    let officers = again.members().filter(|it| again.state().rank(*it, Place::Organisation).0 == 0);
    let check = CharterCheck {
        holds: true,
        digest: again.digest().to_string(),
        roots: again.roots().count(),
        certificates: again.certificates(),
        unlisted_certificates: unlisted,
        operations: again.operations(),
        void,
        denied,
        checkpoint: again.checkpoint(),
        forked: again.is_forked(),
        stand_for_the_organisation: officers.count(),
    };
    Ok(Outcome::Verified { organisation: again.name().to_owned(), check })
}
