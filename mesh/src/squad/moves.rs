//! Members whom others move between channels.

use hark_charter::{
    Charter,
    content::{Capabilities, Place},
};
use hark_keys::{ChannelId, DeviceId, MemberId, Timestamp};
use zeroize::Zeroizing;

use super::{Event, MessageError, Purpose, Squad, reconcile::Dirty};
use crate::{
    message::{Message, Move},
    target::LISTEN,
};

/// Why a member cannot be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Whoever moves others has the right to at both channels.
    #[error("you may not move members there, or away from there")]
    MayNot,
    /// A move gives no rights.
    #[error("that member may not hear the channel")]
    MayNotHear,
    /// Members are moved by themselves, when they are told to.
    #[error("that member is not here")]
    NotHere,
}

impl Squad {
    /// Has a member who is here hear and talk to a channel: instead of `from`, or as well. Each of
    /// its devices is told once; who is on the channel then shows what came of it. [PROTO-6.14]
    pub fn move_member(
        &mut self,
        now: Timestamp,
        member: MemberId,
        from: Option<ChannelId>,
        to: ChannelId,
    ) -> Result<(), MoveError> {
        let order = Move { from, to };
        let by = self.member.ok_or(MoveError::MayNot)?;
        check(self.charter(), by, member, &order)?;
        let of = self.links.iter().filter(|(_, link)| link.member == Some(member));
        let devices: Vec<_> = of.map(|(device, _)| *device).collect();
        if devices.is_empty() {
            return Err(MoveError::NotHere);
        }
        for device in devices {
            let bytes = Message::Move(order.clone()).encode();
            self.send(device, Purpose::Move, Zeroizing::new(bytes));
        }
        self.mark(now, Dirty::default());
        Ok(())
    }

    /// `by` wants us to hear another channel.
    pub(super) fn take_move(&mut self, by: DeviceId, order: Move) -> Result<(), MessageError> {
        let mover = self.member_of(by).ok_or(MessageError::NotLinked)?;
        let own = self.member.ok_or(MessageError::NotMember)?;
        check(self.charter(), mover, own, &order).map_err(MessageError::Move)?;
        // Who has left it meanwhile is where it wants to be.
        if order.from.is_none_or(|from| self.nets.own().contains(&from)) {
            self.events.push_back(Event::Moved { by, from: order.from, to: order.to });
        }
        Ok(())
    }
}

/// Whether `by` may have `member` moved so.
fn check(charter: &Charter, by: MemberId, member: MemberId, order: &Move) -> Result<(), MoveError> {
    let state = charter.state();
    let may = |channel| state.allows(by, Capabilities::MOVE, Place::Channel(channel));
    if !order.from.into_iter().chain([order.to]).all(may) {
        return Err(MoveError::MayNot);
    }
    if state.allows(member, LISTEN, Place::Channel(order.to)) {
        Ok(())
    } else {
        Err(MoveError::MayNotHear)
    }
}
