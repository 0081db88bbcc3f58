//! What clap can say of the command line: completions for shells, and manual pages.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap_complete::Shell;

#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Write a page for each command into this folder, which is made if it is not there
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn completions(
    arguments: &CompletionsArguments,
    mut command: clap::Command,
) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "hark", &mut script);
    print(&script);
    Ok(())
}

pub(crate) fn man(arguments: &ManArguments, command: clap::Command) -> anyhow::Result<()> {
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        print(&page);
        return Ok(());
    };
    let context = || format!("{}: the manual pages cannot be written there", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    clap_mangen::generate_to(command, folder).with_context(context)
}

/// Whoever has stopped reading is not told.
fn print(text: &[u8]) {
    let _ = io::stdout().write_all(text);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Arguments;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = ManArguments { folder: Some(folder.path().join("man1")) };
        man(&wanted, Arguments::command()).expect("written");
        for page in ["hark.1", "hark-talk.1", "hark-ctl-status.1", "hark-charter-grant.1"] {
            let text = std::fs::read_to_string(folder.path().join("man1").join(page));
            assert!(text.expect(page).contains("SYNOPSIS"), "{page}");
        }
        std::fs::write(folder.path().join("file"), "").expect("written");
        let wanted = ManArguments { folder: Some(folder.path().join("file")) };
        let error = man(&wanted, Arguments::command()).expect_err("no folder");
        assert!(format!("{error:#}").contains("manual pages cannot be written"), "{error:#}");
    }
}
