//! Reads and changes under `/api/v1`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Extension, Path, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use hark_keys::DeviceId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Admin,
    server::{self, Remote, failure},
};
use crate::{
    audit,
    state::QuotaChange,
    tenants::{Addition, TenantRefusal},
    text::Text,
};

/// The parts of one request.
struct Asked<'a> {
    method: &'a Method,
    path: Vec<&'a str>,
    query: &'a str,
    body: &'a [u8],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    device: Text<DeviceId>,
    seconds: Option<u64>,
}

/// The body of a change that needs nothing more: an empty object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn answer(
    State(admin): State<Arc<Admin>>,
    Extension(Remote(remote)): Extension<Remote>,
    method: Method,
    uri: Uri,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match read(&headers, body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    // Changes wait for the disk, and for carriers to end.
    let answered = tokio::task::spawn_blocking(move || {
        let query = uri.query().unwrap_or_default();
        let asked = Asked { method: &method, path: path.split('/').collect(), query, body: &body };
        let outcome = admin.answer(&asked);
        if method == Method::GET {
            return outcome;
        }
        let entry = audit::AuditEntry {
            at_us: admin.clock.unix_micros(),
            remote,
            action: format!("{method} {}", uri.path()),
            body: noted(&body),
            outcome: outcome.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned()),
        };
        let noted = admin.audit.append(&entry);
        noted.map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written");
            TenantRefusal::Failed(format!("{}, but not in the audit log: {error}", entry.outcome))
        })?;
        outcome
    });
    match answered.await {
        Ok(Ok(value)) => server::answer(StatusCode::OK, value.to_string()),
        Ok(Err(refusal)) => failure(status(&refusal), &refusal.to_string()),
        Err(error) => {
            tracing::error!(%error, "a request has failed");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "internal error: please report it")
        }
    }
}

