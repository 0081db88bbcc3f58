//! The summary that stays in the terminal after the screen has closed: how long the person was
//! here, with whom, who talked for how long, and how well the speech was heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_node::event::{DeviceText, Event, Path, StampedEvent};

/// One run, summed up from its events.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The ids of this device in the run, one in each organisation.
    own: BTreeSet<DeviceText>,
    devices: BTreeMap<DeviceText, Device>,
    last_us: u64,
}

#[derive(Debug, Default)]
struct Device {
    name: String,
    /// Whether this node had a link to it.
    met: bool,
    talked: Duration,
    talking_since_us: Option<u64>,
    received: u64,
    concealed: u64,
    path: Option<Path>,
    longest_trip_ms: f64,
}

impl Summary {
    /// Updates the summary with an event.
    pub(crate) fn note(&mut self, event: &StampedEvent) {
        let at_us = event.at_us;
        self.last_us = self.last_us.max(at_us);
        match &event.event {
            Event::Ready { device, .. } => drop(self.own.insert(*device)),
            Event::PeerUp { device, name, .. } => {
                if let Some(known) = self.device(*device) {
                    known.name.clone_from(name);
                    known.met = true;
                }
            }
            Event::TalkStarted { device, name, .. } => {
                if let Some(known) = self.device(*device) {
                    known.name.clone_from(name);
                    known.talking_since_us = Some(at_us);
                }
            }
            Event::TalkEnded { device, .. } => {
                if let Some(known) = self.devices.get_mut(device) {
                    known.end_talkspurt(at_us);
                }
            }
            Event::Stats { peers, .. } => {
                for peer in peers {
                    let Some(known) = self.devices.get_mut(&peer.device) else { continue };
                    known.received = known.received.max(peer.frames_received);
                    known.concealed = known.concealed.max(peer.frames_concealed);
                    known.path = Some(peer.path);
                    known.longest_trip_ms = known.longest_trip_ms.max(peer.rtt_ms);
                }
            }
            _ => {}
        }
    }

    /// The text of the summary, for a run of this duration.
    pub(crate) fn describe(mut self, lasting: Duration) -> String {
        let last_us = self.last_us;
        self.devices.values_mut().for_each(|device| device.end_talkspurt(last_us));
        let mut lines = vec![format!("You have left after {}: {}.", span(lasting), self.with())];
        lines.extend(self.talkers());
        lines.extend(self.losses());
        lines.join("\n")
    }

    fn device(&mut self, device: DeviceText) -> Option<&mut Device> {
        let has_room = self.devices.len() < DEVICES_MAX || self.devices.contains_key(&device);
        has_room.then(|| self.devices.entry(device).or_default())
    }

    fn with(&self) -> String {
        // Two devices of one person count as one.
        let met = self.devices.iter().filter(|(id, it)| it.met && !self.own.contains(id));
        let met: BTreeSet<_> = met.map(|(_, device)| device.name.as_str()).collect();
        match &met.into_iter().collect::<Vec<_>>()[..] {
            [] => "nobody else was here".to_owned(),
            [name] => format!("with {name}"),
            [names @ .., last] if names.len() < NAMES_MAX => {
                format!("with {} and {last}", names.join(", "))
            }
            names => {
                let (named, others) = names.split_at(NAMES_MAX);
                format!("with {} and {} more", named.join(", "), others.len())
            }
        }
    }

    /// The members who talked, in descending order of talking time.
    fn talkers(&self) -> Option<String> {
        let mut talked: BTreeMap<&str, Duration> = BTreeMap::new();
        for (id, device) in &self.devices {
            let name = if self.own.contains(id) { "you" } else { &device.name };
            *talked.entry(name).or_default() += device.talked;
        }
        talked.retain(|_, talked| *talked >= Duration::from_millis(100));
        let mut talked: Vec<_> = talked.into_iter().collect();
        talked.sort_by_key(|(_, talked)| std::cmp::Reverse(*talked));
        let more = talked.len().saturating_sub(NAMES_MAX);
        let named = talked.iter().take(NAMES_MAX);
        let mut parts: Vec<_> =
            named.map(|(name, talked)| format!("{name} {}", span(*talked))).collect();
        parts.extend((more > 0).then(|| format!("{more} more")));
        (!parts.is_empty()).then(|| format!("Talked: {}.", parts.join(", ")))
    }

    /// The talker whose speech was lost the most.
    fn losses(&self) -> Option<String> {
        let heard = self.devices.values().filter(|it| it.received >= HEARD_FRAMES_MIN);
        let worst = heard.max_by(|a, b| a.loss().total_cmp(&b.loss()))?;
        if worst.loss() < LOSS_PERCENT_MIN {
            return Some("No speech was lost.".to_owned());
        }
        let path = match worst.path {
            Some(Path::Relay) => " by a relay",
            _ => "",
        };
        Some(format!(
            "Worst path: from {}{path}, {:.1} % of the speech was lost, round trips took up to {:.0} ms.",
            worst.name,
            worst.loss(),
            worst.longest_trip_ms,
        ))
    }
}

impl Device {
    fn end_talkspurt(&mut self, at_us: u64) {
        if let Some(since) = self.talking_since_us.take() {
            self.talked += Duration::from_micros(at_us.saturating_sub(since));
        }
    }

