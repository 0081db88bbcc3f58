//! The charter: what an organisation is, who belongs to it, and who may do what.
//!
//! It is a set of signed pieces, taken in any order, from which every holder computes the same
//! [`State`]. The crate is pure: no clock, no disk. [docs/charter.md]
//!
//! ```text
//! Piece ── take ──> roots, certificates, operations ── replay ──> State, verdicts
//!                                                                   │
//! Change ── edit ──> an operation, signed, to be taken <── rights ──┘
//! ```

#![forbid(unsafe_code)]

mod certificate;
mod certificates;
mod checkpoint;
pub mod content;
mod devices;
mod edit;
mod ending;
mod exchange;
mod introduction;
mod members;
mod name;
mod name_key;
mod operation;
mod past;
mod replay;
mod room;
mod root;
mod sanctions;
#[cfg(test)]
mod schema;
mod shared;
mod state;
mod storage;
mod taking;
mod tickets;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_keys::{
    ChannelId, Cosigned, DecodeError, DeviceId, DeviceKey, List, ObjectHash, OrganisationId,
    Random, RoleId, SignatureError, Signed, TargetId, UnixTime, decode, encode,
};
use serde::{Deserialize, Serialize};

pub use certificate::{
    CERTIFICATE_MAX_BYTES, CHAIN_MAX, CertificateChain, MemberCertificate, Recovery, member_of,
};
pub use checkpoint::{CHECKPOINT_MAX_BYTES, Checkpoint, Covered};
pub use devices::DEVICES_MAX;
pub use edit::{EditError, IssueError};
pub use ending::{Ending, PROOF_PIECES_MAX};
pub use exchange::Have;
pub use introduction::INTRODUCTION_MAX;
pub use members::ChainError;
pub use name::{NAME_MAX_BYTES, NAME_MAX_CHARACTERS, clean_name};
pub use name_key::NameKey;

pub use operation::{Cut, OPERATION_MAX_BYTES, Operation, consents, device_consent};
pub use replay::{Denial, Level, Verdict, VoidReason};
pub use root::{ROOT_KEYS_MAX, ROOT_MAX_BYTES, RootDocument, RootKeys};
pub use state::{Decision, Policies, State};
pub use storage::SnapshotError;
pub use taking::{FORKS_MAX, OPERATIONS_MAX};
pub use tickets::TICKETS_MAX;

use self::{
    certificates::Certificates,
    content::{Capabilities, Change, Channel, FOUNDER_ROLE, Grant, MEMBER_ROLE, Rank, Role},
    past::Last,
    replay::{Course, Pieces, Position, Taken, replay},
    room::Sources,
    root::Roots,
    shared::Shared,
};

/// One signed piece of a charter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// A root document.
    Root(Cosigned<RootDocument>),
    /// A member's certificate.
    Certificate(Signed<MemberCertificate>),
    /// An operation.
    Operation(Cosigned<Operation>),
    /// A checkpoint.
    Checkpoint(Cosigned<Checkpoint>),
}

impl Piece {
    /// The piece that `bytes` encode. [CHARTER-1.1]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, limit_of(bytes.first()))
    }

    /// The encoded bytes of the piece.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// The most bytes of a piece that begins with this byte.
fn limit_of(kind: Option<&u8>) -> usize {
    1 + match kind {
        Some(0) => ROOT_MAX_BYTES,
        Some(1) => CERTIFICATE_MAX_BYTES,
        Some(2) => OPERATION_MAX_BYTES,
        _ => CHECKPOINT_MAX_BYTES,
    }
}

