//! The Hello: one message each way on a link's first stream. After it both sides know that the
//! other belongs to the organisation. [section 3 of docs/protocol.md]
//!
//! ```text
//! dialler                                            listener
//! Greeting::member or ::redeem ── bytes ──>  open_greeting ─> Opened: who asks for what
//!                                                      (a limited ticket is counted on disk here)
//! Greeting::read_answer        <── bytes ──  Opened::accept, or Refusal::answer
//! ```
//!
//! Messages here do not include the two-byte length that precedes them on the stream. In the keys
//! of a message, the side is called `dialler` or `listener`.

mod body;
mod refusal;

use std::net::SocketAddr;

use hark_charter::{
    CertificateChain, Charter, DEVICES_MAX, Operation, PROOF_PIECES_MAX, Piece, Recovery,
    clean_name, consents,
    content::{Capabilities, Place},
    device_consent,
};
use hark_keys::{
    ChannelId, Cosigned, DeviceId, DeviceKey, Invite, MemberId, ObjectHash, OrganisationId, RoleId,
    Signature, Ticket, UnixTime, decode, encode, open_once, seal_once,
};

use self::body::{
    Admission, AnswerBody, GreetingBody, Introduced, Introduction, Newcomer, RelayIntroduction,
    roots_within,
};
pub use self::refusal::{HelloError, Refusal};
use crate::List;

/// What a node says of itself, besides its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// A random number created at the node's start. [PROTO-2.5]
    pub incarnation: u64,
    /// The name that its person has chosen.
    pub name: String,
    /// The addresses at which it listens. Only the first 16 count.
    pub addresses: Vec<SocketAddr>,
    /// The channels that it hears, of those that everyone may know of, in ascending order.
    pub listening: Vec<ChannelId>,
}

/// What a Hello has proved about the peer, and what the peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// The device at the other end of the link.
    pub device: DeviceId,
    /// The person to whom the device belongs; `None` for an infrastructure relay, which the charter
    /// names. [PROTO-3.9]
    pub member: Option<MemberId>,
    /// The certificates that prove this.
    pub chain: CertificateChain,
    /// The operations that added the device, if it is not the member's first one. [CHARTER-3.6]
    pub added: Vec<Cosigned<Operation>>,
    /// Its name, made fit for display. [PROTO-3.7]
    pub name: String,
    /// The incarnation of its present run. [PROTO-2.5]
    pub incarnation: u64,
    /// The addresses at which it says that it listens.
    pub addresses: Vec<SocketAddr>,
    /// A hash over what it knows of the charter.
    pub digest: ObjectHash,
    /// The channels that it hears, of those that everyone may know of.
    pub listening: Vec<ChannelId>,
}

/// The dialler's side of a Hello.
pub struct Greeting {
    organisation: OrganisationId,
    exporter: [u8; 32],
    bytes: Vec<u8>,
    /// The charter and certificates that the dialler has; `None` when it redeems a ticket.
    known: Option<(Charter, CertificateChain)>,
    device: DeviceId,
}

/// What a dialler has after a successful Hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The organisation. It is new to a dialler that has redeemed a ticket.
    pub charter: Charter,
    /// The dialler's own certificates. They are also new to such a dialler.
    pub chain: CertificateChain,
    /// The listener.
    pub peer: PeerHello,
}

impl Greeting {
    /// Creates the greeting of a member with `device` and `chain`, on the link with this
    /// `exporter`.
    pub fn member(
        charter: &Charter,
        device: DeviceId,
        chain: &CertificateChain,
        presence: &Presence,
        exporter: [u8; 32],
    ) -> Self {
        let introduction = Introduction::new(charter, device, chain, presence);
        let body = GreetingBody::Member(introduction, List::default());
        Self::of_body(charter, device, chain, exporter, &body)
    }

    /// Like [`Self::member`], for a listener that is a relay and may know no more than the
    /// organisation's id. [PROTO-3.9] [PROTO-3.24]
    pub fn member_to_relay(
        charter: &Charter,
        device: DeviceId,
        chain: &CertificateChain,
        presence: &Presence,
        exporter: [u8; 32],
    ) -> Self {
        let introduction = Introduction::new(charter, device, chain, presence);
        let taken = encode(&introduction).len();
        let roots = roots_within(charter, ROOTS_ROOM.saturating_sub(taken));
        Self::of_body(charter, device, chain, exporter, &GreetingBody::Member(introduction, roots))
    }

