//! `hark charter device …`

use hark_charter::{Charter, content::Change, device_consent};
use hark_keys::{DeviceId, DeviceKey, MemberId, OrganisationId, Signature, decode, encode};

use crate::{
    CommandError, DeviceRequest, Host, Mistake, Note, Outcome, OwnDevice, OwnDevices,
    RequestSubject,
    edit::{Plan, perform},
    file::hex,
    names::unknown,
    view::View,
};

pub(crate) fn execute(
    host: &mut dyn Host,
    request: DeviceRequest,
) -> Result<Outcome, CommandError> {
    match request {
        DeviceRequest::List => Ok(Outcome::Devices(list(host))),
        DeviceRequest::Consent { code } => consent(host.key(), &code),
        DeviceRequest::Add { consent, how } => {
            let (device, consent) = parse_consent(&consent)?;
            let charter = host.charter();
            let member = host.member();
            let known = charter.devices_of(member).contains(&device);
            if !known {
                let agreed = encode(&(charter.organisation(), member));
                device
                    .verify("device consent", &agreed, &consent)
                    .map_err(|_| Mistake::OthersConsent)?;
            }
            let mut plan = Plan::of((!known).then_some(Change::AddDevice { device, consent }));
            plan.about = Some(RequestSubject::Device(device.to_string()));
            perform(host, plan, &how)
        }
        DeviceRequest::Retire { device, how } => {
            let (charter, member) = (host.charter(), host.member());
            let device = own_device(charter, member, &device)?;
            let cut = charter.cut(member);
            // Its own last operation is the one that says so.
            let own = u64::from(device == host.key().id());
            let last = cut.last_of(device) + own;
            let change = Change::RetireDevice { device, term: cut.term, last };
            let mut plan = Plan::of([change]);
            if own == 1 {
                plan.notes.push(Note::ThisDevice);
            }
            perform(host, plan, &how)
        }
    }
}

/// What another machine says to become a device of whoever gave it `code`; needs no charter.
pub fn consent(key: &DeviceKey, code: &str) -> Result<Outcome, CommandError> {
    let (organisation, member) = code.trim().split_once('.').ok_or(Mistake::ConsentCode)?;
    let organisation: OrganisationId = organisation.parse().map_err(|_| Mistake::ConsentCode)?;
    let member: MemberId = member.parse().map_err(|_| Mistake::ConsentCode)?;
    let signature = device_consent(organisation, member, key);
    let consent = format!("{}.{}", key.id(), hex::encode(&encode(&signature)));
    Ok(Outcome::Consent { device: key.id().to_string(), consent })
}

fn list(host: &dyn Host) -> OwnDevices {
    let (charter, member) = (host.charter(), host.member());
    let own = |device: DeviceId| OwnDevice {
        device: device.to_string(),
        this: device == host.key().id(),
        first: charter.member_of(device) == member,
        root: charter.is_root(device),
    };
    let certificate = charter.certificate_of(member).map(hark_keys::Signed::unverified);
    let recovery = certificate.and_then(|certificate| certificate.recovery);
    OwnDevices {
        member: member.to_string(),
        name: View::new(host).person(member),
        devices: charter.devices_of(member).into_iter().map(own).collect(),
        recovery: recovery.map(|recovery| recovery.key.to_string()),
        code: format!("{}.{member}", charter.organisation()),
    }
}

fn parse_consent(text: &str) -> Result<(DeviceId, Signature), CommandError> {
    let parse = || {
        let (device, signature) = text.trim().split_once('.')?;
        let signature = decode(&hex::decode(signature)?, SIGNATURE_BYTES).ok()?;
        Some((device.parse().ok()?, signature))
    };
    parse().ok_or_else(|| Mistake::Consent.into())
}

/// One of the member's devices by its id, or the end of it.
fn own_device(charter: &Charter, member: MemberId, text: &str) -> Result<DeviceId, CommandError> {
    let devices = charter.devices_of(member);
    let names: Vec<_> = devices.iter().map(DeviceId::to_string).collect();
    let ends = |device: &&DeviceId| text.len() >= 4 && device.to_string().ends_with(text);
    let mut found = devices.iter().filter(ends);
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(*device),
        (Some(_), Some(_)) => Err(CommandError::Ambiguous {
            what: "devices",
            name: text.to_owned(),
            candidates: names,
        }),
        _ => Err(unknown("device of yours", text, [])),
    }
}

const SIGNATURE_BYTES: usize = 64;
