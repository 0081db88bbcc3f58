//! Members come, leave and hear each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hark_tests::{Event, Member, Scene};

/// Two members, one of them invited by the other's ticket, hear each other's words.
#[test]
fn two_hear_each_other() {
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").speaking("english").start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("french").start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    kestrel.hears(&wren, 400);
    wren.hears(&kestrel, 400);
    for (one, other) in [(&kestrel, &wren), (&wren, &kestrel)] {
        assert_eq!(one.count("talk_started", other), 1);
        assert_eq!(one.count("talk_ended", other), 0);
        one.has_concealed_little(other);
    }
    wren.leave();
    let down = kestrel.wait_after(0, "goodbye", |event| event.is("peer_down"));
    assert_eq!((down.text("name"), down.text("reason")), ("Wren", "left"));
    kestrel.wait_after(0, "end of talk", |event| {
        event.is("talk_ended") && event.is_about(&wren.device())
    });
    kestrel.is_among(&[]);
    kestrel.leave();
    kestrel.has_heard(&wren, 4);
    wren.has_heard(&kestrel, 4);
}

/// The founder leaves, and the others stay together. A newcomer who has only the founder's ticket
/// joins through the other members that the ticket names.
#[test]
fn founder_leaves_and_another_joins() {
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let talk = |name, speech| scene.talk(name).transmit("ptt").speaking(speech).ticket(&ticket);
    // Wren dials by ticket and by address. That makes two links at once, of which one survives.
    let peer = kestrel.address().to_string();
    let mut wren = talk("Wren", "english").with(&["--peer", &peer]).start();
    let mut heron = talk("Heron", "french").with(&["--peer", &peer]).start();
    wren.is_among(&[&kestrel, &heron]);
    kestrel.is_among(&[&wren, &heron]);
    let ticket = kestrel.ticket();
    kestrel.ctl(&["quit"]);
    assert_eq!(kestrel.ended(), "quit");
    wren.is_among(&[&heron]);
    heron.is_among(&[&wren]);

    let ibis = scene.talk("Ibis").transmit("ptt").speaking("russian").ticket(&ticket);
    let mut ibis = ibis.start();
    ibis.is_among(&[&wren, &heron]);
    take_turns(&[&wren, &heron, &ibis]);
    for (one, other) in [(&wren, &heron), (&heron, &wren)] {
        assert_eq!(one.count("peer_down", other), 0);
    }
    end_having_heard([&mut wren, &mut heron, &mut ibis]);
}

/// Five members join one after the other, each with a ticket of the one before, and all hear all.
#[test]
fn five_hear_each_other() {
    let scene = Scene::default();
    let mut members: Vec<Member> = Vec::new();
    for (name, speech) in [
        ("Kestrel", "english"),
        ("Wren", "french"),
        ("Heron", "italian"),
        ("Ibis", "russian"),
        ("Plover", "english-2"),
    ] {
        let mut talk = scene.talk(name).transmit("ptt").speaking(speech);
        if let Some(last) = members.last() {
            talk = talk.ticket(&last.ticket());
        }
        members.push(talk.start());
    }
    let all: Vec<&Member> = members.iter().collect();
    for (index, member) in all.iter().enumerate() {
        let mut others = all.clone();
        others.remove(index);
        member.is_among(&others);
    }
    take_turns(&all);
    for (one, other) in pairs(&all) {
        assert_eq!((one.count("peer_up", other), one.count("peer_down", other)), (1, 0));
        one.has_concealed_little(other);
    }
    let mut members: [Member; 5] = members.try_into().ok().expect("five have come");
    end_having_heard(members.each_mut());
}

/// A member that crashes is displayed as unreachable. When it is started again it is heard again,
/// and needs no ticket.
#[test]
fn member_is_killed_and_comes_back() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").transmit("ptt").speaking("italian").start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("english").start();
    let heron = scene.talk("Heron").transmit("ptt").ticket(&kestrel.ticket()).start();
    for listener in [&kestrel, &heron] {
        listener.hears(&wren, 50);
    }
    wren.kill();
    let killed = now();
    for listener in [&kestrel, &heron] {
        let down = listener.wait_after(0, "end of Wren", |event| event.is("peer_down"));
        assert_eq!((down.text("name"), down.text("reason")), ("Wren", "unreachable"));
        assert!(down.at().saturating_sub(killed) <= UNREACHABLE, "{:?}", down.at() - killed);
    }

    let marks = [&kestrel, &heron].map(|listener| listener.events().len());
    let started = now();
    let again = scene.talk("Wren").speaking("english").start();
    assert_eq!(again.device(), wren.device());
    for (listener, mark) in [&kestrel, &heron].into_iter().zip(marks) {
        let talk = listener.wait_after(mark, "speech of Wren", |event| {
            event.is("talk_started") && event.is_about(&wren.device())
        });
        assert!(talk.at().saturating_sub(started) <= BACK, "{:?}", talk.at() - started);
    }
    kestrel.is_among(&[&again, &heron]);
    heron.is_among(&[&again, &kestrel]);
    again.is_among(&[&kestrel, &heron]);
    take_turns(&[&kestrel, &again][..1]);
    kestrel.hears(&again, 200);
    kestrel.has_heard(&again, 2);
}

/// Each of `members` presses the key in turn, and all others hear it.
#[track_caller]
fn take_turns(members: &[&Member]) {
    for (index, talker) in members.iter().enumerate() {
        let mut others = members.to_vec();
        others.remove(index);
        let device = talker.device();
        let before: Vec<_> = others
            .iter()
            .map(|other| (other.received(talker), other.count("talk_ended", talker)))
            .collect();
        talker.ctl(&["ptt", "down"]);
        for (other, (received, _)) in others.iter().zip(&before) {
            other.receives(talker, received + TURN_FRAMES);
        }
        talker.ctl(&["ptt", "up"]);
        for (other, (_, ended)) in others.iter().zip(&before) {
            other.wait("end of the turn", |events| {
                let ends = |event: &&Event| event.is("talk_ended") && event.is_about(&device);
                events.iter().filter(ends).nth(*ended).map(|_| ())
            });
        }
    }
}

/// All members leave. What each has heard of the turns of the others is in its file.
#[track_caller]
fn end_having_heard<const N: usize>(members: [&mut Member; N]) {
    let members = members.map(|member| {
        member.leave();
        &*member
    });
    for (one, other) in pairs(&members) {
        one.has_heard(other, TURN_WINDOWS);
    }
}

/// Every ordered pair of two members.
fn pairs<'a>(members: &'a [&'a Member]) -> impl Iterator<Item = (&'a Member, &'a Member)> {
    members.iter().enumerate().flat_map(move |(index, one)| {
        let others = members.iter().enumerate().filter(move |(other, _)| *other != index);
        others.map(move |(_, other)| (*one, *other))
    })
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

/// How many frames of 10 ms there are in a turn.
const TURN_FRAMES: u64 = 250;

/// How many windows of a second, half a second apart, every listener must have of a turn. A turn
/// has about four, some of them with too little speech.
const TURN_WINDOWS: usize = 2;

/// Missing heartbeats of a member are noticed within 5 s; the rest is for a busy machine.
const UNREACHABLE: Duration = Duration::from_secs(10);

/// A member is back within 2 s; the rest is for a busy machine.
const BACK: Duration = Duration::from_secs(10);
