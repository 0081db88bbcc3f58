//! What goes wrong, and when.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Road, TwoWays,
    names::{Cast, Error, ScenarioNames},
};
use crate::units::{Size, Span};

/// A fault as it is written: a time and one thing that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFault {
    /// When.
    pub at: Span,
    /// How long, where it passes.
    #[serde(rename = "for")]
    lasting: Option<Span>,
    /// The process is killed.
    crash: Option<Spanned<String>>,
    /// A rented relay takes nothing more on, and has those who use it go elsewhere.
    drain: Option<Spanned<String>>,
    /// It is started again so much later.
    restart_after: Option<Span>,
    /// What the disk holds then.
    disk: Option<Spanned<String>>,
    /// The member leaves as people do.
    quit: Option<Spanned<String>>,
    /// Nothing passes between these and all others, or `and` those.
    cut: Option<ScenarioNames>,
    /// The other side of a cut.
    and: Option<ScenarioNames>,
    /// A cut in one direction only: from `cut` to `and`.
    #[serde(default)]
    one_way: bool,
    /// The member gets a new address, in `to` where that is given.
    roam: Option<Spanned<String>>,
    /// The network that it roams to.
    to: Option<Spanned<String>>,
    /// The process, or the machine, stands still.
    pause: Option<Spanned<String>>,
    /// The calendar is set.
    set_clock: Option<Spanned<String>>,
    /// How far ahead of the truth.
    ahead: Option<Span>,
    /// The disk is full.
    fill_disk: Option<Spanned<String>>,
    /// The links of a member, or of a network to the one above, change.
    relink: Option<Spanned<String>>,
    /// What they become.
    link: Option<Spanned<Road>>,
    /// The gateway of a network forgets its table.
    restart_gateway: Option<Spanned<String>>,
    /// A member's machine sends something large, as fast as TCP would.
    transfer: Option<Spanned<String>>,
    /// How large it is.
    bytes: Option<Size>,
}

/// What happens, with members and networks by their places.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// A process is killed; started again later; with this on its disk.
    Crash {
        /// Whose.
        member: usize,
        /// After this long it is started again.
        restart_after: Option<Duration>,
        /// What its disk holds then.
        disk: DiskFault,
    },
    /// A member leaves, or a relay's operator stops it.
    Quit(usize),
    /// A rented relay takes nothing more on.
    Drain {
        /// Which, by its place among those.
        relay: usize,
        /// For how long.
        lasting: Option<Duration>,
    },
    /// Nothing passes from any of the first to any of the second.
    Cut {
        /// Pairs of origin and destination.
        pairs: Vec<(usize, usize)>,
        /// For how long.
        lasting: Option<Duration>,
    },
    /// A member gets a new address.
    Roam {
        /// Who.
        member: usize,
        /// In this network; in its own if none.
        network: Option<usize>,
    },
    /// A machine stands still.
    Pause {
        /// Which.
        member: usize,
        /// For how long.
        lasting: Duration,
    },
    /// A machine's calendar is set.
    SetClock {
        /// Which.
        member: usize,
        /// Seconds ahead of the truth.
        ahead_s: i64,
    },
    /// A machine's disk takes nothing.
    FillDisk {
        /// Which.
        member: usize,
        /// For how long.
        lasting: Option<Duration>,
    },
    /// Links change.
    Relink {
        /// A member, or else a network.
        of: Result<usize, usize>,
        /// To this, where it is said.
        ways: Box<TwoWays>,
        /// For how long.
        lasting: Option<Duration>,
    },
    /// A gateway forgets its table.
    RestartGateway(usize),
    /// A machine sends something large to another.
    Transfer {
        /// Which machine.
        from: usize,
        /// To which.
        to: usize,
        /// How much.
        bytes: u64,
    },
}

/// What is on a disk when its machine comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// All that was synced.
    Kept,
    /// Nothing.
    Lost,
    /// What it held at this moment, as after a restored backup.
    AsOf(Duration),
}

