//! What the program says and does differently on each operating system.

#[cfg(unix)]
mod files {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    /// Permissions of a file or folder, as `chmod` writes them. `None` if the system has no such
    /// permissions.
    pub(crate) fn mode_of(path: &Path) -> Option<u32> {
        Some(fs::metadata(path).ok()?.permissions().mode() & 0o777)
    }
}

#[cfg(not(unix))]
mod files {
    use std::path::Path;

    pub(crate) fn mode_of(_: &Path) -> Option<u32> {
        None
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::{env, fs, path::PathBuf};

    /// The bytes that a socket can really hold, of those that the system reports.
    pub(crate) fn usable_buffer(told: usize) -> usize {
        // Linux also counts its own bookkeeping and reports twice the number.
        told / 2
    }

    /// How to allow sockets to have buffers of this many bytes.
    pub(crate) fn raise_buffer(bytes: usize) -> String {
        format!("sudo sysctl -w net.core.rmem_max={bytes}")
    }

    /// What to do if a sound card is missing, as far as this machine shows why.
    pub(crate) fn missing_sound() -> &'static str {
        let server = env::var_os("PULSE_SERVER").is_some()
            || env::var_os("XDG_RUNTIME_DIR")
                .is_some_and(|folder| PathBuf::from(folder).join("pulse/native").exists());
        let cards: Vec<_> = fs::read_dir("/dev/snd")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("pcm"))
            .collect();
        let readable = cards.iter().any(|card| fs::File::open(card.path()).is_ok());
        advice(server, !cards.is_empty(), readable)
    }

    /// Advice that depends on whether there is a sound server, whether there are sound cards, and
    /// whether this account may use them.
    fn advice(server: bool, cards: bool, readable: bool) -> &'static str {
        match (server, cards, readable) {
            (true, ..) => {
                "a sound server (PulseAudio or PipeWire) is set up: choose a device in the system's \
                 sound settings, and see `pactl info` if none is shown"
            }
            (false, true, false) => {
                "there are sound cards, but this account may not use them and no sound server runs: \
                 start one (`systemctl --user start pipewire-pulse`, or `pulseaudio --start`), or join \
                 the group `audio` (`sudo usermod -aG audio $USER`) and log in again"
            }
            (false, true, true) => {
                "there are sound cards but no sound server: start one (`systemctl --user start \
                 pipewire-pulse`, or `pulseaudio --start`), or close the program that holds the card"
            }
            (false, false, _) => {
                "Linux sees no sound card (nothing in /dev/snd) and no sound server runs: connect a \
                 headset, or start PipeWire or PulseAudio (`systemctl --user start pipewire-pulse`, or \
                 `pulseaudio --start`)"
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::advice;

        #[test]
        fn who_lacks_sound_is_told_what_lacks() {
            assert!(advice(false, true, false).contains("usermod -aG audio"));
            assert!(!advice(false, true, true).contains("usermod"));
            assert!(advice(false, false, false).contains("/dev/snd"));
            assert!(advice(true, true, true).contains("pactl info"));
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(crate) fn usable_buffer(told: usize) -> usize {
        told
    }

    pub(crate) fn raise_buffer(_: usize) -> String {
        "raise the system's limit for the buffers of sockets".to_owned()
    }

    pub(crate) fn missing_sound() -> &'static str {
        "connect one, and choose it in the system's sound settings"
    }
}

#[cfg(windows)]
mod firewall {
    use std::{env, process::Command};

    /// The name of the rule that the installer makes.
    const RULE: &str = "Hark";

    /// Whether the system's own firewall lets others reach this program first. The error is the
    /// command that makes it do so, for an administrator. `None` if nothing of the kind is known.
    pub(crate) fn lets_in() -> Option<Result<(), String>> {
        let shown = Command::new("netsh")
            .args(["advfirewall", "firewall", "show", "rule", &format!("name={RULE}")])
            .output()
            .ok()?;
        if shown.status.success() {
            return Some(Ok(()));
        }
        let program = env::current_exe().ok()?;
        Some(Err(format!(
            "netsh advfirewall firewall add rule name={RULE} dir=in action=allow protocol=udp \
             program=\"{}\"",
            program.display()
        )))
    }
}

#[cfg(not(windows))]
mod firewall {
    pub(crate) fn lets_in() -> Option<Result<(), String>> {
        None
    }
}

pub(crate) use files::mode_of;
pub(crate) use firewall::lets_in;
pub(crate) use system::{missing_sound, raise_buffer, usable_buffer};
