//! What became of a request, as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    change::{ChangeView, DraftContent, RootChange},
    file::OutputFile,
    views::{
        At, CharterCheck, ListedChannel, LogEntry, Missing, MuteOrBan, OrganisationView,
        OwnDevices, PresetSummary, PresetView, RelayView, Rights, RoleView, RootView, SeenTicket,
        Until, WhyView,
    },
};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was to do.
    Unchanged {
        /// Why.
        why: Unchanged,
        /// What else there is to say.
        notes: Vec<Note>,
    },
    /// The charter was changed.
    Changed {
        /// What was changed, as far as the asker may see it.
        changes: Vec<ChangeView>,
        /// Hashes of the operations that did it.
        operations: Vec<String>,
        /// What the request was about.
        about: Option<RequestSubject>,
        /// What else there is to say.
        notes: Vec<Note>,
    },
    /// This would be changed, and was not.
    DryRun {
        /// What would be changed.
        changes: Vec<ChangeView>,
        /// What else there is to say.
        notes: Vec<Note>,
    },
    /// A draft of changes was made.
    Drafted {
        /// What it would change.
        changes: Vec<ChangeView>,
        /// Who has to sign it; with nobody it can be imported.
        cosigners: Vec<String>,
        /// The draft.
        file: OutputFile,
    },
    /// A draft of another root document was made, or would be.
    RootDrafted {
        /// What it would change.
        changes: Vec<RootChange>,
        /// The signatures that it lacks.
        missing: Option<Missing>,
        /// What else there is to say.
        notes: Vec<Note>,
        /// Where the draft goes.
        path: String,
        /// The draft; `None` of a dry run.
        file: Option<OutputFile>,
    },
    /// A checkpoint was made, or would be.
    Checkpoint {
        /// Its number.
        number: u32,
        /// Whether what was cut off since the checkpoint before stands again.
        brings_back: bool,
        /// How far it came.
        step: CheckpointStep,
    },
    /// Another charter of the organisation was read.
    Imported {
        /// The file.
        path: String,
        /// Pieces that were new.
        taken: usize,
        /// Pieces that were not fit to be taken.
        refused: usize,
        /// Whether nothing was taken in truth.
        dry_run: bool,
    },
    /// A draft that all have signed counts now, or would.
    DraftTaken {
        /// What it does.
        content: DraftContent,
        /// What falls with it.
        undone: Vec<Undone>,
        /// Whether it was not taken in truth.
        dry_run: bool,
    },
    /// This device signed a draft.
    Signed {
        /// What the draft would do.
        content: DraftContent,
        /// The signatures that it lacks.
        missing: Option<Missing>,
        /// The draft.
        file: OutputFile,
    },
    /// A key that belongs to no node signed a draft.
    SignedWith {
        /// The key.
        key: String,
        /// The draft.
        file: OutputFile,
    },
    /// All of the charter.
    Exported {
        /// The organisation's name.
        organisation: String,
        /// The charter.
        file: OutputFile,
    },
    /// What this machine says to become a device of another person.
    Consent {
        /// This machine's device.
        device: String,
        /// What it says.
        consent: String,
    },
    /// The organisation at a glance.
    Organisation(Box<OrganisationView>),
    /// Channels in the order of the tree.
    Channels(Vec<ListedChannel>),
    /// Roles, the highest first.
    Roles(Vec<RoleView>),
    /// Presets.
    Presets(Vec<PresetSummary>),
    /// One preset.
    Preset(PresetView),
    /// Relays.
    Relays(Vec<RelayView>),
    /// Policies by name.
    Policies(BTreeMap<String, u32>),
    /// The root keys.
    Root(RootView),
    /// The devices of the member who asks.
    Devices(OwnDevices),
    /// Tickets that this device knows of.
    Tickets(Vec<SeenTicket>),
    /// What was done, in the order in which it counts.
    Log(Vec<LogEntry>),
    /// The charter holds.
    Verified {
        /// The organisation's name.
        organisation: String,
        /// What was checked.
        check: CharterCheck,
    },
    /// What decides about a right.
    Why(Box<WhyView>),
}

impl Outcome {
    /// Nothing was to do, for this reason.
    pub(crate) fn unchanged(why: Unchanged) -> Self {
        Self::Unchanged { why, notes: Vec::new() }
    }