    /// Creates the greeting of the relay `device`, which the charter names. [PROTO-3.9]
    pub fn relay(
        charter: &Charter,
        device: DeviceId,
        presence: &Presence,
        exporter: [u8; 32],
    ) -> Self {
        let body = GreetingBody::Relay(RelayIntroduction::new(charter, presence));
        Self::of_body(charter, device, &CertificateChain::default(), exporter, &body)
    }

    fn of_body(
        charter: &Charter,
        device: DeviceId,
        chain: &CertificateChain,
        exporter: [u8; 32],
        body: &GreetingBody,
    ) -> Self {
        let organisation = charter.organisation();
        let bytes = greeting(organisation, &exporter, body);
        let known = Some((charter.clone(), chain.clone()));
        Self { organisation, exporter, bytes, known, device }
    }

    /// Creates the greeting of a newcomer with `device`, and perhaps a printed `recovery` key, that
    /// redeems `ticket`.
    ///
    /// An expired ticket is not even shown. [PROTO-4.6]
    pub fn redeem(
        now: UnixTime,
        ticket: &Ticket,
        device: DeviceId,
        recovery: Option<Recovery>,
        presence: &Presence,
        exporter: [u8; 32],
    ) -> Result<Self, HelloError> {
        Self::knock(now, ticket, device, (recovery, None), presence, exporter)
    }

    /// Creates the greeting of a device with `key` that is to become a further device of `member`,
    /// by a `ticket` for that. [PROTO-4.7]
    pub fn redeem_as_device(
        now: UnixTime,
        ticket: &Ticket,
        key: &DeviceKey,
        member: MemberId,
        presence: &Presence,
        exporter: [u8; 32],
    ) -> Result<Self, HelloError> {
        let consent = device_consent(ticket.invite().organisation, member, key);
        Self::knock(now, ticket, key.id(), (None, Some(consent)), presence, exporter)
    }

    fn knock(
        now: UnixTime,
        ticket: &Ticket,
        device: DeviceId,
        (recovery, consent): (Option<Recovery>, Option<Signature>),
        presence: &Presence,
        exporter: [u8; 32],
    ) -> Result<Self, HelloError> {
        if ticket.invite().expires <= now {
            return Err(HelloError::Refused(Refusal::TicketExpired));
        }
        let organisation = ticket.invite().organisation;
        let body = GreetingBody::Redeem(Box::new(Newcomer {
            redemption: ticket.redemption(device, &exporter),
            recovery,
            consent,
            incarnation: presence.incarnation,
            name: clean_name(&presence.name),
            addresses: List::truncated(presence.addresses.iter().copied()),
        }));
        let bytes = greeting(organisation, &exporter, &body);
        Ok(Self { organisation, exporter, bytes, known: None, device })
    }

    /// The message for the listener.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the `answer` of the listener, the device `remote`.
    pub fn read_answer(self, remote: DeviceId, answer: &[u8]) -> Result<Welcome, HelloError> {
        let (header, rest) =
            answer.split_first_chunk::<ANSWER_HEADER>().ok_or(HelloError::Malformed)?;
        if answer.len() > HELLO_MAX_BYTES || !header.starts_with(&MAGIC) {
            return Err(HelloError::Malformed);
        }
        match header[MAGIC.len()] {
            0 => return Err(self.refused(answer)),
            VERSION => {}
            _ => return Err(HelloError::Malformed),
        }
        let key = side_key(self.organisation, b"body", LISTENER, &self.exporter);
        let body = open_once(&key, header, rest).map_err(|_| HelloError::Malformed)?;
        let body: AnswerBody = decode(&body, HELLO_MAX_BYTES).map_err(|_| HelloError::Malformed)?;
        let (charter, chain) = match (self.known, body.admission) {
            (Some(known), _) => known,
            (None, None) => return Err(HelloError::Malformed),
            (None, Some(admission)) => {
                let mut charter = Charter::of_roots(admission.roots.into_vec())
                    .map_err(|_| HelloError::WrongOrganisation)?;
                // A newcomer trusts its ticket; the listener may say anything.
                if charter.organisation() != self.organisation {
                    return Err(HelloError::WrongOrganisation);
                }
                // The newcomer learns from the rest of the charter which members may admit.
                charter.rooted_chain(&admission.chain, self.device, &admission.added, true)?;
                let Introduced::Member(listener) = body.listener else {
                    return Err(HelloError::Malformed);
                };
                let peer = listener.rooted(&charter, remote, true)?;
                charter.show_chain(&admission.chain);
                charter.show_chain(&peer.chain);
                charter.introduce(&admission.added);
                charter.introduce(&peer.added);
                return Ok(Welcome { charter, chain: admission.chain, peer });
            }
        };
        let peer = match body.listener {
            Introduced::Member(listener) => listener.verified(&charter, remote)?,
            Introduced::Relay(listener) => {
                charter.state().relay(remote).ok_or(HelloError::NotRelay)?;
                listener.of(remote)
            }
        };
        Ok(Welcome { charter, chain, peer })
    }

