//! Checks the command lines on the pages of this repository against the arguments of a program.
//! Each program includes this file in its tests, since only the program knows its arguments.

#[path = "words.rs"]
mod words;

use std::{fs, path::Path};

use clap::error::ErrorKind;
use words::words;

/// The command lines of `program`, in any Markdown file below `root`, that it would not accept,
/// with their places. Panics if there are fewer than `least` lines, since the pages were then not
/// found.
pub(crate) fn untrue(program: &clap::Command, root: &Path, least: usize) -> Vec<String> {
    let mut pages = Vec::new();
    find_pages(root, &mut pages);
    let mut found = 0;
    let mut wrong = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page is text");
        for (line, command) in command_lines(&text, program.get_name()) {
            if is_label(&page, program, &command) {
                continue;
            }
            found += 1;
            if let Some(error) = refusal(program, &command) {
                wrong.push(format!("{}:{line}: {command}: {error}", page.display()));
            }
        }
    }
    assert!(found >= least, "{found} command lines of {}", program.get_name());
    wrong
}

fn find_pages(folder: &Path, pages: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            find_pages(&path, pages);
        } else if path.extension().is_some_and(|it| it == "md") {
            pages.push(path);
        }
    }
}

/// The command lines of a program, in blocks and between backquotes, with their line numbers.
fn command_lines(page: &str, program: &str) -> Vec<(usize, String)> {
    let mut commands = Vec::new();
    let mut in_block = false;
    let mut lines = page.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        // The page shows that this command is refused.
        if lines.peek().is_some_and(|(_, answer)| answer.starts_with("{\"code\":\"usage\"")) {
            continue;
        }
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let parts: Vec<&str> = match in_block {
            true => vec![line.trim().trim_start_matches("$ ")],
            false => line.split('`').skip(1).step_by(2).collect(),
        };
        for part in parts {
            let part = part.strip_prefix("target/release/").unwrap_or(part);
            let part = match (part.strip_prefix("./run ui"), part.strip_prefix("./run ")) {
                (Some(rest), _) => format!("hark-ui{rest}"),
                (None, Some(rest)) => format!("hark {rest}"),
                (None, None) => part.to_owned(),
            };
            let rest = part.strip_prefix(program);
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
                commands.push((number + 1, part));
            }
        }
    }
    commands
}

/// Whether the line is a label of keys or hashes in a specification. Labels begin with the
/// program's name too, but are not commands.
fn is_label(page: &Path, program: &clap::Command, line: &str) -> bool {
    let specification = ["protocol.md", "noise.md", "charter.md"].map(|it| page.ends_with(it));
    let command = line.split_whitespace().nth(1).unwrap_or_default();
    specification.contains(&true)
        && (program.find_subcommand(command).is_none() || line == "hark charter 1")
}

/// Why the program would not accept this line. A part that is left out, as in the middle of a
/// sentence, is not a reason.
fn refusal(program: &clap::Command, line: &str) -> Option<String> {
    let line = line.split(" #").next().unwrap_or(line);
    let line = line.split(" > ").next().unwrap_or(line);
    // Remarks follow after several spaces.
    let line = line.split("    ").next().unwrap_or(line);
    let words: Vec<String> = words(line).into_iter().filter_map(|it| plausible(&it)).collect();
    let error = program.clone().try_get_matches_from(&words).err()?;
    match error.kind() {
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::ArgumentConflict
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => None,
        _ if error.to_string().contains("but none was supplied") => None,
        _ => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// A possible value for this word. Brackets mark an optional part, `|` a choice, and capitals a
/// value to be filled in.
fn plausible(word: &str) -> Option<String> {
    let word = word.trim_start_matches('[').trim_end_matches([']', ',']);
    let word = word.split('|').next().unwrap_or(word);
    let filled = match word {
        "" | "…" | "&" | "COMMAND" | "options" => return None,
        "ADDR:PORT" => "127.0.0.1:1",
        "DURATION" => "1h",
        "N" => "9",
        "SPEC" => "silence",
        "MODE" => "ptt",
        "SHELL" => "bash",
        "RIGHT" => "speak",
        "DEVICE" => "12D3KooWGRUdmSbFXcsMBHhBFhSkvkEbNQTSvSTHVDqBXcVYsQrA",
        "IP:PORT" => "127.0.0.1:1",
        other => other,
    };
    Some(filled.to_owned())
}
