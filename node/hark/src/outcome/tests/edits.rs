//! Channels, roles, rules, presets, relays and policies.

use hark_charter::content::{Capabilities, ChannelMode, Place};

use super::*;

fn paths(person: &mut Person) -> Vec<String> {
    let channels = person.json("channel list");
    channels.as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap().to_owned()).collect()
}

/// By the luck of its random id, a new channel could become the first. Members who have chosen no
/// channel would then find themselves in it.
#[test]
fn a_new_channel_comes_last() {
    let (_world, [_, mut bob, _]) = World::three();
    let names = ["Flight", "Ground", "Medics", "Escort", "Cargo", "Aft"];
    for name in names {
        bob.does(&format!("channel add {name}"));
    }
    let expected: Vec<_> = ["Bridge"].into_iter().chain(names).collect();
    assert_eq!(paths(&mut bob), expected);
    bob.does("channel add Front --order 0 --under Flight");
    bob.does("channel add Rear --under Flight");
    assert_eq!(paths(&mut bob)[1..4], ["Flight", "Flight/Front", "Flight/Rear"]);
}

#[test]
fn channels_are_made_edited_moved_linked_and_removed() {
    let (_world, [_, mut bob, _]) = World::three();
    assert_eq!(bob.does("channel add Flight"), "made channel Flight: open");
    let line = "channel add Alpha --under Flight --floor 1 --limit 8";
    assert_eq!(
        bob.would(line),
        "this would\n  make channel Flight/Alpha: one talks at a time, at most 8 devices"
    );
    assert_eq!(bob.does(line), "made channel Flight/Alpha: one talks at a time, at most 8 devices");
    assert_eq!(bob.cannot(line), "there is a channel Alpha already");
    bob.does("channel add Ground");
    bob.does("channel add Alpha --under Ground");
    assert_eq!(
        bob.cannot("channel edit Alpha --open"),
        "several channels are called \"Alpha\": Flight/Alpha or Ground/Alpha"
    );
    assert_eq!(
        bob.does("channel edit Flight/Alpha --open --limit 4 --name Anvil"),
        "changed channel Flight/Alpha: called Anvil, open, at most 4 devices"
    );
    assert_eq!(
        bob.does("channel edit Anvil --loudest 3"),
        "changed channel Flight/Anvil: relays pass on the 3 loudest, at most 4 devices"
    );
    assert_eq!(
        bob.does("channel edit Anvil --open --music 128"),
        "changed channel Flight/Anvil: open, music at 128 kbit/s, at most 4 devices"
    );
    assert_eq!(
        bob.does("channel edit Anvil --music 160 --stereo"),
        "changed channel Flight/Anvil: open, music in stereo at 160 kbit/s, at most 4 devices"
    );
    assert_eq!(
        bob.does("channel edit Anvil --speech"),
        "changed channel Flight/Anvil: open, at most 4 devices"
    );
    let answer = bob.told("channel edit Anvil --open", &[]);
    assert_eq!(
        (answer.text.as_str(), &answer.json["changed"]),
        ("nothing to change", &json!(false))
    );
    assert_eq!(
        bob.cannot("channel remove Anvli"),
        "there is no channel called \"Anvli\"; did you mean Flight/Anvil?"
    );
    assert_eq!(bob.does("channel move Anvil --top"), "moved channel Flight/Anvil to the top");
    assert_eq!(
        bob.cannot("channel move Ground --under Ground/Alpha"),
        "to move channel Ground below Ground/Alpha, this is not possible: the channel would lie below \
         itself; nobody could"
    );
    assert_eq!(bob.cannot("channel move Ground --under Ground"), "Ground cannot lie below itself");
    assert_eq!(bob.does("channel link Anvil Ground"), "linked Anvil with Ground".to_owned());
    assert_eq!(bob.does("channel link Ground Anvil"), "nothing to change");
    let list = bob.does("channel list");
    assert!(list.contains("Anvil: open, at most 4 devices, linked with Ground\n"), "{list}");
    assert!(list.contains("Ground: open, linked with Anvil\n  Alpha: open"), "{list}");
    assert!(bob.does("channel unlink Anvil Ground").starts_with("unlinked "));
    assert_eq!(
        bob.does("channel remove Ground"),
        "removed channel Ground and all below it, for good"
    );
    assert_eq!(paths(&mut bob), ["Anvil", "Bridge", "Flight"]);
    let state = bob.charter.state();
    let anvil = state.channels().find(|it| it.limit == 4).unwrap();
    assert_eq!(anvil.mode, ChannelMode::Open);
    assert_eq!(
        bob.cannot("channel add a/b").split(':').next(),
        Some("a channel cannot be called \"a/b\"")
    );
}

