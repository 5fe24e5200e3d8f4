//! How long messages are kept. The operator sets it for an app, and for single conversations.
//!
//! A task looks through the conversations every hour, a page at a time. For each that has messages which are too old, another one
//! raises the floor of the conversation, with an entry in its log of changes: from then on nobody sees what lies below, and the
//! devices delete it. Then it deletes the rows, a page at a time, and the files that no other message has.

use std::sync::Arc;

use zim_protocol::{ConversationType, Retention, SetRetentionRequest};

use super::media::drop_refs;
use super::message::RECEIPT;
use crate::app::App;
use crate::db::{Scope, Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{ChangedConversation, LAST_MESSAGE_DEPTH, LogWriter, dating_messages};
use crate::key::{AppKey, ConversationKey, UserKey};
use crate::push;
use crate::task::{self, Due, TaskKind};
use crate::tenant::Tenant;

const DAY_MS: i64 = 86_400_000;
/// The time between two looks.
const LOOK_MS: i64 = 3_600_000;
/// Conversations of one look, and messages that one transaction deletes.
const LOOKED_AT: i64 = 1_000;
const DELETED_AT_ONCE: i64 = 500;

/// Looks for conversations with messages that are too old; the subject is the conversation after which it goes on.
pub(crate) static RETENTION: TaskKind<App> =
    TaskKind { number: 91, name: "retention", scope: |_| Scope::none(), run: |_, tx, _, due| Box::pin(look(tx, due)) };

/// Removes the messages of a conversation that are too old; the subject is the conversation.
pub(crate) static RETENTION_OF_CONVERSATION: TaskKind<App> = TaskKind {
    number: 92,
    name: "retention-of-conversation",
    scope: |subject| Scope::conversation(ConversationKey(subject)),
    run: |app, tx, log, due| Box::pin(expire(app, tx, log, due)),
};

/// The messages below the floor of which a row without content stays: they were revoked, or somebody deleted them for themselves, so
/// they are taken out of counts of unread messages that others still have.
const STAYS: &str = "(x.flags & 1) = 1 AND (x.kind = 31 OR EXISTS (SELECT 1 FROM hidden h WHERE h.conversation = x.conversation \
                     AND h.seq = x.seq))";

/// What a setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    App,
    Conversation(ConversationKey),
}

impl App {
    /// Begins to look for messages that are too old.
    pub(crate) async fn begin_to_look_for_old_messages(&self) -> Result<(), Error> {
        let (now, is_node) = (self.clock.now_ms(), self.db.lease().is_some());
        let begun = self.db.submit(Scope::none(), async move |tx| match is_node {
            // Another node may be in the middle of a look.
            true => task::schedule_by(tx, &RETENTION, 0, now).await,
            false => task::schedule_only(tx, &RETENTION, 0, now).await,
        });
        begun.await
    }

    /// Returns what a request is for: a group, the conversation of two users, or the app.
    async fn retention_of(&self, tenant: &Tenant, group_id: &str, user_ids: &[String]) -> Result<Of, Error> {
        let app = tenant.key;
        let (user, kind, id) = match (group_id, user_ids) {
            ("", []) => return Ok(Of::App),
            (_, []) => (UserKey(0), ConversationType::Group, group_id),
            ("", [one, other]) => {
                let user = self.user_key(app, one).await?.ok_or_else(|| Error::user_not_found(one))?;
                (user, ConversationType::Peer, other.as_str())
            }
            _ => return Err(Error::params_invalid("name a group, or two users, or nothing for the app")),
        };
        let found = self.conversation_key(app, user, kind as i32, id).await?;
        found.map(Of::Conversation).ok_or_else(|| Error::conversation_not_found(id))
    }

    /// Returns for how many days messages are kept.
    ///
    /// # Errors
    /// There is no such conversation, or the store fails.
    pub(super) async fn retention(
        &self,
        tenant: &Tenant,
        (group_id, user_ids): (&str, &[String]),
    ) -> Result<Retention, Error> {
        let (app, of) = (tenant.key, self.retention_of(tenant, group_id, user_ids).await?);
        self.db.read(async move |tx| setting(tx, app, of).await).await
    }

