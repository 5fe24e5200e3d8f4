//! What removes files.

use super::store;
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::key::UserKey;
use crate::media::REMOVAL;
use crate::task::{self, Due, Next, OutboxKind, TaskKind};

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
    has_lanes: false,
    deliver: |app, delivery| {
        Box::pin(async move {
            app.files.remove(delivery.cause).await.map_err(Error::file_store_failed)?;
            Ok(Next::Nothing)
        })
    },
};

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
