//! Rows as the parameters of one statement. SQLite gets a `VALUES` list with a placeholder for each value. PostgreSQL gets an
//! array for each column: one text for any number of rows, and a fraction of the work for a list of a thousand
//! placeholders.

use std::fmt::Write;

use super::dialect::Dialect;
use super::error::DbError;
use super::row::Row;
use super::tx::Tx;
use super::value::{Array, Value};

/// The most rows of a `VALUES` list: a power of two, so that there are few different texts and they stay prepared.
const VALUES_ROWS: usize = 128;
/// The most rows of arrays.
const ARRAY_ROWS: usize = 1_024;

impl Tx<'_> {
    /// Runs a statement that writes rows, as often as it takes. `sql` gets a query for them, whose columns are `column1`,
    /// `column2` …: it follows `INSERT INTO …`, or stands in brackets after `FROM`.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn execute_rows<const N: usize>(
        &mut self,
        mut rows: &[[Value; N]],
        sql: impl Fn(&str) -> String,
    ) -> Result<u64, DbError> {
        let mut affected = 0;
        while !rows.is_empty() {
            let most = match self.dialect() {
                Dialect::Sqlite => VALUES_ROWS.min(1 << rows.len().ilog2()),
                Dialect::Postgres => ARRAY_ROWS.min(rows.len()),
            };
            let (now, later) = rows.split_at(most);
            affected += match self.dialect() {
                Dialect::Sqlite => self.execute(&sql(&values(now.len(), N)), now.as_flattened()).await?,
                Dialect::Postgres => {
                    let (query, params) = arrays(now)?;
                    self.execute(&sql(&query), &params).await?
                }
            };
            rows = later;
        }
        Ok(affected)
    }

    /// Like [`Tx::execute_rows`], for a query. It may return a row several times.
    ///
    /// # Errors
    /// As [`Tx::fetch`].
    pub async fn fetch_rows<const N: usize>(
        &mut self,
        rows: &[[Value; N]],
        sql: impl Fn(&str) -> String,
    ) -> Result<Vec<Row>, DbError> {
        let mut found = Vec::new();
        let most = match self.dialect() {
            Dialect::Sqlite => VALUES_ROWS,
            Dialect::Postgres => ARRAY_ROWS,
        };
        for rows in rows.chunks(most) {
            found.extend(match self.dialect() {
                Dialect::Sqlite => {
                    // Padded with the last row, so that there are few different texts.
                    let padded = rows.len().next_power_of_two();
                    let last = rows.last().into_iter().flatten();
                    let padding = last.cycle().take((padded - rows.len()) * N);
                    let params: Vec<Value> = rows.as_flattened().iter().chain(padding).cloned().collect();
                    self.fetch(&sql(&values(padded, N)), &params).await?
                }
                Dialect::Postgres => {
                    let (query, params) = arrays(rows)?;
                    self.fetch(&sql(&query), &params).await?
                }
            });
        }
        Ok(found)
    }
}

fn values(rows: usize, columns: usize) -> String {
    format!("VALUES {}", Dialect::Sqlite.values_list(rows, columns, 1))
}

/// Returns the query for rows in arrays, and the arrays.
fn arrays<const N: usize>(rows: &[[Value; N]]) -> Result<(String, Vec<Value>), DbError> {
    let (mut unnest, mut names, mut params) = (String::new(), String::new(), Vec::with_capacity(N));
    for column in 0..N {
        let cells = rows.iter().map(|row| &row[column]);
        let array = Array::of(cells)
            .ok_or_else(|| DbError::other(format!("column {} of rows has NULLs or different types", column + 1)))?;
        let comma = if column == 0 { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(unnest, "{comma}${}::{}[]", column + 1, array.element());
        let _ = write!(names, "{comma}column{}", column + 1);
        params.push(Value::Array(array));
    }
    Ok((format!("SELECT * FROM UNNEST({unnest}) AS u ({names})"), params))
}

impl Array {
    /// Returns `None` for NULLs, and for values of different types.
    fn of<'a>(cells: impl Iterator<Item = &'a Value> + Clone) -> Option<Self> {
        let int = |value: &Value| if let Value::Int(int) = value { Some(*int) } else { None };
        let text = |value: &Value| if let Value::Text(text) = value { Some(text.clone()) } else { None };
        let bytes = |value: &Value| if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None };
        match cells.clone().next()? {
            Value::Int(_) => cells.map(int).collect::<Option<_>>().map(Self::Ints),
            Value::Text(_) => cells.map(text).collect::<Option<_>>().map(Self::Texts),
            Value::Bytes(_) => cells.map(bytes).collect::<Option<_>>().map(Self::Bytes),
            _ => None,
        }
    }

    fn element(&self) -> &'static str {
        match self {
            Self::Ints(_) => "BIGINT",
            Self::Texts(_) => "TEXT",
            Self::Bytes(_) => "BYTEA",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::params;

    #[test]
    fn rows_become_arrays() {
        let (query, params) = arrays(&[params![1, "a", &b"x"[..]], params![2, "b", &b""[..]]]).unwrap();
        let unnest = "UNNEST($1::BIGINT[], $2::TEXT[], $3::BYTEA[])";
        assert_eq!(query, format!("SELECT * FROM {unnest} AS u (column1, column2, column3)"));
        let expected = [
            Array::Ints(vec![1, 2]),
            Array::Texts(vec!["a".into(), "b".into()]),
            Array::Bytes(vec![Bytes::from_static(b"x"), Bytes::new()]),
        ];
        assert_eq!(params, expected.map(Value::Array));
        for mixed in [[params![1], params!["a"]], [params![1], [Value::Null]], [params![1.5], params![2.5]]] {
            assert!(arrays(&mixed).is_err(), "{mixed:?}");
        }
    }
}
