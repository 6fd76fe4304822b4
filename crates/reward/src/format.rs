//! F: whether a text has the form that the prompt asks for.

use std::sync::LazyLock;

use regex::Regex;

use crate::Media;
use crate::text::{pattern, space};

macro_rules! full {
    ($($answer:expr),+) => {
        concat!(r"(?s)\A<think>.*?</think>", space!(), "*<answer>(?:", $($answer),+, r")</answer>\z")
    };
}
macro_rules! number {
    () => {
        r"\d+\.?\d*"
    };
}
macro_rules! line {
    () => {
        concat!(space!(), "*", number!(), space!(), r"*\n")
    };
}
macro_rules! another_on_the_line {
    () => {
        concat!("(?:", space!(), "*,", space!(), "*|", space!(), "+)", number!())
    };
}

/// Image, published: five numbers, a line break after each of the first four.
static IMAGE: LazyLock<Regex> =
    LazyLock::new(|| pattern(full!("(?:", line!(), "){4}", space!(), "*", number!(), space!(), "*")));
/// Video, published: two numbers, a line break after each.
static VIDEO: LazyLock<Regex> = LazyLock::new(|| pattern(full!("(?:", line!(), "){2}", space!(), "*")));
/// The same numbers of numbers, between blanks or commas.
static IMAGE_ON_ONE_LINE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(full!(space!(), "*", number!(), "(?:", another_on_the_line!(), "){4}", space!(), "*"))
});
static VIDEO_ON_ONE_LINE: LazyLock<Regex> =
    LazyLock::new(|| pattern(full!(space!(), "*", number!(), another_on_the_line!(), space!(), "*")));
/// VisualQuality-R1: anything inside the tags.
static ANY_ANSWER: LazyLock<Regex> = LazyLock::new(|| pattern(full!(".*?")));

/// Whether the whole text matches PRPO's format, part F in docs/method.md section 2.
///
/// `strict`: the published line breaks; else the numbers may also stand on one line, between blanks or commas.
#[must_use]
pub fn matches_format(text: &str, media: Media, strict: bool) -> bool {
    let (published, on_one_line) = match media {
        Media::Image => (&IMAGE, &IMAGE_ON_ONE_LINE),
        Media::Video => (&VIDEO, &VIDEO_ON_ONE_LINE),
    };
    published.is_match(text) || (!strict && on_one_line.is_match(text))
}

/// Whether the whole text matches VisualQuality-R1's format.
pub(crate) fn matches_any_answer(text: &str) -> bool {
    ANY_ANSWER.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(answer: &str, strict: bool) -> bool {
        matches_format(&format!("<think>a\nb</think> \n<answer>{answer}</answer>"), Media::Image, strict)
    }

    fn video(answer: &str, strict: bool) -> bool {
        matches_format(&format!("<think></think><answer>{answer}</answer>"), Media::Video, strict)
    }

    #[test]
    fn an_image_answer_is_five_numbers_on_lines() {
        assert!(image("1.00\n2.50\n3\n4.\n5.00", true));
        assert!(image("\n 1 \n\n 2\n3\n4\n5\n", true));
        assert!(image("\u{663}\n\u{1f}2\u{2003}\n3\n4\n5", true));
        for wrong in
            ["1\n2\n3\n4", "1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n-5", "1\n2\n3\n4\n.5", "1, 2, 3, 4, 5", ""]
        {
            assert!(!image(wrong, true), "{wrong:?}");
        }
    }

    #[test]
    fn a_video_answer_is_two_numbers_with_a_line_break_after_each() {
        assert!(video("2.9\n3.1\n", true));
        assert!(video("2.9\n3.1 \n ", true));
        assert!(!video("2.9\n3.1", true));
        assert!(!video("2.9 3.1", true));
    }

    #[test]
    fn the_lenient_format_also_takes_the_numbers_on_one_line() {
        assert!(image("1, 2.5, 3, 4, 5", false));
        assert!(image(" 1 2 3 4 5.00 ", false));
        assert!(video("2.9 3.1", false));
        assert!(video("2.9\n3.1", false));
        assert!(!image("12345", false));
        assert!(!image("1, 2, 3, 4", false));
        assert!(!video("2.9, 3.1, 4", false));
    }

    #[test]
    fn nothing_may_stand_around_the_two_tags() {
        for text in [
            " <think></think><answer>1\n2\n</answer>",
            "<think></think><answer>1\n2\n</answer>\n",
            "<think></think>x<answer>1\n2\n</answer>",
            "<think><answer>1\n2\n</answer>",
            "",
        ] {
            assert!(!matches_format(text, Media::Video, false), "{text:?}");
        }
        assert!(matches_any_answer("<think>\n</think>\n<answer>\nanything</answer>"));
        assert!(!matches_any_answer("<think></think><answer>3</answer> "));
    }
}
