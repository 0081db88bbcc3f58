//! The interface to whatever carries one organisation.

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

/// Serves one organisation, on a thread of its own.
pub trait Carrier: Send + Sync {
    /// Carries out a command soon.
    fn command(&self, command: CarrierCommand);

    /// The state of the organisation, at most one second old.
    fn snapshot(&self) -> Arc<CarrierSnapshot>;

    /// Says goodbye to all devices and returns when everything has ended. Returns all that was
    /// carried since the carrier started.
    fn stop(self: Box<Self>, reason: &str) -> MeteredTraffic;
}

/// A command to a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CarrierCommand {
    /// Sets how much the organisation may use from now on.
    SetQuotas(Quotas),
    /// Sets which devices are banned from now on. Those that are attached are disconnected.
    SetBans(BTreeSet<DeviceId>),
    /// Sets whether the carrier accepts nothing new and has its devices move elsewhere.
    Drain(bool),
    /// Ends the link with a device. The device may come back.
    Disconnect(DeviceId),
}

/// What a carrier needs to start.
pub struct Assignment {
    /// The organisation to serve.
    pub organisation: OrganisationId,
    /// The relay's identity in that organisation.
    pub key: DeviceKey,
    /// What is stored of the organisation.
    pub store: TenantStore,
    /// The addresses to listen on. At least one of these must work; if none does, the first error
    /// is reported.
    pub listen: Vec<SocketAddr>,
    /// How much the organisation may use.
    pub quotas: Quotas,
    /// The devices that are banned.
    pub banned: BTreeSet<DeviceId>,
    /// Whether the carrier accepts nothing new.
    pub draining: bool,
    /// Reports events.
    pub tell: Tell,
}

/// Takes the events of one organisation, from any thread.
pub type Tell = Arc<dyn Fn(&RelayEvent) + Send + Sync>;

/// Makes carriers. Fails with one line for the operator, such as that the port is in use.
pub type StartCarrier =
    Box<dyn Fn(Assignment) -> Result<Box<dyn Carrier>, RelayError> + Send + Sync>;

/// The state of an organisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CarrierSnapshot {
    /// Its name in the charter; `None` until a member has brought the charter.
    pub name: Option<String>,
    /// Whether the charter names this relay. If it does not, members do not use the relay.
    pub named: bool,
    /// The addresses where the carrier listens.
    pub listen: Vec<SocketAddr>,
    /// The attached devices.
    pub sessions: Vec<Session>,
    /// The channels that attached devices hear.
    pub channels: Vec<Occupancy>,
    /// What was carried since the carrier started.
    pub traffic: MeteredTraffic,
    /// Packets that were not carried since then, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Whether the carrier accepts nothing new, and nothing is under way any more.
    pub drained: bool,
    /// Why the carrier has ended; `None` while it runs.
    pub ended: Option<String>,
}

/// An attached device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Session {
    /// The device's id.
    pub device: Text<DeviceId>,
    /// The member to whom the device belongs; `None` as long as the charter does not say.
    pub member: Option<Text<MemberId>>,
    /// The address from which its packets come.
    pub address: String,
    /// When it came, in seconds since 1970.
    pub since: UnixTime,
    /// The channels that it hears.
    pub channels: Vec<Text<ChannelId>>,
    /// The traffic of all devices of its member, including those that have left; zero without a
    /// member.
    #[serde(flatten)]
    pub traffic: MeteredTraffic,
    /// Packets of the same devices that were not carried.
    pub dropped: u64,
}

/// A channel that is heard through this relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// The channel's id.
    pub channel: Text<ChannelId>,
    /// The channel's name in the charter; `None` for a hidden channel.
    pub name: Option<String>,
    /// How many attached devices hear it.
    pub listeners: usize,
}
