//! `hark charter show`, and the lists of each kind of thing.

use hark_charter::content::{
    Capabilities, Channel, ChannelMode, ChannelName, MEMBER_ROLE, Place, Preset, Role, Subject,
};
use hark_keys::{MemberId, UnixTime};
use serde_json::{Value, json};

use super::{
    Answer, CommandError, Host,
    channels::parent_of,
    names::{counted, listed},
    sanctions::{participle, tell_until, verb},
    settings::{current, purpose},
    view::View,
    words::{may, policy_of, tell_channel, tell_preset, tell_relay, tell_rule},
};

/// The organisation at a glance: people first, then what they may and where, then what is seldom
/// asked.
pub(super) fn show(host: &dyn Host) -> Result<Answer, CommandError> {
    let view = View::new(host);
    let charter = host.charter();
    let parts = [
        ("root keys", super::roots::keys(&view)),
        ("members", members(&view)),
        ("left", left(&view)),
        ("mutes and bans", sanctions(&view)),
        ("roles", roles(&view)),
        ("channels", channels(&view)),
        ("rules", rules(&view)),
        ("presets", presets(&view)),
        ("tickets known here", super::tickets::list(host)?),
        ("relays", relays(&view)),
        ("policies", policies(&view)),
    ];
    let mut lines = vec![charter.name().to_owned(), format!("  id {}", charter.organisation())];
    if charter.is_forked() {
        lines.push(format!("  {FORKED}"));
    }
    lines.push(format!(
        "  {}, {}, {}",
        counted(view.members().len(), "member"),
        counted(charter.operations(), "operation"),
        match charter.checkpoint() {
            0 => "no checkpoint yet".to_owned(),
            number => format!("checkpoint {number}"),
        }
    ));
    let mut json = json!({
        "name": charter.name(),
        "id": charter.organisation().to_string(),
        "version": charter.root().version,
        "forked": charter.is_forked(),
        "threshold": charter.root().threshold,
        "operations": charter.operations(),
        "checkpoint": charter.checkpoint(),
    });
    for (title, part) in parts {
        // Of most organisations nobody has left.
        if title != "left" || view.left().next().is_some() {
            tell_part(&mut lines, title, &part);
        }
        let name = match title {
            "root keys" => "root",
            "mutes and bans" => "sanctions",
            "tickets known here" => "tickets",
            title => title,
        };
        json[name] = part.json;
    }
    Ok(Answer::new(lines.join("\n"), json))
}

fn tell_part(lines: &mut Vec<String>, title: &str, part: &Answer) {
    lines.push(String::new());
    lines.push(title.to_owned());
    lines.extend(part.text.lines().map(|line| format!("  {line}")));
}

/// All roles, the highest first, with who holds them.
pub(super) fn roles(view: &View<'_>) -> Answer {
    let mut roles: Vec<&Role> = view.state.roles().collect();
    roles.sort_by_key(|role| (role.rank, &role.name, role.id));
    let told = roles.into_iter().map(|role| {
        let holders: Vec<_> = holders(view, role);
        let mut line = format!("{}: ", role.name);
        if role.id == MEMBER_ROLE {
            line += &format!("everybody, {}", may(role.capabilities));
        } else {
            line += &format!("rank {}, {}", role.rank.0, may(role.capabilities));
            let named: Vec<_> =
                holders.iter().map(|(member, at)| at_place(view, &view.person(*member), *at)).collect();
            line += &format!("; held by {}", listed(&named, "and"));
        }
        let held = holders.iter().map(|(member, at)| {
            json!({"member": member.to_string(), "name": view.person(*member), "at": place(view, *at)})
        });
        let json = json!({
            "id": role.id.to_string(),
            "name": role.name,
            "rank": role.rank.0,
            "can": rights(role.capabilities),
            "held": held.collect::<Vec<_>>(),
        });
        (line, json)
    });
    list(told, "no roles")
}

fn holders(view: &View<'_>, role: &Role) -> Vec<(MemberId, Place)> {
    let members = view.members().into_iter().chain(view.left());
    let held = members.flat_map(|member| {
        let grants = view.state.grants(member).filter(|(held, _)| *held == role.id);
        grants.map(move |(_, at)| (member, at)).collect::<Vec<_>>()
    });
    held.filter(|(_, at)| view.sees_place(*at)).collect()
}

fn members(view: &View<'_>) -> Answer {
    let root = |member| view.state.rank(member, Place::Organisation).0 == 0;
    let told = view.members().into_iter().map(|member| {
        let grants = view.state.grants(member).filter(|(_, at)| view.sees_place(*at));
        let grants: Vec<_> = grants.collect();
        let mut held: Vec<_> =
            grants.iter().map(|(role, at)| at_place(view, &view.role(*role), *at)).collect();
        held.extend(root(member).then(|| "stands for the organisation".to_owned()));
        held.extend((member == view.host.member()).then(|| "you".to_owned()));
        let person = view.person(member);
        let line =
            if held.is_empty() { person.clone() } else { format!("{person}: {}", held.join(", ")) };
        let roles: Vec<_> = grants
            .iter()
            .map(|(role, at)| json!({"role": view.role(*role), "at": place(view, *at)}))
            .collect();
        let devices: Vec<_> =
            view.charter().devices_of(member).iter().map(ToString::to_string).collect();
        let json = json!({
            "id": member.to_string(),
            "name": person,
            "rank": view.state.rank(member, Place::Organisation).0,
            "roles": roles,
            "devices": devices,
        });
        (line, json)
    });
    list(told, "nobody")
}

