use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use hark_node::places::{HeldPlace, Places};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};

use super::{Admin, api, door, metrics, socket};

/// The running API. It ends when this is dropped.
pub struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// The address from which a request comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) IpAddr);

impl AdminServer {
    /// Listens on `address`. Must be called within a tokio runtime.
    pub async fn start(admin: Arc<Admin>, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(listen(listener, router(admin))) })
    }

    /// The address where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Admin {
    /// Serves one client over `stream`, which comes from `remote`, on a task of its own. Must be
    /// called within a tokio runtime.
    pub fn converse<S>(self: Arc<Self>, stream: S, remote: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Places::new(1, 1).serve(|place| serve(stream, remote, place, router(self)));
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(admin: Arc<Admin>) -> Router {
    let inside = Router::new()
        .route("/metrics", get(metrics::answer))
        .route("/api/v1/events", get(socket::answer))
        .route("/api/v1/{*path}", any(api::answer))
        .fallback(|| async { failure(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(from_fn_with_state(Arc::clone(&admin), enter));
    Router::new()
        .route("/healthz", get(health))
        .method_not_allowed_fallback(|| async {
            failure(StatusCode::METHOD_NOT_ALLOWED, "this is only there to be read")
        })
        .merge(inside)
        .with_state(admin)
}

/// The response that reports a failure to the client.
pub(super) fn failure(status: StatusCode, error: &str) -> Response {
    answer(status, json!({"error": error}).to_string())
}

/// A response in JSON.
pub(super) fn answer(status: StatusCode, text: String) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], text + "\n").into_response()
}

/// Accepts connections, a bounded number at a time.
async fn listen(listener: TcpListener, router: Router) {
    let places = Places::new(UNPROVEN_MAX, CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                places.serve(|place| serve(stream, remote, place, router.clone()));
            }
            Err(error) => {
                // The cause, such as too many open files, usually passes.
                tracing::warn!(%error, "no connection to the admin API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S>(stream: S, remote: SocketAddr, place: HeldPlace, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let place = Arc::new(place);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Remote(remote.ip()));
        request.extensions_mut().insert(Arc::clone(&place));
        let answered = hyper::service::Service::call(
            &TowerToHyperService::new(router.clone()),
            request.map(Body::new),
        );
        async move {
            let late = || failure(StatusCode::REQUEST_TIMEOUT, "that took too long");
            let answered = tokio::time::timeout(ANSWER_PATIENCE, answered).await;
            Ok::<_, Infallible>(answered.map_or_else(|_| late(), |Ok(answer)| answer))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%remote, %error, "connection to the admin API");
    }
}

async fn health(State(admin): State<Arc<Admin>>) -> Response {
    match admin.tenants.ended().as_slice() {
        [] => answer(StatusCode::OK, json!({"status": "ok"}).to_string()),
        // Which organisations they are is not public.
        _ => failure(StatusCode::SERVICE_UNAVAILABLE, "an organisation is not carried"),
    }
}

/// Lets requests with the token through.
async fn enter(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let shown = door::is_shown(&admin.token, request.headers());
    if shown == Some(true) {
        let place = request.extensions().get::<Arc<HeldPlace>>();
        if place.is_some_and(|place| place.prove()) {
            return next.run(request).await;
        }
        return failure(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
    }
    admin.refused.fetch_add(1, Ordering::Relaxed);
    let from = request.extensions().get::<Remote>().map(|remote| remote.0);
    let too_often = from.is_none_or(|from| admin.failures.add(admin.clock.now(), from));
    if too_often {
        let mut refusal = failure(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens");
        let seconds = HeaderValue::from(door::WINDOW.as_secs());
        refusal.headers_mut().insert(header::RETRY_AFTER, seconds);
        return refusal;
    }
    tracing::warn!(?from, "somebody came to the admin API without its token");
    let what =
        if shown.is_some() { "wrong token" } else { "no token: Authorization: Bearer TOKEN" };
    let mut refusal = failure(StatusCode::UNAUTHORIZED, what);
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

/// How many connections may be open at once that have sent the token; requests on further ones are
/// refused.
const CONNECTIONS_MAX: usize = 64;

/// How many connections may be open at once that have not sent the token, such as those of health
/// checks. When another one arrives, the oldest is closed, since anybody can open any number of
/// them.
const UNPROVEN_MAX: usize = 64;

/// How long the head of a request may take to arrive.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// The largest length of the head of a request in bytes; a longer one is refused.
const HEAD_LIMIT: usize = 16 * 1024;

/// How long a request may take in total.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
