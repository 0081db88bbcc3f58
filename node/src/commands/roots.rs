//! `hark charter root …`

use hark_charter::{Piece, RootDocument, RootKeys};
use hark_keys::{Cosigned, DeviceId, List, MemberId};
use serde_json::json;

use super::{
    Answer, CommandError, Host, OutputFile, RootRequest,
    channels::named,
    drafts,
    names::{counted, listed, unknown},
    overview::FORKED,
    view::View,
};

pub(super) fn execute(host: &mut dyn Host, request: RootRequest) -> Result<Answer, CommandError> {
    match request {
        RootRequest::Show => Ok(keys(&View::new(host))),
        RootRequest::Sign { file } => drafts::sign(host, &file),
        RootRequest::Propose { add, drop, threshold, name, dry_run, file } => {
            let wish = Wish { add, drop, threshold, name };
            propose(host, &wish, dry_run, &file)
        }
    }
}

/// The root keys, and how many of them must sign.
pub(super) fn keys(view: &View<'_>) -> Answer {
    let charter = view.charter();
    let root = charter.root();
    let mut lines: Vec<_> =
        root.keys.iter().map(|key| format!("{key}: {}", holder(view, key))).collect();
    lines.push(format!(
        "{} of {} must sign",
        root.threshold,
        counted(root.keys.iter().len(), "key")
    ));
    lines.push(format!("root document {}", root.version));
    lines.extend(charter.is_forked().then(|| FORKED.to_owned()));
    let keys: Vec<_> = root
        .keys
        .iter()
        .map(|key| json!({"key": key.to_string(), "holder": holder(view, key)}))
        .collect();
    let json = json!({
        "version": root.version,
        "threshold": root.threshold,
        "keys": keys,
        "forked": charter.is_forked(),
    });
    Answer::new(lines.join("\n"), json)
}

/// Whose a root key is, in words.
fn holder(view: &View<'_>, key: DeviceId) -> String {
    let charter = view.charter();
    let own = if view.host.key().id() == key { ", this device" } else { "" };
    if let Some(owner) = charter.owner(key) {
        return format!("a device of {}{own}", view.person(owner));
    }
    let recovers = |member: &MemberId| {
        let certificate = charter.certificate_of(*member).map(hark_keys::Signed::unverified);
        certificate.is_some_and(|certificate| {
            certificate.recovery.is_some_and(|recovery| recovery.key == key)
        })
    };
    match view.members().into_iter().find(recovers) {
        Some(member) => format!("the printed recovery key of {}", view.person(member)),
        None => format!("no member's{own}"),
    }
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
    path: &str,
) -> Result<Answer, CommandError> {
    let document = next(host, wish)?;
    let charter = host.charter();
    let changes = tell(&View::new(host), charter.root(), &document);
    if changes.is_empty() {
        return Err(CommandError::Input(
            "nothing would be different: say what shall be, with --add, --drop, --threshold or \
             --name"
                .to_owned(),
        ));
    }
    let mut signed = Cosigned::unsigned(document);
    if dry_run {
        let mut text = format!("{path} would draft this:\n  {}", changes.join("\n  "));
        for note in notes(&View::new(host), &signed) {
            text += &format!("\n{note}");
        }
        let json = json!({"changed": false, "dry_run": true, "changes": changes});
        return Ok(Answer::new(text, json));
    }
    let own = host.key().id();
    if charter.is_root(own) || signed.unverified().keys.contains(own) {
        signed = sign(host, signed)?;
    }
    let view = View::new(host);
    let open = open(&view, &signed);
    let mut text = format!(
        "{path} drafts this:\n  {}\n{}",
        changes.join("\n  "),
        drafts::next_step(path, &open)
    );
    for note in notes(&view, &signed) {
        text += &format!("\n{note}");
    }
    let json = json!({"changed": false, "draft": path, "changes": changes, "missing": open});
    let file = OutputFile::draft(path, &Piece::Root(signed));
    Ok(Answer { file: Some(file), ..Answer::new(text, json) })
}

