use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    binary::{Outcome, hark, is_root, through},
    lan::{ip, run},
    scene::Talk,
};

/// Homes behind routers of their own, and the street between them, as network namespaces of this
/// machine. They are removed when this is dropped. Nothing in them reaches any other network.
///
/// ```text
///  home 0 ─── router 0 ───┐             ┌─── router 1 ─── home 1
///  10.1.0.2     192.0.2.11 ── street ── 192.0.2.12     10.2.0.2
///                            192.0.2.1
/// ```
pub struct Internet {
    street: String,
    homes: Vec<String>,
    routers: Vec<String>,
}

/// How a router translates its home's packets to its own address. Packets come in only from
/// endpoints to which a socket has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// A socket has one external port for all remote endpoints: its own port, unless another socket
    /// has it. This is what the kernel does by default.
    KeepsPorts,
    /// Each remote endpoint sees another port, which nobody can predict.
    RandomPorts,
}

impl Internet {
    /// Sets up one home behind each of these NATs. `None`, after printing why, if this process may
    /// not do so or the system lacks what is needed.
    pub fn lay(nats: &[Nat]) -> Option<Self> {
        if !is_root() {
            println!("skipped: only root can make network namespaces");
            return None;
        }
        // Several tests of one process may run at the same time.
        static LAID: AtomicU64 = AtomicU64::new(0);
        let laid = LAID.fetch_add(1, Ordering::Relaxed);
        let name = |what: &str| format!("hark-test-{}-{laid}-{what}", std::process::id());
        let mut this = Self { street: name("street"), homes: Vec::new(), routers: Vec::new() };
        if !ip(&["netns", "add", &this.street]) {
            println!("skipped: this system has no network namespaces");
            return None;
        }
        if !run("ip", &["netns", "exec", &this.street, "nft", "list", "ruleset"]) {
            println!("skipped: this system has no nftables");
            return None;
        }
        let street = this.street.clone();
        must(&street, &["link", "add", "road", "type", "bridge", "forward_delay", "0"]);
        must(&street, &["address", "add", "192.0.2.1/24", "dev", "road"]);
        must(&street, &["link", "set", "road", "up"]);
        for (nat, number) in nats.iter().zip(1..) {
            let (home, router) =
                (name(&format!("home-{number}")), name(&format!("router-{number}")));
            let port = port(number - 1);
            for namespace in [&home, &router] {
                assert!(ip(&["netns", "add", namespace]), "no {namespace}");
            }
            this.homes.push(home.clone());
            this.routers.push(router.clone());
            let outside = ["link", "add", &port, "type", "veth", "peer", "name", "outside"];
            must(&street, &[&outside[..], &["netns", &router]].concat());
            must(&street, &["link", "set", &port, "master", "road", "up"]);
            let inside = ["link", "add", "inside", "type", "veth", "peer", "name", "cable"];
            must(&router, &[&inside[..], &["netns", &home]].concat());
            let gate = format!("10.{number}.0.1");
            let addresses = [
                (&router, "outside", format!("192.0.2.{}/24", 10 + number)),
                (&router, "inside", format!("{gate}/24")),
                (&home, "cable", format!("10.{number}.0.2/24")),
            ];
            for (namespace, device, address) in addresses {
                must(namespace, &["address", "add", &address, "dev", device]);
                must(namespace, &["link", "set", device, "up"]);
            }
            must(&home, &["route", "add", "default", "via", &gate]);
            let forward = ["netns", "exec", &router, "sysctl", "-qw", "net.ipv4.ip_forward=1"];
            assert!(ip(&forward), "no forwarding");
            rules(&router, &nat.rules());
        }
        for namespace in this.namespaces() {
            must(namespace, &["link", "set", "lo", "up"]);
        }
        Some(this)
    }

    /// Runs `talk` in a home, listening at the program's default address.
    pub fn talk(&self, home: usize, talk: Talk) -> Talk {
        talk.listen(&["--no-mdns"]).through(&["ip", "netns", "exec", &self.homes[home]])
    }

    /// Runs `talk` on the street, where everybody reaches it.
    pub fn talk_outside(&self, talk: Talk) -> Talk {
        let listen = ["--no-mdns", "--listen", "192.0.2.1:7400"];
        talk.listen(&listen).through(&self.outside())
    }

    /// Runs `hark COMMAND …` to its end in a home, for the member whose state is in `folder`.
    pub fn run(&self, home: usize, folder: &Path, command: &[&str]) -> Outcome {
        let (name, rest) = command.split_first().expect("a command has a name");
        let mut hark = hark();
        hark.arg(name).arg("--home").arg(folder).args(rest);
        let mut command = through(&["ip", "netns", "exec", &self.homes[home]], &hark);
        command.output().expect("it starts").into()
    }

