//! Tests against routers on the loopback interface.

use std::sync::Mutex as StdMutex;

use hark_keys::SeededRandom;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::mpsc,
};

use super::*;

/// The function by which a test's router answers datagrams.
type Speak = fn(&[u8]) -> Option<Vec<u8>>;

struct Loopback(Gateway);

impl Surroundings for Loopback {
    fn gateway(&mut self) -> io::Result<Option<Gateway>> {
        Ok(Some(self.0))
    }

    fn socket(&mut self, own: Ipv4Addr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        System.socket(own)
    }
}

/// A node that listens at port 4000 behind a router that answers in a given way.
struct Scene {
    listening: watch::Sender<Vec<SocketAddr>>,
    reports: mpsc::UnboundedReceiver<PortReport>,
    /// All datagrams that were sent to the router.
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
    task: tokio::task::JoinHandle<()>,
}

impl Scene {
    async fn new(speak: Speak, search: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let SocketAddr::V4(router) = socket.local_addr().expect("bound") else { unreachable!() };
        let (hears, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 2000];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let datagram = buffer[..length].to_vec();
                if let Some(answer) = speak(&datagram) {
                    socket.send_to(&answer, from).await.expect("sent");
                }
                if hears.send(datagram).is_err() {
                    break;
                }
            }
        });
        let gateway = Gateway { router, own: Ipv4Addr::LOCALHOST, search };
        let (listening, receiver) = watch::channel(vec!["127.0.0.1:4000".parse().unwrap()]);
        let (tell, reports) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(
            Box::new(Loopback(gateway)),
            receiver,
            Arc::new(SeededRandom::new(1)),
            Clock,
            move |report| {
                let _ = tell.send(report);
            },
        ));
        Self { listening, reports, heard, task }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&PortReport) -> bool) -> PortReport {
        loop {
            let report = self.reports.recv().await.expect("the driver runs");
            if wanted(&report) {
                return report;
            }
        }
    }

    /// Ends the node. Returns all datagrams that were sent to the router.
    async fn end(mut self) -> Vec<Vec<u8>> {
        drop(self.listening);
        self.task.await.expect("no panic");
        let mut all = Vec::new();
        // The datagrams are in the router's socket, and the router handles them in order.
        while let Some(datagram) = self.heard.recv().await {
            let last = is_release(&datagram);
            all.push(datagram);
            if last {
                break;
            }
        }
        all
    }
}

fn is_release(datagram: &[u8]) -> bool {
    let lifetime = match datagram.len() {
        60 => &datagram[4..8],
        12 => &datagram[8..],
        _ => return false,
    };
    lifetime == [0; 4]
}

fn pcp_router(request: &[u8]) -> Option<Vec<u8>> {
    if request.first() != Some(&2) {
        return None;
    }
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    answer[8..24].fill(0);
    if answer.len() == 60 {
        answer[42..44].copy_from_slice(&40_000_u16.to_be_bytes());
        answer[56..].copy_from_slice(&[203, 0, 113, 9]);
    }
    Some(answer)
}

fn nat_pmp_router(request: &[u8]) -> Option<Vec<u8>> {
    Some(match *request {
        [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 9, 100, 64, 3, 7],
        [0, 1, _, _, a, b, _, _, c, d, e, f] => {
            vec![0, 129, 0, 0, 0, 0, 0, 9, a, b, 0x9c, 0x41, c, d, e, f]
        }
        [2, ..] => vec![0, 129, 0, 1, 0, 0, 0, 9],
        _ => return None,
    })
}

fn refusing_router(request: &[u8]) -> Option<Vec<u8>> {
    match request[0] {
        0 => Some(vec![0, request[1] | 0x80, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0]),
        _ => {
            let mut answer = pcp_router(request)?;
            answer[3] = 2;
            Some(answer)
        }
    }
}

/// An address at which a search finds nothing.
async fn nowhere() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

