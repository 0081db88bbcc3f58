//! What goes wrong, and when.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Road, TwoWays,
    names::{Cast, Error, ScenarioNames},
};
use crate::units::{Size, Span};

/// A fault as it is written: a time, and one thing that happens then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFault {
    /// When the fault begins.
    pub at: Span,
    /// How long it lasts, if it passes.
    #[serde(rename = "for")]
    lasting: Option<Span>,
    /// Kills the process of this member or relay.
    crash: Option<Spanned<String>>,
    /// Drains this rented relay: it accepts nothing new, and the devices that use it move
    /// elsewhere.
    drain: Option<Spanned<String>>,
    /// After this time a killed process is started again.
    restart_after: Option<Span>,
    /// What the disk holds when it is started again.
    disk: Option<Spanned<String>>,
    /// Has this member leave properly, as a person who quits.
    quit: Option<Spanned<String>>,
    /// Blocks all packets between these and all others, or those in `and`.
    cut: Option<ScenarioNames>,
    /// The machines on the other side of a cut.
    and: Option<ScenarioNames>,
    /// Cuts in one direction only: from `cut` to `and`.
    #[serde(default)]
    one_way: bool,
    /// Gives this member a new address, in the network `to` if that is given.
    roam: Option<Spanned<String>>,
    /// The network to which the member roams.
    to: Option<Spanned<String>>,
    /// Pauses this process, or machine.
    pause: Option<Spanned<String>>,
    /// Sets the calendar of this machine.
    set_clock: Option<Spanned<String>>,
    /// How far the calendar is ahead of the true time.
    ahead: Option<Span>,
    /// Fills the disk of this machine.
    fill_disk: Option<Spanned<String>>,
    /// Changes the links of this member, or of this network to the one above.
    relink: Option<Spanned<String>>,
    /// The new link.
    link: Option<Spanned<Road>>,
    /// Makes the gateway of this network forget its table.
    restart_gateway: Option<Spanned<String>>,
    /// Has this member's machine send something large, as fast as TCP would.
    transfer: Option<Spanned<String>>,
    /// How many bytes are sent.
    bytes: Option<Size>,
}

/// What happens, with members and networks by their places.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// Kills a process and perhaps starts it again.
    Crash {
        /// The machine of the process.
        member: usize,
        /// The time after which it is started again; `None` if it is not.
        restart_after: Option<Duration>,
        /// What its disk holds then.
        disk: DiskFault,
    },
    /// Has a member leave, or a relay's operator stop the relay.
    Quit(usize),
    /// Drains a rented relay: it accepts nothing new.
    Drain {
        /// The relay, by its place among the relays.
        relay: usize,
        /// How long the drain lasts; `None` is to the end.
        lasting: Option<Duration>,
    },
    /// Blocks all packets between pairs of machines.
    Cut {
        /// The blocked pairs of origin and destination.
        pairs: Vec<(usize, usize)>,
        /// How long the cut lasts; `None` is to the end.
        lasting: Option<Duration>,
    },
    /// Gives a member a new address.
    Roam {
        /// The member that moves.
        member: usize,
        /// The network that it moves to; `None` is its own network.
        network: Option<usize>,
    },
    /// Pauses a machine.
    Pause {
        /// The machine that pauses.
        member: usize,
        /// How long the pause lasts.
        lasting: Duration,
    },
    /// Sets a machine's calendar.
    SetClock {
        /// The machine with that calendar.
        member: usize,
        /// How many seconds the calendar is ahead of the true time.
        ahead_s: i64,
    },
    /// Fills a machine's disk, so that writes fail.
    FillDisk {
        /// The machine with that disk.
        member: usize,
        /// How long the disk stays full; `None` is to the end.
        lasting: Option<Duration>,
    },
    /// Changes links.
    Relink {
        /// The links of a member (`Ok`), or of a network to the one above (`Err`).
        of: Result<usize, usize>,
        /// The new models; a direction that is absent does not change.
        ways: Box<TwoWays>,
        /// How long the change lasts; `None` is to the end.
        lasting: Option<Duration>,
    },
    /// Makes the gateway of a network forget its table.
    RestartGateway(usize),
    /// Has a machine send something large to another.
    Transfer {
        /// The machine that sends.
        from: usize,
        /// The machine that receives.
        to: usize,
        /// How many bytes are sent.
        bytes: u64,
    },
}

/// The contents of a disk when its machine comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Everything that was synced.
    Kept,
    /// Nothing, as on a new disk.
    Lost,
    /// What it held at this time of the run, as after a restored backup.
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

/// The names of all faults.
const KINDS: &str = "crash, quit, drain, cut, roam, pause, set_clock, fill_disk, relink, restart_gateway, \
                     transfer";