    /// The file that is to be written where the request was typed.
    pub fn file(&self) -> Option<&OutputFile> {
        match self {
            Self::Drafted { file, .. }
            | Self::RootDrafted { file: Some(file), .. }
            | Self::Checkpoint { step: CheckpointStep::Drafted { file, .. }, .. }
            | Self::Signed { file, .. }
            | Self::SignedWith { file, .. }
            | Self::Exported { file, .. } => Some(file),
            _ => None,
        }
    }
}

/// How far a checkpoint came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointStep {
    /// It was not made.
    DryRun,
    /// It counts.
    Settled,
    /// A draft of it was made.
    Drafted {
        /// The signatures that it lacks.
        missing: Option<Missing>,
        /// The draft.
        file: OutputFile,
    },
}

/// What a request was about, for scripts that go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestSubject {
    /// The file of this path.
    File(String),
    /// The channel of this id.
    Channel(String),
    /// The role of this id.
    Role(String),
    /// The preset of this id.
    Preset(String),
    /// This device.
    Device(String),
    /// The ticket of this number.
    Number(String),
    /// A mute or a ban.
    Sanction {
        /// The member, by id.
        member: String,
        /// Where.
        at: At,
        /// Until when.
        until: Until,
    },
}

/// What stood and falls with a draft, as it was made after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Who made it.
    pub by: String,
    /// What.
    pub change: ChangeView,
}

/// Why nothing was to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unchanged {
    /// All is as it was asked for.
    Same,
    /// The charter matches this file.
    Matches(String),
    /// The draft of this path counts already.
    Counts(String),
    /// This device has signed the draft of this path before.
    SignedBefore(String),
    /// Nothing is new since the last checkpoint.
    NothingNew,
    /// The ticket of this number admits nobody: its issuer is gone.
    IssuerGone(String),
    /// The ticket of this number is revoked already.
    RevokedBefore(String),
    /// There is no such mute or ban there.
    NotInForce {
        /// Whose it would be.
        person: String,
        /// Which.
        kind: MuteOrBan,
        /// Where.
        at: At,
        /// Where there is one.
        elsewhere: Vec<At>,
    },
}

/// What else there is to say of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// What a role's holders may that not everybody may.
    RoleAdds {
        /// Those rights.
        adds: Rights,
        /// What everybody may anyway.
        anyway: Rights,
    },
    /// Who stands above others may yet not act on them without these rights, `mute` or `ban`.
    RankAlone(Rights),
    /// A person has the role already, or does not have it.
    HeldAlready {
        /// Who.
        person: String,
        /// Which role.
        role: String,
        /// Where.
        at: At,
        /// Whether the person has it.
        has: bool,
    },
    /// A loaded preset gives the role that is taken, too.
    GivenByPreset,
    /// Tickets of before let somebody in again.
    AnyTicket {
        /// Whether a ban would keep them out.
        kicked: bool,
    },
    /// The channel came with this preset: the change lasts until that is unloaded.
    LastsWithPreset(String),
    /// The device that is retired is the one that asks.
    ThisDevice,
    /// This preset is loaded already.
    LoadedAlready(String),
    /// This preset is not loaded.
    NotLoaded(String),
    /// The preset was loaded: what it brought is gone with it.
    WasLoaded,
    /// This preset stays loaded as it was before the change.
    LoadedAsItWas(String),
    /// Somebody who stands above the asker denies these rights there.
    DeniedFromAbove(Rights),
    /// The charter holds no more single tickets of this person: all so far are revoked.
    AllTicketsOf(String),
    /// Tickets of these people stay good: the asker does not stand above them.
    TicketsStay(Vec<String>),
    /// What a file does not name, and is kept.
    NotInFile {
        /// Channels.
        channels: Vec<String>,
        /// Roles.
        roles: Vec<String>,
        /// Presets.
        presets: Vec<String>,
        /// How many rules.
        rules: usize,
        /// How many links.
        links: usize,
    },
    /// The asker gets this role of the file, as no other lets them join, listen and speak then.
    RoleForYou(String),
    /// What these people do from now on is undone once the draft counts.
    WillBeUndone(Vec<String>),
    /// This device signs no other root document of this version.
    OneDraft(u32),
}
