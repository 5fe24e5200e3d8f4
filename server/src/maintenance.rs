//! Commands that need no running server.

use std::path::Path;
use std::sync::Arc;

use zim_protocol::clock::Clock;

use crate::app::App;
use crate::config::{AdminListen, BusUrl, Config, ConfigError};
use crate::db::{Scope, params};
use crate::error::Error;
use crate::folder::Folder;
use crate::server::{StartError, open_app};
use crate::service;
use crate::tls::Identity;

/// Checks the files and folders that the settings name, and creates none. The server makes its data folder and what is in it,
/// so they may be missing.
pub(crate) fn check_files(config: &Config) -> Result<(), ConfigError> {
    let mut wrong = Vec::new();
    if config.data_dir.exists() && !config.data_dir.is_dir() {
        wrong.push(format!("data_dir is {}, which is not a folder", config.data_dir.display()));
    }
    if let Err(error) = Identity::check(config) {
        wrong.push(format!("tls.cert and tls.key: {error}"));
    }
    if let Some(file) = config.database.sqlite() {
        wrong.extend(without_folder("database", file));
        if file.is_dir() {
            wrong.push(format!("database is {}, which is a folder; name a file in it", file.display()));
        }
    }
    wrong.extend(config.database.files().filter_map(|(name, file)| {
        let error = std::fs::File::open(file).err()?;
        Some(format!("database: {name} is {file}, which cannot be read: {error}"))
    }));
    wrong.extend(config.bus.files().filter_map(|(name, file)| {
        let error = std::fs::File::open(file).err()?;
        Some(format!("bus: {name} is {file}, which cannot be read: {error}"))
    }));
    if let AdminListen::Unix(socket) = &config.admin {
        wrong.extend(without_folder("admin", socket));
    }
    if wrong.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(wrong)) }
}

/// Reports a file that cannot be created because there is no folder for it.
fn without_folder(setting: &str, file: &Path) -> Option<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    (!folder.is_dir())
        .then(|| format!("{setting} is {}, but there is no folder {}; create it", file.display(), folder.display()))
}

/// Gives the deployment a new epoch, after a backup was restored or a replica promoted. The positions that clients have stored
/// become invalid, and all clients synchronize anew.
pub(crate) async fn new_epoch(mut config: Config, clock: Clock) -> Result<[u8; 16], StartError> {
    config.validate()?;
    // No node may run meanwhile.
    config.bus = BusUrl::default();
    let folder = Folder::open(&config)?;
    let app: Arc<App> = open_app(config, clock, &folder, service::kinds()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::tests::postgres::Cluster;
    use crate::server::Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_else_starts_on_the_postgresql_database_of_a_running_server() {
        let cluster = Cluster::start().unwrap();
        let url = cluster.create_database("owned").unwrap();
        let dir = tempfile::tempdir().unwrap();
        // Each has a data folder of its own.
        let config = |name: &str| Config { database: url.parse().unwrap(), ..Config::local(dir.path().join(name)) };
        let server = Server::start(config("first")).await.unwrap();
        let (second, epoch) =
            tokio::join!(Server::start(config("second")), new_epoch(config("third"), Clock::system()));
        for error in [second.map(drop).unwrap_err(), epoch.map(drop).unwrap_err()] {
            let message = error.to_string();
            assert!(message.contains("another server uses this PostgreSQL database (from "), "{message}");
            assert!(message.contains("stop it, or give this server a database of its own"), "{message}");
        }
        assert_eq!(server.stop().await, 0);
        let written = new_epoch(config("third"), Clock::system()).await.unwrap();
        let server = Server::start(config("second")).await.unwrap();
        assert_eq!(server.app().epoch, written);
        assert_eq!(server.stop().await, 0);
    }
}
