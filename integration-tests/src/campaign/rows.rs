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
    // Who begins to decide about applications learns of some by asking only; `club.rs` has those of whoever would enter.
    ("group_application", "*"),
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

/// What of a conversation is left out of a comparison.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// The messages up to this position.
    pub(super) floor: i64,
    /// What is counted as unread.
    pub(super) counts: bool,
    /// What a device of the user alone may have deleted.
    pub(super) gone: Option<BTreeSet<i64>>,
}

/// What the unread count is computed from, and whether it is certain. A device that has deleted messages by itself counts without them.
const COUNTED: [&str; 9] =
    ["unread", "revoked", "deducted", "n", "sent", "base_seq", "base_n", "base_sent", "is_known"];

/// The rows of a device as text, each with its table.
pub(super) type Rows = BTreeSet<String>;

impl Spared {
    fn has_gone(&self, seq: i64) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.contains(&seq))
    }
}

pub(super) fn open(folder: &Path) -> anyhow::Result<Connection> {
    let mut files = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
    let file = files.find(|path| path.extension().is_some_and(|kind| kind == "db"));
    Ok(Connection::open_with_flags(file.context("no database")?, OpenFlags::SQLITE_OPEN_READ_WRITE)?)
}

/// Reads the rows of the database in `folder`, without what is spared, by conversation.
///
/// # Errors
/// There is no database.
pub(super) fn read(folder: &Path, spared: &BTreeMap<String, Spared>) -> anyhow::Result<Rows> {
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
            // Of a group that the user has left, a device knows what it learned last. That a mute is over, nobody is told; `club.rs`
            // compares the rest of that group.
            "chat_group" => "WHERE t.role > 0 AND t.group_id <> 'club'",
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
                && spared
                    .get(conversation)
                    .is_some_and(|spared| *seq <= spared.floor || table == "message" && spared.has_gone(*seq))
            {
                continue;
            }
            // What was revoked after a stay is unread on the devices that were there.
            if let (Some(Value::Text(name)), "conversation") = (of("name"), table.as_str())
                && let Some(spared) = spared.get(name)
            {
                let counted = if spared.gone.is_some() { &COUNTED[..] } else { &COUNTED[..2] };
                let is_spared = spared.counts || spared.gone.is_some();
                values.retain(|(column, _)| !(is_spared && counted.contains(&column.as_str())));
            }
            let of = |name: &str| values.iter().find(|(column, _)| *column == name).map(|(_, value)| value);
            // What a reply shows of a message that is no longer kept stays on the devices that had it. One that a device alone has deleted
            // is deleted in the replies there.
            if let (Some(Value::Text(conversation)), Some(Value::Integer(source))) =
                (of("conversation"), of("replied_seq"))
                && spared
                    .get(conversation)
                    .is_some_and(|spared| (1..=spared.floor).contains(source) || spared.has_gone(*source))
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
