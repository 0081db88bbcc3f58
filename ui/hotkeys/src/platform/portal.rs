//! Shortcuts that a Wayland desktop keeps for us, by its portal.
//!
//! The person chooses the keys in the desktop; the desktop tells when they go down and up. It
//! takes them from the game, it knows no mouse buttons and no lone modifiers, and it never says
//! what is down now.
//!
//! A session can be bound once and only as a whole, so another set of shortcuts gets a session of
//! its own. What is known already is listed first, because some desktops ask the person again at
//! every binding.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ashpd::{
    AppID,
    desktop::{
        Session,
        global_shortcuts::{
            Activated, Deactivated, GlobalShortcuts, NewShortcut, Shortcut as BoundShortcut,
        },
    },
    register_host_app_with_connection,
};
use async_channel::{Receiver, Sender};
use futures_util::{StreamExt, future, pin_mut, stream};
use zbus::{Connection, Message, fdo::DBusProxy, names::MemberName};

use super::{KeyInput, KeyListener, Shortcut, Watch, joint::Gate, lock_of, thread::Thread};
use crate::button::Button;

/// Listens to the desktop's portal.
pub(super) struct Portal {
    gate: Arc<Gate>,
    offer: Arc<Offer>,
    limits: Limits,
    _thread: Option<Thread>,
}

/// What the portal shall keep.
pub(super) struct Offer {
    shortcuts: Mutex<Vec<Shortcut>>,
    /// Told after a change. One waiting word is enough for many changes.
    changed: Sender<()>,
}

type Limits = Arc<Mutex<Vec<String>>>;

impl Portal {
    /// Starts to listen. Nothing is asked of the desktop until there are shortcuts.
    pub(super) fn start(gate: Arc<Gate>, shortcuts: Vec<Shortcut>) -> Self {
        Self::start_on(gate, shortcuts, Desktop::of_this_session())
    }

    fn start_on(gate: Arc<Gate>, shortcuts: Vec<Shortcut>, desktop: Desktop) -> Self {
        let (changed, changes) = async_channel::bounded(1);
        let offer = Arc::new(Offer { shortcuts: Mutex::default(), changed });
        *lock_of(&offer.shortcuts) = few(shortcuts);
        let limits = Limits::default();
        let worker = Worker {
            gate: gate.clone(),
            offer: offer.clone(),
            changes,
            limits: limits.clone(),
            desktop,
        };
        let stopper = offer.clone();
        let stop = move || {
            stopper.changed.close();
        };
        let thread =
            Thread::start("hark-portal", stop, move || async_io::block_on(worker.run())).ok();
        Self { gate, offer, limits, _thread: thread }
    }

    /// The handle by which the shortcuts are set.
    pub(super) fn offer(&self) -> Arc<Offer> {
        self.offer.clone()
    }
}

impl Offer {
    /// Sets the shortcuts from now on. Those of the same id keep the keys that they have.
    pub(super) fn set(&self, shortcuts: Vec<Shortcut>) {
        *lock_of(&self.shortcuts) = few(shortcuts);
        let _ = self.changed.try_send(());
    }
}

impl KeyListener for Portal {
    fn watch(&self, watch: Watch) {
        self.gate.watch(watch);
    }

    fn limits(&self) -> Vec<String> {
        lock_of(&self.limits).clone()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.gate.close();
    }
}

/// Which desktop is asked.
#[derive(Clone, Debug, Default)]
struct Desktop {
    /// The bus, `None` for the session's.
    address: Option<String>,
    /// Whether it is KDE's.
    is_plasma: bool,
}

impl Desktop {
    fn of_this_session() -> Self {
        let names = std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_default();
        Self { address: None, is_plasma: names.split(':').any(|name| name == "KDE") }
    }
}

/// What the thread owns.
struct Worker {
    gate: Arc<Gate>,
    offer: Arc<Offer>,
    changes: Receiver<()>,
    limits: Limits,
    desktop: Desktop,
}

/// What happens in a session.
enum Happening {
    Down(Arc<str>),
    Up(Arc<str>),
    /// The desktop has answered.
    Bound(Result<(), Error>),
    /// Nothing that matters here.
    Other,
    /// The portal closed the session or is gone.
    Lost,
}

