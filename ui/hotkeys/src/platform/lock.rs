//! Whether the session is locked, by logind's `LockedHint`.
//!
//! GNOME, KDE and `xss-lock` set it, on X11 and on Wayland. Where logind is missing or the locker
//! does not tell it, nothing is noticed here; keys held are then ended as any lost release is.

use std::{sync::Arc, time::Instant};

use async_channel::Sender;
use futures_util::{StreamExt, future, pin_mut};
use zbus::{
    Connection, Proxy,
    zvariant::{ObjectPath, OwnedObjectPath},
};

use super::{joint::Joint, thread::Thread};

/// Watches the lock. Dropping it ends that.
pub(super) struct Lock {
    _thread: Option<Thread>,
}

impl Lock {
    pub(super) fn start(joint: &Arc<Joint>) -> Self {
        Self::start_on(joint, None)
    }

    /// Starts on the bus of `address`, `None` for the system's.
    fn start_on(joint: &Arc<Joint>, address: Option<String>) -> Self {
        let joint = joint.clone();
        let (stop, stopped): (Sender<()>, _) = async_channel::bounded(1);
        let body = move || {
            let watching = watch(&joint, address.as_deref());
            let stopped = stopped.recv();
            pin_mut!(watching, stopped);
            let ended = async_io::block_on(future::select(watching, stopped));
            if let future::Either::Left((Err(error), _)) = ended {
                tracing::debug!(%error, "logind does not tell whether the session is locked");
            }
            // Without a word from logind the session counts as open.
            joint.set_locked(Instant::now(), false);
        };
        let stop = move || {
            stop.close();
        };
        Self { _thread: Thread::start("hark-lock", stop, body).ok() }
    }
}

async fn watch(joint: &Joint, address: Option<&str>) -> zbus::Result<()> {
    let connection = match address {
        Some(address) => zbus::connection::Builder::address(address)?.build().await?,
        None => Connection::system().await?,
    };
    let path = session_path(&connection).await?;
    let session = Proxy::new(&connection, LOGIND, path, SESSION).await?;
    let mut changes = session.receive_property_changed::<bool>("LockedHint").await;
    joint.set_locked(Instant::now(), session.get_property("LockedHint").await?);
    while let Some(change) = changes.next().await {
        joint.set_locked(Instant::now(), change.get().await?);
    }
    Ok(())
}

/// The session that this person looks at. Changes are told under this path only, not under
/// `auto`, which answers questions also for programs that a session's manager has started.
async fn session_path(connection: &Connection) -> zbus::Result<OwnedObjectPath> {
    let automatic = ObjectPath::try_from("/org/freedesktop/login1/session/auto")?;
    let automatic = Proxy::new(connection, LOGIND, automatic, SESSION).await?;
    let id: String = match automatic.get_property("Id").await {
        Ok(id) => id,
        Err(error) => std::env::var("XDG_SESSION_ID").map_err(|_| error)?,
    };
    let manager = Proxy::new(connection, LOGIND, "/org/freedesktop/login1", MANAGER).await?;
    manager.call("GetSession", &(id,)).await
}

const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::{super::test_bus::TestBus, *};
    use crate::{
        button::Button,
        platform::{KeyInput, Watch},
    };

    struct Manager;

    struct Session {
        locked: bool,
    }

    #[zbus::interface(name = "org.freedesktop.login1.Manager")]
    impl Manager {
        fn get_session(&self, id: String) -> OwnedObjectPath {
            assert_eq!(id, "c2");
            ObjectPath::from_static_str_unchecked(PATH).into()
        }
    }

    #[zbus::interface(name = "org.freedesktop.login1.Session")]
    impl Session {
        #[zbus(property)]
        fn id(&self) -> &str {
            "c2"
        }

        #[zbus(property)]
        fn locked_hint(&self) -> bool {
            self.locked
        }
    }

    const PATH: &str = "/org/freedesktop/login1/session/c2";
    const AUTO: &str = "/org/freedesktop/login1/session/auto";

    #[test]
    fn locking_the_session_lets_all_go() {
        let Some(bus) = TestBus::start() else { return };
        let server = async_io::block_on(async {
            zbus::connection::Builder::address(bus.address())?
                .serve_at("/org/freedesktop/login1", Manager)?
                .serve_at(AUTO, Session { locked: false })?
                .serve_at(PATH, Session { locked: false })?
                .name(LOGIND)?
                .build()
                .await
        })
        .unwrap();
        let set = |locked| {
            async_io::block_on(async {
                let session = server.object_server().interface::<_, Session>(PATH).await?;
                session.get_mut().await.locked = locked;
                session.get().await.locked_hint_changed(session.signal_emitter()).await
            })
            .unwrap();
        };
        let (sender, told) = mpsc::channel();
        let joint = Joint::new(Arc::new(move |_, input| {
            let _ = sender.send(input);
        }));
        let lock = Lock::start_on(&joint, Some(bus.address().into()));
        // The watch may begin before or after the change: both must be noticed.
        set(true);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), KeyInput::AllUp);
        set(false);
        // Keys pass again once it is noticed.
        let gate = joint.gate();
        gate.watch(Watch::Everything);
        let pressed = KeyInput::Pressed(Button::Mouse(4));
        let mut passed = Err(mpsc::RecvTimeoutError::Timeout);
        for _ in 0..1000 {
            gate.tell(Instant::now(), pressed.clone());
            passed = told.recv_timeout(Duration::from_millis(10));
            if passed.is_ok() {
                break;
            }
        }
        assert_eq!(passed, Ok(pressed));
        set(true);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), KeyInput::AllUp);
        let begun = Instant::now();
        drop(lock);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
