//! `hark charter relay …`, `hark charter policy …`

use hark_charter::content::{Change, Policy, RELAY_ADDRESSES_MAX, Relay};
use hark_keys::{DeviceId, List};

use crate::{
    CommandError, Host, Mistake, Outcome, PolicyRequest, RelayRequest, RequestSubject,
    channels::named,
    edit::{Plan, perform},
    lists,
    names::unknown,
    view::{View, find_named},
};

pub(crate) fn relay(host: &mut dyn Host, request: RelayRequest) -> Result<Outcome, CommandError> {
    match request {
        RelayRequest::List => Ok(Outcome::Relays(lists::relays(&View::new(host)))),
        RelayRequest::Add { name, device, address, members, kbps, how } => {
            let name = named("relay", &name)?;
            let device: DeviceId = device.parse().map_err(|_| Mistake::Device(device))?;
            if address.len() > RELAY_ADDRESSES_MAX {
                return Err(Mistake::RelayAddresses(RELAY_ADDRESSES_MAX).into());
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
                return Err(Mistake::RelayTaken(twin.name.clone(), twin.device.short()).into());
            }
            let known = state.relays().any(|it| *it == relay);
            let mut plan = Plan::of((!known).then_some(Change::Relay(relay)));
            plan.about = Some(RequestSubject::Device(device.to_string()));
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

pub(crate) fn policy(host: &mut dyn Host, request: PolicyRequest) -> Result<Outcome, CommandError> {
    match request {
        PolicyRequest::List => Ok(Outcome::Policies(lists::policies(host))),
        PolicyRequest::Set { name, value, how } => {
            let policy = policy_named(&name, value)?;
            let same = current(host).contains(&policy);
            perform(host, Plan::of((!same).then_some(Change::Policy(policy))), &how)
        }
    }
}

/// A policy by its name.
pub(crate) fn policy_named(name: &str, value: u32) -> Result<Policy, CommandError> {
    match name {
        "invite-hours-max" => Ok(Policy::InviteHoursMax(value)),
        "operations-per-day" if value == 0 => {
            Err(Mistake::PolicyValue(name.to_owned(), value).into())
        }
        "operations-per-day" => Ok(Policy::OperationsPerDay(value)),
        _ => {
            let known = ["invite-hours-max", "operations-per-day"];
            Err(unknown("policy", name, known))
        }
    }
}

/// All policies as they are.
pub(crate) fn current(host: &dyn Host) -> [Policy; 2] {
    let policies = host.charter().state().policies();
    [
        Policy::InviteHoursMax(policies.invite_hours_max),
        Policy::OperationsPerDay(policies.operations_per_day),
    ]
}
