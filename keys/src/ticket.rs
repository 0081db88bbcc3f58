//! Invite tickets: what a newcomer pastes to be admitted.

mod paste;

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    DeviceId, DeviceKey, MemberId, OrganisationId, Random, RoleId, Signable, Signature, Signed,
    UnixTime, decode, encode,
    encoding::{from_base32, to_base32},
};

/// A signed permission to join: until when, how often, through whom. [PROTO-4.3]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The organisation that the newcomer joins.
    pub organisation: OrganisationId,
    /// The public half of the ticket's secret.
    pub invite_key: DeviceId,
    /// The time at which the invite ends.
    pub expires: UnixTime,
    /// How often it may be redeemed; 0 is any number of times.
    pub uses: u8,
    /// The devices at which a limited invite is redeemed, at most 4.
    pub doors: Vec<DeviceId>,
    /// The device of the issuing member, which has signed it.
    pub issuer: DeviceId,
    /// The role that newcomers get by it, everywhere. [PROTO-4.8]
    pub role: Option<RoleId>,
    /// The member whose further device it admits; `None` if it admits new members. [PROTO-4.7]
    pub member: Option<MemberId>,
    /// The issuer's series of tickets when it was issued. [CHARTER-9.2]
    pub series: Series,
    /// Whether somebody at the door lets each newcomer in by hand. [PROTO-4.10]
    pub asks: bool,
    /// How many removals, of any member, the issuer knew of. [PROTO-4.21]
    pub removals: u32,
}

/// Says which tickets of a member are good: those that were issued since all of them were last
/// revoked. The charter states the present series; zero is the first. [CHARTER-9.2]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series([u8; 8]);

impl Series {
    /// The series with these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

/// The conditions of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The time at which the invite ends.
    pub expires: UnixTime,
    /// How often it may be redeemed; 0 is any number of times.
    pub uses: u8,
    /// The role that newcomers get by it, everywhere.
    pub role: Option<RoleId>,
    /// The issuer's series of tickets at present.
    pub series: Series,
    /// Whether somebody at the door lets each newcomer in by hand.
    pub asks: bool,
    /// How many removals, of any member, the issuer knows of.
    pub removals: u32,
}

impl Terms {
    /// Any number of uses until `expires`, without a role, in a series that was never revoked.
    pub fn until(expires: UnixTime) -> Self {
        let (uses, removals) = (0, 0);
        Self { expires, uses, role: None, series: Series::default(), asks: false, removals }
    }
}

impl Invite {
    /// The ticket's number, as users see it: the last characters of its key.
    pub fn number(&self) -> String {
        self.invite_key.short()
    }

    /// How many of the uses this `door` may redeem; `None` if it is not a door. The shares of all
    /// doors add up to the uses, so that doors that cannot reach each other never redeem too many.
    pub fn share_of(&self, door: DeviceId) -> Option<u8> {
        let position = self.doors.iter().position(|device| *device == door)?;
        let doors = u8::try_from(self.doors.len()).ok()?;
        let extra = u8::try_from(position).ok()? < self.uses % doors;
        Some(self.uses / doors + u8::from(extra))
    }
}

impl Signable for Invite {
    const KIND: &'static str = "invite";

    fn signer(&self) -> DeviceId {
        self.issuer
    }
}

/// A device that can admit, and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// The device's id.
    pub device: DeviceId,
    /// The addresses to try, at most 6.
    pub addresses: Vec<SocketAddr>,
}

/// An invite with its secret, and where to redeem it. Anybody who holds it can join. [PROTO-4.4]
/// [PROTO-4.20]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The organisation's name, for the newcomer to read.
    pub name: String,
    /// The issuer's name, for the newcomer to read; empty if it is not known. Nothing proves it.
    pub issued_by: String,
    /// The signed invite.
    pub invite: Signed<Invite>,
    /// The devices that admit, in the order to try them.
    pub doors: Vec<Door>,
    /// Relays that lead to them. [PROTO-3.10]
    pub relays: Vec<Door>,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Secret([u8; 16]);

impl Secret {
    fn key(&self) -> DeviceKey {
        let mut seed = blake3::derive_key("hark 1 invite key", &self.0);
        let key = DeviceKey::from_secret(&seed);
        seed.zeroize();
        key
    }
}