    /// Reads an `answer` that refuses. [PROTO-3.6]
    fn refused(&self, answer: &[u8]) -> HelloError {
        let said = answer.split_at_checked(REFUSAL_HEADER);
        let Some((header, sealed)) = said else { return HelloError::Malformed };
        let Some(refusal) = Refusal::from_code(header[ANSWER_HEADER]) else {
            return HelloError::Malformed;
        };
        if sealed.is_empty() {
            return match refusal {
                Refusal::Version | Refusal::Stranger => HelloError::Unsealed(refusal),
                // A listener with any other reason knows the organisation, and would have sealed
                // its answer.
                _ => HelloError::Malformed,
            };
        }
        let key = side_key(self.organisation, b"body", LISTENER, &self.exporter);
        let Ok(pieces) = open_once(&key, header, sealed) else { return HelloError::Malformed };
        let pieces = decode::<List<Piece, PROOF_PIECES_MAX>>(&pieces, HELLO_MAX_BYTES);
        match pieces.map(List::into_vec) {
            Ok(pieces) if pieces.is_empty() => HelloError::Refused(refusal),
            Ok(pieces) if refusal == Refusal::Removed => HelloError::Ended(pieces),
            _ => HelloError::Malformed,
        }
    }
}

/// What a listener needs for an answer.
#[derive(Clone, Copy)]
pub struct Listener<'a> {
    /// The organisation that this link is for.
    pub charter: &'a Charter,
    /// The listener's own key, by which it admits newcomers.
    pub key: &'a DeviceKey,
    /// The member whose device it is; `None` for a relay.
    pub member: Option<MemberId>,
    /// What the listener says of itself.
    pub presence: &'a Presence,
}

/// Opens the greeting of the device `remote` on the link with this `exporter`.
///
/// If this fails, send the result of [`refuse`].
pub fn open_greeting(
    now: UnixTime,
    listener: &Listener<'_>,
    exporter: &[u8; 32],
    remote: DeviceId,
    bytes: &[u8],
) -> Result<Opened, Refusal> {
    let organisation = listener.charter.organisation();
    let body = open_body(organisation, exporter, bytes)?;
    let request = match body {
        GreetingBody::Relay(introduction) => {
            listener.charter.state().relay(remote).ok_or(Refusal::Stranger)?;
            HelloRequest::Member(introduction.of(remote))
        }
        GreetingBody::Member(introduction, _) => {
            let charter = listener.charter;
            let former = introduction.chain.leaf().map(|leaf| leaf.unverified().member());
            let peer = introduction.verified(charter, remote);
            HelloRequest::Member(peer.map_err(|_| {
                let ended = former.and_then(|member| charter.ending(member, remote));
                ended.map_or(Refusal::Certificate, |_| Refusal::Removed)
            })?)
        }
        GreetingBody::Redeem(newcomer) => redeemed(now, listener, exporter, remote, *newcomer)?,
    };
    Ok(Opened { exporter: *exporter, request })
}