#[test]
fn who_may_not_is_told_what_is_missing_and_who_could() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    assert_eq!(
        cat.cannot("channel add Den"),
        "to make channel Den, you need the right manage-channels everywhere; Ann or Bob could"
    );
    assert_eq!(
        bob.cannot("role add admiral --rank 30"),
        "to define role admiral, you need a rank above 30; Ann could"
    );
    assert_eq!(
        bob.cannot("role add usher --rank 90 --can move"),
        "to define role usher, you must yourself have the rights that it gives: \
         move is missing; Ann could"
    );
    assert_eq!(
        bob.cannot("policy set invite-hours-max 48"),
        "to set invite-hours-max to 48, you need 1 root key; Ann could"
    );
    assert_eq!(
        cat.cannot("kick Bob"),
        "to end the membership of Bob, you need the right ban everywhere; Ann could"
    );
    assert_eq!(
        bob.cannot("kick Ann"),
        "to end the membership of Ann, you must stand above Ann, who stands above you (a root key); \
         no member could alone"
    );
    assert_eq!(
        cat.cannot("relay add Hub 12D3KooWNotADevice --address 192.0.2.1:7000"),
        "\"12D3KooWNotADevice\" is no device id: it begins with 12D3KooW"
    );
    ann.does("role edit member --can join,listen,speak,ban");
    assert_eq!(
        cat.cannot("kick Bob"),
        "to end the membership of Bob, you must stand above Bob, who stands above you (rank 30); \
         Ann could"
    );
    // A refused change has no effect at all.
    assert!(cat.cannot("mute Bob").contains("the right mute everywhere"));
}

#[test]
fn roles_are_defined_given_taken_and_removed() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    bob.does("channel add Flight");
    assert_eq!(
        bob.does("role add pilot --rank 120 --can priority"),
        "defined role pilot: rank 120, may priority\n\
         it adds priority: by the role member everybody may join, listen, speak, whisper, admit \
         anyway\n\
         its rank alone lets nobody mute, kick or ban: that takes the rights mute and ban"
    );
    assert_eq!(bob.cannot("role add pilot --rank 121"), "there is a role pilot already");
    assert_eq!(
        bob.would("grant pilot Cat --at Flight"),
        "this would\n  give Cat the role pilot in Flight"
    );
    assert_eq!(
        bob.does("grant pilot Cat Bob --at Flight"),
        "gave Bob and Cat the role pilot in Flight"
    );
    assert_eq!(
        bob.does("grant pilot Cat --at Flight"),
        "nothing to change\nCat has the role pilot in Flight already"
    );
    let list = bob.does("role list");
    assert!(
        list.contains("pilot: rank 120, may priority; held by Bob in Flight and Cat in Flight"),
        "{list}"
    );
    assert_eq!(bob.does("revoke pilot Bob --at Flight"), "took the role pilot in Flight from Bob");
    assert_eq!(
        bob.does("role edit pilot --name flyer --can priority,whisper"),
        "changed role pilot, now called flyer: rank 120, may priority, whisper\n\
         it adds priority: by the role member everybody may join, listen, speak, whisper, admit \
         anyway"
    );
    assert_eq!(bob.cannot("grant pilt Cat"), "there is no role called \"pilt\"");
    assert_eq!(
        bob.cannot("grant flier Cat"),
        "there is no role called \"flier\"; did you mean flyer?"
    );
    assert_eq!(bob.does("role remove flyer"), "removed role flyer for good");
    assert_eq!(bob.cannot("role remove member"), "everybody has this role: it stays");
    assert_eq!(
        cat.cannot("grant officer Cat").split(", you ").nth(1),
        Some("need the right manage-roles everywhere; Ann could")
    );
    // A member who loses a role that administers is cut: only operations known until then count.
    ann.does("revoke officer Bob");
    assert_eq!(ann.charter.state().term(bob.member), 1);
    assert!(bob.cannot("channel add Den").contains("manage-channels"));
}

