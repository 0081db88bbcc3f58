//! The doorkeeper: decides who is admitted, by the Hello of `mesh` with this node's identity,
//! charter and tickets.

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
    /// Whether the invite may admit `device`. This device may grant `share` of its uses. Once true
    /// for a device, it stays true. The use is on disk when this returns.
    fn count(&self, invite: &Invite, share: u8, device: DeviceId) -> std::io::Result<bool>;
}

/// A newcomer's membership after its ticket was redeemed.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The charter of the organisation, as far as the door has sent it.
    pub charter: Charter,
    /// The member that the newcomer has become.
    pub member: MemberId,
}

/// The role that the ticket of an admitted device promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// The role of the ticket.
    pub role: RoleId,
    /// Whether the ticket was issued before the newcomer was removed, so that it no longer gives
    /// the role. [PROTO-4.21]
    pub outdated: bool,
}

/// The relation of this node to the organisation.
enum Standing {
    Newcomer(Box<Ticket>),
    Member(Arc<Charter>, MemberId),
    /// A relay of this organisation that does not know its charter yet.
    NewRelay(OrganisationId),
    Relay(Arc<Charter>),
}

/// This node's side of every Hello.
pub struct Doorkeeper {
    key: DeviceKey,
    /// The printed key of a newcomer, if it has one.
    recovery: Option<Recovery>,
    /// The relays that the newcomer's ticket names.
    led_by: BTreeSet<DeviceId>,
    /// The doors that the newcomer's ticket names. Only these can let it in.
    doors: BTreeSet<DeviceId>,
    clock: Clock,
    counter: Box<dyn UseCounter>,
    state: Mutex<State>,
}

struct State {
    standing: Standing,
    presence: Presence,
    /// The devices that are present, if there is no room for another one.
    full: Option<BTreeSet<DeviceId>>,
    /// Greetings whose answers have not come: at most one direct and one relayed for each device,
    /// since Hellos take turns.
    sent: VecDeque<((DeviceId, [u8; 32]), Greeting)>,
    admitted: Option<Admitted>,
    /// The charter that a relay without one has accepted first.
    begun: Option<Charter>,
    /// Roles promised to devices that were admitted by their tickets and are not linked yet.
    promised: VecDeque<(DeviceId, Promised)>,
    /// Devices that were let in by tickets whose uses are not counted, until they are noted on
    /// disk.
    redeemed: Vec<(Invite, DeviceId)>,
    /// Revoked tickets that were shown here, until the person is notified.
    tried: Vec<Invite>,
    /// Newcomers about whom somebody here is asked.
    waiting: WaitingRoom,
    /// When a door last answered that this newcomer waits there.
    waits: Option<Timestamp>,
    /// The newest refusal by a device that the ticket names.
    refused: Option<Refusal>,
    /// The newest refusal by any other device, or by one that has not shown that it knows the
    /// organisation. The person is informed of it if nobody admits this device; nothing else
    /// depends on it.
    hinted: Option<Refusal>,
    /// Whether this newcomer has met a device that its ticket does not name.
    met_unnamed: bool,
    /// The newest refusal of this member's device, with the device that refused, until it is
    /// reported.
    turned_away: Option<(DeviceId, Refusal)>,
    /// The pieces by which a peer last claimed that this device was removed.
    proof: Vec<Piece>,
    /// Devices that are being dialled and whose records show that they are members'.
    expected: VecDeque<DeviceId>,
    /// Devices that are to be added to this member, with their consents, until they are taken for
    /// the charter.
    additions: BTreeMap<DeviceId, Signature>,
}

impl Doorkeeper {
    /// Creates the doorkeeper of a member.
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

    /// Creates the doorkeeper of a newcomer, which redeems `ticket` and may have printed a
    /// `recovery` key.
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

    /// Creates the doorkeeper of a relay, which belongs to no member. If it knows only the
    /// organisation's id, it takes the `charter` from the first member that connects. [PROTO-3.9]
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

