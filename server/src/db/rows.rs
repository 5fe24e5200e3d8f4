//! Rows as the parameters of one statement. SQLite gets a `VALUES` list with a placeholder for each value. PostgreSQL gets an
//! array for each column: one text for any number of rows, and a fraction of the work for a list of a thousand
//! placeholders. Statements that do not depend on each other share a round trip to it.

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

/// Rows, and the statement that writes them: see [`Tx::execute_together`].
#[derive(Debug)]
pub struct Rows {
    /// Row by row.
    values: Vec<Value>,
    columns: usize,
    sql: fn(&str) -> String,
}

impl Rows {
    /// Returns rows for a statement, which gets a query for them as that of [`Tx::execute_rows`] does.
    pub fn new<const N: usize>(rows: Vec<[Value; N]>, sql: fn(&str) -> String) -> Self {
        Self { values: rows.into_flattened(), columns: N, sql }
    }

    fn len(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }
}

impl Tx<'_> {
    /// Runs a statement that writes rows, as often as it takes. `sql` gets a query for them, whose columns are `column1`,
    /// `column2` …: it follows `INSERT INTO …`, or stands in brackets after `FROM`.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn execute_rows<const N: usize>(
        &mut self,
        rows: &[[Value; N]],
        sql: impl Fn(&str) -> String,
    ) -> Result<u64, DbError> {
        self.write(rows.as_flattened(), N, &sql).await
    }

    /// Runs several statements that write rows. None may read or change what another one writes: PostgreSQL runs them in one round
    /// trip, as parts of one statement, and each sees what was there before it. SQLite runs them in their order.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn execute_together(&mut self, writes: &[Rows]) -> Result<(), DbError> {
        let writes: Vec<&Rows> = writes.iter().filter(|write| write.len() > 0).collect();
        let is_one = self.dialect() == Dialect::Postgres
            && writes.len() > 1
            && writes.iter().all(|write| write.len() <= ARRAY_ROWS);
        if is_one {
            let (sql, params) = together(&writes)?;
            self.execute(&sql, &params).await?;
            return Ok(());
        }
        for write in writes {
            self.write(&write.values, write.columns, &write.sql).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        mut values: &[Value],
        columns: usize,
        sql: &dyn Fn(&str) -> String,
    ) -> Result<u64, DbError> {
        let mut affected = 0;
        while !values.is_empty() {
            let rows = values.len() / columns;
            let most = match self.dialect() {
                Dialect::Sqlite => VALUES_ROWS.min(1 << rows.ilog2()),
                Dialect::Postgres => ARRAY_ROWS.min(rows),
            };
            let (now, later) = values.split_at(most * columns);
            affected += match self.dialect() {
                Dialect::Sqlite => self.execute(&sql(&values_list(most, columns)), now).await?,
                Dialect::Postgres => {
                    let (query, params) = arrays(now, columns, 1)?;
                    self.execute(&sql(&query), &params).await?
                }
            };
            values = later;
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
                    self.fetch(&sql(&values_list(padded, N)), &params).await?
                }
                Dialect::Postgres => {
                    let (query, params) = arrays(rows.as_flattened(), N, 1)?;
                    self.fetch(&sql(&query), &params).await?
                }
            });
        }
        Ok(found)
    }

    /// Runs two queries as [`Tx::fetch_rows`] does. Both return the same number of columns, with numbers where the other one has
    /// numbers: PostgreSQL runs them in one round trip, as the parts of one query.
    ///
    /// # Errors
    /// As [`Tx::fetch`].
    pub async fn fetch_both<const N: usize, const M: usize>(
        &mut self,
        (rows, sql): (&[[Value; N]], impl Fn(&str) -> String),
        (other_rows, other_sql): (&[[Value; M]], impl Fn(&str) -> String),
    ) -> Result<(Vec<Row>, Vec<Row>), DbError> {
        let is_one = |count: usize| self.dialect() == Dialect::Postgres && (1..=ARRAY_ROWS).contains(&count);
        if !is_one(rows.len()) || !is_one(other_rows.len()) {
            return Ok((self.fetch_rows(rows, sql).await?, self.fetch_rows(other_rows, other_sql).await?));
        }
        let (query, mut params) = arrays(rows.as_flattened(), N, 1)?;
        let (other_query, other_params) = arrays(other_rows.as_flattened(), M, N + 1)?;
        params.extend(other_params);
        let text = format!(
            "SELECT a.*, 0 AS part FROM ({}) AS a UNION ALL SELECT b.*, 1 FROM ({}) AS b",
            sql(&query),
            other_sql(&other_query)
        );
        let (mut found, mut found_by_other) = (Vec::new(), Vec::new());
        for row in self.fetch(&text, &params).await? {
            match row.get::<i64>(row.len().saturating_sub(1))? {
                0 => found.push(row),
                _ => found_by_other.push(row),
            }
        }
        Ok((found, found_by_other))
    }
}