#[test]
fn rules_add_up_until_they_are_cleared() {
    let (_world, [_, mut bob, cat]) = World::three();
    bob.does("channel add Flight");
    let at = Place::Channel(
        bob.charter
            .state()
            .channels()
            .find(|it| it.name == ChannelName::Listed("Flight".into()))
            .unwrap()
            .id,
    );
    let may = |bob: &Person, right| bob.charter.allows(cat.member, right, at);
    assert_eq!(
        bob.does("rule everyone --at Flight --deny speak"),
        "set the rule for everyone in Flight: denies speak"
    );
    assert!(!may(&bob, Capabilities::SPEAK));
    assert_eq!(
        bob.does("rule everyone --at Flight --allow priority"),
        "set the rule for everyone in Flight: allows priority; denies speak"
    );
    assert_eq!(bob.does("rule everyone --at Flight --deny speak"), "nothing to change");
    assert_eq!(
        bob.does("rule everyone --at Flight --allow speak --unset priority"),
        "set the rule for everyone in Flight: allows speak"
    );
    assert_eq!(
        bob.does("rule Cat --at Flight --deny speak,listen"),
        "set the rule for Cat in Flight: denies listen, speak"
    );
    assert!(!may(&bob, Capabilities::LISTEN));
    bob.does("rule role:officer --at Flight --allow priority");
    assert_eq!(bob.does("rule Cat --at Flight --clear"), "removed the rule for Cat in Flight");
    assert!(may(&bob, Capabilities::LISTEN | Capabilities::SPEAK));
    assert_eq!(
        bob.cannot("rule Cat --allow speak --deny speak"),
        "a rule cannot both allow and deny speak"
    );
    assert!(bob.cannot("rule role:piolt --deny speak").contains("no role called \"piolt\""));
}

#[test]
fn a_muted_member_cannot_talk_until_unmuted_and_keeps_other_rules() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let may = |ann: &Person, cat: &Person| {
        ann.charter.allows(cat.member, Capabilities::SPEAK, Place::Organisation)
    };
    ann.does("role add usher --rank 200 --can mute");
    ann.does("grant usher Bob");
    ann.does("revoke officer Bob");
    assert_eq!(bob.does("mute Cat"), "muted Cat everywhere until it is lifted");
    assert!(!may(&bob, &cat));
    let lift = "Cat is not muted in Bridge: nothing to change; Cat is muted everywhere";
    assert_eq!(bob.does("unmute Cat --at Bridge"), lift);
    assert_eq!(bob.does("unmute Cat"), "unmuted Cat everywhere");
    assert!(may(&bob, &cat));
    assert_eq!(bob.does("unmute Cat"), "Cat is not muted everywhere: nothing to change");
    assert!(cat.cannot("mute Bob").contains("you need the right"));
    assert_eq!(bob.cannot("mute Bob"), "nobody can mute themselves");
    ann.does("rule Cat --deny listen --allow priority");
    ann.does("mute Cat");
    ann.does("unmute Cat");
    let rules = ann.json("show")["rules"].clone();
    assert_eq!(rules[0]["allow"], json!(["priority"]));
    assert_eq!(rules[0]["deny"], json!(["listen"]));
}

