//! Snapshots made up for tests, pictures and benchmarks.

use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Backend, KeyEdge, Scene, WindowOrder};
use hark_keys::DeviceKey;
use hark_node::{
    device::{DeviceInfo, DeviceList},
    event::{DeviceText, Path, PeerStats},
    snapshot::{
        CodingView, KeyView, MasterVolumes, NetView, PeerView, Snapshot, TalkTo, TransmitMode,
        Verification,
    },
};

/// A node that only notes what it is asked for.
pub struct FakeNode {
    scene: Mutex<Arc<Scene>>,
    orders: Mutex<Vec<(String, WindowOrder)>>,
    pressed: Mutex<Vec<(Option<TalkTo>, KeyEdge)>>,
    told: Mutex<Vec<String>>,
}

impl FakeNode {
    /// A node that shows this.
    pub fn new(scene: Scene) -> Self {
        Self {
            scene: Mutex::new(Arc::new(scene)),
            orders: Mutex::default(),
            pressed: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Shows something else from now on.
    pub fn show(&self, scene: Scene) {
        *self.scene.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(scene);
    }

    /// What was asked for since the last call, each with the id of the organisation.
    pub fn take_orders(&self) -> Vec<(String, WindowOrder)> {
        take(&self.orders)
    }

    /// The presses and releases since the last call.
    pub fn take_pressed(&self) -> Vec<(Option<TalkTo>, KeyEdge)> {
        take(&self.pressed)
    }

    /// What the person was told since the last call.
    pub fn take_told(&self) -> Vec<String> {
        take(&self.told)
    }
}

fn take<T: Default>(mutex: &Mutex<T>) -> T {
    std::mem::take(&mut *mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Backend for FakeNode {
    fn scene(&self) -> Arc<Scene> {
        Arc::clone(&self.scene.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn order(&self, organisation: &str, order: WindowOrder) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push((organisation.to_owned(), order));
    }

    fn press(&self, _: &str, to: Option<&TalkTo>, edge: KeyEdge) {
        let mut pressed = self.pressed.lock().unwrap_or_else(PoisonError::into_inner);
        pressed.push((to.cloned(), edge));
    }

    fn tell(&self, line: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }

    fn note(&self, line: &str) {
        self.tell(line);
    }

    fn outlives_window(&self) -> bool {
        false
    }

    fn close(&self) {}
}

/// An organisation without nets and peers, in front.
pub fn snapshot() -> Snapshot {
    Snapshot {
        device: device(1),
        name: "Wren".to_owned(),
        organisation: "Kestrel Guard".to_owned(),
        organisation_id: "kestrel-guard".to_owned(),
        front: true,
        silenced: Vec::new(),
        unheard: false,
        presets: Vec::new(),
        all_presets: Vec::new(),
        nets: Vec::new(),
        master: MasterVolumes::default(),
        profile: "default".to_owned(),
        profiles: vec!["default".to_owned(), "pilot".to_owned()],
        talk_to: Vec::new(),
        keys: Vec::new(),
        transmit: TransmitMode::Ptt,
        muted: false,
        deafened: false,
        away: false,
        transmitting: false,
        level_dbfs: -90.0,
        copies: 0,
        processing: Default::default(),
        coding: CodingView { bitrate_kbps: 48.0, frame_ms: 10.0, ..Default::default() },
        cues: Default::default(),
        side_tone: Default::default(),
        cpu_percent: 0.0,
        peers: Vec::new(),
        other_members: 0,
        roster: Vec::new(),
        unconfirmed: Vec::new(),
        router: None,
        checked: Vec::new(),
        sanctions: Vec::new(),
        waiting: Vec::new(),
        trouble: None,
    }
}

/// A net that is heard. A `/` in its name puts it beneath another net.
pub fn net(path: &str) -> NetView {
    let name = path.rsplit('/').next().unwrap_or(path);
    NetView {
        name: name.to_owned(),
        path: path.to_owned(),
        id: format!("id-{path}"),
        parent: path.rsplit_once('/').map(|(above, _)| format!("id-{above}")),
        listening: true,
        talked_to: false,
        kept: false,
        may_speak: true,
        volume: 1.0,
        pan: 0.0,
        muted: false,
        radio: false,
        priority: 0,
        members: Vec::new(),
        talking: Vec::new(),
    }
}

/// A device of a member that is reached directly.
pub fn peer(number: u16, name: &str) -> PeerView {
    PeerView {
        name: name.to_owned(),
        member: format!("member-{number}"),
        roles: Vec::new(),
        silenced: false,
        muted: false,
        deafened: false,
        away: false,
        whispers: false,
        verification: Verification::Unverified,
        away_secs: None,
        former: false,
        address: "/ip4/192.0.2.7/udp/4000/quic-v1".to_owned(),
        reachable: true,
        why_relayed: None,
        talking: false,
        talking_on: Vec::new(),
        level_dbfs: -90.0,
        volume: 1.0,
        stats: PeerStats {
            device: device(number),
            path: Path::Direct,
            rtt_ms: 24.0,
            loss_percent: 0.2,
            jitter_ms: 2.0,
            playout_delay_ms: 30.0,
            frames_received: 0,
            frames_concealed: 0,
            frames_late: 0,
            frames_recovered: 0,
            samples_inserted: 0,
            samples_removed: 0,
        },
    }
}

/// An operation: four nets, two talkers, and this person on the air to none of them.
pub fn operation() -> Snapshot {
    let mut shown = snapshot();
    shown.nets = ["Command", "Flight", "Flight/Alpha", "Ground", "Logistics"].map(net).into();
    let names = ["Kestrel", "Heron", "Sable", "Vesper", "Osprey", "Merlin", "Lark"];
    shown.peers = names.iter().zip(2..).map(|(name, number)| peer(number, name)).collect();
    let on = |nets: &mut [NetView], at: usize, members: &[&str]| {
        nets[at].members = members.iter().map(|it| (*it).to_owned()).collect();
    };
    on(&mut shown.nets, 0, &["Kestrel", "Vesper"]);
    on(&mut shown.nets, 1, &["Kestrel", "Heron", "Osprey"]);
    on(&mut shown.nets, 2, &["Heron", "Osprey"]);
    on(&mut shown.nets, 3, &["Sable", "Merlin"]);
    on(&mut shown.nets, 4, &["Lark"]);
    shown.nets[0].priority = 200;
    shown.nets[0].may_speak = false;
    shown.nets[1].talked_to = true;
    shown.nets[1].talking = vec!["Kestrel".to_owned()];
    shown.nets[2].volume = 0.6;
    shown.nets[2].pan = -0.5;
    shown.nets[3].muted = true;
    shown.nets[3].talking = vec!["Sable".to_owned()];
    shown.nets[4].listening = false;
    shown.talk_to = vec!["Flight".to_owned()];
    for (at, net) in [(0, "Flight"), (2, "Ground")] {
        let peer = &mut shown.peers[at];
        peer.talking = true;
        peer.level_dbfs = -18.0;
        peer.talking_on = vec![net.to_owned()];
    }
    shown.peers[0].roles = vec!["Officer".to_owned()];
    shown.peers[1].stats.path = Path::Punched;
    shown.peers[3].stats.path = Path::Relay;
    shown.peers[3].why_relayed = Some("no direct way was found".to_owned());
    shown.peers[3].stats.rtt_ms = 71.0;
    shown.peers[4].muted = true;
    shown.peers[5].stats.loss_percent = 8.0;
    shown.peers[6].reachable = false;
    shown.peers[6].away_secs = Some(95);
    shown.peers[6].address.clear();
    shown.keys = vec![KeyView {
        key: "lead".to_owned(),
        to: TalkTo { nets: vec!["Command".to_owned(), "Flight".to_owned()], ..TalkTo::default() },
        planned: false,
        down: false,
    }];
    shown
}

/// Two microphones and two loudspeakers, the headset being the default.
pub fn sound_devices() -> DeviceList {
    let device = |name: &str, default| DeviceInfo {
        name: name.to_owned(),
        id: name.to_lowercase().replace(' ', "-"),
        default,
        rate_hz: None,
    };
    DeviceList {
        host: "PulseAudio".to_owned(),
        microphones: vec![device("USB Headset", true), device("Desk Microphone", false)],
        speakers: vec![device("USB Headset", true), device("Monitor Speakers", false)],
    }
}

fn device(number: u16) -> DeviceText {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&number.to_le_bytes());
    DeviceText(DeviceKey::from_secret(&secret).id())
}
