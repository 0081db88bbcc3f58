//! `hark charter root …`

use hark_charter::{Piece, RootDocument, RootKeys};
use hark_keys::{Cosigned, DeviceId, List, MemberId};

use crate::{
    CharterRefusal, CommandError, Holder, Host, Missing, Mistake, Note, Outcome, OutputFile,
    RootChange, RootKeyView, RootRequest, RootView, SignatureNeed, channels::named, drafts,
    names::unknown, view::View,
};

pub(crate) fn execute(host: &mut dyn Host, request: RootRequest) -> Result<Outcome, CommandError> {
    match request {
        RootRequest::Show => Ok(Outcome::Root(keys(&View::new(host)))),
        RootRequest::Sign { file } => drafts::sign(host, &file),
        RootRequest::Propose { add, drop, threshold, name, dry_run, file } => {
            let wish = Wish { add, drop, threshold, name };
            propose(host, &wish, dry_run, file)
        }
    }
}

/// The root keys, and how many of them must sign.
pub(crate) fn keys(view: &View<'_>) -> RootView {
    let root = view.charter().root();
    RootView {
        version: root.version,
        threshold: root.threshold,
        keys: root.keys.iter().map(|key| root_key(view, key)).collect(),
        forked: view.charter().is_forked(),
    }
}

/// A root key, with whose it is.
fn root_key(view: &View<'_>, key: DeviceId) -> RootKeyView {
    let charter = view.charter();
    let recovers = |member: &MemberId| {
        let certificate = charter.certificate_of(*member).map(hark_keys::Signed::unverified);
        certificate.is_some_and(|certificate| {
            certificate.recovery.is_some_and(|recovery| recovery.key == key)
        })
    };
    let holder = match charter.owner(key) {
        Some(owner) => Holder::Device(view.person(owner)),
        None => match view.members().into_iter().find(recovers) {
            Some(member) => Holder::Printed(view.person(member)),
            None => Holder::Nobody,
        },
    };
    RootKeyView { key: key.to_string(), holder, this_device: view.host.key().id() == key }
}

/// What shall be different.
struct Wish {
    add: Vec<String>,
    drop: Vec<String>,
    threshold: Option<u8>,
    name: Option<String>,
}

fn propose(
    host: &mut dyn Host,
    wish: &Wish,
    dry_run: bool,
    path: String,
) -> Result<Outcome, CommandError> {
    let document = next(host, wish)?;
    let charter = host.charter();
    let changes = changes(&View::new(host), charter.root(), &document);
    if changes.is_empty() {
        return Err(Mistake::NothingDifferent.into());
    }
    let mut signed = Cosigned::unsigned(document);
    let own = host.key().id();
    if !dry_run && (charter.is_root(own) || signed.unverified().keys.contains(own)) {
        signed = sign(host, signed)?;
    }
    let view = View::new(host);
    let (missing, notes) = (missing(&view, &signed), notes(&view, &signed));
    let file = (!dry_run).then(|| OutputFile::draft(&path, &Piece::Root(signed)));
    Ok(Outcome::RootDrafted { changes, missing, notes, path, file })
}

/// What whoever drafts a document has to know until it counts.
fn notes(view: &View<'_>, signed: &Cosigned<RootDocument>) -> Vec<Note> {
    let (document, charter) = (signed.unverified(), view.charter());
    let cut = document.cuts.iter().map(|cut| cut.member).filter(|it| charter.is_member(*it));
    let cut = view.people(cut);
    let mut notes = Vec::new();
    notes.extend((!cut.is_empty()).then_some(Note::WillBeUndone(cut)));
    let own = view.host.key().id();
    let signs = charter.is_root(own) || document.keys.contains(own);
    notes.extend(signs.then_some(Note::OneDraft(document.version)));
    notes
}

