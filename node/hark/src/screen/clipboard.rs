//! The terminal's clipboard, by the control sequence OSC 52. It works over ssh, too.

use std::io::{self, Write};

/// Asks the terminal to put `text` into its clipboard. The terminal does not report whether it
/// does.
pub(super) fn copy(terminal: &mut impl Write, text: &str) -> io::Result<()> {
    write!(terminal, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
    terminal.flush()
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for k in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * k)) as usize % 64];
            text.push(if k <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn base64_is_as_published() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_terminal_is_told_by_one_sequence() {
        let mut told = Vec::new();
        copy(&mut told, "hark1abc").expect("written");
        assert_eq!(told, b"\x1b]52;c;aGFyazFhYmM=\x07");
    }
}
