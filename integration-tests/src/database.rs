//! A fresh database for one test: `ZIM_TEST_DATABASE` says of which kind.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::postgres::Cluster;

/// A test's own database, gone when it is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    _cluster: Option<Cluster>,
}

impl TestDatabase {
    /// Its address, as the server takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// On SQLite a file in `dir`; on PostgreSQL a new database of the server that `with-postgres` started, or of one of its
    /// own if nobody did.
    pub fn fresh(dir: &Path) -> Self {
        let kind = std::env::var("ZIM_TEST_DATABASE").unwrap_or_default();
        match kind.as_str() {
            "" | "sqlite" => {
                let file = dir.join("zim.db");
                Self { url: format!("sqlite://{}", file.display()), _cluster: None }
            }
            "postgres" => {
                static MADE: AtomicU32 = AtomicU32::new(0);
                let cluster = Cluster::start().expect("PostgreSQL");
                let name = format!("zim_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
                let url = cluster.create_database(&name).expect("a database");
                Self { url, _cluster: Some(cluster) }
            }
            other => panic!("ZIM_TEST_DATABASE is {other:?}; it must be sqlite or postgres"),
        }
    }
}
