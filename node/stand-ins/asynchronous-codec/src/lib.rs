//! Frames in byte streams, with the interface of `asynchronous-codec` 0.7 as far as libp2p uses it.
//!
//! That crate keeps 16 KiB of buffers for each stream, used or not. With gossipsub's two streams on
//! each link, that is a third of the memory that a relay would need for a member. Here a buffer
//! exists only while something is in it.

#![forbid(unsafe_code)]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

pub use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite, Sink, Stream};

/// Turns bytes into frames.
pub trait Decoder {
    /// The type of the frames.
    type Item;
    /// Why bytes do not form a frame.
    type Error: From<io::Error>;

    /// Takes the next frame from the front of `bytes`; `None` if more bytes must arrive first.
    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error>;

    /// Like [`Self::decode`], when no more bytes will arrive.
    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        self.decode(bytes)
    }
}

/// Turns frames into bytes.
pub trait Encoder {
    /// The type of the frames.
    type Item<'a>;
    /// Why a frame cannot be encoded.
    type Error: From<io::Error>;

    /// Appends the frame to `bytes`.
    fn encode(&mut self, item: Self::Item<'_>, bytes: &mut BytesMut) -> Result<(), Self::Error>;
}

/// Frames that arrive on a stream.
#[derive(Debug)]
pub struct FramedRead<T, D> {
    io: T,
    decoder: D,
    came: BytesMut,
}

impl<T: AsyncRead, D: Decoder> FramedRead<T, D> {
    /// Reads frames from `io`.
    pub fn new(io: T, decoder: D) -> Self {
        Self { io, decoder, came: BytesMut::new() }
    }
}

impl<T: AsyncRead + Unpin, D: Decoder + Unpin> Stream for FramedRead<T, D> {
    type Item = Result<D::Item, D::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { io, decoder, came } = &mut *self;
        poll_decode(io, decoder, came, cx)
    }
}

/// Frames that are sent on a stream.
#[derive(Debug)]
pub struct FramedWrite<T, E> {
    io: T,
    encoder: E,
    waits: BytesMut,
}

impl<T: AsyncWrite, E: Encoder> FramedWrite<T, E> {
    /// Sends frames on `io`.
    pub fn new(io: T, encoder: E) -> Self {
        Self { io, encoder, waits: BytesMut::new() }
    }
}

impl<T: AsyncWrite + Unpin, E: Encoder + Unpin> Sink<E::Item<'_>> for FramedWrite<T, E> {
    type Error = E::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let Self { io, waits, .. } = &mut *self;
        poll_write_down_to(WAITING_MAX, io, waits, cx).map_err(Into::into)
    }

    fn start_send(mut self: Pin<&mut Self>, item: E::Item<'_>) -> Result<(), E::Error> {
        let Self { encoder, waits, .. } = &mut *self;
        encoder.encode(item, waits)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let Self { io, waits, .. } = &mut *self;
        ready!(poll_write_down_to(0, io, waits, cx))?;
        Pin::new(io).poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_close(cx).map_err(Into::into)
    }
}

/// Frames in both directions.
#[derive(Debug)]
pub struct Framed<T, U> {
    io: T,
    codec: U,
    came: BytesMut,
    waits: BytesMut,
}

impl<T: AsyncRead + AsyncWrite, U: Decoder + Encoder> Framed<T, U> {
    /// Reads frames from `io` and sends frames on it.
    pub fn new(io: T, codec: U) -> Self {
        Self { io, codec, came: BytesMut::new(), waits: BytesMut::new() }
    }
}

impl<T: AsyncRead + Unpin, U: Decoder + Unpin> Stream for Framed<T, U> {
    type Item = Result<U::Item, U::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { io, codec, came, .. } = &mut *self;
        poll_decode(io, codec, came, cx)
    }
}

impl<T: AsyncWrite + Unpin, U: Encoder + Unpin> Sink<U::Item<'_>> for Framed<T, U> {
    type Error = U::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), U::Error>> {
        let Self { io, waits, .. } = &mut *self;
        poll_write_down_to(WAITING_MAX, io, waits, cx).map_err(Into::into)
    }

    fn start_send(mut self: Pin<&mut Self>, item: U::Item<'_>) -> Result<(), U::Error> {
        let Self { codec, waits, .. } = &mut *self;
        codec.encode(item, waits)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), U::Error>> {
        let Self { io, waits, .. } = &mut *self;
        ready!(poll_write_down_to(0, io, waits, cx))?;
        Pin::new(io).poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), U::Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_close(cx).map_err(Into::into)
    }
}

/// The next frame of the bytes that have arrived and that still arrive; `None` at the end.
fn poll_decode<T: AsyncRead + Unpin, D: Decoder>(
    io: &mut T,
    decoder: &mut D,
    came: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<D::Item, D::Error>>> {
    let mut frame = decoder.decode(came)?;
    let mut chunk = [0; CHUNK];
    while frame.is_none() {
        let count = match Pin::new(&mut *io).poll_read(cx, &mut chunk) {
            Poll::Ready(count) => count?,
            Poll::Pending => {
                release(came);
                return Poll::Pending;
            }
        };
        came.extend_from_slice(&chunk[..count]);
        if count > 0 {
            frame = decoder.decode(came)?;
            continue;
        }
        frame = decoder.decode(came)?;
        if frame.is_none() && !came.is_empty() {
            frame = decoder.decode_eof(came)?;
        }
        if frame.is_none() {
            let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "a frame was cut off");
            return Poll::Ready((!came.is_empty()).then(|| Err(cut_off().into())));
        }
    }
    release(came);
    Poll::Ready(frame.map(Ok))
}