impl Ticket {
    /// A new ticket of `issuer`. If its uses are limited, the `doors` are the devices that redeem
    /// it, and at least one is needed. What the ticket has no room for is left out: doors after the
    /// fourth, addresses after the sixth or so, the end of a long name.
    pub fn issue(
        issuer: &DeviceKey,
        organisation: OrganisationId,
        name: &str,
        terms: Terms,
        doors: Vec<Door>,
        random: &dyn Random,
    ) -> Self {
        Self::issue_for(issuer, organisation, name, (terms, None), doors, random)
    }

    /// A new ticket of `issuer`, a device of `member`, which admits one more device of that member.
    /// The issuer, to be found at `addresses`, is the door. The ticket has one use and no role, and
    /// nobody is asked to let the device in.
    pub fn for_device(
        issuer: &DeviceKey,
        organisation: OrganisationId,
        name: &str,
        terms: Terms,
        member: MemberId,
        addresses: Vec<SocketAddr>,
        random: &dyn Random,
    ) -> Self {
        let invited = (Terms { uses: 1, role: None, asks: false, ..terms }, Some(member));
        let doors = vec![Door { device: issuer.id(), addresses }];
        Self::issue_for(issuer, organisation, name, invited, doors, random)
    }

    /// The same ticket with as many of the relays as there is room for. They lead a newcomer to its
    /// doors if it cannot reach them. [PROTO-3.10]
    pub fn led_by(mut self, relays: impl IntoIterator<Item = Door>) -> Self {
        for mut relay in relays {
            relay.addresses.truncate(RELAY_ADDRESS_LIMIT);
            let known = self.places().any(|place| place.device == relay.device);
            if known || self.places().count() == DOOR_LIMIT {
                continue;
            }
            self.relays.push(relay);
            if encode(&self).len() > BYTES_LIMIT {
                self.relays.pop();
            }
        }
        self
    }

    /// The same ticket with the name of the person who issues it, if there is room for it.
    pub fn issued_by(mut self, name: &str) -> Self {
        self.issued_by = printable(name, PERSON_LIMIT);
        if encode(&self).len() > BYTES_LIMIT {
            self.issued_by.clear();
        }
        self
    }

    fn issue_for(
        issuer: &DeviceKey,
        organisation: OrganisationId,
        name: &str,
        (terms, member): (Terms, Option<MemberId>),
        mut doors: Vec<Door>,
        random: &dyn Random,
    ) -> Self {
        let Terms { expires, uses, role, series, asks, removals } = terms;
        doors.truncate(DOOR_LIMIT);
        for door in &mut doors {
            door.addresses.truncate(ADDRESS_LIMIT);
            for address in &mut door.addresses {
                // Flow label and scope mean nothing to another machine, and have no encoding.
                *address = SocketAddr::new(address.ip(), address.port());
            }
        }
        let mut secret = Secret([0; 16]);
        random.fill(&mut secret.0);
        let named =
            if uses == 0 { Vec::new() } else { doors.iter().map(|door| door.device).collect() };
        let invite = Invite {
            organisation,
            invite_key: secret.key().id(),
            expires,
            uses,
            doors: named,
            issuer: issuer.id(),
            role,
            member,
            series,
            asks,
            removals,
        };
        let invite = Signed::sign(invite, issuer);
        let (name, issued_by) = (printable(name, NAME_LIMIT), String::new());
        let mut ticket = Self { name, issued_by, invite, doors, relays: Vec::new(), secret };
        while encode(&ticket).len() > BYTES_LIMIT {
            let door = ticket.doors.iter_mut().max_by_key(|door| door.addresses.len());
            let dropped = door.and_then(|door| door.addresses.pop());
            dropped.expect("a ticket without addresses is short enough");
        }
        ticket
    }

    /// The invite; its signature was checked when the ticket was read.
    pub fn invite(&self) -> &Invite {
        self.invite.unverified()
    }

    /// All doors and relays that it names.
    fn places(&self) -> impl Iterator<Item = &Door> {
        self.doors.iter().chain(&self.relays)
    }

