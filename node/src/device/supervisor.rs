//! The supervisor: opens sound cards, keeps them, and opens them again if they are lost.

use std::{
    any::Any,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    DeviceError,
    callback::Waker,
    capture::LiveCapture,
    card::{self, Live, Opening, SoundSystem, sound_system},
    playout::LivePlayout,
};
use crate::event::Direction;

/// The pause between two tries to open a lost sound card.
const RETRY: Duration = Duration::from_secs(1);
/// The pause before the first try: a change of the default card takes a moment.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// How often the supervisor checks whether another card has become the default.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long all cards may take to open, or to be released. After that the sound system counts as
/// dead, and its threads are left behind.
const PATIENCE: Duration = Duration::from_secs(8);

/// A card that is wanted, for one direction.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) direction: Direction,
    pub(super) name: Option<String>,
}

/// News about the cards for the voice thread.
pub(super) enum CardNews {
    /// A microphone is open. `warning` is what a person should know of its sound.
    CaptureOpened { live: LiveCapture, name: String, warning: Option<String> },
    /// The same of a speaker.
    PlayoutOpened { live: LivePlayout, name: String, warning: Option<String> },
    /// A card is not used any more.
    Lost { direction: Direction, name: String, reason: String },
}

/// A thread that owns the cards' streams.
pub(super) struct Supervisor {
    notices: mpsc::Sender<Notice>,
    done: mpsc::Receiver<()>,
}

/// Messages to the supervisor.
enum Notice {
    /// The card of this direction has failed. `opening` counts how often the direction's card had
    /// been opened.
    Failed {
        direction: Direction,
        opening: u64,
        reason: String,
    },
    /// The card is open but delivers or takes nothing.
    Stalled {
        direction: Direction,
    },
    Stop,
}

/// Reports a card that stands still to the supervisor.
#[derive(Clone)]
pub(super) struct StallReporter(mpsc::Sender<Notice>);

impl StallReporter {
    pub(super) fn report(&self, direction: Direction) {
        // A supervisor that has ended has nothing left to reopen.
        let _ = self.0.send(Notice::Stalled { direction });
    }
}

impl Supervisor {
    /// Opens the wanted cards. The first news are their ends.
    pub(super) fn start(
        wanted: Vec<Wanted>,
        low_delay: bool,
        waker: Waker,
    ) -> Result<(Self, mpsc::Receiver<CardNews>), DeviceError> {
        let (notices, inbox) = mpsc::channel();
        let (news, news_inbox) = mpsc::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (ended, done) = mpsc::sync_channel(1);
        let names: Vec<Wanted> = wanted.clone();
        let own_notices = notices.clone();
        let body = move || {
            let slots = wanted.into_iter().map(Slot::new).collect();
            let (system, look_at) = (sound_system(), Instant::now() + LOOK_AGAIN);
            let notices = own_notices;
            let mut keeper = CardKeeper { slots, system, look_at, low_delay, waker, notices, news };
            let opened = keeper.slots.iter().map(|slot| slot.wanted.direction).collect::<Vec<_>>();
            let outcome = opened.into_iter().try_for_each(|direction| keeper.open(direction));
            let works = outcome.is_ok();
            if ready.send(outcome).is_ok() && works {
                keeper.run(&inbox);
            }
            drop(keeper);
            // If stopping took too long, nobody waits any more.
            let _ = ended.send(());
        };
        thread::Builder::new()
            .name("hark-cards".to_owned())
            .spawn(body)
            .map_err(DeviceError::Thread)?;
        match is_ready.recv_timeout(PATIENCE) {
            Ok(outcome) => outcome?,
            Err(_) => {
                let first = names.into_iter().next();
                let direction = first.as_ref().map_or(Direction::Input, |first| first.direction);
                return Err(DeviceError::Unusable {
                    direction,
                    name: first.and_then(|first| first.name).unwrap_or_else(|| "default".into()),
                    reason: "the sound system does not answer".to_owned(),
                });
            }
        }
        Ok((Self { notices, done }, news_inbox))
    }

    /// For the voice thread, which notices when a card stands still.
    pub(super) fn stall_reporter(&self) -> StallReporter {
        StallReporter(self.notices.clone())
    }
}

impl Drop for Supervisor {
    /// Releases the cards.
    fn drop(&mut self) {
        if self.notices.send(Notice::Stop).is_ok()
            && self.done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            tracing::warn!("the sound system does not answer, its streams are left to it");
        }
    }
}

