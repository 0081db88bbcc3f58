//! Who is admitted: the Hello of `mesh` with this node's identity, charter and tickets.

#[cfg(test)]
mod tests;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hark_charter::{
    Charter, Piece, Recovery,
    content::{Capabilities, Place},
};
use hark_keys::{
    ChannelId, DeviceId, DeviceKey, Invite, MemberId, OrganisationId, RoleId, Signature, Ticket,
    Timestamp,
};
use hark_mesh::hello::{
    self, Greeting, HelloError, HelloRequest, Listener, PeerHello, Presence, Refusal,
};

use crate::{
    clock::Clock,
    link::{Admission, HelloDenial},
};
use waiting::{Knocked, WaitingRoom};
pub use waiting::{WaitingState, WaitingView};

/// Counts on disk the devices that a limited ticket has admitted. [PROTO-4.5]
pub trait UseCounter: Send + Sync {
    /// Whether `device` may be admitted by the invite, of which `share` uses fall to this device.
    /// Once true for a device, always true for it; written to disk before it returns.
    fn count(&self, invite: &Invite, share: u8, device: DeviceId) -> std::io::Result<bool>;
}

/// What a newcomer has become by its ticket.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The organisation, as far as the door has told it.
    pub charter: Charter,
    /// Who the newcomer is there.
    pub member: MemberId,
}

/// What the ticket of somebody says who has come in by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// The role.
    pub role: RoleId,
    /// Whether it was issued before the newcomer was removed, and so does not give it.
    /// [PROTO-4.21]
    pub outdated: bool,
}

/// What this node is to the organisation.
enum Standing {
    Newcomer(Box<Ticket>),
    Member(Arc<Charter>, MemberId),
    /// A relay of this organisation that has not heard of its charter.
    NewRelay(OrganisationId),
    Relay(Arc<Charter>),
}

/// This node's side of every Hello.
pub struct Doorkeeper {
    key: DeviceKey,
    /// A newcomer's printed key, if it has one.
    recovery: Option<Recovery>,
    /// The relays of the ticket by which it has come.
    led_by: BTreeSet<DeviceId>,
    /// The doors of that ticket: they alone let it in.
    doors: BTreeSet<DeviceId>,
    clock: Clock,
    counter: Box<dyn UseCounter>,
    state: Mutex<State>,
}

struct State {
    standing: Standing,
    presence: Presence,
    /// Where there is no room for another: who is here.
    full: Option<BTreeSet<DeviceId>>,
    /// Greetings sent, until their answers come: one a device, since Hellos take turns.
    sent: VecDeque<((DeviceId, [u8; 32]), Greeting)>,
    admitted: Option<Admitted>,
    /// The charter that a relay without one has begun with.
    begun: Option<Charter>,
    /// Roles of those who have been admitted by their tickets, and are not linked yet.
    promised: VecDeque<(DeviceId, Promised)>,
    /// Devices that were let in by tickets whose uses are not counted, until they are noted.
    redeemed: Vec<(Invite, DeviceId)>,
    /// Revoked tickets that were shown here, until they are noted.
    tried: Vec<Invite>,
    /// Those whom somebody here is asked about.
    waiting: WaitingRoom,
    /// When a door said last that this newcomer waits there.
    waits: Option<Timestamp>,
    /// The newest refusal by a device that the ticket names.
    refused: Option<Refusal>,
    /// The newest by anybody else, or by who has not shown to know the organisation: to be told to
    /// the person if nobody admits, and worth nothing more.
    hinted: Option<Refusal>,
    /// A newcomer has met a device that its ticket does not name.
    met_unnamed: bool,
    /// The same of a member, with who it was, until it is told.
    turned_away: Option<(DeviceId, Refusal)>,
    /// What the last one has shown who says that this device was removed.
    proof: Vec<Piece>,
    /// Devices that are dialled now, and whose records show that they are members'.
    expected: VecDeque<DeviceId>,
    /// Devices that are to become this member's, with their consents, until they are added.
    additions: BTreeMap<DeviceId, Signature>,
}

impl Doorkeeper {
    /// A member's doorkeeper.
    pub fn member(
        key: DeviceKey,
        charter: Arc<Charter>,
        member: MemberId,
        presence: Presence,
        clock: Clock,
        counter: Box<dyn UseCounter>,
    ) -> Self {
        Self::new(key, Standing::Member(charter, member), presence, clock, counter)
    }