/// The document after the newest, as it was wished for.
fn next(host: &dyn Host, wish: &Wish) -> Result<RootDocument, CommandError> {
    let charter = host.charter();
    let view = View::new(host);
    let root = charter.root();
    let mut keys: Vec<_> = root.keys.iter().collect();
    for text in &wish.drop {
        let key = find_key(&view, text)?;
        keys.retain(|known| *known != key);
    }
    for text in &wish.add {
        let key = match text.parse() {
            Ok(device) => device,
            Err(_) => {
                let member = view.find_person(text)?;
                let device = charter.devices_of(member).first().copied();
                device.ok_or_else(|| unknown("device", text, []))?
            }
        };
        if !keys.contains(&key) {
            // The most senior is the last. [CHARTER-2.3]
            keys.insert(0, key);
        }
    }
    let count = keys.len();
    let keys = Some(List::truncated(keys)).filter(|list| list.len() == count);
    let keys = keys.and_then(|list| RootKeys::try_from(list).ok());
    let keys = keys.ok_or(Mistake::RootKeys)?;
    let threshold = wish.threshold.unwrap_or(root.threshold);
    if !(1..=count).contains(&threshold.into()) {
        return Err(Mistake::Threshold(threshold, count).into());
    }
    let name = wish.name.as_deref().map(|name| named("organisation", name)).transpose()?;
    Ok(charter.next_root(name.as_deref().unwrap_or(&root.name), keys, threshold))
}

/// A root key by its id, the end of it, or whose it is.
fn find_key(view: &View<'_>, text: &str) -> Result<DeviceId, CommandError> {
    let keys: Vec<_> = view.charter().root().keys.iter().collect();
    let ends = |key: &&DeviceId| text.len() >= 4 && key.to_string().ends_with(text);
    if let Some(key) = keys.iter().find(ends) {
        return Ok(*key);
    }
    let devices = view.find_person(text).map(|member| view.charter().devices_of(member));
    let mut own = keys.iter().filter(|key| devices.as_ref().is_ok_and(|it| it.contains(key)));
    match (own.next(), own.next()) {
        (Some(key), None) => Ok(*key),
        _ => Err(unknown("root key", text, [])),
    }
}

/// What a new document makes different.
pub(crate) fn changes(
    view: &View<'_>,
    before: &RootDocument,
    after: &RootDocument,
) -> Vec<RootChange> {
    let mut changes = Vec::new();
    if before.name != after.name {
        changes.push(RootChange::Name(after.name.clone()));
    }
    let new = after.keys.iter().filter(|key| !before.keys.contains(*key));
    changes.extend(new.map(|key| RootChange::NewKey(root_key(view, key))));
    let gone = before.keys.iter().filter(|key| !after.keys.contains(*key));
    changes.extend(gone.map(|key| RootChange::OldKey(root_key(view, key))));
    let keys = after.keys.iter().len();
    if before.threshold != after.threshold || before.keys.iter().len() != keys {
        changes.push(RootChange::Threshold { threshold: after.threshold, keys });
    }
    if !after.merges.is_empty() {
        changes.push(RootChange::Joined(after.merges.len()));
    }
    changes
}

/// Adds this device's signature, and remembers for good to what. [CHARTER-2.4]
pub(crate) fn sign(
    host: &mut dyn Host,
    document: Cosigned<RootDocument>,
) -> Result<Cosigned<RootDocument>, CommandError> {
    let (version, hash, own) = (document.unverified().version, document.hash(), host.key().id());
    let other = host.charter().roots().find(|known| {
        known.unverified().version == version
            && known.hash() != hash
            && known.signers().any(|key| key == own)
    });
    let before = host.root_signed(version)?.filter(|before| *before != hash);
    if before.is_some() || other.is_some() {
        return Err(CharterRefusal::SignedOther(version).into());
    }
    host.keep_root_signed(version, hash)?;
    Ok(document.signed(host.key()))
}

/// Which signatures are missing, if any are. [CHARTER-2.2]
pub(crate) fn missing(view: &View<'_>, document: &Cosigned<RootDocument>) -> Option<Missing> {
    let before = view.charter().root();
    let mut needs = Vec::new();
    let senior = document.unverified().lacks_senior(before, document.signers());
    let mut needs_senior = false;
    for (root, coming) in [(before, false), (document.unverified(), true)] {
        let signed = document.signers().filter(|key| root.keys.contains(*key)).count();
        let count = usize::from(root.threshold).saturating_sub(signed);
        if count > 0 {
            let others = root.keys.iter().filter(|key| document.signers().all(|it| it != *key));
            let others: Vec<_> = others.collect();
            needs_senior |= others.len() == count && others.iter().any(|it| Some(*it) == senior);
            let of = others.into_iter().map(|key| root_key(view, key)).collect();
            needs.push(match coming {
                false => SignatureNeed::Present { count, of },
                true => SignatureNeed::Coming { count, of },
            });
        }
    }
    if let Some(senior) = senior.filter(|_| !needs_senior) {
        needs.push(SignatureNeed::Senior(root_key(view, senior)));
    }
    (!needs.is_empty()).then_some(Missing::Needs(needs))
}
