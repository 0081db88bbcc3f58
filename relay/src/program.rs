//! Runs a relay from its start to its end.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hark_keys::DeviceId;
use hark_node::{clock::Clock, random::SystemRandom, signals::EndSignals, store::AskPassphrase};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    admin::{Admin, AdminServer},
    carrier::StartCarrier,
    config::Config,
    error::RelayError,
    event::{Events, RelayEvent},
    home::RelayHome,
    tenants::{Tenants, TenantsConfig},
};

/// The settings with which the program is started.
pub struct RelayOptions {
    /// The relay's folder.
    pub home: PathBuf,
    /// The contents of the configuration file.
    pub config: Config,
    /// The address where organisations listen; replaces that of the file.
    pub listen: Option<SocketAddr>,
    /// The address where the admin API listens; replaces that of the file.
    pub admin: Option<SocketAddr>,
    /// The file to which events are written; `-` is standard output.
    pub events: Option<PathBuf>,
    /// After which time the relay stops by itself.
    pub lasting: Option<Duration>,
    /// Opens key files that are protected with a passphrase.
    pub passphrase: AskPassphrase,
    /// Prints a line for the person who has started the relay.
    pub say: fn(&str),
}

/// Runs a relay until it is asked to stop. Must be called within a tokio runtime.
pub async fn run(options: RelayOptions, start: StartCarrier) -> Result<(), RelayError> {
    let clock = Clock;
    let say = options.say;
    let until = options.lasting.map(|lasting| Instant::now() + lasting);
    let mut signals = EndSignals::listen()?;
    let home = RelayHome::open(&options.home, options.passphrase)?;
    let token = home.token(&SystemRandom)?;
    let (token_path, audit) = (home.token_path(), home.audit());
    let (events, journal) = Events::new(clock, options.events.as_deref())?;
    let listen = match options.listen.or(options.config.listen) {
        Some(address) => vec![address],
        None => {
            let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()];
            // Some machines have only one of IPv4 and IPv6.
            let there = any.into_iter().filter(|ip| UdpSocket::bind((*ip, 0)).is_ok());
            there.map(|ip| SocketAddr::new(ip, PORT)).collect()
        }
    };
    let tenants = Arc::new(Tenants::start(TenantsConfig {
        home,
        organisations: options.config.organisations,
        listen: listen.clone(),
        start,
        events: Arc::clone(&events),
        clock,
    })?);
    let admin = Admin::new(Arc::clone(&tenants), Arc::clone(&events), audit, token, clock);
    let address = options.admin.or(options.config.admin).unwrap_or(ADMIN);
    let server = AdminServer::start(admin, address).await;
    let server = server.map_err(|error| RelayError::Admin { address, error })?;
    let api = server.address();
    say(&format!("admin API: http://{api}, token in {}", token_path.display()));
    for line in welcome(&tenants, &listen, api, &token_path)? {
        say(&line);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    events.publish(None, &RelayEvent::Started { admin: api.to_string(), version });

    let reason = work(&tenants, &mut signals, until).await;
    tenants.retire();
    let patience = Instant::now() + DRAIN_PATIENCE;
    while !tenants.are_drained() && Instant::now() < patience {
        tokio::select! {
            () = tokio::time::sleep(DRAIN_TURN) => {}
            () = signals.next() => break,
        }
    }
    drop(server);
    tenants.stop(reason);
    events.publish(None, &RelayEvent::Stopped { reason: reason.to_owned() });
    // The journal ends when everything that could write to it is dropped.
    drop((tenants, events));
    if let Some(journal) = journal {
        let finished = tokio::task::spawn_blocking(|| journal.finish()).await;
        finished.map_err(|_| RelayError::Failed)?.map_err(RelayError::Events)?;
    }
    Ok(())
}

/// Works until there is a reason to stop, and returns that reason.
async fn work(tenants: &Tenants, signals: &mut EndSignals, until: Option<Instant>) -> &'static str {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = async move {
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = ticks.tick() => tenants.tick(),
            () = signals.next() => return "signal",
            () = &mut end => return "time",
        }
    }
}

/// The lines that the person who has started the relay needs to read.
fn welcome(
    tenants: &Tenants,
    listen: &[SocketAddr],
    api: SocketAddr,
    token: &Path,
) -> Result<Vec<String>, RelayError> {
    let own = own_addresses(listen);
    let officer = |device: DeviceId, port: u16| {
        let port = if port == 0 { "PORT".to_owned() } else { port.to_string() };
        let mut line = format!("  an officer names it: hark charter relay add NAME {device}");
        for ip in &own {
            let address = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
            line += &format!(" --address {address}:{port}");
        }
        if own.is_empty() {
            line += &format!(" --address ADDRESS:{port}");
        }
        line
    };
    let mut lines = Vec::new();
    let served = tenants.list();
    for view in &served {
        let called = view.name.clone().unwrap_or_else(|| view.id.0.short());
        let address: Option<SocketAddr> = view.listen.first().and_then(|it| it.parse().ok());
        let port = address.map_or(0, |address| address.port());
        lines.push(format!("organisation {called}: device {}, UDP port {port}", view.device.0));
        if !view.named {
            lines.push(officer(view.device.0, port));
        }
    }
    if served.is_empty() {
        let (device, port) = tenants.next()?;
        let token = token.display();
        lines.extend([
            format!("no organisation yet; the first gets device {device}, UDP port {port}"),
            officer(device, port),
            "  and tells you the organisation's id: hark charter show".to_owned(),
            format!(
                "  you serve it: curl -H \"Authorization: Bearer $(cat {token})\" \
                 -d '{{\"id\": \"ID\"}}' http://{api}/api/v1/organisations"
            ),
        ]);
    }
    Ok(lines)
}

/// The addresses where others reach this machine, as far as the machine knows. Behind a router they
/// differ.
fn own_addresses(listen: &[SocketAddr]) -> Vec<IpAddr> {
    let known = listen.iter().filter_map(|address| {
        if !address.ip().is_unspecified() {
            return Some(address.ip());
        }
        // Nothing is sent: connecting only shows which local address would be used.
        let (any, outside): (IpAddr, IpAddr) = if address.is_ipv6() {
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
        } else {
            (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((outside, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    known.filter(|ip| !ip.is_unspecified()).collect()
}

/// The UDP port where the first organisation is served.
pub const PORT: u16 = 7300;

/// The address where the admin API listens. Only this machine reaches it, unless the operator
/// chooses another.
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7301);

/// How often metering is written.
const TICK: Duration = Duration::from_secs(60);

/// How long devices may take to move elsewhere before the relay ends. A second signal ends it at
/// once.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

const DRAIN_TURN: Duration = Duration::from_millis(50);
