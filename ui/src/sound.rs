//! The microphones and loudspeakers that a person can choose from.
//!
//! A sound system may take a second to answer. A thread of its own asks it, never the one that
//! draws.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hark_node::{
    device::{DeviceInfo, DeviceList, InputSpec, OutputSpec, list_devices},
    event::Direction,
};

use crate::backend::Repaint;

/// The list of devices, as far as it has been read. Clones share it.
#[derive(Clone)]
pub struct SoundDevices {
    /// Lists the devices, which may take its time. `None` if the list is fixed.
    reader: Option<fn() -> DeviceList>,
    listing: Arc<Mutex<Listing>>,
}

/// The devices that a person has chosen in the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChosenDevices {
    /// The name of the microphone. `None` is the system's default.
    pub microphone: Option<String>,
    /// The name of the loudspeaker. `None` is the system's default.
    pub loudspeaker: Option<String>,
}

#[derive(Default)]
struct Listing {
    list: Option<Arc<DeviceList>>,
    /// Whether the list is to be read when it is looked at next.
    is_due: bool,
    /// Whether a thread reads it now.
    is_being_read: bool,
}

impl SoundDevices {
    /// The devices of this machine.
    pub fn of_this_machine() -> Self {
        Self::read_by(list_devices)
    }

    /// Devices that are known already, for tests and pictures.
    pub fn fixed(list: DeviceList) -> Self {
        let listing = Listing { list: Some(Arc::new(list)), ..Listing::default() };
        Self { reader: None, listing: Arc::new(Mutex::new(listing)) }
    }

    fn read_by(reader: fn() -> DeviceList) -> Self {
        let listing = Listing { is_due: true, ..Listing::default() };
        Self { reader: Some(reader), listing: Arc::new(Mutex::new(listing)) }
    }

    /// Has the list read anew when it is looked at next: devices come and go.
    pub fn refresh(&self) {
        self.lock().is_due = true;
    }

    /// The newest list, or `None` if none has been read yet. If it is due, a thread begins to read
    /// it and calls `repaint` once it is there.
    pub fn look(&self, repaint: impl FnOnce() -> Repaint) -> Option<Arc<DeviceList>> {
        let mut listing = self.lock();
        if let Some(reader) = self.reader
            && listing.is_due
            && !listing.is_being_read
        {
            (listing.is_due, listing.is_being_read) = (false, true);
            let (shared, repaint) = (self.clone(), repaint());
            let body = move || {
                let list = reader();
                let mut listing = shared.lock();
                (listing.list, listing.is_being_read) = (Some(Arc::new(list)), false);
                drop(listing);
                repaint();
            };
            let thread = std::thread::Builder::new().name("hark-devices".to_owned());
            if let Err(error) = thread.spawn(body) {
                tracing::warn!(%error, "the sound devices cannot be listed");
                let (host, microphones, speakers) = Default::default();
                let none = DeviceList { host, microphones, speakers };
                (listing.list, listing.is_being_read) = (Some(Arc::new(none)), false);
            }
        }
        listing.list.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Listing> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SoundDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoundDevices").field("list", &self.lock().list).finish()
    }
}

impl ChosenDevices {
    /// Where sound comes from and goes to. What the command line says comes first, then what was
    /// chosen, then the system's default. If a chosen device is gone, the default is taken and a
    /// line says so.
    pub fn ends(
        self,
        input: Option<InputSpec>,
        output: Option<OutputSpec>,
        list: impl FnOnce() -> DeviceList,
    ) -> (InputSpec, OutputSpec, Vec<String>) {
        let microphone = self.microphone.filter(|_| input.is_none());
        let loudspeaker = self.loudspeaker.filter(|_| output.is_none());
        let mut lines = Vec::new();
        // Without a choice nobody waits for the list.
        let known = (microphone.is_some() || loudspeaker.is_some()).then(list);
        let mut if_there = |name: Option<String>, direction| {
            let name = name?;
            let known = known.as_ref().map(|list| devices_of(list, direction)).unwrap_or_default();
            let lower = name.to_lowercase();
            if known.iter().any(|it| it.id == name || it.name.to_lowercase() == lower) {
                return Some(name);
            }
            let kind = kind(direction);
            lines.push(format!("the {kind} {name} is gone: Hark uses the system's default"));
            None
        };
        let microphone = if_there(microphone, Direction::Input);
        let loudspeaker = if_there(loudspeaker, Direction::Output);
        (
            input.unwrap_or(InputSpec::Microphone(microphone)),
            output.unwrap_or(OutputSpec::Speaker(loudspeaker)),
            lines,
        )
    }
}

