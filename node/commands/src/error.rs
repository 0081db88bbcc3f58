//! Why a request is not carried out: each error says so in a line.

use std::fmt;

use hark_charter::{Denial, EditError, IssueError, PieceError, SnapshotError};

use crate::{
    change::ChangeView,
    host::HostError,
    names::{counted, listed, unknown_text},
    views::{At, Missing, MuteOrBan, Rights, Until},
};

/// Why a request was not carried out. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// What was typed, or stands in a file, makes no sense here.
    #[error(transparent)]
    Mistake(Box<Mistake>),
    /// Nothing, or nothing that may be seen, is called so.
    #[error("{}", unknown_text(what, name, near))]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// What was typed.
        name: String,
        /// What is called nearly so.
        near: Vec<String>,
    },
    /// Several things are called so.
    #[error("several {what} are called {name:?}: {}", listed(candidates, "or"))]
    Ambiguous {
        /// What kind of things.
        what: &'static str,
        /// What was typed.
        name: String,
        /// How each can be named.
        candidates: Vec<String>,
    },
    /// A file cannot be used.
    #[error("{path} {fault}")]
    File {
        /// Where it lies.
        path: String,
        /// Why not.
        fault: Box<FileFault>,
    },
    /// Something in a file is wrong.
    #[error("{path}, line {line}, column {column}: {error}")]
    InFile {
        /// Where the file lies.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The character in that line, from 1.
        column: usize,
        /// What is wrong.
        error: Box<CommandError>,
    },
    /// The asker may not do it, or the charter does not permit it.
    #[error(transparent)]
    Refused(Box<CharterRefusal>),
    /// The charter could not be kept.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<Mistake> for CommandError {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(Box::new(mistake))
    }
}

