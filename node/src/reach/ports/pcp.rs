//! Requests and responses of PCP (RFC 6887), as far as a mapping of one UDP port needs them.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Ties a response to its request, and keeps others from changing the mapping.
pub type Nonce = [u8; 12];

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for the server's epoch. (RFC 6887, 14.1)
    Announce {
        /// The client's address, as the server sees it.
        client: Ipv4Addr,
    },
    /// A mapping of a UDP port. (RFC 6887, 11.1)
    Map {
        /// The client's address, as the server sees it.
        client: Ipv4Addr,
        /// The nonce, which the client chooses.
        nonce: Nonce,
        /// The client's internal port.
        port: u16,
        /// The external address and port that the client suggests. Zeros stand for any.
        suggested: SocketAddrV4,
        /// Lifetime of the mapping in seconds. 0 deletes the mapping.
        lifetime: u32,
    },
}

impl Request {
    /// Encodes the request as a datagram.
    pub fn encode(&self) -> Vec<u8> {
        let (opcode, lifetime, client) = match *self {
            Self::Announce { client } => (ANNOUNCE, 0, client),
            Self::Map { client, lifetime, .. } => (MAP, lifetime, client),
        };
        let mut out = vec![VERSION, opcode, 0, 0];
        out.extend(lifetime.to_be_bytes());
        out.extend(client.to_ipv6_mapped().octets());
        if let Self::Map { nonce, port, suggested, .. } = self {
            out.extend(nonce);
            out.extend([UDP, 0, 0, 0]);
            out.extend(port.to_be_bytes());
            out.extend(suggested.port().to_be_bytes());
            out.extend(suggested.ip().to_ipv6_mapped().octets());
        }
        out
    }
}

/// A server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The result code; 0 is success. (RFC 6887, 7.4)
    pub result: u8,
    /// Lifetime in seconds of the mapping or of the refusal.
    pub lifetime: u32,
    /// Seconds since the server lost its state.
    pub epoch: u32,
    /// The request that is answered.
    pub about: About,
}

/// The request that a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The request for the epoch.
    Announce,
    /// A mapping of a UDP port.
    Map {
        /// The nonce of the client.
        nonce: Nonce,
        /// The client's internal port.
        port: u16,
        /// The external address and port. `None` if the server gave no IPv4 address.
        external: Option<SocketAddrV4>,
    },
}

/// The datagram is no response that we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a response of PCP")]
pub struct NotAResponse;

impl Response {
    /// Parses a datagram. Options after the fixed part are skipped, since none was requested.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotAResponse> {
        if bytes.len() > LENGTH_MAX || !bytes.len().is_multiple_of(4) {
            return Err(NotAResponse);
        }
        let (header, body) = bytes.split_first_chunk::<24>().ok_or(NotAResponse)?;
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let about = match header[..2] {
            [VERSION, opcode] if opcode == ANNOUNCE | RESPONSE => About::Announce,
            [VERSION, opcode] if opcode == MAP | RESPONSE => {
                let (body, _) = body.split_first_chunk::<36>().ok_or(NotAResponse)?;
                if body[12] != UDP {
                    return Err(NotAResponse);
                }
                let mut nonce = Nonce::default();
                nonce.copy_from_slice(&body[..12]);
                let mut external = [0; 16];
                external.copy_from_slice(&body[20..]);
                let port = u16::from_be_bytes([body[18], body[19]]);
                let external = std::net::Ipv6Addr::from(external).to_ipv4_mapped();
                let external = external.map(|ip| SocketAddrV4::new(ip, port));
                About::Map { nonce, port: u16::from_be_bytes([body[16], body[17]]), external }
            }
            _ => return Err(NotAResponse),
        };
        Ok(Self { result: header[3], lifetime: word(4), epoch: word(8), about })
    }
}

const VERSION: u8 = 2;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// The bit of the opcode that marks a response.
const RESPONSE: u8 = 0x80;
/// IANA's number of UDP.
const UDP: u8 = 17;
/// The longest PCP message in bytes: RFC 6887, 7.
const LENGTH_MAX: usize = 1100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        let pairs = (0..digits.len()).step_by(2);
        pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    /// The layouts of RFC 6887, figures 2 and 9, with values.
    #[test]
    fn requests_are_laid_out_as_in_the_figures() {
        let client = "192.168.1.23".parse().unwrap();
        let map = Request::Map {
            client,
            nonce: *b"twelve bytes",
            port: 4000,
            suggested: "203.0.113.9:4001".parse().unwrap(),
            lifetime: 7200,
        };
        let expected = "02 01 0000 00001c20 00000000000000000000ffffc0a80117
            7477656c7665206279746573 11 000000 0fa0 0fa1 00000000000000000000ffffcb007109";
        assert_eq!(map.encode(), bytes(expected));
        let announce = "02 00 0000 00000000 00000000000000000000ffffc0a80117";
        assert_eq!(Request::Announce { client }.encode(), bytes(announce));
    }

    /// The layouts of RFC 6887, figures 3 and 10, with values.
    #[test]
    fn responses_are_laid_out_as_in_the_figures() {
        let map = "02 81 00 00 00000e10 00012345 000000000000000000000000
            7477656c7665206279746573 11 000000 0fa0 9c40 00000000000000000000ffffcb007109";
        let response = Response {
            result: 0,
            lifetime: 3600,
            epoch: 0x12345,
            about: About::Map {
                nonce: *b"twelve bytes",
                port: 4000,
                external: Some("203.0.113.9:40000".parse().unwrap()),
            },
        };
        assert_eq!(Response::decode(&bytes(map)), Ok(response));
        let announce = "02 80 00 08 0000001e 00000007 000000000000000000000000";
        let response = Response { result: 8, lifetime: 30, epoch: 7, about: About::Announce };
        assert_eq!(Response::decode(&bytes(announce)), Ok(response));
        for wrong in [
            // In turn: a request, another version, another opcode, TCP, and cut off.
            "02 00 00 08 0000001e 00000007 000000000000000000000000",
            "01 80 00 08 0000001e 00000007 000000000000000000000000",
            "02 82 00 08 0000001e 00000007 000000000000000000000000",
            &map.replace(" 11 ", " 06 "),
            &map[..map.len() - 8],
            "02 80 00 08 0000001e",
        ] {
            assert_eq!(Response::decode(&bytes(wrong)), Err(NotAResponse), "{wrong}");
        }
        let elsewhere = bytes(&map.replace("ffffcb007109", "fffecb007109"));
        let about = Response::decode(&elsewhere).map(|it| it.about);
        assert!(matches!(about, Ok(About::Map { external: None, .. })), "{about:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = Response::decode(&bytes);
        }

        /// The fields of a response are at the same positions as those of the request.
        #[test]
        fn a_request_turned_into_its_response_reads_back(
            nonce: [u8; 12], port: u16, external: u32, external_port: u16, lifetime: u32, result: u8,
        ) {
            let external = SocketAddrV4::new(external.into(), external_port);
            let client = Ipv4Addr::new(192, 0, 2, 1);
            let request = Request::Map { client, nonce, port, suggested: external, lifetime };
            let mut bytes = request.encode();
            bytes[1] |= RESPONSE;
            bytes[3] = result;
            bytes[8..24].fill(0);
            let about = About::Map { nonce, port, external: Some(external) };
            prop_assert_eq!(
                Response::decode(&bytes),
                Ok(Response { result, lifetime, epoch: 0, about })
            );
        }
    }
}
