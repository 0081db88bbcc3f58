//! `hark charter channel …`

use hark_charter::{
    clean_name,
    content::{
        Capabilities, Change, Channel, ChannelMode, ChannelName, ChannelSound, MEMBER_ROLE,
        MUSIC_KBPS, Place, Rule, Subject,
    },
};
use hark_keys::{ChannelId, RoleId};

use crate::{
    ChannelLook, ChannelRequest, CommandError, Host, How, Mistake, Note, Outcome, PairRequest,
    RequestSubject,
    apply::RADIO,
    edit::{Plan, perform},
    lists,
    view::View,
};

pub(crate) fn execute(
    host: &mut dyn Host,
    request: ChannelRequest,
) -> Result<Outcome, CommandError> {
    match request {
        ChannelRequest::List => Ok(Outcome::Channels(lists::channels(&View::new(host)))),
        ChannelRequest::Add { name, under, only, look, how } => {
            add(host, &name, under.as_deref(), &only, &look, &how)
        }
        ChannelRequest::Edit { channel, name, open, listed, speech, look, how } => {
            check(&look)?;
            let view = View::new(host);
            let mut edited = found(&view, &channel)?.clone();
            let hidden = matches!(edited.name, ChannelName::Hidden(_));
            let mut plan = Plan::default();
            let called = name.as_deref().map(channel_name).transpose()?;
            if called.is_some() || look.hidden != hidden && (look.hidden || listed) {
                let called = called.unwrap_or_else(|| view.channel_name(&edited));
                if called.starts_with('#') {
                    return Err(Mistake::NameNotKnown.into());
                }
                edited.name = plan.name(edited.id, &called, (hidden || look.hidden) && !listed);
            }
            if open {
                edited.mode = ChannelMode::Open;
            }
            if speech {
                edited.sound = ChannelSound::Speech;
            }
            dress(&mut edited, &look);
            if let Some(preset) = view.state.preset_of(edited.id) {
                plan.notes.push(Note::LastsWithPreset(view.preset(preset)));
            }
            if view.state.channel(edited.id) != Some(&edited) {
                plan.changes.push(Change::Channel(edited));
            }
            perform(host, plan, &how)
        }
        ChannelRequest::Move { channel, under, top: _, how } => {
            let view = View::new(host);
            let moved = found(&view, &channel)?;
            let parent = view.find_place(under.as_deref())?;
            if parent == Place::Channel(moved.id) {
                return Err(Mistake::BelowItself(view.channel(moved.id)).into());
            }
            let change = Change::MoveChannel { channel: moved.id, parent };
            let stays = moved.parent == parent;
            perform(host, Plan::of((!stays).then_some(change)), &how)
        }
        ChannelRequest::Remove { channel, how } => {
            let id = View::new(host).find_channel(&channel)?;
            perform(host, Plan::of([Change::RemoveChannel(id)]), &how)
        }
        ChannelRequest::Link(pair) => link(host, &pair, true),
        ChannelRequest::Unlink(pair) => link(host, &pair, false),
    }
}

fn add(
    host: &mut dyn Host,
    name: &str,
    under: Option<&str>,
    only: &[String],
    look: &ChannelLook,
    how: &How,
) -> Result<Outcome, CommandError> {
    check(look)?;
    let name = channel_name(name)?;
    let view = View::new(host);
    let parent = view.find_place(under)?;
    let only: Vec<_> = only.iter().map(|role| view.find_role(role)).collect::<Result<_, _>>()?;
    if only.contains(&MEMBER_ROLE) {
        return Err(Mistake::ForEverybody.into());
    }
    let taken = view
        .tree()
        .into_iter()
        .any(|(_, channel)| channel.parent == parent && view.channel_name(channel) == name);
    if taken {
        return Err(Mistake::Taken("channel", name).into());
    }
    let siblings = view.state.channels().filter(|channel| channel.parent == parent);
    // After all that are there: many hear the first.
    let order = siblings.map(|channel| channel.order.saturating_add(1)).max().unwrap_or_default();
    let id = new_channel(host);
    let mut plan = Plan::default();
    let called = plan.name(id, &name, look.hidden);
    let mut channel = Channel { parent, name: called, order, ..Channel::open(id, &name) };
    dress(&mut channel, look);
    plan.changes.push(Change::Channel(channel));
    plan.changes.extend(closed_but_to(Place::Channel(id), &only));
    plan.about = Some(RequestSubject::Channel(id.to_string()));
    perform(host, plan, how)
}