    /// A newcomer's, who redeems `ticket` with whoever answers, and has printed a `recovery` key.
    pub fn newcomer(
        key: DeviceKey,
        recovery: Option<DeviceId>,
        ticket: Ticket,
        presence: Presence,
        clock: Clock,
        counter: Box<dyn UseCounter>,
    ) -> Self {
        let organisation = ticket.invite().organisation;
        let recovery = recovery.map(|printed| Recovery::of(organisation, printed, &key));
        let led_by = ticket.relays.iter().map(|relay| relay.device).collect();
        let doors = ticket.doors.iter().map(|door| door.device).collect();
        let standing = Standing::Newcomer(Box::new(ticket));
        Self { recovery, led_by, doors, ..Self::new(key, standing, presence, clock, counter) }
    }

    /// A relay's, which belongs to no member, and learns of the `charter` from the first that comes
    /// where it knows the organisation's id alone. [PROTO-3.9]
    pub fn relay(
        key: DeviceKey,
        organisation: OrganisationId,
        charter: Option<Arc<Charter>>,
        presence: Presence,
        clock: Clock,
    ) -> Self {
        let standing = charter.map_or(Standing::NewRelay(organisation), Standing::Relay);
        Self::new(key, standing, presence, clock, Box::new(NoTickets))
    }

    fn new(
        key: DeviceKey,
        standing: Standing,
        presence: Presence,
        clock: Clock,
        counter: Box<dyn UseCounter>,
    ) -> Self {
        let state = State {
            standing,
            presence,
            full: None,
            sent: VecDeque::new(),
            admitted: None,
            begun: None,
            promised: VecDeque::new(),
            redeemed: Vec::new(),
            tried: Vec::new(),
            waiting: WaitingRoom::default(),
            waits: None,
            refused: None,
            hinted: None,
            met_unnamed: false,
            turned_away: None,
            proof: Vec::new(),
            expected: VecDeque::new(),
            additions: BTreeMap::new(),
        };
        let (recovery, led_by, doors) = (None, BTreeSet::new(), BTreeSet::new());
        Self { key, recovery, led_by, doors, clock, counter, state: Mutex::new(state) }
    }