    /// The share of frames that were concealed, in percent of all.
    fn loss(&self) -> f64 {
        let all = self.received + self.concealed;
        100.0 * self.concealed as f64 / (all as f64).max(1.0)
    }
}

fn span(lasting: Duration) -> String {
    let seconds = lasting.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{:.1} s", lasting.as_secs_f64()),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes @ ..10, seconds) if seconds > 0 => format!("{minutes} min {seconds} s"),
        (0, minutes, _) => format!("{minutes} min"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// How many names a line lists.
const NAMES_MAX: usize = 5;

/// How many devices the summary counts. Further ones are left out.
const DEVICES_MAX: usize = 10_000;

/// How many frames it takes to judge a path: a second of speech.
const HEARD_FRAMES_MIN: u64 = 100;

/// Nobody notices less loss than this.
const LOSS_PERCENT_MIN: f64 = 0.1;

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;
    use hark_node::event::PeerStats;

    use super::*;

    fn device(number: u8) -> DeviceText {
        DeviceText(DeviceKey::from_secret(&[number; 32]).id())
    }

    fn note(summary: &mut Summary, seconds: f64, event: Event) {
        let at_us = (seconds * 1e6) as u64;
        summary.note(&StampedEvent { at_us, event, org: None });
    }

    fn up(number: u8, name: &str) -> Event {
        let (device, name) = (device(number), name.to_owned());
        let address = String::new();
        Event::PeerUp { device, name, looks_like: None, path: Path::Direct, address }
    }

    fn talk(number: u8, name: &str, on: bool) -> Event {
        let (device, name, channels) = (device(number), name.to_owned(), Vec::new());
        if on {
            Event::TalkStarted { device, name, channels }
        } else {
            Event::TalkEnded { device, name, channels }
        }
    }

    fn stats(number: u8, received: u64, concealed: u64, path: Path) -> PeerStats {
        PeerStats {
            device: device(number),
            path,
            rtt_ms: 41.0,
            loss_percent: 0.0,
            jitter_ms: 0.0,
            playout_delay_ms: 20.0,
            frames_received: received,
            frames_concealed: concealed,
            frames_late: 0,
            frames_recovered: 0,
            samples_inserted: 0,
            samples_removed: 0,
        }
    }

    #[test]
    fn q_left_no_line_in_the_terminal() {
        let seconds = Duration::from_secs;
        let told = Summary::default().describe(seconds(9));
        assert_eq!(told, "You have left after 9 s: nobody else was here.");
        let with = |names: &[&str], lasting| {
            let mut summary = Summary::default();
            for (number, name) in (2..).zip(names) {
                note(&mut summary, 1.0, up(number, name));
            }
            summary.describe(lasting)
        };
        let told = with(&["Heron"], seconds(65));
        assert_eq!(told, "You have left after 1 min 5 s: with Heron.");
        let told = with(&["Heron", "Magpie"], seconds(720));
        assert_eq!(told, "You have left after 12 min: with Heron and Magpie.");
        let names = ["Heron", "Magpie", "Osprey", "Sable", "Wren", "Yeti", "Zulu"];
        let told = with(&names, seconds(7_500));
        assert!(told.contains("2 h 5 min") && told.ends_with("Wren and 2 more."), "{told}");
    }

    #[test]
    fn who_talked_for_how_long_was_not_told() {
        let mut summary = Summary::default();
        note(&mut summary, 0.0, Event::Ready { device: device(1), listen: Vec::new() });
        // Heron has two devices, and one of them still talks at the end.
        for (number, name) in [(2, "Heron"), (3, "Heron"), (4, "Magpie"), (5, "Wren")] {
            note(&mut summary, 0.0, up(number, name));
        }
        for (at, number, name, on) in [
            (1.0, 2, "Heron", true),
            (3.5, 2, "Heron", false),
            (4.0, 1, "Kestrel", true),
            (5.0, 4, "Magpie", true),
            (5.5, 4, "Magpie", false),
            (9.0, 1, "Kestrel", false),
            (10.0, 3, "Heron", true),
        ] {
            note(&mut summary, at, talk(number, name, on));
        }
        let peers = vec![
            stats(2, 900, 100, Path::Relay),
            stats(4, 1_000, 10, Path::Direct),
            // Too few frames to judge the path.
            stats(5, 1, 20, Path::Direct),
        ];
        note(&mut summary, 80.0, Event::Stats { peers, cpu_percent: 1.0 });
        let told = summary.describe(Duration::from_secs(80));
        assert_eq!(
            told,
            "You have left after 1 min 20 s: with Heron, Magpie and Wren.\n\
             Talked: Heron 1 min 12 s, you 5 s, Magpie 0.5 s.\n\
             Worst path: from Heron by a relay, 10.0 % of the speech was lost, round trips took up to \
             41 ms."
        );
        let mut summary = Summary::default();
        note(&mut summary, 0.0, up(2, "Heron"));
        let peers = vec![stats(2, 10_000, 1, Path::Direct)];
        note(&mut summary, 1.0, Event::Stats { peers, cpu_percent: 1.0 });
        assert!(summary.describe(Duration::from_secs(9)).ends_with("\nNo speech was lost."));
    }
}
