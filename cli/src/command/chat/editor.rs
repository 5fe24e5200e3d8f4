//! The line that is being typed. The chat edits it by itself, because a message that arrives must not erase it: a terminal that
//! edits lines does not tell what is typed so far.

use unicode_width::UnicodeWidthChar;

use crate::text::printable;

/// The size limit of a typed line, in bytes: no server accepts more.
const MAX_BYTES: usize = 32 << 10;

/// The result of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// Enter: the line.
    Line(String),
    /// Ctrl-D in an empty line.
    End,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After an escape character: an arrow or function key. These keys have no meaning here.
    Escape,
    /// Within a control sequence.
    Sequence,
    /// After `ESC O`.
    Single,
}

/// The line that is being typed.
#[derive(Debug, Default)]
pub(super) struct Editor {
    text: String,
    /// The beginning of a character of several bytes.
    partial: Vec<u8>,
    state: State,
}

impl Editor {
    /// Takes a byte from the terminal.
    pub(super) fn byte(&mut self, byte: u8) -> Option<Entered> {
        match self.state {
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Sequence,
                    b'O' => State::Single,
                    _ => State::Text,
                };
                return None;
            }
            State::Sequence => {
                if (0x40..=0x7e).contains(&byte) {
                    self.state = State::Text;
                }
                return None;
            }
            State::Single => {
                self.state = State::Text;
                return None;
            }
            State::Text => {}
        }
        match byte {
            b'\r' | b'\n' => return Some(Entered::Line(std::mem::take(&mut self.text))),
            // Ctrl-D
            0x04 if self.text.is_empty() => return Some(Entered::End),
            // Backspace
            0x08 | 0x7f => self.delete(),
            // Ctrl-U
            0x15 => self.text.clear(),
            // Ctrl-W
            0x17 => {
                let words = self.text.trim_end();
                let end = words.rfind(char::is_whitespace).map_or(0, |space| space + 1);
                self.text.truncate(end);
            }
            0x1b => self.state = State::Escape,
            b'\t' => self.insert(byte),
            0..0x20 => {}
            _ => self.insert(byte),
        }
        None
    }

    /// Deletes the last character, with the accents on it.
    fn delete(&mut self) {
        while let Some(letter) = self.text.pop() {
            if letter.width().unwrap_or(1) > 0 {
                break;
            }
        }
    }

    fn insert(&mut self, byte: u8) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(letter) => {
                if self.text.len() + letter.len() <= MAX_BYTES {
                    self.text.push_str(letter);
                }
                self.partial.clear();
            }
            Err(error) if error.error_len().is_some() => self.partial.clear(),
            Err(_) => {}
        }
    }

    /// Whether a message is being typed, and no command.
    pub(super) fn is_message(&self) -> bool {
        !self.text.trim().is_empty() && !self.text.starts_with('/')
    }

    /// Returns the end of the line, in at most `columns` columns.
    pub(super) fn shown(&self, columns: usize) -> String {
        tail(&printable(&self.text), columns)
    }
}

/// Returns the end of `text` in at most `columns` columns.
fn tail(text: &str, columns: usize) -> String {
    let mut left = columns;
    for (index, letter) in text.char_indices().rev() {
        let width = letter.width().unwrap_or(0);
        // Before the first character, no column is needed for the ellipsis.
        let is_first = index == 0;
        if width + usize::from(!is_first) > left {
            let end = text.get(index + letter.len_utf8()..).unwrap_or_default();
            return format!("…{end}");
        }
        left -= width;
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (Vec<Entered>, String) {
        let mut editor = Editor::default();
        let entered = bytes.iter().filter_map(|byte| editor.byte(*byte)).collect();
        (entered, editor.shown(80))
    }

    fn text(bytes: &[u8]) -> String {
        let (entered, text) = typed(bytes);
        assert_eq!(entered, []);
        text
    }

    #[test]
    fn enter_ends_a_line_and_control_d_the_input() {
        let line = |text: &str| Entered::Line(text.to_owned());
        let (entered, left) = typed("größer\r\r你好 🙂\nhalf\x04".as_bytes());
        assert_eq!(entered, [line("größer"), line(""), line("你好 🙂")]);
        assert_eq!(left, "half");
        assert_eq!(typed(b"x\n\x04").0, [line("x"), Entered::End]);
    }

    #[test]
    fn keys_delete() {
        assert_eq!(text("gré\x7f".as_bytes()), "gr");
        assert_eq!(text("gre\u{301}\x7f你\x08".as_bytes()), "gr");
        assert_eq!(text(b"\x7fone two  \x17"), "one ");
        assert_eq!(text(b"one\x17two\x15"), "");
    }

    #[test]
    fn other_keys_do_nothing() {
        assert_eq!(text(b"a\x1b[Db\x1b[1;5Cc\x1bOPd\x1bxe\x01\x02f\0"), "abcdef");
        assert_eq!(text(b"a\xffb\xc3(c"), "abc");
    }

    #[test]
    fn a_command_is_no_message() {
        for (keys, is_message) in
            [("hi", true), (" /x", true), ("/x", false), ("  ", false), ("", false), ("hi\n", false)]
        {
            let mut editor = Editor::default();
            keys.bytes().for_each(|byte| drop(editor.byte(byte)));
            assert_eq!(editor.is_message(), is_message, "{keys:?}");
        }
    }

    #[test]
    fn a_long_line_shows_its_end() {
        assert_eq!(tail("short", 5), "short");
        assert_eq!(tail("longer", 5), "…nger");
        assert_eq!(tail("你好你好", 6), "…你好");
        assert_eq!(tail("", 0), "");
        assert_eq!(tail("ab", 0), "…");
    }
}
