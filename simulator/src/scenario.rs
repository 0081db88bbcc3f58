//! Scenario files: where machines are, what members say, what goes wrong, and what is expected.

mod expectation;
mod fault;
mod malice;
mod names;
mod order;
mod problem;
mod relay;
mod stranger;
mod waiver;

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use hark_node::snapshot::TransmitMode;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

pub use self::{
    expectation::{Expectation, FlagExpectation, Paths, Within},
    fault::{DiskFault, FaultKind, ScenarioFault},
    malice::Malice,
    names::ScenarioNames,
    order::{Instruction, InstructionKind, Order},
    problem::Problem,
    relay::ScenarioRelay,
    stranger::Stranger,
    waiver::{Waiver, WaiverRule},
};
use crate::{
    network::{
        HostPlan, NetworkPlan, SitePlan,
        link::LinkModel,
        nat::{FirewallModel, NatModel},
    },
    speech::{Script, Sounds},
    units::Span,
};

/// A scenario as it is written in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without its extension.
    #[serde(skip)]
    pub name: String,
    /// What the scenario shows, in one sentence.
    pub purpose: String,
    /// How long the run lasts.
    pub duration: Span,
    /// The name that the founder gives the organisation; if it is absent, the node's default name.
    organisation: Option<String>,
    /// Named links, which machines and networks refer to.
    #[serde(default)]
    links: BTreeMap<String, Ways>,
    /// The link of every machine that has none of its own.
    link: Option<Spanned<Road>>,
    /// Networks other than the internet, by name.
    #[serde(default)]
    networks: BTreeMap<String, Network>,
    /// All members, the founder first.
    pub members: Vec<Member>,
    /// The rented relays.
    #[serde(default)]
    pub relays: Vec<ScenarioRelay>,
    /// Strangers, who belong to no organisation.
    #[serde(default)]
    pub strangers: Vec<Stranger>,
    /// The faults: what goes wrong, and when.
    #[serde(default)]
    pub faults: Vec<ScenarioFault>,
    /// What members do with the charter and their radios, and when.
    #[serde(default)]
    orders: Vec<Order>,
    /// What must be true of the run.
    #[serde(default)]
    pub expect: Vec<Expectation>,
    /// Rules that do not apply to this scenario.
    #[serde(default)]
    pub waive: Vec<Waiver>,
}

/// The two directions of a link: both alike, or each on its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ways {
    both: Option<LinkModel>,
    up: Option<LinkModel>,
    down: Option<LinkModel>,
}

/// A link by its name, or written out.
#[derive(Clone, Debug)]
pub enum Road {
    /// The name of one of `links`.
    Named(String),
    /// The link itself.
    Inline(Box<Ways>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    within: Option<Spanned<String>>,
    nat: Option<NatModel>,
    firewall: Option<FirewallModel>,
    link: Option<Spanned<Road>>,
}

/// One member, or several alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The member's name. If there are several, they are called name-1, name-2 and so on.
    pub name: Spanned<String>,
    /// How many members there are of this kind.
    #[serde(default = "one")]
    count: u16,
    /// The network that the member is in; the internet if it is absent.
    network: Option<Spanned<String>>,
    /// The link between the member's machine and its network.
    link: Option<Spanned<Road>>,
    /// When its process starts.
    #[serde(default)]
    pub start: Span,
    /// The member whose ticket it uses; the first member if it is absent.
    joins: Option<Spanned<String>>,
    /// How many devices its ticket admits; 0 is any number.
    #[serde(default)]
    pub ticket_uses: u8,
    /// How long its ticket is valid.
    pub ticket_lasts: Option<Span>,
    /// When its microphone is open.
    pub transmit: Option<TransmitMode>,
    /// The channels that it hears; if there are none, those that the charter sets.
    #[serde(default)]
    pub channels: Vec<String>,
    /// The channels that it talks to; if there are none, those that the charter sets.
    #[serde(default)]
    pub talk_to: Vec<String>,
    /// Whether it uses low delay: frames of 5 ms.
    #[serde(default)]
    pub low_delay: bool,
    /// Whether it relays for the others from the moment when it is in the organisation.
    #[serde(default)]
    pub volunteer: bool,
    /// Whether it has links only to relays that the charter names.
    #[serde(default)]
    pub relay_only: bool,
    /// The harm that it does to those for whom it relays.
    pub malice: Option<Malice>,
    /// When it sends every datagram many times over.
    pub floods: Option<Flood>,
    /// When it joins and leaves a net, again and again.
    pub churns: Option<Churn>,
    /// What the member says, and when.
    #[serde(default)]
    says: Vec<Says>,
    /// When its keys to talk are pressed.
    #[serde(default)]
    pub presses: Vec<Press>,
    /// How fast its monotonic clock runs, in parts per million above true time.
    #[serde(default)]
    pub clock_skew_ppm: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Says {
    at: Span,
    #[serde(rename = "for")]
    lasting: Option<Span>,
    sound: Spanned<String>,
}

/// Sends every voice datagram many times, each time with another sequence number.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// When the flood begins.
    pub at: Span,
    /// How long the flood lasts.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// How many datagrams are sent for each one.
    pub times: u16,
}

