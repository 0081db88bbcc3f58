use std::sync::LazyLock;

use hark_keys::{DeviceId, DeviceKey, SeededRandom};
use hark_mesh::{
    charter::{CertificateChain, Charter},
    hello::Presence,
};

/// An organisation and three of its devices, the same in each run.
pub(crate) struct World {
    pub(crate) charter: Charter,
    /// The root key.
    pub(crate) founder: Member,
    /// Admitted by the founder.
    pub(crate) bob: Member,
    /// Admitted by Bob.
    pub(crate) cid: Member,
}

/// A device with all that it needs to be a member.
pub(crate) struct Member {
    pub(crate) key: DeviceKey,
    pub(crate) chain: CertificateChain,
    pub(crate) presence: Presence,
}

/// Made once, as signatures cost more than what is tested with them.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    let [founder, bob, cid] = [1, 2, 3].map(key);
    let charter = Charter::found("Squad", "Voice", &founder, &SeededRandom::new(1));
    let root = charter.found_chain(&founder).expect("the founder is a root key");
    let chain = charter.issue(&founder, &root, bob.id()).expect("the founder admits");
    let far = charter.issue(&bob, &chain, cid.id()).expect("a member admits");
    World {
        charter,
        founder: Member { key: founder, chain: root, presence: presence(1, "Ann") },
        bob: Member { key: bob, chain, presence: presence(2, "Bob") },
        cid: Member { key: cid, chain: far, presence: presence(3, "Cid") },
    }
});

/// The device that the targets call `number`.
pub(crate) fn key(number: u8) -> DeviceKey {
    DeviceKey::from_secret(&[number; 32])
}

/// Its id.
pub(crate) fn device(number: u8) -> DeviceId {
    key(number).id()
}

fn presence(incarnation: u64, name: &str) -> Presence {
    let addresses = ["192.0.2.1:7000", "[2001:db8::1]:7000"]
        .map(|text| text.parse().expect("an address"))
        .to_vec();
    Presence { incarnation, name: name.to_owned(), addresses }
}
