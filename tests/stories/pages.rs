//! Pages for people, played command by command.

use hark_tests::Scene;

/// Each command of docs/officers.md, in its order, by the founder of the organisation that the page names.
#[test]
fn what_the_page_for_officers_says_is_done() {
    let scene = Scene::default();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let page = std::fs::read_to_string(format!("{root}/docs/officers.md")).expect("the page");
    // The people of the page were to be made by whoever read it, who was not told how.
    let start = page.split("```bash\n").nth(1).and_then(|rest| rest.split("```").next());
    let start = start.expect("how to make the people").replace("/tmp/watch", &scene.folder());
    // Whatever becomes of the test, it ends.
    let start = start.replace("hark talk", "hark talk --for 3m --no-port-mapping");
    scene.shell(&start, root).success();
    let device = |name: &str| {
        let ticket = scene.run("sable", &["device", "invite", "--json"]);
        let ticket: serde_json::Value = serde_json::from_str(ticket.success()).expect("JSON");
        let ticket = ticket["ticket"].as_str().expect("a ticket").to_owned();
        scene.run(name, &["join", &ticket]).success();
        let id = scene.run(name, &["id", "--json"]);
        let id: serde_json::Value = serde_json::from_str(id.success()).expect("JSON");
        id["device"].as_str().expect("an id").to_owned()
    };
    let (lost, further) = (device("lost"), device("further"));

    let mut played = 0;
    for line in commands(&page) {
        let stand_in = if line.contains("root propose") { &further } else { &lost };
        let words = words(line).into_iter().map(|word| match word.as_str() {
            "DEVICE" => stand_in.clone(),
            draft if draft.ends_with(".txt") => scene.path(draft).display().to_string(),
            plan if plan.starts_with("examples/") => format!("{root}/{plan}"),
            _ => word,
        });
        let words: Vec<_> = words.collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert_eq!(words[0], "hark", "{line}");
        let outcome = scene.run("sable", &words[1..]);
        assert_eq!(outcome.status, Some(0), "{line}: {outcome:?}");
        played += 1;
    }
    assert!(played > 20, "{played} commands");
    scene.run("sable", &["ctl", "quit"]).success();
}

/// Each command of the README by which an organisation is run and many nets are heard, in its order.
#[test]
fn what_the_readme_says_of_an_organisation_is_done() {
    let scene = Scene::default();
    scene.found("Sable", "Meridian Watch");
    let sable = scene.talk("Sable").transmit("ptt").start();
    let heron = scene.talk("Heron").ticket(&sable.ticket()).start();
    sable.is_among(&[&heron]);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let page = std::fs::read_to_string(format!("{root}/README.md")).expect("the page");
    let mut played = 0;
    for line in commands(&page) {
        let is_ours = line.starts_with("hark charter") || line.starts_with("hark ctl ");
        // Heron is needed for what comes after; the other page has it kicked.
        if !is_ours || line.starts_with("hark ctl --org") || line.contains("kick") {
            continue;
        }
        // Who has these keys, and who is there to be moved.
        for (before, role, name) in
            [("preset load", "flight lead", "Sable"), ("move", "officer", "Heron")]
        {
            if line.contains(before) {
                scene.run("Sable", &["charter", "grant", role, name]).success();
            }
        }
        if line.ends_with("down 2") {
            scene.run("Sable", &["charter", "preset", "load", "patrol"]).success();
        }
        if line.contains("move") {
            let hears = |net: &str| heron.try_ctl(&["listen", net]).status == Some(0);
            assert!(hears("Flight"));
        }
        let words = words(line).into_iter().map(|word| match word.as_str() {
            plan if plan.starts_with("examples/") => format!("{root}/{plan}"),
            _ => word,
        });
        let words: Vec<_> = words.collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let outcome = scene.run("Sable", &words[1..]);
        assert_eq!(outcome.status, Some(0), "{line}: {outcome:?}");
        played += 1;
    }
    assert!(played > 15, "{played} commands");
}

/// The lines of all blocks of shell commands, comments left out.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    let lines = shell.flat_map(str::lines);
    lines.map(|line| line.split(" #").next().unwrap_or(line).trim()).filter(|line| !line.is_empty())
}

/// The words of a command; quotation marks hold some together.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}
