//! Commands that need no running server.

use std::path::Path;
use std::sync::Arc;

use zim_protocol::clock::Clock;

use crate::app::{App, Db};
use crate::config::{AdminListen, BusUrl, Config, ConfigError, DatabaseUrl};
use crate::db::{Database, DbConfig, Scope, params};
use crate::error::Error;
use crate::folder::Folder;
use crate::media::Credentials;
use crate::server::{SQLITE_FILE, StartError, open_app};
use crate::service::{self, media::put_off_orphans};
use crate::tls::Identity;
use crate::transfer;

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
    if let Some(file) = config.media.store.bucket().and_then(|bucket| bucket.credentials) {
        wrong.extend(Credentials::read(file).err());
    }
    let program = &config.media.video_frame_program;
    if !program.as_os_str().is_empty() && !program.is_file() {
        wrong.push(format!("media.video_frame_program is {}, which is not a program", program.display()));
    }
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
    let written = async {
        put_off_orphans(&app.db).await?;
        write_epoch(&app.db).await
    };
    let written = written.await;
    app.db.close().await;
    written.map_err(StartError::Database)
}

async fn write_epoch(db: &Db) -> Result<[u8; 16], Error> {
    let mut epoch = [0; 16];
    getrandom::fill(&mut epoch).map_err(Error::internal)?;
    let written = db.submit(Scope::none(), async move |tx| {
        tx.execute("UPDATE deployment SET epoch = $1 WHERE id = 1", &params![epoch.to_vec()]).await?;
        Ok(epoch)
    });
    written.await
}

/// Copies an SQLite database, by default that of the data folder, to an empty PostgreSQL database, and compares both. The copy gets an
/// epoch of its own, because the original may be written to again. Returns the number of rows.
pub(crate) async fn migrate(config: Config, from: Option<String>, to: Option<String>) -> Result<u64, StartError> {
    config.validate()?;
    // No server runs on the data folder meanwhile.
    let folder = Folder::open(&config)?;
    let from = from.map_or_else(|| DatabaseUrl::sqlite_file(&folder.file(SQLITE_FILE)), DatabaseUrl::from);
    let to = DatabaseUrl::from(to.unwrap_or_default());
    let mut wrong = Vec::new();
    match from.sqlite() {
        Some(file) if !file.is_file() => wrong.push(format!("--from is {from}; there is no such file")),
        Some(_) => {}
        None => wrong.push(format!("--from is {from}; it must be sqlite://FILE")),
    }
    if to.postgres().is_none() {
        wrong.push(format!("--to is {to}; it must be postgres://USER@HOST/NAME"));
    }
    let (Some(file), Some(url), true) = (from.sqlite(), to.postgres(), wrong.is_empty()) else {
        return Err(ConfigError::Invalid(wrong).into());
    };
    let open = async |database| Db::open(DbConfig::new(database), |_| {}).await.map_err(Error::from);
    let from: Db = open(Database::Sqlite(file.to_owned())).await.map_err(StartError::Database)?;
    let opened = open(Database::Postgres(url.to_owned())).await;
    let copied = match &opened {
        Ok(to) => copy(&from, to).await,
        Err(_) => Ok(0),
    };
    from.close().await;
    let to: Db = opened.map_err(StartError::Database)?;
    to.close().await;
    copied.map_err(StartError::Copy)
}

