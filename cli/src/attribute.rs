//! Attributes on the command line: `color=red`.

use std::collections::HashMap;

use crate::text::preview;

/// Parses an attribute such as `k0=school`.
pub(crate) fn attribute(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("an attribute has the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Returns attributes as text, ordered by key.
pub(crate) fn attributes_text(attributes: &HashMap<String, String>) -> String {
    let mut pairs: Vec<_> = attributes.iter().collect();
    pairs.sort_unstable();
    pairs
        .iter()
        .map(|(key, value)| format!("{}={}", preview(key, 20), preview(value, 20)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_a_key_and_a_value() {
        assert_eq!(attribute("k0=a=b"), Ok(("k0".to_owned(), "a=b".to_owned())));
        assert_eq!(attribute("k1="), Ok(("k1".to_owned(), String::new())));
        assert!(attribute("k1").is_err());
    }

    #[test]
    fn attributes_are_ordered_by_key() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(attributes_text(&[pair("k4", "x\ny"), pair("k0", "school")].into()), "k0=school k4=x y");
    }
}
