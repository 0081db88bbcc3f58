use std::{collections::BTreeSet, net::SocketAddr};

use data_encoding::BASE32_NOPAD;
use hark_keys::{
    DeviceKey, Door, Invite, MemberId, OrganisationId, RoleId, Series, Signed, Ticket, UnixTime,
    decode, encode,
};
use serde::{Deserialize, Serialize};

use crate::world::{device, key};

/// A ticket has exactly one text, and stays within its limits. A text that contains a ticket yields
/// that ticket. [PROTO-4.4]
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    match mode % MODES {
        TEXT => str::from_utf8(rest).is_ok_and(|text| {
            let found = Ticket::find(text);
            let plain = is_ticket(text);
            assert!(!plain || found == text.parse(), "what is a ticket is found");
            plain || found.is_ok_and(|ticket| is_ticket(&ticket.to_string()))
        }),
        SUMMED => is_ticket(&text(rest)),
        _ => {
            let Ok(draft) = decode::<Draft>(rest, 4096) else { return false };
            let text = draft.text();
            let accepted = is_ticket(&text);
            assert_eq!(accepted, draft.is_bounded() && text.len() <= 1024);
            accepted
        }
    }
}

fn is_ticket(text: &str) -> bool {
    let Ok(ticket) = text.parse::<Ticket>() else { return false };
    assert_eq!(ticket.to_string(), text.trim());
    let invite = ticket.invite();
    let doors: BTreeSet<_> = invite.doors.iter().copied().collect();
    let shares = doors.into_iter().filter_map(|door| invite.share_of(door)).map(u32::from);
    assert!(shares.sum::<u32>() <= u32::from(invite.uses), "doors never overspend");
    let newcomer = device(9);
    let redemption = ticket.redemption(newcomer, &EXPORTER);
    let redeemed =
        |exporter| redemption.verify(invite.organisation, newcomer, exporter, UnixTime::default());
    assert_eq!(redeemed(&EXPORTER).is_ok(), invite.expires > UnixTime::default());
    assert!(redeemed(&[8; 32]).is_err(), "a redemption counts on its own link alone");
    true
}

/// A ticket's fields, with anything that the issuer may sign.
#[derive(Serialize, Deserialize)]
struct Draft {
    name: String,
    issued_by: String,
    organisation: [u8; 32],
    expires: u64,
    uses: u8,
    named: Vec<u8>,
    member: Option<[u8; 32]>,
    doors: Vec<(u8, Vec<SocketAddr>)>,
    relays: Vec<(u8, Vec<SocketAddr>)>,
    secret: [u8; 16],
    role: Option<[u8; 16]>,
}

impl Draft {
    fn text(&self) -> String {
        let issuer = key(1);
        let seed = blake3::derive_key("hark 1 invite key", &self.secret);
        let invite = Invite {
            organisation: OrganisationId::from_bytes(self.organisation),
            invite_key: DeviceKey::from_secret(&seed).id(),
            expires: UnixTime::from_secs(self.expires),
            uses: self.uses,
            doors: self.named.iter().map(|number| device(*number)).collect(),
            issuer: issuer.id(),
            role: self.role.map(RoleId::from_bytes),
            member: self.member.map(MemberId::from_bytes),
            series: Series::default(),
            asks: false,
            removals: self.uses.into(),
        };
        let door = |(number, addresses): &(u8, Vec<SocketAddr>)| Door {
            device: device(*number),
            addresses: addresses.clone(),
        };
        let doors: Vec<_> = self.doors.iter().map(door).collect();
        let relays: Vec<_> = self.relays.iter().map(door).collect();
        let invite = Signed::sign(invite, &issuer);
        text(&encode(&(&self.name, &self.issued_by, invite, doors, relays, self.secret)))
    }

    fn is_bounded(&self) -> bool {
        self.name.len() <= 64
            && self.issued_by.len() <= 64
            && ![&self.name, &self.issued_by].iter().any(|it| it.contains(char::is_control))
            && self.doors.len() + self.relays.len() <= 4
            && self.named.len() <= 4
            && self.named.is_empty() == (self.uses == 0)
            && (self.member.is_none() || (self.uses == 1 && self.named == [1]))
            && self.doors.iter().chain(&self.relays).all(|(_, addresses)| addresses.len() <= 6)
    }
}

/// `bytes` as the text of a ticket, with a correct checksum.
fn text(bytes: &[u8]) -> String {
    let sum = blake3::hash(bytes);
    let bytes = [bytes, &sum.as_bytes()[..4]].concat();
    format!("hark1{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let draft = |uses, named: &[u8], member| Draft {
        name: "Kestrel".to_owned(),
        issued_by: "Sable".to_owned(),
        organisation: [9; 32],
        expires: 1_000,
        uses,
        named: named.to_vec(),
        member,
        doors: vec![(1, vec!["192.0.2.7:4000".parse().expect("an address")])],
        relays: vec![(3, vec!["192.0.2.9:7300".parse().expect("an address")])],
        secret: [4; 16],
        role: (uses > 0).then_some([6; 16]),
    };
    let [any, limited] = [draft(0, &[], None), draft(5, &[1, 2], None)];
    let device = draft(1, &[1], Some([8; 32]));
    let body = |draft: &Draft| {
        let text = draft.text()[5..].to_uppercase();
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).expect("base32");
        bytes[..bytes.len() - 4].to_vec()
    };
    vec![
        ("text", [&[TEXT][..], any.text().as_bytes()].concat()),
        ("text_limited", [&[TEXT][..], limited.text().as_bytes(), b"\n"].concat()),
        ("text_pasted", [&[TEXT][..], b"> HARK:", any.text().to_uppercase().as_bytes()].concat()),
        ("summed", [&[SUMMED][..], &body(&any)].concat()),
        ("summed_limited", [&[SUMMED][..], &body(&limited)].concat()),
        ("signed", [&[SIGNED][..], &encode(&any)].concat()),
        ("signed_limited", [&[SIGNED][..], &encode(&limited)].concat()),
        ("signed_device", [&[SIGNED][..], &encode(&device)].concat()),
    ]
}

const EXPORTER: [u8; 32] = [7; 32];

/// The input is a text.
const TEXT: u8 = 0;
/// The input is the bytes that a text encodes, without the checksum.
const SUMMED: u8 = 1;
/// The input is a [`Draft`], which is signed.
const SIGNED: u8 = 2;
const MODES: u8 = 3;
