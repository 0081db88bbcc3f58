use std::sync::Mutex;

use hark_keys::SeededRandom;
use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + milliseconds)
}

fn client() -> PortClient {
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
    PortClient::new(at(0), OWN, &random)
}

fn sent(client: &mut PortClient) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| client.poll_transmit()).collect()
}

/// The answer of a PCP server to a request for a port. The server has been up for `epoch` seconds.
fn granted(request: &[u8], external: SocketAddrV4, lifetime: u32, epoch: u32) -> Vec<u8> {
    let mut answer = refused(request, 0, lifetime);
    answer[8..12].copy_from_slice(&epoch.to_be_bytes());
    answer[42..44].copy_from_slice(&external.port().to_be_bytes());
    answer[56..].copy_from_slice(&external.ip().octets());
    answer
}

fn refused(request: &[u8], result: u8, lifetime: u32) -> Vec<u8> {
    assert_eq!((request.len(), &request[..2]), (60, &[2, 1][..]));
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    answer[3] = result;
    answer[4..8].copy_from_slice(&lifetime.to_be_bytes());
    answer[8..24].fill(0);
    answer
}

/// Advances the client's time until `end`. Returns what it sends, with the times in milliseconds.
fn pass(client: &mut PortClient, end: u64) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(wake_at) = client.poll_timeout().filter(|it| *it <= at(end)) {
        client.handle_timeout(wake_at);
        assert!(client.poll_timeout().is_none_or(|next| next > wake_at), "time goes on");
        let milliseconds = wake_at.saturating_duration_since(at(0)).as_millis();
        let milliseconds = u64::try_from(milliseconds).unwrap();
        all.extend(sent(client).into_iter().map(|datagram| (milliseconds, datagram)));
    }
    all
}

/// A client in the middle of its life, which began with a port for two hours.
fn kept_by_pcp() -> (PortClient, Vec<u8>) {
    let mut client = client();
    let request = sent(&mut client).remove(0);
    client.handle_input(at(5), &granted(&request, EXTERNAL, 7200, 1000));
    assert_eq!(client.pcp(), PortAnswer::Mapped(EXTERNAL));
    (client, request)
}

#[test]
fn a_port_by_pcp_is_renewed_at_half_its_time_and_given_back() {
    let (mut client, request) = kept_by_pcp();
    let renewal = pass(&mut client, 3_600_005).pop().unwrap();
    assert_eq!(renewal.0, 3_600_005);
    // The renewal has the same nonce, and suggests the address that we have.
    assert_eq!(renewal.1[24..36], request[24..36]);
    assert_eq!(renewal.1[42..44], EXTERNAL.port().to_be_bytes());
    assert_eq!(renewal.1[56..], EXTERNAL.ip().octets());
    client.handle_input(at(3_600_010), &granted(&renewal.1, EXTERNAL, 3600, 4600));
    let next = pass(&mut client, 5_400_010).pop().unwrap();
    assert_eq!((next.0, next.1.len()), (5_400_010, 60));
    client.release();
    let deleted = sent(&mut client);
    assert_eq!(deleted.len(), 1);
    assert_eq!(
        (&deleted[0][..8], &deleted[0][24..36]),
        (&[2, 1, 0, 0, 0, 0, 0, 0][..], &request[24..36])
    );
    assert_eq!(client.poll_timeout(), None);
    client.handle_input(at(5_400_020), &granted(&request, EXTERNAL, 7200, 1000));
    assert!(sent(&mut client).is_empty());
}

#[test]
fn without_an_answer_a_renewal_is_tried_until_the_port_is_gone() {
    let (mut client, _) = kept_by_pcp();
    let all = pass(&mut client, 7_200_004);
    let renewals: Vec<_> =
        all.iter().filter(|(_, datagram)| datagram.len() == 60).map(|(at, _)| *at).collect();
    assert_eq!(renewals[..3], [3_600_005, 5_400_005, 6_300_005]);
    assert!(renewals.windows(2).all(|pair| pair[1] - pair[0] >= 4_000));
    assert_eq!(client.pcp(), PortAnswer::Mapped(EXTERNAL));
    pass(&mut client, 7_200_005);
    assert_eq!(client.pcp(), PortAnswer::Awaited);
}

