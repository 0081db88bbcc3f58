//! Whether names can be looked up, and where the given names lead.

use std::io;

use hark_node::reach::names::{Dns, Found, NameError, PeerPlace, resolve};
use serde_json::json;

use super::Finding;

pub(super) fn check(places: &[PeerPlace]) -> Vec<Finding> {
    let mut findings =
        vec![judge_servers(Dns::servers().map(|servers| {
            servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }))];
    findings.extend(places.iter().map(|place| match look_up(place) {
        Ok(found) => judge(place, found),
        Err(error) => Finding::warning(LOOK_UP, error.to_string(), "try again"),
    }));
    findings
}

fn judge_servers(servers: Result<String, NameError>) -> Finding {
    let check = "name servers";
    match servers {
        Ok(servers) => Finding::ok(check, servers),
        Err(error) => {
            let advice = "set one in the system, or give addresses instead of names to --peer";
            Finding::warning(check, error.to_string(), advice)
        }
    }
}

fn look_up(place: &PeerPlace) -> io::Result<Result<Vec<Found>, NameError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(resolve(&Dns::default(), place)))
}

fn judge(place: &PeerPlace, found: Result<Vec<Found>, NameError>) -> Finding {
    let shown: Vec<_> = found.iter().flatten().map(ToString::to_string).collect();
    let finding = match &found {
        Ok(_) => Finding::ok(LOOK_UP, format!("{place} leads to {}", shown.join(", "))),
        Err(error) => {
            let advice = match place {
                PeerPlace::List { name, .. } => format!(
                    "it needs TXT records at _dnsaddr.{name}, such as \
                     dnsaddr=/ip4/192.0.2.7/udp/4000/quic-v1; an address does as well"
                ),
                _ => "see whether the name is right; an address does as well".to_owned(),
            };
            Finding::warning(LOOK_UP, format!("{place} leads nowhere: {error}"), advice)
        }
    };
    finding.with(json!({"place": place.to_string(), "addresses": shown}))
}

const LOOK_UP: &str = "name";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_name_that_leads_nowhere_is_told_with_what_it_needs() {
        let place: PeerPlace = "squad.example.org".parse().expect("a name");
        let address = "192.0.2.7:4000".parse().expect("an address");
        let found = judge(&place, Ok(vec![Found { device: None, address }]));
        assert_eq!(found.found, "squad.example.org leads to /ip4/192.0.2.7/udp/4000/quic-v1");
        assert_eq!((found.verdict, found.advice), (Verdict::Ok, None));
        let lost = judge(&place, Err(NameError::Nothing));
        assert_eq!(lost.verdict, Verdict::Warning);
        assert_eq!(lost.found, "squad.example.org leads nowhere: it has no address");
        assert!(lost.advice.is_some_and(|advice| advice.contains("_dnsaddr.squad.example.org")));
        let none = judge_servers(Err(NameError::Server("no name server is set".to_owned())));
        assert_eq!(
            (none.verdict, none.found.as_str()),
            (Verdict::Warning, "no name server is set")
        );
    }
}