/// A rule of a channel let a member talk on who was muted everywhere, and a superior was reported
/// as muted.
#[test]
fn a_mute_was_said_and_did_not_hold() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    ann.does("rule everyone --at Bridge --allow speak");
    ann.does("rule Cat --at Bridge --allow speak");
    bob.does("mute Cat");
    let why = cat.does("why me speak Bridge");
    assert!(
        why.starts_with(
            "Cat may not speak in Bridge: muted everywhere until it is lifted\n  set by Bob"
        ),
        "{why}"
    );
    assert!(
        cat.does("show").contains("\nmutes and bans\n  Cat: muted everywhere until it is lifted")
    );
    assert_eq!(
        bob.cannot("mute Ann"),
        "to mute Ann everywhere until it is lifted, you must stand above Ann, who stands above you (a \
         root key); no member could alone"
    );
    ann.does("mute Bob");
    ann.does("grant officer Cat");
    assert_eq!(
        cat.cannot("unmute Bob"),
        "to unmute Bob everywhere, you must not stand below whoever set it; Ann could"
    );
}

/// An officer who muted a member for a while had to remember to lift the mute.
#[test]
fn a_mute_for_ten_minutes_ended_by_hand_alone() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    ann.does("role edit officer --can join,listen,speak,mute,move,admit,ban");
    let muted = bob.told("mute Cat --for 10m", &[]);
    assert_eq!(muted.text, "muted Cat everywhere until 2026-11-22 21:50:05 UTC");
    assert_eq!(muted.json["until"], 1_795_384_205);
    assert_eq!(
        bob.does("ban Cat --at Bridge --for 1h"),
        "banned Cat in Bridge until 2026-11-22 22:40:05 UTC"
    );
    assert!(
        cat.does("why Cat listen Bridge").starts_with("Cat may not listen in Bridge: banned in")
    );
    let wait =
        |cat: &Person, seconds| cat.shared().now = NOW + std::time::Duration::from_secs(seconds);
    wait(&cat, 599);
    assert!(cat.does("why Cat speak everywhere").contains("Cat may not speak everywhere: muted"));
    wait(&cat, 600);
    assert!(
        cat.does("why Cat speak everywhere").starts_with("Cat may speak everywhere: everybody")
    );
    assert!(cat.does("why Cat speak Bridge").starts_with("Cat may not speak in Bridge: banned"));
    wait(&cat, 3_600);
    assert!(cat.does("why Cat speak Bridge").starts_with("Cat may speak in Bridge"));
    assert_eq!(cat.json("verify")["holds"], true);
}

/// A role made by hand with a better rank could kick, ban and unban: the right to admit, which
/// every member has, was enough.
#[test]
fn a_better_rank_was_enough_to_ban() {
    let (mut world, [mut ann, mut bob, mut cat]) = World::three();
    ann.does("role add lead --rank 60 --can speak,mute");
    ann.does("grant lead Cat");
    world.join("Dan");
    for line in ["kick Dan", "ban Dan", "ban Dan --for 1h"] {
        assert!(cat.cannot(line).contains("you need the right ban everywhere"), "{line}");
    }
    bob.does("ban Dan");
    assert!(cat.cannot("unban Dan").contains("you need the right ban everywhere"));
    assert_eq!(
        ann.does("role edit lead --can speak,mute,ban"),
        "changed role lead: rank 60, may speak, mute, ban\n\
         it adds mute, ban: by the role member everybody may join, listen, speak, whisper, admit \
         anyway"
    );
    // The officer who set the ban has a higher rank.
    assert!(cat.cannot("unban Dan").contains("you must not stand below whoever set it"));
}

/// `role add` did not say that a rank alone gives no right to moderate.
#[test]
fn a_role_said_nothing_of_what_it_cannot_do() {
    let (_world, [mut ann, ..]) = World::three();
    let told = ann.does("role add lead --rank 60 --can speak,mute");
    assert!(told.ends_with("nobody kick or ban: that takes the right ban"), "{told}");
    let told = ann.does("role add guard --rank 50 --can mute,ban");
    assert!(!told.contains("its rank"), "{told}");
}

