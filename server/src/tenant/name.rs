//! Rules for the names of apps. A name is for operators: lists, logs and terminals show it.

use crate::error::Error;

/// The most bytes of a name.
const MAX_BYTES: usize = 256;

/// Checks the name of an app. A name must not move a cursor, end a line or reorder text, wherever it is shown.
///
/// # Errors
/// The name is too long, or contains a forbidden character.
pub fn check_app_name(name: &str) -> Result<(), Error> {
    if name.len() > MAX_BYTES {
        return Err(Error::params_invalid(format!("the name of an app has at most {MAX_BYTES} bytes")));
    }
    let is_forbidden =
        |letter: &char| letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match name.chars().find(is_forbidden) {
        Some(letter) => Err(Error::params_invalid(format!(
            "the name of an app has U+{:04X}; control characters, line breaks and characters that reorder text are not \
             allowed",
            u32::from(letter)
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_text_in_reading_order() {
        for allowed in ["", "shop", "Büro 2 (test)", "店", "מסעדה", "👩‍🍳", &"x".repeat(256)] {
            check_app_name(allowed).unwrap();
        }
        for forbidden in [
            '\0', '\n', '\r', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{2028}', '\u{2029}', '\u{202a}',
            '\u{202e}', '\u{2066}', '\u{2069}',
        ] {
            let message = check_app_name(&format!("shop{forbidden}")).unwrap_err().to_string();
            assert!(message.contains(&format!("U+{:04X}", u32::from(forbidden))), "{message}");
        }
        assert!(check_app_name(&"x".repeat(257)).unwrap_err().to_string().contains("at most 256 bytes"));
        assert!(check_app_name(&"ä".repeat(129)).is_err());
    }
}