impl PartialEq for Charter {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Charter {}

/// An organisation's charter: all pieces that this device has taken, and the state that they give.
#[derive(Clone, Debug)]
pub struct Charter {
    organisation: OrganisationId,
    roots: Roots,
    certificates: Shared<Certificates>,
    /// What the checkpoint before the newest has settled.
    base: Shared<Settled>,
    /// The newest checkpoint, and the state after what it covers.
    newest: Option<Shared<(Cosigned<Checkpoint>, State)>>,
    operations: Shared<Vec<Arc<Taken>>>,
    /// How many operations the newest checkpoint covers.
    covered: usize,
    index: Shared<BTreeMap<ObjectHash, usize>>,
    heads: Shared<BTreeSet<ObjectHash>>,
    /// How many operations of each number are held.
    numbers: Shared<BTreeMap<(DeviceId, u32, u64), usize>>,
    /// What operations bring in: rights, devices, certificates. [CHARTER-8.5] [CHARTER-8.21]
    sources: Shared<Sources>,
    /// The operations in their order, and the state that they give.
    course: Course,
    /// The calendar time by which mutes and bans end.
    calendar: UnixTime,
    /// Operations that wait for others, and meanwhile introduce devices. [CHARTER-3.6]
    introduced: Vec<Cosigned<Operation>>,
    /// Which pieces are not in the course yet.
    stale: Stale,
    /// Whether a checkpoint was taken, and certificates that are no longer needed are still held.
    outdated_certificates: bool,
    /// How many operations were judged since this charter was made; one that was judged again
    /// counts again.
    judged: u32,
    /// Whether pieces are taken from a snapshot that has forgotten earlier ones. They may then name
    /// what is forgotten.
    settled_before: bool,
    /// Whether an operation is only tried out, to say why it would have no effect. An author
    /// without the right to it then gets a verdict on its changes instead of a refusal.
    tries_out: bool,
}

/// How much of what was computed from the pieces has to be computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Everything,
    /// The operations at or after this position in the order.
    Since(Position),
    Nothing,
}

/// A checkpoint whose operations are forgotten.
#[derive(Clone, Debug, Default)]
struct Settled {
    checkpoint: Option<Cosigned<Checkpoint>>,
    state: State,
    last: Last,
}

/// Why a piece is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PieceError {
    /// The bytes are not the encoding of a piece.
    #[error(transparent)]
    Encoding(#[from] DecodeError),
    /// A signature is not good.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Not enough of the required keys have signed it.
    #[error("not signed by those who must")]
    Signatures,
    /// It is of another organisation.
    #[error("of another organisation")]
    Organisation,
    /// It contains what no such piece may contain.
    #[error("malformed")]
    Malformed,
    /// It does not lead to a root key.
    #[error("leads to no root key")]
    Rootless,
    /// It waits for the pieces with these hashes.
    #[error("waits for {} other pieces", .0.len())]
    Missing(Vec<ObjectHash>),
    /// Its author does not belong at present, or is frozen.
    #[error("of somebody who does not belong")]
    Stranger,
    /// It is from before the last two checkpoints.
    #[error("too late: a checkpoint has settled what it is about")]
    Late,
    /// The state after what the checkpoint covers is not the one that it states.
    #[error("the checkpoint states another outcome")]
    OtherOutcome,
    /// There is no room.
    #[error("there is no room for more")]
    Full,
}

