//! Drafts that several members sign, and content that is passed round as files.

use super::*;

/// The content of the draft that a command has written.
fn draft(answer: &Answer) -> Vec<u8> {
    answer.file.clone().expect("a draft").content
}

#[test]
fn a_root_of_two_keys_acts_by_drafts_that_both_have_signed() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let device = bob.key.id();
    let line = format!("root propose --add {device} --threshold 2 root.txt");
    assert!(ann.would(&line).contains("2 of 3 root keys must sign"));
    let proposed = ann.told(&line, &[]);
    assert!(
        proposed.text.contains(&format!("new root key: {device}, a device of Bob")),
        "{}",
        proposed.text
    );
    assert!(ann.refused("import root.txt", &draft(&proposed)).contains("is not signed by all yet"));
    assert!(
        cat.refused("sign root.txt", &draft(&proposed)).contains("does not ask for the signature")
    );
    // Two documents with one version would split the organisation. [CHARTER-2.4]
    let error = ann.cannot("root propose --name Other other.txt");
    assert!(error.starts_with("this device has signed another root document 2"), "{error}");
    // A device can be stolen, so the printed key, which stands above it, must agree.
    let needs: Vec<_> = proposed.text.lines().filter(|line| line.contains("1 signature")).collect();
    assert_eq!(needs.len(), 2, "{}", proposed.text);
    assert!(needs[0].starts_with("  of the root keys that there shall be: 1 signature of "));
    assert!(needs[0].contains("(a device of Bob) or ") && !needs[0].contains("and"), "{needs:?}");
    assert!(needs[1].ends_with("(the printed recovery key of Ann) or a key above it"), "{needs:?}");
    // A draft used up its version number for good, and its text did not say so.
    assert!(proposed.text.contains("signs no other root document 2"), "{}", proposed.text);
    let recovery = RecoverySecret::generate(&skipped()).key();
    let file = InputFile { path: "root.txt".to_owned(), content: draft(&proposed) };
    let proposed = Answer::from(sign_with(&recovery, None, &file).unwrap());
    let signed = bob.told("root sign root.txt", &draft(&proposed));
    assert!(
        signed.text.ends_with("all have signed: `hark charter import root.txt` makes it count"),
        "{}",
        signed.text
    );
    assert!(
        cat.told("import root.txt", &draft(&signed)).text.contains("2 of 3 root keys must sign")
    );
    assert_eq!(cat.told("import root.txt", &draft(&signed)).text, "root.txt counts already");
    assert_eq!(ann.json("root show")["threshold"], 2);

    let error = ann.cannot("policy set invite-hours-max 48");
    assert!(error.contains("you need 2 root keys to sign: write a draft with --draft and --cosigner; Ann or Bob could"), "{error}");
    let written = ann.told("policy set invite-hours-max 48 --draft policy.txt --cosigner Bob", &[]);
    assert_eq!(
        written.text,
        "policy.txt drafts this:\n  set invite-hours-max to 48\nBob has to sign it: `hark charter sign policy.txt`"
    );
    assert!(ann.refused("import policy.txt", &draft(&written)).contains("Bob has not"));
    assert!(cat.refused("sign policy.txt", &draft(&written)).contains("does not ask"));
    let signed = bob.told("sign policy.txt", &draft(&written));
    assert!(
        bob.told("sign policy.txt", &draft(&signed)).text.contains("has signed policy.txt before")
    );
    assert_eq!(
        bob.told("import policy.txt --dry-run", &draft(&signed)).text,
        "this would\n  set invite-hours-max to 48"
    );
    assert_eq!(cat.told("import policy.txt", &draft(&signed)).text, "set invite-hours-max to 48");
    assert_eq!(ann.json("policy list")["invite-hours-max"], 48);
    assert!(
        ann.does("log -n 1")
            .contains(" Ann with Bob, for the organisation\n  set invite-hours-max to 48")
    );

    assert!(ann.cannot("checkpoint").contains("a checkpoint needs more signatures"));
    let written = ann.told("checkpoint --draft point.txt", &[]);
    let signed = bob.told("sign point.txt", &draft(&written));
    assert!(cat.told("import point.txt", &draft(&signed)).text.starts_with("settled all"));
    assert_eq!(ann.charter.checkpoint(), 0);
    ann.does("show");
    assert_eq!(ann.charter.checkpoint(), 1);
}

