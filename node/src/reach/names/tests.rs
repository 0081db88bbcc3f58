use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use hark_keys::{DeviceKey, SeededRandom};
use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    proto::{
        op::{Message, ResponseCode},
        rr::{
            RData, Record, RecordType,
            rdata::{A, AAAA, TXT},
        },
    },
};
use tokio::net::UdpSocket;

use super::*;

/// A source of names that are kept in a map.
#[derive(Default)]
struct Map {
    texts: BTreeMap<&'static str, Vec<String>>,
    hosts: BTreeMap<&'static str, Vec<IpAddr>>,
    asked: Mutex<Vec<String>>,
}

impl NameSource for Map {
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NameError>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let answer = self.texts.get(name).cloned().ok_or(NameError::Nothing);
        Box::pin(async move { answer })
    }

    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, NameError>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let answer = self.hosts.get(name).cloned().ok_or(NameError::Nothing);
        Box::pin(async move { answer })
    }
}

fn place(text: &str) -> PeerPlace {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn device(seed: u64) -> DeviceId {
    DeviceKey::generate(&SeededRandom::new(seed)).id()
}

fn shown(found: &[Found]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn places_are_written_in_several_ways() {
    let address = |text: &str, device| {
        PeerPlace::Address(Found { device, address: text.parse().expect("an address") })
    };
    let ann = device(1);
    assert_eq!(place("192.0.2.7:4000"), address("192.0.2.7:4000", None));
    assert_eq!(place("[2001:db8::7]:4000"), address("[2001:db8::7]:4000", None));
    let named = format!("/ip4/192.0.2.7/udp/4000/quic-v1/p2p/{}", ann.peer_id());
    assert_eq!(place(&named), address("192.0.2.7:4000", Some(ann)));
    let host = |name: &str, family, device| PeerPlace::Host {
        name: name.to_owned(),
        family,
        port: 4000,
        device,
    };
    assert_eq!(place("Voice.Example.org:4000"), host("voice.example.org", None, None));
    assert_eq!(place("router:4000"), host("router", None, None));
    assert_eq!(place("/dns/a.example.org/udp/4000/quic-v1"), host("a.example.org", None, None));
    let six = format!("/dns6/a.example.org/udp/4000/quic-v1/p2p/{}", ann.peer_id());
    assert_eq!(place(&six), host("a.example.org", Some(Family::V6), Some(ann)));
    let list = |device| PeerPlace::List { name: "squad.example.org".to_owned(), device };
    assert_eq!(place("squad.example.org"), list(None));
    assert_eq!(place("squad.example.org."), list(None));
    assert_eq!(place("/dnsaddr/squad.example.org"), list(None));
    let wanted = format!("/dnsaddr/squad.example.org/p2p/{}", ann.peer_id());
    assert_eq!(place(&wanted), list(Some(ann)));
    let (long, longer) = ("a".repeat(64), ["abcdefgh"; 30].join("."));
    for wrong in [
        "",
        ":4000",
        "192.0.2.7",
        "2001:db8::7",
        "a.example.org:0",
        "a.example.org:70000",
        "a b.example.org",
        "a..example.org",
        "http://a.example.org:80",
        "/dns/a.example.org/tcp/4000",
        "/dns/a.example.org/udp/0/quic-v1",
        "/dnsaddr/squad.example.org/udp/4000",
        "/ip4/192.0.2.7/tcp/4000",
        &long,
        &longer,
    ] {
        assert_eq!(wrong.parse::<PeerPlace>(), Err(NoPlace), "{wrong}");
    }
}

#[tokio::test]
async fn a_name_leads_to_all_that_its_records_name() {
    let (ann, bob) = (device(1), device(2));
    let mut names = Map::default();
    names.texts.insert(
        "_dnsaddr.squad.example.org",
        vec![
            format!("dnsaddr=/ip4/203.0.113.9/udp/4000/quic-v1/p2p/{}", ann.peer_id()),
            "dnsaddr=/ip4/203.0.113.9/tcp/4001/p2p/12D3KooW".to_owned(),
            "v=spf1 -all".to_owned(),
            "dnsaddr=".to_owned(),
            format!("dnsaddr=/dnsaddr/more.example.org/p2p/{}", bob.peer_id()),
            "dnsaddr=/dns4/host.example.org/udp/5000/quic-v1".to_owned(),
        ],
    );
    names.texts.insert(
        "_dnsaddr.more.example.org",
        vec![
            format!("dnsaddr=/ip4/203.0.113.11/udp/4000/quic-v1/p2p/{}", ann.peer_id()),
            format!("dnsaddr=/ip6/2001:db8::8/udp/4000/quic-v1/p2p/{}", bob.peer_id()),
            "dnsaddr=/ip4/203.0.113.12/udp/4000/quic-v1".to_owned(),
        ],
    );
    let both = ["203.0.113.20", "2001:db8::20"].map(|text| text.parse().expect("an address"));
    names.hosts.insert("host.example.org", both.to_vec());
    let found = resolve(&names, &place("squad.example.org")).await.expect("found");
    let expected = [
        format!("/ip4/203.0.113.9/udp/4000/quic-v1/p2p/{}", ann.peer_id()),
        // The second record names another device, and the third one names none.
        format!("/ip6/2001:db8::8/udp/4000/quic-v1/p2p/{}", bob.peer_id()),
        "/ip4/203.0.113.20/udp/5000/quic-v1".to_owned(),
    ];
    assert_eq!(shown(&found), expected);
    let wanted = format!("/dnsaddr/squad.example.org/p2p/{}", bob.peer_id());
    let found = resolve(&names, &place(&wanted)).await.expect("found");
    assert_eq!(shown(&found), expected[1..2]);
    let found = resolve(&names, &place("host.example.org:7000")).await.expect("found");
    assert_eq!(
        shown(&found),
        ["/ip4/203.0.113.20/udp/7000/quic-v1", "/ip6/2001:db8::20/udp/7000/quic-v1"]
    );
    let nobody = resolve(&names, &place("nobody.example.org")).await;
    assert_eq!(nobody, Err(NameError::Nothing));
    assert_eq!(resolve(&names, &place("192.0.2.7:4000")).await.map(|found| found.len()), Ok(1));
}

/// The holder of a name cannot make us look up or dial without end.
#[tokio::test]
async fn names_of_names_end_and_so_do_addresses() {
    let mut names = Map::default();
    let next = |name: &str| format!("dnsaddr=/dnsaddr/{name}.example.org");
    for (name, leads_to) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")] {
        let key = format!("_dnsaddr.{name}.example.org").leak();
        names.texts.insert(key, vec![next(leads_to)]);
    }
    assert_eq!(resolve(&names, &place("a.example.org")).await, Err(NameError::Nothing));
    let asked = names.asked.lock().unwrap().clone();
    assert_eq!(asked, ["a", "b", "c", "d"].map(|name| format!("_dnsaddr.{name}.example.org")));

    let mut names = Map::default();
    names.texts.insert("_dnsaddr.loop.example.org", vec![next("loop"); 100]);
    assert_eq!(resolve(&names, &place("loop.example.org")).await, Err(NameError::Nothing));
    assert_eq!(names.asked.lock().unwrap().len(), 16);

    let mut names = Map::default();
    let many = (1..=100).map(|port| format!("dnsaddr=/ip4/203.0.113.9/udp/{port}/quic-v1"));
    names.texts.insert("_dnsaddr.many.example.org", many.collect());
    let found = resolve(&names, &place("many.example.org")).await.expect("found");
    assert_eq!(found.len(), 16);
}

/// Addresses are reported once, and again when the name leads elsewhere.
#[test]
fn only_news_is_told() {
    let found =
        |port: u16| Found { device: None, address: SocketAddr::from(([203, 0, 113, 9], port)) };
    let mut known = Known::default();
    let mut learn = |outcome| {
        let (news, pause) = known.learn(outcome);
        (news, pause.as_secs())
    };
    let lost = || Err(NameError::Timeout);
    assert_eq!(learn(lost()), (vec![], 2));
    assert_eq!(learn(lost()), (vec![], 4));
    assert_eq!(learn(Ok(vec![found(1), found(2)])), (vec![found(1), found(2)], 300));
    assert_eq!(learn(lost()), (vec![], 2));
    assert_eq!(learn(Ok(vec![found(2), found(1)])), (vec![], 300));
    assert_eq!(learn(Ok(vec![found(2), found(3)])), (vec![found(3)], 300));
    assert_eq!(learn(Ok(vec![found(1)])), (vec![found(1)], 300));
    for _ in 0..100 {
        learn(lost());
    }
    assert_eq!(learn(lost()), (vec![], 256));
}

/// The addresses of one place do not wait for the lookup of another.
#[tokio::test]
async fn places_are_looked_up_side_by_side() {
    let mut names = Map::default();
    let record = "dnsaddr=/ip4/203.0.113.9/udp/4000/quic-v1".to_owned();
    names.texts.insert("_dnsaddr.squad.example.org", vec![record]);
    let places = ["nobody.example.org", "192.0.2.7:4000", "squad.example.org"].map(place).to_vec();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let task =
        tokio::spawn(PeerNames { places, source: Arc::new(names) }.run(move |place, found| {
            let told = match found {
                Ok(found) => shown(&found).concat(),
                Err(error) => format!("{place}: {error}"),
            };
            let _ = tell.send(told);
        }));
    assert_eq!(told.recv().await.as_deref(), Some("nobody.example.org: it has no address"));
    assert_eq!(told.recv().await.as_deref(), Some("/ip4/192.0.2.7/udp/4000/quic-v1"));
    assert_eq!(told.recv().await.as_deref(), Some("/ip4/203.0.113.9/udp/4000/quic-v1"));
    task.abort();
}

/// A name server on the loopback interface that serves `records`.
async fn server(records: Vec<(&'static str, RData)>) -> ResolverConfig {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let mut connection = ConnectionConfig::udp();
    connection.port = socket.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a question");
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let question = query.queries.first().expect("one question").clone();
            let name = question.name().to_ascii().to_lowercase();
            for (known, data) in &records {
                if name == *known && data.record_type() == question.query_type() {
                    let record = Record::from_rdata(question.name().clone(), 60, data.clone());
                    answer.add_answer(record);
                }
            }
            if !records.iter().any(|(known, _)| name == *known) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            assert_ne!(question.query_type(), RecordType::ANY);
            answer.queries.push(question);
            socket.send_to(&answer.to_vec().expect("encoded"), from).await.expect("sent");
        }
    });
    let mut server = NameServerConfig::udp("127.0.0.1".parse().expect("an address"));
    server.connections = vec![connection];
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

