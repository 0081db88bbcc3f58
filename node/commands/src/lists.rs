//! `hark charter show`, and the lists of each kind of thing.

use std::collections::BTreeMap;

use hark_charter::content::{Channel, Place, Preset, Role, Rule};
use hark_keys::{DeviceId, MemberId, UnixTime};

use crate::{
    Brings, ChannelView, CommandError, GrantView, HeldRole, Holding, Host, KnownTicket, LayoutView,
    LeftView, ListedChannel, MemberView, OrganisationView, Outcome, PlannedNet, PresetSummary,
    PresetView, RelayView, RoleView, RuleView, SanctionInForce, SeenTicket, TicketUse,
    change::policy_of, roots, settings::current, view::View,
};

/// The organisation at a glance.
pub(crate) fn show(host: &dyn Host) -> Result<Outcome, CommandError> {
    let (view, charter) = (View::new(host), host.charter());
    Ok(Outcome::Organisation(Box::new(OrganisationView {
        name: charter.name().to_owned(),
        id: charter.organisation().to_string(),
        you: host.member().to_string(),
        operations: charter.operations(),
        checkpoint: charter.checkpoint(),
        root: roots::keys(&view),
        members: members(&view),
        left: left(&view),
        sanctions: sanctions(&view),
        roles: roles(&view),
        channels: channels(&view),
        rules: rules(&view),
        presets: presets(&view),
        tickets: tickets(host)?,
        relays: relays(&view),
        policies: policies(host),
    })))
}

/// All roles, the highest first, with who holds them.
pub(crate) fn roles(view: &View<'_>) -> Vec<RoleView> {
    let mut roles: Vec<&Role> = view.state.roles().collect();
    roles.sort_by_key(|role| (role.rank, &role.name, role.id));
    let view = |role: &Role| RoleView {
        id: role.id.to_string(),
        name: role.name.clone(),
        rank: role.rank.0,
        can: role.capabilities.into(),
        held: holders(view, role),
    };
    roles.into_iter().map(view).collect()
}

fn holders(view: &View<'_>, role: &Role) -> Vec<Holding> {
    let members = view.members().into_iter().chain(view.left());
    let held = members.flat_map(|member| {
        let grants = view.state.grants(member).filter(|(held, _)| *held == role.id);
        grants.map(move |(_, at)| (member, at)).collect::<Vec<_>>()
    });
    let holding = |(member, at): (MemberId, Place)| {
        let (id, name) = (member.to_string(), view.person(member));
        Some(Holding { member: id, name, at: view.seen_at(at)? })
    };
    held.filter_map(holding).collect()
}

/// The roles of a member, as far as the asker may see where.
fn held(view: &View<'_>, member: MemberId) -> Vec<HeldRole> {
    let grants = view.state.grants(member);
    let held = |(role, at)| Some(HeldRole { role: view.role(role), at: view.seen_at(at)? });
    grants.filter_map(held).collect()
}

fn members(view: &View<'_>) -> Vec<MemberView> {
    let member = |member: MemberId| MemberView {
        id: member.to_string(),
        name: view.person(member),
        rank: view.state.rank(member, Place::Organisation).0,
        roles: held(view, member),
        devices: view.charter().devices_of(member).iter().map(DeviceId::to_string).collect(),
    };
    view.members().into_iter().map(member).collect()
}

fn left(view: &View<'_>) -> Vec<LeftView> {
    let left = |member: MemberId| LeftView {
        id: member.to_string(),
        name: view.person(member),
        roles: held(view, member),
    };
    view.left().map(left).collect()
}

/// The tree of channels.
pub(crate) fn channels(view: &View<'_>) -> Vec<ListedChannel> {
    let listed = |(_, channel): (usize, &Channel)| ListedChannel {
        channel: view_of(view, channel),
        links: view.state.linked(channel.id).filter_map(|it| view.seen_channel(it)).collect(),
        preset: view.state.preset_of(channel.id).map(|preset| view.preset(preset)),
    };
    view.tree().into_iter().map(listed).collect()
}

fn view_of(view: &View<'_>, channel: &Channel) -> ChannelView {
    ChannelView {
        id: channel.id.to_string(),
        name: view.channel_name(channel),
        path: view.channel(channel.id),
        under: view.at(channel.parent).0,
        look: channel.into(),
        order: channel.order,
    }
}

fn rules(view: &View<'_>) -> Vec<RuleView> {
    let tree: Vec<_> = view.tree().into_iter().map(|(_, it)| Place::Channel(it.id)).collect();
    let rules = view.state.rules().filter(|(at, ..)| view.sees_place(*at));
    let mut rules: Vec<_> = rules.collect();
    // Those that hold everywhere first, then as the channels stand.
    rules.sort_by_key(|(at, subject, ..)| (tree.iter().position(|it| it == at), *subject));
    let rule = |(at, subject, allow, deny)| rule(view, &Rule { at, subject, allow, deny });
    rules.into_iter().map(rule).collect()
}

