//! Plays the pages for people: the commands that they show are run, and the answers that they show
//! are compared with the real ones. A block that cannot be played here says why after its fence.

mod api;
mod block;
mod manual;
mod officers;
mod readme;
mod relay;
mod stage;

use std::{collections::BTreeSet, fs};

use self::block::{Block, blocks};

/// The root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Makes one test of each part of a page, and a list of all.
macro_rules! plays {
    ($($name:ident: $page:literal, $heading:literal, $play:path;)*) => {
        $(#[test]
        fn $name() {
            let page = fs::read_to_string(format!("{ROOT}/{}", $page)).expect("the page");
            let blocks = blocks(&page).into_iter();
            let to_play = blocks.filter(|it| it.heading == $heading && it.excuse.is_none());
            let blocks: Vec<Block> = to_play.collect();
            let count = blocks.len();
            let Ok(blocks) = blocks.try_into() else {
                panic!("{}, {}: {count} blocks, and not as many as are played", $page, $heading);
            };
            $play(blocks);
        })*

        const PLAYED: &[(&str, &str)] = &[$(($page, $heading)),*];
    };
}

plays! {
    the_demo_is_as_the_readme_shows_it: "README.md", "Hark", readme::demo;
    talking_with_friends_is_as_the_readme_says: "README.md", "Talk with friends", readme::friends;
    an_organisation_is_run_as_the_readme_says: "README.md", "Run an organisation", readme::organisation;
    other_machines_come_in_as_the_manual_says: "docs/manual.md", "Your other machines", manual::machines;
    many_nets_are_heard_as_the_manual_says: "docs/manual.md", "Many nets at once", manual::nets;
    own_sound_is_set_as_the_manual_says: "docs/manual.md", "Your own sound", manual::sound;
    several_organisations_are_heard_as_the_manual_says: "docs/manual.md", "Several organisations at once", manual::organisations;
    scripts_work_as_the_manual_says: "docs/manual.md", "Scripts", manual::scripts;
    a_relay_starts_as_the_manual_says: "docs/manual.md", "Relays", manual::relay;
    a_network_is_replayed_as_the_readme_says: "README.md", "Replay a network", readme::replay;
    an_evening_goes_as_the_page_for_officers_says: "docs/officers.md", "An evening", officers::evening;
    what_goes_wrong_is_mended_as_the_page_for_officers_says: "docs/officers.md", "When something goes wrong", officers::trouble;
    reasons_are_told_as_the_page_for_officers_shows: "docs/officers.md", "Why?", officers::why;
    a_relay_runs_as_its_page_says: "docs/relay.md", "From an empty server to a running relay", relay::server;
    a_node_is_where_the_page_of_the_api_says: "docs/api.md", "Where it is", api::place;
    programs_come_in_as_the_page_of_the_api_says: "docs/api.md", "Coming in", api::door;
    a_lamp_is_told_what_the_page_of_the_api_shows: "docs/api.md", "Events", api::events;
    errors_are_as_the_page_of_the_api_shows: "docs/api.md", "Errors of commands", api::errors;
}

/// A regression: a page showed commands that nobody had ever run. On pages that are played, this is
/// checked for all blocks; drawings and tables on the other pages are not commands.
#[test]
fn every_block_is_played_or_says_why_not() {
    let mut missing = Vec::new();
    let played: BTreeSet<_> = PLAYED.iter().map(|(page, _)| (*page).to_owned()).collect();
    for page in pages() {
        let text = fs::read_to_string(format!("{ROOT}/{page}")).expect("the page");
        for block in blocks(&text) {
            let told = block.excuse.as_ref().is_some_and(|excuse| excuse.len() > 5);
            let is_played = PLAYED.contains(&(&page, &block.heading));
            if !told && !is_played && (played.contains(&page) || block.language == "sh") {
                missing.push(format!("{page}:{}: neither played nor with a reason", block.line));
            }
            if block.language == "sh" {
                missing.extend(
                    absent(&block.text).iter().map(|it| format!("{page}:{}: {it}", block.line)),
                );
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    let parts: BTreeSet<_> = PLAYED.iter().collect();
    assert_eq!(parts.len(), PLAYED.len(), "each part of a page is played once");
}

/// The pages of this repository for people.
fn pages() -> Vec<String> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(format!("{ROOT}/{folder}")).expect("a folder").flatten();
        let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
        let pages = names.filter(|name| name.ends_with(".md"));
        pages.map(|name| format!("{folder}{name}")).collect::<Vec<_>>()
    };
    [in_folder(""), in_folder("docs/")].concat()
}

/// The files and packages of this repository that a block names but that do not exist.
fn absent(text: &str) -> Vec<String> {
    let is_there = |path: &str| fs::exists(format!("{ROOT}/{path}")).unwrap_or(false);
    let ours = |word: &&str| ["relay/", "ci/", "examples/"].iter().any(|it| word.starts_with(it));
    let files = text.split_whitespace().filter(ours).filter(|path| !is_there(path));
    let mut absent: Vec<String> = files.map(str::to_owned).collect();
    for line in text.lines().filter(|line| line.starts_with("cargo ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let named = words.windows(2).filter(|pair| ["-p", "--bench", "--bin"].contains(&pair[0]));
        absent.extend(named.map(|pair| pair[1]).filter(|name| !is_built(name)).map(str::to_owned));
    }
    absent
}

/// Whether a package, a program or a benchmark has this name.
fn is_built(name: &str) -> bool {
    let folders = ["keys", "mesh", "node", "node/hark", "relay", "simulator", "tests", "examples"];
    folders.iter().any(|folder| {
        let manifest = fs::read_to_string(format!("{ROOT}/{folder}/Cargo.toml"));
        manifest.is_ok_and(|text| text.contains(&format!("name = \"{name}\"")))
    })
}