/// An officer left `speak` out of a role and believed that its holders were silenced, although
/// everybody may speak.
#[test]
fn a_role_without_speak_seemed_to_silence_its_holders() {
    let (_world, [mut ann, ..]) = World::three();
    let adds = |told: String| told.lines().nth(1).map(str::to_owned).expect("a second line");
    let anyway = "by the role member everybody may join, listen, speak, whisper, admit anyway";
    assert_eq!(
        adds(ann.does("role add guest --rank 200 --can join,listen")),
        format!("it adds no right: {anyway}")
    );
    let told = adds(ann.does("role edit guest --can join,listen,mute"));
    assert_eq!(told, format!("it adds mute: {anyway}"));
    assert!(!ann.does("role edit guest --rank 201").contains("it adds"));
    ann.does("role edit member --can none");
    let told = adds(ann.does("role edit guest --can join"));
    assert_eq!(told, "it adds join: by the role member nobody may anything");
}

/// `kick` and `unban` mentioned a new ticket, although earlier tickets let the member in again as
/// well.
#[test]
fn tickets_of_before_were_said_to_be_no_good() {
    let (_world, [mut ann, ..]) = World::three();
    let any = "any ticket that is still good lets them in again: `hark ticket revoke` ends those of \
               before";
    assert_eq!(
        ann.does("kick Cat"),
        format!("ended the membership of Cat\n{any}, `hark charter ban` keeps them out")
    );
    ann.does("ban Bob");
    assert!(ann.does("unban Bob").ends_with(&format!(" everywhere\n{any}")));
}

/// A rank out of range was answered by the range alone: `300 is not in 1..=250`.
#[test]
fn a_wrong_rank_was_not_told_what_a_rank_is() {
    for rank in ["300", "0", "-1", "high"] {
        let line = ["charter", "role", "add", "new", "--rank", rank];
        let error = Line::try_parse_from(line).err().expect("no rank").to_string();
        assert!(error.contains(rank), "{error}");
        let what = "a rank is a number from 1, the highest, to 250, the lowest";
        assert!(rank == "-1" || error.contains(what), "{error}");
    }
}

/// There was no ban: a member who was kicked came back with the next ticket.
#[test]
fn nobody_could_be_banned() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    assert_eq!(
        bob.cannot("ban Ann").split("; ").next(),
        Some(
            "to ban Ann everywhere until it is lifted, you must stand above Ann, who stands above you (a root key)"
        )
    );
    assert!(cat.cannot("ban Bob").contains("you need the right ban everywhere"));
    assert_eq!(
        bob.does("ban Cat"),
        "banned Cat everywhere until it is lifted\nended the membership of Cat"
    );
    ann.does("show");
    assert!(ann.charter.is_kept_out(cat.key.id()) && !ann.charter.is_member(cat.member));
    let shown = ann.does("show");
    assert!(shown.contains("mutes and bans\n  Cat#"), "{shown}");
    assert!(ann.cannot("unban Cta").contains("no banned member called \"Cta\"; did you mean"));
    // A banned member was treated as a name that never existed.
    let again = bob.cannot("kick Cat");
    assert!(again.ends_with(" is no member any more: banned until it is lifted"), "{again}");
    assert!(ann.does("unban Cat").starts_with("unbanned Cat#"));
    assert!(!ann.charter.is_kept_out(cat.key.id()));
    assert!(!ann.charter.is_member(cat.member), "a new ticket lets her in");
}

