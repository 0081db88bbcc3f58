//! Whether strangers reach this device, as others have reported to its running node.

use std::path::Path;

use hark_node::{
    control::{Client, ControlError},
    snapshot::CheckedView,
    store::{Home, StoreError},
};
use serde_json::json;

use super::Finding;

pub(super) fn check(home: &Path) -> Finding {
    match running(home) {
        Ok(checked) => judge(checked),
        // The check of the folder reports what is wrong with it.
        Err(_) => judge(None),
    }
}

/// What the nodes of this home know, or `None` if no node runs.
fn running(home: &Path) -> Result<Option<Vec<CheckedView>>, StoreError> {
    // A folder without this file is not a home of ours.
    if !home.join("version").exists() {
        return Ok(None);
    }
    let home = Home::open(home, Box::new(|| None))?;
    let mut known = None;
    for store in home.organisations()? {
        let Some(description) = store.control()? else { continue };
        if let Ok(checked) = ask(&description) {
            known.get_or_insert_with(Vec::new).extend(checked);
        }
    }
    Ok(known)
}

fn ask(description: &str) -> Result<Vec<CheckedView>, ControlError> {
    let answer = Client::connect(description)?.request(json!({"command": "status"}))?;
    Ok(serde_json::from_value(answer["status"]["checked"].clone()).unwrap_or_default())
}

fn judge(checked: Option<Vec<CheckedView>>) -> Finding {
    let Some(checked) = checked else {
        let advice = "others tell it to a running node: run `hark talk`, and ask again once a member \
            or a relay elsewhere is connected";
        return known_to_nobody("no node of this home runs", advice);
    };
    let values = json!(checked);
    let listed = |wanted: bool| {
        let wanted = checked.iter().filter(|it| it.reachable == wanted);
        wanted.map(|it| it.address.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (reached, missed) = (listed(true), listed(false));
    let finding = if !reached.is_empty() {
        Finding::ok(CHECK, format!("others elsewhere reach this device at {reached}"))
    } else if !missed.is_empty() {
        let found = format!("packets of others elsewhere do not arrive at {missed}");
        Finding::warning(CHECK, found, FORWARD)
    } else {
        let advice = "ask again some seconds after a member or a relay elsewhere is connected";
        known_to_nobody("nobody elsewhere has looked yet", advice)
    };
    finding.with(values)
}

fn known_to_nobody(found: &str, advice: &str) -> Finding {
    Finding { advice: Some(advice.to_owned()), ..Finding::ok(CHECK, found) }
}

const CHECK: &str = "from outside";

const FORWARD: &str = "nobody can come to you first: let UDP through the firewall, or forward a UDP \
    port in the router to this machine and name it with --listen; others look again every ten minutes";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn view(port: u16, reachable: bool) -> CheckedView {
        CheckedView { address: ([203, 0, 113, 9], port).into(), reachable, seconds_ago: 5 }
    }

    #[test]
    fn what_others_have_found_is_judged() {
        let good = judge(Some(vec![view(4_000, true), view(6_000, false)]));
        assert_eq!((good.verdict, good.advice), (Verdict::Ok, None));
        assert_eq!(good.found, "others elsewhere reach this device at 203.0.113.9:4000");
        assert_eq!(good.values[0]["reachable"], true);
        assert_eq!(good.values[1]["address"], "203.0.113.9:6000");
        let bad = judge(Some(vec![view(4_000, false), view(6_000, false)]));
        assert_eq!((bad.verdict, bad.advice.as_deref()), (Verdict::Warning, Some(FORWARD)));
        assert!(bad.found.ends_with("at 203.0.113.9:4000, 203.0.113.9:6000"), "{}", bad.found);
        let unknown = judge(Some(Vec::new()));
        assert_eq!((unknown.verdict, unknown.values), (Verdict::Ok, json!([])));
        let none = judge(None);
        assert_eq!((none.verdict, &*none.found), (Verdict::Ok, "no node of this home runs"));
        assert!(none.advice.is_some_and(|advice| advice.contains("hark talk")));
    }

    #[test]
    fn a_folder_that_is_not_there_stays_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        assert_eq!(check(&home).found, "no node of this home runs");
        assert!(!home.exists());
    }
}
