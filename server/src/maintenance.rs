//! Maintenance commands for a database on which no server runs.

use std::sync::Arc;

use zim_protocol::clock::Clock;

use crate::app::App;
use crate::config::Config;
use crate::db::{Scope, params};
use crate::error::Error;
use crate::folder::Folder;
use crate::server::{StartError, open_app};

/// Gives the deployment a new epoch, after a backup was restored or a replica promoted. The positions that clients have stored
/// become invalid, and all clients synchronize anew.
pub(crate) async fn new_epoch(config: Config, clock: Clock) -> Result<[u8; 16], StartError> {
    config.validate()?;
    let folder = Folder::open(&config)?;
    let app: Arc<App> = open_app(config, clock, &folder).await?;
    let written = write_epoch(&app).await;
    app.db.close().await;
    written.map_err(StartError::Database)
}

async fn write_epoch(app: &App) -> Result<[u8; 16], Error> {
    let mut epoch = [0; 16];
    getrandom::fill(&mut epoch).map_err(Error::internal)?;
    app.db
        .submit(Scope::none(), async move |tx| {
            tx.execute("UPDATE deployment SET epoch = $1 WHERE id = 1", &params![epoch.to_vec()]).await?;
            Ok(epoch)
        })
        .await
}
