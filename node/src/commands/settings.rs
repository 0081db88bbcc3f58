//! `hark charter relay …`, `hark charter policy …`

use hark_charter::content::{Change, Policy, RELAY_ADDRESSES_MAX, Relay};
use hark_keys::{DeviceId, List};
use serde_json::json;

use super::{
    Answer, CommandError, Host, PolicyRequest, RelayRequest,
    channels::named,
    edit::{Plan, perform},
    names::unknown,
    overview,
    view::{View, find_named},
    words::policy_of,
};

pub(super) fn relay(host: &mut dyn Host, request: RelayRequest) -> Result<Answer, CommandError> {
    match request {
        RelayRequest::List => Ok(overview::relays(&View::new(host))),
        RelayRequest::Add { name, device, address, members, kbps, how } => {
            let name = named("relay", &name)?;
            let device: DeviceId = device.parse().map_err(|_| {
                CommandError::Input(format!("{device:?} is no device id: it begins with 12D3KooW"))
            })?;
            if address.len() > RELAY_ADDRESSES_MAX {
                return Err(CommandError::Input(format!(
                    "a relay has at most {RELAY_ADDRESSES_MAX} addresses"
                )));
            }
            let relay = Relay {
                device,
                name,
                addresses: List::truncated(address),
                members_max: members,
                rate_kbps: kbps,
            };
            let state = host.charter().state();
            let twin = state.relays().find(|it| it.name == relay.name && it.device != device);
            if let Some(twin) = twin {
                let device = twin.device.short();
                return Err(CommandError::Input(format!(
                    "there is a relay {} already, with device {device}",
                    twin.name
                )));
            }
            let known = state.relays().any(|it| *it == relay);
            let mut plan = Plan::of((!known).then_some(Change::Relay(relay)));
            plan.json.insert("device".to_owned(), json!(device.to_string()));
            perform(host, plan, &how)
        }
        RelayRequest::Remove(request) => {
            let relays = host.charter().state().relays();
            let relays = relays.map(|it| (it.device, it.name.clone(), it.device.to_string()));
            let relays: Vec<_> = relays.collect();
            let device = match request.name.parse() {
                Ok(device) => device,
                Err(_) => find_named(("relay", "relays"), &request.name, relays)?,
            };
            if host.charter().state().relays().all(|it| it.device != device) {
                return Err(unknown("relay", &request.name, []));
            }
            perform(host, Plan::of([Change::RemoveRelay(device)]), &request.how)
        }
    }
}

pub(super) fn policy(host: &mut dyn Host, request: PolicyRequest) -> Result<Answer, CommandError> {
    match request {
        PolicyRequest::List => Ok(overview::policies(&View::new(host))),
        PolicyRequest::Set { name, value, how } => {
            let policy = policy_named(&name, value)?;
            let same = current(host).contains(&policy);
            perform(host, Plan::of((!same).then_some(Change::Policy(policy))), &how)
        }
    }
}

/// A policy by its name.
pub(super) fn policy_named(name: &str, value: u32) -> Result<Policy, CommandError> {
    let range = |what: &str| CommandError::Input(format!("{name} is {what}, not {value}"));
    match name {
        "invite-hours-max" => Ok(Policy::InviteHoursMax(value)),
        "operations-per-day" if value == 0 => Err(range("1 or more")),
        "operations-per-day" => Ok(Policy::OperationsPerDay(value)),
        _ => {
            let known = ["invite-hours-max", "operations-per-day"];
            Err(unknown("policy", name, known))
        }
    }
}

/// All policies as they are.
pub(super) fn current(host: &dyn Host) -> [Policy; 2] {
    let policies = host.charter().state().policies();
    [
        Policy::InviteHoursMax(policies.invite_hours_max),
        Policy::OperationsPerDay(policies.operations_per_day),
    ]
}

/// What each policy is for.
pub(super) fn purpose(policy: Policy) -> String {
    let (name, value) = policy_of(policy);
    let words = match policy {
        Policy::InviteHoursMax(0) => "invites may last any time",
        Policy::InviteHoursMax(_) => "the longest that an invite may last, in hours",
        Policy::OperationsPerDay(_) => {
            "operations of one author that are taken from gossip in a day"
        }
    };
    format!("{name} {value}: {words}")
}