#[test]
fn relays_and_policies_are_set() {
    let (_world, [mut ann, _, mut cat]) = World::three();
    let device = DeviceKey::from_secret(&[9; 32]).id();
    let line = format!(
        "relay add Hub {device} --address 192.0.2.1:7000 --address [2001:db8::1]:7000 --kbps 9000"
    );
    let words = format!(
        "relay Hub ({}) at 192.0.2.1:7000, [2001:db8::1]:7000, at most 9000 kbit/s",
        device.short()
    );
    assert!(cat.cannot(&line).contains("the right appoint-relays everywhere; Ann could"));
    assert_eq!(ann.would(&line), format!("this would\n  name {words}"));
    assert_eq!(ann.does(&line), format!("named {words}"));
    assert_eq!(ann.does(&line), "nothing to change");
    assert_eq!(ann.json("relay list")[0]["kbps"], 9000);
    assert_eq!(ann.does("relay remove Hub"), "dropped relay Hub");
    assert_eq!(ann.does("relay list"), "no relays");
    assert!(ann.cannot("relay remove Hub").starts_with("there is no relay called"));

    assert_eq!(ann.does("policy set invite-hours-max 48"), "set invite-hours-max to 48");
    assert_eq!(ann.json("policy list")["invite-hours-max"], 48);
    assert!(ann.cannot("policy set invite-hour-max 3").contains("did you mean invite-hours-max?"));
}

#[test]
fn hidden_channels_are_nowhere_for_those_who_may_not_join() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    ann.does("role edit member --can listen,speak,whisper");
    let id = bob.json("channel add Vault --hidden")["channel"].as_str().unwrap().to_owned();
    ann.does("revoke founder Ann");
    bob.does("channel add Cellar --under Vault");
    bob.does("channel link Vault Bridge");
    bob.does("rule everyone --at Vault --deny whisper");
    bob.does("grant officer Cat --at Vault --dry-run --draft draft");
    ann.does("role add keeper --rank 100");
    ann.does("grant keeper Cat --at Cellar");
    ann.does("revoke keeper Cat --at Cellar");
    assert!(bob.does("show").contains("Vault: open, hidden, linked with Bridge\n    Cellar: open"));
    assert!(bob.does("log").contains("made channel Vault: open, hidden"));
    assert!(bob.does("channel edit Vault --floor 1").contains("one talks at a time, hidden"));
    // The founder stands above all members, and manages channels whose names it cannot read.
    let seen = ann.does("channel list");
    assert!(seen.contains('#') && !seen.contains("Vault"), "{seen}");
    for line in ["show", "log", "channel list", "role list", "why Cat speak Bridge"] {
        let answer = cat.told(line, &[]);
        let all = format!("{}{}", answer.text, answer.json);
        for secret in ["Vault", "Cellar", &id, &id[..6], "hidden\":true"] {
            assert!(!all.contains(secret), "{line}: {secret}: {all}");
        }
    }
    assert_eq!(cat.cannot("why Cat join Vault"), "there is no channel called \"Vault\"");
    assert_eq!(
        cat.cannot(&format!("channel remove #{}", &id[..6])).split(" called").next(),
        Some("there is no channel")
    );
    assert_eq!(cat.cannot("why Cat join Valut"), "there is no channel called \"Valut\"");
    let file = "name = \"raid\"\n[[channel]]\nname = \"Burrow\"\nhidden = true\n[[rule]]\n\
                at = \"Burrow\"\nfor = \"everyone\"\ndeny = [\"whisper\"]\n[[layout]]\n\
                for = \"role:keeper\"\nkeys = [[\"Burrow\"]]\n[[layout.net]]\nchannel = \"Burrow\"\n";
    let seen = bob.told("preset add raid.toml", file.as_bytes()).text;
    assert_eq!(seen, "added preset raid: 1 channel, 1 rule, 0 grants and 1 layout");
    for _ in ["not loaded", "loaded"] {
        let seen = cat.does("preset show raid");
        assert_eq!(seen, "raid: 0 channels, 0 rules, 0 grants and 1 layout");
        assert!(!cat.does("show").contains("Burrow"));
        bob.does("preset load raid");
        assert!(bob.does("preset show raid").contains("  channel Burrow: open, hidden"));
    }
    // The channel is listed for all, then hidden again under another name.
    bob.does("channel edit Vault --listed");
    assert!(cat.does("channel list").contains("Vault"));
    bob.does("channel edit Vault --hidden --name Crypt");
    let log = cat.does("log");
    assert!(!log.contains("Vault") && !log.contains("Crypt"), "{log}");
    assert!(bob.does("channel list").contains("Crypt: one talks at a time, hidden"));
}