/// What whoever drafts a document has to know until it counts.
fn notes(view: &View<'_>, signed: &Cosigned<RootDocument>) -> Vec<String> {
    let (document, charter) = (signed.unverified(), view.charter());
    let cut = document.cuts.iter().map(|cut| cut.member).filter(|it| charter.is_member(*it));
    let cut = view.people(cut);
    let mut notes = Vec::new();
    if !cut.is_empty() {
        notes.push(format!(
            "what {} {} from now on is undone once this counts, as it is after what this draft lets \
             stand: have it signed and imported first",
            listed(&cut, "and"),
            if cut.len() == 1 { "does" } else { "do" },
        ));
    }
    let own = view.host.key().id();
    if charter.is_root(own) || document.keys.contains(own) {
        notes.push(format!(
            "this device signs no other root document {} than this draft: who thinks better of it \
             has it signed and imported all the same, and proposes the next",
            document.version
        ));
    }
    notes
}

/// The document after the newest, as it was wished for.
fn next(host: &dyn Host, wish: &Wish) -> Result<RootDocument, CommandError> {
    let charter = host.charter();
    let view = View::new(host);
    let root = charter.root();
    let mut keys: Vec<_> = root.keys.iter().collect();
    for text in &wish.drop {
        let key = root_key(&view, text)?;
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
    let keys = keys
        .ok_or_else(|| CommandError::Input("an organisation has 1 to 15 root keys".to_owned()))?;
    let threshold = wish.threshold.unwrap_or(root.threshold);
    if !(1..=count).contains(&threshold.into()) {
        return Err(CommandError::Input(format!(
            "{threshold} of {} cannot sign: set --threshold",
            counted(count, "key")
        )));
    }
    let name = wish.name.as_deref().map(|name| named("organisation", name)).transpose()?;
    Ok(charter.next_root(name.as_deref().unwrap_or(&root.name), keys, threshold))
}

/// A root key by its id, the end of it, or whose it is.
fn root_key(view: &View<'_>, text: &str) -> Result<DeviceId, CommandError> {
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

/// What a new document makes different, in words.
pub(super) fn tell(view: &View<'_>, before: &RootDocument, after: &RootDocument) -> Vec<String> {
    let mut changes = Vec::new();
    if before.name != after.name {
        changes.push(format!("the organisation is called {}", after.name));
    }
    let words = |key: DeviceId| format!("{key}, {}", holder(view, key));
    let new = after.keys.iter().filter(|key| !before.keys.contains(*key));
    changes.extend(new.map(|key| format!("new root key: {}", words(key))));
    let gone = before.keys.iter().filter(|key| !after.keys.contains(*key));
    changes.extend(gone.map(|key| format!("no root key any more: {}", words(key))));
    if before.threshold != after.threshold || before.keys.iter().len() != after.keys.iter().len() {
        let keys = counted(after.keys.iter().len(), "root key");
        changes.push(format!("{} of {keys} must sign", after.threshold));
    }
    if !after.merges.is_empty() {
        changes.push(format!("{} are joined", counted(after.merges.len(), "root document")));
    }
    changes
}

/// Adds this device's signature, and remembers for good to what. [CHARTER-2.4]
pub(super) fn sign(
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
        return Err(CommandError::Refused(format!(
            "this device has signed another root document {version}: two would divide the \
             organisation, so import that one, and propose this after it"
        )));
    }
    host.keep_root_signed(version, hash)?;
    Ok(document.signed(host.key()))
}

/// Which signatures are missing, in words, each need on a line of its own; none where nothing is
/// missing. One signature may meet several needs. [CHARTER-2.2]
pub(super) fn open(view: &View<'_>, document: &Cosigned<RootDocument>) -> Option<String> {
    let before = view.charter().root();
    let words = |key: DeviceId| format!("{} ({})", key.short(), holder(view, key));
    let mut open = Vec::new();
    let senior = document.unverified().lacks_senior(before, document.signers());
    let mut needs_senior = false;
    for (root, which) in [(before, "there are"), (document.unverified(), "there shall be")] {
        let signed = document.signers().filter(|key| root.keys.contains(*key)).count();
        let missing = usize::from(root.threshold).saturating_sub(signed);
        if missing > 0 {
            let others = root.keys.iter().filter(|key| document.signers().all(|it| it != *key));
            let others: Vec<_> = others.collect();
            needs_senior |= others.len() == missing && others.iter().any(|it| Some(*it) == senior);
            let (count, names) = (counted(missing, "signature"), others.into_iter().map(words));
            let names = listed(&names.collect::<Vec<_>>(), "or");
            open.push(format!("of the root keys that {which}: {count} of {names}"));
        }
    }
    if let Some(senior) = senior.filter(|_| !needs_senior) {
        let senior = words(senior);
        open.push(format!(
            "as no lower key does this alone: 1 signature of {senior} or a key above it"
        ));
    }
    (!open.is_empty()).then(|| open.join("; "))
}
