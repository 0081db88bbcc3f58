//! Texts of other people, and the colours of members.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use crate::{record::MemberMeasures, report::text::printable};

/// Text, escaped for places between tags and within quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in printable(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The path of a file as a relative reference (RFC 3986, section 4.2).
pub(super) struct RelativePath<'a>(pub(super) &'a str);

impl fmt::Display for RelativePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without this, a first segment with a colon would be taken for a scheme.
        f.write_str("./")?;
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    f.write_char(byte.into())?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// The first characters of `text`, at most `length` of them.
pub(super) fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept = text.chars().take(length.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// The colour of each member.
pub(super) struct Palette<'a>(BTreeMap<&'a str, usize>);

impl<'a> Palette<'a> {
    /// The classes that set a member's colour. Reds and ambers are reserved for what goes wrong;
    /// the page's theme sets the lightness.
    pub(super) const STYLE: &'static str = "\
        .m0{--c:oklch(var(--l) .15 255)}.m1{--c:oklch(var(--l) .14 152)}\
        .m2{--c:oklch(var(--l) .16 298)}.m3{--c:oklch(var(--l) .11 205)}\
        .m4{--c:oklch(var(--l) .18 332)}.m5{--c:oklch(var(--l) .13 125)}\
        .m6{--c:oklch(var(--l) .13 275)}.m7{--c:oklch(var(--l) .11 178)}\n";

    const COLOURS: usize = 8;

    pub(super) fn new(members: &'a [MemberMeasures]) -> Self {
        Self(members.iter().enumerate().map(|(i, member)| (member.name.as_str(), i)).collect())
    }

    /// The number of the class that gives the member `name` its colour.
    pub(super) fn class(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, |index| index % Self::COLOURS)
    }

    /// A member's name with its colour beside it, as HTML.
    pub(super) fn member(&self, name: &str) -> String {
        format!("<span class=\"who m{}\">{}</span>", self.class(name), Escaped(name))
    }
}
