//! What happens to machines and links in a scenario.

use std::time::Duration;

use hark_keys::Ticket;
use hark_node::{network::Input, snapshot::Command};

use super::{Action, HOST, World};
use crate::{
    context::{self, HostClock},
    disk::Contents,
    relay,
    rules::LINK_ENDS,
    scenario::{DiskFault, FaultKind, TwoWays},
    stranger,
};

impl World<'_> {
    pub(super) fn strike(&mut self, now: Duration, fault: FaultKind) {
        match fault {
            FaultKind::Crash { member, restart_after, disk } => {
                if self.processes[member].running {
                    if let Some(turmoil) = self.machine(member) {
                        turmoil.crash(HOST);
                    }
                    self.fabric.crash(member);
                    self.processes[member].running = false;
                    self.processes[member].device = None;
                    match self.station(member) {
                        Some(station) => station.clear(),
                        None => {
                            if let Some(device) = self.seats[member].device() {
                                self.witness.went(now + LINK_ENDS, device);
                            }
                            self.seats[member].clear();
                            self.observation.stopped(now, member);
                        }
                    }
                }
                let name = match disk {
                    DiskFault::Kept => "is killed",
                    DiskFault::Lost => {
                        self.disk(member).restore(Contents::new());
                        "is killed, and its disk is lost"
                    }
                    DiskFault::AsOf(at) => {
                        let backup = self.backups.get(&(at, member)).cloned();
                        self.disk(member).restore(backup.unwrap_or_default());
                        "is killed, and its disk goes back in time"
                    }
                };
                self.tell(now, Some(member), name);
                if let Some(after) = restart_after {
                    self.plan(now + after, Action::Start(member));
                }
            }
            FaultKind::Quit(member) => {
                self.tell(now, Some(member), "leaves");
                match self.station(member) {
                    Some(station) => station.stop(),
                    None => self.seats[member].send(Input::command(Command::Quit).0),
                }
            }
            FaultKind::Drain { relay, lasting } => {
                self.stations[relay].command(relay::CarrierCommand::Drain(true));
                self.tell(now, Some(self.seats.len() + relay), "takes nothing more on");
                if let Some(lasting) = lasting {
                    self.plan(now + lasting, Action::EndDrain(relay));
                }
            }
            FaultKind::Cut { pairs, lasting } => {
                pairs.iter().for_each(|(from, to)| self.fabric.set_cut(*from, *to, true));
                self.tell(now, None, &format!("cut: {}", self.describe(&pairs)));
                if let Some(lasting) = lasting {
                    self.plan(now + lasting, Action::Mend(pairs));
                }
            }
            FaultKind::Roam { member, network } => {
                let network = network.unwrap_or(self.cast.plan.hosts[member].network);
                self.fabric.roam(member, network);
                let address = self.fabric.address(member);
                self.observation.moved(member, address);
                self.tell(now, Some(member), &format!("moves to {address}"));
            }
            FaultKind::Pause { member, lasting } => {
                self.fabric.set_paused(member, true);
                self.tell(now, Some(member), &format!("stands still for {lasting:?}"));
                self.plan(now + lasting, Action::Resume(member));
            }
            FaultKind::SetClock { member, ahead_s } => {
                let skew_ppm = self.cast.actors[member].member.clock_skew_ppm;
                let clock = HostClock { skew_ppm, calendar_ahead_s: ahead_s };
                context::set_clock(&self.cast.actors[member].name, clock);
                self.tell(now, Some(member), &format!("sets its calendar {ahead_s} s ahead"));
            }
            FaultKind::FillDisk { member, lasting } => {
                self.seats[member].disk.set_full(true);
                self.tell(now, Some(member), "has a full disk");
                if let Some(lasting) = lasting {
                    self.plan(now + lasting, Action::EmptyDisk(member));
                }
            }
            FaultKind::Relink { of, ways, lasting } => {
                let name = match of {
                    Ok(machine) => &self.cast.plan.hosts[machine].name,
                    Err(network) => &self.cast.plan.networks[network].name,
                };
                self.tell(now, of.ok(), &format!("the link of {name} changes"));
                if let Some(lasting) = lasting {
                    let (up, down) = self.fabric.models(of);
                    let up = ways.0.is_some().then_some(up);
                    let down = ways.1.is_some().then_some(down);
                    let ways = Box::new((up, down));
                    self.plan(now + lasting, Action::Relink { of, ways });
                }
                self.relink(of, *ways);
            }
            FaultKind::Transfer { from, to, bytes } => {
                let name = &self.cast.actors[to].name;
                self.tell(now, Some(from), &format!("sends {bytes} bytes to {name}"));
                self.fabric.transfer(from, to, bytes);
            }
            FaultKind::RestartGateway(network) => {
                let name = &self.cast.plan.networks[network].name;
                self.tell(now, None, &format!("the gateway of {name} starts anew"));
                self.fabric.restart_gateway(network);
            }
        }
    }

    /// Has a stranger begin to knock at all addresses of the founder's ticket.
    pub(super) fn knock(&mut self, now: Duration, place: usize) {
        let machine = self.seats.len() + self.stations.len() + place;
        let ticket = self.tickets[0].as_ref().and_then(|ticket| ticket.parse::<Ticket>().ok());
        let places = ticket.iter().flat_map(|ticket| ticket.doors.iter().chain(&ticket.relays));
        let addresses: Vec<_> = places.flat_map(|place| &place.addresses).copied().collect();
        let stranger = &self.cast.scenario.strangers[place];
        let times = (stranger.every.as_duration(), stranger.lasting.as_duration());
        let answers = stranger.answers;
        let (name, fabric) = (stranger.name.get_ref().clone(), self.fabric.clone());
        self.tell(now, Some(machine), &format!("knocks at {} addresses", addresses.len()));
        self.host(machine, move || {
            let (binder, addresses) = (fabric.binder(machine), addresses.clone());
            let knocks = stranger::knock(name.clone(), binder, addresses, times, answers);
            async move { knocks.await.expect("its machine has free ports") }
        });
    }

    pub(super) fn relink(&self, of: Result<usize, usize>, (up, down): TwoWays) {
        match of {
            Ok(member) => self.fabric.set_host_links(member, up, down),
            Err(network) => self.fabric.set_network_links(network, up, down),
        }
    }
}
