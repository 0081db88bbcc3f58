//! Packs the pieces of a charter tightly, many in one message.

use hark_charter::Piece;
use hark_keys::{DecodeError, List};

use crate::message::{MESSAGE_MAX_BYTES, Message};

/// Returns messages that hold all of `pieces`, in their order. None exceeds the size limit of a
/// message.
pub fn pack(pieces: impl IntoIterator<Item = Piece>) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut batch: Vec<Vec<u8>> = Vec::new();
    let mut length = 0;
    for piece in pieces {
        let piece = piece.encode();
        if !batch.is_empty() && length + piece.len() > BATCH_BYTES {
            pack_batch(&batch, &mut messages);
            batch.clear();
            length = 0;
        }
        length += piece.len();
        batch.push(piece);
    }
    if !batch.is_empty() {
        pack_batch(&batch, &mut messages);
    }
    messages
}

/// Returns the pieces of a message of [`pack`]. [PROTO-1.3] [PROTO-12.5]
pub fn unpack(packed: &[u8]) -> Result<Vec<Piece>, DecodeError> {
    let bytes = zstd::bulk::decompress(packed, UNPACKED_MAX).map_err(|_| DecodeError::Malformed)?;
    let mut rest = &bytes[..];
    let mut pieces = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length);
        let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
        let (piece, after) = after.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        pieces.push(Piece::decode(piece)?);
        rest = after;
    }
    if rest.is_empty() { Ok(pieces) } else { Err(DecodeError::Malformed) }
}

/// A batch that hardly shrinks is split in two.
fn pack_batch(batch: &[Vec<u8>], messages: &mut Vec<Message>) {
    let mut bytes = Vec::new();
    for piece in batch {
        let length = u32::try_from(piece.len()).expect("a piece is far shorter than 4 GiB");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(piece);
    }
    let packed = zstd::bulk::compress(&bytes, LEVEL).expect("memory is all that packing needs");
    if packed.len() <= PACKED_MAX {
        messages.push(Message::Pieces(List::truncated(packed)));
    } else if let (first, second @ [_, ..]) = batch.split_at(batch.len() / 2) {
        pack_batch(first, messages);
        pack_batch(second, messages);
    }
}

/// Bytes of pieces in one message. Certificates shrink to two thirds.
const BATCH_BYTES: usize = 44 * 1024;

/// Bytes of a packed batch. The rest of the message is for what surrounds it.
const PACKED_MAX: usize = MESSAGE_MAX_BYTES - 16;

/// Bytes that a message may unpack to: somewhat more than the largest piece.
const UNPACKED_MAX: usize = 128 * 1024;

/// Compression level of zstd: its default.
const LEVEL: i32 = 3;