/// [PROTO-5.5] Only a server that saw the request can answer it.
#[test]
fn a_grant_with_another_nonce_or_port_is_nobodys() {
    let mut client = client();
    let request = sent(&mut client).remove(0);
    let good = granted(&request, EXTERNAL, 7200, 1000);
    for (place, what) in [(24, "nonce"), (35, "nonce"), (40, "port"), (36, "protocol")] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        client.handle_input(at(5), &bad);
        assert_eq!(client.pcp(), PortAnswer::Awaited, "{what}");
    }
    client.handle_input(at(6), &granted(&request, "203.0.113.9:0".parse().unwrap(), 7200, 1));
    assert!(matches!(client.pcp(), PortAnswer::Refused(_)), "{:?}", client.pcp());
}

#[test]
fn a_router_that_speaks_nat_pmp_alone_gives_its_port_by_that() {
    let mut client = client();
    assert_eq!(sent(&mut client)[0].len(), 60);
    // The answer to an unknown version: RFC 6886, 3.5.
    client.handle_input(at(5), &[0, 129, 0, 1, 0, 0, 0, 9]);
    assert_eq!((client.pcp(), sent(&mut client)), (PortAnswer::Unsupported, vec![vec![0, 0]]));
    client.handle_input(at(9), &[0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9]);
    let map = nat_pmp::Request::Map { port: 4000, suggested: 4000, lifetime: 7200 }.encode();
    assert_eq!(sent(&mut client), [map]);
    client.handle_input(at(12), &nat_pmp_grant(4001, 4000));
    assert_eq!(client.nat_pmp(), PortAnswer::Awaited, "another port");
    client.handle_input(at(12), &nat_pmp_grant(4000, 4002));
    assert_eq!(client.nat_pmp(), PortAnswer::Mapped("203.0.113.9:4002".parse().unwrap()));
    // A minute later, the client asks whether the address is still the same.
    assert_eq!(pass(&mut client, 60_012), [(60_012, vec![0, 0])]);
    client.handle_input(at(60_020), &[0, 128, 0, 0, 0, 0, 0, 69, 203, 0, 113, 10]);
    assert_eq!(client.nat_pmp(), PortAnswer::Awaited);
    client.release();
    let all = sent(&mut client);
    assert!(
        !all.contains(&nat_pmp::Request::Map { port: 4000, suggested: 0, lifetime: 0 }.encode())
    );
}

/// RFC 6887, 9: such a router's refusal of our NAT-PMP is no refusal of PCP.
#[test]
fn a_router_that_speaks_pcp_alone_is_asked_by_pcp_again() {
    let mut client = client();
    let request = sent(&mut client).remove(0);
    assert_eq!(pass(&mut client, 250).len(), 2);
    let mut version = vec![2, 0x80, 0, 1];
    version.resize(24, 0);
    client.handle_input(at(255), &version);
    assert_eq!((client.pcp(), client.nat_pmp()), (PortAnswer::Awaited, PortAnswer::Unsupported));
    assert_eq!(pass(&mut client, 750), [(750, request.clone())]);
    client.handle_input(at(755), &granted(&request, EXTERNAL, 7200, 1000));
    assert_eq!(client.pcp(), PortAnswer::Mapped(EXTERNAL));
}

#[test]
fn a_port_by_nat_pmp_is_given_back() {
    let mut client = client();
    for answer in [&[0, 129, 0, 1, 0, 0, 0, 9][..], &[0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9]] {
        client.handle_input(at(5), answer);
    }
    client.handle_input(at(12), &nat_pmp_grant(4000, 4002));
    sent(&mut client);
    client.release();
    let delete = nat_pmp::Request::Map { port: 4000, suggested: 0, lifetime: 0 }.encode();
    assert_eq!(sent(&mut client), [delete]);
}

fn nat_pmp_grant(port: u16, external: u16) -> Vec<u8> {
    let mut answer = nat_pmp::Request::Map { port, suggested: external, lifetime: 7200 }.encode();
    answer[1] |= 0x80;
    answer.splice(4..4, [0, 0, 0, 9]);
    answer
}

