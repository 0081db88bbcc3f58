//! Events over a WebSocket, as they happen.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, broadcast::error::RecvError};

use super::{Admin, server::failure};

pub(super) async fn answer(
    State(admin): State<Arc<Admin>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let Ok(place) = Arc::clone(&admin.sockets).try_acquire_owned() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "too many listen already");
    };
    upgrade
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .on_upgrade(move |socket| serve(admin, socket, place))
}

async fn serve(admin: Arc<Admin>, mut socket: WebSocket, _place: OwnedSemaphorePermit) {
    let mut events = admin.events.subscribe();
    let mut pings = tokio::time::interval(PING_INTERVAL);
    loop {
        let message = tokio::select! {
            event = events.recv() => match event {
                Ok(line) => Message::Text((&*line).into()),
                Err(RecvError::Lagged(lost)) => {
                    Message::Text(json!({"event": "lost", "events": lost}).to_string().into())
                }
                Err(RecvError::Closed) => return,
            },
            _ = pings.tick() => Message::Ping(Vec::new().into()),
            heard = socket.recv() => match heard {
                // Clients ask nothing here; pings are answered by the layer below.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        // A client that does not read is disconnected.
        let sent = tokio::time::timeout(SEND_PATIENCE, socket.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// How many clients may listen at once; further ones are refused.
pub(super) const SOCKETS_MAX: usize = 16;

/// The largest length in bytes of a message from a client. None is expected.
const MESSAGE_LIMIT: usize = 1024;

const PING_INTERVAL: Duration = Duration::from_secs(30);

const SEND_PATIENCE: Duration = Duration::from_secs(10);
