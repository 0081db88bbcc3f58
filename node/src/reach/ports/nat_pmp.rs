//! Requests and responses of NAT-PMP (RFC 6886), as far as a mapping of one UDP port needs them.

use std::net::Ipv4Addr;

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The router's external address. (RFC 6886, 3.2)
    Address,
    /// A mapping of a UDP port. (RFC 6886, 3.3)
    Map {
        /// The client's internal port.
        port: u16,
        /// The external port that the client suggests. 0 stands for any, and is also sent to
        /// delete.
        suggested: u16,
        /// Lifetime of the mapping in seconds. 0 deletes the mapping.
        lifetime: u32,
    },
}

impl Request {
    /// Encodes the request as a datagram.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Address => vec![VERSION, ADDRESS],
            Self::Map { port, suggested, lifetime } => {
                let mut out = vec![VERSION, MAP_UDP, 0, 0];
                out.extend(port.to_be_bytes());
                out.extend(suggested.to_be_bytes());
                out.extend(lifetime.to_be_bytes());
                out
            }
        }
    }
}

/// A router's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The result code; 0 is success. (RFC 6886, 3.5)
    pub result: u16,
    /// Seconds since the router lost its state.
    pub epoch: u32,
    /// The contents of the answer. `None` if the router refuses and does not say what.
    pub about: Option<About>,
}

/// The contents of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The router's external address.
    Address(Ipv4Addr),
    /// A mapping of a UDP port.
    Map {
        /// The client's internal port.
        port: u16,
        /// The external port.
        external: u16,
        /// Lifetime of the mapping in seconds.
        lifetime: u32,
    },
}

/// The datagram is no response that we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a response of NAT-PMP")]
pub struct NotAResponse;

impl Response {
    /// Parses a datagram. The first 8 bytes of a refusal are enough.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotAResponse> {
        let (header, body) = bytes.split_first_chunk::<8>().ok_or(NotAResponse)?;
        let [VERSION, opcode, ..] = *header else { return Err(NotAResponse) };
        if opcode & RESPONSE == 0 {
            return Err(NotAResponse);
        }
        let result = u16::from_be_bytes([header[2], header[3]]);
        let epoch = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let about = match (opcode & !RESPONSE, body) {
            (ADDRESS, [a, b, c, d]) => Some(About::Address(Ipv4Addr::new(*a, *b, *c, *d))),
            (MAP_UDP, [a, b, c, d, rest @ ..]) if rest.len() == 4 => Some(About::Map {
                port: u16::from_be_bytes([*a, *b]),
                external: u16::from_be_bytes([*c, *d]),
                lifetime: u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]),
            }),
            _ if result != 0 => None,
            _ => return Err(NotAResponse),
        };
        Ok(Self { result, epoch, about })
    }
}

const VERSION: u8 = 0;
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
/// The bit of the opcode that marks a response.
const RESPONSE: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The layouts of RFC 6886, sections 3.2 and 3.3, with values.
    #[test]
    fn requests_and_responses_are_laid_out_as_in_the_document() {
        assert_eq!(Request::Address.encode(), [0, 0]);
        let map = Request::Map { port: 4000, suggested: 4001, lifetime: 7200 };
        assert_eq!(map.encode(), [0, 1, 0, 0, 0x0f, 0xa0, 0x0f, 0xa1, 0, 0, 0x1c, 0x20]);

        let address = [0, 128, 0, 0, 0, 1, 0x23, 0x45, 203, 0, 113, 9];
        let about = Some(About::Address("203.0.113.9".parse().unwrap()));
        let response = Response { result: 0, epoch: 0x12345, about };
        assert_eq!(Response::decode(&address), Ok(response));
        let map = [0, 129, 0, 0, 0, 0, 0, 9, 0x0f, 0xa0, 0x9c, 0x40, 0, 0, 0x0e, 0x10];
        let about = Some(About::Map { port: 4000, external: 40_000, lifetime: 3600 });
        assert_eq!(Response::decode(&map), Ok(Response { result: 0, epoch: 9, about }));
        // The answer to an unsupported version: RFC 6886, 3.5.
        let version = [0, 129, 0, 1, 0, 0, 0, 9];
        assert_eq!(Response::decode(&version), Ok(Response { result: 1, epoch: 9, about: None }));
        for wrong in [&map[..15], &address[..8], &[0, 0], &[0, 1, 0, 0, 0, 0, 0, 9], &[]] {
            assert_eq!(Response::decode(wrong), Err(NotAResponse), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Response::decode(&bytes);
        }

        #[test]
        fn a_mapping_reads_back(port: u16, external: u16, lifetime: u32, epoch: u32) {
            let mut bytes = Request::Map { port, suggested: external, lifetime }.encode();
            bytes[1] |= RESPONSE;
            bytes.splice(4..4, epoch.to_be_bytes());
            let about = Some(About::Map { port, external, lifetime });
            prop_assert_eq!(Response::decode(&bytes), Ok(Response { result: 0, epoch, about }));
        }
    }
}
