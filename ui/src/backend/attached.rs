//! A node in another process, by its local API.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::Instant,
};

use hark_node::{
    control::{Client, ControlError},
    event::StampedEvent,
    snapshot::{Snapshot, TalkTo},
};
use serde_json::{Value, json};

use super::{Backend, KeyEdge, ORDERS_MAX, Repaint, Scene, Stage, WindowOrder};

/// A node in another process.
pub struct Attached {
    stage: Arc<Stage>,
    /// Where the orders and keys of each organisation go, by its id.
    doors: BTreeMap<String, Door>,
}

struct Door {
    orders: SyncSender<WindowOrder>,
    /// Keys have a connection of their own, so that no order delays them. Sending waits for the
    /// node's answer.
    keys: Mutex<Client>,
}

impl Attached {
    /// Attaches to a running node. Each organisation is described by its id and by what the node
    /// has written into the organisation's `control.json`. Fails if the node of any of them does
    /// not answer.
    pub fn connect(
        organisations: &[(String, String)],
        repaint: Repaint,
    ) -> Result<Arc<Self>, ControlError> {
        let stage = Arc::new(Stage::new(repaint));
        let snapshots: Arc<Mutex<BTreeMap<usize, Arc<Snapshot>>>> = Arc::default();
        let mut doors = BTreeMap::new();
        for (at, (id, description)) in organisations.iter().enumerate() {
            let connect = || Client::connect(description);
            let (mut events, mut orders, keys) = (connect()?, connect()?, connect()?);
            events.request(json!({"command": "subscribe", "snapshots": true}))?;
            let (sender, received) = sync_channel(ORDERS_MAX);
            doors.insert(id.clone(), Door { orders: sender, keys: Mutex::new(keys) });
            let (stage, snapshots) = (Arc::clone(&stage), Arc::clone(&snapshots));
            let told = Arc::clone(&stage);
            std::thread::spawn(move || {
                loop {
                    match events.next_event() {
                        Ok(event) => show(&told, &snapshots, at, event),
                        Err(error) => {
                            let why = error.to_string();
                            told.change(|scene| scene.ended = Some(why));
                            return;
                        }
                    }
                }
            });
            let id = id.clone();
            std::thread::spawn(move || {
                for order in received {
                    carry_out(&stage, &id, &mut orders, order);
                }
            });
        }
        Ok(Arc::new(Self { stage, doors }))
    }
}

impl Backend for Attached {
    fn scene(&self) -> Arc<Scene> {
        self.stage.scene()
    }

    fn order(&self, organisation: &str, order: WindowOrder) {
        let Some(door) = self.doors.get(organisation) else { return };
        if door.orders.try_send(order).is_err() {
            self.stage.change(|scene| scene.tell("the node is busy".to_owned(), true));
        }
    }

    fn press(&self, organisation: &str, to: Option<&TalkTo>, edge: KeyEdge) {
        let Some(door) = self.doors.get(organisation) else { return };
        let mut keys = door.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = keys.request(json!(edge.command(to))) {
            self.stage.change(|scene| scene.tell(error.to_string(), true));
        }
    }

    fn tell(&self, line: &str) {
        self.stage.change(|scene| scene.tell(line.to_owned(), true));
    }

    fn note(&self, line: &str) {
        self.stage.change(|scene| scene.tell(line.to_owned(), false));
    }

    fn outlives_window(&self) -> bool {
        true
    }

    fn close(&self) {}
}

/// Takes in what the node has sent about the organisation of this number.
fn show(
    stage: &Stage,
    snapshots: &Mutex<BTreeMap<usize, Arc<Snapshot>>>,
    at: usize,
    mut event: Value,
) {
    if event["event"] == "snapshot" {
        match serde_json::from_value(event["snapshot"].take()) {
            Ok(snapshot) => {
                let mut all = snapshots.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(at, Arc::new(snapshot));
                let all: Vec<_> = all.values().cloned().collect();
                stage.change(|scene| scene.set_snapshots(Instant::now(), all.into_iter()));
            }
            Err(error) => {
                tracing::warn!(%error, "a snapshot of another version");
                stage.change(|scene| scene.ended = Some(OTHER_VERSION.to_owned()));
            }
        }
        return;
    }
    // Each connection is told of all organisations; one of them passes it on. Events of a newer
    // version mean nothing here.
    if at != 0 {
        return;
    }
    if let ("notice", Some(text)) =
        (event["event"].as_str().unwrap_or_default(), event["text"].as_str())
    {
        stage.change(|scene| scene.tell(text.to_owned(), false));
    } else if let Ok(event) = serde_json::from_value::<StampedEvent>(event) {
        stage.change(|scene| scene.note(&event));
    }
}

fn carry_out(stage: &Stage, organisation: &str, client: &mut Client, order: WindowOrder) {
    let request = match order {
        WindowOrder::Command(command) => json!(command),
        WindowOrder::Charter(request) => json!({"command": "charter", "request": request}),
        WindowOrder::Ticket(request) => json!({
            "command": "invite",
            "uses": request.uses,
            "expires_secs": request.lasting.map(|it| it.as_secs()),
            "role": request.role,
            "device": request.device,
            "ask": request.ask,
        }),
    };
    match client.request(request) {
        Ok(answer) => {
            if let Some(note) = answer["note"].as_str() {
                stage.change(|scene| scene.tell(note.to_owned(), false));
            }
            if let Some(ticket) = answer["ticket"].as_str().and_then(|it| it.parse().ok()) {
                stage.change(|scene| scene.ticket = Some((organisation.to_owned(), ticket)));
            }
        }
        Err(error) => stage.change(|scene| scene.tell(error.to_string(), true)),
    }
}

/// What a person is told who shows an older or newer node.
const OTHER_VERSION: &str =
    "the node that runs is of another version of Hark: end it (`hark ctl quit`), and start again";

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the window said "Starting …" for good.
    #[test]
    fn a_node_of_another_version_is_told() {
        let stage = Stage::new(Arc::new(|| {}));
        let event = json!({"event": "snapshot", "snapshot": {"name": "Kestrel"}});
        show(&stage, &Mutex::default(), 0, event);
        assert_eq!(stage.scene().ended.as_deref(), Some(OTHER_VERSION));
    }
}