/// A rule with names.
pub(crate) fn rule(view: &View<'_>, rule: &Rule) -> RuleView {
    RuleView {
        subject: view.subject(rule.subject),
        at: view.at(rule.at),
        allow: rule.allow.into(),
        deny: rule.deny.into(),
    }
}

fn sanctions(view: &View<'_>) -> Vec<SanctionInForce> {
    let seen = view.state.sanctions().filter_map(|(it, _)| {
        Some(SanctionInForce {
            member: it.member.to_string(),
            name: view.person(it.member),
            kind: it.kind.into(),
            at: view.seen_at(it.at)?,
            until: it.until.into(),
        })
    });
    seen.collect()
}

/// All presets.
pub(crate) fn presets(view: &View<'_>) -> Vec<PresetSummary> {
    let presets = view.state.presets().map(|preset| {
        let loaded = view.state.loaded().find(|it| it.id == preset.id);
        PresetSummary {
            id: preset.id.to_string(),
            name: preset.name.clone(),
            loaded: loaded.is_some(),
            current: loaded.is_none_or(|loaded| loaded == preset),
            brings: view.brings(preset),
        }
    });
    presets.collect()
}

impl View<'_> {
    /// How much a preset brings that the asker may see.
    pub(crate) fn brings(&self, preset: &Preset) -> Brings {
        Brings {
            channels: preset.channels.iter().filter(|channel| self.sees(channel.id)).count(),
            rules: preset.rules.iter().filter(|rule| self.sees_place(rule.at)).count(),
            grants: preset.grants.iter().filter(|it| self.sees_place(it.at)).count(),
            layouts: preset.layouts.len(),
        }
    }
}

/// What a preset brings.
pub(crate) fn preset(view: &View<'_>, preset: &Preset) -> PresetView {
    let seen = preset.channels.iter().filter(|channel| view.sees(channel.id));
    let mut channels: Vec<_> = seen.map(|channel| view_of(view, channel)).collect();
    channels.sort_by(|a, b| (a.order, &a.path).cmp(&(b.order, &b.path)));
    let rules = preset.rules.iter().filter(|rule| view.sees_place(rule.at));
    let grants = preset.grants.iter().filter_map(|grant| {
        let members = view.people(grant.members.iter().copied());
        Some(GrantView { role: view.role(grant.role), at: view.seen_at(grant.at)?, members })
    });
    let layouts = preset.layouts.iter().map(|layout| {
        let nets = layout.nets.iter().filter_map(|net| {
            Some(PlannedNet {
                channel: view.seen_channel(net.channel)?,
                priority: net.priority,
                pan: net.pan_percent,
                volume: net.volume_percent,
            })
        });
        let keys = layout.keys.iter();
        let key = |id| view.seen_channel(id);
        LayoutView {
            subject: view.subject(layout.subject),
            nets: nets.collect(),
            keys: keys.map(|nets| nets.iter().copied().filter_map(key).collect()).collect(),
        }
    });
    PresetView {
        id: preset.id.to_string(),
        name: preset.name.clone(),
        loaded: view.state.loaded().any(|it| it.id == preset.id),
        channels,
        rules: rules.map(|it| rule(view, it)).collect(),
        grants: grants.collect(),
        layouts: layouts.collect(),
    }
}

/// All relays.
pub(crate) fn relays(view: &View<'_>) -> Vec<RelayView> {
    view.state.relays().map(RelayView::from).collect()
}

/// All policies.
pub(crate) fn policies(host: &dyn Host) -> BTreeMap<String, u32> {
    let named = current(host).map(policy_of);
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What is known of tickets here, those first that expire first.
pub(crate) fn tickets(host: &dyn Host) -> Result<Vec<SeenTicket>, CommandError> {
    let (view, mut tickets) = (View::new(host), host.tickets()?);
    tickets.sort_by_key(|ticket| (ticket.invite.expires, ticket.invite.invite_key));
    let seen = |KnownTicket { invite, devices }: &KnownTicket| {
        let issuer = host.charter().owner(invite.issuer);
        let used = |device: &DeviceId| TicketUse {
            device: device.to_string(),
            name: host.charter().owner(*device).map(|owner| view.person(owner)),
        };
        SeenTicket {
            number: invite.number(),
            key: invite.invite_key.to_string(),
            issuer: issuer.map(|it| it.to_string()),
            issued_by: issuer.map(|it| view.person(it)),
            yours: issuer == Some(host.member()),
            expires: UnixTime::as_secs(invite.expires),
            uses: invite.uses,
            role: invite.role.map(|role| role.to_string()),
            role_name: invite.role.map(|role| view.role(role)),
            for_device: invite.member.is_some(),
            ask: invite.asks,
            used_by: devices.iter().map(used).collect(),
            revoked: issuer.is_some_and(|it| view.state.revokes(it, invite)),
        }
    };
    Ok(tickets.iter().map(seen).collect())
}