/// Opens the greeting of a member for a relay that knows no more than the organisation's id. The
/// charter begins with the root documents in the greeting. [PROTO-3.9]
pub fn open_first_greeting(
    organisation: OrganisationId,
    exporter: &[u8; 32],
    remote: DeviceId,
    bytes: &[u8],
) -> Result<(Charter, Opened), Refusal> {
    let body = open_body(organisation, exporter, bytes)?;
    let GreetingBody::Member(introduction, roots) = body else { return Err(Refusal::Later) };
    let mut charter = Charter::of_roots(roots.into_vec()).map_err(|_| Refusal::Certificate)?;
    if charter.organisation() != organisation {
        return Err(Refusal::Certificate);
    }
    let peer = introduction.rooted(&charter, remote, false).map_err(|_| Refusal::Certificate)?;
    charter.show_chain(&peer.chain);
    charter.introduce(&peer.added);
    Ok((charter, Opened { exporter: *exporter, request: HelloRequest::Member(peer) }))
}

/// The request of a dialler that shows a ticket.
fn redeemed(
    now: UnixTime,
    listener: &Listener<'_>,
    exporter: &[u8; 32],
    remote: DeviceId,
    newcomer: Newcomer,
) -> Result<HelloRequest, Refusal> {
    let Newcomer { redemption, recovery, consent, incarnation, name, addresses } = newcomer;
    let charter = listener.charter;
    if charter.is_kept_out(remote) {
        return Err(Refusal::Banned);
    }
    let invite = redemption.verify(charter.organisation(), remote, exporter, now)?;
    // [PROTO-4.5] An invite is worth what its issuer may do now.
    let issuer = charter.owner(invite.issuer).ok_or(Refusal::TicketInvalid)?;
    let rights = match invite.member {
        Some(member) => member == issuer,
        None => charter.allows(issuer, Capabilities::ADMIT, Place::Organisation),
    };
    if !rights {
        return Err(Refusal::TicketInvalid);
    }
    // [PROTO-4.9] [CHARTER-9.5]
    if charter.state().revokes(issuer, invite) {
        return Err(Refusal::TicketRevoked);
    }
    // [PROTO-4.8] A ticket gives nobody what its issuer, or its door, may not give.
    if let Some(role) = invite.role {
        charter.may_give(issuer, role).map_err(|_| Refusal::TicketRole)?;
    }
    // [PROTO-3.10]
    let door = listener.member.ok_or(Refusal::Leads)?;
    if let Some(role) = invite.role {
        charter.may_give(door, role).map_err(|_| Refusal::NotADoor)?;
    }
    let own = listener.key.id();
    // [PROTO-4.5]
    let share = match invite.uses {
        0 => None,
        _ => Some(invite.share_of(own).ok_or(Refusal::NotADoor)?),
    };
    let (member, chain, addition) = match invite.member {
        // [PROTO-4.7] Only a member's own device may add a further one to it.
        Some(member) if member != door => return Err(Refusal::NotADoor),
        Some(member) => {
            let agreed = |it: &Signature| consents(charter.organisation(), member, remote, it);
            let consent = consent.filter(agreed).ok_or(Refusal::TicketInvalid)?;
            let devices = charter.devices_of(member);
            if charter.ending(member, remote).is_some() {
                return Err(Refusal::TicketInvalid);
            }
            let is_new = !devices.contains(&remote);
            if is_new && devices.len() >= DEVICES_MAX {
                return Err(Refusal::Busy);
            }
            (member, charter.chain_of(member), is_new.then_some(consent))
        }
        None => {
            let certificate = charter.issue(listener.key, door, remote, recovery)?;
            let member = certificate.unverified().member();
            (member, charter.chain_with(certificate), None)
        }
    };
    let first = charter.first_channel(member).map(|channel| channel.id);
    let peer = PeerHello {
        device: remote,
        member: Some(member),
        chain,
        added: charter.introduction_of(member, remote),
        name: clean_name(&name),
        incarnation,
        addresses: addresses.into_vec(),
        digest: charter.digest(),
        // It has not chosen yet, so it hears the first channel.
        listening: first.into_iter().collect(),
    };
    // [PROTO-4.21] A role that a member has lost does not come back by the ticket that it came
    // with.
    let is_newer = charter.state().last_removal(member) <= invite.removals;
    let role = invite.role.filter(|_| !charter.is_member(member) && is_newer);
    Ok(HelloRequest::Redeem { invite: Box::new(invite.clone()), share, addition, role, peer })
}

