//! Two machines on one bridge: they meet by ticket, and by mDNS when no remembered address works
//! any more.

use std::path::Path;

use anyhow::Context;

use crate::{join::Meetings, node::Place, table::Table};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let places = places()?;
    let pair = [places[0].clone(), places[1].clone()];
    let mut by_ticket = Meetings::default();
    let mut home = folder.to_owned();
    for round in 0..ROUNDS {
        home = folder.join(round.to_string());
        std::fs::create_dir(&home)?;
        let [first, second] = by_ticket.found(&pair, &home, "--no-mdns")?;
        second.quit()?;
        first.quit()?;
    }
    by_ticket.tell(table, "by ticket, one bridge", 500.0);

    let mut by_mdns = Meetings::default();
    for round in 0..ROUNDS {
        for (number, place) in pair.iter().enumerate() {
            // The addresses and the ports change, so nobody listens at the old ones.
            place.run("ip address flush dev eth0 scope global")?;
            let address = format!("10.77.{}.{}/16", round + 1, number + 1);
            place.run(&format!("ip address add {address} dev eth0"))?;
        }
        let [first, second] = by_mdns.again(&pair, &home, "")?;
        second.quit()?;
        first.quit()?;
    }
    by_mdns.tell(table, "members, by mDNS alone", 3_000.0);
    for (number, place) in pair.iter().enumerate() {
        place.run("ip address flush dev eth0 scope global")?;
        place.run(&format!("ip address add 10.77.0.{}/16 dev eth0", number + 1))?;
    }
    Ok(())
}

/// The namespaces that `ci/measure-network` has made: 10.77.0.1, 10.77.0.2 and 10.77.0.3 on one
/// bridge.
pub(crate) fn places() -> anyhow::Result<Vec<Place>> {
    let names = std::env::var("HARK_NAMESPACES").context("run ci/measure-network")?;
    let places: Vec<Place> = names.split_whitespace().map(Place::namespace).collect();
    anyhow::ensure!(places.len() == 3, "three namespaces are needed");
    Ok(places)
}

/// How often the two meet in each way.
const ROUNDS: usize = 10;
