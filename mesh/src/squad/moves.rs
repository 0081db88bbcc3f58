//! Moves members between channels on behalf of other members.

use hark_charter::{
    Charter,
    content::{Capabilities, Place},
};
use hark_keys::{ChannelId, DeviceId, MemberId, Timestamp};
use zeroize::Zeroizing;

use super::{MessageError, Purpose, Squad, SquadEvent, reconcile::Dirty};
use crate::{
    message::{Message, Move},
    target::LISTEN,
};

/// Reasons why a member cannot be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The mover needs the right to move at both channels.
    #[error("you may not move members there, or away from there")]
    MayNot,
    /// The member may not hear the channel, and a move gives no rights.
    #[error("that member may not hear the channel")]
    MayNotHear,
    /// The member is not linked. Members move themselves when they are asked to.
    #[error("that member is not here")]
    NotHere,
}

impl Squad {
    /// Asks a linked member to hear and talk to a channel, instead of `from` or in addition. Each
    /// of its devices is asked once. The result shows in who is then on the channel. [PROTO-6.14]
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

    /// `by` asks us to hear another channel.
    pub(super) fn take_move(&mut self, by: DeviceId, order: Move) -> Result<(), MessageError> {
        let mover = self.member_of(by).ok_or(MessageError::NotLinked)?;
        let own = self.member.ok_or(MessageError::NotMember)?;
        check(self.charter(), mover, own, &order).map_err(MessageError::Move)?;
        // A member that has left `from` meanwhile is where it wants to be.
        if order.from.is_none_or(|from| self.nets.own().contains(&from)) {
            self.events.push_back(SquadEvent::Moved { by, from: order.from, to: order.to });
        }
        Ok(())
    }
}

/// Checks whether `by` may move `member` in this way.
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
