//! `hark charter preset …`

use hark_charter::content::Change;

use crate::{
    CommandError, Host, How, InputFile, NamedRequest, Note, Outcome, PresetRequest, RequestSubject,
    document::{PresetFile, Source},
    edit::{Plan, perform},
    lists,
    names::unknown,
    resolve::Resolver,
    view::View,
};

pub(crate) fn execute(
    host: &mut dyn Host,
    request: PresetRequest,
) -> Result<Outcome, CommandError> {
    match request {
        PresetRequest::List => Ok(Outcome::Presets(lists::presets(&View::new(host)))),
        PresetRequest::Show { name } => {
            let view = View::new(host);
            let id = view.find_preset(&name)?;
            let preset = view.state.presets().find(|preset| preset.id == id);
            let preset = preset.ok_or_else(|| unknown("preset", &name, []))?;
            Ok(Outcome::Preset(lists::preset(&view, preset)))
        }
        PresetRequest::Add { file, how } => add(host, &file, &how),
        PresetRequest::Load(NamedRequest { name, how }) => {
            let view = View::new(host);
            let id = view.find_preset(&name)?;
            let current = view.state.presets().find(|preset| preset.id == id);
            let loaded = view.state.loaded().find(|preset| preset.id == id);
            let mut plan = Plan::default();
            if loaded.is_some() && loaded == current {
                plan.notes.push(Note::LoadedAlready(view.preset(id)));
            } else {
                plan.changes.push(Change::LoadPreset(id));
            }
            perform(host, plan, &how)
        }
        PresetRequest::Unload(NamedRequest { name, how }) => {
            let view = View::new(host);
            let id = view.find_preset(&name)?;
            let mut plan = Plan::default();
            if view.state.loaded().any(|preset| preset.id == id) {
                plan.changes.push(Change::UnloadPreset(id));
            } else {
                plan.notes.push(Note::NotLoaded(view.preset(id)));
            }
            perform(host, plan, &how)
        }
        PresetRequest::Remove(NamedRequest { name, how }) => {
            let view = View::new(host);
            let id = view.find_preset(&name)?;
            let mut plan = Plan::of([Change::RemovePreset(id)]);
            if view.state.loaded().any(|preset| preset.id == id) {
                plan.notes.push(Note::WasLoaded);
            }
            perform(host, plan, &how)
        }
    }
}

fn add(host: &mut dyn Host, file: &InputFile, how: &How) -> Result<Outcome, CommandError> {
    let source = Source::of(file)?;
    let described: PresetFile = source.parse()?;
    let mut plan = Plan::default();
    let preset = Resolver::new(host, source).preset(&mut plan, &described)?;
    plan.about = Some(RequestSubject::Preset(preset.id.to_string()));
    let state = host.charter().state();
    if state.presets().all(|known| *known != preset) {
        note_loaded(&mut plan, host, &preset);
        plan.changes.push(Change::Preset(Box::new(preset)));
    }
    perform(host, plan, how)
}

/// A preset in force stays as it was loaded.
pub(crate) fn note_loaded(
    plan: &mut Plan,
    host: &dyn Host,
    preset: &hark_charter::content::Preset,
) {
    if host.charter().state().loaded().any(|loaded| loaded.id == preset.id) {
        plan.notes.push(Note::LoadedAsItWas(preset.name.clone()));
    }
}
