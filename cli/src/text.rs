//! Makes text of other users safe to print on a terminal. Printed text cannot move the cursor, change colours or reorder the
//! line, and contains no invisible characters: two names that look the same are the same.
//!
//! Some invisible characters are part of a script or an emoji. They are kept where they belong: joiners within an emoji, after
//! a virama, and between two joining letters (Persian, Urdu), and variation selectors after an emoji. Everywhere else they are
//! escaped, even where they are harmless: in subdivision flags, in variants of Han characters, in Mongolian.

use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, EmojiModifier, ExtendedPictographic, JoiningType,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const TEXT_SELECTOR: char = '\u{fe0e}';
const EMOJI_SELECTOR: char = '\u{fe0f}';
/// Draws the digit before it as a key.
const KEYCAP: char = '\u{20e3}';

/// Returns true for control characters, characters that reorder text, and invisible characters.
pub(crate) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(letter)
}

/// Returns true if an invisible character is in a place where its script or emoji needs it.
fn belongs(before: &[char], letter: char, after: &[char]) -> bool {
    let (last, next) = (before.last().copied(), after.first().copied());
    match letter {
        EMOJI_SELECTOR if next == Some(KEYCAP) => last.is_some_and(|key| key.is_ascii_digit() || "#*".contains(key)),
        EMOJI_SELECTOR | TEXT_SELECTOR => last.is_some_and(is_pictograph),
        ZERO_WIDTH_JOINER => joins_emoji(before, next) || joins_letters(before, after),
        ZERO_WIDTH_NON_JOINER => joins_letters(before, after),
        _ => false,
    }
}

fn is_pictograph(letter: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(letter)
}

/// Returns true between two pictographs, as in a family or a profession. The first may have a skin tone.
fn joins_emoji(before: &[char], next: Option<char>) -> bool {
    let modifies = |letter: char| letter == EMOJI_SELECTOR || CodePointSetData::new::<EmojiModifier>().contains(letter);
    let first = before.iter().rev().find(|letter| !modifies(**letter));
    first.copied().is_some_and(is_pictograph) && next.is_some_and(is_pictograph)
}

/// Returns true after a virama, as in Hindi, Bengali and Sinhala, and between two joining letters, as in Persian. Nearly the
/// rule for host names (RFC 5892, A.1 and A.2).
fn joins_letters(before: &[char], after: &[char]) -> bool {
    let joining = CodePointMapData::<JoiningType>::new();
    let joins = |letter: Option<&char>| {
        let kind = letter.map(|letter| joining.get(*letter));
        matches!(kind, Some(JoiningType::DualJoining | JoiningType::LeftJoining | JoiningType::RightJoining))
    };
    let is_letter = |letter: &&char| joining.get(**letter) != JoiningType::Transparent;
    let class = before.last().map(|last| CodePointMapData::<CanonicalCombiningClass>::new().get(*last));
    class == Some(CanonicalCombiningClass::Virama)
        || (joins(before.iter().rev().find(is_letter)) && joins(after.iter().find(is_letter)))
}

/// Returns `text` with each unsafe character replaced by `escape`.
fn safe(text: &str, escape: impl Fn(char, &mut String)) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut safe = String::with_capacity(text.len());
    for (index, letter) in letters.iter().copied().enumerate() {
        let (before, after) = (letters.get(..index).unwrap_or_default(), letters.get(index + 1..).unwrap_or_default());
        if is_unsafe(letter) && !belongs(before, letter, after) {
            escape(letter, &mut safe);
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Returns `text` in one line: line breaks and tabs become spaces, unsafe characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    safe(text, |letter, safe| match letter {
        '\n' | '\t' => safe.push(' '),
        '\r' => {}
        letter => safe.extend(letter.escape_unicode()),
    })
}

/// Returns the same JSON with unsafe characters as JSON escapes. Line breaks between values are kept.
pub(crate) fn printable_json(json: &str) -> String {
    safe(json, |letter, safe| match letter {
        '\n' => safe.push('\n'),
        letter => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}"))),
    })
}

/// Returns `text` without the byte order mark at its start. Editors and shells of Windows write one.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Returns the lines of `text`, each as by [`printable`]; at least one.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.trim_end().lines().map(printable).collect();
    if lines.is_empty() { vec![String::new()] } else { lines }
}

