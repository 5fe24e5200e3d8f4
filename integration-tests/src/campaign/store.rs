//! The server's database from outside: reading, copying and killing it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use zim_protocol::{ConversationNotificationStatus, ConversationType, Message, MessageType};

use super::plan::Database;
use super::store_club::{Modes, StoredApplication};
use super::store_message::Noted;
use crate::postgres::Cluster;

/// The status of a conversation whose messages do not disturb.
const QUIET: i32 = ConversationNotificationStatus::DoNotDisturb as i32;

/// A PostgreSQL server for the consecutive runs of one worker. It may be killed.
pub type SharedCluster = Arc<Mutex<Cluster>>;

/// The database of one run.
#[derive(Debug)]
pub(super) enum Store {
    /// An SQLite file.
    Sqlite {
        /// The path of the file.
        file: PathBuf,
    },
    /// A database of a PostgreSQL server.
    Postgres {
        /// The server.
        cluster: SharedCluster,
        /// The database's address.
        url: String,
        /// The database's name.
        name: String,
        /// Whether the server was killed.
        is_down: bool,
    },
}

/// A stored message.
#[derive(Clone, Debug)]
pub(super) struct StoredMessage {
    /// The position.
    pub(super) seq: i64,
    /// The number of counted messages up to it.
    pub(super) n: i64,
    /// The time, Unix milliseconds.
    pub(super) ts: i64,
    /// The sender.
    pub(super) sender: String,
    /// The client key.
    pub(super) key: String,
    /// The text, or the title of a combined message with what it combines; empty if it was revoked.
    pub(super) text: String,
    /// Whether it was revoked.
    pub(super) is_revoked: bool,
    /// The users who have taken it from their view, by itself or with all others.
    pub(super) hidden: BTreeSet<String>,
    /// The users with a reaction.
    pub(super) reactions: BTreeSet<String>,
    /// The users who have sent a receipt.
    pub(super) receipts: BTreeSet<String>,
    /// What is counted and noted beside it.
    pub(super) noted: Noted,
}

impl StoredMessage {
    /// Whether a user sees it as it was sent.
    pub(super) fn is_seen_by(&self, user: &str) -> bool {
        !self.is_revoked && !self.hidden.contains(user)
    }
}

/// A group as the server stores it.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredGroup {
    /// The ID.
    pub(super) id: String,
    /// Whether it has ended.
    pub(super) is_dismissed: bool,
    /// How it is entered.
    pub(super) modes: Modes,
    /// The applications, by their IDs.
    pub(super) applications: BTreeMap<i64, StoredApplication>,
    /// The name.
    pub(super) name: String,
    /// The counted number of members.
    pub(super) count: i64,
    /// The members, each with their role and nickname.
    pub(super) members: BTreeMap<String, (i64, String)>,
    /// The stays of everybody who is or was a member, in order: the positions `from..=to`, or `from..` while it lasts.
    pub(super) stays: BTreeMap<String, Vec<(i64, Option<i64>)>>,
}

/// A conversation as the server stores it.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredConversation {
    /// Of a group, what it is.
    pub(super) group: Option<StoredGroup>,
    /// The end of the log.
    pub(super) head: i64,
    /// The position up to which messages are no longer kept.
    pub(super) floor: i64,
    /// The members, each with the position up to which they have read.
    pub(super) members: Vec<(String, i64)>,
    /// The users who have set it to do-not-disturb.
    pub(super) quiet: BTreeSet<String>,
    /// The position up to which users have deleted all messages, by those who have.
    pub(super) cleared: BTreeMap<String, i64>,
    /// The position up to which users have sent a receipt for everything, by those who have.
    pub(super) receipts_through: BTreeMap<String, i64>,
    /// The position with which it returns to the lists of those who have deleted it.
    pub(super) deleted_below: BTreeMap<String, i64>,
    /// The messages, in order.
    pub(super) messages: Vec<StoredMessage>,
}

/// A task that was scheduled.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredTask {
    /// When it was due, Unix milliseconds; `None` if nobody has scheduled it.
    pub(super) at: Option<i64>,
    /// When it took effect, each time.
    pub(super) effects: Vec<i64>,
}

impl StoredTask {
    /// Whether somebody has scheduled it, and it took effect exactly once and not before its time.
    pub(super) fn is_right(&self) -> bool {
        matches!((self.at, &*self.effects), (Some(at), [now]) if *now >= at)
    }
}