/// Writes until no more than `rest` bytes wait.
fn poll_write_down_to<T: AsyncWrite + Unpin>(
    rest: usize,
    io: &mut T,
    waits: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while waits.len() > rest {
        let count = ready!(Pin::new(&mut *io).poll_write(cx, waits))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        bytes::Buf::advance(waits, count);
    }
    release(waits);
    Poll::Ready(Ok(()))
}

/// Frees the buffer's memory if the buffer is empty.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

/// How many bytes are read at once.
const CHUNK: usize = 4 * 1024;

/// How many bytes may wait before further frames have to: as many as in the crate that this
/// replaces.
const WAITING_MAX: usize = 128 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use bytes::Buf;
    use futures::{SinkExt, StreamExt, executor::block_on, io::Cursor};

    use super::*;

    /// Frames of a length byte and as many bytes.
    struct Short;

    impl Encoder for Short {
        type Item<'a> = &'a [u8];
        type Error = io::Error;

        fn encode(&mut self, item: &[u8], bytes: &mut BytesMut) -> io::Result<()> {
            let length = u8::try_from(item.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&[length]);
            bytes.extend_from_slice(item);
            Ok(())
        }
    }

    impl Decoder for Short {
        type Item = Vec<u8>;
        type Error = io::Error;

        fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Vec<u8>>> {
            match bytes.first() {
                Some(length) if bytes.len() > usize::from(*length) => {
                    let length = usize::from(*length);
                    bytes.advance(1);
                    Ok(Some(bytes.split_to(length).to_vec()))
                }
                _ => Ok(None),
            }
        }
    }

    /// Reads and writes one byte at a time, and has to be polled twice for each.
    struct Reluctant(Cursor<Vec<u8>>, bool);

    impl Reluctant {
        fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
            self.1 = !self.1;
            if self.1 {
                cx.waker().wake_by_ref();
            }
            !self.1
        }
    }

    impl AsyncRead for Reluctant {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if !self.is_ready(cx) {
                return Poll::Pending;
            }
            Pin::new(&mut self.0).poll_read(cx, &mut bytes[..1])
        }
    }

    impl AsyncWrite for Reluctant {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if !self.is_ready(cx) {
                return Poll::Pending;
            }
            Pin::new(&mut self.0).poll_write(cx, &bytes[..1])
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frames() -> [&'static [u8]; 4] {
        [b"one", b"", &[7; 255], b"last"]
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = BytesMut::new();
        frames().iter().for_each(|it| Short.encode(it, &mut bytes).unwrap());
        bytes.to_vec()
    }

    #[test]
    fn frames_come_as_they_went_and_leave_no_buffer() {
        block_on(async {
            let mut out = Framed::new(Reluctant(Cursor::new(Vec::new()), false), Short);
            for frame in frames() {
                out.feed(frame).await.unwrap();
            }
            assert_eq!(out.waits.len(), encoded().len());
            SinkExt::<&[u8]>::flush(&mut out).await.unwrap();
            assert_eq!(out.waits.capacity(), 0);
            let bytes = out.io.0.into_inner();
            assert_eq!(bytes, encoded());

            let mut back = Framed::new(Reluctant(Cursor::new(bytes), false), Short);
            for frame in frames() {
                assert_eq!(back.next().await.unwrap().unwrap(), frame);
                assert_eq!(back.came.capacity(), 0);
            }
            assert!(back.next().await.is_none());
        });
    }

    #[test]
    fn several_frames_of_one_chunk_come_one_by_one() {
        let mut framed = FramedRead::new(Cursor::new(encoded()), Short);
        block_on(async {
            for frame in frames() {
                assert_eq!(framed.next().await.unwrap().unwrap(), frame);
            }
            assert!(framed.next().await.is_none());
        });
    }

    #[test]
    fn a_frame_that_is_cut_off_is_an_error() {
        let bytes = encoded();
        let mut framed = FramedRead::new(Cursor::new(&bytes[..bytes.len() - 1]), Short);
        block_on(async {
            for _ in 1..frames().len() {
                framed.next().await.unwrap().unwrap();
            }
            let error = framed.next().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut framed = FramedWrite::new(Cursor::new(Vec::new()), Short);
        block_on(async {
            let mut largest = 0;
            for _ in 0..2_000 {
                framed.feed(&[1; 255][..]).await.unwrap();
                largest = largest.max(framed.waits.len());
            }
            assert!((WAITING_MAX..=WAITING_MAX + 256).contains(&largest), "{largest}");
            SinkExt::<&[u8]>::close(&mut framed).await.unwrap();
        });
        assert_eq!(framed.io.into_inner().len(), 2_000 * 256);
    }
}
