//! Copies an SQLite database to PostgreSQL, row by row: the tables are the same. Each page is stored together with how far it
//! reaches, so an interrupted copy continues where it was.

use crate::app::Db;
use crate::db::{MIGRATIONS, Scope, Tx, Value, params};
use crate::error::Error;

/// Rows in one transaction, unless they have so many columns that the statement would have too many parameters.
const PAGE: usize = 2_000;
/// PostgreSQL takes twice as many.
const MAX_PARAMETERS: usize = 30_000;
/// How far the copy of each table reaches.
const PROGRESS: &str =
    "CREATE TABLE IF NOT EXISTS transferred (name TEXT NOT NULL PRIMARY KEY, row_id BIGINT NOT NULL)";

/// A table that is copied.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    name: &'static str,
    columns: Vec<String>,
    /// For each table and column something that differs if rows do.
    checks: Vec<String>,
}

impl Table {
    /// Returns its name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

/// Returns the names of the tables, in an order in which none refers to a later one.
fn names() -> impl Iterator<Item = &'static str> {
    let lines = MIGRATIONS.iter().flat_map(|migration| migration.sql.lines());
    lines.filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_once(' ')).map(|(name, _)| name)
}

/// Reads the columns of all tables from the SQLite database.
pub(crate) async fn tables(from: &Db) -> Result<Vec<Table>, Error> {
    let mut tables = Vec::new();
    for name in names() {
        let rows = from.read(async move |tx| {
            let sql = "SELECT name, type FROM pragma_table_info($1) ORDER BY cid";
            Ok(tx.fetch(sql, &params![name]).await?)
        });
        let (mut columns, mut checks) = (Vec::new(), vec!["COUNT(*)".to_owned()]);
        for row in rows.await? {
            let (column, kind): (String, String) = (row.get(0)?, row.get(1)?);
            checks.push(match kind.as_str() {
                "TEXT" | "BLOB" => format!("CAST(COALESCE(SUM(LENGTH({column})), 0) AS BIGINT)"),
                // A sum of large numbers would not fit.
                _ => format!("CAST(COALESCE(SUM({column} % 1000003), 0) AS BIGINT)"),
            });
            columns.push(column);
        }
        tables.push(Table { name, columns, checks });
    }
    Ok(tables)
}

/// Prepares the PostgreSQL database.
///
/// # Errors
/// It belongs to a deployment already.
pub(crate) async fn begin(to: &Db) -> Result<(), Error> {
    let begun = to.submit(Scope::none(), async |tx| {
        let sql = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'transferred'";
        let is_begun = tx.fetch_one(sql, &[]).await?.is_some_and(|row| row.get::<i64>(0).is_ok_and(|count| count > 0));
        let is_used = tx.fetch_one("SELECT id FROM deployment", &[]).await?.is_some();
        if is_used && !is_begun {
            return Err(Error::internal_text(
                "the PostgreSQL database is that of a deployment already; name an empty one",
            ));
        }
        tx.execute(PROGRESS, &[]).await?;
        Ok(())
    });
    begun.await
}

/// Copies the rest of a table. Returns how many rows it has copied now.
pub(crate) async fn copy(from: &Db, to: &Db, table: &Table) -> Result<u64, Error> {
    let name = table.name;
    let reached = to.read(async move |tx| {
        let row = tx.fetch_one("SELECT row_id FROM transferred WHERE name = $1", &params![name]).await?;
        Ok(row.map_or(Ok(i64::MIN), |row| row.get(0))?)
    });
    let (mut after, mut copied) = (reached.await?, 0);
    loop {
        let page = (MAX_PARAMETERS / table.columns.len().max(1)).min(PAGE);
        let sql = format!(
            "SELECT rowid, {} FROM {name} WHERE rowid > $1 ORDER BY rowid LIMIT {page}",
            table.columns.join(", ")
        );
        let rows = from.read(async move |tx| Ok(tx.fetch(&sql, &params![after]).await?)).await?;
        let Some(last) = rows.last() else { return Ok(copied) };
        let (count, columns, last) = (rows.len(), table.columns.len(), last.get::<i64>(0)?);
        let mut values = Vec::with_capacity(count * columns);
        for row in &rows {
            for column in 1..=columns {
                values.push(row.value(column)?);
            }
        }
        let insert = format!("INSERT INTO {name} ({}) VALUES ", table.columns.join(", "));
        let stored =
            to.submit(Scope::none(), async move |tx| store(tx, (&insert, columns), values, (name, last)).await);
        stored.await?;
        (after, copied) = (last, copied + count as u64);
    }
}

async fn store(
    tx: &mut Tx<'_>,
    (insert, columns): (&str, usize),
    values: Vec<Value>,
    (name, last): (&str, i64),
) -> Result<(), Error> {
    let list = tx.dialect().values_list(values.len() / columns, columns, 1);
    tx.execute(&format!("{insert}{list}"), &values).await?;
    let sql = "INSERT INTO transferred (name, row_id) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET row_id = $2";
    tx.execute(sql, &params![name, last]).await?;
    Ok(())
}

/// Compares the number of rows and sums over all columns. Returns the number of rows.
///
/// # Errors
/// They differ.
pub(crate) async fn verify(from: &Db, to: &Db, table: &Table) -> Result<i64, Error> {
    let sql = format!("SELECT {} FROM {}", table.checks.join(", "), table.name);
    let mut found = Vec::new();
    for db in [from, to] {
        let (sql, count) = (sql.clone(), table.checks.len());
        let sums = db.read(async move |tx| {
            let row =
                tx.fetch_one(&sql, &[]).await?.ok_or_else(|| Error::internal_text("an aggregate without a row"))?;
            Ok((0..count).map(|index| row.get::<i64>(index)).collect::<Result<Vec<_>, _>>()?)
        });
        found.push(sums.await?);
    }
    if found[0] != found[1] {
        let name = table.name;
        return Err(Error::internal_text(format!("the copy of the table {name} differs from the original")));
    }
    Ok(found[0].first().copied().unwrap_or_default())
}

/// Ends the copy: it cannot be continued any more.
pub(crate) async fn finish(to: &Db) -> Result<(), Error> {
    to.submit(Scope::none(), async |tx| Ok(tx.execute("DROP TABLE transferred", &[]).await.map(drop)?)).await
}
