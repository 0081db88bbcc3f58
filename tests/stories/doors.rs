//! A device that may not come in learns why, and nobody inside notices.

use std::time::Duration;

use hark_keys::{DeviceKey, Door, Terms, Ticket, UnixTime};
use hark_node::random::SystemRandom;
use hark_tests::{Member, Scene};

/// Texts that are not tickets are refused before anything is stored or sent.
#[test]
fn broken_tickets() {
    let scene = Scene::default();
    let good = scene.found("Kestrel", "Nightingale");
    let middle = good.len() / 2;
    let other = if good.as_bytes()[middle] == b'a' { "b" } else { "a" };
    let flipped = format!("{}{other}{}", &good[..middle], &good[middle + 1..]);
    let newer = good.replacen("hark1", "hark2", 1);
    for (ticket, reason) in [
        (flipped.as_str(), "the ticket is damaged"),
        (&good[..good.len() - 1], "the ticket is cut off"),
        ("hark1", "the ticket is cut off"),
        (newer.as_str(), "another version"),
        ("swordfish", "no ticket"),
        ("", "no ticket"),
        (&"hark1a".repeat(10_000), "too long"),
    ] {
        let outcome = scene.talk("Cuckoo").ticket(ticket).outcome();
        let line = outcome.complaint();
        assert!(line.contains(reason), "{:.80}: {line}", ticket);
        assert!(!scene.home("Cuckoo").exists(), "{ticket}");
        assert!(scene.run("Magpie", &["join", ticket]).complaint().contains(reason));
    }
}

/// A newcomer that hides its address comes in only by a relay, and is informed of this before
/// anything is sent. [PROTO-3.10]
#[test]
fn a_ticket_without_a_relay_for_one_who_hides() {
    let scene = Scene::default();
    scene.found("Kestrel", "Nightingale");
    let kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let hidden = ["--relay-only"];
    let talk = scene.talk("Wren").ticket(&ticket).listen(&["--no-mdns"]).with(&hidden).outcome();
    let join = scene.run("Heron", &["join", &ticket, "--relay-only"]);
    for outcome in [talk, join] {
        let line = outcome.complaint();
        assert!(line.contains("the ticket names no relay"), "{line}");
    }
    kestrel.is_among(&[]);
}

/// A newcomer whose ticket does not admit is refused in one line.
#[test]
fn tickets_that_do_not_admit() {
    let scene = Scene::default();
    let squad = Squad::gather(&scene);
    let once = squad.kestrel.invite(&["--uses", "1"]);
    let brief = squad.kestrel.invite(&["--expires", "1s"]);
    let brief_until: UnixTime = brief.parse::<Ticket>().expect("a ticket").invite().expires;

    let mut heron = scene.talk("Heron").ticket(&once).start();
    squad.kestrel.is_among(&[&squad.wren, &heron]);
    squad.wren.is_among(&[&squad.kestrel, &heron]);
    heron.leave();
    squad.kestrel.is_among(&[&squad.wren]);
    squad.wren.is_among(&[&squad.kestrel]);

    let marks = squad.marks();
    let refused = |ticket: &str| {
        let peer = squad.kestrel.address().to_string();
        scene.talk("Cuckoo").ticket(ticket).with(&["--peer", &peer]).outcome()
    };
    assert!(refused(&once).complaint().contains("used as often as it may be"));
    let forged = squad.forged_ticket();
    assert!(refused(&forged).complaint().contains("the ticket is not valid"));
    squad.kestrel.wait("later moment", |events| {
        let last = events.last()?.at();
        (last > Duration::from_secs(brief_until.as_secs() + 1)).then_some(())
    });
    assert!(refused(&brief).complaint().contains("the ticket has expired"));
    squad.is_undisturbed(marks);
}

/// A ticket of another squad does not admit here, whichever door its holder knocks at.
#[test]
fn ticket_of_another_squad() {
    let scene = Scene::default();
    let squad = Squad::gather(&scene);
    let marks = squad.marks();
    let ticket = scene.found("Magpie", "Elsewhere");
    let peer = squad.kestrel.address().to_string();
    let outcome = scene.talk("Cuckoo").ticket(&ticket).with(&["--peer", &peer]).outcome();
    let line = outcome.complaint();
    assert!(line.contains("organisation") || line.contains("\"Elsewhere\""), "{line}");
    squad.is_undisturbed(marks);
}

/// Two members who hear each other.
struct Squad {
    kestrel: Member,
    wren: Member,
}

impl Squad {
    fn gather(scene: &Scene) -> Self {
        let kestrel = scene.talk("Kestrel").start();
        let wren = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("english").start();
        kestrel.is_among(&[&wren]);
        wren.is_among(&[&kestrel]);
        kestrel.hears(&wren, 10);
        Self { kestrel, wren }
    }

    /// A ticket with the same contents as the true one, except for the key that has signed it.
    fn forged_ticket(&self) -> String {
        let ticket: Ticket = self.kestrel.ticket().parse().expect("a ticket");
        let stranger = DeviceKey::generate(&SystemRandom);
        let door = Door {
            device: self.kestrel.device().parse().expect("a device"),
            addresses: vec![self.kestrel.address()],
        };
        let invite = ticket.invite();
        let forged = Ticket::issue(
            &stranger,
            invite.organisation,
            &ticket.name,
            Terms::until(invite.expires),
            vec![door],
            &SystemRandom,
        );
        forged.to_string()
    }

    fn marks(&self) -> [usize; 2] {
        [&self.kestrel, &self.wren].map(|member| member.events().len())
    }

    /// Since the marks there were only statistics events, and speech continues.
    #[track_caller]
    fn is_undisturbed(&self, marks: [usize; 2]) {
        self.kestrel.hears(&self.wren, 100);
        for (member, mark) in [&self.kestrel, &self.wren].into_iter().zip(marks) {
            let others: Vec<_> = member.events()[mark..]
                .iter()
                // The founder also lists whom it has admitted, and issues what is forged.
                .filter(|it| !["stats", "charter_changed", "ticket"].iter().any(|name| it.is(name)))
                .cloned()
                .collect();
            assert!(others.is_empty(), "{others:?}");
            assert_eq!(member.stderr(), "");
        }
        self.kestrel.has_concealed_little(&self.wren);
    }
}
