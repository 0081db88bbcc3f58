use hark_charter::{Charter, PROOF_PIECES_MAX, Piece, clean_name, content::Change};
use hark_keys::{
    DeviceId, Door, List, SeededRandom, Terms, Ticket, UnixTime, encode, open_once, seal_once,
};
use hark_mesh::{
    ADDRESSES_MAX,
    hello::{
        Greeting, HELLO_MAX_BYTES, HelloError, HelloRequest, Listener, PeerHello,
        open_first_greeting, open_greeting, refuse,
    },
    message::LISTENING_MAX,
};

use crate::world::{Member, WORLD, device, key};

/// Both ends of a Hello. Only a member, or the holder of a ticket, gets through. A peer that gets
/// through receives an answer that it can read. What a peer says of itself stays within its limits.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    match mode % MODES {
        GREETING => is_greeting(WORLD.cid.key.id(), rest),
        GREETING_OF_MEMBER => is_greeting(WORLD.cid.key.id(), &sealed(&greeting_header(), rest)),
        GREETING_OF_NEWCOMER => is_greeting(newcomer(), &sealed(&greeting_header(), rest)),
        ANSWER => is_answer(member_greeting(), rest),
        ANSWER_WITH_PROOF => is_answer(member_greeting(), &sealed(&PROOF_HEADER, rest)),
        ANSWER_TO_MEMBER => is_answer(member_greeting(), &sealed(&ANSWER_HEADER, rest)),
        _ => is_answer(newcomer_greeting(), &sealed(&ANSWER_HEADER, rest)),
    }
}

fn is_greeting(remote: DeviceId, bytes: &[u8]) -> bool {
    let organisation = WORLD.charter.organisation();
    if let Ok((charter, _)) = open_first_greeting(organisation, &EXPORTER, remote, bytes) {
        assert!(charter.roots().eq(WORLD.charter.roots()), "there is one organisation of this id");
    }
    let listener = listener(&WORLD.founder);
    let opened = open_greeting(NOW, &listener, &EXPORTER, remote, bytes);
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            let charter = Some(&*WORLD.charter);
            let answer = refuse(refusal, organisation, charter, &EXPORTER, remote, bytes);
            let told = member_greeting().read_answer(WORLD.founder.key.id(), &answer).err();
            // Nobody was removed. A peer that does not know the organisation learns no more than
            // the refusal.
            let sealed = Some(HelloError::Refused(refusal));
            let unsealed = Some(HelloError::Unsealed(refusal));
            assert!(told == sealed || told == unsealed, "{told:?}");
            return false;
        }
    };
    let greeting = match opened.request() {
        HelloRequest::Member(peer) => {
            assert_eq!(remote, WORLD.cid.key.id(), "a member has its own certificates");
            check(peer);
            member_greeting()
        }
        HelloRequest::Redeem { peer, invite, share, addition, role } => {
            assert_eq!(*role, None, "no ticket that we have made promises one");
            assert!(invite.expires > NOW && share.is_some() == addition.is_some());
            check_bounds(peer);
            if let Some(consent) = addition {
                // The peer asks for what it has agreed to and what the door can do.
                let own = &WORLD.founder;
                assert_eq!((peer.member, remote), (Some(own.member), newcomer()));
                let add = Change::AddDevice { device: remote, consent: *consent };
                assert!(WORLD.charter.edit(&own.key, own.member, vec![add]).is_ok());
                return true;
            }
            assert_eq!(WORLD.charter.verify_chain(&peer.chain, remote).map(Some), Ok(peer.member));
            newcomer_greeting()
        }
    };
    let redeems = matches!(opened.request(), HelloRequest::Redeem { .. });
    let (answer, peer) = opened.accept(&listener);
    assert!(peer.device == remote && answer.len() <= HELLO_MAX_BYTES);
    // A member that redeems a ticket is not the newcomer of the greeting that is at hand here.
    if redeems == (remote == newcomer()) {
        let welcome = greeting.read_answer(WORLD.founder.key.id(), &answer);
        let welcome = welcome.expect("who is accepted reads the answer");
        assert_eq!(welcome.peer.name, WORLD.founder.presence.name);
    }
    true
}

fn is_answer(greeting: Greeting, bytes: &[u8]) -> bool {
    let welcome = match greeting.read_answer(WORLD.founder.key.id(), bytes) {
        Ok(welcome) => welcome,
        Err(HelloError::Ended(pieces)) => {
            // Nobody is removed in this world, whatever is presented as proof.
            let mut charter = Charter::clone(&WORLD.charter);
            charter.take_all(pieces);
            assert!(charter.is_member(WORLD.cid.member));
            return true;
        }
        Err(_) => return false,
    };
    let charter = &welcome.charter;
    assert_eq!(charter.organisation(), WORLD.charter.organisation());
    assert!(charter.roots().eq(WORLD.charter.roots()), "there is one organisation of this id");
    assert_eq!(welcome.peer.device, WORLD.founder.key.id());
    // A newcomer knows only the root documents, and learns the rest once it is linked.
    let peer = &welcome.peer;
    assert_eq!(
        charter.rooted_chain(&peer.chain, peer.device, &peer.added, false).map(Some),
        Ok(peer.member)
    );
    if *charter == *WORLD.charter {
        check(peer);
    }
    check_bounds(peer);
    true
}

fn check(peer: &PeerHello) {
    assert_eq!(WORLD.charter.verify_chain(&peer.chain, peer.device).map(Some), Ok(peer.member));
    check_bounds(peer);
}

