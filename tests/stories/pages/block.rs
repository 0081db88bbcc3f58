//! The fenced blocks of a page, and the comparison of what they show with what was printed.

/// The text between two fences.
#[derive(Debug)]
pub(super) struct Block {
    /// The line number of its first fence.
    pub(super) line: usize,
    /// The nearest heading above it.
    pub(super) heading: String,
    /// The first word after the fence.
    pub(super) language: String,
    /// Why it is not played, if it says so: ```` ```sh not-played: it needs root ````.
    pub(super) excuse: Option<String>,
    pub(super) text: String,
}

impl Block {
    /// Its commands, without empty lines and remarks that fill a line. Lines that continue after a
    /// backslash are joined.
    pub(super) fn commands(&self) -> Vec<String> {
        let whole = self.text.replace("\\\n", " ");
        let lines = whole.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    /// Checks that `shown`, with the replacements made, is what was printed.
    #[track_caller]
    pub(super) fn is_what_was_said(&self, shown: &str, said: &str) {
        let like = |(shown, said): (&str, &str)| {
            let (shown, said): (Vec<_>, Vec<_>) =
                (shown.split_whitespace().collect(), said.split_whitespace().collect());
            shown.len() == said.len()
                && shown.iter().zip(&said).all(|(one, other)| alike(one, other))
        };
        let (shown, said) = (shown.trim_matches('\n'), said.trim_matches('\n'));
        let same = shown.lines().count() == said.lines().count()
            && shown.lines().zip(said.lines()).all(like);
        assert!(same, "line {}: the page shows\n{shown}\nand what was said is\n{said}", self.line);
    }
}

/// Whether two words are the same. Words that differ from run to run count as the same: they
/// contain a digit or `…`, or underline such words.
fn alike(shown: &str, said: &str) -> bool {
    let is_line = |word: &str| word.chars().all(|it| it == '─');
    shown == said
        || is_line(shown) && is_line(said)
        || shown.contains(|it: char| it.is_ascii_digit() || it == '…')
}

/// All blocks of a page, in order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None);
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
                open = Some(Block {
                    line: number + 1,
                    heading: heading.clone(),
                    language: language.to_owned(),
                    excuse: rest.strip_prefix("not-played: ").map(str::to_owned),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => {
                heading = line.trim_start_matches('#').trim().to_owned();
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

#[test]
fn what_differs_from_run_to_run_is_not_held_against_a_page() {
    let page = "# One\n\n```text not-played: why\nx\n```\n## Two\n```sh\nrun \\\n    on\n# so\nback # so\n```\n";
    let found = blocks(page);
    let told: Vec<_> = found.iter().map(|it| (it.line, &*it.heading, &*it.language)).collect();
    assert_eq!(told, [(3, "One", "text"), (7, "Two", "sh")]);
    assert_eq!(found[0].excuse.as_deref(), Some("why"));
    assert_eq!(found[1].commands(), ["run      on", "back # so"]);
    assert!(alike("29", "31") && alike("12D3…", "12D3KooW") && !alike("Heron", "Wren"));
}
