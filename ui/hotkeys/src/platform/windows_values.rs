//! Numbers in the reports of pads and sticks, as the USB HID standard writes them.

/// The ends of an axis. Some devices say -1 where they mean the largest number.
pub(super) fn ends(minimum: i32, maximum: i32, bits: u16) -> (i32, i32) {
    if maximum > minimum {
        return (minimum, maximum);
    }
    let bits = u32::from(bits.clamp(1, 31));
    (0, i32::try_from((1_u64 << bits) - 1).unwrap_or(i32::MAX))
}

/// A number of so many bits, below zero if its ends allow that.
pub(super) fn number(raw: u32, minimum: i32, bits: u16) -> i32 {
    if minimum >= 0 {
        return i32::try_from(raw).unwrap_or(i32::MAX);
    }
    let unused = 32 - u32::from(bits.clamp(1, 32));
    (raw << unused).cast_signed() >> unused
}

/// Where a hat points, as steps to the right and down: it counts its four or eight directions
/// clockwise from the top, and stands outside of its ends when it is let go.
pub(super) fn hat_points(value: i32, minimum: i32, maximum: i32) -> (i32, i32) {
    let directions = i64::from(maximum) - i64::from(minimum) + 1;
    let place = i64::from(value) - i64::from(minimum);
    if !(0..directions).contains(&place) || !matches!(directions, 4 | 8) {
        return (0, 0);
    }
    match place * 8 / directions {
        0 => (0, -1),
        1 => (1, -1),
        2 => (1, 0),
        3 => (1, 1),
        4 => (0, 1),
        5 => (-1, 1),
        6 => (-1, 0),
        _ => (-1, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hats_of_eight_and_of_four_directions_rest_outside() {
        assert_eq!(hat_points(0, 0, 7), (0, -1));
        assert_eq!(hat_points(3, 0, 7), (1, 1));
        assert_eq!(hat_points(8, 1, 8), (-1, -1));
        assert_eq!(hat_points(1, 0, 3), (1, 0));
        for rest in [8, 15, -1, i32::MAX, i32::MIN] {
            assert_eq!(hat_points(rest, 0, 7), (0, 0));
        }
        assert_eq!(hat_points(0, 0, 359), (0, 0));
        assert_eq!(hat_points(0, i32::MIN, i32::MAX), (0, 0));
    }

    #[test]
    fn numbers_have_the_sign_that_their_ends_say() {
        assert_eq!(number(0xffff, 0, 16), 0xffff);
        assert_eq!(number(0xffff, -32768, 16), -1);
        assert_eq!(number(0x8000, -32768, 16), -32768);
        assert_eq!(number(u32::MAX, -1, 32), -1);
        assert_eq!(number(u32::MAX, 0, 32), i32::MAX);
        assert_eq!(number(1, -1, 0), -1);
    }

    #[test]
    fn an_axis_that_ends_at_minus_one_is_as_wide_as_its_bits() {
        assert_eq!(ends(0, -1, 16), (0, 65535));
        assert_eq!(ends(0, -1, 32), (0, i32::MAX));
        assert_eq!(ends(-128, 127, 8), (-128, 127));
    }
}