    /// Sets for how many days messages are kept, and begins to remove those that are too old.
    ///
    /// # Errors
    /// There is no such conversation, a setting of the app is to be that of the app, or the store fails.
    pub(super) async fn set_retention(
        &self,
        tenant: &Tenant,
        request: SetRetentionRequest,
    ) -> Result<Retention, Error> {
        let SetRetentionRequest { app_id: _, group_id, user_ids, days } = request;
        let (app, now) = (tenant.key, self.clock.now_ms());
        let of = self.retention_of(tenant, &group_id, &user_ids).await?;
        let scope = match of {
            Of::App => Scope::none(),
            Of::Conversation(conversation) => Scope::conversation(conversation),
        };
        let set = self.db.submit(scope, async move |tx| {
            match (of, days) {
                (Of::App, None) => return Err(Error::params_invalid("days is missing")),
                (Of::App, Some(days)) => {
                    // The task first: whoever looks locks the two in the same order.
                    task::schedule_by(tx, &RETENTION, 0, now).await?;
                    tx.execute("UPDATE app SET retention_days = $2 WHERE id = $1", &params![app, days]).await?;
                }
                (Of::Conversation(key), days) => {
                    let sql = "UPDATE conversation SET retention_days = $2 WHERE id = $1";
                    tx.execute(sql, &params![key, days]).await?;
                    task::schedule_by(tx, &RETENTION_OF_CONVERSATION, key, now).await?;
                }
            }
            setting(tx, app, of).await
        });
        set.await
    }
}

async fn setting(tx: &mut Tx<'_>, app: AppKey, of: Of) -> Result<Retention, Error> {
    let key = match of {
        Of::App => ConversationKey(0),
        Of::Conversation(key) => key,
    };
    let sql =
        "SELECT a.retention_days, c.retention_days FROM app a LEFT JOIN conversation c ON c.id = $2 WHERE a.id = $1";
    let row = tx.fetch_one(sql, &params![app, key]).await?.ok_or_else(|| Error::app_not_found(app))?;
    let own: Option<i64> = row.get(1)?;
    Ok(Retention { days: own.map_or_else(|| row.get(0), Ok)?, is_own: of == Of::App || own.is_some() })
}

async fn look(tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let any_app = tx.fetch_one("SELECT 1 FROM app WHERE retention_days > 0 LIMIT 1", &[]).await?.is_some();
    // Without it only those that have a setting of their own are looked at, by an index.
    let of_own = if any_app { "" } else { "AND retention_days > 0" };
    let sql = format!(
        "WITH page AS (SELECT id, app, type, floor_seq, swept_seq, retention_days FROM conversation WHERE id > $1 {of_own} \
         ORDER BY id LIMIT $2) \
         SELECT p.id, CASE WHEN p.type IN (0, 2) AND (p.swept_seq < p.floor_seq \
         OR (COALESCE(p.retention_days, a.retention_days, 0) > 0 \
         AND EXISTS (SELECT 1 FROM message x WHERE x.conversation = p.id AND x.seq = p.floor_seq + 1 \
         AND x.ts <= $3 - COALESCE(p.retention_days, a.retention_days, 0) * {DAY_MS}))) THEN 1 ELSE 0 END \
         FROM page p LEFT JOIN app a ON a.id = p.app ORDER BY p.id"
    );
    let rows = tx.fetch(&sql, &params![due.subject, LOOKED_AT, due.now]).await?;
    let mut old = Vec::new();
    for row in &rows {
        if row.get::<i64>(1)? != 0 {
            old.push(row.get::<i64>(0)?);
        }
    }
    task::schedule_missing(tx, &RETENTION_OF_CONVERSATION, &old, due.now).await?;
    match rows.last().filter(|_| i64::try_from(rows.len()).is_ok_and(|count| count >= LOOKED_AT)) {
        Some(last) => task::schedule(tx, &RETENTION, last.get::<i64>(0)?, due.now).await,
        None => task::schedule_by(tx, &RETENTION, 0, due.now + LOOK_MS).await,
    }
}

/// A conversation of which something may be too old.
struct Kept {
    app: AppKey,
    kind: ConversationType,
    name: String,
    is_dismissed: bool,
    floor: i64,
    swept: i64,
    head: i64,
    /// 0: for ever.
    days: i64,
}

