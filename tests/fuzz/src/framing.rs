use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use asynchronous_codec::{BytesMut, Decoder, Encoder, Framed};
use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};
use hark_node::swarm::behaviour::MessageCodec;
use libp2p::{StreamProtocol, request_response::Codec};

use crate::{
    input::{Input, piece},
    world::block_on,
};

/// However a stream is cut into pieces, the same frames result, and messages stay within their
/// limit. [PROTO-1.3] [PROTO-12.3]
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let steps = input.piece().to_vec();
    match mode % MODES {
        FRAMES => frames(steps, input.rest()),
        _ => message(steps, usize::from(input.byte()), input.rest()),
    }
}

fn frames(steps: Vec<u8>, bytes: &[u8]) -> bool {
    let mut expected = Vec::new();
    let mut rest = bytes;
    while let Some((frame, after)) = split(rest) {
        expected.push(frame.to_vec());
        rest = after;
    }
    let mut stream = Framed::new(Pieces::new(steps.clone(), bytes.to_vec()), Short);
    let mut came = Vec::new();
    let failed = block_on(async {
        while let Some(frame) = stream.next().await {
            match frame {
                Ok(frame) => came.push(frame),
                Err(error) => return Some(error.kind()),
            }
        }
        None
    });
    assert_eq!(came, expected);
    assert_eq!(failed, (!rest.is_empty()).then_some(io::ErrorKind::UnexpectedEof));

    let mut other_end = Pieces::new(steps, Vec::new());
    block_on(async {
        let mut stream = Framed::new(&mut other_end, Short);
        for frame in &expected {
            stream.feed(&frame[..]).await.expect("the other end takes it");
        }
        SinkExt::<&[u8]>::flush(&mut stream).await.expect("the other end takes it");
    });
    assert_eq!(other_end.taken, bytes[..bytes.len() - rest.len()]);
    failed.is_none()
}

fn message(steps: Vec<u8>, times: usize, part: &[u8]) -> bool {
    let bytes = part.repeat(times);
    let mut stream = Pieces::new(steps, bytes.clone());
    let protocol = StreamProtocol::new("/hark/message/1");
    let read = block_on(MessageCodec.read_request(&protocol, &mut stream));
    assert_eq!(read.is_ok(), bytes.len() <= 32 * 1024);
    read.is_ok_and(|read| {
        assert_eq!(read, bytes);
        true
    })
}

/// Frames of a length byte and as many bytes.
struct Short;

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

impl Decoder for Short {
    type Item = Vec<u8>;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Vec<u8>>> {
        let Some((frame, _)) = split(bytes) else { return Ok(None) };
        let frame = frame.to_vec();
        let _ = bytes.split_to(1 + frame.len());
        Ok(Some(frame))
    }
}

impl Encoder for Short {
    type Item<'a> = &'a [u8];
    type Error = io::Error;

    fn encode(&mut self, frame: &[u8], bytes: &mut BytesMut) -> io::Result<()> {
        let length = u8::try_from(frame.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&[length]);
        bytes.extend_from_slice(frame);
        Ok(())
    }
}

/// Reads and writes as many bytes at a time as the steps say, in turn; a step of 0 means "not yet".
struct Pieces {
    steps: Vec<u8>,
    turn: usize,
    rest: Vec<u8>,
    taken: Vec<u8>,
}

impl Pieces {
    fn new(mut steps: Vec<u8>, mut bytes: Vec<u8>) -> Self {
        // At least one step moves on.
        steps.push(0xff);
        bytes.reverse();
        Self { steps, turn: 0, rest: bytes, taken: Vec::new() }
    }

    fn step(&mut self, cx: &Context<'_>) -> Poll<usize> {
        let step = self.steps[self.turn % self.steps.len()];
        self.turn += 1;
        if step > 0 {
            return Poll::Ready(usize::from(step));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(step) = self.step(cx) else { return Poll::Pending };
        let length = step.min(out.len()).min(self.rest.len());
        let from = self.rest.len() - length;
        out.iter_mut().zip(self.rest.drain(from..).rev()).for_each(|(to, byte)| *to = byte);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(step) = self.step(cx) else { return Poll::Pending };
        let length = step.min(bytes.len());
        self.taken.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let frames = [3, b'o', b'n', b'e', 0, 4, b'f', b'o', b'u', b'r'];
    let begun = |mode: u8, steps: &[u8], rest: &[u8]| [&[mode], &piece(steps)[..], rest].concat();
    vec![
        ("frames", begun(FRAMES, &[], &frames)),
        ("bytes", begun(FRAMES, &[1, 0], &frames)),
        ("message", begun(MESSAGE, &[7, 0, 200], b"\x02a message")),
        ("longest", begun(MESSAGE, &[], &[&[128][..], &[9; 256]].concat())),
    ]
}

/// The input is a stream of frames.
const FRAMES: u8 = 0;
/// The input is a part of one message, and how often it is repeated.
const MESSAGE: u8 = 1;
const MODES: u8 = 2;
