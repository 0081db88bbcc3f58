use std::sync::{
    Arc,
    mpsc::{Receiver, sync_channel},
};

use hark_commands::{Outcome, Request};
use hark_keys::Ticket;
use hark_voice::Line;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    event::StampedEvent,
    network::{Input, Publisher},
    request::{CommandOutcome, RequestError},
    snapshot::{Changes, Command, Snapshot, TicketRequest},
};

/// The inputs and the publisher of a node in one organisation.
pub(super) struct OrganisationHandle {
    pub(super) inputs: UnboundedSender<Input>,
    pub(super) publisher: Arc<Publisher>,
}

/// Lets other threads use a node in one of its organisations.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) stations: Arc<[OrganisationHandle]>,
    pub(super) line: Line,
}

impl NodeHandle {
    /// The id of the organisation, once it is known.
    pub fn organisation(&self) -> Option<&str> {
        self.own().publisher.organisation()
    }

    /// Whether the node still runs in the organisation.
    pub fn is_running(&self) -> bool {
        !self.own().inputs.is_closed()
    }

    /// The newest state of the organisation. `None` in the first moments.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.own().publisher.snapshot()
    }

    /// Carries out a command and returns when it is done; the next snapshot shows the result.
    /// Returns what else there is to know about it. Fails with one line if it cannot be done.
    pub fn command(&self, command: Command) -> Result<CommandOutcome, RequestError> {
        if !self.is_running() {
            return Err(RequestError::EndedHere);
        }
        // An organisation that has ended does nothing and drops its sender.
        let comes_to_front = matches!(command, Command::TalkTo { .. });
        let mut known = CommandOutcome::default();
        for done in self.send(command) {
            let done = done.recv().unwrap_or_else(|_| Ok(CommandOutcome::default()))?;
            known.deaf = known.deaf.or(done.deaf);
        }
        if comes_to_front {
            for done in self.send(Command::Front) {
                done.recv().unwrap_or_else(|_| Ok(CommandOutcome::default()))?;
            }
        }
        Ok(known)
    }

    /// A receiver of events from now on, of all organisations of the node.
    pub fn subscribe(&self) -> Receiver<StampedEvent> {
        self.own().publisher.subscribe()
    }

    /// Tells when what a person sees of any organisation of the node has changed from now on.
    pub fn changes(&self) -> Changes {
        self.own().publisher.changes()
    }

    /// Carries out a request to the charter. Fails with one line if it cannot be done.
    pub fn charter(&self, request: Request) -> Result<Outcome, RequestError> {
        let (sender, receiver) = sync_channel(1);
        let request = Input::Charter(Box::new(request), sender);
        self.own().inputs.send(request).map_err(|_| RequestError::Ended)?;
        receiver.recv().map_err(|_| RequestError::Ended)?
    }

    /// Issues a new ticket. Fails with one line if it cannot.
    pub fn ticket(&self, request: TicketRequest) -> Result<Ticket, RequestError> {
        let (sender, receiver) = sync_channel(1);
        self.own().inputs.send(Input::Ticket(request, sender)).map_err(|_| RequestError::Ended)?;
        receiver.recv().map_err(|_| RequestError::Ended)?
    }

    fn own(&self) -> &OrganisationHandle {
        &self.stations[self.line]
    }

    /// Sends a command to the organisations that it concerns. Returns a receiver for each result.
    pub(super) fn send(
        &self,
        command: Command,
    ) -> Vec<Receiver<Result<CommandOutcome, RequestError>>> {
        let mut all_done = Vec::new();
        let mut to = |line: Line, command| {
            let (input, done) = Input::command(command);
            // An organisation that has ended takes no input.
            let _ = self.stations[line].inputs.send(input);
            all_done.push(done);
        };
        match command {
            // The microphone, the loudspeaker and the end of the node are common to all
            // organisations.
            Command::Mute { .. }
            | Command::Deafen { .. }
            | Command::Away { .. }
            | Command::Ducking { .. }
            | Command::Master { .. }
            | Command::Voice { .. }
            | Command::Transmit { .. }
            | Command::Quit => (0..self.stations.len()).for_each(|line| to(line, command.clone())),
            Command::Ptt { key: None, to: None, .. } => to(self.own().publisher.front(), command),
            Command::Front => self.come_to_front(to),
            Command::TalkTo { .. }
            | Command::Follow
            | Command::Ptt { .. }
            | Command::Listen { .. }
            | Command::Net { .. }
            | Command::Key { .. }
            | Command::Profile { .. }
            | Command::Move { .. }
            | Command::Volunteer { .. }
            | Command::Admit { .. }
            | Command::Refuse { .. }
            | Command::Verify { .. }
            | Command::Volume { .. }
            // All organisations share what these set.
            | Command::Processing { .. }
            | Command::Cues { .. }
            | Command::SideTone { .. } => to(self.line, command),
        }
        all_done
    }

    fn come_to_front(&self, mut to: impl FnMut(Line, Command)) {
        let before = self.own().publisher.come_to_front();
        if before != self.line {
            // The plain key is released there, since speech is for another organisation from now
            // on.
            to(
                before,
                Command::Ptt { down: false, key: None, to: None, for_secs: None, tail_ms: None },
            );
            to(self.line, Command::Front);
        }
    }
}
