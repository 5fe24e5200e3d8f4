//! The parameters of statements.

use bytes::Bytes;

use crate::key::{AppKey, CallKey, ConversationKey, LoginKey, UserKey};

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// `SMALLINT` and `BIGINT`.
    Int(i64),
    /// `DOUBLE PRECISION`.
    Real(f64),
    /// `TEXT`. U+0000 is refused because PostgreSQL cannot store it.
    Text(String),
    /// `BYTEA`.
    Bytes(Bytes),
    /// A number above 2^63 - 1, which no column can hold: the statement fails.
    TooLarge(u64),
    /// An array, for PostgreSQL only.
    Array(Array),
}

/// The values of a column in several rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// `BIGINT[]`.
    Ints(Vec<i64>),
    /// `TEXT[]`.
    Texts(Vec<String>),
    /// `BYTEA[]`.
    Bytes(Vec<Bytes>),
}

impl Value {
    /// Returns why the databases cannot store this value, if they cannot.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Text(text) if text.as_bytes().contains(&0) => Some("a text contains U+0000"),
            Self::Array(Array::Texts(texts)) if texts.iter().any(|text| text.as_bytes().contains(&0)) => {
                Some("a text contains U+0000")
            }
            Self::TooLarge(_) => Some("a number is above 2^63 - 1"),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($type:ty: |$value:ident| $made:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $made
            }
        }
    )*};
}

from! {
    i64: |value| Self::Int(value);
    i32: |value| Self::Int(value.into());
    u32: |value| Self::Int(value.into());
    u64: |value| i64::try_from(value).map_or(Self::TooLarge(value), Self::Int);
    // Both databases have integers; only PostgreSQL has booleans.
    bool: |value| Self::Int(value.into());
    f64: |value| Self::Real(value);
    &str: |value| Self::Text(value.to_owned());
    &String: |value| Self::Text(value.clone());
    String: |value| Self::Text(value);
    Vec<u8>: |value| Self::Bytes(value.into());
    &[u8]: |value| Self::Bytes(Bytes::copy_from_slice(value));
    Bytes: |value| Self::Bytes(value);
    AppKey: |key| Self::Int(key.0);
    UserKey: |key| Self::Int(key.0);
    ConversationKey: |key| Self::Int(key.0);
    CallKey: |key| Self::Int(key.0);
    LoginKey: |key| Self::Int(key.0);
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(Bytes::copy_from_slice(&value))
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Converts the parameters of a statement to [`Value`]s: `tx.execute(sql, &params![id, name]).await?`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        [$($crate::db::Value::from($value)),*]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unstorable_values_are_detected() {
        assert_eq!(Value::from(u64::MAX), Value::TooLarge(u64::MAX));
        assert!(Value::from(u64::MAX).problem().is_some());
        assert!(Value::from("a\0b").problem().is_some());
        assert_eq!(Value::from(7u64), Value::Int(7));
        assert_eq!(Value::from(None::<&str>), Value::Null);
        assert!(Value::from("a").problem().is_none());
    }
}