impl From<CharterRefusal> for CommandError {
    fn from(refusal: CharterRefusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// What makes no sense of what was typed, or stands in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// The name of such a thing is empty.
    #[error("the name of a {0} needs at least one letter")]
    EmptyName(&'static str),
    /// Such a thing cannot have this name.
    #[error("{1:?} is no name for a {0}: at most 32 characters, none of them invisible")]
    Name(&'static str, String),
    /// A channel cannot have this name.
    #[error(
        "a channel cannot be called {0:?}: / and # mean something in names of channels, and so \
         does everywhere"
    )]
    ChannelName(String),
    /// A role cannot have this name.
    #[error("a role cannot be called {0:?}: # and : mean something in names")]
    RoleName(String),
    /// There is such a thing of this name.
    #[error("there is a {0} {1} already")]
    Taken(&'static str, String),
    /// There is a relay of this name, with this device.
    #[error("there is a relay {0} already, with device {1}")]
    RelayTaken(String, String),
    /// A hidden channel is to be named anew by a name that is not known.
    #[error("the name of this channel is not known here: give it with --name")]
    NameNotKnown,
    /// This channel is to lie below itself.
    #[error("{0} cannot lie below itself")]
    BelowItself(String),
    /// A channel is to be for those alone who have the role that everybody has.
    #[error("everybody has the role member")]
    ForEverybody,
    /// The role that everybody has is to be given or taken.
    #[error("every member has this role anyway")]
    MembersRole,
    /// The role that everybody has is to get a rank.
    #[error("everybody has this role, and no rank by it")]
    MembersRank,
    /// The role that everybody has is to be removed.
    #[error("everybody has this role: it stays")]
    MembersRoleStays,
    /// The asker is to be removed.
    #[error("nobody ends their own membership")]
    OwnMembership,
    /// The asker is to be muted or banned.
    #[error("nobody can {} themselves", .0.verb())]
    OwnSanction(MuteOrBan),
    /// A channel is to be linked with itself.
    #[error("a channel hears itself anyway")]
    LinkedWithItself,
    /// The consent is for another person.
    #[error(
        "this consent is for another person: `hark charter device list` prints the code for yours"
    )]
    OthersConsent,
    /// The code is none.
    #[error(
        "this is no code for a consent: `hark charter device list` prints it on a device of yours"
    )]
    ConsentCode,
    /// The consent is none.
    #[error("this is no consent: `hark charter device consent` prints it on the other machine")]
    Consent,
    /// The words of a member are to sign for the organisation.
    #[error(
        "these are a member's words, which bring that membership back and sign nothing: this \
         takes the founder's words, which `hark new` prints under that heading"
    )]
    MembersWords,
    /// A draft would need more than one operation.
    #[error("a draft has room for 32 changes")]
    DraftFull,
    /// The asker is named as a cosigner.
    #[error("you sign your own draft anyway")]
    OwnCosigner,
    /// This person is named as a cosigner.
    #[error("{0} holds no root key")]
    NoRootKey(String),
    /// One change is larger than an operation.
    #[error("this is more than one operation can hold (16 KiB): make it smaller")]
    TooLarge,
    /// A ticket for a device is to ask somebody.
    #[error("a ticket for a device of your own asks nobody")]
    DeviceAsks,
    /// No key and no channel is called `name`.
    #[error(
        "{}; {}, and each channel's name is one, too",
        unknown_text("key or channel", name, &[]),
        known_keys(keys)
    )]
    NoKey {
        /// What was typed.
        name: String,
        /// The keys that there are.
        keys: Vec<String>,
    },
    /// A new root document is to be like the one before.
    #[error(
        "nothing would be different: say what shall be, with --add, --drop, --threshold or --name"
    )]
    NothingDifferent,
    /// There are to be too many root keys, or none.
    #[error("an organisation has 1 to 15 root keys")]
    RootKeys,
    /// So many of so many keys are to sign.
    #[error("{0} of {keys} cannot sign: set --threshold", keys = counted(*.1, "key"))]
    Threshold(u8, usize),
    /// A rule allows and denies the same.
    #[error("a rule cannot both allow and deny {}", .0.0.join(","))]
    AllowedAndDenied(Rights),
    /// The text is no device.
    #[error("{0:?} is no device id: it begins with 12D3KooW")]
    Device(String),
    /// A relay has more addresses than so many.
    #[error("a relay has at most {0} addresses")]
    RelayAddresses(usize),
    /// A policy is to have a value that it cannot have.
    #[error("{0} is 1 or more, not {1}")]
    PolicyValue(String, u32),
    /// `--of` stands without `all`.
    #[error("--of goes with `all`: one ticket is known by its number")]
    OneTicketOf,
    /// A ticket is of another organisation than this one.
    #[error("this ticket is of another organisation than {0}")]
    OthersTicket(String),
    /// No ticket of this number is known.
    #[error(
        "no ticket with the number {0:?} is known here: give the ticket itself, or revoke all of \
         its issuer's with `hark ticket revoke all --of PERSON`"
    )]
    UnknownTicket(String),
    /// The person belonged once, and is banned.
    #[error("{0} is no member any more: banned {1}")]
    Banned(String, Until),
    /// More or less than one right is asked about.
    #[error("ask for one right at a time")]
    OneRight,
    /// The person has no rights at all.
    #[error("{0} is no member: no rights at all")]
    NoMember(String),
    /// No right is called so.
    #[error(transparent)]
    Right(#[from] UnknownRight),
    /// A file is not TOML, or not of the expected form.
    #[error("{0}")]
    Toml(String),
    /// A file is for another organisation than this one.
    #[error("this file is for {0}, and this organisation is {1}")]
    OthersFile(String, String),
    /// Such a thing of this name stands in a file twice.
    #[error("the {0} {1} stands here twice")]
    Twice(&'static str, String),
    /// A role has no rank.
    #[error("a role needs a rank, from 1 to 250")]
    NoRank,
    /// The role that everybody has, has a rank.
    #[error("everybody has this role: it has no rank")]
    RankOfAll,
    /// What was typed for a rank is none.
    #[error(
        "a rank is a number from 1, the highest, to 250, the lowest: its holders act only on those \
         who stand below them"
    )]
    Rank,
    /// A rank in a file is out of its range.
    #[error("a rank is 1 (the highest) to 250")]
    RankRange,
    /// Two rules are about the same.
    #[error("there is a rule for this subject and place above: join the two")]
    RuleTwice,
    /// A rule of a file allows and denies the same.
    #[error("this rule both allows and denies {}", .0.0.join(","))]
    RuleContradicts(Rights),
    /// A rule says nothing.
    #[error("this rule neither allows nor denies anything")]
    RuleEmpty,
    /// What a channel lies below is not known, or stands after it.
    #[error("{0}: list it before what lies below it")]
    UnknownParent(Box<CommandError>),
    /// There is a hidden channel whose name the asker cannot read.
    #[error(
        "there is a hidden channel here already, {0}, and this may be it: only those read its name \
         who may join it, so give yourself a role that may"
    )]
    HiddenThere(String),
    /// Nobody is to talk.
    #[error("this is for one talker or more")]
    NoTalkers,
    /// A channel is to have a floor, and to pass on the loudest.
    #[error("a channel has a floor, or passes on the loudest, not both")]
    FloorAndLoudest,
    /// The bit rate of a channel for music is out of its range.
    #[error("music is 96 to 192 kbit/s")]
    Music,
    /// A channel for speech is to be in stereo.
    #[error("stereo is for music: say music = 128 as well")]
    StereoSpeech,
    /// A pan is out of its range.
    #[error("pan is -100 (left) to 100 (right)")]
    Pan,
    /// A volume is out of its range.
    #[error("volume is 0 to 400 percent")]
    Volume,
    /// There are more things of this kind than so many.
    #[error("at most {0} {1} fit here")]
    TooMany(usize, &'static str),
}

