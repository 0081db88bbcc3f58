//! Fits lines into the available room.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

/// Cuts the line to at most `width` cells, with `…` at the end if it was longer. A character of two
/// cells is never cut in half.
pub(super) fn fit(line: Line<'_>, width: impl Into<usize>) -> Line<'static> {
    let width = width.into();
    let is_longer = line.width() > width;
    let room = if is_longer { width.saturating_sub(1) } else { width };
    let mut fitted = Line::default().style(line.style);
    fitted.alignment = line.alignment;
    let mut used = 0;
    'line: for span in &line.spans {
        let mut text = String::new();
        for grapheme in span.styled_graphemes(Style::new()) {
            let cells = Span::from(grapheme.symbol).width();
            if used + cells > room {
                fitted.push_span(Span::styled(text, span.style));
                break 'line;
            }
            used += cells;
            text.push_str(grapheme.symbol);
        }
        fitted.push_span(Span::styled(text, span.style));
    }
    if is_longer && width > 0 {
        let style = fitted.spans.last().map(|span| span.style).unwrap_or_default();
        fitted.push_span(Span::styled("…", style));
    }
    fitted
}

/// Joins as many of the parts as fit into `width`, with `between` between them. A part is a text
/// and its worth. Parts of less worth are left out first; the others keep their order. If any is
/// left out, the text ends with `…`.
pub(super) fn fit_parts(parts: &[(String, u8)], between: &str, width: usize) -> String {
    let cells = |text: &str| Span::from(text).width();
    let total = |shown: &[bool]| {
        let shown = parts.iter().zip(shown).filter(|(_, shown)| **shown);
        shown.map(|((text, _), _)| cells(text) + cells(between)).sum::<usize>()
    };
    let mut shown = vec![true; parts.len()];
    // Nothing follows the last part, unless one was left out: then the sign for that follows.
    while total(&shown) + 1
        > width + if shown.iter().all(|it| *it) { 1 + cells(between) } else { 0 }
    {
        let left = parts.iter().enumerate().filter(|(index, _)| shown[*index]);
        let Some((least, _)) = left.min_by_key(|(index, (_, worth))| (*worth, usize::MAX - index))
        else {
            break;
        };
        shown[least] = false;
    }
    let mut texts: Vec<_> = parts
        .iter()
        .zip(&shown)
        .filter(|(_, shown)| **shown)
        .map(|((text, _), _)| &**text)
        .collect();
    if shown.contains(&false) {
        texts.push("…");
    }
    texts.join(between)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(line: &Line<'_>) -> String {
        line.spans.iter().map(|span| &*span.content).collect()
    }

    #[test]
    fn a_cut_line_looked_like_a_whole_one() {
        let fitted = |text_: &str, width: usize| text(&fit(Line::from(text_.to_owned()), width));
        assert_eq!(fitted("Flight", 6), "Flight");
        assert_eq!(fitted("Flight", 5), "Flig…");
        assert_eq!(fitted("Flight", 1), "…");
        assert_eq!(fitted("Flight", 0), "");
        // Two of three characters of two cells each fit into five cells, with the sign after them.
        assert_eq!(fitted("鷹匠隊", 5), "鷹匠…");
        assert_eq!(fitted("鷹匠隊", 4), "鷹…");
        assert_eq!(fitted("鷹匠隊", 6), "鷹匠隊");
    }

    #[test]
    fn parts_that_are_worth_the_least_go_first() {
        let parts = [("? help", 9), ("q leave", 8), ("m mute", 5), ("/ search", 1)];
        let parts = parts.map(|(text, worth)| (text.to_owned(), worth));
        let fitted = |width| fit_parts(&parts, " · ", width);
        assert_eq!(fitted(40), "? help · q leave · m mute · / search");
        assert_eq!(fitted(36), "? help · q leave · m mute · / search");
        assert_eq!(fitted(35), "? help · q leave · m mute · …");
        assert_eq!(fitted(20), "? help · q leave · …");
        assert_eq!(fitted(10), "? help · …");
        assert_eq!(fitted(0), "…");
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_its_room(
            parts in prop::collection::vec("[a-z鷹👩‍🚀é …]{0,9}", 0..5), width in 0_usize..30,
        ) {
            let line = Line::from(parts.into_iter().map(Span::from).collect::<Vec<_>>());
            let fitted = fit(line.clone(), width);
            prop_assert!(fitted.width() <= width);
            if line.width() <= width {
                prop_assert_eq!(text(&fitted), text(&line));
            } else if width > 0 {
                prop_assert!(text(&fitted).ends_with('…'));
            }
        }
    }
}