/// The rules of a place that is for some roles alone.
fn closed_but_to(at: Place, roles: &[RoleId]) -> Vec<Change> {
    let (radio, none) = (RADIO, Capabilities::NONE);
    let rule = |subject, allow, deny| Change::Rule(Rule { at, subject, allow, deny });
    let everyone = (!roles.is_empty()).then(|| rule(Subject::Everyone, none, radio));
    let allowed = roles.iter().map(|role| rule(Subject::Role(*role), radio, none));
    everyone.into_iter().chain(allowed).collect()
}

fn link(host: &mut dyn Host, pair: &PairRequest, linked: bool) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let (a, b) = (view.find_channel(&pair.a)?, view.find_channel(&pair.b)?);
    if a == b {
        return Err(Mistake::LinkedWithItself.into());
    }
    let is_linked = view.state.linked(a).any(|other| other == b);
    let change = Change::Link { a: a.min(b), b: a.max(b), linked };
    perform(host, Plan::of((is_linked != linked).then_some(change)), &pair.how)
}

fn found<'a>(view: &View<'a>, channel: &str) -> Result<&'a Channel, CommandError> {
    let id = view.find_channel(channel)?;
    view.state.channel(id).ok_or_else(|| crate::names::unknown("channel", channel, []))
}

/// Whether the music makes sense. The command line checks it, too, but not a program.
fn check(look: &ChannelLook) -> Result<(), CommandError> {
    match look.music {
        Some(kbps) if !MUSIC_KBPS.contains(&kbps) => Err(Mistake::Music.into()),
        None if look.stereo => Err(Mistake::StereoSpeech.into()),
        _ => Ok(()),
    }
}

fn dress(channel: &mut Channel, look: &ChannelLook) {
    if let Some(most) = look.floor {
        channel.mode = ChannelMode::Floor(most);
    }
    if let Some(most) = look.loudest {
        channel.mode = ChannelMode::Loudest(most);
    }
    let music = if look.stereo { ChannelSound::Stereo } else { ChannelSound::Music };
    channel.sound = look.music.map_or(channel.sound, music);
    channel.limit = look.limit.unwrap_or(channel.limit);
    channel.order = look.order.unwrap_or(channel.order);
}

/// A name that a channel can have: `/` and `#` would make it look like a path or an id.
pub(crate) fn channel_name(name: &str) -> Result<String, CommandError> {
    let clean = named("channel", name)?;
    if clean.contains(['/', '#']) || clean == "everywhere" {
        return Err(Mistake::ChannelName(clean).into());
    }
    Ok(clean)
}

/// A name as it will be shown.
pub(crate) fn named(what: &'static str, name: &str) -> Result<String, CommandError> {
    let clean = clean_name(name);
    if clean.is_empty() {
        return Err(Mistake::EmptyName(what).into());
    }
    if clean != name.trim() {
        return Err(Mistake::Name(what, name.to_owned()).into());
    }
    Ok(clean)
}

pub(crate) fn new_channel(host: &dyn Host) -> ChannelId {
    ChannelId::from_bytes(new_id(host))
}

/// An id that nothing else has.
pub(crate) fn new_id(host: &dyn Host) -> [u8; 16] {
    let mut id = [0; 16];
    host.random().fill(&mut id);
    id
}
