//! What is told to a person about an event, and how spans and numbers are written.

use std::time::Duration;

use hark_keys::UnixTime;
use hark_node::{
    admission::WaitingState,
    clock::utc,
    event::{Event, StandingView, place_of},
};

/// The message about an event, if there is one. There is none about who speaks: that would be a
/// line every few seconds.
pub fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::PeerUp { name, path, address, looks_like, .. } => {
            let path = format!("({}, {})", path.as_str(), plain_address(address));
            match looks_like {
                None => format!("{name} is here {path}"),
                Some(other) => format!("beware: {name} is here, who is not {other} {path}"),
            }
        }
        Event::PeerDown { name, reason, .. } => match reason.as_str() {
            "left" => format!("{name} has left"),
            "left for good" => format!("{name} has left the organisation"),
            // The event `standing` names the officer.
            "removed" => return None,
            "unreachable" => format!("{name} is out of reach"),
            reason => format!("{name} is gone ({reason})"),
        },
        Event::Refused { name, reason, .. } => {
            format!("{name} does not let this device in: {reason}")
        }
        Event::AudioDevice { detail, .. } => detail.clone(),
        Event::PortTaken { port } => format!(
            "another program has port {port}, which this device had before: tickets of then do not \
             lead here from afar"
        ),
        Event::Moved { name, from: Some(from), to, .. } => {
            format!("{name} has moved you from {from} to {to}")
        }
        Event::Sanction { sanction, in_force: true, .. } => sanction.describe(),
        Event::Sanction { sanction, in_force: false, lifted_by } => {
            sanction.describe_end(lifted_by.as_deref())
        }
        Event::Standing { own, standing } => return describe_standing(*own, standing),
        Event::Moved { name, from: None, to, .. } => format!("{name} has moved you to {to}"),
        Event::Waiting { newcomer, state } => {
            let name = &newcomer.name;
            match state {
                // The command comes first, since the screen cuts the end of a line.
                WaitingState::Waiting => format!(
                    "{name} waits: `hark ctl admit {name}` or `refuse`; the words are {}",
                    newcomer.words.join(" ")
                ),
                WaitingState::Admitted => format!("{name} is let in"),
                WaitingState::Refused => format!("{name} was turned away"),
                WaitingState::Gone => format!("{name} does not wait any more"),
            }
        }
        Event::Notice(notice) => notice.to_string(),
        Event::Stopped { reason } => format!("stopped ({reason})"),
        _ => return None,
    })
}

/// The message about what an officer has done. A change of roles is shown only to the member
/// concerned, and the end of a membership only to the others. For a mute or a ban of this member,
/// the event `sanction` says more.
fn describe_standing(own: bool, standing: &StandingView) -> Option<String> {
    let StandingView { name, change, channel, by, until, .. } = standing;
    let (role, place) =
        (standing.role.as_deref().unwrap_or_default(), place_of(channel.as_deref()));
    let officer = by.as_deref().unwrap_or("an officer");
    Some(match (change.as_str(), own, by) {
        ("role_given", true, Some(by)) => format!("{by} gave you the role {role} {place}"),
        ("role_given", true, None) => format!("you have the role {role} {place} now"),
        ("role_taken", true, Some(by)) => format!("{by} took the role {role} {place} from you"),
        ("role_taken", true, None) => format!("you have the role {role} {place} no more"),
        ("removed", false, _) => format!("{officer} has ended the membership of {name}"),
        ("banned", false, _) if channel.is_none() => {
            let until = until.map(|until| utc(UnixTime::from_secs(until)));
            let until = until.unwrap_or_else(|| "it is lifted".to_owned());
            format!("{officer} has banned {name} until {until}")
        }
        _ => return None,
    })
}

/// The address and port of a multiaddr as people write them. Anything else is returned unchanged.
pub fn plain_address(multiaddr: &str) -> String {
    let mut parts = multiaddr.split('/').skip(1);
    let (family, ip, port) = (parts.next(), parts.next(), parts.nth(1));
    match (family, ip, port) {
        (Some("ip4"), Some(ip), Some(port)) => format!("{ip}:{port}"),
        (Some("ip6"), Some(ip), Some(port)) => format!("[{ip}]:{port}"),
        _ => multiaddr.to_owned(),
    }
}

/// A span of time in words, to the hour, the minute or the second.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let rounded = |unit: u64| (seconds + unit / 2) / unit;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", rounded(60)),
        7_200..172_800 => format!("{} h", rounded(3_600)),
        _ => format!("{} days", rounded(86_400)),
    }
}

/// `1 person`, `2 people`.
pub fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_who_leaves_and_why_but_no_numbers() {
        let stopped = Event::Stopped { reason: "signal".to_owned() };
        assert_eq!(describe(&stopped).as_deref(), Some("stopped (signal)"));
        assert_eq!(describe(&Event::Stats { peers: Vec::new(), cpu_percent: 1.0 }), None);
    }

    /// Nothing was printed about roles, and a kick did not name the officer.
    #[test]
    fn somebody_kicked_was_only_gone() {
        let by = Some("Vesper".to_owned());
        let told = |own, change: &str, channel: Option<&str>, by: &Option<String>, until| {
            let standing = StandingView {
                member: "m".to_owned(),
                name: "Wren".to_owned(),
                change: change.to_owned(),
                role: change.starts_with("role").then(|| "pilot".to_owned()),
                channel: channel.map(str::to_owned),
                by: by.clone(),
                until,
            };
            describe(&Event::Standing { own, standing })
        };
        let role = |by: &Option<String>, channel: Option<&str>, given| {
            let change = if given { "role_given" } else { "role_taken" };
            assert_eq!(told(false, change, channel, by, None), None, "others are not told");
            told(true, change, channel, by, None).expect("told")
        };
        assert_eq!(role(&by, None, true), "Vesper gave you the role pilot everywhere");
        let taken = role(&by, Some("Flight"), false);
        assert_eq!(taken, "Vesper took the role pilot in Flight from you");
        assert_eq!(role(&None, None, false), "you have the role pilot everywhere no more");
        let removed = |banned, until| {
            let change = if banned { "banned" } else { "removed" };
            assert_eq!(told(true, change, None, &by, until), None, "that one is told otherwise");
            told(false, change, None, &by, until).expect("told")
        };
        assert_eq!(removed(false, None), "Vesper has ended the membership of Wren");
        assert_eq!(removed(true, None), "Vesper has banned Wren until it is lifted");
        let banned = removed(true, Some(1_795_384_205));
        assert_eq!(banned, "Vesper has banned Wren until 2026-11-22 21:50:05 UTC");
    }

    #[test]
    fn addresses_are_told_as_people_write_them() {
        assert_eq!(plain_address("/ip4/192.0.2.7/udp/4000/quic-v1"), "192.0.2.7:4000");
        assert_eq!(plain_address("/ip6/2001:db8::7/udp/4000/quic-v1"), "[2001:db8::7]:4000");
        assert_eq!(plain_address("elsewhere"), "elsewhere");
    }

    #[test]
    fn spans_are_told_in_the_unit_that_fits() {
        let told = [59, 119, 120, 7_199, 86_400, 172_800].map(|it| span(Duration::from_secs(it)));
        assert_eq!(told, ["59 s", "119 s", "2 min", "120 min", "24 h", "2 days"]);
    }
}
