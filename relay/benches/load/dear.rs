//! An officer who sends, at 1 Mbit/s, what costs a relay most, in an organisation with a long
//! history.

use hark_charter::{
    Charter, Piece,
    content::{Capabilities, Change, Channel, Grant, Place, Rank, Role},
};
use hark_mesh::{message::Message, pack::pack};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_keys::{Cosigned, DeviceKey, List, MemberId, ObjectHash, RoleId};

use tokio::sync::oneshot;

use crate::{process::Organisation, room::Room};

/// A kind of message that costs the relay much.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Operations that come before nearly all others in order, so that the whole history is judged
    /// again.
    Early,
    /// The question of a newcomer, to whom everything must be sent.
    Newcomer,
    /// Certificates that the relay already has.
    Known,
    /// Digests that differ from the relay's, each of which asks for what the relay has.
    Digest,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Early, Kind::Newcomer, Kind::Known, Kind::Digest];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Early => "operations before nearly all",
            Self::Newcomer => "a newcomer's question",
            Self::Known => "known certificates",
            Self::Digest => "digests",
        })
    }
}

/// Gives the charter a long history, and gives the last member the rights of an officer.
pub(crate) fn prepare(organisation: &mut Organisation) -> anyhow::Result<()> {
    let Organisation { charter, founder, members, .. } = organisation;
    let own = charter.member_of(founder.id());
    let officer = members.last().context("nobody to flood")?;
    let role = Role {
        id: RoleId::from_bytes([7; 16]),
        name: "flooder".to_owned(),
        rank: Rank(5),
        capabilities: Capabilities::ALL,
    };
    let members = List::truncated([charter.member_of(officer.id())]);
    let grant = Grant { role: role.id, at: Place::Organisation, members };
    take(charter, founder, own, vec![Change::Role(role), Change::Grant(grant)])?;
    for number in 0..OPERATIONS {
        let change = reorder(charter, number)?;
        take(charter, founder, own, vec![change])?;
    }
    Ok(())
}

/// A change that moves the first channel to another place among its siblings.
fn reorder(charter: &Charter, number: usize) -> anyhow::Result<Change> {
    let channel = charter.state().channels().next().context("no channel")?.clone();
    Ok(Change::Channel(Channel { order: u16::try_from(number)?, ..channel }))
}

fn take(
    charter: &mut Charter,
    key: &DeviceKey,
    member: MemberId,
    changes: Vec<Change>,
) -> anyhow::Result<()> {
    let draft = charter.draft(key.id(), member, Vec::new(), changes)?;
    charter.take(Piece::Operation(Cosigned::unsigned(draft).signed(key)))?;
    Ok(())
}

/// A flood of messages of one kind, which lasts until it is stopped.
pub(crate) struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
}

impl Flood {
    /// Has the last member of `room` send the messages.
    pub(crate) fn start(room: &Room, kind: Kind) -> anyhow::Result<Self> {
        let messages = messages(&room.organisation, kind)?;
        let sender = room.members.last().context("nobody to flood")?.messages.clone();
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (Arc::clone(&over), Arc::clone(&sent));
        room.links.spawn(async move {
            let begun = Instant::now();
            for message in messages.iter().cycle() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let total = count.fetch_add(message.len(), Ordering::Relaxed);
                let due = Duration::from_secs_f64(total as f64 / BYTES_PER_SECOND);
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
                // Nobody waits for the acknowledgement.
                let (answered, _) = oneshot::channel();
                let _ = sender.send((message.clone(), answered));
            }
        });
        Ok(Self { over, sent })
    }

    /// Stops the flood and returns how many bytes were sent.
    pub(crate) fn stop(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed)
    }
}

/// Enough different messages for a minute, or a few that can be sent again and again.
fn messages(organisation: &Organisation, kind: Kind) -> anyhow::Result<Vec<Vec<u8>>> {
    let Organisation { charter, members, .. } = organisation;
    Ok(match kind {
        Kind::Early => {
            let officer = members.last().context("nobody to flood")?;
            let member = charter.member_of(officer.id());
            let (known, _) = charter.log().nth(EARLY).context("no history")?;
            let (parent, lamport) = (known.hash(), known.unverified().lamport + 1);
            let early = |number| {
                let change = reorder(charter, number)?;
                let mut draft = charter.draft(officer.id(), member, Vec::new(), vec![change])?;
                draft.parents = List::truncated([parent]);
                draft.lamport = lamport;
                let piece = Piece::Operation(Cosigned::unsigned(draft).signed(officer));
                Ok(pack([piece]).remove(0).encode())
            };
            (0..EARLY_ONES).map(early).collect::<anyhow::Result<_>>()?
        }
        Kind::Newcomer => {
            let newcomer = Charter::of_roots(charter.roots().cloned());
            vec![Message::Have(newcomer.context("sound roots")?.have()).encode()]
        }
        Kind::Known => {
            let newcomer = Charter::of_roots(charter.roots().cloned()).context("sound roots")?;
            pack(charter.lacking(&newcomer.have())).iter().map(Message::encode).collect()
        }
        Kind::Digest => (0..=u8::MAX)
            .map(|byte| Message::Digest(ObjectHash::from_bytes([byte; 32])).encode())
            .collect(),
    })
}

const BYTES_PER_SECOND: f64 = 1e6 / 8.0;

/// The number of operations in the organisation's history.
const OPERATIONS: usize = 2_000;

/// The early operations come after this many of them.
const EARLY: usize = 10;

/// The number of different early operations.
const EARLY_ONES: usize = 4_000;
