use std::sync::{Arc, Mutex, PoisonError, mpsc};

use hark_commands::{Outcome, Request};
use hark_keys::Ticket;
use hark_node::{
    control::{Controlled, answer},
    event::StampedEvent,
    request::{CommandOutcome, RequestError},
    snapshot::{Changes, Command, Snapshot, TicketRequest},
};
use serde_json::Value;

/// Each request to the local API gets one answer, with its own id. A request that is not understood
/// has no effect at all.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let node = Node::default();
    let (told, subscription) = answer(&node, text);
    let subscribes = subscription.is_some();
    let request: Value = serde_json::from_str(text).unwrap_or_default();
    assert_eq!(told["id"], request["id"]);
    assert!(!subscribes || request["command"] == "subscribe");
    let done = told["ok"].as_bool().expect("an answer says whether it was done");
    assert_eq!(told["error"].is_string(), !done);
    let asked = node.asked.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(asked <= 1 && (!done || subscribes || asked == 1));
    asked == 1 || subscribes
}

/// A node that does whatever it is asked.
#[derive(Default)]
struct Node {
    asked: Mutex<usize>,
}

impl Node {
    fn count(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

impl Controlled for Node {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        None
    }

    fn command(&self, _: Command) -> Result<CommandOutcome, RequestError> {
        self.count();
        Ok(CommandOutcome::default())
    }

    fn subscribe(&self) -> mpsc::Receiver<StampedEvent> {
        unreachable!("the server subscribes")
    }

    fn changes(&self) -> Changes {
        unreachable!("the server asks for it")
    }

    fn charter(&self, _: Request) -> Result<Outcome, RequestError> {
        self.count();
        Err(RequestError::Starting)
    }

    fn ticket(&self, request: TicketRequest) -> Result<Ticket, RequestError> {
        self.count();
        assert!(request.lasting.is_none_or(|it| it.as_secs() > 0));
        Err(RequestError::Starting)
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    [
        ("mute", r#"{"id": 1, "command": "mute", "on": true}"#),
        ("talk", r#"{"id": "two", "command": "ptt", "down": true}"#),
        ("subscribe", r#"{"id": null, "command": "subscribe"}"#),
        ("snapshots", r#"{"id": 2, "command": "subscribe", "snapshots": true}"#),
        ("invite", r#"{"id": 3, "command": "invite", "uses": 5, "expires_secs": 3600}"#),
        ("charter", r#"{"id": 4, "command": "charter", "request": "show"}"#),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .to_vec()
}