/// Reads the body, or returns the response with which it is refused.
async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
    let too_long = || failure(StatusCode::PAYLOAD_TOO_LARGE, "a body is at most 64 KiB");
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: usize| length > BODY_LIMIT)
    {
        return Err(too_long());
    }
    match tokio::time::timeout(BODY_PATIENCE, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(failure(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

impl Admin {
    fn answer(&self, asked: &Asked<'_>) -> Result<Value, TenantRefusal> {
        let tenants = &self.tenants;
        let Asked { method, path, query, body } = asked;
        match (method.as_str(), path.as_slice()) {
            ("GET", ["version"]) => Ok(json!({
                "program": "hark-relay",
                "version": env!("CARGO_PKG_VERSION"),
                "api": 1,
            })),
            ("GET", ["audit"]) => {
                let entries = self.audit.last(last(query)?);
                value(&entries.map_err(|error| TenantRefusal::Failed(error.to_string()))?)
            }
            ("POST", [way @ ("drain" | "undrain")]) => {
                nothing(body)?;
                done(tenants.drain_all(*way == "drain"))
            }
            ("GET", ["organisations"]) => value(&tenants.list()),
            ("POST", ["organisations"]) => value(&tenants.add(parse::<Addition>(body)?)?),
            (_, ["organisations", organisation, rest @ ..]) => {
                let id = tenants.find(organisation)?;
                match (method.as_str(), rest) {
                    ("GET", []) => value(&tenants.show(id)?),
                    ("DELETE", []) => {
                        nothing(body)?;
                        done(tenants.remove(id))
                    }
                    ("GET", ["quotas"]) => value(&tenants.quotas(id)?),
                    ("PUT", ["quotas"]) => {
                        value(&tenants.set_quotas(id, parse::<QuotaChange>(body)?)?)
                    }
                    ("GET", ["sessions"]) => value(&tenants.sessions(id)?),
                    ("DELETE", ["sessions", text]) => {
                        nothing(body)?;
                        done(tenants.disconnect(id, device(text)?))
                    }
                    ("GET", ["channels"]) => value(&tenants.channels(id)?),
                    ("GET", ["bans"]) => {
                        let bans = tenants.bans(id)?.into_iter();
                        let bans = bans.map(|(device, until)| {
                            json!({"device": device, "until": until.map(hark_keys::UnixTime::as_secs)})
                        });
                        Ok(bans.collect())
                    }
                    ("POST", ["bans"]) => {
                        let Ban { device, seconds } = parse(body)?;
                        if seconds.is_some_and(|it| !(1..=BAN_SECONDS_MAX).contains(&it)) {
                            let long = format!("a ban lasts 1 to {BAN_SECONDS_MAX} seconds");
                            return Err(TenantRefusal::Invalid(long));
                        }
                        done(tenants.ban(id, device.0, seconds.map(Duration::from_secs)))
                    }
                    ("DELETE", ["bans", text]) => {
                        nothing(body)?;
                        done(tenants.unban(id, device(text)?))
                    }
                    ("GET", ["metering"]) => value(&tenants.metering(id)?),
                    ("POST", [way @ ("drain" | "undrain")]) => {
                        nothing(body)?;
                        done(tenants.drain(id, *way == "drain"))
                    }
                    _ => unknown(asked),
                }
            }
            _ => unknown(asked),
        }
    }
}

fn status(refusal: &TenantRefusal) -> StatusCode {
    match refusal {
        TenantRefusal::Unknown(_) => StatusCode::NOT_FOUND,
        TenantRefusal::Invalid(_) => StatusCode::BAD_REQUEST,
        TenantRefusal::Conflict(_) => StatusCode::CONFLICT,
        TenantRefusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn unknown(asked: &Asked<'_>) -> Result<Value, TenantRefusal> {
    let (method, path) = (asked.method, asked.path.join("/"));
    Err(TenantRefusal::Unknown(format!("there is no {method} /api/v1/{path}")))
}

fn value(of: &impl Serialize) -> Result<Value, TenantRefusal> {
    serde_json::to_value(of).map_err(|error| TenantRefusal::Failed(error.to_string()))
}

fn done(outcome: Result<(), TenantRefusal>) -> Result<Value, TenantRefusal> {
    outcome.map(|()| json!({"done": true}))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, TenantRefusal> {
    let parsed = serde_json::from_slice(body);
    parsed.map_err(|error| {
        TenantRefusal::Invalid(format!("the body is not what belongs here: {error}"))
    })
}

/// Refuses a body whose contents would be ignored.
fn nothing(body: &[u8]) -> Result<(), TenantRefusal> {
    if body.is_empty() { Ok(()) } else { parse(body).map(|Nothing {}| ()) }
}

fn device(text: &str) -> Result<DeviceId, TenantRefusal> {
    text.parse().map_err(|error| TenantRefusal::Invalid(format!("{text:?}: {error}")))
}

/// How many entries are requested by `last=N`.
fn last(query: &str) -> Result<usize, TenantRefusal> {
    if query.is_empty() {
        return Ok(AUDIT_DEFAULT);
    }
    let number = query.strip_prefix("last=").and_then(|number| number.parse().ok());
    let number = number.filter(|number| (1..=AUDIT_MAX).contains(number));
    number.ok_or_else(|| TenantRefusal::Invalid(format!("ask for last=N, 1 to {AUDIT_MAX}")))
}

/// What the audit log records of a body: the whole body if it is JSON and short enough.
fn noted(body: &[u8]) -> Value {
    let short = if body.len() <= NOTED_MAX { serde_json::from_slice(body).ok() } else { None };
    match short {
        Some(value) => value,
        None if body.is_empty() => Value::Null,
        None => json!(format!("{} bytes", body.len())),
    }
}

/// The largest length of a body in bytes; a longer one is refused before it is read.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// The largest length in bytes of a body that is recorded in the audit log.
const NOTED_MAX: usize = 4 * 1024;

const AUDIT_DEFAULT: usize = 100;
const AUDIT_MAX: usize = 10_000;

/// The longest ban with an end: ten years, in seconds.
const BAN_SECONDS_MAX: u64 = 10 * 366 * 86_400;
