//! Text that others wrote, for a terminal: nothing in it moves the cursor, changes a colour or turns the line around.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Control characters and those that reorder or hide text.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// One line: breaks and tabs become spaces, unsafe characters are spelled out.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => safe.push(' '),
            '\r' => {}
            letter if is_unsafe(letter) => safe.extend(letter.escape_unicode()),
            letter => safe.push(letter),
        }
    }
    safe
}

/// The lines of a text, each as [`printable`] has it; at least one.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.trim_end().lines().map(printable).collect();
    if lines.is_empty() { vec![String::new()] } else { lines }
}

/// One line of at most `columns` on the screen.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_hurt_a_terminal_is_spelled_out() {
        assert_eq!(printable("\x1b[31mred\x07"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("a\u{9b}2J"), "a\\u{9b}2J");
        assert_eq!(printable("two\r\nlines\tand a tab"), "two lines and a tab");
        assert_eq!(printable("größer 🙂 你好"), "größer 🙂 你好");
    }

    #[test]
    fn lines_keep_the_breaks() {
        assert_eq!(lines("a\nb\x1b\n"), ["a", "b\\u{1b}"]);
        assert_eq!(lines(""), [""]);
    }

    #[test]
    fn a_preview_fits_its_columns() {
        assert_eq!(preview("short", 5), "short");
        assert_eq!(preview("shorter", 5), "shor…");
        assert_eq!(preview("你好你好", 5), "你好…");
        assert_eq!(preview("one two", 5), "one…");
    }
}
