use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::v1::ConversationRef;

const SIGNS: &[u8] = b"!#$%&()+-:;<=.>?@[]^_{}|~";

/// Every request has an ID: a table costs a fraction of a search in `SIGNS`.
const ALPHABET: [bool; 256] = {
    let mut alphabet = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        alphabet[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < SIGNS.len() {
        alphabet[SIGNS[index] as usize] = true;
        index += 1;
    }
    alphabet
};

/// Whether an ID of the reference may contain this character.
pub fn is_id_char(letter: char) -> bool {
    u8::try_from(letter).is_ok_and(|byte| ALPHABET[usize::from(byte)])
}

/// Whether this can be an ID of the reference.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| ALPHABET[usize::from(byte)])
}

/// Returns lowercase hex: `localMessageID` is a client's key in this form.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns the key of a message that is sent with this `idempotencyKey`: the first half of the SHA-256 of
/// `TYPE/CONVERSATION/KEY`, so that a key of the app counts in one conversation only.
pub fn message_key(conversation: &ConversationRef, idempotency_key: &str) -> [u8; 16] {
    let text = format!("{}/{}/{idempotency_key}", conversation.r#type, conversation.id);
    first_half(Sha256::digest(text).into())
}

/// Returns what names a login on its device without giving its session away: the first half of the SHA-256 of
/// `LoginResult.session`.
pub fn login_name(session: &[u8]) -> [u8; 16] {
    first_half(Sha256::digest(session).into())
}

fn first_half(digest: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// Returns the bytes of a hex string; `None` if it is not exactly `N` bytes.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    // `from_str_radix` would accept a sign.
    if text.len() != N * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_back() {
        assert_eq!(hex(&[0, 15, 255]), "000fff");
        assert_eq!(from_hex::<3>("000fff"), Some([0, 15, 255]));
        assert_eq!(from_hex::<3>("000ff"), None);
        assert_eq!(from_hex::<3>("000fgg"), None);
        assert_eq!(from_hex::<2>("äb"), None);
        assert_eq!(from_hex::<2>("+a+b"), None);
        assert_eq!(from_hex::<2>("0AFf"), Some([10, 255]));
    }

    #[test]
    fn the_alphabet_is_the_references() {
        assert!(is_id("a-Z0!#$%&()+-:;<=.>?@[]^_{}|~"));
        for bad in [" ", ",", "'", "\"", "*", "/", "\\", "`", "ä", "\0", ""] {
            assert!(!is_id(bad), "{bad:?}");
        }
        let count = (0..=0xff).filter(|code| is_id_char(char::from(*code))).count();
        assert_eq!(count, 26 + 26 + 10 + 25);
        assert!(!is_id_char('\u{100}') && !is_id_char('\u{161}'));
    }

    #[test]
    fn the_name_of_a_login_is_half_a_hash_of_its_session() {
        // Clients in other languages compute the same.
        assert_eq!(hex(&login_name(&[7; 16])), "d761d406af2a4a5a15f67c924378ed88");
    }

    #[test]
    fn the_key_of_a_message_belongs_to_its_conversation() {
        let bob = |kind| ConversationRef { r#type: kind, id: "bob".to_owned() };
        // Clients in other languages compute the same.
        assert_eq!(hex(&message_key(&bob(0), "answer-7")), "9160838a650e68bd8eb3f36e42061dfa");
        let others = [message_key(&bob(2), "answer-7"), message_key(&bob(0), "answer-8")];
        assert!(!others.contains(&message_key(&bob(0), "answer-7")));
    }
}