async fn kept(tx: &mut Tx<'_>, key: ConversationKey) -> Result<Option<Kept>, Error> {
    let sql = "SELECT c.app, c.type, c.name, c.end_rev, c.floor_seq, c.swept_seq, c.seq, COALESCE(c.retention_days, a.retention_days) \
               FROM conversation c JOIN app a ON a.id = c.app WHERE c.id = $1 AND c.type IN (0, 2)";
    let Some(row) = tx.fetch_one(sql, &params![key]).await? else { return Ok(None) };
    Ok(Some(Kept {
        app: AppKey(row.get(0)?),
        kind: ConversationType::try_from(row.get::<i32>(1)?).unwrap_or(ConversationType::Unknown),
        name: row.get(2)?,
        is_dismissed: row.get::<Option<i64>>(3)?.is_some(),
        floor: row.get(4)?,
        swept: row.get(5)?,
        head: row.get(6)?,
        days: row.get(7)?,
    }))
}

async fn expire(app: &App, tx: &mut Tx<'_>, log: &mut LogWriter, due: Due) -> Result<(), Error> {
    let key = ConversationKey(due.subject);
    let Some(mut kept) = kept(tx, key).await? else { return Ok(()) };
    if kept.days > 0 {
        let through = last_until(tx, key, (kept.floor, kept.head), due.now - kept.days.saturating_mul(DAY_MS)).await?;
        if through > kept.floor {
            raise(app, tx, log, (key, &kept), (through, due.now)).await?;
            kept.floor = through;
        }
    }
    if kept.swept >= kept.floor {
        return Ok(());
    }
    let swept = sweep(app, tx, key, (kept.swept, kept.floor), due.now).await?;
    match swept < kept.floor {
        true => task::schedule(tx, &RETENTION_OF_CONVERSATION, key, due.now).await,
        false => Ok(()),
    }
}