/// No right is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no right {name:?}; {}", match near.as_slice() {
    [] => format!("there are {}", listed(known, "and")),
    near => format!("did you mean {}?", listed(near, "or")),
})]
pub struct UnknownRight {
    /// What was typed.
    pub name: String,
    /// Rights that are called nearly so.
    pub near: Vec<&'static str>,
    /// All rights.
    pub known: Vec<&'static str>,
}

fn known_keys(keys: &[String]) -> String {
    match keys {
        [] => "no key is bound".to_owned(),
        [key] => format!("the only key is {key}"),
        keys if keys.len() > KEYS_SHOWN => {
            let (first, others) = keys.split_at(KEYS_SHOWN);
            format!("the keys are {} and {} more", first.join(", "), others.len())
        }
        keys => format!("the keys are {}", listed(keys, "and")),
    }
}

/// Why a file cannot be used, after its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// It is not UTF-8.
    #[error("is no text")]
    NoText,
    /// It is no draft.
    #[error("is no draft")]
    NoDraft,
    /// It was a draft once.
    #[error("is a damaged draft")]
    DamagedDraft,
    /// A signature in it is not good.
    #[error("holds a signature that is not good")]
    Signature,
    /// It is no charter.
    #[error("is no use: {0}")]
    NoCharter(SnapshotError),
    /// It is the charter of this organisation.
    #[error("is the charter of another organisation, {0}")]
    OthersCharter(String),
    /// It lacks signatures.
    #[error("is not signed by all yet: {0}")]
    Unsigned(Missing),
    /// The charter does not take it.
    #[error("cannot be taken: {0}")]
    NotTaken(PieceError),
    /// It asks others to sign.
    #[error("does not ask for the signature of this device")]
    NotThisDevice,
    /// It asks others to sign.
    #[error("does not ask for the signature of this key")]
    NotThisKey,
    /// It is a checkpoint of something else than what is known.
    #[error(
        "settles something else than what is known here: compare with `hark charter verify`, and \
         make it again once both have the same"
    )]
    OthersPast,
    /// The asker cannot read it.
    #[error("is about something that is not there, or hidden")]
    Unreadable,
    /// It is for another organisation.
    #[error("is of another organisation")]
    Elsewhere,
}

/// Why something is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CharterRefusal {
    /// The asker may not do it.
    #[error("{wish}, {need}; {able}")]
    Denied {
        /// What was wanted.
        wish: Wish,
        /// What is missing.
        need: Need,
        /// Who could do it.
        able: Able,
    },
    /// The asker lacks rights there.
    #[error("{wish}, you need the {} {rights} {at}", if rights.0.len() > 1 { "rights" } else { "right" })]
    Right {
        /// What was wanted.
        wish: Wish,
        /// Which rights.
        rights: Rights,
        /// Where.
        at: At,
    },
    /// No operation can be made.
    #[error("refused: {0}")]
    Edit(EditError),
    /// A file would leave its author without a role that may join, listen and speak.
    #[error(
        "this would leave you without a role that may join, listen and speak: give these rights \
         to a role of the file that ranks below you"
    )]
    LeavesDeaf,
    /// The charter cannot be read again.
    #[error("the charter does not hold: {0}")]
    DoesNotHold(SnapshotError),
    /// The charter is another one when it is read again.
    #[error(
        "the charter does not hold: its pieces lead to another state than the one in use; restart \
         the node, and import an export of somebody else's if that does not help"
    )]
    OtherState,
    /// This device cannot be added.
    #[error("device {0} cannot be added: you have 16 already, or it was retired once")]
    DeviceNotAdded(String),
    /// This device is senior to the one that acts.
    #[error("device {0} is senior to this one: retire it from itself, or from an older one")]
    SeniorDevice(String),
    /// This device has signed another root document of this version. [CHARTER-2.4]
    #[error(
        "this device has signed another root document {0}: two would divide the organisation, so \
         import that one, and propose this after it"
    )]
    SignedOther(u32),
    /// The device of the asker is no root key.
    #[error("a checkpoint needs {}; held by {}", counted((*.0).into(), "root key"), listed(.1, "and"))]
    CheckpointKeys(u8, Vec<String>),
    /// A checkpoint takes several signatures.
    #[error("a checkpoint needs more signatures, {0}: write a draft with --draft FILE")]
    CheckpointSignatures(Missing),
    /// The charter would be another one when it is read again.
    #[error("the charter would not be read again whole")]
    NotWhole,
    /// The charter could not be read again.
    #[error("the charter could not be read again: {0}")]
    NotReadAgain(#[from] ReadError),
    /// The device of the asker belongs to this organisation no more.
    #[error("this device does not belong to {0} any more")]
    FormerDevice(String),
    /// The member has so many devices.
    #[error(
        "you have {}, which is the most: `hark charter device retire` ends one",
        counted(*.0, "device")
    )]
    DevicesFull(usize),
    /// The asker can issue no certificate.
    #[error("you cannot invite: {0}")]
    CannotInvite(IssueError),
    /// A ticket of this organisation is to last longer than so many hours.
    #[error(
        "a ticket of {0} lasts at most {hours} by its policy invite-hours-max: ask for --expires {1}h \
         or less",
        hours = counted(*.1 as usize, "hour")
    )]
    TicketTooLong(String, u32),
}

