//! What is done every second, and the state that is then shown.

use std::{sync::atomic::Ordering, time::Duration};

use hark_keys::Timestamp;
use hark_mesh::{datagram::DropReason, forwarding::Statistics, squad::Squad};

use super::{Core, address_text, traffic};
use crate::{
    carrier::{CarrierSnapshot, Occupancy, Session},
    event::RelayEvent,
    text::Text,
};

impl Core {
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.next_tick = now + TICK;
        self.ticks += 1;
        let second = self.ticks.is_multiple_of(TICKS_A_SECOND);
        if let Some(driver) = &mut self.driver {
            // A member's address may change without an event.
            driver.tick(now, &self.network, second);
        }
        if !second {
            return;
        }
        self.network.relay.renew_outlets(&self.network.links);
        self.watch_rates();
        self.show();
        if self.is_drained(now) && !std::mem::replace(&mut self.told_drained, true) {
            (self.tell)(&RelayEvent::Drained);
        }
        if self.ticks.is_multiple_of(TICKS_A_SECOND * RECORDS_EVERY) {
            self.network.links.all().iter().for_each(|link| link.nudge());
            if let Some(driver) = &mut self.driver {
                driver.keep_members(&self.network);
            }
        }
    }

    /// Every second: checks whether packets were dropped over a quota, and over which, and whether
    /// any packets arrived.
    fn watch_rates(&mut self) {
        let now = self.network.relay.statistics();
        let dropped = |it: &Statistics| it.total.dropped.get(&DropReason::OverQuota).copied();
        let over = dropped(&now) > dropped(&self.counted);
        let sent = now.total.datagrams_out.saturating_sub(self.counted.total.datagrams_out);
        let packets = u64::from(self.quotas.packets);
        let by_packets = packets > 0 && (self.quotas.kbps == 0 || sent >= packets * 9 / 10);
        let quiet = now.total.datagrams_in == self.counted.total.datagrams_in;
        self.may_gather.store(quiet && now.sessions >= GATHERING_FROM, Ordering::Relaxed);
        self.counted = now;
        self.reached("packets", over && by_packets);
        self.reached("kbps", over && !by_packets);
    }

    pub(super) fn show(&mut self) {
        let now = self.network.clock.now();
        let statistics = &self.counted;
        let squad = self.driver.as_ref().map(|driver| &driver.squad);
        let charter = squad.map(Squad::charter);
        let links = self.network.links.all();
        let sessions = links.iter().filter_map(|link| {
            let device = link.device();
            let member = link.hello().member;
            let carried = member.and_then(|member| statistics.members.get(&member));
            Some(Session {
                device: Text(device),
                member: member.map(Text),
                address: address_text(link),
                since: *self.attached.get(&device)?,
                channels: self.channels.heard(device).into_iter().map(Text).collect(),
                traffic: carried.map(traffic).unwrap_or_default(),
                dropped: carried.map_or(0, |it| it.dropped.values().sum()),
            })
        });
        let channels = self.channels.carried().iter().map(|(id, listeners)| {
            let channel = charter.and_then(|charter| charter.state().channel(*id));
            let name = channel.zip(squad).and_then(|(channel, squad)| squad.channel_name(channel));
            Occupancy { channel: Text(*id), name, listeners: *listeners }
        });
        let dropped = statistics.total.dropped.iter();
        let snapshot = CarrierSnapshot {
            name: charter.map(|charter| charter.name().to_owned()),
            named: charter.is_some_and(|it| it.state().relay(self.key.id()).is_some()),
            listen: self.network.swarm.own_addresses(),
            sessions: sessions.collect(),
            channels: channels.collect(),
            traffic: traffic(&statistics.total),
            dropped: dropped.map(|(reason, count)| (reason.to_string(), *count)).collect(),
            drained: self.is_drained(now),
            ended: None,
        };
        self.shown.set(snapshot);
    }
}

/// How many devices must be attached for packets to gather while nobody talks.
const GATHERING_FROM: usize = 100;

/// How often links are checked for signs of life.
const TICK: Duration = Duration::from_millis(500);
const TICKS_A_SECOND: u64 = 2;

/// Seconds between two writes of the members' records.
const RECORDS_EVERY: u64 = 10;