    /// The redemption that `device` shows at the door, valid only on the link with this `exporter`.
    /// [PROTO-3.5]
    pub fn redemption(&self, device: DeviceId, exporter: &[u8; 32]) -> Redemption {
        let message = redeemed(self.invite().organisation, device, exporter);
        Redemption {
            invite: self.invite.clone(),
            proof: self.secret.key().sign(REDEMPTION_KIND, &message),
        }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = encode(self);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        write!(f, "{PREFIX}{}", to_base32(&bytes))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("invite", &self.invite).finish_non_exhaustive()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.len() > TEXT_LIMIT {
            return Err(TicketError::TooLong);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let newer = text.strip_prefix("hark").is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_digit()) && rest.len() > 40
            });
            return Err(if newer { TicketError::OtherVersion } else { TicketError::NotATicket });
        };
        let wrong = || if is_cut(rest) { TicketError::Cut } else { TicketError::Damaged };
        // A ticket has only one text: capitals would be a second one.
        let bytes = from_base32(rest).ok_or_else(wrong)?;
        let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(wrong)?;
        if checksum(bytes) != *sum {
            return Err(wrong());
        }
        let ticket: Self = decode(bytes, TEXT_LIMIT).map_err(|_| TicketError::Malformed)?;
        ticket.check()?;
        Ok(ticket)
    }
}

/// Whether this is the beginning of a ticket whose last letters are missing.
fn is_cut(rest: &str) -> bool {
    // The last letters may hold half a byte.
    let whole = (0..=rest.len().min(LETTERS_OF_A_GROUP)).find_map(|less| {
        let kept = rest.get(..rest.len() - less)?;
        from_base32(kept)
    });
    match whole.as_deref().map(postcard::take_from_bytes::<Ticket>) {
        None => false,
        Some(Ok((_, left))) => left.len() < CHECKSUM_BYTES,
        Some(Err(error)) => error == postcard::Error::DeserializeUnexpectedEnd,
    }
}

impl Ticket {
    fn check(&self) -> Result<(), TicketError> {
        let invite = self.invite.verify().map_err(|_| TicketError::Malformed)?;
        let bounded = self.name == printable(&self.name, NAME_LIMIT)
            && self.issued_by == printable(&self.issued_by, PERSON_LIMIT)
            && self.places().count() <= DOOR_LIMIT
            && invite.doors.len() <= DOOR_LIMIT
            && (invite.uses == 0) == invite.doors.is_empty()
            && (invite.member.is_none()
                || (invite.uses == 1 && !invite.asks && *invite.doors == [invite.issuer]))
            && self.places().all(|place| place.addresses.len() <= ADDRESS_LIMIT);
        if bounded && self.secret.key().id() == invite.invite_key {
            Ok(())
        } else {
            Err(TicketError::Malformed)
        }
    }
}

/// Why a text is not a valid ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The text is not a ticket at all.
    #[error("this is no ticket: a ticket starts with \"hark1\"")]
    NotATicket,
    /// Letters at the end are missing.
    #[error("the ticket is cut off, its end is missing: copy it again, whole")]
    Cut,
    /// A letter was lost or changed.
    #[error("the ticket is damaged: copy it again, whole")]
    Damaged,
    /// The ticket is of another version of Hark.
    #[error("the ticket is of another version of Hark: update the older one")]
    OtherVersion,
    /// The text is longer than any ticket.
    #[error("this is too long for a ticket")]
    TooLong,
    /// The text is undamaged, but not a ticket that Hark makes.
    #[error("the ticket is not valid: ask for a new one")]
    Malformed,
}

/// An invite, and the proof that its holder has the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// The invite.
    pub invite: Signed<Invite>,
    /// The invite key's signature over organisation, device and link.
    pub proof: Signature,
}

impl Redemption {
    /// The invite, if `device` may use it now on the link with this `exporter`. The caller must
    /// check whether its issuer may admit, and how often it was used.
    pub fn verify(
        &self,
        organisation: OrganisationId,
        device: DeviceId,
        exporter: &[u8; 32],
        now: UnixTime,
    ) -> Result<&Invite, RedemptionError> {
        let invite = self.invite.verify().map_err(|_| RedemptionError::Invalid)?;
        if invite.organisation != organisation || invite.doors.len() > DOOR_LIMIT {
            return Err(RedemptionError::Invalid);
        }
        let message = redeemed(organisation, device, exporter);
        invite
            .invite_key
            .verify(REDEMPTION_KIND, &message, &self.proof)
            .map_err(|_| RedemptionError::Invalid)?;
        // [PROTO-4.6]
        if invite.expires <= now {
            return Err(RedemptionError::Expired);
        }
        Ok(invite)
    }
}

/// Why a ticket is not redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedemptionError {
    /// The ticket has expired.
    #[error("the ticket has expired: ask for a new one")]
    Expired,
    /// It is not signed as it should be, or is for another organisation, device or link.
    #[error("the ticket is not valid here")]
    Invalid,
}

fn redeemed(organisation: OrganisationId, device: DeviceId, exporter: &[u8; 32]) -> Vec<u8> {
    [&organisation.as_bytes()[..], device.as_bytes(), exporter].concat()
}

