//! What the window shows and steers: a node in this process, or one in another.
//!
//! ```text
//! node ── changes, events ──> thread of the backend ── Scene ──> window
//! window ── WindowOrder ──> thread of the backend ── command ──> node
//! key listener ── press ─────────────────────────────────> node
//! ```
//!
//! Neither waits for the window: a window that is frozen stops no key, no sound and no log.

mod attached;
mod own;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use hark_commands::Request;
use hark_keys::Ticket;
use hark_node::{
    event::{Event, StampedEvent},
    snapshot::{Command, Snapshot, TalkTo, TicketRequest},
};

pub use self::{
    attached::Attached,
    own::{Own, OwnConfig},
};
use crate::{air::Air, history::History};

/// Shows and steers a node.
pub trait Backend: Send + Sync + 'static {
    /// The newest of everything.
    fn scene(&self) -> Arc<Scene>;

    /// Has an order carried out for the organisation of that id, by another thread. A refusal and
    /// an answer become part of the scene.
    fn order(&self, organisation: &str, order: WindowOrder);

    /// Begins or ends to talk to `to` at once, from any thread. `None` is what the plain key talks
    /// to in the organisation in front.
    fn press(&self, organisation: &str, to: Option<&TalkTo>, edge: KeyEdge);

    /// Tells the person that something did not work. The line does not come from the node.
    fn tell(&self, line: &str);

    /// Tells the person that something is done. The line does not come from the node.
    fn note(&self, line: &str);

    /// Whether the node goes on when the window is closed.
    fn outlives_window(&self) -> bool;

    /// Ends a node in this process, and waits for its end; lets go of another.
    fn close(&self);
}

/// What is done with a talk key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEdge {
    /// It goes down.
    Down,
    /// It goes up, and the microphone stays open for a moment, so that no last word is cut off.
    Up,
    /// It goes up, and the microphone closes: its tail has passed.
    UpAtOnce,
}

impl KeyEdge {
    /// The command to the node.
    fn command(self, to: Option<&TalkTo>) -> Command {
        let tail_ms = (self == Self::UpAtOnce).then_some(0);
        let down = self == Self::Down;
        Command::Ptt { down, key: None, to: to.cloned(), for_secs: None, tail_ms }
    }
}

/// What a person has asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowOrder {
    /// A command to the node.
    Command(Command),
    /// A ticket that lets others in.
    Ticket(TicketRequest),
    /// A request to the charter.
    Charter(Box<Request>),
}

impl From<Command> for WindowOrder {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

/// Everything that the window draws.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// The organisations that run, in the order of the configuration.
    pub organisations: Vec<Organisation>,
    /// What was told to the person, the newest last. At most [`NEWS_MAX`].
    pub news: VecDeque<Told>,
    /// The ticket that was asked for last, with the organisation's id.
    pub ticket: Option<(String, Ticket)>,
    /// Why the node has ended, once it has.
    pub ended: Option<String>,
}

/// One organisation of the node.
#[derive(Clone, Debug)]
pub struct Organisation {
    /// Its newest state that looks different.
    pub snapshot: Arc<Snapshot>,
    /// Who talks and has talked there.
    pub air: Arc<Air>,
    /// How well its links worked lately.
    pub history: Arc<History>,
}

/// Something that was told to the person.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// One line.
    pub text: String,
    /// When it happened.
    pub at: Instant,
    /// Whether something did not work.
    pub is_trouble: bool,
}

impl Scene {
    /// The organisation in front: it hears speech without a key of its own.
    pub fn front(&self) -> Option<&Organisation> {
        let front = self.organisations.iter().find(|it| it.snapshot.front);
        front.or(self.organisations.first())
    }

    /// The names of all nets that hear this person now, with the organisation of each if there are
    /// several.
    pub fn on_air(&self) -> Vec<String> {
        let several = self.organisations.len() > 1;
        let on_air = self.organisations.iter().filter(|it| it.snapshot.transmitting);
        let names = on_air.flat_map(|it| {
            let own = &it.snapshot;
            own.talk_to.iter().filter(|net| !own.silenced.contains(net)).map(move |net| {
                if several { format!("{net} ({})", own.organisation) } else { net.clone() }
            })
        });
        names.collect()
    }

