//! One text of SQL for two databases, with the places where they differ. These are all exceptions and their reasons:
//!
//! - Placeholders are `$1`, and become `?1` for SQLite, which reads `$1` as a name and numbers names by their first occurrence.
//! - `BIGINT PRIMARY KEY` becomes `INTEGER PRIMARY KEY`: only then does SQLite order the table itself by the key, without a
//!   second B-tree.
//! - `BYTEA` becomes `BLOB`: SQLite gives a column of an unknown type NUMERIC affinity.
//! - `FOR UPDATE` and `FOR SHARE` are for PostgreSQL only: SQLite has one writer, and does not parse them.
//! - `COLLATE "C"` is for PostgreSQL only, and so is a statement of a migration that has it: SQLite compares texts by their bytes
//!   anyway, and has such an index already.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::CharIndices;
use std::sync::Arc;

use super::value::Value;

/// The database behind a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL, a separate server.
    Postgres,
}

/// The number of placeholder texts that a thread caches. There are few: lists are padded, and rows come in powers of two.
const CACHED_TEXTS: usize = 256;

thread_local! {
    static CACHE: RefCell<HashMap<[usize; 3], Arc<str>>> = RefCell::new(HashMap::new());
}

impl Dialect {
    /// Returns the end of a `SELECT` that locks its rows. With several rows it needs `ORDER BY`, or transactions can deadlock.
    pub fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Returns the end of a `SELECT` of one row that must not change until the transaction ends.
    pub fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// Returns the end of a text that is compared and sorted by its bytes, and not by the rules of a language.
    pub fn by_bytes(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " COLLATE \"C\"",
        }
    }

    /// Returns the list of placeholders for `IN`, numbered from `first`, and its parameters. The list is padded with the last
    /// item to a power of two, so that there are few texts and they stay prepared. An empty list matches nothing.
    pub fn in_list<T: Into<Value>>(self, items: impl IntoIterator<Item = T>, first: usize) -> (Arc<str>, Vec<Value>) {
        let mut params: Vec<Value> = items.into_iter().map(Into::into).collect();
        let Some(last) = params.last().cloned() else {
            return (Arc::from("(NULL)"), params);
        };
        params.resize(params.len().next_power_of_two(), last);
        (self.values_list(1, params.len(), first), params)
    }

    /// Returns the placeholders for `VALUES`: `rows` rows of `columns` each, numbered from `first`. A caller that splits its rows
    /// into powers of two keeps the number of texts small, so that they stay prepared.
    pub fn values_list(self, rows: usize, columns: usize, first: usize) -> Arc<str> {
        CACHE.with_borrow_mut(|texts| {
            if let Some(text) = texts.get(&[rows, columns, first]) {
                return Arc::clone(text);
            }
            if texts.len() >= CACHED_TEXTS {
                texts.clear();
            }
            let text: Arc<str> = placeholders(rows, columns, first).into();
            texts.insert([rows, columns, first], Arc::clone(&text));
            text
        })
    }
}

fn placeholders(rows: usize, columns: usize, first: usize) -> String {
    let mut text = String::with_capacity(rows * (columns * 6 + 2));
    let mut next = first;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(text, "{comma}${next}");
            next += 1;
        }
        text.push(')');
    }
    text
}

/// Rewrites a statement for SQLite: `?1` for `$1`.
pub(super) fn sqlite_statement(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let mut text = String::with_capacity(sql.len());
    for piece in Pieces::of(sql) {
        match piece {
            Piece::Code(code) => {
                let mut rest = code;
                while let Some(at) = rest.find('$') {
                    let (before, after) = rest.split_at(at);
                    text.push_str(before);
                    rest = &after[1..];
                    text.push(if rest.starts_with(|c: char| c.is_ascii_digit()) { '?' } else { '$' });
                }
                text.push_str(rest);
            }
            Piece::Verbatim(verbatim) => text.push_str(verbatim),
        }
    }
    Cow::Owned(text)
}

/// The collation of PostgreSQL that compares bytes.
const BY_BYTES: &str = "\"C\"";

/// Rewrites a migration for SQLite.
pub(super) fn sqlite_migration(sql: &str) -> String {
    let (mut text, mut statement) = (String::with_capacity(sql.len()), String::new());
    let mut is_left_out = false;
    for piece in Pieces::of(sql) {
        match piece {
            Piece::Code(code) => {
                for part in code.split_inclusive(';') {
                    sqlite_types(part, &mut statement);
                    if part.ends_with(';') {
                        if !std::mem::take(&mut is_left_out) {
                            text.push_str(&statement);
                        }
                        statement.clear();
                    }
                }
            }
            Piece::Verbatim(verbatim) => {
                is_left_out |= verbatim == BY_BYTES;
                statement.push_str(verbatim);
            }
        }
    }
    if !is_left_out {
        text.push_str(&statement);
    }
    text
}