#[tokio::test]
async fn a_port_comes_by_pcp_and_is_given_back() {
    let (_kept, search) = nowhere().await;
    let mut scene = Scene::new(pcp_router, search).await;
    let report = scene.wait_for(|report| report.mapped().is_some()).await;
    assert_eq!(report.mapped(), Some(("PCP", "203.0.113.9:40000".parse().unwrap())));
    assert_eq!(report.reachable(), Some("203.0.113.9:40000".parse().unwrap()));
    let all = scene.end().await;
    assert_eq!(all[0][40..42], 4000_u16.to_be_bytes(), "the port that we listen at");
    assert!(is_release(all.last().unwrap()), "{all:?}");
}

/// [PROTO-5.5] RFC 6598: an external address from a provider's own NAT is of no use.
#[tokio::test]
async fn a_port_of_a_router_behind_another_nat_is_not_reachable() {
    let (_kept, search) = nowhere().await;
    let mut scene = Scene::new(nat_pmp_router, search).await;
    let report = scene.wait_for(|report| report.mapped().is_some()).await;
    assert_eq!(report.mapped(), Some(("NAT-PMP", "100.64.3.7:40001".parse().unwrap())));
    assert_eq!((report.reachable(), report.is_double_nat()), (None, true));
    assert_eq!(report.pcp, PortAnswer::Unsupported);
    let all = scene.end().await;
    assert!(is_release(all.last().unwrap()), "{all:?}");
}

#[tokio::test]
async fn another_port_is_asked_for_when_the_node_listens_elsewhere() {
    let (_kept, search) = nowhere().await;
    let mut scene = Scene::new(pcp_router, search).await;
    scene.wait_for(|report| report.mapped().is_some()).await;
    scene.listening.send_replace(vec!["127.0.0.1:5000".parse().unwrap()]);
    scene.wait_for(|report| report.mapped().is_none()).await;
    scene.wait_for(|report| report.mapped().is_some()).await;
    let mut asked = Vec::new();
    while let Ok(datagram) = scene.heard.try_recv() {
        if datagram.len() == 60 {
            asked.push((u16::from_be_bytes([datagram[40], datagram[41]]), is_release(&datagram)));
        }
    }
    assert_eq!(asked, [(4000, false), (4000, true), (5000, false)]);
}

/// A router that speaks UPnP, with the actions that it was asked for.
struct Igd {
    search: SocketAddr,
    actions: Arc<StdMutex<Vec<String>>>,
}

impl Igd {
    async fn new(permanent_only: bool) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let location = http.local_addr().expect("bound");
        let ssdp = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let search = ssdp.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 2000];
            while let Ok((length, from)) = ssdp.recv_from(&mut buffer).await {
                let search = String::from_utf8_lossy(&buffer[..length]).into_owned();
                assert!(search.starts_with("M-SEARCH * HTTP/1.1\r\n"), "{search}");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                     LOCATION: http://{location}/root.xml\r\n\r\n"
                );
                ssdp.send_to(answer.as_bytes(), from).await.expect("sent");
            }
        });
        let actions = Arc::new(StdMutex::new(Vec::new()));
        let list = Arc::clone(&actions);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = http.accept().await {
                let list = Arc::clone(&list);
                tokio::spawn(async move {
                    while let Some((head, body)) = request(&mut stream).await {
                        let (status, answer) = answer(&head, &body, permanent_only, &list);
                        let answer = format!(
                            "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\n\
                             Content-Length: {}\r\n\r\n{answer}",
                            answer.len()
                        );
                        stream.write_all(answer.as_bytes()).await.expect("written");
                    }
                });
            }
        });
        Self { search, actions }
    }

    fn actions(&self) -> Vec<String> {
        self.actions.lock().unwrap().clone()
    }
}

