//! What the server's database has about messages beside their rows.

use std::collections::BTreeMap;

use zim_protocol::CombineMessage;

use super::store::{Store, decoded};
use super::verbs::stored_parts;

/// What is counted and noted beside a message. Each number can be counted again from rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    /// How many members of the group are to send a receipt.
    pub(super) receivers: i64,
    /// How many users have sent one.
    pub(super) readers: i64,
    /// The direct and indirect replies to the first message of a tree.
    pub(super) replies: i64,
    /// The first message of the tree; 0: it is no reply.
    pub(super) root: i64,
    /// The types of reactions.
    pub(super) types: i64,
    /// The users with a reaction, as counted with its type.
    pub(super) reacting: i64,
    /// Whether it is pinned.
    pub(super) is_pinned: bool,
}

/// The marks of the users of a conversation; see `StoredConversation`.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) cleared: BTreeMap<String, i64>,
    pub(super) receipts_through: BTreeMap<String, i64>,
    pub(super) deleted_below: BTreeMap<String, i64>,
}

impl Store {
    /// Reads what is noted beside the messages of a conversation, by position.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn noted(&self, conversation: &str) -> anyhow::Result<BTreeMap<i64, Noted>> {
        let columns = ["seq", "receivers", "readers", "replies", "root_seq", "reactions", "pinned_at"];
        let columns = columns.map(|column| format!("CAST({column} AS TEXT)")).join(", ");
        let sql = format!("SELECT {columns} FROM message_state WHERE conversation = {conversation}");
        let mut all: BTreeMap<i64, Noted> = BTreeMap::new();
        for row in self.rows(&sql)? {
            let row: Vec<i64> = row.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
            let &[seq, receivers, readers, replies, root, types, pinned_at] = &*row else { continue };
            let noted = Noted { receivers, readers, replies, root, types, reacting: 0, is_pinned: pinned_at > 0 };
            all.insert(seq, noted);
        }
        let sql = format!(
            "SELECT CAST(seq AS TEXT), CAST(users AS TEXT) FROM reaction_total WHERE conversation = {conversation}"
        );
        for row in self.rows(&sql)? {
            all.entry(row[0].parse()?).or_default().reacting += row[1].parse::<i64>()?;
        }
        Ok(all)
    }

    /// Reads what combined messages of a conversation combine, by position.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn combined(&self, conversation: &str) -> anyhow::Result<BTreeMap<i64, String>> {
        let body = self.hex("body");
        let sql = format!("SELECT CAST(seq AS TEXT), {body} FROM combine WHERE conversation = {conversation}");
        let one = |row: Vec<String>| Ok((row[0].parse()?, stored_parts(&decoded::<CombineMessage>(&row[1])?)));
        self.rows(&sql)?.into_iter().map(one).collect()
    }

    /// Reads the marks of the users of a conversation.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn marks(&self, conversation: &str) -> anyhow::Result<Marks> {
        let read = |table: &str, column: &str| {
            let sql = format!(
                "SELECT a.name, CAST(t.{column} AS TEXT) FROM {table} t JOIN account a ON a.id = t.account \
                 WHERE t.conversation = {conversation} AND t.{column} > 0"
            );
            let rows = self.rows(&sql)?.into_iter();
            rows.map(|row| Ok((row[0].clone(), row[1].parse()?))).collect::<anyhow::Result<BTreeMap<_, _>>>()
        };
        Ok(Marks {
            cleared: read("member", "cleared_seq")?,
            receipts_through: read("member", "receipt_seq")?,
            deleted_below: read("conversation_setting", "deleted_below")?,
        })
    }
}
