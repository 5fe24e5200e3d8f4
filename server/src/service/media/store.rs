//! Rows of files, and of the messages that have them.

use std::collections::HashMap;

use bytes::Bytes;

use super::log::LOG;
use super::space::{self, count, counted};
use super::task::{MEDIA_EXPIRED, MEDIA_UNUSED, PIECE_REMOVAL};
use crate::config;
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, UserKey};
use crate::media::{self, Version, Versions};
use crate::task;

/// The files that one job removes.
const PAGE: i64 = 100;
const DAY_MS: i64 = 86_400_000;
/// Logs of a device within this time are one, as in the reference.
const LOGS_MERGED_MS: i64 = 600_000;

/// A file that is to be uploaded.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) id: i64,
    pub(super) app: AppKey,
    pub(super) user: UserKey,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) base: String,
    pub(super) kind: i32,
    pub(super) name: String,
    pub(super) size: i64,
    pub(super) hash: Bytes,
    pub(super) now: i64,
}

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) id: i64,
    pub(crate) app: AppKey,
    /// Who uploads it.
    pub(crate) user: UserKey,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) base: String,
    /// `MessageType`.
    pub(crate) kind: i32,
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) hash: Bytes,
    pub(crate) is_complete: bool,
    pub(crate) created_at: i64,
    /// Empty: unknown.
    pub(crate) media_type: String,
    pub(crate) versions: Versions,
}

const COLUMNS: &str = "m.id, m.app, m.account, m.secret, m.token, m.base, m.kind, m.name, m.size, m.hash, m.state, m.created_at, \
                       m.media_type, m.width, m.height, m.large_width, m.large_height, m.thumbnail_width, m.thumbnail_height";

impl File {
    fn read(row: &Row) -> Result<Self, Error> {
        let side = |column| Ok::<_, Error>(u32::try_from(row.get::<i64>(column)?).unwrap_or(0));
        Ok(Self {
            id: row.get(0)?,
            app: AppKey(row.get(1)?),
            user: UserKey(row.get(2)?),
            secret: row.get(3)?,
            token: row.get(4)?,
            base: row.get(5)?,
            kind: row.get(6)?,
            name: row.get(7)?,
            size: row.get(8)?,
            hash: row.get::<Vec<u8>>(9)?.into(),
            is_complete: row.get::<i64>(10)? == 1,
            created_at: row.get(11)?,
            media_type: row.get(12)?,
            versions: Versions {
                original: (side(13)?, side(14)?),
                large: (side(15)?, side(16)?),
                thumbnail: (side(17)?, side(18)?),
            },
        })
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("{}/media/{}", self.base, self.secret)
    }

    /// Returns the URL of its upload.
    pub(crate) fn upload_url(&self) -> String {
        format!("{}/uploads/{}", self.base, self.token)
    }

    /// Returns the URL of a version.
    pub(crate) fn url_of(&self, version: Version) -> String {
        format!("{}/{}", self.url(), version.name())
    }
}

/// Adds a file that is to be uploaded, or returns the one of the same user with the same content, of which the upload goes on
/// or is done; `None`: the app has no space left. `is_lost`: the bytes of those that are done are not there. Their rows stay, because
/// they may be there again: a folder may not be mounted. `started_at` is when this server started.
pub(super) async fn create(
    tx: &mut Tx<'_>,
    new: New,
    is_lost: bool,
    (settings, started_at): (&config::Media, i64),
) -> Result<Option<File>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM media m WHERE m.account = $1 AND m.hash = $2 AND m.size = $3 AND m.kind = $4 AND m.state < $5 \
         ORDER BY m.state DESC, m.id DESC LIMIT 1"
    );
    let states = if is_lost { 1_i64 } else { 2 };
    let row = tx.fetch_one(&sql, &params![new.user, new.hash.clone(), new.size, i64::from(new.kind), states]).await?;
    if let Some(file) = row.as_ref().map(File::read).transpose()? {
        // It must not be removed before it is sent, and the server may have another address than when it was announced first.
        let sql = "UPDATE media SET base = $3, unused_since = $2, created_at = $2 WHERE id = $1";
        tx.execute(sql, &params![file.id, new.now, new.base.clone()]).await?;
        return Ok(Some(File { base: new.base, ..file }));
    }
    if !space::take(tx, (new.app, new.user), new.size, (new.now, started_at), settings).await? {
        return Ok(None);
    }
    let sql = "INSERT INTO media (id, app, account, secret, token, base, kind, name, size, hash, state, created_at, unused_since, \
               media_type, width, height, large_width, large_height, thumbnail_width, thumbnail_height) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $11, '', 0, 0, 0, 0, 0, 0)";
    tx.execute(
        sql,
        &params![
            new.id,
            new.app,
            new.user,
            new.secret.clone(),
            new.token.clone(),
            new.base.clone(),
            i64::from(new.kind),
            new.name.clone(),
            new.size,
            new.hash.clone(),
            new.now
        ],
    )
    .await?;
    task::schedule_by(tx, &MEDIA_UNUSED, new.user, new.now + i64::from(settings.upload_valid_s) * 1_000).await?;
    if settings.kept_days > 0 {
        task::schedule_by(tx, &MEDIA_EXPIRED, new.user, new.now + i64::from(settings.kept_days) * DAY_MS).await?;
    }
    Ok(Some(File {
        id: new.id,
        app: new.app,
        user: new.user,
        secret: new.secret,
        token: new.token,
        base: new.base,
        kind: new.kind,
        name: new.name,
        size: new.size,
        hash: new.hash,
        is_complete: false,
        created_at: new.now,
        media_type: String::new(),
        versions: Versions::default(),
    }))
}