fn values_list(rows: usize, columns: usize) -> String {
    format!("VALUES {}", Dialect::Sqlite.values_list(rows, columns, 1))
}

/// Returns the query for rows in arrays, and the arrays. Their placeholders are numbered from `first`. The arrays are expanded in
/// the list of columns: `FROM UNNEST (…)` would first write each of them to a table of its own.
fn arrays(values: &[Value], columns: usize, first: usize) -> Result<(String, Vec<Value>), DbError> {
    let (mut query, mut params) = ("SELECT ".to_owned(), Vec::with_capacity(columns));
    for column in 0..columns {
        let cells = values.iter().skip(column).step_by(columns);
        let array = Array::of(cells)
            .ok_or_else(|| DbError::other(format!("column {} of rows has NULLs or different types", column + 1)))?;
        let comma = if column == 0 { "" } else { ", " };
        let (number, element) = (first + column, array.element());
        // Writing to a String does not fail.
        let _ = write!(query, "{comma}UNNEST(${number}::{element}[]) AS column{}", column + 1);
        params.push(Value::Array(array));
    }
    Ok((query, params))
}

/// Returns the statement for several writes, and its arrays.
fn together(writes: &[&Rows]) -> Result<(String, Vec<Value>), DbError> {
    let (mut text, mut params) = (String::new(), Vec::new());
    for (index, write) in writes.iter().enumerate() {
        let (query, more) = arrays(&write.values, write.columns, params.len() + 1)?;
        params.extend(more);
        let statement = (write.sql)(&query);
        let is_last = index + 1 == writes.len();
        // Writing to a String does not fail.
        let _ = match (index, is_last) {
            (0, true) => write!(text, "{statement}"),
            (0, false) => write!(text, "WITH write{index} AS ({statement})"),
            (_, true) => write!(text, " {statement}"),
            (_, false) => write!(text, ", write{index} AS ({statement})"),
        };
    }
    Ok((text, params))
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
        let values = [params![1, "a", &b"x"[..]], params![2, "b", &b""[..]]];
        let (query, params) = arrays(values.as_flattened(), 3, 4).unwrap();
        let unnest = "UNNEST($4::BIGINT[]) AS column1, UNNEST($5::TEXT[]) AS column2, UNNEST($6::BYTEA[]) AS column3";
        assert_eq!(query, format!("SELECT {unnest}"));
        let expected = [
            Array::Ints(vec![1, 2]),
            Array::Texts(vec!["a".into(), "b".into()]),
            Array::Bytes(vec![Bytes::from_static(b"x"), Bytes::new()]),
        ];
        assert_eq!(params, expected.map(Value::Array));
        for mixed in [[params![1], params!["a"]], [params![1], [Value::Null]], [params![1.5], params![2.5]]] {
            assert!(arrays(mixed.as_flattened(), 1, 1).is_err(), "{mixed:?}");
        }
    }

    #[test]
    fn writes_become_one_statement() {
        fn insert(rows: &str) -> String {
            format!("INSERT INTO a {rows}")
        }
        fn update(rows: &str) -> String {
            format!("UPDATE b SET n = v.column2 FROM ({rows}) AS v WHERE b.id = v.column1")
        }
        let one = Rows::new(vec![params![1], params![2]], insert);
        let two = Rows::new(vec![params![3, 4]], update);
        let (sql, values) = together(&[&one, &two, &one]).unwrap();
        assert_eq!(
            sql,
            "WITH write0 AS (INSERT INTO a SELECT UNNEST($1::BIGINT[]) AS column1), \
             write1 AS (UPDATE b SET n = v.column2 FROM (SELECT UNNEST($2::BIGINT[]) AS column1, \
             UNNEST($3::BIGINT[]) AS column2) AS v WHERE b.id = v.column1) \
             INSERT INTO a SELECT UNNEST($4::BIGINT[]) AS column1"
        );
        let ints = [vec![1, 2], vec![3], vec![4], vec![1, 2]];
        assert_eq!(values, ints.map(|ints| Value::Array(Array::Ints(ints))));
        assert_eq!(together(&[&one]).unwrap().0, "INSERT INTO a SELECT UNNEST($1::BIGINT[]) AS column1");
    }
}
