//! A quinn connection in the form that libp2p needs: a source of streams.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use super::{
    fast::DatagramSender,
    links::{CloseCode, Link, Links},
};

type Pair = Result<(SendStream, RecvStream), ConnectionError>;

/// The half of a link that belongs to libp2p.
///
/// Its first [`StreamMuxer::poll`] shows that the swarm has taken the connection, since a
/// connection that a behaviour denies is only ever closed. The link is handed to voice at that
/// moment.
pub struct Muxer {
    connection: Connection,
    link: Arc<Link>,
    waiting: Option<Arc<Links>>,
    inbound: BoxFuture<'static, Pair>,
    outbound: Option<BoxFuture<'static, Pair>>,
}

impl Muxer {
    pub(super) fn new(link: Arc<Link>, links: Arc<Links>) -> Self {
        let connection = link.connection().clone();
        let inbound = accept(connection.clone());
        Self { connection, link, waiting: Some(links), inbound, outbound: None }
    }

    #[cfg(test)]
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl StreamMuxer for Muxer {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        let pair = ready!(self.inbound.poll_unpin(cx));
        self.inbound = accept(self.connection.clone());
        Poll::Ready(pair.map(|pair| Stream::new(pair, &self.link)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        let connection = self.connection.clone();
        let opening =
            self.outbound.get_or_insert_with(|| async move { connection.open_bi().await }.boxed());
        let pair = ready!(opening.poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(pair.map(|pair| Stream::new(pair, &self.link)))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.link.close(CloseCode::Normal);
        Poll::Ready(Ok(()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        if let Some(links) = self.waiting.take() {
            links.admit(Arc::clone(&self.link));
        }
        self.link.nudged().register(cx.waker());
        // A change of the peer's address concerns quinn only; libp2p has no use for it.
        Poll::Pending
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        // Otherwise the link's own handle would keep a connection alive that the swarm has dropped.
        self.link.close(CloseCode::Normal);
    }
}

impl fmt::Debug for Muxer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Muxer").finish_non_exhaustive()
    }
}

fn accept(connection: Connection) -> BoxFuture<'static, Pair> {
    async move { connection.accept_bi().await }.boxed()
}

/// A bidirectional stream.
#[derive(Debug)]
pub struct Stream {
    send: SendStream,
    receive: RecvStream,
    outlet: Arc<DatagramSender>,
}

impl Stream {
    fn new((send, receive): (SendStream, RecvStream), link: &Link) -> Self {
        Self { send, receive, outlet: Arc::clone(link.outlet()) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buffer));
        self.outlet.follow();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outlet.follow();
        AsyncWrite::poll_close(Pin::new(&mut self.send), cx)
    }
}