/// Returns the file whose column, `secret` or `token`, has this value.
pub(super) async fn by(tx: &mut Tx<'_>, column: &'static str, value: &str) -> Result<Option<File>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM media m WHERE m.{column} = $1");
    tx.fetch_one(&sql, &params![value]).await?.as_ref().map(File::read).transpose()
}

/// Returns the complete files of an app with these secrets, by secret.
///
/// # Errors
/// The store fails.
pub(crate) async fn files(tx: &mut Tx<'_>, app: AppKey, secrets: &[String]) -> Result<HashMap<String, File>, Error> {
    let (list, mut values) = tx.dialect().in_list(secrets.iter().map(String::as_str), 2);
    values.insert(0, app.into());
    let sql = format!("SELECT {COLUMNS} FROM media m WHERE m.app = $1 AND m.state = 1 AND m.secret IN {list}");
    let rows = tx.fetch(&sql, &values).await?;
    rows.iter().map(|row| File::read(row).map(|file| (file.secret.clone(), file))).collect()
}

/// Returns complete files of a user, in the order of their IDs.
///
/// # Errors
/// The store fails.
pub(crate) async fn files_of(tx: &mut Tx<'_>, user: UserKey, after: i64, count: i64) -> Result<Vec<File>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM media m WHERE m.account = $1 AND m.id > $2 AND m.state = 1 ORDER BY m.id LIMIT $3"
    );
    tx.fetch(&sql, &params![user, after, count]).await?.iter().map(File::read).collect()
}

