use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use futures::future::{BoxFuture, FutureExt};
use hark_node::{
    link::{address_of, multiaddr_of},
    reach::names::{NameError, NameSource, PeerPlace, resolve},
};
use libp2p::Multiaddr;

use crate::{
    input::{Input, piece},
    world::{block_on, device},
};

/// Whatever a person types, mDNS delivers or name servers answer: the places are few, each is
/// valid, and they are found with few queries. [PROTO-5.8]
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    match mode % MODES {
        TEXT => str::from_utf8(rest).is_ok_and(is_place),
        ADDRESS => Multiaddr::try_from(rest.to_vec()).is_ok_and(|address| is_address(&address)),
        _ => leads_somewhere(rest),
    }
}

fn is_place(text: &str) -> bool {
    let Ok(place) = text.parse::<PeerPlace>() else { return false };
    let again: PeerPlace = place.to_string().parse().expect("a place is shown as one");
    assert_eq!(again.to_string(), place.to_string());
    true
}

fn is_address(address: &Multiaddr) -> bool {
    let Some((found, _)) = address_of(address) else { return false };
    assert_eq!(address_of(&multiaddr_of(found)), Some((found, None)));
    true
}

fn leads_somewhere(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let Some(place) = str::from_utf8(input.piece()).ok().and_then(|text| text.parse().ok()) else {
        return false;
    };
    let servers = Servers(Mutex::new((input.rest().to_vec(), 0)));
    let found = block_on(resolve(&servers, &place));
    let (_, asked) = *servers.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(asked <= 16, "{asked} questions for one place");
    match found {
        Ok(found) => {
            assert!((1..=16).contains(&found.len()));
            true
        }
        Err(_) => false,
    }
}

/// Name servers that answer what the input says, and the number of queries they have received.
struct Servers(Mutex<(Vec<u8>, usize)>);

impl Servers {
    fn answer(&self) -> (u8, Vec<Vec<u8>>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        let bytes = std::mem::take(&mut state.0);
        let mut input = Input::new(&bytes);
        let kind = input.byte();
        let pieces = (0..kind % 32).map(|_| input.piece().to_vec()).collect();
        state.0 = input.rest().to_vec();
        (kind, pieces)
    }
}

impl NameSource for Servers {
    fn texts<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, NameError>> {
        let (kind, pieces) = self.answer();
        let texts = pieces.into_iter().filter_map(|text| String::from_utf8(text).ok()).collect();
        let answer = if kind == 0xff { Err(NameError::Nothing) } else { Ok(texts) };
        async move { answer }.boxed()
    }

    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, NameError>> {
        let (kind, pieces) = self.answer();
        let address = |bytes: &Vec<u8>| match bytes[..] {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
            _ => <[u8; 16]>::try_from(&bytes[..]).ok().map(IpAddr::from),
        };
        let addresses = pieces.iter().filter_map(address).collect();
        let answer = if kind == 0xff { Err(NameError::Nothing) } else { Ok(addresses) };
        async move { answer }.boxed()
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| [&[TEXT][..], text.as_bytes()].concat();
    let there: SocketAddr = "203.0.113.9:4000".parse().expect("an address");
    let address = multiaddr_of(there);
    let with_device = format!("{address}/p2p/{}", device(1).peer_id());
    let with_device: Multiaddr = with_device.parse().expect("an address");
    let bytes = |address: &Multiaddr| [&[ADDRESS][..], &address.to_vec()].concat();
    let list = piece(b"squad.example.org");
    let record = |address: &Multiaddr| piece(format!("dnsaddr={address}").as_bytes());
    let host = piece(b"dnsaddr=/dns4/voice.example.org/udp/4000/quic-v1");
    let other = piece(b"dnsaddr=/dnsaddr/more.example.org");
    vec![
        ("text_address", text("203.0.113.9:4000")),
        ("text_host", text("voice.example.org:4000")),
        ("text_list", text("squad.example.org")),
        ("text_multiaddr", text("/ip6/2001:db8::7/udp/4000/quic-v1")),
        ("address", bytes(&address)),
        ("address_device", bytes(&with_device)),
        ("list", [&[ANSWERS][..], &list, &[2], &record(&address), &record(&with_device)].concat()),
        (
            "names_of_names",
            [&[ANSWERS][..], &list, &[1], &other, &[1], &host, &[1], &piece(&[203, 0, 113, 9])]
                .concat(),
        ),
    ]
}

/// The input is a text that a person has typed, or copied from a web page.
const TEXT: u8 = 0;
/// The input is the bytes of a multiaddr, as mDNS delivers it.
const ADDRESS: u8 = 1;
/// The input is a place, and the answers of name servers.
const ANSWERS: u8 = 2;
const MODES: u8 = 3;
