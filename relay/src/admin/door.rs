//! Who may use the admin API.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use hark_keys::Timestamp;
use hark_node::token::ApiToken;

/// Whether a request carries the right token as `Authorization: Bearer TOKEN`; `None` if it carries
/// no such header.
pub(super) fn is_shown(token: &ApiToken, headers: &HeaderMap) -> Option<bool> {
    headers.get(header::AUTHORIZATION).map(|value| {
        let shown = value.to_str().unwrap_or_default();
        token.is(shown.strip_prefix("Bearer ").unwrap_or_default())
    })
}

/// Addresses that have recently sent a wrong token.
#[derive(Default)]
pub(super) struct Failures(Mutex<BTreeMap<IpAddr, Failed>>);

struct Failed {
    since: Timestamp,
    times: u32,
}

impl Failures {
    /// Counts a failure of this address; returns whether that is one too many for now.
    pub(super) fn add(&self, now: Timestamp, from: IpAddr) -> bool {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |it: &Failed| now.saturating_duration_since(it.since) < WINDOW;
        if failed.len() >= ADDRESSES_MAX && !failed.contains_key(&from) {
            failed.retain(|_, it| recent(it));
            if failed.len() >= ADDRESSES_MAX {
                return true;
            }
        }
        let entry = failed.entry(from).or_insert(Failed { since: now, times: 0 });
        if !recent(entry) {
            *entry = Failed { since: now, times: 0 };
        }
        entry.times = entry.times.saturating_add(1);
        entry.times > FAILURES_MAX
    }
}

/// How long wrong tokens are remembered.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// How many wrong tokens from one address are answered within that time; further ones are answered
/// with 429. The right token is always accepted.
pub(super) const FAILURES_MAX: u32 = 10;

/// How many addresses are remembered. Further addresses are treated as if they had failed too
/// often.
const ADDRESSES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use hark_keys::SeededRandom;

    use super::*;

    #[test]
    fn a_request_shows_the_token_as_a_bearer() {
        let token = ApiToken::generate(&SeededRandom::new(5));
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            is_shown(&token, &headers)
        };
        assert_eq!(is_shown(&token, &HeaderMap::new()), None);
        assert_eq!(shown(&format!("Bearer {}", token.text())), Some(true));
        for wrong in [token.text(), "Bearer", "Bearer ", "Basic YTpi"] {
            assert_eq!(shown(wrong), Some(false), "{wrong}");
        }
    }

    #[test]
    fn ten_wrong_tokens_a_minute_are_answered() {
        let failures = Failures::default();
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let start = Timestamp::from_millis(5);
        for _ in 0..FAILURES_MAX {
            assert!(!failures.add(start, one));
        }
        assert!(failures.add(start, one));
        assert!(!failures.add(start, other));
        assert!(failures.add(start + (WINDOW - Duration::from_millis(1)), one));
        assert!(!failures.add(start + WINDOW, one));
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let start = Timestamp::from_millis(5);
        let full = u32::try_from(ADDRESSES_MAX).expect("it is small");
        for number in 0..full {
            assert!(!failures.add(start, address(number)));
        }
        assert!(failures.add(start, address(full)));
        assert!(!failures.add(start + WINDOW, address(full)));
        assert_eq!(failures.0.lock().expect("no test panics within").len(), 1);
    }
}
