//! Numbers in texts, as Python's `re` and `float` see them.

use std::sync::LazyLock;

use regex::Regex;

/// Python's `\s` inside a character class: Unicode's white space and the four separators U+001C to U+001F.
macro_rules! space {
    () => {
        r"[\s\x1C-\x1F]"
    };
}
pub(crate) use space;

/// Compiles a pattern of this crate's source.
pub(crate) fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a pattern written in this crate")
}

static DECIMAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d$"));

/// The number that a match of the score patterns spells; beyond f64's range it is infinite.
///
/// Like Python's `float`, takes the decimal digits of every script.
pub(crate) fn number(matched: &str) -> f64 {
    let parse = |s: &str| s.parse().unwrap_or(crate::NO_NUMBER);
    if matched.is_ascii() {
        return parse(matched);
    }
    parse(&matched.chars().map(ascii).collect::<String>())
}

/// The ASCII digit of the same value; anything that is no digit stays.
fn ascii(c: char) -> char {
    if c.is_ascii() || !is_decimal(c) {
        return c;
    }
    // Unicode's decimal digits lie in runs of ten, 0 to 9 ascending; adjacent runs are whole too.
    let from_start =
        (0..u32::from(c)).rev().take_while(|&p| char::from_u32(p).is_some_and(is_decimal)).count();
    char::from_digit((from_start % 10) as u32, 10).unwrap_or(c)
}

fn is_decimal(c: char) -> bool {
    DECIMAL.is_match(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_every_script_count_from_their_zero() {
        // Arabic-Indic, Devanagari, fullwidth, mathematical bold and monospace (the last of five adjacent runs).
        for zero in ['\u{660}', '\u{966}', '\u{FF10}', '\u{1D7CE}', '\u{1D7F6}'] {
            for value in 0..10 {
                let digit = char::from_u32(u32::from(zero) + value).expect("a digit");
                assert_eq!(ascii(digit), char::from_digit(value, 10).expect("a digit"), "{digit}");
            }
        }
        assert_eq!(number("\u{663}.\u{664}\u{665}"), 3.45);
    }

    #[test]
    fn numbers_parse_as_in_python() {
        assert_eq!(number(".5"), 0.5);
        assert_eq!(number("+.5"), 0.5);
        assert_eq!(number("-0.25"), -0.25);
        assert_eq!(number("007"), 7.0);
        assert_eq!(number(&"1".repeat(40)), 1.111_111_111_111_111_2e39);
        assert_eq!(number(&"9".repeat(400)), f64::INFINITY);
    }
}