/// Who has left, and can come back: with the roles as they were.
fn left(view: &View<'_>) -> Answer {
    let told = view.left().map(|member| {
        let grants = view.state.grants(member).filter(|(_, at)| view.sees_place(*at));
        let held: Vec<_> = grants.map(|(role, at)| at_place(view, &view.role(role), at)).collect();
        let (person, with) = (view.person(member), listed(&held, "and"));
        let with = if held.is_empty() { String::new() } else { format!(" as {with}") };
        let line = format!("{person}: can come back{with} by the words of the recovery key");
        (line, json!({"id": member.to_string(), "name": person, "roles": held}))
    });
    list(told, "nobody")
}

/// The tree of channels.
pub(super) fn channels(view: &View<'_>) -> Answer {
    let told = view.tree().into_iter().map(|(depth, channel)| {
        let linked = view.state.linked(channel.id).filter(|other| view.sees(*other));
        let linked: Vec<_> = linked.map(|other| view.channel(other)).collect();
        let preset = view.state.preset_of(channel.id).map(|preset| view.preset(preset));
        let mut about = vec![tell_channel(channel)];
        about.extend(
            (!linked.is_empty()).then(|| format!("linked with {}", listed(&linked, "and"))),
        );
        about.extend(preset.as_ref().map(|preset| format!("from preset {preset}")));
        let (indent, name) = ("  ".repeat(depth), view.channel_name(channel));
        let line = format!("{indent}{name}: {}", about.join(", "));
        let json = json!({"links": linked, "preset": preset});
        (line, merged(channel_json(view, channel), json))
    });
    list(told, "no channels")
}

fn channel_json(view: &View<'_>, channel: &Channel) -> Value {
    json!({
        "id": channel.id.to_string(),
        "name": view.channel_name(channel),
        "path": view.channel(channel.id),
        "under": parent_of(channel.parent).map(|parent| view.channel(parent)),
        "floor": match channel.mode {
            ChannelMode::Open | ChannelMode::Loudest(_) => None,
            ChannelMode::Floor(most) => Some(most),
        },
        "loudest": match channel.mode {
            ChannelMode::Open | ChannelMode::Floor(_) => None,
            ChannelMode::Loudest(most) => Some(most),
        },
        "limit": channel.limit,
        "order": channel.order,
        "hidden": matches!(channel.name, ChannelName::Hidden(_)),
    })
}

fn rules(view: &View<'_>) -> Answer {
    let tree: Vec<_> = view.tree().into_iter().map(|(_, it)| Place::Channel(it.id)).collect();
    let rules = view.state.rules().filter(|(at, ..)| view.sees_place(*at));
    let mut rules: Vec<_> = rules.collect();
    // Those that hold everywhere first, then as the channels stand.
    rules.sort_by_key(|(at, subject, ..)| (tree.iter().position(|it| it == at), *subject));
    let rules = rules.into_iter();
    list(rules.map(|(at, subject, allow, deny)| rule(view, at, subject, allow, deny)), "no rules")
}

fn rule(
    view: &View<'_>,
    at: Place,
    subject: Subject,
    allow: Capabilities,
    deny: Capabilities,
) -> (String, Value) {
    let whom = view.subject(subject);
    let line = format!("{whom} {}: {}", view.place(at), tell_rule(allow, deny));
    let json = json!({
        "subject": whom,
        "at": place(view, at),
        "allow": rights(allow),
        "deny": rights(deny),
    });
    (line, json)
}

/// All that is in force.
fn sanctions(view: &View<'_>) -> Answer {
    let seen = view.state.sanctions().filter(|(it, _)| view.sees_place(it.at));
    let told = seen.map(|(it, _)| {
        let (person, at) = (view.person(it.member), view.place(it.at));
        let line = format!("{person}: {} {at} {}", participle(it.kind), tell_until(it.until));
        let json = json!({
            "member": it.member.to_string(),
            "name": person,
            "kind": verb(it.kind),
            "at": place(view, it.at),
            "until": it.until.map(UnixTime::as_secs),
        });
        (line, json)
    });
    list(told, "nobody is muted or banned")
}

/// All presets.
pub(super) fn presets(view: &View<'_>) -> Answer {
    let told = view.state.presets().map(|preset| {
        let loaded = view.state.loaded().find(|it| it.id == preset.id);
        let state = match loaded {
            None => "",
            Some(loaded) if loaded == preset => ", loaded",
            Some(_) => ", loaded as it was before it was changed",
        };
        let line = format!("{}: {}{state}", preset.name, tell_preset(view, preset));
        let json = json!({
            "id": preset.id.to_string(),
            "name": preset.name,
            "loaded": loaded.is_some(),
            "current": loaded.is_none_or(|loaded| loaded == preset),
        });
        (line, json)
    });
    list(told, "no presets")
}

