//! Values in PostgreSQL's binary wire format.

use std::fmt::Write;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{Encode, Postgres, Row as _, Type, TypeInfo, ValueRef};

use crate::db::error::DbError;
use crate::db::row::{Row, RowBuilder};
use crate::db::value::{Array, Value};

/// Tells PostgreSQL to infer the type.
const UNKNOWN: Oid = Oid(0);

mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const BYTEA_ARRAY: u32 = 1001;
    pub(super) const TEXT_ARRAY: u32 = 1009;
    pub(super) const INT8_ARRAY: u32 = 1016;
    pub(super) const VARCHAR: u32 = 1043;
}

/// A parameter with its type. Without it PostgreSQL reads the parameters of a bare `VALUES` list as texts.
pub(super) struct Param<'a>(pub(super) &'a Value);

impl Type<Postgres> for Param<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UNKNOWN)
    }
}

impl<'q> Encode<'q, Postgres> for Param<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::TooLarge(_) => return Err("a number is above 2^63 - 1".into()),
            Value::Int(value) => buffer.extend_from_slice(&value.to_be_bytes()),
            Value::Real(value) => buffer.extend_from_slice(&value.to_be_bytes()),
            Value::Text(value) => buffer.extend_from_slice(value.as_bytes()),
            Value::Bytes(value) => buffer.extend_from_slice(value),
            Value::Array(Array::Ints(values)) => {
                array(buffer, oid::INT8, values, |buffer, value| buffer.extend_from_slice(&value.to_be_bytes()))?;
            }
            Value::Array(Array::Texts(values)) => {
                array(buffer, oid::TEXT, values, |buffer, value| buffer.extend_from_slice(value.as_bytes()))?;
            }
            Value::Array(Array::Bytes(values)) => {
                array(buffer, oid::BYTEA, values, |buffer, value| buffer.extend_from_slice(value))?;
            }
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(match self.0 {
            Value::Null | Value::TooLarge(_) => UNKNOWN,
            Value::Int(_) => Oid(oid::INT8),
            Value::Real(_) => Oid(oid::FLOAT8),
            Value::Text(_) => Oid(oid::TEXT),
            Value::Bytes(_) => Oid(oid::BYTEA),
            Value::Array(Array::Ints(_)) => Oid(oid::INT8_ARRAY),
            Value::Array(Array::Texts(_)) => Oid(oid::TEXT_ARRAY),
            Value::Array(Array::Bytes(_)) => Oid(oid::BYTEA_ARRAY),
        }))
    }
}

/// Appends an array of one dimension without NULLs.
fn array<T>(
    buffer: &mut PgArgumentBuffer,
    element: u32,
    values: &[T],
    append: impl Fn(&mut Vec<u8>, &T),
) -> Result<(), BoxDynError> {
    let length = i32::try_from(values.len())?;
    // The dimensions, whether there are NULLs, the type, the length, and the index of the first element.
    [1, 0].iter().for_each(|number: &i32| buffer.extend_from_slice(&number.to_be_bytes()));
    buffer.extend_from_slice(&element.to_be_bytes());
    [length, 1].iter().for_each(|number| buffer.extend_from_slice(&number.to_be_bytes()));
    let mut bytes = Vec::new();
    for value in values {
        bytes.clear();
        append(&mut bytes, value);
        buffer.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
        buffer.extend_from_slice(&bytes);
    }
    Ok(())
}

/// Appends a comment with the positions of NULL parameters to a statement, as its key among the prepared statements. A statement
/// is prepared for the types of its parameters, and PostgreSQL infers that of a NULL, perhaps as `SMALLINT`. So a statement with
/// NULLs in other positions must be prepared anew.
pub(super) fn mark_nulls(sql: &str, params: &[Value]) -> String {
    let mut text = sql.to_owned();
    for (index, _) in params.iter().enumerate().filter(|(_, param)| matches!(param, Value::Null)) {
        // Writing to a String does not fail.
        let _ = write!(text, "{}{index}", if text.len() == sql.len() { " -- null: " } else { " " });
    }
    text
}

/// Converts a row.
pub(super) fn row(row: &PgRow) -> Result<Row, DbError> {
    let mut builder = RowBuilder::new(row.len());
    for column in 0..row.len() {
        let value = row.try_get_raw(column).map_err(|error| DbError::other(format!("column {column}: {error}")))?;
        cell(&mut builder, &value)
            .map_err(|error| DbError::other(format!("column {column}, {}: {error}", value.type_info().name())))?;
    }
    Ok(builder.finish())
}

fn cell(builder: &mut RowBuilder, value: &PgValueRef<'_>) -> Result<(), BoxDynError> {
    if value.is_null() {
        builder.null();
        return Ok(());
    }
    let bytes = value.as_bytes()?;
    match value.type_info().oid().map_or(0, |oid| oid.0) {
        oid::INT8 => builder.int(i64::from_be_bytes(bytes.try_into()?)),
        oid::INT4 => builder.int(i32::from_be_bytes(bytes.try_into()?).into()),
        oid::INT2 => builder.int(i16::from_be_bytes(bytes.try_into()?).into()),
        oid::BOOL => builder.int(i64::from(bytes != [0])),
        oid::FLOAT8 => builder.real(f64::from_be_bytes(bytes.try_into()?)),
        oid::FLOAT4 => builder.real(f32::from_be_bytes(bytes.try_into()?).into()),
        oid::TEXT | oid::VARCHAR | oid::NAME => builder.text(bytes)?,
        oid::BYTEA => builder.bytes(bytes),
        // Mostly NUMERIC, the type of a SUM of BIGINT.
        _ => return Err("the type is not in the portable subset; CAST it".into()),
    }
    Ok(())
}
