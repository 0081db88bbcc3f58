use std::{
    io::{BufRead, BufReader, Read},
    ops::Index,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// One line of `--events`.
#[derive(Clone, Debug)]
pub struct Event(Value);

impl Event {
    /// Whether this is an event of that name.
    pub fn is(&self, name: &str) -> bool {
        self.0["event"] == name
    }

    /// Whether the event is about that device.
    pub fn is_about(&self, device: &str) -> bool {
        self.0["device"] == device
    }

    /// A field of text; empty if there is none.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A field of texts, in order.
    pub fn texts(&self, field: &str) -> Vec<&str> {
        let list = self.0[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    }

    /// When it happened, as time since 1970.
    pub fn at(&self) -> Duration {
        Duration::from_micros(self.0["at_us"].as_u64().expect("every event has its time"))
    }

    /// For a `stats` event: its entry about that device.
    pub fn peer(&self, device: &str) -> Option<&Value> {
        self.0["peers"].as_array()?.iter().find(|peer| peer["device"] == device)
    }
}

impl Index<&str> for Event {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        &self.0[field]
    }
}

/// The events of a running member, as they arrive.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<(Mutex<Seen>, Condvar)>);

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    ended: bool,
}

impl Events {
    /// Reads events until the stream ends.
    pub(crate) fn follow(stream: impl Read + Send + 'static) -> Self {
        let this = Self::default();
        let followed = this.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                let event = serde_json::from_str(&line).unwrap_or_else(|_| panic!("event {line}"));
                followed.lock().events.push(Event(event));
                followed.0.1.notify_all();
            }
            followed.lock().ended = true;
            followed.0.1.notify_all();
        });
        this
    }

    /// All events so far.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Waits until `find` finds something among all events. Returns the events if it never does.
    pub(crate) fn wait<T>(&self, find: impl Fn(&[Event]) -> Option<T>) -> Result<T, Vec<Event>> {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.lock();
        loop {
            if let Some(found) = find(&seen.events) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                return Err(seen.events.clone());
            }
            let wait = self.0.1.wait_timeout(seen, left);
            seen = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long anything may take. Only something that never happens takes so long.
const PATIENCE: Duration = Duration::from_secs(40);
