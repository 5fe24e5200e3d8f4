//! A fresh database for one test. `ZIM_TEST_DATABASE` selects SQLite or PostgreSQL, and `ZIM_TEST_NODES` how many servers share it.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::nats::Nats;
use crate::postgres::Cluster;

/// The variable that names a database with the schema of this build and no rows, for copies: a copy takes less time than all
/// migrations. `with-postgres` makes it.
pub const TEMPLATE: &str = "ZIM_TEST_TEMPLATE";

/// A database of one test, removed on drop.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    _cluster: Option<Cluster>,
    /// The bus of several nodes.
    nats: Option<Nats>,
}

impl TestDatabase {
    /// Returns its address as the server takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the address of the bus, if several servers share the database.
    pub fn bus(&self) -> Option<&str> {
        self.nats.as_ref().map(Nats::url)
    }

    /// Creates a database without rows: on SQLite a file in `dir`; on PostgreSQL a new database of the server that
    /// `with-postgres` started, a copy of its template, or an empty database of a private server if there is none.
    pub fn fresh(dir: &Path) -> Self {
        if is_postgres() {
            let template = std::env::var(TEMPLATE).ok();
            let (cluster, url) = new_database(template.as_deref());
            return Self { url, _cluster: Some(cluster), nats: bus() };
        }
        // The server refuses a database in a folder that others can write to, whatever the umask is.
        let folder = dir.join("database");
        zim_files::create_folder(&folder).expect("a folder");
        Self::of_file(&folder.join("zim.db"))
    }

    /// Opens what an earlier build wrote: on SQLite the file itself; on PostgreSQL a new database into which the dump
    /// is loaded.
    pub fn of_fixture(file: &Path, dump: &Path) -> Self {
        if is_postgres() {
            let (cluster, url) = new_database(None);
            cluster.load(&url, dump).expect("a dump");
            return Self { url, _cluster: Some(cluster), nats: bus() };
        }
        assert!(file.exists(), "{} is missing", file.display());
        Self::of_file(file)
    }

    fn of_file(file: &Path) -> Self {
        Self { url: format!("sqlite://{}", file.display()), _cluster: None, nats: None }
    }
}

/// Whether this run uses PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    match std::env::var("ZIM_TEST_DATABASE").unwrap_or_default().as_str() {
        "" | "sqlite" => false,
        "postgres" => true,
        other => panic!("ZIM_TEST_DATABASE is {other:?}; it must be sqlite or postgres"),
    }
}

/// Returns the number of servers that share the database of a test.
pub(crate) fn nodes() -> usize {
    match std::env::var("ZIM_TEST_NODES").unwrap_or_default().as_str() {
        "" | "1" => 1,
        "2" if is_postgres() => 2,
        other => panic!("ZIM_TEST_NODES is {other:?}; it must be 1, or 2 with ZIM_TEST_DATABASE=postgres"),
    }
}

fn bus() -> Option<Nats> {
    (nodes() > 1).then(|| Nats::start().expect("NATS"))
}

fn new_database(template: Option<&str>) -> (Cluster, String) {
    static CREATED: AtomicU32 = AtomicU32::new(0);
    let cluster = Cluster::start().expect("PostgreSQL");
    let name = format!("zim_{}_{}", std::process::id(), CREATED.fetch_add(1, Ordering::Relaxed));
    let created = match template {
        Some(template) => cluster.create_copy(&name, template),
        None => cluster.create_database(&name),
    };
    (cluster, created.expect("a database"))
}