/// The devices of one direction that are worth choosing, each name once.
pub fn devices_of(list: &DeviceList, direction: Direction) -> Vec<&DeviceInfo> {
    let all = match direction {
        Direction::Input => &list.microphones,
        Direction::Output => &list.speakers,
    };
    let mut chosen: Vec<&DeviceInfo> = Vec::new();
    for device in all.iter().filter(|it| it.is_card(&list.host)) {
        if chosen.iter().all(|it| it.name != device.name) {
            chosen.push(device);
        }
    }
    chosen
}

/// What people call a device of this direction.
pub fn kind(direction: Direction) -> &'static str {
    match direction {
        Direction::Input => "microphone",
        Direction::Output => "loudspeaker",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::samples::sound_devices;

    fn chosen(microphone: &str, loudspeaker: &str) -> ChosenDevices {
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ChosenDevices { microphone: name(microphone), loudspeaker: name(loudspeaker) }
    }

    #[test]
    fn the_command_line_comes_before_what_was_chosen() {
        let (input, output, lines) = chosen("Desk Microphone", "Gone Speaker").ends(
            None,
            Some(OutputSpec::Null),
            sound_devices,
        );
        assert_eq!(input, InputSpec::Microphone(Some("Desk Microphone".to_owned())));
        assert_eq!(output, OutputSpec::Null);
        assert!(lines.is_empty(), "{lines:?}");
        let unasked = || panic!("nothing was chosen");
        let (input, output, lines) = chosen("", "").ends(None, None, unasked);
        assert_eq!(input, InputSpec::Microphone(None));
        assert_eq!(output, OutputSpec::Speaker(None));
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn a_device_that_is_gone_gives_way_to_the_default_and_a_line() {
        let (input, output, lines) =
            chosen("Old Headset", "usb HEADSET").ends(None, None, sound_devices);
        assert_eq!(input, InputSpec::Microphone(None));
        assert_eq!(output, OutputSpec::Speaker(Some("usb HEADSET".to_owned())));
        assert_eq!(lines, ["the microphone Old Headset is gone: Hark uses the system's default"]);
    }

    #[test]
    fn the_list_is_read_by_another_thread_and_again_only_when_asked() {
        let devices = SoundDevices::read_by(|| {
            let name = std::thread::current().name().map(str::to_owned);
            assert_eq!(name.as_deref(), Some("hark-devices"));
            sound_devices()
        });
        let (sender, receiver) = channel();
        let repaint = || -> Repaint {
            let sender = Mutex::new(sender.clone());
            Arc::new(move || {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
                sender.send(()).expect("the test waits");
            })
        };
        assert!(devices.look(repaint).is_none());
        receiver.recv().expect("a repaint");
        let unasked = || panic!("nothing is to be read");
        let read = devices.look(unasked).expect("the list");
        assert_eq!(*read, sound_devices());
        devices.refresh();
        assert!(devices.look(repaint).is_some(), "the old list stays until the new one is there");
        receiver.recv().expect("a repaint");
        let fixed = SoundDevices::fixed(sound_devices());
        fixed.refresh();
        assert!(fixed.look(unasked).is_some());
    }

    #[test]
    fn plug_ins_and_second_devices_of_a_name_are_not_offered() {
        let card = |name: &str, id: &str| DeviceInfo {
            name: name.to_owned(),
            id: id.to_owned(),
            default: false,
            rate_hz: None,
        };
        let list = DeviceList {
            host: "ALSA".to_owned(),
            microphones: vec![
                card("Headset", "hw:CARD=1"),
                card("Headset", "hw:CARD=2"),
                card("Rate Converter Plugin", "speexrate"),
            ],
            speakers: Vec::new(),
        };
        let names = devices_of(&list, Direction::Input);
        assert_eq!(names.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["hw:CARD=1"]);
        assert!(devices_of(&list, Direction::Output).is_empty());
    }
}
