//! Whether strangers reach this device, as the others find. [PROTO-5.9]

use hark_keys::Timestamp;
use hark_mesh::{
    message::CheckNonce,
    squad::{Checked, Squad},
};

use super::{Input, working::Working};
use crate::{event::Event, snapshot::CheckedView};

impl Working {
    pub(super) fn await_check(&self, nonce: Option<CheckNonce>) {
        let Some(nonce) = nonce else { return self.base.network.links.await_no_check() };
        let inputs = self.base.input_sender.clone();
        self.base.network.links.await_check(nonce, move || {
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Checked(nonce));
        });
    }

    /// Something else was found: others are told where to come.
    pub(super) fn handle_checked(&mut self) {
        let squad = &mut self.driver.squad;
        let (reachable, unreachable): (Vec<_>, Vec<_>) =
            squad.checked().partition(|checked| checked.reachable);
        let addresses = |checked: Vec<Checked>| checked.iter().map(|it| it.address).collect();
        let (reachable, unreachable): (Vec<_>, Vec<_>) =
            (addresses(reachable), addresses(unreachable));
        tracing::debug!(?reachable, ?unreachable, "whether strangers reach this device");
        let now = self.base.network.clock.now();
        self.base.network.swarm.set_confirmed(now, reachable.clone(), Some(squad));
        self.base.doorkeeper.set_addresses(self.base.network.swarm.own_addresses());
        // Whoever asks because of the event is told the same.
        self.show(now, false);
        self.base.publisher.publish(Event::Reachability { reachable, unreachable });
    }
}

/// What was found, for people and programs.
pub(super) fn views(now: Timestamp, squad: &Squad) -> Vec<CheckedView> {
    let view = |Checked { address, reachable, at }| {
        let seconds_ago = now.saturating_duration_since(at).as_secs();
        CheckedView { address, reachable, seconds_ago }
    };
    squad.checked().map(view).collect()
}