    /// Tells where this node can be reached, for the Hellos to come.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.lock().presence.addresses = addresses;
    }

    /// Tells the charter that decides from now on who belongs.
    pub fn set_charter(&self, charter: &Arc<Charter>) {
        match &mut self.lock().standing {
            Standing::Member(known, _) | Standing::Relay(known) => *known = Arc::clone(charter),
            Standing::Newcomer(_) | Standing::NewRelay(_) => {}
        }
    }

    /// Tells what this node hears of what all may know, for the Hellos to come.
    pub fn set_listening(&self, channels: Vec<ChannelId>) {
        self.lock().presence.listening = channels;
    }

    /// Tells that `device`, which is dialled now, is a member's: its record has shown so, whether
    /// the charter has it yet or not. [PROTO-3.11]
    pub fn expect(&self, device: DeviceId) {
        let mut state = self.lock();
        state.expected.retain(|it| *it != device);
        if state.expected.len() >= EXPECTED_LIMIT {
            state.expected.pop_front();
        }
        state.expected.push_back(device);
    }

    /// Tells who is here where there is no room for another; none where there is.
    pub fn set_full(&self, here: Option<BTreeSet<DeviceId>>) {
        self.lock().full = here;
    }

    /// What the ticket has brought, once.
    pub fn take_admitted(&self) -> Option<Admitted> {
        self.lock().admitted.take()
    }

    /// The charter that a relay without one has begun with, once.
    pub fn take_begun(&self) -> Option<Charter> {
        self.lock().begun.take()
    }

    /// The role that a device that is linked now was promised by its ticket, once. [PROTO-4.8]
    pub fn take_promised(&self, device: DeviceId) -> Option<Promised> {
        forget_promise(&mut self.lock().promised, device)
    }

    /// Devices that were let in by tickets whose uses are not counted, each once.
    pub fn take_redeemed(&self) -> Vec<(Invite, DeviceId)> {
        std::mem::take(&mut self.lock().redeemed)
    }

    /// Revoked tickets that somebody has shown here, if this member has issued them or may admit.
    pub fn take_tried(&self) -> Vec<Invite> {
        std::mem::take(&mut self.lock().tried)
    }

    /// Newcomers who wait to be let in here, the longest first. [PROTO-4.10]
    pub fn waiting(&self) -> Vec<(DeviceId, WaitingView)> {
        let mut state = self.lock();
        state.waiting.forget_silent(self.clock.now());
        state.waiting.list()
    }

    /// Who came to wait, and what became of them, since this was asked last.
    pub fn take_waiting_news(&self) -> Vec<(WaitingView, WaitingState)> {
        self.lock().waiting.take_news()
    }

    /// Lets a newcomer who waits in, or turns it away; false where it waits no more.
    pub fn decide(&self, device: DeviceId, admit: bool) -> bool {
        self.lock().waiting.decide(device, admit)
    }

    /// When a door of the ticket said last that somebody there is asked.
    pub fn waits(&self) -> Option<Timestamp> {
        self.lock().waits
    }

    /// Why the last one did not admit whom the ticket names.
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.lock().refused
    }

    /// Why the last one did not admit whom the ticket does not name, or who has not shown to know
    /// the organisation. Anybody can say so. [PROTO-3.6]
    pub fn last_hint(&self) -> Option<Refusal> {
        self.lock().hinted
    }

    /// The answer to `peer`'s greeting that refuses it for this reason.
    pub fn refuse(
        &self,
        refusal: Refusal,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> Vec<u8> {
        self.lock().refuse(refusal, peer, exporter, greeting)
    }

    /// Who has refused this member's device last, and why, once.
    pub fn take_refusal(&self) -> Option<(DeviceId, Refusal)> {
        self.lock().turned_away.take()
    }

    /// Pieces of the charter that are to show that this device was removed, once: the charter says
    /// whether they do. [PROTO-3.8]
    pub fn take_proof(&self) -> Vec<Piece> {
        std::mem::take(&mut self.lock().proof)
    }

    /// Devices that have redeemed a ticket for a device of this member's, to be added to the
    /// charter now: they ask again. [PROTO-4.7]
    pub fn take_additions(&self) -> BTreeMap<DeviceId, Signature> {
        std::mem::take(&mut self.lock().additions)
    }

    /// Whether this newcomer has met devices that its ticket does not name, and so let them be.
    pub fn has_met_unnamed(&self) -> bool {
        self.lock().met_unnamed
    }

    /// Whether the ticket names this device, as a door or as a relay that leads to one.
    pub fn is_named(&self, device: DeviceId) -> bool {
        self.doors.contains(&device) || self.led_by.contains(&device)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(
        &self,
        state: &mut State,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> Result<(Vec<u8>, PeerHello), Refusal> {
        let (charter, member) = match &state.standing {
            // A newcomer can admit nobody.
            Standing::Newcomer(_) => return Err(Refusal::NotADoor),
            Standing::Member(charter, member) => (charter, Some(*member)),
            Standing::Relay(charter) => (charter, None),
            Standing::NewRelay(organisation) => {
                let opened = hello::open_first_greeting(*organisation, exporter, peer, greeting)?;
                let (charter, opened) = opened;
                let (key, presence) = (&self.key, &state.presence);
                let listener = Listener { charter: &charter, key, member: None, presence };
                let accepted = opened.accept(&listener);
                state.begun = Some(charter.clone());
                state.standing = Standing::Relay(Arc::new(charter));
                return Ok(accepted);
            }
        };
        if state.full.as_ref().is_some_and(|here| !here.contains(&peer)) {
            return Err(Refusal::Busy);
        }
        let (key, presence) = (&self.key, &state.presence);
        let listener = Listener { charter, key, member, presence };
        let now = self.clock.unix();
        let opened = hello::open_greeting(now, &listener, exporter, peer, greeting)?;
        let HelloRequest::Redeem { invite, share, addition, role, peer: newcomer } =
            opened.request()
        else {
            state.waiting.forget(peer);
            // It has come in elsewhere, and has there what it was promised.
            forget_promise(&mut state.promised, peer);
            return Ok(opened.accept(&listener));
        };
        // [PROTO-4.10] before the use is counted: who is not let in has used nothing.
        if invite.asks {
            let time = (self.clock.now(), now);
            match state.waiting.knock(time, peer, &newcomer.name, invite.invite_key) {
                Knocked::Admitted => {}
                Knocked::Waiting => return Err(Refusal::Waiting),
                Knocked::Refused => return Err(Refusal::TurnedAway),
                Knocked::Full => return Err(Refusal::Busy),
            }
        }
        if let Some(share) = share {
            let counted = self.counter.count(invite, *share, peer);
            match counted {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::TicketUsedUp),
                Err(error) => {
                    tracing::warn!(%error, "cannot count a ticket's use, so nobody is admitted");
                    return Err(Refusal::Busy);
                }
            }
        }
        if let Some(consent) = addition {
            // Whoever is one too many asks again.
            if state.additions.len() < ADDITIONS_MAX {
                state.additions.insert(peer, *consent);
            }
            return Err(Refusal::Later);
        }
        if share.is_none() && state.redeemed.len() < REDEEMED_LIMIT {
            state.redeemed.push(((**invite).clone(), peer));
        }
        let belongs = newcomer.member.is_some_and(|member| charter.is_member(member));
        let outdated = role.is_none();
        let promised = invite.role.filter(|_| !belongs).map(|role| Promised { role, outdated });
        let accepted = opened.accept(&listener);
        // It may ask again, by another ticket.
        forget_promise(&mut state.promised, peer);
        if let Some(promised) = promised {
            if state.promised.len() >= PROMISED_LIMIT {
                state.promised.pop_front();
            }
            state.promised.push_back((peer, promised));
        }
        Ok(accepted)
    }
}

fn forget_promise(
    promised: &mut VecDeque<(DeviceId, Promised)>,
    device: DeviceId,
) -> Option<Promised> {
    let place = promised.iter().position(|(it, _)| *it == device)?;
    promised.remove(place).map(|(_, promised)| promised)
}

impl State {
    fn refuse(
        &self,
        refusal: Refusal,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> Vec<u8> {
        let (organisation, charter) = match &self.standing {
            Standing::Member(charter, _) | Standing::Relay(charter) => {
                (charter.organisation(), Some(&**charter))
            }
            Standing::Newcomer(ticket) => (ticket.invite().organisation, None),
            Standing::NewRelay(organisation) => (*organisation, None),
        };
        hello::refuse(refusal, organisation, charter, exporter, peer, greeting)
    }

    /// What this node says of itself to `peer`: to whom nothing shows to be a member or a relay no
    /// more than it takes to be admitted. The rest comes by the link. [PROTO-3.11]
    fn presence_for(&self, peer: DeviceId) -> Presence {
        let is_known = match &self.standing {
            Standing::Member(charter, _) | Standing::Relay(charter) => {
                self.expected.contains(&peer)
                    || charter.owner(peer).is_some()
                    || charter.state().relay(peer).is_some()
            }
            // It greets whom its ticket names, and nobody else.
            Standing::Newcomer(_) => true,
            Standing::NewRelay(_) => false,
        };
        let mut presence = self.presence.clone();
        if !is_known {
            presence.addresses.clear();
            presence.listening.clear();
        }
        presence
    }
}

impl Admission for Doorkeeper {
    fn greeting(&self, peer: DeviceId, exporter: &[u8; 32]) -> Vec<u8> {
        let mut state = self.lock();
        let presence = &state.presence_for(peer);
        let greeting = match &state.standing {
            // It was dialled before a door has let us in. It would take us for a member, and have
            // the link end at once, since we know of no charter yet that names it. [PROTO-3.27]
            Standing::Member(charter, _)
                if self.led_by.contains(&peer) && charter.state().relay(peer).is_none() =>
            {
                return Vec::new();
            }
            Standing::Member(charter, member) => {
                let chain = charter.chain_of(*member);
                let greet = match charter.state().relay(peer) {
                    Some(_) => Greeting::member_to_relay,
                    None => Greeting::member,
                };
                Ok(greet(charter, self.key.id(), &chain, presence, *exporter))
            }
            Standing::Relay(charter) => {
                Ok(Greeting::relay(charter, self.key.id(), presence, *exporter))
            }
            // It waits for who dials it.
            Standing::NewRelay(_) => return Vec::new(),
            // Who was a member once can show a chain that a newcomer cannot see the end of.
            // [PROTO-3.12]
            Standing::Newcomer(_) if !self.is_named(peer) => {
                state.met_unnamed = true;
                return Vec::new();
            }
            Standing::Newcomer(ticket) => {
                let now = self.clock.unix();
                match ticket.invite().member {
                    Some(member) => Greeting::redeem_as_device(
                        now, ticket, &self.key, member, presence, *exporter,
                    ),
                    None => Greeting::redeem(
                        now,
                        ticket,
                        self.key.id(),
                        self.recovery,
                        presence,
                        *exporter,
                    ),
                }
            }
        };
        let Ok(greeting) = greeting else {
            // The ticket has expired while we tried; the listener will say so, too.
            state.refused = Some(Refusal::TicketExpired);
            return Vec::new();
        };
        let bytes = greeting.bytes().to_vec();
        if state.sent.len() >= SENT_LIMIT {
            state.sent.pop_front();
        }
        state.sent.push_back(((peer, *exporter), greeting));
        bytes
    }

    fn answer(
        &self,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> (Vec<u8>, Result<PeerHello, HelloDenial>) {
        let mut state = self.lock();
        let refusal = match self.open(&mut state, peer, exporter, greeting) {
            Ok((answer, hello)) => return (answer, Ok(hello)),
            Err(refusal) => refusal,
        };
        let answer = state.refuse(refusal, peer, exporter, greeting);
        let led = match &state.standing {
            Standing::Relay(charter) if refusal == Refusal::Leads => {
                hello::invite_of(charter.organisation(), exporter, greeting)
            }
            Standing::Member(charter, member) if refusal == Refusal::TicketRevoked => {
                let invite = hello::invite_of(charter.organisation(), exporter, greeting);
                let issuer = invite.as_ref().and_then(|invite| charter.owner(invite.issuer));
                let right = (Capabilities::ADMIT, Place::Organisation);
                if issuer == Some(*member) || charter.allows(*member, right.0, right.1) {
                    state.tried.extend(invite);
                    // It knocks again and again.
                    let excess = state.tried.len().saturating_sub(TRIED_LIMIT);
                    state.tried.drain(..excess);
                }
                None
            }
            _ => None,
        };
        let denial = led.map_or(HelloDenial::Refused(refusal), |invite| HelloDenial::Led {
            invite: invite.invite_key,
        });
        (answer, Err(denial))
    }

    fn conclude(
        &self,
        peer: DeviceId,
        exporter: &[u8; 32],
        answer: &[u8],
    ) -> Result<PeerHello, HelloError> {
        let mut state = self.lock();
        let place = state.sent.iter().position(|(of, _)| *of == (peer, *exporter));
        let (_, greeting) =
            place.and_then(|place| state.sent.remove(place)).ok_or(HelloError::Malformed)?;
        match greeting.read_answer(peer, answer) {
            Ok(welcome) => {
                if let Standing::Newcomer(_) = state.standing {
                    if !self.doors.contains(&peer) {
                        return Err(HelloError::Malformed);
                    }
                    let leaf = welcome.chain.leaf().ok_or(HelloError::Malformed)?;
                    let member = leaf.unverified().member();
                    let charter = welcome.charter;
                    state.admitted = Some(Admitted { charter: charter.clone(), member });
                    state.standing = Standing::Member(Arc::new(charter), member);
                }
                Ok(welcome.peer)
            }
            Err(error) => {
                match &error {
                    // Its doors are yet to be heard.
                    HelloError::Refused(Refusal::Leads) => {}
                    HelloError::Refused(refusal) | HelloError::Unsealed(refusal) => {
                        // [PROTO-3.6] [PROTO-3.25]
                        let is_sealed = matches!(error, HelloError::Refused(_));
                        if is_sealed && self.is_named(peer) && *refusal == Refusal::Waiting {
                            state.waits = Some(self.clock.now());
                        } else if is_sealed && self.is_named(peer) {
                            state.refused = Some(*refusal);
                        } else {
                            state.hinted = Some(*refusal);
                        }
                        if matches!(state.standing, Standing::Member(..)) {
                            state.turned_away = Some((peer, *refusal));
                        }
                    }
                    HelloError::Ended(pieces) => state.proof.clone_from(pieces),
                    _ => {}
                }
                Err(error)
            }
        }
    }
}

/// Of a relay, which is no door.
struct NoTickets;

impl UseCounter for NoTickets {
    fn count(&self, _: &Invite, _: u8, _: DeviceId) -> std::io::Result<bool> {
        Ok(false)
    }
}

/// Newcomers with a role who have been admitted and do not come; another one then gets none.
const PROMISED_LIMIT: usize = 256;

/// Devices that wait to be noted as let in; further ones are not noted.
const REDEEMED_LIMIT: usize = 256;

/// Revoked tickets that wait to be noted; the oldest goes.
const TRIED_LIMIT: usize = 16;

/// Greetings whose answers have not come; the oldest Hello then fails.
const SENT_LIMIT: usize = 256;

/// Devices dialled last whose records are known; others are told less until they have shown
/// themselves.
const EXPECTED_LIMIT: usize = 256;

/// Devices that wait to be added at a time.
const ADDITIONS_MAX: usize = 16;
