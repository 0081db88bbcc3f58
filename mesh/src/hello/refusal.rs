use hark_charter::{ChainError, IssueError, Piece};
use hark_keys::RedemptionError;

use super::MAGIC;

/// Reasons why a listener does not accept a Hello, in words for the person who dialled. [PROTO-3.6]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no version that both sides speak.
    #[error("the other side speaks another version of Hark: update the older one")]
    Version,
    /// The listener does not know the dialler's organisation.
    #[error("the other side does not belong to this organisation")]
    Stranger,
    /// The certificates do not prove that the dialler belongs to the organisation.
    #[error("the other side does not accept this device's certificate: ask for a new ticket")]
    Certificate,
    /// The ticket has expired by the listener's clock.
    #[error("the ticket has expired: ask for a new one")]
    TicketExpired,
    /// The ticket has been used by as many devices as it is for.
    #[error("the ticket has been used as often as it may be: ask for a new one")]
    TicketUsedUp,
    /// The ticket names other doors, or the listener cannot admit at all, or cannot give the
    /// ticket's role.
    #[error("this ticket is not redeemed by the other side: one of its doors has to be online")]
    NotADoor,
    /// The ticket is forged, or was issued by somebody whom the listener does not know.
    #[error("the ticket is not valid: ask for a new one")]
    TicketInvalid,
    /// The issuer of the ticket cannot give its role any more, or nobody can.
    #[error("the ticket's role cannot be given any more: ask for a new ticket")]
    TicketRole,
    /// The listener has no room at present.
    #[error("the other side has no room for more at present: try again later")]
    Busy,
    /// The dialler was a member, or its device was a member's, and is not any more. By itself this
    /// is only a hint; [`HelloError::Ended`] comes with the proof. [PROTO-3.8]
    #[error("the other side says that this device was removed: ask for a new ticket")]
    Removed,
    /// The listener is a relay. It admits nobody, and leads to members that do. [PROTO-3.10]
    #[error(
        "the other side is a relay, which admits nobody: one of the ticket's doors has to be online"
    )]
    Leads,
    /// The door is still adding the device to those of its member. The dialler should try the same
    /// again.
    #[error("the other side has not added this device yet: try again")]
    Later,
    /// The member of the dialling device is banned. [CHARTER-6.9]
    #[error(
        "an officer has banned you from this organisation: no ticket lets you in until the ban ends"
    )]
    Banned,
    /// The ticket was revoked, by the charter that the listener holds. [CHARTER-9.1]
    #[error("the ticket was revoked: ask whoever gave it to you for a new one")]
    TicketRevoked,
    /// A person at the listener is being asked. The dialler repeats the same until they have
    /// answered. [PROTO-4.10]
    #[error("somebody there has to let you in")]
    Waiting,
    /// A person at the listener does not let the dialler in.
    #[error("somebody there has turned you away: ask them for a new ticket")]
    TurnedAway,
}

impl Refusal {
    /// The answer with this refusal, without a seal.
    pub(super) fn answer(self) -> Vec<u8> {
        [&MAGIC[..], &[0, self.code()]].concat()
    }

    /// The byte that encodes the refusal. [PROTO-3.6]
    pub const fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Stranger => 2,
            Self::Certificate => 3,
            Self::TicketExpired => 4,
            Self::TicketUsedUp => 5,
            Self::NotADoor => 6,
            Self::TicketInvalid => 7,
            Self::Busy => 8,
            Self::Removed => 9,
            Self::Later => 10,
            Self::TicketRole => 11,
            Self::Leads => 12,
            Self::Banned => 13,
            Self::TicketRevoked => 14,
            Self::Waiting => 15,
            Self::TurnedAway => 16,
        }
    }

    /// The refusal that `code` encodes.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Version,
            2 => Self::Stranger,
            3 => Self::Certificate,
            4 => Self::TicketExpired,
            5 => Self::TicketUsedUp,
            6 => Self::NotADoor,
            7 => Self::TicketInvalid,
            8 => Self::Busy,
            9 => Self::Removed,
            10 => Self::Later,
            11 => Self::TicketRole,
            12 => Self::Leads,
            13 => Self::Banned,
            14 => Self::TicketRevoked,
            15 => Self::Waiting,
            16 => Self::TurnedAway,
            _ => return None,
        })
    }
}

impl From<RedemptionError> for Refusal {
    fn from(error: RedemptionError) -> Self {
        match error {
            RedemptionError::Expired => Self::TicketExpired,
            _ => Self::TicketInvalid,
        }
    }
}

impl From<IssueError> for Refusal {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::NotMember | IssueError::Right | IssueError::TooFar => Self::NotADoor,
        }
    }
}

/// Reasons why a dialler does not continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The listener refuses, and has shown that it knows the organisation.
    #[error("{0}")]
    Refused(Refusal),
    /// The listener refuses, but has not shown that it knows the organisation. Anybody could say
    /// so. [PROTO-3.6]
    #[error("{0}")]
    Unsealed(Refusal),
    /// The listener says that the dialler was removed, and sends these pieces of the charter as
    /// proof. They are to be taken like any others. The removal is true if the charter then says
    /// so. [PROTO-3.8]
    #[error("{}", Refusal::Removed)]
    Ended(Vec<Piece>),
    /// The answer is not valid, or is not from a device that knows the organisation.
    #[error("the other side gave no proper answer")]
    Malformed,
    /// The listener admits to another organisation than the ticket's.
    #[error("the other side answered for another organisation than the ticket's")]
    WrongOrganisation,
    /// The listener says that it is a relay, but the charter does not name it.
    #[error("the other side is no relay of the organisation")]
    NotRelay,
    /// The listener does not prove that it belongs, or gave a certificate that proves nothing.
    #[error("the other side is no member: {0}")]
    Certificate(#[from] ChainError),
}
