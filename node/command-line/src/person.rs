//! The name by which others see a person.

use hark_charter::{NAME_MAX_BYTES, NAME_MAX_CHARACTERS, clean_name};
use hark_keys::Ticket;
use hark_node::{random::SystemRandom, store::Home};

/// The name that was typed for `what`. Fails if the name does not fit: nothing of it is dropped
/// silently.
pub fn fitting_name(what: &str, given: &str) -> anyhow::Result<String> {
    let name = clean_name(given);
    anyhow::ensure!(!name.is_empty(), "{what} needs at least one letter");
    let length = given.trim().chars().count();
    anyhow::ensure!(
        name.chars().count() == length,
        "{what} of {length} characters is too long: it may have {NAME_MAX_CHARACTERS}, or fewer \
         where they take more than {NAME_MAX_BYTES} bytes"
    );
    Ok(name)
}

/// The name that others see: the given one, the stored one, the person's name on the machine that
/// has printed the `ticket` for this one, or the login name. Without any of these it is made of the
/// device id.
pub fn shown_name(
    given: Option<&str>,
    home: &Home,
    ticket: Option<&Ticket>,
) -> anyhow::Result<String> {
    if let Some(given) = given {
        let name = fitting_name("a name", given)?;
        home.keep_name(&name)?;
        return Ok(name);
    }
    if let Some(name) = home.name()? {
        return Ok(clean_name(&name));
    }
    let same_person = ticket.filter(|ticket| ticket.invite().member.is_some());
    let same_name = same_person.map(|ticket| clean_name(&ticket.issued_by));
    if let Some(name) = same_name.filter(|name| !name.is_empty()) {
        home.keep_name(&name)?;
        return Ok(name);
    }
    match login_name() {
        Some(name) => Ok(name),
        None => Ok(format!("device-{}", home.device(&SystemRandom)?.short())),
    }
}

/// The name of the account that runs the program, as far as it is fit to be shown.
pub fn login_name() -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .map(|name| clean_name(&name))
        .find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_longer_than_32_characters_were_cut_in_silence() {
        assert_eq!(fitting_name("a name", " Sable ").expect("fits"), "Sable");
        let longest = "n".repeat(NAME_MAX_CHARACTERS);
        assert_eq!(fitting_name("a name", &longest).expect("fits"), longest);
        for long in ["n".repeat(33), "\u{1f426}".repeat(20)] {
            let error = fitting_name("a name", &long).expect_err("too long").to_string();
            assert!(error.starts_with("a name of ") && error.contains("too long"), "{error}");
        }
        let none = fitting_name("a name", "  ").expect_err("empty").to_string();
        assert_eq!(none, "a name needs at least one letter");
    }
}