impl Happening {
    /// What a signal of the portal says.
    fn of(message: &Message) -> Self {
        let body = message.body();
        let header = message.header();
        match header.member().map(MemberName::as_str) {
            Some("Activated") => match body.deserialize::<Activated>() {
                Ok(signal) => Self::Down(signal.shortcut_id().into()),
                Err(_) => Self::Other,
            },
            Some("Deactivated") => match body.deserialize::<Deactivated>() {
                Ok(signal) => Self::Up(signal.shortcut_id().into()),
                Err(_) => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// Why a session cannot be had.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Portal(#[from] ashpd::Error),
    #[error("{0}")]
    Bus(#[from] zbus::Error),
}

impl Worker {
    async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let shortcuts = lock_of(&self.offer.shortcuts).clone();
            let begun = Instant::now();
            let ended = {
                let session = self.session(&shortcuts);
                let changed = self.changes.recv();
                pin_mut!(session, changed);
                // What the desktop asks the person may take for ever: a change ends that too.
                match future::select(session, changed).await {
                    future::Either::Left((ended, _)) => ended,
                    future::Either::Right((Ok(()), _)) => {
                        self.gate.tell(Instant::now(), KeyInput::AllUp);
                        continue;
                    }
                    future::Either::Right((Err(_), _)) => return,
                }
            };
            match ended {
                Ok(()) => self.say("The desktop's shortcuts have stopped."),
                Err(error) => {
                    tracing::debug!(%error, "the portal keeps no shortcuts");
                    self.say(format!("The desktop keeps no shortcuts for Hark: {error}."));
                }
            }
            // No release of this session will be told any more.
            self.gate.tell(Instant::now(), KeyInput::AllUp);
            if begun.elapsed() > LONGEST_PAUSE {
                pause = SHORTEST_PAUSE;
            }
            let changed = self.changes.recv();
            pin_mut!(changed);
            let rest = async_io::Timer::after(pause);
            if let future::Either::Right((Err(_), _)) = future::select(rest, changed).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Binds the shortcuts and tells of them until the portal ends that.
    ///
    /// The connection is this session's own. It closes with this future, and the portal then
    /// closes the session.
    async fn session(&self, shortcuts: &[Shortcut]) -> Result<(), Error> {
        *lock_of(&self.limits) = Vec::new();
        if shortcuts.is_empty() {
            return future::pending().await;
        }
        let connection = match &self.desktop.address {
            Some(address) => zbus::connection::Builder::address(address.as_str())?.build().await?,
            None => Connection::session().await?,
        };
        // Portals before 1.21 have no such call and know programs by other means.
        let id = AppID::try_from(APP_ID)?;
        if let Err(error) = register_host_app_with_connection(connection.clone(), id).await {
            tracing::debug!(%error, "the portal does not register programs");
        }
        let portal = GlobalShortcuts::with_connection(connection.clone()).await?;
        // From before the session on, so that no signal is missed. All in one stream: two would
        // lose their order, and a tap would end before it begins.
        let signals = portal.receive_all_signals().await?;
        let bus = DBusProxy::new(&connection).await?;
        let owners = bus.receive_name_owner_changed_with_args(&[(0, PORTAL)]).await?;
        let session = portal.create_session(Default::default()).await?;
        let closed = session.receive_closed().await?;
        // The person may take long to answer. Signals that nobody takes meanwhile would block the
        // connection, and with it the answer.
        let binding = self.bind(&connection, &portal, &session, shortcuts);

        // One connection has one session, so its signals need no comparing of handles.
        let mut happenings = stream::select_all([
            signals.map(|message| Happening::of(&message)).boxed_local(),
            owners.map(|_| Happening::Lost).boxed_local(),
            closed.map(|_| Happening::Lost).boxed_local(),
            stream::once(binding).map(Happening::Bound).boxed_local(),
        ]);
        while let Some(happening) = happenings.next().await {
            let input = match happening {
                Happening::Down(id) => KeyInput::Pressed(Button::Portal(id)),
                Happening::Up(id) => KeyInput::Released(Button::Portal(id)),
                Happening::Bound(bound) => {
                    bound?;
                    continue;
                }
                Happening::Other => continue,
                Happening::Lost => break,
            };
            self.gate.tell(Instant::now(), input);
        }
        Ok(())
    }

    /// Makes the shortcuts work, asking the person only where that is needed.
    async fn bind(
        &self,
        connection: &Connection,
        portal: &GlobalShortcuts,
        session: &Session<GlobalShortcuts>,
        shortcuts: &[Shortcut],
    ) -> Result<(), Error> {
        let listed = match portal.list_shortcuts(session, Default::default()).await {
            Ok(request) => request.response(),
            Err(error) => Err(error),
        };
        let listed = listed.map(|list| list.shortcuts().to_vec()).unwrap_or_default();
        let all_known = shortcuts.iter().all(|new| listed.iter().any(|old| old.id() == &*new.id));
        if all_known && self.binds_known_by_itself(connection).await {
            self.say_missing(shortcuts, &listed);
            return Ok(());
        }
        // All of them: a session can be bound once, and what it lacks is forgotten.
        let wanted: Vec<NewShortcut> = shortcuts
            .iter()
            .map(|shortcut| {
                NewShortcut::new(&*shortcut.id, &*shortcut.description)
                    .preferred_trigger(shortcut.preferred_trigger.as_deref())
            })
            .collect();
        let answer = portal.bind_shortcuts(session, &wanted, None, Default::default()).await?;
        match answer.response() {
            Ok(bound) => self.say_missing(shortcuts, bound.shortcuts()),
            // Who has declined is not asked again until other shortcuts are wanted.
            Err(ashpd::Error::Response(_)) => {
                self.say("The desktop was not allowed to keep shortcuts for Hark.");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether the desktop makes known shortcuts work without being asked.
    ///
    /// Plasma did up to 6.6, where each binding asks the person anew. Since then, and on all other
    /// desktops, only binding makes them work, and known ones are bound without a question.
    async fn binds_known_by_itself(&self, connection: &Connection) -> bool {
        if !self.desktop.is_plasma {
            return false;
        }
        let answer = connection.call_method(
            Some("org.kde.KWin"),
            "/KWin",
            Some("org.kde.KWin"),
            "supportInformation",
            &(),
        );
        let text = match answer.await {
            Ok(answer) => answer.body().deserialize::<String>().unwrap_or_default(),
            Err(_) => String::new(),
        };
        plasma_version(&text).is_some_and(|version| version < FIRST_PLASMA_THAT_MUST_BIND)
    }

    /// Says which shortcuts have no keys.
    fn say_missing(&self, shortcuts: &[Shortcut], bound: &[BoundShortcut]) {
        let keyless = |shortcut: &&Shortcut| {
            let bound = bound.iter().find(|bound| bound.id() == &*shortcut.id);
            bound.is_none_or(|bound| bound.trigger_description().is_empty())
        };
        let names: Vec<&str> =
            shortcuts.iter().filter(keyless).map(|shortcut| &*shortcut.description).collect();
        if !names.is_empty() {
            self.say(format!("The desktop's settings give no keys to: {}.", names.join(", ")));
        }
    }

    fn say(&self, text: impl Into<String>) {
        *lock_of(&self.limits) = vec![text.into()];
    }
}

/// No more shortcuts than a person would look through.
fn few(mut shortcuts: Vec<Shortcut>) -> Vec<Shortcut> {
    shortcuts.truncate(MOST_SHORTCUTS);
    shortcuts
}

/// The version in what KWin says of itself.
fn plasma_version(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("KWin version:"))?;
    let mut numbers = line.trim().split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The name of our desktop file, by which the desktop knows us.
const APP_ID: &str = "org.hark.Hark";

const PORTAL: &str = "org.freedesktop.portal.Desktop";

const FIRST_PLASMA_THAT_MUST_BIND: (u32, u32) = (6, 7);

/// How many shortcuts are offered at most: a person must look through them in a dialog.
const MOST_SHORTCUTS: usize = 64;

/// How long to wait before a portal that has failed is tried again, at first and at most.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
