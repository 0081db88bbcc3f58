//! The words of a recovery key, which the home keeps until they are on paper.
//!
//! A thread of its own reads them, never the one that draws: a key file with a passphrase takes a
//! second to open.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hark_node::store::Home;
use zeroize::Zeroizing;

use crate::{backend::Repaint, start::passphrase};

/// The words that a home keeps, as far as they were asked for. Clones share them.
#[derive(Clone)]
pub struct RecoveryWords {
    home: PathBuf,
    /// What is shown, and the id of the organisation that it is for.
    shown: Arc<Mutex<Option<(String, KeptWords)>>>,
}

/// What was found in the home.
#[derive(Clone, PartialEq, Eq)]
pub enum KeptWords {
    /// The words.
    Words {
        /// Whether they are a founder's, who can also sign for the organisation by them.
        founder: bool,
        /// The 24 words.
        words: Zeroizing<String>,
    },
    /// Why there are no words to see.
    Line(String),
}

/// What a person wants to be done with the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryWish {
    /// They are to be seen.
    Show,
    /// They are to be seen no more.
    Hide,
    /// They are on paper: this device is to keep them no more.
    Forget,
}

impl RecoveryWords {
    /// The words that this home keeps.
    pub fn of(home: PathBuf) -> Self {
        Self { home, shown: Arc::default() }
    }

    /// What is shown for this organisation.
    pub fn shown(&self, organisation: &str) -> Option<KeptWords> {
        let shown = self.lock();
        shown.as_ref().filter(|(id, _)| id == organisation).map(|(_, shown)| shown.clone())
    }

    /// Puts something on view, as for a picture.
    pub fn put(&self, organisation: &str, kept: KeptWords) {
        *self.lock() = Some((organisation.to_owned(), kept));
    }

    /// Carries out a wish by another thread, and calls `repaint` once it is done.
    pub fn carry_out(&self, organisation: &str, wish: RecoveryWish, repaint: Repaint) {
        if wish == RecoveryWish::Hide {
            *self.lock() = None;
            return;
        }
        let (words, organisation) = (self.clone(), organisation.to_owned());
        std::thread::spawn(move || {
            let found = words.find(&organisation, wish == RecoveryWish::Forget);
            let found = found.unwrap_or_else(|error| KeptWords::Line(format!("{error:#}")));
            words.put(&organisation, found);
            repaint();
        });
    }

    fn find(&self, organisation: &str, forget: bool) -> anyhow::Result<KeptWords> {
        let home = Home::open(&self.home, passphrase())?;
        let mut stores = home.organisations()?.into_iter();
        let store = stores.find(|store| store.id().to_string() == organisation);
        let Some(store) = store else { return Ok(KeptWords::Line(NOT_HERE.to_owned())) };
        if forget {
            home.forget_recovery(&store)?;
            return Ok(KeptWords::Line("The words are on this device no more.".to_owned()));
        }
        Ok(home.recovery(&store)?.map_or_else(
            || KeptWords::Line(NOT_HERE.to_owned()),
            |secret| KeptWords::Words {
                founder: store.charter().is_root(secret.key().id()),
                words: Zeroizing::new(secret.to_string()),
            },
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, KeptWords)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryWords").field("home", &self.home).finish_non_exhaustive()
    }
}

const NOT_HERE: &str = "This device keeps none: they were printed, or taken off it.";

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use hark_keys::RecoverySecret;
    use hark_node::{launch::found, random::SystemRandom};

    use super::*;

    #[test]
    fn a_founder_sees_the_words_until_they_are_on_paper() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::open(folder.path(), Box::new(|| None)).expect("a home");
        let secret = RecoverySecret::generate(&SystemRandom);
        let store = found(&home, "Meridian", Some(secret.key().id())).expect("founded");
        home.keep_recovery(&store, &secret, &SystemRandom).expect("kept");
        let id = store.id().to_string();
        let words = RecoveryWords::of(folder.path().to_owned());
        let ask = |wish| {
            let (sender, receiver) = channel();
            let sender = Mutex::new(sender);
            let repaint: Repaint = Arc::new(move || {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
                sender.send(()).expect("the test waits");
            });
            words.carry_out(&id, wish, repaint);
            receiver.recv().expect("it is done");
            words.shown(&id)
        };
        let told = Zeroizing::new(secret.to_string());
        let seen = KeptWords::Words { founder: true, words: told };
        assert!(ask(RecoveryWish::Show) == Some(seen));
        assert!(words.shown("another").is_none());
        assert!(matches!(ask(RecoveryWish::Forget), Some(KeptWords::Line(_))));
        assert!(ask(RecoveryWish::Show) == Some(KeptWords::Line(NOT_HERE.to_owned())));
        words.carry_out(&id, RecoveryWish::Hide, Arc::new(|| {}));
        assert!(words.shown(&id).is_none());
    }
}