/// The answer with the reason why the greeting of `remote` was refused, sealed so that it counts.
/// If the dialler was removed, the answer includes what proves this by the `charter` and is new to
/// it. [PROTO-3.8]
///
/// A dialler that does not know the organisation is told only that, or that its version is another.
/// [PROTO-3.6] [PROTO-3.23]
pub fn refuse(
    refusal: Refusal,
    organisation: OrganisationId,
    charter: Option<&Charter>,
    exporter: &[u8; 32],
    remote: DeviceId,
    bytes: &[u8],
) -> Vec<u8> {
    let tag = bytes.get(GREETING_HEADER - TAG..GREETING_HEADER);
    if tag != Some(&tag_of(organisation, DIALLER, exporter)[..]) {
        return match refusal {
            Refusal::Version => refusal.answer(),
            _ => Refusal::Stranger.answer(),
        };
    }
    let proof = || {
        let body = open_body(organisation, exporter, bytes);
        let Ok(GreetingBody::Member(introduction, _)) = body else { return None };
        let member = introduction.chain.leaf()?.unverified().member();
        charter?.proof_of_ending(member, remote, &introduction.heads, PROOF_ROOM)
    };
    let proof = (refusal == Refusal::Removed).then(proof).flatten();
    let pieces = List::<_, PROOF_PIECES_MAX>::truncated(proof.unwrap_or_default());
    let mut answer = refusal.answer();
    let key = side_key(organisation, b"body", LISTENER, exporter);
    let sealed = seal_once(&key, &answer, &encode(&pieces));
    answer.extend(sealed);
    answer
}

/// The invite that a greeting shows, if the greeting knows the organisation. [`open_greeting`] says
/// what the invite is worth.
pub fn invite_of(
    organisation: OrganisationId,
    exporter: &[u8; 32],
    bytes: &[u8],
) -> Option<Invite> {
    match open_body(organisation, exporter, bytes) {
        Ok(GreetingBody::Redeem(newcomer)) => Some(newcomer.redemption.invite.unverified().clone()),
        _ => None,
    }
}

fn open_body(
    organisation: OrganisationId,
    exporter: &[u8; 32],
    bytes: &[u8],
) -> Result<GreetingBody, Refusal> {
    let (header, sealed) = bytes.split_first_chunk::<GREETING_HEADER>().ok_or(Refusal::Stranger)?;
    if bytes.len() > HELLO_MAX_BYTES || !header.starts_with(&MAGIC) {
        return Err(Refusal::Stranger);
    }
    let [lowest, highest] = [header[4], header[5]];
    if !(lowest..=highest).contains(&VERSION) {
        return Err(Refusal::Version);
    }
    // [PROTO-3.1] A dialler that does not know the organisation learns nothing about it.
    if header[GREETING_HEADER - TAG..] != tag_of(organisation, DIALLER, exporter) {
        return Err(Refusal::Stranger);
    }
    let key = side_key(organisation, b"body", DIALLER, exporter);
    let body = open_once(&key, header, sealed).map_err(|_| Refusal::Stranger)?;
    decode(&body, HELLO_MAX_BYTES).map_err(|_| Refusal::Certificate)
}

/// A valid greeting.
pub struct Opened {
    exporter: [u8; 32],
    request: HelloRequest,
}

/// The request of a dialler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloRequest {
    /// The dialler is already a member.
    Member(PeerHello),
    /// The dialler redeems a ticket. If `share` is a number, the door counts the admitted devices
    /// on disk, by its invite key. It refuses a device beyond that number with
    /// [`Refusal::TicketUsedUp`]. A device that is counted already is not another use. [PROTO-4.5]
    Redeem {
        /// The invite in the ticket.
        invite: Box<Invite>,
        /// How many devices this door may admit; `None` for any number.
        share: Option<u8>,
        /// The consent of a device that becomes a further device of the door's member. The door
        /// adds it to the charter. Until it is there, the door refuses the device with
        /// [`Refusal::Later`].
        addition: Option<Signature>,
        /// The role that the door gives to the newcomer once it is linked. `None` for a dialler
        /// that is already a member, or was removed since the ticket was issued. [PROTO-4.8]
        /// [PROTO-4.21]
        role: Option<RoleId>,
        /// The newcomer, with the certificates that it gets.
        peer: PeerHello,
    },
}

