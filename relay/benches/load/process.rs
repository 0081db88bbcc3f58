//! Processes that are measured, and the resources that they have used.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use hark_charter::{
    Charter, Piece,
    content::{Change, Relay},
};
use hark_keys::{ChannelId, DeviceKey, List};
use hark_node::{random::SystemRandom, store::SquadStore as _};
use hark_relay::home::RelayHome;

/// A child process that is killed when this is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// The processor time of all its threads.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            // A thread may have ended in the meantime.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let ran = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
            total += ran.context("schedstat is not as expected")?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Bytes of memory that it has touched.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("status is not as expected")? * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An organisation whose charter names a relay, and all of whose members the relay knows.
pub(crate) struct Organisation {
    pub(crate) charter: Charter,
    pub(crate) channel: ChannelId,
    pub(crate) founder: DeviceKey,
    pub(crate) members: Vec<DeviceKey>,
}

/// A running relay, which serves one organisation.
pub(crate) struct RunningRelay {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) key: hark_keys::DeviceId,
}

/// Founds an organisation with `members` members, lets `prepare` change its charter, and starts the
/// relay `program` for it. The relay keeps everything in `home`.
pub(crate) fn start(
    program: &Path,
    home: &Path,
    members: usize,
    prepare: impl FnOnce(&mut Organisation) -> anyhow::Result<()>,
) -> anyhow::Result<(Organisation, RunningRelay)> {
    // This port was free a moment ago.
    let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let folder = RelayHome::open(home, Box::new(|| None))?;
    let key = folder.next_device(&SystemRandom)?;
    let founder = DeviceKey::generate(&SystemRandom);
    let mut charter = Charter::found("Aerie", "Main", &founder, None, &SystemRandom);
    let founding = charter.member_of(founder.id());
    let relay = Relay {
        device: key,
        name: "Eyrie".to_owned(),
        addresses: List::truncated([address]),
        members_max: 0,
        rate_kbps: 0,
    };
    let named = charter.edit(&founder, founding, vec![Change::Relay(relay)])?;
    charter.take(Piece::Operation(named))?;
    let members: Vec<_> = (0..members).map(|_| DeviceKey::generate(&SystemRandom)).collect();
    let certificates: Result<Vec<_>, _> =
        members.iter().map(|it| charter.issue(&founder, founding, it.id(), None)).collect();
    for taken in charter.take_all(certificates?.into_iter().map(Piece::Certificate)) {
        taken?;
    }
    let channel = charter.state().channels().next().context("a charter has a channel")?.id;
    let mut organisation = Organisation { charter, channel, founder, members };
    prepare(&mut organisation)?;
    let id = organisation.charter.organisation();
    folder.key(id, &SystemRandom)?;
    folder.tenant(id).keep_charter(&organisation.charter)?;
    drop(folder);

    let config = home.join("relay.toml");
    std::fs::write(&config, format!("[[organisation]]\nid = \"{id}\"\n"))?;
    let mut child = Command::new(program)
        .args(["--admin", "127.0.0.1:0", "--events", "-", "--listen", &address.to_string()])
        .arg("--home")
        .arg(home)
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("hark-relay does not start")?;
    let mut events = BufReader::new(child.stdout.take().context("no events")?).lines();
    let process = Process(child);
    let ready = events.by_ref().map_while(Result::ok).any(|it| it.contains("\"ready\""));
    anyhow::ensure!(ready, "hark-relay has ended before it was ready");
    // If nobody read the events, the relay would stop.
    std::thread::spawn(move || events.map_while(Result::ok).for_each(drop));
    Ok((organisation, RunningRelay { process, address, key }))
}
