//! `hark charter device …`

use hark_charter::{Charter, Recovery, content::Change, device_consent};
use hark_keys::{DeviceId, DeviceKey, MemberId, OrganisationId, Signature, decode, encode};
use serde_json::json;

use super::{
    Answer, CommandError, DeviceRequest, Host,
    edit::{Plan, perform},
    file::hex,
    names::unknown,
    view::View,
};

pub(super) fn execute(host: &mut dyn Host, request: DeviceRequest) -> Result<Answer, CommandError> {
    match request {
        DeviceRequest::List => Ok(list(host)),
        DeviceRequest::Consent { code } => consent(host.key(), &code),
        DeviceRequest::Add { consent, how } => {
            let (device, consent) = parse_consent(&consent)?;
            let charter = host.charter();
            let member = host.member();
            let known = charter.devices_of(member).contains(&device);
            if !known {
                let agreed = encode(&(charter.organisation(), member));
                device.verify("device consent", &agreed, &consent).map_err(|_| {
                    CommandError::Input(
                        "this consent is for another person: `hark charter device list` prints \
                         the code for yours"
                            .to_owned(),
                    )
                })?;
            }
            let mut plan = Plan::of((!known).then_some(Change::AddDevice { device, consent }));
            plan.json.insert("device".to_owned(), json!(device.to_string()));
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
                plan.notes.push("that is this device: it cannot act for you any more".to_owned());
            }
            perform(host, plan, &how)
        }
    }
}

/// What another machine says to become a device of whoever gave it `code`; needs no charter.
pub fn consent(key: &DeviceKey, code: &str) -> Result<Answer, CommandError> {
    let no_code = || {
        CommandError::Input(
            "this is no code for a consent: `hark charter device list` prints it on a device of \
             yours"
                .to_owned(),
        )
    };
    let (organisation, member) = code.trim().split_once('.').ok_or_else(no_code)?;
    let organisation: OrganisationId = organisation.parse().map_err(|_| no_code())?;
    let member: MemberId = member.parse().map_err(|_| no_code())?;
    let signature = device_consent(organisation, member, key);
    let consent = format!("{}.{}", key.id(), hex::encode(&encode(&signature)));
    let json = json!({"device": key.id().to_string(), "consent": consent});
    Ok(Answer::new(consent, json))
}

fn list(host: &dyn Host) -> Answer {
    let (charter, member) = (host.charter(), host.member());
    let view = View::new(host);
    let devices = charter.devices_of(member);
    let mut lines = vec![format!("devices of {}", view.person(member))];
    for device in &devices {
        let mut about = Vec::new();
        about.extend((*device == host.key().id()).then_some("this one"));
        about.extend((charter.member_of(*device) == member).then_some("the first"));
        about.extend(charter.is_root(*device).then_some("a root key"));
        let about = about.join(", ");
        let about = if about.is_empty() { about } else { format!("  ({about})") };
        lines.push(format!("  {device}{about}"));
    }
    let certificate = charter.certificate_of(member).map(hark_keys::Signed::unverified);
    let recovery = certificate.and_then(|certificate| certificate.recovery);
    lines.extend(
        recovery.map(|Recovery { key, .. }| format!("  {key}  (the printed recovery key)")),
    );
    let code = format!("{}.{member}", charter.organisation());
    lines.push("to add another one: hark device invite".to_owned());
    lines.push(format!("or, where the two cannot meet, there: hark charter device consent {code}"));
    let devices: Vec<_> = devices.iter().map(DeviceId::to_string).collect();
    let json = json!({
        "member": member.to_string(),
        "devices": devices,
        "recovery": recovery.map(|recovery| recovery.key.to_string()),
        "code": code,
    });
    Answer::new(lines.join("\n"), json)
}

fn parse_consent(text: &str) -> Result<(DeviceId, Signature), CommandError> {
    let parse = || {
        let (device, signature) = text.trim().split_once('.')?;
        let signature = decode(&hex::decode(signature)?, SIGNATURE_BYTES).ok()?;
        Some((device.parse().ok()?, signature))
    };
    parse().ok_or_else(|| {
        CommandError::Input(
            "this is no consent: `hark charter device consent` prints it on the other machine"
                .to_owned(),
        )
    })
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