/// Returns the head and the body of the next HTTP request.
async fn request(stream: &mut tokio::net::TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(
    head: &str,
    body: &str,
    permanent_only: bool,
    list: &StdMutex<Vec<String>>,
) -> (&'static str, String) {
    let field = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>")).unwrap_or_default();
        rest.split('<').next().unwrap_or_default().to_owned()
    };
    let ok = |action: &str, inner: &str| {
        let answer = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
             <s:Body><u:{action}Response xmlns:u=\"{SERVICE}\">{inner}</u:{action}Response></s:Body>\
             </s:Envelope>"
        );
        ("200 OK", answer)
    };
    if head.starts_with("GET /root.xml") {
        return ("200 OK", ROOT.replace("SERVICE", SERVICE));
    }
    if head.starts_with("GET /service.xml") {
        return ("200 OK", SCHEMA.to_owned());
    }
    let mut list = list.lock().unwrap();
    for action in ["GetExternalIPAddress", "AddPortMapping", "DeletePortMapping"] {
        if !body.contains(&format!(":{action} ")) && !body.contains(&format!(":{action}>")) {
            continue;
        }
        let fields = ["NewExternalPort", "NewProtocol", "NewInternalClient", "NewInternalPort"];
        let fields = fields.map(field).join(" ");
        list.push(format!("{action} {fields} {}", field("NewLeaseDuration")));
        if action == "GetExternalIPAddress" {
            let address = "<NewExternalIPAddress>203.0.113.77</NewExternalIPAddress>";
            return ok(action, address);
        }
        if permanent_only && action == "AddPortMapping" && field("NewLeaseDuration") != "0" {
            return ("500 Internal Server Error", FAULT.replace("CODE", "725"));
        }
        return ok(action, "");
    }
    panic!("{head}\n{body}");
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// The description that a small router gives of itself.
const ROOT: &str = r#"<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>SERVICE</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/control</controlURL><eventSubURL>/event</eventSubURL><SCPDURL>/service.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"#;

const SCHEMA: &str = r#"<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>
<action><name>AddPortMapping</name><argumentList>
<argument><name>NewRemoteHost</name><direction>in</direction></argument>
<argument><name>NewExternalPort</name><direction>in</direction></argument>
<argument><name>NewProtocol</name><direction>in</direction></argument>
<argument><name>NewInternalPort</name><direction>in</direction></argument>
<argument><name>NewInternalClient</name><direction>in</direction></argument>
<argument><name>NewEnabled</name><direction>in</direction></argument>
<argument><name>NewPortMappingDescription</name><direction>in</direction></argument>
<argument><name>NewLeaseDuration</name><direction>in</direction></argument></argumentList></action>
<action><name>DeletePortMapping</name><argumentList>
<argument><name>NewRemoteHost</name><direction>in</direction></argument>
<argument><name>NewExternalPort</name><direction>in</direction></argument>
<argument><name>NewProtocol</name><direction>in</direction></argument></argumentList></action>
</actionList></scpd>"#;

const FAULT: &str = r#"<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
<s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>CODE</errorCode>
<errorDescription>no</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>"#;

#[tokio::test]
async fn where_pcp_and_nat_pmp_give_none_a_port_comes_by_upnp_and_is_given_back() {
    for permanent_only in [false, true] {
        let igd = Igd::new(permanent_only).await;
        let mut scene = Scene::new(refusing_router, igd.search).await;
        let report = scene.wait_for(|report| report.mapped().is_some()).await;
        assert_eq!(report.mapped(), Some(("UPnP", "203.0.113.77:4000".parse().unwrap())));
        assert_eq!(report.pcp, PortAnswer::Refused(PortRefusal::NotAllowed));
        drop(scene.listening);
        scene.task.await.expect("no panic");
        let actions = igd.actions();
        let lease = if permanent_only { "0" } else { "3600" };
        let add = format!("AddPortMapping 4000 UDP 127.0.0.1 4000 {lease}");
        assert!(actions.contains(&add), "{actions:?}");
        assert_eq!(actions.last().unwrap().trim_end(), "DeletePortMapping 4000 UDP");
    }
}

#[tokio::test]
async fn upnp_is_spare_where_pcp_gives_a_port() {
    let igd = Igd::new(false).await;
    let mut scene = Scene::new(pcp_router, igd.search).await;
    let report = scene.wait_for(|report| report.upnp == PortAnswer::Spare).await;
    assert!(report.is_complete() || report.pcp == PortAnswer::Awaited);
    assert!(igd.actions().is_empty(), "{:?}", igd.actions());
}
