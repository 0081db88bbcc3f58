//! A desktop's portal played on a bus of the test's own.

use std::{collections::HashMap, sync::mpsc};

use ashpd::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};
use zbus::{message::Header, object_server::SignalEmitter};

use super::{super::joint::Joint, super::test_bus::TestBus, *};

type Properties = HashMap<String, OwnedValue>;
type Bound = Vec<(String, Properties)>;

/// What the fake desktop knows and was asked.
#[derive(Clone, Default)]
struct Desk {
    known: Arc<Mutex<Vec<String>>>,
    asked: Option<mpsc::Sender<String>>,
    declines: bool,
}

struct Registry(Desk);
struct Shortcuts(Desk);
struct KWin;

impl Desk {
    fn note(&self, text: String) {
        let _ = self.asked.as_ref().unwrap().send(text);
    }

    fn known(&self) -> Bound {
        let trigger = || OwnedValue::try_from(Value::from("Ctrl+F9")).unwrap();
        let known = lock_of(&self.known);
        let with_keys = |id: &String| {
            let properties = ["description", "trigger_description"];
            (id.clone(), properties.map(|name| (name.into(), trigger())).into())
        };
        known.iter().map(with_keys).collect()
    }
}

#[zbus::interface(name = "org.freedesktop.host.portal.Registry")]
impl Registry {
    fn register(&self, id: String, _options: Properties) {
        self.0.note(format!("register {id}"));
    }
}

#[zbus::interface(name = "org.kde.KWin")]
impl KWin {
    #[zbus(name = "supportInformation")]
    fn support_information(&self) -> &str {
        "KWin Support Information:\n\nVersion\n=======\nKWin version: 6.3.4\nQt Version: 6.8.2\n"
    }
}

/// The path of a request or a session, as the portal and the caller make it from a token.
fn path_of(kind: &str, header: &Header<'_>, options: &Properties, token: &str) -> OwnedObjectPath {
    let sender = header.sender().unwrap().trim_start_matches(':').replace('.', "_");
    let token: String = options[token].try_clone().unwrap().try_into().unwrap();
    let path = format!("/org/freedesktop/portal/desktop/{kind}/{sender}/{token}");
    ObjectPath::try_from(path).unwrap().into()
}

async fn respond(
    connection: &Connection,
    header: &Header<'_>,
    options: &Properties,
    code: u32,
    results: HashMap<&str, Value<'_>>,
) -> OwnedObjectPath {
    let path = path_of("request", header, options, "handle_token");
    let interface = "org.freedesktop.portal.Request";
    let to = header.sender().cloned();
    connection.emit_signal(to, &path, interface, "Response", &(code, results)).await.unwrap();
    path
}