    /// Takes in the newest states of all organisations.
    fn set_snapshots(&mut self, now: Instant, snapshots: impl Iterator<Item = Arc<Snapshot>>) {
        let mut before = std::mem::take(&mut self.organisations);
        self.organisations = snapshots
            .map(|snapshot| {
                let same =
                    |it: &Organisation| it.snapshot.organisation_id == snapshot.organisation_id;
                let before = before.iter().position(same).map(|at| before.swap_remove(at));
                let (mut air, mut history) =
                    before.map_or_else(Default::default, |it| (it.air, it.history));
                Arc::make_mut(&mut air).note(now, &snapshot);
                Arc::make_mut(&mut history).note(now, &snapshot);
                Organisation { snapshot, air, history }
            })
            .collect();
    }

    /// Takes in a line for the person.
    fn tell(&mut self, text: String, is_trouble: bool) {
        if self.news.len() == NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back(Told { text, at: Instant::now(), is_trouble });
    }

    /// Takes in an event: some have words for the person.
    fn note(&mut self, event: &StampedEvent) {
        let is_trouble = matches!(
            event.event,
            Event::Refused { .. } | Event::AudioDevice { available: false, .. }
        );
        if let Some(line) = hark_command_line::news::describe(&event.event) {
            let name = (self.organisations.len() > 1).then(|| {
                let id = event.org.as_deref().unwrap_or_default();
                let mut all = self.organisations.iter();
                all.find(|it| it.snapshot.organisation_id == id)
                    .map(|it| it.snapshot.organisation.clone())
            });
            let line = match name.flatten() {
                Some(name) => format!("{name}: {line}"),
                None => line,
            };
            self.tell(line, is_trouble);
        }
    }
}

/// Has the window drawn anew. May be called on any thread.
pub type Repaint = Arc<dyn Fn() + Send + Sync>;

/// The scene between the threads that change it and the window that draws it.
struct Stage {
    scene: Mutex<Arc<Scene>>,
    repaint: Repaint,
}

impl Stage {
    fn new(repaint: Repaint) -> Self {
        Self { scene: Mutex::default(), repaint }
    }

    fn scene(&self) -> Arc<Scene> {
        Arc::clone(&self.scene.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Scene)) {
        let mut scene = self.scene.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut scene));
        drop(scene);
        (self.repaint)();
    }
}

/// Lines that are kept for the person.
pub const NEWS_MAX: usize = 100;

/// Orders that wait; further ones are dropped, and the person is told.
const ORDERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn on_air_names_every_net_that_hears_this_person() {
        let mut scene = Scene::default();
        let mut own = samples::operation();
        let set = |scene: &mut Scene, all: &[&Snapshot]| {
            let all: Vec<_> = all.iter().map(|it| Arc::new((*it).clone())).collect();
            scene.set_snapshots(Instant::now(), all.into_iter());
        };
        set(&mut scene, &[&own]);
        assert!(scene.on_air().is_empty(), "armed is not on the air");
        own.transmitting = true;
        own.talk_to = vec!["Command".to_owned(), "Flight".to_owned()];
        own.silenced = vec!["Command".to_owned()];
        set(&mut scene, &[&own]);
        assert_eq!(scene.on_air(), ["Flight"], "Command does not hear who may not speak there");
        let other = Snapshot { organisation_id: "other".to_owned(), ..samples::snapshot() };
        set(&mut scene, &[&own, &other]);
        assert_eq!(scene.on_air(), ["Flight (Kestrel Guard)"]);
    }

    #[test]
    fn news_are_bounded_and_the_oldest_go() {
        let mut scene = Scene::default();
        (0..NEWS_MAX + 3).for_each(|it| scene.tell(it.to_string(), false));
        assert_eq!(scene.news.len(), NEWS_MAX);
        assert_eq!(scene.news[0].text, "3");
    }
}
