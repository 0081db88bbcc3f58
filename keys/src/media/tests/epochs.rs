//! Frames that are sealed with the keys of epochs.

use super::*;
use crate::{DeviceKey, EpochDealer};

fn started() -> (TargetId, DeviceId, EpochSecret, SenderKeyring) {
    let random = SeededRandom::new(5);
    let device = DeviceKey::generate(&random).id();
    let target = TargetId::from_bytes([3; 16]);
    let secret = EpochDealer::generate(&random).secret([0xcd; 32]);
    let mut keyring = SenderKeyring::new(target, device);
    keyring.set_epochs(std::slice::from_ref(&secret));
    (target, device, secret, keyring)
}

/// [PROTO-11.8] A listener need not be told which generation a talker has reached.
#[test]
fn whoever_holds_the_epoch_opens_every_talker() {
    let (target, device, secret, mut keyring) = started();
    let now = Timestamp::ZERO;
    for generation in [0, 7, 255] {
        let mut key = SenderKey::of_epoch(target, device, &secret, generation);
        let frame = sealed(&mut key, b"hello");
        assert_eq!(frame.len(), 5 + SEALED_OVERHEAD + 1);
        assert_eq!(opened(&mut keyring, now, &frame), Ok(b"hello".to_vec()));
        assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::Replayed));
    }
    let mut oldest = SenderKey::of_epoch(target, device, &secret, 0);
    let frame = sealed(&mut oldest, b"again");
    assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::TooOld));
}

#[test]
fn a_key_is_of_one_talker_one_target_and_one_epoch() {
    let (target, device, secret, mut keyring) = started();
    let random = SeededRandom::new(6);
    let now = Timestamp::ZERO;
    let another = DeviceKey::generate(&random).id();
    let elsewhere = TargetId::from_bytes([4; 16]);
    let other = EpochDealer::generate(&random).secret([0xee; 32]);
    let keys = [
        SenderKey::of_epoch(elsewhere, device, &secret, 0),
        SenderKey::of_epoch(target, another, &secret, 0),
        SenderKey::of_epoch(target, device, &other, 0),
    ];
    for mut key in keys {
        let frame = sealed(&mut key, b"hello");
        assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::UnknownKey));
    }
    // An epoch that is over opens nothing.
    let frame = sealed(&mut SenderKey::of_epoch(target, device, &secret, 0), b"hello");
    keyring.set_epochs(&[]);
    assert!(keyring.is_empty());
    assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::UnknownKey));
}

/// [PROTO-11.13] [PROTO-6.7]
#[test]
fn a_key_that_a_talker_has_given_opens_its_generation_alone_and_each_frame_once() {
    let (target, device, secret, _) = started();
    let now = Timestamp::ZERO;
    let mut keyring = SenderKeyring::new(target, device);
    let given = secret.key_of(target, device, 3);
    keyring.install_epoch_key(now, &given);
    let mut key = SenderKey::of_epoch(target, device, &secret, 3);
    let [first, second] = [sealed(&mut key, b"hello"), sealed(&mut key, b"again")];
    assert_eq!(opened(&mut keyring, now, &first), Ok(b"hello".to_vec()));
    let next = sealed(&mut SenderKey::of_epoch(target, device, &secret, 4), b"next");
    assert_eq!(opened(&mut keyring, now, &next), Err(OpenFrameError::UnknownKey));
    // The key is taken away, and comes back.
    keyring.forget_own_key();
    assert_eq!(opened(&mut keyring, now, &second), Err(OpenFrameError::UnknownKey));
    keyring.install_epoch_key(now, &given);
    assert_eq!(opened(&mut keyring, now, &first), Err(OpenFrameError::Replayed));
    assert_eq!(opened(&mut keyring, now, &second), Ok(b"again".to_vec()));
    // The epoch itself comes too late.
    keyring.set_epochs(std::slice::from_ref(&secret));
    for frame in [first, second] {
        assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::Replayed));
    }
    assert_eq!(opened(&mut keyring, now, &next), Ok(b"next".to_vec()));
    // In an epoch that is held, a given key is not needed.
    keyring.install_epoch_key(now, &secret.key_of(target, device, 5));
    assert_eq!(keyring.given.len(), 1);
    // Of given keys the newest two are held.
    let mut stranger = SenderKeyring::new(target, device);
    let mut frames = Vec::new();
    for generation in 0..3 {
        stranger.install_epoch_key(now, &secret.key_of(target, device, generation));
        let mut key = SenderKey::of_epoch(target, device, &secret, generation);
        frames.push(sealed(&mut key, b"hello"));
    }
    assert_eq!(opened(&mut stranger, now, &frames[0]), Err(OpenFrameError::UnknownKey));
    for frame in &frames[1..] {
        assert_eq!(opened(&mut stranger, now, frame), Ok(b"hello".to_vec()));
    }
    // The key opens nothing of another talker.
    let another = DeviceKey::generate(&SeededRandom::new(6)).id();
    let mut other = SenderKeyring::new(target, another);
    other.install_epoch_key(now, &secret.key_of(target, another, 3));
    let frame = sealed(&mut SenderKey::of_epoch(target, device, &secret, 3), b"hello");
    assert!(opened(&mut other, now, &frame).is_err());
}