/// Removes some files of a user, whose lock the job has, whatever messages have them. Returns whether there may be more.
///
/// # Errors
/// The store fails.
pub(crate) async fn erase_files(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<bool, Error> {
    let sql =
        format!("SELECT id, app, size FROM media WHERE account = $1 ORDER BY id LIMIT $2{}", tx.dialect().for_update());
    let rows = tx.fetch(&sql, &params![user, PAGE]).await?;
    for row in &rows {
        let id: i64 = row.get(0)?;
        tx.execute("DELETE FROM media_ref WHERE media = $1", &params![id]).await?;
        media::delete(tx, id, now).await?;
        count(tx, (AppKey(row.get(1)?), user), -counted(row.get(2)?)).await?;
    }
    Ok(!rows.is_empty())
}

/// A message lost its content: the files that no other message has are removed later.
///
/// # Errors
/// The store fails.
pub(crate) async fn drop_refs(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    seq: i64,
    (now, settings): (i64, &config::Media),
) -> Result<(), Error> {
    let sql = "SELECT r.media, m.account FROM media_ref r JOIN media m ON m.id = r.media \
               WHERE r.conversation = $1 AND r.seq = $2 ORDER BY r.media";
    let found = tx.fetch(sql, &params![conversation, seq]).await?;
    if found.is_empty() {
        return Ok(());
    }
    tx.execute("DELETE FROM media_ref WHERE conversation = $1 AND seq = $2", &params![conversation, seq]).await?;
    let mut owners = Vec::new();
    for row in found {
        let sql = "UPDATE media SET unused_since = $2 WHERE id = $1";
        tx.execute(sql, &params![row.get::<i64>(0)?, now]).await?;
        owners.push(row.get::<i64>(1)?);
    }
    task::schedule_missing(tx, &MEDIA_UNUSED, &owners, now + i64::from(settings.unused_kept_s) * 1_000).await
}

/// Completes an upload. It may have been completed, or ended, meanwhile. `pieces` is the new ID of an entry of the outbox that removes
/// the pieces of the file, if it has any.
pub(super) async fn complete(
    tx: &mut Tx<'_>,
    (id, user, pieces): (i64, UserKey, Option<i64>),
    (media_type, versions): (&str, Versions),
    now: i64,
    settings: &config::Media,
) -> Result<(), Error> {
    let Versions { original, large, thumbnail } = versions;
    let sides = [original.0, original.1, large.0, large.1, thumbnail.0, thumbnail.1].map(i64::from);
    let [width, height, large_width, large_height, thumbnail_width, thumbnail_height] = sides;
    let sql = "UPDATE media SET state = 1, unused_since = $2, media_type = $3, width = $4, height = $5, large_width = $6, \
               large_height = $7, thumbnail_width = $8, thumbnail_height = $9 WHERE id = $1 AND state = 0";
    let changed = tx
        .execute(
            sql,
            &params![id, now, media_type, width, height, large_width, large_height, thumbnail_width, thumbnail_height],
        )
        .await?;
    if let Some(entry) = pieces {
        task::enqueue(tx, &PIECE_REMOVAL, (entry, id), now).await?;
    }
    if changed > 0 {
        merge_logs(tx, (id, user), now).await?;
        task::schedule_by(tx, &MEDIA_UNUSED, user, now + i64::from(settings.unused_kept_s) * 1_000).await?;
    }
    Ok(())
}

/// Removes the logs of a device that a newer one replaces: it has what they have. The newest is the one whose upload began last: an
/// older one can be complete after it.
async fn merge_logs(tx: &mut Tx<'_>, (id, user): (i64, UserKey), now: i64) -> Result<(), Error> {
    let sql = "SELECT o.id, o.app, o.size FROM media n JOIN media o ON o.account = n.account AND o.name = n.name \
               WHERE n.id = $1 AND n.kind = $2 AND o.kind = $2 AND o.state = 1 AND o.unused_since > $3 \
               ORDER BY o.created_at DESC, o.id DESC";
    for row in tx.fetch(sql, &params![id, i64::from(LOG), now - LOGS_MERGED_MS]).await?.iter().skip(1) {
        media::delete(tx, row.get(0)?, now).await?;
        count(tx, (AppKey(row.get(1)?), user), -counted(row.get(2)?)).await?;
    }
    Ok(())
}

/// Returns logs of an app, or of a user, with the user's name and the time of the upload, the newest first.
pub(super) async fn logs(
    tx: &mut Tx<'_>,
    (app, user): (AppKey, Option<UserKey>),
    before: i64,
    count: i64,
) -> Result<Vec<(File, String, i64)>, Error> {
    let sql = format!(
        "SELECT {COLUMNS}, a.name, m.unused_since FROM media m JOIN account a ON a.id = m.account WHERE m.app = $1 AND m.kind = $2 \
         AND m.state = 1 AND m.id < $3 AND (m.account = $4 OR $4 = 0) ORDER BY m.id DESC LIMIT $5"
    );
    let user = user.map_or(0, |user| user.0);
    let rows = tx.fetch(&sql, &params![app, i64::from(LOG), before, user, count]).await?;
    rows.iter().map(|row| Ok((File::read(row)?, row.get(19)?, row.get(20)?))).collect()
}

/// Returns a log of an app.
pub(super) async fn log(tx: &mut Tx<'_>, app: AppKey, id: i64) -> Result<Option<File>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM media m WHERE m.id = $1 AND m.app = $2 AND m.kind = $3 AND m.state = 1");
    tx.fetch_one(&sql, &params![id, app, i64::from(LOG)]).await?.as_ref().map(File::read).transpose()
}

/// Returns which of these files are complete. Those without a row are missing.
pub(super) async fn states(tx: &mut Tx<'_>, ids: &[i64]) -> Result<HashMap<i64, bool>, Error> {
    let (list, values) = tx.dialect().in_list(ids.iter().copied(), 1);
    let rows = tx.fetch(&format!("SELECT id, state FROM media WHERE id IN {list}"), &values).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get::<i64>(1)? == 1))).collect()
}

/// Ends an upload; returns false if it is complete or gone.
pub(super) async fn end(tx: &mut Tx<'_>, (id, user): (i64, UserKey), now: i64) -> Result<bool, Error> {
    let sql = "SELECT app, size FROM media WHERE id = $1 AND state = 0";
    let Some(row) = tx.fetch_one(sql, &params![id]).await? else { return Ok(false) };
    media::delete(tx, id, now).await?;
    count(tx, (AppKey(row.get(0)?), user), -counted(row.get(1)?)).await?;
    Ok(true)
}

