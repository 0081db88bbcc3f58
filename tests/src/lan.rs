use std::process::Command;

use crate::{binary::is_root, scene::Talk};

/// Two machines on one cable, as network namespaces. They are removed when this is dropped.
pub struct Lan {
    names: [String; 2],
}

impl Lan {
    /// Sets up the cable, with addresses from `prefixes`; the machine's number is appended to each.
    /// `None`, after printing why, if this process may not do so.
    pub fn lay(prefixes: &[&str]) -> Option<Self> {
        if !is_root() {
            println!("skipped: only root can make network namespaces");
            return None;
        }
        let names = [1, 2].map(|number| format!("hark-test-{}-{number}", std::process::id()));
        let lan = Self { names };
        let [first, second] = &lan.names;
        let made = ip(&["netns", "add", first]) && ip(&["netns", "add", second]);
        if !made {
            println!("skipped: this system has no network namespaces");
            return None;
        }
        let link = ["link", "add", "cable", "netns", first, "type", "veth"];
        let peer = ["peer", "name", "cable", "netns", second];
        assert!(ip(&[&link[..], &peer].concat()), "no cable");
        for (name, number) in lan.names.iter().zip(1..) {
            for prefix in prefixes {
                let address =
                    format!("{prefix}{number}/{}", if prefix.contains(':') { 64 } else { 24 });
                let add = ["-n", name, "address", "add", &address, "dev", "cable"];
                // Without the check for duplicate addresses, an address is usable at once.
                let nodad: &[&str] = if prefix.contains(':') { &["nodad"] } else { &[] };
                assert!(ip(&[&add[..], nodad].concat()), "no address {address}");
            }
            assert!(ip(&["-n", name, "link", "set", "lo", "up"]), "no loopback");
            assert!(ip(&["-n", name, "link", "set", "cable", "up"]), "no cable");
        }
        Some(lan)
    }

    /// Unplugs the cable of machine 0 or 1, or plugs it in again.
    pub fn plug(&self, machine: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        assert!(ip(&["-n", &self.names[machine], "link", "set", "cable", state]), "cable {state}");
    }

    /// Runs `talk` on machine 0 or 1, listening at the program's default address.
    pub fn talk(&self, machine: usize, talk: Talk) -> Talk {
        talk.listen(&[]).through(&["ip", "netns", "exec", &self.names[machine]])
    }

    /// Loses this percentage of all packets on their way to either machine.
    pub fn lose(&self, percent: u32) {
        for name in &self.names {
            let rules = format!(
                "table inet loss {{ chain input {{ type filter hook input priority 0; \
                 iifname cable numgen random mod 100 < {percent} drop; }}; }}"
            );
            assert!(run("ip", &["netns", "exec", name, "nft", &rules]), "no rules");
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "delete", name]);
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) -> bool {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    let worked = output.as_ref().is_ok_and(|output| output.status.success());
    if !worked {
        println!("{program} {arguments:?}: {output:?}");
    }
    worked
}