/// Why a charter could not be read again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It does not take a piece.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// What is written cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// What somebody wanted and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A change.
    Change(Box<ChangeView>),
    /// A change that the asker may not see.
    Unseen,
    /// To let somebody in who waits.
    Admit,
    /// To invite.
    Invite,
    /// To invite with this role.
    InviteWith(String),
    /// To hear this channel.
    Hear(String),
    /// To talk to this channel.
    Talk(String),
    /// To whisper to this person or role.
    Whisper(String),
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => write!(f, "to {change}"),
            Self::Unseen => f.write_str("for this"),
            Self::Admit => f.write_str("to let somebody in"),
            Self::Invite => f.write_str("to invite"),
            Self::InviteWith(role) => write!(f, "to invite with the role {role}"),
            Self::Hear(channel) => write!(f, "to hear {channel}"),
            Self::Talk(channel) => write!(f, "to talk to {channel}"),
            Self::Whisper(name) => write!(f, "to whisper to {name}"),
        }
    }
}

/// What a change needs and the asker has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A right somewhere.
    Right(Rights, At),
    /// To stand above this person.
    Above {
        /// Who.
        person: String,
        /// Whether that person stands above the asker, and not as high.
        higher: bool,
        /// The person's rank: 0 of a root key, 251 of none.
        rank: u8,
    },
    /// Not to stand below the officer who set the mute or ban.
    NotBelowSetter,
    /// A rank that nobody has.
    NoRank,
    /// A rank above this one.
    RankAbove(u8),
    /// A higher rank.
    HigherRank,
    /// To have the rights oneself that it gives.
    Own(Rights),
    /// What it is about, which is not there.
    Absent,
    /// Another tree: the channel would lie below itself.
    Cycle,
    /// So many root keys.
    RootKeys(u8),
    /// What the charter says.
    Other(Denial),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right(rights, at) => write!(f, "you need the right {rights} {at}"),
            Self::Above { person, higher, rank } => {
                let how = if *higher { "above you" } else { "as high as you" };
                write!(f, "you must stand above {person}, who stands {how} (")?;
                match rank {
                    0 => f.write_str("a root key)"),
                    251 => f.write_str("no rank)"),
                    rank => write!(f, "rank {rank})"),
                }
            }
            Self::NotBelowSetter => f.write_str("you must not stand below whoever set it"),
            Self::NoRank => f.write_str("nobody stands high enough"),
            Self::RankAbove(rank) => write!(f, "you need a rank above {rank}"),
            Self::HigherRank => f.write_str("you need a higher rank"),
            Self::Own(rights) => {
                write!(f, "you must yourself have the rights that it gives: {rights} is missing")
            }
            Self::Absent => {
                f.write_str("this is not possible: what it is about is not there, or gone for good")
            }
            Self::Cycle => f.write_str("this is not possible: the channel would lie below itself"),
            Self::RootKeys(1) => f.write_str("you need 1 root key"),
            Self::RootKeys(count) => write!(
                f,
                "you need {count} root keys to sign: write a draft with --draft and --cosigner"
            ),
            Self::Other(denial) => denial.fmt(f),
        }
    }
}

/// Who could make a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Able {
    /// Nobody: it is not possible.
    Nobody,
    /// These members, and so many more; with none, no member alone.
    Members(Vec<String>, usize),
}

impl fmt::Display for Able {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody could"),
            Self::Members(members, 0) if members.is_empty() => f.write_str("no member could alone"),
            Self::Members(members, 0) => write!(f, "{} could", listed(members, "or")),
            Self::Members(members, more) => {
                write!(f, "{} and {more} more could", members.join(", "))
            }
        }
    }
}

/// Keys to name; more would not be read.
const KEYS_SHOWN: usize = 8;