/// Removes the files of a user that are not needed. Returns when the next one may be due.
pub(super) async fn remove_unused(
    tx: &mut Tx<'_>,
    user: UserKey,
    now: i64,
    settings: &config::Media,
) -> Result<Option<i64>, Error> {
    let (valid, kept) = (i64::from(settings.upload_valid_s) * 1_000, i64::from(settings.unused_kept_s) * 1_000);
    let logs_kept = i64::from(settings.logs_kept_days) * DAY_MS;
    let unused = "NOT EXISTS (SELECT 1 FROM media_ref r WHERE r.media = m.id)";
    let sql = format!(
        "SELECT m.id FROM media m WHERE m.account = $1 AND ((m.state = 0 AND m.created_at <= $2) OR \
         (m.state = 1 AND ((m.kind = {LOG} AND m.unused_since <= $5) OR (m.kind <> {LOG} AND m.unused_since <= $3)))) \
         AND {unused} ORDER BY m.id LIMIT $4"
    );
    let due = tx.fetch(&sql, &params![user, now - valid, now - kept, PAGE, now - logs_kept]).await?;
    let is_page = i64::try_from(due.len()).is_ok_and(|count| count >= PAGE);
    for row in due {
        let id: i64 = row.get(0)?;
        // Whoever sends it now holds the lock, and has added a message by then.
        let sql = format!("SELECT app, size FROM media WHERE id = $1{}", tx.dialect().for_update());
        let Some(row) = tx.fetch_one(&sql, &params![id]).await? else { continue };
        if tx.fetch_one("SELECT 1 FROM media_ref WHERE media = $1 LIMIT 1", &params![id]).await?.is_some() {
            continue;
        }
        media::delete(tx, id, now).await?;
        count(tx, (AppKey(row.get(0)?), user), -counted(row.get(1)?)).await?;
    }
    if is_page {
        return Ok(Some(now));
    }
    let sql = format!(
        "SELECT CAST(MIN(CASE WHEN m.state = 0 THEN m.created_at + $2 WHEN m.kind = {LOG} THEN m.unused_since + $4 \
         ELSE m.unused_since + $3 END) AS BIGINT) FROM media m WHERE m.account = $1 AND {unused}"
    );
    let next = tx.fetch_one(&sql, &params![user, valid, kept, logs_kept]).await?;
    Ok(next.map_or(Ok(None), |row| row.get::<Option<i64>>(0))?)
}

/// Removes the files of a user that have been kept for long enough since they were announced or sent last, whatever messages
/// have them. Returns when the next one is due.
pub(super) async fn remove_expired(
    tx: &mut Tx<'_>,
    user: UserKey,
    now: i64,
    settings: &config::Media,
) -> Result<Option<i64>, Error> {
    if settings.kept_days == 0 {
        return Ok(None);
    }
    let kept = i64::from(settings.kept_days) * DAY_MS;
    let sql = "SELECT id FROM media WHERE account = $1 AND created_at <= $2 ORDER BY id LIMIT $3";
    let due = tx.fetch(sql, &params![user, now - kept, PAGE]).await?;
    for row in &due {
        let id: i64 = row.get(0)?;
        // Whoever sends it now holds the lock, and has added a message by then.
        let sql = format!("SELECT id, app, size FROM media WHERE id = $1{}", tx.dialect().for_update());
        let Some(row) = tx.fetch_one(&sql, &params![id]).await? else { continue };
        let sql = "SELECT CAST(MAX(m.ts) AS BIGINT) FROM media_ref r \
                   JOIN message m ON m.conversation = r.conversation AND m.seq = r.seq WHERE r.media = $1";
        let sent = tx.fetch_one(sql, &params![id]).await?.map_or(Ok(None), |row| row.get::<Option<i64>>(0))?;
        if let Some(sent) = sent.filter(|sent| *sent > now - kept) {
            tx.execute("UPDATE media SET created_at = $2 WHERE id = $1", &params![id, sent]).await?;
            continue;
        }
        tx.execute("DELETE FROM media_ref WHERE media = $1", &params![id]).await?;
        media::delete(tx, id, now).await?;
        count(tx, (AppKey(row.get(1)?), user), -counted(row.get(2)?)).await?;
    }
    let sql = "SELECT CAST(MIN(created_at) AS BIGINT) FROM media WHERE account = $1";
    let oldest = tx.fetch_one(sql, &params![user]).await?.map_or(Ok(None), |row| row.get::<Option<i64>>(0))?;
    Ok(oldest.map(|oldest| (oldest + kept).max(now)))
}
