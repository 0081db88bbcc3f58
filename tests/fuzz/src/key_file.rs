use hark_keys::{
    KeyFileError, SeededRandom,
    keystore::{decode, encode, is_protected},
};

use crate::world::key;

/// A file that contains a key contains the same key after it is written again. The key has no
/// passphrase, since stretching a passphrase is too slow to be tried often.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    match decode(text, None) {
        Ok(key) => {
            let written = encode(&key, None, &SeededRandom::new(1));
            assert!(!is_protected(&written));
            let again = decode(&written, None).expect("what was written is read");
            assert_eq!(again.id(), key.id());
            true
        }
        Err(error) => {
            let asked = error == KeyFileError::PassphraseNeeded;
            assert!(!asked || is_protected(text), "asked for a passphrase without need");
            asked
        }
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let random = SeededRandom::new(2);
    let text = |passphrase| encode(&key(1), passphrase, &random).as_bytes().to_vec();
    let windows = String::from_utf8_lossy(&text(None)).replace('\n', "\r\n").into_bytes();
    vec![("open", text(None)), ("protected", text(Some("kestrel"))), ("windows", windows)]
}