async fn copy(from: &Db, to: &Db) -> Result<u64, Error> {
    transfer::begin(to).await?;
    let (tables, mut rows) = (transfer::tables(from).await?, 0);
    for table in &tables {
        let copied = transfer::copy(from, to, table).await?;
        tracing::info!(table = table.name(), rows = copied, "copied");
    }
    for table in &tables {
        rows += transfer::verify(from, to, table).await?.unsigned_abs();
    }
    write_epoch(to).await?;
    transfer::finish(to).await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Tx;
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

    /// Returns when orphans are looked for, and how many searches are under way.
    async fn searches(db: &Db) -> (Vec<i64>, usize) {
        let read = db.read(async |tx: &mut Tx<'_>| {
            let due = tx.fetch("SELECT next_at FROM scheduled_task WHERE kind = 72", &[]).await?;
            let under_way = tx.fetch("SELECT id FROM outbox WHERE kind = 72", &[]).await?.len();
            let due = due.iter().map(|row| row.get::<i64>(0)).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Error>((due, under_way))
        });
        read.await.unwrap()
    }

    /// A newer backup may follow, which knows the files that this one does not know.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backup_that_was_restored_removes_no_files_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::local(dir.path().join("data"));
        let start_and_stop = async || assert_eq!(Server::start(config.clone()).await.unwrap().stop().await, 0);
        let open = async || {
            let database = Database::Sqlite(config.data_dir.join(SQLITE_FILE));
            let db: Db = Db::open(DbConfig::new(database), |_| {}).await.unwrap();
            db
        };
        // As a database of long ago, whose search was under way.
        let make_old = async || {
            let db = open().await;
            let made = db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
                tx.execute("UPDATE scheduled_task SET next_at = 1 WHERE kind = 72", &[]).await?;
                let sql = "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error) \
                           VALUES (1, 72, 0, 0, 1, 0, '')";
                tx.execute(sql, &[]).await?;
                Ok::<_, Error>(())
            });
            made.await.unwrap();
            assert_eq!(searches(&db).await, (vec![1], 1));
            db.close().await;
        };
        start_and_stop().await;
        make_old().await;
        start_and_stop().await;
        let db = open().await;
        let (due, under_way) = searches(&db).await;
        let days = (due[0] - Clock::system().now_ms()) / 86_400_000;
        assert!(due.len() == 1 && under_way == 0 && (5..=7).contains(&days), "{due:?}, {under_way} under way");
        db.close().await;
        make_old().await;
        new_epoch(config.clone(), Clock::system()).await.unwrap();
        let db = open().await;
        assert_eq!(searches(&db).await, (Vec::new(), 0));
        db.close().await;
    }

    /// Adds rows of several kinds.
    async fn fill(server: &Server) {
        let app = server.app();
        let tenant = app.tenants.get(server.first_app().app_id).unwrap();
        for number in 0..50 {
            assert!(app.register_user(&tenant, format!("user{number}"), "Bü\u{df}er".to_owned()).await.unwrap());
        }
        app.ban_user(&tenant, "user3", 0).await.unwrap();
        app.create_app(77, "shop").await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deployment_moves_from_sqlite_to_postgresql() {
        let cluster = Cluster::start().unwrap();
        let url = cluster.create_database("moved").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Config::local(dir.path().join("data"));
        let server = Server::start(config.clone()).await.unwrap();
        fill(&server).await;
        let (credentials, epoch) = (server.first_app().clone(), server.app().epoch);
        let wanted = migrate(config.clone(), None, Some(url.clone())).await.unwrap_err().to_string();
        assert!(wanted.contains("data folder"), "a server runs: {wanted}");
        assert_eq!(server.stop().await, 0);

        // The first attempt ends after some tables.
        let from: Db =
            Db::open(DbConfig::new(Database::Sqlite(config.data_dir.join(SQLITE_FILE))), |_| {}).await.unwrap();
        let to: Db = Db::open(DbConfig::new(Database::Postgres(url.clone())), |_| {}).await.unwrap();
        transfer::begin(&to).await.unwrap();
        for table in &transfer::tables(&from).await.unwrap()[..3] {
            transfer::copy(&from, &to, table).await.unwrap();
        }
        from.close().await;
        to.close().await;

        // The database of the data folder, which is the default, by its name.
        let named = format!("sqlite://{}", config.data_dir.join(SQLITE_FILE).display());
        let rows = migrate(config.clone(), Some(named), Some(url.clone())).await.unwrap();
        assert!(rows > 53, "{rows}");
        let moved = Config { database: url.parse().unwrap(), ..config.clone() };
        let server = Server::start(moved).await.unwrap();
        assert_eq!(server.first_app(), &credentials);
        assert_ne!(server.app().epoch, epoch);
        let tenant = server.app().tenants.get(credentials.app_id).unwrap();
        assert_eq!(server.app().banned_users(&tenant, 0, 0).await.unwrap().users.len(), 1);
        assert_eq!(server.app().user_access(&tenant, "user49").await.unwrap().user_name, "Bü\u{df}er");
        assert!(server.app().tenants.get(77).is_some());
        assert_eq!(server.stop().await, 0);

        let again = migrate(config.clone(), None, Some(url)).await.unwrap_err().to_string();
        assert!(again.contains("that of a deployment already"), "{again}");
        for (from, to, problem) in [
            (None, None, "--to is ; it must be postgres://"),
            (Some("postgres://db/zim"), Some("postgres://db/zim"), "it must be sqlite://FILE"),
            (Some("sqlite://none.db"), Some("postgres://db/zim"), "there is no such file"),
        ] {
            let message =
                migrate(config.clone(), from.map(str::to_owned), to.map(str::to_owned)).await.unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_on_postgresql_that_differs_is_noticed() {
        let cluster = Cluster::start().unwrap();
        let url = cluster.create_database("differs").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Config::local(dir.path().join("data"));
        let server = Server::start(config.clone()).await.unwrap();
        fill(&server).await;
        assert_eq!(server.stop().await, 0);
        let file = config.data_dir.join(SQLITE_FILE);
        let from: Db = Db::open(DbConfig::new(Database::Sqlite(file)), |_| {}).await.unwrap();
        let to: Db = Db::open(DbConfig::new(Database::Postgres(url.clone())), |_| {}).await.unwrap();
        transfer::begin(&to).await.unwrap();
        for table in &transfer::tables(&from).await.unwrap() {
            transfer::copy(&from, &to, table).await.unwrap();
            transfer::verify(&from, &to, table).await.unwrap();
        }
        cluster.sql_in(&url, "UPDATE account SET user_name = 'x' WHERE name = 'user7'").unwrap();
        let message = format!("{:?}", copy(&from, &to).await.unwrap_err());
        assert!(message.contains("the copy of the table account differs"), "{message}");
        from.close().await;
        to.close().await;
    }
}
