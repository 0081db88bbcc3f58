//! This node as a relay for others.

use std::sync::Arc;

use hark_keys::Timestamp;
use hark_mesh::{
    forwarding::{Limits, Rate},
    squad::Service,
};

use super::working::Working;
use crate::{event::Notice, request::RequestError};

impl Working {
    /// Be a relay with so much to send, in kbit/s, 0 being any rate; or none any more. It stays so
    /// after a restart.
    pub(super) fn volunteer(
        &mut self,
        now: Timestamp,
        rate_kbps: Option<u32>,
    ) -> Result<(), RequestError> {
        if self.base.relay_only && rate_kbps.is_some() {
            return Err(RequestError::Hidden);
        }
        let (squad, store) = (&mut self.driver.squad, &self.store);
        let (store, publisher) = (store.clone(), Arc::clone(&self.base.publisher));
        (self.base.network.worker)(Box::new(move || {
            if let Err(error) = store.keep_volunteer(rate_kbps) {
                publisher.notify(Notice::VolunteerForgotten { error: error.to_string() });
            }
        }));
        squad.volunteer(now, rate_kbps);
        self.limit_relay(rate_kbps);
        self.carry_out(now);
        Ok(())
    }

    pub(super) fn limit_relay(&self, rate_kbps: Option<u32>) {
        let out = Rate { packets_per_second: 0, kbps: rate_kbps.unwrap_or(0) };
        self.base.network.relay.set_limits(Limits { out, ..Limits::default() });
    }

    /// Does what the squad wants done for others.
    pub(super) fn serve(&mut self, service: Service) {
        let squad = &mut self.driver.squad;
        let charter = Arc::clone(squad.charter());
        let slot = self.base.network.relay.serve(service, &charter, &self.base.network.links);
        if let Some((device, slot)) = slot {
            squad.handle_attached(self.base.network.clock.now(), device, slot);
        }
    }
}
