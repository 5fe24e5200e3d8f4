//! Reads the text inside an AES-CBC token. It accepts exactly what one of ZEGO's generators writes.
//!
//! CBC has no tag, so the holder of a token can make others whose text is partly chosen and partly random. A reader that
//! skips unknown parts leaves room for the random ones. This reader leaves none: the keys, their order and every byte
//! between the values are fixed, and a value is a number or printable ASCII.
//!
//! A forger can also splice tokens: the first blocks of one and the last blocks of another. The forger chooses the first
//! block freely through the IV. The block at a join is random, but its text is known to the forger, who tries pairs of
//! tokens until it fits, without asking the server. A block of printable text fits once in 11 million pairs. A block of
//! digits, the loosest part of the shapes besides strings, fits once in 2^74. So the strings decide what a forger gains:
//! - The user ID begins after the first block, and all of it must match. A join inside it makes a user ID with up to 16
//!   random characters in a row. That is never another user's ID, but it may be an ID that belongs to no one.
//! - A payload of any text is allowed only at the end. Everything that counts is before it, in blocks of one genuine token.
//! - Where the times follow the payload, the payload must be empty. Otherwise the user ID of an old token and the times of
//!   a new one would make a valid token.
//!
//! In the shape of the generator in Java the user ID begins in the first block: see [`Cbc::AcceptedWithJava`].
//!
//! Every byte is read in every shape, whatever is wrong, and one flag collects all errors. Only branches differ, some
//! nanoseconds for each token.

use super::Cbc;
use crate::token::envelope::BLOCK;

/// A capital is the place of a value: app ID, user ID, nonce, ctime, expire, payload, or `O` for an empty payload.
const SHAPES: [&[u8]; 4] = [
    // Python, Node; also PHP and C++.
    br#"{"app_id":A,"user_id":U,"nonce":N,"ctime":C,"expire":E,"payload":P}"#,
    // Go.
    br#"{"app_id":A,"user_id":U,"ctime":C,"expire":E,"nonce":N,"payload":P}"#,
    // C#.
    br#"{"app_id":A,"user_id":U,"payload":O,"ctime":C,"expire":E,"nonce":N}"#,
    // Java: the order of its `HashMap`.
    br#"{"user_id":U,"payload":O,"expire":E,"ctime":C,"app_id":A,"nonce":N}"#,
];

impl Cbc {
    fn shapes(self) -> &'static [&'static [u8]] {
        match self {
            Self::Refused => &[],
            Self::Accepted => SHAPES.get(..3).unwrap_or_default(),
            Self::AcceptedWithJava => &SHAPES,
        }
    }
}

/// What the text must contain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) app_id: u32,
    pub(super) user_id: &'a str,
    pub(super) expire: i64,
}

/// Returns when the token was made, if the decrypted blocks are a padded text with the wanted contents.
pub(super) fn read(plain: &[u8], cbc: Cbc, wanted: Wanted<'_>) -> Option<i64> {
    let padding = plain.last_chunk::<BLOCK>().and_then(padding);
    let text = plain.len().saturating_sub(padding.unwrap_or(0));
    let mut ctime = None;
    for shape in cbc.shapes() {
        let mut reader = Reader::new(shape, wanted);
        plain.iter().for_each(|byte| reader.step(*byte));
        let is_right = padding.is_some() & (reader.ended == Some(text)) & !std::hint::black_box(reader.wrong);
        let made = is_right.then_some(reader.ctime);
        ctime = ctime.or(made);
    }
    ctime
}

/// Returns the length of the PKCS#7 padding in the last block. It reads the whole block, whatever it contains.
pub(super) fn padding(block: &[u8; BLOCK]) -> Option<usize> {
    let count = block[BLOCK - 1];
    let mut wrong = u8::from(count == 0) | u8::from(usize::from(count) > BLOCK);
    for (index, byte) in block.iter().rev().enumerate() {
        wrong |= u8::from(index < usize::from(count)) & u8::from(*byte != count);
    }
    (std::hint::black_box(wrong) == 0).then_some(usize::from(count))
}

/// The position of a reader inside a string.
#[derive(Clone, Copy, Debug)]
enum Part {
    Before,
    Inside,
    Escape,
    /// The last characters of `\u0000`, and the number of those that are left.
    Unicode(u32, u8),
    /// The number of characters of `null` read so far. The generators in Java and C# write it for a missing payload.
    Null(usize),
}