/// The part of `name` that a terminal can show as it is, and for which a ticket has room.
fn printable(name: &str, limit: usize) -> String {
    let mut name = name.replace(char::is_control, "\u{FFFD}");
    name.truncate(name.floor_char_boundary(limit));
    name
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    hash.as_bytes()[..CHECKSUM_BYTES].try_into().expect("four of 32 bytes")
}

const PREFIX: &str = "hark1";
/// Bytes of the checksum at the end, which reveals changed letters.
const CHECKSUM_BYTES: usize = 4;

/// Letters of base32 that together make whole bytes.
const LETTERS_OF_A_GROUP: usize = 8;

const REDEMPTION_KIND: &str = "redemption";

/// The most doors and relays of a ticket; a ticket with more is refused.
const DOOR_LIMIT: usize = 4;

/// Addresses of each relay in a new ticket; one of them is enough to reach it.
const RELAY_ADDRESS_LIMIT: usize = 2;

/// The most addresses of a door or relay; a ticket with more is refused.
const ADDRESS_LIMIT: usize = 6;

/// The most bytes of the organisation's name; a ticket with a longer one is refused.
const NAME_LIMIT: usize = 64;

/// The most bytes of the issuer's name; a ticket with a longer one is refused.
const PERSON_LIMIT: usize = 64;

/// The most characters of a ticket; longer texts are refused unread.
const TEXT_LIMIT: usize = 1024;

