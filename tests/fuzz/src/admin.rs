use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, sync::LazyLock};

use hark_keys::SeededRandom;
use hark_node::{clock::Clock, token::ApiToken};
use hark_relay::{
    admin::Admin,
    event::Events,
    home::RelayHome,
    tenants::{Tenants, TenantsConfig},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    input::{Input, piece},
    world::block_on,
};

/// Any bytes on a connection to a relay's admin API. Each answer is an HTTP response, a client
/// without the token learns nothing, and no request ends in an internal error.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let shows_token = mode % MODES == REQUEST;
    let sent = if shows_token {
        // Exactly one whole request, so that its answer is the last.
        let word = |text: &[u8]| text.iter().map(|byte| (*byte).max(b'!')).collect::<Vec<_>>();
        let [method, path] = [word(input.piece()), word(input.piece())];
        let body = input.rest();
        let head = format!(
            " HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            RELAY.token,
            body.len()
        );
        [&method[..], b" ", &path, head.as_bytes(), body].concat()
    } else {
        input.rest().to_vec()
    };
    let answer = block_on(async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        Arc::clone(&RELAY.admin).converse(server, (Ipv4Addr::LOCALHOST, 4000).into());
        // The request may have been refused before its end.
        let _ = client.write_all(&sent).await;
        if !shows_token {
            // Requests that may be complete are answered before the server sees the end of the
            // stream.
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            let _ = client.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        answer
    });
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("internal error"), "{text}");
    assert!(answer.is_empty() || text.starts_with("HTTP/1."), "{text}");
    if !shows_token {
        assert!(!text.contains("\"api\""), "without a token: {text}");
    }
    text.lines().next().is_some_and(|line| line.contains(" 200 "))
}

struct Relay {
    admin: Arc<Admin>,
    token: String,
    /// The folder of the relay's files, which must exist as long as the program runs.
    _home: tempfile::TempDir,
}

/// A relay that serves no organisation and cannot: every start of a carrier is refused.
static RELAY: LazyLock<Relay> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let home = RelayHome::open(folder.path(), Box::new(|| None)).expect("a home");
    let token = ApiToken::generate(&SeededRandom::new(1));
    let audit = home.audit();
    let (events, _) = Events::new(Clock, None).expect("no file");
    let tenants = Tenants::start(TenantsConfig {
        home,
        organisations: BTreeMap::new(),
        listen: vec!["192.0.2.1:7300".parse().expect("an address")],
        start: Box::new(|_| Err(hark_relay::error::RelayError::Failed)),
        events: Arc::clone(&events),
        clock: Clock,
    });
    let tenants = Arc::new(tenants.expect("there is nobody to start"));
    let text = token.text().to_owned();
    let admin = Admin::new(tenants, events, audit, token, Clock);
    Relay { admin, token: text, _home: folder }
});

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = |method: &str, path: &str, body: &str| {
        [&[REQUEST][..], &piece(method.as_bytes()), &piece(path.as_bytes()), body.as_bytes()]
            .concat()
    };
    let raw = b"GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    vec![
        ("version", request("GET", "/api/v1/version", "")),
        ("audit", request("GET", "/api/v1/audit?last=5", "")),
        ("organisations", request("GET", "/api/v1/organisations", "")),
        ("drain", request("POST", "/api/v1/drain", "{}")),
        ("metrics", request("GET", "/metrics", "")),
        ("health", [&[RAW][..], raw].concat()),
    ]
}

/// The input is the method, path and body of a request with the right token.
const REQUEST: u8 = 0;
/// The input is the bytes that arrive on the connection.
const RAW: u8 = 1;
const MODES: u8 = 2;

/// How many turns the server may take before a client that has sent everything closes the
/// connection.
const TURNS: usize = 8;