impl Opened {
    /// What the dialler asks for.
    pub fn request(&self) -> &HelloRequest {
        &self.request
    }

    /// Admits the dialler. Returns the answer for it, and what the Hello has proved about it.
    pub fn accept(self, listener: &Listener<'_>) -> (Vec<u8>, PeerHello) {
        let Listener { charter, key, member, presence } = listener;
        let listener = match member {
            Some(member) => {
                let chain = charter.chain_of(*member);
                Introduced::Member(Introduction::new(charter, key.id(), &chain, presence))
            }
            None => Introduced::Relay(RelayIntroduction::new(charter, presence)),
        };
        let (peer, admission) = match self.request {
            HelloRequest::Member(peer) => (peer, None),
            HelloRequest::Redeem { peer, .. } => {
                let chain = peer.chain.clone();
                let added = List::truncated(peer.added.iter().cloned());
                let taken = encode(&(&listener, &chain, &added)).len();
                let roots = roots_within(charter, ROOTS_ROOM.saturating_sub(taken));
                (peer, Some(Admission { chain, added, roots }))
            }
        };
        let body = AnswerBody { listener, admission };
        let mut answer = [&MAGIC[..], &[VERSION]].concat();
        let key = side_key(charter.organisation(), b"body", LISTENER, &self.exporter);
        let sealed = seal_once(&key, &answer, &encode(&body));
        answer.extend(sealed);
        (answer, peer)
    }
}

fn greeting(organisation: OrganisationId, exporter: &[u8; 32], body: &GreetingBody) -> Vec<u8> {
    let tag = tag_of(organisation, DIALLER, exporter);
    let mut bytes = [&MAGIC[..], &[VERSION, VERSION], &tag].concat();
    let key = side_key(organisation, b"body", DIALLER, exporter);
    let sealed = seal_once(&key, &bytes, &encode(body));
    bytes.extend(sealed);
    bytes
}

/// [PROTO-3.1]
fn tag_of(organisation: OrganisationId, side: &[u8], exporter: &[u8; 32]) -> [u8; TAG] {
    let hash = side_key(organisation, b"tag", side, exporter);
    *hash.first_chunk().expect("16 of 32 bytes")
}

/// [PROTO-3.1] [PROTO-3.2]
fn side_key(
    organisation: OrganisationId,
    label: &[u8],
    side: &[u8],
    exporter: &[u8; 32],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(organisation.as_bytes());
    hasher.update(label);
    hasher.update(side);
    hasher.update(exporter);
    hasher.finalize().into()
}

/// The sealed content of a Hello, for the documented schema.
#[cfg(test)]
pub(crate) fn describe(schema: &mut crate::schema::collector::Schema) {
    schema.add::<GreetingBody>("GreetingBody", HELLO_MAX_BYTES);
    schema.add::<AnswerBody>("AnswerBody", HELLO_MAX_BYTES);
    schema.add::<List<Piece, PROOF_PIECES_MAX>>("Proof", HELLO_MAX_BYTES);
}

/// The protocol version of this implementation.
pub const VERSION: u8 = 1;

/// Bytes of a greeting or answer. Longer ones are refused. [section 3]
pub const HELLO_MAX_BYTES: usize = 16 * 1024;

/// Bytes that root documents may take in an answer. The rest is for the header, the seal, and the
/// lengths of lists.
const ROOTS_ROOM: usize = HELLO_MAX_BYTES - 64;

/// Bytes for the pieces that prove a removal. The rest is for the remaining parts of the answer.
const PROOF_ROOM: usize = HELLO_MAX_BYTES - 64;

const MAGIC: [u8; 4] = *b"HARK";
const DIALLER: &[u8] = b"dialler";
const LISTENER: &[u8] = b"listener";
const TAG: usize = 16;
const GREETING_HEADER: usize = 4 + 2 + TAG;
const ANSWER_HEADER: usize = 4 + 1;
const REFUSAL_HEADER: usize = ANSWER_HEADER + 1;

#[cfg(test)]
mod tests;