/// What a preset brings.
pub(super) fn preset(view: &View<'_>, preset: &Preset) -> Answer {
    let mut lines = vec![format!("{}: {}", preset.name, tell_preset(view, preset))];
    let seen: Vec<_> = preset.channels.iter().filter(|channel| view.sees(channel.id)).collect();
    let mut channels: Vec<_> = seen.iter().map(|it| (it.order, view.channel(it.id), *it)).collect();
    channels.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, path, channel) in &channels {
        lines.push(format!("  channel {path}: {}", tell_channel(channel)));
    }
    let rules = preset.rules.iter().filter(|rule| view.sees_place(rule.at));
    let (told, rules): (Vec<_>, Vec<_>) =
        rules.map(|it| rule(view, it.at, it.subject, it.allow, it.deny)).unzip();
    lines.extend(told.iter().map(|line| format!("  {line}")));
    let mut grants = Vec::new();
    for grant in preset.grants.iter().filter(|grant| view.sees_place(grant.at)) {
        let people = view.people(grant.members.iter().copied());
        let role = at_place(view, &view.role(grant.role), grant.at);
        lines.push(format!("  {}: {role}", listed(&people, "and")));
        grants.push(json!({
            "role": view.role(grant.role), "at": place(view, grant.at), "members": people,
        }));
    }
    let mut layouts = Vec::new();
    for layout in preset.layouts.iter() {
        let whom = view.subject(layout.subject);
        let nets = layout.nets.iter().filter(|net| view.sees(net.channel));
        let nets: Vec<_> = nets
            .map(|net| {
                let path = view.channel(net.channel);
                lines.push(format!(
                    "  {whom} hears {path}: priority {}, pan {}, volume {} %",
                    net.priority, net.pan_percent, net.volume_percent
                ));
                json!({
                    "channel": path, "priority": net.priority, "pan": net.pan_percent,
                    "volume": net.volume_percent,
                })
            })
            .collect();
        let keys: Vec<Vec<_>> = layout
            .keys
            .iter()
            .map(|key| {
                key.iter().filter(|id| view.sees(**id)).map(|id| view.channel(*id)).collect()
            })
            .collect();
        // Of a key that talks to nothing that may be seen, nothing is said.
        for (number, key) in (1..).zip(&keys).filter(|(_, key)| !key.is_empty()) {
            lines.push(format!("  {whom} talks with key {number} to {}", listed(key, "and")));
        }
        layouts.push(json!({"for": whom, "nets": nets, "keys": keys}));
    }
    let channels: Vec<_> = channels.iter().map(|(.., it)| channel_json(view, it)).collect();
    let json = json!({
        "id": preset.id.to_string(),
        "name": preset.name,
        "loaded": view.state.loaded().any(|it| it.id == preset.id),
        "channels": channels,
        "rules": rules,
        "grants": grants,
        "layouts": layouts,
    });
    Answer::new(lines.join("\n"), json)
}

/// All relays.
pub(super) fn relays(view: &View<'_>) -> Answer {
    let told = view.state.relays().map(|relay| {
        let addresses: Vec<_> = relay.addresses.iter().map(ToString::to_string).collect();
        let json = json!({
            "device": relay.device.to_string(),
            "name": relay.name,
            "addresses": addresses,
            "members": relay.members_max,
            "kbps": relay.rate_kbps,
        });
        (tell_relay(relay), json)
    });
    list(told, "no relays")
}

/// All policies.
pub(super) fn policies(view: &View<'_>) -> Answer {
    let mut answer = list(current(view.host).map(|it| (purpose(it), Value::Null)), "no policies");
    answer.json = current(view.host)
        .map(policy_of)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    answer
}

fn at_place(view: &View<'_>, what: &str, at: Place) -> String {
    match at {
        Place::Organisation => what.to_owned(),
        Place::Channel(_) => format!("{what} {}", view.place(at)),
    }
}

/// A place for scripts: a path, or null for everywhere.
pub(super) fn place(view: &View<'_>, at: Place) -> Value {
    json!(parent_of(at).map(|channel| view.channel(channel)))
}

/// Rights for scripts.
pub(super) fn rights(rights: Capabilities) -> Vec<String> {
    rights.iter().map(|right| right.to_string()).collect()
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

fn list(told: impl IntoIterator<Item = (String, Value)>, empty: &str) -> Answer {
    let (lines, json): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    let text = if lines.is_empty() { empty.to_owned() } else { lines.join("\n") };
    Answer::new(text, Value::Array(json))
}

/// Shown to everybody, until a root document joins the branches.
pub(super) const FORKED: &str = "FORKED: the root keys have signed two documents of one version; \
                                 `hark charter root propose` joins them";
