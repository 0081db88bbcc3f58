//! Members come, go and hear each other.

use hark_tests::{Member, Scene};

/// Each of `members` presses the key in turn, and all others hear it and nobody else.
#[track_caller]
pub(crate) fn take_turns(members: &[&Member]) {
    for (index, talker) in members.iter().enumerate() {
        let mut others = members.to_vec();
        others.remove(index);
        let counts: Vec<_> = others.iter().map(|other| other.count("talk_ended", talker)).collect();
        talker.ctl(&["ptt", "down"]);
        for other in &others {
            other.hears(talker, TURN_FRAMES);
        }
        talker.ctl(&["ptt", "up"]);
        for (other, count) in others.iter().zip(counts) {
            other.wait("end of the turn", |_| {
                (other.count("talk_ended", talker) > count).then_some(())
            });
        }
    }
}

/// Frames of 10 ms in a turn.
const TURN_FRAMES: u64 = 250;

/// Windows of a second, half a second apart, that every listener must have of a turn. It has about
/// four with speech in them.
const TURN_WINDOWS: usize = 2;

/// Two members, one invited by the ticket of the other, hear each other's words.
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
        assert_few_concealed(one, other);
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

/// Nothing is lost on loopback; a machine too busy for real time may be late now and then.
#[track_caller]
pub(crate) fn assert_few_concealed(listener: &Member, talker: &Member) {
    let received = listener.counter("frames_received", talker);
    let concealed = listener.counter("frames_concealed", talker);
    assert!(concealed * 20 <= received, "{concealed} concealed, {received} received");
}
