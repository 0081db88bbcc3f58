use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// The first argument of Exec in an entry, read as the specification says: first the escapes of a
/// string, then the quotes, then the field codes.
fn program_of(entry: &str) -> String {
    let value = entry.lines().find_map(|line| line.strip_prefix("Exec=")).expect("an Exec");
    let mut string = String::new();
    let mut rest = value.chars();
    while let Some(it) = rest.next() {
        string.push(match it {
            '\\' => match rest.next().expect("an escape goes on") {
                's' => ' ',
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\\' => '\\',
                other => panic!("no escape of a string: {other}"),
            },
            other => other,
        });
    }
    let mut rest = string.strip_prefix('"').expect("a quoted program").chars();
    let mut program = String::new();
    loop {
        match rest.next().expect("the quotes end") {
            '"' => break,
            '\\' => {
                let escaped = rest.next().expect("an escape goes on");
                assert!("\"`$\\".contains(escaped), "no escape in quotes: {escaped}");
                program.push(escaped);
            }
            '`' | '$' => panic!("a reserved character stands free"),
            '%' => {
                assert_eq!(rest.next(), Some('%'), "a field code within quotes");
                program.push('%');
            }
            other => program.push(other),
        }
    }
    assert_eq!(rest.as_str(), " %u");
    program
}

fn menu(folder: &Path, xdg_mime: &Path) -> Menu {
    Menu { data: folder.join("data"), config: folder.join("config"), xdg_mime: xdg_mime.into() }
}

#[test]
fn a_path_in_exec_is_the_path_that_starts() {
    for path in [
        "/usr/bin/hark-ui",
        "/home/ann/My Programs/hark-ui",
        "/opt/100%/%u/hark-ui",
        "/opt/\"quoted\"/it's/hark-ui",
        "/opt/back\\slash\\\\twice/hark-ui\\",
        "/opt/$HOME/`id`/hark-ui",
        "/opt/(a)&b;c|d<e>f*g?h#i~/hark-ui",
        "/opt/new\nline\ttab\r/hark-ui",
        "/opt/Größe/鷹/hark-ui",
    ] {
        let text = entry(Path::new(path)).expect("an entry");
        assert_eq!(program_of(&text), path, "{text}");
        assert_eq!(text.lines().count(), 13, "{text}");
    }
}

#[test]
fn quotes_are_those_of_the_specification() {
    let text = entry(Path::new("/a b/50%/\"$x\\y")).expect("an entry");
    let wanted = r#"Exec="/a b/50%%/\\"\\$x\\\\y" %u"#;
    assert!(text.lines().any(|line| line == wanted), "{text}");
}

#[test]
fn a_path_that_no_entry_can_start_is_refused() {
    for path in ["/opt/a=b/hark-ui", "/opt/\u{1b}/hark-ui"] {
        let error = entry(Path::new(path)).expect_err("refused").to_string();
        assert!(error.contains("move the program"), "{error}");
    }
    let bytes = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"/opt/\xff");
    assert!(entry(Path::new(bytes)).is_err());
}

#[test]
fn what_was_added_is_removed_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let noted = folder.path().join("noted");
    let script = folder.path().join("xdg-mime");
    let text = format!("#!/bin/sh\necho \"$@\" > '{}'\n", noted.display());
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    let menu = menu(folder.path(), &script);
    let done = menu.add(Path::new("/usr/bin/hark-ui")).expect("added");
    assert!(done.ends_with("starts /usr/bin/hark-ui.\nhark: links open it."), "{done}");
    let asked = fs::read_to_string(&noted).expect("xdg-mime was started");
    assert_eq!(asked, "default org.hark.Hark.desktop x-scheme-handler/hark\n");
    let text = fs::read_to_string(menu.entry()).expect("an entry");
    assert!(text.contains("\nMimeType=x-scheme-handler/hark;\n"), "{text}");
    assert!(text.contains("\nStartupWMClass=org.hark.Hark\n"), "{text}");
    assert!(menu.icon().ends_with("icons/hicolor/scalable/apps/org.hark.Hark.svg"));
    assert!(menu.icon().exists());
    let list = menu.config.join("mimeapps.list");
    fs::create_dir_all(&menu.config).expect("made");
    fs::write(&list, "[Default Applications]\nx-scheme-handler/hark=org.hark.Hark.desktop\n")
        .expect("written");
    let done = menu.remove().expect("removed");
    assert!(done.contains("is gone"), "{done}");
    assert!(!menu.entry().exists() && !menu.icon().exists());
    assert_eq!(fs::read_to_string(&list).expect("there"), "[Default Applications]\n");
    assert_eq!(menu.remove().expect("nothing to do"), "Hark was not in the menu.");
}

#[test]
fn without_xdg_mime_the_entry_is_there_and_a_line_says_what_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let menu = menu(folder.path(), &folder.path().join("xdg-mime"));
    let done = menu.add(Path::new("/usr/bin/hark-ui")).expect("added");
    assert!(done.contains("links do not open it by themselves: there is no `"), "{done}");
    assert_eq!(done.lines().count(), 2);
    assert!(menu.entry().exists());
}

#[test]
fn handlers_of_other_links_and_other_handlers_stay() {
    let list = "[Default Applications]\n\
                text/html=firefox.desktop;\n\
                x-scheme-handler/hark = org.hark.Hark.desktop;other.desktop;\n\
                \n\
                [Added Associations]\n\
                x-scheme-handler/hark=org.hark.Hark.desktop\n\
                x-scheme-handler/harken=org.hark.Hark.desktop";
    let kept = "[Default Applications]\n\
                text/html=firefox.desktop;\n\
                x-scheme-handler/hark =other.desktop\n\
                \n\
                [Added Associations]\n\
                x-scheme-handler/harken=org.hark.Hark.desktop";
    assert_eq!(without_handler(list), kept);
    assert_eq!(without_handler(kept), kept);
}
