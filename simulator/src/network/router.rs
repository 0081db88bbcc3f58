//! A gateway's answers to machines that ask it for a port: PCP (RFC 6887), as far as one mapping
//! for UDP needs it.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use hark_keys::Timestamp;

use super::nat::Nat;

/// The answer to a request of `client`; `None` if it is not a request for a UDP port.
pub(super) fn answer(
    nat: &mut Nat,
    now: Timestamp,
    client: SocketAddrV4,
    request: &[u8],
) -> Option<Vec<u8>> {
    let request: &[u8; 60] = request.first_chunk()?;
    let number = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
    if request[..2] != [VERSION, MAP] || request[36] != UDP {
        return None;
    }
    let wanted = u32::from_be_bytes([request[4], request[5], request[6], request[7]]);
    let internal = SocketAddrV4::new(*client.ip(), number(40));
    let mapped = if wanted == 0 {
        nat.unmap_port(now, internal);
        Ok(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    } else {
        nat.map_port(now, internal, number(42), Duration::from_secs(wanted.into()))
    };
    let result = if mapped.is_ok() { SUCCESS } else { NO_RESOURCES };
    let external = mapped.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let seconds = u32::try_from(now.as_duration().as_secs()).unwrap_or(u32::MAX);
    let mut answer = vec![VERSION, MAP | RESPONSE, 0, result];
    answer.extend(wanted.to_be_bytes());
    answer.extend(seconds.to_be_bytes());
    answer.extend([0; 12]);
    // The nonce, the protocol, and the client's port.
    answer.extend(&request[24..42]);
    answer.extend(external.port().to_be_bytes());
    answer.extend(external.ip().to_ipv6_mapped().octets());
    Some(answer)
}

const VERSION: u8 = 2;
const MAP: u8 = 1;
/// The bit that marks an answer.
const RESPONSE: u8 = 0x80;
/// The protocol number that IANA assigned to UDP.
const UDP: u8 = 17;
const SUCCESS: u8 = 0;
const NO_RESOURCES: u8 = 8;

#[cfg(test)]
mod tests {
    use hark_node::reach::ports::pcp::{About, Request, Response};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::network::nat::{NatModel, NatPreset};

    /// The product's own client understands the answer, and a peer that knows the port reaches the
    /// machine.
    #[test]
    fn a_machine_gets_the_port_that_it_asks_for_and_gives_it_back() {
        let model = NatModel { port_mapping: true, ..NatPreset::Symmetric.into() };
        let outside = Ipv4Addr::new(198, 18, 0, 7);
        let mut nat = Nat::new(model, vec![outside], ChaCha8Rng::seed_from_u64(1));
        let (own, peer) = (Ipv4Addr::new(10, 1, 0, 1), "198.18.0.9:5000".parse().unwrap());
        let client = SocketAddrV4::new(own, 6_000);
        let ask = |nat: &mut Nat, lifetime| {
            let suggested = SocketAddrV4::new(outside, 7_000);
            let nonce = [3; 12];
            let request = Request::Map { client: own, nonce, port: 40_001, suggested, lifetime };
            let answer = answer(nat, Timestamp::from_millis(1), client, &request.encode());
            Response::decode(&answer.unwrap()).unwrap()
        };
        let granted = ask(&mut nat, 600);
        let external = SocketAddrV4::new(outside, 7_000);
        let about = About::Map { nonce: [3; 12], port: 40_001, external: Some(external) };
        assert_eq!((granted.result, granted.lifetime, granted.about), (0, 600, about));
        let now = Timestamp::from_millis(2);
        let inside = SocketAddrV4::new(own, 40_001);
        assert_eq!(nat.inbound(now, peer, external), Ok(inside));
        assert_eq!(ask(&mut nat, 0).lifetime, 0);
        let model = NatModel { port_mapping: false, ..NatPreset::Symmetric.into() };
        let mut other = Nat::new(model, vec![outside], ChaCha8Rng::seed_from_u64(1));
        assert_eq!(ask(&mut other, 600).result, NO_RESOURCES);
        assert_eq!(answer(&mut other, now, client, &[2; 59]), None);
    }
}
