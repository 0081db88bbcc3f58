//! The secret that opens an API to a program that shows it.

use axum::http::{HeaderMap, header};
use hark_keys::Random;

/// 32 random bytes as 64 hexadecimal digits.
#[derive(Clone)]
pub struct Token {
    text: String,
    /// Comparing hashes of blake3 takes the same time whatever they are.
    hash: blake3::Hash,
}

impl Token {
    /// A new one.
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        Self::of(blake3::Hash::from_bytes(secret).to_hex().to_string())
    }

    /// The one that was written down; none if this is no token.
    pub fn read(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|_| Self::of(text.to_owned()))
    }

    fn of(text: String) -> Self {
        Self { hash: blake3::hash(text.as_bytes()), text }
    }

    /// What is to be shown.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether this is it.
    pub fn is(&self, shown: &str) -> bool {
        blake3::hash(shown.as_bytes()) == self.hash
    }

    /// Whether a request shows it as `Authorization: Bearer TOKEN`; none if it shows nothing.
    pub fn is_shown(&self, headers: &HeaderMap) -> Option<bool> {
        headers.get(header::AUTHORIZATION).map(|value| {
            let shown = value.to_str().unwrap_or_default();
            self.is(shown.strip_prefix("Bearer ").unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use hark_keys::SeededRandom;

    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let token = Token::generate(&SeededRandom::new(5));
        assert_eq!(token.text().len(), 64);
        let again = Token::read(token.text()).expect("as it was written down");
        assert!(again.is(token.text()));
        let other = Token::generate(&SeededRandom::new(6));
        for wrong in ["", "00", &token.text()[..63], other.text()] {
            assert!(!token.is(wrong), "{wrong}");
        }
        for nothing in ["", "token", &token.text()[1..]] {
            assert!(Token::read(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn a_request_shows_it_as_a_bearer() {
        let token = Token::generate(&SeededRandom::new(5));
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            token.is_shown(&headers)
        };
        assert_eq!(token.is_shown(&HeaderMap::new()), None);
        assert_eq!(shown(&format!("Bearer {}", token.text())), Some(true));
        for wrong in [token.text(), "Bearer", "Bearer ", "Basic YTpi"] {
            assert_eq!(shown(wrong), Some(false), "{wrong}");
        }
    }
}
