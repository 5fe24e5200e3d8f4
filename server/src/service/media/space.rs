//! How much space files take: those of a user, and those of all users of an app. A file counts from its announcement on.
//!
//! The bytes of a user change under the lock of the user. Those of an app have a row that only announcements change. They lock a name of
//! the app first, before any row, as all jobs lock names, so none of them waits for another crosswise. What removes files does not touch
//! the row: it knows its user alone before it begins, and a lock that it took later could end in a deadlock. So the row says how many bytes
//! there are at most, and if that is too many, those of all users are added up.

use crate::config;
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::key::{AppKey, UserKey};

/// What the smallest file counts for: the space that it takes with its rows.
const LEAST_BYTES: i64 = 4_096;
/// How long the sum over all users counts: a node of the version before adds files that the row of the app does not have.
const COUNTED_FOR_MS: i64 = 3_600_000;
/// The users are not added up again within this time: that takes long for an app that has many, and a full one is asked all the time.
const COUNTED_ONCE_MS: i64 = 1_000;

/// Returns the scope of a job that announces a file.
pub(super) fn announcing(app: AppKey, user: UserKey, settings: &config::Media) -> Scope {
    let scope = Scope::user(user);
    // The files of the app are counted: those who announce one wait for each other. No ID contains a slash.
    if settings.max_app_bytes > 0 { scope.and_name(app, "media/") } else { scope }
}

/// Returns what a file of this size counts for.
pub(super) fn counted(size: i64) -> i64 {
    size.max(LEAST_BYTES)
}

/// Changes the number of bytes of a user, whose lock the job has.
pub(super) async fn count(tx: &mut Tx<'_>, (app, user): (AppKey, UserKey), bytes: i64) -> Result<(), Error> {
    let sql = "INSERT INTO media_usage (app, account, bytes) VALUES ($1, $2, $3) \
               ON CONFLICT (app, account) DO UPDATE SET bytes = media_usage.bytes + excluded.bytes";
    tx.execute(sql, &params![app, user, bytes]).await?;
    Ok(())
}

/// Takes the space of a new file; the job has the scope [`announcing`]. Returns false if the app has not enough. The job succeeds then as
/// well, so that what was added up is kept. `started_at` is when this server started.
///
/// # Errors
/// The user has not enough, or the store fails.
pub(super) async fn take(
    tx: &mut Tx<'_>,
    (app, user): (AppKey, UserKey),
    size: i64,
    (now, started_at): (i64, i64),
    settings: &config::Media,
) -> Result<bool, Error> {
    let bytes = counted(size);
    if settings.max_user_bytes > 0 {
        let sql = "SELECT bytes FROM media_usage WHERE app = $1 AND account = $2";
        let used: i64 = tx.fetch_one(sql, &params![app, user]).await?.map_or(Ok(0), |row| row.get(0))?;
        if !fits(used, bytes, settings.max_user_bytes) {
            return Err(Error::file_quota_used_up("this user"));
        }
    }
    let most = settings.max_app_bytes;
    if most > 0 && !take_of_app(tx, app, (bytes, most), (now, started_at)).await? {
        return Ok(false);
    }
    count(tx, (app, user), bytes).await?;
    Ok(true)
}

fn fits(used: i64, bytes: i64, most: u64) -> bool {
    used.saturating_add(bytes).unsigned_abs() <= most
}

async fn take_of_app(
    tx: &mut Tx<'_>,
    app: AppKey,
    (bytes, most): (i64, u64),
    (now, started_at): (i64, i64),
) -> Result<bool, Error> {
    let row = tx.fetch_one("SELECT bytes, counted_at FROM media_total WHERE app = $1", &params![app]).await?;
    let known = row.map(|row| Ok::<_, Error>((row.get::<i64>(0)?, row.get::<i64>(1)?))).transpose()?;
    let known = known.filter(|(used, counted_at)| {
        let age = (now - counted_at).abs();
        // Before this server started there may have been no limit, and what was announced then is not in the row.
        *counted_at >= started_at && (age < COUNTED_ONCE_MS || (age < COUNTED_FOR_MS && fits(*used, bytes, most)))
    });
    let (used, counted_at) = match known {
        Some(known) => known,
        None => (sum(tx, app).await?, now),
    };
    let is_taken = fits(used, bytes, most);
    let used = if is_taken { used + bytes } else { used };
    let sql = "INSERT INTO media_total (app, bytes, counted_at) VALUES ($1, $2, $3) \
               ON CONFLICT (app) DO UPDATE SET bytes = excluded.bytes, counted_at = excluded.counted_at";
    tx.execute(sql, &params![app, used, counted_at]).await?;
    Ok(is_taken)
}

/// Adds up the bytes of all users of an app.
async fn sum(tx: &mut Tx<'_>, app: AppKey) -> Result<i64, Error> {
    let sql = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM media_usage WHERE app = $1";
    let row = tx.fetch_one(sql, &params![app]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}