    /// Makes a home's router forward packets to this UDP port, as a person can configure it.
    pub fn forward(&self, home: usize, port: u16) {
        let [[a, b, c, d], _] = Self::addresses_of(home);
        let chain = "type nat hook prerouting priority -100; iifname outside";
        let rule = format!("udp dport {port} dnat to {a}.{b}.{c}.{d}:{port}");
        let router = &self.routers[home];
        rules(router, &format!("table ip forward {{ chain arrive {{ {chain} {rule}; }}; }}"));
    }

    /// The command prefix that runs a command on the street.
    pub fn outside(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.street]
    }

    /// A home's inside address, and the address that others see.
    pub fn addresses_of(home: usize) -> [[u8; 4]; 2] {
        let number = u8::try_from(home + 1).expect("few homes");
        [[10, number, 0, 2], [192, 0, 2, 10 + number]]
    }

    /// Blocks all packets between the routers, as a provider does that separates its customers.
    pub fn part_neighbours(&self) {
        let ports: Vec<_> = (0..self.homes.len()).map(port).collect();
        self.between("part", &ports.join(", "), &ports.join(", "), "drop");
    }

    /// Starts to count the packets between each home's router and the others.
    pub fn count_neighbours(&self) {
        let ports: Vec<_> = (0..self.homes.len()).map(port).collect();
        for port in &ports {
            self.between(&format!("{port}-out"), port, &ports.join(", "), "counter");
            self.between(&format!("{port}-in"), &ports.join(", "), port, "counter");
        }
    }

    /// How many packets have passed between a home's router and the others since
    /// [`Self::count_neighbours`].
    pub fn counted(&self, home: usize) -> u64 {
        let count = |direction: &str| {
            counted(&self.street, ["bridge", &format!("{}-{direction}", port(home))])
        };
        count("out") + count("in")
    }

    /// Starts to count the packets between each home and anything but the street's own machine.
    /// Packets to its router and to unused addresses count too.
    pub fn count_elsewhere(&self) {
        for router in &self.routers {
            rules(
                router,
                "table ip elsewhere { \
                 chain out { type filter hook prerouting priority raw; \
                 iifname inside ip daddr != 192.0.2.1 counter; }; \
                 chain in { type filter hook postrouting priority srcnat + 10; \
                 oifname inside ip saddr != 192.0.2.1 counter; }; }",
            );
        }
    }

    /// How many packets have passed between a home and anything but the street's own machine since
    /// [`Self::count_elsewhere`].
    pub fn counted_elsewhere(&self, home: usize) -> u64 {
        counted(&self.routers[home], ["ip", "elsewhere"])
    }

    /// Sets what happens to IPv4 packets that enter by one of these ports and leave by one of
    /// those.
    fn between(&self, table: &str, from: &str, to: &str, verdict: &str) {
        let which = format!("ether type ip iifname {{ {from} }} oifname {{ {to} }}");
        let chain = format!("type filter hook forward priority 0; {which} {verdict};");
        rules(&self.street, &format!("table bridge {table} {{ chain forward {{ {chain} }}; }}"));
    }

    fn namespaces(&self) -> impl Iterator<Item = &String> {
        self.homes.iter().chain(&self.routers).chain([&self.street])
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for name in self.namespaces() {
            ip(&["netns", "delete", name]);
        }
    }
}

impl Nat {
    /// The rules of a usual router: packets that nobody inside has asked for are dropped without an
    /// answer.
    fn rules(self) -> String {
        let masquerade = match self {
            Self::KeepsPorts => "masquerade",
            Self::RandomPorts => "masquerade random,fully-random",
        };
        format!(
            "table ip home {{ \
             chain leave {{ type nat hook postrouting priority 100; oifname outside {masquerade}; }}; \
             chain pass {{ type filter hook forward priority 0; \
             ct status dnat accept; iifname outside ct state != {{ established, related }} drop; }}; \
             chain arrive {{ type filter hook input priority 0; iifname outside drop; }}; }}"
        )
    }
}

/// The sum of a table's counters.
fn counted(namespace: &str, [family, table]: [&str; 2]) -> u64 {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "nft", "list", "table", family, table]);
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = text.split("packets ").skip(1).map(|rest| rest.split(' ').next()?.parse().ok());
    let counts: Option<Vec<u64>> = counts.collect();
    let counts = counts.filter(|counts| !counts.is_empty());
    counts.unwrap_or_else(|| panic!("{output:?}")).iter().sum()
}

/// The name of the street's end of a router's cable.
fn port(home: usize) -> String {
    format!("port{home}")
}

fn must(namespace: &str, arguments: &[&str]) {
    assert!(ip(&[&["-n", namespace], arguments].concat()), "{namespace}: {arguments:?}");
}

fn rules(namespace: &str, rules: &str) {
    assert!(run("ip", &["netns", "exec", namespace, "nft", rules]), "{namespace}: {rules}");
}