/// The state of the supervisor's thread.
struct CardKeeper {
    slots: Vec<Slot>,
    system: Box<dyn SoundSystem>,
    /// When to check for another default card.
    look_at: Instant,
    low_delay: bool,
    waker: Waker,
    notices: mpsc::Sender<Notice>,
    news: mpsc::Sender<CardNews>,
}

/// One direction for which a card is wanted.
struct Slot {
    wanted: Wanted,
    open: Option<OpenSlot>,
    openings: u64,
    retry_at: Option<Instant>,
}

/// The card that is open for a slot.
struct OpenSlot {
    /// The stream runs until it is dropped.
    stream: Box<dyn Any>,
    id: String,
    name: String,
}

impl Slot {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, open: None, openings: 0, retry_at: None }
    }
}

impl CardKeeper {
    fn run(&mut self, inbox: &mpsc::Receiver<Notice>) {
        loop {
            let wake_at =
                self.slots.iter().filter_map(|slot| slot.retry_at).fold(self.look_at, Instant::min);
            match inbox.recv_timeout(wake_at.saturating_duration_since(Instant::now())) {
                Ok(Notice::Failed { direction, opening, reason }) => {
                    if self.slot(direction).is_some_and(|slot| slot.openings == opening) {
                        self.lose(direction, reason);
                    }
                }
                Ok(Notice::Stalled { direction }) => {
                    self.lose(direction, "it stands still".to_owned());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.retry();
                    self.follow_default();
                }
                Ok(Notice::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Changes to the new default card for each slot that wants the default one.
    fn follow_default(&mut self) {
        if self.look_at > Instant::now() {
            return;
        }
        self.look_at = Instant::now() + LOOK_AGAIN;
        let system = &self.system;
        let changed = |slot: &Slot| {
            let open = slot.open.as_ref().filter(|_| slot.wanted.name.is_none())?;
            let direction = slot.wanted.direction;
            let default = system.default_id(direction)?;
            if default == open.id {
                return None;
            }
            Some((direction, system.default_card(direction)?.name))
        };
        let changes: Vec<_> = self.slots.iter().filter_map(changed).collect();
        for (direction, name) in changes {
            self.lose(direction, format!("{name} has become the default"));
        }
    }

    fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<Direction> = self
            .slots
            .iter()
            .filter(|slot| slot.retry_at.is_some_and(|at| at <= now))
            .map(|slot| slot.wanted.direction)
            .collect();
        for direction in due {
            if let Err(error) = self.open(direction) {
                tracing::debug!(%error, "sound card is still lost");
                if let Some(slot) = self.slot(direction) {
                    slot.retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    fn open(&mut self, direction: Direction) -> Result<(), DeviceError> {
        let (low_delay, waker, notices) =
            (self.low_delay, self.waker.clone(), self.notices.clone());
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.wanted.direction == direction)
        else {
            return Ok(());
        };
        slot.openings += 1;
        let opening = slot.openings;
        let failed = move |reason| {
            // A supervisor that has ended has nothing left to reopen.
            let _ = notices.send(Notice::Failed { direction, opening, reason });
        };
        let latency = Arc::default();
        let opening = Opening { direction, low_delay, waker, latency, failed: Box::new(failed) };
        let card = card::open(&*self.system, slot.wanted.name.as_deref(), opening)
            .inspect_err(|_| self.system.reconnect())?;
        let warning = card.warning();
        let name = card.name;
        slot.open = Some(OpenSlot { stream: card.stream, id: card.id, name: name.clone() });
        slot.retry_at = None;
        self.tell(match card.live {
            Live::Capture(live) => CardNews::CaptureOpened { live, name, warning },
            Live::Playout(live) => CardNews::PlayoutOpened { live, name, warning },
        });
        Ok(())
    }

    fn lose(&mut self, direction: Direction, reason: String) {
        let Some(slot) = self.slot(direction) else { return };
        let Some(OpenSlot { stream, name, .. }) = slot.open.take() else { return };
        slot.retry_at = Some(Instant::now() + FIRST_RETRY);
        self.tell(CardNews::Lost { direction, name, reason });
        drop(stream);
    }

    fn tell(&self, news: CardNews) {
        // The voice thread outlives the supervisor except while both end.
        let _ = self.news.send(news);
        self.waker.wake();
    }

    fn slot(&mut self, direction: Direction) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.wanted.direction == direction)
    }
}
