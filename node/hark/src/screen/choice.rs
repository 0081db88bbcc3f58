//! The channel and the person that keys apply to, and the text of a search.

use hark_node::{
    event::DeviceText,
    snapshot::{NetView, PeerView, Snapshot},
};
use ratatui::crossterm::event::KeyCode;

use super::view::Rooms;

/// What the person has chosen on the screen. Channels and people come and go, so the choice is
/// stored by id. If the chosen one has gone, the first of the list takes its place.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pane: Pane,
    /// The id of the chosen channel.
    net: Option<String>,
    peer: Option<DeviceText>,
    search: Option<Search>,
    /// Whether the list includes people who have been away for long.
    pub(super) shows_long_away: bool,
}

/// The list that keys apply to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// The channels, if there are several.
    #[default]
    Nets,
    /// The people.
    People,
}

/// A text that shown names must contain, in capital or small letters.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    pub(super) text: String,
    /// Whether the person is still typing it.
    pub(super) typing: bool,
}

impl Choice {
    /// Handles a key while a search is typed. Returns whether the key was used.
    pub(super) fn type_key(&mut self, code: KeyCode) -> bool {
        let Some(search) = self.search.as_mut().filter(|search| search.typing) else {
            return false;
        };
        match code {
            KeyCode::Char(letter) if search.text.chars().count() < SEARCH_MAX => {
                search.text.push(letter);
            }
            KeyCode::Backspace => drop(search.text.pop()),
            KeyCode::Enter | KeyCode::Up | KeyCode::Down | KeyCode::Tab => {
                search.typing = false;
                if search.text.is_empty() {
                    self.search = None;
                }
                return code == KeyCode::Enter;
            }
            KeyCode::Esc => self.search = None,
            _ => {}
        }
        true
    }

    /// Moves the choice. Returns whether the key was used.
    pub(super) fn move_by_key(&mut self, code: KeyCode, snapshot: &Snapshot, rooms: Rooms) -> bool {
        let page = match self.pane(snapshot) {
            Pane::Nets => rooms.nets,
            Pane::People => rooms.people,
        };
        let page = page.max(1);
        match code {
            KeyCode::Tab | KeyCode::BackTab => {
                self.pane = match self.pane(snapshot) {
                    Pane::Nets => Pane::People,
                    Pane::People => Pane::Nets,
                };
            }
            KeyCode::Char('/') => {
                self.search = Some(Search { text: String::new(), typing: true });
            }
            KeyCode::Char('a') => self.shows_long_away = !self.shows_long_away,
            KeyCode::Up | KeyCode::Char('k') => self.step(snapshot, |at| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(snapshot, |at| at + 1),
            KeyCode::PageUp => self.step(snapshot, |at| at.saturating_sub(page)),
            KeyCode::PageDown => self.step(snapshot, |at| at + page),
            KeyCode::Home => self.step(snapshot, |_| 0),
            KeyCode::End => self.step(snapshot, |_| usize::MAX),
            _ => return false,
        }
        true
    }

    fn step(&mut self, snapshot: &Snapshot, step: impl Fn(usize) -> usize) {
        let (nets, people) = (self.nets(snapshot), self.people(snapshot));
        match self.pane(snapshot) {
            Pane::Nets => {
                let next = step(self.net_index(&nets)).min(nets.len().saturating_sub(1));
                self.net = nets.get(next).map(|net| net.id.clone());
            }
            Pane::People => {
                let next = step(self.peer_index(&people)).min(people.len().saturating_sub(1));
                self.peer = people.get(next).map(|peer| peer.stats.device);
            }
        }
    }

    pub(super) fn forget_search(&mut self) {
        self.search = None;
    }

    pub(super) fn search(&self) -> Option<&Search> {
        self.search.as_ref()
    }

    /// Whether the search matches no channel and no person.
    pub(super) fn finds_nothing(&self, snapshot: &Snapshot) -> bool {
        let is_search = self.search.as_ref().is_some_and(|search| !search.text.is_empty());
        let nets = snapshot.nets.iter().any(|net| self.matches(&net.path));
        let nets = nets && snapshot.nets.len() > 1;
        is_search && !nets && self.people(snapshot).is_empty()
    }

    /// The list that keys apply to: one that has something to choose. A single channel counts as no
    /// list.
    pub(super) fn pane(&self, snapshot: &Snapshot) -> Pane {
        let (nets, people) = (self.nets(snapshot), self.people(snapshot));
        match self.pane {
            Pane::Nets if nets.is_empty() => Pane::People,
            Pane::People if people.is_empty() && !nets.is_empty() => Pane::Nets,
            pane => pane,
        }
    }

    /// Channels that are listed. A single channel is not listed.
    pub(super) fn nets<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a NetView> {
        let all = snapshot.nets.iter().filter(|net| self.matches(&net.path));
        if snapshot.nets.len() < 2 { Vec::new() } else { all.collect() }
    }

    /// People who are listed. A search also finds those who have been away for long.
    pub(super) fn people<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a PeerView> {
        let all = snapshot.peers.iter().filter(|peer| self.matches(&peer.name));
        let shows_all = self.shows_long_away || self.search.is_some();
        all.filter(|peer| shows_all || !is_long_away(peer)).collect()
    }

    /// The chosen channel.
    pub(super) fn net<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a NetView> {
        let nets = self.nets(snapshot);
        nets.get(self.net_index(&nets)).copied()
    }

    /// The chosen person.
    pub(super) fn peer<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a PeerView> {
        let people = self.people(snapshot);
        people.get(self.peer_index(&people)).copied()
    }

    pub(super) fn net_index(&self, nets: &[&NetView]) -> usize {
        let chosen = |net: &&NetView| self.net.as_ref() == Some(&net.id);
        nets.iter().position(chosen).unwrap_or_default()
    }

    pub(super) fn peer_index(&self, people: &[&PeerView]) -> usize {
        let chosen = |peer: &&PeerView| self.peer == Some(peer.stats.device);
        people.iter().position(chosen).unwrap_or_default()
    }

    fn matches(&self, name: &str) -> bool {
        let text = self.search.as_ref().map(|search| search.text.to_lowercase());
        text.is_none_or(|text| name.to_lowercase().contains(&text))
    }
}

/// Whether somebody has been away for so long that the screen only counts them.
pub(super) fn is_long_away(peer: &PeerView) -> bool {
    peer.away_secs.is_some_and(|away| away >= LONG_AWAY_SECS)
}

const LONG_AWAY_SECS: u64 = 5 * 60;

/// Maximum length of a search, in characters. No name is longer.
const SEARCH_MAX: usize = 40;
