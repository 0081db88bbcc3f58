//! An overview of the organisation, and a list for each kind of thing in it.

use std::collections::BTreeMap;

use hark_charter::content::MEMBER_ROLE;
use hark_commands::{
    At, Brings, ChannelView, HeldRole, LeftView, ListedChannel, MemberView, OrganisationView,
    OwnDevice, OwnDevices, PresetSummary, PresetView, RelayView, RoleView, RootKeyView, RootView,
    RuleView, SanctionInForce, SeenTicket, TicketUse,
    names::{counted, listed},
};
use hark_keys::UnixTime;
use hark_node::clock::utc;
use serde_json::{Value, json};

use super::{
    changes::{brings, look, may, rule},
    each, indented, merged,
};

/// Root keys and people first, then their rights and where these apply, then what is seldom needed.
pub(super) fn organisation(organisation: &OrganisationView) -> String {
    let OrganisationView { name, id, you, operations, root, .. } = organisation;
    let mut lines = vec![name.clone(), format!("  id {id}")];
    lines.extend(root.forked.then(|| format!("  {FORKED}")));
    lines.push(format!(
        "  {}, {}, {}",
        counted(organisation.members.len(), "member"),
        counted(*operations, "operation"),
        match organisation.checkpoint {
            0 => "no checkpoint yet".to_owned(),
            number => format!("checkpoint {number}"),
        }
    ));
    let parts = [
        ("root keys", self::root(root)),
        ("members", members(&organisation.members, you)),
        ("left", list(&organisation.left, left, "")),
        ("mutes and bans", list(&organisation.sanctions, sanction, "nobody is muted or banned")),
        ("roles", roles(&organisation.roles)),
        ("channels", channels(&organisation.channels)),
        ("rules", list(&organisation.rules, rule_line, "no rules")),
        ("presets", presets(&organisation.presets)),
        ("tickets known here", tickets(&organisation.tickets)),
        ("relays", relays(&organisation.relays)),
        ("policies", policies(&organisation.policies)),
    ];
    // Parts without content are left out: from most organisations nobody has left.
    for (title, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
        lines.extend([String::new(), title.to_owned()]);
        lines.extend(part.lines().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

pub(super) fn organisation_json(organisation: &OrganisationView) -> Value {
    let root = &organisation.root;
    let left = |it: &LeftView| {
        let roles = each(&it.roles, held);
        json!({"id": it.id, "name": it.name, "roles": roles})
    };
    json!({
        "name": organisation.name,
        "id": organisation.id,
        "version": root.version,
        "forked": root.forked,
        "threshold": root.threshold,
        "operations": organisation.operations,
        "checkpoint": organisation.checkpoint,
        "root": root_json(root),
        "members": organisation.members,
        "left": organisation.left.iter().map(left).collect::<Vec<_>>(),
        "sanctions": organisation.sanctions,
        "roles": organisation.roles,
        "channels": organisation.channels,
        "rules": organisation.rules,
        "presets": presets_json(&organisation.presets),
        "tickets": tickets_json(&organisation.tickets),
        "relays": organisation.relays,
        "policies": organisation.policies,
    })
}

pub(super) fn root(root: &RootView) -> String {
    let key = |it: &RootKeyView| format!("{}: {}", it.key, it.whose());
    let mut lines = each(&root.keys, key);
    lines.push(format!("{} of {} must sign", root.threshold, counted(root.keys.len(), "key")));
    lines.push(format!("root document {}", root.version));
    lines.extend(root.forked.then(|| FORKED.to_owned()));
    lines.join("\n")
}

pub(super) fn root_json(root: &RootView) -> Value {
    let key = |it: &RootKeyView| json!({"key": it.key, "holder": it.whose()});
    json!({
        "version": root.version,
        "threshold": root.threshold,
        "keys": root.keys.iter().map(key).collect::<Vec<_>>(),
        "forked": root.forked,
    })
}

fn members(members: &[MemberView], you: &str) -> String {
    let line = |it: &MemberView| {
        let mut words = each(&it.roles, held);
        words.extend((it.rank == 0).then(|| "stands for the organisation".to_owned()));
        words.extend((it.id == you).then(|| "you".to_owned()));
        match words.as_slice() {
            [] => it.name.clone(),
            words => format!("{}: {}", it.name, words.join(", ")),
        }
    };
    list(members, line, "nobody")
}

fn left(left: &LeftView) -> String {
    let roles = each(&left.roles, held);
    let with = match roles.as_slice() {
        [] => String::new(),
        roles => format!(" as {}", listed(roles, "and")),
    };
    format!("{}: can come back{with} by the words of the recovery key", left.name)
}

fn sanction(it: &SanctionInForce) -> String {
    format!("{}: {} {} {}", it.name, it.kind.participle(), it.at, it.until)
}

/// All roles, each with the members who hold it.
pub(super) fn roles(roles: &[RoleView]) -> String {
    let everybodys = MEMBER_ROLE.to_string();
    let line = |role: &RoleView| {
        let (name, may) = (&role.name, may(&role.can));
        if role.id == everybodys {
            return format!("{name}: everybody, {may}");
        }
        let holders: Vec<_> = role.held.iter().map(|it| at_place(&it.name, &it.at)).collect();
        format!("{name}: rank {}, {may}; held by {}", role.rank, listed(&holders, "and"))
    };
    list(roles, line, "no roles")
}

/// The tree of channels.
pub(super) fn channels(channels: &[ListedChannel]) -> String {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for ListedChannel { channel, links, preset } in channels {
        let above = channel.under.as_deref().and_then(|under| depths.get(under));
        let depth = above.map_or(0, |depth| depth + 1);
        depths.insert(&channel.path, depth);
        let mut about = vec![look(&channel.look)];
        about.extend((!links.is_empty()).then(|| format!("linked with {}", listed(links, "and"))));
        about.extend(preset.as_ref().map(|preset| format!("from preset {preset}")));
        let (indent, about) = ("  ".repeat(depth), about.join(", "));
        lines.push(format!("{indent}{}: {about}", channel.name));
    }
    list(&lines, String::clone, "no channels")
}

pub(super) fn rule_line(it: &RuleView) -> String {
    format!("{} {}: {}", it.subject, it.at, rule(&it.allow, &it.deny))
}

pub(super) fn presets(presets: &[PresetSummary]) -> String {
    let line = |it: &PresetSummary| {
        let state = match (it.loaded, it.current) {
            (false, _) => "",
            (true, true) => ", loaded",
            (true, false) => ", loaded as it was before it was changed",
        };
        format!("{}: {}{state}", it.name, brings(&it.brings))
    };
    list(presets, line, "no presets")
}

pub(super) fn presets_json(presets: &[PresetSummary]) -> Value {
    let json = |it: &PresetSummary| json!({"id": it.id, "name": it.name, "loaded": it.loaded, "current": it.current});
    presets.iter().map(json).collect()
}

/// The content of a preset.
pub(super) fn preset(preset: &PresetView) -> String {
    let PresetView { name, channels, rules, grants, layouts, .. } = preset;
    let counts = Brings {
        channels: channels.len(),
        rules: rules.len(),
        grants: grants.len(),
        layouts: layouts.len(),
    };
    let channel = |it: &ChannelView| format!("channel {}: {}", it.path, look(&it.look));
    let mut lines = each(channels, channel);
    lines.extend(each(rules, rule_line));
    lines.extend(grants.iter().map(|grant| {
        let role = at_place(&grant.role, &grant.at);
        format!("{}: {role}", listed(&grant.members, "and"))
    }));
    for layout in layouts {
        let whom = &layout.subject;
        lines.extend(layout.nets.iter().map(|net| {
            format!(
                "{whom} hears {}: priority {}, pan {}, volume {} %",
                net.channel, net.priority, net.pan, net.volume
            )
        }));
        // A key whose targets are all hidden from the reader is not listed.
        let keys = (1..).zip(&layout.keys).filter(|(_, key)| !key.is_empty());
        lines.extend(keys.map(|(number, key)| {
            format!("{whom} talks with key {number} to {}", listed(key, "and"))
        }));
    }
    let first = format!("{name}: {}", brings(&counts));
    if lines.is_empty() { first } else { format!("{first}\n{}", indented(&lines)) }
}

pub(super) fn relays(relays: &[RelayView]) -> String {
    list(relays, ToString::to_string, "no relays")
}

/// All policies, each with its purpose.
pub(super) fn policies(policies: &BTreeMap<String, u32>) -> String {
    let purpose = |(name, value): (&String, &u32)| {
        let purpose = match (name.as_str(), value) {
            ("invite-hours-max", 0) => "invites may last any time",
            ("invite-hours-max", _) => "the longest that an invite may last, in hours",
            _ => "operations of one author that are taken from gossip in a day",
        };
        format!("{name} {value}: {purpose}")
    };
    policies.iter().map(purpose).collect::<Vec<_>>().join("\n")
}

pub(super) fn devices(own: &OwnDevices) -> String {
    let mut lines = vec![format!("devices of {}", own.name)];
    lines.extend(own.devices.iter().map(|it| {
        let mut about = Vec::new();
        about.extend(it.this.then_some("this one"));
        about.extend(it.first.then_some("the first"));
        about.extend(it.root.then_some("a root key"));
        match about.as_slice() {
            [] => format!("  {}", it.device),
            about => format!("  {}  ({})", it.device, about.join(", ")),
        }
    }));
    lines.extend(own.recovery.iter().map(|key| format!("  {key}  (the printed recovery key)")));
    lines.push("to add another one: hark device invite".to_owned());
    lines.push(format!(
        "or, where the two cannot meet, there: hark charter device consent {}",
        own.code
    ));
    lines.join("\n")
}

pub(super) fn devices_json(own: &OwnDevices) -> Value {
    let device = |it: &OwnDevice| it.device.clone();
    json!({
        "member": own.member,
        "devices": each(&own.devices, device),
        "recovery": own.recovery,
        "code": own.code,
    })
}

pub(super) fn tickets(tickets: &[SeenTicket]) -> String {
    list(tickets, ticket, "this device knows of no ticket that is still good")
}

fn ticket(ticket: &SeenTicket) -> String {
    let from = match &ticket.issued_by {
        _ if ticket.yours => "yours".to_owned(),
        Some(issuer) => format!("of {issuer}"),
        None => "of somebody who is gone".to_owned(),
    };
    let whom = match ticket.uses {
        _ if ticket.for_device => "for a further device".to_owned(),
        0 => "any number of uses".to_owned(),
        uses => counted(uses.into(), "use"),
    };
    let mut line = format!("{}  {from}, {whom}", ticket.number);
    line.extend(ticket.role_name.iter().map(|role| format!(", role {role}")));
    if ticket.ask {
        line += ", newcomers are let in by hand";
    }
    line += &format!(", until {}", utc(UnixTime::from_secs(ticket.expires)));
    if ticket.revoked {
        line += "; revoked";
    }
    if !ticket.used_by.is_empty() {
        line += &format!("; used here by {}", listed(&each(&ticket.used_by, user), "and"));
    }
    line
}

/// The member whose device joined by a ticket, or else that device's short id.
fn user(it: &TicketUse) -> String {
    let short = || it.device.parse().map(|device: hark_keys::DeviceId| device.short());
    let device = || format!("the device {}", short().unwrap_or_default());
    it.name.clone().unwrap_or_else(device)
}

pub(super) fn tickets_json(tickets: &[SeenTicket]) -> Value {
    let used = |it: &TicketUse| json!({"device": it.device, "name": user(it)});
    let json = |it: &SeenTicket| {
        let mut json =
            merged(json!(it), json!({"used_by": it.used_by.iter().map(used).collect::<Vec<_>>()}));
        json.as_object_mut().into_iter().for_each(|it| {
            it.retain(|name, _| !["yours", "role_name"].contains(&name.as_str()));
        });
        json
    };
    tickets.iter().map(json).collect()
}

fn held(held: &HeldRole) -> String {
    at_place(&held.role, &held.at)
}

fn at_place(what: &str, at: &At) -> String {
    match at {
        At(None) => what.to_owned(),
        At(Some(_)) => format!("{what} {at}"),
    }
}

fn list<T>(items: &[T], line: impl Fn(&T) -> String, empty: &str) -> String {
    if items.is_empty() { empty.to_owned() } else { each(items, line).join("\n") }
}

/// Shown to every member until a root document joins the branches.
pub(super) const FORKED: &str = "FORKED: the root keys have signed two documents of one version; \
                                 `hark charter root propose` joins them";