/// The most bytes whose text, with its checksum, is not too long. Addresses beyond that are left
/// out.
const BYTES_LIMIT: usize = (TEXT_LIMIT - PREFIX.len()) * 5 / 8 - CHECKSUM_BYTES;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SeededRandom;

    fn ticket(uses: u8) -> (Ticket, DeviceKey) {
        let random = SeededRandom::new(4);
        let issuer = DeviceKey::generate(&random);
        let door = Door {
            device: issuer.id(),
            addresses: vec!["192.0.2.7:4000".parse().expect("an address")],
        };
        let organisation = OrganisationId::from_bytes([9; 32]);
        let expires = UnixTime::from_secs(1_000);
        let terms = Terms { uses, ..Terms::until(expires) };
        let ticket = Ticket::issue(&issuer, organisation, "Kestrel", terms, vec![door], &random);
        (ticket, issuer)
    }

    #[test]
    fn text_form_comes_back_and_is_pasteable() {
        let (ticket, _) = ticket(3);
        let text = ticket.to_string();
        assert_eq!(text.parse::<Ticket>(), Ok(ticket.clone()));
        assert_eq!(format!(" {text}\n").parse::<Ticket>(), Ok(ticket));
        assert!(text.len() <= 455, "{}", text.len());
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_ticket_is_numbered_by_the_end_of_its_key() {
        let invite = ticket(3).0.invite.unverified().clone();
        let key = invite.invite_key.to_string();
        assert_eq!(invite.number(), key[key.len() - 6..]);
    }

    /// [PROTO-4.4] A ticket has only one text: not even another case of a letter is accepted.
    #[test]
    fn any_flipped_bit_is_refused() {
        let text = ticket(0).0.to_string();
        for position in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                if changed.trim() != text {
                    assert!(changed.parse::<Ticket>().is_err(), "{position} {bit}");
                }
            }
            assert!(text[..position].parse::<Ticket>().is_err());
        }
        assert_eq!("hello".parse::<Ticket>(), Err(TicketError::NotATicket));
        assert_eq!("a".repeat(2_000).parse::<Ticket>(), Err(TicketError::TooLong));
    }

    /// Half a ticket was called damaged, so nobody thought of looking at its end.
    #[test]
    fn half_a_ticket_was_said_to_be_invalid() {
        let text = ticket(2).0.to_string();
        for end in PREFIX.len()..text.len() {
            assert_eq!(text[..end].parse::<Ticket>(), Err(TicketError::Cut), "{end}");
            assert_eq!(Ticket::find(&text[..end]), Err(TicketError::Cut), "{end}");
        }
        let last = text.len() - 1;
        let letter = if text.ends_with('a') { "q" } else { "a" };
        let changed = format!("{}{letter}", &text[..last]);
        assert_eq!(changed.parse::<Ticket>(), Err(TicketError::Damaged));
        assert_eq!(format!("{text}aaaaaaaa").parse::<Ticket>(), Err(TicketError::Damaged));
    }

    /// [PROTO-3.10] Relays stand apart from the doors, as far as there is room, and redeem nothing.
    #[test]
    fn relays_lead_to_the_doors_of_a_ticket() {
        let random = SeededRandom::new(5);
        let relay = || Door {
            device: DeviceKey::generate(&random).id(),
            addresses: vec!["192.0.2.9:7300".parse().expect("an address"); 5],
        };
        let (plain, issuer) = ticket(3);
        let own = Door { device: issuer.id(), addresses: Vec::new() };
        let relays = [own, relay(), relay(), relay(), relay()];
        let led = plain.clone().led_by(relays.clone());
        assert_eq!(led.doors, plain.doors);
        let devices: Vec<_> = led.relays.iter().map(|relay| relay.device).collect();
        assert_eq!(devices, [&relays[1], &relays[2], &relays[3]].map(|relay| relay.device));
        assert_eq!(led.relays[0].addresses, relays[1].addresses[..RELAY_ADDRESS_LIMIT]);
        assert_eq!(led.invite(), plain.invite());
        assert_eq!(led.to_string().parse(), Ok(led));
        // A ticket that is full stays unchanged.
        let long = "[2001:db8::1]:65535".parse().expect("an address");
        let doors = std::iter::repeat_with(relay).take(3);
        let doors = doors.map(|door| Door { addresses: vec![long; ADDRESS_LIMIT], ..door });
        let terms = Terms { uses: 3, ..Terms::until(UnixTime::from_secs(1_000)) };
        let organisation = OrganisationId::from_bytes([9; 32]);
        let name = "n".repeat(NAME_LIMIT);
        let full = Ticket::issue(&issuer, organisation, &name, terms, doors.collect(), &random);
        let led = full.clone().led_by([relay()]);
        assert!(led.to_string().len() <= TEXT_LIMIT);
        assert_eq!(led.to_string().parse(), Ok(led));
    }

    /// [PROTO-4.4] Whatever is put into it, a ticket can be read.
    #[test]
    fn a_ticket_is_never_too_long_for_itself() {
        let random = SeededRandom::new(4);
        let issuer = DeviceKey::generate(&random);
        let addresses = vec!["[2001:db8::1]:65535".parse().expect("an address"); 9];
        let doors = vec![Door { device: issuer.id(), addresses }; 9];
        let name = "\u{1b}[31m".to_owned() + &"\u{e4}".repeat(70);
        for (uses, role) in [(0, None), (255, Some(RoleId::from_bytes([255; 16])))] {
            let organisation = OrganisationId::from_bytes([9; 32]);
            let expires = UnixTime::from_secs(u64::MAX);
            let doors = doors.clone();
            let terms = Terms { uses, role, ..Terms::until(expires) };
            let ticket = Ticket::issue(&issuer, organisation, &name, terms, doors, &random);
            assert_eq!(ticket.invite().role, role);
            assert!(ticket.to_string().len() <= TEXT_LIMIT);
            assert_eq!(ticket.to_string().parse(), Ok(ticket.clone()));
            assert_eq!(ticket.doors.len(), DOOR_LIMIT);
            assert!(ticket.doors.iter().all(|door| !door.addresses.is_empty()));
            assert!(ticket.name.len() <= NAME_LIMIT && !ticket.name.contains('\u{1b}'));

            let hostile = Ticket { name: "\u{1b}[31m".to_owned(), ..ticket };
            assert_eq!(hostile.to_string().parse::<Ticket>(), Err(TicketError::Malformed));
        }
    }

    /// [PROTO-4.7] It admits one device, at the issuer.
    #[test]
    fn a_ticket_for_a_device_says_whose() {
        let random = SeededRandom::new(4);
        let issuer = DeviceKey::generate(&random);
        let organisation = OrganisationId::from_bytes([9; 32]);
        let member = MemberId::from_bytes([8; 32]);
        let elsewhere = DeviceKey::from_secret(&[6; 32]).id();
        let terms = Terms::until(UnixTime::from_secs(1_000));
        let at = vec!["192.0.2.7:4000".parse().expect("an address")];
        let ticket =
            Ticket::for_device(&issuer, organisation, "Kestrel", terms, member, at, &random);
        assert_eq!(ticket.to_string().parse(), Ok(ticket.clone()));
        let invite = ticket.invite();
        assert_eq!((invite.member, invite.uses), (Some(member), 1));
        assert_eq!(invite.share_of(issuer.id()), Some(1));
        for wider in [
            Invite { uses: 2, ..invite.clone() },
            Invite { doors: vec![elsewhere], ..invite.clone() },
        ] {
            let wider = Ticket { invite: Signed::sign(wider, &issuer), ..ticket.clone() };
            assert_eq!(wider.to_string().parse::<Ticket>(), Err(TicketError::Malformed));
        }
    }

    /// [PROTO-3.5] [PROTO-4.6]
    #[test]
    fn a_redemption_is_worth_something_once_and_here_only() {
        let (ticket, _) = ticket(0);
        let device = DeviceKey::from_secret(&[5; 32]).id();
        let redemption = ticket.redemption(device, &[1; 32]);
        let organisation = ticket.invite().organisation;
        let early = UnixTime::from_secs(999);
        let verify = |organisation, device, exporter: [u8; 32], now| {
            redemption.verify(organisation, device, &exporter, now).map(|_| ())
        };
        assert_eq!(verify(organisation, device, [1; 32], early), Ok(()));
        let late = UnixTime::from_secs(1_000);
        assert_eq!(verify(organisation, device, [1; 32], late), Err(RedemptionError::Expired));
        let invalid = Err(RedemptionError::Invalid);
        assert_eq!(verify(organisation, device, [2; 32], early), invalid);
        assert_eq!(verify(organisation, ticket.invite().issuer, [1; 32], early), invalid);
        let other = OrganisationId::from_bytes([8; 32]);
        assert_eq!(verify(other, device, [1; 32], early), invalid);
    }

    /// [PROTO-4.5] However the doors are cut off from each other, the uses are not exceeded.
    #[test]
    fn shares_of_the_doors_add_up_to_the_uses() {
        let doors: Vec<_> = (1..=3).map(|n| DeviceKey::from_secret(&[n; 32]).id()).collect();
        for uses in 1..=20 {
            let (ticket, _) = ticket(1);
            let invite = Invite { uses, doors: doors.clone(), ..ticket.invite().clone() };
            let shares: Vec<_> =
                doors.iter().map(|door| invite.share_of(*door).expect("a door")).collect();
            assert_eq!(shares.iter().sum::<u8>(), uses);
            assert!(shares[0] - shares[2] <= 1);
            assert_eq!(invite.share_of(ticket.invite().issuer), None);
        }
    }

    proptest! {
        /// [PROTO-4.3] [PROTO-4.4] The terms of a ticket are restored with it, and are signed: with
        /// another role the ticket is invalid.
        #[test]
        fn whatever_a_ticket_is_for_comes_back(
            name in "\\PC{0,80}",
            expires in any::<u64>(),
            uses in any::<u8>(),
            role in proptest::option::of(any::<[u8; 16]>()),
            other in proptest::option::of(any::<[u8; 16]>()),
            doors in 1_usize..6,
        ) {
            let issuer = DeviceKey::from_secret(&[1; 32]);
            let [role, other] = [role, other].map(|role| role.map(RoleId::from_bytes));
            let series = Series::from_bytes(expires.to_le_bytes());
            let (expires, asks) = (UnixTime::from_secs(expires), uses > 3);
            let removals = u32::from(uses);
            let terms = Terms { expires, uses, role, series, asks, removals };
            let door = Door { device: issuer.id(), addresses: vec!["[::1]:1".parse().expect("one")] };
            let organisation = OrganisationId::from_bytes([9; 32]);
            let (doors, random) = (vec![door; doors], SeededRandom::new(expires.as_secs()));
            let ticket = Ticket::issue(&issuer, organisation, &name, terms, doors, &random);
            let read: Ticket = ticket.to_string().parse().expect("our own");
            prop_assert_eq!(&read, &ticket);
            let invite = read.invite();
            prop_assert_eq!((invite.expires, invite.uses, invite.role), (terms.expires, uses, role));
            let further = (invite.series, invite.asks, invite.removals);
            prop_assert_eq!(further, (series, asks, removals));

            let bytes = encode(&ticket.invite);
            let signature = &bytes[encode(invite).len()..];
            let forged = Invite { role: other, ..invite.clone() };
            let forged: Signed<Invite> =
                decode(&[&encode(&forged)[..], signature].concat(), 4096).expect("well formed");
            prop_assert_eq!(forged.verify().is_ok(), other == role);
        }

        #[test]
        fn any_text_parses_or_fails_cleanly(text in "hark1[a-z2-7]{0,1100}|.{0,80}") {
            prop_assert!(text.parse::<Ticket>().is_err());
        }
    }
}
