//! `hark verify`: whether a device really belongs to its member.

use anyhow::bail;
use hark_keys::DeviceId;
use hark_node::{control::Client, snapshot::Command};
use serde_json::{Value, json};

use crate::{
    HomeArguments, ctl,
    person::{say, say_json, words},
};

#[derive(clap::Args)]
pub(crate) struct VerifyArguments {
    /// The member's name, with its mark where several are called so, or the device
    name: String,
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where several run [default: the one in front]
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// You have compared the words, and they are the same: remember it
    #[arg(long)]
    confirm: bool,
    /// Forget that you have compared them
    #[arg(long, conflicts_with = "confirm")]
    forget: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let mut client = ctl::connect(&arguments.home, arguments.org.as_deref())?;
    let found = devices_of(&status(&mut client)?, &arguments.name)?;
    if arguments.confirm || arguments.forget {
        let [(_, device)] = found[..] else {
            let devices: Vec<_> = found.iter().map(|(_, device)| device.to_string()).collect();
            bail!(
                "{} has several devices, name the one whose words you have compared: {}",
                arguments.name,
                devices.join(", ")
            );
        };
        let device = device.to_string();
        client.request(json!(Command::Verify { device, on: arguments.confirm }))?;
    }
    let status = status(&mut client)?;
    if arguments.json {
        let peers = status["peers"].as_array().into_iter().flatten();
        let devices = found.iter().map(|(name, device)| {
            let id = device.to_string();
            let peer = peers.clone().find(|peer| peer["device"] == id.as_str());
            json!({
                "name": name,
                "device": id,
                "words": hark_keys::device_words(*device),
                "verification": peer.map(|peer| &peer["verification"]),
            })
        });
        say_json(&json!({"devices": devices.collect::<Vec<_>>()}));
        return Ok(());
    }
    for (name, device) in &found {
        say(&describe(&status, name, *device));
    }
    Ok(())
}

fn status(client: &mut Client) -> anyhow::Result<Value> {
    Ok(client.request(json!({"command": "status"}))?["status"].take())
}

/// The devices of the member with this name, or the device with this id, each with the member's
/// name.
fn devices_of(status: &Value, name: &str) -> anyhow::Result<Vec<(String, DeviceId)>> {
    let peers = status["peers"].as_array().into_iter().flatten();
    let all = peers.filter_map(|peer| {
        let device = peer["device"].as_str()?;
        Some((peer["name"].as_str()?.to_owned(), device.parse::<DeviceId>().ok()?))
    });
    let all: Vec<_> = all.collect();
    let named =
        |it: &&(String, DeviceId)| it.0.eq_ignore_ascii_case(name) || it.1.to_string() == name;
    let found: Vec<_> = all.iter().filter(named).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let plain = |it: &(String, DeviceId)| {
        let plain = it.0.rsplit_once('#').map_or(&*it.0, |(plain, _)| plain);
        plain.eq_ignore_ascii_case(name).then(|| it.0.clone())
    };
    let several: Vec<_> = all.iter().filter_map(plain).collect();
    if !several.is_empty() {
        bail!("several members are called {name}: {}", several.join(", "));
    }
    let known: Vec<_> = all.into_iter().map(|(name, _)| name).collect();
    match &known[..] {
        [] => bail!("nobody is called {name:?}: nobody else was here since this node started"),
        known => bail!("nobody here is called {name:?}: there are {}", known.join(", ")),
    }
}

fn describe(status: &Value, name: &str, device: DeviceId) -> String {
    let id = device.to_string();
    let peers = status["peers"].as_array().into_iter().flatten();
    let peer = peers.clone().find(|peer| peer["device"] == id.as_str());
    let known = match peer.and_then(|peer| peer["verification"].as_str()) {
        Some("verified") => "verified: you have compared these words".to_owned(),
        Some("new_device") => format!(
            "NOT verified: you have compared words of another device of {name}, not of this one"
        ),
        _ => format!(
            "not verified: have {name} read out the words of `hark id`, by a way that you both \
             trust; if they are these, run `hark verify {name:?} --confirm`"
        ),
    };
    format!("{name}\n  device  {id}\n  words   {}\n  {known}", words(device))
}

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;

    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceKey::from_secret(&[number; 32]).id()
    }

    fn status() -> Value {
        let peer = |number: u8, name: &str, verification: &str| {
            let device = device(number).to_string();
            json!({"device": device, "name": name, "verification": verification})
        };
        json!({"peers": [
            peer(1, "Sable#aaaaaa", "unverified"), peer(2, "Sable#bbbbbb", "verified"),
            peer(3, "Heron", "verified"), peer(4, "Heron", "new_device"),
        ]})
    }

    #[test]
    fn somebody_of_a_name_that_several_have_is_named_by_the_mark() {
        let found = devices_of(&status(), "sable#bbbbbb").expect("one Sable");
        assert_eq!(found, [("Sable#bbbbbb".to_owned(), device(2))]);
        let error = devices_of(&status(), "Sable").expect_err("two").to_string();
        assert!(error.contains("Sable#aaaaaa, Sable#bbbbbb"), "{error}");
        let error = devices_of(&status(), "Wren").expect_err("none").to_string();
        assert!(error.contains("Heron"), "{error}");
        assert_eq!(devices_of(&status(), &device(4).to_string()).expect("one").len(), 1);
    }

    #[test]
    fn a_changed_device_of_a_verified_person_is_said() {
        let status = status();
        let told = |number| describe(&status, "Heron", device(number));
        assert!(told(3).contains("  verified:"), "{}", told(3));
        assert!(told(4).contains("NOT verified"), "{}", told(4));
        assert!(told(1).contains("--confirm") && told(1).contains(&words(device(1))));
    }
}
