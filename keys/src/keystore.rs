//! The text of a key file. [PROTO-13.1] [PROTO-13.4]
//!
//! ```text
//! -----BEGIN HARK DEVICE KEY-----
//! hark-key 1
//! protection argon2id 65536 3 <salt>      or: protection none
//! <32 bytes, sealed where protected, in base64>
//! -----END HARK DEVICE KEY-----
//! ```

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::{
    DeviceKey, Random,
    seal::{open_once, seal_once},
};

/// The text of `key`'s file, sealed if there is a passphrase. With a passphrase this takes some
/// tenths of a second and 64 MiB (argon2id, RFC 9106).
pub fn encode(key: &DeviceKey, passphrase: Option<&str>, random: &dyn Random) -> Zeroizing<String> {
    let secret = key.secret();
    let body = match passphrase {
        None => format!("protection none\n{}", BASE64.encode(secret.as_ref())),
        Some(passphrase) => {
            let mut salt = [0; SALT_LENGTH];
            random.fill(&mut salt);
            let header =
                format!("protection argon2id {MEMORY_KIB} {PASSES} {}", BASE64.encode(&salt));
            let wrapping = stretch(passphrase, &salt, MEMORY_KIB, PASSES)
                .expect("the parameters are in argon2's range");
            let sealed = seal_once(&wrapping, header.as_bytes(), secret.as_ref());
            format!("{header}\n{}", BASE64.encode(&sealed))
        }
    };
    Zeroizing::new(format!("{BEGIN}\n{FORMAT} {VERSION}\n{body}\n{END}\n"))
}

/// Whether the text needs a passphrase to be read.
pub fn is_protected(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("protection argon2id"))
}

/// The key in a file's text.
pub fn decode(text: &str, passphrase: Option<&str>) -> Result<DeviceKey, KeyFileError> {
    if text.len() > TEXT_LIMIT {
        return Err(KeyFileError::NotAKeyFile);
    }
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some(BEGIN) {
        return Err(KeyFileError::NotAKeyFile);
    }
    let version = lines.next().and_then(|line| line.strip_prefix(FORMAT)).map(str::trim);
    match version.and_then(|version| version.parse::<u32>().ok()) {
        Some(VERSION) => {}
        Some(_) => return Err(KeyFileError::NewerVersion),
        None => return Err(KeyFileError::Damaged),
    }
    let header = lines.next().ok_or(KeyFileError::Damaged)?;
    let body = lines.next().ok_or(KeyFileError::Damaged)?;
    if lines.next() != Some(END) {
        return Err(KeyFileError::Damaged);
    }
    let body = Zeroizing::new(BASE64.decode(body.as_bytes()).map_err(|_| KeyFileError::Damaged)?);
    let secret = match header.split(' ').collect::<Vec<_>>()[..] {
        ["protection", "none"] => body,
        ["protection", "argon2id", memory, passes, salt] => {
            let passphrase = passphrase.ok_or(KeyFileError::PassphraseNeeded)?;
            let salt = BASE64.decode(salt.as_bytes()).map_err(|_| KeyFileError::Damaged)?;
            let memory = memory.parse().map_err(|_| KeyFileError::Damaged)?;
            let passes = passes.parse().map_err(|_| KeyFileError::Damaged)?;
            // A changed file must neither weaken the protection nor use up all memory.
            if !(MEMORY_KIB..=MEMORY_KIB_LIMIT).contains(&memory)
                || !(PASSES..=PASSES_LIMIT).contains(&passes)
                || salt.len() != SALT_LENGTH
            {
                return Err(KeyFileError::Damaged);
            }
            let wrapping =
                stretch(passphrase, &salt, memory, passes).map_err(|_| KeyFileError::Damaged)?;
            let opened = open_once(&wrapping, header.as_bytes(), &body)
                .map_err(|_| KeyFileError::WrongPassphrase)?;
            Zeroizing::new(opened)
        }
        _ => return Err(KeyFileError::Damaged),
    };
    let secret: &[u8; 32] = secret.as_slice().try_into().map_err(|_| KeyFileError::Damaged)?;
    Ok(DeviceKey::from_secret(secret))
}

/// Why a key file contains no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The text is some other file's.
    #[error("not a key file of Hark")]
    NotAKeyFile,
    /// The key file is incomplete or changed.
    #[error("the key file is damaged")]
    Damaged,
    /// A later version of Hark wrote the file.
    #[error("the key file was written by a newer version of Hark")]
    NewerVersion,
    /// The file is protected, and no passphrase was given.
    #[error("the key file needs its passphrase")]
    PassphraseNeeded,
    /// The passphrase is another one, or the file was changed.
    #[error("wrong passphrase")]
    WrongPassphrase,
}

fn stretch(
    passphrase: &str,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<Zeroizing<[u8; 32]>, argon2::Error> {
    let params = Params::new(memory_kib, passes, 1, Some(32))?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        passphrase.as_bytes(),
        salt,
        key.as_mut(),
    )?;
    Ok(key)
}

const BEGIN: &str = "-----BEGIN HARK DEVICE KEY-----";
const END: &str = "-----END HARK DEVICE KEY-----";
const FORMAT: &str = "hark-key";
const VERSION: u32 = 1;

/// Longest text of a key file, in bytes. Longer texts are refused.
const TEXT_LIMIT: usize = 4096;
const SALT_LENGTH: usize = 16;

/// The cost of argon2id: RFC 9106's second recommended choice. A file that asks for less is
/// refused.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// The highest cost that is accepted. A file that asks for more is refused.
const MEMORY_KIB_LIMIT: u32 = 1024 * 1024;
const PASSES_LIMIT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    fn opened(text: &str, passphrase: Option<&str>) -> Result<crate::DeviceId, KeyFileError> {
        decode(text, passphrase).map(|key| key.id())
    }

    #[test]
    fn an_open_file_comes_back() {
        let random = SeededRandom::new(1);
        let key = DeviceKey::generate(&random);
        let text = encode(&key, None, &random);
        assert_eq!(opened(&text, None), Ok(key.id()));
        assert!(!is_protected(&text));
        assert_eq!(opened("-----BEGIN OPENSSH", None), Err(KeyFileError::NotAKeyFile));
        let cut = text.replace(END, "");
        assert_eq!(opened(&cut, None), Err(KeyFileError::Damaged));
        let newer = text.replace("hark-key 1", "hark-key 2");
        assert_eq!(opened(&newer, None), Err(KeyFileError::NewerVersion));
    }

    /// [PROTO-13.1] [PROTO-13.4]
    #[test]
    fn a_protected_file_opens_with_its_passphrase_only() {
        let random = SeededRandom::new(2);
        let key = DeviceKey::generate(&random);
        let text = encode(&key, Some("kestrel"), &random);
        assert!(is_protected(&text));
        assert!(!text.contains(&BASE64.encode(key.secret().as_ref())));
        assert_eq!(opened(&text, Some("kestrel")), Ok(key.id()));
        assert_eq!(opened(&text, Some("Kestrel")), Err(KeyFileError::WrongPassphrase));
        assert_eq!(opened(&text, None), Err(KeyFileError::PassphraseNeeded));
        // Weaker or unlimited stretching is not even tried.
        for (from, to) in [("65536 3", "64 3"), ("65536 3", "65536 1"), ("65536 3", "99999999 3")] {
            assert_eq!(
                opened(&text.replace(from, to), Some("kestrel")),
                Err(KeyFileError::Damaged)
            );
        }
    }
}
