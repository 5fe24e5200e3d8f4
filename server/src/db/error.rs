//! What can go wrong between the server and its store, sorted by what a caller does about it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;

type Source = Arc<dyn StdError + Send + Sync>;

/// What a caller needs to know of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DbErrorKind {
    /// A row with this key is there already.
    Unique,
    /// Somebody else holds what was needed.
    Busy,
    /// Another transaction came in between (a deadlock, a serialization failure), or took this one down with it.
    Conflict,
    /// More jobs wait than the queue takes.
    QueueFull,
    /// The database is closed, or being closed.
    Closed,
    /// The time limit passed. If it was a commit, what was asked may be stored.
    Timeout,
    /// The database server is out of reach. If it was a commit, what was asked may be stored.
    Disconnected,
    /// No room on the disk.
    DiskFull,
    /// The database is damaged.
    Corrupt,
    /// A programmer's mistake, or something that nobody handles.
    Other,
}

/// A failure of the store. Cheap to clone: everybody whose job shared a commit gets the same one.
#[derive(Clone)]
pub struct DbError(Arc<Inner>);

struct Inner {
    kind: DbErrorKind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

impl DbError {
    /// An error with a sentence of its own.
    pub fn new(kind: DbErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(super) fn caused_by(
        kind: DbErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: Some(Arc::new(source)) }))
    }

    pub(super) fn other(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(DbErrorKind::Other, message)
    }

    pub(super) fn closed() -> Self {
        Self::new(DbErrorKind::Closed, "the database is closed")
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> DbErrorKind {
        self.0.kind
    }

    /// A row with this key is there already.
    pub fn is_unique_violation(&self) -> bool {
        self.kind() == DbErrorKind::Unique
    }

    /// The disk is full. Reads still work.
    pub fn is_full(&self) -> bool {
        self.kind() == DbErrorKind::DiskFull
    }

    /// The database is closed: the server stops.
    pub fn is_closed(&self) -> bool {
        self.kind() == DbErrorKind::Closed
    }

    /// It may go better if it is tried again, here or at another server.
    pub fn is_unavailable(&self) -> bool {
        use DbErrorKind::{Busy, Closed, Conflict, Disconnected, QueueFull, Timeout};
        matches!(self.kind(), Busy | Conflict | QueueFull | Closed | Timeout | Disconnected)
    }

    /// Neighbours in the batch, and the halves of a batch, meet the same failure.
    pub(super) fn affects_all_jobs(&self) -> bool {
        use DbErrorKind::{Closed, Corrupt, Disconnected, DiskFull};
        matches!(self.kind(), DiskFull | Corrupt | Disconnected | Closed)
    }
}

/// The beginning of a statement: those of many rows are long.
pub(super) fn excerpt(sql: &str) -> &str {
    &sql[..sql.floor_char_boundary(160)]
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DbError");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for DbError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Names a violated uniqueness at the statement that met it.
pub trait OnUnique<T> {
    /// `error` if a row with this key is there already; any other failure stays what it is.
    ///
    /// # Errors
    /// The statement's failure.
    fn on_unique(self, error: impl FnOnce() -> Error) -> Result<T, Error>;
}

impl<T> OnUnique<T> for Result<T, DbError> {
    fn on_unique(self, error: impl FnOnce() -> Error) -> Result<T, Error> {
        self.map_err(|failure| if failure.is_unique_violation() { error() } else { failure.into() })
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        if error.is_full() {
            Self::storage_full(error)
        } else if error.is_unavailable() {
            Self::storage_unavailable(error)
        } else if error.is_closed() {
            Self::shutting_down()
        } else {
            Self::internal(error)
        }
    }
}
