//! How well the links work, for this person and for who is asked for help.

use std::{fmt::Write as _, time::Instant};

use eframe::egui::{Label, RichText, ScrollArea, Ui};
use hark_node::{
    event::Path,
    reach::ports::PortReport,
    snapshot::{PeerView, Snapshot},
};

use super::{
    Asked, Drawing,
    plate::{copies, named},
    plot::{self, PLOTS},
};
use crate::{
    backend::Organisation,
    history::LinkSample,
    tokens::{self, SMALL},
};

/// Draws the panel.
pub fn show(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    let colours = view.colours;
    ui.horizontal(|ui| {
        if copies(ui, "Copy a report", "Copy a report") {
            view.asked.push(Asked::Copy(report(view.front, view.now)));
        }
        if named(ui.button("Save it"), "Save a report as a file").clicked() {
            view.asked.push(Asked::SaveReport(report(view.front, view.now)));
        }
        let text = "for whom you ask for help: without names and addresses";
        let text = RichText::new(text).size(SMALL).color(colours.weak);
        ui.add(Label::new(text).wrap());
    });
    ui.add_space(6.0);
    ScrollArea::vertical().auto_shrink(false).id_salt("mesh").show(ui, |ui| {
        for (heading, lines) in sections(own) {
            ui.label(RichText::new(heading).text_style(tokens::strong()));
            for (line, good) in lines {
                let colour = if good { colours.weak } else { colours.warning };
                ui.add(Label::new(RichText::new(line).size(SMALL).color(colour)).wrap());
            }
            ui.add_space(6.0);
        }
        for plot in &PLOTS {
            plot::show(ui, plot, &view.front.history, view.now, colours);
            ui.add_space(4.0);
        }
    });
}

/// Lines with whether each is good news.
type Lines = Vec<(String, bool)>;

fn sections(own: &Snapshot) -> Vec<(&'static str, Lines)> {
    let here: Vec<&PeerView> = own.peers.iter().filter(|peer| peer.reachable).collect();
    let by = |path: Path| here.iter().filter(|peer| peer.stats.path == path).count();
    let mut links = vec![(format!("{} devices are reached", here.len()), !here.is_empty())];
    for (count, words) in [
        (by(Path::Direct), "directly"),
        (by(Path::Punched), "directly, through both routers"),
        (by(Path::Relay), "by a relay"),
    ] {
        if count > 0 {
            links.push((format!("{count} {words}"), true));
        }
    }
    let mut quality = Vec::new();
    let worst = |of: fn(&PeerView) -> f64| here.iter().map(|it| of(it)).fold(0.0, f64::max);
    if !here.is_empty() {
        let (rtt, loss) = (worst(|it| it.stats.rtt_ms), worst(|it| it.stats.loss_percent));
        quality.push((format!("longest round trip: {rtt:.0} ms"), rtt < 250.0));
        quality.push((format!("greatest loss: {loss:.1} %"), loss < 5.0));
        quality.push((format!("copies in each packet: {}", own.copies), true));
    }
    quality
        .push((format!("processor: {:.1} % of a core", own.cpu_percent), own.cpu_percent < 50.0));
    let mut reach: Lines = own
        .checked
        .iter()
        .map(|it| match it.reachable {
            true => ("strangers reach this device".to_owned(), true),
            false => (
                "strangers do not reach this device: relays and punched paths help".to_owned(),
                true,
            ),
        })
        .collect();
    reach.dedup();
    if reach.is_empty() {
        reach.push(("nobody has checked yet whether strangers reach this device".to_owned(), true));
    }
    match &own.router {
        Some(report) => reach.push(router(report)),
        None => reach.push(("the router is not asked for a port".to_owned(), true)),
    }
    let mut all = vec![("Links", links), ("Quality", quality), ("From outside", reach)];
    if let Some(trouble) = &own.trouble {
        all.insert(0, ("Trouble", vec![(trouble.clone(), false)]));
    }
    all
}

fn router(report: &PortReport) -> (String, bool) {
    match (report.gateway, report.mapped(), report.reachable()) {
        (None, ..) => ("no router is known".to_owned(), true),
        (_, Some((by, _)), Some(_)) => (format!("the router opened a port by {by}"), true),
        (_, Some((by, _)), None) => {
            let text = "the router opened a port by {}, but another router is in front of it";
            (text.replace("{}", by), false)
        }
        (_, None, _) => ("the router opens no port: links are punched or relayed".to_owned(), true),
    }
}

/// What can be sent to somebody who helps. It has no names and no addresses.
fn report(front: &Organisation, now: Instant) -> String {
    let own = &*front.snapshot;
    let mut text = format!("Hark {}\n", env!("CARGO_PKG_VERSION"));
    for (heading, lines) in sections(own) {
        if heading == "Trouble" {
            continue;
        }
        let _ = writeln!(text, "\n{heading}");
        for (line, _) in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "\nDevices");
    for (number, peer) in own.peers.iter().enumerate() {
        let stats = &peer.stats;
        let _ = writeln!(
            text,
            "  {number}: {} rtt {:.0} ms, loss {:.1} %, jitter {:.1} ms, playout {:.0} ms, \
             received {}, concealed {}, late {}, recovered {}",
            if peer.reachable { stats.path.as_str() } else { "not reached" },
            stats.rtt_ms,
            stats.loss_percent,
            stats.jitter_ms,
            stats.playout_delay_ms,
            stats.frames_received,
            stats.frames_concealed,
            stats.frames_late,
            stats.frames_recovered,
        );
    }
    let _ = writeln!(text, "\nThe last ten minutes: seconds ago, devices, round trip, loss");
    for sample in front.history.since(now) {
        let ago = now.saturating_duration_since(sample.at).as_secs();
        let LinkSample { reached, rtt_ms, loss_percent, .. } = sample;
        let _ = writeln!(text, "  {ago} {reached} {rtt_ms:.0} ms {loss_percent:.1} %");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{history::History, samples};

    #[test]
    fn a_report_names_nobody() {
        let (own, now) = (samples::operation(), Instant::now());
        let mut history = History::default();
        history.note(now, &own);
        let front = Organisation {
            snapshot: Arc::new(own.clone()),
            air: Arc::default(),
            history: Arc::new(history),
        };
        let text = report(&front, now);
        assert!(text.ends_with("  0 6 71 ms 8.0 %\n"), "{text}");
        for secret in ["Kestrel", "Wren", "192.0.2", &own.device.0.to_string()] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(text.contains("greatest loss: 8.0 %"), "{text}");
        assert!(text.contains("1 by a relay"), "{text}");
    }
}
