//! Steering a running node through its local API.

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use hark_node::control::{Client, ControlError};
use serde_json::{Value, json};

use crate::{
    HomeArguments,
    person::{open_home, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct CtlArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where nodes of several run
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    request: Request,
}

#[derive(Subcommand)]
enum Request {
    /// Who is here, and how they are heard
    Status,
    /// Close the microphone
    Mute,
    /// Open the microphone
    Unmute,
    /// Press or release the push-to-talk key
    Ptt {
        #[arg(value_enum)]
        key: Key,
    },
    /// Silence the loudspeaker
    Deafen,
    /// Open the loudspeaker
    Undeafen,
    /// Make one member louder or softer
    Volume {
        /// The member's name or device
        #[arg(value_name = "DEVICE-OR-NAME")]
        who: String,
        /// 0 to 4, 1 being unchanged
        gain: f32,
    },
    /// How the microphone opens
    Transmit {
        #[arg(value_enum)]
        mode: Mode,
    },
    /// Print an invite ticket
    Invite,
    /// Print events as they happen, as JSON lines
    Events,
    /// End the node
    Quit,
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    Down,
    Up,
}

/// How the microphone opens.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Always
    Open,
    /// By voice
    Vad,
    /// While the push-to-talk key is down
    Ptt,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Vad => "vad",
            Self::Ptt => "ptt",
        }
    }
}

pub(crate) fn run(arguments: CtlArguments) -> anyhow::Result<()> {
    let mut client = connect(&arguments)?;
    let request = match arguments.request {
        Request::Status => json!({"command": "status"}),
        Request::Mute => json!({"command": "mute", "on": true}),
        Request::Unmute => json!({"command": "mute", "on": false}),
        Request::Deafen => json!({"command": "deafen", "on": true}),
        Request::Undeafen => json!({"command": "deafen", "on": false}),
        Request::Ptt { key } => json!({"command": "ptt", "down": matches!(key, Key::Down)}),
        Request::Transmit { mode } => json!({"command": "transmit", "mode": mode.as_str()}),
        Request::Invite => json!({"command": "invite"}),
        Request::Quit => json!({"command": "quit"}),
        Request::Volume { ref who, gain } => {
            let status = client.request(json!({"command": "status"}))?;
            let device = device_of(&status["status"], who)?;
            json!({"command": "volume", "device": device, "gain": gain})
        }
        Request::Events => {
            client.request(json!({"command": "subscribe"}))?;
            return print_events(&mut client);
        }
    };
    let answer = client.request(request)?;
    match arguments.request {
        _ if arguments.json => say_json(&answer),
        Request::Status => say(&describe(&answer["status"])),
        Request::Invite => say(answer["ticket"].as_str().unwrap_or_default()),
        _ => {}
    }
    Ok(())
}

fn connect(arguments: &CtlArguments) -> anyhow::Result<Client> {
    let home = open_home(&arguments.home)?;
    let stores = match arguments.org.as_deref() {
        Some(name) => home.choose(Some(name))?.into_iter().collect(),
        None => home.organisations()?,
    };
    let mut running = Vec::new();
    for store in stores {
        let Some(description) = store.control()? else { continue };
        match Client::connect(&description) {
            Ok(client) => running.push((store.charter().name().to_owned(), client)),
            Err(ControlError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if running.len() > 1 {
        let names: Vec<_> = running.iter().map(|(name, _)| name.as_str()).collect();
        bail!("nodes of several organisations run: choose one with --org ({})", names.join(", "));
    }
    match running.pop() {
        Some((_, client)) => Ok(client),
        None => Err(ControlError::NotRunning.into()),
    }
}

/// The device of the member of this name, or the device itself.
fn device_of(status: &Value, who: &str) -> anyhow::Result<String> {
    let empty = Vec::new();
    let peers = status["peers"].as_array().unwrap_or(&empty);
    let mut found = peers.iter().filter(|peer| {
        peer["device"] == who
            || peer["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(who))
    });
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer["device"].as_str().unwrap_or_default().to_owned()),
        (None, _) => bail!("nobody here is called {who:?}: see `hark ctl status`"),
        (Some(_), Some(_)) => bail!(
            "several members are called {who:?}: use the device, see `hark ctl status --json`"
        ),
    }
}

fn describe(status: &Value) -> String {
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let is = |name: &str| status[name] == true;
    let mut own = vec![format!("transmit {}", text("transmit"))];
    own.extend(is("muted").then(|| "muted".to_owned()));
    own.extend(is("deafened").then(|| "deafened".to_owned()));
    own.extend(is("transmitting").then(|| "talking".to_owned()));
    let mut lines =
        vec![format!("{} in {}: {}", text("name"), text("organisation"), own.join(", "))];
    lines.extend(status["trouble"].as_str().map(|trouble| format!("trouble: {trouble}")));
    for peer in status["peers"].as_array().unwrap_or(&Vec::new()) {
        let number = |name: &str| peer[name].as_f64().unwrap_or_default();
        let name = peer["name"].as_str().unwrap_or_default();
        if peer["reachable"] != true {
            lines.push(format!("  {name}: not reachable"));
            continue;
        }
        lines.push(format!(
            "  {name}: {}, round trip {:.1} ms, loss {:.1} %, delay {:.0} ms, volume {}{}",
            peer["path"].as_str().unwrap_or_default(),
            number("rtt_ms"),
            number("loss_percent"),
            number("playout_delay_ms"),
            number("volume"),
            if peer["talking"] == true { ", talking" } else { "" },
        ));
    }
    lines.join("\n")
}

fn print_events(client: &mut Client) -> anyhow::Result<()> {
    loop {
        match client.next_event() {
            Ok(event) => {
                say_json(&event);
                if event["event"] == "stopped" {
                    return Ok(());
                }
            }
            // That is how it looks when the node has been told to quit.
            Err(ControlError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "name": "Ann", "organisation": "Kestrel", "transmit": "vad", "muted": true,
            "deafened": false, "transmitting": false, "trouble": null,
            "peers": [
                {"device": "12D3a", "name": "Bob", "reachable": true, "path": "direct",
                 "rtt_ms": 1.25, "loss_percent": 0.0, "playout_delay_ms": 21.4, "volume": 1.0,
                 "talking": true},
                {"device": "12D3b", "name": "Cat", "reachable": false},
                {"device": "12D3c", "name": "cat", "reachable": false},
            ],
        })
    }

    #[test]
    fn a_member_is_found_by_name_or_device() {
        assert_eq!(device_of(&status(), "bob").expect("one Bob"), "12D3a");
        assert_eq!(device_of(&status(), "12D3b").expect("one device"), "12D3b");
        assert!(device_of(&status(), "Cat").expect_err("two").to_string().contains("several"));
        assert!(device_of(&status(), "Dan").expect_err("none").to_string().contains("nobody"));
    }

    #[test]
    fn the_status_is_told_in_a_few_lines() {
        assert_eq!(
            describe(&status()),
            "Ann in Kestrel: transmit vad, muted\n  \
             Bob: direct, round trip 1.2 ms, loss 0.0 %, delay 21 ms, volume 1, talking\n  \
             Cat: not reachable\n  cat: not reachable"
        );
    }
}