impl Charter {
    /// Founds an organisation whose root keys are the device of `key` and `recovery`. It has one
    /// open channel on which all members may talk, and all members may admit others. The founder
    /// holds the highest role, which has all rights. Names are cleaned. If the channel's name is
    /// then empty, it is called `voice`.
    pub fn found(
        name: &str,
        channel_name: &str,
        key: &DeviceKey,
        recovery: Option<DeviceId>,
        random: &dyn Random,
    ) -> Self {
        let [mut channel, mut founder] = [[0; 16]; 2];
        random.fill(&mut channel);
        random.fill(&mut founder);
        let founder = Role {
            id: RoleId::from_bytes(founder),
            name: FOUNDER_ROLE.to_owned(),
            rank: Rank::HIGHEST,
            capabilities: Capabilities::ALL,
        };
        // [CHARTER-2.8]
        let members = List::default();
        let held = Grant { role: founder.id, at: content::Place::Organisation, members };
        let member = Role {
            id: MEMBER_ROLE,
            name: "member".to_owned(),
            rank: Rank::LOWEST,
            capabilities: Capabilities::JOIN
                | Capabilities::LISTEN
                | Capabilities::SPEAK
                | Capabilities::WHISPER
                | Capabilities::ADMIT,
        };
        let channel_name = Some(clean_name(channel_name)).filter(|name| !name.is_empty());
        let channel_name = channel_name.unwrap_or_else(|| "voice".to_owned());
        let channel = Channel::open(ChannelId::from_bytes(channel), &channel_name);
        let keys = std::iter::once(key.id()).chain(recovery);
        let document = RootDocument {
            version: 1,
            previous: ObjectHash::from_bytes([0; 32]),
            name: Some(clean_name(name)).filter(|it| !it.is_empty()).unwrap_or(channel_name),
            keys: RootKeys::try_from(List::truncated(keys)).expect("two keys that differ"),
            threshold: 1,
            merges: List::default(),
            cuts: List::default(),
            content: List::truncated([
                Change::Role(member),
                Change::Role(founder),
                Change::Grant(held),
                Change::Channel(channel),
            ]),
        };
        let founding = Cosigned::unsigned(document).signed(key);
        let mut charter = Self::of(founding).expect("names are clean");
        // The founder admits itself.
        let organisation = charter.organisation;
        let recovery = recovery.map(|recovery| Recovery::of(organisation, recovery, key));
        let own = charter.issue(key, charter.member_of(key.id()), key.id(), recovery);
        let own = Piece::Certificate(own.expect("a root key may admit"));
        charter.take(own).expect("the founder's certificate is good");
        charter
    }

    /// The charter of only a founding document. A caller that learns an organisation this way must
    /// compare [`Self::organisation`] with the one that it expects. [CHARTER-2.1]
    pub fn of(document: Cosigned<RootDocument>) -> Result<Self, PieceError> {
        let mut charter = Self::blank(Roots::found(document)?);
        charter.settle_sources();
        charter.settle_state();
        Ok(charter)
    }

    /// A charter of which only the root documents are known.
    fn blank(roots: Roots) -> Self {
        Self {
            organisation: roots.organisation(),
            roots,
            certificates: Shared::default(),
            base: Shared::default(),
            newest: None,
            operations: Shared::default(),
            covered: 0,
            index: Shared::default(),
            heads: Shared::default(),
            numbers: Shared::default(),
            sources: Shared::default(),
            course: Course::default(),
            calendar: UnixTime::default(),
            introduced: Vec::new(),
            stale: Stale::Everything,
            outdated_certificates: false,
            judged: 0,
            settled_before: false,
            tries_out: false,
        }
    }

    /// Takes a piece that somebody offers. Returns whether it was new. One that
    /// [`PieceError::Missing`] refuses can be offered again once the missing ones are there.
    ///
    /// A piece of somebody who does not belong at present is refused: nobody needs it.
    pub fn take(&mut self, piece: Piece) -> Result<bool, PieceError> {
        self.take_offered(vec![piece]).remove(0)
    }

    /// The same for many pieces, offered by anybody; returns the result of each. The state is
    /// computed once, and once more if an author belongs only by the other pieces.
    pub fn take_offered(&mut self, pieces: Vec<Piece>) -> Vec<Result<bool, PieceError>> {
        let mut results = Vec::with_capacity(pieces.len());
        let mut strangers = Vec::new();
        for (place, piece) in pieces.into_iter().enumerate() {
            let result = self.insert_welcome(piece.clone());
            if result == Err(PieceError::Stranger) {
                strangers.push((place, piece));
            }
            results.push(result);
        }
        self.forget_forks();
        self.settle_state();
        for (place, piece) in strangers {
            results[place] = self.insert_welcome(piece);
        }
        self.forget_forks();
        self.forget_certificates();
        self.settle_state();
        results
    }

    fn insert_welcome(&mut self, piece: Piece) -> Result<bool, PieceError> {
        if self.is_welcome_piece(&piece) { self.insert(piece) } else { Err(PieceError::Stranger) }
    }