/// Returns `text` in one line of at most `columns` terminal columns.
pub(crate) fn preview(text: &str, columns: usize) -> String {
    let text = printable(text);
    if text.width() <= columns {
        return text;
    }
    let mut short = String::new();
    let mut used = 1;
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used > columns {
            break;
        }
        short.push(letter);
    }
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// Returns the beginning of `text` that fits into `bytes` bytes. What is left out shows as an ellipsis.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes.saturating_sub('…'.len_utf8()));
    format!("{}…", text[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("\x1b[31mred\x07"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("a\u{9b}2J"), "a\\u{9b}2J");
        assert_eq!(printable("two\r\nlines\tand a tab"), "two lines and a tab");
        assert_eq!(printable("größer 🙂 你好"), "größer 🙂 你好");
    }

    #[test]
    fn invisible_characters_are_escaped() {
        let hidden = [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2065}',
            '\u{2066}',
            '\u{2069}',
            '\u{206f}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0e}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff0}',
            '\u{fff9}',
            '\u{1bca0}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0061}',
            '\u{e007f}',
            '\u{e0100}',
            '\u{e0fff}',
        ];
        for letter in hidden {
            let escaped = format!("\\u{{{:x}}}", u32::from(letter));
            assert_eq!(printable(&format!("ann{letter}")), format!("ann{escaped}"));
            assert_eq!(printable(&format!("{letter}ann")), format!("{escaped}ann"));
            assert_eq!(printable(&format!("a{letter}b")), format!("a{escaped}b"));
        }
        assert_eq!(
            printable("größer 你好 мир שלום مرحبا 한국어 é e\u{301} ½ № ؀"),
            "größer 你好 мир שלום مرحبا 한국어 é e\u{301} ½ № ؀"
        );
    }

    #[test]
    fn an_emoji_keeps_its_invisible_parts() {
        for whole in ["👨‍👩‍👧‍👦", "❤️", "❤️‍🔥", "👩🏽‍🚀", "🏳️‍🌈", "🧑🏿‍❤️‍🧑🏻", "🤷🏼‍♀️", "☺︎", "1️⃣", "#️⃣", "🇩🇪"]
        {
            assert_eq!(printable(whole), whole);
        }
        // Incomplete, doubled, or next to a letter, they are invisible.
        for (text, shown) in [
            ("👨\u{200d}", "👨\\u{200d}"),
            ("\u{200d}👨", "\\u{200d}👨"),
            ("👨\u{200d}a", "👨\\u{200d}a"),
            ("a\u{200d}👨", "a\\u{200d}👨"),
            ("👨\u{200d}\u{200d}👩", "👨\\u{200d}\\u{200d}👩"),
            ("❤\u{fe0f}\u{fe0f}", "❤\u{fe0f}\\u{fe0f}"),
            ("1\u{fe0f}", "1\\u{fe0f}"),
            ("a\u{fe0f}\u{20e3}", "a\\u{fe0f}\u{20e3}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_script_keeps_its_joiners() {
        // Persian "I want" and "works", Hindi with both joiners, Sinhala "Sri".
        for word in ["می\u{200c}خواهم", "کار\u{200c}ها", "क्\u{200d}ष", "क्\u{200c}ष", "ශ්\u{200d}රී"]
        {
            assert_eq!(printable(word), word);
        }
        for (text, shown) in [
            ("می\u{200c}", "می\\u{200c}"),
            ("می\u{200c} خ", "می\\u{200c} خ"),
            ("\u{200c}می", "\\u{200c}می"),
            ("می\u{200c}\u{200c}خ", "می\\u{200c}\\u{200c}خ"),
            ("क\u{200d}ष", "क\\u{200d}ष"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ "name": "ann\u{9b}2J\u{202e}\u{7f}\u{e0061}\x1b", "emoji": "❤️\n" });
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = printable_json(&json);
            assert!(shown.contains(r"ann\u009b2J\u202e\u007f\udb40\udc61\u001b") && shown.contains("❤️"), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            assert_eq!(shown.lines().count(), json.lines().count());
        }
    }

    /// Readers that split at every line break of Unicode see one object a line.
    #[test]
    fn json_has_no_line_breaks_within_a_value() {
        let json =
            serde_json::json!({ "text": "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g\u{1d}h\u{1e}i" }).to_string();
        let shown = printable_json(&json);
        assert!(shown.contains(r"a\u2028b\u2029c\u0085d"), "{shown}");
        assert!(!shown.contains(|letter: char| letter.is_control() || "\u{2028}\u{2029}".contains(letter)), "{shown}");
    }

    #[test]
    fn line_breaks_are_kept() {
        assert_eq!(lines("a\nb\x1b\n"), ["a", "b\\u{1b}"]);
        assert_eq!(lines(""), [""]);
    }

    #[test]
    fn a_cut_text_fits_its_bytes_and_ends_after_a_character() {
        assert_eq!(cut("größe", 7), "größe");
        assert_eq!(cut("größer", 7), "grö…");
        assert_eq!(cut("größer", 6), "gr…");
        assert_eq!(cut("你好你好", 11), "你好…");
        assert_eq!(cut("one two.", 7), "one…");
    }

    #[test]
    fn a_preview_fits_its_columns() {
        assert_eq!(preview("short", 5), "short");
        assert_eq!(preview("shorter", 5), "shor…");
        assert_eq!(preview("你好你好", 5), "你好…");
        assert_eq!(preview("one two", 5), "one…");
    }
}
