//! Looks for what is in the store and no row knows: what a killed server has left, or what came from another backup than the database.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::store;
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::media::{FOLDERS, Found};
use crate::task::{self, Delivery, Due, Next, OutboxKind, TaskKind};

const DAY_MS: i64 = 86_400_000;
/// Folders of the store that are looked at in one page.
const PAGE: i64 = 4;
/// IDs that are looked up at once.
const LOOKED_UP: usize = 512;

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
        let days = i64::from(self.config.media.orphans_kept_days);
        let at = self.clock.now_ms() + days * DAY_MS;
        let begun = self.db.submit(Scope::none(), async move |tx| match days {
            0 => task::cancel(tx, &ORPHANS, 0).await.map(drop),
            // A restart does not put it off.
            _ => task::schedule_by(tx, &ORPHANS, 0, at).await,
        });
        begun.await
    }
}

async fn begin(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    if app.config.media.orphans_kept_days == 0 {
        return Ok(());
    }
    task::enqueue(tx, &ORPHAN_REMOVAL, (app.ids.next(), 0), due.now).await?;
    task::schedule(tx, &ORPHANS, 0, due.now + DAY_MS).await
}

async fn look(app: Arc<App>, delivery: Delivery) -> Result<Next, Error> {
    let end = (delivery.cursor + PAGE).min(FOLDERS);
    for folder in delivery.cursor..end {
        if let Err(error) = remove_orphans(&app, folder).await? {
            // The rest is looked at on the next day.
            tracing::debug!(%error, folder, "no orphans can be looked for");
            return Ok(Next::Nothing);
        }
    }
    Ok(if end == FOLDERS { Next::Nothing } else { Next::After(end) })
}

/// Removes the orphans in a folder of the store. The inner result is that of the store.
async fn remove_orphans(app: &App, folder: i64) -> Result<io::Result<()>, Error> {
    let days = i64::from(app.config.media.orphans_kept_days);
    let before = app.clock.now_ms() - days * DAY_MS;
    let mut found = match app.files.list(folder).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    found.retain(|found| days > 0 && found.written_at <= before);
    let ids: HashSet<i64> = found.iter().map(|found| found.id).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let mut states = HashMap::new();
    for ids in ids.chunks(LOOKED_UP) {
        let ids = ids.to_vec();
        states.extend(app.db.read(async move |tx| store::states(tx, &ids).await).await?);
    }
    for Found { id, is_rest, .. } in found {
        let is_complete = states.get(&id).copied();
        let removed = match is_complete {
            None => remove_all(app, id).await,
            Some(true) if is_rest => app.files.remove_rest(id).await,
            Some(_) => continue,
        };
        if let Err(error) = removed {
            return Ok(Err(error));
        }
        tracing::info!(id, is_rest, "what is in the store of the files and no row needs was removed");
    }
    Ok(Ok(()))
}

async fn remove_all(app: &App, id: i64) -> io::Result<()> {
    app.files.remove(id).await?;
    app.files.remove_rest(id).await
}
