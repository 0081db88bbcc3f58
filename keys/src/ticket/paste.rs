//! Tickets as people paste them.

use super::{PREFIX, TEXT_LIMIT, Ticket, TicketError};

impl Ticket {
    /// The ticket within `text`: as a `hark:` link, in capitals, with quotation marks, line breaks,
    /// `> ` of quoted mail, a full stop, or other words around it. At most 16 KiB are searched.
    ///
    /// [`str::parse`] accepts only the one spelling of the text form; this function restores it.
    pub fn find(text: &str) -> Result<Self, TicketError> {
        if text.len() > PASTE_LIMIT {
            return Err(TicketError::TooLong);
        }
        let text = text.to_ascii_lowercase();
        let words: Vec<&str> = text
            .split(|it: char| !it.is_ascii_alphanumeric())
            .filter(|it| !it.is_empty())
            .collect();
        let starts = words.iter().enumerate().filter(|(_, word)| word.starts_with(PREFIX));
        let mut failure = None;
        for (start, _) in starts.take(STARTS_MAX) {
            match longest(&words[start..]) {
                Ok(ticket) => return Ok(ticket),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        // The ticket may be of another version.
        Err(failure.unwrap_or_else(|| {
            let mut errors = words.iter().filter_map(|word| word.parse::<Self>().err());
            let other = errors.find(|it| *it == TicketError::OtherVersion);
            other.unwrap_or(TicketError::NotATicket)
        }))
    }
}

/// The ticket with which `words` begin. It takes as many words as it can, since a line break may be
/// anywhere in the ticket, and other words may follow.
fn longest(words: &[&str]) -> Result<Ticket, TicketError> {
    let (mut joined, mut ends) = (String::new(), Vec::new());
    for word in words {
        if !ends.is_empty() && joined.len() + word.len() > TEXT_LIMIT {
            break;
        }
        joined.push_str(word);
        ends.push(joined.len());
    }
    let mut failure = TicketError::Damaged;
    for (tried, end) in ends.iter().rev().enumerate() {
        match joined[..*end].parse() {
            Ok(ticket) => return Ok(ticket),
            // Something other than its length is wrong with it.
            Err(error @ (TicketError::Malformed | TicketError::TooLong)) => failure = error,
            // A part of it is missing in any case.
            Err(TicketError::Cut) if tried == 0 => failure = TicketError::Cut,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Bytes of a text that are searched: enough for any mail that contains a ticket.
const PASTE_LIMIT: usize = 16 << 10;

/// Words that look like the start of a ticket and are tried; further ones are skipped.
const STARTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DeviceKey, Door, OrganisationId, SeededRandom, Terms, UnixTime};

    fn ticket(seed: u64) -> Ticket {
        let random = SeededRandom::new(seed);
        let issuer = DeviceKey::generate(&random);
        let addresses = vec!["192.0.2.7:4000".parse().expect("an address")];
        let doors = vec![Door { device: issuer.id(), addresses }];
        let terms = Terms::until(UnixTime::from_secs(seed));
        let organisation = OrganisationId::from_bytes([9; 32]);
        Ticket::issue(&issuer, organisation, "Meridian Watch", terms, doors, &random)
            .issued_by("Sable")
    }

    #[test]
    fn a_ticket_in_capitals_quoted_or_with_a_full_stop_was_refused() {
        let ticket = ticket(1);
        let text = ticket.to_string();
        let lines: Vec<_> =
            text.as_bytes().chunks(60).map(|it| str::from_utf8(it).expect("ASCII")).collect();
        for pasted in [
            text.clone(),
            text.to_uppercase(),
            format!("hark:{text}"),
            format!("HARK:{}", text.to_uppercase()),
            format!("\u{201c}{text}\u{201d}."),
            format!("'{text}',"),
            format!("<{text}>"),
            format!("`hark talk {text}`"),
            format!("> {}\n", lines.join("\n> ")),
            format!(">> {}\r\n", lines.join("\r\n>> ")),
            lines.join("=\n"),
            lines.join(" "),
            lines.join("\u{200b}"),
            format!("Hello Wren,\n\na ticket (it begins with hark1): {text}\n\nSable"),
            format!("{text} See you at 8 then"),
        ] {
            assert_eq!(Ticket::find(&pasted), Ok(ticket.clone()), "{pasted}");
        }
    }

    #[test]
    fn a_ticket_is_found_in_16_kib_and_not_in_more() {
        let ticket = ticket(1);
        let text = ticket.to_string();
        let text = format!("{text:>16384}");
        assert_eq!(Ticket::find(&text), Ok(ticket));
        assert_eq!(Ticket::find(&format!(" {text}")), Err(TicketError::TooLong));
    }

    #[test]
    fn what_holds_no_ticket_says_what_it_is() {
        let text = ticket(1).to_string();
        for (pasted, error) in [
            ("", TicketError::NotATicket),
            ("swordfish", TicketError::NotATicket),
            ("hark1", TicketError::Cut),
            (&text[..text.len() - 1], TicketError::Cut),
            (&format!("{}.", text.replacen("hark1", "hark2", 1)), TicketError::OtherVersion),
            (&"hark1a".repeat(400), TicketError::TooLong),
            (&"hark1a ".repeat(4_000), TicketError::TooLong),
        ] {
            assert_eq!(Ticket::find(pasted), Err(error), "{pasted:.80}");
        }
    }

    proptest! {
        /// A ticket is found whatever stands around and between its letters.
        #[test]
        fn a_ticket_is_found_whatever_stands_around_it(
            seed in any::<u64>(),
            before in "[^a-zA-Z0-9]{0,9}|([a-zA-Z]{1,9} ){0,4}",
            between in "[^a-zA-Z0-9]{0,5}",
            after in "[^a-zA-Z0-9]{0,9}|( [a-zA-Z]{1,9}){0,4}",
            cuts in prop::collection::vec(1_usize..80, 0..8),
        ) {
            let ticket = ticket(seed);
            let (mut text, mut place) = (ticket.to_string(), "hark1".len());
            for cut in cuts {
                place += cut;
                if place < text.len() {
                    text.insert_str(place, &between);
                    place += between.len();
                }
            }
            prop_assert_eq!(Ticket::find(&format!("{before}{text}{after}")), Ok(ticket));
        }

        #[test]
        fn any_text_holds_a_ticket_or_fails_cleanly(
            text in "(hark1[a-zA-Z2-7 >]{0,300}){0,4}|.{0,80}",
        ) {
            prop_assert!(Ticket::find(&text).is_err());
        }
    }
}