    fn is_welcome_piece(&self, piece: &Piece) -> bool {
        match piece {
            Piece::Root(_) | Piece::Checkpoint(_) => true,
            Piece::Certificate(certificate) => {
                self.is_welcome_certificate(certificate.unverified())
            }
            Piece::Operation(operation) => self.is_welcome(operation.unverified()),
        }
    }

    /// Takes pieces that belong together, as a comparison brings them, each after those that it
    /// needs. The state is computed from all of them; returns the result of each.
    pub fn take_all(
        &mut self,
        pieces: impl IntoIterator<Item = Piece>,
    ) -> Vec<Result<bool, PieceError>> {
        let mut waiting = Vec::new();
        let take = |(at, piece): (usize, Piece)| {
            let certificate = matches!(piece, Piece::Certificate(_)).then(|| piece.clone());
            let result = self.insert(piece);
            if matches!(result, Err(PieceError::Missing(_) | PieceError::Stranger)) {
                waiting.extend(certificate.map(|piece| (at, piece)));
            }
            result
        };
        let mut results: Vec<_> = pieces.into_iter().enumerate().map(take).collect();
        self.forget_forks();
        self.settle_state();
        // What came after a certificate may have decided whether it is of use.
        for (at, piece) in waiting {
            results[at] = self.insert(piece);
        }
        self.forget_certificates();
        results
    }

    fn insert(&mut self, piece: Piece) -> Result<bool, PieceError> {
        // [CHARTER-1.1] A piece that others would not read is not taken here either.
        let bytes = piece.encode();
        let (length, limit) = (bytes.len(), limit_of(bytes.first()));
        if length > limit {
            return Err(PieceError::Encoding(DecodeError::TooLong { length, limit }));
        }
        match piece {
            Piece::Root(document) => {
                let new = self.roots.take(document)?;
                if new {
                    self.stale = Stale::Everything;
                }
                Ok(new)
            }
            Piece::Certificate(certificate) => self.take_certificate(certificate),
            Piece::Operation(operation) => self.take_operation(operation, length),
            Piece::Checkpoint(checkpoint) => self.take_checkpoint(checkpoint),
        }
    }

    /// Computes the state from the pieces, as far as it is not known yet.
    fn settle_state(&mut self) {
        let since = match std::mem::replace(&mut self.stale, Stale::Nothing) {
            Stale::Everything => None,
            Stale::Since(position) => Some(position),
            Stale::Nothing => return,
        };
        let of_those = |taken: &&Arc<Taken>| since.is_none_or(|since| taken.position() >= since);
        let judged = self.operations.iter().filter(of_those).count();
        self.judged = self.judged.wrapping_add(u32::try_from(judged).unwrap_or(u32::MAX));
        let mut former = std::mem::take(&mut self.course);
        // The outcome does not depend on introduced devices.
        former.state.introduced.clear();
        former.state.in_force = Shared::default();
        self.course = replay(&self.pieces(), former, since);
        self.settle_introduced();
        self.settle_sanctions();
    }

    /// The organisation: the hash of its founding root document. [PROTO-4.1]
    pub fn organisation(&self) -> OrganisationId {
        self.organisation
    }

    /// The organisation's name.
    pub fn name(&self) -> &str {
        &self.roots.newest().name
    }

    /// The state that the pieces give.
    pub fn state(&self) -> &State {
        &self.course.state
    }

    /// The newest root document.
    pub fn root(&self) -> &RootDocument {
        self.roots.newest()
    }

    /// All root documents with their signatures, the founding one first.
    pub fn roots(&self) -> impl Iterator<Item = &Cosigned<RootDocument>> {
        self.roots.documents()
    }

    /// Whether there are several root documents of one version, of which no later one names all.
    /// [CHARTER-2.3]
    pub fn is_forked(&self) -> bool {
        self.roots.is_forked()
    }

