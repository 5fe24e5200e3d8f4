//! The rows of a device's local database. Every table and column that is not excepted here is compared, so that a new
//! table is covered by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// Tables and columns that legitimately differ between devices.
const OWN: &[(&str, &str)] = &[
    // Which parts of the history were fetched.
    ("held", "*"),
    // What only this device remembers of ended epochs.
    ("known_message", "*"),
    ("kept_local_data", "*"),
    // What was deleted on this device only.
    ("deleted_message", "*"),
    ("conversation", "deleted_seq"),
    ("conversation", "deleted_ts"),
    // Receipts that came before their messages, and whether the feed is read from its beginning.
    ("done_receipt", "*"),
    ("device", "is_told_again"),
    // When the sending device had uploaded the files.
    ("message", "uploaded_at"),
    // Up to where events were raised.
    ("conversation", "change_rev"),
    ("conversation", "roster_rev"),
    // The known members depend on what was queried, and on when the device was away.
    ("group_member", "*"),
    // The index of messages is written later, and its rows name rows.
    ("message_doc", "*"),
    ("message_indexed", "*"),
    ("message_unindexed", "*"),
    // The known users depend on what was queried; `social.rs` compares the relevant ones.
    ("user", "*"),
    // Who is online depends on the order in which devices are closed; `social.rs` compares the rest.
    ("status", "status"),
    // A call stays known that went on without the user; `call.rs` compares the others.
    ("call", "*"),
    // Row numbers.
    ("*", "id"),
    // When the server's rows changed, as of the last sync.
    ("device", "touched"),
    // When profiles were last queried, by the clock.
    ("device", "profiles_at"),
    // What the first sync of the device found.
    ("conversation", "history_seq"),
    // What only the sending device knows, and local data.
    ("message", "is_local"),
    ("message", "local_data"),
    ("message", "config"),
    ("message", "status"),
    // A failed message moves the conversation up on the sending device, and brings it back if it was deleted; `deletion.rs` compares
    // the lists.
    ("conversation", "order_key"),
    ("conversation", "hidden_below"),
    ("conversation", "hidden_ts"),
    ("conversation", "is_listed"),
];

/// The rows of a device as text, each with its table.
pub(super) type Rows = BTreeSet<String>;

pub(super) fn open(folder: &Path) -> anyhow::Result<Connection> {
    let mut files = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
    let file = files.find(|path| path.extension().is_some_and(|kind| kind == "db"));
    Ok(Connection::open_with_flags(file.context("no database")?, OpenFlags::SQLITE_OPEN_READ_WRITE)?)
}

/// Reads the rows of the database in `folder`; of messages those above `floors`, by conversation, where it also says whether what is
/// counted may differ.
///
/// # Errors
/// There is no database.
pub(super) fn read(folder: &Path, floors: &BTreeMap<String, (i64, bool)>) -> anyhow::Result<Rows> {
    let db = open(folder)?;
    let names = |sql: &str| -> anyhow::Result<Vec<String>> {
        Ok(db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    };
    let is_own =
        |table: &str, column: &str| OWN.iter().any(|(t, c)| (*t == "*" || *t == table) && (*c == column || *c == "*"));
    let mut all = Rows::new();
    // The tables of a search index are derived, and their segments differ between devices.
    for table in names(
        "SELECT name FROM pragma_table_list WHERE type = 'table' AND schema = 'main' AND name NOT LIKE 'sqlite_%'",
    )? {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
        let kept: Vec<&String> = columns.iter().filter(|column| !is_own(&table, column)).collect();
        if kept.is_empty() {
            continue;
        }
        // A conversation is compared by name, because row numbers differ.
        let select = kept.iter().map(|column| match column.as_str() {
            "conversation" => "(SELECT c.name FROM conversation c WHERE c.id = t.conversation)".to_owned(),
            column => format!("t.{column}"),
        });
        let filter = match table.as_str() {
            // Messages that the server has not stored belong to this device, and so do conversations with no others.
            "message" => "WHERE t.seq > 0",
            "conversation" => "WHERE t.head_seq > 0",
            // Of a group that the user has left, a device knows what it learned last.
            "chat_group" => "WHERE t.role > 0",
            _ => "",
        };
        let sql = format!("SELECT {} FROM {table} t {filter}", select.collect::<Vec<_>>().join(", "));
        let mut statement = db.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut values: Vec<(&String, Value)> = kept
                .iter()
                .enumerate()
                .map(|(at, column)| Ok((*column, row.get(at)?)))
                .collect::<rusqlite::Result<_>>()?;
            let of = |name: &str| values.iter().find(|(column, _)| *column == name).map(|(_, value)| value);
            if let (Some(Value::Text(conversation)), Some(Value::Integer(seq))) = (of("conversation"), of("seq"))
                && ["message", "hidden"].contains(&table.as_str())
                && floors.get(conversation).is_some_and(|(floor, _)| seq <= floor)
            {
                continue;
            }
            // What was revoked after a stay is unread on the devices that were there.
            if let (Some(Value::Text(name)), "conversation") = (of("name"), table.as_str())
                && floors.get(name).is_some_and(|(_, may_differ)| *may_differ)
            {
                values.retain(|(column, _)| !["unread", "revoked"].contains(&column.as_str()));
            }
            let of = |name: &str| values.iter().find(|(column, _)| *column == name).map(|(_, value)| value);
            // What a reply shows of a message that is no longer kept stays on the devices that had it.
            if let (Some(Value::Text(conversation)), Some(Value::Integer(source))) =
                (of("conversation"), of("replied_seq"))
                && floors.get(conversation).is_some_and(|(floor, _)| (1..=*floor).contains(source))
            {
                values.retain(|(column, _)| column.as_str() != "state");
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

/// Returns whether the app has had all events of the device in `folder`.
///
/// # Errors
/// There is no database.
pub(super) fn is_delivered(folder: &Path) -> anyhow::Result<bool> {
    Ok(open(folder)?.query_row("SELECT NOT EXISTS (SELECT 1 FROM pending_event)", [], |row| row.get(0))?)
}
