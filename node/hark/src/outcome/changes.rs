//! Changes in words, both planned and done.

use hark_commands::{
    Brings, ChangeView, DraftContent, Look, Rights, RootChange,
    names::{counted, listed},
};

use super::each;

/// A planned change: `make channel Alpha: open`
pub(super) fn to_do(change: &ChangeView) -> String {
    format!("{change}{}", details(change))
}

/// A change that was made: `made channel Alpha: open`
pub(super) fn done(change: &ChangeView) -> String {
    let (verb, what) = change.words();
    format!("{} {what}{}", past(verb), details(change))
}

fn past(verb: &str) -> String {
    match verb {
        "ban" | "unban" => format!("{verb}ned"),
        "drop" => "dropped".to_owned(),
        "give" => "gave".to_owned(),
        "make" => "made".to_owned(),
        "set" => "set".to_owned(),
        "take" => "took".to_owned(),
        regular if regular.ends_with('e') => format!("{regular}d"),
        regular => format!("{regular}ed"),
    }
}

/// Details of a change, to follow its line after a colon.
fn details(change: &ChangeView) -> String {
    let details = match change {
        ChangeView::Role { rank: None, can, .. } => format!("everybody {}", may(can)),
        ChangeView::Role { rank: Some(rank), can, .. } => format!("rank {rank}, {}", may(can)),
        ChangeView::Rule { allow, deny, .. } if !(allow.0.is_empty() && deny.0.is_empty()) => {
            rule(allow, deny)
        }
        ChangeView::Channel { called: None, look, .. } => self::look(look),
        ChangeView::Channel { called: Some(name), look, .. } => {
            format!("called {name}, {}", self::look(look))
        }
        ChangeView::Preset { brings, .. } => self::brings(brings),
        _ => return String::new(),
    };
    format!(": {details}")
}

/// What a new root document changes.
pub(super) fn root(change: &RootChange) -> String {
    match change {
        RootChange::Name(name) => format!("the organisation is called {name}"),
        RootChange::NewKey(key) => format!("new root key: {}, {}", key.key, key.whose()),
        RootChange::OldKey(key) => format!("no root key any more: {}, {}", key.key, key.whose()),
        RootChange::Threshold { threshold, keys } => {
            format!("{threshold} of {} must sign", counted(*keys, "root key"))
        }
        RootChange::Joined(documents) => {
            format!("{} are joined", counted(*documents, "root document"))
        }
    }
}

/// A checkpoint, either planned or done.
pub(super) fn checkpoint(number: u32, done: bool) -> String {
    match done {
        false => format!("settle all that is known as checkpoint {number}"),
        true => format!("settled all that was known as checkpoint {number}"),
    }
}

/// The content of a draft, either planned or done.
pub(super) fn draft(content: &DraftContent, done: bool) -> Vec<String> {
    match content {
        DraftContent::Changes(changes) if done => each(changes, self::done),
        DraftContent::Changes(changes) => each(changes, to_do),
        DraftContent::Root(changes) => each(changes, root),
        DraftContent::Checkpoint(number) => vec![checkpoint(*number, done)],
    }
}

/// The rights of a role.
pub(super) fn may(rights: &Rights) -> String {
    if rights.0.is_empty() { "no rights".to_owned() } else { format!("may {rights}") }
}

/// What a rule allows and denies.
pub(super) fn rule(allow: &Rights, deny: &Rights) -> String {
    let mut does = Vec::new();
    does.extend((!allow.0.is_empty()).then(|| format!("allows {allow}")));
    does.extend((!deny.0.is_empty()).then(|| format!("denies {deny}")));
    if does.is_empty() { "says nothing".to_owned() } else { does.join("; ") }
}

/// How people talk in a channel, and who sees it.
pub(super) fn look(look: &Look) -> String {
    let mut words = vec![match (look.floor, look.loudest) {
        (Some(1), _) => "one talks at a time".to_owned(),
        (Some(most), _) => format!("{most} talk at a time"),
        (None, Some(1)) => "relays pass on the loudest".to_owned(),
        (None, Some(most)) => format!("relays pass on the {most} loudest"),
        (None, None) => "open".to_owned(),
    }];
    let how = if look.stereo { "music in stereo" } else { "music" };
    words.extend(look.music.map(|kbps| format!("{how} at {kbps} kbit/s")));
    let limit = usize::from(look.limit);
    words.extend((limit > 0).then(|| format!("at most {}", counted(limit, "device"))));
    words.extend(look.hidden.then(|| "hidden".to_owned()));
    words.join(", ")
}

/// What a preset contains, in numbers.
pub(super) fn brings(brings: &Brings) -> String {
    let parts = [
        counted(brings.channels, "channel"),
        counted(brings.rules, "rule"),
        counted(brings.grants, "grant"),
        counted(brings.layouts, "layout"),
    ];
    listed(&parts, "and")
}