fn sqlite_types(code: &str, text: &mut String) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
        text.push_str(&rest[..start]);
        let word = &rest[start..end];
        rest = &rest[end..];
        if word.eq_ignore_ascii_case("BYTEA") {
            text.push_str("BLOB");
        } else if word.eq_ignore_ascii_case("BIGINT") && begins_with_words(rest, ["PRIMARY", "KEY"]) {
            text.push_str("INTEGER");
        } else {
            text.push_str(word);
        }
    }
    text.push_str(rest);
}

fn begins_with_words<const N: usize>(text: &str, words: [&str; N]) -> bool {
    let mut found = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    text.starts_with(char::is_whitespace)
        && words.iter().all(|word| found.next().is_some_and(|other| other.eq_ignore_ascii_case(word)))
}

/// A piece of SQL text.
enum Piece<'a> {
    Code(&'a str),
    /// A quoted text or name, or a comment, which is not rewritten.
    Verbatim(&'a str),
}

struct Pieces<'a> {
    sql: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Pieces<'a> {
    fn of(sql: &'a str) -> Self {
        Self { sql, chars: sql.char_indices().peekable() }
    }

    fn position(&mut self) -> usize {
        self.chars.peek().map_or(self.sql.len(), |(at, _)| *at)
    }

    fn begins(&mut self, what: &str) -> bool {
        let at = self.position();
        self.sql[at..].starts_with(what)
    }

    fn skip(&mut self, characters: usize) {
        for _ in 0..characters {
            self.chars.next();
        }
    }

    /// Skips up to and including `end`, or to the end of the text.
    fn skip_through(&mut self, end: &str) {
        while self.chars.peek().is_some() {
            if self.begins(end) {
                return self.skip(end.len());
            }
            self.chars.next();
        }
    }

    /// Skips a quoted text or a comment, and returns whether one begins here. A doubled quote ends one text and begins the
    /// next, with the same result.
    fn skip_verbatim(&mut self) -> bool {
        for (begin, end) in [("'", "'"), ("\"", "\""), ("--", "\n"), ("/*", "*/")] {
            if self.begins(begin) {
                self.skip(begin.len());
                self.skip_through(end);
                return true;
            }
        }
        false
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let start = self.position();
        if start == self.sql.len() {
            return None;
        }
        if self.skip_verbatim() {
            let end = self.position();
            return Some(Piece::Verbatim(&self.sql[start..end]));
        }
        while self.chars.peek().is_some_and(|(_, c)| !matches!(c, '\'' | '"' | '-' | '/')) {
            self.chars.next();
        }
        // A dash or a slash that does not begin a comment is code.
        if self.position() == start {
            self.chars.next();
        }
        let end = self.position();
        Some(Piece::Code(&self.sql[start..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_rewritten_but_not_texts() {
        let sql = "SELECT '$1 it''s', \"$2\" -- $3\n, $2 /* $4 */ - $10 / $1 FROM \"ü$\"";
        assert_eq!(sqlite_statement(sql), "SELECT '$1 it''s', \"$2\" -- $3\n, ?2 /* $4 */ - ?10 / ?1 FROM \"ü$\"");
        assert!(matches!(sqlite_statement("SELECT 1"), Cow::Borrowed(_)));
        assert_eq!(sqlite_statement("SELECT '$"), "SELECT '$");
    }

    #[test]
    fn a_migration_gets_sqlites_types() {
        let sql =
            "CREATE TABLE a (id BIGINT\n PRIMARY  KEY, -- a BYTEA\n b BYTEA NOT NULL, c BIGINT, PRIMARY KEY (id))";
        assert_eq!(
            sqlite_migration(sql),
            "CREATE TABLE a (id INTEGER\n PRIMARY  KEY, -- a BYTEA\n b BLOB NOT NULL, c BIGINT, PRIMARY KEY (id))"
        );
    }

    #[test]
    fn an_order_of_bytes_is_left_to_postgres() {
        let sql = "-- \"C\"\nCREATE INDEX a ON t (a);\n-- Why.\nCREATE INDEX b ON t (b COLLATE \"C\");\nCREATE INDEX c ON t (c)";
        assert_eq!(sqlite_migration(sql), "-- \"C\"\nCREATE INDEX a ON t (a);\nCREATE INDEX c ON t (c)");
        assert_eq!(sqlite_migration("CREATE INDEX b ON t (b COLLATE \"C\")"), "");
        assert_eq!((Dialect::Sqlite.by_bytes(), Dialect::Postgres.by_bytes()), ("", " COLLATE \"C\""));
    }

    #[test]
    fn lists_are_padded() {
        let (list, params) = Dialect::Sqlite.in_list([5_i64, 6, 7], 2);
        assert_eq!(&*list, "($2, $3, $4, $5)");
        assert_eq!(params, [5, 6, 7, 7].map(Value::Int));
        let (list, params) = Dialect::Postgres.in_list(Vec::<i64>::new(), 1);
        assert_eq!((&*list, params.len()), ("(NULL)", 0));
    }

    #[test]
    fn rows_of_placeholders() {
        assert_eq!(&*Dialect::Sqlite.values_list(2, 2, 3), "($3, $4), ($5, $6)");
        assert_eq!(Dialect::Sqlite.values_list(2, 2, 3), Dialect::Postgres.values_list(2, 2, 3));
    }
}