impl ScenarioFault {
    pub(super) fn resolve(
        &self,
        cast: &Cast,
        ways: impl Fn(&Spanned<Road>) -> Result<TwoWays, Error>,
    ) -> Result<FaultKind, Error> {
        let lasting = self.lasting.map(Duration::from);
        let needs = |name: &Spanned<String>, what: &str| (name.span(), format!("needs {what}"));
        let mut kinds = Vec::new();
        if let Some(name) = &self.crash {
            kinds.push(FaultKind::Crash {
                member: cast.machine(name)?,
                restart_after: self.restart_after.map(Duration::from),
                disk: self.disk.as_ref().map_or(Ok(DiskFault::Kept), read_disk)?,
            });
        }
        if let Some(name) = &self.quit {
            kinds.push(FaultKind::Quit(cast.machine(name)?));
        }
        if let Some(name) = &self.drain {
            kinds.push(FaultKind::Drain { relay: cast.relay(name)?, lasting });
        }
        if let Some(names) = &self.cut {
            let from = names.machines(cast)?;
            let to = match &self.and {
                Some(names) => names.machines(cast)?,
                None => (0..cast.machines()).filter(|member| !from.contains(member)).collect(),
            };
            let there = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
            let back = there.clone().filter(|_| !self.one_way).map(|(from, to)| (to, from));
            let pairs = there.clone().chain(back).collect();
            kinds.push(FaultKind::Cut { pairs, lasting });
        }
        if let Some(name) = &self.roam {
            let network = self.to.as_ref().map(|to| cast.network(to)).transpose()?;
            kinds.push(FaultKind::Roam { member: cast.member(name)?, network });
        }
        if let Some(name) = &self.pause {
            let lasting = lasting.ok_or_else(|| needs(name, "`for`, the length of the pause"))?;
            kinds.push(FaultKind::Pause { member: cast.machine(name)?, lasting });
        }
        if let Some(name) = &self.set_clock {
            let ahead = self.ahead.ok_or_else(|| needs(name, "`ahead`"))?.as_duration();
            let ahead_s = i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX);
            kinds.push(FaultKind::SetClock { member: cast.member(name)?, ahead_s });
        }
        if let Some(name) = &self.fill_disk {
            kinds.push(FaultKind::FillDisk { member: cast.member(name)?, lasting });
        }
        if let Some(name) = &self.relink {
            let of = cast.machine_or_network(name)?;
            let link = self.link.as_ref().ok_or_else(|| needs(name, "`link`"))?;
            kinds.push(FaultKind::Relink { of, ways: Box::new(ways(link)?), lasting });
        }
        if let Some(name) = &self.restart_gateway {
            kinds.push(FaultKind::RestartGateway(cast.network(name)?));
        }
        if let Some(name) = &self.transfer {
            let bytes = self.bytes.ok_or_else(|| needs(name, "`bytes`"))?.as_bytes();
            let to = self.to.as_ref().ok_or_else(|| needs(name, "`to`"))?;
            let (from, to) = (cast.member(name)?, cast.member(to)?);
            kinds.push(FaultKind::Transfer { from, to, bytes });
        }
        let one = (kinds.len() == 1).then(|| kinds.pop()).flatten();
        one.ok_or_else(|| (0..0, format!("the fault at {} must be one thing: {KINDS}", self.at)))
    }
}

fn read_disk(text: &Spanned<String>) -> Result<DiskFault, Error> {
    match text.get_ref().as_str() {
        "kept" => Ok(DiskFault::Kept),
        "lost" => Ok(DiskFault::Lost),
        other => match other.strip_prefix("as of ").map(str::parse::<Span>) {
            Some(Ok(at)) => Ok(DiskFault::AsOf(at.as_duration())),
            _ => Err((text.span(), "a disk is \"kept\", \"lost\" or \"as of 5s\"".to_owned())),
        },
    }
}

/// The things that can happen.
const KINDS: &str = "crash, quit, drain, cut, roam, pause, set_clock, fill_disk, relink, restart_gateway, \
                     transfer";
