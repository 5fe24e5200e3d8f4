//! What a device holds: the rows of its local database. Every table and every column counts that is not excepted here, so
//! that a table that is added is compared without anybody thinking of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use prost::Message as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use zim_protocol::{Event, EventRecord};

use super::lists::Lists;

/// What is one device's own.
const OWN: &[(&str, &str)] = &[
    // Coverage: which history somebody has looked at.
    ("held", "*"),
    // Who else is known, and how well, depends on whom one has asked: `social.rs` looks at those who matter.
    ("user", "*"),
    // Who is online when a device is closed depends on which is closed first; `social.rs` looks at the rest.
    ("status", "status"),
    // Numbers of rows.
    ("*", "id"),
    // When the server's rows moved, as of the last sync.
    ("device", "touched"),
    // When it last asked, by the clock.
    ("device", "profiles_at"),
    // Sent from here; and what is local only.
    ("message", "is_local"),
    ("message", "local_data"),
    ("message", "config"),
    ("message", "status"),
    // A message of one's own that failed moves a conversation up, here.
    ("conversation", "order_key"),
];

/// The rows of a device, as text: table and row.
pub(super) type Rows = BTreeSet<String>;

pub(super) fn open(folder: &Path) -> anyhow::Result<Connection> {
    let mut files = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
    let file = files.find(|path| path.extension().is_some_and(|kind| kind == "db"));
    Ok(Connection::open_with_flags(file.context("no database")?, OpenFlags::SQLITE_OPEN_READ_WRITE)?)
}

/// Reads what is in the database in `folder`; messages above `floors` only, by conversation.
///
/// # Errors
/// There is none.
pub(super) fn read(folder: &Path, floors: &BTreeMap<String, i64>) -> anyhow::Result<Rows> {
    let db = open(folder)?;
    let names = |sql: &str| -> anyhow::Result<Vec<String>> {
        Ok(db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    let is_own =
        |table: &str, column: &str| OWN.iter().any(|(t, c)| (*t == "*" || *t == table) && (*c == column || *c == "*"));
    let mut all = Rows::new();
    // What a search stands on is made of other tables, and not everywhere in the same pieces.
    for table in names(
        "SELECT name FROM pragma_table_list WHERE type = 'table' AND schema = 'main' AND name NOT LIKE 'sqlite_%'",
    )? {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
        let kept: Vec<&String> = columns.iter().filter(|column| !is_own(&table, column)).collect();
        if kept.is_empty() {
            continue;
        }
        // A conversation is called by its name: numbers of rows differ.
        let select = kept.iter().map(|column| match column.as_str() {
            "conversation" => "(SELECT c.name FROM conversation c WHERE c.id = t.conversation)".to_owned(),
            column => format!("t.{column}"),
        });
        let filter = match table.as_str() {
            // What the server has not is this device's own; a conversation with nothing else in it, too.
            "message" => "WHERE t.seq > 0",
            "conversation" => "WHERE t.head_seq > 0",
            _ => "",
        };
        let sql = format!("SELECT {} FROM {table} t {filter}", select.collect::<Vec<_>>().join(", "));
        let mut statement = db.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<(&String, Value)> = kept
                .iter()
                .enumerate()
                .map(|(at, column)| Ok((*column, row.get(at)?)))
                .collect::<rusqlite::Result<_>>()?;
            let of = |name: &str| values.iter().find(|(column, _)| *column == name).map(|(_, value)| value);
            if let (Some(Value::Text(conversation)), Some(Value::Integer(seq))) = (of("conversation"), of("seq"))
                && table == "message"
                && floors.get(conversation).is_some_and(|floor| seq <= floor)
            {
                continue;
            }
            all.insert(format!("{table}: {}", text(&values)));
        }
    }
    Ok(all)
}

fn text(values: &[(&String, Value)]) -> String {
    let one = |(column, value): &(&String, Value)| match value {
        Value::Blob(bytes) => format!("{column}={}", zim_protocol::id::hex(bytes)),
        Value::Text(text) => format!("{column}={text:?}"),
        Value::Integer(number) => format!("{column}={number}"),
        Value::Real(number) => format!("{column}={number}"),
        Value::Null => format!("{column}=NULL"),
    };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The messages, by peer and position, that a device that was killed has told its app of, or may have: their rows are stored
/// and no event waits; and its lists, whose events it tells again if they wait. What it told in its last moment nobody has
/// heard.
///
/// # Errors
/// The database cannot be read.
pub(super) fn left_behind(folder: &Path) -> anyhow::Result<(BTreeSet<(String, i64)>, Lists)> {
    // A copy: whoever opens a database first after a kill repairs it, and that is for the client to do.
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(folder)?.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().contains(".db") {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
        }
    }
    let db = open(copy.path())?;
    let mut statement =
        db.prepare("SELECT c.name, m.seq FROM message m JOIN conversation c ON c.id = m.conversation WHERE m.seq > 0")?;
    let mut told: BTreeSet<(String, i64)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut statement = db.prepare("SELECT event FROM pending_event")?;
    for bytes in statement.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
        if let Some(Event::PeerMessageReceived(event)) = EventRecord::decode(&bytes?[..])?.event {
            for message in event.message_list {
                told.remove(&(message.conversation_id, message.message_seq));
            }
        }
    }
    let lists = super::lists::known(&db)?.lists;
    Ok((told, lists))
}