/// Returns the last position of a span whose message is of this time or before; its beginning if there is none. Messages are in the
/// order of their times, so this takes as many seeks as the length of the span has bits.
async fn last_until(
    tx: &mut Tx<'_>,
    key: ConversationKey,
    (mut low, mut high): (i64, i64),
    time: i64,
) -> Result<i64, Error> {
    let sql = "SELECT ts FROM message WHERE conversation = $1 AND seq <= $2 AND seq > $3 ORDER BY seq DESC LIMIT 1";
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let row = tx.fetch_one(sql, &params![key, middle, low]).await?;
        let is_until = row.map_or(Ok(true), |row| row.get::<i64>(0).map(|ts| ts <= time))?;
        if is_until {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

/// Raises the floor of a conversation, and tells its users.
async fn raise(
    app: &App,
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    (key, kept): (ConversationKey, &Kept),
    (through, now): (i64, i64),
) -> Result<(), Error> {
    tx.assert_covers_conversation(key);
    let sql = "UPDATE conversation SET floor_seq = $2, floor_n = COALESCE((SELECT x.n FROM message x \
               WHERE x.conversation = $1 AND x.seq <= $2 ORDER BY x.seq DESC LIMIT 1), floor_n) WHERE id = $1";
    tx.execute(sql, &params![key, through]).await?;
    // Nothing is appended to a group that was dismissed.
    let audience = if kept.is_dismissed { None } else { audience(tx, key, kept).await? };
    let (Some(audience), Ok(tenant)) = (audience, app.tenants.of(kept.app)) else { return Ok(()) };
    let conversation = ChangedConversation { key, audience, scrambler: Arc::clone(&tenant.scrambler) };
    log.change_floor(tx, &conversation, through, now).await.map(drop)
}

async fn audience(tx: &mut Tx<'_>, key: ConversationKey, kept: &Kept) -> Result<Option<Audience>, Error> {
    if kept.kind == ConversationType::Group {
        return Ok(Some(Audience::Group { conversation: key, name: Arc::from(kept.name.as_str()) }));
    }
    let sql = "SELECT a.id, a.name, p.id, p.name FROM member m JOIN account a ON a.id = m.account JOIN account p ON p.id = m.peer \
               WHERE m.conversation = $1 LIMIT 1";
    let Some(row) = tx.fetch_one(sql, &params![key]).await? else { return Ok(None) };
    let (one, other): (String, String) = (row.get(1)?, row.get(3)?);
    Ok(Some(Audience::Peers([(UserKey(row.get(0)?), Arc::from(one)), (UserKey(row.get(2)?), Arc::from(other))])))
}

/// Deletes a page of the messages of a span, which is below the floor. Returns the position up to which they are deleted.
async fn sweep(
    app: &App,
    tx: &mut Tx<'_>,
    key: ConversationKey,
    (after, floor): (i64, i64),
    now: i64,
) -> Result<i64, Error> {
    let sql = "SELECT seq FROM message WHERE conversation = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
    let rows = tx.fetch(sql, &params![key, after, floor, DELETED_AT_ONCE]).await?;
    let is_page = i64::try_from(rows.len()).is_ok_and(|count| count >= DELETED_AT_ONCE);
    let through = match rows.last().filter(|_| is_page) {
        Some(last) => last.get(0)?,
        None => floor,
    };
    remove(app, tx, key, (after, through), now).await?;
    tx.execute("UPDATE conversation SET swept_seq = $2 WHERE id = $1", &params![key, through]).await?;
    Ok(through)
}

async fn remove(
    app: &App,
    tx: &mut Tx<'_>,
    key: ConversationKey,
    (after, through): (i64, i64),
    now: i64,
) -> Result<(), Error> {
    let span = params![key, after, through];
    let of = |table: &str| format!("FROM {table} WHERE conversation = $1 AND seq > $2 AND seq <= $3");
    for row in tx.fetch(&format!("SELECT DISTINCT seq {} ORDER BY seq", of("media_ref")), &span).await? {
        drop_refs(tx, key, row.get(0)?, (now, &app.config.media)).await?;
    }
    for row in tx.fetch(&format!("SELECT DISTINCT seq {} ORDER BY seq", of("push")), &span).await? {
        push::forget(tx, key, row.get(0)?).await?;
    }
    // What the feeds of those who sent and read them say of receipts would otherwise stay for ever.
    for sql in receipts_in_feeds() {
        tx.execute(&sql, &span).await?;
    }
    for table in ["message_state", "reaction", "reaction_total", "receipt", "combine"] {
        tx.execute(&format!("DELETE {}", of(table)), &span).await?;
    }
    // A row that was left because it dated the group goes when newer ones have come. It was within this depth of the last message, which
    // is not before `after`. So there are no more than that of these, and mostly one. There are as many for each stay that has ended:
    // its own row is kept for ever, too.
    let with_dating = params![key, after.saturating_sub(LAST_MESSAGE_DEPTH), through];
    let sql = format!(
        "DELETE FROM message WHERE conversation = $1 AND seq > $2 AND seq <= $3 AND seq NOT IN \
         (SELECT x.seq FROM message x WHERE x.conversation = $1 AND x.seq > $2 AND x.seq <= $3 AND {STAYS}) \
         AND seq NOT IN ({})",
        dating_messages()
    );
    tx.execute(&sql, &with_dating).await?;
    // Whom a row is for says whose group it dates.
    let sql = format!("DELETE {} AND seq NOT IN (SELECT seq {})", of("target"), of("message"));
    tx.execute(&sql, &with_dating).await?;
    let sql = "UPDATE message SET body = $4, key_hi = 0, key_lo = 0, hash = 0 \
               WHERE conversation = $1 AND seq > $2 AND seq <= $3";
    tx.execute(sql, &params![key, after, through, Vec::<u8>::new()]).await?;
    Ok(())
}

/// Returns the statements that remove what the feeds of those who read and sent the messages of a span say of receipts. SQLite finds
/// rows by all columns of an index only if the list of these is a simple query: for a union it would read all feeds.
fn receipts_in_feeds() -> [String; 2] {
    let kind = RECEIPT.number;
    let of_readers = format!(
        "DELETE FROM feed WHERE (account, kind, key) IN (SELECT r.account, {kind}, x.id FROM receipt r \
         JOIN message x ON x.conversation = r.conversation AND x.seq = r.seq \
         WHERE r.conversation = $1 AND r.seq > $2 AND r.seq <= $3)"
    );
    let of_senders = format!(
        "DELETE FROM feed WHERE (account, kind, key) IN (SELECT x.sender, {kind}, x.id FROM message x \
         WHERE x.conversation = $1 AND x.seq > $2 AND x.seq <= $3)"
    );
    [of_readers, of_senders]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;
    use crate::journal::tests::Fixture;

    /// The feeds of all users have far more rows than a page of messages.
    #[tokio::test]
    async fn entries_about_receipts_are_found_by_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
        for delete in receipts_in_feeds() {
            let sql = delete.replacen("DELETE", "SELECT 1", 1);
            let plan = fixture.plan(sql, params![ConversationKey(1), 0, 500].to_vec()).await;
            assert!(plan.contains("INDEX feed_key (account=? AND kind=? AND key=?)"), "{plan}");
            assert!(!plan.contains("SCAN"), "{plan}");
        }
        fixture.db.close().await;
    }
}
