//! Members and the relay that their charter names.

use std::time::Instant;

use hark_tests::{Event, Hub, Member, Scene};
use serde_json::{Value, json};

fn is_up(member: &Member) -> impl Fn(&Event) -> bool {
    let device = member.device();
    move |event| event.is("session_up") && event.is_about(&device)
}

/// A relay that knows only an organisation's id learns the rest from the first member that
/// attaches. A member that is banned there is disconnected, and comes back when the ban has ended;
/// members hear each other meanwhile.
#[test]
fn members_attach_and_one_is_kept_out_for_a_while() {
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    let mut hub = Hub::start(&scene);
    hub.serve(&scene, "Kestrel");
    let mut kestrel = scene.talk("Kestrel").speaking("english").start();
    hub.wait_after(0, "Kestrel", is_up(&kestrel));
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("french").start();
    hub.wait_after(0, "Wren", is_up(&wren));
    hub.wait_after(0, "its name in the charter", |event| event.is("named"));
    let organisation = &hub.ask("GET", "organisations/Falconry", &Value::Null);
    assert_eq!(
        (&organisation["named"], &organisation["status"]),
        (&json!(true), &json!("running"))
    );

    let ban = json!({"device": wren.device()});
    let told = hub.told();
    hub.ask("POST", "organisations/Falconry/bans", &ban);
    let is_end = |event: &Event| event.is("session_down") && event.is_about(&wren.device());
    hub.wait_after(told, "Wren's end", is_end);
    wren.wait_after(0, "refusal", |event| event.is("refused"));
    assert_eq!(hub.count(is_end), 1, "its session stood from its first moment on");
    kestrel.hears(&wren, 100);
    wren.hears(&kestrel, 100);

    let told = hub.told();
    hub.ask("DELETE", &format!("organisations/Falconry/bans/{}", wren.device()), &Value::Null);
    hub.wait_after(told, "Wren again", is_up(&wren));
    hub.end();
    kestrel.leave();
    wren.leave();
    assert_eq!(kestrel.count("peer_down", &wren), 0);
}

/// One member more than the quota allows is turned away until there is room.
#[test]
fn one_too_many_waits_for_room() {
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    let hub = Hub::start(&scene);
    hub.serve(&scene, "Kestrel");
    let kestrel = scene.talk("Kestrel").start();
    hub.wait_after(0, "Kestrel", is_up(&kestrel));
    let one = hub.ask("PUT", "organisations/Falconry/quotas", &json!({"members": 1}));
    assert_eq!(one["members"], 1);
    hub.wait_after(0, "quota", |event| {
        event.is("quota_reached") && event.text("quota") == "members"
    });
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    let refused = wren.wait_after(0, "refusal", |event| event.is("refused"));
    assert!(refused.text("reason").contains("no room"), "{refused:?}");
    wren.is_among(&[&kestrel]);
    let told = hub.told();
    hub.ask("PUT", "organisations/Falconry/quotas", &json!({"members": 2}));
    hub.wait_after(told, "Wren", is_up(&wren));
}

/// One organisation says more than its quota allows. The relay limits it, and another organisation
/// on the same relay hears everything. All members hide their addresses, so that nothing bypasses
/// the relay.
#[test]
fn one_organisation_beyond_its_quota_takes_nothing_from_another() {
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    scene.found("Heron", "Heronry");
    let hub = Hub::start(&scene);
    let hidden = |name, sound| {
        let talk = scene.talk(name).speaking(sound).listen(&["--no-mdns"]);
        talk.with(&["--relay-only"])
    };
    let pair = |founder, other| {
        hub.serve(&scene, founder);
        let founder = hidden(founder, "english").start();
        hub.wait_after(0, "the founder", is_up(&founder));
        let other = hidden(other, "french").ticket(&founder.ticket()).start();
        for (here, there) in [(&founder, &other), (&other, &founder)] {
            here.is_among(&[there]);
            here.hears(there, 100);
        }
        [founder, other]
    };
    let [kestrel, wren] = pair("Kestrel", "Wren");
    let [heron, egret] = pair("Heron", "Egret");
    // Each of the two members sends a hundred frames a second, and links need a few datagrams more.
    for (quota, most) in [("packets", 100), ("kbps", 100)] {
        let told = hub.told();
        hub.ask("PUT", "organisations/Falconry/quotas", &json!({quota: most}));
        hub.wait_after(told, "quota", |event| {
            event.is("quota_reached") && event.text("quota") == quota
        });
        let carried = || {
            let now = Instant::now();
            let falconry = hub.ask("GET", "organisations/Falconry", &Value::Null);
            let traffic = &falconry["traffic"];
            let out = match quota {
                "packets" => traffic["packets_out"].as_f64().expect("a number"),
                _ => traffic["bytes_out"].as_f64().expect("a number") * 8.0 / 1_000.0,
            };
            (now, out)
        };
        let (from, before) = carried();
        heron.hears(&egret, 300);
        egret.hears(&heron, 300);
        let (until, after) = carried();
        // What is reported is a second old, and older on a busy machine. Without the quota the
        // value would be twice as large.
        let allowed = f64::from(most) * (1.25 * (until - from).as_secs_f64() + 1.2);
        assert!(after - before <= allowed, "{} of {allowed} {quota}", after - before);
        assert!(after - before > 0.0, "what is allowed goes through");
        hub.ask("PUT", "organisations/Falconry/quotas", &json!({quota: 0}));
    }
    for (here, there) in [(&heron, &egret), (&egret, &heron)] {
        here.has_concealed_little(there);
    }
    let heronry = hub.ask("GET", "organisations/Heronry", &Value::Null);
    assert_eq!(heronry["dropped"].get("quota"), None, "{heronry}");
    kestrel.hears(&wren, 100);
}
