use std::sync::{Arc, LazyLock};

use hark_charter::{
    CertificateChain, Charter, NameKey, Piece,
    content::{
        Capabilities, Change, Channel, ChannelName, Grant, Place, Rank, Role, Rule, Subject,
    },
};
use hark_keys::{ChannelId, DeviceId, DeviceKey, MemberId, RoleId, SeededRandom};
use hark_mesh::{List, hello::Presence};

/// An organisation and four of its devices, which are the same in each run.
///
/// ```text
/// Voice ──linked── Bravo      for all
/// Alpha                       for nobody
///   └ Wing                    for pilots: Bob and Cid
///       └ Ghost               the same, and hidden
/// ```
pub(crate) struct World {
    pub(crate) charter: Arc<Charter>,
    /// Holds the root key.
    pub(crate) founder: Member,
    /// Admitted by the founder. An officer of rank 10, and a pilot.
    pub(crate) bob: Member,
    /// Admitted by Bob. A pilot.
    pub(crate) cid: Member,
    /// Admitted by Cid. Has no role.
    pub(crate) dora: Member,
    /// The key of the hidden channel's name.
    pub(crate) name_key: NameKey,
    /// The channel that the organisation began with.
    pub(crate) voice: ChannelId,
}

/// Runs a task that waits for nothing outside the input.
pub(crate) fn block_on<T>(task: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("a runtime")
    });
    RUNTIME.block_on(task)
}

/// A device with everything that it needs to be a member.
pub(crate) struct Member {
    pub(crate) key: Arc<DeviceKey>,
    pub(crate) member: MemberId,
    pub(crate) chain: CertificateChain,
    pub(crate) presence: Presence,
}

impl World {
    /// The member to which the targets refer as `number`: 2 is Bob.
    pub(crate) fn member(&self, number: u8) -> &Member {
        [&self.founder, &self.cid, &self.bob, &self.dora][usize::from(number % 4)]
    }

    /// The channel to which the targets refer as `number`. The last one does not exist yet.
    pub(crate) fn channel(&self, number: u8) -> ChannelId {
        [self.voice, ALPHA, BRAVO, WING, GHOST, NEW][usize::from(number % 6)]
    }
}

/// Made only once, since signatures cost more than what is tested with them.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let [founder, bob, cid, dora] = [1, 2, 3, 4].map(key);
    let random = SeededRandom::new(1);
    let mut charter = Charter::found("Squad", "Voice", &founder, None, &random);
    for (issuer, device) in [(&founder, &bob), (&bob, &cid), (&cid, &dora)] {
        let member = charter.member_of(issuer.id());
        let certificate = charter.issue(issuer, member, device.id(), None);
        let piece = Piece::Certificate(certificate.expect("every member admits"));
        assert_eq!(charter.take(piece), Ok(true));
    }
    let members = [&founder, &bob, &cid].map(|key| charter.member_of(key.id()));
    let voice = charter.first_channel(members[0]).expect("there is one channel").id;
    let name_key = NameKey::generate(&random);
    let operation = charter.edit(&founder, members[0], changes(members, voice, &name_key));
    let operation = operation.expect("the founder may do everything");
    assert_eq!(charter.take(Piece::Operation(operation)), Ok(true));
    let member = |key: DeviceKey, number, name| {
        let member = charter.member_of(key.id());
        let presence = presence(number, name, voice);
        Member { chain: charter.chain_of(member), member, presence, key: Arc::new(key) }
    };
    World {
        founder: member(founder, 1, "Ann"),
        bob: member(bob, 2, "Bob"),
        cid: member(cid, 3, "Cid"),
        dora: member(dora, 4, "Dora"),
        name_key,
        voice,
        charter: Arc::new(charter),
    }
});

fn changes([_, bob, cid]: [MemberId; 3], voice: ChannelId, name_key: &NameKey) -> Vec<Change> {
    let role = |id, name: &str, rank, capabilities| {
        Change::Role(Role { id, name: name.to_owned(), rank: Rank(rank), capabilities })
    };
    let grant = |role, members: &[MemberId]| {
        let mut members = members.to_vec();
        members.sort();
        Change::Grant(Grant { role, at: Place::Organisation, members: List::truncated(members) })
    };
    // The first channel stays the first.
    let below = |parent, channel| Change::Channel(Channel { parent, order: 1, ..channel });
    let name = ChannelName::Hidden(name_key.seal(GHOST, "Ghost"));
    let speech = Capabilities::JOIN | Capabilities::LISTEN | Capabilities::SPEAK;
    let rule = |at, subject, allow, deny| {
        Change::Rule(Rule { at: Place::Channel(at), subject, allow, deny })
    };
    vec![
        role(OFFICER, "officer", 10, Capabilities::ALL),
        role(PILOT, "pilot", 100, Capabilities::NONE),
        grant(OFFICER, &[bob]),
        grant(PILOT, &[bob, cid]),
        below(Place::Organisation, Channel::open(ALPHA, "Alpha")),
        below(Place::Organisation, Channel::open(BRAVO, "Bravo")),
        below(Place::Channel(ALPHA), Channel::open(WING, "Wing")),
        below(Place::Channel(WING), Channel { name, ..Channel::open(GHOST, "Ghost") }),
        rule(ALPHA, Subject::Everyone, Capabilities::NONE, speech),
        rule(WING, Subject::Role(PILOT), speech, Capabilities::NONE),
        Change::Link { a: BRAVO.min(voice), b: BRAVO.max(voice), linked: true },
    ]
}

/// The key of the device to which the targets refer as `number`.
pub(crate) fn key(number: u8) -> DeviceKey {
    DeviceKey::from_secret(&[number; 32])
}

/// The id of the device to which the targets refer as `number`.
pub(crate) fn device(number: u8) -> DeviceId {
    key(number).id()
}

fn presence(incarnation: u64, name: &str, voice: ChannelId) -> Presence {
    let addresses = ["192.0.2.1:7000", "[2001:db8::1]:7000"]
        .map(|text| text.parse().expect("an address"))
        .to_vec();
    Presence { incarnation, name: name.to_owned(), addresses, listening: vec![voice] }
}

/// The officers' role.
pub(crate) const OFFICER: RoleId = RoleId::from_bytes([1; 16]);
/// The pilots' role.
pub(crate) const PILOT: RoleId = RoleId::from_bytes([2; 16]);
pub(crate) const ALPHA: ChannelId = ChannelId::from_bytes([1; 16]);
pub(crate) const BRAVO: ChannelId = ChannelId::from_bytes([2; 16]);
pub(crate) const WING: ChannelId = ChannelId::from_bytes([3; 16]);
pub(crate) const GHOST: ChannelId = ChannelId::from_bytes([4; 16]);
/// A channel that operations can create.
const NEW: ChannelId = ChannelId::from_bytes([5; 16]);