impl StoredConversation {
    /// Returns what a user calls it; `None` if they are not in it and never were.
    pub(super) fn called_by(&self, user: &str) -> Option<&str> {
        match &self.group {
            Some(group) => group.stays.contains_key(user).then_some(&*group.id),
            None => {
                self.members.iter().find(|(name, _)| name == user)?;
                self.members.iter().find(|(name, _)| name != user).map(|(name, _)| name.as_str())
            }
        }
    }

    /// Whether a user may see a position: in a group it must belong to a stay.
    pub(super) fn is_open_to(&self, user: &str, seq: i64) -> bool {
        self.group.as_ref().is_none_or(|group| {
            let is_in = |(from, to): &(i64, Option<i64>)| *from <= seq && to.is_none_or(|to| seq <= to);
            group.stays.get(user).is_some_and(|stays| stays.iter().any(is_in))
        })
    }

    /// Whether a user has deleted it from their list, and nothing has brought it back.
    pub(super) fn is_deleted_by(&self, user: &str) -> bool {
        self.deleted_below.get(user).is_some_and(|below| *below > self.head)
    }

    /// Whether messages may have been revoked: of those that are no longer kept, nobody knows.
    pub(super) fn may_have_revoked(&self) -> bool {
        self.floor > 0 || self.messages.iter().any(|message| message.is_revoked)
    }

    /// Whether a user is in it and has never left it. Of what changed after somebody had left, their devices know different parts.
    pub(super) fn has_stayed(&self, user: &str) -> bool {
        self.group.as_ref().is_none_or(|group| matches!(group.stays.get(user).map(Vec::as_slice), Some([(_, None)])))
    }
}

impl Store {
    /// Prepares a database: a path for SQLite, an empty database on PostgreSQL.
    ///
    /// # Errors
    /// PostgreSQL cannot create the database.
    pub(super) fn new(
        database: Database,
        folder: &Path,
        name: &str,
        cluster: Option<&SharedCluster>,
    ) -> anyhow::Result<Self> {
        match database {
            Database::Sqlite => {
                // The server refuses a database in a folder that others can write to, whatever the umask is.
                zim_files::own_folder(folder)?;
                Ok(Self::Sqlite { file: folder.join("zim.db") })
            }
            Database::Postgres => {
                let cluster = Arc::clone(cluster.context("no PostgreSQL")?);
                let url = cluster.lock().create_database(name)?;
                Ok(Self::Postgres { cluster, url, name: name.to_owned(), is_down: false })
            }
        }
    }

    /// Returns its address as the server takes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite { file } => format!("sqlite://{}", file.display()),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    /// Whether the database is up.
    pub(super) fn is_up(&self) -> bool {
        !matches!(self, Self::Postgres { is_down: true, .. })
    }

    /// Returns the size of SQLite's write-ahead log.
    pub(super) fn log_bytes(&self) -> u64 {
        match self {
            Self::Sqlite { file } => std::fs::metadata(file.with_extension("db-wal")).map_or(0, |log| log.len()),
            Self::Postgres { .. } => 0,
        }
    }