/// Two officers of one rank can do no more together than alone: drafts are for root keys.
#[test]
fn nobody_but_root_keys_signs_along() {
    let (mut world, [mut ann, mut bob, _]) = World::three();
    let _ = world.join("Dan");
    ann.does("grant officer Dan");
    assert_eq!(bob.cannot("kick Dan --draft kick.txt --cosigner Dan"), "Dan holds no root key");
    assert!(bob.cannot("kick Dan").contains("who stands as high as you (rank 30); Ann could"));
}

#[test]
fn a_draft_that_would_have_no_effect_is_not_completed() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let written = cat.told("channel add Den --draft den.txt --cosigner Ann", &[]);
    let error = ann.refused("sign den.txt", &draft(&written));
    assert!(error.contains("you need the right manage-channels everywhere"), "{error}");
    assert!(cat.cannot("channel add Den --draft den.txt").contains("manage-channels"));
    let mut damaged = draft(&written);
    let last = damaged.len() - 5;
    damaged[last] = if damaged[last] == b'0' { b'1' } else { b'0' };
    let error = bob.refused("sign den.txt", &damaged);
    assert!(error.starts_with("den.txt "), "{error}");
    assert_eq!(bob.refused("sign den.txt", b"hello"), "den.txt is no draft");
}

#[test]
fn the_recovery_key_signs_without_a_node() {
    let (_world, mut ann) = World::new();
    let recovery = RecoverySecret::generate(&skipped()).key();
    assert!(ann.charter.is_root(recovery.id()));
    let proposed = ann.told("root propose --threshold 2 root.txt", &[]);
    let file = InputFile { path: "root.txt".to_owned(), content: draft(&proposed) };
    let signed = Answer::from(sign_with(&recovery, None, &file).unwrap());
    assert!(
        ann.told("import root.txt", &draft(&signed)).text.contains("2 of 2 root keys must sign")
            || ann.charter.root().threshold == 2
    );
}

/// The random numbers that follow the founder's own key.
fn skipped() -> SeededRandom {
    let random = SeededRandom::new(11);
    let _ = DeviceKey::generate(&random);
    random
}

#[test]
fn a_charter_is_exported_and_imported() {
    let (mut world, [mut ann, _, mut cat]) = World::three();
    let before = ann.shared().charter.clone();
    ann.does("channel add Flight");
    world.join("Dan");
    let exported = cat.told("export all.hark", &[]);
    assert!(exported.text.starts_with("all.hark holds all of Meridian Watch: "));
    let content = draft(&exported);
    assert_eq!(cat.told("import all.hark", &content).text, "nothing in all.hark is new");
    let after = ann.shared().charter.digest();
    ann.shared().charter = before;
    assert_eq!(
        cat.told("import all.hark --dry-run", &content).text,
        "would take 2 new pieces from all.hark"
    );
    assert_eq!(cat.told("import all.hark", &content).text, "took 2 new pieces from all.hark");
    assert_eq!(ann.shared().charter.digest(), after);
    let other = Charter::found("Other", "x", &ann.key, None, &SeededRandom::new(9)).snapshot();
    assert!(
        cat.refused("import o.hark", &other).contains("charter of another organisation, Other")
    );
    assert!(cat.refused("import o.hark", &content[..90]).starts_with("o.hark is no use: "));
}

#[test]
fn a_checkpoint_settles_and_needs_a_root_key() {
    let (_world, [mut ann, mut bob, _]) = World::three();
    assert!(bob.cannot("checkpoint").starts_with("a checkpoint needs 1 root key; held by Ann"));
    assert_eq!(ann.would("checkpoint"), "this would\n  settle all that is known as checkpoint 1");
    assert_eq!(ann.does("checkpoint"), "settled all that was known as checkpoint 1");
    assert_eq!(ann.does("checkpoint"), "nothing is new since the last checkpoint");
    assert!(ann.does("show").contains("checkpoint 1"));
    bob.does("channel add Den");
    assert!(bob.does("log").contains("made channel Den"));
}