/// Both protocols are asked, PCP a moment earlier. A router that never answers is left alone for a
/// while.
#[test]
fn a_silent_router_is_asked_more_and_more_rarely() {
    let mut client = client();
    let (pcp, nat_pmp) = (sent(&mut client).remove(0), vec![0, 0]);
    let all = pass(&mut client, 16_000);
    let times = [250, 750, 1_750, 3_750, 7_750];
    let expected: Vec<_> =
        times.iter().flat_map(|at| [(*at, pcp.clone()), (*at, nat_pmp.clone())]).collect();
    assert_eq!(all, expected);
    assert_eq!((client.pcp(), client.nat_pmp()), (PortAnswer::Silent, PortAnswer::Silent));
    assert_eq!(client.poll_timeout(), Some(at(15_750 + 300_000)));
    assert_eq!(pass(&mut client, 315_750), [(315_750, pcp)]);
}

#[test]
fn refusals_are_told_and_asked_again_when_they_end() {
    let mut client = client();
    let request = sent(&mut client).remove(0);
    client.handle_input(at(5), &refused(&request, 2, 1200));
    assert_eq!(client.pcp(), PortAnswer::Refused(PortRefusal::NotAllowed));
    // NAT-PMP may still work.
    assert_eq!(sent(&mut client), [[0, 0]]);
    client.handle_input(at(7), &[0, 128, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0]);
    assert_eq!(client.nat_pmp(), PortAnswer::Refused(PortRefusal::NoNetwork));
    assert_eq!(client.poll_timeout(), Some(at(300_007)));
    let (mut client, request) = kept_by_pcp();
    client.handle_input(at(9), &refused(&request, 12, 1200));
    assert_eq!(client.pcp(), PortAnswer::Refused(PortRefusal::AnotherNat));
    assert_eq!(client.poll_timeout(), Some(at(1_200_009)));
}

/// RFC 6887, 8.5: a restarted router has forgotten the port, too.
#[test]
fn a_router_that_has_restarted_is_asked_anew_at_once() {
    let announce = |epoch: u32| {
        let mut answer = vec![2, 128, 0, 0, 0, 0, 0, 0];
        answer.extend(epoch.to_be_bytes());
        answer.resize(24, 0);
        answer
    };
    for (epoch, lost) in [(1060, false), (1062, false), (1050, true), (3, true), (1080, true)] {
        let (mut client, _) = kept_by_pcp();
        let check = pass(&mut client, 60_005);
        assert_eq!(check.len(), 1);
        assert_eq!((check[0].1.len(), &check[0].1[..2]), (24, &[2, 0][..]));
        client.handle_input(at(60_007), &announce(epoch));
        assert_eq!(client.pcp() == PortAnswer::Awaited, lost, "{epoch}");
        let again = sent(&mut client);
        assert_eq!(again.len(), usize::from(lost));
        if let Some(request) = again.first() {
            assert_eq!(
                request[42..44],
                EXTERNAL.port().to_be_bytes(),
                "the same port is wished for"
            );
        }
    }
}

proptest! {
    /// Whatever a router sends and whenever: the client does not panic or flood, and its time
    /// advances.
    #[test]
    fn no_router_makes_it_panic_or_flood(
        steps in proptest::collection::vec((0..100_000_u64, 0..6_u8, any::<[u8; 16]>()), 0..60)
    ) {
        let mut client = client();
        let (mut now, mut last) = (0, Mutex::new(Vec::new()));
        let mut count = 0;
        let inputs = steps.len();
        for (wait, kind, random) in steps {
            count += pass(&mut client, now + wait).len();
            now += wait;
            for datagram in sent(&mut client) {
                if datagram.len() == 60 {
                    *last.get_mut().unwrap() = datagram;
                }
                count += 1;
            }
            let request = last.get_mut().unwrap().clone();
            let lifetime = u32::from(random[0]) * 16;
            let input = match kind {
                0 if !request.is_empty() => granted(&request, EXTERNAL, lifetime, random[1].into()),
                1 if !request.is_empty() => refused(&request, random[1] % 14, lifetime),
                2 => [&[0, 128, 0, random[0] % 6, 0, 0, 0], &random[..5]].concat(),
                3 => nat_pmp_grant(4000, u16::from(random[0])),
                4 => [&[0, 129, 0], &random[..13]].concat(),
                _ => random.to_vec(),
            };
            client.handle_input(at(now), &input);
        }
        // At most two datagrams for each input, and one in four seconds otherwise.
        let limit = 2 * inputs + usize::try_from(now / 4_000).unwrap() + 16;
        prop_assert!(count <= limit, "{count} of {limit}");
        client.release();
        prop_assert_eq!(client.poll_timeout(), None);
    }
}

const OWN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 23), 4000);
const EXTERNAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 4002);
