use hark_charter::Charter;
use hark_keys::{
    ChannelId, EpochDealer, KeySecret, Prekey, PrekeySecret, SeededRandom, SenderKey, Signed,
    TargetId, UnixTime, encode,
};
use hark_mesh::{
    List, Target,
    datagram::FrameHeader,
    epoch::{Confirmed, EpochHeader, EpochMessage, Holders},
    message::Message,
};
use serde_json::{Value, json};

use crate::{Noted, hex, hold_to, key, value};

fn plain(number: u32) -> Vec<u8> {
    let first = number == 0;
    let header = FrameHeader { first, last: number == 2, talkspurt: 9, media_time: 4 * number + 7 };
    [&header.to_bytes()[..], &[number as u8; 20]].concat()
}

fn sealed(sender: &mut SenderKey) -> Vec<Value> {
    let seal = |number| {
        let (plain, mut out) = (plain(number), Vec::new());
        sender.seal(&plain, &mut out).unwrap();
        json!({ "plain": hex(plain), "sealed": hex(out) })
    };
    (0..3).map(seal).collect()
}

/// Three steps of a key, for a channel and for a target of several channels. [PROTO-6.1]
/// [PROTO-6.11]
#[test]
fn frames() {
    let random = SeededRandom::new(8);
    let talker = key(2).id();
    let charter = Charter::found("Squad", "Voice", &key(1), None, &random);
    let channel = ChannelId::from_bytes([1; 16]);
    let mut urgent = Target::new([channel], [charter.member_of(key(3).id())], []);
    urgent.priority = true;
    let mut vectors = Vec::new();
    for target in [Target::of_channel(channel), urgent] {
        let id: TargetId = target.id();
        let mut secret = KeySecret::generate(517, &random);
        for step in 0..3 {
            let mut sender = SenderKey::new(id, talker, &secret);
            // The bytes before the key are its generation and step.
            let base_key = encode(&secret)[3..].to_vec();
            vectors.push(json!({
                "organisation": hex(charter.organisation().as_bytes()),
                "target": value(&target),
                "target id": hex(id.as_bytes()),
                "target tag": hex(charter.target_tag(id)),
                "device": hex(talker.as_bytes()),
                "generation": secret.generation,
                "step": step,
                "base key": hex(base_key),
                "frames": sealed(&mut sender),
            }));
            secret = secret.ratcheted();
        }
    }
    hold_to("frames", &vectors);
}

/// An epoch: how it is dealt, confirmed and talked in, and how its key is given to a device that
/// does not hold it. [PROTO-11.4] [PROTO-11.5] [PROTO-11.8] [PROTO-11.12] [PROTO-11.13]
/// [PROTO-11.27]
#[test]
fn epochs() {
    let random = Noted::new(9);
    let [steward, bob, cid] = [1, 2, 3].map(key);
    let secret = PrekeySecret::generate(&random);
    let prekey = Prekey::new(cid.id(), UnixTime::from_secs(1_800_000_000), &secret);
    let prekey_secret = random.drawn().remove(0);
    let dealer = EpochDealer::generate(&random);
    let base = Holders::new([bob.id(), key(4).id()]);
    let holders = Holders::new([bob.id(), cid.id(), steward.id()]);
    let channel = ChannelId::from_bytes([1; 16]);
    let header = EpochHeader {
        channel,
        issuer: steward.id(),
        number: 8,
        dealer: dealer.public(),
        commitment: dealer.commitment(),
        holders: holders.hash(),
    };
    let header = Signed::sign(header, &steward);
    let id = header.hash();
    let seal = dealer.seal(&id, &prekey).unwrap();
    let place = holders.place(cid.id()).unwrap();
    let change = holders.change_from(Some(&base));
    let seals = List::truncated([(place, seal)]);
    let message = Message::Epoch(Box::new(EpochMessage { header, holders: change, seals }));
    let epoch = dealer.secret(id);
    let confirmed = [bob.id(), cid.id()];
    let bits = confirmed.iter().map(|it| 1_u8 << holders.place(*it).unwrap()).sum();
    let places = List::truncated([bits]);
    let sum = epoch.confirmation_of(confirmed);
    let said = Confirmed { channel, epoch: hark_keys::ObjectHash::from_bytes(id), places, sum };
    let target = Target::of_channel(channel);
    let mut sender = SenderKey::of_epoch(target.id(), bob.id(), &epoch, 3);
    let vector = json!({
        "prekey": hex(encode(&Signed::sign(prekey, &cid))),
        "prekey secret": hex(prekey_secret),
        "holders before": base.devices().iter().map(|it| hex(it.as_bytes())).collect::<Vec<_>>(),
        "message": hex(message.encode()),
        "id": hex(id),
        "device": hex(cid.id().as_bytes()),
        "confirmation": value(&epoch.confirmation(cid.id())),
        "confirmed": hex(Message::Confirmed(said).encode()),
        "confirmed devices": confirmed.map(|it| hex(it.as_bytes())),
        "talker": hex(bob.id().as_bytes()),
        "generation": 3,
        "talkers key": value(&epoch.key_of(target.id(), bob.id(), 3)),
        "frames": sealed(&mut sender),
    });
    hold_to("epochs", &[vector]);
}
