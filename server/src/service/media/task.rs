//! What removes files.

use std::io;

use super::store;
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::key::UserKey;
use crate::media::REMOVAL;
use crate::task::{self, Due, Next, OutboxKind, TaskKind};

/// How long a removal waits for an object store that is away.
const AWAY_MS: i64 = 60_000;

/// Removes uploads that were not completed, and files that no message has; the subject is the user.
pub(crate) static MEDIA_UNUSED: TaskKind<App> = TaskKind {
    number: 70,
    name: "media-unused",
    scope: |subject| Scope::user(UserKey(subject)),
    run: |app, tx, _, due| Box::pin(remove_unused(app, tx, due)),
};

/// Removes files that have been kept for as long as the settings say; the subject is the user.
pub(crate) static MEDIA_EXPIRED: TaskKind<App> = TaskKind {
    number: 71,
    name: "media-expired",
    scope: |subject| Scope::user(UserKey(subject)),
    run: |app, tx, _, due| Box::pin(remove_expired(app, tx, due)),
};

/// Removes the file of a row that was deleted; the cause is its ID.
pub(crate) static FILE_REMOVAL: OutboxKind<App> = OutboxKind {
    number: REMOVAL,
    name: "file-removal",
    // An object store may be slow.
    has_lanes: true,
    deliver: |app, delivery| {
        Box::pin(async move {
            let removed = app.files.remove(delivery.cause).await;
            next(&app, removed)
        })
    },
};

/// Removes the pieces of a file that is complete; the cause is its ID.
pub(crate) static PIECE_REMOVAL: OutboxKind<App> = OutboxKind {
    number: 71,
    name: "piece-removal",
    has_lanes: true,
    deliver: |app, delivery| {
        Box::pin(async move {
            let removed = app.files.remove_rest(delivery.cause).await;
            next(&app, removed)
        })
    },
};

/// A store that is away or refuses, for however long, is no fault of what is to be removed: it is tried until it is gone.
fn next(app: &App, removed: io::Result<()>) -> Result<Next, Error> {
    match removed {
        Ok(()) => Ok(Next::Nothing),
        Err(error) => {
            tracing::debug!(%error, "a file cannot be removed yet");
            Ok(Next::At(app.clock.now_ms() + AWAY_MS))
        }
    }
}

async fn remove_unused(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let next = store::remove_unused(tx, UserKey(due.subject), due.now, &app.config.media).await?;
    match next {
        Some(at) => task::schedule_by(tx, &MEDIA_UNUSED, due.subject, at.max(due.now)).await,
        None => Ok(()),
    }
}

async fn remove_expired(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let next = store::remove_expired(tx, UserKey(due.subject), due.now, &app.config.media).await?;
    match next {
        Some(at) => task::schedule_by(tx, &MEDIA_EXPIRED, due.subject, at).await,
        None => Ok(()),
    }
}
