//! What carries one organisation, as the rest of the program sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use hark_keys::{ChannelId, DeviceId, DeviceKey, MemberId, OrganisationId, UnixTime};
use serde::Serialize;

use crate::{
    error::RelayError, event::RelayEvent, home::TenantStore, metering::MeteredTraffic,
    state::Quotas, text::Text,
};

/// One organisation at work, on a thread of its own.
pub trait Carrier: Send + Sync {
    /// Does it soon.
    fn command(&self, command: CarrierCommand);

    /// How it stands; at most a second old.
    fn snapshot(&self) -> Arc<CarrierSnapshot>;

    /// Says goodbye to all devices, and returns when all has ended, with all that was carried since
    /// the carrier started.
    fn stop(self: Box<Self>, reason: &str) -> MeteredTraffic;
}

/// What a carrier is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CarrierCommand {
    /// How much the organisation may use from now on.
    SetQuotas(Quotas),
    /// Who is kept out from now on, and sent away who is here.
    SetBans(BTreeSet<DeviceId>),
    /// Whether to take nothing new, and have devices go elsewhere.
    Drain(bool),
    /// Ends the link with a device, which may come back.
    Disconnect(DeviceId),
}

/// What a carrier begins with.
pub struct Assignment {
    /// For whom.
    pub organisation: OrganisationId,
    /// The relay's identity there.
    pub key: DeviceKey,
    /// What is kept of it.
    pub store: TenantStore,
    /// Where to listen: one of these must work, and the first error is told if none does.
    pub listen: Vec<SocketAddr>,
    /// How much it may use.
    pub quotas: Quotas,
    /// Who is kept out.
    pub banned: BTreeSet<DeviceId>,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// Tells what happens.
    pub tell: Tell,
}

/// Takes what happens in one organisation, from any thread.
pub type Tell = Arc<dyn Fn(&RelayEvent) + Send + Sync>;

/// Makes carriers. Fails with one line for the operator, such as that the port is in use.
pub type StartCarrier =
    Box<dyn Fn(Assignment) -> Result<Box<dyn Carrier>, RelayError> + Send + Sync>;

/// How an organisation stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CarrierSnapshot {
    /// What its charter calls it; none until a member has brought that.
    pub name: Option<String>,
    /// Whether its charter names this relay, without which members do not use it.
    pub named: bool,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Who is attached.
    pub sessions: Vec<Session>,
    /// What is heard by somebody who is attached.
    pub channels: Vec<Occupancy>,
    /// What was carried since the carrier started.
    pub traffic: MeteredTraffic,
    /// Packets that were not, since then, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Whether it takes nothing new, and nothing is under way any more.
    pub drained: bool,
    /// Why it has ended, if it has.
    pub ended: Option<String>,
}

/// An attached device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Session {
    /// Which.
    pub device: Text<DeviceId>,
    /// Whose it is.
    pub member: Option<Text<MemberId>>,
    /// Where its packets come from.
    pub address: String,
    /// When it came, in seconds since 1970.
    pub since: UnixTime,
    /// What it hears.
    pub channels: Vec<Text<ChannelId>>,
    /// What it sent and was sent.
    #[serde(flatten)]
    pub traffic: MeteredTraffic,
    /// Its packets that were not carried.
    pub dropped: u64,
}

/// Who hears a channel through this relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// Which channel.
    pub channel: Text<ChannelId>,
    /// What the charter calls it; none of a hidden one.
    pub name: Option<String>,
    /// Attached devices that hear it.
    pub listeners: usize,
}
