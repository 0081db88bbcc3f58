use hark_fuzz::TARGETS;
use hark_keys::FrameNumber;
use hark_mesh::datagram::{Datagram, Forwarded, FromMember, FromRelay, Report, Slot, Voice};
use serde_json::{Value, json};

use crate::{hex, hold_to};

/// Every kind of datagram. [PROTO-7.1] [PROTO-9.2]
#[test]
fn datagrams() {
    let target = TARGETS.iter().find(|target| target.name == "datagram").unwrap();
    let mut vectors = Vec::new();
    for (name, bytes) in (target.seeds)() {
        let Some(value) = described(&bytes) else { continue };
        vectors.push(json!({ "name": name, "bytes": hex(&bytes), "value": value }));
    }
    for wrong in [&[][..], &[0], &[16, 1], &[1, 1, 2, 3, 4, 0, 7, 6], &[3, 0, 0, 0, 1, 0]] {
        assert!(described(wrong).is_none());
        vectors.push(json!({ "name": "refused", "bytes": hex(wrong) }));
    }
    hold_to("datagrams", &vectors);
}

fn described(bytes: &[u8]) -> Option<Value> {
    let mut value =
        match (Datagram::parse(bytes), FromMember::parse(bytes), FromRelay::parse(bytes)) {
            (Ok(datagram), ..) => between_members(datagram),
            (_, Ok(datagram), _) => to_relay(datagram),
            (.., Ok(datagram)) => from_relay(datagram),
            _ => return None,
        };
    value["kind"] = bytes[0].into();
    Some(value)
}

fn between_members(datagram: Datagram<'_>) -> Value {
    match datagram {
        Datagram::Voice(it) => voice(it),
        Datagram::Report(it) => report(it),
        Datagram::Heartbeat(it) => json!({ "number": it.number }),
        Datagram::Account(it) => json!({
            "relay": hex(it.relay.as_bytes()),
            "tag": hex(it.target_tag),
            "highest": it.highest_sequence,
            "received": it.received,
            "lost": it.lost,
            "spoilt": it.spoilt,
        }),
        Datagram::Question(it) => with_frame(it.target_tag, it.frame),
        Datagram::Proof(it) => {
            let mut value = with_frame(it.target_tag, it.first);
            value["count"] = it.count.into();
            value["group"] = it.group.into();
            value["hashes"] = it.groups().map(|(.., hash)| Value::from(hex(hash))).collect();
            value
        }
    }
}

fn to_relay(datagram: FromMember<'_>) -> Value {
    match datagram {
        FromMember::Forward(it) => {
            let mut value = voice(it.voice);
            value["level"] = it.level.into();
            value
        }
        FromMember::Tunnel(it) => json!({ "slot": it.slot.number(), "packet": hex(it.packet) }),
        FromMember::Report(it) => {
            let mut value = report(it.report);
            value["slot"] = it.slot.number().into();
            value
        }
        FromMember::Knock(it) => {
            let slot = it.slot.map_or(0, Slot::number);
            json!({ "slot": slot, "device": hex(it.device.as_bytes()) })
        }
    }
}

fn from_relay(datagram: FromRelay<'_>) -> Value {
    match datagram {
        FromRelay::Forwarded(it) => forwarded(it),
        FromRelay::Bundle(it) => {
            json!({ "datagrams": it.iter().map(forwarded).collect::<Vec<_>>() })
        }
        FromRelay::Seen(it) => json!({
            "tag": hex(it.target_tag),
            "highest": it.highest_sequence,
            "received": it.received,
            "lost": it.lost,
            "copies": it.wanted_copies,
        }),
        FromRelay::Pulse(it) => {
            let talkspurts = it.iter().map(|(slot, highest)| json!([slot.number(), highest]));
            json!({ "talkspurts": talkspurts.collect::<Vec<_>>() })
        }
        FromRelay::Introduction(it) => {
            json!({ "slot": it.slot.number(), "device": hex(it.device.as_bytes()) })
        }
        FromRelay::Tunnel(_) | FromRelay::Knock(_) => unreachable!("told as to a relay"),
    }
}

fn voice(it: Voice<'_>) -> Value {
    json!({
        "tag": hex(it.target_tag),
        "sequence": it.sequence,
        "copies": it.frames.len() - 1,
        "frames": it.frames.iter().map(hex).collect::<Vec<_>>(),
    })
}

fn forwarded(it: Forwarded<'_>) -> Value {
    let mut value = voice(it.voice);
    value["slot"] = it.slot.number().into();
    value
}

fn report(it: Report) -> Value {
    json!({
        "tag": hex(it.target_tag),
        "highest": it.highest_sequence,
        "received": it.received,
        "lost": it.lost,
        "burst": it.longest_burst,
        "jitter": it.jitter,
        "copies": it.wanted_copies,
    })
}

fn with_frame(target_tag: [u8; 4], frame: FrameNumber) -> Value {
    json!({ "tag": hex(target_tag), "key": frame.key, "counter": frame.counter })
}