#[test]
fn presets_are_added_shown_loaded_unloaded_and_removed() {
    let (_world, [mut ann, mut bob, mut cat]) = World::three();
    let file = "name = \"raid\"\n[[channel]]\nname = \"Raid\"\nfloor = 1\n[[rule]]\nat = \"Raid\"\n\
                for = \"everyone\"\ndeny = [\"whisper\"]\n[[grant]]\nrole = \"usher\"\nat = \"Raid\"\nto = [\"Cat\"]\n\
                [[layout]]\nfor = \"role:usher\"\nkeys = [[\"Raid\"], [\"Bridge\", \"Raid\"]]\n\
                [[layout.net]]\nchannel = \"Raid\"\npriority = 2\npan = -20\nvolume = 80\n";
    ann.does("role add usher --rank 200 --can mute");
    assert!(
        cat.refused("preset add raid.toml", file.as_bytes())
            .contains("edit-presets everywhere; Ann or Bob could")
    );
    let added = "preset raid: 1 channel, 1 rule, 1 grant and 1 layout";
    assert_eq!(
        bob.told("preset add raid.toml --dry-run", file.as_bytes()).text,
        format!("this would\n  add {added}")
    );
    assert_eq!(bob.told("preset add raid.toml", file.as_bytes()).text, format!("added {added}"));
    assert_eq!(bob.told("preset add raid.toml", file.as_bytes()).text, "nothing to change");
    let shown = cat.does("preset show raid");
    for part in [
        "  channel Raid: one talks at a time",
        "  everyone in Raid: denies whisper",
        "  Cat: usher in Raid",
        "  role usher hears Raid: priority 2, pan -20, volume 80 %",
        "  role usher talks with key 2 to Bridge and Raid",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(paths(&mut bob), ["Bridge"]);
    assert_eq!(bob.would("preset load raid"), "this would\n  load preset raid");
    assert_eq!(bob.does("preset load raid"), "loaded preset raid");
    assert_eq!(bob.does("preset load raid"), "nothing to change\nraid is loaded already");
    assert!(bob.does("channel list").contains("Raid: one talks at a time, from preset raid"));
    assert!(bob.does("show").contains("raid: 1 channel, 1 rule, 1 grant and 1 layout, loaded"));
    let why = bob.does("why Cat mute Raid");
    assert!(why.starts_with("Cat may mute in Raid: the role usher, held in Raid, has it"), "{why}");
    let why = bob.does("why Cat whisper Raid");
    assert!(
        why.starts_with(
            "Cat may not whisper in Raid: the rule for everyone in Raid denies it, from preset raid"
        ),
        "{why}"
    );
    // The same preset with another floor keeps its ids, and has to be loaded again.
    let before = bob.json("preset show raid")["channels"][0]["id"].clone();
    let edited = file.replace("floor = 1", "floor = 2");
    assert_eq!(
        bob.told("preset add raid.toml", edited.as_bytes()).text,
        format!("changed {added}\nraid is loaded as it was: load raid again")
    );
    assert_eq!(bob.json("preset show raid")["channels"][0]["id"], before);
    assert!(bob.does("preset list").contains("loaded as it was before it was changed"));
    bob.does("preset load raid");
    assert!(bob.does("channel list").contains("Raid: 2 talk at a time"));
    assert_eq!(bob.does("preset unload raid"), "unloaded preset raid");
    assert_eq!(bob.does("preset unload raid"), "nothing to change\nraid is not loaded");
    assert_eq!(paths(&mut bob), ["Bridge"]);
    assert_eq!(bob.does("preset remove raid"), "removed preset raid for good");
    assert_eq!(bob.does("preset list"), "no presets");
}