/// [PROTO-11.8]
#[test]
fn epochs_with_one_tag_are_told_apart_and_forgeries_move_nothing() {
    let (target, device, secret, mut keyring) = started();
    let mut twin = [0xcd; 32];
    twin[31] = 1;
    let twin = EpochDealer::generate(&SeededRandom::new(7)).secret(twin);
    assert_eq!(twin.tag(), secret.tag());
    keyring.set_epochs(&[secret.clone(), twin.clone()]);
    let now = Timestamp::ZERO;
    for (secret, text) in [(&twin, b"two"), (&secret, b"one")] {
        let frame = sealed(&mut SenderKey::of_epoch(target, device, secret, 9), text);
        for place in 0..frame.len() {
            let mut changed = frame.clone();
            changed[place] ^= 1;
            assert!(opened(&mut keyring, now, &changed).is_err(), "byte {place}");
        }
        assert_eq!(opened(&mut keyring, now, &frame), Ok(text.to_vec()));
    }
}

/// [PROTO-6.7] A frame was delivered again after the epoch was taken away and given back.
#[test]
fn an_epoch_that_comes_back_opens_what_it_had_not_opened() {
    let (target, device, secret, mut keyring) = started();
    let now = Timestamp::ZERO;
    let mut key = SenderKey::of_epoch(target, device, &secret, 0);
    let [frame, other] = [sealed(&mut key, b"attack now"), sealed(&mut key, b"wait")];
    assert!(opened(&mut keyring, now, &frame).is_ok());
    assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::Replayed));
    keyring.set_epochs(&[]);
    assert!(keyring.is_empty() && !keyring.is_forgettable());
    assert_eq!(opened(&mut keyring, now, &other), Err(OpenFrameError::UnknownKey));
    keyring.set_epochs(&[secret]);
    assert_eq!(opened(&mut keyring, now, &frame), Err(OpenFrameError::Replayed));
    assert_eq!(opened(&mut keyring, now, &other), Ok(b"wait".to_vec()));
    // After longer than any device holds an epoch, nothing of it need be remembered.
    keyring.set_epochs(&[]);
    keyring.handle_timeout(Timestamp::from_millis(1_000));
    keyring.handle_timeout(Timestamp::from_millis(720_999));
    assert!(!keyring.is_forgettable());
    keyring.handle_timeout(Timestamp::from_millis(721_000));
    assert!(keyring.is_forgettable());
}

/// If there are more epochs than are remembered, the first never open again, so that they never
/// open a frame twice.
#[test]
fn an_epoch_of_which_nothing_is_known_any_more_is_refused() {
    let (target, device, _, mut keyring) = started();
    let random = SeededRandom::new(8);
    let now = Timestamp::ZERO;
    let epochs: Vec<_> = (0..WINDOWS_KEPT as u8 + 1)
        .map(|n| EpochDealer::generate(&random).secret([n; 32]))
        .collect();
    let frame =
        |epoch: &EpochSecret| sealed(&mut SenderKey::of_epoch(target, device, epoch, 0), b"once");
    for epoch in &epochs {
        keyring.set_epochs(std::slice::from_ref(epoch));
        assert!(opened(&mut keyring, now, &frame(epoch)).is_ok());
    }
    keyring.set_epochs(&[]);
    keyring.set_epochs(&epochs);
    for (n, epoch) in epochs.iter().enumerate() {
        let known = if n == 0 { OpenFrameError::UnknownKey } else { OpenFrameError::Replayed };
        assert_eq!(opened(&mut keyring, now, &frame(epoch)), Err(known), "{n}");
    }
    // More epochs do not take more room for ever.
    for n in 0..REFUSED_MAX as u64 + 50 {
        let mut id = [0xff; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let epoch = EpochDealer::generate(&random).secret(id);
        keyring.set_epochs(std::slice::from_ref(&epoch));
        assert!(opened(&mut keyring, now, &frame(&epoch)).is_ok());
    }
    assert_eq!(keyring.epochs.len(), REFUSED_MAX + 1);
    let windows = keyring.epochs.iter().map(|dealt| dealt.generations.len()).sum::<usize>();
    assert_eq!(windows, WINDOWS_KEPT + 1);
}