    /// Operations that no other names as parent or as its author's previous one, in ascending
    /// order.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = ObjectHash> {
        self.heads.iter().copied()
    }

    /// Operations since the checkpoint before the newest, in the order in which they count, each
    /// with its verdict.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = (&Cosigned<Operation>, &Verdict)> {
        let judged = self.course.order.iter().zip(self.course.verdicts.iter());
        judged.map(|(index, verdict)| (&self.operations[*index].signed, verdict))
    }

    /// How many operations were judged since this charter was made, counting each time: a measure
    /// of the cost.
    pub fn judged(&self) -> u32 {
        self.judged
    }

    /// The number of operations held.
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// The number of certificates that all hold.
    pub fn certificates(&self) -> usize {
        self.certificates.len()
    }

    /// The number of the newest checkpoint; 0 if there is none.
    pub fn checkpoint(&self) -> u32 {
        let newest = self.newest.as_ref().map(|newest| &newest.0);
        let newest = newest.or(self.base.checkpoint.as_ref());
        newest.map_or(0, |checkpoint| checkpoint.unverified().number)
    }

    /// Whether a piece with this hash is held.
    pub fn contains(&self, hash: &ObjectHash) -> bool {
        self.index.contains_key(hash)
            || self.certificates.is_held(hash)
            || self.roots.contains(hash)
            || self.base_is_known(hash)
    }

    /// A hash over all pieces: equal if two charters hold the same. [CHARTER-8.7]
    pub fn digest(&self) -> ObjectHash {
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 charter digest");
        for document in self.roots.documents() {
            hasher.update(document.hash().as_bytes());
            hasher.update(&(document.signers().len() as u64).to_be_bytes());
        }
        let checkpoints = [self.oldest_base(), self.newest_base()];
        let hashes = checkpoints.iter().chain(self.certificates.hashes()).chain(self.index.keys());
        for hash in hashes {
            hasher.update(hash.as_bytes());
        }
        ObjectHash::from_bytes(hasher.finalize().into())
    }

    /// The tag of voice datagrams to `target`. [PROTO-7.1]
    pub fn target_tag(&self, target: TargetId) -> [u8; 4] {
        let mut hasher = blake3::Hasher::new_keyed(self.organisation.as_bytes());
        let hash = hasher.update(b"target").update(target.as_bytes()).finalize();
        *hash.as_bytes().first_chunk().expect("four of 32 bytes")
    }

    /// The role with this name, if exactly one has it.
    pub fn role_named(&self, name: &str) -> Option<RoleId> {
        let mut named = self.course.state.roles().filter(|role| role.name == name);
        let role = named.next()?.id;
        named.next().is_none().then_some(role)
    }

    fn pieces(&self) -> Pieces<'_> {
        Pieces {
            roots: &self.roots,
            certificates: &self.certificates,
            base: &self.base.state,
            operations: &self.operations,
            index: &self.index,
        }
    }

    /// The largest number of a key and term that is settled and forgotten.
    fn settled(&self, author: DeviceId, term: u32) -> u64 {
        self.base.last.get(&(author, term)).map_or(0, |(sequence, _)| *sequence)
    }

    fn base_is_known(&self, base: &ObjectHash) -> bool {
        *base == self.newest_base() || *base == self.oldest_base()
    }

    /// The base of an operation that is made now. [CHARTER-4.3]
    fn newest_base(&self) -> ObjectHash {
        self.newest.as_ref().map_or_else(|| self.oldest_base(), |newest| newest.0.hash())
    }

    fn oldest_base(&self) -> ObjectHash {
        match &self.base.checkpoint {
            Some(checkpoint) => checkpoint.hash(),
            None => ObjectHash::from_bytes(*self.organisation.as_bytes()),
        }
    }

    fn base_lamport(&self, base: &ObjectHash) -> u64 {
        match &self.newest {
            Some(newest) if newest.0.hash() == *base => newest.0.unverified().lamport,
            _ => self.base.checkpoint.as_ref().map_or(0, |it| it.unverified().lamport),
        }
    }
}
