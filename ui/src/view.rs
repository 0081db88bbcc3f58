//! What the window draws, piece by piece. Each piece reads the scene and asks for what the person
//! wants; none of them keeps state of the node.

pub mod badges;
pub mod between;
pub mod bind;
pub mod bottom;
pub mod channels;
pub mod drawer;
pub mod files;
pub mod key_list;
pub mod lamp;
pub mod link;
pub mod members;
pub mod mesh;
pub mod options;
pub mod plate;
pub mod plot;
pub mod sound;
pub mod stack;
pub mod ticket;
pub mod top;
pub mod welcome;

use std::{path::PathBuf, time::Instant};

use hark_hotkeys::button::Chord;
use hark_node::snapshot::{Command, NetChange, NetView, Snapshot, TalkTo};

use crate::{
    backend::{Organisation, Scene, WindowOrder},
    keys::KeyAction,
    recovery::{RecoveryWish, RecoveryWords},
    settings::Settings,
    sound::SoundDevices,
    tokens::Colours,
};

/// What every piece of the window draws from, and where it says what the person asked for.
pub struct Drawing<'a> {
    /// What there is to be seen.
    pub scene: &'a Scene,
    /// The organisation in front.
    pub front: &'a Organisation,
    /// The time of this frame.
    pub now: Instant,
    /// The colours.
    pub colours: &'static Colours,
    /// What the person has chosen for this window.
    pub settings: &'a mut Settings,
    /// The microphones and loudspeakers to choose from.
    pub devices: &'a SoundDevices,
    /// The words of the recovery key, if they were asked for.
    pub recovery: &'a RecoveryWords,
    /// The keys of the keyboard and the mouse that talk, as plates show them.
    pub keys: &'a dyn Fn(&str) -> Option<String>,
    /// What the person asked for in this frame.
    pub asked: Vec<Asked>,
    /// When something to be seen changes by itself next.
    pub next_change: Option<Instant>,
}

/// What a person has asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// An order to the node, for the organisation of that id.
    WindowOrder(String, WindowOrder),
    /// A talk key of the organisation in front was pressed or released with the mouse.
    Press {
        /// Whom to talk to. `None` is what the plain key talks to.
        to: Option<TalkTo>,
        /// Whether it is down.
        down: bool,
    },
    /// A key is to be chosen for this, in place of the chord, if there is one.
    Bind(KeyAction, Option<Chord>),
    /// Another part of the window is to be shown.
    Open(Part),
    /// Everything that the person has chosen goes to this file. One that is there is replaced
    /// after a question.
    Export(PathBuf),
    /// What this file says is taken over, after a question.
    Import(PathBuf),
    /// Something is to be done with the recovery words.
    Recovery(RecoveryWish),
    /// A text goes to the clipboard.
    Copy(String),
    /// A report goes to a new file in the person's home folder.
    SaveReport(String),
}

/// A part of the window that is not always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Settings of the window.
    Options,
    /// All keys.
    Keys,
    /// A ticket that lets others in.
    Ticket,
    /// The window with live and armed nets alone.
    Mini,
    /// The whole window.
    Whole,
}

impl<'a> Drawing<'a> {
    /// The state of the organisation in front.
    pub fn snapshot(&self) -> &'a Snapshot {
        &self.front.snapshot
    }

    /// Sends a command to the organisation in front.
    pub fn command(&mut self, command: Command) {
        self.order(command.into());
    }

    /// Sends an order to the organisation in front.
    pub fn order(&mut self, order: WindowOrder) {
        let organisation = self.front.snapshot.organisation_id.clone();
        self.asked.push(Asked::WindowOrder(organisation, order));
    }

    /// Changes how a net is heard.
    pub fn change(&mut self, net: &NetView, change: NetChange) {
        self.command(Command::Net { net: net.path.clone(), change });
    }

    /// Has the window drawn anew at `at`, or earlier.
    pub fn change_at(&mut self, at: Instant) {
        self.next_change = Some(self.next_change.map_or(at, |earlier| earlier.min(at)));
    }
}