    /// Sets the addresses at which this node can be reached, for the next Hellos.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.lock().presence.addresses = addresses;
    }

    /// Sets the charter that decides from now on who belongs.
    pub fn set_charter(&self, charter: &Arc<Charter>) {
        match &mut self.lock().standing {
            Standing::Member(known, _) | Standing::Relay(known) => *known = Arc::clone(charter),
            Standing::Newcomer(_) | Standing::NewRelay(_) => {}
        }
    }

    /// Sets the public channels that this node listens to, for the next Hellos.
    pub fn set_listening(&self, channels: Vec<ChannelId>) {
        self.lock().presence.listening = channels;
    }

    /// States that `device`, which is being dialled, belongs to a member: its record has shown so,
    /// even if the charter does not contain it yet. [PROTO-3.11]
    pub fn expect(&self, device: DeviceId) {
        let mut state = self.lock();
        state.expected.retain(|it| *it != device);
        if state.expected.len() >= EXPECTED_LIMIT {
            state.expected.pop_front();
        }
        state.expected.push_back(device);
    }

    /// Sets the devices that are present, if there is no room for another one. `None` if there is
    /// room.
    pub fn set_full(&self, here: Option<BTreeSet<DeviceId>>) {
        self.lock().full = here;
    }

    /// The membership that the ticket has given. Returned once.
    pub fn take_admitted(&self) -> Option<Admitted> {
        self.lock().admitted.take()
    }

    /// The charter that a relay without one has accepted. Returned once.
    pub fn take_begun(&self) -> Option<Charter> {
        self.lock().begun.take()
    }

    /// The role that its ticket has promised to a device that is now linked. Returned once.
    /// [PROTO-4.8]
    pub fn take_promised(&self, device: DeviceId) -> Option<Promised> {
        forget_promise(&mut self.lock().promised, device)
    }

    /// Devices that were let in by tickets whose uses are not counted. Each is returned once.
    pub fn take_redeemed(&self) -> Vec<(Invite, DeviceId)> {
        std::mem::take(&mut self.lock().redeemed)
    }

    /// Revoked tickets that were shown here, if this member has issued them or has the right to
    /// admit.
    pub fn take_tried(&self) -> Vec<Invite> {
        std::mem::take(&mut self.lock().tried)
    }

    /// Newcomers that wait to be let in here. Those that have waited the longest come first.
    /// [PROTO-4.10]
    pub fn waiting(&self) -> Vec<(DeviceId, WaitingView)> {
        let mut state = self.lock();
        state.waiting.forget_silent(self.clock.now());
        state.waiting.list()
    }

    /// The newcomers that began to wait since the last call, and the outcomes for those that
    /// waited.
    pub fn take_waiting_news(&self) -> Vec<(WaitingView, WaitingState)> {
        self.lock().waiting.take_news()
    }

    /// Lets in a newcomer that waits, or turns it away. Returns `false` if it waits no longer.
    pub fn decide(&self, device: DeviceId, admit: bool) -> bool {
        self.lock().waiting.decide(device, admit)
    }

    /// When a door of the ticket last answered that somebody there is asked.
    pub fn waits(&self) -> Option<Timestamp> {
        self.lock().waits
    }

    /// The newest refusal by a device that the ticket names.
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.lock().refused
    }

    /// The newest refusal by a device that the ticket does not name, or that has not shown that it
    /// knows the organisation. Anybody can send one. [PROTO-3.6]
    pub fn last_hint(&self) -> Option<Refusal> {
        self.lock().hinted
    }

    /// The answer that refuses `peer`'s greeting for this reason.
    pub fn refuse(
        &self,
        refusal: Refusal,
        peer: DeviceId,
        exporter: &[u8; 32],
        greeting: &[u8],
    ) -> Vec<u8> {
        self.lock().refuse(refusal, peer, exporter, greeting)
    }

    /// The device that last refused this member's device, and its reason. Returned once.
    pub fn take_refusal(&self) -> Option<(DeviceId, Refusal)> {
        self.lock().turned_away.take()
    }

    /// Pieces by which a peer claims that this device was removed. Returned once. The charter shows
    /// whether the claim is true. [PROTO-3.8]
    pub fn take_proof(&self) -> Vec<Piece> {
        std::mem::take(&mut self.lock().proof)
    }

    /// Devices that have redeemed a ticket for a further device of this member. They are to be
    /// added to the charter now, and will ask again. [PROTO-4.7]
    pub fn take_additions(&self) -> BTreeMap<DeviceId, Signature> {
        std::mem::take(&mut self.lock().additions)
    }

    /// Whether this newcomer has met devices that its ticket does not name, and has sent them no
    /// greeting.
    pub fn has_met_unnamed(&self) -> bool {
        self.lock().met_unnamed
    }

    /// Whether the ticket names this device, as a door or as a relay that leads to one.
    pub fn is_named(&self, device: DeviceId) -> bool {
        self.doors.contains(&device) || self.led_by.contains(&device)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is a single assignment, so the state is consistent after a
        // panic.
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
            // A newcomer cannot admit anybody.
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
            // The device has joined elsewhere, and got there what it was promised.
            forget_promise(&mut state.promised, peer);
            return Ok(opened.accept(&listener));
        };
        // [PROTO-4.10] This comes before the use is counted: a newcomer that is not let in has used
        // nothing.
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
            // A device for which there is no room asks again.
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
        // The device may ask again by another ticket.
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

    /// The presence that this node states to `peer`. If nothing shows that `peer` is a member or a
    /// relay, it contains no more than admission needs. The rest is sent on the link. [PROTO-3.11]
    fn presence_for(&self, peer: DeviceId) -> Presence {
        let is_known = match &self.standing {
            Standing::Member(charter, _) | Standing::Relay(charter) => {
                self.expected.contains(&peer)
                    || charter.owner(peer).is_some()
                    || charter.state().relay(peer).is_some()
            }
            // A newcomer greets only the devices that its ticket names.
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
            // The relay was dialled before a door let us in. It would take us for a member, and the
            // link would end at once, since we know no charter yet that names the relay.
            // [PROTO-3.27]
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
            // A relay without a charter waits until a member dials it.
            Standing::NewRelay(_) => return Vec::new(),
            // A former member can show a chain whose end a newcomer cannot see. [PROTO-3.12]
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
            // The ticket has expired in the meantime. The listener would say the same.
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
                    // A newcomer knocks repeatedly.
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
                    // The doors to which this relay leads have not answered yet.
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

/// The counter of a relay, which is no door and admits nobody by a ticket.
struct NoTickets;

impl UseCounter for NoTickets {
    fn count(&self, _: &Invite, _: u8, _: DeviceId) -> std::io::Result<bool> {
        Ok(false)
    }
}

/// Admitted newcomers whose role is remembered until they are linked. If there are more, the oldest
/// is forgotten and gets no role.
const PROMISED_LIMIT: usize = 256;

/// Devices that wait to be noted as let in. Further ones are not noted.
const REDEEMED_LIMIT: usize = 256;

/// Revoked tickets that wait to be reported. The oldest is dropped first.
const TRIED_LIMIT: usize = 16;

/// Greetings whose answers have not come. If there are more, the oldest Hello fails.
const SENT_LIMIT: usize = 256;

/// Devices dialled last whose records are known. Other devices get less of our presence until they
/// have shown that they are members'.
const EXPECTED_LIMIT: usize = 256;

/// Devices that wait to be added at a time.
const ADDITIONS_MAX: usize = 16;