#[tokio::test]
async fn dns_is_asked_for_texts_and_addresses() {
    let ann = device(1).peer_id();
    // A long text is split into parts of at most 255 bytes.
    let pieces = vec![
        format!("dnsaddr=/ip4/203.0.113.9/udp/4000/quic-v1/p2p/{}", &ann.to_string()[..5]),
        ann.to_string()[5..].to_owned(),
    ];
    let servers = server(vec![
        ("_dnsaddr.squad.example.org.", RData::TXT(TXT::new(pieces))),
        (
            "_dnsaddr.squad.example.org.",
            RData::TXT(TXT::new(vec!["dnsaddr=/dns/host.example.org/udp/5000/quic-v1".to_owned()])),
        ),
        ("host.example.org.", RData::A(A::new(203, 0, 113, 20))),
        ("host.example.org.", RData::AAAA(AAAA("2001:db8::20".parse().expect("an address")))),
    ])
    .await;
    let dns = Dns::of(servers);
    let found = resolve(&dns, &place("squad.example.org")).await.expect("found");
    let mut found = shown(&found);
    // Servers may return records in any order.
    found.sort();
    assert_eq!(
        found,
        [
            "/ip4/203.0.113.20/udp/5000/quic-v1".to_owned(),
            format!("/ip4/203.0.113.9/udp/4000/quic-v1/p2p/{ann}"),
            "/ip6/2001:db8::20/udp/5000/quic-v1".to_owned(),
        ]
    );
    assert_eq!(resolve(&dns, &place("nobody.example.org")).await, Err(NameError::Nothing));
    assert_eq!(resolve(&dns, &place("nobody.example.org:1")).await, Err(NameError::Nothing));
}
