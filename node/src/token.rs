//! The secret by which a program may use an API.

use hark_keys::Random;
use ring::hmac;

/// 32 random bytes as 64 hexadecimal digits.
#[derive(Clone)]
pub struct ApiToken {
    text: String,
    /// Comparing blake3 hashes takes the same time whatever they are.
    hash: blake3::Hash,
}

/// The end that proves that it has the token. A proof of one end is not valid for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    /// The node that listens.
    Node,
    /// The program that has connected.
    Client,
}

/// The random numbers of both ends. Because of them, a proof of one connection is not valid in
/// another.
#[derive(Clone, Copy, Debug)]
pub struct Nonces<'a> {
    /// The client's nonce.
    pub client: &'a str,
    /// The node's nonce.
    pub node: &'a str,
}

impl ApiToken {
    /// Generates a new token.
    pub fn generate(random: &dyn Random) -> Self {
        Self::of(digits(random))
    }

    /// Parses a token that was written down. `None` if the text is no token.
    pub fn read(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|_| Self::of(text.to_owned()))
    }

    fn of(text: String) -> Self {
        Self { hash: blake3::hash(text.as_bytes()), text }
    }

    /// The text of the token.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `shown` is this token.
    pub fn is(&self, shown: &str) -> bool {
        blake3::hash(shown.as_bytes()) == self.hash
    }

    /// Proves that `prover` has the token, and reveals nothing about it: HMAC-SHA256 (RFC 2104) of
    /// `node CLIENT-NONCE NODE-NONCE` or `client CLIENT-NONCE NODE-NONCE` under the token's text,
    /// in hexadecimal digits.
    pub fn prove(&self, prover: Prover, nonces: Nonces<'_>) -> String {
        let tag = hmac::sign(&self.key(), said(prover, nonces).as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `shown` is the proof of `prover`. The comparison takes the same time for every wrong
    /// proof.
    pub fn is_proof(&self, shown: &str, prover: Prover, nonces: Nonces<'_>) -> bool {
        let Ok(tag) = blake3::Hash::from_hex(shown) else { return false };
        hmac::verify(&self.key(), said(prover, nonces).as_bytes(), tag.as_bytes()).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.text.as_bytes())
    }
}

/// Generates a nonce.
pub fn nonce(random: &dyn Random) -> String {
    digits(random)
}

/// Whether the text has the form of a nonce, so that no other text can get into a proof.
pub fn is_nonce(text: &str) -> bool {
    blake3::Hash::from_hex(text).is_ok()
}

fn digits(random: &dyn Random) -> String {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}

fn said(prover: Prover, nonces: Nonces<'_>) -> String {
    let prover = match prover {
        Prover::Node => "node",
        Prover::Client => "client",
    };
    format!("{prover} {} {}", nonces.client, nonces.node)
}

#[cfg(test)]
mod tests {
    use hark_keys::SeededRandom;

    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let token = ApiToken::generate(&SeededRandom::new(5));
        assert_eq!(token.text().len(), 64);
        let again = ApiToken::read(token.text()).expect("as it was written down");
        assert!(again.is(token.text()));
        let other = ApiToken::generate(&SeededRandom::new(6));
        for wrong in ["", "00", &token.text()[..63], other.text()] {
            assert!(!token.is(wrong), "{wrong}");
        }
        for nothing in ["", "token", &token.text()[1..]] {
            assert!(ApiToken::read(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn a_proof_is_good_for_one_end_of_one_connection() {
        let random = SeededRandom::new(5);
        let token = ApiToken::generate(&random);
        let [client, node, other] = [(); 3].map(|()| nonce(&random));
        let nonces = Nonces { client: &client, node: &node };
        let proof = token.prove(Prover::Node, nonces);
        assert!(token.is_proof(&proof, Prover::Node, nonces));
        assert!(!token.is_proof(&proof, Prover::Client, nonces));
        let again = Nonces { client: &client, node: &other };
        assert!(!token.is_proof(&proof, Prover::Node, again));
        let turned = Nonces { client: &node, node: &client };
        assert!(!token.is_proof(&proof, Prover::Node, turned));
        assert!(!ApiToken::generate(&random).is_proof(&proof, Prover::Node, nonces));
        for wrong in ["", "00", &proof[1..], token.text()] {
            assert!(!token.is_proof(wrong, Prover::Node, nonces), "{wrong}");
        }
    }

    /// Any HMAC-SHA256 in any language gives this: `printf 'node AA… BB…' | openssl dgst -sha256
    /// -hmac TOKEN`.
    #[test]
    fn a_proof_is_what_other_programs_make() {
        let token = ApiToken::read(&"0123456789abcdef".repeat(4)).expect("a token");
        let (client, node) = ("aa".repeat(32), "bb".repeat(32));
        let nonces = Nonces { client: &client, node: &node };
        assert_eq!(
            token.prove(Prover::Node, nonces),
            "5a0fd1d827cd04c0097059e089b29c3f51b707e0782dc6909de23a53ca8ea0df"
        );
        assert_eq!(
            token.prove(Prover::Client, nonces),
            "07b9ce9efa73d81d782049a82557937802035c906bd365ae756f5183620529b1"
        );
    }
}
