//! Files that commands read and write: they travel inside requests and answers, so that a node
//! needs to know nothing of the folders of whoever asks.

use hark_charter::Piece;
use hark_keys::DecodeError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{CommandError, FileFault};

/// A file that is read before the request is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Where it lies.
    pub path: String,
    /// What is in it.
    #[serde(default, with = "hex")]
    pub content: Vec<u8>,
}

impl InputFile {
    /// What is in it, as text.
    pub(crate) fn text(&self) -> Result<&str, CommandError> {
        std::str::from_utf8(&self.content).map_err(|_| self.refuse(FileFault::NoText))
    }

    /// A piece that is not signed by all yet.
    pub(crate) fn draft(&self) -> Result<Piece, CommandError> {
        let text = self.text()?.strip_prefix(DRAFT_MAGIC);
        let text = text.ok_or_else(|| self.refuse(FileFault::NoDraft))?;
        let text: String = text.split_whitespace().collect();
        let bytes = hex::decode(&text).ok_or_else(|| self.refuse(FileFault::DamagedDraft))?;
        let damaged = |_: DecodeError| self.refuse(FileFault::DamagedDraft);
        let piece = Piece::decode(&bytes).map_err(damaged)?;
        let good = match &piece {
            Piece::Root(signed) => signed.verify().map(|_| ()),
            Piece::Certificate(signed) => signed.verify().map(|_| ()),
            Piece::Operation(signed) => signed.verify().map(|_| ()),
            Piece::Checkpoint(signed) => signed.verify().map(|_| ()),
        };
        good.map_err(|_| self.refuse(FileFault::Signature))?;
        Ok(piece)
    }

    /// Whether it is a draft, rather than a whole charter.
    pub(crate) fn is_draft(&self) -> bool {
        self.content.starts_with(DRAFT_MAGIC.as_bytes())
    }

    pub(crate) fn refuse(&self, fault: FileFault) -> CommandError {
        CommandError::File { path: self.path.clone(), fault: Box::new(fault) }
    }
}

impl From<&str> for InputFile {
    fn from(path: &str) -> Self {
        Self { path: path.to_owned(), content: Vec::new() }
    }
}

/// A file to be written once the request is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Where it goes.
    pub path: String,
    /// What is in it.
    #[serde(with = "hex")]
    pub content: Vec<u8>,
}

impl OutputFile {
    /// A draft as text that survives a letter.
    pub(crate) fn draft(path: &str, piece: &Piece) -> Self {
        let hex = hex::encode(&piece.encode());
        let mut text = DRAFT_MAGIC.to_owned();
        let mut rest = hex.as_str();
        while !rest.is_empty() {
            let (line, next) = rest.split_at(rest.len().min(DRAFT_LINE));
            text += line;
            text.push('\n');
            rest = next;
        }
        Self { path: path.to_owned(), content: text.into_bytes() }
    }
}

/// Bytes as text.
pub(crate) mod hex {
    use super::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(crate) fn encode(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
        if !text.len().is_multiple_of(2) || !text.is_ascii() {
            return None;
        }
        let pairs = text.as_bytes().chunks(2);
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        encode(bytes).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        decode(&String::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("no hex"))
    }
}

const DRAFT_MAGIC: &str = "hark draft 1\n";

/// Characters of a line of a draft: short enough for any letter.
const DRAFT_LINE: usize = 72;