/// Reads a text byte by byte along a shape.
#[derive(Debug)]
struct Reader<'a> {
    shape: &'static [u8],
    wanted: Wanted<'a>,
    /// The number of bytes of the shape read so far.
    at: usize,
    /// The number of bytes of the text read so far.
    position: usize,
    /// The position in the text where the shape ended.
    ended: Option<usize>,
    wrong: bool,
    number: i64,
    digits: usize,
    is_negative: bool,
    part: Part,
    user_bytes: usize,
    ctime: i64,
}

impl<'a> Reader<'a> {
    fn new(shape: &'static [u8], wanted: Wanted<'a>) -> Self {
        Self {
            shape,
            wanted,
            at: 0,
            position: 0,
            ended: None,
            wrong: false,
            number: 0,
            digits: 0,
            is_negative: false,
            part: Part::Before,
            user_bytes: 0,
            ctime: 0,
        }
    }

    fn expected(&self) -> Option<u8> {
        self.shape.get(self.at).copied()
    }

    fn step(&mut self, byte: u8) {
        self.position += 1;
        if matches!(self.expected(), Some(b'A' | b'N' | b'C' | b'E')) {
            if byte.is_ascii_digit() || byte == b'-' {
                return self.digit(byte);
            }
            self.end_number();
        }
        match self.expected() {
            // Padding.
            None => {}
            Some(b'U' | b'P' | b'O') => self.character(byte),
            Some(literal) => {
                self.wrong |= byte != literal;
                self.at += 1;
                if self.at == self.shape.len() {
                    self.ended = Some(self.position);
                }
            }
        }
    }

    fn digit(&mut self, byte: u8) {
        if byte == b'-' {
            self.wrong |= self.is_negative | (self.digits > 0);
            self.is_negative = true;
            return;
        }
        // No leading zero.
        self.wrong |= (self.digits > 0) & (self.number == 0);
        self.digits += 1;
        let next = self.number.checked_mul(10).and_then(|number| number.checked_add(i64::from(byte - b'0')));
        self.wrong |= next.is_none();
        self.number = next.unwrap_or(0);
    }

    fn end_number(&mut self) {
        self.wrong |= (self.digits == 0) | (self.is_negative & (self.number == 0));
        let number = if self.is_negative { -self.number } else { self.number };
        match self.expected() {
            Some(b'A') => self.wrong |= number != i64::from(self.wanted.app_id),
            Some(b'E') => self.wrong |= number != self.wanted.expire,
            Some(b'C') => self.ctime = number,
            _ => {}
        }
        (self.number, self.digits, self.is_negative) = (0, 0, false);
        self.at += 1;
    }

    fn character(&mut self, byte: u8) {
        self.part = match (self.part, byte) {
            (Part::Before, b'n') if self.expected() != Some(b'U') => Part::Null(1),
            (Part::Before, _) => {
                self.wrong |= byte != b'"';
                Part::Inside
            }
            (Part::Inside, b'"') => self.end_string(),
            (Part::Inside, b'\\') => Part::Escape,
            (Part::Inside, _) => self.take(byte),
            (Part::Escape, b'u') => Part::Unicode(0, 4),
            (Part::Escape, _) => {
                self.wrong |= !matches!(byte, b'"' | b'\\' | b'/');
                self.take(byte)
            }
            (Part::Unicode(digits, left), _) => {
                let digits = digits << 8 | u32::from(byte);
                // Go escapes these three.
                match (left, &digits.to_be_bytes()) {
                    (1, b"0026") => self.take(b'&'),
                    (1, b"003c") => self.take(b'<'),
                    (1, b"003e") => self.take(b'>'),
                    (1, _) => self.take(0),
                    _ => Part::Unicode(digits, left - 1),
                }
            }
            (Part::Null(count), _) => {
                self.wrong |= b"null".get(count) != Some(&byte);
                if count + 1 == b"null".len() { self.end_value() } else { Part::Null(count + 1) }
            }
        };
    }

    /// Takes a character of a string.
    fn take(&mut self, byte: u8) -> Part {
        self.wrong |= !matches!(byte, b' '..=b'~') | (self.expected() == Some(b'O'));
        if self.expected() == Some(b'U') {
            self.wrong |= self.wanted.user_id.as_bytes().get(self.user_bytes) != Some(&byte);
            self.user_bytes += 1;
        }
        Part::Inside
    }

    fn end_string(&mut self) -> Part {
        if self.expected() == Some(b'U') {
            self.wrong |= self.user_bytes != self.wanted.user_id.len();
        }
        self.end_value()
    }

    fn end_value(&mut self) -> Part {
        self.at += 1;
        Part::Before
    }
}