/// A checkpoint never makes the charter itself unreadable.
#[test]
fn whatever_is_settled_can_be_read_again() {
    let (_world, [mut ann, mut bob, _]) = World::three();
    for name in ["One", "Two", "Three"] {
        bob.does(&format!("channel add {name}"));
        let settled = ann.try_with("checkpoint", &[]);
        assert_eq!(ann.json("verify")["holds"], true, "{name}: {settled:?}");
        let exported = ann.told("export all.hark", &[]);
        assert!(ann.told("import all.hark", &draft(&exported)).text.contains("nothing"), "{name}");
    }
    assert!(ann.shared().charter.checkpoint() > 0);
}

/// [CHARTER-2.3]
#[test]
fn a_fork_is_shown_to_all_until_a_proposal_joins_it() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let recovery = RecoverySecret::generate(&skipped()).key();
    let one = ann.told("root propose --name One one.txt", &[]);
    // A member without a root key writes a second document, and the recovery key signs it.
    let other = bob.told("root propose --name Other other.txt", &[]);
    assert!(other.text.contains("keys that there are: 1 signature of "), "{}", other.text);
    let file = InputFile { path: "other.txt".to_owned(), content: draft(&other) };
    let other = Answer::from(sign_with(&recovery, None, &file).unwrap());
    assert_eq!(ann.told("import one.txt", &draft(&one)).text, "the organisation is called One");
    assert!(!cat.does("show").contains("FORKED"));
    cat.told("import other.txt", &draft(&other));
    assert!(cat.does("show").contains("\n  FORKED: "));
    assert!(cat.does("verify").contains("FORKED"));
    assert_eq!(cat.json("root show")["forked"], true);
    let joined = ann.told("root propose --name Both both.txt", &[]);
    assert!(joined.text.contains("2 root documents are joined"), "{}", joined.text);
    cat.told("import both.txt", &draft(&joined));
    assert_eq!(cat.json("root show")["forked"], false);
    assert!(cat.does("show").starts_with("Both\n"));
}

/// After the removal of a co-root was drafted, all that it did became void with the removal.
/// Nothing warned of that.
#[test]
fn acts_after_the_draft_of_a_dropping_fell_without_a_word() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let recovery = RecoverySecret::generate(&skipped()).key();
    let drafted = ann.told(&format!("root propose --add {} one.txt", bob.key.id()), &[]);
    cat.told("import one.txt", &draft(&drafted));
    bob.does("policy set invite-hours-max 48");
    let drafted = ann.told(&format!("root propose --drop {} two.txt", bob.key.id()), &[]);
    assert!(drafted.text.contains("what Bob does from now on is undone"), "{}", drafted.text);
    bob.does("channel add Den");
    bob.does("policy set invite-hours-max 12");
    let file = InputFile { path: "two.txt".to_owned(), content: draft(&drafted) };
    let content = match ann.json("root show")["keys"].as_array().map(Vec::len) {
        Some(3) => draft(&sign_with(&recovery, None, &file).unwrap().into()),
        keys => panic!("{keys:?}"),
    };
    let would = cat.told("import two.txt --dry-run", &content);
    assert!(would.text.contains("\nundone by it"), "{}", would.text);
    assert!(would.text.contains("\n  Bob made channel Den: open"), "{}", would.text);
    let done = cat.told("import two.txt", &content);
    assert_eq!(done.json["undone"][1], "Bob set invite-hours-max to 12");
    assert_eq!(cat.json("policy list")["invite-hours-max"], 48);
    assert!(!cat.does("channel list").contains("Den"));
}

/// A founder's words look like a member's. The wrong ones gave a signature that did not count.
#[test]
fn a_members_words_signed_for_the_organisation() {
    let (_world, [mut ann, ..]) = World::three();
    let proposed = ann.told("root propose --threshold 2 root.txt", &[]);
    let file = InputFile { path: "root.txt".to_owned(), content: draft(&proposed) };
    let random = SeededRandom::new(77);
    let (device, words) = (DeviceKey::generate(&random), DeviceKey::generate(&random));
    let mut charter = ann.charter.clone();
    let recovery = Recovery::of(charter.organisation(), words.id(), &device);
    let certificate = charter.issue(&ann.key, ann.member, device.id(), Some(recovery)).unwrap();
    charter.take(Piece::Certificate(certificate)).unwrap();
    let error = sign_with(&words, Some(&charter), &file).unwrap_err().to_string();
    assert!(error.starts_with("these are a member's words"), "{error}");
    let founders = RecoverySecret::generate(&skipped()).key();
    assert!(sign_with(&founders, Some(&charter), &file).is_ok());
}
