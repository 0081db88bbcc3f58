//! Which NATs keep peers apart: plays every pair of RFC 4787 behaviours in several surroundings,
//! with a volunteer that all peers reach.
//!
//! `cargo bench -p hark-simulator --bench nat` plays all of them. Simulated times depend neither on
//! the machine nor on the build.

mod pairs;
#[path = "../../../node/benches/shared/table.rs"]
mod table;

use std::sync::Mutex;

use pairs::{End, KINDS, SHORT, meet, network, reachable};
use table::Table;

fn main() {
    // Without `--bench`, cargo only checks that the bench builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut table = Table::default();
    for surroundings in SURROUNDINGS {
        let met = surroundings.play();
        surroundings.draw(&met);
        surroundings.judge(&met, &mut table);
    }
    table.print("Pairs behind NATs", "bar");
}

/// What surrounds the two gateways.
#[derive(Clone, Copy)]
struct Surroundings {
    about: &'static str,
    /// Further settings of the first and the second NAT, as TOML.
    nats: [&'static str; 2],
    /// The networks between the gateways and the internet, as TOML.
    above: &'static str,
    /// Settings that place the first and the second network within one of these.
    within: [&'static str; 2],
    /// The mapping and filtering of the NATs above, if there are any.
    behind: Option<&'static str>,
    /// Whether a direct path is possible, if the surroundings alone decide it: the NAT that both
    /// peers share does not hairpin, or a router opens a port. `None` if the kinds of the NATs
    /// decide.
    decided: Option<bool>,
}

const PLAIN: Surroundings = Surroundings {
    about: "two gateways",
    nats: ["hairpinning = false"; 2],
    above: "",
    within: ["", ""],
    behind: None,
    decided: None,
};

const SURROUNDINGS: [Surroundings; 6] = [
    PLAIN,
    Surroundings { about: "two gateways that hairpin", nats: ["hairpinning = true"; 2], ..PLAIN },
    Surroundings {
        about: "two gateways, of which one gives a port",
        nats: ["hairpinning = false, port_mapping = true", "hairpinning = false"],
        decided: Some(true),
        ..PLAIN
    },
    Surroundings {
        about: "double NAT, a carrier each",
        above: "[networks.one]\nnat = \"home\"\n[networks.two]\nnat = \"home\"\n",
        within: ["within = \"one\"", "within = \"two\""],
        behind: Some("EI/APD"),
        ..PLAIN
    },
    Surroundings {
        about: "double NAT, one carrier that hairpins",
        above: "[networks.one]\nnat = { like = \"home\", hairpinning = true }\n",
        within: ["within = \"one\""; 2],
        behind: Some("EI/APD"),
        ..PLAIN
    },
    Surroundings {
        about: "double NAT, one carrier that does not",
        above: "[networks.one]\nnat = { like = \"home\", hairpinning = false }\n",
        within: ["within = \"one\""; 2],
        decided: Some(false),
        ..PLAIN
    },
];

/// A pair of kinds of NAT, and how each peer came to the other.
struct Met {
    kinds: [usize; 2],
    ends: [End; 2],
}

impl Met {
    /// Whether both peers have a direct path at the end, and after how many seconds the later of
    /// the two had the path that it kept.
    fn outcome(&self) -> (bool, f64) {
        let direct = self.ends.iter().all(|end| end.path != "relay");
        (direct, self.ends.iter().map(|end| end.path_after).fold(0.0, f64::max))
    }

    fn linked_after(&self) -> f64 {
        self.ends.iter().map(|end| end.linked_after).fold(0.0, f64::max)
    }
}

impl Surroundings {
    /// Plays each pair of kinds, as many at a time as there are cores.
    fn play(self) -> Vec<Met> {
        eprintln!("{} …", self.about);
        let pairs: Vec<_> = (0..KINDS.len())
            .flat_map(|first| (first..KINDS.len()).map(move |it| [first, it]))
            .collect();
        let pairs = Mutex::new(pairs);
        let met = Mutex::new(Vec::new());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let work = || {
            let folder = tempfile::tempdir().expect("a folder");
            loop {
                let kinds = pairs.lock().expect("nobody panics with it").pop();
                let Some(kinds @ [first, second]) = kinds else { return };
                let north = network("north", KINDS[first], self.nats[0], self.within[0]);
                let south = network("south", KINDS[second], self.nats[1], self.within[1]);
                let ends = meet(folder.path(), &format!("{}{north}{south}", self.above));
                met.lock().expect("nobody panics with it").push(Met { kinds, ends });
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(work);
            }
        });
        met.into_inner().expect("nobody panics with it")
    }

    /// Whether two NATs of these kinds can be punched in these surroundings.
    fn can_go_direct(self, [first, second]: [usize; 2]) -> bool {
        let here = |kind: usize| self.behind.map_or(kind, |behind| stricter(SHORT[kind], behind));
        self.decided.unwrap_or_else(|| reachable(here(first))[here(second)])
    }

    /// Prints a table of nine by nine cells: after how many seconds each pair had the path that it
    /// kept, or `r` if that path is the relay's.
    fn draw(self, met: &[Met]) {
        println!("\n### {}\n\n```text", self.about);
        println!("{:8}{}", "", SHORT.map(|kind| format!("{kind:>9}")).concat());
        for (first, kind) in SHORT.iter().enumerate() {
            let cell = |second: usize| {
                let kinds = [first.min(second), first.max(second)];
                let found = met.iter().find(|it| it.kinds == kinds).expect("all were played");
                let (direct, after) = found.outcome();
                format!("{:>9}", format!("{}{after:.2}", if direct { "" } else { "r " }))
            };
            println!("{kind:8}{}", (0..SHORT.len()).map(cell).collect::<String>());
        }
        println!("```");
    }

    fn judge(self, met: &[Met], table: &mut Table) {
        let measure = |what: &str| format!("{}: {what}", self.about);
        let direct: Vec<_> = met.iter().filter(|it| it.outcome().0).collect();
        let as_can = met.iter().all(|it| it.outcome().0 == self.can_go_direct(it.kinds));
        let can = met.iter().filter(|it| self.can_go_direct(it.kinds)).count();
        table.said(
            &measure("pairs that go direct"),
            &format!("{} of {}", direct.len(), met.len()),
            &format!("{can} that can: {}", if as_can { "held" } else { "MISSED" }),
        );
        let mut times: Vec<_> = direct.iter().map(|it| it.outcome().1).collect();
        times.sort_by(f64::total_cmp);
        if let Some(slowest) = times.last().copied() {
            table.shown(&measure("the median of them"), times[times.len() / 2], "s", "");
            table.held(&measure("the slowest of them"), slowest, "s", 3.0);
        }
        let slowest = met.iter().map(Met::linked_after).fold(0.0, f64::max);
        table.held(&measure("the slowest link, by the relay at first"), slowest, "s", 1.5);
    }
}

/// The kind of two NATs in series: the stricter mapping and the stricter filtering of the two.
fn stricter(one: &str, other: &str) -> usize {
    let behaviours = ["EI", "AD", "APD"];
    let rank = |kind: &str| {
        kind.split('/').map(|part| behaviours.iter().position(|it| *it == part)).collect::<Vec<_>>()
    };
    let both = rank(one).into_iter().zip(rank(other)).map(|(one, other)| one.max(other));
    both.fold(0, |kind, behaviour| 3 * kind + behaviour.expect("one of the three"))
}
