//! How the desktop of each operating system gets to know the window.

#[cfg(target_os = "linux")]
mod menu;

/// Flags that add the window to the menu of the desktop, or take it away. There are none where an
/// installer does that.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct MenuArguments {
    #[command(flatten)]
    flags: system::Flags,
}

impl MenuArguments {
    /// Does what the flags ask for. Returns what was done, or `None` if no flag is given.
    pub fn carry_out(self) -> anyhow::Result<Option<String>> {
        self.flags.carry_out()
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::menu::Menu;

    #[derive(Clone, Copy, Debug, clap::Args)]
    pub(super) struct Flags {
        /// Add Hark to the desktop's menu, have it open hark: links, and end
        #[arg(long)]
        add_to_menu: bool,
        /// Undo --add-to-menu, and end
        #[arg(long, conflicts_with = "add_to_menu")]
        remove_from_menu: bool,
    }

    impl Flags {
        pub(super) fn carry_out(self) -> anyhow::Result<Option<String>> {
            if self.add_to_menu {
                let program = std::env::current_exe()?;
                return Ok(Some(Menu::of_this_account()?.add(&program)?));
            }
            if self.remove_from_menu {
                return Ok(Some(Menu::of_this_account()?.remove()?));
            }
            Ok(None)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    #[derive(Clone, Copy, Debug, clap::Args)]
    pub(super) struct Flags {}

    impl Flags {
        pub(super) fn carry_out(self) -> anyhow::Result<Option<String>> {
            Ok(None)
        }
    }
}