#[zbus::interface(name = "org.freedesktop.portal.GlobalShortcuts")]
impl Shortcuts {
    async fn create_session(
        &self,
        options: Properties,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> OwnedObjectPath {
        let session = path_of("session", &header, &options, "session_handle_token");
        let results = HashMap::from([("session_handle", Value::from(session.as_str()))]);
        respond(connection, &header, &options, 0, results).await
    }

    async fn list_shortcuts(
        &self,
        _session: OwnedObjectPath,
        options: Properties,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> OwnedObjectPath {
        self.0.note("list".into());
        let results = HashMap::from([("shortcuts", Value::from(self.0.known()))]);
        respond(connection, &header, &options, 0, results).await
    }

    async fn bind_shortcuts(
        &self,
        _session: OwnedObjectPath,
        shortcuts: Bound,
        _parent: String,
        options: Properties,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> OwnedObjectPath {
        let ids: Vec<String> = shortcuts.iter().map(|(id, _)| id.clone()).collect();
        self.0.note(format!("bind {}", ids.join(" ")));
        if self.0.declines {
            return respond(connection, &header, &options, 1, HashMap::new()).await;
        }
        *lock_of(&self.0.known) = ids;
        let results = HashMap::from([("shortcuts", Value::from(self.0.known()))]);
        respond(connection, &header, &options, 0, results).await
    }

    #[zbus(signal)]
    async fn activated(
        emitter: &SignalEmitter<'_>,
        session: ObjectPath<'_>,
        id: &str,
        timestamp: u64,
        options: HashMap<&str, Value<'_>>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn deactivated(
        emitter: &SignalEmitter<'_>,
        session: ObjectPath<'_>,
        id: &str,
        timestamp: u64,
        options: HashMap<&str, Value<'_>>,
    ) -> zbus::Result<()>;

    #[zbus(property)]
    fn version(&self) -> u32 {
        2
    }
}

struct World {
    bus: TestBus,
    desk: Desk,
    server: Connection,
    asked: mpsc::Receiver<String>,
    told: mpsc::Receiver<KeyInput>,
    portal: Portal,
}

const PATH: &str = "/org/freedesktop/portal/desktop";

fn serve(bus: &TestBus, desk: &Desk) -> Connection {
    async_io::block_on(async {
        zbus::connection::Builder::address(bus.address())?
            .serve_at(PATH, Registry(desk.clone()))?
            .serve_at(PATH, Shortcuts(desk.clone()))?
            .serve_at("/KWin", KWin)?
            .name(PORTAL)?
            .name("org.kde.KWin")?
            .build()
            .await
    })
    .unwrap()
}

impl World {
    fn start(known: &[&str], ids: &[&str], is_plasma: bool, declines: bool) -> Option<Self> {
        let bus = TestBus::start()?;
        let (sender, asked) = mpsc::channel();
        let known = known.iter().copied().map(String::from).collect();
        let desk = Desk { known: Arc::new(Mutex::new(known)), asked: Some(sender), declines };
        let server = serve(&bus, &desk);
        let (sender, told) = mpsc::channel();
        let joint = Joint::new(Arc::new(move |_, input| {
            let _ = sender.send(input);
        }));
        let desktop = Desktop { address: Some(bus.address().into()), is_plasma };
        let portal = Portal::start_on(joint.gate(), shortcuts(ids), desktop);
        portal.watch(Watch::Everything);
        Some(Self { bus, desk, server, asked, told, portal })
    }

    fn next_asked(&self) -> String {
        self.asked.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn next_told(&self) -> KeyInput {
        self.told.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// The person presses or lets go of what they chose for a shortcut.
    fn press(&self, id: &str, down: bool) {
        async_io::block_on(async {
            let emitter = SignalEmitter::new(&self.server, PATH)?;
            let session = ObjectPath::from_static_str_unchecked("/session");
            if down {
                Shortcuts::activated(&emitter, session, id, 1, HashMap::new()).await
            } else {
                Shortcuts::deactivated(&emitter, session, id, 2, HashMap::new()).await
            }
        })
        .unwrap();
    }
}

fn shortcuts(ids: &[&str]) -> Vec<Shortcut> {
    let shortcut = |id: &&str| Shortcut {
        id: (*id).into(),
        description: format!("Talk on {id}"),
        preferred_trigger: Some("CTRL+F9".into()),
    };
    ids.iter().map(shortcut).collect()
}

fn button(id: &str) -> Button {
    Button::Portal(id.into())
}

#[test]
fn a_shortcut_goes_down_and_up() {
    let Some(world) = World::start(&[], &["lead", "wing"], false, false) else { return };
    assert_eq!(world.next_asked(), "register org.hark.Hark");
    assert_eq!(world.next_asked(), "list");
    assert_eq!(world.next_asked(), "bind lead wing");
    world.press("lead", true);
    world.press("wing", true);
    world.press("lead", false);
    let expected = [
        KeyInput::Pressed(button("lead")),
        KeyInput::Pressed(button("wing")),
        KeyInput::Released(button("lead")),
    ];
    for input in expected {
        assert_eq!(world.next_told(), input);
    }
    assert_eq!(world.portal.limits(), Vec::<String>::new());
    assert!(!world.portal.confirms(&button("lead")));
    let begun = Instant::now();
    drop(world);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn many_quick_taps_while_the_desktop_asks_keep_their_order() {
    let Some(world) = World::start(&[], &["lead"], false, false) else { return };
    for expected in ["register org.hark.Hark", "list", "bind lead"] {
        assert_eq!(world.next_asked(), expected);
    }
    for _ in 0..100 {
        world.press("lead", true);
        world.press("lead", false);
    }
    for _ in 0..100 {
        assert_eq!(world.next_told(), KeyInput::Pressed(button("lead")));
        assert_eq!(world.next_told(), KeyInput::Released(button("lead")));
    }
}

#[test]
fn an_old_plasma_is_not_asked_for_what_it_knows() {
    let Some(world) = World::start(&["lead"], &["lead"], true, false) else { return };
    assert_eq!(world.next_asked(), "register org.hark.Hark");
    assert_eq!(world.next_asked(), "list");
    // The next thing that is asked comes from the change, not from the first set.
    world.portal.offer().set(shortcuts(&["lead", "all"]));
    assert_eq!(world.next_asked(), "register org.hark.Hark");
    assert_eq!(world.next_asked(), "list");
    assert_eq!(world.next_asked(), "bind lead all");
    assert_eq!(world.next_told(), KeyInput::AllUp);
    world.press("all", true);
    assert_eq!(world.next_told(), KeyInput::Pressed(button("all")));
}

#[test]
fn a_desktop_that_needs_binding_at_each_start_is_bound_although_it_lists_all() {
    let Some(world) = World::start(&["lead"], &["lead"], false, false) else { return };
    assert_eq!(world.next_asked(), "register org.hark.Hark");
    assert_eq!(world.next_asked(), "list");
    assert_eq!(world.next_asked(), "bind lead");
}

#[test]
fn a_person_who_declined_is_not_asked_again() {
    let Some(world) = World::start(&[], &["lead"], false, true) else { return };
    for expected in ["register org.hark.Hark", "list", "bind lead"] {
        assert_eq!(world.next_asked(), expected);
    }
    // Nothing comes within the time of a second try.
    assert!(world.asked.recv_timeout(SHORTEST_PAUSE * 2).is_err());
    assert_eq!(world.portal.limits().len(), 1);
}

#[test]
fn a_portal_that_restarts_is_bound_again_and_nothing_stays_held() {
    let Some(mut world) = World::start(&[], &["lead"], false, false) else { return };
    for expected in ["register org.hark.Hark", "list", "bind lead"] {
        assert_eq!(world.next_asked(), expected);
    }
    world.press("lead", true);
    assert_eq!(world.next_told(), KeyInput::Pressed(button("lead")));
    async_io::block_on(world.server.clone().close()).unwrap();
    assert_eq!(world.next_told(), KeyInput::AllUp);
    world.server = serve(&world.bus, &world.desk);
    for expected in ["register org.hark.Hark", "list", "bind lead"] {
        assert_eq!(world.next_asked(), expected);
    }
    world.press("lead", true);
    loop {
        match world.next_told() {
            KeyInput::AllUp => {}
            input => break assert_eq!(input, KeyInput::Pressed(button("lead"))),
        }
    }
}

#[test]
fn without_shortcuts_nothing_is_asked() {
    let Some(world) = World::start(&[], &[], false, false) else { return };
    world.portal.offer().set(shortcuts(&["lead"]));
    assert_eq!(world.next_asked(), "register org.hark.Hark");
}

#[test]
fn a_missing_portal_is_said_in_words() {
    let Some(bus) = TestBus::start() else { return };
    let (sender, told) = mpsc::channel();
    let desktop = Desktop { address: Some(bus.address().into()), is_plasma: false };
    let joint = Joint::new(Arc::new(move |_, input| {
        let _ = sender.send(input);
    }));
    let portal = Portal::start_on(joint.gate(), shortcuts(&["lead"]), desktop);
    assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), KeyInput::AllUp);
    let limits = portal.limits();
    assert!(limits.len() == 1 && limits[0].starts_with("The desktop keeps"), "{limits:?}");
}

#[test]
fn the_version_of_plasma_is_read() {
    assert_eq!(plasma_version("a\nKWin version: 6.7.4\nb"), Some((6, 7)));
    assert_eq!(plasma_version("KWin version: six"), None);
    assert_eq!(plasma_version(""), None);
}
