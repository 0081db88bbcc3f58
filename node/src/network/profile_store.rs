//! What the person chooses, kept on disk.

use hark_keys::DeviceId;
use hark_mesh::squad::Squad;
use hark_voice::VoiceCommand;

use super::{Input, Persisted, base::Base, radio::Radio, view::View, working::Working};
use crate::{
    error::NodeError,
    profile::{ProfileAction, ProfileError, Profiles},
    store::{OrganisationStore, StoreError},
};

/// What of the profiles the disk does not have yet.
#[derive(Default)]
pub(super) struct PendingWrite {
    /// There is a file that we cannot read, and so must not replace.
    barred: bool,
    changed: bool,
    /// The disk is at it; what changes meanwhile is written after.
    writing: bool,
    /// The last attempt failed.
    failed: bool,
    /// What was written last.
    kept: Option<Profiles>,
}

impl PendingWrite {
    /// The person has done something.
    pub(super) fn changed(&mut self) {
        self.changed = true;
    }
}

impl Working {
    /// Goes on with what was kept when the node ran last.
    pub(super) fn restore_profiles(
        base: &Base,
        store: &OrganisationStore,
        squad: &Squad,
        radio: &mut Radio,
        view: &mut View,
    ) -> Result<PendingWrite, NodeError> {
        let mut keeping = PendingWrite { changed: true, ..PendingWrite::default() };
        let mut profiles = match store.profiles() {
            Ok(profiles) => profiles.unwrap_or_default(),
            Err(error) => {
                let advice = "repair or remove it; until then nothing that you choose is kept";
                let trouble = format!("{error}: {advice}");
                tracing::error!("{trouble}");
                view.forgetful = Some(trouble);
                keeping.barred = true;
                Profiles::default()
            }
        };
        keeping.kept = Some(profiles.clone());
        if let Some(name) = &base.profile {
            profiles.start_with(name)?;
        }
        radio.restore(squad, profiles, base.profile.is_some());
        Ok(keeping)
    }

    /// Uses, copies or removes a profile; gives what the voice side is to do.
    pub(super) fn change_profile(
        &mut self,
        action: ProfileAction,
        name: &str,
    ) -> Result<Vec<VoiceCommand>, ProfileError> {
        let volumes = |working: &Self| working.radio.profiles().current().volumes().clone();
        let before = volumes(self);
        self.radio.change_profile(&self.driver.squad, action, name)?;
        let after = volumes(self);
        let devices: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = devices.into_iter().filter(|device| before.get(device) != after.get(device));
        Ok(changed.filter_map(|device| self.volume_of(*device)).collect())
    }

    /// Tells the voice side how loud a device is that can be heard.
    pub(super) fn volume_of(&self, device: DeviceId) -> Option<VoiceCommand> {
        let gain = self.radio.volume(device);
        let is_linked = self.base.network.links.best(device).is_some();
        is_linked.then_some(VoiceCommand::Volume { device, gain })
    }

    /// Writes what has changed, away from this thread: at once, but no sooner than the disk has
    /// done with what came before, and after a failure only once a second.
    pub(super) fn keep_profiles(&mut self, second: bool) {
        if !self.keeping.writing && (second || !self.keeping.failed) {
            self.keep_last_profiles();
        }
    }

    /// The same, whatever the disk is at.
    pub(super) fn keep_last_profiles(&mut self) {
        let keeping = &mut self.keeping;
        let profiles = self.radio.profiles();
        if keeping.barred || !std::mem::take(&mut keeping.changed) {
            return;
        }
        let store = self.store.clone();
        if keeping.kept.as_ref() == Some(profiles) {
            return;
        }
        let profiles = profiles.clone();
        keeping.kept = Some(profiles.clone());
        keeping.writing = true;
        let inputs = self.base.input_sender.clone();
        (self.base.network.worker)(Box::new(move || {
            let kept = store.keep_profiles(&profiles);
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Persisted(Persisted::Profiles, kept));
        }));
    }

    /// Writes what has changed of the settings of sound, away from this thread.
    pub(super) fn keep_sound(&self) {
        let Some(write) = self.base.sound.take_unkept() else { return };
        let inputs = self.base.input_sender.clone();
        (self.base.network.worker)(Box::new(move || {
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Persisted(Persisted::Sound, write()));
        }));
    }

    /// The disk has done it, or not.
    pub(super) fn handle_profiles_kept(&mut self, kept: Result<(), StoreError>) {
        self.keeping.writing = false;
        self.keeping.failed = kept.is_err();
        self.view.forgetful = kept.err().map(|error| {
            tracing::warn!(%error, "what was chosen is not kept, and tried again");
            self.keeping.kept = None;
            self.keeping.changed();
            format!("what you choose is not kept: {error}")
        });
    }
}
