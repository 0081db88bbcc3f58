use hark_charter::Piece;
use hark_mesh::{
    message::{MESSAGE_MAX_BYTES, Message},
    pack::{pack, unpack},
};

use super::{BOMB, PACKED, UNPACKED};
use crate::{input::Input, world::WORLD};

/// What can be unpacked can be packed again, and is then the same.
pub(super) fn is_packed(bytes: &[u8]) -> bool {
    let Ok(pieces) = unpack(bytes) else { return false };
    let mut again = Vec::new();
    for message in pack(pieces.iter().cloned()) {
        let Message::Pieces(packed) = &message else { panic!("pieces are packed as pieces") };
        again.extend(unpack(packed).expect("our own packing"));
        assert!(message.encode().len() <= MESSAGE_MAX_BYTES);
    }
    assert_eq!(again, pieces);
    true
}

/// Bytes in a frame that stores them unchanged are read as if they had not been packed.
pub(super) fn is_unpacked(bytes: &[u8]) -> bool {
    let packed = frame(bytes.len(), bytes.chunks(BLOCK_MAX).map(|block| (RAW, block.len(), block)));
    let mut rest = bytes;
    let mut pieces = Some(Vec::new());
    while !rest.is_empty() {
        let piece = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let piece = piece.and_then(|(piece, after)| {
            rest = after;
            Piece::decode(piece).ok()
        });
        let (Some(piece), Some(known)) = (piece, &mut pieces) else {
            pieces = None;
            break;
        };
        known.push(piece);
    }
    assert_eq!(unpack(&packed).ok(), pieces);
    pieces.is_some() && is_packed(&packed)
}

/// A small message that unpacks to much more than a message may contain is refused, even if it
/// states a wrong size.
pub(super) fn is_bomb(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let stated = [0; 4].map(|_: u8| input.byte());
    let blocks = 1 + usize::from(input.byte());
    let content = [input.byte()];
    let length = BLOCK_MAX.min(1 << (input.byte() % 18));
    let stated = usize::try_from(u32::from_be_bytes(stated)).unwrap_or(usize::MAX);
    let packed = frame(stated, (0..blocks).map(|_| (REPEATED, length, &content[..])));
    assert!(packed.len() <= MESSAGE_MAX_BYTES);
    unpack(&packed).is_err()
}

/// A zstd frame (RFC 8878) of these blocks, which states that it contains `stated` bytes.
fn frame<'a>(
    stated: usize,
    blocks: impl ExactSizeIterator<Item = (u32, usize, &'a [u8])>,
) -> Vec<u8> {
    let stated = u32::try_from(stated).unwrap_or(u32::MAX);
    let mut frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &stated.to_le_bytes()].concat();
    let count = blocks.len();
    for (number, (kind, length, content)) in blocks.enumerate() {
        let last = u32::from(number + 1 == count);
        let length = u32::try_from(length).expect("a block is short");
        frame.extend(&(length << 3 | kind << 1 | last).to_le_bytes()[..3]);
        frame.extend(content);
    }
    if count == 0 {
        frame.extend([1, 0, 0]);
    }
    frame
}

pub(super) fn seeds() -> Vec<(&'static str, u8, Vec<u8>)> {
    let Message::Pieces(packed) = pack(WORLD.charter.pieces_in_order()).remove(0) else {
        panic!("pieces are packed as pieces");
    };
    let unpacked: Vec<u8> = WORLD
        .charter
        .pieces_in_order()
        .flat_map(|piece| {
            let piece = piece.encode();
            let length = u32::try_from(piece.len()).expect("a piece is short");
            [&length.to_be_bytes()[..], &piece].concat()
        })
        .collect();
    vec![
        ("packed", PACKED, packed.to_vec()),
        ("unpacked", UNPACKED, unpacked),
        ("bomb", BOMB, vec![0xff, 0xff, 0xff, 0xff, 255, 0, 17]),
        ("bomb_that_lies", BOMB, vec![0, 0, 1, 0, 255, 0, 17]),
    ]
}

/// The largest number of bytes in a block.
const BLOCK_MAX: usize = 128 * 1024;

/// The types of a block that is stored unchanged, and of a block that repeats one byte.
const RAW: u32 = 0;
const REPEATED: u32 = 1;