/// Listens to a net and leaves it, in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// The name of the net.
    pub net: String,
    /// When the member first listens to it.
    pub at: Span,
    /// How long the member keeps doing this.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// The time from listening to leaving, and from leaving to listening again.
    pub every: Span,
}

/// A key that is held down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Press {
    /// When the key is pressed.
    pub at: Span,
    /// How long the key is held.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// The key: the name of a bound key or of a net; if it is absent, the plain key to talk.
    pub key: Option<String>,
}

/// A scenario that has been checked and can be played.
#[derive(Debug)]
pub struct Cast {
    /// The scenario as it is written.
    pub scenario: Scenario,
    /// The plan of the network.
    pub plan: SitePlan,
    /// All members in order. Host n of the plan is actor n; the relays come after the actors, and
    /// the strangers after the relays.
    pub actors: Vec<Actor>,
    /// The faults in order of time, with members by their places among the actors.
    pub faults: Vec<(Duration, FaultKind)>,
    /// The orders, as they are ordered in the file.
    pub orders: Vec<Instruction>,
}

/// One machine and its member.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The member's name.
    pub name: String,
    /// The member as it is written in the scenario.
    pub member: Member,
    /// What the member says, and when.
    pub script: Script,
    /// The member whose ticket it joins with; `None` for the founder.
    pub joins: Option<usize>,
    /// The name of the organisation that it founds, if the scenario gives one.
    pub founds: Option<String>,
}

impl<'de> Deserialize<'de> for Road {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        // Not `untagged`, which would lose the reason why the table is wrong.
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Road;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a link's name, or a table with `both`, `up` or `down`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Road, E> {
                Ok(Road::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Road, A::Error> {
                let ways = Ways::deserialize(MapAccessDeserializer::new(table))?;
                Ok(Road::Inline(Box::new(ways)))
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

fn one() -> u16 {
    1
}

impl Scenario {
    /// Reads and checks a scenario file.
    pub fn read(path: &Path) -> Result<Cast, Problem> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problem::whole(path, format!("cannot be read: {error}")))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(path, name, &text, folder)
    }

    /// Checks the text of a scenario whose recordings lie in `folder`.
    pub fn parse(path: &Path, name: String, text: &str, folder: &Path) -> Result<Cast, Problem> {
        let mut scenario: Self =
            toml::from_str(text).map_err(|error| Problem::from_toml(path, text, &error))?;
        scenario.name = name;
        let mut director = Director { path, text, sounds: Sounds::new(folder), folder, scenario };
        director.cast()
    }
}

/// Turns a scenario into a cast, or reports the place of a mistake.
struct Director<'a> {
    path: &'a Path,
    text: &'a str,
    folder: &'a Path,
    sounds: Sounds,
    scenario: Scenario,
}

