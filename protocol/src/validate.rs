//! The limits come from the options in the `.proto` files. Both sides check them: the client to save a round trip, the
//! server because it trusts no client.

use std::fmt::{self, Write as _};

use crate::v1::{self, ErrorCode};

/// A field violates its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in JSON: `config.token`, `userIDs[3]`.
    pub field: String,
    /// The reference's error code.
    pub code: ErrorCode,
    /// What is wrong, as it follows the field in a sentence: `is 300 bytes long; at most 256 are allowed`.
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

impl std::error::Error for Violation {}

impl Violation {
    fn within(mut self: Box<Self>, field: &str) -> Box<Self> {
        self.field = format!("{field}.{}", self.field);
        self
    }

    fn within_item(mut self: Box<Self>, field: &str, index: usize) -> Box<Self> {
        self.field = format!("{field}[{index}].{}", self.field);
        self
    }

    fn item(mut self: Box<Self>, index: usize) -> Box<Self> {
        let _ = write!(self.field, "[{index}]");
        self
    }
}

/// A message whose fields have limits.
pub trait Validate {
    /// Checks every field, also those of messages inside.
    ///
    /// # Errors
    /// The first violation.
    fn validate(&self) -> Result<(), Box<Violation>>;
}

#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    code: i32,
}

impl Field {
    #[cold]
    fn violated(self, problem: String) -> Box<Violation> {
        let code = ErrorCode::try_from(self.code).unwrap_or(ErrorCode::CommonModuleParamsInvalid);
        Box::new(Violation { field: self.name.to_owned(), code, problem })
    }
}

#[derive(Clone, Copy)]
struct Text {
    required: bool,
    max_bytes: usize,
    max_chars: usize,
    is_id: bool,
    not_blank: bool,
}

/// A function for each kind of limit; the generated code calls them.
mod check {
    use std::collections::HashMap;

    use super::{Field, Text, Violation};

    type Result = std::result::Result<(), Box<Violation>>;

    pub(super) fn text(field: Field, text: &str, rule: Text) -> Result {
        if text.is_empty() {
            return if rule.required || rule.not_blank { Err(field.violated("is missing".to_owned())) } else { Ok(()) };
        }
        if rule.max_bytes > 0 && text.len() > rule.max_bytes {
            let problem = format!("is {} bytes long; at most {} are allowed", text.len(), rule.max_bytes);
            return Err(field.violated(problem));
        }
        if rule.max_chars > 0 && text.len() > rule.max_chars && text.chars().count() > rule.max_chars {
            let problem =
                format!("is {} characters long; at most {} are allowed", text.chars().count(), rule.max_chars);
            return Err(field.violated(problem));
        }
        if rule.is_id {
            if !crate::id::is_id(text) {
                let bad = text.chars().find(|letter| !crate::id::is_id_char(*letter)).unwrap_or_default();
                return Err(field.violated(format!("contains {bad:?}, which an ID may not")));
            }
        } else if text.as_bytes().contains(&0) {
            // PostgreSQL cannot store it, and the other jobs of the batch would fail with this one.
            return Err(field.violated("contains the character U+0000".to_owned()));
        }
        if rule.not_blank && text.chars().all(char::is_whitespace) {
            return Err(field.violated("is blank".to_owned()));
        }
        Ok(())
    }

    pub(super) fn bytes(field: Field, bytes: &[u8], required: bool, most: usize, exact: usize) -> Result {
        if bytes.is_empty() {
            return if required { Err(field.violated("is missing".to_owned())) } else { Ok(()) };
        }
        if most > 0 && bytes.len() > most {
            return Err(field.violated(format!("is {} bytes long; at most {most} are allowed", bytes.len())));
        }
        if exact > 0 && bytes.len() != exact {
            return Err(field.violated(format!("is {} bytes long; it must be {exact}", bytes.len())));
        }
        Ok(())
    }

    pub(super) fn items(field: Field, too_many: Field, count: usize, min: usize, max: usize) -> Result {
        if count < min {
            return Err(field.violated(format!("has {count} entries; at least {min} are needed")));
        }
        if max > 0 && count > max {
            return Err(too_many.violated(format!("has {count} entries; at most {max} are allowed")));
        }
        Ok(())
    }

    pub(super) fn map_entry(field: Field, key: &str, value: &str, keys: &[&str]) -> Result {
        if key.as_bytes().contains(&0) || value.as_bytes().contains(&0) {
            return Err(field.violated("contains the character U+0000".to_owned()));
        }
        if !keys.is_empty() && !keys.contains(&key) {
            return Err(field.violated(format!("has the key {key:?}; only {} are allowed", keys.join(", "))));
        }
        Ok(())
    }

    pub(super) fn map_bytes(field: Field, map: &HashMap<String, String>, most: usize) -> Result {
        let total: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
        if total > most {
            return Err(field.violated(format!("has {total} bytes in its keys and values; at most {most} are allowed")));
        }
        Ok(())
    }

    pub(super) fn present(field: Field, is_present: bool) -> Result {
        if is_present { Ok(()) } else { Err(field.violated("is missing".to_owned())) }
    }

    pub(super) fn known(field: Field, is_known: bool) -> Result {
        if is_known { Ok(()) } else { Err(field.violated("has a value that the reference does not define".to_owned())) }
    }

    pub(super) fn range(field: Field, value: i128, min: i128, max: i128) -> Result {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(field.violated(format!("is {value}; {min} to {max} are allowed")))
    }
}

include!(concat!(env!("OUT_DIR"), "/validate.rs"));