fn check_bounds(peer: &PeerHello) {
    assert_eq!(clean_name(&peer.name), peer.name);
    assert!(peer.addresses.len() <= ADDRESSES_MAX && peer.listening.len() <= LISTENING_MAX);
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let listener = listener(&WORLD.founder);
    let answer = |remote, greeting: &Greeting| {
        let opened = open_greeting(NOW, &listener, &EXPORTER, remote, greeting.bytes());
        opened.expect("a good greeting").accept(&listener).0
    };
    let [member, newcomer_says] = [member_greeting(), newcomer_greeting()];
    let to_member = answer(WORLD.cid.key.id(), &member);
    let to_newcomer = answer(newcomer(), &newcomer_says);
    let header = greeting_header().len();
    let body = |mode, side, header: usize, bytes: &[u8]| {
        let (header, sealed) = bytes.split_at(header);
        let body = open_once(&side_key(b"body", side), header, sealed).expect("our own seal");
        [&[mode][..], &body].concat()
    };
    vec![
        ("greeting", [&[GREETING][..], member.bytes()].concat()),
        ("greeting_of_member", body(GREETING_OF_MEMBER, DIALLER, header, member.bytes())),
        (
            "greeting_of_newcomer",
            body(GREETING_OF_NEWCOMER, DIALLER, header, newcomer_says.bytes()),
        ),
        (
            "greeting_of_device",
            body(GREETING_OF_NEWCOMER, DIALLER, header, device_greeting().bytes()),
        ),
        ("answer", [&[ANSWER][..], &to_member].concat()),
        ("answer_with_proof", [&[ANSWER_WITH_PROOF][..], &proof()].concat()),
        ("answer_to_member", body(ANSWER_TO_MEMBER, LISTENER, ANSWER_HEADER.len(), &to_member)),
        (
            "answer_to_newcomer",
            body(ANSWER_TO_NEWCOMER, LISTENER, ANSWER_HEADER.len(), &to_newcomer),
        ),
    ]
}

fn listener(member: &'static Member) -> Listener<'static> {
    let Member { key, member, presence, .. } = member;
    Listener { charter: &WORLD.charter, key, member: Some(*member), presence }
}

fn member_greeting() -> Greeting {
    let Member { key, chain, presence, .. } = &WORLD.cid;
    Greeting::member(&WORLD.charter, key.id(), chain, presence, EXPORTER)
}

fn newcomer_greeting() -> Greeting {
    let Member { key, presence, .. } = &WORLD.founder;
    let door = Door { device: key.id(), addresses: presence.addresses.clone() };
    let expires = UnixTime::from_secs(2_000);
    let (organisation, random) = (WORLD.charter.organisation(), SeededRandom::new(5));
    let terms = Terms::until(expires);
    let ticket = Ticket::issue(key, organisation, "Squad", terms, vec![door], &random);
    let presence = &WORLD.bob.presence;
    Greeting::redeem(NOW, &ticket, newcomer(), None, presence, EXPORTER)
        .expect("the ticket has not expired")
}

fn device_greeting() -> Greeting {
    let Member { key: own, member, presence, .. } = &WORLD.founder;
    let (organisation, random) = (WORLD.charter.organisation(), SeededRandom::new(5));
    let terms = Terms::until(UnixTime::from_secs(2_000));
    let at = presence.addresses.clone();
    let ticket = Ticket::for_device(own, organisation, "Squad", terms, *member, at, &random);
    let presence = &WORLD.bob.presence;
    Greeting::redeem_as_device(NOW, &ticket, &key(9), *member, presence, EXPORTER)
        .expect("the ticket has not expired")
}

/// Pieces that are presented as proof of something that has not happened.
fn proof() -> Vec<u8> {
    let pieces = WORLD.charter.pieces_in_order().take(4);
    encode(&List::<Piece, PROOF_PIECES_MAX>::truncated(pieces))
}

fn newcomer() -> DeviceId {
    device(9)
}

/// Seals the body of a Hello. [PROTO-3.2]
fn sealed(header: &[u8], body: &[u8]) -> Vec<u8> {
    let side = if header.len() == greeting_header().len() { DIALLER } else { LISTENER };
    [header, &seal_once(&side_key(b"body", side), header, body)].concat()
}

fn greeting_header() -> Vec<u8> {
    [b"HARK\x01\x01", &side_key(b"tag", DIALLER)[..16]].concat()
}

fn side_key(label: &[u8], side: &[u8]) -> [u8; 32] {
    let input = [label, side, &EXPORTER].concat();
    blake3::keyed_hash(WORLD.charter.organisation().as_bytes(), &input).into()
}

const NOW: UnixTime = UnixTime::from_secs(1_000);
const EXPORTER: [u8; 32] = [7; 32];
const ANSWER_HEADER: [u8; 5] = *b"HARK\x01";
const PROOF_HEADER: [u8; 6] = *b"HARK\x00\x09";
const DIALLER: &[u8] = b"dialler";
const LISTENER: &[u8] = b"listener";

/// The input is a whole greeting.
const GREETING: u8 = 0;
/// The input is the body of a greeting, which a member seals.
const GREETING_OF_MEMBER: u8 = 1;
/// The input is the body of a greeting, which the holder of a ticket seals.
const GREETING_OF_NEWCOMER: u8 = 2;
/// The input is a whole answer.
const ANSWER: u8 = 3;
/// The input is the body of an answer to a member, which a listener seals.
const ANSWER_TO_MEMBER: u8 = 4;
/// The input is the body of an answer to the holder of a ticket, which a listener seals.
const ANSWER_TO_NEWCOMER: u8 = 5;
/// The input is the body of a proof that a member was removed.
const ANSWER_WITH_PROOF: u8 = 6;
const MODES: u8 = 7;