impl Director<'_> {
    fn cast(&mut self) -> Result<Cast, Problem> {
        let mut plan = SitePlan { networks: vec![NetworkPlan::default()], hosts: Vec::new() };
        plan.networks[0].name = INTERNET.to_owned();
        self.place_networks(&mut plan)?;
        let actors = self.place_members(&mut plan)?;
        let relays = self.scenario.relays.iter();
        let relays = relays.map(|it| (&it.name, it.network.as_ref(), it.link.as_ref()));
        let strangers = self.scenario.strangers.iter();
        let strangers = strangers.map(|it| (&it.name, it.network.as_ref(), it.link.as_ref()));
        for (name, network, link) in relays.chain(strangers) {
            self.place_machine(&mut plan, name, network, link)?;
        }
        let cast = names::Cast {
            members: actors.iter().map(|actor| actor.name.clone()).collect(),
            relays: self.scenario.relays.iter().map(|it| it.name.get_ref().clone()).collect(),
            networks: plan.networks.iter().map(|network| network.name.clone()).collect(),
        };
        for expectation in &self.scenario.expect {
            expectation.check(&cast).map_err(|error| self.problem(error))?;
        }
        for waiver in &self.scenario.waive {
            waiver.check().map_err(|error| self.problem(error))?;
        }
        let members = self.scenario.members.iter().filter_map(|it| it.malice.as_ref());
        let relays = self.scenario.relays.iter().filter_map(|it| it.malice.as_ref());
        for malice in members.chain(relays) {
            malice.check(&cast).map_err(|error| self.problem(error))?;
        }
        let mut faults = Vec::new();
        for fault in &self.scenario.faults {
            faults.push((
                fault.at.as_duration(),
                fault
                    .resolve(&cast, |road| self.ways(road))
                    .map_err(|error| self.problem(error))?,
            ));
        }
        faults.sort_by_key(|(at, _)| *at);
        let orders = self.scenario.orders.iter().map(|order| order.resolve(&cast, self.folder));
        let orders = orders.collect::<Result<_, _>>().map_err(|error| self.problem(error))?;
        Ok(Cast { scenario: self.scenario.clone(), plan, actors, faults, orders })
    }

    fn place_networks(&self, plan: &mut SitePlan) -> Result<(), Problem> {
        let mut left: Vec<_> = self.scenario.networks.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            let mut blocked = Vec::new();
            for (name, network) in left {
                let above = network.within.as_ref().map_or(INTERNET, |within| within.get_ref());
                let parent = plan.networks.iter().position(|other| other.name == above);
                let Some(parent) = parent else {
                    blocked.push((name, network));
                    continue;
                };
                let (up, down) = self.ways_or_default(network.link.as_ref(), false)?;
                plan.networks.push(NetworkPlan {
                    name: name.clone(),
                    parent: Some(parent),
                    nat: network.nat.clone(),
                    firewall: network.firewall.clone(),
                    up,
                    down,
                });
            }
            if blocked.len() == before {
                let within = blocked.into_iter().find_map(|(_, network)| network.within.as_ref());
                let Some(within) = within else { break };
                let known: Vec<_> = self.scenario.networks.keys().cloned().collect();
                return Err(self.problem(names::unknown("network", within, &known)));
            }
            left = blocked;
        }
        Ok(())
    }

    fn place_members(&mut self, plan: &mut SitePlan) -> Result<Vec<Actor>, Problem> {
        let members = self.scenario.members.clone();
        let mut actors: Vec<Actor> = Vec::new();
        for member in members {
            let network = self.network(plan, member.network.as_ref())?;
            let joins = match &member.joins {
                None => (!actors.is_empty()).then_some(0),
                Some(name) => {
                    let known: Vec<_> = actors.iter().map(|actor| actor.name.clone()).collect();
                    let place = known.iter().position(|known| known == name.get_ref());
                    let problem = || names::unknown("earlier member", name, &known);
                    Some(place.ok_or_else(|| self.problem(problem()))?)
                }
            };
            let script = self.script(&member)?;
            let (up, down) = self.ways_or_default(member.link.as_ref(), true)?;
            for number in 1..=member.count {
                let base = member.name.get_ref();
                let name = if member.count > 1 { format!("{base}-{number}") } else { base.clone() };
                if actors.iter().any(|actor| actor.name == name) {
                    let text = format!("two members are called {name:?}");
                    return Err(self.problem((member.name.span(), text)));
                }
                plan.hosts.push(HostPlan {
                    name: name.clone(),
                    network,
                    up: up.clone(),
                    down: down.clone(),
                });
                let founds = self.scenario.organisation.clone().filter(|_| joins.is_none());
                let (member, script) = (member.clone(), script.clone());
                actors.push(Actor { name, member, script, joins, founds });
            }
        }
        if actors.len() < 2 || actors.len() > MEMBERS_MAX {
            let text = format!("there are 2 to {MEMBERS_MAX} members, not {}", actors.len());
            return Err(Problem::whole(self.path, text));
        }
        Ok(actors)
    }

    /// Places a machine that is not a member's.
    fn place_machine(
        &self,
        plan: &mut SitePlan,
        name: &Spanned<String>,
        network: Option<&Spanned<String>>,
        link: Option<&Spanned<Road>>,
    ) -> Result<(), Problem> {
        let (name, span) = (name.get_ref(), name.span());
        if plan.hosts.iter().any(|host| host.name == *name) {
            return Err(self.problem((span, format!("two machines are called {name:?}"))));
        }
        let network = self.network(plan, network)?;
        let (up, down) = self.ways_or_default(link, true)?;
        plan.hosts.push(HostPlan { name: name.clone(), network, up, down });
        Ok(())
    }

    /// The place of a network by its name; the internet if no name is given.
    fn network(&self, plan: &SitePlan, name: Option<&Spanned<String>>) -> Result<usize, Problem> {
        let Some(name) = name else { return Ok(0) };
        let known: Vec<_> = plan.networks.iter().map(|network| network.name.clone()).collect();
        let place = known.iter().position(|known| known == name.get_ref());
        place.ok_or_else(|| self.problem(names::unknown("network", name, &known)))
    }

    fn script(&mut self, member: &Member) -> Result<Script, Problem> {
        let mut script = Script::default();
        for says in &member.says {
            let sound = self.sounds.get(says.sound.get_ref());
            let sound = sound.map_err(|e| self.problem((says.sound.span(), e.to_string())))?;
            let from = says.at.as_duration();
            let length = Duration::from_nanos(sound.len() as u64 * 62_500 / 3);
            script.say(from, from + says.lasting.map_or(length, Duration::from), sound);
        }
        Ok(script)
    }

    fn ways_or_default(
        &self,
        road: Option<&Spanned<Road>>,
        default: bool,
    ) -> Result<(LinkModel, LinkModel), Problem> {
        let road = road.or(self.scenario.link.as_ref().filter(|_| default));
        let Some(road) = road else { return Ok(Default::default()) };
        let (up, down) = self.ways(road).map_err(|error| self.problem(error))?;
        Ok((up.unwrap_or_default(), down.unwrap_or_default()))
    }

    /// Both directions of a road, with recordings loaded; `None` for a direction that the road does
    /// not describe.
    fn ways(&self, road: &Spanned<Road>) -> Result<TwoWays, names::Error> {
        let ways = match road.get_ref() {
            Road::Inline(ways) => ways,
            Road::Named(name) => {
                let known: Vec<_> = self.scenario.links.keys().cloned().collect();
                let named = Spanned::new(road.span(), name.clone());
                let ways = self.scenario.links.get(name);
                ways.ok_or_else(|| names::unknown("link", &named, &known))?
            }
        };
        let one = |way: &Option<LinkModel>| {
            let Some(mut model) = way.clone().or(ways.both.clone()) else { return Ok(None) };
            let loaded = model.load(self.folder);
            loaded.map_err(|error| (road.span(), error.to_string()))?;
            Ok(Some(model))
        };
        Ok((one(&ways.up)?, one(&ways.down)?))
    }

    fn problem(&self, (span, text): names::Error) -> Problem {
        Problem::at(self.path, self.text, span, text)
    }
}

/// New models for a link, up and down; `None` keeps a direction as it is.
pub type TwoWays = (Option<LinkModel>, Option<LinkModel>);

/// The name of the network that is above all others.
const INTERNET: &str = "internet";

/// The largest number of members. More than this, each linked to every other, are no longer a
/// squad.
const MEMBERS_MAX: usize = 64;

#[cfg(test)]
mod tests;
