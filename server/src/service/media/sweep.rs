//! Looks for what is in the store and no row knows: what a killed server has left, or what came from another backup than the database.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::store;
use crate::app::{App, Db};
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::media::{self, Claim, FOLDERS, folder_of};
use crate::task::{self, Delivery, Due, Next, OutboxKind, TaskKind};

const DAY_MS: i64 = 86_400_000;
/// IDs that are looked up at once.
const LOOKED_UP: usize = 512;
/// Files that are removed in one page. In an object store, each takes several requests.
const REMOVED: usize = 50;
/// How long a start waits for the store.
const CLAIM_WITHIN: Duration = Duration::from_secs(2);

/// Begins to look for orphans, once a day. The subject is 0: there is one task of this kind.
pub(crate) static ORPHANS: TaskKind<App> = TaskKind {
    number: 72,
    name: "media-orphans",
    scope: |_| Scope::none(),
    run: |app, tx, _, due| Box::pin(begin(app, tx, due)),
};

/// Looks for orphans and removes them. A store may be slow, so no transaction waits for it.
pub(crate) static ORPHAN_REMOVAL: OutboxKind<App> = OutboxKind {
    number: 72,
    name: "orphan-removal",
    has_lanes: true,
    deliver: |app, delivery| Box::pin(look(app, delivery)),
};

impl App {
    /// Sees to it that orphans are looked for, the first time when they would be old enough since now.
    pub(crate) async fn begin_to_look_for_orphans(&self) -> Result<(), Error> {
        // Before it is used: another deployment may look for orphans there. It is tried again before anything is removed.
        if let Ok(Err(error)) = timeout(CLAIM_WITHIN, self.has_store_alone()).await {
            tracing::debug!(%error, "the name of this deployment is not in the store of the files yet");
        }
        let days = i64::from(self.config.media.orphans_kept_days);
        let now = self.clock.now_ms();
        let begun = self.db.submit(Scope::none(), async move |tx| {
            // The server has not run for a day, or this is the database of an earlier day: then a newer one may still follow, which
            // knows the files.
            forget(tx, now - DAY_MS).await?;
            match days {
                0 => task::cancel(tx, &ORPHANS, 0).await.map(drop),
                // A restart does not put it off.
                _ => task::schedule_by(tx, &ORPHANS, 0, now + days * DAY_MS).await,
            }
        });
        begun.await
    }

    /// Leaves the name of this deployment in the store. Returns whether its name was there before, and no other one is.
    async fn has_store_alone(&self) -> io::Result<bool> {
        let digest = Sha256::new().chain_update(b"store of files").chain_update(self.secret).finalize();
        let Claim { was_there, others } = self.files.claim(&zim_protocol::id::hex(&digest[..8])).await?;
        if !others.is_empty() {
            tracing::warn!(
                ?others,
                "another deployment has its files in this store too, so what no row knows is not removed; if it has ended, remove its \
                 name from the folder `owners` of the store"
            );
        }
        Ok(was_there && others.is_empty())
    }
}

/// A backup was restored. Orphans are looked for later, because a newer backup may follow, which knows the files.
///
/// # Errors
/// The store fails.
pub(crate) async fn put_off_orphans(db: &Db) -> Result<(), Error> {
    db.submit(Scope::none(), async |tx| forget(tx, i64::MAX).await).await
}

/// Removes what was due before this time.
async fn forget(tx: &mut Tx<'_>, before: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM scheduled_task WHERE kind = $1 AND next_at < $2", &params![ORPHANS.number, before]).await?;
    tx.execute("DELETE FROM outbox WHERE kind = $1 AND next_at < $2", &params![ORPHAN_REMOVAL.number, before]).await?;
    Ok(())
}

async fn begin(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    if app.config.media.orphans_kept_days == 0 {
        return Ok(());
    }
    task::enqueue(tx, &ORPHAN_REMOVAL, (app.ids.next(), 0), due.now).await?;
    task::schedule(tx, &ORPHANS, 0, due.now + DAY_MS).await
}

/// Returns the folder in which a page begins, and the ID after which it does.
fn place_of(cursor: i64) -> (i64, i64) {
    if cursor > 0 { (folder_of(cursor), cursor) } else { (-cursor, 0) }
}

async fn look(app: Arc<App>, delivery: Delivery) -> Result<Next, Error> {
    let (folder, after) = place_of(delivery.cursor);
    let removed = match app.has_store_alone().await {
        Ok(false) => return Ok(Next::Nothing),
        Ok(true) => remove_orphans(&app, folder, after).await?,
        Err(error) => Err(error),
    };
    match removed {
        Ok(Some(last)) => Ok(Next::After(last)),
        Ok(None) if folder + 1 < FOLDERS => Ok(Next::After(-(folder + 1))),
        Ok(None) => Ok(Next::Nothing),
        // The rest is looked at on the next day.
        Err(error) if media::is_away(&error) => Ok(Next::Nothing),
        Err(error) => {
            tracing::warn!(%error, folder, "what is in the store of the files and no row knows cannot be removed");
            Ok(Next::Nothing)
        }
    }
}

/// Removes orphans in a folder of the store, beginning after an ID. Returns the last one if there may be more. The inner result is that of
/// the store.
async fn remove_orphans(app: &App, folder: i64, after: i64) -> Result<io::Result<Option<i64>>, Error> {
    let days = i64::from(app.config.media.orphans_kept_days);
    if days == 0 {
        return Ok(Ok(None));
    }
    // Read before the rows: whoever writes to a file has stored its row.
    let found = match app.files.list(folder, app.clock.now_ms() - days * DAY_MS).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    // Whether there is something that a complete file does not need.
    let mut ids: BTreeMap<i64, bool> = BTreeMap::new();
    for found in found.into_iter().filter(|found| found.id > after) {
        *ids.entry(found.id).or_default() |= found.is_rest;
    }
    let ids: Vec<(i64, bool)> = ids.into_iter().collect();
    let mut removed = 0;
    for ids in ids.chunks(LOOKED_UP) {
        let wanted: Vec<i64> = ids.iter().map(|(id, _)| *id).collect();
        let states = app.db.read(async move |tx| store::states(tx, &wanted).await).await?;
        for (id, has_rest) in ids.iter().copied() {
            let done = match states.get(&id) {
                None => remove_all(app, id).await,
                Some(true) if has_rest => app.files.remove_rest(id).await,
                Some(_) => continue,
            };
            if let Err(error) = done {
                return Ok(Err(error));
            }
            tracing::info!(id, "what is in the store of the files and no row needs was removed");
            removed += 1;
            if removed == REMOVED {
                return Ok(Ok(Some(id)));
            }
        }
    }
    Ok(Ok(None))
}

async fn remove_all(app: &App, id: i64) -> io::Result<()> {
    app.files.remove(id).await?;
    app.files.remove_rest(id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_with_a_folder_or_after_an_id() {
        assert_eq!([0, -1, -255].map(place_of), [(0, 0), (1, 0), (255, 0)]);
        // After the last ID of a page, the same folder goes on.
        assert_eq!([65, 16_320].map(place_of), [(1, 65), (255, 16_320)]);
    }
}
