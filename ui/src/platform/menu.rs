//! The menu entry, the icon and the handler of hark: links, as the specifications of
//! freedesktop.org want them.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::APP_ID;

/// The places of an account where a desktop looks for programs.
pub(super) struct Menu {
    /// What `XDG_DATA_HOME` names.
    data: PathBuf,
    /// What `XDG_CONFIG_HOME` names.
    config: PathBuf,
    /// The program that makes an entry the handler of a kind of link.
    xdg_mime: PathBuf,
}

impl Menu {
    pub(super) fn of_this_account() -> anyhow::Result<Self> {
        let folder = |variable: &str, usual: &str| {
            let named = env::var_os(variable).map(PathBuf::from);
            // The specification has relative paths ignored.
            let named = named.filter(|path| path.is_absolute());
            named.or_else(|| Some(env::home_dir()?.join(usual)))
        };
        let homeless = "this account has no home directory: set XDG_DATA_HOME and XDG_CONFIG_HOME";
        Ok(Self {
            data: folder("XDG_DATA_HOME", ".local/share").context(homeless)?,
            config: folder("XDG_CONFIG_HOME", ".config").context(homeless)?,
            xdg_mime: "xdg-mime".into(),
        })
    }

    /// Adds the entry that starts `program`, and says what was done.
    pub(super) fn add(&self, program: &Path) -> anyhow::Result<String> {
        let text = entry(program)?;
        write(&self.icon(), ICON)?;
        write(&self.entry(), &text)?;
        let links = match self.handle_links() {
            Ok(()) => "hark: links open it.".to_owned(),
            Err(why) => format!("hark: links do not open it by themselves: {why}."),
        };
        let (entry, program) = (self.entry(), program.display());
        Ok(format!("{} starts {program}.\n{links}", entry.display()))
    }

    /// Removes what `add` has written, and says what was done.
    pub(super) fn remove(&self) -> anyhow::Result<String> {
        let had_entry = remove(&self.entry())?;
        let had_icon = remove(&self.icon())?;
        let had_links = self.forget_links()?;
        Ok(match had_entry || had_icon || had_links {
            true => {
                format!("{} is gone, and Hark opens hark: links no more.", self.entry().display())
            }
            false => "Hark was not in the menu.".to_owned(),
        })
    }

    fn entry(&self) -> PathBuf {
        self.data.join("applications").join(entry_name())
    }

    fn icon(&self) -> PathBuf {
        self.data.join(format!("icons/hicolor/scalable/apps/{APP_ID}.svg"))
    }

    /// Makes the entry the handler of hark: links, or says why not.
    fn handle_links(&self) -> Result<(), String> {
        let name = self.xdg_mime.display();
        let mut command = Command::new(&self.xdg_mime);
        command.arg("default").arg(entry_name()).arg(LINKS);
        command.stdin(Stdio::null());
        match command.output() {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr);
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                Err(format!("`{name}` ended with {}: {said}", done.status))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("there is no `{name}` (package xdg-utils)"))
            }
            Err(error) => Err(format!("`{name}` does not start: {error}")),
        }
    }

    /// Takes the entry out of the file in which `xdg-mime` notes handlers; `xdg-mime` itself cannot.
    /// Returns whether it was there.
    fn forget_links(&self) -> anyhow::Result<bool> {
        let file = self.config.join("mimeapps.list");
        let Ok(text) = fs::read_to_string(&file) else { return Ok(false) };
        let kept = without_handler(&text);
        let changes = kept != text;
        if changes {
            // The file may be a link into a collection of settings, and stays one.
            write(&fs::canonicalize(&file)?, &kept)?;
        }
        Ok(changes)
    }
}

/// The text of the menu entry that starts `program`.
fn entry(program: &Path) -> anyhow::Result<String> {
    let name = program.display();
    let Some(path) = program.to_str() else {
        bail!("{name}: its path is not UTF-8, which a menu entry must be: move the program");
    };
    let is_unfit = |it: char| it == '=' || (it.is_control() && !"\n\t\r".contains(it));
    if let Some(unfit) = path.chars().find(|it| is_unfit(*it)) {
        bail!("{name}: a menu entry cannot start a path with {unfit:?}: move the program");
    }
    Ok(format!(
        "[Desktop Entry]\n\
         Type=Application\n\
         Version=1.5\n\
         Name=Hark\n\
         GenericName=Voice\n\
         Comment=Talk with your squad, and hear many nets at once\n\
         Exec={} %u\n\
         Icon={APP_ID}\n\
         Terminal=false\n\
         Categories=Network;Telephony;\n\
         Keywords=voice;radio;squad;talk;\n\
         MimeType={LINKS};\n\
         StartupWMClass={APP_ID}\n",
        in_string(&in_quotes(path))
    ))
}

/// One argument of Exec: in quotes, with `"`, `` ` ``, `$` and `\` escaped, and `%` doubled, which
/// would begin a field code.
fn in_quotes(argument: &str) -> String {
    let mut quoted = String::from('"');
    for it in argument.chars() {
        match it {
            '"' | '`' | '$' | '\\' => quoted.extend(['\\', it]),
            '%' => quoted.push_str("%%"),
            _ => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

/// A value of the type string, whose escapes are undone before the quotes of Exec are.
fn in_string(value: &str) -> String {
    let mut escaped = String::new();
    for it in value.chars() {
        match it {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            _ => escaped.push(it),
        }
    }
    escaped
}

/// The list of handlers without this entry as one of hark: links. All else stays to the byte.
fn without_handler(list: &str) -> String {
    let ours = entry_name();
    let mut kept = String::new();
    for line in list.split_inclusive('\n') {
        let value = line.trim_end().split_once('=').filter(|(key, _)| key.trim() == LINKS);
        let Some((key, value)) = value else {
            kept.push_str(line);
            continue;
        };
        let all = value.split(';').map(str::trim).filter(|it| !it.is_empty());
        let (own, others): (Vec<_>, Vec<_>) = all.partition(|it| *it == ours);
        if own.is_empty() {
            kept.push_str(line);
        } else if !others.is_empty() {
            kept.push_str(&format!("{key}={}\n", others.join(";")));
        }
    }
    kept
}

/// Writes a file as a whole, and the folders above it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        fs::write(&beside, text)?;
        fs::rename(&beside, path)
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}

/// Removes a file. Returns whether it was there.
fn remove(path: &Path) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", path.display())),
    }
}

fn entry_name() -> String {
    format!("{APP_ID}.desktop")
}

/// The kind of link that the window opens.
const LINKS: &str = "x-scheme-handler/hark";

/// The icon of the entry.
const ICON: &str = include_str!("../../assets/icon.svg");

#[cfg(test)]
mod tests;
