//! Epochs on their way to the devices that are to have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::{ChannelId, DeviceId, EpochSeal, Signed, Timestamp};

use crate::epoch::{EpochHeader, EpochMessage, Holders};

/// What each peer is still to be given: the newest epoch of each channel and steward.
#[derive(Default)]
pub(super) struct Handouts {
    waiting: BTreeMap<Key, Handout>,
    ready: BTreeSet<Key>,
    under_way: BTreeMap<u64, Key>,
    last_id: u64,
}

/// The receiver, the channel, and the steward.
type Key = (DeviceId, ChannelId, DeviceId);

struct Handout {
    header: Signed<EpochHeader>,
    holders: Holders,
    /// The seals that have not been accepted yet.
    seals: Vec<(u16, EpochSeal)>,
    /// The holders that the peer knows from what it has accepted.
    base: Option<Holders>,
    /// The message under way, and the number of seals in it.
    sent: Option<(u64, usize)>,
    /// When to send it again; `None` once everything is accepted.
    again_at: Option<Timestamp>,
    /// How often it was not accepted.
    refused: u32,
}

impl Handouts {
    /// `to` is to have `seals` of an epoch, and no seals of an earlier one.
    pub(super) fn give(
        &mut self,
        to: DeviceId,
        header: &Signed<EpochHeader>,
        holders: &Holders,
        seals: impl IntoIterator<Item = (u16, EpochSeal)>,
    ) {
        let EpochHeader { channel, issuer, .. } = *header.unverified();
        let key = (to, channel, issuer);
        let seals = seals.into_iter().collect();
        let base = self.waiting.remove(&key).and_then(|handout| handout.base);
        let (header, holders) = (header.clone(), holders.clone());
        let again_at = Some(Timestamp::ZERO);
        let handout = Handout { header, holders, seals, base, sent: None, again_at, refused: 0 };
        self.waiting.insert(key, handout);
        self.ready.insert(key);
    }

    /// The next message, with its receiver and id.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<(DeviceId, u64, EpochMessage)> {
        let key = self.ready.pop_first()?;
        let handout = self.waiting.get_mut(&key)?;
        let (message, count) = EpochMessage::first_of(
            &handout.header,
            &handout.holders,
            handout.base.as_ref(),
            &handout.seals,
        );
        self.last_id += 1;
        handout.sent = Some((self.last_id, count));
        handout.again_at = Some(now + ANSWER_TIMEOUT);
        self.under_way.insert(self.last_id, key);
        Some((key.0, self.last_id, message))
    }

    /// A message was accepted, or not. If not, the peer may not know the holders that it builds
    /// upon.
    pub(super) fn handle_answer(&mut self, now: Timestamp, id: u64, taken: bool) {
        let Some(key) = self.under_way.remove(&id) else { return };
        let Some(handout) = self.waiting.get_mut(&key) else { return };
        let Some((_, count)) = handout.sent.take_if(|(sent, _)| *sent == id) else { return };
        if !taken {
            handout.base = None;
            let pause = RETRY_AFTER * 2_u32.saturating_pow(handout.refused.min(RETRIES_LENGTHEN));
            handout.refused += 1;
            handout.again_at = Some(now + pause);
            return;
        }
        handout.base = Some(handout.holders.clone());
        handout.seals.drain(..count);
        handout.again_at = None;
        if !handout.seals.is_empty() {
            self.ready.insert(key);
        }
    }

    /// The peer is gone, or knows nothing of what it was given.
    pub(super) fn forget(&mut self, peer: DeviceId) {
        self.waiting.retain(|(to, ..), _| *to != peer);
        self.ready.retain(|(to, ..)| *to != peer);
        self.under_way.retain(|_, (to, ..)| *to != peer);
    }

    /// `peer` is to have nothing more that `issuer` dealt for a channel.
    pub(super) fn withdraw(&mut self, peer: DeviceId, channel: ChannelId, issuer: DeviceId) {
        let key = (peer, channel, issuer);
        self.waiting.remove(&key);
        self.ready.remove(&key);
        self.under_way.retain(|_, under_way| *under_way != key);
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        let due = self.waiting.iter().filter(|(_, it)| it.again_at.is_some_and(|at| at <= now));
        self.ready.extend(due.map(|(key, _)| *key));
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.waiting.values().filter_map(|handout| handout.again_at).min()
    }
}

/// Delay before a message that was not accepted is sent again. It doubles each time, up to half a
/// minute, since a device that cannot open its seal now will not be able to later.
const RETRY_AFTER: Duration = Duration::from_millis(300);
const RETRIES_LENGTHEN: u32 = 7;

/// A message without an answer is sent again after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, EpochDealer, SeededRandom};

    use super::*;

    /// [PROTO-11.3] What other relays are given, and what this relay is given of another channel,
    /// goes on.
    #[test]
    fn an_epoch_that_is_withdrawn_is_sent_no_more() {
        let random = SeededRandom::new(1);
        let key = DeviceKey::generate(&random);
        let issuer = key.id();
        let [one, other] = [7, 8].map(|byte| DeviceId::from_bytes([byte; 32]).expect("a device"));
        let [first, second] = [1, 2].map(|byte| ChannelId::from_bytes([byte; 16]));
        let holders = Holders::new([issuer]);
        let mut handouts = Handouts::default();
        for (relay, channel) in [(one, first), (one, second), (other, first)] {
            let dealer = EpochDealer::generate(&random);
            let header = EpochHeader {
                channel,
                issuer,
                number: 1,
                dealer: dealer.public(),
                commitment: dealer.commitment(),
                holders: holders.hash(),
            };
            handouts.give(relay, &Signed::sign(header, &key), &holders, []);
        }
        let sent = |handouts: &mut Handouts, now| {
            let sent = std::iter::from_fn(|| handouts.poll(now));
            let sent = sent.map(|(to, id, message)| (to, message.header.unverified().channel, id));
            sent.collect::<Vec<_>>()
        };
        let now = Timestamp::from_millis(1_000);
        assert_eq!(
            sent(&mut handouts, now),
            [(one, first, 1), (one, second, 2), (other, first, 3)]
        );
        handouts.withdraw(one, first, issuer);
        handouts.handle_answer(now, 1, false);
        handouts.handle_answer(now, 2, false);
        handouts.handle_answer(now, 3, true);
        let again_at = now + RETRY_AFTER;
        assert_eq!(handouts.timeout(), Some(again_at));
        handouts.handle_timeout(again_at);
        assert_eq!(sent(&mut handouts, again_at), [(one, second, 4)]);
    }
}