    /// Returns the size of the database.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn bytes(&self) -> anyhow::Result<u64> {
        match self {
            Self::Sqlite { file } => Ok(std::fs::metadata(file)?.len()),
            Self::Postgres { .. } => {
                let rows = self.rows("SELECT CAST(pg_database_size(current_database()) AS TEXT)")?;
                Ok(rows[0][0].parse()?)
            }
        }
    }

    /// Sends SIGKILL to PostgreSQL.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let Self::Postgres { cluster, is_down, .. } = self else { return Ok(()) };
        *is_down = true;
        cluster.lock().kill()
    }

    /// Starts PostgreSQL again if it was killed.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Postgres { cluster, is_down, .. } if *is_down => {
                *is_down = false;
                cluster.lock().restart()
            }
            _ => Ok(()),
        }
    }

    /// Copies the database as an operator does. On PostgreSQL no server may be using it.
    ///
    /// # Errors
    /// It cannot be copied.
    pub(super) fn back_up(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite { file } => {
                let copy = file.with_extension("backup");
                let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                db.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
                Ok(())
            }
            Self::Postgres { cluster, name, .. } => cluster.lock().copy_database(name, &format!("{name}_backup")),
        }
    }

    /// Replaces the database with the copy. No server may be using it.
    ///
    /// # Errors
    /// There is no copy.
    pub(super) fn restore(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite { file } => {
                std::fs::copy(file.with_extension("backup"), file)?;
                for extension in ["db-wal", "db-shm"] {
                    // SQLite removes them when the last connection closes.
                    let _ = std::fs::remove_file(file.with_extension(extension));
                }
                Ok(())
            }
            Self::Postgres { cluster, name, .. } => cluster.lock().copy_database(&format!("{name}_backup"), name),
        }
    }

    /// Returns the rows of a query, as text.
    ///
    /// # Errors
    /// The query fails.
    pub(super) fn rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        match self {
            Self::Sqlite { file } => {
                let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                let mut statement = db.prepare(sql)?;
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
            Self::Postgres { cluster, url, .. } => {
                let text = cluster.lock().query_in(url, sql)?;
                Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
            }
        }
    }

    /// Reads the tasks by subject: when they were due, and when they took effect.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn tasks(&self) -> anyhow::Result<BTreeMap<i64, StoredTask>> {
        let mut all: BTreeMap<i64, StoredTask> = BTreeMap::new();
        let pairs = |sql: &str| {
            let rows = self.rows(sql)?.into_iter();
            rows.map(|row| Ok((row[0].parse()?, row[1].parse()?))).collect::<anyhow::Result<Vec<(i64, i64)>>>()
        };
        for (subject, at) in pairs("SELECT CAST(subject AS TEXT), CAST(at AS TEXT) FROM task_wanted")? {
            all.entry(subject).or_default().at = Some(at);
        }
        for (subject, now) in pairs("SELECT CAST(subject AS TEXT), CAST(now AS TEXT) FROM task_effect")? {
            all.entry(subject).or_default().effects.push(now);
        }
        Ok(all)
    }

    /// Returns the expression for the bytes of a column in hex.
    pub(super) fn hex(&self, column: &str) -> String {
        match self {
            Self::Sqlite { .. } => format!("hex({column})"),
            Self::Postgres { .. } => format!("encode({column}, 'hex')"),
        }
    }

    /// Reads every conversation with its members and messages, except rooms.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn conversations(&self) -> anyhow::Result<Vec<StoredConversation>> {
        let hex = &*self.hex("m.body");
        let number = |text: &str| text.parse::<i64>().with_context(|| format!("{text:?} is no number"));
        let text = |column: &str| format!("CAST({column} AS TEXT)");
        let select = |columns: &[&str], rest: &str| {
            format!("SELECT {} {rest}", columns.iter().map(|column| text(column)).collect::<Vec<_>>().join(", "))
        };
        let mut all = Vec::new();
        let room = ConversationType::Room as i32;
        let of_messages = format!("FROM conversation WHERE type <> {room} ORDER BY id");
        for row in self.rows(&select(&["id", "seq", "floor_seq", "type"], &of_messages))? {
            let id = &row[0];
            let is_group = number(&row[3])? == i64::from(ConversationType::Group as i32);
            let group = if is_group { Some(self.group(id)?) } else { None };
            let members = self.rows(&select(
                &["a.name", "m.read_seq"],
                &format!(
                    "FROM member m JOIN account a ON a.id = m.account WHERE m.conversation = {id} ORDER BY a.name"
                ),
            ))?;
            let by_users = |table: &str| {
                let sql = format!("FROM {table} t JOIN account a ON a.id = t.account WHERE t.conversation = {id}");
                let mut users: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
                for row in self.rows(&select(&["t.seq", "a.name"], &sql))? {
                    users.entry(number(&row[0])?).or_default().insert(row[1].clone());
                }
                anyhow::Ok(users)
            };
            let [mut hidden, mut reactions, mut receipts] =
                [by_users("hidden")?, by_users("reaction")?, by_users("receipt")?];
            let quiet = self.rows(&select(
                &["a.name"],
                &format!(
                    "FROM conversation_setting s JOIN account a ON a.id = s.account \
                     WHERE s.conversation = {id} AND s.notification = {QUIET}"
                ),
            ))?;
            let marks = self.marks(id)?;
            let (mut noted, combined) = (self.noted(id)?, self.combined(id)?);
            let messages = self.rows(&select(
                &["m.seq", "m.n", "m.ts", "a.name", "m.key_hi", "m.key_lo", hex, "m.kind"],
                &format!(
                    "FROM message m JOIN account a ON a.id = m.sender WHERE m.conversation = {id} AND m.seq > {} ORDER BY m.seq",
                    row[2]
                ),
            ))?;
            let messages = messages.into_iter().map(|row| {
                let seq = number(&row[0])?;
                let mut hidden = hidden.remove(&seq).unwrap_or_default();
                hidden.extend(marks.cleared.iter().filter(|(_, to)| seq <= **to).map(|(user, _)| user.clone()));
                Ok(StoredMessage {
                    seq,
                    n: number(&row[1])?,
                    ts: number(&row[2])?,
                    sender: row[3].clone(),
                    key: format!("{}:{}", row[4], row[5]),
                    text: combined.get(&seq).cloned().map_or_else(|| text_of(&row[6]), Ok)?,
                    is_revoked: number(&row[7])? == i64::from(MessageType::Revoke as i32),
                    hidden,
                    reactions: reactions.remove(&seq).unwrap_or_default(),
                    receipts: receipts.remove(&seq).unwrap_or_default(),
                    noted: noted.remove(&seq).unwrap_or_default(),
                })
            });
            let messages = messages.collect::<anyhow::Result<_>>()?;
            all.push(StoredConversation {
                group,
                head: number(&row[1])?,
                floor: number(&row[2])?,
                members: members
                    .iter()
                    .map(|row| Ok((row[0].clone(), number(&row[1])?)))
                    .collect::<anyhow::Result<_>>()?,
                quiet: quiet.into_iter().map(|row| row[0].clone()).collect(),
                cleared: marks.cleared,
                receipts_through: marks.receipts_through,
                deleted_below: marks.deleted_below,
                messages,
            });
        }
        Ok(all)
    }

    fn group(&self, id: &str) -> anyhow::Result<StoredGroup> {
        let mut group = StoredGroup { applications: self.applications(id)?, ..StoredGroup::default() };
        let sql = format!(
            "SELECT c.name, g.group_name, CAST(g.members AS TEXT), CAST(COALESCE(c.end_seq, -1) AS TEXT), \
             CAST(g.join_mode AS TEXT), CAST(g.invite_mode AS TEXT), CAST(g.be_invite_mode AS TEXT) \
             FROM chat_group g JOIN conversation c ON c.id = g.conversation WHERE g.conversation = {id}"
        );
        for row in self.rows(&sql)? {
            (group.id, group.name, group.count) = (row[0].clone(), row[1].clone(), row[2].parse()?);
            group.is_dismissed = row[3] != "-1";
            group.modes = [row[4].parse()?, row[5].parse()?, row[6].parse()?];
        }
        let sql = format!(
            "SELECT a.name, CAST(g.role AS TEXT), g.nickname FROM group_member g JOIN account a ON a.id = g.account \
             WHERE g.conversation = {id}"
        );
        for row in self.rows(&sql)? {
            group.members.insert(row[0].clone(), (row[1].parse()?, row[2].clone()));
        }
        // The rows of a user are in the order of their stays. After one without messages the next one begins at the same position.
        let of = |table: &str| {
            format!(
                "SELECT a.name, t.from_seq AS first, t.to_seq AS last, t.from_rev AS rev FROM {table} t JOIN account a ON a.id = t.account \
                 WHERE t.conversation = {id}"
            )
        };
        let sql = format!(
            "SELECT s.name, CAST(s.first AS TEXT), CAST(COALESCE(s.last, -1) AS TEXT) FROM ({} UNION ALL {}) s \
             ORDER BY s.name, s.rev",
            of("span"),
            of("member")
        );
        for row in self.rows(&sql)? {
            let to: i64 = row[2].parse()?;
            let stay = (row[1].parse()?, (to >= 0).then_some(to));
            group.stays.entry(row[0].clone()).or_default().push(stay);
        }
        Ok(group)
    }
}

/// Decodes the text of a stored body in hex.
fn text_of(hex: &str) -> anyhow::Result<String> {
    let message: Message = decoded(hex)?;
    Ok(message.as_text().unwrap_or_default().to_owned())
}

/// Decodes what is stored, in hex.
pub(super) fn decoded<M: prost::Message + Default>(hex: &str) -> anyhow::Result<M> {
    let bytes: Vec<u8> =
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16)).collect::<Result<_, _>>()?;
    Ok(M::decode(&bytes[..])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_takes_effect_once_and_not_before_its_time() {
        let is_right = |at, effects: &[i64]| StoredTask { at, effects: effects.to_vec() }.is_right();
        assert!(is_right(Some(5), &[5]) && is_right(Some(5), &[6]));
        assert!(!is_right(Some(5), &[]), "never");
        assert!(!is_right(Some(5), &[5, 5]), "twice");
        assert!(!is_right(Some(5), &[4]), "too early");
        assert!(!is_right(None, &[5]), "although nobody has scheduled it");
    }
}
